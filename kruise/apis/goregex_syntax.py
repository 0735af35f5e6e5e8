r"""The syntax of Go's regular expressions: from a text to a tree.

Guarantees:

* Groups, flags, classes, escapes and repetition of RE2; no look-around, no backreferences. What Go refuses is refused
  here in its words.
* Expressions nest at most 200 deep, so that no text exhausts the stack.

What this does not do: it matches nothing (``goregex``), and keeps no difference that a plain search cannot see: greedy
and lazy, capturing or not. Of the scripts of Unicode it knows those that reach into ASCII, Latin and Common; general
categories it knows all.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["Either", "Node", "One", "Place", "RegexError", "Repeat", "Row", "Test", "parse", "syntax_error"]

WORD: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class RegexError(ValueError):
    """A text that is no expression. The message is Go's."""


Test = Callable[[str], bool]

_MAX_REPEAT: Final = 1000
_MAX_DEPTH: Final = 200
_FLAGS: Final = frozenset("imsU")
_PERL: Final = {"d": frozenset("0123456789"), "s": frozenset("\t\n\f\r "), "w": WORD}
_CONTROL: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ASCII: Final = "".join(map(chr, range(128)))
_POSIX: Final = {
    name: frozenset(filter(test, _ASCII))
    for name, test in {
        "alnum": str.isalnum,
        "alpha": str.isalpha,
        "ascii": str.isascii,
        "blank": lambda c: c in "\t ",
        "cntrl": lambda c: c < " " or c == "\x7f",
        "digit": str.isdigit,
        "graph": lambda c: "!" <= c <= "~",
        "lower": str.islower,
        "print": lambda c: " " <= c <= "~",
        "punct": lambda c: "!" <= c <= "~" and not c.isalnum(),
        "space": lambda c: c in "\t\n\v\f\r ",
        "upper": str.isupper,
        "word": WORD.__contains__,
        "xdigit": lambda c: c in "0123456789abcdefABCDEF",
    }.items()
}
_MINORS: Final = {"C": "cfos", "L": "lmotu", "M": "cen", "N": "dlo", "P": "cdefios", "S": "ckmo", "Z": "lps"}
_CATEGORIES: Final = frozenset(major + minor for major, minors in _MINORS.items() for minor in ("", *minors))


@dataclass(frozen=True, slots=True)
class One:
    """One character that passes a test."""

    test: Test


@dataclass(frozen=True, slots=True)
class Place:
    """A place between characters: ``A`` and ``z`` of the text, ``^`` and ``$`` of a line, ``b`` and ``B`` of a word."""

    place: str


@dataclass(frozen=True, slots=True)
class Row:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of several."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """From *low* to *high* times; ``None``: without end."""

    part: Node
    low: int
    high: int | None


Node = One | Place | Row | Either | Repeat


def syntax_error(code: str, text: str) -> RegexError:
    """Return the error *code* about the part *text* of an expression."""
    return RegexError(f"error parsing regexp: {code}: `{text}`")


def _same(char: str, fold: bool) -> Test:
    if not fold:
        return lambda c: c == char
    folded = char.casefold()
    return lambda c: c.casefold() == folded


# ---- reading ---------------------------------------------------------------------------------------------------------


def parse(text: str) -> Node:
    """Return the tree of the expression *text*. Raises RegexError."""
    return _Parser(text).parse()


class _Parser:
    """One pass over one expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        node, _ = self._alternatives(frozenset())
        if self._at < len(self._text):
            raise syntax_error("unexpected )", self._text)
        return node

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _alternatives(self, flags: frozenset[str]) -> tuple[Node, frozenset[str]]:
        """Read up to a closing parenthesis or the end. Flags that are set inside stay set behind a ``|``."""
        branches: list[Node] = []
        while True:
            node, flags = self._row(flags)
            branches.append(node)
            if not self._peek("|"):
                return (branches[0] if len(branches) == 1 else Either(tuple(branches))), flags
            self._at += 1

    def _row(self, flags: frozenset[str]) -> tuple[Node, frozenset[str]]:
        parts: list[Node] = []
        repeated = -1  # where the operator began that made the last part, for `a**`
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            start = self._at
            bounds = self._repetition()
            if bounds is not None:
                self._at += self._peek("?")
                written = self._text[start : self._at]
                if not parts:
                    raise syntax_error("missing argument to repetition operator", written)
                if repeated >= 0:
                    raise syntax_error("invalid nested repetition operator", self._text[repeated : self._at])
                parts.append(Repeat(parts.pop(), *bounds))
                if not _within(parts[-1], _MAX_REPEAT):
                    raise syntax_error("invalid repeat count", written)
                repeated = start
                continue
            repeated = -1
            char = self._text[self._at]
            if char == "(":
                group, flags = self._group(flags)
                parts += group
            else:
                parts += self._atom(char, flags)
        return Row(tuple(parts)), flags

    def _repetition(self) -> tuple[int, int | None] | None:
        """Take ``*``, ``+``, ``?`` or ``{n,m}``; anything else is no repetition."""
        char = self._text[self._at]
        if char in "*+?":
            self._at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        end = self._text.find("}", self._at) if char == "{" else -1
        low, comma, high = self._text[self._at + 1 : end].partition(",") if end > 0 else ("", "", "")
        if not _is_count(low) or (high and not _is_count(high)):
            return None
        written = self._text[self._at : end + 1]
        bounds = (_count(low), _count(high) if high else None if comma else _count(low))
        if bounds[0] > _MAX_REPEAT or (bounds[1] is not None and not bounds[0] <= bounds[1] <= _MAX_REPEAT):
            raise syntax_error("invalid repeat count", written)
        self._at = end + 1
        return bounds

    def _group(self, flags: frozenset[str]) -> tuple[list[Node], frozenset[str]]:
        """Read a group, or flags for the rest of the group around."""
        inner = flags
        if any(self._peek(begin) and len(self._text) > self._at + len(begin) for begin in ("(?P<", "(?<")):
            self._name()
        elif self._peek("(?"):
            inner, closed = self._flags(flags)
            if closed:
                return [], inner
        else:
            self._at += 1
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise syntax_error("expression nests too deeply", self._text)
        node, _ = self._alternatives(inner)
        if not self._peek(")"):
            raise syntax_error("missing closing )", self._text)
        self._at += 1
        self._depth -= 1
        return [node], flags

    def _name(self) -> None:
        end = self._text.find(">", self._at)
        if end < 0:
            raise syntax_error("invalid named capture", self._text[self._at :])
        written = self._text[self._at : end + 1]
        name = written.partition("<")[2][:-1]
        if not name or not all(c in WORD for c in name):
            raise syntax_error("invalid named capture", written)
        self._at = end + 1

    def _flags(self, flags: frozenset[str]) -> tuple[frozenset[str], bool]:
        """Read ``(?i)`` or ``(?i:``; tell whether the parenthesis is closed."""
        start = self._at
        self._at += 2
        change: set[str] = set(flags)
        negative = seen = False
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if char in _FLAGS:
                (change.discard if negative else change.add)(char)
                seen = True
            elif char == "-" and not negative:
                negative, seen = True, False
            elif char in ":)" and (seen or not negative):
                return frozenset(change), char == ")"
            else:
                break
        raise syntax_error("invalid or unsupported Perl syntax", self._text[start : self._at])

    def _atom(self, char: str, flags: frozenset[str]) -> list[Node]:
        fold = "i" in flags
        if char == "[":
            return [One(self._set(fold))]
        if char == "\\":
            return self._backslash(fold)
        self._at += 1
        if char == ".":
            return [One((lambda _: True) if "s" in flags else (lambda c: c != "\n"))]
        if char in "^$":
            return [Place(char if "m" in flags else {"^": "A", "$": "z"}[char])]
        return [One(_same(char, fold))]

    def _backslash(self, fold: bool) -> list[Node]:
        following = self._text[self._at + 1 : self._at + 2]
        if following in ("A", "z", "b", "B") and following:
            self._at += 2
            return [Place(following)]
        if following == "Q":
            quoted, _, _ = self._text[self._at + 2 :].partition("\\E")
            self._at = min(len(self._text), self._at + 2 + len(quoted) + 2)
            return [One(_same(char, fold)) for char in quoted]
        return [One(self._class_escape(fold) or _same(self._escape(), fold))]

    def _class_escape(self, fold: bool) -> Test | None:
        r"""Take ``\d``, ``\pL`` and their like; ``None`` for the escape of one character."""
        following = self._text[self._at + 1 : self._at + 2]
        if following and following.lower() in _PERL:
            self._at += 2
            members, negative = _PERL[following.lower()], following.isupper()
            return lambda c: (c in members) is not negative
        if following not in ("p", "P"):
            return None
        start = self._at
        self._at += 2
        if self._peek("{"):
            end = self._text.find("}", self._at)
            if end < 0:
                raise syntax_error("invalid character class range", self._text[start:])
            name, self._at = self._text[self._at + 1 : end], end + 1
        else:
            name, self._at = self._text[self._at : self._at + 1], self._at + 1
        negative = (following == "P") is not name.startswith("^")
        found = _property(name.removeprefix("^"))
        if found is None:
            raise syntax_error("invalid character class range", self._text[start : self._at])
        if fold:
            return lambda c: any(map(found, (c, c.lower(), c.upper()))) is not negative
        return lambda c: found(c) is not negative

    def _escape(self) -> str:
        """Take the escape of one character."""
        start, text = self._at, self._text
        if start + 1 >= len(text):
            raise syntax_error("trailing backslash at end of expression", "")
        char, self._at = text[start + 1], start + 2
        if char in _CONTROL:
            return _CONTROL[char]
        if char.isascii() and not char.isalnum():
            return char
        digits = ""
        if char == "x" and self._peek("{"):
            end = text.find("}", self._at)
            digits, self._at = text[self._at + 1 : end], end + 1 if end > 0 else len(text)
        elif char == "x":
            digits, self._at = text[self._at : self._at + 2], self._at + 2
            digits = digits if len(digits) == 2 else ""
        elif char == "0" or (char in "1234567" and text[self._at : self._at + 1] in tuple("01234567")):
            while self._at < start + 4 and text[self._at : self._at + 1] in tuple("01234567"):
                self._at += 1
            return chr(int(text[start + 1 : self._at], 8))
        if digits and all(c in "0123456789abcdefABCDEF" for c in digits) and int(digits, 16) <= 0x10FFFF:
            return chr(int(digits, 16))
        raise syntax_error("invalid escape sequence", text[start : self._at])

    def _set(self, fold: bool) -> Test:
        start = self._at
        self._at += 1
        negative = self._peek("^")
        self._at += negative
        tests: list[Test] = []
        first = True
        while first or not self._peek("]"):
            if self._at >= len(self._text):
                raise syntax_error("missing closing ]", self._text[start:])
            tests.append(self._member(fold, start))
            first = False
        self._at += 1
        return lambda c: any(test(c) for test in tests) is not negative

    def _member(self, fold: bool, start: int) -> Test:
        """Read one item of a class: a named class, an escaped one, a character or a range."""
        if self._peek("[:") and (end := self._text.find(":]", self._at + 2)) >= 0:
            written = self._text[self._at : end + 2]
            name, negative = written[2:-2].removeprefix("^"), written.startswith("[:^")
            if name not in _POSIX:
                raise syntax_error("invalid character class range", written)
            self._at = end + 2
            members = _POSIX[name]
            return lambda c: (c in members) is not negative
        if self._peek("\\") and (test := self._class_escape(fold)) is not None:
            return test
        begin = self._at
        low = high = self._literal(start)
        if self._peek("-") and not self._peek("-]") and self._at + 1 < len(self._text):
            self._at += 1
            high = self._literal(start)
            if high < low:
                raise syntax_error("invalid character class range", self._text[begin : self._at])
        if fold:
            return lambda c: any(low <= form <= high for form in (c, c.lower(), c.upper()))
        return lambda c: low <= c <= high

    def _literal(self, start: int) -> str:
        if self._peek("\\"):
            return self._escape()
        if self._at >= len(self._text):
            raise syntax_error("missing closing ]", self._text[start:])
        self._at += 1
        return self._text[self._at - 1]


def _within(node: Node, times: int) -> bool:
    """Tell whether repetitions inside each other come to at most *times*."""
    match node:
        case Repeat(part, low, high):
            count = low if high is None else high
            return count <= times and _within(part, times // count if count else times)
        case Row(parts) | Either(parts):
            return all(_within(part, times) for part in parts)
        case _:
            return True


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")


def _count(text: str) -> int:
    return int(text) if len(text) < 5 else _MAX_REPEAT + 1


def _property(name: str) -> Test | None:
    if name == "Any":
        return lambda _: True
    if name in _CATEGORIES:
        return lambda c: unicodedata.category(c).startswith(name)
    if name == "Latin":
        return lambda c: c.isalpha() and unicodedata.name(c, "").startswith("LATIN ")
    if name == "Common":
        return lambda c: c.isascii() and not c.isalpha()
    return None
