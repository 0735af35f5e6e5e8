"""What differs by kind when an object is created or updated.

Purpose: one place that knows which rules belong to which built-in kind.

Guarantees:

* TST1: Leases and events need a MicroTime with exactly six fraction digits; the data of a ControllerRevision never
  changes; a claim's spec may only grow; a Namespace starts Active with its finalizer.

What this does not do: it is no full validation of the built-in kinds. What is checked is what a controller could get
wrong; each check has a test, and the probes compare it with a real server.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from kruise.apis import labels
from kruise.apis.fielderrors import invalid
from kruise.simulator.apiserver import claims, events, pods, webhooks_config, workloads
from kruise.simulator.apiserver.crd import DEFINITIONS, complete
from kruise.simulator.apiserver.failure import Cause, forbidden_field, immutable, invalid_value, of_errors
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.typed import FILLED, type_of

Body = dict[str, Any]

_MICRO_TIMES: Final[Mapping[str, tuple[str, ...]]] = {
    "leases.coordination.k8s.io": ("spec.acquireTime", "spec.renewTime"),
    "events.events.k8s.io": ("eventTime", "series.lastObservedTime"),
}
_MOST_DATA: Final = 1024 * 1024
_PHASES: Final[Mapping[str, str]] = {"persistentvolumeclaims": "Pending", "persistentvolumes": "Pending"}


def unreadable(obj: Body, info: ResourceType) -> str:
    """Return why the server could not even read *obj* as its kind, or ``""``."""
    for path in _MICRO_TIMES.get(info.table, ()):
        outer, _, inner = path.partition(".")
        value = obj.get(outer)
        if inner:
            value = value.get(inner) if isinstance(value, dict) else None
        problem = events.bad_micro_time(value)
        if problem:
            return problem
    return ""


def create(obj: Body, info: ResourceType, given_version: str, now: float) -> list[Cause]:
    """Default and validate a new object, in place. *given_version* is the ``apiVersion`` in which it came."""
    if info.table == "pods":
        return pods.create(obj, now)
    if info.table in workloads.TABLES:
        return workloads.create(obj, info)
    if info.table == DEFINITIONS:
        return complete(obj)
    if info.table in webhooks_config.TABLES:
        return webhooks_config.complete(obj, info.table)
    if info.table == "events.events.k8s.io":
        return events.create(obj, given_version)
    if info.table == "leases.coordination.k8s.io":
        return _lease(obj)
    if info.table == "namespaces":
        obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
        obj["status"] = {"phase": "Active"}
        labels = obj["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
    elif info.table in _PHASES:
        obj["status"] = {"phase": _PHASES[info.table]}
        obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    elif info.table == "secrets":
        obj.setdefault("type", "Opaque")
        for name, text in (obj.pop("stringData", None) or {}).items():
            obj.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()
    elif info.table == "configmaps":
        return _configmap(obj)
    elif "status" in info.subresources and info.table != "nodes":
        obj.pop("status", None)
        empty = None if info.custom else FILLED.get(type_of(info.group, info.kind), {}).get("status")
        if empty is not None:
            obj["status"] = dict(empty)
    return []


def update(new: Body, old: Body, info: ResourceType, given_version: str, subresource: str = "") -> list[Cause]:
    """Return what an update of the main resource, or of a subresource, may not do."""
    if info.table == "pods" and subresource == "status":
        return pods.update_status(new, old)
    if info.table == "pods" and subresource == "resize":
        return pods.update_resize(new, old)
    if subresource:
        return []
    if info.table == "pods":
        return pods.update(new, old)
    if info.table in workloads.TABLES:
        return workloads.update(new, old, info)
    if info.table == DEFINITIONS:
        return complete(new)
    if info.table in webhooks_config.TABLES:
        return webhooks_config.complete(new, info.table)
    if info.table == "events.events.k8s.io":
        return events.update(new, old, given_version)
    if info.table == "leases.coordination.k8s.io":
        return _lease(new)
    if info.table == "controllerrevisions.apps" and new.get("data") != old.get("data"):
        return [immutable("data", new.get("data"))]
    if info.table == "persistentvolumeclaims":
        return claims.update(new, old)
    if info.table == "configmaps" and (causes := _configmap(new)):
        return causes
    if info.table in ("configmaps", "secrets") and old.get("immutable"):
        return [
            forbidden_field(name, "field is immutable when `immutable` is set")
            for name in ("data", "binaryData", "immutable")
            if new.get(name) != old.get(name)
        ]
    return []


def _lease(lease: Body) -> list[Cause]:
    spec = lease.get("spec") or {}
    causes = []
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        causes.append(invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        causes.append(invalid_value("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return causes


def _configmap(obj: Body) -> list[Cause]:
    total = sum(len(k) + len(v) for k, v in (obj.get("data") or {}).items())
    total += sum(len(k) + len(v) * 3 // 4 for k, v in (obj.get("binaryData") or {}).items())
    errors = [
        invalid(f"{part}[{key}]", key, why)
        for part in ("data", "binaryData")
        for key in obj.get(part) or {}
        for why in labels.config_key(key)
    ]
    causes = of_errors(errors)
    if total > _MOST_DATA:
        causes.append(Cause("FieldValueTooLong", f"Too long: may not be more than {_MOST_DATA} bytes", "[]"))
    return causes
