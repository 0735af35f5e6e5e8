"""What one change costs a BroadcastJob, and whether that is the same in a small and in a large cluster.

Targets: a decision for one changed pod 20 us, flat in the number of nodes.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from kruise.apis.broadcastjob import BROADCASTJOBS, BroadcastJob
from kruise.apis.core import NODES, PODS, Node, Pod
from kruise.controllers.broadcastjob.plan import Results, plan, settle
from kruise.controllers.broadcastjob.reconciler import BroadcastJobReconciler
from kruise.controllers.broadcastjob.view import View
from kruise.runtime.cache.store import Change, Store
from kruise.runtime.client.client import Client
from kruise.runtime.client.frames import Codec
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import Request, Response
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, Resource
from tests.perf import samples
from tests.perf.harness import Bench, cpu
from tests.perf.samples import as_bytes

CLUSTERS: Final = (100, 1000, 5000)
CHANGES: Final = 100


def run(bench: Bench) -> None:
    """Measure."""
    for nodes in CLUSTERS:
        _plan(bench, nodes)
        _reconcile(bench, nodes)
    for what in ("plan for one changed pod", "reconcile one changed pod"):
        few, many = (bench.report.units(f"bcj: {what}, {n} nodes") for n in (CLUSTERS[0], CLUSTERS[-1]))
        bench.report.gate(f"bcj: {what}: 5,000 nodes / 100 nodes", many / few, 2.0, "one decision is flat in N")
    for jobs in (1, 100):
        _node_event(bench, jobs)


def _pods(numbers: range, **options: Any) -> list[Pod]:
    codec = Codec(PODS)
    return [codec.decode(as_bytes(samples.pod(n, **options))) for n in numbers]


def _nodes(count: int) -> list[Node]:
    codec = Codec(NODES)
    return [codec.decode(as_bytes(samples.node(n))) for n in range(count)]


def _job(number: int = 0) -> BroadcastJob:
    name = "rollout" if not number else f"rollout-{number}"
    return Codec(BROADCASTJOBS).decode(as_bytes(samples.broadcastjob(name, number=number)))


def _changes(nodes: int) -> list[tuple[Pod, Pod]]:
    """Return for some pods, spread over the cluster, a running and a succeeded version."""
    picked = range(0, nodes, max(1, nodes // CHANGES))
    return list(zip(_pods(picked), _pods(picked, version=900_000, phase="Succeeded"), strict=True))


def _plan(bench: Bench, nodes: int) -> None:
    job = _job()
    view = View.of(job, _nodes(nodes), _pods(range(nodes)))
    changes = _changes(nodes)

    def decide() -> None:
        for before, after in changes:
            for one in (after, before):
                view.set_pod(one.key, one)
                planned = plan(job, view, 1_772_366_400.0)
                settle(job, view, planned, Results(), 1_772_366_400.0)

    bench.time(f"bcj: plan for one changed pod, {nodes} nodes", decide, per=2 * len(changes))


class Answers:
    """A transport that grants every write."""

    def __init__(self) -> None:
        self.sent = 0

    async def request(self, request: Request) -> Response:
        self.sent += 1
        meta = {"name": request.name, "namespace": request.namespace, "uid": samples.JOB_UID, "resourceVersion": "1"}
        body = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
        return Response(200, {"content-type": "application/json"}, as_bytes(body))

    async def stream(self, request: Request) -> Any:
        raise AssertionError("nobody watches here")

    async def close(self) -> None:
        return


class NoEvents:
    """Takes events and forgets them."""

    def event(self, obj: Object, resource: Resource[Any], *, type: str, reason: str, action: str, note: str) -> None:
        return


class World:
    """The production reconciler on real stores, with a server that says yes."""

    def __init__(self, nodes: int, jobs: int) -> None:
        clock, metrics = SystemClock(), Metrics(process=False)
        self.jobs: Store[BroadcastJob] = Store(BROADCASTJOBS, clock=clock)
        self.pods: Store[Pod] = Store(PODS, clock=clock)
        self.nodes: Store[Node] = Store(NODES, clock=clock)
        self.server = Answers()
        rest = Rest(self.server, clock=clock, rng=Random(1), metrics=metrics)
        self.reconcile = BroadcastJobReconciler(
            client=Client(rest, metrics=metrics, clock=clock),
            recorder=NoEvents(),
            jobs=self.jobs,
            pods=self.pods,
            nodes=self.nodes,
            clock=clock,
        )
        for one in _nodes(nodes):
            self.nodes.put(one)
        for number in range(jobs):
            self.jobs.put(_job(number))


def _reconcile(bench: Bench, nodes: int) -> None:
    world = World(nodes, 1)
    for one in _pods(range(nodes)):
        world.pods.put(one)
    key = _job().key
    changes = _changes(nodes)
    asyncio.run(_reconciled(world, key))
    version = 1_000_000

    async def passes() -> float:
        nonlocal version
        spent = 0.0
        for before, after in changes:
            for one in (after, before):
                version += 1
                world.pods.put(Pod(**_with_version(one, version)))
                started = cpu()
                await world.reconcile(key)
                spent += cpu() - started
        return spent

    bench.time_async(f"bcj: reconcile one changed pod, {nodes} nodes", passes, per=2 * len(changes))


async def _reconciled(world: World, key: Any) -> None:
    await world.reconcile(key)


def _with_version(one: Pod, version: int) -> dict[str, Any]:
    fields = {name: getattr(one, name) for name in one.__struct_fields__}
    meta = one.metadata
    values = {name: getattr(meta, name) for name in meta.__struct_fields__} | {"resource_version": str(version)}
    return fields | {"metadata": type(meta)(**values)}


def _node_event(bench: Bench, jobs: int) -> None:
    world = World(100, jobs)
    codec = Codec(NODES)
    quiet = [
        (codec.decode(as_bytes(samples.node(n))), codec.decode(as_bytes(samples.node(n, version=9))))
        for n in range(100)
    ]
    flips = [
        (old, codec.decode(as_bytes(samples.node(n, version=9, cordoned=True)))) for n, (old, _) in enumerate(quiet)
    ]
    word = "1 job" if jobs == 1 else f"{jobs} jobs"
    for name, pairs in (("heartbeat of a node", quiet), ("cordon of a node", flips)):
        made = [Change(old, new) for old, new in pairs]
        bench.time(
            f"bcj: {name}, {word}", lambda m=made: [list(world.reconcile.jobs_of_node(c)) for c in m], per=len(made)
        )
