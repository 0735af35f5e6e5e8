"""Back-off for pods that fail as soon as they are there.

Purpose: a pod that its node refuses, or that ends at once, is deleted and made again. Without a pause between two
rounds that is a loop at the speed of the API server: hundreds of pods a second, each one bound, refused and deleted.

Guarantees: the first failure of a name is replaced at once. One that follows within ten minutes waits: a second,
then twice as long each time, up to five minutes. Ten minutes without a failure, or :meth:`Replacements.clear`, and
everything is forgiven. At rest nothing is kept.

What this does not do: it deletes and creates nothing, and knows no clock: times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Replacement", "Replacements"]

FIRST_DELAY: Final = 1.0
MAX_DELAY: Final = 300.0
FORGIVEN_AFTER: Final = 600.0


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is known of a name whose pods fail."""

    failures: int
    due: float
    """When the next pod may be made."""


class Replacements:
    """The failing names of one owner."""

    def __init__(self) -> None:
        self._known: dict[str, Replacement] = {}

    def failed(self, name: str, now: float) -> None:
        """Note that the pod *name* failed and is gone, or on its way."""
        self._forgive(now)
        before = self._known.get(name)
        failures = 1 if before is None else before.failures + 1
        delay = 0.0 if failures == 1 else min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(failures - 2, 30))
        self._known[name] = Replacement(failures, now + delay)

    def waiting(self, now: float) -> dict[str, Replacement]:
        """Return the names that have to wait."""
        if not self._known:
            return {}
        self._forgive(now)
        return {name: one for name, one in self._known.items() if one.due > now}

    def next_due(self, now: float) -> float | None:
        """Return the seconds from *now* until one more may be made."""
        return min((one.due - now for one in self._known.values() if one.due > now), default=None)

    def clear(self) -> None:
        """Forgive everything: the owner is another one now."""
        self._known.clear()

    def _forgive(self, now: float) -> None:
        for name in [name for name, one in self._known.items() if now - one.due >= FORGIVEN_AFTER]:
            del self._known[name]

    def __len__(self) -> int:
        return len(self._known)
