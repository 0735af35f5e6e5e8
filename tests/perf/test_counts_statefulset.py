"""Rollouts of Advanced StatefulSets in virtual time: their writes, their time over the ideal one, and the status's lag.

The larger ones, and the CPU time, are for ``python -m tests.perf rollout``.
"""

from __future__ import annotations

import math

import pytest

from tests.perf.rollout import LATENCY, Plan, ideally, managed, quantile, scaled
from tests.simulation.set_world import CREATE_POD, CREATE_REVISION, DELETE_POD, PATCH_POD, PATCH_STATUS

WATCH = 0.01
"""The most that news may take from a commit to the controller, and its decision."""


@pytest.mark.parametrize(
    ("pods", "budget", "uneven"),
    [(20, 1, True), (100, 10, False), (100, 10, True), (100, 100, False)],
)
def test_perf52_p1_an_update_in_place_takes_three_writes_a_pod_and_the_ideal_time(
    pods: int, budget: int, uneven: bool
) -> None:
    plan = Plan(pods, budget, uneven=uneven)
    mine, best = managed(plan), ideally(plan)["in-place"]
    assert mine.writes == {PATCH_STATUS: 2 * pods, PATCH_POD: pods, CREATE_REVISION: 1}
    assert mine.status_writes <= 2 + mine.seconds / 0.5
    assert mine.seconds / best <= (1.10 if budget == pods else 1.05)


@pytest.mark.parametrize(("pods", "budget"), [(20, 1), (100, 10), (100, 100)])
def test_perf52_p3_a_recreate_update_takes_three_writes_a_pod_and_the_ideal_time(pods: int, budget: int) -> None:
    plan = Plan(pods, budget, policy="ReCreate")
    mine, best = managed(plan), ideally(plan)["recreate"]
    assert mine.writes == {DELETE_POD: pods, CREATE_POD: pods, PATCH_STATUS: pods, CREATE_REVISION: 1}
    assert mine.status_writes <= 2 + mine.seconds / 0.5
    assert mine.seconds / best <= 1.05


def test_perf52_p4_a_set_that_grows_from_nothing_keeps_no_pod_waiting() -> None:
    ready, (alone,) = scaled(Plan(200, 1)), scaled(Plan(1, 1))
    assert quantile(ready, 0.99) - alone <= 1.0


def test_perf52_p4_a_pod_in_order_follows_the_one_before_it_at_once() -> None:
    pods = 40
    ready, start = scaled(Plan(pods, 1, parallel=False)), ideally(Plan(1, 1))["create"]
    assert ready[-1] / pods - start <= 2 * LATENCY + 2 * WATCH


def test_perf52_p16_many_small_sets_that_roll_together_share_the_time_fairly() -> None:
    sets, plan = 40, Plan(5, 1)
    mine, best = managed(plan, sets=sets), ideally(Plan(sets * plan.pods, sets))["in-place"]
    pods = sets * plan.pods
    assert mine.writes == {PATCH_STATUS: 2 * pods, PATCH_POD: pods, CREATE_REVISION: sets}
    assert mine.status_writes <= sets * (2 + mine.seconds / 0.5)
    assert mine.seconds / best <= 1.1
    assert quantile(mine.ends, 0.99) / quantile(mine.ends, 0.5) <= 1.5


def test_perf52_p17_the_status_follows_the_pods_within_half_a_second_and_the_last_one_at_once() -> None:
    mine = managed(Plan(100, 10, uneven=True))
    assert all(math.isfinite(lag) and lag >= 0 for lag in mine.lags)
    assert quantile(mine.lags, 0.5) <= 0.5
    assert quantile(mine.lags, 0.99) <= 0.6
    assert mine.lags[-1] <= LATENCY + WATCH
    assert mine.status_writes <= 2 + mine.seconds / 0.5
