"""The forms in which an object can be answered: whole, metadata only, or as a row of a table.

Purpose: content negotiation, and the encoding of objects, once per version and form.

Guarantees:

* TST1: ``as=PartialObjectMetadata`` and ``as=Table`` of the Accept header, also on writes and watches. Items of a list
  of a built-in kind have neither apiVersion nor kind, as with kube-apiserver; those of a custom kind have both.

What this does not do: the tables of built-in kinds have the columns Name and Age only; no protobuf, no CBOR.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import orjson

from kruise.runtime.clock import parse_time
from kruise.simulator.apiserver.failure import not_acceptable
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.selectors import field_default
from kruise.simulator.apiserver.storage import Record

Body = dict[str, Any]
Form = Literal["full", "partial", "table"]

META: Final = "meta.k8s.io/v1"
_JSON: Final = frozenset({"application/json", "application/*", "*/*", ""})
_FORMS: Final[dict[str, Form]] = {
    "PartialObjectMetadata": "partial",
    "PartialObjectMetadataList": "partial",
    "Table": "table",
}


def negotiate(accept: str) -> Form:
    """Return the form that an Accept header asks for, the first one that can be served. Raises Failure 406."""
    for entry in accept.split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        if media not in _JSON:
            continue
        wanted = dict(p.partition("=")[::2] for p in parameters)
        if "as" not in wanted:
            return "full"
        if wanted["as"] in _FORMS and wanted.get("g", "meta.k8s.io") == "meta.k8s.io" and wanted.get("v", "v1") == "v1":
            return _FORMS[wanted["as"]]
    raise not_acceptable()


def encode(record: Record, info: ResourceType, version: str, form: Form, *, now: float = 0.0) -> bytes:
    """Return one object as JSON."""
    if form == "full":
        return record.wire(info.api_version(version), lambda obj: info.in_version(obj, version))
    if form == "partial":
        return record.wire("partial", _partial)
    return orjson.dumps(_table([record], info, now, str(record.rv)))


def encode_list(
    records: list[Record], info: ResourceType, version: str, form: Form, metadata: Body, *, now: float = 0.0
) -> bytes:
    """Return a list as JSON, with *metadata* for its own."""
    if form == "table":
        table = _table(records, info, now, metadata["resourceVersion"])
        table["metadata"] = metadata
        return orjson.dumps(table)
    if form == "partial":
        head = {"kind": "PartialObjectMetadataList", "apiVersion": META, "metadata": metadata}
        items = [r.wire("partial", _partial) for r in records]
    else:
        head = {"kind": f"{info.kind}List", "apiVersion": info.api_version(version), "metadata": metadata}
        if info.custom:
            items = [r.wire(info.api_version(version), lambda obj: info.in_version(obj, version)) for r in records]
        else:
            bare = f"{info.api_version(version)} bare"
            items = [r.wire(bare, lambda obj: _bare(info.in_version(obj, version))) for r in records]
    return orjson.dumps(head)[:-1] + b',"items":[' + b",".join(items) + b"]}"


def _bare(obj: Body) -> Body:
    return {name: value for name, value in obj.items() if name not in ("kind", "apiVersion")}


def _partial(obj: Body) -> Body:
    return {"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": obj["metadata"]}


def _table(records: list[Record], info: ResourceType, now: float, version: str) -> Body:
    columns = [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]
    shown = info.columns or (("Age", "date", "metadata.creationTimestamp"),)
    columns += [{"name": name, "type": kind, "format": "", "description": "", "priority": 0} for name, kind, _ in shown]
    rows = [
        {
            "cells": [r.obj["metadata"]["name"], *(_cell(r.obj, kind, path, now) for _, kind, path in shown)],
            "object": _partial(r.obj),
        }
        for r in records
    ]
    return {
        "kind": "Table",
        "apiVersion": META,
        "metadata": {"resourceVersion": version},
        "columnDefinitions": columns,
        "rows": rows,
    }


def _cell(obj: Body, kind: str, path: str, now: float) -> Any:
    text = field_default(obj, path)
    if kind == "date":
        stamp = parse_time(text)
        return "<unknown>" if stamp is None else age(now - stamp)
    if kind == "integer":
        return int(text) if text.lstrip("-").isdigit() else None
    return text


def age(seconds: float) -> str:
    """Return a duration as kubectl shows it.

    >>> age(59), age(600), age(7260), age(200000)
    ('59s', '10m', '121m', '2d7h')
    """
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"
