"""Upgrades of sidecars in virtual time, by the manager and by the ideal client, on the same cluster.

Purpose: the time of an upgrade over the ideal one, its writes, and how far the status lags, without a real cluster: P6,
P7 and P17 for SidecarSet, as ``rollout`` does it for sets.

Guarantees: those of ``rollout``. Pods have their sidecars from the start, put in by the function that admission calls.

What this does not do: it calls no webhook; ``bench_webhook`` measures that.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from kruise.apis.core import PODS
from kruise.runtime.cache.cache import Cache
from kruise.runtime.client.client import Client
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.simulator.apiserver.storage import Commit
from tests.perf import ideal
from tests.perf.ideal_sidecars import EMPTY, Sidecars
from tests.perf.rollout import LATENCY, NODES, PATIENCE, SHAPE, UNEVEN
from tests.simulation.sidecar_world import SET_STATUS, SETS, SidecarWorld
from tests.simulation.world import NAMESPACE, Body

IMAGE: Final = "sim.kruise.io/ready-1s"
APP: Final = "registry.example.com/app:v1"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is upgraded: *pods* of one set, *budget* of which may be on their way."""

    pods: int
    budget: int
    hot: bool = False
    uneven: bool = False
    """Whether some pods take longer than others, so that they do not become ready together."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an upgrade by the manager came to. Seconds are virtual."""

    seconds: float
    """From the user's change until the last pod was ready with the new sidecar, and only with that."""
    writes: dict[str, int]
    """What was sent for it, without the status of the set."""
    status_writes: int
    lags: tuple[float, ...]
    """How long each pod, in the order in which they came through, was so before the status counted it."""
    passes: float
    events: int
    """How many changes of pods there were."""


class Watcher:
    """Sees when which pods are through with a sidecar, and when the status of the set says so."""

    def __init__(self, world: SidecarWorld) -> None:
        self._world = world
        self._begun = 0.0
        self._images: set[str] = set()
        self.through: dict[str, float] = {}
        self.counted: list[tuple[float, int]] = []
        self.events = 0
        world.server.storage.listeners.append(self._on_commit)

    def expect(self, image: str) -> None:
        """From now on, pods are through when their sidecar is *image*."""
        self._begun, self._images = self._world.clock.now(), {image}
        self.through.clear()
        self.counted.clear()
        self.events = 0

    async def all_through(self, pods: int) -> float:
        """Wait until so many are; return the seconds at which the last one was."""
        await self._world.until(lambda: len(self.through) == pods, PATIENCE, every=0.05)
        return max(self.through.values())

    def lags(self) -> tuple[float, ...]:
        """Return how long each pod was through before the status counted it."""
        values = [value for _, value in self.counted]
        found = []
        for rank, at in enumerate(sorted(self.through.values()), 1):
            place = bisect_left(values, rank)
            found.append(self.counted[place][0] - at if place < len(values) else float("inf"))
        return tuple(found)

    def _on_commit(self, commit: Commit) -> None:
        at = commit.time - self._begun
        if commit.resource == SETS and commit.type == "MODIFIED":
            one = commit.new.obj
            status = one.get("status") or {}
            seen = status.get("observedGeneration") == one["metadata"]["generation"]
            value = status.get("updatedReadyPods", 0) if seen else 0
            if not self.counted or value > self.counted[-1][1]:
                self.counted.append((at, value))
        elif commit.resource == "pods":
            self.events += 1
            if commit.type == "DELETED" or not self._is_through(commit.new.obj):
                self.through.pop(commit.key.name, None)
            else:
                self.through.setdefault(commit.key.name, at)

    def _is_through(self, pod: Body) -> bool:
        status = pod.get("status") or {}
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
        run = {c.get("image") for c in status.get("containerStatuses") or ()}
        return ready and self._images == {image for image in run if image.startswith(IMAGE)}


def in_cluster(plan: Plan, scenario: Callable[[SidecarWorld], Coroutine[Any, Any, None]]) -> None:
    """Run *scenario* in a cluster that is made for *plan*."""

    async def main(clock: VirtualClock) -> None:
        async with asyncio.TaskGroup() as tasks:
            world = SidecarWorld(clock, tasks, seed=0, latency=LATENCY, shape=SHAPE)
            if plan.uneven:
                world.agent.rules = UNEVEN
            await world.begin(NODES)
            try:
                await scenario(world)
            finally:
                await world.end()
            world.checks.finish(quiescent=False)

    run_virtual(main, timeout=2_000_000.0)


async def begin(world: SidecarWorld, plan: Plan, *, sets: int = 1) -> Watcher:
    """Create the set and its pods, and *sets* in all; return the watcher when all is told."""
    await world.started()
    watcher = Watcher(world)
    watcher.expect(f"{IMAGE}:v1")
    world.create_set(image=f"{IMAGE}:v1", hot=plan.hot, empty=EMPTY, strategy={"maxUnavailable": plan.budget})
    for number in range(1, sets):
        world.create_set(f"other-{number}", selector={"matchLabels": {"app": f"other-{number}"}})
    await world.sleep(1.0)
    containers = {"containers": [{"name": "web", "image": APP}], "terminationGracePeriodSeconds": 1}
    world.create_pods(plan.pods, pod=containers)
    await watcher.all_through(plan.pods)
    await world.settled(plan.pods)
    await world.sleep(2.0)
    return watcher


async def upgrade(world: SidecarWorld, plan: Plan, watcher: Watcher) -> Outcome:
    """Change the image of the sidecar, and wait until that is done and told."""
    process, mark = world.processes[-1], world.mark()
    total = "controller_runtime_reconcile_total"
    labels = [{"controller": "sidecarset-controller", "result": kind} for kind in ("success", "requeue_after")]
    before = sum(process.metric(total, **one) for one in labels)
    watcher.expect(f"{IMAGE}:v2")
    world.set_image(f"{IMAGE}:v2")
    seconds = await watcher.all_through(plan.pods)
    await world.settled(plan.pods)
    writes = world.counts(since=mark)
    status = writes.pop(SET_STATUS)
    passes = sum(process.metric(total, **one) for one in labels) - before
    return Outcome(seconds, writes, status, watcher.lags(), passes, watcher.events)


def managed(plan: Plan, *, sets: int = 1) -> Outcome:
    """Return what an upgrade by the manager comes to, with *sets* in all."""
    found: list[Outcome] = []

    async def scenario(world: SidecarWorld) -> None:
        found.append(await upgrade(world, plan, await begin(world, plan, sets=sets)))

    in_cluster(plan, scenario)
    return found[0]


def ideally(plan: Plan) -> float:
    """Return the seconds that the ideal client needs for an upgrade."""
    found: list[float] = []
    step = "hot" if plan.hot else "cold"

    async def scenario(world: SidecarWorld) -> None:
        metrics = Metrics(process=False)
        transport = world.server.transport("ideal", latency=LATENCY)
        rest = Rest(transport, clock=world.clock, rng=Random(9), metrics=metrics)
        cache = Cache(rest, clock=world.clock, rng=world.rng, metrics=metrics, namespaces=(NAMESPACE,))
        pods = ideal.Pods()
        cache.watch(PODS, label_selector=f"app={ideal.APP}").store.on_change(pods.changed)
        client = Client(rest, metrics=metrics, clock=world.clock)
        args = ideal.parse(
            [step, "--kubeconfig", "", "--image", IMAGE, "--pods", str(plan.pods), "--budget", str(plan.budget)],
            prog="ideal",
            steps=("create", "cold", "hot", "delete"),
        )
        args.gated = False
        driver = Sidecars(client, pods, args, world.clock)
        running = world.tasks.create_task(cache.run())
        await cache.wait_synced()
        watcher = Watcher(world)
        await driver.run("create")
        await world.sleep(10.0)
        watcher.expect(f"{IMAGE}:v2")
        await driver.run(step)
        found.append(await watcher.all_through(plan.pods))
        running.cancel()

    in_cluster(plan, scenario)
    return found[0]
