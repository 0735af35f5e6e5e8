"""Catches whoever modifies a cached object.

Purpose: objects of a store are shared and never copied. Their types are frozen, but the maps of labels and annotations
cannot be; this detector makes a write to them fail loudly in tests.

Guarantees: OBJ3: with ``KUBE_CACHE_MUTATION_DETECTOR=true`` every object that enters a cache is compared with its own
bytes once a second, for two minutes; a difference raises :class:`CacheMutated` with both texts.

What this does not do: it is for tests and CI; it keeps every object twice.
"""

from __future__ import annotations

import difflib
import os
from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from kruise.runtime.clock import Clock
from kruise.runtime.errors import RuntimeFault
from kruise.runtime.objects import Object

PERIOD: Final = 1.0
KEPT: Final = 120.0
ENV: Final = "KUBE_CACHE_MUTATION_DETECTOR"


class CacheMutated(RuntimeFault):
    """Somebody modified an object of the cache. Build a patch from ``thaw(obj)`` instead."""


class MutationDetector:
    """Remembers objects and their bytes. Own it with ``await detector.run()`` inside a TaskGroup."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: deque[tuple[float, Object, bytes]] = deque()

    @staticmethod
    def wanted(env: Mapping[str, str] = os.environ) -> bool:
        """Tell whether the environment asks for it."""
        return env.get(ENV, "").lower() == "true"

    def track(self, obj: Object) -> None:
        """Remember *obj* as it is now."""
        self._kept.append((self._clock.monotonic(), obj, msgspec.json.encode(obj)))

    def check(self) -> None:
        """Compare all that is kept. Raises CacheMutated."""
        old = self._clock.monotonic() - KEPT
        for _, obj, before in self._kept:
            after = msgspec.json.encode(obj)
            if after != before:
                raise CacheMutated(f"{type(obj).__name__} {obj.key} was modified in the cache:\n{_diff(before, after)}")
        while self._kept and self._kept[0][0] <= old:
            self._kept.popleft()

    async def run(self) -> None:
        """Check every second until cancelled."""
        while True:
            await self._clock.sleep(PERIOD)
            self.check()


def _diff(before: bytes, after: bytes) -> str:
    old, new = (msgspec.json.format(text, indent=1).decode().splitlines() for text in (before, after))
    return "\n".join(difflib.unified_diff(old, new, "when it was stored", "now", lineterm="", n=1))
