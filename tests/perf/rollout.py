"""Rollouts of Advanced StatefulSets in virtual time, by the manager and by the ideal client, on the same cluster.

Purpose: the time of a rollout over the ideal one, its writes, and how far the status lags, without a real cluster.

Guarantees:

* Times are those of the server's commits, never what the manager or the client says of itself.
* Both run on the same nodes with the same latency and the same write window. The ideal makes the same writes and has
  nothing to decide (:mod:`tests.perf.ideal`).
* Invariants and write guard look on: a run that breaks the budget or the order raises (``World.checks``).

What this does not do: a simulated container starts when its image says; nothing is pulled, and nothing is computed.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from kruise.apis.core import PODS
from kruise.runtime.cache.cache import Cache
from kruise.runtime.client.client import Client
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.behaviour import Rule
from kruise.simulator.node_objects import NodeShape
from tests.perf import ideal
from tests.simulation.set_world import CREATE_POD, CREATE_REVISION, PATCH_STATUS, SET_STATUS, SETS, SetWorld
from tests.simulation.world import NAMESPACE, Body

IMAGE: Final = "sim.kruise.io/ready-{stage}"
SHAPE: Final = NodeShape(pods="100000")
"""The simulated scheduler does not count: one node may get all pods."""
NODES: Final = 3
LATENCY: Final = 0.005
"""Seconds of a request and its answer."""
PATIENCE: Final = 5000.0
UNEVEN: Final = tuple(Rule(pod=f"*{d}", settings={"ready-seconds": f"{0.55 + 0.1 * d:.2f}"}) for d in range(10))
"""How long the pods take to be ready, by the last digit of their names: one second on average."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is rolled out: *pods* of one set, *budget* of which may be unavailable."""

    pods: int
    budget: int
    policy: str = "InPlaceIfPossible"
    parallel: bool = True
    stage: str = "1s"
    """How long a container takes to be ready."""
    uneven: bool = False
    """Whether some pods take longer than others, so that they do not become ready together."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rollout of the manager came to. Seconds are virtual."""

    seconds: float
    """From the user's change until the last pod was ready again."""
    writes: dict[str, int]
    """What was sent for it, without the status of the set."""
    status_writes: int
    lags: tuple[float, ...]
    """How long each pod, in the order in which they became ready, was ready before the status counted it."""
    ends: tuple[float, ...]
    """When the last pod of each set was ready."""

    @property
    def final_lag(self) -> float:
        """How long the last pod was ready before the status counted it."""
        return self.lags[-1]


class Watcher:
    """Sees when which pods are ready with one image, and when the status of the set *counts* says so."""

    def __init__(self, world: SetWorld, counts: str = "web") -> None:
        self._app = counts
        self._world = world
        self._begun = 0.0
        self._image = ""
        self.ready: dict[str, float] = {}
        """Seconds since :meth:`expect` at which a pod became ready, while it is."""
        self.counted: list[tuple[float, int]] = []
        """The values of ``status.updatedReadyReplicas`` with the seconds at which they were written."""
        world.server.storage.listeners.append(self._on_commit)

    def expect(self, image: str) -> None:
        """From now on, pods with *image* count."""
        self._begun, self._image = self._world.clock.now(), image
        self.ready.clear()
        self.counted.clear()

    async def all_ready(self, pods: int) -> float:
        """Wait until so many are; return the seconds at which the last one was."""
        await self._world.until(lambda: len(self.ready) == pods, PATIENCE, every=0.05)
        return max(self.ready.values(), default=0.0)

    def lags(self) -> tuple[float, ...]:
        """Return how long each pod was ready before the status counted it."""
        values = [value for _, value in self.counted]
        found = []
        for rank, at in enumerate(sorted(self.ready.values()), 1):
            place = bisect_left(values, rank)
            found.append(self.counted[place][0] - at if place < len(values) else float("inf"))
        return tuple(found)

    def _on_commit(self, commit: Commit) -> None:
        at = commit.time - self._begun
        if commit.resource == SETS and commit.key.name == self._app and commit.type == "MODIFIED":
            one = commit.new.obj
            status = one.get("status") or {}
            seen = status.get("observedGeneration") == one["metadata"]["generation"]
            value = status.get("updatedReadyReplicas", 0) if seen else 0
            if not self.counted or value > self.counted[-1][1]:
                self.counted.append((at, value))
        elif commit.resource == "pods":
            name = commit.key.name
            if commit.type == "DELETED" or not _serves(commit.new.obj, self._image):
                self.ready.pop(name, None)
            else:
                self.ready.setdefault(name, at)


def _serves(pod: Body, image: str) -> bool:
    """Tell whether *pod* is ready and runs *image*."""
    status = pod.get("status") or {}
    return (
        not pod["metadata"].get("deletionTimestamp")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
        and all(c.get("image") == image for c in status.get("containerStatuses") or ())
    )


def in_cluster(plan: Plan, scenario: Callable[[SetWorld], Coroutine[Any, Any, None]]) -> None:
    """Run *scenario* in a cluster that is made for *plan*."""

    async def main(clock: VirtualClock) -> None:
        async with asyncio.TaskGroup() as tasks:
            world = SetWorld(clock, tasks, seed=0, latency=LATENCY, shape=SHAPE)
            if plan.uneven:
                world.agent.rules = UNEVEN
            await world.begin(NODES)
            try:
                await scenario(world)
            finally:
                await world.end()
            world.checks.finish(quiescent=False)

    run_virtual(main, timeout=2_000_000.0)


def _rolling(plan: Plan) -> Body:
    return {"maxUnavailable": plan.budget, "podUpdatePolicy": plan.policy}


def image_of(plan: Plan, version: int) -> str:
    """Return the image of a version of the set's template."""
    return f"{IMAGE.format(stage=plan.stage)}:v{version}"


def create(world: SetWorld, plan: Plan, name: str = "web", *, replicas: int | None = None) -> None:
    """Create the set of *plan* at version 1."""
    world.create_set(
        name,
        replicas=plan.pods if replicas is None else replicas,
        image=image_of(plan, 1),
        parallel=plan.parallel,
        rolling={"maxUnavailable": plan.budget, "podUpdatePolicy": plan.policy},
        pod={"terminationGracePeriodSeconds": 1},
    )


async def begin(world: SetWorld, plan: Plan, names: Sequence[str] = ("web",)) -> Watcher:
    """Create the sets *names*; return the watcher when their pods are ready, and that is told."""
    process = world.processes[-1] if world.processes else world.start_manager()
    await world.until(lambda: process.manager.leading and process.controller.took_over is not None)
    watcher = Watcher(world)
    watcher.expect(image_of(plan, 1))
    for name in names:
        create(world, plan, name)
    await watcher.all_ready(plan.pods * len(names))
    await told(world, plan, names)
    await world.sleep(2.0)
    return watcher


async def roll(world: SetWorld, plan: Plan, watcher: Watcher, names: Sequence[str] = ("web",)) -> Outcome:
    """Change the image of the sets *names*, and wait until that is done and told."""
    image, mark = image_of(plan, 2), world.mark()
    watcher.expect(image)
    for name in names:
        world.set_image(name, image)
    seconds = await watcher.all_ready(plan.pods * len(names))
    await told(world, plan, names)
    await world.sleep(1.0)
    writes = world.counts(since=mark)
    status = writes.pop(SET_STATUS)
    ends: dict[str, float] = {}
    for pod, at in watcher.ready.items():
        name = pod.rpartition("-")[0]
        ends[name] = max(at, ends.get(name, 0.0))
    return Outcome(seconds, writes, status, watcher.lags() if len(names) == 1 else (), tuple(ends.values()))


async def told(world: SetWorld, plan: Plan, names: Sequence[str]) -> None:
    """Wait until the status of each of *names* says that it is up to date."""
    for name in names:
        await world.until(partial(_told, world, plan, name), every=0.02)


def _told(world: SetWorld, plan: Plan, name: str) -> bool:
    status = world.set_status(name)
    return (
        status.get("observedGeneration") == world.the_set(name)["metadata"]["generation"]
        and status.get("updatedAvailableReplicas") == plan.pods
        and status.get("currentRevision") == status.get("updateRevision")
    )


def managed(plan: Plan, *, sets: int = 1, workers: int = 3) -> Outcome:
    """Return what a rollout of so many sets at once comes to, by a manager with so many workers."""
    found: list[Outcome] = []
    names = ["web", *(f"web-{n}x" for n in range(1, sets))]

    async def scenario(world: SetWorld) -> None:
        world.start_manager(workers=workers)
        found.append(await roll(world, plan, await begin(world, plan, names), names))

    in_cluster(plan, scenario)
    return found[0]


def scaled(plan: Plan) -> list[float]:
    """Let a set grow from nothing to the pods of *plan*; return when each was ready, in seconds since the edit."""
    found: list[float] = []

    async def scenario(world: SetWorld) -> None:
        await world.started()
        watcher = Watcher(world)
        create(world, plan, replicas=0)
        await world.sleep(2.0)
        watcher.expect(image_of(plan, 1))
        world.edit_set(replicas=plan.pods)
        await watcher.all_ready(plan.pods)
        found.extend(sorted(watcher.ready.values()))
        await told(world, plan, ["web"])
        # With many pods at once the gates wait for the write window, and the kubelets are sometimes faster.
        done = {what: count for what, count in world.counts().items() if not what.endswith("409")}
        done.pop(SET_STATUS)
        assert done == {CREATE_REVISION: 1, CREATE_POD: plan.pods, PATCH_STATUS: plan.pods}, done

    in_cluster(plan, scenario)
    return found


def ideally(plan: Plan) -> dict[str, float]:
    """Return the seconds that the ideal client needs, by step: to create all pods, and to update them."""
    found: dict[str, float] = {}
    update = "recreate" if plan.policy == "ReCreate" else "in-place"

    async def scenario(world: SetWorld) -> None:
        metrics = Metrics(process=False)
        transport = world.server.transport("ideal", latency=LATENCY)
        rest = Rest(transport, clock=world.clock, rng=Random(9), metrics=metrics)
        cache = Cache(rest, clock=world.clock, rng=world.rng, metrics=metrics, namespaces=(NAMESPACE,))
        pods = ideal.Pods()
        cache.watch(PODS, label_selector=f"app={ideal.APP}").store.on_change(pods.changed)
        client = Client(rest, metrics=metrics, clock=world.clock)
        args = ideal.parse(
            [
                update,
                *("--kubeconfig", "", "--image", IMAGE.format(stage=plan.stage)),
                *("--pods", str(plan.pods), "--budget", str(plan.budget)),
            ]
        )
        driver = ideal.Driver(client, pods, args, world.clock)
        running = world.tasks.create_task(cache.run())
        await cache.wait_synced()
        watcher = Watcher(world)
        for number, step in enumerate(("create", update), 1):
            watcher.expect(image_of(plan, number))
            await driver.run(step)
            found[step] = await watcher.all_ready(plan.pods)
        running.cancel()

    in_cluster(plan, scenario)
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered), math.ceil(share * len(ordered))) - 1]
