"""What a plan of an Advanced StatefulSet consists of: steps, and the chains that they form.

Purpose: the values that the planner hands to the shell, which performs them without deciding anything.

Guarantees:

* Every step carries the very object on which it was decided, so that the write can name its uid and resource version
  (reliability, rules 1 and 4).
* The steps of one chain concern one ordinal and happen in their order; none is begun after one that failed. Chains are
  independent of each other: they may run at the same time, and one that fails stops no other (rule 30).
* A step that takes a working pod down says so (``disrupts``): its deletion carries the resource version too.
* The bodies of creations are built when they are sent, not when they are planned.

What this does not do: it knows no client, and no answer of a server.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kruise.apis.core import Claim, Pod
from kruise.controllers.common.inplace.writes import PodWrite

__all__ = [
    "Chain",
    "CreateClaim",
    "CreatePod",
    "DeletePod",
    "Failure",
    "PatchClaim",
    "PatchPod",
    "PlannedEvent",
    "Results",
    "Step",
    "Why",
]


class Why(enum.StrEnum):
    """What a step is for. The shell words events by it, the status counts by it."""

    SCALE_UP = "scale-up"
    """A pod of the range is missing."""
    SCALE_DOWN = "scale-down"
    """The ordinal is not in the range any more."""
    FAILED = "failed"
    """The pod failed or succeeded, and is replaced."""
    SPECIFIED = "specified"
    """The user asked for its replacement by a label."""
    UPDATE = "update"
    """It is not on the update revision."""
    PREPARE = "prepare"
    """It enters PreparingUpdate or PreparingDelete, where a hook holds it."""
    REFRESH = "refresh"
    """An update that runs goes on or ends: gate True, next batch, end of grace, lifecycle."""
    REPAIR = "repair"
    """Its identity or its volumes are not as they must be."""
    RETENTION = "retention"
    """The owners of a claim are not what the retention policy says."""
    RESIZE = "resize"
    """A claim grows to the size of its template."""


@dataclass(frozen=True, slots=True)
class CreateClaim:
    """Create a claim that is missing, with its final owner references (spec 17.4)."""

    name: str
    build: Callable[[], dict[str, Any]] = field(compare=False, repr=False)
    """Returns the body; to be called once, when it is sent."""


@dataclass(frozen=True, slots=True)
class PatchClaim:
    """Change a claim: its owners (strategic merge patch body without uid and resourceVersion), or its size."""

    claim: Claim
    patch: dict[str, Any] = field(hash=False)
    why: Why


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create the pod of an ordinal."""

    name: str
    revision: str
    """The name of the ControllerRevision it is built from."""
    build: Callable[[], dict[str, Any]] = field(compare=False, repr=False)
    """Returns the body; to be called once, when it is sent."""


@dataclass(frozen=True, slots=True)
class PatchPod:
    """Change a pod by one or more writes, each on the version that the one before returned."""

    pod: Pod
    writes: tuple[PodWrite, ...]
    why: Why
    disrupts: bool = False
    """It starts an in-place update, which may take the pod down."""
    revision: str = ""
    """With ``Why.UPDATE``: the revision that the pod is updated to, for the event."""


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete a pod, on exactly this version when that takes a working pod down."""

    pod: Pod
    why: Why
    disrupts: bool = True


Step = CreateClaim | PatchClaim | CreatePod | PatchPod | DeletePod


@dataclass(frozen=True, slots=True)
class Chain:
    """The steps of one pod, in order."""

    ordinal: int
    name: str
    """The name of the pod; failures are kept under it."""
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """An event on the set that describes a state: it is reported once, when the state begins."""

    type: str
    reason: str
    note: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that did not succeed. One that merely has to be decided again (409, 422 of a uid) is none."""

    chain: Chain
    step: Step
    error: Exception


@dataclass(frozen=True, slots=True)
class Results:
    """How the chains of a plan went, for the status."""

    done: tuple[tuple[Chain, Step], ...] = ()
    """The steps that succeeded."""
    failures: tuple[Failure, ...] = ()
    """Those of this pass, and those of earlier ones that still wait for their next attempt."""
