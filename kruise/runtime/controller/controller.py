"""The worker loop around one reconcile function.

Purpose: take keys from a queue, reconcile them with bounded concurrency, and turn each outcome into what happens next.

Expected flow::

    warm()   sources fill the queue           in every replica, before the election
    run()    waits for the sources, then      while this process leads
             workers: get -> reconcile -> done

Guarantees:

* CTL1: concurrency is always bounded: three workers unless said otherwise. One whose reconcile only waits for its
  writes lends its place to another (``only_waiting``), for as many as the write window holds.
* CTL2: a reconcile has five minutes. Its own time-out is told apart from a cancellation, and counted.
* CTL3: every Exception becomes a back-off, a BaseException is raised. What is no error of this runtime's own counts as
  a panic, with its stack in the log; the worker lives on.
* CTL4, QUE5, RAT3: ``Done`` and ``After`` forget the key's failures, an error keeps them.
* CTL5: a TerminalError is counted, told to ``on_terminal`` once per text, and not retried before the object changes.
* CTL6: two controllers of one manager cannot share a name; their metrics would mix.
* CTL7: every result label exists from the start.
* CTL8: sources run without leadership, so that a take-over finds a full queue.
* CTL9: what it needs is ``needs``: leadership, unless said otherwise.
* CTL10: a source that cannot sync, or fails, is tried again and reported by :attr:`Controller.not_ready`; it stops
  nobody else.
* CON1, QUE13: a key waits in the queue, and not in a worker, until the cache shows its own writes.

Crash-only: a worker may be cancelled at any await. What it had in hand is found again by the next first list.

What this does not do: no leader election, no signals, no writes. It does not bound the time that a reconcile needs to
react to its cancellation; :meth:`Controller.healthy` tells of one that does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from kruise.runtime.cache.consistency import ConsistencyTracker
from kruise.runtime.client.window import write_owner
from kruise.runtime.clock import Clock, Random, new_uuid
from kruise.runtime.controller.access import Access
from kruise.runtime.controller.queue import Item, Queue
from kruise.runtime.controller.reconcile import After, Done, Needs, Reconcile, ReconcileContext, current
from kruise.runtime.controller.source import Source
from kruise.runtime.errors import Conflict, QueueClosed, RuntimeFault, TerminalError
from kruise.runtime.log import bound, get_logger, slow
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Resource

WORKERS: Final = 3
"""Workers of a controller, as in OpenKruise."""
TIMEOUT: Final = 300.0
"""Seconds for one reconcile."""
RESULTS: Final = ("error", "requeue", "requeue_after", "success")
_HANGS_AFTER: Final = 60.0
_AWAY: Final = 64
"""How many reconciles that only wait for their writes may have lent their place: the write window holds no more."""
_RESTART: Final = (1.0, 30.0)

OnTerminal = Callable[[Key, TerminalError], Awaitable[None]]
"""Makes a condition and an event of a TerminalError (CTL5). When it fails, the key is retried."""

log = get_logger("controller")


class Controller:
    """One reconcile function with its queue, sources and workers. A Runnable for the manager."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        queue: Queue,
        sources: Iterable[Source] = (),
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        workers: int = WORKERS,
        timeout: float = TIMEOUT,
        needs: Needs = Needs.LEADER,
        warm_start: bool = True,
        sync_timeout: float = 120.0,
        resource: Resource[Any] | None = None,
        tracker: ConsistencyTracker | None = None,
        on_terminal: OnTerminal | None = None,
        accesses: Iterable[Access] = (),
    ) -> None:
        """Make a controller; nothing runs yet.

        *resource* is what it reconciles, for its log lines. *sync_timeout* is after how many seconds of waiting for the
        sources an error is logged; the wait goes on. Raises ValueError when *name* is taken, or for senseless numbers.
        """
        if workers < 1 or timeout <= 0:
            raise ValueError(f"controller {name}: {workers=}, {timeout=}: want one worker and some time at least")
        metrics.claim_controller(name)
        self.name: Final = name
        self.queue: Final = queue
        self.needs: Final = needs
        self.warm_start: Final = warm_start
        self.workers: Final = workers
        self.tracker: Final = tracker
        self.accesses: Final = tuple(accesses)
        self.took_over: float | None = None
        """Seconds from the call of :meth:`run` to the first worker; ``None`` before."""
        self._reconcile = reconcile
        self._clock = clock
        self._rng = rng
        self._timeout = timeout
        self._sync_timeout = sync_timeout
        self._on_terminal = on_terminal
        self._sources = list(sources)
        self._problems: dict[str, str] = {}
        self._feeders: asyncio.TaskGroup | None = None
        self._feeding: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()
        self._crew: asyncio.TaskGroup | None = None
        self._hired = 0
        self._working: set[asyncio.Task[None]] = set()
        self._away: set[asyncio.Task[None]] = set()
        """The workers that lent their place; each ends with what it has in hand."""
        self._told: dict[Key, str] = {}
        self._log_values = {"controller": name}
        self._log_kind = ""
        if resource is not None:
            self._log_values |= {"controllerGroup": resource.group, "controllerKind": resource.kind}
            self._log_kind = resource.kind

        queue.on_reset = self._forget_terminal
        if tracker is not None:
            queue.gate = tracker.blocked
            tracker.on_ready = queue.ungate

        self._total = {result: metrics.reconcile_total.labels(name, result) for result in RESULTS}
        self._errors = metrics.reconcile_errors.labels(name)
        self._terminals = metrics.terminal_errors.labels(name)
        self._panics = metrics.reconcile_panics.labels(name)
        self._timeouts = metrics.reconcile_timeouts.labels(name)
        self._time = metrics.reconcile_time.labels(name)
        self._active = metrics.active_workers.labels(name)
        self._takeover = metrics.takeover.labels(name)
        metrics.max_concurrent.labels(name).set(workers)

    @property
    def synced(self) -> bool:
        """Whether every source has put into the queue what existed when it started."""
        return self._feeders is not None and all(source.pending() is None for source in self._sources)

    @property
    def not_ready(self) -> str | None:
        """Why this controller is not ready, in words; ``None`` when it is (CTL10).

        A standby is ready (HEA4): leadership does not count, and without a warm start neither do the sources.
        """
        if self._feeders is None:
            return "its sources are not started" if self.warm_start else None
        waits = [pending for source in self._sources if (pending := source.pending()) is not None]
        failing = [f"{name} failed: {text}" for name, text in self._problems.items()]
        return "; ".join(waits + failing) or None

    def healthy(self) -> bool:
        """Tell whether the workers live: none has ended, and none hangs in a reconcile that ignores its time-out."""
        if self._stopped.is_set():
            return True
        if self._crew is not None and len(self._working) - len(self._away) < self.workers:
            return False
        return self.queue.stats().longest_run < self._timeout + _HANGS_AFTER

    def gone(self, key: Key) -> None:
        """Note that the object of *key* was deleted: nothing is awaited or remembered for it (CON4)."""
        if self.tracker is not None:
            self.tracker.forget(key)
            self.queue.ungate(key)
        self._told.pop(key, None)

    def watch(self, source: Source) -> None:
        """Add a source, at any time (SRC1)."""
        self._sources.append(source)
        if self._feeders is not None:
            self._feed(source, self._feeders)

    async def warm(self) -> None:
        """Run the sources until cancelled or stopped (CTL8). They need no leadership."""
        if self._feeders is not None:
            raise RuntimeError(f"the sources of {self.name} run already")
        try:
            async with asyncio.TaskGroup() as tasks:
                self._feeders = tasks
                for source in tuple(self._sources):
                    self._feed(source, tasks)
                await self._stopped.wait()
                for task in self._feeding:
                    task.cancel()
        finally:
            self._feeders = None
            self._feeding.clear()

    async def run(self) -> None:
        """Reconcile until cancelled or stopped. Starts the sources as well, unless :meth:`warm` runs."""
        began = self._clock.monotonic()
        try:
            async with asyncio.TaskGroup() as tasks:
                warming = tasks.create_task(self.warm()) if self._feeders is None else None
                if await self._wait_synced(tasks):
                    self.took_over = self._clock.monotonic() - began
                    self._takeover.set(self.took_over)
                    self._start_workers(tasks)
                    while self._working:
                        await asyncio.wait(self._working)
                if warming is not None:
                    warming.cancel()
        finally:
            self._crew = None
            self._working.clear()
            self._away.clear()
            self.queue.close()  # cancelled, because the lease is lost: what waits for its time waits for nobody
            if self.tracker is not None:
                self.tracker.close()

    def _start_workers(self, tasks: asyncio.TaskGroup) -> None:
        log.info("workers started", workers=self.workers, seconds=self.took_over, **self._log_values)
        self._crew = tasks
        for _ in range(self.workers):
            self._hire(tasks)

    def _hire(self, crew: asyncio.TaskGroup) -> None:
        task = crew.create_task(self._work(), name=f"{self.name}-{self._hired}")
        self._hired += 1
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def _give_way(self) -> None:
        """Let another worker begin, while this one only waits (CTL1)."""
        task, crew = asyncio.current_task(), self._crew
        if task is None or crew is None or task not in self._working or task in self._away:
            return
        if len(self._away) < _AWAY and not self._stopped.is_set():
            self._away.add(task)
            self._active.dec()
            self._hire(crew)

    def stop(self) -> None:
        """Begin a graceful stop: no new key is handed out, and :meth:`run` returns after the reconciles under way."""
        self._stopped.set()
        self.queue.close()

    async def _wait_synced(self, tasks: asyncio.TaskGroup) -> bool:
        """Wait for the sources, or for the stop; tell whether to go on."""
        synced = tasks.create_task(self._all_synced())
        stopped = tasks.create_task(self._stopped_wait())
        await asyncio.wait((synced, stopped), return_when=asyncio.FIRST_COMPLETED)
        synced.cancel()
        stopped.cancel()
        return not self._stopped.is_set()

    async def _stopped_wait(self) -> None:
        await self._stopped.wait()

    async def _all_synced(self) -> None:
        done = 0
        while done < len(self._sources):
            try:
                async with asyncio.timeout(self._sync_timeout) as scope:
                    await self._sources[done].synced()
                done += 1
            except TimeoutError:
                if not scope.expired():
                    raise
                # The others go on; this one waits for a CRD or a right that somebody may still add (CTL10).
                log.error("a controller waits for its sources", waiting=self.not_ready, **self._log_values)

    def _feed(self, source: Source, tasks: asyncio.TaskGroup) -> None:
        self._feeding.append(tasks.create_task(self._keep_fed(source), name=f"{self.name}-{source.name}"))

    async def _keep_fed(self, source: Source) -> None:
        delay, longest = _RESTART
        while True:
            try:
                await source.start(self.queue)
                return
            except Exception as error:  # one source must not end the others (CTL10)
                self._problems[source.name] = f"{type(error).__name__}: {error}"
                log.error("a source failed, starting it again", source=source.name, exc_info=error, **self._log_values)
            await self._clock.sleep(delay * (1 + self._rng.random()))
            delay = min(longest, delay * 2)
            self._problems.pop(source.name, None)

    async def _work(self) -> None:
        while True:
            try:
                item = await self.queue.get()
            except QueueClosed:
                return
            await self._process(item)
            task = asyncio.current_task()
            if task in self._away:
                self._away.discard(task)
                return  # another one has its place
            if task is not None and task.cancelling():
                # Up to Python 3.12 a TaskGroup whose child fails while its owner is cancelled raises the failure and
                # loses the cancellation: this worker would go on for ever, and a process that lost its lease with it.
                raise asyncio.CancelledError
            # A reconcile that never awaits, times a long queue, would keep probes and the lease from running (HEA3).
            await self._clock.sleep(0)

    async def _process(self, item: Item) -> None:
        key = item.key
        began = self._clock.monotonic()
        live = self.tracker is not None and self.tracker.expired(key)
        context = ReconcileContext(self.name, key, new_uuid(self._rng), live, self.tracker, self._give_way)
        token = current.set(context)
        # The write window is shared round robin by owner, so that one large object does not hold up the small ones.
        share = write_owner.set(f"{self.name}/{key}")
        self._active.inc()
        try:
            with bound(**self._bound(context)):
                outcome = await self._attempt(item)
                took = self._clock.monotonic() - began
                if took > slow().reconcile:
                    log.warning("a reconcile was slow", seconds=round(took, 3), result=outcome)
            self._total[outcome].inc()
        finally:
            write_owner.reset(share)
            current.reset(token)
            if asyncio.current_task() not in self._away:
                self._active.dec()
            self._time.observe(self._clock.monotonic() - began)
            self.queue.done(key)

    def _bound(self, context: ReconcileContext) -> dict[str, Any]:
        namespace, name = context.key
        values: dict[str, Any] = self._log_values | {
            "namespace": namespace,
            "name": name,
            "reconcileID": context.reconcile_id,
        }
        if self._log_kind:
            values[self._log_kind] = {"name": name, "namespace": namespace}
        return values

    async def _attempt(self, item: Item) -> str:
        key, queue = item.key, self.queue
        try:
            async with asyncio.timeout(self._timeout) as scope:
                result = await self._reconcile(key)
            if not isinstance(result, Done | After):
                raise TypeError(f"a reconcile returns Done() or After(seconds), not {result!r}")
        except Exception as error:  # noqa: BLE001 - CTL3: whatever it is, the key is tried again and the worker lives
            terminal = _terminal(error)
            if terminal is not None:
                await self._give_up(item, terminal)
            else:
                self._failed(item, error, own_timeout=isinstance(error, TimeoutError) and scope.expired())
            return "error"
        self._told.pop(key, None)
        if isinstance(result, Done):
            queue.forget(key)
            return "success"
        priority = item.priority if result.priority is None else result.priority
        if result.seconds <= 0:
            queue.add_rate_limited(key, priority=priority)
            return "requeue"
        queue.forget(key)
        queue.add(key, priority=priority, after=result.seconds)
        return "requeue_after"

    def _failed(self, item: Item, error: Exception, *, own_timeout: bool) -> None:
        self._errors.inc()
        self.queue.add_rate_limited(item.key, priority=item.priority)
        if own_timeout:
            self._timeouts.inc()
            log.error("a reconcile ran into its time-out", seconds=self._timeout)
        elif isinstance(error, Conflict):
            # Somebody else was faster: planned again from a newer state, which is nothing to worry about.
            log.info("a reconcile met a conflict", error=str(error))
        elif _expected(error):
            log.error("a reconcile failed", error=_text(error))
        else:
            self._panics.inc()
            log.error("a reconcile raised an unexpected error", exc_info=error)

    async def _give_up(self, item: Item, error: TerminalError) -> None:
        key, text = item.key, str(error)
        self._errors.inc()
        self._terminals.inc()
        log.error("a reconcile cannot succeed until the object changes", reason=error.reason, error=text)
        if self._on_terminal is not None and self._told.get(key) != text:
            try:
                async with asyncio.timeout(self._timeout):
                    await self._on_terminal(key, error)
            except Exception as problem:  # telling the user failed: try the whole again
                log.error("a terminal error could not be reported", exc_info=problem)
                self.queue.add_rate_limited(key, priority=item.priority)
                return
            self._told[key] = text
        self.queue.forget(key)

    def _forget_terminal(self, key: Key) -> None:
        self._told.pop(key, None)


def _terminal(error: Exception) -> TerminalError | None:
    """Return the TerminalError that *error* is, or, for a group, its first one when it holds nothing else."""
    if isinstance(error, TerminalError):
        return error
    if isinstance(error, ExceptionGroup):
        found = [_terminal(inner) for inner in error.exceptions]
        return found[0] if all(inner is not None for inner in found) else None
    return None


def _expected(error: BaseException) -> bool:
    """Tell whether *error* is one of the runtime's own, or a deadline that the reconcile set itself."""
    if isinstance(error, BaseExceptionGroup):
        return all(_expected(inner) for inner in error.exceptions)
    return isinstance(error, RuntimeFault | TimeoutError)


def _text(error: BaseException) -> str:
    """Return one line per cause: a group names its members, which its own text does not."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_text(inner) for inner in error.exceptions)
    return f"{type(error).__name__}: {error}"
