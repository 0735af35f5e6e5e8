"""Sidecars join the pods of every kind of workload at creation, and stay away from whom they must."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing

import pytest

from hack.cluster.api import ApiCallError
from tests.e2e.conftest import Watched
from tests.e2e.harness.jobs import job
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.observer import Observer
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.sidecars import (
    DISABLED,
    advanced,
    batch,
    condition,
    containers,
    counts,
    daemons,
    deployment,
    pod,
    ready,
    sets_of,
    settled,
    sidecar,
    sidecarset,
    stateful,
    status,
)
from tests.e2e.harness.webhooks import Caller, at_once, review
from tests.e2e.harness.world import NAMESPACE, World

pytestmark = pytest.mark.real

ENFORCE = "pod-security.kubernetes.io/enforce"
SAFE = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.mark.timeout(300)
def test_the_pods_of_every_workload_get_their_sidecars(
    world: World, watched: Watched, hooked: Callable[..., ManagerProcess]
) -> None:
    names = world.nodes(4)
    observer, manager = watched.observer, hooked().wait_leading()
    mesh = sidecar("mesh", volumeMounts=[{"name": "config", "mountPath": "/etc/mesh"}])
    log = sidecar("log", podInjectPolicy="AfterAppContainer")
    prepare = {"name": "prepare", "image": "sim.kruise.io/run-0s-exit-0:v1"}
    native = {"name": "proxy", "image": "registry.example.com/proxy:v1", "restartPolicy": "Always"}
    volumes = [{"name": "config", "emptyDir": {}}, {"name": "unused", "emptyDir": {}}]
    world.create_sidecarset(sidecarset("mesh", mesh, log, initContainers=[prepare], volumes=volumes))
    # Workloads that end: a native sidecar keeps no pod from it, a plain one would.
    ending = sidecarset("ending", app="quick", initContainers=[native], strategy={"type": "NotUpdate"})
    ending["spec"]["containers"] = []
    world.create_sidecarset(ending)
    observer.until(lambda: seen(observer, "mesh", "ending"), 30.0, "both sets are known")
    world.start_workload(deployment("deploy", 3))
    world.start_workload(stateful("plain", 2))
    world.start_workload(daemons("daemon"))
    world.start_workload(advanced("advanced", 3))
    world.start_workload(batch("batch", 2, app="quick"))
    sweep = job("sweep")
    sweep["spec"]["template"]["metadata"] = {
        "labels": {"app": "quick"},
        "annotations": {"main.sim.kruise.io/run-seconds": "1"},
    }
    world.start_workload(sweep)

    total = 3 + 2 + len(names) + 3
    observer.until(lambda: settled(observer.sidecarset("mesh"), total), 120.0, "every pod is injected and ready")
    for one in observer.pods_of("web"):
        assert containers(one) == ["mesh", "main", "log"], one["metadata"]["name"]
        assert containers(one, "initContainers") == ["prepare"]
        assert [v["name"] for v in one["spec"]["volumes"] if not v["name"].startswith("kube-api")] == ["config"]
        assert sets_of(one) == ["mesh"]
        assert ready(one)
    told = condition(observer.sidecarset("mesh"), "Injected")
    assert (told["status"], told["reason"]) == ("True", "Injected")

    def ended() -> bool:
        found = [one for one in observer.pods_of("quick") if one["status"].get("phase") == "Succeeded"]
        return len(found) == 2 + len(names)

    observer.until(ended, 60.0, "the jobs complete although their sidecars run for ever")
    assert all(containers(one, "initContainers") == ["proxy"] for one in observer.pods_of("quick"))
    observer.until(lambda: settled(observer.sidecarset("ending"), 0), 30.0, "pods that ended count no more")
    assert not manager.said("failed", level="error")


@pytest.mark.timeout(240)
def test_whom_no_sidecar_may_join(world: World, watched: Watched, hooked: Callable[..., ManagerProcess]) -> None:
    """C3: our own namespace, those of the cluster, a pod that says no; asked by a real API server and directly."""
    world.nodes(4)
    observer, manager = watched.observer, hooked()
    world.create_sidecarset(sidecarset("mesh"))
    world.start_workload(pod("wanted"))
    observer.until(lambda: counts(observer.sidecarset("mesh"))[0] == 1, 30.0, "the webhook works")
    asked = manager.metrics()
    for namespace in (NAMESPACE, "kube-system", "kube-public"):
        world.start_workload(pod("left-alone", namespace=namespace))
    world.start_workload(pod("unwilling", labels=DISABLED))
    calls = manager.metrics()
    path = 'controller_runtime_webhook_requests_total{code="200",webhook="/mutate-pod"}'
    assert calls[path] == asked[path], "the configuration does not even ask"
    with closing(Caller(world, manager.webhook_port)) as caller:
        for body in (
            *(pod("direct", namespace=namespace) for namespace in (NAMESPACE, "kube-system", "kube-node-lease")),
            pod("direct", labels=DISABLED),
        ):
            answer = caller.inject(body)
            assert answer["allowed"] and "patch" not in answer, body["metadata"]
    for namespace, name in ((NAMESPACE, "left-alone"), ("kube-system", "left-alone"), ("default", "unwilling")):
        found = observer.until(lambda n=namespace, m=name: observer.get("pods", n, m), 10.0, "the pod is seen")
        assert containers(found) == ["main"]
    told = condition(observer.sidecarset("mesh"), "Injected")
    assert told["status"] == "True", f"whom nobody may join is not missed: {told}"


@pytest.mark.timeout(240)
def test_a_restricted_namespace_a_conflict_and_a_bad_expression(
    world: World, watched: Watched, hooked: Callable[..., ManagerProcess]
) -> None:
    """Each gets a clear answer, and none of them costs anybody else a pod."""
    world.nodes(4)
    observer, manager = watched.observer, hooked().wait_leading()
    # C9: a set whose sidecar the namespace would refuse is left out there; one that behaves is not.
    world.namespace("restricted", {ENFORCE: "restricted"})
    rude = sidecar("rude", securityContext={"privileged": True})
    polite = sidecar("polite", securityContext=SAFE)
    world.create_sidecarset(sidecarset("rude", rude))
    world.create_sidecarset(sidecarset("polite", polite))
    careful = pod("careful", namespace="restricted")
    careful["spec"]["containers"][0]["securityContext"] = SAFE
    careful["spec"]["automountServiceAccountToken"] = False
    observer.until(lambda: seen(observer, "rude", "polite"), 30.0, "both sets are known")
    made = world.start_workload(careful)
    assert containers(made) == ["polite", "main"]
    made = world.start_workload(pod("free"))
    assert sorted(containers(made)) == ["main", "polite", "rude"]
    told = observer.until(
        lambda: (
            found if (found := condition(observer.sidecarset("rude"), "Injected")).get("status") == "False" else None
        ),
        30.0,
        "the status names the pod without the rude sidecar",
    )
    assert told["reason"] == "NotInjected" and "restricted/careful" in told["message"]

    # Two sets with one container: the second is refused with the first one's name and the field.
    with pytest.raises(ApiCallError) as refused:
        world.create_sidecarset(sidecarset("again", sidecar("polite")))
    assert refused.value.code in (400, 422)
    assert "polite" in str(refused.value) and "containers" in str(refused.value)

    # An expression that cannot be read is refused at its field. This one is tried with a number and fails with what a
    # pod asks for: that refuses the pods of that set alone.
    broken = sidecar("counted", resourcesPolicy=policy("cpu *"))
    with pytest.raises(ApiCallError) as refused:
        world.create_sidecarset(sidecarset("counted", broken, app="counted"))
    assert refused.value.code in (400, 422)
    assert "resourcesExpr" in str(refused.value)
    odd = sidecar("counted", resourcesPolicy=policy("100m / cpu"))
    world.create_sidecarset(sidecarset("counted", odd, app="counted"))
    observer.until(lambda: seen(observer, "counted"), 30.0, "the set is known")
    with pytest.raises(ApiCallError) as refused:
        world.start_workload(pod("uncounted", "counted"))
    assert refused.value.code == 400 and "counted" in str(refused.value)
    assert containers(world.start_workload(pod("other", "other"))) == ["main"]
    observer.until(lambda: settled(observer.sidecarset("polite"), 2), 30.0, "both pods are counted")
    observer.until(lambda: settled(observer.sidecarset("rude"), 1), 30.0, "the one is counted")
    assert not manager.said("Traceback")


def seen(observer: Observer, *names: str) -> bool:
    """Tell whether the controller has seen each of the sets: then the caches of admission have them as well."""
    return all("observedGeneration" in status(observer.sidecarset(name)) for name in names)


def policy(expression: str) -> dict[str, object]:
    """Return a resourcesPolicy for the CPU limit."""
    return {
        "targetContainersMode": "sum",
        "targetContainersNameRegex": ".*",
        "resourcesExpr": {"requests": {"cpu": expression}},
    }


@pytest.mark.timeout(240)
def test_thousands_of_reviews_that_are_none(
    world: World, watched: Watched, hooked: Callable[..., ManagerProcess]
) -> None:
    """C8 at the real port: a clear answer to each, no exception, nothing that stays behind."""
    world.nodes(4)
    observer, manager = watched.observer, hooked()
    world.create_sidecarset(sidecarset("mesh"))
    world.start_workload(pod("before"))
    observer.until(lambda: counts(observer.sidecarset("mesh"))[0] == 1, 30.0, "the webhook works")
    bodies = malformed()
    paths = [path for path in manager_paths(manager) if path != "/convert"] + ["/convert"]
    codes: dict[int, int] = {}

    def ask(number: int) -> None:
        body, path = bodies[number % len(bodies)], paths[number % len(paths)]
        code, raw = caller.ask(path, body)
        codes[code] = codes.get(code, 0) + 1
        assert code in (200, 400, 413), (path, code, raw[:200], body[:200])
        if code == 200:
            json.loads(raw)

    with closing(Caller(world, manager.webhook_port)) as caller:
        at_once(2000, 8, ask)  # warm: what the first ones leave is no leak
        memory = manager.metrics()["process_resident_memory_bytes"]
        at_once(8000, 8, ask)
    after = manager.metrics()
    grown = after["process_resident_memory_bytes"] - memory
    panics = sum(value for name, value in after.items() if "panics_total" in name)
    assert panics == 0, "an exception of ours"
    assert grown < 24e6, f"{grown / 1e6:.1f} MB after eight thousand reviews"
    assert not manager.said("Traceback")
    assert containers(world.start_workload(pod("after")))[0] == "mesh"
    observer.until(lambda: settled(observer.sidecarset("mesh"), 2), 30.0, "both pods are counted")
    in_flight = sum(value for name, value in after.items() if "webhook_requests_in_flight" in name)
    assert in_flight == 0
    REPORT.add(
        "SidecarSet, reviews that are none", reviews=10_000, answers=str(sorted(codes.items())), grown_mb=grown / 1e6
    )


def manager_paths(manager: ManagerProcess) -> list[str]:
    """Return the paths that are served, as the metrics name them."""
    found = {
        name.split('webhook="')[1].split('"')[0]
        for name in manager.metrics()
        if 'requests_total{code="200",webhook="' in name
    }
    assert "/mutate-pod" in found
    return sorted(found)


def malformed() -> list[bytes]:
    """Return bodies that are no reviews, or reviews of things that are not what they seem."""
    good = pod("good")
    texts = [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b"{" * 300, b"[" * 100_000, b"1e999", b'{"kind":1}']
    texts += [
        json.dumps(review(one)).encode() for one in (None, 1, "x", [], {}, {"spec": None}, {"spec": {"containers": 3}})
    ]
    for field, value in (
        ("metadata", None),
        ("metadata", []),
        ("metadata", {"labels": {"app": 1}}),
        ("metadata", {"labels": {"app": "web"}, "annotations": {"kruise.io/sidecarset-hash": "{"}}),
        ("metadata", {"labels": {"app": "web"}, "annotations": {"kruise.io/sidecarset-hash": '{"mesh":{"mesh":1}}'}}),
        ("spec", {"containers": [None]}),
        ("spec", {"containers": [{"name": 7}]}),
        ("spec", {"containers": [{"name": "mesh"}, {"name": "mesh"}]}),
        ("spec", {"containers": [], "volumes": {}}),
        ("status", 5),
    ):
        texts.append(json.dumps(review({**good, field: value})).encode())
    whole = json.dumps(review(good)).encode()
    texts += [whole[:at] for at in range(1, len(whole), 17)]
    texts += [
        whole.replace(b'"uid"', b'"uid":{},"u"'),
        whole.replace(b"v1", b"v9"),
        whole.replace(b"CREATE", b"CONNECT"),
    ]
    deep = {"a": 1}
    for _ in range(300):
        deep = {"a": deep}  # type: ignore[dict-item]
    texts.append(json.dumps(review({**good, "spec": {"containers": [], "x": deep}})).encode())
    texts.append(json.dumps(review({**good, "x": "y" * (1 << 20)})).encode())
    return texts
