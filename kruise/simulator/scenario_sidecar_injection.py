"""Workloads of SidecarSets: pods are created, and get their sidecars, or must not.

Purpose: every way of a pod through admission, with replicas that lag, that are away, and with certificates that end.

Guarantees: a script waits for what it needs, and goes on when faults keep that from coming in time.

What this does not do: pods that went without are made anew by their users once nothing goes wrong any more; that the
status names them until then is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kruise.runtime.objects import Key
from kruise.simulator.invariants import sidecarset_reading as reading
from kruise.simulator.invariants.sidecarset_reading import PODS
from kruise.simulator.scenario_sidecars import (
    LONG,
    PATH,
    Deployment,
    UserSidecars,
    container,
    insist,
    make_anew,
    mended,
    pods_of,
    send,
    sidecar,
)
from kruise.simulator.scenario_world import NAMESPACE, Body, Cluster

DAY: Final = 86_400.0
OTHER: Final = "other"
CONFIGURATION: Final = (
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kruise-mutating-webhook-configuration"
)
FAIL_CONFIGURATION: Final = f"{CONFIGURATION}-fail"


# Injection.


async def everything(c: Cluster) -> None:
    """A set with all that can be injected: a volume, a native sidecar, a secret, variables of the application."""
    mesh = UserSidecars(c)
    volumes = [{"name": "scratch", "emptyDir": {}}, {"name": "unused", "emptyDir": {}}]
    mounts = [{"name": "scratch", "mountPath": "/scratch"}]
    transfer = [{"sourceContainerName": "main", "envName": "MODE"}]
    policies: Body = {"shareVolumePolicy": {"type": "enabled"}, "transferEnv": transfer}
    await mesh.create(
        containers=[sidecar("side:v1", volumeMounts=mounts, **policies)],
        native=True,
        strategy={"type": "NotUpdate"},
        volumes=volumes,
        imagePullSecrets=[{"name": "registry"}],
    )
    await c.clock.sleep(1)
    own = container("main", "app:v1", env=[{"name": "MODE", "value": "fast"}])
    own["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    pod = {"containers": [own], "volumes": [{"name": "data", "emptyDir": {}}], "tolerations": [{"operator": "Exists"}]}
    Deployment(c, 4, pod=pod)


def all_of_it(c: Cluster) -> bool:
    """Tell whether every pod has everything."""
    mesh = UserSidecars(c)
    return mended(c) and mesh.said(4, 4) and all(map(_has_all, mesh.pods()))


def _has_all(pod: Body) -> bool:
    side = reading.containers(pod).get("side", {})
    variables = {one["name"]: one.get("value") for one in side.get("env") or ()}
    mounts = [one["mountPath"] for one in side.get("volumeMounts") or ()]
    early = [one["name"] for one in pod["spec"].get("initContainers") or ()]
    volumes = [one["name"] for one in pod["spec"].get("volumes") or ()]
    wanted = {"MODE": "fast", "IS_INJECTED": "true"}.items()
    return (
        wanted <= variables.items()
        and mounts == ["/scratch", "/data"]
        and early == ["early"]
        and (volumes == ["data", "scratch"])
    )


async def under_lag(c: Cluster) -> None:
    """Pods are created before the event of the set has reached the replicas, and a new version as well."""
    mesh = UserSidecars(c)
    await mesh.create()
    Deployment(c, 4)
    await c.clock.sleep(0.05)
    await mesh.image("side:v2")
    await c.clock.sleep(0.05)


async def older_pods(c: Cluster) -> None:
    """Pods that are older than the set stay as they are; those that come later get the sidecars."""
    web = Deployment(c, 2)
    await c.patient(lambda: len(_ready(c)) >= 2, LONG)
    await c.clock.sleep(2)
    await UserSidecars(c).create()
    await c.clock.sleep(1)
    web.scale(5)


def newer_only(c: Cluster) -> bool:
    """Tell whether the three newer pods have the sidecars, and the older two have not."""
    mesh = UserSidecars(c)
    with_it = [pod["metadata"]["name"] for pod in mesh.pods()]
    born = {str(pod["metadata"]["name"]): pod["metadata"]["creationTimestamp"] for pod in pods_of(c)}
    since = (mesh.body.get("metadata") or {}).get("creationTimestamp", "")
    newer = [name for name, at in born.items() if at > since]
    if len(born) == 5 and c.injector.healed and mesh.body:
        for pod in pods_of(c):
            # Where faults made an older pod anew it counts as a newer one.
            if pod["metadata"]["name"] in newer and pod["metadata"]["name"] not in with_it:
                mended(c)
    return len(born) == 5 and set(newer) <= set(with_it) and mended(c) and mesh.said(len(with_it), len(with_it))


def ready_pods(c: Cluster) -> dict[str, Any]:
    """Return how many pods are ready."""
    return {"ready": len(_ready(c))}


def _ready(c: Cluster) -> list[Body]:
    return [pod for pod in pods_of(c) if reading.ready(pod)]


async def namespaces(c: Cluster) -> None:
    """A namespace is selected by its label, later another one too, then the first no more."""
    for name, labels in ((OTHER, {"mesh": "no"}), ("third", {"mesh": "yes"})):
        c.server.create("namespaces", {"metadata": {"name": name, "labels": labels}}, actor="user")
    mesh = UserSidecars(c)
    await mesh.create(namespaceSelector={"matchLabels": {"mesh": "yes"}})
    await c.clock.sleep(1)
    Deployment(c, 2, namespace=OTHER)
    Deployment(c, 2, namespace="third")
    await c.patient(lambda: mesh.runs("side:v1") >= 2, LONG)
    await c.clock.sleep(1)
    c.server.patch("namespaces", OTHER, {"metadata": {"labels": {"mesh": "yes"}}}, actor="user")
    await c.clock.sleep(2)
    await mesh.image("side:v2")
    for pod in pods_of(c, namespace=OTHER):
        c.delete_pod(pod)
    await c.patient(lambda: mesh.runs("side:v2") >= 3, LONG)


async def exempt(c: Cluster) -> None:
    """Namespaces of the system, our own one, and pods that decline, under a set that selects all of them (C3).

    Somebody has taken the selectors out of the configuration: the handler knows by itself.
    """
    for key in ("namespaceSelector", "objectSelector", "matchConditions"):
        await _configure(c, lambda hook, key=key: {name: value for name, value in hook.items() if name != key})  # type: ignore[misc]
    mesh = UserSidecars(c)
    everybody = {"key": "app", "operator": "In", "values": ["web", "loner"]}
    await mesh.create(selector={"matchExpressions": [everybody]})
    await c.clock.sleep(1)
    Deployment(c, 2)
    Deployment(c, 1, namespace="kube-system")
    Deployment(c, 1, namespace="kruise-system")
    Deployment(c, 1, app="loner", labels=_declines)


def _declines(_: int) -> dict[str, str]:
    return {reading.EXCLUDED[0]: reading.EXCLUDED[1]}


def two_and_no_more(c: Cluster) -> bool:
    """Tell whether two pods have the sidecars and three have not."""
    mesh = UserSidecars(c)
    pods = c.server.list(PODS)
    return mended(c) and len(pods) == 5 and all(map(reading.ready, pods)) and mesh.said(2, 2)


async def conflict(c: Cluster) -> None:
    """Two sets with one container name, of which no replica may know both: one of them gives way (X30)."""
    mesh, rival = UserSidecars(c), UserSidecars(c, "rival")
    path = PATH
    bodies = [
        {
            "apiVersion": "apps.kruise.io/v1beta1",
            "kind": "SidecarSet",
            "metadata": {"name": one.name},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "containers": [sidecar("side:v1")]},
        }
        for one in (mesh, rival)
    ]
    for body in bodies:
        await insist(c, "POST", path, body)
    await c.clock.sleep(4)
    Deployment(c, 3)
    await c.patient(lambda: len(_ready(c)) >= 3, LONG)
    await rival.delete()


async def canary(c: Cluster) -> None:
    """A canary of a set takes its place in some pods, and both are left alone by each other (spec 14)."""
    mesh, trial = UserSidecars(c), UserSidecars(c, "trial")
    await mesh.create()
    await c.clock.sleep(1)
    notes = {"apps.kruise.io/sidecarset-canary": "true", "apps.kruise.io/sidecarset-base": "mesh"}
    for _ in range(30):
        # A replica that lags refuses it, because it does not know the base yet.
        made = await trial.create(
            "side:v9",
            strategy={"type": "NotUpdate"},
            annotations=notes,
            selector={"matchLabels": {"app": "web", "trial": "yes"}},
        )
        if made is not None or trial.body:
            break
        await c.clock.sleep(2)
    await c.clock.sleep(1)
    Deployment(c, 4, labels=lambda number: {"trial": "yes"} if number == 0 else {})
    await c.patient(lambda: mesh.runs("side:v1") >= 3 and trial.runs("side:v9") >= 1, LONG)
    await mesh.image("side:v2")


def one_trial(c: Cluster) -> bool:
    """Tell whether one pod has the canary, and the others the new version of its base."""
    mesh, trial = UserSidecars(c), UserSidecars(c, "trial")
    good = mended(c, "mesh", "trial") and mesh.said(3, 3) and trial.said(1, 1)
    if c.injector.healed:
        for pod in mesh.pods():
            if (pod["metadata"].get("labels") or {}).get("trial"):
                make_anew(c, pod)  # created before a replica had heard of the canary
    return good and mesh.runs("side:v2") == 3 and trial.runs("side:v9") == 1


async def pinned(c: Cluster) -> None:
    """New pods get an older version, by its name; then the pin is taken away (spec 5.3)."""
    mesh = UserSidecars(c)
    await mesh.create(customVersion="one", strategy={"type": "NotUpdate"})
    await c.patient(lambda: bool(mesh.status.get("latestRevision")), LONG)
    await mesh.edit(containers=[sidecar("side:v2")], customVersion="two")
    await c.patient(lambda: mesh.status.get("observedGeneration") == 2, LONG)
    await c.clock.sleep(2)
    await mesh.edit(injectionStrategy={"revision": {"customVersion": "one"}})
    await c.clock.sleep(3)
    web = Deployment(c, 2)
    await c.patient(lambda: mesh.runs("side:v1") >= 2, LONG)
    await mesh.edit(injectionStrategy={"revision": None})
    await c.clock.sleep(3)
    web.scale(4)


def one_or_two(c: Cluster) -> bool:
    """Tell whether every pod has one of the two versions: a replica that lags may not know that the pin is gone."""
    return _either(c, 4)


async def partial(c: Cluster) -> None:
    """New pods get either version, by a draw from the request that a second call does not repeat (5.3, C2)."""
    mesh = UserSidecars(c)
    await mesh.create(customVersion="one", strategy={"type": "NotUpdate", "partition": "50%"})
    await c.patient(lambda: bool(mesh.status.get("latestRevision")), LONG)
    await mesh.edit(containers=[sidecar("side:v2")], customVersion="two")
    await c.patient(lambda: mesh.status.get("observedGeneration") == 2, LONG)
    await c.clock.sleep(2)
    await mesh.edit(injectionStrategy={"revision": {"customVersion": "one", "policy": "Partial"}})
    await c.clock.sleep(3)
    Deployment(c, 8)


def either_version(c: Cluster) -> bool:
    """Tell whether every pod has one of the two versions."""
    return _either(c, 8)


def _either(c: Cluster, total: int) -> bool:
    mesh = UserSidecars(c)
    if not mended(c) or len(mesh.pods()) != total:
        return False
    new = mesh.runs("side:v2")
    return mesh.runs("side:v1") + new == total and mesh.said(total, new)


async def restricted(c: Cluster) -> None:
    """A namespace enforces Pod Security: a set that breaks it is left out, and one that keeps it is not (C9)."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    c.server.create("namespaces", {"metadata": {"name": OTHER, "labels": labels}}, actor="user")
    loose, tight = UserSidecars(c, "loose"), UserSidecars(c)
    await loose.create(containers=[sidecar("log:v1", "log")])
    await tight.create(containers=[sidecar("side:v1", securityContext=_TIGHT)])
    await c.clock.sleep(1)
    own = container("main", "app:v1", securityContext=_TIGHT)
    Deployment(c, 2, namespace=OTHER, pod={"containers": [own]})


_TIGHT: Final[Body] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def the_tight_one(c: Cluster) -> bool:
    """Tell whether the pods have the set that fits, and the other one says that they have it not."""
    tight, loose = UserSidecars(c), UserSidecars(c, "loose")
    said = str(loose.condition("Injected").get("message", ""))
    named = all(f"{OTHER}/{pod['metadata']['name']}" in said for pod in pods_of(c, namespace=OTHER))
    return mended(c) and tight.runs("side:v1") == 2 and tight.said(2, 2) and not loose.pods() and named


async def injection_paused(c: Cluster) -> None:
    """Injection is paused while pods come, and upgrades go on."""
    mesh = UserSidecars(c)
    await mesh.create()
    await c.clock.sleep(1)
    web = Deployment(c, 3)
    await c.patient(lambda: mesh.runs("side:v1") >= 3, LONG)
    await mesh.edit(injectionStrategy={"paused": True})
    await c.clock.sleep(3)
    web.scale(5)
    await mesh.image("side:v2")


def upgraded_and_held(c: Cluster) -> bool:
    """Tell whether the injected pods are upgraded, and nothing else is asked of the others."""
    mesh = UserSidecars(c)
    have = len(mesh.pods())
    return len(_ready(c)) == 5 and mesh.runs("side:v2") == have and mesh.said(have, have)


# Webhooks that are away.


async def outage_ignored(c: Cluster) -> None:
    """No webhook answers while pods are created: they start without, and the status names them (C11, X33)."""
    mesh = UserSidecars(c)
    await mesh.create()
    await c.clock.sleep(1)
    assert c.webhooks is not None, "this workload has webhooks"
    c.webhooks.down = True
    Deployment(c, 4)
    await c.patient(lambda: len(_ready(c)) >= 4, LONG)
    c.webhooks.down = False
    await c.patient(lambda: _named(mesh) >= 4, LONG)


def _named(mesh: UserSidecars) -> int:
    said = str(mesh.condition("Injected").get("message", ""))
    return sum(1 for pod in mesh.missed() if f"{NAMESPACE}/{pod['metadata']['name']}" in said)


async def outage_waited(c: Cluster) -> None:
    """The same with ``Fail``: creation waits, and nothing waits that needs no sidecar (C11)."""
    mesh = UserSidecars(c)
    await mesh.create()
    await insist(c, "PATCH", FAIL_CONFIGURATION, {"metadata": {"labels": {"apps.kruise.io/failure-policy": "Fail"}}})
    waiting = await c.patient(lambda: _entries(c) == [f"{mesh.name}.mpod.kb.io"], LONG)
    assert c.webhooks is not None, "this workload has webhooks"
    c.webhooks.down = True
    Deployment(c, 3)
    key, value = reading.EXCLUDED
    free = [("kube-system", {}), ("kruise-system", {}), (NAMESPACE, {key: value}), (NAMESPACE, {})]
    for namespace, labels in free:
        body = _lonely("dns", namespace, labels)
        code, answer = await send(c, "POST", f"/api/v1/namespaces/{namespace}/pods", body)
        if code >= 300:
            c.trouble.append(f"C11: a pod of {namespace} was kept out: {answer.get('message')}")
        else:
            c.delete_pod(answer)
    await c.clock.sleep(10)
    if waiting and pods_of(c):
        c.trouble.append("C11: a pod that needs sidecars was created without, under Fail")
    c.webhooks.down = False


def _entries(c: Cluster) -> list[str]:
    """Return the webhooks that let pods wait."""
    plural, name = FAIL_CONFIGURATION.rsplit("/", 2)[1:]
    found = c.server.get(f"{plural}.admissionregistration.k8s.io", name) or {}
    return [hook["name"] for hook in found.get("webhooks") or ()]


async def _configure(c: Cluster, change: Callable[[Body], Body]) -> None:
    """Let whoever installs us change how pods are admitted."""
    _, found = await send(c, "GET", CONFIGURATION, None)
    hooks = [change(one) if one["name"] == "mpod.kb.io" else one for one in found["webhooks"]]
    await insist(c, "PATCH", CONFIGURATION, {"webhooks": hooks})


def _lonely(name: str, namespace: str, labels: dict[str, str]) -> Body:
    meta = {"name": name, "namespace": namespace, "labels": {"app": "dns", **labels}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container("main", "app:v1")]}}


async def rotation(c: Cluster) -> None:
    """A year goes by in months; pods are created all the time, and no call fails for its certificate (X34, F11)."""
    mesh = UserSidecars(c)
    await mesh.create()
    await c.clock.sleep(1)
    web = Deployment(c, 1)
    for month in range(1, 13):
        await c.patient(lambda n=month: mesh.runs("side:v1") >= min(n, 4), LONG)  # type: ignore[misc]
        c.clock.jump(30 * DAY)
        c.history.note("a month goes by")
        await c.clock.sleep(150)
        web.scale(min(4, month + 1))
        for pod in pods_of(c)[:1]:
            c.delete_pod(pod)
        await c.clock.sleep(5)


# Bad input.


async def unreadable(c: Cluster) -> None:
    """A pod that cannot be decoded is counted by its metadata, never upgraded, and stops no other one (7.3, G8)."""
    mesh = UserSidecars(c)
    await mesh.create(strategy={"maxUnavailable": 2})
    await c.clock.sleep(1)
    Deployment(c, 3)
    await c.patient(lambda: mesh.runs("side:v1") >= 3, LONG)
    for sound in mesh.pods()[:1]:
        _store_odd(c, sound)
    await c.clock.sleep(1)
    await mesh.image("side:v2")


def _store_odd(c: Cluster, sound: Body) -> None:
    """Store a pod that no API server lets in; what is stored may be older than its rules."""
    meta = {**sound["metadata"], "name": "odd-0", "uid": "odd", "labels": {"app": "web", "kind": "odd"}}
    spec = {name: value for name, value in sound["spec"].items() if name != "nodeName"}
    status = {"phase": "Pending", "containerStatuses": [{"name": "main", "restartCount": "many"}]}
    odd = {**sound, "metadata": meta, "spec": {**spec, "schedulerName": "nobody"}, "status": status}
    c.server.storage.put(PODS, Key(NAMESPACE, "odd-0"), odd, actor="user", now=c.clock.now())


def all_but_the_odd_one(c: Cluster) -> bool:
    """Tell whether the pods that can be read are upgraded, and the other one is counted."""
    mesh, there = UserSidecars(c), c.server.get(PODS, "odd-0") is not None
    status = mesh.status
    names = ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods")
    told = [status.get(name) for name in names]
    good = [pod for pod in pods_of(c) if pod["metadata"]["name"] != "odd-0" and mended(c)]
    new = sum(1 for pod in good if reading.images(pod).get("side") == "sim.kruise.io/side:v2" and reading.ready(pod))
    return new == 3 and told == [3 + there, 3, 3, 3]


async def broken_notes(c: Cluster) -> None:
    """Annotations of pods are broken by hand: nothing is raised, and the pods are upgraded (X29)."""
    mesh = UserSidecars(c)
    await mesh.create()
    await c.clock.sleep(1)
    Deployment(c, 4)
    await c.patient(lambda: mesh.runs("side:v1") >= 4, LONG)
    texts = {0: (reading.HASH, "{"), 1: (reading.STATE, "null"), 2: (reading.WORKING, "[1"), 3: (reading.HASH, "[]")}
    for number, (key, text) in texts.items():
        patch = {"metadata": {"annotations": {key: text}}}
        c.server.patch(PODS, f"web-{number}", patch, NAMESPACE, actor="user")
    await mesh.image("side:v2")


def all_or_marked(c: Cluster) -> bool:
    """Tell whether every pod is upgraded; one whose notes are lost is made anew by its user."""
    mesh = UserSidecars(c)
    if not mended(c):
        return False
    for pod in pods_of(c):
        if c.injector.healed and reading.condition(pod, reading.UPGRADABLE).get("status") == "False":
            make_anew(c, pod)
    return mesh.runs("side:v2") == 4 and mesh.said(4, 4)
