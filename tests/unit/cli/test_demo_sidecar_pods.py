"""What the demo makes of the commits of pods with a sidecar: what happened, and whether the application noticed."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.cli.demo_pods import Event, PodEvent
from kruise.cli.demo_sidecar_pods import APP, SIDECAR, SIDECARS, SidecarPicture
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.storage import Commit, Record

Body = dict[str, Any]
V1, V2 = "agent:v1", "agent:v2"


@pytest.fixture
def picture() -> SidecarPicture:
    return SidecarPicture("logs", "shop")


def commit(resource: str, body: Body, *, kind: str = "MODIFIED", at: float = 0.0) -> Commit:
    key = Key("default" if resource == "pods" else "", body["metadata"]["name"])
    return Commit(1, kind, resource, key, Record(body, 1), None, "x", 1, at)  # type: ignore[arg-type]


def pod(
    number: int, *, ready: bool = True, image: str = V1, restarts: int = 0, app: int = 0, label: str = "shop"
) -> Body:
    runs = [
        {"name": APP, "containerID": f"app-{app}", "restartCount": app, "image": "shop:v7"},
        {"name": SIDECAR, "containerID": f"run-{restarts}", "restartCount": restarts, "image": image},
    ]
    return {
        "metadata": {"name": f"shop-{number}", "uid": f"u{number}", "labels": {"app": label}},
        "spec": {"nodeName": "node-1", "containers": [{"name": SIDECAR, "image": image}, {"name": APP, "image": "x"}]},
        "status": {
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": runs,
        },
    }


def test_a_pod_serves_once_and_then_goes_out_and_comes_back(picture: SidecarPicture) -> None:
    assert picture.take(commit("pods", pod(0, ready=False), kind="ADDED")) == []
    assert picture.take(commit("pods", pod(0))) == [PodEvent(Event.SERVES, "shop-0", "node-1, 10.0.0.1")]
    assert picture.take(commit("pods", pod(0, image=V2), at=1.0)) == [PodEvent(Event.IMAGE, "shop-0", V2)]
    assert picture.take(commit("pods", pod(0, image=V2, ready=False), at=2.0)) == [PodEvent(Event.OUT, "shop-0")]
    back = picture.take(commit("pods", pod(0, image=V2, restarts=1), at=3.5))
    assert back == [PodEvent(Event.BACK, "shop-0", V2, 1.5)]


def test_an_upgrade_leaves_the_pod_and_its_application_as_they_were(picture: SidecarPicture) -> None:
    picture.take(commit("pods", pod(0)))
    before = picture.pairs()["shop-0"]
    picture.take(commit("pods", pod(0, image=V2, restarts=1)))
    after = picture.pairs()["shop-0"]
    assert after.untouched == before.untouched
    assert (after.sidecar, after.image) != (before.sidecar, before.image)
    picture.take(commit("pods", pod(0, image=V2, restarts=1, app=1)))
    assert picture.pairs()["shop-0"].untouched != before.untouched, "the application was started again"


def test_what_is_out_of_service_at_once_is_counted_at_every_commit(picture: SidecarPicture) -> None:
    for number in range(3):
        picture.take(commit("pods", pod(number)))
    picture.forget()
    for ready in (False, True):
        picture.take(commit("pods", pod(0, ready=ready)))
        picture.take(commit("pods", pod(1, ready=ready)))
    assert (picture.most_out, picture.ready()) == (2, 3)


def test_pods_of_others_are_none_of_its_business(picture: SidecarPicture) -> None:
    assert picture.take(commit("pods", pod(0, label="web"), kind="ADDED")) == []
    assert picture.take(commit("nodes", {"metadata": {"name": "logs"}})) == []
    assert (picture.pods, picture.set) == ({}, {})


def test_a_deleted_pod_is_told_of_and_counted(picture: SidecarPicture) -> None:
    picture.take(commit("pods", pod(0)))
    assert picture.take(commit("pods", pod(0), kind="DELETED")) == [PodEvent(Event.GONE, "shop-0")]
    assert (picture.deleted, picture.pods) == (1, {})


def test_the_counts_are_those_of_the_status(picture: SidecarPicture) -> None:
    assert picture.counts() == (0, 0, 0, 0)
    status = {"matchedPods": 4, "updatedPods": 3, "readyPods": 2, "updatedReadyPods": 1}
    picture.take(commit(SIDECARS, {"metadata": {"name": "logs"}, "status": status}))
    assert picture.counts() == (4, 3, 2, 1)
    picture.take(commit(SIDECARS, {"metadata": {"name": "another"}, "status": {}}))
    assert picture.counts() == (4, 3, 2, 1)
