"""Whom the live configurations trust, for a replica that does not write them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from structlog.testing import capture_logs

from kruise.runtime.client.client import Client
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import Request, Response, Transport
from kruise.runtime.clock import Random
from kruise.runtime.errors import TransportError
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.runtime.webhook.targets import Reach, Targets
from kruise.runtime.webhook.trust import LiveTrust
from tests.unit.webhook.webhook_world import NAMESPACE, TARGETS, World

SERVICE = Reach(NAMESPACE, "kruise-webhook-service")
CHAIN = b"the chain that is served"


class Answering:
    """A transport that answers in place of the API server while *answer* says how."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.answer: Callable[[Request], Awaitable[Response]] | None = None
        self.reads = 0

    async def request(self, request: Request) -> Response:
        self.reads += 1
        assert request.verb == "get"
        return await (self.answer or self._inner.request)(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def refused(request: Request) -> Response:
    return Response(403, {}, b'{"kind":"Status","code":403,"reason":"Forbidden","message":"not allowed"}')


async def unreachable(request: Request) -> Response:
    raise TransportError("nobody is there", sent=False)


def trusting(world: World, served: bytes = CHAIN) -> tuple[LiveTrust, Answering]:
    transport = Answering(world.server.transport("reader"))
    metrics = Metrics(process=False)
    client = Client(
        Rest(transport, clock=world.clock, rng=Random(7), metrics=metrics), metrics=metrics, clock=world.clock
    )
    return LiveTrust(Targets(client, TARGETS, SERVICE), lambda: served), transport


def test_web7_crt5_it_is_what_the_configurations_say_when_they_are_read() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock)
        trust, transport = trusting(world)
        assert trust.bundles() == ()
        await trust.refresh()
        assert trust.bundles() == (b"",), "nobody wrote one yet"
        writer = Targets(world.client("writer"), TARGETS, SERVICE)
        await writer.look(b"first", write=True)
        assert trust.bundles() == (b"",)
        await trust.refresh()
        assert trust.bundles() == (b"first",)
        assert transport.reads == 2 * len(TARGETS)

    run_virtual(main, seed=1)


def test_web7_while_the_api_server_is_away_what_was_read_stays() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock)
        await Targets(world.client("writer"), TARGETS, SERVICE).look(b"first", write=True)
        trust, transport = trusting(world)
        await trust.refresh()
        transport.answer = unreachable
        await trust.refresh()
        assert trust.bundles() == (b"first",)

    run_virtual(main, seed=1)


def test_web7_without_the_right_to_read_what_is_served_is_the_anchor() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock)
        await Targets(world.client("writer"), TARGETS, SERVICE).look(b"first", write=True)
        trust, transport = trusting(world)
        transport.answer = refused
        await trust.refresh()
        await trust.refresh()
        assert trust.bundles() == (CHAIN,)
        transport.answer = None
        await trust.refresh()
        assert trust.bundles() == (b"first",), "the right was given"
        none, transport = trusting(world, b"")
        transport.answer = refused
        await none.refresh()
        assert none.bundles() == ()

    with capture_logs() as lines:
        run_virtual(main, seed=1)
    said = [one for one in lines if "may not be read" in one["event"]]
    assert len(said) == 2, "once for each of the two"
    assert "webhook_certificates_role.yaml" in said[0]["hint"]
