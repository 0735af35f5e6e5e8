"""Disruptions of which nobody knows whether they happened.

Purpose: a write that takes a pod down and whose answer was lost may still happen for a minute. Until it is known, its
pod is down as far as the budget is concerned, whatever the set wants by now (reliability, rule 5; S2).

Guarantees:

* A pod is at risk for as long as the write could succeed: while it is in the very version that the write named, and no
  longer than the API server keeps a request. A new spec changes nothing about that: the write is on its way.
* What is kept per pod goes with the risk.

What this does not do: it tries nothing again, and it knows no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kruise.apis.core import Pod
from kruise.controllers.common.holds import LANDS_WITHIN
from kruise.controllers.statefulset.actions import DeletePod, Failure, PatchPod
from kruise.runtime.errors import UnknownOutcome
from kruise.runtime.objects import Unreadable

__all__ = ["Risks"]


@dataclass(frozen=True, slots=True)
class _Risk:
    uid: str
    version: str
    """What the write asked for."""
    until: float
    """Monotonic seconds."""


class Risks:
    """The pods of one set that may go down without another word. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._risks: Final[dict[str, _Risk]] = {}

    def failed(self, failure: Failure, now: float) -> None:
        """Take note of a step that did not succeed at *now*."""
        step = failure.step
        if isinstance(step, PatchPod | DeletePod) and step.disrupts and isinstance(failure.error, UnknownOutcome):
            pod = step.pod
            self._risks[failure.chain.name] = _Risk(pod.uid, pod.resource_version, now + LANDS_WITHIN)

    def unsure(self, now: float, seen: Callable[[str], Pod | Unreadable | None]) -> frozenset[str]:
        """Return the names of the pods that may still go down; *seen* has the present pod of a name."""
        for name, risk in list(self._risks.items()):
            pod = seen(name)
            same = pod is not None and pod.uid == risk.uid and pod.resource_version == risk.version
            if not same or risk.until <= now:
                del self._risks[name]
        return frozenset(self._risks)

    def next_due(self, now: float) -> float | None:
        """Return the seconds until one more is sure."""
        return min((max(0.0, risk.until - now) for risk in self._risks.values()), default=None)

    def __len__(self) -> int:
        return len(self._risks)
