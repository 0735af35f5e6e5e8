"""The words in which the schema of a kind is said: descriptions, limits, defaults and rules, beside its structs.

Purpose: types and names of fields come from the msgspec structs; what a struct cannot say stands in a table of these
values. A generator joins both into a CustomResourceDefinition, so that nobody types a second list of fields.

Guarantees: plain frozen values; nothing here depends on a generator or on a library of schemas.

What this does not do: it validates nothing. The API server does when an object is written, ``*_rules`` when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

__all__ = ["ABSENT", "Column", "Doc", "KindDoc", "Rule", "Scale", "TypeDoc", "VersionDoc"]

_Struct = type[msgspec.Struct]

ABSENT: Final = object()
"""No default: an absent field stays absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule in the Common Expression Language. It must hold for the value that it stands at."""

    cel: str
    message: str
    """What the user reads; upstream's words where upstream refuses the same."""
    path: str = ""
    """The field to blame, from the value on, such as ``.spec.restartPolicy``; the value itself by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doc:
    """What is to say of one field. Limits that do not fit its type are refused by the generator."""

    text: str
    """The description: never empty."""
    required: bool = False
    default: Any = ABSENT
    enum: tuple[str, ...] = ()
    """The only words that are allowed: what OpenKruise's admission allows."""
    format: str = ""
    minimum: int | None = None
    maximum: int | None = None
    pattern: str = ""
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    max_properties: int | None = None
    list_keys: tuple[str, ...] = ()
    """The list is a map by these keys."""
    rules: tuple[Rule, ...] = ()
    type: str = ""
    """For what no struct describes: ``object``, ``array``, ``string``, ``integer``."""
    open: bool = False
    """Fields that are not named here are kept as they are."""
    properties: Mapping[str, Doc] = field(default_factory=dict)
    """For what no struct describes: the fields that rules or limits need."""
    values: Doc | None = None
    """Of a map: its values. Of a list: its items."""
    struct: _Struct | None = None
    """Of the items of a list that is kept as bytes: the struct that says what we read of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeDoc:
    """A struct: every field by its wire name, no more and no less."""

    text: str
    fields: Mapping[str, Doc]
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``."""

    name: str
    type: str
    path: str
    text: str
    priority: int = 0
    """Above 0: shown by ``-o wide`` alone."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale subresource: where it finds what ``kubectl scale`` and autoscalers ask for."""

    wanted: str
    found: str
    selector: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDoc:
    """A version that is served. A warning goes to whoever uses a deprecated one."""

    name: str
    storage: bool = False
    deprecation: str = ""
    without: Mapping[type[msgspec.Struct], frozenset[str]] = field(default_factory=dict)
    """The fields that this version lacks, by their names on the wire. Rules that need one go with it."""
    also: Mapping[type[msgspec.Struct], Mapping[str, Doc]] = field(default_factory=dict)
    """The fields that this version alone has, by their names on the wire; no struct has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindDoc:
    """A kind, beside its resource and struct."""

    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    versions: tuple[VersionDoc, ...]
    columns: tuple[Column, ...] = ()
    scale: Scale | None = None
    types: Mapping[type[msgspec.Struct], TypeDoc]
