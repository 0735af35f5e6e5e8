"""Webhooks without an answer, and webhooks whose certificate changes: who starts, who waits, and who is told.

C11: with failurePolicy Ignore every pod starts, and the status of the set names those that lack their sidecar; with
Fail a pod that a set selects waits, and nothing else does. A rotation of the certificate fails no admission.
"""

from __future__ import annotations

import base64
import os
import signal
import ssl
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from kruise.runtime.webhook.certs import DAY, CertificateRules, Keyring, successor
from tests.e2e.conftest import Watched
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.sidecars import (
    DISABLED,
    condition,
    containers,
    deployment,
    pod,
    ready,
    settled,
    sidecarset,
)
from tests.e2e.harness.webhooks import HOST, SECRET, Caller, Load, entries, installed, url
from tests.e2e.harness.world import MERGE, NAMESPACE, World, until

pytestmark = pytest.mark.real

LARGE = os.environ.get("KRUISE_E2E_LARGE") == "1"
PODS = 200 if LARGE else 40
SHORT_LEASE = (
    "--leader-election-lease-duration=4s",
    "--leader-election-renew-deadline=3s",
    "--leader-election-retry-period=500ms",
)
"""So that a manager that starts again need not wait for the lease of the one that was killed."""


def half_injected(world: World, watched: Watched, manager: ManagerProcess, *, fail: bool = False) -> None:
    """Begin to create pods; return when the manager has been killed in the middle of it."""
    observer = watched.observer
    world.create_sidecarset(sidecarset("mesh", budget="10%"))
    observer.until(lambda: settled(observer.sidecarset("mesh"), 0), 30.0, "the set is known")
    if fail:
        until(lambda: list(entries(world)) == ["mesh.mpod.kb.io"], 10.0, "the pods of the set are to wait")
    world.start_workload(deployment("web", PODS))
    observer.until(lambda: len(observer.pods_of("web")) >= PODS // 8, 30.0, "pods are being created")
    manager.signal(signal.SIGKILL)
    manager.wait()


@pytest.mark.timeout(300)
def test_with_ignore_pods_start_and_the_status_names_those_without_a_sidecar(
    world: World, watched: Watched, hooked: Callable[..., ManagerProcess]
) -> None:
    world.nodes(max(5, PODS // 10))
    observer, manager = watched.observer, hooked(*SHORT_LEASE).wait_leading()
    began = time.monotonic()
    half_injected(world, watched, manager)
    observer.until(lambda: sum(map(ready, observer.pods_of("web"))) == PODS, 60.0, "every pod starts, injected or not")
    seconds = time.monotonic() - began
    without = sorted(
        f"default/{one['metadata']['name']}" for one in observer.pods_of("web") if containers(one) == ["main"]
    )
    assert 0 < len(without) < PODS, "the manager was killed in the middle"

    manager.start().wait_leading()
    told = observer.until(
        lambda: found if (found := condition(observer.sidecarset("mesh"), "Injected"))["status"] == "False" else None,
        30.0,
        "the status says that pods lack their sidecar",
    )
    assert told["reason"] == "NotInjected"
    assert str(len(without)) in told["message"], told
    named = [name for name in without if name in told["message"]]
    assert len(named) == min(10, len(without)), f"the first ten are named: {told['message']}"
    injected = PODS - len(without)
    observer.until(lambda: settled(observer.sidecarset("mesh"), injected), 30.0, "the others are counted")
    REPORT.add(
        "SidecarSet, the manager killed while pods are created",
        policy="Ignore",
        pods=PODS,
        injected=injected,
        without=len(without),
        all_ready_after_seconds=seconds,
    )
    # Whoever wants them injected deletes them: their owner makes others, and the condition follows.
    for name in without:
        world.call("DELETE", f"/api/v1/namespaces/default/pods/{name.partition('/')[2]}")
    observer.until(lambda: settled(observer.sidecarset("mesh"), PODS), 60.0, "all pods are injected")
    assert condition(observer.sidecarset("mesh"), "Injected")["status"] == "True"


@pytest.mark.timeout(300)
def test_with_fail_creation_waits_and_nothing_else_does(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess]
) -> None:
    world.nodes(max(5, PODS // 10))
    observer = watched.observer
    with installed(world, fail=True):
        manager = launch(*SHORT_LEASE, webhooks=True).wait_ready().wait_leading()
        half_injected(world, watched, manager, fail=True)
        assert entries(world)["mesh.mpod.kb.io"]["clientConfig"]["caBundle"], "it trusts us"
        time.sleep(2.0)
        held = observer.pods_of("web")
        assert 0 < len(held) < PODS, "creation waits"
        assert all(containers(one) == ["mesh", "main"] for one in held), "no pod starts without its sidecar"
        # What needs no injection is not held up.
        for body in (
            pod("free", namespace="kube-system"),
            pod("of-the-manager", namespace=NAMESPACE),
            pod("unwilling", labels=DISABLED),
            pod("unselected", app="another"),
        ):
            began = time.monotonic()
            assert containers(world.start_workload(body)) == ["main"]
            assert time.monotonic() - began < 5.0, "nobody waits for a deadline either"
        name = held[0]["metadata"]["name"]
        path = f"/api/v1/namespaces/default/pods/{name}"
        world.call("PATCH", path, {"metadata": {"labels": {"seen": "yes"}}}, content_type=MERGE)
        world.call("DELETE", path)
        world.start_workload(deployment("later", 1, app="later"))
        observer.until(lambda: len(observer.pods_of("later")) == 1, 30.0, "a pod that no set wants does not wait")
        world.call("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"generateName": "free-"}})
        observer.until(
            lambda: ready(observer.get("pods", "kube-system", "free") or pod("x")), 30.0, "the cluster's own pod starts"
        )
        waited = time.monotonic()
        manager.start().wait_ready().wait_leading()
        for one in world.call("GET", "/apis/apps/v1/namespaces/default/replicasets")["items"]:
            # Its controller waits a minute and more after so many failures; news of it end the wait.
            path = f"/apis/apps/v1/namespaces/default/replicasets/{one['metadata']['name']}"
            world.call("PATCH", path, {"metadata": {"annotations": {"look": "again"}}}, content_type=MERGE)
        observer.until(lambda: settled(observer.sidecarset("mesh"), PODS), 120.0, "the others were created")
        mine = [one for one in observer.pods_of("web") if one["metadata"]["name"] != "unwilling"]
        assert all(containers(one) == ["mesh", "main"] for one in mine)
        # Who has been answered by the general webhook is not asked about again: the API server counts its calls.
        assert calls(world, "mpod.kb.io") > 0
        before = calls(world, "mesh.mpod.kb.io")
        for number in range(5):
            assert containers(world.start_workload(pod(f"answered-{number}"))) == ["mesh", "main"]
        assert calls(world, "mesh.mpod.kb.io") == before, "match conditions see the pod as it was patched"
        observer.until(lambda: settled(observer.sidecarset("mesh"), PODS + 5), 30.0, "these are counted as well")
        REPORT.add(
            "SidecarSet, the manager killed while pods are created",
            policy="Fail",
            pods=PODS,
            injected=PODS,
            without=0,
            all_ready_after_seconds=time.monotonic() - waited,
        )


def calls(world: World, webhook: str) -> int:
    """Return how often the API server has called *webhook* in its life."""
    code, raw = world.cluster.api.ask("GET", "/metrics")
    assert code == 200
    family = "apiserver_admission_webhook_admission_duration_seconds_count"
    lines = [one for one in raw.decode().splitlines() if one.startswith(family) and f'name="{webhook}"' in one]
    return sum(int(float(one.rpartition(" ")[2])) for one in lines)


def served(port: int) -> str:
    """Return the certificate that a manager serves."""
    return ssl.get_server_certificate((HOST, port), timeout=10.0)


def age(world: World) -> None:
    """Replace the stored certificate with one of the same authority that must be renewed now."""
    data = world.call("GET", SECRET)["data"]
    ring = Keyring.read({name: base64.b64decode(value) for name, value in data.items()})
    rules = CertificateRules((HOST, "made-old.example.com"), lifetime=20 * DAY)
    aged, news = successor(ring, rules, now=time.time(), published=False)
    assert news, "it differs by its host"
    fields = {name: base64.b64encode(value).decode() for name, value in aged.data().items()}
    world.call("PATCH", SECRET, {"data": fields}, content_type=MERGE)


@pytest.mark.timeout(400)
def test_two_replicas_and_a_rotation_under_load(
    world: World, watched: Watched, hooked: Callable[..., ManagerProcess]
) -> None:
    """The one that does not lead serves as well; a certificate is renewed under load, and no admission fails."""
    world.nodes(4)
    observer, first = watched.observer, hooked().wait_leading()
    world.create_sidecarset(sidecarset("mesh"))
    observer.until(lambda: settled(observer.sidecarset("mesh"), 0), 30.0, "the set is known")
    second = hooked()
    assert not second.said("workers started"), "it does not lead"
    # Whoever started last is the one that the API server calls, until the leader looks again.
    assert f":{second.webhook_port}/" in url(world)
    assert containers(world.start_workload(pod("through-the-second")))[0] == "mesh"
    replicas = [first, second]
    before = served(first.webhook_port)
    assert served(second.webhook_port) == before
    load = Load(world, pod("load"), "mesh", threads=4).start()
    try:
        age(world)
        began = time.monotonic()
        followed = []
        for one in replicas if LARGE else replicas[:1]:  # each looks once a minute
            one.until(lambda one=one: served(one.webhook_port) != before, 90.0, "the new certificate is served")
            followed.append(time.monotonic() - began)
            with closing(Caller(world, one.webhook_port)) as caller:
                assert "patch" in caller.inject(pod("direct")), "without a restart"
        time.sleep(1.0)
    finally:
        load.stop()
    took = sorted(load.took)
    assert not load.failures, f"{len(load.failures)} of {len(took)} failed: {load.failures[:3]}"
    assert all(one.running for one in replicas)
    REPORT.add(
        "SidecarSet, a certificate renewed under load",
        admissions=len(took),
        failures=0,
        renewed_after_seconds=followed[0],
        others_follow_after_seconds=followed[-1] if LARGE else "",
        p50_ms=took[len(took) // 2] * 1e3,
        p99_ms=took[int(len(took) * 0.99)] * 1e3,
    )
    observer.until(lambda: settled(observer.sidecarset("mesh"), 1), 30.0, "a dry run leaves no pod")
