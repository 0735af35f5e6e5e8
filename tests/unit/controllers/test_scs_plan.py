"""Single steps of the planner of SidecarSets: hot upgrades from end to end, failures, words, cost."""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import Any

import msgspec
import orjson
import pytest

from kruise.apis.core import ControllerRevision, Pod
from kruise.apis.sidecarset import UPGRADABLE_CONDITION
from kruise.controllers.common.reasons import Reason
from kruise.controllers.common.revisionwrites import BumpRevision
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.actions import Why
from kruise.controllers.sidecarset.explain import Facts, changed_fields, explain
from kruise.controllers.sidecarset.index import SetIndex
from kruise.controllers.sidecarset.match import Matcher
from kruise.controllers.sidecarset.order import default_rank
from kruise.controllers.sidecarset.revisions import choose_revision, new_revision, surplus
from kruise.controllers.sidecarset.status import settle, wire
from kruise.controllers.sidecarset.view import View
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.objects import Key
from tests.property.scs_model import BAD, EMPTY, SPACES, SidecarWorld


def world_of(count: int, *, hot: bool = False, **strategy: Any) -> SidecarWorld:
    world = SidecarWorld(hot=hot, **strategy)
    for at in range(count):
        world.create(at + at // 4)  # each fifth one would be in a namespace that is not selected
    return world


def reasons(world: SidecarWorld, facts: Facts | None = None) -> dict[str, Reason]:
    return {one.subject.rpartition("/")[2]: one.reason for one in explain(world.view, facts or Facts())}


def condition(world: SidecarWorld, kind: str) -> tuple[str, str]:
    status = settle(world.view, world.plan()).status
    assert status is not None
    found = next(one for one in status.conditions if one.type == kind)
    return found.status, found.reason


def images(world: SidecarWorld, name: str) -> list[str]:
    body = next(body for key, body in world.pods.items() if key.name == name)
    return [container["image"] for container in body["spec"]["containers"]]


def counts(world: SidecarWorld) -> tuple[int, int, int, int]:
    status = settle(world.view, world.plan()).status or world.view.frame.set.status
    found = wire(status)
    return tuple(found[name] for name in ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods"))  # type: ignore[return-value]


# ---- writes ----------------------------------------------------------------------------------------------------------


def test_a_cold_upgrade_is_one_patch_and_one_condition_the_first_time() -> None:
    world = world_of(1)
    for image, subresources in (("sidecar:2", ["", "status"]), ("sidecar:3", [""])):
        world.edit(image=image)
        (change,) = world.plan().changes
        assert [write.subresource for write in change.writes] == subresources
        assert change.disrupts
        world.apply((change,))
        world.kubelet(change.pod.key)
        assert world.plan().empty


def test_c7_an_immutable_change_is_one_condition_and_taken_back_when_it_is_over() -> None:
    world = world_of(2)
    world.edit(env="1")
    found = world.plan()
    assert [change.why for change in found.changes] == [Why.MARK, Why.MARK]
    assert "2 not upgradable" in found.events[0].note
    assert "one/p0, one/p1" in found.events[0].note
    world.apply(found.changes)
    assert world.plan().empty
    assert condition(world, "Progressing") == ("False", Reason.IMMUTABLE_FIELD_CHANGED)
    world.edit(env="0")
    world.apply(world.plan().changes)
    for body in world.pods.values():
        said = next(one for one in body["status"]["conditions"] if one["type"] == UPGRADABLE_CONDITION)
        assert (said["status"], said["message"]) == ("True", '{"mesh":true}')
    assert world.plan().empty


def test_a_hot_upgrade_counts_as_it_goes() -> None:
    world = world_of(1, hot=True)
    world.edit(image="sidecar:2")
    seen = [counts(world)]
    found = world.plan()
    assert [len(change.writes) for change in found.changes] == [2]
    world.apply(found.changes)
    assert images(world, "p0") == ["sidecar:1", "sidecar:2", "web:1"]
    seen.append(counts(world))
    assert world.plan().empty
    world.kubelet(Key("one", "p0"))
    (change,) = world.plan().changes
    assert (change.why, change.disrupts) == (Why.FLIP, False)
    world.apply((change,))
    assert images(world, "p0") == [EMPTY, "sidecar:2", "web:1"]
    seen.append(counts(world))
    world.kubelet(Key("one", "p0"))
    seen.append(counts(world))
    assert seen == [(1, 0, 1, 0), (1, 1, 0, 0), (1, 1, 0, 0), (1, 1, 1, 1)]


def test_l4_a_hot_upgrade_that_fails_is_taken_back_by_the_old_image() -> None:
    world = world_of(1, hot=True)
    world.edit(image=BAD)
    world.apply(world.plan().changes)
    world.kubelet(Key("one", "p0"))
    assert images(world, "p0") == ["sidecar:1", BAD, "web:1"]
    assert reasons(world) == {"p0": Reason.IMAGE_PULL_FAILED}
    world.edit(image="sidecar:1")
    world.apply(world.plan().changes)
    assert images(world, "p0") == ["sidecar:1", EMPTY, "web:1"]
    world.kubelet(Key("one", "p0"))
    assert counts(world) == (1, 1, 1, 1)
    assert world.plan().empty


def test_l4_a_pod_that_another_manager_left_with_a_failing_worker_is_repaired() -> None:
    world = world_of(1, hot=True)
    good = deepcopy(world.pods[Key("one", "p0")]["metadata"]["annotations"]["kruise.io/sidecarset-hash"])
    world.edit(image=BAD)
    world.apply(world.plan().changes)
    world.kubelet(Key("one", "p0"))
    world.pods[Key("one", "p0")]["metadata"]["annotations"]["kruise.io/sidecarset-hash"] = good
    world.edit(image="sidecar:1")
    world.tell(Key("one", "p0"))
    (change,) = world.plan().changes
    assert change.why is Why.REPAIR
    world.apply((change,))
    assert images(world, "p0") == ["sidecar:1", EMPTY, "web:1"]


@pytest.mark.parametrize("note", ['{"side":"side-2"}', '{"side":"x"}'])
def test_c5_the_only_serving_twin_is_never_emptied(note: str) -> None:
    world = world_of(1, hot=True)
    key = Key("one", "p0")
    world.pods[key]["metadata"]["annotations"]["kruise.io/sidecarset-working-hotupgrade-container"] = note
    world.tell(key)
    assert world.plan().empty
    assert counts(world) == (1, 1, 1, 1)
    world.edit(image="sidecar:2")
    world.settle()
    assert images(world, "p0") == [EMPTY, "sidecar:2", "web:1"]


def test_no_pod_is_changed_twice_in_a_pass() -> None:
    world = world_of(4, hot=True, maxUnavailable=3)
    world.edit(image="sidecar:2")
    world.apply(world.plan().changes[:1])
    for key in list(world.pods):
        world.kubelet(key)
    world.edit(image="sidecar:3")
    found = world.plan()
    assert [change.why for change in found.changes] == [Why.FLIP]
    world.apply(found.changes)
    assert [change.why for change in world.plan().changes] == [Why.UPGRADE] * 3


# ---- failures --------------------------------------------------------------------------------------------------------


def test_rule_30_a_pod_whose_write_failed_waits_alone() -> None:
    world = world_of(3)
    world.edit(image="sidecar:2")
    (first,) = world.plan().changes
    (second,) = world.plan(holds={first.pod.uid: True}).changes
    assert first.pod.key != second.pod.key
    (again,) = world.plan(holds={first.pod.uid: False}).changes
    assert again.pod.key == first.pod.key


def test_x3_an_upgrade_that_may_still_happen_uses_the_budget() -> None:
    world = world_of(3)
    world.edit(image="sidecar:2")
    (first,) = world.plan().changes
    uid = first.pod.uid
    assert world.plan(holds={uid: True}, unsure=frozenset({uid})).empty
    (again,) = world.plan(holds={uid: False}, unsure=frozenset({uid})).changes
    assert again.pod.key == first.pod.key


def test_c5_pods_that_were_down_when_a_write_was_lost_are_tried_again_one_by_one_once_they_are_up() -> None:
    """All of them were free then; together they would be too many now."""
    world = world_of(3)
    world.edit(image="sidecar:2")
    unsure = frozenset(world.view.pod(Key("one", f"p{n}")).uid for n in range(3))
    holds = dict.fromkeys(unsure, False)
    (only,) = world.plan(holds=holds, unsure=unsure).changes
    world.edit(maxUnavailable=2)
    found = world.plan(holds=holds, unsure=unsure).changes
    assert found[0].pod.key == only.pod.key
    assert len(found) == 2
    world.edit(maxUnavailable=3)
    others = unsure - {only.pod.uid}
    assert len(world.plan(holds=dict.fromkeys(others, False), unsure=others).changes) == 3


def test_metadata_that_does_not_fit_stops_one_pod() -> None:
    world = world_of(2)
    body = world.body()
    patch = {"annotations": {"m": '{"a":1}'}, "patchPolicy": "MergePatchJson"}
    plain = world.body
    body["spec"]["patchPodMetadata"] = [patch]
    world.pods[Key("one", "p1")]["metadata"]["annotations"]["m"] = "no JSON"
    world.tell(Key("one", "p1"))

    def patched() -> Any:
        found = plain()
        found["spec"]["patchPodMetadata"] = [patch]
        return found

    world.body = patched  # type: ignore[method-assign]
    world.edit(image="sidecar:2", maxUnavailable=2)
    found = world.plan()
    assert [change.pod.key.name for change in found.changes] == ["p0"]
    assert list(found.troubles) == [Key("one", "p1")]
    facts = Facts(acted={change.pod.key for change in found.changes}, troubles=found.troubles)
    assert reasons(world, facts)["p1"] is Reason.INVALID_SPEC


def test_x13_a_set_that_cannot_be_used_does_nothing() -> None:
    world = world_of(2)
    plain = world.body

    def broken() -> Any:
        found = plain()
        found["spec"]["selector"] = {"matchExpressions": [{"key": "a", "operator": "Near"}]}
        return found

    world.body = broken  # type: ignore[method-assign]
    world.edit(image="sidecar:2")
    found = world.plan()
    assert found.empty
    assert "Near" in found.error
    assert condition(world, "Progressing") == ("False", Reason.INVALID_SPEC)


# ---- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        ({"paused": True}, Reason.PAUSED),
        ({"type": "NotUpdate"}, Reason.NOT_UPDATE),
        ({"partition": "100%"}, Reason.PARTITION_HELD),
        ({"selector": {"matchLabels": {"gray": "1"}}}, Reason.SELECTOR_MISMATCH),
        ({"maxUnavailable": 0}, Reason.MAX_UNAVAILABLE_REACHED),
    ],
)
def test_why_a_pod_is_not_upgraded(strategy: dict[str, Any], reason: Reason) -> None:
    world = world_of(3)
    world.edit(image="sidecar:2", **strategy)
    assert world.plan().empty
    assert set(reasons(world).values()) == {reason}
    assert condition(world, "Progressing") == ("False", reason)
    assert all(one.unblocked_by for one in explain(world.view, Facts()))


def test_the_pods_that_use_the_budget_are_named() -> None:
    world = world_of(3)
    world.edit(image=BAD)
    world.apply(world.plan().changes)
    for key in list(world.pods):
        world.kubelet(key)
    found = {one.subject: one for one in explain(world.view, Facts())}
    held = [one for one in found.values() if one.reason is Reason.MAX_UNAVAILABLE_REACHED]
    assert [one.evidence for one in held] == ["on their way: one/p2", "on their way: one/p2"]
    assert found["pod one/p2"].reason is Reason.IMAGE_PULL_FAILED
    assert condition(world, "Progressing") == ("False", Reason.IMAGE_PULL_FAILED)


def test_c11_pods_without_the_sidecars_are_named_with_their_reason() -> None:
    world = world_of(2)
    plain = world.body

    def dated() -> Any:
        found = plain()
        found["metadata"]["creationTimestamp"] = "2027-01-15T08:00:00Z"
        return found

    world.body = dated  # type: ignore[method-assign]
    world.edit(maxUnavailable=2)
    stamps = {"p0": "2027-01-15T08:00:01Z", "p1": "2027-01-15T07:59:59Z"}
    for key, body in world.pods.items():
        del body["metadata"]["annotations"]["kruise.io/sidecarset-injected-list"]
        body["metadata"]["creationTimestamp"] = stamps[key.name]
        world.tell(key)
    assert reasons(world) == {"p0": Reason.NOT_INJECTED, "p1": Reason.CREATED_BEFORE_SIDECAR_SET}
    assert condition(world, "Injected") == ("False", Reason.NOT_INJECTED)
    world.view.set_canaries(("mesh-canary",))
    world.pods[Key("one", "p0")]["metadata"]["annotations"]["kruise.io/sidecarset-injected-list"] = "mesh-canary"
    world.tell(Key("one", "p0"))
    assert condition(world, "Injected") == ("True", Reason.INJECTED)
    world.pods[Key("one", "p1")]["metadata"]["labels"]["apps.kruise.io/sidecarset-injection"] = "disabled"
    world.tell(Key("one", "p1"))
    assert reasons(world) == {"p1": Reason.INJECTION_EXEMPT}


def test_a_pod_in_another_namespace_says_so() -> None:
    world = world_of(1)
    world.create(4)
    assert reasons(world) == {"p4": Reason.NAMESPACE_NOT_SELECTED}
    assert world.view.set_namespace("two", {"tier": "a"})
    assert world.view.count(m.MATCHED) == 2


def test_a_pod_that_cannot_be_read_is_counted_and_never_upgraded() -> None:
    world = world_of(1)
    key = Key("one", "p0")
    world.unreadable.add(key)
    world.tell(key)
    world.edit(image="sidecar:2")
    found = world.plan()
    assert found.empty
    assert [event.reason for event in found.events] == [Reason.POD_UNREADABLE]
    assert counts(world) == (1, 0, 0, 0)
    assert condition(world, "Progressing") == ("False", Reason.POD_UNREADABLE)


def test_what_differs_beside_images_is_named() -> None:
    old = {"containers": [{"name": "a", "image": "x:1", "env": []}, {"name": "b"}]}
    new = {"containers": [{"name": "a", "image": "x:2", "command": ["y"]}, {"name": "c"}]}
    assert changed_fields(old, new) == ("containers[a].command", "containers[b] removed", "containers[c] added")
    world = world_of(1)
    before = {"containers": deepcopy(world.spec()["containers"])}
    world.pods[Key("one", "p0")]["metadata"]["annotations"]["kruise.io/sidecarset-hash"] = (
        '{"mesh":{"hash":"old","controllerRevision":"mesh-1"}}'
    )
    world.edit(env="1")
    world.tell(Key("one", "p0"))
    (one,) = explain(world.view, Facts(contents={"mesh-1": before}))
    assert one.evidence == "changed beside images: containers[side].env"
    assert world.view.revisions_in_use() == {"mesh-1"}


def test_an_error_of_the_api_is_the_reason_of_a_pod_that_waits() -> None:
    world = world_of(1)
    world.edit(image="sidecar:2")
    pod = world.view.pod(Key("one", "p0"))
    found = Facts(failures={pod.uid: RuntimeError("boom")})
    assert [one.evidence for one in explain(world.view, found)] == ["its upgrade failed: boom"]


def test_x28_an_unchanged_status_is_not_written_again() -> None:
    world = world_of(2)
    first = settle(world.view, world.plan())
    assert first.status is not None
    assert first.decisive
    plain = world.body

    def written() -> Any:
        assert first.status is not None
        return {**plain(), "status": wire(first.status)}

    world.body = written  # type: ignore[method-assign]
    world.view.set_set(world.set())
    assert settle(world.view, world.plan()).status is None


def test_what_the_policy_warns_of_is_a_condition_for_as_long_as_it_is_so() -> None:
    world = world_of(1)

    def raised(concerns: tuple[str, ...] | None) -> list[tuple[str, str, str]]:
        status = settle(world.view, world.plan(), concerns=concerns).status or world.view.frame.set.status
        plain = world.body
        world.body = lambda: {**plain(), "status": wire(status)}  # type: ignore[method-assign]
        world.view.set_set(world.set())
        return [(c.status, c.reason, c.message) for c in status.conditions if c.type == "RaisesPrivileges"]

    assert raised(()) == []
    warned = [("True", "PrivilegesFound", "spec.volumes[0].hostPath: it reaches; spec.volumes[1].hostPath: so")]
    both = ("spec.volumes[0].hostPath: it reaches", "spec.volumes[1].hostPath: so")
    assert raised(both) == warned
    assert raised(None) == warned, "who does not judge leaves it alone"
    assert settle(world.view, world.plan(), concerns=both).status is None
    assert raised(()) == []


# ---- order and revisions ---------------------------------------------------------------------------------------------


def test_restarts_of_containers_count_before_those_of_native_sidecars() -> None:
    def restarted(regular: int, native: int, ordinary: int) -> Pod:
        init = [{"name": "n", "restartPolicy": "Always"}, {"name": "o"}]
        status = {
            "containerStatuses": [{"name": "a", "restartCount": regular}, {"name": "b"}],
            "initContainerStatuses": [{"name": "n", "restartCount": native}, {"name": "o", "restartCount": ordinary}],
        }
        return decode_as(Pod, orjson.dumps({"spec": {"initContainers": init}, "status": status}))

    pods = [restarted(1, 0, 9), restarted(0, 5, 0), restarted(1, 2, 0), restarted(0, 0, 0)]
    assert sorted(range(4), key=lambda i: default_rank(pods[i])) == [2, 0, 1, 3]


def revision_of(number: int, image: str, **labels: str) -> ControllerRevision:
    data = new_revision(world_of(0, image=image).set(), namespace="system", number=number, collision_count=0)["data"]
    meta = {"name": f"r{number}", "namespace": "system", "labels": {"kruise.io/sidecarset-name": "mesh", **labels}}
    found = decode_as(ControllerRevision, orjson.dumps({"metadata": meta, "revision": number}))
    return msgspec.structs.replace(found, data=data)


def test_revisions_that_pods_were_injected_from_are_kept() -> None:
    one = world_of(0, image="sidecar:9").set()
    one = msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, revision_history_limit=2))
    listed = [revision_of(number, f"sidecar:{number}") for number in range(1, 5)]
    chosen = choose_revision(one, listed, "system")
    assert [obj.metadata.name for obj in surplus(one, chosen, ())] == ["r1", "r2", "r3"]
    assert [obj.metadata.name for obj in surplus(one, chosen, {"r2"})] == ["r1", "r3", "r4"]


def test_a_rollback_to_a_new_custom_version_is_one_patch() -> None:
    one = world_of(0, image="sidecar:1").set()
    one = msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, custom_version="v2"))
    listed = [revision_of(number, f"sidecar:{number}") for number in (1, 2)]
    chosen = choose_revision(one, listed, "system")
    (patch,) = [write.patch for write in chosen.writes if isinstance(write, BumpRevision)]
    assert patch["revision"] == 3
    assert patch["metadata"]["labels"] == {"apps.kruise.io/sidecarset-custom-version": "v2"}
    assert [ref["uid"] for ref in patch["metadata"]["ownerReferences"]] == ["set"]  # nobody owned it


# ---- cost ------------------------------------------------------------------------------------------------------------


def events_of(world: SidecarWorld, key: Key) -> int:
    """How many lines of Python one event of a pod costs."""
    lines = 0

    def count(_frame: Any, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    pods = [world.typed(key), world.typed(key)]
    for pod in pods:
        world.view.set_pod(key, pod)
    pod = world.typed(key)
    old = sys.gettrace()
    sys.settrace(count)
    try:
        world.view.set_pod(key, pod)
        world.plan()
    finally:
        sys.settrace(old)
    return lines


def test_a_pod_event_costs_the_same_with_10_and_with_1000_pods() -> None:
    small, large = world_of(10), world_of(1000)
    for world in (small, large):
        world.edit(image="sidecar:2", maxUnavailable=1)
    assert events_of(large, Key("one", "p3")) <= events_of(small, Key("one", "p3")) + 10


def test_an_unrelated_pod_asks_no_selector() -> None:
    index = SetIndex()
    for number in range(100):
        index.put(f"s{number}", Matcher.of({"selector": {"matchLabels": {"app": f"a{number}"}}}))
    index.put("in", Matcher.of({"selector": {"matchExpressions": [{"key": "t", "operator": "In", "values": ["x"]}]}}))
    index.put("has", Matcher.of({"selector": {"matchExpressions": [{"key": "k", "operator": "Exists"}]}}))
    assert index.sets_for({"app": "other", "pod-template-hash": "1"}) == frozenset()
    assert index.sets_for({"app": "a7", "t": "x", "k": ""}) == {"s7", "in", "has"}
    index.put("none", Matcher.of({"selector": {"matchExpressions": [{"key": "k", "operator": "DoesNotExist"}]}}))
    assert index.sets_for({}) == {"none"}
    index.put("s7", Matcher.of({"selector": {"matchLabels": {"app": "moved"}}}))
    assert index.sets_for({"app": "a7", "t": "x", "k": ""}) == {"in", "has", "none"}
    for name in ("none", "in", "has", *(f"s{number}" for number in range(100))):
        index.drop(name)
    assert index.sets_for({"app": "a7", "t": "x", "k": ""}) == frozenset()
    index.put("empty", Matcher.of({"selector": {}}))
    assert index.sets_for({"app": "a"}) == frozenset()


def test_a_view_asks_for_all_pods_when_its_selector_changes() -> None:
    world = world_of(2)
    one = world.set()
    assert not world.view.set_set(one)
    plain = world.body

    def other() -> Any:
        found = plain()
        found["spec"]["selector"] = {"matchLabels": {"app": "else"}}
        return found

    world.body = other  # type: ignore[method-assign]
    assert world.view.set_set(world.set())
    assert world.view.count(m.MATCHED) == 0
    assert View.of(world.set(), [], SPACES, revision="rev").difference(world.view) == ""
