"""The words of a StatefulSet's events.

Purpose: turn what came of the chains of a plan into events with OpenKruise's reasons and texts (spec 13), and many of
one kind into one.

Guarantees:

* :func:`step_events` has the events of one step exactly as OpenKruise words them.
* :func:`action_events` makes one event of all that has one reason and one shape in a pass, with counts and examples: a
  thousand pods are one event (REC7). What the server refuses for one reason is one event, whichever pods it hits.
* A 409 of our own name is none of the user's business and makes no event; neither do lifecycle transitions, refreshes
  and corrections of owner references.

What this does not do: it sends nothing; the recorder of the manager does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kruise.controllers.common.reasons import nameless
from kruise.controllers.statefulset.actions import (
    Chain,
    CreateClaim,
    CreatePod,
    DeletePod,
    PatchClaim,
    PatchPod,
    PlannedEvent,
    Step,
    Why,
)
from kruise.controllers.statefulset.apply import Applied
from kruise.runtime.errors import AlreadyExists

__all__ = ["NORMAL", "WARNING", "action_events", "action_of", "step_events"]

NORMAL: Final = "Normal"
WARNING: Final = "Warning"

_EXAMPLES: Final = 5
_ACTIONS: Final = {
    "SuccessfulCreate": "Create",
    "FailedCreate": "Create",
    "SuccessfulUpdate": "Update",
    "FailedUpdate": "Update",
    "SuccessfulDelete": "Delete",
    "FailedDelete": "Delete",
    "SuccessfulResize": "Resize",
    "FailedResize": "Resize",
    "FailedUpdatePVC": "Resize",
    "SuccessfulUpdatePodInPlace": "UpdateInPlace",
    "FailedUpdatePodInPlace": "UpdateInPlace",
}


def action_of(reason: str) -> str:
    """Return the action that an event of *reason* reports; events.k8s.io/v1 wants one."""
    return _ACTIONS.get(reason, "Reconcile")


@dataclass(frozen=True, slots=True)
class _Report:
    """One event before it is put into words: the shape that it shares with others, and what differs."""

    type: str
    reason: str
    shape: str
    """With ``{what}`` for the names, and ``{s}`` for the plural."""
    names: str
    error: str = ""

    def note(self) -> str:
        return self.shape.format(what=self.names, s="", error=self.error)


def step_events(set_name: str, chain: Chain, step: Step, error: Exception | None) -> list[PlannedEvent]:
    """Return the events of one step of *chain*, which succeeded, or ended with *error*."""
    return [PlannedEvent(r.type, r.reason, r.note()) for r in _reports(set_name, chain, step, error)]


def action_events(set_name: str, done: Applied) -> list[PlannedEvent]:
    """Return the events of one pass over the set *set_name*: one for each reason, shape and error."""
    reports = [r for f in done.failures for r in _reports(set_name, f.chain, f.step, f.error)[:1]]
    reports += [r for chain, step in done.done for r in _reports(set_name, chain, step, None)]
    grouped: dict[tuple[str, str, str], _Group] = {}
    for report in reports:
        group = grouped.setdefault((report.reason, report.shape, report.error), _Group(report))
        group.names.append(report.names)
    return [group.event() for group in grouped.values()]


@dataclass(slots=True)
class _Group:
    """Reports that differ in their names only."""

    first: _Report
    names: list[str] = field(default_factory=list)

    def event(self) -> PlannedEvent:
        one = self.first
        if len(self.names) == 1:
            return PlannedEvent(one.type, one.reason, one.note())
        what = f"{', '.join(self.names[:_EXAMPLES])}"
        if len(self.names) > _EXAMPLES:
            what += f" and {len(self.names) - _EXAMPLES} more ({len(self.names)} in all)"
        return PlannedEvent(one.type, one.reason, one.shape.format(what=what, s="s", error=one.error))


def _reports(set_name: str, chain: Chain, step: Step, error: Exception | None) -> list[_Report]:
    place = _literal(f"in StatefulSet {set_name}")
    failed = "" if error is None else nameless(error)
    match step:
        case CreatePod():
            return [_worded("Create", "create Pod{s} {what} " + place, step.name, failed)]
        case CreateClaim() if isinstance(error, AlreadyExists):
            return []
        case CreateClaim():
            pair = f"{step.name} {'for ' if failed else ''}Pod {chain.name}"
            return [_worded("Create", "create Claim{s} {what} " + place, pair, failed, well="success")]
        case DeletePod():
            reports = [_worded("Delete", "delete Pod{s} {what} " + place, chain.name, failed)]
            if failed:
                reports.append(
                    _Report(WARNING, "FailedDelete", "failed to delete pod{s} {what}: {error}", chain.name, failed)
                )
            return reports
        case PatchClaim() if step.why is Why.RESIZE:
            pair = f"{step.claim.metadata.name} {'for ' if failed else ''}Pod {chain.name}"
            return [_worded("Resize", "resize Claim{s} {what} " + place, pair, failed, well="success")]
        case PatchPod() if step.why is Why.UPDATE:
            return [_in_place(step, chain.name, failed)]
        case PatchPod() if step.why is Why.REPAIR:
            return [_worded("Update", "update Pod{s} {what} " + place, chain.name, failed)]
        case PatchPod() | PatchClaim() if failed:
            return [_worded("Update", "update Pod{s} {what} " + place, chain.name, failed)]
    return []


def _worded(verb: str, shape: str, names: str, failed: str, *, well: str = "successful") -> _Report:
    if failed:
        return _Report(WARNING, f"Failed{verb}", shape + " failed error: {error}", names, failed)
    return _Report(NORMAL, f"Successful{verb}", f"{shape} {well}", names)


def _in_place(step: PatchPod, name: str, failed: str) -> _Report:
    tail = _literal(f"in-place(revision {step.revision})")
    if failed:
        return _Report(
            WARNING, "FailedUpdatePodInPlace", "failed to update pod{s} {what} " + tail + ": {error}", name, failed
        )
    return _Report(NORMAL, "SuccessfulUpdatePodInPlace", "successfully update pod{s} {what} " + tail, name)


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
