"""What one change costs an Advanced StatefulSet, and whether that is the same for a small and for a large set.

Targets: a decision for one changed pod is flat in the number of pods (20 us is the aim); a change of the set's spec is
linear, because every pod is judged anew; a pod takes little more in the view than in the cache.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from msgspec.structs import replace

from kruise.apis.core import CLAIMS, PODS, REVISIONS, Claim, ControllerRevision, Pod
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.statefulset.actions import Results
from kruise.controllers.statefulset.observe import CLAIMS_BY_FAMILY, ORPHAN_REVISIONS, ORPHANS, Stores
from kruise.controllers.statefulset.plan import plan, settle
from kruise.controllers.statefulset.reconciler import StatefulSetReconciler
from kruise.controllers.statefulset.view import View
from kruise.runtime.cache.store import Store
from kruise.runtime.client.client import Client
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.metrics import Metrics
from tests.perf import set_samples
from tests.perf.bench_broadcastjob import Answers, NoEvents
from tests.perf.bench_memory import allocated
from tests.perf.harness import Bench, cpu

SIZES: Final = (100, 1000, 10_000)
CHANGES: Final = 100
NOW: Final = 1_772_366_400.0
QUIET: Final = 3600.0
"""Seconds in which a measured view is not made anew to be compared."""

PLAN: Final = "asts: plan for one changed pod"
RECONCILE: Final = "asts: reconcile one changed pod"
SPEC: Final = "asts: change of the template, a pod"


def run(bench: Bench) -> None:
    """Measure."""
    for size in SIZES:
        _decisions(bench, size)
    for what in (PLAN, RECONCILE):
        few, many = (bench.report.units(f"{what}, {size} pods") for size in (SIZES[0], SIZES[-1]))
        bench.report.gate(f"{what}: 10,000 pods / 100 pods", many / few, 2.0, "one decision is flat in N")
    few, many = (bench.report.units(f"{SPEC}, {size} pods") for size in (SIZES[1], SIZES[-1]))
    bench.report.gate(f"{SPEC}: 10,000 pods / 1,000 pods", many / few, 2.0, "a new spec is linear in N")
    _memory(bench)


class World:
    """A set with all of its pods, up to date, and what the production reconciler and planner need to look at it."""

    def __init__(self, size: int) -> None:
        self.sts: StatefulSet = set_samples.statefulset(size)
        self.revision: ControllerRevision = set_samples.revision(self.sts)
        self.pods: list[Pod] = set_samples.pods(range(size))
        self.claims: list[Claim] = set_samples.claims(range(size))
        picked = range(0, size, max(1, size // CHANGES))
        others = set_samples.pods(picked, version=900_000, ready=False)
        self.changes = [(self.pods[n], other) for n, other in zip(picked, others, strict=True)]
        """Of some pods, spread over the set, a ready and an unready version."""
        view = self.view()
        done = settle(view, plan(view, NOW), Results(), NOW).status
        assert done is not None
        assert done.updated_available_replicas == size, "the samples fit together"
        self.sts = replace(self.sts, status=done)

    def view(self) -> View:
        """Return a view of the set."""
        return View.of(self.sts, set_samples.revisions(self.sts, self.revision), self.pods, self.claims)

    def reconciler(self) -> tuple[StatefulSetReconciler, Stores]:
        """Return the production reconciler on stores of its own, with a server that says yes."""
        clock, metrics = SystemClock(), Metrics(process=False)
        stores = Stores(
            sets=Store(STATEFULSETS, clock=clock),
            pods=Store(PODS, clock=clock),
            claims=Store(CLAIMS, clock=clock),
            revisions=Store(REVISIONS, clock=clock),
        )
        stores.pods.add_index(ORPHANS)
        stores.claims.add_index(CLAIMS_BY_FAMILY)
        stores.revisions.add_index(ORPHAN_REVISIONS)
        rest = Rest(Answers(), clock=clock, rng=Random(1), metrics=metrics)
        reconcile = StatefulSetReconciler(
            client=Client(rest, metrics=metrics, clock=clock),
            recorder=NoEvents(),
            stores=stores,
            clock=clock,
            metrics=metrics,
            controller="bench",
            check_every=QUIET,
        )
        stores.sets.put(self.sts)
        stores.revisions.put(self.revision)
        for store, objects in ((stores.pods, self.pods), (stores.claims, self.claims)):
            _fill(store, objects)
        return reconcile, stores


def _fill(store: Store[Any], objects: list[Any]) -> None:
    for one in objects:
        store.put(one)


def _decisions(bench: Bench, size: int) -> None:
    world = World(size)
    _plan(bench, world, size)
    _reconcile(bench, world, size)
    _spec(bench, world, size)


def _plan(bench: Bench, world: World, size: int) -> None:
    view = world.view()

    def decide() -> None:
        for before, after in world.changes:
            for one in (after, before):
                view.set_pod(one.key, one)
                settle(view, plan(view, NOW), Results(), NOW)

    bench.time(f"{PLAN}, {size} pods", decide, per=2 * len(world.changes))


def _reconcile(bench: Bench, world: World, size: int) -> None:
    reconcile, stores = world.reconciler()
    asyncio.run(_once(reconcile, world.sts))
    version = 1_000_000

    async def passes() -> float:
        nonlocal version
        spent = 0.0
        for before, after in world.changes:
            for one in (after, before):
                version += 1
                stores.pods.put(_at(one, version))
                started = cpu()
                await reconcile(world.sts.key)
                spent += cpu() - started
        return spent

    bench.time_async(f"{RECONCILE}, {size} pods", passes, per=2 * len(world.changes))


async def _once(reconcile: StatefulSetReconciler, sts: StatefulSet) -> None:
    await reconcile(sts.key)


def _at(one: Pod, version: int) -> Pod:
    return replace(one, metadata=replace(one.metadata, resource_version=str(version)))


def _spec(bench: Bench, world: World, size: int) -> None:
    """Let the template change and change back: each time every pod is judged anew."""
    view = world.view()
    edited = set_samples.statefulset(size, image=set_samples.OTHER_IMAGE, generation=2)
    newer = set_samples.revisions(edited, world.revision)
    older = set_samples.revisions(world.sts, world.revision)

    def change() -> None:
        for sts, chosen in ((edited, newer), (world.sts, older)):
            view.set_sts(sts, chosen)
            settle(view, plan(view, NOW), Results(), NOW)

    bench.time(f"{SPEC}, {size} pods", change, per=2 * size)


def _memory(bench: Bench) -> None:
    size = 1000
    world = World(size)
    chosen = set_samples.revisions(world.sts, world.revision)
    View.of(world.sts, chosen, world.pods, world.claims)  # what is parsed once is parsed now
    mine = allocated(lambda: View.of(world.sts, chosen, world.pods, world.claims)) / size
    bench.report.add("asts: memory of the view a pod", mine / 1024, "KB", mine, slack=1.25)
