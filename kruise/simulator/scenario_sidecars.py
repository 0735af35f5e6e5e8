"""What users of SidecarSets do in a scenario, and how it is seen that their pods have the sidecars they should.

Purpose: the hands and eyes of the workloads in ``scenario_sidecar_workloads.py``.

Guarantees: nothing here fails because of a fault. What a webhook keeps out is sent again, as people and controllers do;
what the server refuses for another reason is not done. Whether the sidecars have arrived is told by the pods, and by
the status only where the status is meant.

What this does not do: it checks no invariant; the oracles do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from kruise.simulator.apiserver.bodies import MERGE
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.invariants import sidecarset_reading as reading
from kruise.simulator.invariants.sidecarset import missed
from kruise.simulator.invariants.sidecarset_reading import PODS, SIDECARSETS
from kruise.simulator.scenario_world import NAMESPACE, Body, Cluster

LONG: Final = 60.0
"""Seconds for which a script waits for what faults may keep from coming."""
PAUSE: Final = 30.0
"""Seconds between two tries of a user to make one pod anew."""
PATIENCE: Final = 600.0
"""Seconds for which a user insists on a write that a webhook keeps out."""
PATH: Final = "/apis/apps.kruise.io/v1beta1/sidecarsets"
EMPTY: Final = "sim.kruise.io/idle:v1"


async def send(c: Cluster, method: str, path: str, body: Any, *, actor: str = "user") -> tuple[int, Body]:
    """Send one request as somebody else's client does, and return the code and the answer."""
    headers = {"content-type": MERGE if method == "PATCH" else "application/json"}
    data = None if body is None else orjson.dumps(body)
    answer = await c.server.handle(c.server.call(method, path, headers=headers, body=data, actor=actor))
    found: Body = orjson.loads(answer.body) if answer.body else {}
    return answer.status, found


async def insist(c: Cluster, method: str, path: str, body: Any, *, actor: str = "user") -> Body | None:
    """Send a request until no webhook keeps it out any more; ``None`` when it is refused for another reason."""
    for _ in range(int(PATIENCE)):
        code, found = await send(c, method, path, body, actor=actor)
        if code < 300:
            return found
        if code < 500:
            c.history.note(f"refused: {method} {path}: {code} {found.get('message', '')}")
            return None
        await c.clock.sleep(1.0)
    c.trouble.append(f"L1: {method} {path} was kept out for {PATIENCE:g} s")
    return None


def container(name: str, image: str, **more: Any) -> Body:
    """Return a container; what its image does stands in the name of the image."""
    return {"name": name, "image": f"sim.kruise.io/{image}", **more}


def sidecar(image: str = "side:v1", name: str = "side", *, hot: bool = False, **more: Any) -> Body:
    """Return a sidecar of a set."""
    if hot:
        more["upgradeStrategy"] = {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": EMPTY}
    return container(name, image, podInjectPolicy="BeforeAppContainer", **more)


class UserSidecars:
    """One SidecarSet, as its user sees it."""

    def __init__(self, cluster: Cluster, name: str = "mesh") -> None:
        self.cluster = cluster
        self.name = name

    # Doing.

    async def create(
        self,
        image: str = "side:v1",
        *,
        hot: bool = False,
        containers: list[Body] | None = None,
        app: str = "web",
        strategy: Body | None = None,
        annotations: Mapping[str, str] | None = None,
        native: bool = False,
        **spec: Any,
    ) -> Body | None:
        """Create the set; ``None`` when it is refused. With *native*, an init container that stays beside it."""
        self.cluster.history.note(f"the user creates the sidecar set {self.name}")
        full: Body = {
            "selector": {"matchLabels": {"app": app}},
            "containers": containers if containers is not None else [sidecar(image, hot=hot)],
            "updateStrategy": {"type": "RollingUpdate", "maxUnavailable": 1, **(strategy or {})},
        } | spec
        if native:
            full["initContainers"] = [container("early", "early:v1", restartPolicy="Always")]
        body = {
            "apiVersion": "apps.kruise.io/v1beta1",
            "kind": "SidecarSet",
            "metadata": {"name": self.name, "annotations": dict(annotations or {})},
            "spec": full,
        }
        return await insist(self.cluster, "POST", PATH, body)

    async def edit(self, **spec: Any) -> Body | None:
        """Change the spec by a merge patch."""
        self.cluster.history.note(f"the user edits the sidecar set {self.name}: {spec}")
        return await insist(self.cluster, "PATCH", f"{PATH}/{self.name}", {"spec": spec})

    async def strategy(self, **changes: Any) -> None:
        """Change ``updateStrategy``."""
        await self.edit(updateStrategy=changes)

    async def image(self, image: str, *, name: str = "side", **more: Any) -> None:
        """Change the image of a sidecar, and with *more* other fields of its container."""
        have = (self.body.get("spec") or {}).get("containers") or []
        full = f"sim.kruise.io/{image}"
        await self.edit(containers=[{**one, "image": full, **more} if one["name"] == name else one for one in have])

    async def delete(self) -> None:
        """Delete the set."""
        self.cluster.history.note(f"the user deletes the sidecar set {self.name}")
        await insist(self.cluster, "DELETE", f"{PATH}/{self.name}", None)

    # Looking.

    @property
    def body(self) -> Body:
        """The set; empty when it is gone."""
        return self.cluster.server.get(SIDECARSETS, self.name) or {}

    @property
    def status(self) -> Body:
        """Its status."""
        found: Body = self.body.get("status") or {}
        return found

    def condition(self, kind: str) -> Body:
        """Return a condition of the set; empty when it has none of that type."""
        return next((one for one in self.status.get("conditions") or () if one["type"] == kind), {})

    def pods(self) -> list[Body]:
        """Return the active pods into which it was injected."""
        found = self.cluster.server.list(PODS)
        return [pod for pod in found if reading.active(pod) and self.name in reading.listed(pod)]

    def asks(self, image: str, name: str = "side") -> int:
        """Return how many pods have *image* in a sidecar, or in one of its twins."""
        return sum(1 for pod in self.pods() if f"sim.kruise.io/{image}" in _images(pod, name))

    def runs(self, image: str, name: str = "side") -> int:
        """Return how many pods are ready with *image*, and have ended their upgrade."""
        owner = self.body
        return sum(
            1
            for pod in self.pods()
            if f"sim.kruise.io/{image}" in _images(pod, name)
            and reading.consistent(owner, pod)
            and reading.up(owner, pod)
        )

    def missed(self) -> list[Body]:
        """Return the pods that should have the sidecars, and were created without."""
        labels = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in self._namespaces()}
        canaries = {
            str(one["metadata"]["name"])
            for one in self.cluster.server.list(SIDECARSETS)
            if reading.base_of(one) == self.name
        }
        owner = self.body
        return [pod for pod in self.cluster.server.list(PODS) if owner and missed(owner, pod, labels, canaries)]

    def _namespaces(self) -> list[Body]:
        return self.cluster.server.list(reading.NAMESPACES)

    def said(self, total: int, updated: int) -> bool:
        """Tell whether the status has the counts of *total* good pods, *updated* of them at the present version."""
        status = self.status
        names = ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods")
        told = [status.get(name) for name in names]
        generation = (self.body.get("metadata") or {}).get("generation")
        return told == [total, updated, total, updated] and status.get("observedGeneration") == generation


def _images(pod: Body, name: str) -> list[str]:
    have = reading.images(pod)
    return [have[one] for one in (name, f"{name}-1", f"{name}-2") if one in have]


class Deployment:
    """Somebody else's controller: it keeps so many pods, and makes again what is gone or has ended."""

    name = "deployment"

    def __init__(
        self,
        cluster: Cluster,
        replicas: int = 4,
        *,
        app: str = "web",
        image: str = "app:v1",
        namespace: str = NAMESPACE,
        labels: Callable[[int], dict[str, str]] = lambda number: {},  # noqa: ARG005 - most have none
        annotations: Mapping[str, str] | None = None,
        pod: Body | None = None,
    ) -> None:
        """Make one, and let it run until the end."""
        self.cluster = cluster
        self.replicas = replicas
        self.app = app
        self.namespace = namespace
        self.template = {"containers": [container("main", image)], "terminationGracePeriodSeconds": 2, **(pod or {})}
        self._labels = labels
        self._annotations = dict(annotations or {})
        self._news = asyncio.Event()
        cluster.history.note(f"the user asks for {replicas} pods of {app}")
        cluster.act(self)

    def scale(self, replicas: int) -> None:
        """Keep another number of pods."""
        self.cluster.history.note(f"the user asks for {replicas} pods of {self.app}")
        self.replicas = replicas
        self._news.set()

    async def run(self) -> None:
        """Keep the pods until cancelled."""
        self.cluster.server.storage.listeners.append(self._on_commit)
        delay = 1.0
        try:
            while True:
                self._news.clear()
                if await self._keep():
                    delay = 1.0
                    await self._news.wait()
                else:
                    await self.cluster.clock.sleep(delay)
                    delay = min(2 * delay, 60.0)
                await self.cluster.clock.sleep(0.01)
        finally:
            self.cluster.server.storage.listeners.remove(self._on_commit)

    def _on_commit(self, commit: Commit) -> None:
        if commit.resource == PODS and commit.key.namespace == self.namespace:
            self._news.set()

    async def _keep(self) -> bool:
        """Make what is missing; tell whether nothing was kept out."""
        well = True
        for number in range(self.replicas):
            name = f"{self.app}-{number}"
            pod = self.cluster.server.get(PODS, name, self.namespace)
            if pod is None:
                well = await self._make(name, number) and well
            elif reading.phase(pod) in ("Succeeded", "Failed") and not reading.terminating(pod):
                self.cluster.delete_pod(pod)
        for pod in self.cluster.server.list(PODS, self.namespace, labels={"app": self.app}):
            number = int(str(pod["metadata"]["name"]).rpartition("-")[2])
            if number >= self.replicas and not reading.terminating(pod):
                self.cluster.delete_pod(pod)
        return well

    async def _make(self, name: str, number: int) -> bool:
        labels = {"app": self.app, **self._labels(number)}
        meta = {"name": name, "labels": labels, "annotations": self._annotations}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": self.template}
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        code, answer = await send(self.cluster, "POST", path, body, actor=self.name)
        if code >= 300:
            self.cluster.history.note(f"the pod {name} is kept out: {code} {answer.get('message', '')}")
            if code == 422 and len(self.cluster.trouble) < 5:
                self.cluster.trouble.append(f"C8: what injection makes of a good pod is none: {answer.get('message')}")
        return code < 300

    def pods(self) -> list[Body]:
        """Return its pods."""
        return self.cluster.server.list(PODS, self.namespace, labels={"app": self.app})


def pods_of(c: Cluster, app: str = "web", namespace: str = NAMESPACE) -> list[Body]:
    """Return the pods with a label, by name."""
    return c.server.list(PODS, namespace, labels={"app": app})


def mended(c: Cluster, *names: str) -> bool:
    """Once nothing goes wrong any more, let users make anew the pods that miss their sidecars; tell if there are none.

    A pod that was created while no webhook answered stays without until somebody deletes it: the status names it.
    """
    well = True
    for name in names or ("mesh",):
        one = UserSidecars(c, name)
        told = one.condition("Injected")
        said = str(told.get("message", "")) if told.get("status") == "False" else ""
        well = well and not said and not one.missed()
        for pod in c.server.list(PODS) if said and c.injector.healed else ():
            key = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            if key in said and name not in reading.listed(pod):
                make_anew(c, pod)
    return well


def make_anew(c: Cluster, pod: Body) -> None:
    """Delete a pod, so that its controller makes another one; the same name not more often than people do."""
    name, now = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}", c.clock.monotonic()
    if not reading.terminating(pod) and now - c.remembered.get(name, -PAUSE) >= PAUSE:
        c.remembered[name] = now
        c.delete_pod(pod)


def arrived(
    image: str, *, total: int = 4, updated: int | None = None, name: str = "side", sets: tuple[str, ...] = ("mesh",)
) -> Callable[[Cluster], bool]:
    """Return whether *total* good pods have the sidecars, *updated* of them, or all, with *image*."""

    def look(c: Cluster) -> bool:
        if not mended(c, *sets):
            return False
        wanted = total if updated is None else updated
        for one in (UserSidecars(c, n) for n in sets):
            if len(one.pods()) != total or not one.said(total, wanted):
                return False
        return UserSidecars(c, sets[0]).runs(image, name) == wanted

    return look


def seen(c: Cluster) -> dict[str, Any]:
    """Return what must be the same with and without faults: which pods there are in which state, and the counts."""
    pods: dict[str, int] = {}
    for pod in c.server.list(PODS):
        images = sorted(image.removeprefix("sim.kruise.io/") for image in reading.images(pod).values())
        key = " ".join([*images, str(reading.ready(pod)), ",".join(reading.listed(pod))])
        pods[key] = pods.get(key, 0) + 1
    sets: dict[str, Any] = {}
    for owner in c.server.list(SIDECARSETS):
        status = owner.get("status") or {}
        names = ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods")
        one = UserSidecars(c, owner["metadata"]["name"])
        told = one.condition("Injected")
        sets[one.name] = [*(status.get(name) for name in names), told.get("status"), told.get("reason")]
    return {"pods": dict(sorted(pods.items())), "sets": sets}
