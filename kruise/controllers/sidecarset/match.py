"""Which pods a SidecarSet selects, and under which namespaces it is found.

Purpose: one answer to "does this set want this pod", for admission, for the controller and for a person who asks.

Guarantees:

* A set without a selector, or with an empty one, selects nothing (spec/sidecarset 5.2, and the decision in 7.3).
* A set with a namespace selector needs the Namespace object: an unknown namespace is no match.
* :func:`index_keys` puts a set under each namespace that it can select, or under :data:`CLUSTER_SCOPE`; a lookup in
  :class:`NamespaceIndex` returns the sets of the namespace first, then the cluster-wide ones, each group in the order
  of insertion, and costs nothing for the sets of other namespaces.
* C3: :func:`exempt` names what no set may touch, whatever its selectors say.

What this does not do: it reads no clock and no cluster; namespaces come as their labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from kruise.apis import selectors
from kruise.apis.selectors import Selector
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


class NamespaceIndex(Generic[T]):
    """Sets by namespace: immutable, built once for a snapshot."""

    __slots__ = ("_by_key",)

    def __init__(self, items: Iterable[tuple[Iterable[str], T]]) -> None:
        by_key: dict[str, list[T]] = {}
        for keys, item in items:
            for key in keys:
                by_key.setdefault(key, []).append(item)
        self._by_key = {key: tuple(found) for key, found in by_key.items()}

    def candidates(self, namespace: str) -> tuple[T, ...]:
        """Return the sets that may select pods of *namespace*."""
        wide = self._by_key.get(CLUSTER_SCOPE, ())
        if namespace == CLUSTER_SCOPE:
            return wide
        own = self._by_key.get(namespace)
        return wide if own is None else own + wide
