"""Resources of a running pod that change: asked for, granted, in force.

Purpose: the spec holds what is asked for, ``allocatedResources`` what the node has granted, ``resources`` of the
container's status what is in force; the conditions PodResizePending and PodResizeInProgress tell what is missing.

Guarantees: a wish is granted whole or not at all. One that the node could never hold is Infeasible, one that does not
fit now is Deferred and tried again. A container is started anew exactly when its ``resizePolicy`` asks for it for a
resource that changed.

What this does not do: no memory is measured, so a lower limit is never refused by its use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from kruise.simulator.behaviour import Behaviour
from kruise.simulator.kubelet_admission import requests
from kruise.simulator.kubelet_types import Resize, Room

RETRY_SECONDS: Final = 3.0
"""How often a deferred resize is tried again."""
INFEASIBLE: Final = "Infeasible"
DEFERRED: Final = "Deferred"


def wanted(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resources that the spec asks for, per container (sidecars included)."""
    every = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    return {one["name"]: one.get("resources") or {} for one in every}


def begin(spec: Mapping[str, Any]) -> Resize:
    """Return the resources of a pod that is accepted now: all granted, all in force."""
    asked = wanted(spec)
    return Resize(asked, asked)


def advance(
    current: Resize, spec: Mapping[str, Any], room: Room | None, behaviour: Behaviour, now: float
) -> tuple[Resize, frozenset[str], float | None]:
    """Return the resources at *now*, the containers that must be started anew, and when to look again."""
    if current.allocated is not current.actual and current.allocated != current.actual:
        done = current.since + max((behaviour.of(name).resize_seconds for name in _changed(current)), default=0.0)
        if now < done:
            return current, frozenset(), done
        renewed = frozenset(name for name in _changed(current) if _needs_restart(spec, name, current))
        current = replace(current, actual=current.allocated)
        after, more, wake = advance(current, spec, room, behaviour, now)
        return after, renewed | more, wake
    asked = wanted(spec)
    if asked == current.allocated:
        return (replace(current, problem="", message="") if current.problem else current), frozenset(), None
    problem, message = _fits(spec, room)
    if problem:
        refused = replace(current, problem=problem, message=message)
        return refused, frozenset(), now + RETRY_SECONDS if problem == DEFERRED else None
    granted = Resize(asked, current.actual, now)
    return advance(granted, spec, room, behaviour, now)


def _changed(current: Resize) -> list[str]:
    return [name for name, value in current.allocated.items() if value != current.actual.get(name)]


def _needs_restart(spec: Mapping[str, Any], name: str, current: Resize) -> bool:
    old, new = current.actual.get(name) or {}, current.allocated.get(name) or {}
    changed = {
        resource
        for kind in ("limits", "requests")
        for resource in {*(old.get(kind) or {}), *(new.get(kind) or {})}
        if (old.get(kind) or {}).get(resource) != (new.get(kind) or {}).get(resource)
    }
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if container["name"] == name:
            policies = {p["resourceName"]: p["restartPolicy"] for p in container.get("resizePolicy") or ()}
            return any(policies.get(resource) == "RestartContainer" for resource in changed)
    return False


def _fits(spec: Mapping[str, Any], room: Room | None) -> tuple[str, str]:
    if room is None:
        return "", ""
    asked = requests(spec)
    short = ""
    for name in ("cpu", "memory"):
        have, used = room.allocatable.get(name, 0), room.used.get(name, 0)
        if asked.get(name, 0) > have:
            unit = 1 if name == "cpu" else 1000
            return INFEASIBLE, (
                f"Node didn't have enough capacity: {name}, requested: {-(-asked[name] // unit)}, "
                f"capacity: {have // unit}"
            )
        if asked.get(name, 0) + used > have and not short:
            short = f"Node didn't have enough resource: {name}"
    return (DEFERRED, short) if short else ("", "")
