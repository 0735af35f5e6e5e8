"""Connections to one server: dialled, kept, and handed to one request at a time.

Purpose: the sockets of ``http.py``, one pool for each kind of use.

Guarantees:

* TRA2: a pool has its own connections and its own limit; those that wait for a place are served in their order.
* TRA3: behind a proxy, ``https`` goes through a tunnel, ``http`` names the whole URL. What a proxy refuses is Refused.
* TRA4: TCP keepalive on every socket. One deadline, :data:`CONNECT_TIMEOUT`, for a place, the name and the handshakes;
  an address that does not answer does not use up the time of the next one.
* TRA6: a connection that was made with another TLS context is not used again; one that carries a request lives on.

What this does not do: it sends nothing but what opens a tunnel.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kruise.runtime.client.connection import GOODBYE, Connection, say
from kruise.runtime.client.http1 import write_head
from kruise.runtime.client.pace import Pace
from kruise.runtime.client.transport import NO_HEADERS
from kruise.runtime.clock import Clock
from kruise.runtime.errors import Refused, Reset, Timeout, TransportError
from kruise.runtime.metrics import Metrics

__all__ = ["ConnectionPool", "Route", "make_socket"]

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for a place in the pool, the name look-up and the handshakes together."""
NEXT_ADDRESS: Final = 2.0
"""Seconds after which the next address of a name is tried."""
IDLE_TIMEOUT: Final = 30.0
"""Seconds: shorter than the idle time-outs of the API server (90 s) and of common load balancers (60 s), so that it is
we who close, and no write goes into a connection that the other side has just given up."""
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
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock


@dataclass(frozen=True, slots=True)
class Route:
    """How a server is reached."""

    host: str
    """The name or address of the server."""
    port: int
    authority: str
    """What a request calls it."""
    server_name: str | None = None
    """What its certificate must say; by default, its name."""
    proxy: tuple[str, int] | None = None
    proxy_tls: bool = False
    """The proxy itself speaks TLS."""
    proxy_headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)


class ConnectionPool:
    """The connections of one kind of use. *limit* 0 is none."""

    def __init__(
        self,
        route: Route,
        *,
        limit: int,
        clock: Clock,
        metrics: Metrics | None,
        label: str,
        pace: Pace | None = None,
    ) -> None:
        """*label* names the server in the metrics."""
        self._route = route
        self._pace = pace
        self._limit = limit
        self._clock = clock
        family = metrics.dns_duration if metrics is not None else None
        self._dns = family.labels(label) if family is not None else None
        self._idle: deque[Connection] = deque()
        self._taken: set[Connection] = set()
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self, what: str, tls: ssl.SSLContext | None) -> Connection:
        """Return a connection that carries no request; to be given back. Raises TransportError, with nothing sent."""
        placed = not self._limit or self._busy < self._limit
        self._busy += placed
        if placed and (known := self._known(tls)) is not None:
            self._taken.add(known)
            return known
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if not placed:
                    await self._place()
                    placed = True
                found = self._known(tls) or await self._dial(tls)
        except BaseException as error:
            if placed:
                self._free()
            if isinstance(error, TimeoutError):
                raise Timeout(f"{what}: no connection within {CONNECT_TIMEOUT:g} s", sent=False) from error
            if isinstance(error, TransportError):
                raise type(error)(f"{what}: {error}", sent=False) from error
            if isinstance(error, OSError | UnicodeError):
                raise Refused(f"{what}: no connection: {say(error)}") from error
            raise
        self._taken.add(found)
        return found

    def give(self, connection: Connection) -> None:
        """Take *connection* back, whatever became of it."""
        self._taken.discard(connection)
        if connection.reusable and not self._closed:
            connection.idle_since = self._clock.monotonic()
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweeper = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._sweep)
        else:
            connection.abort()
        self._free()

    def close(self) -> None:
        """End every connection, idle or not."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in (*self._idle, *self._taken):
            connection.shut()
        self._idle.clear()
        for future in self._waiting:
            if not future.done():
                future.set_exception(Reset("the transport is closed", sent=False))

    def _known(self, tls: ssl.SSLContext | None) -> Connection | None:
        """Return the connection that was used last, if one is fit."""
        oldest = self._clock.monotonic() - IDLE_TIMEOUT
        while self._idle:
            found = self._idle.pop()
            if found.open and found.tls is tls and found.idle_since > oldest:
                return found
            found.close()
        return None

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        self._sweeper = None
        oldest = self._clock.monotonic() - IDLE_TIMEOUT
        while self._idle and (not self._idle[0].open or self._idle[0].idle_since <= oldest):
            self._idle.popleft().close()
        if self._idle:
            wait = max(0.1, self._idle[0].idle_since - oldest)
            self._sweeper = asyncio.get_running_loop().call_later(wait, self._sweep)

    async def _place(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._free()  # the place was given in the turn in which the waiter was cancelled
            else:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(future)
            raise

    def _free(self) -> None:
        self._busy -= 1
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                self._busy += 1
                future.set_result(None)
                return

    # New connections.

    async def _dial(self, tls: ssl.SSLContext | None) -> Connection:
        route = self._route
        if route.proxy is None:
            return await self._secured(route.host, route.port, tls, tls, route.server_name or route.host)
        outer = ssl.create_default_context() if route.proxy_tls else None
        connection = await self._secured(*route.proxy, outer, tls, route.proxy[0])
        if tls is not None:
            try:
                await self._tunnel(connection, tls)
            except BaseException:
                connection.abort()
                raise
        return connection

    async def _secured(
        self, host: str, port: int, outer: ssl.SSLContext | None, tls: ssl.SSLContext | None, name: str
    ) -> Connection:
        """Return a connection to *host*, under *outer*; *tls* is under what the server behind it will be spoken to."""
        loop = asyncio.get_running_loop()
        sock = await self._connected(host, port)
        options: dict[str, Any] = {}
        if outer is not None:
            options = {"ssl": outer, "server_hostname": name, "ssl_shutdown_timeout": GOODBYE}
        try:
            _, connection = await loop.create_connection(lambda: Connection(tls, self._pace), sock=sock, **options)
        except BaseException:
            sock.close()
            raise
        return connection

    async def _connected(self, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        infos = await self._resolved(host, port)
        for number, info in enumerate(infos, 1):
            sock = make_socket(info)
            try:
                async with asyncio.timeout(NEXT_ADDRESS if number < len(infos) else None):
                    await loop.sock_connect(sock, info[4])
            except BaseException as error:
                sock.close()
                if number == len(infos) or not isinstance(error, OSError):
                    raise
            else:
                return sock
        raise OSError(f"{host} has no address")

    async def _resolved(self, host: str, port: int) -> list[tuple[Any, ...]]:
        begun = self._clock.monotonic()
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if self._dns is not None and not _is_address(host):
            self._dns.observe(self._clock.monotonic() - begun)
        return list(found)

    async def _tunnel(self, connection: Connection, tls: ssl.SSLContext) -> None:
        """Have the proxy lead to the server, and speak TLS with that."""
        route = self._route
        target = f"[{route.host}]:{route.port}" if ":" in route.host else f"{route.host}:{route.port}"
        head = write_head("CONNECT", target, target, route.proxy_headers, None)
        answer = await connection.send("CONNECT", head, b"", whole=False)
        if answer.status // 100 != 2:
            raise Refused(f"the proxy refused: {answer.status}")
        await connection.secure(tls, route.server_name or route.host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
