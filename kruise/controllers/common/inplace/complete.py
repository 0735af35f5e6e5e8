"""Whether an in-place update is complete: what the kubelet reports is what the spec asks for.

Purpose: the gate of a pod may turn True, and a batch may follow, only when the containers of the step before run what
they should (spec/advanced-statefulset 7.7, 7.8).

Guarantees:

* S4: an image counts as running when the status names it, or when its content changed since the update began. A status
  that still names what a later update overtook counts for nothing (7.9).
* X7: the same content under a new tag, a name or an imageID that got a registry before it, are no reason to wait; where
  the status keeps the old tag, a restart after the change is the sign. X8, X9: neither is a step back to an image that
  never stopped, nor one written without its tag.
* Every answer "not yet" names what is waited for.

The restart is told by the times of kubelet and manager. Where the kubelet says which generation it has seen, it must
have seen the change.

What this does not do: readiness is not asked, except before the next batch. Of the two plain hashes of a node daemon,
the one of kubelets up to 1.30 needs the whole container, which is not kept: such a pod is judged by its images.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kruise.apis import gojson
from kruise.apis.core import Container, ContainerStatus, Pod
from kruise.apis.hashes import deep_hash_bytes, env_from_metadata_hash
from kruise.controllers.common.inplace.annotations import RUNTIME_META_KEY, StateError, decode, grace_text
from kruise.controllers.common.inplace.containers import (
    runs_digest_of,
    same_image,
    same_image_id,
    same_resources,
    spec_containers,
    status_containers,
)
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.state import State, state_of
from kruise.runtime.clock import parse_time

__all__ = ["DONE", "Completion", "Unfinished", "completion", "containers_done", "ready_for_next", "unfinished_images"]


class Unfinished(enum.StrEnum):
    """What an update in place still waits for."""

    GRACE_PERIOD = "GracePeriod"
    UNREADABLE = "UnreadableAnnotation"
    NEXT_BATCH = "NextBatch"
    ENVIRONMENT = "Environment"
    RESOURCES = "Resources"
    IMAGE = "Image"
    STATUS = "ContainerStatus"
    READINESS = "ContainerReadiness"


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer."""

    done: bool
    reason: Unfinished | None = None
    evidence: str = ""
    container: str = ""
    """The container that is waited for, where it is one."""


DONE: Final = Completion(True)


def completion(pod: Pod, gates: Gates) -> Completion:
    """Tell whether the in-place update of *pod* is complete; it is when there is none."""
    annotations = pod.metadata.annotations
    if not annotations:
        return DONE
    if grace_text(annotations) is not None:
        return _not(Unfinished.GRACE_PERIOD, "still in grace period of in-place update")
    try:
        state = state_of(annotations)
    except StateError as error:
        return _not(Unfinished.UNREADABLE, str(error))
    if state is None:
        return DONE
    if state.has_next:
        return _not(Unfinished.NEXT_BATCH, "existing containers to in-place update in next batches")
    return containers_done(pod, state, gates)


def containers_done(pod: Pod, state: State, gates: Gates) -> Completion:
    """Tell whether the containers that were changed so far run what they should; next batches are not asked for."""
    try:
        meta = _runtime_meta(pod)
    except StateError as error:
        return _not(Unfinished.UNREADABLE, str(error))
    if state.env_from_metadata and gates.restarts_for_metadata:
        if meta is None:
            text = "waiting for all containers hash consistent, but runtime-container-meta not found"
            return _not(Unfinished.ENVIRONMENT, text)
        wrong = next(_other_environment(pod, meta), None)
        if wrong is not None:
            return _not(Unfinished.ENVIRONMENT, "waiting for all containers hash consistent", wrong)
    if state.resources and gates.vertical_scaling:
        waits = _resources(pod)
        if waits is not None:
            return waits
    if meta is not None and all(_runs_plain(container, one) for container, one in _paired(pod, meta)):
        return DONE
    waiting = next(iter(unfinished_images(pod, state)), None)
    if waiting is not None:
        return _not(Unfinished.IMAGE, f"container {waiting} imageID not changed", waiting)
    statuses = status_containers(pod)
    missing = sorted(name for name in state.last_images or {} if name not in statuses)
    if missing:
        return _not(Unfinished.STATUS, f"not found statuses of containers {', '.join(missing)}", missing[0])
    return DONE


def ready_for_next(pod: Pod, state: State) -> Completion:
    """Tell whether the next batch may follow: the containers of the one before are ready."""
    statuses = status_containers(pod)
    for name in state.required_ready or ():
        status = statuses.get(name)
        if status is None:
            return _not(Unfinished.STATUS, f"not found statuses of containers {name}", name)
        if not status.ready:
            return _not(Unfinished.READINESS, f"container {name} is not ready", name)
    return DONE


def _not(reason: Unfinished, evidence: str, container: str = "") -> Completion:
    return Completion(False, reason, evidence, container)


# Images.


def unfinished_images(pod: Pod, state: State) -> Iterator[str]:
    """Yield the containers whose status does not show the image that was set, in the order of their statuses."""
    if not state.last_images:
        return
    containers = spec_containers(pod)
    for status in pod.status.container_statuses:
        before = state.last_images.get(status.name)
        if before is None:
            continue
        container = containers.get(status.name)
        if not _runs_image(pod, state, container.image if container else "", status, before):
            yield status.name


def _runs_image(pod: Pod, state: State, image: str, status: ContainerStatus, before: str) -> bool:
    if same_image(image, status.image) or runs_digest_of(image, status.image_id):
        return True
    overtaken = any(same_image(one, status.image) for one in state.superseded.get(status.name, ()))
    changed = bool(status.image_id) and not same_image_id(status.image_id, before)
    if changed and not overtaken:
        return True
    return _restarted(pod, state, status, later=overtaken)


def _restarted(pod: Pod, state: State, status: ContainerStatus, *, later: bool) -> bool:
    """Tell whether the container ended and runs again since its image was set, by a kubelet that knows of it.

    Times have whole seconds. *later*: within the second of the change it may have ended for the image before.
    """
    ended = status.last_state.terminated
    if ended is None or status.state.waiting is not None or status.state.terminated is not None:
        return False
    generation, seen = pod.metadata.generation, pod.status.observed_generation
    if generation and seen and seen < generation:
        return False
    changed_at = max((b.timestamp for b in state.batches if status.name in b.containers), default="")
    changed, finished = parse_time(changed_at), parse_time(ended.finished_at)
    if changed is None or finished is None:
        return False
    return finished > changed if later else finished >= changed


# Resources.


def _resources(pod: Pod) -> Completion | None:
    statuses = status_containers(pod)
    containers = spec_containers(pod)
    if len(statuses) != len(containers):
        return _not(Unfinished.STATUS, "some container status is not reported")
    for name, status in statuses.items():
        container = containers.get(name)
        if container is None or not same_resources(container.resources, status.resources):
            return _not(Unfinished.RESOURCES, f"container {name} resources not changed", name)
    return None


# What a node daemon reports.


class _Hashes(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    plain_hash: int = 0
    extracted_env_from_metadata_hash: int = 0


class _RuntimeContainer(msgspec.Struct, frozen=True, gc=False):
    name: str = ""
    container_id: str = msgspec.field(default="", name="containerID")
    hashes: _Hashes = _Hashes()


class _RuntimeMeta(msgspec.Struct, frozen=True, gc=False):
    containers: tuple[_RuntimeContainer, ...] = ()


def _runtime_meta(pod: Pod) -> _RuntimeMeta | None:
    text = pod.metadata.annotations.get(RUNTIME_META_KEY)
    return None if text is None else decode(text, _RuntimeMeta, RUNTIME_META_KEY)


def _paired(pod: Pod, meta: _RuntimeMeta) -> Iterator[tuple[Container, _RuntimeContainer | None]]:
    """Yield each container with what is said of the run that its status shows."""
    statuses = status_containers(pod)
    runs = {one.container_id: one for one in meta.containers}
    for container in pod.spec.containers:
        status = statuses.get(container.name)
        yield container, runs.get(status.container_id) if status is not None else None


def _runs_plain(container: Container, run: _RuntimeContainer | None) -> bool:
    plain = gojson.encode(
        {"image": container.image, "name": container.name} if container.image else {"name": container.name}
    )
    return run is not None and run.hashes.plain_hash == deep_hash_bytes(plain)


def _other_environment(pod: Pod, meta: _RuntimeMeta) -> Iterator[str]:
    """Yield the containers whose variables do not show the pod's metadata as it is now."""
    for container, run in _paired(pod, meta):
        variables = {"env": [_variable(one.name, one.value_from) for one in container.env]}
        wanted = env_from_metadata_hash(variables, pod.metadata.labels, pod.metadata.annotations)
        if run is None or run.hashes.extracted_env_from_metadata_hash != wanted:
            yield container.name


def _variable(name: str, source: Any) -> Mapping[str, Any]:
    field = source.field_ref if source is not None else None
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": field.field_path}}} if field else {"name": name}
