from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kruise.runtime.cache.store import Change
from kruise.runtime.controller import (
    LOW,
    Channel,
    EnqueueSelf,
    Func,
    GenerationChanged,
    Interval,
    Kind,
    Queue,
    Source,
    default_limiter,
)
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, ObjectMeta
from kruise.runtime.testing import VirtualClock, run_virtual

A, B = Key("n", "a"), Key("n", "b")


class FakeInformer:
    """Replays what it holds to a new handler, as the real one does, when it is told to be synced."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.handlers: list[Callable[[Change[Any]], None]] = []
        self.ready = asyncio.Event()
        self.removed = 0
        self.resync: float | None = None

    def add_handler(self, handler: Any, *, resync: float | None = None, name: str = "") -> FakeRegistration:
        self.handlers.append(handler)
        self.resync = resync
        return FakeRegistration(self, handler)

    def describe(self) -> str:
        return "pods: not synced, page 3"

    def tell(self, change: Change[Any]) -> None:
        for handler in self.handlers:
            handler(change)


class FakeRegistration:
    def __init__(self, informer: FakeInformer, handler: Any) -> None:
        self.informer = informer
        self.handler = handler

    async def synced(self) -> None:
        await self.informer.ready.wait()
        for obj in self.informer.objects.values():
            self.handler(Change(None, obj, initial=True))

    async def remove(self) -> None:
        self.informer.handlers.remove(self.handler)
        self.informer.removed += 1


def obj(key: Key, version: str = "1", generation: int = 1) -> Object:
    return Object(
        metadata=ObjectMeta(namespace=key.namespace, name=key.name, resource_version=version, generation=generation)
    )


def virtual(body: Callable[[Queue, VirtualClock], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        limiter = default_limiter(random.Random(1))
        queue = Queue("demo", clock=clock, metrics=Metrics(process=False), limiter=limiter)
        try:
            await body(queue, clock)
        finally:
            queue.close()

    run_virtual(main)


async def started(tasks: asyncio.TaskGroup, source: Source, queue: Queue) -> asyncio.Task[None]:
    task = tasks.create_task(source.start(queue))
    await asyncio.sleep(0)
    return task


def test_src1_kind_fills_the_queue_and_is_synced_when_the_first_list_is_in_it() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        informer = FakeInformer()
        informer.objects = {A: obj(A), B: obj(B)}
        source = Kind(
            informer, EnqueueSelf(), name="pods", controller="demo", metrics=Metrics(process=False), resync=60.0
        )
        async with asyncio.TaskGroup() as tasks:
            task = await started(tasks, source, queue)
            waiting = tasks.create_task(source.synced())
            await clock.sleep(5)
            assert not waiting.done() and len(queue) == 0 and informer.resync == 60.0
            assert source.pending() == "pods: not synced, page 3"
            informer.ready.set()
            await waiting
            assert queue.stats().depth == {LOW: 2} and source.pending() is None
            informer.tell(Change(obj(A), obj(A, "2")))
            assert queue.stats().depth == {LOW: 1, 0: 1}
            task.cancel()
        assert informer.removed == 1 and not informer.handlers

    virtual(body)


def test_src1_predicates_are_asked_in_order_before_the_handler() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        informer = FakeInformer()
        informer.ready.set()
        source = Kind(
            informer, EnqueueSelf(), [GenerationChanged()], name="x", controller="demo", metrics=Metrics(process=False)
        )
        async with asyncio.TaskGroup() as tasks:
            task = await started(tasks, source, queue)
            informer.tell(Change(obj(A), obj(A, "2")))
            assert len(queue) == 0
            informer.tell(Change(obj(A, "2"), obj(A, "3", 2)))
            assert len(queue) == 1
            task.cancel()

    virtual(body)


def test_han2_an_exception_is_counted_and_costs_one_change() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        metrics = Metrics(process=False)
        informer = FakeInformer()
        informer.ready.set()

        def handler(change: Change[Any], queue: Queue) -> None:
            if change.key == A:
                raise KeyError("a bug of the mapper")
            queue.add(change.key)

        source = Kind(informer, handler, name="pods", controller="demo", metrics=metrics)
        async with asyncio.TaskGroup() as tasks:
            task = await started(tasks, source, queue)
            informer.tell(Change(None, obj(A)))
            informer.tell(Change(None, obj(B)))
            task.cancel()
        assert (await queue.get()).key == B
        panics = metrics.registry.get_sample_value("controller_runtime_reconcile_panics_total", {"controller": "demo"})
        assert panics == 1

    virtual(body)


def test_src1_channel_buffers_each_key_once_until_it_is_started() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        channel = Channel()
        for _ in range(1000):
            channel.send(A)
            channel.send(B, priority=LOW)
        channel.send(B, priority=5)
        assert channel.pending() == "channel: not started"
        async with asyncio.TaskGroup() as tasks:
            task = await started(tasks, channel, queue)
            await channel.synced()
            assert channel.pending() is None and queue.stats().depth == {0: 1, 5: 1}
            channel.send(Key("n", "c"))
            assert len(queue) == 3
            task.cancel()
        channel.send(A)
        assert len(queue) == 3 and channel._buffer == {A: 0}

    virtual(body)


def test_src1_interval_adds_at_the_start_and_each_period() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        calls: list[float] = []

        def keys() -> list[Key]:
            calls.append(clock.monotonic())
            return [A]

        source = Interval(10, keys, clock=clock, rng=random.Random(1), jitter=0.1, priority=3)
        assert source.pending() is not None
        async with asyncio.TaskGroup() as tasks:
            task = await started(tasks, source, queue)
            await source.synced()
            assert source.pending() is None and queue.stats().depth == {3: 1}
            await clock.sleep(35)
            task.cancel()
        assert len(calls) == 4 and calls[0] == 0
        assert all(10 <= b - a <= 11 for a, b in itertools.pairwise(calls))
        with pytest.raises(ValueError, match="more than 0"):
            Interval(0, keys, clock=clock, rng=random.Random(1))

    virtual(body)


def test_src1_func_runs_once_and_may_end() -> None:
    async def body(queue: Queue, clock: VirtualClock) -> None:
        async def fill(queue: Queue) -> None:
            await clock.sleep(1)
            queue.add(A)

        source = Func(fill)
        assert source.pending() == "func: not started"
        async with asyncio.TaskGroup() as tasks:
            task = await started(tasks, source, queue)
            await source.synced()
            assert source.pending() is None
            await task
        assert (await queue.get()).key == A

    virtual(body)
