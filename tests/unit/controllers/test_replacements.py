"""Pods that fail at once are replaced at a slower pace each time."""

from __future__ import annotations

from kruise.controllers.common.replacements import FORGIVEN_AFTER, MAX_DELAY, Replacements


def test_the_first_failure_costs_no_time_and_each_further_one_twice_as_much() -> None:
    known, now, waits = Replacements(), 0.0, []
    for _ in range(13):
        known.failed("web-0", now)
        wait = known.next_due(now) or 0.0
        waits.append(wait)
        assert ("web-0" in known.waiting(now)) is (wait > 0)
        now += wait
        assert known.waiting(now) == {}
    assert waits[:6] == [0, 1, 2, 4, 8, 16]
    assert waits[-1] == MAX_DELAY


def test_names_wait_alone() -> None:
    known = Replacements()
    for name in ("web-0", "web-0", "web-1"):
        known.failed(name, 0.0)
    assert {name: one.failures for name, one in known.waiting(0.0).items()} == {"web-0": 2}


def test_all_is_forgiven_after_a_while_and_nothing_is_kept() -> None:
    known = Replacements()
    known.failed("web-0", 0.0)
    known.failed("web-0", 0.0)
    assert known.waiting(1.0 + FORGIVEN_AFTER) == {}
    assert len(known) == 0
    known.failed("web-0", 5000.0)
    assert known.next_due(5000.0) is None


def test_a_changed_owner_begins_anew() -> None:
    known = Replacements()
    known.failed("web-0", 0.0)
    known.failed("web-0", 0.0)
    known.clear()
    assert known.waiting(0.0) == {}
