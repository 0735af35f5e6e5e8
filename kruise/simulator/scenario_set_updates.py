"""Workloads of Advanced StatefulSets: templates change, in place and by new pods, and pods do what pods do.

Purpose: every update path of the controller, each with a user who changes his mind in the middle of it.

Guarantees: a script waits for what it needs, and goes on when faults keep that from coming in time.

What this does not do: what the pods do besides is drawn with the plan, unless a workload is about that.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.simulator.apiserver.call import Call
from kruise.simulator.invariants import statefulset_reading as reading
from kruise.simulator.invariants.statefulset_reading import SPECIFIED_DELETE
from kruise.simulator.scenario_sets import (
    IN_PLACE,
    LONG,
    PRE_DELETE,
    PRE_NORMAL,
    HookOperator,
    UserSet,
    arrived,
    container,
)
from kruise.simulator.scenario_world import Body, Cluster

IN_PLACE_IF_POSSIBLE: Final = {"podUpdatePolicy": "InPlaceIfPossible"}
IN_PLACE_ONLY: Final = {"podUpdatePolicy": "InPlaceOnly"}


# Updates by new pods.


async def recreate(c: Cluster) -> None:
    """Five pods are replaced, two at a time."""
    web = UserSet(c)
    web.create(replicas=5, rolling={"maxUnavailable": 2})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")


async def recreate_in_order(c: Cluster) -> None:
    """Three pods are replaced in order."""
    web = UserSet(c)
    web.create(parallel=False, rolling={"maxUnavailable": 1})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")


async def rollback(c: Cluster) -> None:
    """Back to the old template when a part is updated (X6, X38: the old revision is used again)."""
    web = UserSet(c)
    web.create(replicas=4, rolling={"maxUnavailable": 1})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    await c.patient(lambda: web.runs("app:v2") >= 2, LONG)
    web.image("app:v1")


async def partitions(c: Cluster) -> None:
    """The partition goes down, up and down again, and a pod below it is made anew."""
    web = UserSet(c)
    web.create(replicas=4, gated=True, rolling={**IN_PLACE_IF_POSSIBLE, "partition": 3, "maxUnavailable": 2})
    await c.patient(web.arrived, LONG)
    # Pods below the partition are made from the current revision, and until a status names it that is the newest one.
    await c.patient(lambda: bool(web.status.get("currentRevision")), 10 * LONG)
    web.image("app:v2")
    await c.patient(lambda: web.runs("app:v2") >= 1, LONG)
    web.roll(partition=1)
    await c.patient(lambda: web.runs("app:v2") >= 2, LONG)
    web.roll(partition=2)
    web.delete_pod(0)
    await c.patient(lambda: web.runs("app:v1") >= 1, LONG)
    web.roll(partition=1)


async def paused(c: Cluster) -> None:
    """A pause in the middle, with a scale-up and another template in it."""
    web = UserSet(c)
    web.create(replicas=4, rolling={"maxUnavailable": 1})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    await c.patient(lambda: web.asks("app:v2") >= 1, LONG)
    web.roll(paused=True)
    web.edit(replicas=5)
    await c.clock.sleep(8)
    web.image("app:v3")
    await c.clock.sleep(3)
    web.roll(paused=False)


async def on_delete(c: Cluster) -> None:
    """The user deletes the pods."""
    web = UserSet(c)
    web.create(updateStrategy={"type": "OnDelete"})
    await c.patient(lambda: web.runs("app:v1") >= 3, LONG)
    web.image("app:v2")
    await c.clock.sleep(2)
    for ordinal in (2, 0, 1):
        web.delete_pod(ordinal)
        await c.patient(lambda o=ordinal: _is_on(web, o, "app:v2"), LONG)  # type: ignore[misc]


def _is_on(web: UserSet, ordinal: int, image: str) -> bool:
    pod = web.pod(ordinal)
    return pod is not None and reading.ready(pod) and pod["spec"]["containers"][0]["image"].endswith(image)


def all_on_v2(c: Cluster) -> bool:
    """Pods that were deleted before the new template was seen are old, and the user deletes them once more."""
    web = UserSet(c)
    return web.runs("app:v2") == len(web.pods()) == 3 or _nudge(web)


def _nudge(web: UserSet) -> bool:
    for ordinal, pod in web.pods().items():
        if reading.ready(pod) and web.cluster.injector.healed and not _is_on(web, ordinal, "app:v2"):
            web.delete_pod(ordinal)
    return False


async def percent(c: Cluster) -> None:
    """A percentage of which less than one pod remains, then more of it, then less than one again (X4)."""
    web = UserSet(c)
    web.create(replicas=5, rolling={"maxUnavailable": "10%"})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    await c.patient(lambda: web.runs("app:v2") >= 1, LONG)
    web.roll(maxUnavailable="60%")
    await c.patient(lambda: web.asks("app:v2") >= 3, LONG)
    web.roll(maxUnavailable="10%")
    web.image("app:v3")


async def priorities(c: Cluster) -> None:
    """Pods are updated by weight, and a crash must not change which."""
    web = UserSet(c)
    term = {"weight": 80, "matchSelector": {"matchLabels": {"apps.kubernetes.io/pod-index": "1"}}}
    rolling = {"partition": 1, "unorderedUpdate": {"priorityStrategy": {"weightPriority": [term]}}}
    web.create(replicas=4, rolling=rolling)
    await c.patient(web.arrived, LONG)
    web.image("app:v2")


async def priorities_by_order(c: Cluster) -> None:
    """Pods are updated in place by the value of a label that the user gave them."""
    web = UserSet(c)
    terms = {"priorityStrategy": {"orderPriority": [{"orderedKey": "turn"}]}}
    web.create(replicas=5, gated=True, rolling={**IN_PLACE_IF_POSSIBLE, "unorderedUpdate": terms})
    await c.patient(web.arrived, LONG)
    for ordinal, turn in ((0, "t-3"), (4, "t-1"), (2, "t-2")):
        web.change_pod(ordinal, {"metadata": {"labels": {"turn": turn}}})
    await c.clock.sleep(LONG)  # until every cache has them
    web.image("app-start-3s:v2")


async def starts(c: Cluster) -> None:
    """Ordinals from three on, with a hole in them, then from two on and one more."""
    web = UserSet(c)
    web.create(replicas=3, ordinals={"start": 3}, reserveOrdinals=[4], rolling={"maxUnavailable": 1})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    await c.patient(lambda: web.runs("app:v2") >= 1, LONG)
    web.edit(ordinals={"start": 2}, replicas=4)


async def holes(c: Cluster) -> None:
    """Ordinals are reserved and released while the set rolls."""
    web = UserSet(c)
    web.create(replicas=3, reserveOrdinals=[1], rolling={"maxUnavailable": 1})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    await c.patient(lambda: web.runs("app:v2") >= 1, LONG)
    web.edit(reserveOrdinals=[0, "3-4"])


async def specified_delete(c: Cluster) -> None:
    """Two pods are marked for their replacement, and the template changes as well."""
    web = UserSet(c)
    web.create(replicas=4, rolling={"maxUnavailable": 1})
    await c.patient(web.arrived, LONG)
    for ordinal in (0, 2):
        web.change_pod(ordinal, {"metadata": {"labels": {SPECIFIED_DELETE: "true"}}})
    web.image("app:v2")


async def failed_pods(c: Cluster) -> None:
    """Pods end, evicted by their nodes, while the scale throttle is 1 (spec 16, row 6)."""
    web = UserSet(c)
    web.create(replicas=3, scaleStrategy={"maxUnavailable": 1})
    await c.patient(lambda: web.runs("app:v1") >= 3, LONG)
    for ordinal in (0, 2):
        patch = {"metadata": {"annotations": {"sim.kruise.io/evict-seconds": "0"}}}
        web.change_pod(ordinal, patch)
        await c.clock.sleep(0.5)


# Updates in place.


async def in_place(c: Cluster) -> None:
    """Five pods get a new image in place, two at a time."""
    web = UserSet(c)
    web.create(replicas=5, gated=True, rolling={**IN_PLACE_IF_POSSIBLE, "maxUnavailable": 2})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")


async def in_place_in_order(c: Cluster) -> None:
    """Three pods get a new image in place, in order."""
    web = UserSet(c)
    web.create(parallel=False, gated=True, rolling=IN_PLACE_IF_POSSIBLE)
    await c.patient(web.arrived, LONG)
    web.image("app:v2")


async def in_place_only(c: Cluster) -> None:
    """A change that is not possible in place, and then one that is (X8)."""
    web = UserSet(c)
    web.create(gated=True, rolling={**IN_PLACE_ONLY, "maxUnavailable": 2})
    await c.patient(web.arrived, LONG)
    pod = web.body["spec"]["template"]["spec"]["containers"][0]
    web.edit(template={"spec": {"containers": [{**pod, "args": ["--more"]}]}})
    await c.clock.sleep(3)
    web.edit(template={"spec": {"containers": [{**pod, "image": "sim.kruise.io/app:v2"}]}})


async def in_place_rollback(c: Cluster) -> None:
    """Back to the old image while pods are pulling the new one."""
    web = UserSet(c)
    web.create(replicas=4, gated=True, image="app-start-1s:v1", rolling={**IN_PLACE_IF_POSSIBLE, "maxUnavailable": 2})
    await c.patient(web.arrived, LONG)
    web.image("app-start-1s:v2")
    await c.patient(lambda: web.asks("app-start-1s:v2") >= 2, LONG)
    web.image("app-start-1s:v1")


async def overlapping(c: Cluster) -> None:
    """Three templates in a row, in pods of two containers of which one goes before the other (7.9)."""
    web = UserSet(c)
    web.create(gated=True, containers=_by_priority(), rolling={**IN_PLACE_IF_POSSIBLE, "maxUnavailable": 2})
    await c.patient(web.arrived, LONG)
    web.image("app:v2", "side-start-1s:v2")
    await c.patient(lambda: web.asks("app:v2") >= 1, LONG)
    web.image("app:v3", "side-start-1s:v2")
    await c.patient(lambda: web.asks("app:v3") >= 1, LONG)
    web.image("app:v2", "side-start-1s:v3")


def _by_priority() -> list[dict[str, Any]]:
    def env(priority: int) -> list[dict[str, Any]]:
        reference = {"configMapKeyRef": {"name": "barrier", "key": f"p_{priority}"}}
        return [{"name": "KRUISE_CONTAINER_BARRIER", "valueFrom": reference}]

    return [container(env=env(10)), container("side", "side-start-1s:v1", env=env(20))]


async def grace(c: Cluster) -> None:
    """The grace period between not ready and the new image, with a change of mind in it."""
    web = UserSet(c)
    grace = {"inPlaceUpdateStrategy": {"gracePeriodSeconds": 4}}
    web.create(replicas=3, gated=True, rolling={**IN_PLACE_IF_POSSIBLE, **grace, "maxUnavailable": 2})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    await c.patient(lambda: web.asks("app:v2") >= 1, LONG)
    web.image("app:v3")


async def metadata(c: Cluster) -> None:
    """Labels and annotations alone: nothing restarts."""
    web = UserSet(c)
    web.create(gated=True, rolling=IN_PLACE_IF_POSSIBLE)
    await c.patient(web.arrived, LONG)
    web.edit(template={"metadata": {"labels": {"tier": "front"}, "annotations": {"note": "one"}}})
    await c.patient(lambda: all(reading.label(p, "tier") for p in web.pods().values()), LONG)
    web.edit(template={"metadata": {"annotations": {"note": None, "other": "two"}}})


def noted(c: Cluster) -> bool:
    """Tell whether the set has arrived, with the annotations of the last template."""
    pods = UserSet(c).pods().values()
    noted = all(reading.annotation(p, "other") == "two" and not reading.annotation(p, "note") for p in pods)
    return arrived("app:v1")(c) and noted


async def resources(c: Cluster) -> None:
    """CPU is raised in place, then memory, which restarts the container."""
    rule = [
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "RestartContainer"},
    ]
    web = UserSet(c)
    asked = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}
    one = container(resources=asked, resizePolicy=rule)
    web.create(gated=True, containers=[one], rolling=IN_PLACE_IF_POSSIBLE)
    await c.patient(web.arrived, LONG)
    for kind, value in (("cpu", "150m"), ("memory", "96Mi")):
        asked = {**asked, "requests": {**asked["requests"], kind: value}}
        web.edit(template={"spec": {"containers": [{**one, "resources": asked}]}})
        await c.patient(lambda k=kind, v=value: _asks_for(web, k, v) >= 1, LONG)  # type: ignore[misc]


def _asks_for(web: UserSet, kind: str, value: str) -> int:
    return sum(
        1
        for pod in web.pods().values()
        if (pod["spec"]["containers"][0].get("resources") or {}).get("requests", {}).get(kind) == value
    )


def resized(c: Cluster) -> bool:
    """Tell whether the set has arrived, with the resources of the last template."""
    web = UserSet(c)
    return arrived("app:v1")(c) and _asks_for(web, "cpu", "150m") == _asks_for(web, "memory", "96Mi") == 3


async def injected(c: Cluster) -> None:
    """A webhook of somebody else changes every pod: pods are never compared with the template (X39)."""

    def inject(call: Call, operation: str, obj: Body, _old: Body | None) -> Body:
        if operation == "CREATE" and call.resource == "pods":
            obj["metadata"].setdefault("annotations", {})["injected"] = "yes"
            obj["spec"]["containers"].append(container("proxy", "proxy:v9"))
            obj["spec"]["containers"][0]["env"] = [{"name": "INJECTED", "value": "yes"}]
        return obj

    c.server.operations.admission.append(inject)
    web = UserSet(c)
    web.create(gated=True, rolling=IN_PLACE_IF_POSSIBLE)
    await c.patient(web.arrived, LONG)
    await c.clock.sleep(5)
    web.image("app:v2")


# What pods and nodes do.


async def bad_image(c: Cluster) -> None:
    """An image that cannot be pulled, and then one that can: the broken revision is left in Parallel (X8, X37)."""
    web = UserSet(c)
    web.create(replicas=4, gated=True, rolling={**IN_PLACE_IF_POSSIBLE, "maxUnavailable": 2})
    await c.patient(web.arrived, LONG)
    web.image("app-pull-fail:v2")
    await c.patient(lambda: web.asks("app-pull-fail:v2") >= 2, LONG)
    await c.clock.sleep(5)
    web.image("app:v3")


async def bad_from_the_start(c: Cluster) -> None:
    """The very first revision is broken (X37)."""
    web = UserSet(c)
    web.create(replicas=3, image="app-pull-fail:v1", rolling={"maxUnavailable": 1})
    await c.patient(lambda: len(web.pods()) >= 3, LONG)
    await c.clock.sleep(3)
    web.image("app:v2")


async def never_ready(c: Cluster) -> None:
    """A revision whose pods never get ready, and then one whose pods do."""
    web = UserSet(c)
    web.create(replicas=4, rolling={"maxUnavailable": "50%"})
    await c.patient(web.arrived, LONG)
    web.image("app-never-ready:v2")
    await c.patient(lambda: web.asks("app-never-ready:v2") >= 2, LONG)
    await c.clock.sleep(5)
    web.image("app:v3")


async def crashing_first(c: Cluster) -> None:
    """Pod 0 crashes while the others are rolled: it is outside the order so far, and counts all the same (X1)."""
    web = UserSet(c)
    web.create(replicas=4, gated=True, rolling={**IN_PLACE_IF_POSSIBLE, "maxUnavailable": 1})
    await c.patient(web.arrived, LONG)
    web.change_pod(0, {"metadata": {"annotations": {"sim.kruise.io/ready-seconds": "never"}}})
    await c.clock.sleep(10)
    web.image("app:v2")
    await c.clock.sleep(20)
    web.change_pod(0, {"metadata": {"annotations": {"sim.kruise.io/ready-seconds": None}}})


async def node_loss(c: Cluster) -> None:
    """A node goes while its pods are updated, and comes back under its name."""
    web = UserSet(c)
    web.create(replicas=4, claims={"data": "1Gi"}, rolling={"maxUnavailable": 2})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    await c.patient(lambda: web.asks("app:v2") >= 1, LONG)
    c.delete_node("node-1")
    await c.clock.sleep(3)
    await c.add_nodes("node-1")


async def pods_deleted(c: Cluster) -> None:
    """The user deletes pods in the middle of an update."""
    web = UserSet(c)
    web.create(replicas=4, gated=True, rolling={**IN_PLACE_IF_POSSIBLE, "maxUnavailable": 1})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    for ordinal in (3, 1):
        await c.clock.sleep(0.4)
        web.delete_pod(ordinal)


# Hooks.


async def hooks(c: Cluster) -> None:
    """PreDelete and inPlaceUpdate hooks, with somebody who lets go; a scale-down beside the update (X6)."""
    c.act(HookOperator(c.server))
    web = UserSet(c)
    lifecycle = {
        "preDelete": {"labelsHandler": {PRE_DELETE: "true"}, "markPodNotReady": True},
        "inPlaceUpdate": {"labelsHandler": {IN_PLACE: "true"}, "markPodNotReady": True},
    }
    labels = {PRE_DELETE: "true", IN_PLACE: "true"}
    rolling = {**IN_PLACE_IF_POSSIBLE, "maxUnavailable": 2}
    web.create(replicas=4, gated=True, labels=labels, lifecycle=lifecycle, rolling=rolling)
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    await c.clock.sleep(0.7)
    web.edit(replicas=3)


async def hooks_in_order(c: Cluster) -> None:
    """The same in OrderedReady: what was let go proceeds (spec 16, row 7)."""
    c.act(HookOperator(c.server))
    web = UserSet(c)
    lifecycle = {
        "preDelete": {"labelsHandler": {PRE_DELETE: "true"}},
        "inPlaceUpdate": {"labelsHandler": {IN_PLACE: "true"}},
    }
    labels = {PRE_DELETE: "true", IN_PLACE: "true"}
    web.create(parallel=False, gated=True, labels=labels, lifecycle=lifecycle, rolling=IN_PLACE_IF_POSSIBLE)
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    await c.clock.sleep(1)
    web.change_pod(0, {"metadata": {"labels": {SPECIFIED_DELETE: "true"}}})


async def hook_rollback(c: Cluster) -> None:
    """Back to the old template while pods are held in PreparingUpdate (X6, spec 16, row 10)."""
    web = UserSet(c)
    lifecycle = {"inPlaceUpdate": {"labelsHandler": {IN_PLACE: "true"}, "markPodNotReady": True}}
    rolling = {**IN_PLACE_IF_POSSIBLE, "maxUnavailable": 2}
    web.create(gated=True, labels={IN_PLACE: "true"}, lifecycle=lifecycle, rolling=rolling)
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
    await c.patient(lambda: _in_state(web, "PreparingUpdate") >= 2, LONG)
    web.image("app:v1")
    await c.patient(web.arrived, LONG)
    if web.asks("app:v2"):
        c.act(HookOperator(c.server))  # a pod that was made late, and from the new template, needs the hook to go back


def _in_state(web: UserSet, state: str) -> int:
    return sum(1 for pod in web.pods().values() if reading.label(pod, reading.STATE) == state)


async def pre_normal(c: Cluster) -> None:
    """New pods wait for somebody before they count."""
    c.act(HookOperator(c.server))
    web = UserSet(c)
    lifecycle = {"preNormal": {"labelsHandler": {PRE_NORMAL: "true"}}}
    web.create(replicas=3, lifecycle=lifecycle, rolling={"maxUnavailable": 1})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")
