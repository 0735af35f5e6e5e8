"""The quality-of-service class of a pod, which no update of a running pod may change.

Guarantees: the class that the API server computes: cpu and memory alone count, nothing counts as zero, and a request
that is not given is the limit.

What this does not do: resources of a whole pod are not read; a template that has them is never resized in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kruise.apis.quantity import Quantity, QuantityError

__all__ = ["BEST_EFFORT", "BURSTABLE", "GUARANTEED", "qos_class"]

GUARANTEED: Final = "Guaranteed"
BURSTABLE: Final = "Burstable"
BEST_EFFORT: Final = "BestEffort"

_COUNTED: Final = ("cpu", "memory")


def qos_class(containers: Iterable[Mapping[str, Any]]) -> str:
    """Return the class of a pod by the ``resources`` of its containers, init containers among them."""
    some, all_equal = False, True
    for resources in containers:
        limits = resources.get("limits") or {}
        requests = {**limits, **(resources.get("requests") or {})}
        for name in _COUNTED:
            limit, request = _amount(limits.get(name)), _amount(requests.get(name))
            some = some or limit is not None or request is not None
            all_equal = all_equal and limit is not None and limit == request
    if not some:
        return BEST_EFFORT
    return GUARANTEED if all_equal else BURSTABLE


def _amount(value: Any) -> Quantity | None:
    if value is None:
        return None
    try:
        amount = Quantity.from_json(value)
    except QuantityError:
        return None
    return amount if amount.sign() > 0 else None
