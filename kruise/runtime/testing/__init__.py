"""What a test of a controller needs: virtual time, a wait that knows it, and eyes for what is left behind.

Purpose: one place to import from. ``loop.py`` has the loop, the clock and the runner; ``tape.py`` the choices of a
seeded run; ``script.py`` steps that must all be taken; ``leaks.py`` the blocks that see what a test leaves behind.

Guarantees: those of the modules (CLK2, CLK3, CLK4, TST3, TST4).

What this does not do: it is never imported by production code.
"""

from __future__ import annotations

from kruise.runtime.testing.leaks import nothing_left, nothing_left_running
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
from kruise.runtime.testing.script import Script, Unscripted, every_step_taken
from kruise.runtime.testing.tape import Tape

__all__ = [
    "EPOCH",
    "Deadlock",
    "HarnessError",
    "Leak",
    "Livelock",
    "Refused",
    "Script",
    "Tape",
    "TimeLimit",
    "Unscripted",
    "VirtualClock",
    "VirtualLoop",
    "eventually",
    "every_step_taken",
    "nothing_left",
    "nothing_left_running",
    "run_virtual",
]
