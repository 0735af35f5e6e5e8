"""What ``kruise status scs/NAME`` tells of a SidecarSet: each selected pod that is not as desired, and why.

Purpose: the planner's own view on lists of the cluster, as a table for a person and a document for a program.

Guarantees: table and document have the same facts; the document has every pod that is not as desired, the table the
first ones, and counts the others by reason. A SidecarSet belongs to no namespace: the pods are those of all.

What this does not do: it needs no manager and asks none.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec

from kruise.apis.selectors import SelectorError, convert_fast
from kruise.apis.sidecarset import AVAILABLE, INJECTED, PROGRESSING, SIDECARSETS, SidecarSet
from kruise.cli.answer import DEGRADED, DONE, Answer, columns, next_check
from kruise.cli.cluster import Cluster
from kruise.cli.seen_sidecarset import PodRow, Seen, observe
from kruise.controllers.common.reasons import Reason
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.order import budget
from kruise.controllers.sidecarset.status import wire
from kruise.runtime.objects import Key

__all__ = ["NAMES", "as_document", "as_table", "ended", "exit_code", "look"]

NAMES: Final = ("scs", "sidecarset", "sidecarsets", "sidecarset.apps.kruise.io", "sidecarsets.apps.kruise.io")
_SHOWN: Final = 20
_CONDITIONS: Final = (AVAILABLE, PROGRESSING, INJECTED)
_WRONG: Final = frozenset(
    (
        Reason.IMAGE_PULL_FAILED,
        Reason.CRASH_LOOPING,
        Reason.POD_UNREADABLE,
        Reason.NOT_INJECTED,
        Reason.CONTAINER_NAME_CONFLICT,
        Reason.IMMUTABLE_FIELD_CHANGED,
        Reason.INVALID_SPEC,
        Reason.ADMISSION_DENIED,
    )
)
"""What a person has to do something about."""
_WANTED: Final = {
    Reason.COMPLETE: "as desired",
    Reason.PAUSED: "paused",
    Reason.NOT_UPDATE: "does not update",
    Reason.PARTITION_HELD: "held by the partition",
    Reason.SELECTOR_MISMATCH: "held by the selector of the update",
}
"""Why an upgrade stands still because somebody wants it so."""
_NO_HASH: Final = (
    "it has no hash, so nobody can tell which pods have its latest version: it was stored while no webhook was called; "
    "save it again"
)
_OVER: Final = frozenset((*_WANTED, Reason.IMMUTABLE_FIELD_CHANGED, Reason.INVALID_SPEC))
_CALM: Final = frozenset(
    (
        Reason.PAUSED,
        Reason.NOT_UPDATE,
        Reason.PARTITION_HELD,
        Reason.SELECTOR_MISMATCH,
        Reason.MAX_UNAVAILABLE_REACHED,
        Reason.REVISION_PINNED,
        Reason.CREATED_BEFORE_SIDECAR_SET,
        Reason.INJECTION_PAUSED,
        Reason.INJECTION_EXEMPT,
        Reason.NAMESPACE_NOT_SELECTED,
    )
)
"""The pods with these reasons wait for others, or are left alone on purpose: what is wrong elsewhere is shown first."""


async def look(cluster: Cluster, key: Key) -> Answer:
    """Read the set and the pods that it selects live. Raises NotFound and RuntimeFault with what to do."""
    found = await observe(cluster, key.name)
    return Answer(as_table(found), as_document(found), exit_code(found), ended=ended(found))


# ---- judging ---------------------------------------------------------------------------------------------------------


def exit_code(seen: Seen) -> int:
    """Return 2 for a set that needs a person or does not move though nobody holds it back on purpose, else 0."""
    if _wrong(seen):
        return DEGRADED
    moving = seen.progressing
    return DONE if moving.status == "True" or moving.reason in _WANTED else DEGRADED


def ended(seen: Seen) -> bool:
    """Tell whether there is nothing more to watch for: as desired and observed so, held, or past help by waiting."""
    if seen.one.status.observed_generation < seen.one.metadata.generation:
        return False
    return seen.progressing.status == "False" and seen.progressing.reason in _OVER


def _wrong(seen: Seen) -> bool:
    return bool(seen.view.frame.problem) or any(row.decision.reason in _WRONG for row in seen.rows)


def _verdict(seen: Seen) -> str:
    if seen.one.terminating:
        return "is being deleted"
    if seen.view.frame.problem:
        return "stalled"
    if seen.one.status.observed_generation == 0:
        return "not seen by a manager yet"
    if _wrong(seen):
        return "degraded"
    moving = seen.progressing
    if moving.status == "True":
        return "moves"
    return _WANTED.get(Reason(moving.reason), "does not move")


# ---- showing ---------------------------------------------------------------------------------------------------------


def as_document(seen: Seen) -> dict[str, Any]:
    """Return everything as one document."""
    one, view, moving = seen.one, seen.view, seen.progressing
    strategy = one.spec.update_strategy
    return {
        "kind": one.kind or SIDECARSETS.kind,
        "name": one.metadata.name,
        "generation": one.metadata.generation,
        "state": _verdict(seen),
        "reason": moving.reason,
        "message": moving.message,
        "latestRevision": view.revision,
        "policy": _policy(seen),
        "partition": strategy.partition,
        "budget": {"maxUnavailable": strategy.max_unavailable, "pods": _budget(seen), "used": view.count(m.BUSY)},
        "namespaces": _namespaces(one),
        "counts": {
            "matched": view.count(m.MATCHED),
            "updated": view.count(m.UPDATED),
            "ready": view.count(m.READY),
            "updatedReady": view.count(m.UPDATED_READY),
            "notInjected": view.count(m.MISSED) + view.count(m.LACKING),
        },
        "status": wire(one.status),
        "conditions": wire(seen.status)["conditions"],
        "hidden": seen.hidden,
        "notes": [] if one.hash else [_NO_HASH],
        "decisions": [_decision(row, seen.planned.now) for row in seen.rows],
    }


def _decision(row: PodRow, now: float) -> dict[str, Any]:
    one = row.decision
    fields = one.detail.get("fields")
    return {
        "subject": one.subject,
        "reason": str(one.reason),
        "namespace": row.key.namespace,
        "pod": row.key.name,
        "node": row.node,
        "revision": row.revision,
        "state": row.state,
        **({"fields": fields.split(", ")} if fields else {}),
        "evidence": one.evidence,
        "since": one.since or "",
        "nextCheck": next_check(one, now),
        "unblockedBy": one.unblocked_by,
    }


_HEADER: Final = ("POD", "NODE", "REVISION", "STATE", "REASON", "NEXT CHECK", "EVIDENCE")


def as_table(seen: Seen) -> str:
    """Return the summary for a person."""
    one = seen.one
    lines = [
        f"SidecarSet {one.metadata.name}: {_verdict(seen)}",
        f"{_policy(seen)}, revision {seen.view.revision or '-'}, {_namespaces(one)}",
        _counts(seen),
        *(f"{c.type}={c.status} {c.reason}: {c.message}" for c in one.status.conditions if c.type in _CONDITIONS),
    ]
    if seen.view.frame.problem:
        lines.append(f"{Reason.INVALID_SPEC}: {seen.view.frame.problem}")
    if not one.hash:
        lines.append(f"note: {_NO_HASH}")
    rows = sorted(seen.rows, key=lambda row: row.decision.reason in _CALM)
    if rows:
        now = seen.planned.now
        lines += ["", *columns([_HEADER, *(_row(row, now) for row in rows[:_SHOWN])])]
        rest = Counter(str(row.decision.reason) for row in rows[_SHOWN:])
        if rest:
            counts = ", ".join(f"{count} {reason}" for reason, count in rest.most_common())
            lines.append(f"... and {len(rows) - _SHOWN} more pods ({counts}); -o json has them all")
        lines += ["", *_remedies(rows)]
    return "\n".join(lines)


def _row(row: PodRow, now: float) -> tuple[str, ...]:
    check, evidence = next_check(row.decision, now) or "-", row.decision.evidence or "-"
    return str(row.key), row.node or "-", row.revision or "-", row.state, row.reason, check, evidence


def _remedies(rows: list[PodRow]) -> list[str]:
    """Return what would unblock each reason, in the order in which they appear."""
    found = dict.fromkeys((str(row.decision.reason), row.decision.unblocked_by) for row in rows)
    return [f"{reason}: unblocked by {what}" for reason, what in found if what]


def _policy(seen: Seen) -> str:
    spec = seen.one.spec
    parts = [spec.update_strategy.type]
    if spec.update_strategy.paused:
        parts.append("paused")
    if spec.injection_strategy.paused:
        parts.append("injection paused")
    pinned = spec.injection_strategy.revision
    if pinned is not None and (pinned.revision_name or pinned.custom_version):
        parts.append(f"new pods get {pinned.revision_name or pinned.custom_version} ({pinned.policy})")
    return ", ".join(parts)


def _namespaces(one: SidecarSet) -> str:
    """Say in which namespaces the set selects pods."""
    chosen = one.spec.namespace_selector
    if chosen is None:
        return "all namespaces"
    try:
        return f"namespaces with {convert_fast(msgspec.to_builtins(chosen))}"
    except SelectorError as error:
        return f"no namespace: {error}"


def _budget(seen: Seen) -> int:
    return max(0, budget(seen.one.spec.update_strategy, seen.view.count(m.MATCHED)))


def _counts(seen: Seen) -> str:
    view, strategy = seen.view, seen.one.spec.update_strategy
    counts = f"{view.count(m.UPDATED)} updated, {view.count(m.READY)} ready, {view.count(m.UPDATED_READY)} both"
    allowed = f"maxUnavailable {strategy.max_unavailable}"
    if isinstance(strategy.max_unavailable, str):
        allowed += f" ({_budget(seen)})"
    return (
        f"{view.count(m.MATCHED)} pods injected: {counts}; partition {strategy.partition}, {allowed}, "
        f"on their way {view.count(m.BUSY)}"
    )
