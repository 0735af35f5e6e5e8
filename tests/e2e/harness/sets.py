"""Manifests of Advanced StatefulSets, and what tests ask of one.

Purpose: short names for what the tests say most often.

What this does not do: it talks to no server.
"""

from __future__ import annotations

from typing import Any, Final

Body = dict[str, Any]

GATE: Final = "InPlaceUpdateReady"
RESTART_2S: Final = "sim.kruise.io/start-2s"
"""An image whose containers take two seconds to start."""


def statefulset(
    name: str,
    replicas: int,
    *,
    namespace: str = "default",
    image: str = "registry.example.com/app:v1",
    budget: int | str = 1,
    policy: str = "InPlaceIfPossible",
    parallel: bool = True,
    gated: bool = True,
    claims: bool = False,
    annotations: dict[str, str] | None = None,
    rolling: Body | None = None,
    **spec: Any,
) -> Body:
    """Return a set; *rolling* has more fields of ``rollingUpdate``, *annotations* settings of the simulated nodes."""
    pod: Body = {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": image}, {"name": "side", "image": "registry.k8s.io/pause:3.10"}],
    }
    if gated:
        pod["readinessGates"] = [{"conditionType": GATE}]
    settings = {f"sim.kruise.io/{k}": v for k, v in (annotations or {}).items()}
    template = {"metadata": {"labels": {"app": name}, "annotations": settings}, "spec": pod}
    body: Body = {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "podManagementPolicy": "Parallel" if parallel else "OrderedReady",
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": budget, "podUpdatePolicy": policy, **(rolling or {})},
            },
            "template": template,
            **spec,
        },
    }
    if claims:
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        body["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": claim}]
    return body


def image_patch(image: str) -> list[Body]:
    """Return the JSON patch that changes the image of the first container."""
    return [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]


def status(body: Body | None) -> Body:
    """Return the status of a set, empty before there is one."""
    return (body or {}).get("status") or {}


def condition(body: Body | None, kind: str) -> Body:
    """Return a condition of a set, empty when it has none of that type."""
    return next((c for c in status(body).get("conditions") or () if c["type"] == kind), {})


def rolled_out(body: Body | None, asked: Body | None = None) -> bool:
    """Tell whether everything is as desired, by what kubectl-kruise's rollout status looks at.

    *asked* is the set as the last change of it was answered: a watch may not show it yet.
    """
    if body is None or (asked is not None and body["metadata"]["generation"] < asked["metadata"]["generation"]):
        return False
    now, wanted = status(body), body["spec"]["replicas"]
    counts = ("replicas", "readyReplicas", "updatedReplicas", "updatedReadyReplicas", "availableReplicas")
    return (
        now.get("observedGeneration") == body["metadata"]["generation"]
        and all(now.get(name) == wanted for name in counts)
        and now.get("currentRevision") == now.get("updateRevision")
    )


def identity(pod: Body) -> Body:
    """Return what an in-place update must leave alone: uid, node, addresses, volumes, the other container's run."""
    others = [s for s in pod["status"].get("containerStatuses") or () if s["name"] != "main"]
    return {
        "uid": pod["metadata"]["uid"],
        "node": pod["spec"].get("nodeName"),
        "ip": pod["status"].get("podIP"),
        "volumes": pod["spec"].get("volumes"),
        "others": [(s["name"], s["restartCount"], s.get("containerID")) for s in others],
    }
