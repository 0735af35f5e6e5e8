"""The work queue of a controller: which key is reconciled next, and when.

Purpose: the contract of client-go's rate limiting queue, with the priorities of controller-runtime's, in one thread.

* **Fair**: keys of a band are handed out in the order in which they became ready.
* **Stingy**: a key is never with two workers at once, and many adds before it is handed out give one run.
* **Many producers, many consumers**: an add while the key runs makes it run once more, after ``done``.
* **Shutdown** is notified: :meth:`Queue.get` raises QueueClosed.

Guarantees:

* QUE1: dirty, processing and delayed sets as in client-go (``queue_state.py``, property-tested against a model).
* QUE2: of several wishes the earliest wins; one timer is armed for the whole queue, in slots of 10 ms, because arming a
  timer costs more than everything else here. A key is never handed out early.
* QUE3, QUE4, QUE5: failures count once per run, events do not cut a back-off short, and :meth:`Queue.reset` puts a
  changed object back to the first step. Success forgets; the worker loop does that.
* QUE6: :meth:`Queue.close` drops what waits; :meth:`Queue.drain` also waits for the workers. Later adds do nothing.
* QUE7, QUE8: the highest priority wins, a bumped key goes to the tail, and 30 s of waiting move a key up one band.
* QUE10: no lock. Wake-ups are batched: all adds of one pass of the event loop cost one callback.
* QUE11: depth, unfinished work and the longest run are computed when they are scraped.
* QUE12: :meth:`Queue.stats` and :meth:`Queue.dump`.
* QUE13: a gated key counts as waiting, sits in no heap, and :meth:`Queue.ungate` wakes it without a back-off.
* QUE14: with a batch period, a key is not handed out again for events before the period since the end of its last run
  is over: what comes meanwhile makes one run. The first event after a pause goes at once. Whoever names a time
  (``after``) gets it; a failed run waits for its back-off if that is longer.

What this does not do: it persists nothing. What is dropped on the way down is found again by the next first list. A
batch period puts events off by up to itself and one slot of the timer; how many come together it does not promise.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from kruise.runtime.clock import Clock
from kruise.runtime.controller.queue_state import AGEING, Item, KeyInfo, KeyState, QueueState
from kruise.runtime.controller.ratelimit import RateLimiter
from kruise.runtime.errors import QueueClosed
from kruise.runtime.metrics import EXCEEDED, Metrics, Sample
from kruise.runtime.objects import Key

__all__ = ["LOW", "Item", "KeyInfo", "KeyState", "Queue", "QueueStats"]

LOW: Final = -100
"""The priority of backlog: first lists and resyncs (HAN3)."""
SLOT: Final = 0.010
"""Seconds to which the timer is rounded up (QUE2)."""
MAX_PRIORITIES: Final = 25
"""How many values the label ``priority`` takes before the rest shares one (QUE11)."""
YIELD_AFTER: Final = 256
"""After how many keys :meth:`Queue.add_many` lets others run (QUE10)."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What a queue holds now (QUE12)."""

    name: str
    ready: int
    delayed: int
    gated: int
    running: int
    adds: int
    retries: int
    oldest: float
    """Seconds for which the longest waiting key has been ready; 0 when none waits."""
    longest_run: float
    """Seconds for which the longest running worker has its key."""
    closed: bool
    depth: Mapping[int, int] = field(default_factory=dict)
    """Keys that wait, ready or gated, per priority."""


class Queue:
    """Keys that wait for a worker. Not thread-safe, and needs no lock: everything happens between two awaits."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        metrics: Metrics,
        limiter: RateLimiter,
        ageing: float = AGEING,
        batch_period: float = 0.0,
    ) -> None:
        """Make the queue of the controller *name*, which is both ``name`` and ``controller`` in its metrics.

        Events that come within *batch_period* seconds after a run of their key make one run together (QUE14); zero,
        the default, hands every key out at once. Raises ValueError when it is negative.
        """
        if batch_period < 0:
            raise ValueError(f"queue {name}: {batch_period=}: want 0 or more seconds")
        self.name = name
        self.on_reset: Callable[[Key], None] | None = None
        """Called when a key is reset: its object is another one than before (QUE4)."""
        self._clock = clock
        self._state = QueueState(limiter, ageing=ageing, batch_period=batch_period)
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._wake_up: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._closed = False
        self._idle = asyncio.Event()
        self._adds = self._retries = 0
        self._priorities = {0: "0", LOW: str(LOW)}

        labels = (name, name)
        self._adds_total = metrics.queue_adds.labels(*labels)
        self._retries_total = metrics.queue_retries.labels(*labels)
        self._queue_duration = metrics.queue_duration.labels(*labels)
        self._work_duration = metrics.work_duration.labels(*labels)
        metrics.queue_depth.add(self._scrape_depth)
        metrics.queue_unfinished.add(lambda: [Sample(labels, sum(self._run_times()))])
        metrics.queue_longest.add(lambda: [Sample(labels, max(self._run_times(), default=0.0))])

    @property
    def gate(self) -> Callable[[Key], bool] | None:
        """Tells whether a key is held back for now; asked when it would be handed out (QUE13)."""
        return self._state.gate

    @gate.setter
    def gate(self, gate: Callable[[Key], bool] | None) -> None:
        self._state.gate = gate

    @property
    def closed(self) -> bool:
        """Whether the queue was shut down."""
        return self._closed

    def __len__(self) -> int:
        """How many keys are known, waiting or running."""
        return len(self._state)

    def add(self, key: Key, *, priority: int = 0, after: float = 0.0) -> None:
        """Ask for a run of *key* in *after* seconds: now, when it is zero or less. Does nothing after close."""
        if self._closed:
            return
        if self._state.add(key, self._clock.monotonic(), priority=priority, after=after):
            self._adds += 1
            self._adds_total.inc()
        self._kick()

    async def add_many(
        self, keys: Iterable[Key], *, priority: int = 0, after: float = 0.0, batch: int = YIELD_AFTER
    ) -> None:
        """Add *keys*, *batch* of them in one step, and let other tasks run between the steps (QUE10)."""
        for count, key in enumerate(keys, 1):
            self.add(key, priority=priority, after=after)
            if count % batch == 0:
                await self._clock.sleep(0)

    def add_rate_limited(self, key: Key, *, priority: int | None = None) -> None:
        """Ask for another run of *key* when its back-off is over. Counts one failure per run (QUE3).

        Without *priority*, that of the failed run holds.
        """
        if self._closed:
            return
        self._retries += 1
        self._retries_total.inc()
        if self._state.add_failed(key, self._clock.monotonic(), priority=priority):
            self._adds += 1
            self._adds_total.inc()
        self._kick()

    async def get(self) -> Item:
        """Wait for the next key; it is the caller's until ``done``. Can be cancelled without losing a key.

        Raises QueueClosed after :meth:`close` or :meth:`drain`.
        """
        while True:
            item = self.get_nowait()
            if item is not None:
                return item
            # A delayed key may have been added before any loop ran.
            self._kick()
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._kick()  # this wake-up was meant for a key: pass it on
                elif waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise

    def get_nowait(self) -> Item | None:
        """Return the next key, or ``None`` when none can run now. Raises QueueClosed after close."""
        if self._closed:
            raise QueueClosed(f"the work queue of {self.name} is shut down")
        popped = self._state.pop(self._clock.monotonic())
        if popped is None:
            return None
        item, waited = popped
        self._queue_duration.observe(waited)
        return item

    def done(self, key: Key) -> None:
        """End the run of *key*. It becomes ready again when it was added meanwhile. Ignores a key that does not run."""
        length = self._state.done(key, self._clock.monotonic())
        if length is None:
            return
        self._work_duration.observe(length)
        if self._closed:
            if not self._state.running:
                self._idle.set()
        else:
            self._kick()

    def forget(self, key: Key) -> None:
        """Drop the failures of *key* (QUE5)."""
        self._state.forget(key)

    def reset(self, key: Key) -> None:
        """Put *key* back to the first step of its back-off: its spec changed, or its deletion began (QUE4)."""
        self._state.reset(key, self._clock.monotonic())
        if self.on_reset is not None:
            self.on_reset(key)
        if not self._closed:
            self._kick()

    def ungate(self, key: Key) -> None:
        """Wake a key that the gate held back, at once and at its old place (QUE13). Others are left alone."""
        if self._state.ungate(key, self._clock.monotonic()):
            self._kick()

    def close(self) -> None:
        """Drop everything that waits; make every getter raise QueueClosed. Runs under way may still end (QUE6)."""
        if self._closed:
            return
        self._closed = True
        self._state.drop_waiting()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._wake_up is not None:
            self._wake_up.cancel()
            self._wake_up = None
        while self._waiters:
            _release(self._waiters.popleft())
        if not self._state.running:
            self._idle.set()

    async def drain(self, deadline: float) -> tuple[Key, ...]:
        """Close, and wait up to *deadline* seconds for the runs under way. Return the keys that still run (QUE6).

        Can be cancelled; the queue stays closed.
        """
        self.close()
        try:
            async with asyncio.timeout(deadline):
                await self._idle.wait()
        except TimeoutError:
            return self._state.running_keys()
        return ()

    def stats(self) -> QueueStats:
        """Return what the queue holds now (QUE12). Costs one pass over its keys."""
        now = self._clock.monotonic()
        waiting = list(self._state.waiting())
        return QueueStats(
            name=self.name,
            ready=self._state.ready,
            delayed=self._state.delayed,
            gated=self._state.gated,
            running=self._state.running,
            adds=self._adds,
            retries=self._retries,
            oldest=max((now - since for _, since in waiting), default=0.0),
            longest_run=max(self._run_times(), default=0.0),
            closed=self._closed,
            depth=dict(Counter(priority for priority, _ in waiting)),
        )

    def dump(self) -> tuple[KeyInfo, ...]:
        """Return every key with its state, for ``/debug/queue`` (QUE12)."""
        return self._state.dump(self._clock.monotonic())

    def _kick(self) -> None:
        """Make sure that whoever can run will run: wake the getters once per pass, and arm the one timer."""
        if self._state.ready and self._waiters and self._wake_up is None:
            self._wake_up = self._waiters[0].get_loop().call_soon(self._wake)
        if self._state.delayed:
            self._arm()

    def _wake(self) -> None:
        self._wake_up = None
        wanted = self._state.ready
        while wanted and self._waiters:
            # A getter that was cancelled a moment ago may still stand here, and would waste the wake-up.
            wanted -= _release(self._waiters.popleft())

    def _arm(self) -> None:
        due = self._state.next_due()
        if due is None:
            return
        at = math.ceil(due / SLOT) * SLOT
        if at < due:  # the product of two floats may fall short of what it rounds up
            at = due
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # filled before the loop runs: the first get arms it
        self._timer_at = at
        self._timer = loop.call_at(at, self._due)

    def _due(self) -> None:
        # The loop may call up to its clock's resolution early: what the timer was set for is due.
        now = max(self._timer_at, self._clock.monotonic())
        self._timer = None
        self._state.advance(now)
        self._kick()

    def _run_times(self) -> list[float]:
        now = self._clock.monotonic()
        return [max(0.0, now - since) for since in self._state.runs()]

    def _scrape_depth(self) -> list[Sample]:
        counts: Counter[str] = Counter()
        for priority, _ in self._state.waiting():
            counts[self._priority_label(priority)] += 1
        known = dict.fromkeys(self._priorities.values(), 0) | counts
        return [Sample((self.name, self.name, label), count) for label, count in known.items()]

    def _priority_label(self, priority: int) -> str:
        label = self._priorities.get(priority)
        if label is None:
            if len(self._priorities) >= MAX_PRIORITIES:
                return EXCEEDED
            label = self._priorities[priority] = str(priority)
        return label


def _release(waiter: asyncio.Future[None]) -> bool:
    if waiter.done():
        return False
    waiter.set_result(None)
    return True
