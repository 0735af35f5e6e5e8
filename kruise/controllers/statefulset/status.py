"""The status of a StatefulSet: what is counted, when an update is complete, and how it goes over the wire.

Purpose: spec/advanced-statefulset 12.

Guarantees: S8: counts are those of the view, which are kept with every event. All counts are always written, zeros too
(ecosystem 8.1), and the whole status is compared (section 16, row 12).

What this does not do: conditions are in ``conditions``; nothing here writes.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from kruise.apis.statefulset import StatefulSetCondition, StatefulSetStatus
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import DeletePod, PatchPod, Results, Why
from kruise.controllers.statefulset.claims import claim_status
from kruise.controllers.statefulset.view import View

__all__ = ["completed", "counted", "wire", "with_results"]


def counted(view: View) -> StatefulSetStatus:
    """Return the status that the pods of *view* give, with the conditions of the stored one."""
    frame, stored = view.frame, view.sts.status
    return StatefulSetStatus(
        observed_generation=view.sts.metadata.generation,
        replicas=view.count(m.CREATED),
        ready_replicas=view.count(m.READY),
        available_replicas=view.count(m.AVAILABLE),
        current_replicas=view.count(m.CURRENT),
        updated_replicas=view.count(m.UPDATED),
        updated_ready_replicas=view.count(m.UPDATED_READY),
        updated_available_replicas=view.count(m.UPDATED_AVAILABLE),
        current_revision=frame.current_name,
        update_revision=frame.update_name,
        collision_count=frame.chosen.collision_count,
        conditions=stored.conditions,
        label_selector=frame.selector,
        volume_claims=claim_status(frame.templates, view.claim_totals()) if not frame.problem else stored.volume_claims,
    )


def with_results(status: StatefulSetStatus, view: View, results: Results) -> StatefulSetStatus:
    """Take off *status* the pods that the update phase took down in this pass (spec 6.4, 5 and 6e).

    They still bear their old revision in what was observed, and are on their way to another one.
    """
    current, updated = status.current_replicas, status.updated_replicas
    for chain, step in results.done:
        slot = view.get(chain.ordinal)
        if slot is None or not isinstance(step, DeletePod | PatchPod) or step.why not in _LEAVING:
            continue
        if slot.has(m.CURRENT):
            current -= 1
        elif slot.has(m.UPDATED) and step.why is Why.SPECIFIED:
            updated -= 1
    return replace(status, current_replicas=current, updated_replicas=updated)


_LEAVING = (Why.UPDATE, Why.SPECIFIED)


def completed(status: StatefulSetStatus, *, rolls: bool, needed: int = 0) -> StatefulSetStatus:
    """Let the update revision become the current one when every pod is at it and ready.

    At least *needed* pods must be there. Under a partition that is all of them: upstream counts those that are there,
    and a pod that the partition keeps on the current revision comes back at the update revision when it was missing.
    """
    if rolls and status.updated_replicas == status.replicas == status.ready_replicas >= needed:
        return replace(status, current_replicas=status.updated_replicas, current_revision=status.update_revision)
    return status


def wire(status: StatefulSetStatus) -> dict[str, Any]:
    """Return *status* as plain JSON; lists are always there, so that a merge patch can empty them."""
    return {
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "currentReplicas": status.current_replicas,
        "updatedReplicas": status.updated_replicas,
        "updatedReadyReplicas": status.updated_ready_replicas,
        "updatedAvailableReplicas": status.updated_available_replicas,
        "currentRevision": status.current_revision,
        "updateRevision": status.update_revision,
        "collisionCount": status.collision_count,
        "labelSelector": status.label_selector,
        "conditions": [_condition(one) for one in status.conditions],
        "volumeClaims": [msgspec.to_builtins(one) for one in status.volume_claims],
    }


def _condition(one: StatefulSetCondition) -> dict[str, Any]:
    out: dict[str, Any] = {"type": one.type, "status": one.status}
    if one.last_transition_time:
        out["lastTransitionTime"] = one.last_transition_time
    return {**out, "reason": one.reason, "message": one.message}
