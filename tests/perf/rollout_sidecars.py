"""Upgrades of sidecars in virtual time, by the manager and by the ideal client, on the same cluster.

Purpose: the time of an upgrade over the ideal one, its writes, and how far the status lags, without a real cluster: P6,
P7 and P17 for SidecarSet, as ``rollout`` does it for sets.

Guarantees: those of ``rollout_cluster``. Pods have their sidecars from the start, put in by the function that admission
calls.

What this does not do: it calls no webhook; ``bench_webhook`` measures that.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from tests.perf import ideal, rollout_cluster
from tests.perf.ideal_sidecars import EMPTY, Sidecars
from tests.perf.rollout_cluster import Watcher, ideally_driven, is_ready
from tests.simulation.sidecar_world import SET_STATUS, SidecarWorld
from tests.simulation.world import Body

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


class SidecarWatcher(Watcher):
    """Sees which pods are ready and run no sidecar but the new one."""

    status_field = "updatedReadyPods"

    def is_through(self, pod: Body, image: str) -> bool:
        run = {c.get("image") for c in (pod.get("status") or {}).get("containerStatuses") or ()}
        return is_ready(pod) and {one for one in run if one.startswith(IMAGE)} == {image}


def in_cluster(plan: Plan, scenario: Callable[[SidecarWorld], Coroutine[Any, Any, None]]) -> None:
    """Run *scenario* in a cluster that is made for *plan*."""
    rollout_cluster.in_cluster(SidecarWorld, scenario, uneven=plan.uneven)


async def begin(world: SidecarWorld, plan: Plan, *, sets: int = 1) -> SidecarWatcher:
    """Create the set and its pods, and *sets* in all; return the watcher when all is told."""
    await world.started()
    watcher = SidecarWatcher(world)
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


async def upgrade(world: SidecarWorld, plan: Plan, watcher: SidecarWatcher) -> Outcome:
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
        args = ideal.parse(
            [step, "--kubeconfig", "", "--image", IMAGE, "--pods", str(plan.pods), "--budget", str(plan.budget)],
            prog="ideal",
            steps=("create", "cold", "hot", "delete"),
        )
        args.gated = False
        async with ideally_driven(world, Sidecars, args) as driver:
            watcher = SidecarWatcher(world)
            await driver.run("create")
            await world.sleep(10.0)
            watcher.expect(f"{IMAGE}:v2")
            await driver.run(step)
            found.append(await watcher.all_through(plan.pods))

    in_cluster(plan, scenario)
    return found[0]
