"""Manifests of BroadcastJobs, and what tests ask of one.

Purpose: short names for what the tests say most often.

What this does not do: it talks to no server.
"""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]


def job(
    name: str,
    *,
    namespace: str = "default",
    run: float | str = 1,
    version: str = "v1beta1",
    restart: str = "Never",
    annotations: dict[str, str] | None = None,
    pod_spec: Body | None = None,
    completion: Body | None = None,
    failure: Body | None = None,
    **spec: Any,
) -> Body:
    """Return a job whose pods run for *run* seconds; *annotations* are settings of the simulated nodes."""
    settings = {"run-seconds": str(run), **(annotations or {})}
    return {
        "apiVersion": f"apps.kruise.io/{version}",
        "kind": "BroadcastJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "template": {
                "metadata": {"annotations": {f"sim.kruise.io/{k}": v for k, v in settings.items()}},
                "spec": {
                    "restartPolicy": restart,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}],
                    **(pod_spec or {}),
                },
            },
            **({"completionPolicy": completion} if completion is not None else {}),
            **({"failurePolicy": failure} if failure is not None else {}),
            **spec,
        },
    }


def status(body: Body | None) -> Body:
    """Return the status of a job; empty for one that is not there."""
    return (body or {}).get("status") or {}


def phase(body: Body | None) -> str:
    """Return ``status.phase``."""
    return str(status(body).get("phase") or "")


def condition(body: Body | None, kind: str) -> Body:
    """Return one condition; empty when it is not there."""
    return next((c for c in status(body).get("conditions") or () if c["type"] == kind), {})


def counts(body: Body | None) -> tuple[int, int, int, int]:
    """Return desired, active, succeeded, failed."""
    found = status(body)
    return tuple(found.get(name) or 0 for name in ("desired", "active", "succeeded", "failed"))  # type: ignore[return-value]


def pod_phase(pod: Body) -> str:
    """Return the phase of a pod."""
    return str((pod.get("status") or {}).get("phase") or "")


def node_of(pod: Body) -> str:
    """Return the name of the node for which a pod was made, before the scheduler bound it and after."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in affinity.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name":
                return str(field["values"][0])
    return ""
