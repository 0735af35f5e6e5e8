"""One pod of a SidecarSet: what it is, and what an upgrade makes of it, against the recorded answers."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from kruise.apis.sidecarset import (
    HASH_ANNOTATION,
    HASH_WITHOUT_IMAGE_ANNOTATION,
    UPGRADABLE_CONDITION,
    WORKING_HOT_ANNOTATION,
)
from kruise.apis.sidecarset_metadata import MetadataPatchError
from kruise.controllers.common.inplace.containers import same_image, spec_containers
from kruise.controllers.common.inplace.writes import PodWrite
from kruise.controllers.sidecarset.frame import Frame
from kruise.controllers.sidecarset.match import Matcher, NamespaceIndex, index_keys, is_active
from kruise.controllers.sidecarset.podannotations import parse_map
from kruise.controllers.sidecarset.podstate import (
    complete,
    consistent,
    entry_of,
    flip_of,
    is_injected,
    ready,
    stranded,
    twins_of,
    upgrade_in_progress,
    upgrade_twin,
)
from kruise.controllers.sidecarset.upgrade import condition_write, flip_write, upgrade_write
from tests.golden.loader import Case, deviations_for, parametrize
from tests.golden.pod_flow import after_write, typed
from tests.golden.sidecar_world import JSON, NOW, STAMP, comparable, frame_of, stamped

STATE, UPGRADE, FLIP = "sidecarset-pod-state", "sidecarset-upgrade-pod", "sidecarset-upgrade-flip"
CONDITION = "sidecarset-upgradable-condition"


def deviates(case: Case, action: str) -> bool:
    return bool(deviations_for(case, action))


# ---- state -----------------------------------------------------------------------------------------------------------


def unusable_note(frame: Frame, pod: JSON) -> bool:
    """Whether the pod does not say which twin of some sidecar works."""
    text = (pod["metadata"].get("annotations") or {}).get(WORKING_HOT_ANNOTATION, "")
    working = parse_map(text)
    images = {one["name"]: one.get("image", "") for one in pod["spec"].get("containers") or ()}
    for target in frame.hot:
        noted = working.get(target.name, "")
        if noted not in target.names:
            return True
        idle = ("", target.empty)
        if target.empty and images.get(noted, "") in idle and images.get(target.twin_of(noted), "") not in idle:
            return True  # it names the twin that waits
    return False


def lacks_twin(frame: Frame, pod: JSON) -> bool:
    names = {container["name"] for container in pod["spec"].get("containers") or ()}
    return any(not names.issuperset(target.names) for target in frame.hot)


def respelled(pod: JSON) -> bool:
    """Whether an image is spelled in two ways that mean the same."""
    statuses = {one["name"]: one for one in (pod.get("status") or {}).get("containerStatuses") or ()}
    for container in pod["spec"].get("containers") or ():
        image, status = container.get("image", ""), statuses.get(container["name"], {})
        running = status.get("imageID", "").rpartition("://")[2] if "@sha256:" in image else status.get("image", "")
        if running and image != running and same_image(image, running):
            return True
    return False


def answers(case: Case, frame: Frame) -> JSON:
    pod = typed(case.input["pod"])
    can = entry_of(frame.name, pod, HASH_WITHOUT_IMAGE_ANNOTATION).hash == frame.set.hash_without_image
    entry = entry_of(frame.name, pod)
    found: JSON = {
        "active": is_active(pod.status.phase, pod.metadata.deletion_timestamp),
        "canUpgrade": can,
        "consistentWithSet": complete(frame, pod),
        "injected": is_injected(frame.name, pod),
        "podControllerRevision": entry.revision,
        "podHash": entry.hash,
        "podHashWithoutImage": entry_of(frame.name, pod, HASH_WITHOUT_IMAGE_ANNOTATION).hash,
        "ready": ready(frame, pod),
        "sidecarContainers": sorted(frame.pod_names),
        "stateConsistent": consistent(frame, pod),
        "updated": entry.hash == frame.set.hash,
        "upgradeConsistent": can and not upgrade_in_progress(frame, pod),
    }
    if "containers" in case.input:
        found["stateConsistentFor"] = consistent(frame, pod, case.input["containers"])
    if frame.hot:
        found["hot"] = {}
        for target in frame.hot:
            twins = twins_of(target, pod)
            taken = upgrade_twin(frame, twins, pod)
            kept = target.twin_of(taken) if taken else twins.worker.name
            found["hot"][target.name] = {
                "working": twins.worker.name,
                "other": twins.other.name,
                "toUpgrade": taken,
                "toKeep": kept,
            }
    return found


@parametrize(STATE)
def test_x29_state_of_a_pod(case: Case) -> None:
    frame = frame_of(case.input["set"])
    found = answers(case, frame)
    if "crash" in case.output:
        assert found["stateConsistent"]
        return
    wanted = dict(case.output)
    if unusable_note(frame, case.input["pod"]) and found != wanted:
        assert deviates(case, "serving-twin")
        for name in ("hot", "ready"):
            found.pop(name, None)
            wanted.pop(name, None)
    if respelled(case.input["pod"]) and found != wanted:
        assert deviates(case, "one-normalisation")
        for name in ("stateConsistent", "upgradeConsistent", "stateConsistentFor"):
            found.pop(name, None)
            wanted.pop(name, None)
    assert found == wanted


# ---- upgrade ---------------------------------------------------------------------------------------------------------


def matching_sets(case: Case) -> list[str]:
    """The sets that match the pod: those of its namespace first."""
    labels = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in case.input["namespaces"]}
    pod = case.input["pod"]["metadata"]
    bodies = [case.input["set"], *case.input["otherSets"]]
    index = NamespaceIndex(
        (index_keys(one["spec"].get("namespaceSelector")), one, Matcher.of(one["spec"]).anchors) for one in bodies
    )
    return [
        one["metadata"]["name"]
        for one in index.candidates(pod["namespace"], pod.get("labels") or {})
        if Matcher.of(one["spec"]).matches(pod.get("labels"), labels.get(pod["namespace"]))
    ]


def upgraded(case: Case, frame: Frame) -> tuple[JSON, list[PodWrite]]:
    """The pod after an upgrade, with the one or two writes."""
    body: JSON = case.input["pod"]
    revision = (case.input["set"].get("status") or {}).get("latestRevision", "")
    pod = typed(body)
    first = upgrade_write(frame, pod, NOW, revision=revision, matching=matching_sets(case))
    second = condition_write(frame.name, pod, NOW, upgradable=True)
    writes = [one for one in (first, second) if one is not None]
    for write in writes:
        changed = after_write(body, write)
        assert changed != body
        body = changed
    return body, writes


def own_names(pod: JSON) -> JSON:
    """A pod whose converted entries bear the names of their own sets."""
    for key in (HASH_ANNOTATION, HASH_WITHOUT_IMAGE_ANNOTATION):
        if text := pod["metadata"]["annotations"].get(key):
            entries = json.loads(text)
            for name, entry in entries.items():
                if entry["updateTimestamp"] == STAMP:
                    entry["sidecarSetName"] = name
            pod["metadata"]["annotations"][key] = json.dumps(entries, separators=(",", ":"))
    return pod


@parametrize(UPGRADE)
def test_c1_upgrade_of_a_pod(case: Case) -> None:
    frame = frame_of(case.input["set"])
    pod = typed(case.input["pod"])
    if "error" in case.output and not spoilt_message(case):
        with pytest.raises(MetadataPatchError):
            upgraded(case, frame)
        return
    found, writes = upgraded(case, frame)
    for write in writes:
        assert set(write.patch) <= {"metadata", "spec", "status"}
        for container in write.patch.get("spec", {}).get("containers", ()):
            assert set(container) == {"name", "image"}
            assert container["name"] in frame.pod_names
    if "error" in case.output:
        assert deviates(case, "message-replaced")
    if "crash" in case.output or "error" in case.output:
        images = {container["name"]: container["image"] for container in found["spec"]["containers"]}
        assert all(images[target.name] == target.image for target in frame.targets if not target.hot)
        return
    wanted = stamped(case.output["pod"])
    if taken_back(frame, pod):
        assert deviates(case, "taken-back")
        return
    found, wanted = comparable(found), comparable(wanted)
    if found != wanted:
        legacy = own_names(deepcopy(wanted))
        if deviates(case, "own-name") and found == legacy:
            return
    assert found == wanted


def spoilt_message(case: Case) -> bool:
    """Whether the condition on the pod has a message that is not a JSON object."""
    for one in (case.input["pod"].get("status") or {}).get("conditions") or ():
        if one["type"] == UPGRADABLE_CONDITION and one.get("message"):
            try:
                return not isinstance(json.loads(one["message"]), dict)
            except ValueError:
                return True
    return False


def taken_back(frame: Frame, pod: Any) -> bool:
    """Whether the old image is published again while the new twin fails."""
    for target in frame.hot:
        twins = twins_of(target, pod)
        taken = upgrade_twin(frame, twins, pod)
        kept = spec_containers(pod).get(target.twin_of(taken)) if taken else None
        if kept is not None and kept.image == target.image and taken == twins.worker.name and not_empty(twins):
            return True
    return bool(stranded(frame, pod))


def not_empty(twins: Any) -> bool:
    return bool(twins.worker.image != twins.target.empty)


# ---- flip ------------------------------------------------------------------------------------------------------------


@parametrize(FLIP)
def test_c5_flip(case: Case) -> None:
    frame = frame_of(case.input["set"])
    pod = typed(case.input["pod"])
    flip = flip_of(frame, pod)
    found: JSON = {
        "flip": flip.due,
        "conditions": {"upgrading": flip.upgrading, "consistent": flip.consistent, "ready": flip.ready},
    }
    write = flip_write(frame, pod, NOW) if flip.due else None
    if write is not None:
        found["pod"] = after_write(case.input["pod"], write)
        for container in write.patch["spec"]["containers"]:
            target = next(one for one in frame.hot if container["name"] in one.names)
            assert container["name"] != twins_of(target, pod).worker.name
    if unusable_note(frame, case.input["pod"]):
        assert deviates(case, "serving-twin")
        serving = [twins_of(target, pod) for target in frame.hot]
        assert all(twins.worker.image not in ("", twins.target.empty) for twins in serving)
        return
    if any(not target.empty for target in frame.hot):
        assert deviates(case, "no-empty-name")
        assert not found["flip"]
        return
    wanted = stamped(case.output)
    assert (found["flip"], found["conditions"]) == (wanted["flip"], wanted["conditions"])
    assert ("pod" in found) == ("pod" in wanted)
    if "pod" in found:
        assert comparable(found["pod"]) == comparable(wanted["pod"])


# ---- condition -------------------------------------------------------------------------------------------------------


@parametrize(CONDITION)
def test_c7_condition(case: Case) -> None:
    pod = typed(case.input["pod"])
    name = case.input["set"]["metadata"]["name"]
    write = condition_write(name, pod, NOW, upgradable=case.input["upgradable"])
    after = case.input["pod"] if write is None else after_write(case.input["pod"], write)
    if write is not None:
        (condition,) = write.patch["status"]["conditions"]
        assert set(write.patch) == {"status"}
        assert list(condition) == ["type", "status", "lastProbeTime", "lastTransitionTime", "reason", "message"]
    if "conditions" not in case.output:
        assert deviates(case, "message-replaced")
        assert write is not None
        assert json.loads(write.patch["status"]["conditions"][0]["message"]) == {name: case.input["upgradable"]}
        return
    found = comparable(after)["status"]["conditions"]
    wanted = comparable({"metadata": {}, "status": {"conditions": stamped(case.output["conditions"])}})
    assert found == wanted["status"]["conditions"]
    assert any(one["type"] == UPGRADABLE_CONDITION for one in found)


@pytest.mark.parametrize("text", ["null", "[]", '{"mesh":null}', '{"mesh":[]}', '{"mesh":{"hash":1}}', "{", "7", ""])
def test_x29_no_annotation_raises(text: str) -> None:
    from tests.golden.sidecar_world import HOT_SET, hot_pod

    frame = frame_of(HOT_SET)
    for key in hot_pod()["metadata"]["annotations"]:
        body = hot_pod()
        body["metadata"]["annotations"][key] = text
        pod = typed(body)
        upgrade_write(frame, pod, NOW, revision="r")
        flip_write(frame, pod, NOW)
        consistent(frame, pod)
