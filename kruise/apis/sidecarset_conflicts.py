"""Conflicts between sets that may select one pod (spec/sidecarset 4.2 phase B, 4.4; C4).

Guarantees: a container, a volume with another definition and an annotation that is overwritten have one provider. A
canary does not conflict with its base, nor the base with its canaries: a pod gets one of them.

What this does not do: two sets that are written at the same moment do not see each other; the injection looks again.
The names of hot twins are not compared, and neither are init containers with containers, as upstream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kruise.apis import selectors
from kruise.apis.fielderrors import FieldError, invalid
from kruise.apis.go_encoding import canonical
from kruise.apis.podtemplate.fields import Node, child, items, text
from kruise.apis.sidecarset import CANARY_ANNOTATION, CANARY_BASE_ANNOTATION, PATCH_OVERWRITE, PATCH_RETAIN

__all__ = ["conflicts", "may_meet"]

_VOLUME: Final = "core.v1.Volume"


def may_meet(first: Node, second: Node) -> bool:
    """Tell whether two specs may select one pod, by their selectors and those of their namespaces."""
    namespaces = [child(spec, "namespaceSelector") for spec in (first, second)]
    if None not in namespaces and not selectors.overlapping(*namespaces):
        return False
    return selectors.overlapping(child(first, "selector"), child(second, "selector"))


def conflicts(new: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    """Return the conflicts of *new*, plain JSON of v1beta1, with *others*. Of several providers the last is named."""
    meta, spec = child(dict(new), "metadata") or {}, child(dict(new), "spec") or {}
    met = [
        (text(child(dict(other), "metadata"), "name"), other_spec)
        for other in others
        if not _related(meta, child(dict(other), "metadata") or {})
        and may_meet(spec, other_spec := child(dict(other), "spec") or {})
    ]
    errors: list[FieldError] = []
    for key in ("initContainers", "containers"):
        taken = {text(one, "name"): name for name, known in met for one in items(known, key)}
        errors += [
            invalid("spec.containers", mine, f"container {mine} already exist in {taken[mine]}")
            for one in items(spec, key)
            if (mine := text(one, "name")) in taken
        ]
    return [*errors, *_volume_conflicts(spec, met), *_annotation_conflicts(spec, met)]


def _related(meta: Node, other: Node) -> bool:
    """Tell whether two sets are one, or a canary and its base: no pod gets both."""
    names = {text(meta, "name"), text(other, "name")}
    return len(names) == 1 or _base(meta) == text(other, "name") or _base(other) == text(meta, "name")


def _base(meta: Node) -> str | None:
    annotations = child(meta, "annotations")
    return text(annotations, CANARY_BASE_ANNOTATION) if text(annotations, CANARY_ANNOTATION) == "true" else None


def _volume_conflicts(spec: Node, met: list[tuple[str, Node]]) -> Iterator[FieldError]:
    taken = {text(volume, "name"): (name, volume) for name, known in met for volume in items(known, "volumes")}
    for volume in items(spec, "volumes"):
        mine = text(volume, "name")
        owner, other = taken.get(mine, ("", volume))
        if canonical(volume, _VOLUME) != canonical(other, _VOLUME):
            yield invalid("spec.volumes", mine, f"volume {mine} is in conflict with sidecarset {owner}")


def _annotation_conflicts(spec: Node, met: list[tuple[str, Node]]) -> Iterator[FieldError]:
    taken = {key: (name, policy) for name, known in met for key, policy in _patched(known)}
    for key, policy in _patched(spec):
        owner, other = taken.get(key, ("", PATCH_RETAIN))
        if PATCH_RETAIN not in (policy, other) and PATCH_OVERWRITE in (policy, other):
            yield invalid("spec.patchPodMetadata", key, f"annotation {key} is in conflict with sidecarset {owner}")


def _patched(spec: Node) -> Iterator[tuple[str, str]]:
    for patch in items(spec, "patchPodMetadata"):
        for key in sorted(child(patch, "annotations") or {}):
            yield key, text(patch, "patchPolicy")
