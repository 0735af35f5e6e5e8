"""A SidecarSet, its pods and their kubelets in memory: what the planner's property tests drive.

Every change of a pod is told to the view, as the caches of a manager would tell it.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import orjson

from kruise.apis.core import Pod
from kruise.apis.sidecarset import SidecarSet
from kruise.apis.sidecarset_hash import sidecarset_hashes
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.actions import Change, Why
from kruise.controllers.sidecarset.plan import Plan, plan
from kruise.controllers.sidecarset.view import View
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import format_time
from kruise.runtime.objects import Key, Unreadable
from kruise.simulator.apiserver.strategic import strategic_merge

JSON = dict[str, Any]

NOW = 1_800_000_000.0
BAD = "sidecar:bad"
EMPTY = "empty:1"
SPACES = {"one": {"tier": "a"}, "two": {"tier": "b"}}


class SidecarWorld:
    """One set, and pods that were injected from it."""

    def __init__(self, *, hot: bool, image: str = "sidecar:1", **strategy: Any) -> None:
        self.hot = hot
        self.image = image
        self.env = "0"
        self.side = "side"
        self.strategy: JSON = {"type": "RollingUpdate", **strategy}
        self.version = 1
        self.pods: dict[Key, JSON] = {}
        self.unreadable: set[Key] = set()
        self.writes = 0
        self.view = View(self.set(), revision="rev")
        for name, labels in SPACES.items():
            self.view.set_namespace(name, labels)

    # The set.

    def spec(self) -> JSON:
        container: JSON = {"name": self.side, "image": self.image, "env": [{"name": "E", "value": self.env}]}
        if self.hot:
            container["upgradeStrategy"] = {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": EMPTY}
        return {
            "selector": {"matchLabels": {"app": "shop"}},
            "namespaceSelector": {"matchLabels": {"tier": "a"}},
            "containers": [container],
            "updateStrategy": self.strategy,
        }

    def body(self) -> JSON:
        spec = self.spec()
        one, without = sidecarset_hashes(spec)
        keys = ("kruise.io/sidecarset-hash", "kruise.io/sidecarset-hash-without-image")
        annotations = dict(zip(keys, (one, without), strict=True))
        meta = {"name": "mesh", "uid": "set", "annotations": annotations, "generation": self.version}
        return {"metadata": {**meta, "resourceVersion": str(100 + self.version)}, "spec": spec}

    def set(self) -> SidecarSet:
        return decode_as(SidecarSet, orjson.dumps(self.body()))

    def edit(self, **changes: Any) -> None:
        for name, value in changes.items():
            if name in ("image", "env", "hot", "side"):
                setattr(self, name, value)
            else:
                self.strategy[name] = value
        self.version += 1
        self.view.set_set(self.set())

    # Pods.

    def create(self, at: int, **labels: str) -> None:
        key = Key("two" if at % 5 == 4 else "one", f"p{at}")
        body = self.body()["metadata"]["annotations"]
        entry = {"updateTimestamp": format_time(NOW), "sidecarSetName": "mesh", "sidecarList": [self.side]}
        annotations = {
            name: json.dumps({"mesh": {**entry, "hash": value}}, separators=(",", ":")) for name, value in body.items()
        }
        annotations["kruise.io/sidecarset-injected-list"] = "mesh"
        images = {self.side: self.image}
        if self.hot:
            images = {f"{self.side}-1": self.image, f"{self.side}-2": EMPTY}
            working = json.dumps({self.side: f"{self.side}-1"})
            annotations["kruise.io/sidecarset-working-hotupgrade-container"] = working
        images["web"] = "web:1"
        self.pods[key] = {
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "uid": f"{key.name}-{self.writes}",
                "creationTimestamp": format_time(NOW + at),
                "labels": {"app": "shop", **labels},
                "annotations": annotations,
            },
            "spec": {"nodeName": "n", "containers": [{"name": n, "image": i} for n, i in images.items()]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]},
        }
        self.kubelet(key)

    def tell(self, key: Key) -> None:
        self.view.set_pod(key, self.typed(key))

    def typed(self, key: Key) -> Pod | Unreadable | None:
        body = self.pods.get(key)
        if body is None:
            return None
        pod = decode_as(Pod, orjson.dumps(body))
        return Unreadable(metadata=pod.metadata, problem="bad", path="$.spec") if key in self.unreadable else pod

    def kubelet(self, key: Key) -> None:
        """Run what the spec says; a bad image never becomes ready, and its status keeps the content of before."""
        body = self.pods[key]
        old = {one["name"]: one for one in body["status"].get("containerStatuses", ())}
        statuses = []
        for container in body["spec"]["containers"]:
            name, image = container["name"], container["image"]
            if image == BAD:
                before = old.get(name, {})
                status = {"name": name, "image": before.get("image", ""), "imageID": before.get("imageID", "")}
                statuses.append({**status, "ready": False, "state": {"waiting": {"reason": "ImagePullBackOff"}}})
            else:
                statuses.append({"name": name, "image": image, "imageID": f"id-{image}", "ready": True})
        self._report(body, statuses)
        self.tell(key)

    def _report(self, body: JSON, statuses: list[JSON]) -> None:
        status = body["status"]
        status["containerStatuses"] = statuses
        good = all(one["ready"] for one in statuses)
        for condition in status["conditions"]:
            if condition["type"] == "Ready":
                condition["status"] = "True" if good else "False"

    def unready(self, key: Key) -> None:
        statuses = deepcopy(self.pods[key]["status"]["containerStatuses"])
        statuses[-1]["ready"] = False
        self._report(self.pods[key], statuses)
        self.tell(key)

    def forget(self, key: Key) -> None:
        self.pods.pop(key, None)
        self.unreadable.discard(key)
        self.tell(key)

    # Passes.

    def plan(self, **more: Any) -> Plan:
        return plan(self.view, NOW, **more)

    def apply(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            key = change.pod.key
            for write in change.writes:
                before = self.pods[key]
                after = strategic_merge(deepcopy(before), deepcopy(write.patch))
                assert after != before, f"a write that changes nothing: {write}"
                self.check(change, before, after)
                self.pods[key] = after
                self.writes += 1
            self.tell(key)

    def check(self, change: Change, before: JSON, after: JSON) -> None:
        """C1: nothing but the set's own images changes. The only serving twin is never emptied."""
        for old, new in zip(before["spec"]["containers"], after["spec"]["containers"], strict=True):
            assert {**old, "image": ""} == {**new, "image": ""}
            assert old["name"] != "web" or old == new
        real = [c["image"] for c in after["spec"]["containers"] if c["name"] != "web" and c["image"] != EMPTY]
        assert real, "no twin serves"
        if change.why is Why.MARK:
            assert before["spec"] == after["spec"]
            assert before["metadata"] == after["metadata"]

    def rebuilt(self) -> View:
        pods = [pod for key in self.pods if (pod := self.typed(key)) is not None]
        return View.of(self.set(), pods, SPACES, revision="rev")

    def settle(self, rounds: int = 60) -> None:
        """Let manager and kubelets do what they can."""
        for _ in range(rounds):
            for key in list(self.pods):
                self.kubelet(key)
            found = self.plan()
            if found.empty:
                return
            self.apply(found.changes)
        raise AssertionError("it does not come to an end")

    def busy(self) -> set[Key]:
        """The pods that are upgraded and not back, by the pods themselves."""
        view = self.rebuilt()
        return {slot.key for slot in view.slots() if slot.has(m.BUSY)}
