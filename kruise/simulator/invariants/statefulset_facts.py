"""What is true of each Advanced StatefulSet, commit by commit: the ground on which its oracles stand.

Purpose: who is up and since when, whose down-spell began by whose hand, what the set said lately, and how many pods
were down at each version.

Guarantees:

* Everything follows from commits alone, in their order; nothing is taken from a status that the controller wrote.
* A pod whose image was changed in place is down until its kubelet has reported on the new one: a status that lags
  behind does not count for it.

What this does not do: it judges nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from kruise.runtime.objects import Key
from kruise.simulator.invariants import statefulset_reading as reading
from kruise.simulator.invariants.model import Actor, Body, Observed
from kruise.simulator.invariants.statefulset_reading import CLAIMS, NEVER, PODS, REVISIONS, SETS

OURS: Final = "ours"
OUTSIDE: Final = "outside"


@dataclass(frozen=True, slots=True)
class Moment:
    """How it stood from one version until the next."""

    until: int
    """The version that ended it."""
    at: float
    """When that was."""
    down: int
    budget: int


@dataclass(slots=True)
class SetFacts:
    """One set."""

    owner: Body
    generation_at: float
    """When its spec changed last."""
    wanted: list[int]
    slots: dict[int, int]
    """Wanted ordinal -> how many wanted ones lie below it."""
    deleting_at: float = NEVER
    earlier: deque[tuple[float, Body]] = field(default_factory=deque)
    """States that were replaced, and when."""
    pods: dict[int, Body] = field(default_factory=dict)
    """Ordinal -> the pod of that name, terminating or not."""
    up: dict[int, float] = field(default_factory=dict)
    """Ordinal -> from when on its pod is available."""
    last_up: dict[int, float] = field(default_factory=dict)
    """Ordinal -> when it was up last, once it is no more."""
    spells: dict[int, str] = field(default_factory=dict)
    """Ordinal that is down -> who began it."""
    moments: list[Moment] = field(default_factory=list)
    newest: deque[tuple[float, str]] = field(default_factory=deque)
    """Names of the newest revision that were replaced, and when."""
    revision: str = ""
    """The newest revision now."""
    start_ordinal: bool = False
    """Whether ``ordinals.start`` counts."""

    @property
    def name(self) -> str:
        """The name of the set."""
        return str(self.owner["metadata"]["name"])

    def states(self, now: float, slack: float) -> list[Body]:
        """Return what the set said just now and lately."""
        return [self.owner, *(state for at, state in self.earlier if now - at <= slack)]

    def revisions(self, now: float, slack: float) -> set[str]:
        """Return what was the newest revision just now and lately."""
        return {self.revision, *(name for at, name in self.newest if now - at <= slack)}

    def is_up(self, ordinal: int, now: float) -> bool:
        """Tell whether the pod of an ordinal is available."""
        return self.up.get(ordinal, NEVER) <= now

    def was_up(self, ordinal: int, now: float, slack: float) -> bool:
        """Tell whether it is, or was a moment ago."""
        return self.is_up(ordinal, now) or now - self.last_up.get(ordinal, -NEVER) <= slack

    def down(self, now: float) -> list[int]:
        """Return the wanted ordinals that are not up, missing ones included."""
        return [one for one in self.wanted if not self.is_up(one, now)]

    def ordinals(self, state: Body) -> list[int]:
        """Return the wanted ordinals of one of its states."""
        return self.wanted if state is self.owner else reading.wanted(state, start_ordinal=self.start_ordinal)

    def wants(self, ordinal: int) -> bool:
        """Tell whether an ordinal is wanted now."""
        return ordinal in self.slots


class Facts:
    """All sets. Feed it every commit, after whoever wants the state before has looked."""

    def __init__(self, manager: Actor, *, slack: float = 5.0, start_ordinal: bool = False) -> None:
        self._manager = manager
        self._slack = slack
        self._start_ordinal = start_ordinal
        self.sets: dict[str, SetFacts] = {}
        self.gone_sets: list[tuple[float, SetFacts]] = []
        """Sets that are gone, and when."""
        self.claims: dict[tuple[str, str], Body] = {}
        self.gone_claims: dict[tuple[str, str], float] = {}
        """(namespace, name) -> when the last claim of that name went."""
        self.dying_claims: dict[str, float] = {}
        """Claim uid -> when its deletion began."""
        self.mounts: dict[tuple[str, str], dict[str, Body]] = {}
        """(namespace, claim) -> pod uid -> pod."""
        self.pending: dict[str, dict[str, Body]] = {}
        """Pod uid -> container whose image was changed -> its status before."""
        self.resizing: dict[str, set[str]] = {}
        """Pod uid -> containers whose resources were changed and are not in force yet."""
        self.revisions: dict[str, dict[str, Body]] = {}
        """Set uid -> its revisions by name."""
        self.gone_revisions: dict[tuple[str, str], float] = {}
        """(namespace, name) -> when the last revision of that name went."""

    def of_pod(self, pod: Body) -> tuple[SetFacts | None, int]:
        """Return the set that controls a pod, and the pod's ordinal; -1 when it is no member."""
        found = self.sets.get(reading.owner_uid(pod))
        if found is None:
            return None, -1
        return found, reading.ordinal_of(str(pod["metadata"]["name"]), found.name)

    def was_condemned(self, owner: SetFacts, ordinal: int, now: float) -> bool:
        """Tell whether an ordinal was not wanted a moment ago: what was decided then is a scale-down."""
        return any(ordinal not in owner.ordinals(state) for state in owner.states(now, self._slack))

    def live(self, owner: SetFacts) -> Iterable[Body]:
        """Return the revisions of a set."""
        return self.revisions.get(str(owner.owner["metadata"]["uid"]), {}).values()

    # Commits.

    def apply(self, commit: Observed) -> None:
        """Take a commit in."""
        if commit.resource == SETS:
            self._on_set(commit)
        elif commit.resource == PODS:
            self._on_pod(commit)
        elif commit.resource == CLAIMS:
            self._on_claim(commit)
        elif commit.resource == REVISIONS:
            self._on_revision(commit)

    def load(self, resource: str, objects: Iterable[Body]) -> None:
        """Take in what was there before the first commit."""
        for obj in objects:
            meta = obj["metadata"]
            key = (meta.get("namespace") or "", meta["name"])
            self.apply(Observed(int(meta.get("resourceVersion") or 0), "create", resource, Key(*key), None, obj))

    def _on_set(self, commit: Observed) -> None:
        found = self.sets.get(commit.uid)
        if commit.new is None:
            self.sets.pop(commit.uid, None)
            if found is not None:
                self.gone_sets.append((commit.time, found))
            self.revisions.pop(commit.uid, None)
            return
        ordinals = reading.wanted(commit.new, start_ordinal=self._start_ordinal)
        slots = {ordinal: slot for slot, ordinal in enumerate(ordinals)}
        if found is None:
            found = self.sets[commit.uid] = SetFacts(commit.new, commit.time, ordinals, slots)
            found.spells, found.start_ordinal = dict.fromkeys(ordinals, OUTSIDE), self._start_ordinal
            return
        if commit.old is not None and commit.old.get("spec") == commit.new.get("spec"):
            found.owner = commit.new
        else:
            self._close(found, commit)
            found.earlier.append((commit.time, found.owner))
            found.owner, found.generation_at = commit.new, commit.time
            found.wanted, found.slots = ordinals, slots
            seconds = reading.min_ready(commit.new)
            for ordinal, pod in found.pods.items():
                was_up, found.up[ordinal] = found.is_up(ordinal, commit.time), self._up(pod, seconds)
                if was_up and not found.is_up(ordinal, commit.time):
                    found.last_up[ordinal] = commit.time
            self._note(found, [*ordinals, *found.pods], OUTSIDE, commit.time)
        if reading.terminating(commit.new):
            found.deleting_at = min(found.deleting_at, commit.time)

    def _on_pod(self, commit: Observed) -> None:
        self._follow_image(commit)
        self._follow_mounts(commit)
        for pod in (commit.old, commit.new):
            found, ordinal = (None, -1) if pod is None else self.of_pod(pod)
            if found is None or ordinal < 0:
                continue
            self._close(found, commit)
            now_there = commit.new is not None and self.of_pod(commit.new)[0] is found
            was_up = found.is_up(ordinal, commit.time)
            if now_there and commit.new is not None:
                found.pods[ordinal] = commit.new
                found.up[ordinal] = self._up(commit.new, reading.min_ready(found.owner))
            else:
                found.pods.pop(ordinal, None)
                found.up.pop(ordinal, None)
            if was_up and not found.is_up(ordinal, commit.time):
                found.last_up[ordinal] = commit.time
            ours = self._manager(commit.actor) and not self.was_condemned(found, ordinal, commit.time)
            self._note(found, [ordinal], OURS if ours else OUTSIDE, commit.time)
            if commit.new is None or now_there:
                return

    def _on_claim(self, commit: Observed) -> None:
        key = (commit.key.namespace, commit.key.name)
        if commit.new is None:
            self.claims.pop(key, None)
            self.gone_claims[key] = commit.time
            self.dying_claims.pop(commit.uid, None)
            return
        self.claims[key] = commit.new
        if reading.terminating(commit.new):
            self.dying_claims.setdefault(commit.uid, commit.time)

    def _on_revision(self, commit: Observed) -> None:
        name = commit.key.name
        if commit.new is None:
            self.gone_revisions[(commit.key.namespace, name)] = commit.time
        for obj in (commit.old, commit.new):
            uid = "" if obj is None else reading.owner_uid(obj)
            if not uid:
                continue
            held = self.revisions.setdefault(uid, {})
            if commit.new is not None and obj is commit.new:
                held[name] = commit.new
            else:
                held.pop(name, None)
            found = self.sets.get(uid)
            if found is None:
                continue
            now_newest = reading.newest(held.values())
            if now_newest != found.revision:
                found.newest.append((commit.time, found.revision))
                found.revision = now_newest

    # Parts.

    def _up(self, pod: Body, seconds: int) -> float:
        uid = str(pod["metadata"]["uid"])
        if self.pending.get(uid) or self.resizing.get(uid):
            return NEVER
        return reading.up_since(pod, seconds)

    def _close(self, found: SetFacts, commit: Observed) -> None:
        """End the moment that *commit* ends: as it stood just before. Spells that time has ended are over."""
        for ordinal in [one for one in found.spells if found.is_up(one, commit.time)]:
            del found.spells[ordinal]
        if found.moments and found.moments[-1].until == commit.rv:
            return
        found.moments.append(Moment(commit.rv, commit.time, len(found.down(commit.time)), reading.budget(found.owner)))

    def _note(self, found: SetFacts, ordinals: Iterable[int], who: str, now: float) -> None:
        for ordinal in ordinals:
            if not found.wants(ordinal) or found.is_up(ordinal, now):
                found.spells.pop(ordinal, None)
            else:
                found.spells.setdefault(ordinal, who)

    def _follow_mounts(self, commit: Observed) -> None:
        if commit.verb == "update" and commit.new is not None:
            for name in reading.mounted(commit.new):
                self.mounts.setdefault((commit.key.namespace, name), {})[commit.uid] = commit.new
            return
        for name in reading.mounted(commit.obj):
            there = self.mounts.setdefault((commit.key.namespace, name), {})
            if commit.new is None:
                there.pop(commit.uid, None)
            else:
                there[commit.uid] = commit.new

    def _follow_image(self, commit: Observed) -> None:
        """Remember which containers run an image or have resources that the spec no longer asks for."""
        if commit.new is None:
            self.pending.pop(commit.uid, None)
            self.resizing.pop(commit.uid, None)
            return
        if commit.old is None:
            return
        before, after = reading.statuses(commit.old), reading.statuses(commit.new)
        if self._manager(commit.actor):
            for name, kind in changed_containers(commit.old, commit.new):
                if name not in before:
                    continue  # it has not run yet, so it will begin with what is asked for now
                if kind == "image":
                    self.pending.setdefault(commit.uid, {}).setdefault(name, before[name])
                else:
                    self.resizing.setdefault(commit.uid, set()).add(name)
        waiting = self.pending.get(commit.uid)
        if waiting:
            wanted = reading.containers(commit.new)
            for name, was in list(waiting.items()):
                if in_force(wanted.get(name, {}), after.get(name, {}), was):
                    del waiting[name]
        held = self.resizing.get(commit.uid)
        if held:
            wanted = reading.containers(commit.new)
            for name in list(held):
                told = after.get(name, {})
                if "resources" not in told or reading.resources_of(told) == reading.resources_of(wanted.get(name, {})):
                    held.discard(name)


def in_force(container: Body, status: Body, before: Body) -> bool:
    """Tell whether a status shows that the changed image runs (7.8): by its name, or by another digest than before."""
    if reading.same_image(str(container.get("image", "")), str(status.get("image", ""))):
        return True
    return bool(status.get("imageID")) and status.get("imageID") != before.get("imageID")


def changed_containers(old: Body, new: Body) -> Iterator[tuple[str, str]]:
    """Yield (container, ``image`` or ``resources``) for each difference between two specs."""
    before = reading.containers(old)
    for name, container in reading.containers(new).items():
        was = before.get(name, {})
        if was.get("image") != container.get("image"):
            yield name, "image"
        if reading.resources_of(was) != reading.resources_of(container):
            yield name, "resources"
