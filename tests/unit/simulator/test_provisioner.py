"""Volumes for claims: the pure plan, and the loop around it against the embedded API server."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest

from kruise.runtime.client.rest import Rest
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import ObjectMeta
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.provisioner import (
    FILESYSTEM_RESIZE,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    Action,
    Provisioner,
    SimClaim,
    SimStorageClass,
    SimVolume,
    plan,
)

NOW = 1_700_000_000.0


def storage(**more: Any) -> SimStorageClass:
    return SimStorageClass(metadata=ObjectMeta(name="sim"), provisioner=PROVISIONER, **more)


def claim(
    size: str = "1Gi", *, status: dict[str, Any] | None = None, annotations: dict[str, str] | None = None, **spec: Any
) -> SimClaim:
    body = {
        "storageClassName": "sim",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
        **spec,
    }
    meta = ObjectMeta(name="data", namespace="default", uid="u1", annotations=annotations or {})
    return SimClaim(metadata=meta, spec=body, status=status or {"phase": "Pending"})


def volume(size: str = "1Gi", phase: str = "Bound", *, policy: str = "Delete", uid: str = "u1") -> SimVolume:
    return SimVolume(
        metadata=ObjectMeta(name=f"pvc-{uid}", uid="v1", annotations={PROVISIONED_BY: PROVISIONER}),
        spec={
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "claimRef": {"uid": uid},
            "persistentVolumeReclaimPolicy": policy,
        },
        status={"phase": phase},
    )


def bound(size: str = "1Gi", have: str = "1Gi", **more: Any) -> SimClaim:
    status = {"phase": "Bound", "capacity": {"storage": have}, **more.pop("status", {})}
    return claim(size, volumeName="pvc-u1", status=status, **more)


def planned(
    *claims: SimClaim, kind: SimStorageClass | None = None, volumes: tuple[SimVolume, ...] = (), bind: bool = False
) -> list[Action]:
    classes = {"sim": kind if kind is not None else storage()}
    return plan(claims, classes, {v.metadata.name: v for v in volumes}, bind=bind, now=NOW)


def body(action: Action) -> Any:
    return orjson.loads(action.body)


def test_a_claim_gets_a_volume_of_its_own() -> None:
    (made,) = planned(claim("5Gi"))
    assert made.verb == "create" and made.name == "pvc-u1"
    spec = body(made)["spec"]
    assert spec["capacity"] == {"storage": "5Gi"}
    assert spec["claimRef"]["uid"] == "u1" and spec["claimRef"]["name"] == "data"
    assert spec["persistentVolumeReclaimPolicy"] == "Delete"
    assert body(made)["metadata"]["annotations"] == {PROVISIONED_BY: PROVISIONER}


def test_nothing_is_made_twice_or_for_others() -> None:
    assert planned(claim(), volumes=(volume(phase="Available"),)) == []
    assert planned(claim(storageClassName="other")) == []
    assert planned(claim(), kind=SimStorageClass(metadata=ObjectMeta(name="sim"), provisioner="x")) == []
    going = claim()
    going = SimClaim(
        metadata=ObjectMeta(name="data", namespace="default", uid="u1", deletion_timestamp="2026-01-01T00:00:00Z"),
        spec=going.spec,
        status=going.status,
    )
    assert planned(going) == []


def test_waiting_for_the_first_consumer() -> None:
    lazy = storage(volume_binding_mode="WaitForFirstConsumer")
    assert planned(claim(), kind=lazy) == []
    assert len(planned(claim(annotations={SELECTED_NODE: "node-1"}), kind=lazy)) == 1


def test_binding_is_left_to_the_controller_manager_unless_told() -> None:
    fresh = (volume(phase="Available"),)
    assert planned(claim(), volumes=fresh) == []
    actions = planned(claim(), volumes=fresh, bind=True)
    assert [(a.verb, a.resource.plural, a.subresource) for a in actions] == [
        ("patch", "persistentvolumeclaims", ""),
        ("patch", "persistentvolumeclaims", "status"),
        ("patch", "persistentvolumes", "status"),
    ]
    assert body(actions[0])["spec"] == {"volumeName": "pvc-u1"}
    stranger = volume(phase="Available", uid="u2")
    stranger = SimVolume(
        metadata=ObjectMeta(name="pvc-u1", annotations={PROVISIONED_BY: PROVISIONER}),
        spec=stranger.spec,
        status={"phase": "Bound"},
    )
    assert planned(claim(), volumes=(stranger,)) == []


def test_expansion_goes_volume_first_then_claim() -> None:
    grows = storage(allow_volume_expansion=True)
    (first,) = planned(bound("2Gi"), kind=grows, volumes=(volume("1Gi"),))
    assert first.resource.plural == "persistentvolumes"
    assert body(first) == {"spec": {"capacity": {"storage": "2Gi"}}}
    (second,) = planned(bound("2Gi"), kind=grows, volumes=(volume("2Gi"),))
    assert second.subresource == "status" and body(second) == {"status": {"capacity": {"storage": "2Gi"}}}
    assert planned(bound("2Gi", "2Gi"), kind=grows, volumes=(volume("2Gi"),)) == []


@pytest.mark.parametrize(("asked", "kind"), [("2Gi", storage()), ("1Gi", storage(allow_volume_expansion=True))])
def test_no_expansion_without_leave_and_no_shrinking(asked: str, kind: SimStorageClass) -> None:
    assert planned(bound(asked), kind=kind, volumes=(volume("1Gi"),)) == []
    assert planned(bound("1Gi", "4Gi"), kind=kind, volumes=(volume("4Gi"),)) == []


def test_a_file_system_that_waits_for_its_node() -> None:
    grows = storage(allow_volume_expansion=True)
    waiting = bound("2Gi", annotations={FILESYSTEM_RESIZE: "pending"})
    (action,) = planned(waiting, kind=grows, volumes=(volume("2Gi"),))
    (condition,) = body(action)["status"]["conditions"]
    assert condition["type"] == "FileSystemResizePending" and condition["status"] == "True"
    said = {"conditions": [condition]}
    again = bound("2Gi", annotations={FILESYSTEM_RESIZE: "pending"}, status=said)
    assert planned(again, kind=grows, volumes=(volume("2Gi"),)) == []
    (done,) = planned(bound("2Gi", status=said), kind=grows, volumes=(volume("2Gi"),))
    assert body(done) == {"status": {"capacity": {"storage": "2Gi"}, "conditions": None}}


def test_reclaim() -> None:
    (gone,) = planned(volumes=(volume(phase="Released"),))
    assert gone.verb == "delete" and body(gone) == {"preconditions": {"uid": "v1"}}
    assert planned(volumes=(volume(phase="Released", policy="Retain"),)) == []
    assert planned(volumes=(volume(phase="Bound"),)) == []  # the controller manager releases it
    assert planned(volumes=(volume(phase="Bound"),), bind=True)[0].verb == "delete"
    (released,) = planned(volumes=(volume(phase="Bound", policy="Retain"),), bind=True)
    assert body(released) == {"status": {"phase": "Released"}}
    foreign = SimVolume(metadata=ObjectMeta(name="x"), spec=volume().spec, status={"phase": "Released"})
    assert planned(volumes=(foreign,)) == []


def test_from_claim_to_volume_and_back_on_a_server_without_a_controller_manager() -> None:
    async def main(clock: VirtualClock) -> None:
        server = ApiServer(clock, random.Random(1))
        rng, metrics = random.Random(2), Metrics(process=False)
        rest = Rest(server.transport("provisioner"), clock=clock, rng=rng, metrics=metrics)
        provisioner = Provisioner(rest, clock=clock, rng=rng, metrics=metrics, bind=True)

        def claims() -> dict[str, Any]:
            found = server.get("persistentvolumeclaims", "data")
            assert found is not None
            return found

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(provisioner.run())
            server.create(
                "storageclasses.storage.k8s.io",
                {"metadata": {"name": "sim"}, "provisioner": PROVISIONER, "allowVolumeExpansion": True},
            )
            spec = claim("1Gi").spec
            server.create(
                "persistentvolumeclaims", {"metadata": {"name": "data", "namespace": "default"}, "spec": spec}
            )
            await eventually(lambda: claims()["status"].get("phase") == "Bound", clock)
            assert claims()["status"]["capacity"] == {"storage": "1Gi"}
            bigger = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
            server.patch("persistentvolumeclaims", "data", bigger)
            await eventually(lambda: claims()["status"]["capacity"] == {"storage": "3Gi"}, clock)
            await clock.sleep(60)
            quiet = len(server.log.writes(actor="provisioner"))
            await clock.sleep(3600)
            assert len(server.log.writes(actor="provisioner")) == quiet
            server.patch("persistentvolumeclaims", "data", {"metadata": {"finalizers": None}})
            server.delete("persistentvolumeclaims", "data")
            await eventually(lambda: server.list("persistentvolumes") == [], clock)
            task.cancel()

    run_virtual(main)
