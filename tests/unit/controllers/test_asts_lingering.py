"""What holds a set up for longer than usual is told once, for each pod and reason."""

from __future__ import annotations

import pytest

from kruise.apis.statefulset import StatefulSetCondition, StatefulSetStatus
from kruise.controllers.statefulset.lingering import LONG, Lingering


def stored(reason: str, message: str = "pod web-1: it waits") -> StatefulSetStatus:
    return StatefulSetStatus(
        conditions=(StatefulSetCondition(type="Progressing", status="True", reason=reason, message=message),)
    )


def test_it_is_told_after_a_minute_and_once() -> None:
    one = Lingering()
    status = stored("ReadinessFailing")
    assert one.look(status, 100.0) == (None, LONG)
    assert one.look(status, 130.0) == (None, LONG - 30.0)
    event, due = one.look(status, 100.0 + LONG)
    assert event is not None and due is None
    assert (event.type, event.reason, event.note) == (
        "Warning",
        "ReadinessFailing",
        "for 60 s now: pod web-1: it waits",
    )
    assert one.look(status, 1000.0) == (None, None)


def test_other_words_about_the_same_pod_are_the_same() -> None:
    one = Lingering()
    one.look(stored("VolumeClaimPending", "pod web-1: claim a is Pending"), 0.0)
    event, _ = one.look(stored("VolumeClaimPending", "pod web-1: claim b is Pending"), LONG)
    assert event is not None and event.note.endswith("claim b is Pending")


@pytest.mark.parametrize(
    "other", [stored("ReadinessFailing", "pod web-0: it waits"), stored("PodTerminating"), stored("Complete")]
)
def test_another_pod_or_reason_begins_anew(other: StatefulSetStatus) -> None:
    one = Lingering()
    one.look(stored("ReadinessFailing"), 0.0)
    one.look(other, LONG - 1.0)
    assert one.look(stored("ReadinessFailing"), LONG) == (None, LONG)


@pytest.mark.parametrize("status", [StatefulSetStatus(), stored("Complete"), stored("Updating"), stored("Paused")])
def test_what_is_normal_or_told_elsewhere_is_left_alone(status: StatefulSetStatus) -> None:
    one = Lingering()
    assert one.look(status, 0.0) == one.look(status, 10 * LONG) == (None, None)
