"""Verbs, paths, errors, retries and metrics, over any transport.

Purpose: the whole of the API's HTTP conventions in one place, so that nothing above knows of HTTP.

Guarantees:

* RES1: no rate limit unless one is passed in; the lease never passes through it.
* RES2: 429 is tried again with the same body, 503 and 504 for reads only (``retry.py``).
* RES3: a write that ends without a trustworthy answer raises UnknownOutcome and is never sent again here.
* RES4: writes go through the window of the process (``window.py``), all but those of the lease.
* RES5: warnings are logged once (``notices.py``).
* RES7: answers of writes are not parsed; :data:`AS_METADATA` asks for metadata alone. REF19: a resource that is read as
  metadata only is asked for as such.
* RES8: :meth:`Rest.pages` walks a long list page by page.
* RES9: an answer that is no API object is a typed error (``answers.py``).
* TRA4: each verb has a time-out, and a watch has an absolute deadline. TRA7: each controller has its own user agent.
  TRA8: lists ask for gzip.
* CLI9: a mutating call asks the fence at dispatch and before each retry; its deadline is never past the fence's.

What this does not do: no decoding of objects (``frames.py``), no preconditions (``client.py``), no retry of a watch,
whose back-off is the reflector's.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Self

from kruise import __version__
from kruise.runtime.client.answers import ListPage, check_json, error_of, read_page
from kruise.runtime.client.deadline import DeadlineStream
from kruise.runtime.client.fence import Fence, within
from kruise.runtime.client.limiter import RateLimiter
from kruise.runtime.client.notices import Notices
from kruise.runtime.client.retry import outcome_unknown, retry_delay
from kruise.runtime.client.transport import ByteStream, Pool, Request, Response, Transport
from kruise.runtime.client.window import Slot, WriteWindow, write_owner
from kruise.runtime.client.wire import describe, make_request, selectors
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import BadFrame, Fenced, Timeout, TransportError, UnknownOutcome
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Resource

__all__ = ["AS_METADATA", "AS_METADATA_LIST", "USER_AGENT", "ListPage", "Rest"]

AS_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Accept: one object, or the events of a watch, as metadata only."""
AS_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Accept: a list as metadata only. The server answers 406 to :data:`AS_METADATA` on a list."""
USER_AGENT: Final = f"kruise-manager/{__version__}"

READ_TIMEOUT: Final = 30.0
LIST_TIMEOUT: Final = 60.0
"""Seconds: the server's own limit for a request that is no watch."""
WATCH_SLACK: Final = 5.0
"""Seconds after ``timeoutSeconds`` at which a watch ends whatever the server does (REF15)."""
_ERROR_BODY_TIMEOUT: Final = 10.0


class Rest:
    """A client of one API server. It owns no connection: closing is for whoever made the transport."""

    def __init__(
        self,
        transport: Transport,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        host: str = "",
        user_agent: str = USER_AGENT,
        window: WriteWindow | None = None,
        limiter: RateLimiter | None = None,
    ) -> None:
        self.transport = transport
        self.host = host
        """The fixed value of the metrics' label ``host``."""
        self.user_agent = user_agent
        self.controller = ""
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._base_agent = user_agent
        self._window = window if window is not None else WriteWindow(clock)
        self.windowed = True
        self._limiter = limiter
        self.fence: Fence | None = None
        self.pool = Pool.CALL
        self._notices = Notices(metrics)
        self._header_sets: dict[tuple[str, str, str, bool], Mapping[str, str]] = {}

    @property
    def window(self) -> WriteWindow:
        """The window that all clients made from this one share (RES4)."""
        return self._window

    def named(
        self,
        controller: str,
        *,
        fence: Fence | None = None,
        user_agent: str | None = None,
        pool: Pool = Pool.CALL,
        windowed: bool = True,
    ) -> Self:
        """Return a client for *controller* on the same transport, limits and memory (TRA7).

        With *fence* each mutating call asks it. ``windowed=False`` is for writes that must neither wait behind those of
        workloads nor delay them, such as events; the caller then bounds them itself. The lease pool is never windowed.
        """
        other = copy.copy(self)
        other.controller = controller
        other.user_agent = user_agent if user_agent is not None else f"{self._base_agent} {controller}"
        other.fence = fence
        other.pool = pool
        other.windowed = windowed and pool is not Pool.LEASE
        return other

    def _request(
        self, verb: str, resource: Resource[Any], *, accept: str, content_type: str = "", **options: Any
    ) -> Request:
        headers = self._headers(accept, content_type, verb == "list")
        options.setdefault("pool", self.pool)
        return make_request(verb, resource, headers=headers, controller=self.controller, **options)

    def _headers(self, accept: str, content_type: str, gzip: bool) -> Mapping[str, str]:
        key = (self.user_agent, accept, content_type, gzip)
        headers = self._header_sets.get(key)
        if headers is None:
            headers = {"user-agent": self.user_agent, "accept": accept}
            headers["accept-encoding"] = "gzip" if gzip else "identity"
            if content_type:
                headers["content-type"] = content_type
            self._header_sets[key] = headers
        return headers

    async def call(
        self,
        verb: str,
        method: str,
        resource: Resource[Any],
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        accept: str | None = None,
        timeout: float = READ_TIMEOUT,
        owner: str = "",
    ) -> Response:
        """Send one request and return its successful answer.

        *verb* is the API's (``patch``), *method* the HTTP method that goes with it (``PATCH``). *owner* is on whose
        behalf a write goes, for the fairness of the window; by default what ``write_owner`` says. Waits for the window,
        the limiter and retries; can be cancelled, and a cancelled write may have happened.

        Raises ApiError for a refusal. A read raises TransportError when no answer came. A write raises UnknownOutcome
        when it may have happened, TransportError when it certainly was not sent, and Fenced when the fence forbids it.
        """
        if accept is None:
            accept = AS_METADATA if resource.metadata_only and verb != "list" else "application/json"
        request = self._request(
            verb,
            resource,
            namespace=namespace,
            name=name,
            subresource=subresource,
            query=query,
            body=body,
            content_type=content_type if body is not None else "",
            accept=accept,
            timeout=timeout,
        )
        if request.method != method:
            raise ValueError(f"{resource}: {verb} is sent as {request.method}, not as {method}")
        response = await self._send(request, owner)
        try:
            check_json(response, request)
        except BadFrame as error:
            if request.mutating:
                raise UnknownOutcome(describe(request), error) from error
            raise
        return response

    async def get_path(
        self, path: str, *, accept: str = "application/json", timeout: float = READ_TIMEOUT, json: bool = True
    ) -> Response:
        """Read what is no resource: discovery, ``/version``, ``/openapi``. *path* is absolute and encoded.

        Raises ApiError and TransportError; BadFrame for an answer that is no JSON object, unless *json* is False.
        """
        request = Request(
            "GET",
            path,
            self._headers(accept, "", True),
            timeout=timeout,
            pool=self.pool,
            verb="get",
            resource=path.partition("?")[0],
            controller=self.controller,
        )
        response = await self._send(request, "")
        if json:
            check_json(response, request)
        return response

    async def list_page(
        self,
        resource: Resource[Any],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
        resource_version_match: str = "",
        timeout: float = LIST_TIMEOUT,
    ) -> ListPage:
        """Read one page. Raises ApiError and TransportError."""
        query = selectors(label_selector, field_selector)
        if limit:
            query["limit"] = str(limit)
        if continue_token:
            # REF3: a token carries its own version; the server answers 400 to one beside it.
            query["continue"] = continue_token
        elif resource_version:
            query["resourceVersion"] = resource_version
            if resource_version_match:
                query["resourceVersionMatch"] = resource_version_match
        request = self._request(
            "list",
            resource,
            namespace=namespace,
            query=query,
            accept=AS_METADATA_LIST if resource.metadata_only else "application/json",
            timeout=timeout,
        )
        return read_page(await self._send(request, ""), request)

    async def pages(
        self,
        resource: Resource[Any],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
    ) -> AsyncIterator[ListPage]:
        """Walk a list page by page, all of one version (RES8). Raises Expired when the walk takes too long.

        Holds one page at a time; the caller decides when the next one is read.
        """
        token = ""
        while True:
            page = await self.list_page(
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                limit=limit,
                continue_token=token,
            )
            yield page
            token = page.continue_token
            if not token:
                return

    async def watch(
        self,
        resource: Resource[Any],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        timeout_seconds: int,
        send_initial_events: bool = False,
        resource_version_match: str = "",
        bookmarks: bool = True,
    ) -> ByteStream:
        """Open a watch; own the stream with ``async with``. Sent once: the back-off is the caller's.

        Raises ApiError when the answer is no stream, and TransportError. The stream ends with Timeout at the latest
        ``timeout_seconds`` + 5 s from now.
        """
        query = {"watch": "true", "timeoutSeconds": str(timeout_seconds), **selectors(label_selector, field_selector)}
        if bookmarks:
            query["allowWatchBookmarks"] = "true"
        if resource_version:
            query["resourceVersion"] = resource_version
        if send_initial_events:
            query["sendInitialEvents"] = "true"
            query["resourceVersionMatch"] = resource_version_match or "NotOlderThan"
        elif resource_version_match:
            query["resourceVersionMatch"] = resource_version_match
        request = self._request(
            "watch",
            resource,
            namespace=namespace,
            query=query,
            accept=AS_METADATA if resource.metadata_only else "application/json",
            timeout=READ_TIMEOUT,
            pool=Pool.WATCH,
        )
        begun = self._clock.monotonic()
        try:
            stream = await self.transport.stream(request)
        except TransportError:
            self._count(request, 0, begun)
            raise
        self._count(request, stream.status, begun)
        if stream.status == 200:
            self._warn(stream.headers, request)
            left = timeout_seconds + WATCH_SLACK - (self._clock.monotonic() - begun)
            return DeadlineStream(stream, clock=self._clock, seconds=left)
        async with stream:
            body = b""
            try:
                async with asyncio.timeout(_ERROR_BODY_TIMEOUT):
                    body = await stream.read_all()
            except (TransportError, TimeoutError):
                pass  # the status says enough
            raise error_of(Response(stream.status, stream.headers, body), request, now=self._clock.now())

    async def _send(self, request: Request, owner: str) -> Response:
        if request.mutating and self.windowed:
            async with self._window.slot(owner or write_owner.get() or self.controller) as slot:
                return await self._tries(request, slot)
        return await self._tries(request, None)

    async def _tries(self, request: Request, slot: Slot | None) -> Response:
        waited = 0.0
        tries = 0
        while True:
            tries += 1
            if self._limiter is not None and request.pool is Pool.CALL:
                seconds = await self._limiter.acquire()
                if self._metrics.limiter_duration is not None:
                    self._metrics.limiter_duration.labels(request.method, self.host).observe(seconds)
            self._check_fence(request)
            response = await self._try(request, slot)
            if response.status < 300:
                return response
            error = error_of(response, request, now=self._clock.now())
            if response.status == 429:
                self._metrics.throttled.labels(error.status.flow_schema_uid, error.status.priority_level_uid).inc()
            delay = retry_delay(error, mutating=request.mutating, tries=tries, waited=waited, rng=self._rng)
            if delay is None:
                if request.mutating and outcome_unknown(error):
                    raise UnknownOutcome(describe(request), error) from error
                raise error
            if self._metrics.request_retries is not None:
                self._metrics.request_retries.labels(str(response.status), request.method, self.host).inc()
            # The slot of a write is kept meanwhile: the server asked this client to slow down, not this write.
            await self._clock.sleep(delay)
            waited += delay

    def _check_fence(self, request: Request) -> None:
        if self.fence is None or not request.mutating:
            return
        self.fence.check()
        left = self.fence.deadline()
        if left is not None and left <= 0:
            raise Fenced(f"{describe(request)}: not sent, the term is over")

    async def _within_term(self, request: Request) -> Response:
        if self.fence is None or not request.mutating:
            return await self.transport.request(request)
        try:
            return await within(self.fence, request.timeout, self.transport.request(request))
        except TimeoutError as error:
            raise Timeout(f"{describe(request)}: no answer before the end of the term") from error

    async def _try(self, request: Request, slot: Slot | None) -> Response:
        begun = self._clock.monotonic()
        try:
            response = await self._within_term(request)
        except TransportError as error:
            self._answered(request, slot, 0, begun)
            if request.mutating and error.sent:
                raise UnknownOutcome(describe(request), error) from error
            raise
        self._answered(request, slot, response.status, begun, response)
        self._warn(response.headers, request)
        return response

    def _answered(
        self, request: Request, slot: Slot | None, status: int, begun: float, response: Response | None = None
    ) -> None:
        latency = self._count(request, status, begun, response)
        if slot is not None:
            slot.answered(status, sent_at=begun, latency=latency)

    def _warn(self, headers: Mapping[str, str], request: Request) -> None:
        header = headers.get("warning")
        if header:
            self._notices.take(header, request)

    def _count(self, request: Request, status: int, begun: float, response: Response | None = None) -> float:
        m = self._metrics
        seconds = self._clock.monotonic() - begun
        m.requests.labels(str(status) if status else "<error>", request.method, self.host).inc()
        if m.request_duration is not None:
            m.request_duration.labels(request.method, self.host).observe(seconds)
        if m.request_size is not None:
            m.request_size.labels(request.method, self.host).observe(len(request.body or b""))
        if m.response_size is not None and response is not None:
            m.response_size.labels(request.method, self.host).observe(len(response.body))
        return seconds
