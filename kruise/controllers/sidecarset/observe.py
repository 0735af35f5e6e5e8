"""What the caches show of each SidecarSet, and what changed since it was last looked at.

Purpose: a pass costs what changed, and not what exists. Here is which sets a change concerns, and which keys are stale.

Guarantees:

* The changes are noted inside the switch of a store, so no pass sees a store that is newer than its notes.
* A pod that no set wants costs one look-up for each of its labels, however many sets and pods there are (performance
  4.4). Old and new labels count: a set hears of the pod that leaves it.
* Which pods a new set wants is found by one walk over the cache, for all sets that ask at that time together. It lets
  other work through every few milliseconds; what changes meanwhile is noted as ever.
* What is noted per set goes with the set (G9). A standby, which reconciles nothing, keeps an index of the sets and
  nothing else.

What this does not do: it judges no pod and decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kruise.apis.core import ControllerRevision, Pod
from kruise.apis.selectors import SelectorError
from kruise.apis.sidecarset import REVISION_SET_LABEL, SidecarSet
from kruise.controllers.sidecarset.frame import matcher_of
from kruise.controllers.sidecarset.index import SetIndex
from kruise.controllers.sidecarset.match import canary_base
from kruise.runtime.cache.index import OWNER, Index
from kruise.runtime.cache.store import Change, Store
from kruise.runtime.clock import Clock
from kruise.runtime.objects import Key, Object, PartialObject, Unreadable, controller_of

__all__ = ["ORPHAN_REVISIONS", "Notes", "Observer", "Stores"]

WALK_STEP: Final = 2048
"""How many pods are looked at before others get their turn."""


def _orphan_of(revision: Object) -> str:
    """Return the name of the set that a revision without a controller names."""
    return revision.metadata.labels.get(REVISION_SET_LABEL, "") if controller_of(revision.metadata) is None else ""


def _orphan_revisions(revision: ControllerRevision) -> Iterator[str]:
    if name := _orphan_of(revision):
        yield name


ORPHAN_REVISIONS: Final[Index[ControllerRevision, str]] = Index("sidecarset-orphan-revision", _orphan_revisions)
"""Revisions without a controller, by the set that their label names."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The caches that a reconcile reads."""

    sets: Store[SidecarSet]
    pods: Store[Pod]
    namespaces: Store[PartialObject]
    revisions: Store[ControllerRevision]


@dataclass(slots=True, eq=False)
class Notes:
    """What is stale in the view of one set. With other selectors there are other notes, and another view."""

    complete: bool = False
    """Every pod that the set wants was noted at least once."""
    pods: set[Key] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=set)
    survey: set[Key] | None = None
    """What a walk for a self-check found; to be compared with the view once."""


class Observer:
    """Notes, for each set that is reconciled here, what its view has not been told yet."""

    def __init__(self, stores: Stores, clock: Clock) -> None:
        self.stores: Final = stores
        self._clock = clock
        self._index = SetIndex()
        self._notes: dict[str, Notes] = {}
        """By name of the set."""
        self._bases: dict[str, str] = {}
        """Canaries, and the sets that they are of."""
        self._canaries: dict[str, set[str]] = {}
        self._walking = asyncio.Lock()
        stores.sets.on_change(self._set_changed)
        stores.pods.on_change(self._pod_changed)
        stores.namespaces.on_change(self._namespace_changed)

    # What is kept.

    def notes(self, one: SidecarSet) -> Notes:
        """Return the notes on a set, from now on kept."""
        return self._notes.setdefault(one.metadata.name, Notes())

    def forget(self, name: str) -> None:
        """Drop everything about a set that is gone, or whose pods are to be looked for anew."""
        self._notes.pop(name, None)

    def __len__(self) -> int:
        return len(self._notes)

    def canaries(self, name: str) -> frozenset[str]:
        """Return the names of the canaries of a set."""
        return frozenset(self._canaries.get(name, ()))

    # What the stores tell, synchronously: only what is stale.

    def _set_changed(self, old: SidecarSet | Unreadable | None, new: SidecarSet | Unreadable | None) -> None:
        before = old if isinstance(old, SidecarSet) else None
        after = new if isinstance(new, SidecarSet) else None
        known = new if new is not None else old
        assert known is not None
        name = known.metadata.name
        self._note_canary(name, "" if new is None else canary_base(new.metadata.annotations))
        if before is not None and after is not None and before.uid == after.uid and _same_selectors(before, after):
            return
        self._notes.pop(name, None)
        matcher = None
        if after is not None:
            try:
                matcher = matcher_of(after)
            except SelectorError:
                matcher = None  # it selects nothing; the plan names the field
        if matcher is None:
            self._index.drop(name)
        else:
            self._index.put(name, matcher)

    def _note_canary(self, name: str, base: str) -> None:
        before = self._bases.get(name, "")
        if before == base:
            return
        if before:
            self._canaries[before].discard(name)
            if not self._canaries[before]:
                del self._canaries[before]
            del self._bases[name]
        if base:
            self._bases[name] = base
            self._canaries.setdefault(base, set()).add(name)

    def _pod_changed(self, old: Pod | Unreadable | None, new: Pod | Unreadable | None) -> None:
        if not self._notes:
            return
        for name in self.wanting(old, new):
            notes = self._notes.get(name)
            if notes is not None:
                pod = new if new is not None else old
                assert pod is not None
                notes.pods.add(pod.key)

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and old.metadata.labels == new.metadata.labels:
            return
        known = new if new is not None else old
        assert known is not None
        for notes in self._notes.values():
            notes.namespaces.add(known.metadata.name)

    # Which sets a change concerns.

    def wanting(self, old: Pod | Unreadable | None, new: Pod | Unreadable | None) -> frozenset[str]:
        """Return the names of the sets whose selectors may match a pod as it was, or as it is."""
        if new is None:
            return self._index.sets_for(old.metadata.labels) if old is not None else frozenset()
        found = self._index.sets_for(new.metadata.labels)
        if old is not None and old.metadata.labels != new.metadata.labels:
            found |= self._index.sets_for(old.metadata.labels)
        return found

    def noted(self) -> tuple[str, ...]:
        """Return the names of the sets on which notes are taken."""
        return tuple(self._notes)

    @staticmethod
    def sets_of_revision(change: Change[Any]) -> Iterable[Key]:
        """Name the set that may want a revision without a controller; those that have one know it."""
        for revision in (change.old, change.new):
            if revision is not None and (name := _orphan_of(revision)):
                yield Key("", name)

    @staticmethod
    def bases_of_set(change: Change[Any]) -> Iterable[Key]:
        """Name the set that a canary is, or was, a canary of."""
        bases = [canary_base(one.metadata.annotations) for one in (change.old, change.new) if one is not None]
        if len(set(bases)) == 1 and len(bases) == 2:
            return []
        return [Key("", base) for base in bases if base]

    # What the caches show.

    async def complete(self, notes: Notes) -> None:
        """Wait until *notes* name every pod that their set wants."""
        if notes.complete:
            return
        async with self._walking:
            wanted = self._incomplete()
            if notes not in wanted.values():
                return  # somebody else's walk found them
            for name, keys in (await self._walk(wanted)).items():
                wanted[name].pods |= keys
                wanted[name].complete = True

    def _incomplete(self) -> dict[str, Notes]:
        """Return the notes on sets of whose pods nobody knows; a walk for one of them may serve all."""
        for one in self.stores.sets.list():
            self.notes(one)
        return {name: notes for name, notes in self._notes.items() if not notes.complete}

    async def survey(self) -> None:
        """Look again, for all sets whose pods are known, which pods they want."""
        async with self._walking:
            known = {name: notes for name, notes in self._notes.items() if notes.complete}
            for name, keys in (await self._walk(known)).items():
                known[name].survey = keys

    async def _walk(self, names: Collection[str]) -> dict[str, set[Key]]:
        """Look at every pod once; return the keys of those that the sets *names* may want."""
        found: dict[str, set[Key]] = {name: set() for name in names}
        for number, pod in enumerate((*self.stores.pods.list(), *self.stores.pods.unreadable()), 1):
            for name in self._index.sets_for(pod.metadata.labels):
                if name in found:
                    found[name].add(pod.key)
            if number % WALK_STEP == 0:
                await self._clock.sleep(0)
        return found

    def namespaces(self) -> dict[str, Mapping[str, str]]:
        """Return the labels of every namespace, by name."""
        found = self.stores.namespaces
        return {one.metadata.name: one.metadata.labels for one in (*found.list(), *found.unreadable())}

    def namespace(self, name: str) -> Mapping[str, str] | None:
        """Return the labels of a namespace; None when it is not there."""
        found = self.stores.namespaces.raw(Key("", name))
        return None if found is None else found.metadata.labels

    def revisions(self, one: SidecarSet) -> Sequence[ControllerRevision]:
        """Return the revisions that the set controls, and those that name it and have no controller."""
        revisions = self.stores.revisions
        return (
            *revisions.by_index(OWNER, one.uid),
            *revisions.by_index(ORPHAN_REVISIONS.name, one.metadata.name),
        )


def _same_selectors(one: SidecarSet, other: SidecarSet) -> bool:
    a, b = one.spec, other.spec
    return a.selector == b.selector and a.namespace_selector == b.namespace_selector
