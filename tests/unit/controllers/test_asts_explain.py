"""Why a pod of a StatefulSet is not yet as desired: one reason, with evidence that names what stands in the way."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from kruise.apis.statefulset import PAUSED
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import CreatePod
from kruise.controllers.statefulset.explain import Facts, explain
from kruise.controllers.statefulset.scale import CREATES_AT_ONCE
from kruise.controllers.statefulset.status import counted
from kruise.controllers.statefulset.update import UPDATES_AT_ONCE
from kruise.runtime.errors import Forbidden, Status
from kruise.runtime.objects import Key
from tests.property.asts_model import BAD, HOOK, OTHER, SetWorld

STAMP = "2027-01-15T08:00:00Z"


def grown(replicas: int = 2, **spec: Any) -> SetWorld:
    """Return a set whose pods all run."""
    rolling = {"podUpdatePolicy": "InPlaceIfPossible", **spec.pop("rolling", {})}
    spec.setdefault("updateStrategy", {"type": "RollingUpdate", "rollingUpdate": rolling})
    world = SetWorld(replicas=replicas, **spec)
    for _ in range(3 * replicas + 3):
        world.once()
        world.settle_nodes()
    world.once()
    assert all(world.up(o) for o in world.valid())
    return world


def told(world: SetWorld, failures: dict[str, Exception] | None = None) -> dict[str, tuple[str, str]]:
    """Return reason and evidence of each pod that is not as desired and not acted on."""
    planned = world.plan()
    found = explain(world.view, world.now, planned.facts(failures or {}))
    return {one.detail["pod"]: (str(one.reason), one.evidence) for one in found}


def pending(world: SetWorld, ordinal: int, *, node: bool = False, **status: Any) -> None:
    """Let the pod of *ordinal* be one that has not started."""
    body = deepcopy(world.pods[ordinal])
    body["status"] = {"phase": "Pending", **status}
    if not node:
        body["spec"].pop("nodeName", None)
    world.put(ordinal, body)


def claim(world: SetWorld, name: str, **status: Any) -> None:
    body = deepcopy(world.claims[name])
    body["status"] = {**body.get("status", {}), **status}
    world._put_claim(body)


def test_a_pod_waits_for_the_claim_that_is_not_bound() -> None:
    world = grown(claims=True)
    claim(world, "data-web-1", phase="Pending")
    pending(world, 1)
    assert told(world)["web-1"] == ("VolumeClaimPending", "claim data-web-1 is Pending")


def test_a_pod_waits_for_its_claim_whatever_the_scheduler_calls_it() -> None:
    world = grown(claims=True)
    claim(world, "data-web-1", phase="Pending")
    text = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}
    pending(world, 1, conditions=[condition])
    reason, evidence = told(world)["web-1"]
    assert reason == "VolumeClaimPending"
    assert evidence == f"claim data-web-1 is Pending; the scheduler says: {text}"


def test_a_pod_waits_for_a_claim_that_is_being_deleted() -> None:
    world = grown(claims=True)
    world.claims["data-web-1"]["metadata"]["deletionTimestamp"] = STAMP
    world._put_claim(world.claims["data-web-1"])
    pending(world, 1)
    assert told(world)["web-1"] == ("VolumeClaimPending", "claim data-web-1 is being deleted")


def test_a_pod_on_a_node_that_has_not_started_is_the_nodes() -> None:
    world = grown()
    gate = {"type": "InPlaceUpdateReady", "status": "True"}
    pending(world, 1, node=True, conditions=[gate])
    assert told(world)["web-1"] == ("PodPending", "it is not started yet")


def test_a_lost_claim_is_made_again_and_named_until_then() -> None:
    world = grown(claims=True)
    del world.claims["data-web-1"]
    world.view.set_claim(Key("ns", "data-web-1"), None)
    pending(world, 1)
    assert [type(s).__name__ for chain in world.plan().chains for s in chain.steps] == ["CreateClaim"]


def test_a_living_pod_with_other_volumes_is_told_and_left() -> None:
    world = grown(claims=True)
    template = {"metadata": {"name": "logs"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}
    world.edit(volumeClaimTemplates=[template])
    found = told(world)
    assert {reason for reason, _ in found.values()} == {"VolumeClaimPending"}
    assert "cannot be changed; delete the pod" in found["web-0"][1]


def test_a_condemned_pod_waits_for_the_one_above_it() -> None:
    world = grown(3, podManagementPolicy="OrderedReady")
    world.edit(replicas=1)
    world.once()
    found = told(world)
    assert found["web-2"][0] == "PodTerminating"
    assert found["web-1"] == ("WaitingForPredecessor", "it is deleted when pod web-2 is gone")


def test_a_condemned_pod_waits_for_one_of_the_range() -> None:
    world = grown(3, podManagementPolicy="OrderedReady")
    world.edit(replicas=2)
    world.kubelet(0, ready=False)
    found = told(world)
    assert found["web-2"] == ("WaitingForPredecessor", "it is deleted when pod web-0 is available")
    assert found["web-0"][0] == "ReadinessFailing"


def test_what_was_refused_is_told_with_its_reason() -> None:
    world = grown(podManagementPolicy="Parallel")
    world.delete(1)
    world.gone(1)
    failures: dict[str, Exception] = {"web-1": Forbidden(Status(403, "Forbidden", "exceeded quota: small"))}
    planned = world.plan()
    assert [type(s) for chain in planned.creates for s in chain.steps] == [CreatePod]
    facts = Facts(failures=failures)
    found = {d.detail["pod"]: (str(d.reason), d.evidence) for d in explain(world.view, world.now, facts)}
    reason, evidence = found["web-1"]
    assert reason == "QuotaExceeded"
    assert "exceeded quota: small" in evidence


def test_a_wrong_field_is_the_reason_of_what_it_stops() -> None:
    world = grown()
    world.set_image("two")
    world.roll(maxUnavailable="1.5%")
    found = told(world)
    assert {reason for reason, _ in found.values()} == {"InvalidSpec"}
    assert "spec.updateStrategy.rollingUpdate.maxUnavailable" in found["web-1"][1]
    world.edit(replicas=3, volumeClaimTemplates=7)
    assert told(world)["web-2"][0] == "InvalidSpec"


def test_a_partition_and_a_pause_hold_pods_back() -> None:
    world = grown(3)
    world.set_image("two")
    world.roll(partition=2, paused=True)
    found = told(world)
    assert found["web-0"][0] == found["web-1"][0] == "PartitionHeld"
    assert found["web-2"][0] == "Paused"
    world.once()
    condition = next(c for c in world.status["conditions"] if c["type"] == PAUSED)
    assert condition["status"] == "True"


def test_in_place_only_says_what_differs() -> None:
    world = grown(rolling={"podUpdatePolicy": "InPlaceOnly"})
    world.set_image(OTHER)
    assert told(world)["web-1"][0] == "InPlaceNotPossible"


def test_a_broken_image_is_the_first_thing_that_is_said() -> None:
    world = grown(3, rolling={"maxUnavailable": 2})
    world.set_image(BAD)
    for _ in range(3):
        world.once()
        world.settle_nodes()
    found = told(world)
    assert found["web-2"][0] == "ImagePullFailed"
    world.once()
    degraded = next(c for c in world.status["conditions"] if c["type"] == "Degraded")
    assert degraded["reason"] == "ImagePullFailed"


def test_a_hook_is_named_with_what_it_waits_for() -> None:
    handler = {"labelsHandler": {HOOK: "on"}}
    world = grown()
    world.edit(lifecycle={"preDelete": handler})
    world.label(1, HOOK, "on")
    world.edit(replicas=1)
    world.once()
    reason, evidence = told(world)["web-1"]
    assert reason == "LifecycleHookBlocked"
    assert evidence == f"hook preDelete holds the pod by {HOOK}"


@pytest.mark.parametrize("more", [0, 1])
def test_a_plan_holds_so_many_creations_and_says_that_there_are_more(more: int) -> None:
    world = SetWorld(replicas=CREATES_AT_ONCE + more, podManagementPolicy="Parallel")
    planned = world.plan()
    assert len(planned.creates) == CREATES_AT_ONCE
    assert (planned.next_check == 0.0) is bool(more)


@pytest.mark.parametrize("more", [0, 1])
def test_a_plan_takes_down_so_many_pods_and_says_that_there_are_more(more: int) -> None:
    """What the first pods need next waits for the last write of a pass: a pass must not be long."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}
    count = UPDATES_AT_ONCE + more
    world = SetWorld(replicas=count, podManagementPolicy="Parallel", updateStrategy=strategy)
    for _ in range(4):
        world.once()
        world.settle_nodes()
    assert all(world.up(o) for o in world.valid())
    world.set_image(OTHER)
    planned = world.plan()
    assert [chain.ordinal for chain in planned.disruptions] == list(range(count - 1, more - 1, -1))
    assert planned.more is bool(more)
    assert (planned.next_check == 0.0) is bool(more)
    reasons = [(one.detail["pod"], one.evidence.rsplit("; ", 1)[1]) for one in planned.decisions]
    assert reasons == [("web-0", "other pods come first")] * more
    world.apply(planned.disruptions)
    assert [chain.ordinal for chain in world.plan().disruptions] == [0] * more


def test_a_clock_that_went_back_changes_nothing() -> None:
    world = grown(rolling={"minReadySeconds": 10})
    before = world.view.count(m.AVAILABLE)
    world.view.advance(world.now - 3600.0)
    assert world.view.count(m.AVAILABLE) == before
    assert world.view.now == world.now


def test_a_view_that_lost_an_event_says_what_differs() -> None:
    world = grown(3)
    other = world.fresh()
    assert world.view.difference(other, world.now) == ""
    other.set_pod(Key("ns", "web-1"), None)
    assert "missing" in world.view.difference(other, world.now)
    other = world.fresh()
    world.kubelet(1, ready=False)
    assert world.view.difference(other, world.now).startswith("pod web-1: ")


def test_the_status_tells_the_selector_of_the_spec() -> None:
    world = grown()
    assert counted(world.view).label_selector == "app=web"
    world.edit(selector=None)
    assert counted(world.view).label_selector == ""
