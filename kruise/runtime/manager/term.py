"""The term of a leader, which is the fence that every leader-only write passes.

Purpose: one small object that knows until when this process may write, shared by the elector that moves it and the
clients that ask it.

Guarantees:

* LEA7: a write is refused with Fenced from one second before the renew deadline on, and always outside a term. No
  write may stay on the wire for longer than the renew deadline plus the lease gap, 30 s at most; each renewal moves
  both (rule 21 of the reliability rules).
* CLK2: all of it is counted in boot time, so a machine that slept wakes up fenced.
* G10: a write is dispatched before the renew deadline of its term, or not at all.

What this does not do: it cannot call back a write that has left. A process that is frozen between the check and the
socket can still send one; conditional writes make that harmless.
"""

from __future__ import annotations

from typing import Final

from kruise.runtime.clock import Clock
from kruise.runtime.errors import Fenced
from kruise.runtime.manager.lease import Durations
from kruise.runtime.metrics import Metrics

FENCE_MARGIN: Final = 1.0
"""Seconds before the renew deadline from which on no write is sent."""
LONGEST_WRITE: Final = 30.0
"""Seconds: no write stays on the wire for longer, whatever the term allows."""


class Term:
    """The time for which this process leads; the fence of leader-only writes (LEA7).

    It exists before the lease is gained, closed. It opens once, and never again after it was closed.
    """

    __slots__ = ("_clock", "_deadline", "_durations", "_fenced", "_opened", "transitions")

    def __init__(self, name: str, durations: Durations, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._durations = durations
        self._deadline: float | None = None
        self._opened = False
        self._fenced = metrics.fenced_writes.labels(name)
        self.transitions = 0
        """The number of this term: ``leaseTransitions`` of the Lease. It stands in the user agent of every write."""

    @property
    def ever(self) -> bool:
        """Whether this process has led at any time."""
        return self._opened

    @property
    def ended(self) -> bool:
        """Whether the term was closed. It stays so."""
        return self._opened and self._deadline is None

    def extend(self, deadline: float, transitions: int) -> None:
        """Move the renew deadline, in boot time; the first call opens the term."""
        if self.ended:
            raise RuntimeError("a term that has ended cannot begin again")
        self._opened = True
        self._deadline = deadline
        self.transitions = transitions

    def close(self) -> None:
        """End the term: every write from now on is refused."""
        self._deadline = None
        self._opened = True

    def remaining(self) -> float:
        """Return the seconds until the renew deadline; negative after it, and without a lease."""
        return -1.0 if self._deadline is None else self._deadline - self._clock.boottime()

    def valid(self, margin: float = 0.0) -> bool:
        """Tell whether the term goes on for more than *margin* seconds."""
        return self.remaining() > margin

    def check(self) -> None:
        """Raise Fenced unless a write may be sent now."""
        if self.valid(FENCE_MARGIN):
            return
        self._fenced.inc()
        if self._deadline is None:
            raise Fenced("this process does not hold the lease; nothing was sent")
        raise Fenced(
            f"the renew deadline is {self.remaining():.1f} s away, less than {FENCE_MARGIN:g} s; nothing was sent"
        )

    def deadline(self) -> float:
        """Return the seconds for which a write that is on the wire may still wait; each renewal moves it.

        It is the renew deadline plus the lease gap: nobody else can lead before that. 0 after the end of the term.
        """
        if self._deadline is None:
            return 0.0
        return min(LONGEST_WRITE, max(0.0, self.remaining() + self._durations.gap))
