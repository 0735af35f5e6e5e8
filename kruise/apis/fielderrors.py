"""Field errors: what is wrong, where, and how the API server would print it.

Purpose: one value type for every validation in the project, so that an error means the same in a webhook's answer, in
a condition and in a log line.

Guarantees: the printed form and the aggregate equal those of Kubernetes' own field errors, byte for byte, for values
that JSON can hold; the order of a list is the order of the checks.

What this does not do: it does not imitate Go's dump of a structure. A value that Kubernetes would print as one is
passed as :class:`Plain` text or left out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "ErrorType",
    "FieldError",
    "Plain",
    "aggregate",
    "duplicate",
    "forbidden",
    "go_quote",
    "invalid",
    "not_found",
    "not_supported",
    "required",
    "too_long",
    "too_many",
    "type_invalid",
]


class ErrorType(enum.StrEnum):
    """The machine-readable reason; the values are those of ``Status.details.causes[].reason``."""

    NOT_FOUND = "FieldValueNotFound"
    REQUIRED = "FieldValueRequired"
    DUPLICATE = "FieldValueDuplicate"
    INVALID = "FieldValueInvalid"
    NOT_SUPPORTED = "FieldValueNotSupported"
    FORBIDDEN = "FieldValueForbidden"
    TOO_LONG = "FieldValueTooLong"
    TOO_MANY = "FieldValueTooMany"
    INTERNAL = "InternalError"
    TYPE_INVALID = "FieldValueTypeInvalid"


_TEXT: Final[dict[ErrorType, str]] = {
    ErrorType.NOT_FOUND: "Not found",
    ErrorType.REQUIRED: "Required value",
    ErrorType.DUPLICATE: "Duplicate value",
    ErrorType.INVALID: "Invalid value",
    ErrorType.NOT_SUPPORTED: "Unsupported value",
    ErrorType.FORBIDDEN: "Forbidden",
    ErrorType.TOO_LONG: "Too long",
    ErrorType.TOO_MANY: "Too many",
    ErrorType.INTERNAL: "Internal error",
    ErrorType.TYPE_INVALID: "Invalid value",
}
_WITHOUT_VALUE: Final = frozenset({ErrorType.REQUIRED, ErrorType.FORBIDDEN, ErrorType.TOO_LONG, ErrorType.INTERNAL})

_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


class Plain(str):
    """A value that is printed without quotation marks, as Go prints a type that has its own text form."""

    __slots__ = ()


def go_quote(text: str) -> str:
    r"""Quote *text* as Go's ``%q`` does.

    >>> print(go_quote('a"b'))
    "a\"b"
    """
    out = ['"']
    for char in text:
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char.isprintable() and (char == " " or not char.isspace()):
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        elif ord(char) < 0x10000:
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(f"\\U{ord(char):08x}")
    out.append('"')
    return "".join(out)


def _print_value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Plain):
        return str(value)
    if isinstance(value, str):
        return go_quote(value)
    if isinstance(value, list):
        return "[]string{" + ", ".join(_print_value(item) for item in value) + "}"
    return str(value)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One finding.

    *field* is the path as the API server prints it (``spec.template.spec.containers[0].name``); *detail* is the text
    after the value, possibly empty; *value* is the offending value, printed where the type of error prints one.
    """

    type: ErrorType
    field: str
    detail: str
    value: Any = None

    @property
    def message(self) -> str:
        """The printed form: ``spec.x: Invalid value: "a": must be shorter``."""
        body = _TEXT[self.type]
        if self.type not in _WITHOUT_VALUE:
            body += f": {_print_value(self.value)}"
        if self.detail:
            body += f": {self.detail}"
        return f"{self.field}: {body}"

    def __str__(self) -> str:
        return self.message


def aggregate(errors: Iterable[FieldError]) -> str:
    """Return one text for *errors*: a single error as it is, several as ``[a, b]``, repeats dropped, none as ``""``."""
    messages = list(dict.fromkeys(error.message for error in errors))
    if len(messages) == 1:
        return messages[0]
    return f"[{', '.join(messages)}]" if messages else ""


def not_found(field: str, value: Any) -> FieldError:
    """Say that *value* names something that does not exist."""
    return FieldError(ErrorType.NOT_FOUND, field, "", value)


def required(field: str, detail: str = "") -> FieldError:
    """Say that a value is missing."""
    return FieldError(ErrorType.REQUIRED, field, detail, "")


def duplicate(field: str, value: Any) -> FieldError:
    """Say that *value* stands twice where it must be unique."""
    return FieldError(ErrorType.DUPLICATE, field, "", value)


def invalid(field: str, value: Any, detail: str) -> FieldError:
    """Say that *value* is malformed or out of bounds."""
    return FieldError(ErrorType.INVALID, field, detail, value)


def not_supported(field: str, value: Any, supported: Sequence[str]) -> FieldError:
    """Say that *value* is none of *supported*, which are printed in the given order."""
    detail = "supported values: " + ", ".join(go_quote(item) for item in supported) if supported else ""
    return FieldError(ErrorType.NOT_SUPPORTED, field, detail, value)


def forbidden(field: str, detail: str) -> FieldError:
    """Say that a value may not be set here."""
    return FieldError(ErrorType.FORBIDDEN, field, detail, "")


def too_long(field: str, limit: int) -> FieldError:
    """Say that a value has more than *limit* bytes."""
    return FieldError(ErrorType.TOO_LONG, field, f"may not be more than {limit} bytes", "")


def too_many(field: str, count: int, limit: int) -> FieldError:
    """Say that a list has *count* items where *limit* are allowed."""
    return FieldError(ErrorType.TOO_MANY, field, f"must have at most {limit} items", count)


def type_invalid(field: str, value: Any, detail: str) -> FieldError:
    """Say that *value* is not of the type that the field has."""
    return FieldError(ErrorType.TYPE_INVALID, field, detail, value)
