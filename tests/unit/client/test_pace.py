"""pace.py: a process that is busy looks at its sockets once in a period."""

from __future__ import annotations

import math

import pytest

from kruise.runtime.client import pace
from kruise.runtime.client.pace import Pace
from kruise.runtime.clock import SystemClock


class Hands(SystemClock):
    """A clock that moves when it is told to, and when somebody rests."""

    def __init__(self) -> None:
        self.at = 100.0
        self.rests: list[float] = []

    def monotonic(self) -> float:
        return self.at

    def rest(self, seconds: float) -> None:
        self.rests.append(round(seconds, 6))
        self.at += seconds


@pytest.mark.parametrize(
    ("period", "gap"),
    [
        pytest.param(0.01, 0.0101, id="what comes after a pause is read at once"),
        pytest.param(0.01, 0.01, id="turns that take a period"),
        pytest.param(0.0, 0.001, id="no period"),
    ],
)
def test_tra10_a_process_that_is_not_woken_within_a_period_never_rests(period: float, gap: float) -> None:
    hands = Hands()
    looks = Pace(hands, hands.rest, period)
    for _ in range(10):
        looks.news()
        hands.at += gap
    assert hands.rests == []


def test_tra10_what_follows_waits_for_the_end_of_the_period() -> None:
    hands = Hands()
    looks = Pace(hands, hands.rest, 0.01)
    looks.news()
    hands.at += 0.004
    looks.news()
    assert hands.rests == [0.006]
    hands.at += 0.001
    looks.news()
    assert hands.rests == [0.006, 0.009], "a period runs from the end of a rest"


def test_tra10_all_that_one_look_has_brought_is_read_without_another_rest() -> None:
    hands = Hands()
    looks = Pace(hands, hands.rest, 0.01)
    looks.news()
    hands.at += 0.004
    for _ in range(50):
        looks.news()
        hands.at += pace.SAME_LOOK * 0.9
    assert hands.rests == [0.006]


@pytest.mark.parametrize("period", [-0.01, math.nan, math.inf])
def test_tra10_a_period_is_a_number_of_seconds(period: float) -> None:
    hands = Hands()
    with pytest.raises(ValueError, match="period"):
        Pace(hands, hands.rest, period)
