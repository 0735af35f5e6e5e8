"""One small HTTP server for everything that this process serves: metrics, probes, debugging.

Purpose: the limits that every server of ours has, in one place; what is served comes in as functions.

Guarantees:

* HTP1: an idle connection, and one whose headers never end, is closed after 75 s; a request body has a deadline and a
  size of its own; a header may have 64 KiB; a fixed number of requests run at once, and a fixed number of bytes of
  bodies are held at once, the next one is answered 503; a stop lets those under way finish for a while.
* HEA3: a handler that raises costs its own request only.
* TLS, where it is on, is 1.2 or newer, over HTTP/1.1 (``certs.py``).

What this does not do: no compression, no HTTP/2, no files, no authorisation (``authz.py``).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from aiohttp import web

from kruise.runtime.errors import ConfigError
from kruise.runtime.log import get_logger
from kruise.runtime.manager.connections import Connections

log = get_logger("http")

TEXT: Final = "text/plain; charset=utf-8"
LINGER: Final = 0.2
"""Seconds for which the rest of a body that nobody wants is read, so that its sender gets to read our answer."""
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

# What a client does wrong is its own affair: a port scan must not fill our log.
_SILENT: Final = logging.getLogger("kruise.http.silent")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. An empty host means all interfaces."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, flag: str) -> Address | None:
    """Read a listen address; ``"0"`` is off (None). Raises ConfigError that names *flag*.

    >>> parse_address(":8080", "--metrics-addr")
    Address(host='', port=8080)
    >>> parse_address("0", "--metrics-addr") is None
    True
    """
    if text == "0":
        return None
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535 or (":" in host and not bracketed):
        raise ConfigError(f"{flag}={text}: want host:port, :port, [ipv6]:port, or 0 to turn it off")
    return Address(host, int(port))


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a server (HTP1)."""

    idle: float = 75.0
    """Defaults to 75 s: for idle connections, and for headers that are half sent."""
    header_bytes: int = 64 << 10
    """Defaults to 64 KiB for one header: tokens grow, and 8 KiB turn a scrape away with a bare 400."""
    body_bytes: int = 0
    """Defaults to no body at all: one that is longer is answered 413."""
    body_seconds: float = 10.0
    """Defaults to 10 s from the headers to the end of the body."""
    concurrent: int = 64
    """Defaults to 64 requests at once; the next one is answered 503."""
    buffered_bytes: int = 0
    """Bytes of all bodies at once; the request that goes beyond is answered 503. Defaults to 0: no bound of its own."""
    drain: float = 5.0
    """Defaults to 5 s for requests under way when the server stops."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request. Header names are lower case."""

    method: str
    path: str
    query: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    headers: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    body: bytes = b""
    peer: str = ""
    """The common name of the client's certificate, where one was asked for and was verified."""

    def flag(self, name: str) -> bool:
        """Tell whether ``?name`` is there, whatever its value but ``false`` and ``0``."""
        return any(value.lower() not in ("false", "0") for value in self.query.get(name, ()))


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=lambda: NOTHING)

    @staticmethod
    def text(text: str, status: int = 200) -> Reply:
        """Return *text* as an answer, with its last line ended."""
        return Reply(status, (text if text.endswith("\n") else f"{text}\n").encode())


Handler = Callable[[Call], Awaitable[Reply]]


class _Full(Exception):
    """There is no room for more bytes of bodies."""


class HttpServer:
    """A server on one address. A Runnable: :meth:`run` listens until it is cancelled."""

    def __init__(
        self, name: str, address: Address, *, flag: str, tls: ssl.SSLContext | None = None, limits: Limits | None = None
    ) -> None:
        self.name: Final = name
        self.address: Final = address
        self.bound: Address | None = None
        """Where it listens; with port 0 this has the port that the system chose. ``None`` while it does not."""
        self._flag = flag
        self._tls = tls
        self._limits = limits or Limits()
        self._exact: dict[str, tuple[Handler, frozenset[str]]] = {}
        self._below: dict[str, tuple[Handler, frozenset[str]]] = {}
        self._running = 0
        self._buffered = 0
        self._listening = asyncio.Event()

    def route(self, path: str, handler: Handler, *, below: bool = False, methods: tuple[str, ...] = ("GET",)) -> None:
        """Serve *path*, and with *below* all paths under it. Raises ConfigError when *path* is taken or relative."""
        if not path.startswith("/") or path in self._exact:
            raise ConfigError(f"the {self.name} server: {path!r} is taken already, or does not begin with /")
        allowed = frozenset(methods) | ({"HEAD"} if "GET" in methods else frozenset())
        self._exact[path] = (handler, allowed)
        if below:
            self._below[f"{path.rstrip('/')}/"] = (handler, allowed)

    def paths(self) -> tuple[str, ...]:
        """Return the paths that are served."""
        return tuple(self._exact)

    async def ready(self) -> None:
        """Wait until the server listens."""
        await self._listening.wait()

    async def run(self) -> None:
        """Listen and serve until cancelled; then stop listening and let requests under way finish.

        Raises ConfigError, which names the flag, when it cannot listen.
        """
        sock = self._bind()
        limits = self._limits
        server = Connections(
            self._serve,
            access_log=None,
            logger=_SILENT,
            keepalive_timeout=limits.idle,
            max_field_size=limits.header_bytes,
            max_line_size=limits.header_bytes,
            lingering_time=LINGER,
        )
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=limits.drain)
        try:
            await runner.setup()
            await web.SockSite(runner, sock, ssl_context=self._tls, backlog=128).start()
            host, port = sock.getsockname()[:2]
            self.bound = Address(self.address.host or host, port)
            self._listening.set()
            log.info("listening", server=self.name, address=str(self.bound), tls=self._tls is not None)
            await asyncio.Event().wait()
        finally:
            self._listening.clear()
            self.bound = None
            await runner.cleanup()
            await server.part()
            sock.close()

    def _bind(self) -> socket.socket:
        host, port = self.address.host, self.address.port
        try:
            if not host and socket.has_dualstack_ipv6():
                return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family)
        except OSError as error:
            raise ConfigError(
                f"{self._flag}={self.address}: cannot listen there: {error.strerror or error}; "
                "choose another address, or 0 to turn it off"
            ) from error

    async def answer(self, call: Call) -> Reply:
        """Answer *call* as if it had come over a connection, within the same limits; nothing need listen for it."""
        limits = self._limits
        if self._running >= limits.concurrent:
            return _crowded()
        found = self._handler(call.method, call.path)
        if isinstance(found, Reply):
            return found
        size = len(call.body) if len(call.body) <= limits.body_bytes else 0
        if 0 < limits.buffered_bytes < self._buffered + size:
            return _full()
        self._running += 1
        self._buffered += size
        try:
            return await self._handle(found, call, complete=len(call.body) <= limits.body_bytes)
        finally:
            self._running -= 1
            self._buffered -= size

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._running >= self._limits.concurrent:
            return _answer(_crowded())
        self._running += 1
        try:
            return _answer(await self._dispatch(request))
        finally:
            self._running -= 1

    async def _dispatch(self, request: web.BaseRequest) -> Reply:
        handler = self._handler(request.method, request.path)
        if isinstance(handler, Reply):
            return handler
        chunks = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                complete = await self._body(request, chunks)
            query = {name: tuple(request.query.getall(name)) for name in request.query}
            headers = {name.lower(): value for name, value in request.headers.items()}
            body = bytes(chunks) if complete else b""
            call = Call(request.method, request.path, query, headers, body, _peer(request))
            return await self._handle(handler, call, complete=complete)
        except TimeoutError:
            return Reply.text("the body of the request did not come in time", 408)
        except _Full:
            return _full()
        finally:
            self._buffered -= len(chunks)

    def _handler(self, method: str, path: str) -> Handler | Reply:
        """Return who answers, or the answer to what nobody does."""
        found = self._find(path)
        if found is None:
            return Reply.text(f"404 page not found; there are {', '.join(sorted(self._exact))}", 404)
        handler, methods = found
        if method in methods:
            return handler
        return Reply(405, b"method not allowed\n", headers={"allow": ", ".join(sorted(methods))})

    async def _handle(self, handler: Handler, call: Call, *, complete: bool) -> Reply:
        if not complete:
            return Reply.text(f"the body of the request is longer than {self._limits.body_bytes} bytes", 413)
        try:
            return await handler(call)
        except Exception as error:  # one request must not cost the others (HEA3)
            log.error("a request failed", server=self.name, path=call.path, exc_info=error)
            return Reply.text("internal error; the log has the cause", 500)

    def _find(self, path: str) -> tuple[Handler, frozenset[str]] | None:
        if path in self._exact:
            return self._exact[path]
        return next((found for start, found in self._below.items() if path.startswith(start)), None)

    async def _body(self, request: web.BaseRequest, chunks: bytearray) -> bool:
        """Put the body into *chunks*; tell whether it is all of it: False when it is too long. Raises _Full."""
        if not request.body_exists:
            return True
        limit = self._limits.body_bytes
        if (request.content_length or 0) > limit:
            return False
        async for chunk in request.content.iter_any():
            chunks += chunk
            self._buffered += len(chunk)
            if len(chunks) > limit:
                return False
            if 0 < self._limits.buffered_bytes < self._buffered:
                raise _Full
        return True


def _peer(request: web.BaseRequest) -> str:
    """Return the common name of the verified certificate of the client, or nothing."""
    certificate = request.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return str(names[-1]) if names else ""


def _crowded() -> Reply:
    return Reply.text("too many requests at once", 503)


def _full() -> Reply:
    return Reply(503, b"too many bytes at once\n", headers={"connection": "close"})


def _answer(reply: Reply) -> web.Response:
    headers = {"content-type": reply.content_type, "x-content-type-options": "nosniff", **reply.headers}
    response = web.Response(status=reply.status, body=reply.body, headers=headers)
    if reply.status in (408, 413) or "connection" in reply.headers:
        response.force_close()  # what is left of the body must not be read as the next request
    return response
