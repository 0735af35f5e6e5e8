"""A pod in random company: hooks, template changes, deletions that come and go, crashes, a kubelet that takes its time.

After every single write, and so after every place at which a manager can die:

* G4: the write changed something.
* S4: containers change only in a version in which the gate and Ready are False; the gate opens only when the kubelet
  reports what the spec asks for.
* The revision label says the truth: the containers are those of that revision, but for what the pod's own annotations
  still hold back.

And at the end (X6, L4, rule 29): once nobody holds the pod any more, it becomes Normal and ready, on the wanted
revision.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from kruise.apis.core import Pod
from kruise.apis.statefulset import Lifecycle, LifecycleHook
from kruise.controllers.common.inplace.complete import completion
from kruise.controllers.common.inplace.flow import Flow, Outcome, delete_step, refresh, start
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.spec import update_spec
from kruise.controllers.common.lifecycle import State, first_state, state_fields, state_of
from kruise.controllers.common.readiness import condition_of, keys_of
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.objects import ObjectMeta
from tests.golden.pod_flow import after_write
from tests.unit.controllers.pod_life import BOTH_GATES, NOW, container, report, revision_data, template

JSON = dict[str, Any]
LABEL = "controller-revision-hash"
HELD = {"hold": "yes"}


def _env(place: int) -> list[JSON]:
    key = {"name": "barrier", "key": f"p_{place}"}
    return [{"name": "KRUISE_CONTAINER_BARRIER", "valueFrom": {"configMapKeyRef": key}}]


def _revision(x: str, y: str, note: str, gates: tuple[str, ...]) -> JSON:
    return template(
        container("x", x, env=_env(2)), container("y", y, env=_env(1)), gates=gates, annotations={"note": note}
    )


def _revisions(gates: tuple[str, ...]) -> dict[str, JSON]:
    return {
        "r1": _revision("x:1", "y:1", "a", gates),
        "r2": _revision("x:2", "y:1", "a", gates),
        "r3": _revision("x:2", "y:2", "b", gates),
        "r4": _revision("x:1", "y:1", "b", gates),
    }


HOOKS = (
    None,
    LifecycleHook(),
    LifecycleHook(labels_handler=HELD),
    LifecycleHook(labels_handler=HELD, mark_pod_not_ready=True),
    LifecycleHook(labels_handler=HELD, finalizers_handler=("x/hold",), mark_pod_not_ready=True),
)
lifecycles = st.none() | st.builds(
    Lifecycle,
    pre_delete=st.sampled_from(HOOKS),
    in_place_update=st.sampled_from(HOOKS),
    pre_normal=st.sampled_from(HOOKS),
)
moves = st.one_of(
    st.tuples(st.just("manager"), st.sampled_from([None, None, None, 0, 1, 2])),
    st.tuples(st.just("kubelet"), st.sampled_from([("x",), ("y",), ("x", "y")])),
    st.tuples(st.just("wanted"), st.sampled_from(["r1", "r2", "r3", "r4"])),
    st.tuples(st.just("grace"), st.sampled_from([0, 20])),
    st.tuples(st.just("hook"), st.booleans()),
    st.tuples(st.just("finalizer"), st.booleans()),
    st.tuples(st.just("lifecycle"), lifecycles),
    st.tuples(st.just("delete"), st.booleans()),
    st.tuples(st.just("update"), st.booleans()),
    st.tuples(st.just("merged"), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([5, 20])),
    st.tuples(st.just("bind"), st.none()),
)


@dataclass
class Pet:
    """A pod, and what is wanted of it."""

    gated: tuple[str, ...]
    lifecycle: Lifecycle | None
    labelled: bool
    wanted: str = "r1"
    grace: int = 0
    merged: bool = True
    delete: bool = False
    update: bool = True
    now: float = NOW
    pod: JSON = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.revisions = _revisions(self.gated)
        body = deepcopy(self.revisions["r1"])
        meta = body["metadata"]
        meta.update(name="web-0", namespace="ns", uid="u", resourceVersion="1")
        meta["labels"][LABEL] = "r1"
        if self.labelled:
            fields = state_fields(first_state(self.lifecycle, ObjectMeta(labels=meta["labels"])), self.now)
            meta["labels"].update(fields["labels"])
            meta["annotations"].update(fields["annotations"])
        body["status"] = {"phase": "Pending"}
        self.pod = body

    @property
    def gates(self) -> Gates:
        return Gates(merged_status_patch=self.merged, server_version="v1.37.2")

    def seen(self) -> Pod:
        return decode_as(Pod, orjson.dumps(self.pod))

    def decide(self) -> Flow:
        pod, wanted = self.seen(), self.wanted
        revision = pod.metadata.labels[LABEL]
        if self.delete:
            flow = delete_step(pod, lifecycle=self.lifecycle, now=self.now, gates=self.gates)
            if flow.writes:
                return flow
        elif self.update and revision != wanted:
            spec = update_spec(
                revision_data(self.revisions[revision]),
                revision_data(self.revisions[wanted]),
                revision=wanted,
                gates=self.gates,
                grace_seconds=self.grace,
            )
            flow = start(pod, spec, lifecycle=self.lifecycle, now=self.now, gates=self.gates)
            assert flow.outcome not in (Outcome.RECREATE, Outcome.REFUSED), flow
            if flow.writes:
                return flow
        return refresh(
            pod,
            lifecycle=self.lifecycle,
            update_revision=wanted,
            now=self.now,
            gates=self.gates,
            update_wanted=self.update,
            deletion_wanted=self.delete,
        )

    def act(self, flow: Flow, first: int | None = None) -> None:
        for write in flow.writes[:first]:
            before = self.pod
            self.pod = after_write(before, write)
            assert self.pod != before, f"a write that changes nothing: {write}"
            self.check(before)

    def check(self, before: JSON) -> None:
        old, new = decode_as(Pod, orjson.dumps(before)), self.seen()
        images = {c.name: c.image for c in new.spec.containers}
        if "InPlaceUpdateReady" in self.gated:
            gate, ready = condition_of(old, "InPlaceUpdateReady"), condition_of(old, "Ready")
            if images != {c.name: c.image for c in old.spec.containers}:
                assert gate is not None
                assert gate.status == "False"
                assert ready is None or ready.status == "False"
            after = condition_of(new, "InPlaceUpdateReady")
            if after is not None and after.status == "True" and (gate is None or gate.status != "True"):
                assert completion(new, self.gates).done
                assert old.spec.node_name
        annotations = self.pod["metadata"]["annotations"]
        pending = json.loads(annotations.get("apps.kruise.io/inplace-update-grace", "{}")).get("containerImages", {})
        state = json.loads(annotations.get("apps.kruise.io/inplace-update-state", "{}"))
        pending |= state.get("nextContainerImages", {})
        named = self.revisions[new.metadata.labels[LABEL]]["spec"]["containers"]
        assert {**images, **pending} == {c["name"]: c["image"] for c in named}
        assert state_of(new.metadata) is not State.FOREIGN

    def kubelet(self, *names: str) -> None:
        """Let the kubelet bring the containers *names* to their images, if the pod has a node."""
        if not self.pod["spec"].get("nodeName"):
            return
        pod = deepcopy(self.pod)
        had = {one["name"]: one for one in pod["status"].get("containerStatuses", [])}
        report(pod)
        pod["status"]["containerStatuses"] = [
            one if one["name"] in names else had.get(one["name"], one) for one in pod["status"]["containerStatuses"]
        ]
        self.pod = pod

    def hold(self, on: bool) -> None:
        labels = self.pod["metadata"]["labels"]
        labels.pop("hold", None)
        if on:
            labels["hold"] = "yes"

    def do(self, move: str, value: Any) -> None:
        match move:
            case "manager":
                self.act(self.decide(), value)
            case "kubelet":
                self.kubelet(*value)
            case "hook":
                self.hold(value)
            case "finalizer":
                self.pod["metadata"]["finalizers"] = ["x/hold"] if value else []
            case "time":
                self.now += value
            case "bind":
                self.pod["spec"]["nodeName"] = "n1"
            case _:
                setattr(self, move, value)

    def settle(self) -> None:
        for _ in range(60):
            flow = self.decide()
            assert not flow.error
            self.act(flow)
            if flow.delay:
                self.now += flow.delay
            before = self.pod
            self.kubelet("x", "y")
            if not flow.writes and self.pod == before:
                return
        raise AssertionError("it never ends")


@given(
    gated=st.sampled_from([(), ("InPlaceUpdateReady",), BOTH_GATES]),
    lifecycle=lifecycles,
    labelled=st.booleans(),
    script=st.lists(moves, max_size=25),
)
def test_x6_s4_a_pod_that_nobody_holds_ends_normal(
    gated: tuple[str, ...], lifecycle: Lifecycle | None, labelled: bool, script: list[tuple[str, Any]]
) -> None:
    pet = Pet(gated, lifecycle, labelled)
    for move, value in script:
        pet.do(move, value)
    pet.do("bind", None)
    pet.lifecycle, pet.delete, pet.update = None, False, True
    pet.settle()
    pod = pet.seen()
    assert state_of(pod.metadata) in (State.NORMAL, State.NONE)
    assert pod.metadata.labels[LABEL] == pet.wanted
    named = pet.revisions[pet.wanted]
    assert {c.name: c.image for c in pod.spec.containers} == {
        c["name"]: c["image"] for c in named["spec"]["containers"]
    }
    assert pod.metadata.annotations["note"] == named["metadata"]["annotations"]["note"]
    assert keys_of(pod) == ()
    assert completion(pod, pet.gates).done
    for kind in (*pet.gated, "Ready"):
        found = condition_of(pod, kind)
        assert found is not None
        assert found.status == "True", kind


@given(lifecycle=lifecycles, script=st.lists(moves, max_size=20))
def test_g4_planning_again_after_the_writes_yields_nothing_new(
    lifecycle: Lifecycle | None, script: list[tuple[str, Any]]
) -> None:
    pet = Pet(BOTH_GATES, lifecycle, labelled=True)
    for move, value in script:
        pet.do(move, value)
    for _ in range(8):
        flow = pet.decide()
        pet.act(flow)
        if not flow.writes:
            return
    raise AssertionError("the manager alone never comes to rest")
