"""The webhooks of a whole manager as one function from bytes to bytes, and reviews to begin with.

Purpose: Hypothesis, a seeded search and a coverage-guided one (``python -m hack.fuzz``) all throw reviews at the same
thing: every handler that the program wires, over complete caches with sidecars to inject.

Guarantees:

* C8: :func:`check` raises AssertionError for an answer that no webhook may give: a status of ours (500), a decision
  that is no review, a patch that does not apply, a value of the object in a text that is no decision.

What this does not do: it looks at no log; the tests do.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from kruise.apis.sidecarset import SIDECARSETS
from kruise.runtime.clock import Random
from kruise.runtime.manager.http import Call, Reply
from kruise.runtime.webhook.patching import apply_patch
from tests.unit.webhooks.webhooks_world import HEADERS, JSON, WebhookWorld, review, webhooks

SECRET: Final = "hunter2"
"""Stands in many values; it may be told to whoever sent it, in a refusal, and to nobody else."""
SAMPLES: Final = Path(__file__).parents[2] / "config" / "samples"
CONVERT: Final = "/convert"
PODS: Final = "/mutate-pod"
_SETS: Final = (
    {"name": "plain", "spec": {"containers": [{"name": "side", "image": "side:1"}]}},
    {
        "name": "rich",
        "spec": {
            "initContainers": [{"name": "init", "image": "init:1", "restartPolicy": "Always"}],
            "containers": [
                {
                    "name": "hot",
                    "image": "hot:1",
                    "shareVolumePolicy": {"type": "enabled"},
                    "transferEnv": [{"sourceContainerName": "app", "envName": "A"}],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    "podInjectPolicy": "AfterAppContainer",
                }
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "imagePullSecrets": [{"name": "pull"}],
            "patchPodMetadata": [{"annotations": {"a": "b"}, "patchPolicy": "Retain"}],
        },
    },
)


def documents() -> list[JSON]:
    """Return the samples and a pod, each with a value that must not get into a log."""
    read = [d for p in sorted(SAMPLES.glob("apps_*.yaml")) for d in yaml.safe_load_all(p.read_text("utf-8")) if d]
    found = [one for one in read if one["apiVersion"].startswith("apps.kruise.io/")]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-",
            "namespace": "shop",
            "labels": {"app": "web"},
            "annotations": {"x": SECRET},
        },
        "spec": {
            "containers": [
                {
                    "name": "app",
                    "image": "app:1",
                    "env": [{"name": "A", "value": SECRET}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                }
            ],
            "initContainers": [{"name": "init", "image": "init:1"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }
    for one in found:
        one.setdefault("metadata", {}).setdefault("annotations", {})["x"] = SECRET
        if one["kind"] != "SidecarSet":
            one["metadata"].setdefault("namespace", "shop")
    return [pod, *found]


def beginnings() -> dict[str, list[JSON]]:
    """Return good reviews by the paths that answer them."""
    found: dict[str, list[JSON]] = {}
    for obj in documents():
        kind = obj["kind"].lower()
        paths = [PODS] if kind == "pod" else [f"/{verb}-apps-kruise-io-{kind}" for verb in ("mutate", "validate")]
        for path in paths:
            for new, old in ((obj, None), (obj, obj), (None, obj)):
                found.setdefault(path, []).append(json.loads(review(new, old)))
        if kind != "pod":
            for version in ("v1alpha1", "v1beta1"):
                request = {"uid": "u", "desiredAPIVersion": f"apps.kruise.io/{version}", "objects": [obj]}
                body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request}
                older = {**obj, "apiVersion": "apps.kruise.io/v1alpha1"}
                both = {**body, "request": {**request, "objects": [older, obj]}}
                found.setdefault(CONVERT, []).extend((body, both))
    return found


AWKWARD: Final[tuple[Any, ...]] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**63,
    -(2**31) - 1,
    "",
    SECRET,
    "100%",
    "-5%",
    "\u2028\U0001f600\x00",
    "x" * 300,
    "9999999999999999999",
    [],
    {},
    [None],
    [[]],
    {"": None},
    {"name": 5},
    [{"name": "app"}, {"name": "app"}],
    {"matchLabels": {"a": None}},
    "2026-01-01T00:00:00Z",
    "1e99999",
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value below *value*."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield (*path, i)
            yield from places(inner, (*path, i))


def spoiled(value: JSON, rng: Random) -> JSON:
    """Return a copy of *value* in which some places hold something else, are gone, or are there twice."""
    value = copy.deepcopy(value)
    for _ in range(rng.randrange(1, 4)):
        found = list(places(value))
        if not found:
            break
        place = found[rng.randrange(len(found))]
        holder = value
        for part in place[:-1]:
            holder = holder[part]
        last = place[-1]
        how = rng.randrange(6)
        if how == 0:
            del holder[last]
        elif how == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        elif how == 2:
            other = found[rng.randrange(len(found))]
            source: Any = value
            for part in other:
                source = source[part]
            holder[last] = copy.deepcopy(source)
        elif how == 3 and isinstance(holder, dict):
            holder[AWKWARD[rng.randrange(len(AWKWARD))].__class__.__name__] = holder[last]
        else:
            holder[last] = copy.deepcopy(AWKWARD[rng.randrange(len(AWKWARD))])
    return value


def check(path: str, body: bytes, reply: Reply) -> None:
    """Hold the answer to *body* to the rules."""
    assert reply.status in (200, 400, 413), f"{reply.status} {reply.body[:300]!r}"
    if reply.status != 200:
        assert SECRET.encode() not in reply.body
        return
    answer = orjson.loads(reply.body)
    asked = json.loads(body.decode(errors="replace"))  # what nobody reads, need not be UTF-8
    response = answer["response"]
    assert response["uid"] == asked["request"]["uid"]
    if path == CONVERT:
        _check_conversion(asked["request"], response)
        return
    assert isinstance(response["allowed"], bool)
    if "patch" in response:
        patch = orjson.loads(base64.b64decode(response["patch"]))
        assert isinstance(apply_patch(asked["request"]["object"], patch), dict)
    if not response["allowed"]:
        assert 400 <= response["status"]["code"] < 500
        assert response["status"]["message"]


def _check_conversion(request: JSON, response: JSON) -> None:
    if response["result"]["status"] == "Failure":
        assert response["result"]["message"]
        assert response["convertedObjects"] == []
        return
    assert len(response["convertedObjects"]) == len(request.get("objects") or ())
    for obj in response["convertedObjects"]:
        assert obj["apiVersion"] == request["desiredAPIVersion"]


Fuzzed = Callable[[str, bytes], Reply]
"""The webhooks: a path and a body in, an answer out."""


def wired(use: Callable[[Fuzzed], None]) -> None:
    """Run *use* with the webhooks of a manager whose caches are complete."""

    async def scenario(world: WebhookWorld) -> None:
        for one in _SETS:
            body: JSON = {
                "apiVersion": "apps.kruise.io/v1beta1",
                "kind": "SidecarSet",
                "metadata": {"name": one["name"]},
                "spec": {"selector": {"matchLabels": {"app": "web"}}, "updateStrategy": {"type": "NotUpdate"}},
            }
            body["spec"] |= one["spec"]
            done = await world.ask("/mutate-apps-kruise-io-sidecarset", body)
            world.server.create(str(SIDECARSETS), done.obj)
        await world.clock.sleep(0.5)
        server = world.manager.webhooks
        assert server is not None

        def answer(path: str, body: bytes) -> Reply:
            coroutine = server.answer(Call("POST", path, headers=HEADERS, body=body))
            try:
                coroutine.send(None)
            except StopIteration as stop:
                reply: Reply = stop.value
                return reply
            coroutine.close()
            raise AssertionError(f"{path}: a handler waits")

        use(answer)

    webhooks(scenario)
