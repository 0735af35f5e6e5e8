"""What users of a real API server see of the definition of StatefulSet; ``test_real_set_definitions`` has its rules.

The control plane has no controller manager and no scheduler: nothing here needs a pod to run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hack import kustomize
from hack.cluster import Cluster
from tests.e2e.harness.definitions import definition, post
from tests.unit.hack.definitions import STATEFULSET_KIND as KIND
from tests.unit.hack.definitions import SetDefinition
from tests.unit.hack.statefulset_cases import a_set

pytestmark = pytest.mark.real
SHORT = "asts"

ROOT = Path(__file__).resolve().parents[2]
MERGE = "application/merge-patch+json"


def test_every_field_is_explained(server: Cluster) -> None:
    shown = server.kubectl("explain", "asts", "--recursive").stdout
    for name in ("podUpdatePolicy", "reserveOrdinals", "weightPriority", "markPodNotReady", "whenScaled"):
        assert name in shown
    assert "rounded" in server.kubectl("explain", "asts.spec.updateStrategy.rollingUpdate.maxUnavailable").stdout


@pytest.fixture
def kind() -> SetDefinition:
    return KIND


def test_defaults_are_filled_in_and_the_template_stays_as_it_is(server: Cluster) -> None:
    made = post(server, KIND, a_set())
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
    assert post(server, KIND, a_set(("spec.updateStrategy", {"type": "OnDelete"})))["spec"]["updateStrategy"] == {
        "type": "OnDelete"
    }


def test_columns_scale_and_short_names(server: Cluster, kept: dict[str, Any]) -> None:
    status = {"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "labelSelector": "app=web"}
    code, raw = server.api.ask("PATCH", KIND.path("kept") + "/status", {"status": status}, content_type=MERGE)
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
    scale = server.api.call("GET", KIND.path("kept") + "/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 4}, {"replicas": 2, "selector": "app=web"})


def test_the_samples_are_taken_without_a_warning(server: Cluster) -> None:
    done = server.kubectl("apply", "--dry-run=server", "-k", str(ROOT / "config/samples"))
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(kustomize.render(ROOT / "config/samples"))


def test_without_the_webhook_one_version_is_served(server: Cluster) -> None:
    """Last: the definition of the other tests serves both."""
    (ours,) = [one for one in kustomize.render(ROOT / "config/local") if one["metadata"]["name"] == KIND.name]
    live = server.api.call("GET", definition(KIND))
    server.api.call("PUT", definition(KIND), {**live, "spec": ours["spec"]})
    server._until("the change", lambda: server.api.ask("GET", KIND.path(version="v1alpha1"))[0] == 404, 30.0)
    assert post(server, KIND, a_set())["code"] == 201
