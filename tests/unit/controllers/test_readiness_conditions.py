"""The conditions of a pod that an in-place update and a hook change, and Ready with them."""

from __future__ import annotations

from typing import Any

import orjson

from kruise.apis.core import Pod
from kruise.controllers.common.readiness import (
    IN_PLACE_GATE,
    POD_READY_GATE,
    PRE_DELETE_KEY,
    PRE_UPDATE_KEY,
    Edit,
    NotReadyKey,
    dump_keys,
    has_gate,
    is_reported,
    keys_of,
    parse_keys,
)
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import parse_time

NOW = parse_time("2026-03-01T12:00:00Z") or 0.0
STAMP = "2026-03-01T12:00:00Z"
KUBELET = [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}]


def pod(*conditions: dict[str, Any], gates: tuple[str, ...] = (IN_PLACE_GATE,), **spec: Any) -> Pod:
    body = {
        "metadata": {"name": "web-0"},
        "spec": {"readinessGates": [{"conditionType": gate} for gate in gates], **spec},
        "status": {"phase": "Running", "conditions": list(conditions)},
    }
    return decode_as(Pod, orjson.dumps(body))


def condition(kind: str, status: str, **rest: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, **rest}


def test_s4_a_pod_loses_ready_in_the_same_write_as_its_gate() -> None:
    edit = Edit(pod(condition(IN_PLACE_GATE, "True"), *KUBELET), NOW)
    edit.in_place_not_ready()
    assert edit.body() == [
        {
            "type": IN_PLACE_GATE,
            "status": "False",
            "reason": "StartInPlaceUpdate",
            "lastTransitionTime": STAMP,
        },
        {
            "type": "Ready",
            "status": "False",
            "reason": "ReadinessGatesNotReady",
            "message": 'the status of pod readiness gate "InPlaceUpdateReady" is not "True", but False',
            "lastTransitionTime": STAMP,
        },
    ]


def test_x10_a_gate_that_is_false_already_still_takes_ready_with_it() -> None:
    edit = Edit(pod(condition(IN_PLACE_GATE, "False", reason="Mine"), *KUBELET), NOW)
    edit.in_place_not_ready()
    assert [one["type"] for one in edit.body()] == ["Ready"]


def test_g4_a_pod_that_is_unready_already_is_not_written() -> None:
    edit = Edit(pod(condition(IN_PLACE_GATE, "False"), condition("Ready", "False"), KUBELET[1]), NOW)
    edit.in_place_not_ready()
    assert edit.body() == []


def test_ready_is_left_to_the_kubelet_where_it_is_not_ours_to_judge() -> None:
    for kubelet in ([], [KUBELET[0]], [condition("Ready", "True"), condition("ContainersReady", "False")]):
        edit = Edit(pod(condition(IN_PLACE_GATE, "True"), *kubelet), NOW)
        edit.in_place_not_ready()
        assert [one["type"] for one in edit.body()] == [IN_PLACE_GATE]


def test_the_message_names_the_gates_in_their_order() -> None:
    edit = Edit(pod(*KUBELET, condition("x/no", "False"), gates=("x/none", IN_PLACE_GATE, "x/no", "x/yes")), NOW)
    edit.in_place_not_ready()
    assert edit.body()[1]["message"] == (
        'corresponding condition of pod readiness gate "x/none" does not exist., '
        'the status of pod readiness gate "InPlaceUpdateReady" is not "True", but False, '
        'the status of pod readiness gate "x/no" is not "True", but False, '
        'corresponding condition of pod readiness gate "x/yes" does not exist.'
    )


def test_row_25_a_true_gate_with_a_reason_is_not_written_again() -> None:
    edit = Edit(pod(condition(IN_PLACE_GATE, "True", reason="X", message="y")), NOW)
    edit.in_place_ready()
    assert edit.body() == []


def test_a_gate_that_becomes_true_forgets_why_it_was_false() -> None:
    edit = Edit(pod(condition(IN_PLACE_GATE, "False", reason="StartInPlaceUpdate", message="m"), *KUBELET), NOW)
    edit.in_place_ready()
    assert edit.body() == [
        {"type": IN_PLACE_GATE, "status": "True", "lastTransitionTime": STAMP, "reason": None, "message": None}
    ]


def test_both_first_conditions_go_into_one_body() -> None:
    both = pod(gates=(IN_PLACE_GATE, POD_READY_GATE))
    edit = Edit(both, NOW)
    edit.in_place_ready()
    edit.pod_ready()
    assert [(one["type"], one["status"]) for one in edit.body()] == [(IN_PLACE_GATE, "True"), (POD_READY_GATE, "True")]


def test_a_condition_that_is_there_is_not_a_first_one() -> None:
    have = pod(condition(POD_READY_GATE, "False"), condition(IN_PLACE_GATE, "False"), gates=(POD_READY_GATE,))
    edit = Edit(have, NOW)
    edit.pod_ready()
    assert edit.body() == []


def test_a_key_makes_the_pod_unready() -> None:
    edit = Edit(pod(condition(POD_READY_GATE, "True"), *KUBELET, gates=(POD_READY_GATE,)), NOW)
    edit.add_key(PRE_UPDATE_KEY)
    gate, ready = edit.body()
    assert gate["status"] == "False"
    assert gate["message"] == '[{"userAgent":"Lifecycle","key":"preUpdateHook"}]'
    assert ready["message"] == 'the status of pod readiness gate "KruisePodReady" is not "True", but False'


def test_a_missing_condition_is_made_false_and_not_empty() -> None:
    edit = Edit(pod(*KUBELET, gates=(POD_READY_GATE,)), NOW)
    edit.add_key(PRE_DELETE_KEY)
    assert [(one["type"], one["status"]) for one in edit.body()] == [(POD_READY_GATE, "False"), ("Ready", "False")]


def test_the_keys_of_others_stay_and_are_sorted() -> None:
    other = NotReadyKey("Agent", "z")
    edit = Edit(pod(condition(POD_READY_GATE, "False", message=dump_keys([other])), gates=(POD_READY_GATE,)), NOW)
    edit.add_key(PRE_DELETE_KEY)
    assert edit.body()[0]["message"] == (
        '[{"userAgent":"Agent","key":"z"},{"userAgent":"Lifecycle","key":"preDeleteHook"}]'
    )
    both = dump_keys([PRE_UPDATE_KEY, other])
    edit = Edit(pod(condition(POD_READY_GATE, "False", message=both), gates=(POD_READY_GATE,)), NOW)
    edit.remove_keys(PRE_UPDATE_KEY, PRE_DELETE_KEY)
    assert edit.body()[0]["status"] == "False"
    assert parse_keys(edit.body()[0]["message"]) == (other,)


def test_the_last_key_that_goes_makes_the_pod_ready() -> None:
    edit = Edit(
        pod(condition(POD_READY_GATE, "False", message=dump_keys([PRE_UPDATE_KEY])), gates=(POD_READY_GATE,)), NOW
    )
    edit.remove_keys(PRE_UPDATE_KEY)
    assert edit.body() == [{"type": POD_READY_GATE, "status": "True", "lastTransitionTime": STAMP, "message": "[]"}]


def test_g4_a_key_that_is_there_is_not_added_and_one_that_is_not_is_not_removed() -> None:
    held = pod(condition(POD_READY_GATE, "False", message=dump_keys([PRE_DELETE_KEY])), gates=(POD_READY_GATE,))
    edit = Edit(held, NOW)
    edit.add_key(PRE_DELETE_KEY)
    edit.remove_keys(PRE_UPDATE_KEY)
    assert edit.body() == []


def test_a_message_that_is_no_list_of_keys_has_none() -> None:
    for text in ("", "x", "{}", "null", '[{"userAgent":1}]'):
        assert parse_keys(text) == ()
    assert keys_of(pod()) == ()


def test_a_pod_is_reported_when_its_kubelet_has_said_anything() -> None:
    def reads(**status: Any) -> bool:
        body = {"metadata": {"name": "web-0"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Pending", **status}}
        return is_reported(decode_as(Pod, orjson.dumps(body)))

    def says(kind: str) -> bool:
        return reads(conditions=[{"type": kind, "status": "False"}])

    assert not reads(), "a node is not enough: its kubelet answers in a moment"
    assert not says("PodScheduled"), "the scheduler says this"
    assert not says(IN_PLACE_GATE), "and we that"
    assert says("Initialized")
    assert says("ContainersReady")
    assert says("Ready")
    assert reads(containerStatuses=[{"name": "main", "image": "a"}])
    assert reads(initContainerStatuses=[{"name": "main", "image": "a"}])
    assert reads(phase="Running")
    assert is_reported(pod())
    assert not is_reported(Pod())
    assert has_gate(pod(), IN_PLACE_GATE)
    assert not has_gate(pod(), POD_READY_GATE)
