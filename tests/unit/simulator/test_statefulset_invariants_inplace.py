"""The oracle of updates in place (S4): what it must reject, and legal near misses."""

from __future__ import annotations

import json

from kruise.simulator.invariants import statefulset_reading as reading
from tests.unit.simulator.set_history import (
    IN_PLACE,
    History,
    a_pod,
)


def test_s4_accepts_a_whole_update_in_place():
    history = History(gated=True, rolling=IN_PLACE)
    history.close(2)
    history.image(2)
    history.kubelet(2)
    history.open(2)
    assert history.found() == [], history.texts()


def test_s4_rejects_a_new_image_while_the_gate_is_open():
    history = History(gated=True, rolling=IN_PLACE)
    history.image(2)
    assert history.found() == ["S4"]


def test_s4_rejects_a_gate_that_opens_before_the_container_runs_the_new_image():
    history = History(gated=True, rolling=IN_PLACE)
    history.close(2)
    history.image(2)
    history.open(2)
    assert history.found() == ["S4"]


def test_s4_x7_accepts_a_gate_that_opens_on_the_same_digest_under_the_new_name_and_on_a_registry_prefix():
    for image in ("app:v2", "registry.local/library/app:v2"):
        history = History(gated=True, rolling=IN_PLACE)
        history.close(2)
        history.image(2)
        history.kubelet(
            2,
            image=image,
            containerStatuses=[
                {"name": "main", "image": image, "imageID": "id-app:v1", "containerID": "c2", "restartCount": 1}
            ],
        )
        history.open(2)
        assert history.found() == [], history.texts()


def test_s4_rejects_a_gate_that_opens_with_work_left_in_the_annotations():
    left = json.dumps({"revision": "web-2", "nextContainerImages": {"side": "x:v2"}})
    for left_over in ({reading.IN_PLACE_STATE: left}, {reading.IN_PLACE_GRACE: '{"revision":"web-2"}'}):
        history = History(gated=True, rolling=IN_PLACE)
        history.close(2)
        history.image(2)
        history.kubelet(2)
        history.open(2, **left_over)
        assert history.found() == ["S4"]


def test_s4_rejects_a_foreign_condition_and_a_changed_command():
    history = History(gated=True, rolling=IN_PLACE)
    pod = history.pod(1)
    pod["status"]["conditions"].append({"type": "PodScheduled", "status": "True"})
    history.put("pods", pod)
    assert history.found() == ["S4"]
    history = History(gated=True, rolling=IN_PLACE)
    pod = history.pod(1)
    pod["spec"]["containers"][0]["command"] = ["sh"]
    history.put("pods", pod)
    assert history.found() == ["S4"]


def test_s4_accepts_resources_without_the_gate_unless_they_restart_the_container():
    for resource, policy, found in (
        ("cpu", "NotRequired", []),
        ("cpu", "RestartContainer", ["S4"]),
        ("memory", "RestartContainer", []),
    ):
        history = History(gated=True, rolling=IN_PLACE)
        pod = history.pod(2)
        pod["spec"]["containers"][0]["resizePolicy"] = [{"resourceName": resource, "restartPolicy": policy}]
        history.put("pods", pod, actor="user")
        pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
        history.put("pods", pod)
        assert history.found() == found


def test_s4_rejects_a_deletion_under_in_place_only_and_accepts_one_that_was_asked_for():
    history = History(rolling={"podUpdatePolicy": "InPlaceOnly"})
    history.delete(2)
    assert history.found() == ["S4"]
    history = History(rolling={"podUpdatePolicy": "InPlaceOnly"})
    pod = history.pod(2)
    pod["metadata"]["labels"]["apps.kruise.io/specified-delete"] = ""
    history.put("pods", pod, actor="user")
    history.delete(2)
    assert history.found() == []


def test_s4_rejects_a_container_that_was_killed_beside_the_one_that_changed():
    def side(run, last=None):
        status = {"name": "side", "image": "s:1", "imageID": "s", "containerID": run}
        return {**status, "lastState": {"terminated": last}} if last else status

    for code, found in ((143, ["S4"]), (1, [])):
        history = History(gated=True, rolling=IN_PLACE)
        pod = history.pod(2)
        pod["spec"]["containers"].append({"name": "side", "image": "s:1"})
        pod["status"]["containerStatuses"].append(side("s-1"))
        history.put("pods", pod, actor="kubelet")
        history.close(2)
        history.image(2)
        main = a_pod(2, image="app:v2")["status"]["containerStatuses"][0]
        history.kubelet(2, containerStatuses=[main, side("s-2", {"exitCode": code, "containerID": "s-1"})])
        history.open(2)
        assert history.found() == found


def test_s4_rejects_a_pod_that_moves():
    history = History(rolling=IN_PLACE)
    history.kubelet(2, podIP="10.0.0.9")
    assert history.found() == ["S4"]
