"""transport.py: the seam and its middleware; deadline.py."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

import kruise.runtime
from kruise.runtime.client.deadline import DeadlineStream
from kruise.runtime.client.transport import ByteStream, Middleware, Request, Response, Transport, chain
from kruise.runtime.errors import Reset, Timeout
from kruise.runtime.testing.loop import VirtualClock, run_virtual


class Lines:
    def __init__(self, clock: VirtualClock, every: float) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.clock = clock
        self.every = every
        self.ready = 0
        self.closed = False

    async def read_line(self) -> bytes:
        if self.ready:
            self.ready -= 1
        else:
            await self.clock.sleep(self.every)
        return b"{}"

    def buffered(self) -> bool:
        return self.ready > 0

    async def read_all(self) -> bytes:
        await self.clock.sleep(self.every)
        return b"rest"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True


class Bottom:
    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.closed = 0

    async def request(self, request: Request) -> Response:
        self.seen.append(request)
        return Response(200, {}, b"{}")

    async def stream(self, request: Request) -> ByteStream:
        self.seen.append(request)
        raise Reset("no streams here")

    async def close(self) -> None:
        self.closed += 1


class Note:
    def __init__(self, name: str, book: list[str]) -> None:
        self.name = name
        self.book = book

    async def call(self, request: Request, nxt: Transport) -> Response:
        self.book.append(f"{self.name}>")
        response = await nxt.request(request)
        self.book.append(f"<{self.name}")
        return response

    async def stream(self, request: Request, nxt: Transport) -> ByteStream:
        self.book.append(f"{self.name}~")
        return await nxt.stream(request)


class LostAnswer:
    """A fault: the write is done, the answer is lost."""

    async def call(self, request: Request, nxt: Transport) -> Response:
        await nxt.request(request)
        raise Reset("answer lost")

    async def stream(self, request: Request, nxt: Transport) -> ByteStream:
        return await nxt.stream(request)


def uses_client(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in (
            "ClientSession", "TCPConnector", "open_connection", "create_connection",
        ):  # fmt: skip
            yield node.attr


def test_tra1_only_the_http_transport_opens_sockets_towards_the_api_server() -> None:
    root = Path(kruise.runtime.__path__[0])
    users = {p.relative_to(root).as_posix() for p in root.rglob("*.py") if list(uses_client(p))}
    # oidc.py speaks to an identity provider, which is no API server.
    elsewhere = {"client/oidc.py", "webhook/dial.py"}  # to an identity provider, and to our own webhooks
    assert users - elsewhere == {"client/pool.py"}


def test_tra1_a_transport_has_two_operations_and_an_end() -> None:
    assert {n for n in vars(Transport) if not n.startswith("_")} == {"request", "stream", "close"}


async def test_tra5_the_first_middleware_sees_a_request_first() -> None:
    book: list[str] = []
    bottom = Bottom()
    middleware: list[Middleware] = [Note("a", book), Note("b", book)]
    transport = chain(bottom, middleware)
    assert (await transport.request(Request("GET", "/x"))).status == 200
    assert book == ["a>", "b>", "<b", "<a"]
    book.clear()
    with pytest.raises(Reset):
        await transport.stream(Request("GET", "/x"))
    assert book == ["a~", "b~"]
    await transport.close()
    await transport.close()
    assert bottom.closed == 1


async def test_tra5_faults_enter_by_the_same_seam() -> None:
    bottom = Bottom()
    with pytest.raises(Reset, match="answer lost"):
        await chain(bottom, [LostAnswer()]).request(Request("POST", "/x"))
    assert len(bottom.seen) == 1


def test_tra4_a_stream_ends_at_its_absolute_deadline() -> None:
    async def main(clock: VirtualClock) -> None:
        inner = Lines(clock, 4.0)
        async with DeadlineStream(inner, clock=clock, seconds=10.0) as stream:
            assert await stream.read_line() == b"{}"
            assert await stream.read_line() == b"{}"
            inner.ready = 1
            assert stream.buffered()
            assert await stream.read_line() == b"{}"
            begun = clock.monotonic()
            with pytest.raises(Timeout, match="10 s"):
                await stream.read_line()
            assert clock.monotonic() - begun == pytest.approx(2.0)
            inner.ready = 5
            with pytest.raises(Timeout):
                await stream.read_line()
            with pytest.raises(Timeout):
                await stream.read_all()
        assert inner.closed

    run_virtual(main)


def test_tra4_read_all_passes_before_the_deadline() -> None:
    async def main(clock: VirtualClock) -> None:
        async with DeadlineStream(Lines(clock, 1.0), clock=clock, seconds=10.0) as stream:
            assert (stream.status, stream.headers) == (200, {})
            assert await stream.read_all() == b"rest"

    run_virtual(main)
