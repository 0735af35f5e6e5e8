"""One job on many nodes at once: counts are asserted exactly, times are told."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Watched
from tests.e2e.harness import checks
from tests.e2e.harness.jobs import counts, job, phase
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.world import World

pytestmark = [pytest.mark.real, pytest.mark.slow]

LARGE = os.environ.get("KRUISE_E2E_LARGE") == "1"
SIZES = (
    200,
    pytest.param(1000, marks=pytest.mark.skipif(not LARGE, reason="1,000 nodes: set KRUISE_E2E_LARGE=1")),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("parallelism", ["100%", 10])
def test_a_job_on_many_nodes(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess], size: int, parallelism: int | str
) -> None:
    if size > 200 and parallelism != "100%":
        pytest.skip("ten at a time on 1,000 nodes are minutes of waiting for pods")
    world.nodes(size)
    observer, manager = watched.observer, launch().wait_leading()
    mark, before = world.cluster.audit.mark(), manager.usage()
    simulators, began = world.control("GET", "/status")["cpu_seconds"], time.monotonic()
    world.create(job("sweep", run=2, parallelism=parallelism))
    observer.until(lambda: phase(observer.job("sweep")) == "completed", 540.0, "the job completes")
    seconds, after = time.monotonic() - began, manager.usage()
    simulators = world.control("GET", "/status")["cpu_seconds"] - simulators
    assert counts(observer.job("sweep")) == (size, 0, size, 0)

    made = checks.tally(checks.writes(world.cluster.audit, mark))
    patches = made.pop("patch broadcastjobs/status 200")
    assert made == {"create pods 201": size}, made
    assert patches <= 2 + seconds / 0.5, f"{patches} status patches in {seconds:.1f} s"
    cpu = after.cpu - before.cpu
    REPORT.add(
        "BroadcastJob, pods of 2 s",
        nodes=size,
        parallelism=parallelism,
        loop="uvloop",
        seconds=seconds,
        cpu_seconds=cpu,
        cpu_ms_per_pod=cpu * 1000 / size,
        peak_rss_mb=after.peak_rss / 1e6,
        pod_creates=size,
        status_patches=patches,
        conflicts=0,
        simulator_cpu=simulators,
    )
