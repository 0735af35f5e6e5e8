"""Objects as Go's typed encoder writes them.

Purpose: OpenKruise hashes and stores what its Go types write, not what the user sent. This brings plain JSON into that
form: revisions (spec/advanced-statefulset 2.7) and container hashes are taken of it.

Guarantees:

* Names and types are the core-fields table's; what is left out when it holds nothing, and what never is, stands in
  ``go_encoding.json``, which ``hack/gen_go_encoding.py`` reads from the Go types that OpenKruise is built with.
* Applied twice it changes nothing more. It never fails: a value of a wrong type stays as it is (X13).
* Fields that those Go types do not have are kept, where Go would lose them (design 2): those that the core-fields table
  knows in a form that a newer table keeps, all others as they came. Null counts as absent.
* Integers beyond 2^53 lose digits as they do in Go, where they pass through a float (spec 16, row 23).

What this does not do: it applies no defaults and compares nothing; ``revisiondata`` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any, Final

from kruise.apis.core_fields import fields, known_types
from kruise.apis.quantity import Quantity, QuantityError

__all__ = ["POD_TEMPLATE", "canonical", "encoder_version", "quantity_text"]

POD_TEMPLATE: Final = "core.v1.PodTemplateSpec"

_EXACT: Final = 1 << 53
_WITHOUT_EMPTY: Final = {"quantity": "0", "time": None, "intOrString": 0}
"""Types that are structures in Go, so that no option of the encoder leaves them out, and what they write when unset."""
_ZERO: Final[dict[str, Any]] = {"string": "", "bool": False, "int32": 0, "int64": 0, "number": 0, "double": 0}
_NOTHING: Final[tuple[Any, ...]] = ("", 0, [], {})
"""What ``omitempty`` leaves out; ``False`` equals 0."""


@cache
def _table() -> tuple[str, Mapping[str, Mapping[str, str]]]:
    raw = json.loads(resources.files("kruise.apis").joinpath("go_encoding.json").read_text("utf-8"))
    return raw["version"], raw["types"]


def encoder_version() -> str:
    """Return the version of the Go types: ``v0.32.10``."""
    return _table()[0]


@dataclass(frozen=True, slots=True)
class _Member:
    """One field of a structure."""

    name: str
    type: str
    upstream: bool
    """Whether OpenKruise's Go types have it."""
    pointer: bool
    """Whether Go can tell a zero that was given from none."""
    always: bool
    structure: bool
    """Whether the value is a structure in Go: it cannot be empty."""
    collection: bool
    scalar: bool

    @property
    def kept(self) -> bool:
        """Whether a zero is written when it was given."""
        return self.pointer or self.always or self.structure


@dataclass(frozen=True, slots=True)
class _Structure:
    """The fields of a structure, and those that are written also when nobody gave them."""

    members: Mapping[str, _Member]
    unset: tuple[_Member, ...]


@cache
def _structure(type_name: str) -> _Structure | None:
    """Return the fields of a type, or ``None`` for one that is no structure."""
    structures = frozenset(known_types())
    if type_name not in structures:
        return None
    options = _table()[1].get(type_name, {})
    members = {
        name: _Member(
            name,
            field.type,
            upstream=name in options,
            pointer="p" in options.get(name, ""),
            always="a" in options.get(name, ""),
            structure=field.type in structures or field.type in _WITHOUT_EMPTY,
            collection=field.is_list or field.is_map,
            scalar=field.type in _ZERO,
        )
        for name, field in fields(type_name).items()
    }
    unset = tuple(m for m in members.values() if m.upstream and (m.always or (m.structure and not m.pointer)))
    return _Structure(members, unset)


def quantity_text(value: Any) -> Any:
    """Return a quantity as Go writes it; what is no quantity stays."""
    try:
        return str(Quantity.from_json(value))
    except QuantityError:
        return value


def canonical(
    value: Any,
    type_name: str,
    *,
    upstream_only: bool = False,
    exact: bool = False,
    quantity: Callable[[Any], Any] = quantity_text,
) -> Any:
    """Return *value*, plain JSON of the core type *type_name*, as Go writes it. *value* is not changed.

    *upstream_only* drops what OpenKruise's Go types do not have, as Go itself does. *exact* keeps large integers, as
    where Go encodes its types without detour. *quantity* writes quantities.

    >>> canonical({"name": "a", "env": [], "stdin": False}, "core.v1.Container")
    {'name': 'a', 'resources': {}}
    """
    return _Writer(upstream_only, quantity, (lambda number: number) if exact else _rounded).write(value, type_name)


class _Writer:
    """One walk through a value."""

    __slots__ = ("_number", "_quantity", "_upstream_only")

    def __init__(self, upstream_only: bool, quantity: Callable[[Any], Any], number: Callable[[Any], Any]) -> None:
        self._upstream_only = upstream_only
        self._quantity = quantity
        self._number = number

    def write(self, value: Any, type_name: str) -> Any:
        """Return *value* in Go's form; null as the zero of its type."""
        if type_name.startswith("["):
            inner = type_name[1:-1]
            return [self.write(item, inner) for item in value] if isinstance(value, list) else value
        if type_name.startswith("{"):
            inner = type_name[1:-1]
            return {key: self.write(item, inner) for key, item in value.items()} if isinstance(value, dict) else value
        structure = _structure(type_name)
        if structure is None:
            return self._scalar(value, type_name)
        if value is None:
            value = {}
        return self._fields(value, structure) if isinstance(value, dict) else value

    def _fields(self, value: dict[str, Any], structure: _Structure) -> dict[str, Any]:
        written: dict[str, Any] = {}
        members = structure.members
        for name, item in value.items():
            if item is None:
                continue
            member = members.get(name)
            if member is None or not member.upstream:
                if not self._upstream_only:
                    self._keep(written, name, item, member)
                continue
            found = self._number(item) if member.scalar else self.write(item, member.type)
            if member.pointer and found is None:
                continue  # the zero time, which reads as absent once it was written
            if member.kept or found not in _NOTHING:
                written[name] = found
        for member in structure.unset:
            if member.name not in written:
                written[member.name] = self._unset(member)
        return written

    def _keep(self, written: dict[str, Any], name: str, item: Any, member: _Member | None) -> None:
        """Keep a field that Go's types lack, as one keeps a pointer: its zero stays, whatever type it will turn out."""
        if member is not None:
            found = self.write(item, member.type)
            if not (member.collection and found in _NOTHING):
                written[name] = found
        elif not name.startswith("$"):
            # Directives of patches are no fields: kubectl-kruise undo leaves a $patch in the template.
            written[name] = _plain(item)

    def _unset(self, member: _Member) -> Any:
        if member.pointer:
            return None
        if member.structure:
            return self.write(None, member.type)
        return None if member.collection else _ZERO.get(member.type)

    def _scalar(self, value: Any, type_name: str) -> Any:
        if type_name == "quantity":
            return self._quantity(value)
        if value is None:
            return _WITHOUT_EMPTY.get(type_name, _ZERO.get(type_name))
        if type_name == "time":
            return _time(value)
        return self._number(value)


def _rounded(value: Any) -> Any:
    """Return plain JSON with each number as it comes out of a 64-bit float."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        # The shortest digits that name the float, filled up with zeros: 2^63 becomes 9223372036854776000.
        return value if -_EXACT <= value <= _EXACT else int(Decimal(repr(float(value))))
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _EXACT else value
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def _plain(value: Any) -> Any:
    """Return what nobody knows: as it came, but for whole numbers, which the API server writes without a fraction."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _time(value: Any) -> Any:
    """Return a time in UTC and whole seconds; the zero time is null."""
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return value
    if parsed is None or parsed.tzinfo is None:
        return value
    try:
        parsed = parsed.astimezone(UTC)
    except OverflowError:
        return value
    if (
        parsed.year == 1
        and parsed.timetuple().tm_yday == 1
        and (parsed.hour, parsed.minute, parsed.second) == (0, 0, 0)
    ):
        return None
    return parsed.strftime(f"{parsed.year:04d}-%m-%dT%H:%M:%SZ")
