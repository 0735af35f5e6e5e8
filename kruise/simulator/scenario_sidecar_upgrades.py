"""Workloads of SidecarSets: sidecars change in running pods, cold and hot, and users change their minds.

Purpose: every upgrade path of the controller.

Guarantees: a script waits for what it needs, and goes on when faults keep that from coming in time.

What this does not do: what the pods do besides is drawn with the plan, unless a workload is about that.
"""

from __future__ import annotations

from typing import Final

from kruise.simulator.apiserver.call import Call
from kruise.simulator.invariants import sidecarset_reading as reading
from kruise.simulator.invariants.sidecarset_reading import PODS, REVISIONS, SIDECARSETS
from kruise.simulator.invariants.statefulset_reading import GATE
from kruise.simulator.scenario_sets import UserSet
from kruise.simulator.scenario_sidecars import (
    LONG,
    Deployment,
    UserSidecars,
    container,
    insist,
    make_anew,
    mended,
    pods_of,
    sidecar,
)
from kruise.simulator.scenario_world import NAMESPACE, Body, Cluster

PULL_FAILS: Final = "side-pull-fail:v2"


async def begun(
    c: Cluster, replicas: int = 4, *, image: str = "side:v1", hot: bool = False, strategy: Body | None = None
) -> tuple[UserSidecars, Deployment]:
    """Make a set and pods, and wait until the pods have the sidecars."""
    mesh = UserSidecars(c)
    await mesh.create(image, hot=hot, strategy=strategy)
    await c.clock.sleep(1)
    web = Deployment(c, replicas)
    await c.patient(lambda: mesh.runs(image) >= replicas, LONG)
    return mesh, web


# Cold.


async def cold(c: Cluster) -> None:
    """Five pods get a new sidecar, two at a time."""
    mesh, _ = await begun(c, 5, strategy={"maxUnavailable": 2})
    await mesh.image("side:v2")


async def percent(c: Cluster) -> None:
    """A percentage of which less than one pod remains, rounded up (X4)."""
    mesh, _ = await begun(c, 4, strategy={"maxUnavailable": "10%"})
    await mesh.image("side:v2")
    await c.patient(lambda: mesh.runs("side:v2") >= 1, LONG)
    await mesh.strategy(maxUnavailable="60%")
    await c.patient(lambda: mesh.asks("side:v2") >= 3, LONG)
    await mesh.strategy(maxUnavailable="10%")
    await mesh.image("side:v3")


async def rollback(c: Cluster) -> None:
    """Back to the old version when a part is upgraded: the old revision is used again."""
    mesh, _ = await begun(c, image="side-start-1s:v1")
    await mesh.image("side-start-1s:v2")
    await c.patient(lambda: mesh.runs("side-start-1s:v2") >= 2, LONG)
    await mesh.image("side-start-1s:v1")


async def overlapping(c: Cluster) -> None:
    """Three versions that overtake each other."""
    mesh, _ = await begun(c, image="side-start-1s:v1", strategy={"maxUnavailable": 2})
    await mesh.image("side-start-1s:v2")
    await c.patient(lambda: mesh.asks("side-start-1s:v2") >= 1, LONG)
    await mesh.image("side-start-1s:v3")
    await c.patient(lambda: mesh.asks("side-start-1s:v3") >= 1, LONG)
    await mesh.image("side-start-1s:v4")


async def overtaken(c: Cluster) -> None:
    """A version that cannot be pulled is overtaken by a slow one, and that by another: who is down comes first."""
    mesh, _ = await begun(c, 6)
    await mesh.image(PULL_FAILS)
    await c.patient(lambda: mesh.asks(PULL_FAILS) >= 1, LONG)
    await mesh.image("side-start-3s:v3")
    await c.patient(lambda: mesh.asks("side-start-3s:v3") >= 3, LONG)
    await mesh.image("side-start-3s:v4")


async def bad_image(c: Cluster) -> None:
    """An image that cannot be pulled, and then one that can (L4)."""
    mesh, _ = await begun(c, strategy={"maxUnavailable": 2})
    await mesh.image(PULL_FAILS)
    await c.patient(lambda: mesh.asks(PULL_FAILS) >= 2, LONG)
    await c.clock.sleep(5)
    await mesh.image("side:v3")


async def paused(c: Cluster) -> None:
    """A pause in the middle, with another version in it."""
    mesh, _ = await begun(c)
    await mesh.image("side:v2")
    await c.patient(lambda: mesh.asks("side:v2") >= 1, LONG)
    await mesh.strategy(paused=True)
    await c.clock.sleep(8)
    await mesh.image("side:v3")
    await c.clock.sleep(3)
    await mesh.strategy(paused=False)


async def partitions(c: Cluster) -> None:
    """The partition goes down, up and down again, as a number and as a share."""
    mesh, _ = await begun(c, 5, strategy={"partition": 4, "maxUnavailable": 2})
    await mesh.image("side:v2")
    await c.patient(lambda: mesh.runs("side:v2") >= 1, LONG)
    await mesh.strategy(partition="50%")
    await c.patient(lambda: mesh.runs("side:v2") >= 2, LONG)
    await mesh.strategy(partition=4)
    await c.clock.sleep(5)
    await mesh.strategy(partition=2)


def three_of_five(c: Cluster) -> bool:
    """Tell whether at least three pods have the new version, and the partition keeps the others."""
    mesh = UserSidecars(c)
    new = mesh.runs("side:v2")
    # A pod that was made anew meanwhile has the new version, whatever the partition.
    return mended(c) and new >= 3 and mesh.runs("side:v1") + new == 5 and mesh.said(5, new)


async def priorities(c: Cluster) -> None:
    """Pods are upgraded by weight, and a crash must not change which."""
    term = {"weight": 80, "matchSelector": {"matchLabels": {"first": "yes"}}}
    mesh = UserSidecars(c)
    await mesh.create(strategy={"partition": 3, "priorityStrategy": {"weightPriority": [term]}})
    await c.clock.sleep(1)
    Deployment(c, 5, labels=lambda number: {"first": "yes"} if number in (1, 3) else {})
    await c.patient(lambda: mesh.runs("side:v1") >= 5, LONG)
    # They wait for longer than a view may be old, so nothing excuses another order.
    await mesh.strategy(paused=True)
    await mesh.image("side:v2")
    await c.clock.sleep(20)
    await mesh.strategy(paused=False)


def the_first_two(c: Cluster) -> bool:
    """Tell whether two pods have the new version; that those with weight came first is the oracle's business."""
    if not mended(c):
        return False
    new = [pod for pod in pods_of(c) if reading.images(pod).get("side") == "sim.kruise.io/side:v2"]
    # A pod that was made anew meanwhile has the new version whatever its weight.
    return UserSidecars(c).said(5, len(new)) and len(pods_of(c)) == 5 and len(new) >= 2


async def scattered(c: Cluster) -> None:
    """The pods of one label are spread over the upgrade."""
    mesh = UserSidecars(c)
    await mesh.create(strategy={"scatterStrategy": [{"key": "kind", "value": "*"}], "maxUnavailable": 2})
    await c.clock.sleep(1)
    Deployment(c, 6, labels=lambda number: {"kind": "a" if number < 4 else "b"})
    await c.patient(lambda: mesh.runs("side:v1") >= 6, LONG)
    await mesh.image("side:v2")


async def selected(c: Cluster) -> None:
    """One pod first, by its label; then all of them."""
    mesh = UserSidecars(c)
    await mesh.create(strategy={"selector": {"matchLabels": {"trial": "yes"}}})
    await c.clock.sleep(1)
    Deployment(c, 4, labels=lambda number: {"trial": "yes"} if number == 2 else {})
    await c.patient(lambda: mesh.runs("side:v1") >= 4, LONG)
    await mesh.image("side:v2")
    await c.patient(lambda: mesh.runs("side:v2") >= 1, LONG)
    await c.clock.sleep(5)
    await mesh.strategy(selector=None)


async def not_update(c: Cluster) -> None:
    """Running pods stay as they are, until the set is told to upgrade them."""
    mesh, web = await begun(c, 3, strategy={"type": "NotUpdate"})
    await mesh.image("side:v2")
    await c.clock.sleep(3)
    web.scale(5)
    await c.patient(lambda: mesh.runs("side:v2") >= 2, LONG)
    await mesh.strategy(type="RollingUpdate", maxUnavailable=2)


async def deleted(c: Cluster) -> None:
    """The set goes in the middle of an upgrade: no pod is touched any more (C10)."""
    mesh, _ = await begun(c, image="side-start-1s:v1")
    await mesh.image("side-start-1s:v2")
    await c.patient(lambda: mesh.asks("side-start-1s:v2") >= 2, LONG)
    await mesh.delete()


def gone_alone(c: Cluster) -> bool:
    """Tell whether the set and its revisions are gone, and the pods are not."""
    left = c.server.list(SIDECARSETS) or c.server.list(REVISIONS)
    pods = pods_of(c)
    return not left and len(pods) == 4 and all(reading.ready(pod) for pod in pods)


def only_ready(c: Cluster) -> Body:
    """Return how many pods are ready: which version each has depends on when the set went."""
    return {"ready": sum(1 for pod in pods_of(c) if reading.ready(pod)), "sets": len(c.server.list(SIDECARSETS))}


async def made_again(c: Cluster) -> None:
    """The set is deleted, and made again under its name with another image."""
    mesh, _ = await begun(c)
    await mesh.delete()
    await c.patient(lambda: not mesh.body, LONG)
    await mesh.create("side:v2")


def all_anew(c: Cluster) -> bool:
    """Tell whether every pod has the new set; one that was made while there was none is made anew by its user."""
    mesh = UserSidecars(c)
    for pod in pods_of(c):
        if c.injector.healed and not reading.listed(pod) and not reading.terminating(pod):
            make_anew(c, pod)
    return mended(c) and mesh.runs("side:v2") == 4 and mesh.said(4, 4)


async def immutable(c: Cluster) -> None:
    """More than an image changes: running pods are marked and left alone, and the user makes them anew (C7)."""
    mesh, _ = await begun(c)
    await mesh.image("side:v2", env=[{"name": "MODE", "value": "new"}])
    await c.patient(lambda: _marked(c) >= 4, LONG)
    await c.clock.sleep(5)
    for pod in pods_of(c):
        c.delete_pod(pod)
        await c.clock.sleep(2)


def _marked(c: Cluster) -> int:
    return sum(1 for pod in pods_of(c) if reading.condition(pod, reading.UPGRADABLE).get("status") == "False")


def renewed(c: Cluster) -> bool:
    """Tell whether all pods have the new version, made anew by their user where they cannot be upgraded."""
    mesh = UserSidecars(c)
    if not mended(c):
        return False
    for pod in pods_of(c):
        if c.injector.healed and reading.condition(pod, reading.UPGRADABLE).get("status") == "False":
            make_anew(c, pod)
    return mesh.runs("side:v2") == 4 and mesh.said(4, 4)


async def left_as_it_is(c: Cluster) -> None:
    """The same, and the user leaves the running pods as they are."""
    mesh, _ = await begun(c)
    await mesh.image("side:v2", env=[{"name": "MODE", "value": "new"}])


def marked_or_new(c: Cluster) -> bool:
    """Tell whether every pod has the new version, or says that it cannot get it."""
    mesh = UserSidecars(c)
    new = mesh.runs("side:v2")
    status = mesh.status
    told = [status.get(name) for name in ("matchedPods", "updatedPods", "readyPods")]
    return mended(c) and new + _marked(c) == 4 and told == [4, new, 4]


async def taken_back(c: Cluster) -> None:
    """More than an image changes, and the change is taken back: the marks go, and pods are upgraded again."""
    mesh, _ = await begun(c)
    await mesh.image("side:v2", env=[{"name": "MODE", "value": "new"}])
    await c.patient(lambda: _marked(c) >= 4, LONG)
    await mesh.image("side:v3", env=None)


async def removed_container(c: Cluster) -> None:
    """One of two sidecars is taken out of the set, which live pods still have (X29)."""
    mesh = UserSidecars(c)
    await mesh.create(containers=[sidecar("side:v1"), sidecar("log:v1", "log")])
    await c.clock.sleep(1)
    Deployment(c, 3)
    await c.patient(lambda: mesh.runs("side:v1") >= 3, LONG)
    await mesh.edit(containers=[sidecar("side:v1")])
    await c.clock.sleep(3)
    await mesh.image("side:v2")
    for pod in pods_of(c):
        c.delete_pod(pod)
        await c.clock.sleep(1)


def without_log(c: Cluster) -> bool:
    """Tell whether every pod has the one sidecar that is left."""
    for pod in pods_of(c):
        if c.injector.healed and "log" in reading.images(pod):
            make_anew(c, pod)
    mesh = UserSidecars(c)
    return mended(c) and mesh.runs("side:v2") == 3 and mesh.said(3, 3) and mesh.asks("log:v1", "log") == 0


async def pods_come_and_go(c: Cluster) -> None:
    """Pods go and change their labels between the decision about them and the write (X26, X32)."""
    mesh, _ = await begun(c, 5, image="side-start-1s:v1", strategy={"maxUnavailable": 2})
    seen: list[str] = []

    def look(call: Call) -> None:
        if call.resource != PODS or call.verb != "patch" or c.injector.healed or len(seen) >= 4:
            return
        seen.append(call.name)
        if len(seen) % 2:
            c.delete_pod({"metadata": {"name": call.name, "namespace": call.namespace}})
        else:
            c.server.patch(PODS, call.name, {"metadata": {"labels": {"moved": "yes"}}}, NAMESPACE, actor="user")

    c.injector.on_write = look
    await mesh.image("side-start-1s:v2")


# Hot.


async def hot(c: Cluster) -> None:
    """Three pods get a new sidecar beside the old one."""
    mesh, _ = await begun(c, 3, hot=True)
    await mesh.image("side:v2")


async def hot_overlapping(c: Cluster) -> None:
    """Three versions, each before the one before has arrived (X27)."""
    mesh, _ = await begun(c, 3, image="side-start-1s:v1", hot=True, strategy={"maxUnavailable": 2})
    await mesh.image("side-start-1s:v2")
    await c.patient(lambda: mesh.asks("side-start-1s:v2") >= 1, LONG)
    await mesh.image("side-start-1s:v3")
    await c.patient(lambda: mesh.asks("side-start-1s:v3") >= 1, LONG)
    await mesh.image("side-start-1s:v4")


async def hot_taken_back(c: Cluster) -> None:
    """The new image cannot be pulled, and the old one is published again: the failing twin is emptied (10.3)."""
    mesh, _ = await begun(c, 3, hot=True, strategy={"maxUnavailable": 2})
    await mesh.image(PULL_FAILS)
    await c.patient(lambda: mesh.asks(PULL_FAILS) >= 2, LONG)
    await c.clock.sleep(5)
    await mesh.image("side:v1")


async def hot_paused(c: Cluster) -> None:
    """A pause while both twins run: it holds the end of the upgrade as well (7.4)."""
    mesh, _ = await begun(c, 3, image="side-ready-2s:v1", hot=True)
    await mesh.image("side-ready-2s:v2")
    await c.patient(lambda: mesh.asks("side-ready-2s:v2") >= 1, LONG)
    await mesh.strategy(paused=True)
    await c.clock.sleep(10)
    await mesh.strategy(paused=False)


# Together with others.


async def two_sets(c: Cluster) -> None:
    """Two sets in one pod, upgraded at the same time."""
    mesh, logs = UserSidecars(c), UserSidecars(c, "logs")
    await mesh.create()
    await logs.create(containers=[sidecar("log:v1", "log")], strategy={"maxUnavailable": 2})
    await c.clock.sleep(1)
    Deployment(c, 4)
    await c.patient(lambda: mesh.runs("side:v1") >= 4 and logs.runs("log:v1", "log") >= 4, LONG)
    await mesh.image("side:v2")
    await logs.image("log:v2", name="log")


def both_on_v2(c: Cluster) -> bool:
    """Tell whether all pods have both new versions."""
    mesh, logs = UserSidecars(c), UserSidecars(c, "logs")
    good = mended(c, "mesh", "logs") and mesh.said(4, 4) and logs.said(4, 4)
    return good and mesh.runs("side:v2") == 4 and logs.runs("log:v2", "log") == 4


async def with_a_set(c: Cluster) -> None:
    """The pods are an Advanced StatefulSet's, and both the application and the sidecar are updated in place."""
    mesh = UserSidecars(c)
    await mesh.create()
    await c.clock.sleep(1)
    web = UserSet(c)
    pod: Body = {"containers": [container("main", "app:v1")], "readinessGates": [{"conditionType": GATE}]}
    rolling = {"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 1}
    body = {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "replicas": 3,
            "serviceName": "web",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        },
    }
    path = f"/apis/apps.kruise.io/v1beta1/namespaces/{NAMESPACE}/statefulsets"
    await insist(c, "POST", path, body)
    await c.patient(lambda: web.arrived() and mesh.runs("side:v1") >= 3, LONG)
    await mesh.image("side:v2")
    await c.clock.sleep(1)
    pod = {**pod, "containers": [container("main", "app:v2")]}
    await insist(c, "PATCH", f"{path}/web", {"spec": {"template": {"spec": pod}}})


def set_and_sidecars(c: Cluster) -> bool:
    """Tell whether application and sidecars have arrived."""
    mesh = UserSidecars(c)
    if not mended(c) or mesh.runs("side:v2") != 3 or not mesh.said(3, 3):
        return False
    pods = UserSet(c).pods().values()
    return all(reading.images(pod).get("main") == "sim.kruise.io/app:v2" for pod in pods)
