"""The process around controllers: what starts when, what stops when, and who may write.

Purpose: the top level of the runtime. A program makes a manager, adds controllers, and runs it.

Expected flow::

    manager = Manager(transport, ManagerOptions(), clock=clock, rng=rng)
    manager.add(Builder(manager, "web").for_(WEBS).build(reconcile))
    manager.install_signal_handlers()
    await manager.run()

Guarantees:

* MAN1, MAN2: the phases of ``phases.py``, in that order, with its reasons.
* MAN3: an orderly stop has 30 s. Jobs that miss it are named, with their stacks. After a lost lease there is no grace.
* MAN4: :meth:`Manager.install_signal_handlers`; a second signal ends the process.
* MAN5: a job that fails stops the manager, and :meth:`Manager.run` raises its error. A controller that waits for a CRD
  or for rights is no failure; it is not ready (CTL10).
* MAN6: what is added later joins its phase; leader-only work waits for the lease.
* MAN7: all state is in the object: registry, caches, clients, events. Two managers share the process and nothing else.
* WEB8, WEB9: webhooks run in every replica; a stop fails readiness, waits for the delay, and then closes their port.
* MAN8: after the first sync the heap is frozen.
* HEA2 to HEA5: its own checks; a standby is ready; a stop fails readiness before it stops anything.
* LEA7: a leader-only client is fenced by the term. CON1: its writes hold their key back until the cache shows them.
* LEA11: when the lease is lost, :meth:`Manager.run` raises LeadershipLost, and the process must end.

What this does not do: it makes no transport and closes none, it does not configure logging, and it reads no flags.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

from kruise.runtime.cache.cache import Cache
from kruise.runtime.client.client import Client
from kruise.runtime.client.limiter import RateLimiter
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import Pool, Transport, chain
from kruise.runtime.clock import Clock, LagProbe, Random, new_uuid
from kruise.runtime.controller.controller import Controller
from kruise.runtime.controller.reconcile import Needs, Runnable, record_write
from kruise.runtime.errors import ConfigError, LeadershipLost
from kruise.runtime.log import get_logger, slow
from kruise.runtime.manager.authz import Authorizer
from kruise.runtime.manager.cluster import Cluster, TermStamp
from kruise.runtime.manager.debug import Debug
from kruise.runtime.manager.health import Check, Health, freshness_check, loop_check
from kruise.runtime.manager.http import Handler, HttpServer
from kruise.runtime.manager.leader import ElectionOptions, Elector, Term, check_no_other_leader
from kruise.runtime.manager.metrics_server import MetricsServer
from kruise.runtime.manager.options import HEALTH_FLAG, ManagerOptions
from kruise.runtime.manager.phases import START_ORDER, STOP_ORDER, Job, Phase, PhaseGroup
from kruise.runtime.manager.process import Signals, freeze_heap
from kruise.runtime.manager.recorder import EventBroadcaster, Recorder
from kruise.runtime.metrics import Metrics

if TYPE_CHECKING:  # who serves no webhooks loads none
    from kruise.runtime.webhook.dial import Dialer
    from kruise.runtime.webhook.keeper import CertificateKeeper
    from kruise.runtime.webhook.server import WebhookServer

__all__ = ["Cluster", "Manager", "ManagerOptions", "Phase"]

log = get_logger("manager")

_SETTLE_EVERY: Final = 0.05
_PHASE_OF: Final = {Needs.LEADER: Phase.LEADER_ELECTION, Needs.ALWAYS: Phase.OTHERS, Needs.WARMUP: Phase.WARMUP}


class _Ready(Protocol):
    async def ready(self) -> None: ...


class Manager:
    """Runs controllers, in phases, under one lease. Call :meth:`run` once."""

    def __init__(
        self,
        transport: Transport,
        options: ManagerOptions | None = None,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics | None = None,
        host: str = "",
        limiter: RateLimiter | None = None,
        abort: Callable[[int], object] | None = None,
    ) -> None:
        """Make a manager; nothing runs yet.

        *host* is the label value of the client's metrics. *abort* ends the process when a job ignores its cancellation;
        without it :meth:`run` waits for such a job. Raises ConfigError for options that cannot work.
        """
        o = self.options = options if options is not None else ManagerOptions()
        self.clock: Final = clock
        self.rng: Final = rng
        self.metrics: Final = metrics if metrics is not None else Metrics()
        self.identity: Final = o.identity or f"{socket.gethostname()}_{new_uuid(rng)}"
        self._abort = abort
        self._stamp = TermStamp(self._term_number)
        rest = Rest(
            chain(transport, [self._stamp]),
            clock=clock,
            rng=rng,
            metrics=self.metrics,
            host=host,
            user_agent=o.user_agent,
            limiter=limiter,
        )
        cache = Cache(
            rest,
            clock=clock,
            rng=rng,
            metrics=self.metrics,
            namespaces=o.namespaces,
            watch_timeout=o.watch_timeout,
            sync_timeout=o.sync_timeout,
        )
        client = Client(
            rest,
            cache=cache,
            metrics=self.metrics,
            clock=clock,
            field_manager=o.field_manager,
            field_validation=o.field_validation,
            dry_run=o.dry_run,
        )
        self.cluster: Final = Cluster("", rest, cache, client)
        self._events = EventBroadcaster(client, clock=clock, rng=rng, metrics=self.metrics, instance=self.identity)
        self._groups = {phase: PhaseGroup(phase, failed=self._failed) for phase in Phase}
        self._lease_rest = rest.named("leader-election", pool=Pool.LEASE)
        self.elector: Final = self._make_elector() if o.leader_election else None
        self.health: Final = Health()
        self._controllers: list[Controller] = []
        self._webhooks: WebhookServer | None = None
        self._probe = LagProbe(clock, on_lag=self._report_lag)
        self.debug: Final = Debug(
            clock=clock, controllers=lambda: self._controllers, informers=cache.informers, elector=lambda: self.elector
        )
        self.metrics_server: Final = MetricsServer(self.metrics, o.metrics, rest, clock=clock, rng=rng)
        health_address = o.health()
        self.health_server: Final = (
            HttpServer("probes", health_address, flag=HEALTH_FLAG) if health_address is not None else None
        )
        self.debug_server: Final = self.debug.server(o.debug, Authorizer(rest, clock=clock, rng=rng))

        self._stop_asked = asyncio.Event()
        self._stop_electing = asyncio.Event()
        self._go = asyncio.Event()
        self._up = False
        self._ran = False
        self._failure: Exception | None = None
        self._grace: float | None = None if o.graceful_shutdown < 0 else o.graceful_shutdown
        self._signals: Signals | None = None
        self._root: asyncio.TaskGroup | None = None
        self._add_own_parts()

    # What programs use.

    @property
    def cache(self) -> Cache:
        """The declared informers."""
        return self.cluster.cache

    @property
    def client(self) -> Client:
        """A client without a fence, for code that runs in every replica."""
        return self.cluster.client

    @property
    def leading(self) -> bool:
        """Whether leader-only work may run: the lease is held, or there is no election."""
        return self.elector.leading if self.elector is not None else self._groups[Phase.LEADER_ELECTION].serving

    def client_for(self, controller: str, *, leader_only: bool = True) -> Client:
        """Return the client of *controller*.

        Its writes hold back the key that is being reconciled until the cache shows them (CON1). They are fenced by the
        term, unless *leader_only* is False.
        """
        fence: Term | None = None
        if leader_only:
            self._stamp.controllers.add(controller)
            fence = self.elector.term if self.elector is not None else None
        return self.client.named(controller, fence=fence, on_write=record_write)

    def recorder(self, component: str) -> Recorder:
        """Return a recorder that reports events as *component*."""
        return self._events.recorder(component)

    def add(self, runnable: Runnable, *, phase: Phase | None = None) -> None:
        """Add a controller, or anything else that runs, before or after the start (MAN6).

        The phase follows from what it needs. Its ``stop()``, where it has one, asks it to end; else it is cancelled.
        Its ``ready()``, where it has one, is waited for before the next phase starts. Raises ConfigError for a
        controller whose name is taken, and RuntimeError once the stop has begun.
        """
        group = self._groups[phase or _PHASE_OF[runnable.needs]]
        if group.closed:
            raise RuntimeError(f"{runnable.name} cannot start: the manager is stopping")
        stop = getattr(runnable, "stop", None)
        ready = cast("_Ready", runnable).ready if callable(getattr(runnable, "ready", None)) else None
        if isinstance(runnable, Controller):
            self._add_controller(runnable)
        group.add(Job(runnable.name, runnable.run, stop=stop if callable(stop) else None, ready=ready))

    @property
    def webhooks(self) -> WebhookServer | None:
        """What answers admission and conversion here; ``None`` where nothing does."""
        return self._webhooks

    def add_webhooks(
        self,
        server: WebhookServer,
        *,
        keeper: CertificateKeeper | None = None,
        dialer: Dialer | None = None,
        listen: bool = True,
    ) -> None:
        """Serve *server* in every replica, from before the caches until after them (MAN1, WEB9).

        *keeper* makes its certificate, *dialer* tries it; without a keeper the certificate comes from outside. All of
        them count for readiness (HEA2). Without *listen* no port is opened: whoever has the server calls its
        ``answer``.
        """
        self._webhooks = server
        if not listen:
            return
        group = self._groups[Phase.WEBHOOKS]
        if keeper is not None:
            keeper.serves(server.ready)
            group.add(Job(keeper.name, keeper.run, ready=keeper.ready))
            self.add_ready_check("webhook-address", keeper.called)
        group.add(Job(server.name, server.run, stop=server.stop, ready=server.ready))
        self.add_ready_check("webhook-certificate", server.check)
        if dialer is not None:
            group.add(Job(dialer.name, dialer.run))
            self.add_ready_check("webhook", dialer.check)

    def add_health_check(self, name: str, check: Check) -> None:
        """Add a check to ``/healthz``: when it fails, the kubelet restarts this process."""
        self.health.alive.add(name, check)

    def add_ready_check(self, name: str, check: Check) -> None:
        """Add a check to ``/readyz``: while it fails, no traffic comes here."""
        self.health.ready.add(name, check)

    def add_metrics_handler(self, path: str, handler: Handler) -> None:
        """Serve *path* beside ``/metrics``, behind the same authorisation (MET7)."""
        self.metrics_server.handle(path, handler)

    def install_signal_handlers(self) -> None:
        """Stop in order at SIGTERM and SIGINT, end at once at the second one, dump at SIGUSR1. Call it on the loop."""
        self._signals = Signals(stop=self.stop, dump=self._dump, abort=self._abort)
        self._signals.install()

    def stop(self, reason: str = "asked to") -> None:
        """Begin the stop; returns at once."""
        if not self._stop_asked.is_set():
            log.info("stopping", reason=reason)
        self._stop_asked.set()

    async def run(self, *, stop: asyncio.Event | None = None) -> None:
        """Run until stopped, by *stop*, a signal, :meth:`stop` or a failure.

        Raises what made it stop: LeadershipLost, ConfigError of a server that cannot listen, or the error of a job.
        A cancellation stops it in order as well, and is raised at the end.
        """
        if self._ran:
            raise RuntimeError("a manager runs once")
        self._ran = True
        cancelled: asyncio.CancelledError | None = None
        try:
            async with asyncio.TaskGroup() as root:
                self._root = root
                leadership = root.create_task(self._guarded(self._lead), name="leadership")
                events = root.create_task(self._guarded(self._events.run), name="events")
                helpers = [root.create_task(self._guarded(self._start), name="start")]
                if stop is not None:
                    helpers.append(root.create_task(self._stop_with(stop), name="stop"))
                try:
                    await self._stop_asked.wait()
                except asyncio.CancelledError as error:
                    cancelled = error
                self.health.ready.fail_all("the process is stopping")
                for helper in helpers:
                    helper.cancel()
                await self._shut_down(leadership)
                events.cancel()
        finally:
            self._root = None
            if self._signals is not None:
                self._signals.remove()
        if self._failure is not None:
            raise self._failure
        if cancelled is not None:
            raise cancelled
        log.info("stopped")

    # Up.

    def _add_own_parts(self) -> None:
        http, cache = self._groups[Phase.HTTP_SERVERS], self.cluster.cache
        for server in (self.health_server, self.metrics_server.server, self.debug_server):
            if server is not None:
                http.add(Job(f"{server.name} server", server.run, ready=server.ready))
        http.add(Job("loop lag probe", self._probe.run))
        self._groups[Phase.CACHES].add(Job("cache", cache.run, ready=self._caches_settled))

        alive, ready = self.health.alive, self.health.ready
        if self.health_server is not None:
            self.health.serve_on(self.health_server)
        alive.add("event-loop", loop_check(self._probe))
        if self.elector is not None:
            alive.add("leader-election", self.elector.check)
        ready.add("startup", self._check_started)
        ready.add("caches", self._check_caches)
        ready.add("watches", freshness_check(cache.informers, cache.host.sends_bookmarks))
        ready.add_detail(lambda: map(str, cache.report()))
        self.health.started.add("startup", self._check_started)
        certificate = self.metrics_server.certificate
        if certificate is not None:
            http.add(Job("metrics certificate", certificate.run))
            ready.add("metrics-certificate", certificate.check)

    def _add_controller(self, controller: Controller) -> None:
        self.health.alive.add(
            f"workers-{controller.name}", lambda: None if controller.healthy() else "a worker hangs, or has ended"
        )
        self.health.ready.add(f"controller-{controller.name}", lambda: controller.not_ready)
        self._controllers.append(controller)
        if controller.needs is not Needs.LEADER or not controller.warm_start:
            return  # its own run() starts its sources
        warming = asyncio.Event()

        async def warm() -> None:
            warming.set()
            await controller.warm()

        async def is_warming() -> None:
            await warming.wait()

        self._groups[Phase.WARMUP].add(Job(f"{controller.name} sources", warm, ready=is_warming))

    def _make_elector(self) -> Elector:
        o = self.options
        elector = Elector(
            self._lease_rest,
            ElectionOptions(
                self.identity,
                namespace=o.leader_election_namespace,
                name=o.leader_election_id,
                durations=o.durations,
                release=o.release,
            ),
            clock=self.clock,
            rng=self.rng,
            metrics=self.metrics,
            recorder=self.recorder("leader-election"),
        )
        elector.on_lost = self._fail
        return elector

    async def _start(self) -> None:
        """Bring up one phase after the other (MAN1)."""
        assert self._root is not None
        for phase in START_ORDER:
            if self._stop_asked.is_set():
                return
            if phase is Phase.LEADER_ELECTION:
                break  # the elector owns that group: it must be able to cancel it (LEA4)
            group = self._groups[phase]
            self._root.create_task(group.serve(), name=f"phase {phase.value}")
            await group.ready()
            if phase is Phase.CACHES and self.options.freeze_heap and not self._stop_asked.is_set():
                freeze_heap()
        self._up = True
        self._go.set()
        log.info("started", identity=self.identity, controllers=[c.name for c in self._controllers])

    async def _caches_settled(self) -> None:
        """Wait until each cache is complete, or has an error that others need not wait for (CAC5, CAC6)."""
        end = self.clock.monotonic() + self.options.sync_timeout
        while self.clock.monotonic() < end:
            waiting = [i for i in self.cache.informers() if not i.has_synced]
            if all(i.missing or i.last_error is not None for i in waiting):
                return
            await self.clock.sleep(_SETTLE_EVERY)

    async def _lead(self) -> None:
        """Run leader-only work, in the elector's hands where there is one."""
        await self._go.wait()
        if self._stop_electing.is_set():
            return
        group = self._groups[Phase.LEADER_ELECTION]
        if self.elector is not None:
            await self.elector.run(lambda _term: group.serve(), stop=self._stop_electing)
            return
        o = self.options
        await check_no_other_leader(
            self._lease_rest,
            namespace=o.leader_election_namespace,
            name=o.leader_election_id,
            durations=o.durations,
            clock=self.clock,
        )
        await group.serve()

    def _term_number(self) -> int | None:
        return self.elector.term.transitions if self.elector is not None and self.elector.term.valid() else None

    def _report_lag(self, seconds: float) -> None:
        self.metrics.loop_lag.set(seconds)
        if seconds > slow().loop_lag:
            log.warning("the event loop was blocked", seconds=round(seconds, 3))

    def _check_started(self) -> str | None:
        return None if self._up else "the process is starting"

    def _check_caches(self) -> str | None:
        waiting = [str(i.describe()) for i in self.cache.informers() if not i.has_synced]
        return "; ".join(waiting) or None

    def _dump(self) -> None:
        if self._root is not None:
            self._root.create_task(self._guarded(self.debug.dump), name="debug dump")

    # Failures.

    async def _guarded(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - a part of our own that fails stops the manager in order (MAN5)
            self._fail(error)

    def _failed(self, job: Job, error: Exception) -> None:
        if isinstance(error, ConfigError):  # what somebody has to set right: its text says what, a stack says nothing
            log.error("a job failed, the manager stops", job=job.name, error=str(error))
        else:
            log.error("a job failed, the manager stops", job=job.name, exc_info=error)
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, LeadershipLost):
            # No grace: another one may lead by now. It is also what the process must die of, whatever failed first.
            self._grace = 0.0
            self._failure = error
        elif self._failure is None:
            self._failure = error
        self.stop(f"{type(error).__name__}: {error}")

    async def _stop_with(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.stop()

    # Down.

    async def _shut_down(self, leadership: asyncio.Task[None]) -> None:
        """Stop one phase after the other (MAN2), within the time that is left (MAN3)."""
        if self.options.shutdown_delay and self._grace != 0:
            await self.clock.sleep(self.options.shutdown_delay)
        self._stop_electing.set()
        self._go.set()
        begun = self.clock.monotonic()
        for phase in STOP_ORDER:
            left = None if self._grace is None else max(0.0, begun + self._grace - self.clock.monotonic())
            await self._groups[phase].stop(left)
        stuck = [str(one) for group in self._groups.values() for one in group.left()]
        if stuck:
            log.error("jobs ignore their cancellation", jobs=stuck, ends="now" if self._abort else "when they do")
            if self._abort is not None:
                self._abort(1)
        # The release of the lease has a deadline of its own; its events come before those of nobody else.
        await asyncio.wait([leadership])
