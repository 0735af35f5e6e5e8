"""Tables: what ``kubectl get`` prints.

Purpose: columns and cells of the built-in kinds, and those that a custom kind declares by JSONPath.

Guarantees:

* TST1: names, types, formats and priorities of the columns and the values of the cells are those of a real server.

What this does not do: columns have no descriptions; pods have a room of their own, ``table_pods.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from kruise.runtime.clock import parse_time
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.table_pods import POD_COLUMNS, age, pod_cells, since
from kruise.simulator.apiserver.webhooks_config import TABLES as WEBHOOKS
from kruise.simulator.apiserver.workloads import selector_text

Body = dict[str, Any]
Row = Callable[[Body, float], list[Any]]

NAME: Final = ("Name", "string", 0, "name")
AGE: Final = ("Age", "string", 0)
Column = tuple[Any, ...]
"""Name, type, priority, and the format if it has one."""


def _age(obj: Body, now: float) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def _status(obj: Body) -> Body:
    return obj.get("status") or {}


def _spec(obj: Body) -> Body:
    return obj.get("spec") or {}


def _containers(obj: Body) -> tuple[str, str]:
    containers = ((_spec(obj).get("template") or {}).get("spec") or {}).get("containers") or ()
    return ",".join(c["name"] for c in containers), ",".join(c.get("image", "") for c in containers)


def _selector(obj: Body) -> str:
    return selector_text(_spec(obj).get("selector")) or "<none>"


def _node(obj: Body, now: float) -> list[Any]:
    conditions = {c["type"]: c["status"] for c in _status(obj).get("conditions") or ()}
    ready = conditions.get("Ready")
    words = ["Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"]
    if _spec(obj).get("unschedulable"):
        words.append("SchedulingDisabled")
    roles = set()
    for key, value in (obj["metadata"].get("labels") or {}).items():
        if key.startswith("node-role.kubernetes.io/") and (role := key.partition("/")[2]):
            roles.add(role)
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    addresses = _status(obj).get("addresses") or ()
    internal, external = (
        next((a["address"] for a in addresses if a["type"] == kind), "<none>") for kind in ("InternalIP", "ExternalIP")
    )
    info = _status(obj).get("nodeInfo") or {}
    shown = [info.get(k) or "<unknown>" for k in ("osImage", "kernelVersion", "containerRuntimeVersion")]
    if info.get("architecture"):
        shown[1] += f" ({info['architecture']})"
    name, listed = obj["metadata"]["name"], ",".join(sorted(roles)) or "<none>"
    return [name, ",".join(words), listed, _age(obj, now), info.get("kubeletVersion", ""), internal, external, *shown]


def _event(obj: Body, now: float) -> list[Any]:
    regarding = obj.get("regarding") or {}
    series = obj.get("series") or {}
    first = obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = series.get("lastObservedTime") or obj.get("deprecatedLastTimestamp") or first
    count = series.get("count") or obj.get("deprecatedCount") or 1
    source = obj.get("deprecatedSource") or {}
    parts = [p for p in (source.get("component"), source.get("host")) if p]
    if not parts:
        parts = [p for p in (obj.get("reportingController"), obj.get("reportingInstance")) if p]
    target = regarding.get("kind", "").lower() + (f"/{regarding['name']}" if regarding.get("name") else "")
    return [
        since(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        target,
        regarding.get("fieldPath", ""),
        ", ".join(parts),
        (obj.get("note") or "").strip(),
        since(first, now),
        count,
        obj["metadata"]["name"],
    ]


_MODES: Final = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _claim(obj: Body, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase", "")
    volume = spec.get("volumeName", "")
    capacity = (status.get("capacity") or {}).get("storage", "") if volume else ""
    modes = ",".join(_MODES[m] for m in _MODES if m in (status.get("accessModes") or ())) if volume else ""
    kind = spec.get("volumeAttributesClassName") or "<unset>"
    storage = (obj["metadata"].get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    storage = storage if storage is not None else spec.get("storageClassName") or ""
    mode = spec.get("volumeMode") or "<unset>"
    return [obj["metadata"]["name"], phase, volume, capacity, modes, storage, kind, _age(obj, now), mode]


def _volume(obj: Body, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    claim = spec.get("claimRef") or {}
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase", "")
    modes = ",".join(_MODES[m] for m in _MODES if m in (spec.get("accessModes") or ()))
    return [
        obj["metadata"]["name"],
        (spec.get("capacity") or {}).get("storage", ""),
        modes,
        spec.get("persistentVolumeReclaimPolicy", ""),
        phase,
        f"{claim['namespace']}/{claim['name']}" if claim else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or "<unset>",
        status.get("reason", ""),
        _age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


def _deployment(obj: Body, now: float) -> list[Any]:
    status = _status(obj)
    ready = f"{status.get('readyReplicas') or 0}/{_spec(obj).get('replicas') or 0}"
    counts = [status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0]
    return [obj["metadata"]["name"], ready, *counts, _age(obj, now), *_containers(obj), _selector(obj)]


def _stateful_set(obj: Body, now: float) -> list[Any]:
    ready = f"{_status(obj).get('readyReplicas') or 0}/{_spec(obj).get('replicas') or 0}"
    return [obj["metadata"]["name"], ready, _age(obj, now), *_containers(obj)]


def _replica_set(obj: Body, now: float) -> list[Any]:
    status = _status(obj)
    counts = [_spec(obj).get("replicas") or 0, status.get("replicas") or 0, status.get("readyReplicas") or 0]
    return [obj["metadata"]["name"], *counts, _age(obj, now), *_containers(obj), _selector(obj)]


def _daemon_set(obj: Body, now: float) -> list[Any]:
    status = _status(obj)
    names = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled")
    counts = [status.get(n) or 0 for n in (*names, "numberAvailable")]
    chosen = ((_spec(obj).get("template") or {}).get("spec") or {}).get("nodeSelector") or {}
    nodes = ",".join(f"{k}={v}" for k, v in sorted(chosen.items())) or "<none>"
    return [obj["metadata"]["name"], *counts, nodes, _age(obj, now), *_containers(obj), _selector(obj)]


def _job(obj: Body, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    on = {c["type"] for c in status.get("conditions") or () if c["status"] == "True"}
    word = next((w for w in ("Complete", "Failed") if w in on), "Suspended" if "Suspended" in on else "Running")
    if obj["metadata"].get("deletionTimestamp") and word == "Running":
        word = "Terminating"
    wanted = spec.get("completions")
    total = str(wanted) if wanted is not None else f"1 of {spec.get('parallelism')}" if spec.get("parallelism") else "1"
    begin, end = parse_time(status.get("startTime") or ""), parse_time(status.get("completionTime") or "")
    duration = "" if begin is None else age((end if end is not None else now) - begin)
    done = f"{status.get('succeeded') or 0}/{total}"
    return [obj["metadata"]["name"], word, done, duration, _age(obj, now), *_containers(obj), _selector(obj)]


def _budget(obj: Body, now: float) -> list[Any]:
    spec = _spec(obj)
    limits = [str(spec[k]) if spec.get(k) is not None else "N/A" for k in ("minAvailable", "maxUnavailable")]
    return [obj["metadata"]["name"], *limits, _status(obj).get("disruptionsAllowed") or 0, _age(obj, now)]


def _quota(obj: Body, now: float) -> list[Any]:
    status = _status(obj)
    hard, used = status.get("hard") or {}, status.get("used") or {}
    parts = {
        side: ", ".join(f"{n}: {used.get(n, '')}/{hard[n]}" for n in sorted(hard) if n.startswith("limits.") is limits)
        for side, limits in (("request", False), ("limit", True))
    }
    return [obj["metadata"]["name"], parts["request"], parts["limit"], _age(obj, now)]


def _definition(obj: Body, _now: float) -> list[Any]:
    spec = _spec(obj)
    versions = ",".join(v["name"] + ("(storage)" if v.get("storage") else "") for v in spec.get("versions") or ())
    conditions = _status(obj).get("conditions") or ()
    served = any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
    names = spec.get("names") or {}
    made = obj["metadata"].get("creationTimestamp")
    short = ",".join(names.get("shortNames") or ())
    shown = [spec.get("scope"), versions, made, spec.get("group"), names.get("kind"), short, served]
    return [obj["metadata"]["name"], *shown]


def _service(obj: Body, now: float) -> list[Any]:
    spec = _spec(obj)
    ports = ",".join(f"{p['port']}/{p.get('protocol', 'TCP')}" for p in spec.get("ports") or ())
    chosen = ",".join(f"{k}={v}" for k, v in sorted((spec.get("selector") or {}).items()))
    address = spec.get("clusterIP") or "<none>"
    kind = spec.get("type", "ClusterIP")
    return [obj["metadata"]["name"], kind, address, "<none>", ports or "<none>", _age(obj, now), chosen or "<none>"]


def _named(*cells: Callable[[Body], Any]) -> Row:
    """Return rows of the name, some cells and the age."""
    return lambda obj, now: [obj["metadata"]["name"], *(cell(obj) for cell in cells), _age(obj, now)]


def _controller(obj: Body) -> str:
    found = next((r for r in obj["metadata"].get("ownerReferences") or () if r.get("controller")), None)
    if found is None:
        return "<none>"
    group = found["apiVersion"].rpartition("/")[0]
    return f"{found['kind'].lower()}{'.' + group if group else ''}/{found['name']}"


def _text(*names: str) -> tuple[Column, ...]:
    return tuple((name, "string", 0) for name in names)


def _wide(*names: str) -> tuple[Column, ...]:
    return tuple((name, "string", 1) for name in names)


def _whole(*names: str) -> tuple[Column, ...]:
    return tuple((name, "integer", 0) for name in names)


_EVENT_COLUMNS: Final = (
    *_text("Last Seen", "Type", "Reason", "Object"),
    *_wide("Subobject", "Source"),
    *_text("Message"),
    *_wide("First Seen", "Count"),
    ("Name", "string", 1, "name"),
)
_CREATED: Final[tuple[tuple[Column, ...], Row]] = (
    (NAME, ("Created At", "date", 0)),
    lambda obj, _: [obj["metadata"]["name"], obj["metadata"].get("creationTimestamp")],
)
BUILT_IN: Final[dict[str, tuple[tuple[Column, ...], Row]]] = {
    "pods": ((NAME, *POD_COLUMNS), pod_cells),
    "nodes": (
        (
            NAME,
            *_text("Status", "Roles"),
            AGE,
            *_text("Version"),
            *_wide("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
        ),
        _node,
    ),
    "namespaces": ((NAME, *_text("Status"), AGE), _named(lambda o: _status(o).get("phase", ""))),
    "configmaps": (
        (NAME, *_text("Data"), AGE),
        _named(lambda o: len(o.get("data") or ()) + len(o.get("binaryData") or ())),
    ),
    "secrets": (
        (NAME, *_text("Type", "Data"), AGE),
        _named(lambda o: o.get("type", ""), lambda o: len(o.get("data") or ())),
    ),
    "serviceaccounts": ((NAME, AGE), _named()),
    "services": (
        (NAME, *_text("Type", "Cluster-IP", "External-IP", "Port(s)"), AGE, *_wide("Selector")),
        _service,
    ),
    "events.events.k8s.io": (_EVENT_COLUMNS, _event),
    "persistentvolumeclaims": (
        (
            NAME,
            *_text("Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass"),
            AGE,
            *_wide("VolumeMode"),
        ),
        _claim,
    ),
    "persistentvolumes": (
        (
            NAME,
            *_text("Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim", "StorageClass"),
            *_text("VolumeAttributesClass", "Reason"),
            AGE,
            *_wide("VolumeMode"),
        ),
        _volume,
    ),
    "resourcequotas": ((NAME, *_text("Request", "Limit"), AGE), _quota),
    "limitranges": _CREATED,
    "roles.rbac.authorization.k8s.io": _CREATED,
    "clusterroles.rbac.authorization.k8s.io": _CREATED,
    **{table: ((NAME, *_whole("Webhooks"), AGE), _named(lambda o: len(o.get("webhooks") or ()))) for table in WEBHOOKS},
    "leases.coordination.k8s.io": ((NAME, *_text("Holder"), AGE), _named(lambda o: _spec(o).get("holderIdentity", ""))),
    "controllerrevisions.apps": (
        (NAME, *_text("Controller", "Revision"), AGE),
        _named(_controller, lambda o: o.get("revision") or 0),
    ),
    "deployments.apps": (
        (NAME, *_text("Ready", "Up-to-date", "Available"), AGE, *_wide("Containers", "Images", "Selector")),
        _deployment,
    ),
    "statefulsets.apps": ((NAME, *_text("Ready"), AGE, *_wide("Containers", "Images")), _stateful_set),
    "replicasets.apps": (
        (NAME, *_whole("Desired", "Current", "Ready"), AGE, *_wide("Containers", "Images", "Selector")),
        _replica_set,
    ),
    "daemonsets.apps": (
        (
            NAME,
            *_whole("Desired", "Current", "Ready", "Up-to-date", "Available"),
            *_text("Node Selector"),
            AGE,
            *_wide("Containers", "Images", "Selector"),
        ),
        _daemon_set,
    ),
    "jobs.batch": (
        (NAME, *_text("Status", "Completions", "Duration"), AGE, *_wide("Containers", "Images", "Selector")),
        _job,
    ),
    "poddisruptionbudgets.policy": (
        (NAME, *_text("Min Available", "Max Unavailable"), *_whole("Allowed Disruptions"), AGE),
        _budget,
    ),
    "customresourcedefinitions.apiextensions.k8s.io": (
        (
            NAME,
            *_text("Scope", "Versions"),
            ("Created At", "date", 0),
            *_wide("Group", "Kind", "ShortNames"),
            ("Established", "boolean", 1),
        ),
        _definition,
    ),
}


def columns_of(info: ResourceType, version: str) -> list[Body]:
    """Return the column definitions of *info* in *version*."""
    if info.table in BUILT_IN:
        return [_column(*c) for c in BUILT_IN[info.table][0]]
    declared = _declared(info, version)
    head = _column(*NAME)
    if not declared:
        kind = "date" if info.custom else "string"
        return [head, _column("Age", kind, 0)]
    default = "Custom resource definition column (in JSONPath format): "
    return [
        head,
        *(
            _column(
                c["name"],
                c["type"],
                c.get("priority") or 0,
                c.get("format", ""),
                c.get("description") or default + c["jsonPath"],
            )
            for c in declared
        ),
    ]


def cells_of(obj: Body, info: ResourceType, version: str, now: float) -> list[Any]:
    """Return the cells of one row."""
    if info.table in BUILT_IN:
        return BUILT_IN[info.table][1](obj, now)
    name, declared = obj["metadata"]["name"], _declared(info, version)
    if not declared:
        return [name, _age(obj, now)]
    return [name, *(_cell(obj, c["type"], c["jsonPath"], now) for c in declared)]


def _column(name: str, kind: str, priority: int, form: str = "", description: str = "") -> Body:
    return {"name": name, "type": kind, "format": form, "description": description, "priority": priority}


def _declared(info: ResourceType, version: str) -> Sequence[Body]:
    versions = (info.definition or {}).get("versions") or ()
    return next((v.get("additionalPrinterColumns") or () for v in versions if v["name"] == version), ())


def _cell(obj: Body, kind: str, path: str, now: float) -> Any:
    found = list(json_path(obj, path))
    if not found:
        return None
    value = found[0]
    if kind == "date":
        return since(value, now)
    if kind in ("integer", "number", "boolean"):
        return value
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else _go_text(value)


def _go_text(value: Any) -> str:
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{_go_text(v)}" for k, v in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(_go_text(v) for v in value) + "]"
    return str(value)


_STEP: Final = re.compile(
    r"""\.?(?:
        \[\?\(@\.(?P<field>[^=!<>\s)]+)\s*==\s*(?P<quote>["'])(?P<wanted>.*?)(?P=quote)\)\]
      | \[\s*(?P<index>-?\d+|\*)\s*\]
      | \[\s*['"](?P<quoted>[^'"]+)['"]\s*\]
      | (?P<name>(?:\\.|[^.\[\\])+)
    )""",
    re.VERBOSE,
)


def json_path(value: Any, path: str) -> Iterable[Any]:
    """Return what the JSONPath *path* of a column finds; the small part of JSONPath that columns use."""
    found: list[Any] = [value]
    position = 0
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            return []
        position = step.end()
        found = [inner for one in found for inner in _follow(one, step)]
    return [v for v in found if v is not None]


def _follow(value: Any, step: re.Match[str]) -> list[Any]:
    name = step["name"] or step["quoted"]
    if name is not None:
        name = re.sub(r"\\(.)", r"\1", name)
        return [value[name]] if isinstance(value, dict) and name in value else []
    if not isinstance(value, list):
        return []
    if step["field"] is not None:
        return [v for v in value if isinstance(v, dict) and str(v.get(step["field"])) == step["wanted"]]
    if step["index"] == "*":
        return list(value)
    index = int(step["index"])
    return [value[index]] if -len(value) <= index < len(value) else []
