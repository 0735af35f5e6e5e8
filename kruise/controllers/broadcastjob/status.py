"""The status of a BroadcastJob as it goes over the wire.

Purpose: one place that knows which fields are always written.

Guarantees: counts, phase and observedGeneration are always present, zeros too (a reader tells "none" from "unknown");
times that are not set and empty texts are left out, as OpenKruise writes them.

What this does not do: it computes nothing; see ``plan.settle``.
"""

from __future__ import annotations

from typing import Any

from kruise.apis.broadcastjob import BroadcastJobStatus, JobCondition

__all__ = ["wire"]


def wire(status: BroadcastJobStatus) -> dict[str, Any]:
    """Return *status* as plain JSON."""
    out: dict[str, Any] = {
        "active": status.active,
        "succeeded": status.succeeded,
        "failed": status.failed,
        "desired": status.desired,
        "phase": status.phase,
        "observedGeneration": status.observed_generation,
    }
    if status.conditions:
        out["conditions"] = [_condition(c) for c in status.conditions]
    if status.start_time:
        out["startTime"] = status.start_time
    if status.completion_time:
        out["completionTime"] = status.completion_time
    return out


def _condition(condition: JobCondition) -> dict[str, Any]:
    optional = {
        "lastProbeTime": condition.last_probe_time,
        "lastTransitionTime": condition.last_transition_time,
        "reason": condition.reason,
        "message": condition.message,
    }
    present = {name: value for name, value in optional.items() if value}
    return {"type": condition.type, "status": condition.status, **present}
