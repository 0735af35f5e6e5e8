"""Built-in kinds as the server reads and writes them: types, unknown fields, nulls, empty structures.

Purpose: kube-apiserver decodes a built-in object into a structure and encodes it again. What that does to an object is
visible to clients: unknown fields go, wrong types are refused, quantities become canonical, and some absent values come
back as ``null`` or ``{}``.

Guarantees:

* TST1: fields and types are those of ``core_fields.json``, so of a real server. The paths of unknown fields are told in
  the order of the document. A value of a wrong type is a :class:`TypeProblem`.

What this does not do: kinds that the table does not hold are checked in their metadata only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from kruise.apis import core_fields
from kruise.apis.quantity import Quantity, QuantityError
from kruise.simulator.apiserver import webhooks_types
from kruise.simulator.apiserver.resources import ResourceType

Body = dict[str, Any]

META_TYPE: Final = "meta.v1.ObjectMeta"
_PACKAGES: Final = {
    "": "core.v1",
    "apps": "apps.v1",
    "batch": "batch.v1",
    "coordination.k8s.io": "coordination.v1",
    "events.k8s.io": "events.v1",
    "policy": "policy.v1",
    "storage.k8s.io": "storage.v1",
    "scheduling.k8s.io": "scheduling.v1",
    "rbac.authorization.k8s.io": "rbac.v1",
    "autoscaling": "autoscaling.v1",
}

# What Go's encoder writes although nobody set it: times that are no pointers, and structures that are none either.
_CONDITION: Final[dict[str, Any]] = {"lastTransitionTime": None}
_PROBED: Final[dict[str, Any]] = {"lastProbeTime": None, "lastTransitionTime": None}
_UPDATED: Final[dict[str, Any]] = {"lastUpdateTime": None, "lastTransitionTime": None}
FILLED: Final[dict[str, dict[str, Any]]] = {
    "core.v1.PodCondition": _PROBED,
    "core.v1.NodeCondition": {"lastHeartbeatTime": None, "lastTransitionTime": None},
    "core.v1.PersistentVolumeClaimCondition": _PROBED,
    "core.v1.NamespaceCondition": _CONDITION,
    "core.v1.ReplicationControllerCondition": _CONDITION,
    "apps.v1.DeploymentCondition": _UPDATED,
    "apps.v1.StatefulSetCondition": _CONDITION,
    "apps.v1.DaemonSetCondition": _CONDITION,
    "apps.v1.ReplicaSetCondition": _CONDITION,
    "batch.v1.JobCondition": _PROBED,
    "core.v1.ContainerStateRunning": {"startedAt": None},
    "core.v1.ContainerStateTerminated": {"startedAt": None, "finishedAt": None},
    "core.v1.ContainerStatus": {"state": {}, "lastState": {}},
    "core.v1.Container": {"resources": {}},
    "core.v1.EphemeralContainer": {"resources": {}},
    "core.v1.Event": {
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    },
    "events.v1.Event": {
        "deprecatedSource": {},
        "deprecatedFirstTimestamp": None,
        "deprecatedLastTimestamp": None,
        "eventTime": None,
    },
    "core.v1.Node": {"spec": {}, "status": {}},
    "core.v1.Pod": {"spec": {}, "status": {}},
    "core.v1.PersistentVolumeClaim": {"spec": {}, "status": {}},
    "core.v1.PersistentVolume": {"spec": {}, "status": {}},
    "core.v1.Service": {"status": {"loadBalancer": {}}},
    "core.v1.ResourceQuota": {"spec": {}, "status": {}},
    "coordination.v1.Lease": {"spec": {}},
    "core.v1.PodTemplateSpec": {"metadata": {}},
    "admissionregistration.v1.MutatingWebhook": {"clientConfig": {}},
    "admissionregistration.v1.ValidatingWebhook": {"clientConfig": {}},
    "core.v1.PersistentVolumeClaimSpec": {"resources": {}},
    "apps.v1.StatefulSetSpec": {"updateStrategy": {}},
    "apps.v1.StatefulSet": {"status": {"replicas": 0, "availableReplicas": 0}},
    "apps.v1.Deployment": {"status": {}},
    "apps.v1.ReplicaSet": {"status": {"replicas": 0}},
    "apps.v1.ReplicaSetStatus": {"replicas": 0},
    "apps.v1.StatefulSetStatus": {"replicas": 0, "availableReplicas": 0},
    "apps.v1.DaemonSet": {
        "status": {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}
    },
    "batch.v1.Job": {"status": {}},
    "policy.v1.PodDisruptionBudget": {
        "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}
    },
}
_INTEGERS: Final = {"int32": 31, "int64": 63}


class TypeProblem(Exception):
    """A value has another type than its field. ``path`` says where."""

    def __init__(self, path: str, wanted: str, value: Any) -> None:
        shown = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
        super().__init__(f"json: cannot unmarshal {shown[type(value)]} into Go struct field {path} of type {wanted}")
        self.path = path


class EmbeddedProblem(TypeProblem):
    """The metadata of an object inside another cannot be read."""


@dataclass(frozen=True, slots=True)
class _Type:
    fields: dict[str, tuple[str, str]]
    """Name -> how its value is read (``[``, ``{``, ``struct`` or a scalar), and the inner type."""
    filled: dict[str, Any]


@cache
def type_of(info_group: str, kind: str) -> str:
    """Return the name of a kind in the table of fields, or ``""`` when the table does not hold it."""
    name = f"{_PACKAGES.get(info_group, '')}.{kind}"
    return name if name in core_fields.known_types() else ""


def read(obj: Body, info: ResourceType, unknown: list[str]) -> Body:
    """Return *obj*, a built-in object, as the server understands it; add unknown fields to *unknown*.

    Raises TypeProblem. Parts that stay as they are, are shared.
    """
    group = "" if obj.get("apiVersion") == "v1" else info.group
    name = type_of(group, info.kind) or webhooks_types.type_name(group, info.kind)
    if name:
        return _struct(obj, name, "", unknown)
    meta = obj.get("metadata")
    return obj if meta is None else {**obj, "metadata": _struct(meta, META_TYPE, "metadata", unknown)}


def read_metadata(obj: Body, unknown: list[str]) -> Body:
    """Return *obj*, of a custom kind, with its metadata read."""
    meta = obj.get("metadata")
    return obj if meta is None else {**obj, "metadata": _struct(meta, META_TYPE, "metadata", unknown)}


def read_embedded(meta: Body, path: str) -> Body:
    """Return the metadata of an embedded object at *path*, without what is unknown. Raises EmbeddedProblem."""
    try:
        return _struct(meta, META_TYPE, "ObjectMeta", [])
    except TypeProblem as problem:
        text = json.dumps(meta, separators=(",", ":"))
        raised = EmbeddedProblem(path, "", meta)
        raised.args = (f"{path}: Invalid value: {text}: {problem}",)
        raise raised from None


@cache
def _type(name: str) -> _Type:
    known = _known()
    if name in webhooks_types.TYPES:
        fields = {field: _how(type_name, known) for field, type_name in webhooks_types.TYPES[name].items()}
    else:
        fields = {field.name: _how(field.type, known) for field in core_fields.fields(name).values()}
    return _Type(fields, FILLED.get(name, {}))


@cache
def _known() -> frozenset[str]:
    return frozenset(core_fields.known_types()) | webhooks_types.TYPES.keys()


def _how(type_name: str, known: frozenset[str]) -> tuple[str, str]:
    if type_name[0] in "[{":
        return type_name[0], type_name[1:-1]
    return ("struct", type_name) if type_name in known else (type_name, "")


def _struct(value: Any, name: str, path: str, unknown: list[str]) -> Body:
    if not isinstance(value, dict):
        raise TypeProblem(path or name.rpartition(".")[2], name, value)
    kind = _type(name)
    result: Body = {}
    for key, inner in value.items():
        here = f"{path}.{key}" if path else key
        how = kind.fields.get(key)
        if how is None:
            unknown.append(here)
        elif inner is not None:
            read = _value(inner, how, here, unknown)
            if read or how[0] not in "[{":
                result[key] = read  # an empty list or map is not written
        elif key in kind.filled:
            result[key] = None
    for key, default in kind.filled.items():
        if key not in result:
            result[key] = dict(default) if isinstance(default, dict) else default
    return result


def _value(value: Any, how: tuple[str, str], path: str, unknown: list[str]) -> Any:
    kind, inner = how
    if kind == "struct":
        return _struct(value, inner, path, unknown)
    if kind == "string":
        if not isinstance(value, str):
            raise TypeProblem(path, "string", value)
        return value
    if kind == "[":
        if not isinstance(value, list):
            raise TypeProblem(path, "slice", value)
        each = _inner(inner)
        return [None if v is None else _value(v, each, f"{path}[{i}]", unknown) for i, v in enumerate(value)]
    if kind == "{":
        if not isinstance(value, dict):
            raise TypeProblem(path, "map", value)
        each = _inner(inner)
        empty = "" if inner == "string" else None
        return {k: empty if v is None else _value(v, each, f"{path}.{k}", unknown) for k, v in value.items()}
    return _scalar(value, kind, path)


@cache
def _inner(name: str) -> tuple[str, str]:
    return _how(name, _known())


def _scalar(value: Any, kind: str, path: str) -> Any:
    if kind in _INTEGERS:
        if isinstance(value, bool) or not isinstance(value, int) or value.bit_length() > _INTEGERS[kind]:
            raise TypeProblem(path, kind, value)
    elif kind == "bool":
        if not isinstance(value, bool):
            raise TypeProblem(path, "bool", value)
    elif kind == "quantity":
        try:
            return str(Quantity.from_json(value))
        except QuantityError:
            raise TypeProblem(path, "Quantity", value) from None
    elif kind == "intOrString":
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise TypeProblem(path, "IntOrString", value)
    elif kind == "time" and core_fields.type_errors(value, "time", path):
        raise TypeProblem(path, "Time", value)
    elif kind == "bytes" and not isinstance(value, str):
        raise TypeProblem(path, "bytes", value)
    return value
