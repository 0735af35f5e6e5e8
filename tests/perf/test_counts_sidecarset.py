"""Upgrades of sidecars in virtual time: their writes, their time over the ideal one, and the status's lag."""

from __future__ import annotations

import math

import pytest

from tests.perf.rollout_cluster import LATENCY, quantile
from tests.perf.rollout_sidecars import Plan, begin, ideally, in_cluster, managed, upgrade
from tests.simulation.sidecar_world import CREATE_REVISION, PATCH_POD, PATCH_STATUS, SidecarWorld

WATCH = 0.01
"""The most that news may take from a commit to the controller, and its decision."""


@pytest.mark.parametrize(
    ("pods", "budget", "uneven"), [(20, 1, True), (100, 10, False), (100, 10, True), (100, 100, False)]
)
def test_perf52_p6_a_cold_upgrade_takes_one_write_a_pod_and_the_ideal_time(
    pods: int, budget: int, uneven: bool
) -> None:
    plan = Plan(pods, budget, uneven=uneven)
    mine, best = managed(plan), ideally(plan)
    assert mine.writes == {CREATE_REVISION: 1, PATCH_POD: pods, PATCH_STATUS: pods}
    assert mine.status_writes <= 2 + mine.seconds / 0.5
    assert mine.seconds / best <= (1.10 if budget == pods else 1.05)


def test_perf52_p6_a_hundred_sets_cost_the_one_that_is_upgraded_nothing() -> None:
    plan = Plan(40, 4)
    alone, among = managed(plan), managed(plan, sets=100)
    assert among.writes == alone.writes
    assert among.seconds == pytest.approx(alone.seconds, abs=0.1)
    assert among.passes <= alone.passes + 5


@pytest.mark.parametrize(("pods", "budget"), [(20, 1), (60, 6)])
def test_perf52_p7_a_hot_upgrade_takes_two_writes_a_pod_and_the_ideal_time(pods: int, budget: int) -> None:
    plan = Plan(pods, budget, hot=True)
    mine, best = managed(plan), ideally(plan)
    assert mine.writes == {CREATE_REVISION: 1, PATCH_POD: 2 * pods, PATCH_STATUS: pods}
    assert mine.status_writes <= 2 + mine.seconds / 0.5
    assert mine.seconds / best <= 1.05


def test_perf52_p17_the_status_follows_the_pods_within_half_a_second_and_the_last_one_at_once() -> None:
    mine = managed(Plan(100, 10, uneven=True))
    assert all(math.isfinite(lag) and lag >= 0 for lag in mine.lags)
    assert quantile(mine.lags, 0.5) <= 0.5
    assert quantile(mine.lags, 0.99) <= 0.6
    assert mine.lags[-1] <= LATENCY + WATCH


def test_perf52_p11_a_storm_of_news_of_which_nothing_follows_begins_no_pass() -> None:
    async def scenario(world: SidecarWorld) -> None:
        plan = Plan(30, 3)
        watcher = await begin(world, plan)
        process, mark = world.processes[-1], world.mark()
        labels = {"controller": "sidecarset-controller", "result": "success"}
        before = process.metric("controller_runtime_reconcile_total", **labels)
        watcher.events = 0
        for number in range(20):
            for pod in range(plan.pods):
                patch = {"metadata": {"annotations": {"seen": str(number)}}}
                world.server.patch("pods", f"shop-{pod}", patch, actor="user")
            await world.sleep(0.05)
        assert watcher.events == 600
        assert process.metric("controller_runtime_reconcile_total", **labels) == before
        assert world.counts(since=mark) == {}
        mine = await upgrade(world, plan, watcher)
        assert mine.writes == {CREATE_REVISION: 1, PATCH_POD: 30, PATCH_STATUS: 30}

    in_cluster(Plan(30, 3), scenario)
