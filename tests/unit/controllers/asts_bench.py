"""A bench for the reconciler of StatefulSets: passes one by one against the embedded server, which the stores follow
only when told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from kruise.apis.core import CLAIMS, PODS, REVISIONS, STORAGE_CLASSES
from kruise.apis.statefulset import STATEFULSETS
from kruise.controllers.statefulset.observe import CLAIMS_BY_FAMILY, ORPHAN_REVISIONS, ORPHANS, Stores
from kruise.controllers.statefulset.reconciler import StatefulSetReconciler
from kruise.controllers.statefulset.settings import DEFAULT_SETTINGS, Settings
from kruise.runtime.cache.store import Store
from kruise.runtime.client.client import Client, Write
from kruise.runtime.client.frames import Codec
from kruise.runtime.client.guard import WriteGuard
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import chain
from kruise.runtime.clock import Random
from kruise.runtime.controller import ReconcileContext, Result, current
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, Resource, Unreadable
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.server import ApiServer

KEY = Key("default", "web")
SETS = str(STATEFULSETS)
STATUS = f"patch {SETS}/status"
CREATE = "create pods"
REVISION = "create controllerrevisions.apps"


class Events:
    """Takes events."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def event(self, obj: Object, resource: Resource[Any], *, type: str, reason: str, action: str, note: str) -> None:
        assert obj.metadata.name
        assert resource is STATEFULSETS
        assert action
        self.seen.append((type, str(reason), note))

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.seen]


class Bench:
    """One set, its cluster, and a reconciler that is called by hand."""

    def __init__(self, clock: VirtualClock, *, settings: Settings = DEFAULT_SETTINGS, **options: Any) -> None:
        self.clock = clock
        self.server = ApiServer(clock, Random(1))
        self.server.registry.add_custom(STATEFULSETS)
        self.metrics = Metrics(process=False)
        self.guard = WriteGuard()
        rest = Rest(
            chain(self.server.transport("manager"), [self.guard]), clock=clock, rng=Random(1), metrics=self.metrics
        )
        self.written: list[Write] = []
        self.client = Client(rest, metrics=self.metrics, clock=clock, on_write=self.written.append)
        self.stores = Stores(
            sets=Store(STATEFULSETS, clock=clock),
            pods=Store(PODS, clock=clock),
            claims=Store(CLAIMS, clock=clock),
            revisions=Store(REVISIONS, clock=clock),
            classes=Store(STORAGE_CLASSES, clock=clock) if settings.auto_resize_claims else None,
        )
        self.stores.pods.add_index(ORPHANS)
        self.stores.claims.add_index(CLAIMS_BY_FAMILY)
        self.stores.revisions.add_index(ORPHAN_REVISIONS)
        self.events = Events()
        self.reconciler = StatefulSetReconciler(
            client=self.client,
            recorder=self.events,
            stores=self.stores,
            clock=clock,
            metrics=self.metrics,
            controller="test",
            settings=settings,
            **options,
        )

    # The cluster.

    def create(self, *, replicas: int = 3, image: str = "web:1", **spec: Any) -> None:
        template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": image}]}}
        body = {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "serviceName": "web",
                "podManagementPolicy": "Parallel",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
                "template": template,
                **spec,
            },
        }
        self.server.create(STATEFULSETS, body, actor="user")

    def edit(self, **spec: Any) -> None:
        self.server.patch(STATEFULSETS, "web", {"spec": spec}, actor="user")

    def pod(self, ordinal: int) -> dict[str, Any]:
        found = self.server.get(PODS, f"web-{ordinal}")
        assert found is not None
        return found

    def run_pods(self, *ordinals: int, ready: bool = True) -> None:
        """Be the kubelet: let pods run."""
        for ordinal in ordinals:
            status = {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "ContainersReady", "status": str(ready)},
                ],
            }
            self.server.patch(PODS, f"web-{ordinal}", {"status": status}, subresource="status", actor="kubelet")

    def sync(self) -> None:
        """Let the stores have what the server has."""
        for store in (
            self.stores.sets,
            self.stores.pods,
            self.stores.claims,
            self.stores.revisions,
            self.stores.classes,
        ):
            if store is not None:
                _fill(store, self.server.list(store.resource))

    # Passes.

    async def once(self, *, live: bool = False, sync: bool = True) -> Result:
        """Sync the stores and run one pass; raise what it raises."""
        if sync:
            self.sync()
        token = current.set(ReconcileContext("test", KEY, "id", live))
        try:
            return await self.reconciler(KEY)
        finally:
            current.reset(token)

    async def begun(self) -> None:
        """Run the passes in which pods are made, and let all of them be ready."""
        await self.once()
        replicas = self.server.get(STATEFULSETS, "web")["spec"]["replicas"]  # type: ignore[index]
        self.run_pods(*range(replicas))
        await self.clock.sleep(1.0)
        await self.once()

    # Looking.

    def mark(self) -> int:
        return self.server.log.calls[-1].ordinal if len(self.server.log) else 0

    def counts(self, since: int = 0) -> dict[str, int]:
        found: Counter[str] = Counter()
        for call in self.server.log.writes(actor="manager"):
            if call.ordinal > since:
                what = f"{call.verb} {call.resource}" + (f"/{call.subresource}" if call.subresource else "")
                found[what if call.code < 300 else f"{what} {call.code}"] += 1
        return dict(found)

    def reads(self, since: int = 0) -> list[Call]:
        return [
            c
            for c in self.server.log.calls
            if c.ordinal > since and c.actor == "manager" and c.verb in ("get", "list", "watch")
        ]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = (self.server.get(STATEFULSETS, "web") or {}).get("status") or {}
        return found


def bench(scenario: Callable[[Bench], Awaitable[None]], **options: Any) -> None:
    """Run *scenario* on a bench, in virtual time."""

    async def main(clock: VirtualClock) -> None:
        one = Bench(clock, **options)
        await scenario(one)
        one.guard.assert_clean()

    run_virtual(main)


def _fill(store: Store[Any], bodies: list[dict[str, Any]]) -> None:
    codec = Codec(store.resource)
    wanted: dict[Key, Any] = {}
    for body in bodies:
        obj = codec.read(orjson.dumps(body))
        wanted[obj.key] = obj
    for old in (*store.list(), *store.unreadable()):
        if old.key not in wanted:
            store.remove(old)
    for obj in wanted.values():
        store.put(obj)


__all__ = ["CREATE", "KEY", "REVISION", "SETS", "STATUS", "Bench", "Unreadable", "bench"]
