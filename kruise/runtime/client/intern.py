"""Share strings that repeat in thousands of objects.

Purpose: five thousand pods of one job have the same namespace, node names, images, owner and label keys. One string for
all of them instead of one each takes a pod from 5.1 to 1.8 KB.

Guarantees:

* OBJ1, FRA3: namespaces, keys and short values of labels and annotations, images, node names, owners, phases, types,
  states and reasons are shared. Names, uids, resource versions and stamps of objects never are: they do not repeat.
* FRA9: a ``msgspec.Raw`` is copied here, so that a stored object does not keep the whole page alive from which it came.

A Struct decides for itself with a class variable ``__interned__``, the names of the attributes to share; without one,
:data:`REPEATING` holds.

What this does not do: it never changes a value, only which of two equal objects stands for it; and the pools are
bounded, so that values which do not repeat cannot fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect as types
from msgspec.structs import force_setattr

from kruise.runtime.objects import EMPTY_MAP, ObjectMeta, OwnerReference

REPEATING: Final = frozenset(
    {
        "api_version",
        "effect",
        "generate_name",
        "host_ip",
        "image",
        "image_id",
        "kind",
        "mount_path",
        "name",
        "namespace",
        "node_name",
        "operator",
        "phase",
        "priority_class_name",
        "protocol",
        "reason",
        "restart_policy",
        "scheduler_name",
        "service_account_name",
        "status",
        "topology_key",
        "type",
    }
)
"""Attributes that are shared in a Struct which does not say otherwise. ``name`` is one of them for containers, volumes
and owners; an object's own name stands in its metadata, which does not share it."""

_OWN: Final[dict[type, frozenset[str]]] = {
    ObjectMeta: frozenset({"namespace", "generate_name"}),
    OwnerReference: frozenset({"api_version", "kind", "name", "uid"}),
}

SHORT: Final = 32
"""Characters: label and annotation values up to this length are shared."""

WHOLE: Final = frozenset({"finalizers", "tolerations"})
"""Tuples that are shared as a whole: the pods of one template have equal ones."""

MAX_STRINGS: Final = 1024
"""Entries of one pool. A full pool starts again: what repeats is back at once."""

Share = Callable[[Any], Any]
S = TypeVar("S", bound=msgspec.Struct)


class Interner:
    """Shares the repeating strings of one Struct type. ``share(obj)`` changes *obj* in place before anybody sees it."""

    def __init__(self, struct: type[msgspec.Struct], *, limit: int = MAX_STRINGS) -> None:
        self._names: dict[Any, Any] = {}
        self._values: dict[str, str] = {}
        self._limit = limit
        self._made: dict[type, _Struct] = {}
        found = self._for(types.type_info(struct), "")
        assert isinstance(found, _Struct)
        self._root = found

    def share(self, obj: S) -> S:
        """Share the strings of *obj*, a freshly decoded Struct that nobody else holds; return it."""
        self._root(obj)
        return obj

    def reset(self) -> None:
        """Forget all strings. At a relist, so that those of objects long gone do not stay."""
        self._names.clear()
        self._values.clear()

    def __len__(self) -> int:
        return len(self._names) + len(self._values)

    def _for(self, kind: types.Type, name: str) -> Share | None:
        alternatives = kind.types if isinstance(kind, types.UnionType) else (kind,)
        real = [one for one in alternatives if not isinstance(one, types.NoneType)]
        if len(real) != 1:
            return None
        kind = real[0]
        if isinstance(kind, types.StructType):
            return self._struct(kind)
        if isinstance(kind, types.RawType):
            return _copy_raw
        if isinstance(kind, types.DictType):
            if isinstance(kind.key_type, types.StrType) and isinstance(kind.value_type, types.StrType):
                return self._map
            inner = self._for(kind.value_type, "")
            return None if inner is None else _each_value(inner)
        if isinstance(kind, types.ListType | types.VarTupleType):
            if isinstance(kind, types.VarTupleType) and _repeats_whole(name, kind.item_type):
                return self._whole
            inner = self._for(kind.item_type, "")
            return None if inner is None else _each_item(inner, list if isinstance(kind, types.ListType) else tuple)
        return None

    def _struct(self, kind: types.StructType) -> _Struct:
        cls = kind.cls
        if cls in self._made:
            return self._made[cls]
        one = self._made[cls] = _Struct(self._names, self._limit)
        declared = getattr(cls, "__interned__", None)
        shared = frozenset(declared) if declared is not None else _OWN.get(cls, REPEATING)
        for f in kind.fields:
            alternatives = f.type.types if isinstance(f.type, types.UnionType) else (f.type,)
            real = [a for a in alternatives if not isinstance(a, types.NoneType)]
            if len(real) == 1 and isinstance(real[0], types.StrType):
                if f.name in shared:
                    one.strings.append(f.name)
                continue
            step: Share | None
            if len(real) == 1 and isinstance(real[0], types.RawType) and isinstance(f.default, msgspec.Raw):
                step = _raw_or(f.default)
            else:
                step = self._for(f.type, f.name)
            if step is not None:
                one.steps.append((f.name, step))
        return one

    def _whole(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        """Share a whole tuple of strings or frozen Structs: the owners of all pods of one job are equal."""
        if not value:
            return value
        names = self._names
        known: tuple[Any, ...] | None = names.get(value)
        if known is not None:
            return known
        if len(names) >= self._limit:
            names.clear()
        names[value] = value
        return value

    def _map(self, value: dict[str, str] | None) -> dict[str, str] | None:
        if not value:
            return value if value is None else EMPTY_MAP
        names, values = self._names, self._values
        if len(names) + len(value) > self._limit:
            names.clear()
        if len(values) + len(value) > self._limit:
            values.clear()
        name, short = names.setdefault, values.setdefault
        return {name(k, k): short(v, v) if len(v) <= SHORT else v for k, v in value.items()}


class _Struct:
    """Shares the fields of one Struct type."""

    __slots__ = ("limit", "names", "steps", "strings")

    def __init__(self, names: dict[Any, Any], limit: int) -> None:
        self.names = names
        self.limit = limit
        self.strings: list[str] = []
        self.steps: list[tuple[str, Share]] = []

    def __call__(self, obj: Any) -> Any:
        if obj is None or obj is msgspec.UNSET:
            return obj
        names = self.names
        for name in self.strings:
            value = getattr(obj, name)
            if value:
                known = names.get(value)
                if known is None:
                    if len(names) >= self.limit:
                        names.clear()
                    names[value] = value
                elif known is not value:
                    force_setattr(obj, name, known)
        for name, step in self.steps:
            value = getattr(obj, name)
            new = step(value)
            if new is not value:
                force_setattr(obj, name, new)
        return obj


def _repeats_whole(name: str, item: types.Type) -> bool:
    if isinstance(item, types.StructType):
        return item.cls is OwnerReference or (name in WHOLE and _hashable(item))
    return name in WHOLE and isinstance(item, types.StrType)


def _hashable(struct: types.StructType) -> bool:
    """Tell whether equal values of *struct* have equal hashes: it is frozen, and so is all that it holds."""
    plain = (types.StrType, types.IntType, types.BoolType, types.NoneType)
    parts = [a for f in struct.fields for a in (f.type.types if isinstance(f.type, types.UnionType) else (f.type,))]
    return bool(struct.cls.__struct_config__.frozen) and all(isinstance(part, plain) for part in parts)


def _copy_raw(value: Any) -> Any:
    return value.copy() if isinstance(value, msgspec.Raw) else value


def _raw_or(default: msgspec.Raw) -> Share:
    """Copy a Raw; a null is the default, because a null reads as absent (FRA10) and Raw takes it as it is."""

    def copied(value: Any) -> Any:
        if value is default:
            return value
        return default if memoryview(value).nbytes == 4 and bytes(value) == b"null" else value.copy()

    return copied


def _each_item(inner: Share, build: type) -> Share:
    if isinstance(inner, _Struct):

        def in_place(values: Any) -> Any:
            if values:
                for value in values:
                    inner(value)
            return values

        return in_place

    def rebuilt(values: Any) -> Any:
        return build(inner(value) for value in values) if values else values

    return rebuilt


def _each_value(inner: Share) -> Share:
    def rebuilt(values: Any) -> Any:
        return {k: inner(v) for k, v in values.items()} if values else values

    return rebuilt
