"""The definition of SidecarSet on a real API server: taken without a warning, and every rule does its work there too.

The control plane has no controller manager and no scheduler: nothing here needs a pod to run.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack import crds
from hack.cluster import Cluster, ClusterError, Options, binaries
from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.sidecarset_schema import SIDECARSET
from tests.unit.hack.sidecarset_cases import BAD, FIXED, FREE, GOOD, TWO, Change, a_set, needs

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]
CRD = crds.render(SIDECARSETS, SIDECARSET)
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/sidecarsets.apps.kruise.io"
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
        cluster._until("discovery", lambda: cluster.kubectl("explain", "scs", check=False).returncode == 0, 30.0)
        yield cluster


def collection(version: str = "v1beta1") -> str:
    return f"/apis/apps.kruise.io/{version}/sidecarsets"


def post(cluster: Cluster, made: dict[str, Any], version: str = "v1beta1", *, dry: bool = True) -> dict[str, Any]:
    body = {**made, "apiVersion": f"apps.kruise.io/{version}"}
    code, raw = cluster.api.ask("POST", collection(version) + ("?dryRun=All" if dry else ""), body)
    answer: dict[str, Any] = json.loads(raw)
    answer["code"] = answer.get("code", code)
    return answer


def test_the_definition_is_established_and_structural(server: Cluster) -> None:
    live = server.api.call("GET", DEFINITION)
    conditions = {c["type"]: c["status"] for c in live["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    # What the server keeps is what we wrote: nothing was dropped, nothing is drift.
    assert live["spec"]["versions"] == CRD["spec"]["versions"]


def test_every_field_is_explained(server: Cluster) -> None:
    shown = server.kubectl("explain", "scs", "--recursive").stdout
    for name in ("hotUpgradeEmptyImage", "shareVolumeDevicePolicy", "scatterStrategy", "patchPolicy", "resourcesExpr"):
        assert name in shown
    assert "rounded" in server.kubectl("explain", "scs.spec.updateStrategy.maxUnavailable").stdout


@pytest.mark.parametrize("what", GOOD)
def test_accepts(server: Cluster, what: str) -> None:
    for version in needs(GOOD[what]):
        answer = post(server, a_set(*GOOD[what]), version)
        assert answer["code"] == 201, answer.get("message")


@pytest.mark.parametrize("what", BAD)
def test_refuses_and_names_the_field(server: Cluster, what: str) -> None:
    changes, field, said = BAD[what]
    for version in needs(changes):
        answer = post(server, a_set(*changes), version)
        assert answer["code"] == 422, answer
        causes = [(cause.get("field", ""), cause["message"]) for cause in answer["details"]["causes"]]
        assert any(place == field and said in message for place, message in causes), causes


@pytest.fixture
def kept(server: Cluster) -> Iterator[dict[str, Any]]:
    yield post(server, a_set(("metadata.name", "kept"), ("spec.containers", TWO)), dry=False)
    server.api.call("DELETE", f"{collection()}/kept")


def put(cluster: Cluster, stored: dict[str, Any], change: Change) -> tuple[int, dict[str, Any]]:
    body = {key: copy.deepcopy(stored[key]) for key in ("apiVersion", "kind", "metadata", "spec")}
    made = a_set(("metadata", body["metadata"]), ("spec", body["spec"]), change)
    code, raw = cluster.api.ask("PUT", f"{collection()}/kept?dryRun=All", {**body, **made})
    return code, json.loads(raw)


def test_what_containers_may_and_may_not_become(server: Cluster, kept: dict[str, Any]) -> None:
    for what, (change, field, said) in FIXED.items():
        code, answer = put(server, kept, change)
        assert code == 422, what
        assert said in {c.get("field"): c["message"] for c in answer["details"]["causes"]}[field]
    for what, change in FREE.items():
        assert put(server, kept, change)[0] == 200, what


def test_defaults_are_filled_in_and_containers_stay_as_they_are(server: Cluster) -> None:
    made = post(server, a_set())
    assert made["spec"] == a_set()["spec"] | {
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate", "partition": 0, "maxUnavailable": 1},
    }
    assert "status" not in made


def test_columns_and_short_names(server: Cluster, kept: dict[str, Any]) -> None:
    status = {"matchedPods": 3, "updatedPods": 2, "readyPods": 1, "updatedReadyPods": 0}
    code, raw = server.api.ask("PATCH", f"{collection()}/kept/status", {"status": status}, content_type=MERGE)
    assert code == 200, raw
    shown = server.kubectl("get", "scs", "kept").stdout.splitlines()
    assert shown[0].split() == ["NAME", "MATCHED", "UPDATED", "READY", "AGE"]
    assert shown[1].split()[:4] == ["kept", "3", "2", "1"]
    assert "kept" in server.kubectl("get", "kruise").stdout
    old = server.kubectl("get", "sidecarsets.v1alpha1.apps.kruise.io")
    assert "apps.kruise.io/v1alpha1 SidecarSet is deprecated" in old.stderr


def test_server_side_apply_merges_containers_by_name(server: Cluster, kept: dict[str, Any]) -> None:
    applied = {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "SidecarSet",
        "metadata": {"name": "kept"},
        "spec": {"selector": a_set()["spec"]["selector"], "containers": [{"name": "log", "image": "log:2"}]},
    }
    path = f"{collection()}/kept?fieldManager=somebody&force=true"
    code, raw = server.api.ask("PATCH", path, applied, content_type="application/apply-patch+yaml")
    assert code == 200, raw
    images = {one["name"]: one["image"] for one in json.loads(raw)["spec"]["containers"]}
    assert images == {"log": "log:2", "mesh": "mesh:1"}
