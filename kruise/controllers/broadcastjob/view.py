"""What is observed of one job, kept so that a change costs what changed.

Purpose: the counts and sets on which a plan of a BroadcastJob rests, over any number of nodes and pods.

Guarantees:

* A view that was told every change equals a view that was built anew from the same objects (a property test).
* ``set_pod`` and ``set_node`` touch one slot; nothing here walks all nodes except :meth:`View.set_job` with another
  template, which asks every node without a pod again.
* A pod that cannot be decoded counts as active and holds its node.

What this does not do: it reads no cache and no clock, and it decides nothing.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from kruise.apis.broadcastjob import NODE_UID_ANNOTATION, BroadcastJob
from kruise.apis.core import Node, Pod
from kruise.controllers.broadcastjob.eligibility import Misfit, demand_of, fits
from kruise.controllers.broadcastjob.pod_events import same_for_job
from kruise.controllers.broadcastjob.pods import assigned_node, belongs_to
from kruise.controllers.broadcastjob.slots import (
    InvalidTemplateError,
    NodeSlot,
    PodClass,
    PodView,
    Template,
    blocked_reason,
    classify,
)
from kruise.controllers.common.reasons import Reason
from kruise.runtime.objects import Key, Unreadable

__all__ = ["InvalidTemplateError", "NodeSlot", "PodClass", "PodView", "Template", "View"]


class View:
    """The observed state of one job."""

    def __init__(self, job: BroadcastJob, *, by_scheduler: bool = True, evicted: set[str] | None = None) -> None:
        self.by_scheduler = by_scheduler
        self.job = job
        self.problem = ""
        """Why the template cannot be read. Then no node without a pod is desired, and the plan goes no further."""
        self._template = self._read(job)
        self.counts: Counter[PodClass] = Counter()
        self.blocked: Counter[Reason] = Counter()
        self.desired = 0
        self.pending = 0
        """Desired nodes that are not done yet, with and without a pod."""
        self._pods: dict[Key, PodView] = {}
        self._nodes: dict[str, NodeSlot] = {}
        self._by_name: dict[str, str] = {}
        self._candidates: list[tuple[str, str]] = []
        self._evicting: dict[str, NodeSlot] = {}
        self._crowded: dict[str, NodeSlot] = {}
        self._homeless: dict[Key, PodView] = {}
        self._blocked_pods: dict[Reason, dict[Key, PodView]] = {}
        self.evicted: set[str] = evicted if evicted is not None else set()
        """The uids of pods that we deleted because they no longer fit, and that are not gone yet. Views may share it.

        Upstream does nothing until such a pod is gone. Here the job goes on; so that a pod which dies of its eviction
        neither fails the job nor ends it, its failure does not count and its node is not wanted until it is gone. Only
        what is told later is judged by it: a pod is noted here before it is seen to be on its way out.
        """
        self.failing: Mapping[str, bool] = {}
        """The uids of nodes and pods whose last attempt failed, True while they have to wait. Set from outside."""
        self.unsure: frozenset[str] = frozenset()
        """The uids of nodes for which a pod may still come to be, although its creation failed. Set from outside."""

    @classmethod
    def of(
        cls,
        job: BroadcastJob,
        nodes: Iterable[Node],
        pods: Iterable[Pod | Unreadable],
        *,
        by_scheduler: bool = True,
        evicted: set[str] | None = None,
    ) -> View:
        """Build a view from scratch. *evicted* is shared, not copied."""
        view = cls(job, by_scheduler=by_scheduler, evicted=evicted)
        for node in nodes:
            view.set_node(node.metadata.name, node)
        for pod in pods:
            view.set_pod(pod.key, pod)
        return view

    # What a plan asks.

    def count(self, kind: PodClass) -> int:
        """Return how many pods of the job are of *kind*."""
        return self.counts[kind]

    @property
    def failed(self) -> int:
        """How many pods count as failed."""
        return self.counts[PodClass.FAILED] + self.counts[PodClass.RESTART_FAILED]

    @property
    def candidates(self) -> int:
        """How many desired nodes have no pod."""
        return len(self._candidates)

    def first_candidates(self, n: int) -> list[NodeSlot]:
        """Return the first *n* nodes, by name, that are desired and have no pod.

        One on which the last attempt failed comes after all others, and not at all while it has to wait; one for which
        a pod may still come to be comes first, because nobody else may have its room.
        """
        if not self.failing:
            return [self._nodes[uid] for _, uid in self._candidates[:n]]
        fresh = (uid for _, uid in self._candidates if uid not in self.failing)
        again = [uid for _, uid in self._candidates if self.failing.get(uid) is False]
        unsure = (uid for uid in again if uid in self.unsure)
        failed = (uid for uid in again if uid not in self.unsure)
        return [self._nodes[uid] for uid in itertools.islice(itertools.chain(unsure, fresh, failed), n)]

    @property
    def reserved(self) -> int:
        """How many nodes have to wait although a pod may still come to be there: room that nobody else may have."""
        return sum(1 for uid in self.unsure if self.failing.get(uid, False) and self.is_candidate(uid))

    @property
    def ready_candidates(self) -> int:
        """How many desired nodes without a pod need not wait."""
        return len(self._candidates) - sum(1 for uid, waits in self.failing.items() if waits and self.is_candidate(uid))

    def is_candidate(self, uid: str) -> bool:
        """Tell whether *uid* is a desired node without a pod."""
        slot = self._nodes.get(uid)
        return slot is not None and slot.pod is None and slot.desired

    def waits(self, pod: PodView) -> bool:
        """Tell whether a deletion of *pod* failed a moment ago, so that the next one has to wait."""
        return self.failing.get(pod.pod.uid, False)

    def evicting(self) -> list[NodeSlot]:
        """Return the nodes whose pod must go, by name."""
        return sorted(self._evicting.values(), key=lambda slot: slot.name)

    def crowded(self) -> list[NodeSlot]:
        """Return the nodes with more than one pod, by name."""
        return sorted(self._crowded.values(), key=lambda slot: slot.name)

    def active_pods(self) -> list[PodView]:
        """Return the active pods by name; undecodable ones are not among them, because nobody may delete these."""
        found = [p for p in self._pods.values() if p.kind is PodClass.ACTIVE and not isinstance(p.pod, Unreadable)]
        return sorted(found, key=lambda p: p.key)

    def blocked_pods(self, reason: Reason, limit: int) -> list[PodView]:
        """Return the first *limit* active pods, by name, that are blocked for *reason*."""
        return sorted(self._blocked_pods.get(reason, {}).values(), key=lambda p: p.key)[:limit]

    def unreadable_pods(self) -> list[PodView]:
        """Return the pods that cannot be decoded, by name."""
        return sorted(self._blocked_pods.get(Reason.POD_UNREADABLE, {}).values(), key=lambda p: p.key)

    @property
    def unplaced_unreadable(self) -> bool:
        """Whether a pod is known by metadata only and nothing tells its node: it may hold any of them."""
        unreadable = self._blocked_pods.get(Reason.POD_UNREADABLE, {}).values()
        return any(not p.node and not p.pod.metadata.annotations.get(NODE_UID_ANNOTATION) for p in unreadable)

    def slots(self) -> Iterator[NodeSlot]:
        """Yield every node of the cluster with what the job has there, by name."""
        for name in sorted(self._by_name):
            yield self._nodes[self._by_name[name]]

    def pods(self) -> Iterator[PodView]:
        """Yield every pod of the job."""
        return iter(self._pods.values())

    def has_stake(self, node_name: str) -> bool:
        """Tell whether the job wants the node of this name, or has a pod there."""
        uid = self._by_name.get(node_name)
        if uid is None:
            return False
        slot = self._nodes[uid]
        return slot.desired or bool(slot.pods)

    # What a view is told.

    def set_job(self, job: BroadcastJob) -> None:
        """Take a newer version of the job."""
        old = self.job
        limit = old.spec.failure_policy.restart_limit != job.spec.failure_policy.restart_limit
        self.job = job
        if bytes(old.spec.template) != bytes(job.spec.template):
            self._template = self._read(job)
            for slot in self._nodes.values():
                slot.asked = False
                self._refresh(slot)
        if limit:
            for view in list(self._pods.values()):
                self._drop_pod(view)
                self._add_pod(view.pod)

    def set_node(self, name: str, node: Node | None) -> None:
        """Take the present version of the node *name*; ``None`` when it is gone."""
        uid = self._by_name.get(name)
        if uid is not None and (node is None or node.metadata.uid != uid):
            self._remove_node(uid)
        if node is None:
            return
        slot = self._nodes.get(node.metadata.uid)
        if slot is None:
            slot = self._nodes[node.metadata.uid] = NodeSlot(node)
            self._by_name[name] = node.metadata.uid
            self._enter(slot)
            for view in [p for p in self._homeless.values() if self._home_of(p.pod) == (node.metadata.uid, name)]:
                self._drop_pod(view)
                self._add_pod(view.pod)
            return
        if slot.node is not node:
            self._leave(slot)
            slot.node = node
            slot.asked = False
            self._enter(slot)
            for view in [p for p in slot.pods if p.pod.terminating]:
                self._drop_pod(view)  # how it counts depends on whether it fits
                self._add_pod(view.pod)

    def set_pod(self, key: Key, pod: Pod | Unreadable | None) -> None:
        """Take the present version of the pod *key*; ``None`` when it is gone, or is no pod of this job."""
        old = self._pods.get(key)
        if old is not None and old.pod is pod:
            return
        if old is not None and isinstance(old.pod, Pod) and isinstance(pod, Pod) and same_for_job(old.pod, pod):
            old.pod = pod  # what is counted, where and how it fits is as before
            return
        if old is not None:
            self._drop_pod(old)
            if pod is None or pod.uid != old.pod.uid:
                self.evicted.discard(old.pod.uid)
        if pod is not None and belongs_to(pod.metadata, self.job):
            self._add_pod(pod)

    # Inside.

    def _kind(self, pod: Pod | Unreadable, uid: str) -> tuple[PodClass, bool]:
        """Return how a pod on the node *uid* counts, and whether it goes because it no longer fits there."""
        kind = classify(pod, self.job.spec.failure_policy.restart_limit)
        if isinstance(pod, Unreadable) or not pod.terminating:
            return kind, False
        evicted = pod.uid in self.evicted
        if not evicted and kind is PodClass.FAILED and uid:
            # A manager that was restarted meanwhile has forgotten whom it evicted; a pod that failed on its way out of
            # a node where it does not fit is taken for one.
            evicted = self._misfit(pod, self._nodes[uid]) is not None
        if evicted and kind is PodClass.FAILED:
            kind = PodClass.TERMINATING
        return kind, evicted

    def _read(self, job: BroadcastJob) -> Template | None:
        try:
            template = Template.read(job.spec.template)
        except InvalidTemplateError as error:
            self.problem = str(error)
            return None
        self.problem = ""
        return template

    def _home_of(self, pod: Pod | Unreadable) -> tuple[str, str]:
        """Return (uid, name) of the node of a pod; the uid is ``""`` when the cluster has no such node."""
        uid = pod.metadata.annotations.get(NODE_UID_ANNOTATION)
        name = "" if isinstance(pod, Unreadable) else assigned_node(pod)
        if uid:
            slot = self._nodes.get(uid)
            return (uid, slot.name) if slot is not None else ("", name)
        return self._by_name.get(name, ""), name

    def _add_pod(self, pod: Pod | Unreadable) -> None:
        uid, name = self._home_of(pod)
        kind, evicted = self._kind(pod, uid)
        if isinstance(pod, Unreadable):
            blocked: Reason | None = Reason.POD_UNREADABLE
        else:
            blocked = blocked_reason(pod) if kind is PodClass.ACTIVE else None
        view = PodView(pod, kind, uid, name, blocked, evicted)
        self._pods[pod.key] = view
        self.counts[kind] += 1
        if blocked is not None:
            self.blocked[blocked] += 1
            self._blocked_pods.setdefault(blocked, {})[pod.key] = view
        if not uid:
            self._homeless[pod.key] = view
            return
        slot = self._nodes[uid]
        self._leave(slot)
        bisect.insort(slot.pods, view, key=lambda p: p.key)
        self._enter(slot)

    def _drop_pod(self, view: PodView) -> None:
        del self._pods[view.key]
        self.counts[view.kind] -= 1
        if view.blocked is not None:
            self.blocked[view.blocked] -= 1
            del self._blocked_pods[view.blocked][view.key]
        if not view.node:
            del self._homeless[view.key]
            return
        slot = self._nodes[view.node]
        self._leave(slot)
        slot.pods.remove(view)
        self._enter(slot)

    def _remove_node(self, uid: str) -> None:
        slot = self._nodes[uid]
        self._leave(slot)
        del self._nodes[uid]
        del self._by_name[slot.name]
        for view in slot.pods:
            view.node = ""
            self._homeless[view.key] = view

    def _refresh(self, slot: NodeSlot) -> None:
        self._leave(slot)
        self._enter(slot)

    def _judge(self, slot: NodeSlot) -> Misfit | None:
        view = slot.pod
        if view is None:
            if not slot.asked:
                slot.template_misfit = self._ask(slot)
                slot.asked = True
            return slot.template_misfit
        return self._misfit(view.pod, slot)

    def _misfit(self, pod: Pod | Unreadable, slot: NodeSlot) -> Misfit | None:
        if isinstance(pod, Unreadable):
            return None  # nobody can tell, so nobody touches it
        try:
            demand = demand_of(pod.spec)
        except ValueError:
            return None  # likewise: what it requests cannot be read
        return fits(pod.spec, demand, slot.node)

    def _ask(self, slot: NodeSlot) -> Misfit | None:
        """Return why a new pod may not run on the node."""
        if self._template is None:
            return Misfit(Reason.INVALID_SPEC, self.problem)
        # Bypassing the scheduler overwrites the template's nodeName, so it restricts nothing there.
        name = None if self.by_scheduler else slot.name
        return fits(self._template.decoded.spec, self._template.demand, slot.node, node_name=name)

    def _enter(self, slot: NodeSlot) -> None:
        """Count *slot* as it is now."""
        slot.misfit = self._judge(slot)
        if slot.desired:
            self.desired += 1
            if slot.pod is None or not slot.pod.done:
                self.pending += 1
            if slot.pod is None:
                bisect.insort(self._candidates, (slot.name, slot.uid))
        if slot.evicting:
            self._evicting[slot.uid] = slot
        if len(slot.pods) > 1:
            self._crowded[slot.uid] = slot

    def _leave(self, slot: NodeSlot) -> None:
        """Take back what :meth:`_enter` counted; to be called before anything of *slot* changes."""
        if slot.desired:
            self.desired -= 1
            if slot.pod is None or not slot.pod.done:
                self.pending -= 1
            if slot.pod is None:
                del self._candidates[bisect.bisect_left(self._candidates, (slot.name, slot.uid))]
        self._evicting.pop(slot.uid, None)
        self._crowded.pop(slot.uid, None)
