"""Label selectors: conversion, text form, matching, overlap.

Purpose: ``metav1.LabelSelector`` and selector text, with the strictness of the API server where a user's object is
read, and the lenient conversion where a controller must go on with what is stored.

Guarantees:

* A null selector matches nothing, an empty one everything (the difference decides whether a controller adopts pods).
* The text form is sorted by key, values sorted and without spaces; it round-trips through :func:`parse`.
* Values are kept as a tuple; matching is a set test per requirement.

What this does not do: field selectors; they belong to the API server.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kruise.apis import labels as rules
from kruise.apis.fielderrors import FieldError, Plain, aggregate, forbidden, go_quote, invalid, required

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "Operator",
    "Requirement",
    "Selector",
    "SelectorError",
    "convert",
    "convert_fast",
    "display",
    "from_set",
    "overlapping",
    "parse",
    "validate",
]


class SelectorError(ValueError):
    """A selector that cannot be used. The message is the one that the API server gives."""


class Operator(enum.StrEnum):
    """How the value of a label is compared; the values are those of the text form."""

    IN = "in"
    NOT_IN = "notin"
    EQUALS = "="
    DOUBLE_EQUALS = "=="
    NOT_EQUALS = "!="
    EXISTS = "exists"
    DOES_NOT_EXIST = "!"
    GREATER_THAN = "gt"
    LESS_THAN = "lt"


_POSITIVE: Final = frozenset({Operator.IN, Operator.EQUALS, Operator.DOUBLE_EQUALS})
_NEGATIVE: Final = frozenset({Operator.NOT_IN, Operator.NOT_EQUALS})
_SETS: Final = frozenset({Operator.IN, Operator.NOT_IN})
_EXACT: Final = frozenset({Operator.EQUALS, Operator.DOUBLE_EQUALS, Operator.NOT_EQUALS})
_PRESENCE: Final = frozenset({Operator.EXISTS, Operator.DOES_NOT_EXIST})
_OBJECT_OPERATORS: Final = {
    "In": Operator.IN,
    "NotIn": Operator.NOT_IN,
    "Exists": Operator.EXISTS,
    "DoesNotExist": Operator.DOES_NOT_EXIST,
}
_SIGNS: Final = {
    Operator.EQUALS: "=",
    Operator.DOUBLE_EQUALS: "==",
    Operator.NOT_EQUALS: "!=",
    Operator.IN: " in ",
    Operator.NOT_IN: " notin ",
    Operator.GREATER_THAN: ">",
    Operator.LESS_THAN: "<",
}
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")


def _integer(text: str) -> int | None:
    if _INTEGER.fullmatch(text) is None or len(text) > 40:
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether *labels* fulfil this condition. An absent label fulfils the negative ones."""
        present = self.key in labels
        if self.operator in _POSITIVE:
            return present and labels[self.key] in self.values
        if self.operator in _NEGATIVE:
            return not present or labels[self.key] not in self.values
        if self.operator in _PRESENCE:
            return present is (self.operator is Operator.EXISTS)
        have = _integer(labels[self.key]) if present else None
        want = _integer(self.values[0]) if len(self.values) == 1 else None
        if have is None or want is None:
            return False
        return have > want if self.operator is Operator.GREATER_THAN else have < want

    def __str__(self) -> str:
        if self.operator in _PRESENCE:
            return self.key if self.operator is Operator.EXISTS else f"!{self.key}"
        joined = ",".join(sorted(self.values, key=_byte_order))
        return self.key + _SIGNS[self.operator] + (f"({joined})" if self.operator in _SETS else joined)


def _byte_order(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def requirement(key: str, operator: Operator, values: Iterable[str], path: str = "") -> Requirement:
    """Make a requirement, checked. Raises SelectorError; *path* goes before the field names in the message."""
    values = tuple(values)
    prefix = f"{path}." if path else ""
    errors = _key_errors(key, prefix + "key")
    listed = list(values) if values else Plain("[]string(nil)")
    if operator in _SETS and not values:
        errors.append(invalid(f"{prefix}values", listed, "for 'in', 'notin' operators, values set can't be empty"))
    elif operator in _EXACT and len(values) != 1:
        errors.append(invalid(f"{prefix}values", listed, "exact-match compatibility requires one single value"))
    elif operator in _PRESENCE and values:
        errors.append(invalid(f"{prefix}values", listed, "values set must be empty for exists and does not exist"))
    elif operator in (Operator.GREATER_THAN, Operator.LESS_THAN):
        if len(values) != 1:
            errors.append(invalid(f"{prefix}values", listed, "for 'Gt', 'Lt' operators, exactly one value is required"))
        errors += [
            invalid(f"{prefix}values[{i}]", value, "for 'Gt', 'Lt' operators, the value must be an integer")
            for i, value in enumerate(values)
            if _integer(value) is None
        ]
    for i, value in enumerate(values):
        if complaints := rules.label_value(value):
            errors.append(invalid(f"{prefix}values[{i}][{key}]", value, "; ".join(complaints)))
    if errors:
        raise SelectorError(aggregate(errors))
    return Requirement(key, operator, values)


def _key_errors(key: str, path: str) -> list[FieldError]:
    complaints = rules.qualified_name(key)
    return [invalid(path, key, "; ".join(complaints))] if complaints else []


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all hold, sorted by key. ``nothing`` marks the one that matches no object."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        """Whether every object matches."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Tell whether an object with these labels is selected."""
        if self.nothing:
            return False
        have = labels or {}
        return all(item.matches(have) for item in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING: Final = Selector()
NOTHING: Final = Selector(nothing=True)


def _by_key(requirements: Iterable[Requirement]) -> Selector:
    return Selector(tuple(sorted(requirements, key=lambda item: _byte_order(item.key))))


def from_set(labels: Mapping[str, str] | None) -> Selector:
    """Return the selector that asks for exactly these labels; nothing is checked."""
    return _by_key(Requirement(key, Operator.EQUALS, (value,)) for key, value in (labels or {}).items())


def _parts(selector: Mapping[str, Any]) -> tuple[dict[str, str], list[Mapping[str, Any]]]:
    labels = selector.get("matchLabels") or {}
    if None in labels.values():  # Go reads null as an empty text
        labels = {key: "" if value is None else value for key, value in labels.items()}
    return labels, selector.get("matchExpressions") or []


def convert(selector: Mapping[str, Any] | None) -> Selector:
    """Convert a ``metav1.LabelSelector`` strictly. ``None`` gives :data:`NOTHING`. Raises SelectorError."""
    if selector is None:
        return NOTHING
    match_labels, expressions = _parts(selector)
    found = [requirement(key, Operator.EQUALS, (value,)) for key, value in sorted(match_labels.items())]
    for expression in expressions:
        operator = _OBJECT_OPERATORS.get(expression.get("operator") or "")
        if operator is None:
            raise SelectorError(f"{go_quote(expression.get('operator') or '')} is not a valid label selector operator")
        found.append(requirement(expression.get("key") or "", operator, expression.get("values") or ()))
    return _by_key(found)


def convert_fast(selector: Mapping[str, Any] | None) -> Selector:
    """Convert without checking keys and values, as the controllers read a stored selector.

    Raises SelectorError for an unknown operator only.
    """
    if selector is None:
        return NOTHING
    match_labels, expressions = _parts(selector)
    found = [Requirement(key, Operator.EQUALS, (value,)) for key, value in sorted(match_labels.items())]
    for expression in expressions:
        operator = _OBJECT_OPERATORS.get(expression.get("operator") or "")
        if operator is None:
            raise SelectorError(f"{go_quote(expression.get('operator') or '')} is not a valid pod selector operator")
        found.append(Requirement(expression.get("key") or "", operator, tuple(expression.get("values") or ())))
    return _by_key(found)


def display(selector: Mapping[str, Any] | None) -> str:
    """Return the form that people read: the text, ``<none>`` for an empty one, ``<error>`` for a broken one."""
    try:
        return str(convert(selector)) or "<none>"
    except SelectorError:
        return "<error>"


def validate(selector: Mapping[str, Any] | None, path: str, *, allow_invalid_values: bool = False) -> list[FieldError]:
    """Validate a ``metav1.LabelSelector`` at *path*; *allow_invalid_values* tolerates values that no label can have."""
    if selector is None:
        return []
    match_labels, expressions = _parts(selector)
    errors = rules.validate_labels(match_labels, f"{path}.matchLabels")
    for i, expression in enumerate(expressions):
        at = f"{path}.matchExpressions[{i}]"
        operator, values = expression.get("operator") or "", expression.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden(f"{at}.values", detail))
        else:
            errors.append(invalid(f"{at}.operator", operator, "not a valid selector operator"))
        key = expression.get("key") or ""
        errors += [invalid(f"{at}.key", key, complaint) for complaint in rules.qualified_name(key)]
        if not allow_invalid_values:
            errors += [
                invalid(f"{at}.values[{n}]", value, complaint)
                for n, value in enumerate(values)
                for complaint in rules.label_value(value)
            ]
    return errors


# ---- text ------------------------------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(r"[ \t\r\n]*(?:(?P<symbol>==|!=|[=!(),<>])|(?P<word>[^=!(),<> \t\r\n]+))")
_SYMBOL_OPERATORS: Final = {
    "=": Operator.EQUALS,
    "==": Operator.DOUBLE_EQUALS,
    "!=": Operator.NOT_EQUALS,
    ">": Operator.GREATER_THAN,
    "<": Operator.LESS_THAN,
    "in": Operator.IN,
    "notin": Operator.NOT_IN,
}
_EXPECTED_OPERATORS: Final = "in, notin, =, ==, !=, gt, lt"
_END: Final = ""


class _Parser:
    """Recursive descent over tokens. A word is a key, a value or, after a key, ``in`` and ``notin``."""

    def __init__(self, text: str) -> None:
        text = text.partition("\x00")[0]  # a NUL ends the text, as it always did
        self._tokens = [match["symbol"] or match["word"] for match in _TOKEN.finditer(text)]
        self._at = 0

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _take(self) -> str:
        item = self._peek()
        self._at += 1
        return item

    @staticmethod
    def _is_word(item: str) -> bool:
        return bool(item) and item not in ("=", "==", "!=", "!", "(", ")", ",", "<", ">")

    def selector(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            item = self._peek()
            if item == _END:
                return found
            if item != "!" and not self._is_word(item):
                raise SelectorError(f"found '{item}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            item = self._take()
            if item == _END:
                return found
            if item != ",":
                raise SelectorError(f"found '{item}', expected: ',' or 'end of string'")
            following = self._peek()
            if following != "!" and not self._is_word(following):
                raise SelectorError(f"found '{following}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        key = self._take()
        absent = key == "!"
        if absent:
            key = self._take()
        if not self._is_word(key):
            raise SelectorError(f"found '{key}', expected: identifier")
        if complaints := rules.qualified_name(key):
            raise SelectorError(invalid("<nil>", key, "; ".join(complaints)).message)
        if absent:
            return requirement(key, Operator.DOES_NOT_EXIST, ())
        if self._peek() in (_END, ","):
            return requirement(key, Operator.EXISTS, ())
        item = self._take()
        operator = _SYMBOL_OPERATORS.get(item)
        if operator is None:
            raise SelectorError(f"found '{item}', expected: {_EXPECTED_OPERATORS}")
        values = self._value_list() if operator in _SETS else {self._exact_value()}
        return requirement(key, operator, sorted(values, key=_byte_order))

    def _exact_value(self) -> str:
        if self._peek() in (_END, ","):
            return ""
        item = self._take()
        if not self._is_word(item):
            raise SelectorError(f"found '{item}', expected: identifier")
        return item

    def _value_list(self) -> set[str]:
        item = self._take()
        if item != "(":
            raise SelectorError(f"found '{item}' expected: '('")
        item = self._peek()
        if item == ")":
            self._take()
            return {""}
        if item != "," and not self._is_word(item):
            raise SelectorError(f"found '{item}', expected: ',', ')' or identifier")
        values = self._identifiers()
        self._take()
        return values

    def _identifiers(self) -> set[str]:
        values: set[str] = set()
        while True:
            item = self._take()
            if self._is_word(item):
                values.add(item)
                following = self._peek()
                if following == ")":
                    return values
                if following != ",":
                    raise SelectorError(f"found '{following}', expected: ',' or ')'")
            elif item == ",":
                if not values:
                    values.add("")
                following = self._peek()
                if following == ")":
                    values.add("")
                    return values
                if following == ",":
                    self._take()
                    values.add("")
            else:
                raise SelectorError(f"found '{item}', expected: ',', or identifier")


def parse(text: str) -> Selector:
    """Read the text form, ``app in (web,db),!old``. Raises SelectorError with the server's message."""
    return _by_key(_Parser(text).selector())


# ---- overlap ---------------------------------------------------------------------------------------------------------


def overlapping(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> bool:
    """Tell whether two selectors may select one object, by the conflict test of SidecarSets.

    The test is conservative on purpose with one known gap: ``Exists`` on a key that the other does not mention counts
    as disjoint.
    """
    one, two = first or {}, second or {}
    return not _disjoint(one, two) and not _disjoint(two, one)


def _known_values(selector: Mapping[str, Any]) -> dict[str, set[str] | None]:
    """The values that a selector admits by key; ``None``: any."""
    match_labels, expressions = _parts(selector)
    known: dict[str, set[str] | None] = {key: {value} for key, value in match_labels.items()}
    for expression in expressions:
        key, operator = expression.get("key") or "", expression.get("operator")
        if operator == "In":
            values = known.setdefault(key, set())
            if values is not None:
                values.update(expression.get("values") or ())
        elif operator == "Exists":
            known[key] = None
    return known


def _disjoint(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    known = _known_values(first)
    match_labels, expressions = _parts(second)
    for key, value in match_labels.items():
        values = known.get(key)
        if values is not None and value not in values:
            return True
    for expression in expressions:
        key, operator = expression.get("key") or "", expression.get("operator")
        listed = set(expression.get("values") or ())
        values = known.get(key)
        if operator == "In" and values is not None and not values & listed:
            return True
        if operator == "NotIn" and key in known and (values is None or values <= listed):
            return True
        if (operator == "Exists" and key not in known) or (operator == "DoesNotExist" and key in known):
            return True
    return False
