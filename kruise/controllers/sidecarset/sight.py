"""The view of a set, brought up to date at the moment of a plan.

Purpose: between the stores, which move at any time, and the planner, which wants one snapshot.

Guarantees:

* :meth:`Sight.look` waits for nothing: what it reads of several stores belongs to one moment (reliability, rule 15).
* A view is told only what changed. It is made anew when the selectors of the set are others, and every ten minutes, to
  be compared with the one that was kept: a difference is a bug, is logged and counted, and the new one counts
  (performance 4.4). One walk over the pods serves the checks of all sets.
* :meth:`Sight.news` tells whether anything follows from what was noted, so that most events of pods end there.
* What was read live because the cache lags (CON3) makes a view for one pass, and is not kept.

What this does not do: it writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import Counter

from kruise.apis.core import PODS, REVISIONS, ControllerRevision, Pod
from kruise.apis.sidecarset import REVISION_SET_LABEL, SidecarSet
from kruise.controllers.sidecarset.frame import Frame
from kruise.controllers.sidecarset.observe import Notes, Observer
from kruise.controllers.sidecarset.view import View
from kruise.runtime.client.client import Client
from kruise.runtime.clock import Clock
from kruise.runtime.log import get_logger
from kruise.runtime.objects import EMPTY_MAP, Key, Unreadable

__all__ = ["CHECK_EVERY", "Live", "Memory", "Sight"]

log = get_logger("sidecarset")

CHECK_EVERY: Final = 600.0
"""Seconds after which a view is made anew, to compare it with the one that was kept."""


@dataclass(slots=True)
class Memory:
    """What is kept of the sight of one set."""

    view: View | None = None
    notes: Notes | None = None
    """Those that the view was told from the first one on."""
    awaited: set[Key] = field(default_factory=set)
    """Pods on which a decision was stale: their next news, whatever it is, begins a pass."""


@dataclass(frozen=True, slots=True)
class Live:
    """What the server said when it was asked."""

    revisions: tuple[ControllerRevision, ...]
    pods: tuple[Pod | Unreadable, ...]


class Sight:
    """Keeps views up to date."""

    def __init__(
        self,
        client: Client,
        observer: Observer,
        *,
        clock: Clock,
        differences: Counter,
        own_namespace: str,
        scopes: Sequence[str] = (),
        check_every: float = CHECK_EVERY,
    ) -> None:
        """*scopes* are the namespaces that the caches have, none for all. *differences* counts failed self-checks."""
        self._client = client
        self._observer = observer
        self._clock = clock
        self._differences = differences
        self._own = own_namespace
        self._scopes = tuple(scopes) or ("",)
        self._check_every = check_every
        self._surveyed = clock.monotonic()

    async def read_live(self, one: SidecarSet) -> Live:
        """Read live whatever a plan for *one* rests on, but for namespaces: we write none. Raises RuntimeFault."""
        read = self._client.live
        label = f"{REVISION_SET_LABEL}={one.metadata.name}"
        revisions = await read.list(REVISIONS, namespace=self._own, label_selector=label)
        pods: list[Pod | Unreadable] = []
        wanted = Frame.of(one).matcher.pods
        if wanted is not None and not wanted.nothing:
            for scope in self._scopes:
                found = await read.list(PODS, namespace=scope, label_selector=str(wanted))
                pods.extend(found)
        return Live(tuple(obj for obj in revisions if not isinstance(obj, Unreadable)), tuple(pods))

    async def prepare(self, one: SidecarSet, memory: Memory) -> None:
        """Wait until it is known which pods the set wants; from time to time look again."""
        known = memory.view
        if known is not None and known.frame.problem and known.frame.set is not one:
            # A spec that cannot be used wants nobody; with another one all pods are to be looked at.
            self._observer.forget(one.metadata.name)
        if self._clock.monotonic() - self._surveyed >= self._check_every:
            self._surveyed = self._clock.monotonic()
            await self._observer.survey()
        await self._observer.complete(self._observer.notes(one))

    def look(self, one: SidecarSet, memory: Memory, live: Live | None = None) -> View:
        """Return the view of *one* as it is now."""
        if live is not None:
            return self._whole(one, live.pods)
        notes = self._observer.notes(one)
        if memory.view is None or memory.notes is not notes:
            memory.view, memory.notes = self._whole(one, ()), notes
            notes.namespaces.clear()
            notes.survey = None
        else:
            memory.view.set_set(one)
            memory.view.set_canaries(self._observer.canaries(one.metadata.name))
        self._tell(memory, memory.view, notes)
        if notes.survey is not None:
            memory.view = self._checked(one, memory.view, notes.survey)
            notes.survey = None
        return memory.view

    def news(self, memory: Memory) -> bool:
        """Tell the view what was noted; return whether anything follows from it."""
        if memory.view is None or memory.notes is None or not memory.notes.complete:
            return True
        awaited = not memory.awaited.isdisjoint(memory.notes.pods)
        return self._tell(memory, memory.view, memory.notes) or awaited

    def _tell(self, memory: Memory, view: View, notes: Notes) -> bool:
        try:
            return self._told(view, notes)
        except Exception:
            # A view that broke off halfway says nothing true any more: the next pass begins with none.
            memory.view, notes.complete = None, False
            raise

    def _told(self, view: View, notes: Notes) -> bool:
        changed = False
        observer = self._observer
        if notes.namespaces:
            names, notes.namespaces = notes.namespaces, set()
            if view.frame.matcher.namespaces is not None:
                for name in sorted(names):
                    changed |= view.set_namespace(name, observer.namespace(name))
        if notes.pods:
            keys, notes.pods = notes.pods, set()
            for key in sorted(keys):
                changed |= view.set_pod(key, observer.stores.pods.raw(key))
        return changed

    def _whole(self, one: SidecarSet, pods: Iterable[Pod | Unreadable]) -> View:
        """Return a view of *pods*. One whose set asks for no namespace in particular knows none."""
        namespaces: Mapping[str, Mapping[str, str]] = EMPTY_MAP
        if one.spec.namespace_selector is not None:
            namespaces = self._observer.namespaces()
        canaries: Collection[str] = self._observer.canaries(one.metadata.name)
        return View.of(one, pods, namespaces, own_namespace=self._own, canaries=canaries)

    def _checked(self, one: SidecarSet, old: View, survey: set[Key]) -> View:
        """Make the view anew out of the pods of *survey*, and compare; a difference is a bug.

        A pod that the set came to want after the walk had passed it is in the view alone.
        """
        store = self._observer.stores.pods
        keys = survey.union((slot.key for slot in old.slots()), (key for key, _ in old.strangers()))
        fresh = self._whole(one, (pod for key in sorted(keys) if (pod := store.raw(key)) is not None))
        difference = old.difference(fresh)
        if difference:
            self._differences.inc()
            log.error("what is kept of a set is not what there is", SidecarSet=str(one.key), difference=difference)
        return fresh
