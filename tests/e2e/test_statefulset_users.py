"""What people and other controllers do with a set: scale, wait, explain, an autoscaler, status."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.conftest import Watched
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.observer import SETS
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.sets import condition, image_patch, rolled_out, statefulset, status
from tests.e2e.harness.times import written_at
from tests.e2e.harness.words import kruise_status, reasons, stuck, told
from tests.e2e.harness.world import World

pytestmark = pytest.mark.real


def kubectl(world: World, *args: str) -> str:
    """Run kubectl as the administrator; return what it prints."""
    return world.cluster.kubectl(*args).stdout


@pytest.mark.timeout(240)
def test_scale_wait_explain_and_columns(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(10)
    observer = watched.observer
    world.create_set(statefulset("web", 3, budget=2))
    kubectl(world, "wait", "--for=condition=Available", "asts/web", "--timeout=60s")
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    kubectl(world, "scale", "asts/web", "--replicas=6", "--current-replicas=3")
    observer.until(lambda: status(observer.set("web")).get("readyReplicas") == 6, 60.0, "six pods are ready")
    kubectl(world, "wait", "--for=jsonpath={.status.availableReplicas}=6", "asts/web", "--timeout=30s")
    kubectl(world, "wait", "--for=condition=Ready", "asts/web", "--timeout=30s")
    kubectl(world, "wait", "--for=condition=Progressing=false", "asts/web", "--timeout=30s")
    header, row = kubectl(world, "get", "asts", "web").splitlines()
    assert header.split() == ["NAME", "DESIRED", "CURRENT", "UPDATED", "READY", "AGE"]
    assert row.split()[:5] == ["web", "6", "6", "6", "6"]
    header, row = kubectl(world, "get", "asts", "web", "-o", "wide").splitlines()
    assert header.split()[-2:] == ["CONTAINERS", "IMAGES"]
    text = kubectl(world, "explain", "asts.spec.updateStrategy.rollingUpdate", "--api-version=apps.kruise.io/v1beta1")
    for field in ("partition", "maxUnavailable", "podUpdatePolicy", "paused", "minReadySeconds"):
        assert field in text
    assert "<no description>" not in text
    code, text = kruise_status(world, "asts/web", "-w", "--timeout", "20")
    assert code == 0, text
    code, text = kruise_status(world, "asts/nobody")
    assert code == 1, text
    assert "nobody" in text
    described = kubectl(world, "describe", "asts", "web")
    assert "SuccessfulCreate" in described


@pytest.mark.timeout(240)
def test_an_autoscaler_reads_the_scale_subresource(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(10)
    world.create_set(statefulset("web", 2))
    watched.observer.until(lambda: rolled_out(watched.observer.set("web")), 60.0, "all pods run")
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps.kruise.io/v1beta1", "kind": "StatefulSet", "name": "web"},
            "minReplicas": 4,
            "maxReplicas": 6,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                }
            ],
        },
    }
    path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
    world.call("POST", path, scaler)
    try:
        # Fewer replicas than its minimum: it writes the scale subresource although nobody gives it metrics.
        watched.observer.until(
            lambda: status(watched.observer.set("web")).get("readyReplicas") == 4, 90.0, "the autoscaler's minimum"
        )
        found = world.call("GET", f"{path}/web")["status"]
        able = next(c for c in found["conditions"] if c["type"] == "AbleToScale")
        assert able["status"] == "True", able
        assert found["currentReplicas"] in (2, 4)
        scale = world.call("GET", "/apis/apps.kruise.io/v1beta1/namespaces/default/statefulsets/web/scale")
        assert scale["status"]["selector"] == "app=web"
        scale["metadata"].pop("resourceVersion")
        scale["spec"]["replicas"] = 5
        world.call("PUT", "/apis/apps.kruise.io/v1beta1/namespaces/default/statefulsets/web/scale", scale)
        watched.observer.until(
            lambda: status(watched.observer.set("web")).get("readyReplicas") == 5, 60.0, "a PUT without a version"
        )
    finally:
        world.call("DELETE", f"{path}/web")


def _pulling(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those of *pods* whose kubelets say that an image cannot be pulled."""
    return [
        pod
        for pod in pods
        for container in pod["status"].get("containerStatuses") or ()
        if "ImagePull" in ((container["state"].get("waiting") or {}).get("reason") or "")
    ]


def _answered(world: World, watched: Watched, mark: int) -> tuple[float, float]:
    """Return the seconds from the first report of a kubelet to the condition and to the Event.

    The clock is the API server's; that of the Event is the manager's, on the same machine.
    """
    time.sleep(1.0)  # the last write may stand in the log a moment later
    at = written_at(world.cluster.audit, mark)
    events = [(seen, at.get(seen.obj["metadata"]["resourceVersion"])) for seen in watched.observer.events]
    reports = [when for seen, when in events if when and seen.resource == "pods" and _pulling([seen.obj])]
    words = [
        when
        for seen, when in events
        if when and seen.resource == SETS and condition(seen.obj, "Progressing").get("reason") == "ImagePullFailed"
    ]
    event = datetime.fromisoformat(told(world, "web", "ImagePullFailed")["eventTime"]).timestamp()
    return min(words) - min(reports), event - min(reports)


@pytest.mark.timeout(300)
def test_a_bad_image_stops_at_the_budget_says_why_and_the_next_template_repairs_it(
    world: World, watched: Watched, manager: ManagerProcess
) -> None:
    world.nodes(10)
    observer = watched.observer
    world.create_set(statefulset("web", 10, budget=3))
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    mark = world.cluster.audit.mark()
    world.patch_set("web", image_patch("sim.kruise.io/pull-fail:v2"))
    observer.until(lambda: len(_pulling(observer.set_pods("web"))) == 3, 60.0, "three pods cannot pull")
    observer.until(
        lambda: condition(observer.set("web"), "Progressing").get("reason") == "ImagePullFailed", 10.0, "the condition"
    )
    to_condition, to_event = _answered(world, watched, mark)
    REPORT.add(
        "StatefulSet, from a kubelet's report of a bad image to the condition, and to the event",
        seconds=to_condition,
        event_seconds=to_event,
    )
    assert to_condition <= 1.0, f"the reason came {to_condition:.2f} s after the first kubelet's report"
    assert to_event <= 1.0, f"the event came {to_event:.2f} s after the first kubelet's report"
    assert told(world, "web", "ImagePullFailed")["type"] == "Warning"
    decision = stuck(world, observer, "web", "ImagePullFailed")
    assert "pull-fail" in decision["evidence"] or "ImagePull" in decision["evidence"]
    assert "MaxUnavailableReached" in reasons(world, "web")
    code, text = kruise_status(world, "asts/web")
    assert code == 2, text
    assert "ImagePullFailed" in text
    assert "MaxUnavailableReached" in text
    time.sleep(3.0)
    assert len(_pulling(observer.set_pods("web"))) == 3, "it stops at the budget"
    assert status(observer.set("web"))["readyReplicas"] == 7
    asked = world.patch_set("web", image_patch("registry.example.com/app:v3"))
    observer.until(lambda: rolled_out(observer.set("web"), asked), 90.0, "the next template repairs it")
    code, text = kruise_status(world, "asts/web")
    assert code == 0, text


@pytest.mark.timeout(300)
def test_partition_pause_and_a_probe_that_never_passes_say_why(
    world: World, watched: Watched, manager: ManagerProcess
) -> None:
    world.nodes(10)
    observer = watched.observer
    world.create_set(statefulset("web", 5, budget=1, rolling={"partition": 3}))
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    world.patch_set("web", image_patch("registry.example.com/app:v2"))
    observer.until(lambda: status(observer.set("web")).get("updatedReadyReplicas") == 2, 60.0, "two are updated")
    assert stuck(world, observer, "web", "PartitionHeld")["subject"].startswith("pod web-")
    assert told(world, "web", "PartitionHeld")["type"] == "Normal"
    rolling = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0, "paused": True}}}}
    world.patch_set("web", rolling)
    stuck(world, observer, "web", "Paused")
    assert told(world, "web", "Paused")["type"] == "Normal"
    observer.until(lambda: condition(observer.set("web"), "Paused").get("status") == "True", 10.0, "the condition")
    rolling["spec"]["updateStrategy"]["rollingUpdate"] = {"paused": False}
    world.patch_set("web", [*image_patch("sim.kruise.io/never-ready:v1")])
    world.patch_set("web", rolling)
    stuck(world, observer, "web", "ReadinessFailing")
    code, text = kruise_status(world, "asts/web", "-w", "--timeout", "2")
    assert code == 3, text
    asked = world.patch_set("web", image_patch("registry.example.com/app:v4"))
    observer.until(lambda: rolled_out(observer.set("web"), asked), 90.0, "the next template repairs it")


@pytest.mark.timeout(300)
def test_a_terminating_pod_and_a_claim_that_cannot_bind_say_why(
    world: World, watched: Watched, manager: ManagerProcess
) -> None:
    world.nodes(10)
    observer = watched.observer
    world.create_set(statefulset("web", 3, budget=1, annotations={"stuck-terminating": "true"}))
    observer.until(lambda: rolled_out(observer.set("web")), 60.0, "all pods run")
    world.call("DELETE", "/api/v1/namespaces/default/pods/web-1")
    assert stuck(world, observer, "web", "PodTerminating")["subject"] == "pod web-1"
    body = statefulset("db", 2, budget=1)
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "nobody-provides-it",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    body["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": claim}]
    world.create_set(body)
    assert "data-db-" in stuck(world, observer, "db", "VolumeClaimPending")["evidence"]
    watched.quiescent = False  # one pod ends when the test's cleaning ends it
