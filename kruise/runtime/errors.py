"""One tree of errors, and one total classifier.

::

    RuntimeFault
    ├── ApiError                      the API server answered, and the answer is an error
    │   ├── BadRequest                400
    │   ├── Unauthorized              401
    │   ├── Forbidden                 403   names the RBAC rule to add
    │   ├── NotFound                  404
    │   ├── MethodNotAllowed          405
    │   ├── AlreadyExists             409, reason AlreadyExists
    │   ├── Conflict                  409, any other reason
    │   ├── Expired                   410
    │   ├── TooLarge                  413
    │   ├── Unsupported               415
    │   ├── Invalid                   422
    │   ├── TooManyRequests           429
    │   ├── InternalError             500
    │   ├── Unavailable               503
    │   ├── ServerTimeout             504
    │   └── TooLargeResourceVersion   504 with the cause ResourceVersionTooLarge
    ├── TransportError                no usable answer came
    │   ├── Refused  Reset  Timeout  Truncated  BadFrame
    ├── DecodeError                   an object does not fit its type; names the field
    ├── UnknownOutcome                a write that may or may not have happened: read before you plan again
    ├── ResourceNotCached             a read of a type that nobody declared; names the missing line
    ├── SyncTimeout                   a cache did not fill in time; names the kind and the last error
    ├── Fenced                        a write after the leader's term; nothing was sent
    ├── LeadershipLost                the lease is gone
    ├── QueueClosed                   the work queue was shut down
    ├── ConfigError                   an option or a kubeconfig is wrong; names it and the rule
    ├── CacheMutated                  somebody changed a cached object (cache/mutation.py; on in tests)
    ├── CacheInconsistent             a cache differs from a fresh list (cache/detector.py; on in tests)
    └── TerminalError                 the only way for a reconciler to say "do not retry"

Guarantees: ERR1 (:func:`classify` is total), ERR2 (an ApiError carries the whole Status), ERR3 (Forbidden prints the
rule to add), ERR4, ERR5 (``TerminalError`` keeps its cause), ERR6 (``CancelledError`` is never mapped).

What this does not do: it decides no retry; it only says what an error means for a watch.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from typing import Final

__all__ = [
    "AlreadyExists",
    "ApiError",
    "BadFrame",
    "BadRequest",
    "Cause",
    "ConfigError",
    "Conflict",
    "DecodeError",
    "Expired",
    "Fenced",
    "Forbidden",
    "InternalError",
    "Invalid",
    "LeadershipLost",
    "MethodNotAllowed",
    "NotFound",
    "QueueClosed",
    "Refused",
    "Reset",
    "ResourceNotCached",
    "RuntimeFault",
    "ServerTimeout",
    "Status",
    "SyncTimeout",
    "TerminalError",
    "Timeout",
    "TooLarge",
    "TooLargeResourceVersion",
    "TooManyRequests",
    "TransportError",
    "Truncated",
    "Unauthorized",
    "Unavailable",
    "UnknownOutcome",
    "Unsupported",
    "Verdict",
    "classify",
    "error_from_status",
]


class RuntimeFault(Exception):
    """The root of every error that this runtime raises on purpose."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One entry of ``status.details.causes``."""

    reason: str = ""
    message: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What the API server said of a failed request (``metav1.Status``), and the request that it answers."""

    code: int
    reason: str = ""
    message: str = ""
    causes: tuple[Cause, ...] = ()
    kind: str = ""
    name: str = ""
    group: str = ""
    uid: str = ""
    retry_after: float | None = None
    """Seconds to wait before the next try: the header ``Retry-After``, else ``details.retryAfterSeconds``."""
    continue_token: str = ""
    """The inconsistent-continue token of an expired page."""
    flow_schema_uid: str = ""
    priority_level_uid: str = ""
    verb: str = ""
    """The API verb of the request: get, list, watch, create, patch, delete."""
    resource: str = ""
    """The plural and the subresource of the request, such as ``pods/status``."""
    namespace: str = ""


class ApiError(RuntimeFault):
    """The API server refused a request. ``status`` has everything that it said (ERR2)."""

    def __init__(self, status: Status) -> None:
        self.status = status
        super().__init__(self._text())

    def _text(self) -> str:
        s = self.status
        what = " ".join(part for part in (s.verb, s.resource, _place(s)) if part)
        # Every answer names its flow; it tells something only when the flow was the reason.
        throttled = s.code == 429 and s.flow_schema_uid
        flow = f" (flow schema {s.flow_schema_uid}, priority level {s.priority_level_uid})" if throttled else ""
        return f"{what or 'request'}: {s.code} {s.reason or type(self).__name__}: {s.message or 'no message'}{flow}"


def _place(s: Status) -> str:
    return f"{s.namespace}/{s.name}" if s.namespace and s.name else s.namespace or s.name


class BadRequest(ApiError):
    """400: the request itself is malformed."""


class Unauthorized(ApiError):
    """401: the credential was not accepted."""


class Forbidden(ApiError):
    """403. Where the refusal comes from the authorizer, the text ends with the rule that is missing (ERR3)."""

    def _text(self) -> str:
        s = self.status
        base = super()._text()
        if not (s.verb and s.resource):
            return base
        where = f"in namespace {s.namespace}" if s.namespace else "in a ClusterRole"
        return (
            f"{base}; if the authorizer refused it, add this rule {where}: "
            f'{{apiGroups: ["{s.group}"], resources: ["{s.resource}"], verbs: ["{s.verb}"]}}'
        )


class NotFound(ApiError):
    """404: no such object, or no such resource."""


class MethodNotAllowed(ApiError):
    """405: the resource does not know this verb."""


class AlreadyExists(ApiError):
    """409 with reason AlreadyExists: an object of this name is there."""


class Conflict(ApiError):
    """409: the object changed since the version on which the write was decided."""


class Expired(ApiError):
    """410: the resource version or continue token is too old."""


class TooLarge(ApiError):
    """413: the body is larger than the server takes."""


class Unsupported(ApiError):
    """415: this content type is not taken here, such as a strategic merge patch of a custom resource."""


class Invalid(ApiError):
    """422: the object breaks a rule; ``status.causes`` has the fields."""


class TooManyRequests(ApiError):
    """429: the server asks to slow down."""


class InternalError(ApiError):
    """500, and every other code of the 5xx range that has no class of its own."""


class Unavailable(ApiError):
    """503: the server is not ready."""


class ServerTimeout(ApiError):
    """504: the server gave up. A write may have happened."""


class TooLargeResourceVersion(ServerTimeout):
    """504: the server has not yet seen the resource version that was asked for."""


class TransportError(RuntimeFault):
    """No usable answer came. ``sent`` tells whether the request may have reached the server."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class Refused(TransportError):
    """The connection was refused: nothing was sent."""

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message, sent=sent)


class Reset(TransportError):
    """The connection broke."""


class Timeout(TransportError):
    """No answer within the deadline of the request."""


class Truncated(TransportError):
    """The answer ended in the middle of an object."""


class BadFrame(TransportError):
    """The stream holds something that is no watch event, or a line over the limit."""


class DecodeError(RuntimeFault):
    """An object does not fit its type. ``path`` is the field, as ``$.spec.parallelism``; no value is shown."""

    def __init__(self, message: str, *, path: str = "", key: object = None) -> None:
        super().__init__(message)
        self.path = path
        self.key = key


class UnknownOutcome(RuntimeFault):
    """A write ended without an answer that can be trusted: it may have happened.

    Read the name live before you plan again. ``cause`` is the error that hid the outcome.
    """

    def __init__(self, message: str, cause: Exception) -> None:
        super().__init__(f"{message}: {cause}; the write may have happened, read it live before planning again")
        self.cause = cause


class ResourceNotCached(RuntimeFault):
    """A read of a type, or by an index, that was never declared (ERR4). The text names the missing line."""


class SyncTimeout(RuntimeFault):
    """A cache was not filled in time. The text names the kind, the page that it reached and the last error."""


class Fenced(RuntimeFault):
    """A write was refused on our side, because the leader's term is over. Nothing was sent."""


class LeadershipLost(RuntimeFault):
    """The lease was lost while leader work ran."""


class QueueClosed(RuntimeFault):
    """The work queue was shut down."""


class ConfigError(RuntimeFault):
    """An option, an environment variable or a kubeconfig is wrong. The text names it, its value and the rule."""


class TerminalError(RuntimeFault):
    """A reconciler's word that a retry cannot help until the object changes (ERR5).

    >>> try:
    ...     raise TerminalError("spec.parallelism: 'x' is no number") from ValueError("x")
    ... except TerminalError as e:
    ...     repr(e.__cause__)
    "ValueError('x')"
    """

    def __init__(self, message: str, *, reason: str = "TerminalError") -> None:
        super().__init__(message)
        self.reason = reason


_BY_CODE: Final[dict[int, type[ApiError]]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    410: Expired,
    413: TooLarge,
    415: Unsupported,
    422: Invalid,
    429: TooManyRequests,
    500: InternalError,
    503: Unavailable,
    504: ServerTimeout,
}


def error_from_status(status: Status) -> ApiError:
    """Return the error that stands for *status*. Code decides, and where codes are shared, reason and causes do."""
    if status.code == 409 and status.reason == "AlreadyExists":
        return AlreadyExists(status)
    if is_too_large_resource_version(status):
        return TooLargeResourceVersion(status)
    if status.code in _BY_CODE:
        return _BY_CODE[status.code](status)
    if status.code >= 500:
        return InternalError(status)
    return ApiError(status) if status.code < 400 else BadRequest(status)


def is_too_large_resource_version(status: Status) -> bool:
    """Tell whether the server lacks the version asked for: by cause, or by the text that servers before 1.18 send."""
    if any(cause.reason == "ResourceVersionTooLarge" for cause in status.causes):
        return True
    return status.code == 504 and "Too large resource version" in status.message


class Verdict(enum.Enum):
    """What an error of a list or watch means for the reflector."""

    REWATCH = "rewatch"
    """Back off and open the watch again where it was: the store is still good."""
    RELIST = "relist"
    """The position is lost: list again."""
    FATAL = "fatal"
    """No retry of the same request can help by itself: report it, back off, list again."""


def classify(error: BaseException) -> Verdict:
    """Return exactly one verdict for every error (ERR1).

    A cancellation is no failure and has no verdict: it is raised again, never mapped (ERR6).
    """
    if isinstance(error, asyncio.CancelledError):
        raise error
    if isinstance(error, Expired | TooLargeResourceVersion):
        return Verdict.RELIST
    if isinstance(error, TooManyRequests | Unavailable | ServerTimeout | InternalError):
        return Verdict.REWATCH
    if isinstance(error, TransportError):
        return Verdict.REWATCH
    if isinstance(error, DecodeError):
        return Verdict.RELIST
    return Verdict.FATAL
