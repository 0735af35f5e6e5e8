from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from kruise.runtime.controller import (
    LOW,
    After,
    Channel,
    Controller,
    Done,
    Func,
    ItemBackoff,
    Needs,
    Queue,
    Result,
    current,
    only_waiting,
    record_write,
)
from kruise.runtime.errors import Conflict, Status, TerminalError, Timeout, Unavailable
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, Resource
from kruise.runtime.testing import VirtualClock, run_virtual

A, B, C = (Key("n", name) for name in "abc")
NAME = "demo-controller"
JOBS = Resource("apps.kruise.io", "v1beta1", "BroadcastJob", "broadcastjobs", Object)


class Tracker:
    """A gate that the test opens and closes."""

    def __init__(self) -> None:
        self.on_ready: Callable[[Key], None] | None = None
        self.shut: set[Key] = set()
        self.late: set[Key] = set()
        self.writes: list[tuple[Key, Any]] = []
        self.forgotten: list[Key] = []
        self.closed = False

    def blocked(self, owner: Key) -> bool:
        return owner in self.shut

    def expired(self, owner: Key) -> bool:
        return owner in self.late

    def wrote(self, owner: Key, write: Any) -> None:
        self.writes.append((owner, write))
        self.shut.add(owner)

    def seen(self, owner: Key) -> None:
        self.shut.discard(owner)
        assert self.on_ready is not None
        self.on_ready(owner)

    def forget(self, owner: Key) -> None:
        self.forgotten.append(owner)
        self.shut.discard(owner)

    def close(self) -> None:
        self.closed = True


class World:
    """A controller on the virtual clock, and what one asks of it."""

    def __init__(self, clock: VirtualClock, reconcile: Callable[[Key], Awaitable[Any]], **options: Any) -> None:
        self.clock = clock
        self.metrics = Metrics(process=False)
        limiter = ItemBackoff(random.Random(1), base=1.0, jitter=0.0)
        self.queue = Queue(NAME, clock=clock, metrics=self.metrics, limiter=limiter)
        self.channel = Channel()
        self.sources: list[Any] = options.pop("sources", [self.channel])
        self.controller = Controller(
            NAME,
            reconcile,
            self.queue,
            self.sources,
            clock=clock,
            rng=random.Random(7),
            metrics=self.metrics,
            **options,
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"controller": NAME, **labels})

    def result(self, name: str) -> float | None:
        return self.value("controller_runtime_reconcile_total", result=name)


def play(
    reconcile: Callable[[World, Key], Awaitable[Any]],
    script: Callable[[World], Awaitable[None]],
    **options: Any,
) -> World:
    """Run a controller with *reconcile* while *script* runs, then stop it."""

    async def main(clock: VirtualClock) -> World:
        world: World

        async def once(key: Key) -> Any:
            return await reconcile(world, key)

        world = World(clock, once, **options)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(world.controller.run())
            await script(world)
            running.cancel()
        world.queue.close()
        return world

    return run_virtual(main)


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


def test_ctl2_its_own_timeout_is_counted_and_backs_off() -> None:
    runs: list[float] = []

    async def hang(world: World, key: Key) -> Result:
        runs.append(world.clock.monotonic())
        if len(runs) == 1:
            await world.clock.sleep(10_000)
        return Done()

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(400)
        assert runs == pytest.approx([0, 301], abs=0.02)
        assert world.value("controller_runtime_reconcile_timeouts_total") == 1
        assert world.value("controller_runtime_reconcile_panics_total") == 0
        assert world.result("error") == 1 and world.result("success") == 1

    play(hang, script)


def test_ctl2_a_cancellation_is_no_timeout_and_no_failure() -> None:
    async def hang(world: World, key: Key) -> Result:
        await world.clock.sleep(10_000)
        return Done()

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(1)

    world = play(hang, script)
    for name in ("reconcile_timeouts_total", "reconcile_errors_total", "reconcile_panics_total"):
        assert world.value(f"controller_runtime_{name}") == 0
    assert len(world.queue) == 0


def test_ctl2_a_cancellation_is_not_lost_in_a_task_group_whose_child_fails_meanwhile() -> None:
    """Python 3.11 and 3.12 raise the child's error and forget the cancellation: the worker would live for ever."""

    async def fragile(world: World, key: Key) -> Result:
        async def child() -> None:
            try:
                await world.clock.sleep(10_000)
            finally:
                raise Unavailable(Status(503))  # as a write does that is fenced off when the lease is lost

        async with asyncio.TaskGroup() as group:
            group.create_task(child())
        return Done()

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(1)
        for task in world.controller._working:
            task.cancel()
        await world.clock.sleep(1)
        assert all(task.done() for task in world.controller._working)

    play(fragile, script)


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


def test_ctl2_a_timeout_of_the_reconcile_itself_is_an_ordinary_error() -> None:
    async def impatient(world: World, key: Key) -> Result:
        async with asyncio.timeout(1):
            await world.clock.sleep(5)
        return Done()

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(1.5)
        assert world.result("error") == 1
        assert world.value("controller_runtime_reconcile_timeouts_total") == 0
        assert world.value("controller_runtime_reconcile_panics_total") == 0

    play(impatient, script)


@pytest.mark.parametrize(
    ("error", "panics"),
    [
        (Conflict(Status(409)), 0),
        (Timeout("no answer"), 0),
        (ExceptionGroup("writes", [Conflict(Status(409)), Timeout("t")]), 0),
        (ExceptionGroup("writes", [Conflict(Status(409)), KeyError("x")]), 1),
        (KeyError("spec"), 1),
        (ZeroDivisionError(), 1),
    ],
)
def test_ctl3_every_exception_backs_off_and_unexpected_ones_are_panics(error: Exception, panics: int) -> None:
    runs: list[float] = []

    async def fail(world: World, key: Key) -> Result:
        if key == B:
            return Done()
        runs.append(world.clock.monotonic())
        raise error

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(3.5)
        world.channel.send(B)
        await world.clock.sleep(0.2)
        assert runs == pytest.approx([0, 1, 3], abs=0.03)
        assert world.value("controller_runtime_reconcile_panics_total") == 3 * panics
        assert world.value("controller_runtime_reconcile_errors_total") == 3
        assert world.result("error") == 3
        assert world.result("success") == 1, "the workers live on"
        assert world.controller.healthy()

    play(fail, script, workers=1)


def test_ctl3_a_base_exception_is_raised() -> None:
    class Crash(BaseException):
        pass

    async def crash(world: World, key: Key) -> Result:
        raise Crash

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(10)

    with pytest.raises(BaseExceptionGroup) as caught:
        play(crash, script)
    assert caught.group_contains(Crash)


def test_ctl4_done_and_after_are_the_results() -> None:
    runs: list[float] = []

    async def twice(world: World, key: Key) -> Result:
        runs.append(world.clock.monotonic())
        return After(30) if len(runs) == 1 else Done()

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(100)
        assert runs == pytest.approx([0, 30], abs=0.02)
        assert world.result("requeue_after") == 1 and world.result("success") == 1

    play(twice, script)


def test_ctl4_after_can_change_the_priority_and_else_keeps_it() -> None:
    seen: list[int] = []

    async def look(world: World, key: Key) -> Result:
        seen.append(world.queue.dump()[0].priority)
        return [After(1), After(1, priority=40), Done()][len(seen) - 1]

    async def script(world: World) -> None:
        world.channel.send(A, priority=LOW)
        await world.clock.sleep(100)

    play(look, script)
    assert seen == [LOW, LOW, 40]


def test_ctl4_a_result_that_is_always_due_cannot_spin() -> None:
    runs: list[float] = []

    async def eager(world: World, key: Key) -> Result:
        runs.append(world.clock.monotonic())
        return After(-1)

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(10)
        assert runs == pytest.approx([0, 1, 3, 7], abs=0.05)
        assert world.result("requeue") == 4 and world.result("error") == 0

    play(eager, script)
    with pytest.raises(ValueError, match="finite"):
        After(float("nan"))


def test_ctl4_any_other_result_is_a_panic_that_names_it() -> None:
    async def wrong(world: World, key: Key) -> Any:
        return None

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(0.5)
        assert world.value("controller_runtime_reconcile_panics_total") == 1

    play(wrong, script)


def test_rat3_success_and_after_forget_the_failures_and_an_error_keeps_them() -> None:
    runs: list[float] = []
    outcomes: list[Any] = [Timeout("x"), Timeout("x"), After(100), Timeout("x"), Done(), Timeout("x"), Done()]

    async def follow(world: World, key: Key) -> Any:
        runs.append(world.clock.monotonic())
        outcome = outcomes[len(runs) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(200)
        world.channel.send(A)
        await world.clock.sleep(10)
        # 1 s, 2 s, After(100), 1 s again, done; then 1 s again.
        assert runs == pytest.approx([0, 1, 3, 103, 104, 200, 201], abs=0.1)

    play(follow, script)


def test_que5_success_after_failures_leaves_no_trace_of_the_key() -> None:
    tries = 0

    async def third_time(world: World, key: Key) -> Result:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Timeout("x")
        return Done()

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(10)
        assert len(world.queue) == 0 and len(world.queue._state._limiter) == 0  # type: ignore[arg-type]

    play(third_time, script)


def test_ctl5_a_terminal_error_is_told_once_and_not_retried_before_the_object_changes() -> None:
    runs = 0
    told: list[tuple[Key, str, str]] = []

    async def malformed(world: World, key: Key) -> Result:
        nonlocal runs
        runs += 1
        try:
            int("x")
        except ValueError as cause:
            raise TerminalError("spec.parallelism: 'x' is no number") from cause
        return Done()

    async def tell(key: Key, error: TerminalError) -> None:
        told.append((key, str(error), repr(error.__cause__)))

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(3600)
        assert runs == 1 and len(told) == 1 and "ValueError" in told[0][2]
        world.channel.send(A)  # an event of a child
        await world.clock.sleep(1)
        assert runs == 2 and len(told) == 1, "the user knows already"
        world.queue.reset(A)  # a new generation
        world.channel.send(A)
        await world.clock.sleep(1)
        assert runs == 3 and len(told) == 2
        assert world.value("controller_runtime_terminal_reconcile_errors_total") == 3
        assert world.value("controller_runtime_reconcile_errors_total") == 3
        assert world.result("error") == 3

    play(malformed, script, on_terminal=tell)


def test_ctl5_telling_is_retried_and_forgotten_when_the_object_is_well_or_gone() -> None:
    broken = True
    told = 0

    async def maybe(world: World, key: Key) -> Result:
        if broken:
            raise ExceptionGroup("plan", [TerminalError("bad"), TerminalError("worse")])
        return Done()

    async def tell(key: Key, error: TerminalError) -> None:
        nonlocal told
        told += 1
        if told == 1:
            raise Timeout("the condition could not be written")

    async def script(world: World) -> None:
        nonlocal broken
        world.channel.send(A)
        await world.clock.sleep(3600)
        assert told == 2, "once in vain, once with success, then never again"
        broken = False
        world.channel.send(A)
        await world.clock.sleep(1)
        broken = True
        world.channel.send(A)
        await world.clock.sleep(1)
        assert told == 3
        world.controller.gone(A)
        assert not world.controller._told

    play(maybe, script, on_terminal=tell)


def test_ctl5_a_group_with_another_error_is_retried() -> None:
    runs = 0

    async def mixed(world: World, key: Key) -> Result:
        nonlocal runs
        runs += 1
        raise ExceptionGroup("plan", [TerminalError("bad"), Timeout("t")])

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(1.5)
        assert runs == 2

    play(mixed, script)


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


def test_que13_the_gate_holds_a_key_until_its_own_writes_are_seen_and_no_worker_waits() -> None:
    tracker = Tracker()
    runs: list[tuple[Key, float]] = []

    async def write(world: World, key: Key) -> Result:
        runs.append((key, world.clock.monotonic()))
        if len(runs) == 1:
            async with asyncio.TaskGroup() as tasks:  # writes of one plan run in tasks of their own
                tasks.create_task(one_write(world))
            world.channel.send(key)
        return Done()

    async def one_write(world: World) -> None:
        record_write("create pod")  # type: ignore[arg-type]

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(5)
        world.channel.send(B)
        await world.clock.sleep(5)
        assert runs == [(A, 0.0), (B, 5.0)], "A waits in the queue, and its one worker is free"
        assert tracker.writes == [(A, "create pod")]
        assert world.queue.stats().gated == 1
        tracker.seen(A)
        await world.clock.sleep(1)
        assert runs[-1] == (A, 10.0)

    world = play(write, script, workers=1, tracker=tracker)
    assert tracker.closed and world.result("success") == 3


def test_que13_the_tombstone_of_an_owner_opens_the_gate() -> None:
    tracker = Tracker()
    runs: list[Key] = []

    async def write(world: World, key: Key) -> Result:
        runs.append(key)
        return Done()

    async def script(world: World) -> None:
        tracker.shut.add(A)
        world.channel.send(A)
        await world.clock.sleep(1)
        assert runs == []
        world.controller.gone(A)
        await world.clock.sleep(1)
        assert runs == [A] and tracker.forgotten == [A]

    play(write, script, tracker=tracker)


def test_ctl3_the_context_names_key_controller_and_whether_to_read_live() -> None:
    tracker = Tracker()
    seen: list[Any] = []

    async def look(world: World, key: Key) -> Result:
        seen.append(current.get())
        values = structlog.contextvars.get_contextvars()
        assert values["controller"] == NAME and values["controllerKind"] == "BroadcastJob"
        assert values["controllerGroup"] == "apps.kruise.io"
        assert values["BroadcastJob"] == {"name": key.name, "namespace": key.namespace}
        assert (values["namespace"], values["name"]) == key
        assert values["reconcileID"] == seen[-1].reconcile_id
        await world.clock.sleep(1)
        assert current.get() is seen[[c.key for c in seen].index(key)], "contexts of two workers do not mix"
        return Done()

    async def script(world: World) -> None:
        tracker.late.add(B)
        world.channel.send(A)
        world.channel.send(B)
        await world.clock.sleep(3)
        assert current.get() is None and not structlog.contextvars.get_contextvars()

    play(look, script, tracker=tracker, resource=JOBS)
    by_key = {context.key: context for context in seen}
    assert by_key[A].controller == NAME and not by_key[A].live and by_key[B].live
    assert len({context.reconcile_id for context in seen}) == 2
    record_write("outside of a reconcile")  # type: ignore[arg-type]
    assert not tracker.writes


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


def test_ctl2_a_reconcile_that_ignores_its_timeout_is_unhealthy() -> None:
    async def deaf(world: World, key: Key) -> Result:
        for _ in range(3):
            try:
                await world.clock.sleep(1000)
            except asyncio.CancelledError:
                if world.clock.monotonic() > 900:
                    raise
        return Done()

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(350)
        assert world.controller.healthy()
        await world.clock.sleep(20)
        assert not world.controller.healthy()
        await world.clock.sleep(600)

    play(deaf, script)


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


def test_ctl3_slow_reconciles_are_logged() -> None:
    async def slow(world: World, key: Key) -> Result:
        await world.clock.sleep(11)
        return Done()

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(12)

    with structlog.testing.capture_logs() as lines:
        play(slow, script)
    assert [line["seconds"] for line in lines if line["event"] == "a reconcile was slow"] == [11.0]
