"""The gauges of kruise-state-metrics for SidecarSets, at scrape time (ecosystem 10.1)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kruise.apis.sidecarset import SIDECARSETS, SidecarSet
from kruise.controllers.sidecarset.gauges import add_gauges
from kruise.runtime.cache.store import Store
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import SystemClock
from kruise.runtime.metrics import Metrics
from tests.simulation.sidecar_objects import EMPTY, sidecar_set

STATUS = {
    "observedGeneration": 4,
    "matchedPods": 7,
    "updatedPods": 5,
    "readyPods": 4,
    "updatedReadyPods": 3,
    "conditions": [{"type": "Injected", "status": "False"}],
}


def served(*, details: bool = False, containers: Any = None, **options: Any) -> tuple[Metrics, Store[SidecarSet]]:
    body = sidecar_set(labels={"team": "a"}, **options)
    body["metadata"].update(uid="uid-mesh", resourceVersion="7", generation=5, creationTimestamp="2026-03-01T12:00:00Z")
    body["spec"]["containers"] = body["spec"]["containers"] if containers is None else containers
    metrics, store = Metrics(process=False), Store(SIDECARSETS, clock=SystemClock())
    store.put(decode_as(SidecarSet, orjson.dumps({**body, "status": STATUS})))
    add_gauges(metrics, store, details=details)
    return metrics, store


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"kruise_sidecarset_{name}", {"sidecarset": "mesh", **labels})


def test_counts_and_conditions_are_always_there_and_go_with_the_set() -> None:
    metrics, store = served()
    names = ("matched", "updated", "ready", "updated_ready")
    assert [value(metrics, f"status_replicas_{name}") for name in names] == [7, 5, 4, 3]
    assert value(metrics, "status_observed_generation") == 4
    assert value(metrics, "status_condition", condition="Injected", status="false") == 1
    assert value(metrics, "status_condition", condition="Injected", status="true") == 0
    assert value(metrics, "spec_metadata_generation") is None, "what repeats the spec only on demand"
    store.remove(store.list()[0])
    assert value(metrics, "status_replicas_matched") is None


def test_details_on_demand() -> None:
    metrics, _ = served(
        details=True,
        hot=True,
        strategy={"maxUnavailable": "20%", "partition": 3},
        namespaceSelector={
            "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]}]
        },
    )
    assert value(metrics, "created") == 1772366400
    assert value(metrics, "spec_metadata_generation") == 5
    assert value(metrics, "labels", key="team", value="a") == 1
    assert value(metrics, "spec_namespcace", namespace="b") == 1
    assert value(metrics, "spec_strategy_type", type="RollingUpdate") == 1
    assert value(metrics, "spec_strategy_partition") == 3
    assert value(metrics, "spec_strategy_rollingupdate_max_unavailable") == 2
    container = {"container": "mesh-proxy"}
    assert value(metrics, "spec_containers_injectpolicy", policy="BeforeAppContainer", **container) == 1
    assert value(metrics, "spec_containers_volumepolicy", policy="disabled", **container) == 1
    assert value(metrics, "spec_containers_strategy_type", type="HotUpgrade", **container) == 1
    assert value(metrics, "spec_containers_strategy_hotupgradeemptyimage", image=EMPTY, **container) == 1


@pytest.mark.parametrize("selector", [None, {"matchLabels": {"mesh": "on"}}])
def test_a_set_that_names_no_namespace_shows_none(selector: Any) -> None:
    metrics, _ = served(details=True, **({"namespaceSelector": selector} if selector else {}))
    assert b"spec_namespcace{" not in metrics.render()


@pytest.mark.parametrize("strategy", [{"type": "NotUpdate"}, {"maxUnavailable": "x%", "partition": "x%"}])
def test_no_budget_is_shown_where_none_applies_or_none_can_be_read(strategy: dict[str, Any]) -> None:
    metrics, _ = served(details=True, strategy=strategy)
    assert value(metrics, "spec_strategy_partition") is None
    assert value(metrics, "spec_strategy_rollingupdate_max_unavailable") is None


def test_containers_of_any_shape_fail_no_scrape_and_no_series_is_there_twice() -> None:
    metrics, _ = served(details=True, containers="none")
    assert b"kruise_sidecarset_created{" in metrics.render()
    twice = [{"name": "a", "upgradeStrategy": {"upgradeType": kind}} for kind in ("ColdUpgrade", "HotUpgrade")]
    metrics, _ = served(details=True, containers=twice)
    assert metrics.render().count(b"kruise_sidecarset_spec_containers_volumepolicy{") == 1
