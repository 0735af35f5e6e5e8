"""Time that stands still, for servers whose answers shall be the same at each run."""

from __future__ import annotations

import asyncio


class StoppedClock:
    seconds = 1_767_225_600.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return 0.0

    boottime = monotonic

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
