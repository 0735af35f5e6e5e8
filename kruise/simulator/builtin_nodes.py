"""The controllers of nodes: who is alive, what a lost node is tainted with, and what becomes of its pods.

Purpose: on a real control plane the node lifecycle controller, the taint eviction controller and pod garbage collection
do this; the embedded server needs these.

Guarantees:

* TST1: a new node is tainted as not ready until it says that it is. Conditions and ``spec.unschedulable`` show as
  taints. A node that renews neither its Lease nor its status for the grace period becomes Unknown, its pods not ready.
* Pods that do not tolerate a NoExecute taint are deleted, at once or when their toleration has run out.
* Pods that end their life without a kubelet are removed: those of a node that is gone for the quarantine, and
  terminating ones that never had a node.

What this does not do: no zones and no rate of evictions; ended pods are never removed for their number.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.runtime.clock import format_time
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.builtin_actor import Actor
from kruise.simulator.builtin_scheduler import tolerates

Body = dict[str, Any]

NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
LEASES: Final = "leases.coordination.k8s.io"
_PRESSURES: Final = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
_OURS: Final = frozenset({NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_PRESSURES.values()})
GRACE: Final = 50.0
"""Seconds without a sign of life until a node counts as lost: Kubernetes' own value."""
QUARANTINE: Final = 40.0
"""Seconds for which a node must be gone until its pods are removed."""


class NodeLifecycle(Actor):
    """Keeps the taints of nodes in line with their conditions, and notices the silent ones."""

    name = "node-controller"

    def __init__(self, server: ApiServer, *, delay: float = 0.0, grace: float = GRACE) -> None:
        super().__init__(server, delay=delay)
        self._grace = grace
        self._alive: dict[str, float] = {}
        """Node -> when it last gave a sign of life, on the monotonic clock."""

    async def run(self) -> None:
        self.server.operations.admission.append(_taint_new)
        try:
            await super().run()
        finally:
            self.server.operations.admission.remove(_taint_new)

    def prime(self) -> None:
        for node in self.server.list("nodes"):
            self._alive[node["metadata"]["name"]] = self.server.clock.monotonic()

    def interested(self, commit: Commit) -> bool:
        if commit.resource == LEASES and commit.key.namespace == "kube-node-lease":
            if commit.key.name in self._alive:
                self._alive[commit.key.name] = self.server.clock.monotonic()
            return False
        if commit.resource != "nodes":
            return False
        if commit.type == "DELETED":
            self._alive.pop(commit.key.name, None)
            return False
        if commit.actor != self.name:
            self._alive[commit.key.name] = self.server.clock.monotonic()
        return True

    def due(self) -> float | None:
        waiting = [
            seen + self._grace
            for name, seen in self._alive.items()
            if _ready(self.server.get("nodes", name) or {}) != "Unknown"
        ]
        return min(waiting, default=None)

    def step(self) -> None:
        now = self.server.clock.monotonic()
        for name, seen in list(self._alive.items()):
            node = self.server.get("nodes", name)
            if node is None:
                continue
            if now >= seen + self._grace and _ready(node) != "Unknown":
                self._lost(name, node)
                node = self.server.get("nodes", name) or node
            if _ready(node) in ("False", "Unknown"):
                self._pods_not_ready(name)
            self._taint(name, node)

    def _lost(self, name: str, node: Body) -> None:
        stamp = format_time(self.server.clock.now())
        had = {c["type"]: c for c in (node.get("status") or {}).get("conditions") or ()}
        never = "Kubelet never posted node status."
        conditions = [
            {
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusUnknown" if kind in had else "NodeStatusNeverUpdated",
                "message": "Kubelet stopped posting node status." if kind in had else never,
                "lastHeartbeatTime": had.get(kind, {}).get("lastHeartbeatTime") or stamp,
                "lastTransitionTime": stamp,
            }
            for kind in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
        ]
        others = [c for kind, c in had.items() if kind not in {x["type"] for x in conditions}]
        patch = {"status": {"conditions": [*conditions, *others]}}
        self.attempt(lambda: self.server.patch("nodes", name, patch, subresource="status", actor=self.name))

    def _pods_not_ready(self, node: str) -> None:
        stamp = format_time(self.server.clock.now())
        for pod in self.server.list("pods"):
            conditions = (pod.get("status") or {}).get("conditions") or ()
            if pod["spec"].get("nodeName") != node or not any(_is(c, "Ready", "True") for c in conditions):
                continue
            changed = [
                {**c, "status": "False", "lastTransitionTime": stamp, "reason": "NodeNotReady"}
                if c["type"] == "Ready"
                else c
                for c in conditions
            ]
            meta = pod["metadata"]
            patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": changed}}
            self.attempt(
                lambda m=meta, p=patch: self.server.patch(  # type: ignore[misc]
                    "pods", m["name"], p, m["namespace"], subresource="status", actor=self.name
                )
            )

    def _taint(self, name: str, node: Body) -> None:
        had = (node.get("spec") or {}).get("taints") or []
        wanted = _wanted_taints(node)
        ours = {(t["key"], t["effect"]) for t in had if t["key"] in _OURS}
        if ours == set(wanted):
            return
        kept = [t for t in had if t["key"] not in _OURS or (t["key"], t["effect"]) in wanted]
        stamp = format_time(self.server.clock.now())
        added = [
            {"key": key, "effect": effect} | ({"timeAdded": stamp} if effect == "NoExecute" else {})
            for key, effect in wanted
            if (key, effect) not in ours
        ]
        version = node["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "spec": {"taints": [*kept, *added] or None}}
        self.attempt(lambda: self.server.patch("nodes", name, patch, actor=self.name))


def _taint_new(call: Call, operation: str, obj: Body, _old: Body | None) -> Body:
    """Taint a node that registers, so that nothing is scheduled to it before it is ready."""
    if operation == "CREATE" and call.resource == "nodes":
        spec = obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(t.get("key") == NOT_READY and t.get("effect") == "NoSchedule" for t in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]
    return obj


def _is(condition: Body, kind: str, status: str) -> bool:
    return bool(condition["type"] == kind and condition["status"] == status)


def _ready(node: Body) -> str:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return next((str(c["status"]) for c in conditions if c["type"] == "Ready"), "")


def _wanted_taints(node: Body) -> list[tuple[str, str]]:
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = _ready(node)
    wanted: list[tuple[str, str]] = []
    if ready != "True":
        key = UNREACHABLE if ready == "Unknown" else NOT_READY
        wanted.append((key, "NoSchedule"))
        if ready:
            wanted.append((key, "NoExecute"))
    wanted += [
        (_PRESSURES[c["type"]], "NoSchedule") for c in conditions if c["type"] in _PRESSURES and c["status"] == "True"
    ]
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.append((UNSCHEDULABLE, "NoSchedule"))
    return wanted


class TaintEviction(Actor):
    """Deletes pods that do not tolerate what their node has become."""

    name = "taint-eviction-controller"

    def __init__(self, server: ApiServer, *, delay: float = 0.0) -> None:
        super().__init__(server, delay=delay)
        self._deadlines: dict[str, float] = {}
        """Pod uid -> when its toleration runs out, on the monotonic clock."""

    def interested(self, commit: Commit) -> bool:
        if commit.resource == "nodes":
            before = _no_execute(commit.previous.obj) if commit.previous is not None else []
            return _no_execute(commit.new.obj) != before
        if commit.resource != "pods" or commit.type == "DELETED":
            return False
        before_node = commit.previous.obj["spec"].get("nodeName") if commit.previous is not None else None
        return bool(commit.new.obj["spec"].get("nodeName") and not before_node)

    def due(self) -> float | None:
        return min(self._deadlines.values(), default=None)

    def step(self) -> None:
        now = self.server.clock.monotonic()
        tainted = {n["metadata"]["name"]: _no_execute(n) for n in self.server.list("nodes")}
        deadlines: dict[str, float] = {}
        if any(tainted.values()):
            for pod in self.server.list("pods"):
                taints = tainted.get(pod["spec"].get("nodeName") or "")
                if not taints or pod["metadata"].get("deletionTimestamp"):
                    continue
                seconds = _tolerated_for(pod, taints)
                uid = pod["metadata"]["uid"]
                if seconds is None:
                    continue
                deadline = min(self._deadlines.get(uid, now + seconds), now + seconds)
                if deadline > now:
                    deadlines[uid] = deadline
                else:
                    self._evict(pod)
        self._deadlines = deadlines

    def _evict(self, pod: Body) -> None:
        meta = pod["metadata"]
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(self.server.clock.now()),
        }
        conditions = [c for c in (pod.get("status") or {}).get("conditions") or () if c["type"] != "DisruptionTarget"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [*conditions, condition]}}
        where = (meta["name"], meta["namespace"])
        if self.attempt(
            lambda: self.server.patch("pods", where[0], patch, where[1], subresource="status", actor=self.name)
        ):
            wanted = {"uid": meta["uid"]}
            self.attempt(lambda: self.server.delete("pods", *where, actor=self.name, preconditions=wanted))


def _no_execute(node: Body) -> list[Body]:
    return [t for t in (node.get("spec") or {}).get("taints") or () if t.get("effect") == "NoExecute"]


def _tolerated_for(pod: Body, taints: list[Body]) -> float | None:
    """Return for how many seconds *pod* tolerates *taints*: 0 not at all, ``None`` for ever."""
    shortest: float | None = None
    for taint in taints:
        fitting = [t for t in pod["spec"].get("tolerations") or () if tolerates(t, taint)]
        if not fitting:
            return 0.0
        limits = [float(t["tolerationSeconds"]) for t in fitting if t.get("tolerationSeconds") is not None]
        if limits:
            longest = max(0.0, min(limits))
            shortest = longest if shortest is None else min(shortest, longest)
    return shortest


class PodGarbage(Actor):
    """Removes pods that no kubelet will ever finish."""

    name = "pod-garbage-collector"

    def __init__(self, server: ApiServer, *, delay: float = 0.0, quarantine: float = QUARANTINE) -> None:
        super().__init__(server, delay=delay)
        self._quarantine = quarantine
        self._missing: dict[str, float] = {}
        """Node that is not there -> when its pods may be removed, on the monotonic clock."""

    def interested(self, commit: Commit) -> bool:
        if commit.resource == "nodes":
            return commit.type != "MODIFIED"
        if commit.resource != "pods" or commit.type == "DELETED":
            return False
        spec, meta = commit.new.obj["spec"], commit.new.obj["metadata"]
        node = spec.get("nodeName")
        return bool(self.server.get("nodes", node) is None if node else meta.get("deletionTimestamp"))

    def due(self) -> float | None:
        return min(self._missing.values(), default=None)

    def step(self) -> None:
        now = self.server.clock.monotonic()
        nodes = {n["metadata"]["name"] for n in self.server.list("nodes")}
        pods = self.server.list("pods")
        missing = {n for p in pods if (n := p["spec"].get("nodeName")) and n not in nodes}
        self._missing = {n: self._missing.get(n, now + self._quarantine) for n in sorted(missing)}
        for pod in pods:
            node = pod["spec"].get("nodeName")
            if node in self._missing and now >= self._missing[node]:
                self._remove(pod, "DeletionByPodGC", "PodGC: node no longer exists")
            elif not node and pod["metadata"].get("deletionTimestamp"):
                self._remove(pod, "", "")
        self._missing = {n: at for n, at in self._missing.items() if now < at}

    def _remove(self, pod: Body, reason: str, message: str) -> None:
        meta = pod["metadata"]
        key = Key(meta["namespace"], meta["name"])
        status = pod.get("status") or {}
        if reason and status.get("phase") not in ("Succeeded", "Failed"):
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": reason,
                "message": message,
                "lastProbeTime": None,
                "lastTransitionTime": format_time(self.server.clock.now()),
            }
            patch = {
                "metadata": {"uid": meta["uid"]},
                "status": {"phase": "Failed", "conditions": [*(status.get("conditions") or ()), condition]},
            }
            self.attempt(
                lambda: self.server.patch("pods", key.name, patch, key.namespace, subresource="status", actor=self.name)
            )
        wanted = {"uid": meta["uid"]}
        self.attempt(
            lambda: self.server.delete(
                "pods", key.name, key.namespace, actor=self.name, gracePeriodSeconds=0, preconditions=wanted
            )
        )
