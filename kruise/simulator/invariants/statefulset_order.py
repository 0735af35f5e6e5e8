"""S1, S3 and S7: identity, order, and no kill that helps nobody.

Purpose: ``reliability.md`` 3.2.

Guarantees:

* S1: a pod of ours has a canonical name and an ordinal that is wanted; no two live pods mount one claim that only one
  may mount; a pod's object goes only after its processes; a finalizer of somebody else stays.
* S3: OrderedReady creates an ordinal after all lower ones are available, and scales down from the top; scaling in
  parallel keeps its own budget; updates go from the top, never below the partition, never while paused, never under
  OnDelete.
* S7: an available pod that is on the newest revision is deleted only because somebody asked for that.

What this does not do: selectors of weights by expressions; the workloads have labels alone.
"""

from __future__ import annotations

from typing import Any

from kruise.simulator.invariants import statefulset_reading as reading
from kruise.simulator.invariants.model import Actor, Body, Observed
from kruise.simulator.invariants.statefulset_budget import Report, begins_deletion
from kruise.simulator.invariants.statefulset_facts import Facts, SetFacts
from kruise.simulator.invariants.statefulset_reading import GATE, NEVER, PODS, REVISION, SPECIFIED_DELETE, STATE

_SHARED = ("ReadWriteMany", "ReadOnlyMany")


class Order:
    """S1, S3 and S7 over one history."""

    def __init__(self, facts: Facts, manager: Actor, report: Report, *, slack: float) -> None:
        self._facts = facts
        self._manager = manager
        self._report = report
        self._slack = slack
        self._created: dict[str, float] = {}

    def on_commit(self, commit: Observed) -> None:
        """Look at a commit, before the facts take it in."""
        if commit.resource != PODS:
            return
        if commit.verb == "create":
            self._created[commit.uid] = commit.time
        if not self._manager(commit.actor):
            return
        owner, ordinal = self._facts.of_pod(commit.obj)
        if commit.verb == "create":
            if owner is not None:
                self._on_created(commit, owner, ordinal)
            return
        assert commit.old is not None, "what is no creation has an old state"
        owner, ordinal = self._facts.of_pod(commit.old)
        if owner is None:
            return
        self._check_finalizers(commit)
        if begins_deletion(commit):
            self._check_process(commit)
            self._on_deleted(commit, owner, ordinal)
        elif commit.new is not None:
            self._on_changed(commit, owner, ordinal)

    # Creations.

    def _on_created(self, commit: Observed, owner: SetFacts, ordinal: int) -> None:
        states = owner.states(commit.time, self._slack)
        places = [(state, owner.ordinals(state)) for state in states]
        if not any(ordinal in wanted for _, wanted in places):
            self._report("S1", commit, "no ordinal that is wanted has this name")
            return
        self._check_claims(commit)
        fits = [(state, wanted) for state, wanted in places if ordinal in wanted]
        if reading.ordered(owner.owner):
            if not any(all(self._ready(owner, j, commit.time) for j in w if j < ordinal) for _, w in fits):
                missing = [j for j in fits[0][1] if j < ordinal and not self._ready(owner, j, commit.time)]
                self._report("S3", commit, f"the ordinals {missing} below it are not available")
        else:
            self._check_throttle(commit, owner, ordinal, fits)
        self._check_revision(commit, owner, ordinal, fits)

    def _ready(self, owner: SetFacts, ordinal: int, now: float) -> bool:
        return owner.was_up(ordinal, now, self._slack)

    def _check_throttle(
        self, commit: Observed, owner: SetFacts, ordinal: int, fits: list[tuple[Body, list[int]]]
    ) -> None:
        for state, wanted in fits:
            limit = reading.throttle(state)
            below = [j for j in wanted if j < ordinal and not self._ready(owner, j, commit.time)]
            if limit is None or len(below) + 1 <= limit:
                return
        self._report("S3", commit, f"{len(below)} ordinals below it are not available, and scaling allows {limit}")

    def _check_revision(
        self, commit: Observed, owner: SetFacts, ordinal: int, fits: list[tuple[Body, list[int]]]
    ) -> None:
        """Pods below the partition are made from the old revision (6.2)."""
        has = reading.label(commit.obj, REVISION)
        names = {str(one["metadata"]["name"]) for one in self._facts.live(owner)}
        if has not in names:
            # It may have been collected a moment ago, with a set that is on its way out.
            went = self._facts.gone_revisions.get((commit.key.namespace, has), -NEVER)
            if not reading.terminating(owner.owner) or commit.time - went > self._slack:
                self._report("S6", commit, f"its revision {has!r} does not exist")
            return
        for state, wanted in fits:
            old = str((state.get("status") or {}).get("currentRevision") or "")
            held = wanted.index(ordinal) < reading.partition(state) and reading.strategy(state) == "RollingUpdate"
            if not held or old not in names or has == old or reading.unordered(state):
                return
        self._report("S3", commit, f"it lies below the partition, and is made from {has} instead of {old}")

    def _check_claims(self, commit: Observed) -> None:
        for name in reading.mounted(commit.obj):
            key = (commit.key.namespace, name)
            claim = self._facts.claims.get(key)
            modes = ((claim or {}).get("spec") or {}).get("accessModes") or ()
            if any(mode in _SHARED for mode in modes):
                continue
            for other in self._facts.mounts.get(key, {}).values():
                if reading.phase(other) not in reading.ENDED:
                    self._report("S1", commit, f"{other['metadata']['name']} mounts the claim {name} as well")

    # Deletions.

    def _check_process(self, commit: Observed) -> None:
        pod = commit.old or {}
        runs = (pod.get("spec") or {}).get("nodeName") and reading.phase(pod) not in reading.ENDED
        if commit.new is None and runs and reading.statuses(pod):
            self._report("S1", commit, "the object goes at once, while its processes may run")

    def _on_deleted(self, commit: Observed, owner: SetFacts, ordinal: int) -> None:
        pod, now = commit.old or {}, commit.time
        states = owner.states(now, self._slack)
        wanted = [owner.ordinals(state) for state in states]
        if not any(ordinal in one for one in wanted):
            if reading.ordered(owner.owner):
                self._check_descending(commit, owner, ordinal, wanted)
            return
        if not all(ordinal in one for one in wanted) or reading.phase(pod) in reading.ENDED:
            return
        asked = SPECIFIED_DELETE in (pod["metadata"].get("labels") or {})
        if reading.label(pod, STATE) == "PreparingDelete":
            return
        self._check_allowed(commit, states)
        if asked:
            return
        lately = owner.revisions(now, self._slack)
        if owner.is_up(ordinal, now) and lately == {reading.label(pod, REVISION)}:
            self._report("S7", commit, "it is available and on the newest revision")
        self._check_window(commit, owner, ordinal, states)
        if reading.phase(pod) and all(reading.policy(state) == "InPlaceOnly" for state in states):
            self._report("S4", commit, "a pod is deleted for an update, and the policy is InPlaceOnly")

    def _check_descending(self, commit: Observed, owner: SetFacts, ordinal: int, wanted: list[list[int]]) -> None:
        for other, pod in owner.pods.items():
            if other <= ordinal or any(other in one for one in wanted):
                continue
            if reading.label(pod, STATE) == "PreparingDelete":
                continue
            if commit.time - self._created.get(str(pod["metadata"]["uid"]), -NEVER) > self._slack:
                self._report("S3", commit, f"{pod['metadata']['name']} is above it and still there")

    # Updates.

    def _on_changed(self, commit: Observed, owner: SetFacts, ordinal: int) -> None:
        old, new = commit.old or {}, commit.new or {}
        relabelled = reading.label(old, REVISION) != reading.label(new, REVISION)
        closes = reading.gated(old) and _is(old, "True") and _is(new, "False")
        prepares = reading.label(new, STATE) == "PreparingUpdate" and reading.label(old, STATE) != "PreparingUpdate"
        states = owner.states(commit.time, self._slack)
        if not (relabelled or closes or prepares) or not all(ordinal in owner.ordinals(state) for state in states):
            return
        self._check_allowed(commit, states)
        self._check_window(commit, owner, ordinal, states)
        if relabelled and reading.label(new, REVISION) not in owner.revisions(commit.time, self._slack):
            self._report("S6", commit, f"it is updated to {reading.label(new, REVISION)}, which is not the newest")

    def _check_allowed(self, commit: Observed, states: list[Body]) -> None:
        if all(reading.paused(state) for state in states):
            self._report("S3", commit, "a pod is updated while the set is paused")
        if all(reading.strategy(state) == "OnDelete" for state in states):
            self._report("S3", commit, "a pod is updated under OnDelete")

    def _check_window(self, commit: Observed, owner: SetFacts, ordinal: int, states: list[Body]) -> None:
        """An update goes from the top down to the partition, and takes no more at a time than the budget."""
        now = commit.time
        lately = owner.revisions(now, self._slack)
        if any(reading.unordered(state) for state in states):
            others = [reading.label(pod, REVISION) for j, pod in owner.pods.items() if j != ordinal]
            updated = min(others.count(name) for name in lately)
            room = max(reading.replicas(state) - reading.partition(state) for state in states)
            if updated + 1 > room:
                self._report("S3", commit, f"{updated} pods are updated, and the partition leaves room for {room}")
            if all(reading.unordered(state) for state in states):
                self._check_priorities(commit, owner, ordinal, states)
            return
        slots = [owner.ordinals(state).index(ordinal) for state in states]
        if all(slot < reading.partition(state) for slot, state in zip(slots, states, strict=True)):
            self._report("S3", commit, f"its place {slots[0]} is below the partition")
        above = [
            j
            for j in owner.wanted
            if j > ordinal
            and owner.is_up(j, now)
            and reading.label(owner.pods[j], REVISION) not in lately
            and now - self._created.get(str(owner.pods[j]["metadata"]["uid"]), -NEVER) > self._slack
        ]
        limit = max(reading.budget(state) for state in states)
        if len(above) >= limit + (not owner.is_up(ordinal, now)):
            self._report("S3", commit, f"the ordinals {above} above it are still as they were")

    def _check_priorities(self, commit: Observed, owner: SetFacts, ordinal: int, states: list[Body]) -> None:
        """No pod is taken while more than the budget wait that come before it, by whatever the set said lately."""
        now, pod = commit.time, commit.old or {}
        lately = owner.revisions(now, self._slack)
        before = [
            j
            for j, other in owner.pods.items()
            if j != ordinal
            and owner.is_up(j, now)
            and reading.label(other, REVISION) not in lately
            and all(j in owner.ordinals(state) for state in states)
            and all((reading.rank(s, other), -j) < (reading.rank(s, pod), -ordinal) for s in states)
            and now - self._created.get(str(other["metadata"]["uid"]), -NEVER) > self._slack
        ]
        limit = max(reading.budget(state) for state in states)
        if len(before) >= limit + (not owner.is_up(ordinal, now)):
            self._report(
                "S3", commit, f"the ordinals {sorted(before)} come before it by priority, and are as they were"
            )

    def _check_finalizers(self, commit: Observed) -> None:
        if commit.new is None or commit.old is None:
            return
        lost = set(_finalizers(commit.old)) - set(_finalizers(commit.new))
        owner, _ = self._facts.of_pod(commit.old)
        if not lost or owner is None:
            return
        names = {reading.label(commit.old, REVISION)}
        for one in self._facts.live(owner):
            if one["metadata"]["name"] in names:
                lost -= set((reading.revision_template(one).get("metadata") or {}).get("finalizers") or ())
        if lost:
            self._report("S1", commit, f"the finalizers {sorted(lost)} are somebody else's")


def _is(pod: Body, status: str) -> bool:
    return bool(reading.condition(pod, GATE).get("status") == status)


def _finalizers(obj: Body) -> list[Any]:
    return obj["metadata"].get("finalizers") or []
