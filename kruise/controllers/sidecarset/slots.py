"""One pod in the view of a SidecarSet: what it counts as, and in which sets of the view it stands.

Purpose: :func:`judge` reads a pod once, when it changed; all that a plan and a status ask afterwards are marks.

Guarantees: marks are a function of the frame, the pod, its namespace and the canaries of the set; they know neither
other pods nor the clock. A pod that cannot be decoded is matched by its metadata, not ready, and never upgraded
(spec/sidecarset 7.3).

What this does not do: it keeps nothing in order; ``view`` does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from kruise.apis.core import Pod
from kruise.apis.sidecarset import INJECTED_LIST_ANNOTATION
from kruise.controllers.sidecarset.frame import Frame
from kruise.controllers.sidecarset.match import exempt, is_active
from kruise.controllers.sidecarset.order import Rank
from kruise.controllers.sidecarset.podannotations import injected_names
from kruise.controllers.sidecarset.podstate import complete, entry_of, state_of_pod
from kruise.controllers.sidecarset.upgrade import condition_write, lacks_upgradable
from kruise.runtime.clock import parse_time
from kruise.runtime.objects import Key, Unreadable

__all__ = ["Slot", "judge"]

# What the status counts.
MATCHED: Final = 1 << 0
UPDATED: Final = 1 << 1
READY: Final = 1 << 2
"""Consistent and ready."""
UPDATED_READY: Final = 1 << 3
UNREADABLE: Final = 1 << 4

# What the planner asks.
UP: Final = 1 << 5
"""It works: taking it costs budget (spec 8.5)."""
BUSY: Final = 1 << 6
"""Upgraded and not back yet: it uses budget."""
WAITING: Final = 1 << 7
"""It may be upgraded."""
STARTED: Final = 1 << 8
"""Outdated, and an earlier upgrade of it has to end first."""
IMMUTABLE: Final = 1 << 9
"""More than images differs: only a new pod gets that."""
UNSELECTED: Final = 1 << 10
"""Outdated, and ``updateStrategy.selector`` leaves it out."""
FLIP: Final = 1 << 11
REPAIR: Final = 1 << 12
MARK_NO: Final = 1 << 13
"""Its condition has to become False for this set."""
MARK_YES: Final = 1 << 14
"""Its condition is False for this set, and that is over; or it was upgraded, and the condition has yet to say so."""

# Pods that the set selects and that do not have it.
MISSED: Final = 1 << 15
"""It was created without the sidecars although it should have got them."""
OLDER: Final = 1 << 16
"""It is older than the set."""
HELD: Final = 1 << 17
"""Injection is paused."""
EXEMPT: Final = 1 << 18
"""Nothing may be injected there (C3)."""
CANARY: Final = 1 << 19
"""A canary of this set was injected instead."""
LACKING: Final = 1 << 20
"""Injected, and without one of the containers that the set has now."""

BITS: Final = 21
NO_RANK: Final[Rank] = ()


@dataclass(slots=True)
class Slot:
    """A pod that the selectors of the set select."""

    key: Key
    pod: Pod | Unreadable
    marks: int = 0
    rank: Rank = NO_RANK
    """Where it comes among the waiting ones."""
    revision: str = ""
    """The ControllerRevision that its sidecars are of."""

    def has(self, mark: int) -> bool:
        """Tell whether *mark* is one of its marks."""
        return bool(self.marks & mark)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a judgement rests on besides set and pod."""

    own_namespace: str = ""
    canaries: Collection[str] = frozenset()
    """The names of the canaries of this set."""


def selected(frame: Frame, pod: Pod | Unreadable, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    """Tell whether the set selects the pod where it is."""
    meta = pod.metadata
    return frame.matcher.matches(meta.labels, namespaces.get(meta.namespace))


def judge(frame: Frame, pod: Pod | Unreadable, around: Surroundings) -> tuple[int, str]:
    """Return the marks of a selected pod and the revision of its sidecars."""
    names = injected_names(pod.metadata.annotations.get(INJECTED_LIST_ANNOTATION, ""))
    if isinstance(pod, Unreadable):
        if pod.terminating or frame.name not in names:
            return 0, ""
        entry = entry_of(frame.name, pod)
        updated = entry.hash == frame.set.hash
        return MATCHED | UNREADABLE | (UPDATED | BUSY if updated else 0), entry.revision
    if not is_active(pod.status.phase, pod.metadata.deletion_timestamp):
        return 0, ""
    if frame.name not in names:
        return _without(frame, pod, names, around), ""
    if not complete(frame, pod):
        return LACKING, ""
    return _matched(frame, pod)


def _without(frame: Frame, pod: Pod, names: Collection[str], around: Surroundings) -> int:
    meta = pod.metadata
    if exempt(meta.namespace, meta.labels, meta.annotations, around.own_namespace):
        return EXEMPT
    if any(name in around.canaries for name in names):
        return CANARY
    if frame.set.spec.injection_strategy.paused:
        return HELD
    born, since = parse_time(meta.creation_timestamp), parse_time(frame.set.metadata.creation_timestamp)
    return OLDER if born is not None and since is not None and born < since else MISSED


def _matched(frame: Frame, pod: Pod) -> tuple[int, str]:
    state = state_of_pod(frame, pod)
    marks = MATCHED
    good = state.consistent and state.ready
    if state.ready:
        marks |= UP
    if good:
        marks |= READY
    if state.flip:
        marks |= FLIP
    if state.repair:
        marks |= REPAIR
    if state.updated:
        marks |= UPDATED | (UPDATED_READY if good else BUSY)
        if lacks_upgradable(frame.name, pod):
            marks |= MARK_YES
    elif not frame.chosen.matches(pod.metadata.labels):
        marks |= UNSELECTED
    elif not state.upgradable:
        marks |= IMMUTABLE
        if condition_write(frame.name, pod, 0.0, upgradable=False) is not None:
            marks |= MARK_NO
    else:
        marks |= STARTED if state.in_progress else WAITING
    return marks, state.entry.revision
