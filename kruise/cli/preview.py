"""What admission would make of one pod, told set by set: what it gets from which, and why not from the others.

Purpose: the answer of ``kruise inject-check``.

Guarantees:

* The code of the webhook decides (``webhooks.inject``), and its patch is applied as the webhook applies it. Nothing is
  judged a second time here, only named.
* Every set of the cluster has exactly one row. Of a pod that runs, the row says what the pod has as well.

What this does not do: it does not know what other webhooks would do to the pod, nor what a controller adds to it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from kruise.apis.podtemplate import default_pod_template
from kruise.apis.sidecarset import HASH_ANNOTATION, INJECTED_LIST_ANNOTATION, POLICY_PARTIAL
from kruise.cli.seen_sets import World
from kruise.controllers.common.reasons import Reason
from kruise.controllers.sidecarset.podannotations import Entry, injected_names, parse_entries
from kruise.runtime.clock import parse_time
from kruise.runtime.webhook.patching import apply_patch
from kruise.webhooks.inject import explain, inject
from kruise.webhooks.inject_outcome import LEFT_OUT, InjectionRefused, Note, NoteReason, Outcome, Request
from kruise.webhooks.inject_set import CompiledSet
from kruise.webhooks.inject_snapshot import Candidate, Snapshot

__all__ = ["Preview", "SetRow", "preview", "text_of"]

_UID: Final = "kruise-inject-check"
"""The same lot for the same pod at every call."""
_ALREADY: Final = "AlreadyInjected"
_OUTDATED: Final = "OutdatedRevision"
_REFUSED: Final = "PodRefused"
_BAD: Final = frozenset((*LEFT_OUT, NoteReason.UNUSABLE, Reason.NOT_INJECTED, _REFUSED))
"""The reasons of rows that somebody has to do something about."""


@dataclass(frozen=True, slots=True)
class SetRow:
    """One set and one pod."""

    name: str
    injected: bool
    """Whether the pod has it, or would have it."""
    reason: str
    message: str
    revision: str = ""
    containers: tuple[str, ...] = ()

    @property
    def bad(self) -> bool:
        """Whether something is in the way that nobody wanted."""
        return self.reason in _BAD


@dataclass(frozen=True, slots=True)
class Preview:
    """One pod."""

    rows: tuple[SetRow, ...]
    remarks: tuple[str, ...] = ()
    """What is odd, without being the matter of one set."""
    refused: str = ""
    """Why the pod would not be created at all."""
    before: dict[str, Any] = field(default_factory=dict, hash=False)
    after: dict[str, Any] = field(default_factory=dict, hash=False)
    patch: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    """What admission answers for a pod that is created; nothing is sent to one that runs."""

    @property
    def bad(self) -> bool:
        """Whether a set gives nothing though it selects the pod, and nobody wanted that."""
        return bool(self.refused) or any(row.bad for row in self.rows)


def preview(
    pod: dict[str, Any], namespace: str, world: World, snapshot: Snapshot, *, now: str, sort_by_name: bool, live: bool
) -> Preview:
    """Return what becomes of *pod*, plain JSON. *live*: it runs, and is asked what it has."""
    request = Request(uid=_UID, namespace=namespace)
    try:
        outcome = inject(pod, request, snapshot, now=now, sort_by_name=sort_by_name)
        notes = explain(pod, request, snapshot, now=now)
    except InjectionRefused as error:
        return _refused(pod, snapshot, error.told)
    operations = json.loads(outcome.patch or b"[]")
    after = apply_patch(copy.deepcopy(pod), operations)
    rows = [_row(note, pod, after, snapshot) for note in notes]
    if live:
        rows = [_living(row, pod, after, world) for row in rows]
        after, operations = _as_new(pod, after, rows), []
    rows.sort(key=lambda row: (not row.injected, not row.bad, row.name))
    return Preview(tuple(rows), tuple(_remarks(outcome, pod, snapshot)), "", pod, after, tuple(operations))


def _refused(pod: dict[str, Any], snapshot: Snapshot, why: str) -> Preview:
    """Return the answer for a pod that no set gets into, because it would not be created."""
    names = sorted({*(one.current.name for one in snapshot.sets), *snapshot.unusable})
    rows = tuple(SetRow(name, False, _REFUSED, "the pod would be refused") for name in names)
    return Preview(rows, refused=why, before=pod, after=pod)


def _remarks(outcome: Outcome, pod: Mapping[str, Any], snapshot: Snapshot) -> Iterable[str]:
    for note in outcome.notes:
        if note.reason is NoteReason.REPLACED:
            yield f"SidecarSet {note.set_name}: {note.message}"
    for one in snapshot.sets:
        chosen = one.current.injection
        if one.current.name in outcome.injected and chosen is not None and chosen.policy == POLICY_PARTIAL:
            yield (
                f"SidecarSet {one.current.name}: which new pods get the revision of injectionStrategy is drawn by lot "
                f"(policy Partial, partition {one.current.partition}); this is one draw"
            )
    if _marks(pod).get(INJECTED_LIST_ANNOTATION):
        gone = set(injected_names(_marks(pod)[INJECTED_LIST_ANNOTATION])) - {one.current.name for one in snapshot.sets}
        gone -= set(snapshot.unusable)
        yield from (
            f"SidecarSet {name}: the pod has its sidecars, and there is no such set any more" for name in sorted(gone)
        )


# ---- rows ------------------------------------------------------------------------------------------------------------


def _row(note: Note, pod: Mapping[str, Any], after: Mapping[str, Any], snapshot: Snapshot) -> SetRow:
    if note.reason is not NoteReason.INJECTED:
        return SetRow(note.set_name, False, note.reason, note.message)
    candidate = next(one for one in snapshot.sets if one.current.name == note.set_name)
    entry = _entry(after, note.set_name)
    chosen = _chosen(candidate, entry)
    names = tuple(name for sidecar in chosen.parts.sidecars for name in sidecar.names)
    text = _gains(chosen, pod) or note.message
    if chosen is not candidate.current:
        text += "; as in the revision that injectionStrategy names"
    return SetRow(note.set_name, True, note.reason, text, entry.revision, names)


def _chosen(candidate: Candidate, entry: Entry) -> CompiledSet:
    """Return the revision that the pod got."""
    old = candidate.historical
    if isinstance(old, CompiledSet) and (entry.hash, entry.revision) == (old.hash, old.revision):
        return old
    return candidate.current


def _gains(chosen: CompiledSet, pod: Mapping[str, Any]) -> str:
    """Say what a pod gets from a set."""
    spec = pod.get("spec") or {}
    present = {one.get("name") for one in spec.get("volumes") or ()}
    parts = {
        "init containers": [name for sidecar in chosen.parts.init for name in sidecar.names],
        "containers": [name for sidecar in chosen.parts.containers for name in sidecar.names],
        "volumes": [name for name in chosen.parts.used_volumes if name not in present],
        "pull secrets": list(chosen.secrets),
        "annotations": sorted({key for patch in chosen.patches for key in patch.annotations}),
    }
    return "; ".join(f"{what} {', '.join(names)}" for what, names in parts.items() if names)


def _living(row: SetRow, pod: Mapping[str, Any], after: Mapping[str, Any], world: World) -> SetRow:
    """Return the row of a pod that runs: what it has, and what one like it would get now."""
    has = row.name in injected_names(_marks(pod).get(INJECTED_LIST_ANNOTATION, ""))
    entry = _entry(pod, row.name)
    since = f" since {entry.updated_at}" if entry.updated_at else ""
    if has and row.injected:
        new = _entry(after, row.name)
        if entry.hash == new.hash:
            return SetRow(row.name, True, _ALREADY, f"{row.message}{since}", entry.revision, row.containers)
        text = (
            f"it has {entry.revision or 'another revision'}{since}; a new pod would get {row.revision or 'the latest'}"
        )
        return SetRow(row.name, True, _OUTDATED, text, entry.revision, row.containers)
    if has:
        text = f"it has the sidecars{since}; a new pod would not get them: {row.message}"
        return SetRow(row.name, True, row.reason, text, entry.revision)
    if not row.injected:
        return row
    born, begun = _born(pod.get("metadata") or {}), _begun(world, row.name)
    if born is not None and begun is not None and born < begun:
        text = "it is older than the set; a new pod would get " + row.message
        return SetRow(row.name, False, Reason.CREATED_BEFORE_SIDECAR_SET, text)
    text = "it was created without the sidecars; a new pod would get " + row.message
    return SetRow(row.name, False, Reason.NOT_INJECTED, text)


def _as_new(pod: Mapping[str, Any], after: Mapping[str, Any], rows: Iterable[SetRow]) -> dict[str, Any]:
    """Return what a new pod would be, without differences that only the API server makes when it stores one."""
    kept = {name for row in rows if row.reason == _ALREADY for name in row.containers}
    spec = default_pod_template({"spec": after["spec"]})["spec"]
    for key in ("initContainers", "containers"):
        stored = {one["name"]: one for one in pod["spec"].get(key) or () if one["name"] in kept}
        if key in spec:
            spec[key] = [stored.get(one["name"], one) for one in spec[key]]
    return {**after, "spec": spec}


def _born(metadata: Mapping[str, Any]) -> float | None:
    return parse_time(metadata.get("creationTimestamp"))


def _begun(world: World, name: str) -> float | None:
    one = world.sets.get(name)
    return None if one is None else parse_time(one.metadata.creation_timestamp)


def _marks(pod: Mapping[str, Any]) -> Mapping[str, str]:
    return (pod.get("metadata") or {}).get("annotations") or {}


def _entry(pod: Mapping[str, Any], name: str) -> Entry:
    return parse_entries(_marks(pod).get(HASH_ANNOTATION) or "{}").of(name)


# ---- YAML ------------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Writes manifests as people write them: no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        del data
        return True


def text_of(pod: Mapping[str, Any]) -> list[str]:
    """Return a pod as lines of YAML, without its status."""
    shown = {key: value for key, value in pod.items() if key != "status"}
    text: str = yaml.dump(shown, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 16)
    return text.splitlines()
