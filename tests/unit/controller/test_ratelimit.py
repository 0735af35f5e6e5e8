from __future__ import annotations

import random

import pytest

from kruise.runtime.controller.ratelimit import Bucket, FastSlow, ItemBackoff, WithMaxWait, default_limiter, max_of
from kruise.runtime.objects import Key

A = Key("default", "a")
B = Key("default", "b")


def steady(**options: float) -> ItemBackoff:
    return ItemBackoff(random.Random(1), jitter=0.0, **options)


def test_rat1_doubles_from_five_milliseconds_to_five_minutes() -> None:
    limiter = steady()
    now = 0.0
    delays = []
    for _ in range(20):
        delay = limiter.when(A, now)
        delays.append(delay)
        now += delay
    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert delays[-1] == 300.0 and max(delays) == 300.0
    assert limiter.failures(A) == 20


def test_rat1_keys_do_not_share_failures() -> None:
    limiter = steady()
    for _ in range(5):
        limiter.when(A, 0.0)
    assert limiter.when(B, 0.0) == 0.005


def test_rat1_jitter_only_shortens_and_differs_between_keys() -> None:
    limiter = ItemBackoff(random.Random(7), base=1.0, cap=1.0, jitter=0.2)
    delays = {limiter.when(Key("n", str(i)), 0.0) for i in range(100)}
    assert len(delays) > 90
    assert min(delays) >= 0.8 and max(delays) <= 1.0


def test_rat1_ten_thousand_failures_overflow_nothing() -> None:
    limiter = steady()
    for _ in range(10_000):
        assert limiter.when(A, 0.0) <= 300.0
    assert limiter.when(A, 0.0) == 300.0


def test_rat1_decays_after_a_quiet_period_but_not_within_a_long_run() -> None:
    limiter = steady(quiet=600.0)
    for _ in range(30):
        limiter.when(A, 0.0)
    # The delay of 300 s ends at 300; a run of five minutes that fails at 600 is no quiet period.
    assert limiter.when(A, 600.0) == 300.0
    assert limiter.when(A, 900.0 + 600.0) == 0.005


def test_rat1_forget_starts_anew_and_leaves_nothing_behind() -> None:
    limiter = steady()
    limiter.when(A, 0.0)
    limiter.when(A, 0.0)
    limiter.forget(A)
    limiter.forget(B)
    assert limiter.failures(A) == 0 and len(limiter) == 0
    assert limiter.when(A, 0.0) == 0.005


@pytest.mark.parametrize("bad", [{"base": 0.0}, {"cap": 0.001}, {"quiet": 0.0}])
def test_rat1_refuses_senseless_numbers(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="back-off"):
        ItemBackoff(random.Random(1), **bad)
    with pytest.raises(ValueError, match="jitter"):
        ItemBackoff(random.Random(1), jitter=1.0)


def test_rat2_bucket_lets_a_burst_through_and_then_paces() -> None:
    bucket = Bucket(10.0, 100)
    assert [bucket.when(A, 0.0) for _ in range(100)] == [0.0] * 100
    assert bucket.when(A, 0.0) == pytest.approx(0.1)
    assert bucket.when(B, 0.0) == pytest.approx(0.2)
    assert bucket.when(A, 10.0) == 0.0
    bucket.forget(A)
    assert bucket.failures(A) == 0
    # Ten idle minutes fill it to the burst, not further.
    bucket.when(A, 700.0)
    assert [bucket.when(A, 700.0) for _ in range(99)] == [0.0] * 99
    assert bucket.when(A, 700.0) > 0
    with pytest.raises(ValueError, match="bucket"):
        Bucket(0.0, 1)


def test_rat2_max_of_asks_all_and_takes_the_longest() -> None:
    item = steady(base=1.0, cap=8.0)
    limiter = max_of(item, Bucket(1.0, 1))
    assert limiter.when(A, 0.0) == 1.0
    assert limiter.when(A, 0.0) == 2.0
    assert limiter.when(B, 0.0) == 2.0  # the bucket is empty: its own first step would be 1 s
    assert limiter.failures(A) == 2
    limiter.forget(A)
    assert limiter.failures(A) == 0 and item.failures(A) == 0
    assert max_of(item) is item
    with pytest.raises(ValueError, match="one limiter"):
        max_of()


def test_rat2_fast_slow_and_max_wait() -> None:
    limiter = FastSlow(0.005, 10.0, 3)
    assert [limiter.when(A, 0.0) for _ in range(5)] == [0.005, 0.005, 0.005, 10.0, 10.0]
    assert limiter.failures(A) == 5
    limiter.forget(A)
    assert limiter.when(A, 0.0) == 0.005
    capped = WithMaxWait(steady(base=1.0, cap=100.0), 3.0)
    assert [capped.when(A, 0.0) for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]
    assert capped.failures(A) == 4
    capped.forget(A)
    assert capped.failures(A) == 0


def test_rat2_default_has_no_bucket_unless_asked() -> None:
    plain = default_limiter(random.Random(1))
    for i in range(1000):
        assert plain.when(Key("n", str(i)), 0.0) <= 0.005
    paced = default_limiter(random.Random(1), qps=10.0)
    delays = [paced.when(Key("n", str(i)), 0.0) for i in range(200)]
    assert delays[-1] == pytest.approx(10.0)
