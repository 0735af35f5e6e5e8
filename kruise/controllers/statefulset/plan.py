"""What a StatefulSet does next: a pure function of the view and the time. The signatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kruise.apis.statefulset import StatefulSetStatus
from kruise.controllers.common.reasons import Decision
from kruise.controllers.statefulset.actions import Chain, PlannedEvent, Results
from kruise.controllers.statefulset.view import View
from kruise.runtime.objects import EMPTY_MAP

__all__ = ["Plan", "Settled", "plan", "settle"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. The three groups begin in this order, and each may run at once."""

    continuations: tuple[Chain, ...] = ()
    """Refreshes, repairs, and what goes on with updates and deletions that have begun."""
    disruptions: tuple[Chain, ...] = ()
    """Deletions and starts of in-place updates."""
    creates: tuple[Chain, ...] = ()
    """In batches of 1, 16 and the write window; none is begun after one failed."""
    events: tuple[PlannedEvent, ...] = ()
    """Lasting states, each to be reported when it begins."""
    next_check: float | None = None
    """Seconds until time alone changes the answer."""
    error: str = ""
    """What is wrong with the spec or stands in the way of the whole set, naming the field."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Why each pod that is not as desired is not acted on; valid until the view changes."""
        return ()


@dataclass(frozen=True, slots=True)
class Settled:
    """The status after a pass; ``None`` leaves it alone."""

    status: StatefulSetStatus | None
    decisive: bool = False
    """A first, final or awaited status: write it at once."""
    events: tuple[PlannedEvent, ...] = ()
    next_check: float | None = None


def plan(view: View, now: float, *, holds: Mapping[str, bool] = EMPTY_MAP) -> Plan:
    """Decide the next pass at wall time *now*, in seconds.

    *holds* names the pods whose last attempt failed, True while they must wait (``Holds.waiting`` by pod name).
    """
    raise NotImplementedError


def settle(view: View, done: Plan, results: Results, now: float) -> Settled:
    """Return the status after the chains of *done* ended as *results*. ``status.wire`` gives its plain JSON."""
    raise NotImplementedError
