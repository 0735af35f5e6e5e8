"""Why a pod is not yet as desired although nothing is done for it now: the answer of ``kruise status asts/NAME``.

Purpose: one reason for each such ordinal, out of the one vocabulary, with evidence that names pod and node, what would
change it, and when time alone may.

Guarantees: a reason is computed from the view on which the plan rests, when somebody asks; asking for one pod does not
walk the others. Equal states give equal texts.

What this does not do: nothing is stored, and nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from kruise.apis.core import Claim, Pod
from kruise.apis.ordinals import pod_name
from kruise.apis.statefulset import IN_PLACE_ONLY
from kruise.controllers.common.inplace.complete import Unfinished, completion
from kruise.controllers.common.inplace.spec import NotPossible
from kruise.controllers.common.lifecycle import holding_hook
from kruise.controllers.common.reasons import Decision, Reason, reason_of_refusal
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import Chain
from kruise.controllers.statefulset.draft import Trouble
from kruise.controllers.statefulset.pods import storage_matches
from kruise.controllers.statefulset.predicates import is_available, is_ready, revision_of, stuck_reason, waiting_text
from kruise.controllers.statefulset.scale import claim_obstacle, first_obstacle
from kruise.controllers.statefulset.slots import Slot
from kruise.controllers.statefulset.update import in_place, in_window, spec_for
from kruise.controllers.statefulset.view import View
from kruise.runtime.objects import Unreadable

__all__ = ["Facts", "explain", "explain_one", "users_of_budget"]

_EXAMPLES: Final = 3

_FIX: Final[Mapping[Reason, str]] = {
    Reason.POD_UNREADABLE: "repairing or deleting the pod",
    Reason.POD_TERMINATING: "the end of the pod's grace period",
    Reason.IMAGE_PULL_FAILED: "a correct image, or access to its registry",
    Reason.CRASH_LOOPING: "a program that does not exit with an error",
    Reason.POD_UNSCHEDULABLE: "room on a node; the scheduler's message says what is missing",
    Reason.READINESS_FAILING: "a readiness probe that passes",
    Reason.LIFECYCLE_HOOK_BLOCKED: "whoever holds the hook",
    Reason.IN_PLACE_GRACE_PERIOD: "the end of inPlaceUpdateStrategy.gracePeriodSeconds",
    Reason.WAITING_MIN_READY: "the end of rollingUpdate.minReadySeconds",
    Reason.VOLUME_CLAIM_PENDING: "a claim that is bound, or gone",
    Reason.VOLUME_RESIZING: "a volume of the size that the claim asks for",
    Reason.ON_DELETE: "deleting the pod, or the strategy RollingUpdate",
    Reason.PAUSED: "rollingUpdate.paused: false",
    Reason.PARTITION_HELD: "a lower rollingUpdate.partition",
    Reason.IN_PLACE_NOT_POSSIBLE: "podUpdatePolicy InPlaceIfPossible, or a template that differs in images only",
    Reason.MAX_UNAVAILABLE_REACHED: "pods that become available, or a higher maxUnavailable",
    Reason.WAITING_FOR_PREDECESSOR: "the pod that it waits for",
    Reason.INVALID_SPEC: "correcting the field",
    Reason.ADMISSION_DENIED: "a template that the policy allows, or another policy",
    Reason.QUOTA_EXCEEDED: "room in the ResourceQuota of the namespace",
    Reason.NAME_CONFLICT: "deleting the foreign object that has the pod's name",
    Reason.POD_PENDING: "the next pass of the manager, or the pod's node",
    Reason.UPDATING: "the pod's node",
}
"""What unblocks a reason."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a pass adds to the view."""

    acted: Mapping[int, Chain] = field(default_factory=dict)
    """The chains of the plan, by ordinal."""
    troubles: Mapping[int, Trouble] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    failures: Mapping[str, Exception] = field(default_factory=dict)
    """What the last attempts on pods ended in, by name, as far as they wait for the next."""
    more: bool = False
    """One plan could not hold all that may be done now."""


def explain(view: View, now: float, facts: Facts) -> Iterator[Decision]:
    """Yield the reason of every ordinal that is not as desired and not acted on, by ordinal."""
    ordinals = {slot.ordinal for slot in view.slots()} | set(view.missing)
    for ordinal in sorted(ordinals):
        if ordinal not in facts.acted:
            found = explain_one(view, ordinal, now, facts)
            if found is not None:
                yield found


def explain_one(view: View, ordinal: int, now: float, facts: Facts) -> Decision | None:
    """Return why *ordinal* is not as desired; ``None`` when it is."""
    slot = view.get(ordinal)
    name = pod_name(view.sts.metadata.name, ordinal)
    reason, text, since, check = (
        _missing(view, ordinal, name, facts) if slot is None else _present(view, slot, now, facts)
    )
    if reason is None:
        return None
    detail = {"pod": name}
    if slot is not None and isinstance(slot.pod, Pod) and slot.pod.spec.node_name:
        detail["node"] = slot.pod.spec.node_name
    return Decision(reason, f"pod {name}", text, since, _FIX.get(reason, ""), detail, check)


_Answer = tuple[Reason | None, str, str | None, float | None]


def _said(reason: Reason | None, text: str = "", since: str | None = None, check: float | None = None) -> _Answer:
    return reason, text, since, check


def _refused(name: str, facts: Facts) -> _Answer | None:
    error = facts.failures.get(name)
    if error is None:
        return None
    reason = reason_of_refusal(error)
    return _said(reason or Reason.POD_PENDING, f"the last attempt failed, and another follows: {error}")


def _missing(view: View, ordinal: int, name: str, facts: Facts) -> _Answer:
    frame = view.frame
    if facts.errors:
        return _said(Reason.INVALID_SPEC, facts.errors[0])
    obstacle = claim_obstacle(view, ordinal)
    first = first_obstacle(view) if frame.ordered else None
    if first is not None and first < ordinal:
        return _said(Reason.WAITING_FOR_PREDECESSOR, f"it is created when pod {_name(view, first)} is available")
    if obstacle:
        return _said(Reason.VOLUME_CLAIM_PENDING, obstacle)
    refused = _refused(name, facts)
    if refused is not None:
        return refused
    if frame.throttle is not None and ordinal not in facts.acted:
        text = f"scaleStrategy.maxUnavailable allows {frame.throttle.value}, used by {users_of_budget(view)}"
        return _said(Reason.MAX_UNAVAILABLE_REACHED, text)
    return _said(Reason.POD_PENDING, "the pod is not created yet")


def _present(view: View, slot: Slot, now: float, facts: Facts) -> _Answer:
    pod = slot.pod
    if isinstance(pod, Unreadable):
        return _said(Reason.POD_UNREADABLE, f"{pod.path}: {pod.problem}")
    if pod.terminating:
        return _said(Reason.POD_TERMINATING, "it is being deleted", pod.metadata.deletion_timestamp)
    hook = holding_hook(view.frame.lifecycle, pod.metadata)
    if hook:
        return _said(Reason.LIFECYCLE_HOOK_BLOCKED, _hook_text(view, pod, hook))
    trouble = facts.troubles.get(slot.ordinal)
    if trouble is not None:
        return _said(_trouble_reason(view, trouble), trouble.text)
    refused = _refused(slot.name, facts)
    if refused is not None:
        return refused
    if slot.has(m.CONDEMNED):
        return _condemned(view, slot)
    blocked = stuck_reason(pod)
    if blocked is not None:
        said = waiting_text(pod)
        if blocked is Reason.POD_UNSCHEDULABLE and "persistentvolumeclaim" in said.lower() and _unbound(slot):
            return _said(Reason.VOLUME_CLAIM_PENDING, f"{_claims_text(view, slot)}; the scheduler says: {said}")
        return _said(blocked, said)
    waits = _not_serving(view, slot, pod, now)
    if waits[0] is not None:
        return waits
    return _outdated(view, slot, facts) if slot.has(m.OUTDATED) else _said(None)


def _trouble_reason(view: View, trouble: Trouble) -> Reason:
    if trouble.reason == "FailedUpdatePVC":
        return Reason.VOLUME_RESIZING
    if trouble.reason == "FailedUpdatePodInPlace" and view.frame.rolling.pod_update_policy == IN_PLACE_ONLY:
        return Reason.IN_PLACE_NOT_POSSIBLE
    return Reason.POD_UNREADABLE  # an annotation of an update that nobody can read


def _hook_text(view: View, pod: Pod, hook: str) -> str:
    lifecycle = view.frame.lifecycle
    assert lifecycle is not None
    found = {"preDelete": lifecycle.pre_delete, "inPlaceUpdate": lifecycle.in_place_update}.get(
        hook, lifecycle.pre_normal
    )
    handlers = () if found is None else (*found.finalizers_handler, *found.labels_handler)
    present = [one for one in handlers if one in pod.metadata.finalizers or one in pod.metadata.labels]
    awaited = [one for one in handlers if one not in present]
    if hook == "preNormal" or (hook == "inPlaceUpdate" and not present):
        return f"hook {hook} waits for {', '.join(awaited)} on the pod"
    return f"hook {hook} holds the pod by {', '.join(present or handlers)}"


def _condemned(view: View, slot: Slot) -> _Answer:
    higher = view.ordinals(m.CONDEMNED).last
    first = first_obstacle(view)
    if view.frame.ordered and first is not None:
        return _said(Reason.WAITING_FOR_PREDECESSOR, f"it is deleted when pod {_name(view, first)} is available")
    if view.frame.ordered and higher is not None and higher != slot.ordinal:
        return _said(Reason.WAITING_FOR_PREDECESSOR, f"it is deleted when pod {_name(view, higher)} is gone")
    return _said(Reason.POD_PENDING, "it is to be deleted")


def _unbound(slot: Slot) -> bool:
    """Tell whether a claim of the pod is missing or waits for its volume."""
    return any(c is None or (isinstance(c, Claim) and c.status.phase != "Bound") for c in slot.claims.claims)


def _not_serving(view: View, slot: Slot, pod: Pod, now: float) -> _Answer:
    """Return why the pod does not serve although nothing is wrong with it, as far as one can see."""
    frame = view.frame
    state = completion(pod, frame.settings.inplace)
    if not state.done:
        if state.reason is Unfinished.GRACE_PERIOD:
            check = None if slot.look_at is None else max(0.0, slot.look_at - now)
            return _said(Reason.IN_PLACE_GRACE_PERIOD, state.evidence, check=check)
        where = f"container {state.container}: " if state.container else ""
        return _said(Reason.UPDATING, f"{where}{state.evidence}")
    if not is_ready(pod):
        if pod.status.phase == "Pending":
            claims = slot.claims.claims
            unbound = any(c is None or (isinstance(c, Claim) and c.status.phase != "Bound") for c in claims)
            if slot.claims.terminating or (unbound and not pod.spec.node_name):
                return _said(Reason.VOLUME_CLAIM_PENDING, _claims_text(view, slot))
            return _said(Reason.POD_PENDING, "it is not started yet", pod.metadata.creation_timestamp)
        return _said(Reason.READINESS_FAILING, _unready_text(pod), _ready_time(pod))
    available, wait = is_available(pod, frame.min_ready, now)
    if not available and wait:
        return _said(Reason.WAITING_MIN_READY, f"it is ready, and has to be for {frame.min_ready} s", check=wait)
    if not available:
        return _said(Reason.UPDATING, "its lifecycle state is not Normal yet")
    if frame.resizes and not slot.claims.ready:
        return _said(Reason.VOLUME_RESIZING, _claims_text(view, slot))
    if not storage_matches(frame.sts, pod, frame.templates):
        text = "its volumes are not the claims of the templates, and cannot be changed; delete the pod to have them"
        return _said(Reason.VOLUME_CLAIM_PENDING, text)
    return _said(None)


def _ready_time(pod: Pod) -> str | None:
    return next((c.last_transition_time for c in pod.status.conditions if c.type == "Ready"), None)


def _unready_text(pod: Pod) -> str:
    ready = next((c for c in pod.status.conditions if c.type == "Ready"), None)
    said = f": {ready.message}" if ready is not None and ready.message else ""
    return f"it runs and is not ready{said}"


def _claims_text(view: View, slot: Slot) -> str:
    for template, claim, fit in zip(view.frame.templates, slot.claims.claims, slot.claims.fits, strict=True):
        if claim is None:
            return f"its claim of template {template.name} does not exist"
        if claim.terminating:
            return f"claim {claim.metadata.name} is being deleted"
        if isinstance(claim, Unreadable):
            return f"claim {claim.metadata.name} cannot be read: {claim.path}: {claim.problem}"
        if claim.status.phase != "Bound":
            return f"claim {claim.metadata.name} is {claim.status.phase or 'not bound'}"
        if not fit.ready:
            return f"claim {claim.metadata.name} has not grown to what it asks for"
    return "its claims are not ready"


def _outdated(view: View, slot: Slot, facts: Facts) -> _Answer:
    """Return why a pod that serves is not updated now."""
    frame = view.frame
    what = f"it is at revision {revision_of(slot.pod)}"
    if not frame.rolls:
        return _said(Reason.ON_DELETE, f"{what}; the strategy is OnDelete")
    if not in_window(view, slot):
        return _said(Reason.PARTITION_HELD, f"{what}, and partition is {frame.rolling.partition}")
    if frame.rolling.paused:
        return _said(Reason.PAUSED, f"{what}; rollingUpdate.paused is set")
    if facts.errors:
        return _said(Reason.INVALID_SPEC, facts.errors[0])
    if frame.rolling.pod_update_policy == IN_PLACE_ONLY and in_place(frame):
        spec = spec_for(frame, slot)
        if isinstance(spec, NotPossible):
            return _said(Reason.IN_PLACE_NOT_POSSIBLE, f"{what}; these fields forbid an update in place: {spec}")
    first = first_obstacle(view) if frame.ordered else None
    if first is not None and first != slot.ordinal:
        return _said(
            Reason.WAITING_FOR_PREDECESSOR, f"{what}; it is updated when pod {_name(view, first)} is available"
        )
    if view.down and not facts.more:
        text = f"{what}; maxUnavailable is {frame.budget.value}, used by {users_of_budget(view)}"
        return _said(Reason.MAX_UNAVAILABLE_REACHED, text)
    return _said(Reason.POD_PENDING, f"{what}; other pods come first")


def users_of_budget(view: View) -> str:
    """Return the names of the first ordinals that are down, and how many more there are."""
    found = sorted({*_first(view.missing), *_first(view.ordinals(m.DOWN))})[:_EXAMPLES]
    more = f" and {view.down - len(found)} more" if view.down > len(found) else ""
    return ", ".join(_name(view, ordinal) for ordinal in found) + more


def _first(ordinals: Iterable[int]) -> list[int]:
    return list(islice(ordinals, _EXAMPLES))


def _name(view: View, ordinal: int) -> str:
    return pod_name(view.sts.metadata.name, ordinal)
