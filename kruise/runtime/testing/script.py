"""A script: the steps of a scenario, in order, each of which must be taken.

Purpose: a fake that answers from a list lets a test pass when the code under test asks too little, because nobody looks
at what is left. A script looks.

Guarantees:

* TST3: what is left of a script at the end of :func:`every_step_taken` fails, and names the first step that nobody
  took; so does a step too many, at once. A body that failed by itself keeps its own error.

What this does not do: it does not know what the steps mean. A script is for steps whose number matters; a fake that
answers for ever is a function.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")


class Unscripted(AssertionError):
    """The script had no step left, or one too many."""


class Script(Generic[T]):
    """Steps that are taken one by one, from the first to the last."""

    __slots__ = ("_left", "name", "taken")

    def __init__(self, *steps: T, name: str = "the script") -> None:
        self.name: Final = name
        self.taken = 0
        """How many steps were taken."""
        self._left: deque[T] = deque(steps)
        if _watched:
            _watched[-1].append(self)

    def add(self, *steps: T) -> None:
        """Write more steps behind the last one."""
        self._left.extend(steps)

    def take(self) -> T:
        """Return the next step; raise :class:`Unscripted` when there is none."""
        if not self._left:
            raise Unscripted(f"{self.name} has no step left after {self.taken}")
        self.taken += 1
        return self._left.popleft()

    def done(self) -> None:
        """Raise :class:`Unscripted` when a step is left."""
        if self._left:
            total = self.taken + len(self._left)
            raise Unscripted(f"{self.name}: {self.taken} of {total} steps were taken, the next is {self._left[0]!r}")

    def drop(self) -> None:
        """Take off what is left: for steps that were drawn by chance, so that nobody can say whether they come."""
        self._left.clear()

    def __len__(self) -> int:
        """Count the steps that are left."""
        return len(self._left)

    def __bool__(self) -> bool:
        """Tell whether a step is left."""
        return bool(self._left)


_watched: Final[list[list[Script[Any]]]] = []


@contextlib.contextmanager
def every_step_taken() -> Iterator[None]:
    """Fail when a script that was made inside has a step left at the end. Nested blocks look after their own."""
    scripts: list[Script[Any]] = []
    _watched.append(scripts)
    try:
        yield
    finally:
        _watched.remove(scripts)
    _all_done(scripts)


def _all_done(scripts: Iterable[Script[Any]]) -> None:
    for script in scripts:
        script.done()
