"""The words of a SidecarSet's events.

Purpose: turn what came of a plan into events with OpenKruise's reasons (spec/sidecarset 10.3).

Guarantees: the end of a hot upgrade is an event on its pod, and so is that it did not succeed; the events on the set
are the planner's. What another writer made stale is none of the user's business and makes no event.

What this does not do: it sends nothing; the recorder of the manager does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kruise.apis.core import Pod
from kruise.controllers.sidecarset.actions import RESET_FAILED, RESET_NOTE, RESET_SUCCEEDED, PlannedEvent, Why
from kruise.controllers.sidecarset.apply import Applied

__all__ = ["action_of", "pod_events"]

_ACTIONS: Final = {RESET_SUCCEEDED: "ResetContainer", RESET_FAILED: "ResetContainer"}
_RESETS: Final = (Why.FLIP, Why.REPAIR)


def action_of(reason: str) -> str:
    """Return the action that an event of *reason* reports; events.k8s.io/v1 wants one."""
    return _ACTIONS.get(reason, "Reconcile")


def pod_events(done: Applied) -> Iterator[tuple[Pod, PlannedEvent]]:
    """Yield the events on pods."""
    for change in done.done:
        if change.why in _RESETS:
            yield change.pod, PlannedEvent("Normal", RESET_SUCCEEDED, RESET_NOTE)
    for failure in done.failures:
        if failure.change.why in _RESETS:
            note = f"reset sidecar container image empty failed: {failure.error}"
            yield failure.change.pod, PlannedEvent("Warning", RESET_FAILED, note)
