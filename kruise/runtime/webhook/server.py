"""The HTTPS server of admission and conversion.

Purpose: the thin shell around the core: a port, a deadline, metrics, and log lines; every decision is made elsewhere.

Guarantees:

* WEB1: TLS from 1.2 on, HTTP/1.1 with connections that stay, JSON alone. Optionally, clients must show a certificate
  of a given CA with one of the given names.
* WEB2: another method is answered 405, another content type 415, a body over 7 MiB 413, all of them without a decision.
* WEB3: a request has nine tenths of what ``?timeout=`` grants the API server; what takes longer is answered 503.
* WEB8: a stop closes the port first, and gives requests under way 20 s.
* WEB9: it needs no leadership: every replica serves.
* WEB10: a bounded number of requests, and of bytes, is under way at once; the next one is answered 503 at once, never
  with a refusal. Metrics have the names of controller-runtime; codes 200 and 500 are there from the start.
* :meth:`WebhookServer.answer` gives one request the answer that it would get over TLS, without a socket: for an API
  server in the same process.
* LOG2: lines that a handler logs have the uid of the review and the object that it is about. LOG4: no line has the
  object, nor the text of an exception, which may quote it.

What this does not do: it makes no certificate (``keeper.py``), and it does not tell the API server where it is
(``targets.py``).
"""

from __future__ import annotations

import asyncio
import inspect
import re
import traceback
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from kruise.runtime.clock import Clock
from kruise.runtime.errors import ConfigError
from kruise.runtime.log import bound, get_logger
from kruise.runtime.manager.certs import ServingCertificate
from kruise.runtime.manager.http import Address, Call, HttpServer, Limits, Reply
from kruise.runtime.metrics import Metrics
from kruise.runtime.webhook.admission import (
    JSON,
    BadReview,
    Handler,
    NotReady,
    Outcome,
    Review,
    bad,
    close_review,
    fault,
    not_ready,
    open_review,
)
from kruise.runtime.webhook.conversion import Conversions, convert_review

__all__ = ["DEFAULT_LIMITS", "DEFAULT_PORT", "HEALTH_PATH", "WebhookServer"]

log = get_logger("webhook")

DEFAULT_PORT: Final = 9876
HEALTH_PATH: Final = "/healthz"
"""Answers ``ok``: for the dial of ``dial.py``, which any client may repeat."""
DEFAULT_LIMITS: Final = Limits(
    body_bytes=7 << 20, body_seconds=5.0, concurrent=256, buffered_bytes=128 << 20, drain=20.0
)
DEFAULT_TIMEOUT: Final = 10.0
"""Seconds that the API server waits when its configuration does not say."""
LONGEST_TIMEOUT: Final = 30.0
_SHARE: Final = 0.9
_DURATION: Final = re.compile(r"(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def timeout_of(call: Call) -> float:
    """Return for how many seconds the API server waits for the answer to *call*.

    >>> timeout_of(Call("POST", "/x", {"timeout": ("1m0.5s",)})), timeout_of(Call("POST", "/x"))
    (30.0, 10.0)
    """
    text = next(iter(call.query.get("timeout", ())), "")
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        return DEFAULT_TIMEOUT
    minutes, seconds, milli = (float(part or 0) for part in match.groups())
    return min(LONGEST_TIMEOUT, 60 * minutes + seconds + milli / 1000)


class WebhookServer:
    """Serves handlers under paths. Declare them, then :meth:`run`; a manager takes it with ``add_webhooks``."""

    name: Final = "webhooks"

    def __init__(
        self,
        address: Address,
        certificate: Callable[[], Awaitable[ServingCertificate]],
        *,
        clock: Clock,
        metrics: Metrics,
        flag: str = "--webhook-port",
        limits: Limits = DEFAULT_LIMITS,
        client_names: Collection[str] = (),
    ) -> None:
        """Make a server; nothing listens yet.

        *certificate* is waited for before the port is opened. With *client_names* a client needs a certificate with one
        of these common names; the certificate's ``client_ca`` says whose.
        """
        self.address: Final = address
        self._certificate = certificate
        self._clock = clock
        self._metrics = metrics
        self._flag = flag
        self._limits = limits
        self._client_names = frozenset(client_names)
        self._served: dict[str, Callable[[Call], Awaitable[Reply]]] = {}
        self._server: HttpServer | None = None
        self._serving: ServingCertificate | None = None
        self._listening = asyncio.Event()
        self._stopping = asyncio.Event()

    # What is served.

    def admission(self, path: str, handler: Handler) -> None:
        """Answer admission reviews at *path*. Raises ConfigError when it is taken, or when the server runs."""

        async def decide(call: Call, deadline: float) -> Outcome:
            return await self._admit(path, handler, call, deadline)

        self._add(path, decide)

    def conversion(self, conversions: Conversions, path: str = "/convert") -> None:
        """Answer conversion reviews at *path*. Raises ConfigError when it is taken, or when the server runs."""

        async def convert(call: Call, _deadline: float) -> Outcome:
            outcome = convert_review(call.body, conversions)
            if outcome.error is not None:
                self._metrics.conversion_panics.inc()
                log.error("a conversion failed", path=path, problem=outcome.problem, at=_where(outcome.error))
            return outcome

        self._add(path, convert)

    def paths(self) -> tuple[str, ...]:
        """Return the paths that are served, in the order in which they were declared."""
        return tuple(self._served)

    def _add(self, path: str, answer: Callable[[Call, float], Awaitable[Outcome]]) -> None:
        if not path.startswith("/") or path in (HEALTH_PATH, *self._served):
            raise ConfigError(f"the webhook path {path!r} is taken already, or does not begin with /")
        if self._server is not None:
            raise ConfigError(f"the webhook {path} comes too late: the server runs")
        for code in ("200", "500"):
            self._metrics.webhook_requests.labels(path, code)
        self._metrics.webhook_in_flight.labels(path)
        self._metrics.webhook_latency.labels(path)

        async def serve(call: Call) -> Reply:
            return await self._measured(path, answer, call)

        self._served[path] = serve

    # Running.

    @property
    def bound(self) -> Address | None:
        """Where it listens; ``None`` while it does not."""
        return self._server.bound if self._server is not None else None

    def check(self) -> str | None:
        """Say why nobody could be served, a certificate that has ended included; a check for ``/readyz`` (HEA2)."""
        if self.bound is None or self._serving is None:
            return "the webhooks do not listen"
        return self._serving.check()

    async def ready(self) -> None:
        """Wait until the server listens."""
        await self._listening.wait()

    def stop(self) -> None:
        """Ask :meth:`run` to end: no new connection, requests under way finish (WEB8)."""
        self._stopping.set()

    async def run(self) -> None:
        """Wait for the certificate, then serve until stopped or cancelled.

        Raises ConfigError when it cannot listen, and whatever waiting for the certificate raises.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(self._serve(), name="webhook server")
                stopping = tasks.create_task(self._stopping.wait(), name="webhook stop")
                await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
                serving.cancel()
                stopping.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._listening.clear()

    async def answer(self, call: Call) -> Reply:
        """Answer one request without a socket: as over TLS, its limits and its answer to an unknown path included."""
        if self._server is None:
            self._server = self._made()
        return await self._server.answer(call)

    def _made(self, certificate: ServingCertificate | None = None) -> HttpServer:
        tls = certificate.context if certificate is not None else None
        server = HttpServer(self.name, self.address, flag=self._flag, tls=tls, limits=self._limits)
        server.route(HEALTH_PATH, _healthy)
        for path, serve in self._served.items():
            server.route(path, serve, methods=("POST",))
        return server

    async def _serve(self) -> None:
        certificate = await self._certificate()
        server = self._made(certificate)
        self._server, self._serving = server, certificate
        try:
            async with asyncio.TaskGroup() as tasks:
                looking = tasks.create_task(certificate.run(), name="webhook certificate")
                waiting = tasks.create_task(self._wait_until_up(server), name="webhook start")
                try:
                    await server.run()
                finally:
                    looking.cancel()
                    waiting.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _wait_until_up(self, server: HttpServer) -> None:
        await server.ready()
        self._listening.set()

    # One request.

    async def _measured(self, path: str, answer: Callable[[Call, float], Awaitable[Outcome]], call: Call) -> Reply:
        begun = self._clock.monotonic()
        in_flight = self._metrics.webhook_in_flight.labels(path)
        in_flight.inc()
        status = 500
        try:
            outcome = self._refused(call) or await answer(call, begun + _SHARE * timeout_of(call))
            status = outcome.status
            return Reply(status, outcome.body, outcome.content_type)
        finally:
            in_flight.dec()
            self._metrics.webhook_latency.labels(path).observe(self._clock.monotonic() - begun)
            self._metrics.webhook_requests.labels(path, str(status)).inc()

    def _refused(self, call: Call) -> Outcome | None:
        """Return the answer to a request that is not looked at."""
        if self._client_names and call.peer not in self._client_names:
            return _text(403, "show a client certificate with a name that is allowed")
        media = call.headers.get("content-type", "").partition(";")[0].strip().lower()
        return None if media == JSON else _text(415, f"want the content type {JSON}")

    async def _admit(self, path: str, handler: Handler, call: Call, deadline: float) -> Outcome:
        try:
            review = open_review(call.body)
        except BadReview as error:
            log.warning("what came is no review", path=path, problem=str(error))
            return bad(error)
        one = review.request
        who = {one.kind.kind or "kind": {"name": one.name, "namespace": one.namespace}}
        with bound(**{**who, "requestID": one.uid}):  # the kind is text of others, and may be any word
            outcome = await self._decide(review, handler, deadline)
            if outcome.error is not None:
                self._metrics.webhook_panics.inc()
                log.error("an admission handler failed", path=path, error=outcome.problem, at=_where(outcome.error))
            elif outcome.status != 200:
                log.warning("an admission request got no decision", path=path, problem=outcome.problem)
            elif not outcome.allowed:
                log.info("refused", path=path, operation=one.operation, reason=outcome.problem)
        return outcome

    async def _decide(self, review: Review, handler: Handler, deadline: float) -> Outcome:
        left = deadline - self._clock.monotonic()
        scope = asyncio.timeout(None)
        try:
            found = handler(review.request)
            if inspect.isawaitable(found):
                async with asyncio.timeout(left) as scope:
                    found = await found
            outcome = close_review(review, found)
        except BadReview as error:
            return bad(error)
        except NotReady as error:
            return not_ready(error)
        except TimeoutError as error:
            return _late() if scope.expired() else fault(error)
        except Exception as error:  # noqa: BLE001 - one request must not cost the others; the failurePolicy decides
            return fault(error)
        return outcome if self._clock.monotonic() < deadline else _late()


async def _healthy(_call: Call) -> Reply:
    return Reply.text("ok")


def _text(status: int, text: str) -> Outcome:
    return Outcome(status, f"{text}\n".encode(), "text/plain; charset=utf-8", problem=text)


def _late() -> Outcome:
    return _text(503, "there was no decision in time")


def _where(error: BaseException) -> list[str]:
    """Return where *error* was raised, the innermost place last: lines of ours, never what stood in variables."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
