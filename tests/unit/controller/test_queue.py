from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kruise.runtime.controller.queue import LOW, Item, KeyState, Queue
from kruise.runtime.controller.queue_state import QueueState
from kruise.runtime.controller.ratelimit import ItemBackoff
from kruise.runtime.errors import QueueClosed
from kruise.runtime.metrics import EXCEEDED, Metrics
from kruise.runtime.objects import Key
from kruise.runtime.testing import VirtualClock, run_virtual

A, B, C, D = (Key("default", name) for name in "abcd")


def backoff(base: float = 1.0) -> ItemBackoff:
    return ItemBackoff(random.Random(1), base=base, jitter=0.0)


def make(clock: VirtualClock, metrics: Metrics | None = None, **options: Any) -> Queue:
    options.setdefault("limiter", backoff())
    return Queue("demo-controller", clock=clock, metrics=metrics or Metrics(process=False), **options)


def virtual(body: Callable[[Queue, VirtualClock], Awaitable[None]], **options: Any) -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock, **options)
        try:
            await body(queue, clock)
        finally:
            queue.close()

    run_virtual(main)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(
        name, {"name": "demo-controller", "controller": "demo-controller", **labels}
    )


def test_que1_many_adds_before_processing_give_one_run() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        for _ in range(100):
            queue.add(A)
        assert await queue.get() == Item(A, 0)
        assert queue.get_nowait() is None
        queue.done(A)
        assert queue.get_nowait() is None and len(queue) == 0

    virtual(body)


def test_que1_a_key_is_never_with_two_workers_and_runs_again_after_done() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        await queue.get()
        queue.add(A)
        queue.add(A)
        assert queue.get_nowait() is None
        queue.done(A)
        assert (await queue.get()).key == A
        queue.done(A)
        assert queue.get_nowait() is None

    virtual(body)


def test_que1_done_of_a_key_that_does_not_run_is_ignored() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.done(A)
        queue.add(A)
        queue.done(A)
        assert (await queue.get()).key == A

    virtual(body)


def test_que1_a_key_added_again_while_it_runs_goes_behind_those_that_wait() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        await queue.get()
        queue.add(A)
        await clock.sleep(1)
        queue.add(B)
        await clock.sleep(1)
        queue.done(A)
        assert [(await queue.get()).key for _ in range(2)] == [B, A]

    virtual(body)


def test_que2_the_earliest_wish_wins_whatever_the_order() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A, after=10)
        queue.add(A, after=2)
        queue.add(A, after=7)
        await queue.get()
        assert clock.monotonic() == pytest.approx(2.0, abs=0.011)
        queue.done(A)
        assert len(queue) == 0

    virtual(body)


def test_que2_an_external_add_makes_a_delayed_key_immediate() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A, after=3600)
        queue.add(A)
        assert await queue.get() == Item(A, 0)
        assert clock.monotonic() == 0.0

    virtual(body)


def test_que2_one_timer_serves_the_whole_queue_and_never_fires_early() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        due = {Key("n", str(i)): 1 + i * 0.0037 for i in range(500)}
        for key in sorted(due, key=lambda k: hash(k.name) % 97):
            queue.add(key, after=due[key])
        assert len(loop.timers_left()) == 1  # type: ignore[attr-defined]
        order = []
        for _ in due:
            item = await queue.get()
            late = clock.monotonic() - due[item.key]
            assert 0 <= late <= 0.0101, f"{item.key} was handed out {late} s after it was due"
            order.append(due[item.key])
            queue.done(item.key)
        assert order == sorted(order)

    virtual(body)


def test_que2_an_earlier_wish_moves_the_timer_and_a_shorter_delay_of_another_key_too() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A, after=100)
        queue.add(B, after=1)
        assert (await queue.get()).key == B
        assert clock.monotonic() == pytest.approx(1, abs=0.011)
        assert (await queue.get()).key == A
        assert clock.monotonic() == pytest.approx(100, abs=0.011)

    virtual(body)


def test_que2_a_delay_that_was_asked_for_while_the_key_ran_holds_after_done() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        await queue.get()
        queue.add(A, after=30)
        queue.done(A)
        assert queue.get_nowait() is None
        await queue.get()
        assert clock.monotonic() == pytest.approx(30, abs=0.011)

    virtual(body)


def test_que2_dead_slots_do_not_pile_up() -> None:
    state = QueueState(backoff())
    for i in range(10_000):
        now = i * 0.001
        state.add(A, now, after=3600)
        state.add(A, now)
        assert state.pop(now) is not None
        state.done(A, now)
    assert len(state._delays) < 100 and len(state._heap) < 100
    assert len(state._aging) < 2000


def test_que3_min_ready_at_wins() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        await queue.get()
        queue.add_rate_limited(A)  # not before 1 s
        queue.add(A, after=0.5)  # an earlier wish does not cut the back-off
        queue.add(A, after=50)
        queue.done(A)
        await queue.get()
        assert clock.monotonic() == pytest.approx(1.0, abs=0.011)

    virtual(body)


def test_que3_ten_thousand_events_during_a_backoff_neither_skip_nor_lengthen_it() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        starts = []
        for _ in range(3):
            await queue.get()
            starts.append(clock.monotonic())
            queue.add(A)
            queue.add_rate_limited(A)
            queue.done(A)
            for _ in range(10_000):
                queue.add(A)
            assert queue.get_nowait() is None
            await clock.sleep(0.3)
            queue.add(A)
        await queue.get()
        starts.append(clock.monotonic())
        assert [b - a for a, b in itertools.pairwise(starts)] == pytest.approx([1, 2, 4], abs=0.011)
        assert len(queue._state._delays) < 200

    virtual(body)


def test_que3_failures_count_once_per_run() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        await queue.get()
        for _ in range(5):
            queue.add_rate_limited(A)
        queue.done(A)
        queue.add_rate_limited(A)
        assert queue.dump()[0].failures == 1
        await queue.get()
        assert clock.monotonic() == pytest.approx(1.0, abs=0.011)

    virtual(body)


def test_que3_a_failure_of_a_key_that_nobody_has_still_waits() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add_rate_limited(A, priority=7)
        queue.add(A)
        assert await queue.get() == Item(A, 7)
        assert clock.monotonic() == pytest.approx(1.0, abs=0.011)

    virtual(body)


def test_que4_a_reset_goes_back_to_the_first_step() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        seen: list[Key] = []
        queue.on_reset = seen.append
        queue.add(A)
        for _ in range(6):
            await queue.get()
            queue.add_rate_limited(A)
            queue.done(A)
        began = clock.monotonic()
        assert queue.dump()[0].next_run == pytest.approx(32.0, abs=0.011)
        queue.add(A)
        queue.reset(A)
        await queue.get()
        assert clock.monotonic() - began == pytest.approx(1.0, abs=0.011)
        queue.add_rate_limited(A)
        queue.done(A)
        assert queue.dump()[0].next_run == pytest.approx(2.0, abs=0.011)
        assert seen == [A]

    virtual(body)


def test_que4_a_reset_never_lengthens_and_creates_nothing() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.reset(A)
        assert len(queue) == 0
        queue.add(B, after=0.2)
        queue.reset(B)
        await queue.get()
        assert clock.monotonic() == pytest.approx(0.2, abs=0.011)
        queue.reset(B)  # the run that fails now is the first failure of the new object
        queue.add_rate_limited(B)
        queue.done(B)
        assert queue.dump()[0].failures == 1

    virtual(body)


def test_que5_forget_lets_the_next_failure_be_the_first() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        for _ in range(3):
            await queue.get()
            queue.add_rate_limited(A)
            queue.done(A)
        await queue.get()
        assert queue.dump()[0].failures == 3
        queue.forget(A)
        queue.add_rate_limited(A)
        queue.done(A)
        assert queue.dump()[0].failures == 1
        assert queue.dump()[0].next_run == pytest.approx(1.0)

    virtual(body)


def test_que6_close_drops_and_notifies_and_later_adds_do_nothing() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        outcomes: list[str] = []

        async def worker() -> None:
            try:
                await queue.get()
            except QueueClosed as error:
                outcomes.append(str(error))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(worker())
            await clock.sleep(1)
            queue.add(A, after=10)
            queue.close()
        assert len(outcomes) == 3 and "demo-controller" in outcomes[0]
        queue.add(B)
        queue.add_rate_limited(B)
        await queue.add_many([C])
        queue.reset(B)
        queue.close()
        assert len(queue) == 0 and queue.closed
        with pytest.raises(QueueClosed):
            await queue.get()

    virtual(body)


def test_que6_drain_waits_for_what_runs_and_drops_the_rest() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        queue.add(B)
        await queue.get()
        queue.add(A)  # dirty while it runs

        async def worker() -> None:
            await clock.sleep(5)
            queue.done(A)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker())
            assert await queue.drain(30) == ()
        assert clock.monotonic() == 5.0 and len(queue) == 0

    virtual(body)


def test_que6_drain_names_a_worker_that_hangs() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        for key in (A, B):
            queue.add(key)
            await queue.get()
        queue.done(B)
        assert await queue.drain(30) == (A,)
        assert clock.monotonic() == 30.0

    virtual(body)


def test_que6_drain_of_an_idle_queue_is_at_once() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        assert await queue.drain(30) == ()
        assert clock.monotonic() == 0.0

    virtual(body)


def test_que7_higher_priority_first_then_order_of_readiness() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A, priority=LOW)
        queue.add(B)
        queue.add(C, priority=50)
        queue.add(D)
        assert [await queue.get() for _ in range(4)] == [Item(C, 50), Item(B, 0), Item(D, 0), Item(A, LOW)]

    virtual(body)


def test_que7_the_maximum_wins_and_a_bumped_key_goes_to_the_tail_of_its_new_priority() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A, priority=LOW)
        await clock.sleep(1)
        queue.add(B)
        queue.add(C)
        await clock.sleep(1)
        queue.add(A, priority=0)
        queue.add(B, priority=LOW)  # never down again
        assert [await queue.get() for _ in range(3)] == [Item(B, 0), Item(C, 0), Item(A, 0)]

    virtual(body)


def test_que7_priority_survives_a_failed_run_and_a_delay() -> None:
    # c-r#3157: a retry lost its priority.
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A, priority=9)
        await queue.get()
        queue.add_rate_limited(A)
        queue.done(A)
        assert await queue.get() == Item(A, 9)
        queue.add_rate_limited(A, priority=20)
        queue.done(A)
        assert await queue.get() == Item(A, 20)
        queue.done(A)
        queue.add(B, after=5, priority=3)
        queue.add(B, after=9, priority=8)
        assert await queue.get() == Item(B, 8)

    virtual(body)


def test_que7_priority_of_adds_while_it_runs_is_their_maximum() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A, priority=70)
        await queue.get()
        queue.add(A, priority=LOW)
        queue.add(A, priority=5)
        queue.add(A, priority=LOW)
        queue.done(A)
        assert await queue.get() == Item(A, 5)

    virtual(body)


def test_que8_thirty_seconds_of_waiting_move_a_key_up_one_band() -> None:
    state = QueueState(backoff())
    state.add(A, 0.0, priority=LOW)
    served = []
    now = 0.0
    for i in range(400):
        # Somebody else always wants to run: without ageing, A would starve (c-r#3496).
        now = i * 0.1
        state.add(Key("busy", str(i)), now)
        popped = state.pop(now)
        assert popped is not None
        state.done(popped[0].key, now)
        served.append((now, popped[0]))
    when, item = next((at, item) for at, item in served if item.key == A)
    assert when == pytest.approx(30.0, abs=0.2)
    assert item.priority == LOW, "ageing must not promote the key for later runs"


def test_que8_under_overload_backlog_waits_no_longer_than_a_key_that_came_thirty_seconds_later() -> None:
    state = QueueState(backoff())
    state.add(A, 0.0, priority=LOW)
    arrived: dict[Key, float] = {}
    for i in range(5000):
        now = i * 0.1
        for n in range(3):  # three arrive for each one that is served
            key = Key("busy", f"{i}-{n}")
            arrived[key] = now
            state.add(key, now)
        popped = state.pop(now)
        assert popped is not None
        key = popped[0].key
        state.done(key, now)
        if key == A:
            break
        assert arrived[key] <= 30.2, f"{key} came {arrived[key]} s later and overtook the backlog"
    else:
        pytest.fail("the backlog starved")


def test_que10_add_many_lets_others_run_between_its_steps() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        seen: list[int] = []

        async def watcher() -> None:
            while len(queue) < 1000:
                seen.append(len(queue))
                await clock.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watcher())
            await queue.add_many((Key("n", str(i)) for i in range(1000)), priority=LOW, batch=100)
        assert set(seen) >= {100, 200, 500, 900}
        assert queue.stats().depth == {LOW: 1000}

    virtual(body)


def test_que10_adds_of_one_pass_wake_the_workers_once() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        got: list[Key] = []

        async def worker() -> None:
            while len(got) < 64:
                item = await queue.get()
                got.append(item.key)
                queue.done(item.key)

        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker())
            await clock.sleep(0)
            await clock.sleep(0)
            before = loop.steps  # type: ignore[attr-defined]
            for i in range(64):
                queue.add(Key("n", str(i)))
            await clock.sleep(0)
            await clock.sleep(0)
            await clock.sleep(0)
            assert len(got) == 64
            assert loop.steps - before < 10  # type: ignore[attr-defined]

    virtual(body)


def test_que10_two_workers_get_two_keys_and_a_cancelled_getter_loses_none() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        got: list[Key] = []

        async def worker() -> None:
            got.append((await queue.get()).key)

        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(worker())
            second = tasks.create_task(worker())
            third = tasks.create_task(worker())
            await clock.sleep(0)
            queue.add(A)
            await clock.sleep(0)  # the wake-up for A is under way to the first
            first.cancel()
            third.cancel()
            queue.add(B)
            await clock.sleep(1)
            assert first.cancelled() and third.cancelled() and second.done()
        assert got == [A]
        assert (await queue.get()).key == B

    virtual(body)


def test_que10_a_queue_filled_before_the_loop_runs_still_arms_its_timer() -> None:
    class Stopped:
        def __init__(self) -> None:
            self.at: VirtualClock | None = None

        def monotonic(self) -> float:
            return self.at.monotonic() if self.at else 0.0

    clock: Any = Stopped()
    queue = make(clock)
    queue.add(A, after=5)

    async def main(real: VirtualClock) -> None:
        clock.at = real
        assert (await queue.get()).key == A
        assert real.monotonic() == pytest.approx(5.0, abs=0.011)
        queue.close()

    run_virtual(main)


def test_que11_gauges_are_computed_when_they_are_scraped() -> None:
    metrics = Metrics(process=False)

    async def body(queue: Queue, clock: VirtualClock) -> None:
        assert sample(metrics, "workqueue_depth", priority="0") == 0
        queue.add(A)
        queue.add(A)
        queue.add(B, priority=LOW)
        queue.add(C, after=60)
        assert sample(metrics, "workqueue_depth", priority="0") == 1
        assert sample(metrics, "workqueue_depth", priority="-100") == 1
        assert sample(metrics, "workqueue_adds_total") == 3
        await queue.get()
        await clock.sleep(4)
        await queue.get()
        await clock.sleep(2)
        assert sample(metrics, "workqueue_depth", priority="0") == 0
        assert sample(metrics, "workqueue_unfinished_work_seconds") == 8
        assert sample(metrics, "workqueue_longest_running_processor_seconds") == 6
        assert sample(metrics, "workqueue_queue_duration_seconds_sum") == 4
        queue.add_rate_limited(A)
        queue.done(A)
        assert sample(metrics, "workqueue_retries_total") == 1
        assert sample(metrics, "workqueue_work_duration_seconds_sum") == 6
        assert not asyncio.all_tasks() - {asyncio.current_task()}, "no ticker"

    virtual(body, metrics=metrics)


def test_que11_the_priority_label_is_bounded() -> None:
    metrics = Metrics(process=False)

    async def body(queue: Queue, clock: VirtualClock) -> None:
        for i in range(40):
            queue.add(Key("n", str(i)), priority=i + 1)
        labels = {s.labels["priority"] for f in metrics.queue_depth.collect() for s in f.samples}
        assert len(labels) == 26 and EXCEEDED in labels
        assert sample(metrics, "workqueue_depth", priority=EXCEEDED) == 40 - 23

    virtual(body, metrics=metrics)


def test_que12_stats_and_dump_show_every_key() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.gate = lambda key: key == C
        queue.add(A)
        queue.add(C)
        await queue.get()
        queue.add_rate_limited(A)
        queue.add(B, priority=5, after=20)
        assert queue.get_nowait() is None
        await clock.sleep(3)
        queue.add(D)
        stats = queue.stats()
        assert (stats.ready, stats.delayed, stats.gated, stats.running) == (1, 1, 1, 1)
        assert (stats.adds, stats.retries, stats.oldest, stats.longest_run) == (5, 1, 3.0, 3.0)
        assert stats.depth == {0: 2} and not stats.closed
        dump = {info.key: info for info in queue.dump()}
        assert [info.state for info in queue.dump()] == [
            KeyState.RUNNING,
            KeyState.READY,
            KeyState.GATED,
            KeyState.DELAYED,
        ]
        assert dump[A].failures == 1 and dump[A].age == 3.0
        assert dump[B].next_run == pytest.approx(17.0) and dump[B].priority == 5
        assert dump[C].next_run is None and dump[C].age == 3.0

    virtual(body)


def test_que13_a_gated_key_is_neither_ready_nor_lost_and_wakes_without_backoff() -> None:
    metrics = Metrics(process=False)

    async def body(queue: Queue, clock: VirtualClock) -> None:
        blocked = {A}
        queue.gate = blocked.__contains__
        queue.add(A)
        queue.add(B)
        assert (await queue.get()).key == B
        queue.done(B)
        assert queue.get_nowait() is None
        assert sample(metrics, "workqueue_depth", priority="0") == 1
        queue.add(A)  # an event does not let it through
        queue.ungate(B)
        assert queue.get_nowait() is None
        await clock.sleep(7)
        queue.add(C)
        blocked.clear()
        queue.ungate(A)
        assert (await queue.get()).key == A, "it keeps its place"
        assert clock.monotonic() == 7.0
        assert queue.dump()[0].failures == 0

    virtual(body, metrics=metrics)


def test_que13_ungate_wakes_a_sleeping_worker_and_only_for_that_key() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        blocked = {Key("n", str(i)) for i in range(10_000)}
        asked = 0

        def gate(key: Key) -> bool:
            nonlocal asked
            asked += 1
            return key in blocked

        queue.gate = gate
        for key in sorted(blocked):
            queue.add(key)
        got: list[Item] = []

        async def worker() -> None:
            got.append(await queue.get())

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker())
            await clock.sleep(1)
            assert asked == 10_000 and queue.stats().gated == 10_000
            await clock.sleep(600)
            assert asked == 10_000, "waiting owners cost nothing"
            blocked.discard(Key("n", "77"))
            queue.ungate(Key("n", "77"))
        assert got == [Item(Key("n", "77"), 0)] and asked == 10_001

    virtual(body)


def test_que13_a_gated_key_can_be_gated_again_and_raised() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        blocked = {A}
        queue.gate = blocked.__contains__
        queue.add(A, priority=LOW)
        assert queue.get_nowait() is None
        queue.ungate(A)
        assert queue.get_nowait() is None and queue.stats().gated == 1
        queue.add(A, priority=10)
        blocked.clear()
        queue.ungate(A)
        assert await queue.get() == Item(A, 10)

    virtual(body)


def test_que14_events_just_after_a_run_make_one_run_and_the_first_after_a_pause_goes_at_once() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        runs: list[float] = []

        async def run(seconds: float = 0.0) -> None:
            assert (await queue.get()).key == A
            runs.append(clock.monotonic())
            await clock.sleep(seconds)
            queue.done(A)

        queue.add(A)
        await run()
        for _ in range(5):
            await clock.sleep(0.01)
            queue.add(A)
        queue.add(B)
        assert queue.get_nowait() == Item(B, 0), "another key waits for nothing"
        await run()
        await clock.sleep(0.2)
        queue.add(A)
        await run()
        assert runs == pytest.approx([0.0, 0.1, 0.3])

    virtual(body, batch_period=0.1)


def test_que14_events_during_a_run_wait_from_its_end_and_who_names_a_time_gets_it() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        await queue.get()
        queue.add(A)
        await clock.sleep(3)
        queue.done(A)
        assert queue.get_nowait() is None
        assert (await queue.get()).key == A and clock.monotonic() == pytest.approx(4.0)
        queue.add(A)
        queue.add(A, after=0.25)
        queue.done(A)
        assert (await queue.get()).key == A and clock.monotonic() == pytest.approx(4.25)
        queue.done(A)
        queue.add(A)
        queue.add(A, after=0.5)
        assert (await queue.get()).key == A and clock.monotonic() == pytest.approx(4.75)
        queue.done(A)

    virtual(body, batch_period=1.0)


def test_que14_a_failed_run_waits_for_the_longer_of_back_off_and_period_and_nothing_is_kept_of_old_runs() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        queue.add(A)
        await queue.get()
        queue.add_rate_limited(A)
        queue.done(A)
        assert (await queue.get()).key == A and clock.monotonic() == pytest.approx(2.0)
        queue.done(A)
        state = queue._state
        for number in range(1000):
            await clock.sleep(0.1)
            queue.add(Key("n", str(number)))
            queue.done((await queue.get()).key)
        assert len(state._ended) <= 11, "only the runs of the last period are remembered"
        assert len(queue) == 0

    virtual(body, batch_period=1.0, limiter=backoff(2.0))


def test_que14_a_negative_period_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_period"):
        virtual(_nothing, batch_period=-1.0)


async def _nothing(_queue: Queue, _clock: VirtualClock) -> None: ...
