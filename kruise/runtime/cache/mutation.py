"""Find whoever changes a cached object.

Purpose: objects of a store are shared and never copied. Their types are frozen, but the maps of labels and annotations
in them cannot be; whoever writes to one changes what everybody else sees, and no watch event will ever tell.

Guarantees:

* OBJ3: with ``KUBE_CACHE_MUTATION_DETECTOR=true`` (the variable of client-go) every object that enters a cache is
  compared with its own bytes once a second, for two minutes; a difference raises :class:`CacheMutated`, which names
  each field that changed.

What this does not do: it does not say who did it, only when at the latest. It shows fields, never values, because an
annotation may hold what must not be logged. It keeps every object twice: it is for tests and CI.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from kruise.runtime.clock import Clock
from kruise.runtime.errors import RuntimeFault
from kruise.runtime.objects import Object

PERIOD: Final = 1.0
"""Seconds between two checks."""
KEPT: Final = 120.0
"""Seconds for which an object is checked after it came."""
ENV: Final = "KUBE_CACHE_MUTATION_DETECTOR"
_SHOWN: Final = 10


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
        return env.get(ENV, "").strip().lower() in ("1", "t", "true")

    def track(self, obj: Object) -> None:
        """Remember *obj* as it is now."""
        self._kept.append((self._clock.monotonic(), obj, msgspec.json.encode(obj)))

    def check(self) -> None:
        """Compare all that is kept. Raises CacheMutated for the first object that differs."""
        for _, obj, before in self._kept:
            after = msgspec.json.encode(obj)
            if after != before:
                raise CacheMutated(_describe(obj, before, after))
        # Dropped after the comparison: an object must not leave without its last one.
        old = self._clock.monotonic() - KEPT
        while self._kept and self._kept[0][0] <= old:
            self._kept.popleft()

    async def run(self) -> None:
        """Check every second until cancelled. Raises CacheMutated."""
        while True:
            await self._clock.sleep(PERIOD)
            self.check()

    def __len__(self) -> int:
        return len(self._kept)


def _describe(obj: Object, before: bytes, after: bytes) -> str:
    changes = list(_differences(msgspec.json.decode(before), msgspec.json.decode(after), "$"))
    shown = "; ".join(changes[:_SHOWN]) or "the order of members"
    more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return (
        f"{obj.kind or type(obj).__name__} {obj.key} was modified in the cache: {shown}{more}; "
        "build a patch from thaw(obj) instead"
    )


def _differences(before: Any, after: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            where = f"{path}.{name}"
            if name not in after:
                yield f"{where} removed"
            elif name not in before:
                yield f"{where} added"
            else:
                yield from _differences(before[name], after[name], where)
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{path} had {len(before)} elements, has {len(after)}"
        else:
            for i, (old, new) in enumerate(zip(before, after, strict=True)):
                yield from _differences(old, new, f"{path}[{i}]")
    elif before != after:
        yield f"{path} has another value"
