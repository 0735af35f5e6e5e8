"""What a SidecarSet does next: a pure function of the view and the time.

Purpose: :func:`plan` decides everything from one snapshot: what ends or takes back a hot upgrade, which pods are
upgraded now, and which ones bear the mark that they cannot be. It does no I/O, reads no clock and draws no number.

Guarantees:

* C5: no plan lets more working pods go than maxUnavailable allows beside those that are on their way, nor any while the
  set is paused or of type NotUpdate; partition, selector, priority and scatter are those of spec/sidecarset 8. A pod
  whose last write may still happen counts as on its way (X3), and is tried again within the budget. Flips are exempt.
* C7: a pod that cannot be upgraded in place gets its condition, once.
* What is allowed and needed is in the plan, at once; planning again after its effects yields nothing. A pod whose write
  failed waits alone, and the next one takes its turn (rule 30). No list of expectations has to be emptied (X26).
* The cost grows with what the plan does; with a scatter strategy, with the pods that wait.

What this does not do: it never looks at the cluster; a stale view leads to a plan whose writes the API server refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from kruise.apis.core import Pod
from kruise.apis.sidecarset_metadata import MetadataPatchError
from kruise.controllers.common.inplace.writes import PodWrite
from kruise.controllers.common.reasons import Reason
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.actions import NOT_UPGRADABLE_PODS, Change, PlannedEvent, Why
from kruise.controllers.sidecarset.order import budget, expanded, partition, scattered
from kruise.controllers.sidecarset.upgrade import condition_write, flip_write, repair_write, upgrade_write
from kruise.controllers.sidecarset.view import View
from kruise.runtime.objects import EMPTY_MAP, Key

__all__ = ["Plan", "ordered", "plan", "upgrades", "window"]

_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. Every change may begin at once."""

    view: View = field(compare=False, repr=False)
    now: float
    changes: tuple[Change, ...] = ()
    """Repairs and flips, or else marks and then upgrades, in the order of their turn."""
    events: tuple[PlannedEvent, ...] = ()
    """Lasting states, each to be reported when it begins."""
    error: str = ""
    """What is wrong with the spec, naming the field. Nothing is done while it stands."""
    troubles: Mapping[Key, str] = field(default_factory=dict)
    """Pods whose upgrade cannot be written, and why."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do now."""
        return not self.changes

    def of(self, why: Why) -> tuple[Change, ...]:
        """Return the changes for one purpose."""
        return tuple(change for change in self.changes if change.why is why)


def plan(
    view: View, now: float, *, holds: Mapping[str, bool] = EMPTY_MAP, unsure: frozenset[str] = frozenset()
) -> Plan:
    """Decide the next pass at wall time *now*, in seconds.

    *holds* names the uids of pods whose last attempt failed, True while they must wait; *unsure* those for which an
    upgrade may still happen (``Holds.waiting`` and ``Holds.unsure`` by uid).
    """
    frame = view.frame
    events = _events(view)
    if frame.problem:
        return Plan(view, now, events=events, error=frame.problem)
    if frame.set.terminating or not frame.updates or frame.paused:
        return Plan(view, now, events=events)
    round_ = _Round(view, now, holds, unsure)
    changes = round_.ends() or (*round_.marks(), *round_.upgrades())
    return Plan(view, now, changes, events, troubles=round_.troubles)


def upgrades(view: View, now: float) -> tuple[Change, ...]:
    """Return the upgrades that are due, whatever else is: nothing fails, and no hot upgrade ends."""
    return tuple(_Round(view, now, EMPTY_MAP, frozenset()).upgrades())


def ordered(view: View) -> Iterator[Key]:
    """Yield the pods that wait for an upgrade, in the order of their turn."""
    terms = view.frame.set.spec.update_strategy.scatter_strategy
    keys = (key for _, key in view.waiting)
    if not terms:
        return keys
    pairs = expanded(terms, lambda: (s.pod.metadata.labels for s in view.slots() if s.has(m.MATCHED)))
    total = view.count(m.MATCHED)
    return iter(scattered(list(keys), lambda key: view.pod(key).metadata.labels, pairs, view.labelled, total))


def window(view: View) -> int:
    """Return how many of the waiting pods the partition lets go."""
    kept = partition(view.frame.set.spec.update_strategy, view.count(m.MATCHED))
    return max(0, len(view.waiting) - kept)


class _Round:
    """One pass over what waits."""

    def __init__(self, view: View, now: float, holds: Mapping[str, bool], unsure: frozenset[str]) -> None:
        self._view = view
        self._now = now
        self._holds = holds
        self._unsure = unsure
        self.troubles: dict[Key, str] = {}

    def ends(self) -> tuple[Change, ...]:
        """Return what ends hot upgrades, whatever the budget."""
        view, found = self._view, list[Change]()
        for mark, why, write in ((m.REPAIR, Why.REPAIR, repair_write), (m.FLIP, Why.FLIP, flip_write)):
            for pod in self._free(view.listed(mark)):
                patch = write(view.frame, pod, self._now)
                if patch is not None:
                    found.append(Change(pod, (patch,), why))
        return tuple(found)

    def marks(self) -> Iterator[Change]:
        """Yield the conditions that do not say what is so."""
        view = self._view
        for mark, upgradable in ((m.MARK_NO, False), (m.MARK_YES, True)):
            for pod in self._free(view.listed(mark)):
                patch = condition_write(view.frame.name, pod, self._now, upgradable=upgradable)
                if patch is not None:
                    yield Change(pod, (patch,), Why.MARK)

    def upgrades(self) -> Iterator[Change]:
        """Yield the upgrades of this pass, in order."""
        view = self._view
        strategy = view.frame.set.spec.update_strategy
        limit = budget(strategy, view.count(m.MATCHED))
        busy, doubtful = view.count(m.BUSY), self._under_way()
        if busy + doubtful >= limit and not view.waiting_down and not self._unsure:
            return
        for key in islice(ordered(view), window(view)):
            slot = view.get(key)
            pod = view.pod(key)
            if slot is None or self._holds.get(pod.uid, False):
                continue
            costs, again = slot.has(m.UP), pod.uid in self._unsure
            # A pod in doubt is counted already. Several may be: they were down, and free, when they were tried first.
            if costs and busy + (0 if again else doubtful) >= limit:
                return
            writes = self._writes(pod)
            if writes:
                busy += costs
                doubtful -= costs and again
                yield Change(pod, writes, Why.UPGRADE)

    def _under_way(self) -> int:
        """Return how many working pods may be upgraded by a write of which nobody knows what came."""
        if not self._unsure:
            return 0
        waiting = (self._view.get(key) for _, key in self._view.waiting)
        return sum(1 for slot in waiting if slot is not None and slot.has(m.UP) and slot.pod.uid in self._unsure)

    def _writes(self, pod: Pod) -> tuple[PodWrite, ...]:
        view = self._view
        try:
            patch = upgrade_write(view.frame, pod, self._now, revision=view.revision)
        except MetadataPatchError as error:
            self.troubles[pod.key] = f"patchPodMetadata: {error}"
            return ()
        said = condition_write(view.frame.name, pod, self._now, upgradable=True)
        return tuple(write for write in (patch, said) if write is not None)

    def _free(self, keys: Sequence[Key]) -> Iterator[Pod]:
        for key in keys:
            pod = self._view.pod(key)
            if not self._holds.get(pod.uid, False):
                yield pod


def _events(view: View) -> tuple[PlannedEvent, ...]:
    found: list[PlannedEvent] = []
    if (immutable := view.listed(m.IMMUTABLE)) and view.frame.updates and not view.frame.paused:
        note = (
            f"SidecarSet in-place update detected {len(immutable)} not upgradable pod(s) in this round, "
            f"will skip them. ({_examples(immutable)})"
        )
        found.append(PlannedEvent("Normal", NOT_UPGRADABLE_PODS, note))
    if unreadable := view.listed(m.UNREADABLE):
        note = f"{len(unreadable)} pod(s) cannot be read, and count as not ready: {_examples(unreadable)}"
        found.append(PlannedEvent("Warning", Reason.POD_UNREADABLE, note))
    return tuple(found)


def _examples(keys: Sequence[Key]) -> str:
    named = ", ".join(str(key) for key in keys[:_EXAMPLES])
    return f"{named}, ..." if len(keys) > _EXAMPLES else named
