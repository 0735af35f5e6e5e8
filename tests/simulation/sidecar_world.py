"""The cluster in memory with the controller of SidecarSets in its manager: short words for sets and their pods.

Admission stands here as the pure functions that it consists of: sets are defaulted and hashed, pods are injected,
before they are created.

def test_something() -> None:
    async def scenario(world: SidecarWorld) -> None:
        await world.started()
        world.create_set("mesh")
        world.create_pods(3)
        await world.settled("mesh")
        assert world.counts() == {...}

    simulate_sidecars(scenario)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.controllers.sidecarset.setup import setup
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.simulator.node_agent import NodeAgent
from kruise.simulator.node_objects import NodeShape
from tests.simulation.sidecar_objects import EMPTY, OWN, SETS, V1, V2, V3, pod_body, sidecar_set
from tests.simulation.sidecar_objects import injected as admitted
from tests.simulation.world import NAMESPACE, Body, Process, World

__all__ = [
    "CREATE_REVISION", "DELETE_REVISION", "EMPTY", "OWN", "PATCH_POD", "PATCH_REVISION", "PATCH_STATUS", "SETS",
    "SET_STATUS", "V1", "V2", "V3", "SidecarWorld", "simulate_sidecars",
]  # fmt: skip

PATCH_POD: Final = "patch pods"
PATCH_STATUS: Final = "patch pods/status"
CREATE_REVISION: Final = "create controllerrevisions.apps"
PATCH_REVISION: Final = "patch controllerrevisions.apps"
DELETE_REVISION: Final = "delete controllerrevisions.apps"
SET_STATUS: Final = f"patch {SETS}/status"

KUBELET_REACTS: Final = 0.03
"""Seconds from what a simulated kubelet sees to its write."""


class SidecarWorld(World):
    """The cluster. Make one with :func:`simulate_sidecars`."""

    def __init__(self, *args: Any, shape: NodeShape = NodeShape(), **options: Any) -> None:  # noqa: B008
        super().__init__(*args, **options)
        if self.server.registry.named(SETS) is None:
            self.server.registry.add_custom(SIDECARSETS)
        # A kubelet answers what it sees 20 ms later at the soonest: a write of ours in between is its conflict.
        self.agent = NodeAgent(
            self._rest("nodes", latency=2 * KUBELET_REACTS),
            clock=self.clock,
            rng=Random(7),
            metrics=Metrics(process=False),
            shape=shape,
            lease_seconds=3600,
        )

    def _rest(self, actor: str, *, latency: float = 0.0) -> Rest:
        transport = self.server.transport(actor, latency=latency)
        return Rest(transport, clock=self.clock, rng=Random(5), metrics=Metrics(process=False))

    def start_manager(self, **options: Any) -> Process:
        workers = options.pop("workers", 3)
        options.setdefault("build", lambda manager: setup(manager, workers=workers, namespace=OWN))
        return super().start_manager(**options)

    # Sets.

    def create_set(self, name: str = "mesh", **options: Any) -> Body:
        """Create a set; *options* are those of :func:`sidecar_set`."""
        return self.server.create(SETS, sidecar_set(name, **options), actor="user")

    def edit_set(self, change: Callable[[Body], object], name: str = "mesh") -> Body:
        """Change a set, as admission lets it through: with new hashes."""

        def edit(body: Body) -> None:
            change(body)
            body.update(default_sidecarset(body))

        return self.server.edit(SETS, name, edit, actor="user")

    def set_image(self, image: str, name: str = "mesh") -> Body:
        """Change the image of the sidecar of a set."""
        return self.edit_set(lambda body: body["spec"]["containers"][0].update(image=image), name)

    def strategy(self, name: str = "mesh", **fields: Any) -> Body:
        """Change the updateStrategy of a set."""
        return self.edit_set(lambda body: body["spec"]["updateStrategy"].update(fields), name)

    def the_set(self, name: str = "mesh") -> Body:
        """Return a set. Raises AssertionError when it is not there."""
        found = self.server.get(SETS, name)
        assert found is not None, f"no set {name}"
        return found

    def scs_status(self, name: str = "mesh") -> Body:
        found: Body = self.the_set(name).get("status") or {}
        return found

    def scs_condition(self, kind: str, name: str = "mesh") -> Body:
        return next((c for c in self.scs_status(name).get("conditions") or () if c["type"] == kind), {})

    def numbers(self, name: str = "mesh") -> tuple[int, int, int, int]:
        """Return how many pods are matched, updated, ready, and both."""
        status = self.scs_status(name)
        return tuple(status.get(count, -1) for count in ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods"))

    def revisions(self, name: str = "mesh") -> list[Body]:
        """Return the revisions of a set, oldest first."""
        found = self.server.list("controllerrevisions.apps", OWN, labels={"kruise.io/sidecarset-name": name})
        return sorted(found, key=lambda one: int(one["revision"]))

    # Pods.

    def create_pods(
        self,
        count: int,
        *,
        prefix: str = "shop",
        labels: dict[str, str] | None = None,
        namespace: str = NAMESPACE,
        injected: bool = True,
        pod: Body | None = None,
    ) -> list[Body]:
        """Create pods of a user's, with the sidecars that the sets of this moment give them, or without."""
        made = []
        for number in range(count):
            body = pod_body(f"{prefix}-{number}", namespace=namespace, labels=labels, **(pod or {}))
            if injected:
                body = self.injected(body)
            made.append(self.server.create("pods", body, actor="user"))
        return made

    def injected(self, pod: Body) -> Body:
        """Return *pod* as admission would let it through now."""
        return admitted(self.server, pod, self.clock.now())

    def pod(self, name: str = "shop-0", namespace: str = NAMESPACE) -> Body:
        found = self.server.get("pods", name, namespace)
        assert found is not None, f"no pod {name}"
        return found

    def images(self, name: str = "shop-0", namespace: str = NAMESPACE) -> dict[str, str]:
        """Return the images of a pod by container."""
        return {one["name"]: one["image"] for one in self.pod(name, namespace)["spec"]["containers"]}

    def delete_pod(self, name: str, namespace: str = NAMESPACE) -> None:
        self.server.delete("pods", name, namespace, actor="user")

    # Looking.

    def all_of(self, count: int, name: str = "mesh") -> bool:
        """Tell whether a set has *count* pods, all of them updated and ready, and says so of its present spec."""
        seen = self.scs_status(name).get("observedGeneration") == self.the_set(name)["metadata"]["generation"]
        return seen and self.numbers(name) == (count,) * 4

    async def settled(self, count: int, name: str = "mesh", timeout: float = 600.0) -> float:
        """Wait until :meth:`all_of` is so, and a second more; return how long it took without that."""
        begun = self.clock.monotonic()
        await self.until(lambda: self.all_of(count, name), timeout, every=0.02)
        took = self.clock.monotonic() - begun
        await self.sleep(1.0)
        return took


def simulate_sidecars(
    scenario: Callable[[SidecarWorld], Awaitable[None]],
    *,
    nodes: int = 5,
    seed: int = 0,
    latency: float = 0.002,
    rest: float | None = 600.0,
) -> None:
    """Run *scenario* on a cluster of *nodes*, and let it come to rest, unless *rest* is None."""

    async def main(clock: VirtualClock) -> None:
        async with asyncio.TaskGroup() as tasks:
            world = SidecarWorld(clock, tasks, seed=seed, latency=latency)
            await world.begin(nodes)
            try:
                await scenario(world)
                if rest is not None:
                    await world.rest(rest)
            finally:
                await world.end()

    run_virtual(main, seed=seed, timeout=400_000.0)
