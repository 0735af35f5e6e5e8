"""tls.py, and http.py over TLS: rotation, proxies, what is trusted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kruise.runtime import errors as e
from kruise.runtime.client.auth import ClientCertificate, ClusterConfig, StaticCredentials
from kruise.runtime.client.http import HttpTransport
from kruise.runtime.client.tls import TlsContexts
from kruise.runtime.client.transport import Pool, Request
from kruise.runtime.clock import SystemClock
from kruise.runtime.errors import ConfigError
from tests.unit.client.certs import Pair, authority, leaf
from tests.unit.client.server import CHUNKED, Seen, Server, answer, chunk

GET = Request("GET", "/x", {}, timeout=10.0)


class Ahead(SystemClock):
    """The machine's clock, moved ahead by hand: no test waits for the next look at a file."""

    __slots__ = ("ahead",)

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def server_tls(pair: Pair, folder: Path, *, clients: Pair | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    swap(context, pair, folder)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients.cert_pem.decode())
    return context


def swap(context: ssl.SSLContext, pair: Pair, folder: Path) -> None:
    (folder / "server.pem").write_bytes(pair.cert_pem + pair.key_pem)
    context.load_cert_chain(folder / "server.pem")


def common_name(seen: Seen) -> str:
    return dict(part[0] for part in seen.peer["subject"])["commonName"]


async def ok(_: Seen) -> bytes:
    return answer(200)


@pytest.fixture(scope="module")
def ca() -> Pair:
    return authority("one")


async def test_tra6_the_ca_is_rotated_while_a_watch_goes_on(ca: Pair, tmp_path: Path) -> None:
    other = authority("two")
    more = asyncio.Event()

    async def handler(seen: Seen) -> bytes:
        if seen.target != "/watch":
            return answer(200)
        seen.writer.write(CHUNKED + chunk(b"one\n"))
        await seen.writer.drain()
        await more.wait()
        return chunk(b"two\n") + b"0\r\n\r\n"

    context = server_tls(leaf(ca, "server"), tmp_path)
    file = tmp_path / "ca.crt"
    file.write_bytes(ca.cert_pem)
    clock = Ahead()
    async with Server(handler, tls=context) as server:
        config = ClusterConfig(server.url(), ca_file=str(file))
        async with HttpTransport(config, clock=clock, env={}) as transport:
            await transport.request(GET)
            async with await transport.stream(Request("GET", "/watch", {}, pool=Pool.WATCH)) as stream:
                assert await stream.read_line() == b"one"
                swap(context, leaf(other, "server"), tmp_path)
                await transport.request(GET)
                assert server.connections == 2
                file.write_bytes(other.cert_pem)
                clock.ahead += 1.0
                await transport.request(GET)
                assert server.connections == 3
                more.set()
                assert await stream.read_line() == b"two"
                assert await stream.read_line() == b""


async def test_tra6_the_client_certificate_is_rotated_and_a_pair_that_does_not_fit_waits(
    ca: Pair, tmp_path: Path
) -> None:
    first, second = leaf(ca, "first"), leaf(ca, "second")
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    cert.write_bytes(first.cert_pem)
    key.write_bytes(first.key_pem)
    clock = Ahead()
    async with Server(ok, tls=server_tls(leaf(ca, "server"), tmp_path, clients=ca)) as server:
        config = ClusterConfig(server.url(), ca_data=ca.cert_pem, client_cert_file=str(cert), client_key_file=str(key))
        async with HttpTransport(config, clock=clock, env={}) as transport:
            await transport.request(GET)
            with capture_logs() as lines:
                cert.write_bytes(second.cert_pem)
                for _ in range(3):
                    clock.ahead += 1.0
                    await transport.request(GET)
                assert [line["event"] for line in lines] == ["new certificates are unusable, keeping those of before"]
                key.write_bytes(second.key_pem)
                clock.ahead += 1.0
                await transport.request(GET)
        assert [common_name(s) for s in server.seen] == ["first"] * 4 + ["second"]
        assert [s.connection for s in server.seen] == [1, 1, 1, 1, 2]


async def test_tra6_a_missing_file_keeps_the_certificates_of_before(ca: Pair, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(ca.cert_pem)
    clock = Ahead()
    contexts = TlsContexts(ClusterConfig("https://x", ca_file=str(file)), clock)
    before = contexts.current()
    os.unlink(file)
    clock.ahead += 1.0
    assert contexts.current() is before
    assert not contexts.reload()
    file.write_bytes(authority("three").cert_pem)
    assert contexts.reload()
    assert contexts.current() is not before


class Bringer(StaticCredentials):
    """Credentials that bring a certificate, as an exec plugin does."""

    __slots__ = ("now", "then")

    def __init__(self, now: Pair, then: Pair) -> None:
        super().__init__()
        self.now = ClientCertificate(now.cert_pem, now.key_pem)
        self.then = ClientCertificate(then.cert_pem, then.key_pem)

    def certificate(self) -> ClientCertificate:
        return self.now

    async def refresh(self) -> bool:
        self.now = self.then
        return True


async def test_aut3_a_certificate_that_is_refused_is_had_again(ca: Pair, tmp_path: Path) -> None:
    async def handler(seen: Seen) -> bytes:
        return answer(200 if common_name(seen) == "second" else 401)

    async with Server(handler, tls=server_tls(leaf(ca, "server"), tmp_path, clients=ca)) as server:
        credentials = Bringer(leaf(ca, "first"), leaf(ca, "second"))
        config = ClusterConfig(server.url(), credentials, ca_data=ca.cert_pem)
        async with HttpTransport(config, clock=SystemClock(), env={}) as transport:
            assert (await transport.request(GET)).status == 200
        assert [common_name(s) for s in server.seen] == ["first", "second"]


async def test_tra6_who_is_not_known_is_not_spoken_to(ca: Pair, tmp_path: Path) -> None:
    strange = authority("strange")
    async with Server(ok, tls=server_tls(leaf(ca, "server", dns="api.internal"), tmp_path)) as server:

        async def ask(**config: Any) -> int:
            async with HttpTransport(ClusterConfig(**config), clock=SystemClock(), env={}) as transport:
                return (await transport.request(GET)).status

        with pytest.raises(e.Refused, match="certificate"):
            await ask(host=server.url(), ca_data=strange.cert_pem)
        with pytest.raises(e.Refused, match="certificate"):
            await ask(host=server.url())
        with pytest.raises(e.Refused, match="localhost"):
            await ask(host=server.url("localhost"), ca_data=ca.cert_pem)
        assert server.seen == []
        assert await ask(host=server.url("localhost"), ca_data=ca.cert_pem, server_name="api.internal") == 200
        with capture_logs() as lines:
            assert await ask(host=server.url("localhost"), insecure=True) == 200
        assert any("not checked" in line["event"] for line in lines)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"ca_file": "/nowhere/ca.crt"}, "certificate-authority /nowhere/ca.crt: cannot be read"),
        ({"ca_data": b"no pem"}, "certificate-authority-data: holds no usable CA"),
        ({"ca_data": b"\xff"}, "certificate-authority-data"),
        ({"insecure": True, "client_cert_data": b"x"}, "needs its key"),
        ({"insecure": True, "client_cert_data": b"x", "client_key_data": b"y"}, "no usable pair"),
        ({"insecure": True, "client_cert_file": "/nowhere/c"}, "client-certificate /nowhere/c"),
    ],
)
def test_tra6_unusable_material_at_the_start_names_its_field(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        HttpTransport(ClusterConfig("https://x", **config), clock=SystemClock(), env={})


def test_log4_key_data_leaves_nothing_on_disk(ca: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pair = leaf(ca, "first")
    TlsContexts(
        ClusterConfig("https://x", insecure=True, client_cert_data=pair.cert_pem, client_key_data=pair.key_pem),
        SystemClock(),
    )
    assert list(tmp_path.iterdir()) == []


@contextlib.asynccontextmanager
async def tunnel(port: int, seen: list[tuple[str, str]], *, refuse: bool = False) -> AsyncIterator[int]:
    """A proxy that leads every CONNECT to *port* on this machine."""
    tasks: set[asyncio.Task[Any]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        pairs = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        seen.append((head.split("\r\n")[0], pairs.get("proxy-authorization", "")))
        if refuse:
            writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            writer.transport.abort()
            return
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))
        finally:
            up_writer.transport.abort()
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_tra3_a_proxy_of_the_environment_is_used_and_asked_for_once(ca: Pair, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    async with (
        Server(ok, tls=server_tls(leaf(ca, "s", dns="api.example.test"), tmp_path)) as server,
        tunnel(server.port, seen) as port,
    ):
        config = ClusterConfig("https://api.example.test:6443", ca_data=ca.cert_pem)
        env = {"HTTPS_PROXY": f"http://me:pw@127.0.0.1:{port}"}
        async with HttpTransport(config, clock=SystemClock(), env=env) as transport:
            env.clear()
            assert (await transport.request(GET)).status == 200
            assert (await transport.request(Request("GET", "/x", {}, pool=Pool.LEASE))).status == 200
        assert seen == [("CONNECT api.example.test:6443 HTTP/1.1", "basic bwu6chc=")] * 2
        assert server.seen[0].headers["host"] == "api.example.test:6443"
        assert all("proxy-authorization" not in s.headers for s in server.seen)


async def test_tra3_a_proxy_that_refuses_has_let_nothing_through(ca: Pair) -> None:
    seen: list[tuple[str, str]] = []
    async with tunnel(1, seen, refuse=True) as port:
        config = ClusterConfig("https://api.example.test", ca_data=ca.cert_pem, proxy=f"http://127.0.0.1:{port}")
        async with HttpTransport(config, clock=SystemClock(), env={}) as transport:
            with pytest.raises(e.Refused, match="proxy") as caught:
                await transport.request(Request("POST", "/x", {}, b"{}"))
            assert not caught.value.sent
