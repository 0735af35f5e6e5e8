"""A process of a simulation that stands still, as after SIGSTOP."""

from __future__ import annotations

import asyncio
import contextvars

from kruise.runtime.testing import VirtualClock, VirtualLoop, run_virtual

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="")


def test_tst5_a_frozen_context_runs_nothing_and_goes_on_where_it_was() -> None:
    seen: list[tuple[str, float]] = []

    async def main(clock: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)

        async def tick(name: str) -> None:
            WHO.set(name)
            for _ in range(3):
                await clock.sleep(1)
                seen.append((name, clock.monotonic()))

        def is_a(context: contextvars.Context) -> bool:
            return context.get(WHO) == "a"

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(tick("a"))
            tasks.create_task(tick("b"))
            await clock.sleep(1.5)
            loop.freeze(is_a)
            await clock.sleep(10)
            loop.thaw(is_a)

    run_virtual(main)
    assert [time for name, time in seen if name == "b"] == [1, 2, 3]
    assert [time for name, time in seen if name == "a"] == [1, 11.5, 12.5], "what came due meanwhile runs at once"
