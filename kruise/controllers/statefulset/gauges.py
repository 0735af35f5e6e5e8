"""What a StatefulSet shows in metrics, straight from the cache, when somebody scrapes.

Purpose: the gauges of kruise-state-metrics under their own names, without a second deployment (ecosystem 10.1).

Guarantees: computed at scrape time from the store; a set that is gone has no series. Counts and conditions are always
there; what repeats the spec, and labels, which have no bound, only when asked for.

What this does not do: no per-pod series, because their number has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from kruise.apis.intorstring import statefulset_max_unavailable
from kruise.apis.statefulset import ROLLING_UPDATE, StatefulSet
from kruise.runtime.cache.store import Store
from kruise.runtime.clock import parse_time
from kruise.runtime.metrics import Metrics, Sample, ScrapeFamily

__all__ = ["add_gauges"]

_OBJECT: Final = ("namespace", "advancedstatefulset")

_Values = list[tuple[tuple[str, ...], float]]


def add_gauges(metrics: Metrics, sets: Store[StatefulSet], *, details: bool = False) -> None:
    """Register the gauges of all sets of *sets*. *details* adds those of the spec, of creation and of labels."""

    def family(name: str, text: str, value: Callable[[StatefulSet], _Values], labels: tuple[str, ...] = ()) -> None:
        one = metrics.add(ScrapeFamily(f"kruise_advancedstatefulset_{name}", text, (*_OBJECT, *labels)))

        def samples() -> Iterable[Sample]:
            for sts in sets.list():
                place = (sts.metadata.namespace, sts.metadata.name)
                for extra, number in value(sts):
                    yield Sample((*place, *extra), number)

        one.add(samples)

    def count(name: str, text: str, of: Callable[[StatefulSet], int]) -> None:
        family(name, text, lambda sts: [((), of(sts))])

    count("replicas", "Pods that the set shall have.", lambda s: s.spec.replicas)
    count("status_replicas", "Pods of the set that exist.", lambda s: s.status.replicas)
    count("status_replicas_available", "Pods of the set that are available.", lambda s: s.status.available_replicas)
    count("status_replicas_current", "Pods on the current revision.", lambda s: s.status.current_replicas)
    count("status_replicas_ready", "Pods of the set that are ready.", lambda s: s.status.ready_replicas)
    count("status_replicas_updated", "Pods on the update revision.", lambda s: s.status.updated_replicas)
    count("status_observed_generation", "Generation of the set that was seen.", lambda s: s.status.observed_generation)
    family("status_condition", "Conditions of the set: 1 for the present status.", _conditions, ("condition", "status"))
    revision = ("revision",)
    family(
        "status_current_revision",
        "The revision of the pods that are not updated yet: 1 for its name.",
        lambda s: _named(s.status.current_revision),
        revision,
    )
    family(
        "status_update_revision",
        "The revision to which pods are updated: 1 for its name.",
        lambda s: _named(s.status.update_revision),
        revision,
    )
    if not details:
        return
    family("created", "Creation time of the set, in seconds since the epoch.", _created)
    count("metadata_generation", "Generation of the set.", lambda s: s.metadata.generation)
    family(
        "labels", "Labels of the set.", lambda s: [((k, v), 1) for k, v in s.metadata.labels.items()], ("key", "value")
    )
    count("spec_replicas", "Pods that the spec of the set asks for.", lambda s: s.spec.replicas)
    family(
        "spec_reserveordinals",
        "Reserved ordinals of the set, one series for each entry as it is written.",
        lambda s: [((str(entry),), 1) for entry in dict.fromkeys(s.spec.reserve_ordinals)],
        ("ordinal",),
    )
    family("strategy_type", "Update strategy of the set.", lambda s: _named(s.spec.update_strategy.type), ("type",))
    family(
        "spec_strategy_rollingupdate_max_unavailable",
        "Pods that an update may make unavailable; a percentage is counted out: of the replicas, rounded down.",
        _max_unavailable,
    )


def _conditions(sts: StatefulSet) -> _Values:
    return [
        ((condition.type, status.lower()), 1.0 if condition.status == status else 0.0)
        for condition in sts.status.conditions
        for status in ("True", "False", "Unknown")
    ]


def _created(sts: StatefulSet) -> _Values:
    stamp = parse_time(sts.metadata.creation_timestamp)
    return [] if stamp is None else [((), stamp)]


def _named(name: str) -> _Values:
    return [((name,), 1.0)] if name else []


def _max_unavailable(sts: StatefulSet) -> _Values:
    rolling = sts.spec.update_strategy.rolling_update
    if sts.spec.update_strategy.type != ROLLING_UPDATE or rolling is None:
        return []
    budget = statefulset_max_unavailable(rolling.max_unavailable, sts.spec.replicas)
    return [] if budget.error else [((), float(budget.value))]
