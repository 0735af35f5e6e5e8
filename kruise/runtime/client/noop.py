"""Find the writes that would change nothing.

Purpose: a write that changes nothing costs the API server and everybody who watches; it is found here and not sent.

Guarantees:

* NOP1: :func:`would_change` answers for a patch of a cached object, :func:`patch_changes` for one of plain JSON. An
  absent field, null, an empty map and an empty list are the same.

A cached object is a projection: it does not know every field. What it does not know always counts as changed, a
deletion too; so a write is at worst sent in vain, never left out wrongly.

What this does not do: it does not know that ``1`` and ``1000m`` are one quantity; whoever builds a patch normalises
such values first. A patch of lists whose merge keys it does not know counts as a change unless the lists are equal.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

__all__ = ["PatchKind", "defaults_of", "patch_changes", "semantically_equal", "wire_names", "would_change"]


class PatchKind(enum.Enum):
    """How a patch is to be read. The value is its content type."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    JSON = "application/json-patch+json"


_MERGE_KEYS: Final = {
    "conditions": "type",
    "containers": "name",
    "ephemeralContainers": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "volumes": "name",
}
"""Lists of built-in kinds that a strategic patch merges by a key; of all others it must name every element."""

_UNKNOWN: Final = object()
"""Stands for a field that a projection does not have: its value is not known, not even whether there is one."""


def semantically_equal(a: Any, b: Any) -> bool:
    """Compare two JSON values. Null, an empty map, an empty list and an absent member are the same.

    >>> semantically_equal({"a": 1, "b": []}, {"a": 1})
    True
    >>> semantically_equal({"n": 0}, {})
    False
    """
    if _empty(a) and _empty(b):
        return True
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return all(semantically_equal(a.get(k), b.get(k)) for k in {**a, **b})
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(semantically_equal, a, b))
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    return bool(a == b)


def patch_changes(current: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
    """Tell whether the merge patch *patch* would change *current*, a whole object as plain JSON."""
    return _changes(current, patch, merge_lists=False)


def would_change(
    obj: msgspec.Struct, patch: Mapping[str, Any] | Sequence[Mapping[str, Any]], kind: PatchKind = PatchKind.MERGE
) -> bool:
    """Tell whether *patch*, in wire names, would change the object of which *obj* is a view."""
    if kind is PatchKind.JSON:
        return any(_operation_changes(obj, op) for op in patch if isinstance(op, Mapping))
    if not isinstance(patch, Mapping):
        raise TypeError("a merge patch is an object")
    return _changes(obj, patch, merge_lists=kind is PatchKind.STRATEGIC)


def _empty(value: Any) -> bool:
    """Tell whether *value* is as good as absent: a map of nothing but such values is, too."""
    if type(value) is str:
        return False
    if isinstance(value, Mapping):
        return all(map(_empty, value.values()))
    return value is None or (isinstance(value, list | tuple) and not value)


def _changes(current: Any, patch: Any, *, merge_lists: bool, name: str = "") -> bool:
    """Tell whether *patch* changes *current*: JSON, a Struct, Raw, or ``_UNKNOWN``."""
    if current is _UNKNOWN:
        return True
    if isinstance(current, msgspec.Raw):
        current = msgspec.json.decode(current)
    if isinstance(patch, Mapping):
        if _empty(current) and not isinstance(current, Mapping):
            current = {}
        if not isinstance(current, Mapping | msgspec.Struct):
            return True
        return any(_member_changes(current, key, value, merge_lists) for key, value in patch.items())
    if merge_lists and name in _MERGE_KEYS and isinstance(patch, list | tuple):
        return _list_changes(current, patch, _MERGE_KEYS[name])
    return not _agrees(current, patch)


def _member_changes(current: Any, key: str, value: Any, merge_lists: bool) -> bool:
    if key.startswith("$"):
        return True
    have = _member(current, key)
    if value is None and have is not _UNKNOWN and isinstance(current, msgspec.Struct):
        return not _is_default(current, key, have)
    return _changes(have, value, merge_lists=merge_lists, name=key)


def _list_changes(current: Any, patch: Sequence[Any], merge_key: str) -> bool:
    have = current if isinstance(current, list | tuple) else ()
    for item in patch:
        if not isinstance(item, Mapping) or merge_key not in item:
            return True
        same = [one for one in have if _agrees(_member(one, merge_key), item[merge_key])]
        if len(same) != 1 or _changes(same[0], item, merge_lists=True):
            return True
    return False


def _member(value: Any, key: str) -> Any:
    """Return the member *key* of a map or view; None when it is absent, ``_UNKNOWN`` when that cannot be told."""
    if isinstance(value, msgspec.Struct):
        attribute = wire_names(type(value)).get(key)
        if attribute is None:
            return _UNKNOWN
        found = getattr(value, attribute)
        return None if found is msgspec.UNSET else found
    return value.get(key) if isinstance(value, Mapping) else _UNKNOWN


@lru_cache(maxsize=512)
def wire_names(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return the field of each wire name. Reading the annotations of a type anew would cost more than a whole pass."""
    return {f.encode_name: f.name for f in msgspec.structs.fields(struct)}


def _agrees(current: Any, wanted: Any) -> bool:
    """Tell whether *current*, which may be a view, is semantically *wanted* as far as the view can tell."""
    if type(current) is str and type(wanted) is str:
        return current == wanted
    if current is _UNKNOWN:
        return False
    if isinstance(current, msgspec.Raw):
        current = msgspec.json.decode(current)
    if isinstance(current, msgspec.Struct):
        return _struct_agrees(current, wanted)
    if isinstance(current, list | tuple) and isinstance(wanted, list | tuple) and current:
        return len(current) == len(wanted) and all(map(_agrees, current, wanted))
    if isinstance(current, Mapping) and isinstance(wanted, Mapping):
        return all(_agrees(current.get(k), wanted.get(k)) for k in {**current, **wanted})
    return semantically_equal(current, wanted)


def _struct_agrees(current: msgspec.Struct, wanted: Any) -> bool:
    """Compare a view with a whole object: a field that the object lacks must have its default in the view."""
    if wanted is None:
        wanted = {}
    if not isinstance(wanted, Mapping):
        return False
    known = wire_names(type(current))
    if any(key not in known for key in wanted):
        return False
    for wire in known:
        have = _member(current, wire)
        want = wanted.get(wire)
        if want is None:
            if not _is_default(current, wire, have):
                return False
        elif not _agrees(have, want):
            return False
    return True


def _is_default(view: msgspec.Struct, wire: str, have: Any) -> bool:
    """Tell whether *have* is what the member *wire* of *view* is when the wire does not have it."""
    return _empty(have) or bool(have == defaults_of(type(view))[wire_names(type(view))[wire]])


@lru_cache(maxsize=512)
def defaults_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return what each field is when the wire does not have it."""
    found: dict[str, Any] = {}
    for f in msgspec.structs.fields(struct):
        if f.default_factory is not msgspec.NODEFAULT:
            value = f.default_factory()
        elif f.default is not msgspec.NODEFAULT:
            value = f.default
        else:
            value = None
        found[f.name] = None if value is msgspec.UNSET else value
    return found


def _operation_changes(obj: msgspec.Struct, op: Mapping[str, Any]) -> bool:
    """Tell whether one operation of a JSON patch does something. Whatever is not plain to see does."""
    if op.get("op") == "test":
        return False
    if op.get("op") not in ("add", "replace"):
        return True
    current: Any = obj
    for token in str(op.get("path", "")).split("/")[1:]:
        part = token.replace("~1", "/").replace("~0", "~")
        if isinstance(current, msgspec.Raw):
            current = msgspec.json.decode(current)
        if isinstance(current, list | tuple):
            if op["op"] == "add" or not part.isdigit() or int(part) >= len(current):
                return True
            current = current[int(part)]
        else:
            current = _member(current, part)
        if current is None or current is _UNKNOWN:
            return True
    return not _agrees(current, op.get("value"))
