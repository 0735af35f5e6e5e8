"""The forms in which an object can be answered: whole, metadata only, or as a row of a table.

Purpose: content negotiation, and the encoding of objects, once per version and form.

Guarantees:

* TST1: ``as=PartialObjectMetadata`` and ``as=Table`` of the Accept header, also on writes and watches. Items of a list
  of a built-in kind have neither apiVersion nor kind, as with kube-apiserver; those of a custom kind have both.

What this does not do: no protobuf, no CBOR. Columns and cells are in ``tables.py``.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import orjson

from kruise.simulator.apiserver.failure import bad_request, not_acceptable
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.storage import Record
from kruise.simulator.apiserver.tables import cells_of, columns_of

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


def included(query: dict[str, str]) -> str:
    """Return how much of each object the rows of a table carry. Raises Failure 400."""
    include = query.get("includeObject") or "Metadata"
    if include not in ("None", "Metadata", "Object"):
        raise bad_request(f"unrecognized includeObject value: {include!r}")
    return include


def encode(
    record: Record,
    info: ResourceType,
    version: str,
    form: Form,
    *,
    now: float = 0.0,
    include: str = "Metadata",
    columns: bool = True,
) -> bytes:
    """Return one object as JSON; *include* and *columns* are for tables."""
    if form == "full":
        return record.wire(info.api_version(version), lambda obj: info.in_version(obj, version))
    if form == "partial":
        return record.wire("partial", _partial)
    return orjson.dumps(_table([record], info, version, now, str(record.rv), include, columns=columns))


def encode_list(
    records: list[Record],
    info: ResourceType,
    version: str,
    form: Form,
    metadata: Body,
    *,
    now: float = 0.0,
    include: str = "Metadata",
) -> bytes:
    """Return a list as JSON, with *metadata* for its own."""
    if form == "table":
        table = _table(records, info, version, now, metadata["resourceVersion"], include)
        table["metadata"] = metadata
        return orjson.dumps(table)
    if form == "partial":
        shown = {name: value for name, value in metadata.items() if value != ""}
        head = {"kind": "PartialObjectMetadataList", "apiVersion": META, "metadata": shown}
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


def _table(
    records: list[Record], info: ResourceType, version: str, now: float, rv: str, include: str, *, columns: bool = True
) -> Body:
    return {
        "kind": "Table",
        "apiVersion": META,
        "metadata": {"resourceVersion": rv},
        "columnDefinitions": columns_of(info, version) if columns else None,
        "rows": [_row(record, info, version, now, include) for record in records],
    }


def _row(record: Record, info: ResourceType, version: str, now: float, include: str) -> Body:
    stored = record.obj if info.stored_as else info.in_version(record.obj, version)
    row: Body = {"cells": cells_of(stored, info, version, now)}
    if include == "Object":
        row["object"] = info.in_version(record.obj, version)
    elif include == "Metadata":
        row["object"] = _partial(record.obj)
    else:
        row["object"] = None
    return row
