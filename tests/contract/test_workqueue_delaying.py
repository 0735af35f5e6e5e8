"""What users of client-go's delaying and rate limiting queues rely on, as scenarios."""

from __future__ import annotations

import asyncio
import random

import pytest

from kruise.runtime.controller.queue import Queue
from kruise.runtime.controller.ratelimit import Bucket as TokenBucket
from kruise.runtime.controller.ratelimit import ItemBackoff, RateLimiter, max_of
from kruise.runtime.errors import QueueClosed
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key
from kruise.runtime.testing import VirtualClock, run_virtual

FIRST, SECOND, THIRD = (Key("", name) for name in ("foo", "bar", "baz"))


def make(clock: VirtualClock, limiter: RateLimiter | None = None) -> Queue:
    limiter = limiter or ItemBackoff(random.Random(3), base=0.5, cap=1000.0, jitter=0.0)
    return Queue("contract", clock=clock, metrics=Metrics(process=False), limiter=limiter)


def test_que2_a_simple_delay_and_an_empty_queue_after_it() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FIRST, after=0.05)
        assert queue.get_nowait() is None
        await clock.sleep(0.061)
        item = queue.get_nowait()
        assert item is not None and item.key == FIRST
        queue.done(FIRST)
        await clock.sleep(10)
        assert queue.get_nowait() is None
        queue.close()

    run_virtual(main)


def test_que2_delayed_adds_of_one_key_are_one_run_at_the_earliest_time() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FIRST, after=0.05)
        queue.add(FIRST, after=0.07)
        await clock.sleep(0.061)
        assert queue.get_nowait() is not None
        queue.done(FIRST)
        await clock.sleep(1)
        assert queue.get_nowait() is None
        queue.add(FIRST, after=0.05)
        queue.add(FIRST, after=0.03)
        await clock.sleep(0.041)
        assert queue.get_nowait() is not None
        queue.done(FIRST)
        await clock.sleep(1)
        assert queue.get_nowait() is None
        queue.close()

    run_virtual(main)


def test_que2_keys_come_in_the_order_of_their_times_not_of_their_adds() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FIRST, after=1)
        queue.add(SECOND, after=0.5)
        queue.add(THIRD, after=0.75)
        got = []
        for _ in range(3):
            got.append((await queue.get()).key)
        assert got == [SECOND, THIRD, FIRST]
        queue.close()

    run_virtual(main)


def test_que2_negative_and_zero_delays_are_immediate() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FIRST, after=0)
        queue.add(SECOND, after=-5)
        assert [(await queue.get()).key, (await queue.get()).key] == [FIRST, SECOND]
        queue.close()

    run_virtual(main)


def test_que2_a_delayed_key_goes_behind_those_that_became_ready_before_it() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FIRST, after=2)
        await clock.sleep(1)
        queue.add(SECOND)
        await clock.sleep(5)
        queue.add(THIRD)
        assert [(await queue.get()).key for _ in range(3)] == [SECOND, FIRST, THIRD]
        queue.close()

    run_virtual(main)


def test_que6_close_forgets_delayed_keys_and_leaves_no_timer() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FIRST, after=3600)
        queue.close()
        assert not asyncio.get_running_loop().timers_left()  # type: ignore[attr-defined]
        queue.add(SECOND, after=1)
        await clock.sleep(2)
        with pytest.raises(QueueClosed):
            await queue.get()

    run_virtual(main)


def test_que3_failed_runs_wait_longer_each_time_and_each_key_for_itself() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        starts: dict[Key, list[float]] = {FIRST: [], SECOND: []}
        for key in starts:
            queue.add(key)
        while sum(map(len, starts.values())) < 9:
            item = await queue.get()
            starts[item.key].append(clock.monotonic())
            if item.key == FIRST or len(starts[SECOND]) < 3:
                queue.add_rate_limited(item.key)
            queue.done(item.key)
        assert starts[FIRST] == pytest.approx([0, 0.5, 1.5, 3.5, 7.5, 15.5], abs=0.05)
        assert starts[SECOND] == pytest.approx([0, 0.5, 1.5], abs=0.05)
        queue.close()

    run_virtual(main)


def test_que5_forget_does_not_take_the_key_out_of_the_queue() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add_rate_limited(FIRST)
        queue.forget(FIRST)
        assert (await queue.get()).key == FIRST
        assert clock.monotonic() == pytest.approx(0.5, abs=0.011)
        queue.close()

    run_virtual(main)


def test_rat2_a_bucket_paces_the_retries_of_all_keys_but_no_event() -> None:
    async def main(clock: VirtualClock) -> None:
        item = ItemBackoff(random.Random(1), base=0.001, cap=0.001, jitter=0.0)
        queue = make(clock, max_of(item, TokenBucket(10.0, 5)))
        keys = [Key("", f"{i:02}") for i in range(25)]
        for key in keys:
            queue.add_rate_limited(key)
        healthy = Key("", "healthy")
        queue.add(healthy)
        assert (await queue.get()).key == healthy
        assert clock.monotonic() == 0.0
        seen = [(await queue.get()).key for _ in keys]
        assert seen == keys
        assert clock.monotonic() == pytest.approx(2.0, abs=0.02)
        queue.close()

    run_virtual(main)
