"""Volumes for claims: created, bound, expanded, reclaimed.

Purpose: StatefulSets with volume claim templates need somebody who makes volumes. A StorageClass whose provisioner is
``sim.kruise.io/provisioner`` gets them here, in a real cluster and in the embedded one.

Guarantees:

* :func:`plan` is pure: from what is there to what is missing; a plan of its own result is empty.
* One volume per claim uid: a claim that is deleted and created again gets a new volume.
* With ``WaitForFirstConsumer`` nothing is made before the scheduler has chosen a node.
* A volume grows when its class allows it and never shrinks. A claim (or class) with the annotation
  ``sim.kruise.io/filesystem-resize: pending`` stops at FileSystemResizePending until the annotation goes.

What this does not do: it binds nothing on an API server with a controller manager, which does that itself (``bind``
is for those without); no snapshots, no data, no topology.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from kruise.runtime.cache.cache import Cache
from kruise.runtime.cache.store import Change
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock, Random, format_time
from kruise.runtime.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    NotFound,
    SyncTimeout,
    TransportError,
    UnknownOutcome,
)
from kruise.runtime.log import get_logger
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, Resource
from kruise.simulator.behaviour import DOMAIN
from kruise.simulator.kubelet_admission import amount
from kruise.simulator.node_keeper import MERGE

log = get_logger("provisioner")

PROVISIONER: Final = f"{DOMAIN}/provisioner"
DRIVER: Final = DOMAIN
FILESYSTEM_RESIZE: Final = f"{DOMAIN}/filesystem-resize"
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
RETRY: Final = 1.0
REPEAT_AFTER: Final = 5.0
"""Seconds until an action that was done and does not show is done again: the watch may be behind."""


class SimClaim(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A PersistentVolumeClaim."""

    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    status: dict[str, Any] = msgspec.field(default_factory=dict)


class SimVolume(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A PersistentVolume."""

    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    status: dict[str, Any] = msgspec.field(default_factory=dict)


class SimStorageClass(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A StorageClass."""

    provisioner: str = ""
    reclaim_policy: str = "Delete"
    volume_binding_mode: str = "Immediate"
    allow_volume_expansion: bool = False


SIM_CLAIMS: Final = Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", SimClaim)
SIM_VOLUMES: Final = Resource("", "v1", "PersistentVolume", "persistentvolumes", SimVolume, namespaced=False)
SIM_CLASSES: Final = Resource(
    "storage.k8s.io", "v1", "StorageClass", "storageclasses", SimStorageClass, namespaced=False
)
CSI_DRIVERS: Final = Resource("storage.k8s.io", "v1", "CSIDriver", "csidrivers", Object, namespaced=False)


@dataclass(frozen=True, slots=True)
class Action:
    """One request. Equal actions do the same."""

    verb: str
    """create, patch or delete."""
    resource: Resource[Any]
    namespace: str
    name: str
    subresource: str = ""
    body: bytes = b""


def plan(
    claims: Iterable[SimClaim],
    classes: Mapping[str, SimStorageClass],
    volumes: Mapping[str, SimVolume],
    *,
    bind: bool,
    now: float,
) -> list[Action]:
    """Return what is missing, in an order in which it can be done."""
    actions: list[Action] = []
    alive = set()
    for claim in claims:
        alive.add(claim.uid)
        storage = classes.get(claim.spec.get("storageClassName") or "")
        if storage is None or storage.provisioner != PROVISIONER or claim.terminating:
            continue
        bound = claim.spec.get("volumeName") or ""
        volume = volumes.get(bound or f"pvc-{claim.uid}")
        if volume is None:
            if not bound and _wanted_now(claim, storage):
                actions.append(_create(claim, storage))
        elif bind and claim.status.get("phase") != "Bound":
            actions += _bind(claim, volume)
        elif claim.status.get("phase") == "Bound" and _ours(volume):
            actions += _expand(claim, storage, volume, now)
    for volume in volumes.values():
        if _ours(volume) and not volume.terminating:
            actions += _reclaim(volume, alive, bind=bind)
    return actions


def _ours(volume: SimVolume) -> bool:
    return volume.metadata.annotations.get(PROVISIONED_BY) == PROVISIONER


def _wanted_now(claim: SimClaim, storage: SimStorageClass) -> bool:
    return storage.volume_binding_mode != "WaitForFirstConsumer" or SELECTED_NODE in claim.metadata.annotations


def _asked(claim: SimClaim) -> Any:
    return ((claim.spec.get("resources") or {}).get("requests") or {}).get("storage") or "1Gi"


def _patch(resource: Resource[Any], obj: Object, body: Any, subresource: str = "") -> Action:
    meta = obj.metadata
    return Action("patch", resource, meta.namespace, meta.name, subresource, orjson.dumps(body))


def _create(claim: SimClaim, storage: SimStorageClass) -> Action:
    name = f"pvc-{claim.uid}"
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": _asked(claim)},
            "accessModes": claim.spec.get("accessModes") or ["ReadWriteOnce"],
            "volumeMode": claim.spec.get("volumeMode") or "Filesystem",
            "persistentVolumeReclaimPolicy": storage.reclaim_policy,
            "storageClassName": storage.metadata.name,
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.metadata.namespace,
                "name": claim.metadata.name,
                "uid": claim.uid,
            },
            "csi": {"driver": DRIVER, "volumeHandle": name},
        },
    }
    return Action("create", SIM_VOLUMES, "", name, "", orjson.dumps(body))


def _bind(claim: SimClaim, volume: SimVolume) -> list[Action]:
    if (volume.spec.get("claimRef") or {}).get("uid") != claim.uid:
        return []
    actions = []
    if not claim.spec.get("volumeName"):
        change = {
            "metadata": {"annotations": {BIND_COMPLETED: "yes"}},
            "spec": {"volumeName": volume.metadata.name},
        }
        actions.append(_patch(SIM_CLAIMS, claim, change))
    status = {
        "phase": "Bound",
        "accessModes": volume.spec.get("accessModes"),
        "capacity": volume.spec.get("capacity"),
    }
    actions.append(_patch(SIM_CLAIMS, claim, {"status": status}, "status"))
    if volume.status.get("phase") != "Bound":
        actions.append(_patch(SIM_VOLUMES, volume, {"status": {"phase": "Bound"}}, "status"))
    return actions


def _expand(claim: SimClaim, storage: SimStorageClass, volume: SimVolume, now: float) -> list[Action]:
    asked = _asked(claim)
    have = (volume.spec.get("capacity") or {}).get("storage")
    if amount(have) < amount(asked):
        if not storage.allow_volume_expansion:
            return []
        return [_patch(SIM_VOLUMES, volume, {"spec": {"capacity": {"storage": asked}}})]
    known = (claim.status.get("capacity") or {}).get("storage")
    if amount(known) >= amount(asked):
        return []
    conditions = claim.status.get("conditions") or []
    waits = any(c.get("type") == "FileSystemResizePending" for c in conditions)
    if "pending" in (
        claim.metadata.annotations.get(FILESYSTEM_RESIZE),
        storage.metadata.annotations.get(FILESYSTEM_RESIZE),
    ):
        if waits:
            return []
        pending = {
            "type": "FileSystemResizePending",
            "status": "True",
            "lastTransitionTime": format_time(now),
            "message": "Waiting for the file system to be resized on the node.",
        }
        return [_patch(SIM_CLAIMS, claim, {"status": {"conditions": [pending]}}, "status")]
    status: dict[str, Any] = {"capacity": {"storage": have}}
    if conditions:
        status["conditions"] = None
    return [_patch(SIM_CLAIMS, claim, {"status": status}, "status")]


def _reclaim(volume: SimVolume, alive: set[str], *, bind: bool) -> list[Action]:
    phase = volume.status.get("phase")
    if bind and phase in ("Bound", None, "", "Pending", "Available"):
        if (volume.spec.get("claimRef") or {}).get("uid") in alive:
            return []
        phase = "Released"
        if volume.spec.get("persistentVolumeReclaimPolicy") != "Delete":
            return [_patch(SIM_VOLUMES, volume, {"status": {"phase": "Released"}}, "status")]
    if phase == "Released" and volume.spec.get("persistentVolumeReclaimPolicy") == "Delete":
        body = orjson.dumps({"preconditions": {"uid": volume.uid}})
        return [Action("delete", SIM_VOLUMES, "", volume.metadata.name, "", body)]
    return []


class Provisioner:
    """Watches claims, volumes and classes, and does what :func:`plan` says."""

    def __init__(self, rest: Rest, *, clock: Clock, rng: Random, metrics: Metrics, bind: bool = False) -> None:
        self._rest = rest.named("provisioner", windowed=False)
        self._clock = clock
        self._bind = bind
        self.cache = Cache(self._rest, clock=clock, rng=rng, metrics=metrics)
        self._changed = asyncio.Event()
        self._done: dict[Action, float] = {}
        self.cache.watch(SIM_CLAIMS).add_handler(self._wake)
        self.cache.watch(SIM_VOLUMES).add_handler(self._wake)
        self.cache.watch(SIM_CLASSES).add_handler(self._wake)

    def _wake(self, _: Change[Any]) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Provision until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.cache.run(), name="cache")
            while True:
                try:
                    await self.cache.wait_synced()
                    break
                except SyncTimeout as error:
                    log.warning("no volumes are provisioned yet", error=str(error))
            await self._announce()
            while True:
                # Cleared first: a change that comes while requests are under way is looked at afterwards.
                self._changed.clear()
                if not await self._once():
                    await self._clock.sleep(RETRY)
                else:
                    await self._changed.wait()

    async def _announce(self) -> None:
        """Say that our volumes need no attaching: else every one of them waits for a driver that does it."""
        body = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": DRIVER},
            "spec": {"attachRequired": False, "podInfoOnMount": False},
        }
        try:
            await self._rest.call("create", "POST", CSI_DRIVERS, body=orjson.dumps(body))
        except (AlreadyExists, NotFound):
            pass  # there already, or an embedded server that knows no drivers and attaches nothing
        except (ApiError, TransportError, UnknownOutcome) as error:
            log.warning("csi driver not announced", error=str(error))

    async def _once(self) -> bool:
        store = self.cache.store
        now = self._clock.monotonic()
        self._done = {action: at for action, at in self._done.items() if now - at < REPEAT_AFTER}
        actions = plan(
            store(SIM_CLAIMS).list(),
            {c.metadata.name: c for c in store(SIM_CLASSES).list()},
            {v.metadata.name: v for v in store(SIM_VOLUMES).list()},
            bind=self._bind,
            now=self._clock.now(),
        )
        good = True
        for action in actions:
            # What was done a moment ago may be due again, for another claim of the same name: it is looked at later.
            done = action not in self._done and await self._do(action)
            good = good and done
        return good

    async def _do(self, action: Action) -> bool:
        method = {"create": "POST", "patch": "PATCH", "delete": "DELETE"}[action.verb]
        try:
            await self._rest.call(
                action.verb,
                method,
                action.resource,
                namespace=action.namespace,
                name="" if action.verb == "create" else action.name,
                subresource=action.subresource,
                body=action.body,
                content_type=MERGE if action.verb == "patch" else "application/json",
            )
        except (AlreadyExists, NotFound, Conflict):
            pass  # the watch will say what is there instead
        except (ApiError, TransportError, UnknownOutcome) as error:
            log.warning("volume not provisioned", what=action.verb, name=action.name, error=str(error))
            return False
        self._done[action] = self._clock.monotonic()
        return True
