"""What holds a set up for longer than usual: told in one event.

Purpose: a pod that starts is not ready for a moment, and a claim is bound a moment later; that is no news, and the
status says it at once. When the same pod keeps the set waiting for the same reason a minute later, somebody who reads
events should know it as well.

Guarantees: one event per pod and reason, and none before it has lasted :data:`LONG`. Whoever leads next begins to count
anew.

What this does not do: it reads nothing but the status, so it tells nothing that the status does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kruise.apis.statefulset import PROGRESSING, StatefulSetStatus
from kruise.controllers.common.reasons import Reason
from kruise.controllers.statefulset.actions import PlannedEvent

__all__ = ["LONG", "Lingering"]

LONG: Final = 60.0
"""Seconds."""
_REASONS: Final = frozenset({
    Reason.READINESS_FAILING,
    Reason.VOLUME_CLAIM_PENDING,
    Reason.VOLUME_RESIZING,
    Reason.POD_TERMINATING,
    Reason.POD_PENDING,
    Reason.LIFECYCLE_HOOK_BLOCKED,
})  # fmt: skip


@dataclass(slots=True)
class Lingering:
    """What keeps one set waiting, and since when."""

    reason: str = ""
    subject: str = ""
    since: float = 0.0
    told: bool = False

    def look(self, status: StatefulSetStatus, moment: float) -> tuple[PlannedEvent | None, float | None]:
        """Return the event that is due at *moment* (monotonic seconds), and the seconds until one is."""
        one = next((one for one in status.conditions if one.type == PROGRESSING), None)
        if one is None or one.reason not in _REASONS:
            self.reason = self.subject = ""
            return None, None
        subject = one.message.partition(":")[0]
        if (one.reason, subject) != (self.reason, self.subject):
            self.reason, self.subject, self.since, self.told = one.reason, subject, moment, False
        left = self.since + LONG - moment
        if self.told or left > 0:
            return None, None if self.told else left
        self.told = True
        return PlannedEvent("Warning", self.reason, f"for {LONG:g} s now: {one.message}"), None
