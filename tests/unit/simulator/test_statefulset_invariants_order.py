"""The oracle of the order of Advanced StatefulSet (S3): what it must reject, and legal near misses."""

from __future__ import annotations

import copy

import pytest

from tests.unit.simulator.set_history import (
    History,
    a_pod,
)

# S3


def test_s3_rejects_a_pod_created_out_of_order_and_accepts_it_in_order():
    ordered = {"podManagementPolicy": "OrderedReady"}
    history = History(pods=1, updating=False, **ordered)
    history.put("pods", a_pod(2))
    assert history.found() == ["S3"]
    history = History(pods=1, updating=False, **ordered)
    history.put("pods", a_pod(1))
    assert history.found() == []
    history.kubelet(0, ready=False)
    history.now += 2
    history.put("pods", a_pod(2))
    assert history.found() == []  # pod 0 was ready a moment ago


def test_s3_rejects_a_scale_down_from_the_middle_and_accepts_it_from_the_top():
    history = History(updating=False, podManagementPolicy="OrderedReady")
    history.edit(replicas=1)
    history.now += 30
    history.delete(1)
    assert history.found() == ["S3"]
    history = History(updating=False, podManagementPolicy="OrderedReady")
    history.edit(replicas=1)
    history.now += 30
    history.delete(2)
    history.delete(2, actor="kubelet", gone=True)
    history.delete(1)
    assert history.found() == [], history.texts()


def test_s3_rejects_more_creations_than_the_scale_strategy_allows():
    spec = {"replicas": 4, "scaleStrategy": {"maxUnavailable": 2}}
    history = History(pods=0, updating=False, **spec)
    for ordinal in (0, 1):
        history.put("pods", a_pod(ordinal, ready=False))
    assert history.found() == []
    history.put("pods", a_pod(2, ready=False))
    assert history.found() == ["S3"]


def test_s3_rejects_an_update_below_the_partition_and_accepts_one_at_it():
    history = History(rolling={"partition": 2, "maxUnavailable": 3})
    history.delete(2)
    assert history.found() == []
    history.delete(1)
    assert history.found() == ["S3"]


def test_s3_counts_the_partition_in_places_and_not_in_ordinals():
    history = History(rolling={"partition": 1}, pods=5, replicas=3, reserveOrdinals=[0, 1])
    history.replace(4)
    history.now += 30
    history.replace(3)
    assert history.found() == [], history.texts()
    history.now += 30
    history.delete(2)
    assert history.found() == ["S3"]


def test_s3_rejects_an_update_from_the_bottom_and_accepts_it_from_the_top():
    history = History()
    history.delete(0)
    assert history.found() == ["S3"]
    history = History(rolling={"maxUnavailable": 2})
    history.delete(1)  # two at a time: their order among each other is free
    history.delete(2)
    assert history.found() == [], history.texts()


@pytest.mark.parametrize("change", [{"rolling": {"paused": True}}, {"updateStrategy": {"type": "OnDelete"}}])
def test_s3_rejects_an_update_while_paused_or_on_delete_and_accepts_one_that_was_under_way(change):
    for seconds, found in ((30, ["S3"]), (2, [])):
        history = History()
        if "rolling" in change:
            history.edit(rolling=change["rolling"])
        else:
            history.edit(updateStrategy={"type": "OnDelete", "rollingUpdate": {}})
        history.now += seconds
        history.delete(2)
        assert history.found() == found


def test_s3_rejects_a_new_pod_below_the_partition_on_the_new_revision():
    history = History(pods=2, rolling={"partition": 3})
    history.put("pods", a_pod(2, "web-2", image="app:v2"))
    assert history.found() == ["S3"]
    history = History(pods=2, rolling={"partition": 3})
    history.put("pods", a_pod(2, "web-1"))
    assert history.found() == []


@pytest.mark.parametrize(("ordinal", "found"), [(0, []), (2, ["S3"])])
@pytest.mark.parametrize(
    "priorities",
    [
        {"weightPriority": [{"weight": 9, "matchSelector": {"matchLabels": {"first": "yes-7"}}}]},
        {"orderPriority": [{"orderedKey": "first"}, {"orderedKey": "app"}]},
    ],
)
def test_s3_an_update_by_priorities_takes_those_with_the_highest_first(priorities, ordinal, found):
    history = History(rolling={"maxUnavailable": 1, "unorderedUpdate": {"priorityStrategy": priorities}})
    pod = copy.deepcopy(history.pod(0))
    pod["metadata"]["labels"]["first"] = "yes-7"
    history.put("pods", pod, actor="user")
    history.now += 30
    history.delete(ordinal)
    assert history.found() == found, history.texts()


def test_s3_an_unordered_update_leaves_as_many_as_the_partition_says():
    spec = {"rolling": {"partition": 2, "maxUnavailable": 3, "unorderedUpdate": {}}}
    history = History(**spec)
    history.replace(0)
    assert history.found() == []
    history.now += 30
    history.delete(1)
    assert history.found() == ["S3"]
