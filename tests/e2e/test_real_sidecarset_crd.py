"""What users of a real API server see of the definition of SidecarSet; ``test_real_set_definitions`` has its rules.

The control plane has no controller manager and no scheduler: nothing here needs a pod to run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import Cluster
from tests.e2e.harness.definitions import post
from tests.unit.hack.definitions import SIDECARSET_KIND as KIND
from tests.unit.hack.definitions import SetDefinition
from tests.unit.hack.sidecarset_cases import a_set

pytestmark = pytest.mark.real
SHORT = "scs"

ROOT = Path(__file__).resolve().parents[2]
MERGE = "application/merge-patch+json"


def test_every_field_is_explained(server: Cluster) -> None:
    shown = server.kubectl("explain", "scs", "--recursive").stdout
    for name in ("hotUpgradeEmptyImage", "shareVolumeDevicePolicy", "scatterStrategy", "patchPolicy", "resourcesExpr"):
        assert name in shown
    assert "rounded" in server.kubectl("explain", "scs.spec.updateStrategy.maxUnavailable").stdout


@pytest.fixture
def kind() -> SetDefinition:
    return KIND


def test_defaults_are_filled_in_and_containers_stay_as_they_are(server: Cluster) -> None:
    made = post(server, KIND, a_set())
    assert made["spec"] == a_set()["spec"] | {
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate", "partition": 0, "maxUnavailable": 1},
    }
    assert "status" not in made


def test_columns_and_short_names(server: Cluster, kept: dict[str, Any]) -> None:
    status = {"matchedPods": 3, "updatedPods": 2, "readyPods": 1, "updatedReadyPods": 0}
    code, raw = server.api.ask("PATCH", KIND.path("kept") + "/status", {"status": status}, content_type=MERGE)
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
    path = KIND.path("kept") + "?fieldManager=somebody&force=true"
    code, raw = server.api.ask("PATCH", path, applied, content_type="application/apply-patch+yaml")
    assert code == 200, raw
    images = {one["name"]: one["image"] for one in json.loads(raw)["spec"]["containers"]}
    assert images == {"log": "log:2", "mesh": "mesh:1"}
