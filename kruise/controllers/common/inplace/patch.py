"""One step of an in-place update: which containers change now, which wait, and the writes that do it.

Purpose: containers that start in an order are updated in that order, one batch after the other; a change of metadata
that variables show goes with the containers that show it (spec/advanced-statefulset 7.4b).

Guarantees:

* S4: a patch changes the image, cpu and memory of the containers of the batch and nothing else of the spec.
* The new state, and with it what is left for later, stands in the same patch as the change itself; a manager that dies
  in between leaves a pod that says where it is.
* Resources that go through ``pods/resize`` are sent first: were the pod labelled before, a crash would leave one that
  looks complete with its old resources.
* A container that the pod does not have is left out; a pod without a map of limits gets one (section 16, row 32).

What this does not do: it decides neither when a step is due nor which conditions it needs first; ``flow`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kruise.apis.core import Pod
from kruise.controllers.common.inplace.annotations import (
    GRACE_KEY,
    STATE_KEY,
    RefMetadata,
    Resources,
    without_grace,
    without_old_state,
)
from kruise.controllers.common.inplace.containers import (
    launch_priority,
    same_quantity,
    spec_containers,
    status_containers,
)
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.metadata import applicable
from kruise.controllers.common.inplace.spec import RESIZABLE, UpdateSpec
from kruise.controllers.common.inplace.state import Batch, State
from kruise.controllers.common.inplace.writes import MAIN, RESIZE, PodWrite
from kruise.runtime.clock import format_time

__all__ = ["READINESS_GATE", "Applied", "apply_spec", "held", "initial_state", "needs_unready", "next_spec"]

READINESS_GATE: Final = "InPlaceUpdateReady"
_RESTART: Final = "RestartContainer"


@dataclass(frozen=True, slots=True)
class Applied:
    """What one step changes in a pod."""

    state: State
    containers: tuple[str, ...]
    """The containers of this batch, sorted by name."""
    metadata: Mapping[str, Any]
    """Members of a strategic merge patch of ``metadata``, the state annotation among them."""
    images: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Resources] = field(default_factory=dict)
    """To change with the pod itself."""
    resize: Mapping[str, Resources] = field(default_factory=dict)
    """To change through ``pods/resize``."""

    def writes(
        self, why: str, *, labels: Mapping[str, str | None] = {}, annotations: Mapping[str, str | None] = {}
    ) -> tuple[PodWrite, ...]:
        """Return the writes of this step, in order. *labels* and *annotations* go into the one of the pod."""
        main = PodWrite(MAIN, self.pod_patch(labels=labels, annotations=annotations), why)
        resize = self.resize_patch()
        return (main,) if resize is None else (PodWrite(RESIZE, resize, why), main)

    def pod_patch(
        self, *, labels: Mapping[str, str | None] = {}, annotations: Mapping[str, str | None] = {}
    ) -> dict[str, Any]:
        """Return the patch of the pod itself, with *labels* and *annotations* over what the update sets."""
        metadata = dict(self.metadata)
        for part, more in (("labels", labels), ("annotations", annotations)):
            if more:
                metadata[part] = {**metadata.get(part, {}), **more}
        body: dict[str, Any] = {"metadata": metadata}
        changed: dict[str, dict[str, Any]] = {name: {"image": image} for name, image in self.images.items()}
        for name, resources in self.resources.items():
            changed.setdefault(name, {})["resources"] = _plain(resources)
        if changed:
            body["spec"] = {"containers": [{"name": name, **parts} for name, parts in changed.items()]}
        return body

    def resize_patch(self) -> dict[str, Any] | None:
        """Return the patch of ``pods/resize``; ``None`` when there is nothing to resize."""
        if not self.resize:
            return None
        containers = [{"name": name, "resources": _plain(resources)} for name, resources in self.resize.items()]
        return {"spec": {"containers": containers}}


def needs_unready(pod: Pod, spec: UpdateSpec, gates: Gates) -> bool:
    """Tell whether the pod has to be taken out of service before *spec* is applied (7.3)."""
    if all(gate.condition_type != READINESS_GATE for gate in pod.spec.readiness_gates):
        return False
    if not (gates.vertical_scaling and spec.resources) or spec.images or spec.env_from_metadata:
        return True
    for name, container in spec_containers(pod).items():
        changed = {resource for part in spec.resources.get(name, {}).values() for resource in part}
        for policy in container.resize_policy:
            if policy.restart_policy == _RESTART and policy.resource_name in changed:
                return True
    return False


def initial_state(spec: UpdateSpec, now: float) -> State:
    """Return the state of an update that begins at *now*, in seconds since the epoch."""
    return State(
        revision=spec.revision,
        updated_at=format_time(now),
        env_from_metadata=spec.env_from_metadata,
        resources=bool(spec.resources),
        images=bool(spec.images),
    )


def next_spec(state: State) -> UpdateSpec | None:
    """Return what is left of an update for its next batches; ``None`` when nothing is."""
    if not state.has_next:
        return None
    return UpdateSpec(
        revision=state.revision,
        images=state.next_images,
        metadata=state.next_metadata,
        resources=state.next_resources,
        env_from_metadata=state.env_from_metadata,
    )


def held(pod: Pod, spec: UpdateSpec, state: State) -> dict[str, str | None]:
    """Return the annotations of a pod that keeps *spec* until its grace period is over."""
    have = pod.metadata.annotations
    return {**without_grace(have), **without_old_state(have), STATE_KEY: state.encode(), GRACE_KEY: spec.to_json()}


def apply_spec(pod: Pod, spec: UpdateSpec, state: State, *, now: float, gates: Gates) -> Applied:
    """Return the next step of *spec* on *pod*, whose update is at *state*. Raises StateError for an unusable patch."""
    meta = pod.metadata
    metadata: dict[str, Any] = {}
    if spec.metadata_patch is not None:
        metadata = applicable(spec.metadata_patch, {"labels": meta.labels, "annotations": meta.annotations})
    resources = spec.resources if gates.vertical_scaling else {}
    chosen = _chosen(pod, spec)
    later = [name for name in spec_containers(pod) if name not in chosen]
    for name in sorted(chosen):
        for part, values in spec.metadata.get(name, {}).items():
            metadata[part] = {**metadata.get(part, {}), **values}
    next_images, next_metadata = _of(later, spec.images), _of(later, spec.metadata)
    next_resources = _of(later, resources)
    waits = bool(next_images or next_metadata or next_resources)
    names = tuple(sorted(chosen))
    after = replace(
        state,
        last_images=_recorded(pod, state.last_images, [name for name in names if name in spec.images]),
        next_images=next_images,
        next_metadata=next_metadata,
        next_resources=next_resources,
        required_ready=names if waits else None,
        batches=(*state.batches, Batch(format_time(now), names)),
    )
    metadata["annotations"] = {
        **metadata.get("annotations", {}),
        **without_grace(meta.annotations),
        **without_old_state(meta.annotations),
        STATE_KEY: after.encode(),
    }
    have = spec_containers(pod)
    different = {name: _difference(pod, name, one) for name, one in _of(names, resources).items()}
    different = {name: one for name, one in different.items() if one}
    return Applied(
        after,
        names,
        metadata,
        images={
            name: spec.images[name] for name in names if spec.images.get(name, have[name].image) != have[name].image
        },
        resources={} if gates.resizes_apart else different,
        resize=different if gates.resizes_apart else {},
    )


def _chosen(pod: Pod, spec: UpdateSpec) -> set[str]:
    """Return the containers of this batch: those without a place in the order, and the first of those with one."""
    changing = spec.containers
    named = [container for container in pod.spec.containers if container.name in changing]
    priorities = {container.name: launch_priority(container) for container in named}
    first = max((place for place in priorities.values() if place is not None), default=None)
    chosen = {name for name, place in priorities.items() if place is None or place == first}
    grew = True
    while grew:
        written = {key for name in chosen for key in _keys(spec.metadata.get(name, {}))}
        more = {
            name
            for name in priorities
            if name not in chosen and not written.isdisjoint(_keys(spec.metadata.get(name, {})))
        }
        chosen |= more
        grew = bool(more)
    return chosen


def _keys(metadata: RefMetadata) -> Iterable[tuple[str, str]]:
    return [(part, key) for part, values in metadata.items() for key in values]


def _of(names: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _recorded(pod: Pod, known: Mapping[str, str] | None, names: Iterable[str]) -> Mapping[str, str] | None:
    """Return the imageIDs from which the containers *names* depart, beside those that are known."""
    statuses = status_containers(pod)
    new = {name: statuses[name].image_id for name in names if name in statuses and name not in (known or {})}
    return {**(known or {}), **new} if new else known


def _difference(pod: Pod, name: str, wanted: Resources) -> dict[str, dict[str, str]]:
    """Return the part of *wanted* that the container does not have yet. Nothing but cpu and memory can change."""
    have = spec_containers(pod)[name].resources
    found: dict[str, dict[str, str]] = {}
    for part, given in (("limits", have.limits), ("requests", have.requests)):
        for resource, value in wanted.get(part, {}).items():
            if resource in RESIZABLE and not same_quantity(given.get(resource), value):
                found.setdefault(part, {})[resource] = value
    return found


def _plain(resources: Resources) -> dict[str, dict[str, str]]:
    return {part: dict(values) for part, values in resources.items()}
