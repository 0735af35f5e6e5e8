"""The resources of a sidecar, computed from those of the pod's own containers: ``resourcesPolicy``.

Purpose: choose the containers, add up or take the greatest of what they ask for, and apply the four expressions.

Guarantees (spec/sidecarset 12.2): a limit that one container lacks is no limit, and its expression is skipped; a
request that is missing counts as nothing; what is computed takes the place of the sidecar's resources entirely; a
fault in an expression or a pattern that finds no container is the user's, told as :class:`ResourcesError`.

What this does not do: the language itself is ``apis.sidecarset_expression``; nothing here knows how a pod is changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kruise.apis.fielderrors import go_quote
from kruise.apis.goregex import Regex, RegexError, compile_regex
from kruise.apis.quantity import ZERO, Quantity, QuantityError
from kruise.apis.sidecarset import MODE_MAX, MODE_SUM, RESTART_ALWAYS
from kruise.apis.sidecarset_expression import ExpressionError, evaluate

__all__ = ["Aggregate", "ResourcesError", "aggregate", "compute", "compute_for", "targets"]

_KINDS: Final = (("cpu", "CPU"), ("memory", "memory"))
"""The resources that a policy knows, and how messages name them."""
_MAX_NAME: Final = 63


class ResourcesError(ValueError):
    """A policy that gives no resources for this pod. The message says why."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What the chosen containers have together. A limit that is missing here is no limit."""

    limits: Mapping[str, Quantity] = field(default_factory=dict)
    requests: Mapping[str, Quantity] = field(default_factory=dict)


def _pattern(text: str) -> Regex:
    try:
        return compile_regex(text)
    except RegexError as error:
        raise ResourcesError(
            f"failed to get target containers: invalid regex pattern {go_quote(text)}: {error}"
        ) from None


def targets(pod: Mapping[str, Any], name_regex: str, excluded: Collection[str]) -> list[Mapping[str, Any]]:
    """Return the containers of *pod* that count: native sidecars, then containers, of a name that fits.

    Raises ResourcesError when the pattern is none, or fits nothing.
    """
    pattern = _pattern(name_regex)
    spec = pod.get("spec") or {}
    native = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == RESTART_ALWAYS]
    found = [
        container
        for container in (*native, *(spec.get("containers") or ()))
        if _may_count(container.get("name") or "", excluded) and pattern.search(container.get("name") or "")
    ]
    if not found:
        raise ResourcesError(f"no containers match the regex pattern {go_quote(name_regex)}")
    return found


def _may_count(name: str, excluded: Collection[str]) -> bool:
    # No container can have a longer name, and nobody should pay for searching one.
    return len(name) <= _MAX_NAME and name not in excluded


def aggregate(mode: str, containers: Sequence[Mapping[str, Any]]) -> Aggregate:
    """Add up, or take the greatest of, cpu and memory of *containers*. Another mode gives nothing at all."""
    if mode not in (MODE_SUM, MODE_MAX):
        return Aggregate()
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}
    for resource, _ in _KINDS:
        amounts = [_amount(container, "limits", resource) for container in containers]
        known = [amount for amount in amounts if amount is not None]
        if len(known) == len(amounts):
            limits[resource] = _combined(mode, known)
        asked = [a for a in (_amount(container, "requests", resource) for container in containers) if a is not None]
        total = _combined(mode, asked)
        if asked and (mode == MODE_MAX or not total.is_zero()):
            requests[resource] = total
    return Aggregate(limits, requests)


def _amount(container: Mapping[str, Any], kind: str, resource: str) -> Quantity | None:
    value = ((container.get("resources") or {}).get(kind) or {}).get(resource)
    if value is None:
        return None
    try:
        return Quantity.from_json(value)
    except QuantityError as error:
        where = f"resources.{kind}.{resource} of container {go_quote(str(container.get('name') or ''))}"
        raise ResourcesError(f"{where}: {error}") from None


def _combined(mode: str, amounts: Iterable[Quantity]) -> Quantity:
    total: Quantity | None = None
    for amount in amounts:
        if mode == MODE_SUM:
            total = (total or ZERO) + amount
        elif total is None or amount > total:
            total = amount
    return ZERO if total is None else total


def compute(expressions: Mapping[str, Any], given: Aggregate) -> dict[str, dict[str, str]]:
    """Apply ``resourcesExpr`` to what the containers have. Raises ResourcesError.

    A limit of which there is no amount is skipped; a request of which there is none is computed from zero.
    """
    result: dict[str, dict[str, str]] = {}
    for kind, amounts in (("limits", given.limits), ("requests", given.requests)):
        fields = expressions.get(kind) or {}
        found: dict[str, str] = {}
        for resource, word in _KINDS:
            text = fields.get(resource) or ""
            amount = amounts.get(resource) if kind == "limits" else amounts.get(resource, ZERO)
            if not text or amount is None:
                continue
            try:
                found[resource] = str(evaluate(text, amount))
            except ExpressionError as error:
                raise ResourcesError(f"failed to evaluate {word} {kind} expression: {error}") from None
        if found:
            result[kind] = found
    return result


def compute_for(
    pod: Mapping[str, Any], policy: Mapping[str, Any], excluded: Collection[str]
) -> dict[str, dict[str, str]]:
    """Return the resources that *policy* gives a sidecar of *pod*. Raises ResourcesError.

    *excluded*: the names of the sidecars themselves; they never count.
    """
    chosen = targets(pod, policy.get("targetContainersNameRegex") or "", excluded)
    given = aggregate(policy.get("targetContainersMode") or "", chosen)
    return compute(policy.get("resourcesExpr") or {}, given)
