"""PodDisruptionBudgets: what an eviction asks, and what the disruption controller answers.

Purpose: the rules that the eviction subresource and the controller share. Pure.

Guarantees:

* TST1: an eviction that would break a budget is 429 with the server's own words; one that is allowed uses up one
  disruption. Pods that have ended or not begun are evicted without asking.

What this does not do: ``unhealthyPodEvictionPolicy`` other than the usual one.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.apis import intorstring
from kruise.simulator.apiserver.failure import Cause, Failure, internal

Body = dict[str, Any]

BUDGETS: Final = "poddisruptionbudgets.policy"
_UNASKED: Final = ("Succeeded", "Failed", "Pending")


def selects(selector: Body | None, labels: Body) -> bool:
    """Tell whether a ``metav1.LabelSelector`` matches *labels*; an absent one matches nothing."""
    if selector is None:
        return False
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or ():
        have, values = labels.get(rule["key"]), rule.get("values") or ()
        fits = {
            "In": have in values,
            "NotIn": have not in values,
            "Exists": have is not None,
            "DoesNotExist": have is None,
        }.get(rule["operator"], False)
        if not fits:
            return False
    return True


def healthy(pod: Body) -> bool:
    """Tell whether *pod* counts as healthy."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return not pod["metadata"].get("deletionTimestamp") and any(
        c["type"] == "Ready" and c["status"] == "True" for c in conditions
    )


def asked(pod: Body) -> bool:
    """Tell whether an eviction of *pod* must ask the budgets at all."""
    return (pod.get("status") or {}).get("phase") not in _UNASKED and not pod["metadata"].get("deletionTimestamp")


def take(budgets: list[Body]) -> Body | None:
    """Return the status of the budget that loses a disruption; ``None`` when there is no budget. Raises Failure."""
    if not budgets:
        return None
    if len(budgets) > 1:
        raise internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    budget = budgets[0]
    status = dict(budget.get("status") or {})
    name = budget["metadata"]["name"]
    text = "Cannot evict pod as it would violate the pod's disruption budget."
    if (status.get("observedGeneration") or 0) < (budget["metadata"].get("generation") or 0):
        cause = Cause("DisruptionBudget", f"The disruption budget {name} is still being processed by the server.")
        raise _refused(text, cause, retry_after=10)
    if (status.get("disruptionsAllowed") or 0) <= 0:
        wants, has = status.get("desiredHealthy") or 0, status.get("currentHealthy") or 0
        cause = Cause(
            "DisruptionBudget", f"The disruption budget {name} needs {wants} healthy pods and has {has} currently"
        )
        raise _refused(text, cause)
    status["disruptionsAllowed"] -= 1
    return status


def _refused(text: str, cause: Cause, retry_after: int = 0) -> Failure:
    details = {"causes": [{"reason": cause.reason, "message": cause.message}]}
    return Failure(429, "TooManyRequests", text, details=details, retry_after=retry_after)


def status_of(budget: Body, pods: list[Body], now: str) -> Body:
    """Return the status that the disruption controller gives *budget* for the *pods* that it selects."""
    spec = budget.get("spec") or {}
    had = budget.get("status") or {}
    expected = len(pods)
    current = sum(1 for p in pods if healthy(p))
    if spec.get("maxUnavailable") is not None:
        most = intorstring.strict(intorstring.decode(spec["maxUnavailable"]), expected, round_up=True)
        desired = max(0, expected - most)
    else:
        least = spec.get("minAvailable")
        desired = 0 if least is None else intorstring.strict(intorstring.decode(least), expected, round_up=True)
    allowed = max(0, current - desired) if expected else 0
    enough = allowed > 0
    reason = "SufficientPods" if enough else "InsufficientPods"
    old = next((c for c in had.get("conditions") or () if c["type"] == "DisruptionAllowed"), None)
    same = old is not None and old["status"] == str(enough)
    condition = {
        "type": "DisruptionAllowed",
        "status": str(enough),
        "observedGeneration": budget["metadata"].get("generation", 1),
        "lastTransitionTime": old["lastTransitionTime"] if same and old is not None else now,
        "reason": reason,
        "message": "",
    }
    return {
        "observedGeneration": budget["metadata"].get("generation", 1),
        "disruptionsAllowed": allowed,
        "currentHealthy": current,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "conditions": [condition],
    }
