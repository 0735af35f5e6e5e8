"""What is true of each SidecarSet, commit by commit: the ground on which its oracles stand.

Purpose: which pods are matched, upgraded, waiting or on their way; what the set said lately; which images belong to
which hash; and how it stood at each version.

Guarantees:

* Everything follows from commits alone, in their order; nothing is taken from a status that the controller wrote.
* A pod is judged anew when it changed, and all pods of a set when the set did, so a commit of one pod costs the same
  however many there are.

What this does not do: it judges no write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from kruise.runtime.objects import Key
from kruise.simulator.invariants import sidecarset_reading as reading
from kruise.simulator.invariants.model import Actor, Body, Observed
from kruise.simulator.invariants.sidecarset_reading import CONTROLLER, NAMESPACES, PODS, SIDECARSETS, Sidecar

NEVER: Final = float("inf")
FOREIGN: Final = "somebody else"


def by_sidecars(commit: Observed, manager: Actor) -> bool:
    """Tell whether a commit to a pod is one of our SidecarSet controller."""
    if commit.resource != PODS or commit.old is None or commit.new is None or not manager(commit.actor):
        return False
    request = commit.request
    if request is not None and request.verb == "delete":
        return False
    if request is not None and request.controller:
        return request.controller == CONTROLLER
    keys = (reading.HASH, reading.WITHOUT_IMAGE, reading.STATE, reading.WORKING)
    if any(reading.annotation(commit.old, key) != reading.annotation(commit.new, key) for key in keys):
        return True
    return reading.condition(commit.old, reading.UPGRADABLE) != reading.condition(commit.new, reading.UPGRADABLE)


def as_outside(commit: Observed) -> Observed:
    """Return a commit of our SidecarSet controller as one of somebody else: other kinds of ours did not ask for it."""
    if commit.request is None or commit.request.controller != CONTROLLER:
        return commit
    return Observed(
        commit.rv, commit.verb, commit.resource, commit.key, commit.old, commit.new, FOREIGN, None, commit.time
    )


@dataclass(slots=True)
class Flags:
    """What a pod is to a set that was injected into it."""

    pod: Body
    matched: bool = False
    updated: bool = False
    waiting: bool = False
    """It may be upgraded now, as far as it alone says."""
    good: bool = False
    """Consistent and up."""
    upgradable: bool = False
    """Nothing but images differs."""
    since: float = 0.0
    """When it began to wait."""
    up: bool = False
    turned: float = 0.0
    """When it went down, or up."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How it stood from one version until the next."""

    rv: int
    until: float
    """When it ended; :data:`NEVER` for the present one."""
    total: int
    waiting: int
    busy: int


@dataclass(slots=True)
class SetFacts:
    """One set, by its name."""

    owner: Body
    earlier: deque[tuple[float, Body]] = field(default_factory=deque)
    """States that were replaced, and when."""
    gone_at: float = NEVER
    flags: dict[Key, Flags] = field(default_factory=dict)
    total: int = 0
    waiting: int = 0
    busy: int = 0
    moments: deque[Moment] = field(default_factory=deque)
    upgrades: deque[tuple[int, bool]] = field(default_factory=deque)
    """(version, whether the pod was up) of each upgrade by us."""
    taken: dict[Key, str] = field(default_factory=dict)
    """Pod -> uid: up until we upgraded it, and not good since."""

    @property
    def name(self) -> str:
        """The name of the set."""
        return str(self.owner["metadata"]["name"])

    def states(self, now: float, slack: float) -> list[Body]:
        """Return what the set said just now and lately."""
        present = [self.owner] if self.gone_at == NEVER or now - self.gone_at <= slack else []
        return [*present, *(state for at, state in self.earlier if now - at <= slack)]

    def lately(self, now: float, slack: float) -> Iterator[Moment]:
        """Yield how it stood, the present first, as long as a view of that age is allowed."""
        for moment in reversed(self.moments):
            if now - moment.until > slack:
                return
            yield moment

    def since(self, rv: int) -> tuple[int, int]:
        """Return how many pods we upgraded after *rv*, and how many of them were up."""
        after = [was_up for at, was_up in self.upgrades if at > rv]
        return len(after), sum(after)


class Facts:
    """All sets. Feed it every commit, after whoever wants the state before has looked."""

    def __init__(self, manager: Actor, *, slack: float = 5.0) -> None:
        self._manager = manager
        self._slack = slack
        self.sets: dict[str, SetFacts] = {}
        """By name; one that is gone stays, because pods still bear its name."""
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self.versions: dict[str, tuple[Sidecar, ...]] = {}
        """Hash -> the sidecars of that version."""
        self.providers: dict[str, frozenset[str]] = {}
        """Hash -> the names of all containers of that version."""

    def load(self, resource: str, objects: Iterable[Body]) -> None:
        """Take in what was there before the first commit."""
        for obj in objects:
            meta = obj["metadata"]
            key = Key(meta.get("namespace") or "", meta["name"])
            self.apply(Observed(int(meta.get("resourceVersion") or 0), "create", resource, key, None, obj))

    def apply(self, commit: Observed) -> None:
        """Take a commit in."""
        if commit.resource == SIDECARSETS:
            self._on_set(commit)
        elif commit.resource == PODS:
            self._on_pod(commit)
        elif commit.resource == NAMESPACES:
            self._on_namespace(commit)

    def upgraded(self, commit: Observed) -> list[SetFacts]:
        """Return the sets of which *commit*, one of our controller to a pod, writes another version."""
        assert commit.old is not None, "an update has an old state"
        assert commit.new is not None, "an update has a new state"
        names = {*reading.table(commit.old, reading.HASH), *reading.table(commit.new, reading.HASH)}
        return [
            self.sets[name]
            for name in sorted(names)
            if name in self.sets and reading.entry(commit.old, name) != reading.entry(commit.new, name)
        ]

    def alive(self, name: str, now: float) -> bool:
        """Tell whether the set exists, or did a moment ago."""
        found = self.sets.get(name)
        return found is not None and bool(found.states(now, self._slack))

    # Commits.

    def _on_set(self, commit: Observed) -> None:
        name = commit.key.name
        found = self.sets.get(name)
        if commit.new is None:
            if found is not None:
                found.gone_at = commit.time
            return
        value = reading.hash_of(commit.new)
        if value:
            self.versions.setdefault(value, reading.sidecars(commit.new))
            self.providers.setdefault(value, reading.provided(commit.new))
        if found is None:
            found = self.sets[name] = SetFacts(commit.new)
            return
        same = reading.spec_of(found.owner) == reading.spec_of(commit.new) and reading.hash_of(found.owner) == value
        if same and found.gone_at == NEVER:
            found.owner = commit.new
            return
        found.earlier.append((min(found.gone_at, commit.time), found.owner))
        while len(found.earlier) > 1 and commit.time - found.earlier[0][0] > 10 * self._slack:
            found.earlier.popleft()
        if reading.hash_of(found.owner) != value:
            # Pods on their way to a version that nobody wants any more use no budget (spec 8.5).
            found.taken.clear()
        found.owner, found.gone_at = commit.new, NEVER
        self._rejudge(found, commit)

    def _rejudge(self, found: SetFacts, commit: Observed) -> None:
        for key, flags in list(found.flags.items()):
            self._place(found, key, flags.pod, commit.time)
        self._moment(found, commit)

    def _on_namespace(self, commit: Observed) -> None:
        labels = None if commit.new is None else commit.new["metadata"].get("labels") or {}
        if labels == self.namespaces.get(commit.key.name):
            return
        if labels is None:
            self.namespaces.pop(commit.key.name, None)
        else:
            self.namespaces[commit.key.name] = labels
        for found in self.sets.values():
            if reading.spec_of(found.owner).get("namespaceSelector") is not None and found.flags:
                self._rejudge(found, commit)

    def _on_pod(self, commit: Observed) -> None:
        ours = by_sidecars(commit, self._manager)
        upgraded = {one.name for one in self.upgraded(commit)} if ours else set()
        names = {*reading.listed(commit.obj), *(() if commit.old is None else reading.listed(commit.old))}
        for name in sorted(names):
            found = self.sets.get(name)
            if found is None:
                continue
            was = found.flags.get(commit.key)
            if name in upgraded:
                was_up = was is not None and reading.up(found.owner, was.pod)
                found.upgrades.append((commit.rv, was_up))
                while len(found.upgrades) > 1 and found.moments and found.upgrades[0][0] < found.moments[0].rv:
                    found.upgrades.popleft()
                if was_up and reading.entry(commit.obj, name) == reading.hash_of(found.owner):
                    found.taken[commit.key] = commit.uid
            if commit.new is None or name not in reading.listed(commit.new):
                self._forget(found, commit.key)
            else:
                self._place(found, commit.key, commit.new, commit.time)
            self._moment(found, commit)

    # Parts.

    def _forget(self, found: SetFacts, key: Key) -> None:
        self._count(found, found.flags.pop(key, None), -1)
        found.taken.pop(key, None)

    def _place(self, found: SetFacts, key: Key, pod: Body, now: float) -> None:
        was = found.flags.get(key)
        self._count(found, was, -1)
        flags = found.flags[key] = self._judge(found.owner, pod)
        flags.since = was.since if was is not None and was.waiting and flags.waiting else now
        flags.turned = was.turned if was is not None and was.up == flags.up else now
        self._count(found, flags, 1)
        if flags.good or not flags.matched or found.taken.get(key) != pod["metadata"].get("uid"):
            found.taken.pop(key, None)

    def _judge(self, owner: Body, pod: Body) -> Flags:
        flags = Flags(pod, up=reading.up(owner, pod))
        if not reading.active(pod) or not reading.selects(owner, pod, self.namespaces):
            return flags
        if not reading.complete(owner, pod):
            return flags
        name = owner["metadata"]["name"]
        flags.matched = True
        flags.updated = reading.entry(pod, name) == reading.hash_of(owner)
        flags.good = reading.consistent(owner, pod) and flags.up
        flags.upgradable = reading.entry(pod, name, reading.WITHOUT_IMAGE) == reading.hash_of(
            owner, reading.WITHOUT_IMAGE
        )
        selector = reading.strategy(owner).get("selector")
        chosen = selector is None or reading.matches(selector, pod["metadata"].get("labels") or {})
        waits = not flags.updated and flags.upgradable and chosen
        flags.waiting = waits and not reading.in_progress(owner, pod)
        return flags

    @staticmethod
    def _count(found: SetFacts, flags: Flags | None, by: int) -> None:
        if flags is None or not flags.matched:
            return
        found.total += by
        found.waiting += by * flags.waiting
        found.busy += by * (flags.updated and not flags.good)

    def _moment(self, found: SetFacts, commit: Observed) -> None:
        moments = found.moments
        if moments:
            last = moments.pop()
            if last.rv != commit.rv:
                moments.append(Moment(last.rv, commit.time, last.total, last.waiting, last.busy))
        moments.append(Moment(commit.rv, NEVER, found.total, found.waiting, found.busy))
        while len(moments) > 2 and commit.time - moments[0].until > 10 * self._slack:
            moments.popleft()
