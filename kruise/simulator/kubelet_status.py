"""What a kubelet writes: phase, conditions and container statuses of a pod, from what is remembered of it.

Purpose: the status fields that a kubelet owns, complete, so that the shell can send what differs.

Guarantees:

* Readiness gates count in Ready and are never written.
* A condition keeps its lastTransitionTime while its status stays the same, whoever wrote it.
* Reasons are those that Kubernetes' kubelets write, because controllers and people read them.

What this does not do: conditions of others (gates, DisruptionTarget of an eviction by API) are not part of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kruise.runtime.clock import format_time
from kruise.simulator.behaviour import Behaviour
from kruise.simulator.kubelet_containers import KILLED, ready, reported_image
from kruise.simulator.kubelet_types import ContainerState, Exit, Place, PodState, SimPod, Stage

SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"
RUNNING: Final = "Running"
PENDING: Final = "Pending"

OWNED_CONDITIONS: Final = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
)
"""The condition types that a kubelet writes and takes away."""

NOT_FOUND: Final = "ContainerStatusUnknown"
_PULL_WAITS: Final = {
    Stage.PULL_ERROR: ("ErrImagePull", 'failed to pull and unpack image "{image}": not found'),
    Stage.PULL_BACKOFF: ("ImagePullBackOff", 'Back-off pulling image "{image}"'),
}


def build(pod: SimPod, state: PodState, behaviour: Behaviour, place: Place, now: float) -> dict[str, Any]:
    """Return the status at *now*."""
    phase = state.final or _phase(pod, state)
    status: dict[str, Any] = {
        "phase": phase,
        "startTime": format_time(state.accepted),
        "hostIP": place.host_ip,
        "hostIPs": [{"ip": place.host_ip}],
    }
    if pod.metadata.generation:
        status["observedGeneration"] = pod.metadata.generation
    if state.rejected is not None:
        status["reason"], status["message"] = state.rejected
    elif state.stop is not None and state.stop.reason:
        status["reason"], status["message"] = state.stop.reason, state.stop.message
    if state.rejected is None:
        if _has_sandbox(state):
            status["podIP"] = state.pod_ip
            status["podIPs"] = [{"ip": state.pod_ip}]
        inits = pod.spec.get("initContainers") or ()
        if inits:
            status["initContainerStatuses"] = [_container(one, state, behaviour, now, init=True) for one in inits]
        mains = pod.spec.get("containers") or ()
        status["containerStatuses"] = [_container(one, state, behaviour, now, init=False) for one in mains]
    status["conditions"] = _conditions(pod, state, behaviour, phase, now)
    return status


def _has_sandbox(state: PodState) -> bool:
    return any(c.stage is not Stage.WAITING for c in state.containers.values())


def _phase(pod: SimPod, state: PodState) -> str:
    if not state.initialized:
        return PENDING
    for one in pod.spec.get("containers") or ():
        c = state.containers[one["name"]]
        if not c.alive and c.last is None:
            return PENDING
    return RUNNING


# ---- containers ------------------------------------------------------------------------------------------------------


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Tell whether an init container runs beside the others (a native sidecar)."""
    return container.get("restartPolicy") == "Always"


def _container(
    spec: Mapping[str, Any], state: PodState, behaviour: Behaviour, now: float, *, init: bool
) -> dict[str, Any]:
    name = spec["name"]
    c = state.containers.get(name, ContainerState())
    image = c.image or reported_image(spec.get("image") or "")
    done = init and not is_sidecar(spec) and c.last is not None and not c.alive and c.last.code == 0
    last = c.previous if c.stage is Stage.TERMINATED else c.last
    status: dict[str, Any] = {
        "name": name,
        "image": c.ran_image or image,
        "imageID": c.image_id,
        "containerID": c.container_id,
        "restartCount": c.restarts,
        "ready": done or ready(c, behaviour.of(name), now),
        "started": c.alive,
        "state": _state(spec, c, state, image),
        "lastState": {"terminated": _terminated(last)} if last is not None else {},
    }
    if c.container_id and state.resize is not None:
        allocated = (state.resize.allocated.get(name) or {}).get("requests")
        if allocated:
            status["allocatedResources"] = allocated
        actual = {k: v for k, v in (state.resize.actual.get(name) or {}).items() if k in ("limits", "requests")}
        if not state.final:
            status["resources"] = actual
    return status


def _state(spec: Mapping[str, Any], c: ContainerState, state: PodState, image: str) -> dict[str, Any]:
    if c.alive:
        assert c.started is not None
        return {"running": {"startedAt": format_time(c.started)}}
    if c.stage is Stage.TERMINATED:
        assert c.last is not None
        return {"terminated": _terminated(c.last)}
    if state.final and state.stop is not None:
        # The pod is over before this container ran, or between two of its runs: kubelets report a loss.
        lost = c.last or Exit(
            KILLED, NOT_FOUND, None, None, "", "The container could not be located when the pod was terminated"
        )
        return {"terminated": _terminated(lost)}
    if c.stage in _PULL_WAITS:
        reason, message = _PULL_WAITS[c.stage]
        return {"waiting": {"reason": reason, "message": message.format(image=image)}}
    if c.stage is Stage.CRASH_BACKOFF:
        return {"waiting": {"reason": "CrashLoopBackOff", "message": f"back-off restarting container {spec['name']}"}}
    uninitialized = c.stage is Stage.WAITING and not state.initialized
    return {"waiting": {"reason": "PodInitializing" if uninitialized and state.containers else "ContainerCreating"}}


def _terminated(end: Exit) -> dict[str, Any]:
    record: dict[str, Any] = {
        "exitCode": end.code,
        "reason": end.reason,
        "startedAt": None if end.started is None else format_time(end.started),
        "finishedAt": None if end.finished is None else format_time(end.finished),
    }
    if end.container_id:
        record["containerID"] = end.container_id
    if end.message:
        record["message"] = end.message
    return record


# ---- conditions ------------------------------------------------------------------------------------------------------


def _conditions(pod: SimPod, state: PodState, behaviour: Behaviour, phase: str, now: float) -> list[dict[str, Any]]:
    found = {c["type"]: c for c in pod.status.get("conditions") or ()}
    wanted: list[tuple[str, bool, str, str]] = []
    if state.rejected is None:
        wanted.append(("PodReadyToStartContainers", _has_sandbox(state) and not state.final, "", ""))
        wanted.append(_initialized(pod, state, phase))
        containers = _containers_ready(pod, state, behaviour, phase, now)
        wanted += [_ready(pod, containers, found), containers]
    if state.rejected is None:
        wanted.append(("PodScheduled", True, "", ""))
    if state.resize is not None and not state.final:
        if state.resize.problem:
            wanted.append(("PodResizePending", True, state.resize.problem, state.resize.message))
        if state.resize.allocated != state.resize.actual:
            wanted.append(("PodResizeInProgress", True, "", ""))
    if state.stop is not None and state.stop.reason == "Evicted":
        wanted.append(("DisruptionTarget", True, "TerminationByKubelet", state.stop.message))
    return [_condition(found.get(kind), kind, on, reason, message, now) for kind, on, reason, message in wanted]


def _condition(
    old: Mapping[str, Any] | None, kind: str, on: bool, reason: str, message: str, now: float
) -> dict[str, Any]:
    status = "True" if on else "False"
    same = old is not None and old.get("status") == status and old.get("lastTransitionTime")
    made = {
        "type": kind,
        "status": status,
        "lastTransitionTime": old["lastTransitionTime"] if same and old is not None else format_time(now),
    }
    if reason:
        made["reason"] = reason
    if message:
        made["message"] = message
    return made


def _initialized(pod: SimPod, state: PodState, phase: str) -> tuple[str, bool, str, str]:
    if phase == SUCCEEDED:
        return "Initialized", True, "PodCompleted", ""
    if state.initialized or not pod.spec.get("initContainers"):
        return "Initialized", True, "", ""
    missing = [
        one["name"]
        for one in pod.spec.get("initContainers") or ()
        if not _passed(one, state.containers.get(one["name"], ContainerState()))
    ]
    return "Initialized", False, "ContainersNotInitialized", f"containers with incomplete status: {_names(missing)}"


def _passed(spec: Mapping[str, Any], c: ContainerState) -> bool:
    if is_sidecar(spec):
        return c.alive
    return c.stage is Stage.TERMINATED and c.last is not None and c.last.code == 0


def _containers_ready(
    pod: SimPod, state: PodState, behaviour: Behaviour, phase: str, now: float
) -> tuple[str, bool, str, str]:
    if phase == SUCCEEDED:
        return "ContainersReady", False, "PodCompleted", ""
    if phase == FAILED:
        return "ContainersReady", False, "PodFailed", ""
    unready = [
        name
        for name in _counted(pod.spec)
        if not ready(state.containers.get(name, ContainerState()), behaviour.of(name), now)
    ]
    if unready:
        return "ContainersReady", False, "ContainersNotReady", f"containers with unready status: {_names(unready)}"
    return "ContainersReady", True, "", ""


def _counted(spec: Mapping[str, Any]) -> Iterable[str]:
    for one in spec.get("initContainers") or ():
        if is_sidecar(one):
            yield one["name"]
    for one in spec.get("containers") or ():
        yield one["name"]


def _ready(
    pod: SimPod, containers: tuple[str, bool, str, str], found: Mapping[str, Mapping[str, Any]]
) -> tuple[str, bool, str, str]:
    _, on, reason, message = containers
    if not on:
        return "Ready", False, reason, message
    problems = []
    for gate in pod.spec.get("readinessGates") or ():
        kind = gate["conditionType"]
        condition = found.get(kind)
        if condition is None:
            problems.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif condition.get("status") != "True":
            problems.append(f'the status of pod readiness gate "{kind}" is not "True", but {condition.get("status")}')
    if problems:
        return "Ready", False, "ReadinessGatesNotReady", ", ".join(problems)
    return "Ready", True, "", ""


def _names(names: Sequence[str]) -> str:
    return f"[{' '.join(names)}]"
