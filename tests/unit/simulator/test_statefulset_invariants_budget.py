"""The oracle of the budget of Advanced StatefulSet (S2): what it must reject, and legal near misses."""

from __future__ import annotations

from kruise.runtime.clock import format_time
from tests.unit.simulator.set_history import (
    STATE,
    History,
    a_pod,
)

# S2


def test_s2_rejects_a_second_pod_down_and_accepts_one_after_the_other():
    bad, good = History(), History()
    bad.delete(2)
    bad.delete(1)
    assert "attributed: 2 pods" in bad.texts()
    assert "strict: 2 pods" in bad.texts()
    assert "snapshot" not in bad.texts()  # both were allowed at the version at which pod 1 was read
    good.replace(2)
    good.delete(1)
    assert good.found() == []


def test_s2_counts_the_gate_and_accepts_as_many_as_the_budget():
    bad = History(gated=True, rolling={"podUpdatePolicy": "InPlaceIfPossible"})
    bad.close(2)
    bad.close(1)
    assert bad.found() == ["S2"]
    good = History(gated=True, rolling={"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": "67%"})
    good.close(2)
    good.close(1)
    assert good.found() == []
    good.close(0)
    assert good.found() == ["S2"]


def test_s2_counts_an_image_that_runs_not_yet_although_the_status_is_ready():
    history = History(rolling={"podUpdatePolicy": "InPlaceIfPossible"})
    history.image(2)
    history.image(1)
    assert history.found() == ["S2"]
    history = History(rolling={"podUpdatePolicy": "InPlaceIfPossible"})
    history.image(2)
    history.kubelet(2)
    history.put(
        "pods",
        {
            **history.pod(2),
            "metadata": {
                **history.pod(2)["metadata"],
                "labels": {**history.pod(2)["metadata"]["labels"], STATE: "Normal"},
            },
        },
    )
    history.image(1)
    assert history.found() == []


def test_s2_replaces_for_free_what_is_down_at_the_written_version_only():
    history = History()
    history.kubelet(1, ready=False)
    history.kubelet(2, ready=False)
    history.delete(2)
    history.delete(1)
    assert history.found() == [], history.texts()
    history = History()
    history.kubelet(2, ready=False)
    history.kubelet(1, ready=False)
    history.kubelet(1)  # it came back, and the write names this version
    history.delete(1)
    assert "snapshot" in history.texts()
    assert "attributed" not in history.texts()


def test_s2_accepts_a_disruption_that_was_right_when_the_pod_was_read():
    history = History()
    history.kubelet(0, ready=False)  # after the version of pod 2 that the write names
    history.delete(2)
    assert history.found() == []


def test_s2_x1_rejects_a_disruption_beside_a_pod_that_has_been_down_for_long():
    history = History()
    history.kubelet(0, ready=False)
    history.now += 10
    history.delete(2)
    assert "snapshot" in history.texts()
    assert "attributed" not in history.texts()


def test_s2_attributes_to_us_only_what_began_with_us():
    history = History(rolling={"maxUnavailable": 2})
    history.kubelet(0, ready=False)
    history.delete(2)
    assert history.found() == []


def test_s2_judges_by_the_budget_at_the_authorisation_and_not_for_ever():
    history = History(rolling={"maxUnavailable": 2})
    history.delete(2)
    history.edit(rolling={"maxUnavailable": 1})
    history.now += 3
    history.delete(1)
    assert history.found() == [], history.texts()
    history = History(rolling={"maxUnavailable": 2})
    history.delete(2)
    history.edit(rolling={"maxUnavailable": 1})
    history.kubelet(1)
    history.now += 30
    history.delete(1)
    assert history.found() == ["S2"]


def test_s2_counts_missing_ordinals_and_specified_deletions_but_no_scale_down():
    history = History(pods=2)
    history.kubelet(1)
    history.delete(1)
    assert "snapshot" in history.texts()
    history = History()
    for ordinal in (2, 1):
        pod = history.pod(ordinal)
        pod["metadata"]["labels"]["apps.kruise.io/specified-delete"] = "true"
        history.put("pods", pod, actor="user")
    history.delete(2)
    history.delete(1)
    assert history.found() == ["S2"]
    history = History(updating=False)
    history.edit(replicas=0)
    for ordinal in (2, 1, 0):
        history.delete(ordinal)
    assert history.found() == [], history.texts()


def test_s2_a_scale_down_that_lands_when_it_is_over_is_none_of_the_budgets():
    for seconds, found in ((2, []), (30, ["S2", "S7"])):
        history = History(updating=False)
        history.edit(replicas=1)
        history.now += 10
        history.edit(replicas=3)
        history.now += seconds
        history.delete(2)
        history.delete(1)
        assert history.found() == found, history.texts()


def test_s2_waits_for_min_ready_seconds():
    for seconds, found in ((20, ["S2"]), (40, [])):
        history = History(rolling={"minReadySeconds": 30})
        history.delete(2)
        history.delete(2, actor="kubelet", gone=True)
        fresh = a_pod(2, "web-2", image="app:v2", uid="q2")
        fresh["status"]["conditions"][0]["lastTransitionTime"] = format_time(history.now)
        history.put("pods", {**fresh, "status": {"phase": "Pending"}})
        history.put("pods", fresh, actor="kubelet")
        history.now += seconds
        history.delete(1)
        assert history.found() == found, history.texts()
