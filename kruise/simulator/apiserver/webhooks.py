"""The seam between the API server and webhooks: where one is called, what it answers, and how a call fails.

Purpose: admission and conversion ask a :class:`Caller` and know no network. Over HTTP it is real HTTPS
(``webhooks_https.py``); in a simulation it is a function that finds the webhook in the process
(``webhooks_local.py``), and faults enter there.

Guarantees:

* TST1: what a failed call says is what kube-apiserver's client says, for a connection that fails, for a deadline, for
  each status of the answer and for a body that is no review.

What this does not do: it decides nothing. What a failure means is in ``webhooks_admission.py`` and
``webhooks_convert.py``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from kruise.apis.fielderrors import go_quote
from kruise.runtime.errors import Timeout, TransportError

Body = dict[str, Any]

HTTPS_PORT: Final = 443
LONGEST: Final = 30.0
"""Seconds that a conversion may take; those of an admission are in its configuration."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook is called: a URL, or a Service and a path."""

    url: str = ""
    namespace: str = ""
    """Of the Service."""
    name: str = ""
    """Of the Service."""
    port: int = HTTPS_PORT
    path: str = ""
    bundle: bytes = field(default=b"", repr=False)
    """Whom to trust, in PEM; nothing: whom the system trusts."""

    @property
    def service(self) -> str:
        """``namespace/name`` of the Service; ``""`` for a URL."""
        return f"{self.namespace}/{self.name}" if self.name else ""

    @property
    def address(self) -> str:
        """The URL that is called."""
        return self.url or f"https://{self.name}.{self.namespace}.svc:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a webhook answers."""

    status: int
    body: bytes
    content_type: str = "application/json"


Caller = Callable[[Target, bytes, float], Awaitable[Answer]]
"""POSTs a review to a target, within some seconds. Raises TransportError when no answer comes, Timeout when it is late;
the text of the error is what kube-apiserver would say, such as ``dial tcp 127.0.0.1:9: connect: connection refused``.
"""


class CallFailed(Exception):
    """A webhook gave no answer that can be used. The text is kube-apiserver's."""


def target_of(config: Mapping[str, Any]) -> Target:
    """Return the target that a ``clientConfig`` names."""
    try:
        bundle = base64.b64decode(config.get("caBundle") or "")
    except (binascii.Error, ValueError):
        bundle = b""
    service = config.get("service") or {}
    if config.get("url"):
        return Target(config["url"], bundle=bundle)
    return Target(
        "",
        service.get("namespace") or "",
        service.get("name") or "",
        service.get("port") or HTTPS_PORT,
        service.get("path") or "",
        bundle,
    )


async def nobody(target: Target, body: bytes, seconds: float) -> Answer:
    """A :class:`Caller` for a server that can reach no webhook."""
    del body, seconds
    host = target.address.removeprefix("https://").partition("/")[0].partition(":")[0]
    raise TransportError(f"dial tcp: lookup {host}: no such host", sent=False)


async def ask(call: Caller, target: Target, review: Body, seconds: float, *, tell: bool = True) -> Body:
    """Return what *target* answers to *review*, decoded. Raises CallFailed.

    *tell* adds the deadline to the address, as the real server does for admission.
    """
    try:
        answer = await call(target, orjson.dumps(review), seconds)
    except Timeout:
        raise CallFailed(_posted(target, seconds, "context deadline exceeded", tell=tell)) from None
    except TransportError as error:
        raise CallFailed(_posted(target, seconds, str(error), tell=tell)) from None
    if not 200 <= answer.status <= 206:
        raise CallFailed(_unexpected(answer))
    return _decoded(answer)


def _posted(target: Target, seconds: float, why: str, *, tell: bool) -> str:
    query = f"?timeout={seconds:g}s" if tell else ""
    return f'Post "{target.address}{query}": {why}'


_BY_STATUS: Final[Mapping[int, str]] = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}
_LONGEST_TEXT: Final = 2048


def _unexpected(answer: Answer) -> str:
    body = _json(answer.body)
    if isinstance(body, dict) and body.get("kind") == "Status" and body.get("apiVersion") == "v1":
        return str(body.get("message") or "unknown")
    text = "unknown"
    if answer.content_type.startswith("text/"):
        text = answer.body[:_LONGEST_TEXT].decode(errors="replace").strip()
    if answer.status in _BY_STATUS:
        return _BY_STATUS[answer.status]
    if answer.status in (403, 415) or (answer.status == 406 and text != "unknown"):
        return text
    if answer.status == 406:
        return "the server was unable to respond with a content type that the client supports"
    if answer.status >= 500:
        return f"an error on the server ({go_quote(text)}) has prevented the request from succeeding"
    return f"the server responded with the status code {answer.status} but did not return more information"


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _decoded(answer: Answer) -> Body:
    if not answer.body:
        text = f"0-length response with status code: {answer.status} and content type: {answer.content_type}"
        raise CallFailed(text)
    try:
        read = json.loads(answer.body)
    except (ValueError, RecursionError):
        read = _as_yaml(answer.body)
    if not isinstance(read, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(read), "number")
        raise CallFailed(f"{_NO_KIND}json: cannot unmarshal {kind} into Go value of type {_HEAD}")
    return read


_NO_KIND: Final = "couldn't get version/kind; json parse error: "
_HEAD: Final = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'


def _as_yaml(body: bytes) -> Any:
    """Read *body*, which is no JSON, as the server's second decoder does. Raises CallFailed."""
    text = body.decode(errors="replace")
    if text.lstrip()[:1] in ("{", "["):
        raise CallFailed(f"{_NO_KIND}unexpected end of JSON input")
    return text
