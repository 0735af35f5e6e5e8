"""A cluster with faults: managers that crash and come back, around an embedded server, in virtual time.

Purpose: what a scenario stands on. Workloads act on it as users do; a supervisor keeps the managers running.

Guarantees:

* TST5: a crash first cuts the transport of its process, then cancels its tasks: their ``finally`` blocks run, which
  SIGKILL never does, and reach nothing. A process that ended is started again after a drawn delay, with a drawn view.
* A paused process runs nothing at all: no task, no timer. What comes due meanwhile runs when it goes on, as after
  SIGSTOP and SIGCONT.
* Every draw comes from the tape of the run.

What this does not do: it knows no controller; who calls it hands in how a manager is built.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.runtime.client.guard import WriteGuard
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import Transport, chain
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ConfigError, LeadershipLost, NotFound, RuntimeFault
from kruise.runtime.manager.manager import Manager
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, VirtualLoop, eventually
from kruise.runtime.testing.tape import Tape
from kruise.runtime.webhook.keeper import CertificateKeeper
from kruise.runtime.webhook.server import WebhookServer
from kruise.simulator import builtin
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.apiserver.frontend import Frontend
from kruise.simulator.apiserver.server import ApiServer, MustWait
from kruise.simulator.apiserver.transport import InProcessTransport
from kruise.simulator.behaviour import Rule
from kruise.simulator.builtin_actor import Actor
from kruise.simulator.faults import SETTINGS, OnTime, Plan, View
from kruise.simulator.faults_injector import Injector
from kruise.simulator.history import History
from kruise.simulator.node_agent import NodeAgent
from kruise.simulator.node_objects import NodeShape
from kruise.simulator.provisioner import Provisioner
from kruise.simulator.scenario_checks import Answers
from kruise.simulator.scenario_tls import why_untrusted
from kruise.simulator.scenario_webhooks import Webhooks

Body = dict[str, Any]
JOBS: Final = str(BROADCASTJOBS)
MANAGER: Final = "kruise-manager"
NAMESPACE: Final = "default"
LATENCY: Final = 0.002
_LOOK_EVERY: Final = 1.0
_AGAIN: Final = (0.0, 0.3, 1.0, 5.0, 20.0)
"""Seconds from the end of a process to the start of the next one."""
_PROCESS: Final[ContextVar[str]] = ContextVar("process", default="")


class Build(Protocol):
    """Makes a manager as the program does."""

    def __call__(
        self,
        transport: Transport,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        gates: tuple[str, ...] = (),
        *,
        webhooks: bool = False,
    ) -> tuple[Manager, CertificateKeeper | None]:
        """Return a manager, with the feature gates that are named on top of the defaults, and its keeper.

        With *webhooks* it answers without a port, and its keeper runs.
        """
        ...


@dataclass(frozen=True, slots=True)
class Product:
    """What is under test."""

    build: Build
    definitions: Sequence[Body]
    """The CustomResourceDefinitions that it ships."""
    webhooks: Sequence[Body] = ()
    """The webhook configurations that it ships, and the Secret for its certificates."""
    converted: Sequence[Body] = ()
    """The same definitions as they are installed: their versions are converted by the manager."""


class Active(Protocol):
    """Somebody else who acts on the cluster."""

    name: str

    async def run(self) -> None:
        """Act until cancelled."""
        ...


class Replica:
    """One manager process."""

    def __init__(self, cluster: Cluster, name: str, front: Frontend) -> None:
        self.name = name
        self.actor = f"{MANAGER} {name}"
        self.paused = False
        self.crashed = False
        self.error: Exception | None = None
        """What ended it, if it was not asked to end."""
        self.transport: InProcessTransport = cluster.server.transport(self.actor, frontend=front, latency=LATENCY)
        self.guard = WriteGuard()
        self.answers = Answers(self.crash)
        self.metrics = Metrics(process=False)
        rng = Random(cluster.tape.draw(1 << 30))
        transport = chain(self.transport, [self.guard, self.answers])
        self.manager, self.keeper = cluster.product.build(
            transport, cluster.clock, rng, self.metrics, cluster.gates, webhooks=cluster.webhooks is not None
        )
        self._clock = cluster.clock
        self.answers.attach(self.manager)
        context = contextvars.copy_context()
        context.run(_PROCESS.set, name)
        self.over: asyncio.Future[None] = cluster.loop.create_future()
        """Done when nothing of it can reach anybody any more."""
        self.task = cluster.tasks.create_task(self._run(), name=f"manager {name}", context=context)

    async def _run(self) -> None:
        try:
            await self.manager.run()
        except RuntimeFault as error:
            self.error = error
        finally:
            self._ended()

    def _ended(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    @property
    def running(self) -> bool:
        return not self.crashed and not self.task.done()

    @property
    def serving(self) -> WebhookServer | None:
        """Its webhooks; ``None`` until its certificate is set up, because until then nothing listens."""
        up = self.keeper is None or self.keeper._ready.is_set()  # noqa: SLF001 - there is no port that could be tried
        return self.manager.webhooks if up else None

    def trouble_with_tls(self, bundle: bytes) -> str:
        """Say why a client that trusts *bundle* would not talk to its webhooks; empty when it would."""
        pair = self.keeper.pair if self.keeper is not None else None
        return "" if pair is None else why_untrusted(pair.certificate, bundle, self._clock.now())

    def crash(self) -> None:
        """End it as SIGKILL does."""
        if self.running:
            self.crashed = True
            self.transport.cut("the process was killed")
            self.task.cancel()
            self._ended()

    def belongs(self, context: Context) -> bool:
        """Tell whether a callback is one of this process."""
        return context.get(_PROCESS) == self.name

    def panics(self) -> float:
        """Return how many reconciles ended in an error that nobody foresaw."""
        found = 0.0
        for family in self.metrics.registry.collect():
            if family.name == "controller_runtime_reconcile_panics":
                found += sum(s.value for s in family.samples if s.name.endswith("_total"))
        return found


class Cluster:
    """Server, nodes, managers and faults of one run."""

    def __init__(
        self,
        clock: VirtualClock,
        tasks: asyncio.TaskGroup,
        product: Product,
        plan: Plan,
        tape: Tape,
        *,
        gates: tuple[str, ...] = (),
        webhooks: bool = False,
        converts: bool = False,
    ) -> None:
        self.clock = clock
        self.gates = gates
        self.tasks = tasks
        self.product = product
        self.plan = plan
        self.tape = tape
        self.server = ApiServer(clock, Random(tape.draw(1 << 30)))
        self.server.ensure_namespace("kruise-system")
        for definition in product.converted if converts else product.definitions:
            self.server.create("customresourcedefinitions.apiextensions.k8s.io", definition)
        if webhooks:
            for one in product.webhooks:
                self.server.create(_resource_of(one), one)
        self.server.log.clear()
        self.history = History(self.server, start=clock.now())
        self.replicas: list[Replica] = []
        self.remembered: dict[str, float] = {}
        """When users did something last, so that they do not do it again at once."""
        self.shown: dict[tuple[str, str], str] = {}
        """(client, object) -> the newest version of it that somebody else's client was shown."""
        self.trouble: list[str] = []
        """What went wrong that no invariant names: a process that ended by itself."""
        self.injector = Injector(plan, tape, clock, self)
        self.server.faults = self.injector
        self.webhooks: Webhooks | None = None
        """The way to our webhooks, where a workload has them."""
        if webhooks:
            self.webhooks = Webhooks(lambda: self.replicas, plan, tape, clock, self.injector.strike)
            self.server.operations.gate.admission.caller = self.webhooks
        self._front = {view: self.server.frontend(f"apiserver-{view}") for view in View}
        self._front[View.LAGGING].lag = plan.lag
        rng, metrics = Random(tape.draw(1 << 30)), Metrics(process=False)
        rest = self._rest = Rest(self.server.transport("nodes"), clock=clock, rng=rng, metrics=metrics)
        self.agent = NodeAgent(rest, clock=clock, rng=rng, metrics=metrics, shape=NodeShape(), lease_seconds=3600)
        self._actors: list[asyncio.Task[None]] = []
        self._parts: list[asyncio.Task[None]] = []
        self._closing = False
        self._outside = contextvars.copy_context()
        self.loop = asyncio.get_running_loop()

    async def begin(self, nodes: int, *, volumes: bool = False) -> None:
        """Start the cluster, without managers; *volumes* are made and bound when asked for."""
        actors: list[Actor] = [
            builtin.Scheduler(self.server, delay=0.005, volumes=volumes, spread=True),
            builtin.GarbageCollector(self.server, delay=0.01),
            builtin.NamespaceController(self.server, delay=0.01),
            builtin.PodGarbage(self.server, delay=0.01),
        ]
        if volumes:
            actors.append(builtin.ClaimProtection(self.server, delay=0.01))
            metrics = Metrics(process=False)
            provisioner = Provisioner(self._rest, clock=self.clock, rng=Random(1), metrics=metrics, bind=True)
            self._actors.append(self.tasks.create_task(provisioner.run(), name="provisioner"))
        for actor in actors:
            self.act(actor)
        self._actors.append(self.tasks.create_task(self.agent.run(), name="nodes"))
        self.agent.set_rules(
            [Rule(pod=one.pod, image=one.image, settings=SETTINGS[one.kind]) for one in self.plan.pods]
        )
        for one in self.plan.pods:
            self.injector.strike(one.kind, f"pods {one.pod} with images {one.image}")
        await self.add_nodes(*(f"node-{number}" for number in range(nodes)))

    def act(self, actor: Active) -> None:
        """Let somebody else react to what happens, until the end."""
        self._actors.append(self.tasks.create_task(actor.run(), name=actor.name))

    def start(self) -> None:
        """Start the managers and the faults that have a time."""
        for slot in range(self.plan.replicas):
            self._parts.append(self._spawn(self._supervise(), f"supervisor {slot}"))
        for at in self.plan.crashes:
            self._parts.append(self._spawn(self._crash_leader(at), f"crash at {at}"))
        for at, seconds in self.plan.pauses:
            self._parts.append(self._spawn(self._pause_leader(at, seconds), f"pause at {at}"))
        for at, seconds in self.plan.lease_outages:
            self._parts.append(self._spawn(self._lose_lease(at, seconds), f"lease outage at {at}"))

    def _spawn(self, coro: Any, name: str) -> asyncio.Task[Any]:
        return self.tasks.create_task(coro, name=name, context=self._outside.copy())

    def heal(self) -> None:
        """Let nothing go wrong from now on: API servers catch up, and what is paused goes on."""
        self.history.note("heal")
        self.injector.heal()
        if self.webhooks is not None:
            self.webhooks.healed, self.webhooks.down = True, False
        self.agent.set_rules([])
        for front in self._front.values():
            front.lag = 0.0
            front.thaw()

    async def end(self) -> None:
        """Stop everything."""
        self._closing = True
        for replica in self.replicas:
            self._resume(replica)
            if replica.running:
                replica.manager.stop()
        for replica in self.replicas:
            await asyncio.wait([replica.task])
        for task in (*self._actors, *self._parts):
            task.cancel()

    # Managers.

    async def _supervise(self) -> None:
        while True:
            replica = Replica(self, f"m{len(self.replicas) + 1}", self._view(len(self.replicas)))
            self.replicas.append(replica)
            await asyncio.wait([replica.over])
            self._resume(replica)
            if self._closing:
                return
            # One that cannot set up its webhooks in time says so and ends (CRT6).
            expected = (LeadershipLost, ConfigError) if self.plan.writes else LeadershipLost
            if not replica.crashed and not isinstance(replica.error, expected):
                self.trouble.append(f"the process {replica.name} ended by itself: {replica.error!r}")
            delay = self.tape.pick(_AGAIN)
            self.history.note(f"{replica.name} ended ({replica.error!r}), the next one starts in {delay:g} s")
            await self.clock.sleep(delay)

    def _view(self, number: int) -> Frontend:
        view = self.plan.views[number] if number < len(self.plan.views) else View.FRESH
        if self.injector.healed:
            view = View.FRESH
        if view is not View.FRESH:
            self.injector.strike(view, f"m{number + 1} talks to the {view} API server")
        front = self._front[view]
        if view is View.FROZEN:
            front.freeze(max(1, self.server.storage.rv - self.plan.frozen_at))
            self._parts.append(self._spawn(self._thaw(front), "thaw"))
        return front

    async def _thaw(self, front: Frontend) -> None:
        await self.clock.sleep(self.plan.frozen_for)
        front.thaw()

    @property
    def leader(self) -> Replica | None:
        """The process that leads, if one does."""
        return next((r for r in self.replicas if r.running and r.manager.leading), None)

    async def _crash_leader(self, at: float) -> None:
        await self.clock.sleep(at)
        victim = self.leader
        if victim is not None and not self.injector.healed:
            self.injector.strike(OnTime.CRASH, f"{victim.name}, which leads")
            self._resume(victim)
            victim.crash()

    async def _pause_leader(self, at: float, seconds: float) -> None:
        await self.clock.sleep(at)
        victim = self.leader
        if victim is not None and not self.injector.healed:
            self.injector.strike(OnTime.PAUSE, f"{victim.name}, which leads, for {seconds:g} s")
            self.pause(victim.actor, seconds)

    async def _lose_lease(self, at: float, seconds: float) -> None:
        await self.clock.sleep(at)
        self.injector.lease_down = True
        self.injector.strike(OnTime.NO_LEASE, f"for {seconds:g} s")
        await self.clock.sleep(seconds)
        self.injector.lease_down = False

    # What the injector asks for.

    def is_ours(self, actor: str) -> bool:
        return actor.startswith(MANAGER)

    def _of(self, actor: str) -> Replica | None:
        return next((r for r in self.replicas if r.actor == actor and r.running), None)

    def crash(self, actor: str) -> None:
        replica = self._of(actor)
        if replica is not None:
            replica.crash()

    def crash_with_answer(self, actor: str) -> None:
        replica = self._of(actor)
        if replica is not None:
            replica.answers.crash_next = True

    def pause(self, actor: str, seconds: float) -> None:
        replica = self._of(actor)
        if replica is None or replica.paused:
            return
        assert isinstance(self.loop, VirtualLoop), "only a virtual loop can hold back one process"
        replica.paused = True
        self.loop.freeze(replica.belongs)
        self._parts.append(self._spawn(self._resume_later(replica, seconds), f"resume {replica.name}"))

    async def _resume_later(self, replica: Replica, seconds: float) -> None:
        await self.clock.sleep(seconds)
        self._resume(replica)

    def _resume(self, replica: Replica) -> None:
        if replica.paused:
            replica.paused = False
            assert isinstance(self.loop, VirtualLoop), "it was one when the pause began"
            self.loop.thaw(replica.belongs)

    def touch(self, call: Call) -> None:
        """Let a user put a label onto the object of *call*, if it is there and no webhook holds the user up."""
        if call.info is None or not call.name:
            return
        patch = {"metadata": {"labels": {"touched": str(call.ordinal)}}}
        try:
            self.server.patch(call.resource, call.name, patch, call.namespace, actor="user")
        except (Failure, MustWait):
            return

    def later(self, seconds: float, do: Callable[[], Awaitable[object]]) -> None:
        async def run() -> None:
            await self.clock.sleep(seconds)
            await do()

        self._parts.append(self._spawn(run(), "late write"))

    def note(self, text: str) -> None:
        self.history.note(text)

    # What users do.

    async def add_nodes(self, *names: str, annotations: dict[str, str] | None = None) -> None:
        self.history.note(f"the user adds {', '.join(names)}")
        for _ in range(5):
            try:
                await self.agent.keeper.register(list(names), annotations=annotations)
            except* NotFound:
                # The lease of an older node of that name was collected under its feet.
                await self.clock.sleep(0.1)
            else:
                return

    def cordon(self, name: str, on: bool = True) -> None:
        self.history.note(f"the user {'cordons' if on else 'uncordons'} {name}")
        self.server.patch("nodes", name, {"spec": {"unschedulable": on or None}}, actor="user")

    def annotate_node(self, name: str, annotations: Mapping[str, str]) -> None:
        self.server.patch("nodes", name, {"metadata": {"annotations": dict(annotations)}}, actor="user")

    def delete_node(self, name: str) -> None:
        self.history.note(f"the user deletes {name}")
        self.server.delete("nodes", name, actor="user")

    def create_job(self, name: str, image: str, *, restart_policy: str = "Never", **spec: Any) -> Body:
        """Create a job whose pods do what the name of their image says."""
        self.history.note(f"the user creates the job {name}")
        container = {"name": "main", "image": f"sim.kruise.io/{image}:v1"}
        pod = {
            "metadata": {"labels": {"app": name}},
            "spec": {"restartPolicy": restart_policy, "containers": [container]},
        }
        body = {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"template": pod, **spec}}
        return self.server.create(JOBS, body, actor="user")

    def edit_job(self, name: str, **spec: Any) -> None:
        self.history.note(f"the user edits the job {name}: {spec}")
        try:
            self.server.patch(JOBS, name, {"spec": spec}, actor="user")
        except Failure:
            return

    def delete_job(self, name: str, policy: str = "Background") -> None:
        self.history.note(f"the user deletes the job {name}, {policy}")
        self.server.delete(JOBS, name, actor="user", propagationPolicy=policy)

    def delete_pod(self, pod: Body) -> None:
        meta = pod["metadata"]
        self.history.note(f"the user deletes the pod {meta['name']}")
        try:
            self.server.delete("pods", meta["name"], meta["namespace"], actor="user")
        except Failure:
            return

    # Looking.

    def job(self, name: str) -> Body | None:
        return self.server.get(JOBS, name)

    def status(self, name: str) -> Body:
        found: Body = (self.job(name) or {}).get("status") or {}
        return found

    def phase(self, name: str) -> str:
        return str(self.status(name).get("phase") or "")

    def pods(self, job: str | None = None, *, phase: str | None = None) -> list[Body]:
        """Return the pods of a job, or all, by name."""
        labels = {"broadcastjob-name": job} if job is not None else None
        found = self.server.list("pods", NAMESPACE, labels=labels)
        return [p for p in found if phase is None or (p.get("status") or {}).get("phase") == phase]

    async def patient(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait for *condition*, not longer than *seconds*; tell whether it came true. Faults may keep it from that.

        It is looked at when something was committed, and once a second whatever happens.
        """
        storage = self.server.storage
        seen, looked = -1, 0.0

        def look() -> bool:
            nonlocal seen, looked
            now = self.clock.monotonic()
            if storage.rv == seen and now - looked < _LOOK_EVERY:
                return False
            seen, looked = storage.rv, now
            return bool(condition())

        try:
            await eventually(look, self.clock, seconds, every=0.02)
        except AssertionError:
            return False
        return True


def _resource_of(body: Body) -> str:
    """Return the resource of an object that the product ships."""
    group = str(body["apiVersion"]).rpartition("/")[0]
    return f"{body['kind'].lower()}s" + (f".{group}" if group else "")
