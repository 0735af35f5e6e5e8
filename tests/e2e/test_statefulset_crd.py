"""The definition of StatefulSet on a real API server: taken without a warning, and every rule does its work there too.

The control plane has no controller manager and no scheduler: nothing here needs a pod to run.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack import crds, kustomize
from hack.cluster import Cluster, ClusterError, Options, binaries
from kruise.apis.statefulset import STATEFULSETS
from kruise.apis.statefulset_schema import STATEFULSET
from tests.unit.hack.statefulset_cases import BAD, FIXED, FREE, GOOD, Change, a_set, needs_v1beta1

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]
CRD = crds.render(STATEFULSETS, STATEFULSET)
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/statefulsets.apps.kruise.io"
MERGE = "application/merge-patch+json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with our definitions, both versions served, which it took without a warning."""
    try:
        found = binaries.find()
    except ClusterError as error:
        pytest.skip(f"no control plane: {error}")
    if found is None:
        pytest.skip("no control plane: build it with `python -m hack.cluster build`, or set KUBEBUILDER_ASSETS")
    options = Options(without=("kube-controller-manager", "kube-scheduler"), audit=False)
    with Cluster(tmp_path_factory.mktemp("crd"), options=options, crds=None) as cluster:
        done = cluster.kubectl("apply", "-f", str(ROOT / "config/crd/bases"))
        assert done.stderr == ""
        # Discovery follows the definition after a moment.
        cluster._until("discovery", lambda: cluster.kubectl("explain", "asts", check=False).returncode == 0, 30.0)
        yield cluster


def collection(version: str = "v1beta1") -> str:
    return f"/apis/apps.kruise.io/{version}/namespaces/default/statefulsets"


def post(cluster: Cluster, made: dict[str, Any], version: str = "v1beta1", *, dry: bool = True) -> dict[str, Any]:
    body = {**made, "apiVersion": f"apps.kruise.io/{version}"}
    code, raw = cluster.api.ask("POST", collection(version) + ("?dryRun=All" if dry else ""), body)
    answer: dict[str, Any] = json.loads(raw)
    answer["code"] = answer.get("code", code)
    return answer


def versions_for(changes: list[Change]) -> list[str]:
    return ["v1beta1"] if needs_v1beta1(changes) else ["v1beta1", "v1alpha1"]


def test_the_definition_is_established_and_structural(server: Cluster) -> None:
    live = server.api.call("GET", DEFINITION)
    conditions = {c["type"]: c["status"] for c in live["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    # What the server keeps is what we wrote: nothing was dropped, nothing is drift.
    assert live["spec"]["versions"] == CRD["spec"]["versions"]


def test_every_field_is_explained(server: Cluster) -> None:
    shown = server.kubectl("explain", "asts", "--recursive").stdout
    for name in ("podUpdatePolicy", "reserveOrdinals", "weightPriority", "markPodNotReady", "whenScaled"):
        assert name in shown
    assert "rounded" in server.kubectl("explain", "asts.spec.updateStrategy.rollingUpdate.maxUnavailable").stdout


@pytest.mark.parametrize("what", GOOD)
def test_accepts(server: Cluster, what: str) -> None:
    for version in versions_for(GOOD[what]):
        answer = post(server, a_set(*GOOD[what]), version)
        assert answer["code"] == 201, answer.get("message")


@pytest.mark.parametrize("what", BAD)
def test_refuses_and_names_the_field(server: Cluster, what: str) -> None:
    changes, field, said = BAD[what]
    for version in versions_for(changes):
        answer = post(server, a_set(*changes), version)
        assert answer["code"] == 422, answer
        causes = [(cause.get("field", ""), cause["message"]) for cause in answer["details"]["causes"]]
        assert any(place == field and said in message for place, message in causes), causes


@pytest.fixture
def kept(server: Cluster) -> Iterator[dict[str, Any]]:
    yield post(server, a_set(("metadata.name", "kept"), ("spec.serviceName", "svc")), dry=False)
    server.api.call("DELETE", f"{collection()}/kept")


def put(cluster: Cluster, stored: dict[str, Any], change: Change) -> tuple[int, dict[str, Any]]:
    body = {key: copy.deepcopy(stored[key]) for key in ("apiVersion", "kind", "metadata", "spec")}
    made = a_set(("metadata", body["metadata"]), ("spec", body["spec"]), change)
    code, raw = cluster.api.ask("PUT", f"{collection()}/kept?dryRun=All", {**body, **made})
    return code, json.loads(raw)


def test_what_is_immutable_and_what_may_change(server: Cluster, kept: dict[str, Any]) -> None:
    for what, (change, field) in FIXED.items():
        code, answer = put(server, kept, change)
        assert code == 422, what
        assert "field is immutable" in {c.get("field"): c["message"] for c in answer["details"]["causes"]}[field]
    for what, change in FREE.items():
        assert put(server, kept, change)[0] == 200, what


def test_defaults_are_filled_in_and_the_template_stays_as_it_is(server: Cluster) -> None:
    made = post(server, a_set())
    assert made["spec"] == a_set()["spec"] | {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "updateStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"partition": 0, "maxUnavailable": 1, "podUpdatePolicy": "ReCreate"},
        },
    }
    assert "status" not in made
    # Merged into an absent strategy, OnDelete must not meet the default of a rolling update.
    assert post(server, a_set(("spec.updateStrategy", {"type": "OnDelete"})))["spec"]["updateStrategy"] == {
        "type": "OnDelete"
    }


def test_columns_scale_and_short_names(server: Cluster, kept: dict[str, Any]) -> None:
    status = {"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "labelSelector": "app=web"}
    code, raw = server.api.ask("PATCH", f"{collection()}/kept/status", {"status": status}, content_type=MERGE)
    assert code == 200, raw
    shown = server.kubectl("get", "asts", "kept", "-o", "wide").stdout.splitlines()
    assert shown[0].split() == ["NAME", "DESIRED", "CURRENT", "UPDATED", "READY", "AGE", "CONTAINERS", "IMAGES"]
    row = shown[1].split()
    assert (row[:5], row[6:]) == (["kept", "1", "2", "2", "1"], ["a", "b"])
    assert server.kubectl("get", "statefulsets.apps.kruise.io").stdout.splitlines()[0].split()[-1] == "AGE"
    assert "kept" in server.kubectl("get", "kruise").stdout
    old = server.kubectl("get", "statefulsets.v1alpha1.apps.kruise.io")
    assert "apps.kruise.io/v1alpha1 StatefulSet is deprecated" in old.stderr
    server.kubectl("scale", "asts/kept", "--replicas=4")
    scale = server.api.call("GET", f"{collection()}/kept/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 4}, {"replicas": 2, "selector": "app=web"})


def test_kruise_995_a_status_needs_nothing(server: Cluster, kept: dict[str, Any]) -> None:
    for status in ({}, {"replicas": 1}, {"volumeClaims": [{}], "conditions": []}):
        code, raw = server.api.ask("PATCH", f"{collection()}/kept/status", {"status": status}, content_type=MERGE)
        assert code == 200, raw


def test_the_samples_are_taken_without_a_warning(server: Cluster) -> None:
    done = server.kubectl("apply", "--dry-run=server", "-k", str(ROOT / "config/samples"))
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(kustomize.render(ROOT / "config/samples"))


def test_without_the_webhook_one_version_is_served(server: Cluster) -> None:
    """Last: the definition of the other tests serves both."""
    (ours,) = [
        one for one in kustomize.render(ROOT / "config/local") if one["metadata"]["name"] == CRD["metadata"]["name"]
    ]
    live = server.api.call("GET", DEFINITION)
    server.api.call("PUT", DEFINITION, {**live, "spec": ours["spec"]})
    server._until("the change", lambda: server.api.ask("GET", collection("v1alpha1"))[0] == 404, 30.0)
    assert post(server, a_set())["code"] == 201
