"""The only place that knows time, sleeping and randomness.

Purpose: everything that differs between two runs of the same code comes in through a :class:`Clock` and a
:class:`Random`, so that a test can replace both and replay a run exactly.

Guarantees:

* CLK1: no other module of the project reads a clock, sleeps or draws a number by itself; a lint rule holds it.
* CLK2: deadlines, leases and back-offs use :meth:`Clock.monotonic`; the write fence and the lease use
  :meth:`Clock.boottime`, which goes on while a machine sleeps. Wall time is used for stamps in objects only, always
  UTC, RFC 3339; ``MicroTime`` has exactly six fraction digits, because the API server answers 422 otherwise.
* CLK4: a random source has a seed that it can show.
* CLK5: :class:`LagProbe` measures by how much the event loop is late.

What this does not do: it never promises that two machines agree on the time, nor that wall time moves forward.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import random
import secrets
import time
from collections.abc import Callable
from typing import Final, Protocol


class Random(random.Random):
    """A seeded source of numbers that can tell its seed (CLK4). Always passed in, never the module's own functions.

    >>> Random(7)
    Random(seed=7)
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.seeded_with = seed
        """What makes the same numbers come again."""

    def __repr__(self) -> str:
        return f"Random(seed={self.seeded_with})"


UTC: Final = datetime.UTC


class Clock(Protocol):
    """Reads time and waits. All values are in seconds."""

    def now(self) -> float:
        """Wall time: seconds since the epoch, UTC. For stamps that are written into objects, and for nothing else."""
        ...

    def monotonic(self) -> float:
        """Time for deadlines and back-offs: never jumps, and shares its zero with ``loop.time()``."""
        ...

    def boottime(self) -> float:
        """Time for leases and the write fence: like :meth:`monotonic`, but it counts the time that a machine slept."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; can be cancelled. Zero or less still gives other tasks a turn."""
        ...


_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def hold_up(seconds: float) -> None:
    """Do nothing at all for *seconds*, the event loop included. For ``client/pace.py``, and for nothing else."""
    time.sleep(seconds)


def system_random() -> Random:
    """Return a source seeded by the operating system. The process makes one, in ``main``."""
    return Random(random.SystemRandom().getrandbits(64))


def new_token() -> str:
    """Return a bearer token that nobody can guess. From the operating system, never from a seed: it is a secret."""
    return secrets.token_urlsafe(24)


def new_uuid(rng: Random) -> str:
    """Return a version 4 UUID in its usual form, drawn from *rng*."""
    digits = f"{(rng.getrandbits(128) & ~(0xF << 76) & ~(0x3 << 62)) | (0x4 << 76) | (0x2 << 62):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def format_time(seconds: float) -> str:
    """Return *seconds* since the epoch as Kubernetes writes ``metav1.Time``: ``2026-03-05T10:00:00Z``.

    Fractions are cut, as Go does.
    """
    return _format_second(int(seconds // 1))


@functools.lru_cache(maxsize=16)  # a pass that looks at a hundred pods asks for the same one a hundred times
def _format_second(second: int) -> str:
    return datetime.datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(seconds: float) -> str:
    """Return *seconds* since the epoch as ``metav1.MicroTime``: always six fraction digits.

    >>> format_micro_time(0)
    '1970-01-01T00:00:00.000000Z'
    """
    return datetime.datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str | None) -> float | None:
    """Return the seconds since the epoch that an RFC 3339 stamp names; ``None`` for an absent or malformed one.

    >>> parse_time("1970-01-01T00:01:00Z")
    60.0
    """
    if not text:
        return None
    try:
        stamp = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if stamp.tzinfo is None:
        return None
    return stamp.timestamp()


class LagProbe:
    """Measures how late the event loop runs a callback that is due (CLK5).

    Own it with ``await probe.run()`` inside a TaskGroup. ``lag`` is the last measured delay; :meth:`blocked_for` also
    sees a delay that has not ended yet, because it is asked from outside the measured callback. *on_lag* gets each
    measured delay: it sets the gauge and writes the log.
    """

    def __init__(self, clock: Clock, *, period: float = 1.0, on_lag: Callable[[float], None] | None = None) -> None:
        self._clock = clock
        self._period = period
        self._on_lag = on_lag
        self._expected: float | None = None
        self.lag: float = 0.0
        """The delay of the last callback, in seconds."""
        self.worst: float = 0.0
        """The largest delay seen since the start, in seconds."""

    def blocked_for(self) -> float:
        """Return by how many seconds the next callback is overdue right now; 0 when it is not."""
        if self._expected is None:
            return 0.0
        return max(0.0, self._clock.monotonic() - self._expected)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            self._expected = self._clock.monotonic() + self._period
            await self._clock.sleep(self._period)
            self.lag = max(0.0, self._clock.monotonic() - self._expected)
            self.worst = max(self.worst, self.lag)
            if self._on_lag is not None:
                self._on_lag(self.lag)
