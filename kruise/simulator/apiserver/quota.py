"""ResourceQuota: what a namespace uses, and what would be too much.

Purpose: the arithmetic that the quota controller and the admission of new objects share.

Guarantees:

* TST1: a new object that would use more than a quota has left is refused with 403 and the server's own sentence; so
  is a pod that names no request for a resource which the quota limits.

What this does not do: no scopes, and no quota on updates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kruise.apis.quantity import ZERO, Quantity
from kruise.simulator.apiserver.failure import forbidden
from kruise.simulator.apiserver.resources import ResourceType

Body = dict[str, Any]

_COUNTED: Final = {
    "pods": "pods",
    "services": "services",
    "secrets": "secrets",
    "configmaps": "configmaps",
    "persistentvolumeclaims": "persistentvolumeclaims",
    "resourcequotas": "resourcequotas",
    "replicationcontrollers": "replicationcontrollers",
}
_REQUESTS: Final = {"cpu": "cpu", "memory": "memory", "ephemeral-storage": "ephemeral-storage"}
"""The short names that stand for requests."""
_ENDED: Final = ("Succeeded", "Failed")


def usage(obj: Body, info: ResourceType) -> dict[str, Quantity]:
    """Return what one object uses, by the names that a quota may limit."""
    one = Quantity.of(1)
    used = {f"count/{info.name}": one}
    if info.table == "pods" and (obj.get("status") or {}).get("phase") in _ENDED:
        return used
    if info.table in _COUNTED and not info.group:
        used[_COUNTED[info.table]] = one
    if info.table == "pods":
        for kind in ("requests", "limits"):
            for name, amount in _of_containers(obj, kind).items():
                used[f"{kind}.{name}"] = amount
                if kind == "requests" and name in _REQUESTS:
                    used[name] = amount
    elif info.table == "persistentvolumeclaims":
        asked = ((obj.get("spec") or {}).get("resources") or {}).get("requests") or {}
        used["requests.storage"] = Quantity.from_json(asked.get("storage", "0"))
    return used


def _of_containers(pod: Body, kind: str) -> dict[str, Quantity]:
    total: dict[str, Quantity] = {}
    for container in pod["spec"].get("containers") or ():
        for name, text in ((container.get("resources") or {}).get(kind) or {}).items():
            total[name] = total.get(name, ZERO) + Quantity.from_json(text)
    for container in pod["spec"].get("initContainers") or ():
        for name, text in ((container.get("resources") or {}).get(kind) or {}).items():
            amount = Quantity.from_json(text)
            if amount > total.get(name, ZERO):
                total[name] = amount
    return total


def add(total: dict[str, Quantity], more: dict[str, Quantity]) -> None:
    """Add *more* to *total*, in place."""
    for name, amount in more.items():
        total[name] = total.get(name, ZERO) + amount


def check(obj: Body, info: ResourceType, quotas: Iterable[Body], total: dict[str, Quantity]) -> None:
    """Refuse *obj* when a quota has no room for it; *total* is what its namespace uses now. Raises Failure 403."""
    wanted = usage(obj, info)
    name = obj["metadata"].get("name", "")
    for quota in quotas:
        hard = (quota.get("status") or {}).get("hard") or {}
        own = quota["metadata"]["name"]
        if info.table == "pods":
            _check_named(obj, info, own, hard)
        over = [
            resource
            for resource, limit in sorted(hard.items())
            if resource in wanted and total.get(resource, ZERO) + wanted[resource] > Quantity.from_json(limit)
        ]
        if over:
            asked = ",".join(f"{r}={wanted[r]}" for r in over)
            used = ",".join(f"{r}={total.get(r, ZERO)}" for r in over)
            limited = ",".join(f"{r}={hard[r]}" for r in over)
            text = f"exceeded quota: {own}, requested: {asked}, used: {used}, limited: {limited}"
            raise forbidden(info.plural, info.group, name, text)


def _check_named(pod: Body, info: ResourceType, quota: str, hard: Body) -> None:
    missing: dict[str, list[str]] = {}
    for resource in sorted(hard):
        kind, _, inner = resource.partition(".")
        if kind not in ("requests", "limits"):
            kind, inner = "requests", resource
            if resource not in _REQUESTS:
                continue
        elif inner == "storage":
            continue
        without = [
            str(c.get("name"))
            for c in pod["spec"].get("containers") or ()
            if inner not in ((c.get("resources") or {}).get(kind) or {})
        ]
        if without:
            missing[resource] = without
    if missing:
        listed = "; ".join(f"{r} for: {','.join(names)}" for r, names in missing.items())
        text = f"failed quota: {quota}: must specify {listed}"
        raise forbidden(info.plural, info.group, pod["metadata"].get("name", ""), text)
