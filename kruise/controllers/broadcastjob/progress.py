"""The condition ``Progressing`` of a BroadcastJob: does it get on, and if not, why.

Purpose: the answer to "why is nothing happening" in one line of ``kubectl describe``.

Guarantees:

* One condition, its reason out of the one vocabulary; False when nothing moves until somebody acts or the cluster
  changes. ``lastTransitionTime`` moves with the status only.
* The text names examples by name order, so that equal states give equal bytes, and a status is not written for nothing.

What this does not do: the reasons of single nodes are not stored; ``kruise status`` computes them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from kruise.apis.broadcastjob import (
    NEVER,
    PHASE_COMPLETED,
    PHASE_FAILED,
    PROGRESSING,
    BroadcastJob,
    BroadcastJobStatus,
    JobCondition,
)
from kruise.controllers.broadcastjob.view import PodClass, View
from kruise.controllers.common.reasons import Reason, reason_of_refusal
from kruise.runtime.objects import Unreadable

__all__ = ["Facts", "progressing"]

_MAX_MESSAGE: Final = 1024
_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """What a pass adds to the view."""

    paused: bool = False
    deadline: bool = False
    """The deadline ends the job in this pass."""
    error: str = ""
    withheld: int = 0
    created: int = 0
    refusals: tuple[tuple[str, Exception], ...] = ()


def progressing(
    job: BroadcastJob, view: View, status: BroadcastJobStatus, facts: Facts, stamp: str
) -> tuple[JobCondition, ...]:
    """Return the conditions of *status* with ``Progressing`` as it is now. *stamp* is the present time, RFC 3339."""
    moves, reason, message = _judge(job, view, status, facts)
    value = "True" if moves else "False"
    others = tuple(c for c in status.conditions if c.type != PROGRESSING)
    old = next((c for c in job.status.conditions if c.type == PROGRESSING), None)
    since = old.last_transition_time if old is not None and old.status == value else stamp
    fresh = JobCondition(
        type=PROGRESSING, status=value, last_transition_time=since, reason=reason, message=message[:_MAX_MESSAGE]
    )
    return (*others, fresh)


def _judge(job: BroadcastJob, view: View, status: BroadcastJobStatus, facts: Facts) -> tuple[bool, Reason, str]:
    if status.phase == PHASE_COMPLETED:
        return False, Reason.JOB_COMPLETE, "every eligible node is done"
    if status.phase == PHASE_FAILED:
        if facts.deadline:
            return False, Reason.DEADLINE_EXCEEDED, "the job was active longer than activeDeadlineSeconds"
        return False, Reason.JOB_FAILED, "the job failed; see the condition Failed"
    if job.spec.paused:
        return False, Reason.PAUSED, "spec.paused is set; set it to false to go on"
    if facts.paused:
        text = f"{view.failed} pods failed and failurePolicy.type is Pause; delete them or change the policy to go on"
        return False, Reason.JOB_PAUSED, text
    if facts.error:
        return False, Reason.INVALID_SPEC, facts.error
    if view.desired == 0:
        return False, Reason.NO_ELIGIBLE_NODE, _ineligible(view)
    if view.pending == 0:
        if job.spec.completion_policy.type == NEVER:
            return False, Reason.ALL_NODES_DONE, "every eligible node is done; type Never waits for new nodes"
        return False, Reason.JOB_COMPLETE, "every eligible node is done"
    return _judge_running(view, facts)


def _judge_running(view: View, facts: Facts) -> tuple[bool, Reason, str]:
    active = view.count(PodClass.ACTIVE)
    blocked = +view.blocked
    stuck = sum(blocked.values())
    moves = facts.created > 0 or stuck < active or view.count(PodClass.TERMINATING) > 0
    if blocked[Reason.POD_UNREADABLE]:
        return moves, Reason.POD_UNREADABLE, _examples(view, Reason.POD_UNREADABLE, blocked[Reason.POD_UNREADABLE])
    refused = [(node, error, reason_of_refusal(error)) for node, error in facts.refusals]
    lasting = [(node, error, reason) for node, error, reason in refused if reason is not None]
    if lasting:
        node, error, reason = min(lasting, key=lambda one: one[0])
        return moves, reason, f"no pod for {_nodes(node, len(lasting))}: {error}"
    if refused and not moves:
        node, error, _ = min(refused, key=lambda one: one[0])
        return False, Reason.POD_PENDING, f"no pod for {_nodes(node, len(refused))} yet, trying again: {error}"
    if blocked:
        reason = min(blocked, key=lambda r: (-blocked[r], r))
        return moves, reason, _examples(view, reason, blocked[reason])
    if active == 0 and facts.created == 0:
        if view.count(PodClass.TERMINATING):
            return moves, Reason.POD_TERMINATING, "pods are being deleted; their nodes get new ones when they are gone"
        if facts.withheld:
            return False, Reason.PARALLELISM_LIMIT, "parallelism allows no pod at all; raise spec.parallelism"
        if view.failed:
            return False, Reason.POD_FAILED, "pods over their restart limit still run and keep the job open"
    if facts.withheld:
        return moves, Reason.PARALLELISM_LIMIT, "nodes wait for a free slot of spec.parallelism"
    return moves, Reason.POD_RUNNING, "pods run on the eligible nodes"


def _nodes(first: str, count: int) -> str:
    return f"node {first}" if count == 1 else f"{count} nodes, such as {first}"


def _examples(view: View, reason: Reason, count: int) -> str:
    parts = []
    for one in view.blocked_pods(reason, _EXAMPLES):
        where = f" on node {one.node_name}" if one.node_name else ""
        what = f" ({one.pod.path}: {one.pod.problem})" if isinstance(one.pod, Unreadable) else ""
        parts.append(f"pod {one.key.name}{where}{what}")
    more = f" and {count - len(parts)} more" if count > len(parts) else ""
    return f"{count} pods do not get on: {', '.join(parts)}{more}"


def _ineligible(view: View) -> str:
    counts: Counter[str] = Counter()
    total = 0
    for slot in view.slots():
        total += 1
        if slot.misfit is not None:
            taint = f"({slot.misfit.taint})" if slot.misfit.taint else ""
            counts[f"{slot.misfit.reason}{taint}"] += 1
    if not total:
        return "the cluster has no nodes"
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:5])
    return f"none of {total} nodes is eligible: {reasons}"
