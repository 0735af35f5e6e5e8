"""Which pods a SidecarSet selects, and under which namespaces it is found.

Purpose: one answer to "does this set want this pod", for admission, for the controller and for a person who asks.

Guarantees:

* A set without a selector, or with an empty one, selects nothing (spec/sidecarset 5.2, and the decision in 7.3).
* A set with a namespace selector needs the Namespace object: an unknown namespace is no match.
* :func:`index_keys` puts a set under each namespace that it can select, or under :data:`CLUSTER_SCOPE`; a lookup in
  :class:`NamespaceIndex` returns the sets of the namespace first, then the cluster-wide ones, each group in the order
  of insertion. The cost is that of the sets that share a label with the pod: those of other namespaces and of other
  labels cost nothing.
* C3: :func:`exempt` names what no set may touch, whatever its selectors say.

What this does not do: it reads no clock and no cluster; namespaces come as their labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from kruise.apis import selectors
from kruise.apis.selectors import Operator, Selector
from kruise.apis.sidecarset import CANARY_ANNOTATION, CANARY_BASE_ANNOTATION, NAMESPACE_NAME_LABEL

__all__ = [
    "CLUSTER_SCOPE",
    "EXEMPT_NAMESPACES",
    "INJECTION_LABEL",
    "MIRROR_ANNOTATION",
    "Matcher",
    "NamespaceIndex",
    "canary_base",
    "exempt",
    "index_keys",
    "is_active",
    "selected_namespaces",
]

CLUSTER_SCOPE: Final = "clusterScope"
"""The key of the sets that may select any namespace."""
EXEMPT_NAMESPACES: Final = frozenset({"kube-system", "kube-node-lease", "kube-public"})
INJECTION_LABEL: Final = "apps.kruise.io/sidecarset-injection"
"""A pod with the value ``disabled`` gets nothing."""
INJECTION_DISABLED: Final = "disabled"
MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
"""On pods that stand for one that a node runs from a file: the node would refuse a changed one."""
_FINISHED: Final = frozenset({"Succeeded", "Failed"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Matcher:
    """The two selectors of a set, converted once."""

    pods: Selector | None
    """``None``: there is none, or it is empty; it selects nothing."""
    namespaces: Selector | None
    """``None``: every namespace."""

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Matcher:
        """Convert the selectors of *spec*. Raises SelectorError for an operator that does not exist."""
        pods = selectors.convert_fast(spec.get("selector"))
        chosen = spec.get("namespaceSelector")
        namespaces = None if chosen is None else selectors.convert_fast(chosen)
        return cls(None if spec.get("selector") is None or pods.empty else pods, namespaces)

    @property
    def anchors(self) -> tuple[tuple[str, str], ...] | None:
        """The labels of which a selected pod must have one; ``None``: no single label tells."""
        if self.pods is None:
            return ()
        for one in self.pods.requirements:
            if one.operator in (Operator.EQUALS, Operator.IN):
                return tuple((one.key, value) for value in dict.fromkeys(one.values))
        return None

    def selects_namespace(self, labels: Mapping[str, str] | None) -> bool:
        """Tell whether a namespace with *labels* is selected; ``None``: nobody knows that namespace."""
        return self.namespaces is None or (labels is not None and self.namespaces.matches(labels))

    def selects_labels(self, labels: Mapping[str, str] | None) -> bool:
        """Tell whether a pod with *labels* is selected, wherever it is."""
        return self.pods is not None and self.pods.matches(labels or {})

    def matches(self, pod_labels: Mapping[str, str] | None, namespace_labels: Mapping[str, str] | None) -> bool:
        """Tell whether a pod is selected."""
        return self.selects_namespace(namespace_labels) and self.selects_labels(pod_labels)


def selected_namespaces(
    namespace_selector: Mapping[str, Any] | None, namespaces: Mapping[str, Mapping[str, str]]
) -> tuple[str, ...]:
    """Return the names, sorted, of those *namespaces* (name: labels) that the selector selects.

    Raises SelectorError for an operator that does not exist.
    """
    if namespace_selector is None:
        return tuple(sorted(namespaces))
    selector = selectors.convert_fast(namespace_selector)
    return tuple(sorted(name for name, labels in namespaces.items() if selector.matches(labels)))


def canary_base(annotations: Mapping[str, str] | None) -> str:
    """Return the set that this one is a canary of; ``""``: it is none."""
    found = annotations or {}
    return found.get(CANARY_BASE_ANNOTATION, "") if found.get(CANARY_ANNOTATION) == "true" else ""


def is_active(phase: str, deletion_timestamp: str | None) -> bool:
    """Tell whether a pod still has a life before it."""
    return phase not in _FINISHED and not deletion_timestamp


def exempt(
    namespace: str,
    labels: Mapping[str, str] | None,
    annotations: Mapping[str, str] | None,
    own_namespace: str,
) -> str:
    """Say why no set may touch a pod; ``""``: sets may (C3)."""
    if namespace in EXEMPT_NAMESPACES or namespace == own_namespace:
        return f"pods of the namespace {namespace} are left alone"
    if (labels or {}).get(INJECTION_LABEL) == INJECTION_DISABLED:
        return f"its label {INJECTION_LABEL} is {INJECTION_DISABLED}"
    if MIRROR_ANNOTATION in (annotations or {}):
        return "it mirrors a pod that its node runs from a file"
    return ""


def index_keys(namespace_selector: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the keys under which a set with this namespace selector is found.

    >>> index_keys({"matchLabels": {"kubernetes.io/metadata.name": "prod"}})
    ('prod',)
    """
    chosen = namespace_selector or {}
    name = (chosen.get("matchLabels") or {}).get(NAMESPACE_NAME_LABEL)
    if name is not None:
        return (name,)
    for expression in chosen.get("matchExpressions") or ():
        if expression.get("key") == NAMESPACE_NAME_LABEL and expression.get("operator") == "In":
            return tuple(dict.fromkeys(expression.get("values") or ()))
    return (CLUSTER_SCOPE,)


Label = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Group(Generic[T]):
    """The sets under one key, each with its place in the order."""

    anywhere: tuple[tuple[int, T], ...]
    by_label: Mapping[Label, tuple[tuple[int, T], ...]]
    keys: tuple[str, ...]
    """The label keys of ``by_label``."""

    def find(self, labels: Mapping[str, str]) -> Iterator[T]:
        found = list(self.anywhere)
        for key in self.keys:
            value = labels.get(key)
            if value is not None:
                found += self.by_label.get((key, value), ())
        if len(found) > len(self.anywhere):
            found.sort(key=_place)
        return (item for _, item in found)


def _place(entry: tuple[int, Any]) -> int:
    return entry[0]


def _group(entries: Iterable[tuple[int, T, tuple[Label, ...] | None]]) -> _Group[T]:
    anywhere: list[tuple[int, T]] = []
    by_label: dict[Label, list[tuple[int, T]]] = {}
    for place, item, anchors in entries:
        if anchors is None:
            anywhere.append((place, item))
        for anchor in anchors or ():
            by_label.setdefault(anchor, []).append((place, item))
    keys = tuple(dict.fromkeys(key for key, _ in by_label))
    return _Group(tuple(anywhere), {label: tuple(found) for label, found in by_label.items()}, keys)


class NamespaceIndex(Generic[T]):
    """Sets by namespace, and in each by a label that their pods must have: immutable, built once for a snapshot."""

    __slots__ = ("_groups",)

    def __init__(self, items: Iterable[tuple[Iterable[str], T, tuple[Label, ...] | None]]) -> None:
        """Take sets with the keys of :func:`index_keys` and their :attr:`Matcher.anchors`."""
        by_key: dict[str, list[tuple[int, T, tuple[Label, ...] | None]]] = {}
        for place, (keys, item, anchors) in enumerate(items):
            for key in keys:
                by_key.setdefault(key, []).append((place, item, anchors))
        self._groups = {key: _group(found) for key, found in by_key.items()}

    def candidates(self, namespace: str, labels: Mapping[str, str]) -> tuple[T, ...]:
        """Return the sets that may select pods of *namespace* with *labels*; whether they do, they say themselves."""
        own = self._groups.get(namespace) if namespace != CLUSTER_SCOPE else None
        wide = self._groups.get(CLUSTER_SCOPE)
        return (
            *(own.find(labels) if own is not None else ()),
            *(wide.find(labels) if wide is not None else ()),
        )
