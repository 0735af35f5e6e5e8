"""Bodies in protobuf, as kubectl and client-go send some built-in kinds.

Purpose: turn ``application/vnd.kubernetes.protobuf`` into the JSON form that the rest of the server works on. Answers
are JSON, which every client accepts beside protobuf.

Guarantees:

* TST1: numbers, names and pointers come from ``proto_fields.json``, which is generated from Kubernetes' own sources. A
  zero that Go would not have written stays away.

What this does not do: it writes no protobuf, and reads only the kinds of the table.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any, Final

from kruise.runtime.clock import format_micro_time, format_time
from kruise.simulator.apiserver.failure import Failure, bad_request

Body = dict[str, Any]

MEDIA: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\x00"
_GROUPS: Final = {
    "": "core",
    "rbac.authorization.k8s.io": "rbac",
    "authorization.k8s.io": "authorization",
    "authentication.k8s.io": "authentication",
    "scheduling.k8s.io": "scheduling",
    "storage.k8s.io": "storage",
    "coordination.k8s.io": "coordination",
    "events.k8s.io": "events",
}
_VARINTS: Final = ("int32", "int64", "bool")
_OMITTED: Final = ("", 0, False)


@cache
def _table() -> dict[str, dict[int, tuple[str, str, bool]]]:
    text = resources.files("kruise.simulator.apiserver").joinpath("proto_fields.json").read_text("utf-8")
    return {
        name: {int(number): (row[0], row[1], len(row) > 2) for number, row in rows.items()}
        for name, rows in json.loads(text).items()
    }


def decode(body: bytes) -> Body:
    """Return the object in *body*. Raises Failure 400, or 415 for a kind that is not in the table."""
    if not body.startswith(_MAGIC):
        raise bad_request("the object provided is unrecognized: it is no protobuf of Kubernetes")
    try:
        return _unknown(body[len(_MAGIC) :])
    except (IndexError, UnicodeDecodeError):
        raise bad_request("the object provided is unrecognized: its protobuf is cut off") from None


def _unknown(body: bytes) -> Body:
    """Read ``runtime.Unknown``: what it is, and its bytes."""
    api_version = kind = ""
    raw = b""
    for number, value in _fields(body):
        if number == 1 and isinstance(value, bytes):
            for inner, text in _fields(value):
                if inner == 1 and isinstance(text, bytes):
                    api_version = text.decode()
                elif inner == 2 and isinstance(text, bytes):
                    kind = text.decode()
        elif number == 2 and isinstance(value, bytes):
            raw = value
    group, _, version = api_version.rpartition("/")
    name = f"{_GROUPS.get(group, group)}.{version}.{kind}"
    if kind == "DeleteOptions":
        name = "meta.v1.DeleteOptions"
    if name not in _table():
        raise Failure(415, "UnsupportedMediaType", f"{kind} of {api_version} is not read as protobuf here; send JSON")
    return {"kind": kind, "apiVersion": api_version, **_message(raw, name)}


def _varint(body: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = body[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field: an integer, or the bytes of anything else."""
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(body, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(body, at)
        else:
            size = 8 if kind == 1 else 4
        if at + size > len(body):
            raise IndexError
        yield number, body[at : at + size]
        at += size


def _message(body: bytes, name: str) -> Body:
    rows = _table()[name]
    result: Body = {}
    for number, value in _fields(body):
        row = rows.get(number)
        if row is None:
            continue
        wire, kind, pointer = row
        if kind.startswith("["):
            result.setdefault(wire, []).extend(_listed(value, kind[1:-1]))
        elif kind.startswith("{"):
            key, inner = _entry(value, kind[1:-1])
            result.setdefault(wire, {})[key] = inner
        elif not wire:
            result.update(_message(value if isinstance(value, bytes) else b"", kind))
        else:
            read = _value(value, kind)
            if pointer or (read not in _OMITTED and read != {} and read is not None):
                result[wire] = read
    return result


def _listed(value: int | bytes, kind: str) -> list[Any]:
    if kind in _VARINTS and isinstance(value, bytes):
        found, at = [], 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(_value(number, kind))
        return found
    return [_value(value, kind)]


def _entry(value: int | bytes, kind: str) -> tuple[str, Any]:
    key, inner = "", _value(b"" if kind not in _VARINTS else 0, kind)
    for number, part in _fields(value if isinstance(value, bytes) else b""):
        if number == 1 and isinstance(part, bytes):
            key = part.decode()
        elif number == 2:
            inner = _value(part, kind)
    return key, inner


def _value(value: int | bytes, kind: str) -> Any:
    if isinstance(value, int):
        if kind == "bool":
            return bool(value)
        return value - (1 << 64) if value >= 1 << 63 else value
    if kind == "string":
        return value.decode()
    if kind == "bytes":
        return base64.b64encode(value).decode()
    parts = None if kind in _table() else dict(_fields(value))
    if parts is None:
        return _message(value, kind)
    return _special(parts, kind)


def _special(parts: dict[int, int | bytes], kind: str) -> Any:
    first = parts.get(1)
    if kind == "quantity":
        return first.decode() if isinstance(first, bytes) else "0"
    if kind == "intOrString":
        text = parts.get(3, b"")
        return text.decode() if first and isinstance(text, bytes) else _value(parts.get(2, 0), "int32")
    if kind in ("time", "micro"):
        seconds = _value(first if first is not None else 0, "int64")
        nanos = parts.get(2, 0)
        if not seconds:
            return None
        whole = seconds + (nanos if isinstance(nanos, int) else 0) / 1e9
        return format_micro_time(whole) if kind == "micro" else format_time(seconds)
    return json.loads(first) if isinstance(first, bytes) and first else None
