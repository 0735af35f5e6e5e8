"""When an update in place is complete, and what a later one owes to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kruise.controllers.common.inplace.annotations import GRACE_KEY, RUNTIME_META_KEY, STATE_KEY
from kruise.controllers.common.inplace.complete import DONE, Unfinished, completion, ready_for_next
from kruise.controllers.common.inplace.containers import same_image, same_image_id, same_quantity
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.overlap import Begun, begin
from kruise.controllers.common.inplace.patch import apply_spec, held
from kruise.controllers.common.inplace.spec import UpdateSpec, update_spec
from kruise.controllers.common.inplace.state import State, state_of
from tests.unit.controllers.inplace_pods import (
    GATES,
    JSON,
    NOW,
    STAMP,
    container,
    data,
    images,
    restarted,
    running,
    shows,
    state_json,
    template,
    typed,
    written,
)

VERTICAL = Gates(vertical_scaling=True, server_version="v1.37.2")
DAEMON = Gates(daemon=True)


def step_to(pod: JSON, old: JSON, new: JSON, revision: str, *, grace: int = 0) -> JSON:
    """Return the pod after the first write of the update from template *old* to *new*."""
    spec = update_spec(data(old), data(new), revision=revision, gates=GATES, grace_seconds=grace)
    assert isinstance(spec, UpdateSpec)
    begun = begin(typed(pod), spec, now=NOW, gates=GATES)
    label = {"controller-revision-hash": revision}
    if grace:
        annotations = held(typed(pod), begun.spec, begun.state)
        pod = json.loads(json.dumps(pod))
        pod["metadata"]["labels"].update(label)
        kept = {**pod["metadata"].get("annotations", {}), **annotations}
        pod["metadata"]["annotations"] = {k: v for k, v in kept.items() if v is not None}
        return pod
    return written(
        pod, *apply_spec(typed(pod), begun.spec, begun.state, now=NOW, gates=GATES).writes("w", labels=label)
    )


def begun(pod: JSON, old: JSON, new: JSON) -> Begun:
    spec = update_spec(data(old), data(new), revision="r2", gates=GATES)
    assert isinstance(spec, UpdateSpec)
    return begin(typed(pod), spec, now=NOW, gates=GATES)


def done(pod: JSON, gates: Gates = GATES) -> bool:
    return completion(typed(pod), gates).done


def reported(pod: JSON, **status: Any) -> JSON:
    pod = json.loads(json.dumps(pod))
    pod["status"]["containerStatuses"][0].update(status)
    return pod


A, B, C = (template(container("m", f"a:{n}")) for n in (1, 2, 3))


# Images.


def test_an_update_is_complete_when_the_kubelet_reports_it() -> None:
    pod = step_to(running(A), A, B, "r1")
    found = completion(typed(pod), GATES)
    assert (found.done, found.reason, found.container) == (False, Unfinished.IMAGE, "m")
    assert done(restarted(pod))


@pytest.mark.parametrize("image", ["a:2", "docker.io/library/a:2", "index.docker.io/library/a:2"])
def test_x7_the_same_content_under_a_new_tag_is_complete(image: str) -> None:
    pod = step_to(running(A), A, B, "r1")
    assert done(reported(pod, image=image))


def test_x7_a_registry_before_the_same_digest_is_no_change() -> None:
    pod = reported(running(A), imageID="sha256:1")
    pod = step_to(pod, A, B, "r1")
    assert not done(reported(pod, imageID="docker.io/library/a@sha256:1"))
    assert done(reported(pod, imageID="docker.io/library/a@sha256:2"))


def test_x7_where_the_status_keeps_the_old_tag_a_restart_is_the_sign() -> None:
    pod = step_to(running(A), A, B, "r1")
    pod["metadata"]["generation"] = 2
    ended = {"terminated": {"exitCode": 0, "finishedAt": "2026-03-01T12:00:01Z"}}
    assert done(reported(pod, lastState=ended))
    assert not done(reported(pod, lastState={"terminated": {"exitCode": 1, "finishedAt": "2026-03-01T11:59:59Z"}}))
    assert not done(reported(pod, lastState=ended, state={"waiting": {"reason": "ImagePullBackOff"}}))
    pod["status"]["observedGeneration"] = 1
    assert not done(reported(pod, lastState=ended)), (
        "an old container that crashed: its kubelet has not seen the change"
    )
    pod["status"]["observedGeneration"] = 2
    assert done(reported(pod, lastState=ended))


def test_x8_a_step_back_from_a_bad_image_needs_no_restart() -> None:
    pod = running(A)
    broken = step_to(pod, A, B, "r1")
    back = step_to(broken, B, A, "r2")
    assert images(back) == {"m": "a:1"}
    assert done(back), "the container never stopped running what is asked for again"


@pytest.mark.parametrize(("spec", "status"), [("nginx", "nginx:latest"), ("nginx:latest", "nginx"), ("nginx", "nginx")])
def test_x9_a_step_back_to_an_untagged_image_is_seen(spec: str, status: str) -> None:
    untagged, tagged = template(container("m", spec)), template(container("m", "nginx:1.25"))
    pod = reported(step_to(running(tagged), tagged, untagged, "r1"), image=status)
    assert done(pod)


def test_a_digest_that_is_asked_for_and_reported_is_complete() -> None:
    digest = f"sha256:{'7' * 64}"
    new = template(container("m", f"a:9@{digest}"))
    pod = step_to(running(A), A, new, "r1")
    state = state_json(pod)
    state["lastContainerStatuses"]["m"]["imageID"] = f"a@{digest}"
    pod["metadata"]["annotations"][STATE_KEY] = json.dumps(state)
    assert done(reported(pod, image="other:1", imageID=f"docker.io/library/a@{digest}"))


def test_s4_a_container_that_reports_no_image_at_all_is_waited_for() -> None:
    pod = step_to(running(A), A, B, "r1")
    assert not done(reported(pod, image="", imageID=""))


def test_references_and_ids() -> None:
    digest = f"sha256:{'a' * 64}"
    assert same_image(f"a:1@{digest}", f"docker.io/library/a@{digest}")
    assert not same_image(f"a:1@{digest}", "a:1")
    assert not same_image("reg:5000/a", "reg:5001/a")
    assert same_image("reg:5000/a", "reg:5000/a:latest")
    assert not same_image("A B", "a b")
    assert same_image_id("docker-pullable://a@sha256:1", "sha256:1")
    assert not same_image_id("sha256:1", "")
    assert same_quantity("1000m", 1)
    assert not same_quantity("x", "1")
    assert not same_quantity(None, "0")


# Everything else.


def test_no_annotations_no_update() -> None:
    assert completion(typed(running(A)), GATES) is DONE


def test_a_state_that_cannot_be_read_says_so() -> None:
    pod = running(template(container("m", "a:1"), annotations={STATE_KEY: "x"}))
    found = completion(typed(pod), GATES)
    assert found.reason is Unfinished.UNREADABLE
    assert STATE_KEY in found.evidence


def test_row_17_without_a_daemon_nothing_waits_for_one() -> None:
    state = State("r1", STAMP, {}, env_from_metadata=True)
    pod = running(template(container("m", "a:1"), annotations={STATE_KEY: state.encode()}))
    assert done(pod)
    assert completion(typed(pod), DAEMON).reason is Unfinished.ENVIRONMENT


def test_a_variable_that_shows_an_older_label_is_named() -> None:
    env = [shows("V", "metadata.labels['v']")]
    state = State("r1", STAMP, {}, env_from_metadata=True)
    meta = {"containers": [{"name": "m", "containerID": "c1", "hashes": {"extractedEnvFromMetadataHash": 1}}]}
    annotations = {STATE_KEY: state.encode(), RUNTIME_META_KEY: json.dumps(meta)}
    pod = reported(running(template(container("m", "a:1", env=env), annotations=annotations)), containerID="c1")
    assert completion(typed(pod), DAEMON).container == "m"


@pytest.mark.parametrize(
    ("spec", "status", "wanted"),
    [
        ({}, {}, True),
        ({}, None, True),
        ({"limits": {}}, {"requests": {}}, True),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1000m"}, "requests": {}}, True),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}, False),
        ({"limits": {"cpu": "1"}}, None, False),
    ],
)
def test_row_26_nothing_equals_empty(spec: JSON, status: JSON | None, wanted: bool) -> None:
    state = State("r1", STAMP, {}, resources=True)
    pod = running(template(container("m", "a:1", resources=spec), annotations={STATE_KEY: state.encode()}))
    pod = reported(pod, resources=status)
    assert done(pod, VERTICAL) is wanted
    assert done(pod), "without the gate nobody asks"


def test_the_next_batch_asks_for_readiness() -> None:
    pod = running(template(container("m", "a:1"), container("n", "b:1")))
    assert ready_for_next(typed(pod), State(required_ready=("m", "n"))) is DONE
    pod["status"]["containerStatuses"][0]["ready"] = False
    assert ready_for_next(typed(pod), State(required_ready=("m",))).reason is Unfinished.READINESS
    assert ready_for_next(typed(pod), State(required_ready=("x",))).reason is Unfinished.STATUS


# Overlapping updates (7.9).


def test_row_9_what_waits_for_its_grace_period_is_carried_over() -> None:
    old = template(container("m", "a:1"), container("n", "b:1"), labels={"app": "web", "v": "1"})
    mid = template(container("m", "a:2"), container("n", "b:1"), labels={"app": "web", "v": "2"})
    new = template(
        container("m", "a:2"), container("n", "b:2"), labels={"app": "web", "v": "2"}, annotations={"x": "y"}
    )
    pod = step_to(running(old), old, mid, "r1", grace=30)
    assert images(pod) == {"m": "a:1", "n": "b:1"}
    pod = step_to(pod, mid, new, "r2")
    assert images(pod) == {"m": "a:2", "n": "b:2"}
    assert pod["metadata"]["labels"]["v"] == "2"
    assert pod["metadata"]["annotations"]["x"] == "y"
    assert GRACE_KEY not in pod["metadata"]["annotations"]
    assert not done(pod)
    assert done(restarted(pod))


def test_row_9_a_step_back_within_the_grace_period_changes_nothing() -> None:
    pod = step_to(running(A), A, B, "r1", grace=30)
    back = begun(pod, B, A)
    assert not back.spec.images
    assert back.state.last_images is None
    assert done(step_to(pod, B, A, "r0"))


def test_row_9_what_waits_for_its_batch_is_carried_over() -> None:
    def order(low: str, high: str, **more: Any) -> JSON:
        return template(container("lo", low, place=1), container("hi", high, place=2), **more)

    old, mid, new = order("a:1", "b:1"), order("a:2", "b:2"), order("a:2", "b:3")
    pod = step_to(running(old), old, mid, "r1")
    assert images(pod) == {"lo": "a:1", "hi": "b:2"}
    pod = step_to(pod, mid, new, "r2")
    assert images(pod) == {"lo": "a:1", "hi": "b:3"}
    assert state_json(pod)["nextContainerImages"] == {"lo": "a:2"}
    back = begun(step_to(running(old), old, mid, "r1"), mid, old)
    assert back.spec.images == {"hi": "b:1"}, "what never changed needs no batch"


def test_s4_a_container_that_is_still_restarting_stays_waited_for() -> None:
    old = template(container("m", "a:1"))
    mid, new = template(container("m", "a:2")), template(container("m", "a:2"), annotations={"x": "y"})
    pod = step_to(step_to(running(old), old, mid, "r1"), mid, new, "r2")
    assert not done(pod), "the metadata is there, the image of the update before is not"
    assert done(restarted(pod))
    ended = {"terminated": {"exitCode": 0, "finishedAt": STAMP}}
    assert done(reported(pod, lastState=ended)), "X7: when it was changed is carried over as well"


def test_s4_the_image_that_was_overtaken_completes_nothing() -> None:
    pod = step_to(step_to(running(A), A, B, "r1"), B, C, "r2")
    assert state_json(pod)["supersededImages"] == {"m": ["a:2"]}
    assert not done(pod)
    assert not done(reported(pod, image="a:2", imageID="id-of-a:2")), "the kubelet had begun to start it"
    assert done(restarted(pod))


def test_s4_a_restart_for_the_overtaken_image_within_the_same_second_completes_nothing() -> None:
    pod = step_to(step_to(running(A), A, B, "r1"), B, C, "r2")
    at_once, later = ({"terminated": {"exitCode": 0, "finishedAt": at}} for at in (STAMP, "2026-03-01T12:00:01Z"))
    other = {"image": "a:2", "imageID": "id-of-a:2"}
    assert not done(reported(pod, lastState=at_once, **other)), "it ended for a:2, just before a:3 was set"
    assert done(reported(pod, lastState=later, **other)), "both tags are one image"


def test_s4_an_image_that_was_overtaken_twice_completes_nothing() -> None:
    pod = step_to(step_to(running(A), A, B, "r1"), B, C, "r2")
    pod = reported(pod, image="a:2", imageID="id-of-a:2")
    last = template(container("m", "a:4"))
    pod = step_to(pod, C, last, "r3")
    assert not done(pod)
    assert not done(reported(pod, image="a:3", imageID="id-of-a:3"))
    assert done(restarted(pod))


def test_s4_what_is_wanted_again_after_a_grace_period_is_waited_for() -> None:
    pod = step_to(step_to(running(A), A, B, "r1"), B, C, "r2")
    pod = step_to(pod, C, A, "r3", grace=30)
    pod = step_to(pod, A, C, "r4")
    assert images(pod) == {"m": "a:3"}
    assert not done(pod)
    assert not done(reported(pod, image="a:2", imageID="id-of-a:2"))
    assert done(restarted(pod))


def test_a_finished_update_leaves_nothing_to_the_next() -> None:
    pod = restarted(step_to(running(A), A, B, "r1"))
    found = begun(pod, B, C)
    assert found.state == State("r2", STAMP, images=True)
    assert found.spec.images == {"m": "a:3"}


def test_an_annotation_that_cannot_be_read_is_written_anew() -> None:
    pod = running(template(container("m", "a:1"), annotations={STATE_KEY: "x", GRACE_KEY: "y"}))
    after = step_to(pod, A, B, "r1")
    assert images(after) == {"m": "a:2"}
    assert state_of(after["metadata"]["annotations"]) is not None
    assert GRACE_KEY not in after["metadata"]["annotations"]


def test_a_grace_period_of_another_revision_is_dropped() -> None:
    pod = step_to(running(A), A, B, "r1", grace=30)
    pod["metadata"]["labels"]["controller-revision-hash"] = "r9"
    assert begun(pod, A, C).spec.images == {"m": "a:3"}


def test_metadata_of_both_updates_is_joined_and_the_later_one_holds() -> None:
    old = template(container("m", "a:1"), labels={"app": "web", "p": "1", "q": "1"}, finalizers=["a/a"])
    mid = template(container("m", "a:1"), labels={"app": "web", "p": "2"}, finalizers=["b/b"])
    new = template(container("m", "a:1"), labels={"app": "web", "p": "3"}, finalizers=["a/a", "b/b"])
    pod = running(old)
    pod["metadata"]["finalizers"] = ["a/a", "foreign/one"]
    after = step_to(step_to(pod, old, mid, "r1", grace=30), mid, new, "r2")
    assert after["metadata"]["labels"] == {"app": "web", "p": "3", "controller-revision-hash": "r2"}
    assert set(after["metadata"]["finalizers"]) == {"a/a", "b/b", "foreign/one"}


def test_a_pending_label_gives_way_to_a_later_patch_of_it() -> None:
    env = [shows("V", "metadata.labels['v']")]
    pending = UpdateSpec(
        "r1", metadata={"m": {"labels": {"v": "2", "w": "2"}}}, env_from_metadata=True, grace_seconds=9
    )
    pod = running(template(container("m", "a:1", env=env), labels={"v": "1"}), "r1")
    pod["metadata"]["annotations"] = {GRACE_KEY: pending.to_json(), STATE_KEY: "{}"}
    new = UpdateSpec("r2", metadata_patch='{"metadata":{"labels":{"v":null}}}')
    found = begin(typed(pod), new, now=NOW, gates=DAEMON)
    assert found.spec.metadata == {"m": {"labels": {"w": "2"}}}
    assert found.spec.env_from_metadata


def test_pending_resources_are_joined_by_name_and_part() -> None:
    have = {"limits": {"cpu": "1", "memory": "1Gi"}}
    pod = running(template(container("m", "a:1", resources=have)), "r1")
    pending = UpdateSpec("r1", resources={"m": {"limits": {"cpu": "2", "memory": "2Gi"}}}, grace_seconds=9)
    pod["metadata"]["annotations"] = {GRACE_KEY: pending.to_json(), STATE_KEY: "{}"}
    new = UpdateSpec("r2", resources={"m": {"limits": {"memory": "1024Mi"}}})
    found = begin(typed(pod), new, now=NOW, gates=VERTICAL)
    assert found.spec.resources == {"m": {"limits": {"cpu": "2"}}}
