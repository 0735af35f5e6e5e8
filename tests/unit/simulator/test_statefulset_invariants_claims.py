"""The oracle of volume claims (S5): what it must reject, and legal near misses."""

from __future__ import annotations

from kruise.runtime.clock import format_time
from kruise.runtime.objects import Key
from kruise.simulator.invariants import CLAIMS, SETS, Conditional, Suite, Written
from tests.unit.simulator.set_history import (
    OWNER,
    T0,
    History,
    a_claim,
    a_pod,
    ours,
)

# S5

WITH_CLAIMS = {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}
POD_REF = {"apiVersion": "v1", "kind": "Pod", "name": "web-2", "uid": "p2"}
SET_REF = {k: v for k, v in OWNER.items() if k != "controller"}


def retention(deleted="Retain", scaled="Retain"):
    return {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}


def test_s5_rejects_the_deletion_of_a_claim():
    history = History(**WITH_CLAIMS)
    history.put(CLAIMS, a_claim(0), actor="user")
    history.delete(0, resource=CLAIMS, name="data-web-0", actor="user")
    assert history.found() == []
    history.delete(0, resource=CLAIMS, name="data-web-0", gone=True)
    assert history.found() == ["S5"]


def test_s5_x42_claims_are_created_with_their_final_owner_references():
    for refs, policy, found in (
        ((), retention(), []),
        ((SET_REF,), retention("Delete"), []),
        ((), retention("Delete"), ["S5"]),
        ((SET_REF,), retention(), ["S5"]),
    ):
        history = History(**WITH_CLAIMS, **policy)
        history.put(CLAIMS, a_claim(0, *refs))
        assert history.found() == found, (refs, policy)


def test_s5_x11_a_pod_owns_its_claim_only_when_it_is_condemned():
    policy = WITH_CLAIMS | retention(scaled="Delete")
    history = History(**policy)
    history.put(CLAIMS, a_claim(2), actor="user")
    history.put(CLAIMS, a_claim(2, POD_REF))
    assert history.found() == ["S5"]
    history = History(**policy, reserveOrdinals=[2])  # 3 replicas: 0, 1, 3
    history.put(CLAIMS, a_claim(2), actor="user")
    history.put(CLAIMS, a_claim(2, POD_REF))
    assert history.found() == [], history.texts()


def test_s5_x42_rejects_the_loss_of_a_foreign_reference():
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "name": "keeper", "uid": "k"}
    history = History(**WITH_CLAIMS, **retention("Delete"))
    history.put(CLAIMS, a_claim(2, foreign), actor="user")
    history.put(CLAIMS, a_claim(2, SET_REF))
    assert history.found() == ["S5"]
    history = History(**WITH_CLAIMS, **retention("Delete"))
    history.put(CLAIMS, a_claim(2, foreign), actor="user")
    history.put(CLAIMS, a_claim(2, foreign, SET_REF))
    assert history.found() == []


def test_s5_rejects_a_claim_that_shrinks():
    history = History(**WITH_CLAIMS)
    history.put(CLAIMS, a_claim(2, size="2Gi"), actor="user")
    history.put(CLAIMS, a_claim(2, size="3Gi"))
    assert history.found() == []
    history.put(CLAIMS, a_claim(2, size="1Gi"))
    assert history.found() == ["S5"]


def test_s5b_x41_rejects_a_pod_whose_claim_is_missing_dying_or_not_yet_collected():
    for claim, found in (
        (a_claim(2), []),
        (None, ["S5b"]),
        (a_claim(2, deletionTimestamp=format_time(T0)), ["S5b"]),
        (a_claim(2, {**POD_REF, "uid": "earlier"}), ["S5b"]),
    ):
        history = History(pods=2, updating=False, **WITH_CLAIMS)
        if claim is not None:
            history.put(CLAIMS, claim, actor="user")
        history.now += 30
        history.put("pods", a_pod(2, claims=("data",)))
        assert history.found() == found, claim


def test_s5_at_rest_looks_at_owners_and_at_claims_that_pods_wait_for():
    history = History(updating=False, pods=0, replicas=1, **WITH_CLAIMS, **retention("Delete"))
    history.put(CLAIMS, a_claim(0), actor="user")
    history.put("pods", a_pod(0, claims=("data",)), actor="user")
    assert "S5" in history.rest()
    history = History(updating=False, pods=0, replicas=1, **WITH_CLAIMS)
    waiting = a_pod(0, claims=("data",), ready=False)
    waiting["status"]["phase"] = "Pending"
    history.put("pods", waiting, actor="user")
    assert "S5b" in history.rest()


def test_g2_a_claim_needs_no_controller():
    suite = Suite([Conditional(ours, (SETS,))])
    suite.on_request(Written("kruise", "create", CLAIMS, Key("ns", "x"), body={"metadata": {"name": "x"}}))
    suite.on_request(Written("kruise", "create", "pods", Key("ns", "x"), body={"metadata": {"name": "x"}}))
    assert [v.invariant for v in suite.violations] == ["G2"]
