"""What is to know about the fields of core types: the table that is generated from a real API server.

Purpose: names, types, required and nullable fields, list-map keys, patch merge keys and strategies. Type checks,
pruning, strategic merge, canonical revision data and the wire-name test all ask here.

Guarantees: the table is read once and never changed; a type or field that it does not know is said to be unknown, never
guessed. ``hack/gen_core_fields.py`` writes it, ``make verify`` compares it with a server of the same version.

What this does not do: it validates no values beyond their types, and knows no defaults.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

from kruise.apis.fielderrors import FieldError, Plain, type_invalid
from kruise.apis.quantity import Quantity, QuantityError

__all__ = ["Field", "field_of", "fields", "known_types", "prune", "server_version", "type_errors"]

_INT_BITS: Final = {"int32": 32, "int64": 64}
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of one type.

    *type* is ``string``, ``bool``, ``int32``, ``int64``, ``number``, ``double``, ``quantity``, ``intOrString``,
    ``time``, ``bytes``, ``raw`` (any JSON), the name of another type (``core.v1.Container``), or one of these in
    ``[...]`` (a list) or ``{...}`` (a map by string).
    """

    name: str
    type: str
    required: bool = False
    nullable: bool = False
    list_type: str = ""
    """``atomic``, ``set``, ``map`` or nothing."""
    list_keys: tuple[str, ...] = ()
    """The keys by which server-side apply tells the items of a list-map apart."""
    merge_key: str = ""
    """The key by which a strategic merge patch does."""
    strategies: tuple[str, ...] = ()
    """``merge``, ``replace``, ``retainKeys``."""
    atomic_map: bool = False

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return self.type.startswith("[")

    @property
    def is_map(self) -> bool:
        """Whether the value is a map with free keys."""
        return self.type.startswith("{")

    @property
    def inner(self) -> str:
        """The type of the items of a list or map, or the type itself."""
        return self.type[1:-1] if self.is_list or self.is_map else self.type


@cache
def _table() -> tuple[str, Mapping[str, Mapping[str, Field]]]:
    raw = json.loads(resources.files("kruise.apis").joinpath("core_fields.json").read_text("utf-8"))
    types = {
        name: MappingProxyType({key: _field(key, *row) for key, row in rows.items()})
        for name, rows in raw["types"].items()
    }
    return raw["server"], MappingProxyType(types)


def _field(name: str, type_name: str, extra: Mapping[str, Any] = MappingProxyType({})) -> Field:
    return Field(
        name,
        type_name,
        required=bool(extra.get("required")),
        nullable=bool(extra.get("nullable")),
        list_type=extra.get("list", ""),
        list_keys=tuple(extra.get("keys", ())),
        merge_key=extra.get("mergeKey", ""),
        strategies=tuple(filter(None, extra.get("strategy", "").split(","))),
        atomic_map=extra.get("map") == "atomic",
    )


def server_version() -> str:
    """Return the version of the API server that the table came from: ``1.37``."""
    return _table()[0]


def known_types() -> tuple[str, ...]:
    """Return the names of all types: ``core.v1.Pod``, ``meta.v1.ObjectMeta`` ..."""
    return tuple(_table()[1])


def fields(type_name: str) -> Mapping[str, Field]:
    """Return the fields of a type by wire name. Raises KeyError for a type that the table does not hold."""
    return _table()[1][type_name]


def field_of(type_name: str, *path: str) -> Field | None:
    """Follow wire names from a type, through lists and maps; ``None`` when there is no such field.

    >>> field_of("core.v1.Pod", "spec", "containers", "ports").merge_key
    'containerPort'
    """
    found: Field | None = None
    for name in path:
        found = _table()[1].get(type_name, {}).get(name)
        if found is None:
            return None
        type_name = found.inner
    return found


def prune(value: Any, type_name: str) -> Any:
    """Return *value* without the fields that the type does not have, as a typed decoder reads it."""
    if type_name.startswith("["):
        return [prune(item, type_name[1:-1]) for item in value] if isinstance(value, list) else value
    if not isinstance(value, dict):
        return value
    if type_name.startswith("{"):
        return {key: prune(item, type_name[1:-1]) for key, item in value.items()}
    known = _table()[1].get(type_name)
    if known is None:
        return value
    return {key: prune(item, known[key].type) for key, item in value.items() if key in known}


# ---- types -----------------------------------------------------------------------------------------------------------


def type_errors(value: Any, type_name: str, path: str) -> list[FieldError]:
    """Return one error for each part of *value* that does not have the type it should; null is always fine.

    The API server refuses such an object while decoding, with code 400. Unknown fields are no errors.
    """
    return list(_walk(value, type_name, path))


def _walk(value: Any, type_name: str, path: str) -> Iterator[FieldError]:
    if value is None or type_name == "raw":
        return
    if type_name.startswith("["):
        if not isinstance(value, list):
            yield _wrong(path, value, "a list")
            return
        for i, item in enumerate(value):
            yield from _walk(item, type_name[1:-1], f"{path}[{i}]")
        return
    known = _table()[1].get(type_name)
    if known is None and not type_name.startswith("{"):
        expected = _scalar_complaint(value, type_name)
        if expected:
            yield _wrong(path, value, expected)
        return
    if not isinstance(value, dict):
        yield _wrong(path, value, "an object")
        return
    for key, item in value.items():
        if known is None:
            yield from _walk(item, type_name[1:-1], f"{path}[{key}]")
        elif key in known:
            yield from _walk(item, known[key].type, f"{path}.{key}")


def _wrong(path: str, value: Any, expected: str) -> FieldError:
    shown = value if isinstance(value, str | bool | int | float) else Plain(json.dumps(value)[:100])
    return type_invalid(path, shown, f"must be {expected}")


def _scalar_complaint(value: Any, type_name: str) -> str:
    """What a scalar should have been, or ``""`` when it is."""
    if type_name in _INT_BITS:
        limit = 1 << (_INT_BITS[type_name] - 1)
        fits = isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit
        return "" if fits else f"an integer of {_INT_BITS[type_name]} bits"
    if type_name == "bool":
        return "" if isinstance(value, bool) else "true or false"
    if type_name in ("number", "double", "float"):
        return "" if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    if type_name == "quantity":
        return _quantity_complaint(value)
    if type_name == "intOrString":
        return "" if isinstance(value, str) else _int_or_string_complaint(value)
    if not isinstance(value, str):
        return "a string"
    if type_name == "time":
        return "" if _TIME.fullmatch(value) else "a time like 2006-01-02T15:04:05Z"
    return _base64_complaint(value) if type_name == "bytes" else ""


def _quantity_complaint(value: Any) -> str:
    try:
        Quantity.from_json(value)
    except QuantityError as error:
        return f"a quantity: {error}"
    return ""


def _int_or_string_complaint(value: Any) -> str:
    return "an integer of 32 bits or a string" if _scalar_complaint(value, "int32") else ""


def _base64_complaint(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return "base64"
    return ""
