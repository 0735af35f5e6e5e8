"""Which changes are worth a reconcile: pure filters that compose.

Purpose: drop a change before it becomes a key. Predicates save work; a controller must stay correct without them.

Guarantees:

* PRE1: :class:`ResourceVersionChanged`, :class:`GenerationChanged`, :class:`AnnotationChanged`, :class:`LabelChanged`,
  :class:`LabelSelector`, :class:`Funcs`; ``&``, ``|`` and ``~`` compose them. Those named "changed" look at updates
  only: additions and deletions pass, because there is nothing to compare with.
* PRE2: a :class:`Filter` speaks about objects, not about changes. An object that enters it is an addition to whoever
  listens behind it, one that leaves it is a deletion, and what moves outside of it is not seen. A predicate that looked
  at the new state alone would hide the leaving.

What this does not do: no I/O and no state. Objects that cannot be read have metadata, and are judged by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kruise.runtime.cache.store import Change
from kruise.runtime.objects import EMPTY_MAP, Object, ObjectMeta

AnyChange = Change[Any]


class Predicate:
    """A filter of changes. Override :meth:`test`."""

    def test(self, change: AnyChange) -> bool:
        """Tell whether *change* passes."""
        raise NotImplementedError

    def apply(self, change: AnyChange) -> AnyChange | None:
        """Return *change* as those behind this predicate see it; ``None`` when it does not pass."""
        return change if self.test(change) else None

    def __and__(self, other: Predicate) -> Predicate:
        return _All(self, other)

    def __or__(self, other: Predicate) -> Predicate:
        return _Any(self, other)

    def __invert__(self) -> Predicate:
        return _Not(self)


@dataclass(frozen=True, slots=True)
class _All(Predicate):
    first: Predicate
    second: Predicate

    def test(self, change: AnyChange) -> bool:
        return self.apply(change) is not None

    def apply(self, change: AnyChange) -> AnyChange | None:
        seen = self.first.apply(change)
        return None if seen is None else self.second.apply(seen)


@dataclass(frozen=True, slots=True)
class _Any(Predicate):
    first: Predicate
    second: Predicate

    def test(self, change: AnyChange) -> bool:
        return self.apply(change) is not None

    def apply(self, change: AnyChange) -> AnyChange | None:
        seen = self.first.apply(change)
        return self.second.apply(change) if seen is None else seen


@dataclass(frozen=True, slots=True)
class _Not(Predicate):
    inner: Predicate

    def test(self, change: AnyChange) -> bool:
        return self.inner.apply(change) is None


class Funcs(Predicate):
    """A predicate out of functions, one per kind of change. Each defaults to "passes"."""

    def __init__(
        self,
        *,
        create: Callable[[Any], bool] | None = None,
        update: Callable[[Any, Any], bool] | None = None,
        delete: Callable[[Any], bool] | None = None,
    ) -> None:
        """*create* sees the new object, *update* old and new, *delete* the last known state."""
        self._create = create
        self._update = update
        self._delete = delete

    def test(self, change: AnyChange) -> bool:
        if change.new is None:
            return self._delete is None or self._delete(change.old)
        if change.old is None:
            return self._create is None or self._create(change.new)
        return self._update is None or self._update(change.old, change.new)


class _Changed(Predicate):
    """Passes an update in which some part of the metadata differs."""

    def part(self, meta: ObjectMeta) -> object:
        raise NotImplementedError

    def test(self, change: AnyChange) -> bool:
        if change.old is None or change.new is None:
            return True
        return self.part(change.old.metadata) != self.part(change.new.metadata)


class ResourceVersionChanged(_Changed):
    """Drops updates in which nothing changed: resyncs, and what a new list repeats."""

    def part(self, meta: ObjectMeta) -> object:
        return meta.resource_version


class GenerationChanged(_Changed):
    """Drops updates that leave the generation: of status, labels and annotations.

    Custom resources need a status subresource for this to be safe. The deletion of an object with finalizers raises
    the generation, and passes.
    """

    def part(self, meta: ObjectMeta) -> object:
        return meta.generation


class AnnotationChanged(_Changed):
    """Drops updates that leave the annotations."""

    def part(self, meta: ObjectMeta) -> object:
        return meta.annotations


class LabelChanged(_Changed):
    """Drops updates that leave the labels."""

    def part(self, meta: ObjectMeta) -> object:
        return meta.labels


class Filter(Predicate):
    """A predicate about objects, with the transitions of PRE2. ``&``, ``|``, ``~`` of filters are filters."""

    def __init__(self, matches: Callable[[Any], bool]) -> None:
        """*matches* tells of one object, which may be an Unreadable, whether it belongs to the set."""
        self._matches = matches

    def matches(self, obj: Object) -> bool:
        """Tell whether *obj* belongs to the set."""
        return self._matches(obj)

    def test(self, change: AnyChange) -> bool:
        return self.apply(change) is not None

    def apply(self, change: AnyChange) -> AnyChange | None:
        was = change.old is not None and self.matches(change.old)
        is_ = change.new is not None and self.matches(change.new)
        if was and is_:
            return change
        if is_:
            return change if change.old is None else replace(change, old=None)
        if was:
            return change if change.new is None else replace(change, new=None)
        return None

    def __and__(self, other: Predicate) -> Predicate:
        if isinstance(other, Filter):
            return Filter(lambda obj: self.matches(obj) and other.matches(obj))
        return super().__and__(other)

    def __or__(self, other: Predicate) -> Predicate:
        if isinstance(other, Filter):
            return Filter(lambda obj: self.matches(obj) or other.matches(obj))
        return super().__or__(other)

    def __invert__(self) -> Predicate:
        return Filter(lambda obj: not self.matches(obj))


class LabelSelector(Filter):
    """The objects whose labels match a ``metav1.LabelSelector``. An empty selector matches everything."""

    def __init__(
        self,
        labels: Mapping[str, str] = EMPTY_MAP,
        expressions: Iterable[tuple[str, str, Iterable[str]]] = (),
    ) -> None:
        """*expressions* are (key, operator, values) with In, NotIn, Exists or DoesNotExist. Raises ValueError."""
        self._labels = tuple(labels.items())
        self._tests: list[tuple[str, Callable[[str | None], bool]]] = []
        for key, operator, values in expressions:
            self._tests.append((key, _requirement(key, operator, frozenset(values))))
        super().__init__(self._by_labels)

    def _by_labels(self, obj: Object) -> bool:
        have = obj.metadata.labels
        return all(have.get(k) == v for k, v in self._labels) and all(ok(have.get(k)) for k, ok in self._tests)


def _requirement(key: str, operator: str, values: frozenset[str]) -> Callable[[str | None], bool]:
    match operator:
        case "In" if values:
            return lambda have: have in values
        case "NotIn" if values:
            return lambda have: have not in values  # also true without the label, as in Kubernetes
        case "Exists" if not values:
            return lambda have: have is not None
        case "DoesNotExist" if not values:
            return lambda have: have is None
    raise ValueError(
        f"label selector {key} {operator} {sorted(values)}: want In or NotIn with values, "
        "or Exists or DoesNotExist without"
    )
