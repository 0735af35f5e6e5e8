"""Who may read the metrics: a TokenReview, then a SubjectAccessReview.

Purpose: let the cluster's own RBAC decide who reads our metrics, with one ClusterRole for nonResourceURLs.

Guarantees:

* MET6: the token is reviewed (answers are kept 1 min, 10 s at most for one), then ``get`` on the path (an allowance is
  kept 5 min, a refusal 30 s). A review that fails is tried again: 500 ms, times 1.5, with 20 % jitter, 5 tries in all.
* It fails closed: no token is 401, a token that is not accepted 401, a user who may not 403; when the API server cannot
  be asked, 500. There is no exception for loopback addresses.
* G13: a token is never kept, logged or shown; what is remembered of it is its SHA-256.

What this does not do: client certificates, and anonymous access.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec
import orjson

from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import (
    ApiError,
    InternalError,
    ServerTimeout,
    TooManyRequests,
    TransportError,
    Unavailable,
    UnknownOutcome,
)
from kruise.runtime.log import get_logger
from kruise.runtime.manager.http import Call, Handler, Reply
from kruise.runtime.objects import Object, Resource

log = get_logger("authz")

TOKEN_KEPT: Final = 60.0
ALLOWED_KEPT: Final = 300.0
DENIED_KEPT: Final = 30.0
REVIEW_TIMEOUT: Final = 10.0
"""Seconds for one review, with all its tries."""
TRIES: Final = 5
PAUSE: Final = 0.5
FACTOR: Final = 1.5
JITTER: Final = 0.2
REMEMBERED: Final = 4096
"""Answers that are kept at most; the oldest one goes first."""


class _User(msgspec.Struct, frozen=True, rename="camel"):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = None
    extra: dict[str, tuple[str, ...]] | None = None


class _TokenStatus(msgspec.Struct, frozen=True, rename="camel"):
    authenticated: bool = False
    user: _User | None = None
    error: str = ""


class _AccessStatus(msgspec.Struct, frozen=True, rename="camel"):
    allowed: bool = False
    denied: bool = False
    evaluation_error: str = ""


class _TokenReview(Object, frozen=True, kw_only=True, rename="camel"):
    status: _TokenStatus | None = None


class _AccessReview(Object, frozen=True, kw_only=True, rename="camel"):
    status: _AccessStatus | None = None


TOKENREVIEWS: Final = Resource(
    "authentication.k8s.io", "v1", "TokenReview", "tokenreviews", _TokenReview, namespaced=False
)
ACCESSREVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", _AccessReview, namespaced=False
)

T = TypeVar("T")


class _Kept(Generic[T]):
    """Answers that hold for a while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: OrderedDict[bytes, tuple[float, T]] = OrderedDict()

    def get(self, key: bytes) -> T | None:
        found = self._answers.get(key)
        if found is None:
            return None
        until, answer = found
        if self._clock.monotonic() >= until:
            del self._answers[key]
            return None
        return answer

    def put(self, key: bytes, answer: T, seconds: float) -> None:
        self._answers[key] = (self._clock.monotonic() + seconds, answer)
        self._answers.move_to_end(key)
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)

    def __len__(self) -> int:
        return len(self._answers)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call may go on, and what to answer when not: 401, 403 or 500."""

    status: int = 200
    text: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the call may go on."""
        return self.status == 200


class Authorizer:
    """Asks the API server about tokens and rights, and remembers what it said."""

    def __init__(self, rest: Rest, *, clock: Clock, rng: Random) -> None:
        # Reviews change nothing: they neither wait behind writes nor count as writes.
        self._rest = rest.named("metrics-authorizer", windowed=False)
        self._clock = clock
        self._rng = rng
        self._users: _Kept[_User | str] = _Kept(clock)
        """The user of a token, or why it was not accepted."""
        self._rights: _Kept[bool] = _Kept(clock)

    def guard(self, handler: Handler) -> Handler:
        """Return *handler* behind this authorizer: the verb is ``get``, the path is the call's own."""

        async def guarded(call: Call) -> Reply:
            decision = await self.check(call.headers.get("authorization", ""), call.path)
            if decision.allowed:
                return await handler(call)
            headers = {"www-authenticate": "Bearer"} if decision.status == 401 else {}
            return Reply(decision.status, f"{decision.text}\n".encode(), headers=headers)

        return guarded

    async def check(self, authorization: str, path: str) -> Decision:
        """Decide on ``get`` *path* by the header ``Authorization``. Never raises but for a cancellation."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return Decision(401, "Unauthorized: a bearer token is needed")
        try:
            user = await self._user(token)
        except (ApiError, TransportError, UnknownOutcome, TimeoutError, msgspec.DecodeError) as error:
            log.error("a token could not be reviewed", error=_shown(error))
            return Decision(500, "Authentication failed")
        if isinstance(user, str):
            return Decision(401, "Unauthorized")
        try:
            allowed = await self._may(user, path)
        except (ApiError, TransportError, UnknownOutcome, TimeoutError, msgspec.DecodeError) as error:
            log.error("a right could not be reviewed", user=user.username, error=_shown(error))
            return Decision(500, f"Authorization for user {user.username} failed")
        return Decision() if allowed else Decision(403, f"Authorization denied for user {user.username}")

    async def _user(self, token: str) -> _User | str:
        key = hashlib.sha256(token.encode()).digest()
        known = self._users.get(key)
        if known is not None:
            return known
        review = await self._review(TOKENREVIEWS, {"token": token}, _TokenReview)
        status = review.status or _TokenStatus()
        if status.error:
            log.warning("a token was not accepted", error=status.error)
        user: _User | str = "not accepted"
        if status.authenticated and not status.error and status.user is not None and status.user.username:
            user = status.user
        self._users.put(key, user, TOKEN_KEPT)
        return user

    async def _may(self, user: _User, path: str) -> bool:
        spec: dict[str, Any] = {
            "user": user.username,
            "groups": list(user.groups or ()),
            "nonResourceAttributes": {"path": path, "verb": "get"},
        }
        if user.uid:
            spec["uid"] = user.uid
        if user.extra:
            spec["extra"] = {name: list(values) for name, values in user.extra.items()}
        key = hashlib.sha256(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)).digest()
        known = self._rights.get(key)
        if known is not None:
            return known
        review = await self._review(ACCESSREVIEWS, spec, _AccessReview)
        status = review.status or _AccessStatus()
        allowed = status.allowed and not status.denied
        if not allowed and status.evaluation_error:
            log.warning("a right was not granted", user=user.username, error=status.evaluation_error)
        self._rights.put(key, allowed, ALLOWED_KEPT if allowed else DENIED_KEPT)
        return allowed

    async def _review(self, resource: Resource[Any], spec: dict[str, Any], kind: type[T]) -> T:
        body = orjson.dumps({"apiVersion": resource.api_version, "kind": resource.kind, "spec": spec})

        async def once() -> T:
            answer = await self._rest.call(
                "create", "POST", resource, body=body, accept="application/json", timeout=REVIEW_TIMEOUT
            )
            return msgspec.json.decode(answer.body, type=kind)

        async with asyncio.timeout(REVIEW_TIMEOUT):
            return await self._tries(once)

    async def _tries(self, once: Callable[[], Awaitable[T]]) -> T:
        pause = PAUSE
        for _ in range(TRIES - 1):
            try:
                return await once()
            except (InternalError, Unavailable, ServerTimeout, TooManyRequests, TransportError, UnknownOutcome):
                # A review has no effect, so that one with an unknown outcome may simply be made again.
                await self._clock.sleep(pause * (1 + JITTER * self._rng.random()))
                pause *= FACTOR
        return await once()


def _shown(error: Exception) -> str:
    return str(error) or f"no answer within {REVIEW_TIMEOUT:g} s"
