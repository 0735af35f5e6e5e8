"""From a change to keys.

Purpose: a handler puts into the queue the keys that a change concerns: of the object itself, of its owner, or of
whatever a function says.

Guarantees:

* HAN1: :class:`EnqueueOwner` wakes the owners of the old *and* of the new state, matched by group and kind. Where the
  owner's store holds another uid under that name, its present holder is woken with low priority: it may be waiting for
  that very name to become free.
* HAN2: :class:`EnqueueMapped` calls a synchronous function that sees old and new; its keys are deduplicated per change.
* HAN3: what comes from a first list, from a resync, or did not change the version is enqueued at :data:`LOW` priority.
* QUE4: :class:`EnqueueSelf` resets the back-off of an object whose generation changed, whose deletion began, or that is
  another one under the old name.

What this does not do: it passes no event on. A reconcile sees the state of the world, and never what happened to it.
Exceptions are the source's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from kruise.runtime.cache.store import Change
from kruise.runtime.controller.queue import LOW, Queue
from kruise.runtime.objects import Key, Object, ObjectMeta, OwnerReference, Resource, group_of

Mapper = Callable[[Change[Any]], Iterable[Key]]
"""Names the keys that a change concerns. Synchronous, over the cache; it is called once per change (HAN2)."""


class EventHandler(Protocol):
    """Turns one change into keys."""

    def __call__(self, change: Change[Any], queue: Queue) -> None: ...


def priority_of(change: Change[Any]) -> int:
    """Return 0 for news, and LOW for what is no news: a first list, a resync, the same version again (HAN3)."""
    if change.initial or change.resync:
        return LOW
    old, new = change.old, change.new
    same = old is not None and new is not None and old.resource_version == new.resource_version
    return LOW if same else 0


class EnqueueSelf:
    """Enqueues the object itself."""

    def __init__(self, *, gone: Callable[[Key], None] | None = None) -> None:
        """*gone* is told the key of each object that was deleted, before it is enqueued."""
        self._gone = gone

    def __call__(self, change: Change[Any], queue: Queue) -> None:
        key = change.key
        if _replaced(change) and self._gone is not None:
            self._gone(key)
        if _is_another(change):
            queue.reset(key)
        queue.add(key, priority=priority_of(change))


def _replaced(change: Change[Any]) -> bool:
    """Tell whether the old object is gone: deleted, or deleted and made anew between two looks."""
    if change.old is None:
        return False
    return change.new is None or change.new.uid != change.old.uid


def _is_another(change: Change[Any]) -> bool:
    """Tell whether earlier failures say nothing about the object any more (QUE4)."""
    old, new = change.old, change.new
    if old is None or new is None:
        return old is not None
    return (
        new.uid != old.uid
        or new.metadata.generation != old.metadata.generation
        or (new.terminating and not old.terminating)
    )


class EnqueueOwner:
    """Enqueues the owners of one kind."""

    def __init__(
        self,
        owner: Resource[Any],
        *,
        controller_only: bool = True,
        holder: Callable[[Key], Object | None] | None = None,
    ) -> None:
        """Match references to *owner* by group and kind (OBJ6).

        *controller_only* leaves out references that are not the controller's. *holder* looks up the present object of a
        key in the owner's store, ``None`` while it is not there.
        """
        self._owner = owner
        self._controller_only = controller_only
        self._holder = holder

    def __call__(self, change: Change[Any], queue: Queue) -> None:
        priority = priority_of(change)
        # News of two owners under one name: the better priority counts, and the queue sees one add.
        wanted: dict[Key, int] = {}
        old, new = change.old, change.new
        if old is not None and new is not None and old.metadata.owner_references == new.metadata.owner_references:
            old = None  # as nearly always
        for obj in (old, new):
            if obj is None:
                continue
            for key, ref in self._owners(obj.metadata):
                at = min(priority, LOW) if self._is_of_another(key, ref) else priority
                wanted[key] = max(at, wanted.get(key, at))
        for key, at in wanted.items():
            queue.add(key, priority=at)

    def _owners(self, meta: ObjectMeta) -> Iterator[tuple[Key, OwnerReference]]:
        for ref in meta.owner_references:
            if ref.kind != self._owner.kind or (self._controller_only and not ref.controller):
                continue
            if group_of(ref.api_version) == self._owner.group:
                yield Key(meta.namespace if self._owner.namespaced else "", ref.name), ref

    def _is_of_another(self, key: Key, ref: OwnerReference) -> bool:
        holder = self._holder(key) if self._holder is not None else None
        return holder is not None and holder.uid != ref.uid


class EnqueueMapped:
    """Enqueues what a function names (HAN2)."""

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper

    def __call__(self, change: Change[Any], queue: Queue) -> None:
        priority = priority_of(change)
        for key in dict.fromkeys(self._mapper(change)):
            queue.add(key, priority=priority)
