"""The scale phases: pods that are missing, that failed, and that are too many (spec/advanced-statefulset 5).

Purpose: :func:`replicas` fills the range, :func:`condemned` takes down what is outside of it.

Guarantees:

* S3: OrderedReady does one thing at a time, the lowest ordinal first while it grows and the highest first while it
  shrinks; nothing is created above a pod that is not available.
* In Parallel mode one ordinal stops no other (X5): one whose claim is being deleted waits alone.
* ``scaleStrategy.maxUnavailable``: what is missing, on its way out or not available spends it, in the order of the
  ordinals. A failed pod is deleted before it spends (section 16, row 6).
* S5b, X41: no pod is created while a claim of it is being deleted, or belongs to a pod that is gone. Claims are created
  with their final owners, before their pod (X42).
* A pod that a preDelete hook let go is deleted, whatever waits around it (row 7).

What this does not do: updates; see ``update``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from kruise.apis.core import Claim
from kruise.apis.ordinals import pod_name
from kruise.controllers.common.inplace.flow import Outcome
from kruise.controllers.common.lifecycle import State, state_of
from kruise.controllers.common.revisions import Revision
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import Chain, CreateClaim, CreatePod, PatchClaim, Step, Why
from kruise.controllers.statefulset.claims import build_claim, claim_name, retention_patch, stale_for_pod
from kruise.controllers.statefulset.draft import Draft, Trouble
from kruise.controllers.statefulset.order import new_pod_is_current
from kruise.controllers.statefulset.pods import build_pod
from kruise.controllers.statefulset.view import View

__all__ = [
    "CREATES_AT_ONCE",
    "claim_obstacle",
    "condemned",
    "first_obstacle",
    "replicas",
    "revision_for",
    "spent_before",
]

CREATES_AT_ONCE: Final = 1000
"""How many creations one plan holds at most: a refused template must not cost a plan of ten thousand each time."""


def first_obstacle(view: View) -> int | None:
    """Return the lowest ordinal of the range that is missing, finished, on its way out or not available."""
    sets = (view.missing, *(view.ordinals(mark) for mark in (m.FINISHED, m.GOING, m.UNAVAILABLE)))
    return min((s.first for s in sets if s.first is not None), default=None)


def spent_before(view: View, ordinal: int) -> int:
    """Return how much of the throttle is spent below *ordinal*, in the order of spec 5.1."""
    marks = (m.FINISHED, m.GOING, m.UNAVAILABLE)
    return view.missing.below(ordinal) + sum(view.ordinals(mark).below(ordinal) for mark in marks)


def replicas(draft: Draft) -> bool:
    """Fill the range; tell whether the phases that follow may run."""
    view, frame = draft.view, draft.frame
    if frame.problem:
        draft.errors.append(frame.problem)
    if frame.ordered:
        obstacle = first_obstacle(view)
        if obstacle is None:
            return True
        _one(draft, obstacle)
        return False
    limit: int | None = None
    if frame.throttle is not None:
        if frame.throttle.error:
            draft.errors.append(f"spec.scaleStrategy.maxUnavailable: {frame.throttle.error}")
            return True
        limit = frame.throttle.value
    for ordinal in view.ordinals(m.FINISHED):
        if limit is not None and spent_before(view, ordinal) >= limit:
            break
        _replace_finished(draft, ordinal)
    for ordinal in _to_create(draft, limit):
        if len(draft.creates) >= CREATES_AT_ONCE:
            draft.more = True
            break
        _create(draft, ordinal)
    return True


def _one(draft: Draft, ordinal: int) -> None:
    """Do what the one ordinal needs that all higher ones wait for."""
    slot = draft.view.get(ordinal)
    if slot is None:
        if not draft.waits(pod_name(draft.frame.sts.metadata.name, ordinal)):
            _create(draft, ordinal)
    elif slot.has(m.FINISHED):
        _replace_finished(draft, ordinal)


def _replace_finished(draft: Draft, ordinal: int) -> None:
    slot = draft.view.slot(ordinal)
    if not slot.pod.terminating:
        draft.delete(slot, Why.FAILED)


def _to_create(draft: Draft, limit: int | None) -> Iterator[int]:
    """Yield the ordinals to create in Parallel mode: those that failed before come after all others (rule 30)."""
    view, name = draft.view, draft.frame.sts.metadata.name
    again: list[int] = []
    for ordinal in view.missing:
        if limit is not None and spent_before(view, ordinal) >= limit:
            break
        held = draft.holds.get(pod_name(name, ordinal)) if draft.holds else None
        if held is None:
            yield ordinal
        elif not held:
            again.append(ordinal)
    yield from again


def claim_obstacle(view: View, ordinal: int) -> str:
    """Return why the claims of a missing *ordinal* keep its pod from being created, ``""`` when they do not."""
    frame, claims = view.frame, view.claims_of(ordinal)
    gone = claims.terminating
    if gone:
        return f"claim {gone[0].metadata.name} is being deleted"
    if frame.settings.auto_delete_claims:
        name = pod_name(frame.sts.metadata.name, ordinal)
        for claim in claims.claims:
            if claim is not None and stale_for_pod(frame.sts, claim, name):
                return f"claim {claim.metadata.name} belongs to an earlier pod {name} and waits to be collected with it"
    return ""


def revision_for(view: View, ordinal: int) -> Revision:
    """Return the revision of which the missing *ordinal* is made (spec 6.2)."""
    frame = view.frame
    if not frame.rolls:
        return frame.chosen.update
    rolling = frame.sts.spec.update_strategy.rolling_update
    # The missing ones below this one come first, and count as soon as they are given the current revision.
    stale = view.count(m.STALE)
    others = stale + min(view.missing.below(ordinal), max(0, frame.rolling.partition - stale))
    current = new_pod_is_current(
        rolling,
        frame.ordinals,
        ordinal,
        not_updated=others,
        current_replicas=frame.sts.status.current_replicas,
    )
    return frame.chosen.current if current else frame.chosen.update


def _create(draft: Draft, ordinal: int) -> None:
    """Add the chain that creates the claims and the pod of *ordinal*, unless its claims keep it from being created."""
    view, frame, now = draft.view, draft.frame, draft.now
    if frame.problem:
        return
    name = pod_name(frame.sts.metadata.name, ordinal)
    if claim_obstacle(view, ordinal):
        gone = view.claims_of(ordinal).terminating
        if gone:
            text = f"pvc {gone[0].metadata.name} is to be deleted"
            draft.obstacles.append(Trouble(ordinal, name, text, "FailedCreate"))
        return
    sts, settings = frame.sts, frame.settings
    revision = revision_for(view, ordinal)
    if revision.problem:
        text = f"spec.template: {revision.problem}"
        if text not in draft.errors:
            draft.errors.append(text)
        return
    steps: list[Step] = []
    for template, claim in zip(frame.templates, view.claims_of(ordinal).claims, strict=True):
        if claim is None:
            build = partial(build_claim, sts, template, ordinal, auto_delete=settings.auto_delete_claims)
            steps.append(CreateClaim(claim_name(template, sts.metadata.name, ordinal), build))
        elif settings.auto_delete_claims and isinstance(claim, Claim):
            patch = retention_patch(sts, None, claim, False, pod_name=name)
            if patch:
                steps.append(PatchClaim(claim, patch, Why.RETENTION))
    make = partial(build_pod, sts, revision, ordinal, claims=frame.templates, now=now, gates=settings.pods)
    steps.append(CreatePod(name, revision.name, make))
    draft.creates.append(Chain(ordinal, name, tuple(steps)))


def condemned(draft: Draft) -> bool:
    """Take down what is outside of the range; tell whether the update phase may run (spec 5.4)."""
    view = draft.view
    if not draft.frame.ordered:
        for ordinal in reversed(view.ordinals(m.DOOMED)):
            draft.delete(view.slot(ordinal), Why.SCALE_DOWN)
        return True
    # Every pod of the range is available here, so the first unhealthy one is among the condemned.
    first_unhealthy = view.ordinals(m.SICK).first
    for ordinal in reversed(view.ordinals(m.CONDEMNED)):
        slot = view.slot(ordinal)
        if slot.pod.terminating or slot.has(m.UNREADABLE):
            return False
        preparing = state_of(slot.pod.metadata) is State.PREPARING_DELETE
        if not preparing and not slot.has(m.AVAILABLE) and ordinal != first_unhealthy:
            return False
        outcome = draft.delete(slot, Why.SCALE_DOWN)
        if outcome is not Outcome.HELD or ordinal != first_unhealthy:
            return False
    return True
