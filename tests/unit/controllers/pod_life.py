"""One pod on the embedded API server, from its creation on, as the planner would lead it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kruise.apis.core import PODS, Pod
from kruise.apis.statefulset import IN_PLACE_IF_POSSIBLE, Lifecycle
from kruise.controllers.common.inplace.flow import Flow, Outcome, delete_step, refresh, start
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.spec import update_spec
from kruise.controllers.common.inplace.writes import PodWrite
from kruise.controllers.common.lifecycle import first_state, state_fields
from kruise.runtime.client.client import Client
from kruise.runtime.client.noop import PatchKind
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, ObjectMeta
from kruise.simulator.apiserver.server import ApiServer

JSON = dict[str, Any]
POD = Key("ns", "web-0")
NOW = 1_772_366_400.0
BOTH_GATES = ("InPlaceUpdateReady", "KruisePodReady")


def container(name: str = "main", image: str = "a:1", **parts: Any) -> JSON:
    return {"name": name, "image": image, "resources": {}, **parts}


def template(*containers: JSON, gates: tuple[str, ...] = ("InPlaceUpdateReady",), **metadata: Any) -> JSON:
    gated = {"readinessGates": [{"conditionType": gate} for gate in gates]} if gates else {}
    labels = {"app": "web", **metadata.pop("labels", {})}
    return {"metadata": {"labels": labels, **metadata}, "spec": {"containers": list(containers), **gated}}


def revision_data(body: JSON) -> bytes:
    return json.dumps({"spec": {"template": {"$patch": "replace", **body}}}).encode()


@dataclass
class Life:
    """A pod, the revisions of its set, and what was written to it."""

    revisions: dict[str, JSON]
    lifecycle: Lifecycle | None = None
    gates: Gates = field(default_factory=lambda: Gates(server_version="v1.37.2"))
    grace: int = 0
    policy: str = IN_PLACE_IF_POSSIBLE
    now: float = NOW
    wanted: str = "r1"
    """The revision to which the pod shall be updated."""
    written: list[PodWrite] = field(default_factory=list)
    versions: list[Pod] = field(default_factory=list)
    """The pod after each write."""
    labelled: bool = True

    def __post_init__(self) -> None:
        clock, metrics = SystemClock(), Metrics(process=False)
        self.server = ApiServer(clock, Random(1))
        self.server.ensure_namespace("ns")
        rest = Rest(self.server.transport("manager"), clock=clock, rng=Random(1), metrics=metrics)
        self.client = Client(rest, metrics=metrics, clock=clock)

    async def create(self) -> None:
        body = json.loads(json.dumps(self.revisions[self.wanted]))
        meta = body["metadata"]
        meta.update({"name": POD.name, "namespace": "ns"})
        meta["labels"]["controller-revision-hash"] = self.wanted
        meta["ownerReferences"] = [
            {
                "apiVersion": "apps.kruise.io/v1beta1",
                "kind": "StatefulSet",
                "name": "web",
                "uid": "set-uid",
                "controller": True,
            }
        ]
        if self.labelled:
            fields = state_fields(first_state(self.lifecycle, ObjectMeta(labels=meta["labels"])), self.now)
            meta["labels"].update(fields["labels"])
            meta["annotations"] = {**meta.get("annotations", {}), **fields["annotations"]}
        await self.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", **body})

    async def pod(self) -> Pod:
        return await self.client.live.get(PODS, POD)

    # What others do.

    def edit(self, change: Callable[[JSON], None], subresource: str = "") -> None:
        self.server.edit("pods", POD.name, change, "ns", subresource=subresource)

    def bind(self) -> None:
        path = f"/api/v1/namespaces/ns/pods/{POD.name}/binding"
        self.server.do("POST", path, {"target": {"kind": "Node", "name": "n1"}}, actor="scheduler")

    def finalizers(self, *names: str) -> None:
        self.edit(lambda pod: pod["metadata"].update(finalizers=list(names)))

    def label(self, key: str, value: str | None) -> None:
        self.server.patch("pods", POD.name, {"metadata": {"labels": {key: value}}}, namespace="ns")

    def kubelet(self) -> bool:
        """Bring the containers to what the spec asks for, and say so; tell whether that changed anything."""
        before = json.dumps(self.server.get("pods", POD.name, "ns"))
        self.edit(report, "status")
        return before != json.dumps(self.server.get("pods", POD.name, "ns"))

    # What the manager does.

    async def decide(self, **wishes: bool) -> Flow:
        pod = await self.pod()
        revision = pod.metadata.labels["controller-revision-hash"]
        if revision != self.wanted and wishes.get("update_wanted", True):
            spec = update_spec(
                revision_data(self.revisions[revision]),
                revision_data(self.revisions[self.wanted]),
                revision=self.wanted,
                gates=self.gates,
                grace_seconds=self.grace,
            )
            flow = start(pod, spec, lifecycle=self.lifecycle, now=self.now, gates=self.gates, policy=self.policy)
            if flow.writes:
                return flow
        return refresh(
            pod, lifecycle=self.lifecycle, update_revision=self.wanted, now=self.now, gates=self.gates, **wishes
        )

    async def apply(self, flow: Flow, *, first: int | None = None) -> None:
        """Send the writes of *flow*, or the *first* few: then the manager dies."""
        pod, version = await self.pod(), ""
        for write in flow.writes[:first]:
            meta = await self.client.patch(
                PODS, pod, write.patch, kind=PatchKind.STRATEGIC, subresource=write.subresource, version=version
            )
            assert meta is not None, f"a write that changes nothing: {write}"
            assert meta.resource_version != (version or pod.resource_version), f"the server saw no change: {write}"
            version = meta.resource_version
            self.written.append(write)
            self.versions.append(await self.pod())

    async def delete(self) -> Flow:
        flow = delete_step(await self.pod(), lifecycle=self.lifecycle, now=self.now, gates=self.gates)
        await self.apply(flow)
        return flow

    async def settle(self, **wishes: bool) -> None:
        """Go on until nobody has anything to do."""
        for _ in range(30):
            flow = await self.decide(**wishes)
            await self.apply(flow)
            if flow.delay:
                self.now += flow.delay
            elif not flow.writes and not self.kubelet():
                assert flow.outcome in (Outcome.NOTHING, Outcome.HELD, Outcome.WAITING), flow
                return
        raise AssertionError("it never ends")

    async def running(self) -> Life:
        """Create the pod and let it become ready; then forget what was written."""
        await self.create()
        self.bind()
        await self.settle()
        self.forget()
        return self

    def forget(self) -> None:
        self.written.clear()
        self.versions.clear()

    @property
    def endpoints(self) -> list[str]:
        return [write.subresource or "pod" for write in self.written]

    def turn(self, **parts: Any) -> None:
        """Change fields of the gates."""
        self.gates = replace(self.gates, **parts)


def report(pod: JSON) -> None:
    status = pod.setdefault("status", {})
    status["phase"] = "Running"
    status["containerStatuses"] = [
        {
            "name": one["name"],
            "image": one["image"],
            "imageID": f"id-of-{one['image']}",
            "containerID": f"run-of-{one['image']}",
            "restartCount": 0,
            "ready": True,
            "resources": one.get("resources") or {},
            "state": {"running": {}},
            "lastState": {},
        }
        for one in pod["spec"]["containers"]
    ]
    conditions = {one["type"]: one for one in status.get("conditions") or []}
    gates = [one["conditionType"] for one in pod["spec"].get("readinessGates") or []]
    ready = all(conditions.get(gate, {}).get("status") == "True" for gate in gates)
    for kind, good in (("ContainersReady", True), ("Ready", ready)):
        wanted = {"type": kind, "status": str(good)}
        if conditions.get(kind, {}).get("status") != wanted["status"]:
            conditions[kind] = {**wanted, "lastTransitionTime": "2026-03-01T12:00:00Z"}
    status["conditions"] = list(conditions.values())
