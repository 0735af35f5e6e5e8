"""Why each node has no finished pod yet: the answer of ``kruise status bcj/NAME``.

Purpose: the reasons of single nodes, computed by the planner's own view when somebody asks.

Guarantees: every node of the cluster gets exactly one reason, from the same view on which the plan rests, with evidence
that names pod and node.

What this does not do: nothing is stored, and nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator

from kruise.apis.broadcastjob import BroadcastJob
from kruise.apis.core import ContainerStatus, Pod
from kruise.controllers.broadcastjob.plan import is_over
from kruise.controllers.broadcastjob.view import NodeSlot, PodClass, PodView, View
from kruise.controllers.common.reasons import Decision, Reason
from kruise.runtime.objects import Unreadable

__all__ = ["explain"]

_FIX = {
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
}


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
        return Decision(
            slot.misfit.reason, subject, slot.misfit.text, unblocked_by=_FIX[slot.misfit.reason], detail=_detail(slot)
        )
    if is_over(job):
        return Decision(Reason.JOB_COMPLETE, subject, "the job ended before this node got a pod", detail=_detail(slot))
    if job.spec.paused:
        return Decision(
            Reason.PAUSED, subject, "spec.paused is set", unblocked_by=_FIX[Reason.PAUSED], detail=_detail(slot)
        )
    if job.status.phase == "paused":
        text = f"{view.failed} pods failed and failurePolicy.type is Pause"
        return Decision(Reason.JOB_PAUSED, subject, text, unblocked_by=_FIX[Reason.JOB_PAUSED], detail=_detail(slot))
    text = f"{view.count(PodClass.ACTIVE)} pods are active, parallelism is {job.spec.parallelism}"
    return Decision(
        Reason.PARALLELISM_LIMIT, subject, text, unblocked_by=_FIX[Reason.PARALLELISM_LIMIT], detail=_detail(slot)
    )


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
