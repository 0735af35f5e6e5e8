"""The configurations that send the API server to us."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.runtime.webhook.targets import Reach, Target, TargetKind, Targets, blocks
from tests.unit.webhook.webhook_world import CRD, DEFINITIONS, MUTATING, NAME, NAMESPACE, TARGETS, World

SERVICE = Reach(NAMESPACE, "kruise-webhook-service")
URL = Reach(NAMESPACE, "kruise-webhook-service", url="https://laptop.example:9876")
PEM = b"-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"


def targets(world: World, reach: Reach = SERVICE, which: tuple[Target, ...] = TARGETS) -> Targets:
    return Targets(world.client("manager"), which, reach)


def writes(world: World) -> list[tuple[str, str]]:
    return [(c.resource, c.key.name) for c in world.server.commits(actor="manager")]


def test_crt2_exactly_the_named_objects_get_the_bundle() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        others = world.server.get(MUTATING, "of-others")
        before = world.configs()
        seen = await targets(world).look(PEM, write=True)
        assert (seen.right, seen.bundles, seen.problems) == (True, (PEM,), ())
        assert world.bundles() == [PEM] * 4
        assert [one["service"] for one in world.configs()] == [one["service"] for one in before]
        assert world.server.get(MUTATING, "of-others") == others
        assert len(world.server.commits(actor="manager")) == 3

    run_virtual(main)


def test_crt2_what_is_right_is_not_written_again() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        await targets(world).look(PEM, write=True)
        for _ in range(3):
            assert (await targets(world).look(PEM, write=True)).right
        assert len(world.server.commits(actor="manager")) == 3

    run_virtual(main)


def test_crt4_a_reader_writes_nothing_and_sees_what_is_there() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        seen = await targets(world).look(PEM, write=False)
        assert (seen.right, seen.bundles) == (False, (b"",))
        assert not world.server.commits(actor="manager")
        await targets(world).look(PEM, write=True)
        assert (await targets(world).look(None, write=False)).bundles == (PEM,)

    run_virtual(main)


def test_crt2_a_url_takes_the_place_of_the_service_and_back() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        await targets(world, URL).look(PEM, write=True)
        encoded = base64.b64encode(PEM).decode()
        assert world.configs() == [
            {"url": f"https://laptop.example:9876{path}", "caBundle": encoded}
            for path in ("/mutate-a", "/mutate-b", "/validate-a", "/convert")
        ]
        await targets(world).look(PEM, write=True)
        assert world.configs()[0] == {
            "service": {"namespace": NAMESPACE, "name": "kruise-webhook-service", "path": "/mutate-a", "port": 443},
            "caBundle": encoded,
        }

    run_virtual(main)


def test_crt2_a_definition_that_converts_nothing_is_left_alone() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        world.server.edit(DEFINITIONS, CRD, lambda crd: crd["spec"].update(conversion={"strategy": "None"}))
        seen = await targets(world, which=(Target(TargetKind.CONVERSION, CRD),)).look(PEM, write=True)
        assert (seen.right, seen.bundles) == (True, ())
        assert not world.server.commits(actor="manager")

    run_virtual(main)


def test_crt6_what_is_missing_is_told_and_the_rest_is_done() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        world.server.delete(MUTATING, NAME)
        seen = await targets(world).look(PEM, write=True)
        assert not seen.right
        assert seen.problems == (f"MutatingWebhookConfiguration {NAME} is not there",)
        assert seen.bundles == (PEM,)

    run_virtual(main)


def pod_webhook(**more: Any) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    return {"name": "mpod.kb.io", "failurePolicy": "Fail", "rules": [rule], **more}


NAME_LABEL = "kubernetes.io/metadata.name"


@pytest.mark.parametrize(
    ("webhook", "blocked"),
    [
        (pod_webhook(), True),
        (pod_webhook(failurePolicy="Ignore"), False),
        ({k: v for k, v in pod_webhook().items() if k != "failurePolicy"}, True),
        (pod_webhook(rules=[{"apiGroups": ["*"], "operations": ["*"], "resources": ["*/*"]}]), True),
        (pod_webhook(rules=[{"apiGroups": ["apps"], "operations": ["*"], "resources": ["*"]}]), False),
        (pod_webhook(rules=[{"apiGroups": [""], "operations": ["UPDATE"], "resources": ["pods"]}]), False),
        (pod_webhook(rules=[{"apiGroups": [""], "operations": ["CREATE"], "resources": ["pods/eviction"]}]), False),
        (pod_webhook(rules=[]), False),
        (pod_webhook(namespaceSelector={"matchLabels": {"injection": "on"}}), False),
        (
            pod_webhook(
                namespaceSelector={
                    "matchExpressions": [{"key": NAME_LABEL, "operator": "NotIn", "values": ["kube-system", NAMESPACE]}]
                }
            ),
            False,
        ),
        (
            pod_webhook(
                namespaceSelector={
                    "matchExpressions": [{"key": NAME_LABEL, "operator": "NotIn", "values": ["kube-system"]}]
                }
            ),
            True,
        ),
        (
            pod_webhook(
                namespaceSelector={"matchExpressions": [{"key": NAME_LABEL, "operator": "In", "values": ["shop"]}]}
            ),
            False,
        ),
        (pod_webhook(namespaceSelector={"matchExpressions": [{"key": "off", "operator": "DoesNotExist"}]}), True),
        (pod_webhook(namespaceSelector={"matchExpressions": [{"key": "on", "operator": "Exists"}]}), False),
        (pod_webhook(matchConditions=[{"name": "x", "expression": f"request.namespace != '{NAMESPACE}'"}]), False),
    ],
)
def test_web9_c11_x33_a_webhook_that_would_block_our_own_pods_is_found(webhook: dict[str, Any], blocked: bool) -> None:
    text = blocks(webhook, NAMESPACE, {NAME_LABEL: NAMESPACE})
    assert (text is not None) is blocked
    if text is not None:
        assert "mpod.kb.io" in text
        assert "NotIn" in text


def test_web9_the_labels_of_the_namespace_count() -> None:
    async def main() -> None:
        world = World(VirtualClock())
        world.server.edit("namespaces", NAMESPACE, lambda n: n["metadata"].setdefault("labels", {}).update(own="yes"))
        own = {"matchExpressions": [{"key": "own", "operator": "DoesNotExist"}]}
        for selector, count in (({}, 1), (own, 0)):

            def change(c: dict[str, Any], selector: Any = selector) -> None:
                c["webhooks"][0].update(pod_webhook(namespaceSelector=selector, name="a.x.io"))

            world.server.edit(MUTATING, NAME, change)
            found = await targets(world).blocking(NAMESPACE)
            assert len(found) == count

    run_virtual(main)
