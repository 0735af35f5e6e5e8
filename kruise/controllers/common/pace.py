"""The pace of status writes: the first and the decisive change at once, the rest at most twice a second.

Purpose: a rollout of a thousand pods changes the counts of its owner a thousand times; a reader needs two a second.

Guarantees: the window opens at the first change and later changes do not move it, so an event storm cannot postpone a
write for ever; an entry goes with its owner.

What this does not do: it compares nothing and writes nothing; the caller tells whether there is a change, and asks
whether now is the time.
"""

from __future__ import annotations

from typing import Final

STATUS_PERIOD: Final = 0.5
"""Seconds between two status writes of one object that are neither the first nor decisive (performance 4.6)."""


class StatusPace:
    """Remembers per owner uid when its status was last written. Times are monotonic seconds."""

    def __init__(self, period: float = STATUS_PERIOD) -> None:
        self._period = period
        self._last: dict[str, float] = {}

    def wait(self, uid: str, now: float, *, decisive: bool) -> float:
        """Return for how many seconds a changed status of *uid* must still wait; 0 means: write it now.

        *decisive* is a first status, an end, or a word that the user waits for.
        """
        last = self._last.get(uid)
        if decisive or last is None:
            return 0.0
        return max(0.0, last + self._period - now)

    def wrote(self, uid: str, now: float) -> None:
        """Note that the status of *uid* was written at *now*."""
        self._last[uid] = now

    def forget(self, uid: str) -> None:
        """Drop the entry of an owner that is gone."""
        self._last.pop(uid, None)

    def __len__(self) -> int:
        return len(self._last)
