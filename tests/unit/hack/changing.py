"""Objects that differ from a good one at some paths: what the cases of a definition are made of."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

ABSENT = object()
"""The value that takes a field away."""

Change = tuple[str, Any]
"""A path, and the value to put there."""


def changed(base: Mapping[str, Any], changes: Iterable[Change]) -> dict[str, Any]:
    """Return a copy of *base* with the *changes*; what is missing on the way is made."""
    made: dict[str, Any] = copy.deepcopy(dict(base))
    for path, value in changes:
        *way, last = path.split(".")
        place = made
        for part in way:
            place = place.setdefault(part, {})
        if value is ABSENT:
            place.pop(last, None)
        else:
            place[last] = copy.deepcopy(value)
    return made
