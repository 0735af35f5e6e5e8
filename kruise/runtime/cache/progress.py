"""Up to which resource version a store is whole, and who waits for a later one.

Purpose: "wake me when the cache has seen my write" without polling.

Guarantees:

* STO7: ``version`` is the highest one known to be fully applied. Waiters stand in a heap and are called exactly when
  their version is covered, once, whether an event, a bookmark or a list covers it.
* OBJ4: a version that has no order is waited for by equality.

What this does not do: it never gives up by itself; :meth:`Progress.at_least` has a deadline, a callback has its owner.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from kruise.runtime.clock import Clock
from kruise.runtime.objects import compare_versions, version_at_least


class _Waiter:
    __slots__ = ("callback", "order", "since", "want")

    def __init__(self, want: str, callback: Callable[[], None], order: int, since: float) -> None:
        self.want = want
        self.callback: Callable[[], None] | None = callback
        self.order = order
        self.since = since

    def __lt__(self, other: _Waiter) -> bool:
        return (len(self.want), self.want, self.order) < (len(other.want), other.want, other.order)


class Progress:
    """The version of one stream of changes."""

    def __init__(self, clock: Clock, what: str = "the store") -> None:
        self._clock = clock
        self._what = what
        self._version = ""
        self._order = 0
        self._heap: list[_Waiter] = []
        self._exact: dict[str, list[_Waiter]] = {}
        self._cancelled = 0

    @property
    def version(self) -> str:
        """The highest version that is fully applied; ``""`` before the first list."""
        return self._version

    def covers(self, want: str) -> bool:
        """Tell whether *want* is applied."""
        return version_at_least(self._version, want)

    def advance(self, version: str) -> None:
        """Move to *version* and call the waiters that it covers. A lower version changes nothing."""
        order = compare_versions(version, self._version)
        if order is not None and order <= 0:
            return
        self._version = version
        if self._exact:
            for waiter in self._exact.pop(version, ()):
                _call(waiter)
        if not self._heap or not _ordered(version):
            return  # a version without an order is no point on the line that the heap is sorted by
        due: list[_Waiter] = []
        while self._heap and version_at_least(version, self._heap[0].want):
            waiter = heapq.heappop(self._heap)
            if waiter.callback is None:
                self._cancelled -= 1
            else:
                due.append(waiter)
        for waiter in due:
            _call(waiter)

    def on_version(self, want: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call *callback* once *want* is covered: at once if it is. The function returned calls it off."""
        if self.covers(want):
            callback()
            return _nothing
        self._order += 1
        waiter = _Waiter(want, callback, self._order, self._clock.monotonic())
        ordered = _ordered(want)
        if ordered:
            heapq.heappush(self._heap, waiter)
        else:
            self._exact.setdefault(want, []).append(waiter)

        def cancel() -> None:
            if waiter.callback is None:
                return
            waiter.callback = None
            if ordered:
                self._cancelled += 1
                self._compact()
            elif want in self._exact:
                self._exact[want].remove(waiter)
                if not self._exact[want]:
                    del self._exact[want]

        return cancel

    def _compact(self) -> None:
        # A store that stands still while owners come and go would keep every waiter that was called off.
        if self._cancelled > 16 and self._cancelled * 2 > len(self._heap):
            self._heap = [w for w in self._heap if w.callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    async def at_least(self, want: str, timeout: float) -> None:
        """Wait until *want* is covered. Raises TimeoutError after *timeout* seconds. Can be cancelled."""
        if self.covers(want):
            return
        seen = asyncio.Event()
        cancel = self.on_version(want, seen.set)
        try:
            async with asyncio.timeout(timeout):
                await seen.wait()
        except TimeoutError:
            raise TimeoutError(
                f"{self._what} did not reach version {want} within {timeout:g} s; it is at {self._version or 'nothing'}"
            ) from None
        finally:
            cancel()

    def lag(self) -> float:
        """For how many seconds the longest waiter has waited; 0 when nobody waits."""
        waiting = [w.since for w in self._heap if w.callback is not None]
        waiting += [w.since for ws in self._exact.values() for w in ws]
        return max(0.0, self._clock.monotonic() - min(waiting)) if waiting else 0.0

    @property
    def waiters(self) -> int:
        """How many wait."""
        return len(self._heap) - self._cancelled + sum(map(len, self._exact.values()))


def _ordered(version: str) -> bool:
    return compare_versions(version, "1") is not None


def _nothing() -> None:
    return None


def _call(waiter: _Waiter) -> None:
    callback, waiter.callback = waiter.callback, None
    if callback is not None:
        callback()
