"""Which changes of claim templates are allowed while claims are resized with their pods.

Guarantees (spec/advanced-statefulset 1.6): under ``OnPodRollingUpdate`` templates keep their names, classes and access
modes; another size needs a storage class that can grow volumes. A class that one side leaves open is no difference.
The strategy asked is the new object's (section 16, row 15).

What this does not do: it looks at nothing but class, modes and sizes, and lets a template shrink: a smaller template
changes no claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kruise.apis.core import StorageClass
from kruise.apis.fielderrors import FieldError, Plain, forbidden, invalid
from kruise.apis.podtemplate.fields import Node, child, is_set, items, quantity, text, texts
from kruise.apis.quantity import ZERO, Quantity
from kruise.apis.statefulset import ON_DELETE
from kruise.runtime.clock import parse_time

__all__ = ["DEFAULT_CLASS", "claim_template_errors", "default_class"]

DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
"""The annotation of a storage class that claims without a class get."""


def claim_template_errors(
    spec: Node, old: Node, storage_classes: Sequence[StorageClass], path: str
) -> list[FieldError]:
    """Return the first error of the change of claim templates from the spec *old* to *spec*, at *path*."""
    if text(child(spec, "volumeClaimUpdateStrategy"), "type") in ("", ON_DELETE):
        return []
    templates, known = items(spec, "volumeClaimTemplates"), items(old, "volumeClaimTemplates")
    if len(templates) != len(known):
        detail = "volumeClaimTemplate can not be added or deleted when OnRollingUpdate"
        return [invalid(f"{path}.volumeClaimTemplates", Plain("volumeClaimTemplates"), detail)]
    by_name = {_name(one): one for one in known}
    for template in templates:
        name = _name(template)
        at, before = f"{path}.volumeClaimTemplates[{name}]", by_name.get(name)
        if before is None:
            return [forbidden(f"{at}.name", "volumeClaimTemplate name can not be modified")]
        if error := _change_error(child(template, "spec"), child(before, "spec"), storage_classes, at):
            return [error]
    return []


def default_class(storage_classes: Sequence[StorageClass]) -> StorageClass | None:
    """Return the newest storage class that is marked as the default; the first of several of the same age."""
    marked = [one for one in storage_classes if one.metadata.annotations.get(DEFAULT_CLASS) == "true"]
    return max(marked, key=lambda one: parse_time(one.metadata.creation_timestamp) or 0.0, default=None)


def _name(template: Node) -> str:
    return text(child(template, "metadata"), "name")


def _change_error(
    spec: Node | None, old: Node | None, storage_classes: Sequence[StorageClass], path: str
) -> FieldError | None:
    classes = [one["storageClassName"] for one in (spec, old) if one and is_set(one, "storageClassName")]
    if len(set(map(str, classes))) > 1 or texts(spec, "accessModes") != texts(old, "accessModes"):
        detail = "volumeClaimTemplate can not be modified when OnRollingUpdate"
        return invalid(path, Plain("volumeClaimTemplate"), detail)
    if all(_storage(spec, part) == _storage(old, part) for part in ("requests", "limits")):
        return None
    if is_set(spec, "storageClassName"):
        name = text(spec, "storageClassName")
        found = next((one for one in storage_classes if one.metadata.name == name), None)
        if found is None:
            return invalid(f"{path}.spec.storageClassName", name, "can not get sc")
    else:
        found = default_class(storage_classes)
    if found is None or found.allow_volume_expansion is not False:
        return None
    detail = f"storage class {found.metadata.name} does not support volume expansion"
    return forbidden(f"{path}.spec.resources.requests.storage", detail)


def _storage(spec: Node | None, part: str) -> Quantity:
    listed: dict[str, Any] = child(child(spec, "resources"), part) or {}
    return quantity(listed["storage"]) if listed.get("storage") is not None else ZERO
