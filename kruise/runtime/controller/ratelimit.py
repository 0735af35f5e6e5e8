"""How long a failed key waits, as pure state.

Purpose: the delays between the tries of one key, and the ways to combine them. A limiter is asked when a run has
failed, and told when a key did well; it never sleeps and knows no clock.

Guarantees:

* RAT1: :class:`ItemBackoff` waits 5 ms, doubled per failure up to 5 minutes, less a little jitter, so that the keys of
  one outage do not come back together. A key that was quiet for ten minutes starts anew. Who asks counts a failure: the
  queue asks once per run, however many events arrive (QUE3).
* RAT2: :class:`Bucket` bounds the retries of all keys together, through :func:`max_of`; :class:`FastSlow` and
  :class:`WithMaxWait` exist as in client-go.
* RAT3: :meth:`RateLimiter.forget` is called by the worker loop; a reconciler never has to.

What this does not do: it limits no first runs. An event reaches a healthy key at once, whatever the limiter says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from kruise.runtime.clock import Random
from kruise.runtime.objects import Key

BASE_DELAY: Final = 0.005
"""Seconds after the first failure."""
MAX_DELAY: Final = 300.0
"""Seconds at most. client-go waits up to 1000, which surprises people who have repaired the cause."""


class RateLimiter(Protocol):
    """Decides how long a key waits before its next try. All times are monotonic seconds."""

    def when(self, key: Key, now: float) -> float:
        """Count one failed run of *key*; return the seconds that it waits from *now*."""
        ...

    def forget(self, key: Key) -> None:
        """Start anew with *key*: it did well, or it is another object by now."""
        ...

    def failures(self, key: Key) -> int:
        """Return how many failed runs of *key* are remembered."""
        ...


@dataclass(slots=True)
class _Failures:
    count: int
    due: float


class ItemBackoff:
    """Doubles the delay of a key with each failure in a row (RAT1)."""

    def __init__(
        self,
        rng: Random,
        *,
        base: float = BASE_DELAY,
        cap: float = MAX_DELAY,
        jitter: float = 0.2,
        quiet: float = 600.0,
    ) -> None:
        """Wait *base* seconds, doubled up to *cap*; take off up to *jitter* of it; forget after *quiet* seconds.

        *quiet* counts from the end of the last delay. It has to exceed the longest run, or a slow failure would count
        as quiet.
        """
        if base <= 0 or cap < base or not 0 <= jitter < 1 or quiet <= 0:
            raise ValueError(f"back-off {base=}, {cap=}, {jitter=}, {quiet=}: want 0 < base <= cap, 0 <= jitter < 1")
        self._rng = rng
        self._base = base
        self._cap = cap
        self._jitter = jitter
        self._quiet = quiet
        self._keys: dict[Key, _Failures] = {}

    def when(self, key: Key, now: float) -> float:
        seen = self._keys.get(key)
        count = 0 if seen is None or now - seen.due >= self._quiet else seen.count
        # A float overflows at 2**1024; sixty doublings of any base are past every sensible cap.
        delay = self._cap if count > 60 else min(self._cap, self._base * 2.0**count)
        delay *= 1 - self._jitter * self._rng.random()
        self._keys[key] = _Failures(count + 1, now + delay)
        return delay

    def forget(self, key: Key) -> None:
        self._keys.pop(key, None)

    def failures(self, key: Key) -> int:
        seen = self._keys.get(key)
        return 0 if seen is None else seen.count

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._keys)


class FastSlow:
    """Waits a short delay for the first tries of a key and a long one after them."""

    def __init__(self, fast: float, slow: float, tries: int) -> None:
        self._fast = fast
        self._slow = slow
        self._tries = tries
        self._keys: dict[Key, int] = {}

    def when(self, key: Key, now: float) -> float:  # noqa: ARG002 - the protocol's shape
        count = self._keys.get(key, 0) + 1
        self._keys[key] = count
        return self._fast if count <= self._tries else self._slow

    def forget(self, key: Key) -> None:
        self._keys.pop(key, None)

    def failures(self, key: Key) -> int:
        return self._keys.get(key, 0)


class Bucket:
    """A token bucket over all keys: *qps* retries a second, *burst* of them at once (RAT2)."""

    def __init__(self, qps: float = 10.0, burst: int = 100) -> None:
        if qps <= 0 or burst < 1:
            raise ValueError(f"bucket {qps=}, {burst=}: both must be positive")
        self._qps = qps
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at: float | None = None

    def when(self, key: Key, now: float) -> float:  # noqa: ARG002 - one bucket for all keys
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._qps)
        self._at = now
        self._tokens -= 1
        return 0.0 if self._tokens >= 0 else -self._tokens / self._qps

    def forget(self, key: Key) -> None:
        pass

    def failures(self, key: Key) -> int:  # noqa: ARG002 - it remembers no key
        return 0


class WithMaxWait:
    """Another limiter, with an upper bound on its answer."""

    def __init__(self, limiter: RateLimiter, longest: float) -> None:
        self._limiter = limiter
        self._longest = longest

    def when(self, key: Key, now: float) -> float:
        return min(self._longest, self._limiter.when(key, now))

    def forget(self, key: Key) -> None:
        self._limiter.forget(key)

    def failures(self, key: Key) -> int:
        return self._limiter.failures(key)


class _MaxOf:
    def __init__(self, limiters: Sequence[RateLimiter]) -> None:
        self._limiters = tuple(limiters)

    def when(self, key: Key, now: float) -> float:
        return max(limiter.when(key, now) for limiter in self._limiters)

    def forget(self, key: Key) -> None:
        for limiter in self._limiters:
            limiter.forget(key)

    def failures(self, key: Key) -> int:
        return max(limiter.failures(key) for limiter in self._limiters)


def max_of(*limiters: RateLimiter) -> RateLimiter:
    """Return a limiter that waits as long as the most careful of *limiters*; each of them counts every failure."""
    if not limiters:
        raise ValueError("max_of needs one limiter at least")
    return limiters[0] if len(limiters) == 1 else _MaxOf(limiters)


def default_limiter(
    rng: Random,
    *,
    base: float = BASE_DELAY,
    cap: float = MAX_DELAY,
    qps: float = 0.0,
    burst: int = 0,
) -> RateLimiter:
    """Return the limiter of a controller: per key, and over all keys as well when *qps* is given.

    *burst* defaults to 100 when *qps* is set, as in client-go.
    """
    item = ItemBackoff(rng, base=base, cap=cap)
    return max_of(item, Bucket(qps, burst or 100)) if qps > 0 else item
