"""What ``kruise status bcj/NAME`` tells of a BroadcastJob: per reason how many nodes and which, and the failing ones.

Guarantees: the planner's own view on lists of the cluster; the table and the JSON document have the same facts.

What this does not do: it needs no manager and asks none.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from kruise.apis.broadcastjob import BROADCASTJOBS, LABEL_CONTROLLER_UID, PROGRESSING, BroadcastJob
from kruise.apis.core import NODES, PODS
from kruise.cli.answer import DEGRADED, DONE, Answer, columns, read
from kruise.cli.cluster import Cluster
from kruise.controllers.broadcastjob.explain import explain
from kruise.controllers.broadcastjob.status import wire
from kruise.controllers.broadcastjob.view import View
from kruise.controllers.common.reasons import Decision, Reason
from kruise.runtime.objects import Key, Unreadable

__all__ = ["NAMES", "look"]

NAMES: Final = ("bcj", "broadcastjob", "broadcastjobs", "broadcastjob.apps.kruise.io", "broadcastjobs.apps.kruise.io")
_SHOWN: Final = 5
_FAILING: Final = frozenset(
    (Reason.POD_FAILED, Reason.IMAGE_PULL_FAILED, Reason.CRASH_LOOPING, Reason.POD_UNSCHEDULABLE, Reason.POD_UNREADABLE)
)


async def look(cluster: Cluster, key: Key) -> Answer:
    """Read the job, its pods and all nodes live. Raises NotFound and RuntimeFault with what to do."""
    job, view = await observe(cluster, key)
    ended = job.status.phase in ("completed", "failed")
    return Answer(as_table(job, view), as_document(job, view), exit_code(job), ended=ended)


async def observe(cluster: Cluster, key: Key) -> tuple[BroadcastJob, View]:
    """Return the job and the planner's view of it."""
    job = await read(cluster, BROADCASTJOBS, key)
    live, selector = cluster.client.live, f"{LABEL_CONTROLLER_UID}={job.metadata.uid}"
    pods = await live.list(PODS, namespace=key.namespace, label_selector=selector)
    nodes = [n for n in await live.list(NODES) if not isinstance(n, Unreadable)]
    return job, View.of(job, sorted(nodes, key=lambda n: n.key), pods)


def exit_code(job: BroadcastJob) -> int:
    """Return 2 for a job that failed, ended with failed pods, or does not get on, else 0."""
    if job.status.phase == "failed" or (job.status.phase == "completed" and job.status.failed):
        return DEGRADED
    moving = next((c for c in job.status.conditions if c.type == PROGRESSING), None)
    waits = (Reason.PAUSED, Reason.JOB_COMPLETE, Reason.ALL_NODES_DONE)
    return DEGRADED if moving is not None and moving.status == "False" and moving.reason not in waits else DONE


def as_document(job: BroadcastJob, view: View) -> dict[str, Any]:
    """Return everything as one document."""
    return {
        "kind": job.kind or BROADCASTJOBS.kind,
        "namespace": job.metadata.namespace,
        "name": job.metadata.name,
        "status": wire(job.status),
        "nodes": [
            {
                "node": slot.name,
                "pod": slot.pod.key.name if slot.pod is not None else "",
                "reason": decision.reason,
                **({"taint": decision.detail["taint"]} if "taint" in decision.detail else {}),
                "evidence": decision.evidence,
                "since": decision.since or "",
                "unblockedBy": decision.unblocked_by,
                **({"exitCode": int(decision.detail["exitCode"])} if "exitCode" in decision.detail else {}),
            }
            for slot, decision in explain(job, view)
        ],
    }


def as_table(job: BroadcastJob, view: View) -> str:
    """Return the summary for a person."""
    status = job.status
    lines = [
        f"BroadcastJob {job.key}: {status.phase or 'not seen by a manager yet'}",
        f"desired {status.desired}, active {status.active}, succeeded {status.succeeded}, failed {status.failed}",
    ]
    lines += [
        f"{c.type}={c.status} {c.reason}: {c.message}" for c in status.conditions if c.type in ("Failed", PROGRESSING)
    ]
    found = list(explain(job, view))
    counts = Counter(_label(decision) for _, decision in found)
    if counts:
        lines += [
            "",
            *columns([("NODES", "REASON", "SUCH AS"), *(_row(r, n, found) for r, n in counts.most_common())]),
        ]
    failing = [(slot, d) for slot, d in found if d.reason in _FAILING]
    if failing:
        rows = [("NODE", "REASON", "EXIT CODE", "EVIDENCE", "UNBLOCKED BY")]
        rows += [
            (slot.name, _label(d), d.detail.get("exitCode", "-"), d.evidence, d.unblocked_by)
            for slot, d in failing[:_SHOWN]
        ]
        lines += ["", *columns(rows)]
        if len(failing) > _SHOWN:
            lines.append(f"... and {len(failing) - _SHOWN} more nodes; -o json has them all")
    return "\n".join(lines)


def _label(decision: Decision) -> str:
    taint = decision.detail.get("taint")
    return f"{decision.reason}({taint})" if taint else str(decision.reason)


def _row(label: str, count: int, found: list[tuple[Any, Decision]]) -> tuple[str, ...]:
    return str(count), label, ", ".join([slot.name for slot, d in found if _label(d) == label][:3])
