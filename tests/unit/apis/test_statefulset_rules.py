"""Defaults, conversion and the in-memory defaults of Advanced StatefulSet, beyond the recorded answers."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from kruise.apis.statefulset import (
    ON_DELETE,
    Ordinals,
    RetentionPolicy,
    RollingUpdate,
    StatefulSet,
    StatefulSetSpec,
    StatefulSetStatus,
    UpdateStrategy,
)
from kruise.apis.statefulset_rules import (
    ONLY_IN_V1BETA1,
    convert_statefulset,
    decode_problem,
    default_statefulset,
    effective,
)

POD = {"containers": [{"name": "main", "image": "nginx"}]}


def sts(version: str = "v1beta1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"apps.kruise.io/{version}",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "prod"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": copy.deepcopy(POD)},
            **spec,
        },
    }


def typed(obj: dict[str, Any]) -> StatefulSet:
    return msgspec.json.decode(msgspec.json.encode(obj), type=StatefulSet)


# ---- defaults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
def test_defaulting_is_pure_and_idempotent(version: str) -> None:
    given = sts(
        version,
        volumeClaimTemplates=[
            {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1.0005"}}}}
        ],
        updateStrategy={"rollingUpdate": {"partition": 1}},
    )
    before = copy.deepcopy(given)
    once = default_statefulset(given, auto_resize_pvc=True)
    assert given == before
    assert default_statefulset(once, auto_resize_pvc=True) == once
    assert once["apiVersion"] == f"apps.kruise.io/{version}"


def test_c1_what_nobody_here_knows_survives_defaulting() -> None:
    given = sts(future={"x": 1}, updateStrategy={"rollingUpdate": {"future": 2}, "future": 3})
    given["spec"]["template"]["spec"]["future"] = 4
    got = default_statefulset(given)["spec"]
    assert (got["future"], got["updateStrategy"]["future"]) == ({"x": 1}, 3)
    assert got["updateStrategy"]["rollingUpdate"]["future"] == 2
    assert got["template"]["spec"]["future"] == 4


def test_template_defaults_come_with_a_changed_template_only() -> None:
    stored = sts()
    moved = sts(replicas=5)
    moved["spec"]["template"]["spec"]["containers"][0]["resources"] = {}
    moved["spec"]["template"]["metadata"]["creationTimestamp"] = None
    assert default_statefulset(moved, stored)["spec"]["template"] == moved["spec"]["template"]
    moved["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:2"
    assert default_statefulset(moved, stored)["spec"]["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
    assert "dnsPolicy" not in default_statefulset(moved, stored, template_defaults=False)["spec"]["template"]["spec"]


def test_malformed_claim_templates_are_left_for_the_type_check() -> None:
    claims = [None, 3, {"spec": 3, "status": 4}, {"spec": {"resources": {"requests": {"storage": "x"}, "limits": []}}}]
    got = default_statefulset(sts(volumeClaimTemplates=claims))["spec"]["volumeClaimTemplates"]
    assert got[:3] == claims[:3]
    assert got[3]["spec"] == claims[3]["spec"]
    assert default_statefulset(sts(volumeClaimTemplates=None))["spec"]["volumeClaimTemplates"] is None


def test_ecosystem_51_defaulting_equals_the_defaults_of_the_types() -> None:
    """A set reads the same with and without admission."""
    bare, defaulted = typed(sts()), typed(default_statefulset(sts(), template_defaults=False))
    assert effective(bare).spec == msgspec.structs.replace(
        effective(defaulted).spec, template=bare.spec.template, volume_claim_templates=bare.spec.volume_claim_templates
    )


# ---- conversion ------------------------------------------------------------------------------------------------------


def test_row_19_v1alpha1_loses_what_it_has_no_room_for() -> None:
    given = sts(
        reserveOrdinals=[1],
        lifecycle={"preDelete": {"finalizersHandler": ["a/b"]}},
        scaleStrategy={"maxUnavailable": 1},
        persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete"},
        ordinals={"start": 2},
        volumeClaimUpdateStrategy={"type": "OnDelete"},
        serviceName="s",
    )
    given["status"] = {"replicas": 1, "updatedReadyReplicas": 1, "updatedAvailableReplicas": 1, "volumeClaims": []}
    before = copy.deepcopy(given)
    got = convert_statefulset(given, "v1alpha1")
    assert given == before
    assert got["apiVersion"] == "apps.kruise.io/v1alpha1"
    assert set(got["spec"]) == {"selector", "template", "serviceName"}
    assert got["status"] == {"replicas": 1}
    assert convert_statefulset(got, "v1beta1")["spec"] == got["spec"]
    assert convert_statefulset(given, "v1beta1") == given
    with pytest.raises(ValueError, match="v1"):
        convert_statefulset(given, "v1")


def test_the_lost_fields_are_fields_of_the_structs() -> None:
    for struct, names in ONLY_IN_V1BETA1.items():
        assert names <= set(struct.__struct_encode_fields__)
    assert len(ONLY_IN_V1BETA1[StatefulSetSpec]) == 6
    assert len(ONLY_IN_V1BETA1[StatefulSetStatus]) == 3


# ---- decoding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, ""),
        ({"replicas": None, "updateStrategy": {"rollingUpdate": {"partition": None}}}, ""),
        ({"reserveOrdinals": [None]}, "reserveOrdinals"),
        ({"replicas": "3"}, "replicas"),
        ({"replicas": 1 << 31}, "spec.replicas"),
        ({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 1 << 31}}}, "rollingUpdate.maxUnavailable"),
        ({"reserveOrdinals": [1, 1 << 31]}, "spec.reserveOrdinals[1]"),
        ({"lifecycle": {"preDelete": {"finalizersHandler": "a"}}}, "finalizers"),
        ({"template": {"spec": {"containers": {}}}}, "spec.template.spec.containers"),
        ({"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}}, "limits[cpu]"),
        ({"volumeClaimTemplates": [{"spec": {"accessModes": "x"}}]}, "spec.volumeClaimTemplates[0].spec.accessModes"),
    ],
)
def test_decode_problem_names_the_field(spec: dict[str, Any], said: str) -> None:
    found = decode_problem(sts(**spec), "v1beta1")
    assert (said in found) if said else found == ""


def test_decode_problem_wants_the_version_and_ignores_what_it_lacks() -> None:
    assert "apiVersion" in decode_problem(sts("v1alpha1"), "v1beta1")
    assert decode_problem(sts("v1alpha1", reserveOrdinals="x"), "v1alpha1") == ""


# ---- in memory -------------------------------------------------------------------------------------------------------


def test_effective_keeps_a_complete_set_as_it_is() -> None:
    defaulted = typed(default_statefulset(sts(), auto_resize_pvc=True))
    assert effective(defaulted) is defaulted


def test_effective_fills_what_nobody_filled_in() -> None:
    spec = effective(
        typed(sts(updateStrategy={}, podManagementPolicy="", revisionHistoryLimit=None, volumeClaimUpdateStrategy={}))
    ).spec
    assert spec.update_strategy == UpdateStrategy(rolling_update=RollingUpdate())
    assert spec.pod_management_policy == "OrderedReady"
    assert spec.revision_history_limit == 10
    assert spec.volume_claim_update_strategy.type == ON_DELETE
    assert spec.persistent_volume_claim_retention_policy == RetentionPolicy(when_deleted="Retain", when_scaled="Retain")


def test_effective_reads_no_number_that_validation_refuses() -> None:
    spec = effective(
        typed(
            sts(
                replicas=-1,
                revisionHistoryLimit=-1,
                ordinals={"start": -2},
                updateStrategy={"rollingUpdate": {"partition": -1, "minReadySeconds": -1, "podUpdatePolicy": ""}},
            )
        )
    ).spec
    assert (spec.replicas, spec.revision_history_limit, spec.ordinals) == (0, 0, Ordinals(start=0))
    assert spec.update_strategy.rolling_update == RollingUpdate()


def test_effective_leaves_on_delete_and_unknown_words() -> None:
    assert effective(typed(sts(updateStrategy={"type": "OnDelete"}))).spec.update_strategy.rolling_update is None
    odd = effective(
        typed(
            sts(
                updateStrategy={"type": "Sometimes"},
                podManagementPolicy="parallel",
                persistentVolumeClaimRetentionPolicy={"whenScaled": "Keep"},
                ordinals={"start": 3},
            )
        )
    ).spec
    assert (odd.update_strategy.type, odd.pod_management_policy) == ("Sometimes", "parallel")
    assert odd.persistent_volume_claim_retention_policy == RetentionPolicy(when_deleted="Retain", when_scaled="Keep")
    assert odd.ordinals == Ordinals(start=3)
