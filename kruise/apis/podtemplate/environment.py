"""Validation of environment variables and of what the downward API may expose.

Purpose: ``env``, ``envFrom``, and the field and resource references that volumes share with them.

Guarantees: names follow the rule from before Kubernetes 1.32 relaxed it, as the Go manager checks them.

What this does not do: it does not look whether a referenced ConfigMap or Secret exists.
"""

from __future__ import annotations

from typing import Final

from kruise.apis import labels
from kruise.apis.fielderrors import FieldError, invalid, not_supported, required
from kruise.apis.podtemplate.fields import Node, child, quantity, text

__all__ = ["VOLUME_FIELDS", "validate_env", "validate_env_from", "validate_field_ref", "validate_resource_ref"]

_ENV_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
"""The fields that a downward API file may show, without the ones with a subscript."""
_POD_FIELDS: Final = frozenset(
    {*_ENV_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase"}
)
_RESOURCES: Final = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE_PAGE_PREFIXES: Final = ("limits.hugepages-", "requests.hugepages-")
_CPU_DIVISORS: Final = frozenset({"1m", "1"})
_BYTE_UNITS: Final = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_BYTE_RESOURCES: Final = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}


def validate_env(variables: list[Node], path: str) -> list[FieldError]:
    """Validate environment variables."""
    errors: list[FieldError] = []
    for i, variable in enumerate(variables):
        at, name = f"{path}[{i}]", text(variable, "name")
        if not name:
            errors.append(required(f"{at}.name"))
        else:
            errors += [invalid(f"{at}.name", name, found) for found in labels.env_var_name(name)]
        source = child(variable, "valueFrom")
        if source is not None:
            errors += _validate_source(variable, source, f"{at}.valueFrom")
    return errors


def _validate_source(variable: Node, source: Node, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    sources = 0
    if (field_ref := child(source, "fieldRef")) is not None:
        sources += 1
        errors += validate_field_ref(field_ref, _ENV_FIELDS, f"{path}.fieldRef")
    if (resource_ref := child(source, "resourceFieldRef")) is not None:
        sources += 1
        errors += validate_resource_ref(resource_ref, f"{path}.resourceFieldRef", volume=False)
    for key in ("configMapKeyRef", "secretKeyRef"):
        if (reference := child(source, key)) is not None:
            sources += 1
            errors += _validate_key(reference, f"{path}.{key}")
    if sources == 0:
        detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        errors.append(invalid(path, "", detail))
    elif text(variable, "value"):
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif sources > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def _validate_key(reference: Node, path: str) -> list[FieldError]:
    name, key = text(reference, "name"), text(reference, "key")
    errors = [invalid(f"{path}.name", name, found) for found in labels.dns1123_subdomain(name)]
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        errors += [invalid(f"{path}.key", key, found) for found in labels.config_key(key)]
    return errors


def _subscript(path: str) -> tuple[str, str] | None:
    """Split ``metadata.labels['key']`` into path and key; ``None`` when there is no subscript."""
    if not path.endswith("']"):
        return None
    head, separator, key = path.removesuffix("']").partition("['")
    return (head, key) if separator and head else None


def validate_field_ref(reference: Node, allowed: tuple[str, ...], path: str) -> list[FieldError]:
    """Validate a reference to a field of the pod; *allowed* are the plain paths."""
    version, field_path = text(reference, "apiVersion"), text(reference, "fieldPath")
    if not version:
        return [required(f"{path}.apiVersion")]
    if not field_path:
        return [required(f"{path}.fieldPath")]
    split = _subscript(field_path)
    problem = ""
    if version != "v1":
        problem = f"unsupported pod version: {version}"
    elif split is not None and split[0] not in ("metadata.annotations", "metadata.labels"):
        problem = f"field label does not support subscript: {field_path}"
    elif split is None and field_path not in _POD_FIELDS and field_path != "spec.host":
        problem = f"field label not supported: {field_path}"
    if problem:
        return [invalid(f"{path}.fieldPath", field_path, f"error converting fieldPath: {problem}")]
    if split is not None:
        key = split[1].lower() if split[0] == "metadata.annotations" else split[1]
        return [invalid(path, key, found) for found in labels.qualified_name(key)]
    field_path = "spec.nodeName" if field_path == "spec.host" else field_path
    return [] if field_path in allowed else [not_supported(f"{path}.fieldPath", field_path, allowed)]


def validate_resource_ref(reference: Node, path: str, *, volume: bool) -> list[FieldError]:
    """Validate a reference to a container's resource; a volume must name the container."""
    errors: list[FieldError] = []
    resource = text(reference, "resource")
    if volume and not text(reference, "containerName"):
        errors.append(required(f"{path}.containerName"))
    elif not resource:
        errors.append(required(f"{path}.resource"))
    elif resource not in _RESOURCES and not resource.startswith(_HUGE_PAGE_PREFIXES):
        errors.append(not_supported(f"{path}.resource", resource, _RESOURCES))
    divisor = quantity(reference.get("divisor"))
    if not divisor.is_zero():
        errors += _validate_divisor(resource, str(divisor), f"{path}.divisor")
    return errors


def _validate_divisor(resource: str, divisor: str, path: str) -> list[FieldError]:
    part, _, name = resource.partition(".")
    if part not in ("limits", "requests"):
        return []
    if name == "cpu":
        if divisor in _CPU_DIVISORS:
            return []
        return [invalid(path, resource, "only divisor's values 1m and 1 are supported with the cpu resource")]
    described = _BYTE_RESOURCES.get(name) or ("hugepages" if name.startswith("hugepages-") else "")
    if not described or divisor in _BYTE_UNITS:
        return []
    units = ", ".join(_BYTE_UNITS)
    return [invalid(path, resource, f"only divisor's values {units} are supported with the {described} resource")]


def validate_env_from(sources: list[Node], path: str) -> list[FieldError]:
    """Validate sources of whole environments. Their count errors stand at *path* itself, without an index."""
    errors: list[FieldError] = []
    for i, source in enumerate(sources):
        at, prefix = f"{path}[{i}]", text(source, "prefix")
        if prefix:
            errors += [invalid(f"{at}.prefix", prefix, found) for found in labels.env_var_name(prefix)]
        count = 0
        for key in ("configMapRef", "secretRef"):
            reference = child(source, key)
            if reference is None:
                continue
            count += 1
            name = text(reference, "name")
            if not name:
                errors.append(required(f"{at}.{key}.name"))
            else:
                # A trailing hyphen passes: the name is checked as if something were appended to it.
                checked = labels.as_prefix(name)
                errors += [invalid(f"{at}.{key}.name", name, found) for found in labels.dns1123_subdomain(checked)]
        if count == 0:
            errors.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif count > 1:
            errors.append(invalid(path, "", "may not have more than one field specified at a time"))
    return errors
