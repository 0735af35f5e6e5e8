"""The planner of SidecarSets around random users, kubelets and broken pods.

After every event: a view that was told every change equals one built anew; no plan lets more working pods go than the
budget allows (C5), in another order than the documented one, or anything while the set is paused; planning again and
again without any event in between comes to an end at once; and what is allowed and needed is in the plan. From every
state that is reached, well-behaved kubelets lead to what the spec wants.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kruise.apis.intorstring import sidecarset_max_unavailable, sidecarset_partition
from kruise.apis.sidecarset import INPLACE_STATE_ANNOTATION, WORKING_HOT_ANNOTATION
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.actions import Why
from kruise.controllers.sidecarset.explain import Facts, explain
from kruise.controllers.sidecarset.plan import Plan, ordered
from kruise.controllers.sidecarset.podstate import twins_of
from kruise.controllers.sidecarset.status import settle, wire
from kruise.runtime.objects import Key
from tests.property.scs_model import BAD, SidecarWorld

PODS = st.integers(0, 7)
GOOD = ("sidecar:1", "sidecar:2", "sidecar:3")

EVENTS = st.one_of(
    st.just(("pass",)),
    st.just(("pass",)),
    st.tuples(st.just("partly"), st.integers(0, 2)),
    st.just(("kubelets",)),
    st.tuples(st.just("kubelet"), PODS),
    st.tuples(st.just("unready"), PODS),
    st.tuples(st.just("create"), PODS),
    st.tuples(st.just("gone"), PODS),
    st.tuples(st.just("delete"), PODS),
    st.tuples(st.just("unreadable"), PODS),
    st.tuples(st.just("relabel"), PODS, st.sampled_from(["1", "7", "x12"])),
    st.tuples(st.just("stray"), PODS),
    st.tuples(st.just("note"), PODS, st.sampled_from(["", "null", "{}", "{", '{"side":"web"}'])),
    st.tuples(st.just("image"), st.sampled_from([*GOOD, BAD])),
    st.tuples(st.just("env"), st.sampled_from("01")),
    st.tuples(st.just("hot"), st.booleans()),
    st.tuples(st.just("side"), st.sampled_from(["side", "other"])),
    st.tuples(st.just("partition"), st.sampled_from([0, 2, "50%"])),
    st.tuples(st.just("maxUnavailable"), st.sampled_from([1, 2, "50%", "0%"])),
    st.tuples(st.just("paused"), st.booleans()),
    st.tuples(st.just("type"), st.sampled_from(["RollingUpdate", "RollingUpdate", "NotUpdate"])),
    st.tuples(st.just("selector"), st.sampled_from([None, {"matchLabels": {"order": "7"}}])),
    st.tuples(st.just("namespace"), st.sampled_from("ab")),
)


@st.composite
def worlds(draw: st.DrawFn) -> SidecarWorld:
    strategy: dict[str, Any] = {"maxUnavailable": draw(st.sampled_from([1, 2, "50%"]))}
    if draw(st.booleans()):
        strategy["priorityStrategy"] = {"orderPriority": [{"orderedKey": "order"}]}
    if draw(st.integers(0, 2)) == 0:
        strategy["scatterStrategy"] = [{"key": "zone", "value": "*"}]
    world = SidecarWorld(hot=draw(st.booleans()), **strategy)
    for at in range(draw(st.integers(0, 7))):
        world.create(at, zone="xyz"[at % 3], order=str(at % 2))
    if draw(st.booleans()):
        world.edit(image="sidecar:2")
    return world


def happen(world: SidecarWorld, event: tuple[Any, ...]) -> None:
    """Let one thing happen."""
    kind, value = event[0], event[1] if len(event) > 1 else None
    if kind == "pass":
        world.apply(world.plan().changes)
    elif kind == "partly":  # the manager dies in the middle of a pass
        world.apply(world.plan().changes[:value])
    elif kind == "kubelets":
        for key in list(world.pods):
            world.kubelet(key)
    elif kind in ("image", "env", "hot", "side", "partition", "maxUnavailable", "paused", "type", "selector"):
        world.edit(**{kind: value})
    elif kind == "namespace":
        world.view.set_namespace("two", {"tier": value})
        world.view.set_namespace("two", {"tier": "b"})
    elif kind == "create":
        if not any(key.name == f"p{value}" for key in world.pods):
            world.create(value, order="7")
    else:
        for key in [key for key in world.pods if key.name == f"p{value}"]:
            on_pod(world, kind, key, event)


def on_pod(world: SidecarWorld, kind: str, key: Key, event: tuple[Any, ...]) -> None:
    metadata = world.pods[key]["metadata"]
    match kind:
        case "kubelet":
            world.kubelet(key)
        case "unready":
            world.unready(key)
        case "gone":
            world.forget(key)
        case "delete":
            metadata["deletionTimestamp"] = "2027-01-15T08:00:00Z"
        case "unreadable":
            world.unreadable ^= {key}
        case "relabel":
            metadata["labels"]["order"] = event[2]
        case "stray":
            metadata["labels"]["app"] = "other" if metadata["labels"]["app"] == "shop" else "shop"
        case "note":
            if world.hot:
                metadata["annotations"][WORKING_HOT_ANNOTATION] = event[2]
            elif event[2] in ("null", "{}"):  # one that cannot be read stops the pod until somebody mends it (9.3)
                metadata["annotations"][INPLACE_STATE_ANNOTATION] = event[2]
    world.tell(key)


def check(world: SidecarWorld) -> None:
    """What must hold after every event."""
    view = world.rebuilt()
    assert world.view.difference(view) == ""
    found = world.plan()
    check_budget(world, found)
    check_order(world, found)
    check_words(world, found)
    strategy = world.strategy
    if strategy.get("paused") or strategy["type"] == "NotUpdate":
        assert found.empty


def check_budget(world: SidecarWorld, found: Plan) -> None:
    """C5, counted over the pods themselves."""
    view = world.rebuilt()
    matched = view.count(m.MATCHED)
    limit = sidecarset_max_unavailable(world.strategy.get("maxUnavailable"), matched).value
    taken = [view.get(change.pod.key) for change in found.of(Why.UPGRADE)]
    working = sum(1 for slot in taken if slot is not None and slot.has(m.UP))
    assert working == 0 or view.count(m.BUSY) + working <= limit
    kept = sidecarset_partition(world.strategy.get("partition"), matched).value
    assert not taken or len(view.waiting) - len(taken) >= kept
    if found.of(Why.FLIP) or found.of(Why.REPAIR):
        assert not taken


def check_order(world: SidecarWorld, found: Plan) -> None:
    """The pods are the first ones in order, and as many as are allowed."""
    taken = [change.pod.key for change in found.of(Why.UPGRADE)]
    order = list(ordered(world.rebuilt()))
    assert taken == order[: len(taken)]
    if len(taken) == len(order) or found.of(Why.FLIP) or found.of(Why.REPAIR):
        return
    view, strategy = world.rebuilt(), world.strategy
    kept = sidecarset_partition(strategy.get("partition"), view.count(m.MATCHED)).value
    if strategy.get("paused") or strategy["type"] == "NotUpdate" or len(taken) >= len(order) - kept:
        return
    following = view.get(order[len(taken)])
    assert following is not None
    limit = sidecarset_max_unavailable(strategy.get("maxUnavailable"), view.count(m.MATCHED)).value
    working = sum(1 for key in taken if (slot := view.get(key)) is not None and slot.has(m.UP))
    assert following.has(m.UP), "a pod that does not work is free"
    assert view.count(m.BUSY) + working >= limit, "there is room for one more"


def check_words(world: SidecarWorld, found: Plan) -> None:
    """Every pod that is not as desired has one reason; the status says the same twice."""
    acted = frozenset(change.pod.key for change in found.changes)
    told = [one.subject for one in explain(world.view, Facts(acted=acted))]
    assert len(told) == len(set(told))
    expected = {
        f"pod {slot.key}"
        for slot in world.view.slots()
        if slot.has(m.MATCHED) and not (slot.has(m.UPDATED) and slot.has(m.READY))
    }
    assert expected <= set(told)
    status = settle(world.view, found).status
    assert status is not None
    assert [one.type for one in status.conditions] == ["Available", "Progressing", "Injected"]
    assert all(one.reason and len(one.message) <= 1024 for one in status.conditions)
    assert wire(status)["matchedPods"] == world.view.count(m.MATCHED)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(world=worlds(), events=st.lists(EVENTS, max_size=25))
def test_c5_order_budget_and_progress(world: SidecarWorld, events: list[tuple[Any, ...]]) -> None:
    check(world)
    for event in events:
        happen(world, event)
        check(world)
    for _ in range(4):  # without an event in between it ends at once: ends, then the upgrades that they allow
        found = world.plan()
        world.apply(found.changes)
        check(world)
        if found.empty:
            break
    assert world.plan().empty
    heal(world)


def heal(world: SidecarWorld) -> None:
    """L1, L4: with a good image and nothing that holds it back, every pod that can get it has it."""
    world.unreadable.clear()
    for key in list(world.pods):
        world.tell(key)
    world.edit(paused=False, type="RollingUpdate", partition=0, selector=None, maxUnavailable=1, image="sidecar:9")
    world.settle()
    for slot in world.view.slots():
        if not slot.has(m.MATCHED) or slot.has(m.IMMUTABLE):
            continue
        assert slot.has(m.UPDATED_READY), slot
        pod = world.view.pod(slot.key)
        for target in world.view.frame.targets:
            images = {container.name: container.image for container in pod.spec.containers}
            if target.hot:
                twins = twins_of(target, pod)
                assert (twins.worker.image, twins.other.image) == (target.image, target.empty)
            else:
                assert images[target.name] == target.image
    assert world.view.difference(world.rebuilt()) == ""
