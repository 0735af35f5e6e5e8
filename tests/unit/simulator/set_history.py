"""Histories of an Advanced StatefulSet for its oracles: what was written, by whom, and when."""

from __future__ import annotations

import copy
from typing import Any

from kruise.runtime.clock import format_time
from kruise.runtime.objects import Key
from kruise.simulator.invariants import REVISIONS, SETS, Observed, StatefulSets, Suite, Written

T0 = 1_767_225_600.0
GATE = "InPlaceUpdateReady"
STATE = "lifecycle.apps.kruise.io/state"
REVISION = "controller-revision-hash"


def ours(actor):
    return actor.startswith("kruise")


def a_set(**spec):
    rolling = {"maxUnavailable": 1, "podUpdatePolicy": "ReCreate", "partition": 0} | spec.pop("rolling", {})
    full = {
        "replicas": 3,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "web"}},
        "template": template("v1"),
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
    } | spec
    meta = {"name": "web", "namespace": "ns", "uid": "s1", "generation": 1}
    return {"kind": "StatefulSet", "metadata": meta, "spec": full, "status": {"currentRevision": "web-1"}}


def template(tag):
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": f"app:{tag}"}]}}


OWNER = {"apiVersion": "apps.kruise.io/v1beta1", "kind": "StatefulSet", "name": "web", "uid": "s1", "controller": True}


def a_revision(name, tag, number):
    meta = {"name": name, "namespace": "ns", "uid": f"u-{name}", "ownerReferences": [OWNER]}
    data = {"spec": {"template": {"$patch": "replace", **template(tag)}}}
    return {"kind": "ControllerRevision", "metadata": meta, "data": data, "revision": number}


def a_pod(ordinal, revision="web-1", *, image="app:v1", ready=True, gate="", labels=None, claims=(), uid="", **meta):
    conditions = [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": format_time(T0)}]
    if gate:
        conditions.append({"type": GATE, "status": gate})
    run = {"name": "main", "image": image, "imageID": f"id-{image}", "containerID": f"c-{image}", "restartCount": 0}
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": f"{c}-web-{ordinal}"}} for c in claims]
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"web-{ordinal}",
            "namespace": "ns",
            "uid": uid or f"p{ordinal}",
            "labels": {"app": "web", REVISION: revision, STATE: "Normal", **(labels or {})},
            "ownerReferences": [OWNER],
            **meta,
        },
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": "main", "image": image}],
            "readinessGates": [{"conditionType": GATE}] if gate else [],
            "volumes": volumes,
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions, "containerStatuses": [run]},
    }


class History:
    """A set with three pods that are up on ``web-1``; ``web-2`` is the newest revision, a minute old."""

    def __init__(self, *, slack=5.0, pods=3, updating=True, gated=False, start_ordinal=False, **spec):
        self.checker = StatefulSets(ours, slack=slack, start_ordinal=start_ordinal)
        self.suite = Suite([self.checker])
        self.rv = 10
        self.now = T0
        self.put(SETS, a_set(**spec), actor="user")
        self.put(REVISIONS, a_revision("web-1", "v1", 1))
        for ordinal in range(pods):
            self.put("pods", a_pod(ordinal, gate="True" if gated else ""), actor="kubelet")
        if updating:
            self.edit(template=template("v2"))
            self.put(REVISIONS, a_revision("web-2", "v2", 2))
        self.now += 60
        self.suite.violations.clear()

    def world(self, resource, name):
        found = self.suite.world.get(resource, Key("ns", name))
        assert found is not None, name
        return found

    def pod(self, ordinal):
        return copy.deepcopy(self.world("pods", f"web-{ordinal}"))

    def put(self, resource, obj, *, actor="kruise", verb=""):
        obj = copy.deepcopy(obj)
        key = Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        old = self.suite.world.get(resource, key)
        self.rv += 1
        obj["metadata"]["resourceVersion"] = str(self.rv)
        request = Written(actor, verb, resource, key) if verb else None
        kind = "create" if old is None else "update"
        self.suite.on_commit(Observed(self.rv, kind, resource, key, old, obj, actor, request, self.now))
        return obj

    def edit(self, *, rolling: dict[str, Any] | None = None, **spec: Any) -> None:
        """Let the user change the set."""
        owner = copy.deepcopy(self.world(SETS, "web"))
        owner["spec"] |= spec
        owner["spec"]["updateStrategy"]["rollingUpdate"] |= rolling or {}
        owner["metadata"]["generation"] += 1
        self.put(SETS, owner, actor="user")

    def kubelet(self, ordinal, **status):
        """Let the kubelet report on a pod."""
        pod = self.pod(ordinal)
        image = pod["spec"]["containers"][0]["image"]
        fresh = a_pod(ordinal, image=status.pop("image", image), ready=status.pop("ready", True))["status"]
        kept = [c for c in pod["status"]["conditions"] if c["type"] == GATE]
        pod["status"] = {**fresh, "conditions": [*fresh["conditions"], *kept], **status}
        return self.put("pods", pod, actor="kubelet")

    def delete(self, ordinal, *, actor="kruise", resource="pods", name="", gone=False):
        """Begin, or end, the deletion of a pod."""
        key = Key("ns", name or f"web-{ordinal}")
        old = self.suite.world.get(resource, key)
        self.rv += 1
        request = Written(actor, "delete", resource, key)
        new = None
        if not gone:
            new = copy.deepcopy(old)
            new["metadata"] |= {"deletionTimestamp": format_time(self.now), "resourceVersion": str(self.rv)}
        self.suite.on_commit(
            Observed(self.rv, "delete" if gone else "update", resource, key, old, new, actor, request, self.now)
        )

    def replace(self, ordinal, revision="web-2", image="app:v2"):
        """Delete a pod, and make it anew until it is up."""
        self.delete(ordinal)
        self.delete(ordinal, actor="kubelet", gone=True)
        self.put("pods", a_pod(ordinal, revision, image=image, uid=f"q{ordinal}", ready=False))
        self.kubelet(ordinal)

    def close(self, ordinal):
        """Close the gate of a pod."""
        pod = self.pod(ordinal)
        for condition in pod["status"]["conditions"]:
            condition["status"] = "False"
        return self.put("pods", pod)

    def image(self, ordinal, image="app:v2", revision="web-2"):
        """Change the image of a pod in place."""
        pod = self.pod(ordinal)
        pod["spec"]["containers"][0]["image"] = image
        pod["metadata"]["labels"] |= {REVISION: revision, STATE: "Updating"}
        return self.put("pods", pod)

    def open(self, ordinal, **annotations):
        """Open the gate of a pod."""
        pod = self.pod(ordinal)
        for condition in pod["status"]["conditions"]:
            if condition["type"] == GATE:
                condition["status"] = "True"
        pod["metadata"]["labels"][STATE] = "Normal"
        pod["metadata"]["annotations"] = annotations
        return self.put("pods", pod)

    def rest(self):
        self.suite.at_quiescence(self.now)
        return self.found()

    def found(self):
        return sorted({v.invariant for v in self.suite.violations})

    def texts(self):
        return " | ".join(str(v) for v in self.suite.violations)


# S4

IN_PLACE = {"podUpdatePolicy": "InPlaceIfPossible"}


def a_claim(ordinal, *refs, size="1Gi", **meta):
    full = {"name": f"data-web-{ordinal}", "namespace": "ns", "uid": f"c{ordinal}", "ownerReferences": list(refs)}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"kind": "PersistentVolumeClaim", "metadata": full | meta, "spec": spec}
