"""Which refusals are tried again, and when.

Purpose: two pure decisions about a failed request.

Guarantees:

* RES2: 429 is tried again for every verb, 503 and 504 for reads alone; ``Retry-After`` is the least that is waited,
  with jitter on top; ten tries and sixty seconds of waiting at most. "Too large resource version" is not tried again:
  it is news for the reflector.
* RES3: a write whose answer does not say what became of it has an unknown outcome.

What this does not do: it does not wait and it does not send.
"""

from __future__ import annotations

from typing import Final

from kruise.runtime.clock import Random
from kruise.runtime.errors import ApiError, ServerTimeout, TooLargeResourceVersion, TooManyRequests, Unavailable

MAX_TRIES: Final = 10
MAX_WAITING: Final = 60.0
"""Seconds that one request may spend waiting for its next try, all together. What asks for more is the caller's to
requeue: a worker that sleeps here reconciles nobody."""
_FIRST: Final = 0.1
_LARGEST: Final = 10.0
_JITTER: Final = 0.5


def retry_delay(error: ApiError, *, mutating: bool, tries: int, waited: float, rng: Random) -> float | None:
    """Return the seconds to wait after try number *tries*, or ``None`` when *error* is final."""
    if isinstance(error, TooLargeResourceVersion) or tries >= MAX_TRIES:
        return None
    if isinstance(error, TooManyRequests):
        # An eviction that a budget forbids is a 429 too. It is an answer, not a request to slow down.
        if any(cause.reason == "DisruptionBudget" for cause in error.status.causes):
            return None
    elif mutating or not isinstance(error, Unavailable | ServerTimeout):
        return None
    asked = error.status.retry_after
    least = asked if asked is not None else min(_LARGEST, _FIRST * 2 ** (tries - 1))
    delay = max(least, _FIRST) * (1.0 + _JITTER * rng.random()) if asked != 0 else _FIRST * rng.random()
    return None if waited + delay > MAX_WAITING else delay


def outcome_unknown(error: ApiError) -> bool:
    """Tell whether a write that was answered with *error* may have happened all the same (RES3)."""
    status = error.status
    if status.code in (502, 503, 504):
        return True
    # 500 is usually a refusal by a webhook, which is known not to have happened. It also stands for etcd's own
    # time-outs, and for a proxy that speaks instead of the API server (it gives no reason).
    return status.code >= 500 and (
        not status.reason or status.reason in ("ServerTimeout", "Timeout") or "etcdserver:" in status.message
    )
