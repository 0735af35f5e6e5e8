"""What a reconcile comes to: results, errors, timeouts, and the key's own writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from kruise.runtime import log
from kruise.runtime.controller import (
    LOW,
    After,
    Done,
    Result,
    current,
    record_write,
)
from kruise.runtime.errors import Conflict, Status, TerminalError, Timeout, Unavailable
from kruise.runtime.objects import Key, Object, Resource
from tests.unit.controller.controller_world import NAME, A, B, World, play

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


def test_ctl3_log3_slow_reconciles_are_logged() -> None:
    async def slow(world: World, key: Key) -> Result:
        await world.clock.sleep(11)
        return Done()

    async def script(world: World) -> None:
        world.channel.send(A)
        await world.clock.sleep(12)

    with structlog.testing.capture_logs() as lines:
        play(slow, script)
    assert [line["seconds"] for line in lines if line["event"] == "a reconcile was slow"] == [11.0]

    log.configure(level="debug", slow=log.SlowThresholds(reconcile=12.0))
    with structlog.testing.capture_logs() as lines:
        play(slow, script)
    assert [line for line in lines if line["event"] == "a reconcile was slow"] == []
