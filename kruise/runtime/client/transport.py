"""The seam between the runtime and the network.

Purpose: everything above speaks to a :class:`Transport`; the HTTP one is in ``http.py``, and the embedded API server of
the tests is another. Nothing else in the runtime touches a socket towards the API server.

Guarantees:

* TRA1: a transport has two operations, ``request()`` and ``stream()``.
* TRA2: a request names its pool; watches, calls and the lease never share connections.
* TRA5: :func:`chain` puts middleware around a transport: metrics, fencing, dry run and faults enter here.

What this does not do: no retry, no decoding, no meaning of a status code. An answer with an error status is an answer.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Final, Protocol, Self

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Pool(enum.Enum):
    """Which connections a request may use (TRA2)."""

    CALL = "call"
    WATCH = "watch"
    LEASE = "lease"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``path`` is absolute, encoded, and carries the query."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    """Without credentials: the transport adds those."""
    body: bytes | None = None
    timeout: float = 30.0
    """Seconds for the whole request; for a stream, seconds until its headers."""
    pool: Pool = Pool.CALL
    verb: str = ""
    """The API verb: get, list, watch, create, patch, delete. Middleware and errors read this and what follows."""
    group: str = ""
    resource: str = ""
    """The plural, without the subresource."""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    custom: bool = False
    """The resource comes from a CustomResourceDefinition."""
    controller: str = ""
    """Which controller sends it; ``""`` for the runtime itself."""

    @property
    def mutating(self) -> bool:
        """Whether the request may change something on the server."""
        return self.method not in ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    body: bytes = b""


class ByteStream(Protocol):
    """An open answer that is read line by line. Own it with ``async with``."""

    status: int
    headers: Mapping[str, str]

    async def read_line(self) -> bytes:
        """Return the next line without its end; ``b""`` when the stream has ended cleanly.

        Raises TransportError: Truncated for a last line without its end, BadFrame for a line over the limit (64 MiB),
        Reset or Timeout as they come. An empty line is a BadFrame.
        """
        ...

    def buffered(self) -> bool:
        """Tell whether another line can be read without waiting."""
        ...

    async def read_all(self) -> bytes:
        """Return what is left, for the body of an error."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Transport(Protocol):
    """Carries requests to an API server (TRA1)."""

    async def request(self, request: Request) -> Response:
        """Send and wait for the whole answer. Raises TransportError; ``sent`` tells whether the server may have it."""
        ...

    async def stream(self, request: Request) -> ByteStream:
        """Send and return as soon as the headers are there. Raises TransportError."""
        ...

    async def close(self) -> None:
        """Close every connection. Afterwards no operation may be called."""
        ...


class Middleware(Protocol):
    """Stands before a transport and sees every request (TRA5)."""

    async def call(self, request: Request, nxt: Transport) -> Response:
        """Answer *request*, usually with ``await nxt.request(request)``."""
        ...

    async def stream(self, request: Request, nxt: Transport) -> ByteStream:
        """Open *request* as a stream, usually with ``await nxt.stream(request)``."""
        ...


@dataclass(slots=True)
class _Link:
    middleware: Middleware
    nxt: Transport
    closed: bool = field(default=False, init=False)

    async def request(self, request: Request) -> Response:
        return await self.middleware.call(request, self.nxt)

    async def stream(self, request: Request) -> ByteStream:
        return await self.middleware.stream(request, self.nxt)

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self.nxt.close()


def chain(transport: Transport, middleware: Sequence[Middleware]) -> Transport:
    """Return *transport* behind *middleware*; the first one sees a request first."""
    for one in reversed(middleware):
        transport = _Link(one, transport)
    return transport
