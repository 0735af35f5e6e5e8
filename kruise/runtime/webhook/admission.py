"""Admission reviews: from the bytes of the API server to the bytes of the answer.

Purpose: the core of every admission webhook, without a socket, a clock or a task. A handler is a function from an
:class:`AdmissionRequest` to an :class:`Answer`; everything around it is here.

Guarantees:

* WEB2: ``admission.k8s.io`` v1 and v1beta1; the answer has the version of the review and its uid. ``allowed: false``
  comes from a handler alone, which says it of a user's fault. What is no review is answered HTTP 400, an exception of
  a handler HTTP 500, one that it is not ready 503: then the failurePolicy of the configuration decides (rule 31).
* WEB12: every patch is applied to the object of the request before it is sent; one that does not apply, or that leaves
  no object, is an exception of ours.
* C8: whatever the bytes, there is an answer, and no exception. Values nested deeper than 200 are refused before
  anybody walks them, and so are more values than an object of Kubernetes has.
* LOG4: neither an answer nor :class:`Outcome` quotes the object.

What this does not do: it waits for nothing (``server.py`` has the deadline), and it looks nothing up.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Final

import msgspec
import orjson

from kruise.runtime.errors import Cause
from kruise.runtime.webhook.patching import Operation, PatchError, apply_patch

__all__ = [
    "AdmissionRequest",
    "Answer",
    "BadReview",
    "Handler",
    "NotReady",
    "Outcome",
    "Review",
    "User",
    "allow",
    "deny",
    "fault",
    "open_review",
    "patch",
    "respond",
]

GROUP: Final = "admission.k8s.io"
VERSIONS: Final = frozenset({f"{GROUP}/v1", f"{GROUP}/v1beta1"})
JSON: Final = "application/json"
MAX_DEPTH: Final = 200
"""How deep values may be nested. No object of Kubernetes comes near."""
MAX_VALUES: Final = 1 << 18
"""How many values a review may have beside the first of each list and object. An object of 1.5 MiB, which is what a
cluster stores, would have to have one in every six bytes; to read as many as fit into a body takes longer than C8
leaves."""
_MAX_BRACKETS: Final = 1 << 20
_FEW_BRACKETS: Final = 8 << 10
_NULL: Final = msgspec.Raw(b"null")
_WARNING_LENGTH: Final = 256
_WARNINGS_LENGTH: Final = 4096


class BadReview(ValueError):
    """What came is no review. The text says why, and quotes nothing."""


class NotReady(RuntimeError):
    """A handler cannot decide yet. The text says what it waits for; the answer is 503: the failurePolicy decides."""


class GroupVersionKind(msgspec.Struct, frozen=True, rename="camel"):
    """``metav1.GroupVersionKind``."""

    group: str = ""
    version: str = ""
    kind: str = ""


class GroupVersionResource(msgspec.Struct, frozen=True, rename="camel"):
    """``metav1.GroupVersionResource``."""

    group: str = ""
    version: str = ""
    resource: str = ""


class User(msgspec.Struct, frozen=True, rename="camel"):
    """Who makes the request."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()


class AdmissionRequest(msgspec.Struct, frozen=True, rename="camel", dict=True):
    """The question of the API server. Objects stay bytes until somebody reads them."""

    uid: str
    kind: GroupVersionKind = GroupVersionKind()
    resource: GroupVersionResource = GroupVersionResource()
    sub_resource: str = ""
    request_kind: GroupVersionKind | None = None
    request_resource: GroupVersionResource | None = None
    name: str = ""
    """Empty at the creation of an object with generateName."""
    namespace: str = ""
    operation: str = ""
    """CREATE, UPDATE, DELETE or CONNECT."""
    user_info: User = User()
    object: msgspec.Raw = _NULL
    """The bytes of the new object; ``null`` at DELETE. At a mutating CREATE it has no uid and no creationTimestamp."""
    old_object: msgspec.Raw = _NULL
    """The bytes of the object as it is stored; ``null`` at CREATE."""
    options: msgspec.Raw = _NULL
    dry_run: bool | None = None

    def parsed(self) -> dict[str, Any]:
        """Return the new object, parsed once and shared: do not change it. Raises BadReview when it is none."""
        return self._parsed("_new", self.object)

    def parsed_old(self) -> dict[str, Any]:
        """Return the stored object, parsed once and shared: do not change it. Raises BadReview when it is none."""
        return self._parsed("_old", self.old_object)

    def _parsed(self, slot: str, raw: msgspec.Raw) -> dict[str, Any]:
        found: dict[str, Any] | None = self.__dict__.get(slot)
        if found is None:
            try:
                value = orjson.loads(memoryview(raw))
            except ValueError:
                raise BadReview("the object is no JSON") from None
            if not isinstance(value, dict):
                raise BadReview("the request has no object")
            found = self.__dict__[slot] = value
        return found

    def with_object(self, value: Mapping[str, Any]) -> AdmissionRequest:
        """Return this request with *value* as its object, for the next of several handlers (WEB5)."""
        changed = msgspec.structs.replace(self, object=msgspec.Raw(orjson.dumps(value)))
        changed.__dict__["_new"] = value
        if "_old" in self.__dict__:
            changed.__dict__["_old"] = self.__dict__["_old"]
        return changed


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler says. Make it with :func:`allow`, :func:`patch` or :func:`deny`."""

    allowed: bool = True
    operations: Sequence[Operation] = ()
    """The patch, as operations."""
    serialized: bytes = b""
    """The patch, as bytes that were put together from parts; instead of ``operations``."""
    warnings: tuple[str, ...] = ()
    code: int = 0
    reason: str = ""
    message: str = ""
    causes: tuple[Cause, ...] = ()
    audit: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Annotations of the audit log; their keys get the name of the webhook in front by the server."""


Handler = Callable[[AdmissionRequest], Answer | Awaitable[Answer]]
"""Answers a request. What only computes is a plain function; one that must wait is a coroutine function."""

ALLOWED: Final = Answer()


def allow(*, warnings: Sequence[str] = (), audit: Mapping[str, str] | None = None) -> Answer:
    """Let the request pass as it is."""
    return Answer(warnings=tuple(warnings), audit=audit or MappingProxyType({})) if warnings or audit else ALLOWED


def patch(
    change: Sequence[Operation] | bytes, *, warnings: Sequence[str] = (), audit: Mapping[str, str] | None = None
) -> Answer:
    """Let the request pass with *change*, a JSON patch as operations or as bytes. An empty one is none."""
    serialized = change if isinstance(change, bytes) else b""
    operations = () if isinstance(change, bytes) else tuple(change)
    return Answer(True, operations, serialized, tuple(warnings), audit=audit or MappingProxyType({}))


def deny(
    message: str,
    *,
    code: int = 403,
    reason: str = "Forbidden",
    causes: Sequence[Cause] = (),
    warnings: Sequence[str] = (),
) -> Answer:
    """Refuse the request, for a fault of the user (rule 31)."""
    return Answer(False, (), b"", tuple(warnings), code, reason, message, tuple(causes))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What goes back over HTTP, and what a log line may say of it."""

    status: int
    body: bytes
    content_type: str = JSON
    allowed: bool | None = None
    """``None`` where no decision was made."""
    problem: str = ""
    """What was wrong, without values of the object."""
    error: Exception | None = None
    """What a handler raised."""


@dataclass(frozen=True, slots=True)
class Review:
    """A review that could be read."""

    api_version: str
    request: AdmissionRequest


class _Envelope(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    request: AdmissionRequest | None = None


_DECODER: Final = msgspec.json.Decoder(_Envelope)
_STEP: Final = {ord("{"): 1, ord("}"): -1}
_QUOTED: Final = re.compile(rb'"[^"]*"')
_AS_ONE_KIND: Final = bytes.maketrans(b"[]", b"{}")
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b'{}[]"'))
_NOT_ESCAPES: Final = bytes(set(_NOT_STRUCTURE) - set(b"\\/bfnrtu"))
_NOT_COMMAS: Final = bytes(set(range(256)) - set(b',"'))
_NOT_COMMAS_OR_ESCAPES: Final = bytes(set(_NOT_COMMAS) - set(b"\\/bfnrtu"))


def too_deep(body: bytes, limit: int = MAX_DEPTH) -> bool:
    """Tell whether values in *body*, which is JSON, are nested deeper than *limit*.

    Empty values hold nothing, so few others settle it. Else what is no bracket goes first; then the layers are peeled
    off from the inside, all values at once. Where there are many brackets they are counted one by one: that takes as
    long for a hostile text as for any other.

    >>> too_deep(b'{"a": "[[["}', 1), too_deep(b'{"a": [1]}', 1)
    (False, True)
    """
    opened = body.count(b"{") + body.count(b"[")
    if opened <= limit:
        return False
    if opened <= _FEW_BRACKETS and opened - body.count(b"{}") - body.count(b"[]") < limit:  # an empty one goes below
        return False
    body = _unescaped(body, _NOT_ESCAPES)
    shape = body.translate(_AS_ONE_KIND, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in shape:
        shape = _QUOTED.sub(b"", shape)
    if len(shape) > _MAX_BRACKETS:
        return True
    if len(shape) > _FEW_BRACKETS:
        return max(accumulate(map(_STEP.__getitem__, shape)), default=0) > limit
    for _ in range(limit):
        if not shape:
            return False
        shape = shape.replace(b"{}", b"")
    return bool(shape)


def _unescaped(body: bytes, unneeded: bytes) -> bytes:
    """Return *body* so that every quote in it begins or ends a text; *unneeded*, which no backslash precedes, goes."""
    if b"\\" not in body:
        return body
    body = body.translate(None, unneeded)
    return body.replace(b"\\\\", b"").replace(b'\\"', b"")  # in this order: a quote behind two of them ends a text


def too_many(body: bytes, limit: int = MAX_VALUES) -> bool:
    """Tell whether *body*, which is JSON, has more than *limit* commas between values; those in texts do not count.

    >>> too_many(b'{"a": ",,,", "b": 1}', 1), too_many(b'[{"a": 1, "b": 2}, 3]', 1)
    (False, True)
    """
    if body.count(b",") <= limit:
        return False
    commas = _unescaped(body, _NOT_COMMAS_OR_ESCAPES).translate(None, _NOT_COMMAS)
    return sum(map(len, commas.split(b'"')[::2])) > limit


def open_review(body: bytes) -> Review:
    """Read a review. Raises BadReview."""
    try:
        envelope = _DECODER.decode(body)
    except RecursionError:
        raise BadReview(f"values are nested deeper than {MAX_DEPTH}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadReview(_without_values(error)) from None
    if envelope.kind != "AdmissionReview" or envelope.api_version not in VERSIONS:
        raise BadReview(f"want an AdmissionReview of {GROUP}/v1 or v1beta1")
    if envelope.request is None or not envelope.request.uid:
        raise BadReview("the review has no request, or its request has no uid")
    if too_deep(body):
        raise BadReview(f"values are nested deeper than {MAX_DEPTH}")
    if too_many(body):
        raise BadReview(f"there are more than {MAX_VALUES} values")
    return Review(envelope.api_version, envelope.request)


def _without_values(error: Exception) -> str:
    """Return what a decoder says: types, paths and offsets; an unknown character is the only part of the input."""
    return "the text is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def respond(body: bytes, handler: Callable[[AdmissionRequest], Answer]) -> Outcome:
    """Answer the review in *body* with a handler that does not wait. Never raises (C8)."""
    try:
        review = open_review(body)
    except BadReview as error:
        return bad(error)
    try:
        return close_review(review, handler(review.request))
    except BadReview as error:
        return bad(error)
    except NotReady as error:
        return not_ready(error)
    except Exception as error:  # noqa: BLE001 - an exception of ours leaves the decision to the failurePolicy
        return fault(error)


def bad(error: BadReview) -> Outcome:
    """Return the answer to what is no review."""
    return Outcome(400, f"{error}\n".encode(), "text/plain; charset=utf-8", problem=str(error))


def not_ready(error: NotReady) -> Outcome:
    """Return the answer of a handler that cannot decide yet."""
    return Outcome(503, f"{error}\n".encode(), "text/plain; charset=utf-8", problem=str(error))


def fault(error: Exception) -> Outcome:
    """Return the answer when a handler has failed: its cause is for our log, not for the client."""
    text = b"internal error; the log has the cause\n"
    return Outcome(500, text, "text/plain; charset=utf-8", problem=type(error).__name__, error=error)


def patched(request: AdmissionRequest, answer: Answer) -> dict[str, Any]:
    """Return the object of *request* as *answer* leaves it. Raises PatchError where the API server would fail."""
    operations = answer.operations
    if answer.serialized:
        try:
            operations = orjson.loads(answer.serialized)
        except ValueError:
            raise PatchError("the patch is no JSON") from None
        if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
            raise PatchError("the patch is no list of operations")
    result = apply_patch(request.parsed(), operations)
    if not isinstance(result, dict):
        raise PatchError("the patch leaves no object")
    return result


def close_review(review: Review, answer: Answer) -> Outcome:
    """Return the bytes of *answer*. Raises PatchError for a patch that does not apply (WEB12)."""
    response: dict[str, Any] = {"uid": review.request.uid, "allowed": answer.allowed}
    if answer.allowed and (answer.operations or answer.serialized):
        if review.request.operation in ("DELETE", "CONNECT"):
            raise PatchError(f"nothing can be patched at {review.request.operation}")
        patched(review.request, answer)
        text = answer.serialized or orjson.dumps(answer.operations)
        response["patch"] = base64.b64encode(text).decode()
        response["patchType"] = "JSONPatch"
    if not answer.allowed:
        response["status"] = _status(review.request, answer)
    if answer.warnings:
        response["warnings"] = _warnings(answer.warnings)
    if answer.audit:
        response["auditAnnotations"] = dict(answer.audit)
    body = orjson.dumps({"kind": "AdmissionReview", "apiVersion": review.api_version, "response": response})
    return Outcome(200, body, allowed=answer.allowed, problem=answer.reason)


def _status(request: AdmissionRequest, answer: Answer) -> dict[str, Any]:
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": answer.message,
        "reason": answer.reason,
        "code": answer.code,
    }
    if answer.causes:
        causes = [{"reason": c.reason, "message": c.message, "field": c.field} for c in answer.causes]
        kind = request.kind
        status["details"] = {"name": request.name, "group": kind.group, "kind": kind.kind, "causes": causes}
    return status


def _warnings(texts: Sequence[str]) -> list[str]:
    """Return *texts* as a header can carry them: on one line, each once, and not more than the API server passes on."""
    found: list[str] = []
    left = _WARNINGS_LENGTH
    for text in dict.fromkeys(texts):
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        if len(line) > _WARNING_LENGTH:
            line = f"{line[: _WARNING_LENGTH - 3]}..."
        left -= len(line.encode())
        if left < 0:
            break
        if line:
            found.append(line)
    return found
