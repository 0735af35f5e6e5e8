"""What a BroadcastJob does next: a pure function of the job, what is observed of it, and the time.

Purpose: :func:`plan` decides (spec/broadcastjob 6), :func:`settle` words the status once the actions are done. Neither
does I/O, reads a clock or draws a number.

Guarantees:

* B4: at each creation the active pods are fewer than parallelism allows.
* B5: a job that ended creates nothing, ever; its active pods are deleted, in later passes too if a delete failed.
* L6: every timer (deadline, TTL) is computed from stored state on every pass, so a restart loses none.
* Planning again after the actions took effect yields no action.

What this does not do: it never looks at the cluster; a stale view leads to a plan whose writes the API server refuses.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

from msgspec.structs import replace as _with

from kruise.apis.broadcastjob import (
    COMPLETE,
    FAIL_FAST,
    FAILED,
    NEVER,
    NO_LIMIT,
    PAUSE,
    PHASE_COMPLETED,
    PHASE_FAILED,
    PHASE_PAUSED,
    PHASE_RUNNING,
    PROGRESSING,
    BroadcastJob,
    BroadcastJobStatus,
    JobCondition,
)
from kruise.apis.intorstring import lenient
from kruise.controllers.broadcastjob.progress import Facts, progressing
from kruise.controllers.broadcastjob.slots import restarts_of
from kruise.controllers.broadcastjob.view import NodeSlot, PodClass, PodView, View
from kruise.controllers.common.reasons import Reason
from kruise.runtime.clock import format_time, parse_time
from kruise.runtime.objects import Unreadable

__all__ = [
    "Ending",
    "Plan",
    "PlannedEvent",
    "Results",
    "Settled",
    "has_failed",
    "is_over",
    "parallelism",
    "plan",
    "settle",
    "unreadable_events",
]

NORMAL: Final = "Normal"
WARNING: Final = "Warning"

FAIL_FAST_REASON: Final = "failed pod is found"
"""The event reason as OpenKruise writes it, spaces included."""
DEADLINE_REASON: Final = "DeadlineExceeded"
FAIL_FAST_TEXT: Final = "failure policy is FailurePolicyTypeFailFast and failed pod is found"


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """An event on the job.

    One that describes a state is ``lasting``: it is reported when the state begins. Every other one belongs to a change
    of the status, and is reported once that is written.
    """

    type: str
    reason: str
    note: str
    lasting: bool = False


class Ending(enum.Enum):
    """Where a pass leads the job."""

    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    """This pass ends the job as failed."""
    OVER = "over"
    """It ended earlier; what is left is to delete survivors, and the job itself when its time has come."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order: delete, create, then settle the status."""

    ending: Ending
    creates: tuple[NodeSlot, ...] = ()
    deletes: tuple[PodView, ...] = ()
    delete_job: bool = False
    events: tuple[PlannedEvent, ...] = ()
    next_check: float | None = None
    """Seconds until time alone changes the answer."""
    error: str = ""
    """What is wrong with the spec. Pods are not created while it stands."""
    failure: str = ""
    """With Ending.FAILED: the event reason."""
    message: str = ""
    """With Ending.FAILED: why."""
    culprit: str = ""
    """With Ending.FAILED: which pod, for the event."""
    start_time: str = ""
    room: int = 0
    """How many pods may be created before a deletion of this plan has made more room (B4)."""
    withheld: int = 0
    """Candidates for which parallelism leaves no room now."""


@dataclass(frozen=True, slots=True)
class Results:
    """How the actions went."""

    created: int = 0
    deleted: int = 0
    stopped: int = 0
    """Active pods that the deletions ended; those that were gone already count here, and not as deleted."""
    refusals: tuple[tuple[str, Exception], ...] = ()
    """(node, error) of the nodes whose pod could not be created, now or before."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The status after a pass; ``None`` leaves it alone."""

    status: BroadcastJobStatus | None
    events: tuple[PlannedEvent, ...] = ()
    decisive: bool = False
    """A first, final or otherwise awaited status: it is written at once."""
    next_check: float | None = None


def is_over(job: BroadcastJob) -> bool:
    """Tell whether the job ended: a true Complete or Failed condition. A job of type Never does not end so."""
    if job.spec.completion_policy.type == NEVER:
        return False
    return _is_true(job, COMPLETE, FAILED)


def has_failed(job: BroadcastJob) -> bool:
    """Tell whether the job has a true condition Failed."""
    return _is_true(job, FAILED)


def _is_true(job: BroadcastJob, *kinds: str) -> bool:
    return any(c.type in kinds and c.status == "True" for c in job.status.conditions)


def plan(job: BroadcastJob, view: View, now: float) -> Plan:
    """Decide the next pass of *job* at wall time *now*, in seconds."""
    if is_over(job):
        return _over(job, view, now)
    start = job.status.start_time or format_time(now)
    if job.status.phase == PHASE_FAILED:
        # Reached by type Never, or when the conditions were lost: no creation ever again (B5).
        return Plan(Ending.OVER, deletes=_active(view), start_time=start)
    events = list(unreadable_events(view))
    due = _deadline(job, start, now)
    if job.spec.paused and job.status.phase != PHASE_COMPLETED:
        return Plan(Ending.PAUSED, events=tuple(events), start_time=start)
    policy = job.spec.failure_policy.type or FAIL_FAST
    if view.failed and policy == PAUSE:
        # Upstream flips between running and paused here on every pass, with two events each time.
        if job.status.phase != PHASE_PAUSED:
            events.append(PlannedEvent(WARNING, "Paused", "job is paused, due to failed pod"))
        return Plan(Ending.PAUSED, events=tuple(events), start_time=start)
    if job.status.phase == PHASE_PAUSED:
        events.append(PlannedEvent(NORMAL, "Continue", "continue to process job"))
    events += [
        PlannedEvent(
            WARNING,
            "DuplicatePodCreatedOnSameNode",
            f"Duplicated pod {twin.key.name} found on same node {slot.name}",
            lasting=True,
        )
        for slot in view.crowded()
        for twin in slot.pods[1:]
    ]
    base = Plan(Ending.RUNNING, events=tuple(events), start_time=start)
    if view.failed and policy == FAIL_FAST:
        return replace(
            base,
            ending=Ending.FAILED,
            deletes=_active(view),
            failure=FAIL_FAST_REASON,
            message=FAIL_FAST_TEXT,
            culprit=_culprit(job, view),
        )
    if due is not None and due <= 0:
        return replace(
            base,
            ending=Ending.FAILED,
            deletes=_active(view),
            failure=DEADLINE_REASON,
            message=f"Job {job.key} was active longer than specified deadline",
        )
    return _advance(job, view, replace(base, next_check=due))


def _culprit(job: BroadcastJob, view: View) -> str:
    """Name the first pod over the restart limit and its node, for the event that ends the job."""
    over = (p for p in view.pods() if p.kind is PodClass.RESTART_FAILED)
    first = min(over, key=lambda p: p.key, default=None)
    if first is None or isinstance(first.pod, Unreadable):
        return ""
    restarts, limit = restarts_of(first.pod), job.spec.failure_policy.restart_limit
    return f"; pod {first.key.name} on node {first.node_name} restarted {restarts} times, restartLimit is {limit}"


def _active(view: View) -> tuple[PodView, ...]:
    """Return the pods that the end of the job takes down, but for those whose last deletion failed a moment ago."""
    return tuple(p for p in view.active_pods() if not view.waits(p))


def unreadable_events(view: View) -> tuple[PlannedEvent, ...]:
    """Return the event that tells of pods that cannot be decoded, if there are any."""
    pods = view.unreadable_pods()
    if not pods:
        return ()
    first = pods[0].pod
    assert isinstance(first, Unreadable)
    more = f" (and {len(pods) - 1} more)" if len(pods) > 1 else ""
    text = f"pod {first.key} cannot be read: {first.path}: {first.problem}{more}; it counts as active, fix or delete it"
    return (PlannedEvent(WARNING, Reason.POD_UNREADABLE, text, lasting=True),)


def _advance(job: BroadcastJob, view: View, base: Plan) -> Plan:
    """Evict what no longer fits, and fill the room that parallelism leaves."""
    evicted = tuple(slot.pods[-1] for slot in view.evicting() if not view.waits(slot.pods[-1]))
    base = replace(base, deletes=evicted, error=view.problem)
    if view.problem:
        return base
    if job.terminating or job.status.phase == PHASE_COMPLETED or not view.candidates or view.unplaced_unreadable:
        return base  # a phase that is an end creates nothing, also when its condition was lost (B5)
    try:
        limit = parallelism(job, view.desired)
    except ValueError as error:
        return replace(base, error=f"spec.parallelism: {error}")
    active = view.count(PodClass.ACTIVE)
    leaving = sum(1 for p in evicted if p.kind is PodClass.ACTIVE)
    free = limit - active - view.reserved
    room = free + leaving
    events = base.events
    if active - leaving > limit:
        text = "Number of active pods exceed parallelism limit"
        events = (*events, PlannedEvent(WARNING, "TooManyActivePods", text, lasting=True))
    creates = tuple(view.first_candidates(max(0, room)))
    withheld = view.ready_candidates - len(creates)
    return replace(base, creates=creates, events=events, room=max(0, free), withheld=withheld)


def parallelism(job: BroadcastJob, desired: int) -> int:
    """Return how many pods may be active at once. Raises ValueError for a text that is no percentage."""
    value = job.spec.parallelism
    if value is None:
        return NO_LIMIT
    return lenient(value, desired, round_up=True)


def _deadline(job: BroadcastJob, start: str, now: float) -> float | None:
    """Return the seconds until the deadline, zero or less when it has passed; ``None`` without one."""
    policy = job.spec.completion_policy
    begun = parse_time(start)
    if policy.type == NEVER or policy.active_deadline_seconds is None or begun is None:
        return None
    return begun + policy.active_deadline_seconds - now


def _over(job: BroadcastJob, view: View, now: float) -> Plan:
    # Upstream leaks the pods whose delete failed in the pass that ended the job.
    survivors = _active(view) if has_failed(job) else ()
    ttl = job.spec.completion_policy.ttl_seconds_after_finished
    ended = parse_time(job.status.completion_time)
    if ttl is None or ended is None or job.terminating:
        return Plan(Ending.OVER, deletes=survivors)
    due = ended + ttl - now
    if due <= 0:
        return Plan(Ending.OVER, deletes=survivors, delete_job=True)
    return Plan(Ending.OVER, deletes=survivors, next_check=due)


def settle(job: BroadcastJob, view: View, done: Plan, results: Results, now: float) -> Settled:
    """Return the status of *job* after the actions of *done* ended as *results*."""
    if done.ending is Ending.OVER and is_over(job):
        return _settle_over(job, view, done, results)
    active, failed = view.count(PodClass.ACTIVE) - results.stopped, view.failed
    if done.ending in (Ending.FAILED, Ending.OVER):
        # The pods that the end of the job takes down count as failed (spec/broadcastjob 6.7).
        failed += results.deleted
    status = BroadcastJobStatus(
        conditions=job.status.conditions,
        start_time=done.start_time,
        completion_time=job.status.completion_time,
        active=max(0, active) + results.created,
        succeeded=view.count(PodClass.SUCCEEDED),
        failed=failed,
        desired=view.desired if not view.problem else max(view.desired, job.status.desired),
        phase=job.status.phase or PHASE_RUNNING,
        observed_generation=max(job.metadata.generation, job.status.observed_generation),
    )
    stamp = format_time(now)
    events = [e for e in done.events if not e.lasting]
    next_check = done.next_check
    if done.ending is Ending.PAUSED and status.phase in (PHASE_RUNNING, PHASE_PAUSED):
        status = _with(status, phase=PHASE_PAUSED)
    elif done.ending is Ending.FAILED:
        status = _ended(status, FAILED, done.message, stamp, PHASE_FAILED)
        events.append(_counted(WARNING, done.failure, done.message, status, done.culprit))
        next_check = _ttl(job)
    elif done.ending is Ending.RUNNING:
        if status.phase == PHASE_PAUSED:
            status = _with(status, phase=PHASE_RUNNING)
        if not done.error and _complete(job, view, results):
            text = f"Job completed, {status.succeeded} pods succeeded, {status.failed} pods failed"
            status = _ended(status, COMPLETE, text, stamp, PHASE_COMPLETED)
            said = f"Job {job.key} is completed, {status.succeeded} pods succeeded, {status.failed} pods failed"
            events.append(PlannedEvent(NORMAL, "JobComplete", said))
            next_check = _ttl(job)
    facts = Facts(
        paused=done.ending is Ending.PAUSED,
        deadline=done.failure == DEADLINE_REASON,
        error=done.error,
        withheld=done.withheld,
        created=results.created,
        refusals=results.refusals,
    )
    status = _with(status, conditions=progressing(job, view, status, facts, stamp))
    if done.error and _reason(status) != _reason(job.status):
        events.append(PlannedEvent(WARNING, Reason.INVALID_SPEC, f"{done.error}; correct the field"))
    decisive = status.phase != job.status.phase or status.observed_generation != job.status.observed_generation
    return Settled(status, tuple(events), decisive, next_check)


def _reason(status: BroadcastJobStatus) -> tuple[str, str]:
    found = next((c for c in status.conditions if c.type == PROGRESSING), None)
    return (found.reason, found.message) if found is not None else ("", "")


def _settle_over(job: BroadcastJob, view: View, done: Plan, results: Results) -> Settled:
    """Correct the counts of a job that ended while some of its pods could not be deleted; else leave it alone."""
    if not results.stopped:
        return Settled(None, next_check=done.next_check)
    left = max(0, view.count(PodClass.ACTIVE) - results.stopped)
    status = _with(job.status, active=left, failed=job.status.failed + results.deleted)
    return Settled(status, decisive=True, next_check=done.next_check)


def _complete(job: BroadcastJob, view: View, results: Results) -> bool:
    if job.spec.completion_policy.type == NEVER or view.desired == 0 or results.created:
        return False
    going = sum(1 for slot in view.evicting() if slot.pods[-1].kind is PodClass.ACTIVE)
    # A pod that had to go and could not be deleted now would live on for ever beside a complete job.
    return view.pending == 0 and going <= results.stopped


def _ttl(job: BroadcastJob) -> float | None:
    ttl = job.spec.completion_policy.ttl_seconds_after_finished
    return None if ttl is None or job.spec.completion_policy.type == NEVER else float(max(0, ttl))


def _counted(kind: str, reason: str, message: str, status: BroadcastJobStatus, culprit: str) -> PlannedEvent:
    text = f"{message}: {status.succeeded} pods succeeded, {status.failed} pods failed{culprit}"
    return PlannedEvent(kind, reason, text)


def _ended(status: BroadcastJobStatus, kind: str, message: str, stamp: str, phase: str) -> BroadcastJobStatus:
    condition = JobCondition(
        type=kind, status="True", last_probe_time=stamp, last_transition_time=stamp, reason=kind, message=message
    )
    # One condition of a type: the schema keeps them as a map. Upstream appends a second one beside a false one.
    others = tuple(c for c in status.conditions if c.type != kind)
    return _with(status, conditions=(*others, condition), completion_time=stamp, phase=phase)
