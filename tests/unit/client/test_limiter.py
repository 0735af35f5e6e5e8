"""limiter.py: the optional token bucket."""

from __future__ import annotations

import asyncio

import pytest

from kruise.runtime.client.limiter import RateLimiter
from kruise.runtime.errors import ConfigError
from kruise.runtime.testing.loop import VirtualClock, run_virtual


def test_res1_a_burst_passes_and_the_rest_comes_at_the_rate() -> None:
    async def main(clock: VirtualClock) -> None:
        limiter = RateLimiter(10, 5, clock=clock)
        passed: list[float] = []

        async def one() -> None:
            await limiter.acquire()
            passed.append(round(clock.monotonic() - begun, 3))

        begun = clock.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(one())
        assert passed == [0, 0, 0, 0, 0, 0.1, 0.2, 0.3]
        await clock.sleep(100)
        assert [await limiter.acquire() for _ in range(6)] == [0, 0, 0, 0, 0, pytest.approx(0.1)]

    run_virtual(main)


def test_res1_a_cancelled_caller_gives_its_token_back() -> None:
    async def main(clock: VirtualClock) -> None:
        limiter = RateLimiter(1, 1, clock=clock)
        await limiter.acquire()
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(limiter.acquire()) for _ in range(10)]
            await clock.sleep(0.001)
            for task in waiting:
                task.cancel()
        assert await limiter.acquire() == pytest.approx(0.999)

    run_virtual(main)


@pytest.mark.parametrize(("qps", "burst", "flag"), [(0, 1, "qps"), (-1, 1, "qps"), (5, 0, "burst")])
def test_res1_senseless_limits_name_their_flag(qps: float, burst: int, flag: str) -> None:
    async def main(clock: VirtualClock) -> None:
        with pytest.raises(ConfigError, match=f"--rest-config-{flag}"):
            RateLimiter(qps, burst, clock=clock)

    run_virtual(main)
