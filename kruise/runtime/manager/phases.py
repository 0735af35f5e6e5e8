"""The order in which a process comes up and goes down, and one group of tasks per step.

Purpose: every ordering rule in one place, each with its reason.

Start order (MAN1), and why each phase comes after the one before it:

1. HTTP_SERVERS   a kubelet must see a process that starts, however long its first lists take.
2. WEBHOOKS       a list of a kind with a conversion webhook calls that webhook: caches without it would never fill.
3. CACHES         whatever follows reads caches, and a read of a half-filled one is a wrong answer.
4. OTHERS         runs in every replica, and may feed what controllers wait for.
5. WARMUP         fills the queues of a standby, from the caches, so that a take-over finds its work.
6. LEADER_ELECTION  last: who takes the lease must be able to use it at once.

Stop order (MAN2), and why:

1. WARMUP         no new work.
2. OTHERS         what feeds controllers ends before they do.
3. LEADER_ELECTION  reconciles under way finish while their caches still live; then the lease is released.
4. CACHES         nobody reads any more.
5. WEBHOOKS       other replicas take over admission; ours answers until its readers are gone.
6. HTTP_SERVERS   probes and metrics tell of the stop until its end.
7. (events)       last of all: every part above may have had something to report.

Guarantees:

* MAN3: a group stops within the time that it is given; a job that does not is named, with its stack, and cancelled.
* MAN5: a job that fails is reported at once, and does not take its group with it: the stop is an orderly one.
* MAN6: a job that is added to an open group starts at once.

What this does not do: it does not abandon a job that ignores its cancellation. The group waits; whoever owns the
process decides whether to end it (``Manager.abort``).
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from kruise.runtime.log import get_logger
from kruise.runtime.manager.stacks import chain

log = get_logger("manager")

CANCEL_GRACE: Final = 1.0
"""Seconds for a cancelled job to return, after the time for a graceful stop is used up."""


class Phase(enum.Enum):
    """When a job starts and stops."""

    HTTP_SERVERS = "http servers"
    WEBHOOKS = "webhooks"
    CACHES = "caches"
    OTHERS = "others"
    WARMUP = "warmup"
    LEADER_ELECTION = "leader election"


START_ORDER: Final = (
    Phase.HTTP_SERVERS,
    Phase.WEBHOOKS,
    Phase.CACHES,
    Phase.OTHERS,
    Phase.WARMUP,
    Phase.LEADER_ELECTION,
)
STOP_ORDER: Final = (
    Phase.WARMUP,
    Phase.OTHERS,
    Phase.LEADER_ELECTION,
    Phase.CACHES,
    Phase.WEBHOOKS,
    Phase.HTTP_SERVERS,
)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Something that runs in a phase."""

    name: str
    run: Callable[[], Awaitable[None]]
    """Runs until it is cancelled, stopped, or done."""
    stop: Callable[[], object] | None = None
    """Asks for a graceful end: ``run`` returns when what is under way is finished. Without it, it is cancelled."""
    ready: Callable[[], Awaitable[None]] | None = None
    """Returns when the phase may count this job as up."""


@dataclass(frozen=True, slots=True)
class Late:
    """A job that did not stop in time (MAN3)."""

    name: str
    phase: Phase
    stack: tuple[str, ...]
    """Where it waits, the outermost line first."""

    def __str__(self) -> str:
        where = self.stack[-1] if self.stack else "its start"
        return f"{self.name} ({self.phase.value}) at {where}"


class PhaseGroup:
    """The jobs of one phase. Own it with ``await group.serve()`` inside a TaskGroup."""

    def __init__(self, phase: Phase, *, failed: Callable[[Job, Exception], None]) -> None:
        self.phase: Final = phase
        self._failed = failed
        self._waiting: list[Job] = []
        self._jobs: dict[asyncio.Task[None], Job] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._opened = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def serving(self) -> bool:
        """Whether jobs are started."""
        return self._tasks is not None and not self._closing.is_set()

    @property
    def closed(self) -> bool:
        """Whether the stop has begun."""
        return self._closing.is_set()

    def names(self) -> tuple[str, ...]:
        """Return the names of the jobs that run, or wait for the group to open."""
        return tuple(job.name for job in (*self._jobs.values(), *self._waiting))

    def add(self, job: Job) -> None:
        """Start *job*, now or when the group opens (MAN6). Raises RuntimeError once the stop has begun."""
        if self._closing.is_set():
            raise RuntimeError(f"{job.name} cannot start: the {self.phase.value} phase is stopping")
        if self._tasks is None:
            self._waiting.append(job)
        else:
            self._start(job, self._tasks)

    async def serve(self) -> None:
        """Run the jobs until :meth:`stop` was called and all have returned. A cancellation cancels them at once."""
        if self._closing.is_set():
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                waiting, self._waiting = self._waiting, []
                for job in waiting:
                    self._start(job, tasks)
                self._opened.set()
                await self._closing.wait()
        finally:
            self._closing.set()

    async def ready(self) -> None:
        """Wait until the group is open and every job in it is up, or has ended. Can be cancelled."""
        await self._opened.wait()
        for task, job in tuple(self._jobs.items()):
            if job.ready is not None:
                async with asyncio.TaskGroup() as both:
                    up = both.create_task(_await(job.ready))
                    await asyncio.wait((up, task), return_when=asyncio.FIRST_COMPLETED)
                    up.cancel()

    def _start(self, job: Job, tasks: asyncio.TaskGroup) -> None:
        task = tasks.create_task(self._run(job), name=job.name)
        self._jobs[task] = job
        task.add_done_callback(lambda done: self._jobs.pop(done, None))

    async def _run(self, job: Job) -> None:
        try:
            await job.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the whole process stops in order (MAN5)
            self._failed(job, error)

    async def stop(self, grace: float | None) -> list[Late]:
        """Stop every job, and return those that did not end within *grace* seconds; None waits for ever.

        Afterwards the group is closed; :meth:`serve` returns when the last job has.
        """
        self._closing.set()
        graceful = grace is None or grace > 0
        for task, job in tuple(self._jobs.items()):
            if job.stop is not None and graceful:
                job.stop()
            else:
                task.cancel()
        await self._wait(grace if graceful else CANCEL_GRACE)
        late = self.left()
        for one in late:
            log.error("a job did not stop in time", job=one.name, phase=self.phase.value, at=list(one.stack))
        if late and graceful:
            for task in tuple(self._jobs):
                task.cancel()
            await self._wait(CANCEL_GRACE)
        return late

    async def _wait(self, seconds: float | None) -> None:
        if self._jobs:
            await asyncio.wait(tuple(self._jobs), timeout=seconds)

    def left(self) -> list[Late]:
        """Return the jobs that run still."""
        return [Late(job.name, self.phase, tuple(chain(task))) for task, job in self._jobs.items()]


async def _await(what: Callable[[], Awaitable[None]]) -> None:
    await what()
