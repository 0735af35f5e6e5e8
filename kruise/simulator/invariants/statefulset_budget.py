"""S2: what an update may make unavailable, in three forms, judged by what the set said when it was decided.

Purpose: ``reliability.md`` 3.2. A disruption is a write of ours by which an available pod is so no more, its deletion,
or a changed image or resource in it.

Guarantees:

* *attributed*: the pods whose present down-spell began with us are never more than the budget, whatever else happens.
* *snapshot*: at some version between that of the pod which the write names and the write itself, and not longer ago
  than a view may be old, one more pod was allowed to be down. A pod that was down at the very version that the write
  names is replaced for free.
* *strict*: with nobody else's hand in it, and no change of the spec, there are never more pods down than the budget.
* The budget is the largest one of the recent past: no write can be conditional on another object, and a checker that
  knew the present budget only would accuse a decision that was right (reliability 6.4).

What this does not do: condemned pods have no part in it; scaling has its own budget (S3).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from kruise.simulator.invariants import statefulset_reading as reading
from kruise.simulator.invariants.model import Actor, Observed
from kruise.simulator.invariants.statefulset_facts import OURS, Facts, SetFacts, changed_containers
from kruise.simulator.invariants.statefulset_reading import NEVER, PODS

Report = Callable[[str, object, str], None]


@dataclass(frozen=True, slots=True)
class Disruption:
    """A write of ours that takes a pod down, or may."""

    owner: SetFacts
    ordinal: int
    deletes: bool


def disruption(commit: Observed, facts: Facts, manager: Actor) -> Disruption | None:
    """Return what *commit* does to a wanted pod of a set that lives, if it is a disruption by us."""
    if commit.resource != PODS or commit.old is None or not manager(commit.actor):
        return None
    owner, ordinal = facts.of_pod(commit.old)
    if owner is None or owner.deleting_at != NEVER or facts.was_condemned(owner, ordinal, commit.time):
        return None
    if begins_deletion(commit):
        return Disruption(owner, ordinal, deletes=True)
    if commit.new is None or reading.terminating(commit.old):
        return None
    seconds = reading.min_ready(owner.owner)
    falls = reading.up_since(commit.old, seconds) <= commit.time < reading.up_since(commit.new, seconds)
    if falls or next(changed_containers(commit.old, commit.new), None) is not None:
        return Disruption(owner, ordinal, deletes=False)
    return None


def begins_deletion(commit: Observed) -> bool:
    """Tell whether *commit* is the begin of a deletion that somebody asked for."""
    asked = commit.request is not None and commit.request.verb == "delete"
    return asked and commit.old is not None and not reading.terminating(commit.old)


class Budget:
    """S2 over one history."""

    def __init__(self, facts: Facts, manager: Actor, report: Report, *, slack: float) -> None:
        self._facts = facts
        self._manager = manager
        self._report = report
        self._slack = slack

    def on_commit(self, commit: Observed) -> None:
        """Look at a commit, before the facts take it in."""
        found = disruption(commit, self._facts, self._manager)
        if found is None:
            return
        owner, now = found.owner, commit.time
        since = owner.up.get(found.ordinal, NEVER)
        if since > now - self._slack * bool(reading.min_ready(owner.owner)):
            return  # it is down, or was when this was decided: replaced for free
        limit = max(reading.budget(state) for state in owner.states(now, self._slack))
        down = owner.down(now)
        by_us = sum(1 for ordinal in down if owner.spells.get(ordinal) == OURS) + 1
        if by_us > limit:
            self._report("S2", commit, f"attributed: {by_us} pods are down by our hand, and the budget is {limit}")
        if not self._allowed_once(commit, owner, len(down)):
            self._report("S2", commit, f"snapshot: {len(down)} others are down, as at every version since the pod's")
        calm = now - owner.generation_at > self._slack
        if calm and by_us == len(down) + 1 and by_us > reading.budget(owner.owner):
            self._report("S2", commit, f"strict: {by_us} pods are down, and the budget is {limit}")

    def _allowed_once(self, commit: Observed, owner: SetFacts, down: int) -> bool:
        if down + 1 <= reading.budget(owner.owner):
            return True
        assert commit.old is not None, "a disruption has a pod"
        version = int(commit.old["metadata"].get("resourceVersion") or 0)
        first = bisect_right(owner.moments, version, key=lambda moment: moment.until)
        for moment in reversed(owner.moments[first:]):
            if commit.time - moment.at > self._slack:
                return False  # nobody may decide on a view that old
            if moment.down + 1 <= moment.budget:
                return True
        return False
