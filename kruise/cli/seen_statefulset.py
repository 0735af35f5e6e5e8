"""An Advanced StatefulSet as its planner sees it now, from lists of the cluster or from plain objects.

Purpose: what ``kruise status`` and the table of the demo show, so that both say the same.

Guarantees: the reasons are those of the planner (``explain``), computed for the objects as they are now, not those that
a manager stored some time ago. What only a manager knows, that its last write was refused, comes from the conditions
that it wrote.

What this does not do: it writes nothing, no revision either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from kruise.apis.core import CLAIMS, PODS, REVISIONS, STORAGE_CLASSES, Claim, ControllerRevision, Pod, StorageClass
from kruise.apis.ordinals import pod_name
from kruise.apis.revisiondata import RevisionDataError
from kruise.apis.selectors import Selector, SelectorError
from kruise.apis.statefulset import FAILED_CREATE_POD, STATEFULSETS, StatefulSet
from kruise.cli.answer import read
from kruise.cli.cluster import Cluster
from kruise.controllers.common.lifecycle import state_of
from kruise.controllers.common.reasons import Decision, Reason
from kruise.controllers.common.revisions import Chosen, choose, relevant
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import Chain, CreateClaim, CreatePod, DeletePod
from kruise.controllers.statefulset.claiming import Claiming, decide, selector_of
from kruise.controllers.statefulset.conditions import Summary, summarize
from kruise.controllers.statefulset.explain import explain
from kruise.controllers.statefulset.plan import plan
from kruise.controllers.statefulset.predicates import is_normal, revision_of
from kruise.controllers.statefulset.settings import DEFAULT_SETTINGS, Settings
from kruise.controllers.statefulset.sight import template_names
from kruise.controllers.statefulset.slots import Slot
from kruise.controllers.statefulset.view import View
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.objects import Key, Unreadable

__all__ = ["REFUSALS", "PodRow", "Seen", "Wrong", "observe", "pod_rows", "seen_of", "state_word"]

REFUSALS: Final = (Reason.ADMISSION_DENIED, Reason.QUOTA_EXCEEDED, Reason.NAME_CONFLICT)
_NEXT_PASS: Final = "the next pass of the manager; is one running?"  # noqa: S105 - a turn of a loop, no secret


@dataclass(frozen=True, slots=True)
class Seen:
    """A set, its view, and what the planner says of it at one moment."""

    sts: StatefulSet
    view: View
    summary: Summary
    decisions: tuple[Decision, ...]
    """Of every ordinal that is not as desired, in their order."""
    now: float


@dataclass(frozen=True, slots=True)
class Wrong:
    """A set for which there is no plan: a field of its spec says nothing."""

    sts: StatefulSet
    decision: Decision


@dataclass(frozen=True, slots=True)
class PodRow:
    """One ordinal."""

    ordinal: int
    pod: str
    node: str
    revision: str
    state: str
    """What the pod is: Missing, Pending, Updating, Available and so on."""
    decision: Decision | None
    """Why it is not as desired; ``None`` when it is."""

    @property
    def reason(self) -> str:
        """The word for it, or ``""``."""
        return "" if self.decision is None else str(self.decision.reason)


async def observe(cluster: Cluster, key: Key, settings: Settings = DEFAULT_SETTINGS) -> Seen | Wrong:
    """Return the set as the planner sees it now."""
    sts = await read(cluster, STATEFULSETS, key)
    try:
        selector = selector_of(sts)
    except SelectorError as error:
        return _wrong(sts, f"spec.selector: {error}")
    live, labels = cluster.client.live, str(selector)
    revisions = await live.list(REVISIONS, namespace=key.namespace, label_selector=labels)
    pods = await live.list(PODS, namespace=key.namespace, label_selector=labels)
    claims = await live.list(CLAIMS, namespace=key.namespace) if template_names(sts) else []
    classes = await live.list(STORAGE_CLASSES) if settings.auto_resize_claims else []
    return _seen(sts, selector, pods, claims, revisions, classes, settings, cluster.clock.now())


def seen_of(
    body: dict[str, Any],
    pods: Iterable[dict[str, Any]],
    claims: Iterable[dict[str, Any]],
    revisions: Iterable[dict[str, Any]],
    *,
    now: float,
    settings: Settings = DEFAULT_SETTINGS,
) -> Seen | None:
    """Return the same out of plain objects; ``None`` for no set, or one for which there is no plan."""
    if not body:
        return None
    sts = decode_as(StatefulSet, orjson.dumps(body))
    found = _seen(
        sts,
        selector_of(sts),
        [decode_as(Pod, orjson.dumps(one)) for one in pods],
        [decode_as(Claim, orjson.dumps(one)) for one in claims],
        [decode_as(ControllerRevision, orjson.dumps(one)) for one in revisions],
        (),
        settings,
        now,
    )
    return None if isinstance(found, Wrong) else found


def _seen(
    sts: StatefulSet,
    selector: Selector,
    pods: Iterable[Pod | Unreadable],
    claims: Iterable[Claim | Unreadable],
    revisions: Iterable[ControllerRevision | Unreadable],
    classes: Iterable[StorageClass | Unreadable],
    settings: Settings,
    now: float,
) -> Seen | Wrong:
    try:
        chosen = _choose(sts, selector, [one for one in revisions if not isinstance(one, Unreadable)])
    except RevisionDataError as error:
        return _wrong(sts, f"spec.template: {error}")
    view = View.of(
        sts,
        chosen,
        [pod for pod in pods if decide(sts, selector, pod) in (Claiming.KEEP, Claiming.ADOPT)],
        claims,
        {one.metadata.name: one for one in classes if not isinstance(one, Unreadable)},
        settings=settings,
    )
    planned = plan(view, now)
    facts = planned.facts()
    summary = summarize(view, now, facts)
    explained = {d.subject: d for d in explain(view, now, replace(facts, acted={}))}
    acted = {chain.ordinal: chain for chain in planned.chains}
    return Seen(sts, view, summary, tuple(_decisions(view, explained, acted)), now)


def _choose(sts: StatefulSet, selector: Selector, revisions: Sequence[ControllerRevision]) -> Chosen:
    """Return the revisions as the manager would choose them; what is not created yet has no object."""
    status = sts.status
    settled = status.update_revision if status.observed_generation == sts.metadata.generation else ""
    return choose(
        STATEFULSETS,
        sts,
        relevant(sts, revisions, selector),
        orjson.loads(bytes(sts.spec.template)),
        status.current_revision,
        status.collision_count,
        settled=settled,
    )


def _decisions(view: View, explained: dict[str, Decision], acted: dict[int, Chain]) -> Iterator[Decision]:
    """Yield the decision of each ordinal, in its order; what the next pass acts on says so."""
    refused = _refusal(view.sts)
    for ordinal in _ordinals(view):
        name = pod_name(view.sts.metadata.name, ordinal)
        found = explained.get(f"pod {name}")
        chain = acted.get(ordinal)
        if chain is not None:
            creates = isinstance(chain.steps[-1], CreatePod | CreateClaim)
            yield refused(name) if creates and refused is not None else _next_pass(view, chain, found)
        elif found is not None:
            yield found


class _Refused:
    """What the manager wrote of its last attempt to create pods."""

    def __init__(self, reason: Reason, message: str, since: str | None) -> None:
        self._decision = Decision(reason, "", message, since, "an API server that accepts the pod")

    def __call__(self, name: str) -> Decision:
        return replace(self._decision, subject=f"pod {name}", detail={"pod": name})


def _refusal(sts: StatefulSet) -> _Refused | None:
    status = sts.status
    if status.observed_generation != sts.metadata.generation:
        return None
    said = {one.type: one for one in status.conditions if one.status == "True"}
    failed = said.get(FAILED_CREATE_POD)
    if failed is None:
        return None
    words = {one.reason for one in status.conditions}
    reason = next((reason for reason in REFUSALS if reason in words), Reason.POD_PENDING)
    return _Refused(
        reason, f"the last attempt failed, and another follows: {failed.message}", failed.last_transition_time
    )


def _next_pass(view: View, chain: Chain, found: Decision | None) -> Decision:
    """Return the decision of an ordinal on which the next pass acts."""
    last = chain.steps[-1]
    if isinstance(last, CreatePod | CreateClaim):
        reason, text = Reason.SCALING, "the next pass creates it"
    elif isinstance(last, DeletePod):
        reason, text = Reason.UPDATING, "the next pass deletes it"
        if not view.slot(chain.ordinal).has(m.VALID):
            reason = Reason.SCALING
    else:
        reason, text = Reason.UPDATING, "the next pass goes on with it"
    detail = dict(found.detail) if found is not None else {"pod": chain.name}
    return Decision(reason, f"pod {chain.name}", text, None, _NEXT_PASS, detail)


def _ordinals(view: View) -> list[int]:
    return sorted({slot.ordinal for slot in view.slots()} | set(view.missing))


def _wrong(sts: StatefulSet, text: str) -> Wrong:
    subject = f"statefulset {sts.metadata.name}"
    return Wrong(sts, Decision(Reason.INVALID_SPEC, subject, text, unblocked_by="correcting the field"))


def pod_rows(seen: Seen) -> list[PodRow]:
    """Return every ordinal, missing ones too, in order."""
    by_subject = {decision.subject: decision for decision in seen.decisions}
    rows: list[PodRow] = []
    for ordinal in _ordinals(seen.view):
        name = pod_name(seen.sts.metadata.name, ordinal)
        slot = seen.view.get(ordinal)
        node = slot.pod.spec.node_name if slot is not None and isinstance(slot.pod, Pod) else ""
        revision = revision_of(slot.pod) if slot is not None else ""
        rows.append(PodRow(ordinal, name, node, revision, state_word(slot), by_subject.get(f"pod {name}")))
    return rows


def state_word(slot: Slot | None) -> str:
    """Return what a pod is, in one word."""
    if slot is None:
        return "Missing"
    pod = slot.pod
    if isinstance(pod, Unreadable):
        return "Unreadable"
    if pod.terminating:
        return "Terminating"
    if pod.status.phase in ("Failed", "Succeeded"):
        return pod.status.phase
    if slot.has(m.AVAILABLE):
        return "Available"
    state = state_of(pod.metadata)
    if not is_normal(pod) and state is not None:
        return str(state)
    if slot.has(m.READY):
        return "Ready"
    return "NotReady" if pod.status.phase == "Running" else "Pending"
