"""Steps of a scenario that nobody took fail the test, and so does a step too many."""

from __future__ import annotations

import pytest

from kruise.runtime.testing import Script, Unscripted, every_step_taken


def test_tst3_steps_are_taken_in_order() -> None:
    script = Script("a", "b")
    assert [script.take(), script.take()] == ["a", "b"]
    assert not script and script.taken == 2
    script.done()


def test_tst3_an_unconsumed_step_is_a_failure_that_names_it() -> None:
    with pytest.raises(Unscripted, match=r"the answers: 1 of 3 steps were taken, the next is 'b'"), every_step_taken():
        Script("a", "b", "c", name="the answers").take()


def test_tst3_a_step_too_many_is_a_failure_at_once() -> None:
    script = Script(1, name="the answers")
    script.take()
    with pytest.raises(Unscripted, match="the answers has no step left after 1"):
        script.take()


def test_tst3_steps_may_be_added_while_it_runs() -> None:
    with every_step_taken():
        script = Script[int]()
        script.add(1, 2)
        assert len(script) == 2
        assert [script.take(), script.take()] == [1, 2]


def test_tst3_steps_that_were_drawn_by_chance_may_be_dropped() -> None:
    with every_step_taken():
        script = Script(1, 2)
        script.take()
        script.drop()
        assert not script


def test_tst3_an_error_of_the_test_is_shown_and_not_what_it_left() -> None:
    with pytest.raises(ZeroDivisionError), every_step_taken():
        Script("never")
        raise ZeroDivisionError


def test_tst3_a_script_belongs_to_the_innermost_block() -> None:
    with every_step_taken():
        with pytest.raises(Unscripted), every_step_taken():
            Script("never")
        outer = Script("once")
        with every_step_taken():
            pass
        outer.take()
