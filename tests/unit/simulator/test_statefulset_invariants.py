"""Oracles of Advanced StatefulSet: a history that each must reject, and a legal near miss (reliability 6.7).

Here: identity (S1), revisions (S6), needless disruption (S7), status (S8).
"""

from __future__ import annotations

import copy

import pytest

from kruise.runtime.clock import format_time
from kruise.simulator.invariants import CLAIMS, REVISIONS, SETS
from tests.unit.simulator.set_history import (
    IN_PLACE,
    T0,
    History,
    a_claim,
    a_pod,
    a_revision,
    template,
)

# S1


def test_s1_rejects_a_pod_of_a_name_that_is_no_members_and_accepts_the_next_ordinal():
    bad, good = History(pods=2, updating=False), History(pods=2, updating=False)
    stranger = a_pod(2)
    stranger["metadata"]["name"] = "web-xyz"
    bad.put("pods", stranger)
    assert bad.found() == ["S1"]
    good.put("pods", a_pod(2))
    assert good.found() == []


@pytest.mark.parametrize("reserve", [[2], ["1-2"]])
def test_s1_rejects_a_pod_with_a_reserved_ordinal_and_accepts_one_that_was_reserved_a_moment_ago(reserve):
    history = History(pods=2, updating=False, reserveOrdinals=reserve)
    history.put("pods", a_pod(2))
    assert history.found() == ["S1"]
    history = History(pods=2, updating=False)
    history.edit(reserveOrdinals=reserve)
    history.now += 2
    history.put("pods", a_pod(2))
    assert history.found() == []


def test_s1_rejects_a_second_pod_on_one_claim_and_accepts_one_after_the_end_of_the_first():
    spec = {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}
    for phase, found in (("Running", ["S1"]), ("Succeeded", [])):
        history = History(pods=0, updating=False, **spec)
        history.put(CLAIMS, a_claim(0))
        other = a_pod(0, claims=("data",), uid="x")
        other["metadata"] |= {"name": "guest", "ownerReferences": []}
        other["status"]["phase"] = phase
        history.put("pods", other, actor="user")
        history.put("pods", a_pod(0, claims=("data",)))
        assert history.found() == found


def test_s1_rejects_an_object_that_goes_before_its_processes_and_accepts_one_without_a_node():
    history = History(replicas=2)
    history.delete(2, gone=True)
    assert history.found() == ["S1"]
    history = History(replicas=2, pods=2)
    unbound = a_pod(2)
    del unbound["spec"]["nodeName"]
    unbound["status"] = {"phase": "Pending"}
    history.put("pods", unbound, actor="user")
    history.delete(2, gone=True)
    assert history.found() == []


def test_s1_rejects_the_loss_of_a_foreign_finalizer_and_accepts_that_of_one_from_the_template():
    history = History()
    history.put(
        "pods", {**history.pod(1), "metadata": {**history.pod(1)["metadata"], "finalizers": ["a/b"]}}, actor="u"
    )
    pod = history.pod(1)
    pod["metadata"]["finalizers"] = []
    history.put("pods", pod)
    assert history.found() == ["S1"]
    history = History()
    made = a_revision("web-1", "v1", 1)
    made["data"]["spec"]["template"]["metadata"]["finalizers"] = ["a/b"]
    history.put(REVISIONS, made, actor="user")
    history.put(
        "pods", {**history.pod(1), "metadata": {**history.pod(1)["metadata"], "finalizers": ["a/b"]}}, actor="u"
    )
    history.put("pods", pod)
    assert history.found() == []


# S6


def test_s6_x38_rejects_a_second_revision_of_one_meaning_and_accepts_another_template():
    history = History()
    again = a_revision("web-3", "v2", 3)
    again["data"]["spec"]["template"]["metadata"]["creationTimestamp"] = None
    again["data"]["spec"]["template"]["spec"]["containers"][0]["resources"] = {}
    history.put(REVISIONS, again)
    assert history.found() == ["S6"]
    history = History()
    history.edit(template=template("v3"))
    history.put(REVISIONS, a_revision("web-3", "v3", 3))
    assert history.found() == []


def test_s6_rejects_a_revision_that_the_set_never_meant():
    history = History()
    history.put(REVISIONS, a_revision("web-3", "v9", 3))
    assert history.found() == ["S6"]


def test_s6_rejects_the_deletion_of_a_revision_in_use():
    history = History()
    history.delete(0, resource=REVISIONS, name="web-1", gone=True)
    assert history.found() == ["S6"]
    history = History(pods=0)
    history.put(SETS, {**history.world(SETS, "web"), "status": {"currentRevision": "web-2"}}, actor="kruise")
    history.delete(0, resource=REVISIONS, name="web-1", gone=True)
    assert history.found() == []


def test_s6_rejects_an_update_to_an_older_revision():
    history = History(gated=True, rolling=IN_PLACE)
    history.edit(template=template("v3"))
    history.put(REVISIONS, a_revision("web-3", "v3", 3))
    history.now += 30
    history.close(2)
    history.image(2)
    assert history.found() == ["S6"]


def test_s6_at_rest_the_history_has_its_limit():
    history = History(updating=False, pods=0, replicas=0, revisionHistoryLimit=0)
    history.put(REVISIONS, a_revision("web-0", "v0", 0), actor="user")
    assert "S6" in history.rest()


# S7


def test_s7_rejects_the_deletion_of_a_good_pod_and_accepts_it_where_it_is_asked_for():
    history = History(updating=False)
    history.delete(2)
    assert history.found() == ["S7"]
    history = History(updating=False)
    pod = history.pod(2)
    pod["metadata"]["labels"]["apps.kruise.io/specified-delete"] = "true"
    history.put("pods", pod, actor="user")
    history.delete(2)
    assert history.found() == []
    history = History(updating=False)
    history.edit(reserveOrdinals=[1])
    history.delete(1)
    assert history.found() == [], history.texts()


def test_s7_accepts_a_pod_that_was_of_an_old_revision_a_moment_ago():
    history = History()
    history.put(REVISIONS, a_revision("web-1", "v1", 3), actor="kruise")  # a rollback
    history.now += 2
    history.delete(2)
    assert history.found() == []
    history.delete(2, actor="kubelet", gone=True)
    history.put("pods", a_pod(2, uid="q2"))
    history.kubelet(2)
    history.now += 30
    history.delete(1)
    assert history.found() == ["S7"]


# S8


def the_status(**other):
    full = {
        "observedGeneration": 1,
        "replicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "currentReplicas": 3,
        "updatedReplicas": 3,
        "updatedReadyReplicas": 3,
        "updatedAvailableReplicas": 3,
        "currentRevision": "web-1",
        "updateRevision": "web-1",
    }
    return full | other


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({}, []),
        ({"readyReplicas": 2}, ["S8"]),
        ({"updateRevision": "web-0"}, ["S8"]),
        ({"observedGeneration": 0}, ["S8"]),
    ],
)
def test_s8_at_rest_the_status_is_a_recount(wrong, found):
    history = History(updating=False)
    history.put(SETS, {**history.world(SETS, "web"), "status": the_status(**wrong)}, actor="kruise")
    assert history.rest() == found, history.texts()


# What surrounds them.


def test_a_set_that_is_being_deleted_is_left_alone():
    history = History()
    owner = copy.deepcopy(history.world(SETS, "web"))
    owner["metadata"]["deletionTimestamp"] = format_time(T0)
    history.put(SETS, owner, actor="user")
    for ordinal in range(3):
        history.delete(ordinal, actor="generic-garbage-collector")
    assert history.rest() == []


def test_start_ordinals_count_only_with_their_gate():
    for on, found in ((False, ["S1"]), (True, [])):
        history = History(pods=0, updating=False, start_ordinal=on, ordinals={"start": 4})
        history.put("pods", a_pod(4))
        assert history.found() == found
