"""What a view is made of: the template of a job, its pods, and its nodes with the pods on them.

Purpose: the values that planner, executor and ``kruise status`` pass around.

Guarantees: the classes of pods are those of spec/broadcastjob 6.3; a pod that cannot be decoded is known by its
metadata only.

What this does not do: it counts nothing; ``view`` does.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import msgspec

from kruise.apis.core import Node, Pod, PodTemplate
from kruise.controllers.broadcastjob.eligibility import Demand, Misfit, demand_of
from kruise.controllers.common.reasons import WAITING_REASONS, Reason
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.objects import Key, Unreadable

__all__ = [
    "InvalidTemplateError",
    "NodeSlot",
    "PodClass",
    "PodView",
    "Template",
    "blocked_reason",
    "classify",
    "restarts_of",
]


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
    evicted: bool = False
    """We deleted it, because it no longer fits its node: it is no work done, and its node is not wanted meanwhile."""

    @property
    def key(self) -> Key:
        """The key of the pod."""
        return self.pod.key

    @property
    def done(self) -> bool:
        """Whether its node counts as done: finished, or on its way out. A restart-failed pod still runs."""
        if self.evicted:
            return False
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
        """Whether the job wants this node: a pod fits, or one that somebody else deleted is on its way out here."""
        if self.misfit is None:
            return True
        return self.pod is not None and self.pod.pod.terminating and not self.pod.evicted


def blocked_reason(pod: Pod) -> Reason | None:
    """Return why an active pod does not get on; ``None`` when it starts or runs."""
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in WAITING_REASONS:
            return WAITING_REASONS[waiting.reason]
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.reason == "Unschedulable":
            return Reason.POD_UNSCHEDULABLE
    return None


def classify(pod: Pod | Unreadable, restart_limit: int) -> PodClass:
    """Return how a pod counts."""
    if isinstance(pod, Unreadable):
        return PodClass.ACTIVE
    if pod.status.phase == "Succeeded":
        return PodClass.SUCCEEDED
    if pod.status.phase == "Failed":
        return PodClass.FAILED
    if pod.terminating:
        return PodClass.TERMINATING
    if pod.spec.restart_policy == "OnFailure" and restarts_of(pod) > restart_limit:
        return PodClass.RESTART_FAILED
    return PodClass.ACTIVE


def restarts_of(pod: Pod) -> int:
    """Return how often the containers of a pod were restarted, init containers included."""
    return sum(s.restart_count for s in (*pod.status.init_container_statuses, *pod.status.container_statuses))
