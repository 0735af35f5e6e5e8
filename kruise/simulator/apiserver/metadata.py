"""The rules of ``metadata``, the same for every kind.

Purpose: what the server fills in, keeps, counts and refuses in the metadata of an object.

Guarantees:

* TST1: uid, creationTimestamp and generation are the server's; generateName; a wrong uid is 422, a stale version 409;
  no finalizer can be added to an object that is being deleted; names, labels and the size of annotations are checked.
* Generation starts at 1 and counts changes outside metadata and status, where the kind has it.

What this does not do: nothing here depends on a kind; that is in ``kinds.py``.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kruise.runtime.clock import Random, format_time, new_uuid
from kruise.simulator.apiserver.failure import (
    Cause,
    Failure,
    conflict,
    forbidden_field,
    immutable,
    invalid,
    invalid_value,
    required,
)
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.storage import Record

Body = dict[str, Any]

GENERATED: Final = "bcdfghjklmnpqrstvwxz2456789"
"""The letters of generated names: no vowels and nothing that looks alike."""
MAX_ANNOTATIONS: Final = 256 * 1024
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_RBAC_NAME: Final = re.compile(r"[^/%]+\Z")
_QUALIFIED: Final = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_SUBDOMAIN_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character"
)


def generated_name(base: str, rng: Random) -> str:
    """Return *base* with five random letters, cut so that 63 characters are enough."""
    return base[:58] + "".join(rng.choice(GENERATED) for _ in range(5))


def fill_new(obj: Body, info: ResourceType, namespace: str, *, now: float, rng: Random) -> None:
    """Fill in what the server owns of a new object, in place."""
    meta = obj["metadata"]
    if info.namespaced:
        meta["namespace"] = namespace
    else:
        meta.pop("namespace", None)
    meta["uid"] = new_uuid(rng)
    meta["creationTimestamp"] = format_time(now)
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "generation"):
        meta.pop(name, None)
    if info.generation:
        meta["generation"] = 1


def check(obj: Body, info: ResourceType) -> list[Cause]:
    """Return what is wrong with the metadata of *obj*, whatever happens to it."""
    meta = obj["metadata"]
    causes: list[Cause] = []
    name = meta.get("name", "")
    rule = (
        _RBAC_NAME
        if info.group == "rbac.authorization.k8s.io"
        else _LABEL
        if info.plural == "namespaces"
        else _SUBDOMAIN
    )
    if not name:
        causes.append(required("metadata.name", "name or generateName is required"))
    elif not rule.match(name) or len(name) > (63 if rule is _LABEL else 253):
        causes.append(invalid_value("metadata.name", name, _SUBDOMAIN_RULE))
    causes += _check_maps(meta)
    for i, ref in enumerate(meta.get("ownerReferences") or ()):
        causes += [
            required(f"metadata.ownerReferences[{i}].{part}", f"{part} must not be empty")
            for part in ("apiVersion", "kind", "name", "uid")
            if not ref.get(part)
        ]
    controllers = [r for r in meta.get("ownerReferences") or () if r.get("controller")]
    if len(controllers) > 1:
        causes.append(
            invalid_value(
                "metadata.ownerReferences", len(controllers), "Only one reference can have Controller set to true"
            )
        )
    return causes


def _check_maps(meta: Body) -> list[Cause]:
    causes: list[Cause] = []
    for key, value in (meta.get("labels") or {}).items():
        if not _QUALIFIED.match(key):
            causes.append(invalid_value("metadata.labels", key, "name part must consist of alphanumeric characters"))
        if not isinstance(value, str) or not _VALUE.match(value):
            causes.append(
                invalid_value("metadata.labels", value, "a valid label must be at most 63 characters of [-A-Za-z0-9_.]")
            )
    annotations = meta.get("annotations") or {}
    size = 0
    for key, value in annotations.items():
        if not _QUALIFIED.match(key.lower()):
            causes.append(
                invalid_value("metadata.annotations", key, "name part must consist of alphanumeric characters")
            )
        size += len(key) + len(value)
    if size > MAX_ANNOTATIONS:
        causes.append(
            Cause(
                "FieldValueTooLong", f"Too long: may not be more than {MAX_ANNOTATIONS} bytes", "metadata.annotations"
            )
        )
    return causes


def check_preconditions(info: ResourceType, old: Record, name: str, wanted: Body) -> None:
    """Refuse with 409 when the preconditions of a DELETE do not hold."""
    uid, rv = wanted.get("uid"), wanted.get("resourceVersion")
    if uid and uid != old.uid:
        why = (
            f"the UID in the precondition ({uid}) does not match the UID in record ({old.uid}). "
            "The object might have been deleted and then recreated"
        )
        raise conflict(info.plural, info.group, name, why)
    if rv and rv != str(old.rv):
        why = (
            f"the ResourceVersion in the precondition ({rv}) does not match the ResourceVersion in record ({old.rv}). "
            "The object might have been modified"
        )
        raise conflict(info.plural, info.group, name, why)


def check_version(info: ResourceType, old: Record, name: str, new: Body) -> None:
    """Refuse an update that was decided on another version: 409, or 422 where a version must be given and is not."""
    given = new["metadata"].get("resourceVersion")
    if given in (None, "", "0"):
        if not info.unconditional:
            cause = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid(info.kind, info.group, name, cause)
    elif given != str(old.rv):
        raise conflict(info.plural, info.group, name)


def carry_over(new: Body, old: Body, info: ResourceType) -> list[Cause]:
    """Fill in what an update cannot change, in place, and return what it tried to change nevertheless."""
    meta, before = new["metadata"], old["metadata"]
    causes: list[Cause] = []
    meta.pop("managedFields", None)
    meta.pop("selfLink", None)
    for name in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName"):
        given, had = meta.get(name), before.get(name)
        if name.startswith("deletion") and had is not None:
            meta[name] = had
        elif given in (None, ""):
            meta.pop(name, None)
            if had is not None:
                meta[name] = had
        elif given != had and name != "generateName":
            causes.append(immutable(f"metadata.{name}", given))
    causes += [
        immutable(f"metadata.{part}", meta.get(part))
        for part in ("name", "namespace")
        if meta.get(part) != before.get(part)
    ]
    if before.get("deletionTimestamp"):
        had_finalizers = before.get("finalizers") or ()
        added = [f for f in meta.get("finalizers") or () if f not in had_finalizers]
        if added:
            text = f"no new finalizers can be added if the object is being deleted, found new finalizers {added}"
            causes.append(forbidden_field("metadata.finalizers", text))
    meta["resourceVersion"] = before["resourceVersion"]
    _count_generation(new, old, info)
    return causes


def _count_generation(new: Body, old: Body, info: ResourceType) -> None:
    meta, before = new["metadata"], old["metadata"]
    meta.pop("generation", None)
    if "generation" not in before:
        return
    generation = before["generation"]
    ignored = {"metadata", "apiVersion", "kind"}
    if "status" in info.subresources or not info.custom:
        ignored.add("status")
    parts = (set(new) | set(old)) - ignored
    changed = info.generation and any(new.get(p) != old.get(p) for p in parts)
    meta["generation"] = generation + 1 if changed else generation


def name_conflict(info: ResourceType, path_name: str, body_name: str) -> Failure:
    """400: the body names another object than the path."""
    text = f"the name of the object ({body_name}) does not match the name on the URL ({path_name})"
    return Failure(400, "BadRequest", text, details={"kind": info.plural, "name": path_name})
