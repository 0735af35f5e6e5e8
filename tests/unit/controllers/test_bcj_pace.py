"""The pace of status writes, the holds of failing parts, the wire form of a status."""

from __future__ import annotations

import pytest

from kruise.apis.broadcastjob import BroadcastJobStatus, JobCondition
from kruise.controllers.broadcastjob.status import wire
from kruise.controllers.common.holds import MAX_DELAY, Holds
from kruise.controllers.common.pace import StatusPace
from kruise.runtime.errors import UnknownOutcome


def test_a_decisive_change_waits_for_nothing() -> None:
    pace = StatusPace()
    assert pace.wait("a", 0.0, decisive=True) == 0
    assert len(pace) == 0


def test_a_storm_of_changes_does_not_move_the_window() -> None:
    pace = StatusPace()
    waits = [pace.wait("a", at / 10, decisive=False) for at in range(8)]
    assert waits[0] == 0.5
    assert waits[4] > 0
    assert waits[5:] == [0, 0, 0]


def test_a_write_closes_the_window_and_each_owner_has_its_own() -> None:
    pace = StatusPace()
    pace.wait("a", 0.0, decisive=False)
    assert pace.wait("b", 0.4, decisive=False) == 0.5
    pace.settled("a")
    assert pace.wait("a", 0.6, decisive=False) == pytest.approx(0.5)
    pace.settled("a")
    pace.settled("b")
    pace.settled("never seen")
    assert len(pace) == 0


ERROR = ValueError("no")


def test_a_failing_part_waits_longer_and_longer() -> None:
    holds = Holds()
    delays = []
    now = 0.0
    for _ in range(40):
        holds.failed("u", "n", ERROR, now)
        due = holds.next_due(now)
        assert due is not None
        delays.append(due)
        now += due
    assert delays[:3] == pytest.approx([0.005, 0.01, 0.02])
    assert delays[-1] == pytest.approx(MAX_DELAY)
    assert delays[:16] == sorted(delays[:16])


def test_what_is_due_wakes_nobody_and_may_be_tried() -> None:
    holds = Holds()
    holds.failed("u", "n", ERROR, 0.0)
    holds.failed("v", "m", ERROR, 1.0)
    assert holds.waiting(1.0) == {"u": False, "v": True}
    assert holds.next_due(1.0) == pytest.approx(0.005)
    assert holds.next_due(2.0) is None


def test_g9_holds_go_with_what_they_are_for() -> None:
    holds = Holds()
    for uid in "abc":
        holds.failed(uid, uid, ERROR, 0.0)
    holds.keep(lambda uid: uid != "b")
    assert [uid for uid, _ in holds] == ["a", "c"]
    assert len(holds) == 2
    holds.clear()
    assert (len(holds), holds.next_due(0.0), holds.waiting(0.0)) == (0, None, {})


def test_cli3_zero_counts_are_always_written_and_absent_times_are_not() -> None:
    assert wire(BroadcastJobStatus()) == {
        "active": 0,
        "succeeded": 0,
        "failed": 0,
        "desired": 0,
        "phase": "",
        "observedGeneration": 0,
    }
    full = BroadcastJobStatus(
        start_time="a",
        completion_time="b",
        conditions=(
            JobCondition(type="Complete", status="True", reason="Complete", message="m", last_transition_time="t"),
        ),
    )
    assert wire(full)["startTime"] == "a"
    assert wire(full)["completionTime"] == "b"
    assert wire(full)["conditions"] == [
        {"type": "Complete", "status": "True", "reason": "Complete", "message": "m", "lastTransitionTime": "t"}
    ]


def test_a_window_says_how_long_it_stays_open() -> None:
    pace = StatusPace()
    assert pace.left("a", 0.0) == 0.0
    assert pace.wait("a", 0.0, decisive=False) == 0.5
    assert pace.left("a", 0.2) == pytest.approx(0.3)
    assert pace.left("a", 0.7) == 0.0
    pace.settled("a")
    assert pace.left("a", 0.2) == 0.0


def test_rule5_a_write_of_unknown_outcome_stays_unsure_for_a_minute() -> None:
    holds = Holds()
    holds.failed("a", "node a", UnknownOutcome("create pods a", RuntimeError("reset")), 0.0)
    holds.failed("b", "node b", RuntimeError("no"), 0.0)
    assert holds.unsure(1.0) == {"a"}
    holds.failed("a", "node a", RuntimeError("no"), 2.0)
    assert holds.unsure(3.0) == {"a"}, "a refusal says nothing about the attempt before"
    holds.clear()
    assert holds.unsure(3.0) == {"a"}, "nor does a new generation"
    assert holds.waiting(3.0) == {"a": False}
    assert holds.next_due(10.0) == 50.0, "then its room is free"
    assert holds.unsure(60.0) == frozenset()
