"""backoff.py: the delays of streams."""

from __future__ import annotations

import pytest

from kruise.runtime.backoff import VERY_SHORT_WATCH, BackoffPolicy, HostBackoff
from kruise.runtime.clock import Random


def wait_out(backoff: HostBackoff, now: float, count: int) -> tuple[float, list[float]]:
    delays = []
    for _ in range(count):
        delay = backoff.failed(now)
        delays.append(delay)
        now += delay
    return now, delays


def test_bak1_delays_double_from_800_ms_to_30_s_with_full_jitter() -> None:
    backoff = HostBackoff(Random(3))
    now, bases = 50.0, []
    for _ in range(9):
        delay = backoff.failed(now)
        bases.append(backoff.base)
        assert backoff.base <= delay <= 2 * backoff.base
        now += delay
    assert bases == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]


def test_bak1_jitter_differs_and_is_seeded() -> None:
    def delays(seed: int) -> list[float]:
        return wait_out(HostBackoff(Random(seed)), 0.0, 5)[1]

    assert delays(1) == delays(1) != delays(2)


@pytest.mark.parametrize(("health", "base"), [(0.0, 6.4), (60.0, 6.4), (119.9, 6.4), (120.0, 0.8), (9999.0, 0.8)])
def test_bak1_reset_needs_two_minutes_of_health(health: float, base: float) -> None:
    backoff = HostBackoff(Random(5))
    now, _ = wait_out(backoff, 10.0, 3)
    backoff.failed(now + health)
    assert backoff.base == pytest.approx(base)


def test_bak1_the_time_that_was_only_waited_is_no_health() -> None:
    backoff = HostBackoff(Random(5), BackoffPolicy(initial=100, cap=400, jitter=0.0))
    assert backoff.failed(0.0) == 100
    assert backoff.failed(100 + 119) == 200
    assert backoff.failed(219 + 200 + 120) == 100


def test_bak1_ten_thousand_failures_overflow_nothing() -> None:
    backoff = HostBackoff(Random(1))
    now, delays = wait_out(backoff, 0.0, 10_000)
    assert max(delays) <= 60.0 and min(delays[10:]) >= 30.0
    assert now > 0


def test_bak2_a_thousand_failures_within_one_delay_count_once() -> None:
    backoff = HostBackoff(Random(1))
    delay = backoff.failed(0.0)
    for i in range(1000):
        assert backoff.failed(delay * i / 1000) == pytest.approx(delay * (1 - i / 1000))
    assert backoff.base == 0.8


def test_bak2_two_reflectors_of_one_host_wait_as_one() -> None:
    shared = HostBackoff(Random(1))
    one = shared.failed(5.0)
    other = shared.failed(5.1)
    assert other == pytest.approx(one - 0.1)


def test_bak3_a_watch_under_a_second_is_very_short() -> None:
    assert VERY_SHORT_WATCH == 1.0
