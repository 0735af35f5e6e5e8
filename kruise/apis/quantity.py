"""Resource quantities with the arithmetic and the text forms of the API server.

Purpose: read ``500m``, ``1.5Gi``, ``1e3``; add, compare, round, and write them again as the API server writes them.

Guarantees:

* Exact: a quantity is an integer times a power of ten; nothing is a float.
* A text that already looks canonical is kept as it came (``+1``, ``00012``, ``1.500``); arithmetic and rounding drop
  it. Hashes and patches depend on this, because the text is what is stored.
* Rounding goes away from zero. Digits beyond nano are rounded up while reading.
* ``value()`` and ``milli_value()`` wrap at 64 bits where the API server's do.

What this does not do: it knows no resource names, and refuses numbers of more than 4,000 digits, on which the reference
implementation would spend minutes.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ZERO", "Format", "Quantity", "QuantityError", "by_value"]

_PATTERN: Final = re.compile(
    r"(?P<sign>[+-]?)(?P<lead>0*)(?P<num>[0-9]*)(?:(?P<dot>\.)(?P<denom>[0-9]*))?"
    r"(?P<suffix>[eEinumkKMGTP]*[-+]?[0-9]*)"
)
_FORMAT_WRONG: Final = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"  # the server's text
)
_NUMERIC_WRONG: Final = "unable to parse numeric part of quantity"
_SUFFIX_WRONG: Final = "unable to parse quantity's suffix"

_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_BY_EXPONENT: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_BY_EXPONENT: Final = {0: "", **{exponent: suffix for suffix, exponent in _BINARY.items()}}
_EXPONENT: Final = re.compile(r"[eE][+-]?[0-9]+")

_NANO: Final = -9
_MAX_INT64: Final = 2**63 - 1
_MAX_FACTORS: Final = 18
"""Decimal digits that always fit 64 bits; beyond them the text is never kept."""
_MAX_DIGITS: Final = 4000
_FLOAT_LIMIT: Final = 1 << 63
_WRAPPING_SHIFTS: Final = frozenset({1, 2, 3, 6, 9})
"""Powers of ten at which an overflow wraps; at all others the server gives up and says 0."""


class QuantityError(ValueError):
    """A text that is no quantity. The message is the one that the API server gives."""


class Format(enum.StrEnum):
    """How a quantity is written. ``UNSET``: an empty quantity, which takes the format of the first summand."""

    UNSET = ""
    DECIMAL_SI = "DecimalSI"
    BINARY_SI = "BinarySI"
    DECIMAL_EXPONENT = "DecimalExponent"


def _power(exponent: int) -> int:
    result: int = 10**exponent
    return result


def _wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _low_bits(value: int) -> int:
    """The 64-bit integer that Go takes out of a wide one: the low bits of the magnitude, with the sign put back."""
    return _wrap(_wrap(abs(value)) * (-1 if value < 0 else 1))


def _divide_away(value: int, divisor: int) -> int:
    quotient = -(-abs(value) // divisor)
    return -quotient if value < 0 else quotient


def _interpret(suffix: str) -> tuple[int, Format]:
    if suffix in _DECIMAL:
        return _DECIMAL[suffix], Format.DECIMAL_SI
    if suffix in _BINARY:
        return _BINARY[suffix], Format.BINARY_SI
    if _EXPONENT.fullmatch(suffix):
        exponent = int(suffix[1:])
        if abs(exponent) > _MAX_INT64:
            raise QuantityError(_SUFFIX_WRONG)
        return exponent, Format.DECIMAL_EXPONENT
    raise QuantityError(_SUFFIX_WRONG)


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """``unscaled * 10**scale``, with the format in which it is written and, perhaps, the text it came as.

    Compare with ``==``, ``<`` and so on: by value, ``4`` equals ``4000m``.
    """

    unscaled: int = 0
    scale: int = 0
    format: Format = Format.UNSET
    text: str = ""
    """The text to write back, or ``""`` when the canonical form is written."""
    wide: bool = False
    """Whether the server holds this one beyond 64 bits; it changes how ``value`` overflows, nothing else."""

    # ---- reading -------------------------------------------------------------------------------------------------

    @classmethod
    def parse(cls, text: str) -> Quantity:
        """Read *text*. Raises QuantityError with the server's message."""
        match = _PATTERN.fullmatch(text) if text and text.isascii() else None
        if match is None:
            raise QuantityError(_FORMAT_WRONG)
        if text == "0":
            return cls(0, 0, Format.DECIMAL_SI, text)
        if len(text) > _MAX_DIGITS:
            raise QuantityError(_NUMERIC_WRONG)
        num, denom = match["num"] or "0", match["denom"] or ""
        exponent, fmt = _interpret(match["suffix"])
        negative = match["sign"] == "-"
        short = cls._parse_short(text, num, denom, exponent, fmt, negative)
        if short is not None:
            return short
        if not (match["lead"] or match["num"] or denom):
            raise QuantityError(_NUMERIC_WRONG)
        return cls._parse_wide(num, denom, exponent, fmt, negative)

    @classmethod
    def _parse_short(
        cls, text: str, num: str, denom: str, exponent: int, fmt: Format, negative: bool
    ) -> Quantity | None:
        digits = num + denom
        if fmt is Format.BINARY_SI:
            precision = -1 if denom else 15 - len(num) - exponent * 3 // 10 - 1
            scale, factor = 0, 1 << exponent
        else:
            precision = _MAX_FACTORS - len(digits)
            scale, factor = exponent - len(denom), 1
        if precision < 0 or scale < _NANO:
            return None
        if scale > _MAX_DIGITS:
            raise QuantityError(_NUMERIC_WRONG)
        value = int(digits)
        if fmt is Format.BINARY_SI:
            kept = value & 0x07 != 0
        else:
            kept = scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"
        unscaled = -value * factor if negative else value * factor
        return cls(unscaled, scale, fmt, text if kept else "")

    @classmethod
    def _parse_wide(cls, num: str, denom: str, exponent: int, fmt: Format, negative: bool) -> Quantity:
        unscaled, scale = int(num + denom), -len(denom)
        if fmt is Format.BINARY_SI:
            unscaled <<= exponent
        else:
            scale += exponent
        if unscaled and scale + len(num) > _MAX_DIGITS:
            raise QuantityError(_NUMERIC_WRONG)
        if not unscaled:
            scale = 0
        elif scale < _NANO:
            shift = _NANO - scale
            unscaled = 1 if shift > 2 * _MAX_DIGITS else _divide_away(unscaled, _power(shift))
            scale = _NANO
        else:
            unscaled *= _power(scale - _NANO)
            scale = _NANO
        if fmt is Format.BINARY_SI:
            nano = _power(-_NANO) if scale else 1
            if unscaled > _MAX_INT64 * nano:
                unscaled, scale = _MAX_INT64, 0
            elif 0 < unscaled < nano:
                fmt = Format.DECIMAL_SI
        return cls(-unscaled if negative else unscaled, scale, fmt, "", wide=True)

    @classmethod
    def from_json(cls, value: Any) -> Quantity:
        """Read a decoded JSON value: a string, a number, or ``None`` for an empty quantity.

        The string is taken as it stands between its quotation marks, so an escape in it is an error, as on the server.
        """
        if value is None:
            return cls()
        if isinstance(value, str):
            if any(char in value for char in '\t\n\r\f\b\\"'):
                raise QuantityError(_FORMAT_WRONG)
            return cls.parse(value.strip(" "))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise QuantityError(_FORMAT_WRONG)
        return cls.parse(repr(value))

    @classmethod
    def of(cls, value: int, fmt: Format = Format.DECIMAL_SI) -> Quantity:
        """Make a quantity of whole units."""
        return cls(value, 0, fmt)

    @classmethod
    def of_milli(cls, value: int, fmt: Format = Format.DECIMAL_SI) -> Quantity:
        """Make a quantity of thousandths."""
        return cls(value, -3, fmt)

    # ---- writing -------------------------------------------------------------------------------------------------

    def canonical(self) -> str:
        """Return the canonical text, whatever text the quantity came as."""
        if self.unscaled == 0:
            return "0"
        fmt = self.format
        if fmt is Format.BINARY_SI:
            small = self > -1024 and self < 1024
            if not small and self.scale >= _whole_scale(self.unscaled, self.scale):
                return self._canonical_binary()
            fmt = Format.DECIMAL_SI
        return self._canonical_decimal(fmt)

    def _canonical_binary(self) -> str:
        amount = self._whole()
        exponent = 0
        while amount % 1024 == 0:
            amount //= 1024
            exponent += 10
        return f"{amount}{_BINARY_BY_EXPONENT.get(exponent, '')}"

    def _canonical_decimal(self, fmt: Format) -> str:
        amount, exponent = self.unscaled, self.scale
        while amount % 10 == 0:
            amount //= 10
            exponent += 1
        while exponent % 3:
            amount *= 10
            exponent -= 1
        if fmt is Format.DECIMAL_SI:
            return f"{amount}{_DECIMAL_BY_EXPONENT.get(exponent, '')}"
        return f"{amount}e{exponent}" if exponent else str(amount)

    def __str__(self) -> str:
        return self.text or self.canonical()

    # ---- numbers -------------------------------------------------------------------------------------------------

    def _whole(self) -> int:
        if self.scale >= 0:
            return self.unscaled * _power(self.scale)
        return _divide_away(self.unscaled, _power(-self.scale))

    def _at_scale(self, scale: int) -> int:
        shift = self.scale - scale
        if shift >= 0:
            value = self.unscaled * _power(shift)
            if not self.wide:
                fits = -(1 << 63) <= value <= _MAX_INT64
                return value if fits else _wrap(value) if shift in _WRAPPING_SHIFTS else 0
            power = _power(shift)
            return _wrap(_low_bits(self.unscaled) * (power if power < _FLOAT_LIMIT else -(1 << 63)))
        divisor = _power(-shift)
        if not self.wide:
            return _divide_away(self.unscaled, divisor)
        if self.unscaled < _MAX_INT64 and -shift < 19:
            low = _low_bits(self.unscaled)
            quotient = abs(low) // divisor * (-1 if low < 0 else 1)
            return quotient + 1 if low % divisor else quotient
        quotient, rest = divmod(self.unscaled, divisor)
        return _wrap(_low_bits(quotient) + (1 if rest else 0))

    def value(self) -> int:
        """Return whole units, rounded away from zero."""
        return self._at_scale(0)

    def milli_value(self) -> int:
        """Return thousandths, rounded away from zero."""
        return self._at_scale(-3)

    def exact_milli(self) -> int:
        """Return thousandths, rounded away from zero, without the server's 64-bit limits: for sums and comparisons."""
        if self.scale >= -3:
            return self.unscaled * _power(self.scale + 3)
        return _divide_away(self.unscaled, _power(-3 - self.scale))

    def sign(self) -> int:
        """Return -1, 0 or 1."""
        return (self.unscaled > 0) - (self.unscaled < 0)

    def is_zero(self) -> bool:
        """Tell whether this is zero."""
        return self.unscaled == 0

    def round_up_to_milli(self) -> Quantity:
        """Return this quantity without digits finer than a thousandth, as the defaulting of resource lists does."""
        if self.scale >= -3:
            return self
        return Quantity(_divide_away(self.unscaled, _power(-3 - self.scale)), -3, self.format, "", self.wide)

    # ---- arithmetic ----------------------------------------------------------------------------------------------

    def compare(self, other: Quantity | int) -> int:
        """Return -1, 0 or 1."""
        right = Quantity(other) if isinstance(other, int) else other
        scale = min(self.scale, right.scale)
        a = self.unscaled * _power(self.scale - scale)
        b = right.unscaled * _power(right.scale - scale)
        return (a > b) - (a < b)

    def _combine(self, other: Quantity, sign: int) -> Quantity:
        fmt = other.format if self.unscaled == 0 else self.format
        scale = min(self.scale, other.scale)
        total = self.unscaled * _power(self.scale - scale) + sign * other.unscaled * _power(other.scale - scale)
        wide = self.wide or other.wide or not -(1 << 63) <= total <= _MAX_INT64
        return Quantity(total, scale, fmt, "", wide)

    def __add__(self, other: Quantity) -> Quantity:
        return self._combine(other, 1)

    def __sub__(self, other: Quantity) -> Quantity:
        return self._combine(other, -1)

    def __neg__(self) -> Quantity:
        return Quantity(-self.unscaled, self.scale, self.format, "", self.wide)

    def __eq__(self, other: object) -> bool:
        return self.compare(other) == 0 if isinstance(other, Quantity | int) else NotImplemented

    def __hash__(self) -> int:
        unscaled, scale = self.unscaled, self.scale
        if not unscaled:
            return 0
        while unscaled % 10 == 0:
            unscaled //= 10
            scale += 1
        return hash((unscaled, scale))

    def __lt__(self, other: Quantity | int) -> bool:
        return self.compare(other) < 0

    def __le__(self, other: Quantity | int) -> bool:
        return self.compare(other) <= 0

    def __gt__(self, other: Quantity | int) -> bool:
        return self.compare(other) > 0

    def __ge__(self, other: Quantity | int) -> bool:
        return self.compare(other) >= 0


def _whole_scale(unscaled: int, scale: int) -> int:
    """Return the least scale at which *unscaled* is a whole number: *scale* itself when it is one, else above it."""
    if scale >= 0 or unscaled % _power(-scale) == 0:
        return scale
    return scale + 1


ZERO: Final = Quantity()
"""The empty quantity: zero without a format."""


def by_value(value: Any) -> Any:
    """Return one text for all spellings of a quantity, such as ``1e9`` and ``1G``; what is none comes back as it is."""
    try:
        quantity = Quantity.from_json(value)
    except QuantityError:
        return value
    unscaled, scale = quantity.unscaled, quantity.scale
    while unscaled and unscaled % 10 == 0:
        unscaled //= 10
        scale += 1
    return f"{unscaled}e{scale}" if unscaled else "0"
