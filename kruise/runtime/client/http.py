"""The transport over HTTP/1.1.

Purpose: carry requests to a real API server, and nothing more.

Guarantees:

* TRA1: ``request()`` and ``stream()``; this is the only module that opens a socket towards the API server.
* TRA2: calls, watches and the lease have connections of their own; a pool that is full or wedged never delays another.
* TRA3: the proxy is found once; no cookies, no netrc, no headers of the library's own, URLs are sent as they are.
* TRA4: TCP keepalive on every socket finds a dead peer in half a minute; every request has one deadline for all of it.
* TRA6: certificates are reloaded without dropping a healthy connection (``tls.py``).
* TRA8: gzip is undone here. A stream's line may be 64 MiB long and may be cut into chunks anywhere.
* AUT3: after a 401 the credential is had again, and the request is repeated exactly once.
* RES3: a request that changes something is sent once. aiohttp by itself would send a DELETE or PUT again when an idle
  connection turns out to be dead; that is switched off.

What this does not do: no retry but that of a 401, and of a read that met a dead idle connection.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from kruise.runtime.client.auth import ClusterConfig
from kruise.runtime.client.proxy import resolve_proxy
from kruise.runtime.client.tls import TlsContexts
from kruise.runtime.client.transport import Pool, Request, Response
from kruise.runtime.clock import Clock
from kruise.runtime.errors import BadFrame, ConfigError, Refused, Reset, Timeout, TransportError, Truncated
from kruise.runtime.metrics import Metrics

MAX_LINE: Final = 64 << 20
"""Bytes: the longest line of a stream."""
MAX_ERROR_BODY: Final = 1 << 20
"""Bytes: how much is read of a stream that turned out to be an error."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds for a place in the pool, the name look-up and the handshakes together."""
IDLE_TIMEOUT: Final = 30.0
"""Seconds: shorter than the idle time-outs of the API server (90 s) and of common load balancers (60 s), so that it is
we who close, and no write goes into a connection that the other side has just given up."""
_LARGE_BODY: Final = 1 << 20
_LIMITS: Final = {Pool.CALL: 128, Pool.WATCH: 0, Pool.LEASE: 4}
_KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", 15),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
    # Keepalive probes wait behind unacknowledged data: without this, a write into a dead connection hangs 15 minutes.
    ("TCP_USER_TIMEOUT", 30_000),
)


def make_socket(info: tuple[Any, ...]) -> socket.socket:
    """Return a socket for an ``addrinfo``, with keepalive set (TRA4)."""
    sock = socket.socket(info[0], info[1], info[2])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock


@contextmanager
def _typed(what: str) -> Iterator[None]:
    """Turn the library's errors into ours. The order matters: several are subclasses of two."""
    try:
        yield
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
        late = isinstance(error, aiohttp.ConnectionTimeoutError)
        if late:
            raise Timeout(f"{what}: no connection: {_say(error)}", sent=False) from error
        raise Refused(f"{what}: no connection: {_say(error)}") from error
    except aiohttp.ClientHttpProxyError as error:
        raise Refused(f"{what}: the proxy refused: {error.status} {error.message}") from error
    except aiohttp.ClientPayloadError as error:
        raise Truncated(f"{what}: the answer ended early: {_say(error)}") from error
    except (aiohttp.ClientResponseError, HttpProcessingError) as error:
        raise BadFrame(f"{what}: the answer is no HTTP: {_say(error)}") from error
    except (aiohttp.ClientConnectionError, ssl.SSLError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise Timeout(f"{what}: {_say(error)}") from error
        raise Reset(f"{what}: the connection broke: {_say(error)}") from error
    except RuntimeError as error:
        # Nothing but this is what the library raises for a read on a connection, or a session, that is closed.
        raise Reset(f"{what}: {_say(error)}") from error


def _say(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."


class HttpStream:
    """An open answer. See ``transport.ByteStream``."""

    __slots__ = ("_ended", "_response", "_what", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, what: str) -> None:
        self._response = response
        self._what = what
        self._ended = False
        self.status: int = response.status
        self.headers: Mapping[str, str] = _headers(response)

    async def read_line(self) -> bytes:
        """Return the next line; see ``transport.ByteStream``. Waits for as long as the server is silent."""
        if self._ended:
            return b""
        with _typed(self._what):
            line = await self._response.content.readline(max_line_length=MAX_LINE)
        if not line:
            self._ended = True
            return b""
        if line[-1] != 10:
            raise Truncated(f"{self._what}: the stream ended in the middle of a line of {len(line)} bytes")
        if len(line) == 1:
            raise BadFrame(f"{self._what}: an empty line")
        return line[:-1]

    def buffered(self) -> bool:
        # The library has no public way to ask. Were these names to go, every line would count as one to wait for,
        # which is slower and still right.
        content = self._response.content
        offset = getattr(content, "_buffer_offset", 0)
        for chunk in getattr(content, "_buffer", ()):
            if chunk.find(b"\n", offset) >= 0:
                return True
            offset = 0
        return False

    async def read_all(self) -> bytes:
        """Return what is left, at most 1 MiB. Can be cancelled; raises TransportError."""
        parts = []
        left = MAX_ERROR_BODY
        with _typed(self._what):
            while left > 0 and (part := await self._response.content.read(left)):
                parts.append(part)
                left -= len(part)
        return b"".join(parts)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._response.close()


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.headers.items():
        name = name.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


class HttpTransport:
    """Carries requests to the API server of *config*. Own it with ``async with``, or call :meth:`close`.

    *env* names the proxy where *config* does not. Raises ConfigError when host, proxy or certificates are unusable.
    """

    def __init__(
        self,
        config: ClusterConfig,
        *,
        clock: Clock,
        metrics: Metrics | None = None,
        env: Mapping[str, str] = os.environ,
    ) -> None:
        url = URL(config.host)
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"server {config.host!r} ({config.source or 'configuration'}): must be https://HOST:PORT")
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._base = str(url).rstrip("/")
        self._tls = TlsContexts(config, clock) if url.scheme == "https" else None
        self._proxy = resolve_proxy(config.host, configured=config.proxy, env=env)
        self._sessions: dict[Pool, aiohttp.ClientSession] = {}
        self._closed = False

    @property
    def host(self) -> str:
        """Host and port, for the label of metrics."""
        return URL(self._base).authority

    def _session(self, pool: Pool) -> aiohttp.ClientSession:
        session = self._sessions.get(pool)
        if session is not None:
            return session
        connector = aiohttp.TCPConnector(
            limit=_LIMITS[pool],
            keepalive_timeout=IDLE_TIMEOUT,
            socket_factory=make_socket,
            timeout_ceil_threshold=float("inf"),
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            requote_redirect_url=False,
            max_line_size=65_536,
            max_field_size=65_536,
            trace_configs=self._traces(),
        )
        # RES3: see the docstring. There is no public switch; a test holds that each request is sent once.
        session._retry_connection = False  # noqa: SLF001
        self._sessions[pool] = session
        return session

    def _traces(self) -> list[aiohttp.TraceConfig]:
        family = self._metrics.dns_duration if self._metrics is not None else None
        if family is None:
            return []
        clock, child = self._clock, family.labels(self.host)

        async def begin(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
            context.begun = clock.monotonic()

        async def end(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
            child.observe(clock.monotonic() - context.begun)

        trace = aiohttp.TraceConfig()
        trace.on_dns_resolvehost_start.append(begin)
        trace.on_dns_resolvehost_end.append(end)
        return [trace]

    async def _who(self, what: str) -> tuple[Mapping[str, str], ssl.SSLContext | None]:
        try:
            headers = await self._config.credentials.headers()
        except ConfigError as error:
            raise Refused(f"{what}: no credentials: {error}") from error
        return headers, self._tls.current() if self._tls is not None else None

    async def _renewed(self, what: str, used: tuple[Mapping[str, str], ssl.SSLContext | None]) -> bool:
        """Have the credential again after a 401; tell whether a second try makes sense (AUT3)."""
        if await self._who(what) != used:
            return True  # another request that was refused has renewed it already
        try:
            renewed = await self._config.credentials.refresh()
        except ConfigError as error:
            raise Refused(f"{what}: the credential was refused, and there is no other: {error}") from error
        return (self._tls is not None and self._tls.reload()) or renewed

    async def _send(self, request: Request, what: str) -> aiohttp.ClientResponse:
        used = await self._who(what)
        response = await self._send_as(request, used)
        if response.status != 401:
            return response
        try:
            again = await self._renewed(what, used)
        except BaseException:
            response.close()
            raise
        if not again:
            return response
        response.close()
        return await self._send_as(request, await self._who(what))

    async def _send_as(
        self, request: Request, who: tuple[Mapping[str, str], ssl.SSLContext | None]
    ) -> aiohttp.ClientResponse:
        auth, tls = who
        body: bytes | io.BytesIO | None = request.body
        if isinstance(body, bytes) and len(body) > _LARGE_BODY:
            body = io.BytesIO(body)  # sent piece by piece, so that it does not hold up the loop
        extra: dict[str, Any] = {}
        if tls is not None:
            extra["ssl"] = tls
            if self._config.server_name:
                extra["server_hostname"] = self._config.server_name
        if self._proxy is not None:
            extra["proxy"] = self._proxy.url
            extra["proxy_headers"] = CIMultiDict(self._proxy.headers)
        response: aiohttp.ClientResponse = await self._session(request.pool).request(
            request.method,
            URL(self._base + request.path, encoded=True),
            headers={**request.headers, **auth},
            data=body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT, ceil_threshold=float("inf")),
            **extra,
        )
        return response

    async def request(self, request: Request) -> Response:
        """Send and wait for the whole answer; raises TransportError. Can be cancelled."""
        what = f"{request.method} {request.path.partition('?')[0]}"
        begun = self._clock.monotonic()
        try:
            return await self._exchange(request, what, request.timeout)
        except Reset:
            left = request.timeout - (self._clock.monotonic() - begun)
            if request.mutating or self._closed or left <= 0:
                raise
            # An idle connection that the server has closed shows only when it is used. A read may simply go again.
            return await self._exchange(request, what, left)

    async def _exchange(self, request: Request, what: str, seconds: float) -> Response:
        with self._deadline(request, what):
            async with asyncio.timeout(seconds):
                with _typed(what):
                    response = await self._send(request, what)
                    async with response:
                        body = await response.read()
                        return Response(response.status, _headers(response), body)
        raise AssertionError

    async def stream(self, request: Request) -> HttpStream:
        """Send, and return when the headers are there; raises TransportError. Can be cancelled."""
        what = f"{request.method} {request.path.partition('?')[0]}"
        with self._deadline(request, what):
            async with asyncio.timeout(request.timeout):
                with _typed(what):
                    return HttpStream(await self._send(request, what), what)
        raise AssertionError

    @contextmanager
    def _deadline(self, request: Request, what: str) -> Iterator[None]:
        if self._closed:
            raise Reset(f"{what}: the transport is closed", sent=False)
        try:
            yield
        except TransportError:
            raise
        except TimeoutError as error:
            raise Timeout(f"{what}: no whole answer within {request.timeout:g} s") from error

    async def close(self) -> None:
        """Close every connection, idle or not."""
        self._closed = True
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
