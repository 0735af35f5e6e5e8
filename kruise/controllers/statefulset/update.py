"""The update phase: which pods are taken down, in place or not, and how many at once (spec/advanced-statefulset 6.4).

Purpose: one walk over the pods that are to be updated, in their order, as far as the budget reaches.

Guarantees:

* S2, X1: every ordinal of the range counts against ``maxUnavailable``, whoever took it down, missing ones too. A pod is
  taken for free only if it is not up in the very version that the write names (X3, X16); one that is up, and counted as
  down because something is under way at it, is taken only while no more than the budget is down. One that a write may
  yet take down of which nobody knows what came is down (rule 5).
* S3: the documented order. The walk ends at the first pod for which there is no room.
* S4: ``InPlaceOnly`` never deletes for an update.
* S7: a pod at the update revision is touched only by the user's word, or to let its claims grow.
* L4, section 16 row 7: a pod that was prepared, and that its hook let go, is gone on with even where OrderedReady would
  wait for a pod; nobody else could free it.

What this does not do: it waits for nothing; what is to be waited for is an event, or a time of the view.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import Final

from kruise.apis.core import Claim
from kruise.apis.statefulset import IN_PLACE_IF_POSSIBLE, IN_PLACE_ONLY
from kruise.controllers.common.inplace.flow import Outcome, start
from kruise.controllers.common.inplace.spec import NotPossible, UpdateSpec, update_spec
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import PatchClaim, PatchPod, Step, Why
from kruise.controllers.statefulset.claims import expansion_problem, resize_patch
from kruise.controllers.statefulset.draft import Draft
from kruise.controllers.statefulset.frame import Frame
from kruise.controllers.statefulset.predicates import revision_of
from kruise.controllers.statefulset.slots import Slot
from kruise.controllers.statefulset.view import View
from kruise.runtime.objects import Unreadable

__all__ = ["UPDATES_AT_ONCE", "candidates", "has_room", "in_window", "spec_for", "update", "window"]

UPDATES_AT_ONCE: Final = 128
"""How many pods one plan takes down at most, twice what the write window holds: a pass ends with its last write, and
what the first pods need next waits for it."""


def update(draft: Draft, *, prepared_only: bool) -> None:
    """Decide the update phase. *prepared_only*: a scale phase has to go first, so only what was begun goes on."""
    frame = draft.frame
    if not frame.rolls or frame.rolling.paused or frame.problem:
        return
    if frame.budget.error:
        draft.errors.append(f"spec.updateStrategy.rollingUpdate.maxUnavailable: {frame.budget.error}")
        return
    _specified(draft, prepared_only)
    for ordinal in _prepared(draft) if prepared_only else candidates(draft.view):
        slot = draft.view.slot(ordinal)
        if ordinal in draft.touched:
            continue
        if len(draft.disruptions) >= UPDATES_AT_ONCE:
            draft.more = True
            return
        if not has_room(draft, slot):
            if draft.counts(slot):
                continue
            return
        if not _update_one(draft, slot):
            return
        if not draft.counts(slot):
            draft.down += 1


def has_room(draft: Draft, slot: Slot) -> bool:
    """Tell whether *slot* may be taken down now."""
    limit = draft.frame.budget.value
    if not draft.counts(slot):
        return draft.down < limit
    return not slot.has(m.UP) or draft.down <= limit


# ---- who comes next --------------------------------------------------------------------------------------------------


def _specified(draft: Draft, prepared_only: bool) -> None:
    """Replace the pods that the user named, highest first, as far as the budget reaches."""
    view = draft.view
    room = max(0, draft.frame.budget.value - draft.down)
    serving = (o for o in reversed(view.ordinals(m.SPECIFIED_SERVING)) if draft.free(view.slot(o)))
    at_risk = {slot.ordinal for slot in map(view.named, draft.unsure) if slot is not None}
    takes = sorted({*islice(serving, room), *(o for o in at_risk if o in view.ordinals(m.SPECIFIED_SERVING))})
    for ordinal in merge(reversed(view.ordinals(m.SPECIFIED_DOWN)), reversed(takes), reverse=True):
        slot = view.slot(ordinal)
        if (prepared_only and not slot.has(m.RELEASED)) or not has_room(draft, slot):
            continue
        outcome = draft.delete(slot, Why.SPECIFIED)
        if outcome in (Outcome.DELETE, Outcome.PREPARED) and not draft.counts(slot):
            draft.down += 1


def candidates(view: View) -> Iterator[int]:
    """Yield what is to be updated and can be, in the order of spec 6.3."""
    frame = view.frame
    if not frame.unordered:
        yield from _falling(view, m.OUTDATED_DOWN, m.OUTDATED_SERVING, frame.floor)
        return
    ahead = view.ordinals(m.AHEAD)
    beyond = len(ahead) - max(0, frame.sts.spec.replicas - frame.rolling.partition)
    for ordinal in reversed(view.ordinals(m.AHEAD_DUE)):
        if ahead.below(ordinal) >= beyond:
            yield ordinal
    for _, ordinal in view.by_rank()[: window(view)]:
        if view.slot(ordinal).has(m.OUTDATED_DOWN | m.OUTDATED_SERVING):
            yield ordinal


def window(view: View) -> int:
    """Return how many of the pods in the order of priorities may be updated: all but *partition*."""
    return max(0, len(view.by_rank()) - view.frame.rolling.partition)


def in_window(view: View, slot: Slot) -> bool:
    """Tell whether the update means *slot*: it is not held back by the partition."""
    if not view.frame.rolls or not slot.has(m.VALID):
        return False
    if not view.frame.unordered:
        return slot.ordinal >= view.frame.floor
    if slot.rank is None:
        return True
    size = window(view)
    return size > 0 and (slot.rank, slot.ordinal) <= view.by_rank()[size - 1]


def _falling(view: View, one: int, other: int, low: int) -> Iterator[int]:
    """Yield the ordinals from *low* on that bear one of two marks, highest first."""
    sets = view.ordinals(one), view.ordinals(other)
    return merge(*(s.down_from_top(low) for s in sets), reverse=True)


def _prepared(draft: Draft) -> list[int]:
    """Return the candidates that wait in a state of preparation, and that nobody holds."""
    view = draft.view
    ready = m.OUTDATED_DOWN | m.OUTDATED_SERVING
    found = [o for o in reversed(view.ordinals(m.RELEASED)) if view.slot(o).has(ready)]
    return [o for o in found if in_window(view, view.slot(o))]


# ---- one pod ---------------------------------------------------------------------------------------------------------


def spec_for(frame: Frame, slot: Slot) -> UpdateSpec | NotPossible:
    """Return how *slot* gets to the update revision in place, or why it cannot."""
    old, new = frame.chosen.named(revision_of(slot.pod)), frame.chosen.update
    strategy = frame.rolling.in_place_update_strategy
    return update_spec(
        old.data if old is not None else None,
        new.data,
        revision=new.name,
        gates=frame.settings.inplace,
        grace_seconds=strategy.grace_period_seconds if strategy is not None else 0,
    )


def in_place(frame: Frame) -> bool:
    """Tell whether the policy asks for updates in place."""
    return frame.rolling.pod_update_policy in (IN_PLACE_IF_POSSIBLE, IN_PLACE_ONLY)


def _update_one(draft: Draft, slot: Slot) -> bool:
    """Decide the next step of one candidate; tell whether the walk goes on."""
    if draft.waits(slot.name):
        return False
    if draft.frame.resizes and not slot.claims.matched:
        return _grow_claims(draft, slot)
    if in_place(draft.frame):
        outcome = _start(draft, slot)
        if outcome is not Outcome.RECREATE:
            return outcome is not Outcome.REFUSED
    draft.delete(slot, Why.UPDATE)
    return True


def _start(draft: Draft, slot: Slot) -> Outcome:
    frame, pod = draft.frame, slot.pod
    assert not isinstance(pod, Unreadable), "nobody updates what nobody can read"
    flow = start(
        pod,
        spec_for(frame, slot),
        lifecycle=frame.lifecycle,
        now=draft.now,
        gates=frame.settings.inplace,
        policy=frame.rolling.pod_update_policy,
    )
    if flow.delay is not None:
        draft.delays.append(flow.delay)
    if flow.outcome is Outcome.REFUSED:
        note = f"failed to update pod {slot.name} in-place(revision {frame.update_name}): {flow.error}"
        draft.trouble(slot, flow.error, "FailedUpdatePodInPlace", note)
    elif flow.writes:
        begun = slot.has(m.RELEASED) or flow.outcome is Outcome.REFRESHED
        why = {Outcome.STARTED: Why.UPDATE, Outcome.PREPARED: Why.PREPARE}.get(flow.outcome, Why.REFRESH)
        step = PatchPod(pod, flow.writes, why, flow.disrupts, frame.update_name)
        draft.add(draft.continuations if begun else draft.disruptions, slot, step)
    return flow.outcome


def _grow_claims(draft: Draft, slot: Slot) -> bool:
    """Ask for larger claims (spec 9.3); False ends the walk: a claim cannot grow, and the order waits for it."""
    frame, steps = draft.frame, list[Step]()
    for template, claim in zip(frame.templates, slot.claims.claims, strict=True):
        if not isinstance(claim, Claim) or claim.terminating:
            continue
        problem = expansion_problem(template, claim, draft.view.classes, slot.name)
        if problem:
            note = f"failed to update pvc {claim.metadata.name}: {problem}"
            draft.trouble(slot, problem, "FailedUpdatePVC", note)
            return False
        patch = resize_patch(frame.sts, template, claim)
        if patch is not None:
            steps.append(PatchClaim(claim, patch, Why.RESIZE))
    if steps:
        draft.add(draft.continuations if slot.has(m.DOWN) else draft.disruptions, slot, *steps)
    return True
