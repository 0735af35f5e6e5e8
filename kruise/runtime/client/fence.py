"""What stands between a write and a lost lease.

Purpose: code that only a leader may run sends its writes through a :class:`Fence`; the elector's term is one.

Guarantees:

* CLI9, LEA7: every mutating call asks :meth:`Fence.check` at dispatch and before each retry, and never outlives
  :meth:`Fence.deadline`.

What this does not do: it cannot stop a write that the server has already taken. That is why every write is
conditional as well.
"""

from __future__ import annotations

from typing import Protocol


class Fence(Protocol):
    """The right to write, for a while."""

    def check(self) -> None:
        """Raise Fenced when the right is gone. Never blocks."""
        ...

    def deadline(self) -> float | None:
        """Return how many seconds a mutating call may still take; ``None`` when nothing limits it."""
        ...
