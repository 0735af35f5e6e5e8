"""One resource, kept true and told to whoever asked.

Purpose: joins the reflectors of a resource with its store, and the store with its handlers.

The contract with a handler:

1. A handler is a synchronous function of one :class:`Change`. It runs on the event loop and must not block; it should
   note a key in a queue and return. It has 50 ms before a warning names it.
2. For every object it sees a sub-sequence of the states that the object went through, in order, and the last of them.
   States in between may be left out; a controller must not count changes.
3. A deletion is never left out if the handler was told of the object. ``old`` is then the last state that is known;
   ``final_state_known=False`` says that the object was found gone by a list, and may have changed before.
4. Another uid under a known key is told as a deletion and an addition.
5. There is no order between different objects, and none between handlers.
6. The first list comes as additions with ``initial=True``. A handler that is added later gets the present content of
   the store in the same way, and nothing twice.
7. When a handler is told of a change, the store already has it, and perhaps later ones as well.
8. Objects in a change are those of the store: frozen, shared, not to be modified.
9. An object that does not fit its projection comes as :class:`Unreadable`. It exists; nobody may act on its content.
10. An exception in a handler is logged and counted. It is not repeated: a handler that may fail must do its own retry.
11. ``resync=True`` marks a repetition that the handler itself has asked for.

Guarantees: INF1 to INF7 by the contract above; INF4: an informer whose last user is gone can be stopped with
:meth:`Informer.stop`, which waits for it. STO3: a new list is switched to in one step, deletions are told first, and
the rest in slices that let other tasks run.

What this does not do: it decides nothing about lists and watches (``reflector.py``), and it does not start by itself:
``await informer.run()`` inside a TaskGroup, or declare it at a :class:`~kruise.runtime.cache.cache.Cache`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from kruise.runtime.cache.detector import ListDetector
from kruise.runtime.cache.fanout import Registration
from kruise.runtime.cache.host import Host
from kruise.runtime.cache.index import Index
from kruise.runtime.cache.mutation import MutationDetector
from kruise.runtime.cache.scope import Scope
from kruise.runtime.cache.states import Rules
from kruise.runtime.cache.status import InformerStatus
from kruise.runtime.cache.store import Change, Handler, Staging, Store
from kruise.runtime.cache.watcher import Watcher
from kruise.runtime.client.frames import Codec, Event, EventType, checked_transform
from kruise.runtime.errors import ConfigError, SyncTimeout
from kruise.runtime.log import get_logger
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, Resource, Unreadable

T = TypeVar("T", bound=Object)

CHUNK: Final = 256
"""After so many changes of a new list other tasks get a turn (STO3)."""
_ORDER: Final = ("Missing", "Empty", "Paging", "Streaming", "Relist", "Listed", "Watching")

log = get_logger("informer")


class Informer(Generic[T]):
    """The store of one resource, the reflectors that fill it, and the handlers that hear of it."""

    def __init__(
        self,
        resource: Resource[T],
        host: Host,
        *,
        metrics: Metrics,
        scopes: Sequence[Scope] = (Scope(),),
        indexes: Sequence[Index[T, Any]] = (),
        labels: Sequence[str] = (),
        rules: Rules | None = None,
        lists: ListDetector | None = None,
        mutations: MutationDetector | None = None,
    ) -> None:
        rules = rules or Rules()
        if rules.any_version and not resource.metadata_only:
            raise ConfigError(
                f"{resource}: a first list of any version may go back in time; it is for metadata-only watches"
            )
        self.resource = resource
        self.scopes = tuple(scopes)
        self._host = host
        self._clock = host.clock
        self._lists = lists
        self._mutations = mutations
        names = [scope.namespace for scope in self.scopes]
        self.store: Store[T] = Store(resource, clock=self._clock, scopes=names, labels=labels)
        self._registrations: list[Registration] = []
        self._indexes: dict[str, Index[T, Any]] = {}
        for index in indexes:
            self.add_index(index)
        codec = Codec(resource, metrics=metrics)
        self._codec = codec
        self._transforms = {s.namespace: checked_transform(s.transform) for s in self.scopes if s.transform is not None}
        self._watchers = {
            s.namespace: Watcher(
                resource,
                self,
                host,
                codec,
                metrics=metrics,
                namespace=s.namespace,
                label_selector=s.label_selector,
                field_selector=s.field_selector,
                rules=rules,
            )
            for s in self.scopes
        }
        self._unlisted = set(names)
        self._tasks: asyncio.TaskGroup | None = None
        self._released = False
        self._started = False
        self._started_at: float | None = None
        self._synced_at: float | None = None
        self._synced = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._bytes: tuple[int, float, int] = (-1, 0.0, 0)

    # Handlers.

    def add_handler(self, handler: Handler, *, resync: float | None = None, name: str = "") -> Registration:
        """Call *handler* with every change from now on, and first with the present content (INF3).

        *resync* is a period in seconds, at least 1 (ConfigError); by default there is none (INF7).
        """
        label = name or f"{self.resource}:{getattr(handler, '__qualname__', type(handler).__name__)}"
        registration = Registration(
            handler, name=label, clock=self._clock, rng=self._host.rng, resync=resync, on_remove=self._removed
        )
        if self._stopping.is_set():
            registration.close()
            return registration
        # No await from the look at the store to the place in the list: nothing can be missed or told twice.
        registration.replay(self._objects())
        self._registrations.append(registration)
        if self.has_synced:
            registration.seal()
        if self._tasks is not None:
            self._tasks.create_task(registration.run(self._objects))
        return registration

    def _removed(self, registration: Registration) -> None:
        if registration in self._registrations:
            self._registrations.remove(registration)
        if self._released and not self._registrations:
            self._stopping.set()

    async def release(self) -> None:
        """Say that nobody reads the store any more: without handlers it stops now, else with the last one (INF4)."""
        self._released = True
        if not self._registrations:
            await self.stop()

    def hold(self) -> bool:
        """Say that somebody reads the store again; False when it is too late, because it stops."""
        self._released = self._released and self._stopping.is_set()
        return not self._stopping.is_set()

    @property
    def released(self) -> bool:
        """Whether :meth:`release` was called."""
        return self._released

    @property
    def handlers(self) -> int:
        """How many handlers there are."""
        return len(self._registrations)

    def add_index(self, index: Index[T, Any]) -> None:
        """Add *index*, also over what is stored (STO1); the same one twice is one. ConfigError if its name is taken."""
        if self._indexes.get(index.name) != index:
            self._tell(self.store.add_index(index))
            self._indexes[index.name] = index

    # Life.

    async def run(self) -> None:
        """List, watch and tell until cancelled or stopped. Once only."""
        if self._started:
            raise RuntimeError(f"the informer of {self.resource} was run before")
        self._started = True
        self._started_at = self._clock.monotonic()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                own = [tasks.create_task(watcher.run()) for watcher in self._watchers.values()]
                for registration in self._registrations:
                    tasks.create_task(registration.run(self._objects))
                await self._stopping.wait()
                for task in own:
                    task.cancel()
        finally:
            self._tasks = None
            self._stopping.set()
            self._close()
            self._ended.set()

    async def stop(self) -> None:
        """Stop, and wait until it has (INF4)."""
        self._stopping.set()
        self._close()
        if self._started:
            await self._ended.wait()

    def _close(self) -> None:
        for registration in tuple(self._registrations):
            registration.close()
        self._synced.set()

    @property
    def has_synced(self) -> bool:
        """Whether every scope has had its first complete list."""
        return not self._unlisted

    async def synced(self) -> None:
        """Wait until the store is complete. Raises SyncTimeout when the informer is stopped before."""
        await self._synced.wait()
        if not self.has_synced:
            raise SyncTimeout(f"the informer was stopped before it was complete: {self.describe()}")

    def describe(self) -> InformerStatus:
        """Return what it is doing (CAC7)."""
        unlisted = [w for w in self._watchers.values() if w.namespace in self._unlisted]
        worst = min(
            unlisted or self._watchers.values(),
            key=lambda w: (w.last_error is None, _ORDER.index(w.phase), w.namespace),
        )
        until = self._synced_at if self._synced_at is not None else self._clock.monotonic()
        return InformerStatus(
            resource=str(self.resource),
            phase=worst.phase,
            page=worst.page,
            objects=len(self.store),
            elapsed=until - self._started_at if self._started_at is not None else 0.0,
            synced=self.has_synced,
            last_error=str(worst.last_error) if worst.last_error is not None else "",
            waiting=tuple(w.namespace for w in unlisted if w.namespace),
            stale=self.store.stale + sum(w.refused for w in self._watchers.values()),
            pending=self.pending,
        )

    @property
    def missing(self) -> bool:
        """Whether the server does not serve the resource (CAC5)."""
        return any(w.missing for w in self._watchers.values())

    @property
    def last_error(self) -> Exception | None:
        """Why one of its reflectors waits, or None."""
        return next((w.last_error for w in self._watchers.values() if w.last_error is not None), None)

    @property
    def pending(self) -> int:
        """How many changes wait for slow handlers."""
        return sum(r.pending for r in self._registrations)

    def event_age(self) -> float | None:
        """Seconds since the quietest of its watches has heard anything; None before the first word."""
        heard = [w.heard_at for w in self._watchers.values() if w.heard_at is not None]
        return self._clock.monotonic() - min(heard) if heard else None

    def store_bytes(self) -> int:
        """Return the estimated bytes of the store: measured at most once a minute, unless it grew or shrank by 5 %."""
        count, at, size = self._bytes
        now, have = self._clock.monotonic(), len(self.store)
        if count < 0 or abs(have - count) > count * 0.05 or now - at > 60.0:
            size = self.store.estimated_bytes()
            self._bytes = (have, now, size)
        return size

    # What the reflectors bring (watcher.Sink).

    def staging(self, scope: str) -> Staging[T]:
        """Return an empty staging for a list of *scope*."""
        return self.store.staging(scope)

    def admit(self, obj: T | Unreadable, scope: str) -> T | Unreadable:
        """Return *obj* as it is stored: transformed, or as Unreadable when the transform fails (FRA6)."""
        transform = self._transforms.get(scope)
        if transform is not None and not isinstance(obj, Unreadable):
            try:
                obj = transform(obj)
            except Exception as error:  # noqa: BLE001 - a user's function; the object is quarantined as one of FRA5 is
                log.warning("transform failed", resource=str(self.resource), key=str(obj.key), error=repr(error))
                return Unreadable(
                    api_version=obj.api_version,
                    kind=obj.kind,
                    metadata=obj.metadata,
                    problem=f"transform failed: {type(error).__name__}",
                )
        if self._mutations is not None:
            self._mutations.track(obj)
        return obj

    def apply(self, events: Sequence[Event[T]], scope: str) -> None:
        """Apply data events in order, each to the store and then to the handlers, without a task in between (FRA8)."""
        for registration in self._registrations:
            registration.begin()
        for event in events:
            obj = event.object
            if obj is None:
                continue
            if event.type is EventType.DELETED:
                changes = self.store.remove(obj)
            else:
                changes = self.store.put(self.admit(obj, scope))
            if changes:
                self._tell(changes)
            if event.version:
                self.store.advance(event.version, scope)

    def advance(self, version: str, scope: str) -> None:
        """Note that *scope* is whole up to *version* (REF12)."""
        self.store.advance(version, scope)

    async def replace(self, staging: Staging[T], version: str, *, streamed: bool) -> None:
        """Switch to a new list, then tell the handlers what changed: deletions first, then the rest (STO3)."""
        scope = staging.scope
        initial = scope in self._unlisted
        # Those who come while the changes are told get the new content by their replay, and must not get it twice.
        handlers = tuple(self._registrations)
        changes = self.store.replace(staging, version)
        if self._lists is not None and self._tasks is not None:
            listed = dict(staging.objects) if scope not in self._transforms else None
            if listed is not None:
                check = self._lists.check(self._host, self._codec, self._scope(scope), version, listed, streamed)
                self._tasks.create_task(check)
        for start in range(0, len(changes), CHUNK):
            for registration in handlers:
                registration.begin()
            for change in changes[start : start + CHUNK]:
                if initial and change.old is None:
                    change = Change(None, change.new, initial=True)
                for registration in handlers:
                    registration.offer(change)
            await self._clock.sleep(0)
        if initial:
            self._unlisted.discard(scope)
            if self.has_synced:
                self._synced_at = self._clock.monotonic()
                self._synced.set()
                for registration in tuple(self._registrations):
                    registration.seal()

    def _scope(self, namespace: str) -> Scope:
        return next(s for s in self.scopes if s.namespace == namespace)

    def _tell(self, changes: Sequence[Change[T]]) -> None:
        handlers = tuple(self._registrations)
        for change in changes:
            for registration in handlers:
                registration.offer(change)

    def _objects(self) -> Iterable[T | Unreadable]:
        return (*self.store.list(), *self.store.unreadable())
