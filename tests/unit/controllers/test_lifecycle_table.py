"""The life of a pod: the table in full, and what hooks read."""

from __future__ import annotations

from itertools import product

import pytest

from kruise.apis.statefulset import Lifecycle, LifecycleHook
from kruise.controllers.common.lifecycle import (
    STATE_LABEL,
    TABLE,
    Act,
    Event,
    Facts,
    Next,
    State,
    all_hooked,
    delete_event,
    facts_of,
    first_state,
    holding_hook,
    hooked,
    observe,
    observed_events,
    rearm_fields,
    released,
    state_fields,
    state_of,
    update_event,
)
from kruise.runtime.objects import ObjectMeta

LABEL = LifecycleHook(labels_handler={"hold": "yes"})
FINALIZER = LifecycleHook(finalizers_handler=("x/drain",))
BOTH = LifecycleHook(labels_handler={"hold": "yes"}, finalizers_handler=("x/drain",))
EMPTY = LifecycleHook()


def meta(state: State | str = State.NONE, *finalizers: str, **labels: str) -> ObjectMeta:
    if state:
        labels = {**labels, STATE_LABEL: str(state)}
    return ObjectMeta(name="web-0", labels=labels, finalizers=finalizers)


# ---- the table


def test_rule_29_every_state_has_a_successor_for_every_event() -> None:
    assert set(TABLE) == set(Event)
    for event, state in product(Event, State):
        follows = TABLE[event][state]
        assert isinstance(follows, Next), (event, state)
        # Only what moves a pod may name another state, and nothing ever writes a word that is not ours.
        if follows.act in (Act.STAY, Act.WAIT, Act.REFUSE, Act.DELETE):
            assert follows.state is state, (event, state)
        if follows.act in (Act.MOVE, Act.REARM):
            assert follows.state not in (state, State.NONE, State.FOREIGN), (event, state)
        if follows.act is Act.START:
            assert follows.state in (State.UPDATING, State.NONE), (event, state)


def test_the_table_says_what_the_specification_says() -> None:
    moves = {
        (event.name, state.name): (follows.act.name, follows.state.name)
        for event, row in TABLE.items()
        for state, follows in row.items()
        if follows.act is not Act.STAY
    }
    everything = [state.name for state in State]
    expected = {
        ("PRE_NORMAL_MET", "PREPARING_NORMAL"): ("MOVE", "NORMAL"),
        ("UPDATE_DROPPED_ARMED", "PREPARING_UPDATE"): ("MOVE", "NORMAL"),
        ("UPDATE_DROPPED", "PREPARING_UPDATE"): ("MOVE", "UPDATED"),
        ("UPDATE_DONE_ARMED", "UPDATING"): ("MOVE", "NORMAL"),
        ("UPDATE_DONE", "UPDATING"): ("MOVE", "UPDATED"),
        ("ARMED", "UPDATED"): ("MOVE", "NORMAL"),
        ("DELETE_DROPPED", "PREPARING_DELETE"): ("MOVE", "NORMAL"),
        ("DELETE_DROPPED_IN_UPDATE", "PREPARING_DELETE"): ("MOVE", "UPDATING"),
        **{("DELETE_FREE", name): ("DELETE", name) for name in everything},
        **{("DELETE_HELD", name): ("MOVE", "PREPARING_DELETE") for name in everything},
        ("DELETE_HELD", "PREPARING_DELETE"): ("WAIT", "PREPARING_DELETE"),
    }
    for event in ("UPDATE_HELD", "UPDATE_FREE", "UPDATE_UNHOOKED"):
        held = event == "UPDATE_HELD"
        begin = ("MOVE", "PREPARING_UPDATE") if held else ("START", "UPDATING")
        expected |= {
            (event, "NONE"): begin if held else ("START", "NONE"),
            (event, "PREPARING_NORMAL"): begin,
            (event, "NORMAL"): begin,
            (event, "PREPARING_UPDATE"): ("WAIT", "PREPARING_UPDATE") if held else begin,
            (event, "UPDATING"): ("START", "UPDATING"),
            (event, "UPDATED"): ("WAIT", "UPDATED") if event == "UPDATE_UNHOOKED" else ("REARM", "PREPARING_UPDATE"),
            (event, "PREPARING_DELETE"): ("MOVE", "NORMAL"),
            (event, "FOREIGN"): ("REFUSE", "FOREIGN"),
        }
    assert moves == expected


@pytest.mark.parametrize("state", [s for s in State if s is not State.FOREIGN])
def test_x6_no_state_is_a_dead_end_once_nobody_holds_the_pod(state: State) -> None:
    """With no hook, nothing wanted and the update complete, every state of ours leads to Normal, or is at rest."""
    facts = Facts(pre_normal_met=True, armed=True, complete=True, update_wanted=False, deletion_wanted=False)
    seen = [state]
    while (follows := observe(seen[-1], facts)).act is not Act.STAY:
        assert follows.state not in seen
        seen.append(follows.state)
    assert seen[-1] in (State.NORMAL, State.NONE)


@pytest.mark.parametrize("state", list(State))
def test_observed_facts_never_lead_in_circles(state: State) -> None:
    for met, armed, complete, update, deletion in product((False, True), repeat=5):
        facts = Facts(
            pre_normal_met=met, armed=armed, complete=complete, update_wanted=update, deletion_wanted=deletion
        )
        at, steps = state, 0
        while (follows := observe(at, facts)).act is not Act.STAY:
            at, steps = follows.state, steps + 1
            assert steps <= 3, (state, facts)


def test_row_8_a_pod_whose_deletion_is_not_wanted_any_more_comes_back() -> None:
    back = observe(State.PREPARING_DELETE, Facts(complete=True, deletion_wanted=False))
    assert back == Next(Act.MOVE, State.NORMAL)
    in_update = observe(State.PREPARING_DELETE, Facts(complete=False, deletion_wanted=False))
    assert in_update == Next(Act.MOVE, State.UPDATING)
    assert observe(State.PREPARING_DELETE, Facts(complete=True, armed=True)).act is Act.STAY


# ---- hooks


@pytest.mark.parametrize(
    ("hook", "pod", "any_of", "all_of"),
    [
        (None, meta(), False, False),
        (EMPTY, meta(), False, True),
        (LABEL, meta(hold="yes"), True, True),
        (LABEL, meta(hold="no"), False, False),
        (FINALIZER, meta(State.NONE, "x/other"), False, False),
        (BOTH, meta(State.NONE, "x/drain"), True, False),
        (BOTH, meta(State.NONE, "x/drain", hold="yes"), True, True),
    ],
)
def test_hooks_read_labels_and_finalizers(
    hook: LifecycleHook | None, pod: ObjectMeta, any_of: bool, all_of: bool
) -> None:
    assert hooked(hook, pod) is any_of
    assert all_hooked(hook, pod) is all_of


def test_row_27_a_label_with_an_empty_value_matches_an_absent_one() -> None:
    hook = LifecycleHook(labels_handler={"hold": ""})
    assert hooked(hook, meta())
    assert all_hooked(hook, meta())
    assert not hooked(hook, meta(hold="yes"))


def test_a_word_that_is_not_ours_is_foreign() -> None:
    assert state_of(meta("Resting")) is State.FOREIGN
    assert state_of(meta("Updated")) is State.UPDATED
    assert state_of(meta()) is State.NONE


def test_a_new_pod_is_normal_unless_a_hook_says_otherwise() -> None:
    assert first_state(None, meta()) is State.NORMAL
    assert first_state(Lifecycle(pre_delete=LABEL), meta()) is State.NORMAL
    assert first_state(Lifecycle(pre_normal=LABEL), meta()) is State.PREPARING_NORMAL
    assert first_state(Lifecycle(pre_normal=LABEL), meta(hold="yes")) is State.NORMAL


def test_a_lifecycle_without_an_update_hook_passes_no_updated() -> None:
    facts = facts_of(meta(), Lifecycle(pre_delete=LABEL), complete=True)
    assert observe(State.UPDATING, facts) == Next(Act.MOVE, State.NORMAL)
    facts = facts_of(meta(), Lifecycle(in_place_update=LABEL), complete=True)
    assert observe(State.UPDATING, facts) == Next(Act.MOVE, State.UPDATED)


def test_wishes_become_events() -> None:
    hooks = Lifecycle(in_place_update=LABEL, pre_delete=FINALIZER)
    assert update_event(None, meta()) is Event.UPDATE_UNHOOKED
    assert update_event(Lifecycle(), meta()) is Event.UPDATE_UNHOOKED
    assert update_event(hooks, meta()) is Event.UPDATE_FREE
    assert update_event(hooks, meta(hold="yes")) is Event.UPDATE_HELD
    assert delete_event(None, meta()) is Event.DELETE_FREE
    assert delete_event(hooks, meta()) is Event.DELETE_FREE
    assert delete_event(hooks, meta(State.NONE, "x/drain")) is Event.DELETE_HELD


def test_nothing_is_seen_of_a_pod_that_is_on_its_way() -> None:
    assert list(observed_events(Facts())) == []


@pytest.mark.parametrize(
    ("state", "lifecycle", "names", "free"),
    [
        (State.PREPARING_NORMAL, Lifecycle(pre_normal=LABEL), "preNormal", False),
        (State.PREPARING_UPDATE, Lifecycle(in_place_update=FINALIZER), "", True),
        (State.PREPARING_UPDATE, None, "", True),
        (State.UPDATED, Lifecycle(in_place_update=LABEL), "inPlaceUpdate", False),
        (State.PREPARING_DELETE, Lifecycle(pre_delete=LABEL), "", True),
        (State.NORMAL, Lifecycle(pre_normal=LABEL, in_place_update=LABEL), "", False),
    ],
)
def test_row_7_a_prepared_pod_that_nobody_holds_is_released(
    state: State, lifecycle: Lifecycle | None, names: str, free: bool
) -> None:
    assert holding_hook(lifecycle, meta(state)) == names
    assert released(lifecycle, meta(state)) is free


def test_row_7_a_prepared_pod_that_a_hook_holds_is_not() -> None:
    hooks = Lifecycle(in_place_update=LABEL, pre_delete=FINALIZER)
    assert holding_hook(hooks, meta(State.PREPARING_UPDATE, hold="yes")) == "inPlaceUpdate"
    assert holding_hook(hooks, meta(State.PREPARING_DELETE, "x/drain")) == "preDelete"
    assert not released(hooks, meta(State.PREPARING_UPDATE, hold="yes"))
    assert not released(hooks, meta(State.PREPARING_DELETE, "x/drain"))


def test_a_hook_is_armed_with_what_the_pod_lacks() -> None:
    assert rearm_fields(BOTH, meta()) == {"labels": {"hold": "yes"}, "finalizers": ["x/drain"]}
    assert rearm_fields(BOTH, meta(State.NONE, "x/drain", hold="no")) == {"labels": {"hold": "yes"}}
    assert rearm_fields(BOTH, meta(State.NONE, "x/drain", hold="yes")) == {}
    assert rearm_fields(None, meta()) == {}


def test_a_state_is_a_label_and_a_stamp() -> None:
    assert state_fields(State.UPDATING, 0.9) == {
        "labels": {"lifecycle.apps.kruise.io/state": "Updating"},
        "annotations": {"lifecycle.apps.kruise.io/timestamp": "1970-01-01T00:00:00Z"},
    }
