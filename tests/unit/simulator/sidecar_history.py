"""Histories of SidecarSets and their pods for their oracles: what was written, by whom, and when."""

from __future__ import annotations

import copy
import json
from typing import Any

from kruise.runtime.clock import format_time
from kruise.runtime.objects import Key
from kruise.simulator.invariants import (
    SIDECARSETS,
    Observed,
    Ownership,
    SidecarSets,
    Suite,
    Written,
    writes_for_a_set,
)
from kruise.simulator.invariants import sidecarset_reading as reading

T0 = 1_767_225_600.0
CONTROLLER = "sidecarset-controller"
EMPTY = "empty:1"


def ours(actor):
    return actor.startswith("kruise")


def a_set(name="mesh", tag="v1", *, without="w1", hot=False, **spec):
    sidecar = {"name": "side", "image": f"side:{tag}"}
    if hot:
        sidecar["upgradeStrategy"] = {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": EMPTY}
    strategy = {"type": "RollingUpdate", "maxUnavailable": 1, "partition": 0} | spec.pop("strategy", {})
    full = {"selector": {"matchLabels": {"app": "web"}}, "containers": [sidecar], "updateStrategy": strategy} | spec
    return {
        "kind": "SidecarSet",
        "metadata": {
            "name": name,
            "uid": f"u-{name}",
            "generation": 1,
            "creationTimestamp": format_time(T0),
            "annotations": {reading.HASH: f"h-{tag}", reading.WITHOUT_IMAGE: without},
        },
        "spec": full,
    }


def entries(value, *names):
    return json.dumps({name: {"hash": value, "sidecarSetName": name} for name in names}, separators=(",", ":"))


def a_pod(number=0, tag="v1", *, without="w1", namespace="ns", ready=True, hot=False, sets=("mesh",), **labels):
    images = {"main": "app:v1", "side": f"side:{tag}"}
    if hot:
        images = {"main": "app:v1", "side-1": f"side:{tag}", "side-2": EMPTY}
    notes = {
        reading.HASH: entries(f"h-{tag}", *sets),
        reading.WITHOUT_IMAGE: entries(without, *sets),
        reading.LISTED: ",".join(sets),
    }
    if hot:
        notes[reading.WORKING] = json.dumps({"side": "side-1"})
    marker = [{"name": "IS_INJECTED", "value": "true"}]
    containers = [
        {"name": name, "image": image, **({} if name == "main" else {"env": marker})} for name, image in images.items()
    ]
    if not sets:
        notes, containers = {}, containers[:1]
    pod = {
        "kind": "Pod",
        "metadata": {
            "name": f"web-{number}",
            "namespace": namespace,
            "uid": f"p{number}",
            "labels": {"app": "web", **labels},
            "annotations": notes,
            "creationTimestamp": format_time(T0 + 30),
        },
        "spec": {"nodeName": "n1", "containers": containers},
    }
    return report(pod, ready=ready)


def report(pod, *, ready=True):
    """Return a pod with what its kubelet says."""
    conditions = [c for c in (pod.get("status") or {}).get("conditions") or () if c["type"] != "Ready"]
    statuses = [
        {
            "name": c["name"],
            "image": c["image"],
            "imageID": f"id-{c['image']}",
            "containerID": c["image"],
            "ready": ready,
        }
        for c in pod["spec"]["containers"]
    ]
    conditions.append({"type": "Ready", "status": "True" if ready else "False"})
    return {**pod, "status": {"phase": "Running", "conditions": conditions, "containerStatuses": statuses}}


class History:
    """A set, and three pods that were injected from it; with *updating*, a second version, a minute old."""

    def __init__(self, *, slack=5.0, pods=3, updating=True, hot=False, labels=(), **spec):
        self.checker = SidecarSets(ours, slack=slack)
        self.suite = Suite([self.checker, Ownership(ours, (SIDECARSETS,), ("pods",), exempt=writes_for_a_set(ours))])
        self.rv = 10
        self.now = T0
        self.hot = hot
        for name in ("ns", "kube-system"):
            self.put("namespaces", {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}})
        self.put(SIDECARSETS, a_set(hot=hot, **spec), actor="user")
        self.now += 60
        for number in range(pods):
            more = labels[number] if labels else {}
            self.put("pods", a_pod(number, hot=hot, **more), actor="user")
        if updating:
            self.publish("v2")
        self.now += 60
        self.suite.violations.clear()

    def world(self, resource, name, namespace="ns"):
        found = self.suite.world.get(resource, Key("" if resource == SIDECARSETS else namespace, name))
        assert found is not None, name
        return copy.deepcopy(found)

    def pod(self, number):
        return self.world("pods", f"web-{number}")

    def put(self, resource, obj, *, actor="kruise", given: Any = None, verb="", controller=""):
        obj = copy.deepcopy(obj)
        key = Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        old = self.suite.world.get(resource, key)
        self.rv += 1
        obj["metadata"]["resourceVersion"] = str(self.rv)
        request = None
        if given is not None or controller or verb:
            request = Written(actor, verb or "patch", resource, key, body=given, controller=controller, time=self.now)
        kind = "create" if old is None else "update"
        self.suite.on_commit(Observed(self.rv, kind, resource, key, old, obj, actor, request, self.now))
        return obj

    def write(self, pod):
        """Let our controller write a pod."""
        return self.put("pods", pod, controller=CONTROLLER)

    def publish(self, tag="", *, strategy=None, without="w1", **spec):
        """Let the user change the set; admission writes the hashes."""
        owner = self.world(SIDECARSETS, "mesh")
        owner["spec"] |= spec
        owner["spec"]["updateStrategy"] |= strategy or {}
        if tag:
            owner["spec"]["containers"][0]["image"] = f"side:{tag}"
            owner["metadata"]["annotations"] = {reading.HASH: f"h-{tag}", reading.WITHOUT_IMAGE: without}
        owner["metadata"]["generation"] += 1
        self.put(SIDECARSETS, owner, actor="user")

    def upgraded(self, number, tag="v2", image=""):
        """Return a pod as our controller upgrades it."""
        pod = self.pod(number)
        name = "side-2" if self.hot else "side"
        status = next(s for s in pod["status"]["containerStatuses"] if s["name"] == name)
        state = {"mesh": {"lastContainerStatuses": {name: {"imageID": status["imageID"]}}}}
        next(c for c in pod["spec"]["containers"] if c["name"] == name)["image"] = image or f"side:{tag}"
        notes = {reading.HASH: entries(f"h-{tag}", "mesh"), reading.STATE: json.dumps(state)}
        if self.hot:
            notes[reading.WORKING] = json.dumps({"side": "side-2"})
        pod["metadata"]["annotations"] |= notes
        return pod

    def upgrade(self, number, tag="v2"):
        self.write(self.upgraded(number, tag))

    def kubelet(self, number, *, ready=True):
        self.put("pods", report(self.pod(number), ready=ready), actor="kubelet")

    def finish(self, number):
        """Let an upgrade end."""
        self.kubelet(number, ready=False)
        self.kubelet(number)

    def create(self, pod, given):
        self.put("pods", pod, actor="user", verb="create", given=given)

    def status(self, **counts):
        owner = self.world(SIDECARSETS, "mesh")
        conditions = counts.pop("conditions", [])
        names = ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods")
        owner["status"] = {
            "observedGeneration": owner["metadata"]["generation"],
            **dict.fromkeys(names, 0),
            **counts,
            "conditions": conditions,
        }
        self.put(SIDECARSETS, owner)

    def rest(self):
        self.suite.at_quiescence(self.now)
        return self.found()

    def found(self):
        return sorted({v.invariant for v in self.suite.violations})

    def texts(self):
        return " | ".join(str(v) for v in self.suite.violations)


def given(pod):
    """Return what the user asked for."""
    own = [c for c in pod["spec"]["containers"] if c["name"] == "main"]
    meta = copy.deepcopy({k: pod["metadata"][k] for k in ("name", "namespace", "labels")})
    return {"metadata": meta, "spec": {"containers": copy.deepcopy(own)}}
