"""What an in-place update has done to a pod so far: the state annotation.

Purpose: the update of a pod takes several writes, and the manager that ends it need not be the one that began it. All
that the next step has to know stands in the pod (spec/advanced-statefulset 7.5).

Guarantees:

* The bytes of :meth:`State.encode` are OpenKruise's for every state that it can be in.
* ``supersededImages`` is ours, and stands there only when an update overtook another one (7.9): the images that a
  container was about to get. A status that shows one of them does not show the next one yet. OpenKruise skips it.

What this does not do: it compares nothing with the pod; ``complete`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from kruise.apis import gojson
from kruise.controllers.common.inplace.annotations import (
    STATE_KEY,
    MetaForm,
    RefMetadata,
    Resources,
    ResourcesForm,
    decode,
    in_order,
    meta_json,
    meta_of,
    resources_json,
    resources_of,
    stamp,
    state_text,
)

__all__ = ["Batch", "State", "state_of"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Containers that were changed in one write, by name, and when."""

    timestamp: str
    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class State:
    """The progress of one in-place update."""

    revision: str = ""
    updated_at: str = ""
    """When the update began; ``""`` when a foreign writer left it out."""
    last_images: Mapping[str, str] | None = None
    """By container, the imageID that was reported when its image was changed. ``None`` before the first one."""
    env_from_metadata: bool = False
    resources: bool = False
    images: bool = False
    next_images: Mapping[str, str] = field(default_factory=dict)
    next_metadata: Mapping[str, RefMetadata] = field(default_factory=dict)
    next_resources: Mapping[str, Resources] = field(default_factory=dict)
    required_ready: tuple[str, ...] | None = None
    """The containers that must be ready before the next batch; ``None`` when there is none."""
    batches: tuple[Batch, ...] = ()
    superseded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By container, the images of updates that were overtaken before they ran."""

    @property
    def has_next(self) -> bool:
        """Whether containers wait for a later batch."""
        return bool(self.next_images or self.next_metadata or self.next_resources)

    def encode(self) -> str:
        """Return the text of the annotation."""
        last = self.last_images
        out: dict[str, Any] = {
            "revision": self.revision,
            "updateTimestamp": self.updated_at or None,
            "lastContainerStatuses": None if last is None else {n: {"imageID": last[n]} for n in sorted(last)},
        }
        if self.env_from_metadata:
            out["updateEnvFromMetadata"] = True
        if self.resources:
            out["updateResources"] = True
        if self.images:
            out["updateImages"] = True
        if self.next_images:
            out["nextContainerImages"] = in_order(self.next_images)
        if self.next_metadata:
            out["nextContainerRefMetadata"] = {n: meta_json(m) for n, m in in_order(self.next_metadata).items()}
        if self.next_resources:
            out["nextContainerResources"] = {n: resources_json(r) for n, r in in_order(self.next_resources).items()}
        if self.required_ready is not None:
            required = {"containersRequiredReady": list(self.required_ready)} if self.required_ready else {}
            out["preCheckBeforeNext"] = required
        if self.batches:
            out["containerBatchesRecord"] = [
                {"timestamp": batch.timestamp or None, "containers": list(batch.containers)} for batch in self.batches
            ]
        if self.superseded:
            out["supersededImages"] = {n: list(images) for n, images in in_order(self.superseded).items()}
        return gojson.encode(out).decode()


class _LastForm(msgspec.Struct, frozen=True, gc=False):
    image_id: str = msgspec.field(default="", name="imageID")


class _CheckForm(msgspec.Struct, frozen=True, gc=False):
    required: tuple[str, ...] = msgspec.field(default=(), name="containersRequiredReady")


class _BatchForm(msgspec.Struct, frozen=True, gc=False):
    timestamp: str = ""
    containers: tuple[str, ...] = ()


class _StateForm(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    revision: str = ""
    update_timestamp: str = ""
    last_container_statuses: dict[str, _LastForm] | None = None
    update_env_from_metadata: bool = False
    update_resources: bool = False
    update_images: bool = False
    next_container_images: dict[str, str] = {}
    next_container_ref_metadata: dict[str, MetaForm] = {}
    next_container_resources: dict[str, ResourcesForm] = {}
    pre_check_before_next: _CheckForm | None = None
    container_batches_record: tuple[_BatchForm, ...] = ()
    superseded_images: dict[str, tuple[str, ...]] = {}


def state_of(annotations: Mapping[str, str]) -> State | None:
    """Return the state that the annotations of a pod hold, or ``None``. Raises StateError for one that is no state."""
    text = state_text(annotations)
    return None if text is None else parse(text)


@lru_cache(maxsize=4096)
def parse(text: str) -> State:
    """Return the state that *text* is. Pods that were updated together have equal texts, and share one State."""
    form = decode(text, _StateForm, STATE_KEY)
    last = form.last_container_statuses
    check = form.pre_check_before_next
    return State(
        revision=form.revision,
        updated_at=stamp(form.update_timestamp, STATE_KEY),
        last_images=None if last is None else {name: one.image_id for name, one in last.items()},
        env_from_metadata=form.update_env_from_metadata,
        resources=form.update_resources,
        images=form.update_images,
        next_images=form.next_container_images,
        next_metadata={name: meta_of(one) for name, one in form.next_container_ref_metadata.items()},
        next_resources={name: resources_of(one) for name, one in form.next_container_resources.items()},
        required_ready=None if check is None else check.required,
        batches=tuple(Batch(stamp(b.timestamp, STATE_KEY), b.containers) for b in form.container_batches_record),
        superseded=form.superseded_images,
    )
