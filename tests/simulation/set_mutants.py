"""The controller of Advanced StatefulSets, broken on purpose: bugs that some controller once had (reliability 6.7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from kruise.apis import statefulset_rules as sts_rules
from kruise.apis.intorstring import Scaled
from kruise.apis.ordinals import ordinal_range
from kruise.apis.statefulset import RollingUpdate, StatefulSet, StatefulSetStatus
from kruise.controllers.common import revisions
from kruise.controllers.common.inplace import flow
from kruise.controllers.statefulset import frame as framing
from kruise.controllers.statefulset import plan as planning
from kruise.controllers.statefulset import scale
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset import view as viewing
from kruise.controllers.statefulset.draft import Draft
from kruise.controllers.statefulset.view import View
from kruise.simulator.faults import OnPod, OnWrite, Plan, PodFault
from tests.simulation.mutants import Mutant, Patch, _delete_by_name, _delete_without_version, _no_gate, _stale


def _frame_of(change: Callable[[framing.Frame], framing.Frame]) -> list[Patch]:
    sound = viewing.make_frame
    return [(viewing, "make_frame", lambda *given: change(sound(*given)))]


def _rolling(**changes: Any) -> list[Patch]:
    sound = viewing.make_frame

    def make_frame(sts: StatefulSet, *given: Any) -> framing.Frame:
        strategy = sts.spec.update_strategy
        rolling = msgspec.structs.replace(strategy.rolling_update or RollingUpdate(), **changes)
        strategy = msgspec.structs.replace(strategy, rolling_update=rolling)
        spec = msgspec.structs.replace(sts.spec, update_strategy=strategy)
        return sound(msgspec.structs.replace(sts, spec=spec), *given)

    return [(viewing, "make_frame", make_frame)]


def _only_in_the_window() -> list[Patch]:
    """Unavailable pods count only where the update has been already (X1)."""

    def down(self: View) -> int:
        outdated = self.count(m.OUTDATED_DOWN)
        return int(View.__dict__["sound_down"].fget(self)) - outdated

    return [(View, "sound_down", View.__dict__["down"]), (View, "down", property(down))]


def _not_counted_while_missing() -> list[Patch]:
    """A pod that was deleted is no unavailable pod until it is there again (X46)."""
    return [(View, "down", property(lambda self: self.count(m.DOWN)))]


def _floored_to_nothing() -> list[Patch]:
    sound = framing.statefulset_max_unavailable

    def resolve(value: Any, replicas: int) -> Scaled:
        if isinstance(value, str) and int(value.rstrip("%")) * replicas < 100:
            return replace(sound(value, replicas), value=0)
        return sound(value, replicas)

    return [(framing, "statefulset_max_unavailable", resolve)]


def _opens_too_early() -> list[Patch]:
    sound = flow.progress_of

    def progress_of(pod: Any, **options: Any) -> Any:
        found = sound(pod, **options)
        return replace(found, complete=True, evidence="") if found.body is None else found

    return [(flow, "progress_of", progress_of)]


def _does_not_close() -> list[Patch]:
    return [(flow, "needs_unready", lambda *given: False)]


def _by_bytes() -> list[Patch]:
    return [(revisions._Wanted, "equals", lambda self, data: data == self.data)]


def _claims_without_owners() -> list[Patch]:
    sound = scale.build_claim

    def build_claim(*given: Any, **options: Any) -> dict[str, Any]:
        body = sound(*given, **options)
        body["metadata"].pop("ownerReferences", None)
        return body

    return [(scale, "build_claim", build_claim)]


def _any_claim_will_do() -> list[Patch]:
    return [(scale, "claim_obstacle", lambda view, ordinal: "")]


def _by_ordinal_and_replicas() -> list[Patch]:
    """A pod is condemned when its ordinal is not below replicas, whatever is reserved (X11)."""
    sound = Draft.retention

    def retention(self: Draft, slot: Any) -> Any:
        return sound(self, slot) if slot.ordinal >= self.frame.sts.spec.replicas else []

    return [(Draft, "retention", retention)]


def _a_new_pod_is_new() -> list[Patch]:
    return [(scale, "revision_for", lambda view, ordinal: view.frame.chosen.update)]


def _nothing_lacks() -> list[Patch]:
    """Fields that v1alpha1 does not have are shown in it."""
    return [(sts_rules, "ONLY_IN_V1BETA1", dict.fromkeys(sts_rules.ONLY_IN_V1BETA1, frozenset()))]


def _updates_what_is_updated() -> list[Patch]:
    """Whoever serves is due, whatever its revision is: the update begins again with those that it has had."""
    sound = m.judge

    def judge(frame: Any, slot: Any) -> int:
        marks = sound(frame, slot)
        due = marks & m.UPDATED_AVAILABLE and not marks & (m.DOWN | m.CONDEMNED) and frame.current_name != update(frame)
        return marks | m.OUTDATED | m.OUTDATED_SERVING if due else marks

    def update(frame: Any) -> str:
        return str(frame.update_name)

    return [(m, "judge", judge)]


def _a_later_count_is_no_change() -> list[Patch]:
    """What is available is told only together with what is ready (spec 12, its defect)."""
    sound = planning.counted

    def counted(view: View) -> StatefulSetStatus:
        found, stored = sound(view), view.sts.status
        if (found.ready_replicas, found.observed_generation) != (stored.ready_replicas, stored.observed_generation):
            return found
        return msgspec.structs.replace(
            found,
            available_replicas=stored.available_replicas,
            updated_available_replicas=stored.updated_available_replicas,
        )

    return [(planning, "counted", counted)]


SET_MUTANTS: tuple[Mutant, ...] = (
    Mutant("deletes pods of sets by name alone", "set-recreate", _delete_by_name, Plan(), rule="G2, X16"),
    Mutant("deletes pods of sets without the version", "set-recreate", _delete_without_version, Plan(), rule="G2, X3"),
    Mutant("no read-your-writes gate for sets", "set-in-place", _no_gate, _stale(), rule="G6, X2"),
    Mutant(
        "counts who is down only where the update has been",
        "set-crashing-first",
        _only_in_the_window,
        Plan(),
        rule="S2, X1",
    ),
    Mutant("a pod that is missing is not down", "set-recreate", _not_counted_while_missing, Plan(), rule="S2, X46"),
    Mutant("a small percentage is nothing", "set-percent", _floored_to_nothing, Plan(), rule="L1, X4"),
    Mutant("the gate opens too early", "set-in-place", _opens_too_early, Plan(), rule="S4"),
    Mutant("the gate is not closed", "set-in-place", _does_not_close, Plan(), rule="S4, X10"),
    Mutant("revisions are compared by their bytes", "set-taken-over", _by_bytes, Plan(), rule="S6, X38"),
    Mutant("claims are created without their owners", "set-deleted", _claims_without_owners, Plan(), rule="S5, X42"),
    Mutant("a dying claim will do", "set-claim-deleted", _any_claim_will_do, Plan(), rule="S5b, X41"),
    Mutant("reserved ordinals keep their claims", "set-retention", _by_ordinal_and_replicas, Plan(), rule="S5, X11"),
    Mutant("a pod below the partition is made anew", "set-partitions", _a_new_pod_is_new, Plan(), rule="S3"),
    Mutant("the partition is not looked at", "set-partitions", lambda: _rolling(partition=0), Plan(), rule="S3"),
    Mutant(
        "priorities are not looked at",
        "set-priorities-by-order",
        lambda: _frame_of(lambda f: replace(f, ranking=lambda ordinal, _: (0, 0, -ordinal))),
        Plan(),
        rule="S3",
    ),
    Mutant(
        "the first ordinal is always none",
        "set-starts",
        lambda: _frame_of(lambda f: replace(f, ordinals=ordinal_range(f.sts.spec.replicas, 0, f.ordinals.reserved))),
        Plan(),
        rule="S1",
    ),
    Mutant("shows what a version does not have", "set-older-version", _nothing_lacks, Plan(), rule="WEB6"),
    Mutant("a pause is not looked at", "set-paused", lambda: _rolling(paused=False), Plan(), rule="S3"),
    Mutant(
        "the order is not looked at",
        "set-ordered",
        lambda: _frame_of(lambda found: replace(found, ordered=False)),
        Plan(pods=(PodFault(OnPod.SLOW_START, "*"),)),
        rule="S3",
    ),
    Mutant(
        "begins the update again with pods that have had it",
        "set-recreate",
        _updates_what_is_updated,
        Plan(),
        rule="S7",
    ),
    Mutant(
        "a count that changes later is not told",
        "set-min-ready",
        _a_later_count_is_no_change,
        Plan(),
        rule="S8, L1",
    ),
    Mutant(
        "one pod more than the budget",
        "set-recreate",
        lambda: _frame_of(lambda f: replace(f, budget=replace(f.budget, value=f.budget.value + 1))),
        Plan(writes={9: OnWrite.TOUCH}),
        rule="S2",
    ),
)
