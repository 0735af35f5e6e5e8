"""What our controller writes to pods that are not ours: C1, C6, C7 and C10, commit by commit.

Purpose: ``reliability.md`` 3.4, for upgrades, flips, repairs and marks.

Guarantees:

* C1: a write changes images of the sets' own containers, annotations of ours and of ``patchPodMetadata``, and the
  condition ``SidecarSetUpgradable``: nothing else. Afterwards no container of the application is killed.
* C6: what a pod's annotation says was injected is what its images are; of twins, what one of them is. The only twin
  that serves is never emptied (X27).
* C7: a pod whose difference is more than images gets no other version; nothing but its condition is written.
* C10: a set that is gone changes no pod.

What this does not do: a container that dies by itself during an upgrade is no business of C1, and images that somebody
else changed are none of C6.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kruise.simulator.invariants import sidecarset_reading as reading
from kruise.simulator.invariants.general import changed_paths
from kruise.simulator.invariants.model import Body, Observed
from kruise.simulator.invariants.sidecarset_budget import Report
from kruise.simulator.invariants.sidecarset_facts import Facts, SetFacts

_OWN_KEYS: Final = (reading.HASH, reading.WITHOUT_IMAGE, reading.LISTED, reading.STATE, reading.WORKING)
_TERMINATED_BY_SIGNAL: Final = (137, 143)


class Writes:
    """C1, C6, C7 and C10 over one history."""

    def __init__(self, facts: Facts, report: Report, *, slack: float) -> None:
        self._facts = facts
        self._report = report
        self._slack = slack
        self._begun: dict[str, Body] = {}
        """Pod uid -> its state before the upgrade under way."""

    def on_write(self, commit: Observed, upgraded: Iterable[SetFacts]) -> None:
        """Look at a write of our controller to a pod, before the facts take it in."""
        assert commit.old is not None, "an update has an old state"
        assert commit.new is not None, "an update has a new state"
        old, new = commit.old, commit.new
        self._check_scope(commit, old, new)
        self._check_serving(commit, old, new)
        if not any(self._facts.alive(name, commit.time) for name in reading.listed(old)):
            self._report("C10", commit, "every set that was injected into the pod is gone")
        for found in upgraded:
            self._check_version(commit, found, old, new)
            self._begun.setdefault(commit.uid, old)

    def on_other(self, commit: Observed) -> None:
        """Look at what others write to a pod: whether the kubelet killed what the upgrade did not touch."""
        if commit.new is None:
            self._begun.pop(commit.uid, None)
            return
        before = self._begun.get(commit.uid)
        if before is None:
            return
        if reading.terminating(commit.new):
            del self._begun[commit.uid]
            return
        self._check_others(commit, before, commit.new)
        sets = [self._facts.sets[name] for name in reading.listed(commit.new) if name in self._facts.sets]
        if all(reading.consistent(found.owner, commit.new) for found in sets):
            del self._begun[commit.uid]

    # C1.

    def _check_scope(self, commit: Observed, old: Body, new: Body) -> None:
        if reading.exempt(old):
            self._report("C3", commit, "no set may touch this pod")
        names = self._own_names(old, commit.time)
        for path in sorted(changed_paths(old, new)):
            if path.startswith("metadata.annotations"):
                continue
            if path == "spec.containers":
                self._check_containers(commit, old, new, names)
            elif path == "status.conditions":
                self._check_conditions(commit, old, new)
            else:
                self._report("C1", commit, f"{path} is not ours to change")
        before, after = _notes(old), _notes(new)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        foreign = {key for key in changed if key not in _OWN_KEYS and not key.startswith(reading.VERSIONS)}
        foreign -= self._patched(old, commit.time)
        if foreign:
            self._report("C1", commit, f"the annotations {sorted(foreign)} are not ours to change")

    def _own_names(self, pod: Body, now: float) -> set[str]:
        """Return the names of the containers that upgrades of the pod's sets may change."""
        found: set[str] = set()
        for name in reading.listed(pod):
            facts = self._facts.sets.get(name)
            for state in facts.states(now, self._slack) if facts is not None else ():
                found |= {one for sidecar in reading.sidecars(state) for one in sidecar.names}
        return found

    def _patched(self, pod: Body, now: float) -> set[str]:
        found: set[str] = set()
        for name in reading.listed(pod):
            facts = self._facts.sets.get(name)
            for state in facts.states(now, self._slack) if facts is not None else ():
                for patch in reading.spec_of(state).get("patchPodMetadata") or ():
                    found |= set(patch.get("annotations") or {})
        return found

    def _check_containers(self, commit: Observed, old: Body, new: Body, names: set[str]) -> None:
        before, after = reading.containers(old), reading.containers(new)
        if list(before) != list(after):
            self._report("C1", commit, "containers come, go, or change places")
            return
        for name, was in before.items():
            changed = {key for key in was.keys() | after[name].keys() if was.get(key) != after[name].get(key)}
            if changed and name not in names:
                self._report("C1", commit, f"the container {name} is none of a set's, and changes in {sorted(changed)}")
            elif changed - {"image"}:
                self._report("C1", commit, f"the container {name} changes in {sorted(changed)}")

    def _check_conditions(self, commit: Observed, old: Body, new: Body) -> None:
        before, after = _conditions(old), _conditions(new)
        foreign = {kind for kind in before.keys() | after.keys() if before.get(kind) != after.get(kind)}
        if foreign - {reading.UPGRADABLE}:
            self._report("C1", commit, f"the conditions {sorted(foreign)} are not ours to write")

    def _check_others(self, commit: Observed, before: Body, new: Body) -> None:
        after, own = reading.statuses(new), self._own_names(new, commit.time)
        for name, was in reading.statuses(before).items():
            status = after.get(name, {})
            if name in own or reading.images(before).get(name) != reading.images(new).get(name):
                continue
            if status.get("containerID") == was.get("containerID"):
                continue
            if not reading.same_image(reading.images(before).get(name, ""), str(was.get("image", ""))):
                continue  # its owner had changed it already, and the kubelet came to it now
            end = (status.get("lastState") or {}).get("terminated") or {}
            if end.get("exitCode") in _TERMINATED_BY_SIGNAL and end.get("containerID") == was.get("containerID"):
                self._report("C1", commit, f"the container {name} of the application was killed by an upgrade")

    # C6.

    def _check_serving(self, commit: Observed, old: Body, new: Body) -> None:
        """The only twin that is on a real image is left alone, and of two the one that works stays."""
        have, get = reading.images(old), reading.images(new)
        for name in reading.listed(old):
            facts = self._facts.sets.get(name)
            for one in reading.sidecars(facts.owner) if facts is not None else ():
                if facts is None or not one.hot or not one.empty or not set(one.names) <= have.keys():
                    continue
                real = [twin for twin in one.names if have[twin] not in ("", one.empty)]
                left = [twin for twin in real if get.get(twin) not in ("", one.empty, None)]
                if real and not left and all(get.get(twin) in ("", one.empty) for twin in one.names):
                    self._report("C6", commit, f"both twins of {one.name} are emptied")
                elif len(real) == 1 and get.get(real[0]) != have[real[0]]:
                    self._report("C6", commit, f"the only serving twin {real[0]} is changed")
                elif len(real) == 2 and len(left) == 1 and not _works(facts.owner, old, left[0]):
                    self._report("C6", commit, f"a twin of {one.name} is emptied, and {left[0]} does not work yet")

    def _check_version(self, commit: Observed, found: SetFacts, old: Body, new: Body) -> None:
        name, value = found.name, reading.entry(new, found.name)
        states = found.states(commit.time, self._slack)
        if not states:
            self._report("C10", commit, f"the set {name} is gone")
            return
        if value not in {reading.hash_of(state) for state in states}:
            self._report("C6", commit, f"it is upgraded to {value}, which is not the version of {name}")
        problem = misfit(self._facts, new, name)
        if problem:
            self._report("C6", commit, problem)
        was = reading.entry(old, name, reading.WITHOUT_IMAGE)
        if was not in {reading.hash_of(state, reading.WITHOUT_IMAGE) for state in states}:
            self._report("C7", commit, f"more than images of {name} changed, and the pod gets that version")


def misfit(facts: Facts, pod: Body, name: str) -> str:
    """Say in which image a pod is not what its annotation says of the set *name*; empty when it is."""
    value = reading.entry(pod, name)
    have = reading.images(pod)
    for one in facts.versions.get(value, ()):
        found = [have[twin] for twin in one.names if twin in have]
        if found and one.image not in found:
            return f"it says that it has {name} at {value}, and {one.name} is {', '.join(found)} instead of {one.image}"
    return ""


def _notes(pod: Body) -> dict[str, Any]:
    return pod["metadata"].get("annotations") or {}


def _conditions(pod: Body) -> dict[str, Body]:
    return {str(one["type"]): one for one in (pod.get("status") or {}).get("conditions") or ()}


def _works(owner: Body, pod: Body, name: str) -> bool:
    """Tell whether a container runs what its spec says, and is ready."""
    return reading.statuses(pod).get(name, {}).get("ready") is True and reading.consistent(owner, pod, (name,))
