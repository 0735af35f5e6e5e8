"""The shell around the planner of BroadcastJob: observe, plan, apply, report.

Purpose: one reconcile of one job.

Guarantees:

* The view of a job is kept between passes and told only what changed in the stores since; it reads the stores when the
  pass begins, so one plan sees one snapshot (reliability, rule 15). When the wait for our own writes ran out, job and
  pods are read live for that pass (CON3).
* The status is written when it changed: at once for a first, final or awaited change, and when the pass ends in an
  error; else at most twice a second, and never lost: the pass asks to be called again.
* An error of one node is raised, so that it is counted, logged and tried again at once; but not twice in a row,
  because the back-off of the whole job would hold back what happens to its other nodes (rule 30).
* A pass that has decided lends its worker to another job while it waits for its writes: nothing that it goes on with
  is another job's.
* One malformed job gets one event and one log line that name the field, and stops no other (G8).
* What is kept per job goes with the job, and of a job that ended no view is kept (G9).

What this does not do: it decides nothing; ``plan`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import dataclass, field, replace
from typing import Any

from kruise.apis.broadcastjob import (
    BROADCASTJOBS,
    LABEL_CONTROLLER_UID,
    PROGRESSING,
    BroadcastJob,
)
from kruise.apis.core import PODS, Node, Pod
from kruise.controllers.broadcastjob.apply import Applied, apply
from kruise.controllers.broadcastjob.node_events import TemplateCache, affected, same_for_pods
from kruise.controllers.broadcastjob.plan import (
    Ending,
    Plan,
    Results,
    Settled,
    has_failed,
    is_over,
    plan,
    settle,
    unreadable_events,
)
from kruise.controllers.broadcastjob.reports import action_events, action_of
from kruise.controllers.broadcastjob.status import wire
from kruise.controllers.broadcastjob.view import View
from kruise.controllers.common.holds import Holds
from kruise.controllers.common.reasons import Reason
from kruise.controllers.common.reconciling import ObjectReconciler
from kruise.runtime.cache.store import Change, Store
from kruise.runtime.client.client import Client
from kruise.runtime.clock import Clock
from kruise.runtime.controller import After, Done, Result, only_waiting
from kruise.runtime.log import get_logger
from kruise.runtime.manager.recorder import EventSink
from kruise.runtime.objects import Key, Unreadable, controller_of

__all__ = ["BroadcastJobReconciler"]

log = get_logger("broadcastjob")


@dataclass(slots=True)
class _Kept:
    """What is kept of one job between passes."""

    view: View
    pods: set[Key] = field(default_factory=set)
    """Pods that changed since the view was told."""
    nodes: set[str] = field(default_factory=set)
    told: set[tuple[str, str]] = field(default_factory=set)
    """The lasting states that were reported."""
    holds: Holds = field(default_factory=Holds)
    """The nodes and pods on which the last attempt failed."""
    raised: bool = False
    """The last pass ended in the error of single nodes or pods."""


class BroadcastJobReconciler(ObjectReconciler[BroadcastJob, _Kept]):
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
        super().__init__(
            BROADCASTJOBS,
            jobs,
            client=client,
            recorder=recorder,
            clock=clock,
            log=log,
            noun="job",
            action_of=action_of,
        )
        self._jobs = jobs
        self._pods = pods
        self._nodes = nodes
        self._by_scheduler = by_scheduler
        self._templates = TemplateCache()
        jobs.on_change(self._job_changed)
        pods.on_change(self._pod_changed)
        nodes.on_change(self._node_changed)

    # What the stores tell, synchronously: only which slots are stale.

    def _job_changed(self, old: BroadcastJob | Unreadable | None, new: BroadcastJob | Unreadable | None) -> None:
        # A standby sees jobs come and go without ever reconciling one.
        if old is not None and (new is None or new.uid != old.uid):
            self._templates.forget(old.uid)

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
        open_jobs = [job for job in self._jobs.list() if not is_over(job)]
        keys = dict.fromkeys(affected(old, new, open_jobs, self._templates, by_scheduler=self._by_scheduler))
        node = new or old
        if node is None or (old is not None and new is not None and same_for_pods(old, new)):
            return keys
        for job in open_jobs:
            kept = self._kept.get(job.uid)
            # Of a job without a view nobody knows what it has there; a node that goes may be the last one it waits for.
            if new is None if kept is None else kept.view.has_stake(node.metadata.name):
                keys[job.key] = None
        return keys

    # One pass.

    async def _reconcile(self, job: BroadcastJob, /, *, live: bool) -> Result:
        return await self._pass(job, await self._observe(job, live=live))

    async def _pass(self, job: BroadcastJob, kept: _Kept) -> Result:
        now, moment = self._clock.now(), self._clock.monotonic()
        kept.view.failing, kept.view.unsure = kept.holds.waiting(moment), kept.holds.unsure(moment)
        planned = plan(job, kept.view, now)
        if planned.creates or planned.deletes:
            only_waiting()
        done = await apply(self._client, job, planned, by_scheduler=self._by_scheduler)
        self._hold(kept, done)
        self._report_lasting(job, kept, planned)
        self._report(job, action_events(done))
        if planned.delete_job:
            await self._delete_job(job)
            return Done()
        settled = settle(job, kept.view, planned, self._results(kept, done), now)
        if planned.ending is Ending.RUNNING and done.deleted:
            kept.view.evicted.update(p.pod.uid for p in planned.deletes if p.key.name in done.deleted)
        raising = bool(done.errors) and not kept.raised
        waits = [settled.next_check, kept.holds.next_due(self._clock.monotonic())]
        waits.append(await self._write_status(job, settled, at_once=raising))
        due = min((max(0.0, w) for w in waits if w is not None), default=None)
        kept.raised = raising
        if raising:
            raise done.errors[0]
        for error in done.errors:
            log.warning("a node or pod waits after an error", BroadcastJob=str(job.key), error=str(error))
        if planned.error:
            return self._invalid(job, planned.error, due)
        self._bad.pop(job.key, None)
        return Done() if due is None else After(due)

    async def _observe(self, job: BroadcastJob, *, live: bool) -> _Kept:
        """Return what is to be seen of *job* now."""
        over = is_over(job)
        if over:
            # No node concerns it any more: a thousand ended jobs must not each remember every node.
            self._kept.pop(job.uid, None)
            if job.terminating or not has_failed(job):
                return _Kept(View(job))
        pods: Iterable[Pod | Unreadable] = ()
        kept = self._kept.get(job.uid)
        if live:
            selector = f"{LABEL_CONTROLLER_UID}={job.uid}"
            found = await self._client.live.list(PODS, namespace=job.metadata.namespace, label_selector=selector)
            pods = found
        elif kept is None:
            pods = (*self._pods.by_index("owner", job.uid), *self._pods.unreadable_by_index("owner", job.uid))
        if kept is None or live:
            evicted = kept.view.evicted if kept is not None else None
            nodes = () if over else self._nodes.list()
            view = View.of(job, nodes, pods, by_scheduler=self._by_scheduler, evicted=evicted)
            if live or over:
                # Not kept: the stores know nothing of it. What failed, what was told and whom we evicted still holds.
                return _Kept(view) if kept is None else _Kept(view, told=kept.told, holds=kept.holds)
            self._kept[job.uid] = _Kept(view, told=_told_before(job, view))
            return self._kept[job.uid]
        if kept.view.job.metadata.generation != job.metadata.generation:
            kept.holds.clear()  # the user may have repaired what failed (QUE4)
        kept.view.set_job(job)
        changed, kept.nodes = kept.nodes, set()
        for name in sorted(changed):
            kept.view.set_node(name, self._nodes.get(Key("", name)))
        stale, kept.pods = kept.pods, set()
        for key in sorted(stale):
            kept.view.set_pod(key, self._pods.raw(key))
        return kept

    def _hold(self, kept: _Kept, done: Applied) -> None:
        """Let what failed in this pass wait, and forget what is no longer to be done."""
        moment = self._clock.monotonic()
        for slot, error in done.refusals:
            kept.holds.failed(slot.uid, slot.name, error, moment)
        for pod, error in done.undeleted:
            kept.holds.failed(pod.pod.uid, pod.key.name, error, moment)
        if len(kept.holds):
            created = {name for name, _ in done.created}
            deleted = set(done.deleted)
            there = {pod.pod.uid for pod in kept.view.pods() if pod.key.name not in deleted}
            open_nodes = {uid for uid, hold in kept.holds if hold.name not in created and kept.view.is_candidate(uid)}
            kept.holds.keep(lambda uid: uid in there or uid in open_nodes)

    def _results(self, kept: _Kept, done: Applied) -> Results:
        refused = tuple((hold.name, hold.error) for uid, hold in kept.holds if kept.view.is_candidate(uid))
        return replace(done.results, refusals=refused)

    async def _write_status(self, job: BroadcastJob, settled: Settled, *, at_once: bool) -> float | None:
        """Write the status when it changed and its time has come; return the seconds to wait when it has not."""
        if settled.status is None:
            return None
        urgent = settled.decisive or at_once
        wait = await self._put_status(job, wire(settled.status), wire(job.status), urgent=urgent)
        if wait is None:
            self._report(job, settled.events)
        return wait

    async def _delete_job(self, job: BroadcastJob) -> None:
        if not await self._client.delete(BROADCASTJOBS, job, disrupts=True, propagation="Background"):
            log.debug("job is gone before its time to live ended it", name=job.metadata.name)

    # Reports and upkeep.

    def _report_lasting(self, job: BroadcastJob, kept: _Kept, planned: Plan) -> None:
        lasting = [e for e in planned.events if e.lasting]
        self._report(job, [e for e in lasting if (e.reason, e.note) not in kept.told])
        kept.told.clear()
        kept.told.update((e.reason, e.note) for e in lasting)

    def _tables(self) -> tuple[Sized, ...]:
        return (*super()._tables(), self._templates)


def _told_before(job: BroadcastJob, view: View) -> set[tuple[str, str]]:
    """Return the states that a manager before this one reported, as far as the status shows it."""
    if any(c.type == PROGRESSING and c.reason == Reason.POD_UNREADABLE for c in job.status.conditions):
        return {(e.reason, e.note) for e in unreadable_events(view)}
    return set()
