"""``kruise status asts/NAME``: a reason for every pod that is not as desired, a table, a document, an exit code."""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from kruise.apis.core import CLAIMS, PODS, REVISIONS, STORAGE_CLASSES, Claim, ControllerRevision, Pod
from kruise.apis.hashes import controller_revision_hash, controller_revision_name
from kruise.apis.revisiondata import revision_data
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.cli import status, status_statefulset
from kruise.cli.cluster import Cluster
from kruise.cli.seen_statefulset import Seen, observe, pod_rows
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import SystemClock
from kruise.runtime.errors import ConfigError
from kruise.runtime.objects import Key, ObjectMeta, OwnerReference, Unreadable

KEY = Key("ns", "web")
NOW = 1_767_225_600.0
STAMP = "2026-01-01T00:00:00Z"
Body = dict[str, Any]


def template(image: str) -> Body:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": image}]}}


def revision_name(image: str) -> str:
    return controller_revision_name("web", controller_revision_hash(revision_data(template(image)), 0))


OLD, NEW = revision_name("app:1"), revision_name("app:2")


def a_set(image: str = "app:2", *, replicas: int = 3, status: Body | None = None, **spec: Any) -> StatefulSet:
    rolling = {"maxUnavailable": 1, "podUpdatePolicy": "ReCreate", **spec.pop("rolling", {})}
    body = {
        "kind": "StatefulSet",
        "metadata": {"namespace": "ns", "name": "web", "uid": "set", "resourceVersion": "5", "generation": 2},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            **spec,
        },
        "status": {"observedGeneration": 2, "currentRevision": OLD, "updateRevision": NEW, **(status or {})},
    }
    return decode_as(StatefulSet, orjson.dumps(body))


def a_revision(image: str, number: int) -> ControllerRevision:
    owner = {"kind": "StatefulSet", "apiVersion": "apps.kruise.io/v1beta1", "name": "web", "uid": "set"}
    meta = {
        "namespace": "ns",
        "name": revision_name(image),
        "uid": f"rev-{number}",
        "labels": {"app": "web"},
        "ownerReferences": [{**owner, "controller": True}],
    }
    data = orjson.loads(revision_data(template(image)))
    return decode_as(ControllerRevision, orjson.dumps({"metadata": meta, "revision": number, "data": data}))


def a_pod(ordinal: int, image: str = "app:2", *, ready: bool = True, phase: str = "Running", **more: Any) -> Pod:
    name = f"web-{ordinal}"
    labels = {
        "app": "web",
        "controller-revision-hash": revision_name(image),
        "statefulset.kubernetes.io/pod-name": name,
    }
    owner = {"kind": "StatefulSet", "apiVersion": "apps.kruise.io/v1beta1", "name": "web", "uid": "set"}
    meta = {
        "namespace": "ns",
        "name": name,
        "uid": f"pod-{ordinal}",
        "resourceVersion": "7",
        "labels": {**labels, **more.pop("labels", {})},
        "ownerReferences": [{**owner, "controller": True}],
        **more.pop("metadata", {}),
    }
    conditions = [
        {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": STAMP},
        {"type": "ContainersReady", "status": "True" if ready else "False"},
    ]
    spec = {"nodeName": f"node-{ordinal}", "containers": [{"name": "main", "image": image}]}
    state = {"phase": phase, "conditions": conditions, **more}
    return decode_as(Pod, orjson.dumps({"metadata": meta, "spec": spec, "status": state}))


def cannot_pull() -> Body:
    told = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "app:2"'}
    return {"containerStatuses": [{"name": "main", "image": "app:1", "state": {"waiting": told}}]}


class Live:
    def __init__(self, sts: Any, pods: Any = (), revisions: Any = None, claims: Any = ()) -> None:
        self.sts = sts
        both = [a_revision("app:1", 1), a_revision("app:2", 2)]
        self.lists: dict[Any, list[Any]] = {
            PODS: list(pods),
            REVISIONS: both if revisions is None else list(revisions),
            CLAIMS: list(claims),
            STORAGE_CLASSES: [],
        }
        self.asked: list[Any] = []

    async def get(self, resource: Any, key: Key) -> Any:
        assert (resource, key) == (STATEFULSETS, KEY)
        if isinstance(self.sts, list):
            return self.sts.pop(0) if len(self.sts) > 1 else self.sts[0]
        return self.sts

    async def list(self, resource: Any, **selectors: Any) -> Any:
        self.asked.append((resource, selectors))
        return self.lists[resource]


class Clock(SystemClock):
    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return NOW + self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


def cluster(live: Live) -> Cluster:
    class Holder:
        pass

    client: Any = Holder()
    client.live = live
    return Cluster(client, Clock(), "ns")


async def seen(live: Live) -> Seen:
    found = await observe(cluster(live), KEY)
    assert isinstance(found, Seen)
    return found


async def reasons(live: Live) -> list[tuple[str, str]]:
    return [(d.subject, str(d.reason)) for d in (await seen(live)).decisions]


def run(monkeypatch: pytest.MonkeyPatch, live: Live, *argv: str) -> Any:
    @contextlib.asynccontextmanager
    async def connect(args: argparse.Namespace) -> AsyncIterator[Cluster]:
        yield cluster(live)

    monkeypatch.setattr(status, "connect", connect)
    parser = argparse.ArgumentParser()
    status.add_parser(parser.add_subparsers())
    return status.run(parser.parse_args(["status", "asts/web", *argv]))


# Names.


@pytest.mark.parametrize("kind", ["asts", "ASTS", "statefulset.apps.kruise.io", "statefulsets.apps.kruise.io"])
def test_a_target(kind: str) -> None:
    assert status.parse_target(f"{kind}/web") == (status_statefulset.look, "web")


@pytest.mark.parametrize("kind", ["sts", "StatefulSet", "statefulsets"])
def test_what_kubectl_takes_for_another_kind_is_refused_with_what_is_meant(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"StatefulSet of Kubernetes itself.*want asts/web"):
        status.parse_target(f"{kind}/web")


# Reasons.


async def test_everything_as_desired_has_no_reason() -> None:
    live = Live(a_set(), [a_pod(n) for n in range(3)])
    assert await reasons(live) == []


async def test_a_bad_image_has_the_stuck_pod_and_those_that_wait_for_the_budget() -> None:
    live = Live(a_set(), [a_pod(0, "app:1"), a_pod(1, "app:1"), a_pod(2, ready=False, **cannot_pull())])
    found = await seen(live)
    assert [(d.subject, str(d.reason)) for d in found.decisions] == [
        ("pod web-0", "MaxUnavailableReached"),
        ("pod web-1", "MaxUnavailableReached"),
        ("pod web-2", "ImagePullFailed"),
    ]
    assert 'container main (app:2) is waiting: ImagePullBackOff: Back-off pulling image "app:2"' in (
        found.decisions[2].evidence
    )
    assert "used by web-2" in found.decisions[0].evidence


async def test_what_the_next_pass_does_is_said_of_it() -> None:
    live = Live(a_set(), [a_pod(0, "app:1"), a_pod(1, "app:1"), a_pod(2, "app:1")])
    found = (await seen(live)).decisions
    assert [str(d.reason) for d in found][2] == "Updating"
    assert (found[2].evidence, found[2].detail["node"]) == ("the next pass deletes it", "node-2")
    assert "is one running" in found[2].unblocked_by
    created = (await seen(Live(a_set(), [a_pod(0), a_pod(1)]))).decisions
    assert [(d.subject, str(d.reason), d.evidence) for d in created] == [
        ("pod web-2", "Scaling", "the next pass creates it")
    ]
    deleted = (await seen(Live(a_set(replicas=1), [a_pod(0), a_pod(1)]))).decisions
    assert [(d.subject, str(d.reason)) for d in deleted] == [("pod web-1", "Scaling")]


async def test_a_revision_that_nobody_created_yet_counts() -> None:
    live = Live(a_set(), [a_pod(n, "app:1") for n in range(3)], [a_revision("app:1", 1)])
    found = await seen(live)
    assert found.view.frame.update_name == NEW
    assert len(found.decisions) == 3


async def test_a_creation_that_was_refused_says_so_in_the_words_of_the_manager() -> None:
    conditions = [
        {"type": "Degraded", "status": "True", "reason": "QuotaExceeded", "message": "x"},
        {
            "type": "FailedCreatePod",
            "status": "True",
            "message": "pod web-2: exceeded quota",
            "lastTransitionTime": STAMP,
        },
    ]
    live = Live(a_set(status={"conditions": conditions}), [a_pod(0), a_pod(1)])
    found = await seen(live)
    assert [(str(d.reason), d.since) for d in found.decisions] == [("QuotaExceeded", STAMP)]
    assert "pod web-2: exceeded quota" in found.decisions[0].evidence
    assert status_statefulset.exit_code(found) == 2


async def test_what_was_refused_for_an_older_spec_is_not_repeated() -> None:
    conditions = [{"type": "FailedCreatePod", "status": "True", "reason": "QuotaExceeded", "message": "m"}]
    live = Live(a_set(status={"conditions": conditions, "observedGeneration": 1}), [a_pod(0), a_pod(1)])
    assert await reasons(live) == [("pod web-2", "Scaling")]


async def test_pods_of_others_do_not_count() -> None:
    foreign = a_pod(1, metadata={"ownerReferences": [{"kind": "X", "name": "x", "uid": "other", "controller": True}]})
    assert ("pod web-1", "Scaling") in await reasons(Live(a_set(), [a_pod(0), foreign, a_pod(2)]))


async def test_a_pod_that_nobody_can_decode_has_its_row() -> None:
    ref = OwnerReference(
        api_version="apps.kruise.io/v1beta1", kind="StatefulSet", name="web", uid="set", controller=True
    )
    labels = {"app": "web", "controller-revision-hash": NEW}
    meta = ObjectMeta(
        namespace="ns", name="web-1", uid="u", resource_version="1", labels=labels, owner_references=(ref,)
    )
    live = Live(a_set(), [a_pod(0), Unreadable(metadata=meta, problem="bad", path="$.spec"), a_pod(2)])
    found = await seen(live)
    assert [(d.subject, str(d.reason)) for d in found.decisions] == [("pod web-1", "PodUnreadable")]
    assert pod_rows(found)[1].state == "Unreadable"


async def test_the_state_of_a_pod_in_a_word() -> None:
    pods = [
        a_pod(0),
        a_pod(1, ready=False),
        a_pod(2, ready=False, phase="Pending"),
        a_pod(3, metadata={"deletionTimestamp": STAMP}),
        a_pod(4, ready=False, phase="Failed"),
        a_pod(5, labels={"lifecycle.apps.kruise.io/state": "PreparingUpdate"}),
    ]
    rows = pod_rows(await seen(Live(a_set(replicas=7, status={}), pods)))
    states = ["Available", "NotReady", "Pending", "Terminating", "Failed", "PreparingUpdate", "Missing"]
    assert [row.state for row in rows] == states
    assert (rows[0].reason, rows[0].node, rows[0].revision) == ("", "node-0", NEW)


async def test_claims_are_listed_only_for_a_set_that_has_templates() -> None:
    live = Live(a_set(), [a_pod(n) for n in range(3)])
    await seen(live)
    assert [resource for resource, _ in live.asked] == [REVISIONS, PODS]
    assert live.asked[1][1] == {"namespace": "ns", "label_selector": "app=web"}
    wanted = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    claim = decode_as(
        Claim, orjson.dumps({"metadata": {"namespace": "ns", "name": "data-web-2", "deletionTimestamp": STAMP}})
    )
    live = Live(a_set(volumeClaimTemplates=[wanted]), [a_pod(0), a_pod(1)], claims=[claim])
    found = {d.subject: d for d in (await seen(live)).decisions}
    assert str(found["pod web-2"].reason) == "VolumeClaimPending"
    assert "data-web-2 is being deleted" in found["pod web-2"].evidence


async def test_a_claim_that_cannot_be_bound_is_the_reason_and_not_the_scheduler() -> None:
    wanted = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    meta = {"namespace": "ns", "name": "data-web-0"}
    claim = decode_as(Claim, orjson.dumps({"metadata": meta, "status": {"phase": "Pending"}}))
    text = "0/5 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    told = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}]
    unbound = a_pod(0, ready=False, phase="Pending", conditions=told)
    found = await seen(Live(a_set(replicas=1, volumeClaimTemplates=[wanted]), [unbound], claims=[claim]))
    assert str(found.decisions[0].reason) == "VolumeClaimPending"
    assert "claim data-web-0 is Pending" in found.decisions[0].evidence
    assert text in found.decisions[0].evidence
    assert status_statefulset.exit_code(found) == 2
    told[0]["message"] = "0/5 nodes are available: 5 Insufficient cpu."
    full = a_pod(0, ready=False, phase="Pending", conditions=told)
    found = await seen(Live(a_set(replicas=1, volumeClaimTemplates=[wanted]), [full], claims=[claim]))
    assert str(found.decisions[0].reason) == "PodUnschedulable", "a volume may wait for the node"


# Exit codes.


async def code_of(live: Live) -> tuple[int, bool]:
    found = await seen(live)
    return status_statefulset.exit_code(found), status_statefulset.ended(found)


async def test_done_is_0_and_ended() -> None:
    assert await code_of(Live(a_set(), [a_pod(n) for n in range(3)])) == (0, True)


async def test_done_but_not_observed_has_not_ended() -> None:
    live = Live(a_set(status={"observedGeneration": 1}), [a_pod(n) for n in range(3)])
    assert await code_of(live) == (0, False)


async def test_on_its_way_is_0() -> None:
    assert await code_of(Live(a_set(), [a_pod(0, "app:1"), a_pod(1), a_pod(2, ready=False)])) == (0, False)


async def test_what_needs_a_person_is_2() -> None:
    stuck = [a_pod(0), a_pod(1), a_pod(2, ready=False, **cannot_pull())]
    assert await code_of(Live(a_set(), stuck)) == (2, False)


async def test_what_somebody_holds_back_on_purpose_is_0_and_ended() -> None:
    old = [a_pod(n, "app:1") for n in range(3)]
    assert await code_of(Live(a_set(rolling={"paused": True}), old)) == (0, True)
    assert await code_of(Live(a_set(rolling={"partition": 3}), old)) == (0, True)


async def test_a_hook_that_nobody_lets_go_is_2() -> None:
    held = a_pod(2, "app:1", labels={"lifecycle.apps.kruise.io/state": "PreparingUpdate", "hold": "yes"})
    hook = {"inPlaceUpdate": {"labelsHandler": {"hold": "yes"}}}
    rolling = {"podUpdatePolicy": "InPlaceIfPossible"}
    live = Live(a_set(lifecycle=hook, rolling=rolling), [a_pod(0), a_pod(1), held])
    assert (await reasons(live))[0] == ("pod web-2", "LifecycleHookBlocked")
    assert (await code_of(live))[0] == 2


# What is shown.


async def test_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    conditions = [
        {"type": "Progressing", "status": "False", "reason": "ImagePullFailed", "message": "pod web-2: x"},
        {"type": "Ready", "status": "False", "reason": "ImagePullFailed", "message": "pod web-2: x"},
        {"type": "Paused", "status": "False", "reason": "NotPaused", "message": "nothing"},
    ]
    counts = {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2, "conditions": conditions}
    pods = [a_pod(0, "app:1"), a_pod(1, "app:1"), a_pod(2, ready=False, **cannot_pull())]
    assert await run(monkeypatch, Live(a_set(status=counts), pods)) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "StatefulSet ns/web: does not move",
        f"Parallel, RollingUpdate, ReCreate, revision {OLD} -> {NEW}, ordinals 0-2",
        "replicas 3: 3 pods, 1 updated, 2 ready, 2 available; partition 0, maxUnavailable 1, down 1 (web-2)",
        "Progressing=False Ready=False ImagePullFailed: pod web-2: x",
        "",
    ]
    assert lines[5].split() == ["ORDINAL", "POD", "NODE", "REVISION", "STATE", "REASON", "NEXT", "CHECK", "EVIDENCE"]
    assert lines[6].split()[:7] == ["2", "web-2", "node-2", NEW, "NotReady", "ImagePullFailed", "-"], (
        "first what is wrong"
    )
    assert lines[7].split()[:6] == ["0", "web-0", "node-0", OLD, "Available", "MaxUnavailableReached"]
    assert lines[-2:] == [
        "ImagePullFailed: unblocked by a correct image, or access to its registry",
        "MaxUnavailableReached: unblocked by pods that become available, or a higher maxUnavailable",
    ]


async def test_of_very_many_pods_the_table_counts_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pods = [a_pod(n, "app:1") for n in range(50)]
    assert await run(monkeypatch, Live(a_set(replicas=50, rolling={"partition": 50}), pods)) == 0
    assert "... and 30 more pods (30 PartitionHeld); -o json has them all" in capsys.readouterr().out


async def test_json_has_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ready = a_pod(2)
    waiting = a_pod(2, conditions=[{"type": "Ready", "status": "True", "lastTransitionTime": STAMP}])
    assert ready.key == waiting.key
    live = Live(a_set(rolling={"minReadySeconds": 30}), [a_pod(0), a_pod(1), waiting])
    assert await run(monkeypatch, live, "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["namespace"], found["name"], found["replicas"]) == ("StatefulSet", "ns", "web", 3)
    assert found["status"]["updateRevision"] == NEW
    assert found["budget"] == {"maxUnavailable": 1, "used": 3}
    one = found["decisions"][2]
    assert {k: one[k] for k in ("subject", "ordinal", "pod", "node", "revision", "state", "reason")} == {
        "subject": "pod web-2",
        "ordinal": 2,
        "pod": "web-2",
        "node": "node-2",
        "revision": NEW,
        "state": "Ready",
        "reason": "WaitingMinReady",
    }
    assert one["nextCheck"] == "2026-01-01T00:00:30Z"
    assert one["evidence"]
    assert one["unblockedBy"]


async def test_a_set_with_a_wrong_selector_or_template_says_which_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = a_set(selector={"matchExpressions": [{"key": "a", "operator": "Near"}]})
    assert await run(monkeypatch, Live(bad)) == 2
    assert "InvalidSpec: spec.selector" in capsys.readouterr().out
    assert await run(monkeypatch, Live(bad), "-o", "json") == 2
    found = json.loads(capsys.readouterr().out)
    assert [(d["reason"], d["subject"]) for d in found["decisions"]] == [("InvalidSpec", "statefulset web")]


async def test_watch_follows_to_the_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    going, done = a_set(status={"observedGeneration": 1}), a_set()
    live = Live([going, copy.copy(going), done], [a_pod(n) for n in range(3)])
    assert await run(monkeypatch, live, "-w") == 0
    assert capsys.readouterr().out.count("StatefulSet ns/web") == 1, "what is the same is not printed again"


async def test_watch_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    live = Live(a_set(), [a_pod(0, "app:1"), a_pod(1), a_pod(2, ready=False)])
    assert await run(monkeypatch, live, "-w", "--timeout", "5") == 3


async def test_other_feature_gates_are_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Live(a_set(replicas=2, ordinals={"start": 5}), [a_pod(0), a_pod(1)])
    assert await run(monkeypatch, live) == 0
    assert "ordinals 0-1" in capsys.readouterr().out
    await run(monkeypatch, live, "--feature-gates=StatefulSetStartOrdinal=true")
    assert "ordinals 5-6" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        await run(monkeypatch, live, "--feature-gates=StatefulSetStartOrdinal")
    assert "want pairs" in capsys.readouterr().err
    await run(monkeypatch, live, "--feature-gates=NoSuchGate=true")
    assert "NoSuchGate: unknown gate" in capsys.readouterr().err


async def test_nothing_is_written_and_a_set_nobody_saw_is_said_so() -> None:
    live = Live(a_set(status={"observedGeneration": 0, "currentRevision": "", "updateRevision": ""}), [], [])
    answer = await status_statefulset.look(cluster(live), KEY)
    assert answer.table.splitlines()[0] == "StatefulSet ns/web: not seen by a manager yet"
    assert answer.code == 0
