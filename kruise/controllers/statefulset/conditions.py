"""The conditions of a StatefulSet: is it available, does it get on, is it as desired, and does it need a person.

Purpose: the words of ecosystem 6.1 for ``kubectl describe``, ``kubectl wait``, Argo CD, Flux and Helm.

Guarantees:

* Available, Progressing, Ready and Paused are always there. FailedCreatePod, FailedUpdatePod, Reconciling, Stalled and
  Degraded are there while they are True (kstatus calls such conditions abnormal-true); Reconciling and Stalled never
  together.
* kstatus reads Current when every pod is as the spec wants it now: what a partition or OnDelete holds back is wanted
  so. It reads Failed only for what no time and no cluster mends: a wrong field, or an update that is not possible.
* ``lastTransitionTime`` moves with the status only. Equal states give equal texts, so nothing is written for nothing.
* Finding the words looks at a few pods, however many the set has.

What this does not do: the reasons of single pods are not stored; ``kruise status`` computes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from msgspec.structs import replace

from kruise.apis.statefulset import (
    AVAILABLE,
    DEGRADED,
    FAILED_CREATE_POD,
    FAILED_UPDATE_POD,
    PAUSED,
    PROGRESSING,
    READY,
    RECONCILING,
    STALLED,
    StatefulSet,
    StatefulSetCondition,
    StatefulSetStatus,
)
from kruise.controllers.common.reasons import Decision, Reason, reason_of_refusal
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import CreateClaim, CreatePod, DeletePod, Failure, PlannedEvent
from kruise.controllers.statefulset.draft import Trouble
from kruise.controllers.statefulset.explain import Facts, explain_one, users_of_budget
from kruise.controllers.statefulset.scale import first_obstacle
from kruise.controllers.statefulset.update import window
from kruise.controllers.statefulset.view import View

__all__ = ["OURS", "Summary", "conditions", "failed_texts", "is_done", "outstanding", "refused", "summarize", "turns"]

OURS: Final = (
    AVAILABLE, PROGRESSING, READY, PAUSED, FAILED_CREATE_POD, FAILED_UPDATE_POD, RECONCILING, STALLED, DEGRADED,
)  # fmt: skip
_MAX_MESSAGE: Final = 1024
_LOOK_AT: Final = 16
"""How many pods are asked for the leading reason."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How the set as a whole stands."""

    done: bool
    """Everything that the spec wants now is there."""
    moves: bool
    """Something happens, or will without anybody's help."""
    stalled: bool
    """Only another spec, or a person, gets it on."""
    degraded: bool
    """Some pod needs a person."""
    reason: Reason
    message: str


def outstanding(view: View) -> int:
    """Return how many pods the update has yet to take, those behind a pause included."""
    if not view.frame.rolls:
        return 0
    outdated = view.ordinals(m.OUTDATED)
    if view.frame.unordered:
        return window(view) if not view.frame.resizes else len(outdated) and max(window(view), 0)
    return len(outdated) - outdated.below(view.frame.floor)


def is_done(view: View, facts: Facts) -> bool:
    """Tell whether everything that the spec wants now is there."""
    return _calm(view, facts) and not outstanding(view)


def _calm(view: View, facts: Facts) -> bool:
    """Tell whether every pod of the range serves, and none is too many."""
    return not view.down and not view.count(m.CONDEMNED) and not facts.errors and not facts.troubles


def summarize(view: View, now: float, facts: Facts) -> Summary:
    """Say how the set stands, with the leading reason."""
    to_update = outstanding(view)
    condemned = view.count(m.CONDEMNED)
    refused = {name: reason_of_refusal(error) for name, error in facts.failures.items()}
    lasting = sorted((name, reason) for name, reason in refused.items() if reason is not None)
    stuck = view.count(m.STUCK) + view.count(m.UNREADABLE)
    degraded = bool(stuck or lasting or facts.troubles or facts.errors)
    if _calm(view, facts):
        if not to_update:
            return Summary(True, False, False, degraded, *_complete(view))
        if view.frame.rolling.paused:
            text = f"rollingUpdate.paused is set; {_pods(to_update)} not updated"
            return Summary(False, False, False, degraded, Reason.PAUSED, text)
    flux = view.count(m.DOWN) + (0 if view.frame.ordered and first_obstacle(view) is not None else condemned)
    moves = bool(facts.acted) or flux > stuck + view.count(m.HELD)
    stalled = bool(facts.errors) or (bool(facts.troubles) and not moves)
    reason, message = _lead(view, now, facts, lasting, moves, to_update)
    return Summary(False, moves and not facts.errors, stalled, degraded, reason, message)


def _complete(view: View) -> tuple[Reason, str]:
    outdated = view.count(m.OUTDATED)
    if outdated and not view.frame.rolls:
        return Reason.ON_DELETE, f"{_pods(outdated)} at an older revision until somebody deletes them"
    if outdated:
        return Reason.PARTITION_HELD, f"{_pods(outdated)} held at an older revision by the partition"
    return Reason.COMPLETE, "every pod is as desired"


def _pods(count: int) -> str:
    return "1 pod is" if count == 1 else f"{count} pods are"


def _lead(
    view: View, now: float, facts: Facts, lasting: list[tuple[str, Reason]], moves: bool, to_update: int
) -> tuple[Reason, str]:
    """Return the reason that a person should read first."""
    if facts.errors:
        return Reason.INVALID_SPEC, "; ".join(facts.errors)
    for ordinal in view.ordinals(m.UNREADABLE):
        found = explain_one(view, ordinal, now, facts)
        assert found is not None
        return found.reason, _more(found, view.count(m.UNREADABLE))
    if lasting:
        name, reason = lasting[0]
        return reason, f"pod {name}: {facts.failures[name]}"
    if facts.troubles:
        found = explain_one(view, min(facts.troubles), now, facts)
        if found is not None:
            return found.reason, f"{found.subject}: {found.evidence}"
    seen = [one for one in (explain_one(view, o, now, facts) for o in _worst(view)) if one is not None]
    if view.count(m.STUCK):
        for one in seen:
            if one.reason in _STUCK:
                return one.reason, _more(one, view.count(m.STUCK))
    for one in seen:
        if one.reason in _BLOCKING or not moves:
            return one.reason, f"{one.subject}: {one.evidence}"
    first = f"{seen[0].subject}: {seen[0].evidence}" if seen else ""
    if to_update:
        text = f"{_pods(to_update)} still to be updated, down: {users_of_budget(view) or 'none'}"
        return Reason.UPDATING, f"{text}; {first}" if first else text
    if view.missing or view.count(m.CONDEMNED):
        text = f"{len(view.missing)} pods to create, {view.count(m.CONDEMNED)} to delete"
        return Reason.SCALING, text
    if first:
        return seen[0].reason, first
    return Reason.UPDATING, f"waiting for {users_of_budget(view)}"


_STUCK: Final = (Reason.IMAGE_PULL_FAILED, Reason.CRASH_LOOPING, Reason.POD_UNSCHEDULABLE)
_BLOCKING: Final = (
    Reason.LIFECYCLE_HOOK_BLOCKED,
    Reason.VOLUME_CLAIM_PENDING,
    Reason.VOLUME_RESIZING,
    Reason.READINESS_FAILING,
    Reason.POD_PENDING,
)
"""Reasons that are worth a word although something else moves."""


def _worst(view: View) -> Iterator[int]:
    """Yield a few ordinals that are down, those with pods first: what is wrong with them keeps others waiting."""
    down = chain(view.ordinals(m.DOWN), view.ordinals(m.SICK), view.missing, view.ordinals(m.CONDEMNED))
    return islice(dict.fromkeys(islice(down, 2 * _LOOK_AT)), _LOOK_AT)


def _more(one: Decision, count: int) -> str:
    return f"{one.subject}: {one.evidence}" + (f" (and {count - 1} more pods)" if count > 1 else "")


def conditions(view: View, summary: Summary, failed: Mapping[str, str], stamp: str) -> tuple[StatefulSetCondition, ...]:
    """Return the conditions of the set as they are now. *stamp* is the present time, RFC 3339.

    *failed* are the texts of FailedCreatePod and FailedUpdatePod, where they hold.
    """
    found: list[tuple[str, bool, str, str]] = [
        (AVAILABLE, *_available(view)),
        (PROGRESSING, not summary.done and summary.moves, summary.reason, summary.message),
        (READY, summary.done, summary.reason, summary.message),
        (PAUSED, *_paused(view)),
    ]
    found += [(kind, True, kind, text) for kind, text in failed.items()]
    if summary.stalled:
        found.append((STALLED, True, summary.reason, summary.message))
    elif not summary.done and summary.reason is not Reason.PAUSED:
        found.append((RECONCILING, True, summary.reason, summary.message))
    if summary.degraded:
        found.append((DEGRADED, True, summary.reason, summary.message))
    old = {one.type: one for one in view.sts.status.conditions}
    foreign = tuple(one for one in view.sts.status.conditions if one.type not in OURS)
    return (*(_condition(old.get(kind), kind, on, reason, text, stamp) for kind, on, reason, text in found), *foreign)


def turns(stored: StatefulSetStatus, summary: Summary) -> tuple[PlannedEvent, ...]:
    """Return the event that tells why nothing moves any more, when the stored status does not say so yet.

    A pod that is about to be ready, or a claim that is about to be bound, is no news.
    """
    known = next((one.reason for one in stored.conditions if one.type == PROGRESSING), "")
    kind = "Warning" if summary.reason in _STUCK else "Normal"
    if summary.reason == known or summary.reason not in (*_STUCK, Reason.PAUSED, Reason.PARTITION_HELD):
        return ()
    return (PlannedEvent(kind, summary.reason, summary.message[:_MAX_MESSAGE]),)


def refused(sts: StatefulSet, text: str, stamp: str) -> StatefulSetStatus:
    """Return the status of a set whose spec has no meaning: *text* is what is wrong with it.

    Which pods are the set's nobody can say then, so the counts stay as they were, and so does what rests on them.
    """
    old = {one.type: one for one in sts.status.conditions}
    unknown = (AVAILABLE, False, Reason.INVALID_SPEC, text)
    found = [
        (PROGRESSING, False, Reason.INVALID_SPEC, text),
        (READY, False, Reason.INVALID_SPEC, text),
        (STALLED, True, Reason.INVALID_SPEC, text),
        (DEGRADED, True, Reason.INVALID_SPEC, text),
    ]
    told = [_condition(old.get(kind), kind, on, reason, said, stamp) for kind, on, reason, said in found]
    available = old.get(AVAILABLE) or _condition(None, *unknown, stamp)
    paused = old.get(PAUSED) or _condition(
        None, PAUSED, False, Reason.NOT_PAUSED, "nothing holds the update back", stamp
    )
    foreign = [one for one in sts.status.conditions if one.type not in OURS]
    made = (available, *told[:2], paused, *told[2:], *foreign)
    return replace(sts.status, observed_generation=sts.metadata.generation, conditions=made)


def _condition(
    old: StatefulSetCondition | None, kind: str, on: bool, reason: str, message: str, stamp: str
) -> StatefulSetCondition:
    status = "True" if on else "False"
    since = old.last_transition_time if old is not None and old.status == status else None
    return StatefulSetCondition(
        type=kind,
        status=status,
        last_transition_time=since or stamp,
        reason=reason,
        message=message[:_MAX_MESSAGE],
    )


def _available(view: View) -> tuple[bool, Reason, str]:
    """Say whether enough pods are available: all but the budget, and at least one of a set that shall have pods."""
    wanted = view.sts.spec.replicas
    needed = max(min(1, wanted), wanted - view.frame.budget.value)
    have = view.count(m.AVAILABLE_VALID)
    text = f"{have} of {wanted} pods are available, {needed} are enough"
    return have >= needed, Reason.ENOUGH_AVAILABLE if have >= needed else Reason.TOO_FEW_AVAILABLE, text


def _paused(view: View) -> tuple[bool, Reason, str]:
    frame = view.frame
    if frame.rolls and frame.rolling.paused:
        return True, Reason.PAUSED, "rollingUpdate.paused is set"
    if frame.rolls and view.count(m.OUTDATED) > outstanding(view):
        return True, Reason.PARTITION_HELD, f"partition {frame.rolling.partition} keeps pods at an older revision"
    return False, Reason.NOT_PAUSED, "nothing holds the update back"


def failed_texts(failures: Iterable[Failure], obstacles: Iterable[Trouble]) -> dict[str, str]:
    """Return the texts of the conditions FailedCreatePod and FailedUpdatePod that hold."""
    creating, updating = [(one.name, one.text) for one in obstacles], list[tuple[str, str]]()
    for failure in failures:
        found = creating if isinstance(failure.step, CreateClaim | CreatePod) else updating
        if not isinstance(failure.step, DeletePod):
            found.append((failure.chain.name, str(failure.error)))
    texts: dict[str, str] = {}
    for kind, what, parts in ((FAILED_CREATE_POD, "create", creating), (FAILED_UPDATE_POD, "update", updating)):
        if parts:
            name, text = min(parts)
            more = f" (and {len(parts) - 1} more pods)" if len(parts) > 1 else ""
            texts[kind] = f"failed to {what} Pod {name}: {text}{more}"
    return texts
