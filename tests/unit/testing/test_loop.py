from __future__ import annotations

import asyncio
import socket
import time

import pytest

from kruise.runtime.clock import LagProbe, format_micro_time
from kruise.runtime.testing import (
    EPOCH,
    Deadlock,
    Leak,
    Refused,
    Tape,
    TimeLimit,
    VirtualClock,
    VirtualLoop,
    eventually,
    run_virtual,
)
from kruise.runtime.testing import loop as loop_module


def test_clk3_thirty_minutes_take_milliseconds():
    async def main(clock):
        for _ in range(1800):
            await clock.sleep(1)
        return clock.monotonic()

    begin = time.perf_counter()
    assert run_virtual(main) == 1800.0
    assert time.perf_counter() - begin < 2.0


def test_clk3_equal_deadlines_run_in_the_order_in_which_they_were_set():
    async def main(clock):
        order = []
        loop = asyncio.get_running_loop()
        for i in range(50):
            loop.call_at(10.0, order.append, i)
            loop.call_at(9.0, order.append, -i - 1)
        await clock.sleep(11)
        return order

    assert run_virtual(main) == [-i - 1 for i in range(50)] + list(range(50))


def test_clk3_order_of_different_deadlines():
    async def main(clock):
        order = []

        async def one(delay):
            await clock.sleep(delay)
            order.append((delay, clock.monotonic()))

        async with asyncio.TaskGroup() as group:
            for delay in (3, 1, 2, 0):
                group.create_task(one(delay))
        return order

    assert run_virtual(main) == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]


def test_clk3_cancellation_during_a_virtual_sleep():
    async def main(clock):
        async with asyncio.TaskGroup() as group:
            sleeper = group.create_task(clock.sleep(3600))
            await clock.sleep(5)
            sleeper.cancel()
        assert sleeper.cancelled()
        return clock.monotonic()

    assert run_virtual(main) == 5.0


def test_clk3_cancelled_timers_keep_the_counter_right():
    async def main(clock):
        loop = asyncio.get_running_loop()
        kept = []
        loop.call_later(500, kept.append, "kept")
        for i in range(1000):
            handle = loop.call_later(100 + i, kept.append, i)
            handle.cancel()
            if i % 10 == 0:
                await clock.sleep(0)
                assert loop._timer_cancelled_count == sum(entry[-1].cancelled() for entry in loop._scheduled)
                assert len(loop._scheduled) < 250
        await clock.sleep(2000)
        assert loop._timer_cancelled_count == 0
        return kept

    assert run_virtual(main) == ["kept"]


def test_clk3_timeout_fires_at_its_virtual_second():
    async def main(clock):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await clock.sleep(31)
        return clock.monotonic()

    assert run_virtual(main) == 30.0


def test_clk3_nothing_runnable_and_no_timer_is_an_error_that_names_the_waiter():
    async def waits_for_ever():
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="waits_for_ever"):
        run_virtual(waits_for_ever())


def test_clk3_a_run_has_a_limit_of_virtual_time():
    async def main(clock):
        while True:
            await clock.sleep(1)

    with pytest.raises(TimeLimit, match="60 virtual seconds"):
        run_virtual(main, timeout=60)


def test_clk3_a_spinning_task_is_a_livelock(monkeypatch):
    monkeypatch.setattr(loop_module, "MAX_STEPS_AT_ONE_INSTANT", 1000)

    async def main(clock):
        while True:
            await clock.sleep(0)

    with pytest.raises(loop_module.Livelock):
        run_virtual(main)


def _interleaving(seed, pick):
    async def main(clock):
        order = []

        async def one(name):
            for _ in range(5):
                await clock.sleep(0)
                order.append(name)

        async with asyncio.TaskGroup() as group:
            for name in "abcd":
                group.create_task(one(name))
        return "".join(order)

    return run_virtual(main, seed=seed, pick=pick)


def test_clk4_fifo_is_the_default_order_whatever_the_seed():
    assert _interleaving(1, "fifo") == _interleaving(2, "fifo") == "abcd" * 5


def test_clk4_the_same_seed_gives_the_same_order_and_another_seed_another():
    runs = {seed: _interleaving(seed, "random") for seed in range(20)}
    assert all(_interleaving(seed, "random") == order for seed, order in runs.items())
    assert len(set(runs.values())) > 10


def test_clk4_a_recorded_tape_replays_the_run():
    async def main(clock):
        order = []

        async def one(name):
            for _ in range(5):
                await clock.sleep(0)
                order.append(name)

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(one(name))
        return order

    tape = Tape(7)
    first = run_virtual(main, tape=tape)
    assert run_virtual(main, tape=Tape(replay=tape.drawn)) == first


def test_clk4_the_seed_is_printed_when_a_run_fails(capsys):
    async def main():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        run_virtual(main, seed=4711, pick="random")
    assert any("seed=4711" in note for note in caught.value.__notes__)
    assert "seed=4711" in capsys.readouterr().err


def test_clk4_tasks_of_a_group_are_cancelled_in_a_fixed_order():
    def run():
        async def main(clock):
            order = []

            async def one(i):
                try:
                    await clock.sleep(100)
                finally:
                    order.append(i)

            async def fail():
                await clock.sleep(1)
                raise ValueError

            async def all_of_them():
                async with asyncio.TaskGroup() as group:
                    for i in range(40):
                        group.create_task(one(i))
                    group.create_task(fail())

            with pytest.raises(ExceptionGroup):
                await all_of_them()
            return order

        return run_virtual(main)

    first = run()
    assert sorted(first) == list(range(40))
    assert all(run() == first for _ in range(5))


def test_clk2_a_wall_clock_jump_moves_no_deadline():
    async def main(clock):
        async with asyncio.TaskGroup() as group:
            sleeper = group.create_task(clock.sleep(10))
            await clock.sleep(1)
            clock.jump(3600)
            await clock.sleep(1)
            clock.jump(-7200)
            assert clock.now() == EPOCH + 2 - 3600
            await clock.sleep(7.9)
            assert not sleeper.done()
        return clock.monotonic()

    assert run_virtual(main) == 10.0


def test_clk2_a_suspended_machine_wakes_with_an_expired_fence():
    async def main(clock):
        fence = clock.boottime() + 15
        deadline = clock.monotonic() + 15
        clock.suspend(60)
        assert clock.boottime() > fence
        assert clock.monotonic() < deadline
        assert clock.now() == EPOCH + 60

    run_virtual(main)


def test_clk2_clocks_of_two_machines_share_monotonic_time_and_nothing_else():
    async def main():
        here, there = VirtualClock(), VirtualClock(wall=EPOCH + 5)
        here.suspend(100)
        await there.sleep(1)
        assert (here.monotonic(), there.monotonic()) == (1.0, 1.0)
        assert (here.boottime(), there.boottime()) == (101.0, 1.0)
        assert (here.now(), there.now()) == (EPOCH + 101, EPOCH + 6)

    run_virtual(main)


def test_clk2_a_stamp_at_zero_microseconds_has_six_digits():
    async def main(clock):
        assert format_micro_time(clock.now()) == "2026-01-01T00:00:00.000000Z"

    run_virtual(main)


def test_clk5_the_lag_probe_reads_zero_on_a_loop_that_is_never_late():
    async def main(clock):
        probe = LagProbe(clock)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(probe.run())
            await clock.sleep(60)
            task.cancel()
        return probe.worst

    assert run_virtual(main) == 0.0


def test_tst4_a_task_left_behind_fails_the_run():
    async def forgotten():
        await asyncio.sleep(10)

    async def main():
        asyncio.get_running_loop().create_task(forgotten())

    with pytest.raises(Leak, match="forgotten"):
        run_virtual(main)


def test_tst4_a_timer_left_behind_fails_the_run():
    async def main():
        asyncio.get_running_loop().call_later(10, print)

    with pytest.raises(Leak, match="timer at 10 s"):
        run_virtual(main)


def test_tst4_an_unhandled_error_of_a_callback_fails_the_run():
    async def main(clock):
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await clock.sleep(1)

    with pytest.raises(Leak, match="ZeroDivisionError"):
        run_virtual(main)


def test_tst4_left_tasks_get_their_finally_blocks():
    ended = []

    async def other(clock):
        try:
            await clock.sleep(1000)
        finally:
            await clock.sleep(1)
            ended.append(clock.monotonic())

    async def main(clock):
        asyncio.get_running_loop().create_task(other(clock))
        await clock.sleep(1)
        raise ValueError

    with pytest.raises(ValueError):
        run_virtual(main)
    assert ended == [2.0]


def test_sockets_threads_and_name_lookup_are_refused():
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(Refused):
            await asyncio.to_thread(print)
        with pytest.raises(Refused):
            await loop.getaddrinfo("localhost", 80)
        with pytest.raises(Refused):
            await asyncio.open_connection("127.0.0.1", 1)
        with pytest.raises(Refused):
            await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        with pytest.raises(Refused):
            await asyncio.create_subprocess_exec("true")
        with socket.socket() as sock:
            with pytest.raises(Refused):
                await loop.sock_connect(sock, ("127.0.0.1", 1))
            with pytest.raises(Refused):
                loop.add_reader(sock, print)

    run_virtual(main)


def test_tst3_eventually_returns_what_the_condition_returned():
    async def main(clock):
        box = []

        async def later():
            await clock.sleep(7)
            box.append("here")

        async with asyncio.TaskGroup() as group:
            group.create_task(later())
            assert await eventually(lambda: box and box[0], clock, 10) == "here"
        assert 7 <= clock.monotonic() < 7.2

    run_virtual(main)


def test_tst3_eventually_fails_at_its_deadline_with_the_last_reason():
    async def main(clock):
        async def never():
            raise AssertionError("3 of 5 pods")

        with pytest.raises(AssertionError, match=r"never did not hold within 10 s: 3 of 5 pods"):
            await eventually(never, clock, 10)
        assert clock.monotonic() == pytest.approx(10, abs=0.1)

    run_virtual(main)


def test_a_loop_counts_its_steps():
    loop = VirtualLoop()

    async def main():
        for _ in range(10):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert 10 <= loop.steps <= 15
    loop.close()


def test_a_tape_makes_no_draw_where_there_is_no_choice():
    tape = Tape(3)
    assert (tape.draw(0), tape.draw(1), tape.drawn) == (0, 0, [])
    assert tape.pick("x") == "x"
    assert not any(tape.chance(0) for _ in range(10)) and tape.drawn == []
    assert all(tape.chance(1000) for _ in range(10))
    assert 60 < sum(tape.chance(100) for _ in range(1000)) < 140
