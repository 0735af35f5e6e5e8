"""http.py against servers on loopback that keep, and break, the rules of HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from kruise.runtime import errors as e
from kruise.runtime.client import http, pool
from kruise.runtime.client.auth import ClusterConfig, StaticCredentials
from kruise.runtime.client.http import HttpTransport
from kruise.runtime.client.pool import make_socket
from kruise.runtime.client.transport import Pool, Request
from kruise.runtime.clock import SystemClock
from kruise.runtime.errors import ConfigError
from kruise.runtime.metrics import Metrics
from tests.unit.client.server import CHUNKED, Seen, Server, answer, chunk

HEADERS = {"user-agent": "kruise-manager/1 test", "accept": "application/json", "accept-encoding": "identity"}
GET = Request("GET", "/api/v1/pods?labelSelector=a%3Db%2Fc", HEADERS, verb="list", timeout=10.0)
WATCH = Request("GET", "/api/v1/pods?watch=true", HEADERS, pool=Pool.WATCH, verb="watch", timeout=10.0)
DELETE = Request("DELETE", "/api/v1/namespaces/ns/pods/a", HEADERS, b'{"preconditions":{}}', timeout=10.0)


def connect(server: Server, *, env: Mapping[str, str] | None = None, **config: Any) -> HttpTransport:
    return HttpTransport(ClusterConfig(server.url(), **config), clock=SystemClock(), env=env or {})


async def ok(_: Seen) -> bytes:
    return answer(200)


def streaming(*parts: bytes, end: bool = True) -> Any:
    async def handler(seen: Seen) -> None:
        seen.writer.write(CHUNKED)
        for part in parts:
            seen.writer.write(part)
            await seen.writer.drain()
            await asyncio.sleep(0.001)
        if end:
            seen.writer.write(b"0\r\n\r\n")
            await seen.writer.drain()

    return handler


# --- requests ----------------------------------------------------------------------------------------------------


async def test_tra3_a_request_goes_out_as_it_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hidden\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async def cookies(_: Seen) -> bytes:
        return answer(200, b'{"a":1}', set_cookie="id=7", warning='299 - "x"', Warning='299 - "y"')

    async with Server(cookies) as server, connect(server) as transport:
        for _ in range(2):
            response = await transport.request(GET)
        assert (response.status, response.body) == (200, b'{"a":1}')
        assert response.headers["warning"] == '299 - "x", 299 - "y"'
        for seen in server.seen:
            assert seen.target == GET.path
            assert seen.headers == {**HEADERS, "host": f"127.0.0.1:{server.port}"}
        assert server.connections == 1
        assert transport.host == f"127.0.0.1:{server.port}"


async def test_tra3_a_path_prefix_and_a_body_are_kept() -> None:
    async with Server(ok) as server:
        config = ClusterConfig(server.url() + "/k8s/clusters/c-1/")
        async with HttpTransport(config, clock=SystemClock(), env={}) as transport:
            big = b"x" * (3 << 20)
            await transport.request(Request("POST", "/api/v1/x", {"content-type": "application/json"}, big))
            await transport.request(Request("POST", "/api/v1/x", {"content-type": "application/json"}, b"{}"))
        assert [s.target for s in server.seen] == ["/k8s/clusters/c-1/api/v1/x"] * 2
        assert [s.body for s in server.seen] == [big, b"{}"]
        assert all(s.headers["content-type"] == "application/json" for s in server.seen)


async def test_tra8_gzip_is_undone_for_lists_of_any_size() -> None:
    body = b'{"items":["' + b"x" * (40 << 20) + b'"]}'
    packed = gzip.compress(body, 1)

    async def handler(seen: Seen) -> bytes:
        assert seen.headers["accept-encoding"] == "gzip"
        return answer(200, packed, content_encoding="gzip")

    async with Server(handler) as server, connect(server) as transport:
        response = await transport.request(Request("GET", "/x", {**HEADERS, "accept-encoding": "gzip"}))
        assert response.body == body


async def test_tra4_keepalive_is_set_on_every_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, int]] = []

    def spy(info: tuple[Any, ...]) -> socket.socket:
        sock = make_socket(info)
        tcp = socket.IPPROTO_TCP
        made.append(
            {
                "on": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                "idle": sock.getsockopt(tcp, socket.TCP_KEEPIDLE),
                "every": sock.getsockopt(tcp, socket.TCP_KEEPINTVL),
                "count": sock.getsockopt(tcp, socket.TCP_KEEPCNT),
                "user": sock.getsockopt(tcp, socket.TCP_USER_TIMEOUT),
            }
        )
        return sock

    monkeypatch.setattr(pool, "make_socket", spy)
    async with Server(ok) as server, connect(server) as transport:
        for kind in Pool:
            await transport.request(Request("GET", "/x", HEADERS, pool=kind))
    assert made == [{"on": 1, "idle": 15, "every": 5, "count": 3, "user": 30000}] * 3


async def test_tra4_a_silent_server_meets_the_deadline() -> None:
    async def silent(_: Seen) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def half(seen: Seen) -> None:
        seen.writer.write(answer(200, b"x" * 100)[:-50])
        await seen.writer.drain()
        await asyncio.Event().wait()

    for handler in (silent, half):
        async with Server(handler) as server, connect(server) as transport:
            with pytest.raises(e.Timeout, match=r"within 0\.05 s") as caught:
                await transport.request(Request("GET", "/x", HEADERS, timeout=0.05))
            assert caught.value.sent
            if handler is silent:
                with pytest.raises(e.Timeout):
                    await transport.stream(Request("GET", "/x", HEADERS, timeout=0.05))


async def test_tra2_a_wedged_pool_never_delays_the_lease() -> None:
    async def handler(seen: Seen) -> bytes:
        if seen.target != "/lease":
            await asyncio.Event().wait()
        return answer(200)

    async with Server(handler) as server, connect(server) as transport:
        async with asyncio.TaskGroup() as tasks:
            stuck = [
                tasks.create_task(transport.request(Request("GET", "/stuck", HEADERS, pool=Pool.CALL)))
                for _ in range(http._LIMITS[Pool.CALL] + 10)
            ]
            stuck += [
                tasks.create_task(transport.request(Request("GET", "/stuck", HEADERS, pool=Pool.WATCH)))
                for _ in range(5)
            ]
            while len(server.seen) < http._LIMITS[Pool.CALL] + 5:
                await asyncio.sleep(0.005)
            took = []
            for _ in range(5):
                begun = asyncio.get_running_loop().time()
                await transport.request(Request("PATCH", "/lease", HEADERS, b"{}", pool=Pool.LEASE, timeout=5.0))
                took.append(asyncio.get_running_loop().time() - begun)
            assert min(took) < 0.1
            for task in stuck:
                task.cancel()
        pools = {s.connection for s in server.seen if s.target == "/lease"}
        assert pools.isdisjoint(s.connection for s in server.seen if s.target != "/lease")


async def test_tra2_a_reset_in_one_pool_leaves_the_others_alone() -> None:
    async def handler(seen: Seen) -> bytes | None:
        return None if seen.target == "/drop" else answer(200)

    async with Server(handler) as server, connect(server) as transport:
        await transport.request(Request("GET", "/lease", HEADERS, pool=Pool.LEASE))
        with pytest.raises(e.Reset):
            await transport.request(Request("POST", "/drop", HEADERS, b"{}"))
        await transport.request(Request("GET", "/lease", HEADERS, pool=Pool.LEASE))
        first, last = (s.connection for s in server.seen if s.target == "/lease")
        assert first == last


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "POST"])
async def test_res3_a_write_that_meets_a_dead_connection_is_sent_once(method: str) -> None:
    async def handler(seen: Seen) -> bytes | None:
        return answer(200) if seen.method == "GET" else None

    async with Server(handler) as server, connect(server) as transport:
        await transport.request(GET)
        with pytest.raises(e.Reset) as caught:
            await transport.request(Request(method, "/x", HEADERS, b"{}"))
        assert caught.value.sent
        assert [s.method for s in server.seen] == ["GET", method]
        assert {s.connection for s in server.seen} == {1}


async def test_res3_a_read_that_meets_a_dead_connection_goes_again() -> None:
    async def handler(seen: Seen) -> bytes | None:
        return None if len(server.seen) == 2 else answer(200)

    async with Server(handler) as server, connect(server) as transport:
        await transport.request(GET)
        assert (await transport.request(GET)).status == 200
        assert [s.connection for s in server.seen] == [1, 1, 2]


async def test_res9_what_can_go_wrong_with_an_answer_is_typed() -> None:
    def saying(data: bytes) -> Any:
        async def handler(seen: Seen) -> None:
            seen.writer.write(data)
            await seen.writer.drain()

        return handler

    for data, kind in (
        (answer(200, b"x" * 100)[:-1], e.Truncated),
        (CHUNKED + chunk(b"abc"), e.Truncated),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", e.BadFrame),
        (answer(200, b"not gzip", content_encoding="gzip"), e.Truncated),
        (b"HTTP/1.1 200 OK\r\ncontent-len", e.Reset),
        (b"", e.Reset),
    ):
        async with Server(saying(data)) as server, connect(server) as transport:
            with pytest.raises(kind) as caught:
                await transport.request(DELETE)
            assert type(caught.value) is kind
            assert caught.value.sent


async def test_res9_a_redirect_is_an_answer_not_a_journey() -> None:
    async def handler(_: Seen) -> bytes:
        return answer(302, location="http://127.0.0.1:1/")

    async with Server(handler) as server, connect(server) as transport:
        assert (await transport.request(GET)).status == 302


async def test_res3_a_refused_connection_has_sent_nothing() -> None:
    async with Server(ok) as server:
        url = server.url()
    async with HttpTransport(ClusterConfig(url), clock=SystemClock(), env={}) as transport:
        with pytest.raises(e.Refused, match="no connection") as caught:
            await transport.request(DELETE)
        assert not caught.value.sent
    with pytest.raises(e.Reset, match="closed"):
        await transport.request(GET)


@pytest.mark.parametrize("host", ["", "127.0.0.1:6443", "ftp://x", "https://"])
def test_a_host_that_is_no_url_is_a_config_error(host: str) -> None:
    with pytest.raises(ConfigError, match="https://HOST:PORT"):
        HttpTransport(ClusterConfig(host), clock=SystemClock(), env={})


async def test_met1_name_look_ups_are_measured() -> None:
    metrics = Metrics(clients=True, process=False)
    async with Server(ok) as server:
        config = ClusterConfig(server.url("localhost"))
        async with HttpTransport(config, clock=SystemClock(), env={}, metrics=metrics) as transport:
            await transport.request(GET)
        labels = {"host": f"localhost:{server.port}"}
        name = "rest_client_dns_resolution_duration_seconds_count"
        assert metrics.registry.get_sample_value(name, labels) == 1


# --- 401 ---------------------------------------------------------------------------------------------------------


class Renewable:
    def __init__(self, *tokens: str, delay: float = 0.0) -> None:
        self.tokens = list(tokens)
        self.refreshed = 0
        self.delay = delay
        self.lock = asyncio.Lock()
        self.broken = False

    async def headers(self) -> dict[str, str]:
        if self.broken:
            raise ConfigError("the plugin is gone")
        return {"authorization": f"Bearer {self.tokens[0]}"}

    async def refresh(self) -> bool:
        seen = self.tokens[0]
        async with self.lock:
            if self.tokens[0] == seen:
                self.refreshed += 1
                await asyncio.sleep(self.delay)
                if len(self.tokens) > 1:
                    self.tokens.pop(0)
        return True


def needs(token: str) -> Any:
    async def handler(seen: Seen) -> bytes:
        return answer(200 if seen.headers.get("authorization") == f"Bearer {token}" else 401)

    return handler


async def test_aut3_a_401_renews_the_credential_and_retries_once() -> None:
    credentials = Renewable("old", "new")
    async with Server(needs("new")) as server, connect(server, credentials=credentials) as transport:
        assert (await transport.request(DELETE)).status == 200
        assert [s.body for s in server.seen] == [DELETE.body] * 2
        assert credentials.refreshed == 1


async def test_aut3_a_second_401_is_the_answer() -> None:
    credentials = Renewable("old")
    async with Server(needs("other")) as server, connect(server, credentials=credentials) as transport:
        assert (await transport.request(GET)).status == 401
        async with await transport.stream(WATCH) as stream:
            assert stream.status == 401
        assert len(server.seen) == 4
        assert credentials.refreshed == 2


async def test_aut3_a_static_credential_is_not_tried_twice() -> None:
    async with Server(needs("other")) as server, connect(server, credentials=StaticCredentials("x")) as transport:
        assert (await transport.request(GET)).status == 401
        assert len(server.seen) == 1


async def test_aut3_fifty_refusals_renew_once() -> None:
    credentials = Renewable("old", "new", "never", delay=0.02)
    async with Server(needs("new")) as server, connect(server, credentials=credentials) as transport:
        answers = await asyncio.gather(*(transport.request(GET) for _ in range(50)))
        assert {a.status for a in answers} == {200}
        assert credentials.refreshed == 1


async def test_aut3_a_watch_is_opened_again_too() -> None:
    async with Server(needs("new")) as server, connect(server, credentials=Renewable("old", "new")) as transport:
        async with await transport.stream(WATCH) as stream:
            assert stream.status == 200
        assert len(server.seen) == 2


async def test_aut3_without_a_credential_nothing_is_sent() -> None:
    credentials = Renewable("old")
    credentials.broken = True
    async with Server(ok) as server, connect(server, credentials=credentials) as transport:
        with pytest.raises(e.Refused, match="the plugin is gone") as caught:
            await transport.request(DELETE)
        assert not caught.value.sent
        assert server.seen == []


# --- streams -----------------------------------------------------------------------------------------------------


LINES = [b'{"type":"ADDED","object":{"a":"\xc3\xa4"}}', b'{"type":"BOOKMARK"}', b'{"type":"DELETED"}']
WIRE = b"".join(line + b"\n" for line in LINES)


async def read_all_lines(transport: HttpTransport) -> list[bytes]:
    lines = []
    async with await transport.stream(WATCH) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "application/json"
        while line := await stream.read_line():
            lines.append(line)
        assert await stream.read_line() == b""
    return lines


async def test_tra8_lines_may_be_cut_at_any_byte() -> None:
    async def handler(seen: Seen) -> bytes:
        seen.writer.write(CHUNKED)
        for part in (WIRE[: cut[0]], WIRE[cut[0] :]):
            if part:
                seen.writer.write(chunk(part))
                await seen.writer.drain()
                await asyncio.sleep(0)
        return b"0\r\n\r\n"

    cut = [0]
    async with Server(handler) as server, connect(server) as transport:
        for cut[0] in range(len(WIRE) + 1):
            assert await read_all_lines(transport) == LINES
    async with (
        Server(streaming(*(chunk(WIRE[i : i + 1]) for i in range(len(WIRE))))) as server,
        connect(server) as transport,
    ):
        assert await read_all_lines(transport) == LINES


@pytest.mark.parametrize("size", [3 << 20, 20 << 20])
async def test_tra8_a_line_may_be_long(size: int) -> None:
    long = json.dumps({"x": "y" * size}).encode()
    parts = [chunk(long[i : i + (1 << 18)]) for i in range(0, len(long), 1 << 18)]

    async def handler(seen: Seen) -> bytes:
        seen.writer.write(CHUNKED)
        for part in [*parts, chunk(b"\n" + LINES[1] + b"\n")]:
            seen.writer.write(part)
            await seen.writer.drain()
        return b"0\r\n\r\n"

    async with Server(handler) as server, connect(server) as transport:
        assert await read_all_lines(transport) == [long, LINES[1]]


async def test_tra8_a_line_over_the_limit_is_a_bad_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    assert http.MAX_LINE == 64 << 20
    monkeypatch.setattr(http, "MAX_LINE", 1 << 20)
    async with (
        Server(streaming(chunk(b"x" * (1 << 20)), chunk(b"y\n"))) as server,
        connect(server) as transport,
        await transport.stream(WATCH) as stream,
    ):
        with pytest.raises(e.BadFrame):
            await stream.read_line()


@pytest.mark.parametrize(
    ("parts", "end", "kind"),
    [
        ([chunk(WIRE), chunk(b'{"type"')], True, e.Truncated),
        ([chunk(WIRE), chunk(b"\n")], True, e.BadFrame),
        ([chunk(WIRE)], False, e.Truncated),
        ([chunk(WIRE), b"ff\r\nabc"], False, e.Truncated),
    ],
)
async def test_tra8_a_clean_end_differs_from_a_broken_one(parts: list[bytes], end: bool, kind: type[Exception]) -> None:
    async with Server(streaming(*parts, end=end)) as server, connect(server) as transport:
        with pytest.raises(e.TransportError) as caught:
            await read_all_lines(transport)
        assert type(caught.value) is kind
    async with Server(streaming(chunk(WIRE))) as server, connect(server) as transport:
        assert await read_all_lines(transport) == LINES


async def test_fra8_buffered_tells_whole_lines_only() -> None:
    go = asyncio.Event()

    async def handler(seen: Seen) -> bytes:
        seen.writer.write(CHUNKED + chunk(WIRE + b'{"type":'))
        await seen.writer.drain()
        await go.wait()
        return chunk(b'"X"}\n') + b"0\r\n\r\n"

    async with Server(handler) as server, connect(server) as transport, await transport.stream(WATCH) as stream:
        assert await stream.read_line() == LINES[0]
        assert stream.buffered()
        assert await stream.read_line() == LINES[1]
        assert stream.buffered()
        assert await stream.read_line() == LINES[2]
        assert not stream.buffered()
        go.set()
        assert await stream.read_line() == b'{"type":"X"}'
        assert await stream.read_line() == b""
        assert not stream.buffered()


async def test_res9_the_body_of_an_error_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(_: Seen) -> bytes:
        return answer(410, b'{"kind":"Status"}' + b" " * 1000)

    async with Server(handler) as server, connect(server) as transport:
        async with await transport.stream(WATCH) as stream:
            assert (stream.status, (await stream.read_all()).strip()) == (410, b'{"kind":"Status"}')
        monkeypatch.setattr(http, "MAX_ERROR_BODY", 10)
        async with await transport.stream(WATCH) as stream:
            assert await stream.read_all() == b'{"kind":"S'


async def test_tra1_closing_ends_open_streams_and_leaves_no_socket() -> None:
    async def handler(seen: Seen) -> bytes:
        seen.writer.write(CHUNKED + chunk(WIRE))
        await seen.writer.drain()
        await asyncio.Event().wait()
        return b""

    async with Server(handler) as server:
        transport = connect(server)
        async with await transport.stream(WATCH) as stream:
            assert await stream.read_line() == LINES[0]
            await transport.close()
            assert [await stream.read_line(), await stream.read_line()] == LINES[1:]
            with pytest.raises(e.Reset):
                await stream.read_line()
        await transport.close()
