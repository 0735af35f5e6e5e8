"""Conditions of StatefulSets: what kstatus, Argo CD's health script and a person read from them."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.apis.statefulset import StatefulSetStatus
from kruise.controllers.common.reasons import Reason
from kruise.controllers.statefulset.actions import Failure, Results
from kruise.controllers.statefulset.plan import settle
from kruise.controllers.statefulset.status import completed, wire
from kruise.runtime.errors import Forbidden, Status
from tests.property.asts_model import BAD, HOOK, OTHER, SetWorld

JSON = dict[str, Any]
ALWAYS = ("Available", "Progressing", "Ready", "Paused")
HOOKS = {"inPlaceUpdate": {"labelsHandler": {HOOK: "on"}}}


def kstatus(world: SetWorld, *, terminating: bool = False) -> str:
    """The rules by which kstatus, and with it Flux and Helm, reads an object of a kind that it does not know."""
    if terminating:
        return "Terminating"
    if world.status.get("observedGeneration", 0) < world.generation:
        return "InProgress"
    found = {c["type"]: c["status"] for c in world.status.get("conditions") or []}
    if found.get("Reconciling") == "True":
        return "InProgress"
    if found.get("Stalled") == "True":
        return "Failed"
    if "Ready" in found:
        return "Current" if found["Ready"] == "True" else "InProgress"
    return "Current"


def argo(world: SetWorld) -> str:
    """Argo CD's script for this kind, as far as a rolling update goes; an absent count is an error here."""
    status, rolling = world.status, world.rolling
    replicas, partition = world.spec["replicas"], rolling["partition"]
    if status["observedGeneration"] < world.generation:
        return "Progressing"
    if rolling.get("paused"):
        return "Suspended"
    if partition and status["updatedReplicas"] > replicas - partition:
        return "Degraded"
    if partition:
        return "Progressing"
    if status["updatedAvailableReplicas"] == replicas:
        return "Healthy"
    return "Degraded"


def grown(replicas: int = 3, **spec: Any) -> SetWorld:
    rolling = {"podUpdatePolicy": "InPlaceIfPossible", "partition": 0, **spec.pop("rolling", {})}
    strategy = spec.pop("updateStrategy", {"type": "RollingUpdate", "rollingUpdate": rolling})
    world = SetWorld(replicas=replicas, updateStrategy=strategy, **spec)
    settle_all(world)
    return world


def settle_all(world: SetWorld) -> None:
    for _ in range(12):
        world.once()
        world.settle_nodes()
    world.once()


def condition(world: SetWorld, kind: str) -> JSON:
    return next((c for c in world.status["conditions"] if c["type"] == kind), {})


def true_ones(world: SetWorld) -> set[str]:
    return {c["type"] for c in world.status["conditions"] if c["status"] == "True"}


# ---- kstatus and Argo ------------------------------------------------------------------------------------------------


def test_kstatus_a_new_set_is_in_progress_and_a_finished_one_current() -> None:
    world = SetWorld(replicas=2)
    assert kstatus(world) == "InProgress"
    world.once()
    assert kstatus(world) == "InProgress"
    settle_all(world)
    assert kstatus(world) == "Current"
    assert kstatus(world, terminating=True) == "Terminating"
    assert true_ones(world) == {"Available", "Ready"}
    assert all(condition(world, kind) for kind in ALWAYS)


def test_kstatus_a_rollout_is_in_progress_from_the_first_status_on() -> None:
    world = grown()
    world.set_image("two")
    assert kstatus(world) == "InProgress"
    seen = []
    for _ in range(12):
        world.once()
        seen.append(kstatus(world))
        world.settle_nodes()
    world.once()
    assert set(seen[:3]) == {"InProgress"}
    assert kstatus(world) == "Current"
    assert argo(world) == "Healthy"


@pytest.mark.parametrize(
    ("spec", "image", "answer", "reason"),
    [
        ({"rolling": {"partition": 3}}, "two", "Current", "PartitionHeld"),
        ({"updateStrategy": {"type": "OnDelete"}}, "two", "Current", "OnDelete"),
        ({"rolling": {"paused": True}}, "two", "InProgress", "Paused"),
        ({"rolling": {"podUpdatePolicy": "InPlaceOnly"}}, OTHER, "Failed", "InPlaceNotPossible"),
        ({"lifecycle": HOOKS}, "two", "InProgress", "LifecycleHookBlocked"),
    ],
)
def test_kstatus_what_holds_an_update(spec: JSON, image: str, answer: str, reason: str) -> None:
    world = grown(**spec)
    if "lifecycle" in spec:
        for ordinal in range(3):
            world.label(ordinal, HOOK, "on")
    world.set_image(image)
    for _ in range(3):
        world.once()
    assert kstatus(world) == answer
    assert condition(world, "Ready")["reason"] == reason
    assert "Available" in true_ones(world)


def test_kstatus_a_wrong_field_is_a_failure_that_names_the_field() -> None:
    world = grown()
    world.roll(maxUnavailable="x%")
    world.once()
    assert kstatus(world) == "Failed"
    assert "maxUnavailable" in condition(world, "Stalled")["message"]
    assert condition(world, "Stalled")["reason"] == Reason.INVALID_SPEC
    assert condition(world, "Reconciling") == {}


def test_kstatus_observed_generation_is_never_ahead() -> None:
    world = grown()
    before = world.status["observedGeneration"]
    planned = world.plan()
    world.generation += 1
    settled = settle(world.view, planned, Results(), world.now)
    assert settled.status is not None
    assert settled.status.observed_generation == before, "the view was not told of the new spec"


def test_argo_every_count_is_written_zeros_too() -> None:
    world = SetWorld(replicas=0)
    world.once()
    counts = [v for k, v in world.status.items() if k.endswith("Replicas") or k == "replicas"]
    assert counts == [0] * 7


# ---- the words -------------------------------------------------------------------------------------------------------


def test_a_bad_image_says_so_at_once_and_keeps_the_set_available() -> None:
    world = grown()
    world.set_image(BAD)
    world.once()
    world.kubelet(2)
    world.once()
    found = condition(world, "Progressing")
    assert found["status"] == "False", "nothing moves until somebody acts"
    assert found["reason"] == "ImagePullFailed"
    assert "web-2" in found["message"]
    assert "bad" in found["message"]
    assert {"Available", "Degraded", "Reconciling"} <= true_ones(world)
    assert kstatus(world) == "InProgress"


def test_a_pod_that_does_not_go_is_named_with_or_without_an_update() -> None:
    world = grown(podManagementPolicy="Parallel")
    world.delete(1)
    world.once()
    found = condition(world, "Progressing")
    assert (found["status"], found["reason"]) == ("True", "PodTerminating")
    assert "web-1" in found["message"]
    world.set_image("two")
    world.once()
    found = condition(world, "Progressing")
    assert found["reason"] == "Updating"
    assert "pod web-1: it is being deleted" in found["message"]


def test_what_stops_a_set_is_an_event_once_when_the_status_says_it() -> None:
    world = grown()
    world.set_image(BAD)
    assert events_of(world) == []
    world.kubelet(2)
    assert events_of(world) == [("Warning", "ImagePullFailed", condition(world, "Progressing")["message"])]
    assert "web-2" in condition(world, "Progressing")["message"]
    assert events_of(world) == [], "the stored status says it, also to the next process"
    world.roll(paused=True)
    world.set_image("two")
    assert events_of(world) == [], "the bad pod is still the news"


@pytest.mark.parametrize(("rolling", "reason"), [({"paused": True}, "Paused"), ({"partition": 3}, "PartitionHeld")])
def test_what_the_user_stops_is_an_event_and_no_warning(rolling: JSON, reason: str) -> None:
    world = grown()
    world.roll(**rolling)
    assert events_of(world) == []
    world.set_image("two")
    assert [(kind, why) for kind, why, _ in events_of(world)] == [("Normal", reason)]
    assert events_of(world) == []


def test_an_update_that_goes_well_has_no_such_event() -> None:
    world = grown()
    world.set_image("two")
    found = []
    for _ in range(12):
        found += events_of(world)
        world.settle_nodes()
    assert kstatus(world) == "Current"
    assert found == []


def events_of(world: SetWorld) -> list[tuple[str, str, str]]:
    """Make one pass; return the events of its status."""
    planned = world.plan()
    settled = world.write_status(planned, world.apply(planned.chains))
    return [(one.type, one.reason, one.note) for one in settled.events]


def test_a_refused_creation_is_a_reason_and_a_condition() -> None:
    world = grown(2)
    world.edit(replicas=4)
    planned = world.plan()
    chain = planned.creates[0]
    error = Forbidden(Status(message="exceeded quota: pods", reason="Forbidden", code=403))
    results = Results(failures=(Failure(chain, chain.steps[-1], error),))
    settled = settle(world.view, planned, results, world.now)
    assert settled.status is not None
    world.status = wire(settled.status)
    assert condition(world, "FailedCreatePod")["status"] == "True"
    assert "web-2" in condition(world, "FailedCreatePod")["message"]
    assert condition(world, "Progressing")["reason"] == "QuotaExceeded"
    world.once()
    assert condition(world, "FailedCreatePod") == {}, "a pass without failure takes it away"


def test_paused_is_true_by_the_user_or_by_the_partition() -> None:
    world = grown()
    assert condition(world, "Paused")["status"] == "False"
    world.roll(paused=True)
    world.once()
    assert (condition(world, "Paused")["status"], condition(world, "Paused")["reason"]) == ("True", "Paused")
    world.roll(paused=False, partition=2)
    world.set_image("two")
    world.once()
    assert (condition(world, "Paused")["status"], condition(world, "Paused")["reason"]) == ("True", "PartitionHeld")


def test_transition_times_move_with_the_status_only() -> None:
    world = grown()
    before = {c["type"]: c["lastTransitionTime"] for c in world.status["conditions"]}
    world.tick(100)
    world.set_image("two")
    world.once()
    after = {c["type"]: c["lastTransitionTime"] for c in world.status["conditions"]}
    assert after["Available"] == before["Available"]
    assert after["Paused"] == before["Paused"]
    assert after["Ready"] != before["Ready"]


def test_x53_an_idle_pass_changes_no_byte_of_the_status() -> None:
    world = grown()
    before = dict(world.status)
    world.tick(1000)
    world.once()
    assert world.status == before


def test_conditions_of_somebody_else_stay() -> None:
    world = grown()
    foreign = {"type": "Blessed", "status": "True", "reason": "Priest", "message": ""}
    world.status = {**world.status, "conditions": [*world.status["conditions"], foreign]}
    world.tell_set()
    world.once()
    assert condition(world, "Blessed")["status"] == "True"


@pytest.mark.parametrize(("replicas", "ready", "available"), [(1, 0, False), (3, 1, False), (3, 2, True), (0, 0, True)])
def test_available_means_enough_pods_for_the_budget(replicas: int, ready: int, available: bool) -> None:
    world = grown(replicas)
    for ordinal in range(ready, replicas):
        world.kubelet(ordinal, ready=False)
    world.once()
    assert ("Available" in true_ones(world)) is available


def test_the_first_the_awaited_and_the_final_status_are_decisive() -> None:
    world = SetWorld(replicas=2)
    planned = world.plan()
    assert world.write_status(planned, world.apply(planned.chains)).decisive
    world.kubelet(0)
    planned = world.plan()
    assert not world.write_status(planned, world.apply(planned.chains)).decisive
    for ordinal in (0, 1, 0, 1):
        world.kubelet(ordinal)
        planned = world.plan()
        last = world.write_status(planned, world.apply(planned.chains))
    assert last.decisive
    assert "Ready" in true_ones(world)


@pytest.mark.parametrize(
    ("replicas", "needed", "revision"),
    [(2, 0, "new"), (2, 3, "old"), (3, 3, "new"), (0, 0, "new")],
)
def test_s3_an_update_is_complete_under_a_partition_only_when_every_pod_is_there(
    replicas: int, needed: int, revision: str
) -> None:
    """A pod below the partition that is missing for a moment comes back at the revision that the partition keeps."""
    status = StatefulSetStatus(
        replicas=replicas,
        ready_replicas=replicas,
        updated_replicas=replicas,
        current_revision="old",
        update_revision="new",
    )
    assert completed(status, rolls=True, needed=needed).current_revision == revision
    assert completed(status, rolls=False, needed=needed).current_revision == "old"


def test_s3_a_pod_below_the_partition_comes_back_at_its_revision() -> None:
    world = grown(3, podManagementPolicy="Parallel", rolling={"partition": 1, "maxUnavailable": 3})
    old = world.status["currentRevision"]
    world.set_image("app:v2")
    settle_all(world)
    assert world.status["updatedReplicas"] == 2
    world.delete(0)
    world.gone(0)
    world.write_status(world.plan(), [])  # its creation is refused
    assert world.status["replicas"] == 2
    assert world.status["currentRevision"] == old, "two of two pods are updated, and the third one is missing"
    settle_all(world)
    assert [world.outdated(ordinal) for ordinal in range(3)] == [True, False, False]
