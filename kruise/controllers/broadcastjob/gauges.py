"""What a BroadcastJob shows in metrics, straight from the cache, when somebody scrapes.

Purpose: the gauges of kruise-state-metrics under their own names, without a second deployment.

Guarantees: computed at scrape time from the store; a job that is gone has no series. Counts and conditions are always
there; what repeats the spec, and labels, which have no bound, only when asked for.

What this does not do: no per-node or per-pod series, because their number has no bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kruise.apis.broadcastjob import NO_LIMIT, BroadcastJob
from kruise.runtime.cache.store import Store
from kruise.runtime.clock import parse_time
from kruise.runtime.metrics import Metrics, Sample, ScrapeFamily

__all__ = ["add_gauges"]

_OBJECT = ("namespace", "broadcastjob")


def add_gauges(metrics: Metrics, jobs: Store[BroadcastJob], *, details: bool = False) -> None:
    """Register the gauges of all jobs of *jobs*. *details* adds those of the spec, of creation and of labels."""

    def family(name: str, text: str, value: Any, labels: tuple[str, ...] = ()) -> None:
        one = metrics.add(ScrapeFamily(f"kruise_broadcastjob_{name}", text, (*_OBJECT, *labels)))

        def samples() -> Iterable[Sample]:
            for job in jobs.list():
                place = (job.metadata.namespace, job.metadata.name)
                for extra, number in value(job):
                    yield Sample((*place, *extra), number)

        one.add(samples)

    family("status_active", "Pods of the job that are active.", lambda j: [((), j.status.active)])
    family("status_succeeded", "Pods of the job that succeeded.", lambda j: [((), j.status.succeeded)])
    family("status_failed", "Pods of the job that failed.", lambda j: [((), j.status.failed)])
    family("status_desired", "Nodes that should run a pod of the job.", lambda j: [((), j.status.desired)])
    family("status_condition", "Conditions of the job: 1 for the present status.", _conditions, ("condition", "status"))
    if not details:
        return
    family("created", "Creation time of the job, in seconds since the epoch.", _created)
    family("metadata_generation", "Generation of the job.", lambda j: [((), j.metadata.generation)])
    family(
        "labels", "Labels of the job.", lambda j: [((k, v), 1) for k, v in j.metadata.labels.items()], ("key", "value")
    )
    family("status_spec_parallelism", "Parallelism as a number; a percentage of the desired nodes.", _parallelism)
    family("spec_strategy_type", "Completion policy of the job.", _policy, ("type",))
    family(
        "spec_strategy_activedeadline_seconds",
        "Active deadline of the job.",
        lambda j: _optional(j.spec.completion_policy.active_deadline_seconds),
    )
    family(
        "spec_strategy_ttl_seconds",
        "Time to live of the job after it ended.",
        lambda j: _optional(j.spec.completion_policy.ttl_seconds_after_finished),
    )


_Values = list[tuple[tuple[str, ...], float]]


def _conditions(job: BroadcastJob) -> _Values:
    return [
        ((condition.type, status.lower()), 1.0 if condition.status == status else 0.0)
        for condition in job.status.conditions
        for status in ("True", "False", "Unknown")
    ]


def _created(job: BroadcastJob) -> _Values:
    stamp = parse_time(job.metadata.creation_timestamp)
    return [] if stamp is None else [((), stamp)]


def _parallelism(job: BroadcastJob) -> _Values:
    value = job.spec.parallelism
    if value is None:
        return [((), NO_LIMIT)]
    if isinstance(value, int):
        return [((), value)]
    digits = value.rstrip("%")
    return [((), float(digits) * job.status.desired / 100)] if digits.isdigit() else []


def _policy(job: BroadcastJob) -> _Values:
    return [((job.spec.completion_policy.type,), 1.0)]


def _optional(value: int | None) -> _Values:
    return [] if value is None else [((), float(value))]
