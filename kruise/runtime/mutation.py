"""Find whoever changes a shared object.

Purpose: cached objects are shared by all readers. Types freeze their fields, but not the label and annotation maps in
them; a controller that changes one changes what every other sees, and no watch event will ever tell.

Guarantees:

* OBJ3: with ``KUBE_CACHE_MUTATION_DETECTOR=true`` (the variable of client-go) each cached object is compared with what
  it was, every second for two minutes after it came. A change raises :class:`ObjectMutated`, which shows what changed.
* Without the variable nothing is remembered, and :meth:`MutationDetector.add` costs one comparison.

What this does not do: it does not say who did it, only when at the latest. It shows the names of fields that changed
and the kinds of their values, never a value: a label is nobody's secret, but an environment variable may be.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kruise.runtime.clock import Clock
from kruise.runtime.errors import RuntimeFault
from kruise.runtime.objects import Key, Object

VARIABLE: Final = "KUBE_CACHE_MUTATION_DETECTOR"
PERIOD: Final = 1.0
"""Seconds between two checks."""
RETENTION: Final = 120.0
"""Seconds for which an object is checked after it came."""
_MAX_SHOWN: Final = 10


class ObjectMutated(RuntimeFault):
    """A cached object was changed in place. The text names the object and each changed field."""


def enabled(environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether the detector is switched on by *environment*, by default that of the process."""
    values = os.environ if environment is None else environment
    return values.get(VARIABLE, "").strip().lower() in ("1", "t", "true")


@dataclass(frozen=True, slots=True)
class _Kept:
    obj: Object
    content: bytes
    until: float


class MutationDetector:
    """Remembers objects and compares them. One for each cache; call :meth:`add` for every object that is stored."""

    def __init__(
        self, clock: Clock, *, active: bool | None = None, period: float = PERIOD, retention: float = RETENTION
    ) -> None:
        self.active = enabled() if active is None else active
        self._clock = clock
        self._period = period
        self._retention = retention
        self._kept: deque[_Kept] = deque()

    def add(self, obj: Object) -> None:
        """Watch over *obj* from now on."""
        if self.active:
            until = self._clock.monotonic() + self._retention
            self._kept.append(_Kept(obj, msgspec.json.encode(obj), until))

    def check(self) -> None:
        """Compare every object with what it was. Raises ObjectMutated for the first that differs."""
        for kept in self._kept:
            now = msgspec.json.encode(kept.obj)
            if now != kept.content:
                raise ObjectMutated(_describe(kept.obj, kept.content, now))
        # Dropped after the check: an object must not leave without its last one.
        limit = self._clock.monotonic()
        while self._kept and self._kept[0].until <= limit:
            self._kept.popleft()

    async def run(self) -> None:
        """Check every second until cancelled. Raises ObjectMutated. Returns at once when the detector is off."""
        while self.active:
            await self._clock.sleep(self._period)
            self.check()

    def __len__(self) -> int:
        return len(self._kept)


def _describe(obj: Object, before: bytes, after: bytes) -> str:
    changes = list(_differences(msgspec.json.decode(before), msgspec.json.decode(after), "$"))
    shown = "; ".join(changes[:_MAX_SHOWN])
    more = f"; and {len(changes) - _MAX_SHOWN} more" if len(changes) > _MAX_SHOWN else ""
    key: Key = obj.key
    return (
        f"the cached {obj.kind or type(obj).__name__} {key} was changed in place: {shown or 'order of members'}{more}; "
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
        same = type(before) is type(after)
        yield f"{path} has another value" if same else f"{path} was {_kind(before)}, is {_kind(after)}"


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
