"""What a test of a controller needs: virtual time, and a wait that knows it.

Purpose: one place to import from. ``loop.py`` has the loop, the clock and the runner; ``tape.py`` has the choices of a
seeded run.

Guarantees: those of the two modules (CLK2, CLK3, CLK4, TST3, TST4).

What this does not do: it is never imported by production code.
"""

from __future__ import annotations

from kruise.runtime.testing.loop import (
    EPOCH,
    Deadlock,
    HarnessError,
    Leak,
    Livelock,
    Refused,
    TimeLimit,
    VirtualClock,
    VirtualLoop,
    eventually,
    run_virtual,
)
from kruise.runtime.testing.tape import Tape

__all__ = [
    "EPOCH",
    "Deadlock",
    "HarnessError",
    "Leak",
    "Livelock",
    "Refused",
    "Tape",
    "TimeLimit",
    "VirtualClock",
    "VirtualLoop",
    "eventually",
    "run_virtual",
]
