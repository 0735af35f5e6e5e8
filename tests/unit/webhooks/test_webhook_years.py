"""Three years of the whole way: API server, certificate, the webhooks of the manager as they are shipped, the answer.

What ``tests/unit/webhook/test_webhook_keeper.py`` shows of the keeper alone is shown here of everything joined: each
admission is decided by a replica whose certificate the calling configuration trusts.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import yaml

from kruise import app
from kruise.runtime.clock import Random
from kruise.runtime.errors import Refused
from kruise.runtime.manager.http import Call
from kruise.runtime.manager.manager import Manager
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from kruise.runtime.webhook.certs import DAY
from kruise.runtime.webhook.keeper import CertificateKeeper
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.webhooks import Answer, Target
from kruise.simulator.scenario_tls import why_untrusted
from kruise.webhooks.certificates import FAIL, source
from kruise.webhooks.fail_keeper import LABEL
from tests.unit.webhooks.test_webhook_certificates import CONFIG, MUTATINGS, cluster
from tests.unit.webhooks.test_webhook_setup import mesh
from tests.unit.webhooks.webhooks_world import HEADERS, options

STEP = 10 * DAY
LIVE = 130.0
"""Seconds of each step that are lived through: two looks of each keeper. The rest of it goes by at once."""
YEARS = 3


@dataclass
class Replica:
    """One process."""

    manager: Manager
    keeper: CertificateKeeper
    running: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    def of(cls, server: ApiServer, clock: VirtualClock, rng: Random) -> Replica:
        chosen, metrics = options(), Metrics(process=False)
        manager = app.build(
            server.transport("kruise-manager"), chosen, clock=clock, rng=rng, metrics=metrics, certificates=False
        )
        keeper = source(manager, chosen, clock=clock, rng=rng, kinds=app.KINDS).keeper
        assert keeper is not None
        return cls(manager, keeper)

    async def start(self, tasks: asyncio.TaskGroup, clock: VirtualClock) -> None:
        self.manager.options = replace(self.manager.options, freeze_heap=False)
        self.running = [tasks.create_task(self.manager.run()), tasks.create_task(self.keeper.run())]
        await self.keeper.ready()
        await eventually(lambda: self.manager.cache.has_synced, clock)
        await clock.sleep(0.1)

    async def stop(self) -> None:
        self.running[1].cancel()
        self.manager.stop()
        await asyncio.wait(self.running)


@dataclass
class Service:
    """What a Service and TLS are between the API server and the replicas."""

    clock: VirtualClock
    replicas: list[Replica] = field(default_factory=list)
    calls: int = 0
    leaves: set[bytes] = field(default_factory=set)
    bundles: set[bytes] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    entries: int = 0
    """How often an entry of the configuration that makes pods wait was looked at."""

    def look(self, server: ApiServer) -> None:
        """See that whoever made pods wait would trust each replica: the general webhook answers before it is asked."""
        held = server.get(MUTATINGS, FAIL)
        for hook in (held or {}).get("webhooks") or ():
            self.entries += 1
            bundle = base64.b64decode(hook["clientConfig"]["caBundle"])
            for one in self.replicas:
                assert one.keeper.pair is not None
                if problem := why_untrusted(one.keeper.pair.certificate, bundle, self.clock.now()):
                    self.failures.append(f"{hook['name']}: {problem}")

    async def __call__(self, target: Target, body: bytes, seconds: float) -> Answer:
        self.calls += 1
        one = self.replicas[self.calls % len(self.replicas)]
        assert one.keeper.pair is not None and one.manager.webhooks is not None
        leaf = one.keeper.pair.certificate
        self.leaves.add(leaf)
        self.bundles.add(target.bundle)
        if problem := why_untrusted(leaf, target.bundle, self.clock.now()):
            self.failures.append(problem)
            raise Refused(f"tls: failed to verify certificate: {problem}")
        path = target.path or urlsplit(target.url).path
        reply = await one.manager.webhooks.answer(Call("POST", path, headers=HEADERS, body=body))
        if reply.status != 200:
            self.failures.append(f"{path}: {reply.status} {reply.body!r}")
        return Answer(reply.status, reply.body, reply.content_type)


async def admissions(server: ApiServer, number: int) -> None:
    """Let users create and change what is admitted. With Fail, a failed call is a refusal."""
    pod = {
        "metadata": {"name": f"web-{number}", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "app:1"}]},
    }
    made_pod = await server.ask("POST", "/api/v1/namespaces/default/pods", pod)
    assert [one["name"] for one in made_pod["spec"]["containers"]] != ["main"]
    await server.ask("DELETE", f"/api/v1/namespaces/default/pods/web-{number}", {"gracePeriodSeconds": 0})
    path = "/apis/apps.kruise.io/v1beta1/sidecarsets/mesh"
    patch = {"metadata": {"labels": {"seen": str(number)}}}
    await server.ask("PATCH", path, patch, content_type="application/merge-patch+json")
    older = await server.ask("GET", "/apis/apps.kruise.io/v1alpha1/sidecarsets/mesh")
    assert older["metadata"]["labels"]["seen"] == str(number)


def test_f11_x34_three_years_of_admissions_through_the_wired_webhooks_and_none_fails() -> None:
    async def main(clock: VirtualClock) -> None:
        server = cluster(clock)
        for one in server.list(MUTATINGS):
            hooks = [{**hook, "failurePolicy": "Fail"} for hook in one["webhooks"]]
            server.patch(MUTATINGS, one["metadata"]["name"], {"webhooks": hooks}, actor="user")
        fail = yaml.safe_load((CONFIG / "webhook" / "mutating_fail.yaml").read_text())
        fail["metadata"]["labels"][LABEL] = "Fail"
        server.create(MUTATINGS, fail)
        service, rng, number = Service(clock), Random(7), 0
        async with asyncio.TaskGroup() as tasks:
            for number in range(2):
                replica = Replica.of(server, clock, Random(number))
                await replica.start(tasks, clock)
                service.replicas.append(replica)
            server.caller = service
            body = mesh()
            await server.ask("POST", "/apis/apps.kruise.io/v1beta1/sidecarsets", body)
            await clock.sleep(1.0)
            end = clock.now() + YEARS * 365 * DAY
            while clock.now() < end:
                await admissions(server, number := number + 1)
                await clock.sleep(LIVE)
                await admissions(server, number := number + 1)
                if rng.random() < 0.05:  # a rollout of the manager: the next one is there before this one goes
                    successor = Replica.of(server, clock, Random(number))
                    await successor.start(tasks, clock)
                    service.replicas.append(successor)
                    await admissions(server, number := number + 1)
                    await service.replicas.pop(0).stop()
                service.look(server)
                clock.jump(STEP - LIVE)
                service.look(server)
                await admissions(server, number := number + 1)
            for replica in service.replicas:
                await replica.stop()
        assert not service.failures, service.failures[:5]
        assert service.calls > 1000
        assert service.entries >= 2 * YEARS * 365 // 10 - 2
        assert len(service.leaves) >= YEARS * 5
        assert len(service.bundles) >= 5

    run_virtual(main, timeout=10 * 365 * DAY)
