"""The cluster in memory for kinds that update running pods: what the worlds of both such kinds have in common.

Kubelets take their time here, a set is found by its name, and a scenario ends with a cluster at rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, TypeVar

from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Resource
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.simulator.node_agent import NodeAgent
from kruise.simulator.node_objects import NodeShape
from tests.simulation.world import Body, World

PATCH_POD: Final = "patch pods"
PATCH_STATUS: Final = "patch pods/status"
CREATE_REVISION: Final = "create controllerrevisions.apps"
PATCH_REVISION: Final = "patch controllerrevisions.apps"
DELETE_REVISION: Final = "delete controllerrevisions.apps"

KUBELET_REACTS: Final = 0.03
"""Seconds from what a simulated kubelet sees to its write."""


class UpdateWorld(World):
    """The cluster, for sets of one kind."""

    kind: ClassVar[Resource[Any]]
    usual: ClassVar[str]
    """The name of a set that has no other."""

    def __init__(self, *args: Any, shape: NodeShape = NodeShape(), **options: Any) -> None:  # noqa: B008
        super().__init__(*args, **options)
        if self.server.registry.named(str(self.kind)) is None:
            self.server.registry.add_custom(self.kind)
        # A kubelet answers what it sees 20 ms later at the soonest: a write of ours in between is its conflict.
        self.agent = NodeAgent(
            self.rest_of("nodes", latency=2 * KUBELET_REACTS),
            clock=self.clock,
            rng=Random(7),
            metrics=Metrics(process=False),
            shape=shape,
            lease_seconds=3600,
        )

    def rest_of(self, actor: str, *, latency: float = 0.0) -> Rest:
        """Return what *actor* reaches the server through."""
        transport = self.server.transport(actor, latency=latency)
        return Rest(transport, clock=self.clock, rng=Random(5), metrics=Metrics(process=False))

    def the_set(self, name: str = "") -> Body:
        """Return a set. Raises AssertionError when it is not there."""
        found = self.server.get(self.kind, name or self.usual)
        assert found is not None, f"no set {name or self.usual}"
        return found

    def set_status(self, name: str = "") -> Body:
        """Return the status of a set, empty when it has none."""
        found: Body = self.the_set(name).get("status") or {}
        return found

    def set_condition(self, kind: str, name: str = "") -> Body:
        """Return a condition of a set, empty when it has none of that type."""
        return next((c for c in self.set_status(name).get("conditions") or () if c["type"] == kind), {})

    async def time_of(self, condition: Callable[[], object], timeout: float) -> float:
        """Wait for *condition*, and a second more; return how long it took without that."""
        begun = self.clock.monotonic()
        await self.until(condition, timeout, every=0.02)
        took = self.clock.monotonic() - begun
        await self.sleep(1.0)
        return took


W = TypeVar("W", bound=World)


def play(
    make: Callable[[VirtualClock, asyncio.TaskGroup], W],
    scenario: Callable[[W], Awaitable[None]],
    *,
    nodes: int,
    seed: int = 0,
    rest: float | None = None,
    timeout: float = 400_000.0,
) -> None:
    """Run *scenario* on the cluster that *make* makes, with *nodes*, and let it come to rest, unless *rest* is None."""

    async def main(clock: VirtualClock) -> None:
        async with asyncio.TaskGroup() as tasks:
            world = make(clock, tasks)
            await world.begin(nodes)
            try:
                await scenario(world)
                if rest is not None:
                    await world.rest(rest)
            finally:
                await world.end()

    run_virtual(main, seed=seed, timeout=timeout)
