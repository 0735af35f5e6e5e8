"""How many writes the steps of a pod's life take on the embedded API server, and what each of them says.

The counts are performance 2.1; every chain runs on the versions that its writes return, so a conflict of our own making
would fail the test that makes it.
"""

from __future__ import annotations

from typing import Any

import pytest

from kruise.apis.core import PODS, Pod
from kruise.apis.statefulset import IN_PLACE_ONLY, Lifecycle, LifecycleHook
from kruise.controllers.common.inplace.flow import Flow, Outcome, delete_step, refresh, start
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.spec import NotPossible, UpdateSpec
from kruise.controllers.common.lifecycle import State, state_of
from kruise.controllers.common.readiness import PRE_DELETE_KEY, PRE_UPDATE_KEY, condition_of, keys_of
from kruise.runtime.client.noop import PatchKind
from kruise.runtime.errors import Conflict
from tests.unit.controllers.inplace_pods import running, typed
from tests.unit.controllers.inplace_pods import template as plain
from tests.unit.controllers.pod_life import BOTH_GATES, JSON, NOW, Life, container, template

HOOK = LifecycleHook(labels_handler={"hold": "yes"})
MARKS = LifecycleHook(labels_handler={"hold": "yes"}, mark_pod_not_ready=True)
DRAIN = LifecycleHook(finalizers_handler=("x/drain",), mark_pod_not_ready=True)


def life(*, gates: tuple[str, ...] = ("InPlaceUpdateReady",), labels: JSON | None = None, **parts: Any) -> Life:
    first = template(container(), gates=gates, labels=dict(labels or {}))
    second = template(container(image="a:2"), gates=gates, labels=dict(labels or {}))
    return Life({"r1": first, "r2": second}, **parts)


async def updated(one: Life) -> Life:
    """Let the pod run on r1, then update it to r2 and forget nothing of that."""
    await one.running()
    one.wanted = "r2"
    await one.settle()
    return one


def status(pod: Pod, kind: str) -> str | None:
    found = condition_of(pod, kind)
    return found.status if found is not None else None


def look(pod: Pod) -> tuple[State, str | None, str | None, str]:
    """The state, the gate, Ready and the image of a pod."""
    gate, ready = status(pod, "InPlaceUpdateReady"), status(pod, "Ready")
    return state_of(pod.metadata), gate, ready, pod.spec.containers[0].image


# ---- the number of writes (performance 2.1) --------------------------------------------------------------------------


async def test_s4_a_gated_update_is_three_writes_in_this_order() -> None:
    one = await updated(life())
    assert one.endpoints == ["status", "pod", "status"]
    assert [look(pod) for pod in one.versions] == [
        (State.NORMAL, "False", "False", "a:1"),
        (State.UPDATING, "False", "False", "a:2"),
        (State.NORMAL, "True", "False", "a:2"),
    ]
    assert [pod.metadata.labels["controller-revision-hash"] for pod in one.versions] == ["r1", "r2", "r2"]
    assert look(await one.pod()) == (State.NORMAL, "True", "True", "a:2")


async def test_an_update_without_the_gate_is_two_writes() -> None:
    one = await updated(life(gates=()))
    assert one.endpoints == ["pod", "pod"]


async def test_an_update_without_gate_and_label_is_one_write() -> None:
    one = await updated(life(gates=(), labelled=False))
    assert one.endpoints == ["pod"]
    assert state_of((await one.pod()).metadata) is State.NONE


async def test_without_merged_patches_it_is_four() -> None:
    one = await updated(life(gates=("InPlaceUpdateReady",)))
    apart = life()
    apart.turn(merged_status_patch=False)
    await updated(apart)
    assert apart.endpoints == ["status", "pod", "status", "pod"]
    assert look(await apart.pod()) == look(await one.pod())


@pytest.mark.parametrize(("gates", "endpoints"), [(BOTH_GATES, ["status", "pod", "status"]), ((), ["pod"] * 3)])
async def test_a_grace_period_costs_no_write_more(gates: tuple[str, ...], endpoints: list[str]) -> None:
    one = await updated(life(gates=gates, grace=20))
    assert one.endpoints == endpoints
    held, changed, done = one.versions
    assert (held.spec.containers[0].image, changed.spec.containers[0].image) == ("a:1", "a:2")
    assert held.metadata.labels["controller-revision-hash"] == "r2"
    assert "apps.kruise.io/inplace-update-grace" in held.metadata.annotations
    assert "apps.kruise.io/inplace-update-grace" not in changed.metadata.annotations
    assert one.now == NOW + 20
    assert state_of(done.metadata) is State.NORMAL


async def test_each_batch_of_launch_priority_is_one_write_more() -> None:
    def ordered(tag: str) -> JSON:
        def env(place: int) -> list[JSON]:
            key = {"name": "barrier", "key": f"p_{place}"}
            return [{"name": "KRUISE_CONTAINER_BARRIER", "valueFrom": {"configMapKeyRef": key}}]

        return template(*(container(f"c{n}", f"{n}:{tag}", env=env(n)) for n in (1, 2, 3)))

    one = await updated(Life({"r1": ordered("a"), "r2": ordered("b")}))
    assert one.endpoints == ["status", "pod", "pod", "pod", "status"]
    seen = [tuple(c.image for c in pod.spec.containers) for pod in one.versions]
    assert seen[1:4] == [("1:a", "2:a", "3:b"), ("1:a", "2:b", "3:b"), ("1:b", "2:b", "3:b")]
    assert all(status(pod, "InPlaceUpdateReady") == "False" for pod in one.versions[:-1])


async def test_a_lifecycle_without_an_update_hook_costs_nothing() -> None:
    one = await updated(life(lifecycle=Lifecycle(pre_delete=HOOK)))
    assert one.endpoints == ["status", "pod", "status"]


@pytest.mark.parametrize("hook", [HOOK, MARKS], ids=["plain", "markPodNotReady"])
async def test_an_update_hook_makes_it_five(hook: LifecycleHook) -> None:
    one = life(gates=BOTH_GATES, labels={"hold": "yes"}, lifecycle=Lifecycle(in_place_update=hook))
    await one.running()
    one.wanted = "r2"
    await one.settle()
    assert one.endpoints == ["status" if hook.mark_pod_not_ready else "pod"]
    held = await one.pod()
    assert look(held)[0] is State.PREPARING_UPDATE
    assert (PRE_UPDATE_KEY in keys_of(held)) is hook.mark_pod_not_ready
    assert (status(held, "Ready") == "False") is hook.mark_pod_not_ready
    assert (await one.decide()).outcome is Outcome.HELD
    one.label("hold", None)
    await one.settle()
    assert [state_of(pod.metadata) for pod in one.versions[1:]] == [
        State.PREPARING_UPDATE,
        State.UPDATING,
        State.UPDATED,
    ]
    assert keys_of(await one.pod()) == ()
    one.label("hold", "yes")
    await one.settle()
    assert len(one.written) == 5
    assert look(await one.pod()) == (State.NORMAL, "True", "True", "a:2")


async def test_a_change_of_metadata_alone_still_closes_the_gate() -> None:
    first, second = template(container(), annotations={"a": "1"}), template(container(), annotations={"a": "2"})
    one = await updated(Life({"r1": first, "r2": second}))
    assert one.endpoints == ["status", "pod", "status"]
    assert (await one.pod()).metadata.annotations["a"] == "2"


@pytest.mark.parametrize(
    ("policy", "endpoints"), [([], ["resize", "pod", "pod"]), (["cpu"], ["status", "resize", "pod", "status"])]
)
async def test_a_resize_is_three_writes_unless_a_container_restarts(policy: list[str], endpoints: list[str]) -> None:
    restarts = [{"resourceName": name, "restartPolicy": "RestartContainer"} for name in policy]

    def sized(cpu: str) -> JSON:
        resources = {"limits": {"cpu": cpu}, "requests": {"cpu": "1"}}
        parts = {"resizePolicy": restarts} if restarts else {}
        return template({**container(), "resources": resources, **parts})

    one = Life({"r1": sized("2"), "r2": sized("3")})
    one.turn(vertical_scaling=True)
    await updated(one)
    assert one.endpoints == endpoints
    after = await one.pod()
    assert after.spec.containers[0].resources.limits == {"cpu": "3"}
    assert look(after)[:3] == (State.NORMAL, "True", "True")


# ---- a new pod -------------------------------------------------------------------------------------------------------


async def test_both_first_conditions_are_one_write_once_the_pod_is_bound() -> None:
    one = life(gates=BOTH_GATES)
    await one.create()
    assert (await one.decide()).writes == ()
    one.bind()
    await one.settle()
    assert one.endpoints == ["status"]
    assert [status(await one.pod(), gate) for gate in (*BOTH_GATES, "Ready")] == ["True"] * 3


async def test_pre_normal_goes_with_the_first_conditions() -> None:
    hooks = Lifecycle(pre_normal=HOOK)
    one = life(gates=BOTH_GATES, lifecycle=hooks)
    await one.create()
    assert look(await one.pod())[0] is State.PREPARING_NORMAL
    one.label("hold", "yes")
    assert (await one.decide()).writes == ()
    one.bind()
    await one.settle()
    assert one.endpoints == ["status"]
    assert look(await one.pod()) == (State.NORMAL, "True", "True", "a:1")


async def test_pre_normal_that_comes_later_does_not_keep_the_pod_from_being_ready() -> None:
    one = life(lifecycle=Lifecycle(pre_normal=HOOK))
    await one.create()
    one.bind()
    await one.settle()
    assert look(await one.pod()) == (State.PREPARING_NORMAL, "True", "True", "a:1")
    assert (await one.decide()).outcome is Outcome.HELD
    one.label("hold", "yes")
    await one.settle()
    assert one.endpoints == ["status", "pod"]


async def test_a_pod_that_was_taken_over_gets_the_condition_that_it_lacks() -> None:
    one = await life(gates=BOTH_GATES).running()
    one.edit(lambda pod: pod["status"].update(conditions=[]), "status")
    one.kubelet()
    await one.settle()
    assert one.endpoints == ["status"]


# ---- deletion --------------------------------------------------------------------------------------------------------


async def test_an_unhooked_pod_is_deleted_without_a_write() -> None:
    one = await life().running()
    flow = await one.delete()
    assert (flow.outcome, flow.writes, flow.disrupts) == (Outcome.DELETE, (), True)


async def test_a_deletion_is_prepared_in_one_write() -> None:
    one = life(gates=BOTH_GATES, lifecycle=Lifecycle(pre_delete=DRAIN))
    await one.running()
    one.finalizers("x/drain")
    flow = await one.delete()
    assert (flow.outcome, flow.state, flow.disrupts) == (Outcome.PREPARED, State.PREPARING_DELETE, True)
    assert one.endpoints == ["status"]
    pod = await one.pod()
    assert keys_of(pod) == (PRE_DELETE_KEY,)
    assert (status(pod, "KruisePodReady"), status(pod, "Ready")) == ("False", "False")
    assert (await one.delete()).outcome is Outcome.HELD
    one.finalizers()
    assert (await one.delete()).outcome is Outcome.DELETE
    assert len(one.written) == 1


async def test_row_8_a_cancelled_deletion_gives_the_pod_back() -> None:
    one = life(gates=BOTH_GATES, lifecycle=Lifecycle(pre_delete=DRAIN))
    await one.running()
    one.finalizers("x/drain")
    await one.delete()
    assert (await one.decide()).writes == (), "as long as it is wanted, nothing moves"
    one.forget()
    await one.settle(deletion_wanted=False)
    assert one.endpoints == ["status"]
    pod = await one.pod()
    assert look(pod) == (State.NORMAL, "True", "True", "a:1")
    assert keys_of(pod) == ()


async def test_a_deletion_without_the_mark_leaves_the_pod_ready() -> None:
    one = await life(gates=BOTH_GATES, labels={"hold": "yes"}, lifecycle=Lifecycle(pre_delete=HOOK)).running()
    await one.delete()
    assert one.endpoints == ["pod"]
    assert look(await one.pod()) == (State.PREPARING_DELETE, "True", "True", "a:1")


async def test_row_8_a_deletion_that_is_cancelled_during_an_update_gives_the_update_back() -> None:
    one = await life(gates=BOTH_GATES, lifecycle=Lifecycle(pre_delete=DRAIN)).running()
    one.wanted = "r2"
    await one.apply(await one.decide())
    one.finalizers("x/drain")
    await one.delete()
    assert keys_of(await one.pod()) == (PRE_DELETE_KEY,)
    flow = await one.decide(deletion_wanted=False)
    await one.apply(flow)
    pod = await one.pod()
    assert look(pod) == (State.UPDATING, "False", "False", "a:2")
    assert keys_of(pod) == ()
    await one.settle(deletion_wanted=False)
    assert look(await one.pod()) == (State.NORMAL, "True", "True", "a:2")


async def test_row_8_a_pod_that_shall_be_updated_is_not_deleted_any_more() -> None:
    one = life(gates=BOTH_GATES, lifecycle=Lifecycle(pre_delete=DRAIN))
    await one.running()
    one.finalizers("x/drain")
    await one.delete()
    one.wanted = "r2"
    flow = await one.decide()
    assert (flow.outcome, flow.state, flow.disrupts) == (Outcome.REFRESHED, State.NORMAL, False)
    await one.apply(flow)
    assert keys_of(await one.pod()) == ()
    await one.settle()
    assert look(await one.pod()) == (State.NORMAL, "True", "True", "a:2")


# ---- what ends an update before its time -----------------------------------------------------------------------------


async def test_row_10_the_key_leaves_with_a_rollback_from_preparing_update() -> None:
    one = life(gates=BOTH_GATES, labels={"hold": "yes"}, lifecycle=Lifecycle(in_place_update=MARKS))
    await one.running()
    one.wanted = "r2"
    await one.settle()
    one.wanted = "r1"
    await one.settle()
    assert one.endpoints == ["status", "status"]
    pod = await one.pod()
    assert look(pod) == (State.NORMAL, "True", "True", "a:1")
    assert keys_of(pod) == ()


async def test_x6_a_pod_below_a_raised_partition_leaves_preparing_update() -> None:
    one = life(labels={"hold": "yes"}, lifecycle=Lifecycle(in_place_update=HOOK))
    await one.running()
    one.wanted = "r2"
    await one.settle()
    await one.settle(update_wanted=False)
    assert look(await one.pod()) == (State.NORMAL, "True", "True", "a:1")


async def test_x6_a_rollback_without_the_label_waits_in_updated_for_the_hook() -> None:
    one = life(labels={"hold": "yes"}, lifecycle=Lifecycle(in_place_update=HOOK))
    await one.running()
    one.wanted = "r2"
    await one.settle()
    one.wanted = "r1"
    one.label("hold", None)
    await one.settle()
    assert look(await one.pod())[0] is State.UPDATED
    one.label("hold", "yes")
    await one.settle()
    assert look(await one.pod()) == (State.NORMAL, "True", "True", "a:1")


async def test_x6_an_updated_pod_is_armed_again_for_the_next_update() -> None:
    hook = LifecycleHook(labels_handler={"hold": "yes"}, finalizers_handler=("x/hold",))
    one = life(labels={"hold": "yes"}, lifecycle=Lifecycle(in_place_update=hook))
    await one.running()
    one.wanted = "r2"
    await one.settle()
    one.label("hold", None)
    await one.settle()
    assert look(await one.pod())[0] is State.UPDATED
    one.finalizers("x/other")
    one.wanted = "r1"
    await one.settle()
    pod = await one.pod()
    assert look(pod)[0] is State.PREPARING_UPDATE
    assert pod.metadata.labels["hold"] == "yes"
    assert sorted(pod.metadata.finalizers) == ["x/hold", "x/other"]


async def test_x8_a_bad_image_and_back_ends_well() -> None:
    one = await life().running()
    one.wanted = "r2"
    await one.apply(await one.decide())
    one.wanted = "r1"
    await one.apply(await one.decide())
    await one.settle()
    assert look(await one.pod()) == (State.NORMAL, "True", "True", "a:1")
    assert one.endpoints == ["status", "pod", "pod", "status"], "the gate was closed once"


async def test_row_9_a_grace_period_that_is_overtaken_loses_nothing() -> None:
    first = template(container("x", "x:1"), container("y", "y:1"))
    second = template(container("x", "x:2"), container("y", "y:1"))
    third = template(container("x", "x:2"), container("y", "y:2"))
    one = Life({"r1": first, "r2": second, "r3": third}, grace=20)
    await one.running()
    one.wanted = "r2"
    await one.apply(await one.decide())
    one.wanted = "r3"
    await one.settle()
    assert [c.image for c in (await one.pod()).spec.containers] == ["x:2", "y:2"]


async def test_x10_a_pod_that_changed_between_two_writes_keeps_its_image() -> None:
    one = await life().running()
    one.wanted = "r2"
    flow = await one.decide()
    await one.apply(flow, first=1)
    stale = one.versions[-1]
    one.label("someone", "else")
    write = flow.writes[1]
    with pytest.raises(Conflict):
        await one.client.patch(PODS, stale, write.patch, kind=PatchKind.STRATEGIC, version=stale.resource_version)
    assert look(await one.pod())[3] == "a:1"
    await one.settle()
    assert one.endpoints == ["status", "pod", "status"], "the write that was done is not repeated"


@pytest.mark.parametrize("died_after", [1, 2])
async def test_crash_a_manager_that_dies_between_two_writes_repeats_none(died_after: int) -> None:
    one = await life().running()
    one.wanted = "r2"
    await one.apply(await one.decide(), first=died_after)
    await one.settle()
    assert one.endpoints == ["status", "pod", "status"]


async def test_a_pod_that_is_paused_after_the_first_write_comes_back() -> None:
    one = await life().running()
    one.wanted = "r2"
    await one.apply(await one.decide(), first=1)
    await one.settle(update_wanted=False)
    assert look(await one.pod()) == (State.NORMAL, "True", "True", "a:1")


async def test_s4_a_gate_that_somebody_opened_is_closed_before_the_next_batch() -> None:
    one = life(grace=20)
    await one.running()
    one.wanted = "r2"
    await one.apply(await one.decide())

    def open_gate(pod: JSON) -> None:
        for condition in pod["status"]["conditions"]:
            if condition["type"] in ("InPlaceUpdateReady", "Ready"):
                condition["status"] = "True"

    one.edit(open_gate, "status")
    one.now += 20
    one.forget()
    await one.apply(await one.decide())
    assert one.endpoints == ["status", "pod"]
    assert look(one.versions[0])[1:] == ("False", "False", "a:1")


# ---- what is left alone ----------------------------------------------------------------------------------------------

GATES = Gates()
SPEC = UpdateSpec(revision="r1", images={"main": "a:2"})


def still(pod: JSON, **parts: Any) -> Flow:
    wanted: dict[str, Any] = {"lifecycle": None, "update_revision": "r0", "now": NOW, "gates": GATES, **parts}
    return refresh(typed(pod), **wanted)


def test_a_terminating_or_finished_pod_is_not_written() -> None:
    pod = running(plain(container()))
    assert still(pod).writes
    assert still({**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-03-01T12:00:00Z"}}) == Flow()
    assert still({**pod, "status": {**pod["status"], "phase": "Failed"}}) == Flow()


def test_a_foreign_state_refuses_updates_and_allows_deletion() -> None:
    pod = running(plain(container()))
    pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"] = "Resting"
    refused = start(typed(pod), SPEC, lifecycle=None, now=NOW, gates=GATES)
    assert refused.outcome is Outcome.REFUSED
    assert "Resting" in refused.error
    assert delete_step(typed(pod), lifecycle=None, now=NOW, gates=GATES).outcome is Outcome.DELETE


def test_what_cannot_be_updated_in_place_is_recreated_or_refused() -> None:
    pod, answer = typed(running(plain(container()))), NotPossible(("spec.containers[0].env",))
    flow = start(pod, answer, lifecycle=None, now=NOW, gates=GATES)
    assert (flow.outcome, flow.evidence) == (Outcome.RECREATE, "spec.containers[0].env")
    flow = start(pod, answer, lifecycle=None, now=NOW, gates=GATES, policy=IN_PLACE_ONLY)
    assert flow.outcome is Outcome.REFUSED
    assert "spec.containers[0].env" in flow.error


def test_an_unreadable_annotation_is_an_error_and_the_next_update_cures_it() -> None:
    pod = running(plain(container()))
    pod["metadata"]["annotations"] = {"apps.kruise.io/inplace-update-state": "{"}
    flow = still(pod)
    assert (flow.outcome, flow.writes) == (Outcome.REFUSED, ())
    assert "apps.kruise.io/inplace-update-state" in flow.error
    assert start(typed(pod), SPEC, lifecycle=None, now=NOW, gates=GATES).outcome is Outcome.STARTED


def test_an_empty_grace_period_is_taken_away() -> None:
    pod = running(plain(container()))
    pod["metadata"]["annotations"] = {"apps.kruise.io/inplace-update-grace": ""}
    flow = still(pod)
    assert [write.subresource for write in flow.writes] == ["status"]
    assert flow.writes[0].patch["metadata"] == {"annotations": {"apps.kruise.io/inplace-update-grace": None}}


def test_a_start_needs_room_in_the_budget() -> None:
    flow = start(typed(running(plain(container()))), SPEC, lifecycle=None, now=NOW, gates=GATES)
    assert (flow.outcome, flow.disrupts) == (Outcome.STARTED, True)


async def test_a_pod_without_a_node_waits_with_its_gate_and_its_label() -> None:
    one = life()
    await one.create()
    one.wanted = "r2"
    await one.apply(await one.decide())
    assert (await one.decide()).writes == ()
    assert look(await one.pod())[0] is State.UPDATING
    one.bind()
    await one.settle()
    assert one.endpoints == ["status", "pod", "status"]
    assert look(await one.pod()) == (State.NORMAL, "True", "True", "a:2")


def test_a_grace_period_without_a_state_is_an_error() -> None:
    pod = running(plain(container()))
    pod["metadata"]["annotations"] = {"apps.kruise.io/inplace-update-grace": SPEC.to_json()}
    assert "absent beside" in still(pod).error


def test_an_updated_pod_without_a_hook_waits_for_nobody() -> None:
    pod = running(plain(container()))
    pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"] = "Updated"
    flow = start(typed(pod), SPEC, lifecycle=None, now=NOW, gates=GATES)
    assert (flow.outcome, flow.writes) == (Outcome.HELD, ())
    assert still(pod).state is State.NORMAL


async def test_row_25_nothing_is_written_twice_to_a_pod_at_rest() -> None:
    one = await updated(life(gates=BOTH_GATES))
    one.forget()

    def explain(pod: JSON) -> None:
        for condition in pod["status"]["conditions"]:
            condition["reason"] = "X"

    one.edit(explain, "status")
    await one.settle()
    assert one.written == []
