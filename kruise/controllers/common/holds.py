"""Back-off per part of an owner: what fails for one node or pod waits alone, and its owner goes on.

Purpose: a work queue backs off whole keys. A job of which one pod is refused must still see its other pods end, so the
failing part gets a delay of its own (reliability, rule 30).

Guarantees: 5 ms after the first failure, doubled per failure in a row up to 5 minutes, as the queue does it; an entry
goes when its part did well, is no longer wanted, or its owner changed.

What this does not do: it knows no clock and tries nothing; it says who has to wait, and until when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

FIRST_DELAY: Final = 0.005
MAX_DELAY: Final = 300.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A part that failed."""

    name: str
    """For people: the name of the node or pod."""
    error: Exception
    due: float
    """Monotonic seconds: when it may be tried again."""
    failures: int


class Holds:
    """The failing parts of one owner, by uid. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}

    def failed(self, uid: str, name: str, error: Exception, now: float) -> None:
        """Note that an attempt on *uid* failed at *now*."""
        old = self._holds.get(uid)
        failures = 1 if old is None else old.failures + 1
        delay = min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 30))
        self._holds[uid] = Hold(name, error, now + delay, failures)

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Drop every entry whose uid is not *wanted* any more."""
        for uid in [uid for uid in self._holds if not wanted(uid)]:
            del self._holds[uid]

    def clear(self) -> None:
        """Drop all of them: the owner is another one now."""
        self._holds.clear()

    def waiting(self, now: float) -> dict[str, bool]:
        """Return each failing uid, with True while it has to wait and False when it may be tried again."""
        return {uid: hold.due > now for uid, hold in self._holds.items()}

    def next_due(self, now: float) -> float | None:
        """Return the seconds from *now* until one more may be tried. One that may be tried already wakes nobody."""
        return min((hold.due - now for hold in self._holds.values() if hold.due > now), default=None)

    def __iter__(self) -> Iterator[tuple[str, Hold]]:
        return iter(self._holds.items())

    def __len__(self) -> int:
        return len(self._holds)
