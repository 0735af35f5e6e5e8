"""BroadcastJob, ``apps.kruise.io``: run a pod to completion on every eligible node. The typed view of a job.

Guarantees: both served versions, v1beta1 (stored) and v1alpha1, have the same fields; the defaults of the types equal
the API's, so a job reads the same with and without admission; the pod template stays the bytes that the user gave.

What this does not do: defaulting, validation and conversion are in ``broadcastjob_rules``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kruise.apis.group import GROUP
from kruise.runtime.objects import Object, Resource

__all__ = [
    "BROADCASTJOBS",
    "BROADCASTJOBS_V1ALPHA1",
    "LABEL_CONTROLLER_UID",
    "LABEL_JOB_NAME",
    "NODE_UID_ANNOTATION",
    "NO_LIMIT",
    "BroadcastJob",
    "BroadcastJobSpec",
    "BroadcastJobStatus",
    "CompletionPolicy",
    "FailurePolicy",
    "JobCondition",
]

LABEL_JOB_NAME: Final = "broadcastjob-name"
"""On every pod of a job: the name of the job."""
LABEL_CONTROLLER_UID: Final = "broadcastjob-controller-uid"
"""On every pod of a job: the uid of the job."""
NODE_UID_ANNOTATION: Final = "apps.kruise.io/broadcastjob-node-uid"
"""On every pod that we create: the uid of the node for which it was created."""
NO_LIMIT: Final = 2147483647
"""The default of parallelism: every node at once."""

ALWAYS: Final = "Always"
NEVER: Final = "Never"
FAIL_FAST: Final = "FailFast"
CONTINUE: Final = "Continue"
PAUSE: Final = "Pause"

PHASE_RUNNING: Final = "running"
PHASE_PAUSED: Final = "paused"
PHASE_COMPLETED: Final = "completed"
PHASE_FAILED: Final = "failed"

COMPLETE: Final = "Complete"
FAILED: Final = "Failed"
PROGRESSING: Final = "Progressing"

EMPTY_TEMPLATE: Final = msgspec.Raw(b"{}")


class CompletionPolicy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """When the job counts as done. Any type but ``Never`` behaves like ``Always`` (spec/broadcastjob 1.1)."""

    type: str = ALWAYS
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None


class FailurePolicy(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What a failed pod means for the job. An unknown type behaves like ``Continue``."""

    type: str = FAIL_FAST
    restart_limit: int = 0


class BroadcastJobSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What the user wants."""

    parallelism: int | str | None = None
    template: msgspec.Raw = EMPTY_TEMPLATE
    """The bytes of the pod template: pods are made from them, so no unknown field is lost."""
    completion_policy: CompletionPolicy = CompletionPolicy()
    paused: bool = False
    failure_policy: FailurePolicy = FailurePolicy()


class JobCondition(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One condition of a job."""

    type: str = ""
    status: str = ""
    last_probe_time: str | None = None
    last_transition_time: str | None = None
    reason: str = ""
    message: str = ""


class BroadcastJobStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """What was reached. Counts and phase are always written, zeros too."""

    conditions: tuple[JobCondition, ...] = ()
    start_time: str | None = None
    completion_time: str | None = None
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    desired: int = 0
    phase: str = ""
    observed_generation: int = 0


class BroadcastJob(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A BroadcastJob."""

    spec: BroadcastJobSpec = BroadcastJobSpec()
    status: BroadcastJobStatus = BroadcastJobStatus()


BROADCASTJOBS: Final[Resource[BroadcastJob]] = Resource(
    GROUP, "v1beta1", "BroadcastJob", "broadcastjobs", BroadcastJob, custom=True
)
BROADCASTJOBS_V1ALPHA1: Final[Resource[BroadcastJob]] = Resource(
    GROUP, "v1alpha1", "BroadcastJob", "broadcastjobs", BroadcastJob, custom=True
)
