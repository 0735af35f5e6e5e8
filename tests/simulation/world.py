"""A cluster in memory, in virtual time: the base of every simulation.

The production manager, unchanged, runs against the embedded API server, with a scheduler, a garbage collector and
simulated nodes around it. The write guard and the invariant checkers look on from the first request to the last.

    def test_something() -> None:
        async def scenario(world: World) -> None:
            manager = world.start_manager()
            world.create_job("sweep", run="2s")
            await world.until(lambda: world.phase("sweep") == "completed")
            assert world.counts() == {"create pods": 5, "patch broadcastjobs.apps.kruise.io/status": 2}

        simulate(scenario, nodes=5)

:func:`simulate` ends with :meth:`World.rest`: nothing may be left to do, and no invariant may be broken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.controllers.broadcastjob.setup import setup
from kruise.runtime.client.guard import WriteGuard
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import chain
from kruise.runtime.clock import Random
from kruise.runtime.controller import Controller
from kruise.runtime.errors import RuntimeFault
from kruise.runtime.manager.manager import Manager
from kruise.runtime.manager.metrics_server import MetricsOptions
from kruise.runtime.manager.options import ManagerOptions
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from kruise.simulator import builtin, node_objects
from kruise.simulator.apiserver.call import Call, counted
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.transport import InProcessTransport
from kruise.simulator.embedded import read_definitions
from kruise.simulator.invariants import Attached, Quiet, standard
from kruise.simulator.node_agent import NodeAgent
from kruise.simulator.node_objects import NodeShape

Body = dict[str, Any]
Scenario = Callable[["World"], Awaitable[None]]

NAMESPACE: Final = "default"
JOBS: Final = str(BROADCASTJOBS)
STATUS: Final = f"patch {JOBS}/status"
CREATE: Final = "create pods"
DELETE: Final = "delete pods"
DELETE_JOB: Final = f"delete {JOBS}"
MANAGER: Final = "kruise-manager"
CRDS: Final = Path(__file__).parents[2] / "config" / "crd" / "bases"


@cache
def definitions() -> tuple[Body, ...]:
    """Return the CustomResourceDefinitions that the project ships."""
    return tuple(read_definitions(CRDS))


class Process:
    """One manager process: it can be stopped as a deployment does it, or crash."""

    def __init__(self, world: World, name: str, **options: Any) -> None:
        self.name = name
        self._world = world
        self.guard = WriteGuard(dry_run=options.get("dry_run", False))
        self.transport: InProcessTransport = world.server.transport(f"{MANAGER} {name}", latency=world.latency)
        settings: dict[str, Any] = {
            "metrics": MetricsOptions("0"),
            "health_address": "0",
            "freeze_heap": False,
            "identity": name,
            **options,
        }
        by_scheduler = settings.pop("by_scheduler", True)
        workers = settings.pop("workers", 3)
        build: Callable[[Manager], Controller] | None = settings.pop("build", None)
        self.manager = Manager(
            chain(self.transport, [self.guard]),
            ManagerOptions(**settings),
            clock=world.clock,
            rng=Random(world.rng.getrandbits(32)),
            metrics=Metrics(process=False),
        )
        self.controller: Controller = (
            build(self.manager)
            if build is not None
            else setup(self.manager, workers=workers, by_scheduler=by_scheduler)
        )
        self.task = world.tasks.create_task(self._run(), name=f"manager {name}")
        self.error: Exception | None = None
        """What ended it, if it was not asked to end."""

    async def _run(self) -> None:
        try:
            await self.manager.run()
        except RuntimeFault as error:
            self.error = error

    @property
    def running(self) -> bool:
        return not self.task.done()

    async def stop(self) -> None:
        """End it in order: the lease is released."""
        self.manager.stop()
        await self.task

    def crash(self) -> None:
        """End it as SIGKILL does: nothing that it sends from now on arrives, and no answer comes back."""
        self.transport.cut("the process was killed")
        self.task.cancel()

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric, 0 when it is not there."""
        return self.manager.metrics.registry.get_sample_value(name, labels) or 0.0


class World:
    """The cluster. Make one with :func:`simulate`."""

    def __init__(self, clock: VirtualClock, tasks: asyncio.TaskGroup, *, seed: int, latency: float) -> None:
        self.clock = clock
        self.tasks = tasks
        self.rng = Random(seed)
        self.latency = latency
        """Seconds of a request of the manager and its answer together."""
        self.server = ApiServer(clock, Random(seed + 1))
        self.server.ensure_namespace("kruise-system")
        for definition in definitions():
            self.server.create("customresourcedefinitions.apiextensions.k8s.io", definition)
        self.server.log.clear()
        self.processes: list[Process] = []
        self.quiet = Quiet(is_manager)
        self.checks: Attached = standard(self.server, manager=is_manager, fits=fits)
        self.checks.suite.checkers = [*self.checks.suite.checkers, self.quiet]
        rest = Rest(self.server.transport("nodes"), clock=clock, rng=Random(seed + 2), metrics=Metrics(process=False))
        self.agent = NodeAgent(
            rest,
            clock=clock,
            rng=Random(seed + 3),
            metrics=Metrics(process=False),
            shape=NodeShape(),
            lease_seconds=3600,  # nobody watches the leases of nodes here
        )
        self.scheduler = builtin.Scheduler(self.server, delay=0.005)
        self._actors: list[asyncio.Task[None]] = []
        self._names = 0

    async def begin(self, nodes: int) -> None:
        """Start the cluster."""
        for actor in (
            self.scheduler,
            builtin.GarbageCollector(self.server, delay=0.01),
            builtin.NamespaceController(self.server, delay=0.01),
        ):
            self._actors.append(self.tasks.create_task(actor.run(), name=actor.name))
        self._actors.append(self.tasks.create_task(self.agent.run(), name="nodes"))
        await self.add_nodes(*(f"node-{number}" for number in range(nodes)))

    async def end(self) -> None:
        """Stop everything."""
        for process in self.processes:
            if process.running:
                await process.stop()
        for actor in self._actors:
            actor.cancel()

    # The manager.

    def start_manager(self, **options: Any) -> Process:
        """Start a manager process. *options* are those of ManagerOptions, and workers, by_scheduler and build.

        *build* makes another controller than that of BroadcastJobs, the one that such a process has.
        """
        self._names += 1
        process = Process(self, f"m{self._names}", **options)
        self.processes.append(process)
        return process

    @property
    def leader(self) -> Process | None:
        """The process that leads, if one does."""
        return next((p for p in self.processes if p.running and p.manager.leading), None)

    async def started(self) -> Process:
        """Start a manager process and wait until it leads and its workers run."""
        process = self.start_manager()
        await self.until(lambda: process.manager.leading and process.controller.took_over is not None)
        return process

    # Nodes.

    async def add_nodes(self, *names: str, annotations: dict[str, str] | None = None) -> None:
        await self.agent.keeper.register(list(names), annotations=annotations)

    def cordon(self, name: str, on: bool = True) -> None:
        self.server.patch("nodes", name, {"spec": {"unschedulable": on or None}}, actor="user")

    def delete_node(self, name: str) -> None:
        self.server.delete("nodes", name, actor="user")

    # Jobs and pods.

    def create_job(
        self,
        name: str,
        *,
        run: str = "1s",
        exit_code: int = 0,
        restart_policy: str = "Never",
        template: Body | None = None,
        **spec: Any,
    ) -> Body:
        """Create a job whose pods run for *run* and end with *exit_code*. *spec* has the other fields."""
        image = f"sim.kruise.io/run-{run}" + (f"-exit-{exit_code}" if exit_code else "") + ":v1"
        pod: Body = template or {
            "metadata": {"labels": {"app": name}},
            "spec": {"restartPolicy": restart_policy, "containers": [{"name": "main", "image": image}]},
        }
        body = {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"template": pod, **spec}}
        return self.server.create(JOBS, body, actor="user")

    def edit_job(self, name: str, **spec: Any) -> Body:
        return self.server.patch(JOBS, name, {"spec": spec}, actor="user")

    def job(self, name: str) -> Body:
        """Return a job. Raises AssertionError when it is not there."""
        found = self.server.get(JOBS, name)
        assert found is not None, f"no job {name}"
        return found

    def gone(self, name: str) -> bool:
        return self.server.get(JOBS, name) is None

    def status(self, name: str) -> Body:
        found: Body = self.job(name).get("status") or {}
        return found

    def phase(self, name: str) -> str:
        return str(self.status(name).get("phase") or "")

    def condition(self, name: str, kind: str) -> Body:
        """Return a condition of a job, empty when it has none of that type."""
        return next((c for c in self.status(name).get("conditions") or () if c["type"] == kind), {})

    def totals(self, name: str) -> tuple[int, int, int, int]:
        """Return desired, active, succeeded, failed."""
        status = self.status(name)
        return (status["desired"], status["active"], status["succeeded"], status["failed"])

    def pods(self, job: str | None = None, *, phase: str | None = None) -> list[Body]:
        """Return the pods of a job, or all, by name."""
        labels = {"broadcastjob-name": job} if job is not None else None
        found = self.server.list("pods", NAMESPACE, labels=labels)
        return [p for p in found if phase is None or (p.get("status") or {}).get("phase") == phase]

    def active(self, job: str) -> int:
        """Return how many pods of a job are neither finished nor being deleted."""
        return sum(
            1
            for p in self.pods(job)
            if (p.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            and not p["metadata"].get("deletionTimestamp")
        )

    def events(self, reason: str) -> list[Body]:
        """Return the Event objects with a reason."""
        return [e for e in self.server.list("events.events.k8s.io") if e["reason"] == reason]

    # Looking.

    async def until(self, condition: Callable[[], object], timeout: float = 120.0, every: float = 0.01) -> None:
        """Wait for *condition*. Raises AssertionError after *timeout* virtual seconds."""
        await eventually(condition, self.clock, timeout, every=every)

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)

    def writes(self, *, since: int = 0) -> list[Call]:
        """Return the writes of all managers, Events and Leases left out, from the place *since* of the log on."""
        return [c for c in self.server.log.writes(actor=MANAGER) if c.ordinal > since]

    def mark(self) -> int:
        """Return the present place of the log."""
        return self.server.log.calls[-1].ordinal if len(self.server.log) else 0

    def counts(self, *, since: int = 0) -> dict[str, int]:
        """Return how often the managers sent each write: ``{"create pods": 5}``. A refused one says its code."""
        return counted(self.writes(since=since))

    # The end.

    async def rest(self, seconds: float = 600.0, *, settle: float = 480.0) -> None:
        """Let time pass; a manager at rest writes nothing and lists nothing. Then check every invariant (G5).

        Event series end six minutes after their last event, so the quiet begins *settle* seconds from now.
        """
        await self.sleep(settle)
        self.checks.drain()
        self.quiet.begin()
        await self.sleep(seconds)
        self.checks.finish()
        for process in self.processes:
            process.guard.assert_clean()
            if process.running:
                stats = process.controller.queue.stats()
                assert (stats.ready, stats.gated, stats.running) == (0, 0, 0), stats


def is_manager(actor: str) -> bool:
    """Tell whether a request is one of ours."""
    return actor.startswith(MANAGER)


def fits(job: Body, node: Body) -> bool:
    """Tell whether the pods of a job may run on a node, by the simulated scheduler's rules and not by ours."""
    return builtin.fits({"spec": job["spec"]["template"].get("spec") or {}}, node)


@contextlib.asynccontextmanager
async def opened(clock: VirtualClock, *, nodes: int, seed: int = 0, latency: float = 0.002) -> AsyncIterator[World]:
    """Open a cluster; everything in it ends with the context."""
    async with asyncio.TaskGroup() as tasks:
        world = World(clock, tasks, seed=seed, latency=latency)
        await world.begin(nodes)
        try:
            yield world
        finally:
            await world.end()


def template_of(image: str, **spec: Any) -> dict[str, Any]:
    """Return a pod template whose container runs *image*."""
    return {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": f"sim.kruise.io/{image}:v1"}], **spec}
    }


def ended(world: World, name: str = "sweep") -> bool:
    """Tell whether a job is gone or has come to its end."""
    return world.gone(name) or world.phase(name) in ("completed", "failed")


def simulate(
    scenario: Scenario,
    *,
    nodes: int = 5,
    seed: int = 0,
    pick: Literal["fifo", "random"] = "fifo",
    latency: float = 0.002,
    rest: float | None = 600.0,
) -> None:
    """Run *scenario* on a cluster of *nodes*, and let it come to rest, unless *rest* is None."""

    async def main(clock: VirtualClock) -> None:
        async with opened(clock, nodes=nodes, seed=seed, latency=latency) as world:
            await scenario(world)
            if rest is not None:
                await world.rest(rest)

    run_virtual(main, seed=seed, pick=pick, timeout=400_000.0)


__all__ = [
    "CREATE",
    "DELETE",
    "DELETE_JOB",
    "STATUS",
    "Process",
    "World",
    "node_objects",
    "opened",
    "simulate",
]
