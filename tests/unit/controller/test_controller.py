"""The life of a controller: workers, sources, leadership, stops."""

from __future__ import annotations

import asyncio
import random

import pytest
import structlog

from kruise.runtime.controller import (
    After,
    Channel,
    Controller,
    Done,
    Func,
    Needs,
    Queue,
    Result,
    only_waiting,
)
from kruise.runtime.errors import Timeout
from kruise.runtime.objects import Key
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.unit.controller.controller_world import NAME, A, B, C, World, play


async def done(world: World, key: Key) -> Result:
    return Done()


def test_ctl1_concurrency_is_bounded_and_shown() -> None:
    peak = running = 0

    async def slow(world: World, key: Key) -> Result:
        nonlocal peak, running
        running += 1
        peak = max(peak, running)
        assert world.value("controller_runtime_active_workers") == running
        await world.clock.sleep(1)
        running -= 1
        return Done()

    async def script(world: World) -> None:
        assert world.value("controller_runtime_max_concurrent_reconciles") == 3
        assert world.value("controller_runtime_active_workers") == 0
        for i in range(12):
            world.channel.send(Key("n", str(i)))
        await world.clock.sleep(4.5)
        assert world.result("success") == 12

    world = play(slow, script)
    assert peak == 3
    assert world.value("controller_runtime_active_workers") == 0


def test_ctl1_a_reconcile_that_only_waits_lends_its_place_within_bounds() -> None:
    deciding = waiting = 0
    peaks = [0, 0]

    async def patient(world: World, key: Key) -> Result:
        nonlocal deciding, waiting
        deciding += 1
        peaks[0] = max(peaks[0], deciding)
        await world.clock.sleep(0.01)
        deciding -= 1
        only_waiting()
        only_waiting()
        waiting += 1
        peaks[1] = max(peaks[1], waiting)
        assert world.controller.healthy()
        await world.clock.sleep(10)
        waiting -= 1
        return Done()

    async def script(world: World) -> None:
        for i in range(200):
            world.channel.send(Key("n", str(i)))
        await world.clock.sleep(5)
        assert world.value("controller_runtime_active_workers") <= 3
        await world.clock.sleep(100)
        assert world.result("success") == 200
        assert world.value("controller_runtime_active_workers") == 0
        assert world.controller.healthy()
        assert len(world.controller._working) == 3

    play(patient, script)
    assert peaks[0] == 3, "no more than the workers decide"
    assert peaks[1] == 64 + 3, "and no more than the write window holds wait, beside them"
    only_waiting()  # outside of a reconcile nothing happens


def test_ctl1_no_workers_or_no_time_is_refused() -> None:
    async def main(clock: VirtualClock) -> None:
        for bad in ({"workers": 0}, {"timeout": 0.0}):
            with pytest.raises(ValueError, match=NAME):
                World(clock, lambda key: done(None, key), **bad)  # type: ignore[arg-type]

    run_virtual(main)


def test_ctl8_a_controller_that_is_cancelled_leaves_no_timer_of_its_queue_behind() -> None:
    """A leader that loses its lease ends by cancellation; its queue may wait for a time of days."""

    async def main(clock: VirtualClock) -> None:
        async def later(key: Key) -> Result:
            return After(100_000.0)

        world = World(clock, later)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(world.controller.run())
            world.channel.send(A)
            await clock.sleep(1)
            running.cancel()
        assert not asyncio.get_running_loop().timers_left()  # type: ignore[attr-defined]

    run_virtual(main)


def test_ctl6_two_controllers_with_one_name_are_refused_per_manager() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, lambda key: done(None, key))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=NAME):
            Controller(
                NAME, world.controller._reconcile, world.queue, clock=clock, rng=random.Random(1), metrics=world.metrics
            )
        World(clock, lambda key: done(None, key))  # type: ignore[arg-type] # another manager has its own names

    run_virtual(main)


def test_ctl7_every_result_exists_with_zero_at_the_start() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, lambda key: done(None, key))  # type: ignore[arg-type]
        for result in ("error", "requeue", "requeue_after", "success"):
            assert world.result(result) == 0
        for name in (
            "reconcile_errors_total",
            "terminal_reconcile_errors_total",
            "reconcile_panics_total",
            "reconcile_timeouts_total",
        ):
            assert world.value(f"controller_runtime_{name}") == 0
        assert world.value("controller_runtime_reconcile_time_seconds_count") == 0

    run_virtual(main)


def test_ctl8_a_standby_fills_its_queue_and_takes_over_at_once() -> None:
    async def main(clock: VirtualClock) -> None:
        runs: list[float] = []

        async def reconcile(key: Key) -> Result:
            runs.append(clock.monotonic())
            return Done()

        world = World(clock, reconcile)
        async with asyncio.TaskGroup() as tasks:
            warm = tasks.create_task(world.controller.warm())
            for _ in range(5):
                for i in range(1000):
                    world.channel.send(Key("n", str(i)))
                await clock.sleep(60)
            assert not runs and world.queue.stats().ready == 1000, "coalesced, bounded by keys"
            assert world.controller.synced and world.controller.not_ready is None
            began = clock.monotonic()
            leading = tasks.create_task(world.controller.run())
            await clock.sleep(0.5)
            assert len(runs) == 1000 and runs[0] - began < 1.0
            assert world.controller.took_over == pytest.approx(0.0)
            assert world.metrics.registry.get_sample_value("kruise_leader_takeover_seconds", {"name": NAME}) == 0
            leading.cancel()
            warm.cancel()
        world.queue.close()

    run_virtual(main)


def test_ctl8_sources_cannot_be_started_twice() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, lambda key: done(None, key))  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as tasks:
            warm = tasks.create_task(world.controller.warm())
            await clock.sleep(1)
            with pytest.raises(RuntimeError, match="run already"):
                await world.controller.warm()
            warm.cancel()
        world.queue.close()

    run_virtual(main)


def test_ctl9_controllers_need_leadership_unless_said_otherwise() -> None:
    async def main(clock: VirtualClock) -> None:
        assert World(clock, lambda key: done(None, key)).controller.needs is Needs.LEADER  # type: ignore[arg-type]
        world = World(clock, lambda key: done(None, key), needs=Needs.ALWAYS)  # type: ignore[arg-type]
        assert world.controller.needs is Needs.ALWAYS

    run_virtual(main)


class Stuck:
    """A source whose kind does not exist yet."""

    name = "for foos"

    def __init__(self) -> None:
        self.ready = asyncio.Event()

    async def start(self, queue: Queue) -> None:
        await self.ready.wait()
        queue.add(A)

    async def synced(self) -> None:
        await self.ready.wait()

    def pending(self) -> str | None:
        return None if self.ready.is_set() else "foos.example.com: no such resource"


def test_ctl10_a_controller_that_cannot_sync_waits_says_why_and_stops_nobody() -> None:
    async def main(clock: VirtualClock) -> None:
        stuck = Stuck()
        good = World(clock, lambda key: done(None, key))  # type: ignore[arg-type]
        bad = World(clock, lambda key: done(None, key), sources=[stuck])  # type: ignore[arg-type]
        assert bad.controller.not_ready == "its sources are not started"
        with structlog.testing.capture_logs() as lines:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(w.controller.run()) for w in (good, bad)]
                good.channel.send(B)
                await clock.sleep(250)
                assert good.result("success") == 1 and good.controller.not_ready is None
                assert bad.controller.not_ready == "foos.example.com: no such resource"
                assert not bad.controller.synced and bad.controller.healthy()
                assert bad.result("success") == 0
                stuck.ready.set()
                await clock.sleep(1)
                assert bad.controller.not_ready is None and bad.result("success") == 1
                for task in running:
                    task.cancel()
        waits = [line for line in lines if line["event"] == "a controller waits for its sources"]
        assert len(waits) == 2 and "no such resource" in waits[0]["waiting"]
        for world in (good, bad):
            world.queue.close()

    run_virtual(main)


def test_ctl10_a_source_that_fails_is_started_again_and_reported() -> None:
    tries: list[float] = []

    async def main(clock: VirtualClock) -> None:
        async def flaky(queue: Queue) -> None:
            tries.append(clock.monotonic())
            if len(tries) < 3:
                raise Timeout("the stream broke")
            queue.add(A)

        world = World(clock, lambda key: done(None, key), sources=[Func(flaky, "stream")])  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(world.controller.run())
            await clock.sleep(0.5)
            assert world.controller.not_ready == "stream failed: Timeout: the stream broke"
            await clock.sleep(10)
            assert world.controller.not_ready is None and world.result("success") == 1
            running.cancel()
        world.queue.close()
        assert 1 <= tries[1] - tries[0] <= 2 and 2 <= tries[2] - tries[1] <= 4

    run_virtual(main)


def test_src1_a_source_can_be_added_while_the_controller_runs() -> None:
    async def script(world: World) -> None:
        late = Channel("late")
        late.send(C)
        await world.clock.sleep(1)
        world.controller.watch(late)
        await world.clock.sleep(1)
        assert world.result("success") == 1
        late.send(C)
        await world.clock.sleep(1)
        assert world.result("success") == 2

    play(done, script)


def test_ctl8_stop_lets_the_reconcile_under_way_end_and_hands_out_nothing_more() -> None:
    async def main(clock: VirtualClock) -> None:
        ended: list[Key] = []

        async def slow(key: Key) -> Result:
            await clock.sleep(10)
            ended.append(key)
            return Done()

        world = World(clock, slow, workers=1)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(world.controller.run())
            world.channel.send(A)
            world.channel.send(B)
            await clock.sleep(1)
            world.controller.stop()
            await clock.sleep(5)
            assert not running.done() and world.controller.healthy()
            await running
        assert clock.monotonic() == pytest.approx(10) and ended == [A]
        assert world.controller.healthy()

    run_virtual(main)


def test_ctl8_stop_while_the_sources_still_sync_ends_at_once() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, lambda key: done(None, key), sources=[Stuck()])  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.controller.run())
            await clock.sleep(1)
            world.controller.stop()
        assert clock.monotonic() == 1.0 and world.controller.took_over is None

    run_virtual(main)


def test_ctl1_a_long_queue_of_reconciles_that_never_await_lets_others_run() -> None:
    async def script(world: World) -> None:
        await world.clock.sleep(1)
        for i in range(5000):
            world.channel.send(Key("n", str(i)))
        turns = 0
        while len(world.queue):
            turns += 1
            await world.clock.sleep(0)
        assert turns > 1000

    play(done, script)
