"""window.py: how many writes at once, and for whom."""

from __future__ import annotations

import asyncio

from kruise.runtime.client.window import LARGEST, SMALLEST, WriteWindow, write_ahead
from kruise.runtime.testing.loop import VirtualClock, run_virtual


def answer(window: WriteWindow, clock: VirtualClock, count: int, *, status: int = 200, latency: float = 0.01) -> None:
    for _ in range(count):
        window.answered(status, sent_at=clock.monotonic(), latency=latency)


def grow(window: WriteWindow, clock: VirtualClock, size: int) -> None:
    while window.size < size:
        answer(window, clock, 1)


def test_res4_grows_by_one_per_round_of_answers_from_16_to_64() -> None:
    async def main(clock: VirtualClock) -> None:
        window = WriteWindow(clock)
        assert (SMALLEST, LARGEST, window.size) == (16, 64, 16)
        answer(window, clock, 15)
        assert window.size == 16
        answer(window, clock, 1)
        assert window.size == 17
        answer(window, clock, 16)
        assert window.size == 17
        answer(window, clock, 1)
        assert window.size == 18
        answer(window, clock, 100_000)
        assert window.size == 64

    run_virtual(main)


def test_res4_one_burst_of_429_halves_once() -> None:
    async def main(clock: VirtualClock) -> None:
        window = WriteWindow(clock)
        grow(window, clock, 64)
        sent = clock.monotonic()
        await clock.sleep(1)
        for _ in range(64):
            window.answered(429, sent_at=sent, latency=1.0)
        assert window.size == 32
        await clock.sleep(1)
        window.answered(429, sent_at=clock.monotonic(), latency=0.1)
        assert window.size == 16
        await clock.sleep(1)
        window.answered(429, sent_at=clock.monotonic(), latency=0.1)
        assert window.size == 16

    run_virtual(main)


def test_res4_p99_over_a_second_halves_and_one_slow_write_does_not() -> None:
    async def main(clock: VirtualClock) -> None:
        window = WriteWindow(clock)
        grow(window, clock, 64)
        answer(window, clock, 1, latency=6.0)
        assert window.size == 64
        await clock.sleep(1)
        answer(window, clock, 1, latency=1.5)
        assert window.size == 32

    run_virtual(main)


def test_res4_a_refused_connection_is_no_reason_to_grow() -> None:
    async def main(clock: VirtualClock) -> None:
        window = WriteWindow(clock)
        answer(window, clock, 1000, status=0, latency=0.001)
        assert window.size == 16

    run_virtual(main)


def test_res4_busy_owners_are_served_round_robin_and_a_lone_one_gets_all() -> None:
    order: list[str] = []

    async def write(window: WriteWindow, clock: VirtualClock, owner: str, seconds: float = 1.0) -> None:
        async with window.slot(owner):
            order.append(owner)
            await clock.sleep(seconds)

    async def main(clock: VirtualClock) -> None:
        window = WriteWindow(clock)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(16 + 30):
                tasks.create_task(write(window, clock, "big"))
            await clock.sleep(0)
            assert window.busy == 16 and window.waiting == 30
            for _ in range(4):
                tasks.create_task(write(window, clock, "small"))
            for _ in range(2):
                tasks.create_task(write(window, clock, "tiny"))
        assert order[:16] == ["big"] * 16
        assert order[16:28] == ["big", "small", "tiny"] * 2 + ["big", "small"] * 2 + ["big"] * 2
        assert window.busy == window.waiting == 0

    run_virtual(main)


def test_res4_a_shrunk_window_admits_nobody_until_it_has_room() -> None:
    async def main(clock: VirtualClock) -> None:
        window = WriteWindow(clock)
        grow(window, clock, 32)
        entered = 0

        async def write(seconds: float) -> None:
            nonlocal entered
            async with window.slot("o"):
                entered += 1
                await clock.sleep(seconds)

        async with asyncio.TaskGroup() as tasks:
            for i in range(32):
                tasks.create_task(write(10 + i))
            await clock.sleep(1)
            window.answered(429, sent_at=clock.monotonic(), latency=0.1)
            assert window.size == 16
            tasks.create_task(write(1))
            await clock.sleep(24.5)
            assert entered == 32 and window.busy == 16
            await clock.sleep(1.0)
            assert entered == 33

    run_virtual(main)


def test_res4_cancelled_waiters_lose_no_slot() -> None:
    async def main(clock: VirtualClock) -> None:
        window = WriteWindow(clock, smallest=1, largest=1)
        done: list[int] = []

        async def write(i: int) -> None:
            async with window.slot(str(i % 3)):
                done.append(i)
                await clock.sleep(1)

        async with asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(write(i)) for i in range(6)]
            await clock.sleep(0.5)
            writers[1].cancel()
            await clock.sleep(0.5)
            # The slot has just been given to a waiter that is cancelled in the same turn.
            writers[2].cancel()
            writers[3].cancel()
        assert {0, 4, 5} <= set(done)
        assert window.busy == 0 and window.waiting == 0

    for seed in range(30):
        run_virtual(main, seed=seed, pick="random")


def test_res4_a_sequence_that_has_begun_passes_the_writes_of_its_owner_that_begin_one() -> None:
    async def main(clock: VirtualClock) -> None:
        window = WriteWindow(clock, smallest=1, largest=1)
        order: list[str] = []

        async def write(owner: str, what: str, *, ahead: bool = False) -> None:
            token = write_ahead.set(ahead)
            try:
                async with window.slot(owner):
                    order.append(what)
                    await clock.sleep(1)
            finally:
                write_ahead.reset(token)

        async with asyncio.TaskGroup() as group:
            group.create_task(write("a", "first"))
            await clock.sleep(0.1)
            for what in ("new 1", "new 2"):
                group.create_task(write("a", what))
            group.create_task(write("b", "other"))
            await clock.sleep(0.1)
            for what in ("second 1", "second 2"):
                group.create_task(write("a", what, ahead=True))
            gone = group.create_task(write("a", "cancelled", ahead=True))
            await clock.sleep(0.1)
            gone.cancel()
        assert order == ["first", "second 1", "other", "second 2", "new 1", "new 2"]
        assert (window.busy, window.waiting) == (0, 0)

    run_virtual(main)
