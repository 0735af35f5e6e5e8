"""Where a pod comes by its labels alone: the weights and the ordered keys of a priority strategy.

Purpose: StatefulSets and SidecarSets have the same strategy (spec/advanced-statefulset 6.3, spec/sidecarset 8.3); each
adds what decides between equals.

Guarantees:

* The larger sum of weights comes first. By ordered keys, the first key that a pod has decides its level, and the larger
  number at the end of that label's value comes first; a pod with none of the keys comes before all that have one.

What this does not do: it does not say what becomes of a selector that cannot be read; whoever asks does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from kruise.apis.selectors import Selector
from kruise.apis.statefulset import PriorityStrategy

__all__ = ["Place", "by_labels", "trailing_number"]

Place = tuple[int, int]
"""Where a pod comes; lower first."""

_TRAILING: Final = re.compile(r"[0-9]*\Z")
_NO_KEY: Final = (-1, 0)
_MAX_DIGITS: Final = 18


def by_labels(
    strategy: PriorityStrategy | None, read: Callable[[dict[str, Any]], Selector | None]
) -> Callable[[Mapping[str, str]], Place] | None:
    """Return the function that places a pod by its labels; None where the strategy says nothing.

    *read* makes a selector of plain JSON; a term for which it returns None counts for no pod.
    """
    if strategy is None:
        return None
    if strategy.weight_priority:
        terms = [
            (selector, term.weight)
            for term in strategy.weight_priority
            if (selector := read(msgspec.to_builtins(term.match_selector))) is not None
        ]
        return lambda labels: (-sum(weight for selector, weight in terms if selector.matches(labels)), 0)
    if not strategy.order_priority:
        return None
    keys = [term.ordered_key for term in strategy.order_priority]

    def by_keys(labels: Mapping[str, str]) -> Place:
        for level, key in enumerate(keys):
            if key in labels:
                return level, -trailing_number(labels[key])
        return _NO_KEY

    return by_keys


def trailing_number(value: str) -> int:
    """Return the number at the end of a label's value; 0 where there is none.

    A label value holds 63 characters; beyond 64 bits OpenKruise reads no number, and neither does this.
    """
    found = _TRAILING.search(value)
    digits = found[0].lstrip("0") if found is not None else ""
    return int(digits) if digits and len(digits) <= _MAX_DIGITS else 0
