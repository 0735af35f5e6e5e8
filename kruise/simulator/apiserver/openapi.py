"""OpenAPI: the second version for old clients, the third one per group.

Purpose: ``kubectl explain``, ``kubectl apply`` and clients that look at types before they write.

Guarantees:

* TST1: ``/openapi/v3`` lists every group version with a hash of its document; each document has the kinds of the group
  with their group-version-kind and paths. Types of built-in kinds come from ``core_fields.json``; those of custom kinds
  are the schemas of their definitions, whole. ``/openapi/v2`` has all of them as definitions.

What this does not do: built-in types have no descriptions, and paths say no more than which operations there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import orjson

from kruise.apis import core_fields
from kruise.simulator.apiserver.discovery import VERSION
from kruise.simulator.apiserver.resources import Registry, ResourceType
from kruise.simulator.apiserver.typed import META_TYPE, type_of

Body = dict[str, Any]

_META: Final = "io.k8s.apimachinery.pkg.apis."
_SPECIAL: Final[dict[str, tuple[str, Body]]] = {
    "quantity": ("io.k8s.apimachinery.pkg.api.resource.Quantity", {"oneOf": [{"type": "string"}, {"type": "number"}]}),
    "intOrString": (
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    ),
    "time": (f"{_META}meta.v1.Time", {"type": "string", "format": "date-time"}),
    "micro": (f"{_META}meta.v1.MicroTime", {"type": "string", "format": "date-time"}),
    "fields": (f"{_META}meta.v1.FieldsV1", {"type": "object"}),
    "extension": ("io.k8s.apimachinery.pkg.runtime.RawExtension", {"type": "object"}),
}
_PLAIN: Final[dict[str, Body]] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "number": {"type": "number", "format": "double"},
    "double": {"type": "number", "format": "double"},
    "float": {"type": "number", "format": "float"},
    "bytes": {"type": "string", "format": "byte"},
    "raw": {"type": "object"},
}
_MICRO: Final = {
    ("core.v1.Event", "eventTime"),
    ("core.v1.EventSeries", "lastObservedTime"),
    ("events.v1.Event", "eventTime"),
    ("events.v1.EventSeries", "lastObservedTime"),
    ("coordination.v1.LeaseSpec", "acquireTime"),
    ("coordination.v1.LeaseSpec", "renewTime"),
}
_RAW: Final = {
    ("meta.v1.ManagedFieldsEntry", "fieldsV1"): "fields",
    ("apps.v1.ControllerRevision", "data"): "extension",
}
_ACTIONS: Final = {
    "get": "get",
    "put": "put",
    "patch": "patch",
    "delete": "delete",
    "post": "post",
}


def full_name(short: str) -> str:
    """Return the name under which OpenAPI knows a type of the table of fields."""
    return f"{_META if short.startswith('meta.') else 'io.k8s.api.'}{short}"


def custom_name(group: str, version: str, kind: str) -> str:
    """Return the name under which OpenAPI knows a custom kind."""
    return ".".join([*reversed(group.split(".")), version, kind])


class OpenApi:
    """The documents, made from what the registry knows now."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def answer(self, parts: list[str]) -> Body | None:
        """Return the document at a path below ``/openapi``; ``None`` when there is none."""
        if parts == ["v2"]:
            return self._second()
        if parts == ["v3"]:
            return {"paths": {p: {"serverRelativeURL": self._url(p)} for p in self._group_paths()}}
        if parts[0] == "v3" and "/".join(parts[1:]) in self._group_paths():
            return self._third("/".join(parts[1:]))
        return None

    def _group_paths(self) -> dict[str, tuple[str, str]]:
        found = {}
        for group, versions in self._registry.groups().items():
            for version in versions:
                found[f"apis/{group}/{version}" if group else f"api/{version}"] = (group, version)
        return found

    def _url(self, path: str) -> str:
        text = orjson.dumps(self._third(path), option=orjson.OPT_SORT_KEYS)
        return f"/openapi/v3/{path}?hash={hashlib.sha512(text).hexdigest().upper()}"

    def _third(self, path: str) -> Body:
        group, version = self._group_paths()[path]
        kinds = self._registry.in_version(group, version)
        schemas: Body = {}
        paths: Body = {}
        for info in kinds:
            schemas.update(_schemas(info, version, "#/components/schemas/", nest=True))
            paths.update(_paths(info, version))
        custom = bool(kinds) and kinds[0].custom
        title = "Kubernetes CRD Swagger" if custom else "Kubernetes"
        number = "v0.1.0" if custom else f"{VERSION['major']}.{VERSION['minor']}"
        return {
            "openapi": "3.0.0",
            "info": {"title": title, "version": number},
            "paths": dict(sorted(paths.items())),
            "components": {"schemas": dict(sorted(schemas.items()))},
        }

    def _second(self) -> Body:
        definitions: Body = {}
        paths: Body = {}
        for group, version in self._group_paths().values():
            for info in self._registry.in_version(group, version):
                definitions.update(_schemas(info, version, "#/definitions/", nest=False))
                paths.update(_paths(info, version))
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": f"{VERSION['major']}.{VERSION['minor']}"},
            "paths": dict(sorted(paths.items())),
            "definitions": dict(sorted(definitions.items())),
        }


def _schemas(info: ResourceType, version: str, root: str, *, nest: bool) -> Body:
    """Return the types of one kind and of its list, and everything that they name."""
    gvk = {"group": info.group, "kind": info.kind, "version": version}
    if info.custom:
        name, own = custom_name(info.group, version, info.kind), _custom(info, version, root, nest=nest)
        found: Body = {}
    else:
        short = type_of(info.group, info.kind)
        name = full_name(short) if short else custom_name(info.group, version, info.kind)
        found = dict(_reach(short, root, nest=nest)) if short else {}
        own = found.get(name) or {"type": "object", "properties": dict(_identity(root, nest=nest))}
    found.update(_reach(META_TYPE, root, nest=nest))
    found[name] = {**own, "x-kubernetes-group-version-kind": [gvk]}
    found[f"{_META}meta.v1.ListMeta"] = {"type": "object", "properties": dict.fromkeys(_LIST_META, _PLAIN["string"])}
    found[f"{name}List"] = {
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": _PLAIN["string"],
            "items": {"type": "array", "items": {"$ref": f"{root}{name}"}},
            "kind": _PLAIN["string"],
            "metadata": _reference(f"{root}{_META}meta.v1.ListMeta", nest=nest),
        },
        "x-kubernetes-group-version-kind": [{**gvk, "kind": f"{info.kind}List"}],
    }
    return found


_LIST_META: Final = ("continue", "remainingItemCount", "resourceVersion", "selfLink")


def _reference(target: str, *, nest: bool) -> Body:
    """Return a reference: the third version wraps it, so that a description can stand beside it."""
    return {"allOf": [{"$ref": target}]} if nest else {"$ref": target}


def _identity(root: str, *, nest: bool) -> Iterable[tuple[str, Body]]:
    yield "apiVersion", _PLAIN["string"]
    yield "kind", _PLAIN["string"]
    yield "metadata", _reference(f"{root}{full_name(META_TYPE)}", nest=nest)


def _custom(info: ResourceType, version: str, root: str, *, nest: bool) -> Body:
    versions = (info.definition or {}).get("versions") or ()
    found: Body = next((v for v in versions if v["name"] == version), {})
    schema = dict((found.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"})
    schema["properties"] = {**(schema.get("properties") or {}), **dict(_identity(root, nest=nest))}
    if found.get("selectableFields"):
        schema["x-kubernetes-selectable-fields"] = [
            {"fieldPath": f["jsonPath"].lstrip(".")} for f in found["selectableFields"]
        ]
    return schema


def _reach(short: str, root: str, *, nest: bool) -> Iterable[tuple[str, Body]]:
    known = frozenset(core_fields.known_types())
    waiting, seen = [short], {short}
    while waiting:
        name = waiting.pop()
        properties: Body = {}
        required = []
        for field in core_fields.fields(name).values():
            properties[field.name], used = _field(name, field, root, known, nest=nest)
            if used in _SPECIAL:
                yield _SPECIAL[used]
            elif used and used not in seen:
                seen.add(used)
                waiting.append(used)
            if field.required:
                required.append(field.name)
        body: Body = {"type": "object", "properties": properties}
        if required:
            body["required"] = required
        yield full_name(name), body


def _field(owner: str, field: core_fields.Field, root: str, known: frozenset[str], *, nest: bool) -> tuple[Body, str]:
    """Return the schema of a field, and the type that it names."""
    inner = field.inner
    if (owner, field.name) in _MICRO:
        inner = "micro"
    inner = _RAW.get((owner, field.name), inner)
    if inner in _SPECIAL:
        target, used = f"{root}{_SPECIAL[inner][0]}", inner
    elif inner in known:
        target, used = f"{root}{full_name(inner)}", inner
    else:
        target = used = ""
    plain = not (field.is_list or field.is_map)
    if target:
        schema = _reference(target, nest=nest and plain) if plain else {"$ref": target}
    else:
        schema = dict(_PLAIN.get(inner) or _nested(inner))
    if field.is_list:
        schema = {"type": "array", "items": schema}
    elif field.is_map:
        schema = {"type": "object", "additionalProperties": schema}
    attributes: tuple[tuple[str, Any], ...] = (
        ("x-kubernetes-list-type", field.list_type),
        ("x-kubernetes-list-map-keys", list(field.list_keys)),
        ("x-kubernetes-patch-merge-key", field.merge_key),
        ("x-kubernetes-patch-strategy", ",".join(field.strategies)),
        ("x-kubernetes-map-type", "atomic" if field.atomic_map else ""),
    )
    for name, value in attributes:
        if value:
            schema[name] = value
    return schema, used


def _nested(inner: str) -> Body:
    """Return the schema of a list or map inside another."""
    if inner.startswith("["):
        return {"type": "array", "items": _PLAIN.get(inner[1:-1], {"type": "object"})}
    if inner.startswith("{"):
        return {"type": "object", "additionalProperties": _PLAIN.get(inner[1:-1], {"type": "object"})}
    return {"type": "object"}


def _paths(info: ResourceType, version: str) -> Body:
    if "review" in info.categories:
        return {}
    base = f"/apis/{info.group}/{version}" if info.group else f"/api/{version}"
    gvk = {"group": info.group, "kind": info.kind, "version": version}
    scope = f"{base}/namespaces/{{namespace}}" if info.namespaced else base
    found = {
        f"{scope}/{info.plural}": _operations(gvk, {"get": "list", "post": "post", "delete": "deletecollection"}),
        f"{scope}/{info.plural}/{{name}}": _operations(gvk, _ACTIONS, without="post"),
    }
    if info.namespaced:
        found[f"{base}/{info.plural}"] = _operations(gvk, {"get": "list"})
    for sub in ("status", "scale"):
        if sub in _subresources(info, version):
            found[f"{scope}/{info.plural}/{{name}}/{sub}"] = _operations(gvk, _ACTIONS, without="post,delete")
    return found


def _subresources(info: ResourceType, version: str) -> Iterable[str]:
    if info.definition is None:
        return info.subresources
    found: Body = next((v for v in info.definition["versions"] if v["name"] == version), {})
    return found.get("subresources") or ()


_BODY: Final = {"*/*": {"schema": {"type": "object"}}}
_VALIDATED: Final = [
    {"name": "dryRun", "in": "query", "schema": {"type": "string", "uniqueItems": True}},
    {"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": True}},
]


def _operations(gvk: Body, actions: dict[str, str], *, without: str = "") -> Body:
    found: Body = {}
    for method, action in actions.items():
        if method in without.split(","):
            continue
        operation: Body = {
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
        }
        if method in ("post", "put", "patch"):
            operation["parameters"] = _VALIDATED
            operation["requestBody"] = {"content": _BODY, "required": True}
        found[method] = operation
    return found
