"""The expression language of ``resourcesPolicy``: ``max(cpu*50%, 100m)``.

Purpose: say what a user's text means for one amount. A small parser that computes while it reads; nothing of the text
is ever handed to Python.

Guarantees:

* The grammar and the numbers are those of spec/sidecarset 12.3: left-associative, plain numbers are doubles, a number
  that meets a quantity becomes thousandths, arithmetic drops the spelling of a quantity, an untouched one keeps it.
* The kept oddities are kept: a number that cannot be read is zero (``5xyz``, ``1e``, ``5%3``), bytes are read as
  Latin-1, ``5E`` is zero, the amount binds as ``memory`` if that word stands in the text, else as ``cpu``.
* A result is never negative, and an overflow is an error rather than a negative amount.
* Reading ends for every text: nesting is bounded, and the cost is linear in its length.

What this does not do: it knows no containers; ``controllers.sidecarset.resources`` adds those up. Whether an
expression is allowed on a set is asked with :func:`probe`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from kruise.apis.fielderrors import go_quote
from kruise.apis.quantity import Format, Quantity, QuantityError

__all__ = ["ExpressionError", "Value", "evaluate", "probe", "variable"]

Value = float | Quantity

_BLANKS: Final = frozenset("\t\n\v\f\r \x85\xa0")
_DIGITS: Final = frozenset("0123456789")
_UNITS: Final = frozenset({"m", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "Pi"})
_SIGNS: Final = frozenset("+-*/(),")
_END: Final = ""
_MAX_DEPTH: Final = 100
"""Deeper nesting is refused, so that no text can exhaust the stack."""
_MAX_INT64: Final = 2**63 - 1
_MIN_INT64: Final = -(2**63)
_GO_EXPONENT: Final = 1e21
_OVERFLOW: Final = "calculation result overflows"


class ExpressionError(ValueError):
    """A text that gives no amount. The message says what is wrong with it."""


def variable(expression: str) -> str:
    """Return the name under which the amount is bound at injection."""
    return "memory" if "memory" in expression else "cpu"


def evaluate(expression: str, amount: Quantity) -> Quantity:
    """Return what *expression* makes of *amount*. Raises ExpressionError; the message quotes the expression.

    >>> str(evaluate("max(cpu*50%,100m)", Quantity.parse("500m")))
    '250m'
    """
    try:
        value = _Reader(expression, {variable(expression): amount}).result()
        if isinstance(value, Quantity):
            return value
        # ``memory`` binds a quantity, so a plain number never comes from it; a text that names it counts in bytes.
        if "memory" in expression:
            return Quantity.of(_integer(value), Format.BINARY_SI)
        return _as_quantity(value)
    except ExpressionError as error:
        raise ExpressionError(f"failed to parse expression {go_quote(expression)}: {error}") from None


def probe(expression: str, bound: str) -> str:
    """Say what is wrong with *expression* in a field whose amount is called *bound*; ``""``: nothing.

    The amount stands for the number 1. An expression that injection would read with the other name bound is refused
    here, where its author sees it, and not at every pod (``Memory`` in a field for memory).
    """
    if not expression:
        return ""
    reader = _Reader(expression, {bound: 1.0})
    try:
        reader.result()
    except ExpressionError as error:
        return f"invalid expression: {error}"
    if bound in reader.used and bound != variable(expression):
        return f"invalid expression: undefined variable: {bound} (write it in lower case)"
    return ""


# ---- numbers ---------------------------------------------------------------------------------------------------------


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ExpressionError(_OVERFLOW)
    return value


def _integer(value: float) -> int:
    """Cut *value* to a whole number of 64 bits."""
    whole = int(_finite(value))
    if not _MIN_INT64 <= whole <= _MAX_INT64:
        raise ExpressionError(_OVERFLOW)
    return whole


def _as_quantity(value: Value) -> Quantity:
    return value if isinstance(value, Quantity) else Quantity.of_milli(_integer(value * 1000))


def _number_text(value: float) -> str:
    if value.is_integer() and abs(value) < _GO_EXPONENT:
        return str(int(value))
    return repr(value)


def _sum(left: Value, right: Value, sign: int) -> Value:
    if isinstance(left, Quantity) or isinstance(right, Quantity):
        first, second = _as_quantity(left), _as_quantity(right)
        return first + second if sign > 0 else first - second
    return _finite(left + sign * right)


def _product(left: Value, right: Value) -> Value:
    if isinstance(left, Quantity):
        if isinstance(right, Quantity):
            raise ExpressionError("multiplication of two quantities")
        return _scaled(left, left.milli_value() * right)
    if isinstance(right, Quantity):
        return _scaled(right, right.milli_value() * left)
    return _finite(left * right)


def _quotient(left: Value, right: Value) -> Value:
    if isinstance(right, Quantity):
        raise ExpressionError("division by quantity")
    if right == 0:
        raise ExpressionError("division by zero")
    if isinstance(left, Quantity):
        return _scaled(left, left.milli_value() / right)
    return _finite(left / right)


def _scaled(source: Quantity, milli: float) -> Quantity:
    return Quantity.of_milli(_integer(milli), source.format)


def _extreme(name: str, left: Value, right: Value) -> Value:
    if isinstance(left, Quantity) or isinstance(right, Quantity):
        first, second = _as_quantity(left), _as_quantity(right)
        keep_first = first >= second if name == "max" else first <= second
        return first if keep_first else second
    return max(left, right) if name == "max" else min(left, right)


# ---- reading ---------------------------------------------------------------------------------------------------------


class _Reader:
    """One pass over one text: ``_next`` is the token that is not yet taken, ``_at`` where the text goes on after it."""

    __slots__ = ("_at", "_bindings", "_depth", "_next", "_text", "_value", "used")

    def __init__(self, expression: str, bindings: Mapping[str, Value]) -> None:
        self._text = expression.encode("utf-8", "surrogatepass").decode("latin-1")
        self._bindings = bindings
        self._at = 0
        self._depth = 0
        self._next = _END
        self._value: Value = 0.0
        self.used: set[str] = set()

    def result(self) -> Value:
        self._take()
        value = self._expression()
        if self._next != _END:
            raise self._syntax_error()
        if (isinstance(value, Quantity) and value.sign() < 0) or (isinstance(value, float) and value < 0):
            shown = _number_text(value) if isinstance(value, float) else str(value)
            raise ExpressionError(f"calculation result is negative: {shown}")
        return value

    def _syntax_error(self) -> ExpressionError:
        return ExpressionError(f"parse error: syntax error at line 1, col {self._at + 1}")

    # The tokens: a sign, "number" and "name" (with ``_value`` or ``_word``), or the end.

    def _take(self) -> None:
        text, at = self._text, self._at
        while at < len(text) and text[at] in _BLANKS:
            at += 1
        if at == len(text):
            self._at, self._next = at, _END
            return
        first = text[at]
        if first in _DIGITS or first == ".":
            self._number(at)
        elif first.isalpha():
            end = at + 1
            while end < len(text) and (text[end].isalpha() or text[end] in _DIGITS or text[end] == "_"):
                end += 1
            self._at, self._next = end, "name:" + self._lower(text[at:end])
        else:
            self._at = at + 1
            self._next = first if first in _SIGNS else "other"

    @staticmethod
    def _lower(word: str) -> str:
        return word.encode("latin-1").decode("utf-8", "replace").lower()

    def _number(self, start: int) -> None:
        text, at = self._text, start
        dotted = False
        while at < len(text) and (text[at] in _DIGITS or (text[at] == "." and not dotted)):
            dotted = dotted or text[at] == "."
            at += 1
        if at < len(text) and text[at] in "eE":
            at += 2 if text[at + 1 : at + 2] in ("+", "-") else 1
            while at < len(text) and text[at] in _DIGITS:
                at += 1
        percent = text[at : at + 1] == "%"
        tail = at + 1 if percent else at
        end = tail
        # An exponent that is also a letter ends the number: ``5Ei`` is 5E, and then a name.
        if percent or text[at - 1] in _DIGITS or text[at - 1] == ".":
            while end < len(text) and (text[end].isalpha() or text[end] in _DIGITS):
                end += 1
        self._at, self._next = end, "number"
        self._value = self._amount(text[start:at], text[tail:end], percent=percent)

    @staticmethod
    def _amount(digits: str, unit: str, *, percent: bool) -> Value:
        if unit:
            if percent or unit not in _UNITS:
                return 0.0
            try:
                return Quantity.parse(digits + unit)
            except QuantityError as error:
                raise ExpressionError(str(error)) from None
        try:
            value = float(digits)
        except ValueError:
            return 0.0
        return _finite(value) / 100 if percent else _finite(value)

    # The grammar: each rule computes its value.

    def _expression(self) -> Value:
        value = self._term()
        while self._next in ("+", "-"):
            sign = 1 if self._next == "+" else -1
            self._take()
            value = _sum(value, self._term(), sign)
        return value

    def _term(self) -> Value:
        value = self._factor()
        while self._next in ("*", "/"):
            combine = _product if self._next == "*" else _quotient
            self._take()
            value = combine(value, self._factor())
        return value

    def _factor(self) -> Value:
        signs = 0
        while self._next == "-":
            signs += 1
            self._take()
        value = self._operand()
        if signs:
            value = -value
        # A second sign cancels the first, but the spelling of the quantity is gone.
        return -value if signs and signs % 2 == 0 else value

    def _operand(self) -> Value:
        ahead = self._next
        if ahead == "number":
            value = self._value
            self._take()
            return value
        if ahead == "(":
            return self._nested()
        if ahead.startswith("name:"):
            return self._name(ahead.removeprefix("name:"))
        raise self._syntax_error()

    def _nested(self) -> Value:
        self._enter()
        value = self._expression()
        self._leave()
        return value

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ExpressionError(f"more than {_MAX_DEPTH} levels of parentheses")
        self._take()

    def _leave(self) -> None:
        if self._next != ")":
            raise self._syntax_error()
        self._depth -= 1
        self._take()

    def _name(self, name: str) -> Value:
        self._take()
        if self._next != "(":
            if name not in self._bindings:
                raise ExpressionError(f"undefined variable: {name}")
            self.used.add(name)
            return self._bindings[name]
        self._enter()
        arguments = [self._expression()]
        if self._next == ",":
            self._take()
            arguments.append(self._expression())
        self._leave()
        if name not in ("max", "min"):
            raise ExpressionError(f"unknown function: {name}")
        if len(arguments) != 2:
            raise ExpressionError(f"{name} function requires exactly 2 arguments, got {len(arguments)}")
        return _extreme(name, arguments[0], arguments[1])
