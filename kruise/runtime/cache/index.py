"""Which objects of a store have a given value: the built-in indexes, and those of a user.

Purpose: ``store.by_index("owner", uid)`` costs what it returns, never a scan.

Guarantees:

* STO1: namespace, controller uid, label pair and node are built in; a user's :class:`Index` is typed and may be added
  at any time; a value without objects takes no memory (k/k#84959); a query over several terms intersects the smallest
  set first.
* STO9: a function that raises names its index in :class:`IndexFault`, and nothing of the object has been indexed yet.

What this does not do: it holds keys, never objects, and it has no range queries.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from kruise.runtime.errors import ConfigError, ResourceNotCached, RuntimeFault
from kruise.runtime.objects import Key, Object, controller_of

T = TypeVar("T", bound=Object)
K = TypeVar("K", bound=Hashable)

NAMESPACE: Final = "namespace"
OWNER: Final = "owner"
LABEL: Final = "label"
NODE: Final = "node"

Term = tuple[str, Hashable]
"""The name of an index, and the value that an object must have in it."""


@dataclass(frozen=True, slots=True)
class Index(Generic[T, K]):
    """An index of a user's own: *of* returns every value under which an object shall be found.

    *of* must be a pure function of the object. Whatever it raises makes that object unreadable (STO9).
    """

    name: str
    of: Callable[[T], Iterable[K]]


class IndexFault(RuntimeFault):
    """The function of an index raised. ``index`` is its name."""

    def __init__(self, index: str, cause: Exception) -> None:
        super().__init__(f"index {index!r} failed: {type(cause).__name__}")
        self.index = index


class _Table:
    """One index: value to keys, in the order in which they came."""

    __slots__ = ("keys", "name", "of", "values")

    def __init__(self, name: str, of: Callable[[Any], Iterable[Hashable]], *, remember: bool) -> None:
        self.name = name
        self.of = of
        self.keys: dict[Hashable, dict[Key, None]] = {}
        # The built-in functions are pure, so that the values of an old object can be computed again. A user's function
        # may break that promise, and must not be able to leave a stale entry behind.
        self.values: dict[Key, tuple[Hashable, ...]] | None = {} if remember else None

    def compute(self, obj: Object) -> tuple[Hashable, ...]:
        try:
            return tuple(self.of(obj))
        except Exception as error:
            # A user's function may raise anything; the object is quarantined (STO9).
            raise IndexFault(self.name, error) from error

    def before(self, key: Key, old: Object | None) -> tuple[Hashable, ...]:
        if old is None:
            return ()
        return self.compute(old) if self.values is None else self.values.get(key, ())

    def switch(self, key: Key, old: tuple[Hashable, ...], new: tuple[Hashable, ...]) -> None:
        if self.values is not None:
            if new:
                self.values[key] = new
            else:
                self.values.pop(key, None)
        if old == new:
            return
        for value in old:
            if value in new:
                continue
            keys = self.keys.get(value)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del self.keys[value]
        for value in new:
            self.keys.setdefault(value, {})[key] = None


def _namespace(obj: Object) -> tuple[str, ...]:
    return (obj.metadata.namespace,)


def _owner(obj: Object) -> tuple[str, ...]:
    ref = controller_of(obj.metadata)
    return (ref.uid,) if ref is not None else ()


def _node(obj: Any) -> tuple[str, ...]:
    name = obj.spec.node_name if obj.spec is not None else None
    return (name,) if name else ()


def has_node(struct: type[Object]) -> bool:
    """Tell whether objects of *struct* have ``spec.node_name``, so that the index ``node`` exists for them."""
    spec = typing.get_type_hints(struct).get("spec")
    candidates = typing.get_args(spec) if isinstance(spec, types.UnionType) or typing.get_origin(spec) else (spec,)
    return any(isinstance(c, type) and "node_name" in typing.get_type_hints(c) for c in candidates)


class Indexes:
    """All indexes over one set of objects. With ``struct=None`` only those that need nothing but metadata."""

    def __init__(self, resource: str, struct: type[Object] | None, labels: Sequence[str] = ()) -> None:
        self._resource = resource
        self._labels: tuple[str, ...] = ()
        self._tables: dict[str, _Table] = {
            NAMESPACE: _Table(NAMESPACE, _namespace, remember=False),
            OWNER: _Table(OWNER, _owner, remember=False),
        }
        if struct is not None and has_node(struct):
            self._tables[NODE] = _Table(NODE, _node, remember=False)
        if labels:
            self.add_labels(labels, ())

    def add(self, index: Index[Any, Any], objects: Iterable[Object]) -> list[tuple[Object, IndexFault]]:
        """Add *index* over *objects*; return those whose values could not be computed. ConfigError if taken."""
        if index.name in self._tables or index.name == LABEL:
            raise ConfigError(f"{self._resource} has another index {index.name!r} already: choose another name")
        table = _Table(index.name, index.of, remember=True)
        faults: list[tuple[Object, IndexFault]] = []
        for obj in objects:
            try:
                table.switch(obj.key, (), table.compute(obj))
            except IndexFault as fault:
                faults.append((obj, fault))
        self._tables[index.name] = table
        return faults

    def add_labels(self, labels: Iterable[str], objects: Iterable[Object]) -> None:
        """Index the pairs ``key=value`` of these label keys, beside those that are indexed already."""
        wanted = self._labels + tuple(k for k in dict.fromkeys(labels) if k not in self._labels)
        if wanted == self._labels:
            return
        self._labels = wanted

        def of(obj: Object) -> tuple[str, ...]:
            have = obj.metadata.labels
            return tuple(f"{k}={have[k]}" for k in wanted if k in have) if have else ()

        table = _Table(LABEL, of, remember=False)
        for obj in objects:
            table.switch(obj.key, (), table.compute(obj))
        self._tables[LABEL] = table

    def update(self, key: Key, old: Object | None, new: Object | None) -> None:
        """Move *key* from the values of *old* to those of *new*. Raises IndexFault before anything has changed."""
        plan = [
            (table, table.before(key, old), table.compute(new) if new is not None else ())
            for table in self._tables.values()
        ]
        for table, before, after in plan:
            table.switch(key, before, after)

    def keys(self, terms: Sequence[Term]) -> Iterable[Key]:
        """Return the keys that have every term, in a stable order. Raises ResourceNotCached for an unknown index."""
        sets: list[dict[Key, None]] = []
        for name, value in terms:
            table = self._tables.get(name)
            if table is None or (name == LABEL and str(value).partition("=")[0] not in self._labels):
                raise ResourceNotCached(self._missing(name, value))
            found = table.keys.get(value)
            if found is None:
                return ()
            sets.append(found)
        if len(sets) == 1:
            return sets[0]
        sets.sort(key=len)
        return [key for key in sets[0] if all(key in other for other in sets[1:])]

    def _missing(self, name: str, value: Hashable) -> str:
        if name == LABEL:
            key = str(value).partition("=")[0]
            return (
                f"label {key!r} of {self._resource} is not indexed: cache.watch(<{self._resource}>, labels=[{key!r}])"
            )
        return (
            f"{self._resource} has no index {name!r} (it has {', '.join(sorted(self._tables))}): "
            f"cache.watch(<{self._resource}>, indexes=[Index({name!r}, ...)])"
        )

    def tables(self) -> Iterable[dict[Hashable, dict[Key, None]]]:
        """Return the maps from value to keys, for an estimate of their size."""
        return [table.keys for table in self._tables.values()]
