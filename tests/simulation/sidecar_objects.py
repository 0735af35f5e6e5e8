"""SidecarSets and their pods as admission lets them through, made by the pure functions of which admission consists."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from kruise.apis.core import ControllerRevision
from kruise.apis.sidecarset import SIDECARSETS, SidecarSet
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.runtime.client.frames import Codec
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import format_time
from kruise.simulator.apiserver.patch import json_patch
from kruise.simulator.apiserver.server import ApiServer
from kruise.webhooks.inject import Request, inject
from kruise.webhooks.inject_snapshot import make_snapshot

Body = dict[str, Any]

SETS: Final = str(SIDECARSETS)
OWN: Final = "kruise-system"
V1, V2, V3, EMPTY = (f"sim.kruise.io/ready-1s:{tag}" for tag in ("v1", "v2", "v3", "empty"))
WEB: Final = "sim.kruise.io/ready-1s:web"


def sidecar_set(
    name: str = "mesh",
    *,
    image: str = V1,
    hot: bool = False,
    empty: str = EMPTY,
    strategy: Body | None = None,
    selector: Body | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Body:
    """Return a set with one sidecar; *strategy* is more of its updateStrategy, *spec* more of its own."""
    container: Body = {"name": f"{name}-proxy", "image": image}
    if hot:
        container["upgradeStrategy"] = {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": empty}
    return default_sidecarset(
        {
            "apiVersion": SIDECARSETS.api_version,
            "kind": SIDECARSETS.kind,
            "metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}},
            "spec": {
                "selector": selector or {"matchLabels": {"app": "shop"}},
                "containers": [container],
                "updateStrategy": {"type": "RollingUpdate", "maxUnavailable": 1, **(strategy or {})},
                **spec,
            },
        }
    )


def pod_body(name: str, *, namespace: str = "default", labels: dict[str, str] | None = None, **spec: Any) -> Body:
    """Return a pod of a user's."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "shop", **(labels or {})}},
        "spec": {"containers": [{"name": "web", "image": WEB}], **spec},
    }


def injected(server: ApiServer, pod: Body, now: float) -> Body:
    """Return *pod* with the sidecars that the sets of *server* give it at the wall time *now*."""
    read = Codec(SIDECARSETS).read
    sets = [one for body in server.list(SETS) if isinstance(one := read(orjson.dumps(body)), SidecarSet)]
    spaces = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in server.list("namespaces")}
    kept = [decode_as(ControllerRevision, orjson.dumps(one)) for one in server.list("controllerrevisions.apps", OWN)]
    snapshot = make_snapshot(sets, spaces, kept, OWN)
    request = Request(uid=f"request-{pod['metadata']['name']}", namespace=pod["metadata"]["namespace"])
    outcome = inject(pod, request, snapshot, now=format_time(now))
    if not outcome.patch:
        return pod
    patched: Body = json_patch(pod, json.loads(outcome.patch))
    return patched
