"""The view of a set, brought up to date at the moment of a plan.

Purpose: between the stores, which move at any time, and the planner, which wants one snapshot.

Guarantees:

* :meth:`Sight.look` waits for nothing: what it reads of several stores belongs to one moment (reliability, rule 15).
* A view is told only what changed. It is made anew when there is none, when the settings or the names of the claim
  templates are others, and every ten minutes, to be compared with the one that was kept: a difference is a bug, is
  logged and counted, and the new one counts (performance 4.4).
* Only pods that are the set's reach the view; those to be taken over or let go are returned.
* What was read live because the cache lags (CON3) makes a view for one pass, and is not kept.

What this does not do: it writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import Counter

from kruise.apis.core import CLAIMS, PODS, REVISIONS, STORAGE_CLASSES, Claim, ControllerRevision, Pod, StorageClass
from kruise.apis.selectors import Selector
from kruise.apis.statefulset import StatefulSet
from kruise.apis.statefulset_rules import effective
from kruise.controllers.common.revisions import Chosen
from kruise.controllers.statefulset.claiming import Claiming, decide
from kruise.controllers.statefulset.claims import ClaimTemplateError, claim_templates
from kruise.controllers.statefulset.observe import Observer
from kruise.controllers.statefulset.settings import Settings
from kruise.controllers.statefulset.view import View
from kruise.runtime.client.client import Client
from kruise.runtime.clock import Clock
from kruise.runtime.log import get_logger
from kruise.runtime.objects import Unreadable

__all__ = ["CHECK_EVERY", "Live", "Look", "Memory", "Sight"]

log = get_logger("statefulset")

CHECK_EVERY: Final = 600.0
"""Seconds after which a view is made anew, to compare it with the one that was kept."""


@dataclass(slots=True)
class Memory:
    """What is kept of the sight of one set."""

    view: View | None = None
    settings: Settings | None = None
    generation: int = 0
    """The generation whose claim templates are known."""
    checked: float = 0.0
    """Monotonic seconds: when the view was last made from scratch."""


@dataclass(frozen=True, slots=True)
class Live:
    """What the server said when it was asked."""

    revisions: tuple[ControllerRevision, ...]
    pods: tuple[Pod | Unreadable, ...]
    claims: tuple[Claim | Unreadable, ...]
    classes: dict[str, StorageClass]


@dataclass(slots=True)
class Look:
    """What is to be seen of a set."""

    view: View
    adopt: list[Pod | Unreadable] = field(default_factory=list)
    """Orphans that should be the set's."""
    release: list[Pod | Unreadable] = field(default_factory=list)
    """Pods that the set controls and should not."""
    freed: set[str] = field(default_factory=set)
    """Names of members that no pod has any more."""


class Sight:
    """Keeps views up to date."""

    def __init__(
        self,
        client: Client,
        observer: Observer,
        *,
        clock: Clock,
        differences: Counter,
        check_every: float = CHECK_EVERY,
    ) -> None:
        """*differences* counts the self-checks that found one."""
        self._client = client
        self._observer = observer
        self._clock = clock
        self._differences = differences
        self._check_every = check_every

    async def read_live(self, sts: StatefulSet, selector: Selector, *, classes: bool) -> Live:
        """Read live whatever a plan for *sts* rests on. Raises RuntimeFault."""
        namespace, read, labels = sts.metadata.namespace, self._client.live, str(selector)
        revisions = await read.list(REVISIONS, namespace=namespace, label_selector=labels)
        pods = await read.list(PODS, namespace=namespace, label_selector=labels)
        claims: list[Claim | Unreadable] = []
        if template_names(sts):
            claims = await read.list(CLAIMS, namespace=namespace)
        found = await read.list(STORAGE_CLASSES) if classes else []
        return Live(
            tuple(one for one in revisions if not isinstance(one, Unreadable)),
            tuple(pods),
            tuple(claims),
            {one.metadata.name: one for one in found if not isinstance(one, Unreadable)},
        )

    def look(
        self,
        sts: StatefulSet,
        selector: Selector,
        memory: Memory,
        chosen: Chosen,
        settings: Settings,
        live: Live | None = None,
    ) -> Look:
        """Return the view of *sts* as it is now, and the pods that change hands."""
        sts = effective(sts)  # no webhook may have filled in what nobody said (1.4)
        if live is not None:
            return _whole(sts, selector, chosen, settings, live.pods, live.claims, live.classes)
        if memory.generation != sts.metadata.generation or memory.view is None:
            if self._observer.set_families(sts, template_names(sts)):
                memory.view = None  # it has not heard of the claims of the new templates
            memory.generation = sts.metadata.generation
        if memory.view is None or memory.settings != settings:
            return self._anew(sts, selector, memory, chosen, settings)
        look = self._told(sts, selector, memory.view, chosen)
        if self._clock.monotonic() - memory.checked >= self._check_every:
            return self._checked(sts, selector, memory, chosen, settings, look)
        return look

    def _anew(self, sts: StatefulSet, selector: Selector, memory: Memory, chosen: Chosen, settings: Settings) -> Look:
        observer, notes = self._observer, self._observer.notes(sts)
        notes.pods, notes.claims, notes.classes = set(), set(), False
        look = _whole(sts, selector, chosen, settings, observer.pods(sts), observer.claims(sts), observer.classes())
        memory.view, memory.settings, memory.checked = look.view, settings, self._clock.monotonic()
        return look

    def _told(self, sts: StatefulSet, selector: Selector, view: View, chosen: Chosen) -> Look:
        """Tell *view* what changed."""
        observer, notes = self._observer, self._observer.notes(sts)
        view.set_sts(sts, chosen)
        if notes.classes:
            view.set_storage_classes(observer.classes())
            notes.classes = False
        claims, notes.claims = notes.claims, set()
        for key in sorted(claims):
            view.set_claim(key, observer.stores.claims.raw(key))
        look = Look(view)
        pods, notes.pods = notes.pods, set()
        for key in sorted(pods):
            pod = observer.stores.pods.raw(key)
            view.set_pod(key, pod if pod is not None and _sort(sts, selector, pod, look) else None)
            if pod is None:
                look.freed.add(key.name)
        return look

    def _checked(
        self, sts: StatefulSet, selector: Selector, memory: Memory, chosen: Chosen, settings: Settings, look: Look
    ) -> Look:
        """Make the view anew and compare; a difference is a bug."""
        fresh = self._anew(sts, selector, memory, chosen, settings)
        difference = look.view.difference(fresh.view, self._clock.now())
        if difference:
            self._differences.inc()
            log.error("what is kept of a set is not what there is", StatefulSet=str(sts.key), difference=difference)
        return fresh


def template_names(sts: StatefulSet) -> tuple[str, ...]:
    """Return the names of the claim templates; none when they cannot be read, which the plan reports."""
    try:
        return tuple(template.name for template in claim_templates(sts))
    except ClaimTemplateError:
        return ()


def _sort(sts: StatefulSet, selector: Selector, pod: Pod | Unreadable, look: Look) -> bool:
    """Tell whether *pod* is the set's; note in *look* if it should change hands."""
    verdict = decide(sts, selector, pod)
    if verdict is Claiming.ADOPT:
        look.adopt.append(pod)
    elif verdict is Claiming.RELEASE:
        look.release.append(pod)
    return verdict is Claiming.KEEP


def _whole(
    sts: StatefulSet,
    selector: Selector,
    chosen: Chosen,
    settings: Settings,
    pods: Iterable[Pod | Unreadable],
    claims: Iterable[Claim | Unreadable],
    classes: dict[str, StorageClass],
) -> Look:
    look = Look(View.of(sts, chosen, (), claims, classes, settings=settings))
    for pod in pods:
        if _sort(sts, selector, pod, look):
            look.view.set_pod(pod.key, pod)
    return look
