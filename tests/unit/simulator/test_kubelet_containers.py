"""The pure kubelet: images of containers, init containers and sidecars, in virtual time."""

from __future__ import annotations

import pytest

from kruise.simulator.behaviour import Rule
from kruise.simulator.kubelet_containers import image_digest, reported_image
from tests.unit.simulator.kubelet_driver import CODE, RUN, Sim, container, pod


def test_a_crash_loop_ends_when_the_image_changes() -> None:
    sim = Sim(pod(annotations={CODE: "1", RUN: "1"})).run(300)
    assert sim.waiting() == "CrashLoopBackOff"
    sim.annotate(**{RUN: "forever"}).image("app:2").run(0.5)
    assert sim.running() and sim.condition("Ready") == "True"


# ---- images ----------------------------------------------------------------------------------------------------------


def test_an_image_change_restarts_the_container_and_is_seen_unready() -> None:
    sim = Sim(pod(container("main"), container("other")))
    before, other = sim.status(), sim.status("other")
    sim.image("app:2").run(60)
    after = sim.status()
    assert after["containerID"] != before["containerID"]
    assert after["imageID"] != before["imageID"]
    assert after["image"] == "app:2"
    assert after["restartCount"] == 1
    assert after["lastState"]["terminated"]["exitCode"] == 143
    assert sim.status("other") == other
    ready = [next(c["status"] for c in s["conditions"] if c["type"] == "Ready") for _, s in sim.seen]
    assert ready == ["True", "False", "True"]


@pytest.mark.parametrize("policy", ["Never", "OnFailure", "Always"])
def test_an_image_change_asks_no_restart_policy(policy: str) -> None:
    sim = Sim(pod(policy=policy)).image("app:2").run(5)
    assert sim.running() and sim.status()["restartCount"] == 1


def test_an_image_change_waits_for_the_old_process() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/stop-seconds": "8"})).image("app:2").run(7)
    assert sim.running() and sim.status()["restartCount"] == 0
    sim.run(2)
    assert sim.status()["restartCount"] == 1


def test_a_second_image_change_in_the_middle_wins() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/start-seconds": "5"})).run(6)
    sim.image("app:2").run(3)
    assert sim.waiting() == "ContainerCreating"
    sim.image("app:3").run(4)
    assert not sim.running()
    sim.run(2)
    assert sim.status()["image"] == "app:3" and sim.status()["restartCount"] == 1


def test_until_there_is_another_run_the_status_shows_the_image_of_the_last_one() -> None:
    sim = Sim(pod())
    before = sim.status()
    sim.image("sim.kruise.io/pull-fail:v2").run(3)
    stuck = sim.status()
    assert sim.waiting() in ("ErrImagePull", "ImagePullBackOff")
    assert "pull-fail:v2" in stuck["state"]["waiting"]["message"]
    assert (stuck["image"], stuck["imageID"]) == (before["image"], before["imageID"])
    sim.image("app:3").run(60)
    assert sim.running() and sim.status()["image"] == "app:3"


def test_pulls_fail_back_off_and_recover_at_the_next_try() -> None:
    sim = Sim(pod(annotations={"sim.kruise.io/pull-fail-seconds": "25"}))
    assert sim.waiting() == "ErrImagePull" and sim.phase == "Pending"
    sim.run(1)
    assert sim.waiting() == "ImagePullBackOff"
    sim.run(9.5)
    assert sim.waiting() == "ErrImagePull"
    sim.run(19)
    assert sim.waiting() == "ImagePullBackOff"
    sim.run(1)
    assert sim.running() and sim.status()["restartCount"] == 0


def test_a_failing_pull_recovers_at_once_with_another_image() -> None:
    rules = (Rule(image="*bad*", settings={"pull-fail-seconds": "forever"}),)
    sim = Sim(pod(container(image="bad:1")), rules=rules).run(1000)
    assert sim.waiting() == "ImagePullBackOff"
    sim.image("good:1").run(0.1)
    assert sim.running()


def test_a_bad_image_on_a_running_pod() -> None:
    rules = (Rule(image="*bad*", settings={"pull-fail-seconds": "forever"}),)
    sim = Sim(pod(), rules=rules).image("bad:1").run(30)
    assert sim.waiting() == "ImagePullBackOff"
    assert sim.phase == "Running"  # it ran before, so it does not count as never started
    assert sim.status()["restartCount"] == 0
    assert sim.status()["lastState"]["terminated"]["exitCode"] == 143
    assert sim.condition("Ready") == "False"


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ("app", "app:latest"),
        ("app:1", "app:1"),
        ("host:5000/app", "host:5000/app:latest"),
        ("app@sha256:abc", "app@sha256:abc"),
    ],
)
def test_images_are_reported_with_their_tag(image: str, shown: str) -> None:
    assert reported_image(image) == shown


def test_image_ids() -> None:
    assert image_digest("r/app@sha256:00") == "r/app@sha256:00"
    assert image_digest("h:5/app:1") != image_digest("h:5/app:2")
    assert image_digest("h:5/app:1").startswith("h:5/app@sha256:")
    sim = Sim(pod(annotations={"sim.kruise.io/image-id": "x@sha256:1"}))
    assert sim.status()["imageID"] == "x@sha256:1"


# ---- init containers and sidecars ------------------------------------------------------------------------------------


def test_init_containers_run_one_after_the_other() -> None:
    init = [container("one"), container("two")]
    annotations = {"one.sim.kruise.io/run-seconds": "2", "two.sim.kruise.io/run-seconds": "3"}
    sim = Sim(pod(init=init, annotations=annotations)).run(1)
    assert sim.running("one") and sim.waiting("two") == sim.waiting() == "PodInitializing"
    assert sim.phase == "Pending" and sim.condition("Initialized") == "False"
    assert sim.pod.status["conditions"][1]["message"] == "containers with incomplete status: [one two]"
    sim.run(2)
    assert sim.status("one")["ready"] and sim.running("two") and not sim.running()
    sim.run(2.5)
    assert sim.running() and sim.phase == "Running" and sim.condition("Initialized") == "True"


def test_a_failed_init_container_fails_a_pod_that_never_restarts() -> None:
    annotations = {"one.sim.kruise.io/run-seconds": "1", "one.sim.kruise.io/exit-code": "2"}
    sim = Sim(pod(init=[container("one")], policy="Never", annotations=annotations)).run(5)
    assert sim.phase == "Failed"
    assert sim.status("one")["state"]["terminated"]["exitCode"] == 2
    assert sim.waiting() == "PodInitializing"


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_a_failed_init_container_is_tried_again(policy: str) -> None:
    annotations = {"one.sim.kruise.io/run-seconds": "1", "one.sim.kruise.io/exit-code": "2,2,0"}
    sim = Sim(pod(init=[container("one")], policy=policy, annotations=annotations)).run(5)
    assert sim.phase == "Pending" and sim.waiting("one") == "CrashLoopBackOff"
    sim.run(20)
    assert sim.phase == "Running" and sim.status("one")["restartCount"] == 2


def test_an_init_container_that_is_through_never_runs_again() -> None:
    sim = Sim(pod(init=[container("one")], annotations={"one.sim.kruise.io/run-seconds": "1"})).run(5)
    before = sim.status("one")
    sim.spec(initContainers=[container("one", "other:2")]).run(100)
    assert sim.status("one") == before


def test_a_sidecar_runs_beside_and_does_not_keep_the_pod() -> None:
    init = [container("side", restartPolicy="Always"), container("one")]
    annotations = {"one.sim.kruise.io/run-seconds": "1", "main.sim.kruise.io/run-seconds": "5"}
    sim = Sim(pod(init=init, policy="Never", annotations=annotations)).run(3)
    assert sim.running("side") and sim.running() and sim.status("side")["started"]
    sim.run(10)
    assert sim.phase == "Succeeded"
    assert "terminated" in sim.status("side")["state"]
    assert sim.status("side")["restartCount"] == 0


def test_a_sidecar_restarts_under_any_policy_while_the_pod_lives() -> None:
    init = [container("side", restartPolicy="Always")]
    annotations = {"side.sim.kruise.io/run-seconds": "2", "side.sim.kruise.io/exit-code": "1"}
    sim = Sim(pod(init=init, policy="Never", annotations=annotations)).run(3)
    assert sim.running("side") and sim.status("side")["restartCount"] == 1
    assert sim.phase == "Running"


def test_an_unready_sidecar_makes_the_pod_unready() -> None:
    init = [container("side", restartPolicy="Always")]
    sim = Sim(pod(init=init, annotations={"side.sim.kruise.io/ready-seconds": "never"})).run(10)
    assert sim.condition("ContainersReady") == "False"
    assert sim.running()


def test_sidecars_end_after_the_others_in_reverse_order() -> None:
    init = [container("first", restartPolicy="Always"), container("second", restartPolicy="Always")]
    sim = Sim(pod(init=init, annotations={"sim.kruise.io/stop-seconds": "2"}))
    sim.delete(30).run(1)
    assert sim.running() and sim.running("second") and sim.running("first")
    sim.run(2)
    assert not sim.running() and sim.running("second")
    sim.run(2)
    assert not sim.running("second") and sim.running("first") and not sim.deleted
    sim.run(2)
    assert sim.deleted
