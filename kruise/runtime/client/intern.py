"""Share strings that repeat in thousands of objects.

Purpose: five thousand pods of one job have the same namespace, node names, images, owner and label keys. One string for
all of them instead of one each takes a pod from 8.9 to 3.0 KB.

Guarantees:

* OBJ1, FRA3: namespaces, keys and short values of labels and annotations, images, node names, owners, phases, types,
  states and reasons are shared. Names, uids, resource versions and stamps of objects never are: they do not repeat.
  Stamps of conditions are shared with their neighbours.
* What the pods of one template have in common as a whole (containers, readiness gates, tolerations, amounts of
  resources) is one tuple or map for all of them. Such a map belongs to many objects: nobody may change it (OBJ2).
* FRA9: a ``msgspec.Raw`` is copied here, so that a stored object does not keep the whole page alive from which it came.

A Struct decides for itself with a class variable ``__interned__``, the names of the attributes to share; without one,
:data:`REPEATING` holds.

What this does not do: it never changes a value, only which of two equal objects stands for it; and the pools are
bounded, so that values which do not repeat cannot fill the memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from operator import attrgetter
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

WHOLE: Final = frozenset(
    {
        "containers",
        "env",
        "finalizers",
        "init_containers",
        "limits",
        "node_selector",
        "readiness_gates",
        "requests",
        "resize_policy",
        "tolerations",
    }
)
"""Tuples and maps of plain values that are shared as a whole: the pods of one template have equal ones."""

_PLAIN: Final = (types.StrType, types.IntType, types.FloatType, types.BoolType, types.NoneType)

RECENT: Final = frozenset({"last_transition_time"})
"""Stamps that are shared with the one read just before: conditions that change together. No pool keeps them."""

MAX_STRINGS: Final = 1024
"""Entries of one pool. A full pool starts again: what repeats is back at once."""

Share = Callable[[Any], Any]
KeyOf = Callable[[Any], Hashable]
S = TypeVar("S", bound=msgspec.Struct)


_type_info: Final = functools.cache(types.type_info)
"""Reads the annotations of a Struct type and of all within; every informer of the type asks for the same."""


class Interner:
    """Shares the repeating strings of one Struct type. ``share(obj)`` changes *obj* in place before anybody sees it."""

    def __init__(self, struct: type[msgspec.Struct], *, limit: int = MAX_STRINGS) -> None:
        self._names: dict[Any, Any] = {}
        self._values: dict[str, str] = {}
        self._limit = limit
        self._made: dict[type, _Struct] = {}
        found = self._for(_type_info(struct), "")
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
        real = [one for one in _parts(kind) if not isinstance(one, types.NoneType)]
        if len(real) != 1:
            return None
        kind = real[0]
        if isinstance(kind, types.StructType):
            return self._struct(kind)
        if isinstance(kind, types.RawType):
            return _copy_raw
        if isinstance(kind, types.DictType):
            return self._dict(kind, name)
        if isinstance(kind, types.ListType | types.VarTupleType):
            inner = self._for(kind.item_type, "")
            if isinstance(kind, types.VarTupleType) and _repeats_whole(name, kind.item_type):
                key = _key_of(kind)
                if key is not None:
                    return self._whole(key, inner)
            return None if inner is None else _each_item(inner, list if isinstance(kind, types.ListType) else tuple)
        return None

    def _dict(self, kind: types.DictType, name: str) -> Share | None:
        key = _key_of(kind) if name in WHOLE else None
        if key is not None:
            whole = self._whole(key, None)
            return lambda value: whole(value) if value or value is None else EMPTY_MAP
        if isinstance(kind.key_type, types.StrType) and isinstance(kind.value_type, types.StrType):
            return self._map
        inner = self._for(kind.value_type, "")
        return None if inner is None else _each_value(inner)

    def _struct(self, kind: types.StructType) -> _Struct:
        cls = kind.cls
        if cls in self._made:
            return self._made[cls]
        one = self._made[cls] = _Struct(self._names, self._limit)
        declared = getattr(cls, "__interned__", None)
        shared = frozenset(declared) if declared is not None else _OWN.get(cls, REPEATING)
        for f in kind.fields:
            real = [a for a in _parts(f.type) if not isinstance(a, types.NoneType)]
            if len(real) == 1 and isinstance(real[0], types.StrType):
                if f.name in shared:
                    one.strings.append(f.name)
                elif f.name in RECENT and declared is None:
                    one.recent[f.name] = ""
                continue
            step: Share | None
            if len(real) == 1 and isinstance(real[0], types.RawType) and isinstance(f.default, msgspec.Raw):
                step = _raw_or(f.default)
            else:
                step = self._for(f.type, f.name)
                if (
                    step is not None
                    and isinstance(f.default, msgspec.Struct)
                    and _hashable(_type_info(type(f.default)))
                ):
                    step = _default_or(f.default, step)
            if step is not None:
                one.steps.append((f.name, step))
        return one

    def _whole(self, key_of: KeyOf, inner: Share | None) -> Share:
        """Share whole values that are equal by *key_of*: the containers of all pods of one template are."""
        names, limit = self._names, self._limit
        latest: Any = ()

        def shared(value: Any) -> Any:
            nonlocal latest
            if not value:
                return value
            if value == latest:
                return latest
            key = key_of(value)
            known = names.get(key)
            if known is None:
                # The strings of the one that stays are shared in turn: another template may have some of them.
                if inner is not None:
                    for item in value:
                        inner(item)
                if len(names) >= limit:
                    names.clear()
                names[key] = known = value
            # A number equals another one that is written in another way, so those are compared by their keys.
            latest = () if _has_number(key) else known
            return known

        return shared

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

    __slots__ = ("limit", "names", "recent", "steps", "strings")

    def __init__(self, names: dict[Any, Any], limit: int) -> None:
        self.names = names
        self.limit = limit
        self.strings: list[str] = []
        self.recent: dict[str, str] = {}
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
        for name, last in self.recent.items():
            value = getattr(obj, name)
            if value != last:
                self.recent[name] = value
            elif value is not last:
                force_setattr(obj, name, last)
        for name, step in self.steps:
            value = getattr(obj, name)
            new = step(value)
            if new is not value:
                force_setattr(obj, name, new)
        return obj


def _repeats_whole(name: str, item: types.Type) -> bool:
    return name in WHOLE or (isinstance(item, types.StructType) and item.cls is OwnerReference)


def _key_of(kind: types.Type, above: tuple[type, ...] = ()) -> KeyOf | None:
    """Return what tells equal values of *kind* from others and can be hashed; ``None`` where there is no such thing.

    A frozen Struct, and a tuple, of what can be hashed is its own key. A map of plain values stands as its members.
    """
    if _hashable(kind, above):
        return _itself
    parts = [one for one in _parts(kind) if not isinstance(one, types.NoneType)]
    if len(parts) != 1:
        return None
    only = parts[0]
    if isinstance(only, types.DictType):
        plain = all(isinstance(one, _PLAIN) for one in (only.key_type, *_parts(only.value_type)))
        return _members if plain else None
    if isinstance(only, types.VarTupleType):
        item = _key_of(only.item_type, above)
        return None if item is None else lambda values: values and (tuple, *map(item, values))
    if not isinstance(only, types.StructType) or not only.cls.__struct_config__.frozen or only.cls in above:
        return None
    fields = [(field.name, _key_of(field.type, (*above, only.cls))) for field in only.fields]
    if any(key is None for _, key in fields):
        return None
    return _fields([(name, key) for name, key in fields if key is not None])


def _itself(value: Any) -> Hashable:
    key: Hashable = value
    return key


def _members(value: dict[Any, Any] | None) -> Hashable:
    # 1, 1.0 and true are equal, but not the same text: a map with one of them is another map.
    return value if value is None else (dict, *((name, one.__class__, one) for name, one in value.items()))


def _has_number(key: Hashable) -> bool:
    return key is int or key is float or (isinstance(key, tuple) and any(map(_has_number, key)))


def _fields(keys: list[tuple[str, KeyOf]]) -> KeyOf:
    plain = attrgetter(*(name for name, key in keys if key is _itself), "__class__")
    others = [(name, key) for name, key in keys if key is not _itself]

    def key_of(value: Any) -> Hashable:
        return value if value is None else (plain(value), *(key(getattr(value, name)) for name, key in others))

    return key_of


def _hashable(kind: types.Type, above: tuple[type, ...] = ()) -> bool:
    """Tell whether equal values of *kind* have equal hashes: it is frozen, and so is all that it holds."""
    parts = _parts(kind)
    if (
        len(parts) > 1
        and len([one for one in parts if isinstance(one, types.StrType | types.IntType | types.FloatType)]) > 1
    ):
        return False
    for part in parts:
        if isinstance(part, types.VarTupleType):
            if not _hashable(part.item_type, above):
                return False
        elif isinstance(part, types.StructType):
            if not part.cls.__struct_config__.frozen or part.cls in above:
                return False
            if not all(_hashable(field.type, (*above, part.cls)) for field in part.fields):
                return False
        elif not isinstance(part, _PLAIN):
            return False
    return True


def _parts(kind: types.Type) -> tuple[types.Type, ...]:
    """Return the alternatives of a union, or the type itself."""
    return kind.types if isinstance(kind, types.UnionType) else (kind,)


def _copy_raw(value: Any) -> Any:
    return value.copy() if isinstance(value, msgspec.Raw) else value


def _raw_or(default: msgspec.Raw) -> Share:
    """Copy a Raw; a null is the default, because a null reads as absent (FRA10) and Raw takes it as it is."""

    def copied(value: Any) -> Any:
        if value is default:
            return value
        return default if memoryview(value).nbytes == 4 and bytes(value) == b"null" else value.copy()

    return copied


def _default_or(default: msgspec.Struct, inner: Share) -> Share:
    """Let the default stand for a Struct that says nothing: a running container is neither waiting nor terminated."""
    return lambda value: default if value == default else inner(value)


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
