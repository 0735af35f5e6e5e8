"""The condition Progressing: one reason out of the vocabulary, and True only while something moves."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.apis.broadcastjob import BroadcastJob, BroadcastJobStatus, JobCondition
from kruise.controllers.broadcastjob.plan import Results, plan, settle
from kruise.controllers.broadcastjob.view import View
from kruise.controllers.common.reasons import NameConflictError, reason_of_refusal
from kruise.runtime.errors import Refused, Status, UnknownOutcome, error_from_status
from tests.unit.controllers.bcj import NOW, STAMP, TEMPLATE, job, node, nodes, pod, unreadable

RUNNING = {"phase": "running", "startTime": STAMP, "observedGeneration": 1}


def judged(one: BroadcastJob, seen: Any = "ab", *pods: Any, now: float = NOW, **results: Any) -> JobCondition:
    view = View.of(one, nodes(*seen) if isinstance(seen, str) else seen, pods)
    planned = plan(one, view, now)
    status = settle(one, view, planned, Results(**results), now).status
    assert isinstance(status, BroadcastJobStatus)
    (found,) = [c for c in status.conditions if c.type == "Progressing"]
    return found


def said(condition: JobCondition) -> tuple[str, str]:
    return (condition.status, condition.reason)


def refused(code: int, reason: str, message: str) -> Exception:
    return error_from_status(Status(code, reason, message))


DENIED = refused(400, "BadRequest", 'admission webhook "policy" denied the request: no')
QUOTA = refused(403, "Forbidden", "exceeded quota: compute")
NAME = NameConflictError("the names are taken")
FAULT = Refused("connection refused")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DENIED, "AdmissionDenied"),
        (refused(403, "Forbidden", "violates PodSecurity"), "AdmissionDenied"),
        (refused(422, "Invalid", "spec: wrong"), "AdmissionDenied"),
        (QUOTA, "QuotaExceeded"),
        (NAME, "NameConflict"),
        (FAULT, None),
        (refused(500, "InternalError", "etcd"), None),
        (UnknownOutcome("create", FAULT), None),
    ],
)
def test_the_reason_of_a_refusal(error: Exception, reason: str | None) -> None:
    assert reason_of_refusal(error) == reason


@pytest.mark.parametrize("error", [DENIED, QUOTA, NAME])
def test_a_refusal_is_named_with_its_node_and_moves_only_with_the_others(error: Exception) -> None:
    one = job(status=RUNNING)
    reason = reason_of_refusal(error)
    found = judged(one, "ab", refusals=(("b", FAULT), ("a", error)))
    assert said(found) == ("False", reason)
    assert found.message == f"no pod for node a: {error}"
    several = judged(one, "abc", pod(one, "c"), refusals=(("b", error), ("a", error)))
    assert said(several) == ("True", reason), "another pod runs"
    assert several.message.startswith("no pod for 2 nodes, such as a: ")


def test_a_passing_fault_is_pending_and_no_refusal() -> None:
    one = job(status=RUNNING)
    found = judged(one, "ab", refusals=(("a", FAULT),))
    assert said(found) == ("False", "PodPending")
    assert "trying again: connection refused" in found.message
    assert said(judged(one, "ab", pod(one, "b"), refusals=(("a", FAULT),))) == ("True", "PodRunning")


def test_pods_run() -> None:
    one = job(status=RUNNING)
    assert said(judged(one, "a", pod(one, "a"))) == ("True", "PodRunning")
    assert said(judged(one, "a", created=1)) == ("True", "PodRunning")


def test_paused_by_the_user_and_by_the_policy() -> None:
    assert said(judged(job(paused=True))) == ("False", "Paused")
    one = job(failurePolicy={"type": "Pause"})
    found = judged(one, "a", pod(one, "a", phase="Failed"))
    assert said(found) == ("False", "JobPaused")
    assert "1 pods failed" in found.message


def test_ends() -> None:
    one = job(status=RUNNING)
    assert said(judged(one, "a", pod(one, "a", phase="Succeeded"))) == ("False", "JobComplete")
    assert said(judged(one, "a", pod(one, "a", phase="Failed"))) == ("False", "JobFailed")
    late = job(status=RUNNING, completionPolicy={"activeDeadlineSeconds": 5})
    assert said(judged(late, "a", pod(late, "a"), now=NOW + 5)) == ("False", "DeadlineExceeded")


def test_a_job_of_type_never_rests_when_all_nodes_are_done() -> None:
    one = job(status=RUNNING, completionPolicy={"type": "Never"})
    assert said(judged(one, "a", pod(one, "a", phase="Succeeded"))) == ("False", "AllNodesDone")


def test_invalid_spec() -> None:
    found = judged(job(parallelism="x", status=RUNNING))
    assert said(found) == ("False", "InvalidSpec")
    assert found.message.startswith("spec.parallelism: ")


def test_no_eligible_node_says_why() -> None:
    assert judged(job(), "").message == "the cluster has no nodes"
    picky = job(template={"spec": {**TEMPLATE["spec"], "nodeSelector": {"use": "yes"}}})
    taint = {"key": "gpu", "effect": "NoSchedule"}
    fitting = {"use": "yes"}
    seen = [
        node("a"),
        node("b"),
        node("c", labels=fitting, taints=[taint]),
        node("d", labels=fitting, unschedulable=True),
        node("e", labels=fitting, allocatable={}),
    ]
    found = judged(picky, seen)
    assert said(found) == ("False", "NoEligibleNode")
    assert found.message == (
        "none of 5 nodes is eligible: 2 NodeAffinityMismatch, 1 InsufficientResources, 1 NodeCordoned, "
        "1 TaintNotTolerated(gpu)"
    )


def test_parallelism() -> None:
    one = job(parallelism=1, status=RUNNING)
    assert said(judged(one, "ab", pod(one, "a"))) == ("True", "ParallelismLimit")
    none = job(parallelism=0, status=RUNNING)
    found = judged(none, "ab")
    assert said(found) == ("False", "ParallelismLimit")
    assert "allows no pod at all" in found.message


def waiting(reason: str) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": reason}}}]}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (waiting("ImagePullBackOff"), "ImagePullFailed"),
        (waiting("CrashLoopBackOff"), "CrashLooping"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}, "PodUnschedulable"),
    ],
)
def test_stuck_pods_are_named_with_their_nodes(status: dict[str, Any], reason: str) -> None:
    one = job(status=RUNNING)
    stuck = [pod(one, name, **status) for name in "abcde"]
    found = judged(one, "abcde", *stuck)
    assert said(found) == ("False", reason)
    assert found.message.startswith("5 pods do not get on: pod sweep-")
    assert found.message.endswith(" and 2 more")
    moving = judged(one, "abcde", stuck[0], *(pod(one, name) for name in "bcde"))
    assert said(moving) == ("True", reason)


def test_the_reason_of_most_pods_counts_and_an_unreadable_one_counts_most() -> None:
    one = job(status=RUNNING)
    pulls = [pod(one, name, **waiting("ErrImagePull")) for name in "ab"]
    crash = pod(one, "c", **waiting("CrashLoopBackOff"))
    assert said(judged(one, "abc", *pulls, crash)) == ("False", "ImagePullFailed")
    found = judged(one, "abcd", *pulls, crash, unreadable(one, "d"))
    assert said(found) == ("False", "PodUnreadable")
    assert "on node d ($.spec: expected int)" in found.message


def test_a_stuck_pod_without_a_node_is_named_alone() -> None:
    one = job(status=RUNNING)
    found = judged(one, "a", unreadable(one, "x", annotated=False))
    assert " on node" not in found.message


def test_terminating_pods_move() -> None:
    one = job(status=RUNNING)
    assert said(judged(one, "ab", pod(one, "a", terminating=True))) == ("True", "PodTerminating")


def test_restart_failed_pods_keep_a_job_open() -> None:
    one = job(status=RUNNING, failurePolicy={"type": "Continue"})
    found = judged(one, "a", pod(one, "a", restarts=9))
    assert said(found) == ("False", "PodFailed")


def test_the_transition_time_moves_with_the_status_only() -> None:
    old = {"type": "Progressing", "status": "False", "reason": "Paused", "lastTransitionTime": "2025-01-01T00:00:00Z"}
    kept = judged(job(status={**RUNNING, "conditions": [old]}, parallelism=0))
    assert (kept.reason, kept.last_transition_time) == ("ParallelismLimit", "2025-01-01T00:00:00Z")
    one = job(status={**RUNNING, "conditions": [old]})
    assert judged(one, "a", pod(one, "a")).last_transition_time == STAMP


def test_messages_are_bounded() -> None:
    one = job(status=RUNNING)
    error = refused(403, "Forbidden", "x" * 5000)
    assert len(judged(one, "a", refusals=(("a", error),)).message) == 1024
