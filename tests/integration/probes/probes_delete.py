"""Probes of deletion: preconditions, finalizers, grace, propagation, and the actors that follow it."""

from __future__ import annotations

from typing import Any

from tests.integration.probes.asking import World, brief_events
from tests.integration.probes.probes_metadata import widget
from tests.integration.probes.registry import acted, probe

_OTHER = "00000000-0000-4000-8000-000000000000"


def held(w: World, name: str, **more: Any) -> dict[str, Any]:
    return w.body("configmaps", name, meta={"finalizers": ["example.com/hold"], **more})


@probe
async def delete_answers(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a"))
    await w.make("widgets", widget(w, "a"))
    await w.make("pods", w.pod("a"))
    await w.make("persistentvolumeclaims", w.body("persistentvolumeclaims", "a", spec=claim()))
    seen = [(await w.delete(p, "a")).seen() for p in ("configmaps", "widgets", "pods")]
    return [*seen, (await w.delete("persistentvolumeclaims", "a")).obj["kind"]]


def claim() -> dict[str, Any]:
    return {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "no-such-class",
    }


@probe
async def delete_of_what_is_not_there(w: World) -> Any:
    return [(await w.delete(p, "a")).seen() for p in ("configmaps", "widgets", "pods")]


@probe
async def delete_with_preconditions(w: World) -> Any:
    seen = []
    for plural in ("configmaps", "widgets", "pods"):
        body = w.pod("a") if plural == "pods" else widget(w, "a") if plural == "widgets" else w.body(plural, "a")
        made = await w.make(plural, body)
        uid, rv = made["metadata"]["uid"], made["metadata"]["resourceVersion"]
        changed = await w.patch("merge", plural, "a", {"metadata": {"labels": {"a": "b"}}})
        wanted = (
            {"uid": _OTHER},
            {"uid": uid, "resourceVersion": rv},
            {"uid": uid, "resourceVersion": changed.version},
        )
        seen += [(await w.delete(plural, "a", {"preconditions": p})).refusal() for p in wanted]
        seen.append({"versions": [f"rv:{rv}", f"rv:{changed.version}"]})
    return seen


@probe
async def delete_of_a_held_object_marks_it(w: World) -> Any:
    await w.make("configmaps", held(w, "a"))
    await w.make("widgets", widget(w, "a", meta={"finalizers": ["example.com/hold"]}))
    first = [(await w.delete(p, "a")).seen() for p in ("configmaps", "widgets")]
    again = await w.delete("widgets", "a")
    return [first, again.version == (await w.read("widgets", "a")).version, (await w.read("widgets", "a")).seen()]


@probe
async def delete_lets_no_finalizer_be_added(w: World) -> Any:
    await w.make("configmaps", held(w, "a"))
    await w.make("widgets", widget(w, "a", meta={"finalizers": ["example.com/hold"]}))
    seen = []
    for plural in ("configmaps", "widgets"):
        await w.delete(plural, "a")
        patch = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
        seen.append((await w.patch("merge", plural, "a", patch)).seen())
    return seen


@probe
async def delete_lets_a_held_object_be_changed(w: World) -> Any:
    await w.make("widgets", widget(w, "a", meta={"finalizers": ["example.com/hold"]}))
    await w.delete("widgets", "a")
    return (await w.patch("merge", "widgets", "a", {"spec": {"size": 3}, "metadata": {"labels": {"a": "b"}}})).seen()


@probe
async def delete_ends_with_the_last_finalizer(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a", meta={"finalizers": ["example.com/a", "example.com/b"]}))
    await w.delete("configmaps", "a")
    watch = await w.watch(w.path("configmaps", fieldSelector="metadata.name=a"))
    one = await w.patch("json", "configmaps", "a", [{"op": "remove", "path": "/metadata/finalizers/0"}])
    last = await w.patch("merge", "configmaps", "a", {"metadata": {"finalizers": None}})
    return [one.seen(), last.seen(), (await w.read("configmaps", "a")).code, await watch.take(3)]


@probe
async def delete_of_a_new_pod_is_immediate(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    answer = await w.delete("pods", "a")
    return [answer.seen(), (await w.read("pods", "a")).code]


@probe
async def delete_of_a_pod_on_a_node_is_graceful(w: World) -> Any:
    await w.make("pods", w.pod("a", nodeName="nowhere"))
    answer = await w.delete("pods", "a")
    return [answer.seen(), (await w.read("pods", "a")).code]


@probe
async def delete_grace_of_a_pod_can_only_shrink(w: World) -> Any:
    await w.make("pods", w.pod("a", nodeName="nowhere", terminationGracePeriodSeconds=60))
    seen = []
    for options in ({}, {"gracePeriodSeconds": 90}, {"gracePeriodSeconds": 20}, {"gracePeriodSeconds": 40}):
        answer = await w.delete("pods", "a", options)
        seen.append((answer.code, answer.obj["metadata"]["deletionGracePeriodSeconds"], "rv:" + answer.version))
    last = await w.delete("pods", "a", {"gracePeriodSeconds": 0})
    return [seen, last.code, (await w.read("pods", "a")).code]


@probe
async def delete_grace_that_is_negative_or_odd(w: World) -> Any:
    await w.make("pods", w.pod("a", nodeName="nowhere"))
    odd = await w.delete("pods", "a", {"gracePeriodSeconds": "x"})
    answer = await w.delete("pods", "a", {"gracePeriodSeconds": -5})
    return [odd.brief(), answer.obj["metadata"]["deletionGracePeriodSeconds"]]


@probe
async def delete_of_an_ended_pod_is_immediate(w: World) -> Any:
    await w.make("pods", w.pod("a", nodeName="nowhere"))
    await w.patch("merge", "pods", "a", {"status": {"phase": "Succeeded"}}, "status")
    await w.delete("pods", "a")
    return (await w.read("pods", "a")).code


@probe
async def delete_of_a_held_pod(w: World) -> Any:
    await w.make("pods", w.pod("a", meta={"finalizers": ["example.com/hold"]}))
    await w.delete("pods", "a")
    marked = await w.read("pods", "a")
    await w.patch("merge", "pods", "a", {"metadata": {"finalizers": None}})
    return [marked.obj["metadata"], (await w.read("pods", "a")).code]


@probe
async def delete_of_a_held_pod_on_a_node(w: World) -> Any:
    await w.make("pods", w.pod("a", nodeName="nowhere", meta={"finalizers": ["example.com/hold"]}))
    await w.delete("pods", "a")
    await w.patch("merge", "pods", "a", {"metadata": {"finalizers": None}})
    before = await w.read("pods", "a")
    await w.delete("pods", "a", {"gracePeriodSeconds": 0})
    return [before.obj["metadata"], (await w.read("pods", "a")).code]


@probe
async def delete_with_a_dry_run(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a"))
    by_query = await w.delete("configmaps", "a", dryRun="All")
    by_body = await w.delete("configmaps", "a", {"dryRun": ["All"]})
    return [by_query.code, by_body.code, (await w.read("configmaps", "a")).code]


@probe
async def delete_with_unknown_options(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a"))
    both = {"propagationPolicy": "Orphan", "orphanDependents": True}
    seen = [(await w.delete("configmaps", "a", o)).seen() for o in ({"propagationPolicy": "Sideways"}, both)]
    return [*seen, (await w.delete("configmaps", "a", propagationPolicy="Sideways")).brief()]


@probe
async def delete_of_a_collection(w: World) -> Any:
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "1"}), ("c", {"x": "2"})):
        await w.make("widgets", widget(w, name, meta={"labels": labels}))
    answer = await w.ask("DELETE", w.path("widgets", labelSelector="x=1"))
    return [answer.code, answer.names, answer.obj["kind"], (await w.get(w.path("widgets"))).names]


@probe
async def delete_of_a_collection_of_held_objects(w: World) -> Any:
    await w.make("configmaps", held(w, "a"))
    await w.make("configmaps", held(w, "b"))
    answer = await w.ask("DELETE", w.path("configmaps", fieldSelector="metadata.name!=kube-root-ca.crt"))
    left = await w.get(w.path("configmaps", fieldSelector="metadata.name!=kube-root-ca.crt"))
    return [
        answer.code,
        sorted(answer.names),
        [bool(i["metadata"].get("deletionTimestamp")) for i in left.obj["items"]],
    ]


@probe
async def delete_in_the_foreground_marks_the_object(w: World) -> Any:
    await w.make("configmaps", held(w, "a"))
    answer = await w.delete("configmaps", "a", {"propagationPolicy": "Foreground"})
    return answer.seen()


@probe
async def delete_with_orphans_marks_the_object(w: World) -> Any:
    await w.make("configmaps", held(w, "a"))
    return (await w.delete("configmaps", "a", {"propagationPolicy": "Orphan"})).seen()


@probe
async def delete_event_carries_the_version_of_the_deletion(w: World) -> Any:
    made = await w.make("configmaps", w.body("configmaps", "a"))
    watch = await w.watch(
        w.path("configmaps", resourceVersion=made["metadata"]["resourceVersion"], fieldSelector="metadata.name=a")
    )
    await w.delete("configmaps", "a")
    return brief_events(await watch.take(1))


def owned(w: World, plural: str, name: str, owner: dict[str, Any], **ref: Any) -> dict[str, Any]:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        **ref,
    }
    return w.body(plural, name, meta={"ownerReferences": [reference]})


@acted
async def collector_deletes_in_the_background(w: World) -> Any:
    owner = await w.make("configmaps", w.body("configmaps", "owner"))
    await w.make("configmaps", owned(w, "configmaps", "child", owner))
    answer = await w.delete("configmaps", "owner", {"propagationPolicy": "Background"})
    return [answer.code, await w.gone("configmaps", "child")]


@acted
async def collector_deletes_dependents_first_in_the_foreground(w: World) -> Any:
    owner = await w.make("configmaps", w.body("configmaps", "owner"))
    child = owned(w, "configmaps", "child", owner, blockOwnerDeletion=True)
    child["metadata"]["finalizers"] = ["example.com/hold"]
    await w.make("configmaps", child)
    await w.delete("configmaps", "owner", {"propagationPolicy": "Foreground"})
    await w.until("configmaps", "child", lambda o: o["metadata"].get("deletionTimestamp"))
    waits = (await w.read("configmaps", "owner")).obj["metadata"]["finalizers"]
    await w.patch("merge", "configmaps", "child", {"metadata": {"finalizers": None}})
    return [waits, await w.gone("configmaps", "owner")]


@acted
async def collector_does_not_wait_for_dependents_that_do_not_block(w: World) -> Any:
    owner = await w.make("configmaps", w.body("configmaps", "owner"))
    child = owned(w, "configmaps", "child", owner)
    child["metadata"]["finalizers"] = ["example.com/hold"]
    await w.make("configmaps", child)
    await w.delete("configmaps", "owner", {"propagationPolicy": "Foreground"})
    return [await w.gone("configmaps", "owner"), (await w.read("configmaps", "child")).code]


@acted
async def collector_orphans(w: World) -> Any:
    owner = await w.make("configmaps", w.body("configmaps", "owner"))
    await w.make("configmaps", owned(w, "configmaps", "child", owner))
    await w.delete("configmaps", "owner", {"propagationPolicy": "Orphan"})
    await w.gone("configmaps", "owner")
    return (await w.read("configmaps", "child")).obj["metadata"].get("ownerReferences")


@acted
async def collector_takes_a_stale_uid_for_a_lost_owner(w: World) -> Any:
    owner = await w.make("configmaps", w.body("configmaps", "owner"))
    await w.make("configmaps", owned(w, "configmaps", "child", owner, uid=_OTHER))
    return [await w.gone("configmaps", "child"), (await w.read("configmaps", "owner")).code]


@acted
async def collector_keeps_what_has_another_owner(w: World) -> Any:
    one = await w.make("configmaps", w.body("configmaps", "one"))
    two = await w.make("configmaps", w.body("configmaps", "two"))
    child = owned(w, "configmaps", "child", one)
    child["metadata"]["ownerReferences"] += owned(w, "configmaps", "x", two)["metadata"]["ownerReferences"]
    await w.make("configmaps", child)
    await w.delete("configmaps", "one")
    kept = await w.until("configmaps", "child", lambda o: len(o["metadata"]["ownerReferences"]) == 1)
    return kept["metadata"]["ownerReferences"]


@acted
async def collector_deletes_pods_of_a_custom_owner(w: World) -> Any:
    container = {"name": "main", "image": "registry.example.com/app:v1"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    owner = await w.make("broadcastjobs", w.body("broadcastjobs", "owner", spec={"template": template, "paused": True}))
    pod = w.pod("child", meta=owned(w, "pods", "x", owner, controller=True, blockOwnerDeletion=True)["metadata"])
    pod["metadata"]["name"] = "child"
    await w.make("pods", pod)
    await w.delete("broadcastjobs", "owner", {"propagationPolicy": "Foreground"})
    return [await w.gone("pods", "child"), await w.gone("broadcastjobs", "owner")]


@acted
async def namespace_is_emptied_and_goes(w: World) -> Any:
    name = f"{w.ns}-x"
    await w.make("namespaces", w.body("namespaces", name))
    await w.ask("POST", w.path("configmaps", ns=name), w.body("configmaps", "a"))
    answer = await w.delete("namespaces", name)
    return [
        answer.code,
        answer.obj["status"],
        await w.gone("namespaces", name),
        (await w.get(w.path("configmaps", "a", ns=name))).code,
    ]


@acted
async def namespace_that_is_being_deleted_takes_nothing_new(w: World) -> Any:
    name = f"{w.ns}-x"
    made = await w.make("namespaces", w.body("namespaces", name))
    await w.ask("POST", w.path("configmaps", ns=name), held(w, "a"))
    await w.delete("namespaces", name)
    seen = (await w.post("configmaps", w.body("configmaps", "b"), ns=name)).seen()
    custom = (await w.post("widgets", widget(w, "b"), ns=name)).seen()
    await w.ask("PATCH", w.path("configmaps", "a", ns=name), {"metadata": {"finalizers": None}}, "merge")
    return [made, seen, custom, await w.gone("namespaces", name)]


@acted
async def namespace_that_is_held_says_what_holds_it(w: World) -> Any:
    name = f"{w.ns}-x"
    await w.make("namespaces", w.body("namespaces", name))
    await w.ask("POST", w.path("configmaps", ns=name), held(w, "a"))
    await w.delete("namespaces", name)

    def told(obj: dict[str, Any]) -> bool:
        conditions = obj["status"].get("conditions") or []
        return any(c["type"] == "NamespaceFinalizersRemaining" and c["status"] == "True" for c in conditions)

    held_up = await w.until("namespaces", name, told)
    await w.ask("PATCH", w.path("configmaps", "a", ns=name), {"metadata": {"finalizers": None}}, "merge")
    status = held_up["status"]
    return [status["phase"], sorted((c["type"], c["status"], c["reason"], c["message"]) for c in status["conditions"])]


@acted
async def pods_of_lost_nodes_are_not_kept_for_ever(w: World) -> Any:
    # A terminating pod that never got a node is collected at once; the quarantine of lost nodes takes too long to ask.
    await w.make("pods", w.pod("a"))
    await w.delete("pods", "a")
    return await w.gone("pods", "a")


@acted
async def new_nodes_are_not_ready_at_first(w: World) -> Any:
    name = f"node-{w.ns}"
    made = await w.post("nodes", w.body("nodes", name, meta={"labels": {"a": "b"}}))
    w._left.append(w.path("nodes", name))
    return [made.code, made.obj["spec"], made.obj["metadata"]["labels"]]


@acted
async def node_that_becomes_ready_loses_its_taint(w: World) -> Any:
    name = f"node-{w.ns}"
    await w.make("nodes", w.body("nodes", name))
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "",
        "lastHeartbeatTime": _NOW,
        "lastTransitionTime": _NOW,
    }
    await w.patch("strategic", "nodes", name, {"status": {"conditions": [ready]}}, "status")
    untainted = await w.until("nodes", name, lambda o: not o["spec"].get("taints"))
    await w.patch("strategic", "nodes", name, {"status": {"conditions": [{**ready, "status": "False"}]}}, "status")
    tainted = await w.until("nodes", name, lambda o: len(o["spec"].get("taints") or ()) >= 2)
    return [untainted["spec"], sorted((t["key"], t["effect"]) for t in tainted["spec"]["taints"])]


_NOW = "2024-01-01T00:00:00Z"


@acted
async def node_that_is_cordoned_gets_a_taint(w: World) -> Any:
    name = f"node-{w.ns}"
    await w.make("nodes", w.body("nodes", name))
    await w.patch("merge", "nodes", name, {"spec": {"unschedulable": True}})
    key = "node.kubernetes.io/unschedulable"
    found = await w.until("nodes", name, lambda o: any(t["key"] == key for t in o["spec"].get("taints") or ()))
    return [t["effect"] for t in found["spec"]["taints"] if t["key"] == key]
