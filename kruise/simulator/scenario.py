"""One scenario: a workload, a plan of faults and a tape, run to its end and judged.

Purpose: the unit of a campaign. The production manager runs in it unchanged.

Guarantees (``reliability.md`` 6.1, 6.4, 6.6):

* TST5: two phases. While faults strike, the invariants are checked at every commit; then nothing goes wrong any more,
  and the workload must come to its end within a bounded time (L1, L2), the same end as without faults.
* G5: after that, ten virtual minutes pass in which our managers write nothing but the lease, list nothing, and meet no
  error; all queues are empty.
* CLK4: the same workload, plan and tape give the same history, byte for byte.
* Whatever the code under test or the harness raises is a failed scenario, never a lost one.

What this does not do: it draws nothing but through the tape, and it reports by its return value alone.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kruise.runtime.testing.loop import HarnessError, VirtualClock, run_virtual
from kruise.runtime.testing.tape import Tape
from kruise.simulator import builtin
from kruise.simulator.faults import NO_FAULT, Plan, draw_plan
from kruise.simulator.history import Artefact
from kruise.simulator.invariants import Attached, Quiet, standard
from kruise.simulator.scenario_catalogue import WORKLOADS, Workload
from kruise.simulator.scenario_checks import Counted
from kruise.simulator.scenario_world import JOBS, MANAGER, Body, Cluster, Product, Replica

FAULTS_FOR: Final = 60.0
"""Seconds after the script at which nothing goes wrong any more."""
BOUND: Final = 1_500.0
"""Seconds within which the workload must be done after that: two of the longest back-offs and a watch to its end."""
SETTLE: Final = 480.0
"""Seconds until the quiet: event series end six minutes after their last event."""
QUIET: Final = 600.0
SLACK: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a scenario."""

    workload: str
    seed: int
    plan: Plan
    tape: tuple[int, ...]
    error: str = ""
    """Every violation, or what was raised. Empty: it survived."""
    digest: str = ""
    outcome: dict[str, Any] = field(default_factory=dict)
    creations: dict[str, int] = field(default_factory=dict)
    """How many pods were created per job and node."""
    struck: dict[str, int] = field(default_factory=dict)
    """How often each fault struck."""
    seconds: float = 0.0
    """Virtual time."""
    steps: int = 0
    writes: int = 0
    history: str = ""

    @property
    def survived(self) -> bool:
        return not self.error

    def artefact(self, version: str = "") -> Artefact:
        """Return what replays this run."""
        return Artefact(
            workload=self.workload,
            plan=self.plan,
            tape=self.tape,
            seed=self.seed,
            version=version,
            error=self.error,
            digest=self.digest,
        )


def is_manager(actor: str) -> bool:
    """Tell whether a request is one of ours."""
    return actor.startswith(MANAGER)


def fits(job: Body, node: Body) -> bool:
    """Tell whether the pods of a job may run on a node, by the simulated scheduler's rules and not by ours."""
    return builtin.fits({"spec": job["spec"]["template"].get("spec") or {}}, node)


def draw(seed: int, workloads: Sequence[Workload] = ()) -> tuple[Workload, Plan, Tape]:
    """Return the workload and the plan of *seed*, and the tape that goes on after them."""
    tape = Tape(seed)
    chosen = tape.pick(workloads or tuple(WORKLOADS.values()))
    plan = draw_plan(tape, writes=chosen.writes, pods=chosen.pods, webhooks=chosen.webhooks)
    tape.drawn.clear()  # the rest is what a replay needs beside the plan
    return chosen, plan, tape


def run_seed(product: Product, seed: int, *, workload: str = "", history: bool = False) -> Result:
    """Run the scenario of *seed*; with *workload* the same draws for that one."""
    chosen, plan, tape = draw(seed, (WORKLOADS[workload],) if workload else ())
    return judge(product, chosen, plan, tape, seed=seed, history=history)


def replay(product: Product, artefact: Artefact, *, history: bool = True) -> Result:
    """Run what an artefact describes."""
    tape = Tape(artefact.seed, replay=artefact.tape)
    return judge(product, WORKLOADS[artefact.workload], artefact.plan, tape, seed=artefact.seed, history=history)


def judge(
    product: Product, workload: Workload, plan: Plan, tape: Tape, *, seed: int = 0, history: bool = False
) -> Result:
    """Run a scenario, and compare its end with that of the run without faults."""
    result = run(product, workload, plan, tape, seed=seed, history=history)
    if result.error or plan == NO_FAULT:
        return result
    expected = reference(product, workload.name)
    wrong = []
    if expected.error:
        wrong.append(f"the run without faults fails: {expected.error}")
    if result.outcome != expected.outcome:
        wrong.append(f"it ends as {result.outcome}, and without faults as {expected.outcome}")
    if workload.once and any(count > 1 for count in result.creations.values()):
        wrong.append(f"B2: pods were created more than once: {result.creations}")
    if wrong:
        return replace(result, error="\n".join(wrong))
    return result


class References:
    """The runs without faults. Each is made once per product; a subclass may know where one has been made already."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], Result] = {}
        """(identity of the builder, workload) -> its run."""

    def get(self, product: Product, name: str) -> Result:
        """Return the run of the workload *name*."""
        key = (id(product.build), name)
        if key not in self._found:
            self._found[key] = self.make(product, name)
        return self._found[key]

    def make(self, product: Product, name: str) -> Result:
        """Run it."""
        return run(product, WORKLOADS[name], NO_FAULT, Tape(0))


REFERENCES = References()


def reference(product: Product, name: str) -> Result:
    """Return the run of a workload without faults; it is made once per product."""
    return REFERENCES.get(product, name)


def run(
    product: Product, workload: Workload, plan: Plan, tape: Tape, *, seed: int = 0, history: bool = False
) -> Result:
    """Run one scenario."""
    scene = _Scene(product, workload, plan, tape)
    error = ""
    try:
        run_virtual(scene.main, seed=seed, tape=tape if plan.shuffled else None, timeout=20_000.0)
    except (Exception, BaseExceptionGroup, HarnessError) as problem:  # noqa: BLE001 - whatever it is, it is the result
        error = "".join(traceback.format_exception(problem))[-6000:]
    return scene.result(seed, error, history=history)


class _Scene:
    def __init__(self, product: Product, workload: Workload, plan: Plan, tape: Tape) -> None:
        self._product = product
        self._workload = workload
        self._plan = plan
        self._tape = tape
        self._cluster: Cluster | None = None
        self._outcome: dict[str, Any] = {}
        self._problems: list[str] = []

    async def main(self, clock: VirtualClock) -> None:
        async with asyncio.TaskGroup() as tasks:
            cluster = self._cluster = Cluster(
                clock,
                tasks,
                self._product,
                self._plan,
                self._tape,
                gates=self._workload.gates,
                webhooks=self._workload.webhooks,
                converts=self._workload.converts,
            )
            try:
                await self._play(cluster)
            finally:
                await cluster.end()

    async def _play(self, cluster: Cluster) -> None:
        workload = self._workload
        slack = SLACK + self._plan.staleness()
        starts = "StatefulSetStartOrdinal" in workload.gates
        checks = standard(cluster.server, manager=is_manager, fits=fits, slack=slack, start_ordinal=starts)
        quiet = Quiet(is_manager)
        checks.suite.checkers = [*checks.suite.checkers, quiet, Counted(is_manager, slack=slack)]
        await cluster.begin(workload.nodes, volumes=workload.volumes)
        cluster.start()
        await workload.script(cluster)

        def over() -> bool:
            return bool(checks.suite.violations) or workload.done(cluster)

        await cluster.patient(over, FAULTS_FOR)
        cluster.heal()
        came = await cluster.patient(over, BOUND)
        if not came:
            self._problems.append(f"L1: not done {BOUND:g} s after the last fault: {workload.end(cluster)}")
        if not came or checks.suite.violations:
            self._collect(cluster, checks)  # it is lost already, and what else comes of it tells nothing
            return
        await cluster.clock.sleep(max(SETTLE, self._plan.silence()))
        checks.drain()
        quiet.begin()
        await cluster.clock.sleep(QUIET)
        checks.drain()
        checks.suite.at_quiescence(cluster.clock.now())
        self._collect(cluster, checks)

    def _collect(self, cluster: Cluster, checks: Attached) -> None:
        self._problems += [str(one) for one in checks.suite.violations[:20]]
        self._outcome = self._workload.end(cluster)
        self._problems += cluster.trouble
        if cluster.webhooks is not None:
            self._problems += cluster.webhooks.violations
            if cluster.webhooks.refused and not self._workload.refuses:
                self._problems.append(f"C11: pods were refused: {cluster.webhooks.refused[:3]}")
        for replica in cluster.replicas:
            self._problems += _of_replica(replica)

    def result(self, seed: int, error: str, *, history: bool) -> Result:
        cluster = self._cluster
        if cluster is None:
            name, plan = self._workload.name, self._plan
            return Result(workload=name, seed=seed, plan=plan, tape=tuple(self._tape.drawn), error=error)
        calls = cluster.server.log.calls
        problems = [*self._problems, *([error] if error else [])]
        return Result(
            workload=self._workload.name,
            seed=seed,
            plan=self._plan,
            tape=tuple(self._tape.drawn),
            error="\n".join(problems),
            digest=cluster.history.digest(calls),
            outcome=self._outcome,
            creations=_creations(cluster),
            struck=dict(sorted(cluster.injector.struck.items())),
            seconds=cluster.clock.monotonic(),
            steps=getattr(cluster.loop, "steps", 0),
            writes=cluster.injector.writes,
            history=cluster.history.text(calls) if history else "",
        )


def _of_replica(replica: Replica) -> list[str]:
    """Return what was wrong with one process."""
    found = [f"G2: {one}" for one in replica.guard.violations]
    found += replica.answers.violations[:5]
    if replica.panics():
        found.append(f"G8: {replica.panics():g} reconciles of {replica.name} raised what nobody foresaw")
    if replica.running and replica.manager.leading:
        # A standby keeps what its sources told it for the day on which it leads.
        for controller in replica.manager._controllers:  # noqa: SLF001 - an oracle looks where nobody else may
            stats = controller.queue.stats()
            if stats.ready or stats.gated or stats.running:
                found.append(f"G5: the queue of {replica.name} is not empty at rest: {stats}")
    return found


def _creations(cluster: Cluster) -> dict[str, int]:
    found: Counter[str] = Counter()
    gone = {c.new.uid: c.rv for c in cluster.server.commits(resource=JOBS) if c.type == "DELETED"}
    for commit in cluster.server.commits(resource="pods"):
        if commit.type == "ADDED" and is_manager(commit.actor):
            meta = commit.new.obj["metadata"]
            if meta["ownerReferences"][0]["kind"] != "BroadcastJob":
                continue  # a pod of a set is made again whenever it is gone
            if commit.rv > gone.get(meta["ownerReferences"][0]["uid"], commit.rv):
                continue  # sent before, by a process that stood still; the garbage collector takes it away
            node = (meta.get("annotations") or {}).get("apps.kruise.io/broadcastjob-node-uid", "")
            found[f"{meta['ownerReferences'][0]['uid']}/{node}"] += 1
    return dict(sorted(found.items()))
