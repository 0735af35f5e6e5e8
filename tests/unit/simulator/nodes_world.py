"""The nodes of a process against the embedded API server, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import Middleware, Transport, chain
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.control import Control
from kruise.simulator.node_agent import NodeAgent

ACTOR = "kubelet-process"


class World:
    """An embedded server, the nodes on it, and short words for both."""

    def __init__(
        self, clock: VirtualClock, *, count: int, middleware: tuple[Middleware, ...] = (), **options: Any
    ) -> None:
        self.clock = clock
        self.server = ApiServer(clock, random.Random(1))
        self.transport: Transport = chain(self.server.transport(ACTOR), middleware)
        self.count = count
        self.options = options
        self.agent = self.fresh()

    def fresh(self) -> NodeAgent:
        rng, metrics = random.Random(2), Metrics(process=False)
        rest = Rest(self.transport, clock=self.clock, rng=rng, metrics=metrics)
        return NodeAgent(rest, clock=self.clock, rng=rng, metrics=metrics, **self.options)

    @property
    def control(self) -> Control:
        return Control(self.agent)

    def pod(self, name: str, node: str = "node-0", *, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "app:1"}], **spec},
        }
        self.server.create("pods", body)

    def get(self, name: str) -> dict[str, Any] | None:
        return self.server.get("pods", name)

    def phase(self, name: str) -> str:
        found = self.get(name)
        return "gone" if found is None else found["status"].get("phase", "")

    async def until(self, condition: Callable[[], object], timeout: float = 60.0) -> None:
        await eventually(condition, self.clock, timeout)

    async def phases(self, timeout: float = 60.0, **wanted: str) -> None:
        await self.until(lambda: all(self.phase(n.replace("_", "-")) == p for n, p in wanted.items()), timeout)

    def writes(self, what: str) -> int:
        verb, _, resource = what.partition(" ")
        return sum(
            c.verb == verb and f"{c.resource}{'/' + c.subresource if c.subresource else ''}".startswith(resource)
            for c in self.server.log.writes(actor=ACTOR, leases=True)
        )


@contextlib.asynccontextmanager
async def playing(world: World, *, register: bool = True) -> AsyncIterator[World]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(world.agent.run())
        if register:
            await world.agent.keeper.register(world.agent.keeper.names(world.count))
            await world.until(lambda: all(n.node is not None for n in world.agent.keeper.nodes.values()))
        yield world
        task.cancel()


def virtual(
    body: Callable[[World], Any], *, count: int = 2, middleware: tuple[Middleware, ...] = (), **options: Any
) -> None:
    async def main(clock: VirtualClock) -> None:
        async with playing(World(clock, count=count, middleware=middleware, **options)) as world:
            await body(world)

    run_virtual(main)
