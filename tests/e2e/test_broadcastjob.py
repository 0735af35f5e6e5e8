"""BroadcastJob on the real control plane: what it does, what it writes, and what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kruise.controllers.broadcastjob.pods import pod_name
from tests.e2e.conftest import Watched
from tests.e2e.harness import checks
from tests.e2e.harness.jobs import condition, counts, job, node_of, phase, pod_phase, status
from tests.e2e.harness.manager import ROOT, ManagerProcess
from tests.e2e.harness.observer import Observer
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.world import World

pytestmark = pytest.mark.real

IDLE = 20.0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_50_nodes_cost_50_creations_and_few_status_patches(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess], loop: str
) -> None:
    """Writes as performance 2.3 has them, by audit log; then nothing but the Lease (G4, G5)."""
    nodes = world.nodes(50)
    manager = launch(loop=loop).wait_leading()
    assert manager.said("starting", loop=loop)
    observer, mark = watched.observer, world.cluster.audit.mark()
    before, began = manager.usage(), time.monotonic()
    world.create(job("sweep", run=2))
    observer.until(lambda: phase(observer.job("sweep")) == "completed", 60.0, "the job completes")
    seconds, after = time.monotonic() - began, manager.usage()

    done = observer.job("sweep")
    assert counts(done) == (50, 0, 50, 0)
    shown = world.cluster.kubectl("get", "bcj", "sweep").stdout.splitlines()
    assert shown[0].split() == ["NAME", "DESIRED", "ACTIVE", "SUCCEEDED", "FAILED", "AGE"]
    assert shown[1].split()[:5] == ["sweep", "50", "0", "50", "0"]
    assert status(done)["observedGeneration"] == done["metadata"]["generation"]
    assert {p["spec"]["nodeName"] for p in observer.pods("sweep")} == set(nodes)

    quiet = world.cluster.audit.mark()
    time.sleep(IDLE)
    idle = checks.by_kind(world.cluster.audit, quiet)
    assert set(idle) <= {"patch leases", "create events", "patch events"}, f"at rest there were {dict(idle)}"

    made = checks.tally(checks.writes(world.cluster.audit, mark))
    patches = made.pop("patch broadcastjobs/status 200")
    assert made == {"create pods 201": 50}, made
    assert patches <= 2 + seconds / 0.5, f"{patches} status patches in {seconds:.1f} s"
    REPORT.add(
        "BroadcastJob, pods of 2 s",
        nodes=50,
        loop=loop,
        seconds=seconds,
        cpu_seconds=after.cpu - before.cpu,
        cpu_ms_per_pod=(after.cpu - before.cpu) * 1000 / 50,
        peak_rss_mb=after.peak_rss / 1e6,
        pod_creates=50,
        status_patches=patches,
        conflicts=0,
    )


def test_parallelism_as_number_and_as_percentage(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(30)
    observer = watched.observer
    world.create(job("number", run=0.5, parallelism=10))
    world.create(job("percent", run=0.5, parallelism="20%"))
    for name in ("number", "percent"):
        observer.until(lambda name=name: phase(observer.job(name)) == "completed", 60.0, f"{name} completes")
        assert counts(observer.job(name)) == (30, 0, 30, 0)
    for name, limit in (("number", 10), ("percent", 6)):
        assert most_active(observer, name) == limit, "all of the room is used, and no more"


def test_fail_fast_ends_the_job_and_its_pods(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(20)
    observer, mark = watched.observer, world.cluster.audit.mark()
    world.annotate_node("node-7", run_seconds="1.5", exit_code="3")
    world.create(job("sweep", run="forever"))
    observer.until(lambda: phase(observer.job("sweep")) == "failed", 30.0, "the job fails")
    observer.until(lambda: len(observer.pods("sweep")) == 1, 30.0, "the active pods go")
    assert node_of(observer.pods("sweep")[0]) == "node-7", "the failed pod stays, to be looked at"
    assert condition(observer.job("sweep"), "Failed")["status"] == "True"
    assert status(observer.job("sweep"))["completionTime"]
    made = checks.tally(checks.writes(world.cluster.audit, mark))
    assert made["create pods 201"] == 20
    assert made["delete pods 200"] == 19
    assert set(made) == {"create pods 201", "delete pods 200", "patch broadcastjobs/status 200"}, made
    said = events_by_reason(world, "sweep")
    assert len(said["failed pod is found"]) == 1
    assert said["failed pod is found"][0]["type"] == "Warning"


def test_continue_counts_the_failed_and_completes(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(20)
    observer = watched.observer
    world.annotate_node("node-3", exit_code="1")
    world.annotate_node("node-4", exit_code="2")
    world.create(job("sweep", run=0.5, failure={"type": "Continue"}))
    observer.until(lambda: phase(observer.job("sweep")) == "completed", 30.0, "the job completes")
    assert counts(observer.job("sweep")) == (20, 0, 18, 2)
    assert condition(observer.job("sweep"), "Complete")["status"] == "True"
    assert "2 pods failed" in events_by_reason(world, "sweep")["JobComplete"][0]["note"]


def test_failure_policy_pause_waits_for_a_person(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(20)
    observer = watched.observer
    world.annotate_node("node-0", exit_code="1", run_seconds="0")
    world.create(job("sweep", run=1, parallelism=5, failure={"type": "Pause"}))
    observer.until(lambda: phase(observer.job("sweep")) == "paused", 30.0, "the job pauses")
    observer.until(lambda: counts(observer.job("sweep"))[1] == 0, 30.0, "what runs ends")
    before = len(observer.pods("sweep"))
    assert before < 20
    assert condition(observer.job("sweep"), "Progressing")["reason"] == "JobPaused"
    mark = world.cluster.audit.mark()
    time.sleep(2.0)
    assert not checks.writes(world.cluster.audit, mark), "a paused job flaps"
    assert len(observer.pods("sweep")) == before
    assert len(events_by_reason(world, "sweep")["Paused"]) == 1

    world.annotate_node("node-0", exit_code=None, run_seconds=None)
    failed = next(p for p in observer.pods("sweep") if node_of(p) == "node-0")
    world.call("DELETE", f"/api/v1/namespaces/default/pods/{failed['metadata']['name']}")
    observer.until(lambda: phase(observer.job("sweep")) == "completed", 60.0, "the job goes on and completes")
    assert counts(observer.job("sweep")) == (20, 0, 20, 0)


def test_spec_paused_and_resumed(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(20)
    observer = watched.observer
    world.create(job("sweep", run=0.5, parallelism=4))
    observer.until(lambda: counts(observer.job("sweep"))[2] >= 4, 30.0, "some are done")
    world.patch_job("sweep", {"spec": {"paused": True}})
    observer.until(lambda: phase(observer.job("sweep")) == "paused", 5.0, "the job is paused")
    observer.until(lambda: counts(observer.job("sweep"))[1] == 0, 10.0, "what runs ends")
    made = len(observer.pods("sweep"))
    assert made < 20
    assert condition(observer.job("sweep"), "Progressing")["reason"] == "Paused"
    time.sleep(1.5)
    assert len(observer.pods("sweep")) == made
    world.patch_job("sweep", {"spec": {"paused": False}})
    observer.until(lambda: phase(observer.job("sweep")) == "completed", 60.0, "the job completes")
    assert counts(observer.job("sweep")) == (20, 0, 20, 0)
    assert len(events_by_reason(world, "sweep")["Continue"]) == 1


def test_deadline_outlives_a_restart_of_the_manager(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess]
) -> None:
    world.nodes(10)
    observer, first = watched.observer, launch().wait_leading()
    world.create(job("sweep", run="forever", completion={"activeDeadlineSeconds": 6}))
    observer.until(lambda: counts(observer.job("sweep"))[1] == 10, 10.0, "all pods are active")
    assert first.stop() == 0
    launch().wait_leading()
    observer.until(lambda: phase(observer.job("sweep")) == "failed", 15.0, "the deadline ends the job")
    done = status(observer.job("sweep"))
    late = stamp(done["completionTime"]) - stamp(done["startTime"]) - 6
    assert 0 <= late <= 2, f"the deadline took effect {late} s late"
    observer.until(lambda: not observer.pods("sweep"), 20.0, "the pods are gone")
    assert len(events_by_reason(world, "sweep")["DeadlineExceeded"]) == 1


def test_time_to_live_deletes_the_finished_job(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(5)
    observer, mark = watched.observer, world.cluster.audit.mark()
    world.create(job("sweep", run=0.2, completion={"ttlSecondsAfterFinished": 3}))
    done = observer.until(
        lambda: (j := observer.job("sweep")) and phase(j) == "completed" and j, 20.0, "the job completes"
    )
    observer.until(lambda: observer.job("sweep") is None, 10.0, "the job is deleted")
    assert 2.0 <= time.time() - stamp(status(done)["completionTime"]) <= 6.0
    deletions = [e for e in checks.writes(world.cluster.audit, mark) if e.what == "delete broadcastjobs"]
    assert len(deletions) == 1
    asked = (deletions[0].request or {})["preconditions"]
    assert asked == {"uid": done["metadata"]["uid"], "resourceVersion": done["metadata"]["resourceVersion"]}
    observer.until(lambda: not observer.pods("sweep"), 60.0, "the garbage collector takes the pods")


def test_nodes_are_cordoned_added_and_removed(world: World, watched: Watched, manager: ManagerProcess) -> None:
    names = world.nodes(10)
    observer = watched.observer
    world.cordon(names[0])
    # With FailFast, a pod that ends by SIGTERM on a cordoned node would fail the job, as in OpenKruise.
    world.create(job("sweep", run="forever", completion={"type": "Never"}, failure={"type": "Continue"}))

    def active(count: int) -> bool:
        return counts(observer.job("sweep"))[:2] == (count, count)

    observer.until(lambda: active(9), 15.0, "one pod on each node but the cordoned one")
    world.cordon(names[0], on=False)
    observer.until(lambda: active(10), 15.0, "the uncordoned node gets its pod")
    world.cordon(names[1])
    observer.until(lambda: active(9), 15.0, "the pod of a cordoned node goes")
    assert names[1] not in {node_of(p) for p in observer.pods("sweep") if not p["metadata"].get("deletionTimestamp")}
    world.cordon(names[1], on=False)
    observer.until(lambda: active(10), 20.0, "and comes back")
    added = world.add_node()
    observer.until(lambda: active(11), 15.0, "a new node gets its pod")
    assert added in {node_of(p) for p in observer.pods("sweep")}
    world.control("DELETE", f"/nodes/{added}")
    observer.until(lambda: counts(observer.job("sweep"))[0] == 10, 15.0, "a node that is gone is not desired")
    observer.until(
        lambda: counts(observer.job("sweep")) == (10, 10, 0, 0),
        90.0,
        "the pod of a node that is gone is collected, and counted no more",
    )


def test_image_pull_failure_is_said_within_a_second(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(5)
    observer = watched.observer
    world.annotate_node("node-2", pull_fail_seconds="8")
    world.create(job("sweep", run=0.2))
    reported = observer.until(
        lambda: next(
            (e.at for e in observer.events if e.resource == "pods" and waiting_reason(e.obj) == "ErrImagePull"), None
        ),
        20.0,
        "the kubelet reports the failed pull",
    )
    told = observer.until(
        lambda: next((e.at for e in observer.events if moving_reason(e.obj) == "ImagePullFailed"), None),
        10.0,
        "the job says so",
    )
    assert told - reported <= 1.0, f"the condition came {told - reported:.2f} s after the kubelet's report"
    shown = condition(observer.job("sweep"), "Progressing")
    assert "node-2" in shown["message"]
    observer.until(
        lambda: phase(observer.job("sweep")) == "completed", 60.0, "the pull succeeds later, the job completes"
    )


def test_a_crash_loop_ends_at_the_restart_limit(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(5)
    observer = watched.observer
    world.annotate_node("node-1", exit_code="9", run_seconds="0.2")
    world.create(job("loop", run=1, restart="OnFailure", failure={"type": "Continue", "restartLimit": 1000}))
    world.create(job("limit", run="forever", restart="OnFailure", failure={"type": "FailFast", "restartLimit": 1}))
    observer.until(
        lambda: condition(observer.job("loop"), "Progressing").get("reason") == "CrashLooping", 30.0, "a crash loop"
    )
    assert "node-1" in condition(observer.job("loop"), "Progressing")["message"]
    observer.until(lambda: phase(observer.job("limit")) == "failed", 60.0, "two restarts are one too many")
    text = condition(observer.job("limit"), "Failed")["message"] + str(events_by_reason(world, "limit"))
    pod = next(p for p in observer.pods("limit") if node_of(p) == "node-1")
    assert pod["metadata"]["name"] in text, "the pod over the limit is named"
    assert "node-1" in text
    watched.quiescent = False  # the loop goes on


def test_a_half_done_job_of_openkruise_is_taken_over(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess]
) -> None:
    """Pods with generated names, the labels and the owner, and no annotation (B1)."""
    names = world.nodes(20)
    observer = watched.observer
    body = world.create(job("sweep", run=3))
    path = "/apis/apps.kruise.io/v1beta1/namespaces/default/broadcastjobs/sweep/status"
    started = {"status": {"phase": "running", "startTime": now_stamp(), "desired": 20, "active": 10}}
    world.call("PATCH", path, started, content_type="application/merge-patch+json")
    for name in names[:10]:
        world.call("POST", "/api/v1/namespaces/default/pods", openkruise_pod(body, name))
    launch().wait_leading()
    observer.until(lambda: phase(observer.job("sweep")) == "completed", 60.0, "the job completes")
    assert counts(observer.job("sweep")) == (20, 0, 20, 0)
    ours = [p for p in observer.pods("sweep") if node_of(p) in names[10:]]
    assert len(observer.pods("sweep")) == 20
    assert len(ours) == 10


def test_a_foreign_pod_on_our_name_is_left_alone(world: World, watched: Watched, manager: ManagerProcess) -> None:
    """B1: the next name is taken after a live list shows no pod of the job for that node."""
    world.nodes(5)
    observer, mark = watched.observer, world.cluster.audit.mark()
    made = world.create(job("sweep", run=0.5, paused=True))
    observer.until(lambda: phase(observer.job("sweep")) == "paused", 15.0, "the job is paused")
    node = world.call("GET", "/api/v1/nodes/node-3")
    taken = pod_name("sweep", made["metadata"]["uid"], node["metadata"]["uid"])
    foreign = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": taken, "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}]},
    }
    uid = world.call("POST", "/api/v1/namespaces/default/pods", foreign)["metadata"]["uid"]
    world.patch_job("sweep", {"spec": {"paused": False}})
    observer.until(lambda: phase(observer.job("sweep")) == "completed", 30.0, "the job completes")
    assert counts(observer.job("sweep")) == (5, 0, 5, 0)
    names = {node_of(p): p["metadata"]["name"] for p in observer.pods("sweep")}
    assert names["node-3"] != taken
    assert world.call("GET", f"/api/v1/namespaces/default/pods/{taken}")["metadata"]["uid"] == uid
    asked = checks.by_kind(world.cluster.audit, mark)
    assert (asked["get pods"], asked["list pods"]) == (1, 1), dict(asked)


def test_malformed_jobs_hurt_nobody_else(world: World, watched: Watched, manager: ManagerProcess) -> None:
    """G8: one event and one condition or log line for each, which name the field; the good ones converge."""
    world.nodes(10)
    observer = watched.observer
    bad: dict[str, tuple[dict[str, Any], str]] = {
        "bad-containers": ({"containers": [{"name": "main", "image": 7}]}, "image"),
        "bad-selector": ({"nodeSelector": ["a"]}, "nodeSelector"),
        "bad-request": (
            {"containers": [{"name": "main", "image": "a", "resources": {"requests": {"cpu": "many"}}}]},
            "cpu",
        ),
        "bad-tolerations": ({"tolerations": {"key": "a"}}, "tolerations"),
        "no-image": ({"containers": [{"name": "main"}]}, "image"),
        "bad-volume": ({"volumes": [{"name": "Not A Name", "emptyDir": {}}]}, "volumes"),
    }
    for name, (spec, _) in bad.items():
        world.create(job(name, pod_spec=spec))
    for number in range(5):
        world.create(job(f"good-{number}", run=0.3))
    for number in range(5):
        observer.until(lambda n=number: phase(observer.job(f"good-{n}")) == "completed", 30.0, f"good-{number}")
    for name, (_, field) in bad.items():
        observer.until(
            lambda name=name: condition(observer.job(name), "Progressing").get("status") == "False", 20.0, name
        )
        assert field in condition(observer.job(name), "Progressing")["message"], name
    time.sleep(1.0)
    for name, (_, field) in bad.items():
        warnings = [e for e in world.events(name) if e["type"] == "Warning"]
        assert len(warnings) == 1, f"{name}: {[(e['reason'], e['note']) for e in warnings]}"
        assert field in warnings[0]["note"], name
    assert manager.running


def test_kruise_status_explains(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(8)
    observer = watched.observer
    world.cordon("node-0")
    world.annotate_node("node-1", exit_code="42", run_seconds="0")
    world.annotate_node("node-2", pull_fail_seconds="forever")
    world.create(job("sweep", run="forever", failure={"type": "Continue"}))
    observer.until(
        lambda: (
            counts(observer.job("sweep")) == (7, 6, 0, 1)
            and condition(observer.job("sweep"), "Progressing").get("reason") == "ImagePullFailed"
        ),
        30.0,
        "one failed, one pulls in vain",
    )
    observer.until(lambda: sum(pod_phase(p) == "Running" for p in observer.pods("sweep")) == 5, 20.0, "the others run")
    done = kruise("status", "bcj/sweep", f"--kubeconfig={world.cluster.admin}")
    assert done.returncode == 0, done.stderr
    for line in (
        "1 +NodeCordoned +node-0",
        "1 +PodFailed +node-1",
        "1 +ImagePullFailed +node-2",
        "5 +PodRunning +node-3",
    ):
        assert re.search(rf"(?m)^{line}", done.stdout), f"{line} is not in\n{done.stdout}"
    assert re.search(r"(?m)^node-1 +PodFailed +42 ", done.stdout), done.stdout
    asked = json.loads(kruise("status", "bcj/sweep", "-o", "json", f"--kubeconfig={world.cluster.admin}").stdout)
    assert {n["node"]: n["reason"] for n in asked["nodes"]}["node-0"] == "NodeCordoned"
    missing = kruise("status", "bcj/nothing", f"--kubeconfig={world.cluster.admin}")
    assert missing.returncode == 1
    assert "nothing" in missing.stderr


def test_v1alpha1_manifests_work_and_read_the_same(world: World, watched: Watched, manager: ManagerProcess) -> None:
    world.nodes(5)
    observer = watched.observer
    world.create(job("old", version="v1alpha1", run=0.2, completion={"type": "Always", "ttlSecondsAfterFinished": 600}))
    observer.until(lambda: phase(observer.job("old")) == "completed", 30.0, "the job completes")
    old = world.call("GET", "/apis/apps.kruise.io/v1alpha1/namespaces/default/broadcastjobs/old")
    new = world.job("old")
    assert old["apiVersion"].endswith("v1alpha1")
    assert (old["spec"], old["status"]) == (new["spec"], new["status"])
    assert all(p["metadata"]["ownerReferences"][0]["apiVersion"].endswith("v1beta1") for p in observer.pods("old"))


# What the tests above ask of bodies.


def most_active(observer: Observer, name: str) -> int:
    """Return how many pods of a job were active at once, at most."""
    active: set[str] = set()
    most = 0
    for event in observer.events:
        if event.resource == "pods" and event.obj["metadata"]["labels"].get("broadcastjob-name") == name:
            uid = event.obj["metadata"]["uid"]
            if event.type == "DELETED" or pod_phase(event.obj) in ("Succeeded", "Failed"):
                active.discard(uid)
            else:
                active.add(uid)
            most = max(most, len(active))
    return most


def events_by_reason(world: World, name: str) -> dict[str, list[dict[str, Any]]]:
    """Return the Events on a job by reason; waits until the recorder has written what it had."""
    time.sleep(0.5)
    found: dict[str, list[dict[str, Any]]] = {}
    for event in world.events(name):
        found.setdefault(event["reason"], []).append(event)
    return found


def waiting_reason(pod: dict[str, Any]) -> str:
    """Return why the first container that waits does so."""
    for one in (pod.get("status") or {}).get("containerStatuses") or ():
        if waiting := one["state"].get("waiting"):
            return str(waiting.get("reason"))
    return ""


def moving_reason(body: dict[str, Any]) -> str:
    """Return the reason of Progressing, of whatever object."""
    return str(condition(body, "Progressing").get("reason", ""))


def stamp(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 stamp."""
    return datetime.fromisoformat(text).timestamp()


def now_stamp() -> str:
    """Return the present moment as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def openkruise_pod(body: dict[str, Any], node: str) -> dict[str, Any]:
    """Return the pod that OpenKruise makes of a job for a node."""
    template = body["spec"]["template"]
    meta = body["metadata"]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    pinned = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": {"broadcastjob-name": meta["name"], "broadcastjob-controller-uid": meta["uid"]},
            "annotations": dict(template["metadata"]["annotations"]),
            "ownerReferences": [
                {
                    "apiVersion": "apps.kruise.io/v1alpha1",
                    "kind": "BroadcastJob",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {**template["spec"], "affinity": {"nodeAffinity": pinned}},
    }


def kruise(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    argv = [sys.executable, "-c", "from kruise.cli.main import run; run()", *args]
    return subprocess.run(argv, text=True, capture_output=True, check=False, timeout=60.0, cwd=ROOT)
