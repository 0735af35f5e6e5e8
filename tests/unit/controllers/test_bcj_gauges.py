"""The gauges of kruise-state-metrics, at scrape time."""

from __future__ import annotations

from typing import Any

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.controllers.broadcastjob.gauges import add_gauges
from kruise.runtime.cache.store import Store
from kruise.runtime.clock import SystemClock
from kruise.runtime.metrics import Metrics
from tests.unit.controllers.bcj import STAMP, job, job_body

STATUS = {
    "active": 1,
    "succeeded": 2,
    "failed": 3,
    "desired": 7,
    "conditions": [{"type": "Complete", "status": "True"}],
}


def served(*jobs: Any, details: bool = False) -> tuple[Metrics, Store[Any]]:
    metrics = Metrics(process=False)
    store = Store(BROADCASTJOBS, clock=SystemClock())
    for one in jobs:
        store.put(one)
    add_gauges(metrics, store, details=details)
    return metrics, store


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    place = {"namespace": "ns", "broadcastjob": labels.pop("job", "sweep"), **labels}
    return metrics.registry.get_sample_value(f"kruise_broadcastjob_{name}", place)


def test_counts_and_conditions_are_always_there_and_go_with_the_job() -> None:
    one = job(status=STATUS)
    metrics, store = served(one)
    counts = [value(metrics, f"status_{name}") for name in ("active", "succeeded", "failed", "desired")]
    assert counts == [1, 2, 3, 7]
    assert value(metrics, "status_condition", condition="Complete", status="true") == 1
    assert value(metrics, "status_condition", condition="Complete", status="false") == 0
    assert value(metrics, "status_condition", condition="Complete", status="unknown") == 0
    assert value(metrics, "spec_strategy_type", type="Always") is None, "what repeats the spec only on demand"
    store.remove(one)
    assert value(metrics, "status_active") is None


def test_details_on_demand() -> None:
    policy = {"activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 5}
    import orjson

    from kruise.apis.broadcastjob import BroadcastJob
    from kruise.runtime.client.nulls import decode_as

    body = job_body(status=STATUS, completionPolicy=policy, parallelism="50%")
    body["metadata"].update(creationTimestamp=STAMP, labels={"team": "a"})
    metrics, _ = served(
        decode_as(BroadcastJob, orjson.dumps(body)),
        job("plain"),
        job("number", parallelism=4),
        job("odd", parallelism="many"),
        details=True,
    )
    assert value(metrics, "created") == 1_767_225_600
    assert value(metrics, "created", job="plain") is None
    assert value(metrics, "metadata_generation") == 1
    assert value(metrics, "labels", key="team", value="a") == 1
    assert value(metrics, "status_spec_parallelism") == 3.5
    assert value(metrics, "status_spec_parallelism", job="plain") == 2147483647
    assert value(metrics, "status_spec_parallelism", job="number") == 4
    assert value(metrics, "status_spec_parallelism", job="odd") is None
    assert value(metrics, "spec_strategy_type", type="Always") == 1
    assert value(metrics, "spec_strategy_activedeadline_seconds") == 60
    assert value(metrics, "spec_strategy_ttl_seconds") == 5
    assert value(metrics, "spec_strategy_ttl_seconds", job="plain") is None
