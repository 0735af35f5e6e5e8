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

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.controllers.sidecarset.setup import setup
from tests.simulation.sidecar_objects import EMPTY, OWN, SETS, V1, V2, V3, pod_body, sidecar_set
from tests.simulation.sidecar_objects import injected as admitted
from tests.simulation.update_world import (
    CREATE_REVISION,
    DELETE_REVISION,
    PATCH_POD,
    PATCH_REVISION,
    PATCH_STATUS,
    UpdateWorld,
    play,
)
from tests.simulation.world import NAMESPACE, Body, Process

__all__ = [
    "CREATE_REVISION", "DELETE_REVISION", "EMPTY", "OWN", "PATCH_POD", "PATCH_REVISION", "PATCH_STATUS", "SETS",
    "SET_STATUS", "V1", "V2", "V3", "SidecarWorld", "simulate_sidecars",
]  # fmt: skip

SET_STATUS: Final = f"patch {SETS}/status"


class SidecarWorld(UpdateWorld):
    """The cluster. Make one with :func:`simulate_sidecars`."""

    kind = SIDECARSETS
    usual = "mesh"

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

    def numbers(self, name: str = "mesh") -> tuple[int, int, int, int]:
        """Return how many pods are matched, updated, ready, and both."""
        status = self.set_status(name)
        return tuple(status.get(count, -1) for count in ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods"))

    def revisions(self, name: str = "mesh") -> list[Body]:
        """Return the revisions of a set, oldest first."""
        found = self.server.list("controllerrevisions.apps", OWN, labels={"kruise.io/sidecarset-name": name})
        return sorted(found, key=lambda one: int(one["revision"]))

    async def standing(self, count: int, **options: Any) -> Process:
        """Start a manager, create a set and *count* pods, and let it settle; return the manager.

        *options* are those of :meth:`create_set`.
        """
        process = await self.started()
        self.create_set(**options)
        self.create_pods(count)
        await self.settled(count)
        return process

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
        seen = self.set_status(name).get("observedGeneration") == self.the_set(name)["metadata"]["generation"]
        return seen and self.numbers(name) == (count,) * 4

    async def settled(self, count: int, name: str = "mesh", timeout: float = 600.0) -> float:
        """Wait until :meth:`all_of` is so, and a second more; return how long it took without that."""
        return await self.time_of(lambda: self.all_of(count, name), timeout)


def simulate_sidecars(
    scenario: Callable[[SidecarWorld], Awaitable[None]],
    *,
    nodes: int = 5,
    seed: int = 0,
    latency: float = 0.002,
    rest: float | None = 600.0,
) -> None:
    """Run *scenario* on a cluster of *nodes*, and let it come to rest, unless *rest* is None."""
    play(partial(SidecarWorld, seed=seed, latency=latency), scenario, nodes=nodes, seed=seed, rest=rest)
