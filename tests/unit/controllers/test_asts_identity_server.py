"""The writes of identity against the embedded API server: every one is taken, and does what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kruise.apis.core import CLAIMS, PODS, Pod
from kruise.apis.revisiondata import revision_data
from kruise.apis.statefulset import StatefulSet
from kruise.controllers.common.revisions import Revision
from kruise.controllers.statefulset.claiming import Claiming, adoption_patch, decide, release_patch, selector_of
from kruise.controllers.statefulset.claims import (
    build_claim,
    claim_name,
    claim_templates,
    resize_patch,
    retention_patch,
)
from kruise.controllers.statefulset.pods import (
    build_pod,
    identity_matches,
    repair_patch,
    storage_matches,
    storage_patch,
)
from kruise.runtime.client.client import Client
from kruise.runtime.client.noop import PatchKind
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.errors import AlreadyExists, Conflict, Invalid
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.server import ApiServer
from tests.unit.controllers.asts_identity import NOW, TEMPLATE, a_set, claim_template

POD, CLAIM = Key("ns", "web-0"), Key("ns", "data-web-0")


class World:
    def __init__(self) -> None:
        clock, metrics = SystemClock(), Metrics(process=False)
        self.server = ApiServer(clock, Random(1))
        self.server.ensure_namespace("ns")
        rest = Rest(self.server.transport("manager"), clock=clock, rng=Random(1), metrics=metrics)
        self.client = Client(rest, metrics=metrics, clock=clock)
        self.revision = Revision("web-abc", 1, revision_data(TEMPLATE), None)

    async def create(self, sts: StatefulSet, ordinal: int = 0) -> Pod:
        templates = claim_templates(sts)
        for template in templates:
            await self.client.create(CLAIMS, build_claim(sts, template, ordinal))
        await self.client.create(PODS, build_pod(sts, self.revision, ordinal, claims=templates, now=NOW))
        return await self.pod(ordinal)

    async def pod(self, ordinal: int = 0) -> Pod:
        return await self.client.live.get(PODS, Key("ns", f"web-{ordinal}"))

    async def owners(self) -> list[str]:
        claim = await self.client.live.get(CLAIMS, CLAIM)
        return sorted(ref.uid for ref in claim.metadata.owner_references)

    async def retain(self, sts: StatefulSet, condemned: bool) -> bool:
        pod, claim = await self.pod(), await self.client.live.get(CLAIMS, CLAIM)
        patch = retention_patch(sts, pod, claim, condemned)
        if patch is not None:
            await self.client.patch(CLAIMS, claim, patch, kind=PatchKind.STRATEGIC)
        return patch is not None


@pytest.fixture
def world() -> World:
    return World()


async def test_s1_the_second_pod_of_an_ordinal_is_refused(world: World) -> None:
    sts = a_set(claim_template())
    pod = await world.create(sts)
    assert identity_matches(sts, pod)
    assert storage_matches(sts, pod, claim_templates(sts))
    assert decide(sts, selector_of(sts), pod) is Claiming.KEEP
    with pytest.raises(AlreadyExists):
        await world.client.create(PODS, build_pod(sts, world.revision, 0, claims=(), now=NOW))


async def test_s5_owners_of_a_claim_follow_the_policy_and_foreign_ones_stay(world: World) -> None:
    sts = a_set(claim_template(), policy=("Delete", "Delete"))
    pod = await world.create(sts)
    assert await world.owners() == ["set-uid"]
    assert not await world.retain(sts, condemned=False)
    foreign = {"apiVersion": "example.com/v1", "kind": "Backup", "name": "b", "uid": "b", "controller": True}
    world.server.edit(
        "persistentvolumeclaims", CLAIM.name, lambda body: body["metadata"]["ownerReferences"].append(foreign), "ns"
    )
    assert await world.retain(sts, condemned=True)
    assert await world.owners() == sorted(["b", pod.uid])
    assert await world.retain(sts, condemned=False)
    assert await world.owners() == ["b", "set-uid"]
    assert await world.retain(a_set(claim_template(), policy=("Retain", "Retain")), condemned=False)
    assert await world.owners() == ["b"]


async def test_rule_1_a_claim_that_changed_meanwhile_is_left_alone(world: World) -> None:
    sts = a_set(claim_template(), policy=("Retain", "Delete"))
    pod = await world.create(sts)
    stale = await world.client.live.get(CLAIMS, CLAIM)
    world.server.patch("persistentvolumeclaims", CLAIM.name, {"metadata": {"labels": {"x": "y"}}}, namespace="ns")
    patch = retention_patch(sts, pod, stale, condemned=True)
    assert patch is not None
    with pytest.raises(Conflict):
        await world.client.patch(CLAIMS, stale, patch, kind=PatchKind.STRATEGIC)
    assert await world.owners() == []


async def test_9_3_a_claim_grows(world: World) -> None:
    storage = {"metadata": {"name": "fast"}, "provisioner": "example.com/disk", "allowVolumeExpansion": True}
    world.server.create("storageclasses.storage.k8s.io", storage)
    await world.create(a_set(claim_template(storageClassName="fast")))
    world.server.patch(
        "persistentvolumeclaims", CLAIM.name, {"status": {"phase": "Bound"}}, namespace="ns", subresource="status"
    )
    sts = a_set(claim_template(size="20Gi", storageClassName="fast"))
    (template,) = claim_templates(sts)
    claim = await world.client.live.get(CLAIMS, CLAIM)
    patch = resize_patch(sts, template, claim)
    assert patch is not None
    await world.client.patch(CLAIMS, claim, patch, kind=PatchKind.STRATEGIC)
    grown = await world.client.live.get(CLAIMS, CLAIM)
    assert grown.spec.resources.requests == {"storage": "20Gi"}
    assert grown.spec.access_modes == ("ReadWriteOnce",)
    assert grown.metadata.annotations == {"apps.kruise.io/owned-by-asts": "web"}
    assert resize_patch(sts, template, grown) is None


async def test_release_and_adoption_with_the_uid_alone(world: World) -> None:
    sts = a_set()
    pod = await world.create(sts)
    await world.client.patch(PODS, pod, release_patch(sts), kind=PatchKind.STRATEGIC, uid_alone=True)
    orphan = await world.pod()
    assert decide(sts, selector_of(sts), orphan) is Claiming.ADOPT
    world.server.patch("pods", "web-0", {"metadata": {"labels": {"x": "y"}}}, namespace="ns")
    await world.client.patch(PODS, orphan, adoption_patch(sts), kind=PatchKind.STRATEGIC, uid_alone=True)
    assert decide(sts, selector_of(sts), await world.pod()) is Claiming.KEEP


@pytest.mark.parametrize("patch", [adoption_patch, release_patch])
async def test_rule_1_another_pod_of_the_name_is_neither_adopted_nor_released(
    world: World, patch: Callable[[StatefulSet], dict[str, Any]]
) -> None:
    sts = a_set()
    first = await world.create(sts)
    world.server.delete("pods", "web-0", namespace="ns")
    second = await world.create(sts)
    assert second.uid != first.uid
    await world.client.patch(PODS, second, release_patch(sts), kind=PatchKind.STRATEGIC, uid_alone=True)
    orphan = await world.pod()
    with pytest.raises(Conflict):
        await world.client.patch(PODS, first, patch(a_set(uid="newer")), kind=PatchKind.STRATEGIC, uid_alone=True)
    assert await world.pod() == orphan


async def test_2_6_labels_are_repaired_and_volumes_are_refused_apart_from_them(world: World) -> None:
    await world.create(a_set())
    world.server.patch(
        "pods", "web-0", {"metadata": {"labels": {"statefulset.kubernetes.io/pod-name": None}}}, namespace="ns"
    )
    sts = a_set(claim_template())
    pod, templates = await world.pod(), claim_templates(sts)
    labels, volumes = repair_patch(sts, pod), storage_patch(sts, pod, templates)
    assert labels is not None
    assert volumes is not None
    assert claim_name(templates[0], "web", 0) == CLAIM.name
    with pytest.raises(Invalid):
        await world.client.patch(PODS, pod, volumes.patch, kind=PatchKind.STRATEGIC)
    await world.client.patch(PODS, pod, labels.patch, kind=PatchKind.STRATEGIC)
    assert identity_matches(sts, await world.pod())
