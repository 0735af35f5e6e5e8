"""A set of ordinals in order, that many small changes and few questions keep up to date.

Purpose: the planner asks which ordinal is the lowest that is missing, the highest that is outdated, and how many lie
below another. A walk over all pods would answer that too, at the price of the whole set for each event.

Guarantees: adding, removing, finding and counting take one binary search and at most one move of memory; iteration
begins at once, from either end.

What this does not do: a set must not change while somebody iterates over it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

__all__ = ["OrdinalSet"]


class OrdinalSet:
    """A sorted set of integers."""

    __slots__ = ("_items",)

    def __init__(self, ordinals: Iterable[int] = ()) -> None:
        self._items = sorted(set(ordinals))

    def add(self, ordinal: int) -> None:
        """Add *ordinal* if it is not there."""
        items = self._items
        if not items or ordinal > items[-1]:
            items.append(ordinal)
            return
        at = bisect_left(items, ordinal)
        if items[at] != ordinal:
            items.insert(at, ordinal)

    def discard(self, ordinal: int) -> None:
        """Remove *ordinal* if it is there."""
        at = bisect_left(self._items, ordinal)
        if at < len(self._items) and self._items[at] == ordinal:
            del self._items[at]

    def __contains__(self, ordinal: int) -> bool:
        at = bisect_left(self._items, ordinal)
        return at < len(self._items) and self._items[at] == ordinal

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[int]:
        return iter(self._items)

    def __reversed__(self) -> Iterator[int]:
        return reversed(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == other._items if isinstance(other, OrdinalSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"OrdinalSet({self._items})"

    @property
    def first(self) -> int | None:
        """The lowest ordinal."""
        return self._items[0] if self._items else None

    @property
    def last(self) -> int | None:
        """The highest ordinal."""
        return self._items[-1] if self._items else None

    def below(self, ordinal: int) -> int:
        """Return how many members are less than *ordinal*."""
        return bisect_left(self._items, ordinal)

    def down_from_top(self, low: int) -> Iterator[int]:
        """Yield the members that are not less than *low*, in falling order."""
        at = len(self._items) - 1
        while at >= 0 and self._items[at] >= low:
            yield self._items[at]
            at -= 1
