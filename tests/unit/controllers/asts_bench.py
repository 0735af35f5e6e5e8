"""A bench for the reconciler of StatefulSets: passes one by one against the embedded server, which the stores follow
only when told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from kruise.apis.core import CLAIMS, PODS, REVISIONS, STORAGE_CLASSES
from kruise.apis.statefulset import STATEFULSETS
from kruise.controllers.statefulset.observe import CLAIMS_BY_FAMILY, ORPHAN_REVISIONS, ORPHANS, Stores
from kruise.controllers.statefulset.reconciler import StatefulSetReconciler
from kruise.controllers.statefulset.settings import DEFAULT_SETTINGS, Settings
from kruise.runtime.cache.store import Store
from kruise.runtime.controller import Result
from kruise.runtime.objects import Key
from kruise.runtime.testing.loop import VirtualClock
from tests.unit.controllers.reconciler_bench import Events, ServerBench, fill, on_bench

KEY = Key("default", "web")
SETS = str(STATEFULSETS)
STATUS = f"patch {SETS}/status"
CREATE = "create pods"
REVISION = "create controllerrevisions.apps"


class Bench(ServerBench):
    """One set, its cluster, and a reconciler that is called by hand."""

    def __init__(self, clock: VirtualClock, *, settings: Settings = DEFAULT_SETTINGS, **options: Any) -> None:
        super().__init__(clock, STATEFULSETS)
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
        self.events = Events(STATEFULSETS)
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
                fill(store, self.server.list(store.resource))

    # Passes.

    async def once(self, *, live: bool = False, sync: bool = True) -> Result:
        """Sync the stores and run one pass; raise what it raises."""
        if sync:
            self.sync()
        return await self.passed(self.reconciler, KEY, live=live)

    async def begun(self) -> None:
        """Run the passes in which pods are made, and let all of them be ready."""
        await self.once()
        replicas = self.server.get(STATEFULSETS, "web")["spec"]["replicas"]  # type: ignore[index]
        self.run_pods(*range(replicas))
        await self.clock.sleep(1.0)
        await self.once()

    def status(self) -> dict[str, Any]:
        return self.stored_status("web")


def bench(scenario: Callable[[Bench], Awaitable[None]], **options: Any) -> None:
    """Run *scenario* on a bench, in virtual time."""

    on_bench(partial(Bench, **options), scenario)


__all__ = ["CREATE", "KEY", "REVISION", "SETS", "STATUS", "Bench", "bench"]
