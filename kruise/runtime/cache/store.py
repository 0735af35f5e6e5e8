"""The indexed, versioned copy of one resource.

Purpose: what every read of a controller reads, in the memory of this process.

Guarantees:

* STO1: lookups by index cost what they return; see ``index.py``.
* STO2: :meth:`Store.list` is a tuple; the objects in it are shared and frozen, never copied.
* STO3: :meth:`Store.replace` switches in one step without an ``await``, and its version moves with it. Of the changes
  that it returns the deletions come first.
* STO4: an object that a new list no longer has is a deletion like any other, with ``final_state_known=False``.
* STO5: another uid under the same key is a deletion and an addition.
* STO6: an object older than the stored one of the same uid is refused and counted in ``stale``.
* STO7: ``version``, :meth:`Store.at_least`, :meth:`Store.on_version`; see ``progress.py``.
* STO8: nothing is ever evicted; ``len()`` and :meth:`Store.estimated_bytes` tell the size.
* STO9: an object whose index function raises is kept as Unreadable, which names the index.
* STO10: pages are staged by key, and an object of the same uid and version keeps its present instance, so a replace
  costs the changed objects and one page beyond the store itself.

What this does not do: it knows no network and calls no handler. Objects that do not fit their projection stand beside
the others as :class:`Unreadable`: ``get`` and ``list`` never return them, ``raw`` and ``unreadable`` do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kruise.runtime.cache.estimate import estimate_bytes
from kruise.runtime.cache.index import NAMESPACE, Index, Indexes, IndexFault, Term
from kruise.runtime.cache.progress import Progress
from kruise.runtime.clock import Clock
from kruise.runtime.errors import ResourceNotCached
from kruise.runtime.objects import Key, Object, Resource, Unreadable, compare_versions

T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What happened to one object. ``old`` is None for an addition, ``new`` is None for a deletion."""

    old: T | Unreadable | None
    new: T | Unreadable | None
    initial: bool = False
    """Part of the first list that a handler sees."""
    final_state_known: bool = True
    """For a deletion: whether ``old`` is the last state, and not merely the last one that was seen (STO4)."""
    resync: bool = False
    """Nothing changed: the handler asked to be called from time to time (INF7)."""

    @property
    def key(self) -> Key:
        """The key of the object."""
        obj = self.new if self.new is not None else self.old
        assert obj is not None
        return obj.key


Handler = Callable[[Change[Any]], None]
"""A synchronous function that is called with every change. It has 50 ms (INF6)."""


class Staging(Generic[T]):
    """The objects of a list that is still coming in (STO10)."""

    def __init__(self, store: Store[T], scope: str) -> None:
        self._store = store
        self.scope = scope
        self.objects: dict[Key, T | Unreadable] = {}
        self.reused = 0
        """How many objects kept their cached instance."""

    def add(self, obj: T | Unreadable) -> None:
        """Stage *obj*, or the stored instance of the same uid and version."""
        have = self._store.raw(obj.key)
        if (
            have is not None
            and obj.resource_version
            and have.resource_version == obj.resource_version
            and have.uid == obj.uid
        ):
            obj = have
            self.reused += 1
        self.objects[obj.key] = obj

    def discard(self, key: Key) -> None:
        """Forget *key*: the object was deleted while the list streamed in."""
        self.objects.pop(key, None)


class Store(Generic[T]):
    """All objects of one resource, or of some of its namespaces. Reads never wait."""

    def __init__(
        self, resource: Resource[T], *, clock: Clock, scopes: Sequence[str] = ("",), labels: Sequence[str] = ()
    ) -> None:
        self.resource = resource
        self._objects: dict[Key, T] = {}
        self._unreadable: dict[Key, Unreadable] = {}
        self._indexes = Indexes(str(resource), resource.struct, labels)
        self._meta_indexes = Indexes(str(resource), None, labels)
        self._progress = {scope: Progress(clock, _place(resource, scope)) for scope in scopes}
        self._snapshot: tuple[T, ...] | None = None
        self._gone: dict[Key, list[tuple[str, Callable[[], None]]]] = {}
        self._observers: list[Callable[[T | Unreadable | None, T | Unreadable | None], None]] = []
        self.stale = 0
        """How many objects were refused because a newer state was stored (STO6)."""

    # Reads.

    def get(self, key: Key) -> T | None:
        """Return the object, or None; also None for one that is unreadable."""
        return self._objects.get(key)

    def raw(self, key: Key) -> T | Unreadable | None:
        """Return the object, readable or not, or None."""
        return self._objects.get(key) or self._unreadable.get(key)

    def list(self) -> tuple[T, ...]:
        """Return all readable objects (STO2)."""
        if self._snapshot is None:
            self._snapshot = tuple(self._objects.values())
        return self._snapshot

    def unreadable(self) -> tuple[Unreadable, ...]:
        """Return the objects that do not fit their projection."""
        return tuple(self._unreadable.values())

    def by_index(self, index: str, value: Hashable) -> tuple[T, ...]:
        """Return the readable objects that have *value* in *index*. Raises ResourceNotCached for an unknown index."""
        return self.select((index, value))

    def select(self, *terms: Term) -> tuple[T, ...]:
        """Return the readable objects that have every term (STO1)."""
        objects = self._objects
        return tuple([objects[key] for key in self._indexes.keys(terms)]) if terms else self.list()

    def unreadable_by_index(self, index: str, value: Hashable) -> tuple[Unreadable, ...]:
        """Like :meth:`by_index` for unreadable objects; ``namespace``, ``owner`` and ``label`` only."""
        return tuple([self._unreadable[key] for key in self._meta_indexes.keys([(index, value)])])

    def __len__(self) -> int:
        return len(self._objects) + len(self._unreadable)

    def estimated_bytes(self) -> int:
        """Return about how much memory the objects and their indexes take (STO8). Costs milliseconds."""
        tables = [*self._indexes.tables(), *self._meta_indexes.tables()]
        return estimate_bytes((self._objects, self._unreadable), tables)

    # Versions.

    @property
    def version(self) -> str:
        """The highest version that is fully applied, in every scope; ``""`` before the first list (STO7)."""
        lowest: str | None = None
        for progress in self._progress.values():
            if lowest is None:
                lowest = progress.version
            else:
                order = compare_versions(progress.version, lowest)
                lowest = "" if order is None else progress.version if order < 0 else lowest
        return lowest or ""

    def progress(self, namespace: str) -> Progress:
        """Return the progress of the scope that has *namespace*. Raises ResourceNotCached when none has it.

        With one watch per namespace each has a version of its own: an idle namespace may lag behind a busy one by the
        minute between two bookmarks, and nobody shall wait for that.
        """
        found = self._progress.get(namespace) or self._progress.get("")
        if found is None:
            raise ResourceNotCached(
                f"namespace {namespace!r} of {self.resource} is not watched (watched: {', '.join(self._progress)}): "
                "add it to the namespaces of the cache"
            )
        return found

    async def at_least(self, version: str, timeout: float, *, namespace: str | None = None) -> None:
        """Wait until *version* is applied, in *namespace* or everywhere. Raises TimeoutError. Can be cancelled."""
        parts = self._progress.values() if namespace is None else (self.progress(namespace),)
        for progress in parts:
            await progress.at_least(version, timeout)

    def on_version(self, version: str, callback: Callable[[], None], *, namespace: str = "") -> Callable[[], None]:
        """Call *callback* once *version* is applied in the scope of *namespace*; the function returned calls it off."""
        return self.progress(namespace).on_version(version, callback)

    def on_gone(self, key: Key, uid: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call *callback* once no object *uid* is stored under *key*: at once if none is. The result calls it off."""
        have = self.raw(key)
        if have is None or have.uid != uid:
            callback()
            return lambda: None
        entry = (uid, callback)
        self._gone.setdefault(key, []).append(entry)

        def cancel() -> None:
            waiting = self._gone.get(key)
            if waiting is not None and entry in waiting:
                waiting.remove(entry)
                if not waiting:
                    del self._gone[key]

        return cancel

    def on_change(self, observer: Callable[[T | Unreadable | None, T | Unreadable | None], None]) -> None:
        """Call *observer* with (old, new) inside every switch, before anybody can read the new state.

        For aggregates that must never be older than the store: an observer notes which of its parts are stale, and
        does nothing else. It must not raise, wait or read the store. Handlers of an informer are for everything else.
        """
        self._observers.append(observer)

    @property
    def waiters(self) -> int:
        """How many callbacks wait for a version or for a deletion."""
        return sum(p.waiters for p in self._progress.values()) + sum(map(len, self._gone.values()))

    def lag(self) -> float:
        """For how many seconds a version that somebody waits for has not been applied."""
        return max(p.lag() for p in self._progress.values())

    # Changes. All of this is synchronous: a reader never sees half a change.

    def add_index(self, index: Index[T, Any]) -> Sequence[Change[T]]:
        """Add *index*, also over what is stored. Returns the objects that its function makes unreadable (STO9)."""
        changes = []
        for obj, fault in self._indexes.add(index, self._objects.values()):
            key = obj.key
            old = self._objects[key]
            bad = _quarantine(old, fault)
            self._switch(key, old, bad)
            changes.append(Change(old, bad))
        return changes

    def add_labels(self, labels: Iterable[str]) -> None:
        """Index these label keys too, also over what is stored."""
        labels = tuple(labels)
        self._indexes.add_labels(labels, self._objects.values())
        self._meta_indexes.add_labels(labels, self._unreadable.values())

    def put(self, obj: T | Unreadable) -> tuple[Change[T], ...]:
        """Store *obj*; return what changed: nothing for a known or older state, two changes for another uid."""
        key = obj.key
        old = self.raw(key)
        if old is not None:
            order = compare_versions(obj.resource_version, old.resource_version)
            if order is not None and order < 0:
                self.stale += 1
                return ()
            if order == 0 and old.uid == obj.uid and obj.resource_version:
                return ()
        new = self._switch(key, old, obj)
        if old is not None and old.uid != new.uid:
            return (Change(old, None, final_state_known=False), Change(None, new))
        return (Change(old, new),)

    def remove(self, last: T | Unreadable) -> tuple[Change[T], ...]:
        """Remove the object whose last state is *last*; nothing when a newer incarnation is stored under its key."""
        key = last.key
        old = self.raw(key)
        if old is None:
            return ()
        order = compare_versions(last.resource_version, old.resource_version)
        if order is not None and order < 0:
            self.stale += 1
            return ()
        self._switch(key, old, None)
        if old.uid != last.uid:
            return (Change(old, None, final_state_known=False),)
        return (Change(last, None),)

    def staging(self, scope: str = "") -> Staging[T]:
        """Return an empty place for the objects of a new list of *scope*."""
        return Staging(self, scope)

    def replace(self, staging: Staging[T], version: str) -> Sequence[Change[T]]:
        """Make the staged objects the content of their scope, at *version*; return the changes, deletions first."""
        deleted: list[Change[T]] = []
        rest: list[Change[T]] = []
        staged = staging.objects
        for key in self._keys_of(staging.scope):
            if key not in staged:
                old = self.raw(key)
                self._switch(key, old, None)
                deleted.append(Change(old, None, final_state_known=False))
        for key, obj in staged.items():
            old = self.raw(key)
            if old is obj:
                continue
            new = self._switch(key, old, obj)
            if old is not None and old.uid != new.uid:
                deleted.append(Change(old, None, final_state_known=False))
                old = None
            rest.append(Change(old, new))
        self._progress[staging.scope].advance(version)
        return deleted + rest

    def advance(self, version: str, scope: str = "") -> None:
        """Note that everything up to *version* is applied in *scope*; wakes waiters."""
        self._progress[scope].advance(version)

    def _keys_of(self, scope: str) -> Sequence[Key]:
        if not scope:
            return [*self._objects, *self._unreadable]
        terms = [(NAMESPACE, scope)]
        return [*self._indexes.keys(terms), *self._meta_indexes.keys(terms)]

    def _switch(self, key: Key, old: T | Unreadable | None, new: T | Unreadable | None) -> T | Unreadable:
        """Put *new* in the place of *old*; return what is stored, which is Unreadable when an index failed."""
        if new is not None and not isinstance(new, Unreadable):
            try:
                self._indexes.update(key, None if isinstance(old, Unreadable) else old, new)
            except IndexFault as fault:
                new = _quarantine(new, fault)
            else:
                self._objects[key] = new
                if isinstance(old, Unreadable):
                    self._meta_indexes.update(key, old, None)
                    del self._unreadable[key]
        if new is None or isinstance(new, Unreadable):
            if old is not None and not isinstance(old, Unreadable):
                self._indexes.update(key, old, None)
                del self._objects[key]
                self._meta_indexes.update(key, None, new)
            else:
                self._meta_indexes.update(key, old, new)
            if new is None:
                self._unreadable.pop(key, None)
            else:
                self._unreadable[key] = new
        self._snapshot = None
        for observer in self._observers:
            observer(old, new)
        if self._gone and old is not None and (new is None or new.uid != old.uid):
            self._call_gone(key, new)
        assert new is not None or old is not None
        return new if new is not None else old  # type: ignore[return-value]

    def _call_gone(self, key: Key, new: T | Unreadable | None) -> None:
        waiting = self._gone.pop(key, [])
        left = [w for w in waiting if new is not None and new.uid == w[0]]
        if left:
            self._gone[key] = left
        for entry in waiting:
            if entry not in left:
                entry[1]()


def _quarantine(obj: Object, fault: IndexFault) -> Unreadable:
    return Unreadable(api_version=obj.api_version, kind=obj.kind, metadata=obj.metadata, problem=str(fault))


def _place(resource: Resource[Any], scope: str) -> str:
    return f"{resource} in {scope}" if scope else str(resource)
