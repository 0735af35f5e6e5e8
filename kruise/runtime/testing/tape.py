"""The tape: every choice of a simulated run, as one list of small integers.

Purpose: whatever a run leaves to chance (which callback is next, how long a delay is, which fault strikes) is drawn
here, so that a run is its tape and a tape is its run.

Guarantees:

* CLK4: a tape has a seed that it can show; the same seed gives the same choices.
* TST5: the choices of a run are recorded, and a tape made from a record gives them again.

What this does not do: it knows nothing of what is chosen. A replayed tape that runs out goes on with first choices,
which is what a shrinker wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from kruise.runtime.clock import Random

T = TypeVar("T")


class Tape:
    """Draws numbers from a seed and remembers them."""

    __slots__ = ("_replay", "_rng", "drawn", "seed")

    def __init__(self, seed: int = 0, *, replay: Iterable[int] | None = None) -> None:
        self.seed = seed
        self.drawn: list[int] = []
        """Every choice so far."""
        self._rng = Random(seed)
        self._replay = None if replay is None else iter(tuple(replay))

    def draw(self, choices: int) -> int:
        """Return a number in ``range(choices)``; 0 without a draw when there is no choice."""
        if choices <= 1:
            return 0
        if self._replay is None:
            value = self._rng.randrange(choices)
        else:
            value = next(self._replay, 0) % choices
        self.drawn.append(value)
        return value

    def pick(self, options: Sequence[T]) -> T:
        """Return one of *options*, which must not be empty."""
        return options[self.draw(len(options))]

    def chance(self, per_mille: int) -> bool:
        """Return True in *per_mille* of 1000 draws."""
        return per_mille > 0 and self.draw(1000) < per_mille
