"""Strategic merge patch, for the built-in kinds.

Purpose: a merge patch that merges lists by a key: containers by name, conditions by type, and so on.

Guarantees:

* TST1: which lists are merged, and by which key, is read from ``core_fields.json``, so it is a real server's. ``$patch:
  delete`` removes an item, ``$patch: replace`` the whole list or map; ``$deleteFromPrimitiveList/NAME`` removes from
  sets such as finalizers; ``$setElementOrder/NAME`` orders the result; ``$retainKeys`` drops the other keys of a union.
  A list without a merge key is replaced. What a patch adds stands before what it does not name, as on a real server.

What this does not do: it is not offered for custom kinds, where kube-apiserver answers 415.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from kruise.apis import core_fields
from kruise.simulator.apiserver.failure import Failure, bad_request

POD: Final = "core.v1.Pod"
_META: Final = core_fields.Field("metadata", "meta.v1.ObjectMeta")
_ANY: Final = core_fields.Field("", "raw")


def strategic_merge(target: Any, patch: Any, type_name: str = POD) -> Any:
    """Return *target* with the strategic merge patch *patch* applied; *type_name* is its type in the table of fields.

    Raises Failure 400 for a patch that is no object, 500 for a directive that cannot be followed.
    """
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a strategic merge patch is an object")
    return _merge_map(target, patch, type_name)


@cache
def _field(type_name: str, name: str) -> core_fields.Field:
    """Return what is known of a field; of a type that the table does not hold, only that it has metadata."""
    if type_name in core_fields.known_types():
        return core_fields.fields(type_name).get(name, _ANY)
    return _META if name == "metadata" and not type_name.startswith("meta.") else _ANY


def _cannot(text: str) -> Failure:
    return Failure(500, "", text)


def _merge_map(target: Any, patch: dict[str, Any], type_name: str) -> dict[str, Any]:
    base: dict[str, Any] = dict(target) if isinstance(target, dict) else {}
    directive = patch.get("$patch")
    if directive == "replace":
        return {k: v for k, v in patch.items() if k != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise _cannot(f"Unknown patch type found: {directive}")
    retain = patch.get("$retainKeys")
    if isinstance(retain, list):
        base = {k: v for k, v in base.items() if k in retain}
    before = dict(base)
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            listed = name.partition("/")[2]
            if isinstance(base.get(listed), list):
                base[listed] = [v for v in base[listed] if v not in value]
        elif not name.startswith("$"):
            _merge_field(base, name, value, _field(type_name, name))
    for name, order in patch.items():
        if name.startswith("$setElementOrder/") and isinstance(order, list):
            listed = name.partition("/")[2]
            if isinstance(base.get(listed), list):
                key = _field(type_name, listed).merge_key
                base[listed] = _ordered(base[listed], order, before.get(listed) or [], key)
    return base


def _merge_field(base: dict[str, Any], name: str, value: Any, field: core_fields.Field) -> None:
    if value is None:
        base.pop(name, None)
    elif isinstance(value, dict):
        base[name] = _merge_map(base.get(name), value, field.inner if not field.is_list else "")
    elif isinstance(value, list):
        base[name] = _merge_list(base.get(name), value, field)
    else:
        base[name] = value


def _merge_list(current: Any, patch: list[Any], field: core_fields.Field) -> list[Any]:
    items: list[Any] = list(current) if isinstance(current, list) else []
    if "merge" not in field.strategies:
        return [_plain(v) for v in patch]
    key = field.merge_key
    if not key:
        return _ordered(items + [v for v in patch if v not in items], patch, items, "")
    if any(isinstance(v, dict) and v.get("$patch") == "replace" for v in patch):
        return [v for v in patch if not (isinstance(v, dict) and v.get("$patch") == "replace")]
    had = list(items)
    given = []
    for value in patch:
        if not isinstance(value, dict) or key not in value:
            raise _cannot(f"map: {value} does not contain declared merge key: {key}")
        same = [i for i, item in enumerate(items) if isinstance(item, dict) and item.get(key) == value[key]]
        if value.get("$patch") == "delete":
            items = [item for i, item in enumerate(items) if i not in same]
            continue
        given.append(value)
        if same:
            items[same[0]] = _merge_map(items[same[0]], value, field.inner)
        else:
            items.append(_merge_map({}, value, field.inner))
    return _ordered(items, given, had, key)


def _plain(value: Any) -> Any:
    """Return a value of a list that is replaced as a whole, without the nulls and directives of a patch."""
    return _merge_map({}, value, "") if isinstance(value, dict) else value


def _ordered(items: list[Any], named: list[Any], had: list[Any], key: str) -> list[Any]:
    """Return *items* in order: those that the patch named in its order, the others in the server's, interleaved.

    An item of the server stands before one of the patch only when both were there and stood so; else the patch's first.
    """

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [identity(v) for v in named]
    before = [identity(v) for v in had]
    ours = sorted((i for i in items if identity(i) in wanted), key=lambda i: wanted.index(identity(i)))
    others = [i for i in items if identity(i) not in wanted]
    result: list[Any] = []
    while ours and others:
        left, right = identity(others[0]), identity(ours[0])
        first = left in before and right in before and before.index(left) < before.index(right)
        result.append(others.pop(0) if first else ours.pop(0))
    return result + ours + others
