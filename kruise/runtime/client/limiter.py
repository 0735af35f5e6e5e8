"""A token bucket for those who ask for one.

Purpose: ``--rest-config-qps`` and ``--rest-config-burst`` keep their meaning.

Guarantees:

* RES1: there is no limiter unless somebody makes one; the API server's own priority and fairness is the limit.
* The lease never passes here: a limiter that renewals share takes leadership away exactly when the process is busy
  (kueue#6256). ``rest.py`` keeps it out.
* Callers are served in the order in which they came; one that is cancelled gives its token back.

What this does not do: it knows nothing of what the server answers; that is the work of ``window.py``.
"""

from __future__ import annotations

import asyncio

from kruise.runtime.clock import Clock
from kruise.runtime.errors import ConfigError


class RateLimiter:
    """A bucket of *burst* tokens that fills with *qps* tokens a second."""

    def __init__(self, qps: float, burst: int, *, clock: Clock) -> None:
        if qps <= 0:
            raise ConfigError(f"--rest-config-qps={qps}: must be above 0; leave it out for no limit")
        if burst < 1:
            raise ConfigError(f"--rest-config-burst={burst}: must be at least 1")
        self._qps = qps
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock.monotonic()

    def _fill(self) -> None:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._qps)
        self._at = now

    async def acquire(self) -> float:
        """Take a token, and wait for it if need be; return the seconds waited. Can be cancelled."""
        self._fill()
        self._tokens -= 1.0
        if self._tokens >= 0.0:
            return 0.0
        # The debt is the place in the queue: whoever comes later owes more and waits longer.
        wait = -self._tokens / self._qps
        try:
            await self._clock.sleep(wait)
        except asyncio.CancelledError:
            self._tokens += 1.0
            raise
        return wait
