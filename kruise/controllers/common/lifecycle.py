"""The life of a pod that hooks may hold: states, events, and one table that says what follows.

Purpose: a hook lets somebody else hold a pod before it is deleted, before it is updated in place, or before it counts
as normal. The state of the pod is a label, so every reader sees the same (spec/advanced-statefulset 8).

Guarantees:

* X6, reliability rule 29: :data:`TABLE` has a successor for every state and every event, also for a word that is none
  of ours; a test walks it. An update that is no longer wanted leads out of PreparingUpdate, whatever ended it.
* A deletion that is no longer wanted leads out of PreparingDelete: the pod stays (spec 16, row 8).
* A hook reads the pod's labels and finalizers exactly as OpenKruise does, an empty value included (row 27).
* A lifecycle without an inPlaceUpdate hook does not send pods through Updated (performance 2.1).

What this does not do: it says which state follows, not which requests are sent; ``inplace.flow`` composes those.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from kruise.apis.statefulset import Lifecycle, LifecycleHook
from kruise.runtime.clock import format_time
from kruise.runtime.objects import ObjectMeta

__all__ = [
    "STATE_LABEL",
    "TABLE",
    "TIMESTAMP_ANNOTATION",
    "Act",
    "Event",
    "Facts",
    "Next",
    "State",
    "all_hooked",
    "delete_event",
    "facts_of",
    "first_state",
    "holding_hook",
    "hooked",
    "observe",
    "observed_events",
    "rearm_fields",
    "released",
    "state_fields",
    "state_of",
    "update_event",
]

STATE_LABEL: Final = "lifecycle.apps.kruise.io/state"
TIMESTAMP_ANNOTATION: Final = "lifecycle.apps.kruise.io/timestamp"


class State(enum.StrEnum):
    """Where a pod is in its life: the value of :data:`STATE_LABEL`."""

    NONE = ""
    """No label: the pod was made before there were any, or by a set that writes none."""
    PREPARING_NORMAL = "PreparingNormal"
    NORMAL = "Normal"
    PREPARING_UPDATE = "PreparingUpdate"
    UPDATING = "Updating"
    UPDATED = "Updated"
    PREPARING_DELETE = "PreparingDelete"
    FOREIGN = "?"
    """A word that we do not know. The pod counts as unavailable, and is left alone until it is deleted."""


class Event(enum.Enum):
    """What is seen of a pod, or wanted of it."""

    PRE_NORMAL_MET = "preNormal is met"
    """The preNormal hook is gone, or the pod has all it lists."""
    UPDATE_DROPPED_ARMED = "no update is wanted, and the hook is armed"
    """The pod is at the revision that it shall have; the inPlaceUpdate hook is absent or ready to hold again."""
    UPDATE_DROPPED = "no update is wanted"
    """The same, but somebody has to arm the hook again first."""
    UPDATE_DONE_ARMED = "the update is complete, and the hook is armed"
    UPDATE_DONE = "the update is complete"
    ARMED = "the hook is armed"
    DELETE_DROPPED = "no deletion is wanted"
    DELETE_DROPPED_IN_UPDATE = "no deletion is wanted, and an update is under way"
    UPDATE_HELD = "an update is wanted, and the hook holds"
    UPDATE_FREE = "an update is wanted, and the hook does not hold"
    UPDATE_UNHOOKED = "an update is wanted, and there is no hook"
    DELETE_HELD = "a deletion is wanted, and the hook holds"
    DELETE_FREE = "a deletion is wanted, and no hook holds"


class Act(enum.Enum):
    """What an event makes us do."""

    STAY = "stay"
    MOVE = "move"
    """Write the state that follows."""
    REARM = "re-arm"
    """Write the state that follows, and put back what the inPlaceUpdate hook lists."""
    WAIT = "wait"
    """Somebody else has to act first."""
    START = "start"
    """Start the in-place update; the state that follows goes into the same write."""
    DELETE = "delete"
    REFUSE = "refuse"
    """Not possible from here: an error that a person has to read."""


@dataclass(frozen=True, slots=True)
class Next:
    """What follows of a state and an event."""

    act: Act
    state: State


@dataclass(frozen=True, slots=True)
class Facts:
    """What is seen of one pod, apart from its state."""

    pre_normal_met: bool = False
    armed: bool = False
    """The inPlaceUpdate hook is absent, or the pod has all it lists."""
    complete: bool = False
    """No in-place update of the pod is under way."""
    update_wanted: bool = True
    deletion_wanted: bool = True


_STATES: Final = tuple(State)


def _row(stay: Act = Act.STAY, /, **moves: tuple[Act, State]) -> dict[State, Next]:
    """Return the successors for one event: *stay* in every state that is not named."""
    row = {state: Next(stay, state) for state in _STATES}
    row.update({State[name]: Next(act, to) for name, (act, to) in moves.items()})
    return row


_S = State
_REFUSED: Final = (Act.REFUSE, _S.FOREIGN)
_RESTORED: Final = (Act.MOVE, _S.NORMAL)
_STARTS: Final = {
    # A pod without the label does not get one by an update (spec 7.2).
    "NONE": (Act.START, _S.NONE),
    "PREPARING_NORMAL": (Act.START, _S.UPDATING),
    "NORMAL": (Act.START, _S.UPDATING),
    "PREPARING_UPDATE": (Act.START, _S.UPDATING),
    "UPDATING": (Act.START, _S.UPDATING),
    "PREPARING_DELETE": _RESTORED,
    "FOREIGN": _REFUSED,
}
"""What an update that no hook holds does in most states."""

TABLE: Final[dict[Event, dict[State, Next]]] = {
    Event.PRE_NORMAL_MET: _row(PREPARING_NORMAL=(Act.MOVE, _S.NORMAL)),
    Event.UPDATE_DROPPED_ARMED: _row(PREPARING_UPDATE=(Act.MOVE, _S.NORMAL)),
    Event.UPDATE_DROPPED: _row(PREPARING_UPDATE=(Act.MOVE, _S.UPDATED)),
    Event.UPDATE_DONE_ARMED: _row(UPDATING=(Act.MOVE, _S.NORMAL)),
    Event.UPDATE_DONE: _row(UPDATING=(Act.MOVE, _S.UPDATED)),
    Event.ARMED: _row(UPDATED=(Act.MOVE, _S.NORMAL)),
    Event.DELETE_DROPPED: _row(PREPARING_DELETE=(Act.MOVE, _S.NORMAL)),
    Event.DELETE_DROPPED_IN_UPDATE: _row(PREPARING_DELETE=(Act.MOVE, _S.UPDATING)),
    Event.UPDATE_HELD: _row(
        NONE=(Act.MOVE, _S.PREPARING_UPDATE),
        PREPARING_NORMAL=(Act.MOVE, _S.PREPARING_UPDATE),
        NORMAL=(Act.MOVE, _S.PREPARING_UPDATE),
        PREPARING_UPDATE=(Act.WAIT, _S.PREPARING_UPDATE),
        # The hook was asked when this update began; what follows is one more change of the same pod.
        UPDATING=(Act.START, _S.UPDATING),
        UPDATED=(Act.REARM, _S.PREPARING_UPDATE),
        # Who wants to update a pod does not want to delete it any more.
        PREPARING_DELETE=_RESTORED,
        FOREIGN=_REFUSED,
    ),
    Event.UPDATE_FREE: _row(**_STARTS, UPDATED=(Act.REARM, _S.PREPARING_UPDATE)),
    # The event ARMED leads to Normal first: there is nothing to put back.
    Event.UPDATE_UNHOOKED: _row(**_STARTS, UPDATED=(Act.WAIT, _S.UPDATED)),
    Event.DELETE_HELD: {
        state: Next(Act.WAIT if state is _S.PREPARING_DELETE else Act.MOVE, _S.PREPARING_DELETE) for state in _STATES
    },
    Event.DELETE_FREE: _row(Act.DELETE),
}
"""What follows of an event, in every state (rule 29)."""


def state_of(meta: ObjectMeta) -> State:
    """Return the state that the labels of a pod name."""
    word = meta.labels.get(STATE_LABEL, "")
    try:
        state = State(word)
    except ValueError:
        return State.FOREIGN
    return state


def hooked(hook: LifecycleHook | None, meta: ObjectMeta) -> bool:
    """Tell whether *hook* holds the pod: it has one of the finalizers, or one of the labels with that value."""
    if hook is None:
        return False
    return any(name in meta.finalizers for name in hook.finalizers_handler) or any(
        meta.labels.get(key, "") == value for key, value in hook.labels_handler.items()
    )


def all_hooked(hook: LifecycleHook | None, meta: ObjectMeta) -> bool:
    """Tell whether the pod has every finalizer and label that *hook* lists. False where there is no hook."""
    if hook is None:
        return False
    return all(name in meta.finalizers for name in hook.finalizers_handler) and all(
        meta.labels.get(key, "") == value for key, value in hook.labels_handler.items()
    )


def first_state(lifecycle: Lifecycle | None, meta: ObjectMeta) -> State:
    """Return the state with which a pod of this metadata is created (spec 2.3)."""
    hook = lifecycle.pre_normal if lifecycle else None
    return State.NORMAL if hook is None or all_hooked(hook, meta) else State.PREPARING_NORMAL


def facts_of(
    meta: ObjectMeta,
    lifecycle: Lifecycle | None,
    *,
    complete: bool,
    update_wanted: bool = True,
    deletion_wanted: bool = True,
) -> Facts:
    """Return what the metadata of a pod says about the hooks of its set, with what the caller knows."""
    pre_normal = lifecycle.pre_normal if lifecycle else None
    in_place = lifecycle.in_place_update if lifecycle else None
    return Facts(
        pre_normal_met=pre_normal is None or all_hooked(pre_normal, meta),
        armed=in_place is None or all_hooked(in_place, meta),
        complete=complete,
        update_wanted=update_wanted,
        deletion_wanted=deletion_wanted,
    )


def observed_events(facts: Facts) -> Iterator[Event]:
    """Yield what *facts* say, for any state. The table keeps most of them from meaning anything."""
    if facts.pre_normal_met:
        yield Event.PRE_NORMAL_MET
    if not facts.update_wanted:
        yield Event.UPDATE_DROPPED_ARMED if facts.armed else Event.UPDATE_DROPPED
    if facts.complete:
        yield Event.UPDATE_DONE_ARMED if facts.armed else Event.UPDATE_DONE
    if facts.armed:
        yield Event.ARMED
    if not facts.deletion_wanted:
        yield Event.DELETE_DROPPED if facts.complete else Event.DELETE_DROPPED_IN_UPDATE


def observe(state: State, facts: Facts) -> Next:
    """Return the one transition that *facts* bring about; Act.STAY when there is none."""
    for event in observed_events(facts):
        follows = TABLE[event][state]
        if follows.act is not Act.STAY:
            return follows
    return Next(Act.STAY, state)


def update_event(lifecycle: Lifecycle | None, meta: ObjectMeta) -> Event:
    """Return what the wish to update the pod in place means for it."""
    hook = lifecycle.in_place_update if lifecycle else None
    if hook is None:
        return Event.UPDATE_UNHOOKED
    return Event.UPDATE_HELD if hooked(hook, meta) else Event.UPDATE_FREE


def delete_event(lifecycle: Lifecycle | None, meta: ObjectMeta) -> Event:
    """Return what the wish to delete the pod means for it."""
    return Event.DELETE_HELD if hooked(lifecycle.pre_delete if lifecycle else None, meta) else Event.DELETE_FREE


def holding_hook(lifecycle: Lifecycle | None, meta: ObjectMeta) -> str:
    """Return the name of the hook for which the pod waits in its state; ``""`` when it waits for none.

    For Updated and PreparingNormal it is the hook that somebody has to put on; for the other two, to take off.
    """
    if lifecycle is None:
        return ""
    match state_of(meta):
        case State.PREPARING_NORMAL if lifecycle.pre_normal and not all_hooked(lifecycle.pre_normal, meta):
            return "preNormal"
        case State.PREPARING_UPDATE if hooked(lifecycle.in_place_update, meta):
            return "inPlaceUpdate"
        case State.UPDATED if lifecycle.in_place_update and not all_hooked(lifecycle.in_place_update, meta):
            return "inPlaceUpdate"
        case State.PREPARING_DELETE if hooked(lifecycle.pre_delete, meta):
            return "preDelete"
    return ""


def released(lifecycle: Lifecycle | None, meta: ObjectMeta) -> bool:
    """Tell whether the pod was prepared for an update or a deletion, and nobody holds it any more.

    Such a pod must not wait for the availability of any pod, its own included: nothing else would ever free it (spec
    16, row 7).
    """
    return state_of(meta) in (State.PREPARING_UPDATE, State.PREPARING_DELETE) and not holding_hook(lifecycle, meta)


def state_fields(state: State, now: float) -> dict[str, Any]:
    """Return the metadata that puts a pod into *state*, as part of a patch or of a new pod."""
    return {
        "labels": {STATE_LABEL: state.value},
        "annotations": {TIMESTAMP_ANNOTATION: format_time(now)},
    }


def rearm_fields(hook: LifecycleHook | None, meta: ObjectMeta) -> dict[str, Any]:
    """Return the labels and finalizers of *hook* that the pod lacks, as part of a strategic merge patch."""
    if hook is None:
        return {}
    labels = {key: value for key, value in hook.labels_handler.items() if meta.labels.get(key) != value}
    finalizers = [name for name in hook.finalizers_handler if name not in meta.finalizers]
    fields: dict[str, Any] = {}
    if labels:
        fields["labels"] = labels
    if finalizers:
        fields["finalizers"] = finalizers
    return fields
