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
from dataclasses import replace
from typing import Any, Final

from kruise.apis import labels
from kruise.apis.fielderrors import FieldError
from kruise.apis.fielderrors import invalid as invalid_field
from kruise.apis.fielderrors import required as required_field
from kruise.runtime.clock import Random, format_time, new_uuid
from kruise.simulator.apiserver.failure import (
    Cause,
    Failure,
    conflict,
    forbidden_field,
    immutable,
    invalid,
    invalid_value,
    of_errors,
    required,
)
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.storage import Record

Body = dict[str, Any]

GENERATED: Final = "bcdfghjklmnpqrstvwxz2456789"
"""The letters of generated names: no vowels and nothing that looks alike."""
_RBAC_NAME: Final = re.compile(r"[^/%]+\Z")
_LABEL_NAMES: Final = ("namespaces", "services")
_STANDARD_FINALIZERS: Final = ("orphan", "foregroundDeletion", "kubernetes")


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
    errors: list[FieldError] = []
    name, base = meta.get("name", ""), meta.get("generateName", "")
    if base:
        errors += [invalid_field("metadata.generateName", base, why) for why in _name_rule(base, info, prefix=True)]
    if not name:
        errors.append(required_field("metadata.name", "name or generateName is required"))
    else:
        errors += [invalid_field("metadata.name", name, why) for why in _name_rule(name, info)]
    errors += [_reworded(e) for e in labels.validate_labels(meta.get("labels"), "metadata.labels")]
    errors += labels.validate_annotations(meta.get("annotations"), "metadata.annotations")
    for i, finalizer in enumerate(meta.get("finalizers") or ()):
        found = labels.qualified_name(finalizer)
        errors += [invalid_field("metadata.finalizers", finalizer, why) for why in found]
        if not info.custom and "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            text = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid_field(f"metadata.finalizers[{i}]", finalizer, text))
    return of_errors(errors) + _check_owners(meta.get("ownerReferences") or [])


def _reworded(error: FieldError) -> FieldError:
    """Return an error of a label in the words of the present version, which speaks of bytes and of label keys."""
    detail = error.detail.replace("a qualified name must", "a valid label key must")
    return replace(error, detail=detail.replace("no more than 63 characters", "no more than 63 bytes"))


def _name_rule(name: str, info: ResourceType, *, prefix: bool = False) -> list[str]:
    if info.group == "rbac.authorization.k8s.io":
        return [] if _RBAC_NAME.match(name) else ["may not contain '/' or '%'"]
    rule = labels.dns1123_label if info.table in _LABEL_NAMES else labels.dns1123_subdomain
    return rule(labels.as_prefix(name) if prefix else name)


def _check_owners(refs: list[Body]) -> list[Cause]:
    causes = [
        required(f"metadata.ownerReferences[{i}].{part}", "must not be empty")
        for i, ref in enumerate(refs)
        for part in ("apiVersion", "kind", "name", "uid")
        if not ref.get(part)
    ]
    controllers = [f"{r.get('kind')}/{r.get('name')}" for r in refs if r.get("controller")]
    if len(controllers) > 1:
        order = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")
        shown_refs = [{k: r[k] for k in order if k in r} for r in refs]
        text = (
            "Only one reference can have Controller set to true. "
            f'Found "true" in references for {controllers[0]} and {controllers[1]}'
        )
        causes.append(invalid_value("metadata.ownerReferences", shown_refs, text))
    return causes


def check_preconditions(info: ResourceType, old: Record, name: str, wanted: Body) -> None:
    """Refuse with 409 when the preconditions of a DELETE do not hold."""
    uid, rv = wanted.get("uid"), wanted.get("resourceVersion")
    if uid and uid != old.uid:
        why = (
            f"the UID in the precondition ({uid}) does not match the UID in record ({old.uid}). "
            "The object might have been deleted and then recreated"
        )
        raise conflict(info.kind, info.group, name, why)
    if rv and rv != str(old.rv):
        why = (
            f"the ResourceVersion in the precondition ({rv}) does not match the ResourceVersion in record ({old.rv}). "
            "The object might have been modified"
        )
        raise conflict(info.kind, info.group, name, why)


def check_version(info: ResourceType, old: Record, name: str, new: Body) -> None:
    """Refuse an update that was decided on another version: 409, or 422 where a version must be given and is not."""
    given = new["metadata"].get("resourceVersion")
    if given in (None, "", "0"):
        if not info.unconditional:
            cause = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid(info.plural, info.group, name, cause)
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
        elif name == "creationTimestamp":
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
            listed = ", ".join(f'"{f}"' for f in added)
            text = (
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{listed}}}"
            )
            causes.append(forbidden_field("metadata.finalizers", text))
    if info.custom:
        causes += causes  # a custom object's metadata is validated twice: once as an object's, once as its kind's
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
    del info
    return Failure(400, "BadRequest", text)
