"""The invariants of SidecarSets: C1 to C11, over commits and at rest.

Purpose: ``reliability.md`` 3.4, checked against the server's truth: inside the embedded server, and over a neutral
watch and the audit log of a real one.

Guarantees (each in the module that is named): C1 application untouched, C6 annotation and images, C7 nothing but images
in place, C10 a deleted set touches nothing (``sidecarset_writes``); C1, C3 scope, C4 one provider, C6 and C9 Pod
Security at creation (``sidecarset_admission``); C5 budget (``sidecarset_budget``); C6, C7, C11 and the counts of the
status at rest (here).

What this does not do: C2 and C8 are about the bytes of one answer, which no commit shows. A decision that was right a
moment ago is no violation: what changed less than ``slack`` seconds before a commit counts as unchanged, because no
write can be conditional on another object; the object that is written has no such grace, since every write names its
version.
"""

# ruff: noqa: ARG002 - checkers share a signature, and few need all of it
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from kruise.runtime.clock import parse_time
from kruise.simulator.invariants import sidecarset_reading as reading
from kruise.simulator.invariants.general import Exempt
from kruise.simulator.invariants.model import Actor, Body, Checker, Observed, World, Written, key_of
from kruise.simulator.invariants.sidecarset_admission import Admission
from kruise.simulator.invariants.sidecarset_budget import Budget
from kruise.simulator.invariants.sidecarset_facts import NEVER, Facts, SetFacts, by_sidecars
from kruise.simulator.invariants.sidecarset_reading import NAMESPACES, PODS, SIDECARSETS
from kruise.simulator.invariants.sidecarset_writes import Writes, misfit

__all__ = ["SIDECARSETS", "SidecarSets", "missed", "recount", "writes_for_a_set"]

_SYSTEM: Final = reading.SYSTEM | {reading.OWN_NAMESPACE}
_FAILED_CALL: Final = "failed calling webhook"


class SidecarSets(Checker):
    """C1 to C11 as far as commits and requests show them. *manager* recognises our actors."""

    def __init__(self, manager: Actor, *, slack: float = 5.0) -> None:
        super().__init__()
        self._manager = manager
        self.facts = Facts(manager, slack=slack)
        self._primed = False
        self._admission = Admission(self.facts, self.violated, slack=slack)
        self._budget = Budget(self.facts, self.violated, slack=slack)
        self._writes = Writes(self.facts, self.violated, slack=slack)

    def on_commit(self, commit: Observed, before: World) -> None:
        if not self._primed:
            self._primed = True
            for resource in (NAMESPACES, SIDECARSETS, PODS):
                self.facts.load(resource, before.all(resource))
        if commit.resource == PODS:
            self._on_pod(commit)
        if commit.resource in (NAMESPACES, SIDECARSETS, PODS):
            self.facts.apply(commit)

    def _on_pod(self, commit: Observed) -> None:
        if commit.verb == "create":
            self._admission.on_created(commit)
        elif by_sidecars(commit, self._manager):
            upgraded = self.facts.upgraded(commit)
            self._writes.on_write(commit, upgraded)
            for found in upgraded:
                self._budget.on_upgrade(commit, found)
        else:
            self._writes.on_other(commit)

    def on_request(self, request: Written) -> None:
        if self._manager(request.actor):
            self._budget.on_request(request)
            return
        system = request.resource == PODS and request.verb == "create" and request.key.namespace in _SYSTEM
        if system and request.code >= 500 and _FAILED_CALL in request.message:
            self.violated("C11", request, "a pod of the system cannot be created because of a webhook")

    # At rest.

    def at_quiescence(self, world: World, now: float) -> None:
        pods = world.all(PODS)
        for found in self.facts.sets.values():
            if found.gone_at != NEVER or found.owner["metadata"].get("deletionTimestamp"):
                continue
            owner = world.get(SIDECARSETS, key_of(found.owner))
            if owner is None or "status" not in owner:
                continue
            self._check_status(found, owner)
            self._check_missed(found, owner, pods)
            self._check_pods(found, owner)

    def _check_status(self, found: SetFacts, owner: Body) -> None:
        status = owner.get("status") or {}
        if status.get("observedGeneration") != owner["metadata"].get("generation"):
            self.violated("G7", key_of(owner), f"observedGeneration is {status.get('observedGeneration')}")
            return
        for name, value in recount(found).items():
            if status.get(name) != value:
                self.violated("G7", key_of(owner), f"status.{name} is {status.get(name)}, and {value} is true")

    def _check_missed(self, found: SetFacts, owner: Body, pods: Sequence[Body]) -> None:
        """C11: every pod that should have the sidecars and has them not is visible."""
        canaries = {one.name for one in self.facts.sets.values() if reading.base_of(one.owner) == found.name}
        without = [one for one in pods if missed(owner, one, self.facts.namespaces, canaries)]
        told = _condition(owner, "Injected")
        if without and (told.get("status"), told.get("reason")) != ("False", "NotInjected"):
            names = ", ".join(sorted(str(key_of(one)) for one in without))
            self.violated("C11", key_of(owner), f"{names} are without sidecars, and Injected is {told.get('status')}")
        for one in without[:10] if len(without) <= 10 else ():
            if str(key_of(one)) not in str(told.get("message", "")):
                self.violated("C11", key_of(owner), f"{key_of(one)} is without sidecars, and not named")

    def _check_pods(self, found: SetFacts, owner: Body) -> None:
        name = found.name
        held = not reading.updates(owner) or reading.paused(owner)
        selector = reading.strategy(owner).get("selector")
        for key, flags in found.flags.items():
            if not flags.matched:
                continue
            problem = misfit(self.facts, flags.pod, name)
            if problem:
                self.violated("C6", key, problem)
            chosen = selector is None or reading.matches(selector, flags.pod["metadata"].get("labels") or {})
            if held or flags.updated or flags.upgradable or not chosen:
                continue
            told = reading.condition(flags.pod, reading.UPGRADABLE)
            if told.get("status") != "False" or f'"{name}":false' not in str(told.get("message", "")):
                self.violated("C7", key, f"it cannot get the new version of {name}, and its condition does not say so")


def recount(found: SetFacts) -> dict[str, int]:
    """Return the counts of a status from the pods themselves (spec 11)."""
    matched = [one for one in found.flags.values() if one.matched]
    return {
        "matchedPods": len(matched),
        "updatedPods": sum(1 for one in matched if one.updated),
        "readyPods": sum(1 for one in matched if one.good),
        "updatedReadyPods": sum(1 for one in matched if one.updated and one.good),
    }


def missed(owner: Body, pod: Body, namespaces: Mapping[str, Mapping[str, str]], canaries: set[str]) -> bool:
    """Tell whether a pod was created without the sidecars of a set that it should have got."""
    if not reading.active(pod) or reading.exempt(pod) or not reading.selects(owner, pod, namespaces):
        return False
    names = reading.listed(pod)
    if owner["metadata"]["name"] in names or any(name in canaries for name in names):
        return False
    if (reading.spec_of(owner).get("injectionStrategy") or {}).get("paused"):
        return False
    born = parse_time(pod["metadata"].get("creationTimestamp"))
    since = parse_time(owner["metadata"].get("creationTimestamp"))
    return born is not None and since is not None and born > since


def writes_for_a_set(manager: Actor) -> Exempt:
    """Return what G1 leaves to C10: writes to pods of others, for a set that is noted in them."""

    def exempt(commit: Observed) -> bool:
        return by_sidecars(commit, manager) and bool(reading.listed(commit.old or {"metadata": {}}))

    return exempt


def _condition(owner: Body, kind: str) -> Body:
    found = (owner.get("status") or {}).get("conditions") or ()
    return next((one for one in found if one.get("type") == kind), {})
