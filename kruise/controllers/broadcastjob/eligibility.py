"""Whether a pod may run on a node: the rules that decide for which nodes a BroadcastJob wants a pod.

Purpose: the scheduler's filters that depend on one pod and one node alone, judged against the empty node.

Guarantees: the rules stand in this order and the first that fails is the answer (spec/broadcastjob 5): node name, node
selector and required node affinity, taints, cordon, resources. Pure; the cost of a pod's requests is paid once per
template, not once per node.

What this does not do: other pods on the node, pod affinity, ports, volumes and the Ready condition do not count; a node
that is not ready is excluded by its taint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from kruise.apis.core import Container, Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration
from kruise.apis.labels import label_value, qualified_name
from kruise.apis.quantity import Quantity
from kruise.controllers.common.reasons import Reason

__all__ = ["Demand", "Misfit", "demand_of", "fits"]

UNSCHEDULABLE_TAINT: Final = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
_INT64: Final = re.compile(r"[+-]?[0-9]+")
_LIMIT64: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a pod may not run on a node."""

    reason: Reason
    text: str
    """As the scheduler words it: ``Insufficient cpu``."""
    taint: str = ""
    """The key of the taint that is not tolerated."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pod requests of a node. Amounts: CPU in thousandths, everything else in whole units, rounded up."""

    cpu_milli: int
    amounts: tuple[tuple[str, int], ...]
    """Memory and ephemeral storage first, then the scalar resources by name."""
    empty: bool
    """Nothing at all is requested: only the number of pods is checked."""


@dataclass(frozen=True, slots=True)
class _Requirement:
    """A requirement whose operands have been checked."""

    key: str
    operator: str
    values: tuple[str, ...]
    number: int = 0


def fits(spec: PodSpec, demand: Demand, node: Node, *, node_name: str | None = None) -> Misfit | None:
    """Return why a pod of *spec* may not run on *node*; ``None`` when it may.

    *node_name* stands for ``spec.nodeName`` where the caller asks about another name than the spec carries.
    """
    wanted = spec.node_name if node_name is None else node_name
    if wanted and wanted != node.metadata.name:
        return Misfit(Reason.NODE_AFFINITY_MISMATCH, "node(s) didn't match the requested node name")
    if not _selected(spec, node):
        return Misfit(Reason.NODE_AFFINITY_MISMATCH, "node(s) didn't match Pod's node affinity/selector")
    for taint in node.spec.taints:
        if taint.effect in ("NoSchedule", "NoExecute") and not _tolerated(spec.tolerations, taint):
            if taint.key == UNSCHEDULABLE_TAINT.key and node.spec.unschedulable:
                # Kubernetes gives a cordoned node this taint as well; what a person did is the reason.
                return Misfit(Reason.NODE_CORDONED, "node(s) were unschedulable")
            text = f"node(s) had taint {{{taint.key}: {taint.value}}}, that the pod didn't tolerate"
            return Misfit(Reason.TAINT_NOT_TOLERATED, text, taint.key)
    if node.spec.unschedulable and not _tolerated(spec.tolerations, UNSCHEDULABLE_TAINT):
        return Misfit(Reason.NODE_CORDONED, "node(s) were unschedulable")
    return _lacking(demand, node.status.allocatable)


def _selected(spec: PodSpec, node: Node) -> bool:
    labels = node.metadata.labels
    for key, value in spec.node_selector.items():
        if labels.get(key) != value:
            return False
    affinity = spec.affinity.node_affinity if spec.affinity is not None else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity is not None else None
    if required is None:
        return True
    return any(_term_matches(term, node) for term in required.node_selector_terms)


def _term_matches(term: NodeSelectorTerm, node: Node) -> bool:
    if not term.match_expressions and not term.match_fields:
        return False
    checked = [_checked(requirement) for requirement in term.match_expressions]
    if any(one is None for one in checked):
        return False  # one expression that cannot be read spoils its whole term
    if not all(_holds(one, node.metadata.labels) for one in checked if one is not None):
        return False
    return all(_field_holds(requirement, node) for requirement in term.match_fields)


def _checked(requirement: NodeSelectorRequirement) -> _Requirement | None:
    key, operator, values = requirement.key, requirement.operator, requirement.values
    if qualified_name(key):
        return None
    if operator in ("In", "NotIn"):
        if not values:
            return None
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            return None
    elif operator in ("Gt", "Lt"):
        if len(values) != 1 or _int64(values[0]) is None:
            return None
    else:
        return None
    if any(label_value(value) for value in values):
        return None
    number = _int64(values[0]) if operator in ("Gt", "Lt") else 0
    return _Requirement(key, operator, values, number or 0)


def _int64(text: str) -> int | None:
    if not _INT64.fullmatch(text) or not text.isascii():
        return None
    number = int(text)
    return number if -_LIMIT64 <= number < _LIMIT64 else None


def _holds(requirement: _Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    number = None if value is None else _int64(value)
    if number is None:
        return False
    return number > requirement.number if requirement.operator == "Gt" else number < requirement.number


def _field_holds(requirement: NodeSelectorRequirement, node: Node) -> bool:
    if requirement.operator not in ("In", "NotIn") or len(requirement.values) != 1:
        return False
    actual = node.metadata.name if requirement.key == "metadata.name" else ""
    return (actual == requirement.values[0]) is (requirement.operator == "In")


def _tolerated(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator in ("", "Equal"):
        return toleration.value == taint.value
    return toleration.operator == "Exists"


# Resources.


def demand_of(spec: PodSpec) -> Demand:
    """Return what a pod of *spec* requests. Raises ValueError for a malformed quantity, naming the container."""
    total: dict[str, Quantity] = {}
    for container in spec.containers:
        _add(total, container)
    beside: dict[str, Quantity] = {}
    peak: dict[str, Quantity] = {}
    for container in spec.init_containers:
        if container.restart_policy == "Always":
            _add(total, container)
            _add(beside, container)
            current = beside
        else:
            current = dict(beside)
            _add(current, container)
        for name, amount in current.items():
            if name not in peak or peak[name] < amount:
                peak[name] = amount
    for name, amount in peak.items():
        if name not in total or total[name] < amount:
            total[name] = amount
    for name, text in spec.overhead.items():
        amount = _quantity(text, f"overhead[{name}]")
        total[name] = total[name] + amount if name in total else amount
    return _demand(total)


def _demand(total: Mapping[str, Quantity]) -> Demand:
    cpu = total["cpu"].milli_value() if "cpu" in total else 0
    amounts = [(name, total[name].value()) for name in ("memory", "ephemeral-storage") if name in total]
    scalars = sorted(name for name in total if _is_scalar(name))
    amounts += [(name, total[name].value()) for name in scalars]
    empty = cpu == 0 and not scalars and all(amount == 0 for _, amount in amounts)
    return Demand(cpu, tuple(amounts), empty)


def _add(into: dict[str, Quantity], container: Container) -> None:
    for name, text in container.resources.requests.items():
        amount = _quantity(text, f"container {container.name}: requests[{name}]")
        into[name] = into[name] + amount if name in into else amount


# Thousands of nodes offer a handful of different amounts, and each job asks each node: they are read once.


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Quantity:
    return Quantity.parse(text)


def _quantity(text: str | int | float, where: str) -> Quantity:  # noqa: PYI041 - JSON writes both
    try:
        return _parsed(str(text))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _is_scalar(name: str) -> bool:
    if name.startswith(("hugepages-", "attachable-volumes-")):
        return True
    if "/" not in name:
        return False
    if "kubernetes.io/" in name:
        return True
    return not name.startswith("requests.") and not qualified_name(f"requests.{name}")


def _lacking(demand: Demand, allocatable: Mapping[str, str | int | float]) -> Misfit | None:
    if _whole(allocatable.get("pods")) < 1:
        return Misfit(Reason.INSUFFICIENT_RESOURCES, "Too many pods")
    if demand.empty:
        return None
    lacking = []
    if demand.cpu_milli > 0 and demand.cpu_milli > _milli(allocatable.get("cpu")):
        lacking.append("Insufficient cpu")
    lacking += [
        f"Insufficient {name}"
        for name, amount in demand.amounts
        if amount > 0 and amount > _whole(allocatable.get(name))
    ]
    return Misfit(Reason.INSUFFICIENT_RESOURCES, ", ".join(lacking)) if lacking else None


@lru_cache(maxsize=1024, typed=True)
def _whole(text: str | float | None) -> int:
    amount = _offered(text)
    return 0 if amount is None else amount.value()


@lru_cache(maxsize=1024, typed=True)
def _milli(text: str | float | None) -> int:
    amount = _offered(text)
    return 0 if amount is None else amount.milli_value()


def _offered(text: str | float | None) -> Quantity | None:
    """Return what a node offers; what cannot be read is not offered: one odd node must not stop a job."""
    if text is None:
        return None
    try:
        return Quantity.parse(str(text))
    except ValueError:
        return None
