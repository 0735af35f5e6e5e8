"""S4: an update in place changes what it may, in the one order that drains traffic first.

Purpose: ``reliability.md`` 3.2.

Guarantees:

* The gate is closed in the very version of the pod on which the spec is changed, and opens again only when the
  statuses of the containers satisfy the new spec, with nothing left in the annotations to be done.
* Over one update uid, node, address, hostname and volumes stay; a container outside the difference is not killed.
* We change images, resources, labels, annotations and our own conditions in a pod, nothing else.

What this does not do: a container that dies by itself during the update is no business of this check.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import orjson

from kruise.simulator.invariants import statefulset_reading as reading
from kruise.simulator.invariants.model import Actor, Body, Observed
from kruise.simulator.invariants.statefulset_budget import Report
from kruise.simulator.invariants.statefulset_facts import Facts, changed_containers
from kruise.simulator.invariants.statefulset_reading import GATE, IN_PLACE_GRACE, IN_PLACE_STATE, KRUISE_GATE, PODS

_OURS: Final = frozenset({GATE, KRUISE_GATE, "Ready"})
"""The conditions that we write."""
_NEXT: Final = ("nextContainerImages", "nextContainerRefMetadata", "nextContainerResources")
_TERMINATED_BY_SIGNAL: Final = (137, 143)


class InPlace:
    """S4 over one history."""

    def __init__(self, facts: Facts, manager: Actor, report: Report) -> None:
        self._facts = facts
        self._manager = manager
        self._report = report
        self._begun: dict[str, tuple[Body, set[str]]] = {}
        """Pod uid -> its state before the update under way, and the containers that the update changed."""

    def on_commit(self, commit: Observed) -> None:
        """Look at a commit, before the facts take it in."""
        if commit.resource != PODS or commit.old is None:
            return
        if commit.new is None:
            self._begun.pop(commit.uid, None)
            return
        if not reading.owner_uid(commit.old):
            return
        self._check_identity(commit, commit.old, commit.new)
        if self._manager(commit.actor) and not (commit.request is not None and commit.request.verb == "delete"):
            self._check_write(commit, commit.old, commit.new)

    def _check_identity(self, commit: Observed, old: Body, new: Body) -> None:
        before, after = old.get("spec") or {}, new.get("spec") or {}
        for name in ("nodeName", "hostname", "subdomain"):
            if before.get(name) and before.get(name) != after.get(name):
                self._report("S4", commit, f"spec.{name} changes from {before[name]} to {after.get(name)}")
        if before.get("volumes") and before.get("volumes") != after.get("volumes"):
            self._report("S4", commit, "the volumes change")
        address = (old.get("status") or {}).get("podIP")
        if address and (new.get("status") or {}).get("podIP") not in (address, None, ""):
            self._report("S4", commit, f"the address changes from {address}")

    def _check_write(self, commit: Observed, old: Body, new: Body) -> None:
        changed = list(changed_containers(old, new))
        if _stripped(old) != _stripped(new):
            self._report("S4", commit, "more than images and resources is changed in the spec")
        foreign = _differing_conditions(old, new) - _OURS
        if foreign:
            self._report("S4", commit, f"the conditions {sorted(foreign)} are not ours to write")
        if changed:
            if reading.gated(old) and _needs_gate(old, new, changed) and _gate(old) != "False":
                self._report("S4", commit, f"the spec is changed while the gate is {_gate(old) or 'absent'}")
            _, names = self._begun.setdefault(commit.uid, (old, set()))
            names.update(name for name, _ in changed)
        if _gate(new) == "True" and _gate(old) != "True":
            self._on_opened(commit, new)

    def _on_opened(self, commit: Observed, new: Body) -> None:
        waiting = sorted({*self._facts.pending.get(commit.uid, ()), *self._facts.resizing.get(commit.uid, ())})
        if waiting:
            self._report("S4", commit, f"the gate opens, and the containers {waiting} do not run the new spec yet")
        if reading.annotation(new, IN_PLACE_GRACE):
            self._report("S4", commit, "the gate opens while the grace period lasts")
        left = [name for name in _NEXT if _state(new).get(name)]
        if left:
            self._report("S4", commit, f"the gate opens, and {left} are left to be done")
        begun = self._begun.pop(commit.uid, None)
        if begun is not None:
            self._check_others(commit, *begun)

    def _check_others(self, commit: Observed, before: Body, changed: set[str]) -> None:
        after = reading.statuses(commit.new or {})
        before_images, after_images = _images(before), _images(commit.new or {})
        for name, was in reading.statuses(before).items():
            status = after.get(name, {})
            if name in changed or status.get("containerID") == was.get("containerID"):
                continue
            had = str(before_images.get(name))
            if had != after_images.get(name) or not reading.same_image(had, str(was.get("image", ""))):
                continue  # somebody else changed it, as an upgrade of sidecars does
            end = (status.get("lastState") or {}).get("terminated") or {}
            if end.get("exitCode") in _TERMINATED_BY_SIGNAL and end.get("containerID") == was.get("containerID"):
                self._report("S4", commit, f"the container {name} was killed, and its spec did not change")


def _images(pod: Body) -> dict[str, Any]:
    return {name: one.get("image") for name, one in reading.containers(pod).items()}


def _gate(pod: Body) -> str:
    return str(reading.condition(pod, GATE).get("status") or "")


def _needs_gate(old: Body, new: Body, changed: list[tuple[str, str]]) -> bool:
    """Tell whether the unready step is due: not for resources alone that need no restart (7.3)."""
    if any(kind == "image" for _, kind in changed):
        return True
    after = reading.containers(new)
    return any(
        rule.get("restartPolicy") == "RestartContainer"
        and _amounts(container, rule.get("resourceName")) != _amounts(after[name], rule.get("resourceName"))
        for name, container in reading.containers(old).items()
        if name in {name for name, _ in changed}
        for rule in container.get("resizePolicy") or ()
    )


def _amounts(container: Body, resource: Any) -> list[Any]:
    return [kind.get(resource) for kind in reading.resources_of(container)]


def _stripped(pod: Body) -> Any:
    spec = copy.copy(pod.get("spec") or {})
    spec["containers"] = [
        {k: v for k, v in one.items() if k not in ("image", "resources")} for one in spec.get("containers") or ()
    ]
    return spec


def _differing_conditions(old: Body, new: Body) -> set[str]:
    before = {c["type"]: c for c in (old.get("status") or {}).get("conditions") or ()}
    after = {c["type"]: c for c in (new.get("status") or {}).get("conditions") or ()}
    return {kind for kind in before.keys() | after.keys() if before.get(kind) != after.get(kind)}


def _state(pod: Body) -> Body:
    try:
        found = orjson.loads(reading.annotation(pod, IN_PLACE_STATE) or "{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
