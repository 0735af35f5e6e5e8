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

from kruise.apis import labels
from kruise.apis.fielderrors import invalid
from kruise.apis.podtemplate import default_pod_template
from kruise.apis.podtemplate.images import default_pull_policy
from kruise.apis.podtemplate.validation import validate_pod_spec
from kruise.runtime.clock import format_time
from kruise.simulator.apiserver.failure import Cause, conflict, forbidden_field, invalid_value, of_errors, required

Body = dict[str, Any]

_IMMUTABLE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_DEFAULTS: Final = {
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
    "priority": 0,
    "serviceAccountName": "default",
    "serviceAccount": "default",
}
_EVICTED_AFTER: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
CRITICAL: Final = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_CONTAINERS: Final = ("containers", "initContainers")


def create(pod: Body, now: float) -> list[Cause]:
    """Default and validate a new pod, in place."""
    if not isinstance(pod.get("spec"), dict):
        pod["spec"] = {}
    spec = pod["spec"] = completed({"spec": pod["spec"]})["spec"]
    for group in _CONTAINERS:
        for container in spec.get(group) or ():
            resources = container.setdefault("resources", {})
            if resources.get("limits"):
                resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}
    for name, value in _DEFAULTS.items():
        if spec.get(name) is None:
            spec[name] = value
    if spec.get("priorityClassName") in CRITICAL:
        spec["priority"] = CRITICAL[spec["priorityClassName"]]
    _tolerate(spec)
    pod["status"] = {"phase": "Pending", "qosClass": _qos(spec)}
    if spec.get("schedulingGates"):
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(now),
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }
        pod["status"]["conditions"] = [condition]
    return of_errors(validate_pod_spec(spec, "spec"))


def completed(template: Body) -> Body:
    """Return a pod template with the defaults of a real server."""
    spec = template.get("spec") or {}
    policies = {}
    for group in _CONTAINERS:
        for i, container in enumerate(spec.get(group) or ()):
            if not container.get("imagePullPolicy"):
                policies[group, i] = default_pull_policy(str(container.get("image") or ""))
    whole = default_pod_template(template)
    for (group, i), policy in policies.items():
        whole["spec"][group][i]["imagePullPolicy"] = policy
    return whole


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
        if len(now) != len(was):
            return [forbidden_field(f"spec.{group}", "pod updates may not add or remove containers")]
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
    if had is not None and deadline is None:
        text = "must not update from a positive integer to nil value"
        causes.append(invalid_value("spec.activeDeadlineSeconds", None, text))
    elif deadline is not None and deadline < 1:
        text = "must be between 1 and 2147483647, inclusive"
        causes.append(invalid_value("spec.activeDeadlineSeconds", deadline, text))
    elif had is not None and deadline > had:
        text = "must be less than or equal to previous value"
        causes.append(invalid_value("spec.activeDeadlineSeconds", deadline, text))
    gates, had_gates = after.pop("schedulingGates", None) or [], before.pop("schedulingGates", None) or []
    text = "only deletion is allowed, but found new scheduling gate '{}'"
    causes += [
        forbidden_field(f"spec.schedulingGates[{i}].name", text.format(gate.get("name")))
        for i, gate in enumerate(gates)
        if gate not in had_gates
    ]
    if after != before:
        causes.append(forbidden_field("spec", _IMMUTABLE))
    return list(dict.fromkeys(causes))


def update_resize(new: Body, old: Body) -> list[Cause]:
    """Return what a resize may not do."""
    if _qos(new["spec"]) != _qos(old["spec"]):
        return [invalid_value("spec", {}, "Pod QOS Class may not change as a result of resizing")]
    return []


def update_status(new: Body, old: Body) -> list[Cause]:
    """Return what an update of the status may not do."""
    after, before = new.get("status") or {}, old.get("status") or {}
    causes = [
        cause
        for i, condition in enumerate(after.get("conditions") or ())
        for cause in of_errors(
            [
                invalid(f"status.conditions[{i}].Type", condition.get("type", ""), why)
                for why in labels.qualified_name(condition.get("type", ""))
            ]
        )
    ]
    if (new.get("spec") or {}).get("restartPolicy") == "Always":
        return causes
    ended = {
        c.get("name"): c["state"]["terminated"]
        for c in before.get("containerStatuses") or ()
        if (c.get("state") or {}).get("terminated")
    }
    for i, status in enumerate(after.get("containerStatuses") or ()):
        was = ended.get(status.get("name"))
        failed = was is not None and (was.get("exitCode") or 0) != 0
        if was is None or (status.get("state") or {}).get("terminated"):
            continue
        if failed and new["spec"].get("restartPolicy") == "OnFailure":
            continue
        text = "may not be transitioned to non-terminated state"
        causes.append(forbidden_field(f"status.containerStatuses[{i}].state", text))
    return causes


def _without_image(container: Body) -> Body:
    return {k: v for k, v in container.items() if k != "image"}


def resize(new: Body, old: Body) -> Body:
    """Return *old* with the container resources of *new*: all that ``pods/resize`` may change, metadata included."""
    wanted = {c.get("name"): c.get("resources") for c in (new.get("spec") or {}).get("containers") or ()}
    spec = dict(old["spec"])
    spec["containers"] = [
        {**c, "resources": wanted[c["name"]]} if wanted.get(c["name"]) is not None else c for c in spec["containers"]
    ]
    asked = {name: new["metadata"].get(name) for name in ("uid", "resourceVersion")}
    return {**old, "spec": spec, "metadata": {**old["metadata"], **asked}}


def bind(old: Body, node: str, now: float) -> Body:
    """Return the pod *old*, assigned to *node*. Raises Failure 409 when it has a node already."""
    name = old["metadata"]["name"]
    if old["spec"].get("nodeName"):
        raise conflict("pods/binding", "", name, f'pod {name} is already assigned to node "{old["spec"]["nodeName"]}"')
    if old["metadata"].get("deletionTimestamp"):
        raise conflict("pods/binding", "", name, f"pod {name} is being deleted, cannot be assigned to a host")
    if old["spec"].get("schedulingGates"):
        raise conflict("pods/binding", "", name, f"pod {name} has non-empty .spec.schedulingGates")
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
