"""Short words for the objects of a BroadcastJob."""

from __future__ import annotations

from typing import Any

import orjson

from kruise.apis.broadcastjob import BroadcastJob
from kruise.apis.core import Node, Pod
from kruise.controllers.broadcastjob.pods import build_pod
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.objects import Unreadable

NOW = 1_767_225_600.0
STAMP = "2026-01-01T00:00:00Z"

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {"restartPolicy": "OnFailure", "containers": [{"name": "main", "image": "app:1"}]},
}


def job_body(name: str = "sweep", *, status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    meta = {"namespace": "ns", "name": name, "uid": f"uid-{name}", "generation": 1, "resourceVersion": "5"}
    body: dict[str, Any] = {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "BroadcastJob",
        "metadata": meta,
        "spec": {"template": TEMPLATE, **spec},
    }
    if status is not None:
        body["status"] = status
    return body


def job(name: str = "sweep", *, status: dict[str, Any] | None = None, **spec: Any) -> BroadcastJob:
    return decode_as(BroadcastJob, orjson.dumps(job_body(name, status=status, **spec)))


def node_body(name: str, *, uid: str = "", labels: dict[str, str] | None = None, **parts: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": uid or f"uid-{name}", "labels": labels or {}},
        "spec": {k: v for k, v in parts.items() if k in ("taints", "unschedulable")},
        "status": {
            "allocatable": parts.get("allocatable", {"pods": "10", "cpu": "4", "memory": "8Gi"}),
            "conditions": parts.get("conditions", []),
        },
    }


def node(name: str, **parts: Any) -> Node:
    return decode_as(Node, orjson.dumps(node_body(name, **parts)))


def nodes(*names: str) -> list[Node]:
    return [node(name) for name in names]


def pod_body(
    owner: BroadcastJob,
    where: str,
    *,
    phase: str = "Running",
    restarts: int = 0,
    terminating: bool = False,
    name: str = "",
    uid: str | None = "",
    **status: Any,
) -> dict[str, Any]:
    """Return a pod of *owner* on the node *where*. ``uid=None`` leaves out the node-uid annotation (OpenKruise)."""
    template = orjson.loads(bytes(owner.spec.template))
    body = build_pod(owner, template, where, uid or f"uid-{where}", by_scheduler=True)
    meta = body["metadata"]
    meta.update(uid=f"uid-{name or meta['name']}", resourceVersion="7")
    if name:
        meta["name"] = name
    if uid is None:
        meta["annotations"] = {}
    if terminating:
        meta["deletionTimestamp"] = STAMP
    containers = [{"name": "main", "restartCount": restarts}]
    body["status"] = {"phase": phase, "containerStatuses": containers, **status}
    return body


def pod(owner: BroadcastJob, where: str, **parts: Any) -> Pod:
    return decode_as(Pod, orjson.dumps(pod_body(owner, where, **parts)))


def unreadable(owner: BroadcastJob, where: str, *, annotated: bool = True, name: str = "") -> Unreadable:
    known = pod(owner, where, uid="" if annotated else None, name=name)
    return Unreadable(api_version="v1", kind="Pod", metadata=known.metadata, problem="expected int", path="$.spec")
