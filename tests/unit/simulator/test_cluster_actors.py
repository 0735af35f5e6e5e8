"""The cluster's own controllers besides scheduling and garbage collection, in virtual time."""

from __future__ import annotations

import pytest

from kruise.runtime.clock import Random
from kruise.runtime.testing import eventually, run_virtual
from kruise.simulator import builtin
from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.embedded import EmbeddedCluster

JSON = "application/json-patch+json"


def pod(name, node="", labels=None, **spec):
    body = {"metadata": {"name": name, "labels": labels or {}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    body["spec"].update(spec, **({"nodeName": node} if node else {}))
    return body


def ready(status="True"):
    return [{"type": "Ready", "status": status}]


def scenario(story):
    async def main(clock):
        async with EmbeddedCluster(clock, Random(1), port=-1) as cluster:
            await story(cluster.server, clock)

    run_virtual(main)


def taints(server, name):
    return {(t["key"].rpartition("/")[2], t["effect"]) for t in server.get("nodes", name)["spec"].get("taints") or ()}


def test_tst1_a_new_node_is_tainted_until_it_is_ready():
    async def story(server, clock):
        await eventually(lambda: len(server.operations.admission) == 2, clock)
        server.create("nodes", {"metadata": {"name": "n"}})
        assert taints(server, "n") == {("not-ready", "NoSchedule")}
        server.patch("nodes", "n", {"status": {"conditions": ready()}}, subresource="status")
        await eventually(lambda: not taints(server, "n"), clock)
        server.patch("nodes", "n", {"spec": {"unschedulable": True}})
        await eventually(lambda: taints(server, "n") == {("unschedulable", "NoSchedule")}, clock)

    scenario(story)


def test_tst1_a_silent_node_becomes_unknown_and_its_pods_are_evicted_when_their_toleration_ends():
    async def story(server, clock):
        server.create("nodes", {"metadata": {"name": "n"}})
        server.patch("nodes", "n", {"status": {"conditions": ready()}}, subresource="status")
        server.create("pods", pod("a", "n"))
        server.create("pods", pod("b", "n", tolerations=[{"operator": "Exists"}]))
        server.patch("pods", "a", {"status": {"phase": "Running", "conditions": ready()}}, subresource="status")
        await clock.sleep(49)
        assert not taints(server, "n")
        await clock.sleep(2)
        assert taints(server, "n") == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
        assert server.get("nodes", "n")["status"]["conditions"][0]["status"] == "Unknown"
        assert (
            server.get("pods", "a")["status"]["conditions"][0] | {"status": "False"}
            == (server.get("pods", "a")["status"]["conditions"][0])
        )
        await clock.sleep(298)
        assert not server.get("pods", "a")["metadata"].get("deletionTimestamp")
        await clock.sleep(4)
        assert server.get("pods", "a")["metadata"]["deletionTimestamp"]
        assert server.get("pods", "a")["status"]["conditions"][-1]["reason"] == "DeletionByTaintManager"
        assert not server.get("pods", "b")["metadata"].get("deletionTimestamp")

    scenario(story)


def test_tst1_a_lease_keeps_a_node_alive():
    async def story(server, clock):
        server.create("nodes", {"metadata": {"name": "n"}})
        server.patch("nodes", "n", {"status": {"conditions": ready()}}, subresource="status")
        where = {"name": "n", "namespace": "kube-node-lease"}
        server.create("leases.coordination.k8s.io", {"metadata": where, "spec": {"holderIdentity": "n"}})
        for i in range(10):
            await clock.sleep(30)
            patch = {"spec": {"leaseTransitions": i}, "metadata": {"resourceVersion": None}}
            lease = server.get("leases.coordination.k8s.io", "n", "kube-node-lease")
            patch["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
            server.patch("leases.coordination.k8s.io", "n", patch, "kube-node-lease")
        assert not taints(server, "n")

    scenario(story)


def test_tst1_pods_of_a_node_that_is_gone_are_removed_after_the_quarantine():
    async def story(server, clock):
        server.create("pods", pod("a", "gone"))
        await clock.sleep(39)
        assert server.get("pods", "a") is not None
        await clock.sleep(2)
        assert server.get("pods", "a") is None

    scenario(story)


def test_tst1_an_eviction_asks_the_budget():
    async def story(server, clock):
        for name in ("a", "b"):
            server.create("nodes", {"metadata": {"name": f"n{name}"}})
            server.create("pods", pod(name, f"n{name}", {"app": "x"}))
            server.patch("pods", name, {"status": {"phase": "Running", "conditions": ready()}}, subresource="status")
        spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "x"}}}
        server.create("poddisruptionbudgets.policy", {"metadata": {"name": "p"}, "spec": spec})
        budget = lambda: server.get("poddisruptionbudgets.policy", "p")["status"]  # noqa: E731
        await eventually(lambda: budget().get("disruptionsAllowed") == 1, clock)
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
        server.do("POST", "/api/v1/namespaces/default/pods/a/eviction", eviction)
        assert budget()["disruptionsAllowed"] == 0
        assert list(budget()["disruptedPods"]) == ["a"]
        with pytest.raises(Failure) as refused:
            server.do("POST", "/api/v1/namespaces/default/pods/b/eviction", eviction | {"metadata": {"name": "b"}})
        assert refused.value.code == 429
        assert refused.value.details["causes"][0]["reason"] == "DisruptionBudget"

    scenario(story)


def test_tst1_a_quota_is_filled_in_and_kept():
    async def story(server, clock):
        hard = {"requests.cpu": "1", "pods": "5"}
        server.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard}})
        await eventually(lambda: server.get("resourcequotas", "q")["status"].get("used"), clock)
        asked = [{"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "600m"}}}]
        server.create("pods", pod("a", containers=asked))
        with pytest.raises(Failure, match=r"exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m"):
            server.create("pods", pod("b", containers=asked))
        with pytest.raises(Failure, match=r"must specify requests.cpu for: c"):
            server.create("pods", pod("b"))
        used = lambda: server.get("resourcequotas", "q")["status"]["used"]  # noqa: E731
        await eventually(lambda: used() == {"requests.cpu": "600m", "pods": "1"}, clock)
        server.delete("pods", "a")
        await eventually(lambda: used() == {"requests.cpu": "0", "pods": "0"}, clock)

    scenario(story)


def test_tst1_a_claim_is_held_while_a_pod_uses_it():
    async def story(server, clock):
        await eventually(lambda: len(server.operations.admission) == 2, clock)
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        server.create("persistentvolumeclaims", {"metadata": {"name": "v"}, "spec": spec})
        volume = {"name": "v", "persistentVolumeClaim": {"claimName": "v"}}
        server.create("pods", pod("a", volumes=[volume]))
        server.delete("persistentvolumeclaims", "v")
        await clock.sleep(5)
        assert server.get("persistentvolumeclaims", "v")["metadata"]["deletionTimestamp"]
        server.delete("pods", "a")
        await eventually(lambda: server.get("persistentvolumeclaims", "v") is None, clock)

    scenario(story)


def test_tst1_each_namespace_gets_an_account_and_a_held_one_says_what_holds_it():
    async def story(server, clock):
        server.create("namespaces", {"metadata": {"name": "x"}})
        await eventually(lambda: server.get("serviceaccounts", "default", "x") is not None, clock)
        held = {"name": "h", "namespace": "x", "finalizers": ["example.com/hold"]}
        server.create("configmaps", {"metadata": held})
        server.delete("namespaces", "x")
        said = lambda: {c["type"]: c["message"] for c in server.get("namespaces", "x")["status"].get("conditions", ())}  # noqa: E731
        await eventually(lambda: "NamespaceFinalizersRemaining" in said(), clock)
        assert said()["NamespaceContentRemaining"].endswith("configmaps. has 1 resource instances")
        server.patch("configmaps", "h", {"metadata": {"finalizers": None}}, "x")
        await eventually(lambda: server.get("namespaces", "x") is None, clock)

    scenario(story)


def test_tst1_a_binding_is_recorded_as_an_event():
    async def story(server, clock):
        server.create("nodes", {"metadata": {"name": "n"}})
        server.patch("nodes", "n", {"status": {"conditions": ready()}, "spec": {"taints": None}}, subresource="status")
        server.create("pods", pod("a"))
        await eventually(lambda: server.list("events"), clock)
        event = server.list("events")[0]
        assert (event["reason"], event["message"]) == ("Scheduled", "Successfully assigned default/a to n")

    scenario(story)


def test_tst1_a_reference_to_a_lost_owner_goes_when_another_owner_is_left():
    async def story(server, clock):
        owners = [server.create("configmaps", {"metadata": {"name": n}}) for n in ("one", "two")]
        refs = [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"]}
            for o in owners
        ]
        server.create("configmaps", {"metadata": {"name": "child", "ownerReferences": refs}})
        server.delete("configmaps", "one")
        left = lambda: server.get("configmaps", "child")["metadata"]["ownerReferences"]  # noqa: E731
        await eventually(lambda: left() == refs[1:], clock)

    scenario(story)


def test_tst1_everything_is_what_a_cluster_has():
    async def story(server, clock):
        names = [a.name for a in builtin.everything(server)]
        assert len(names) == len(set(names)) == 10

    scenario(story)
