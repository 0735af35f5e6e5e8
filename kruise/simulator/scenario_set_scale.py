"""Workloads of Advanced StatefulSets: pods come and go, with their claims and their owners.

Purpose: creation, scale in both directions, deletion, retention and adoption, each with a user who changes his mind.

Guarantees: a script waits for what it needs, and goes on when faults keep that from coming in time.

What this does not do: no template changes but where a claim is about it; see ``scenario_set_updates``.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.simulator.invariants import statefulset_reading as reading
from kruise.simulator.invariants.statefulset_reading import CLAIMS, PODS, REVISIONS, SETS
from kruise.simulator.scenario_sets import LONG, UserSet, claim_template, container
from kruise.simulator.scenario_world import NAMESPACE, Body, Cluster

SNAPSHOT: Final = "snapshot.storage.kubernetes.io/pvc-as-source-protection"
"""The finalizer that the snapshot controller of CSI keeps on a claim while it is copied."""


def gone(c: Cluster) -> bool:
    """Tell whether no set and no pod is left."""
    return not c.server.list(SETS) and not c.server.list(PODS, NAMESPACE)


# Creation and scale.


async def ordered(c: Cluster) -> None:
    """Three pods, one after the other."""
    UserSet(c).create(parallel=False)


async def parallel(c: Cluster) -> None:
    """Five pods at once, with the readiness gate."""
    UserSet(c).create(replicas=5, gated=True)


async def throttled(c: Cluster) -> None:
    """Five pods, of which two may be unavailable while they are made, and then one more."""
    web = UserSet(c)
    web.create(replicas=5, image="app-ready-1s:v1", scaleStrategy={"maxUnavailable": 2})
    await c.patient(lambda: web.runs("app-ready-1s:v1") >= 3, LONG)
    web.edit(replicas=6)


async def scaled_in_order(c: Cluster) -> None:
    """Up, and down from the middle of that, in order."""
    web = UserSet(c)
    web.create(parallel=False, replicas=2)
    await c.patient(web.arrived, LONG)
    web.edit(replicas=4)
    await c.patient(lambda: len(web.pods()) >= 3, LONG)
    web.edit(replicas=1)


async def scaled_at_once(c: Cluster) -> None:
    """Down to none, and up again while pods are ending."""
    web = UserSet(c)
    web.create(replicas=5)
    await c.patient(lambda: len(web.pods()) >= 3, LONG)
    web.edit(replicas=0)
    await c.patient(lambda: len(web.pods()) <= 2, LONG)
    web.edit(replicas=4)


async def min_ready(c: Cluster) -> None:
    """Pods count after four seconds of being ready: creation and update wait for that."""
    web = UserSet(c)
    web.create(parallel=False, rolling={"minReadySeconds": 4})
    await c.patient(web.arrived, LONG)
    web.image("app:v2")


async def deleted(c: Cluster) -> None:
    """The set is deleted in the foreground, with claims that go with it."""
    web = UserSet(c)
    web.create(claims={"data": "1Gi"}, persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete"})
    await c.patient(lambda: web.runs("app:v1") >= 2, LONG)
    web.delete("Foreground")


async def made_again(c: Cluster) -> None:
    """The set is deleted and made again under its name; pods of the first one are still ending."""
    web = UserSet(c)
    web.create(image="app-stop-2s:v1")
    await c.patient(lambda: web.runs("app-stop-2s:v1") >= 2, LONG)
    web.delete()
    await c.patient(lambda: not web.body, LONG)
    if not web.body:
        web.create(image="app:v2")


# Claims.


async def retained(c: Cluster) -> None:
    """Claims stay when the set is scaled down, and are used again."""
    web = UserSet(c)
    web.create(parallel=False, replicas=3, claims={"data": "1Gi", "logs": "1Gi"})
    await c.patient(web.arrived, LONG)
    web.edit(replicas=1)
    await c.patient(lambda: len(web.pods()) == 1, LONG)
    web.edit(replicas=2)


def no_claim_went(c: Cluster) -> bool:
    """Tell whether no claim was ever deleted."""
    return all(commit.type != "DELETED" for commit in c.server.commits(resource=CLAIMS))


async def retention(c: Cluster) -> None:
    """Claims go with condemned pods, where ordinals are reserved (X11), and a set that changes its mind (X42)."""
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    web = UserSet(c)
    web.create(replicas=4, image="app-stop-1s:v1", claims={"data": "1Gi"}, persistentVolumeClaimRetentionPolicy=policy)
    await c.patient(web.arrived, LONG)
    web.edit(reserveOrdinals=[1], replicas=2)
    await c.patient(lambda: len(web.pods()) <= 3, LONG)
    web.edit(replicas=3)
    await c.patient(web.arrived, LONG)
    if all(commit.key.name != "web-1" for commit in c.server.commits(resource=PODS)):
        web.delete_claim("data-web-1")  # claims go with their pods, and a manager died before this one had any


def claims_fit(c: Cluster) -> bool:
    """There is a claim for each pod and no other."""
    claims = {str(claim["metadata"]["name"]) for claim in c.server.list(CLAIMS, NAMESPACE)}
    return claims == {f"data-web-{ordinal}" for ordinal in UserSet(c).pods()}


async def policy_changes(c: Cluster) -> None:
    """Old sets have no policy at all (X12); one is set, and taken back."""
    web = UserSet(c)
    web.create(replicas=2, claims={"data": "1Gi"})
    await c.patient(web.arrived, LONG)
    web.edit(persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete", "whenScaled": "Retain"})
    await c.clock.sleep(3)
    web.edit(persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Delete"})


async def claim_deleted(c: Cluster) -> None:
    """The user deletes a claim and its pod: the pod waits until the old claim is gone (X41), which a snapshot holds."""
    web = UserSet(c)
    web.create(replicas=2, image="app-stop-2s:v1", claims={"data": "1Gi"})
    await c.patient(web.arrived, LONG)
    web.hold_claim("data-web-1", SNAPSHOT)
    web.delete_claim("data-web-1")
    await c.clock.sleep(7)  # long enough for nobody to say that he could not know it
    web.delete_pod(1)
    await c.clock.sleep(5)
    web.hold_claim("data-web-1", SNAPSHOT, False)
    await c.clock.sleep(3)


async def claim_resize(c: Cluster) -> None:
    """A new size in a claim template is rolled through the pods; an image comes with it."""
    web = UserSet(c)
    kind: dict[str, Any] = {"volumeClaimUpdateStrategy": {"type": "OnPodRollingUpdate"}}
    web.create(replicas=3, claims={"data": "1Gi"}, rolling={"maxUnavailable": 1}, **kind)
    await c.patient(web.arrived, LONG)
    web.edit(volumeClaimTemplates=[claim_template("data", "2Gi")])
    await c.patient(lambda: grown(c, "2Gi") >= 1, LONG)
    web.image("app:v2")


def grown(c: Cluster, size: str) -> int:
    """Return how many claims have the capacity *size*."""
    claims = c.server.list(CLAIMS, NAMESPACE)
    return sum(1 for claim in claims if (claim.get("status") or {}).get("capacity", {}).get("storage") == size)


# Ownership.


async def adopted(c: Cluster) -> None:
    """The set is deleted, its pods stay as orphans, and a new set of the same name takes them over."""
    web = UserSet(c)
    web.create(replicas=3)
    await c.patient(web.arrived, LONG)
    web.delete("Orphan")
    await c.patient(lambda: not web.body, LONG)
    if not web.body:
        web.create(replicas=3)


async def taken_over(c: Cluster) -> None:
    """Pods and a revision that another manager left, in the bytes of another release: nothing restarts (X38)."""
    labels = {"app": "web"}
    pod: Body = {"containers": [container()], "terminationGracePeriodSeconds": 5}
    template = {"$patch": "replace", "metadata": {"labels": labels}, "spec": pod}
    revision = {
        "metadata": {"name": "web-left", "namespace": NAMESPACE, "labels": labels},
        "data": {"spec": {"template": template}},
        "revision": 7,
    }
    c.server.create(REVISIONS, revision, actor="openkruise")
    for ordinal in range(3):
        name = f"web-{ordinal}"
        own = {**labels, reading.REVISION: "web-left", "statefulset.kubernetes.io/pod-name": name}
        body = {"metadata": {"name": name, "namespace": NAMESPACE, "labels": own}, "spec": pod}
        c.server.create(PODS, body, actor="openkruise")
    await c.patient(lambda: len(UserSet(c).pods()) == 3, 5)
    UserSet(c).create()


def nothing_restarted(c: Cluster) -> bool:
    """Tell whether the pods that were left are the pods of the set, on the revision that was left."""
    owned = members(c) and all(reading.label(p, reading.REVISION) == "web-left" for p in UserSet(c).pods().values())
    return owned and [str(one["metadata"]["name"]) for one in c.server.list(REVISIONS, NAMESPACE)] == ["web-left"]


async def released(c: Cluster) -> None:
    """A pod loses the label of its set, is let go, and is in the way until the user deletes it."""
    web = UserSet(c)
    web.create(replicas=3)
    await c.patient(web.arrived, LONG)
    web.change_pod(1, {"metadata": {"labels": {"app": "debug"}}})
    await c.patient(lambda: not reading.owner_uid(web.pod(1) or {"metadata": {}}), LONG)
    await c.clock.sleep(2)
    web.delete_pod(1)


def members(c: Cluster) -> bool:
    """Tell whether the set has arrived, and controls all its pods."""
    web = UserSet(c)
    return web.arrived() and all(reading.owner_uid(pod) == web.body["metadata"]["uid"] for pod in web.pods().values())
