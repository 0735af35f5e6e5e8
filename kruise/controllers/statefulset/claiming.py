"""Which pods are a StatefulSet's: to keep, to adopt, to release, or none of its business.

Purpose: the first question of every pass, answered for one pod at a time, so that a pod event asks it once.

Guarantees (spec/advanced-statefulset 2.5):

* A pod belongs to the set when the set is its controller, by uid, its labels match and its name is that of a member. A
  pod of another controller is never touched.
* G1: an orphan is adopted only while neither it nor the set is being deleted. Whoever sends the patch first reads the
  set live (reliability, rule 10).
* A set that is being deleted releases nothing: the garbage collector needs the references.
* Both patches name the owner reference of the set alone, so they need no version, the uid of the pod is enough.

Both patches are strategic ones, to be sent with ``uid_alone``. A pod that is gone, or is another one by now, is what
was wanted: neither NotFound nor Conflict is an error here.

What this does not do: it reads nothing and sends nothing.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from kruise.apis.ordinals import NO_MEMBER, parse_member
from kruise.apis.selectors import NOTHING, Selector, convert
from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.runtime.objects import Object, controller_of, owner_reference

__all__ = ["Claiming", "adoption_patch", "decide", "member_ordinal", "release_patch", "selector_of"]


class Claiming(enum.Enum):
    """What a pod is to a set, and what follows."""

    KEEP = "keep"
    """It is the set's, and stays."""
    ADOPT = "adopt"
    """Nobody controls it, and it should be the set's."""
    RELEASE = "release"
    """The set controls it, and it should not."""
    IGNORE = "ignore"
    """It is somebody else's, or nobody's."""


def selector_of(sts: StatefulSet) -> Selector:
    """Return the selector of *sts*; a missing one selects nothing. Raises SelectorError for one without a meaning."""
    given = sts.spec.selector
    return NOTHING if given is None else convert(msgspec.to_builtins(given))


def member_ordinal(sts: StatefulSet, pod: Object) -> int:
    """Return the ordinal of *pod* in *sts* by its name; ``NO_MEMBER`` when it is none of its members."""
    if pod.metadata.namespace != sts.metadata.namespace:
        return NO_MEMBER
    return parse_member(pod.metadata.name, sts.metadata.name)


def decide(sts: StatefulSet, selector: Selector, pod: Object) -> Claiming:
    """Decide what *pod* is to *sts*. Metadata is enough, so a pod that nobody can decode is judged too."""
    owner = controller_of(pod.metadata)
    if owner is not None and owner.uid != sts.uid:
        return Claiming.IGNORE
    belongs = member_ordinal(sts, pod) != NO_MEMBER and selector.matches(pod.metadata.labels)
    if owner is not None:
        if belongs:
            return Claiming.KEEP
        return Claiming.IGNORE if sts.terminating else Claiming.RELEASE
    if not belongs or pod.terminating or sts.terminating:
        return Claiming.IGNORE
    return Claiming.ADOPT


def adoption_patch(sts: StatefulSet) -> dict[str, Any]:
    """Return the patch that makes *sts* the controller of a pod."""
    return {"metadata": {"ownerReferences": [owner_reference(STATEFULSETS, sts)]}}


def release_patch(sts: StatefulSet) -> dict[str, Any]:
    """Return the patch that takes *sts* off the owners of a pod."""
    return {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": sts.uid}]}}
