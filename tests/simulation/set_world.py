"""The cluster in memory with the controller of Advanced StatefulSets in its manager: short words for sets.

def test_something() -> None:
    async def scenario(world: SetWorld) -> None:
        await world.started()
        world.create_set("web", replicas=3)
        await world.settled("web")
        assert world.counts() == {...}

    simulate_sets(scenario)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from kruise.apis.statefulset import STATEFULSETS
from kruise.controllers.statefulset.setup import setup
from kruise.features import resolve
from kruise.runtime.clock import Random
from kruise.runtime.metrics import Metrics
from kruise.simulator.provisioner import PROVISIONER, Provisioner
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
    "CREATE_CLAIM", "CREATE_POD", "CREATE_REVISION", "DELETE_POD", "DELETE_REVISION", "GATE", "LABEL_STATE",
    "PATCH_CLAIM", "PATCH_POD", "PATCH_REVISION", "PATCH_STATUS", "RESIZE", "SETS", "SET_STATUS", "SetWorld",
    "claim_template", "is_normal", "simulate_sets",
]  # fmt: skip

SETS: Final = str(STATEFULSETS)
CREATE_POD: Final = "create pods"
DELETE_POD: Final = "delete pods"
RESIZE: Final = "patch pods/resize"
CREATE_CLAIM: Final = "create persistentvolumeclaims"
PATCH_CLAIM: Final = "patch persistentvolumeclaims"
SET_STATUS: Final = f"patch {SETS}/status"

GATE: Final = "InPlaceUpdateReady"
LABEL_STATE: Final = "lifecycle.apps.kruise.io/state"


class SetWorld(UpdateWorld):
    """The cluster. Make one with :func:`simulate_sets`."""

    kind = STATEFULSETS
    usual = "web"

    def __init__(self, *args: Any, gates: tuple[tuple[str, bool], ...] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.gates = resolve(gates, {})[0]
        self.provisioner = Provisioner(
            self.rest_of("provisioner"), clock=self.clock, rng=Random(6), metrics=Metrics(process=False), bind=True
        )

    async def begin(self, nodes: int) -> None:
        await super().begin(nodes)
        storage = {"metadata": {"name": "fast"}, "provisioner": PROVISIONER, "allowVolumeExpansion": True}
        self.server.create("storageclasses.storage.k8s.io", storage, actor="user")
        self._actors.append(self.tasks.create_task(self.provisioner.run(), name="provisioner"))

    def start_manager(self, **options: Any) -> Process:
        workers = options.pop("workers", 3)
        options.setdefault("build", lambda manager: setup(manager, workers=workers, gates=self.gates))
        return super().start_manager(**options)

    # Sets.

    def create_set(
        self,
        name: str = "web",
        *,
        replicas: int = 3,
        image: str = "sim.kruise.io/ready-1s:v1",
        gated: bool = True,
        parallel: bool = True,
        rolling: Body | None = None,
        pod: Body | None = None,
        annotations: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        claims: tuple[str, ...] = (),
        **spec: Any,
    ) -> Body:
        """Create a set. *rolling* is its rollingUpdate, *pod* more of the pod's spec, *spec* more of its own."""
        containers = [{"name": "main", "image": image}]
        template: Body = {
            "metadata": {"labels": {"app": name, **(labels or {})}, "annotations": annotations or {}},
            "spec": {"containers": containers, **(pod or {})},
        }
        if gated:
            gates = template["spec"].setdefault("readinessGates", [])
            gates.append({"conditionType": GATE})
        body = {
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "serviceName": name,
                "template": template,
                "podManagementPolicy": "Parallel" if parallel else "OrderedReady",
                "updateStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {
                        "maxUnavailable": 1,
                        "podUpdatePolicy": "InPlaceIfPossible" if gated else "ReCreate",
                        **(rolling or {}),
                    },
                },
                "volumeClaimTemplates": [claim_template(claim) for claim in claims],
                **spec,
            },
        }
        return self.server.create(SETS, body, actor="user")

    def edit_set(self, name: str = "web", **spec: Any) -> Body:
        """Merge *spec* into the spec of a set."""
        return self.server.patch(SETS, name, {"spec": spec}, actor="user")

    def set_image(self, name: str, image: str, container: str = "main") -> Body:
        """Change the image of a container of a set's template."""

        def change(body: Body) -> None:
            for one in body["spec"]["template"]["spec"]["containers"]:
                if one["name"] == container:
                    one["image"] = image

        return self.server.edit(SETS, name, change, actor="user")

    def members(self, name: str = "web") -> list[Body]:
        """Return the pods of a set by ordinal."""
        found = [p for p in self.server.list("pods", NAMESPACE) if p["metadata"]["name"].rpartition("-")[0] == name]
        return sorted(found, key=lambda p: int(p["metadata"]["name"].rpartition("-")[2]))

    def done(self, name: str = "web") -> bool:
        """Tell whether the set is as it shall be, by its status and by its pods."""
        one, status = self.the_set(name), self.set_status(name)
        replicas = one["spec"]["replicas"]
        counts = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "currentReplicas")
        return (
            status.get("observedGeneration") == one["metadata"]["generation"]
            and all(status.get(count) == replicas for count in counts)
            and status.get("currentRevision") == status.get("updateRevision")
            and len(self.members(name)) == replicas
            and all(is_normal(pod) for pod in self.members(name))
        )

    async def settled(self, name: str = "web", timeout: float = 600.0) -> float:
        """Wait until a set is as it shall be, and a second more; return how long it took without that."""
        return await self.time_of(lambda: self.done(name), timeout)


def is_normal(pod: Body) -> bool:
    """Tell whether no in-place update and no hook holds a pod."""
    state = (pod["metadata"].get("labels") or {}).get(LABEL_STATE, "Normal")
    gates = {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()}
    true = {c["type"] for c in (pod.get("status") or {}).get("conditions") or () if c["status"] == "True"}
    return state == "Normal" and gates <= true and "Ready" in true


def claim_template(name: str, size: str = "1Gi", storage_class: str = "fast") -> Body:
    return {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}},
        },
    }


def simulate_sets(
    scenario: Callable[[SetWorld], Awaitable[None]],
    *,
    nodes: int = 5,
    seed: int = 0,
    latency: float = 0.002,
    rest: float | None = 600.0,
    gates: tuple[tuple[str, bool], ...] = (),
) -> None:
    """Run *scenario* on a cluster of *nodes*, and let it come to rest, unless *rest* is None."""
    play(partial(SetWorld, seed=seed, latency=latency, gates=gates), scenario, nodes=nodes, seed=seed, rest=rest)
