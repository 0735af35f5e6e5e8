"""What a simulated node says of itself: its Node object, its status, its Lease. Pure.

Purpose: bodies for the API server, and the reading of what a node was told.

What this does not do: no requests; ``node_keeper`` sends these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kruise.runtime.clock import format_micro_time, format_time
from kruise.runtime.objects import Object, Resource
from kruise.simulator.behaviour import DOMAIN
from kruise.simulator.kubelet_types import SimNode

SIMULATED: Final = f"{DOMAIN}/simulated"
"""The label of every node that is played here. A Node that somebody else creates with it is played as well."""
DOWN: Final = f"{DOMAIN}/down"
"""The annotation that takes a node away: ``true`` (cut off, its containers go on) or ``power`` (they die)."""
LEASE_NAMESPACE: Final = "kube-node-lease"


class SimLease(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A Lease of a node; nothing of it is read back."""


SIM_LEASES: Final = Resource("coordination.k8s.io", "v1", "Lease", "leases", SimLease)


@dataclass(frozen=True, slots=True)
class NodeShape:
    """How the nodes look that are registered here."""

    prefix: str = "node-"
    """Names are this and a number from 0."""
    cpu: str = "32"
    memory: str = "64Gi"
    pods: str = "250"
    labels: Mapping[str, str] = field(default_factory=dict)
    version: str = "v1.37.2"
    """What the kubelet says that it is."""

    def capacity(self) -> dict[str, str]:
        """Return what the node has; all of it can be given to pods."""
        return {"cpu": self.cpu, "memory": self.memory, "pods": self.pods, "ephemeral-storage": "100Gi"}


def address(index: int) -> str:
    """Return the address of the node with this number: distinct for 16 million nodes."""
    return f"10.{64 + (index >> 16) % 64}.{(index >> 8) % 256}.{index % 256}"


def pod_address(index: int) -> str:
    """Return the address of the pod with this number: distinct for eight million pods in a row."""
    return f"10.{128 + (index >> 16) % 128}.{(index >> 8) % 256}.{index % 256}"


def pod_index(ip: str) -> int | None:
    """Return the number of :func:`pod_address`; ``None`` for another address."""
    parts = ip.split(".")
    if len(parts) != 4 or parts[0] != "10" or not all(p.isdigit() for p in parts) or int(parts[1]) < 128:
        return None
    return (int(parts[1]) - 128 << 16) + (int(parts[2]) << 8) + int(parts[3])


def node_body(name: str, index: int, shape: NodeShape, now: float, annotations: Mapping[str, str]) -> dict[str, Any]:
    """Return the Node to create, with its status: a kubelet registers with both in one request."""
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        **shape.labels,
        SIMULATED: "true",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": dict(annotations)},
        "spec": {},
        "status": node_status(name, index, shape, now),
    }


def node_status(name: str, index: int, shape: NodeShape, now: float) -> dict[str, Any]:
    """Return the whole status of a node that is well."""
    capacity = shape.capacity()
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [{"type": "InternalIP", "address": address(index)}, {"type": "Hostname", "address": name}],
        "conditions": conditions(now),
        "nodeInfo": {
            "machineID": f"{index:032x}",
            "systemUUID": f"{index:032x}",
            "bootID": f"{index:032x}",
            "kernelVersion": "simulated",
            "osImage": "simulated",
            "containerRuntimeVersion": "simulated://1.0",
            "kubeletVersion": shape.version,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
    }


def conditions(now: float) -> list[dict[str, Any]]:
    """Return the conditions of a node that is well."""
    stamp = format_time(now)

    def one(kind: str, status: str, reason: str) -> dict[str, Any]:
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "simulated",
            "lastHeartbeatTime": stamp,
            "lastTransitionTime": stamp,
        }

    return [
        one("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        one("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        one("PIDPressure", "False", "KubeletHasSufficientPID"),
        one("Ready", "True", "KubeletReady"),
    ]


def is_ready(node: SimNode) -> bool:
    """Tell whether the node is known as Ready, with what it can hold."""
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node.status.get("conditions") or ())
    return ready and bool(node.status.get("allocatable"))


def down_of(node: SimNode) -> str:
    """Return ``true`` or ``power`` for a node that was taken away by its annotation, else ``""``."""
    value = node.metadata.annotations.get(DOWN, "")
    return value if value in ("true", "power") else ""


def lease_body(name: str, uid: str, seconds: int, now: float) -> dict[str, Any]:
    """Return the Lease to create; it goes when its Node goes."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": LEASE_NAMESPACE,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
        },
        "spec": {"holderIdentity": name, "leaseDurationSeconds": seconds, "renewTime": format_micro_time(now)},
    }


def renewal(name: str, seconds: int, now: float) -> dict[str, Any]:
    """Return the merge patch that renews a Lease."""
    return {
        "spec": {"holderIdentity": name, "leaseDurationSeconds": seconds, "renewTime": format_micro_time(now)},
    }
