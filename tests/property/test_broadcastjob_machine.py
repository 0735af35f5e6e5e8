"""BroadcastJob as a state machine: random users, nodes, pods and faults around the pure planner.

Checked after every step: a view that was told every change equals one that was built anew; parallelism is never
exceeded by a creation (B4); no node gets a second pod (B2); a terminal phase creates nothing (B5); planning again after
the actions took effect does nothing; the status is a recount (B8); and what is allowed and needed is attempted (L7).
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kruise.apis.broadcastjob import BroadcastJob, BroadcastJobStatus
from kruise.apis.core import Node, Pod
from kruise.controllers.broadcastjob.plan import Ending, Plan, Results, is_over, parallelism, plan, settle
from kruise.controllers.broadcastjob.pods import build_pod
from kruise.controllers.broadcastjob.status import wire
from kruise.controllers.broadcastjob.view import PodClass, View
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.objects import Key, ObjectMeta, Unreadable

NODES = [f"n{i}" for i in range(5)]
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "OnFailure", "nodeSelector": {"use": "yes"}},
}


def make_job(**spec: Any) -> BroadcastJob:
    return decode_as(
        BroadcastJob,
        orjson.dumps(
            {
                "metadata": {
                    "namespace": "ns",
                    "name": "job",
                    "uid": "job-uid",
                    "generation": 1,
                    "resourceVersion": "1",
                },
                "spec": {"template": TEMPLATE, **spec},
            }
        ),
    )


def make_node(name: str, serial: int, **parts: Any) -> Node:
    return decode_as(
        Node,
        orjson.dumps(
            {
                "metadata": {"name": name, "uid": f"{name}-{serial}", "labels": {"use": parts.get("use", "yes")}},
                "spec": {"unschedulable": parts.get("cordoned", False), "taints": parts.get("taints", [])},
                "status": {"allocatable": {"pods": "10", "cpu": "4"}},
            }
        ),
    )


class Machine(RuleBasedStateMachine):
    """A cluster of plain objects; nothing is stale here, staleness is the simulation's business."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.nodes: dict[str, Node] = {}
        self.pods: dict[Key, Pod | Unreadable] = {}
        self.serial = 0
        self.generation = 1

    @initialize(
        limit=st.sampled_from([1, 2, "50%", None]),
        policy=st.sampled_from(["FailFast", "Continue", "Pause"]),
        completion=st.sampled_from(["Always", "Never"]),
        deadline=st.sampled_from([None, 40]),
        restarts=st.sampled_from([0, 2]),
    )
    def begin(self, limit: Any, policy: str, completion: str, deadline: int | None, restarts: int) -> None:
        done: dict[str, Any] = {"type": completion}
        if completion == "Always" and deadline is not None:
            done["activeDeadlineSeconds"] = deadline
        self.job = make_job(
            parallelism=limit, failurePolicy={"type": policy, "restartLimit": restarts}, completionPolicy=done
        )
        self.view = View(self.job)

    # The world changes.

    @rule(name=st.sampled_from(NODES), fresh=st.booleans(), use=st.sampled_from(["yes", "no"]), cordoned=st.booleans())
    def node_appears(self, name: str, fresh: bool, use: str, cordoned: bool) -> None:
        if fresh or name not in self.nodes:
            self.serial += 1
            serial = self.serial
        else:
            serial = int(self.nodes[name].metadata.uid.rpartition("-")[2])
        self.nodes[name] = make_node(name, serial, use=use, cordoned=cordoned)
        self.view.set_node(name, self.nodes[name])

    @rule(name=st.sampled_from(NODES))
    def node_goes(self, name: str) -> None:
        self.nodes.pop(name, None)
        self.view.set_node(name, None)

    @precondition(lambda self: self.pods)
    @rule(data=st.data(), restarts=st.integers(0, 3), phase=st.sampled_from(["", "Running", "Succeeded", "Failed"]))
    def kubelet_reports(self, data: st.DataObject, restarts: int, phase: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.pods)))
        pod = self.pods[key]
        if isinstance(pod, Unreadable) or pod.status.phase in ("Succeeded", "Failed"):
            return
        body = msgspec.to_builtins(pod)
        body["status"] = {"phase": phase, "containerStatuses": [{"name": "c", "restartCount": restarts}]}
        self.put(decode_as(Pod, orjson.dumps(body)))

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def user_deletes_pod(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.pods)))
        self.put_deleting(key)

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def pod_goes(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.pods)))
        if self.pods[key].terminating:
            del self.pods[key]
            self.view.set_pod(key, None)

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def pod_breaks(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.pods)))
        meta: ObjectMeta = self.pods[key].metadata
        self.put(Unreadable(metadata=meta, problem="bad", path="$.status"))

    @rule(paused=st.booleans())
    def user_pauses(self, paused: bool) -> None:
        self.edit(paused=paused)

    @rule(seconds=st.sampled_from([1.0, 50.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # The manager acts.

    @rule(fails=st.sets(st.sampled_from(NODES)))
    def pass_of_the_manager(self, fails: set[str]) -> None:
        planned = self.act(fails)
        if not fails and not planned.delete_job and not isinstance(planned.error, bool):
            again = plan(self.job, self.view, self.now)
            assert again.creates == () and again.deletes == (), "planning again after the actions does something"

    def act(self, fails: set[str]) -> Plan:
        planned = plan(self.job, self.view, self.now)
        assert planned.next_check is None or planned.next_check > 0
        terminal = self.job.status.phase in ("completed", "failed")
        assert not (planned.creates and terminal), "B5: a terminal phase creates nothing"
        assert not (planned.creates and self.job.spec.paused), "paused creates nothing"
        for one in planned.deletes:
            assert not isinstance(one.pod, Unreadable), "nobody deletes what cannot be read"
            self.put_deleting(one.key)
        created = 0
        refused = []
        for slot in planned.creates:
            if slot.name in fails:
                refused.append((slot.name, ValueError("refused")))
                continue
            owner_pods = [p for p in self.pods.values() if self.home(p) == slot.uid]
            assert not owner_pods, f"B2: node {slot.name} already has {owner_pods}"
            active = self.view.count(PodClass.ACTIVE)
            assert active < parallelism(self.job, self.view.desired), "B4: over parallelism"
            body = build_pod(self.job, TEMPLATE, slot.name, slot.uid, by_scheduler=True)
            body["metadata"]["uid"] = body["metadata"]["name"]
            self.put(decode_as(Pod, orjson.dumps(body)))
            created += 1
        settled = settle(self.job, self.view, planned, Results(0, 0, 0, tuple(refused)), self.now)
        if planned.ending is Ending.RUNNING and not terminal and not planned.deletes and not fails:
            self.check_work(planned)
        if settled.status is not None:
            self.job = self.with_status(settled.status)
            self.view.set_job(self.job)
        return planned

    def check_work(self, planned: Plan) -> None:
        """L7: room and candidates mean that a creation was attempted."""
        if self.view.candidates and not self.view.unplaced_unreadable:
            limit = parallelism(self.job, self.view.desired)
            assert self.view.count(PodClass.ACTIVE) >= limit or planned.creates

    # Helpers.

    def home(self, pod: Pod | Unreadable) -> str:
        return pod.metadata.annotations["apps.kruise.io/broadcastjob-node-uid"]

    def put(self, pod: Pod | Unreadable) -> None:
        self.pods[pod.key] = pod
        self.view.set_pod(pod.key, pod)

    def put_deleting(self, key: Key) -> None:
        pod = self.pods[key]
        body = msgspec.to_builtins(pod.metadata)
        body["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        meta = msgspec.convert(body, ObjectMeta)
        self.put(msgspec.structs.replace(pod, metadata=meta))

    def edit(self, **spec: Any) -> None:
        self.generation += 1
        self.job = msgspec.structs.replace(
            self.job,
            spec=msgspec.structs.replace(self.job.spec, **spec),
            metadata=msgspec.structs.replace(self.job.metadata, generation=self.generation),
        )
        self.view.set_job(self.job)

    def with_status(self, status: BroadcastJobStatus) -> BroadcastJob:
        stored = msgspec.json.decode(orjson.dumps(wire(status)), type=BroadcastJobStatus)
        return msgspec.structs.replace(self.job, status=stored)

    @invariant()
    def view_equals_one_built_anew(self) -> None:
        if not hasattr(self, "job"):
            return
        fresh = View.of(self.job, self.nodes.values(), self.pods.values())
        for name in ("desired", "pending", "candidates", "failed"):
            assert getattr(self.view, name) == getattr(fresh, name), name
        assert +self.view.counts == +fresh.counts
        assert +self.view.blocked == +fresh.blocked
        for listing in ("evicting", "crowded"):
            assert [s.uid for s in getattr(self.view, listing)()] == [s.uid for s in getattr(fresh, listing)()]
        assert [p.key for p in self.view.active_pods()] == [p.key for p in fresh.active_pods()]
        assert [s.uid for s in self.view.first_candidates(9)] == [s.uid for s in fresh.first_candidates(9)]

    @invariant()
    def status_is_a_recount(self) -> None:
        if not hasattr(self, "job") or is_over(self.job):
            return
        status = self.job.status
        assert min(status.active, status.succeeded, status.failed, status.desired) >= 0
        planned = plan(self.job, self.view, self.now)
        if planned.ending in (Ending.RUNNING, Ending.PAUSED) and not planned.creates and not planned.deletes:
            settled = settle(self.job, self.view, planned, Results(), self.now)
            assert settled.status is not None
            counted = (settled.status.active, settled.status.succeeded, settled.status.failed)
            view = self.view
            assert counted == (view.count(PodClass.ACTIVE), view.count(PodClass.SUCCEEDED), view.failed)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
TestBroadcastJob = Machine.TestCase
