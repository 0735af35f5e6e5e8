"""The writes of one pod's life: preparing, starting and finishing an in-place update, preparing a deletion.

The signatures; the planner builds against them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kruise.apis.core import Pod
from kruise.apis.statefulset import IN_PLACE_IF_POSSIBLE, Lifecycle
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.writes import PodWrite
from kruise.controllers.common.lifecycle import State

if TYPE_CHECKING:
    from kruise.controllers.common.inplace.spec import NotPossible, UpdateSpec

__all__ = ["Flow", "Outcome", "delete_step", "refresh", "start"]


class Outcome(enum.Enum):
    """What a step of a pod's life came to."""

    NOTHING = "nothing"
    """Everything is as it shall be."""
    WAITING = "waiting"
    """An update is under way; ``evidence`` says for what it waits, ``delay`` until when where time alone ends it."""
    HELD = "held"
    """A lifecycle hook holds the pod; ``evidence`` names it."""
    PREPARED = "prepared"
    """The writes move the pod to PreparingUpdate or PreparingDelete."""
    STARTED = "started"
    """The writes start the in-place update."""
    CONTINUED = "continued"
    """The writes go on with an update: the next batch, or the end of the grace period."""
    REFRESHED = "refreshed"
    """The writes change conditions or the lifecycle label only."""
    DELETE = "delete"
    """Nobody holds the pod: delete it now."""
    RECREATE = "recreate"
    """An update in place is not possible, or not wanted: go through :func:`delete_step`."""
    REFUSED = "refused"
    """Not possible at all; ``error`` says why. Try again with back-off."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What to write to one pod now, each write on the version that the one before returned."""

    writes: tuple[PodWrite, ...] = ()
    delay: float | None = None
    """Seconds after which time alone changes the answer."""
    outcome: Outcome = Outcome.NOTHING
    state: State | None = None
    """The lifecycle state that the writes bring about; ``None`` when they leave it."""
    disrupts: bool = False
    """The writes take the pod out of service, or may: they need room in the budget if it is available."""
    evidence: str = ""
    """What the pod waits for, for people."""
    error: str = ""


def start(
    pod: Pod,
    spec: UpdateSpec | NotPossible,
    *,
    lifecycle: Lifecycle | None,
    now: float,
    gates: Gates,
    policy: str = IN_PLACE_IF_POSSIBLE,
) -> Flow:
    """Decide the step of a pod that shall be updated (spec 7.2): PREPARED, HELD, STARTED, RECREATE or REFUSED.

    A pod that is started needs no :func:`refresh` in the same pass. The grace period stands in *spec*.
    """
    raise NotImplementedError


def refresh(
    pod: Pod,
    *,
    lifecycle: Lifecycle | None,
    update_revision: str,
    now: float,
    gates: Gates,
    update_wanted: bool = True,
    deletion_wanted: bool = True,
) -> Flow:
    """Decide what goes on by itself (spec 7.7 and 8.2): grace, batches, conditions, lifecycle.

    *update_wanted* is False where the pod shall stay on the revision it has (OnDelete, below the partition);
    *deletion_wanted* is False where no cause to delete the pod is left (row 8): only then a pod leaves PreparingDelete.
    """
    raise NotImplementedError


def delete_step(pod: Pod, *, lifecycle: Lifecycle | None, now: float, gates: Gates) -> Flow:
    """Decide the step of a pod that shall be deleted (spec 5.5): DELETE, PREPARED or HELD."""
    raise NotImplementedError
