"""Which of the waiting pods are upgraded first, and how many of them now (spec/sidecarset 8.3 to 8.5).

Purpose: the arithmetic of priority, scatter, partition and budget, over plain values.

Guarantees:

* The rank of a pod depends on that pod alone, so a view keeps its waiting pods in order while they change one by one.
* Equal ranks keep the order that the caller gives. Scatter counts in whole numbers, so no fraction is rounded.
* C5: a budget or a partition that cannot be read is 0. Percentages are rounded up; a partition below 100 % never keeps
  all of several pods.

What this does not do: it does not ask whether a pod may be upgraded at all, as ``podstate`` does, and it takes none, as
``plan`` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from kruise.apis.core import Pod
from kruise.apis.intorstring import sidecarset_max_unavailable, sidecarset_partition
from kruise.apis.selectors import Selector, SelectorError, convert_fast
from kruise.apis.sidecarset import RESTART_ALWAYS, ScatterTerm, SidecarSetUpdateStrategy
from kruise.apis.statefulset import PriorityStrategy
from kruise.controllers.common.priority import by_labels
from kruise.controllers.common.readiness import condition_of
from kruise.controllers.sidecarset.podstate import pod_ready
from kruise.runtime.clock import parse_time

__all__ = ["Rank", "budget", "default_rank", "expanded", "partition", "ranking", "scattered"]

Rank = tuple[float, ...]
"""Where a pod comes; lower first."""

T = TypeVar("T", bound=Hashable)

_PHASES: Final = {"Pending": 0, "Unknown": 1, "Running": 2}
_EVERY_VALUE: Final = "*"
_FIRST: Final = float("-inf")


# ---- ranks -----------------------------------------------------------------------------------------------------------


def default_rank(pod: Pod) -> Rank:
    """Return the rank of a pod by what it does: those whose restart hurts least come first."""
    is_ready = pod_ready(pod)
    regular = max((one.restart_count for one in pod.status.container_statuses), default=0)
    native = 0
    if pod.status.init_container_statuses:
        names = {c.name for c in pod.spec.init_containers if c.restart_policy == RESTART_ALWAYS}
        counts = (one.restart_count for one in pod.status.init_container_statuses if one.name in names)
        native = max(counts, default=0)
    return (
        1 if pod.spec.node_name else 0,
        _PHASES.get(pod.status.phase, 0),
        1 if is_ready else 0,
        _recent(_ready_since(pod)) if is_ready else 0,
        -regular,
        -native,
        _recent(parse_time(pod.metadata.creation_timestamp)),
    )


def _ready_since(pod: Pod) -> float | None:
    condition = condition_of(pod, "Ready")
    return parse_time(condition.last_transition_time) if condition is not None else None


def _recent(seconds: float | None) -> float:
    """Rank the later before the earlier, and what has no time before both."""
    return _FIRST if seconds is None else -seconds


def ranking(strategy: PriorityStrategy | None) -> Callable[[Pod], Rank]:
    """Return the function that ranks a pod: by priority, then by default. A term with a broken selector is skipped."""
    place = by_labels(strategy, _selector)
    if place is None:
        return default_rank
    return lambda pod: (*place(pod.metadata.labels), *default_rank(pod))


def _selector(plain: dict[str, Any]) -> Selector | None:
    try:
        return convert_fast(plain)
    except SelectorError:
        return None


# ---- scatter ---------------------------------------------------------------------------------------------------------


def expanded(terms: Iterable[ScatterTerm], matched: Callable[[], Iterable[Mapping[str, str]]]) -> list[tuple[str, str]]:
    """Return the label pairs that are scattered, each once. ``*`` stands for each value that a *matched* pod has."""
    found: dict[tuple[str, str], None] = {}
    for term in terms:
        if term.value == _EVERY_VALUE:
            found.update(((term.key, labels[term.key]), None) for labels in matched() if term.key in labels)
        else:
            found[term.key, term.value] = None
    return list(found)


def scattered(
    waiting: Sequence[T],
    labels_of: Callable[[T], Mapping[str, str]],
    pairs: Sequence[tuple[str, str]],
    totals: Callable[[str, str], int],
    total: int,
) -> list[T]:
    """Spread the pods of each label pair over the *waiting* ones.

    *totals* tells how many of all *total* matched pods have a label.
    """
    order = list(waiting)
    if len(pairs) > 1:
        have: Counter[tuple[str, str]] = Counter()
        for one in order:
            labels = labels_of(one)
            have.update(pair for pair in pairs if labels.get(pair[0]) == pair[1])
        pairs = sorted((pair for pair in pairs if have[pair]), key=lambda pair: -have[pair])
    for key, value in pairs:
        matching = [one for one in order if labels_of(one).get(key) == value]
        others = [one for one in order if labels_of(one).get(key) != value]
        count = totals(key, value)
        order = _interleaved(order, matching, others, count, total - count)
    return order


def _interleaved(order: list[T], matching: list[T], others: list[T], all_matching: int, all_others: int) -> list[T]:
    """Return one pass of the scatter rule (spec 8.4)."""
    if len(matching) <= 1 or len(others) <= 1:
        return order
    last = matching.pop()
    all_matching -= 1
    m, u = len(matching), len(others)
    remainder = 0
    # Cross-multiplied, so that no fraction is rounded: TU/TM >= u/m.
    if all_others * m >= u * all_matching:
        n, of_matching, of_others = _groups(m, u)
    else:
        _, of_matching, of_others = _groups(all_matching, all_others)
        n = min(m // of_matching, u // of_others)
        remainder = u - n * of_others
    out, rest = others[:remainder], others[remainder:]
    for i in range(n):
        out += matching[i * of_matching : (i + 1) * of_matching]
        out += rest[i * of_others : (i + 1) * of_others]
    out += matching[n * of_matching :]
    out += rest[n * of_others :]
    return [*out, last]


def _groups(a: int, b: int) -> tuple[int, int, int]:
    """Return how many groups there are, and how many of each sort are in one: halves are rounded up."""
    n = min(a, b)
    if n <= 0:
        return 0, 1, 1
    return n, (2 * a + n) // (2 * n), (2 * b + n) // (2 * n)


# ---- how many --------------------------------------------------------------------------------------------------------


def partition(strategy: SidecarSetUpdateStrategy, total: int) -> int:
    """Return how many of the waiting pods stay as they are."""
    return sidecarset_partition(strategy.partition, total).value


def budget(strategy: SidecarSetUpdateStrategy, total: int) -> int:
    """Return how many pods may be on their way at a time."""
    return sidecarset_max_unavailable(strategy.max_unavailable, total).value
