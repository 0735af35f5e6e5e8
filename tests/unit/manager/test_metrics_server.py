"""The metrics endpoint, plain and secure, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.certs import self_signed
from kruise.runtime.manager.http import Call, Reply
from kruise.runtime.manager.metrics_server import MetricsOptions, MetricsServer
from kruise.runtime.metrics import Metrics
from tests.unit.manager.test_authz import TOKEN, Reviews

CLOCK = SystemClock()


def make(options: MetricsOptions, metrics: Metrics | None = None) -> tuple[Reviews, MetricsServer]:
    api = Reviews(CLOCK)
    metrics = metrics or Metrics()
    rest = Rest(api, clock=CLOCK, rng=Random(1), metrics=metrics)
    return api, MetricsServer(metrics, options, rest, clock=CLOCK, rng=Random(1))


@contextlib.asynccontextmanager
async def serving(served: MetricsServer, scheme: str = "http") -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    assert served.server is not None
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
        task = group.create_task(served.server.run())
        await served.server.ready()
        yield f"{scheme}://{served.server.bound}", session
        task.cancel()


async def test_met5_plain_metrics_with_content_type() -> None:
    metrics = Metrics()
    metrics.reconcile_total.labels("broadcastjob-controller", "success").inc()
    _, served = make(MetricsOptions("127.0.0.1:0"), metrics)
    async with serving(served) as (base, session), session.get(f"{base}/metrics") as answer:
        text = await answer.text()
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'controller_runtime_reconcile_total{controller="broadcastjob-controller",result="success"} 1.0\n' in text
    assert "python_info" in text and "_created" not in text


async def test_met2_a_source_that_fails_is_logged_once_and_the_scrape_goes_on() -> None:
    metrics = Metrics(process=False)
    metrics.queue_depth.add(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    _, served = make(MetricsOptions("127.0.0.1:0"), metrics)
    with capture_logs() as logs:
        async with serving(served) as (base, session):
            for _ in range(3):
                async with session.get(f"{base}/metrics") as answer:
                    assert answer.status == 200
    assert [one["metric"] for one in logs if one["log_level"] == "error"] == ["workqueue_depth"]


async def test_met7_extra_handlers_before_and_while_it_runs() -> None:
    _, served = make(MetricsOptions("127.0.0.1:0"))

    async def extra(_call: Call) -> Reply:
        return Reply.text("extra")

    served.handle("/before", extra)
    async with serving(served) as (base, session):
        served.handle("/while", extra)
        for path in ("/before", "/while"):
            async with session.get(base + path) as answer:
                assert await answer.text() == "extra\n"
    with pytest.raises(ConfigError, match="taken"):
        served.handle("/metrics", extra)


async def test_met5_zero_turns_it_off() -> None:
    _, served = make(MetricsOptions("0", secure=True))
    assert served.server is None and served.certificate is None


def test_met5_the_default_is_port_8080_on_all_interfaces() -> None:
    assert MetricsOptions().address == ":8080" and not MetricsOptions().secure


def test_met5_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="--metrics-cert-path=/x: has no effect without --metrics-secure"):
        MetricsOptions(cert_path="/x")
    with pytest.raises(ConfigError, match="--metrics-addr=nowhere"):
        MetricsOptions("nowhere")


async def test_met5_met6_secure_metrics_are_for_who_may_read_them() -> None:
    api, served = make(MetricsOptions("127.0.0.1:0", secure=True))

    async def extra(_call: Call) -> Reply:
        return Reply.text("extra")

    served.handle("/extra", extra)
    async with serving(served, "https") as (base, session):

        async def get(path: str, token: str = "") -> int:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            async with session.get(base + path, headers=headers, ssl=False) as answer:
                return answer.status

        assert await get("/metrics") == 401, "there is no exception for loopback"
        assert await get("/extra") == 401
        assert await get("/metrics", "wrong") == 401
        assert await get("/metrics", TOKEN) == 200
        api.allowed = False
        assert await get("/extra", TOKEN) == 403
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://{served.server.bound}/metrics")  # type: ignore[union-attr]


async def test_met5_crt1_a_given_certificate_is_served(tmp_path: Path) -> None:
    pair = self_signed(["localhost"], now=CLOCK.now())
    (tmp_path / "tls.crt").write_bytes(pair.certificate)
    (tmp_path / "tls.key").write_bytes(pair.key)
    _, served = make(MetricsOptions("localhost:0", secure=True, cert_path=str(tmp_path)))
    trusting = ssl.create_default_context(cadata=pair.certificate.decode())
    async with serving(served, "https") as (base, session):
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with session.get(f"{base}/metrics", headers=headers, ssl=trusting) as answer:
            text = await answer.text()
    assert "certwatcher_read_certificate_total 1.0" in text
    assert served.certificate is not None and served.certificate.check() is None
