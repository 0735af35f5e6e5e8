"""What may still go down by a write of unknown outcome counts as down (S2; reliability, rule 5)."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kruise.apis.core import Pod
from kruise.controllers.statefulset.actions import Chain, DeletePod, Failure, PatchPod, Why
from kruise.controllers.statefulset.plan import Plan, plan
from kruise.controllers.statefulset.risks import Risks
from kruise.runtime.errors import RuntimeFault, UnknownOutcome
from tests.property.asts_model import SetWorld
from tests.unit.controllers.test_asts_plan import SPECIFIED, grown, started, steps

LOST = UnknownOutcome("delete pods default/web-2", RuntimeFault("reset"))


def unsure(world: SetWorld, *names: str, **options: Any) -> Plan:
    return plan(world.view, world.now, unsure=frozenset(names), **options)


def deletion(world: SetWorld, ordinal: int, *, error: Exception = LOST, disrupts: bool = True) -> Failure:
    pod = world.view.slot(ordinal).pod
    assert isinstance(pod, Pod)
    step = DeletePod(pod, Why.UPDATE, disrupts)
    return Failure(Chain(ordinal, pod.metadata.name, (step,)), step, error)


def test_s2_a_pod_that_may_still_go_down_uses_the_budget_though_nobody_wants_it_any_more() -> None:
    world = grown(3, rolling={"podUpdatePolicy": "ReCreate"})
    world.label(0, SPECIFIED, "true")
    assert started(world.plan()) == []
    assert steps(unsure(world, "web-2")) == [], "web-0 has to wait"
    assert steps(world.plan()) == [(0, "DeletePod", Why.SPECIFIED)]


def test_s2_the_pod_at_risk_itself_is_tried_again() -> None:
    for policy in ("ReCreate", "InPlaceIfPossible"):
        world = grown(3, rolling={"podUpdatePolicy": policy})
        world.set_image("two")
        assert started(unsure(world, "web-2")) == [2]
        assert started(unsure(world, "web-1")) == [], "what comes first has no room, and web-1 not its turn"
    world = grown(3)
    for ordinal in range(3):
        world.label(ordinal, SPECIFIED, "true")
    assert [o for o, _, why in steps(unsure(world, "web-0")) if why is Why.SPECIFIED] == [0]


def test_s2_a_larger_budget_has_room_beside_a_risk() -> None:
    world = grown(4, podManagementPolicy="Parallel", rolling={"maxUnavailable": 2})
    world.set_image("two")
    assert started(unsure(world, "web-0")) == [3]
    assert started(unsure(world, "web-3")) == [3, 2]
    assert started(unsure(world, "web-9", "other-1")) == [3, 2], "no pod of the range"


def test_rule5_a_risk_ends_with_its_version_its_pod_or_its_time() -> None:
    world = grown(3)
    pods = {slot.name: slot.pod for slot in world.view.slots()}
    risks = Risks()
    risks.failed(deletion(world, 2), 10.0)
    assert risks.next_due(20.0) == 50.0
    assert risks.unsure(69.0, pods.get) == {"web-2"}
    assert risks.unsure(70.0, pods.get) == frozenset()
    assert len(risks) == 0
    assert risks.next_due(70.0) is None
    pod = pods["web-2"]
    newer = replace(pod, metadata=replace(pod.metadata, resource_version="999"))
    other = replace(pod, metadata=replace(pod.metadata, uid="another"))
    for now in (newer, other, None):
        risks.failed(deletion(world, 2), 10.0)
        assert risks.unsure(11.0, {"web-2": now}.get) == frozenset(), "the precondition of the write does not hold"


def test_rule5_only_a_disruption_of_unknown_outcome_is_a_risk() -> None:
    world = grown(3)
    risks = Risks()
    risks.failed(deletion(world, 2, error=RuntimeFault("no")), 0.0)
    risks.failed(deletion(world, 2, disrupts=False), 0.0)
    pod = world.view.slot(1).pod
    assert isinstance(pod, Pod)
    step = PatchPod(pod, (), Why.REFRESH)
    risks.failed(Failure(Chain(1, "web-1", (step,)), step, LOST), 0.0)
    assert len(risks) == 0
