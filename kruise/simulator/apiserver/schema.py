"""Structural schemas of custom kinds: pruning, defaulting, checking.

Purpose: what kube-apiserver does with ``openAPIV3Schema`` before it stores an object.

Guarantees:

* TST1: unknown fields go, unless the schema preserves them; absent fields with a default are filled in; types, enums,
  limits, patterns, required fields and int-or-string are checked, each with the path of its field.

What this does not do: CEL rules (``x-kubernetes-validations``) are not evaluated; ``metadata`` is not the schema's.
"""

from __future__ import annotations

import copy
import re
from typing import Any, Final

from kruise.simulator.apiserver.failure import Cause, invalid_value, required, shown, unsupported_value

Body = dict[str, Any]

_EMBEDDED: Final = ("apiVersion", "kind", "metadata")
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


class Schema:
    """The schema of one version. An empty one accepts and keeps everything."""

    def __init__(self, schema: Body) -> None:
        self._schema = schema

    def prune(self, obj: Body) -> None:
        """Remove unknown fields, in place."""
        if self._schema:
            _prune(obj, self._schema, root=True)

    def default(self, obj: Body) -> None:
        """Fill in defaults, in place."""
        _default(obj, self._schema)

    def check(self, obj: Body) -> list[Cause]:
        """Return what breaks the schema."""
        return _check(obj, self._schema, "", root=True) if self._schema else []


def _prune(value: Any, schema: Body, *, root: bool = False) -> None:
    if isinstance(value, list):
        items = schema.get("items") or {}
        for item in value:
            _prune(item, items)
        return
    if not isinstance(value, dict):
        return
    properties: Body = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    keeps = schema.get("x-kubernetes-preserve-unknown-fields") or extra is True
    embedded = root or schema.get("x-kubernetes-embedded-resource")
    for name in list(value):
        if embedded and name in _EMBEDDED:
            continue
        if name in properties:
            _prune(value[name], properties[name])
        elif isinstance(extra, dict):
            _prune(value[name], extra)
        elif not keeps:
            del value[name]


def _default(value: Any, schema: Body) -> None:
    if isinstance(value, list):
        for item in value:
            _default(item, schema.get("items") or {})
    elif isinstance(value, dict):
        for name, inner in (schema.get("properties") or {}).items():
            if "default" in inner and (name not in value or (value[name] is None and not inner.get("nullable"))):
                value[name] = copy.deepcopy(inner["default"])
            if name in value:
                _default(value[name], inner)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            for item in value.values():
                _default(item, extra)


def _check(value: Any, schema: Body, path: str, *, root: bool = False) -> list[Cause]:
    if value is None:
        # An explicit null of a field that is not nullable is dropped while the object is read.
        return []
    causes = _check_type(value, schema, path)
    if causes:
        return causes
    if "enum" in schema and value not in schema["enum"]:
        return [unsupported_value(path, value, tuple(str(e) for e in schema["enum"]))]
    causes += _limits(value, schema, path)
    for branch in schema.get("allOf") or ():
        causes += _check(value, branch, path)
    branches = schema.get("anyOf") or schema.get("oneOf") or ()
    if branches and not schema.get("x-kubernetes-int-or-string") and all(_check(value, b, path) for b in branches):
        causes.append(invalid_value(path or "<nil>", "", f"{path or '<nil>'} must validate at least one schema"))
    if isinstance(value, dict):
        causes += _members(value, schema, path, root=root)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            causes += _check(item, schema.get("items") or {}, f"{path}[{i}]")
    return causes


def _check_type(value: Any, schema: Body, path: str) -> list[Cause]:
    if schema.get("x-kubernetes-int-or-string"):
        fits, wanted = isinstance(value, int | str) and not isinstance(value, bool), "integer,string"
    else:
        wanted = schema.get("type", "")
        fits = not wanted or (
            isinstance(value, _TYPES[wanted]) and not (isinstance(value, bool) and wanted in ("integer", "number"))
        )
        if wanted == "integer" and isinstance(value, float) and value.is_integer():
            fits = True
    if fits:
        return []
    given = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}[
        type(value)
    ]
    text = f'{path} in body must be of type {wanted}: "{given}"'
    return [Cause("FieldValueTypeInvalid", f"Invalid value: {shown(given)}: {text}", path)]


def _limits(value: Any, schema: Body, path: str) -> list[Cause]:
    found: list[str] = []
    if isinstance(value, int | float) and not isinstance(value, bool):
        found += _number_limits(value, schema)
    elif isinstance(value, str):
        if len(value) > schema.get("maxLength", len(value)):
            found.append(f"should be at most {schema['maxLength']} chars long")
        if len(value) < schema.get("minLength", 0):
            found.append(f"should be at least {schema['minLength']} chars long")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"should match '{schema['pattern']}'")
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            found.append(f"should have at most {schema['maxItems']} items")
        if len(value) < schema.get("minItems", 0):
            found.append(f"should have at least {schema['minItems']} items")
    elif isinstance(value, dict) and len(value) > schema.get("maxProperties", len(value)):
        found.append(f"should have at most {schema['maxProperties']} properties")
    return [invalid_value(path, value, f"{path} in body {text}") for text in found]


def _number_limits(value: float, schema: Body) -> list[str]:
    found = []
    low, high = schema.get("minimum"), schema.get("maximum")
    if schema.get("format") == "int32":
        low, high = (
            max(low if low is not None else -(2**31), -(2**31)),
            min(high if high is not None else 2**31 - 1, 2**31 - 1),
        )
    if low is not None and value < low:
        found.append(f"should be greater than or equal to {low}")
    if high is not None and value > high:
        found.append(f"should be less than or equal to {high}")
    return found


def _members(value: Body, schema: Body, path: str, *, root: bool) -> list[Cause]:
    causes: list[Cause] = []
    properties: Body = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    causes += [
        required(f"{path}.{name}" if path else name) for name in schema.get("required") or () if value.get(name) is None
    ]
    for name, inner in value.items():
        if root and name in _EMBEDDED:
            continue
        here = f"{path}.{name}" if path else name
        if name in properties:
            causes += _check(inner, properties[name], here)
        elif isinstance(extra, dict):
            causes += _check(inner, extra, here)
    return causes
