"""What a node says to a pod that was bound to it: yes, or why not.

Purpose: the last check of a kubelet. Whoever binds pods by hand, or two schedulers at once, can put more on a node than
it holds; the node then refuses the pod, for good, with phase Failed.

Guarantees: reasons and order are those of Kubernetes' kubelets: OutOfcpu, OutOfmemory, OutOfpods, NodeAffinity,
NodePorts. Pods that ended count for nothing.

What this does not do: of node affinity it checks ``nodeSelector`` alone; no taints, no topology.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kruise.apis.quantity import Quantity, QuantityError
from kruise.simulator.kubelet_types import Room

PODS: Final = "pods"


def amount(quantity: Any) -> int:
    """Return a quantity in thousandths; 0 for what is no quantity."""
    try:
        return Quantity.from_json(quantity).exact_milli()
    except (QuantityError, ValueError, TypeError):
        return 0


def amounts(resources: Mapping[str, Any] | None) -> dict[str, int]:
    """Return a resource list in thousandths."""
    return {name: amount(value) for name, value in (resources or {}).items()}


def requests(spec: Mapping[str, Any]) -> dict[str, int]:
    """Return what a pod asks of its node, in thousandths: all that runs together, or the largest step of its start."""
    running: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        running.update(_requests_of(container))
    sidecars: Counter[str] = Counter()
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        own = _requests_of(container)
        if container.get("restartPolicy") == "Always":
            sidecars.update(own)
        else:
            for name in {*own, *sidecars}:
                peak[name] = max(peak.get(name, 0), own.get(name, 0) + sidecars[name])
    running.update(sidecars)
    total = {name: max(running[name], peak.get(name, 0)) for name in {*running, *peak}}
    total.update(amounts((spec.get("resources") or {}).get("requests")))
    for name, value in amounts(spec.get("overhead")).items():
        total[name] = total.get(name, 0) + value
    return total


def _requests_of(container: Mapping[str, Any]) -> dict[str, int]:
    resources = container.get("resources") or {}
    return amounts(resources.get("limits")) | amounts(resources.get("requests"))


def host_ports(spec: Mapping[str, Any]) -> set[tuple[str, str, int]]:
    """Return the ports of the node that a pod takes, as (address, protocol, port)."""
    found = set()
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for port in container.get("ports") or ():
            number = port.get("hostPort") or 0
            if number:
                found.add((port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", number))  # noqa: S104
    return found


def _clash(a: tuple[str, str, int], b: tuple[str, str, int]) -> bool:
    return a[1:] == b[1:] and (a[0] == b[0] or "0.0.0.0" in (a[0], b[0]))  # noqa: S104


def room(allocatable: Mapping[str, Any] | None, others: Iterable[Mapping[str, int]]) -> Room:
    """Return what a node has and what its pods use; *others*: :func:`requests` of each that has not ended."""
    used: Counter[str] = Counter()
    for asked in others:
        used.update(asked)
        used[PODS] += 1000
    return Room(amounts(allocatable), used)


def refusal(
    spec: Mapping[str, Any], labels: Mapping[str, str], space: Room, others: Iterable[Mapping[str, Any]]
) -> tuple[str, str] | None:
    """Return reason and message when a node cannot take a pod beside *others*; ``None`` when it can."""
    wanted = requests(spec)
    for name in sorted(wanted):
        have, used = space.allocatable.get(name, 0), space.used.get(name, 0)
        if wanted[name] > 0 and wanted[name] + used > have:
            return f"OutOf{name}", _short(name, wanted[name], used, have)
    have, used = space.allocatable.get(PODS, 0), space.used.get(PODS, 0)
    if 1000 + used > have:
        return "OutOfpods", _short(PODS, 1000, used, have)
    selector = spec.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return "NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match node selector"
    mine = host_ports(spec)
    if mine and any(_clash(a, b) for other in others for b in host_ports(other) for a in mine):
        return "NodePorts", "Pod was rejected: Predicate NodePorts failed"
    return None


def _short(name: str, wanted: int, used: int, have: int) -> str:
    unit = 1 if name == "cpu" else 1000  # kubelets count processors in thousandths and everything else in units
    return (
        f"Pod was rejected: Node didn't have enough resource: {name}, requested: {-(-wanted // unit)}, "
        f"used: {-(-used // unit)}, capacity: {have // unit}"
    )
