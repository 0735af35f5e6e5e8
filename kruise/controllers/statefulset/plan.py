"""What a StatefulSet does next: a pure function of the view and the time.

Purpose: :func:`plan` decides everything from one snapshot: scaling, updates, in-place chains, lifecycle, claims,
replacement by the user's word, and what failed. :func:`settle` words the status once the chains are done. Neither does
I/O, reads a clock or draws a number.

Guarantees:

* S2: no plan takes down more than the budget allows, counting every ordinal (X1); each disruption carries the pod on
  which it was decided, so a write against another version is refused (X3, X10, X16).
* S3: the order of spec/advanced-statefulset, section by section: what is missing or failed, what is too many, what the
  user named, what is outdated; then what goes on by itself. A pod gets one chain in a pass.
* L7: what is allowed and needed is in the plan, at once. Planning again after its effects yields nothing.
* Every pod that is not as desired, and for which nothing is done, has a reason (:attr:`Plan.decisions`), computed when
  somebody asks.
* The cost of a plan grows with what it does, not with the number of pods (performance 4.4).

What this does not do: it never looks at the cluster; a stale view leads to a plan whose writes the API server refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from kruise.apis.statefulset import READY, StatefulSetStatus
from kruise.controllers.common.reasons import Decision, Reason
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import Chain, PlannedEvent, Results
from kruise.controllers.statefulset.conditions import conditions, failed_texts, is_done, summarize, turns
from kruise.controllers.statefulset.draft import Draft, Trouble
from kruise.controllers.statefulset.explain import Facts, explain
from kruise.controllers.statefulset.scale import condemned, replicas
from kruise.controllers.statefulset.status import completed, counted, with_results
from kruise.controllers.statefulset.update import update
from kruise.controllers.statefulset.upkeep import upkeep
from kruise.controllers.statefulset.view import View
from kruise.runtime.clock import format_time
from kruise.runtime.objects import EMPTY_MAP, Unreadable

__all__ = ["Plan", "Settled", "plan", "settle"]

_WARNING: Final = "Warning"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. The three groups begin in this order, and each may run at once."""

    view: View = field(compare=False, repr=False)
    now: float
    continuations: tuple[Chain, ...] = ()
    """Refreshes, repairs, and what goes on with updates and deletions that have begun."""
    disruptions: tuple[Chain, ...] = ()
    """Deletions and starts of in-place updates."""
    creates: tuple[Chain, ...] = ()
    """In batches of 1, 16 and the write window; none is begun after one failed."""
    events: tuple[PlannedEvent, ...] = ()
    """Lasting states, each to be reported when it begins."""
    next_check: float | None = None
    """Seconds until time alone changes the answer."""
    error: str = ""
    """What is wrong with the spec, naming the field. Pods are not created or updated while it stands."""
    troubles: tuple[Trouble, ...] = ()
    """What stands in the way of single pods until somebody acts."""
    obstacles: tuple[Trouble, ...] = ()
    """Claims on their way out that keep pods from being created."""
    more: bool = False
    """There is more to create or to update than one plan holds: the next pass follows at once."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do now."""
        return not (self.continuations or self.disruptions or self.creates)

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Everything to do, in the order in which it begins."""
        return (*self.continuations, *self.disruptions, *self.creates)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Why each pod that is not as desired is not acted on, by ordinal; valid until the view changes."""
        return tuple(explain(self.view, self.now, self.facts()))

    def facts(self, failures: Mapping[str, Exception] = EMPTY_MAP) -> Facts:
        """Return what this pass adds to the view; *failures* are the last errors of pods that wait, by name."""
        return Facts(
            acted={chain.ordinal: chain for chain in self.chains},
            troubles={one.ordinal: one for one in self.troubles},
            errors=(self.error,) if self.error else (),
            failures=failures,
            more=self.more,
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """The status after a pass; ``None`` leaves it alone."""

    status: StatefulSetStatus | None
    decisive: bool = False
    """A first, final or awaited status: write it at once."""
    events: tuple[PlannedEvent, ...] = ()
    """What belongs to this change of the status: to be reported once it is written."""
    next_check: float | None = None


def plan(
    view: View, now: float, *, holds: Mapping[str, bool] = EMPTY_MAP, unsure: frozenset[str] = frozenset()
) -> Plan:
    """Decide the next pass at wall time *now*, in seconds.

    *holds* names the pods whose last attempt failed, True while they must wait (``Holds.waiting`` by pod name).
    *unsure* are those that may still go down by a write of which nobody knows what came (``Risks.unsure``).
    """
    view.advance(now)
    if view.sts.terminating:
        return Plan(view, now)  # the garbage collector takes the pods (spec 3)
    at_risk = [slot for slot in map(view.named, unsure) if slot is not None and slot.has(m.VALID)]
    draft = Draft(view, now, holds, unsure, down=view.down + sum(not slot.has(m.DOWN) for slot in at_risk))
    go_on = replicas(draft) and condemned(draft)
    update(draft, prepared_only=not go_on)
    upkeep(draft)
    due = view.next_time()
    waits = draft.delays if due is None else [*draft.delays, max(0.0, due - now)]
    if view.count(m.UNDATED):
        waits = [*waits, float(view.frame.min_ready)]
    if draft.more:
        waits = [0.0]
    return Plan(
        view,
        now,
        continuations=tuple(draft.continuations),
        disruptions=tuple(draft.disruptions),
        creates=tuple(draft.creates),
        events=_events(view, draft),
        next_check=min(waits, default=None),
        error="; ".join(draft.errors),
        troubles=tuple(draft.troubles),
        obstacles=tuple(draft.obstacles),
        more=draft.more,
    )


def _events(view: View, draft: Draft) -> tuple[PlannedEvent, ...]:
    """Return the events that tell of lasting states: one for each reason, naming an example."""
    found = [PlannedEvent(_WARNING, Reason.INVALID_SPEC, f"{text}; correct the field") for text in draft.errors]
    for ordinal in view.ordinals(m.UNREADABLE):
        pod, count = view.slot(ordinal).pod, view.count(m.UNREADABLE)
        assert isinstance(pod, Unreadable)
        more = f" (and {count - 1} more)" if count > 1 else ""
        text = f"pod {pod.key} cannot be read: {pod.path}: {pod.problem}{more}; it counts as down, fix or delete it"
        found.append(PlannedEvent(_WARNING, Reason.POD_UNREADABLE, text))
        break
    by_reason: dict[str, Trouble] = {}
    for one in draft.troubles:
        by_reason.setdefault(one.reason, one)
    found += [PlannedEvent(_WARNING, reason, one.said) for reason, one in by_reason.items()]
    if draft.obstacles:
        first, count = draft.obstacles[0], len(draft.obstacles)
        more = f" (and {count - 1} more pods)" if count > 1 else ""
        text = f"create Pod {first.name} in StatefulSet {view.sts.metadata.name} failed error: {first.text}{more}"
        found.append(PlannedEvent(_WARNING, first.reason, text))
    return tuple(found)


def settle(view: View, done: Plan, results: Results, now: float, *, later: bool = False) -> Settled:
    """Return the status after the chains of *done* ended as *results*. ``status.wire`` gives its plain JSON.

    *later*: it will be asked for again soon, at the end of a window. Words are then found only for what cannot wait.
    """
    stored = view.sts.status
    needed = view.sts.spec.replicas if view.frame.rolling.partition > 0 else 0
    status = completed(with_results(counted(view), view, results), rolls=view.frame.rolls, needed=needed)
    failures = {one.chain.name: one.error for one in results.failures}
    facts = done.facts(failures)
    decisive = (
        status.observed_generation != stored.observed_generation
        or status.update_revision != stored.update_revision
        or status.current_revision != stored.current_revision
        or (is_done(view, facts) and not _was_ready(stored))
    )
    if later and not decisive:
        return Settled(None, next_check=done.next_check)
    told: tuple[PlannedEvent, ...] = ()
    if not view.sts.terminating:
        summary = summarize(view, now, facts)
        found = conditions(view, summary, failed_texts(results.failures, done.obstacles), format_time(now))
        status = replace(status, conditions=found)
        told = turns(stored, summary)
    return Settled(status, decisive, told, next_check=done.next_check)


def _was_ready(status: StatefulSetStatus) -> bool:
    return any(one.type == READY and one.status == "True" for one in status.conditions)
