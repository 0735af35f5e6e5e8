"""Pods before and after writes: what a test of one pod's steps compares.

The number and form of requests are ours (performance 2.1); what must agree is the pod that they leave behind.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson

from kruise.apis.core import Pod
from kruise.controllers.common.inplace.writes import PodWrite
from kruise.runtime.client.nulls import decode_as
from kruise.simulator.apiserver.strategic import strategic_merge
from tests.golden.loader import normalise

JSON = dict[str, Any]


def typed(pod: JSON) -> Pod:
    """Return *pod* as the manager sees it."""
    return decode_as(Pod, orjson.dumps(pod))


def after_write(pod: JSON, write: PodWrite) -> JSON:
    """Return *pod* after one write of ours: each endpoint takes only its part of the patch."""
    merged = strategic_merge(deepcopy(pod), deepcopy(write.patch))
    if write.subresource == "":
        return {**merged, "status": pod.get("status", {})}
    if write.subresource == "status":
        return {**merged, "spec": pod["spec"]}
    return {**pod, "spec": merged["spec"]}


def after_ours(pod: JSON, writes: tuple[PodWrite, ...]) -> JSON:
    """Return *pod* after our writes; each must change something (G4)."""
    for write in writes:
        changed = after_write(pod, write)
        assert changed != pod, f"a write that changes nothing: {write}"
        pod = changed
    return pod


def after_theirs(pod: JSON, writes: list[JSON]) -> JSON | None:
    """Return *pod* after the writes of a case; ``None`` when it was deleted."""
    for write in writes:
        match write["do"]:
            case "updatePodStatus":
                pod = {**pod, "status": {**pod.get("status", {}), "conditions": write["conditions"]}}
            case "updatePod":
                resources = {c["name"]: c.get("resources") for c in pod["spec"]["containers"]}
                resized = any(one["do"] == "patchPod/resize" for one in writes)
                pod = {**deepcopy(write["pod"]), "status": pod.get("status", {})}
                for container in pod["spec"]["containers"] if resized else ():
                    # The PUT was made from what was cached before the resize, which it cannot undo.
                    container["resources"] = resources[container["name"]]
            case "patchPod" | "patchPod/resize":
                pod = strategic_merge(deepcopy(pod), deepcopy(write["patch"]))
            case "deletePod":
                return None
            case other:
                raise AssertionError(f"a case with an unknown write: {other}")
    return pod


def comparable(pod: JSON) -> JSON:
    """Return *pod* without what only an encoder adds, its conditions by type."""
    status = pod.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or []}
    found: JSON = normalise({**pod, "status": {**status, "conditions": conditions}})
    return found
