"""SidecarSet in memory: the production manager, the embedded API server, simulated nodes, virtual time.

Counted by the server's request log, exactly: each row of performance 2.2. No conflict of our own making, no write that
changes nothing, a set status twice at once and then at most twice a second. The write guard and the invariants look on
in every test; each ends with ten virtual minutes in which nothing happens.
"""

from __future__ import annotations

from tests.simulation.sidecar_world import (
    CREATE_REVISION,
    DELETE_REVISION,
    EMPTY,
    PATCH_POD,
    PATCH_REVISION,
    PATCH_STATUS,
    SET_STATUS,
    SETS,
    V1,
    V2,
    V3,
    SidecarWorld,
    simulate_sidecars,
)
from tests.simulation.world import is_manager


async def costs(world: SidecarWorld, mark: int, count: int, name: str = "mesh") -> dict[str, int]:
    """Let a set settle on *count* pods; return what that cost since *mark* without its status, which is checked."""
    begun = world.clock.monotonic()
    await world.settled(count, name)
    counts = world.counts(since=mark)
    took = world.clock.monotonic() - begun
    assert 1 <= counts.pop(SET_STATUS, 0) <= 2 + took / 0.5
    assert not [what for what in counts if what.endswith("409")], counts
    return counts


# ---- cold upgrades ---------------------------------------------------------------------------------------------------


def test_a_cold_upgrade_is_one_patch_and_one_condition_the_first_time() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.started()
        world.create_set()
        await world.sleep(1)
        assert world.counts() == {CREATE_REVISION: 1, SET_STATUS: 1}
        mark = world.mark()
        world.create_pods(3)
        assert await costs(world, mark, 3) == {}
        mark = world.mark()
        world.set_image(V2)
        assert await costs(world, mark, 3) == {CREATE_REVISION: 1, PATCH_POD: 3, PATCH_STATUS: 3}
        mark = world.mark()
        world.set_image(V3)
        assert await costs(world, mark, 3) == {CREATE_REVISION: 1, PATCH_POD: 3}
        assert {image for number in range(3) for image in world.images(f"shop-{number}").values()} == {
            V3,
            "sim.kruise.io/ready-1s:web",
        }

    simulate_sidecars(scenario)


def test_a_cold_upgrade_of_many_keeps_the_budget_and_a_pace_of_status_writes() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(20, strategy={"maxUnavailable": "20%"})
        mark = world.mark()
        world.set_image(V2)
        assert await costs(world, mark, 20) == {CREATE_REVISION: 1, PATCH_POD: 20, PATCH_STATUS: 20}

    simulate_sidecars(scenario)


def test_x4_one_percent_of_five_pods_is_one_pod() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(5, strategy={"maxUnavailable": "1%"})
        mark = world.mark()
        world.set_image(V2)
        assert await costs(world, mark, 5) == {CREATE_REVISION: 1, PATCH_POD: 5, PATCH_STATUS: 5}

    simulate_sidecars(scenario)


def test_a_rollback_takes_the_old_revision_again() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(2)
        first = world.revisions()[0]["metadata"]["name"]
        world.set_image(V2)
        await world.settled(2)
        mark = world.mark()
        world.set_image(V1)
        assert await costs(world, mark, 2) == {PATCH_REVISION: 1, PATCH_POD: 2}
        assert [one["metadata"]["name"] for one in world.revisions()][-1] == first
        assert world.set_status()["latestRevision"] == first
        assert len(world.revisions()) == 2

    simulate_sidecars(scenario)


def test_a_custom_version_alone_is_a_label_of_the_revision() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(1)
        mark = world.mark()
        world.edit_set(lambda body: body["spec"].update(customVersion="blue"))
        assert await costs(world, mark, 1) == {PATCH_REVISION: 1}
        (revision,) = world.revisions()
        assert revision["metadata"]["labels"]["apps.kruise.io/sidecarset-custom-version"] == "blue"

    simulate_sidecars(scenario)


def test_what_only_new_pods_get_is_a_revision_and_nothing_for_pods() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(2)
        for change in (
            {"volumes": [{"name": "spool", "emptyDir": {}}]},
            {"initContainers": [{"name": "prepare", "image": "sim.kruise.io/run-1s:v1"}]},
            {"patchPodMetadata": [{"annotations": {"team": "mesh"}, "patchPolicy": "Overwrite"}]},
        ):
            mark = world.mark()
            world.edit_set(lambda body, change=change: body["spec"].update(change))  # type: ignore[misc]
            assert await costs(world, mark, 2) == {CREATE_REVISION: 1}

    simulate_sidecars(scenario)


def test_the_history_keeps_its_limit_and_never_drops_what_a_pod_is_of() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.started()
        world.create_set(revisionHistoryLimit=2)
        await world.sleep(1)  # a pod names the revision that the status names
        world.create_pods(1)
        await world.settled(1)
        first = world.revisions()[0]["metadata"]["name"]
        world.strategy(paused=True)
        for number in range(4):
            mark = world.mark()
            world.set_image(f"sim.kruise.io/ready-1s:n{number}")
            await world.sleep(2)
            counts = world.counts(since=mark)
            assert counts.pop(SET_STATUS) <= 2
            assert counts == {CREATE_REVISION: 1, **({DELETE_REVISION: 1} if number else {})}
        kept = [one["metadata"]["name"] for one in world.revisions()]
        assert len(kept) == 2
        assert first in kept
        mark = world.mark()
        world.strategy(paused=False)
        counts = await costs(world, mark, 1)
        assert counts.pop(DELETE_REVISION, 0) <= 1
        assert counts == {PATCH_POD: 1, PATCH_STATUS: 1}

    simulate_sidecars(scenario)


def test_c7_a_change_beside_images_is_one_condition_for_each_pod_and_one_event() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.started()
        world.create_set()
        await world.sleep(1)  # a pod names the revision that the status names
        world.create_pods(3)
        await world.settled(3)
        mark = world.mark()
        env = [{"name": "LEVEL", "value": "debug"}]
        world.edit_set(lambda body: body["spec"]["containers"][0].update(env=env))
        await world.sleep(5)
        counts = world.counts(since=mark)
        assert counts.pop(SET_STATUS) <= 4
        assert counts == {CREATE_REVISION: 1, PATCH_STATUS: 3}
        assert world.numbers() == (3, 0, 3, 0)
        condition = world.set_condition("Progressing")
        assert condition["reason"] == "ImmutableFieldChanged"
        assert condition["message"] == (
            "3 pods are to be created anew: only images change in place; "
            "pod default/shop-0: changed beside images: containers[mesh-proxy].env"
        )
        (event,) = world.events("NotUpgradablePods")
        assert "3 not upgradable pod(s)" in event["note"]
        # As pods are created anew the number falls; the state has been told already.
        world.delete_pod("shop-0")
        await world.until(lambda: world.numbers()[0] == 2)
        assert len(world.events("NotUpgradablePods")) == 1
        world.create_pods(1)
        await world.until(lambda: world.numbers() == (3, 1, 3, 1))

    simulate_sidecars(scenario)


# ---- hot upgrades ----------------------------------------------------------------------------------------------------


def test_a_hot_upgrade_is_two_patches_and_one_condition_the_first_time() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(3, hot=True)
        for number, image in enumerate((V2, V3, V2)):
            mark = world.mark()
            world.set_image(image)
            first = {PATCH_STATUS: 3} if number == 0 else {}
            revision = CREATE_REVISION if number < 2 else PATCH_REVISION
            assert await costs(world, mark, 3) == {revision: 1, PATCH_POD: 6, **first}
            worker = ("mesh-proxy-2", "mesh-proxy-1", "mesh-proxy-2")[number]
            found = world.images()
            assert found.pop(worker) == image
            assert sorted(found.values()) == [EMPTY, "sim.kruise.io/ready-1s:web"]
        await world.sleep(60)
        notes = [event for event in world.events("ResetContainerSucceed") if event["regarding"]["name"] == "shop-0"]
        assert notes, "the end of a hot upgrade is told on the pod"

    simulate_sidecars(scenario)


def test_x27_a_newer_image_during_a_hot_upgrade_goes_to_the_twin_that_does_not_serve() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(1, hot=True)
        world.set_image("sim.kruise.io/never-ready:v2")
        await world.until(lambda: "sim.kruise.io/never-ready:v2" in world.images().values())
        await world.sleep(3)
        assert world.images()["mesh-proxy-1"] == V1, "the twin that serves stays"
        world.set_image(V3)
        await world.settled(1)
        assert sorted(world.images().values()) == sorted([V3, EMPTY, "sim.kruise.io/ready-1s:web"])

    simulate_sidecars(scenario)


def test_the_old_image_published_again_takes_a_failing_hot_upgrade_back() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(1, hot=True)
        world.set_image("sim.kruise.io/never-ready:v2")
        await world.sleep(5)
        world.set_image(V1)
        await world.settled(1)
        assert world.images()["mesh-proxy-1"] == V1
        assert world.images()["mesh-proxy-2"] == EMPTY

    simulate_sidecars(scenario)


# ---- what holds an upgrade back --------------------------------------------------------------------------------------


def test_c5_a_pause_the_type_a_partition_and_a_selector_hold_pods_back() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.started()
        world.create_set(strategy={"maxUnavailable": "100%", "paused": True})
        world.create_pods(2, labels={"track": "a"})
        world.create_pods(2, prefix="late")
        await world.settled(4)
        mark = world.mark()
        world.set_image(V2)
        await world.sleep(5)
        assert world.counts(since=mark) == {CREATE_REVISION: 1, SET_STATUS: 1}
        assert world.numbers() == (4, 0, 4, 0)
        assert world.set_condition("Progressing")["reason"] == "Paused"
        world.strategy(paused=False, type="NotUpdate")
        await world.sleep(5)
        assert PATCH_POD not in world.counts(since=mark)
        assert world.set_condition("Progressing")["reason"] == "NotUpdate"
        world.strategy(type="RollingUpdate", selector={"matchLabels": {"track": "a"}})
        await world.sleep(5)
        assert world.counts(since=mark)[PATCH_POD] == 2
        assert world.numbers() == (4, 2, 4, 2)
        assert world.set_condition("Progressing")["reason"] == "SelectorMismatch"
        world.strategy(selector=None, partition=1)
        await world.sleep(5)
        assert world.counts(since=mark)[PATCH_POD] == 3
        assert world.set_condition("Progressing")["reason"] == "PartitionHeld"
        world.strategy(partition=0)
        await world.settled(4)
        assert world.counts(since=mark)[PATCH_POD] == 4

    simulate_sidecars(scenario)


def test_a_label_that_the_strategy_selects_begins_an_upgrade() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(1, strategy={"selector": {"matchLabels": {"track": "a"}}})
        world.set_image(V2)
        await world.sleep(3)
        assert V2 not in world.images().values()
        world.server.patch("pods", "shop-0", {"metadata": {"labels": {"track": "a"}}}, actor="user")
        await world.settled(1)
        assert V2 in world.images().values()

    simulate_sidecars(scenario)


def test_c5_a_broken_image_stops_at_the_budget_and_says_so() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(6, strategy={"maxUnavailable": 2})
        mark = world.mark()
        world.set_image("sim.kruise.io/pull-fail:v2")
        await world.sleep(60)
        assert world.counts(since=mark)[PATCH_POD] == 2
        condition = world.set_condition("Progressing")
        assert (condition["status"], condition["reason"]) == ("False", "ImagePullFailed"), condition
        world.set_image(V3)
        await world.settled(6)
        assert world.counts(since=mark)[PATCH_POD] == 8

    simulate_sidecars(scenario)


# ---- which pods ------------------------------------------------------------------------------------------------------


def test_c11_pods_without_their_sidecars_are_named() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.started()
        world.create_pods(1, prefix="older", injected=False)
        await world.sleep(2)
        world.create_set()
        await world.sleep(2)
        condition = world.set_condition("Injected")
        assert condition["status"] == "True", "nobody missed a pod that is older than the set"
        assert condition["message"].endswith("; others without them: 1 CreatedBeforeSidecarSet")
        world.create_pods(12, prefix="missed", injected=False)
        await world.until(lambda: world.set_condition("Injected")["status"] == "False")
        await world.sleep(1)
        condition = world.set_condition("Injected")
        assert condition["reason"] == "NotInjected"
        assert condition["message"].startswith("12 pods without the sidecars: default/missed-0, default/missed-1")
        assert world.counts().get(PATCH_POD, 0) == 0, "nobody touches them"
        for number in range(12):
            world.delete_pod(f"missed-{number}")
        world.create_pods(2)
        await world.settled(2)
        assert world.set_condition("Injected")["status"] == "True"

    simulate_sidecars(scenario)


def test_a_pod_that_is_relabelled_leaves_and_joins() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(2)
        world.server.patch("pods", "shop-0", {"metadata": {"labels": {"app": "quarantine"}}}, actor="user")
        await world.settled(1)
        world.server.patch("pods", "shop-0", {"metadata": {"labels": {"app": "shop"}}}, actor="user")
        await world.settled(2)
        # The selector moves away from all, and back.
        world.edit_set(lambda body: body["spec"].update(selector={"matchLabels": {"app": "other"}}))
        await world.settled(0)
        world.edit_set(lambda body: body["spec"].update(selector={"matchLabels": {"app": "shop"}}))
        await world.settled(2)

    simulate_sidecars(scenario)


def test_a_namespace_that_is_relabelled_leaves_and_joins() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.started()
        for name in ("blue", "green"):
            world.server.ensure_namespace(name)
        world.server.patch("namespaces", "blue", {"metadata": {"labels": {"mesh": "on"}}}, actor="user")
        world.create_set(namespaceSelector={"matchLabels": {"mesh": "on"}})
        world.create_pods(2, namespace="blue")
        world.create_pods(1, namespace="green", injected=False)
        await world.settled(2)
        assert world.set_condition("Injected")["status"] == "True"
        world.server.patch("namespaces", "green", {"metadata": {"labels": {"mesh": "on"}}}, actor="user")
        await world.until(lambda: world.set_condition("Injected")["status"] == "False")
        assert "green/shop-0" in world.set_condition("Injected")["message"]
        world.server.patch("namespaces", "blue", {"metadata": {"labels": {"mesh": None}}}, actor="user")
        await world.until(lambda: world.numbers() == (0, 0, 0, 0))
        # A set that begins to ask for namespaces knows them all.
        world.edit_set(lambda body: body["spec"].pop("namespaceSelector"))
        await world.until(lambda: world.numbers()[0] == 2)
        world.edit_set(lambda body: body["spec"].update(namespaceSelector={"matchLabels": {"mesh": "on"}}))
        await world.until(lambda: world.numbers()[0] == 0)

    simulate_sidecars(scenario)


def test_a_canary_takes_its_pods_off_the_missed_ones_of_its_base() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.started()
        world.create_set()
        canary = {"apps.kruise.io/sidecarset-canary": "true", "apps.kruise.io/sidecarset-base": "mesh"}
        world.create_set("canary", annotations=canary, strategy={"type": "NotUpdate"})
        await world.sleep(1)
        world.create_pods(1)
        await world.settled(1, "canary")
        assert world.set_condition("Injected")["status"] == "True"
        assert world.numbers()[0] == 0
        # Not a canary any more: the pod was missed after all.
        world.edit_set(lambda body: body["metadata"]["annotations"].clear(), "canary")
        await world.until(lambda: world.set_condition("Injected")["status"] == "False")

    simulate_sidecars(scenario)


# ---- idle, deletion, processes ---------------------------------------------------------------------------------------


def test_nothing_is_written_for_pods_of_others_and_no_pass_is_made() -> None:
    async def scenario(world: SidecarWorld) -> None:
        process = await world.standing(2)
        total = {"controller": "sidecarset-controller", "result": "success"}
        before, mark = process.metric("controller_runtime_reconcile_total", **total), world.mark()
        world.create_pods(5, prefix="foreign", labels={"app": "foreign"}, injected=False)
        for number in range(10):  # and none for what changes nothing about a pod of the set
            patch = {"metadata": {"annotations": {"seen": str(number)}}}
            world.server.patch("pods", "shop-1", patch, actor="user")
            await world.sleep(1)
        assert process.metric("controller_runtime_reconcile_total", **total) == before
        assert world.counts(since=mark) == {}

    simulate_sidecars(scenario)


def test_c10_the_deletion_of_a_set_touches_no_pod_and_takes_its_revisions_along() -> None:
    async def scenario(world: SidecarWorld) -> None:
        process = await world.standing(3)
        world.set_image(V2)
        await world.sleep(0.5)
        mark = world.mark()
        world.server.delete(SETS, "mesh", actor="user")
        await world.sleep(30)
        assert world.counts(since=mark) == {}
        assert world.revisions() == [], "the garbage collector took them"
        assert process.running

    simulate_sidecars(scenario)


def test_a_set_under_its_old_name_begins_anew() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(2)
        world.server.delete(SETS, "mesh", actor="user")
        world.create_set(image=V2)
        await world.settled(2)
        assert V2 in world.images().values(), "the pods name the set, whichever one it is"

    simulate_sidecars(scenario)


def test_a_start_without_news_writes_nothing() -> None:
    async def scenario(world: SidecarWorld) -> None:
        process = await world.started()
        world.create_set()
        world.create_set("hot", hot=True, selector={"matchLabels": {"app": "shop", "hot": "yes"}})
        world.create_pods(2)
        world.create_pods(2, prefix="both", labels={"hot": "yes"})
        await world.settled(4)
        await world.settled(2, "hot")
        env = [{"name": "LEVEL", "value": "debug"}]
        world.edit_set(lambda body: body["spec"]["containers"][0].update(env=env))
        await world.sleep(400)
        await process.stop()
        mark, told = world.mark(), world.events("NotUpgradablePods")
        await world.started()
        await world.sleep(30)
        assert world.counts(since=mark) == {}
        assert world.events("NotUpgradablePods") == told, "what was told before is not told again"

    simulate_sidecars(scenario)


def test_x26_a_leader_that_dies_in_an_upgrade_costs_no_write() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(8, strategy={"maxUnavailable": 2})
        world.start_manager()
        await world.sleep(1)
        mark = world.mark()
        world.set_image(V2)
        await world.until(lambda: world.numbers()[1] >= 3)
        leader = world.leader
        assert leader is not None
        leader.crash()
        await world.settled(8)
        counts = world.counts(since=mark)
        assert counts.pop(SET_STATUS) < 60
        assert counts == {CREATE_REVISION: 1, PATCH_POD: 8, PATCH_STATUS: 8}

    simulate_sidecars(scenario)


def test_x26_a_pod_that_goes_during_its_upgrade_holds_up_nobody() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.standing(3)
        world.set_image("sim.kruise.io/never-ready:v2")
        await world.until(lambda: world.numbers()[1] == 1)
        (busy,) = [n for n in range(3) if "sim.kruise.io/never-ready:v2" in world.images(f"shop-{n}").values()]
        world.set_image(V3)
        world.delete_pod(f"shop-{busy}")
        await world.settled(2)

    simulate_sidecars(scenario)


def test_a_dry_run_changes_nothing() -> None:
    async def scenario(world: SidecarWorld) -> None:
        process = world.start_manager(dry_run=True)
        await world.until(lambda: process.manager.leading)
        world.create_set()
        world.create_pods(2)
        await world.sleep(30)
        world.set_image(V2)
        await world.sleep(30)
        calls = [call for call in world.server.log.calls if is_manager(call.actor) and call.writes]
        made = [call for call in calls if "lease" not in call.resource]
        assert all(call.dry_run for call in made)
        verbs = {(call.verb, call.resource, call.subresource) for call in made}
        assert ("create", "controllerrevisions.apps", "") in verbs
        assert ("patch", SETS, "status") in verbs
        assert ("patch", "pods", "") in verbs, "one of them would be upgraded"
        assert len(made) < 24, "one plan for each observed change"
        assert world.writes() == []
        assert "status" not in world.the_set()
        assert world.revisions() == []
        assert all(V2 not in str(pod["spec"]) for pod in world.server.list("pods"))

    simulate_sidecars(scenario, rest=None)


def test_a_manager_of_one_namespace_keeps_its_revisions_in_its_own() -> None:
    async def scenario(world: SidecarWorld) -> None:
        process = world.start_manager(namespaces=("default",))
        await world.until(lambda: process.manager.leading and process.controller.took_over is not None)
        world.server.ensure_namespace("elsewhere")
        world.create_set(revisionHistoryLimit=1)
        await world.sleep(1)
        world.create_pods(2)
        world.create_pods(1, namespace="elsewhere")
        await world.settled(2)
        mark = world.mark()
        world.set_image(V2)
        counts = await costs(world, mark, 2)
        assert counts.pop(DELETE_REVISION) == 1
        assert counts == {CREATE_REVISION: 1, PATCH_POD: 2, PATCH_STATUS: 2}
        assert len(world.revisions()) == 1, "it sees them there, and keeps the limit"
        assert world.images("shop-0", "elsewhere")["mesh-proxy"] == V1, "nobody upgrades what it does not see"

    simulate_sidecars(scenario, rest=None)  # the invariants count the pods of all namespaces
