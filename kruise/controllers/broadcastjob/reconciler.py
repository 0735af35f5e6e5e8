"""The shell around the planner of BroadcastJob: observe, plan, apply, report.

Purpose: one reconcile of one job.

Guarantees:

* The view of a job is kept between passes and told only what changed in the stores since; it reads the stores when the
  pass begins, so one plan sees one snapshot (reliability, rule 15).
* The status is written when it changed: at once for a first, final or awaited change, else at most twice a second.
* One malformed job gets one event and one log line that name the field, and stops no other (G8).
* What is kept per job (view, pace, reported states) goes with the job (G9).

What this does not do: it decides nothing; ``plan`` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kruise.apis.broadcastjob import (
    BROADCASTJOBS,
    LABEL_CONTROLLER_UID,
    PROGRESSING,
    BroadcastJob,
    BroadcastJobStatus,
    JobCondition,
)
from kruise.apis.core import PODS, Node, Pod
from kruise.controllers.broadcastjob.apply import Applied, apply
from kruise.controllers.broadcastjob.node_events import TemplateCache, affected, same_node
from kruise.controllers.broadcastjob.plan import NORMAL, WARNING, PlannedEvent, Settled, plan, settle
from kruise.controllers.broadcastjob.status import wire
from kruise.controllers.broadcastjob.view import InvalidTemplateError, View
from kruise.controllers.common.pace import StatusPace
from kruise.controllers.common.reasons import Reason
from kruise.runtime.cache.store import Change, Store
from kruise.runtime.client.client import Client
from kruise.runtime.clock import Clock, format_time
from kruise.runtime.controller import After, Done, Result, current
from kruise.runtime.errors import Conflict, NotFound, TerminalError
from kruise.runtime.log import get_logger
from kruise.runtime.objects import Key, Object, Resource, Unreadable, controller_of

__all__ = ["BroadcastJobReconciler", "EventSink"]

log = get_logger("broadcastjob")

_EXAMPLES: Final = 5


class EventSink(Protocol):
    """Where events go; the recorder of the manager is one."""

    def event(
        self,
        obj: Object,
        resource: Resource[Any],
        *,
        type: str,
        reason: str,
        action: str,
        note: str,
    ) -> None:
        """Take an event; never blocks."""
        ...


@dataclass(slots=True)
class _Kept:
    """What is kept of one job between passes."""

    view: View
    pods: set[Key] = field(default_factory=set)
    """Pods that changed since the view was told."""
    nodes: set[str] = field(default_factory=set)
    told: frozenset[tuple[str, str]] = frozenset()
    """The lasting states that were reported."""


class BroadcastJobReconciler:
    """Reconciles jobs by key. Call it with a key; it returns when to look again."""

    def __init__(
        self,
        *,
        client: Client,
        recorder: EventSink,
        jobs: Store[BroadcastJob],
        pods: Store[Pod],
        nodes: Store[Node],
        clock: Clock,
        by_scheduler: bool = True,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._jobs = jobs
        self._pods = pods
        self._nodes = nodes
        self._clock = clock
        self._by_scheduler = by_scheduler
        self._kept: dict[str, _Kept] = {}
        self._uids: dict[Key, str] = {}
        self._bad: dict[Key, str] = {}
        self._pace = StatusPace()
        self._templates = TemplateCache()
        pods.on_change(self._pod_changed)
        nodes.on_change(self._node_changed)

    # What the stores tell, synchronously: only which slots are stale.

    def _pod_changed(self, old: Pod | Unreadable | None, new: Pod | Unreadable | None) -> None:
        for pod in (old, new):
            ref = controller_of(pod.metadata) if pod is not None else None
            kept = self._kept.get(ref.uid) if ref is not None else None
            if kept is not None and pod is not None:
                kept.pods.add(pod.key)

    def _node_changed(self, old: Node | Unreadable | None, new: Node | Unreadable | None) -> None:
        node = new if new is not None else old
        assert node is not None
        for kept in self._kept.values():
            kept.nodes.add(node.metadata.name)

    def jobs_of_node(self, change: Change[Any]) -> Iterable[Key]:
        """Return the jobs that a change of a node concerns: their eligibility flipped, or they have something there."""
        old = change.old if isinstance(change.old, Node) else None
        new = change.new if isinstance(change.new, Node) else None
        keys = set(affected(old, new, self._jobs.list(), self._templates, by_scheduler=self._by_scheduler))
        node = new or old
        if node is not None and (new is None or old is None or not same_node(old, new)):
            keys.update(k.view.job.key for k in self._kept.values() if k.view.has_stake(node.metadata.name))
        return keys

    # One pass.

    async def __call__(self, key: Key) -> Result:
        """Bring the job *key* one step further."""
        job = self._jobs.raw(key)
        uid = self._uids.get(key)
        if uid is not None and (job is None or job.uid != uid):
            self._forget(key, uid)
        if job is None:
            return Done()
        if isinstance(job, Unreadable):
            return self._refuse(job)
        self._bad.pop(key, None)
        self._uids[key] = job.uid
        try:
            kept = await self._observe(job)
        except InvalidTemplateError as error:
            await self._write_invalid(job, str(error))
            raise TerminalError(f"{BROADCASTJOBS} {key}: {error}; correct the field", reason="InvalidSpec") from error
        return await self._pass(job, kept)

    async def _pass(self, job: BroadcastJob, kept: _Kept) -> Result:
        now = self._clock.now()
        planned = plan(job, kept.view, now)
        done = await apply(self._client, job, planned, by_scheduler=self._by_scheduler)
        settled = settle(job, kept.view, planned, done.results, now)
        lasting = [e for e in planned.events if e.lasting]
        self._report(job, [e for e in planned.events if not e.lasting and not done.errors])
        self._report(job, [e for e in lasting if (e.reason, e.note) not in kept.told])
        kept.told = frozenset((e.reason, e.note) for e in lasting)
        self._report(job, _action_events(done))
        if planned.delete_job and not done.errors:
            await self._delete_job(job)
            return Done()
        waits = [settled.next_check]
        waits.append(await self._write_status(job, settled))
        if planned.error:
            raise TerminalError(f"{BROADCASTJOBS} {job.key}: {planned.error}; correct the field", reason="InvalidSpec")
        if done.errors:
            raise done.errors[0]
        due = [w for w in waits if w is not None]
        return After(max(0.0, min(due))) if due else Done()

    async def _observe(self, job: BroadcastJob) -> _Kept:
        kept = self._kept.get(job.uid)
        context = current.get()
        if context is not None and context.live:
            # The wait for our own writes ran out: this one pass reads the pods from the server (CON3).
            selector = f"{LABEL_CONTROLLER_UID}={job.uid}"
            pods = await self._client.live.list(PODS, namespace=job.metadata.namespace, label_selector=selector)
            self._kept.pop(job.uid, None)
            return _Kept(View.of(job, self._nodes.list(), pods, by_scheduler=self._by_scheduler))
        if kept is None:
            owned: tuple[Pod | Unreadable, ...] = (
                *self._pods.by_index("owner", job.uid),
                *self._pods.unreadable_by_index("owner", job.uid),
            )
            view = View.of(job, self._nodes.list(), owned, by_scheduler=self._by_scheduler)
            kept = self._kept[job.uid] = _Kept(view)
            return kept
        kept.view.set_job(job)
        nodes, kept.nodes = kept.nodes, set()
        for name in sorted(nodes):
            kept.view.set_node(name, self._nodes.get(Key("", name)))
        stale, kept.pods = kept.pods, set()
        for key in sorted(stale):
            kept.view.set_pod(key, self._pods.raw(key))
        return kept

    async def _write_status(self, job: BroadcastJob, settled: Settled) -> float | None:
        """Write the status when it changed and its time has come; return the seconds to wait when it has not."""
        if settled.status is None:
            return None
        body = wire(settled.status)
        if body == wire(job.status):
            self._report(job, settled.events)
            return None
        moment = self._clock.monotonic()
        wait = self._pace.wait(job.uid, moment, decisive=settled.decisive)
        if wait > 0:
            return wait
        await self._client.patch_status(BROADCASTJOBS, job, body)
        self._pace.wrote(job.uid, moment)
        self._report(job, settled.events)
        return None

    async def _delete_job(self, job: BroadcastJob) -> None:
        try:
            await self._client.delete(BROADCASTJOBS, job, disrupts=True, propagation="Background")
        except NotFound:
            log.debug("job is gone before its time to live ended it", name=job.metadata.name)

    # Bad input.

    def _refuse(self, job: Unreadable) -> Result:
        """Report a job that does not fit its type, once per version of it."""
        if self._bad.get(job.key) != job.resource_version:
            self._bad[job.key] = job.resource_version
            text = f"{job.path}: {job.problem}; correct the field"
            log.warning("job cannot be read", BroadcastJob=str(job.key), field=job.path, problem=job.problem)
            self._report(job, [PlannedEvent(WARNING, Reason.INVALID_SPEC, text)])
        return Done()

    async def _write_invalid(self, job: BroadcastJob, text: str) -> None:
        """Give a job whose template cannot be read its condition and its event."""
        old = next((c for c in job.status.conditions if c.type == PROGRESSING), None)
        stamp = format_time(self._clock.now())
        since = old.last_transition_time if old is not None and old.status == "False" else stamp
        condition = JobCondition(
            type=PROGRESSING,
            status="False",
            reason=Reason.INVALID_SPEC,
            message=text[:1024],
            last_transition_time=since,
        )
        status = BroadcastJobStatus(
            conditions=(*(c for c in job.status.conditions if c.type != PROGRESSING), condition),
            start_time=job.status.start_time,
            completion_time=job.status.completion_time,
            active=job.status.active,
            succeeded=job.status.succeeded,
            failed=job.status.failed,
            desired=job.status.desired,
            phase=job.status.phase,
            observed_generation=max(job.metadata.generation, job.status.observed_generation),
        )
        if wire(status) == wire(job.status):
            return
        try:
            await self._client.patch_status(BROADCASTJOBS, job, wire(status))
        except Conflict:
            log.debug("job changed while its condition was written", name=job.metadata.name)
            return
        self._report(job, [PlannedEvent(WARNING, Reason.INVALID_SPEC, text)])

    # Reports and upkeep.

    def _report(self, job: Object, events: Iterable[PlannedEvent]) -> None:
        for one in events:
            self._recorder.event(
                job,
                BROADCASTJOBS,
                type=one.type,
                reason=one.reason,
                action=_ACTIONS.get(one.reason, "Reconcile"),
                note=one.note,
            )

    def _forget(self, key: Key, uid: str) -> None:
        self._uids.pop(key, None)
        self._bad.pop(key, None)
        self._kept.pop(uid, None)
        self._pace.forget(uid)
        self._templates.forget(uid)

    def kept(self) -> int:
        """Return of how many jobs something is kept: never more than there are (G9)."""
        return max(len(self._kept), len(self._uids), len(self._pace), len(self._bad))


_ACTIONS: Final = {
    "SuccessfulCreate": "Create",
    "FailedCreate": "Create",
    "SuccessfulDelete": "Delete",
    "JobComplete": "Complete",
    "failed pod is found": "Fail",
    "DeadlineExceeded": "Fail",
    "Paused": "Pause",
    "Continue": "Resume",
}


def _action_events(done: Applied) -> list[PlannedEvent]:
    """Return one event per kind of action, with counts and examples: a thousand pods are one event (REC7)."""
    events = []
    if done.deleted:
        events.append(PlannedEvent(NORMAL, "SuccessfulDelete", _summary("Delete pod", done.deleted)))
    if done.refusals:
        by_text: dict[str, list[str]] = {}
        for node, error in done.refusals:
            by_text.setdefault(f"Error creating: {error}", []).append(node)
        for text, nodes in by_text.items():
            where = f" (on {len(nodes)} nodes, such as {nodes[0]})" if len(nodes) > 1 else ""
            events.append(PlannedEvent(WARNING, "FailedCreate", f"{text}{where}"))
    if done.created:
        events.append(
            PlannedEvent(NORMAL, "SuccessfulCreate", _summary("Created pod", [pod for _, pod in done.created]))
        )
    return events


def _summary(what: str, pods: list[str]) -> str:
    if len(pods) == 1:
        return f"{what}: {pods[0]}"
    more = f" and {len(pods) - _EXAMPLES} more" if len(pods) > _EXAMPLES else ""
    return f"{what}s: {len(pods)} pods: {', '.join(pods[:_EXAMPLES])}{more}"
