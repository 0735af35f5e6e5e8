"""The pods of a BroadcastJob: their names, how they are made, and to which node one belongs.

Purpose: everything about identity in one place, because "never two pods of a job on one node" rests on it.

Guarantees:

* B1: the name of a pod is a function of (job uid, node uid, k), so two managers, a crash or a stale cache can only try
  to create the *same* object, and the API server refuses the second one.
* A pod belongs to the node whose uid its annotation names; only where the annotation is absent (pods that OpenKruise
  created) it belongs to the node by name. A re-created node of the same name is another node.
* A pod is made from the bytes of the template: a field that nobody here knows survives.

What this does not do: it adds no toleration and no readiness gate.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from kruise.apis.broadcastjob import (
    BROADCASTJOBS,
    LABEL_CONTROLLER_UID,
    LABEL_JOB_NAME,
    NODE_UID_ANNOTATION,
    BroadcastJob,
)
from kruise.apis.core import Pod
from kruise.runtime.objects import ObjectMeta, controller_of, own

__all__ = ["assigned_node", "belongs_to", "build_pod", "pod_name"]

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and no look-alikes, as Kubernetes' own generated names have it: 27 characters."""
_SUFFIX: Final = 10
"""27^10 names: with 5,000 nodes a collision inside one job has a chance below 10^-7 (with 5 characters: 58 %)."""
_MAX_NAME: Final = 63
_VALID_PREFIX: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def pod_name(job_name: str, job_uid: str, node_uid: str, k: int = 0) -> str:
    """Return the name of the pod of a job on a node: at most 63 characters, equal for equal arguments.

    *k* is raised only when the name belongs to a foreign object.
    """
    digest = int.from_bytes(hashlib.sha256(f"{job_uid}/{node_uid}/{k}".encode()).digest()[:8], "big")
    suffix = []
    for _ in range(_SUFFIX):
        digest, digit = divmod(digest, len(_ALPHABET))
        suffix.append(_ALPHABET[digit])
    prefix = job_name.lower()[: _MAX_NAME - _SUFFIX - 1].rstrip("-.")
    if not _VALID_PREFIX.fullmatch(prefix):
        prefix = re.sub(r"[^a-z0-9-]", "-", prefix).strip("-") or "bcj"
    return f"{prefix}-{''.join(suffix)}"


def build_pod(
    job: BroadcastJob, template: dict[str, Any], node_name: str, node_uid: str, *, by_scheduler: bool, k: int = 0
) -> dict[str, Any]:
    """Return the body of the pod of *job* for one node. *template* is the parsed template and stays as it is.

    The body shares with the template whatever is the same for every node: nobody changes either of them.

    With *by_scheduler* the pod is pinned by a required affinity to the node's name, which replaces the template's own
    required terms (eligibility was checked with these before); else ``nodeName`` is set and the scheduler is bypassed.
    """
    meta: dict[str, Any] = template.get("metadata") or {}
    labels = dict(meta.get("labels") or {})
    labels[LABEL_JOB_NAME] = job.metadata.name
    labels[LABEL_CONTROLLER_UID] = job.metadata.uid
    annotations = dict(meta.get("annotations") or {})
    annotations[NODE_UID_ANNOTATION] = node_uid
    metadata: dict[str, Any] = {
        "name": pod_name(job.metadata.name, job.metadata.uid, node_uid, k),
        "namespace": job.metadata.namespace,
        "labels": labels,
        "annotations": annotations,
    }
    if meta.get("finalizers"):
        metadata["finalizers"] = list(meta["finalizers"])
    spec: dict[str, Any] = dict(template.get("spec") or {})
    if by_scheduler:
        affinity = spec["affinity"] = dict(spec.get("affinity") or {})
        node_affinity = affinity["nodeAffinity"] = dict(affinity.get("nodeAffinity") or {})
        node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {
            "nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name]}]},
            ]
        }
    else:
        spec["nodeName"] = node_name
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return own(pod, BROADCASTJOBS, job)


def assigned_node(pod: Pod) -> str:
    """Return the name of the node to which *pod* belongs; ``""`` when nothing says it."""
    if pod.spec.node_name:
        return pod.spec.node_name
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity is not None else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity is not None else None
    if required is None:
        return ""
    for term in required.node_selector_terms:
        for field in term.match_fields:
            if field.key == "metadata.name" and field.operator == "In" and len(field.values) == 1:
                return field.values[0]
    return ""


def belongs_to(meta: ObjectMeta, job: BroadcastJob) -> bool:
    """Tell whether a pod is one of *job*: both labels, and the controller by kind and uid."""
    if meta.namespace != job.metadata.namespace:
        return False
    if (
        meta.labels.get(LABEL_JOB_NAME) != job.metadata.name
        or meta.labels.get(LABEL_CONTROLLER_UID) != job.metadata.uid
    ):
        return False
    ref = controller_of(meta)
    return ref is not None and ref.kind == BROADCASTJOBS.kind and ref.uid == job.metadata.uid
