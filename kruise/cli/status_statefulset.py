"""What ``kruise status asts/NAME`` tells of an Advanced StatefulSet: each pod that is not as desired, and why.

Purpose: the planner's own view on lists of the cluster, as a table for a person and a document for a program.

Guarantees:

* Table and document have the same facts; the document has every pod that is not as desired, the table the first ones,
  and counts the others by reason.
* ``asts`` and the names with the group mean this kind. ``sts`` and ``statefulset`` are refused: for kubectl they are
  the StatefulSet of Kubernetes itself, which may have the same name.

What this does not do: it needs no manager and asks none. It knows the feature gates of the manager only as far as it is
told (``--feature-gates``).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from kruise.apis.statefulset import FAILED_CREATE_POD, FAILED_UPDATE_POD, STATEFULSETS, StatefulSet
from kruise.cli.answer import DEGRADED, DONE, Answer, columns, next_check
from kruise.cli.cluster import Cluster
from kruise.cli.seen_statefulset import REFUSALS, PodRow, Seen, Wrong, observe, pod_rows
from kruise.controllers.common.reasons import Decision, Reason
from kruise.controllers.statefulset.explain import users_of_budget
from kruise.controllers.statefulset.setup import settings_of
from kruise.controllers.statefulset.status import wire
from kruise.controllers.statefulset.view import View
from kruise.runtime.objects import Key

__all__ = ["AMBIGUOUS", "NAMES", "as_document", "as_table", "ended", "exit_code", "look"]

NAMES: Final = ("asts", "statefulset.apps.kruise.io", "statefulsets.apps.kruise.io")
AMBIGUOUS: Final = ("sts", "statefulset", "statefulsets")
"""What kubectl takes for the kind of Kubernetes itself."""
_SHOWN: Final = 20
_CONDITIONS: Final = (
    "Available", "Progressing", "Ready", FAILED_CREATE_POD, FAILED_UPDATE_POD, "Stalled", "Degraded"
)  # fmt: skip
_WAITING: Final = frozenset(
    (
        Reason.MAX_UNAVAILABLE_REACHED,
        Reason.PARTITION_HELD,
        Reason.PAUSED,
        Reason.ON_DELETE,
        Reason.WAITING_FOR_PREDECESSOR,
    )
)
"""The pods with these reasons wait for others, or for a word of the user: what is wrong elsewhere is shown first."""


async def look(cluster: Cluster, key: Key) -> Answer:
    """Read the set and what belongs to it live. Raises NotFound and RuntimeFault with what to do."""
    found = await observe(cluster, key, settings_of(cluster.gates))
    if isinstance(found, Wrong):
        return Answer(_wrong_table(found), _wrong_document(found), DEGRADED, ended=False)
    return Answer(as_table(found), as_document(found), exit_code(found), ended=ended(found))


# ---- judging ---------------------------------------------------------------------------------------------------------


def exit_code(seen: Seen) -> int:
    """Return 2 for a set that needs a person or does not move though nobody holds it back on purpose, else 0."""
    summary = seen.summary
    if summary.degraded or summary.stalled or any(d.reason in REFUSALS for d in seen.decisions):
        return DEGRADED
    return DONE if summary.done or summary.moves or summary.reason is Reason.PAUSED else DEGRADED


def ended(seen: Seen) -> bool:
    """Tell whether there is nothing more to watch for: as desired and observed so, paused, or past help by waiting."""
    summary = seen.summary
    if seen.sts.status.observed_generation < seen.sts.metadata.generation:
        return False
    return summary.done or summary.stalled or (summary.reason is Reason.PAUSED and not summary.moves)


# ---- showing ---------------------------------------------------------------------------------------------------------


def as_document(seen: Seen) -> dict[str, Any]:
    """Return everything as one document."""
    sts, frame = seen.sts, seen.view.frame
    rows = {row.pod: row for row in pod_rows(seen)}
    return {
        **_head(sts),
        "state": _verdict(seen),
        "reason": str(seen.summary.reason),
        "message": seen.summary.message,
        "currentRevision": frame.current_name,
        "updateRevision": frame.update_name,
        "policy": _policy(seen),
        "partition": frame.rolling.partition,
        "budget": {"maxUnavailable": frame.budget.value, "used": seen.view.down},
        "ordinals": _ordinal_text(seen),
        "status": wire(sts.status),
        "decisions": [_decision(d, rows.get(d.detail.get("pod", "")), seen.now) for d in seen.decisions],
    }


def _head(sts: StatefulSet) -> dict[str, Any]:
    return {
        "kind": sts.kind or STATEFULSETS.kind,
        "namespace": sts.metadata.namespace,
        "name": sts.metadata.name,
        "replicas": sts.spec.replicas,
        "generation": sts.metadata.generation,
    }


def _decision(one: Decision, row: PodRow | None, now: float) -> dict[str, Any]:
    found: dict[str, Any] = {"subject": one.subject, "reason": str(one.reason)}
    if row is not None:
        found |= {"ordinal": row.ordinal, "pod": row.pod, "node": row.node}
        found |= {"revision": row.revision, "state": row.state}
    return found | {
        "evidence": one.evidence,
        "since": one.since or "",
        "nextCheck": next_check(one, now),
        "unblockedBy": one.unblocked_by,
    }


def as_table(seen: Seen) -> str:
    """Return the summary for a person."""
    sts, frame = seen.sts, seen.view.frame
    revisions = frame.update_name if frame.chosen.same else f"{frame.current_name} -> {frame.update_name}"
    lines = [
        f"StatefulSet {sts.key}: {_verdict(seen)}",
        f"{_policy(seen)}, revision {revisions}, ordinals {_ordinal_text(seen)}",
        _counts(seen),
        *_conditions(sts),
    ]
    found = [row for row in pod_rows(seen) if row.decision is not None]
    if found:
        found.sort(key=lambda row: row.decision is not None and row.decision.reason in _WAITING)
        lines += ["", *columns([_HEADER, *(_row(row, seen.now) for row in found[:_SHOWN])])]
        rest = Counter(row.reason for row in found[_SHOWN:])
        if rest:
            counts = ", ".join(f"{count} {reason}" for reason, count in rest.most_common())
            lines.append(f"... and {len(found) - _SHOWN} more pods ({counts}); -o json has them all")
        lines += ["", *_remedies(found)]
    return "\n".join(lines)


def _remedies(rows: list[PodRow]) -> list[str]:
    """Return what would unblock each reason, in the order in which they appear."""
    found = {row.reason: row.decision.unblocked_by for row in rows if row.decision is not None}
    return [f"{reason}: unblocked by {what}" for reason, what in found.items() if what]


_HEADER: Final = ("ORDINAL", "POD", "NODE", "REVISION", "STATE", "REASON", "NEXT CHECK", "EVIDENCE")


def _row(row: PodRow, now: float) -> tuple[str, ...]:
    decision = row.decision
    assert decision is not None
    where = row.node or "-", row.revision or "-"
    check = next_check(decision, now) or "-"
    return str(row.ordinal), row.pod, *where, row.state, row.reason, check, decision.evidence or "-"


def _verdict(seen: Seen) -> str:
    summary = seen.summary
    if seen.sts.terminating:
        return "is being deleted"
    if seen.sts.status.observed_generation == 0:
        return "not seen by a manager yet"
    if summary.done:
        return "as desired"
    if summary.stalled:
        return "stalled"
    if not summary.moves:
        return "paused" if summary.reason is Reason.PAUSED else "does not move"
    return "degraded" if summary.degraded else "moves"


def _policy(seen: Seen) -> str:
    frame = seen.view.frame
    management = seen.sts.spec.pod_management_policy or "OrderedReady"
    if not frame.rolls:
        return f"{management}, OnDelete"
    return f"{management}, RollingUpdate, {frame.rolling.pod_update_policy}"


def _ordinal_text(seen: Seen) -> str:
    """Return the ordinals of the set as ranges: ``0-2, 4``."""
    ranges: list[tuple[int, int]] = []
    for ordinal in seen.view.frame.ordinals.ordinals():
        if ranges and ranges[-1][1] == ordinal - 1:
            ranges[-1] = (ranges[-1][0], ordinal)
        else:
            ranges.append((ordinal, ordinal))
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges) or "none"


def _counts(seen: Seen) -> str:
    rolling, status = seen.view.frame.rolling, seen.sts.status
    counts = f"{status.replicas} pods, {status.updated_replicas} updated, {status.ready_replicas} ready"
    budget = f"maxUnavailable {seen.view.frame.budget.value}, down {_users(seen.view)}"
    more = f"{status.available_replicas} available; partition {rolling.partition}, {budget}"
    return f"replicas {seen.sts.spec.replicas}: {counts}, {more}"


def _users(view: View) -> str:
    return f"{view.down} ({users_of_budget(view)})" if view.down else "0"


def _conditions(sts: StatefulSet) -> list[str]:
    """Return the conditions, those that say the same in one line."""
    words: dict[tuple[str, str], list[str]] = {}
    for one in sts.status.conditions:
        if one.type in _CONDITIONS:
            words.setdefault((one.reason, one.message), []).append(f"{one.type}={one.status}")
    return [f"{' '.join(types)} {reason}: {message}" for (reason, message), types in words.items()]


def _wrong_document(wrong: Wrong) -> dict[str, Any]:
    sts = wrong.sts
    head = {**_head(sts), "state": "stalled", "reason": str(wrong.decision.reason), "message": wrong.decision.evidence}
    return {**head, "status": wire(sts.status), "decisions": [_decision(wrong.decision, None, 0.0)]}


def _wrong_table(wrong: Wrong) -> str:
    return f"StatefulSet {wrong.sts.key}: stalled\n{wrong.decision.reason}: {wrong.decision.evidence}"
