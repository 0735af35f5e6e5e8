"""The words of a BroadcastJob's events.

Purpose: turn what came of a plan into as few events as say it all.

Guarantees: one event per kind of action and pass, with counts and examples: a thousand pods are one event (REC7). What
the server refuses for one reason is one event, whichever nodes it hits; the condition Progressing names one of them.
Reasons are those of OpenKruise, where it has one.

What this does not do: it sends nothing; the recorder of the manager does.
"""

from __future__ import annotations

from typing import Final

from kruise.controllers.broadcastjob.apply import Applied
from kruise.controllers.broadcastjob.plan import NORMAL, WARNING, PlannedEvent
from kruise.controllers.common.reasons import nameless

__all__ = ["action_events", "action_of"]

_EXAMPLES: Final = 5
_ACTIONS: Final = {
    "SuccessfulCreate": "Create",
    "FailedCreate": "Create",
    "SuccessfulDelete": "Delete",
    "JobComplete": "Complete",
    "failed pod is found": "Fail",
    "DeadlineExceeded": "Fail",
    "Paused": "Pause",
    "Continue": "Resume",
}


def action_of(reason: str) -> str:
    """Return the action that an event of *reason* reports; events.k8s.io/v1 wants one."""
    return _ACTIONS.get(reason, "Reconcile")


def action_events(done: Applied) -> list[PlannedEvent]:
    """Return the events of the creations and deletions of one pass."""
    events = []
    if done.deleted:
        events.append(PlannedEvent(NORMAL, "SuccessfulDelete", _summary("Delete pod", done.deleted)))
    texts = dict.fromkeys(f"Error creating: {nameless(error)}" for _, error in done.refusals)
    events += [PlannedEvent(WARNING, "FailedCreate", text) for text in texts]
    if done.created:
        pods = [pod for _, pod in done.created]
        events.append(PlannedEvent(NORMAL, "SuccessfulCreate", _summary("Created pod", pods)))
    return events


def _summary(what: str, pods: list[str]) -> str:
    if len(pods) == 1:
        return f"{what}: {pods[0]}"
    more = f" and {len(pods) - _EXAMPLES} more" if len(pods) > _EXAMPLES else ""
    return f"{what}s: {len(pods)} pods: {', '.join(pods[:_EXAMPLES])}{more}"
