"""The invariants of Advanced StatefulSet: S1 to S8, over commits and at rest.

Purpose: ``reliability.md`` 3.2, checked against the server's truth: inside the embedded server, and over a neutral
watch and the audit log of a real one.

Guarantees (each in the module that is named): S1 identity, S3 order and S7 no futile kill (``statefulset_order``), S2
budget in three forms (``statefulset_budget``), S4 in place (``statefulset_inplace``), S5 and S5b claims and S6
revisions (``statefulset_claims``), S8 status (here).

What this does not do: a decision that was right a moment ago is no violation. What changed less than ``slack`` seconds
before a commit counts as unchanged, because no write can be conditional on another object; the object that is written
has no such grace, since every write names its version. An upgrade of sidecars in a pod is none of the set's.
"""

from __future__ import annotations

from kruise.simulator.invariants import statefulset_reading as reading
from kruise.simulator.invariants.model import Actor, Body, Checker, Observed, World, key_of
from kruise.simulator.invariants.sidecarset_facts import as_outside
from kruise.simulator.invariants.statefulset_budget import Budget
from kruise.simulator.invariants.statefulset_claims import Claims, Revisions
from kruise.simulator.invariants.statefulset_facts import Facts
from kruise.simulator.invariants.statefulset_inplace import InPlace
from kruise.simulator.invariants.statefulset_order import Order
from kruise.simulator.invariants.statefulset_reading import CLAIMS, NEVER, PODS, REVISION, REVISIONS, SETS

__all__ = ["CLAIMS", "PODS", "REVISIONS", "SETS", "StatefulSets", "recount"]


class StatefulSets(Checker):
    """S1 to S8. *manager* recognises our actors; *start_ordinal* tells whether ``ordinals.start`` counts."""

    def __init__(self, manager: Actor, *, slack: float = 5.0, start_ordinal: bool = False) -> None:
        super().__init__()
        self.facts = Facts(manager, slack=slack, start_ordinal=start_ordinal)
        self._primed = False
        self._order = Order(self.facts, manager, self.violated, slack=slack)
        self._budget = Budget(self.facts, manager, self.violated, slack=slack)
        self._in_place = InPlace(self.facts, manager, self.violated)
        self._claims = Claims(self.facts, manager, self.violated, slack=slack)
        self._revisions = Revisions(self.facts, manager, self.violated, slack=slack)

    def on_commit(self, commit: Observed, before: World) -> None:
        if not self._primed:
            self._primed = True
            for resource in (SETS, REVISIONS, CLAIMS, PODS):
                self.facts.load(resource, before.all(resource))
        if commit.resource not in (SETS, REVISIONS, CLAIMS, PODS):
            return
        commit = as_outside(commit)
        self._order.on_commit(commit)
        self._budget.on_commit(commit)
        self._in_place.on_commit(commit)
        self._claims.on_commit(commit)
        self._revisions.on_commit(commit)
        self.facts.apply(commit)

    def at_quiescence(self, world: World, now: float) -> None:
        self._claims.at_quiescence()
        self._revisions.at_quiescence(world)
        for owner in world.all(SETS):
            found = self.facts.sets.get(str(owner["metadata"]["uid"]))
            if found is None or found.deleting_at != NEVER:
                continue
            self._check_status(owner, [p for p in found.pods.values() if reading.selects(owner, p)], now)
            self._check_identity(owner, world)

    def _check_status(self, owner: Body, pods: list[Body], now: float) -> None:
        status = owner.get("status") or {}
        if status.get("observedGeneration") != owner["metadata"].get("generation"):
            self.violated("S8", key_of(owner), f"observedGeneration is {status.get('observedGeneration')}")
            return
        for name, value in recount(owner, pods, now).items():
            if status.get(name) != value:
                self.violated("S8", key_of(owner), f"status.{name} is {status.get(name)}, and {value} is true")
        newest = self.facts.sets[str(owner["metadata"]["uid"])].revision
        if status.get("updateRevision") != newest:
            self.violated("S8", key_of(owner), f"status.updateRevision is {status.get('updateRevision')}, not {newest}")

    def _check_identity(self, owner: Body, world: World) -> None:
        uid, name = str(owner["metadata"]["uid"]), str(owner["metadata"]["name"])
        for pod in world.owned(PODS, uid):
            if reading.selects(owner, pod) and reading.ordinal_of(str(pod["metadata"]["name"]), name) < 0:
                self.violated("S1", key_of(pod), "it is owned, and its name is no member's")


def recount(owner: Body, pods: list[Body], now: float) -> dict[str, int]:
    """Return the counts of a status from the pods themselves (spec 1.3)."""
    status = owner.get("status") or {}
    update, current = status.get("updateRevision"), status.get("currentRevision")
    made = [pod for pod in pods if reading.phase(pod)]
    ready = [
        pod
        for pod in made
        if reading.phase(pod) == "Running" and reading.condition(pod, "Ready").get("status") == "True"
    ]
    available = [pod for pod in ready if _available(owner, pod, now)]
    living = [pod for pod in made if not reading.terminating(pod)]

    def on(some: list[Body], revision: object) -> int:
        return sum(1 for pod in some if reading.label(pod, REVISION) == revision)

    counts = {
        "replicas": len(made),
        "readyReplicas": len(ready),
        "availableReplicas": len(available),
        "updatedReplicas": on(living, update),
        "updatedReadyReplicas": on(ready, update),
        "updatedAvailableReplicas": on(available, update),
        "currentReplicas": on(living, current),
    }
    wanted = reading.replicas(owner)
    if reading.strategy(owner) == "RollingUpdate" and counts["updatedReplicas"] == wanted == counts["readyReplicas"]:
        counts["currentReplicas"] = counts["updatedReplicas"]
    return counts


def _available(owner: Body, pod: Body, now: float) -> bool:
    living = {**pod, "metadata": {k: v for k, v in pod["metadata"].items() if k != "deletionTimestamp"}}
    return reading.up_since(living, reading.min_ready(owner)) <= now
