"""Read your own writes: no plan for a key while the cache is older than what that key last wrote.

Purpose: a controller that created a pod must not plan again on a cache without that pod: it would create a second one
(controller-runtime#3320, KEP-5647). The work queue asks :meth:`ConsistencyTracker.blocked` before it hands out a key.

Expected flow:

1. The client reports each successful write of key *k* with :meth:`ConsistencyTracker.wrote`.
2. *k* is blocked until the stores cover all of them. No worker waits; the key simply stays in the queue.
3. The store's heap of waiters calls back exactly when due; after the last one ``on_ready(k)`` wakes the queue.
4. After ``deadline`` seconds *k* is let go nonetheless, and :meth:`ConsistencyTracker.expired` says so until the cache
   has caught up: plan on live reads.

Guarantees:

* CON1: a create or patch is seen when the store's version covers the version that the server returned, in the scope of
  that namespace; bookmarks count. Versions without an order are awaited by the equality of the object's own version.
* CON2: a deletion is awaited by uid, until the store shows it gone or replaced. Where the server's answer named a
  version, because the object lingers for its grace period, that version is enough: the cache then shows it terminating.
* CON3: the breaker, with one log line that names what was awaited, and one count.
* CON4: an entry ends when it is seen, when its owner is forgotten, or at the latest after five minutes.
* CON5: each owner waits for its own writes only.
* CON6: the gate covers our own writes only. What others wrote is protected by the resourceVersion of each patch.

What this does not do: a resource that nobody caches is not awaited, because no plan can have been made from its cache.
A dry run reports no writes, since they would never show up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kruise.runtime.cache.store import Store
from kruise.runtime.clock import Clock
from kruise.runtime.errors import ResourceNotCached
from kruise.runtime.log import get_logger
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Resource, compare_versions

GIVE_UP_AFTER: Final = 300.0
"""Seconds after which an entry is dropped, whatever the cache shows (CON4)."""

log = get_logger("consistency")


class Write(Protocol):
    """What the client reports of a write that the server has answered with success."""

    @property
    def verb(self) -> str: ...
    @property
    def resource(self) -> Resource[Any]: ...
    @property
    def key(self) -> Key: ...
    @property
    def uid(self) -> str: ...
    @property
    def version(self) -> str: ...


class Stores(Protocol):
    """Where the stores are found: a :class:`~kruise.runtime.cache.cache.Cache`."""

    def store(self, resource: Resource[Any]) -> Store[Any]: ...


@dataclass(slots=True, eq=False)
class _Wait:
    """One thing that an owner waits for: a version of one scope of a store, or one object."""

    owner: Key
    what: tuple[Any, ...]
    write: Write
    store: Store[Any]
    since: float
    tripped: bool = False
    done: bool = False
    cancels: list[Callable[[], None]] = field(default_factory=list)

    def cancel(self) -> None:
        for cancel in self.cancels:
            cancel()
        self.cancels.clear()


class ConsistencyTracker:
    """The gate of one controller. Use it from the event loop only; :meth:`close` it at the end."""

    def __init__(
        self, controller: str, cache: Stores, *, clock: Clock, metrics: Metrics, deadline: float = 10.0
    ) -> None:
        self.on_ready: Callable[[Key], None] | None = None
        """Called with a key that is no longer blocked: wakes the queue."""
        self._controller = controller
        self._cache = cache
        self._clock = clock
        self._deadline = deadline
        self._owners: dict[Key, dict[tuple[Any, ...], _Wait]] = {}
        # Deadlines are all equally long, so that the order of arrival is the order of expiry.
        self._due: deque[tuple[float, _Wait]] = deque()
        self._old: deque[tuple[float, _Wait]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._waited = metrics.consistency_wait.labels(controller)
        self._skipped = metrics.consistency_skipped.labels(controller)
        self._timeouts = metrics.consistency_timeouts.labels(controller)

    def wrote(self, owner: Key, write: Write) -> None:
        """Note that *owner* has made *write*, and hold it back until the cache shows it."""
        store = self._store(write.resource)
        if store is None:
            return
        try:
            store.progress(write.key.namespace)
        except ResourceNotCached:
            return
        ordered = compare_versions(write.version, "1") is not None
        what: tuple[Any, ...]
        if write.verb == "delete" or not ordered:
            what = (write.resource, write.key, write.uid, write.verb == "delete")
        else:
            what = (write.resource, write.key.namespace)
        waits = self._owners.setdefault(owner, {})
        wait = waits.get(what)
        if wait is not None and not wait.tripped and len(what) == 2:
            # A plan that writes a hundred pods waits once, for the highest version.
            order = compare_versions(write.version, wait.write.version)
            if order is not None and order <= 0:
                return
        if wait is not None:
            self._drop(wait)
            waits = self._owners.setdefault(owner, {})
        wait = _Wait(owner, what, write, store, self._clock.monotonic())
        waits[what] = wait
        self._due.append((wait.since + self._deadline, wait))
        self._arm()
        self._await(wait, ordered)

    def _await(self, wait: _Wait, ordered: bool) -> None:
        write, store = wait.write, wait.store

        def seen() -> None:
            self._seen(wait)

        if write.verb == "delete":
            self._await_gone(wait)
            if not write.version or wait.done:
                return
        elif not ordered:
            have = store.raw(write.key)
            if have is not None and have.resource_version == write.version:
                seen()
                return
        cancel = store.on_version(write.version, seen, namespace=write.key.namespace)
        if wait.done:
            cancel()
            wait.cancel()
        else:
            wait.cancels.append(cancel)

    def _await_gone(self, wait: _Wait) -> None:
        write, store = wait.write, wait.store
        have = store.raw(write.key)
        if have is None or have.uid != write.uid:
            # Created and deleted before the cache showed it: absent does not mean gone yet. It is, once the cache has
            # come to the creation and does not show the object then.
            made = self._creation(wait)
            if made is not None:
                again = store.on_version(made.version, lambda: self._await_gone(wait), namespace=write.key.namespace)
                wait.cancels.append(again)
                return
        if not wait.done:
            wait.cancels.append(store.on_gone(write.key, write.uid, lambda: self._seen(wait)))

    def _creation(self, wait: _Wait) -> Write | None:
        waits = self._owners.get(wait.owner, {})
        write = wait.write
        for what in ((write.resource, write.key.namespace), (write.resource, write.key, write.uid, False)):
            other = waits.get(what)
            if other is not None and not wait.store.progress(write.key.namespace).covers(other.write.version):
                return other.write
        return None

    def blocked(self, owner: Key) -> bool:
        """Tell whether *owner* must wait. Counts each time that it must."""
        waits = self._owners.get(owner)
        if waits and any(not wait.tripped for wait in waits.values()):
            self._skipped.inc()
            return True
        return False

    def expired(self, owner: Key) -> bool:
        """Tell whether a wait of *owner* ran into its deadline and the cache still lacks the write: read live."""
        waits = self._owners.get(owner)
        return waits is not None and any(wait.tripped for wait in waits.values())

    def forget(self, owner: Key) -> None:
        """Drop everything of *owner*: it is gone."""
        for wait in self._owners.pop(owner, {}).values():
            wait.done = True
            wait.cancel()
        self._arm()

    def pending(self) -> int:
        """Return how many entries there are, tripped ones included."""
        return sum(map(len, self._owners.values()))

    def awaited(self) -> Mapping[Key, tuple[str, ...]]:
        """Return per owner what it waits for, in words; for dumps."""
        return {owner: tuple(_text(w) for w in waits.values()) for owner, waits in self._owners.items()}

    def close(self) -> None:
        """Forget every owner and stop the timer."""
        for owner in tuple(self._owners):
            self.forget(owner)
        self._due.clear()
        self._old.clear()
        self._arm()

    def _store(self, resource: Resource[Any]) -> Store[Any] | None:
        for asked in (resource, resource.partial()):
            try:
                return self._cache.store(asked)
            except ResourceNotCached:
                continue
        return None

    def _seen(self, wait: _Wait) -> None:
        if wait.done:
            return
        self._waited.observe(self._clock.monotonic() - wait.since)
        held = not wait.tripped
        self._drop(wait)
        waits = self._owners.get(wait.owner)
        if held and not (waits and any(not w.tripped for w in waits.values())):
            self._ready(wait.owner)
        self._arm()

    def _drop(self, wait: _Wait) -> None:
        wait.done = True
        wait.cancel()
        waits = self._owners.get(wait.owner)
        if waits is not None and waits.get(wait.what) is wait:
            del waits[wait.what]
            if not waits:
                del self._owners[wait.owner]

    def _ready(self, owner: Key) -> None:
        if self.on_ready is not None:
            self.on_ready(owner)

    def _arm(self) -> None:
        for queue in (self._due, self._old):
            while queue and queue[0][1].done:
                queue.popleft()
        firsts = [queue[0][0] for queue in (self._due, self._old) if queue]
        if not firsts:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        when = min(firsts)
        if self._timer is None or self._timer.when() > when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(when, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        ready: dict[Key, None] = {}
        while self._due and (self._due[0][1].done or self._due[0][0] <= now):
            wait = self._due.popleft()[1]
            if wait.done:
                continue
            wait.tripped = True
            self._old.append((wait.since + GIVE_UP_AFTER, wait))
            self._timeouts.inc()
            log.warning(
                "the cache does not show a write of this process, going on with live reads",
                controller=self._controller,
                key=str(wait.owner),
                awaited=_text(wait),
                seconds=round(now - wait.since, 3),
            )
            ready[wait.owner] = None
        while self._old and (self._old[0][1].done or self._old[0][0] <= now):
            wait = self._old.popleft()[1]
            if not wait.done:
                self._drop(wait)
        self._arm()
        for owner in ready:
            waits = self._owners.get(owner)
            if not (waits and any(not w.tripped for w in waits.values())):
                self._ready(owner)


def _text(wait: _Wait) -> str:
    write = wait.write
    at = wait.store.progress(write.key.namespace).version or "nothing"
    if write.verb == "delete" and not write.version:
        return f"deletion of {write.resource} {write.key} (uid {write.uid})"
    return f"{write.verb} of {write.resource} {write.key}: version {write.version}, the store is at {at}"
