"""Probes of the three kinds of patch."""

from __future__ import annotations

from typing import Any

from tests.integration.probes.asking import World
from tests.integration.probes.probes_metadata import widget
from tests.integration.probes.registry import probe

_OTHER = "00000000-0000-4000-8000-000000000000"


def two(w: World, name: str) -> dict[str, Any]:
    containers = [{"name": n, "image": f"registry.example.com/{n}:v1"} for n in ("one", "two")]
    return w.pod(name, containers=containers)


@probe
async def merge_patch_removes_with_null_and_replaces_lists(w: World) -> Any:
    await w.make("widgets", widget(w, "a", tags=["x", "y"], options={"a": 1, "b": 2}))
    patch = {"spec": {"tags": ["z"], "options": {"a": None, "c": 3}, "color": "green"}}
    return (await w.patch("merge", "widgets", "a", patch)).obj["spec"]


@probe
async def merge_patch_with_a_stale_version_or_wrong_uid(w: World) -> Any:
    made = await w.make("widgets", widget(w, "a"))
    rv = made["metadata"]["resourceVersion"]
    await w.patch("merge", "widgets", "a", {"spec": {"size": 2}})
    stale = await w.patch("merge", "widgets", "a", {"metadata": {"resourceVersion": rv}, "spec": {"size": 3}})
    wrong = await w.patch("merge", "widgets", "a", {"metadata": {"uid": _OTHER}, "spec": {"size": 3}})
    both = await w.patch(
        "merge", "widgets", "a", {"metadata": {"uid": _OTHER, "resourceVersion": rv}, "spec": {"size": 3}}
    )
    return [stale.seen(), wrong.seen(), both.brief()]


@probe
async def merge_patch_of_a_pod_with_a_wrong_uid(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    return (await w.patch("merge", "pods", "a", {"metadata": {"uid": _OTHER, "labels": {"a": "b"}}})).seen()


@probe
async def merge_patch_that_changes_nothing_keeps_the_version(w: World) -> Any:
    made = await w.make("widgets", widget(w, "a"))
    return [
        (await w.patch("merge", "widgets", "a", p)).version == made["metadata"]["resourceVersion"]
        for p in ({}, {"spec": {"size": 1}})
    ]


@probe
async def merge_patch_of_what_is_not_there(w: World) -> Any:
    return [(await w.patch("merge", p, "a", {})).seen() for p in ("configmaps", "widgets")]


@probe
async def merge_patch_that_changes_the_name(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    await w.make("configmaps", w.body("configmaps", "a"))
    patches = (
        {"metadata": {"name": "b"}},
        {"metadata": {"namespace": "other"}},
        {"kind": "Other"},
        {"apiVersion": "v9"},
    )
    return [(await w.patch("merge", p, "a", patch)).brief() for p in ("configmaps", "widgets") for patch in patches]


@probe
async def merge_patch_that_is_no_object(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a"))
    return [(await w.patch("merge", "configmaps", "a", text)).brief() for text in ("[]", "{", "7", "")]


@probe
async def merge_patch_with_a_dry_run(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    answer = await w.patch("merge", "widgets", "a", {"spec": {"size": 2}}, dryRun="All")
    return [answer.seen(), (await w.read("widgets", "a")).obj["spec"]["size"]]


@probe
async def merge_patch_of_finalizers_and_owners(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": _OTHER, "controller": True}
    patches = (
        {"metadata": {"finalizers": ["example.com/x"]}},
        {"metadata": {"ownerReferences": [owner], "finalizers": None}},
    )
    return [(await w.patch("merge", "pods", "a", p)).obj["metadata"] for p in patches]


@probe
async def json_patch_operations(w: World) -> Any:
    await w.make(
        "configmaps", w.body("configmaps", "a", data={"x": "1"}, meta={"labels": {"l": "m", "example.com/y": "2"}})
    )
    operations = [
        {"op": "test", "path": "/data/x", "value": "1"},
        {"op": "add", "path": "/data/new", "value": "3"},
        {"op": "replace", "path": "/metadata/labels/example.com~1y", "value": "4"},
        {"op": "copy", "from": "/data/x", "path": "/data/copied"},
        {"op": "move", "from": "/data/new", "path": "/data/moved"},
        {"op": "remove", "path": "/metadata/labels/l"},
        {"op": "add", "path": "/metadata/finalizers", "value": ["example.com/a"]},
        {"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/b"},
    ]
    return (await w.patch("json", "configmaps", "a", operations)).seen()


@probe
async def json_patch_that_does_not_apply(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a", data={"x": "1"}))
    patches = (
        [{"op": "test", "path": "/data/x", "value": "2"}],
        [{"op": "test", "path": "/data/none", "value": "2"}],
        [{"op": "remove", "path": "/data/none"}],
        [{"op": "replace", "path": "/data/none", "value": "1"}],
        [{"op": "add", "path": "/none/deep", "value": "1"}],
        [{"op": "sing", "path": "/data/x"}],
        [{"op": "add", "path": "/data/q", "value": 7}],
        {"op": "add"},
    )
    return [(await w.patch("json", "configmaps", "a", p)).brief() for p in patches]


@probe
async def json_patch_guards_by_version(w: World) -> Any:
    made = await w.make("widgets", widget(w, "a"))
    rv = made["metadata"]["resourceVersion"]
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": rv}
    change = {"op": "replace", "path": "/spec/size", "value": 2}
    first = await w.patch("json", "widgets", "a", [test, change])
    second = await w.patch("json", "widgets", "a", [test, {**change, "value": 3}])
    return [first.code, second.brief()]


@probe
async def strategic_patch_merges_containers_by_name(w: World) -> Any:
    await w.make("pods", two(w, "a"))
    patch = {"spec": {"containers": [{"name": "two", "image": "registry.example.com/two:v2"}]}}
    return (await w.patch("strategic", "pods", "a", patch)).obj["spec"]["containers"]


@probe
async def strategic_patch_directives(w: World) -> Any:
    set_ = await w.make("deployments", deployment(w, "a"))
    env = [{"name": "A", "value": "1"}, {"name": "B", "$patch": "delete"}, {"name": "C", "value": "3"}]
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "env": env, "args": ["x"]}]}}}}
    one = await w.patch("strategic", "deployments", "a", patch)
    order = {
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "main",
                            "$setElementOrder/env": [{"name": "C"}, {"name": "A"}],
                            "env": [{"name": "A", "value": "9"}],
                        }
                    ]
                }
            }
        }
    }
    two_ = await w.patch("strategic", "deployments", "a", order)
    replaced = {"spec": {"template": {"metadata": {"labels": {"$patch": "replace", "app": "a"}}}}}
    three = await w.patch("strategic", "deployments", "a", replaced)
    retain = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    four = await w.patch("strategic", "deployments", "a", retain)
    return [
        set_["spec"]["template"]["spec"]["containers"],
        one.obj["spec"]["template"]["spec"]["containers"],
        two_.obj["spec"]["template"]["spec"]["containers"],
        three.obj["spec"]["template"]["metadata"],
        four.obj["spec"]["strategy"],
    ]


def deployment(w: World, name: str) -> dict[str, Any]:
    env = [{"name": "A", "value": "0"}, {"name": "B", "value": "0"}]
    container = {"name": "main", "image": "registry.example.com/app:v1", "env": env, "args": ["a", "b"]}
    template = {"metadata": {"labels": {"app": name, "x": "y"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template}
    return w.body("deployments", name, spec=spec)


@probe
async def strategic_patch_of_finalizers_and_owners(w: World) -> Any:
    owners = [await w.make("configmaps", w.body("configmaps", n)) for n in ("1", "2")]
    refs = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"]}
        for o in owners
    ]
    await w.make("pods", w.pod("a", meta={"finalizers": ["example.com/a"], "ownerReferences": refs}))
    one = await w.patch("strategic", "pods", "a", {"metadata": {"finalizers": ["example.com/b"]}})
    delete = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}}
    two_ = await w.patch("strategic", "pods", "a", delete)
    drop = {
        "metadata": {
            "ownerReferences": [{"$patch": "delete", "uid": refs[0]["uid"]}],
            "uid": one.obj["metadata"]["uid"],
        }
    }
    three = await w.patch("strategic", "pods", "a", drop)
    return [
        one.obj["metadata"]["finalizers"],
        two_.obj["metadata"]["finalizers"],
        three.obj["metadata"]["ownerReferences"],
    ]


@probe
async def strategic_patch_of_conditions_by_type(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    for kind, status in (("A", "True"), ("B", "True"), ("A", "False")):
        answer = await w.patch(
            "strategic", "pods", "a", {"status": {"conditions": [{"type": kind, "status": status}]}}, "status"
        )
    gone = {"status": {"conditions": [{"type": "B", "$patch": "delete"}]}}
    return [
        answer.obj["status"]["conditions"],
        (await w.patch("strategic", "pods", "a", gone, "status")).obj["status"]["conditions"],
    ]


@probe
async def strategic_patch_of_taints_and_addresses(w: World) -> Any:
    name = f"node-{w.ns}"
    await w.make("nodes", w.body("nodes", name))
    taint = {"key": "example.com/x", "value": "1", "effect": "NoSchedule"}
    await w.patch("strategic", "nodes", name, {"spec": {"taints": [taint]}})
    changed = await w.patch("strategic", "nodes", name, {"spec": {"taints": [{**taint, "effect": "NoExecute"}]}})
    addresses = [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": name}]
    await w.patch("strategic", "nodes", name, {"status": {"addresses": addresses}}, "status")
    again = await w.patch(
        "strategic", "nodes", name, {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.2"}]}}, "status"
    )
    ours = [t for t in changed.obj["spec"]["taints"] if t["key"] == "example.com/x"]
    return [[(t["key"], t["effect"]) for t in ours], again.obj["status"]["addresses"]]


@probe
async def strategic_patch_without_a_merge_key(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    patches = (
        {"spec": {"containers": [{"image": "x"}]}},
        {"spec": {"containers": [{"name": "main", "$patch": "odd"}]}},
    )
    return [(await w.patch("strategic", "pods", "a", p)).brief() for p in patches]


@probe
async def strategic_patch_of_a_custom_object(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    return (await w.patch("strategic", "widgets", "a", {"spec": {"size": 2}})).seen()


@probe
async def patches_of_controller_revisions(w: World) -> Any:
    # The data is compared as it was written: sorted, compact, escaped as Go escapes.
    forms = {"canonical": '{"a":1,"b":2}', "unsorted": '{"b":1,"a":2}', "spaced": '{"a": 1}', "plain": '{"a":"<"}'}
    label = {"metadata": {"labels": {"a": "b"}}}
    seen = []
    for name, data in forms.items():
        for kind in ("merge", "strategic"):
            meta = f'"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{{"name":"{name}-{kind}"}}'
            await w.ask("POST", w.path("controllerrevisions"), f'{{{meta},"revision":1,"data":{data}}}')
            seen.append((name, kind, (await w.patch(kind, "controllerrevisions", f"{name}-{kind}", label)).brief()))
    changed = await w.patch("merge", "controllerrevisions", "canonical-merge", {"data": {"a": 2}})
    revision = await w.patch("merge", "controllerrevisions", "canonical-merge", {"revision": 4})
    return [*seen, changed.brief(), revision.obj["revision"], revision.obj["data"]]


@probe
async def patches_of_unknown_kinds(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    await w.make("configmaps", w.body("configmaps", "a"))
    seen = []
    for plural in ("widgets", "configmaps"):
        for kind in ("application/json", "text/plain"):
            seen.append((await w.ask("PATCH", w.path(plural, "a"), {}, content_type=kind)).seen())
    return seen


@probe
async def server_side_apply(w: World) -> Any:
    body = w.body("configmaps", "a", data={"a": "b"})
    return (await w.ask("PATCH", w.path("configmaps", "a", fieldManager="probe"), body, "apply")).code
