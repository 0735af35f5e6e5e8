r"""Regular expressions as Go reads them, searched in linear time.

Purpose: users write expressions over names of containers and keys of annotations, and admission evaluates them. The
engine of Python reads another language, and an expression such as ``(a+)+$`` keeps it busy for ever (C8).

Guarantees:

* The language is that of Go's ``regexp``; what it refuses is refused here in its words (``goregex_syntax``).
* A search costs at most the length of the text times that of the expression: a set of states walks over the text once.
* An expression has at most 5,000 states; a longer one is refused as too large.

What this does not do: it returns no positions and no groups; it tells whether an expression is found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from kruise.apis.goregex_syntax import (
    WORD,
    Either,
    Node,
    One,
    Place,
    RegexError,
    Repeat,
    Row,
    Test,
    parse,
    syntax_error,
)

__all__ = ["Regex", "RegexError", "compile_regex"]

_MAX_STATES: Final = 5000


@dataclass(frozen=True, slots=True)
class _Step:
    """One state. With a test it takes a character; with a place it holds there; otherwise it goes on for free."""

    test: Test | None = None
    place: str = ""
    then: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Regex:
    """A compiled expression."""

    pattern: str
    _steps: tuple[_Step, ...]
    _start: int

    def search(self, text: str) -> bool:
        """Tell whether the expression is found anywhere in *text*."""
        live: set[int] = set()
        for at in range(len(text) + 1):
            # Begun anew at every place: the expression is not anchored.
            found = self._closure((*live, self._start), text, at)
            if found is None:
                return True
            if at < len(text):
                char = text[at]
                live = {step.then[0] for step in map(self._steps.__getitem__, found) if step.test and step.test(char)}
        return False

    def _closure(self, states: Iterable[int], text: str, at: int) -> set[int] | None:
        """Return the states that are reached without a character; ``None``: the end of the expression is."""
        reached: set[int] = set()
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state in reached:
                continue
            if state == 0:
                return None
            reached.add(state)
            step = self._steps[state]
            if step.test is None and (not step.place or _holds(step.place, text, at)):
                waiting += step.then
        return reached


def _holds(place: str, text: str, at: int) -> bool:
    before, after = text[at - 1 : at] if at else "", text[at : at + 1]
    match place:
        case "A":
            return at == 0
        case "z":
            return at == len(text)
        case "^":
            return before in ("", "\n")
        case "$":
            return after in ("", "\n")
        case _:
            return ((before in WORD) is not (after in WORD)) is (place == "b")


@lru_cache(maxsize=1024)
def compile_regex(pattern: str) -> Regex:
    r"""Return the expression *pattern*, ready to search.

    >>> compile_regex("^web-\\d+$").search("web-10")
    True

    :raises RegexError: when it is no expression of Go's
    """
    builder = _Builder(pattern)
    start = builder.add(parse(pattern), 0)
    return Regex(pattern, tuple(builder.steps), start)


class _Builder:
    """Builds states from the end to the beginning; state 0 is the end of the expression."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.steps = [_Step()]

    def _new(self, step: _Step) -> int:
        if len(self.steps) >= _MAX_STATES:
            raise syntax_error("expression too large", self._pattern)
        self.steps.append(step)
        return len(self.steps) - 1

    def add(self, node: Node, then: int) -> int:
        """Add the states of *node*, which goes on at the state *then*; return where it begins."""
        match node:
            case One(test):
                return self._new(_Step(test=test, then=(then,)))
            case Place(place):
                return self._new(_Step(place=place, then=(then,)))
            case Row(parts):
                for part in reversed(parts):
                    then = self.add(part, then)
                return then
            case Either(parts):
                return self._new(_Step(then=tuple(self.add(part, then) for part in parts)))
            case Repeat(part, low, high):
                return self._repeated(part, low, high, then)

    def _repeated(self, part: Node, low: int, high: int | None, then: int) -> int:
        if high is None:
            loop = self._new(_Step())
            begin = self.add(part, loop)
            self.steps[loop] = _Step(then=(begin, then))
            then = loop
        else:
            end = then
            for _ in range(high - low):
                then = self._new(_Step(then=(self.add(part, then), end)))
        for _ in range(low):
            then = self.add(part, then)
        return then
