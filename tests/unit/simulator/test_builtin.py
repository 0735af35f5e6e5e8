from __future__ import annotations

import asyncio

import pytest

from kruise.runtime.clock import Random
from kruise.runtime.objects import PartialObject, Resource
from kruise.runtime.testing import eventually, run_virtual
from kruise.simulator.apiserver import ApiServer, Failure
from kruise.simulator.builtin import GarbageCollector, NamespaceController, Scheduler
from kruise.simulator.invariants import standard

JOBS = Resource("apps.kruise.io", "v1beta1", "BroadcastJob", "broadcastjobs", PartialObject, custom=True)


def scenario(fn, **options):
    async def main(clock):
        server = ApiServer(clock, Random(1))
        server.registry.add_custom(JOBS)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(a(server).run()) for a in (Scheduler, GarbageCollector, NamespaceController)]
            await clock.sleep(0)
            await fn(server, clock)
            for task in tasks:
                task.cancel()

    run_virtual(main, **options)


def pod(name, node="", owner=None, **spec):
    meta = {"name": name}
    if owner:
        meta["ownerReferences"] = [owner]
    spec = {"containers": [{"name": "c", "image": "i:1"}], **spec}
    if node:
        field = {"key": "metadata.name", "operator": "In", "values": [node]}
        required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return {"metadata": meta, "spec": spec}


def reference(obj, **more):
    meta = obj["metadata"]
    base = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"], "uid": meta["uid"]}
    return base | {"controller": True} | more


def test_tst1_the_scheduler_binds_by_name_affinity_now_or_when_the_node_comes():
    async def main(server, clock):
        server.create("nodes", {"metadata": {"name": "n1"}})
        server.create("pods", pod("a", "n1"))
        server.create("pods", pod("b", "n2"))
        await eventually(lambda: server.get("pods", "a")["spec"].get("nodeName") == "n1", clock)
        (condition,) = server.get("pods", "b")["status"]["conditions"]
        assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
        server.create("nodes", {"metadata": {"name": "n2"}})
        await eventually(lambda: server.get("pods", "b")["spec"].get("nodeName") == "n2", clock)
        (condition,) = server.get("pods", "b")["status"]["conditions"]
        assert condition["status"] == "True"

    scenario(main)
    scenario(main, pick="random", seed=5)


def test_tst1_the_scheduler_honours_selectors_and_taints():
    async def main(server, clock):
        server.create("nodes", {"metadata": {"name": "a", "labels": {"disk": "hdd"}}})
        server.create(
            "nodes",
            {
                "metadata": {"name": "b", "labels": {"disk": "ssd"}},
                "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
            },
        )
        server.create("nodes", {"metadata": {"name": "c", "labels": {"disk": "ssd"}}, "spec": {"unschedulable": True}})
        server.create("pods", pod("p", nodeSelector={"disk": "ssd"}))
        server.create("pods", pod("q", nodeSelector={"disk": "ssd"}, tolerations=[{"key": "k", "operator": "Exists"}]))
        await eventually(lambda: server.get("pods", "q")["spec"].get("nodeName") == "b", clock)
        assert "nodeName" not in server.get("pods", "p")["spec"]

    scenario(main)


def test_tst1_the_collector_deletes_what_has_no_owner_left():
    async def main(server, clock):
        owner = server.create(JOBS, {"metadata": {"name": "j"}})
        server.create("pods", pod("a", owner=reference(owner)))
        server.create("pods", pod("b"))
        server.create("pods", pod("stale", owner=reference(owner, uid="another")))
        await eventually(lambda: server.get("pods", "stale") is None, clock)
        assert server.get("pods", "a")
        server.delete(JOBS, "j", propagationPolicy="Background")
        await eventually(lambda: server.get("pods", "a") is None, clock)
        assert server.get("pods", "b")

    scenario(main)


def test_tst1_a_foreground_deletion_waits_for_the_dependents():
    async def main(server, clock):
        owner = server.create(JOBS, {"metadata": {"name": "j"}})
        server.create("nodes", {"metadata": {"name": "n1"}})
        server.create("pods", pod("a", "n1", owner=reference(owner, blockOwnerDeletion=True)))
        await eventually(lambda: server.get("pods", "a")["spec"].get("nodeName"), clock)
        server.delete(JOBS, "j", propagationPolicy="Foreground")
        await eventually(lambda: server.get("pods", "a")["metadata"].get("deletionTimestamp"), clock)
        assert server.get(JOBS, "j")["metadata"]["finalizers"] == ["foregroundDeletion"]
        server.delete("pods", "a", gracePeriodSeconds=0)
        await eventually(lambda: server.get(JOBS, "j") is None, clock)

    scenario(main)


def test_tst1_an_orphaning_deletion_releases_the_dependents():
    async def main(server, clock):
        owner = server.create(JOBS, {"metadata": {"name": "j"}})
        server.create("pods", pod("a", owner=reference(owner)))
        server.delete(JOBS, "j", propagationPolicy="Orphan")
        await eventually(lambda: server.get(JOBS, "j") is None, clock)
        assert server.get("pods", "a")["metadata"].get("ownerReferences") is None

    scenario(main)


def test_tst1_a_deleted_namespace_is_emptied_and_goes():
    async def main(server, clock):
        server.create("namespaces", {"metadata": {"name": "x"}})
        server.create("configmaps", {"metadata": {"name": "c", "namespace": "x"}})
        server.create("pods", {**pod("p"), "metadata": {"name": "p", "namespace": "x"}})
        server.create(
            "configmaps", {"metadata": {"name": "held", "namespace": "x", "finalizers": ["example.com/hold"]}}
        )
        server.delete("namespaces", "x")
        await eventually(
            lambda: server.get("configmaps", "c", "x") is None and server.get("pods", "p", "x") is None, clock
        )
        assert server.get("namespaces", "x")["status"]["phase"] == "Terminating"
        server.patch("configmaps", "held", {"metadata": {"finalizers": None}}, "x")
        await eventually(lambda: server.get("namespaces", "x") is None, clock)

    scenario(main)


def test_the_standard_checkers_look_on_at_an_embedded_server():
    async def main(server, clock):
        attached = standard(server, manager=lambda actor: actor == "kruise")
        server.create("nodes", {"metadata": {"name": "n1"}})
        owner = server.create(JOBS, {"metadata": {"name": "j"}, "spec": {}})
        body = pod("j-bbbbbbbbbb", "n1", owner=reference(owner))
        server.create("pods", body, actor="kruise")
        server.patch(
            JOBS,
            "j",
            {"metadata": {"resourceVersion": owner["metadata"]["resourceVersion"]}, "status": {"active": 1}},
            subresource="status",
            actor="kruise",
        )
        attached.finish()
        with pytest.raises(Failure):
            server.create("pods", body, actor="kruise")
        server.create("pods", pod("j-cccccccccc", "n1", owner=reference(owner)), actor="kruise")
        server.delete("pods", "j-cccccccccc", actor="kruise")
        with pytest.raises(AssertionError) as caught:
            attached.finish()
        text = str(caught.value)
        assert "B1:" in text and "B2:" in text and "G2:" in text

    scenario(main)


def test_tst1_with_volumes_a_pod_waits_for_its_claims_and_tells_the_provisioner_where():
    async def main(server, clock):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(Scheduler(server, volumes=True).run())
            await clock.sleep(0)
            server.create("nodes", {"metadata": {"name": "n1"}})
            server.create(
                "storageclasses.storage.k8s.io",
                {"metadata": {"name": "late"}, "provisioner": "x", "volumeBindingMode": "WaitForFirstConsumer"},
            )
            volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data-a"}}
            server.create("pods", pod("a", volumes=[volume]))
            await clock.sleep(1)
            (condition,) = server.get("pods", "a")["status"]["conditions"]
            assert condition["message"] == 'persistentvolumeclaim "data-a" not found'
            spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "late"}
            spec["resources"] = {"requests": {"storage": "1Gi"}}
            server.create("persistentvolumeclaims", {"metadata": {"name": "data-a"}, "spec": spec})
            await clock.sleep(1)
            claim = server.get("persistentvolumeclaims", "data-a")
            assert claim["metadata"]["annotations"] == {"volume.kubernetes.io/selected-node": "n1"}
            assert not server.get("pods", "a")["spec"].get("nodeName")
            server.patch("persistentvolumeclaims", "data-a", {"status": {"phase": "Bound"}}, subresource="status")
            await eventually(lambda: server.get("pods", "a")["spec"].get("nodeName") == "n1", clock)
            task.cancel()

    run_virtual(lambda clock: main(_server(clock), clock))


def test_tst1_with_spread_the_node_with_the_fewest_pods_is_taken():
    async def main(server, clock):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(Scheduler(server, spread=True).run())
            await clock.sleep(0)
            for name in ("n1", "n2"):
                server.create("nodes", {"metadata": {"name": name}})
            for name in ("a", "b", "c", "d"):
                server.create("pods", pod(name))
            await clock.sleep(1)
            assert sorted(p["spec"]["nodeName"] for p in server.list("pods")) == ["n1", "n1", "n2", "n2"]
            task.cancel()

    run_virtual(lambda clock: main(_server(clock), clock))


def _server(clock):
    return ApiServer(clock, Random(1))
