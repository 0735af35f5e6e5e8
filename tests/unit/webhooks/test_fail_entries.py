"""The webhooks of components/webhook-fail: what they are made of, who keeps one, and when they are written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from kruise.apis import labels
from kruise.controllers.sidecarset.match import Matcher
from kruise.runtime.errors import Refused
from kruise.runtime.manager.http import Call
from kruise.runtime.webhook.targets import blocks
from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.apiserver.webhooks import Answer, Target
from kruise.webhooks import fail_entries
from kruise.webhooks.certificates import FAIL, MUTATING
from kruise.webhooks.fail_entries import GENERAL, Waiting, entries, entry, entry_name, merged
from kruise.webhooks.fail_keeper import LABEL
from tests.unit.hack.test_webhook_manifests import PODS
from tests.unit.webhooks.test_webhook_certificates import CONFIG, MUTATINGS
from tests.unit.webhooks.test_webhook_setup import install, mesh, names
from tests.unit.webhooks.test_webhook_setup import pod as a_pod
from tests.unit.webhooks.webhooks_world import HEADERS, JSON, OWN, WebhookWorld, options, webhooks

MANIFEST = CONFIG / "webhook" / "mutating_fail.yaml"


def a_set(name: str, **selector: Any) -> Waiting:
    return Waiting(name, Matcher.of({"selector": {"matchLabels": selector or {"app": "web"}}}))


def test_an_entry_is_the_general_one_for_fewer_pods() -> None:
    found = entry(PODS, a_set("mesh", app="web"), OWN)
    assert found is not None
    narrowed = {"name", "failurePolicy", "namespaceSelector", "objectSelector", "matchConditions"}
    assert {k: v for k, v in found.items() if k not in narrowed} == {k: v for k, v in PODS.items() if k not in narrowed}
    assert (found["name"], found["failurePolicy"]) == ("mesh.mpod.kb.io", "Fail")
    assert found["namespaceSelector"] == PODS["namespaceSelector"]
    assert found["objectSelector"]["matchExpressions"] == [
        *PODS["objectSelector"]["matchExpressions"],
        {"key": "app", "operator": "In", "values": ["web"]},
    ]
    assert found["matchConditions"][:-1] == PODS["matchConditions"]
    assert blocks(found, OWN, {"kubernetes.io/metadata.name": OWN}) is None  # WEB9


@pytest.mark.parametrize("name", ["a", "mesh.v2", "x" * 242, "x" * 253, f"{'y' * 220}.{'z' * 30}"])
def test_every_name_of_a_set_makes_a_name_that_the_server_takes(name: str) -> None:
    made = entry_name(name)
    assert len(made) <= 253
    assert not labels.dns1123_subdomain(made)
    assert made != entry_name(f"{name[:-1]}0")


def test_where_there_is_no_room_who_has_an_entry_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fail_entries, "MAX_ENTRIES", 2)
    sets = [a_set(name) for name in ("a", "b", "c")]
    assert entries(PODS, sets, OWN).left_out == ("c",)
    kept = entries(PODS, sets, OWN, present={entry_name("c")})
    assert kept.left_out == ("b",)
    assert [one["name"] for one in kept.webhooks] == [entry_name("a"), entry_name("c")]
    monkeypatch.setattr(fail_entries, "MAX_BYTES", 100)
    assert entries(PODS, sets, OWN).left_out == ("a", "b", "c")


def test_unknown_fields_stay_and_entries_of_others_go() -> None:
    wanted = [{"name": "a", "failurePolicy": "Fail"}]
    live = [{"name": "b"}, {"name": "a", "failurePolicy": "Ignore", "fromTomorrow": 1}]
    assert merged(live, wanted) == [{"name": "a", "failurePolicy": "Fail", "fromTomorrow": 1}]


# ---- the keeper, over an API server in memory ------------------------------------------------------------------------


class Cluster:
    """A world with the shipped configurations, whose API server calls the manager, or nobody."""

    def __init__(self, world: WebhookWorld, *, chosen: bool = True) -> None:
        self.world, self.server, self.clock = world, world.server, world.clock
        self.down = False
        self.asked: list[str] = []
        self.server.caller = self
        self.server.ensure_namespace("kube-system")
        general = yaml.safe_load((CONFIG / "webhook" / "mutating.yaml").read_text())
        general["webhooks"] = [one for one in general["webhooks"] if one["name"] == GENERAL]
        self.server.create(MUTATINGS, general)
        self.server.create(MUTATINGS, yaml.safe_load(MANIFEST.read_text()))
        if chosen:
            self.choose("Fail")

    def choose(self, policy: str | None) -> None:
        self.server.patch(MUTATINGS, FAIL, {"metadata": {"labels": {LABEL: policy}}}, actor="user")

    async def __call__(self, target: Target, body: bytes, seconds: float) -> Answer:
        self.asked.append(target.path)
        if self.down:
            raise Refused("connection refused")
        assert self.world.manager.webhooks is not None
        reply = await self.world.manager.webhooks.answer(Call("POST", target.path, headers=HEADERS, body=body))
        return Answer(reply.status, reply.body, reply.content_type)

    def hooks(self) -> list[JSON]:
        found = self.server.get(MUTATINGS, FAIL)
        return list((found or {}).get("webhooks") or ())

    def writes(self) -> int:
        calls = [one for one in self.server.log.calls if one.method == "PATCH" and FAIL in one.path]
        return len([one for one in calls if one.actor != "user"])

    async def create(self, namespace: str = "shop", **more: str) -> list[str]:
        """Create a pod; return its containers."""
        made = await self.server.ask("POST", f"/api/v1/namespaces/{namespace}/pods", a_pod(namespace, **more))
        return names(made)

    async def waits(self, **more: str) -> bool:
        with contextlib.suppress(Failure):
            await self.create(**more)
            return False
        return True


def scene(play: Callable[[Cluster], Any], *, chosen: bool = True) -> None:
    async def scenario(world: WebhookWorld) -> None:
        cluster = Cluster(world, chosen=chosen)
        await world.clock.sleep(65.0)
        await play(cluster)

    webhooks(scenario)


def test_c11_only_pods_that_a_set_selects_wait() -> None:
    pytest.importorskip("cel")

    async def play(one: Cluster) -> None:
        assert await one.create() == ["app"]
        await install(one.world, mesh())
        await one.clock.sleep(2.0)
        one.down = True
        assert await one.waits()
        assert await one.create(app="another") == ["app"]
        assert await one.create("kube-system") == ["app"]
        assert await one.create(**{"apps.kruise.io/sidecarset-injection": "disabled"}) == ["app"]
        one.down = False
        one.asked.clear()
        assert await one.create() == ["envoy", "app"]
        assert one.asked == ["/mutate-pod"], "who has been answered for is not asked about again"

    scene(play)


def test_where_the_general_webhook_gets_no_answer_the_entry_injects() -> None:
    pytest.importorskip("cel")

    async def play(one: Cluster) -> None:
        await install(one.world, mesh())
        await one.clock.sleep(2.0)
        served, first = one.__call__, [True]

        async def once_down(target: Target, body: bytes, seconds: float) -> Answer:
            one.down, first[0] = first[0], False
            return await served(target, body, seconds)

        one.server.caller = once_down
        assert await one.create() == ["envoy", "app"]

    scene(play)


def test_one_write_for_what_changes_together_and_none_when_nothing_does() -> None:
    async def play(one: Cluster) -> None:
        assert one.writes() == 0
        for number in range(5):
            body = mesh(f"mesh-{number}", selector={"matchLabels": {"app": f"app-{number}"}})
            body["spec"]["containers"][0]["name"] = f"envoy-{number}"
            done = await one.world.ask("/mutate-apps-kruise-io-sidecarset", body)
            one.server.create("sidecarsets.apps.kruise.io", done.obj)
        await one.clock.sleep(2.0)
        assert [hook["name"] for hook in one.hooks()] == [entry_name(f"mesh-{number}") for number in range(5)]
        assert one.writes() == 1
        await one.clock.sleep(600.0)
        one.server.patch("sidecarsets.apps.kruise.io", "mesh-0", {"metadata": {"annotations": {"x": "y"}}})
        await one.clock.sleep(600.0)
        assert one.writes() == 1
        assert one.world.metric("kruise_sidecarset_fail_entries", state="kept") == 5
        paused = {"spec": {"injectionStrategy": {"paused": True}}}
        one.server.patch("sidecarsets.apps.kruise.io", "mesh-1", paused)
        await one.clock.sleep(2.0)
        one.server.delete("sidecarsets.apps.kruise.io", "mesh-2")
        await one.clock.sleep(2.0)
        assert [hook["name"] for hook in one.hooks()] == [entry_name(f"mesh-{number}") for number in (0, 3, 4)]
        assert one.writes() == 3

    scene(play)


def test_what_a_stranger_does_is_put_right_and_the_general_one_is_followed() -> None:
    async def play(one: Cluster) -> None:
        await install(one.world, mesh())
        await one.clock.sleep(2.0)
        right = one.hooks()

        def spoil(body: JSON) -> None:
            body["webhooks"][0]["objectSelector"] = {}
            body["webhooks"].append({**body["webhooks"][0], "name": "more.than.ours"})

        one.server.edit(MUTATINGS, FAIL, spoil)
        await one.clock.sleep(65.0)
        assert one.hooks() == right
        one.server.edit(MUTATINGS, MUTATING, lambda body: body["webhooks"][0].update(timeoutSeconds=3))
        await one.clock.sleep(65.0)
        assert one.hooks() == [{**right[0], "timeoutSeconds": 3}]
        general = one.server.get(MUTATINGS, MUTATING)
        assert general is not None and general["webhooks"][0]["failurePolicy"] == "Ignore"
        one.server.delete(MUTATINGS, MUTATING)
        await one.clock.sleep(120.0)
        assert one.hooks() == [{**right[0], "timeoutSeconds": 3}], "nobody knows what to copy"

    scene(play)


def test_the_setting_is_a_label_that_may_come_and_go() -> None:
    async def play(one: Cluster) -> None:
        await install(one.world, mesh())
        await one.clock.sleep(120.0)
        assert (one.hooks(), one.writes()) == ([], 0)
        one.choose("Fail")
        await one.clock.sleep(65.0)
        assert [hook["name"] for hook in one.hooks()] == [entry_name("mesh")]
        one.choose(None)
        await one.clock.sleep(65.0)
        assert one.hooks() == []
        one.server.delete(MUTATINGS, FAIL)
        await one.clock.sleep(65.0)
        assert one.server.get(MUTATINGS, FAIL) is None
        assert one.world.metric("kruise_sidecarset_fail_entries", state="kept") == 0

    scene(play, chosen=False)


def test_a_set_without_room_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fail_entries, "MAX_ENTRIES", 0)

    async def play(one: Cluster) -> None:
        await install(one.world, mesh())
        await one.clock.sleep(200.0)
        assert one.hooks() == []
        assert one.world.metric("kruise_sidecarset_fail_entries", state="left_out") == 1
        told = [e for e in one.server.list("events.events.k8s.io") if e["reason"] == "PodsDoNotWait"]
        assert [e["regarding"]["name"] for e in told] == ["mesh"]

    scene(play)


def test_nothing_is_written_before_the_sets_are_known() -> None:
    async def play(one: Cluster) -> None:
        await install(one.world, mesh())
        await one.clock.sleep(2.0)
        before = one.hooks()
        assert before
        successor = WebhookWorld(one.clock, options(), server=one.server)
        one.world.manager.stop()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(successor.manager.run())
            await successor.ready()
            await one.clock.sleep(90.0)
            assert one.hooks() == before
            assert one.writes() == 1
            successor.manager.stop()
            await task

    scene(play)
