"""The transport over HTTP/1.1.

Purpose: carry requests to a real API server, and nothing more.

Guarantees:

* TRA1: ``request()`` and ``stream()``; sockets towards the API server are opened by ``pool.py`` alone, for this.
* TRA2: calls, watches and the lease have connections of their own; a pool that is full or wedged never delays another.
* TRA3: the proxy is found once; no cookies, no netrc, no headers but those of the request, URLs are sent as they are.
* TRA4: TCP keepalive on every socket finds a dead peer in half a minute; every request has one deadline for all of it.
* TRA6: certificates are reloaded without dropping a healthy connection (``tls.py``).
* TRA8: gzip is undone here. A stream's line may be 64 MiB long and may be cut into chunks anywhere.
* TRA9: the protocol is our own (``http1.py``): a write costs a third of what it costs with a general library.
* TRA10: with a pace, a busy process reads in gulps (``pace.py``); a lease is never made to wait by its own answer.
* AUT3: after a 401 the credential is had again, and the request is repeated exactly once.
* RES3: a request that changes something is sent once.

What this does not do: no retry but that of a 401, and of a read that met a dead idle connection.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from kruise.runtime.client.auth import ClusterConfig
from kruise.runtime.client.connection import Connection
from kruise.runtime.client.http1 import AnswerReader, write_head
from kruise.runtime.client.pace import Pace
from kruise.runtime.client.pool import ConnectionPool, Route
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
_LIMITS: Final = {Pool.CALL: 128, Pool.WATCH: 0, Pool.LEASE: 4}
_PORTS: Final = {"http": 80, "https": 443}

_Who = tuple[Mapping[str, str], ssl.SSLContext | None]


class HttpStream:
    """An open answer. See ``transport.ByteStream``."""

    __slots__ = (
        "_connection",
        "_ended",
        "_lines",
        "_pool",
        "_tail",
        "_tail_size",
        "_too_long",
        "_what",
        "headers",
        "status",
    )

    def __init__(self, connection: Connection, answer: AnswerReader, pool: ConnectionPool, what: str) -> None:
        self._connection = connection
        self._pool: ConnectionPool | None = pool
        self._what = what
        self._ended = False
        self._lines: deque[bytes] = deque()
        self._tail: list[bytes] = []
        """The parts of the line that is not whole yet."""
        self._tail_size = 0
        self._too_long = False
        self.status: int = answer.status
        self.headers: Mapping[str, str] = answer.headers

    async def read_line(self) -> bytes:
        """Return the next line; see ``transport.ByteStream``. Waits for as long as the server is silent."""
        while not self._lines:
            if self._too_long:
                raise BadFrame(f"{self._what}: a line of more than {MAX_LINE} bytes")
            if self._ended:
                return b""
            parts = await self._connection.read()
            if parts:
                self._split(parts)
                continue
            self._ended = True
            if self._tail:
                raise Truncated(f"{self._what}: the stream ended in the middle of a line of {self._tail_size} bytes")
        line = self._lines.popleft()
        if not line:
            raise BadFrame(f"{self._what}: an empty line")
        return line

    def buffered(self) -> bool:
        if not self._lines and not self._ended:
            self._split(self._connection.ready())
        return bool(self._lines)

    def _split(self, parts: Iterable[bytes]) -> None:
        """Take parts of the body, and find the lines in them."""
        for part in parts:
            if self._too_long:
                return
            *whole, rest = part.split(b"\n")
            if whole and self._tail:
                whole[0] = b"".join((*self._tail, whole[0]))
                self._tail.clear()
                self._tail_size = 0
            if rest:
                self._tail.append(rest)
                self._tail_size += len(rest)
            self._too_long = self._tail_size > MAX_LINE or (bool(whole) and len(whole[0]) > MAX_LINE)
            if not self._too_long:
                self._lines.extend(whole)

    async def read_all(self) -> bytes:
        """Return what is left, at most 1 MiB. Can be cancelled; raises TransportError."""
        found: list[bytes] = []
        size = 0
        while size < MAX_ERROR_BODY and (parts := await self._connection.read()):
            found += parts
            size += sum(map(len, parts))
        return b"".join(found)[:MAX_ERROR_BODY]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.give(self._connection)


class HttpTransport:
    """Carries requests to the API server of *config*. Own it with ``async with``, or call :meth:`close`.

    *env* names the proxy where *config* does not. With *pace* a busy process rests between two looks at the sockets of
    calls and watches (TRA10): for a process that does nothing but this, because everything in it rests. Raises
    ConfigError when host, proxy or certificates are unusable.
    """

    def __init__(
        self,
        config: ClusterConfig,
        *,
        clock: Clock,
        metrics: Metrics | None = None,
        env: Mapping[str, str] = os.environ,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._route, self._prefix = _route(config, env)
        self._target = self._prefix
        self._proxy_headers: Mapping[str, str] = {}
        self._tls = TlsContexts(config, clock) if config.host.lower().startswith("https") else None
        if self._route.proxy is not None and self._tls is None:
            # Without a tunnel the proxy reads the request, and is told where it goes.
            self._target = f"http://{self._route.authority}{self._prefix}"
            self._proxy_headers = self._route.proxy_headers
        self._pools: dict[Pool, ConnectionPool] = {}
        self._closed = False

    @property
    def host(self) -> str:
        """Host and port, for the label of metrics."""
        return self._route.authority

    def _pool(self, kind: Pool) -> ConnectionPool:
        pool = self._pools.get(kind)
        if pool is None:
            pool = self._pools[kind] = ConnectionPool(
                self._route,
                limit=_LIMITS[kind],
                clock=self._clock,
                metrics=self._metrics,
                label=self.host,
                pace=self._pace if kind is not Pool.LEASE else None,
            )
        return pool

    async def _who(self, what: str) -> _Who:
        try:
            headers = await self._config.credentials.headers()
        except ConfigError as error:
            raise Refused(f"{what}: no credentials: {error}") from error
        return headers, self._tls.current() if self._tls is not None else None

    async def _renewed(self, what: str, used: _Who) -> bool:
        """Have the credential again after a 401; tell whether a second try makes sense (AUT3)."""
        if await self._who(what) != used:
            return True  # another request that was refused has renewed it already
        try:
            renewed = await self._config.credentials.refresh()
        except ConfigError as error:
            raise Refused(f"{what}: the credential was refused, and there is no other: {error}") from error
        return (self._tls is not None and self._tls.reload()) or renewed

    async def _send(self, request: Request, what: str, *, whole: bool) -> tuple[Connection, AnswerReader]:
        """Send *request*; return its answer, and the connection, which is to be given back."""
        used = await self._who(what)
        connection, answer = await self._send_as(request, what, used, whole=whole)
        if answer.status != 401:
            return connection, answer
        pool = self._pool(request.pool)
        try:
            again = await self._renewed(what, used)
        except BaseException:
            pool.give(connection)
            raise
        if not again:
            return connection, answer
        pool.give(connection)
        return await self._send_as(request, what, await self._who(what), whole=whole)

    async def _send_as(self, request: Request, what: str, who: _Who, *, whole: bool) -> tuple[Connection, AnswerReader]:
        auth, tls = who
        headers = {**request.headers, **auth, **self._proxy_headers}
        body = request.body
        length = len(body) if body is not None else 0 if request.method in ("POST", "PUT", "PATCH") else None
        try:
            head = write_head(request.method, self._target + request.path, self._route.authority, headers, length)
        except ValueError as error:
            raise Refused(f"{what}: cannot be sent: {error}") from error
        pool = self._pool(request.pool)
        connection = await pool.take(what, tls)
        try:
            return connection, await connection.send(what, head, body or b"", whole=whole)
        except BaseException:
            connection.abort()
            pool.give(connection)
            raise

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
        self._check_open(what)
        try:
            async with asyncio.timeout(seconds):
                connection, answer = await self._send(request, what, whole=True)
        except TimeoutError as error:
            raise self._late(request, what) from error
        self._pool(request.pool).give(connection)
        parts = answer.take()
        return Response(answer.status, answer.headers, parts[0] if len(parts) == 1 else b"".join(parts))

    async def stream(self, request: Request) -> HttpStream:
        """Send, and return when the headers are there; raises TransportError. Can be cancelled."""
        what = f"{request.method} {request.path.partition('?')[0]}"
        self._check_open(what)
        try:
            async with asyncio.timeout(request.timeout):
                connection, answer = await self._send(request, what, whole=False)
        except TimeoutError as error:
            raise self._late(request, what) from error
        return HttpStream(connection, answer, self._pool(request.pool), what)

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise Reset(f"{what}: the transport is closed", sent=False)

    @staticmethod
    def _late(request: Request, what: str) -> TransportError:
        return Timeout(f"{what}: no whole answer within {request.timeout:g} s")

    async def close(self) -> None:
        """Close every connection, idle or not."""
        self._closed = True
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()
        await self._clock.sleep(0)  # the sockets are closed in the next turn of the loop

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _route(config: ClusterConfig, env: Mapping[str, str]) -> tuple[Route, str]:
    """Return how the server of *config* is reached, and the path before all others. Raises ConfigError."""
    try:
        url = urlsplit(config.host)
        host, port = url.hostname or "", url.port
    except ValueError:
        url, host, port = urlsplit(""), "", None
    if url.scheme not in _PORTS or not host:
        raise ConfigError(f"server {config.host!r} ({config.source or 'configuration'}): must be https://HOST:PORT")
    proxy = resolve_proxy(config.host, configured=config.proxy, env=env)
    route = Route(
        host,
        port or _PORTS[url.scheme],
        url.netloc.rpartition("@")[2],
        server_name=config.server_name or None,
    )
    if proxy is not None:
        via = urlsplit(proxy.url)
        address = via.hostname or "", via.port or _PORTS[via.scheme]
        route = replace(route, proxy=address, proxy_tls=via.scheme == "https", proxy_headers=proxy.headers)
    return route, url.path.rstrip("/")
