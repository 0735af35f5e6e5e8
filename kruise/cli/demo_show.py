"""How the demo tells what happens: commits become lines in their order, and what was announced is waited for.

Purpose: time, lines, pauses and checks, for every act of the demo.

Guarantees:

* Lines come from commits of the API server, in their order; each listener sees every commit, none is sampled.
* What is waited for and does not come within its time and some patience raises NotSeen; so does a manager that ends.

What this does not do: it knows no workload; the acts do.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

from kruise.cli import status
from kruise.cli.answer import Answer
from kruise.cli.cluster import connect
from kruise.cli.demo_stage import Stage
from kruise.cli.demo_view import Sheet, View
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.server import MustWait
from kruise.simulator.apiserver.storage import Commit

__all__ = ["ACTOR", "PATIENCE", "Interrupted", "Listener", "NotSeen", "Teller"]

PATIENCE: Final = 30.0
"""Seconds beyond its own length that a scene may take before it counts as not seen."""
ACTOR: Final = "demo"
"""Who creates and changes what a person would."""

Body = dict[str, Any]

Listener = Callable[[Commit], Awaitable[None]]
"""Takes in a commit and tells what a person may want to read of it."""


class NotSeen(Exception):
    """Something that the demo announces did not happen; the text says what."""


class Interrupted(Exception):
    """The person at the keyboard does not want to see the end."""


class Teller:
    """Waits, tells and checks. Own it with ``with``: inside, it hears every commit, also the earlier ones."""

    def __init__(self, stage: Stage, view: View, *, speed: float, stop: asyncio.Event) -> None:
        self.stage = stage
        self.view = view
        self.speed = speed
        self.stop = stop
        self.server = stage.cluster.server
        self.clock = stage.clock
        self.began = stage.clock.monotonic()
        self.listeners: list[Listener] = []
        self.sheet: Callable[[], Sheet] | None = None
        """What is drawn below the lines, where the view can."""
        self._commits: deque[Commit] = deque()
        self._wake = asyncio.Event()

    def __enter__(self) -> Self:
        # The backlog first: no turn of the loop lies between, so none is missed and none comes twice.
        self._commits.extend(self.server.storage.commits)
        self.server.storage.listeners.append(self._on_commit)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.storage.listeners.remove(self._on_commit)

    @property
    def seconds(self) -> float:
        """How long the demo has been running."""
        return self.clock.monotonic() - self.began

    def say(self, text: str) -> None:
        """Tell something, with its time."""
        self.view.say(f"{self.seconds:6.1f} s  {text}")

    def must(self, what: str, seen: object, wanted: object) -> None:
        """Raise NotSeen unless *seen* is what is *wanted*."""
        if seen != wanted:
            raise NotSeen(f"{what}: {seen}, must be {wanted}")

    async def until(self, condition: Callable[[], bool], what: str, length: float = 0.0, *, every: float = 0.2) -> None:
        """Tell what happens until *condition* holds. Raises NotSeen after *length* and some patience.

        *every* is for how many seconds nothing may happen before *condition* is asked again.
        """
        deadline = self.clock.monotonic() + length + PATIENCE
        while True:
            while not condition() and self._commits:
                commit = self._commits.popleft()
                for listener in self.listeners:
                    await listener(commit)
            if condition():
                return
            if self.stop.is_set():
                raise Interrupted
            if not self.stage.manager.running:
                raise NotSeen(f"{what}; the manager has ended: {self.stage.manager.error}")
            if self.clock.monotonic() > deadline:
                raise NotSeen(f"{what}; waited {length + PATIENCE:.0f} s")
            if self.sheet is not None:
                self.view.draw(self.sheet())
            await self._next(every)

    async def does(self, request: Callable[[], Body]) -> Body:
        """Do what a person does: send a request, and wait for the webhooks that are asked about it."""
        try:
            return request()
        except MustWait as waits:
            answer: Body = await waits.again()
            return answer

    async def pause(self, seconds: float) -> None:
        """Give a person time to read; what happens meanwhile is told."""
        length = seconds / self.speed
        end = self.clock.monotonic() + length
        await self.until(lambda: self.clock.monotonic() >= end, "the end of a pause", length, every=min(0.2, length))

    async def ask(self, target: str) -> Answer:
        """Return what ``kruise status`` says of *target* in ``default``, and show its table."""
        self.view.say(f"$ kruise status {target}")
        look, name = status.parse_target(target)
        async with connect(argparse.Namespace(kubeconfig=str(self.stage.kubeconfig), context=None)) as cluster:
            answer = await look(cluster, Key("default", name))
        for line in answer.table.splitlines():
            self.view.say(line)
        return answer

    async def _next(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _on_commit(self, commit: Commit) -> None:
        self._commits.append(commit)
        self._wake.set()
