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

from kruise.simulator.apiserver.failure import Cause, immutable, invalid_value, required, too_long, unsupported_value
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
_FIELDS: Final = (
    *(f"regarding.{f}" for f in _REGARDING),
    "reason",
    "reportingController",
    "type",
    "deprecatedSource.component",
)
_ALIASES: Final = {
    **{f"involvedObject.{f}": f"regarding.{f}" for f in _REGARDING},
    "reportingComponent": "reportingController",
    "source": "deprecatedSource.component",
}
_MICRO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)\Z")


def event_types() -> list[ResourceType]:
    """Return the two resources that show events."""
    common: dict[str, Any] = {
        "stored_as": "events.events.k8s.io",
        "stored_version": MODERN,
        "convert": convert,
        "short": ("ev",),
        "fields": _FIELDS,
        "aliases": _ALIASES,
    }
    return [
        ResourceType("events.k8s.io", ("v1",), "Event", "events", **common),
        ResourceType("", ("v1",), "Event", "events", **common),
    ]


def convert(event: Body, api_version: str) -> Body:
    """Return *event* in the shape of *api_version*: ``v1`` or ``events.k8s.io/v1``."""
    if event.get("apiVersion") == api_version:
        return event
    pairs = dict(_RENAMED) if api_version == "v1" else {old: new for new, old in _RENAMED}
    renamed = {pairs.get(name, name): value for name, value in event.items()}
    renamed["apiVersion"] = api_version
    return renamed


def create(event: Body, given_version: str) -> list[Cause]:
    """Validate a new event, which has the stored shape; *given_version* is the shape in which it came."""
    regarding = event.setdefault("regarding", {})
    if (regarding.get("namespace") or "default") != event["metadata"].get("namespace"):
        text = "does not match event.namespace"
        return [invalid_value("regarding.namespace", regarding.get("namespace", ""), text)]
    if given_version != MODERN:
        return []
    causes = [
        required(name)
        for name in ("eventTime", "action", "reason", "reportingController", "reportingInstance")
        if not event.get(name)
    ]
    causes += [
        too_long(name, limit)
        for name, limit in (("reason", 128), ("action", 128), ("reportingInstance", 128), ("note", 1024))
        if len((event.get(name) or "").encode()) > limit
    ]
    if event.get("type") not in ("Normal", "Warning"):
        causes.append(unsupported_value("type", event.get("type", ""), ("Normal", "Warning")))
    causes += [invalid_value(name, event[name], "needs to be unset") for name in _DEPRECATED if event.get(name)]
    return causes + _series(event)


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
        immutable(name, new.get(name)) for name in (*_FROZEN, *_DEPRECATED) if new.get(name) != old.get(name)
    ] + _series(new)


def bad_micro_time(value: object) -> str:
    """Return what is wrong with a ``MicroTime``, or ``""``: it needs exactly six fraction digits."""
    if value is None or (isinstance(value, str) and _MICRO.match(value)):
        return ""
    return f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "{value}"'
