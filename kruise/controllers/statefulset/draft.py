"""A plan while it is made: what was decided so far, and for which pods.

Purpose: the phases of a plan (scale, update, upkeep) share the snapshot, the budget and the rule that a pod gets one
chain in a pass.

Guarantees: at most one chain for each ordinal; a pod whose last attempt failed and that has to wait gets none.

What this does not do: it is no result; ``plan`` freezes it into one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kruise.apis.core import Claim
from kruise.controllers.common.inplace.flow import Outcome, delete_step
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import Chain, DeletePod, PatchClaim, PatchPod, PlannedEvent, Step, Why
from kruise.controllers.statefulset.claims import retention_patch
from kruise.controllers.statefulset.frame import Frame
from kruise.controllers.statefulset.slots import Slot
from kruise.controllers.statefulset.view import View
from kruise.runtime.objects import Unreadable

__all__ = ["Draft", "Trouble"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What stands in the way of one pod until somebody acts."""

    ordinal: int
    name: str
    text: str
    reason: str
    """The word for the event."""
    note: str = ""
    """What the event says; the text with the pod's name when it is empty."""

    @property
    def said(self) -> str:
        """The text of the event."""
        return self.note or f"pod {self.name}: {self.text}"


@dataclass(slots=True)
class Draft:
    """What one pass has decided so far."""

    view: View
    now: float
    holds: Mapping[str, bool]
    unsure: frozenset[str] = frozenset()
    """The names of pods that may go down by a write of which nobody knows what came."""
    down: int = 0
    """How many ordinals of the range are down once everything decided so far has happened."""
    continuations: list[Chain] = field(default_factory=list)
    disruptions: list[Chain] = field(default_factory=list)
    creates: list[Chain] = field(default_factory=list)
    events: list[PlannedEvent] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Wrong fields of the spec."""
    troubles: list[Trouble] = field(default_factory=list)
    obstacles: list[Trouble] = field(default_factory=list)
    """Claims on their way out that keep pods from being created."""
    touched: set[int] = field(default_factory=set)
    delays: list[float] = field(default_factory=list)
    """Seconds after which time alone changes the answer, apart from what the view knows."""
    more: bool = False
    """There is more to create or to update than one plan holds."""

    @property
    def frame(self) -> Frame:
        """The set itself."""
        return self.view.frame

    def waits(self, name: str) -> bool:
        """Tell whether the last attempt on the pod *name* failed a moment ago."""
        return self.holds.get(name, False)

    def counts(self, slot: Slot) -> bool:
        """Tell whether *slot* counts as down already: it is, or it may be any moment."""
        return slot.has(m.DOWN) or slot.name in self.unsure

    def free(self, slot: Slot) -> bool:
        """Tell whether nothing was decided for *slot* in this pass, and it need not wait."""
        return slot.ordinal not in self.touched and not self.waits(slot.name)

    def add(self, group: list[Chain], slot: Slot, *steps: Step) -> None:
        """Add the chain of *slot* to *group*."""
        self.touched.add(slot.ordinal)
        group.append(Chain(slot.ordinal, slot.name, steps))

    def trouble(self, slot: Slot, text: str, reason: str = "FailedUpdate", note: str = "") -> None:
        """Note what a person must see to."""
        self.troubles.append(Trouble(slot.ordinal, slot.name, text, reason, note))

    def retention(self, slot: Slot) -> list[Step]:
        """Return the steps that give the claims of *slot* the owners that the policy wants."""
        if not slot.has(m.MISOWNED):
            return []
        steps: list[Step] = []
        for claim in slot.claims.claims:
            if not isinstance(claim, Claim) or claim.terminating:
                continue
            patch = retention_patch(self.frame.sts, slot.pod, claim, not slot.has(m.VALID))
            if patch:
                steps.append(PatchClaim(claim, patch, Why.RETENTION))
        return steps

    def delete(self, slot: Slot, why: Why) -> Outcome:
        """Take *slot* one step towards its deletion (spec 5.5); HELD when a hook keeps it, NOTHING when it must wait.

        The claims of a condemned pod get their owner before it goes, in the same chain (spec 5.3).
        """
        pod = slot.pod
        if isinstance(pod, Unreadable) or not self.free(slot):
            return Outcome.NOTHING
        frame = self.frame
        flow = delete_step(pod, lifecycle=frame.lifecycle, now=self.now, gates=frame.settings.inplace)
        group = self.continuations if slot.has(m.RELEASED) else self.disruptions
        if flow.outcome is Outcome.DELETE:
            before = self.retention(slot) if slot.has(m.CONDEMNED) else []
            self.add(group, slot, *before, DeletePod(pod, why))
        elif flow.writes:
            self.add(group, slot, PatchPod(pod, flow.writes, Why.PREPARE, disrupts=flow.disrupts))
        elif flow.error:
            self.trouble(slot, flow.error, "FailedDelete")
        return flow.outcome
