"""Short words for sets, claims and pods, as far as identity goes."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from kruise.apis.core import Claim, Pod, StorageClass
from kruise.apis.statefulset import StatefulSet
from kruise.runtime.client.nulls import decode_as

NOW = 1_767_225_600.0
STAMP = "2026-01-01T00:00:00Z"

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "main", "image": "web:1"}]},
}


def claim_template(name: str = "data", size: str | None = "10Gi", **parts: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], **{k: v for k, v in parts.items() if k != "metadata"}}
    if size is not None:
        spec["resources"] = {"requests": {"storage": size}}
    return {"metadata": {"name": name, **parts.get("metadata", {})}, "spec": spec}


def a_set(
    *claims: dict[str, Any],
    policy: tuple[str, str] | None = None,
    terminating: bool = False,
    uid: str = "set-uid",
    **spec: Any,
) -> StatefulSet:
    meta: dict[str, Any] = {"namespace": "ns", "name": "web", "uid": uid, "resourceVersion": "5", "generation": 1}
    if terminating:
        meta["deletionTimestamp"] = STAMP
    body: dict[str, Any] = {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "web"}},
        "template": TEMPLATE,
        "volumeClaimTemplates": list(claims),
        "serviceName": "web",
        **spec,
    }
    if policy is not None:
        body["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": policy[0], "whenScaled": policy[1]}
    return decode_as(StatefulSet, orjson.dumps({"metadata": meta, "spec": body}))


def a_claim(
    name: str = "data-web-0", size: str = "10Gi", capacity: str | None = "10Gi", *owners: dict[str, Any], **parts: Any
) -> Claim:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **parts.pop("spec", {})}
    status: dict[str, Any] = {"capacity": {"storage": capacity}} if capacity else {}
    status |= parts.pop("status", {})
    meta = {"namespace": "ns", "name": name, "uid": f"uid-{name}", "resourceVersion": "9", **parts.pop("metadata", {})}
    if owners:
        meta["ownerReferences"] = list(owners)
    return decode_as(Claim, orjson.dumps({"metadata": meta, "spec": spec, "status": status}))


def a_pod(name: str = "web-0", *, uid: str = "", **parts: Any) -> Pod:
    meta: dict[str, Any] = {
        "namespace": "ns",
        "name": name,
        "uid": uid or f"uid-{name}",
        "resourceVersion": "7",
        "labels": {"app": "web", "statefulset.kubernetes.io/pod-name": name},
        **parts.pop("metadata", {}),
    }
    return decode_as(Pod, orjson.dumps({"metadata": meta, **parts}))


def a_class(name: str, *, grows: bool | None) -> StorageClass:
    return decode_as(StorageClass, orjson.dumps({"metadata": {"name": name}, "allowVolumeExpansion": grows}))


def as_json(obj: msgspec.Struct) -> dict[str, Any]:
    """Return *obj* as the server holds it, as far as we read it."""
    body: dict[str, Any] = orjson.loads(msgspec.json.encode(obj))
    return body


def owner(kind: str, name: str, uid: str, **more: Any) -> dict[str, Any]:
    version = {"Pod": "v1", "StatefulSet": "apps.kruise.io/v1beta1"}.get(kind, "example.com/v1")
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, **more}
