"""Validation of object metadata.

Purpose: the checks that every kind of ours has in common, before its own.

Guarantees: the errors of the API machinery, in its order and words. Whoever calls names the rule for object names.

What this does not do: nothing here needs the old object; immutability is the API server's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kruise.apis import labels
from kruise.apis.fielderrors import FieldError, Plain, forbidden, invalid, required, too_long

__all__ = ["NameCheck", "validate_object_meta"]

NameCheck = Callable[[str, bool], list[str]]
"""The rule for the name of an object: the name and whether it is a prefix in, complaints out."""

_ORPHAN: Final = "orphan"
_FOREGROUND: Final = "foregroundDeletion"
_MANAGER_LIMIT: Final = 128
_SUBRESOURCE_LIMIT: Final = 256


def _text(node: Mapping[str, Any], key: str) -> str:
    value = node.get(key)
    return value if isinstance(value, str) else ""


def _listed(node: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = node.get(key)
    return [item if isinstance(item, Mapping) else {} for item in value] if isinstance(value, list) else []


def validate_object_meta(
    meta: Mapping[str, Any], *, namespaced: bool, name_check: NameCheck, path: str
) -> list[FieldError]:
    """Validate ``metadata``, plain JSON, at *path*.

    *name_check* is the rule for ``name`` and ``generateName``; its second argument says that something will follow.
    """
    errors: list[FieldError] = []
    name, generate_name, namespace = (_text(meta, key) for key in ("name", "generateName", "namespace"))
    if generate_name:
        errors += [invalid(f"{path}.generateName", generate_name, found) for found in name_check(generate_name, True)]
    if not name:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    else:
        errors += [invalid(f"{path}.name", name, found) for found in name_check(name, False)]
    if not namespaced:
        if namespace:
            errors.append(forbidden(f"{path}.namespace", "not allowed on this type"))
    elif not namespace:
        errors.append(required(f"{path}.namespace"))
    else:
        errors += [invalid(f"{path}.namespace", namespace, found) for found in labels.dns1123_label(namespace)]
    generation = meta.get("generation")
    if isinstance(generation, int) and generation < 0:
        errors.append(invalid(f"{path}.generation", generation, "must be greater than or equal to 0"))
    for key, check in (("labels", labels.validate_labels), ("annotations", labels.validate_annotations)):
        value = meta.get(key)
        errors += check(value if isinstance(value, Mapping) else None, f"{path}.{key}")
    errors += _validate_owners(_listed(meta, "ownerReferences"), f"{path}.ownerReferences")
    errors += _validate_finalizers(meta.get("finalizers"), f"{path}.finalizers")
    return errors + _validate_managed_fields(_listed(meta, "managedFields"), f"{path}.managedFields")


def _validate_owners(owners: list[Mapping[str, Any]], path: str) -> list[FieldError]:
    """Validate owner references. Errors that speak of the whole list stand at *path*, those of a field below it."""
    errors: list[FieldError] = []
    controller = ""
    for owner in owners:
        api_version, kind, name = _text(owner, "apiVersion"), _text(owner, "kind"), _text(owner, "name")
        # A malformed apiVersion (two slashes) reads as one without a version.
        version = api_version.rpartition("/")[2] if api_version.count("/") < 2 else ""
        if not version:
            errors.append(invalid(f"{path}.apiVersion", api_version, "version must not be empty"))
        if not kind:
            errors.append(invalid(f"{path}.kind", kind, "kind must not be empty"))
        if not name:
            errors.append(invalid(f"{path}.name", name, "name must not be empty"))
        if not _text(owner, "uid"):
            errors.append(invalid(f"{path}.uid", "", "uid must not be empty"))
        if api_version == "v1" and kind == "Event":
            shown = Plain("ownerReference")
            errors.append(invalid(path, shown, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller") is True:
            current = f"{kind}/{name}"
            if controller:
                detail = (
                    "Only one reference can have Controller set to true. "
                    f'Found "true" in references for {controller} and {current}'
                )
                errors.append(invalid(path, Plain("ownerReferences"), detail))
            else:
                controller = current
    return errors


def _validate_finalizers(value: Any, path: str) -> list[FieldError]:
    finalizers = [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
    errors = [invalid(path, item, found) for item in finalizers for found in labels.qualified_name(item)]
    if _ORPHAN in finalizers and _FOREGROUND in finalizers:
        detail = f"finalizer {_ORPHAN} and {_FOREGROUND} cannot be both set"
        errors.append(invalid(path, finalizers, detail))
    return errors


def _validate_managed_fields(entries: list[Mapping[str, Any]], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, entry in enumerate(entries):
        at, operation, kind = f"{path}[{i}]", _text(entry, "operation"), _text(entry, "fieldsType")
        if operation not in ("Apply", "Update"):
            errors.append(invalid(f"{at}.operation", operation, "must be `Apply` or `Update`"))
        if kind and kind != "FieldsV1":
            errors.append(invalid(f"{at}.fieldsType", kind, "must be `FieldsV1`"))
        manager = _text(entry, "manager")
        if len(manager.encode()) > _MANAGER_LIMIT:
            errors.append(too_long(f"{at}.manager", _MANAGER_LIMIT))
        for n, char in enumerate(manager):
            if not char.isprintable():
                position = len(manager[:n].encode())
                detail = f"invalid character U+{ord(char):04X} (at position {position})"
                errors.append(invalid(f"{at}.manager", manager, detail))
        if len(_text(entry, "subresource").encode()) > _SUBRESOURCE_LIMIT:
            errors.append(too_long(f"{at}.subresource", _SUBRESOURCE_LIMIT))
    return errors
