"""The errors of the API server, as ``metav1.Status`` bodies.

Purpose: one constructor per kind of refusal, with the code, reason, text and details that kube-apiserver sends, because
clients decide by them.

Guarantees:

* TST1: AlreadyExists and Conflict share the code 409 and differ in their reason; 410 has the reason Expired; a version
  from the future is 504 with the cause ResourceVersionTooLarge.

What this does not do: it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from kruise.apis.fielderrors import FieldError


@dataclass(frozen=True, slots=True)
class Cause:
    """One broken rule: ``FieldValueInvalid``, ``FieldValueForbidden``, ``FieldValueRequired`` and so on."""

    reason: str
    message: str
    field: str = ""


class Failure(Exception):
    """A request that is refused. ``code``, ``reason`` and ``message`` are those of the Status."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after: int = 0,
        continue_token: str = "",
        empty_details: bool = False,
    ) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.empty_details = empty_details
        self.retry_after = retry_after
        self.continue_token = continue_token
        self.state = "Failure"
        """The ``status`` of the Status; a webhook may name it."""

    def status(self) -> dict[str, Any]:
        """Return the Status object."""
        metadata: dict[str, Any] = {"continue": self.continue_token} if self.continue_token else {}
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": self.state,
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        details = dict(self.details)
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        if details or self.empty_details:
            body["details"] = details
        body["code"] = self.code
        return body

    def body(self) -> bytes:
        """Return the Status as JSON."""
        return orjson.dumps(self.status())

    def headers(self) -> dict[str, str]:
        """Return the headers of the answer."""
        headers = {"content-type": "application/json"}
        if self.retry_after:
            headers["retry-after"] = str(self.retry_after)
        return headers


def _details(name: str, plural: str, group: str, causes: tuple[Cause, ...] = ()) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if plural:
        details["kind"] = plural
    if causes:
        details["causes"] = [
            {"reason": c.reason, "message": c.message} | ({"field": c.field} if c.field else {}) for c in causes
        ]
    return details


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, group: str, name: str) -> Failure:
    """404: no such object."""
    text = f'{_qualified(plural, group)} "{name}" not found'
    return Failure(404, "NotFound", text, details=_details(name, plural, group))


def of_errors(errors: Iterable[FieldError]) -> list[Cause]:
    """Return the causes that say the same as *errors*."""
    return [Cause(str(e.type), e.message.removeprefix(f"{e.field}: "), e.field) for e in errors]


def bare(code: int, message: str) -> Failure:
    """Return a refusal without a reason: what an error inside the server looks like that nobody has given one."""
    return Failure(code, "", message)


def no_such_path() -> Failure:
    """404: no such resource or path."""
    return Failure(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> Failure:
    """409: the name is taken."""
    text = f'{_qualified(plural, group)} "{name}" already exists'
    return Failure(409, "AlreadyExists", text, details=_details(name, plural, group))


def conflict(plural: str, group: str, name: str, why: str = "") -> Failure:
    """409: the object is not the one on which the request was decided."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    text = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return Failure(409, "Conflict", text, details=_details(name, plural, group))


def invalid(kind: str, group: str, name: str, *causes: Cause) -> Failure:
    """422: the object breaks a rule."""
    parts = list(dict.fromkeys(f"{c.field}: {c.message}" if c.field else c.message for c in causes))
    listed = parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"
    text = f'{_qualified(kind, group)} "{name}" is invalid: {listed}'
    return Failure(422, "Invalid", text, details=_details(name, kind, group, causes))


def invalid_value(field: str, value: object, why: str) -> Cause:
    """A cause: the value is not allowed."""
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {why}", field)


def unsupported_value(field: str, value: object, allowed: tuple[str, ...]) -> Cause:
    """A cause: the value is not one of a list."""
    listed = ", ".join(f'"{a}"' for a in allowed)
    return Cause("FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {listed}", field)


def required(field: str, why: str = "") -> Cause:
    """A cause: the field is missing."""
    return Cause("FieldValueRequired", f"Required value: {why}" if why else "Required value", field)


def forbidden_field(field: str, why: str) -> Cause:
    """A cause: the field may not be set or changed."""
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


def immutable(field: str, value: object) -> Cause:
    """A cause: the field cannot be changed."""
    return invalid_value(field, value, "field is immutable")


def too_long(field: str, limit: int) -> Cause:
    """A cause: the text is over its limit."""
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", field)


def shown(value: object) -> str:
    """Return a value as an error text shows it."""
    return f'"{value}"' if isinstance(value, str) else orjson.dumps(value).decode()


def bad_request(message: str) -> Failure:
    """400: the request itself is malformed."""
    return Failure(400, "BadRequest", message)


def forbidden(plural: str, group: str, name: str, why: str, *causes: Cause) -> Failure:
    """403: an admission rule refuses it."""
    text = f'{_qualified(plural, group)} "{name}" is forbidden: {why}'
    return Failure(403, "Forbidden", text, details=_details(name, plural, group, causes))


def method_not_allowed(method: str) -> Failure:
    """405: the resource does not know this verb."""
    return Failure(
        405, "MethodNotAllowed", f"the server does not allow this method on the requested resource: {method}"
    )


def not_acceptable() -> Failure:
    """406: no form of the answer fits the Accept header."""
    text = "only the following media types are accepted: application/json"
    return Failure(406, "NotAcceptable", text)


def unsupported_media_type(given: str, accepted: tuple[str, ...]) -> Failure:
    """415: the body's form is not taken here."""
    del given
    text = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return Failure(415, "UnsupportedMediaType", text)


def expired(message: str, *, continue_token: str = "") -> Failure:
    """410: the version or page is gone."""
    return Failure(410, "Expired", message, continue_token=continue_token)


def too_old(asked: int, oldest: int) -> Failure:
    """410 of a watch that starts before the history."""
    return expired(f"too old resource version: {asked} ({oldest})")


def too_large_version(asked: int, current: int) -> Failure:
    """504: the server has not seen that version yet."""
    cause = Cause("ResourceVersionTooLarge", "Too large resource version")
    text = f"Too large resource version: {asked}, current: {current}"
    return Failure(504, "Timeout", text, details=_details("", "", "", (cause,)), retry_after=1)


def too_large_body(limit: int) -> Failure:
    """413: the body is over the server's limit."""
    return Failure(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def too_many_requests(message: str = "too many requests", retry_after: int = 1) -> Failure:
    """429: slow down."""
    return Failure(429, "TooManyRequests", message, retry_after=retry_after)


def internal(message: str) -> Failure:
    """500: the server itself failed."""
    text = f"Internal error occurred: {message}"
    return Failure(500, "InternalError", text, details={"causes": [{"message": message}]})
