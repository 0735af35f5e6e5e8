"""Large rollouts of Advanced StatefulSets in virtual time: CPU a pod, and time over the ideal one.

Purpose: what ``test_counts_statefulset`` asserts for small sets, for large ones; and what a rollout costs the manager's
process, which counts its own CPU alone (``bench_cluster``). Virtual times repeat exactly, so they are gates.

Targets: 3 writes a pod; time / ideal <= 1.05, <= 1.10 when all pods may go at once; of 1,000 new pods 99 % are ready
within a second of their start; a pod in order adds two requests and two looks; 200 sets at once <= 1.1.
"""

from __future__ import annotations

from typing import Final

from tests.perf.bench_cluster import Meter, ours
from tests.perf.harness import Bench, calibrate, settled
from tests.perf.rollout import Outcome, Plan, begin, ideally, in_cluster, managed, roll, scaled
from tests.perf.rollout_cluster import LATENCY, quantile
from tests.simulation.set_world import SetWorld

PODS: Final = 1000
BUDGETS: Final = (10, 100, 1000)
LARGE: Final = Plan(2000, 200)
SETS: Final = 200
WATCH: Final = 0.01


def run(bench: Bench) -> None:
    """Measure."""
    _cpu(bench)
    for budget in BUDGETS:
        _in_place(bench, Plan(PODS, budget))
    _recreate(bench, Plan(PODS, 100, policy="ReCreate"))
    _growth(bench)
    _many(bench)


def _cpu(bench: Bench) -> None:
    meter = Meter()
    spent: list[float] = []
    mine: list[Outcome] = []

    async def scenario(world: SetWorld) -> None:
        with ours():
            world.start_manager()
        watcher = await begin(world, LARGE)
        with settled():
            before = meter.seconds
            mine.append(await roll(world, LARGE, watcher))
            spent.append((meter.seconds - before) / LARGE.pods)

    with meter.attached():
        in_cluster(LARGE, scenario)
    name = "asts: update of a pod in place, the whole manager"
    bench.report.add(name, spent[0] * 1e6, "us", spent[0] / calibrate(), slack=4.0)
    writes = sum(mine[0].writes.values()) - 1
    bench.report.gate("asts: writes a pod of an update in place, 2,000 pods", writes / LARGE.pods, 3.0, "the minimum")


def _in_place(bench: Bench, plan: Plan) -> None:
    mine, best = managed(plan), ideally(plan)["in-place"]
    what = f"{plan.pods:,} pods, {plan.budget:,} at once"
    bound = 1.10 if plan.pods == plan.budget else 1.05
    bench.report.gate(f"asts: in place, time / ideal, {what}", mine.seconds / best, bound, "nothing waits for us")
    bench.report.gate(f"asts: in place, writes a pod, {what}", (sum(mine.writes.values()) - 1) / plan.pods, 3.0, "P1")
    rest = mine.status_writes - mine.seconds / 0.5
    bench.report.gate(f"asts: in place, status writes beyond two a second, {what}", rest, 2.0, "the first and the last")


def _recreate(bench: Bench, plan: Plan) -> None:
    mine, best = managed(plan), ideally(plan)["recreate"]
    bench.report.gate("asts: recreation, time / ideal, 1,000 pods", mine.seconds / best, 1.05, "nothing waits for us")


def _growth(bench: Bench) -> None:
    (alone,) = scaled(Plan(1, 1))
    late = quantile(scaled(Plan(PODS, 1)), 0.99) - alone
    bench.report.gate("asts: from 0 to 1,000 pods, p99 of ready minus start, s", late, 1.0, "P4")
    pods = 200
    added = scaled(Plan(pods, 1, parallel=False))[-1] / pods - ideally(Plan(1, 1))["create"]
    bench.report.gate("asts: from 0 to 200 pods in order, s a pod", added, 2 * LATENCY + 2 * WATCH, "2R + 2W")


def _many(bench: Bench) -> None:
    """Roll many sets at once: a set that waits for its writes keeps no worker from the others."""
    plan = Plan(5, 1)
    best = ideally(Plan(SETS * plan.pods, SETS))["in-place"]
    for workers, bound in ((3, 1.1), (16, 1.1)):
        mine = managed(plan, sets=SETS, workers=workers)
        what = f"asts: {SETS} sets of 5 pods at once, {workers} workers"
        bench.report.gate(f"{what}, time / ideal", mine.seconds / best, bound, "P16")
        spread = quantile(mine.ends, 0.99) / quantile(mine.ends, 0.5)
        bench.report.gate(f"{what}, p99 / p50 of a set", spread, 1.5, "P16: no set starves")
