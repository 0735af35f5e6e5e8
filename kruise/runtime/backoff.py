"""Delays of streams, as pure state.

Purpose: how long a list or watch waits before it tries again, so that a failing server sees fewer requests, not more.

Guarantees:

* BAK1: 800 ms, doubled up to 30 s, full jitter; back to the start only after two minutes of sustained health.
* BAK2: :class:`HostBackoff` is shared by all reflectors that talk to one host: many informers wait as one.
* BAK3: a watch that closes within a second without an event counts as a failure (:data:`VERY_SHORT_WATCH`).

What this does not do: it never sleeps, and it knows no clock; the caller passes the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kruise.runtime.clock import Random

VERY_SHORT_WATCH: Final = 1.0
"""Seconds: a watch shorter than this without any event is a failure (BAK3)."""


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """The numbers of a stream back-off, in seconds."""

    initial: float = 0.8
    factor: float = 2.0
    cap: float = 30.0
    jitter: float = 1.0
    """1.0 is full jitter: each delay lies between one and two times its base."""
    reset_after: float = 120.0
    """Seconds of health after which the delay starts again at ``initial``."""


class HostBackoff:
    """The back-off of one failing host, shared by everybody who talks to it (BAK2).

    Failures within one delay count once: ten informers that lose their watch together wait as long as one would.
    """

    def __init__(self, rng: Random, policy: BackoffPolicy | None = None) -> None:
        self._rng = rng
        self._policy = policy or BackoffPolicy()
        self._base = 0.0
        self._until: float | None = None

    def failed(self, now: float) -> float:
        """Count a failure at monotonic time *now*; return the seconds to wait from *now*."""
        p = self._policy
        if self._until is None or now >= self._until:
            # Health begins when the last delay has ended: the time that was only waited proves nothing.
            healthy = self._until is None or now - self._until >= p.reset_after
            self._base = p.initial if healthy else min(p.cap, self._base * p.factor)
            self._until = now + self._base * (1 + p.jitter * self._rng.random())
        return self._until - now

    @property
    def base(self) -> float:
        """The present delay before jitter, in seconds; 0 while nothing has failed."""
        return self._base
