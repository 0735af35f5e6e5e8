"""The judge of conversions in a scenario: what it must notice, and what it must let pass (WEB6)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kruise.runtime.clock import Clock
from kruise.runtime.manager.http import Call, Reply
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.runtime.testing.tape import Tape
from kruise.runtime.webhook.server import WebhookServer
from kruise.simulator.apiserver.webhooks import Target
from kruise.simulator.faults import NO_FAULT
from kruise.simulator.invariants.sidecarset_reading import SIDECARSETS
from kruise.simulator.invariants.statefulset_reading import SETS
from kruise.simulator.scenario_versions import CUSTOM_VERSION, older
from kruise.simulator.scenario_webhooks import Webhooks
from kruise.webhooks.conversion import conversions

STORED: dict[str, Any] = {
    "apiVersion": "apps.kruise.io/v1beta1",
    "kind": "SidecarSet",
    "metadata": {"name": "mesh", "uid": "u", "generation": 2, "labels": {"a": "b"}},
    "spec": {"customVersion": "blue", "containers": [{"name": "side", "image": "side:v1"}]},
}


class Serving(WebhookServer):
    """Answers conversions as the product does, and then spoils what it answers."""

    def __init__(self, spoil: Any) -> None:
        self.spoil = spoil
        self.sound = conversions()

    async def answer(self, call: Call) -> Reply:
        review = orjson.loads(call.body)
        request = review["request"]
        found = [self.sound.convert(one, request["desiredAPIVersion"]) for one in request["objects"]]
        response = {"uid": request["uid"], "convertedObjects": found, "result": {"status": "Success"}}
        self.spoil(response, request)
        return Reply(200, orjson.dumps({**review, "response": response}), "application/json")


class Replica:
    name = "m1"
    paused = False
    running = True

    def __init__(self, serving: WebhookServer) -> None:
        self.serving = serving

    def trouble_with_tls(self, bundle: bytes) -> str:
        del bundle
        return ""


def judged(spoil: Any) -> list[str]:
    async def main(clock: VirtualClock) -> list[str]:
        return await _judged(spoil, clock)

    return run_virtual(main)


async def _judged(spoil: Any, clock: Clock) -> list[str]:
    webhooks = Webhooks(lambda: [Replica(Serving(spoil))], NO_FAULT, Tape(0), clock, lambda fault, text: None)
    request = {"uid": "r", "desiredAPIVersion": "apps.kruise.io/v1alpha1", "objects": [STORED]}
    body = {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "request": request}
    await webhooks(Target(path="/convert", name="webhooks", namespace="tools"), orjson.dumps(body), 10.0)
    return webhooks.violations


def _lost_on_the_way_back(response: Any, request: Any) -> None:
    if request["desiredAPIVersion"].endswith("v1beta1"):
        for one in response["convertedObjects"]:
            one["spec"].pop("customVersion", None)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda response, _: response["result"].update(status="Failed", message="no"),
        lambda response, _: response.update(uid="another"),
        lambda response, _: response.update(convertedObjects=[]),
        lambda response, _: response["convertedObjects"][0]["metadata"].update(uid="another"),
        lambda response, _: response["convertedObjects"][0].update(apiVersion="apps.kruise.io/v1beta1"),
        _lost_on_the_way_back,
    ],
)
def test_web6_a_conversion_that_fails_or_is_none_is_a_violation(spoil: Any) -> None:
    found = judged(spoil)
    assert found
    assert all(one.startswith("WEB6") for one in found)


def test_web6_a_sound_conversion_is_none() -> None:
    assert judged(lambda response, request: None) == []


def test_web6_what_v1alpha1_shows_is_told_without_the_code_that_converts() -> None:
    shown = older(SIDECARSETS, STORED)
    assert shown["labels"] == {"a": "b", CUSTOM_VERSION: "blue"}
    assert shown["spec"] == {"containers": STORED["spec"]["containers"]}
    web = {"metadata": {}, "spec": {"replicas": 1, "lifecycle": {}}, "status": {"volumeClaims": [], "replicas": 1}}
    assert older(SETS, web) == {"labels": {}, "spec": {"replicas": 1}, "status": {"replicas": 1}}
