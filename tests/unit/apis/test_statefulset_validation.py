"""Validation of Advanced StatefulSet: every rule once, and what section 16 fixes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kruise.apis.core import StorageClass
from kruise.apis.fielderrors import FieldError
from kruise.apis.statefulset_claims import DEFAULT_CLASS, default_class
from kruise.apis.statefulset_rules import default_statefulset
from kruise.apis.statefulset_validation import validate_delete, validate_statefulset, validate_update
from kruise.apis.templatediff import first_difference
from kruise.runtime.objects import ObjectMeta

ABSENT = object()
GATE = {"conditionType": "InPlaceUpdateReady"}
ROLLING = "spec.updateStrategy.rollingUpdate."


def sts(*changes: tuple[str, Any], version: str = "v1beta1") -> dict[str, Any]:
    """Return a valid, defaulted set of Parallel pods with other values at some paths."""
    made: dict[str, Any] = default_statefulset(
        {
            "apiVersion": f"apps.kruise.io/{version}",
            "kind": "StatefulSet",
            "metadata": {"name": "web", "namespace": "prod", "uid": "u", "resourceVersion": "5"},
            "spec": {
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"readinessGates": [GATE], "containers": [{"name": "main", "image": "nginx"}]},
                },
            },
        }
    )
    for path, value in changes:
        *way, last = path.split(".")
        place = made
        for part in way:
            place = place.setdefault(part, {})
        if value is ABSENT:
            place.pop(last, None)
        else:
            place[last] = value
    return made


def said(errors: list[FieldError]) -> list[tuple[str, str]]:
    return [(error.field, error.detail) for error in errors]


def test_a_defaulted_set_is_valid() -> None:
    assert validate_statefulset(sts()) == []
    assert validate_update(sts(), sts()) == []
    assert validate_statefulset(sts(version="v1alpha1")) == []


def test_row_32_absent_numbers_are_judged_as_their_defaults() -> None:
    absent = sts(("spec.replicas", ABSENT), (ROLLING + "partition", ABSENT), (ROLLING + "minReadySeconds", None))
    assert validate_statefulset(absent) == []


@pytest.mark.parametrize(
    ("path", "value", "field", "detail"),
    [
        ("spec.podManagementPolicy", "", "spec.podManagementPolicy", ""),
        ("spec.updateStrategy.type", "Sometimes", "spec.updateStrategy", "must be 'RollingUpdate' or 'OnDelete'"),
        (
            ROLLING + "podUpdatePolicy",
            "InPlace",
            ROLLING + "podUpdatePolicy",
            "must be 'ReCreate', InPlaceIfPossible or 'InPlaceOnly'",
        ),
        (ROLLING + "maxUnavailable", ABSENT, ROLLING + "maxUnavailable", ""),
        (ROLLING + "maxUnavailable", 0, ROLLING + "maxUnavailable", "should not be less than 1"),
        (ROLLING + "minReadySeconds", -1, ROLLING + "minReadySeconds", "must be greater than or equal to 0"),
        ("spec.ordinals.start", -1, "spec.ordinals.start", "must be greater than or equal to 0"),
        ("spec.reserveOrdinals", ["5-2"], "spec", "0 th reserve ordinal is invalid: 5-2, err = invalid range 5-2"),
        (
            ROLLING + "unorderedUpdate.priorityStrategy.weightPriority",
            [{"weight": 1, "matchSelector": {}}],
            ROLLING + "unorderedUpdate.priorityStrategy",
            "selector can not be empty",
        ),
        (
            "spec.persistentVolumeClaimRetentionPolicy",
            {"whenDeleted": "Delete"},
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
            'supported values: "Retain", "Delete"',
        ),
    ],
)
def test_refuses(path: str, value: Any, field: str, detail: str) -> None:
    assert said(validate_statefulset(sts((path, value)))) == [(field, detail)]


def test_a_null_selector_is_two_errors() -> None:
    assert said(validate_statefulset(sts(("spec.selector", None)))) == [
        ("spec.selector", ""),
        ("spec.template.metadata.labels", "`selector` does not match template `labels`"),
    ]


def test_v1alpha1_is_not_judged_by_fields_that_it_lacks() -> None:
    assert validate_statefulset(sts(("spec.reserveOrdinals", ["x"]), version="v1alpha1")) == []
    assert validate_statefulset(sts(("spec.reserveOrdinals", ["x"]))) != []


def test_seccomp_annotations_of_the_template_are_checked() -> None:
    key = "seccomp.security.alpha.kubernetes.io/pod"
    found = validate_statefulset(sts(("spec.template.metadata.annotations", {key: "mine"})))
    assert said(found) == [(f"spec.template.annotations.{key}", "must be a valid seccomp profile")]


@pytest.mark.parametrize("rubbish", [None, 3, "x", [], {"spec": []}, {"metadata": 3, "spec": {"template": []}}])
def test_row_32_nothing_makes_it_fail(rubbish: Any) -> None:
    made = {"metadata": {}, "spec": rubbish} if not isinstance(rubbish, dict) else rubbish
    assert validate_statefulset(made) != []
    assert validate_update(made, sts()) != []
    assert validate_delete(made, enabled=True) == []


# ---- update ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("replicas", 5),
        ("template", {"metadata": {"labels": {"app": "web"}}, "spec": {}}),
        ("updateStrategy", {"type": "OnDelete"}),
        ("persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Delete", "whenScaled": "Delete"}),
        ("scaleStrategy", {"maxUnavailable": 3}),
        ("volumeClaimTemplates", [{"metadata": {"name": "a"}}]),
        ("volumeClaimUpdateStrategy", {"type": "OnDelete"}),
        ("reserveOrdinals", [1]),
        ("lifecycle", {"preDelete": {"finalizersHandler": ["a/b"]}}),
        ("revisionHistoryLimit", 3),
        ("ordinals", {"start": 3}),
    ],
)
def test_what_may_change(key: str, value: Any) -> None:
    assert validate_update(sts((f"spec.{key}", value)), sts()) == []


@pytest.mark.parametrize(
    ("new", "old", "same"),
    [
        (("spec.serviceName", "a"), ("spec.serviceName", "b"), False),
        (("spec.serviceName", ""), ("spec.serviceName", ABSENT), True),
        (("spec.podManagementPolicy", "Parallel"), ("spec.podManagementPolicy", "OrderedReady"), False),
        (
            ("spec.selector", {"matchLabels": {"app": "web"}, "matchExpressions": []}),
            ("spec.selector", {"matchLabels": {"app": "web"}, "matchExpressions": None}),
            True,
        ),
        (
            ("spec.selector", {"matchLabels": {"app": "web"}}),
            ("spec.selector", {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}),
            False,
        ),
    ],
)
def test_what_may_not_change(new: tuple[str, Any], old: tuple[str, Any], same: bool) -> None:
    errors = validate_update(sts(new), sts(old))
    assert [error.field for error in errors] == ([] if same else ["spec"])


def test_an_empty_label_value_is_not_an_absent_label() -> None:
    new, old = (sts(("spec.template.metadata.labels", {"app": "web", "x": ""})) for _ in range(2))
    new["spec"]["selector"] = {"matchLabels": {"app": "web", "x": ""}}
    assert [error.field for error in validate_update(new, old)] == ["spec"]


def test_row_22_errors_come_out_once() -> None:
    new = sts(("spec.replicas", -1), ("metadata.labels", {"a": "b c"}))
    assert [error.field for error in validate_update(new, sts())] == ["metadata.labels", "spec.replicas"]


def test_metadata_that_may_not_change() -> None:
    old = sts(
        ("metadata.deletionTimestamp", "2026-03-01T12:00:00Z"),
        ("metadata.generation", 4),
        ("metadata.finalizers", ["a/b"]),
    )
    new = sts(("metadata.uid", "v"), ("metadata.generation", 3), ("metadata.finalizers", ["a/b", "c/d"]))
    assert said(validate_update(new, old)) == [
        (
            "metadata.finalizers",
            'no new finalizers can be added if the object is being deleted, found new finalizers []string{"c/d"}',
        ),
        ("metadata.generation", "must not be decremented"),
        ("metadata.uid", "field is immutable"),
        ("metadata.deletionTimestamp", "field is immutable"),
    ]


def claim(name: str = "data", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec},
    }


def storage_class(name: str, grows: bool | None, created: str = "2026-01-01T00:00:00Z", **annotations: str) -> Any:
    return StorageClass(
        metadata=ObjectMeta(name=name, creation_timestamp=created, annotations=annotations),
        allow_volume_expansion=grows,
    )


GROWN = {"resources": {"requests": {"storage": "2Gi"}}}


def resized(new: list[Any], old: list[Any], *classes: StorageClass, kind: str = "OnPodRollingUpdate") -> Any:
    strategy = ("spec.volumeClaimUpdateStrategy", {"type": kind})
    return said(
        validate_update(
            sts(("spec.volumeClaimTemplates", new), strategy),
            sts(("spec.volumeClaimTemplates", old)),
            classes,
            resize_claims=True,
        )
    )


def test_row_15_claim_templates_are_judged_by_the_new_strategy() -> None:
    at = "spec.volumeClaimTemplates"
    renamed = [(f"{at}[b].name", "volumeClaimTemplate name can not be modified")]
    assert resized([claim("b")], [claim("a")]) == renamed
    assert resized([claim("b")], [claim("a")], kind="Whenever") == renamed
    assert resized([claim("b")], [claim("a")], kind="OnDelete") == []
    assert resized([claim("b")], [claim("a")], kind="") == []


def test_sizes_need_a_class_that_grows() -> None:
    at = "spec.volumeClaimTemplates[data].spec."
    fast, slow = storage_class("fast", True), storage_class("slow", False)
    grown = {**GROWN, "storageClassName": "slow"}
    refused = (at + "resources.requests.storage", "storage class slow does not support volume expansion")
    assert resized([claim(**grown)], [claim(storageClassName="slow")], fast, slow) == [refused]
    assert resized([claim(**grown | {"storageClassName": "fast"})], [claim()], fast, slow) == []
    assert resized([claim(**grown)], [claim()], fast) == [(at + "storageClassName", "can not get sc")]
    assert resized([claim(**GROWN)], [claim()], fast, slow) == []
    default = storage_class("slow", False, **{DEFAULT_CLASS: "true"})
    assert resized([claim(**GROWN)], [claim()], fast, default) == [refused]
    same = {"resources": {"requests": {"storage": "1024Mi"}}}
    assert resized([claim(**same)], [claim()], default) == []


def test_the_newest_default_class_counts() -> None:
    old = storage_class("old", True, "2026-01-01T00:00:00Z", **{DEFAULT_CLASS: "true"})
    new = storage_class("new", True, "2026-02-01T00:00:00Z", **{DEFAULT_CLASS: "true"})
    newest = storage_class("newest", True, "2026-03-01T00:00:00Z", **{DEFAULT_CLASS: "yes"})
    assert default_class([old, new, newest]) is new
    assert default_class([newest]) is None


def test_without_the_gate_claim_templates_are_free() -> None:
    strategy = ("spec.volumeClaimUpdateStrategy", {"type": "OnPodRollingUpdate"})
    assert validate_update(sts(("spec.volumeClaimTemplates", [claim("b")]), strategy), sts(strategy)) == []


# ---- in place only ---------------------------------------------------------------------------------------------------

ONLY = (ROLLING + "podUpdatePolicy", "InPlaceOnly")
BARE = {"readinessGates": [GATE], "containers": [{"name": "main", "image": "nginx"}]}


def only(pod: dict[str, Any], old: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    before = sts(ONLY) if old is None else sts(ONLY, ("spec.template.spec", old))
    return said(validate_update(sts(ONLY, ("spec.template.spec", pod)), before))


def test_row_21_a_template_equals_itself_with_its_defaults() -> None:
    assert only(BARE) == []
    assert only(BARE, BARE) == []
    spelled = copy.deepcopy(BARE)
    spelled["hostNetwork"] = False
    spelled["containers"][0]["resources"] = {"limits": {"cpu": "1000m"}}
    old = copy.deepcopy(BARE)
    old["containers"][0] |= {"image": "other", "resources": {"limits": {"cpu": 1}}}
    assert only(spelled, old) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"imagePullPolicy": "Never"}, "replace /containers/0/imagePullPolicy"),
        ({"env": [{"name": "A", "value": "b"}]}, "add /containers/0/env"),
    ],
)
def test_row_15_only_an_image_is_an_image(change: dict[str, Any], difference: str) -> None:
    pod = copy.deepcopy(BARE)
    pod["containers"][0] |= {"image": "other", **change}
    (found,) = only(pod)
    only_images = "currently only image update is allowed for InPlaceOnly"
    detail = f"invalid template modified with InPlaceOnly strategy: {difference}, {only_images}"
    assert found == ("spec.template.spec", detail)


def test_labels_of_the_template_and_other_policies_are_free() -> None:
    pod = {**BARE, "nodeName": "n"}
    assert only(BARE) == []
    assert validate_update(sts(("spec.template.spec", pod)), sts(ONLY)) == []
    assert validate_update(sts(ONLY, ("spec.template.metadata.annotations", {"a": "b"})), sts(ONLY)) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"nodeName": "a"}, {}, "remove /nodeName"),
        ({"nodeSelector": {"a/b~c": "1"}}, {"nodeSelector": {"a/b~c": "2"}}, "replace /nodeSelector/a~1b~0c"),
        ({"containers": [{"name": "a"}, {"name": "b"}]}, {"containers": [{"name": "b"}]}, "remove /containers/0"),
        ({"containers": [{"name": "b"}]}, {"containers": [{"name": "a"}, {"name": "b"}]}, "add /containers/0"),
        ({"initContainers": [{"image": "a"}]}, {"initContainers": [{"image": "b"}]}, "replace /initContainers/0/image"),
        ({"containers": [{"image": "a"}]}, {"containers": [{}]}, "remove /containers/0/image"),
    ],
)
def test_differences_are_named_as_json_patches(old: Any, new: Any, found: str) -> None:
    assert first_difference({"spec": old}, {"spec": new}) == found


# ---- delete ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "replicas", "refused"),
    [("Always", 0, True), ("Cascading", 0, False), ("Cascading", 2, True), ("Never", 2, False), ("", 2, False)],
)
def test_delete_protection(word: str, replicas: int, refused: bool) -> None:
    made = sts(("metadata.labels", {"policy.kruise.io/delete-protection": word}), ("spec.replicas", replicas))
    assert bool(validate_delete(made, enabled=True)) is refused
    assert validate_delete(made, enabled=False) == []
    made["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert validate_delete(made, enabled=True) == []
