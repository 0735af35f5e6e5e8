"""connection.py and pool.py: pools, places, idle connections, slow readers and slow servers."""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kruise.runtime import errors as e
from kruise.runtime.client import connection
from kruise.runtime.client import pool as pool_module
from kruise.runtime.client.auth import ClusterConfig
from kruise.runtime.client.connection import Connection
from kruise.runtime.client.http import HttpTransport
from kruise.runtime.client.http1 import write_head
from kruise.runtime.client.pace import SAME_LOOK, Pace
from kruise.runtime.client.pool import ConnectionPool, Route
from kruise.runtime.client.transport import Pool, Request
from kruise.runtime.clock import SystemClock
from tests.unit.client.server import CHUNKED, Seen, Server, answer, chunk

WATCH = Request("GET", "/w", {}, pool=Pool.WATCH, timeout=10.0)
GET = write_head("GET", "/", "h", {}, None)


async def ok(_: Seen) -> bytes:
    return answer(200)


def pool_of(server: Server, limit: int = 0, clock: SystemClock | None = None) -> ConnectionPool:
    route = Route("127.0.0.1", server.port, f"127.0.0.1:{server.port}")
    return ConnectionPool(route, limit=limit, clock=clock or SystemClock(), metrics=None, label="x")


async def ask(pool: ConnectionPool, tls: ssl.SSLContext | None = None) -> Connection:
    """Send a request; return the connection that carried it."""
    found = await pool.take("GET /", tls)
    await found.send("GET /", GET, b"", whole=True)
    pool.give(found)
    return found


class Elsewhere:
    """A server on a loop of its own; a context manager that gives its URL."""

    def __init__(self, handler: Callable[[Seen], Awaitable[bytes]]) -> None:
        self._handler = handler
        self._ready: queue.SimpleQueue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        async with Server(self._handler) as server:
            end = asyncio.Event()
            self._ready.put((server.url(), asyncio.get_running_loop(), end))
            await end.wait()

    def __enter__(self) -> str:
        self._thread.start()
        url, self._loop, self._end = self._ready.get(timeout=30.0)
        return url

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30.0)


async def test_tra2_places_are_given_in_their_order_and_none_is_lost() -> None:
    async with Server(ok) as server:
        pool = pool_of(server, limit=2)
        held = [await pool.take("a", None), await pool.take("b", None)]
        for one in held:  # kept from now on: who gets a place need not dial, and has its connection at once
            await one.send("GET /", GET, b"", whole=True)
        order: list[int] = []

        async def wait(number: int) -> None:
            found = await pool.take(str(number), None)
            order.append(number)
            await asyncio.sleep(0)
            pool.give(found)

        waiting = []
        for number in range(6):
            waiting.append(asyncio.create_task(wait(number)))
            await asyncio.sleep(0)
        waiting[1].cancel()
        for one in held:
            pool.give(one)
        waiting[2].cancel()  # in the very turn in which it may have been given a place
        await asyncio.gather(*waiting, return_exceptions=True)
        assert order == sorted(order)
        assert set(order) >= {0, 3, 4, 5}
        again = [await pool.take("c", None), await pool.take("d", None)]
        assert len(again) == 2, "both places are free again"
        for one in again:
            pool.give(one)
        pool.close()
        await asyncio.sleep(0)


async def test_tra4_a_place_that_does_not_come_is_a_timeout_with_nothing_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "CONNECT_TIMEOUT", 0.02)
    async with Server(ok) as server:
        pool = pool_of(server, limit=1)
        held = await pool.take("a", None)
        with pytest.raises(e.Timeout, match="no connection within") as caught:
            await pool.take("b", None)
        assert not caught.value.sent
        pool.give(held)
        assert (await ask(pool)).open
        pool.close()
        await asyncio.sleep(0)


class Later(SystemClock):
    __slots__ = ("ahead",)

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def sweep(pool: ConnectionPool) -> None:
    assert pool._sweeper is not None
    pool._sweeper.cancel()
    pool._sweep()


async def test_tra2_what_was_idle_for_too_long_is_not_used_again() -> None:
    clock = Later()
    async with Server(ok) as server:
        pool = pool_of(server, clock=clock)
        first = await ask(pool)
        assert await ask(pool) is first
        clock.ahead = pool_module.IDLE_TIMEOUT + 1
        assert await ask(pool) is not first
        assert server.connections == 2
        sweep(pool)
        assert len(pool._idle) == 1
        clock.ahead *= 2
        sweep(pool)
        assert len(pool._idle) == 0
        assert pool._sweeper is None
        pool.close()
        await asyncio.sleep(0.01)


async def test_tra2_a_connection_that_the_server_closed_while_idle_is_not_used() -> None:
    async with Server(ok) as server:
        pool = pool_of(server)
        first = await ask(pool)
        for writer in server.writers:
            writer.close()
        while first.open:
            await asyncio.sleep(0.001)
        assert await ask(pool) is not first
        pool.close()
        await asyncio.sleep(0)


async def test_tra6_another_context_means_another_connection() -> None:
    async with Server(ok) as server:
        pool = pool_of(server)
        found = await ask(pool)
        found.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        assert await ask(pool) is not found
        pool.close()
        await asyncio.sleep(0.01)


async def test_tra4_an_address_that_does_not_answer_costs_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "NEXT_ADDRESS", 0.02)
    async with Server(ok) as server:
        pool = pool_of(server)
        loop = asyncio.get_running_loop()
        plain = loop.sock_connect
        tried: list[Any] = []

        async def sock_connect(sock: socket.socket, address: Any) -> None:
            tried.append(address)
            if address[0] == "192.0.2.1":
                await asyncio.Event().wait()
            if address[0] == "192.0.2.2":
                raise ConnectionRefusedError("no")
            await plain(sock, address)

        async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, (ip, server.port)) for ip in ("192.0.2.1", "192.0.2.2", "127.0.0.1")]

        monkeypatch.setattr(loop, "sock_connect", sock_connect)
        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        assert (await ask(pool)).open
        assert [address[0] for address in tried] == ["192.0.2.1", "192.0.2.2", "127.0.0.1"]
        pool.close()
        await asyncio.sleep(0)


async def test_tra8_a_stream_that_nobody_reads_holds_its_server_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HIGH", 1 << 16)
    sent = 0

    async def handler(seen: Seen) -> bytes:
        nonlocal sent
        seen.writer.write(CHUNKED)
        for _ in range(1000):
            seen.writer.write(chunk(b"x" * 65_535 + b"\n"))
            await seen.writer.drain()
            sent += 1
        return b"0\r\n\r\n"

    async with (
        Server(handler) as server,
        HttpTransport(ClusterConfig(server.url()), clock=SystemClock(), env={}) as transport,
        await transport.stream(WATCH) as stream,
    ):
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert 0 < sent < 500, "64 MB do not fit into anybody's buffers"
        lines = 0
        while await stream.read_line():
            lines += 1
        assert lines == 1000


@pytest.mark.parametrize(("kind", "paced"), [(Pool.CALL, True), (Pool.WATCH, True), (Pool.LEASE, False)])
async def test_tra10_a_pace_hears_of_calls_and_watches_and_not_of_the_lease(kind: Pool, *, paced: bool) -> None:
    rests: list[float] = []
    pace = Pace(SystemClock(), rests.append, 60.0)

    async with (
        Server(ok) as server,
        HttpTransport(ClusterConfig(server.url()), clock=SystemClock(), env={}, pace=pace) as transport,
    ):
        request = Request("GET", "/x", {}, pool=kind, timeout=10.0)
        await transport.request(request)
        assert rests == [], "the first answer is read at once"
        await asyncio.sleep(SAME_LOOK * 4)
        await transport.request(request)
    assert [0 < rest < 60 for rest in rests] == ([True] if paced else [])


async def test_tra10_what_comes_while_a_process_rests_is_read_together() -> None:
    async def handler(seen: Seen) -> bytes:
        seen.writer.write(CHUNKED)
        seen.writer.write(chunk(b"0\n"))
        await seen.writer.drain()
        for number in range(1, 20):
            await asyncio.sleep(0.001)
            seen.writer.write(chunk(b"%d\n" % number))
        return b"0\r\n\r\n"

    # The server runs in a thread of its own, because a rest holds up everything in this one.
    with Elsewhere(handler) as url:
        config = ClusterConfig(url)
        pace = Pace(SystemClock(), period=0.05)
        async with (
            HttpTransport(config, clock=SystemClock(), env={}, pace=pace) as transport,
            await transport.stream(WATCH) as stream,
        ):
            looks: list[list[bytes]] = []
            while line := await stream.read_line():
                looks.append([line])
                while stream.buffered():
                    looks[-1].append(await stream.read_line())
    assert [line for look in looks for line in look] == [b"%d" % n for n in range(20)]
    assert len(looks) <= 4, looks


async def test_res3_a_server_that_answers_before_it_has_read_is_heard() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(413))
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.transport.abort()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with HttpTransport(ClusterConfig(url), clock=SystemClock(), env={}) as transport:
        response = await transport.request(Request("POST", "/x", {}, b"x" * (32 << 20), timeout=10.0))
        assert response.status == 413
    server.close()
    await asyncio.sleep(0.25)


async def test_tra3_a_proxy_of_plain_http_is_told_the_whole_url() -> None:
    async with Server(ok) as proxy:
        config = ClusterConfig("http://api.example.test:8080/base", proxy=f"http://me:pw@127.0.0.1:{proxy.port}")
        async with HttpTransport(config, clock=SystemClock(), env={}) as transport:
            assert (await transport.request(Request("GET", "/x", {}))).status == 200
        (seen,) = proxy.seen
        assert seen.target == "http://api.example.test:8080/base/x"
        assert seen.headers["host"] == "api.example.test:8080"
        assert seen.headers["proxy-authorization"].startswith("Basic ")


async def test_tra3_a_credential_with_a_line_break_is_not_sent() -> None:
    async with Server(ok) as server:
        async with HttpTransport(ClusterConfig(server.url()), clock=SystemClock(), env={}) as transport:
            with pytest.raises(e.Refused, match="cannot be sent") as caught:
                await transport.request(Request("GET", "/x", {"authorization": "Bearer a\nb"}))
            assert not caught.value.sent
        assert server.seen == []


async def test_tra1_closing_wakes_who_waits() -> None:
    async def silent(_: Seen) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with Server(silent) as server:
        transport = HttpTransport(ClusterConfig(server.url()), clock=SystemClock(), env={})
        waiting = asyncio.create_task(transport.request(Request("PATCH", "/x", {}, b"{}")))
        while not server.seen:
            await asyncio.sleep(0.001)
        await transport.close()
        with pytest.raises(e.Reset, match="closed") as caught:
            await waiting
        assert caught.value.sent
