"""The checkers that only a simulation has: each has a history that it must reject, and a near miss that it accepts."""

from __future__ import annotations

from typing import Any

from kruise.runtime.objects import Key
from kruise.simulator.faults import NO_FAULT, OnChunk, OnWrite, Plan, View
from kruise.simulator.invariants.model import Observed, World
from kruise.simulator.scenario_checks import JOBS, Counted

KEY = Key("default", "sweep")


def body(name: str, uid: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "uid": uid, **more.pop("meta", {})}, **more}


def pod(phase: str = "Running") -> dict[str, Any]:
    ref = {"kind": "BroadcastJob", "name": "sweep", "uid": "j", "controller": True}
    return body("p", "p", meta={"ownerReferences": [ref]}, status={"phase": phase})


def judge(world: World, checker: Counted, active: int, time: float) -> list[str]:
    job = body("sweep", "j", status={"active": active})
    checker.on_commit(Observed(9, "update", JOBS, KEY, body("sweep", "j"), job, actor="m", time=time), world)
    return [v.invariant for v in checker.take()]


def test_b8_a_status_that_counts_a_pod_that_never_was_is_rejected() -> None:
    world, checker = World(), Counted(lambda actor: actor == "m", slack=5.0)
    assert judge(world, checker, 1, 0.0) == ["B8"]
    assert judge(world, checker, 0, 0.0) == []
    world.load("pods", [pod()])
    assert judge(world, checker, 1, 0.0) == []
    assert judge(world, checker, 2, 0.0) == ["B8"]


def test_b8_a_pod_that_ended_a_moment_ago_may_still_be_counted() -> None:
    world, checker = World(), Counted(lambda actor: actor == "m", slack=5.0)
    world.load("pods", [pod()])
    ended = Observed(8, "update", "pods", Key("default", "p"), pod(), pod("Succeeded"), time=10.0)
    checker.on_commit(ended, world)
    world.apply(ended)
    assert judge(world, checker, 1, 14.0) == []
    assert judge(world, checker, 1, 16.0) == ["B8"]


def test_a_plan_knows_how_old_a_view_may_be() -> None:
    assert NO_FAULT.staleness() == 0
    assert Plan(writes={1: OnWrite.CONFLICT}, chunks={1: OnChunk.TWICE}).staleness() == 0
    assert Plan(views=(View.LAGGING,), lag=3.0).staleness() == 3.0
    assert Plan(pauses=((1.0, 30.0),)).staleness() == 30.0
    assert Plan(chunks={1: OnChunk.STALL}).staleness() > 70.0
