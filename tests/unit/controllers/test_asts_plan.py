"""Single decisions of the planner of StatefulSets: the known bugs, the advice of the specification, the cost."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from kruise.apis.statefulset import AVAILABLE
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import CreateClaim, CreatePod, DeletePod, PatchClaim, PatchPod, Why
from kruise.controllers.statefulset.plan import Plan
from kruise.controllers.statefulset.settings import Settings
from tests.property.asts_model import BAD, HOOK, OTHER, SetWorld

SPECIFIED = "apps.kruise.io/specified-delete"
FINALIZER_FREE: dict[str, Any] = {"labelsHandler": {HOOK: "on"}}


def grown(replicas: int = 3, **spec: Any) -> SetWorld:
    """A set whose pods all run."""
    rolling = spec.pop("rolling", {})
    rolling = {"podUpdatePolicy": "InPlaceIfPossible", **rolling}
    strategy = spec.pop("updateStrategy", {"type": "RollingUpdate", "rollingUpdate": rolling})
    world = SetWorld(replicas=replicas, updateStrategy=strategy, **spec)
    settle(world)
    assert all(world.up(o) for o in world.valid())
    assert world.plan().empty
    return world


def settle(world: SetWorld) -> None:
    for _ in range(3 * world.spec["replicas"] + 3):
        world.once()
        world.settle_nodes()
    world.once()


def steps(planned: Plan) -> list[tuple[int, str, str]]:
    """What a plan does, for comparison: ordinal, kind of step, why."""
    return [
        (chain.ordinal, type(step).__name__, getattr(step, "why", ""))
        for chain in planned.chains
        for step in chain.steps
    ]


def started(planned: Plan) -> list[int]:
    return [o for o, _, why in steps(planned) if why is Why.UPDATE]


def reasons(planned: Plan) -> dict[str, str]:
    return {d.detail["pod"]: d.reason for d in planned.decisions}


# ---- budget ----------------------------------------------------------------------------------------------------------


def test_x1_a_crashing_pod_uses_the_budget_wherever_it_is() -> None:
    world = grown(3)
    world.kubelet(0, ready=False)
    world.set_image("two")
    assert started(world.plan()) == []
    assert reasons(world.plan())["web-2"] == "MaxUnavailableReached"
    evidence = {d.detail["pod"]: d.evidence for d in world.plan().decisions}
    assert "used by web-0" in evidence["web-2"]


def test_x1_a_missing_pod_uses_the_budget() -> None:
    world = grown(3)
    world.set_image("two")
    world.edit(replicas=4)
    assert started(world.plan()) == []


def test_x3_pods_that_are_down_are_taken_on_their_very_version() -> None:
    world = grown(3, rolling={"podUpdatePolicy": "ReCreate"})
    for ordinal in (1, 2):
        world.kubelet(ordinal, ready=False)
    world.set_image("two")
    planned = world.plan()
    assert started(planned) == [2, 1]
    for chain in planned.disruptions:
        step = chain.steps[0]
        assert isinstance(step, DeletePod)
        assert step.disrupts
        assert step.pod.resource_version == world.pods[chain.ordinal]["metadata"]["resourceVersion"]


def test_s2_a_pod_that_is_up_while_something_is_under_way_is_not_free_beyond_the_budget() -> None:
    """In place without a gate: the pod still serves. Another one failed meanwhile, and a third template comes."""
    world = SetWorld(gated=False, replicas=3)
    settle(world)
    world.set_image("two")
    world.once()
    assert world.up(2)
    world.kubelet(0, ready=False)
    world.set_image("three")
    assert started(world.plan()) == []
    world.kubelet(0)
    assert started(world.plan()) == [2]


def test_s2_a_pod_that_is_not_ready_for_long_enough_is_not_up() -> None:
    world = grown(3, rolling={"minReadySeconds": 10})
    world.set_image("two")
    world.once()
    world.kubelet(2)
    world.once()
    world.kubelet(2)
    assert not world.up(2)
    world.kubelet(0, ready=False)
    world.set_image("three")
    assert started(world.plan()) == [2], "it is free although more than the budget is down"


def test_x2_an_update_that_runs_counts_while_its_pod_still_serves() -> None:
    """No gate and no lifecycle label: only the kubelet's report tells that the update is not complete."""
    world = SetWorld(gated=False, replicas=2)
    settle(world)
    for ordinal in (0, 1):
        world.label(ordinal, "lifecycle.apps.kruise.io/state", None)
    world.set_image("two")
    world.once()
    assert world.up(1)
    assert world.normal(1)
    assert world.plan().empty
    world.kubelet(1)
    assert started(world.plan()) == [0]


@pytest.mark.parametrize("percent", [0, 1, 20, 33, 50, 99, 100])
@pytest.mark.parametrize("replicas", [1, 2, 3, 7])
def test_x4_every_percentage_moves(percent: int, replicas: int) -> None:
    world = grown(replicas, rolling={"maxUnavailable": f"{percent}%"})
    world.set_image("two")
    assert len(started(world.plan())) == max(1, percent * replicas // 100)


def test_x46_a_deletion_that_was_seen_counts_at_once() -> None:
    world = grown(3, rolling={"podUpdatePolicy": "ReCreate"})
    world.set_image("two")
    world.apply(world.plan().chains)
    assert world.plan().empty


# ---- order and liveness ----------------------------------------------------------------------------------------------


def test_x5_parallel_waits_for_no_pod() -> None:
    world = grown(4)
    world.delete(0)
    world.kubelet(1, ready=False)
    world.edit(replicas=6)
    assert [chain.ordinal for chain in world.plan().creates] == [4, 5]


def test_x6_an_update_that_is_no_longer_wanted_ends() -> None:
    world = grown(2, lifecycle={"inPlaceUpdate": FINALIZER_FREE})
    world.label(1, HOOK, "on")
    world.set_image("two")
    world.once()
    assert world.plan().empty
    assert reasons(world.plan())["web-1"] == "LifecycleHookBlocked"
    world.roll(partition=2)
    assert steps(world.plan()) == [(1, "PatchPod", Why.REFRESH)]
    world.once()
    assert world.normal(1)


def test_x37_a_faulty_revision_is_replaced_in_parallel_mode() -> None:
    world = grown(3)
    world.set_image(BAD)
    world.once()
    world.kubelet(2)
    assert started(world.plan()) == []
    assert reasons(world.plan())["web-2"] == "ImagePullFailed"
    world.set_image("three")
    assert started(world.plan()) == [2]


def test_x40_ordered_ready_waits_for_a_broken_pod_and_says_so() -> None:
    world = grown(3, podManagementPolicy="OrderedReady")
    world.kubelet(1, ready=False)
    world.set_image("two")
    planned = world.plan()
    assert planned.empty
    assert reasons(planned) == {
        "web-0": "WaitingForPredecessor",
        "web-1": "ReadinessFailing",
        "web-2": "WaitingForPredecessor",
    }


def test_s3_ordered_ready_creates_the_lowest_and_deletes_the_highest() -> None:
    world = SetWorld(podManagementPolicy="OrderedReady", replicas=3)
    assert [chain.ordinal for chain in world.plan().creates] == [0]
    settle(world)
    world.edit(replicas=0)
    assert steps(world.plan()) == [(2, "DeletePod", Why.SCALE_DOWN)]
    world.once()
    assert world.plan().empty


def test_s3_ordered_ready_does_not_scale_down_beside_an_unready_pod() -> None:
    world = grown(4, podManagementPolicy="OrderedReady")
    world.kubelet(3, ready=False)
    world.kubelet(2, ready=False)
    world.edit(replicas=1)
    assert world.plan().empty, "pod 2 is the first unhealthy one, and pod 3 has to go before it"


def test_s3_ordered_ready_scales_down_when_the_range_is_available() -> None:
    world = grown(3, podManagementPolicy="OrderedReady")
    world.kubelet(0, ready=False)
    world.edit(replicas=2)
    assert world.plan().empty
    assert reasons(world.plan()) == {"web-0": "ReadinessFailing", "web-2": "WaitingForPredecessor"}
    world.kubelet(0)
    assert steps(world.plan()) == [(2, "DeletePod", Why.SCALE_DOWN)]


def test_s3_the_partition_counts_slots() -> None:
    world = grown(3, reserveOrdinals=[1], rolling={"partition": 2, "maxUnavailable": 3})
    world.set_image("two")
    assert started(world.plan()) == [3]
    assert reasons(world.plan()) == {"web-0": "PartitionHeld", "web-2": "PartitionHeld"}


def test_paused_holds_updates_and_the_users_word() -> None:
    world = grown(3, rolling={"paused": True})
    world.label(0, SPECIFIED, "x")
    world.set_image("two")
    assert world.plan().empty
    assert set(reasons(world.plan()).values()) == {"Paused"}


def test_specified_pods_are_replaced_within_the_budget_whatever_the_partition() -> None:
    world = grown(3, rolling={"partition": 3})
    for ordinal in (0, 1):
        world.label(ordinal, SPECIFIED, "")
    assert steps(world.plan()) == [(1, "DeletePod", Why.SPECIFIED)]
    world.once()
    assert world.plan().empty


def test_on_delete_waits_for_the_user() -> None:
    world = grown(2, updateStrategy={"type": "OnDelete"})
    world.set_image("two")
    assert set(reasons(world.plan()).values()) == {"OnDelete"}
    world.delete(1)
    world.gone(1)
    create = world.plan().creates[0].steps[0]
    assert isinstance(create, CreatePod)
    assert create.revision == "web-two"


# ---- the advice of section 16 ----------------------------------------------------------------------------------------


def test_row_6_a_failed_pod_is_replaced_under_a_throttle_of_one() -> None:
    world = grown(3, scaleStrategy={"maxUnavailable": 1})
    world.fail(1)
    assert steps(world.plan()) == [(1, "DeletePod", Why.FAILED)]


def test_the_throttle_is_spent_twice_by_a_pod_that_goes_and_is_not_ready() -> None:
    world = grown(2, scaleStrategy={"maxUnavailable": 2})
    world.kubelet(0, ready=False)
    world.delete(0)
    world.edit(replicas=4)
    assert world.plan().creates == ()
    world.kubelet(0)
    world.gone(0)
    assert [chain.ordinal for chain in world.plan().creates] == [0, 2]


@pytest.mark.parametrize("policy", ["InPlaceIfPossible", "ReCreate"])
def test_row_7_what_a_hook_lets_go_is_gone_on_with_under_ordered_ready(policy: str) -> None:
    hooks = {"inPlaceUpdate": FINALIZER_FREE, "preDelete": FINALIZER_FREE}
    world = grown(3, podManagementPolicy="OrderedReady", lifecycle=hooks, rolling={"podUpdatePolicy": policy})
    world.label(2, HOOK, "on")
    world.set_image("two")
    world.once()
    assert world.plan().empty
    world.label(2, HOOK, None)
    kind = "PatchPod" if policy == "InPlaceIfPossible" else "DeletePod"
    assert steps(world.plan()) == [(2, kind, Why.UPDATE)]
    assert world.plan().continuations


def test_row_8_a_pod_whose_deletion_is_no_longer_wanted_stays() -> None:
    world = grown(3, lifecycle={"preDelete": FINALIZER_FREE})
    world.label(2, HOOK, "on")
    world.edit(replicas=2)
    world.once()
    assert steps(world.plan()) == []
    world.edit(replicas=3)
    assert steps(world.plan()) == [(2, "PatchPod", Why.REFRESH)]


def test_row_13_a_condemned_pod_wakes_the_set_when_it_is_available() -> None:
    world = grown(2, podManagementPolicy="OrderedReady", rolling={"minReadySeconds": 20})
    world.kubelet(1, ready=False)
    world.kubelet(1)
    world.kubelet(0, ready=False)
    world.kubelet(0)
    world.edit(replicas=1)
    planned = world.plan()
    assert planned.empty
    assert planned.next_check == 20
    world.tick(20)
    assert steps(world.plan()) == [(1, "DeletePod", Why.SCALE_DOWN)]


# ---- time ------------------------------------------------------------------------------------------------------------


def test_l6_a_grace_period_ends_by_time_alone() -> None:
    world = grown(1, rolling={"inPlaceUpdateStrategy": {"gracePeriodSeconds": 5}})
    world.set_image("two")
    first = world.plan()
    assert first.next_check == 5
    world.once()
    planned = world.plan()
    assert planned.empty
    assert planned.next_check == 5
    assert world.plan(world.fresh()).next_check == 5, "every timer can be derived again"
    assert reasons(planned) == {"web-0": "InPlaceGracePeriod"}
    world.tick(5)
    assert steps(world.plan()) == [(0, "PatchPod", Why.REFRESH)]


def test_l6_an_update_waits_for_min_ready_seconds() -> None:
    world = grown(2, rolling={"minReadySeconds": 10})
    world.set_image("two")
    world.once()
    world.kubelet(1)
    world.once()
    world.kubelet(1)
    planned = world.plan()
    assert planned.empty
    assert planned.next_check == 10
    assert reasons(planned)["web-1"] == "WaitingMinReady"
    world.tick(10)
    assert started(world.plan()) == [0]


# ---- claims ----------------------------------------------------------------------------------------------------------


def test_x42_claims_come_with_their_owners_and_before_their_pod() -> None:
    policy = {"whenDeleted": "Delete", "whenScaled": "Retain"}
    world = SetWorld(replicas=1, claims=True, persistentVolumeClaimRetentionPolicy=policy)
    claim, pod = world.plan().creates[0].steps
    assert isinstance(claim, CreateClaim)
    assert isinstance(pod, CreatePod)
    assert [ref["uid"] for ref in claim.build()["metadata"]["ownerReferences"]] == ["set-uid"]


def test_x41_no_pod_is_created_while_its_claim_is_deleted_and_no_other_waits_for_it() -> None:
    world = SetWorld(replicas=2, claims=True)
    settle(world)
    world.claims["data-web-0"]["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    world._put_claim(world.claims["data-web-0"])
    for ordinal in (0, 1):
        world.delete(ordinal)
        world.gone(ordinal)
    planned = world.plan()
    assert [chain.ordinal for chain in planned.creates] == [1]
    assert reasons(planned) == {"web-0": "VolumeClaimPending"}
    world.once()
    assert next(c for c in world.status["conditions"] if c["type"] == "FailedCreatePod")["status"] == "True"
    assert [e.reason for e in planned.events] == ["FailedCreate"]


def test_x11_only_condemned_ordinals_give_their_claims_to_their_pods() -> None:
    policy = {"whenDeleted": "Retain", "whenScaled": "Delete"}
    world = SetWorld(replicas=3, claims=True, persistentVolumeClaimRetentionPolicy=policy)
    settle(world)
    world.edit(reserveOrdinals=[1])
    (chain,) = world.plan().disruptions
    patch, delete = chain.steps
    assert isinstance(patch, PatchClaim)
    assert isinstance(delete, DeletePod)
    assert patch.claim.metadata.name == "data-web-1"
    assert [ref["name"] for ref in patch.patch["metadata"]["ownerReferences"]] == ["web-1"]


def test_s5_a_claim_leaves_its_pod_when_the_ordinal_is_wanted_again() -> None:
    policy = {"whenDeleted": "Retain", "whenScaled": "Delete"}
    world = SetWorld(replicas=2, claims=True, persistentVolumeClaimRetentionPolicy=policy)
    settle(world)
    world.edit(replicas=1)
    world.once()
    assert world.claims["data-web-1"]["metadata"]["ownerReferences"]
    world.edit(replicas=2)
    assert steps(world.plan()) == [(1, "PatchClaim", Why.RETENTION)]
    world.once()
    assert not world.claims["data-web-1"]["metadata"]["ownerReferences"]


def resizing(request: str) -> SetWorld:
    world = SetWorld(replicas=2, claims=True)
    world.settings = Settings(auto_resize_claims=True)
    world.view = world.fresh()
    settle(world)
    template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": request}}}}
    world.edit(volumeClaimTemplates=[template], volumeClaimUpdateStrategy={"type": "OnPodRollingUpdate"})
    return world


def test_a_new_size_is_rolled_out_within_the_budget() -> None:
    world = resizing("2Gi")
    assert steps(world.plan()) == [(1, "PatchClaim", Why.RESIZE)]
    world.once()
    planned = world.plan()
    assert planned.empty
    assert reasons(planned)["web-1"] == "VolumeResizing"
    world.claims["data-web-1"]["status"]["capacity"]["storage"] = "2Gi"
    world._put_claim(world.claims["data-web-1"])
    assert steps(world.plan()) == [(0, "PatchClaim", Why.RESIZE)]


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_x47_a_pod_that_cannot_be_read_holds_its_ordinal_and_nothing_else() -> None:
    world = grown(3, rolling={"maxUnavailable": 2})
    world.unreadable.add(1)
    world.tell(1)
    world.set_image("two")
    planned = world.plan()
    assert started(planned) == [2]
    assert reasons(planned)["web-1"] == "PodUnreadable"
    assert [e.reason for e in planned.events] == ["PodUnreadable"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"scaleStrategy": {"maxUnavailable": "x%"}}, "spec.scaleStrategy.maxUnavailable"),
        ({"rolling": {"maxUnavailable": "1.5%"}}, "spec.updateStrategy.rollingUpdate.maxUnavailable"),
        ({"volumeClaimTemplates": 7}, "spec.volumeClaimTemplates"),
    ],
)
def test_g8_a_wrong_field_is_named_and_stops_what_depends_on_it(spec: dict[str, Any], field: str) -> None:
    rolling = spec.pop("rolling", {})
    world = SetWorld(replicas=1, updateStrategy={"type": "RollingUpdate", "rollingUpdate": rolling}, **spec)
    planned = world.plan()
    assert field in planned.error
    assert "InvalidSpec" in [e.reason for e in planned.events]


def test_s4_in_place_only_never_deletes() -> None:
    world = grown(2, rolling={"podUpdatePolicy": "InPlaceOnly"})
    world.set_image(OTHER)
    planned = world.plan()
    assert planned.empty
    assert reasons(planned)["web-1"] == "InPlaceNotPossible"
    assert "args" in planned.troubles[0].text


def test_a_set_that_is_deleted_is_left_to_the_garbage_collector() -> None:
    world = grown(2)
    world.set_image("two")
    sts = world.sts()
    meta = type(sts.metadata)(**{f: getattr(sts.metadata, f) for f in sts.metadata.__struct_fields__})
    gone = type(sts)(
        metadata=type(meta)(
            name="web", namespace="ns", uid="set-uid", generation=9, deletion_timestamp="2027-01-01T00:00:00Z"
        ),
        spec=sts.spec,
        status=sts.status,
    )
    world.view.set_sts(gone, world.chosen())
    assert world.plan().empty


# ---- holds and cost --------------------------------------------------------------------------------------------------


def test_rule_30_what_failed_comes_last_and_not_while_it_waits() -> None:
    from kruise.controllers.statefulset.plan import plan

    world = SetWorld(replicas=4)
    planned = plan(world.view, world.now, holds={"web-0": False, "web-1": True})
    assert [chain.ordinal for chain in planned.creates] == [2, 3, 0]


def calls_of_one_event(replicas: int) -> int:
    """Count the calls that one pod event and the plan after it take, in the middle of a rollout."""
    world = grown_large(replicas)
    world.set_image("two")
    world.once()
    world.plan()
    count = 0

    def profile(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    world.kubelet(replicas - 1)
    pod = world.pod(replicas - 1)
    world.label(3, "seen", "yes")
    sys.setprofile(profile)
    try:
        world.view.set_pod(pod.key, pod)
        world.plan()
    finally:
        sys.setprofile(None)
    return count


def grown_large(replicas: int) -> SetWorld:
    world = SetWorld(replicas=0)
    world.edit(replicas=replicas)
    while len(world.pods) < replicas:
        world.apply(world.plan().chains)
    for ordinal in range(replicas):
        world.kubelet(ordinal)
    for _ in range(2):
        world.apply(world.plan().chains)
        for ordinal in range(replicas):
            world.kubelet(ordinal)
    return world


def test_performance_4_4_an_event_costs_the_same_in_a_set_of_any_size() -> None:
    small, large = calls_of_one_event(20), calls_of_one_event(1000)
    assert large <= small * 1.1 + 20, (small, large)


def test_the_view_keeps_the_revisions_that_pods_are_at() -> None:
    world = grown(2)
    world.set_image("two")
    world.set_image("three")
    assert world.view.live_revisions() == {"web-one", "web-three"}
    assert world.view.count(m.UPDATED) == 0
    assert AVAILABLE in {c["type"] for c in world.status["conditions"]}
    assert all(isinstance(step, PatchPod) for chain in world.plan().disruptions for step in chain.steps)
