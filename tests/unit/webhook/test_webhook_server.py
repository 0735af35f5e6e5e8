"""The webhook server over real TLS connections on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from kruise.runtime import log
from kruise.runtime.clock import SystemClock
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.certs import Pair, ServingCertificate, self_signed
from kruise.runtime.manager.http import Address, Call, Limits
from kruise.runtime.metrics import Metrics
from kruise.runtime.webhook.admission import AdmissionRequest, Answer, NotReady, Outcome, allow, deny, patch
from kruise.runtime.webhook.conversion import Conversions
from kruise.runtime.webhook.server import DEFAULT_LIMITS, WebhookServer, timeout_of
from tests.unit.client.certs import authority, leaf
from tests.unit.webhook.reviews import response, review

HOST = "webhook.example"
PAIR = self_signed([HOST], now=SystemClock().now())
ANYWHERE = Address("127.0.0.1", 0)
POD = {"spec": {"containers": [{"name": "app"}]}}


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection, as an API server holds it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, server: WebhookServer, pair: Pair = PAIR, context: ssl.SSLContext | None = None) -> Client:
        assert server.bound is not None
        context = context or ssl.create_default_context(cadata=pair.certificate.decode())
        return cls(*await asyncio.open_connection("127.0.0.1", server.bound.port, ssl=context, server_hostname=HOST))

    def head(self, path: str, length: int, method: str = "POST", content_type: str = "application/json") -> bytes:
        return (
            f"{method} {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: {content_type}\r\n"
            f"content-length: {length}\r\n\r\n"
        ).encode()

    async def ask(self, path: str, body: bytes = b"", **more: str) -> Got:
        self.writer.write(self.head(path, len(body), **more) + body)
        return await self.answer()

    async def answer(self) -> Got:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return Got(int(lines[0].split()[1]), headers, body)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def make(
    metrics: Metrics | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    client_ca: str = "",
    names: tuple[str, ...] = (),
    address: Address = ANYWHERE,
) -> WebhookServer:
    found = metrics or Metrics(process=False)

    async def certificate() -> ServingCertificate:
        return ServingCertificate(
            "webhooks", lambda: PAIR, tuple, clock=SystemClock(), metrics=found, renews=False, client_ca=client_ca
        )

    return WebhookServer(
        address,
        certificate,
        clock=SystemClock(),
        metrics=found,
        limits=limits,
        client_names=names,
    )


@contextlib.asynccontextmanager
async def serving(server: WebhookServer) -> AsyncIterator[WebhookServer]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.ready()
        try:
            yield server
        finally:
            task.cancel()
    for _ in range(5):  # a handler whose client has gone ends in the next turns of the loop
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def connected(server: WebhookServer, **more: Any) -> AsyncIterator[Client]:
    async with serving(server):
        client = await Client.open(server, **more)
        try:
            yield client
        finally:
            await client.close()


def label(_: AdmissionRequest) -> Answer:
    return patch([{"op": "add", "path": "/labels", "value": {"a": "b"}}])


def as_outcome(got: Got) -> Outcome:
    return Outcome(got.status, got.body)


async def test_web1_reviews_are_answered_over_one_tls_connection() -> None:
    server = make()
    server.admission("/mutate", label)
    server.admission("/validate", lambda _: deny("no"))
    async with connected(server) as client:
        tls = client.writer.get_extra_info("ssl_object")
        assert tls.version() in ("TLSv1.2", "TLSv1.3")
        for number in range(3):
            got = await client.ask("/mutate?timeout=5s", review(POD, uid=f"u{number}"))
            assert got.headers["content-type"] == "application/json"
            assert response(as_outcome(got))["uid"] == f"u{number}"
        assert not response(as_outcome(await client.ask("/validate", review(POD))))["allowed"]


async def test_web1_http2_is_never_spoken() -> None:
    context = ssl.create_default_context(cadata=PAIR.certificate.decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    server = make()
    async with connected(server, context=context) as client:
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def test_web1_old_tls_is_refused() -> None:
    context = ssl.create_default_context(cadata=PAIR.certificate.decode())
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = make()
    async with serving(server):
        with pytest.raises(ssl.SSLError):
            await Client.open(server, context=context)


async def test_web1_a_client_must_show_the_name_that_is_asked_for() -> None:
    ca, other = authority("clients"), authority("others")
    server = make(client_ca=ca.cert_pem.decode(), names=("apiserver",))
    server.admission("/mutate", label)

    def context(pair: Any, folder: Any) -> ssl.SSLContext:
        made = ssl.create_default_context(cadata=PAIR.certificate.decode())
        if pair is not None:
            (folder / "c.pem").write_bytes(pair.cert_pem + pair.key_pem)
            made.load_cert_chain(folder / "c.pem")
        return made

    async def status(pair: Any) -> int:
        with tempfile.TemporaryDirectory() as folder:
            client = await Client.open(server, context=context(pair, Path(folder)))
        try:
            return (await client.ask("/mutate", review(POD))).status
        finally:
            await client.close()

    async with serving(server):
        assert await status(leaf(ca, "apiserver")) == 200
        assert await status(leaf(ca, "somebody")) == 403
        assert await status(None) == 403
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await status(leaf(other, "apiserver"))


@pytest.mark.parametrize(
    ("path", "more", "body", "status"),
    [
        ("/mutate", {"method": "GET"}, b"", 405),
        ("/mutate", {"content_type": "text/plain"}, review(POD), 415),
        ("/mutate", {"content_type": "application/vnd.kubernetes.protobuf"}, review(POD), 415),
        ("/mutate", {"content_type": "application/json; charset=utf-8"}, review(POD), 200),
        ("/mutate", {}, b"{", 400),
        ("/mutate", {}, b"", 400),
        ("/elsewhere", {}, review(POD), 404),
        ("/healthz", {"method": "GET"}, b"", 200),
    ],
)
async def test_web2_what_is_no_review_gets_a_clean_answer(
    path: str, more: dict[str, str], body: bytes, status: int
) -> None:
    server = make()
    server.admission("/mutate", label)
    async with connected(server) as client:
        assert (await client.ask(path, body, **more)).status == status
        assert (await client.ask("/mutate", review(POD))).status == 200, "the connection lives on"


async def test_web2_web10_a_body_that_is_too_long_is_not_read() -> None:
    server = make(limits=Limits(body_bytes=1000))
    server.admission("/mutate", label)
    async with connected(server) as client:
        client.writer.write(client.head("/mutate", 1001))
        assert (await client.answer()).status == 413
        assert await client.reader.read() == b"", "what is left of it is not taken for a request"
    assert DEFAULT_LIMITS.body_bytes == 7 << 20


async def test_web2_an_exception_is_http_500_and_is_counted_and_told_without_values() -> None:
    def broken(one: AdmissionRequest) -> Answer:
        raise KeyError(one.parsed()["env"])

    metrics = Metrics(process=False)
    server = make(metrics)
    server.admission("/mutate", broken)
    out = io.StringIO()
    log.configure(form="json", stream=out)
    async with connected(server) as client:
        got = await client.ask("/mutate", review({"env": "hunter2"}, uid="u-9", name="web-0"))
    assert got.status == 500
    assert b"hunter2" not in got.body
    line = next(one for one in map(orjson.loads, out.getvalue().splitlines()) if one["level"] == "error")
    assert line["requestID"] == "u-9"
    assert line["Web"] == {"name": "web-0", "namespace": "shop"}
    assert line["error"] == "KeyError"
    assert "broken" in line["at"][-1]
    assert "hunter2" not in out.getvalue()
    text = metrics.render()
    assert b"controller_runtime_webhook_panics_total 1.0" in text
    assert b'controller_runtime_webhook_requests_total{code="500",webhook="/mutate"} 1.0' in text


async def test_log2_log4_a_line_of_a_handler_names_the_request_and_no_line_has_the_object() -> None:
    def tell(one: AdmissionRequest) -> Answer:
        log.get_logger("mine").info("hello")
        return deny("no")

    server = make()
    server.admission("/mutate", tell)
    out = io.StringIO()
    log.configure(form="json", level="debug", stream=out)
    async with connected(server) as client:
        await client.ask("/mutate", review({"env": "hunter2"}, uid="u-9"))
    lines = [orjson.loads(one) for one in out.getvalue().splitlines()]
    mine = next(one for one in lines if one["event"] == "hello")
    assert (mine["requestID"], mine["Web"]["namespace"]) == ("u-9", "shop")
    assert "hunter2" not in out.getvalue()


async def test_web3_a_decision_that_is_late_is_http_503() -> None:
    cancelled = asyncio.Event()

    async def slow(_: AdmissionRequest) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return deny("never")

    server = make()
    server.admission("/slow", slow)
    async with connected(server) as client:
        got = await client.ask("/slow?timeout=50ms", review(POD))
        assert (got.status, got.body) == (503, b"there was no decision in time\n")
        assert cancelled.is_set()


async def test_web3_a_timeout_inside_a_handler_is_a_fault_and_not_the_deadline() -> None:
    async def slow(_: AdmissionRequest) -> Answer:
        raise TimeoutError

    server = make()
    server.admission("/slow", slow)
    async with connected(server) as client:
        assert (await client.ask("/slow", review(POD))).status == 500


class Late(SystemClock):
    """A clock that jumps when it is told to."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


async def test_web3_a_handler_that_computes_for_too_long_is_late_as_well() -> None:
    server = make()
    clock = Late()
    server._clock = clock

    def slow(_: AdmissionRequest) -> Answer:
        clock.ahead += 4.6
        return allow()

    server.admission("/slow", slow)
    async with connected(server) as client:
        assert (await client.ask("/slow?timeout=5s", review(POD))).status == 503
        assert (await client.ask("/slow?timeout=6s", review(POD))).status == 200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("1m0s", 30.0), ("1.5s", 1.5), ("300ms", 0.3), ("", 10.0), ("soon", 10.0), ("-5s", 10.0)],
)
def test_web3_the_deadline_is_what_the_api_server_says(text: str, seconds: float) -> None:
    assert timeout_of(Call("POST", "/x", {"timeout": (text,)} if text else {})) == seconds


async def test_web10_web2_overload_is_http_503_at_once_and_refuses_nobody() -> None:
    go = asyncio.Event()

    async def wait(_: AdmissionRequest) -> Answer:
        await go.wait()
        return allow()

    metrics = Metrics(process=False)
    server = make(metrics, limits=Limits(body_bytes=7 << 20, concurrent=2, drain=5.0))
    server.admission("/mutate", wait)
    async with serving(server):
        clients = [await Client.open(server) for _ in range(3)]
        for client in clients[:2]:
            client.writer.write(client.head("/mutate", len(review(POD))) + review(POD))
        in_flight = metrics.webhook_in_flight.labels("/mutate")
        while in_flight._value.get() < 2:
            await asyncio.sleep(0)
        got = await clients[2].ask("/mutate", review(POD))
        assert (got.status, got.body) == (503, b"too many requests at once\n")
        go.set()
        assert [(await client.answer()).status for client in clients[:2]] == [200, 200]
        for client in clients:
            await client.close()


async def test_web10_bytes_are_bounded_as_well() -> None:
    server = make(limits=Limits(body_bytes=1000, buffered_bytes=1500))
    server.admission("/mutate", label)
    async with serving(server):
        first, second = await Client.open(server), await Client.open(server)
        first.writer.write(first.head("/mutate", 1000) + b" " * 999)
        second.writer.write(second.head("/mutate", 1000) + b" " * 999)
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(client.answer()) for client in (first, second)]
            done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            assert [one.result().status for one in done] == [503]
            for client in (first, second):
                client.writer.write(b" ")
        await first.close()
        await second.close()
        third = await Client.open(server)
        assert (await third.ask("/mutate", review(POD))).status == 200, "what was held is free again"
        await third.close()


async def test_web10_a_slow_client_delays_nobody() -> None:
    server = make(limits=Limits(body_bytes=1 << 20, body_seconds=0.05))
    server.admission("/mutate", label)
    async with connected(server) as slow:
        slow.writer.write(slow.head("/mutate", 1000) + b"{")
        other = await Client.open(server)
        assert (await other.ask("/mutate", review(POD))).status == 200
        assert (await slow.answer()).status == 408
        assert await slow.reader.read() == b""
        await other.close()


async def test_web10_metrics_have_their_codes_from_the_start() -> None:
    metrics = Metrics(process=False)
    make(metrics).admission("/mutate", label)
    text = metrics.render()
    for code in (b"200", b"500"):
        assert b'controller_runtime_webhook_requests_total{code="%s",webhook="/mutate"} 0.0' % code in text
    assert b'controller_runtime_webhook_requests_in_flight{webhook="/mutate"} 0.0' in text
    assert b'controller_runtime_webhook_latency_seconds_count{webhook="/mutate"} 0.0' in text


async def test_web6_conversions_are_served_and_their_faults_counted() -> None:
    def broken(_: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("hunter2")

    conversions = Conversions()
    conversions.hub("example.com", "Web", "v2")
    conversions.spoke("example.com", "Web", "v1", to_hub=broken, from_hub=lambda obj: obj)
    metrics = Metrics(process=False)
    server = make(metrics)
    server.conversion(conversions)

    def ask(version: str, wanted: str) -> bytes:
        obj = {"apiVersion": f"example.com/{version}", "kind": "Web", "metadata": {"name": "a"}}
        request = {"uid": "1", "desiredAPIVersion": f"example.com/{wanted}", "objects": [obj]}
        return orjson.dumps({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request})

    async with connected(server) as client:
        good = orjson.loads((await client.ask("/convert", ask("v2", "v1"))).body)["response"]
        assert good["convertedObjects"][0]["apiVersion"] == "example.com/v1"
        bad = await client.ask("/convert", ask("v1", "v2"))
        assert bad.status == 200
        assert orjson.loads(bad.body)["response"]["result"] == {"status": "Failure", "message": "Web a: RuntimeError"}
    assert b"controller_runtime_conversion_webhook_panics_total 1.0" in metrics.render()


async def test_web8_a_stop_closes_the_port_and_finishes_what_is_under_way() -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def wait(_: AdmissionRequest) -> Answer:
        began.set()
        await go.wait()
        return allow()

    server = make()
    server.admission("/mutate", wait)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.ready()
        client, idle = await Client.open(server), await Client.open(server)
        bound = server.bound
        assert bound is not None
        client.writer.write(client.head("/mutate", len(review(POD))) + review(POD))
        await began.wait()
        server.stop()
        assert await idle.reader.read() == b"", "an idle connection is closed"
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", bound.port)
        assert not task.done()
        go.set()
        assert (await client.answer()).status == 200
        await task
        await client.close()
        await idle.close()


async def test_web8_a_stop_before_there_is_a_certificate_ends_it() -> None:
    async def never() -> ServingCertificate:
        await asyncio.Event().wait()
        raise AssertionError

    server = WebhookServer(Address("127.0.0.1", 0), never, clock=SystemClock(), metrics=Metrics(process=False))
    server.stop()
    await server.run()


async def test_web8_a_rolling_restart_under_load_loses_no_admission() -> None:
    """An API server that meets a closed connection goes on at the other replica; no answer is ever a refusal."""
    replicas = [make(), make()]
    for server in replicas:
        server.admission("/mutate", label)
    answered: list[int] = []
    stopped = asyncio.Event()

    async def caller(group_of: list[WebhookServer]) -> None:
        while not stopped.is_set():
            for server in list(group_of):
                try:
                    client = await Client.open(server)
                except (OSError, AssertionError):
                    continue
                with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                    for _ in range(5):
                        answered.append((await client.ask("/mutate", review(POD))).status)
                await client.close()

    async with asyncio.TaskGroup() as group:
        first = group.create_task(replicas[0].run())
        second = group.create_task(replicas[1].run())
        for server in replicas:
            await server.ready()
        callers = [group.create_task(caller(replicas)) for _ in range(3)]
        while len(answered) < 30:
            await asyncio.sleep(0)
        fresh = make()
        fresh.admission("/mutate", label)
        third = group.create_task(fresh.run())
        await fresh.ready()
        replicas.append(fresh)
        old = replicas.pop(0)
        old.stop()
        await first
        seen = len(answered)
        while len(answered) < seen + 30:
            await asyncio.sleep(0)
        stopped.set()
        await asyncio.wait(callers)
        second.cancel()
        third.cancel()
    assert set(answered) == {200}


async def test_a_port_that_is_taken_names_its_flag() -> None:
    first = make()
    async with serving(first):
        assert first.bound is not None
        second = make(address=first.bound)
        with pytest.raises(ConfigError, match="--webhook-port"):
            await second.run()


@pytest.mark.parametrize("path", ["mutate", "/healthz", "/taken"])
def test_a_path_is_declared_once(path: str) -> None:
    server = make()
    server.admission("/taken", label)
    with pytest.raises(ConfigError):
        server.admission(path, label)
    assert server.paths() == ("/taken",)


CALLS: list[tuple[str, bytes, dict[str, str]]] = [
    ("/mutate?timeout=5s", review(POD), {}),
    ("/validate", review(POD), {}),
    ("/raises", review(POD), {}),
    ("/waits", review(POD), {}),
    ("/nowhere", review(POD), {}),
    ("/mutate", b"", {"method": "GET"}),
    ("/mutate", review(POD), {"content_type": "text/plain"}),
    ("/mutate", b"{", {}),
    ("/mutate", b"x" * 4097, {}),
    ("/convert", b"{}", {}),
    ("/healthz", b"", {"method": "GET"}),
]


def raises(_: AdmissionRequest) -> Answer:
    raise ValueError("ours")


def waits(_: AdmissionRequest) -> Answer:
    raise NotReady("the caches are not complete")


@pytest.mark.parametrize(("path", "body", "more"), CALLS)
async def test_web2_without_a_socket_the_answer_is_the_same(path: str, body: bytes, more: dict[str, str]) -> None:
    server = make(limits=Limits(body_bytes=4096))
    server.admission("/mutate", label)
    server.admission("/validate", lambda _: deny("no"))
    server.admission("/raises", raises)
    server.admission("/waits", waits)
    server.conversion(Conversions())
    plain, _, query = path.partition("?")
    call = Call(
        more.get("method", "POST"),
        plain,
        {"timeout": (query.partition("=")[2],)} if query else {},
        {"content-type": more.get("content_type", "application/json")},
        body,
    )
    before = await server.answer(call)
    async with connected(server) as client:
        got = await client.ask(path, body, **more)
        during = await server.answer(call)
    after = await server.answer(call)
    for reply in (before, during, after):
        assert (reply.status, reply.body) == (got.status, got.body)
        assert reply.content_type == got.headers["content-type"]


async def test_web10_without_a_socket_requests_are_bounded_as_well() -> None:
    server = make(limits=Limits(body_bytes=4096, buffered_bytes=5000, concurrent=3))
    go = asyncio.Event()

    async def slow(_: AdmissionRequest) -> Answer:
        await go.wait()
        return allow()

    server.admission("/slow", slow)
    body = review(POD)
    call = Call("POST", "/slow", headers={"content-type": "application/json"}, body=body + b" " * (2000 - len(body)))
    async with asyncio.TaskGroup() as group:
        first = [group.create_task(server.answer(call)) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await server.answer(call)).body == b"too many bytes at once\n"
        third = group.create_task(server.answer(Call("POST", "/slow", headers=call.headers, body=body)))
        await asyncio.sleep(0)
        assert (await server.answer(call)).body == b"too many requests at once\n"
        go.set()
    assert [task.result().status for task in (*first, third)] == [200, 200, 200]
    assert (await server.answer(call)).status == 200


async def test_web2_a_handler_that_is_not_ready_is_answered_503_and_counts_as_no_panic() -> None:
    metrics = Metrics(process=False)
    server = make(metrics)
    server.admission("/waits", waits)
    reply = await server.answer(Call("POST", "/waits", headers={"content-type": "application/json"}, body=review(POD)))
    assert (reply.status, reply.body) == (503, b"the caches are not complete\n")
    assert b"controller_runtime_webhook_panics_total 0.0" in metrics.render()
