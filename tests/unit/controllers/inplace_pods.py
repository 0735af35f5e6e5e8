"""Pods and revisions for tests of updates in place: plain JSON, and what an API server and a kubelet make of it."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import orjson

from kruise.apis.core import Pod
from kruise.controllers.common.inplace.annotations import STATE_KEY
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.writes import PodWrite
from kruise.runtime.client.nulls import decode_as
from kruise.simulator.apiserver.strategic import strategic_merge

JSON = dict[str, Any]
NOW = 1_772_366_400.0
STAMP = "2026-03-01T12:00:00Z"
GATES = Gates(server_version="v1.37.2")


def container(name: str, image: str, *, place: int | None = None, env: list[JSON] | None = None, **parts: Any) -> JSON:
    """Return a container; *place* is its launch priority."""
    variables = list(env or [])
    if place is not None:
        key = {"name": "barrier", "key": f"p_{place}"}
        variables.append({"name": "KRUISE_CONTAINER_BARRIER", "valueFrom": {"configMapKeyRef": key}})
    return {"name": name, "image": image, "resources": {}, **({"env": variables} if variables else {}), **parts}


def shows(variable: str, field: str) -> JSON:
    """Return a variable that shows a field of the pod."""
    return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": field}}}


def template(*containers: JSON, gated: bool = True, **metadata: Any) -> JSON:
    gates = {"readinessGates": [{"conditionType": "InPlaceUpdateReady"}]} if gated else {}
    return {"metadata": {"labels": {"app": "web"}, **metadata}, "spec": {"containers": list(containers), **gates}}


def data(body: JSON) -> bytes:
    return json.dumps({"spec": {"template": {"$patch": "replace", **body}}}).encode()


def running(body: JSON, revision: str = "r0") -> JSON:
    """Return a pod of the template *body* whose containers run."""
    pod: JSON = deepcopy(body)
    meta = pod["metadata"]
    meta.update({"name": "web-0", "namespace": "prod", "uid": "u0", "resourceVersion": "1", "generation": 1})
    meta["labels"] = {**meta.get("labels", {}), "controller-revision-hash": revision}
    pod["status"] = {"phase": "Running", "containerStatuses": []}
    return restarted(pod)


def restarted(pod: JSON, *names: str, at: str | None = None) -> JSON:
    """Return the pod after its kubelet brought the containers *names* (default all) to what the spec asks for."""
    pod = deepcopy(pod)
    before = {one["name"]: one for one in pod["status"].get("containerStatuses", [])}
    for one in pod["spec"]["containers"]:
        if names and one["name"] not in names and one["name"] in before:
            continue
        status: JSON = {"name": one["name"], "image": one["image"], "imageID": f"id-of-{one['image']}", "ready": True}
        if at is not None:
            status["lastState"] = {"terminated": {"exitCode": 0, "finishedAt": at}}
        before[one["name"]] = status
    pod["status"]["containerStatuses"] = [before[one["name"]] for one in pod["spec"]["containers"]]
    return pod


def typed(pod: JSON) -> Pod:
    return decode_as(Pod, orjson.dumps(pod))


def written(pod: JSON, *writes: PodWrite) -> JSON:
    """Return the pod after *writes*, each endpoint taking its part."""
    for write in writes:
        merged: JSON = strategic_merge(deepcopy(pod), deepcopy(write.patch))
        if write.subresource == "resize":
            pod = {**pod, "spec": merged["spec"]}
        else:
            pod = {**merged, "status": pod["status"]}
    return pod


def images(pod: JSON) -> dict[str, str]:
    return {one["name"]: one["image"] for one in pod["spec"]["containers"]}


def state_json(pod: JSON) -> JSON:
    found: JSON = json.loads(pod["metadata"]["annotations"][STATE_KEY])
    return found
