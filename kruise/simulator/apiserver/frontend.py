"""One API server process in front of the store: its watch cache, which may lag.

Purpose: reads that need no quorum, and every watch, are answered from a cache. In a cluster with several API servers
each has its own, and they differ. A stale view costs nothing to make here: it is a version number.

Guarantees:

* TST2: a front end can lag by a number of seconds, be frozen and go on; quorum reads never see it.
* Watchers are woken by commits; nothing polls.

What this does not do: it never shows versions out of order. A client that changes its front end may travel back in
time, as with real ones.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from kruise.simulator.apiserver.storage import Commit, Storage


class Waiter(Protocol):
    """Something that wants to know of commits."""

    def wake(self) -> None:
        """Called after the visible version of a resource has moved."""
        ...

    def close(self) -> None:
        """Called when the resource is served anew."""
        ...


class Frontend:
    """A view of the store at a version of its own."""

    def __init__(self, storage: Storage, name: str = "apiserver-0") -> None:
        self.name = name
        self.storage = storage
        self.visible = storage.rv
        """The version up to which this front end has seen the store."""
        self.lag = 0.0
        """Seconds by which the cache is late; 0 is immediate."""
        self._frozen = False
        self._watchers: dict[str, dict[Waiter, None]] = {}
        self._fresh: list[tuple[int, asyncio.Future[None]]] = []
        storage.listeners.append(self._on_commit)

    def close(self) -> None:
        """Stop listening to the store."""
        self.storage.listeners.remove(self._on_commit)

    def freeze(self, at: int | None = None) -> None:
        """Let the cache stand still, now or at the older version *at*."""
        self._frozen = True
        if at is not None:
            self.visible = min(at, self.storage.rv)

    def thaw(self) -> None:
        """Let the cache go on, and catch up."""
        self._frozen = False
        self._advance(self.storage.rv)

    def add(self, resource: str, watcher: Waiter) -> None:
        """Wake *watcher* when *resource* changes."""
        self._watchers.setdefault(resource, {})[watcher] = None

    def discard(self, resource: str, watcher: Waiter) -> None:
        """Forget *watcher*."""
        self._watchers.get(resource, {}).pop(watcher, None)

    def close_watches(self, resource: str) -> None:
        """End every watch of *resource*."""
        for watcher in list(self._watchers.get(resource, ())):
            watcher.close()

    def watching(self) -> int:
        """Return the number of open watches."""
        return sum(len(w) for w in self._watchers.values())

    def _on_commit(self, commit: Commit) -> None:
        if self._frozen:
            return
        if self.lag > 0:
            asyncio.get_running_loop().call_later(self.lag, self._late, commit.rv)
        elif self.visible == commit.rv - 1 and not self._fresh:
            self.visible = commit.rv
            self._wake(commit.resource)
        else:
            self._advance(commit.rv)

    def _late(self, rv: int) -> None:
        if not self._frozen:
            self._advance(rv)

    def _advance(self, rv: int) -> None:
        if rv <= self.visible:
            return
        self.visible = rv
        for resource in list(self._watchers):
            self._wake(resource)
        for wanted, future in self._fresh:
            if wanted <= rv and not future.done():
                future.set_result(None)

    def _wake(self, resource: str) -> None:
        watchers = self._watchers.get(resource)
        if watchers:
            for watcher in list(watchers):
                watcher.wake()

    async def wait_for(self, rv: int, timeout: float) -> bool:
        """Wait until *rv* is visible; tell whether it is within *timeout* seconds."""
        if self.visible >= rv:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (rv, future)
        self._fresh.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            return False
        finally:
            self._fresh.remove(entry)
        return True
