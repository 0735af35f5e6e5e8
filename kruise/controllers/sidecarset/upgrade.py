"""The patches that upgrade the sidecars of one pod in place: cold, hot, the flip after it, and the way back.

Purpose: spec/sidecarset 9.1, 10.3 and 8.2, as strategic merge patches.

Guarantees:

* C1: a patch of a pod names images of the set's own containers and annotations, and nothing else. C7: a pod that cannot
  be upgraded gets a condition and nothing else.
* One patch takes a pod to the new version; the condition ``SidecarSetUpgradable`` is a second one, and only when it
  changes (performance 2.2). The bytes of annotations are OpenKruise's.
* Hot: an image goes to the twin that does not serve, and a twin is emptied only while the other one is on a real image.
  There is no flip to an empty image name (9.4). When the old image is published again while the new twin fails, the
  working twin is noted again and the failing one is emptied (10.3).

What this does not do: it decides neither which pods nor when; ``plan`` does. Uid and version are added by whoever
sends (reliability rules 1 and 4).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kruise.apis import gojson
from kruise.apis.core import Pod
from kruise.apis.sidecarset import (
    HASH_ANNOTATION,
    HASH_WITHOUT_IMAGE_ANNOTATION,
    INJECTED_LIST_ANNOTATION,
    INPLACE_STATE_ANNOTATION,
    NOT_UPGRADABLE_REASON,
    UPGRADABLE_CONDITION,
    UPGRADABLE_REASON,
    VERSION_ALT_ANNOTATION_PREFIX,
    VERSION_ANNOTATION_PREFIX,
    WORKING_HOT_ANNOTATION,
)
from kruise.apis.sidecarset_metadata import patch_pod_metadata
from kruise.controllers.common.inplace.containers import spec_containers, status_containers
from kruise.controllers.common.inplace.writes import MAIN, STATUS, PodWrite
from kruise.controllers.common.readiness import condition_of
from kruise.controllers.sidecarset.frame import Frame
from kruise.controllers.sidecarset.podannotations import (
    Entry,
    InPlaceState,
    encode_entries,
    encode_map,
    encode_states,
    modern,
    parse_entries,
    parse_map,
    parse_states,
)
from kruise.controllers.sidecarset.podstate import (
    Twins,
    emptied,
    hash_entries,
    stranded,
    twins_of,
    upgrade_twin,
)
from kruise.runtime.clock import format_time

__all__ = ["condition_write", "flip_write", "lacks_upgradable", "repair_write", "upgrade_write"]

_IDLE_VERSION = "0"


class _Edit:
    """The changes to one pod that go into one patch."""

    def __init__(self, frame: Frame, pod: Pod, now: float) -> None:
        self.frame = frame
        self.pod = pod
        self.stamp = format_time(now)
        self.before = pod.metadata.annotations
        self.annotations: dict[str, str] = dict(pod.metadata.annotations)
        self._images: dict[str, str] = {}
        self._noted: dict[str, str] = {}

    def image(self, container: str, image: str) -> None:
        """Give *container* another image, and note what it runs now."""
        status = status_containers(self.pod).get(container)
        self._noted[container] = status.image_id if status is not None else ""
        self._images[container] = image

    def versions(self, container: str, version: str, alt: str) -> None:
        """Set what the variables of a twin show."""
        self.annotations[VERSION_ANNOTATION_PREFIX + container] = version
        self.annotations[VERSION_ALT_ANNOTATION_PREFIX + container] = alt

    def works(self, sidecar: str, container: str) -> None:
        """Note which twin works."""
        working = dict(parse_map(self.annotations.get(WORKING_HOT_ANNOTATION, "")))
        working[sidecar] = container
        self.annotations[WORKING_HOT_ANNOTATION] = encode_map(working)

    def empty(self, twins: Twins, failing: str, serving: str) -> None:
        """Let the twin *failing* have nothing to do."""
        self.image(failing, twins.target.empty)
        self.annotations[VERSION_ANNOTATION_PREFIX + failing] = _IDLE_VERSION
        self.annotations[VERSION_ALT_ANNOTATION_PREFIX + serving] = _IDLE_VERSION
        if not twins.noted or twins.worker.name != serving:
            self.works(twins.target.name, serving)

    def write(self, why: str) -> PodWrite | None:
        """Return the patch; ``None`` when it would change nothing."""
        self._note_state()
        changed = {key: value for key, value in self.annotations.items() if self.before.get(key) != value}
        containers = spec_containers(self.pod)
        images = [
            {"name": name, "image": image}
            for name, image in self._images.items()
            if name in containers and containers[name].image != image
        ]
        body: dict[str, Any] = {}
        if changed:
            body["metadata"] = {"annotations": changed}
        if images:
            body["spec"] = {"containers": images}
        return PodWrite(MAIN, body, why) if body else None

    def _note_state(self) -> None:
        text = self.before.get(INPLACE_STATE_ANNOTATION)
        states = dict((parse_states(text) if text else None) or {})
        name = self.frame.name
        state = states.get(name) or InPlaceState(self.frame.set.hash, self.stamp)
        states[name] = replace(state, last_images={**state.last_images, **self._noted})
        self.annotations[INPLACE_STATE_ANNOTATION] = encode_states(states)


# ---- upgrade ---------------------------------------------------------------------------------------------------------


def upgrade_write(
    frame: Frame, pod: Pod, now: float, *, revision: str, matching: Iterable[str] = ()
) -> PodWrite | None:
    """Return the patch that takes *pod* to the version of the set; ``None`` when nothing would change.

    *revision* is the name of the ControllerRevision of that version. *matching* are the sets that match the pod, for a
    pod that does not say which ones were injected. Raises MetadataPatchError.
    """
    edit = _Edit(frame, pod, now)
    _note_hashes(edit, revision)
    for target in frame.targets:
        if target.hot:
            _upgrade_hot(edit, twins_of(target, pod))
        else:
            container = spec_containers(pod).get(target.name)
            if container is not None and container.image != target.image:
                edit.image(target.name, target.image)
    if not edit.annotations.get(INJECTED_LIST_ANNOTATION) and (names := ",".join(matching)):
        edit.annotations[INJECTED_LIST_ANNOTATION] = names
    _patch_metadata(edit)
    return edit.write(f"upgrade of sidecars to {frame.set.hash}")


def _note_hashes(edit: _Edit, revision: str) -> None:
    entries = hash_entries(edit.pod)
    by_set = dict(entries.by_set)
    if entries.legacy:
        by_set = modern(entries.by_set, edit.stamp)
        # The annotation without images is of the same age. Where it is, what it lacks comes from the other one, as
        # OpenKruise has it.
        plain = parse_entries(edit.before.get(HASH_WITHOUT_IMAGE_ANNOTATION, ""))
        if plain.legacy:
            both = modern({**entries.by_set, **plain.by_set}, edit.stamp)
            edit.annotations[HASH_WITHOUT_IMAGE_ANNOTATION] = encode_entries(both)
    name = edit.frame.name
    by_set[name] = Entry(edit.frame.set.hash, edit.stamp, name, edit.frame.sidecar_list, revision)
    edit.annotations[HASH_ANNOTATION] = encode_entries(by_set)


def _upgrade_hot(edit: _Edit, twins: Twins) -> None:
    target = twins.target
    taken = upgrade_twin(edit.frame, twins, edit.pod)
    if not taken:
        return
    kept = twins.named(target.twin_of(taken))
    if kept.image == target.image:
        if taken == twins.worker.name and target.empty and twins.worker.image != target.empty:
            edit.empty(twins, taken, kept.name)
        return
    version = edit.frame.set.resource_version
    before = edit.before.get(VERSION_ANNOTATION_PREFIX + kept.name, "")
    edit.image(taken, target.image)
    edit.versions(taken, version, before)
    edit.annotations[VERSION_ALT_ANNOTATION_PREFIX + kept.name] = version
    edit.works(target.name, taken)


def _patch_metadata(edit: _Edit) -> None:
    patches = edit.frame.set.spec.patch_pod_metadata
    if patches:
        edit.annotations = patch_pod_metadata(edit.annotations, patches)[0]


# ---- the second step of a hot upgrade --------------------------------------------------------------------------------


def flip_write(frame: Frame, pod: Pod, now: float) -> PodWrite | None:
    """Return the patch that empties the twins that have handed over; ``None`` when there are none."""
    edit = _Edit(frame, pod, now)
    found = emptied(frame, pod)
    for twins in found:
        edit.empty(twins, twins.other.name, twins.worker.name)
    return edit.write("end of a hot upgrade: empty the old twin") if found else None


def repair_write(frame: Frame, pod: Pod, now: float) -> PodWrite | None:
    """Return the patch that takes a hot upgrade back whose new twin fails; ``None`` when there is nothing to repair."""
    edit = _Edit(frame, pod, now)
    found = stranded(frame, pod)
    for twins in found:
        edit.empty(twins, twins.worker.name, twins.other.name)
    return edit.write("hot upgrade taken back: empty the failing twin") if found else None


# ---- the condition ---------------------------------------------------------------------------------------------------


def condition_write(name: str, pod: Pod, now: float, *, upgradable: bool) -> PodWrite | None:
    """Return the patch of the condition SidecarSetUpgradable for the set *name*; ``None`` when it already says so."""
    old = condition_of(pod, UPGRADABLE_CONDITION)
    said = {**_said(old.message if old is not None else ""), name: upgradable}
    good = not any(value is False for value in said.values())
    status = "True" if good else "False"
    reason = UPGRADABLE_REASON if good else NOT_UPGRADABLE_REASON
    message = gojson.encode_sorted(said).decode()
    if old is not None and (old.status, old.reason, old.message) == (status, reason, message):
        return None
    since = old.last_transition_time if old is not None and old.status == status else None
    condition = {
        "type": UPGRADABLE_CONDITION,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": since or format_time(now),
        "reason": reason,
        "message": message,
    }
    return PodWrite(STATUS, {"status": {"conditions": [condition]}}, f"sidecars upgradable: {status}")


def lacks_upgradable(name: str, pod: Pod) -> bool:
    """Tell whether the condition has yet to say that the set *name* upgraded the pod.

    It says that it could not; or it says nothing, because the pod was changed between the upgrade and that write.
    """
    old = condition_of(pod, UPGRADABLE_CONDITION)
    said = _said(old.message).get(name) if old is not None else None
    if said is False:
        return True
    text = pod.metadata.annotations.get(INPLACE_STATE_ANNOTATION)
    return said is None and text is not None and name in (parse_states(text) or ())


def _said(message: str) -> Mapping[str, Any]:
    """Return what the condition says of each set; a message of another form is replaced."""
    try:
        found = json.loads(message) if message else None
        gojson.encode_sorted(found)  # a number that JSON does not have
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
