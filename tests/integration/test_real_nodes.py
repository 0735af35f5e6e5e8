"""Simulated nodes on the real control plane: what a cluster's own controllers and kubectl see of them."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hack.cluster import NODES, Cluster, Options, binaries

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        binaries.find() is None,
        reason="no control plane: run `python -m hack.cluster build`, or set KUBEBUILDER_ASSETS",
    ),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), nodes=50, options=Options(node_monitor_grace="10s")) as running:
        yield running


def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.1)


def pod(cluster: Cluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "pod", name, "-o", "json").stdout)
    return found


def create(cluster: Cluster, name: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"containers": [{"name": "main", "image": "app:1"}], "terminationGracePeriodSeconds": 5, **spec},
    }
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))


def control(cluster: Cluster, method: str, path: str) -> Any:
    with urllib.request.urlopen(
        urllib.request.Request(cluster.control_url + path, method=method), timeout=10
    ) as answer:
        return json.load(answer)


def main_container(cluster: Cluster, name: str) -> dict[str, Any]:
    statuses = pod(cluster, name)["status"].get("containerStatuses")
    found: dict[str, Any] = statuses[0] if statuses else {"state": {}, "restartCount": 0, "ready": False}
    return found


def test_fifty_nodes_are_ready_and_take_pods(cluster: Cluster) -> None:
    assert cluster.api.ready_nodes() == 50
    assert set(cluster.running()) == set(cluster.expected())


def test_a_job_of_the_cluster_runs_on_them(cluster: Cluster) -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job"},
        "spec": {
            "completions": 20,
            "parallelism": 20,
            "template": {
                "metadata": {"annotations": {"sim.kruise.io/run-seconds": "1"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "app:1"}]},
            },
        },
    }
    mark = cluster.audit.mark()
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(job))
    cluster.kubectl("wait", "--for=condition=complete", "job/job", "--timeout=60s", timeout=70)
    mine = [e for e in cluster.audit.entries("simulated-nodes", since=mark) if e.what == "patch pods/status"]
    written = [e for e in mine if e.name.startswith("job-") and e.code == 200]
    assert len(written) == 40


def test_a_crash_loop(cluster: Cluster) -> None:
    create(cluster, "crash", annotations={"sim.kruise.io/run-seconds": "1", "sim.kruise.io/exit-code": "3"})
    until(lambda: main_container(cluster, "crash")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
    assert main_container(cluster, "crash")["lastState"]["terminated"]["exitCode"] == 3


def test_an_image_change_is_seen_unready_in_between(cluster: Cluster) -> None:
    create(cluster, "web")
    cluster.kubectl("wait", "--for=condition=ready", "pod/web", "--timeout=30s")
    before, mark = main_container(cluster, "web"), cluster.audit.mark()
    cluster.kubectl("set", "image", "pod/web", "main=app:2")
    until(lambda: main_container(cluster, "web")["restartCount"] == 1 and main_container(cluster, "web")["ready"])
    after = main_container(cluster, "web")
    assert after["imageID"] != before["imageID"] and after["containerID"] != before["containerID"]
    ready = [
        next(c["status"] for c in e.response["status"]["conditions"] if c["type"] == "Ready")
        for e in cluster.audit.entries("simulated-nodes", since=mark)
        if e.name == "web" and e.response is not None and e.subresource == "status"
    ]
    assert ready == ["False", "True"]


def test_a_resize(cluster: Cluster) -> None:
    asks = [{"name": "main", "image": "app:1", "resources": {"requests": {"cpu": "100m"}}}]
    create(cluster, "grow", containers=asks)
    cluster.kubectl("wait", "--for=condition=ready", "pod/grow", "--timeout=30s")
    patch = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "200m"}}}]}}
    cluster.kubectl("patch", "pod", "grow", "--subresource=resize", "-p", json.dumps(patch))
    until(lambda: main_container(cluster, "grow")["resources"] == {"requests": {"cpu": "200m"}})
    until(lambda: not any("Resize" in c["type"] for c in pod(cluster, "grow")["status"]["conditions"]))
    assert main_container(cluster, "grow")["restartCount"] == 0


def test_a_deletion_takes_its_grace_and_ends(cluster: Cluster) -> None:
    create(cluster, "slow", annotations={"sim.kruise.io/stop-seconds": "2"})
    cluster.kubectl("wait", "--for=condition=ready", "pod/slow", "--timeout=30s")
    begun = time.monotonic()
    cluster.kubectl("delete", "pod", "slow")
    assert 1.5 < time.monotonic() - begun < 15


def test_a_node_that_holds_no_more_refuses(cluster: Cluster) -> None:
    asks = [{"name": "main", "image": "app:1", "resources": {"requests": {"cpu": "1000"}}}]
    create(cluster, "big", containers=asks, nodeName="node-1")
    until(lambda: pod(cluster, "big")["status"].get("reason") == "OutOfcpu")


def test_claims_are_provisioned_bound_expanded_and_reclaimed(cluster: Cluster) -> None:
    storage = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "sim"},
        "provisioner": "sim.kruise.io/provisioner",
        "allowVolumeExpansion": True,
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "storageClassName": "sim",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    for body in (storage, claim):
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))

    def status() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(cluster.kubectl("get", "pvc", "data", "-o", "json").stdout)["status"]
        return found

    until(lambda: status().get("phase") == "Bound")
    cluster.kubectl("patch", "pvc", "data", "-p", '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}')
    until(lambda: status()["capacity"]["storage"] == "2Gi")
    cluster.kubectl("delete", "pvc", "data")
    until(lambda: not json.loads(cluster.kubectl("get", "pv", "-o", "json").stdout)["items"])


def test_a_new_process_takes_over_after_sigkill(cluster: Cluster) -> None:
    create(cluster, "steady")
    cluster.kubectl("wait", "--for=condition=ready", "pod/steady", "--timeout=30s")
    before = pod(cluster, "steady")["status"]
    cluster.kill_component(NODES)
    cluster.start_component(NODES)
    until(lambda: _answers(cluster))
    create(cluster, "fresh")
    cluster.kubectl("wait", "--for=condition=ready", "pod/fresh", "--timeout=30s")
    assert pod(cluster, "steady")["status"] == before


def _answers(cluster: Cluster) -> bool:
    try:
        return bool(control(cluster, "GET", "/status")["nodes"] == 50)
    except OSError:
        return False


def test_node_loss_and_return(cluster: Cluster) -> None:
    create(cluster, "stays", nodeName="node-7", tolerations=[{"operator": "Exists"}])
    cluster.kubectl("wait", "--for=condition=ready", "pod/stays", "--timeout=30s")
    control(cluster, "POST", "/nodes/node-7/down")
    cluster.kubectl("wait", "--for=condition=Ready=Unknown", "node/node-7", "--timeout=60s", timeout=70)
    until(lambda: _condition(cluster, "stays", "Ready") == "False")  # the node controller says so
    assert cluster.api.ready_nodes() == 49
    control(cluster, "POST", "/nodes/node-7/up")
    cluster.kubectl("wait", "--for=condition=Ready", "node/node-7", "--timeout=60s", timeout=70)
    until(lambda: _condition(cluster, "stays", "Ready") == "True")
    until(lambda: cluster.api.ready_nodes() == 50)


def _condition(cluster: Cluster, name: str, kind: str) -> str:
    return next(str(c["status"]) for c in pod(cluster, name)["status"]["conditions"] if c["type"] == kind)


def test_the_api_server_may_go_away_and_come_back(cluster: Cluster) -> None:
    cluster.restart("kube-apiserver", kill=True, down=1.0)
    cluster.pause("etcd")
    time.sleep(2)
    cluster.resume("etcd")
    cluster.wait_ready()
    create(cluster, "after", annotations={"sim.kruise.io/run-seconds": "1"}, restartPolicy="Never")
    until(lambda: pod(cluster, "after")["status"].get("phase") == "Succeeded")


def test_a_service_account_has_its_own_rights(cluster: Cluster) -> None:
    cluster.kubectl("create", "serviceaccount", "tester")
    path = cluster.service_account_kubeconfig("default", "tester")
    done = cluster.kubectl(f"--kubeconfig={path}", "auth", "can-i", "create", "pods", check=False)
    assert done.stdout.strip() == "no"
    who = cluster.kubectl(f"--kubeconfig={path}", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert who.stdout == "system:serviceaccount:default:tester"
