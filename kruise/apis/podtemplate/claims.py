"""Validation of volume claim templates.

Purpose: the claim inside an ephemeral volume; the same rules hold for the claim templates of a workload.

Guarantees: the errors of Kubernetes 1.32, in its order.

What this does not do: it completes nothing; claim templates inside a pod template stay as they are.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.apis import labels, selectors
from kruise.apis.fielderrors import FieldError, Plain, forbidden, invalid, not_supported, required
from kruise.apis.podtemplate.fields import Node, child, is_set, quantities, text, texts
from kruise.apis.podtemplate.resources import validate_quantity_value

__all__ = ["validate_claim_spec", "validate_claim_template"]

_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_FORBIDDEN_METADATA: Final = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uID",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
"""In the server's order and spelling: it prints the name of its own field, so the uid comes out as ``uID``."""


def validate_claim_template(template: Node, path: str) -> list[FieldError]:
    """Validate metadata and spec of a claim template."""
    metadata = child(template, "metadata") or {}
    errors = labels.validate_annotations(child(metadata, "annotations"), f"{path}.metadata.annotations")
    errors += labels.validate_labels(child(metadata, "labels"), f"{path}.metadata.labels")
    errors += [
        forbidden(f"{path}.metadata.{shown}", "cannot be set")
        for shown in _FORBIDDEN_METADATA
        if _given(metadata, shown)
    ]
    return errors + validate_claim_spec(child(template, "spec") or {}, f"{path}.spec")


def _given(metadata: Node, shown: str) -> bool:
    """Whether a field is more than its zero value; the grace period is a pointer, so its 0 counts."""
    value: Any = metadata.get("uid" if shown == "uID" else shown)
    return value is not None and value != "" and (value != 0 or shown == "deletionGracePeriodSeconds")


def validate_claim_spec(spec: Node, path: str) -> list[FieldError]:
    """Validate the spec of a claim."""
    modes = texts(spec, "accessModes")
    at = f"{path}.accessModes"
    errors = [] if modes else [required(at, "at least 1 access mode is required")]
    errors += selectors.validate(child(spec, "selector"), f"{path}.selector")
    errors += [not_supported(at, mode, _MODES) for mode in modes if mode not in _MODES]
    if "ReadWriteOncePod" in modes and set(modes) & {"ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce"}:
        errors.append(forbidden(at, "may not use ReadWriteOncePod with other access modes"))
    errors += _validate_storage(spec, f"{path}.resources[storage]")
    if name := text(spec, "storageClassName"):
        errors += [invalid(f"{path}.storageClassName", name, found) for found in labels.dns1123_subdomain(name)]
    if is_set(spec, "volumeMode") and text(spec, "volumeMode") not in ("Block", "Filesystem"):
        errors.append(not_supported(f"{path}.volumeMode", text(spec, "volumeMode"), ("Block", "Filesystem")))
    return errors + _validate_sources(spec, path)


def _validate_storage(spec: Node, path: str) -> list[FieldError]:
    value = dict(quantities(child(spec, "resources"), "requests")).get("storage")
    if value is None:
        return [required(path)]
    if value <= 0:
        return [invalid(path, str(value), "must be greater than zero")]
    return validate_quantity_value("storage", value, path)


def _validate_source(source: Node, path: str) -> list[FieldError]:
    errors = [required(f"{path}.{key}") for key in ("name", "kind") if not text(source, key)]
    group, kind = text(source, "apiGroup"), text(source, "kind")
    if not group and kind != "PersistentVolumeClaim":
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(invalid(path, kind, detail))
    if group:
        errors += [invalid(f"{path}.apiGroup", group, found) for found in labels.dns1123_subdomain(group)]
    if namespace := text(source, "namespace"):
        errors += [invalid(f"{path}.namespace", namespace, found) for found in labels.dns1123_label(namespace)]
    return errors


def _validate_sources(spec: Node, path: str) -> list[FieldError]:
    source, reference = child(spec, "dataSource"), child(spec, "dataSourceRef")
    errors: list[FieldError] = []
    if source is not None:
        local = {key: value for key, value in source.items() if key != "namespace"}
        errors += _validate_source(local, f"{path}.dataSource")
    if reference is not None:
        errors += _validate_source(reference, f"{path}.dataSourceRef")
    if source is None or reference is None:
        return errors
    shown = Plain(f"{path}.dataSource")
    if text(reference, "namespace"):
        errors.append(invalid(path, shown, "may not be specified when dataSourceRef.namespace is specified"))
    elif any(source.get(key) != reference.get(key) for key in ("apiGroup", "kind", "name")):
        errors.append(invalid(path, shown, "must match dataSourceRef"))
    return errors
