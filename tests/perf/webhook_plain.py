"""A webhook as one writes it in an afternoon: parse the review, copy the pod, change the copy, tell the difference.

What the injection is compared with, in the same process on the same event loop, behind the same TLS: aiohttp, the
``json`` of the standard library, ``copy.deepcopy``. It injects the static sidecars of the benchmark and knows nothing
else: no twins, no shared volumes, no conflicts, no Pod Security. It trusts its difference and does not try it.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

from kruise.runtime.webhook.patching import difference

Json = dict[str, Any]

OWN: Final = ("podInjectPolicy", "upgradeStrategy", "shareVolumePolicy")
HASH: Final = "kruise.io/sidecarset-hash"
NO_IMAGE: Final = "kruise.io/sidecarset-hash-without-image"
LISTED: Final = "kruise.io/sidecarset-injected-list"


def mutate(pod: Json, sets: Iterable[Json], now: str) -> Json:
    """Return a copy of *pod* with the containers and volumes of the sets that select it."""
    out = copy.deepcopy(pod)
    labels = out["metadata"].get("labels", {})
    chosen = [s for s in sets if s["spec"]["selector"]["matchLabels"].items() <= labels.items()]
    notes = out["metadata"].setdefault("annotations", {})
    for key in (HASH, NO_IMAGE):
        entries = {}
        for one in chosen:
            names = sorted(c["name"] for c in one["spec"]["containers"])
            entries[one["metadata"]["name"]] = {
                "updateTimestamp": now,
                "hash": one["metadata"]["annotations"][key],
                "sidecarSetName": one["metadata"]["name"],
                "sidecarList": names,
            }
        notes[key] = json.dumps(entries, separators=(",", ":"))
    notes[LISTED] = ",".join(sorted(one["metadata"]["name"] for one in chosen))
    spec = out["spec"]
    present = {volume["name"] for volume in spec.get("volumes", ())}
    before: list[Json] = []
    after: list[Json] = []
    for one in chosen:
        for sidecar in one["spec"]["containers"]:
            container = {key: copy.deepcopy(value) for key, value in sidecar.items() if key not in OWN}
            container.setdefault("env", []).append({"name": "IS_INJECTED", "value": "true"})
            (before if sidecar["podInjectPolicy"] == "BeforeAppContainer" else after).append(container)
        for volume in one["spec"].get("volumes", ()):
            if volume["name"] not in present:
                spec.setdefault("volumes", []).append(copy.deepcopy(volume))
    spec["containers"] = [*before, *spec["containers"], *after]
    return out


def answer(body: bytes, sets: list[Json], now: str) -> bytes:
    """Answer one review."""
    review = json.loads(body)
    asked = review["request"]
    patch = difference(asked["object"], mutate(asked["object"], sets, now), removable=("",))
    response = {
        "uid": asked["uid"],
        "allowed": True,
        "patchType": "JSONPatch",
        "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
    }
    return json.dumps({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response}).encode()


def app(sets: list[Json], now: str, path: str) -> web.Application:
    """Return the application that serves *path*."""

    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=answer(await request.read(), sets, now), content_type="application/json")

    made = web.Application()
    made.router.add_post(path, serve)
    return made
