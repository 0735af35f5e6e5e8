"""The pod webhook in a running manager: fed by its caches, counted, and told to authors of sets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kruise.apis.sidecarset import HASH_ANNOTATION
from kruise.features import resolve
from kruise.webhooks.counters import INJECTIONS
from kruise.webhooks.feed import Feed
from tests.unit.webhooks.test_webhook_setup import install, mesh, names, pod
from tests.unit.webhooks.webhooks_world import JSON, OWN, Decision, WebhookWorld, review, webhooks

SETS = "sidecarsets.apps.kruise.io"


async def create(world: WebhookWorld, obj: JSON | None = None, **more: Any) -> Decision:
    return await world.ask("/mutate-pod", obj or pod(), **more)


def events(world: WebhookWorld) -> list[tuple[str, str, str]]:
    """(set, reason, note) of every event."""
    return [
        (one["regarding"]["name"], one["reason"], one["note"])
        for one in world.server.list("events.events.k8s.io")
        if one["regarding"].get("kind") == "SidecarSet"
    ]


def test_sets_come_change_and_go() -> None:
    async def scenario(world: WebhookWorld) -> None:
        assert names((await create(world)).obj) == ["app"]
        await install(world, mesh())
        assert names((await create(world)).obj) == ["envoy", "app"]
        world.server.patch(SETS, "mesh", {"spec": {"injectionStrategy": {"paused": True}}})
        await world.clock.sleep(0.5)
        assert names((await create(world)).obj) == ["app"]
        world.server.patch(SETS, "mesh", {"spec": {"injectionStrategy": None}})
        await world.clock.sleep(0.5)
        assert names((await create(world)).obj) == ["envoy", "app"]
        world.server.delete(SETS, "mesh")
        await world.clock.sleep(0.5)
        assert names((await create(world)).obj) == ["app"]

    webhooks(scenario)


def test_labels_of_namespaces_select_as_they_are_now() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh(namespaceSelector={"matchLabels": {"mesh": "on"}}))
        assert names((await create(world)).obj) == ["app"]
        world.server.patch("namespaces", "shop", {"metadata": {"labels": {"mesh": "on"}}})
        await world.clock.sleep(0.5)
        assert names((await create(world)).obj) == ["envoy", "app"]
        world.server.patch("namespaces", "shop", {"metadata": {"labels": {"mesh": None}}})
        await world.clock.sleep(0.5)
        assert names((await create(world)).obj) == ["app"]

    webhooks(scenario)


def test_the_revision_that_is_noted_is_the_one_that_the_controller_made() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh())
        await world.clock.sleep(5)
        (revision,) = world.server.list("controllerrevisions.apps", OWN)
        done = await create(world)
        noted = json.loads(done.obj["metadata"]["annotations"][HASH_ANNOTATION])
        assert noted["mesh"]["controllerRevision"] == revision["metadata"]["name"]

    webhooks(scenario)


def test_a_pinned_revision_is_injected_and_one_that_is_gone_refuses_the_pod() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh())
        await world.clock.sleep(5)
        (revision,) = world.server.list("controllerrevisions.apps", OWN)
        name = revision["metadata"]["name"]
        pinned = {"revision": {"revisionName": name, "policy": "Always"}}
        new = {"containers": [{"name": "envoy", "image": "envoy:2"}], "injectionStrategy": pinned}
        world.server.patch(SETS, "mesh", {"spec": new})
        await world.clock.sleep(0.5)
        done = await create(world)
        assert done.obj["spec"]["containers"][0]["image"] == "envoy:1"
        world.server.patch(SETS, "mesh", {"spec": {"injectionStrategy": {"revision": {"revisionName": "gone"}}}})
        await world.clock.sleep(0.5)
        done = await create(world)
        assert (done.allowed, done.code) == (False, 400)
        assert 'SidecarSet mesh: controllerrevisions.apps "gone" not found' in done.message
        assert world.metric(INJECTIONS, result="refused", reason="PodRefused") == 1

    webhooks(scenario)


def test_a_status_compiles_nothing_anew() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh())
        await world.clock.sleep(5)
        feed = Feed(world.manager.cache, OWN)
        await world.clock.sleep(0.5)
        feed.pods_ready()
        feed.sets_ready()
        (before,) = feed.index.snapshot.sets
        snapshot = feed.index.snapshot
        status = {"status": {"matchedPods": 7, "latestRevision": _revision(world)}}
        world.server.patch(SETS, "mesh", status, subresource="status")
        world.server.patch("namespaces", "shop", {"metadata": {"annotations": {"a": "b"}}})
        await world.clock.sleep(0.1)
        assert feed.index.snapshot is snapshot
        world.server.patch(SETS, "mesh", {"spec": {"containers": [{"name": "envoy", "image": "envoy:2"}]}})
        await world.clock.sleep(0.1)
        (after,) = feed.index.snapshot.sets
        assert after.current is not before.current

    webhooks(scenario)


def test_plain_forms_of_sets_are_kept_until_they_change() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh("a"))
        await install(world, mesh("b"))
        await world.clock.sleep(5)
        feed = Feed(world.manager.cache, OWN)
        await world.clock.sleep(0.5)
        first = feed.surroundings(metadata_allowed=False).others
        again = feed.surroundings(metadata_allowed=True).others
        assert [one["metadata"]["name"] for one in first] == ["a", "b"]
        assert all(one is other for one, other in zip(first, again, strict=True))
        world.server.delete(SETS, "a")
        await world.clock.sleep(0.1)
        (left,) = feed.surroundings(metadata_allowed=False).others
        assert left is first[1]
        assert left["spec"]["containers"][0]["name"] == "envoy"
        assert left["apiVersion"] == "apps.kruise.io/v1beta1"

    webhooks(scenario)


def _revision(world: WebhookWorld) -> str:
    (one,) = world.server.list("controllerrevisions.apps", OWN)
    return str(one["metadata"]["name"])


def test_c9_a_set_that_pod_security_would_refuse_is_left_out_counted_and_told() -> None:
    async def scenario(world: WebhookWorld) -> None:
        enforce = {"pod-security.kubernetes.io/enforce": "baseline"}
        world.server.patch("namespaces", "shop", {"metadata": {"labels": enforce}})
        root = {"name": "root", "image": "r:1", "securityContext": {"privileged": True}}
        await install(world, mesh("bad", containers=[root]))
        await install(world, mesh("good"))
        for _ in range(3):
            done = await create(world)
            assert (done.allowed, names(done.obj)) == (True, ["envoy", "app"])
            assert len(done.warnings) == 1
            assert done.warnings[0].startswith("SidecarSet bad: ")
        assert world.metric(INJECTIONS, result="left_out", reason="PodSecurity") == 3
        assert world.metric(INJECTIONS, result="injected", reason="Injected") == 3
        await world.clock.sleep(5)
        told = [one for one in events(world) if one[1] == "PodSecurity"]
        assert told
        assert {one[0] for one in told} == {"bad"}
        assert told[0][2].startswith("a pod in shop: ")

    webhooks(scenario)


def test_c4_a_container_of_the_pod_that_gives_way_is_told_on_the_set() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh())
        body = pod()
        body["metadata"]["name"] = "web-0"
        body["spec"]["containers"].append({"name": "envoy", "image": "mine:1"})
        done = await create(world, body, dry_run=True)
        assert done.warnings == ["SidecarSet mesh: the pod's own container envoy gives way to the one of the set"]
        await world.clock.sleep(5)
        assert not [one for one in events(world) if one[1] == "ContainerReplaced"]  # a dry run leaves no trace
        done = await create(world, body)
        assert [one["image"] for one in done.obj["spec"]["containers"]] == ["app:1", "envoy:1"]
        await world.clock.sleep(5)
        (told,) = [one for one in events(world) if one[1] == "ContainerReplaced"]
        assert told[0] == "mesh"
        assert told[2].startswith("Pod shop/web-0: the pod's own container envoy")

    webhooks(scenario)


def test_c2_injecting_again_changes_nothing() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(
            world, mesh(containers=[{"name": "envoy", "image": "envoy:1"}, {"name": "log", "image": "log:1"}])
        )
        once = (await create(world)).obj
        await world.clock.sleep(3)
        assert (await create(world, once)).patch == []

    webhooks(scenario)


def test_an_unreadable_set_stops_no_other_one() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh("good"))
        bad = mesh("bad", containers=[{"name": "other", "image": "o:1", "env": 7}])
        world.server.create(SETS, bad)
        await world.clock.sleep(0.5)
        assert names((await create(world)).obj) == ["envoy", "app"]

    webhooks(scenario)


@pytest.mark.parametrize("settings", [{"custom_resource_enable": ("StatefulSet",)}, {"gates": None}])
def test_without_sidecarsets_or_the_gate_pods_start_as_they_are(settings: dict[str, Any]) -> None:
    if "gates" in settings:
        settings = {"gates": resolve([("PodWebhook", False)], {})[0]}

    async def scenario(world: WebhookWorld) -> None:
        world.server.create(SETS, mesh())
        await world.clock.sleep(0.5)
        done = await create(world)
        assert (done.allowed, done.patch) == (True, [])

    webhooks(scenario, **settings)


def test_a_cluster_without_the_definition_of_sidecarsets_starts_its_pods() -> None:
    async def scenario(world: WebhookWorld) -> None:
        world.server.delete("customresourcedefinitions.apiextensions.k8s.io", SETS)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(world.manager.run())
            await world.clock.sleep(10)
            done = await create(world)
            assert (done.status, done.allowed, done.patch) == (200, True, [])
            world.manager.stop()
            await task

    webhooks(scenario, running=False)


def test_the_order_of_names_is_a_gate() -> None:
    async def scenario(world: WebhookWorld) -> None:
        containers = [{"name": "z", "image": "z:1"}, {"name": "b", "image": "b:1"}]
        await install(world, mesh(containers=containers))
        assert names((await create(world)).obj) == ["b", "z", "app"]

    webhooks(scenario, gates=resolve([("EnableSortSidecarContainerByName", True)], {})[0])


def test_c8_what_is_no_pod_is_refused_or_no_review() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh(selector={"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}))
        for odd in ({"spec": 3}, {"metadata": {"labels": 1}}, {"spec": {"containers": [{"name": 1}]}}):
            done = await create(world, {"apiVersion": "v1", "kind": "Pod", "metadata": {}, **odd})
            assert done.status in (200, 400)
        for body in (b"", b"{}", b"[]", review(None), review(pod())[:-5], b"\xff"):
            reply = await world.call("/mutate-pod", body)
            assert reply.status in (200, 400)

    webhooks(scenario)


def test_a_manager_of_one_namespace_still_reads_the_revisions_of_its_own() -> None:
    async def scenario(world: WebhookWorld) -> None:
        await install(world, mesh())
        await world.clock.sleep(5)
        name = _revision(world)
        pinned = {"revision": {"revisionName": name, "policy": "Always"}}
        new = {"containers": [{"name": "envoy", "image": "envoy:2"}], "injectionStrategy": pinned}
        world.server.patch(SETS, "mesh", {"spec": new})
        await world.clock.sleep(0.5)
        assert (await create(world)).obj["spec"]["containers"][0]["image"] == "envoy:1"

    webhooks(scenario, namespace="shop")
