"""The writes that keep revisions, as values: create, renumber, adopt, delete.

Purpose: what a choice of revisions asks of the cluster, with the bodies and patches that the caller sends.

Guarantees: a body has the bytes, labels, owner and name of OpenKruise (spec/advanced-statefulset 2.7); everything else
is a merge patch, because a strategic one of a revision is refused (reliability rule 8).

What this does not do: ``revisions`` decides which writes there are; uid and resource version are added by the client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from kruise.apis.core import REVISIONS, ControllerRevision
from kruise.apis.hashes import controller_revision_hash, controller_revision_name
from kruise.apis.revisiondata import RevisionDataError, data_key, revision_data, template_key, template_of
from kruise.runtime.objects import Object, Resource, owner_reference

__all__ = [
    "HASH_LABEL",
    "POD_TEMPLATE_FORM",
    "AdoptRevision",
    "BumpRevision",
    "CreateRevision",
    "DeleteRevision",
    "Form",
    "RevisionWrite",
    "candidate",
]

HASH_LABEL: Final = "controller.kubernetes.io/hash"


@dataclass(frozen=True, slots=True)
class Form:
    """How a kind keeps its versions."""

    data: Callable[[dict[str, Any]], bytes]
    """The bytes of a version."""
    key: Callable[[bytes], bytes | None]
    """What the data of versions that mean the same have in common; ``None`` for data that cannot be read."""
    labels: Callable[[dict[str, Any]], Mapping[str, str]] = lambda _: {}
    """The labels of a new revision, but for the hash."""
    upstream_equal: Callable[[dict[str, Any], bytes], bool] = lambda _version, _data: False
    """Whether data is what OpenKruise would have written for a version that has fields which it does not know."""


def _template_labels(template: dict[str, Any]) -> Mapping[str, str]:
    metadata = template.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return {k: v for k, v in labels.items() if isinstance(v, str)} if isinstance(labels, dict) else {}


def _upstream_equal(template: dict[str, Any], data: bytes) -> bool:
    try:
        return template_key(template, upstream_only=True) == template_key(template_of(data))
    except RevisionDataError:
        return False


POD_TEMPLATE_FORM: Final = Form(revision_data, data_key, _template_labels, _upstream_equal)
"""A set that keeps its pod template."""


@dataclass(frozen=True, slots=True)
class CreateRevision:
    """Create a revision. AlreadyExists goes to :func:`resolve_exists`."""

    body: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the new revision."""
        name: str = self.body["metadata"]["name"]
        return name


@dataclass(frozen=True, slots=True)
class BumpRevision:
    """Give a revision the newest number; a merge patch, sent with the resource version of *obj*."""

    obj: ControllerRevision
    number: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What else is patched: the owners of an orphan, the note of a takeover."""

    @property
    def adopts(self) -> bool:
        """Whether the owner has to be read live first."""
        return "ownerReferences" in self.metadata

    @property
    def patch(self) -> dict[str, Any]:
        """The merge patch, without uid and resource version."""
        body: dict[str, Any] = {"metadata": dict(self.metadata)} if self.metadata else {}
        if self.number != self.obj.revision:
            body["revision"] = self.number
        return body


@dataclass(frozen=True, slots=True)
class AdoptRevision:
    """Become the controller of an orphan; a merge patch, sent with the resource version of *obj*."""

    obj: ControllerRevision
    owner_references: tuple[dict[str, Any], ...]

    @property
    def adopts(self) -> bool:
        """Always true: the owner has to be read live first."""
        return True

    @property
    def patch(self) -> dict[str, Any]:
        """The merge patch, without uid and resource version. It replaces the list, so it names all owners."""
        return {"metadata": {"ownerReferences": list(self.owner_references)}}


@dataclass(frozen=True, slots=True)
class DeleteRevision:
    """Delete this very version of a revision: its number was read."""

    obj: ControllerRevision


RevisionWrite: TypeAlias = CreateRevision | BumpRevision | DeleteRevision | AdoptRevision


def candidate(
    owner_resource: Resource[Any],
    owner: Object,
    template: dict[str, Any],
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    collision_count: int | None = 0,
    number: int = 1,
    namespace: str = "",
    form: Form = POD_TEMPLATE_FORM,
) -> dict[str, Any]:
    """Return the body of a new revision of *owner*. ``data`` is raw, so that its bytes reach the server.

    *labels* are those of the template, *annotations* those of the owner, *namespace* the owner's, unless given.
    """
    data = form.data(template)
    hashed = controller_revision_hash(data, collision_count)
    metadata: dict[str, Any] = {
        "name": controller_revision_name(owner.metadata.name, hashed),
        "namespace": namespace or owner.metadata.namespace,
        "labels": {**(form.labels(template) if labels is None else labels), HASH_LABEL: hashed},
        "ownerReferences": [owner_reference(owner_resource, owner)],
    }
    kept = owner.metadata.annotations if annotations is None else annotations
    if kept:
        metadata["annotations"] = dict(kept)
    return {
        "apiVersion": REVISIONS.api_version,
        "kind": REVISIONS.kind,
        "metadata": metadata,
        "data": msgspec.Raw(data),
        "revision": number,
    }
