"""How many writes may be on their way at once.

Purpose: as many as the API server bears, and fairly among those who wait. At 5 ms a write, one at a time gives 150
writes a second and 64 at a time give 5,000; a server that says 429 gets fewer.

Guarantees (RES4):

* One window per process, because 429 is said to the client, not to one owner. It holds 16 to 64 writes: one more for
  each full round of answers, half when a 429 comes or when the 99th percentile of the last 100 answers is over 1 s.
  One burst of 429 halves once: answers to writes that were sent before the cut say nothing about the new size.
* Owners that wait are served round robin; an owner alone may use the whole window.
* Within an owner, a write that goes on with a sequence which has begun comes before those that begin one: otherwise
  every second write of a rollout would stand behind all first ones (``write_ahead``).
* A cancelled waiter loses its place, never a slot.

What this does not do: the lease does not pass here, and neither do reads.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Self

from kruise.runtime.clock import Clock

SMALLEST: Final = 16
LARGEST: Final = 64
SAMPLES: Final = 100
"""How many answers the 99th percentile is taken over."""
SLOW: Final = 1.0
"""Seconds: a 99th percentile above this halves the window."""

write_owner: ContextVar[str] = ContextVar("kruise_write_owner", default="")
"""On whose behalf the present task writes: a worker sets it to its key. Unset, the controller is the owner."""

write_ahead: ContextVar[bool] = ContextVar("kruise_write_ahead", default=False)
"""Whether the present task goes on with a sequence of writes that has begun: it passes its owner's other writes."""


class _Line:
    """Those of one owner who wait."""

    __slots__ = ("_begun", "_new")

    def __init__(self) -> None:
        self._begun: deque[asyncio.Future[None]] = deque()
        self._new: deque[asyncio.Future[None]] = deque()

    def append(self, future: asyncio.Future[None], *, ahead: bool) -> None:
        (self._begun if ahead else self._new).append(future)

    def popleft(self) -> asyncio.Future[None]:
        return (self._begun or self._new).popleft()

    def discard(self, future: asyncio.Future[None]) -> None:
        for queue in (self._begun, self._new):
            if future in queue:
                queue.remove(future)

    def __len__(self) -> int:
        return len(self._begun) + len(self._new)


class Slot:
    """The right to have one write under way. Own it with ``async with``."""

    __slots__ = ("_owner", "_window")

    def __init__(self, window: WriteWindow, owner: str) -> None:
        self._window = window
        self._owner = owner

    async def __aenter__(self) -> Self:
        await self._window.enter(self._owner)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._window.leave()

    def answered(self, status: int, *, sent_at: float, latency: float) -> None:
        """Report an answer, or with status 0 that none came: when its write was sent, and after how many seconds."""
        self._window.answered(status, sent_at=sent_at, latency=latency)


class WriteWindow:
    """The window of one process."""

    def __init__(self, clock: Clock, *, smallest: int = SMALLEST, largest: int = LARGEST) -> None:
        self._clock = clock
        self._smallest = smallest
        self._largest = largest
        self._size = smallest
        self._busy = 0
        self._round = 0
        self._cut_at = -math.inf
        self._latencies: deque[float] = deque(maxlen=SAMPLES)
        self._waiting: OrderedDict[str, _Line] = OrderedDict()

    @property
    def size(self) -> int:
        """How many writes may be under way at once, now."""
        return self._size

    @property
    def busy(self) -> int:
        """How many writes are under way."""
        return self._busy

    @property
    def waiting(self) -> int:
        """How many writes wait for a slot."""
        return sum(map(len, self._waiting.values()))

    def slot(self, owner: str) -> Slot:
        """Return a slot for *owner*; entering it waits for a place, and can be cancelled."""
        return Slot(self, owner)

    async def enter(self, owner: str) -> None:
        """Take a place for *owner*. Prefer :meth:`slot`."""
        if self._busy < self._size and not self._waiting:
            self._busy += 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, _Line()).append(future, ahead=write_ahead.get())
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                # The place was given in the same turn in which the waiter was cancelled: hand it on.
                self.leave()
            else:
                self._forget(owner, future)
            raise

    def _forget(self, owner: str, future: asyncio.Future[None]) -> None:
        line = self._waiting.get(owner)
        if line is not None:
            line.discard(future)
            if not line:
                del self._waiting[owner]

    def leave(self) -> None:
        """Give a place back."""
        self._busy -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._busy < self._size:
            owner, line = next(iter(self._waiting.items()))
            future = line.popleft()
            if line:
                self._waiting.move_to_end(owner)
            else:
                del self._waiting[owner]
            if not future.done():
                self._busy += 1
                future.set_result(None)

    def answered(self, status: int, *, sent_at: float, latency: float) -> None:
        """Learn from one answer; see :meth:`Slot.answered`."""
        if status == 429:
            self._cut(sent_at)
            return
        self._latencies.append(latency)
        if latency > SLOW and len(self._latencies) == SAMPLES:
            rank = math.ceil(SAMPLES * 0.99) - 1
            if sorted(self._latencies)[rank] > SLOW:
                self._cut(sent_at)
                return
        if status == 0:
            return  # a connection that is refused at once is no sign that the server bears more
        self._round += 1
        if self._round >= self._size:
            self._round = 0
            if self._size < self._largest:
                self._size += 1
                self._admit()

    def _cut(self, sent_at: float) -> None:
        self._round = 0
        if sent_at < self._cut_at:
            return
        self._cut_at = self._clock.monotonic()
        self._latencies.clear()
        self._size = max(self._smallest, self._size // 2)
