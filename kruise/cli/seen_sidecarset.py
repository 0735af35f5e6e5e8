"""A SidecarSet as its planner sees it now, from lists of the cluster: every pod that it selects, in all namespaces.

Purpose: what ``kruise status scs/NAME`` shows.

Guarantees:

* The reasons are those of the planner (``explain``), for the objects as they are now, not those that a manager stored.
* Of a pod that was created without the sidecars, the code of the webhook says what it would get today: a conflict with
  another set and a Pod Security level are named, and told from a webhook that did not answer.

What this does not do: it writes nothing, and it does not know which writes of a manager failed lately.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from kruise.apis.core import PODS, Pod
from kruise.apis.revisiondata import RevisionDataError
from kruise.apis.sidecarset import PROGRESSING, SIDECARSETS, SidecarSet, SidecarSetCondition, SidecarSetStatus
from kruise.apis.sidecarset_rules import effective
from kruise.cli.answer import read
from kruise.cli.cluster import Cluster
from kruise.cli.seen_sets import WHOLE_PODS, WholePod, read_namespaces, read_revisions, read_world
from kruise.controllers.common.reasons import Decision, Reason
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.actions import Change, Why
from kruise.controllers.sidecarset.explain import Facts, explain
from kruise.controllers.sidecarset.match import canary_base
from kruise.controllers.sidecarset.plan import Plan, plan
from kruise.controllers.sidecarset.revisions import choose_revision, content_of_revision, revisions_of
from kruise.controllers.sidecarset.slots import Slot
from kruise.controllers.sidecarset.status import settle
from kruise.controllers.sidecarset.view import View
from kruise.runtime.clock import format_time
from kruise.runtime.objects import Key, Unreadable
from kruise.webhooks.inject import explain as explain_injection
from kruise.webhooks.inject_outcome import InjectionRefused, Note, NoteReason, Request
from kruise.webhooks.inject_snapshot import Snapshot

__all__ = ["PodRow", "Seen", "observe", "state_word"]

_NEXT_PASS: Final = "the next pass of the manager; is one running?"  # noqa: S105 - a turn of a loop, no secret
_NEXT_WORDS: Final = {
    Why.UPGRADE: "the next pass upgrades it",
    Why.FLIP: "the next pass empties the twin that worked before",
    Why.REPAIR: "the next pass empties the twin that failed",
}


@dataclass(frozen=True, slots=True)
class PodRow:
    """One pod that is not as the set wants it."""

    key: Key
    node: str
    revision: str
    state: str
    decision: Decision

    @property
    def reason(self) -> str:
        """The word for it, with the fields that changed where that is the reason."""
        fields = self.decision.detail.get("fields")
        return f"{self.decision.reason}({fields})" if fields else str(self.decision.reason)


@dataclass(frozen=True, slots=True)
class Seen:
    """A set, its view, and what the planner says of it at one moment."""

    one: SidecarSet
    view: View
    planned: Plan
    status: SidecarSetStatus
    """What a manager would write now."""
    rows: tuple[PodRow, ...]
    hidden: str = ""
    """Why the revisions could not be read: then nobody can say which fields changed."""

    @property
    def progressing(self) -> SidecarSetCondition:
        """Whether an upgrade gets on, and why not."""
        return next(one for one in self.status.conditions if one.type == PROGRESSING)


async def observe(cluster: Cluster, name: str) -> Seen:
    """Return the set as the planner sees it now."""
    one = effective(await read(cluster, SIDECARSETS, Key("", name)))
    live, own = cluster.client.live, cluster.manager_namespace
    listed, hidden = await read_revisions(cluster, name)
    kept = revisions_of(one, listed, own)
    revision, hidden = _latest(one, kept, own, hidden)
    others = await live.list(SIDECARSETS)
    canaries = [s.metadata.name for s in others if canary_base(s.metadata.annotations) == name]
    spaces = await read_namespaces(cluster) if one.spec.namespace_selector is not None else {}
    view = View(one, revision=revision, own_namespace=own, canaries=canaries)
    for space, labels in spaces.items():
        view.set_namespace(space, labels)
    selector = view.frame.matcher.pods
    pods = await live.list(PODS, label_selector=str(selector)) if selector is not None else []
    for pod in pods:
        view.set_pod(pod.key, pod)
    now = cluster.clock.now()
    planned = plan(view, now)
    facts = Facts(
        acted=frozenset(change.pod.key for change in planned.changes if change.why is not Why.MARK),
        troubles=planned.troubles,
        contents=dict(_contents((item.metadata.name, bytes(item.data)) for item in kept)),
    )
    status = settle(view, planned, collision_count=one.status.collision_count or 0, facts=facts).status
    notes = await _injected_today(cluster, one, view, now)
    rows = tuple(_rows(view, planned, facts, notes, hidden))
    return Seen(one, view, planned, status or one.status, rows, hidden)


def _latest(one: SidecarSet, kept: Any, own: str, hidden: str) -> tuple[str, str]:
    """Return the name of the latest revision, whether it is created yet or not, and why it is not known."""
    if hidden:
        return one.status.latest_revision, hidden
    try:
        return choose_revision(one, kept, own).update.name, ""
    except RevisionDataError as error:
        return one.status.latest_revision, str(error)


def _contents(revisions: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, data in revisions:
        try:
            yield name, content_of_revision(data)
        except RevisionDataError:
            continue  # its fields are then unknown, as those of a revision that is gone


# ---- rows ------------------------------------------------------------------------------------------------------------


def _rows(view: View, planned: Plan, facts: Facts, notes: Mapping[Key, Note], hidden: str) -> Iterator[PodRow]:
    acted = {change.pod.key: change for change in planned.changes}
    for decision in explain(view, facts):
        key = Key(decision.detail["namespace"], decision.detail["pod"])
        slot = view.get(key)
        yield PodRow(
            key=key,
            node=slot.pod.spec.node_name if slot is not None and isinstance(slot.pod, Pod) else "",
            revision=slot.revision if slot is not None else "",
            state=state_word(slot),
            decision=_finished(decision, acted.get(key), notes.get(key), hidden),
        )


def _finished(decision: Decision, change: Change | None, note: Note | None, hidden: str) -> Decision:
    """Return *decision* with what only this moment, or the webhook, knows."""
    if change is not None and change.why in _NEXT_WORDS:
        return replace(decision, evidence=_NEXT_WORDS[change.why], unblocked_by=_NEXT_PASS)
    if decision.reason is Reason.IMMUTABLE_FIELD_CHANGED and hidden:
        return replace(decision, evidence=f"more than images changed; {hidden}")
    return _missed(decision, note) if note is not None else decision


def _missed(decision: Decision, note: Note) -> Decision:
    """Return why a pod has no sidecars, as the webhook would say it of a pod like it now."""
    if note.reason is NoteReason.CONFLICT:
        wanted = "other names, or selectors that do not overlap; then a new pod"
        return replace(decision, reason=Reason.CONTAINER_NAME_CONFLICT, evidence=note.message, unblocked_by=wanted)
    if note.reason is NoteReason.POD_SECURITY:
        wanted = "sidecars that the level of the namespace allows; then a new pod"
        return replace(decision, evidence=note.message, unblocked_by=wanted)
    if note.reason is NoteReason.INJECTED:
        return replace(decision, evidence=f"{decision.evidence}; a pod like it would get them now")
    return replace(decision, evidence=f"{decision.evidence}; a pod like it would not get them now: {note.message}")


async def _injected_today(cluster: Cluster, one: SidecarSet, view: View, now: float) -> dict[Key, Note]:
    """Return, of every pod that was created without the sidecars, what the webhook would do today."""
    missed = frozenset(view.listed(m.MISSED))
    if not missed:
        return {}
    world = await read_world(cluster)
    if world.uncalled:
        return {key: Note(one.metadata.name, NoteReason.UNUSABLE, world.uncalled) for key in missed}
    snapshot = world.snapshot()
    pods = await cluster.client.live.list(WHOLE_PODS, label_selector=str(view.frame.matcher.pods))
    found = ((pod, _note(snapshot, one.metadata.name, pod, now)) for pod in pods if isinstance(pod, WholePod))
    return {pod.key: note for pod, note in found if pod.key in missed and note is not None}


def _note(snapshot: Snapshot, name: str, pod: WholePod, now: float) -> Note | None:
    request = Request(uid=pod.uid, namespace=pod.key.namespace)
    try:
        notes = explain_injection(pod.as_json(), request, snapshot, now=format_time(now))
    except InjectionRefused as error:
        return Note(name, NoteReason.UNUSABLE, f"it would be refused: {error}")
    return next((note for note in notes if note.set_name == name), None)


def state_word(slot: Slot | None) -> str:
    """Return what a pod is to the set, in one word."""
    if slot is None:
        return "NotSelected"
    if isinstance(slot.pod, Unreadable):
        return "Unreadable"
    if slot.has(m.LACKING):
        return "Incomplete"
    if not slot.has(m.MATCHED):
        return "NotInjected"
    if slot.has(m.UPDATED):
        return "Updated" if slot.has(m.READY) else "Updating"
    return "Outdated"
