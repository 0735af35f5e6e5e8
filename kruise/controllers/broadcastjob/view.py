"""What is observed of one job, kept so that a change costs what changed.

Purpose: the counts and sets on which a plan of a BroadcastJob rests, over any number of nodes and pods.

Guarantees:

* A view that was told every change equals a view that was built anew from the same objects (a property test).
* ``set_pod`` and ``set_node`` touch one slot; nothing here walks all nodes except :meth:`View.set_job` with another
  template, which asks every node without a pod again.
* The classification of a pod is the one of spec/broadcastjob 6.3; a pod that cannot be decoded is known by its metadata
  only: it counts as active and holds its node.

What this does not do: it reads no cache and no clock, and it decides nothing.
"""

from __future__ import annotations

import bisect
import enum
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from kruise.apis.broadcastjob import NODE_UID_ANNOTATION, BroadcastJob
from kruise.apis.core import Node, Pod, PodTemplate
from kruise.controllers.broadcastjob.eligibility import Demand, Misfit, demand_of, fits
from kruise.controllers.broadcastjob.pods import assigned_node, belongs_to
from kruise.controllers.common.reasons import Reason
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.objects import Key, Unreadable

__all__ = ["InvalidTemplateError", "NodeSlot", "PodClass", "PodView", "Template", "View"]


class InvalidTemplateError(ValueError):
    """The pod template of a job cannot be read. The text names the field."""


class PodClass(enum.Enum):
    """How a pod counts (spec/broadcastjob 6.3)."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RESTART_FAILED = "restart-failed"
    """Restarted more often than the limit allows: it counts as failed, yet it still runs."""
    TERMINATING = "terminating"
    """Being deleted and not finished: counted nowhere."""

    @property
    def failed(self) -> bool:
        """Whether it counts as failed."""
        return self in (PodClass.FAILED, PodClass.RESTART_FAILED)


@dataclass(frozen=True, slots=True)
class Template:
    """A pod template as eligibility needs it; made once per generation of a job."""

    decoded: PodTemplate
    demand: Demand

    @classmethod
    def read(cls, raw: msgspec.Raw) -> Template:
        """Decode *raw*. Raises InvalidTemplateError, naming the field."""
        try:
            decoded = decode_as(PodTemplate, raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidTemplateError(f"spec.template: {error}") from error
        try:
            return cls(decoded, demand_of(decoded.spec))
        except ValueError as error:
            raise InvalidTemplateError(f"spec.template.spec: {error}") from error


@dataclass(slots=True, eq=False)
class PodView:
    """One pod of the job."""

    pod: Pod | Unreadable
    kind: PodClass
    node: str
    """The uid of the node that it belongs to; ``""`` when that is no node of the cluster."""
    node_name: str
    blocked: Reason | None
    """Why an active pod makes no progress, as far as its status tells."""

    @property
    def key(self) -> Key:
        """The key of the pod."""
        return self.pod.key

    @property
    def done(self) -> bool:
        """Whether its node counts as done: finished, or on its way out. A restart-failed pod still runs."""
        return self.pod.terminating or self.kind in (PodClass.SUCCEEDED, PodClass.FAILED)


@dataclass(slots=True, eq=False)
class NodeSlot:
    """One node of the cluster, and what the job has there."""

    node: Node
    pods: list[PodView] = field(default_factory=list)
    """In the order of their names; where several share the node, the last one stands for it."""
    misfit: Misfit | None = None
    template_misfit: Misfit | None = None
    """The answer for a new pod, kept while template and node stay the same."""
    asked: bool = False

    @property
    def uid(self) -> str:
        """The uid of the node."""
        return self.node.metadata.uid

    @property
    def name(self) -> str:
        """The name of the node."""
        return self.node.metadata.name

    @property
    def pod(self) -> PodView | None:
        """The pod that stands for the node."""
        return self.pods[-1] if self.pods else None

    @property
    def evicting(self) -> bool:
        """Whether the pod must go, because it no longer fits its node."""
        return self.misfit is not None and self.pod is not None and not self.pod.pod.terminating

    @property
    def desired(self) -> bool:
        """Whether the job wants this node: a pod fits, or one is on its way out here."""
        return self.misfit is None or (self.pod is not None and self.pod.pod.terminating)


_WAITING: dict[str, Reason] = {
    "ErrImagePull": Reason.IMAGE_PULL_FAILED,
    "ImagePullBackOff": Reason.IMAGE_PULL_FAILED,
    "InvalidImageName": Reason.IMAGE_PULL_FAILED,
    "ErrImageNeverPull": Reason.IMAGE_PULL_FAILED,
    "CrashLoopBackOff": Reason.CRASH_LOOPING,
}


def blocked_reason(pod: Pod) -> Reason | None:
    """Return why an active pod does not get on; ``None`` when it starts or runs."""
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in _WAITING:
            return _WAITING[waiting.reason]
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.reason == "Unschedulable":
            return Reason.POD_UNSCHEDULABLE
    return None


class View:
    """The observed state of one job."""

    def __init__(self, job: BroadcastJob, *, by_scheduler: bool = True) -> None:
        self.by_scheduler = by_scheduler
        self.job = job
        self.template = Template.read(job.spec.template)
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

    @classmethod
    def of(
        cls,
        job: BroadcastJob,
        nodes: Iterable[Node],
        pods: Iterable[Pod | Unreadable],
        *,
        by_scheduler: bool = True,
    ) -> View:
        """Build a view from scratch. Raises InvalidTemplateError."""
        view = cls(job, by_scheduler=by_scheduler)
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
        """Return the first *n* nodes, by name, that are desired and have no pod."""
        return [self._nodes[uid] for _, uid in self._candidates[:n]]

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
        return sorted((p for p in self._pods.values() if p.blocked is reason), key=lambda p: p.key)[:limit]

    def unreadable_pods(self) -> list[PodView]:
        """Return the pods that cannot be decoded, by name."""
        return sorted((p for p in self._pods.values() if isinstance(p.pod, Unreadable)), key=lambda p: p.key)

    @property
    def unplaced_unreadable(self) -> bool:
        """Whether a pod is known by metadata only and nothing tells its node: it may hold any of them."""
        return any(isinstance(p.pod, Unreadable) and not p.pod.metadata.annotations.get(NODE_UID_ANNOTATION)
                   for p in self._homeless.values())  # fmt: skip

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
        """Take a newer version of the job. Raises InvalidTemplateError and then stays as it was."""
        old, template = self.job, self.template
        if bytes(old.spec.template) != bytes(job.spec.template):
            template = Template.read(job.spec.template)
        limit = old.spec.failure_policy.restart_limit != job.spec.failure_policy.restart_limit
        self.job = job
        if template is not self.template:
            self.template = template
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

    def set_pod(self, key: Key, pod: Pod | Unreadable | None) -> None:
        """Take the present version of the pod *key*; ``None`` when it is gone, or is no pod of this job."""
        old = self._pods.get(key)
        if old is not None and old.pod is pod:
            return
        if old is not None:
            self._drop_pod(old)
        if pod is not None and belongs_to(pod.metadata, self.job):
            self._add_pod(pod)

    # Inside.

    def _classify(self, pod: Pod | Unreadable) -> PodClass:
        if isinstance(pod, Unreadable):
            return PodClass.ACTIVE
        if pod.status.phase == "Succeeded":
            return PodClass.SUCCEEDED
        if pod.status.phase == "Failed":
            return PodClass.FAILED
        if pod.terminating:
            return PodClass.TERMINATING
        if pod.spec.restart_policy == "OnFailure":
            restarts = sum(s.restart_count for s in pod.status.init_container_statuses)
            restarts += sum(s.restart_count for s in pod.status.container_statuses)
            if restarts > self.job.spec.failure_policy.restart_limit:
                return PodClass.RESTART_FAILED
        return PodClass.ACTIVE

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
        kind = self._classify(pod)
        if isinstance(pod, Unreadable):
            blocked: Reason | None = Reason.POD_UNREADABLE
        else:
            blocked = blocked_reason(pod) if kind is PodClass.ACTIVE else None
        view = PodView(pod, kind, uid, name, blocked)
        self._pods[pod.key] = view
        self.counts[kind] += 1
        if blocked is not None:
            self.blocked[blocked] += 1
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
                # Bypassing the scheduler overwrites the template's nodeName, so it restricts nothing there.
                name = None if self.by_scheduler else slot.name
                slot.template_misfit = fits(self.template.decoded.spec, self.template.demand, slot.node, node_name=name)
                slot.asked = True
            return slot.template_misfit
        if isinstance(view.pod, Unreadable):
            return None  # nobody can tell, so nobody touches it
        return fits(view.pod.spec, demand_of(view.pod.spec), slot.node)

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
