"""CustomResourceDefinitions: from the object to a resource of the server.

Purpose: creating a CRD makes its kind served at once, with its versions, subresources, columns and schema.

Guarantees:

* TST1: every served version has a path; objects are stored in the storage version; unknown fields are pruned, defaults
  are filled in and the schema is checked (422), on create and on update.

* ``spec.conversion`` with the strategy Webhook is honoured (``webhooks_convert.py``).

What this does not do: without a webhook only ``apiVersion`` changes between versions, unless the server is given a
conversion (:func:`with_conversion`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from kruise.runtime.clock import format_time
from kruise.simulator.apiserver.failure import Cause, invalid_value, of_errors, required, unsupported_value
from kruise.simulator.apiserver.fieldvalidation import cannot_read, tell
from kruise.simulator.apiserver.resources import Reading, ResourceType
from kruise.simulator.apiserver.rules import Rules
from kruise.simulator.apiserver.schema import Schema
from kruise.simulator.apiserver.typed import EmbeddedProblem
from kruise.simulator.apiserver.webhooks_config import conversion_errors

Body = dict[str, Any]

DEFINITIONS: Final = "customresourcedefinitions.apiextensions.k8s.io"


def definition_type(crd: Body) -> ResourceType:
    """Return the resource that *crd* defines."""
    spec = crd["spec"]
    names = spec["names"]
    served = [v for v in spec["versions"] if v.get("served", True)]
    stored = next((v for v in served if v.get("storage")), served[0])
    versions = (stored["name"], *(v["name"] for v in served if v is not stored))
    subresources = stored.get("subresources") or {}
    scale = subresources.get("scale") or {}
    bodies = {v["name"]: (v.get("schema") or {}).get("openAPIV3Schema") or {} for v in served}
    schemas = {name: Schema(body) for name, body in bodies.items()}
    rules = {name: Rules(body) for name, body in bodies.items()}
    scaled = {v["name"]: (v.get("subresources") or {}).get("scale") or {} for v in served}

    def prepare(obj: Body, call: Reading, old: Body | None) -> list[Cause]:
        schema = schemas[call.version]
        if not call.pruned:
            try:
                unknown = schema.prune(obj)
            except EmbeddedProblem as problem:
                raise cannot_read(obj, names["kind"], call, str(problem)) from None
            tell([f'unknown field "{path}"' for path in unknown], obj, names["kind"], call)
        schema.default(obj)
        if call.subresource == "status":
            causes = schema.check_status(obj) + _accessed(obj, scaled[call.version], "statusReplicasPath")
        else:
            causes = schema.check(obj) + _accessed(obj, scaled[call.version], "specReplicasPath")
        before = None if old is None else {**old, "apiVersion": obj.get("apiVersion")}
        return causes + rules[call.version].check(obj, before, causes, call.warnings)

    return ResourceType(
        spec["group"],
        versions,
        names["kind"],
        names["plural"],
        spec.get("scope") == "Namespaced",
        frozenset(subresources),
        custom=True,
        generation=True,
        unconditional=False,
        short=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        fields=tuple(f["jsonPath"].lstrip(".") for f in stored.get("selectableFields") or ()),
        scale={
            "spec": scale.get("specReplicasPath", "").lstrip("."),
            "status": scale.get("statusReplicasPath", "").lstrip("."),
            "selector": scale.get("labelSelectorPath", "").lstrip("."),
        },
        prepare=prepare,
        prune=schemas[stored["name"]].prune,
        defaults=lambda obj, version: schemas[version].default(obj),
        definition=spec,
    )


def deprecations(info: ResourceType, version: str) -> list[str]:
    """Return what a client of *version* is warned of, if that version is deprecated."""
    versions = (info.definition or {}).get("versions") or ()
    found: Body = next((v for v in versions if v["name"] == version), {})
    if not found.get("deprecated"):
        return []
    return [found.get("deprecationWarning") or f"{info.api_version(version)} {info.kind} is deprecated"]


def _accessed(obj: Body, scale: Body, name: str) -> list[Cause]:
    """Return what is wrong with the number of replicas that the scale subresource would show."""
    path = scale.get(name)
    if not path:
        return []
    value: Any = obj
    for part in path.lstrip(".").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, str):
        return [invalid_value(path, 0, f"{path} accessor error: {value} is of the type string, expected int64")]
    if isinstance(value, int) and value < 0:
        return [invalid_value(path, value, "should be a non-negative integer")]
    return []


def complete(crd: Body) -> list[Cause]:
    """Default a definition in place, and return what is wrong with it."""
    spec: Body = crd.setdefault("spec", {})
    names: Body = spec.setdefault("names", {})
    kind, plural, group = names.get("kind") or "", names.get("plural") or "", spec.get("group") or ""
    names.setdefault("singular", kind.lower())
    names.setdefault("listKind", f"{kind}List")
    conversion = spec.setdefault("conversion", {"strategy": "None"})
    causes: list[Cause] = of_errors(conversion_errors(conversion))
    for field, value in (("spec.group", group), ("spec.names.plural", plural), ("spec.names.kind", kind)):
        if not value:
            causes.append(required(field))
    own = crd["metadata"].get("name")
    if own != f"{plural}.{group}":
        causes.append(invalid_value("metadata.name", own, 'must be spec.names.plural+"."+spec.group'))
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        causes.append(unsupported_value("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced")))
    versions = spec.get("versions") or []
    if sum(1 for v in versions if v.get("storage")) != 1:
        text = "must have exactly one version marked as storage version"
        causes.append(invalid_value("spec.versions", [], text))
    for i, version in enumerate(versions):
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        path = f"spec.versions[{i}].schema.openAPIV3Schema"
        causes += [required(path, "schemas are required")] if schema is None else _structural(schema, path)
    return causes


def _structural(schema: Body, path: str) -> list[Cause]:
    loose = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    causes = (
        []
        if schema.get("type") or loose
        else [required(f"{path}.type", "must not be empty for specified object fields")]
    )
    for name, inner in (schema.get("properties") or {}).items():
        causes += _structural(inner, f"{path}.properties[{name}]")
    if isinstance(schema.get("items"), dict):
        causes += _structural(schema["items"], f"{path}.items")
    if isinstance(schema.get("additionalProperties"), dict):
        causes += _structural(schema["additionalProperties"], f"{path}.additionalProperties")
    return causes


def with_conversion(info: ResourceType, convert: Callable[[Body, str], Body]) -> ResourceType:
    """Return *info* with a conversion between its versions; *convert* takes an object and an ``apiVersion``."""
    return replace(info, convert=convert)


def established(crd: Body, now: float) -> Body:
    """Return the status of a definition that is served."""
    had = crd.get("status") or {}
    if any(c["type"] == "Established" for c in had.get("conditions") or ()):
        return had
    stamp = format_time(now)
    conditions = [
        {
            "type": "NamesAccepted",
            "status": "True",
            "reason": "NoConflicts",
            "message": "no conflicts found",
            "lastTransitionTime": stamp,
        },
        {
            "type": "Established",
            "status": "True",
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
            "lastTransitionTime": stamp,
        },
    ]
    stored = [v["name"] for v in crd["spec"]["versions"] if v.get("storage")]
    return {"conditions": conditions, "acceptedNames": crd["spec"]["names"], "storedVersions": stored}
