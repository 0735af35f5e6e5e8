"""S5 and S6: claims, which hold data, and revisions, which hold what was.

Purpose: ``reliability.md`` 3.2.

Guarantees:

* S5: we delete no claim. A claim is owned by its pod only where ``whenScaled`` says Delete and the ordinal is not
  wanted, by the set only where ``whenDeleted`` says Delete; references of others stay; a claim is created with its
  final references, and never asks for less than before.
* S5b: no pod is created while a claim that it needs is missing, is being deleted, or waits to be collected with an
  earlier pod of that name; a pod that waits for a claim gets it.
* S6: no second revision of one meaning, none that the set did not mean, and none deleted that is in use.

What this does not do: whether a size may grow is the API server's and the storage class's matter.
"""

from __future__ import annotations

from kruise.simulator.invariants import statefulset_reading as reading
from kruise.simulator.invariants.model import Actor, Body, Observed, World, key_of
from kruise.simulator.invariants.statefulset_budget import Report
from kruise.simulator.invariants.statefulset_facts import Facts, SetFacts
from kruise.simulator.invariants.statefulset_reading import CLAIMS, NEVER, PODS, REVISION, REVISIONS, SETS
from kruise.simulator.kubelet_admission import amount


class Claims:
    """S5 over one history."""

    def __init__(self, facts: Facts, manager: Actor, report: Report, *, slack: float) -> None:
        self._facts = facts
        self._manager = manager
        self._report = report
        self._slack = slack

    def on_commit(self, commit: Observed) -> None:
        """Look at a commit, before the facts take it in."""
        if not self._manager(commit.actor):
            return
        if commit.resource == PODS and commit.verb == "create":
            self._on_pod_created(commit)
        elif commit.resource == CLAIMS:
            if commit.new is None or (commit.request is not None and commit.request.verb == "delete"):
                self._report("S5", commit, "a claim is never ours to delete")
            else:
                self._on_claim(commit, commit.new)

    def _on_pod_created(self, commit: Observed) -> None:
        namespace = commit.key.namespace
        for name in reading.mounted(commit.obj):
            claim = self._facts.claims.get((namespace, name))
            if claim is None:
                if commit.time - self._facts.gone_claims.get((namespace, name), -NEVER) > self._slack:
                    self._report("S5b", commit, f"its claim {name} does not exist")
                continue
            began = self._facts.dying_claims.get(str(claim["metadata"]["uid"]), NEVER)
            if commit.time - began > self._slack:
                self._report("S5b", commit, f"its claim {name} is being deleted")
            for ref in reading.references(claim).values():
                if ref.get("kind") == "Pod" and ref.get("name") == commit.key.name:
                    self._report("S5b", commit, f"its claim {name} still belongs to an earlier pod of this name")

    def _on_claim(self, commit: Observed, claim: Body) -> None:
        owner, ordinal = self._owner(commit, claim)
        old = reading.references(commit.old) if commit.old is not None else {}
        new = reading.references(claim)
        for uid in old.keys() - new.keys():
            if not self._is_ours(old[uid], owner):
                self._report(
                    "S5", commit, f"the reference to {old[uid].get('kind')} {old[uid].get('name')} was not ours"
                )
        if owner is None:
            self._report("S5", commit, "no set has a claim of this name")
            return
        states = owner.states(commit.time, self._slack)
        for uid in new.keys() - old.keys():
            self._check_added(commit, owner, ordinal, states, new[uid])
        if commit.verb == "create":
            uids = {str(owner.owner["metadata"]["uid"])} if new else set[str]()
            fits = [reading.retention(state)[0] == bool(uids) for state in states]
            if not any(fits) or set(new) != uids:
                self._report("S5", commit, f"it is created with the references {sorted(new)}")
        elif commit.old is not None and _size(claim) < _size(commit.old):
            self._report("S5", commit, "it asks for less than before")

    def _owner(self, commit: Observed, claim: Body) -> tuple[SetFacts | None, int]:
        name, namespace = str(claim["metadata"]["name"]), commit.key.namespace
        lately = [owner for at, owner in self._facts.gone_sets if commit.time - at <= self._slack]
        for owner in (*self._facts.sets.values(), *lately):
            if owner.owner["metadata"].get("namespace") != namespace:
                continue
            for state in owner.states(commit.time, self._slack):
                for template in reading.claim_templates(state):
                    ordinal = reading.ordinal_of(name.removeprefix(f"{template}-"), owner.name)
                    if name.startswith(f"{template}-") and ordinal >= 0:
                        return owner, ordinal
        return None, -1

    def _is_ours(self, ref: Body, owner: SetFacts | None) -> bool:
        if owner is None:
            return False
        if ref.get("uid") == owner.owner["metadata"]["uid"]:
            return True
        return ref.get("kind") == "Pod" and reading.ordinal_of(str(ref.get("name")), owner.name) >= 0

    def _check_added(self, commit: Observed, owner: SetFacts, ordinal: int, states: list[Body], ref: Body) -> None:
        if ref.get("uid") == owner.owner["metadata"]["uid"]:
            if not any(reading.retention(state)[0] for state in states):
                self._report("S5", commit, "the set owns it, and whenDeleted is Retain")
        elif ref.get("kind") == "Pod" and reading.ordinal_of(str(ref.get("name")), owner.name) == ordinal:
            if not any(reading.retention(state)[1] and ordinal not in owner.ordinals(state) for state in states):
                self._report("S5", commit, "its pod owns it, and is wanted, or whenScaled is Retain")
        else:
            self._report("S5", commit, f"{ref.get('kind')} {ref.get('name')} has no part in it")

    def at_quiescence(self) -> None:
        """Look at what is there at rest."""
        for owner in self._facts.sets.values():
            if owner.deleting_at != NEVER:
                continue
            by_set, _ = reading.retention(owner.owner)
            uid, namespace = str(owner.owner["metadata"]["uid"]), str(owner.owner["metadata"].get("namespace") or "")
            for ordinal, pod in owner.pods.items():
                if not owner.wants(ordinal) or reading.terminating(pod):
                    continue
                for name in reading.claim_names(owner.owner, ordinal):
                    claim = self._facts.claims.get((namespace, name))
                    if claim is None:
                        if reading.phase(pod) == "Pending":
                            self._report("S5b", key_of(pod), f"the claim {name} of a pod that waits is missing")
                    elif (uid in reading.references(claim)) != by_set:
                        self._report("S5", key_of(claim), f"whenDeleted is {'Delete' if by_set else 'Retain'}")
                    elif any(r.get("kind") == "Pod" for r in reading.references(claim).values()):
                        self._report("S5", key_of(claim), "a pod owns it that is wanted")


def _size(claim: Body) -> float:
    asked = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return float(amount(asked.get("storage")))


class Revisions:
    """S6 over one history."""

    def __init__(self, facts: Facts, manager: Actor, report: Report, *, slack: float) -> None:
        self._facts = facts
        self._manager = manager
        self._report = report
        self._slack = slack

    def on_commit(self, commit: Observed) -> None:
        """Look at a commit, before the facts take it in."""
        if commit.resource != REVISIONS or not self._manager(commit.actor):
            return
        owner = self._facts.sets.get(reading.owner_uid(commit.obj))
        if owner is None:
            return
        if commit.verb == "create":
            self._on_created(commit, owner)
        elif commit.new is None or (commit.request is not None and commit.request.verb == "delete"):
            used = {reading.label(pod, REVISION) for pod in owner.pods.values()}
            status = owner.owner.get("status") or {}
            if commit.key.name in {*used, owner.revision, status.get("currentRevision")}:
                self._report("S6", commit, "a revision is deleted that is in use")

    def _on_created(self, commit: Observed, owner: SetFacts) -> None:
        form = reading.canonical(reading.revision_template(commit.obj))
        for other in self._facts.live(owner):
            if reading.canonical(reading.revision_template(other)) == form:
                self._report("S6", commit, f"{other['metadata']['name']} means the same")
        templates = [reading.spec_of(state).get("template") or {} for state in owner.states(commit.time, self._slack)]
        if form not in [reading.canonical(template) for template in templates]:
            self._report("S6", commit, "it holds a template that the set does not have")

    def at_quiescence(self, world: World) -> None:
        """Look at what is there at rest."""
        for one in world.all(SETS):
            owner = self._facts.sets.get(str(one["metadata"]["uid"]))
            if owner is None or owner.deleting_at != NEVER:
                continue
            status = one.get("status") or {}
            used = {reading.label(pod, REVISION) for pod in owner.pods.values()}
            used |= {str(status.get("currentRevision")), str(status.get("updateRevision"))}
            names = {str(revision["metadata"]["name"]) for revision in self._facts.live(owner)}
            limit = reading.spec_of(one).get("revisionHistoryLimit")
            if len(names - used) > (10 if limit is None else limit):
                self._report("S6", key_of(one), f"{len(names - used)} revisions are kept that nobody uses")
