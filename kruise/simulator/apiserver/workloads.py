"""Deployments, StatefulSets and their like, as stored objects.

Purpose: kubectl applies, scales and shows them, so they get the defaults of a real server and the few checks that a
person meets. No controller acts on them here.

Guarantees:

* TST1: defaults of Deployment, StatefulSet, ReplicaSet, DaemonSet and Job, pod template included; a wrong or changed
  selector is refused as on a real server.

What this does not do: Jobs get no selector and no labels of their own, because no controller would use them.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.apis.podtemplate import validate_pod_template
from kruise.simulator.apiserver.budgets import selects
from kruise.simulator.apiserver.failure import Cause, forbidden_field, immutable, invalid_value, of_errors, required
from kruise.simulator.apiserver.pods import completed
from kruise.simulator.apiserver.resources import ResourceType

Body = dict[str, Any]

TABLES: Final = frozenset(
    {"deployments.apps", "statefulsets.apps", "replicasets.apps", "daemonsets.apps", "jobs.batch"}
)
_FREE: Final = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_STATEFUL_TEXT: Final = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def create(obj: Body, info: ResourceType) -> list[Cause]:
    """Default and validate a new object, in place."""
    obj["status"] = _empty_status(info)
    return _complete(obj, info)


def update(new: Body, old: Body, info: ResourceType) -> list[Cause]:
    """Default *new* in place, and return what it may not change."""
    causes = _complete(new, info)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if info.table == "statefulsets.apps":
        if {k: v for k, v in after.items() if k not in _FREE} != {k: v for k, v in before.items() if k not in _FREE}:
            causes.append(forbidden_field("spec", _STATEFUL_TEXT))
    elif after.get("selector") != before.get("selector"):
        causes.append(immutable("spec.selector", after.get("selector")))
    return causes


def _empty_status(info: ResourceType) -> Body:
    return {
        "statefulsets.apps": {"replicas": 0, "availableReplicas": 0},
        "replicasets.apps": {"replicas": 0},
        "daemonsets.apps": {
            "currentNumberScheduled": 0,
            "numberMisscheduled": 0,
            "desiredNumberScheduled": 0,
            "numberReady": 0,
        },
    }.get(info.table, {})


def _complete(obj: Body, info: ResourceType) -> list[Cause]:
    spec: Body = obj.setdefault("spec", {})
    template = spec.get("template")
    causes: list[Cause] = []
    if isinstance(template, dict):
        spec["template"] = template = completed(template)
        template.setdefault("metadata", {})
    if info.table != "jobs.batch":
        selector = spec.get("selector")
        have = ((template or {}).get("metadata") or {}).get("labels") or {}
        if not selector:
            causes.append(required("spec.selector"))
        elif not selects(selector, have):
            text = "`selector` does not match template `labels`"
            causes.append(invalid_value("spec.template.metadata.labels", have, text))
    if (spec.get("replicas") or 0) < 0:
        causes.append(invalid_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0"))
    causes += of_errors(validate_pod_template(template or {"spec": {}}, "spec.template"))
    _DEFAULTS[info.table](spec)
    return causes


def _deployment(spec: Body) -> None:
    _fill(spec, replicas=1, progressDeadlineSeconds=600, revisionHistoryLimit=10)
    strategy = spec.setdefault("strategy", {})
    _fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), maxSurge="25%", maxUnavailable="25%")


def _stateful_set(spec: Body) -> None:
    _fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    _fill(spec.setdefault("persistentVolumeClaimRetentionPolicy", {}), whenDeleted="Retain", whenScaled="Retain")
    strategy = spec.setdefault("updateStrategy", {})
    _fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), partition=0, maxUnavailable=1)


def _replica_set(spec: Body) -> None:
    _fill(spec, replicas=1)


def _daemon_set(spec: Body) -> None:
    _fill(spec, revisionHistoryLimit=10)
    strategy = spec.setdefault("updateStrategy", {})
    _fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), maxSurge=0, maxUnavailable=1)


def _job(spec: Body) -> None:
    _fill(spec, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False, manualSelector=False)
    _fill(spec, podReplacementPolicy="TerminatingOrFailed")
    if spec["parallelism"] == 1:
        _fill(spec, completions=1)


_DEFAULTS: Final = {
    "deployments.apps": _deployment,
    "statefulsets.apps": _stateful_set,
    "replicasets.apps": _replica_set,
    "daemonsets.apps": _daemon_set,
    "jobs.batch": _job,
}


def _fill(target: Body, **values: Any) -> None:
    for name, value in values.items():
        if target.get(name) is None:
            target[name] = value


def selector_text(selector: Body | None) -> str:
    """Return a ``metav1.LabelSelector`` as text, as tables and the scale subresource show it."""
    if not selector:
        return ""
    parts = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for rule in selector.get("matchExpressions") or ():
        values = ",".join(sorted(rule.get("values") or ()))
        parts.append(
            {
                "In": f"{rule['key']} in ({values})",
                "NotIn": f"{rule['key']} notin ({values})",
                "Exists": rule["key"],
                "DoesNotExist": f"!{rule['key']}",
            }[rule["operator"]]
        )
    return ",".join(parts)
