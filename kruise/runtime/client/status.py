"""The merge patch that makes a status what it should be.

Purpose: a status is written whole. A merge patch replaces what it names and keeps the rest, so what is to go must be
named as well.

Guarantees:

* CLI3: zero counts are in the patch, although a view of the object cannot tell them from absent ones;
  ``observedGeneration`` is there whenever the status has such a field.

What this does not do: it removes nothing that the view does not know; a status of ours is viewed whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kruise.runtime.client.noop import defaults_of, wire_names
from kruise.runtime.objects import Object


def status_patch(obj: Object, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch, to be put under ``status``, that makes *status* the status of *obj*."""
    old = getattr(obj, "status", None)
    wanted = dict(status)
    has_it = isinstance(old, msgspec.Struct) and "observedGeneration" in wire_names(type(old))
    if has_it and "observedGeneration" not in wanted:
        wanted["observedGeneration"] = obj.metadata.generation
    return _replacing(old, wanted)


def _replacing(old: Any, new: Mapping[str, Any]) -> dict[str, Any]:
    before = _present(old)
    patch: dict[str, Any] = {name: None for name in before if new.get(name) is None}
    for name, value in new.items():
        if isinstance(value, Mapping):
            patch[name] = _replacing(before.get(name), value)
        elif value is not None:
            patch[name] = value
    return patch


def _present(value: Any) -> dict[str, Any]:
    """Return the members of *value* that the object has, in wire names."""
    if isinstance(value, msgspec.Raw):
        value = msgspec.json.decode(value)
    if isinstance(value, msgspec.Struct):
        blank = defaults_of(type(value))
        return {
            wire: have
            for wire, name in wire_names(type(value)).items()
            if (have := getattr(value, name)) not in (None, msgspec.UNSET) and have != blank.get(name)
        }
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else {}
