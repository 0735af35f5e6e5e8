"""In which order pods are updated, and which of two revisions a new pod gets.

Purpose: the arithmetic of partition and priorities, spec/advanced-statefulset 6.2 and 6.3.

Guarantees:

* S3: without ``unorderedUpdate`` the highest ordinal comes first, and the lowest *partition* ordinals that are not
  reserved stay as they are, wherever the range starts (section 16, row 1).
* With ``unorderedUpdate`` pods that are updated or on their way out use up the window first; the others come by
  priority, then by falling ordinal. A pod with none of the ordered keys comes before all that have one (row 4).

What this does not do: it knows no budget. ``update`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kruise.apis.ordinals import OrdinalRange
from kruise.apis.selectors import convert
from kruise.apis.statefulset import RollingUpdate, UnorderedUpdate
from kruise.controllers.common.lifecycle import State, state_of
from kruise.controllers.common.priority import by_labels
from kruise.controllers.statefulset.predicates import revision_of, short_hash
from kruise.runtime.objects import Object

__all__ = ["Rank", "Ranking", "counts_as_updated", "first_candidate", "new_pod_is_current", "ranking"]

Rank = tuple[int, int, int]
"""Where a pod comes; lower first. The last number is the negated ordinal, so no two are equal."""
Ranking = Callable[[int, Mapping[str, str]], Rank]


def ranking(unordered: UnorderedUpdate | None) -> Ranking:
    """Return the function that ranks a pod by its ordinal and labels. Raises SelectorError for a bad selector."""
    place = by_labels(unordered.priority_strategy if unordered is not None else None, convert)
    if place is None:
        return lambda ordinal, _: (0, 0, -ordinal)
    return lambda ordinal, labels: (*place(labels), -ordinal)


def first_candidate(ordinals: OrdinalRange, partition: int) -> int:
    """Return the lowest ordinal that may be updated; the end of the range when none may."""
    count = ordinals.count
    return ordinals.end if partition >= count else ordinals.nth(max(0, partition))


def counts_as_updated(pod: Object, update_revision: str, *, preparing: bool = False) -> bool:
    """Tell whether *pod* counts as updated where pods are put in order; a label with the hash alone does.

    *preparing* is the gate PreparingUpdateAsUpdate.
    """
    if preparing and state_of(pod.metadata) is State.PREPARING_UPDATE:
        return True
    label = revision_of(pod)
    return label == update_revision or (bool(label) and short_hash(label) == short_hash(update_revision))


def new_pod_is_current(
    rolling: RollingUpdate | None, ordinals: OrdinalRange, ordinal: int, *, not_updated: int, current_replicas: int
) -> bool:
    """Tell whether the pod to be created at *ordinal* under RollingUpdate gets the current revision.

    *rolling* is the block as the set has it; *not_updated* counts the other pods that are not updated, those about to
    be created before this one included; *current_replicas* is the count of the previous status.
    """
    if rolling is None:
        return ordinal < ordinals.start + current_replicas
    if rolling.unordered_update is not None:
        return not_updated < rolling.partition
    return ordinals.slot_index(ordinal) < rolling.partition
