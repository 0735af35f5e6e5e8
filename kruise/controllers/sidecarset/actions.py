"""What a plan of a SidecarSet consists of: changes of single pods, and events.

Purpose: the values that the planner hands to the shell, which performs them without deciding anything.

Guarantees: a change carries the very pod on which it was decided, so that its first write names that uid and version,
and each later one the version that the write before returned (reliability rules 1 and 4). Changes are independent of
each other: one that fails stops no other (rule 30).

What this does not do: it knows no client, and no answer of a server.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from kruise.apis.core import Pod
from kruise.controllers.common.inplace.writes import PodWrite

__all__ = ["NOT_UPGRADABLE_PODS", "RESET_FAILED", "RESET_NOTE", "RESET_SUCCEEDED", "Change", "PlannedEvent", "Why"]

NOT_UPGRADABLE_PODS: Final = "NotUpgradablePods"
"""Normal, on the set."""
RESET_SUCCEEDED: Final = "ResetContainerSucceed"
"""Normal, on the pod, after a flip."""
RESET_FAILED: Final = "ResetContainerFailed"
"""Warning, on the pod."""
RESET_NOTE: Final = "reset sidecar container image empty successfully"


class Why(enum.StrEnum):
    """What a change is for."""

    UPGRADE = "upgrade"
    """New images, or the other twin. The only one that may take a pod down."""
    FLIP = "flip"
    """A hot upgrade ends: the old twin is emptied."""
    REPAIR = "repair"
    """A hot upgrade was taken back: the failing twin is emptied."""
    MARK = "mark"
    """The condition SidecarSetUpgradable says what is so."""


@dataclass(frozen=True, slots=True)
class Change:
    """The writes to one pod, each on the version that the one before returned."""

    pod: Pod
    writes: tuple[PodWrite, ...]
    why: Why

    @property
    def disrupts(self) -> bool:
        """Whether the pod may be down for a while."""
        return self.why is Why.UPGRADE


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """An event on the set that describes a state: it is reported once, when the state begins."""

    type: str
    reason: str
    note: str
