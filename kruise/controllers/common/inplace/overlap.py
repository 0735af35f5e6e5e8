"""An in-place update that begins before the one before it has ended.

Purpose: a second change of the template, or a step back, reaches pods in a grace period, between two batches, or with
containers that the kubelet has not restarted yet. A new update that knows nothing of them would lose what they still
wait for (spec/advanced-statefulset 7.9; section 16, row 9).

Guarantees:

* What is pending is joined to the new update; where both say something of a container's image, of a resource or of a
  label, the new one holds.
* What the pod already has is left out, so that a step back to what never changed costs no batch and waits for nothing.
* S4: a container whose image was set and does not run yet stays waited for, although the new update does not touch it;
  a status that shows an image which the new update overtook does not complete it.
* An annotation that cannot be read is no obstacle: the new update writes both anew.

What this does not do: what a foreign manager wrote over another revision's label is dropped, as 7.6 says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from kruise.apis.core import Pod
from kruise.apis.statefulset import LABEL_REVISION
from kruise.controllers.common.inplace.annotations import RefMetadata, Resources, StateError, grace_text
from kruise.controllers.common.inplace.complete import containers_done, unfinished_images
from kruise.controllers.common.inplace.containers import same_image, same_quantity, spec_containers, status_containers
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.metadata import applicable, compose
from kruise.controllers.common.inplace.patch import initial_state, next_spec
from kruise.controllers.common.inplace.spec import UpdateSpec
from kruise.controllers.common.inplace.state import Batch, State, state_of

__all__ = ["Begun", "begin"]

_REMEMBERED: Final = 8
"""Images per container that were overtaken before they ran."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An update as it begins on one pod."""

    spec: UpdateSpec
    state: State


def begin(pod: Pod, spec: UpdateSpec, *, now: float, gates: Gates) -> Begun:
    """Return what to apply to *pod* for *spec*, and the state to begin with.

    A pod whose last update is complete gets *spec* as it is. Raises StateError for a pending patch of the metadata that
    is none.
    """
    previous = _previous(pod)
    pending = _pending(pod, previous)
    if pending is not None:
        spec = _without_present(pod, _joined(pod, pending, spec))
    state = initial_state(spec, now)
    return Begun(spec, state if previous is None else _carried(pod, previous, spec, state, gates))


def _previous(pod: Pod) -> State | None:
    try:
        return state_of(pod.metadata.annotations)
    except StateError:
        return None


def _pending(pod: Pod, previous: State | None) -> UpdateSpec | None:
    """Return what an earlier update has not applied yet: the spec of its grace period, or its next batches."""
    held = grace_text(pod.metadata.annotations)
    if held:
        try:
            spec = UpdateSpec.from_json(held)
        except StateError:
            spec = None
        if spec is not None and spec.revision == pod.metadata.labels.get(LABEL_REVISION):
            return spec
    return None if previous is None else next_spec(previous)


def _joined(pod: Pod, pending: UpdateSpec, new: UpdateSpec) -> UpdateSpec:
    meta = pod.metadata
    patch = new.metadata_patch
    if pending.metadata_patch is not None:
        have = {"labels": meta.labels, "annotations": meta.annotations}
        patch = compose(pending.metadata_patch, patch or "{}", have)
    return replace(
        new,
        images={**pending.images, **new.images},
        resources=_over(pending.resources, new.resources),
        metadata=_over(_left(pending.metadata, new.metadata_patch), new.metadata),
        metadata_patch=patch,
        env_from_metadata=pending.env_from_metadata or new.env_from_metadata,
    )


def _over(
    old: Mapping[str, Mapping[str, Mapping[str, str]]], new: Mapping[str, Mapping[str, Mapping[str, str]]]
) -> dict[str, dict[str, dict[str, str]]]:
    """Return maps by container, part and name, with *new* over *old*."""
    out = {container: {part: dict(values) for part, values in parts.items()} for container, parts in old.items()}
    for container, parts in new.items():
        for part, values in parts.items():
            out.setdefault(container, {}).setdefault(part, {}).update(values)
    return out


def _left(pending: Mapping[str, RefMetadata], patch: str | None) -> dict[str, RefMetadata]:
    """Return the pending keys that the new patch of the metadata says nothing of."""
    said = applicable(patch, {}) if patch is not None else {}
    return {
        container: {
            part: {key: value for key, value in values.items() if key not in said.get(part, {})}
            for part, values in parts.items()
        }
        for container, parts in pending.items()
    }


def _without_present(pod: Pod, spec: UpdateSpec) -> UpdateSpec:
    """Return *spec* without what the pod has, or has no container for."""
    containers = spec_containers(pod)
    have = {"labels": pod.metadata.labels, "annotations": pod.metadata.annotations}
    images = {n: image for n, image in spec.images.items() if n in containers and containers[n].image != image}
    resources: dict[str, Resources] = {}
    for name, wanted in spec.resources.items():
        if name in containers:
            given = containers[name].resources
            amounts = {"limits": given.limits, "requests": given.requests}
            resources[name] = {
                part: {key: value for key, value in values.items() if not same_quantity(amounts[part].get(key), value)}
                for part, values in wanted.items()
            }
    metadata = {
        name: {
            part: {key: value for key, value in values.items() if have[part].get(key) != value}
            for part, values in parts.items()
        }
        for name, parts in spec.metadata.items()
        if name in containers
    }
    return replace(spec, images=images, resources=_filled(resources), metadata=_filled(metadata))


def _filled(
    values: Mapping[str, Mapping[str, Mapping[str, str]]],
) -> dict[str, dict[str, Mapping[str, str]]]:
    """Return *values* without empty parts, and without containers that have none."""
    parts = {name: {part: found for part, found in one.items() if found} for name, one in values.items()}
    return {name: one for name, one in parts.items() if one}


def _carried(pod: Pod, previous: State, spec: UpdateSpec, state: State, gates: Gates) -> State:
    """Return *state* with what the containers of *previous* still owe."""
    if containers_done(pod, previous, gates).done:
        return state
    containers, statuses, last = spec_containers(pod), status_containers(pod), previous.last_images or {}
    waiting = [*unfinished_images(pod, previous), *(name for name in last if name not in statuses)]
    # Also of those that change again: until that is applied, a third update may find that it wants what is there.
    kept = [name for name in waiting if name in containers]
    overtaken: dict[str, tuple[str, ...]] = {}
    images = dict(last)
    for name in kept:
        has = containers[name].image
        gone = list(previous.superseded.get(name, ()))
        if name in spec.images:
            gone = [*(image for image in gone if image != has), has]
            images[name] = statuses[name].image_id if name in statuses else images[name]
        wanted = spec.images.get(name, has)
        gone = [image for image in gone if not same_image(image, wanted)]
        if gone:
            overtaken[name] = tuple(gone[-_REMEMBERED:])
    return replace(
        state,
        last_images={name: images[name] for name in kept} or None,
        images=state.images or bool(kept),
        resources=state.resources or previous.resources,
        env_from_metadata=state.env_from_metadata or previous.env_from_metadata,
        batches=tuple(_records(previous, kept)),
        superseded=overtaken,
    )


def _records(previous: State, kept: Collection[str]) -> Iterator[Batch]:
    """Yield when the containers *kept* were changed."""
    for batch in previous.batches:
        names = tuple(name for name in batch.containers if name in kept)
        if names:
            yield Batch(batch.timestamp, names)
