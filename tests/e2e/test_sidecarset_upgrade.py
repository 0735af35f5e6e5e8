"""Upgrades of sidecars in running pods: writes are asserted exactly, times are told beside those of nobody deciding.

The application is never touched: its container has the same run before and after.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Watched
from tests.e2e.harness import checks, ideal
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.sidecars import (
    application,
    containers,
    deployment,
    image_patch,
    pod,
    settled,
    sidecar,
    sidecarset,
    working,
)
from tests.e2e.harness.webhooks import load, review
from tests.e2e.harness.world import World

pytestmark = [pytest.mark.real, pytest.mark.slow]

LARGE = os.environ.get("KRUISE_E2E_LARGE") == "1"
STATUS = "patch sidecarsets/status 200"
IMAGE = "sim.kruise.io/start-2s"
"""An image whose containers take two seconds to start."""


def large(*values: object) -> object:
    """Return parameters of a run that takes minutes."""
    return pytest.param(*values, marks=pytest.mark.skipif(not LARGE, reason="set KRUISE_E2E_LARGE=1"))


class Step:
    """One change of a set, measured."""

    def __init__(self, world: World, watched: Watched, manager: ManagerProcess) -> None:
        self._world = world
        self._watched = watched
        self._manager = manager
        self._mark = world.cluster.audit.mark()
        self._before = manager.usage()
        self._began = time.monotonic()
        self.seconds = self.cpu = 0.0
        self.refused = self.status_patches = 0

    def end(self, done: Callable[[], object], what: str, timeout: float = 600.0) -> Counter[str]:
        """Wait until *done*; return the writes without status and refusals, of which none may be of our own making."""
        self._watched.observer.until(done, timeout, what)
        self.seconds = time.monotonic() - self._began
        self.cpu = self._manager.usage().cpu - self._before.cpu
        time.sleep(1.0)  # the last status may stand in the log a moment later
        audit = self._world.cluster.audit
        assert checks.own_conflicts(audit, self._mark) == []
        made = checks.tally(checks.writes(audit, self._mark))
        self.refused = sum(made.pop(name) for name in list(made) if name.endswith((" 409", " 422")))
        self.status_patches = made.pop(STATUS, 0)
        assert self.status_patches <= 2 + self.seconds / 0.5, f"{self.status_patches} in {self.seconds:.1f} s"
        return made


def start(world: World, watched: Watched, size: int, budget: int, *, hot: bool = False) -> None:
    """Create a set and a Deployment of *size* pods; return when all have their sidecar and are ready."""
    world.create_sidecarset(sidecarset("mesh", sidecar(image=f"{IMAGE}:v1", hot=hot), budget=budget))
    observer = watched.observer
    observer.until(lambda: settled(observer.sidecarset("mesh"), 0), 30.0, "the empty set is at rest")
    mark, began = world.cluster.audit.mark(), time.monotonic()
    world.start_workload(deployment("web", size))
    observer.until(lambda: settled(observer.sidecarset("mesh"), size), 300.0, "all pods run with their sidecar")
    seconds = time.monotonic() - began
    time.sleep(1.0)
    made = checks.tally(checks.writes(world.cluster.audit, mark))
    patches = made.pop(STATUS)
    assert not made, f"0 API requests for an injection: {made}"
    assert patches <= 2 + seconds / 0.5


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("size", "percent"), [(100, 10), large(200, 100), large(1000, 10)])
def test_a_cold_upgrade_costs_one_patch_a_pod_and_little_more_time_than_nobody_deciding(
    world: World, watched: Watched, hooked: Callable[..., ManagerProcess], size: int, percent: int
) -> None:
    world.nodes(max(10, size // 20))
    budget = size * percent // 100
    best = ideal.measure(
        world.cluster, "create", "cold", "delete", pods=size, budget=budget, image=IMAGE, driver="ideal_sidecars"
    )
    observer, manager = watched.observer, hooked().wait_leading()
    start(world, watched, size, budget)
    before = application(observer.pods_of("web"))
    refused = 0
    for version, condition in (("v2", size), ("v3", 0)):
        step = Step(world, watched, manager)
        asked = world.patch_sidecarset("mesh", image_patch(f"{IMAGE}:{version}"))
        made = step.end(lambda asked=asked: settled(observer.sidecarset("mesh"), size, asked), "all pods are upgraded")
        wanted = {"create controllerrevisions 201": 1, "patch pods 200": size, "patch pods/status 200": condition}
        assert made == +Counter(wanted), f"one write a pod, and a condition the first time: {made}"
        refused += step.refused
        assert application(observer.pods_of("web")) == before, "an application was touched"
        REPORT.add(
            "SidecarSet, cold upgrade, 2 s to start a container",
            pods=size,
            unavailable=f"{percent}%",
            first="yes" if condition else "no",
            seconds=step.seconds,
            ideal=best[1].seconds,
            ratio=step.seconds / best[1].seconds,
            pod_writes=(made["patch pods 200"] + made["patch pods/status 200"]) / size,
            refused=step.refused,
            status_patches=step.status_patches,
            cpu_seconds=step.cpu,
            cpu_ms_per_pod=step.cpu * 1000 / size,
            peak_rss_mb=manager.usage().peak_rss / 1e6,
        )
        if not LARGE or size > 100:
            break  # the second time differs by the condition alone


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("size", "percent"), [(10, 50), large(100, 10)])
def test_a_hot_upgrade_is_two_writes_a_pod(
    world: World, watched: Watched, hooked: Callable[..., ManagerProcess], size: int, percent: int
) -> None:
    world.nodes(10)
    budget = size * percent // 100
    best = ideal.measure(
        world.cluster, "create", "hot", "delete", pods=size, budget=budget, image=IMAGE, driver="ideal_sidecars"
    )
    observer, manager = watched.observer, hooked().wait_leading()
    start(world, watched, size, budget, hot=True)
    pods = observer.pods_of("web")
    assert all(containers(one) == ["mesh-1", "mesh-2", "main"] for one in pods)
    before = application(pods)
    for version, condition, serves in (("v2", size, "mesh-2"), ("v3", 0, "mesh-1")):
        step = Step(world, watched, manager)
        asked = world.patch_sidecarset("mesh", image_patch(f"{IMAGE}:{version}"))
        made = step.end(lambda asked=asked: settled(observer.sidecarset("mesh"), size, asked), "all pods are upgraded")
        wanted = {"create controllerrevisions 201": 1, "patch pods 200": 2 * size, "patch pods/status 200": condition}
        assert made == +Counter(wanted), f"the new twin, and the old one emptied: {made}"
        pods = observer.pods_of("web")
        assert all(working(one) == {"mesh": serves} for one in pods)
        assert application(pods) == before, "an application was touched"
        REPORT.add(
            "SidecarSet, hot upgrade, 2 s to start a container",
            pods=size,
            unavailable=f"{percent}%",
            first="yes" if condition else "no",
            seconds=step.seconds,
            ideal=best[1].seconds,
            ratio=step.seconds / best[1].seconds,
            pod_writes=(made["patch pods 200"] + made["patch pods/status 200"]) / size,
            refused=step.refused,
            status_patches=step.status_patches,
            cpu_seconds=step.cpu,
        )


@pytest.mark.skipif(not LARGE, reason="set KRUISE_E2E_LARGE=1")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sets", [1, 100])
def test_admission_while_five_hundred_pods_roll(
    world: World, watched: Watched, hooked: Callable[..., ManagerProcess], sets: int
) -> None:
    """What a client of the webhook waits, before and while the same manager upgrades 500 pods; 10 % at a time."""
    world.nodes(25)
    observer, manager = watched.observer, hooked().wait_leading()
    for number in range(1, sets):
        world.create_sidecarset(sidecarset(f"other-{number}", sidecar(f"other-{number}"), app=f"other-{number}"))
    start(world, watched, 500, 50)
    body = json.dumps(review(pod("measured"))).encode()
    asked = None
    for what in ("idle", "while 500 pods are upgraded"):
        if what != "idle":
            asked = world.patch_sidecarset("mesh", image_patch(f"{IMAGE}:v2"))
        for threads in (1, 4, 16):
            before = manager.usage().cpu
            found = load(manager.webhook_port, body, at_once=threads, requests=2000)
            cpu = manager.usage().cpu - before
            REPORT.add(
                "SidecarSet, one injection over TLS",
                sets=sets,
                manager=what,
                at_once=threads,
                p50_ms=found["p50"] * 1e3,
                p99_ms=found["p99"] * 1e3,
                worst_ms=found["worst"] * 1e3,
                requests_per_second=2000 / found["seconds"],
                per_core=2000 / cpu,
            )
        if asked is not None:
            assert not settled(observer.sidecarset("mesh"), 500, asked), "it was over before the measurement"
    observer.until(lambda: settled(observer.sidecarset("mesh"), 500, asked), 300.0, "all pods are upgraded")
