"""The kept versions of a SidecarSet: which one is the latest, which ones go, and a set as it was.

Purpose: ControllerRevisions in the namespace of the manager (spec/sidecarset 6), chosen purely; the caller writes.

Guarantees:

* Data, names, labels and annotations of a new revision are OpenKruise's, so both managers take each other's revisions.
  Revisions that mean the same are one, whatever their spelling (X38).
* A rollback raises the number of the old revision instead of making another one. A new custom version is a label on the
  latest revision; both go in one merge patch with its resource version (6.2).
* Never deleted: the newest revision, one that a pod was injected from, and one that new pods are pinned to.

What this does not do: it reads no cache and sends nothing. How a choice is made, and what a name that is taken leads
to, is ``controllers/common/revisions``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from kruise.apis import gojson
from kruise.apis.core import ControllerRevision
from kruise.apis.go_encoding import canonical
from kruise.apis.revisiondata import RevisionDataError, parse_data
from kruise.apis.selectors import from_set
from kruise.apis.sidecarset import (
    ABSENT,
    CUSTOM_VERSION_LABEL,
    DEFAULT_HISTORY_LIMIT,
    HASH_ANNOTATION,
    HASH_WITHOUT_IMAGE_ANNOTATION,
    REVISION_SET_LABEL,
    SIDECARSETS,
    InjectionRevision,
    SidecarSet,
    SidecarSetSpec,
)
from kruise.apis.sidecarset_hash import canonical_sidecar, sidecarset_hashes
from kruise.controllers.common.revisions import Chosen, choose, relevant
from kruise.controllers.common.revisionwrites import BumpRevision, Form, RevisionWrite, candidate
from kruise.runtime.objects import Unreadable

__all__ = [
    "FORM",
    "RevisionNotFoundError",
    "choose_revision",
    "content_of",
    "content_of_revision",
    "find_revision",
    "new_revision",
    "restore",
    "revisions_of",
    "surplus",
]

_LISTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "volumes": lambda one: canonical(one, "core.v1.Volume"),
    "containers": canonical_sidecar,
    "initContainers": canonical_sidecar,
    "imagePullSecrets": lambda one: canonical(one, "core.v1.LocalObjectReference"),
    "patchPodMetadata": lambda one: one,
}
"""What a version consists of, and the form of an element in Go."""


class RevisionNotFoundError(LookupError):
    """No such revision. The message is the API server's."""

    def __init__(self, name: str) -> None:
        super().__init__(f'ControllerRevision.apps "{name}" not found')


# ---- data ------------------------------------------------------------------------------------------------------------


def content_of(one: SidecarSet) -> dict[str, Any]:
    """Return the lists that make a version, as plain JSON."""
    spec = one.spec
    secrets = spec.image_pull_secrets
    patches = spec.patch_pod_metadata
    return {
        "volumes": json.loads(bytes(spec.volumes)),
        "containers": json.loads(bytes(spec.containers)),
        "initContainers": json.loads(bytes(spec.init_containers)),
        "imagePullSecrets": [{"name": secret.name} for secret in secrets] if secrets else None,
        "patchPodMetadata": [_patch(msgspec.to_builtins(patch)) for patch in patches] if patches else None,
    }


def _patch(patch: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in patch.items() if value}


def _data(content: dict[str, Any]) -> bytes:
    return gojson.encode_sorted({"spec": {"$patch": "replace", **_lists(content)}})


def _lists(content: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, form in _LISTS.items():
        items = content.get(name)
        found[name] = [form(item) for item in items] if isinstance(items, list) and items else None
    return found


def content_of_revision(data: bytes) -> dict[str, Any]:
    """Return the lists in the data of a revision. Raises RevisionDataError."""
    spec = parse_data(data).get("spec")
    if not isinstance(spec, dict):
        raise RevisionDataError("no spec in it")
    return {name: spec.get(name) for name in _LISTS}


def _key(data: bytes) -> bytes | None:
    try:
        return gojson.encode_sorted(_lists(content_of_revision(data)))
    except RevisionDataError:
        return None


FORM: Final = Form(_data, _key)
"""How a SidecarSet keeps its versions."""


# ---- choosing --------------------------------------------------------------------------------------------------------


def _labels(one: SidecarSet) -> dict[str, str]:
    found = {**one.metadata.labels, REVISION_SET_LABEL: one.metadata.name}
    if one.spec.custom_version:
        found[CUSTOM_VERSION_LABEL] = one.spec.custom_version
    return found


def revisions_of(
    one: SidecarSet, listed: Iterable[ControllerRevision | Unreadable], namespace: str
) -> tuple[ControllerRevision, ...]:
    """Return the revisions of the set in *namespace*, oldest first: its own, and those that nobody owns."""
    return relevant(one, listed, from_set({REVISION_SET_LABEL: one.metadata.name}), namespace=namespace)


def new_revision(one: SidecarSet, *, namespace: str, number: int, collision_count: int | None) -> dict[str, Any]:
    """Return the body of a revision of the set as it is now."""
    return candidate(
        SIDECARSETS,
        one,
        content_of(one),
        labels=_labels(one),
        collision_count=collision_count,
        number=number,
        namespace=namespace,
        form=FORM,
    )


def choose_revision(one: SidecarSet, listed: Sequence[ControllerRevision], namespace: str) -> Chosen:
    """Choose the latest revision of the set among *listed*, its :func:`revisions_of`."""
    chosen = choose(
        SIDECARSETS,
        one,
        listed,
        content_of(one),
        "",
        one.status.collision_count or 0,
        labels=_labels(one),
        namespace=namespace,
        form=FORM,
    )
    return _labelled(one, chosen)


def _labelled(one: SidecarSet, chosen: Chosen) -> Chosen:
    """Add the label of the custom version to the writes, in the patch of the number where there is one."""
    version, obj = one.spec.custom_version, chosen.update.obj
    if not version or obj is None or one.terminating or obj.metadata.labels.get(CUSTOM_VERSION_LABEL) == version:
        return chosen
    labels = {"labels": {CUSTOM_VERSION_LABEL: version}}
    writes: list[RevisionWrite] = []
    written = False
    for write in chosen.writes:
        if isinstance(write, BumpRevision) and write.obj is obj:
            writes.append(replace(write, metadata={**write.metadata, **labels}))
            written = True
        else:
            writes.append(write)
    if not written:
        writes.append(BumpRevision(obj, obj.revision, labels))
    return replace(chosen, writes=tuple(writes))


def surplus(one: SidecarSet, chosen: Chosen, in_use: Iterable[str]) -> tuple[ControllerRevision, ...]:
    """Return the revisions to delete, oldest first. *in_use* are those that pods were injected from."""
    limit = one.spec.revision_history_limit
    limit = DEFAULT_HISTORY_LIMIT if limit is None else max(1, limit)
    listed = [revision.obj for revision in chosen.listed if revision.obj is not None]
    total = len(listed) + (chosen.update.obj is None)
    live = {chosen.update.name, *in_use, *_pinned(one, listed)}
    history = [obj for obj in listed if obj.metadata.name not in live and not obj.terminating]
    return tuple(history[: max(0, total - limit)])


def _pinned(one: SidecarSet, listed: Sequence[ControllerRevision]) -> tuple[str, ...]:
    ref = one.spec.injection_strategy.revision
    if ref is None:
        return ()
    if ref.revision_name:
        return (ref.revision_name,)
    if ref.custom_version:
        found = [obj for obj in listed if obj.metadata.labels.get(CUSTOM_VERSION_LABEL) == ref.custom_version]
        return (max(found, key=_newest).metadata.name,) if found else ()
    return ()


def _newest(obj: ControllerRevision) -> tuple[int, str, str]:
    return obj.revision, obj.metadata.creation_timestamp or "", obj.metadata.name


# ---- a set as it was -------------------------------------------------------------------------------------------------


def find_revision(
    name: str, ref: InjectionRevision, revisions: Iterable[ControllerRevision | Unreadable]
) -> ControllerRevision | None:
    """Return the revision that *ref* names for the set *name*; ``None`` when it names none.

    *revisions* are those in the namespace of the manager. A name may be that of any revision, whoever owns it; of a
    custom version the newest one of the set is meant. Raises RevisionNotFoundError.
    """
    readable = [one for one in revisions if isinstance(one, ControllerRevision)]
    if ref.revision_name is not None:
        for one in readable:
            if one.metadata.name == ref.revision_name:
                return one
        raise RevisionNotFoundError(ref.revision_name)
    if ref.custom_version is None:
        return None
    wanted = from_set({REVISION_SET_LABEL: name, CUSTOM_VERSION_LABEL: ref.custom_version})
    found = [one for one in readable if wanted.matches(one.metadata.labels)]
    if not found:
        raise RevisionNotFoundError(name)
    return max(found, key=_newest)


def restore(one: SidecarSet, revision: ControllerRevision) -> SidecarSet:
    """Return the set as *revision* has it: its lists and hashes; what else a spec says is not kept in a revision.

    Raises RevisionDataError for data that is no version of a set.
    """
    content = content_of_revision(bytes(revision.data))
    kept = {name: content[name] for name in ("imagePullSecrets", "patchPodMetadata") if content[name] is not None}
    try:
        spec = msgspec.convert(kept, SidecarSetSpec)
    except msgspec.ValidationError as error:
        raise RevisionDataError(str(error)) from None
    raw = {name: _raw(content[name]) for name in ("containers", "initContainers", "volumes")}
    spec = msgspec.structs.replace(
        spec, containers=raw["containers"], init_containers=raw["initContainers"], volumes=raw["volumes"]
    )
    hashes = sidecarset_hashes(content)
    annotations = dict(one.metadata.annotations)
    for key, computed in zip((HASH_ANNOTATION, HASH_WITHOUT_IMAGE_ANNOTATION), hashes, strict=True):
        annotations[key] = revision.metadata.annotations.get(key) or computed
    return msgspec.structs.replace(
        one,
        metadata=msgspec.structs.replace(one.metadata, annotations=annotations),
        spec=spec,
        status=msgspec.structs.replace(one.status, latest_revision=revision.metadata.name),
    )


def _raw(value: Any) -> msgspec.Raw:
    return ABSENT if value is None else msgspec.Raw(json.dumps(value, ensure_ascii=False).encode())
