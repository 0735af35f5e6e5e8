"""A small world around the planner of StatefulSets: a user, kubelets, a clock, and a server that merges patches.

It knows nothing of the planner's own aggregates: what is up, how much budget is left and which pods come first is told
here from the pods alone, the plain way.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

import orjson

from kruise.apis.core import Claim, Pod
from kruise.apis.ordinals import parse_member
from kruise.apis.statefulset import StatefulSet
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.lifecycle import State, state_of
from kruise.controllers.common.revisions import Chosen, Revision
from kruise.controllers.statefulset.actions import (
    Chain,
    CreateClaim,
    CreatePod,
    DeletePod,
    PatchClaim,
    PatchPod,
    Results,
    Step,
)
from kruise.controllers.statefulset.plan import Plan, Settled, plan, settle
from kruise.controllers.statefulset.settings import Settings
from kruise.controllers.statefulset.status import wire
from kruise.controllers.statefulset.view import View
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import format_time, parse_time
from kruise.runtime.objects import Key, Unreadable
from kruise.simulator.apiserver.strategic import strategic_merge

JSON = dict[str, Any]

NAME: Final = "web"
START: Final = 1_800_000_000.0
HOOK: Final = "example.com/hold"
BAD: Final = "bad"
"""A container with this word in its image never becomes ready."""
OTHER: Final = "other"
"""An image that begins with this word comes with arguments, so no update to it or from it is possible in place."""
_REVISION: Final = "controller-revision-hash"


def revision_name(image: str) -> str:
    return f"{NAME}-{image}"


def revision(image: str, number: int, *, gated: bool, labels: JSON | None = None) -> Revision:
    container: JSON = {"name": "main", "image": image}
    if image.startswith(OTHER):
        container["args"] = [image]
    spec: JSON = {"containers": [container]}
    if gated:
        spec["readinessGates"] = [{"conditionType": "InPlaceUpdateReady"}]
    template = {"$patch": "replace", "metadata": {"labels": {"app": NAME, **(labels or {})}}, "spec": spec}
    return Revision(revision_name(image), number, orjson.dumps({"spec": {"template": template}}))


class SetWorld:
    """One set and everything around it."""

    def __init__(self, *, gated: bool = True, claims: bool = False, **spec: Any) -> None:
        self.now = START
        self.gated = gated
        self.images = ["one"]
        """The images that the template had, the present one last."""
        self.spec: JSON = {
            "replicas": 3,
            "selector": {"matchLabels": {"app": NAME}},
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"podUpdatePolicy": "InPlaceIfPossible"}},
            **spec,
        }
        if claims:
            self.spec["volumeClaimTemplates"] = [
                {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}
            ]
        self.settings = Settings(inplace=Gates(server_version="v1.37.2"))
        self.status: JSON = {}
        self.generation = 1
        self.pods: dict[int, JSON] = {}
        self.claims: dict[str, JSON] = {}
        self.unreadable: set[int] = set()
        self.versions = 0
        self.view = View(self.sts(), self.chosen(), self.settings)

    # What the manager sees.

    @property
    def rolling(self) -> JSON:
        found: JSON = self.spec["updateStrategy"].setdefault("rollingUpdate", {})
        return found

    def sts(self) -> StatefulSet:
        meta = {"name": NAME, "namespace": "ns", "uid": "set-uid", "generation": self.generation}
        meta["resourceVersion"] = str(self.versions)
        template = {"metadata": {"labels": {"app": NAME}}, "spec": {"containers": [{"image": self.images[-1]}]}}
        spec = {**self.spec, "template": template}
        return decode_as(StatefulSet, orjson.dumps({"metadata": meta, "spec": spec, "status": self.status}))

    def chosen(self) -> Chosen:
        listed = {i: revision(i, n + 1, gated=self.gated) for n, i in enumerate(self.images)}
        named = {one.name: one for one in listed.values()}
        update = listed[self.images[-1]]
        current = named.get(self.status.get("currentRevision", ""), update)
        return Chosen(current, update, 0, (), tuple(listed.values()))

    def pod(self, ordinal: int) -> Pod | Unreadable:
        body = self.pods[ordinal]
        if ordinal in self.unreadable:
            meta = decode_as(Pod, orjson.dumps({"metadata": body["metadata"]})).metadata
            return Unreadable(metadata=meta, problem="Expected `int`, got `str`", path="$.spec")
        return decode_as(Pod, orjson.dumps(body))

    def fresh(self) -> View:
        """A view built from scratch."""
        claims = [decode_as(Claim, orjson.dumps(one)) for one in self.claims.values()]
        pods = [self.pod(ordinal) for ordinal in sorted(self.pods)]
        return View.of(self.sts(), self.chosen(), pods, claims, settings=self.settings)

    # What changes, and is told.

    def tell(self, ordinal: int) -> None:
        key = Key("ns", f"{NAME}-{ordinal}")
        self.view.set_pod(key, self.pod(ordinal) if ordinal in self.pods else None)

    def tell_set(self) -> None:
        self.view.set_sts(self.sts(), self.chosen())

    def edit(self, **spec: Any) -> None:
        """The user changes the spec."""
        self.generation += 1
        self.spec.update(spec)
        self.tell_set()

    def roll(self, **rolling: Any) -> None:
        """The user changes the rolling update."""
        self.rolling.update(rolling)
        self.edit()

    def set_image(self, image: str) -> None:
        """The user changes the template; an image from before takes its old revision up again."""
        self.images = [one for one in self.images if one != image] + [image]
        self.edit()

    def put(self, ordinal: int, body: JSON | None) -> None:
        """Let the server hold *body* as the pod of *ordinal*."""
        self.versions += 1
        if body is None:
            self.pods.pop(ordinal, None)
            self.unreadable.discard(ordinal)
        else:
            body["metadata"]["resourceVersion"] = str(self.versions)
            self.pods[ordinal] = body
        self.tell(ordinal)

    def tick(self, seconds: float) -> None:
        self.now += seconds

    # The manager.

    def plan(self, view: View | None = None) -> Plan:
        return plan(self.view if view is None else view, self.now)

    def apply(self, chains: tuple[Chain, ...]) -> list[tuple[Chain, Step]]:
        """Perform *chains* one after the other."""
        done: list[tuple[Chain, Step]] = []
        for chain in chains:
            for step in chain.steps:
                self._perform(chain, step)
                done.append((chain, step))
        return done

    def _perform(self, chain: Chain, step: Step) -> None:
        match step:
            case CreateClaim():
                self._put_claim({**step.build(), "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}})
            case PatchClaim():
                old = self.claims[step.claim.metadata.name]
                self._put_claim(strategic_merge(deepcopy(old), deepcopy(step.patch)))
            case CreatePod():
                assert chain.ordinal not in self.pods, "S1: the name is taken"
                body = step.build()
                self.versions += 1
                body["metadata"] |= {"uid": f"uid-{self.versions}", "creationTimestamp": format_time(self.now)}
                self.put(chain.ordinal, {**body, "status": {"phase": "Pending"}})
            case DeletePod():
                self._holds(chain, step.pod)
                self.delete(chain.ordinal)
            case PatchPod():
                self._holds(chain, step.pod)
                for write in step.writes:
                    old = self.pods[chain.ordinal]
                    new = strategic_merge(deepcopy(old), deepcopy(write.patch))
                    kept = "spec" if write.subresource == "status" else "status"
                    new = {**new, kept: old[kept]}
                    assert new != old, f"G4: {write}"
                    self.put(chain.ordinal, new)

    def _holds(self, chain: Chain, pod: Pod) -> None:
        have = self.pods[chain.ordinal]["metadata"]
        assert pod.metadata.resource_version == have["resourceVersion"], "X16: not the version that was decided on"

    def _put_claim(self, body: JSON) -> None:
        self.versions += 1
        body["metadata"]["resourceVersion"] = str(self.versions)
        self.claims[body["metadata"]["name"]] = body
        claim = decode_as(Claim, orjson.dumps(body))
        self.view.set_claim(claim.key, claim)

    def write_status(self, planned: Plan, done: list[tuple[Chain, Step]]) -> Settled:
        settled = settle(self.view, planned, Results(tuple(done)), self.now)
        assert settled.status is not None
        self.status = wire(settled.status)
        self.tell_set()
        return settled

    def once(self) -> Plan:
        """One pass: plan, apply, status."""
        planned = self.plan()
        self.write_status(planned, self.apply(planned.chains))
        return planned

    # The nodes and the user's hands.

    def delete(self, ordinal: int) -> None:
        body = deepcopy(self.pods[ordinal])
        if "deletionTimestamp" in body["metadata"]:
            return
        body["metadata"]["deletionTimestamp"] = format_time(self.now)
        self.put(ordinal, body)

    def gone(self, ordinal: int) -> None:
        """The kubelet of a pod on its way out is done with it."""
        if "deletionTimestamp" in self.pods[ordinal]["metadata"]:
            self.put(ordinal, None)

    def kubelet(self, ordinal: int, *, ready: bool = True) -> None:
        """The kubelet brings the containers to what the spec says, and reports."""
        body = deepcopy(self.pods[ordinal])
        if "deletionTimestamp" in body["metadata"] or body["status"].get("phase") in ("Failed", "Succeeded"):
            return
        image = body["spec"]["containers"][0]["image"]
        good = BAD not in image
        status = body["status"]
        body["spec"].setdefault("nodeName", "n1")
        container: JSON = {"name": "main", "image": image, "imageID": f"id-{image}", "ready": good and ready}
        if not good:
            container = {**container, "image": "", "imageID": "", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
        status["phase"] = "Running" if good or status.get("phase") == "Running" else "Pending"
        status["containerStatuses"] = [container]
        conditions = {one["type"]: one for one in status.get("conditions") or []}
        gates = [gate["conditionType"] for gate in body["spec"].get("readinessGates") or []]
        well = good and ready
        self._condition(conditions, "ContainersReady", well)
        self._condition(
            conditions, "Ready", well and all(conditions.get(gate, {}).get("status") == "True" for gate in gates)
        )
        status["conditions"] = list(conditions.values())
        if body != self.pods[ordinal]:
            self.put(ordinal, body)

    def _condition(self, conditions: dict[str, JSON], kind: str, on: bool) -> None:
        status = "True" if on else "False"
        if conditions.get(kind, {}).get("status") != status:
            conditions[kind] = {"type": kind, "status": status, "lastTransitionTime": format_time(self.now)}

    def fail(self, ordinal: int) -> None:
        body = deepcopy(self.pods[ordinal])
        body["status"] = {"phase": "Failed"}
        self.put(ordinal, body)

    def label(self, ordinal: int, key: str, value: str | None) -> None:
        body = deepcopy(self.pods[ordinal])
        labels = body["metadata"].setdefault("labels", {})
        if value is None:
            labels.pop(key, None)
        else:
            labels[key] = value
        if body != self.pods[ordinal]:
            self.put(ordinal, body)

    def collect_garbage(self) -> None:
        """The garbage collector takes the claims whose pod is gone."""
        uids = {body["metadata"]["uid"] for body in self.pods.values()}
        for name, claim in list(self.claims.items()):
            owners = claim["metadata"].get("ownerReferences") or []
            if owners and not any(owner["uid"] in uids for owner in owners):
                del self.claims[name]
                self.view.set_claim(Key("ns", name), None)

    def settle_nodes(self) -> None:
        """Everything that kubelets, users and the garbage collector owe happens."""
        self.tick(30)
        self.collect_garbage()
        for ordinal in sorted(self.pods):
            self.unreadable.discard(ordinal)
            if "deletionTimestamp" in self.pods[ordinal]["metadata"]:
                self.gone(ordinal)
                continue
            held = state_of(decode_as(Pod, orjson.dumps(self.pods[ordinal])).metadata)
            if held in (State.PREPARING_UPDATE, State.PREPARING_DELETE):
                self.label(ordinal, HOOK, None)
            elif held in (State.UPDATED, State.PREPARING_NORMAL) and "lifecycle" in self.spec:
                self.label(ordinal, HOOK, "on")
            self.kubelet(ordinal)
            self.tell(ordinal)

    def delete_broken(self) -> None:
        """The user deletes the pods that never become ready."""
        for ordinal in sorted(self.pods):
            if BAD in self.pods[ordinal]["spec"]["containers"][0]["image"]:
                self.delete(ordinal)

    # The plain way to tell.

    def normal(self, ordinal: int) -> bool:
        """Tell whether no hook and no update holds the pod."""
        word = self.pods[ordinal]["metadata"]["labels"].get("lifecycle.apps.kruise.io/state", "")
        return word in ("", "Normal")

    def valid(self) -> list[int]:
        found: list[int] = []
        ordinal, reserved = 0, set(self.spec.get("reserveOrdinals") or ())
        while len(found) < self.spec["replicas"]:
            if ordinal not in reserved:
                found.append(ordinal)
            ordinal += 1
        return found

    def up(self, ordinal: int) -> bool:
        """Tell whether a user would call the pod available (reliability 3: up)."""
        body = self.pods.get(ordinal)
        if body is None or ordinal in self.unreadable or "deletionTimestamp" in body["metadata"]:
            return False
        ready = next((c for c in body["status"].get("conditions") or [] if c["type"] == "Ready"), None)
        if body["status"].get("phase") != "Running" or ready is None or ready["status"] != "True":
            return False
        since = parse_time(ready["lastTransitionTime"]) or 0.0
        return since + int(self.rolling.get("minReadySeconds", 0)) <= self.now

    def budget(self) -> int:
        value, replicas = self.rolling.get("maxUnavailable", 1), self.spec["replicas"]
        return max(1, int(value[:-1]) * replicas // 100 if isinstance(value, str) else value)

    def window(self) -> list[int]:
        """The ordinals that an ordered update may touch, highest first."""
        return self.valid()[int(self.rolling.get("partition", 0)) :][::-1]

    def outdated(self, ordinal: int) -> bool:
        body = self.pods.get(ordinal)
        return body is not None and body["metadata"]["labels"].get(_REVISION) != revision_name(self.images[-1])

    def condemned(self) -> list[int]:
        return sorted(set(self.pods) - set(self.valid()))


def member(name: str) -> int:
    return parse_member(name, NAME)
