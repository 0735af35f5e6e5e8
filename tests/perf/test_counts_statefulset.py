"""Rollouts of Advanced StatefulSets in virtual time: their writes, their time over the ideal one, and the status's lag.

The larger ones, and the CPU time, are for ``python -m tests.perf rollout``.
"""

from __future__ import annotations

import math
from itertools import cycle

import orjson
import pytest

from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Chunk, Interceptor, Proceed
from kruise.simulator.faults import LEASES
from tests.perf.rollout import Outcome, Plan, begin, ideally, in_cluster, managed, roll, scaled
from tests.perf.rollout_cluster import LATENCY, quantile
from tests.simulation.set_world import CREATE_POD, CREATE_REVISION, DELETE_POD, PATCH_POD, PATCH_STATUS, SetWorld
from tests.simulation.world import is_manager

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


class Trouble(Interceptor):
    """Refuses each tenth write of the manager, and ends each watch ten seconds after it began."""

    def __init__(self, world: SetWorld) -> None:
        self._clock = world.clock
        self._writes = 0
        self._codes = cycle(((409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError")))
        self.refused = self.ended = 0
        self.on = False

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        ours = self.on and is_manager(call.actor) and call.resource != LEASES
        if ours and call.verb in ("create", "patch", "delete"):
            self._writes += 1
            if self._writes % 10 == 0:
                self.refused += 1
                call.document = orjson.loads(call.body or b"null")
                call.code, reason = next(self._codes)
                body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": call.code}
                return Answer(call.code, orjson.dumps(body), {"content-type": "application/json"})
        return await proceed()

    def chunk(self, call: Call, line: bytes) -> Chunk:
        over = self.on and is_manager(call.actor) and self._clock.now() - call.time > 10.0
        self.ended += over
        return Chunk((line,), end=over)


def test_perf52_p15_errors_and_broken_watches_cost_next_to_no_further_writes() -> None:
    plan = Plan(60, 6, uneven=True)
    found: list[tuple[Outcome, Trouble]] = []

    async def scenario(world: SetWorld) -> None:
        trouble = world.server.faults = Trouble(world)
        watcher = await begin(world, plan)
        before = {pod["metadata"]["uid"] for pod in world.members()}
        trouble.on = True
        found.append((await roll(world, plan, watcher), trouble))
        assert {pod["metadata"]["uid"] for pod in world.members()} == before

    in_cluster(plan, scenario)
    ((mine, trouble),) = found
    assert trouble.refused >= 15
    assert trouble.ended >= 1
    done = sum(count for what, count in mine.writes.items() if not what.endswith(("409", "429", "500")))
    assert 3 * plan.pods + 1 <= done <= 3.1 * plan.pods + 1
