"""Defaults, conversion, hashes and metadata patches of SidecarSet beyond the recorded answers."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.apis import sidecarset_hash
from kruise.apis.go_encoding import _table
from kruise.apis.sidecarset import (
    CUSTOM_VERSION_LABEL,
    HASH_ANNOTATION,
    HASH_WITHOUT_IMAGE_ANNOTATION,
    PatchPodMetadata,
    SidecarSet,
    sidecars,
)
from kruise.apis.sidecarset_hash import canonical_sidecar, hashed_text, sidecarset_hashes
from kruise.apis.sidecarset_metadata import MetadataPatchError, patch_pod_metadata
from kruise.apis.sidecarset_rules import convert_sidecarset, decode_problem, default_sidecarset, effective

API = "apps.kruise.io/"


def a_set(spec: dict[str, Any], version: str = "v1beta1", **meta: Any) -> dict[str, Any]:
    return {"apiVersion": API + version, "kind": "SidecarSet", "metadata": {"name": "a", **meta}, "spec": spec}


# Hashes.

VECTORS = [
    ({}, "w26c4x8fz245642fdv499b464248f974xddx4x55z5dw55bc6x66464fxz77dc78", 0),
    (
        {"initContainers": [{"name": "container1", "image": "test-image", "restartPolicy": "Always"}]},
        "4xwx4d4844vd4v9x79wb4xbxf4xb29475cc4446v8cz2c2f2f5c5bw448vd42z8w",
        0,
    ),
    ({}, "8wzddb4dvv9c6x8zdc77z4z75987424f457dfv6724ddw6zbdx467wz5x24fc759", 1),
    (
        {"initContainers": [{"name": "container1", "image": "test-image", "restartPolicy": "Always"}]},
        "5725fw8bwbx249bw57v5892c847dzf48bww9zb7c86xb95264fdz26654847b2c8",
        1,
    ),
]


@pytest.mark.parametrize(("more", "wanted", "which"), VECTORS)
def test_the_published_hashes(more: dict[str, Any], wanted: str, which: int) -> None:
    spec = {"containers": [{"name": "container1", "image": "test-image"}], **more}
    assert sidecarset_hashes(spec)[which] == wanted


def test_the_published_hashes_of_a_completed_container() -> None:
    made = default_sidecarset(a_set({"containers": [{"name": "dns-f", "image": "dns:1.0"}]}))
    assert made["metadata"]["annotations"] == {
        HASH_ANNOTATION: "6wbd76bd7984x24fb4f44fv9222cw9v9bcf85x766744wddd4zwx927zzz2zb684",
        HASH_WITHOUT_IMAGE_ANNOTATION: "82684vwf9d4cb4wz4vffx4ddfbb47ww4z4wwxdbwb8w2zbb7zvf4524cdd49bv94",
    }


def test_the_declared_order_names_every_field_that_go_writes() -> None:
    types = _table()[1]
    for name, order in sidecarset_hash._ORDER.items():
        assert set(order) == set(types[f"core.v1.{name}"]), name


def test_an_unknown_field_is_kept_at_the_end_and_not_hashed() -> None:
    plain = {"image": "i", "name": "a"}
    fancy = {"future": 1, **plain}
    assert list(canonical_sidecar(fancy))[-4:] == ["resources", "future", "upgradeStrategy", "shareVolumePolicy"]
    assert hashed_text({"containers": [fancy]}) == hashed_text({"containers": [plain]})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), st.lists, max_leaves=4))
def test_x13_rubbish_is_hashed_and_does_not_raise(rubbish: Any) -> None:
    for key in ("transferEnv", "resourcesPolicy", "upgradeStrategy", "env", "resources"):
        sidecarset_hashes({"containers": [{"name": "a", key: rubbish}, rubbish], "initContainers": rubbish})


# Defaults.


def test_x35_defaulting_keeps_what_it_does_not_know_and_its_input() -> None:
    given_set = a_set(
        {
            "future": {"a": 1},
            "containers": [{"name": "a", "image": "b", "future": [1], "resources": {"limits": {"x.y/z": "1.50"}}}],
            "volumes": [{"name": "v", "future": None}],
            "injectionStrategy": {"future": 1, "revision": {"revisionName": "r", "future": 2}},
        },
        annotations={"mine": "1"},
    )
    before = copy.deepcopy(given_set)
    made = default_sidecarset(given_set)
    assert given_set == before
    spec = made["spec"]
    assert (spec["future"], spec["containers"][0]["future"], spec["injectionStrategy"]["future"]) == ({"a": 1}, [1], 1)
    assert spec["injectionStrategy"]["revision"] == {"revisionName": "r", "future": 2, "policy": "Always"}
    assert made["metadata"]["annotations"]["mine"] == "1"
    assert default_sidecarset(made) == made


def test_the_gate_leaves_what_is_core_alone() -> None:
    made = default_sidecarset(
        a_set({"containers": [{"name": "a", "image": "b"}], "volumes": [{"name": "v"}]}), template_defaults=False
    )
    assert made["spec"]["volumes"] == [{"name": "v"}]
    assert set(made["spec"]["containers"][0]) == {
        "name",
        "image",
        "podInjectPolicy",
        "upgradeStrategy",
        "shareVolumePolicy",
    }


def test_a_startup_probe_is_left_alone() -> None:
    probes = {"startupProbe": {"httpGet": {"port": 1}}, "livenessProbe": {"httpGet": {"port": 1}}}
    (made,) = default_sidecarset(a_set({"containers": [{"name": "a", "image": "b", **probes}]}))["spec"]["containers"]
    assert made["startupProbe"] == probes["startupProbe"]
    assert made["livenessProbe"]["periodSeconds"] == 10


# Conversion.


def test_section_13_an_alpha_object_with_an_empty_namespace_keeps_its_selector() -> None:
    selector = {"matchLabels": {"a": "b"}}
    made = convert_sidecarset(a_set({"namespace": "", "namespaceSelector": selector}, "v1alpha1"), "v1beta1")
    assert made["spec"] == {"namespaceSelector": selector}


def test_a_field_that_a_version_lacks_gains_no_meaning_in_the_other() -> None:
    beta = convert_sidecarset(a_set({"customVersion": "x"}, "v1alpha1"), "v1beta1")
    alpha = convert_sidecarset(a_set({"namespace": "prod"}), "v1alpha1")
    assert (beta["spec"], alpha["spec"]) == ({}, {})


def test_conversion_leaves_its_input_and_refuses_other_versions() -> None:
    given_set = a_set({"customVersion": "v1"}, labels={"l": "m"})
    before = copy.deepcopy(given_set)
    made = convert_sidecarset(given_set, "v1alpha1")
    assert given_set == before
    assert made["metadata"]["labels"] == {"l": "m", CUSTOM_VERSION_LABEL: "v1"}
    with pytest.raises(ValueError, match="v2"):
        convert_sidecarset(given_set, "v2")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"containers": {}}, "Expected `array | null`"),
        ({"containers": [{"name": 1}]}, "Expected `str`"),
        ({"containers": [{"name": "a", "ports": [{"containerPort": "x"}]}]}, "spec.containers[0].ports"),
        ({"volumes": [{"name": "a", "secret": 1}]}, "spec.volumes[0].secret"),
        ({"initContainers": [{"name": "a", "resources": {"limits": {"cpu": "x"}}}]}, "quantit"),
        ({"updateStrategy": {"partition": 1 << 31}}, "32 bits"),
        ({"revisionHistoryLimit": "1"}, "Expected `int | null`"),
        ({"selector": 3}, "Expected"),
        ([], "Expected"),
    ],
)
def test_what_an_api_server_would_refuse_is_no_set(spec: Any, said: str) -> None:
    assert said in decode_problem(a_set(spec), "v1beta1")


def test_an_alpha_namespace_must_be_text_and_nulls_are_absent() -> None:
    assert "spec.namespace" in decode_problem(a_set({"namespace": 1}, "v1alpha1"), "v1alpha1")
    assert (
        decode_problem(a_set({"namespace": None, "containers": None, "selector": None}, "v1alpha1"), "v1alpha1") == ""
    )
    assert "want" in decode_problem(a_set({}), "v1alpha1")


# In memory.


def typed(spec: dict[str, Any]) -> SidecarSet:
    return msgspec.json.decode(msgspec.json.encode(a_set(spec)), type=SidecarSet)


def test_effective_is_the_set_itself_when_nothing_is_missing() -> None:
    scs = typed({"selector": {"matchLabels": {"a": "b"}}})
    assert effective(scs) is scs


def test_effective_fills_in_what_admission_would() -> None:
    spec = effective(typed({"selector": {}, "revisionHistoryLimit": 0, "updateStrategy": {"type": ""}})).spec
    assert (spec.selector, spec.revision_history_limit, spec.update_strategy.type) == (None, 1, "RollingUpdate")
    assert effective(typed({"revisionHistoryLimit": None})).spec.revision_history_limit == 10


def test_heads_of_containers() -> None:
    scs = typed({"containers": [{"name": "a", "image": "b", "upgradeStrategy": {"upgradeType": "HotUpgrade"}}]})
    (head,) = sidecars(scs.spec.containers)
    assert (head.name, head.hot, head.native) == ("a", True, False)
    assert sidecars(scs.spec.init_containers) == ()
    assert (scs.hash, scs.hash_without_image) == ("", "")


# Metadata patches.


def merged(document: str, patch: str) -> str:
    patches = [PatchPodMetadata(annotations={"k": patch}, patch_policy="MergePatchJson")]
    return patch_pod_metadata({"k": document}, patches)[0]["k"]


@pytest.mark.parametrize(
    ("document", "patch", "wanted"),
    [
        ('{"a":1}', '[null, {"x":null}]', "[null,{}]"),
        ('{"a":{"b":1}}', '{"a":[{"x":null}]}', '{"a":[{"x":null}]}'),
        ('{"a":1}', '{"a":[{"x":null}]}', '{"a":[{}]}'),
        ("[1]", '{"a":null,"b":2}', '{"b":2}'),
        ("3", '{"b" : {"d":1,"c":2}}', '{"b":{"c":2,"d":1}}'),
        ('{"a":{ "z":1, "b":"<\\u003e" }}', '{"c":1}', '{"a":{"z":1,"b":"\\u003c\\u003e"},"c":1}'),
        ('{"a":1,"a":2}', "{}", '{"a":2}'),
        ('{"a":null}', '{"a":{"b":null}}', '{"a":{}}'),
        (" { } ", ' { "x" : [ ] } ', '{"x":[]}'),
    ],
)
def test_section_56_merges_as_upstream_does(document: str, patch: str, wanted: str) -> None:
    assert merged(document, patch) == wanted


@pytest.mark.parametrize(
    ("document", "patch"),
    [
        ("null", "{}"),
        ("{}", "null"),
        ("{}", "3"),
        ("{}", '"x"'),
        ("x", "{}"),
        ("{}", "{"),
        ("{}", "NaN"),
        ("[" * 9999, "{}"),
    ],
)
def test_section_56_what_cannot_be_merged(document: str, patch: str) -> None:
    with pytest.raises(MetadataPatchError):
        merged(document, patch)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def rfc_7386(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = rfc_7386(result.get(key), value)
    return result


def without_lists(value: Any) -> Any:
    return (
        {k: without_lists(v) for k, v in value.items() if not isinstance(v, list)} if isinstance(value, dict) else value
    )


@given(JSON, st.dictionaries(st.text(max_size=2), JSON, max_size=3))
def test_section_56_is_rfc_7386_where_no_list_is_patched(document: Any, patch: dict[str, Any]) -> None:
    if document is None:
        return
    document, patch = without_lists(document), without_lists(patch)
    text = json.dumps(document, ensure_ascii=False)
    if text.encode("utf-8", "ignore").decode() != text or document == "":
        return
    found = json.loads(merged(text, json.dumps(patch)))
    assert found == rfc_7386(document, patch)
