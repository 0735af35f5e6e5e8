"""correlator.py: a pure function of reports and times."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.runtime.manager.correlator import (
    COMBINED,
    Correlator,
    EventKey,
    Reference,
    Report,
    Series,
    Step,
    cut,
    summary_note,
)


def report(note: str = "n", *, reason: str = "R", name: str = "a", summary: bool = False, **key: str) -> Report:
    regarding = Reference("v1", "Pod", "ns", name, key.pop("uid", "u"))
    values = {"action": "Act", "controller": "c", "instance": "i", **key}
    full = EventKey(values["action"], reason, values["controller"], values["instance"], regarding)
    return Report(full, "Warning", note, summary)


class Run:
    """A correlator with a clock, which writes what it is told to at once."""

    def __init__(self) -> None:
        self.correlator = Correlator()
        self.now = 0.0
        self.created: list[Series] = []
        self.patched: list[Series] = []
        self.steps: Counter[Step] = Counter()

    def take(self, one: Report) -> Step:
        step, series = self.correlator.observe(one, now=self.now, wall=1000 + self.now)
        self.steps[step] += 1
        if step is Step.CREATE:
            assert series is not None
            self.created.append(series)
        if step in (Step.CREATE, Step.PATCH):
            self.write(series)
        return step

    def write(self, series: Series | None) -> None:
        assert series is not None
        if series.written:
            self.patched.append(series)
        series.written, series.written_at = series.count, self.now

    def upkeep(self) -> list[Series]:
        found = self.correlator.due(self.now)
        for series in found:
            self.write(series)
        return found


def test_rec1_ten_thousand_equal_events_are_one_object_with_a_count() -> None:
    run = Run()
    for _ in range(10_000):
        run.take(report())
    (series,) = run.created
    assert series.count == 10_000
    assert run.patched == [series]  # when the series began, at 2
    assert run.steps == {Step.CREATE: 1, Step.PATCH: 1, Step.WAIT: 9_998}


@pytest.mark.parametrize("field", ["action", "reason", "controller", "instance", "uid", "name"])
def test_rec1_each_part_of_the_key_tells_events_apart(field: str) -> None:
    run = Run()
    run.take(report())
    run.take(report(**{field: "other"}))  # type: ignore[arg-type]
    assert len(run.created) == 2


def test_rec1_related_objects_tell_events_apart() -> None:
    run = Run()
    one = report()
    run.take(one)
    run.take(Report(one.key._replace(related=Reference("v1", "Node", "", "n1", "x")), one.type, one.note))
    assert len(run.created) == 2


def test_rec2_a_series_ends_after_six_minutes_without_a_report() -> None:
    run = Run()
    for _ in range(3):
        run.take(report())
    run.now = 359
    run.take(report())
    run.now = 359 + 359
    assert run.upkeep() == [] and len(run.correlator) == 1
    run.now = 359 + 360
    (last,) = run.upkeep()  # its final count
    assert last.count == last.written == 4 and len(run.correlator) == 0
    assert run.upkeep() == []
    assert run.take(report()) is Step.CREATE


def test_rec2_a_lone_event_is_forgotten_without_a_write() -> None:
    run = Run()
    run.take(report())
    run.now = 360
    assert run.upkeep() == [] and len(run.correlator) == 0


def test_rec2_a_series_that_goes_on_is_refreshed_each_half_hour() -> None:
    run = Run()
    refreshed = []
    for minute in range(121):
        run.now = minute * 60.0
        run.take(report())
        if run.upkeep():
            refreshed.append(minute)
    assert refreshed == [31, 61, 91]
    assert len(run.created) == 1


def test_rec2_what_is_still_on_its_way_is_not_forgotten() -> None:
    correlator = Correlator()
    _, series = correlator.observe(report(), now=0, wall=0)
    assert series is not None
    series.queued = True
    assert correlator.due(1000) == [] and len(correlator) == 1


def test_rec3_an_object_gets_25_events_then_one_each_300_seconds() -> None:
    run = Run()
    for i in range(100):
        run.take(report(reason=f"R{i}"))
    assert run.steps == {Step.CREATE: 25, Step.DROP: 75}
    assert run.take(report(reason="R1000", name="other")) is Step.CREATE
    assert run.take(report(reason="R1000", controller="other")) is Step.CREATE
    run.now = 299
    assert run.take(report(reason="late")) is Step.DROP
    run.now = 301
    assert run.take(report(reason="late")) is Step.CREATE
    assert run.take(report(reason="later")) is Step.DROP


def test_rec3_many_looks_do_not_lose_a_token() -> None:
    run = Run()
    for i in range(25):
        run.take(report(reason=f"R{i}"))
    for second in range(1, 301):
        run.now = float(second)
        step = run.take(report(reason=f"x{second}"))
    assert step is Step.CREATE


def test_rec3_a_count_costs_no_token() -> None:
    run = Run()
    for _ in range(1000):
        run.take(report())
    for i in range(24):
        assert run.take(report(reason=f"R{i}")) is Step.CREATE


def test_rec4_the_tenth_similar_event_combines_the_rest() -> None:
    run = Run()
    for i in range(1000):
        run.take(report(f"note {i}"))
    assert [s.note for s in run.created] == [f"note {i}" for i in range(9)] + [f"{COMBINED}note 9"]
    assert run.created[-1].count == 991
    assert {s.note for s in run.patched} == {f"{COMBINED}note 9"}  # the text is final, only the count moves
    run.now = 601 + 360
    run.take(report("again"))
    assert run.created[-1].note == "again"


def test_rec4_similar_events_far_apart_are_not_combined() -> None:
    run = Run()
    for i in range(20):
        run.now = i * 601.0
        run.take(report(f"note {i}"))
    assert not any(s.note.startswith(COMBINED) for s in run.created)


def test_rec7_five_thousand_nodes_with_three_reasons_are_three_events() -> None:
    run = Run()
    for reason in ("Failed", "Unschedulable", "ImagePull"):
        examples = [f"node-{i}: broken" for i in range(5000)]
        for passes in range(50):
            run.take(report(summary_note("nodes", 5000 - passes, examples), reason=reason, summary=True))
    assert len(run.created) == 3
    assert [s.count for s in run.created] == [50, 50, 50]
    for series in run.created:
        assert series.note.startswith("nodes: 5000 (for example node-0: broken; node-1: broken;")
        assert len(series.note) <= 1024


def test_rec7_a_summary_says_how_many_and_gives_whole_examples() -> None:
    assert summary_note("failed", 2, ["a", "b"]) == "failed: 2 (for example a; b)"
    assert summary_note("failed", 3, ["a\nb"]) == "failed: 3 (for example a b; and 2 more)"
    assert summary_note("failed", 3) == "failed: 3"
    note = summary_note("failed", 5000, [f"node-{i:04}" for i in range(5000)])
    assert 900 < len(note) <= 1024 and note.endswith(" more)")
    shown = note.count("node-")
    assert f"and {5000 - shown} more" in note


@given(st.text(max_size=3000), st.integers(4, 1024))
def test_rec1_a_long_note_is_cut_between_characters(text: str, limit: int) -> None:
    got = cut(text, limit)
    data = got.encode()
    assert len(data) <= limit
    whole = text.encode("utf-8", "replace").decode()
    assert got == whole or (got.endswith("…") and whole.startswith(got[:-1]))


def test_rec2_memories_are_bounded() -> None:
    correlator = Correlator()
    for i in range(20_000):
        correlator.observe(report(name=f"pod-{i}"), now=0.0, wall=0.0)
    assert len(correlator) == 4096
    assert len(correlator._similar) == 4096 and len(correlator._buckets) == 4096


def test_rec2_what_could_not_be_written_starts_anew() -> None:
    correlator = Correlator()
    _, series = correlator.observe(report(), now=0.0, wall=0.0)
    assert series is not None
    correlator.forget(series)
    assert correlator.observe(report(), now=1.0, wall=1.0)[0] is Step.CREATE


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.floats(0, 700)), max_size=60))
def test_rec1_the_same_reports_give_the_same_answers(steps: list[tuple[int, int, float]]) -> None:
    one, two = Run(), Run()
    for reason, note, pause in steps:
        for run in (one, two):
            run.now += pause
            run.take(report(f"note {note}", reason=f"R{reason}"))
            run.upkeep()
    assert one.steps == two.steps
    total = sum(s.count for s in one.created)
    assert total == len(steps) - one.steps[Step.DROP]
