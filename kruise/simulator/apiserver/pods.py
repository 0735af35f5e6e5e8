"""The rules of pods: defaults, what may change, binding, resize.

Purpose: the part of kube-apiserver's pod registry and default admission that a controller or kubelet can notice.

Guarantees:

* TST1: a new pod is Pending, has the usual defaults and the two default tolerations; an update may change images,
  ``activeDeadlineSeconds`` (set or shorten), and add tolerations, nothing else (422); ``pods/resize`` changes resources
  only; ``pods/binding`` sets the node once (409 the second time).

What this does not do: it validates no more of the spec than it needs to tell these apart; priority classes and service
account tokens are not injected.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.runtime.clock import format_time
from kruise.simulator.apiserver.failure import Cause, conflict, forbidden_field, required

Body = dict[str, Any]

_IMMUTABLE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_DEFAULTS: Final = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
    "priority": 0,
    "serviceAccountName": "default",
    "serviceAccount": "default",
}
_EVICTED_AFTER: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def create(pod: Body) -> list[Cause]:
    """Default and validate a new pod, in place."""
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return [required("spec.containers")]
    causes: list[Cause] = []
    if not spec.get("containers"):
        causes.append(required("spec.containers"))
    for group in ("containers", "initContainers"):
        names: set[str] = set()
        for i, container in enumerate(spec.get(group) or ()):
            causes += _container(container, f"spec.{group}[{i}]", names)
    for name, value in _DEFAULTS.items():
        spec.setdefault(name, value)
    spec.setdefault("securityContext", {})
    _tolerate(spec)
    pod["status"] = {"phase": "Pending", "qosClass": _qos(spec)}
    return causes


def _container(container: Body, path: str, names: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    name = container.get("name")
    if not name:
        causes.append(required(f"{path}.name"))
    elif name in names:
        causes.append(Cause("FieldValueDuplicate", f'Duplicate value: "{name}"', f"{path}.name"))
    names.add(name or "")
    image = container.get("image") or ""
    if not image:
        causes.append(required(f"{path}.image"))
    tag = image.rpartition("/")[2].partition("@")[0].rpartition(":")
    latest = "@" not in image and (not tag[1] or tag[2] == "latest")
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
    return causes


def _tolerate(spec: Body) -> None:
    tolerations = list(spec.get("tolerations") or ())
    for key in _EVICTED_AFTER:
        covered = any(
            t.get("key") in (key, None, "")
            and t.get("effect") in ("NoExecute", None, "")
            and t.get("operator") == "Exists"
            for t in tolerations
        )
        if not covered:
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    spec["tolerations"] = tolerations


def _qos(spec: Body) -> str:
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    resources = [c.get("resources") or {} for c in containers]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    limits = [r.get("limits") or {} for r in resources]
    whole = all("cpu" in x and "memory" in x and r.get("requests") == x for x, r in zip(limits, resources, strict=True))
    return "Guaranteed" if whole else "Burstable"


def update(new: Body, old: Body) -> list[Cause]:
    """Return what an update of the main resource may not do."""
    after, before = dict(new.get("spec") or {}), dict(old.get("spec") or {})
    causes: list[Cause] = []
    for group in ("containers", "initContainers"):
        now, was = after.pop(group, None) or [], before.pop(group, None) or []
        if [_without_image(c) for c in now] != [_without_image(c) for c in was]:
            causes.append(forbidden_field("spec", _IMMUTABLE))
    causes += [
        required(f"spec.{group}[{i}].image")
        for group in ("containers", "initContainers")
        for i, container in enumerate((new.get("spec") or {}).get(group) or ())
        if not container.get("image")
    ]
    now, was = after.pop("tolerations", None) or [], before.pop("tolerations", None) or []
    if any(t not in now for t in was):
        causes.append(
            forbidden_field("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
        )
    deadline, had = after.pop("activeDeadlineSeconds", None), before.pop("activeDeadlineSeconds", None)
    if had is not None and (deadline is None or deadline > had):
        text = "must be less than or equal to previous value"
        causes.append(Cause("FieldValueInvalid", f"Invalid value: {deadline}: {text}", "spec.activeDeadlineSeconds"))
    gates, had_gates = after.pop("schedulingGates", None) or [], before.pop("schedulingGates", None) or []
    if any(g not in had_gates for g in gates):
        causes.append(
            forbidden_field("spec.schedulingGates", "only deletion is allowed, but found new scheduling gate")
        )
    if after != before:
        causes.append(forbidden_field("spec", _IMMUTABLE))
    return list(dict.fromkeys(causes))


def _without_image(container: Body) -> Body:
    return {k: v for k, v in container.items() if k != "image"}


def resize(new: Body, old: Body) -> Body:
    """Return *old* with the container resources of *new*: all that ``pods/resize`` may change."""
    wanted = {c.get("name"): c.get("resources") for c in (new.get("spec") or {}).get("containers") or ()}
    spec = dict(old["spec"])
    spec["containers"] = [
        {**c, "resources": wanted[c["name"]]} if wanted.get(c["name"]) is not None else c for c in spec["containers"]
    ]
    return {**old, "spec": spec, "metadata": new["metadata"]}


def bind(old: Body, node: str, now: float) -> Body:
    """Return the pod *old*, assigned to *node*. Raises Failure 409 when it has a node already."""
    name = old["metadata"]["name"]
    if old["spec"].get("nodeName"):
        raise conflict("pods/binding", "", name, f'pod {name} is already assigned to node "{old["spec"]["nodeName"]}"')
    if old["metadata"].get("deletionTimestamp"):
        raise conflict("pods/binding", "", name, f"pod {name} is being deleted, cannot be assigned to a host")
    condition = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": format_time(now),
    }
    status = dict(old.get("status") or {})
    status["conditions"] = [c for c in status.get("conditions") or () if c["type"] != "PodScheduled"] + [condition]
    return {
        **old,
        "metadata": dict(old["metadata"]),
        "spec": {**old["spec"], "nodeName": node},
        "status": status,
    }


def disrupted(old: Body, now: float) -> Body:
    """Return the pod *old* with the condition that says that an eviction ends it."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": format_time(now),
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    status = dict(old.get("status") or {})
    status["conditions"] = [c for c in status.get("conditions") or () if c["type"] != "DisruptionTarget"] + [condition]
    return {**old, "metadata": dict(old["metadata"]), "status": status}
