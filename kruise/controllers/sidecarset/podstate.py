"""What one pod is to one SidecarSet: injected, updated, upgradable, consistent, ready.

Purpose: one function for each question of spec/sidecarset 7.3 and 9, and :class:`PodState`, which answers all of them
for the view, so that planner, status, explanation and tests mean the same (reliability rule 26).

Guarantees:

* A pod is consistent when the kubelet runs what its spec says: images compare by what they mean, not by how they are
  spelled (rule 26, X7). A foreign or broken annotation never raises (X29).
* Of hot upgraded twins one serves. Where the note on the pod cannot be used it is told by images, readiness and
  versions (spec 10.2), so the only serving twin is never taken for the idle one.

What this does not do: nothing here knows other pods, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from kruise.apis.core import Container, ContainerStatus, Pod
from kruise.apis.podtemplate.images import parse_image
from kruise.apis.sidecarset import (
    HASH_ANNOTATION,
    HASH_WITHOUT_IMAGE_ANNOTATION,
    INJECTED_LIST_ANNOTATION,
    INPLACE_STATE_ANNOTATION,
    VERSION_ANNOTATION_PREFIX,
    WORKING_HOT_ANNOTATION,
)
from kruise.controllers.common.inplace.containers import same_image, spec_containers, status_containers
from kruise.controllers.common.readiness import condition_of
from kruise.controllers.sidecarset.frame import Frame, Target
from kruise.controllers.sidecarset.podannotations import (
    NO_ENTRIES,
    Entries,
    Entry,
    injected_names,
    parse_entries,
    parse_map,
    parse_states,
)
from kruise.runtime.objects import Object

__all__ = [
    "Flip",
    "PodState",
    "Twins",
    "complete",
    "consistent",
    "emptied",
    "entry_of",
    "flip_of",
    "hash_entries",
    "is_injected",
    "pod_ready",
    "ready",
    "state_of_pod",
    "stranded",
    "twins_of",
    "upgrade_in_progress",
    "upgrade_twin",
]


# ---- whose pod it is -------------------------------------------------------------------------------------------------


def is_injected(name: str, pod: Object) -> bool:
    """Tell whether the set *name* was injected into the pod."""
    return name in injected_names(pod.metadata.annotations.get(INJECTED_LIST_ANNOTATION, ""))


def complete(frame: Frame, pod: Pod) -> bool:
    """Tell whether the pod has every container of the set; it was made by this set, or by one that had more."""
    names = {container.name for container in pod.spec.containers}
    working = None
    for target in frame.targets:
        if target.hot:
            if working is None:
                working = parse_map(pod.metadata.annotations.get(WORKING_HOT_ANNOTATION, ""))
            if target.name not in working or not names.issuperset(target.names):
                return False
        elif target.name not in names and all(one.name != target.name for one in pod.spec.init_containers):
            return False
    return True


def hash_entries(pod: Object, key: str = HASH_ANNOTATION) -> Entries:
    """Return what a hash annotation of the pod says."""
    text = pod.metadata.annotations.get(key)
    return parse_entries(text) if text else NO_ENTRIES


def entry_of(name: str, pod: Object, key: str = HASH_ANNOTATION) -> Entry:
    """Return the entry of the set *name* in a hash annotation of the pod."""
    return hash_entries(pod, key).of(name)


# ---- what runs -------------------------------------------------------------------------------------------------------


def consistent(frame: Frame, pod: Pod, names: Collection[str] = ()) -> bool:
    """Tell whether the containers *names* run what the spec of the pod says; none given: all of the set."""
    wanted = names or frame.pod_names
    if len(pod.spec.containers) != len(pod.status.container_statuses):
        return False
    statuses: Mapping[str, ContainerStatus] | None = None
    for container in pod.spec.containers:
        if container.name not in wanted:
            continue
        image = parse_image(container.image)
        if image is None or not image.digest:
            return _settled(frame.name, pod, wanted)
        if statuses is None:
            statuses = status_containers(pod)
        status = statuses.get(container.name)
        running = parse_image(status.image_id.rpartition("://")[2]) if status is not None else None
        if running is None or running.name != image.name or running.digest != image.digest:
            return False
    return True


def _settled(name: str, pod: Pod, wanted: Collection[str]) -> bool:
    """Tell it by what was noted when images were changed."""
    text = pod.metadata.annotations.get(INPLACE_STATE_ANNOTATION)
    if text is None:
        return True
    states = parse_states(text)
    if states is None:
        return False
    state = states.get(name)
    if state is None or not state.last_images:
        return True
    images = {container.name: container.image for container in pod.spec.containers}
    for status in pod.status.container_statuses:
        before = state.last_images.get(status.name)
        if status.name not in wanted or before is None or before != status.image_id:
            continue
        if not same_image(images.get(status.name, ""), status.image):
            return False
    return True


def pod_ready(pod: Pod) -> bool:
    """Tell whether the Ready condition is True, whatever the phase."""
    condition = condition_of(pod, "Ready")
    return condition is not None and condition.status == "True"


def _running(pod: Pod) -> bool:
    return pod.status.phase == "Running" and pod_ready(pod)


def ready(frame: Frame, pod: Pod) -> bool:
    """Tell whether the pod works, and none of its hot sidecars is between two versions."""
    if pod.terminating or not _running(pod):
        return False
    return all(twins_of(target, pod).idle for target in frame.hot if target.empty)


def upgrade_in_progress(frame: Frame, pod: Pod) -> bool:
    """Tell whether a container of the set still runs, ready, what an earlier upgrade took away from it."""
    for status in pod.status.container_statuses:
        if status.ready and status.name in frame.pod_names and not consistent(frame, pod, (status.name,)):
            return True
    return False


# ---- twins -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Twins:
    """The two containers of a hot upgraded sidecar."""

    target: Target
    worker: Container
    other: Container
    noted: bool
    """Whether the pod itself says which one works, and that can be."""

    @property
    def idle(self) -> bool:
        """Whether the other twin waits on the empty image; one that is missing has nothing to wait for."""
        return self.other.image in ("", self.target.empty)

    def named(self, name: str) -> Container:
        """Return the twin *name*."""
        return self.worker if self.worker.name == name else self.other


def twins_of(target: Target, pod: Pod) -> Twins:
    """Return the twins of *target* in the pod; one that is missing has no image."""
    containers = spec_containers(pod)
    first, second = (containers.get(name) or Container(name=name) for name in target.names)
    noted = parse_map(pod.metadata.annotations.get(WORKING_HOT_ANNOTATION, "")).get(target.name)
    works = first if noted == first.name else second
    usable = noted in target.names and not _only_other_serves(target, works, second if works is first else first)
    if not usable:
        works = _serving(target, pod, first, second)
    return Twins(target, works, second if works is first else first, usable)


def _only_other_serves(target: Target, worker: Container, other: Container) -> bool:
    idle = ("", target.empty)
    return bool(target.empty) and worker.image in idle and other.image not in idle


def _serving(target: Target, pod: Pod, first: Container, second: Container) -> Container:
    """Return the twin that serves, told by all but the note (spec 10.2)."""
    real = [one for one in (first, second) if one.image and one.image != target.empty]
    if len(real) == 1:
        return real[0]
    statuses = status_containers(pod)
    up = [one for one in (first, second) if one.name in statuses and statuses[one.name].ready]
    if len(up) == 1:
        return up[0]
    return second if _version(pod, second.name) > _version(pod, first.name) else first


def _version(pod: Pod, name: str) -> int:
    text = pod.metadata.annotations.get(VERSION_ANNOTATION_PREFIX + name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0


def upgrade_twin(frame: Frame, twins: Twins, pod: Pod) -> str:
    """Return the name of the twin that the next upgrade takes; ``""`` when one of them is missing (spec 10.3)."""
    target = twins.target
    one, two = target.names
    if not (twins.worker.image and twins.other.image):
        return ""
    for name in (one, two):
        if twins.named(name).image == target.empty:
            return name
    statuses = status_containers(pod)
    bad = [n for n in (one, two) if not (n in statuses and statuses[n].ready and consistent(frame, pod, (n,)))]
    return bad[0] if len(bad) == 1 else twins.other.name


@dataclass(frozen=True, slots=True)
class Flip:
    """Whether the idle twins of a pod may be emptied, and why not."""

    upgrading: bool
    consistent: bool
    ready: bool

    @property
    def due(self) -> bool:
        """Whether to do it now."""
        return self.upgrading and self.consistent and self.ready


def emptied(frame: Frame, pod: Pod) -> tuple[Twins, ...]:
    """Return the twins of which the other one still has to be emptied. The only one that serves never is."""
    found = (twins_of(target, pod) for target in frame.hot if target.empty)
    return tuple(twins for twins in found if not twins.idle)


def flip_of(frame: Frame, pod: Pod) -> Flip:
    """Tell how far the hot upgrade of the pod is."""
    upgrading = bool(emptied(frame, pod))
    others = {twins_of(target, pod).other.name for target in frame.hot}
    rest = frame.pod_names - others
    good = consistent(frame, pod, rest) if rest else True
    works = _running(pod) or all(one.ready for one in pod.status.container_statuses if one.name not in others)
    return Flip(upgrading, good, works)


def stranded(frame: Frame, pod: Pod) -> tuple[Twins, ...]:
    """Return the twins whose worker fails while the other one already runs, and works on, the image of the set.

    A hot upgrade was taken back: the old image is the wanted one again, and the failing twin has to go (spec 10.3).
    """
    statuses = status_containers(pod)
    found: list[Twins] = []
    for target in frame.hot:
        twins = twins_of(target, pod)
        if not target.empty or twins.other.image != target.image or twins.worker.image in ("", target.image):
            continue
        if twins.idle or twins.worker.image == target.empty:
            continue
        serving, failing = statuses.get(twins.other.name), statuses.get(twins.worker.name)
        up = serving is not None and serving.ready and consistent(frame, pod, (twins.other.name,))
        down = failing is None or not failing.ready or not consistent(frame, pod, (twins.worker.name,))
        if up and down:
            found.append(twins)
    return tuple(found)


# ---- all of it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PodState:
    """The answers for one pod and one set."""

    entry: Entry
    updated: bool
    """It is at the hash of the set."""
    upgradable: bool
    """Nothing but images differs."""
    in_progress: bool
    """It is outdated, and an earlier upgrade has to end first."""
    consistent: bool
    ready: bool
    flip: bool
    """Twins are to be emptied."""
    repair: bool
    """It is updated, and a failing twin is still its worker."""


def state_of_pod(frame: Frame, pod: Pod) -> PodState:
    """Judge a matched pod."""
    entry = entry_of(frame.name, pod)
    updated = entry.hash == frame.set.hash
    upgradable = entry_of(frame.name, pod, HASH_WITHOUT_IMAGE_ANNOTATION).hash == frame.set.hash_without_image
    settled = consistent(frame, pod)
    hot = bool(frame.hot)
    repair = hot and updated and bool(stranded(frame, pod))
    return PodState(
        entry=entry,
        updated=updated,
        upgradable=upgradable,
        in_progress=upgradable and not updated and upgrade_in_progress(frame, pod),
        consistent=settled,
        ready=ready(frame, pod),
        flip=hot and not repair and flip_of(frame, pod).due,
        repair=repair,
    )
