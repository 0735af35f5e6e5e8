"""The status of a SidecarSet: counts, conditions, when it is written, and how it goes over the wire.

Purpose: spec/sidecarset 11 and ecosystem 6.1: how many pods have the sidecars, how many of these are at the latest
version, and whether something stands in the way.

Guarantees:

* The counts are those of the view, kept with every event; all are always written, zeros too.
* Available, Progressing and Injected are always there. Injected names the first ten pods that should have been
  injected and were not (C11), and counts those that need not be; the reasons of all pods are ``explain``'s.
  RaisesPrivileges is there while the set asks for something that the policy for sidecars warns of (reliability 8.4).
* ``lastTransitionTime`` moves with the status of a condition only, and equal states give equal texts: nothing is
  written for nothing (X28). Conditions of others stay. Finding the words looks at a few pods, however many there are.

What this does not do: nothing here writes, and no pace is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from kruise.apis.sidecarset import (
    AVAILABLE,
    INJECTED,
    PROGRESSING,
    RAISES_PRIVILEGES,
    SidecarSetCondition,
    SidecarSetStatus,
)
from kruise.controllers.common.reasons import Decision, Reason
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.actions import Why
from kruise.controllers.sidecarset.explain import Facts, explain_one
from kruise.controllers.sidecarset.order import budget
from kruise.controllers.sidecarset.plan import Plan, window
from kruise.controllers.sidecarset.view import View
from kruise.runtime.clock import format_time

__all__ = ["Settled", "counted", "counts_differ", "settle", "wire"]

_OURS: Final = (AVAILABLE, PROGRESSING, INJECTED)
_MAX_MESSAGE: Final = 1024
_NAMED: Final = 10
_LOOK_AT: Final = 16
"""How many pods are asked for the leading reason."""
_LEFT_OUT: Final = {m.OLDER: Reason.CREATED_BEFORE_SIDECAR_SET, m.HELD: Reason.INJECTION_PAUSED}
_STUCK: Final = (Reason.IMAGE_PULL_FAILED, Reason.CRASH_LOOPING)


@dataclass(frozen=True, slots=True)
class Settled:
    """The status after a pass; ``None`` leaves it alone."""

    status: SidecarSetStatus | None
    decisive: bool = False
    """The first status of a generation or revision: write it at once."""
    turned: bool = False
    """A condition has another status, for which somebody may wait: write it at once, unless that is often so."""


def settle(
    view: View,
    plan: Plan,
    *,
    collision_count: int = 0,
    facts: Facts | None = None,
    concerns: Sequence[str] | None = None,
) -> Settled:
    """Return the status that *view* and *plan* give. *facts* add failed attempts, and old versions.

    *concerns* are what the policy for sidecars warns of; with ``None`` the condition of it stays as it is stored.
    """
    old = view.frame.set.status
    facts = facts or Facts()
    facts = Facts(
        acted=frozenset(
            change.pod.key
            for change in plan.changes
            if change.why is not Why.MARK and change.pod.uid not in facts.failures
        ),
        troubles=plan.troubles,
        failures=facts.failures,
        contents=facts.contents,
        held=frozenset(),  # only the first ones are asked, and these no partition keeps
    )
    status = counted(view, collision_count, _conditions(view, facts, concerns, format_time(plan.now)))
    if not counts_differ(old, status) and old.conditions == status.conditions:
        return Settled(None)
    first = status.observed_generation > old.observed_generation or old.latest_revision != status.latest_revision
    before, after = ([(one.type, one.status) for one in found.conditions] for found in (old, status))
    return Settled(status, first, before != after)


def counted(view: View, collision_count: int = 0, conditions: tuple[SidecarSetCondition, ...] = ()) -> SidecarSetStatus:
    """Return the status that the pods of *view* give."""
    return SidecarSetStatus(
        observed_generation=view.frame.set.metadata.generation,
        matched_pods=view.count(m.MATCHED),
        updated_pods=view.count(m.UPDATED),
        ready_pods=view.count(m.READY),
        updated_ready_pods=view.count(m.UPDATED_READY),
        latest_revision=view.revision,
        collision_count=collision_count,
        conditions=conditions,
    )


def counts_differ(old: SidecarSetStatus, new: SidecarSetStatus) -> bool:
    """Tell whether *new* says something else than *old*, conditions aside. An older generation is none."""
    return (
        new.observed_generation > old.observed_generation
        or new.matched_pods != old.matched_pods
        or new.updated_pods != old.updated_pods
        or new.ready_pods != old.ready_pods
        or new.updated_ready_pods != old.updated_ready_pods
        or new.latest_revision != old.latest_revision
        or (new.collision_count or 0) != (old.collision_count or 0)
    )


def wire(status: SidecarSetStatus) -> dict[str, Any]:
    """Return *status* as plain JSON."""
    return {
        "observedGeneration": status.observed_generation,
        "matchedPods": status.matched_pods,
        "updatedPods": status.updated_pods,
        "readyPods": status.ready_pods,
        "updatedReadyPods": status.updated_ready_pods,
        "latestRevision": status.latest_revision,
        "collisionCount": status.collision_count or 0,
        "conditions": [_condition(one) for one in status.conditions],
    }


def _condition(one: SidecarSetCondition) -> dict[str, Any]:
    out: dict[str, Any] = {"type": one.type, "status": one.status}
    if one.last_transition_time:
        out["lastTransitionTime"] = one.last_transition_time
    return {**out, "reason": one.reason, "message": one.message}


# ---- conditions ------------------------------------------------------------------------------------------------------


def _conditions(
    view: View, facts: Facts, concerns: Sequence[str] | None, stamp: str
) -> tuple[SidecarSetCondition, ...]:
    stored = view.frame.set.status.conditions
    old = {one.type: one for one in stored}
    found = ((AVAILABLE, *_available(view)), (PROGRESSING, *_progressing(view, facts)), (INJECTED, *_injected(view)))
    ours = (_made(old.get(kind), kind, on, reason, text, stamp) for kind, on, reason, text in found)
    replaced = _OURS if concerns is None else (*_OURS, RAISES_PRIVILEGES)
    others = (one for one in stored if one.type not in replaced)
    if not concerns:
        return (*ours, *others)
    text = "; ".join(concerns)
    raised = _made(old.get(RAISES_PRIVILEGES), RAISES_PRIVILEGES, True, Reason.PRIVILEGES_FOUND, text, stamp)
    return (*ours, raised, *others)


def _made(
    old: SidecarSetCondition | None, kind: str, on: bool, reason: str, message: str, stamp: str
) -> SidecarSetCondition:
    status = "True" if on else "False"
    since = old.last_transition_time if old is not None and old.status == status else None
    return SidecarSetCondition(
        type=kind,
        status=status,
        last_transition_time=since or stamp,
        reason=reason,
        message=message[:_MAX_MESSAGE],
    )


def _available(view: View) -> tuple[bool, Reason, str]:
    """Say whether enough pods work: all but as many as may be on their way."""
    matched, have = view.count(m.MATCHED), view.count(m.READY)
    limit = max(0, budget(view.frame.set.spec.update_strategy, matched))
    needed = max(min(1, matched), matched - limit)
    good = have >= needed
    text = f"{have} of {matched} pods are ready, {needed} are enough"
    return good, Reason.ENOUGH_AVAILABLE if good else Reason.TOO_FEW_AVAILABLE, text


def _injected(view: View) -> tuple[bool, Reason, str]:
    missed, lacking = view.listed(m.MISSED), view.listed(m.LACKING)
    count = len(missed) + len(lacking)
    if not count:
        text = "every pod that should have the sidecars was created with them"
        return True, Reason.INJECTED, text + _left_out(view)
    named = ", ".join(str(key) for key in islice(sorted((*missed[:_NAMED], *lacking[:_NAMED])), _NAMED))
    more = ", ..." if count > _NAMED else ""
    return False, Reason.NOT_INJECTED, f"{count} pods without the sidecars: {named}{more}{_left_out(view)}"


def _left_out(view: View) -> str:
    """Count the selected pods that are without the sidecars for a reason that is nobody's fault."""
    found = [f"{count} {reason}" for mark, reason in _LEFT_OUT.items() if (count := view.count(mark))]
    return f"; others without them: {', '.join(found)}" if found else ""


def _progressing(view: View, facts: Facts) -> tuple[bool, Reason, str]:
    """Say whether an upgrade gets on, with the reason that a person should read first."""
    frame = view.frame
    if frame.problem:
        return False, Reason.INVALID_SPEC, frame.problem
    matched, updated, busy = view.count(m.MATCHED), view.count(m.UPDATED), view.count(m.BUSY)
    outdated = matched - updated
    if unreadable := view.listed(m.UNREADABLE):
        worst = _first(view, unreadable, facts)
        if worst is not None and not facts.acted:
            return False, worst.reason, _more(worst, len(unreadable))
    if not outdated and not busy:
        return False, Reason.COMPLETE, "every pod has the latest sidecars, and is ready"
    if outdated and not facts.acted and not view.count(m.STARTED):
        kept = _kept_back(view, facts, outdated, busy)
        if kept is not None:
            return False, *kept
    stuck = _stuck(view, facts)
    if stuck is not None and not facts.acted:
        return False, stuck.reason, _more(stuck, busy)
    text = f"{updated} of {matched} pods have the latest sidecars, {busy} of them are not ready yet"
    return True, Reason.UPDATING, text


def _kept_back(view: View, facts: Facts, outdated: int, busy: int) -> tuple[Reason, str] | None:
    """Say what keeps the outdated pods, where nothing is on its way; ``None`` when something is."""
    frame = view.frame
    if not frame.updates:
        return Reason.NOT_UPDATE, f"{_pods(outdated)} at an older version: updateStrategy.type is NotUpdate"
    if frame.paused:
        return Reason.PAUSED, f"{_pods(outdated)} at an older version: updateStrategy.paused is set"
    if busy:
        return None
    immutable, unselected = view.count(m.IMMUTABLE), view.count(m.UNSELECTED)
    waiting = len(view.waiting)
    if waiting and window(view):
        found = _first(view, (key for _, key in islice(view.waiting, _LOOK_AT)), facts)
        return (found.reason, f"{found.subject}: {found.evidence}") if found is not None else None
    if immutable:
        text = f"{_pods(immutable)} to be created anew: only images change in place"
        found = _first(view, view.listed(m.IMMUTABLE), facts)
        return Reason.IMMUTABLE_FIELD_CHANGED, text if found is None else f"{text}; {found.subject}: {found.evidence}"
    if waiting:
        return Reason.PARTITION_HELD, f"{_pods(waiting)} held at an older version by the partition"
    return Reason.SELECTOR_MISMATCH, f"{_pods(unselected)} not matched by updateStrategy.selector"


def _pods(count: int) -> str:
    return "1 pod is" if count == 1 else f"{count} pods are"


def _first(view: View, keys: Iterable[Any], facts: Facts) -> Decision | None:
    for key in islice(keys, _LOOK_AT):
        slot = view.get(key)
        found = explain_one(view, slot, facts) if slot is not None else None
        if found is not None:
            return found
    return None


def _stuck(view: View, facts: Facts) -> Decision | None:
    """Return the reason of the first pod on its way that does not get on by itself."""
    for key in islice(view.listed(m.BUSY), _LOOK_AT):
        slot = view.get(key)
        found = explain_one(view, slot, facts) if slot is not None else None
        if found is not None and found.reason in _STUCK:
            return found
    return None


def _more(one: Decision, count: int) -> str:
    return f"{one.subject}: {one.evidence}" + (f" (and {count - 1} more pods)" if count > 1 else "")
