"""One pod on one node: a pure state machine.

Purpose: ``step(pod, own state, now)`` returns the status that the node reports, the state to remember, and when to be
asked again. The same function plays nodes of a real API server, of the embedded one, and of the simulation.

Guarantees:

* The answer depends on the arguments alone. Asking more often, or late, changes nothing but how many of the steps in
  between are seen: what happens by itself happens at its own instant, not at the instant of the question.
* One call makes the changes of one instant at most. When more is due already, ``wake`` lies in the past: the caller
  publishes first, so that a container that is started anew is seen unready in between.
* Init containers run one after the other; native sidecars start among them, go on beside the others, end after them in
  reverse order, and never keep a pod from completing.
* Phases never go back: a pod that Succeeded or Failed changes no more.
* A pod is deleted by its uid, after its last status.

What this does not do: ephemeral containers, restart rules of single containers, startup and liveness probes (use
``sim.kruise.io/exit-code`` and ``ready-seconds``), volumes, static pods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from kruise.simulator import kubelet_containers as machine
from kruise.simulator import kubelet_resize, kubelet_restore, kubelet_status
from kruise.simulator.behaviour import Behaviour
from kruise.simulator.kubelet_containers import ALWAYS, NEVER, ON_FAILURE, Order
from kruise.simulator.kubelet_status import FAILED, SUCCEEDED, is_sidecar
from kruise.simulator.kubelet_types import ContainerState, Exit, Place, PodState, SimPod, Stage, Step, Stop

DEFAULT_GRACE: Final = 30.0
REBOOT_CODE: Final = 255
"""The exit code of a container that was lost with its machine."""


def accept(pod: SimPod, now: float, place: Place, *, refused: tuple[str, str] | None = None) -> PodState:
    """Return the state of a pod that its node sees for the first time, or sees again after a restart.

    *refused* is what :func:`kruise.simulator.kubelet_admission.refusal` said.
    """
    state = kubelet_restore.from_status(pod, now, place)
    if refused is not None and not pod.status.get("startTime"):
        return replace(state, rejected=refused, final=FAILED)
    return state


def step(pod: SimPod, state: PodState, now: float, behaviour: Behaviour, place: Place) -> Step:
    """Apply what is due, at most one instant of it, and return what to publish."""
    at = min(now, state.wake) if state.wake is not None else now
    if state.final:
        # What stands in the API is the last word, also of a process before this one.
        status = dict(pod.status) if pod.finished else kubelet_status.build(pod, state, behaviour, place, at)
        gone = pod.terminating and not behaviour.pod.stuck_terminating
        return Step(status, replace(state, wake=None), None, gone)
    if behaviour.pod.reject and not state.containers:
        state = replace(
            state, final=FAILED, rejected=(behaviour.pod.reject, f"Pod was rejected: {behaviour.pod.reject}")
        )
        return step(pod, state, now, behaviour, place)
    state, wake = _settle(pod, state, at, behaviour, place)
    if state.final:
        wake = None
    state = replace(state, wake=wake)
    status = kubelet_status.build(pod, state, behaviour, place, at)
    gone = bool(state.final) and pod.terminating and not behaviour.pod.stuck_terminating
    return Step(status, state, wake, gone)


def force_exit(state: PodState, container: str, code: int, now: float) -> PodState:
    """Return the state in which a running container ends now with *code*. Unchanged when it does not run."""
    c = state.containers.get(container)
    if c is None or not c.alive:
        return state
    return replace(state, containers={**state.containers, container: replace(c, forced=code)}, wake=now)


def evict(
    state: PodState, now: float, *, reason: str = "Evicted", message: str = "The node was low on resource: memory."
) -> PodState:
    """Return the state in which the node ends the whole pod."""
    if state.final or state.stop is not None:
        return state
    return replace(state, stop=Stop(now, reason, message), wake=now)


def reboot(state: PodState, now: float) -> PodState:
    """Return the state after the machine lost power and came back: every process is gone, the pod starts anew."""
    if state.final:
        return state
    containers = {}
    for name, c in state.containers.items():
        if c.alive:
            end = Exit(REBOOT_CODE, "Unknown", c.started, now, c.container_id)
            containers[name] = replace(c, stage=Stage.TERMINATED, since=now, last=end, previous=c.last, killed=True)
        else:
            containers[name] = c
    return replace(state, containers=containers, wake=now)


# ---- one instant -----------------------------------------------------------------------------------------------------


def _settle(
    pod: SimPod, state: PodState, now: float, behaviour: Behaviour, place: Place
) -> tuple[PodState, float | None]:
    wakes: list[float] = []
    if state.stop is None:
        stop, later = _stop(pod, state, now, behaviour)
        wakes.append(later)
        state = replace(state, stop=stop)
    renew: frozenset[str] = frozenset()
    if state.resize is None:
        state = replace(state, resize=kubelet_resize.begin(pod.spec))
    elif state.stop is None and state.initialized:
        resize, renew, look = kubelet_resize.advance(state.resize, pod.spec, place.room, behaviour, now)
        wakes.append(math.inf if look is None else look)
        state = replace(state, resize=resize)
    if not state.pod_ip:
        state = replace(state, pod_ip=place.pod_ip)
    while True:
        after, orders = _pass(pod, state, now, behaviour, renew)
        if after == state:
            break
        state, renew = after, frozenset()
    wakes += [machine.due(state.containers[name], order, now) for name, order in orders.items()]
    final = _final(pod, state, orders)
    if final:
        state = replace(state, final=final)
    wake = min(wakes, default=math.inf)
    return state, None if math.isinf(wake) else wake


def _stop(pod: SimPod, state: PodState, now: float, behaviour: Behaviour) -> tuple[Stop | None, float]:
    if pod.terminating:
        return Stop(now), math.inf
    evicted = state.accepted + behaviour.pod.evict_seconds
    limit = pod.spec.get("activeDeadlineSeconds")
    deadline = math.inf if limit is None else state.accepted + limit
    if now >= min(evicted, deadline):
        if evicted <= deadline:
            return Stop(now, "Evicted", "The node was low on resource: memory."), math.inf
        return Stop(now, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"), math.inf
    return None, min(evicted, deadline)


def _grace(pod: SimPod) -> float:
    if pod.terminating and pod.metadata.deletion_grace_period_seconds is not None:
        return float(pod.metadata.deletion_grace_period_seconds)
    grace = pod.spec.get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE if grace is None else float(grace)


def _pass(
    pod: SimPod, state: PodState, now: float, behaviour: Behaviour, renew: frozenset[str]
) -> tuple[PodState, dict[str, Order]]:
    """Give every container its order and one chance to follow it, in the order of starting."""
    policy = pod.spec.get("restartPolicy") or ALWAYS
    inits, mains = pod.spec.get("initContainers") or (), pod.spec.get("containers") or ()
    grace = _grace(pod)
    stopping = state.stop is not None
    deadline = math.inf if state.stop is None else state.stop.since + grace
    containers = dict(state.containers)
    orders: dict[str, Order] = {}

    def drive(spec: Mapping[str, Any], *, may_start: bool, restart: str, stop: bool) -> ContainerState:
        name = spec["name"]
        order = Order(
            state.uid,
            spec,
            behaviour.of(name),
            may_start,
            restart,
            grace,
            stop,
            deadline,
            name in renew,
        )
        orders[name] = order
        containers[name] = machine.advance(containers.get(name) or ContainerState(since=now), order, now)
        return containers[name]

    ended = stopping or _ended(pod, state)
    passed = True
    for index, spec in enumerate(inits):
        if is_sidecar(spec):
            last = ended and not _any_alive(state, [*inits[index + 1 :], *mains])
            c = drive(spec, may_start=passed, restart=ALWAYS, stop=last)
            passed = passed and c.alive
        else:
            restart = NEVER if policy == NEVER else ON_FAILURE
            c = drive(spec, may_start=passed and not state.initialized, restart=restart, stop=stopping)
            passed = passed and c.stage is Stage.TERMINATED and c.last is not None and c.last.code == 0
    initialized = state.initialized or passed
    for spec in mains:
        drive(spec, may_start=initialized, restart=policy, stop=stopping)
    return replace(state, containers=containers, initialized=initialized), orders


def _any_alive(state: PodState, specs: list[Mapping[str, Any]]) -> bool:
    return any((c := state.containers.get(one["name"])) is not None and c.alive for one in specs)


def _ended(pod: SimPod, state: PodState) -> bool:
    """Tell whether the pod ends by itself: all its containers did, or an init container failed for good."""
    policy = pod.spec.get("restartPolicy") or ALWAYS
    mains = [state.containers.get(one["name"], ContainerState()) for one in pod.spec.get("containers") or ()]
    if mains and all(_rests(c, policy) for c in mains):
        return True
    return _init_failed(pod, state)


def _rests(c: ContainerState, policy: str) -> bool:
    return (
        c.stage is Stage.TERMINATED
        and not c.killed
        and c.last is not None
        and not machine.restarts_after(c.last, policy)
    )


def _init_failed(pod: SimPod, state: PodState) -> bool:
    if state.initialized or (pod.spec.get("restartPolicy") or ALWAYS) != NEVER:
        return False
    for one in pod.spec.get("initContainers") or ():
        c = state.containers.get(one["name"])
        if not is_sidecar(one) and c is not None and _rests(c, NEVER) and c.last is not None and c.last.code != 0:
            return True
    return False


def _final(pod: SimPod, state: PodState, orders: Mapping[str, Order]) -> str:
    if any(state.containers[name].alive for name in orders):
        return ""
    if state.stop is None and not _ended(pod, state):
        return ""
    if state.stop is not None and state.stop.reason:
        return FAILED
    mains = [state.containers[one["name"]] for one in pod.spec.get("containers") or ()]
    good = all(c.last is not None and c.last.code == 0 for c in mains)
    return SUCCEEDED if good and state.initialized else FAILED
