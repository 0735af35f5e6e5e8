"""A controller whose reconciler is a script, and who looks on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from kruise.runtime.controller import (
    Channel,
    Controller,
    ItemBackoff,
    Queue,
)
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key
from kruise.runtime.testing import VirtualClock, run_virtual

A, B, C = (Key("n", name) for name in "abc")
NAME = "demo-controller"


class World:
    """A controller on the virtual clock, and what one asks of it."""

    def __init__(self, clock: VirtualClock, reconcile: Callable[[Key], Awaitable[Any]], **options: Any) -> None:
        self.clock = clock
        self.metrics = Metrics(process=False)
        limiter = ItemBackoff(random.Random(1), base=1.0, jitter=0.0)
        self.queue = Queue(NAME, clock=clock, metrics=self.metrics, limiter=limiter)
        self.channel = Channel()
        self.sources: list[Any] = options.pop("sources", [self.channel])
        self.controller = Controller(
            NAME,
            reconcile,
            self.queue,
            self.sources,
            clock=clock,
            rng=random.Random(7),
            metrics=self.metrics,
            **options,
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"controller": NAME, **labels})

    def result(self, name: str) -> float | None:
        return self.value("controller_runtime_reconcile_total", result=name)


def play(
    reconcile: Callable[[World, Key], Awaitable[Any]],
    script: Callable[[World], Awaitable[None]],
    **options: Any,
) -> World:
    """Run a controller with *reconcile* while *script* runs, then stop it."""

    async def main(clock: VirtualClock) -> World:
        world: World

        async def once(key: Key) -> Any:
            return await reconcile(world, key)

        world = World(clock, once, **options)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(world.controller.run())
            await script(world)
            running.cancel()
        world.queue.close()
        return world

    return run_virtual(main)
