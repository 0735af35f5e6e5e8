"""Ordinals of a StatefulSet: which numbers its pods have, and which pod has which number.

Purpose: the arithmetic behind ``replicas``, ``ordinals.start`` and ``reserveOrdinals``, for everybody who asks.

Guarantees (spec/advanced-statefulset 2.2):

* Reservations are kept as spans: ``0-2000000000`` costs as much as ``3``. Asking whether an ordinal is valid, which
  slot it has and which ordinal a slot has takes time in the logarithm of the number of spans, whatever the replicas.
* Reading at run time and validation are two things: a malformed entry voids all reservations at run time, as it always
  did, and is refused by validation (section 16, rows 14 and 28).
* Only the canonical decimal form makes a member: ``web-00`` is no pod of ``web`` (row 30).
* An ordinal is a number of 32 bits. A range ends there at the latest, so no pod is made that would not be a member.

What this does not do: it knows no pods and no feature gates; whoever calls says where the range starts.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from kruise.apis.fielderrors import FieldError, Plain, go_quote, invalid

__all__ = [
    "MAX_ORDINAL",
    "NOTHING_RESERVED",
    "NO_MEMBER",
    "OrdinalRange",
    "Reserved",
    "ordinal_range",
    "parse_member",
    "parse_reserved",
    "pod_name",
    "reserved_errors",
    "split_pod_name",
]

NO_MEMBER: Final = -1
"""The ordinal of a pod that has none."""
MAX_ORDINAL: Final = 2**31 - 1
_INT64: Final = 2**63

_POD_NAME: Final = re.compile(r"(.*)-([0-9]+)", re.DOTALL)
_NUMBER: Final = re.compile(r"[+-]?[0-9]+")
_SPAN: Final = re.compile(r"[0-9]+-[0-9]+")
_DIGITS: Final = len(str(_INT64))


# ---- names -----------------------------------------------------------------------------------------------------------


def pod_name(set_name: str, ordinal: int) -> str:
    """Return the name of the pod of *set_name* with *ordinal*."""
    return f"{set_name}-{ordinal}"


def split_pod_name(name: str) -> tuple[str, int]:
    """Return the parent and the ordinal that a pod's *name* says; leading zeros count here.

    A name that does not end in a dash and digits has no parent. A number of more than 32 bits is none.

    >>> split_pod_name("web-1-2"), split_pod_name("0"), split_pod_name("web-2147483648")
    (('web-1', 2), ('', -1), ('web', -1))
    """
    found = _POD_NAME.fullmatch(name)
    if found is None:
        return "", NO_MEMBER
    digits = found[2].lstrip("0") or "0"
    ordinal = int(digits) if len(digits) <= _DIGITS else MAX_ORDINAL + 1
    return found[1], ordinal if ordinal <= MAX_ORDINAL else NO_MEMBER


def parse_member(pod: str, set_name: str) -> int:
    """Return the ordinal of the pod named *pod* in the set *set_name*; :data:`NO_MEMBER` when it is none of its pods.

    >>> parse_member("web-7", "web"), parse_member("web-07", "web"), parse_member("web-7", "we")
    (7, -1, -1)
    """
    at = len(set_name)
    digits = pod[at + 1 :]
    if not (pod.startswith(set_name) and pod[at : at + 1] == "-" and digits.isascii() and digits.isdigit()):
        return NO_MEMBER
    if len(digits) > _DIGITS or (digits[0] == "0" and len(digits) > 1):
        return NO_MEMBER
    ordinal = int(digits)
    return ordinal if ordinal <= MAX_ORDINAL else NO_MEMBER


# ---- reservations ----------------------------------------------------------------------------------------------------


class Reserved(AbstractSet[int]):
    """A frozen set of integers, kept as spans. It equals only its like: its hash must not walk through its members."""

    __slots__ = ("_before", "_ends", "_free", "_starts")

    _starts: tuple[int, ...]
    _ends: tuple[int, ...]
    _before: tuple[int, ...]
    """How many integers all spans before this one hold."""
    _free: tuple[int, ...]
    """The start of each span, less what is reserved before it: never falls, so one can search in it."""

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        """Hold every integer of *spans*, pairs of the first and the last one."""
        merged: list[list[int]] = []
        for first, last in sorted(span for span in spans if span[0] <= span[1]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1][1] = max(merged[-1][1], last)
            else:
                merged.append([first, last])
        self._starts = tuple(first for first, _ in merged)
        self._ends = tuple(last for _, last in merged)
        self._before = tuple(accumulate((last - first + 1 for first, last in merged), initial=0))
        self._free = tuple(first - before for first, before in zip(self._starts, self._before, strict=False))

    @classmethod
    def of(cls, ordinals: AbstractSet[int]) -> Reserved:
        """Return *ordinals* in this form."""
        return ordinals if isinstance(ordinals, Reserved) else cls((one, one) for one in ordinals)

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> AbstractSet[Any]:
        return cls((one, one) for one in it)

    def __contains__(self, ordinal: object) -> bool:
        if not isinstance(ordinal, int):
            return False
        at = bisect_right(self._starts, ordinal) - 1
        return at >= 0 and ordinal <= self._ends[at]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.spans():
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return self._before[-1]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reserved):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    def __hash__(self) -> int:
        return hash((self._starts, self._ends))

    def __repr__(self) -> str:
        shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in self.spans())
        return f"Reserved({shown})"

    def spans(self) -> Iterator[tuple[int, int]]:
        """Return the first and the last integer of each span, in rising order."""
        return zip(self._starts, self._ends, strict=True)

    def below(self, ordinal: int) -> int:
        """Return how many members are less than *ordinal*."""
        at = bisect_left(self._starts, ordinal)
        if at == 0:
            return 0
        return self._before[at - 1] + min(self._ends[at - 1] + 1, ordinal) - self._starts[at - 1]

    def nth_free(self, start: int, index: int) -> int:
        """Return the integer from *start* on that has *index* others before it which are no members either."""
        free = start - self.below(start) + index
        return free + self._before[bisect_right(self._free, free)]


NOTHING_RESERVED: Final = Reserved()


def _atoi(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"strconv.Atoi: parsing {go_quote(text)}: invalid syntax")
    value = int(text) if len(text.lstrip("+-0")) <= _DIGITS else _INT64 + 1
    if not -_INT64 <= value < _INT64:
        raise ValueError(f"strconv.Atoi: parsing {go_quote(text)}: value out of range")
    return value


def _span(text: str) -> tuple[int, int]:
    """Return the ends of ``a-b``. Raises ValueError; signs are accepted, as they always were."""
    first, dash, second = text.partition("-")
    if not dash or "-" in second:
        raise ValueError(f"invalid range {text}")
    ends = _atoi(first), _atoi(second)
    if ends[0] > ends[1]:
        raise ValueError(f"invalid range {text}")
    return ends


def parse_reserved(entries: Sequence[int | str]) -> Reserved:
    """Return what *entries* of ``reserveOrdinals`` reserve at run time.

    One entry that cannot be read voids them all; validation refuses it, and OpenKruise reads a stored one so.
    """
    if not entries:
        return NOTHING_RESERVED
    try:
        return Reserved((one, one) if isinstance(one, int) else _span(one) for one in entries)
    except ValueError:
        return NOTHING_RESERVED


def reserved_errors(entries: Sequence[int | str], path: str) -> list[FieldError]:
    """Return what validation refuses of *entries*: negative numbers, and strings that are not ``digits-digits``."""
    errors: list[FieldError] = []
    value = Plain(f"[{' '.join(str(one) for one in entries)}]")
    for index, one in enumerate(entries):
        which = f"{index} th reserve ordinal is"
        if isinstance(one, int):
            if one < 0:
                errors.append(invalid(path, value, f"{which} negative: {one}"))
            continue
        if not _SPAN.fullmatch(one):
            errors.append(invalid(path, value, f"{which} not a valid range: {one}"))
        try:
            _span(one)
        except ValueError as error:
            errors.append(invalid(path, value, f"{which} invalid: {one}, err = {error}"))
    return errors


# ---- the range -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrdinalRange:
    """The ordinals that a set should have: from *start* up to *end*, exclusive, without the reserved ones."""

    start: int
    end: int
    reserved: Reserved = NOTHING_RESERVED

    def __contains__(self, ordinal: int) -> bool:
        return self.start <= ordinal < self.end and ordinal not in self.reserved

    def ordinals(self) -> Iterator[int]:
        """Return the ordinals in rising order."""
        at = self.start
        for first, last in self.reserved.spans():
            if first >= self.end:
                break
            yield from range(at, first)
            at = max(at, last + 1)
        yield from range(at, self.end)

    @property
    def count(self) -> int:
        """How many ordinals there are."""
        return self.slot_index(self.end)

    def slot_index(self, ordinal: int) -> int:
        """Return how many ordinals of the range are less than *ordinal*."""
        ordinal = min(max(ordinal, self.start), self.end)
        return ordinal - self.start - (self.reserved.below(ordinal) - self.reserved.below(self.start))

    def nth(self, index: int) -> int:
        """Return the ordinal that has *index* others below it. Raises IndexError outside 0 to ``count`` - 1."""
        ordinal = self.reserved.nth_free(self.start, index)
        if index < 0 or ordinal >= self.end:
            raise IndexError(index)
        return ordinal


def ordinal_range(replicas: int, start: int, reserved: AbstractSet[int]) -> OrdinalRange:
    """Return the first *replicas* ordinals from *start* on that are not *reserved*.

    >>> list(ordinal_range(4, 2, {1, 3}).ordinals())
    [2, 4, 5, 6]
    """
    known = Reserved.of(reserved)
    if replicas <= 0:
        return OrdinalRange(start, start, known)
    end = min(known.nth_free(start, replicas - 1), MAX_ORDINAL) + 1
    return OrdinalRange(start, max(start, end), known)
