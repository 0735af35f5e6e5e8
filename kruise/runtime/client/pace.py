"""How often a busy process looks at its sockets.

Purpose: a process that shares its machine is woken for every answer and every line of a watch, finds its caches cold,
does a little, and sleeps again. To be woken costs more than what it is woken for. So what comes soon after something
else waits a moment, and is read together with what has come meanwhile, as a network card gathers its interrupts.

Guarantees:

* TRA10: what comes after a pause is read at once. What follows is looked at once in a period, and then all of it. A
  process with so much to do that a turn takes a period never rests.

What this does not do: it delays nothing by more than a period, and knows nothing of what the news are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from kruise.runtime.clock import Clock, hold_up

__all__ = ["PERIOD", "Pace"]

PERIOD: Final = 0.01
"""Seconds from one look to the next, as the manager has it."""
SAME_LOOK: Final = 0.0005
"""Seconds between two pieces of news that one look has brought: what they cause runs between them."""


class Pace:
    """The looks of one process at its sockets. *rest* holds up the whole process."""

    __slots__ = ("_clock", "_heard_at", "_looked_at", "_period", "_rest")

    def __init__(self, clock: Clock, rest: Callable[[float], None] = hold_up, period: float = PERIOD) -> None:
        """Look once in *period* seconds, zero or more, where there is always news."""
        if not 0 <= period < math.inf:
            raise ValueError(f"{period=}: want 0 or more seconds")
        self._clock = clock
        self._rest = rest
        self._period = period
        self._looked_at = -math.inf
        self._heard_at = -math.inf

    def news(self) -> None:
        """Note that a socket has brought something; rest first, if the last look was a moment ago."""
        now = self._clock.monotonic()
        if now - self._heard_at > SAME_LOOK:
            wait = self._looked_at + self._period - now
            if wait > 0:
                self._rest(wait)
                now = self._clock.monotonic()
            self._looked_at = now
        self._heard_at = now
