"""How far the in-place update of a pod is, and the step with which it goes on.

Purpose: between its start and its end an update waits for three things: the end of a grace period, the containers of a
batch, the kubelet's report (spec/advanced-statefulset 7.6, 7.7). All that is needed to go on stands in the pod.

Guarantees:

* The next batch follows when the containers of the one before run and are ready; what is left over is applied whatever
  it is, resources alone too (section 16, row 11).
* A change of containers that takes the pod down asks for the gate again (S4), also when somebody has opened it since.
* A grace period that belongs to another revision is dropped, and so is an empty one: neither would ever end.

What this does not do: it touches no condition and no lifecycle state; ``flow`` composes those with the step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kruise.apis.core import Pod
from kruise.apis.statefulset import LABEL_REVISION
from kruise.controllers.common.inplace.annotations import GRACE_KEY, STATE_KEY, StateError, grace_text, without_grace
from kruise.controllers.common.inplace.complete import containers_done, ready_for_next
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.patch import apply_spec, needs_unready, next_spec
from kruise.controllers.common.inplace.spec import UpdateSpec
from kruise.controllers.common.inplace.state import State, state_of
from kruise.runtime.clock import parse_time

__all__ = ["Progress", "progress_of"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the update of a pod stands."""

    complete: bool = False
    """No update is under way: the gate may open, and the lifecycle goes on."""
    unready: bool = False
    """The step needs the gate closed."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What changes in the metadata of the pod, whichever write takes it along."""
    body: Mapping[str, Any] | None = None
    """The step: a patch of the pod itself."""
    resize: Mapping[str, Any] | None = None
    """What goes through ``pods/resize`` before it."""
    delay: float | None = None
    """Seconds until time alone brings the next step."""
    why: str = ""
    """What the step is for."""
    evidence: str = ""
    """What is waited for."""


_AT_REST: Final = Progress(complete=True)


def progress_of(pod: Pod, *, now: float, gates: Gates) -> Progress:
    """Return how the update of *pod* goes on at *now*. Raises StateError for annotations that cannot be followed."""
    annotations = pod.metadata.annotations
    if not annotations:
        return _AT_REST
    grace = grace_text(annotations)
    if grace:
        return _in_grace(pod, grace, now=now, gates=gates)
    state = state_of(annotations)
    if grace is None and state is None:
        return _AT_REST
    leftovers = {"annotations": without_grace(annotations)} if grace is not None else {}
    if state is None:
        return Progress(complete=True, metadata=leftovers)
    done = containers_done(pod, state, gates)
    rest = next_spec(state)
    if rest is None:
        return Progress(complete=done.done, metadata=leftovers, evidence=done.evidence)
    if done.done:
        done = ready_for_next(pod, state)
    if not done.done:
        return Progress(metadata=leftovers, evidence=done.evidence)
    return _step(pod, rest, state, "update the next containers in place", now=now, gates=gates)


def _in_grace(pod: Pod, text: str, *, now: float, gates: Gates) -> Progress:
    meta = pod.metadata
    try:
        state = state_of(meta.annotations)
    except StateError as error:
        # Nobody knows since when it waits. The next update of the pod writes both annotations anew.
        return Progress(evidence=str(error))
    if state is None:
        raise StateError(STATE_KEY, f"absent beside {GRACE_KEY}")
    spec = UpdateSpec.from_json(text)
    if spec.revision != meta.labels.get(LABEL_REVISION):
        body = {"metadata": {"annotations": without_grace(meta.annotations)}}
        return Progress(body=body, why="drop the grace period of another revision")
    began = parse_time(state.updated_at)
    left = 0 if began is None else math.ceil(began + spec.grace_seconds - now)
    if left > 0:
        return Progress(delay=float(left), evidence=f"the grace period ends in {left} s")
    return _step(pod, spec, state, "update in place after the grace period", now=now, gates=gates)


def _step(pod: Pod, spec: UpdateSpec, state: State, why: str, *, now: float, gates: Gates) -> Progress:
    applied = apply_spec(pod, spec, state, now=now, gates=gates)
    return Progress(
        unready=needs_unready(pod, spec, gates), body=applied.pod_patch(), resize=applied.resize_patch(), why=why
    )
