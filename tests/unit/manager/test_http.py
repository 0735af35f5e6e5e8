"""The limits of the shared server, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest

from kruise.runtime.clock import SystemClock
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.certs import ServingCertificate
from kruise.runtime.manager.http import Address, Call, HttpServer, Limits, Reply, parse_address
from kruise.runtime.manager.process import loop_factory
from kruise.runtime.metrics import Metrics


@contextlib.asynccontextmanager
async def serving(server: HttpServer) -> AsyncIterator[str]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.ready()
        assert server.bound is not None
        yield f"http://127.0.0.1:{server.bound.port}"
        task.cancel()


def make(limits: Limits | None = None, host: str = "127.0.0.1") -> HttpServer:
    return HttpServer("test", Address(host, 0), flag="--test-addr", limits=limits)


async def echo(call: Call) -> Reply:
    return Reply.text(f"{call.method} {call.path} {len(call.body)} {call.headers.get('x-long', '')[:3]}")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":8080", "", 8080),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("localhost:9", "localhost", 9),
        ("[::1]:8443", "::1", 8443),
        ("0.0.0.0:1", "0.0.0.0", 1),
    ],
)
def test_met5_listen_addresses_are_read(text: str, host: str, port: int) -> None:
    assert parse_address(text, "--metrics-addr") == Address(host, port)


def test_met5_zero_turns_a_server_off() -> None:
    assert parse_address("0", "--metrics-addr") is None


@pytest.mark.parametrize("text", ["", "8080", "localhost", ":x", ":70000", ":-1", "::1:80", "a:b:1"])
def test_met5_a_malformed_address_is_refused_by_its_flag(text: str) -> None:
    with pytest.raises(ConfigError, match="--metrics-addr="):
        parse_address(text, "--metrics-addr")


def test_dbg4_loopback_is_known() -> None:
    assert Address("127.0.0.1", 1).loopback and Address("::1", 1).loopback and Address("localhost", 1).loopback
    assert not Address("", 1).loopback and not Address("0.0.0.0", 1).loopback and not Address("10.0.0.1", 1).loopback
    assert str(Address("::1", 1)) == "[::1]:1"


async def test_htp1_an_address_in_use_is_told_by_its_flag() -> None:
    first = make()
    first.route("/", echo)
    async with serving(first):
        assert first.bound is not None
        second = HttpServer("test", first.bound, flag="--test-addr")
        with pytest.raises(
            ConfigError, match=r"--test-addr=127\.0\.0\.1:.*cannot listen there: Address already in use"
        ):
            await second.run()
    assert first.bound is None


async def test_htp1_an_empty_host_serves_ipv4_and_ipv6() -> None:
    server = make(host="")
    server.route("/", echo)
    async with serving(server) as base, aiohttp.ClientSession() as session:
        assert server.bound is not None
        for url in (base, f"http://[::1]:{server.bound.port}"):
            try:
                async with session.get(url + "/") as answer:
                    assert answer.status == 200
            except aiohttp.ClientConnectorError:
                assert "::1" in url, "IPv6 may be missing on this machine, IPv4 not"


async def test_htp1_headers_up_to_64_kib_pass() -> None:
    server = make()
    server.route("/", echo)
    async with serving(server) as base, aiohttp.ClientSession() as session:
        for size in (8191, 60_000):
            async with session.get(base + "/", headers={"x-long": "y" * size}) as answer:
                assert answer.status == 200 and "yyy" in await answer.text(), size
        async with session.get(base + "/", headers={"x-long": "y" * 70_000}) as answer:
            assert answer.status == 400


async def test_htp1_a_body_has_a_size_limit() -> None:
    server = make(Limits(body_bytes=100))
    server.route("/", echo, methods=("POST",))
    async with serving(server) as base, aiohttp.ClientSession() as session:
        async with session.post(base + "/", data=b"x" * 100) as answer:
            assert await answer.text() == "POST / 100 \n"
        async with session.post(base + "/", data=b"x" * 101) as answer:
            assert answer.status == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 50

        async with session.post(base + "/", data=chunks()) as answer:
            assert answer.status == 413, "a chunked body does not say how long it is"


async def test_htp1_a_body_has_a_deadline() -> None:
    server = make(Limits(body_bytes=100, body_seconds=0.05))
    server.route("/", echo, methods=("POST",))
    async with serving(server):
        assert server.bound is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", server.bound.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\nhalf")
        assert b" 408 " in await asyncio.wait_for(reader.read(), 5), "answered, and closed"
        writer.close()
        await writer.wait_closed()


async def test_htp1_half_sent_headers_and_idle_connections_are_closed() -> None:
    assert Limits().idle == 75.0
    server = make(Limits(idle=0.05))
    server.route("/", echo)
    async with serving(server):
        assert server.bound is not None
        for sent in (b"GET / HTTP/1.1\r\nhost", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.bound.port)
            writer.write(sent)
            await asyncio.wait_for(reader.read(), 5)  # until the server closes
            writer.close()
            await writer.wait_closed()


async def test_htp1_too_many_requests_at_once_are_answered_503() -> None:
    server = make(Limits(concurrent=2))
    release, both = asyncio.Event(), asyncio.Barrier(3)

    async def slow(_call: Call) -> Reply:
        if not release.is_set():
            await both.wait()
            await release.wait()
        return Reply.text("done")

    server.route("/slow", slow)
    async with serving(server) as base, aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

        async def get() -> int:
            async with session.get(base + "/slow") as answer:
                return answer.status

        first = [group.create_task(get()) for _ in range(2)]
        await both.wait()
        assert await get() == 503
        release.set()
        assert [await task for task in first] == [200, 200]
        assert await get() == 200


async def test_htp1_a_stop_lets_requests_under_way_finish() -> None:
    server = make()
    began, release = asyncio.Event(), asyncio.Event()

    async def slow(_call: Call) -> Reply:
        began.set()
        await release.wait()
        return Reply.text("finished")

    server.route("/slow", slow)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.ready()
        base = f"http://{server.bound}"

        async def get() -> str:
            async with session.get(base + "/slow") as answer:
                return await answer.text()

        asked = group.create_task(get())
        await began.wait()
        task.cancel()
        await asyncio.sleep(0.01)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(base + "/slow")
        release.set()
        assert await asked == "finished\n"


async def test_hea3_a_handler_that_raises_costs_its_own_request(capsys: pytest.CaptureFixture[str]) -> None:
    server = make()

    async def broken(_call: Call) -> Reply:
        raise ValueError("a broken handler")

    server.route("/broken", broken)
    server.route("/", echo)
    async with serving(server) as base, aiohttp.ClientSession() as session:
        async with session.get(base + "/broken") as answer:
            assert answer.status == 500 and "a broken handler" not in await answer.text()
        async with session.get(base + "/") as answer:
            assert answer.status == 200
    assert "a broken handler" in capsys.readouterr().err


async def test_htp1_routes_are_unique_and_absolute() -> None:
    server = make()
    server.route("/a", echo, below=True)
    assert server.paths() == ("/a",)
    with pytest.raises(ConfigError, match="taken"):
        server.route("/a", echo)
    with pytest.raises(ConfigError, match="begin with /"):
        server.route("b", echo)


@pytest.mark.parametrize("fast", [False, True], ids=["asyncio", "uvloop"])
def test_htp1_web8_a_stop_leaves_no_socket_although_its_client_says_no_goodbye(fast: bool) -> None:
    """Under TLS a close waits for the other side; a loop that ended before would leave its socket open."""
    clock = SystemClock()
    certificate = ServingCertificate.in_memory("test", ("127.0.0.1",), clock=clock, metrics=Metrics(process=False))
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    async def main() -> ssl.SSLSocket:
        server = HttpServer("test", Address("127.0.0.1", 0), flag="--test-addr", tls=certificate.context)
        server.route("/a", echo)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(server.run())
            await server.ready()
            assert server.bound is not None
            client = await asyncio.to_thread(_ask, trusting, server.bound.port)
            task.cancel()
        return client

    with asyncio.Runner(loop_factory=loop_factory(fast=fast)) as runner:
        client = runner.run(main())
    client.close()


def _ask(tls: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    """Send a request, read its answer, and keep the connection."""
    client = tls.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    client.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(4096).startswith(b"HTTP/1.1 200")
    return client
