"""Why a pod does not have the sidecars that the set would give it: the answer of ``kruise status scs/NAME``.

Purpose: the reasons of single pods, computed from the planner's own view when somebody asks.

Guarantees: every selected pod that is not as desired gets exactly one reason, with evidence that names the pod, and
what would change it (ecosystem 6.2). What differs beyond images is named by container and field, from the revisions.

What this does not do: nothing is stored, and nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kruise.apis.core import Pod
from kruise.apis.sidecarset import INPLACE_STATE_ANNOTATION
from kruise.apis.sidecarset_hash import canonical_sidecar
from kruise.controllers.common.reasons import WAITING_REASONS, Decision, Reason, reason_of_refusal
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.plan import ordered, window
from kruise.controllers.sidecarset.podannotations import parse_states
from kruise.controllers.sidecarset.revisions import content_of
from kruise.controllers.sidecarset.slots import Slot
from kruise.controllers.sidecarset.view import View
from kruise.runtime.objects import Key, Unreadable

__all__ = ["Facts", "changed_fields", "explain", "explain_one"]

_FIX: Final = {
    Reason.PAUSED: "spec.updateStrategy.paused: false",
    Reason.NOT_UPDATE: "spec.updateStrategy.type: RollingUpdate, or a new pod",
    Reason.PARTITION_HELD: "a smaller spec.updateStrategy.partition",
    Reason.MAX_UNAVAILABLE_REACHED: "the pods that are on their way, or a larger spec.updateStrategy.maxUnavailable",
    Reason.SELECTOR_MISMATCH: "a spec.updateStrategy.selector that matches the pod",
    Reason.IMMUTABLE_FIELD_CHANGED: "a new pod: only images change in place",
    Reason.REVISION_PINNED: "another spec.injectionStrategy.revision, or spec.updateStrategy.type: RollingUpdate",
    Reason.IMAGE_PULL_FAILED: "a correct image, or access to its registry",
    Reason.CRASH_LOOPING: "a program that does not exit with an error",
    Reason.READINESS_FAILING: "a pod that becomes ready",
    Reason.POD_UNREADABLE: "repairing or deleting the pod",
    Reason.NOT_INJECTED: "a new pod, with the webhook serving",
    Reason.CREATED_BEFORE_SIDECAR_SET: "a new pod: injection happens at creation only",
    Reason.INJECTION_PAUSED: "spec.injectionStrategy.paused: false, then a new pod",
    Reason.INJECTION_EXEMPT: "a pod in another namespace, or without the label",
    Reason.NAMESPACE_NOT_SELECTED: "a spec.namespaceSelector that matches the namespace",
    Reason.INVALID_SPEC: "correcting the field",
    Reason.UPDATING: "the end of the upgrade",
}
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """What a pass adds to the view."""

    acted: Collection[Key] = frozenset()
    """The pods that it changes."""
    troubles: Mapping[Key, str] = field(default_factory=dict)
    failures: Mapping[str, Exception] = field(default_factory=dict)
    """By pod uid, the last error of those that wait for their next attempt."""
    contents: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """By revision name, the lists of a version (``content_of_revision``)."""
    held: frozenset[Key] | None = None
    """The waiting pods that the partition keeps, where somebody worked that out already."""
    changed: dict[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    """By revision name, what differs from the latest version beside images: worked out once for all pods of it."""


def held_back(view: View) -> frozenset[Key]:
    """Return the waiting pods that the partition keeps as they are."""
    order = list(ordered(view))
    return frozenset(order[window(view) :])


def explain(view: View, facts: Facts) -> Iterator[Decision]:
    """Yield a reason for every pod that is not as desired, by namespace and name."""
    facts = replace(facts, held=held_back(view))
    for slot in view.slots():
        found = explain_one(view, slot, facts)
        if found is not None:
            yield found
    for key, _ in view.strangers():
        text = f"the namespace {key.namespace} does not match spec.namespaceSelector"
        yield _decision(Reason.NAMESPACE_NOT_SELECTED, key, text)


def explain_one(view: View, slot: Slot, facts: Facts) -> Decision | None:
    """Return why a selected pod is not as desired; ``None`` for one that is, and for one that is over."""
    found = _reason(view, slot, facts)
    if found is None:
        return None
    fields = facts.changed.get(slot.revision, ()) if found[0] is Reason.IMMUTABLE_FIELD_CHANGED else ()
    return _decision(found[0], slot.key, found[1], **({"fields": ", ".join(fields)} if fields else {}))


def _decision(reason: Reason, key: Key, text: str, **more: str) -> Decision:
    detail = {"pod": key.name, "namespace": key.namespace, **more}
    return Decision(reason, f"pod {key}", text, unblocked_by=_FIX.get(reason, ""), detail=detail)


_OUTSIDE: Final = {
    m.MISSED: (Reason.NOT_INJECTED, "it was created without the sidecars"),
    m.OLDER: (Reason.CREATED_BEFORE_SIDECAR_SET, "it is older than the set"),
    m.HELD: (Reason.INJECTION_PAUSED, "it was created without the sidecars, and injection is paused"),
    m.EXEMPT: (Reason.INJECTION_EXEMPT, "nothing is injected into this pod, whatever selects it"),
}


def _reason(view: View, slot: Slot, facts: Facts) -> tuple[Reason, str] | None:
    for mark, found in _OUTSIDE.items():
        if slot.has(mark):
            return found
    pod = slot.pod
    if isinstance(pod, Unreadable):
        return (Reason.POD_UNREADABLE, f"{pod.path}: {pod.problem}") if slot.has(m.UNREADABLE) else None
    if slot.has(m.LACKING):
        have = {container.name for container in (*pod.spec.containers, *pod.spec.init_containers)}
        lacks = ", ".join(sorted(view.frame.pod_names - have)) or "the note which twin works"
        return Reason.NOT_INJECTED, f"it was injected, and lacks {lacks}"
    if not slot.has(m.MATCHED) or (slot.has(m.UPDATED) and slot.has(m.READY)):
        return None
    if slot.has(m.UPDATED):
        return _coming(view, slot, pod)
    return _outdated(view, slot, pod, facts)


def _coming(view: View, slot: Slot, pod: Pod) -> tuple[Reason, str]:
    """Say what an upgraded pod waits for."""
    stuck = _stuck(pod)
    if stuck is not None:
        return stuck
    if slot.has(m.FLIP) or slot.has(m.REPAIR):
        return Reason.UPDATING, "a twin of a hot upgrade has yet to be emptied"
    statuses = {status.name: status for status in pod.status.container_statuses}
    for target in view.frame.targets:
        for name in target.names:
            if name in statuses and not statuses[name].ready:
                return Reason.READINESS_FAILING, f"container {name} is not ready"
    if not slot.has(m.UP):
        return Reason.READINESS_FAILING, "it has the latest sidecars, and is not ready"
    return Reason.UPDATING, "its containers do not run the new images yet"


def _stuck(pod: Pod) -> tuple[Reason, str] | None:
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in WAITING_REASONS:
            said = f": {waiting.message}" if waiting.message else ""
            return WAITING_REASONS[waiting.reason], f"container {status.name} is waiting: {waiting.reason}{said}"
    return None


def _outdated(view: View, slot: Slot, pod: Pod, facts: Facts) -> tuple[Reason, str]:
    frame = view.frame
    pinned = frame.set.spec.injection_strategy.revision
    if frame.problem:
        return Reason.INVALID_SPEC, frame.problem
    if not frame.updates and pinned is not None and slot.revision and slot.revision == pinned.revision_name:
        return Reason.REVISION_PINNED, f"new pods are pinned to {slot.revision}"
    if not frame.updates:
        return Reason.NOT_UPDATE, "spec.updateStrategy.type is NotUpdate"
    if slot.has(m.IMMUTABLE):
        fields = _fields(view, slot, facts)
        return Reason.IMMUTABLE_FIELD_CHANGED, f"changed beside images: {', '.join(fields)}"
    if frame.paused:
        return Reason.PAUSED, "spec.updateStrategy.paused is set"
    if slot.has(m.UNSELECTED):
        return Reason.SELECTOR_MISMATCH, "spec.updateStrategy.selector does not match it"
    if slot.key in facts.acted:
        return Reason.UPDATING, "it is being upgraded"
    if slot.has(m.STARTED):
        return _stuck(pod) or _started(pod)
    if slot.key in facts.troubles:
        return Reason.INVALID_SPEC, facts.troubles[slot.key]
    failure = facts.failures.get(pod.uid)
    if failure is not None:
        return reason_of_refusal(failure) or Reason.UPDATING, f"its upgrade failed: {failure}"
    held = held_back(view) if facts.held is None else facts.held
    if slot.key in held:
        kept = frame.set.spec.update_strategy.partition
        return Reason.PARTITION_HELD, f"partition {kept} keeps it at its version"
    return Reason.MAX_UNAVAILABLE_REACHED, f"on their way: {_users(view)}"


def _started(pod: Pod) -> tuple[Reason, str]:
    text = pod.metadata.annotations.get(INPLACE_STATE_ANNOTATION)
    if text is not None and parse_states(text) is None:
        return Reason.POD_UNREADABLE, f"its annotation {INPLACE_STATE_ANNOTATION} cannot be read: delete that"
    return Reason.UPDATING, "an earlier upgrade of it has to end first"


def _users(view: View) -> str:
    busy = view.listed(m.BUSY)
    if not busy:
        return f"none, maxUnavailable is {view.frame.set.spec.update_strategy.max_unavailable}"
    named = ", ".join(str(key) for key in busy[:_NAMED])
    return named if len(busy) <= _NAMED else f"{named} and {len(busy) - _NAMED} more"


# ---- what differs ----------------------------------------------------------------------------------------------------


def _fields(view: View, slot: Slot, facts: Facts) -> tuple[str, ...]:
    old = facts.contents.get(slot.revision)
    if old is None:
        return (f"unknown, the revision {slot.revision or 'of the pod'} is not kept",)
    if slot.revision not in facts.changed:
        facts.changed[slot.revision] = changed_fields(old, content_of(view.frame.set))
    return facts.changed[slot.revision] or ("nothing by now",)


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what differs between two versions, beside images, in what running pods have of them.

    >>> changed_fields({"containers": [{"name": "a"}]}, {"containers": [{"name": "a", "env": [{"name": "X"}]}]})
    ('containers[a].env',)
    """
    found = list(_changed("containers", old, new))
    natives = [
        one
        for version in (old, new)
        for one in version.get("initContainers") or ()
        if isinstance(one, dict) and one.get("restartPolicy") == "Always"
    ]
    if natives:
        found += _changed("initContainers", old, new)
    return tuple(found)


def _changed(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = _by_name(old.get(kind)), _by_name(new.get(kind))
    for name in sorted(before.keys() | after.keys()):
        at = f"{kind}[{name}]"
        if name not in before:
            yield f"{at} added"
        elif name not in after:
            yield f"{at} removed"
        else:
            keys = sorted(before[name].keys() | after[name].keys())
            yield from (f"{at}.{k}" for k in keys if k != "image" and before[name].get(k) != after[name].get(k))
    if before.keys() == after.keys() and list(before) != list(after):
        yield f"{kind} order"


def _by_name(containers: Any) -> dict[str, dict[str, Any]]:
    forms = (canonical_sidecar(one) for one in containers or () if isinstance(one, dict))
    return {str(form.get("name")): form for form in forms}
