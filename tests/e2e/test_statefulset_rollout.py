"""Rollouts of many pods: counts are asserted exactly, times are told beside those of a driver without a controller."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from tests.e2e.conftest import Watched
from tests.e2e.harness import checks, ideal
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.sets import RESTART_2S, identity, image_patch, rolled_out, statefulset
from tests.e2e.harness.world import World

pytestmark = [pytest.mark.real, pytest.mark.slow]

LARGE = os.environ.get("KRUISE_E2E_LARGE") == "1"
STATUS = "patch statefulsets/status 200"


def large(*values: int) -> object:
    """Return parameters of a run that takes minutes."""
    return pytest.param(*values, marks=pytest.mark.skipif(not LARGE, reason="set KRUISE_E2E_LARGE=1"))


SIZES = [(100, 10), (100, 100), large(500, 500), large(1000, 100)]


def take_refused(made: Counter[str]) -> int:
    """Take the refusals out of *made* and count them; :meth:`Run.end` has seen that none is of our own making."""
    refused = [what for what in made if what.endswith((" 409", " 422"))]
    return sum(made.pop(what) for what in refused)


class Run:
    """One step of a rollout, measured."""

    def __init__(self, world: World, manager: ManagerProcess) -> None:
        self._world = world
        self._manager = manager
        self._mark = world.cluster.audit.mark()
        self._before = manager.usage()
        self._began = time.monotonic()

    def end(
        self, watched: Watched, what: str, timeout: float, done: Callable[[], object]
    ) -> tuple[float, Counter[str]]:
        """Wait until *done*; return the seconds and the writes, without refusals, which are told."""
        watched.observer.until(done, timeout, what)
        self.seconds = time.monotonic() - self._began
        after = self._manager.usage()
        self.cpu, self.peak = after.cpu - self._before.cpu, after.peak_rss
        time.sleep(1.0)  # the last status may stand in the log a moment later
        assert checks.own_conflicts(self._world.cluster.audit, self._mark) == []
        return self.seconds, checks.tally(checks.writes(self._world.cluster.audit, self._mark))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("size", "budget"), SIZES)
def test_in_place_costs_three_writes_a_pod_and_little_more_time_than_nobody_deciding(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess], size: int, budget: int
) -> None:
    world.nodes(max(10, size // 20))
    steps = ("create", "in-place", "delete")
    drive = partial(ideal.measure, world.cluster, *steps, pods=size, budget=budget, image=RESTART_2S)
    before_it = drive()
    observer, manager = watched.observer, launch().wait_leading()
    run = Run(world, manager)
    world.create_set(statefulset("web", size, image=f"{RESTART_2S}:v1", budget=budget))
    seconds, made = run.end(watched, "all pods run", 300.0, lambda: rolled_out(observer.set("web")))
    refused = take_refused(made)
    patches = made.pop(STATUS)
    assert made == {"create pods 201": size, "patch pods/status 200": size, "create controllerrevisions 201": 1}, made
    assert patches <= 2 + seconds / 0.5
    before = {pod["metadata"]["name"]: identity(pod) for pod in observer.set_pods("web")}

    run = Run(world, manager)
    asked = world.patch_set("web", image_patch(f"{RESTART_2S}:v2"))
    seconds, made = run.end(watched, "all pods are updated", 600.0, lambda: rolled_out(observer.set("web"), asked))
    refused += take_refused(made)
    patches = made.pop(STATUS)
    assert made == {
        "patch pods/status 200": 2 * size,
        "patch pods 200": size,
        "create controllerrevisions 201": 1,
    }, f"three writes a pod: {made}"
    assert patches <= 2 + seconds / 0.5, f"{patches} status patches in {seconds:.1f} s"
    assert {pod["metadata"]["name"]: identity(pod) for pod in observer.set_pods("web")} == before
    manager.stop()
    world.clean()
    best = ideal.mean(before_it, drive())
    REPORT.add(
        "StatefulSet, in place, gated, 2 s to start a container",
        pods=size,
        budget=budget,
        seconds=seconds,
        ideal=best[1].seconds,
        ratio=seconds / best[1].seconds,
        pod_writes=3.0,
        refused=refused,
        status_patches=patches,
        cpu_seconds=run.cpu,
        cpu_ms_per_pod=run.cpu * 1000 / size,
        ideal_cpu_ms_per_pod=best[1].cpu * 1000 / size,
        peak_rss_mb=run.peak / 1e6,
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("size", "budget"), SIZES)
def test_recreating_costs_three_writes_a_pod(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess], size: int, budget: int
) -> None:
    world.nodes(max(10, size // 20))
    steps = ("create", "recreate", "delete")
    drive = partial(ideal.measure, world.cluster, *steps, pods=size, budget=budget, image=RESTART_2S)
    before_it = drive()
    observer, manager = watched.observer, launch().wait_leading()
    world.create_set(statefulset("web", size, image=f"{RESTART_2S}:v1", budget=budget, policy="ReCreate"))
    observer.until(lambda: rolled_out(observer.set("web")), 300.0, "all pods run")
    run = Run(world, manager)
    asked = world.patch_set("web", image_patch(f"{RESTART_2S}:v2"))
    seconds, made = run.end(watched, "all pods are updated", 600.0, lambda: rolled_out(observer.set("web"), asked))
    refused = take_refused(made)
    patches = made.pop(STATUS)
    assert made == {
        "delete pods 200": size,
        "create pods 201": size,
        "patch pods/status 200": size,
        "create controllerrevisions 201": 1,
    }, made
    assert patches <= 2 + seconds / 0.5
    manager.stop()
    world.clean()
    best = ideal.mean(before_it, drive())
    REPORT.add(
        "StatefulSet, recreated, gated, 2 s to start a container",
        pods=size,
        budget=budget,
        seconds=seconds,
        ideal=best[1].seconds,
        ratio=seconds / best[1].seconds,
        pod_writes=3.0,
        refused=refused,
        status_patches=patches,
        cpu_seconds=run.cpu,
        peak_rss_mb=run.peak / 1e6,
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", [100, large(500)])
def test_scaling_up_and_down_with_a_claim_each(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess], size: int
) -> None:
    world.nodes(max(10, size // 20))
    world.storage_class()
    image = "registry.example.com/app"
    flags = ("--claims", "--no-gated")
    best = ideal.measure(world.cluster, "create", "delete", pods=size, budget=size, image=image, flags=flags)
    world.clean()
    observer, manager = watched.observer, launch().wait_leading()
    world.create_set(statefulset("web", 0, gated=False, claims=True, image=f"{image}:v1"))
    observer.until(lambda: rolled_out(observer.set("web")), 30.0, "the empty set is at rest")
    run = Run(world, manager)
    world.cluster.kubectl("scale", "asts/web", f"--replicas={size}")
    asked = world.set("web")
    up, made = run.end(watched, "all pods run", 300.0, lambda: rolled_out(observer.set("web"), asked))
    refused = take_refused(made)
    patches = made.pop(STATUS)
    assert made == {"create pods 201": size, "create persistentvolumeclaims 201": size}, made
    assert patches <= 2 + up / 0.5
    run = Run(world, manager)
    world.cluster.kubectl("scale", "asts/web", "--replicas=0")
    gone = world.set("web")
    down, made = run.end(
        watched, "all pods go", 300.0, lambda: not observer.set_pods("web") and rolled_out(observer.set("web"), gone)
    )
    refused += take_refused(made)
    patches_down = made.pop(STATUS)
    assert made == {"delete pods 200": size}, made
    assert patches_down <= 2 + down / 0.5
    claims = [c for c in observer.all("persistentvolumeclaims") if c["metadata"]["name"].startswith("data-web-")]
    assert len(claims) == size, "claims are kept by default"
    REPORT.add(
        "StatefulSet, scale 0 to N to 0, one claim each",
        pods=size,
        up_seconds=up,
        up_ideal=best[0].seconds,
        down_seconds=down,
        down_ideal=best[1].seconds,
        refused=refused,
        status_patches=patches + patches_down,
        cpu_seconds=run.cpu,
        peak_rss_mb=run.peak / 1e6,
    )
