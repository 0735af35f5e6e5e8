"""Why each node is not done: every reason of the vocabulary that a node can have."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.apis.broadcastjob import BroadcastJob
from kruise.controllers.broadcastjob.explain import explain
from kruise.controllers.broadcastjob.view import View
from kruise.controllers.common.reasons import Decision, Reason
from tests.unit.controllers.bcj import STAMP, TEMPLATE, job, node, nodes, pod, unreadable

RUNNING = {"phase": "running", "startTime": STAMP}
PICKY = {"spec": {**TEMPLATE["spec"], "nodeSelector": {"use": "yes"}}}


def ask(one: BroadcastJob, seen: Any, *pods: Any) -> Decision:
    view = View.of(one, [seen] if not isinstance(seen, str) else nodes(*seen), pods)
    return next(decision for _, decision in explain(one, view))


def progress(reason: str, message: str = "", **status: Any) -> dict[str, Any]:
    condition = {"type": "Progressing", "status": "False", "reason": reason, "message": message}
    return {**RUNNING, **status, "conditions": [*status.get("conditions", []), condition]}


ENDED = [{"type": "Failed", "status": "True"}]
DONE = [{"type": "Complete", "status": "True"}]


@pytest.mark.parametrize(
    ("one", "seen", "reason"),
    [
        (job(status=RUNNING), node("a", unschedulable=True), Reason.NODE_CORDONED),
        (job(status=RUNNING), node("a", taints=[{"key": "gpu", "effect": "NoExecute"}]), Reason.TAINT_NOT_TOLERATED),
        (job(status=RUNNING, template=PICKY), node("a"), Reason.NODE_AFFINITY_MISMATCH),
        (job(status=RUNNING), node("a", allocatable={}), Reason.INSUFFICIENT_RESOURCES),
        (job(status=RUNNING, template={"spec": 1}), node("a"), Reason.INVALID_SPEC),
        (job(status=RUNNING, parallelism="x"), node("a"), Reason.INVALID_SPEC),
        (job(status=RUNNING, parallelism=0), node("a"), Reason.PARALLELISM_LIMIT),
        (job(status=RUNNING, paused=True), node("a"), Reason.PAUSED),
        (job(), node("a"), Reason.POD_PENDING),
        (job(status=progress("AdmissionDenied", "policy")), node("a"), Reason.ADMISSION_DENIED),
        (job(status=progress("QuotaExceeded", "quota")), node("a"), Reason.QUOTA_EXCEEDED),
        (job(status=progress("NameConflict", "taken")), node("a"), Reason.NAME_CONFLICT),
        (job(status=progress("JobFailed", phase="failed", conditions=ENDED)), node("a"), Reason.JOB_FAILED),
        (job(status=progress("DeadlineExceeded", conditions=ENDED)), node("a"), Reason.DEADLINE_EXCEEDED),
        (job(status={**RUNNING, "phase": "failed"}), node("a"), Reason.JOB_FAILED),
        (job(status={**RUNNING, "conditions": DONE}), node("a"), Reason.JOB_COMPLETE),
    ],
)
def test_a_node_without_a_pod(one: BroadcastJob, seen: Any, reason: Reason) -> None:
    decision = ask(one, seen)
    assert (decision.reason, decision.subject) == (reason, "node a")
    assert decision.evidence
    assert decision.detail["node"] == "a"
    ended = (Reason.JOB_FAILED, Reason.JOB_COMPLETE, Reason.DEADLINE_EXCEEDED)
    assert bool(decision.unblocked_by) is (reason not in ended)


def test_the_taint_is_part_of_the_detail() -> None:
    assert ask(job(), node("a", taints=[{"key": "gpu", "effect": "NoExecute"}])).detail["taint"] == "gpu"


def test_job_paused_names_the_number_of_failures() -> None:
    one = job(status={**RUNNING, "phase": "paused"}, failurePolicy={"type": "Pause"})
    decision = ask(one, "ab", pod(one, "b", phase="Failed"))
    assert (decision.reason, decision.evidence) == (Reason.JOB_PAUSED, "1 pods failed and failurePolicy.type is Pause")


def waiting(reason: str, message: str = "why") -> dict[str, Any]:
    return {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": reason, "message": message}}}]}


@pytest.mark.parametrize(
    ("parts", "reason", "text"),
    [
        ({"phase": "Running"}, Reason.POD_RUNNING, "runs"),
        ({"phase": "Pending"}, Reason.POD_PENDING, "starts"),
        ({"phase": "Succeeded"}, Reason.POD_SUCCEEDED, "succeeded"),
        ({"phase": "Failed"}, Reason.POD_FAILED, "no container says why"),
        ({"phase": "Failed", "reason": "Evicted"}, Reason.POD_FAILED, "Evicted"),
        ({"restarts": 4}, Reason.POD_FAILED, "failed"),
        ({"terminating": True}, Reason.POD_TERMINATING, "is being deleted"),
        (waiting("ErrImagePull"), Reason.IMAGE_PULL_FAILED, "container main: ErrImagePull: why"),
        (waiting("CrashLoopBackOff", ""), Reason.CRASH_LOOPING, "container main: CrashLoopBackOff"),
        (
            {
                "conditions": [
                    {"type": "Other", "status": "False"},
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
                ]
            },
            Reason.POD_UNSCHEDULABLE,
            "Unschedulable: 0/3 nodes",
        ),
    ],
)
def test_a_node_with_a_pod(parts: dict[str, Any], reason: Reason, text: str) -> None:
    one = job(status=RUNNING)
    mine = pod(one, "a", **parts)
    decision = ask(one, "a", mine)
    assert decision.reason is reason
    assert decision.evidence.startswith(f"pod {mine.key.name}")
    assert decision.evidence.endswith(text) or text in decision.evidence
    assert decision.detail["pod"] == mine.key.name


@pytest.mark.parametrize("where", ["state", "lastState"])
def test_a_failed_pod_has_its_exit_code(where: str) -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    statuses = [
        {"name": "good", "state": {"terminated": {"exitCode": 0}}},
        {"name": "main", "restartCount": 2, where: ended},
    ]
    one = job(status=RUNNING)
    decision = ask(one, "a", pod(one, "a", phase="Failed", containerStatuses=statuses))
    assert decision.detail["exitCode"] == "137"
    assert "container main exited with code 137 (OOMKilled), 2 restarts" in decision.evidence


def test_a_failed_pod_without_a_reason_of_its_container() -> None:
    statuses = [{"name": "main", "state": {"terminated": {"exitCode": 1}}}]
    one = job(status=RUNNING)
    decision = ask(one, "a", pod(one, "a", phase="Failed", containerStatuses=statuses))
    assert "exited with code 1, 0 restarts" in decision.evidence


def test_an_unreadable_pod_names_the_field() -> None:
    one = job(status=RUNNING)
    decision = ask(one, "a", unreadable(one, "a"))
    assert decision.reason is Reason.POD_UNREADABLE
    assert decision.evidence.endswith("$.spec: expected int")
