"""The webhooks as the program wires them, over an API server in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from kruise import app
from kruise.apis.sidecarset import SIDECARSETS
from kruise.options import Options
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.metrics import Metrics
from tests.unit.webhooks.webhooks_world import JSON, WebhookWorld, options, webhooks

PATHS = (
    "/convert",
    "/mutate-apps-kruise-io-broadcastjob",
    "/mutate-apps-kruise-io-sidecarset",
    "/mutate-apps-kruise-io-statefulset",
    "/mutate-pod",
    "/validate-apps-kruise-io-broadcastjob",
    "/validate-apps-kruise-io-sidecarset",
    "/validate-apps-kruise-io-statefulset",
)


class Nowhere:
    async def request(self, request: Any) -> Any:
        raise AssertionError(request.path)

    stream = request

    async def close(self) -> None: ...


def built(**settings: Any) -> Any:
    return app.build(Nowhere(), Options(**settings), clock=SystemClock(), rng=Random(1), metrics=Metrics(process=False))


def mesh(name: str = "mesh", **spec: Any) -> JSON:
    return {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "SidecarSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "NotUpdate"},
            "containers": [{"name": "envoy", "image": "envoy:1"}],
            **spec,
        },
    }


def pod(namespace: str = "shop", **labels: str) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-", "namespace": namespace, "labels": {"app": "web", **labels}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }


def names(obj: JSON) -> list[str]:
    return [one["name"] for one in obj["spec"]["containers"]]


async def install(world: WebhookWorld, obj: JSON) -> None:
    """Create *obj* as the API server would, defaulted by us."""
    done = await world.ask("/mutate-apps-kruise-io-sidecarset", obj)
    world.server.create(str(SIDECARSETS), done.obj)
    await world.clock.sleep(0.5)


def test_the_paths_are_those_of_openkruise() -> None:
    manager = built()
    assert manager.webhooks is not None
    assert tuple(sorted(manager.webhooks.paths())) == PATHS


def test_without_webhooks_there_are_none() -> None:
    assert built(disable_webhooks=True).webhooks is None


def test_kinds_that_are_not_enabled_are_not_admitted_and_still_converted() -> None:
    manager = built(custom_resource_enable=("StatefulSet",))
    assert tuple(sorted(manager.webhooks.paths())) == (
        "/convert",
        "/mutate-apps-kruise-io-statefulset",
        "/mutate-pod",
        "/validate-apps-kruise-io-statefulset",
    )


def test_a_pod_gets_its_sidecar_and_nobody_is_asked() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh())
        before = len(world.server.log)
        for _ in range(20):
            done = await world.ask("/mutate-pod", pod())
            assert done.allowed
            assert names(done.obj) == ["envoy", "app"]
        await world.clock.sleep(5)
        asked = [call for call in list(world.server.log)[before:] if "leases" not in str(call)]
        assert not [call for call in asked if "watch" not in str(call)], asked
        assert world.metric("kruise_sidecarset_injections_total", result="injected", reason="Injected") == 20

    webhooks(scenario)


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "kube-node-lease", "kruise-system"])
def test_c3_pods_that_no_set_may_touch_stay_as_they_are(namespace: str) -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh())
        done = await world.ask("/mutate-pod", pod(namespace))
        assert done.allowed
        assert not done.patch
        done = await world.ask("/mutate-pod", pod(**{"apps.kruise.io/sidecarset-injection": "disabled"}))
        assert done.allowed
        assert not done.patch

    webhooks(scenario)


def test_c11_until_the_caches_are_complete_nothing_is_decided() -> None:
    async def scenario(world: WebhookWorld) -> None:
        done = await world.ask("/mutate-pod", pod())
        assert (done.status, done.text) == (503, "the cache of sidecarsets.apps.kruise.io is not complete yet\n")
        done = await world.ask("/validate-apps-kruise-io-sidecarset", mesh())
        assert done.status == 503
        done = await world.ask("/mutate-apps-kruise-io-sidecarset", mesh())
        assert done.allowed  # asks nothing of the cluster

    webhooks(scenario, running=False)


def test_web9_a_replica_that_does_not_lead_answers_as_the_leader_does() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh())
        standby = WebhookWorld(world.clock, options(), server=world.server)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(standby.manager.run())
            await standby.ready()
            assert (world.manager.leading, standby.manager.leading) == (True, False)
            for replica in (world, standby):
                assert names((await replica.ask("/mutate-pod", pod())).obj) == ["envoy", "app"]
                made = (await replica.ask("/mutate-apps-kruise-io-sidecarset", mesh("other"))).obj
                done = await replica.ask("/validate-apps-kruise-io-sidecarset", made)
                assert (done.allowed, done.fields) == (False, ["spec.containers"])
            standby.manager.stop()
            await task

    webhooks(scenario)


def test_who_serves_no_webhooks_loads_none() -> None:
    code = (
        "import sys, kruise.app, kruise.options as o, kruise.runtime.clock as c\n"
        "class T: request = stream = close = None\n"
        "kruise.app.build(T(), o.Options(disable_webhooks=True), clock=c.SystemClock(), rng=c.system_random())\n"
        "print([name for name in sys.modules if name.startswith(('kruise.webhooks', 'cryptography'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
