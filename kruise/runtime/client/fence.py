"""What stands between a write and a lost lease.

Purpose: code that only a leader may run sends its writes through a :class:`Fence`; the elector's term is one.

Guarantees:

* CLI9, LEA7: every mutating call asks :meth:`Fence.check` at dispatch and before each retry, and never outlives
  :meth:`Fence.deadline`.

What this does not do: it cannot stop a write that the server has already taken. That is why every write is
conditional as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, Protocol, TypeVar


class Fence(Protocol):
    """The right to write, for a while."""

    def check(self) -> None:
        """Raise Fenced when the right is gone. Never blocks."""
        ...

    def deadline(self) -> float | None:
        """Return how many seconds a mutating call may still take; ``None`` when nothing limits it."""
        ...


T = TypeVar("T")

_EARLY: Final = 0.02
"""Seconds before the end of a call at which the fence is asked whether the end has moved."""


async def within(fence: Fence, seconds: float, call: Awaitable[T]) -> T:
    """Await *call* for as long as *fence* allows, and for *seconds* at most (reliability, rule 21).

    Each renewal of the lease moves the end, so a slow answer (a foreign webhook) costs a leader nothing, and a leader
    that cannot renew has nothing on the wire when another one may lead. Raises TimeoutError at the end.
    """
    loop = asyncio.get_running_loop()
    last = loop.time() + seconds

    def end() -> float:
        left = fence.deadline()
        return last if left is None else min(last, loop.time() + left)

    async with asyncio.timeout_at(end()) as scope:
        timer: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal timer
            when, until = scope.when(), end()
            if when is not None and until > when + _EARLY and not scope.expired():
                scope.reschedule(until)
                timer = loop.call_at(until - _EARLY, look)

        when = scope.when()
        assert when is not None
        timer = loop.call_at(when - _EARLY, look)
        try:
            return await call
        finally:
            timer.cancel()
