"""Manifests of SidecarSets and of the workloads that they join, and what tests ask of both.

Purpose: short names for what the tests say most often.

What this does not do: it talks to no server.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

Body = dict[str, Any]

APP_IMAGE: Final = "registry.example.com/app:v1"
EMPTY: Final = "sim.kruise.io/empty:v1"
"""What the idle one of two twins runs."""
DISABLED: Final = {"apps.kruise.io/sidecarset-injection": "disabled"}
MAIN: Final = "main"
"""The application's container in every workload of these tests."""


def sidecar(
    name: str = "mesh", image: str = "registry.example.com/mesh:v1", *, hot: bool = False, **fields: Any
) -> Body:
    """Return one sidecar of a set."""
    upgrade = {"upgradeType": "HotUpgrade", "hotUpgradeEmptyImage": EMPTY} if hot else {"upgradeType": "ColdUpgrade"}
    return {"name": name, "image": image, "upgradeStrategy": upgrade, **fields}


def sidecarset(
    name: str,
    *containers: Body,
    app: str = "web",
    selector: Body | None = None,
    budget: int | str = 1,
    strategy: Body | None = None,
    version: str = "v1beta1",
    **spec: Any,
) -> Body:
    """Return a set for the pods of *app*; *strategy* is more of ``updateStrategy``, *spec* more of the set."""
    return {
        "apiVersion": f"apps.kruise.io/{version}",
        "kind": "SidecarSet",
        "metadata": {"name": name},
        "spec": {
            "selector": selector or {"matchLabels": {"app": app}},
            "containers": list(containers) or [sidecar()],
            "updateStrategy": {"type": "RollingUpdate", "maxUnavailable": budget, **(strategy or {})},
            **spec,
        },
    }


def image_patch(image: str) -> list[Body]:
    """Return the JSON patch that changes the image of the first sidecar."""
    return [{"op": "replace", "path": "/spec/containers/0/image", "value": image}]


# ---- what they join --------------------------------------------------------------------------------------------------


def template(app: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> Body:
    """Return a pod template; *annotations* are settings of the simulated nodes."""
    settings = {f"sim.kruise.io/{k}": v for k, v in (annotations or {}).items()}
    main = {"name": MAIN, "image": APP_IMAGE}
    meta = {"labels": {"app": app}, "annotations": settings}
    return {"metadata": meta, "spec": {"terminationGracePeriodSeconds": 1, "containers": [main], **spec}}


def pod(name: str, app: str = "web", *, namespace: str = "default", labels: dict[str, str] | None = None) -> Body:
    """Return a pod of nobody's."""
    made = template(app)
    made["metadata"] |= {"name": name, "namespace": namespace}
    made["metadata"]["labels"] |= labels or {}
    return {"apiVersion": "v1", "kind": "Pod", **made}


def _workload(api: str, kind: str, name: str, namespace: str, spec: Body) -> Body:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def deployment(name: str, replicas: int, *, app: str = "web", namespace: str = "default", **options: Any) -> Body:
    """Return a Deployment."""
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": app}},
        "template": template(app, **options),
    }
    return _workload("apps/v1", "Deployment", name, namespace, spec)


def stateful(name: str, replicas: int, *, app: str = "web", namespace: str = "default") -> Body:
    """Return a StatefulSet of Kubernetes."""
    spec = {
        "replicas": replicas,
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": app}},
        "template": template(app),
    }
    return _workload("apps/v1", "StatefulSet", name, namespace, spec)


def daemons(name: str, *, app: str = "web", namespace: str = "default") -> Body:
    """Return a DaemonSet."""
    spec = {"selector": {"matchLabels": {"app": app}}, "template": template(app)}
    return _workload("apps/v1", "DaemonSet", name, namespace, spec)


def batch(name: str, completions: int, *, app: str = "web", namespace: str = "default", run: float = 1) -> Body:
    """Return a Job whose own container ends after *run* seconds."""
    made = template(app, restartPolicy="Never")
    made["metadata"]["annotations"][f"{MAIN}.sim.kruise.io/run-seconds"] = str(run)
    spec = {"completions": completions, "parallelism": completions, "template": made}
    return _workload("batch/v1", "Job", name, namespace, spec)


def advanced(name: str, replicas: int, *, app: str = "web", namespace: str = "default", **rolling: Any) -> Body:
    """Return a StatefulSet of ours."""
    spec = {
        "replicas": replicas,
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": app}},
        "updateStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 1, "podUpdatePolicy": "InPlaceIfPossible", **rolling},
        },
        "template": template(app, readinessGates=[{"conditionType": "InPlaceUpdateReady"}]),
    }
    return _workload("apps.kruise.io/v1beta1", "StatefulSet", name, namespace, spec)


# ---- what became of them ---------------------------------------------------------------------------------------------


def status(body: Body | None) -> Body:
    """Return the status of a set, empty before there is one."""
    return (body or {}).get("status") or {}


def condition(body: Body | None, kind: str) -> Body:
    """Return a condition of a set or a pod, empty when it has none of that type."""
    return next((c for c in status(body).get("conditions") or () if c["type"] == kind), {})


def counts(body: Body | None) -> tuple[int, int, int, int]:
    """Return matched, updated, ready, and updated as well as ready."""
    names = ("matchedPods", "updatedPods", "readyPods", "updatedReadyPods")
    return tuple(status(body).get(name, 0) for name in names)  # type: ignore[return-value]


def settled(body: Body | None, pods: int, asked: Body | None = None) -> bool:
    """Tell whether a set has *pods* pods, all of them at its version and ready.

    *asked* is the set as the last change of it was answered: a watch may not show it yet.
    """
    if body is None or (asked is not None and body["metadata"]["generation"] < asked["metadata"]["generation"]):
        return False
    seen = status(body).get("observedGeneration") == body["metadata"]["generation"]
    return seen and counts(body) == (pods,) * 4


def sets_of(body: Body) -> list[str]:
    """Return the sets that a pod says it was injected from."""
    listed = (body["metadata"].get("annotations") or {}).get("kruise.io/sidecarset-injected-list") or ""
    return [name for name in listed.split(",") if name]


def containers(body: Body, field: str = "containers") -> list[str]:
    """Return the names of a pod's containers, in order."""
    return [one["name"] for one in body["spec"].get(field) or ()]


def ready(body: Body) -> bool:
    """Tell whether a pod is ready."""
    return condition(body, "Ready").get("status") == "True"


def application(pods: Iterable[Body]) -> dict[str, tuple[str, int]]:
    """Return by pod the run of the application's container, which nothing but its owner may end."""
    found = {}
    for one in pods:
        main = next(s for s in one["status"]["containerStatuses"] if s["name"] == MAIN)
        found[one["metadata"]["name"]] = (main["containerID"], main["restartCount"])
    return found


def working(body: Body) -> dict[str, str]:
    """Return by hot sidecar the twin that serves."""
    text = (body["metadata"].get("annotations") or {}).get("kruise.io/sidecarset-working-hotupgrade-container")
    found: dict[str, str] = json.loads(text) if text else {}
    return found
