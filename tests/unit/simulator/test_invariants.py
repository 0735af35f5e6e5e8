"""Each checker has histories that it must reject, and legal near misses that it must accept (reliability 6.7)."""

from __future__ import annotations

import copy

import pytest

from kruise.runtime.objects import Key
from kruise.simulator.invariants import (
    BroadcastJobs,
    Conditional,
    Footprint,
    Isolation,
    NoNoOps,
    Observed,
    ObservedGeneration,
    Ownership,
    Quiet,
    Suite,
    Written,
    audited,
    observed,
)
from kruise.simulator.invariants.broadcastjob import JOBS

T0 = 1_767_225_600.0


def ours(actor):
    return actor.startswith("kruise")


def job(uid="j1", name="job", **parts):
    spec = {"parallelism": 100, "completionPolicy": {"type": "Always"}, "failurePolicy": {"type": "FailFast"}}
    spec |= parts.pop("spec", {})
    meta = {"name": name, "namespace": "ns", "uid": uid, "generation": 1} | parts.pop("metadata", {})
    return {"kind": "BroadcastJob", "metadata": meta, "spec": spec} | parts


def node(name, **spec):
    return {"metadata": {"name": name, "uid": f"u-{name}"}, "spec": spec}


def pod(node_name="n1", name="", uid="", owner="j1", phase="Pending", **parts):
    name = name or f"job-{(node_name + 'bbbbbbbbbb')[-10:].replace('n', 'b').replace('1', '2')}"
    meta = {
        "name": name,
        "namespace": "ns",
        "uid": uid or f"p-{name}",
        "annotations": {"apps.kruise.io/broadcastjob-node-uid": f"u-{node_name}"},
    }
    if owner:
        meta["ownerReferences"] = [{"kind": "BroadcastJob", "uid": owner, "name": "job", "controller": True}]
    meta |= parts.pop("metadata", {})
    return {
        "metadata": meta,
        "spec": {"restartPolicy": "OnFailure"},
        "status": {"phase": phase} | parts.pop("status", {}),
    }


class History:
    def __init__(self, *checkers):
        self.suite = Suite(checkers)
        self.rv = 10
        self.now = T0
        for name in ("n1", "n2", "n3"):
            self.put("nodes", node(name), actor="user")
        self.put(JOBS, job(), actor="user")

    def put(self, resource, obj, *, actor="kruise", request=None):
        key = Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        old = self.suite.world.get(resource, key)
        self.rv += 1
        verb = "create" if old is None else "update"
        self.suite.on_commit(Observed(self.rv, verb, resource, key, old, obj, actor, request, self.now))
        return obj

    def change(self, resource, obj, *, actor="user", **parts):
        new = copy.deepcopy(obj)
        for name, value in parts.items():
            new[name] = {**new.get(name, {}), **value}
        return self.put(resource, new, actor=actor)

    def delete(self, resource, obj, *, actor="kruise", body=None):
        key = Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        self.rv += 1
        old = self.suite.world.get(resource, key)
        full = {"preconditions": {"uid": "u", "resourceVersion": "1"}} if body is None else body
        request = Written(actor, "delete", resource, key, body=full, time=self.now)
        self.suite.on_commit(Observed(self.rv, "delete", resource, key, old, None, actor, request, self.now))

    def request(self, verb="patch", resource="pods", body=None, **more):
        actor = more.pop("actor", "kruise")
        self.suite.on_request(Written(actor, verb, resource, Key("ns", "x"), body=body, time=self.now, **more))

    def rest(self):
        self.suite.at_quiescence(self.now)
        return self.found()

    def found(self):
        return sorted({v.invariant for v in self.suite.violations})


# G1


def test_g1_rejects_a_pod_without_an_owner_of_ours_and_accepts_one_with():
    bad, good = History(Ownership(ours, (JOBS,), ("pods",))), History(Ownership(ours, (JOBS,), ("pods",)))
    bad.put("pods", pod(owner=""))
    assert bad.found() == ["G1"]
    good.put("pods", pod())
    good.put("pods", pod("n2", owner=""), actor="user")
    assert good.found() == []


def test_g1_rejects_a_stale_owner_and_accepts_one_that_went_a_moment_ago():
    history = History(Ownership(ours, (JOBS,), ("pods",)))
    history.delete(JOBS, job(), actor="user")
    history.now += 2
    history.put("pods", pod())
    assert history.found() == []
    history.now += 60
    history.put("pods", pod("n2"))
    assert history.found() == ["G1"]


def test_g1_rejects_a_creation_for_a_job_that_is_being_deleted():
    history = History(Ownership(ours, (JOBS,), ("pods",)))
    history.change(JOBS, job(), metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    history.now += 60
    history.put("pods", pod())
    assert history.found() == ["G1"]


def test_g1_accepts_an_adoption():
    history = History(Ownership(ours, (JOBS,), ("pods",)))
    orphan = history.put("pods", pod(owner=""), actor="user")
    history.put("pods", pod(metadata={"uid": orphan["metadata"]["uid"]}))
    assert history.found() == []


# G2

META = {"uid": "u", "resourceVersion": "5"}
CONTROLLED = {"name": "p", "ownerReferences": [{"controller": True, "uid": "j1"}]}


@pytest.mark.parametrize(
    "request_",
    [
        {
            "verb": "create",
            "body": {"metadata": {"generateName": "p-", "ownerReferences": CONTROLLED["ownerReferences"]}},
        },
        {"verb": "create", "body": {"metadata": {"name": "p"}}},
        {"verb": "update", "body": {"metadata": META}},
        {"verb": "patch", "body": {"metadata": {"uid": "u"}, "spec": {}}},
        {"verb": "patch", "body": {"metadata": {"resourceVersion": "5"}, "spec": {}}},
        {"verb": "patch", "body": {"metadata": {"uid": "u"}, "status": {}}, "resource": JOBS, "subresource": "status"},
        {"verb": "patch", "body": [{"op": "replace", "path": "/spec", "value": 1}]},
        {"verb": "delete", "body": None},
        {"verb": "delete", "body": {"preconditions": {"resourceVersion": "5"}}},
        {"verb": "delete", "body": {"preconditions": META, "gracePeriodSeconds": 0}},
        {"verb": "delete", "body": {"preconditions": META}, "resource": "persistentvolumeclaims"},
        {"verb": "deletecollection", "body": {}},
        {"verb": "update", "body": {"metadata": {}}, "resource": "leases.coordination.k8s.io"},
    ],
)
def test_g2_rejects(request_):
    history = History(Conditional(ours, (JOBS,)))
    history.request(**request_)
    assert history.found() == ["G2"]


@pytest.mark.parametrize(
    "request_",
    [
        {"verb": "create", "body": {"metadata": CONTROLLED}},
        {"verb": "create", "body": {"metadata": {"generateName": "e-"}}, "resource": "events.events.k8s.io"},
        {"verb": "create", "body": {"metadata": {"name": "l"}}, "resource": "leases.coordination.k8s.io"},
        {"verb": "update", "body": {"metadata": {"resourceVersion": "5"}}, "resource": "leases.coordination.k8s.io"},
        {"verb": "patch", "body": {"metadata": META, "spec": {}}},
        {"verb": "patch", "body": {"metadata": {"uid": "u", "ownerReferences": [{"uid": "j1"}]}}},
        {
            "verb": "patch",
            "body": {"metadata": {"resourceVersion": "5"}, "status": {}},
            "resource": JOBS,
            "subresource": "status",
        },
        {"verb": "patch", "body": [{"op": "test", "path": "/metadata/resourceVersion", "value": "5"}]},
        {"verb": "delete", "body": {"preconditions": {"uid": "u"}}},
        {"verb": "deletecollection", "body": {}, "actor": "user"},
        {"verb": "get"},
    ],
)
def test_g2_accepts(request_):
    history = History(Conditional(ours, (JOBS,)))
    history.request(**request_)
    assert history.found() == []


def test_g2_a_running_pod_is_deleted_with_its_version_and_an_ended_one_may_go_without():
    history = History(Conditional(ours, (JOBS,)))
    ended = history.put("pods", pod(phase="Succeeded"))
    history.delete("pods", ended, body={"preconditions": {"uid": "u"}})
    assert history.found() == []
    running = history.put("pods", pod("n2", phase="Running"))
    history.delete("pods", running, body={"preconditions": {"uid": "u"}})
    assert history.found() == ["G2"]


# G3, G4, G5, G7, G8


def test_g3_rejects_a_change_outside_the_table():
    allowed = {JOBS: ("status",)}
    history = History(Footprint(ours, allowed))
    history.change(JOBS, job(), actor="kruise", status={"active": 1})
    history.change(JOBS, job(), actor="user", spec={"paused": True})
    assert history.found() == []
    history.change(JOBS, job(), actor="kruise", spec={"paused": False}, status={"active": 1})
    assert history.found() == ["G3"]


def test_g4_rejects_a_write_that_changed_nothing():
    history = History(NoNoOps(ours))
    history.request(changed=True)
    history.request(changed=False, actor="user")
    history.request(changed=False, code=409)
    history.request(verb="get", changed=False)
    assert history.found() == []
    history.request(changed=False)
    assert history.found() == ["G4"]


def test_g4_accepts_the_patch_of_an_event_that_is_sent_once_more():
    history = History(NoNoOps(ours))
    again = {"resource": "events.events.k8s.io", "body": {"series": {"count": 2}}}
    history.request(changed=True, **again)
    history.request(changed=False, **again)
    assert history.found() == []
    history.request(changed=False, **again)
    assert history.found() == ["G4"], "twice more is a storm"


def test_g4_rejects_the_patch_of_an_event_that_says_something_old():
    history = History(NoNoOps(ours))
    history.request(changed=True, resource="events.events.k8s.io", body={"series": {"count": 3}})
    history.request(changed=False, resource="events.events.k8s.io", body={"series": {"count": 2}})
    assert history.found() == ["G4"]


def test_g5_rejects_writes_lists_and_errors_at_rest():
    for bad in ({"verb": "patch"}, {"verb": "list"}, {"verb": "get", "code": 500}):
        quiet = Quiet(ours)
        history = History(quiet)
        history.request(**bad)
        quiet.begin()
        history.request(verb="watch")
        history.request(verb="patch", resource="leases.coordination.k8s.io")
        assert history.rest() == []
        quiet.begin()
        history.request(**bad)
        assert history.rest() == ["G5"]


def test_g7_rejects_an_observed_generation_that_goes_back_or_ahead_or_away():
    for after in (1, 3, None):
        history = History(ObservedGeneration((JOBS,)))
        at2 = history.change(JOBS, job(), metadata={"generation": 2}, status={"observedGeneration": 2})
        history.change(JOBS, at2, metadata={"labels": {"a": "b"}})
        assert history.found() == []
        history.change(JOBS, at2, status={"observedGeneration": after})
        assert history.found() == ["G7"]


def test_g8_rejects_a_bad_object_that_stops_others_or_is_reported_twice():
    def warning(name, uid):
        return {"metadata": {"name": name, "namespace": "ns"}, "type": "Warning", "regarding": {"uid": uid}}

    for poison, events, expected in (
        (("j1",), 1, []),
        (("j1",), 0, ["G8"]),
        (("j1",), 2, ["G8"]),
        ((), 0, ["G8"]),
    ):
        history = History(Isolation(JOBS, poison, lambda obj: False))
        for i in range(events):
            history.put("events.events.k8s.io", warning(f"e{i}", "j1"))
        assert history.rest() == expected


# B1 to B8


def jobs(**options):
    return History(BroadcastJobs(ours, **options))


def test_b1_rejects_a_second_live_pod_on_a_node():
    history = jobs()
    history.put("pods", pod("n1", name="job-bbbbbbbbbb"))
    history.put("pods", pod("n2", name="job-cccccccccc"))
    assert history.found() == []
    history.put("pods", pod("n1", name="job-dddddddddd"))
    assert history.found() == ["B1", "B2"]


def test_b1_rejects_names_that_are_generated_or_change():
    history = jobs()
    first = history.put("pods", pod("n1", name="job-bbbbbbbbbb"))
    history.delete("pods", first, actor="user")
    history.put("pods", pod("n1", name="job-bbbbbbbbbb", uid="again"))
    assert history.found() == []
    short = jobs()
    short.put("pods", pod("n1", name="job-x7z2k"))
    assert short.found() == ["B1"]
    other = jobs()
    first = other.put("pods", pod("n1", name="job-bbbbbbbbbb"))
    other.delete("pods", first, actor="user")
    other.put("pods", pod("n1", name="job-cccccccccc"))
    assert other.found() == ["B1"]


def test_b1_accepts_another_name_when_a_foreign_object_holds_the_first():
    history = jobs()
    first = history.put("pods", pod("n1", name="job-bbbbbbbbbb"))
    history.delete("pods", first, actor="user")
    history.put("pods", pod("n1", name="job-bbbbbbbbbb", owner="", uid="foreign"), actor="user")
    history.put("pods", pod("n1", name="job-cccccccccc"))
    assert history.found() == []


def test_b1_a_pod_of_upstream_is_found_by_its_node_name():
    history = jobs()
    adopted = pod("n1", name="job-x7z2k")
    del adopted["metadata"]["annotations"]
    adopted["spec"]["nodeName"] = "n1"
    history.put("pods", adopted, actor="manager")
    assert history.found() == []
    history.put("pods", pod("n1", name="job-bbbbbbbbbb"))
    assert history.found() == ["B1", "B2"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_b2_rejects_a_pod_where_one_has_ended_and_accepts_it_after_the_deletion(phase):
    history = jobs()
    first = history.put("pods", pod("n1", name="job-bbbbbbbbbb", phase=phase))
    history.delete("pods", first, actor="user")
    history.put("pods", pod("n1", name="job-bbbbbbbbbb", uid="2", phase=phase))
    assert history.found() == []
    history.put("pods", pod("n1", name="job-bbbbbbbbbc", uid="3"))
    assert "B2" in history.found()


def test_b2_rejects_our_deletion_on_an_eligible_node_and_accepts_it_on_another():
    def fits(j, n):
        return not n["spec"].get("unschedulable")

    history = jobs(fits=fits)
    first = history.put("pods", pod("n1", name="job-bbbbbbbbbb"))
    second = history.put("pods", pod("n2", name="job-cccccccccc"))
    history.put("nodes", node("n1", unschedulable=True), actor="user")
    history.delete("pods", first)
    assert history.found() == []
    history.delete("pods", second)
    assert history.found() == ["B2"]


def test_b3_rejects_nodes_that_are_gone_or_do_not_fit():
    def fits(j, n):
        return not n["spec"].get("unschedulable")

    history = jobs(fits=fits)
    history.put("nodes", node("n1", unschedulable=True), actor="user")
    history.put("pods", pod("n1", name="job-bbbbbbbbbb"))
    assert history.found() == []  # it fitted a moment ago
    history.now += 60
    history.put("nodes", node("n2", unschedulable=True), actor="user")
    history.now += 60
    history.put("pods", pod("n2", name="job-cccccccccc"))
    assert history.found() == ["B3"]
    other = jobs()
    other.delete("nodes", node("n1"), actor="user")
    other.now += 60
    other.put("pods", pod("n1", name="job-bbbbbbbbbb"))
    assert other.found() == ["B3"]


@pytest.mark.parametrize(("parallelism", "allowed"), [(1, 1), ("34%", 2), ("100", 3)])
def test_b4_rejects_one_pod_more_than_the_limit(parallelism, allowed):
    history = jobs()
    history.put(JOBS, job(spec={"parallelism": parallelism}), actor="user")
    history.now += 60
    history.put("nodes", node("n4"), actor="user")
    history.delete("nodes", node("n4"), actor="user")
    history.now += 60
    names = ["job-bbbbbbbbbb", "job-cccccccccc", "job-dddddddddd"]
    for i in range(allowed):
        history.put("pods", pod(f"n{i + 1}", name=names[i]))
    assert history.found() == []
    if allowed < 3:
        history.put("pods", pod(f"n{allowed + 1}", name=names[allowed]))
        assert history.found() == ["B4"]


def test_b4_ended_pods_free_a_slot_and_a_lowered_limit_counts_from_a_moment_later():
    history = jobs()
    history.put(JOBS, job(spec={"parallelism": 1}), actor="user")
    history.now += 60
    history.put("pods", pod("n1", name="job-bbbbbbbbbb", phase="Succeeded"))
    history.put("pods", pod("n2", name="job-cccccccccc"))
    history.put(JOBS, job(spec={"parallelism": 2}), actor="user")
    history.put(JOBS, job(spec={"parallelism": 1}), actor="user")
    history.now += 1
    history.put("pods", pod("n3", name="job-dddddddddd"))
    assert history.found() == []


COMPLETE = {
    "phase": "completed",
    "conditions": [{"type": "Complete", "status": "True"}],
    "completionTime": "2026-01-01T00:00:00Z",
}
FAILED = {
    "phase": "failed",
    "conditions": [{"type": "Failed", "status": "True"}],
    "completionTime": "2026-01-01T00:00:00Z",
}


def test_b5_rejects_a_pod_for_a_job_that_has_ended():
    history = jobs()
    history.change(JOBS, job(), actor="kruise", status=COMPLETE)
    history.now += 60
    history.put("pods", pod("n1", name="job-bbbbbbbbbb"))
    assert history.found() == ["B5"]


def test_b5_rejects_completion_with_an_active_pod_and_accepts_one_that_is_terminating():
    history = jobs()
    live = history.put("pods", pod("n1", name="job-bbbbbbbbbb", phase="Running"))
    history.change("pods", live, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    history.change(JOBS, job(), actor="kruise", status=COMPLETE)
    assert history.found() == []
    history = jobs()
    history.put("pods", pod("n1", name="job-bbbbbbbbbb", phase="Running"))
    history.change(JOBS, job(), actor="kruise", status=COMPLETE)
    assert history.found() == ["B5"]


def test_b5_rejects_survivors_of_a_failed_job():
    for phase, expected in (("Running", ["B5"]), ("Failed", [])):
        history = jobs()
        history.put("pods", pod("n1", name="job-bbbbbbbbbb", phase=phase))
        history.change(JOBS, job(), actor="kruise", status=FAILED)
        assert history.rest() == expected


def test_b6_rejects_a_job_that_goes_on_over_its_restart_limit():
    for restarts, expected in ((2, ["B6"]), (1, [])):
        history = jobs()
        history.put(JOBS, job(spec={"failurePolicy": {"type": "FailFast", "restartLimit": 1}}), actor="user")
        status = {"containerStatuses": [{"restartCount": restarts}]}
        history.put("pods", pod("n1", name="job-bbbbbbbbbb", phase="Running", status=status))
        counts = {"failed": 1} if restarts > 1 else {"active": 1}
        current = history.suite.world.get(JOBS, Key("ns", "job"))
        history.change(JOBS, current, actor="kruise", status=counts)
        assert history.rest() == expected


@pytest.mark.parametrize(
    ("ttl", "wait", "status", "body", "expected"),
    [
        (30, 30, COMPLETE, None, []),
        (30, 20, COMPLETE, None, ["B7"]),
        (None, 60, COMPLETE, None, ["B7"]),
        (30, 60, {"phase": "running"}, None, ["B7"]),
        (30, 60, COMPLETE, {"preconditions": {"uid": "u"}}, ["B7"]),
    ],
)
def test_b7_rejects_a_deletion_that_is_early_or_unconditional(ttl, wait, status, body, expected):
    history = jobs()
    policy = {"type": "Always"} | ({"ttlSecondsAfterFinished": ttl} if ttl is not None else {})
    done = history.put(JOBS, job(spec={"completionPolicy": policy}, status=status))
    history.now += wait
    history.delete(JOBS, done, body=body)
    assert history.found() == expected


def test_b7_rejects_a_job_that_outlives_its_deadline():
    for later, expected in ((9, []), (13, ["B7"])):
        history = jobs()
        policy = {"type": "Always", "activeDeadlineSeconds": 10}
        history.put(
            JOBS, job(spec={"completionPolicy": policy}, status={"startTime": "2026-01-01T00:00:00Z"}), actor="user"
        )
        history.now = T0 + later
        assert history.rest() == expected


def test_b8_rejects_wrong_and_negative_counts():
    history = jobs()
    history.put("pods", pod("n1", name="job-bbbbbbbbbb", phase="Running"))
    history.put("pods", pod("n2", name="job-cccccccccc", phase="Succeeded"))
    at = history.change(JOBS, job(), actor="kruise", status={"active": 1, "succeeded": 1})
    assert history.rest() == []
    at = history.change(JOBS, at, actor="kruise", status={"active": 2})
    assert history.rest() == ["B8"]
    history = jobs()
    history.change(JOBS, job(), actor="kruise", status={"active": -1})
    assert history.found() == ["B8"]


# The real server's feed


def audit(verb, rv, *, agent="kruise", name="a", code=200, body=None):
    return {
        "stage": "ResponseComplete",
        "verb": verb,
        "userAgent": agent,
        "requestURI": "/api/v1/namespaces/ns/pods",
        "objectRef": {"resource": "pods", "namespace": "ns", "name": name},
        "responseStatus": {"code": code},
        "requestObject": body,
        "responseObject": {"metadata": {"name": name, "resourceVersion": str(rv)}},
        "requestReceivedTimestamp": "2026-01-01T00:00:05.000000Z",
    }


def test_an_audit_log_shows_writes_that_changed_nothing():
    log = [audit("create", 5, code=201), audit("patch", 6), audit("patch", 6), audit("patch", 6, name="b")]
    assert [w.changed for w in audited(log)] == [None, True, False, True]


def test_an_audit_log_says_which_controller_of_ours_wrote():
    agents = [
        "kruise-manager/1.0 sidecarset-controller term/3",
        "kruise-manager/1.0 b",
        "kruise-manager/1.0 term/0",
        "k",
    ]
    assert [w.controller for w in audited(audit("patch", 5, agent=one) for one in agents)] == [
        "sidecarset-controller",
        "b",
        "",
        "",
    ]


def test_watch_events_and_audit_log_together_are_a_history():
    def event(kind, rv):
        obj = {"metadata": {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": str(rv)}}
        return "pods", {"type": kind, "object": obj}

    commits = observed(
        [event("DELETED", 9), event("ADDED", 5), event("MODIFIED", 6), event("MODIFIED", 6)],
        [audit("create", 5, code=201), audit("patch", 6, agent="kubelet")],
    )
    assert [(c.rv, c.verb, c.actor) for c in commits] == [
        (5, "create", "kruise"),
        (6, "update", "kubelet"),
        (9, "delete", ""),
    ]
    assert commits[1].old is commits[0].new
    assert all(c.time == T0 + 5 for c in commits)
