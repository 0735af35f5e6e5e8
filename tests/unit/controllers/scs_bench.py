"""A bench for the reconciler of SidecarSets: passes one by one against the embedded server, which the stores follow
only when told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import orjson

from kruise.apis.core import NAMESPACES, PODS, REVISIONS
from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.controllers.sidecarset.observe import ORPHAN_REVISIONS, Stores
from kruise.controllers.sidecarset.reconciler import SidecarSetReconciler
from kruise.runtime.cache.store import Change, Store
from kruise.runtime.controller import Result
from kruise.runtime.errors import Forbidden, Reset
from kruise.runtime.objects import Key
from kruise.runtime.testing.loop import VirtualClock
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from tests.simulation.sidecar_objects import OWN, SETS, injected, pod_body, sidecar_set
from tests.unit.controllers.reconciler_bench import Body, Events, ServerBench, fill, on_bench

KEY: Final = Key("", "mesh")
STATUS: Final = f"patch {SETS}/status"
PATCH: Final = "patch pods"
MARK: Final = "patch pods/status"
REVISION: Final = "create controllerrevisions.apps"


class Faults(Interceptor):
    """Refuses, or loses the answers of, the writes of the manager for which somebody asked."""

    def __init__(self) -> None:
        self.rules: list[tuple[Callable[[Call], bool], int, bool]] = []
        self.hits: list[Call] = []

    def refuse(self, code: int, when: Callable[[Call], bool]) -> None:
        self.rules.append((when, code, False))

    def lose(self, when: Callable[[Call], bool], *, applied: bool) -> None:
        """Lose the answer, after the request was *applied* or instead."""
        self.rules.append((when, 0, applied))

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        for when, code, applied in self.rules if call.actor == "manager" else ():
            if not when(call):
                continue
            self.hits.append(call)
            if code:
                reason = {403: "Forbidden", 409: "Conflict", 404: "NotFound"}[code]
                body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "no"}
                return Answer(code, orjson.dumps(body))
            if applied:
                await proceed()
            raise Reset("the answer is lost")
        return await proceed()


class Bench(ServerBench):
    """Some sets, their cluster, and a reconciler that is called by hand."""

    def __init__(self, clock: VirtualClock, **options: Any) -> None:
        super().__init__(clock, SIDECARSETS)
        for name in ("default", OWN):
            self.server.ensure_namespace(name)
        self.faults = self.server.faults = Faults()
        self._options = options
        self.spoiled: set[str] = set()
        """Pods that come as nobody can read them."""
        self.begin()

    def begin(self) -> None:
        """Begin with empty stores and a new reconciler, as a new process does."""
        self.stores = Stores(
            sets=Store(SIDECARSETS, clock=self.clock),
            pods=Store(PODS, clock=self.clock),
            namespaces=Store(NAMESPACES, clock=self.clock),
            revisions=Store(REVISIONS, clock=self.clock),
        )
        self.stores.revisions.add_index(ORPHAN_REVISIONS)
        self.events = Events(SIDECARSETS, PODS)
        self.reconciler = SidecarSetReconciler(
            client=self.client,
            recorder=self.events,
            stores=self.stores,
            clock=self.clock,
            metrics=self.metrics,
            controller="test",
            namespace=OWN,
            **self._options,
        )

    # The cluster.

    def create(self, name: str = "mesh", **options: Any) -> None:
        self.server.create(SIDECARSETS, sidecar_set(name, **options), actor="user")

    def edit(self, change: Callable[[Body], object], name: str = "mesh") -> None:
        def edit(body: Body) -> None:
            change(body)
            body.update(default_sidecarset(body))

        self.server.edit(SIDECARSETS, name, edit, actor="user")

    def set_image(self, image: str, name: str = "mesh") -> None:
        self.edit(lambda body: body["spec"]["containers"][0].update(image=image), name)

    def create_pods(self, *numbers: int, **options: Any) -> None:
        """Create pods with the sidecars of the present sets, and let them run."""
        for number in numbers:
            body = injected(self.server, pod_body(f"shop-{number}", **options), self.clock.now())
            self.server.create(PODS, body, actor="user")
        self.run_pods(*numbers)

    def run_pods(self, *numbers: int, ready: bool = True) -> None:
        """Be the kubelet: let pods run what they are told to run."""
        for number in numbers:
            containers = self.pod(number)["spec"]["containers"]
            status = {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    *[c for c in self.pod(number).get("status", {}).get("conditions", ()) if c["type"] != "Ready"],
                ],
                "containerStatuses": [
                    {"name": c["name"], "image": c["image"], "imageID": f"id-{c['image']}", "ready": ready,
                     "restartCount": 0, "state": {"running": {}}}
                    for c in containers
                ],
            }  # fmt: skip
            self.server.patch(PODS, f"shop-{number}", {"status": status}, subresource="status", actor="kubelet")

    def pod(self, number: int) -> Body:
        found = self.server.get(PODS, f"shop-{number}")
        assert found is not None
        return found

    def images(self, number: int) -> list[str]:
        return [one["image"] for one in self.pod(number)["spec"]["containers"]]

    def sync(self, *, pods: bool = True) -> list[Change[Any]]:
        """Let the stores have what the server has; return what changed about pods and namespaces."""
        changes: list[Change[Any]] = []
        stores: list[Store[Any]] = [self.stores.sets, self.stores.revisions, self.stores.namespaces]
        for store in [*stores, self.stores.pods] if pods else stores:
            bodies = self.server.list(store.resource)
            if store is self.stores.pods:
                bodies = [{**one, "status": 7} if one["metadata"]["name"] in self.spoiled else one for one in bodies]
            found = fill(store, bodies)
            if store in (self.stores.pods, self.stores.namespaces):
                changes += found
        return changes

    def news(self) -> list[str]:
        """Sync the stores, and return the names of the sets that are called because of pods."""
        found = [self.reconciler.sets_of_pod(c) for c in self.sync() if c.key.namespace]
        return [key.name for keys in found for key in keys]

    # Passes.

    async def once(self, name: str = "mesh", *, live: bool = False, sync: bool = True, pods: bool = True) -> Result:
        """Sync the stores, with *pods* or without, and run one pass; raise what it raises."""
        if sync:
            self.sync(pods=pods)
        return await self.passed(self.reconciler, Key("", name), live=live)

    async def tried(self) -> Result | None:
        """Run a pass half a second later; return None when it raised the refusal of a pod."""
        await self.clock.sleep(0.5)
        try:
            return await self.once()
        except Forbidden:
            return None

    async def begun(self, count: int = 3, **options: Any) -> None:
        """Create a set, and *count* pods that have its sidecars and are ready; let the status say so."""
        self.create(**options)
        await self.once()
        self.create_pods(*range(count))
        await self.clock.sleep(1.0)
        await self.once()
        await self.clock.sleep(1.0)
        await self.once()
        self.events.seen.clear()

    # Looking.

    def status(self, name: str = "mesh") -> Body:
        return self.stored_status(name)

    def condition(self, kind: str, name: str = "mesh") -> Body:
        return next((c for c in self.status(name).get("conditions") or () if c["type"] == kind), {})

    def numbers(self, name: str = "mesh") -> tuple[int, ...]:
        """Return how many pods are matched, updated, ready, and both."""
        status = self.status(name)
        return tuple(status[count] for count in ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods"))

    def differences(self) -> float | None:
        name = "kruise_consistency_view_differences_total"
        return self.metrics.registry.get_sample_value(name, {"controller": "test"})


def bench(scenario: Callable[[Bench], Awaitable[None]], **options: Any) -> None:
    """Run *scenario* on a bench, in virtual time."""

    on_bench(partial(Bench, **options), scenario)
