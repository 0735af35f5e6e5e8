"""What an update in place may change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kruise.controllers.common.inplace.annotations import GRACE_KEY, StateError
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.qos import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_class
from kruise.controllers.common.inplace.spec import NotPossible, UpdateSpec, update_spec
from tests.unit.controllers.inplace_pods import GATES, container, data, shows, template

DAEMON = Gates(daemon=True)
VERTICAL = Gates(vertical_scaling=True, server_version="v1.37.2")


def between(old: Any, new: Any, gates: Gates = GATES, **more: Any) -> UpdateSpec | NotPossible:
    return update_spec(data(old), data(new), revision="r1", gates=gates, **more)


def possible(found: UpdateSpec | NotPossible) -> UpdateSpec:
    assert isinstance(found, UpdateSpec), f"not possible: {found}"
    return found


def test_s6_row_24_a_revision_without_empty_resources_can_be_updated() -> None:
    old = template({"name": "m", "image": "a:1"})
    assert possible(between(old, template(container("m", "a:2")))).images == {"m": "a:2"}


def test_s6_spelling_and_defaults_are_no_difference() -> None:
    old = template(container("m", "a:1", resources={"limits": {"cpu": "1000m"}}))
    new = template(
        container(
            "m",
            "a:2",
            resources={"limits": {"cpu": 1}},
            imagePullPolicy="IfNotPresent",
            terminationMessagePath="/dev/termination-log",
        )
    )
    new["spec"]["restartPolicy"] = "Always"
    assert possible(between(old, new)).images == {"m": "a:2"}


def test_the_pull_policy_that_goes_with_the_tag_is_no_difference() -> None:
    old, new = template(container("m", "a:latest")), template(container("m", "a:2"))
    assert possible(between(old, new)).images == {"m": "a:2"}


def test_a_pull_policy_that_is_given_forbids() -> None:
    old = template(container("m", "a:1", imagePullPolicy="Always"))
    found = between(old, template(container("m", "a:2", imagePullPolicy="IfNotPresent")))
    assert found == NotPossible(("spec.containers[0].imagePullPolicy",))


def test_a_missing_revision_forbids() -> None:
    found = update_spec(None, data(template(container("m", "a:2"))), revision="r1", gates=GATES)
    assert isinstance(found, NotPossible)


def test_the_words_name_three_fields_at_most() -> None:
    assert str(NotPossible(("a", "b", "c", "d", "e"))) == "a, b, c and 2 more"
    assert str(NotPossible(("a",))) == "a"


def test_a_restart_policy_beside_an_image_forbids() -> None:
    old, new = template(container("m", "a:1")), template(container("m", "a:2"))
    new["spec"]["terminationGracePeriodSeconds"] = 5
    assert between(old, new) == NotPossible(("spec.terminationGracePeriodSeconds",))


def test_row_17_without_a_daemon_metadata_that_variables_show_is_just_patched() -> None:
    env = [shows("V", "metadata.labels['v']")]
    old = template(container("m", "a:1", env=env), labels={"app": "web", "v": "1"})
    new = template(container("m", "a:1", env=env), labels={"app": "web", "v": "2"})
    found = possible(between(old, new))
    assert not found.env_from_metadata
    assert not found.metadata
    assert found.metadata_patch == '{"metadata":{"labels":{"v":"2"}}}'
    moved = possible(between(old, new, DAEMON))
    assert moved.metadata == {"m": {"labels": {"v": "2"}}}
    assert moved.metadata_patch == "{}"


def test_a_literal_variable_shows_nothing() -> None:
    env = [
        {"name": "V", "value": "x", **shows("V", "metadata.labels['v']")},
        shows("SIDECARSET_VERSION", "metadata.labels['v']"),
    ]
    old = template(container("m", "a:1", env=env), labels={"app": "web", "v": "1"})
    new = template(container("m", "a:1", env=env), labels={"app": "web", "v": "2"})
    assert not possible(between(old, new, DAEMON)).metadata


def test_x14_the_patch_names_every_key_and_finalizer_that_goes() -> None:
    old = template(container("m", "a:1"), annotations={"a": "1", "b": "2"}, finalizers=["x/y", "c/d"])
    found = possible(between(old, template(container("m", "a:1"))))
    assert json.loads(found.metadata_patch or "") == {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["c/d", "x/y"], "annotations": {"a": None, "b": None}}
    }


def test_finalizers_are_exchanged_one_by_one() -> None:
    old = template(container("m", "a:1"), finalizers=["a/a", "b/b"])
    found = possible(between(old, template(container("m", "a:1"), finalizers=["b/b", "c/c"])))
    assert json.loads(found.metadata_patch or "")["metadata"] == {
        "$deleteFromPrimitiveList/finalizers": ["a/a"],
        "$setElementOrder/finalizers": ["b/b", "c/c"],
        "finalizers": ["c/c"],
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(
            {"limits": {"cpu": "1", "memory": "1Gi"}}, {"limits": {"cpu": "2", "memory": "1Gi"}}, id="limits alone"
        ),
        pytest.param(
            {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
            {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
            id="a limit of a guaranteed pod",
        ),
        pytest.param(
            {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
            {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "2", "memory": "1Gi"}},
            id="up to guaranteed",
        ),
    ],
)
def test_a_change_of_the_class_forbids(old: Any, new: Any) -> None:
    found = between(
        template(container("m", "a:1", resources=old)), template(container("m", "a:1", resources=new)), VERTICAL
    )
    assert found == NotPossible(("the quality-of-service class",))


def test_resources_change_with_their_gate_only() -> None:
    old = template(container("m", "a:1", resources={"limits": {"cpu": "1"}}))
    new = template(container("m", "a:1", resources={"limits": {"cpu": "2"}}))
    assert isinstance(between(old, new), NotPossible)
    assert possible(between(old, new, VERTICAL)).resources == {"m": {"limits": {"cpu": "2"}}}


def test_resources_of_an_init_container_forbid() -> None:
    bodies = []
    for cpu in ("1", "2"):
        body = template(container("m", "a:1"))
        body["spec"]["initContainers"] = [container("i", "b:1", resources={"limits": {"cpu": cpu}})]
        bodies.append(body)
    assert between(*bodies, VERTICAL) == NotPossible(("spec.initContainers[0].resources.limits.cpu",))


def test_claim_templates_count_with_their_gate_only() -> None:
    key = "kruise.io/cloneset-volumeclaimtemplate-hash"
    bodies = template(container("m", "a:1")), template(container("m", "a:2"))
    marks = {"old_annotations": {key: "1"}, "new_annotations": {key: "2"}}
    assert isinstance(between(*bodies, **marks), UpdateSpec)
    assert isinstance(between(*bodies, Gates(recreate_on_claim_change=True), **marks), NotPossible)


def test_the_classes() -> None:
    assert qos_class([{}, {"limits": {"nvidia.com/gpu": "1"}}]) == BEST_EFFORT
    assert qos_class([{"requests": {"cpu": "0"}}]) == BEST_EFFORT
    assert qos_class([{"requests": {"cpu": "1m"}}]) == BURSTABLE
    full = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}
    assert qos_class([full]) == GUARANTEED
    assert qos_class([full, {}]) == BURSTABLE
    assert qos_class([{"limits": {"cpu": "x"}}]) == BEST_EFFORT


def test_the_answer_is_shared_by_the_pods_of_one_step() -> None:
    bodies = template(container("m", "a:1")), template(container("m", "a:2"))
    assert between(*bodies) is between(*bodies)


def test_x13_nulls_in_a_grace_annotation_read_as_absent() -> None:
    nulls = '"containerImages":null,"containerRefMetadata":{"m":null},"metaDataPatch":null,"graceSeconds":null'
    text = f'{{"revision":"r1",{nulls}}}'
    assert UpdateSpec.from_json(text) == UpdateSpec(revision="r1")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"graceSeconds":"x"}', '{"metaDataPatch":"%"}', '{"metaDataPatch":"/w=="}']
)
def test_a_grace_annotation_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(StateError, match=GRACE_KEY):
        UpdateSpec.from_json(text)


@pytest.mark.parametrize(
    ("version", "apart"),
    [("v1.31.9", False), ("v1.32.0", True), ("1.37.2-gke.1", True), ("v2.0.0", True), ("", False), ("latest", False)],
)
def test_resources_go_apart_from_1_32(version: str, apart: bool) -> None:
    assert Gates(vertical_scaling=True, server_version=version).resizes_apart is apart
    assert not Gates(server_version=version).resizes_apart
