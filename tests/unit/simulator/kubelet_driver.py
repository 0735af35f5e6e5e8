"""Drives the pure kubelet in virtual time: a pod, its status as an API server would hold it, and every step seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from kruise.runtime.clock import format_time
from kruise.runtime.objects import ObjectMeta
from kruise.simulator import kubelet
from kruise.simulator.behaviour import Behaviour, Rule, resolve
from kruise.simulator.kubelet_patch import status_patch
from kruise.simulator.kubelet_types import Place, PodState, Room, SimPod, Step

START = 1_700_000_000.0
RUN = "sim.kruise.io/run-seconds"
CODE = "sim.kruise.io/exit-code"


def container(name: str = "main", image: str = "app:1", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": image, **more}


def pod(
    *containers: dict[str, Any],
    init: list[dict[str, Any]] | None = None,
    policy: str = "Always",
    annotations: dict[str, str] | None = None,
    uid: str = "u1",
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> SimPod:
    body: dict[str, Any] = {
        "nodeName": "node-0",
        "restartPolicy": policy,
        "containers": list(containers) or [container()],
        **spec,
    }
    if init:
        body["initContainers"] = init
    return SimPod(
        metadata=ObjectMeta(name="p", namespace="default", uid=uid, generation=1, annotations=annotations or {}),
        spec=body,
        status=status if status is not None else {"phase": "Pending"},
    )


def apply(status: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Apply a strategic merge patch of a status, as far as kubelets use it."""
    merged = dict(status)
    for key, value in patch.items():
        if key == "conditions":
            have = {c["type"]: c for c in status.get("conditions") or ()}
            for condition in value:
                if condition.get("$patch") == "delete":
                    have.pop(condition["type"], None)
                else:
                    both = {**have.get(condition["type"], {}), **condition}
                    have[condition["type"]] = {k: v for k, v in both.items() if v is not None}
            merged["conditions"] = list(have.values())
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


class Sim:
    """One pod on one node."""

    def __init__(
        self, subject: SimPod, *, rules: tuple[Rule, ...] = (), room: Room | None = None, now: float = START
    ) -> None:
        self.pod = subject
        self.now = now
        self.rules = rules
        self.place = Place("node-0", "10.0.0.1", "10.244.0.7", room)
        self.node_annotations: dict[str, str] = {}
        self.state: PodState = kubelet.accept(subject, now, self.place)
        self.seen: list[tuple[float, dict[str, Any]]] = []
        self.writes = 0
        self.deleted = False
        self.last: Step | None = None
        self.run(0)

    @property
    def behaviour(self) -> Behaviour:
        meta = self.pod.metadata
        return resolve(
            namespace=meta.namespace,
            name=meta.name,
            spec=self.pod.spec,
            annotations=meta.annotations,
            node="node-0",
            node_annotations=self.node_annotations,
            rules=self.rules,
        )

    def once(self, now: float) -> Step:
        step = kubelet.step(self.pod, self.state, now, self.behaviour, self.place)
        self.state, self.last = step.state, step
        patch = status_patch(self.pod.status, step.status)
        if patch is not None:
            self.writes += 1
            self.pod = msgspec.structs.replace(self.pod, status=apply(self.pod.status, patch))
            self.seen.append((now, self.pod.status))
        self.deleted = self.deleted or step.delete
        return step

    def run(self, seconds: float, *, stride: float | None = None) -> Sim:
        """Let time pass. With *stride*, ask every so often as well, whether something is due or not."""
        end = self.now + seconds
        step = self.once(self.now)
        while True:
            nexts = [end]
            if step.wake is not None:
                nexts.append(max(step.wake, self.now))
            if stride is not None:
                nexts.append(self.now + stride)
            at = min(nexts)
            if at >= end and (step.wake is None or step.wake > end):
                break
            self.now = at
            step = self.once(at)
        self.now = end
        return self

    # What a user does to the pod.

    def spec(self, **changes: Any) -> Sim:
        self.pod = msgspec.structs.replace(self.pod, spec={**self.pod.spec, **changes})
        return self

    def image(self, image: str, name: str = "main") -> Sim:
        return self.spec(
            containers=[{**c, "image": image} if c["name"] == name else c for c in self.pod.spec["containers"]]
        )

    def annotate(self, **values: str) -> Sim:
        annotations = {**self.pod.metadata.annotations, **values}
        self.pod = msgspec.structs.replace(
            self.pod, metadata=msgspec.structs.replace(self.pod.metadata, annotations=annotations)
        )
        return self

    def delete(self, grace: int | None = 30) -> Sim:
        meta = msgspec.structs.replace(
            self.pod.metadata,
            deletion_timestamp=format_time(self.now + (grace or 0)),
            deletion_grace_period_seconds=grace,
        )
        self.pod = msgspec.structs.replace(self.pod, metadata=meta)
        return self

    def condition_by_others(self, kind: str, status: str) -> Sim:
        others = [c for c in self.pod.status.get("conditions") or () if c["type"] != kind]
        self.pod = msgspec.structs.replace(
            self.pod, status={**self.pod.status, "conditions": [*others, {"type": kind, "status": status}]}
        )
        return self

    def restart_kubelet(self) -> Sim:
        self.state = kubelet.accept(self.pod, self.now, self.place)
        return self

    def room(self, room: Room | None) -> Sim:
        self.place = replace(self.place, room=room)
        return self

    # What a watcher sees.

    @property
    def phase(self) -> str:
        return self.pod.status["phase"]

    def status(self, name: str = "main") -> dict[str, Any]:
        every = (
            *(self.pod.status.get("initContainerStatuses") or ()),
            *(self.pod.status.get("containerStatuses") or ()),
        )
        return next(c for c in every if c["name"] == name)

    def waiting(self, name: str = "main") -> str | None:
        return (self.status(name)["state"].get("waiting") or {}).get("reason")

    def running(self, name: str = "main") -> bool:
        return "running" in self.status(name)["state"]

    def condition(self, kind: str) -> str | None:
        found = [c for c in self.pod.status.get("conditions") or () if c["type"] == kind]
        return found[0]["status"] if found else None

    def reason(self, kind: str) -> str | None:
        found = [c for c in self.pod.status.get("conditions") or () if c["type"] == kind]
        return found[0].get("reason") if found else None

    def phases(self) -> list[str]:
        names: list[str] = []
        for _, status in self.seen:
            if not names or names[-1] != status["phase"]:
                names.append(status["phase"])
        return names
