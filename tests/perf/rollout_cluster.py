"""What rollouts of every kind are measured on: a cluster in virtual time, who watches its pods, and the ideal client.

Purpose: the manager and the ideal client meet the same nodes, latency and write window, and one watcher judges both.

Guarantees:

* Times are those of the server's commits, never what the manager or the client says of itself.
* Invariants and write guard look on: a run that breaks the budget or the order raises (``World.checks``).

What this does not do: a simulated container starts when its image says; nothing is pulled, and nothing is computed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from kruise.apis.core import PODS
from kruise.runtime.cache.cache import Cache
from kruise.runtime.client.client import Client
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.behaviour import Rule
from kruise.simulator.node_objects import NodeShape
from tests.perf import ideal
from tests.simulation.update_world import UpdateWorld, play
from tests.simulation.world import NAMESPACE, Body

SHAPE: Final = NodeShape(pods="100000")
"""The simulated scheduler does not count: one node may get all pods."""
NODES: Final = 3
LATENCY: Final = 0.005
"""Seconds of a request and its answer."""
PATIENCE: Final = 5000.0
UNEVEN: Final = tuple(Rule(pod=f"*{d}", settings={"ready-seconds": f"{0.55 + 0.1 * d:.2f}"}) for d in range(10))
"""How long the pods take to be ready, by the last digit of their names: one second on average."""

W = TypeVar("W", bound=UpdateWorld)
D = TypeVar("D", bound=ideal.Driver)


def in_cluster(
    kind: Callable[..., W], scenario: Callable[[W], Coroutine[Any, Any, None]], *, uneven: bool = False
) -> None:
    """Run *scenario* in a cluster that *kind* makes; with *uneven*, its pods do not become ready together."""

    def make(clock: VirtualClock, tasks: asyncio.TaskGroup) -> W:
        world = kind(clock, tasks, seed=0, latency=LATENCY, shape=SHAPE)
        if uneven:
            world.agent.rules = UNEVEN
        return world

    async def checked(world: W) -> None:
        await scenario(world)
        world.checks.finish(quiescent=False)

    play(make, checked, nodes=NODES, timeout=2_000_000.0)


class Watcher(ABC):
    """Sees when which pods are through with one image, and when the status of a set says so."""

    status_field: str
    """What the status counts such pods in."""

    def __init__(self, world: UpdateWorld) -> None:
        self._world = world
        self._begun = 0.0
        self._image = ""
        self.through: dict[str, float] = {}
        """Seconds since :meth:`expect` at which a pod came through, while it is."""
        self.counted: list[tuple[float, int]] = []
        """The values of the status with the seconds at which they were written."""
        self.events = 0
        """How many changes of pods there were."""
        world.server.storage.listeners.append(self._on_commit)

    def expect(self, image: str) -> None:
        """From now on, pods with *image* count."""
        self._begun, self._image = self._world.clock.now(), image
        self.through.clear()
        self.counted.clear()
        self.events = 0

    async def all_through(self, pods: int) -> float:
        """Wait until so many are; return the seconds at which the last one was."""
        await self._world.until(lambda: len(self.through) == pods, PATIENCE, every=0.05)
        return max(self.through.values(), default=0.0)

    def lags(self) -> tuple[float, ...]:
        """Return how long each pod was through before the status counted it."""
        values = [value for _, value in self.counted]
        found = []
        for rank, at in enumerate(sorted(self.through.values()), 1):
            place = bisect_left(values, rank)
            found.append(self.counted[place][0] - at if place < len(values) else float("inf"))
        return tuple(found)

    @abstractmethod
    def is_through(self, pod: Body, image: str) -> bool:
        """Tell whether *pod* is ready and runs *image*."""

    def _on_commit(self, commit: Commit) -> None:
        at = commit.time - self._begun
        if commit.resource == str(self._world.kind):
            if commit.key.name == self._world.usual and commit.type == "MODIFIED":
                self._count(commit.new.obj, at)
        elif commit.resource == "pods":
            self.events += 1
            if commit.type == "DELETED" or not self.is_through(commit.new.obj, self._image):
                self.through.pop(commit.key.name, None)
            else:
                self.through.setdefault(commit.key.name, at)

    def _count(self, one: Body, at: float) -> None:
        status = one.get("status") or {}
        seen = status.get("observedGeneration") == one["metadata"]["generation"]
        value = status.get(self.status_field, 0) if seen else 0
        if not self.counted or value > self.counted[-1][1]:
            self.counted.append((at, value))


def is_ready(pod: Body) -> bool:
    """Tell whether the condition Ready of *pod* is True."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@contextlib.asynccontextmanager
async def ideally_driven(world: UpdateWorld, driver: type[D], args: argparse.Namespace) -> AsyncIterator[D]:
    """Open a *driver* of the client that has nothing to decide, with the *args* of its command line."""
    metrics = Metrics(process=False)
    transport = world.server.transport("ideal", latency=LATENCY)
    rest = Rest(transport, clock=world.clock, rng=Random(9), metrics=metrics)
    cache = Cache(rest, clock=world.clock, rng=world.rng, metrics=metrics, namespaces=(NAMESPACE,))
    pods = ideal.Pods()
    cache.watch(PODS, label_selector=f"app={ideal.APP}").store.on_change(pods.changed)
    client = Client(rest, metrics=metrics, clock=world.clock)
    running = world.tasks.create_task(cache.run())
    await cache.wait_synced()
    yield driver(client, pods, args, world.clock)
    running.cancel()


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered), math.ceil(share * len(ordered))) - 1]
