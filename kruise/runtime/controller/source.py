"""Where keys come from.

Purpose: a source fills a work queue for as long as it runs: from an informer, from other code, from time, or from a
function.

Guarantees:

* SRC1: a source has ``start(queue)``, which runs until it is cancelled and owns whatever it starts, and ``synced()``,
  which returns when what existed at the start is in the queue. Sources can be added at any time
  (``Controller.watch``).
* HAN2: an exception in a predicate or a handler is logged and counted, and costs that one change.
* CTL8: sources need no leadership. They fill the queue of a standby, where keys coalesce.

What this does not do: a source that fails is not restarted here; the controller does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from kruise.runtime.cache.store import Change
from kruise.runtime.clock import Clock, Random
from kruise.runtime.controller.handler import EventHandler
from kruise.runtime.controller.predicate import Predicate
from kruise.runtime.controller.queue import Queue
from kruise.runtime.log import get_logger
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key

log = get_logger("source")


class Source(Protocol):
    """Something that fills a queue."""

    @property
    def name(self) -> str:
        """What it is, for logs and for the reason of not being ready."""
        ...

    async def start(self, queue: Queue) -> None:
        """Fill *queue* until cancelled. Returns early when nothing more can come."""
        ...

    async def synced(self) -> None:
        """Wait until everything that existed at the start is in the queue. Never raises but when cancelled."""
        ...

    def pending(self) -> str | None:
        """Return what :meth:`synced` waits for, for a person; ``None`` when it is synced."""
        ...


class HandlerRegistration(Protocol):
    """What an informer returns for a handler."""

    async def synced(self) -> None: ...

    async def remove(self) -> None: ...


class ChangeFeed(Protocol):
    """What a Kind needs of an informer."""

    def add_handler(
        self, handler: Callable[[Change[Any]], None], *, resync: float | None = None, name: str = ""
    ) -> HandlerRegistration: ...

    def describe(self) -> Any:
        """Return a status that says in words how far the informer is."""
        ...


class Kind:
    """The objects of an informer. The informer itself is the cache's to run."""

    def __init__(
        self,
        informer: ChangeFeed,
        handler: EventHandler,
        predicates: Sequence[Predicate] = (),
        *,
        name: str,
        controller: str,
        metrics: Metrics,
        resync: float | None = None,
    ) -> None:
        """Send the changes that pass all *predicates* to *handler*; *resync* seconds apart, all objects once more."""
        self.name = name
        self._informer = informer
        self._handler = handler
        self._predicates = tuple(predicates)
        self._resync = resync
        self._panics = metrics.reconcile_panics.labels(controller)
        self._controller = controller
        self._synced = asyncio.Event()

    async def start(self, queue: Queue) -> None:
        registration = self._informer.add_handler(
            lambda change: self._dispatch(change, queue), resync=self._resync, name=self._controller
        )
        try:
            await registration.synced()
            self._synced.set()
            await _for_ever()
        finally:
            await registration.remove()

    async def synced(self) -> None:
        await self._synced.wait()

    def pending(self) -> str | None:
        return None if self._synced.is_set() else str(self._informer.describe())

    def _dispatch(self, change: Change[Any], queue: Queue) -> None:
        try:
            seen = change
            for predicate in self._predicates:
                passed = predicate.apply(seen)
                if passed is None:
                    return
                seen = passed
            self._handler(seen, queue)
        except Exception as error:  # user code: it may cost one change, never the informer (HAN2)
            self._panics.inc()
            log.error(
                "a handler failed, the change is skipped",
                controller=self._controller,
                source=self.name,
                key=str(change.key),
                exc_info=error,
            )


class Channel:
    """Keys that other code sends. What comes before the start is kept, each key once."""

    def __init__(self, name: str = "channel") -> None:
        self.name = name
        self._buffer: dict[Key, int] = {}
        self._queue: Queue | None = None
        self._synced = asyncio.Event()

    def send(self, key: Key, *, priority: int = 0) -> None:
        """Enqueue *key*, or keep it until the source is started. Never blocks; bounded by the number of keys."""
        if self._queue is not None:
            self._queue.add(key, priority=priority)
        else:
            self._buffer[key] = max(priority, self._buffer.get(key, priority))

    async def start(self, queue: Queue) -> None:
        for key, priority in self._buffer.items():
            queue.add(key, priority=priority)
        self._buffer.clear()
        self._queue = queue
        self._synced.set()
        try:
            await _for_ever()
        finally:
            self._queue = None

    async def synced(self) -> None:
        await self._synced.wait()

    def pending(self) -> str | None:
        return None if self._synced.is_set() else f"{self.name}: not started"


class Interval:
    """Keys from a function, at the start and then every so many seconds."""

    def __init__(
        self,
        seconds: float,
        keys: Callable[[], Iterable[Key]],
        *,
        clock: Clock,
        rng: Random,
        priority: int = 0,
        jitter: float = 0.1,
        name: str = "interval",
    ) -> None:
        """Wait *seconds*, and up to *jitter* of it more, so that many of these do not beat together."""
        if seconds <= 0:
            raise ValueError(f"interval of {seconds} s: want more than 0")
        self.name = name
        self._seconds = seconds
        self._keys = keys
        self._clock = clock
        self._rng = rng
        self._priority = priority
        self._jitter = jitter
        self._synced = asyncio.Event()

    async def start(self, queue: Queue) -> None:
        while True:
            await queue.add_many(self._keys(), priority=self._priority)
            self._synced.set()
            await self._clock.sleep(self._seconds * (1 + self._jitter * self._rng.random()))

    async def synced(self) -> None:
        await self._synced.wait()

    def pending(self) -> str | None:
        return None if self._synced.is_set() else f"{self.name}: the first keys are not there yet"


class Func:
    """A coroutine function of one's own that fills the queue. It counts as synced once it has begun."""

    def __init__(self, fill: Callable[[Queue], Awaitable[None]], name: str = "func") -> None:
        self.name = name
        self._fill = fill
        self._synced = asyncio.Event()

    async def start(self, queue: Queue) -> None:
        self._synced.set()
        await self._fill(queue)

    async def synced(self) -> None:
        await self._synced.wait()

    def pending(self) -> str | None:
        return None if self._synced.is_set() else f"{self.name}: not started"


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
