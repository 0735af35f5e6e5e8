"""Leader election: one candidate, its term, and the fence that every write of the leader passes.

Purpose: run leader-only work while, and only while, this process holds the Lease. The rule is ``decide`` in
``lease.py``; here are the clock, the requests and the tasks.

Guarantees:

* LEA3: renewals are one PATCH; each one that needed a read first is counted in ``leader_election_slowpath_total``.
* LEA4: the work runs in a TaskGroup of the elector and is cancelled at the renew deadline by boot time, even while a
  renewal hangs.
* LEA5: each try has its own time-out, on the pool of the lease, under its own user agent.
* LEA6: when the work fails, the lease is renewed no further; it is released after everything has returned.
* LEA7: :class:`Term` is the fence. Writes are refused from one second before the renew deadline on, and none may stay
  on the wire past the renew deadline plus the lease gap (rule 21 of the reliability rules).
* LEA8: the lease is released only after the work has returned; the release is shielded from cancellation.
* LEA9: :meth:`Elector.check` is the health check of a lease that is held and not renewed.
* LEA11: a lost lease cancels the work, releases nothing and raises LeadershipLost("leader election lost: ...").
* LEA12: events "became leader" and "stopped leading"; labels on the Lease.
* LEA14: :func:`check_no_other_leader` guards a start without an election.
* LEA15: a standby watches the Lease and arms one timer; while the watch is down it reads once per retry period.
* G10: a write is dispatched before the renew deadline of its term, or not at all.

What this does not do: it is no lock. A process that is frozen between the check and the socket can still send one
write; conditional writes make that harmless. An elector runs once: who lost the lease ends, and starts anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, NoReturn

from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ApiError, DecodeError, LeadershipLost, TransportError
from kruise.runtime.log import get_logger
from kruise.runtime.manager.lease import (
    LEASES,
    Create,
    Durations,
    Event,
    Failed,
    Lease,
    Lost,
    Patch,
    Read,
    Refused,
    Seen,
    State,
    Step,
    Tick,
    Wait,
    WatchDown,
    decide,
)
from kruise.runtime.manager.lease_client import ElectionOptions, LeaseClient, check_no_other_leader
from kruise.runtime.manager.recorder import EventSink
from kruise.runtime.manager.term import Term
from kruise.runtime.metrics import Metrics, Sample

__all__ = ["Durations", "ElectionOptions", "Elector", "Lease", "Term", "check_no_other_leader", "decide"]

log = get_logger("leader")

HEALTH_SLACK: Final = 20.0
"""Seconds beyond the lease duration after which an unrenewed lease is a sign of a sick process."""
GUARD_PERIOD: Final = 1.0
"""Seconds between two looks at boot time: a timer does not run on while the machine sleeps, boot time does."""
SHORT_WATCH: Final = 1.0
"""Seconds: a watch that ends sooner without news counts as down, or a broken proxy would make us spin."""


class Elector:
    """One candidate of one election. Call :meth:`run` once."""

    def __init__(
        self,
        rest: Rest,
        options: ElectionOptions,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        recorder: EventSink | None = None,
    ) -> None:
        self.options: Final = options
        self._client = LeaseClient(rest, options, clock=clock, metrics=metrics)
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._recorder = recorder
        self._state = State(options.identity, options.durations)
        self._changed = asyncio.Event()
        self._found = asyncio.Event()
        self._watch_scope: asyncio.Timeout | None = None
        self._owed = False
        self.on_lost: Callable[[LeadershipLost], None] | None = None
        """Called at the moment at which the lease is lost; :meth:`run` raises only when the work has returned, and work
        may ignore its cancellation."""
        self.term: Final = Term(options.name, options.durations, clock=clock, metrics=metrics)
        self._gauge = metrics.leader.labels(options.name)
        self._slow = metrics.leader_slowpath.labels(options.name)
        self._gauge.set(0)
        metrics.kruise_leader.set(0)
        self._stop_scrape = metrics.lease_remaining.add(self._scrape)

    @property
    def state(self) -> State:
        """What this candidate knows, for ``/debug/leader``."""
        return self._state

    @property
    def leading(self) -> bool:
        """Whether the term is open and not over."""
        return self._state.leading and self.term.valid()

    def check(self) -> str | None:
        """Return what is wrong when a held lease was not renewed for its duration and 20 s more (LEA9)."""
        if not self._state.leading:
            return None
        age = self._clock.boottime() - self._state.renewed_at
        limit = self.options.durations.lease + HEALTH_SLACK
        return None if age <= limit else f"the lease is held and was not renewed for {age:.0f} s (limit {limit:g} s)"

    async def run(self, lead: Callable[[Term], Awaitable[None]], *, stop: asyncio.Event) -> None:
        """Wait for the lease, run *lead* while it is held, give it back.

        Returns when *stop* is set before the lease was gained, or when *lead* returns; *lead* itself must see *stop*
        and return when its work is done, and the lease is renewed until then. Raises LeadershipLost when the lease is
        lost, and what *lead* raises when it fails; both come after *lead* has ended. Can be cancelled.
        """
        lost = False
        try:
            if await self._acquire(stop) and not stop.is_set():
                await self._hold(lead)
        except LeadershipLost:
            lost = True
            raise
        finally:
            led = self.term.ever
            self.term.close()
            self._show(leads=False)
            self._stop_scrape()
            if led:
                self._announce("stopped leading")
            # LEA8: everything that wrote in this term has returned by now. LEA11: a lost lease is not ours to release.
            if self._owed and self.options.release and not lost:
                await _shielded(self._release())
            self._state = replace(self._state, leading=False)

    async def _acquire(self, stop: asyncio.Event) -> bool:
        """Wait until this process leads (True), or *stop* is set (False)."""
        o = self.options
        log.info("waiting for the lease", lease=o.name, namespace=o.namespace, identity=o.identity)
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(self._watch(), name="lease-watch")
            stopper = group.create_task(self._wake_on(stop), name="lease-stop")
            while not (stop.is_set() or self._state.leading):
                self._changed.clear()
                step = self._apply(Tick(self._clock.boottime()))
                if isinstance(step, Wait):
                    await self._wait(step.until)
                elif not isinstance(step, Lost):
                    doubting = self._state.doubted
                    self._apply(await self._perform(step))
                    if doubting and not self._state.doubted and self._watch_scope is not None:
                        # The read knows what the watch has not told: the watch is half-open.
                        self._watch_scope.reschedule(asyncio.get_running_loop().time())
            watcher.cancel()
            stopper.cancel()
        return self._state.leading

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._changed.set()

    async def _wait(self, until: float) -> None:
        """Wait until boot time *until*, or until something changed."""
        try:
            async with asyncio.timeout(max(0.0, until - self._clock.boottime())):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _hold(self, lead: Callable[[Term], Awaitable[None]]) -> None:
        """Run *lead* for as long as the lease is renewed (LEA4)."""
        try:
            async with asyncio.TaskGroup() as group:
                keepers = (
                    group.create_task(self._keep(), name="lease-renew"),
                    group.create_task(self._guard(), name="lease-guard"),
                )
                group.create_task(self._work(lead, keepers), name="leader-work")
        except BaseExceptionGroup as errors:
            lost, others = errors.split(LeadershipLost)
            if lost is not None:
                if others is not None:
                    log.warning("leader work failed while it was cancelled", error=str(others.exceptions[0]))
                raise LeadershipLost(str(_first(lost))) from None
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
            raise

    async def _work(self, lead: Callable[[Term], Awaitable[None]], keepers: Iterable[asyncio.Task[None]]) -> None:
        await lead(self.term)
        for keeper in keepers:
            keeper.cancel()

    async def _keep(self) -> None:
        """Renew until cancelled; raise LeadershipLost when the lease is gone."""
        while True:
            step = self._apply(Tick(self._clock.boottime()))
            if isinstance(step, Lost):
                self._lose(step.reason)
            elif isinstance(step, Wait):
                await self._clock.sleep(step.until - self._clock.boottime())
            else:
                self._apply(await self._perform(step))

    async def _guard(self) -> None:
        """Raise LeadershipLost at the renew deadline, whatever the renewal is doing."""
        while (left := self.term.remaining()) > 0:
            await self._clock.sleep(min(left, GUARD_PERIOD))
        self._lose(f"the lease could not be renewed for {self.options.durations.renew:g} s")

    def _lose(self, reason: str) -> NoReturn:
        self.term.close()
        log.error("leader election lost", lease=self.options.name, reason=reason)
        error = LeadershipLost(f"leader election lost: {reason}")
        if self.on_lost is not None:
            self.on_lost(error)
        raise error

    async def _release(self) -> None:
        """Give the lease back; bounded by the renew deadline (LEA8)."""
        d = self.options.durations
        try:
            async with asyncio.timeout(d.renew):
                while not await self._client.release():
                    await self._clock.sleep(d.retry / 10)
        except TimeoutError:
            log.warning("the lease was not released and ends by itself", lease=self.options.name, seconds=d.lease)

    def _apply(self, event: Event) -> Step:
        was = self._state
        self._state, step = decide(was, event, chance=self._rng.random())
        now = self._state
        if now.leading and not isinstance(step, Lost) and not self.term.ended:
            self.term.extend(now.deadline, max(0, now.transitions))
        if now.leading and not was.leading:
            self._show(leads=True)
            self._announce("became leader")
        if now.known and now.lease is not None:
            self._found.set()
        else:
            self._found.clear()
        return step

    async def _perform(self, step: Read | Create | Patch) -> Event:
        owed = self._owed
        if not isinstance(step, Read):
            self._owed = True
        elif step.slow:
            self._slow.inc()
        event = await self._client.perform(step)
        if isinstance(event, Refused) or (isinstance(event, Failed) and not event.unknown):
            self._owed = owed
        return event

    def _show(self, *, leads: bool) -> None:
        self._gauge.set(int(leads))
        self._metrics.kruise_leader.set(int(leads))

    def _announce(self, what: str) -> None:
        log.info(what, lease=self.options.name, identity=self.options.identity, transitions=self._state.transitions)
        if self._recorder is not None and self._state.lease is not None:
            self._recorder.event(
                self._state.lease,
                LEASES,
                type="Normal",
                reason="LeaderElection",
                action="LeaderElection",
                note=f"{self.options.identity} {what}",
            )

    def _scrape(self) -> Iterable[Sample]:
        if self._state.leading and self.term.valid():
            yield Sample((self.options.name,), self.term.remaining())

    # A standby's watch.

    async def _watch(self) -> None:
        """Feed what happens to the Lease into the state until cancelled (LEA15)."""
        while True:
            await self._found.wait()
            before = self._state.lease
            assert before is not None
            opened = self._clock.monotonic()
            ended_well = await self._watch_once(before.resource_version)
            if ended_well and (self._state.lease is not before or self._clock.monotonic() - opened >= SHORT_WATCH):
                continue
            self._apply(WatchDown(self._clock.boottime()))
            self._changed.set()

    async def _watch_once(self, version: str) -> bool:
        """Follow the Lease from *version* on. True: the stream ended as it should; False: the watch is down."""
        try:
            async with asyncio.timeout(None) as self._watch_scope, aclosing(self._client.watch(version)) as events:
                async for lease in events:
                    self._apply(Seen(self._clock.boottime(), lease, polled=False))
                    self._changed.set()
        except (ApiError, TransportError, DecodeError, TimeoutError) as error:
            log.debug("the watch of the lease is down", error=str(error) or "it is stale")
            return False
        finally:
            self._watch_scope = None
        return True


async def _shielded(work: Coroutine[Any, Any, None]) -> None:
    """Run *work* to its end whatever happens to the caller; a cancellation is raised after it."""
    cancelled: asyncio.CancelledError | None = None
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


def _first(errors: BaseExceptionGroup[LeadershipLost]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
