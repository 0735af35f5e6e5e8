"""Strategic merge patch, for the built-in kinds.

Purpose: a merge patch that merges lists by a key: containers by name, conditions by type, and so on.

Guarantees:

* TST1: lists with a merge key are merged item by item; ``$patch: delete`` removes an item, ``$patch: replace`` the
  whole list or map; ``$deleteFromPrimitiveList/NAME`` removes from sets such as finalizers; ``$setElementOrder/NAME``
  orders the result; ``$retainKeys`` drops the other keys of a union. A list without a merge key is replaced.

What this does not do: it is not offered for custom kinds, where kube-apiserver answers 415. The merge keys are those of
the kinds that workload controllers patch; see ``MERGE_KEYS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kruise.simulator.apiserver.failure import bad_request

MERGE_KEYS: Final[Mapping[str, str]] = {
    "metadata.ownerReferences": "uid",
    "spec.containers": "name",
    "spec.initContainers": "name",
    "spec.ephemeralContainers": "name",
    "spec.containers.env": "name",
    "spec.containers.ports": "containerPort",
    "spec.containers.volumeMounts": "mountPath",
    "spec.containers.volumeDevices": "devicePath",
    "spec.volumes": "name",
    "spec.imagePullSecrets": "name",
    "spec.hostAliases": "ip",
    "spec.topologySpreadConstraints": "topologyKey",
    "spec.resourceClaims": "name",
    "spec.schedulingGates": "name",
    "spec.ports": "port",
    "spec.taints": "key",
    "status.conditions": "type",
    "status.addresses": "type",
    "status.podIPs": "ip",
    "status.hostIPs": "ip",
    "status.resourceClaimStatuses": "name",
    "secrets": "name",
    "webhooks": "name",
}
"""List at a dotted path -> its merge key. Templates and all kinds of containers are folded together first."""

PRIMITIVE_SETS: Final = frozenset({"metadata.finalizers", "spec.podCIDRs"})
"""Lists of plain values that are merged as sets."""

_CONTAINERS: Final = ("initContainers", "ephemeralContainers")


def strategic_merge(target: Any, patch: Any) -> Any:
    """Return *target* with the strategic merge patch *patch* applied. Raises Failure 400 for a malformed patch."""
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a strategic merge patch is an object")
    return _merge_map(target, patch, "")


def _fold(path: str) -> str:
    """Return *path* with pod templates and kinds of containers taken together."""
    path = path.removeprefix("spec.template.") if path.startswith("spec.template.") else path
    parts = path.split(".")
    if len(parts) > 2 and parts[0] == "spec" and parts[1] in _CONTAINERS:
        parts[1] = "containers"
    return ".".join(parts)


def _merge_map(target: Any, patch: dict[str, Any], path: str) -> dict[str, Any]:
    base: dict[str, Any] = dict(target) if isinstance(target, dict) else {}
    directive = patch.get("$patch")
    if directive == "replace":
        return {k: v for k, v in patch.items() if k != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"error decoding patch: unknown $patch directive {directive!r}")
    retain = patch.get("$retainKeys")
    if isinstance(retain, list):
        base = {k: v for k, v in base.items() if k in retain}
    for name, value in patch.items():
        if name.startswith("$"):
            _apply_list_directive(base, name, value)
            continue
        here = f"{path}.{name}" if path else name
        if value is None:
            base.pop(name, None)
        elif isinstance(value, dict):
            base[name] = _merge_map(base.get(name), value, here)
        elif isinstance(value, list):
            base[name] = _merge_list(base.get(name), value, _fold(here), here)
        else:
            base[name] = value
    for name, order in patch.items():
        if name.startswith("$setElementOrder/"):
            _order(base, name.partition("/")[2], order, path)
    return base


def _apply_list_directive(base: dict[str, Any], name: str, value: Any) -> None:
    if name.startswith("$deleteFromPrimitiveList/"):
        field = name.partition("/")[2]
        if isinstance(base.get(field), list):
            base[field] = [v for v in base[field] if v not in value]


def _merge_list(current: Any, patch: list[Any], folded: str, path: str) -> list[Any]:
    items: list[Any] = list(current) if isinstance(current, list) else []
    if folded in PRIMITIVE_SETS:
        return items + [v for v in patch if v not in items]
    key = MERGE_KEYS.get(folded)
    if key is None:
        return [_plain(v) for v in patch]
    if any(isinstance(v, dict) and v.get("$patch") == "replace" for v in patch):
        return [v for v in patch if not (isinstance(v, dict) and v.get("$patch") == "replace")]
    for value in patch:
        if not isinstance(value, dict) or key not in value:
            raise bad_request(f"map: {value} does not contain declared merge key: {key}")
        same = [i for i, item in enumerate(items) if isinstance(item, dict) and item.get(key) == value[key]]
        if value.get("$patch") == "delete":
            items = [item for i, item in enumerate(items) if i not in same]
        elif same:
            items[same[0]] = _merge_map(items[same[0]], value, path)
        else:
            items.append(_merge_map({}, value, path))
    return items


def _plain(value: Any) -> Any:
    """Return a value of a list that is replaced as a whole, without the nulls and directives of a patch."""
    return _merge_map({}, value, "$") if isinstance(value, dict) else value


def _order(base: dict[str, Any], name: str, order: Any, path: str) -> None:
    items = base.get(name)
    if not isinstance(items, list) or not isinstance(order, list):
        return
    key = MERGE_KEYS.get(_fold(f"{path}.{name}" if path else name))
    wanted = [o.get(key) if isinstance(o, dict) and key else o for o in order]

    def place(entry: tuple[int, Any]) -> tuple[int, int]:
        index, item = entry
        value = item.get(key) if isinstance(item, dict) and key else item
        return (wanted.index(value), 0) if value in wanted else (len(wanted), index)

    base[name] = [item for _, item in sorted(enumerate(items), key=place)]
