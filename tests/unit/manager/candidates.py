"""Candidates for one Lease on the virtual loop, behind the real client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kruise.runtime.client.transport import Request
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import Fenced
from kruise.runtime.manager.leader import ElectionOptions, Elector, Term
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from tests.unit.manager.lease_server import LeaseServer


class Events:
    """Takes events as a recorder does."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.resources: list[Any] = []

    def event(self, obj: Any, resource: Any, *, type: str, reason: str, action: str, note: str) -> None:
        assert type == "Normal" and reason and action
        self.notes.append(note)
        self.resources.append((resource, obj.key))


class Candidate:
    """One replica: an elector, its network and what its work saw."""

    def __init__(self, server: LeaseServer, clock: Clock, who: str, *, seed: int = 1, release: bool = True) -> None:
        self.who = who
        self.clock = clock
        self.metrics = Metrics(process=False)
        rest, self.network = server.client(who, Random(seed), self.metrics)
        self.events = Events()
        self.elector = Elector(
            rest,
            ElectionOptions(who, release=release),
            clock=clock,
            rng=Random(seed),
            metrics=self.metrics,
            recorder=self.events,
        )
        self.stop = asyncio.Event()
        self.began: list[float] = []
        self.ended: list[float] = []
        self.writes: list[float] = []
        self.refused = 0

    async def work(self, term: Term) -> None:
        """Leader work: writes twice a second, until it is told to stop."""
        self.began.append(self.clock.monotonic())
        try:
            while not self.stop.is_set():
                try:
                    term.check()
                    self.writes.append(self.clock.monotonic())
                except Fenced:
                    self.refused += 1
                await self.clock.sleep(0.5)
        finally:
            self.ended.append(self.clock.monotonic())

    async def run(self, work: Callable[[Term], Awaitable[None]] | None = None) -> None:
        await self.elector.run(work or self.work, stop=self.stop)

    def scrape(self) -> str:
        return self.metrics.render().decode()


Main = Callable[[LeaseServer, VirtualClock], Awaitable[None]]


def virtual(main: Main) -> None:
    async def start(clock: VirtualClock) -> None:
        await main(LeaseServer(clock), clock)

    run_virtual(start)


async def hang(_request: Request) -> None:
    await asyncio.Event().wait()


async def raises(work: Awaitable[None], kind: type[BaseException], text: str | None = None) -> None:
    with pytest.raises(kind, match=text):
        await work
