"""One subscriber of an informer: what it has still to be told, and its turn to be told.

Purpose: a handler that keeps up is called at once; one that does not gets the net change later, from a map that holds
one entry per object at most. It delays nobody and its memory has a bound.

Guarantees:

* INF1: per object a handler sees a sub-sequence of the states, ending in the last one, and every deletion of an object
  that it has seen.
* INF2: :meth:`Registration.synced` returns when this handler has been called for the whole first list.
* INF4: after :meth:`Registration.remove` has returned the handler is not called again.
* INF5: at most one pending change per key. An addition and a deletion that were both not yet told cancel out.
* INF6: a handler has 50 ms; a slower call is logged, an exception is logged and counted, and stops nobody.
* INF7: with ``resync`` every object is offered again from time to time, without a request to the server.

What this does not do: it is no thread. A handler that blocks blocks the event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final

from kruise.runtime.cache.store import Change, Handler
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ConfigError, SyncTimeout
from kruise.runtime.log import SLOW, get_logger, slow
from kruise.runtime.objects import Key, Object

SLICE: Final = 0.002
"""Seconds after which a handler that works off its backlog lets others run."""
RESYNC_JITTER: Final = 0.1

log = get_logger("informer")


def merge(first: Change[Any], then: Change[Any]) -> Change[Any] | None:
    """Return the net change of two changes of one key, or None when they cancel out.

    The result may hold two incarnations of an object; :func:`calls` takes them apart.
    """
    if then.new is not None:
        if first.resync:
            return then if then.old is not None else Change(first.old, then.new)
        return Change(
            first.old,
            then.new,
            initial=first.initial and first.old is None,
            final_state_known=first.final_state_known if first.new is None else True,
            resync=False,
        )
    if first.old is None:
        return None
    same = then.old is not None and then.old.uid == first.old.uid
    return Change(then.old if same else first.old, None, final_state_known=same and then.final_state_known)


def calls(change: Change[Any]) -> Iterable[Change[Any]]:
    """Return the calls that tell *change*: two when the object was deleted and made again (STO5)."""
    if change.old is not None and change.new is not None and change.old.uid != change.new.uid:
        return (Change(change.old, None, final_state_known=False), Change(None, change.new))
    return (change,)


class Registration:
    """A handler at an informer. Made by :meth:`~kruise.runtime.cache.informer.Informer.add_handler`."""

    def __init__(
        self,
        handler: Handler,
        *,
        name: str,
        clock: Clock,
        rng: Random,
        resync: float | None = None,
        on_remove: Callable[[Registration], None],
    ) -> None:
        if resync is not None and resync < 1.0:
            raise ConfigError(f"resync of {name} every {resync:g} s: the shortest period is 1 s")
        self.name = name
        self.errors = 0
        """How many calls have raised (INF6)."""
        self._handler = handler
        self._clock = clock
        self._rng = rng
        self._resync = resync
        self._on_remove = on_remove
        self._pending: OrderedDict[Key, Change[Any]] = OrderedDict()
        self._first: set[Key] | None = None
        self._spent = 0.0
        self._closed = False
        self._running = False
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        self._synced = asyncio.Event()

    @property
    def has_synced(self) -> bool:
        """Whether the handler has been called for the whole first list."""
        return self._synced.is_set() and not self._closed

    @property
    def pending(self) -> int:
        """How many objects wait to be told."""
        return len(self._pending)

    async def synced(self) -> None:
        """Wait until this handler has been called for the whole first list (INF2). Can be cancelled.

        Raises SyncTimeout when the handler or its informer is gone before.
        """
        await self._synced.wait()
        if self._closed:
            raise SyncTimeout(f"handler {self.name} was removed before it had seen the whole list")

    async def remove(self) -> None:
        """Take the handler away; once this returns it is not called again (INF4). Not from within the handler."""
        self.close()
        if self._running:
            await self._ended.wait()

    def close(self) -> None:
        """Stop calling the handler, and let go of whoever waits for :meth:`synced`."""
        if self._closed:
            return
        self._closed = True
        self._pending.clear()
        self._closing.set()
        self._synced.set()
        self._on_remove(self)

    # For the informer.

    def begin(self) -> None:
        """Begin a batch: the handler has its whole budget again."""
        self._spent = 0.0

    def offer(self, change: Change[Any]) -> None:
        """Tell *change* now if the handler keeps up, else later."""
        if self._closed:
            return
        if self._pending or self._spent > SLOW.handler:
            self._defer(change)
        else:
            self._tell(change)

    def replay(self, objects: Iterable[Object]) -> None:
        """Queue *objects* as additions of the first list (INF3)."""
        for obj in objects:
            self._pending[obj.key] = Change(None, obj, initial=True)
        self._wake.set()

    def seal(self) -> None:
        """The first list is complete: what is pending now is the rest of it (INF2)."""
        if self._first is None and not self._synced.is_set():
            self._first = set(self._pending)
            self._check_synced()

    async def run(self, objects: Callable[[], Iterable[Object]]) -> None:
        """Work off what is pending until closed. *objects* returns what a resync offers again."""
        self._running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                own = [tasks.create_task(self._drain())]
                if self._resync is not None:
                    own.append(tasks.create_task(self._resync_loop(self._resync, objects)))
                await self._closing.wait()
                for task in own:
                    task.cancel()
        finally:
            self._ended.set()

    def _defer(self, change: Change[Any]) -> None:
        key = change.key
        before = self._pending.get(key)
        if before is None:
            self._pending[key] = change
        else:
            after = merge(before, change)
            if after is None:
                del self._pending[key]
                self._settled(key)
            else:
                self._pending[key] = after
        self._wake.set()

    async def _drain(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                until = self._clock.monotonic() + SLICE
                while self._pending:
                    key, change = self._pending.popitem(last=False)
                    self._tell(change)
                    self._settled(key)
                    if self._clock.monotonic() >= until:
                        break
                await self._clock.sleep(0)

    async def _resync_loop(self, period: float, objects: Callable[[], Iterable[Object]]) -> None:
        await self._synced.wait()
        while True:
            await self._clock.sleep(period * (1 + RESYNC_JITTER * self._rng.random()))
            for obj in objects():
                self._pending.setdefault(obj.key, Change(obj, obj, resync=True))
            self._wake.set()

    def _tell(self, change: Change[Any]) -> None:
        for call in calls(change):
            if self._closed:
                return
            started = self._clock.monotonic()
            try:
                self._handler(call)
            except Exception:
                # One subscriber's defect is no reason to keep the others from the news (INF6).
                self.errors += 1
                log.exception("handler raised", handler=self.name, key=str(call.key), count=self.errors)
            took = self._clock.monotonic() - started
            self._spent += took
            if took > slow().handler:
                log.warning("slow handler", handler=self.name, key=str(call.key), seconds=round(took, 3))

    def _settled(self, key: Key) -> None:
        if self._first is not None:
            self._first.discard(key)
            self._check_synced()

    def _check_synced(self) -> None:
        if self._first is not None and not self._first:
            self._first = None
            self._synced.set()
