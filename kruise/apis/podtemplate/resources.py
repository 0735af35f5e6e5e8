"""Validation of resource lists and claims.

Purpose: limits, requests and claims of containers and overhead.

Guarantees: names are checked before values, limits before requests, in the order of the names.

What this does not do: pod-level resources are not checked; the Go manager leaves that feature off.
"""

from __future__ import annotations

from typing import Final

from kruise.apis import labels
from kruise.apis.fielderrors import ErrorType, FieldError, Plain, duplicate, forbidden, invalid, required
from kruise.apis.podtemplate.fields import Node, items, quantities, text
from kruise.apis.quantity import Quantity

__all__ = ["validate_quantity_value", "validate_requirements"]

_CONTAINER_RESOURCES: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_STANDARD_RESOURCES: Final = frozenset(
    {
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "storage",
        "requests.storage",
        "services.nodeports",
        "services.loadbalancers",
    }
)
_COUNTED_RESOURCES: Final = frozenset(
    {
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)
_HUGE_PAGES: Final = "hugepages-"
_QUOTA_HUGE_PAGES: Final = ("hugepages-", "requests.hugepages-")
_NATIVE_DOMAIN: Final = "kubernetes.io/"
_QUOTA_PREFIX: Final = "requests."


def _huge(name: str) -> bool:
    return name.startswith(_HUGE_PAGES)


def _native(name: str) -> bool:
    return "/" not in name or _NATIVE_DOMAIN in name


def _extended(name: str) -> bool:
    if _native(name) or name.startswith(_QUOTA_PREFIX):
        return False
    return not labels.qualified_name(_QUOTA_PREFIX + name)


def _overcommitable(name: str) -> bool:
    return _native(name) and not _huge(name)


def _validate_name(name: str, path: str) -> list[FieldError]:
    errors = [invalid(path, Plain(name), complaint) for complaint in labels.qualified_name(name)]
    if not errors and "/" not in name and name not in _STANDARD_RESOURCES and not name.startswith(_QUOTA_HUGE_PAGES):
        errors.append(invalid(path, Plain(name), "must be a standard resource type or fully qualified"))
    if "/" not in name:
        if name not in _CONTAINER_RESOURCES and not _huge(name):
            errors.append(invalid(path, Plain(name), "must be a standard resource for containers"))
    elif not _native(name) and not _extended(name):
        errors.append(invalid(path, Plain(name), "doesn't follow extended resource name standard"))
    return errors


def validate_quantity_value(name: str, value: Quantity, path: str) -> list[FieldError]:
    """Validate that a quantity is not negative, and whole where the resource is counted in pieces."""
    errors: list[FieldError] = []
    if value.sign() < 0:
        errors.append(invalid(path, str(value), "must be greater than or equal to 0"))
    if (name in _COUNTED_RESOURCES or _extended(name)) and value.milli_value() % 1000:
        errors.append(invalid(path, Plain(str(value)), "must be an integer"))
    return errors


def validate_requirements(requirements: Node | None, claim_names: set[str], path: str) -> list[FieldError]:
    """Validate limits, requests and claims of one container."""
    errors: list[FieldError] = []
    limits = dict(quantities(requirements, "limits"))
    requests = dict(quantities(requirements, "requests"))
    for name, value in limits.items():
        at = f"{path}.limits[{name}]"
        errors += _validate_name(name, at) + validate_quantity_value(name, value, at)
    for name, value in requests.items():
        at = f"{path}.requests[{name}]"
        errors += _validate_name(name, at) + validate_quantity_value(name, value, at)
        if name in limits:
            limit = limits[name]
            if value != limit and not _overcommitable(name):
                errors.append(invalid(f"{path}.requests", str(value), f"must be equal to {name} limit of {limit}"))
            elif value > limit:
                detail = f"must be less than or equal to {name} limit of {limit}"
                errors.append(invalid(f"{path}.requests", str(value), detail))
        elif not _overcommitable(name):
            errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
    names = limits.keys() | requests.keys()
    if any(_huge(name) for name in names) and not names & {"cpu", "memory"}:
        errors.append(forbidden(path, "HugePages require cpu or memory"))
    return errors + _validate_claims(items(requirements, "claims"), claim_names, f"{path}.claims")


def _validate_claims(claims: list[Node], claim_names: set[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        at, name, request = f"{path}[{i}]", text(claim, "name"), text(claim, "request")
        if not name:
            errors.append(required(at))
            continue
        if name in seen:
            errors.append(duplicate(at, name))
        else:
            key = name
            if request:
                errors += [invalid(f"{at}.request", request, found) for found in labels.dns1123_label(request)]
                key = f"{name}/{request}"
            if key in seen:
                errors.append(duplicate(at, key))
            elif not request:
                errors += [duplicate(at, name) for other in seen if other.partition("/")[0] == name]
            seen.add(key)
        if name not in claim_names:
            known = f": {', '.join(sorted(claim_names))}" if claim_names else " which is empty"
            detail = f"must be one of the names in pod.spec.resourceClaims{known}"
            errors.append(FieldError(ErrorType.NOT_FOUND, at, detail, name))
    return errors
