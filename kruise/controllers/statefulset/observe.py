"""What the caches show of each StatefulSet, and what changed since it was last looked at.

Purpose: a pass costs what changed, and not what exists. Here is who belongs to whom by name, which keys are stale, and
which sets a change concerns.

Guarantees:

* The changes are noted inside the switch of a store, so no pass sees a store that is newer than its notes.
* Pods come by their controller, and orphans by the set whose member their name would be: a foreign pod in the
  namespace costs nothing (performance 4.4).
* Claims come by name, ``<template>-<set>-<ordinal>``: whoever made them, they are the pod's.
* What is noted per set goes with the set (G9). A standby, which reconciles nothing, notes nothing.

What this does not do: it decides nothing, also not whose a pod is; see ``claiming``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kruise.apis.core import Claim, ControllerRevision, Pod, StorageClass
from kruise.apis.ordinals import NO_MEMBER, split_pod_name
from kruise.apis.statefulset import StatefulSet
from kruise.runtime.cache.index import NAMESPACE, OWNER, Index
from kruise.runtime.cache.store import Change, Store
from kruise.runtime.objects import Key, Object, Unreadable, controller_of

__all__ = ["CLAIMS_BY_FAMILY", "ORPHANS", "ORPHAN_REVISIONS", "Notes", "Observer", "Stores"]


def _family(namespace: str, name: str) -> Key | None:
    """Return what *name* is without its ordinal; ``None`` when it ends with none."""
    parent, ordinal = split_pod_name(name)
    return None if ordinal == NO_MEMBER else Key(namespace, parent)


def _orphans(pod: Pod) -> Iterator[Key]:
    if controller_of(pod.metadata) is None:
        family = _family(pod.metadata.namespace, pod.metadata.name)
        if family is not None:
            yield family


def _claims(claim: Claim) -> Iterator[Key]:
    family = _family(claim.metadata.namespace, claim.metadata.name)
    if family is not None:
        yield family


def _orphan_revisions(revision: ControllerRevision) -> Iterator[str]:
    if controller_of(revision.metadata) is None:
        yield revision.metadata.namespace


ORPHANS: Final[Index[Pod, Key]] = Index("statefulset-orphan", _orphans)
"""Pods without a controller, by the key of the set whose member they would be."""
CLAIMS_BY_FAMILY: Final[Index[Claim, Key]] = Index("statefulset-claim", _claims)
"""Claims by namespace and name without the ordinal: ``<template>-<set>``."""
ORPHAN_REVISIONS: Final[Index[ControllerRevision, str]] = Index("statefulset-orphan-revision", _orphan_revisions)
"""Revisions without a controller, by namespace."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The caches that a reconcile reads."""

    sets: Store[StatefulSet]
    pods: Store[Pod]
    claims: Store[Claim]
    revisions: Store[ControllerRevision]
    classes: Store[StorageClass] | None = None
    """Only with the gate StatefulSetAutoResizePVCGate."""


@dataclass(slots=True)
class Notes:
    """What is stale in the view of one set."""

    key: Key
    families: tuple[Key, ...] = ()
    """Those of its claims."""
    pods: set[Key] = field(default_factory=set)
    claims: set[Key] = field(default_factory=set)
    revisions: bool = True
    classes: bool = True


class Observer:
    """Notes, for each set that is reconciled here, what its view has not been told yet."""

    def __init__(self, stores: Stores) -> None:
        self.stores: Final = stores
        self._notes: dict[str, Notes] = {}
        """By uid of the set."""
        self._uids: dict[Key, str] = {}
        self._families: dict[Key, dict[str, None]] = {}
        """Which sets, by uid, have claims of a family: two sets may share one (``a-b`` + ``c``, ``a`` + ``b-c``)."""
        stores.pods.on_change(self._pod_changed)
        stores.claims.on_change(self._claim_changed)
        stores.revisions.on_change(self._revision_changed)
        if stores.classes is not None:
            stores.classes.on_change(self._class_changed)

    # What is kept.

    def notes(self, sts: StatefulSet) -> Notes:
        """Return the notes on *sts*, from now on kept."""
        notes = self._notes.get(sts.uid)
        if notes is None:
            notes = self._notes[sts.uid] = Notes(sts.key)
            self._uids[sts.key] = sts.uid
        return notes

    def set_families(self, sts: StatefulSet, names: Iterable[str]) -> bool:
        """Note the claim templates of *sts* by name; tell whether they are others than before."""
        notes = self.notes(sts)
        space, name = sts.key
        families = tuple(Key(space, f"{template}-{name}") for template in names)
        if families == notes.families:
            return False
        self._drop_families(sts.uid, notes)
        notes.families = families
        for family in families:
            self._families.setdefault(family, {})[sts.uid] = None
        return True

    def forget(self, key: Key, uid: str) -> None:
        """Drop everything about a set that is gone."""
        notes = self._notes.pop(uid, None)
        if notes is not None:
            self._drop_families(uid, notes)
        if self._uids.get(key) == uid:
            del self._uids[key]

    def _drop_families(self, uid: str, notes: Notes) -> None:
        for family in notes.families:
            users = self._families.get(family, {})
            users.pop(uid, None)
            if not users:
                self._families.pop(family, None)

    def __len__(self) -> int:
        return max(len(self._notes), len(self._uids))

    # What the stores tell, synchronously: only what is stale.

    def _pod_changed(self, old: Pod | Unreadable | None, new: Pod | Unreadable | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            ref = controller_of(pod.metadata)
            self._note_pod(ref.uid if ref is not None else self._uid_of_name(pod), pod)
        if new is None and old is not None:
            self._note_pod(self._uid_of_name(old), old)  # whoever's it was: its name is free

    def _note_pod(self, uid: str, pod: Object) -> None:
        notes = self._notes.get(uid)
        if notes is not None:
            notes.pods.add(pod.key)

    def _uid_of_name(self, pod: Object) -> str:
        family = _family(pod.metadata.namespace, pod.metadata.name)
        return self._uids.get(family, "") if family is not None else ""

    def _claim_changed(self, old: Claim | Unreadable | None, new: Claim | Unreadable | None) -> None:
        claim = new if new is not None else old
        assert claim is not None
        for notes in self._notes_of_claim(claim):
            notes.claims.add(claim.key)

    def _notes_of_claim(self, claim: Object) -> Iterator[Notes]:
        family = _family(claim.metadata.namespace, claim.metadata.name)
        for uid in self._families.get(family, ()) if family is not None else ():
            yield self._notes[uid]

    def _revision_changed(
        self, old: ControllerRevision | Unreadable | None, new: ControllerRevision | Unreadable | None
    ) -> None:
        for revision in (old, new):
            if revision is None:
                continue
            ref = controller_of(revision.metadata)
            if ref is None:
                # It may be anybody's whose selector matches; that is looked up when the set is.
                for notes in self._notes.values():
                    if notes.key.namespace == revision.metadata.namespace:
                        notes.revisions = True
            elif (mine := self._notes.get(ref.uid)) is not None:
                mine.revisions = True

    def _class_changed(self, _old: object, _new: object) -> None:
        for notes in self._notes.values():
            notes.classes = True

    # Which sets a change concerns, beyond those that the owner of a pod or revision names.

    def sets_of_pod(self, change: Change[Any]) -> Iterable[Key]:
        """Name the set that may want an orphan, and the one whose name is free now that a pod of anybody's is gone."""
        for pod in (change.old, change.new):
            if pod is not None and (change.new is None or controller_of(pod.metadata) is None):
                family = _family(pod.metadata.namespace, pod.metadata.name)
                if family is not None and self.stores.sets.raw(family) is not None:
                    yield family

    def sets_of_claim(self, change: Change[Any]) -> Iterable[Key]:
        """Name the sets that have a claim of this name."""
        claim = change.new if change.new is not None else change.old
        assert claim is not None
        return [notes.key for notes in self._notes_of_claim(claim)]

    def sets_of_class(self, _: Change[Any]) -> Iterable[Key]:
        """Name every set: which classes their claims have is nobody's index."""
        return [notes.key for notes in self._notes.values()]

    # What the caches show.

    def pods(self, sts: StatefulSet) -> Sequence[Pod | Unreadable]:
        """Return the pods that *sts* controls, and the orphans whose names are those of members."""
        pods = self.stores.pods
        unreadable = [
            pod
            for pod in pods.unreadable_by_index(NAMESPACE, sts.metadata.namespace)
            if controller_of(pod.metadata) is None and _family(pod.metadata.namespace, pod.metadata.name) == sts.key
        ]
        return (
            *pods.by_index(OWNER, sts.uid),
            *pods.unreadable_by_index(OWNER, sts.uid),
            *pods.by_index(ORPHANS.name, sts.key),
            *unreadable,
        )

    def claims(self, sts: StatefulSet) -> Sequence[Claim | Unreadable]:
        """Return the claims that have the name of a template of *sts* and of an ordinal."""
        claims, notes = self.stores.claims, self.notes(sts)
        unreadable = [
            claim
            for claim in claims.unreadable_by_index(NAMESPACE, sts.metadata.namespace)
            if _family(claim.metadata.namespace, claim.metadata.name) in notes.families
        ]
        return (*(c for family in notes.families for c in claims.by_index(CLAIMS_BY_FAMILY.name, family)), *unreadable)

    def revisions(self, sts: StatefulSet) -> Sequence[ControllerRevision]:
        """Return the revisions that *sts* controls, and all orphans of its namespace."""
        revisions = self.stores.revisions
        return (
            *revisions.by_index(OWNER, sts.uid),
            *revisions.by_index(ORPHAN_REVISIONS.name, sts.metadata.namespace),
        )

    def classes(self) -> dict[str, StorageClass]:
        """Return the storage classes by name; none without the gate."""
        found = self.stores.classes
        return {} if found is None else {one.metadata.name: one for one in found.list()}
