"""What users of client-go's work queue rely on, as scenarios."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from kruise.runtime.controller.queue import Queue
from kruise.runtime.controller.ratelimit import ItemBackoff
from kruise.runtime.errors import QueueClosed
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key
from kruise.runtime.testing import VirtualClock, run_virtual

FOO, BAR, BAZ = (Key("", name) for name in ("foo", "bar", "baz"))


def make(clock: VirtualClock, base: float = 0.001) -> Queue:
    limiter = ItemBackoff(random.Random(3), base=base, cap=1000.0, jitter=0.0)
    return Queue("contract", clock=clock, metrics=Metrics(process=False), limiter=limiter)


@pytest.mark.parametrize("seed", range(8))
def test_que1_many_producers_and_consumers_process_everything_and_nothing_twice_at_once(seed: int) -> None:
    async def main(clock: VirtualClock) -> Counter[Key]:
        queue = make(clock)
        runs: Counter[Key] = Counter()
        held: set[Key] = set()

        async def producer(number: int) -> None:
            for i in range(50):
                queue.add(Key("", str(i)))
                if i % 7 == number % 7:
                    await clock.sleep(0.001 * number)

        async def consumer() -> None:
            while True:
                try:
                    item = await queue.get()
                except QueueClosed:
                    return
                assert item.key not in held, "two workers have one key"
                held.add(item.key)
                await clock.sleep(0.003)
                runs[item.key] += 1
                held.discard(item.key)
                queue.done(item.key)

        async with asyncio.TaskGroup() as consumers:
            for _ in range(10):
                consumers.create_task(consumer())
            async with asyncio.TaskGroup() as producers:
                for number in range(50):
                    producers.create_task(producer(number))
            while len(queue):
                await clock.sleep(0.01)
            queue.close()
        return runs

    runs = run_virtual(main, seed=seed, pick="random")
    assert set(runs) == {Key("", str(i)) for i in range(50)}
    assert sum(runs.values()) < 2500, "adds of a waiting key are one run"


def test_que1_add_while_processing_and_done_later() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FOO)
        assert (await queue.get()).key == FOO
        queue.add(BAR)
        assert (await queue.get()).key == BAR
        queue.add(BAR)
        queue.add(BAZ)
        queue.done(BAR)
        queue.done(FOO)
        assert [(await queue.get()).key for _ in range(2)] == [BAZ, BAR]
        queue.close()

    run_virtual(main)


def test_que1_reinsert_while_processing_runs_once_more_only() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FOO)
        for _ in range(2):
            item = await queue.get()
            queue.add(item.key)
            queue.done(item.key)
        item = await queue.get()
        queue.done(item.key)
        assert len(queue) == 0
        queue.close()

    run_virtual(main)


def test_que1_order_of_adds_is_the_order_of_runs() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        keys = [Key("", str(i)) for i in range(1000)]
        for key in keys:
            queue.add(key)
        assert [(await queue.get()).key for _ in keys] == keys
        queue.close()

    run_virtual(main)


def test_que6_a_consumer_that_finishes_during_a_drain_ends_it() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FOO)
        queue.add(BAR)
        await queue.get()
        await queue.get()

        async def finish() -> None:
            await clock.sleep(1)
            queue.done(FOO)
            await clock.sleep(1)
            queue.done(BAR)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(finish())
            assert await queue.drain(60) == ()
        assert clock.monotonic() == 2.0

    run_virtual(main)


def test_que6_two_drains_at_once_both_end_and_a_close_in_between_harms_neither() -> None:
    # c-r#3538: a shutdown that waited for itself.
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FOO)
        await queue.get()
        ended: list[float] = []

        async def drain() -> None:
            await queue.drain(60)
            ended.append(clock.monotonic())

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drain())
            tasks.create_task(drain())
            await clock.sleep(1)
            queue.close()
            await clock.sleep(1)
            queue.done(FOO)
        assert ended == [2.0, 2.0]

    run_virtual(main)


def test_que6_a_dirty_key_is_dropped_by_a_drain() -> None:
    # client-go hands it out once more. Here the next leader's first list finds it, and a stop stays a stop.
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add(FOO)
        await queue.get()
        queue.add(FOO)
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(queue.drain(60))
            await clock.sleep(0)
            queue.done(FOO)
        assert drained.result() == () and len(queue) == 0
        with pytest.raises(QueueClosed):
            await queue.get()

    run_virtual(main)


def test_que1_a_key_that_is_only_known_to_a_worker_leaves_no_trace_after_done() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        for i in range(1000):
            queue.add(Key("", str(i)))
            item = await queue.get()
            queue.forget(item.key)
            queue.done(item.key)
        assert len(queue) == 0
        assert len(queue._state._heap) < 100
        queue.close()

    run_virtual(main)
