"""What passes between the worker loop and a reconcile function: results, context, needs.

Purpose: the small types that everybody who writes a controller sees.

Guarantees:

* CTL4: a reconcile returns :class:`Done` or :class:`After`; errors are raised.
* CTL9: what a runnable needs before it may run is a value of :class:`Needs`, not a flag that somebody may forget.
* CON1: :func:`record_write` credits a write to the key that is being reconciled in this task, and in all tasks that
  the reconcile starts.

What this does not do: it runs nothing.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Protocol

from kruise.runtime.cache.consistency import ConsistencyTracker, Write
from kruise.runtime.objects import Key


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to do until something changes."""


@dataclass(frozen=True, slots=True)
class After:
    """Look again in *seconds*, whatever happens until then; an event makes it sooner.

    Zero or less means "as soon as the rate limiter allows": a result that is always due must not spin.
    """

    seconds: float
    priority: int | None = None
    """The priority of the next run. Defaults to that of this one."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.seconds):
            raise ValueError(f"After({self.seconds}): want a finite number of seconds")


Result = Done | After
Reconcile = Callable[[Key], Awaitable[Result]]
"""Bring the world one step closer to what the object of this key asks for. Level-triggered: it is never told why."""


class Needs(enum.Enum):
    """What a runnable waits for (CTL9)."""

    LEADER = "leader"
    """Runs while this process leads. The default of every controller."""
    ALWAYS = "always"
    """Runs in every replica."""
    WARMUP = "warmup"
    """Runs in every replica, and is started before the election, so that a take-over finds it done."""


class Runnable(Protocol):
    """Whatever a manager runs."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> Needs: ...

    async def run(self) -> None:
        """Run until cancelled, or until the work is done."""
        ...


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """Who is reconciling what in this task."""

    controller: str
    key: Key
    reconcile_id: str
    live: bool = False
    """The cache failed to show this key's own writes in time (CON3): plan on live reads."""
    tracker: ConsistencyTracker | None = field(default=None, repr=False, compare=False)
    give_way: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    """Lets another key have the place of this one; see :func:`only_waiting`."""


current: Final[ContextVar[ReconcileContext | None]] = ContextVar("reconcile", default=None)
"""The reconcile of this task; ``None`` outside of one."""


def only_waiting() -> None:
    """Say that this reconcile has decided, and from here on waits for its writes: another key may be planned meanwhile.

    Its own key stays out of the queue until it returns. May be called again, and outside of a reconcile: nothing then.
    """
    context = current.get()
    if context is not None and context.give_way is not None:
        context.give_way()


def record_write(write: Write) -> None:
    """Hold back the key that is being reconciled until the cache shows *write* (CON1). Outside of one: nothing."""
    context = current.get()
    if context is not None and context.tracker is not None:
        context.tracker.wrote(context.key, write)
