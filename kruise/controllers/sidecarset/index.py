"""Which sets a pod concerns: found by its labels, however many sets and pods there are.

Purpose: most pods of a cluster are no business of any set. An event of such a pod costs one look-up for each of its
labels (performance 4.4).

Guarantees: the sets returned are a superset of those whose selectors match, and the same ones whatever was added and
removed before. Each set is found by one label that its selector requires; one that requires none is asked always.

What this does not do: the rest of a selector, and namespaces, are the view's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kruise.apis.selectors import Operator
from kruise.controllers.sidecarset.match import Matcher

__all__ = ["SetIndex"]

Pair = tuple[str, str | None]
"""A label and its value; ``None``: any value."""


class SetIndex:
    """Names of sets by a label that they require."""

    def __init__(self) -> None:
        self._pairs: dict[str, tuple[Pair, ...]] = {}
        self._by_key: dict[str, dict[str | None, set[str]]] = {}
        self._always: set[str] = set()

    def put(self, name: str, matcher: Matcher) -> None:
        """Take the present selector of the set *name*."""
        self.drop(name)
        if matcher.pods is None or matcher.pods.nothing:
            return
        pairs = _required(matcher)
        if not pairs:
            self._always.add(name)
        for key, value in pairs:
            self._by_key.setdefault(key, {}).setdefault(value, set()).add(name)
        self._pairs[name] = pairs

    def drop(self, name: str) -> None:
        """Forget the set *name*."""
        self._always.discard(name)
        for key, value in self._pairs.pop(name, ()):
            by_value = self._by_key[key]
            by_value[value].discard(name)
            if not by_value[value]:
                del by_value[value]
            if not by_value:
                del self._by_key[key]

    def sets_for(self, labels: Mapping[str, str]) -> frozenset[str]:
        """Return the names of the sets that may select a pod with *labels*."""
        found: set[str] | None = set(self._always) if self._always else None
        by_key = self._by_key
        for key, value in labels.items():
            by_value = by_key.get(key)
            if by_value is None:
                continue
            for names in (by_value.get(value), by_value.get(None)):
                if names:
                    found = set(names) if found is None else found | names
        return frozenset(found) if found else _NONE


_NONE: Final[frozenset[str]] = frozenset()


def _required(matcher: Matcher) -> tuple[Pair, ...]:
    """Return the pairs of which a pod has one if it matches; nothing when the selector requires no label."""
    anchors = matcher.anchors
    if anchors is not None:
        return anchors
    for requirement in matcher.pods.requirements if matcher.pods is not None else ():
        if requirement.operator is Operator.EXISTS:
            return ((requirement.key, None),)
    return ()
