"""A cluster in memory with SidecarSets, and pods as the code of the webhook makes them: what the commands look at."""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import orjson
import pytest

from kruise.apis.sidecarset import SIDECARSETS, SidecarSet
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.cli.cluster import Cluster
from kruise.cli.seen_sets import CONFIGURATION
from kruise.controllers.sidecarset.revisions import new_revision
from kruise.runtime.client.client import Client
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random, SystemClock, format_time
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key
from kruise.runtime.webhook.patching import apply_patch
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.failure import forbidden
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from kruise.simulator.apiserver.server import ApiServer
from kruise.webhooks.inject import inject
from kruise.webhooks.inject_outcome import Request
from kruise.webhooks.inject_snapshot import InjectionIndex
from tests.simulation.world import definitions

Body = dict[str, Any]
NOW: Final = 1_767_225_600.0
SETS: Final = str(SIDECARSETS)
REVISIONS: Final = "controllerrevisions.apps"
OWN: Final = "kruise-system"
CONFIGURATIONS: Final = "mutatingwebhookconfigurations.admissionregistration.k8s.io"


class StillClock(SystemClock):
    """A clock that goes on only when somebody sleeps, or says so."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return NOW + self.at

    def monotonic(self) -> float:
        return self.at

    def boottime(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Place:
    """An API server, and what the webhook and the controller would have done on it."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.server = ApiServer(self.clock, Random(1))
        self.server.ensure_namespace(OWN)
        for definition in definitions():
            self.server.create("customresourcedefinitions.apiextensions.k8s.io", definition)
        self.register()
        self.server.log.clear()

    def register(self) -> None:
        """Have a configuration that calls a manager for pods."""
        hook: Body = {
            "name": "mpod.kb.io",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore",
        }
        hook["clientConfig"] = {"service": {"namespace": OWN, "name": "kruise-webhook-service", "path": "/mutate-pod"}}
        self.server.create(CONFIGURATIONS, {"metadata": {"name": CONFIGURATION}, "webhooks": [hook]})

    def unregister(self) -> None:
        """Take it away."""
        self.server.delete(CONFIGURATIONS, CONFIGURATION)

    def cluster(self, namespace: str = "default", actor: str = "cli") -> Cluster:
        metrics = Metrics(process=False)
        rest = Rest(self.server.transport(actor), clock=self.clock, rng=Random(1), metrics=metrics)
        return Cluster(Client(rest, metrics=metrics, clock=self.clock), self.clock, namespace)

    def connects(self, monkeypatch: pytest.MonkeyPatch, module: Any, namespace: str = "default") -> None:
        """Let a command find this cluster."""

        @contextlib.asynccontextmanager
        async def connect(args: argparse.Namespace) -> AsyncIterator[Cluster]:
            yield self.cluster(namespace)

        monkeypatch.setattr(module, "connect", connect)

    # Sets.

    def put_set(self, name: str = "mesh", *, observed: bool = True, **spec: Any) -> Body:
        """Store a set as admission would, and its revision as the controller would."""
        wanted: Body = {
            "selector": {"matchLabels": {"app": "shop"}},
            "containers": [{"name": "proxy", "image": "proxy:1"}],
            **spec,
        }
        annotations = wanted.pop("annotations", {})
        meta = {"name": name, "annotations": annotations}
        body = default_sidecarset(
            {"apiVersion": SIDECARSETS.api_version, "kind": "SidecarSet", "metadata": meta, "spec": wanted}
        )
        found = self.server.get(SETS, name, "")
        if found is None:
            found = self.server.create(SETS, body, actor="user")
        else:
            found = self.server.patch(SETS, name, {"metadata": body["metadata"], "spec": body["spec"]}, actor="user")
        return self.observe(name) if observed else found

    def the_set(self, name: str = "mesh") -> SidecarSet:
        return decode_as(SidecarSet, orjson.dumps(self.server.get(SETS, name, "")))

    def observe(self, name: str = "mesh") -> Body:
        """Keep the revision of the set, and say so in its status."""
        one = self.the_set(name)
        kept = [
            r for r in self.server.list(REVISIONS, OWN) if r["metadata"]["labels"]["kruise.io/sidecarset-name"] == name
        ]
        revision = new_revision(one, namespace=OWN, number=len(kept) + 1, collision_count=0)
        known = next((r for r in kept if r["metadata"]["name"] == revision["metadata"]["name"]), None)
        made = known or self.server.create(REVISIONS, json.loads(msgspec.json.encode(revision)), actor="manager")
        status = {"observedGeneration": one.metadata.generation, "latestRevision": made["metadata"]["name"]}
        required = {"matchedPods": 0, "updatedPods": 0, "readyPods": 0}
        return self.server.patch(SETS, name, {"status": {**required, **status}}, subresource="status", actor="manager")

    def say(self, **conditions: tuple[str, str, str]) -> None:
        """Write conditions of the set mesh as a manager does: type=(status, reason, message)."""
        listed = [
            {"type": t, "status": s, "reason": r, "message": text, "lastTransitionTime": format_time(self.clock.now())}
            for t, (s, r, text) in conditions.items()
        ]
        self.server.patch(SETS, "mesh", {"status": {"conditions": listed}}, subresource="status", actor="manager")

    def set_as_stored(self, name: str = "mesh", **spec: Any) -> None:
        """Change a set under the feet of schema and rules: as an older version of them let it in."""
        body = copy.deepcopy(self.server.get(SETS, name, ""))
        assert body is not None
        body["spec"] |= spec
        table = SIDECARSETS.plural + "." + SIDECARSETS.group
        self.server.storage.put(table, Key("", name), body, actor="user", now=self.clock.now())

    def forbid(self, plural: str) -> None:
        """Refuse to list this resource from now on."""

        class Refuses(Interceptor):
            async def request(self, call: Call, proceed: Proceed) -> Answer:
                if call.path.rstrip("/").endswith(plural):
                    failure = forbidden(plural, "apps", "", "not for you")
                    return Answer(failure.code, failure.body(), failure.headers())
                return await proceed()

        self.server.faults = Refuses()

    # Pods.

    def webhook(self, pod: Body, namespace: str = "default") -> Body:
        """Return *pod* as the webhook leaves it."""
        index = InjectionIndex(OWN)
        for one in self.server.list("namespaces", ""):
            index.set_namespace(one["metadata"]["name"], one["metadata"].get("labels") or {})
        for one in self.server.list(SETS, ""):
            index.set_sidecarset(one["metadata"]["name"], decode_as(SidecarSet, orjson.dumps(one)))
        request = Request(uid="u", namespace=namespace)
        outcome = inject(orjson.dumps(pod), request, index.snapshot, now=format_time(self.clock.now()))
        changed: Body = apply_patch(copy.deepcopy(pod), json.loads(outcome.patch or b"[]"))
        return changed

    def put_pod(
        self,
        name: str,
        *,
        namespace: str = "default",
        labels: dict[str, str] | None = None,
        injected: bool = True,
        ready: bool = True,
        node: str = "node-1",
        spec: Body | None = None,
        edit: Callable[[Body], None] | None = None,
    ) -> Body:
        """Store a pod that runs, as the webhook and a kubelet would have it."""
        containers = [{"name": "main", "image": "app:1"}]
        pod: Body = {
            "metadata": {"name": name, "namespace": namespace, "labels": labels or {"app": "shop"}},
            "spec": {"nodeName": node, "containers": containers, **(spec or {})},
        }
        if injected:
            pod = self.webhook(pod, namespace)
        if edit is not None:
            edit(pod)
        stored = self.server.create("pods", pod, actor="user")
        self.run_pod(name, namespace=namespace, ready=ready)
        return stored

    def run_pod(
        self, name: str, *, namespace: str = "default", ready: bool = True, waiting: dict[str, Body] | None = None
    ) -> None:
        """Report what a kubelet reports: every container runs its image, but for those that wait."""
        pod = self.server.get("pods", name, namespace)
        assert pod is not None
        statuses = [
            {
                "name": c["name"],
                "image": c["image"],
                "imageID": f"sha256:{c['image']}",
                "ready": ready and c["name"] not in (waiting or {}),
                "restartCount": 0,
                "state": (waiting or {}).get(c["name"]) or {"running": {}},
            }
            for c in pod["spec"]["containers"]
        ]
        up = "True" if ready and not waiting else "False"
        conditions = [{"type": kind, "status": up} for kind in ("Ready", "ContainersReady")]
        status = {"phase": "Running", "conditions": conditions, "containerStatuses": statuses}
        self.server.patch("pods", name, {"status": status}, namespace=namespace, subresource="status", actor="kubelet")

    def label_namespace(self, name: str, **labels: str) -> None:
        if self.server.get("namespaces", name, "") is None:
            self.server.create("namespaces", {"metadata": {"name": name}}, actor="user")
        self.server.patch("namespaces", name, {"metadata": {"labels": labels}}, actor="user")
