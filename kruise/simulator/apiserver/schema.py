"""Structural schemas of custom kinds: pruning, defaulting, checking.

Purpose: what kube-apiserver does with ``openAPIV3Schema`` before it stores an object.

Guarantees:

* TST1: unknown fields go, unless the schema preserves them, and their paths are told; absent fields with a default are
  filled in; types, formats, enums, limits, patterns, required fields, sets, list-maps, int-or-string, ``allOf``,
  ``anyOf``, ``oneOf`` and ``not`` are checked, each in the server's own words and with the path of its field.

What this does not do: the rules of ``x-kubernetes-validations`` are in ``rules.py``; ``metadata`` is not the schema's.
"""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any, Final

from kruise.simulator.apiserver.failure import Cause, invalid_value, required, shown, unsupported_value
from kruise.simulator.apiserver.typed import read_embedded

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
_NAMES: Final = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")


class Schema:
    """The schema of one version. An empty one accepts and keeps everything."""

    def __init__(self, schema: Body) -> None:
        self.body = schema

    def prune(self, obj: Body) -> list[str]:
        """Remove unknown fields, in place; return their paths, sorted."""
        unknown: list[str] = []
        if self.body:
            _prune(obj, self.body, "", unknown, root=True)
        return sorted(unknown)

    def default(self, obj: Body) -> None:
        """Fill in defaults, in place."""
        _default(obj, self.body)

    def check(self, obj: Body) -> list[Cause]:
        """Return what breaks the schema."""
        return _check(obj, self.body, "", root=True) if self.body else []

    def check_status(self, obj: Body) -> list[Cause]:
        """Return what breaks the schema in the status alone, told as for the status subresource."""
        schema = (self.body.get("properties") or {}).get("status")
        if schema is None or obj.get("status") is None:
            return []
        # The texts name fields as the status sees them; the paths of the fields are whole.
        causes = _check(obj["status"], schema, "")
        return [
            Cause(c.reason, c.message, f"status.{c.field}" if c.field not in ("", "<nil>") else c.field) for c in causes
        ]


def _prune(value: Any, schema: Body, path: str, unknown: list[str], *, root: bool = False) -> None:
    if isinstance(value, list):
        items = schema.get("items") or {}
        for i, item in enumerate(value):
            _prune(item, items, f"{path}[{i}]", unknown)
        return
    if not isinstance(value, dict):
        return
    properties: Body = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    keeps = schema.get("x-kubernetes-preserve-unknown-fields") or extra is True
    embedded = schema.get("x-kubernetes-embedded-resource")
    if embedded and not root and isinstance(value.get("metadata"), dict):
        value["metadata"] = read_embedded(value["metadata"], f"{path}.metadata")
    for name in list(value):
        here = f"{path}.{name}" if path else name
        if (root or embedded) and name in _EMBEDDED:
            continue
        if name in properties:
            inner = value[name]
            if isinstance(inner, float) and inner.is_integer() and properties[name].get("type") == "integer":
                value[name] = int(inner)
            _prune(value[name], properties[name], here, unknown)
        elif isinstance(extra, dict):
            _prune(value[name], extra, here, unknown)
        elif not keeps:
            del value[name]
            unknown.append(here)


def _default(value: Any, schema: Body) -> None:
    if isinstance(value, list):
        for item in value:
            _default(item, schema.get("items") or {})
    elif isinstance(value, dict):
        for name, inner in (schema.get("properties") or {}).items():
            if name in value and value[name] is None and not inner.get("nullable"):
                del value[name]  # an explicit null of a field that cannot be null is as good as none
            if "default" in inner and name not in value:
                value[name] = copy.deepcopy(inner["default"])
            if name in value:
                _default(value[name], inner)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            for item in value.values():
                _default(item, extra)


def _check(value: Any, schema: Body, path: str, *, root: bool = False) -> list[Cause]:
    if value is None:
        return [] if schema.get("nullable") else _null(schema, path)
    causes = _check_type(value, schema, path)
    wrong = bool(causes)
    if "enum" in schema and value not in schema["enum"]:
        causes.append(unsupported_value(path, value, tuple(str(e) for e in schema["enum"])))
    if not wrong:
        causes += _limits(value, schema, path)
    causes += _branches(value, schema, path)
    if wrong:
        return causes
    if isinstance(value, dict):
        causes += _members(value, schema, path, root=root)
    elif isinstance(value, list):
        causes += _unique(value, schema, path)
        for i, item in enumerate(value):
            causes += _check(item, schema.get("items") or {}, f"{path}[{i}]")
    return causes


def _null(schema: Body, path: str) -> list[Cause]:
    wanted = schema.get("type", "")
    if not wanted or schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    text = f'{path} in body must be of type {wanted}: "null"'
    return [Cause("FieldValueTypeInvalid", f'Invalid value: "null": {text}', path)]


def _type_cause(path: str, wanted: str, given: str, value: Any = None) -> Cause:
    shown_value = shown(given) if value is None else shown(value)
    text = f'{path} in body must be of type {wanted}: "{given}"'
    return Cause("FieldValueTypeInvalid", f"Invalid value: {shown_value}: {text}", path)


def _check_type(value: Any, schema: Body, path: str) -> list[Cause]:
    if schema.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, int | str) and not isinstance(value, bool)
        return [] if fits else [_type_cause(path, "integer,string", _NAMES[type(value)])]
    wanted = schema.get("type", "")
    if not wanted:
        return []
    number = wanted in ("integer", "number")
    if wanted == "integer" and isinstance(value, float):
        size = schema.get("format", "integer")
        return [_type_cause(path, size, "float64"), _not_of_format(path, size)]
    if not isinstance(value, _TYPES[wanted]) or (number and isinstance(value, bool)):
        return [_type_cause(path, wanted, _NAMES[type(value)])]
    return []


def _not_of_format(path: str, size: str) -> Cause:
    text = f"Checked value must be of type integer with format {size} in {path}"
    return Cause("FieldValueInvalid", f'Invalid value: "": {text}', "<nil>")


def _branches(value: Any, schema: Body, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for branch in schema.get("allOf") or ():
        causes += _check(value, branch, path)
    any_of = schema.get("anyOf") or ()
    found = [_check(value, branch, path) for branch in any_of]
    if found and all(found):
        causes += [_no_branch(f'"{path}" must validate at least one schema (anyOf)'), *found[0]]
    one_of = schema.get("oneOf") or ()
    found = [_check(value, branch, path) for branch in one_of]
    valid = sum(1 for f in found if not f)
    text = f'"{path}" must validate one and only one schema (oneOf). Found '
    if found and not valid:
        causes += [_no_branch(f"{text}none valid"), *found[0]]
    elif valid > 1:
        causes.append(_no_branch(f"{text}{valid} valid alternatives"))
    if "not" in schema and not _check(value, schema["not"], path):
        causes.append(_no_branch(f'"{path}" must not validate the schema (not)'))
    return causes


def _no_branch(text: str) -> Cause:
    return Cause("FieldValueInvalid", f'Invalid value: "": {text}', "<nil>")


def _limits(value: Any, schema: Body, path: str) -> list[Cause]:
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return _number_limits(value, schema, path)
    if isinstance(value, str):
        return _text_limits(value, schema, path)
    causes: list[Cause] = []
    size, unit = len(value), "items" if isinstance(value, list) else "properties"
    most = schema.get("maxItems" if unit == "items" else "maxProperties")
    least = schema.get("minItems" if unit == "items" else "minProperties")
    if most is not None and size > most:
        causes.append(Cause("FieldValueTooMany", f"Too many: {size}: must have at most {most} items", path))
    if least is not None and size < least:
        causes.append(invalid_value(path, size, f"{path} in body should have at least {least} {unit}"))
    return causes


@cache
def _pattern(text: str) -> re.Pattern[str]:
    # `$` of Go ends the text; that of Python also stands before a line break at the end.
    return re.compile(re.sub(r"\$\Z", r"\\Z", text))


def _text_limits(value: str, schema: Body, path: str) -> list[Cause]:
    causes: list[Cause] = []
    most, least = schema.get("maxLength"), schema.get("minLength")
    if most is not None and len(value) > most:
        causes.append(Cause("FieldValueTooLong", f"Too long: may not be more than {most} bytes", path))
    if least is not None and len(value) < least:
        causes.append(invalid_value(path, value, f"{path} in body should be at least {least} chars long"))
    if "pattern" in schema and not _pattern(schema["pattern"]).search(value):
        causes.append(invalid_value(path, value, f"{path} in body should match '{schema['pattern']}'"))
    if schema.get("format") == "date-time" and not _DATE_TIME.match(value):
        causes.append(_type_cause(path, "date-time", value, value))
    return causes[:1]


def _number_limits(value: float, schema: Body, path: str) -> list[Cause]:
    causes: list[Cause] = []
    size = schema.get("format")
    if size in ("int32", "int64") and schema.get("type") == "integer":
        bits = 31 if size == "int32" else 63
        if not -(2**bits) <= value < 2**bits:
            causes.append(_not_of_format(path, size))
    low, high, step = schema.get("minimum"), schema.get("maximum"), schema.get("multipleOf")
    if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
        word = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        causes.append(invalid_value(path, value, f"{path} in body should be {word} {low}"))
    if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
        word = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        causes.append(invalid_value(path, value, f"{path} in body should be {word} {high}"))
    if step and value % step:
        causes.append(invalid_value(path, value, f"{path} in body should be a multiple of {step}"))
    return causes


def _unique(value: list[Any], schema: Body, path: str) -> list[Cause]:
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("set", "map"):
        return []
    names = schema.get("x-kubernetes-list-map-keys") or ()
    seen: list[Any] = []
    causes = []
    for i, item in enumerate(value):
        key = {n: item.get(n) for n in names} if kind == "map" and isinstance(item, dict) else item
        if key in seen:
            causes.append(Cause("FieldValueDuplicate", f"Duplicate value: {shown(key)}", f"{path}[{i}]"))
        seen.append(key)
    return causes


def _members(value: Body, schema: Body, path: str, *, root: bool) -> list[Cause]:
    causes: list[Cause] = []
    properties: Body = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    embedded = schema.get("x-kubernetes-embedded-resource")
    if embedded:
        causes += [required(f"{path}.{name}") for name in ("apiVersion", "kind") if not value.get(name)]
    causes += [
        required(f"{path}.{name}" if path else name) for name in schema.get("required") or () if value.get(name) is None
    ]
    for name, inner in value.items():
        if (root or embedded) and name in _EMBEDDED:
            continue
        here = f"{path}.{name}" if path else name
        if inner is None and name in (schema.get("required") or ()):
            continue
        if name in properties:
            causes += _check(inner, properties[name], here)
        elif isinstance(extra, dict):
            causes += _check(inner, extra, here)
    return causes
