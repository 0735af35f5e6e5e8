"""Readiness of the webhooks: a real call, verified with what the live configurations trust; and a manager of it all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.manager.certs import ServingCertificate
from kruise.runtime.manager.http import Address
from kruise.runtime.manager.manager import Manager, ManagerOptions
from kruise.runtime.manager.metrics_server import MetricsOptions
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock
from kruise.runtime.webhook.admission import allow
from kruise.runtime.webhook.certs import CertificateRules, Keyring, successor
from kruise.runtime.webhook.dial import PATIENCE, REFRESH, Dialer
from kruise.runtime.webhook.keeper import CertificateKeeper
from kruise.runtime.webhook.server import WebhookServer
from kruise.runtime.webhook.stores import SecretStore
from kruise.runtime.webhook.targets import Reach, Targets
from tests.unit.webhook.reviews import response, review
from tests.unit.webhook.test_webhook_server import Client, as_outcome
from tests.unit.webhook.webhook_world import HOST, NAMESPACE, SECRET, TARGETS, World

NAME = "webhook.example"
RULES = CertificateRules((NAME, HOST))


def ring() -> Keyring:
    return successor(None, RULES, now=SystemClock().now(), published=False)[0]


@asynccontextmanager
async def listening(found: Keyring) -> AsyncIterator[WebhookServer]:
    metrics = Metrics(process=False)

    async def certificate() -> ServingCertificate:
        return ServingCertificate(
            "webhooks", lambda: found.leaf, tuple, clock=SystemClock(), metrics=metrics, renews=False
        )

    server = WebhookServer(Address("127.0.0.1", 0), certificate, clock=SystemClock(), metrics=metrics)
    assert server.check() == "the webhooks do not listen"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        await server.ready()
        assert server.check() is None
        try:
            yield server
        finally:
            task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_web7_hea2_it_is_ready_when_every_live_bundle_verifies_an_answer() -> None:
    mine, other = ring(), ring()
    bundles = [mine.pem]
    async with listening(mine) as server:
        dialer = Dialer(lambda: server.bound, lambda: bundles, NAME, clock=SystemClock())
        assert dialer.check() == "it has not been tried yet"
        assert await dialer.dial() is None
        assert dialer.check() is None
        bundles[:] = [other.pem + mine.pem]
        assert await dialer.dial() is None
        bundles[:] = [mine.pem, other.pem]
        assert "does not trust the certificate that is served" in (await dialer.dial() or "")
        assert dialer.check() is not None
        for bundles[:] in ([b"\n"], [b"\xff"], []):
            assert await dialer.dial() is not None
        bundles[:] = [mine.pem]
        assert await dialer.dial() is None


async def test_web7_another_name_is_not_verified() -> None:
    mine = ring()
    async with listening(mine) as server:
        dialer = Dialer(lambda: server.bound, lambda: [mine.pem], "another.example", clock=SystemClock())
        assert "does not trust" in (await dialer.dial() or "")


async def test_web7_who_does_not_listen_is_not_ready() -> None:
    pem = ring().pem
    nobody = Dialer(lambda: None, lambda: [pem], NAME, clock=SystemClock())
    assert await nobody.dial() == "the webhooks do not listen"
    closed = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    gone = Dialer(lambda: Address("", port), lambda: [pem], NAME, clock=SystemClock())
    assert "cannot be reached" in (await gone.dial() or "")


async def test_web7_a_bundle_without_authorities_leaves_it_to_the_system() -> None:
    async with listening(ring()) as server:
        dialer = Dialer(lambda: server.bound, lambda: [b""], NAME, clock=SystemClock())
        assert "does not trust the certificate that is served" in (await dialer.dial() or "")


async def test_web7_any_certificate_of_a_bundle_is_an_anchor() -> None:
    mine = ring()
    async with listening(mine) as server:
        dialer = Dialer(lambda: server.bound, lambda: [mine.leaf.certificate], NAME, clock=SystemClock())
        assert await dialer.dial() is None


async def test_web7_before_a_problem_is_told_the_bundles_are_read_again() -> None:
    mine, other = ring(), ring()
    clock = VirtualClockAt(100.0)
    stored, known, reads = [mine.pem], [b""], []

    async def refresh() -> None:
        reads.append(clock.at)
        known[:] = stored

    async with listening(mine) as server:
        dialer = Dialer(lambda: server.bound, lambda: known, NAME, clock=clock, refresh=refresh)
        assert await dialer.dial() is None
        known[:] = [other.pem]  # as if it had been replaced since
        clock.at += 10.0
        assert await dialer.dial() is None
        stored[:] = [other.pem]
        clock.at += REFRESH - 1.0
        assert await dialer.dial() is None, "nobody looked"
        clock.at += 1.0
        assert "does not trust" in (await dialer.dial() or "")
        assert reads == [100.0, 110.0, 170.0], "once for each try at most"
        stored[:] = [mine.pem]
        clock.at += 1.0
        assert await dialer.dial() is None
        assert reads[3:] == [171.0]


def test_web7_hea3_an_old_result_is_none() -> None:
    clock = VirtualClockAt(100.0)
    dialer = Dialer(lambda: None, list, NAME, clock=clock, every=10.0)
    dialer._problem = None
    assert dialer.check() is None
    clock.at += 3 * (10.0 + PATIENCE) + 1
    assert "ago" in (dialer.check() or "")


class VirtualClockAt(SystemClock):
    """A clock that shows what it is told."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    def monotonic(self) -> float:
        return self.at


class RealTime(VirtualClock):
    """The clock of the embedded API server, in real time."""

    def now(self) -> float:
        return SystemClock().now()

    def monotonic(self) -> float:
        return SystemClock().monotonic()


async def test_web8_web9_man1_crt1_a_manager_serves_webhooks_that_renew_themselves_under_load() -> None:
    clock = RealTime()
    world = World(clock)
    metrics = Metrics(process=False)
    options = ManagerOptions(
        leader_election=False,
        metrics=MetricsOptions("0"),
        health_address="0",
        freeze_heap=False,
    )
    manager = Manager(world.server.transport("manager"), options, clock=clock, rng=Random(4), metrics=metrics)
    keeper = CertificateKeeper(
        SecretStore(manager.client, NAMESPACE, SECRET),
        Targets(manager.client, TARGETS, Reach(NAMESPACE, "kruise-webhook-service")),
        CertificateRules((HOST, NAME)),
        clock=clock,
        rng=Random(5),
        metrics=metrics,
        leading=lambda: True,
    )
    server = WebhookServer(Address("127.0.0.1", 0), keeper.certificate, clock=clock, metrics=metrics)
    server.admission("/mutate-a", lambda _: allow())
    manager.add_webhooks(
        server, keeper=keeper, dialer=Dialer(lambda: server.bound, keeper.bundles, HOST, clock=clock, every=0.05)
    )
    assert not manager.health.ready.all().ok
    answered = 0
    async with asyncio.TaskGroup() as group:
        running = group.create_task(manager.run())
        await server.ready()
        while not manager.health.ready.all().ok:
            await asyncio.sleep(0)

        async def call(count: int) -> None:
            nonlocal answered
            for _ in range(count):
                context = ssl.create_default_context(cadata=world.bundles()[0].decode())
                client = await Client.open(server, context=context)
                assert response(as_outcome(await client.ask("/mutate-a", review({}))))["allowed"]
                answered += 1
                await client.close()

        first = keeper.pair
        async with asyncio.TaskGroup() as callers:
            for _ in range(4):
                callers.create_task(call(10))
            for place in range(4):  # another host is a reason for a new leaf at once
                object.__setattr__(keeper, "rules", CertificateRules((HOST, NAME, f"host-{place}.example")))
                await keeper.look()
                await asyncio.sleep(0)
        assert keeper.pair != first
        assert answered == 40
        manager.stop()
        await running
    assert server.bound is None
    assert not manager.health.ready.all().ok


async def test_crt6_a_set_up_that_fails_stops_the_manager_with_its_cause() -> None:
    clock = RealTime()
    world = World(clock, configurations=False)
    options = ManagerOptions(leader_election=False, metrics=MetricsOptions("0"), health_address="0", freeze_heap=False)
    metrics = Metrics(process=False)
    manager = Manager(world.server.transport("manager"), options, clock=clock, rng=Random(4), metrics=metrics)
    keeper = CertificateKeeper(
        SecretStore(manager.client, NAMESPACE, SECRET),
        Targets(manager.client, TARGETS, Reach(NAMESPACE, "kruise-webhook-service")),
        RULES,
        clock=clock,
        rng=Random(5),
        metrics=metrics,
        leading=lambda: True,
        initialize_timeout=0.1,
    )
    server = WebhookServer(Address("127.0.0.1", 0), keeper.certificate, clock=clock, metrics=metrics)
    manager.add_webhooks(server, keeper=keeper)
    with pytest.raises(Exception, match=r"--webhook-initialize-timeout=0\.1s"):
        await manager.run()
