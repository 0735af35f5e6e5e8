"""Sets and pods of the recorded SidecarSet cases, as the manager sees them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

import msgspec

from kruise.apis import gojson
from kruise.apis.core import ControllerRevision
from kruise.apis.sidecarset import SidecarSet
from kruise.controllers.sidecarset.frame import Frame
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import format_time
from tests.golden.loader import normalise

JSON = dict[str, Any]

NOW: Final = 1_800_000_000.0
STAMP: Final = format_time(NOW)


def set_of(body: JSON) -> SidecarSet:
    """The set, as a client reads it."""
    return decode_as(SidecarSet, json.dumps(body).encode())


def spaces_of(bodies: Iterable[JSON]) -> dict[str, dict[str, str]]:
    """The labels of namespaces, by name."""
    return {body["metadata"]["name"]: body["metadata"].get("labels") or {} for body in bodies}


def frame_of(body: JSON) -> Frame:
    """The set, read."""
    return Frame.of(set_of(body))


def stamped(value: Any) -> Any:
    """A recorded answer with our time where it says NOW."""
    return json.loads(json.dumps(value).replace("NOW", STAMP))


def comparable(pod: JSON) -> JSON:
    """A pod without what only Go writes; conditions by type, because the server keeps their order."""
    found: JSON = normalise(deepcopy(pod))
    for condition in found.get("status", {}).get("conditions", ()):
        condition.pop("lastProbeTime", None)
    if "conditions" in found.get("status", {}):
        found["status"]["conditions"].sort(key=lambda one: one["type"])
    metadata = found.setdefault("metadata", {})
    metadata.pop("resourceVersion", None)
    metadata.setdefault("annotations", {})
    return found


def revision(body: JSON) -> ControllerRevision:
    """A stored revision: its data are compact JSON with sorted keys."""
    body = deepcopy(body)
    data = gojson.encode_sorted(body.pop("data"))
    body["metadata"].setdefault("namespace", "kruise-system")
    found = decode_as(ControllerRevision, json.dumps(body).encode())
    return msgspec.structs.replace(found, data=msgspec.Raw(data))


EMPTY: Final = "mesh/empty:1"
HOT_SET: Final[JSON] = {
    "metadata": {
        "name": "mesh",
        "resourceVersion": "7",
        "annotations": {"kruise.io/sidecarset-hash": "h2", "kruise.io/sidecarset-hash-without-image": "w"},
    },
    "spec": {
        "selector": {"matchLabels": {"app": "shop"}},
        "containers": [
            {
                "name": "envoy",
                "image": "envoy:2",
                "upgradeStrategy": {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": EMPTY},
            }
        ],
    },
}


def hot_pod(first: str = "envoy:1", second: str = EMPTY, works: str = "envoy-1") -> JSON:
    """A pod with two twins, all ready."""
    containers = [{"name": "envoy-1", "image": first}, {"name": "envoy-2", "image": second}]
    containers.append({"name": "web", "image": "web:1"})
    statuses = [{**one, "imageID": f"id-{one['image']}", "ready": True} for one in containers]
    entry = {"updateTimestamp": STAMP, "hash": "h1", "sidecarSetName": "mesh", "sidecarList": ["envoy"]}
    return {
        "metadata": {
            "name": "shop-0",
            "namespace": "default",
            "uid": "u0",
            "labels": {"app": "shop"},
            "annotations": {
                "kruise.io/sidecarset-hash": json.dumps({"mesh": entry}),
                "kruise.io/sidecarset-hash-without-image": json.dumps({"mesh": {**entry, "hash": "w"}}),
                "kruise.io/sidecarset-injected-list": "mesh",
                "kruise.io/sidecarset-working-hotupgrade-container": json.dumps({"envoy": works}),
                "kruise.io/sidecarset-inplace-update-state": json.dumps({"mesh": {"revision": "h0"}}),
                "version.sidecarset.kruise.io/envoy-1": "1",
                "version.sidecarset.kruise.io/envoy-2": "0",
            },
        },
        "spec": {"containers": containers, "nodeName": "n"},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": statuses,
        },
    }
