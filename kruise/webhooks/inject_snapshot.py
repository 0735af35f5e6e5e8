"""All SidecarSets as admission sees them: an immutable snapshot, kept up to date by what the cache reports.

Purpose: a request looks up its sets under one namespace and asks nobody. Historical revisions are restored here, when
a set or a revision changes, and not when a pod is created.

Guarantees:

* :attr:`InjectionIndex.snapshot` is immutable; a request that holds one sees one state of the world.
* Sets stand in the order of their names, so the same sets give the same pod on every replica (C2).
* What changed is compiled anew, the rest is kept. A set that cannot be used is listed with the reason and stops no
  other one.
* A restored set has the lists of its revision and nothing else of the present spec; whether it matches a pod is still
  asked of the present one (spec/sidecarset 6.4).

What this does not do: it watches nothing. Whoever has a cache calls the setters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from kruise.apis.core import ControllerRevision
from kruise.apis.fielderrors import go_quote
from kruise.apis.revisiondata import RevisionDataError
from kruise.apis.sidecarset import InjectionRevision, SidecarSet
from kruise.controllers.sidecarset.match import NamespaceIndex
from kruise.controllers.sidecarset.revisions import RevisionNotFoundError, find_revision, restore
from kruise.webhooks.inject_set import CompiledSet, UnusableSet, compile_set

__all__ = ["Candidate", "InjectionIndex", "Missing", "Snapshot", "make_snapshot"]

DEFAULT_NAMESPACE: Final = "kruise-system"


@dataclass(frozen=True, slots=True)
class Missing:
    """A revision that is not there, or cannot be used. A pod that needs it is refused."""

    message: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A set, and the revision of it that its injection strategy names."""

    current: CompiledSet
    historical: CompiledSet | Missing | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that an injection looks at beside the pod."""

    sets: tuple[Candidate, ...] = ()
    index: NamespaceIndex[Candidate] = field(default_factory=lambda: NamespaceIndex(()))
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels by name of every known namespace."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """By set, why nothing is injected from it."""
    own_namespace: str = DEFAULT_NAMESPACE


def _find(
    item: SidecarSet, wanted: InjectionRevision, revisions: Iterable[ControllerRevision]
) -> ControllerRevision | Missing | None:
    try:
        return find_revision(item.metadata.name, wanted, revisions)
    except RevisionNotFoundError:
        if wanted.revision_name:
            return Missing(f"controllerrevisions.apps {go_quote(wanted.revision_name)} not found")
        return Missing(f"ControllerRevision.apps {go_quote(item.metadata.name)} not found")


def _restored(item: SidecarSet, found: ControllerRevision | Missing | None) -> CompiledSet | Missing | None:
    if found is None or isinstance(found, Missing):
        return found
    try:
        return compile_set(restore(item, found))
    except (RevisionDataError, UnusableSet) as error:
        return Missing(f"controllerrevisions.apps {go_quote(found.metadata.name)} cannot be used: {error}")


def make_snapshot(
    sets: Iterable[SidecarSet],
    namespaces: Mapping[str, Mapping[str, str]],
    revisions: Iterable[ControllerRevision] = (),
    own_namespace: str = DEFAULT_NAMESPACE,
) -> Snapshot:
    """Return a snapshot of *sets*, in their order: for a preview, and for tests."""
    index = InjectionIndex(own_namespace)
    for revision in revisions:
        index.set_revision(revision.metadata.name, revision)
    for name, labels in namespaces.items():
        index.set_namespace(name, labels)
    names: list[str] = []
    for item in sets:
        names.append(item.metadata.name)
        index.set_sidecarset(item.metadata.name, item)
    return index.ordered(names)


class InjectionIndex:
    """The mutable side: what the cache reported so far."""

    __slots__ = ("_compiled", "_namespaces", "_own", "_restored", "_revisions", "_sets", "_snapshot", "_unusable")

    def __init__(self, own_namespace: str = DEFAULT_NAMESPACE) -> None:
        self._own = own_namespace
        self._sets: dict[str, SidecarSet] = {}
        self._compiled: dict[str, CompiledSet] = {}
        self._unusable: dict[str, str] = {}
        self._restored: dict[str, tuple[object, CompiledSet | Missing | None]] = {}
        self._revisions: dict[str, ControllerRevision] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._snapshot: Snapshot | None = None

    def set_sidecarset(self, name: str, item: SidecarSet | None) -> None:
        """Take a set as it is now; ``None``: it is gone."""
        self._snapshot = None
        for kept in (self._sets, self._compiled, self._unusable, self._restored):
            kept.pop(name, None)
        if item is None:
            return
        try:
            self._compiled[name] = compile_set(item)
            self._sets[name] = item
        except UnusableSet as error:
            self._unusable[name] = str(error)

    def set_unreadable(self, name: str, problem: str) -> None:
        """Take note of a set that could not be decoded."""
        self.set_sidecarset(name, None)
        self._unusable[name] = problem

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """Take the labels of a namespace; ``None``: it is gone."""
        self._snapshot = None
        if labels is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = labels

    def set_revision(self, name: str, revision: ControllerRevision | None) -> None:
        """Take a ControllerRevision of our own namespace; ``None``: it is gone."""
        self._snapshot = None
        if revision is None:
            self._revisions.pop(name, None)
        else:
            self._revisions[name] = revision

    @property
    def snapshot(self) -> Snapshot:
        """The present state; the same object until something changes."""
        if self._snapshot is None:
            self._snapshot = self.ordered(sorted(self._compiled))
        return self._snapshot

    def ordered(self, names: Iterable[str]) -> Snapshot:
        """Return a snapshot with the sets in the order of *names*."""
        sets = tuple(
            Candidate(self._compiled[name], self._historical(name)) for name in names if name in self._compiled
        )
        return Snapshot(
            sets=sets,
            index=NamespaceIndex((one.current.keys, one, one.current.matcher.anchors) for one in sets),
            namespaces=dict(self._namespaces),
            unusable=dict(self._unusable),
            own_namespace=self._own,
        )

    def _historical(self, name: str) -> CompiledSet | Missing | None:
        wanted = self._compiled[name].injection
        if wanted is None:
            return None
        found = _find(self._sets[name], wanted, self._revisions.values())
        kept = self._restored.get(name)
        if kept is None or (kept[0] is not found and kept[0] != found):
            kept = (found, _restored(self._sets[name], found))
            self._restored[name] = kept
        return kept[1]
