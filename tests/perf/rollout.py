"""Rollouts of Advanced StatefulSets in virtual time, by the manager and by the ideal client, on the same cluster.

Purpose: the time of a rollout over the ideal one, its writes, and how far the status lags, without a real cluster.

Guarantees:

* Those of :mod:`tests.perf.rollout_cluster`.
* The ideal makes the same writes and has nothing to decide (:mod:`tests.perf.ideal`).

What this does not do: that of :mod:`tests.perf.rollout_cluster`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.perf import ideal, rollout_cluster
from tests.perf.rollout_cluster import Watcher, ideally_driven, is_ready
from tests.simulation.set_world import CREATE_POD, CREATE_REVISION, PATCH_STATUS, SET_STATUS, SetWorld
from tests.simulation.world import Body

IMAGE: Final = "sim.kruise.io/ready-{stage}"


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


class SetWatcher(Watcher):
    """Sees which pods are ready with the image of their set's template."""

    status_field = "updatedReadyReplicas"

    def is_through(self, pod: Body, image: str) -> bool:
        run = (pod.get("status") or {}).get("containerStatuses") or ()
        runs = [c.get("image") for c in run if c["name"] == "main"]
        return not pod["metadata"].get("deletionTimestamp") and is_ready(pod) and runs == [image]


def in_cluster(plan: Plan, scenario: Callable[[SetWorld], Coroutine[Any, Any, None]]) -> None:
    """Run *scenario* in a cluster that is made for *plan*."""
    rollout_cluster.in_cluster(SetWorld, scenario, uneven=plan.uneven)


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


async def begin(world: SetWorld, plan: Plan, names: Sequence[str] = ("web",)) -> SetWatcher:
    """Create the sets *names*; return the watcher when their pods are ready, and that is told."""
    process = world.processes[-1] if world.processes else world.start_manager()
    await world.until(lambda: process.manager.leading and process.controller.took_over is not None)
    watcher = SetWatcher(world)
    watcher.expect(image_of(plan, 1))
    for name in names:
        create(world, plan, name)
    await watcher.all_through(plan.pods * len(names))
    await told(world, plan, names)
    await world.sleep(2.0)
    return watcher


async def roll(world: SetWorld, plan: Plan, watcher: SetWatcher, names: Sequence[str] = ("web",)) -> Outcome:
    """Change the image of the sets *names*, and wait until that is done and told."""
    image, mark = image_of(plan, 2), world.mark()
    watcher.expect(image)
    for name in names:
        world.set_image(name, image)
    seconds = await watcher.all_through(plan.pods * len(names))
    await told(world, plan, names)
    await world.sleep(1.0)
    writes = world.counts(since=mark)
    status = writes.pop(SET_STATUS)
    ends: dict[str, float] = {}
    for pod, at in watcher.through.items():
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
        watcher = SetWatcher(world)
        create(world, plan, replicas=0)
        await world.sleep(2.0)
        watcher.expect(image_of(plan, 1))
        world.edit_set(replicas=plan.pods)
        await watcher.all_through(plan.pods)
        found.extend(sorted(watcher.through.values()))
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
        args = ideal.parse(
            [
                update,
                *("--kubeconfig", "", "--image", IMAGE.format(stage=plan.stage)),
                *("--pods", str(plan.pods), "--budget", str(plan.budget)),
            ]
        )
        async with ideally_driven(world, ideal.Driver, args) as driver:
            watcher = SetWatcher(world)
            for number, step in enumerate(("create", update), 1):
                watcher.expect(image_of(plan, number))
                await driver.run(step)
                found[step] = await watcher.all_through(plan.pods)

    in_cluster(plan, scenario)
    return found
