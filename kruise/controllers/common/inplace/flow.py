"""The steps of one pod's life: prepare, start and finish an in-place update; prepare a deletion; come into service.

Purpose: what the state of a pod, its hooks and its update in place ask for together, composed into the fewest writes
(spec/advanced-statefulset 5.5, 7.2, 7.3, 7.7, 8.2; performance 2.1). All functions are pure.

Guarantees:

* Writes per pod: in place 3 with the gate InPlaceUpdateReady, 2 without; 3 with a grace period; 1 more per batch of
  launch priority; 5 with an inPlaceUpdate hook, with and without markPodNotReady; a resize 3. The first conditions of a
  new pod are 1, with the step to Normal in the same patch. With MergedPodStatusPatch off, conditions and metadata go
  apart.
* S4, X10: the gate is False, and Ready with it, in the very version on which a change of containers is sent: a write
  that would repeat that is left out, and the version of the pod that was looked at takes its place. The gate turns True
  only on a version whose statuses satisfy the spec.
* A crash between two writes leaves a pod that says the truth: the revision label changes in the same patch as what it
  stands for, or as the grace annotation that holds it.
* X6, spec 16 rows 7, 8, 10: an update or a deletion that is no longer wanted, or no longer held, goes on; the keys of a
  hook in KruisePodReady leave with the state that they belong to, whichever way it ends.
* Row 11: what is left for the next batch is applied, resources alone too. Row 25: a True gate is left alone.
* A terminating or finished pod is never written: it only waits to go.

What this does not do: it knows no budget and no order of pods, and no other pod; ``disrupts`` says what a budget must
allow. It does not say whether a pod can be updated in place: ``spec`` does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from kruise.apis.core import Pod
from kruise.apis.statefulset import IN_PLACE_IF_POSSIBLE, IN_PLACE_ONLY, LABEL_REVISION, Lifecycle
from kruise.controllers.common.inplace.annotations import StateError
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.overlap import begin
from kruise.controllers.common.inplace.patch import apply_spec, held, needs_unready
from kruise.controllers.common.inplace.progress import Progress, progress_of
from kruise.controllers.common.inplace.spec import NotPossible, UpdateSpec
from kruise.controllers.common.inplace.writes import MAIN, RESIZE, STATUS, PodWrite
from kruise.controllers.common.lifecycle import (
    STATE_LABEL,
    TABLE,
    Act,
    Next,
    State,
    delete_event,
    facts_of,
    holding_hook,
    observe,
    rearm_fields,
    state_fields,
    state_of,
    update_event,
)
from kruise.controllers.common.readiness import (
    IN_PLACE_GATE,
    POD_READY_GATE,
    PRE_DELETE_KEY,
    PRE_UPDATE_KEY,
    TRUE,
    Edit,
    condition_of,
    has_gate,
    is_reported,
)

__all__ = ["Flow", "Outcome", "delete_step", "refresh", "start"]

FINISHED: Final = ("Failed", "Succeeded")
IN_SERVICE: Final = (State.NONE, State.PREPARING_NORMAL, State.NORMAL, State.UPDATED)
"""The states in which no hook of ours keeps a pod from being ready."""
_WITH_THE_GATE: Final = (State.PREPARING_NORMAL, State.UPDATING)
"""The states that a pod leaves in the same write that opens its gate."""


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
    """An update in place is not possible; go through :func:`delete_step`."""
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


NOTHING: Final = Flow()


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

    A pod whose deletion was prepared comes back first (REFRESHED). A pod that is started needs no :func:`refresh` in
    the same pass: both rest on the same version. The grace period stands in *spec*.
    """
    meta = pod.metadata
    if isinstance(spec, NotPossible):
        if policy == IN_PLACE_ONLY:
            return _refused(f"podUpdatePolicy is InPlaceOnly, but pod {meta.name} cannot be updated in place: {spec}")
        return Flow(outcome=Outcome.RECREATE, evidence=str(spec))
    follows = TABLE[update_event(lifecycle, meta)][state_of(meta)]
    match follows.act:
        case Act.MOVE | Act.REARM:
            return _move(pod, follows, lifecycle, now, gates)
        case Act.START:
            try:
                return _begin(pod, spec, follows.state, now, gates)
            except StateError as error:
                return _refused(f"pod {meta.name}: {error}")
        case Act.REFUSE:
            return _refused(f"pod {meta.name} cannot be updated in place in state {meta.labels.get(STATE_LABEL)}")
    return Flow(outcome=Outcome.HELD, evidence=_waits_for(lifecycle, pod))


def delete_step(pod: Pod, *, lifecycle: Lifecycle | None, now: float, gates: Gates) -> Flow:
    """Decide the step of a pod that shall be deleted (spec 5.5): DELETE, PREPARED or HELD."""
    follows = TABLE[delete_event(lifecycle, pod.metadata)][state_of(pod.metadata)]
    match follows.act:
        case Act.DELETE:
            return Flow(outcome=Outcome.DELETE, disrupts=True)
        case Act.MOVE:
            return _move(pod, follows, lifecycle, now, gates)
    return Flow(outcome=Outcome.HELD, evidence=_waits_for(lifecycle, pod))


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

    *update_wanted* is False where the pod shall stay on the revision that it has (OnDelete, below the partition);
    *deletion_wanted* is False where no cause to delete the pod is left (row 8): only then it leaves PreparingDelete.
    """
    meta = pod.metadata
    if pod.terminating or pod.status.phase in FINISHED:
        return NOTHING
    try:
        progress = progress_of(pod, now=now, gates=gates)
    except StateError as error:
        # Conditions and lifecycle rest on an answer that nobody can give: a person, or another update, must come.
        return _refused(f"pod {meta.name}: {error}")
    facts = facts_of(
        meta,
        lifecycle,
        complete=progress.complete,
        update_wanted=update_wanted and meta.labels.get(LABEL_REVISION) != update_revision,
        deletion_wanted=deletion_wanted,
    )
    state = state_of(meta)
    follows = observe(state, facts)
    if state in _WITH_THE_GATE and not is_reported(pod) and _has_closed_gate(pod):
        # Scheduler and kubelet are about to move the version. The gate opens after the kubelet's first report, and
        # takes this step along.
        follows = Next(Act.STAY, state)
    moved = follows.act is Act.MOVE
    conditions = _refreshed_conditions(pod, progress, state, follows.state, now)
    metadata = _joined(state_fields(follows.state, now) if moved else {}, progress.metadata)
    writes = _writes(gates, progress.why or _said(state, follows), conditions, metadata, progress.body, progress.resize)
    flow = Flow(
        writes,
        delay=progress.delay,
        outcome=Outcome.REFRESHED if writes else Outcome.NOTHING,
        state=follows.state if moved else None,
        evidence=progress.evidence,
    )
    if progress.body is not None:
        return replace(flow, outcome=Outcome.CONTINUED)
    if not writes and progress.evidence:
        return replace(flow, outcome=Outcome.WAITING)
    if not writes and holding_hook(lifecycle, meta):
        return replace(flow, outcome=Outcome.HELD, evidence=_waits_for(lifecycle, pod))
    return flow


# ---- parts -----------------------------------------------------------------------------------------------------------


def _begin(pod: Pod, spec: UpdateSpec, to: State, now: float, gates: Gates) -> Flow:
    """Start an update (spec 7.3): with a grace period everything is said in one write, and nothing is changed yet."""
    begun = begin(pod, spec, now=now, gates=gates)
    edit = Edit(pod, now)
    if needs_unready(pod, begun.spec, gates):
        edit.in_place_not_ready()
    metadata = _joined({"labels": {LABEL_REVISION: spec.revision}}, {} if to is State.NONE else state_fields(to, now))
    started = Flow(outcome=Outcome.STARTED, state=None if to is State.NONE else to, disrupts=True)
    why = f"update in place to {spec.revision}"
    if begun.spec.grace_seconds > 0:
        metadata = _joined(metadata, {"annotations": held(pod, begun.spec, begun.state)})
        writes = _writes(gates, why, edit.body(), metadata)
        return replace(started, writes=writes, delay=float(begun.spec.grace_seconds))
    step = apply_spec(pod, begun.spec, begun.state, now=now, gates=gates)
    writes = _writes(gates, why, edit.body(), metadata, step.pod_patch(), step.resize_patch())
    return replace(started, writes=writes)


def _move(pod: Pod, follows: Next, lifecycle: Lifecycle | None, now: float, gates: Gates) -> Flow:
    """Write a state that no change of containers goes with."""
    to = follows.state
    pre_delete = lifecycle.pre_delete if lifecycle else None
    in_place = lifecycle.in_place_update if lifecycle else None
    edit = Edit(pod, now)
    metadata = state_fields(to, now)
    if has_gate(pod, POD_READY_GATE):
        if to is State.PREPARING_DELETE and pre_delete is not None and pre_delete.mark_pod_not_ready:
            edit.add_key(PRE_DELETE_KEY)
        elif to is State.PREPARING_UPDATE and in_place is not None and in_place.mark_pod_not_ready:
            edit.add_key(PRE_UPDATE_KEY)
        elif to in IN_SERVICE:
            edit.remove_keys(PRE_UPDATE_KEY, PRE_DELETE_KEY)
    if follows.act is Act.REARM:
        metadata = _joined(metadata, rearm_fields(in_place, pod.metadata))
    back = to in IN_SERVICE
    return Flow(
        _writes(gates, _said(state_of(pod.metadata), follows), edit.body(), metadata),
        outcome=Outcome.REFRESHED if back else Outcome.PREPARED,
        state=to,
        disrupts=not back,
        evidence="" if back else f"the pod enters {to.value}",
    )


def _refreshed_conditions(pod: Pod, progress: Progress, state: State, to: State, now: float) -> list[dict[str, Any]]:
    edit = Edit(pod, now)
    reported = is_reported(pod)
    if progress.unready:
        edit.in_place_not_ready()
    elif progress.complete and reported and has_gate(pod, IN_PLACE_GATE):
        edit.in_place_ready()
    if has_gate(pod, POD_READY_GATE):
        if reported:
            edit.pod_ready()
        if to in IN_SERVICE:
            edit.remove_keys(PRE_UPDATE_KEY, PRE_DELETE_KEY)
        elif state is not to:
            edit.remove_keys(PRE_DELETE_KEY)
    return edit.body()


def _has_closed_gate(pod: Pod) -> bool:
    in_place = condition_of(pod, IN_PLACE_GATE)
    return (has_gate(pod, IN_PLACE_GATE) and (in_place is None or in_place.status != TRUE)) or (
        has_gate(pod, POD_READY_GATE) and condition_of(pod, POD_READY_GATE) is None
    )


def _writes(
    gates: Gates,
    why: str,
    conditions: list[dict[str, Any]],
    metadata: Mapping[str, Any],
    body: Mapping[str, Any] | None = None,
    resize: Mapping[str, Any] | None = None,
) -> tuple[PodWrite, ...]:
    """Return the fewest writes in an order that is safe to break off after each.

    Conditions first: a change of containers is valid only on the version in which the gate is False. *metadata* goes
    with *body* where there is one, else with the conditions where the gate allows that.
    """
    writes = []
    main = dict(body or {})
    with_status = bool(conditions) and body is None and gates.merged_status_patch
    if conditions:
        status: dict[str, Any] = {"status": {"conditions": conditions}}
        if with_status and metadata:
            status["metadata"] = dict(metadata)
        writes.append(PodWrite(STATUS, status, why))
    if resize is not None:
        writes.append(PodWrite(RESIZE, dict(resize), why))
    if metadata and not with_status:
        main["metadata"] = _joined(main.get("metadata", {}), metadata)
    if main:
        writes.append(PodWrite(MAIN, main, why))
    return tuple(writes)


def _joined(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """Return two sets of members of metadata as one; a key of *then* holds."""
    out = dict(first)
    for part, values in then.items():
        out[part] = {**out[part], **values} if isinstance(values, Mapping) and part in out else values
    return out


def _said(state: State, follows: Next) -> str:
    if follows.act is Act.STAY:
        return "initialise the conditions or open the gate"
    return f"{state.value or 'no state'} to {follows.state.value}"


def _waits_for(lifecycle: Lifecycle | None, pod: Pod) -> str:
    """Return for which hook the pod waits, and what has to happen."""
    name = holding_hook(lifecycle, pod.metadata)
    state = state_of(pod.metadata)
    if not name:
        return f"the pod is in state {state.value}"
    if state in (State.PREPARING_UPDATE, State.PREPARING_DELETE):
        return f"hook {name} holds the pod in {state.value}: its labels or finalizers are to be taken off"
    return f"hook {name} is not complete in {state.value}: its labels and finalizers are to be put on"


def _refused(text: str) -> Flow:
    return Flow(outcome=Outcome.REFUSED, error=text)
