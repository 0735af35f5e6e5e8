"""What is observed of one Advanced StatefulSet: its pods and claims by ordinal, and the ordered sets that a plan asks.

Purpose: a pod event costs the same with 10 and with 10,000 pods. The view is told what changed, judges that one
ordinal again, and moves it between a few sorted sets; the planner asks only these (performance 4.4).

Guarantees:

* What a view says depends on the present set, pods, claims and time only, never on the order of events: one that was
  told every change equals one that is built from scratch (a property test; :meth:`difference` is the self-check).
* Every ordinal counts, missing ones too (X1). A pod that cannot be decoded holds its ordinal and is down (rule 16).
* Time is told by :meth:`advance`; what only time changes waits in one heap.

What this does not do: it decides nothing and writes nothing. Which pods belong to the set is ``claiming``'s word: the
view is told claimed pods only.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from kruise.apis.core import Claim, Pod, StorageClass
from kruise.apis.ordinals import NO_MEMBER, parse_member
from kruise.apis.statefulset import StatefulSet
from kruise.controllers.common.revisions import Chosen
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.claims import NO_CLAIMS, PodClaims, pod_claims
from kruise.controllers.statefulset.frame import Frame, make_frame
from kruise.controllers.statefulset.order import Rank
from kruise.controllers.statefulset.ordinalset import OrdinalSet
from kruise.controllers.statefulset.predicates import revision_of
from kruise.controllers.statefulset.settings import DEFAULT_SETTINGS, Settings
from kruise.controllers.statefulset.slots import Slot
from kruise.runtime.objects import EMPTY_MAP, Key, Unreadable

__all__ = ["View"]


class View:
    """The observed state of one set. Tell it every change; ask ``plan`` with it."""

    def __init__(self, sts: StatefulSet, chosen: Chosen, settings: Settings = DEFAULT_SETTINGS) -> None:
        """Begin with no pods."""
        self.frame: Frame = make_frame(sts, chosen, settings)
        self.classes: Mapping[str, StorageClass] = EMPTY_MAP
        self.now = -math.inf
        """The latest wall time that the view was told."""
        self._slots: dict[int, Slot] = {}
        self._claims: dict[str, Claim | Unreadable] = {}
        self._labels: Counter[str] = Counter()
        self._timers: list[tuple[float, int]] = []
        self._build()

    @classmethod
    def of(
        cls,
        sts: StatefulSet,
        chosen: Chosen,
        pods: Iterable[Pod | Unreadable],
        claims: Iterable[Claim | Unreadable] = (),
        classes: Mapping[str, StorageClass] | None = None,
        *,
        settings: Settings = DEFAULT_SETTINGS,
    ) -> View:
        """Build a view from scratch; *pods* are the claimed ones."""
        view = cls(sts, chosen, settings)
        view.set_storage_classes(classes or EMPTY_MAP)
        for claim in claims:
            view.set_claim(claim.key, claim)
        for pod in pods:
            view.set_pod(pod.key, pod)
        return view

    # What a plan asks.

    @property
    def sts(self) -> StatefulSet:
        """The set, as it is stored."""
        return self.frame.sts

    def count(self, mark: int) -> int:
        """Return how many pods bear *mark*, one of those in ``slots``."""
        return self._counts[mark]

    def ordinals(self, mark: int) -> OrdinalSet:
        """Return the ordinals that bear *mark*, one of ``ORDERED_MARKS``."""
        return self._sets[mark]

    @property
    def missing(self) -> OrdinalSet:
        """The ordinals of the range that have no pod."""
        return self._missing

    @property
    def down(self) -> int:
        """How many ordinals of the range are down: missing, or with a pod of the unavailable set."""
        return len(self._missing) + self._counts[m.DOWN]

    def slot(self, ordinal: int) -> Slot:
        """Return the pod of *ordinal*. Raises KeyError when it has none."""
        return self._slots[ordinal]

    def get(self, ordinal: int) -> Slot | None:
        """Return the pod of *ordinal*, if it has one."""
        return self._slots.get(ordinal)

    def named(self, name: str) -> Slot | None:
        """Return the pod of this name, if it is one of the set's."""
        return self._slots.get(parse_member(name, self.sts.metadata.name))

    def slots(self) -> Iterator[Slot]:
        """Yield every pod by ordinal: a walk over the whole set, for whoever asks for all."""
        for ordinal in sorted(self._slots):
            yield self._slots[ordinal]

    def by_rank(self) -> list[tuple[Rank, int]]:
        """Return the pods that an unordered update has yet to reach, in its order; not to be changed."""
        return self._ranked

    def claims_of(self, ordinal: int) -> PodClaims:
        """Return the claims of *ordinal*, whether it has a pod or not."""
        slot = self._slots.get(ordinal)
        return slot.claims if slot is not None else self._find_claims(ordinal)

    def claim_totals(self) -> list[tuple[int, int]]:
        """Return for each claim template how many ordinals have one that fits, and one that fits and is ready."""
        return list(zip(self._fitting, self._fitting_ready, strict=True))

    def live_revisions(self) -> frozenset[str]:
        """Return the names of the revisions that must be kept: current, update, and those of all pods."""
        named = (name for name, count in self._labels.items() if count > 0)
        return frozenset({self.frame.current_name, self.frame.update_name, *named})

    def next_time(self) -> float | None:
        """Return the wall time at which time alone changes something."""
        while self._timers:
            due, ordinal = self._timers[0]
            slot = self._slots.get(ordinal)
            if slot is not None and due in (slot.ripe_at, slot.look_at):
                return due
            heapq.heappop(self._timers)
        return None

    # What a view is told.

    def set_sts(self, sts: StatefulSet, chosen: Chosen) -> None:
        """Take the present set and its revisions, after those that ``chosen.writes`` asks for were written.

        Only a change of the spec or of a revision's name costs a look at every pod; a new status costs nothing.
        """
        old = self.frame
        same = (
            old.sts.uid == sts.uid
            and (old.sts is sts or old.sts.spec == sts.spec)
            and old.current_name == chosen.current.name
            and old.update_name == chosen.update.name
            and old.chosen.update.data == chosen.update.data
        )
        if same:
            self.frame = replace(old, sts=sts, chosen=chosen)
            return
        self.frame = make_frame(sts, chosen, old.settings)
        self._build()

    def set_pod(self, key: Key, pod: Pod | Unreadable | None) -> None:
        """Take the present version of a pod that is claimed; ``None``: it is gone, or no pod of this set any more."""
        ordinal = self._ordinal(key)
        if ordinal == NO_MEMBER:
            return
        slot = self._slots.get(ordinal)
        if pod is None:
            if slot is not None:
                self._leave(slot)
                del self._slots[ordinal]
                if ordinal in self.frame.ordinals:
                    self._missing.add(ordinal)
                    self._add_claims(self._find_claims(ordinal).counts, 1)
            return
        if slot is None:
            if ordinal in self.frame.ordinals:
                self._missing.discard(ordinal)
                self._add_claims(self._find_claims(ordinal).counts, -1)
            slot = self._slots[ordinal] = Slot(ordinal, pod, self._find_claims(ordinal))
        elif slot.pod is pod:
            return
        slot.pod = pod
        slot.look, slot.look_at = True, None
        self._enter(slot)

    def set_claim(self, key: Key, claim: Claim | Unreadable | None) -> None:
        """Take the present version of any claim of the namespace; those that no ordinal could have are ignored."""
        ordinal = self._claim_ordinal(key)
        if ordinal == NO_MEMBER:
            return
        slot = self._slots.get(ordinal)
        counts = slot is None and ordinal in self.frame.ordinals
        if counts:
            self._add_claims(self._find_claims(ordinal).counts, -1)
        if claim is None:
            self._claims.pop(key.name, None)
        else:
            self._claims[key.name] = claim
        if counts:
            self._add_claims(self._find_claims(ordinal).counts, 1)
        if slot is not None:
            slot.claims = self._find_claims(ordinal)
            self._enter(slot)

    def set_storage_classes(self, classes: Mapping[str, StorageClass]) -> None:
        """Take the storage classes of the cluster, by name."""
        self.classes = classes

    def advance(self, now: float) -> None:
        """Take the wall time *now*: pods ripen, and waits end. A clock that went back changes nothing."""
        if now <= self.now:
            return
        self.now = now
        while self._timers and self._timers[0][0] <= now:
            due, ordinal = heapq.heappop(self._timers)
            slot = self._slots.get(ordinal)
            if slot is None:
                continue
            if slot.ripe_at == due:
                slot.ripe, slot.ripe_at = True, None
            if slot.look_at == due:
                slot.look, slot.look_at = True, None
            self._mark(slot, m.judge(self.frame, slot))

    def looked(self, slot: Slot, until: float | None) -> None:
        """Note that the refresh of *slot* has nothing to write before wall time *until*, or its next change."""
        slot.look, slot.look_at = False, until
        if until is not None:
            heapq.heappush(self._timers, (until, slot.ordinal))
        self._mark(slot, slot.marks & ~m.REFRESH)

    def difference(self, other: View, now: float) -> str:
        """Return what differs between two views of one state, ``""`` when nothing does: the self-check."""
        self.advance(now)
        other.advance(now)
        if self._missing != other._missing:
            return f"missing: {self._missing} against {other._missing}"
        if self._slots.keys() != other._slots.keys():
            return f"pods: {sorted(self._slots)} against {sorted(other._slots)}"
        for ordinal, slot in self._slots.items():
            odd = (slot.marks ^ other._slots[ordinal].marks) & ~m.REFRESH
            if odd:
                return f"pod {slot.name}: {m.names(odd)}"
        for name in ("_ranked", "_fitting", "_fitting_ready"):
            if getattr(self, name) != getattr(other, name):
                return f"{name}: {getattr(self, name)} against {getattr(other, name)}"
        for mark in m.MARKS:
            if mark != m.REFRESH and self._counts[mark] != other._counts[mark]:
                return f"count of {m.names(mark)}: {self._counts[mark]} against {other._counts[mark]}"
        for mark in m.ORDERED_MARKS:
            if mark != m.REFRESH and self._sets[mark] != other._sets[mark]:
                return f"order of {m.names(mark)}: {self._sets[mark]} against {other._sets[mark]}"
        return "" if +self._labels == +other._labels else f"labels: {self._labels} against {other._labels}"

    # Inside.

    def _build(self) -> None:
        """Judge every pod again: the set itself changed."""
        frame = self.frame
        self._counts = dict.fromkeys(m.MARKS, 0)
        self._sets = {mark: OrdinalSet() for mark in m.ORDERED_MARKS}
        self._ranked: list[tuple[Rank, int]] = []
        self._timers = []
        self._labels = Counter()
        self._fitting = [0] * len(frame.templates)
        self._fitting_ready = [0] * len(frame.templates)
        self._missing = OrdinalSet(o for o in frame.ordinals.ordinals() if o not in self._slots)
        if frame.templates and self._claims:
            for ordinal in self._missing:
                self._add_claims(self._find_claims(ordinal).counts, 1)
        for ordinal in sorted(self._slots):
            old = self._slots[ordinal]
            slot = self._slots[ordinal] = Slot(ordinal, old.pod, self._find_claims(ordinal))
            self._enter(slot)

    def _ordinal(self, key: Key) -> int:
        meta = self.sts.metadata
        return parse_member(key.name, meta.name) if key.namespace == meta.namespace else NO_MEMBER

    def _claim_ordinal(self, key: Key) -> int:
        """Return the ordinal of a claim ``<template>-<set>-<ordinal>``, whatever its template is."""
        meta = self.sts.metadata
        stem, _, digits = key.name.rpartition("-")
        if key.namespace != meta.namespace or not stem.endswith(f"-{meta.name}"):
            return NO_MEMBER
        return parse_member(f"{meta.name}-{digits}", meta.name)

    def _find_claims(self, ordinal: int) -> PodClaims:
        if not self.frame.templates:
            return NO_CLAIMS
        return pod_claims(self.frame.templates, self.sts.metadata.name, ordinal, self._claims.get)

    def _enter(self, slot: Slot) -> None:
        """Judge *slot* again, and move it to where it belongs now."""
        waits, at = m.ripens(self.frame, slot.pod)
        slot.ripe = not waits or (at is not None and at <= self.now)
        slot.ripe_at = None if slot.ripe else at
        if slot.ripe_at is not None:
            heapq.heappush(self._timers, (slot.ripe_at, slot.ordinal))
        self._relabel(slot, revision_of(slot.pod))
        self._mark(slot, m.judge(self.frame, slot))
        adds = slot.claims.counts if slot.has(m.VALID) else ()
        if adds != slot.adds:
            self._add_claims(slot.adds, -1)
            self._add_claims(adds, 1)
            slot.adds = adds
        rank = None
        if self.frame.unordered and slot.has(m.VALID) and not slot.has(m.AHEAD):
            rank = self.frame.ranking(slot.ordinal, slot.pod.metadata.labels)
        self._rank(slot, rank)

    def _leave(self, slot: Slot) -> None:
        """Take back everything that *slot* counts for."""
        self._relabel(slot, "")
        self._add_claims(slot.adds, -1)
        slot.adds = ()
        slot.ripe_at = slot.look_at = None
        self._rank(slot, None)
        self._mark(slot, 0)

    def _relabel(self, slot: Slot, label: str) -> None:
        if label != slot.label:
            self._labels.subtract([slot.label] if slot.label else [])
            self._labels.update([label] if label else [])
            slot.label = label

    def _mark(self, slot: Slot, marks: int) -> None:
        changed = slot.marks ^ marks
        slot.marks = marks
        while changed:
            mark = changed & -changed
            changed ^= mark
            there = marks & mark
            self._counts[mark] += 1 if there else -1
            found = self._sets.get(mark)
            if found is None:
                continue
            if there:
                found.add(slot.ordinal)
            else:
                found.discard(slot.ordinal)

    def _rank(self, slot: Slot, rank: Rank | None) -> None:
        if rank == slot.rank:
            return
        if slot.rank is not None:
            del self._ranked[bisect_left(self._ranked, (slot.rank, slot.ordinal))]
        if rank is not None:
            insort(self._ranked, (rank, slot.ordinal))
        slot.rank = rank

    def _add_claims(self, counts: tuple[tuple[int, int], ...], sign: int) -> None:
        for index, (fits, ready) in enumerate(counts):
            self._fitting[index] += sign * fits
            self._fitting_ready[index] += sign * ready
