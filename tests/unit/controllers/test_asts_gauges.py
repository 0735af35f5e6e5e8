"""The gauges of kruise-state-metrics for StatefulSets, at scrape time (ecosystem 10.1)."""

from __future__ import annotations

from typing import Any

import orjson

from kruise.apis.statefulset import STATEFULSETS, StatefulSet
from kruise.controllers.statefulset.gauges import add_gauges
from kruise.runtime.cache.store import Store
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import SystemClock
from kruise.runtime.metrics import Metrics

STATUS = {
    "observedGeneration": 4,
    "replicas": 5,
    "readyReplicas": 4,
    "availableReplicas": 3,
    "currentReplicas": 2,
    "updatedReplicas": 1,
    "currentRevision": "web-old",
    "updateRevision": "web-new",
    "conditions": [{"type": "Available", "status": "True"}],
}


def a_set(**spec: Any) -> StatefulSet:
    meta = {
        "name": "web",
        "namespace": "ns",
        "uid": "uid-web",
        "resourceVersion": "7",
        "generation": 4,
        "creationTimestamp": "2026-03-01T12:00:00Z",
        "labels": {"team": "a"},
    }
    return decode_as(StatefulSet, orjson.dumps({"metadata": meta, "spec": {"replicas": 6, **spec}, "status": STATUS}))


def served(one: StatefulSet, *, details: bool = False) -> tuple[Metrics, Store[StatefulSet]]:
    metrics = Metrics(process=False)
    store = Store(STATEFULSETS, clock=SystemClock())
    store.put(one)
    add_gauges(metrics, store, details=details)
    return metrics, store


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    place = {"namespace": "ns", "advancedstatefulset": "web", **labels}
    return metrics.registry.get_sample_value(f"kruise_advancedstatefulset_{name}", place)


def test_counts_conditions_and_revisions_are_always_there_and_go_with_the_set() -> None:
    one = a_set()
    metrics, store = served(one)
    assert value(metrics, "replicas") == 6
    counts = {name: value(metrics, f"status_replicas{name}") for name in ("", "_ready", "_available", "_current")}
    assert counts == {"": 5, "_ready": 4, "_available": 3, "_current": 2}
    assert value(metrics, "status_replicas_updated") == 1
    assert value(metrics, "status_observed_generation") == 4
    assert value(metrics, "status_condition", condition="Available", status="true") == 1
    assert value(metrics, "status_condition", condition="Available", status="false") == 0
    assert value(metrics, "status_current_revision", revision="web-old") == 1
    assert value(metrics, "status_update_revision", revision="web-new") == 1
    assert value(metrics, "spec_replicas") is None, "what repeats the spec only on demand"
    store.remove(one)
    assert value(metrics, "status_replicas") is None


def test_details_on_demand() -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%"}}
    metrics, _ = served(a_set(updateStrategy=strategy, reserveOrdinals=[3, "7-9", 3]), details=True)
    assert value(metrics, "created") == 1772366400
    assert value(metrics, "metadata_generation") == 4
    assert value(metrics, "labels", key="team", value="a") == 1
    assert value(metrics, "spec_replicas") == 6
    assert value(metrics, "strategy_type", type="RollingUpdate") == 1
    assert value(metrics, "spec_strategy_rollingupdate_max_unavailable") == 3
    assert value(metrics, "spec_reserveordinals", ordinal="3") == 1
    assert value(metrics, "spec_reserveordinals", ordinal="7-9") == 1


def test_no_budget_is_shown_where_none_applies_or_none_can_be_read() -> None:
    for strategy in (
        {"type": "OnDelete"},
        {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "x%"}},
    ):
        metrics, _ = served(a_set(updateStrategy=strategy), details=True)
        assert value(metrics, "spec_strategy_rollingupdate_max_unavailable") is None
