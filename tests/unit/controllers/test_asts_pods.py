"""New pods, and whether a living one is who it should be."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from kruise.apis.core import Pod
from kruise.apis.revisiondata import revision_data
from kruise.apis.statefulset import StatefulSet
from kruise.controllers.common.revisions import Revision
from kruise.controllers.statefulset.claims import claim_templates
from kruise.controllers.statefulset.pods import (
    PodGates,
    build_pod,
    identity_matches,
    repair_patch,
    storage_matches,
    storage_patch,
)
from kruise.runtime.objects import Unreadable, owned_by
from kruise.simulator.apiserver.strategic import strategic_merge
from tests.unit.controllers.asts_identity import NOW, STAMP, TEMPLATE, a_pod, a_set, as_json, claim_template

STATE = "lifecycle.apps.kruise.io/state"
WHEN = "lifecycle.apps.kruise.io/timestamp"
ONLY_WITH_HOOKS = PodGates(lifecycle_with_hooks_only=True)


def revision(template: dict[str, Any] = TEMPLATE, name: str = "web-abc") -> Revision:
    return Revision(name, 1, revision_data(template), None)


def build(sts: StatefulSet, ordinal: int = 0, template: dict[str, Any] = TEMPLATE, **options: Any) -> dict[str, Any]:
    return build_pod(sts, revision(template), ordinal, claims=claim_templates(sts), now=NOW, **options)


def with_spec(**spec: Any) -> dict[str, Any]:
    return {**TEMPLATE, "spec": {**TEMPLATE["spec"], **spec}}


def gates_of(body: dict[str, Any]) -> list[str]:
    return [gate["conditionType"] for gate in body["spec"].get("readinessGates") or ()]


# ---- a new pod -------------------------------------------------------------------------------------------------------


def test_2_3_a_new_pod() -> None:
    template = {
        "metadata": {"labels": {"app": "web"}, "annotations": {"note": "kept"}, "finalizers": ["f.io/x"]},
        "spec": {"containers": [{"name": "main", "image": "web:1"}], "terminationGracePeriodSeconds": 5},
    }
    body = build(a_set(claim_template()), 12, template)
    spec = body.pop("spec")
    assert body == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-12",
            "namespace": "ns",
            "labels": {
                "app": "web",
                "statefulset.kubernetes.io/pod-name": "web-12",
                "apps.kubernetes.io/pod-index": "12",
                "controller-revision-hash": "web-abc",
                STATE: "Normal",
            },
            "annotations": {"note": "kept", WHEN: STAMP},
            "finalizers": ["f.io/x"],
            "ownerReferences": [
                {
                    "apiVersion": "apps.kruise.io/v1beta1",
                    "kind": "StatefulSet",
                    "name": "web",
                    "uid": "set-uid",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
    }
    assert (spec["hostname"], spec["subdomain"], spec["terminationGracePeriodSeconds"]) == ("web-12", "web", 5)
    assert spec["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-12"}}]
    assert "readinessGates" not in spec


def test_g2_no_pod_has_a_generated_name() -> None:
    assert "generateName" not in build(a_set())["metadata"]


def test_s1_building_a_pod_twice_gives_the_same_pod() -> None:
    sts = a_set(claim_template())
    assert orjson.dumps(build(sts, 3)) == orjson.dumps(build(sts, 3))


def test_what_the_template_says_of_identity_does_not_count() -> None:
    template = {
        "metadata": {
            "labels": {
                "app": "web",
                "statefulset.kubernetes.io/pod-name": "forged",
                "apps.kubernetes.io/pod-index": "77",
                "controller-revision-hash": "forged",
                STATE: "Updating",
            }
        },
        "spec": {**TEMPLATE["spec"], "hostname": "forged", "subdomain": "forged"},
    }
    body = build(a_set(serviceName=""), 1, template)
    assert body["metadata"]["labels"] == {
        "app": "web",
        "statefulset.kubernetes.io/pod-name": "web-1",
        "apps.kubernetes.io/pod-index": "1",
        "controller-revision-hash": "web-abc",
        STATE: "Normal",
    }
    assert body["spec"]["hostname"] == "web-1"
    assert "subdomain" not in body["spec"]


def test_the_index_label_has_a_gate() -> None:
    labels = build(a_set(), gates=PodGates(index_label=False))["metadata"]["labels"]
    assert "apps.kubernetes.io/pod-index" not in labels


def test_claims_come_first_and_win_over_volumes_of_their_names() -> None:
    template = with_spec(volumes=[{"name": "logs", "emptyDir": {}}, {"name": "data", "emptyDir": {}}])
    assert build(a_set(claim_template("a"), claim_template("data")), 2, template)["spec"]["volumes"] == [
        {"name": "a", "persistentVolumeClaim": {"claimName": "a-web-2"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-2"}},
        {"name": "logs", "emptyDir": {}},
    ]


def test_pods_share_the_template_and_leave_it_alone() -> None:
    sts, rev = a_set(claim_template()), revision(with_spec(volumes=[{"name": "logs", "emptyDir": {}}]))
    templates, before = claim_templates(sts), orjson.dumps(rev.template)
    one, two = (build_pod(sts, rev, n, claims=templates, now=NOW, gates=PodGates(ready_gate=True)) for n in (0, 1))
    assert one["spec"]["containers"] is two["spec"]["containers"] is rev.template["spec"]["containers"]
    assert one["metadata"]["labels"] is not two["metadata"]["labels"]
    assert orjson.dumps(rev.template) == before


@pytest.mark.parametrize("part", ["labels", "annotations", "finalizers"])
def test_rule_17_absent_parts_of_a_template(part: str) -> None:
    template = {"metadata": {"labels": {"app": "web"}, part: None}, "spec": {**TEMPLATE["spec"], "volumes": None}}
    assert build(a_set(claim_template()), 0, template)["metadata"]["name"] == "web-0"


def test_rule_17_a_template_without_metadata() -> None:
    rev = Revision("web-abc", 1, orjson.dumps({"spec": {"template": {"spec": {}, "metadata": None}}}), None)
    assert build_pod(a_set(), rev, 0, claims=(), now=NOW)["metadata"]["name"] == "web-0"


# The lifecycle label and the gate KruisePodReady.

HOOK = {"labelsHandler": {"hold": "true"}, "finalizersHandler": ["f.io/hold"]}


@pytest.mark.parametrize(
    ("lifecycle", "meta", "state"),
    [
        (None, {}, "Normal"),
        ({}, {}, "Normal"),
        ({"preDelete": HOOK}, {}, "Normal"),
        ({"preNormal": HOOK}, {}, "PreparingNormal"),
        ({"preNormal": HOOK}, {"labels": {"app": "web", "hold": "true"}}, "PreparingNormal"),
        ({"preNormal": HOOK}, {"labels": {"hold": "true"}, "finalizers": ["f.io/hold"]}, "Normal"),
        ({"preNormal": {}}, {}, "Normal"),
        ({"preNormal": {"labelsHandler": {"apps.kubernetes.io/pod-index": "0"}}}, {}, "Normal"),
    ],
)
def test_8_1_the_first_state(lifecycle: Any, meta: dict[str, Any], state: str) -> None:
    body = build(a_set(lifecycle=lifecycle), 0, {**TEMPLATE, "metadata": meta})
    assert body["metadata"]["labels"][STATE] == state
    assert body["metadata"]["annotations"][WHEN] == STAMP


@pytest.mark.parametrize(
    ("lifecycle", "labelled"),
    [(None, False), ({}, False), ({"preDelete": HOOK}, True), ({"preNormal": HOOK}, True)],
)
def test_without_hooks_the_lifecycle_label_can_be_left_out(lifecycle: Any, labelled: bool) -> None:
    meta = build(a_set(lifecycle=lifecycle), gates=ONLY_WITH_HOOKS)["metadata"]
    assert (STATE in meta["labels"]) is labelled
    assert (WHEN in meta["annotations"]) is labelled


@pytest.mark.parametrize("hook", ["preDelete", "inPlaceUpdate", "preNormal"])
@pytest.mark.parametrize("marks", [True, False])
def test_2_3_the_gate_is_there_when_a_hook_may_need_it(hook: str, marks: bool) -> None:
    template = with_spec(readinessGates=[{"conditionType": "InPlaceUpdateReady"}])
    body = build(a_set(lifecycle={hook: {**HOOK, "markPodNotReady": marks}}), 0, template)
    assert gates_of(body) == ["InPlaceUpdateReady", *(["KruisePodReady"] if marks else [])]


def test_2_3_the_gate_for_every_pod_and_never_twice() -> None:
    everywhere = PodGates(ready_gate=True)
    assert gates_of(build(a_set(), gates=everywhere)) == ["KruisePodReady"]
    template = with_spec(readinessGates=[{"conditionType": "KruisePodReady"}])
    assert gates_of(build(a_set(), 0, template, gates=everywhere)) == ["KruisePodReady"]
    assert gates_of(build(a_set())) == []


# ---- a living pod ----------------------------------------------------------------------------------------------------


def alive(body: dict[str, Any]) -> Pod:
    meta = {**body["metadata"], "uid": "u", "resourceVersion": "7"}
    return msgspec.convert({**body, "metadata": meta}, Pod)


def repaired(pod: Pod, *writes: Any) -> Pod:
    body = as_json(pod)
    for write in writes:
        assert write.subresource == ""
        body = strategic_merge(body, write.patch)
    return msgspec.convert(body, Pod)


def test_a_new_pod_is_who_it_should_be() -> None:
    sts = a_set(claim_template("a"), claim_template("b"))
    pod, templates = alive(build(sts, 4)), claim_templates(sts)
    assert identity_matches(sts, pod)
    assert storage_matches(sts, pod, templates)
    assert repair_patch(sts, pod) is None
    assert storage_patch(sts, pod, templates) is None


@pytest.mark.parametrize("labels", [{}, {"statefulset.kubernetes.io/pod-name": "web-1"}])
def test_2_6_the_labels_of_a_member_are_repaired(labels: dict[str, str]) -> None:
    sts, pod = a_set(), a_pod(metadata={"labels": {"app": "web", **labels}})
    assert not identity_matches(sts, pod)
    write = repair_patch(sts, pod)
    after = repaired(pod, write)
    assert identity_matches(sts, after)
    assert after.metadata.labels["apps.kubernetes.io/pod-index"] == "0"
    assert after.metadata.labels["app"] == "web"
    assert repair_patch(sts, after) is None
    bare = repaired(pod, repair_patch(sts, pod, gates=PodGates(index_label=False)))
    assert "apps.kubernetes.io/pod-index" not in bare.metadata.labels


def test_2_6_a_missing_index_label_alone_is_no_mismatch() -> None:
    sts, pod = a_set(), a_pod()
    assert "apps.kubernetes.io/pod-index" not in pod.metadata.labels
    assert identity_matches(sts, pod)
    assert repair_patch(sts, pod) is None


def test_2_6_host_name_and_subdomain_are_not_looked_at() -> None:
    assert repair_patch(a_set(), a_pod(spec={"hostname": "zz", "subdomain": "q"})) is None


@pytest.mark.parametrize("name", ["web-00", "db-0", "web"])
def test_a_stranger_is_not_repaired(name: str) -> None:
    sts, pod = a_set(claim_template()), a_pod(name)
    assert not identity_matches(sts, pod)
    assert repair_patch(sts, pod) is None
    assert storage_patch(sts, pod, claim_templates(sts)) is None


def test_rule_16_identity_needs_metadata_only() -> None:
    sts, pod = a_set(), a_pod(metadata={"labels": {}})
    blurred = Unreadable(metadata=pod.metadata, problem="x", path="$.spec")
    assert repair_patch(sts, blurred) == repair_patch(sts, pod)


@pytest.mark.parametrize(
    "volumes",
    [
        [],
        [{"name": "data", "emptyDir": {}}],
        [{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}}],
        [{"name": "other", "persistentVolumeClaim": {"claimName": "data-web-0"}}],
    ],
)
def test_2_6_volumes_that_mean_other_claims(volumes: list[dict[str, Any]]) -> None:
    sts = a_set(claim_template("data"))
    templates = claim_templates(sts)
    pod = a_pod(spec={"volumes": [{"name": "logs"}, *volumes]})
    assert not storage_matches(sts, pod, templates)
    write = storage_patch(sts, pod, templates)
    assert write is not None
    body = strategic_merge({"spec": {"volumes": [{"name": "logs", "emptyDir": {}}, *volumes]}}, write.patch)
    found = {v["name"]: v for v in body["spec"]["volumes"]}
    assert found["data"] == {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}
    assert found["logs"] == {"name": "logs", "emptyDir": {}}


def test_the_owner_of_a_new_pod_is_the_set() -> None:
    from kruise.apis.statefulset import STATEFULSETS

    sts = a_set()
    assert owned_by(alive(build(sts)).metadata, STATEFULSETS, sts.uid)
