"""One step of an update in place: batches, writes, annotations."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.controllers.common.inplace.annotations import (
    GRACE_KEY,
    OLD_GRACE_KEY,
    OLD_STATE_KEY,
    STATE_KEY,
    StateError,
)
from kruise.controllers.common.inplace.containers import launch_priority
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.patch import Applied, apply_spec, held, initial_state, needs_unready, next_spec
from kruise.controllers.common.inplace.spec import UpdateSpec
from kruise.controllers.common.inplace.state import State, parse, state_of
from tests.unit.controllers.inplace_pods import (
    GATES,
    JSON,
    NOW,
    STAMP,
    container,
    images,
    restarted,
    running,
    shows,
    template,
    typed,
    written,
)

OLDER = Gates(vertical_scaling=True, server_version="v1.31.4")
NEWER = Gates(vertical_scaling=True, server_version="v1.37.2")


def step(pod: JSON, spec: UpdateSpec, state: State | None = None, gates: Gates = GATES) -> Applied:
    return apply_spec(typed(pod), spec, state or initial_state(spec, NOW), now=NOW, gates=gates)


def test_s4_a_step_changes_the_image_of_its_containers_and_its_annotation() -> None:
    pod = running(template(container("m", "a:1"), container("n", "b:1")))
    (write,) = step(pod, UpdateSpec("r1", images={"m": "a:2"})).writes("w", labels={"controller-revision-hash": "r1"})
    assert write.subresource == ""
    assert write.patch["spec"] == {"containers": [{"name": "m", "image": "a:2"}]}
    assert write.patch["metadata"].keys() == {"labels", "annotations"}
    assert write.patch["metadata"]["annotations"].keys() == {STATE_KEY}
    after = written(pod, write)
    assert images(after) == {"m": "a:2", "n": "b:1"}
    assert after["metadata"]["uid"] == "u0"


def test_the_state_is_as_openkruise_writes_it() -> None:
    pod = running(template(container("main", "a:1")))
    found = step(pod, UpdateSpec("web-7c9d5bb8f6", images={"main": "a:2"})).state
    assert found.encode() == (
        f'{{"revision":"web-7c9d5bb8f6","updateTimestamp":"{STAMP}",'
        '"lastContainerStatuses":{"main":{"imageID":"id-of-a:1"}},"updateImages":true,'
        f'"containerBatchesRecord":[{{"timestamp":"{STAMP}","containers":["main"]}}]}}'
    )


def test_batches_follow_the_order_of_launch_until_nothing_is_left() -> None:
    pod = running(template(container("lo", "a:1", place=-1), container("hi", "b:1", place=7), container("any", "c:1")))
    spec: UpdateSpec | None = UpdateSpec("r1", images={"lo": "a:2", "hi": "b:2", "any": "c:2"})
    state = None
    batches = []
    while spec is not None:
        applied = step(pod, spec, state)
        batches.append(applied.containers)
        pod = restarted(written(pod, *applied.writes("w")))
        state = state_of(typed(pod).metadata.annotations)
        assert state is not None
        assert state == applied.state
        spec = next_spec(state)
    assert batches == [("any", "hi"), ("lo",)]
    assert images(pod) == {"lo": "a:2", "hi": "b:2", "any": "c:2"}
    assert [batch.containers for batch in state.batches if state] == [("any", "hi"), ("lo",)]
    assert state.required_ready is None


def test_row_11_resources_that_are_left_alone_are_a_batch_too() -> None:
    limits = {"limits": {"cpu": "1"}}
    pod = running(template(container("lo", "a:1", place=1, resources=limits), container("hi", "b:1", place=2)))
    spec = UpdateSpec("r1", images={"hi": "b:2"}, resources={"lo": {"limits": {"cpu": "2"}}})
    first = step(pod, spec, gates=OLDER)
    assert first.containers == ("hi",)
    left = next_spec(first.state)
    assert left is not None
    assert left.resources == {"lo": {"limits": {"cpu": "2"}}}
    last = step(written(pod, *first.writes("w")), left, first.state, OLDER)
    assert last.resources == {"lo": {"limits": {"cpu": "2"}}}
    assert not last.state.has_next


def test_resources_that_wait_while_their_gate_goes_off_are_given_up() -> None:
    state = State("r1", STAMP, next_resources={"m": {"limits": {"cpu": "2"}}})
    left = next_spec(state)
    assert left is not None
    found = step(running(template(container("m", "a:1"))), left, state, GATES)
    assert not found.state.has_next
    assert "spec" not in found.pod_patch()


def test_row_32_a_container_without_limits_gets_them() -> None:
    pod = running(template(container("m", "a:1")))
    spec = UpdateSpec("r1", resources={"m": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}})
    after = written(pod, *step(pod, spec, gates=OLDER).writes("w"))
    assert after["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}


def test_a_resize_goes_before_the_labels_and_names_what_differs() -> None:
    have = {"limits": {"cpu": "1", "memory": "1024Mi"}}
    pod = running(template(container("m", "a:1", resources=have)))
    spec = UpdateSpec("r1", resources={"m": {"limits": {"cpu": "2", "memory": "1Gi"}}})
    first, second = step(pod, spec, gates=NEWER).writes("w", labels={"x": "y"})
    assert (first.subresource, second.subresource) == ("resize", "")
    assert first.patch == {"spec": {"containers": [{"name": "m", "resources": {"limits": {"cpu": "2"}}}]}}
    assert "spec" not in second.patch
    again = step(written(pod, first), spec, gates=NEWER)
    assert again.resize_patch() is None, "a crash between the two writes costs no second resize"


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ({"value": "p_5"}, None),
        ({"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, None),
        ({"valueFrom": {"configMapKeyRef": {"key": "p"}}}, 0),
        ({"valueFrom": {"configMapKeyRef": {"key": ""}}}, 0),
        ({"valueFrom": {"configMapKeyRef": {"key": "p_x"}}}, 0),
        ({"valueFrom": {"configMapKeyRef": {"key": "p_1_0"}}}, 0),
        ({"valueFrom": {"configMapKeyRef": {"key": "p_٣"}}}, 0),
        ({"valueFrom": {"configMapKeyRef": {"key": "p_99999999999999999999"}}}, 0),
        ({"valueFrom": {"configMapKeyRef": {"key": "p_+12"}}}, 12),
        ({"valueFrom": {"configMapKeyRef": {"key": "p_-12"}}}, -12),
    ],
)
def test_row_32_the_launch_priority_never_fails(variable: JSON, place: int | None) -> None:
    one = container("m", "a", env=[{"name": "KRUISE_CONTAINER_BARRIER", **variable}])
    assert launch_priority(typed(template(one)).spec.containers[0]) == place


def test_labels_go_with_the_containers_that_show_them() -> None:
    env = [shows("V", "metadata.labels['v']")]
    pod = running(
        template(container("hi", "a:1", place=2), container("lo", "b:1", place=1, env=env), labels={"v": "1"})
    )
    spec = UpdateSpec("r1", images={"hi": "a:2"}, metadata={"lo": {"labels": {"v": "2"}}}, env_from_metadata=True)
    first = step(pod, spec)
    assert "labels" not in first.metadata
    left = next_spec(first.state)
    assert left is not None
    assert step(pod, left, first.state).metadata["labels"] == {"v": "2"}


def test_older_keys_go_with_the_next_write() -> None:
    pod = running(
        template(container("m", "a:1"), annotations={OLD_STATE_KEY: "{}", OLD_GRACE_KEY: "x", GRACE_KEY: "y"})
    )
    after = written(pod, *step(pod, UpdateSpec("r1", images={"m": "a:2"})).writes("w"))
    assert after["metadata"]["annotations"].keys() == {STATE_KEY}
    spec = UpdateSpec("r1", images={"m": "a:2"}, grace_seconds=3)
    assert held(typed(pod), spec, initial_state(spec, NOW)) == {
        OLD_STATE_KEY: None,
        OLD_GRACE_KEY: None,
        STATE_KEY: f'{{"revision":"r1","updateTimestamp":"{STAMP}","lastContainerStatuses":null,"updateImages":true}}',
        GRACE_KEY: '{"revision":"r1","containerImages":{"m":"a:2"},"graceSeconds":3}',
    }


def test_a_patch_of_a_foreign_manager_that_takes_all_annotations_reads_as_each() -> None:
    pod = running(template(container("m", "a:1"), annotations={"a": "1", "b": "2"}))
    spec = UpdateSpec(
        "r1", metadata_patch='{"metadata":{"annotations":null,"name":"no","ownerReferences":[]},"spec":{}}'
    )
    write = step(pod, spec).writes("w")[0]
    assert write.patch.keys() == {"metadata"}
    assert write.patch["metadata"].keys() == {"annotations"}
    assert written(pod, write)["metadata"]["annotations"].keys() == {STATE_KEY}


@pytest.mark.parametrize(
    "patch",
    [
        "{",
        "[]",
        '{"metadata":[]}',
        '{"metadata":{"labels":[]}}',
        '{"metadata":{"labels":{"a":1}}}',
        '{"metadata":{"finalizers":"x"}}',
    ],
)
def test_a_patch_that_is_none_is_named(patch: str) -> None:
    with pytest.raises(StateError, match="metaDataPatch"):
        step(running(template(container("m", "a:1"))), UpdateSpec("r1", metadata_patch=patch))


@pytest.mark.parametrize(
    ("spec", "gates", "wanted"),
    [
        ({"metadata_patch": "{}"}, NEWER, True),
        ({"resources": {"m": {"limits": {"cpu": "2"}}}}, NEWER, True),
        ({"resources": {"m": {"limits": {"memory": "2"}}}}, NEWER, False),
        ({"resources": {"m": {"limits": {"memory": "2"}}}}, GATES, True),
        ({"resources": {"m": {"limits": {"memory": "2"}}}, "env_from_metadata": True}, NEWER, True),
        ({"resources": {"other": {"limits": {"cpu": "2"}}}}, NEWER, False),
    ],
)
def test_s4_who_goes_out_of_service_first(spec: dict[str, Any], gates: Gates, wanted: bool) -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}, {"resourceName": "memory"}]
    gated = typed(template(container("m", "a:1", resizePolicy=policy)))
    assert needs_unready(gated, UpdateSpec("r1", **spec), gates) is wanted
    plain = typed(template(container("m", "a:1", resizePolicy=policy), gated=False))
    assert not needs_unready(plain, UpdateSpec("r1", **spec), gates)


def test_x13_nulls_in_a_state_read_as_absent() -> None:
    text = (
        '{"revision":null,"lastContainerStatuses":{"m":null},"nextContainerImages":null,"containerBatchesRecord":null}'
    )
    assert parse(text) == State(last_images={})
    assert parse("{}").encode() == '{"revision":"","updateTimestamp":null,"lastContainerStatuses":null}'


def test_a_state_is_read_in_any_zone_and_written_in_one() -> None:
    assert parse('{"updateTimestamp":"2026-03-01T13:30:00+01:30"}').updated_at == STAMP


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "null", '{"updateTimestamp":"noon"}', '{"nextContainerImages":{"a":1}}']
)
def test_a_state_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(StateError) as caught:
        state_of({STATE_KEY: text})
    assert caught.value.annotation == STATE_KEY


def test_the_older_key_is_read_where_the_present_one_is_absent() -> None:
    assert state_of({}) is None
    assert state_of({OLD_STATE_KEY: '{"revision":"old"}'}) == State("old")
    assert state_of({OLD_STATE_KEY: '{"revision":"old"}', STATE_KEY: '{"revision":"new"}'}) == State("new")
