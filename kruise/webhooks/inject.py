"""Injection: what becomes of a pod on its way into the cluster.

Purpose: the pure function behind the webhook, the preview and the simulation: a pod, a snapshot of the sets, a time;
out comes a JSON patch and the reason for every set that gave nothing.

Guarantees:

* C1: the pod's own containers stay as they are, and so does everything that is not documented to change; volumes and
  pull secrets are only appended.
* C2: the same pod and sets give the same patch; injecting again changes nothing, the time in the annotations included.
  The draw of a partition comes from ``request.uid``, once: a pod that already tells its revision keeps it.
* C3: pods that no set may touch get nothing, whatever the webhook configuration says.
* C4: two sets that would provide one container, or two different volumes of one name, are not both injected: the
  first keeps its place, the other one is left out with a note. So is a set whose container would stand beside an init
  container of the same name: the pod would be refused.
* C9: a set that the Pod Security level of the namespace would refuse is left out with a note, and the pod starts.
* C8: :class:`InjectionRefused` is raised for a user's fault only (spec/sidecarset 5.1). A set that cannot be used
  refuses nobody.

What this does not do: it sends nothing, looks nothing up and knows no clock. The caller applies the patch before it
answers (``runtime.webhook``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from operator import attrgetter
from typing import Any

import msgspec

from kruise.apis.intorstring import IntOrStringError, sidecarset_injection_share
from kruise.apis.selectors import SelectorError
from kruise.apis.sidecarset import (
    HASH_ANNOTATION,
    HASH_WITHOUT_IMAGE_ANNOTATION,
    INJECTED_LIST_ANNOTATION,
    PATCH_MERGE_JSON,
    POLICY_PARTIAL,
    WORKING_HOT_ANNOTATION,
    PatchPodMetadata,
)
from kruise.apis.sidecarset_metadata import MetadataPatchError, patch_pod_metadata
from kruise.controllers.sidecarset.match import exempt, is_active
from kruise.controllers.sidecarset.podannotations import (
    NO_ENTRY,
    Entry,
    encode_entries,
    encode_map,
    injected_names,
    modern,
    parse_entries,
    parse_map,
)
from kruise.controllers.sidecarset.resources import ResourcesError
from kruise.webhooks.inject_containers import PodParts, is_injected
from kruise.webhooks.inject_outcome import LEFT_OUT, UNCHANGED, InjectionRefused, Note, NoteReason, Outcome, Request
from kruise.webhooks.inject_patch import PodPatch
from kruise.webhooks.inject_pod import PodView, UnreadablePod
from kruise.webhooks.inject_security import ENFORCE_LABEL, violation
from kruise.webhooks.inject_set import CompiledSet, Piece
from kruise.webhooks.inject_snapshot import Candidate, Missing, Snapshot

__all__ = ["InjectionRefused", "Note", "NoteReason", "Outcome", "Request", "explain", "inject"]


def inject(
    pod: bytes | Mapping[str, Any], request: Request, snapshot: Snapshot, *, now: str, sort_by_name: bool = False
) -> Outcome:
    """Return what *pod*, as bytes or as plain JSON, becomes. *now*: RFC 3339, UTC, whole seconds.

    *sort_by_name* is the gate ``EnableSortSidecarContainerByName``. Raises InjectionRefused.
    """
    if request.operation != "CREATE" or request.resource != "pods" or request.sub_resource:
        return UNCHANGED
    view = _view(pod)
    namespace = view.namespace or request.namespace
    if not is_active(view.phase, view.deletion_timestamp):
        return UNCHANGED
    candidates = snapshot.index.candidates(namespace, view.labels)
    if not candidates:
        return UNCHANGED
    why = exempt(namespace, view.labels, view.annotations, snapshot.own_namespace)
    if why:
        return Outcome(notes=(Note("", NoteReason.EXEMPT, why),))
    labels = snapshot.namespaces.get(namespace)
    matched = [c for c in candidates if not c.current.paused and c.current.matcher.matches(view.labels, labels)]
    bases = {c.current.canary_of for c in matched if c.current.canary_of}
    matched = [c for c in matched if c.current.name not in bases]
    if not matched:
        return UNCHANGED
    try:
        return _Injection(view, namespace, labels, request.uid, now).run(matched, sort_by_name=sort_by_name)
    except UnreadablePod as error:  # a container whose insides somebody had to look at
        raise _unreadable(error) from None


def explain(pod: bytes | Mapping[str, Any], request: Request, snapshot: Snapshot, *, now: str) -> tuple[Note, ...]:
    """Say of every set what it does for *pod*, and why not. Raises InjectionRefused as :func:`inject` does."""
    view = _view(pod)
    namespace = view.namespace or request.namespace
    outcome = inject(pod, request, snapshot, now=now)
    labels = snapshot.namespaces.get(namespace)
    noted = {note.set_name: note for note in outcome.notes if note.reason in LEFT_OUT}
    whole = next((note for note in outcome.notes if note.reason is NoteReason.EXEMPT), None)
    if whole is None and not is_active(view.phase, view.deletion_timestamp):
        whole = Note("", NoteReason.NOT_ACTIVE, "the pod has finished, or is being deleted")
    notes = [Note(name, NoteReason.UNUSABLE, problem) for name, problem in sorted(snapshot.unusable.items())]
    for candidate in snapshot.sets:
        current = candidate.current
        if whole is not None:
            notes.append(Note(current.name, whole.reason, whole.message))
        elif current.name in outcome.injected:
            notes.append(Note(current.name, NoteReason.INJECTED, ", ".join(current.parts.sidecar_list)))
        elif current.name in noted:
            notes.append(noted[current.name])
        else:
            notes.append(_not_selected(current, view, namespace, labels))
    return tuple(notes)


def _not_selected(current: CompiledSet, view: PodView, namespace: str, labels: Mapping[str, str] | None) -> Note:
    if current.paused:
        return Note(current.name, NoteReason.PAUSED, "spec.injectionStrategy.paused is true")
    if not current.matcher.selects_namespace(labels):
        text = f"its namespaceSelector does not select the namespace {namespace}"
        return Note(current.name, NoteReason.NAMESPACE_NOT_SELECTED, text)
    if not current.matcher.selects_labels(view.labels):
        return Note(current.name, NoteReason.LABELS_NOT_SELECTED, "its selector does not select the labels of the pod")
    if current.parts.sidecars:
        return Note(current.name, NoteReason.CANARY, "a canary of it is injected in its place")
    return Note(current.name, NoteReason.INJECTED, "it has no containers")


def _view(pod: bytes | Mapping[str, Any]) -> PodView:
    try:
        return PodView.of(pod)
    except UnreadablePod as error:
        raise _unreadable(error) from None


def _unreadable(error: UnreadablePod) -> InjectionRefused:
    return InjectionRefused(f"the pod cannot be read: {error}")


def _named(item: CompiledSet) -> str:
    return f"SidecarSet {item.name}"


class _Injection:
    """One pod and the sets that want it."""

    __slots__ = ("_already", "_annotations", "_labels", "_namespace", "_notes", "_now", "_owners", "_uid", "_view")

    def __init__(self, view: PodView, namespace: str, labels: Mapping[str, str] | None, uid: str, now: str) -> None:
        self._view = view
        self._namespace = namespace
        self._labels = labels
        self._uid = uid
        self._now = now
        self._notes: list[Note] = []
        self._annotations: dict[str, str] = dict(view.annotations or {})
        self._already: frozenset[str] = frozenset()
        self._owners: dict[str, str] = {}
        """By container, the set that it comes from."""

    def run(self, matched: Iterable[Candidate], *, sort_by_name: bool) -> Outcome:
        chosen = self._allowed([self._revision_of(candidate) for candidate in matched])
        if HASH_ANNOTATION in self._annotations:
            self._already = frozenset(item.name for item in chosen if self._has(item))
        self._patch_metadata([one for item in chosen if item.name not in self._already for one in item.patches])
        init, containers, volumes = self._build(chosen)
        patch = PodPatch()
        if not init and not containers:
            patch.annotations(self._view.annotations, self._annotations, metadata=self._view.has_metadata)
            return Outcome(patch.encode(), (), tuple(self._notes))
        self._annotate(chosen)
        patch.annotations(self._view.annotations, self._annotations, metadata=self._view.has_metadata)
        init.sort(key=lambda found: found[0].name.encode())
        if sort_by_name:
            containers.sort(key=lambda found: found[0].name.encode())
        self._merge(patch, "initContainers", self._view.init_containers, init)
        self._merge(patch, "containers", self._view.containers, containers)
        self._append(patch, "volumes", self._view.volumes, volumes)
        secrets = {name: msgspec.json.encode({"name": name}) for item in chosen for name in item.secrets}
        self._append(patch, "imagePullSecrets", self._view.pull_secrets, secrets)
        return Outcome(patch.encode(), tuple(item.name for item in chosen), tuple(self._notes))

    # ---- which revision ----------------------------------------------------------------------------------------------

    def _revision_of(self, candidate: Candidate) -> CompiledSet:
        """Return the revision that this pod gets (spec 5.3)."""
        current, historical = candidate.current, candidate.historical
        if historical is None or not self._wants_historical(current, historical):
            return current
        if isinstance(historical, Missing):
            raise InjectionRefused(historical.message, _named(current))
        return historical

    def _wants_historical(self, current: CompiledSet, historical: CompiledSet | Missing) -> bool:
        if current.injection is None:
            return False
        if current.update_paused or current.injection.policy != POLICY_PARTIAL:
            return True
        selector = current.update_selector
        if isinstance(selector, SelectorError):
            raise InjectionRefused(str(selector), _named(current))
        if selector is not None and not selector.matches(self._view.labels):
            return True
        try:
            share = sidecarset_injection_share(current.partition)
        except IntOrStringError as error:
            raise InjectionRefused(str(error), _named(current)) from None
        entry = self._entry(current.name)
        if not isinstance(historical, Missing) and entry.hash != "":
            # The pod was here before: a draw from another uid must not change its mind.
            if entry.hash == historical.hash and entry.revision == historical.revision:
                return True
            if entry.hash == current.hash:
                return False
        return _draw(self._uid, current.name) < share

    def _entry(self, name: str) -> Entry:
        text = (self._view.annotations or {}).get(HASH_ANNOTATION)
        return parse_entries(text).of(name) if text else NO_ENTRY

    def _has(self, item: CompiledSet) -> bool:
        """Tell whether the pod already has this revision of the set, with all its containers."""
        entry = self._entry(item.name)
        if entry.hash != item.hash or entry.revision != item.revision or entry.sidecars != item.parts.sidecar_list:
            return False
        full = self._view.full()["spec"]
        present = {
            (init, container.get("name"))
            for init, field in ((True, "initContainers"), (False, "containers"))
            for container in full.get(field) or ()
            if is_injected(container)
        }
        return all((sidecar.init, name) in present for sidecar in item.parts.sidecars for name in sidecar.names)

    # ---- conflicts ---------------------------------------------------------------------------------------------------

    def _allowed(self, chosen: Sequence[CompiledSet]) -> list[CompiledSet]:
        owners = self._owners
        enforces = self._labels is not None and ENFORCE_LABEL in self._labels
        volumes: dict[str, tuple[str, Piece]] = {}
        kept: list[CompiledSet] = []
        for item in chosen:
            why, reason = "", NoteReason.POD_SECURITY
            if enforces:
                why = violation(item.parts, self._labels, self._view.context)
            if not why:
                why, reason = self._conflict(item, owners, volumes), NoteReason.CONFLICT
            if why:
                self._notes.append(Note(item.name, reason, why))
                continue
            kept.append(item)
            owners |= dict.fromkeys(item.parts.placed, item.name)
            for name, volume in item.parts.used_volumes.items():
                volumes.setdefault(name, (item.name, volume))
        return kept

    def _conflict(self, item: CompiledSet, owners: Mapping[str, str], volumes: Mapping[str, tuple[str, Piece]]) -> str:
        for name, init in item.parts.placed.items():
            if name in owners:
                return f"SidecarSet {owners[name]} already provides the container {name}"
            other = self._view.containers if init else self._view.init_containers
            if other is not None and name in other:
                kind = "a container" if init else "an init container"
                return f"the pod has {kind} called {name}"
        for name, volume in item.parts.used_volumes.items():
            owner, known = volumes.get(name, ("", volume))
            if known.body != volume.body and name not in (self._view.volumes or ()):
                return f"SidecarSet {owner} already provides another volume {name}"
        return ""

    # ---- annotations -------------------------------------------------------------------------------------------------

    def _patch_metadata(self, patches: Sequence[PatchPodMetadata]) -> None:
        if not patches:
            return
        try:
            if any(patch.patch_policy == PATCH_MERGE_JSON for patch in patches):
                patches = _unapplied(patches, self._annotations)
            self._annotations, _ = patch_pod_metadata(self._annotations, patches)
        except MetadataPatchError as error:
            raise InjectionRefused(str(error)) from None

    def _annotate(self, chosen: Sequence[CompiledSet]) -> None:
        marks = self._annotations
        chosen = sorted(chosen, key=attrgetter("name"))
        marks[HASH_ANNOTATION] = self._hashes(HASH_ANNOTATION, chosen, images=True)
        marks[HASH_WITHOUT_IMAGE_ANNOTATION] = self._hashes(HASH_WITHOUT_IMAGE_ANNOTATION, chosen, images=False)
        names = {*injected_names(marks.get(INJECTED_LIST_ANNOTATION, "")), *[item.name for item in chosen]}
        marks[INJECTED_LIST_ANNOTATION] = ",".join(sorted(names))
        working: dict[str, str] = {}
        for item in chosen:
            if item.parts.hot_working:
                working |= item.parts.hot_working
                marks.update(item.parts.hot_annotations)
        if working:
            known = parse_map(marks.get(WORKING_HOT_ANNOTATION) or "{}")
            marks[WORKING_HOT_ANNOTATION] = encode_map({**known, **working})

    def _hashes(self, key: str, chosen: Sequence[CompiledSet], *, images: bool) -> str:
        text = self._annotations.get(key)
        if not text:
            now = self._now
            fragments = [item.hash_entry if images else item.hash_without_image_entry for item in chosen]
            return "{" + ",".join([before + now + after for before, after in fragments]) + "}"
        known = parse_entries(text)
        if known.problem or not known.trusted:
            where = f"pod({self._namespace}/{self._view.name}) invalid annotations[{key}] value {text}"
            raise InjectionRefused(f"{where}, unmarshal failed: {known.problem or 'entries of mixed shapes'}")
        entries = modern(known.by_set, "") if known.legacy else dict(known.by_set)
        for item in chosen:
            previous = entries.get(item.name)
            value = item.hash if images else item.hash_without_image
            entry = Entry(value, self._now, item.name, item.parts.sidecar_list, item.revision if images else "")
            if previous is not None and item.name in self._already and previous.updated_at:
                entry = Entry(value, previous.updated_at, item.name, entry.sidecars, entry.revision)
            entries[item.name] = entry
        return encode_entries(entries)

    # ---- containers and volumes --------------------------------------------------------------------------------------

    def _build(
        self, chosen: Sequence[CompiledSet]
    ) -> tuple[list[tuple[Piece, bool]], list[tuple[Piece, bool]], dict[str, bytes]]:
        """Return init containers and containers, each with whether it goes first, and the volumes that they use."""
        parts: PodParts | None = None
        init: list[tuple[Piece, bool]] = []
        containers: list[tuple[Piece, bool]] = []
        volumes: dict[str, bytes] = {}
        for item in chosen:
            for sidecar in item.parts.sidecars:
                pieces = sidecar.pieces
                if pieces is None:
                    if parts is None:
                        names = frozenset().union(*(one.parts.names for one in chosen))
                        parts = PodParts(self._view.full(), self._annotations, names)
                    try:
                        pieces = parts.build(sidecar)
                    except ResourcesError as error:
                        culprit = f"{_named(item)}, container {sidecar.name}"
                        raise InjectionRefused(str(error), culprit) from None
                (init if sidecar.init else containers).extend((piece, sidecar.before) for piece in pieces)
            for name, volume in item.parts.used_volumes.items():
                volumes.setdefault(name, volume.data)
        return init, containers, volumes

    def _merge(
        self, patch: PodPatch, field: str, present: Mapping[str, int] | None, pieces: Sequence[tuple[Piece, bool]]
    ) -> None:
        if not pieces:
            return
        path = f"/spec/{field}"
        first: list[bytes] = []
        last: list[bytes] = []
        for piece, before in pieces:
            index = present.get(piece.name) if present else None
            if index is None:
                (first if before else last).append(piece.data)
                continue
            container = self._view.full()["spec"][field][index]
            if not is_injected(container):
                text = f"the pod's own container {piece.name} gives way to the one of the set"
                self._notes.append(Note(self._owners[piece.name], NoteReason.REPLACED, text))
            if container != piece.body:
                patch.replace(path, index, piece.name, piece.data)
        patch.elements(path, exists=present is not None, first=first, last=last)

    @staticmethod
    def _append(patch: PodPatch, field: str, present: Mapping[str, int] | None, items: Mapping[str, bytes]) -> None:
        if not items:
            return
        missing = [data for name, data in items.items() if name not in (present or {})]
        patch.elements(f"/spec/{field}", exists=present is not None, first=(), last=missing)


def _unapplied(patches: Sequence[PatchPodMetadata], present: Mapping[str, str]) -> Sequence[PatchPodMetadata]:
    """Return *patches* without the annotations that they made already.

    A value that was set where there was none is no document that was merged: merging into it would write it anew, or
    fail on it. What stands as these patches leave it in an empty pod is theirs (C2).
    """
    try:
        fresh, _ = patch_pod_metadata({}, patches)
    except MetadataPatchError:
        return patches
    theirs = {key for key, value in fresh.items() if present.get(key) == value}
    return [
        msgspec.structs.replace(patch, annotations={k: v for k, v in patch.annotations.items() if k not in theirs})
        for patch in patches
    ]


def _draw(uid: str, set_name: str) -> Fraction:
    """Return a number from 0 to 1, 1 excluded: the same for the same request, and another one for each set."""
    digest = hashlib.sha256(f"{uid}\0{set_name}".encode()).digest()
    return Fraction(int.from_bytes(digest[:8], "big"), 1 << 64)
