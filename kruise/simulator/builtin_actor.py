"""What an actor is: something that reacts to commits of the embedded server, and to time.

Purpose: the loop that all of the cluster's own controllers share.

Guarantees:

* TST1: an actor is woken by commits and by the moments that it asked for; nothing polls. Its writes go through the
  server's own rules, under its own name. One that a webhook holds up is waited for; one that a dead webhook refuses is
  tried again after :data:`RETRY` seconds.

What this does not do: actors read the store without lag, and they do not crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.apiserver.server import ApiServer, MustWait
from kruise.simulator.apiserver.storage import Commit

Body = dict[str, Any]
RETRY: Final = 1.0
_LOST = (403, 404, 409, 422)


class Actor:
    """Something that reacts to commits. Run it in a TaskGroup."""

    name = "actor"

    def __init__(self, server: ApiServer, *, delay: float = 0.0) -> None:
        self.server = server
        self.delay = delay
        """Seconds between a commit and the reaction."""
        self._wake = asyncio.Event()
        self._waiting: list[Callable[[], Awaitable[Any]]] = []
        """Writes of the last step that wait for webhooks."""
        self._late: list[Callable[[], object]] = []
        """Writes that a dead webhook has refused."""
        self._timer: asyncio.TimerHandle | None = None

    def prime(self) -> None:
        """Look at what is there before the first commit is seen."""

    def interested(self, commit: Commit) -> bool:
        """Tell whether *commit* may give this actor something to do."""
        raise NotImplementedError

    def step(self) -> None:
        """Do everything that is to do now."""
        raise NotImplementedError

    def due(self) -> float | None:
        """Return when, on the monotonic clock, :meth:`step` has something to do without a commit."""
        return None

    async def run(self) -> None:
        """React until cancelled."""
        self.server.storage.listeners.append(self._on_commit)
        try:
            self.prime()
            self._wake.set()
            while True:
                await self._next()
                await self.server.clock.sleep(self.delay)
                self._wake.clear()
                late, self._late = self._late, []
                for write in late:
                    self.attempt(write)
                self.step()
                await self._catch_up()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.server.storage.listeners.remove(self._on_commit)

    async def _next(self) -> None:
        due = self.due()
        if due is None:
            await self._wake.wait()
            return
        try:
            async with asyncio.timeout(max(0.0, due - self.server.clock.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            return

    def _on_commit(self, commit: Commit) -> None:
        if self.interested(commit):
            self._wake.set()

    def attempt(self, write: Callable[[], object]) -> bool:
        """Do a write; False when it was not done now: refused, because something changed meanwhile, or held up."""
        try:
            write()
        except Failure as failure:
            self._refused(failure, write)
            return False
        except MustWait as held:
            self._waiting.append(held.again)
            return False
        return True

    async def _catch_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        for again in waiting:
            try:
                await again()
            except Failure as failure:
                self._refused(failure, lambda a=again: self._waiting.append(a))  # type: ignore[misc]

    def _refused(self, failure: Failure, write: Callable[[], object]) -> None:
        if failure.code == 500:
            self._late.append(write)
            if self._timer is None or self._timer.when() <= asyncio.get_running_loop().time():
                self._timer = asyncio.get_running_loop().call_later(RETRY, self._wake.set)
        elif failure.code not in _LOST:
            raise failure
