"""What a kubelet knows of a pod when it begins to look at it.

Purpose: a pod without a status is new; one with a status was run by an earlier process of this node, whose containers
went on meanwhile. So a simulator that was killed and started again continues where it was, without a single restart.

Guarantees: containerIDs, restart counts and start times are taken over as they stand.

What this does not do: the exact end of a back-off is not in a status. It is taken from the restart count, which is
right for a loop that never ran for long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kruise.runtime.clock import parse_time
from kruise.simulator.kubelet_resize import wanted
from kruise.simulator.kubelet_types import ContainerState, Exit, Place, PodState, Resize, SimPod, Stage


def from_status(pod: SimPod, now: float, place: Place) -> PodState:
    """Return the state of *pod* as far as its status tells."""
    status = pod.status
    accepted = parse_time(status.get("startTime"))
    if accepted is None:
        return PodState(pod.uid, now, place.pod_ip)
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    containers = {one["name"]: _container(one, now) for one in statuses}
    # The others are started only after the init containers: whatever one of them shows, the condition tells it.
    initialized = any(
        c.get("type") == "Initialized" and c.get("status") == "True" for c in status.get("conditions") or ()
    )
    final = status.get("phase") if pod.finished else ""
    return PodState(
        uid=pod.uid,
        accepted=accepted,
        pod_ip=status.get("podIP") or place.pod_ip,
        containers=containers,
        initialized=initialized and bool(containers),
        final=final or "",
        rejected=(status.get("reason") or "", status.get("message") or "") if final and not containers else None,
        resize=_resize(pod, statuses),
        wake=None,
    )


def _resize(pod: SimPod, statuses: list[Mapping[str, Any]]) -> Resize:
    asked = wanted(pod.spec)
    actual: dict[str, Any] = dict(asked)
    for one in statuses:
        if one["name"] in actual and "resources" in one:
            actual[one["name"]] = one["resources"]
    return Resize(actual, actual)


def _container(status: Mapping[str, Any], now: float) -> ContainerState:
    state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
    restarts = status.get("restartCount") or 0
    common: dict[str, Any] = {
        "image": status.get("image") or "",
        "image_id": status.get("imageID") or "",
        "ran_image": (status.get("image") or "") if status.get("containerID") else "",
        "container_id": status.get("containerID") or "",
        "restarts": restarts,
    }
    previous = None if last is None else _exit(last)
    if running := state.get("running"):
        started = parse_time(running.get("startedAt")) or now
        return ContainerState(Stage.RUNNING, started, started=started, crashes=restarts, last=previous, **common)
    if terminated := state.get("terminated"):
        end = _exit(terminated)
        since = end.finished if end.finished is not None else now
        return ContainerState(
            Stage.TERMINATED,
            since,
            started=end.started,
            crashes=restarts + 1,
            last=end,
            previous=previous,
            **common,
        )
    waiting = (state.get("waiting") or {}).get("reason")
    if waiting in ("ErrImagePull", "ImagePullBackOff"):
        stage = Stage.PULL_ERROR if waiting == "ErrImagePull" else Stage.PULL_BACKOFF
        return ContainerState(stage, now, pulls=1, first_pull=now, last=previous, **common)
    if waiting == "CrashLoopBackOff" and previous is not None:
        since = previous.finished if previous.finished is not None else now
        return ContainerState(Stage.CRASH_BACKOFF, since, crashes=restarts + 1, last=previous, **common)
    return ContainerState(Stage.WAITING, now, last=previous, **common)


def _exit(record: Mapping[str, Any]) -> Exit:
    return Exit(
        code=record.get("exitCode") or 0,
        reason=record.get("reason") or "",
        started=parse_time(record.get("startedAt")),
        finished=parse_time(record.get("finishedAt")),
        container_id=record.get("containerID") or "",
        message=record.get("message") or "",
    )
