"""The decision of a pass and the words of its status."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kruise.apis.broadcastjob import BroadcastJob, BroadcastJobStatus
from kruise.controllers.broadcastjob.plan import (
    Ending,
    Plan,
    Results,
    Settled,
    is_over,
    parallelism,
    plan,
    settle,
    unreadable_events,
)
from kruise.controllers.broadcastjob.view import View
from tests.unit.controllers.bcj import NOW, STAMP, TEMPLATE, job, node, nodes, pod, unreadable

RUNNING = {"phase": "running", "startTime": STAMP, "observedGeneration": 1}
PAUSED = {**RUNNING, "phase": "paused"}


def ended(kind: str, **more: Any) -> dict[str, Any]:
    phase = {"Complete": "completed", "Failed": "failed"}[kind]
    conditions = [{"type": kind, "status": "True"}]
    return {**RUNNING, "phase": phase, "conditions": conditions, "completionTime": STAMP, **more}


def decide(one: BroadcastJob, names: str = "abc", *pods: Any, now: float = NOW) -> tuple[Plan, View]:
    view = View.of(one, nodes(*names), pods)
    return plan(one, view, now), view


def after(
    one: BroadcastJob, names: str = "abc", *pods: Any, now: float = NOW, results: Results | None = None
) -> Settled:
    planned, view = decide(one, names, *pods, now=now)
    if results is None:
        stopped = sum(1 for p in planned.deletes if p.kind.value == "active")
        results = Results(len(planned.creates), len(planned.deletes), stopped)
    return settle(one, view, planned, results, now)


def status_of(settled: Settled) -> BroadcastJobStatus:
    assert settled.status is not None
    return settled.status


def counts(settled: Settled) -> tuple[int, int, int, int]:
    s = status_of(settled)
    return (s.desired, s.active, s.succeeded, s.failed)


def reasons(settled: Settled | Plan) -> list[str]:
    return [str(e.reason) for e in settled.events]


# Begin.


def test_the_first_pass_starts_the_clock_and_creates_everywhere() -> None:
    planned, _ = decide(job())
    assert planned.ending is Ending.RUNNING
    assert [s.name for s in planned.creates] == ["a", "b", "c"]
    settled = after(job())
    status = status_of(settled)
    assert (status.phase, status.start_time, status.observed_generation) == ("running", STAMP, 1)
    assert counts(settled) == (3, 3, 0, 0)
    assert settled.decisive


def test_g7_the_observed_generation_never_goes_back() -> None:
    assert status_of(after(job(status={**RUNNING, "observedGeneration": 9}))).observed_generation == 9


def test_a_job_that_is_being_deleted_creates_nothing() -> None:
    one = job()
    going = msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, deletion_timestamp=STAMP))
    assert decide(going)[0].creates == ()


# Parallelism.


@pytest.mark.parametrize(
    ("value", "desired", "expected"),
    [(None, 5, 2147483647), (3, 5, 3), ("10%", 11, 2), ("50", 4, 2), ("100%", 0, 0), (0, 5, 0)],
)
def test_parallelism_in_every_form(value: Any, desired: int, expected: int) -> None:
    assert parallelism(job(parallelism=value), desired) == expected


def test_b4_finished_and_terminating_pods_free_a_slot_and_pending_ones_do_not() -> None:
    one = job(parallelism=2, status=RUNNING)
    pods = [pod(one, "a", phase="Succeeded"), pod(one, "b", terminating=True), pod(one, "c", phase="Pending")]
    planned, _ = decide(one, "abcdef", *pods)
    assert [s.name for s in planned.creates] == ["d"]
    assert (planned.room, planned.withheld) == (1, 2)


def test_b4_room_that_a_deletion_is_to_make_is_told_apart() -> None:
    one = job(parallelism=1, status=RUNNING)
    view = View.of(one, [node("a", unschedulable=True), node("b")], [pod(one, "a")])
    planned = plan(one, view, NOW)
    assert [p.node_name for p in planned.deletes] == ["a"]
    assert [s.name for s in planned.creates] == ["b"]
    assert planned.room == 0, "only once the deletion is done"


def test_too_many_active_pods_are_reported_and_left_alone() -> None:
    one = job(parallelism=1, status=RUNNING)
    planned, _ = decide(one, "abc", pod(one, "a"), pod(one, "b"))
    assert reasons(planned) == ["TooManyActivePods"]
    assert (planned.creates, planned.deletes) == ((), ())


def test_a_wrong_parallelism_is_named_and_creates_nothing_and_keeps_the_deadline() -> None:
    one = job(parallelism="many", completionPolicy={"activeDeadlineSeconds": 10}, status=RUNNING)
    planned, _ = decide(one)
    assert planned.error.startswith("spec.parallelism: ")
    assert (planned.creates, planned.next_check) == ((), 10)
    settled = after(one)
    assert reasons(settled) == ["InvalidSpec"]
    known = {**RUNNING, "conditions": [c_of(status_of(settled))]}
    assert reasons(after(job(parallelism="many", status=known))) == [], "once per text"


def c_of(status: BroadcastJobStatus) -> dict[str, Any]:
    (found,) = [c for c in status.conditions if c.type == "Progressing"]
    return {"type": found.type, "status": found.status, "reason": found.reason, "message": found.message}


# Failure.


@pytest.mark.parametrize("failing", [{"phase": "Failed"}, {"restarts": 1}])
def test_fail_fast_takes_the_active_pods_down_and_counts_them_as_failed(failing: dict[str, Any]) -> None:
    one = job(status=RUNNING, completionPolicy={"ttlSecondsAfterFinished": 7})
    pods = [pod(one, "a", **failing), pod(one, "b"), pod(one, "c", phase="Succeeded")]
    planned, _ = decide(one, "abcd", *pods)
    assert planned.ending is Ending.FAILED
    assert [p.node_name for p in planned.deletes] == ["b"], "a pod over its limit is not active"
    assert planned.creates == ()
    settled = after(one, "abcd", *pods)
    assert counts(settled) == (4, 0, 1, 2)
    status = status_of(settled)
    assert (status.phase, status.completion_time) == ("failed", STAMP)
    (failed,) = [c for c in status.conditions if c.type == "Failed"]
    assert (failed.status, failed.reason, failed.last_probe_time) == ("True", "Failed", STAMP)
    assert [(e.type, e.reason) for e in settled.events] == [("Warning", "failed pod is found")], "one event"
    note = settled.events[0].note
    assert ": 1 pods succeeded, 2 pods failed" in note
    if "restarts" in failing:
        assert note.endswith(f"; pod {pods[0].key.name} on node a restarted 1 times, restartLimit is 0")
    assert (settled.decisive, settled.next_check) == (True, 7)


def test_a_pod_that_was_gone_already_is_no_longer_active_and_did_not_fail() -> None:
    one = job(status=RUNNING)
    settled = after(one, "ab", pod(one, "a", phase="Failed"), pod(one, "b"), results=Results(deleted=0, stopped=1))
    assert counts(settled) == (2, 0, 0, 1)


@pytest.mark.parametrize("policy", ["Continue", "Odd"])
def test_continue_and_unknown_policies_go_on(policy: str) -> None:
    one = job(status=RUNNING, failurePolicy={"type": policy})
    planned, _ = decide(one, "ab", pod(one, "a", phase="Failed"))
    assert [s.name for s in planned.creates] == ["b"]


def test_the_policy_pause_says_so_once_and_goes_on_without_the_failed_pod() -> None:
    policy = {"type": "Pause"}
    one = job(status=RUNNING, failurePolicy=policy)
    failed = pod(one, "a", phase="Failed")
    settled = after(one, "ab", failed)
    assert reasons(settled) == ["Paused"]
    assert (status_of(settled).phase, settled.decisive) == ("paused", True)
    still = job(status=PAUSED, failurePolicy=policy)
    assert decide(still, "ab", failed)[0].ending is Ending.PAUSED
    assert reasons(after(still, "ab", failed)) == []
    freed = after(still, "ab", pod(one, "b"))
    assert (reasons(freed), status_of(freed).phase) == (["Continue"], "running")


# Pause and deadline.


def test_paused_stops_creating_and_judging_and_keeps_counting() -> None:
    one = job(paused=True, status=RUNNING, completionPolicy={"activeDeadlineSeconds": 1})
    planned, _ = decide(one, "abc", pod(one, "a", phase="Failed"), pod(one, "b"), now=NOW + 99)
    assert (planned.ending, planned.creates, planned.deletes) == (Ending.PAUSED, (), ())
    settled = after(one, "abc", pod(one, "a", phase="Failed"), pod(one, "b"))
    assert (counts(settled), status_of(settled).phase) == ((3, 1, 0, 1), "paused")


def test_b7_the_deadline_counts_from_the_start_and_fires_on_resume() -> None:
    policy = {"activeDeadlineSeconds": 60}
    one = job(status=PAUSED, completionPolicy=policy)
    assert decide(one, now=NOW + 59)[0].next_check == 1
    planned, _ = decide(one, "ab", pod(one, "a"), now=NOW + 60)
    assert (planned.ending, planned.failure, len(planned.deletes)) == (Ending.FAILED, "DeadlineExceeded", 1)
    settled = after(one, "ab", pod(one, "a"), now=NOW + 60)
    assert reasons(settled) == ["Continue", "DeadlineExceeded"]
    assert "Job ns/sweep was active longer than specified deadline" in settled.events[1].note


@pytest.mark.parametrize("policy", [{"type": "Never", "activeDeadlineSeconds": 1}, {"type": "Always"}, {"type": "Odd"}])
def test_no_deadline(policy: dict[str, Any]) -> None:
    assert decide(job(status=RUNNING, completionPolicy=policy), now=NOW + 99)[0].next_check is None


def test_a_type_that_is_not_never_has_its_deadline_like_always() -> None:
    one = job(status=RUNNING, completionPolicy={"type": "Odd", "activeDeadlineSeconds": 5})
    assert decide(one)[0].next_check == 5


def test_a_start_time_that_cannot_be_read_arms_no_deadline() -> None:
    one = job(status={**RUNNING, "startTime": "yesterday"}, completionPolicy={"activeDeadlineSeconds": 5})
    assert decide(one)[0].next_check is None


# Completion.


def test_complete_when_every_desired_node_is_done() -> None:
    one = job(status=RUNNING, completionPolicy={"ttlSecondsAfterFinished": -3})
    settled = after(one, "ab", pod(one, "a", phase="Succeeded"), pod(one, "b", terminating=True))
    status = status_of(settled)
    assert (status.phase, status.completion_time) == ("completed", STAMP)
    assert [(e.type, e.reason) for e in settled.events] == [("Normal", "JobComplete")]
    assert (settled.decisive, settled.next_check) == (True, 0)


@pytest.mark.parametrize(
    ("names", "parts", "policy"),
    [
        ("", {}, "Always"),
        ("a", {"phase": "Running"}, "Always"),
        ("a", {"phase": "Running", "restarts": 9}, "Always"),
        ("a", {"phase": "Succeeded"}, "Never"),
        ("ab", {"phase": "Succeeded"}, "Always"),
    ],
)
def test_not_complete(names: str, parts: dict[str, Any], policy: str) -> None:
    one = job(status=RUNNING, failurePolicy={"type": "Continue"}, completionPolicy={"type": policy})
    settled = after(one, names, *([pod(one, "a", **parts)] if parts else []))
    assert status_of(settled).phase == "running"


def test_a_pod_that_must_go_and_stays_keeps_the_job_open() -> None:
    one = job(status=RUNNING)
    view = View.of(one, [node("a"), node("b", unschedulable=True)], [pod(one, "a", phase="Succeeded"), pod(one, "b")])
    planned = plan(one, view, NOW)
    assert status_of(settle(one, view, planned, Results(), NOW)).phase == "running"
    done = settle(one, view, planned, Results(deleted=1, stopped=1), NOW)
    assert (status_of(done).phase, counts(done)) == ("completed", (1, 0, 1, 0))


def test_b8_deleting_a_finished_pod_takes_nothing_from_the_active_ones() -> None:
    one = job(status=RUNNING)
    view = View.of(one, [node("a"), node("b", unschedulable=True)], [pod(one, "a"), pod(one, "b", phase="Succeeded")])
    planned = plan(one, view, NOW)
    assert [p.node_name for p in planned.deletes] == ["b"]
    assert counts(settle(one, view, planned, Results(deleted=1), NOW)) == (1, 1, 1, 0)


def test_what_waits_after_an_error_is_not_tried() -> None:
    one = job(status=RUNNING)
    view = View.of(one, [node("a", unschedulable=True), node("b")], [pod(one, "a")])
    (slot,) = view.evicting()
    view.failing = {slot.pods[0].pod.uid: True, "uid-b": True}
    planned = plan(one, view, NOW)
    assert (planned.deletes, planned.creates, planned.withheld) == ((), (), 0)
    failing = job(status=ended("Failed"))
    assert plan(failing, view, NOW).deletes == ()


# After the end.


def test_b5_a_failed_job_deletes_survivors_and_a_complete_one_does_not() -> None:
    for kind, survivors in (("Failed", 1), ("Complete", 0)):
        one = job(status=ended(kind, active=1, failed=1))
        assert is_over(one)
        planned, _ = decide(one, "ab", pod(one, "a"))
        assert (planned.ending, len(planned.deletes), planned.creates) == (Ending.OVER, survivors, ())
    settled = after(job(status=ended("Failed", active=1, failed=1)), "ab", pod(one, "a"))
    assert (status_of(settled).active, status_of(settled).failed) == (0, 2)
    quiet = after(job(status=ended("Failed")), "ab")
    assert quiet.status is None


def test_b7_the_time_to_live() -> None:
    ttl = {"ttlSecondsAfterFinished": 30}
    one = job(status=ended("Complete"), completionPolicy=ttl)
    assert decide(one, now=NOW + 29)[0].next_check == 1
    assert decide(one, now=NOW + 30)[0].delete_job
    endless = job(status=ended("Complete", completionTime=None), completionPolicy=ttl)
    assert not decide(endless, now=NOW + 99)[0].delete_job


def test_a_false_condition_is_no_end_and_is_replaced_by_the_true_one() -> None:
    status = {**RUNNING, "conditions": [{"type": "Complete", "status": "False"}]}
    one = job(status=status)
    assert not is_over(one)
    settled = after(one, "a", pod(one, "a", phase="Succeeded"))
    assert [c.status for c in status_of(settled).conditions if c.type == "Complete"] == ["True"]


def test_type_never_is_never_over_and_ends_by_its_failure_policy() -> None:
    never = {"type": "Never"}
    one = job(status=RUNNING, completionPolicy=never)
    settled = after(one, "ab", pod(one, "a", phase="Failed"), pod(one, "b"))
    assert status_of(settled).phase == "failed"
    later = job(status=ended("Failed"), completionPolicy=never)
    assert not is_over(later)
    planned, _ = decide(later, "abc", pod(one, "a", phase="Failed"), pod(one, "b"))
    assert (planned.ending, len(planned.deletes), planned.creates) == (Ending.OVER, 1, ())
    assert counts(after(later, "abc", pod(one, "a", phase="Failed"))) == (3, 0, 0, 1), "counters are refreshed"


@pytest.mark.parametrize("phase", ["completed", "failed"])
def test_b5_a_terminal_phase_creates_nothing_although_its_condition_was_lost(phase: str) -> None:
    assert decide(job(status={**RUNNING, "phase": phase}))[0].creates == ()


# Odd pods.


def test_duplicates_are_reported_with_the_node() -> None:
    one = job(status=RUNNING)
    planned, _ = decide(one, "a", pod(one, "a"), pod(one, "a", name="zzz"))
    assert reasons(planned) == ["DuplicatePodCreatedOnSameNode"]
    assert planned.events[0].note == "Duplicated pod zzz found on same node a"
    assert planned.events[0].lasting


def test_pods_of_no_node_raise_no_event() -> None:
    one = job(status=RUNNING)
    planned, _ = decide(one, "a", pod(one, "x"), pod(one, "y"))
    assert reasons(planned) == []


def test_unreadable_pods_are_told_and_hold_what_they_may_hold() -> None:
    one = job(status=RUNNING)
    planned, view = decide(one, "ab", unreadable(one, "a"), unreadable(one, "a", name="b-second"))
    assert [s.name for s in planned.creates] == ["b"], "the other nodes go on"
    (event,) = unreadable_events(view)
    assert (event.reason, event.lasting) == ("PodUnreadable", True)
    assert "$.spec: expected int (and 1 more)" in event.note
    lost, _ = decide(one, "ab", unreadable(one, "a", annotated=False))
    assert lost.creates == (), "it may hold any node"
    failing, _ = decide(one, "ab", unreadable(one, "a"), pod(one, "b", phase="Failed"))
    assert (failing.ending, failing.deletes) == (Ending.FAILED, ()), "nobody deletes it"


def test_a_template_that_cannot_be_read_creates_nothing_and_everything_else_goes_on() -> None:
    bad = {"spec": {**TEMPLATE["spec"], "containers": "none"}}
    one = job(template=bad, status={**RUNNING, "desired": 2}, completionPolicy={"activeDeadlineSeconds": 10})
    good = job()
    planned, view = decide(one, "ab", pod(good, "a", phase="Succeeded"))
    assert (planned.creates, planned.next_check) == ((), 10)
    settled = settle(one, view, planned, Results(), NOW)
    assert (status_of(settled).phase, status_of(settled).desired) == ("running", 2), "not complete by what is not known"
    assert reasons(settled) == ["InvalidSpec"]
    assert decide(one, "ab", pod(good, "a"), now=NOW + 10)[0].ending is Ending.FAILED
    assert decide(one, "ab", pod(good, "a", phase="Failed"))[0].ending is Ending.FAILED


def test_b4_a_pod_that_may_still_come_to_be_keeps_its_room() -> None:
    one = job(status=RUNNING, parallelism=2)
    view = View.of(one, nodes(*"abcd"), [pod(one, "a")])
    view.failing, view.unsure = {"uid-c": True}, frozenset({"uid-c"})
    assert plan(one, view, NOW).creates == (), "one is active and one may be"
    view.failing = {"uid-c": False}
    assert [slot.name for slot in plan(one, view, NOW).creates] == ["c"], "it is tried first"
    view.unsure = frozenset()
    assert [slot.name for slot in plan(one, view, NOW).creates] == ["b"]


def test_b6_the_pod_over_the_restart_limit_is_named_with_its_node() -> None:
    owner = job(failurePolicy={"type": "FailFast", "restartLimit": 1})
    over = pod(owner, "n1", restarts=2)
    view = View.of(owner, nodes("n1", "n2"), [over, pod(owner, "n2")])
    planned = plan(owner, view, NOW)
    (event,) = settle(owner, view, planned, Results(deleted=1, stopped=1), NOW).events
    assert event.reason == "failed pod is found"
    assert event.note.endswith(f"; pod {over.metadata.name} on node n1 restarted 2 times, restartLimit is 1")
