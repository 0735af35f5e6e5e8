"""Why something does not happen: one vocabulary for conditions, events, metrics, logs and the command line.

Purpose: planners return these values from the start, so that every surface says the same word for the same thing.

Guarantees: the names are stable; each reason has a section in the documentation of the kinds that use it.

What this does not do: it judges nothing. Planners decide; this names.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kruise.runtime.errors import ApiError, Forbidden, Invalid, RuntimeFault

__all__ = ["WAITING_REASONS", "Decision", "NameConflictError", "Reason", "nameless", "reason_of_refusal"]


class Reason(enum.StrEnum):
    """The words of the product for "why not"."""

    # Every kind.
    PAUSED = "Paused"
    POD_TERMINATING = "PodTerminating"
    POD_UNSCHEDULABLE = "PodUnschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CRASH_LOOPING = "CrashLooping"
    READINESS_FAILING = "ReadinessFailing"
    ADMISSION_DENIED = "AdmissionDenied"
    QUOTA_EXCEEDED = "QuotaExceeded"
    EXPECTATION_PENDING = "ExpectationPending"
    POD_UNREADABLE = "PodUnreadable"

    # Advanced StatefulSet.
    PARTITION_HELD = "PartitionHeld"
    MAX_UNAVAILABLE_REACHED = "MaxUnavailableReached"
    ON_DELETE = "OnDelete"
    WAITING_FOR_PREDECESSOR = "WaitingForPredecessor"
    WAITING_MIN_READY = "WaitingMinReady"
    VOLUME_CLAIM_PENDING = "VolumeClaimPending"
    VOLUME_RESIZING = "VolumeResizing"
    LIFECYCLE_HOOK_BLOCKED = "LifecycleHookBlocked"
    IN_PLACE_GRACE_PERIOD = "InPlaceGracePeriod"
    IN_PLACE_NOT_POSSIBLE = "InPlaceNotPossible"
    SCALING = "Scaling"
    UPDATING = "Updating"
    COMPLETE = "Complete"
    NOT_PAUSED = "NotPaused"
    ENOUGH_AVAILABLE = "MinimumReplicasAvailable"
    TOO_FEW_AVAILABLE = "MinimumReplicasUnavailable"

    # SidecarSet.
    NOT_UPDATE = "NotUpdate"
    NAMESPACE_NOT_SELECTED = "NamespaceNotSelected"
    SELECTOR_MISMATCH = "SelectorMismatch"
    CREATED_BEFORE_SIDECAR_SET = "CreatedBeforeSidecarSet"
    IMMUTABLE_FIELD_CHANGED = "ImmutableFieldChanged"
    INJECTION_PAUSED = "InjectionPaused"
    INJECTION_EXEMPT = "InjectionExempt"
    REVISION_PINNED = "RevisionPinned"
    CONTAINER_NAME_CONFLICT = "ContainerNameConflict"
    NOT_INJECTED = "NotInjected"
    INJECTED = "Injected"
    PRIVILEGES_FOUND = "PrivilegesFound"

    # BroadcastJob.
    NODE_CORDONED = "NodeCordoned"
    TAINT_NOT_TOLERATED = "TaintNotTolerated"
    NODE_AFFINITY_MISMATCH = "NodeAffinityMismatch"
    INSUFFICIENT_RESOURCES = "InsufficientResources"
    PARALLELISM_LIMIT = "ParallelismLimit"
    JOB_PAUSED = "JobPaused"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    POD_PENDING = "PodPending"
    POD_RUNNING = "PodRunning"
    POD_FAILED = "PodFailed"
    POD_SUCCEEDED = "PodSucceeded"
    NAME_CONFLICT = "NameConflict"
    NO_ELIGIBLE_NODE = "NoEligibleNode"
    ALL_NODES_DONE = "AllNodesDone"
    INVALID_SPEC = "InvalidSpec"
    JOB_COMPLETE = "JobComplete"
    JOB_FAILED = "JobFailed"


WAITING_REASONS: Final[Mapping[str, Reason]] = {
    "ErrImagePull": Reason.IMAGE_PULL_FAILED,
    "ImagePullBackOff": Reason.IMAGE_PULL_FAILED,
    "InvalidImageName": Reason.IMAGE_PULL_FAILED,
    "ErrImageNeverPull": Reason.IMAGE_PULL_FAILED,
    "CrashLoopBackOff": Reason.CRASH_LOOPING,
}
"""What a kubelet says of a container that does not start, and the word for it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Why one slot (a pod, a node) is not acted on although it is not yet as desired."""

    reason: Reason
    subject: str
    """The node or pod: ``node n1``."""
    evidence: str = ""
    """What was seen: ``pod sweep-x is waiting: ImagePullBackOff``."""
    since: str | None = None
    """RFC 3339, where it is known."""
    unblocked_by: str = ""
    """What would change it."""
    detail: dict[str, str] = field(default_factory=dict)
    """Machine-readable parts of the evidence: pod, node, exitCode."""
    next_check: float | None = None
    """Seconds after which time alone may change the answer; ``None``: it takes an event."""


class NameConflictError(RuntimeFault):
    """The name of a child is taken by an object that is none of its owner's. The text names both."""


def reason_of_refusal(error: Exception) -> Reason | None:
    """Return why an object could not be created; ``None`` for a fault that passes by itself."""
    if isinstance(error, NameConflictError):
        return Reason.NAME_CONFLICT
    if isinstance(error, Forbidden):
        return Reason.QUOTA_EXCEEDED if "exceeded quota" in error.status.message else Reason.ADMISSION_DENIED
    if isinstance(error, Invalid):
        return Reason.ADMISSION_DENIED
    if isinstance(error, ApiError) and "denied the request" in error.status.message:
        return Reason.ADMISSION_DENIED
    return None


def nameless(error: Exception) -> str:
    """Return what the server refused, without the object's name: one cause is one event, on however many pods."""
    text = str(error) or type(error).__name__
    if not isinstance(error, ApiError) or not error.status.name:
        return text
    return text.replace(f' "{error.status.name}"', "").replace(f"/{error.status.name}:", ":")
