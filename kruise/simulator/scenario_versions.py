"""Workloads of users whose clients speak v1alpha1: what they write and read is converted by the managers.

Purpose: conversion under faults. The definitions are those that are installed, so a read, a write or a watch in the
older version is a call of ``/convert`` at one of the replicas, and fails when none answers.

Guarantees:

* WEB6: whatever arrives in v1alpha1, by read, list or watch, says what was stored under its resourceVersion, without
  what that version lacks (spec/advanced-statefulset 1.8, spec/sidecarset 13). The rules are written anew here.
* While no replica answers, a read in v1alpha1 fails, and one in the stored version does not; the managers, which speak
  that one, go on.
* Once nothing goes wrong any more, a client that watches in v1alpha1 knows the last version of each object.

What this does not do: the answers of ``/convert`` themselves are judged where they pass, in ``scenario_webhooks``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from kruise.runtime.client.transport import Request
from kruise.runtime.errors import TransportError
from kruise.simulator.faults import NO_FAULT
from kruise.simulator.invariants.sidecarset_reading import SIDECARSETS
from kruise.simulator.invariants.statefulset_reading import GATE, SETS
from kruise.simulator.scenario_sets import UserSet, container
from kruise.simulator.scenario_sets import arrived as set_arrived
from kruise.simulator.scenario_sets import seen as sets_seen
from kruise.simulator.scenario_sidecars import LONG, PATIENCE, Deployment, UserSidecars, insist, send, sidecar
from kruise.simulator.scenario_sidecars import arrived as sidecars_arrived
from kruise.simulator.scenario_sidecars import seen as sidecars_seen
from kruise.simulator.scenario_workloads import Workload
from kruise.simulator.scenario_world import NAMESPACE, Body, Cluster

OLDER: Final = "apps.kruise.io/v1alpha1"
STORED: Final = "apps.kruise.io/v1beta1"
CUSTOM_VERSION: Final = "apps.kruise.io/sidecarset-custom-version"
_PLACE: Final = {SETS: f"namespaces/{NAMESPACE}/statefulsets", SIDECARSETS: "sidecarsets"}
_LACKS: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    SETS: {
        "spec": frozenset(
            (
                "volumeClaimUpdateStrategy",
                "reserveOrdinals",
                "lifecycle",
                "scaleStrategy",
                "persistentVolumeClaimRetentionPolicy",
                "ordinals",
            )
        ),
        "status": frozenset(("updatedReadyReplicas", "updatedAvailableReplicas", "volumeClaims")),
    },
    SIDECARSETS: {"spec": frozenset(("customVersion",))},
}
_RETRY: Final = 1.0


def older(resource: str, stored: Body) -> Body:
    """Return labels, spec and status of a stored object as v1alpha1 has them."""
    found: Body = {"labels": dict(stored["metadata"].get("labels") or {})}
    version = (stored.get("spec") or {}).get("customVersion")
    if resource == SIDECARSETS and version:
        found["labels"][CUSTOM_VERSION] = version
    for part in ("spec", "status"):
        lacks = _LACKS[resource].get(part, frozenset())
        found[part] = {name: value for name, value in (stored.get(part) or {}).items() if name not in lacks}
    return found


def _said(shown: Body) -> Body:
    meta = shown["metadata"]
    return {
        "labels": meta.get("labels") or {},
        "spec": shown.get("spec") or {},
        "status": shown.get("status") or {},
    }


class OlderClient:
    """A user of one object. It watches, and changes the object as such programs do: read, edit, send the whole."""

    name = "older-client"

    def __init__(self, cluster: Cluster, resource: str, name: str) -> None:
        """Make one, and let it watch until the end."""
        self.cluster = cluster
        self.resource = resource
        self.object = name
        self._path = f"/apis/{OLDER}/{_PLACE[resource]}"
        self._transport = cluster.server.transport(self.name)
        cluster.act(self)

    # Doing.

    async def create(self, body: Body) -> None:
        """Create the object."""
        self.cluster.history.note(f"the user creates {self.object} in {OLDER}")
        await insist(self.cluster, "POST", self._path, {**body, "apiVersion": OLDER})

    async def change(self, edit: Callable[[Body], object], what: str) -> None:
        """Read the object, let *edit* change it and send the whole, until that is done."""
        self.cluster.history.note(f"the user changes {self.object} in {OLDER}: {what}")
        for _ in range(int(PATIENCE)):
            code, body = await send(self.cluster, "GET", f"{self._path}/{self.object}", None)
            if code == 200:
                self._judge(body, "a read")
                edit(body)
                code, body = await send(self.cluster, "PUT", f"{self._path}/{self.object}", body)
            if code < 300:
                self._judge(body, "the answer to a write")
                return
            if code < 500 and code != 409:
                self.cluster.trouble.append(f"WEB6: a change in {OLDER} is refused: {code} {body.get('message', '')}")
                return
            await self.cluster.clock.sleep(_RETRY)
        self.cluster.trouble.append(f"L1: a change in {OLDER} was kept out for {PATIENCE:g} s")

    async def outage(self, moved_on: Callable[[], object]) -> None:
        """Let nobody reach a webhook for a while, in which the managers go on until *moved_on*."""
        c = self.cluster
        assert c.webhooks is not None, "this workload has webhooks"
        c.history.note("no webhook can be reached")
        c.webhooks.down = True
        for version, wanted in ((OLDER, 500), (STORED, 200)):
            path = f"/apis/{version}/{_PLACE[self.resource]}/{self.object}"
            code, body = await send(c, "GET", path, None)
            if code != wanted:
                c.trouble.append(f"WEB6: a read in {version} without webhooks: {code} {body.get('message', '')}")
        came = await c.patient(moved_on, LONG)
        if not came and c.plan == NO_FAULT:
            c.trouble.append("WEB6: the managers wait for a conversion that they do not need")
        c.webhooks.down = False
        c.history.note("the webhooks can be reached again")

    # Watching.

    async def run(self) -> None:
        """Keep up with the object until cancelled: list, watch, and again when that ends."""
        while True:
            version = await self._list()
            if version:
                await self._watch(version)
            await self.cluster.clock.sleep(_RETRY)

    async def _list(self) -> str:
        """Take in what is there; return the version to watch from, ``""`` when there was no answer."""
        code, body = await send(self.cluster, "GET", self._path, None, actor=self.name)
        if code != 200:
            return ""
        for one in body["items"]:
            self._take({"apiVersion": OLDER, **one}, "a list")
        return str(body["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> None:
        request = Request("GET", f"{self._path}?watch=true&resourceVersion={version}", verb="watch")
        try:
            async with await self._transport.stream(request) as stream:
                while stream.status == 200 and (line := await stream.read_line()):
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        return
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._take(event["object"], "a watch")
        except TransportError:
            return

    def _take(self, shown: Body, where: str) -> None:
        if shown["metadata"]["name"] == self.object:
            self._judge(shown, where)
            self.cluster.shown[self.name, self.object] = str(shown["metadata"]["resourceVersion"])

    # Judging.

    def _judge(self, shown: Body, where: str) -> None:
        if shown["apiVersion"] != OLDER:
            self._wrong(f"{where} in {OLDER} shows {shown['apiVersion']}")
            return
        version = int(shown["metadata"]["resourceVersion"])
        commits = self.cluster.server.commits(resource=self.resource)
        stored = next((commit.new.obj for commit in reversed(commits) if commit.rv == version), None)
        if stored is None:
            self._wrong(f"{where} shows the version {version}, which {self.object} never had")
            return
        said, wanted = _said(shown), older(self.resource, stored)
        wrong = [part for part in wanted if said[part] != wanted[part]]
        if wrong:
            self._wrong(f"{where} of the version {version} says {_first_difference(said, wanted, wrong[0])}")

    def _wrong(self, text: str) -> None:
        if len(self.cluster.trouble) < 20:
            self.cluster.trouble.append(f"WEB6: {text}")


def _first_difference(said: Body, wanted: Body, part: str) -> str:
    names = sorted({*said[part], *wanted[part]})
    name = next(name for name in names if said[part].get(name) != wanted[part].get(name))
    return f"{part}.{name} = {said[part].get(name)!r} instead of {wanted[part].get(name)!r}"


# ---- an Advanced StatefulSet -----------------------------------------------------------------------------------------


async def older_set(c: Cluster) -> None:
    """A set that is made, updated and scaled in v1alpha1, with an outage of the webhooks in the middle."""
    web, user = UserSet(c), OlderClient(c, SETS, "web")
    rolling = {"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 1}
    pod: Body = {
        "containers": [container(image="app:v1")],
        "readinessGates": [{"conditionType": GATE}],
        "terminationGracePeriodSeconds": 5,
    }
    spec: Body = {
        "replicas": 3,
        "serviceName": "web",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
    }
    await user.create({"kind": "StatefulSet", "metadata": {"name": "web", "namespace": NAMESPACE}, "spec": spec})
    await c.patient(web.arrived, LONG)
    await user.change(lambda body: _set_image(body, "app:v2"), "the image")
    await c.patient(lambda: web.asks("app:v2") >= 1, LONG)
    await user.outage(lambda: web.runs("app:v2") >= 3)
    await user.change(lambda body: _set_image(body, "app:v3", replicas=4), "image and replicas")


def _set_image(body: Body, image: str, **spec: Any) -> None:
    body["spec"].update(spec)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = f"sim.kruise.io/{image}"


# ---- a SidecarSet ----------------------------------------------------------------------------------------------------


async def older_sidecars(c: Cluster) -> None:
    """A set of one namespace, with versions of the user's own, in v1alpha1, and an outage of the webhooks."""
    mesh, user = UserSidecars(c), OlderClient(c, SIDECARSETS, "mesh")
    spec: Body = {
        "namespace": NAMESPACE,
        "selector": {"matchLabels": {"app": "web"}},
        "containers": [sidecar("side:v1")],
        "updateStrategy": {"type": "RollingUpdate", "maxUnavailable": 2},
    }
    await user.create(
        {"kind": "SidecarSet", "metadata": {"name": "mesh", "labels": {CUSTOM_VERSION: "one"}}, "spec": spec}
    )
    await c.clock.sleep(1)
    Deployment(c, 4)
    await c.patient(lambda: mesh.runs("side:v1") >= 4, LONG)
    await user.change(lambda body: _sidecar_image(body, "side:v2", "two"), "image and version")
    await c.patient(lambda: mesh.asks("side:v2") >= 1, LONG)
    await user.outage(lambda: mesh.runs("side:v2") >= 4)
    await user.change(lambda body: _sidecar_image(body, "side:v3", "three"), "image and version")


def _sidecar_image(body: Body, image: str, version: str) -> None:
    body["spec"]["containers"][0]["image"] = f"sim.kruise.io/{image}"
    body["metadata"].setdefault("labels", {})[CUSTOM_VERSION] = version


def _is_stored(c: Cluster) -> bool:
    """Tell whether the fields of v1alpha1 were stored as what they are in the stored version."""
    body = UserSidecars(c).body
    spec, labels = body.get("spec") or {}, (body.get("metadata") or {}).get("labels") or {}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    kept = (spec.get("namespace"), spec.get("namespaceSelector"), spec.get("customVersion"))
    return kept == (None, selector, "three") and CUSTOM_VERSION not in labels


def _informed(resource: str, name: str) -> Callable[[Cluster], bool]:
    """Return whether the client's watch has shown the last version of an object."""

    def look(c: Cluster) -> bool:
        stored = c.server.get(resource, name)
        shown = c.shown.get((OlderClient.name, name))
        return stored is not None and shown == str(stored["metadata"]["resourceVersion"])

    return look


def _both(*looks: Callable[[Cluster], bool]) -> Callable[[Cluster], bool]:
    return lambda c: all(look(c) for look in looks)


def _of(name: str, **more: Any) -> Workload:
    given: dict[str, Any] = {"nodes": 3, "once": False, "pods": True, "webhooks": True, "converts": True}
    return Workload(name, **{**given, **more})


VERSION_WORKLOADS: Final[dict[str, Workload]] = {
    one.name: one
    for one in (
        _of(
            "set-older-version",
            script=older_set,
            done=_both(set_arrived("app:v3"), _informed(SETS, "web")),
            end=sets_seen,
            writes=36,
        ),
        _of(
            "sidecar-older-version",
            script=older_sidecars,
            done=_both(sidecars_arrived("side:v3"), _is_stored, _informed(SIDECARSETS, "mesh")),
            end=sidecars_seen,
            writes=28,
        ),
    )
}
