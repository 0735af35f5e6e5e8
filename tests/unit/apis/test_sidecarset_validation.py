"""Validation of SidecarSet beyond the recorded answers: the decisions, and what is found in the white list."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from kruise.apis.fielderrors import FieldError
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.apis.sidecarset_validation import Surroundings, validate_sidecarset
from kruise.apis.sidecarset_whitelist import white_list_problem

KEY = "SidecarSet_PatchPodMetadata_WhiteList"
CANARY = {"apps.kruise.io/sidecarset-canary": "true", "apps.kruise.io/sidecarset-base": "mesh"}


def a_set(name: str = "mesh", annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    made = {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "SidecarSet",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {
            "selector": {"matchLabels": {"app": "shop"}},
            "containers": [{"name": "envoy", "image": "envoy:1"}],
            **spec,
        },
    }
    return default_sidecarset(made)


def said(errors: list[FieldError]) -> list[tuple[str, str]]:
    return [(error.field, error.detail) for error in errors]


def sidecar(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "envoy", "image": "envoy:1", **more}]


def test_section_94_a_twin_needs_its_image() -> None:
    made = a_set(containers=sidecar(upgradeStrategy={"upgradeType": "HotUpgrade"}))
    assert said(validate_sidecarset(made)) == [
        (
            "spec.container.upgradeStrategy.hotUpgradeEmptyImage",
            "HotUpgrade needs an image for the twin that does not serve",
        )
    ]


def policy(expression: str) -> dict[str, Any]:
    return {
        "targetContainersMode": "sum",
        "targetContainersNameRegex": ".*",
        "resourcesExpr": {"limits": {"memory": expression}},
    }


def test_section_123_a_name_that_injection_would_not_find_is_refused() -> None:
    assert validate_sidecarset(a_set(containers=sidecar(resourcesPolicy=policy("memory*2")))) == []
    (error,) = validate_sidecarset(a_set(containers=sidecar(resourcesPolicy=policy("Memory*2"))))
    assert error.field == "spec[0].resourcesPolicy.resourcesExpr.limits.memory"


@pytest.mark.parametrize(
    ("change", "field", "detail"),
    [
        ({"targetContainersNameRegex": ""}, "targetContainersNameRegex", "invalid empty regex"),
        ({"resourcesExpr": {}}, "resourcesExpr", "at least one of limits or requests must be configured"),
    ],
)
def test_section_121_what_a_policy_needs(change: dict[str, Any], field: str, detail: str) -> None:
    made = a_set(containers=sidecar(resourcesPolicy={**policy("1"), **change}))
    assert said(validate_sidecarset(made)) == [(f"spec[0].resourcesPolicy.{field}", detail)]


def test_section_14_a_set_and_its_canary_do_not_conflict() -> None:
    base, canary = a_set(), a_set("canary", CANARY, updateStrategy={"type": "NotUpdate"})
    for one, other in ((base, canary), (canary, base)):
        assert validate_sidecarset(one, one, Surroundings(others=[other, one])) == []
    stranger = a_set("stranger")
    errors = validate_sidecarset(base, None, Surroundings(others=[canary, stranger]))
    assert said(errors) == [("spec.containers", "container envoy already exist in stranger")]


def test_c4_a_volume_is_compared_by_what_it_means() -> None:
    first = a_set(volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1024Mi"}}])
    second = a_set(
        "two", containers=[{"name": "b", "image": "b"}], volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}]
    )
    assert validate_sidecarset(second, None, Surroundings(others=[first])) == []
    second["spec"]["volumes"][0]["emptyDir"]["sizeLimit"] = "2Gi"
    (error,) = validate_sidecarset(second, None, Surroundings(others=[first]))
    assert error.detail == "volume v is in conflict with sidecarset mesh"


def test_a_pair_that_is_spread_twice() -> None:
    made = a_set(updateStrategy={"scatterStrategy": [{"key": "a", "value": "b"}] * 2})
    assert said(validate_sidecarset(made)) == [("spec.updateStrategy.scatterStrategy", "duplicated key=a value=b")]


@pytest.mark.parametrize("path", ["['a']", "spec['a']", "metadata.labels['a'", "metadata.labels[a]"])
def test_a_reference_is_to_a_label_or_annotation(path: str) -> None:
    entry = {"sourceContainerNameFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
    (error,) = validate_sidecarset(a_set(containers=sidecar(transferEnv=[entry])))
    assert error.field == "spec[0].transferEnv.fieldRef.fieldPath"
    assert error.detail.startswith("error converting fieldPath: field label ")


def test_a_reference_to_an_annotation_is_read_in_lower_case_and_of_version_1() -> None:
    entry = {"sourceContainerNameFrom": {"fieldRef": {"fieldPath": "metadata.annotations['Acme.io/Main']"}}}
    assert validate_sidecarset(a_set(containers=sidecar(transferEnv=[entry]))) == []
    entry["sourceContainerNameFrom"]["fieldRef"]["apiVersion"] = "v2"
    (error,) = validate_sidecarset(a_set(containers=sidecar(transferEnv=[entry])))
    assert error.detail == "error converting fieldPath: unsupported pod version: v2"


def test_keys_of_annotations_are_checked() -> None:
    made = a_set(patchPodMetadata=[{"annotations": {"not ok": "x"}}])
    (error,) = validate_sidecarset(made, None, Surroundings(metadata_allowed=True))
    assert error.field == "patchPodMetadata.annotations"


def test_an_upgrade_type_that_was_empty_may_be_chosen() -> None:
    old = a_set()
    old["spec"]["containers"][0]["upgradeStrategy"] = {}
    hot = {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": "e"}
    new = a_set(containers=sidecar(upgradeStrategy=hot))
    assert validate_sidecarset(new, old) == []
    assert said(validate_sidecarset(new, a_set())) == [
        ("spec.containers.upgradeStrategy.upgradeType", "container envoy upgradeType is immutable")
    ]


def test_nothing_that_is_given_changes() -> None:
    made, other = a_set(), a_set("two")
    before = copy.deepcopy((made, other))
    validate_sidecarset(made, made, Surroundings(others=[other]))
    assert (made, other) == before


# The white list.


def listed(*rules: Any) -> dict[str, str]:
    return {KEY: json.dumps({"rules": list(rules)})}


def problem(data: dict[str, str] | None, keys: list[str], *, gate: bool = False) -> str:
    return white_list_problem({"team": "net"}, keys, data, allowed_by_default=gate)


def test_section_43_no_list_and_no_rule_leave_it_to_the_gate() -> None:
    other = listed({"selector": {"matchLabels": {"team": "db"}}, "allowedAnnotationKeyExprs": ["k"]})
    for data in (None, {}, other):
        assert "whitelist not found" in problem(data, ["k"]) or "is not allowed" in problem(data, ["k"])
        assert problem(data, ["k"], gate=True) == ""


def test_section_43_every_key_needs_an_expression() -> None:
    data = listed({"allowedAnnotationKeyExprs": ["^a/"]}, {"selector": {}, "allowedAnnotationKeyExprs": ["b$"]})
    assert problem(data, ["a/x", "x/b"]) == ""
    assert problem(data, ["a/x", "x/a"]) == "sidecarSet patch metadata annotation(x/a) is not allowed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "3",
        '{"rules":{}}',
        '{"rules":[3]}',
        '{"rules":[{"selector":3}]}',
        '{"rules":[{"allowedAnnotationKeyExprs":"a"}]}',
        '{"rules":[{"allowedAnnotationKeyExprs":[1]}]}',
        '{"rules":[{"selector":{"matchExpressions":[{"key":"a","operator":"Near"}]}}]}',
        "[" * 99999,
    ],
)
def test_section_43_a_list_that_cannot_be_read_allows_nothing(text: str) -> None:
    assert problem({KEY: text}, ["k"], gate=True)
