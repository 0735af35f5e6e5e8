"""The planner of StatefulSets around random users, kubelets and clocks.

After every event: a view that was told every change equals one built anew; no plan takes down more than the budget
allows (S2), in another order than the documented one (S3), or anything while paused; applying a plan again and again
without any event in between comes to an end at once; and whatever is allowed and needed is in the plan (L7). From every
state that is reached, well-behaved kubelets lead to what the spec wants (L1, L4).
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kruise.controllers.statefulset.actions import Chain, DeletePod, PatchPod, Why
from kruise.controllers.statefulset.plan import Plan
from kruise.controllers.statefulset.view import View
from tests.property.asts_model import BAD, HOOK, SetWorld

MAX_REPLICAS = 5
ORDINALS = st.integers(0, MAX_REPLICAS + 1)
SPECIFIED = "apps.kruise.io/specified-delete"

HOOKS: dict[str, Any] = {
    "preDelete": {"labelsHandler": {HOOK: "on"}},
    "inPlaceUpdate": {"labelsHandler": {HOOK: "on"}},
}


@st.composite
def sets(draw: st.DrawFn) -> SetWorld:
    parallel = draw(st.booleans())
    rolling: dict[str, Any] = {
        "podUpdatePolicy": draw(st.sampled_from(["ReCreate", "InPlaceIfPossible", "InPlaceOnly"])),
        "maxUnavailable": draw(st.sampled_from([1, 2, "50%"])) if parallel else 1,
        "minReadySeconds": draw(st.sampled_from([0, 10])),
        "partition": draw(st.integers(0, 3)),
    }
    if draw(st.booleans()):
        rolling["inPlaceUpdateStrategy"] = {"gracePeriodSeconds": 5}
    if parallel and draw(st.booleans()):
        rolling["unorderedUpdate"] = {"priorityStrategy": {"orderPriority": [{"orderedKey": "order"}]}}
    spec: dict[str, Any] = {
        "replicas": draw(st.integers(2, MAX_REPLICAS)),
        "podManagementPolicy": "Parallel" if parallel else "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
    }
    if parallel and draw(st.booleans()):
        spec["scaleStrategy"] = {"maxUnavailable": 2}
    if draw(st.integers(0, 3)) == 0:
        spec["lifecycle"] = HOOKS
    if draw(st.booleans()):
        spec["persistentVolumeClaimRetentionPolicy"] = {"whenScaled": "Delete", "whenDeleted": "Retain"}
    world = SetWorld(gated=draw(st.booleans()), claims=draw(st.booleans()), **spec)
    if draw(st.integers(0, 4)):
        grow(world)
        if draw(st.booleans()):
            world.set_image("two")
    return world


def grow(world: SetWorld) -> None:
    """Let the set come to be, undisturbed."""
    for _ in range(4 * MAX_REPLICAS):
        world.once()
        world.settle_nodes()


EVENTS = st.one_of(
    st.just(("pass",)),
    st.just(("pass",)),
    st.just(("pass",)),
    st.just(("nodes",)),
    st.tuples(st.just("partly"), st.integers(0, 3)),
    st.tuples(st.just("kubelet"), ORDINALS),
    st.tuples(st.just("unready"), ORDINALS),
    st.tuples(st.just("gone"), ORDINALS),
    st.tuples(st.just("fail"), ORDINALS),
    st.tuples(st.just("delete"), ORDINALS),
    st.tuples(st.just("specify"), ORDINALS),
    st.tuples(st.just("unreadable"), ORDINALS),
    st.tuples(st.just("hook"), ORDINALS),
    st.tuples(st.just("order"), ORDINALS, st.sampled_from(["1", "7", "x12"])),
    st.tuples(st.just("tick"), st.sampled_from([1, 4, 11])),
    st.tuples(st.just("image"), st.sampled_from(["one", "two", "three", BAD])),
    st.tuples(st.just("scale"), st.integers(0, MAX_REPLICAS)),
    st.tuples(st.just("partition"), st.integers(0, MAX_REPLICAS)),
    st.tuples(st.just("pause"), st.booleans()),
    st.tuples(st.just("reserve"), st.sets(st.integers(0, 4), max_size=2)),
)


def happen(world: SetWorld, event: tuple[Any, ...]) -> None:
    """Let one thing happen."""
    kind, at = event[0], event[1] if len(event) > 1 else -1
    if kind == "pass":
        world.once()
    elif kind == "partly":  # the manager dies in the middle of a pass
        world.apply(world.plan().chains[:at])
    elif kind == "nodes":
        world.settle_nodes()
    elif kind == "tick":
        world.tick(at)
    elif kind == "image":
        world.set_image(at)
    elif kind == "scale":
        world.edit(replicas=at)
    elif kind == "partition":
        world.roll(partition=at)
    elif kind == "pause":
        world.roll(paused=at)
    elif kind == "reserve":
        world.edit(reserveOrdinals=sorted(at))
    elif at in world.pods:
        on_pod(world, kind, at, event)


def on_pod(world: SetWorld, kind: str, at: int, event: tuple[Any, ...]) -> None:
    match kind:
        case "kubelet" | "unready":
            world.kubelet(at, ready=kind == "kubelet")
        case "gone":
            world.gone(at)
        case "fail":
            world.fail(at)
        case "delete":
            world.delete(at)
        case "specify":
            world.label(at, SPECIFIED, "true")
        case "unreadable":
            world.unreadable ^= {at}
            world.tell(at)
        case "hook":
            on = HOOK in world.pods[at]["metadata"].get("labels", {})
            world.label(at, HOOK, None if on else "on")
        case "order":
            world.label(at, "order", event[2])


histories = given(world=sets(), events=st.lists(EVENTS, min_size=8, max_size=30))
RUNS = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def disrupted(world: SetWorld, planned: Plan) -> dict[int, Why]:
    """The pods of the range that the plan takes down or may take down, and what for."""
    found: dict[int, Why] = {}
    for chain in planned.chains:
        for step in chain.steps:
            if chain.ordinal in world.valid() and isinstance(step, DeletePod | PatchPod) and step.disrupts:
                found[chain.ordinal] = step.why
    return found


# ---- what must hold after every event --------------------------------------------------------------------------------


def check_budget(world: SetWorld, planned: Plan) -> None:
    """S2, X1: what is up and taken down, with all that is not up, is within the budget."""
    taken = [o for o, why in disrupted(world, planned).items() if world.up(o) and why is not Why.FAILED]
    down = sum(1 for o in world.valid() if not world.up(o))
    if taken:
        assert down + len(taken) <= world.budget(), (taken, down)


def check_order(world: SetWorld, planned: Plan) -> None:
    """S3: updates come from the top of the window, one thing at a time under OrderedReady."""
    taken = disrupted(world, planned)
    updates = {o for o, why in taken.items() if why is Why.UPDATE}
    if world.rolling.get("paused"):
        assert not updates
        assert Why.SPECIFIED not in taken.values()
    if "unorderedUpdate" not in world.rolling:
        window = world.window()
        assert updates <= set(window)
        for o in (o for o in updates if world.up(o)):
            higher = [h for h in window[: window.index(o)] if world.outdated(h) and world.up(h)]
            held = [h for h in higher if HOOK in world.pods[h]["metadata"].get("labels", {})]
            assert set(higher) - set(held) <= set(taken) | acted(planned), (o, higher)
    if world.spec["podManagementPolicy"] == "OrderedReady":
        assert len(planned.creates) <= 1
        for chain in planned.creates:
            assert all(world.up(o) for o in world.valid() if o < chain.ordinal)
        condemned = [c.ordinal for c in planned.chains if c.ordinal in world.condemned() and deletes(c)]
        assert len(condemned) <= 1


def acted(planned: Plan) -> set[int]:
    return {chain.ordinal for chain in planned.chains}


def deletes(chain: Chain) -> bool:
    return any(isinstance(step, DeletePod) for step in chain.steps)


def check_progress(world: SetWorld, planned: Plan) -> None:
    """L7: what is allowed and needed is attempted."""
    if world.spec["podManagementPolicy"] == "Parallel":
        missing = [o for o in world.valid() if o not in world.pods]
        if "scaleStrategy" not in world.spec and not planned.obstacles and not stale(world, missing):
            assert [chain.ordinal for chain in planned.creates] == missing
        for o in world.condemned():
            body = world.pods[o]
            held = "lifecycle" in world.spec and HOOK in body["metadata"].get("labels", {})
            if o not in world.unreadable and "deletionTimestamp" not in body["metadata"] and not held:
                assert o in acted(planned), f"condemned pod {o} is left alone"
    calm = all(world.up(o) and world.normal(o) and o not in acted(planned) for o in world.valid())
    if calm and not world.condemned() and not world.rolling.get("paused"):
        reasons = [(d.detail["pod"], d.reason) for d in planned.decisions]
        assert not due(world), reasons


def due(world: SetWorld) -> bool:
    """Tell whether the update has yet to take a pod."""
    if "unorderedUpdate" in world.rolling:
        return sum(1 for o in world.valid() if world.outdated(o)) > int(world.rolling.get("partition", 0))
    return any(world.outdated(o) for o in world.window())


def stale(world: SetWorld, ordinals: list[int]) -> bool:
    """Tell whether a claim of one of *ordinals* waits to be collected with its pod."""
    owned = [c for c in world.claims.values() if c["metadata"].get("ownerReferences")]
    return any(c["metadata"]["name"].endswith(f"-{o}") for c in owned for o in ordinals)


def check_reasons(world: SetWorld, planned: Plan) -> None:
    """Every pod that is not as desired, and for which nothing is done, has a reason."""
    explained = {d.detail["pod"] for d in planned.decisions}
    for o in sorted({*world.valid(), *world.pods}):
        desired = o in world.valid() and world.up(o) and not world.outdated(o)
        if not desired and o not in acted(planned):
            assert f"web-{o}" in explained, o


def check_fixpoint(world: SetWorld) -> None:
    """Planning after the effects comes to nothing: the second time no pod is taken down, and soon nothing is done."""
    last = len(world.pods) + len(world.valid()) + 3
    for again in range(last):
        planned = world.plan()
        if again:
            check_budget(world, planned)
        if planned.empty:
            return
        world.write_status(planned, world.apply(planned.chains))
    raise AssertionError(f"still at work: {world.plan().chains}")


@RUNS
@histories
def test_s2_s3_l7_every_plan_on_the_way(world: SetWorld, events: list[tuple[Any, ...]]) -> None:
    for event in events:
        happen(world, event)
        fresh = world.fresh()
        assert world.view.difference(fresh, world.now) == "", event
        planned = world.plan()
        assert shape(planned) == shape(world.plan(fresh)), "a plan does not depend on how the view came to be"
        check_budget(world, planned)
        check_order(world, planned)
        check_progress(world, planned)
        check_reasons(world, planned)
    check_fixpoint(world)


def shape(planned: Plan) -> list[tuple[Any, ...]]:
    return [(chain.ordinal, [(type(step).__name__, step_of(step)) for step in chain.steps]) for chain in planned.chains]


def step_of(step: Any) -> Any:
    return getattr(step, "writes", None) or getattr(step, "revision", None) or getattr(step, "name", "")


@RUNS
@histories
def test_l1_l4_well_behaved_kubelets_lead_to_the_spec(world: SetWorld, events: list[tuple[Any, ...]]) -> None:
    for event in events:
        happen(world, event)
    world.roll(paused=False)
    if BAD in world.images:
        world.roll(partition=0)  # a pod that is held at a broken revision stays broken
    world.set_image("four")
    for _ in range(60):
        world.once()
        world.settle_nodes()
        if world.spec["podManagementPolicy"] == "OrderedReady":
            world.delete_broken()  # section 16, row 3: OrderedReady waits for a person
        if arrived(world) and world.plan().empty:
            break
    assert arrived(world), [str(d) for d in world.plan().decisions]
    ready = next(c for c in world.status["conditions"] if c["type"] == "Ready")
    world.once()
    ready = next(c for c in world.status["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "True", ready
    check_counts(world)


def arrived(world: SetWorld) -> bool:
    return not due(world) and not world.condemned() and all(world.up(o) for o in world.valid())


def check_counts(world: SetWorld) -> None:
    """S8: the status is a recount."""
    pods = len(world.pods)
    assert world.status["replicas"] == world.status["readyReplicas"] == world.status["availableReplicas"] == pods
    assert world.status["updatedReplicas"] == sum(1 for o in world.pods if not world.outdated(o))


def test_the_view_is_what_the_shell_builds() -> None:
    world = SetWorld()
    assert isinstance(world.fresh(), View)
