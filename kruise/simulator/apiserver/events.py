"""The rules of events: one store, two API groups.

Purpose: ``events.k8s.io/v1`` is what the manager writes and ``v1`` is what kubectl reads; both show the same objects.

Guarantees:

* TST1: in ``events.k8s.io/v1`` eventTime, action, reason, reportingController and reportingInstance are required; the
  note has at most 1,024 characters; a series counts at least 2; the deprecated fields are refused; after the creation
  only the series may change, else 422.

What this does not do: events do not expire.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kruise.apis.fielderrors import invalid
from kruise.apis.labels import qualified_name
from kruise.simulator.apiserver.failure import Cause, immutable, invalid_value, of_errors, required
from kruise.simulator.apiserver.resources import ResourceType

Body = dict[str, Any]

MODERN: Final = "events.k8s.io/v1"
_RENAMED: Final = (
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
)
_CORE_EMPTY: Final[Body] = {
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}
_MODERN_EMPTY: Final[Body] = {
    "deprecatedSource": {},
    "deprecatedFirstTimestamp": None,
    "deprecatedLastTimestamp": None,
    "eventTime": None,
}
_OPTIONAL: Final = ("reportingController", "reportingInstance")
_DEPRECATED: Final = ("deprecatedSource", "deprecatedFirstTimestamp", "deprecatedLastTimestamp", "deprecatedCount")
_FROZEN: Final = (
    "regarding",
    "related",
    "reason",
    "action",
    "note",
    "type",
    "eventTime",
    "reportingController",
    "reportingInstance",
)
_REGARDING: Final = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_FIELDS: Final = (*(f"regarding.{f}" for f in _REGARDING), "reason", "reportingController", "type")
_CORE_ALIASES: Final = {
    **{f"involvedObject.{f}": f"regarding.{f}" for f in _REGARDING},
    "reportingComponent": "reportingController",
    # The spelling of the other group is none of this one.
    **{f"regarding.{f}": "" for f in _REGARDING},
}
_MICRO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)\Z")


def event_types() -> list[ResourceType]:
    """Return the two resources that show events."""
    common: dict[str, Any] = {
        "stored_as": "events.events.k8s.io",
        "stored_version": MODERN,
        "convert": convert,
        "short": ("ev",),
    }
    return [
        ResourceType("events.k8s.io", ("v1",), "Event", "events", fields=_FIELDS, **common),
        ResourceType("", ("v1",), "Event", "events", fields=(*_FIELDS, "source"), aliases=_CORE_ALIASES, **common),
    ]


def convert(event: Body, api_version: str) -> Body:
    """Return *event* in the shape of *api_version*: ``v1`` or ``events.k8s.io/v1``."""
    if event.get("apiVersion") == api_version:
        return event
    pairs = dict(_RENAMED) if api_version == "v1" else {old: new for new, old in _RENAMED}
    renamed = {pairs.get(name, name): value for name, value in event.items()}
    renamed["apiVersion"] = api_version
    if api_version == "v1":
        return {**_CORE_EMPTY, **renamed}
    return {**_MODERN_EMPTY, **{k: v for k, v in renamed.items() if v != "" or k not in _OPTIONAL}}


def create(event: Body, given_version: str) -> list[Cause]:
    """Validate a new event, which has the stored shape; *given_version* is the shape in which it came."""
    regarding = event.setdefault("regarding", {})
    namespace, about = event["metadata"].get("namespace"), regarding.get("namespace") or ""
    if event.get("eventTime"):
        fits = bool(about) or namespace in ("default", "kube-system")
    else:
        fits = (about or "default") == namespace
    if not fits:
        text = "does not match event.namespace"
        return [invalid_value("involvedObject.namespace", regarding.get("namespace", ""), text)]
    if given_version != MODERN:
        return []
    causes = [
        required(name)
        for name in ("eventTime", "action", "reason", "reportingController", "reportingInstance")
        if not event.get(name)
    ]
    controller = event.get("reportingController") or ""
    causes += of_errors([invalid("reportingController", controller, why) for why in qualified_name(controller)])
    causes += [
        invalid_value(_core_name(name), event.get(name), f"can have at most {limit} characters")
        for name, limit in (("reason", 128), ("action", 128), ("reportingInstance", 128), ("note", 1024))
        if len((event.get(name) or "").encode()) > limit
    ]
    if event.get("type") not in ("Normal", "Warning"):
        causes.append(invalid_value("type", event.get("type", ""), "has invalid value: " + str(event.get("type", ""))))
    causes += [
        invalid_value(_core_name(name), event[name], "needs to be unset") for name in _DEPRECATED if event.get(name)
    ]
    return causes + _series(event)


def _core_name(name: str) -> str:
    """Return a field as the server's own form of events, which is the older one, calls it."""
    return dict(_RENAMED).get(name, name)


def _series(event: Body) -> list[Cause]:
    series = event.get("series")
    if not series:
        return []
    causes: list[Cause] = []
    if (series.get("count") or 0) < 2:
        causes.append(invalid_value("series.count", series.get("count"), "should be at least 2"))
    if not series.get("lastObservedTime"):
        causes.append(required("series.lastObservedTime", "needs to be set"))
    return causes


def update(new: Body, old: Body, given_version: str) -> list[Cause]:
    """Return what an update of an event may not do."""
    if given_version != MODERN:
        return []
    return [
        immutable(_core_name(name), new.get(name))
        for name in (*_FROZEN, *_DEPRECATED)
        if new.get(name) != old.get(name)
    ] + _series(new)


def bad_micro_time(value: object) -> str:
    """Return what is wrong with a ``MicroTime``, or ``""``: it needs exactly six fraction digits."""
    if value is None or (isinstance(value, str) and _MICRO.match(value)):
        return ""
    return f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "{value}"'
