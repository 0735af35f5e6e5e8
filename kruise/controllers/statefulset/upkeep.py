"""What goes on by itself: updates that run, gates of new pods, and whatever of pods and claims is not as it must be.

Purpose: the refresh of spec/advanced-statefulset 7.7 and 8.2, and the repairs of 2.6 and 9.1, in every mode and for
every pod, once in a pass (section 16, row 16).

Guarantees: a pod for which an earlier phase decided something is left alone in this pass. What has nothing to write is
not looked at again before the pod, the set, or the time that it named has changed, so an event costs the same in a set
of any size.

What this does not do: it takes nothing down that works; and volumes of a living pod cannot be changed, so a pod whose
claims are not those of the templates is only reported.
"""

from __future__ import annotations

from functools import partial

from kruise.controllers.common.inplace.flow import refresh
from kruise.controllers.common.inplace.spec import UpdateSpec
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import CreateClaim, PatchPod, Step, Why
from kruise.controllers.statefulset.claims import build_claim, claim_name
from kruise.controllers.statefulset.draft import Draft
from kruise.controllers.statefulset.pods import repair_patch
from kruise.controllers.statefulset.slots import Slot
from kruise.controllers.statefulset.update import in_place, in_window, spec_for
from kruise.controllers.statefulset.view import View
from kruise.runtime.objects import Unreadable

__all__ = ["deletion_wanted", "upkeep"]


def upkeep(draft: Draft) -> None:
    """Add the chains of refreshes and repairs."""
    view = draft.view
    for ordinal in list(view.ordinals(m.REFRESH)):
        slot = view.slot(ordinal)
        if draft.free(slot):
            _refresh(draft, slot)
    for mark in (m.CLAIMLESS, m.MISOWNED, m.MISNAMED):
        for ordinal in view.ordinals(mark):
            slot = view.slot(ordinal)
            if draft.free(slot):
                _repair(draft, slot)


def deletion_wanted(view: View, slot: Slot) -> bool:
    """Tell whether there is a cause to delete *slot*: without one a pod comes back from PreparingDelete (row 8)."""
    frame = view.frame
    if not slot.has(m.VALID) or slot.has(m.FINISHED):
        return True
    if not frame.rolls:
        return False
    if slot.specified:
        return True
    if not slot.has(m.OUTDATED) or not in_window(view, slot):
        return False
    return not (in_place(frame) and isinstance(spec_for(frame, slot), UpdateSpec))


def _refresh(draft: Draft, slot: Slot) -> None:
    view, frame, pod = draft.view, draft.frame, slot.pod
    assert not isinstance(pod, Unreadable), "nobody refreshes what nobody can read"
    flow = refresh(
        pod,
        lifecycle=frame.lifecycle,
        update_revision=frame.update_name,
        now=draft.now,
        gates=frame.settings.inplace,
        update_wanted=in_window(view, slot),
        deletion_wanted=deletion_wanted(view, slot),
    )
    if flow.writes:
        draft.delays += [] if flow.delay is None else [flow.delay]
        draft.add(draft.continuations, slot, PatchPod(pod, flow.writes, Why.REFRESH, flow.disrupts))
    elif flow.error:
        draft.trouble(slot, flow.error)
    else:
        view.looked(slot, None if flow.delay is None else draft.now + flow.delay)


def _repair(draft: Draft, slot: Slot) -> None:
    frame = draft.frame
    steps: list[Step] = []
    if slot.has(m.CLAIMLESS) and not frame.problem:
        for template, claim in zip(frame.templates, slot.claims.claims, strict=True):
            if claim is None:
                build = partial(
                    build_claim, frame.sts, template, slot.ordinal, auto_delete=frame.settings.auto_delete_claims
                )
                steps.append(CreateClaim(claim_name(template, frame.sts.metadata.name, slot.ordinal), build))
    steps += draft.retention(slot)
    if slot.has(m.MISNAMED):
        write = repair_patch(frame.sts, slot.pod, gates=frame.settings.pods)
        if write is not None and not isinstance(slot.pod, Unreadable):
            steps.append(PatchPod(slot.pod, (write,), Why.REPAIR))
    if steps:
        draft.add(draft.continuations, slot, *steps)
