"""What an answer of the API server means.

Purpose: turn any answer, also one that no API server would give, into a value or into a typed error.

Guarantees:

* ERR2: an error carries the whole Status: code, reason, message, causes, details, retry time, continue token, and the
  UIDs of flow schema and priority level from the headers ``X-Kubernetes-PF-*``.
* RES2: ``Retry-After`` is understood as seconds and as a date; a date is measured against the server's own clock.
* FRA4, FRA5: a ``Table`` is no list; one item that no decoder takes does not cost the others of its page.
* RES9: HTML of a proxy, an empty body, text, ``null`` in any place: each is a typed error, never a crash. Shown of such
  a body are its first 200 characters.

What this does not do: it decides no retry; see ``retry.py``.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kruise.runtime.client.scan import elements, members
from kruise.runtime.client.transport import NO_HEADERS, Request, Response
from kruise.runtime.errors import ApiError, BadFrame, Cause, Status, error_from_status

_SHOWN: Final = 200
_SPACE: Final = re.compile(r"\s+")


def error_of(response: Response, request: Request, *, now: float = 0.0) -> ApiError:
    """Return the error that *response*, which is no success, stands for. *now* is wall time, for ``Retry-After``."""
    return error_from_status(status_of_body(response.body, request, response.status, response.headers, now=now))


def status_of_body(
    body: bytes, request: Request, code: int, headers: Mapping[str, str] = NO_HEADERS, *, now: float = 0.0
) -> Status:
    """Read a ``metav1.Status``, or whatever stands in its place. Never raises."""
    try:
        read = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        read = None
    if not isinstance(read, dict) or read.get("kind") != "Status":
        # Unknown API groups answer "404 page not found" in plain text, load balancers answer in HTML.
        read = {"message": excerpt(body, headers)}
    return status_of(read, request, code, headers, now=now)


def status_of(
    read: Mapping[str, Any],
    request: Request,
    code: int = 0,
    headers: Mapping[str, str] = NO_HEADERS,
    *,
    now: float = 0.0,
) -> Status:
    """Build a Status from its decoded JSON, of which nothing is taken for granted.

    *code* is the HTTP status; 0, for the object of an ERROR event, means that the body alone has it.
    """
    details = read.get("details")
    if not isinstance(details, dict):
        details = {}
    metadata = read.get("metadata")
    causes = details.get("causes")
    stated = read.get("code")
    retry = retry_after(headers, now=now)
    if retry is None:
        seconds = details.get("retryAfterSeconds")
        retry = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None
    return Status(
        code=code or (stated if isinstance(stated, int) else 0) or 500,
        reason=_text(read.get("reason")),
        message=_text(read.get("message")),
        causes=tuple(
            Cause(_text(c.get("reason")), _text(c.get("message")), _text(c.get("field")))
            for c in (causes if isinstance(causes, list) else ())
            if isinstance(c, dict)
        ),
        kind=_text(details.get("kind")),
        name=request.name or _text(details.get("name")),
        group=request.group or _text(details.get("group")),
        uid=_text(details.get("uid")),
        retry_after=retry,
        continue_token=_text(metadata.get("continue")) if isinstance(metadata, dict) else "",
        flow_schema_uid=headers.get("x-kubernetes-pf-flowschema-uid", ""),
        priority_level_uid=headers.get("x-kubernetes-pf-prioritylevel-uid", ""),
        verb=request.verb,
        resource=f"{request.resource}/{request.subresource}" if request.subresource else request.resource,
        namespace=request.namespace,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, at least 0; ``None`` without the header or for a bad one."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    at = _date(text)
    if at is None:
        return None
    sent = _date(headers.get("date", ""))
    return max(0.0, at - (now if sent is None else sent))


def _date(text: str) -> float | None:
    if not text:
        return None
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def excerpt(body: bytes, headers: Mapping[str, str]) -> str:
    """Return what can be shown of a body that should not have been."""
    text = _SPACE.sub(" ", body[: 4 * _SHOWN].decode("utf-8", "replace")).strip()
    if not text:
        return "the answer has no body"
    kind = headers.get("content-type", "").partition(";")[0] or "no content type"
    return f"the answer is no API object ({kind}): {text[:_SHOWN]}{'...' if len(text) > _SHOWN else ''}"


def check_json(response: Response, request: Request) -> None:
    """Raise BadFrame for a success that is no JSON object, such as the log-in page of a proxy (RES9).

    A write may have an empty answer: nobody needs its body.
    """
    if response.body[:1] == b"{" or (request.mutating and not response.body):
        return
    if response.body[:64].lstrip()[:1] == b"{":
        return
    what = f"{request.method} {request.path.partition('?')[0]}"
    raise BadFrame(f"{what}: {response.status}: {excerpt(response.body, response.headers)}")


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str | None = None
    continue_: str | None = msgspec.field(default=None, name="continue")
    remaining_item_count: int | None = None


class _List(msgspec.Struct):
    kind: str | None = None
    metadata: _ListMeta | None = None
    items: list[msgspec.Raw] | None = None


class ListPage(msgspec.Struct, frozen=True, gc=False):
    """One page of a list, its items not yet decoded."""

    resource_version: str
    continue_token: str
    """``""`` on the last page."""
    items: tuple[msgspec.Raw, ...]
    """Views into the answer's buffer: whoever keeps one must copy it (FRA9)."""
    remaining: int
    """How many items follow, as far as the server says; 0 when it does not."""


_DECODER: Final = msgspec.json.Decoder(_List)


def read_page(response: Response, request: Request) -> ListPage:
    """Read the answer of a list. Raises BadFrame for one that is no list."""
    try:
        read = _DECODER.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        split = _split_page(response.body)
        if split is None:
            raise BadFrame(f"GET {request.path.partition('?')[0]}: the answer is no list: {error}") from error
        read = split
    if read.kind and not read.kind.endswith("List"):
        # A Table has no items: read as a list it would say that there are no objects (FRA4).
        raise BadFrame(f"GET {request.path.partition('?')[0]}: the answer is a {read.kind[:40]}, no list")
    meta = read.metadata
    if meta is None or not meta.resource_version:
        raise BadFrame(f"GET {request.path.partition('?')[0]}: the answer is no list: it has no resourceVersion")
    return ListPage(
        meta.resource_version, meta.continue_ or "", tuple(read.items or ()), meta.remaining_item_count or 0
    )


def _split_page(body: bytes) -> _List | None:
    """Read a page of which one item is so broken that the decoder refuses the whole (FRA5); None for no page."""
    try:
        parts = members(body)
        items = parts.get("items", b"null")
        return _List(
            kind=msgspec.json.decode(parts.get("kind", b"null"), type=str | None),
            metadata=msgspec.json.decode(parts.get("metadata", b"null"), type=_ListMeta | None),
            items=None if items == b"null" else [msgspec.Raw(item) for item in elements(items)],
        )
    except (ValueError, RecursionError):
        return None
