"""The cluster in memory as it is deployed: the shipped webhook configurations, and a manager that answers them.

Every request of a user goes through admission and conversion, to the production handlers, without a socket.

def test_something() -> None:
    async def scenario(world: AdmissionWorld) -> None:
        await world.started()
        await world.apply(a_set)
        await world.run_pods("shop", 3)
        await world.settled(3, "mesh")

    simulate_admission(scenario)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import orjson

from hack.kustomize import render
from kruise.cli.cluster import Cluster
from kruise.controllers.broadcastjob.setup import setup as setup_broadcastjob
from kruise.controllers.sidecarset.setup import setup as setup_sidecarset
from kruise.controllers.statefulset.setup import setup as setup_statefulset
from kruise.options import Options
from kruise.runtime.client.client import Client
from kruise.runtime.clock import Random
from kruise.runtime.controller import Controller
from kruise.runtime.errors import Refused
from kruise.runtime.manager.http import Call, Reply
from kruise.runtime.manager.manager import Manager
from kruise.runtime.metrics import Metrics
from kruise.simulator.apiserver import LocalCaller
from kruise.simulator.apiserver.bodies import MERGE
from kruise.webhooks.certificates import FAIL
from kruise.webhooks.fail_keeper import LABEL
from kruise.webhooks.setup import setup as setup_webhooks
from tests.simulation.sidecar_world import OWN, SidecarWorld
from tests.simulation.update_world import play
from tests.simulation.world import NAMESPACE, Body, Process

CONFIG: Final = Path(__file__).parents[2] / "config"
SERVICE: Final = f"{OWN}/kruise-webhook-service"
DEFINITIONS: Final = "customresourcedefinitions.apiextensions.k8s.io"
MUTATING: Final = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
APP: Final = "sim.kruise.io/ready-1s:app"
_PLURALS: Final[Mapping[str, tuple[str, bool]]] = {
    "SidecarSet": ("sidecarsets", False),
    "Namespace": ("namespaces", False),
    "Pod": ("pods", True),
    "ConfigMap": ("configmaps", True),
    "StatefulSet": ("statefulsets", True),
    "BroadcastJob": ("broadcastjobs", True),
}


@cache
def shipped() -> tuple[Body, ...]:
    """Return what ``make deploy`` applies."""
    return tuple(dict(one) for one in render(CONFIG / "default"))


class AdmissionWorld(SidecarWorld):
    """The cluster. Make one with :func:`simulate_admission`."""

    def __init__(self, *args: Any, options: Options | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self.options = options or Options()
        self.caller = LocalCaller(self.clock)
        self.caller.serve(SERVICE, self._answer)
        self.server.caller = self.caller
        for one in shipped():
            if one["kind"] == "CustomResourceDefinition":
                conversion = {"spec": {"conversion": one["spec"]["conversion"]}}
                self.server.patch(DEFINITIONS, one["metadata"]["name"], conversion)
            elif one["kind"].endswith("WebhookConfiguration"):
                self.server.create(f"{one['kind'].lower()}s.admissionregistration.k8s.io", one)
        self.server.log.clear()

    def start_manager(self, **options: Any) -> Process:
        options.setdefault("build", self._build)
        return super().start_manager(**options)

    async def _answer(self, call: Call) -> Reply:
        """Answer as a Service does: by a replica that lives."""
        for process in self.processes:
            if process.running and process.manager.webhooks is not None:
                return await process.manager.webhooks.answer(call)
        raise Refused("connection refused")

    def _build(self, manager: Manager) -> Controller:
        found = setup_sidecarset(manager, workers=3, namespace=OWN)
        setup_statefulset(manager, workers=3, gates=self.options.gates)
        setup_broadcastjob(manager, workers=3)
        setup_webhooks(manager, self.options, clock=self.clock, rng=Random(9), certificates=False)
        return found

    async def started(self) -> Process:
        """Start a manager, and wait until it leads and its webhooks have their caches."""
        process = await super().started()
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": pod_spec()}
        for _ in range(100):
            code, _answer = await self.send("POST", f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", body)
            empty = {**body, "kind": "SidecarSet", "apiVersion": "apps.kruise.io/v1beta1", "spec": {}}
            answer = await self.send("POST", "/apis/apps.kruise.io/v1beta1/sidecarsets?dryRun=All", empty)
            if code == 201 and answer[0] == 422:
                self.server.log.clear()
                return process
            await self.sleep(0.1)
        raise AssertionError("no webhook answers")

    def fail_without_answer(self) -> None:
        """Do what components/webhook-fail does."""
        self.server.patch(MUTATING, FAIL, {"metadata": {"labels": {LABEL: "Fail"}}}, actor="user")

    # What a user does.

    async def send(self, method: str, path: str, body: Any = None, *, actor: str = "user") -> tuple[int, Body]:
        """Send one request; return the code and the answer."""
        headers = {"content-type": MERGE if method == "PATCH" else "application/json"}
        data = None if body is None else orjson.dumps(body)
        answer = await self.server.handle(self.server.call(method, path, headers=headers, body=data, actor=actor))
        found: Body = orjson.loads(answer.body) if answer.body else {}
        return answer.status, found

    async def apply(self, body: Body) -> Body:
        """Create an object, and let the managers see it. Raises AssertionError when it is refused."""
        code, found = await self.post(body)
        assert code == 201, found.get("message")
        await self.sleep(1.0)
        return found

    async def post(self, body: Body) -> tuple[int, Body]:
        return await self.send("POST", path_of(body), body)

    async def change(self, body: Body, **spec: Any) -> Body:
        """Merge *spec* into the spec of an object. Raises AssertionError when it is refused."""
        code, found = await self.send("PATCH", f"{path_of(body)}/{body['metadata']['name']}", {"spec": spec})
        assert code == 200, found.get("message")
        await self.sleep(0.1)
        return found

    async def set_sidecar(self, body: Body, place: int = 0, **fields: Any) -> Body:
        """Change fields of a container of a set."""
        containers = [dict(one) for one in self.the_set(body["metadata"]["name"])["spec"]["containers"]]
        containers[place] |= fields
        return await self.change(body, containers=containers)

    async def post_pod(
        self, name: str, app: str, *, namespace: str = NAMESPACE, labels: Mapping[str, str] | None = None, **more: Any
    ) -> tuple[int, Body]:
        """Create a pod with the label ``app``; *more* are its annotations and fields of its spec."""
        metadata: Body = {"name": name, "namespace": namespace, "labels": {"app": app, **(labels or {})}}
        if "annotations" in more:
            metadata["annotations"] = more.pop("annotations")
        return await self.post({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(**more)})

    async def run_pod(self, name: str, app: str, **more: Any) -> Body:
        code, found = await self.post_pod(name, app, **more)
        assert code == 201, found.get("message")
        return found

    async def run_pods(self, app: str, count: int, **more: Any) -> list[Body]:
        """Create pods ``app-0``, ``app-1`` and so on."""
        return [await self.run_pod(f"{app}-{number}", app, **more) for number in range(count)]

    # What a user sees.

    def cluster(self) -> Cluster:
        """Return what the commands look at."""
        client = Client(self.rest_of("cli"), metrics=Metrics(process=False), clock=self.clock)
        return Cluster(client, self.clock, NAMESPACE)

    def faces(self, app: str) -> list[tuple[str, str, str]]:
        """By what the pods of an app are known: uid, node and IP."""
        found = self.server.list("pods", labels={"app": app})
        return [(p["metadata"]["uid"], p["spec"]["nodeName"], p["status"]["podIP"]) for p in found]

    def image(self, pod: str, container: str, namespace: str = NAMESPACE) -> str:
        return self.images(pod, namespace)[container].rpartition(":")[2]


def pod_spec(**more: Any) -> Body:
    spec: Body = {"containers": [{"name": "main", "image": APP}]}
    return spec | more


def path_of(body: Body) -> str:
    """Return where objects like *body* are created."""
    plural, namespaced = _PLURALS[body["kind"]]
    version = body["apiVersion"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    place = f"/namespaces/{body['metadata'].get('namespace') or NAMESPACE}" if namespaced else ""
    return f"{base}{place}/{plural}"


def simulate_admission(
    scenario: Callable[[AdmissionWorld], Awaitable[None]],
    *,
    nodes: int = 5,
    seed: int = 0,
    latency: float = 0.002,
    rest: float | None = 600.0,
    options: Options | None = None,
) -> None:
    """Run *scenario* on a cluster of *nodes*, and let it come to rest, unless *rest* is None."""
    make = partial(AdmissionWorld, seed=seed, latency=latency, options=options)
    play(make, scenario, nodes=nodes, seed=seed, rest=rest)
