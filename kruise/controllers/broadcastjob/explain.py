"""Why each node has no finished pod yet: the answer of ``kruise status bcj/NAME``.

Purpose: the reasons of single nodes, computed by the planner's own view when somebody asks.

Guarantees: every node of the cluster gets exactly one reason, from the same view on which the plan rests, with evidence
that names pod and node.

What this does not do: nothing is stored, and nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kruise.apis.broadcastjob import COMPLETE, PHASE_FAILED, PHASE_PAUSED, PROGRESSING, BroadcastJob
from kruise.apis.core import ContainerStatus, Pod
from kruise.controllers.broadcastjob.plan import is_over, parallelism
from kruise.controllers.broadcastjob.view import NodeSlot, PodClass, PodView, View
from kruise.controllers.common.reasons import Decision, Reason
from kruise.runtime.objects import Unreadable

__all__ = ["explain"]

_FIX: Final = {
    Reason.NODE_CORDONED: "kubectl uncordon, or a toleration of node.kubernetes.io/unschedulable",
    Reason.TAINT_NOT_TOLERATED: "a toleration in spec.template.spec.tolerations, or removing the taint",
    Reason.NODE_AFFINITY_MISMATCH: "node labels, or the template's nodeSelector, affinity and nodeName",
    Reason.INSUFFICIENT_RESOURCES: "smaller requests in the template, or a larger node",
    Reason.PARALLELISM_LIMIT: "an active pod that finishes, or a higher spec.parallelism",
    Reason.PAUSED: "spec.paused: false",
    Reason.JOB_PAUSED: "deleting the failed pods, or another failurePolicy",
    Reason.IMAGE_PULL_FAILED: "a correct image, or access to its registry",
    Reason.CRASH_LOOPING: "a program that does not exit with an error",
    Reason.POD_UNSCHEDULABLE: "room on the node; its scheduler message says what is missing",
    Reason.POD_UNREADABLE: "repairing or deleting the pod",
    Reason.POD_TERMINATING: "the end of the pod's grace period",
    Reason.POD_FAILED: "deleting the failed pod, which runs the work again",
    Reason.INVALID_SPEC: "correcting the field",
    Reason.ADMISSION_DENIED: "a template that the policy allows, or another policy",
    Reason.QUOTA_EXCEEDED: "room in the ResourceQuota of the namespace",
    Reason.NAME_CONFLICT: "deleting the foreign object that has the pod's name",
    Reason.POD_PENDING: "the next pass of the manager; is one running?",
}
_REFUSED: Final = (Reason.ADMISSION_DENIED, Reason.QUOTA_EXCEEDED, Reason.NAME_CONFLICT)


def explain(job: BroadcastJob, view: View) -> Iterator[tuple[NodeSlot, Decision]]:
    """Yield every node with the reason of its state, by node name."""
    for slot in view.slots():
        yield slot, _explain(job, view, slot)


def _explain(job: BroadcastJob, view: View, slot: NodeSlot) -> Decision:
    subject = f"node {slot.name}"
    pod = slot.pod
    if pod is not None:
        return _explain_pod(slot, pod, subject)
    if slot.misfit is not None:
        reason, detail = slot.misfit.reason, _detail(slot)
        if slot.misfit.taint:
            detail["taint"] = slot.misfit.taint
        return Decision(reason, subject, slot.misfit.text, unblocked_by=_FIX[reason], detail=detail)
    reason, text = _no_pod(job, view)
    return Decision(reason, subject, text, unblocked_by=_FIX.get(reason, ""), detail=_detail(slot))


def _no_pod(job: BroadcastJob, view: View) -> tuple[Reason, str]:
    """Return why an eligible node has no pod."""
    progress = next((c for c in job.status.conditions if c.type == PROGRESSING), None)
    said = progress.reason if progress is not None else ""
    if is_over(job) or job.status.phase == PHASE_FAILED:
        if any(c.type == COMPLETE and c.status == "True" for c in job.status.conditions):
            return Reason.JOB_COMPLETE, "the job is complete, and this node has no pod of it any more"
        if said == Reason.DEADLINE_EXCEEDED:
            return Reason.DEADLINE_EXCEEDED, "the deadline ended the job before this node was done"
        return Reason.JOB_FAILED, "the job failed before this node was done"
    if job.spec.paused:
        return Reason.PAUSED, "spec.paused is set"
    if job.status.phase == PHASE_PAUSED and view.failed:
        return Reason.JOB_PAUSED, f"{view.failed} pods failed and failurePolicy.type is Pause"
    try:
        limit = parallelism(job, view.desired)
    except ValueError as error:
        return Reason.INVALID_SPEC, f"spec.parallelism: {error}"
    active = view.count(PodClass.ACTIVE)
    if active >= limit:
        return Reason.PARALLELISM_LIMIT, f"{active} pods are active, parallelism is {job.spec.parallelism}"
    if progress is not None and said in _REFUSED:
        return Reason(said), progress.message
    return Reason.POD_PENDING, "the pod is not created yet"


def _explain_pod(slot: NodeSlot, view: PodView, subject: str) -> Decision:
    pod = view.pod
    detail = _detail(slot)
    if isinstance(pod, Unreadable):
        text = f"pod {pod.metadata.name}: {pod.path}: {pod.problem}"
        return Decision(Reason.POD_UNREADABLE, subject, text, unblocked_by=_FIX[Reason.POD_UNREADABLE], detail=detail)
    name = pod.metadata.name
    if view.kind is PodClass.SUCCEEDED:
        return Decision(Reason.POD_SUCCEEDED, subject, f"pod {name} succeeded", detail=detail)
    if view.kind.failed:
        ended = _failure(pod)
        if ended is not None:
            detail["exitCode"] = ended[1]
        text = f"pod {name} failed: {ended[0] if ended else pod.status.reason or 'no container says why'}"
        return Decision(Reason.POD_FAILED, subject, text, unblocked_by=_FIX[Reason.POD_FAILED], detail=detail)
    if pod.terminating:
        since = pod.metadata.deletion_timestamp
        text = f"pod {name} is being deleted"
        return Decision(Reason.POD_TERMINATING, subject, text, since, _FIX[Reason.POD_TERMINATING], detail)
    if view.blocked is not None:
        text = f"pod {name}: {_waiting(pod) or view.blocked}"
        return Decision(view.blocked, subject, text, unblocked_by=_FIX[view.blocked], detail=detail)
    since = pod.metadata.creation_timestamp
    if pod.status.phase == "Running":
        return Decision(Reason.POD_RUNNING, subject, f"pod {name} runs", since, "the end of the pod", detail)
    return Decision(Reason.POD_PENDING, subject, f"pod {name} starts", since, "the start of its containers", detail)


def _detail(slot: NodeSlot) -> dict[str, str]:
    detail = {"node": slot.name}
    if slot.pod is not None:
        detail["pod"] = slot.pod.key.name
    return detail


def _statuses(pod: Pod) -> tuple[ContainerStatus, ...]:
    return (*pod.status.init_container_statuses, *pod.status.container_statuses)


def _failure(pod: Pod) -> tuple[str, str] | None:
    """Return (text, exit code) of the first container that ended badly."""
    for status in _statuses(pod):
        for state in (status.state, status.last_state):
            if state.terminated is not None and state.terminated.exit_code != 0:
                why = f" ({state.terminated.reason})" if state.terminated.reason else ""
                text = f"container {status.name} exited with code {state.terminated.exit_code}{why}"
                return f"{text}, {status.restart_count} restarts", str(state.terminated.exit_code)
    return None


def _waiting(pod: Pod) -> str:
    for status in _statuses(pod):
        if status.state.waiting is not None:
            return f"container {status.name}: {status.state.waiting.reason}: {status.state.waiting.message}".rstrip(
                ": "
            )
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"{condition.reason}: {condition.message}"
    return ""
