"""Int-or-string values: counts and percentages, and every place where the three kinds use one.

Purpose: one reading of ``3``, ``"30%"`` and their malformed relatives, and one rounding function (rule 26 of the
reliability rules) behind all of them.

Guarantees:

* :func:`scaled` is the only place that rounds a percentage. It is exact: integers and fractions, no floats.
* Each named use keeps the reading that a manifest has had so far: which strings are accepted, which way it rounds, its
  default and its bounds. An unreadable value gives 0 and the error, never an exception, where callers go on with 0.

What this does not do: it does not say whether a value is allowed; :func:`validate_positive_int_or_percent` and the CRD
schemas do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from kruise.apis import labels
from kruise.apis.fielderrors import FieldError, Plain, go_quote, invalid

__all__ = [
    "NO_LIMIT",
    "IntOrString",
    "IntOrStringError",
    "Scaled",
    "broadcastjob_parallelism",
    "decode",
    "int_value",
    "lenient",
    "min_updated_ready_pods",
    "parse",
    "scaled",
    "sidecarset_injection_share",
    "sidecarset_max_unavailable",
    "sidecarset_partition",
    "statefulset_max_unavailable",
    "statefulset_scale_max_unavailable",
    "strict",
    "validate_not_above_100_percent",
    "validate_positive_int_or_percent",
]

IntOrString = int | str

NO_LIMIT: Final = 2**31 - 1
"""The default of a BroadcastJob's parallelism."""
_MAX_INT32: Final = 2**31 - 1
_MIN_INT32: Final = -(2**31)
_MAX_INT64: Final = 2**63 - 1
_MIN_INT64: Final = -(2**63)
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX_FLOAT: Final = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+")
_MAX_EXPONENT: Final = 400


class IntOrStringError(ValueError):
    """A value that is neither a number nor a percentage. The message is the one that users have seen so far."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """A count, and what was wrong with the text if anything was."""

    value: int
    error: str = ""


def scaled(percentage: int | Fraction, total: int, *, round_up: bool) -> int:
    """Return *percentage* per cent of *total*, rounded up or down (towards plus or minus infinity).

    >>> scaled(33, 10, round_up=True), scaled(33, 10, round_up=False)
    (4, 3)
    """
    share = Fraction(percentage) * total / 100
    return -(-share.numerator // share.denominator) if round_up else share.numerator // share.denominator


def _saturated(percentage: int | Fraction, total: int, *, round_up: bool) -> int:
    value = scaled(percentage, total, round_up=round_up)
    if abs(value) <= 2**53:
        return value
    # Beyond 2**53 manifests have always been read through a double; nobody means such a number, but it stays the same.
    return max(_MIN_INT64, min(_MAX_INT64, int(float(percentage) * float(total) / 100)))


def _atoi(text: str) -> int:
    """Read a decimal integer of 64 bits; raise IntOrStringError in Go's words."""
    if _INTEGER.fullmatch(text) is None:
        raise IntOrStringError(f"strconv.Atoi: parsing {go_quote(text)}: invalid syntax")
    digits = text.lstrip("+-").lstrip("0")
    value = int(text) if len(digits) <= 19 else _MAX_INT64 + 2
    if not _MIN_INT64 <= value <= _MAX_INT64:
        raise IntOrStringError(f"strconv.Atoi: parsing {go_quote(text)}: value out of range")
    return value


def strict(value: IntOrString, total: int, *, round_up: bool) -> int:
    """Return a count: a number as it is, a string only when it is a percentage.

    Raises IntOrStringError for every other string.
    """
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise IntOrStringError("invalid value for IntOrString: invalid type: string is not a percentage")
    try:
        percentage = _atoi(value[:-1])
    except IntOrStringError as error:
        raise IntOrStringError(f"invalid value for IntOrString: invalid value {go_quote(value)}: {error}") from None
    return _saturated(percentage, total, round_up=round_up)


def lenient(value: IntOrString, total: int, *, round_up: bool) -> int:
    """Return a count as the older reading does: every string is a percentage, with or without percent signs.

    Raises IntOrStringError for a string without a number.
    """
    if isinstance(value, int):
        return value
    try:
        percentage = _atoi(value.replace("%", ""))
    except IntOrStringError as error:
        raise IntOrStringError(f"invalid value for IntOrString: invalid value {go_quote(value)}: {error}") from None
    return _saturated(percentage, total, round_up=round_up)


def parse(text: str) -> IntOrString:
    """Read the text of a flag or an annotation: a 32-bit number becomes one, everything else stays a string."""
    if _INTEGER.fullmatch(text) and len(text) <= 20 and _MIN_INT32 <= int(text) <= _MAX_INT32:
        return int(text)
    return text


def decode(value: Any) -> IntOrString:
    """Read a decoded JSON value. Raises IntOrStringError unless it is a string or an integer of 32 bits."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and _MIN_INT32 <= value <= _MAX_INT32:
        return value
    raise IntOrStringError(f"{value!r} is neither a string nor an integer of 32 bits")


def int_value(value: IntOrString) -> int:
    """Return the number, a numeric string as a number, and 0 for any other string."""
    if isinstance(value, int):
        return value
    try:
        return _atoi(value)
    except IntOrStringError as error:
        if "out of range" in str(error):
            return _MIN_INT64 if value.startswith("-") else _MAX_INT64
        return 0


# ---- the named uses --------------------------------------------------------------------------------------------------


def _guarded(value: IntOrString, total: int, *, round_up: bool) -> Scaled:
    try:
        return Scaled(lenient(value, total, round_up=round_up))
    except IntOrStringError as error:
        return Scaled(0, str(error))


def broadcastjob_parallelism(value: IntOrString | None, desired: int) -> Scaled:
    """Return how many pods of a BroadcastJob may be active; percentages of *desired*, rounded up; absent: no limit."""
    return Scaled(NO_LIMIT) if value is None else _guarded(value, desired, round_up=True)


def statefulset_max_unavailable(value: IntOrString | None, replicas: int) -> Scaled:
    """Return the budget of a rolling update: rounded down, at least 1; absent: 1."""
    return Scaled(1) if value is None else _at_least_one(value, replicas)


def statefulset_scale_max_unavailable(value: IntOrString | None, replicas: int) -> Scaled | None:
    """Return the throttle of parallel creation: rounded down, at least 1; absent: ``None``, no throttle."""
    return None if value is None else _at_least_one(value, replicas)


def _at_least_one(value: IntOrString, total: int) -> Scaled:
    result = _guarded(value, total, round_up=False)
    return result if result.error else Scaled(max(1, result.value))


def sidecarset_max_unavailable(value: IntOrString | None, total: int) -> Scaled:
    """Return how many pods may be upgrading at a time: rounded up; absent: 1."""
    return Scaled(1) if value is None else _guarded(value, total, round_up=True)


def sidecarset_partition(value: IntOrString | None, total: int) -> Scaled:
    """Return how many pods keep the old sidecars: rounded up, decimals allowed, within 0..*total*; absent: 0.

    A percentage other than ``100%`` never keeps all of several pods: at least one moves.
    """
    if value is None:
        return Scaled(0)
    if isinstance(value, int):
        return Scaled(max(0, min(value, total)))
    if not value.endswith("%"):
        return Scaled(0, "invalid value for IntOrString: invalid type: string is not a percentage")
    text = value.removesuffix("%")
    percentage = _fraction(text)
    if percentage is None:
        return Scaled(0, f"strconv.ParseFloat: parsing {go_quote(text)}: invalid syntax")
    count = scaled(percentage, total, round_up=True)
    if count == total and total > 1 and value != "100%":
        count -= 1
    return Scaled(max(0, min(count, total)))


def sidecarset_injection_share(value: IntOrString | None) -> Fraction:
    """Return which share of new pods, 0 to 1, gets the old sidecars; a number, and nothing, give 0.

    Raises IntOrStringError for a string without a number.
    """
    if value is None or isinstance(value, int):
        return Fraction(0)
    text = value.removesuffix("%")
    percentage = _fraction(text)
    if percentage is None:
        raise IntOrStringError(f"strconv.ParseFloat: parsing {go_quote(text)}: invalid syntax")
    return percentage / 100


def _fraction(text: str) -> Fraction | None:
    """Read what a decimal or hexadecimal floating-point literal says, exactly."""
    if _HEX_FLOAT.fullmatch(text):
        try:
            return Fraction(float.fromhex(text))
        except OverflowError:
            return None
    if _FLOAT.fullmatch(text) is None or len(text) > _MAX_EXPONENT:
        return None
    if abs(int(text.lower().partition("e")[2] or 0)) > _MAX_EXPONENT:
        return None
    return Fraction(text)


def min_updated_ready_pods(text: str, total: int) -> tuple[IntOrString, Scaled]:
    """Read the annotation: the parsed value, and the count it means, rounded up."""
    parsed = parse(text)
    try:
        return parsed, Scaled(strict(parsed, total, round_up=True))
    except IntOrStringError as error:
        return parsed, Scaled(0, str(error))


# ---- validation ------------------------------------------------------------------------------------------------------


def _printed(value: IntOrString) -> Plain:
    if isinstance(value, int):
        return Plain(f'intstr.IntOrString{{Type:0, IntVal:{value}, StrVal:""}}')
    return Plain(f"intstr.IntOrString{{Type:1, IntVal:0, StrVal:{go_quote(value)}}}")


def validate_positive_int_or_percent(value: IntOrString, path: str) -> list[FieldError]:
    """Validate a count that may not be negative, or a percentage in digits."""
    if isinstance(value, str):
        return [invalid(path, _printed(value), complaint) for complaint in labels.percent(value)]
    return [invalid(path, value, "must be greater than or equal to 0")] if value < 0 else []


def validate_not_above_100_percent(value: IntOrString, path: str) -> list[FieldError]:
    """Validate that a well-formed percentage is not above 100%."""
    if isinstance(value, int) or labels.percent(value):
        return []
    digits = value[:-1].lstrip("0")
    if len(digits) > 3 or int(digits or 0) > 100:
        return [invalid(path, _printed(value), "must not be greater than 100%")]
    return []
