"""What a single pod is, to a StatefulSet: created, ready, healthy, available, updated.

Purpose: one function for each question of spec/advanced-statefulset 4, so that planner, status and invariants mean the
same (reliability, rule 26).

Guarantees: a pod that cannot be decoded exists and is neither ready nor available; its revision is still known.

What this does not do: nothing here knows the other pods of the set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kruise.apis.core import Container, ContainerStatus, Pod
from kruise.apis.statefulset import LABEL_REVISION
from kruise.controllers.common.lifecycle import State, state_of
from kruise.controllers.common.readiness import READY, condition_of
from kruise.controllers.common.reasons import WAITING_REASONS, Reason
from kruise.runtime.clock import parse_time
from kruise.runtime.objects import Object, Unreadable

__all__ = [
    "is_available",
    "is_created",
    "is_finished",
    "is_healthy",
    "is_normal",
    "is_ready",
    "ready_since",
    "revision_of",
    "short_hash",
    "stuck_reason",
    "waiting_text",
]

_FINISHED: Final = ("Failed", "Succeeded")


def is_created(pod: Pod | Unreadable) -> bool:
    """Tell whether the pod counts as created: the server gave it a phase. One that nobody can read exists."""
    return isinstance(pod, Unreadable) or bool(pod.status.phase)


def is_finished(pod: Pod | Unreadable) -> bool:
    """Tell whether the pod failed or succeeded; neither will ever be ready again."""
    return isinstance(pod, Pod) and pod.status.phase in _FINISHED


def is_ready(pod: Pod | Unreadable) -> bool:
    """Tell whether the pod runs and its Ready condition is True."""
    if isinstance(pod, Unreadable) or pod.status.phase != "Running":
        return False
    ready = condition_of(pod, READY)
    return ready is not None and ready.status == "True"


def ready_since(pod: Pod) -> float | None:
    """Return the wall time at which Ready changed last; ``None`` when it does not say."""
    ready = condition_of(pod, READY)
    return parse_time(ready.last_transition_time) if ready is not None else None


def is_normal(pod: Object) -> bool:
    """Tell whether no hook and no update holds the pod: its lifecycle state is Normal, or it has none."""
    return state_of(pod.metadata) in (State.NONE, State.NORMAL)


def is_healthy(pod: Pod | Unreadable) -> bool:
    """Tell whether the pod is ready, normal, and not on its way out."""
    return is_ready(pod) and is_normal(pod) and not pod.terminating


def is_available(pod: Pod | Unreadable, min_ready: int, now: float) -> tuple[bool, float]:
    """Tell whether the pod was ready for *min_ready* seconds at wall time *now*, and for how long it must wait yet.

    The wait of a pod that is not ready at all is 0: time alone does not help. A Ready condition without a time counts
    as made this moment.
    """
    if not (isinstance(pod, Pod) and is_normal(pod) and is_ready(pod)):
        return False, 0.0
    if min_ready <= 0:
        return True, 0.0
    since = ready_since(pod)
    wait = min_ready if since is None else since + min_ready - now
    return wait <= 0, max(0.0, wait)


def revision_of(pod: Object) -> str:
    """Return the name of the revision that the pod is at, by its label (X39)."""
    return pod.metadata.labels.get(LABEL_REVISION, "")


def short_hash(revision: str) -> str:
    """Return the last part of a revision's name: some labels hold no more than that."""
    return revision.rpartition("-")[2]


def _waiting(pod: Pod) -> Iterator[ContainerStatus]:
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        if status.state.waiting is not None and status.state.waiting.reason in WAITING_REASONS:
            yield status


def _containers(pod: Pod) -> Iterator[Container]:
    yield from pod.spec.init_containers
    yield from pod.spec.containers


def stuck_reason(pod: Pod) -> Reason | None:
    """Return why the pod does not get on by itself; ``None`` when it starts, runs or is gone."""
    for status in _waiting(pod):
        assert status.state.waiting is not None
        return WAITING_REASONS[status.state.waiting.reason]
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled is not None and scheduled.status == "False" and scheduled.reason == "Unschedulable":
        return Reason.POD_UNSCHEDULABLE
    return None


def waiting_text(pod: Pod) -> str:
    """Return what the kubelet or the scheduler says about a pod that does not get on."""
    for status in _waiting(pod):
        waiting = status.state.waiting
        assert waiting is not None
        said = f": {waiting.message}" if waiting.message else ""
        # Not the image of the status: until there is another run, a kubelet shows that of the one before.
        image = next((c.image for c in _containers(pod) if c.name == status.name), status.image)
        return f"container {status.name} ({image}) is waiting: {waiting.reason}{said}"
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return scheduled.message or scheduled.reason
    return ""
