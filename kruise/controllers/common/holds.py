"""Back-off per part of an owner: what fails for one node or pod waits alone, and its owner goes on.

Purpose: a work queue backs off whole keys. A job of which one pod is refused must still see its other pods end, so the
failing part gets a delay of its own (reliability, rule 30).

Guarantees: 5 ms after the first failure, doubled per failure in a row up to 5 minutes, as the queue does it; an entry
goes when its part did well, is no longer wanted, or its owner changed. A write whose outcome is not known may still
happen for a minute: as long a part is unsure, and its owner keeps room for it (reliability, rule 5).

What this does not do: it knows no clock and tries nothing; it says who has to wait, and until when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from kruise.runtime.errors import UnknownOutcome

FIRST_DELAY: Final = 0.005
MAX_DELAY: Final = 300.0
LANDS_WITHIN: Final = 60.0
"""Seconds after which the API server has given up a request itself, so that it cannot happen any more."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A part that failed."""

    name: str
    """For people: the name of the node or pod."""
    error: Exception
    due: float
    """Monotonic seconds: when it may be tried again."""
    failures: int
    unsure_until: float
    """Monotonic seconds: until then the write that failed may still happen. 0 when it certainly did not."""


class Holds:
    """The failing parts of one owner, by uid. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}

    def failed(self, uid: str, name: str, error: Exception, now: float, *, first: float = FIRST_DELAY) -> None:
        """Note that an attempt on *uid* failed at *now*. *first* is how long the first failure makes it wait."""
        old = self._holds.get(uid)
        failures = 1 if old is None else old.failures + 1
        delay = min(MAX_DELAY, first * 2.0 ** min(failures - 1, 30))
        # A refusal of a later attempt says nothing about an earlier one that is still on its way.
        unsure = now + LANDS_WITHIN if isinstance(error, UnknownOutcome) else (old.unsure_until if old else 0.0)
        self._holds[uid] = Hold(name, error, now + delay, failures, unsure)

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Drop every entry whose uid is not *wanted* any more."""
        for uid in [uid for uid in self._holds if not wanted(uid)]:
            del self._holds[uid]

    def clear(self) -> None:
        """Let nothing wait any more: the owner is another one now. What is unsure stays so."""
        kept = {uid: hold for uid, hold in self._holds.items() if hold.unsure_until}
        self._holds = {uid: replace(hold, due=0.0, failures=0) for uid, hold in kept.items()}

    def waiting(self, now: float) -> dict[str, bool]:
        """Return each failing uid, with True while it has to wait and False when it may be tried again."""
        return {uid: hold.due > now for uid, hold in self._holds.items()}

    def unsure(self, now: float) -> frozenset[str]:
        """Return the uids for which a write may still happen."""
        return frozenset(uid for uid, hold in self._holds.items() if hold.unsure_until > now)

    def next_due(self, now: float) -> float | None:
        """Return the seconds from *now* until one more may be tried, or is sure. What is past already wakes nobody."""
        times = (time for hold in self._holds.values() for time in (hold.due, hold.unsure_until))
        return min((time - now for time in times if time > now), default=None)

    def __iter__(self) -> Iterator[tuple[str, Hold]]:
        return iter(self._holds.items())

    def __len__(self) -> int:
        return len(self._holds)
