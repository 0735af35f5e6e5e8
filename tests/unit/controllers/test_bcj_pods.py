"""Names, bodies and homes of pods."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson
import pytest

from kruise.apis.core import Pod
from kruise.controllers.broadcastjob.pods import assigned_node, belongs_to, build_pod, pod_name
from kruise.runtime.client.nulls import decode_as
from tests.unit.controllers.bcj import TEMPLATE, job, pod


def test_b1_the_name_is_a_function_of_job_node_and_k() -> None:
    assert pod_name("sweep", "j", "n") == pod_name("sweep", "j", "n")
    assert len({pod_name("sweep", j, n, k) for j in "ab" for n in "ab" for k in range(3)}) == 12


def test_b1_names_of_five_thousand_nodes_do_not_collide() -> None:
    assert len({pod_name("sweep", "j", str(n)) for n in range(5000)}) == 5000


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("sweep", "sweep"),
        ("x" * 63, "x" * 52),
        ("UPPER-Case", "upper-case"),
        ("a" * 51 + "-b", "a" * 51),
        ("with.dot", "with.dot"),
        ("-odd-", "odd"),
        ("---", "bcj"),
    ],
)
def test_b1_every_name_is_valid_and_short_enough(name: str, prefix: str) -> None:
    made = pod_name(name, "j", "n")
    assert made.rpartition("-")[0] == prefix
    assert len(made) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", made)
    assert re.fullmatch("[bcdfghjklmnpqrstvwxz2456789]{10}", made.rpartition("-")[2])


def test_a_pod_is_made_of_the_whole_template_and_pinned_to_its_node() -> None:
    template: dict[str, Any] = {
        "metadata": {
            "labels": {"app": "x", "broadcastjob-name": "forged"},
            "annotations": {"note": "kept"},
            "finalizers": ["example.com/hold"],
        },
        "spec": {
            **TEMPLATE["spec"],
            "somethingNew": {"kept": True},
            "affinity": {
                "podAntiAffinity": {"kept": 1},
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": ["kept"],
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": ["replaced"]},
                },
            },
        },
    }
    before = orjson.dumps(template)
    owner = job()
    body = build_pod(owner, template, "n1", "uid-n1", by_scheduler=True)
    assert orjson.dumps(template) == before, "the template stays as it is"
    meta, spec = body["metadata"], body["spec"]
    assert meta["name"] == pod_name("sweep", "uid-sweep", "uid-n1")
    assert meta["namespace"] == "ns"
    assert meta["labels"] == {
        "app": "x",
        "broadcastjob-name": "sweep",
        "broadcastjob-controller-uid": "uid-sweep",
    }
    assert meta["annotations"] == {"note": "kept", "apps.kruise.io/broadcastjob-node-uid": "uid-n1"}
    assert meta["finalizers"] == ["example.com/hold"]
    assert "generateName" not in meta
    (ref,) = meta["ownerReferences"]
    assert ref == {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "BroadcastJob",
        "name": "sweep",
        "uid": "uid-sweep",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    assert spec["somethingNew"] == {"kept": True}
    affinity = spec["affinity"]
    assert affinity["podAntiAffinity"] == {"kept": 1}
    assert affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] == ["kept"]
    (term,) = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    assert "nodeName" not in spec
    assert "tolerations" not in spec, "unlike a DaemonSet, none is added"
    assert "readinessGates" not in spec


def test_without_the_scheduler_the_node_is_named() -> None:
    template = {"spec": {"nodeName": "other", "containers": []}}
    body = build_pod(job(), template, "n1", "uid-n1", by_scheduler=False, k=2)
    assert body["spec"] == {"nodeName": "n1", "containers": []}
    assert body["metadata"]["name"] == pod_name("sweep", "uid-sweep", "uid-n1", 2)


def test_a_template_of_nulls_makes_a_pod() -> None:
    body = build_pod(job(), {"metadata": None, "spec": None}, "n1", "u", by_scheduler=True)
    assert body["metadata"]["labels"]["broadcastjob-name"] == "sweep"


def _spec(**spec: Any) -> Pod:
    return decode_as(Pod, orjson.dumps({"metadata": {"name": "p"}, "spec": spec}))


def _affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def _field(*values: str, key: str = "metadata.name", operator: str = "In") -> dict[str, Any]:
    return {"matchFields": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ""),
        ({"nodeName": "n1", "affinity": _affinity(_field("n2"))}, "n1"),
        ({"affinity": _affinity(_field("n2"))}, "n2"),
        ({"affinity": _affinity(_field("a", "b"), _field("n3"))}, "n3"),
        ({"affinity": _affinity(_field("n", key="other"))}, ""),
        ({"affinity": _affinity(_field("n", operator="NotIn"))}, ""),
        ({"affinity": {"podAffinity": {}}}, ""),
        ({"affinity": {"nodeAffinity": {}}}, ""),
    ],
)
def test_the_assigned_node(spec: dict[str, Any], expected: str) -> None:
    assert assigned_node(_spec(**spec)) == expected


def test_a_pod_belongs_by_namespace_labels_and_controller() -> None:
    owner = job()
    mine = pod(owner, "n1").metadata
    replace = msgspec.structs.replace
    assert belongs_to(mine, owner)
    assert not belongs_to(replace(mine, namespace="other"), owner)
    assert not belongs_to(replace(mine, labels={**mine.labels, "broadcastjob-name": "x"}), owner)
    assert not belongs_to(replace(mine, labels={**mine.labels, "broadcastjob-controller-uid": "x"}), owner)
    assert not belongs_to(replace(mine, owner_references=()), owner)
    (ref,) = mine.owner_references
    assert not belongs_to(replace(mine, owner_references=(replace(ref, kind="Job"),)), owner)
    assert not belongs_to(replace(mine, owner_references=(replace(ref, uid="x"),)), owner)
    assert belongs_to(replace(mine, owner_references=(replace(ref, api_version="apps.kruise.io/v1alpha1"),)), owner)
