"""JSON merge patches (RFC 7386): how two objects differ, and what a patch makes of one.

Purpose: a write is a patch with the few fields that change; this is where such a patch is computed, and where the
embedded API server and the no-op check find out what it would do.

Guarantees:

* CLI4: :func:`merge_diff` is the two-way merge patch: ``apply_merge(old, merge_diff(old, new)) == new``.
* OBJ2: neither function changes what it is given; what comes back shares unchanged parts with it.

A merge patch cannot write a null: a null in *new* reads as absent. A list is one value: it is replaced whole.

What this does not do: strategic merge, which needs the merge keys of the built-in kinds; the API server does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["apply_merge", "merge_diff", "without_nulls"]


def merge_diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that makes *new* of *old*; ``{}`` when there is no difference.

    >>> merge_diff({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 4, "d": 3}})
    {'a': None, 'b': {'c': 4}}
    """
    patch: dict[str, Any] = {}
    for key, value in old.items():
        if value is not None and new.get(key) is None:
            patch[key] = None
    for key, value in new.items():
        if value is None:
            continue
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_diff(before, value)
            if inner:
                patch[key] = inner
        elif isinstance(value, Mapping):
            patch[key] = without_nulls(value)
        elif not _same(before, value):
            patch[key] = value
    return patch


def apply_merge(target: Any, patch: Any) -> Any:
    """Return what *patch* makes of *target*, as RFC 7386 says.

    >>> apply_merge({"a": {"b": 1}}, {"a": {"b": None, "c": 2}})
    {'a': {'c': 2}}
    """
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            result[key] = apply_merge(result.get(key), value)
        else:
            result[key] = value
    return result


def without_nulls(value: Any) -> Any:
    """Return *value* without the members that are null, at any depth of objects. Elements of lists stay."""
    if isinstance(value, Mapping):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return value


def _same(a: Any, b: Any) -> bool:
    """Compare as JSON does: ``True`` is not ``1``, while ``1`` and ``1.0`` are the same number."""
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
