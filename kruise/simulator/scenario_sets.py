"""What users of Advanced StatefulSets do in a scenario, and how it is seen that a set has arrived.

Purpose: the hands and eyes of the workloads in ``scenario_set_workloads.py``.

Guarantees: nothing here fails because of a fault: what the server refuses is not done. Whether a set has arrived is
told by its pods, and by its status only where the status is meant.

What this does not do: it checks no invariant; the oracles do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.builtin_actor import Actor
from kruise.simulator.invariants import statefulset_reading as reading
from kruise.simulator.invariants.statefulset_reading import CLAIMS, GATE, PODS, SETS, STATE
from kruise.simulator.provisioner import PROVISIONER
from kruise.simulator.scenario_world import NAMESPACE, Body, Cluster

CLASS: Final = "simulated"
PRE_DELETE: Final = "hold.example.com/delete"
IN_PLACE: Final = "hold.example.com/update"
PRE_NORMAL: Final = "hold.example.com/serve"
LONG: Final = 60.0
"""Seconds for which a script waits for what faults may keep from coming."""


def container(name: str = "main", image: str = "app:v1", **more: Any) -> Body:
    """Return a container; what its image does stands in the name of the image."""
    return {"name": name, "image": f"sim.kruise.io/{image}", **more}


class UserSet:
    """One set, as its user sees it."""

    def __init__(self, cluster: Cluster, name: str = "web") -> None:
        self.cluster = cluster
        self.name = name

    # Doing.

    def create(
        self,
        *,
        image: str = "app:v1",
        gated: bool = False,
        containers: list[Body] | None = None,
        labels: dict[str, str] | None = None,
        claims: dict[str, str] | None = None,
        rolling: Body | None = None,
        parallel: bool = True,
        grace: int = 5,
        **spec: Any,
    ) -> Body:
        """Create the set. *claims* maps claim templates to sizes; *gated* adds the readiness gate."""
        self.cluster.history.note(f"the user creates the set {self.name}")
        pod: Body = {"containers": containers or [container(image=image)], "terminationGracePeriodSeconds": grace}
        if gated:
            pod["readinessGates"] = [{"conditionType": GATE}]
        full: Body = {
            "replicas": 3,
            "serviceName": self.name,
            "podManagementPolicy": "Parallel" if parallel else "OrderedReady",
            "selector": {"matchLabels": {"app": self.name}},
            "template": {"metadata": {"labels": {"app": self.name, **(labels or {})}}, "spec": pod},
        } | spec
        if claims:
            full["volumeClaimTemplates"] = [claim_template(name, size) for name, size in claims.items()]
        if rolling is not None:
            full["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {**rolling}}
        body = {"metadata": {"name": self.name, "namespace": NAMESPACE}, "spec": full}
        return self.cluster.server.create(SETS, body, actor="user")

    def edit(self, **spec: Any) -> None:
        """Change the spec by a merge patch."""
        self.cluster.history.note(f"the user edits the set {self.name}: {spec}")
        self._try(lambda: self.cluster.server.patch(SETS, self.name, {"spec": spec}, actor="user"))

    def roll(self, **rolling: Any) -> None:
        """Change ``updateStrategy.rollingUpdate``."""
        self.edit(updateStrategy={"rollingUpdate": rolling})

    def image(self, image: str, *more: str) -> None:
        """Change the image of the first container, and with *more* those of the others."""
        owner = self.cluster.server.get(SETS, self.name)
        if owner is None:
            return
        have = owner["spec"]["template"]["spec"]["containers"]
        images = [f"sim.kruise.io/{one}" for one in (image, *more)]
        self.edit(
            template={
                "spec": {
                    "containers": [
                        {**one, "image": images[i] if i < len(images) else one["image"]} for i, one in enumerate(have)
                    ]
                }
            }
        )

    def delete(self, policy: str = "Background") -> None:
        """Delete the set."""
        self.cluster.history.note(f"the user deletes the set {self.name}, {policy}")
        self._try(lambda: self.cluster.server.delete(SETS, self.name, actor="user", propagationPolicy=policy))

    def change_pod(self, ordinal: int, patch: Body) -> None:
        """Change a pod by a merge patch."""
        self.cluster.history.note(f"the user changes the pod {self.name}-{ordinal}: {patch}")
        name = f"{self.name}-{ordinal}"
        self._try(lambda: self.cluster.server.patch(PODS, name, patch, NAMESPACE, actor="user"))

    def delete_pod(self, ordinal: int) -> None:
        """Delete a pod."""
        pod = self.pod(ordinal)
        if pod is not None:
            self.cluster.delete_pod(pod)

    def delete_claim(self, name: str) -> None:
        """Delete a claim."""
        self.cluster.history.note(f"the user deletes the claim {name}")
        self._try(lambda: self.cluster.server.delete(CLAIMS, name, NAMESPACE, actor="user"))

    def hold_claim(self, name: str, finalizer: str, on: bool = True) -> None:
        """Put a finalizer of somebody else on a claim, or take it off."""
        self.cluster.history.note(f"{finalizer} {'holds' if on else 'lets go'} the claim {name}")
        claim = self.cluster.server.get(CLAIMS, name, NAMESPACE)
        if claim is None:
            return
        others = [one for one in claim["metadata"].get("finalizers", ()) if one != finalizer]
        patch = {"metadata": {"finalizers": [*others, finalizer] if on else others or None}}
        self._try(lambda: self.cluster.server.patch(CLAIMS, name, patch, NAMESPACE, actor="user"))

    @staticmethod
    def _try(write: Callable[[], object]) -> None:
        try:
            write()
        except Failure:
            return

    # Looking.

    @property
    def body(self) -> Body:
        """The set; empty when it is gone."""
        return self.cluster.server.get(SETS, self.name) or {}

    @property
    def status(self) -> Body:
        """Its status."""
        found: Body = self.body.get("status") or {}
        return found

    def pod(self, ordinal: int) -> Body | None:
        """Return a pod by its ordinal."""
        return self.cluster.server.get(PODS, f"{self.name}-{ordinal}", NAMESPACE)

    def pods(self) -> dict[int, Body]:
        """Return the pods that bear the name of a member, by ordinal."""
        found = {}
        for pod in self.cluster.server.list(PODS, NAMESPACE):
            ordinal = reading.ordinal_of(str(pod["metadata"]["name"]), self.name)
            if ordinal >= 0:
                found[ordinal] = pod
        return dict(sorted(found.items()))

    def runs(self, image: str) -> int:
        """Return how many pods are ready with *image* in their first container."""
        full = f"sim.kruise.io/{image}"
        return sum(1 for p in self.pods().values() if reading.ready(p) and p["spec"]["containers"][0]["image"] == full)

    def asks(self, image: str) -> int:
        """Return how many pods have *image* in their first container."""
        full = f"sim.kruise.io/{image}"
        return sum(1 for pod in self.pods().values() if pod["spec"]["containers"][0]["image"] == full)

    def arrived(self, *, updated: int | None = None) -> bool:
        """Tell whether every wanted pod and no other is there and available, and the status says so."""
        body = self.body
        if not body or self.status.get("observedGeneration") != body["metadata"]["generation"]:
            return False
        starts = "StatefulSetStartOrdinal" in self.cluster.gates
        pods, wanted = self.pods(), reading.wanted(body, start_ordinal=starts)
        now = self.cluster.clock.now()
        seconds = reading.min_ready(body)
        if list(pods) != wanted or any(reading.up_since(pod, seconds) > now for pod in pods.values()):
            return False
        newest = self.status.get("updateRevision")
        on_newest = sum(1 for pod in pods.values() if reading.label(pod, reading.REVISION) == newest)
        if on_newest != (len(wanted) if updated is None else updated):
            return False
        told = [self.status.get(name) for name in ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas")]
        return told == [len(wanted), len(wanted), len(wanted), on_newest] and all(map(_done, pods.values()))


def _done(pod: Body) -> bool:
    """Tell whether a pod's containers run what its spec asks for."""
    told = reading.statuses(pod)
    return all(
        reading.same_image(str(one["image"]), str(told.get(name, {}).get("image", "")))
        and told[name].get("ready") is True
        for name, one in reading.containers(pod).items()
    )


def arrived(image: str, *names: str, updated: int | None = None) -> Callable[[Cluster], bool]:
    """Return whether every set has arrived, with *image* on as many pods as it wants, or *updated* of them."""

    def look(c: Cluster) -> bool:
        for name in names or ("web",):
            one = UserSet(c, name)
            expected = reading.replicas(one.body) if updated is None else updated
            if not one.arrived(updated=updated) or one.asks(image) != expected:
                return False
        return True

    return look


def claim_template(name: str, size: str, storage: str = CLASS) -> Body:
    """Return a claim template."""
    return {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage,
            "resources": {"requests": {"storage": size}},
        },
    }


def storage_class(name: str = CLASS) -> Body:
    """Return a storage class whose volumes are made here, and may grow."""
    return {"metadata": {"name": name}, "provisioner": PROVISIONER, "allowVolumeExpansion": True}


def seen(cluster: Cluster) -> dict[str, Any]:
    """Return what must be the same with and without faults: pods, claims, counts."""
    found: dict[str, Any] = {"pods": {}, "claims": {}, "sets": {}}
    for pod in cluster.server.list(PODS, NAMESPACE):
        images = [str(one["image"]).removeprefix("sim.kruise.io/") for one in pod["spec"]["containers"]]
        owned = bool(reading.owner_uid(pod))
        found["pods"][pod["metadata"]["name"]] = [images, reading.phase(pod), reading.ready(pod), owned]
    for claim in cluster.server.list(CLAIMS, NAMESPACE):
        kinds = sorted(ref["kind"] for ref in reading.references(claim).values())
        size = claim["spec"]["resources"]["requests"]["storage"]
        phase = (claim.get("status") or {}).get("phase")
        found["claims"][claim["metadata"]["name"]] = [kinds, size, phase, reading.terminating(claim)]
    for owner in cluster.server.list(SETS):
        status = owner.get("status") or {}
        # Which revision counts as the current one depends on whether all pods that exist were ever updated (spec 12).
        names = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas")
        found["sets"][owner["metadata"]["name"]] = [status.get(name) for name in names]
    return found


def seen_by_image(cluster: Cluster) -> dict[str, Any]:
    """Return the same with pods counted by what they are: a pod made anew may use up the place of an update."""
    found = seen(cluster)
    return {**found, "pods": sorted(found["pods"].values())}


def seen_without_spares(cluster: Cluster) -> dict[str, Any]:
    """Return the same without claims that no pod mounts: how far a set grew before it shrank is not said."""
    found = seen(cluster)
    used = {name for pod in cluster.server.list(PODS, NAMESPACE) for name in reading.mounted(pod)}
    return {**found, "claims": {name: claim for name, claim in found["claims"].items() if name in used}}


class HookOperator(Actor):
    """The user's own controller behind the hooks: it drains, releases, and takes back."""

    name = "hook-operator"

    def __init__(self, server: ApiServer, *, delay: float = 0.5) -> None:
        super().__init__(server, delay=delay)

    def interested(self, commit: Commit) -> bool:
        return commit.resource == PODS and commit.type != "DELETED" and _answer(commit.new.obj) is not None

    def step(self) -> None:
        for pod in self.server.list(PODS, NAMESPACE):
            labels = _answer(pod)
            if labels is not None:
                meta = pod["metadata"]
                patch = {"metadata": {"labels": labels, "uid": meta["uid"]}}
                self.attempt(lambda n=meta["name"], p=patch: self.server.patch(PODS, n, p, NAMESPACE, actor=self.name))  # type: ignore[misc]


def _answer(pod: Body) -> Body | None:
    """Return the labels by which the operator answers to the state of a pod."""
    state = reading.label(pod, STATE)
    has = pod["metadata"].get("labels") or {}
    if state == "PreparingDelete" and PRE_DELETE in has:
        return {PRE_DELETE: None}
    if state == "PreparingUpdate" and IN_PLACE in has:
        return {IN_PLACE: None}
    if state == "Updated" and IN_PLACE not in has:
        return {IN_PLACE: "true"}
    if state == "PreparingNormal" and PRE_NORMAL not in has:
        return {PRE_NORMAL: "true"}
    return None
