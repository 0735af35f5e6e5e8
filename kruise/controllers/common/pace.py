"""The pace of status writes: what somebody waits for at once, the rest at most twice a second.

Purpose: a rollout of a thousand pods changes the counts of its owner a thousand times; a reader needs two a second.

Guarantees: a change opens a window of half a second, at whose end whatever the status is by then is written; later
changes do not move the window, so an event storm cannot postpone a write for ever (performance 4.6). A decisive change
waits for no window and closes it. An entry goes with its window, or with its owner.

What this does not do: it compares nothing and writes nothing; the caller tells whether there is a change, and asks
whether now is the time.
"""

from __future__ import annotations

from typing import Final

STATUS_PERIOD: Final = 0.5
"""Seconds for which a change that is not decisive waits for others."""


class StatusPace:
    """Remembers per owner uid since when its status has been out of date. Times are monotonic seconds."""

    def __init__(self, period: float = STATUS_PERIOD) -> None:
        self._period = period
        self._since: dict[str, float] = {}

    def wait(self, uid: str, now: float, *, decisive: bool) -> float:
        """Return for how many seconds a changed status of *uid* must still wait; 0 means: write it now.

        *decisive* is a first status, an end, or a word that the user waits for.
        """
        if decisive:
            return 0.0
        return max(0.0, self._since.setdefault(uid, now) + self._period - now)

    def left(self, uid: str, now: float) -> float:
        """Return for how many seconds the open window of *uid* stays open; 0 when none is open."""
        since = self._since.get(uid)
        return 0.0 if since is None else max(0.0, since + self._period - now)

    def settled(self, uid: str) -> None:
        """Note that the status of *uid* is written, or needs no write: the next change opens a new window."""
        self._since.pop(uid, None)

    def __len__(self) -> int:
        return len(self._since)
