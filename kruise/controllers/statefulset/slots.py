"""One ordinal that has a pod: what is known of it, and in which sets of the view it stands.

Purpose: :func:`judge` reads pod and claims once, when one of them changed; all that a plan asks afterwards are sets.

Guarantees: marks are a function of the frame, the pod, its claims, and of whether the pod has been ready for long
enough; they know neither other pods nor the clock. An ``UP`` pod is one that a user would call available, whatever
label it carries (S2): taking one down costs budget, always.

What this does not do: it keeps nothing in order; ``view`` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kruise.apis.core import Claim, Pod
from kruise.apis.statefulset import LABEL_SPECIFIED_DELETE, Lifecycle
from kruise.controllers.common.inplace.complete import completion
from kruise.controllers.common.lifecycle import State, holding_hook, hooked, released, state_of
from kruise.controllers.common.readiness import FALSE, IN_PLACE_GATE, STARTED, condition_of
from kruise.controllers.statefulset.claims import NO_CLAIMS, PodClaims, retention_patch
from kruise.controllers.statefulset.frame import Frame
from kruise.controllers.statefulset.order import Rank, counts_as_updated
from kruise.controllers.statefulset.pods import identity_matches
from kruise.controllers.statefulset.predicates import (
    is_created,
    is_finished,
    is_healthy,
    is_normal,
    is_ready,
    ready_since,
    revision_of,
    stuck_reason,
)
from kruise.runtime.objects import Key, Unreadable

__all__ = ["Slot", "judge", "names"]

# What the status counts, over every pod of the set.
CREATED: Final = 1 << 0
READY: Final = 1 << 1
AVAILABLE: Final = 1 << 2
CURRENT: Final = 1 << 3
UPDATED: Final = 1 << 4
UPDATED_READY: Final = 1 << 5
UPDATED_AVAILABLE: Final = 1 << 6

# Pods whose ordinal is in the range.
VALID: Final = 1 << 7
FINISHED: Final = 1 << 8
"""Failed or succeeded."""
GOING: Final = 1 << 9
"""On their way out, and not finished."""
UNAVAILABLE: Final = 1 << 10
"""Not available, and not finished: what the scale phase waits for (spec 5.1)."""
DOWN: Final = 1 << 11
"""Part of the unavailable set of the update phase (spec 6.4.4)."""
OUTDATED: Final = 1 << 12
"""Not as the update wants it, whoever has to act."""
OUTDATED_DOWN: Final = 1 << 13
"""To be updated now, and down already."""
OUTDATED_SERVING: Final = 1 << 14
"""To be updated, when the budget has room."""
SPECIFIED_DOWN: Final = 1 << 15
"""To be replaced by the user's word, and down already."""
SPECIFIED_SERVING: Final = 1 << 16
RELEASED: Final = 1 << 17
"""Prepared for an update or a deletion, and held by nobody any more; or out of service for an update that was begun."""
AHEAD: Final = 1 << 18
"""Updated or on its way out: it uses up the window of an unordered update."""
CLAIMLESS: Final = 1 << 19
"""Pending, and without one of its claims."""
AVAILABLE_VALID: Final = 1 << 20
UP: Final = 1 << 21
"""Available in the eyes of a user: ready for long enough and not on its way out."""

# Pods of every ordinal.
CONDEMNED: Final = 1 << 22
SICK: Final = 1 << 23
"""Condemned and not healthy."""
REFRESH: Final = 1 << 24
"""Something may have to be written to it, or it waits for a time; to be looked at once."""
MISNAMED: Final = 1 << 25
"""Its identity is not as it must be."""
MISOWNED: Final = 1 << 26
"""A claim of it has not the owners that the retention policy wants."""
UNREADABLE: Final = 1 << 27
STALE: Final = 1 << 28
"""Of the range, and not updated: what the partition of an unordered update counts."""
DOOMED: Final = 1 << 29
"""Condemned, and to be deleted: it can be read, is not on its way out, and no hook holds it."""
STUCK: Final = 1 << 30
"""It does not get on by itself: its image, its program, or no node for it. Only its number is kept."""
HELD: Final = 1 << 31
"""A lifecycle hook holds it in its state. Only the number is kept."""
AHEAD_DUE: Final = 1 << 32
"""Ahead of an unordered update, and yet to be updated: its revision has another name, or its claims must grow."""
UNDATED: Final = 1 << 33
"""Ready, nobody says since when, and it would have to be for some time. Only the number is kept."""

ORDERED_MARKS: Final = (
    FINISHED, GOING, UNAVAILABLE, DOWN, OUTDATED, OUTDATED_DOWN, OUTDATED_SERVING, SPECIFIED_DOWN, SPECIFIED_SERVING,
    RELEASED, AHEAD, CLAIMLESS, CONDEMNED, SICK, REFRESH, MISNAMED, MISOWNED, UNREADABLE, DOOMED, AHEAD_DUE,
)  # fmt: skip
"""The marks whose ordinals are kept in order; of the others only the number is kept."""
MARKS: Final = tuple(1 << n for n in range(34))


@dataclass(slots=True, eq=False)
class Slot:
    """One ordinal with its pod."""

    ordinal: int
    pod: Pod | Unreadable
    claims: PodClaims = NO_CLAIMS
    marks: int = 0
    ripe: bool = True
    """Whether the pod was ready for ``minReadySeconds`` when the view was last told the time."""
    ripe_at: float | None = None
    """When it will be, in wall seconds."""
    look: bool = True
    """Whether its refresh has yet to be looked at, since pod, set or time changed."""
    look_at: float | None = None
    """When time alone makes it worth another look."""
    rank: Rank | None = None
    """Where an unordered update has it."""
    label: str = ""
    """The revision that it was counted for."""
    adds: tuple[tuple[int, int], ...] = field(default=())
    """What it adds to the status of each claim template."""

    @property
    def key(self) -> Key:
        """The key of the pod."""
        return self.pod.key

    @property
    def name(self) -> str:
        """The name of the pod."""
        return self.pod.metadata.name

    @property
    def specified(self) -> bool:
        """Whether the user asks for the pod's replacement."""
        return LABEL_SPECIFIED_DELETE in self.pod.metadata.labels

    def has(self, mark: int) -> bool:
        """Tell whether the slot bears *mark*."""
        return bool(self.marks & mark)


def names(marks: int) -> str:
    """Return the names of *marks*, for a self-check that found a difference."""
    known = {value: name for name, value in globals().items() if name.isupper() and isinstance(value, int)}
    return "|".join(known[mark] for mark in MARKS if marks & mark)


def ripens(frame: Frame, pod: Pod | Unreadable) -> tuple[bool, float | None]:
    """Return whether *pod* must first be ready for some time, and when that will be; ``None``: nobody can say."""
    if frame.min_ready <= 0 or not isinstance(pod, Pod) or not is_ready(pod):
        return False, None
    since = ready_since(pod)
    return True, None if since is None else since + frame.min_ready


def judge(frame: Frame, slot: Slot) -> int:
    """Return the marks of *slot* as it is now."""
    pod = slot.pod
    update = frame.update_name
    label = revision_of(pod)
    terminating, finished = pod.terminating, is_finished(pod)
    ready = is_ready(pod)
    available = ready and slot.ripe and is_normal(pod)
    marks = 0
    if is_created(pod):
        marks |= CREATED
        if not terminating:
            marks |= (CURRENT if label == frame.current_name else 0) | (UPDATED if label == update else 0)
    if ready:
        marks |= READY | (UPDATED_READY if label == update else 0)
        marks |= UNDATED if not slot.ripe and slot.ripe_at is None else 0
    if available:
        marks |= AVAILABLE | (UPDATED_AVAILABLE if label == update else 0)
    if isinstance(pod, Unreadable):
        marks |= UNREADABLE
    elif not terminating:
        marks |= STUCK if stuck_reason(pod) is not None else 0
        marks |= HELD if holding_hook(frame.lifecycle, pod.metadata) else 0
        marks |= REFRESH if slot.look and not finished else 0
        marks |= 0 if identity_matches(frame.sts, pod) else MISNAMED
    valid = slot.ordinal in frame.ordinals
    if frame.settings.auto_delete_claims and any(
        isinstance(claim, Claim) and not claim.terminating and retention_patch(frame.sts, pod, claim, not valid)
        for claim in slot.claims.claims
    ):
        marks |= MISOWNED
    if not valid:
        held = isinstance(pod, Pod) and _held(frame.lifecycle, pod, State.PREPARING_DELETE)
        doomed = isinstance(pod, Pod) and not terminating and not held
        return marks | CONDEMNED | (DOOMED if doomed else 0) | (0 if is_healthy(pod) else SICK)
    marks |= VALID
    marks |= AVAILABLE_VALID if available and not terminating else 0
    marks |= UP if ready and slot.ripe and not terminating else 0
    if finished:
        marks |= FINISHED
    else:
        marks |= (GOING if terminating else 0) | (0 if available else UNAVAILABLE)
    updated = counts_as_updated(pod, update, preparing=frame.settings.preparing_as_updated)
    marks |= (AHEAD if terminating or updated else 0) | (0 if updated else STALE)
    matched = slot.claims.matched if frame.resizes else True
    if label != update or not matched:
        marks |= OUTDATED
    if isinstance(pod, Unreadable) or not _serves(frame, slot, pod, available):
        marks |= DOWN
    if isinstance(pod, Unreadable) or terminating:
        return marks
    return marks | _wishes(frame, slot, pod, marks, matched)


def _serves(frame: Frame, slot: Slot, pod: Pod, available: bool) -> bool:
    """Tell whether nothing is under way at the pod, so that another may be taken down (spec 6.4.4)."""
    if not available or pod.terminating:
        return False
    if frame.resizes and not slot.claims.ready:
        return False
    return completion(pod, frame.settings.inplace).done


def _wishes(frame: Frame, slot: Slot, pod: Pod, marks: int, matched: bool) -> int:
    """Return the marks of what is to be done to a pod of the range that can be read and stays for now."""
    lifecycle, down = frame.lifecycle, bool(marks & DOWN)
    found = 0
    if pod.status.phase == "Pending" and any(claim is None for claim in slot.claims.claims):
        found |= CLAIMLESS
    if released(lifecycle, pod.metadata) or (marks & OUTDATED and _stands_closed(frame, pod)):
        found |= RELEASED
    if _held(lifecycle, pod, State.PREPARING_DELETE) or marks & FINISHED:
        return found
    if slot.specified:
        found |= SPECIFIED_DOWN if down else SPECIFIED_SERVING
    # A claim that grows keeps its pod waiting, and counts as down meanwhile; its event brings the slot back.
    waits_for_claim = frame.resizes and matched and not slot.claims.completed
    if marks & OUTDATED and not waits_for_claim and not _held(lifecycle, pod, State.PREPARING_UPDATE):
        found |= (OUTDATED_DOWN if down else OUTDATED_SERVING) | (AHEAD_DUE if marks & AHEAD else 0)
    return found


def _stands_closed(frame: Frame, pod: Pod) -> bool:
    """Tell whether the gate was closed for an update whose second write did not come through: it goes on from there.

    Where the order waits for this very pod, opening the gate instead would begin the same update again and again.
    """
    closed = condition_of(pod, IN_PLACE_GATE)
    begun = closed is not None and closed.status == FALSE and closed.reason == STARTED
    return begun and completion(pod, frame.settings.inplace).done


def _held(lifecycle: Lifecycle | None, pod: Pod, state: State) -> bool:
    """Tell whether a hook holds the pod in *state*."""
    if lifecycle is None or state_of(pod.metadata) is not state:
        return False
    hook = lifecycle.pre_delete if state is State.PREPARING_DELETE else lifecycle.in_place_update
    return hooked(hook, pod.metadata)
