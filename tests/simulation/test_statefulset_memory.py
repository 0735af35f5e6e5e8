"""Advanced StatefulSet in memory: the production manager, the embedded API server, simulated nodes, virtual time.

Counted by the server's request log, exactly: each row of performance 2.1. No conflict of our own making, no write that
changes nothing, a set status twice at once and then at most twice a second. The write guard and the invariants look on
in every test; each ends with ten virtual minutes in which nothing happens.
"""

from __future__ import annotations

from typing import Any

import pytest

from kruise.controllers.statefulset.lingering import LONG
from tests.simulation.set_world import (
    CREATE_CLAIM,
    CREATE_POD,
    CREATE_REVISION,
    DELETE_POD,
    GATE,
    LABEL_STATE,
    PATCH_CLAIM,
    PATCH_POD,
    PATCH_REVISION,
    PATCH_STATUS,
    RESIZE,
    SET_STATUS,
    SetWorld,
    claim_template,
    simulate_sets,
)
from tests.simulation.world import Body, is_manager

V2 = "sim.kruise.io/ready-1s:v2"


async def costs(world: SetWorld, mark: int, name: str = "web", begun: float | None = None) -> dict[str, int]:
    """Let a set settle; return what that cost since *mark* without its status, whose bound is checked here."""
    start = world.clock.monotonic() if begun is None else begun
    await world.settled(name)
    counts = world.counts(since=mark)
    took = world.clock.monotonic() - start
    assert counts.pop(SET_STATUS, 0) <= 2 + took / 0.5
    assert not [what for what in counts if what.endswith("409")], counts
    return counts


async def created(world: SetWorld, **options: Any) -> dict[str, int]:
    """Create the set and let it settle; return what that cost without its status."""
    begun = world.clock.monotonic()
    world.create_set(**options)
    return await costs(world, 0, begun=begun)


def uids(world: SetWorld) -> list[str]:
    return [pod["metadata"]["uid"] for pod in world.members()]


# ---- creation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_a_pod_costs_a_post_and_one_patch_for_its_gates(gated: bool, parallel: bool) -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        wanted = {CREATE_POD: 4, CREATE_REVISION: 1} | ({PATCH_STATUS: 4} if gated else {})
        assert await created(world, replicas=4, gated=gated, parallel=parallel) == wanted

    simulate_sets(scenario)


@pytest.mark.parametrize("policy", [None, {"whenDeleted": "Delete", "whenScaled": "Delete"}])
def test_a_claim_costs_a_post_with_its_owners(policy: Body | None) -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        retention = {"persistentVolumeClaimRetentionPolicy": policy} if policy else {}
        found = await created(world, replicas=3, claims=("data", "logs"), **retention)
        assert found == {CREATE_POD: 3, CREATE_CLAIM: 6, CREATE_REVISION: 1, PATCH_STATUS: 3}
        owners = {bool(c["metadata"].get("ownerReferences")) for c in world.server.list("persistentvolumeclaims")}
        assert owners == {policy is not None}

    simulate_sets(scenario)


def test_both_gates_of_a_pod_are_one_patch() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        found = await created(world, replicas=3)
        assert found == {CREATE_POD: 3, CREATE_REVISION: 1, PATCH_STATUS: 3}
        gates = [gate["conditionType"] for gate in world.members()[0]["spec"]["readinessGates"]]
        assert sorted(gates) == [GATE, "KruisePodReady"]

    simulate_sets(scenario, gates=(("KruisePodReadinessGate", True),))


def test_a_pre_normal_hook_is_met_in_the_patch_of_the_gates() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        begun = world.clock.monotonic()
        world.create_set(replicas=2, lifecycle={"preNormal": {"labelsHandler": {"warm": "yes"}}})
        await world.until(lambda: len(world.members()) == 2)
        await world.sleep(3)
        for pod in world.members():
            assert pod["metadata"]["labels"][LABEL_STATE] == "PreparingNormal"
            world.server.patch("pods", pod["metadata"]["name"], {"metadata": {"labels": {"warm": "yes"}}}, actor="user")
        found = await costs(world, 0, begun=begun)
        states = found.pop(PATCH_POD, 0) + found.pop(PATCH_STATUS, 0)
        assert found == {CREATE_POD: 2, CREATE_REVISION: 1}
        assert states == 2 * 2, "the gate, and the state when the hook is met"

    simulate_sets(scenario)


def test_ten_pods_in_parallel_cost_33_requests_and_the_status() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=10)
        mark = world.mark()
        world.edit_set(updateStrategy={"rollingUpdate": {"maxUnavailable": 2}})
        world.set_image("web", V2)
        found = await costs(world, mark)
        assert sum(found.values()) == 31
        assert found == {PATCH_STATUS: 20, PATCH_POD: 10, CREATE_REVISION: 1}

    simulate_sets(scenario)


# ---- in place --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parallel", "budget"), [(True, 1), (True, 3), (True, 6), (False, 1)])
def test_in_place_with_the_gate_costs_three_writes_a_pod(parallel: bool, budget: int) -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=6, parallel=parallel, rolling={"maxUnavailable": budget})
        before, mark = uids(world), world.mark()
        world.set_image("web", V2)
        assert await costs(world, mark) == {PATCH_STATUS: 12, PATCH_POD: 6, CREATE_REVISION: 1}
        assert uids(world) == before
        assert {pod["spec"]["containers"][0]["image"] for pod in world.members()} == {V2}

    simulate_sets(scenario)


def test_in_place_without_the_gate_costs_two_writes_a_pod() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        # Without the gate such a policy passes no validation; the controller itself copes.
        await created(world, replicas=4, gated=False, rolling={"podUpdatePolicy": "InPlaceIfPossible"})
        before, mark = uids(world), world.mark()
        world.set_image("web", V2)
        found = await costs(world, mark)
        assert found.pop(CREATE_REVISION) == 1
        assert set(found) <= {PATCH_POD, PATCH_STATUS}
        assert sum(found.values()) == 8
        assert uids(world) == before

    simulate_sets(scenario)


def test_in_place_without_gate_and_without_labels_costs_one_write_a_pod() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=4, gated=False, rolling={"podUpdatePolicy": "InPlaceIfPossible"})
        before, mark = uids(world), world.mark()
        world.set_image("web", V2)
        assert await costs(world, mark) == {PATCH_POD: 4, CREATE_REVISION: 1}
        assert uids(world) == before

    simulate_sets(scenario, gates=(("LifecycleLabelOnlyWithHooks", True),))


def test_in_place_with_a_grace_period_costs_three_writes_a_pod() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        rolling = {"inPlaceUpdateStrategy": {"gracePeriodSeconds": 5}}
        await created(world, replicas=3, rolling=rolling)
        before, mark, begun = uids(world), world.mark(), world.clock.monotonic()
        world.set_image("web", V2)
        assert await costs(world, mark) == {PATCH_STATUS: 6, PATCH_POD: 3, CREATE_REVISION: 1}
        assert world.clock.monotonic() - begun >= 15
        assert uids(world) == before

    simulate_sets(scenario)


def test_in_place_in_batches_costs_one_write_more_for_each_further_batch() -> None:
    def container(name: str, priority: int) -> Body:
        key = {"configMapKeyRef": {"name": "barrier", "key": f"p_{priority}", "optional": True}}
        return {
            "name": name,
            "image": "sim.kruise.io/ready-1s:v1",
            "env": [{"name": "KRUISE_CONTAINER_BARRIER", "valueFrom": key}],
        }

    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=2, pod={"containers": [container("a", 20), container("b", 10)]})
        mark = world.mark()

        def both(body: Body) -> None:
            for one in body["spec"]["template"]["spec"]["containers"]:
                one["image"] = V2

        world.server.edit("statefulsets.apps.kruise.io", "web", both, actor="user")
        assert await costs(world, mark) == {PATCH_STATUS: 4, PATCH_POD: 4, CREATE_REVISION: 1}

    simulate_sets(scenario)


def test_a_lifecycle_without_an_in_place_hook_costs_no_hop_through_updated() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3, lifecycle={"preDelete": {"finalizersHandler": ["example.com/drain"]}})
        mark = world.mark()
        world.set_image("web", V2)
        assert await costs(world, mark) == {PATCH_STATUS: 6, PATCH_POD: 3, CREATE_REVISION: 1}

    simulate_sets(scenario)


@pytest.mark.parametrize("unready", [False, True])
def test_an_in_place_hook_costs_five_writes_a_pod(unready: bool) -> None:
    hook = {"labelsHandler": {"hold": "yes"}, "markPodNotReady": unready}

    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3, labels={"hold": "yes"}, lifecycle={"inPlaceUpdate": hook})
        mark, begun = world.mark(), world.clock.monotonic()
        world.set_image("web", V2)

        def tend() -> bool:
            """Be the user of the hook: let go of a pod that prepares, take hold of one that is updated."""
            for pod in world.members():
                state = pod["metadata"]["labels"].get(LABEL_STATE)
                held = pod["metadata"]["labels"].get("hold") == "yes"
                if (state == "PreparingUpdate" and held) or (state == "Updated" and not held):
                    patch = {"metadata": {"labels": {"hold": None if held else "yes"}}}
                    world.server.patch("pods", pod["metadata"]["name"], patch, actor="user")
            return world.set_status().get("updatedReplicas") == 3 and world.done()

        await world.until(tend, every=0.2)
        found = await costs(world, mark, begun=begun)
        assert found.pop(CREATE_REVISION) == 1
        assert set(found) == {PATCH_STATUS, PATCH_POD}
        assert sum(found.values()) == 3 * 5

    simulate_sets(scenario)


def test_a_change_of_metadata_alone_costs_three_writes_a_pod_and_no_restart() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3)
        before, mark = uids(world), world.mark()
        world.edit_set(template={"metadata": {"annotations": {"note": "new"}}})
        assert await costs(world, mark) == {PATCH_STATUS: 6, PATCH_POD: 3, CREATE_REVISION: 1}
        assert uids(world) == before
        for pod in world.members():
            assert pod["metadata"]["annotations"]["note"] == "new"
            assert pod["status"]["containerStatuses"][0]["restartCount"] == 0

    simulate_sets(scenario)


def test_a_resize_costs_three_writes_a_pod() -> None:
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    wanted = {"requests": {"cpu": "150m"}, "limits": {"cpu": "250m"}}

    async def scenario(world: SetWorld) -> None:
        await world.started()
        image = "sim.kruise.io/ready-1s:v1"
        main = {"name": "main", "image": image, "resources": resources}
        await created(world, replicas=3, pod={"containers": [main]})
        before, mark = uids(world), world.mark()
        world.edit_set(template={"spec": {"containers": [{**main, "resources": wanted}]}})
        found = await costs(world, mark)
        assert found.pop(CREATE_REVISION) == 1
        assert found.pop(RESIZE) == 3
        assert set(found) <= {PATCH_STATUS, PATCH_POD}
        assert sum(found.values()) == 2 * 3
        assert uids(world) == before
        assert all(pod["spec"]["containers"][0]["resources"] == wanted for pod in world.members())

    simulate_sets(scenario, gates=(("InPlaceWorkloadVerticalScaling", True),))


def test_a_rollback_costs_one_patch_of_the_kept_revision() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=2)
        world.set_image("web", V2)
        await world.settled()
        mark = world.mark()
        world.set_image("web", "sim.kruise.io/ready-1s:v1")
        assert await costs(world, mark) == {PATCH_STATUS: 4, PATCH_POD: 2, PATCH_REVISION: 1}

    simulate_sets(scenario)


def test_two_patches_end_an_update_where_they_are_not_to_be_merged() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3)
        mark = world.mark()
        world.set_image("web", V2)
        found = await costs(world, mark)
        assert found == {PATCH_STATUS: 6, PATCH_POD: 6, CREATE_REVISION: 1}, "four writes, and no 409 of our own"

    simulate_sets(scenario, gates=(("MergedPodStatusPatch", False),))


# ---- recreation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [True, False])
def test_a_recreate_update_costs_a_delete_a_post_and_the_patch_of_the_gate(gated: bool) -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=4, gated=gated, rolling={"podUpdatePolicy": "ReCreate", "maxUnavailable": 2})
        mark = world.mark()
        world.set_image("web", V2)
        wanted = {DELETE_POD: 4, CREATE_POD: 4, CREATE_REVISION: 1} | ({PATCH_STATUS: 4} if gated else {})
        assert await costs(world, mark) == wanted

    simulate_sets(scenario)


def test_a_specified_deletion_costs_a_delete_a_post_and_the_patch_of_the_gate() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3)
        before, mark = uids(world), world.mark()
        asked = {"metadata": {"labels": {"apps.kruise.io/specified-delete": "true"}}}
        world.server.patch("pods", "web-1", asked, actor="user")
        await world.until(lambda: uids(world) != before and len(uids(world)) == 3)
        assert await costs(world, mark) == {DELETE_POD: 1, CREATE_POD: 1, PATCH_STATUS: 1}

    simulate_sets(scenario)


def test_a_failed_pod_costs_a_delete_a_post_and_the_patch_of_the_gate() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3)
        before, mark = uids(world), world.mark()
        world.server.patch("pods", "web-1", {"status": {"phase": "Failed"}}, subresource="status", actor="kubelet")
        await world.until(lambda: uids(world) != before and len(uids(world)) == 3)
        assert await costs(world, mark) == {DELETE_POD: 1, CREATE_POD: 1, PATCH_STATUS: 1}

    simulate_sets(scenario)


def test_pods_that_fail_at_once_are_replaced_at_a_slower_pace_each_time() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        world.create_set(replicas=2, annotations={"sim.kruise.io/reject": "OutOfpods"})
        await world.sleep(60)
        counts = world.counts()
        # At once, and then after 1, 2, 4, 8, 16 and 32 seconds.
        assert 2 * 6 <= counts[CREATE_POD] <= 2 * 8
        assert "times in a short time" in world.set_condition("FailedCreatePod")["message"]
        world.edit_set(template={"metadata": {"annotations": {"sim.kruise.io/reject": None}}})
        begun = world.clock.monotonic()
        await world.settled()
        assert world.clock.monotonic() - begun < 10, "a user who repairs it waits for nothing"
        assert world.set_condition("FailedCreatePod") == {}

    simulate_sets(scenario)


# ---- scaling down ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [True, False])
def test_scaling_down_costs_a_delete_a_pod(parallel: bool) -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=6, parallel=parallel, claims=("data",))
        mark = world.mark()
        world.edit_set(replicas=0)
        assert await costs(world, mark) == {DELETE_POD: 6}
        assert len(world.server.list("persistentvolumeclaims")) == 6

    simulate_sets(scenario)


def test_scaling_down_with_when_scaled_delete_costs_a_patch_a_claim() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        retention = {"whenDeleted": "Retain", "whenScaled": "Delete"}
        await created(world, replicas=4, claims=("data", "logs"), persistentVolumeClaimRetentionPolicy=retention)
        mark = world.mark()
        world.edit_set(replicas=1)
        assert await costs(world, mark) == {DELETE_POD: 3, PATCH_CLAIM: 6}
        await world.until(lambda: len(world.server.list("persistentvolumeclaims")) == 2)

    simulate_sets(scenario)


def test_a_pre_delete_hook_costs_one_patch_more() -> None:
    hook = {"labelsHandler": {"drain": "no"}, "markPodNotReady": True}

    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3, labels={"drain": "no"}, lifecycle={"preDelete": hook})
        mark, begun = world.mark(), world.clock.monotonic()
        world.edit_set(replicas=1)

        def state(pod: Body) -> str:
            return str(pod["metadata"]["labels"].get(LABEL_STATE))

        await world.until(lambda: [state(pod) for pod in world.members()].count("PreparingDelete") == 2)
        await world.sleep(1)
        for pod in world.members():
            if state(pod) == "PreparingDelete":
                patch = {"metadata": {"labels": {"drain": None}}}
                world.server.patch("pods", pod["metadata"]["name"], patch, actor="user")
        found = await costs(world, mark, begun=begun)
        assert found.pop(DELETE_POD) == 2
        assert sum(found.values()) == 2, "labels and condition in one patch"
        assert set(found) <= {PATCH_STATUS, PATCH_POD}

    simulate_sets(scenario)


def test_ten_pods_scaled_to_nothing_cost_12_requests() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=10)
        mark = world.mark()
        world.edit_set(replicas=0)
        begun = world.clock.monotonic()
        await world.settled()
        counts = world.counts(since=mark)
        assert counts.pop(DELETE_POD) == 10
        assert counts.pop(SET_STATUS) <= 2 + (world.clock.monotonic() - begun) / 0.5
        assert counts == {}

    simulate_sets(scenario)


# ---- status and rest -------------------------------------------------------------------------------------------------


def test_an_idle_hour_costs_nothing() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        world.create_set("done", replicas=3)
        world.create_set("empty", replicas=0)
        world.create_set("nowhere", replicas=2, pod={"nodeSelector": {"no": "node"}})
        world.create_set("paused", replicas=2)
        await world.settled("paused")
        world.edit_set("paused", updateStrategy={"rollingUpdate": {"paused": True}})
        world.set_image("paused", V2)
        await world.sleep(10)

    simulate_sets(scenario, rest=3600.0)


def test_events_that_change_nothing_cost_nothing() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3)
        await world.sleep(2)
        mark = world.mark()
        for pod in world.members():
            patch = {"metadata": {"annotations": {"seen": "yes"}}}
            world.server.patch("pods", pod["metadata"]["name"], patch, actor="user")
        world.server.patch("statefulsets.apps.kruise.io", "web", {"metadata": {"labels": {"a": "b"}}}, actor="user")
        await world.sleep(5)
        assert world.counts(since=mark) == {}

    simulate_sets(scenario)


def test_a_set_that_is_deleted_writes_nothing_but_its_status() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3, claims=("data",))
        mark = world.mark()
        world.server.delete("statefulsets.apps.kruise.io", "web", actor="user", propagationPolicy="Foreground")
        await world.until(lambda: world.server.get("statefulsets.apps.kruise.io", "web") is None)
        await world.sleep(2)
        assert set(world.counts(since=mark)) <= {SET_STATUS}
        assert world.members() == []

    simulate_sets(scenario)


def test_perf44_foreign_pods_of_the_namespace_cost_no_pass() -> None:
    async def scenario(world: SetWorld) -> None:
        process = await world.started()
        await created(world, replicas=2)
        await world.sleep(2)

        def passes() -> float:
            return sum(
                process.metric("controller_runtime_reconcile_total", controller="statefulset-controller", result=result)
                for result in ("success", "requeue", "requeue_after", "error")
            )

        before = passes()
        for number in range(20):
            spec = {"containers": [{"name": "c", "image": "sim.kruise.io/ready-1s:v1"}]}
            world.server.create("pods", {"metadata": {"name": f"other-{number}"}, "spec": spec}, actor="user")
        await world.sleep(5)
        for number in range(20):
            world.server.delete("pods", f"other-{number}", actor="user")
        await world.sleep(5)
        assert passes() == before

    simulate_sets(scenario)


# ---- what wakes a set ------------------------------------------------------------------------------------------------


def test_a_claim_that_is_gone_at_last_wakes_its_set() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        held = {"metadata": {"name": "data-web-1", "finalizers": ["example.com/hold"]}, **claim_spec()}
        world.server.create("persistentvolumeclaims", held, actor="user")
        world.server.delete("persistentvolumeclaims", "data-web-1", actor="user")
        world.create_set(replicas=3, claims=("data",))
        await world.sleep(20)
        assert [pod["metadata"]["name"] for pod in world.members()] == ["web-0", "web-2"]
        mark = world.mark()
        await world.sleep(60)
        assert world.counts(since=mark) == {}, "it waits without asking"
        world.server.patch("persistentvolumeclaims", "data-web-1", {"metadata": {"finalizers": None}}, actor="user")
        await world.until(lambda: len(world.members()) == 3, timeout=1.0)
        await world.settled()

    simulate_sets(scenario)


def test_a_name_that_is_free_at_last_wakes_its_set() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        spec = {"containers": [{"name": "c", "image": "sim.kruise.io/ready-1s:v1"}], "terminationGracePeriodSeconds": 0}
        world.server.create("pods", {"metadata": {"name": "web-1"}, "spec": spec}, actor="user")
        world.create_set(replicas=3)
        await world.sleep(120)
        assert "belongs to somebody else" in world.set_condition("FailedCreatePod")["message"]
        assert world.counts()["create pods 409"] < 20
        world.server.delete("pods", "web-1", actor="user")
        await world.until(lambda: world.server.get("pods", "web-1") is None, every=0.005)
        await world.until(lambda: world.server.get("pods", "web-1") is not None, timeout=1.0)
        await world.settled()
        assert world.set_condition("FailedCreatePod") == {}

    simulate_sets(scenario)


def test_orphans_are_taken_over_by_a_set_of_the_same_name() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3)
        before, mark = uids(world), world.mark()
        world.server.delete("statefulsets.apps.kruise.io", "web", actor="user", propagationPolicy="Orphan")
        await world.until(lambda: world.server.get("statefulsets.apps.kruise.io", "web") is None)
        await world.sleep(1)
        begun = world.clock.monotonic()
        world.create_set(replicas=3)
        assert await costs(world, mark, begun=begun) == {PATCH_POD: 3, PATCH_REVISION: 1}
        assert uids(world) == before

    simulate_sets(scenario)


def test_a_dry_run_plans_with_the_pods_that_it_would_take_over() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        await created(world, replicas=3)
        world.server.delete("statefulsets.apps.kruise.io", "web", actor="user", propagationPolicy="Orphan")
        await world.until(lambda: world.server.get("statefulsets.apps.kruise.io", "web") is None)
        world.processes[-1].crash()
        await world.sleep(30)
        mark = len(world.server.log.calls)
        process = world.start_manager(dry_run=True)
        await world.until(lambda: process.manager.leading and process.controller.took_over is not None)
        world.create_set(replicas=3, image=V2)
        await world.sleep(30)
        calls = [call for call in world.server.log.calls[mark:] if is_manager(call.actor) and call.writes]
        made = [call for call in calls if "lease" not in call.resource]
        assert all(call.dry_run for call in made)
        verbs = {(call.verb, call.resource, call.subresource) for call in made}
        assert ("patch", "pods", "") in verbs, "they would be adopted"
        assert ("patch", "statefulsets.apps.kruise.io", "status") in verbs, "and the set goes on"
        assert ("create", "pods", "") not in verbs, "none of them is made"
        assert not any(pod["metadata"].get("ownerReferences") for pod in world.members())

    simulate_sets(scenario, rest=None)


def claim_spec() -> Body:
    return {"spec": claim_template("data")["spec"]}


def test_e6_what_keeps_a_set_waiting_for_a_minute_is_told_once() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        world.create_set(replicas=3, image="sim.kruise.io/ready-1s:v1", rolling={"podUpdatePolicy": "ReCreate"})
        await world.until(world.done, 60.0)
        world.set_image("web", "sim.kruise.io/app-never-ready:v2")
        await world.sleep(LONG - 5.0)
        assert not world.events("ReadinessFailing"), "a pod that starts is no news"
        await world.sleep(20.0)
        (event,) = world.events("ReadinessFailing")
        assert event["type"] == "Warning"
        assert event["note"].startswith("for 60 s now: pod web-2: it runs and is not ready")
        await world.sleep(600.0)
        assert world.events("ReadinessFailing") in ([event], []), "told once; an event lives for a while"
        world.set_image("web", "sim.kruise.io/ready-1s:v3")
        await world.until(world.done, 200.0)

    simulate_sets(scenario)
