"""Large upgrades of sidecars in virtual time, and what one changed pod costs: P6, P7 and P12 for SidecarSet.

Purpose: what ``test_counts_sidecarset`` asserts for small sets, for large ones; and what an upgrade costs the manager's
process, which counts its own CPU alone (``bench_cluster``). Virtual times repeat exactly, so they are gates.

Targets: 1 write a pod and 1 more the first time, 2 and 1 when hot; time / ideal <= 1.05; a changed pod costs the same
with 100 and with 10,000 pods, and a foreign one a few microseconds with any number of sets.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
import orjson

from kruise.apis.core import PODS, Pod
from kruise.runtime.cache.store import Change
from kruise.runtime.client.frames import Codec
from tests.perf.bench_cluster import Meter, ours
from tests.perf.harness import Bench, calibrate, settled
from tests.perf.rollout_sidecars import Outcome, Plan, begin, ideally, in_cluster, managed, upgrade
from tests.simulation.sidecar_objects import injected, pod_body
from tests.simulation.sidecar_world import SidecarWorld
from tests.unit.controllers.scs_bench import Bench as SetBench
from tests.unit.controllers.scs_bench import bench as on_a_bench

PODS_OF_ONE: Final = 1000
LARGE: Final = Plan(1000, 100)
SIZES: Final = (100, 1000, 10_000)
SETS: Final = 100
ROUNDS: Final = 200
CALLS: Final = 20_000


def run(bench: Bench) -> None:
    """Measure."""
    for size in SIZES:
        _events(bench, size)
    _cpu(bench)
    for budget in (10, 50):
        _upgrade(bench, Plan(PODS_OF_ONE, budget), 1.0 + 1.0)
    _upgrade(bench, Plan(200, 20, hot=True), 2.0 + 1.0)


def _upgrade(bench: Bench, plan: Plan, writes: float) -> None:
    mine, best = managed(plan), ideally(plan)
    what = f"{'hot' if plan.hot else 'cold'}, {plan.pods:,} pods, {plan.budget:,} at once"
    bench.report.gate(f"scs: {what}, time / ideal", mine.seconds / best, 1.05, "nothing waits for us")
    bench.report.gate(
        f"scs: {what}, writes a pod", (sum(mine.writes.values()) - 1) / plan.pods, writes, "the first time"
    )
    rest = mine.status_writes - mine.seconds / 0.5
    bench.report.gate(f"scs: {what}, status writes beyond two a second", rest, 2.0, "the first and the last")


def _cpu(bench: Bench) -> None:
    meter = Meter()
    spent: list[float] = []
    mine: list[Outcome] = []

    async def scenario(world: SidecarWorld) -> None:
        with ours():
            watcher = await begin(world, LARGE)
        with settled():
            before = meter.seconds
            mine.append(await upgrade(world, LARGE, watcher))
            spent.append((meter.seconds - before) / LARGE.pods)

    with meter.attached():
        in_cluster(LARGE, scenario)
    bench.report.add(
        "scs: upgrade of a pod, the whole manager", spent[0] * 1e6, "us", spent[0] / calibrate(), slack=4.0
    )


def _events(bench: Bench, size: int) -> None:
    """One set with *size* pods among many sets: a changed pod, and one that no set wants."""
    found: dict[str, float] = {}

    async def scenario(b: SetBench) -> None:
        for number in range(SETS):
            b.create(f"other-{number}", selector={"matchLabels": {"app": f"other-{number}"}})
        b.create()
        b.sync()
        codec = Codec(PODS)
        sound = injected(b.server, pod_body("shop-0"), b.clock.now())
        for number in range(size):
            b.stores.pods.put(_read(codec, sound, f"shop-{number}", number + 10))
        for _ in range(3):
            b.sync(pods=False)
            await b.once(sync=False)
            await b.clock.sleep(1)
        versions = [_read(codec, sound, "shop-7", size + 100 + turn, ready=bool(turn % 2)) for turn in range(ROUNDS)]
        with settled():
            began = time.process_time()
            for pod in versions:
                for news in b.stores.pods.put(pod):
                    b.reconciler.sets_of_pod(news)
                await b.once(sync=False)
            found["changed"] = (time.process_time() - began) / ROUNDS
            foreign = pod_body("foreign", labels={"app": "foreign", "tier": "web", "team": "a", "hash": "7"})
            pod = codec.decode(orjson.dumps(foreign))
            change: Change[Any] = Change(pod, pod)
            observer, sets_of_pod = b.reconciler.observer, b.reconciler.sets_of_pod
            began = time.process_time()
            for _ in range(CALLS):
                observer._pod_changed(pod, pod)
                sets_of_pod(change)
            found["foreign"] = (time.process_time() - began) / CALLS

    on_a_bench(scenario)
    unit = calibrate()
    for name, what in (("changed", "reconcile one changed pod"), ("foreign", "a pod that no set wants")):
        bench.report.add(f"scs: {what}, {size} pods", found[name] * 1e6, "us", found[name] / unit)


def _read(codec: Codec[Pod], sound: dict[str, Any], name: str, version: int, *, ready: bool = True) -> Pod:
    pod = codec.decode(orjson.dumps({**sound, "status": _status(ready=ready)}))
    meta = msgspec.structs.replace(pod.metadata, name=name, uid=f"uid-{name}", resource_version=str(version))
    return msgspec.structs.replace(pod, metadata=meta)


def _status(*, ready: bool) -> dict[str, Any]:
    return {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}
