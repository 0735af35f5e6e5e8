"""What the demo makes of commits: happenings, and the numbers that it checks."""

from __future__ import annotations

import pytest

from kruise.cli.demo_picture import JOBS, LEASE, Happening, Kind, Picture
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.storage import Body, Commit, Record

READY = {"conditions": [{"type": "Ready", "status": "True"}]}


@pytest.fixture
def picture() -> Picture:
    return Picture("sweep")


def commit(resource: str, name: str, obj: Body, *, kind: str = "MODIFIED", namespace: str = "default") -> Commit:
    meta = {"name": name, "uid": f"uid-{name}", **obj.get("metadata", {})}
    return Commit(1, kind, resource, Key(namespace, name), Record({**obj, "metadata": meta}, 1), None, "x", 1)  # type: ignore[arg-type]


def pod(
    name: str, node: str, phase: str, *, code: int | None = None, job: str = "sweep", kind: str = "MODIFIED"
) -> Commit:
    status: Body = {"phase": phase}
    if code is not None:
        status["containerStatuses"] = [{"state": {"terminated": {"exitCode": code}}}]
    body = {"metadata": {"labels": {"broadcastjob-name": job}}, "spec": {"nodeName": node}, "status": status}
    return commit("pods", name, body, kind=kind)


def job(**status: object) -> Commit:
    return commit(JOBS, "sweep", {"status": status})


def test_a_node_is_told_of_once_when_it_gets_ready(picture: Picture) -> None:
    assert picture.take(commit("nodes", "node-0", {}, namespace="")) == []
    assert picture.take(commit("nodes", "node-0", {"status": READY}, namespace="")) == [Happening(Kind.READY, "node-0")]
    assert picture.take(commit("nodes", "node-0", {"status": READY}, namespace="")) == []
    assert picture.nodes == {"node-0": True}
    picture.take(commit("nodes", "node-0", {"status": READY}, namespace="", kind="DELETED"))
    assert picture.nodes == {}


def test_a_pod_is_told_of_when_it_runs_and_when_it_ends_with_its_exit_code(picture: Picture) -> None:
    assert picture.take(pod("a", "", "Pending", kind="ADDED")) == []
    assert picture.take(pod("a", "node-3", "Running")) == [Happening(Kind.RUNS, "node-3")]
    assert picture.take(pod("a", "node-3", "Running")) == []
    assert picture.take(pod("a", "node-3", "Failed", code=3)) == [Happening(Kind.FAILED, "node-3", 3)]
    assert picture.on("node-3")[0].exit_code == 3
    assert picture.take(pod("b", "node-1", "Succeeded", code=0)) == [Happening(Kind.SUCCEEDED, "node-1")]
    assert picture.ended() == 2


def test_pods_of_other_jobs_are_not_ours(picture: Picture) -> None:
    assert picture.take(pod("a", "node-0", "Running", job="other")) == []
    assert picture.pods == {}


def test_the_most_active_pods_are_counted_at_every_commit(picture: Picture) -> None:
    for name in "abc":
        picture.take(pod(name, name, "Pending", kind="ADDED"))
    for name in "abc":
        picture.take(pod(name, name, "Succeeded"))
    picture.take(pod("d", "d", "Running", kind="ADDED"))
    assert picture.most_active == 3


def test_a_pod_that_is_gone_is_not_active_and_stays_on_its_node(picture: Picture) -> None:
    picture.take(pod("a", "node-0", "Running"))
    picture.take(pod("a", "node-0", "Running", kind="DELETED"))
    picture.take(pod("b", "node-1", "Running"))
    assert picture.most_active == 1
    assert len(picture.on("node-0")) == 1


def test_the_job_tells_of_another_number_of_pods_and_of_its_end(picture: Picture) -> None:
    assert picture.take(job(desired=5, active=2, phase="running")) == [Happening(Kind.WANTS, "sweep", 5)]
    assert picture.take(job(desired=5, active=1, succeeded=1, phase="running")) == []
    ended = picture.take(job(desired=6, succeeded=5, failed=1, phase="completed"))
    assert ended == [Happening(Kind.WANTS, "sweep", 6), Happening(Kind.ENDED, "completed")]
    assert picture.totals() == (6, 0, 5, 1)


def test_another_job_of_the_namespace_is_not_ours(picture: Picture) -> None:
    assert picture.take(commit(JOBS, "other", {"status": {"desired": 9}})) == []
    assert picture.totals() == (0, 0, 0, 0)


def test_only_the_lease_of_the_manager_says_who_leads(picture: Picture) -> None:
    node = commit(LEASE, "node-0", {"spec": {"holderIdentity": "node-0"}}, namespace="kube-node-lease")
    assert picture.take(node) == []
    lease = commit(LEASE, "kruise-manager", {"spec": {"holderIdentity": "me"}}, namespace="kruise-system")
    assert picture.take(lease) == [Happening(Kind.LEADS, "me")]
    assert picture.take(lease) == []
    assert picture.holder == "me"
