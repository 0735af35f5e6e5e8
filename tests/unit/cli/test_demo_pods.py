"""What the demo makes of the commits of a set: what happened to its pods, and whether they are still the same."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.cli.demo_pods import SETS, Event, PodEvent, SetPicture
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.storage import Commit, Record

Body = dict[str, Any]
V1, V2 = "app:v1", "app:v2"


@pytest.fixture
def picture() -> SetPicture:
    return SetPicture("web")


def pod(
    ordinal: int,
    *,
    at: float = 0.0,
    ready: bool = False,
    gate: str = "True",
    image: str = V1,
    runs: str = V1,
    waiting: str = "",
    pulls: str = "",
    restarts: int = 0,
    kind: str = "MODIFIED",
    name: str = "web",
    namespace: str = "default",
) -> Commit:
    container: Body = {"image": runs, "containerID": f"run-{restarts}", "restartCount": restarts}
    told = {"reason": waiting, "message": f'Back-off pulling image "{pulls or image}"'}
    container["state"] = {"waiting": told} if waiting else {"running": {}}
    conditions = [
        {"type": "Ready", "status": "True" if ready else "False"},
        {"type": "InPlaceUpdateReady", "status": gate},
    ]
    body: Body = {
        "metadata": {
            "name": f"{name}-{ordinal}",
            "uid": f"u{ordinal}",
            "labels": {"controller-revision-hash": "web-r"},
        },
        "spec": {"nodeName": "node-1", "containers": [{"image": image}]},
        "status": {"podIP": "10.0.0.1", "conditions": conditions, "containerStatuses": [container]},
    }
    key = Key(namespace, body["metadata"]["name"])
    return Commit(1, kind, "pods", key, Record(body, 1), None, "x", 1, at)  # type: ignore[arg-type]


def test_a_pod_is_told_of_when_it_serves_for_the_first_time(picture: SetPicture) -> None:
    assert picture.take(pod(0, kind="ADDED")) == []
    assert picture.take(pod(0, ready=True)) == [PodEvent(Event.SERVES, "web-0", "node-1, 10.0.0.1")]
    assert picture.take(pod(0, ready=True)) == []
    assert picture.ready() == 1


def test_an_update_in_place_is_told_step_by_step(picture: SetPicture) -> None:
    picture.take(pod(0, ready=True))
    assert picture.take(pod(0, at=10.0, gate="False")) == [PodEvent(Event.OUT, "web-0")]
    assert picture.take(pod(0, at=10.1, gate="False", image=V2)) == [PodEvent(Event.IMAGE, "web-0", V2)]
    back = picture.take(pod(0, at=12.5, ready=True, image=V2, runs=V2, restarts=1))
    assert back == [PodEvent(Event.BACK, "web-0", V2, 2.5)]


def test_an_image_that_cannot_be_pulled_is_told_of_once(picture: SetPicture) -> None:
    picture.take(pod(0, ready=True))
    stuck = pod(0, gate="False", image=V2, waiting="ErrImagePull")
    assert picture.take(stuck)[-1] == PodEvent(Event.STUCK, "web-0", V2)
    assert picture.take(pod(0, gate="False", image=V2, waiting="ImagePullBackOff")) == []
    assert picture.waiting() == [0]


def test_a_repaired_pod_that_still_shows_the_old_failure_is_not_called_stuck(picture: SetPicture) -> None:
    picture.take(pod(0, image=V1, waiting="ImagePullBackOff"))
    told = picture.take(pod(0, image=V2, waiting="ImagePullBackOff", pulls=V1))
    assert told == [PodEvent(Event.IMAGE, "web-0", V2)]
    assert picture.waiting() == []


def test_how_many_are_out_of_service_at_once_is_counted_at_every_commit(picture: SetPicture) -> None:
    for ordinal in range(3):
        picture.take(pod(ordinal, ready=True))
    picture.forget()
    picture.take(pod(2, gate="False"))
    picture.take(pod(1, gate="False"))
    picture.take(pod(2, ready=True))
    picture.take(pod(1, ready=True))
    assert picture.most_out == 2
    picture.forget()
    assert picture.most_out == 0


def test_the_face_of_a_pod_keeps_its_place_through_an_update(picture: SetPicture) -> None:
    picture.take(pod(0, ready=True))
    before = picture.faces()[0]
    picture.take(pod(0, ready=True, image=V2, runs=V2, restarts=1))
    after = picture.faces()[0]
    assert after.place == before.place == ("u0", "node-1", "10.0.0.1")
    assert (after.restarts, after.image, after.container != before.container) == (1, V2, True)


def test_a_deletion_is_told_of_and_counted(picture: SetPicture) -> None:
    picture.take(pod(0, ready=True))
    assert picture.take(pod(0, kind="DELETED")) == [PodEvent(Event.GONE, "web-0")]
    assert (picture.deleted, picture.pods) == (1, {})


def test_pods_of_other_sets_and_namespaces_are_not_its_own(picture: SetPicture) -> None:
    assert picture.take(pod(0, name="other")) == []
    assert picture.take(pod(0, name="web-x")) == []
    assert picture.take(pod(0, namespace="elsewhere")) == []
    assert picture.pods == {}


def test_the_set_tells_its_conditions(picture: SetPicture) -> None:
    status = {"conditions": [{"type": "Progressing", "status": "False", "reason": "ImagePullFailed"}]}
    body = {"metadata": {"name": "web", "uid": "s"}, "status": status}
    picture.take(Commit(1, "MODIFIED", SETS, Key("default", "web"), Record(body, 1), None, "x", 1))
    assert picture.condition("Progressing") == ("False", "ImagePullFailed")
    assert picture.condition("Ready") == ("", "")


def test_revisions_come_and_go(picture: SetPicture) -> None:
    body = {"metadata": {"name": "web-r", "uid": "r"}, "data": {}}
    for kind, names in (("ADDED", ["web-r"]), ("DELETED", [])):
        commit = Commit(1, kind, "controllerrevisions.apps", Key("default", "web-r"), Record(body, 1), None, "x", 1)  # type: ignore[arg-type]
        picture.take(commit)
        assert list(picture.revisions) == names
