"""What an in-place update changes: the difference between two revisions, and whether a running pod can take it.

Purpose: :func:`update_spec` answers for a pair of revisions, once for all pods that go from one to the other
(spec/advanced-statefulset 7.1); the answer is kept in the grace annotation while a pod waits (7.6).

Guarantees:

* Nothing but images, metadata and, with its gate, cpu and memory is ever changed in place; every other difference, and
  a change that would move a pod into another quality-of-service class, says which field forbids it.
* An image that the old revision does not have is no replacement, and a renamed container is another one.
* :meth:`UpdateSpec.to_json` has OpenKruise's bytes, and what OpenKruise wrote is read.

What this does not do: it sees no pod; ``patch`` applies a spec, ``overlap`` joins it with one that is under way.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgspec

from kruise.apis import gojson
from kruise.apis.quantity import Quantity, QuantityError
from kruise.controllers.common.inplace.annotations import (
    GRACE_KEY,
    MetaForm,
    RefMetadata,
    Resources,
    ResourcesForm,
    StateError,
    decode,
    in_order,
    meta_json,
    meta_of,
    resources_json,
    resources_of,
)
from kruise.controllers.common.inplace.diff import REPLACE, Change, compare, shown
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.metadata import metadata_patch, moved_to_containers
from kruise.controllers.common.inplace.qos import qos_class

__all__ = ["RESIZABLE", "NotPossible", "UpdateSpec", "update_spec"]

RESIZABLE: Final = ("cpu", "memory")
_CLAIMS_HASH: Final = "kruise.io/cloneset-volumeclaimtemplate-hash"
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class NotPossible:
    """A running pod cannot take the change."""

    fields: tuple[str, ...]
    """What forbids it: paths into the template, ``spec.containers[0].env``, or a word."""

    def __str__(self) -> str:
        first = ", ".join(self.fields[:3])
        return f"{first} and {len(self.fields) - 3} more" if len(self.fields) > 3 else first


@dataclass(frozen=True, slots=True)
class UpdateSpec:
    """What to change in a pod, by container name. Never changed; pods share it."""

    revision: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, RefMetadata] = field(default_factory=dict)
    """Labels and annotations that variables of the container show: they are written when it restarts."""
    resources: Mapping[str, Resources] = field(default_factory=dict)
    """Only what changes."""
    metadata_patch: str | None = None
    """A strategic merge patch of ``metadata``, as JSON text; ``None`` when the metadata is the same."""
    env_from_metadata: bool = False
    grace_seconds: int = 0

    @property
    def containers(self) -> frozenset[str]:
        """The names of the containers that change."""
        return frozenset((*self.images, *self.metadata, *self.resources))

    def to_json(self) -> str:
        """Return the text of the grace annotation."""
        out: dict[str, Any] = {"revision": self.revision}
        if self.images:
            out["containerImages"] = in_order(self.images)
        if self.metadata:
            out["containerRefMetadata"] = {name: meta_json(one) for name, one in in_order(self.metadata).items()}
        if self.resources:
            out["containerResources"] = {name: resources_json(one) for name, one in in_order(self.resources).items()}
        if self.metadata_patch is not None:
            out["metaDataPatch"] = base64.b64encode(self.metadata_patch.encode()).decode()
        if self.env_from_metadata:
            out["updateEnvFromMetadata"] = True
        if self.grace_seconds:
            out["graceSeconds"] = self.grace_seconds
        return gojson.encode(out).decode()

    @staticmethod
    def from_json(text: str) -> UpdateSpec:
        """Return what a grace annotation holds. Raises StateError."""
        form = decode(text, _SpecForm, GRACE_KEY)
        return UpdateSpec(
            revision=form.revision,
            images=form.container_images,
            metadata={name: meta_of(one) for name, one in form.container_ref_metadata.items()},
            resources={name: resources_of(one) for name, one in form.container_resources.items()},
            metadata_patch=_patch_of(form.patch),
            env_from_metadata=form.update_env_from_metadata,
            grace_seconds=form.grace_seconds,
        )


class _SpecForm(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    revision: str = ""
    container_images: dict[str, str] = {}
    container_ref_metadata: dict[str, MetaForm] = {}
    container_resources: dict[str, ResourcesForm] = {}
    patch: str = msgspec.field(default="", name="metaDataPatch")
    update_env_from_metadata: bool = False
    grace_seconds: int = 0


def _patch_of(encoded: str) -> str | None:
    if not encoded:
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        raise StateError(GRACE_KEY, "metaDataPatch is no base64 of a text") from None


def update_spec(
    old: bytes | None,
    new: bytes,
    *,
    revision: str,
    gates: Gates,
    grace_seconds: int = 0,
    old_annotations: Mapping[str, str] = _NONE,
    new_annotations: Mapping[str, str] = _NONE,
) -> UpdateSpec | NotPossible:
    """Return how a pod gets from the revision data *old* to *new* in place, or why it cannot.

    *revision* is the name of the new revision; *old* is ``None`` when the pod's revision no longer exists. The
    annotations are those of the revisions.
    """
    if old is None:
        return NotPossible(("the pod's revision no longer exists",))
    claims = old_annotations.get(_CLAIMS_HASH), new_annotations.get(_CLAIMS_HASH)
    if gates.recreate_on_claim_change and all(claims) and claims[0] != claims[1]:
        return NotPossible(("spec.volumeClaimTemplates",))
    return _between(old, new, revision, grace_seconds, gates)


@lru_cache(maxsize=64)
def _between(old: bytes, new: bytes, revision: str, grace: int, gates: Gates) -> UpdateSpec | NotPossible:
    found = compare(old, new)
    if found is None:
        return NotPossible(("the data of a revision cannot be read",))
    containers = _listed(found.old, "containers")
    images: dict[str, str] = {}
    resources: dict[str, dict[str, dict[str, str]]] = {}
    wrong = list(found.beside)
    for change in found.spec:
        value = _replacement(found.new, change, gates)
        if value is None:
            wrong.append(shown(("spec", *change.path)))
            continue
        name = containers[int(change.path[1])].get("name", "")
        if change.path[2] == "image":
            images[name] = value
        else:
            part, resource = str(change.path[3]), str(change.path[4])
            resources.setdefault(name, {}).setdefault(part, {})[resource] = value
    if not wrong and resources and _class(found.old, {}) != _class(found.old, resources):
        wrong.append("the quality-of-service class")
    if wrong:
        return NotPossible(tuple(wrong))
    before, after = found.old.get("metadata") or {}, found.new.get("metadata") or {}
    moved = moved_to_containers(before, after, containers) if gates.restarts_for_metadata else {}
    return UpdateSpec(
        revision=revision,
        images=images,
        metadata=moved,
        resources=resources,
        metadata_patch=metadata_patch(before, after, moved) if found.metadata_differs else None,
        env_from_metadata=bool(moved),
        grace_seconds=max(0, grace),
    )


def _replacement(new: Mapping[str, Any], change: Change, gates: Gates) -> str | None:
    """Return the new text of what changes, when a running pod can take that change."""
    value: Any = None
    if change.op == REPLACE:
        match change.path:
            case ("containers", int(i), "image"):
                value = _listed(new, "containers")[i].get("image")
            case ("containers", int(i), "resources", ("limits" | "requests") as part, str(name)):
                if gates.vertical_scaling and name in RESIZABLE:
                    value = _quantity(_listed(new, "containers")[i]["resources"][part].get(name))
    return value if isinstance(value, str) else None


def _quantity(value: Any) -> str | None:
    try:
        return str(Quantity.from_json(value))
    except QuantityError:
        return None


def _listed(template: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return (template.get("spec") or {}).get(name) or []


def _class(template: Mapping[str, Any], changed: Mapping[str, Resources]) -> str:
    """Return the class of a pod of *template* after the resources in *changed* were set in it.

    A pod was created with its limits as requests where the template gives none, and keeps those.
    """
    found = [container.get("resources") or {} for container in _listed(template, "initContainers")]
    for container in _listed(template, "containers"):
        given = container.get("resources") or {}
        limits = given.get("limits") or {}
        new = changed.get(container.get("name", ""), {})
        found.append(
            {
                "limits": {**limits, **new.get("limits", {})},
                "requests": {**limits, **(given.get("requests") or {}), **new.get("requests", {})},
            }
        )
    return qos_class(found)
