"""Probes of creation, names, versions and preconditions."""

from __future__ import annotations

from typing import Any

from tests.integration.probes.asking import World
from tests.integration.probes.registry import probe

_OTHER = "00000000-0000-4000-8000-000000000000"


def widget(w: World, name: str, /, meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return w.body("widgets", name, meta=meta, spec={"size": 1, **spec})


@probe
async def create_fills_metadata_of_a_configmap(w: World) -> Any:
    return (await w.post("configmaps", w.body("configmaps", "a", data={"k": "v"}))).seen()


@probe
async def create_fills_metadata_of_a_custom_object(w: World) -> Any:
    return (await w.post("widgets", widget(w, "a"))).seen()


@probe
async def create_of_a_pod_sets_every_default(w: World) -> Any:
    return (await w.post("pods", w.pod("a"))).seen()


@probe
async def create_generates_names(w: World) -> Any:
    body = w.body("configmaps", "", meta={"generateName": "generated-"})
    first, second = await w.post("configmaps", body), await w.post("configmaps", body)
    assert first.obj["metadata"]["name"] != second.obj["metadata"]["name"]
    return first.seen()


@probe
async def create_generates_names_of_long_bases(w: World) -> Any:
    body = w.body("configmaps", "", meta={"generateName": "x" * 80})
    return len((await w.post("configmaps", body)).obj["metadata"]["name"])


@probe
async def create_of_a_taken_name(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a"))
    return (await w.post("configmaps", w.body("configmaps", "a"))).seen()


@probe
async def create_ignores_what_the_server_owns(w: World) -> Any:
    meta = {
        "uid": _OTHER,
        "creationTimestamp": "2001-01-01T00:00:00Z",
        "generation": 7,
        "deletionTimestamp": "2001-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 5,
        "selfLink": "/x",
    }
    answer = await w.post("widgets", widget(w, "a", meta=meta))
    made = answer.obj["metadata"]
    return [answer.seen(), made["uid"] == _OTHER, made["creationTimestamp"].startswith("2001")]


@probe
async def create_with_a_resource_version(w: World) -> Any:
    return (await w.post("configmaps", w.body("configmaps", "a", meta={"resourceVersion": "5"}))).seen()


@probe
async def create_without_a_name(w: World) -> Any:
    return (await w.post("configmaps", w.body("configmaps", ""))).seen()


@probe
async def create_with_a_bad_name(w: World) -> Any:
    names = ("Upper", "a_b", "-a", "x" * 254)
    return [(await w.post("configmaps", w.body("configmaps", n))).seen() for n in names]


@probe
async def create_with_a_bad_generate_name(w: World) -> Any:
    return (await w.post("configmaps", w.body("configmaps", "", meta={"generateName": "Up_"}))).brief()


@probe
async def create_in_another_namespace_than_the_path(w: World) -> Any:
    return (await w.post("configmaps", w.body("configmaps", "a", meta={"namespace": "other"}))).seen()


@probe
async def create_in_a_namespace_that_is_not_there(w: World) -> Any:
    body = w.body("configmaps", "a")
    return [
        (await w.post("configmaps", body, ns="nowhere")).seen(),
        (await w.post("widgets", widget(w, "a"), ns="nowhere")).seen(),
    ]


@probe
async def create_with_another_kind_or_version(w: World) -> Any:
    body = w.body("configmaps", "a")
    changes = ({"kind": "Secret"}, {"apiVersion": "v2"}, {"kind": ""}, {"apiVersion": ""})
    seen = [(await w.post("configmaps", {**body, **change})).seen() for change in changes]
    seen.append((await w.post("widgets", {**widget(w, "a"), "kind": "Gadget"})).brief())
    return seen


@probe
async def create_with_a_body_that_is_no_object(w: World) -> Any:
    path = w.path("configmaps")
    return [(await w.ask("POST", path, text)).brief() for text in ("", "[]", "{", "7")]


@probe
async def create_with_bad_labels(w: World) -> Any:
    seen = []
    for labels in ({"a b": "x"}, {"a": "x y"}, {"a": "x" * 64}, {"Upper.example/x": "x"}, {"a/b/c": "x"}):
        seen.append((await w.post("configmaps", w.body("configmaps", "a", meta={"labels": labels}))).refusal())
    return seen


@probe
async def create_with_labels_of_another_type(w: World) -> Any:
    bodies = [
        w.body("configmaps", "a", meta={"labels": {"a": 1}}),
        w.body("configmaps", "a", meta={"annotations": {"a": True}}),
    ]
    return [(await w.post("configmaps", b)).brief() for b in bodies]


@probe
async def create_with_bad_annotations(w: World) -> Any:
    big = {"a": "x" * (256 * 1024)}
    seen = [(await w.post("configmaps", w.body("configmaps", "a", meta={"annotations": big}))).seen()]
    seen.append((await w.post("configmaps", w.body("configmaps", "a", meta={"annotations": {"a b": "x"}}))).seen())
    return seen


@probe
async def create_with_bad_owners(w: World) -> Any:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": _OTHER}
    two = [{**owner, "controller": True}, {**owner, "uid": "1" + _OTHER[1:], "controller": True}]
    lists = (
        [{**owner, "uid": ""}],
        [{**owner, "name": ""}],
        [{**owner, "kind": ""}],
        [{**owner, "apiVersion": ""}],
        two,
    )
    return [
        (await w.post("configmaps", w.body("configmaps", "a", meta={"ownerReferences": refs}))).seen() for refs in lists
    ]


@probe
async def create_with_bad_finalizers(w: World) -> Any:
    return [
        (await w.post("configmaps", w.body("configmaps", "a", meta={"finalizers": [f]}))).seen()
        for f in ("a b", "plain")
    ]


@probe
async def create_of_an_object_that_is_too_large(w: World) -> Any:
    big = await w.post("configmaps", w.body("configmaps", "a", data={"k": "x" * 1_100_000}))
    huge = await w.post("gadgets", w.body("gadgets", "a", spec={"k": "x" * 1_700_000}))
    over = await w.post("gadgets", w.body("gadgets", "a", spec={"k": "x" * 3_200_000}))
    return [big.brief(), huge.brief(), over.brief()]


@probe
async def create_with_a_dry_run_stores_nothing(w: World) -> Any:
    answer = await w.post("widgets", widget(w, "a"), dryRun="All")
    return [answer.seen(), (await w.read("widgets", "a")).code]


@probe
async def create_with_an_unknown_dry_run(w: World) -> Any:
    return (await w.post("configmaps", w.body("configmaps", "a"), dryRun="Some")).seen()


@probe
async def get_of_what_is_not_there(w: World) -> Any:
    paths = (
        w.path("configmaps", "a"),
        w.path("widgets", "a"),
        f"/api/v1/namespaces/{w.ns}/nothings",
        f"/apis/apps/v1/namespaces/{w.ns}/nothings/a",
        "/apis/nothing.example.com/v1/things",
        "/apis/nothing.example.com",
        "/nothing",
    )
    return [(await w.get(path)).brief() for path in paths[:3]] + [(await w.get(path)).code for path in paths[3:]]


@probe
async def get_of_what_is_not_there_says_so(w: World) -> Any:
    return [(await w.read(plural, "a")).seen() for plural in ("configmaps", "widgets", "statefulsets", "nodes")]


@probe
async def get_at_a_version(w: World) -> Any:
    made = await w.make("configmaps", w.body("configmaps", "a"))
    rv = made["metadata"]["resourceVersion"]
    # The version first: a server's cache may be behind, and waits for a version that it is asked for.
    seen = [(await w.get(w.path("configmaps", "a", resourceVersion=v))).code for v in (rv, "0")]
    return [*seen, (await w.get(w.path("configmaps", "a", resourceVersion="x"))).brief()]


@probe
async def put_that_changes_nothing_keeps_the_version(w: World) -> Any:
    made = await w.make("widgets", widget(w, "a"))
    pod = await w.make("pods", w.pod("a"))
    return [
        (await w.put("widgets", made)).seen(),
        (await w.put("pods", pod)).version == pod["metadata"]["resourceVersion"],
    ]


@probe
async def put_with_a_stale_version(w: World) -> Any:
    seen = []
    for plural, made in (
        ("configmaps", await w.make("configmaps", w.body("configmaps", "a"))),
        ("widgets", await w.make("widgets", widget(w, "a"))),
    ):
        await w.patch("merge", plural, "a", {"metadata": {"labels": {"x": "y"}}})
        made["metadata"]["labels"] = {"a": "b"}
        seen.append((await w.put(plural, made)).seen())
    return seen


@probe
async def put_without_a_version(w: World) -> Any:
    seen = []
    spec = {"holderIdentity": "a"}
    for plural, body in (
        ("configmaps", w.body("configmaps", "a")),
        ("widgets", widget(w, "a")),
        ("leases", w.body("leases", "a", spec=spec)),
        ("controllerrevisions", w.body("controllerrevisions", "a", revision=1, data={"a": 1})),
    ):
        await w.make(plural, body)
        body["metadata"]["labels"] = {"a": "b"}
        seen.append((await w.put(plural, body)).seen())
    return seen


@probe
async def put_with_a_wrong_uid(w: World) -> Any:
    seen = []
    for plural, made in (
        ("configmaps", await w.make("configmaps", w.body("configmaps", "a"))),
        ("widgets", await w.make("widgets", widget(w, "a"))),
    ):
        made["metadata"]["uid"] = _OTHER
        answer = await w.put(plural, made)
        seen.append({**answer.brief(), "name": answer.body["details"]["name"]})
    return seen


@probe
async def put_of_what_is_not_there(w: World) -> Any:
    return [
        (await w.put("configmaps", w.body("configmaps", "a"))).seen(),
        (await w.put("widgets", widget(w, "a"))).seen(),
    ]


@probe
async def put_of_a_lease_that_is_not_there(w: World) -> Any:
    answer = await w.put("leases", w.body("leases", "a", spec={"holderIdentity": "x"}))
    return answer.seen()


@probe
async def put_under_another_name(w: World) -> Any:
    made = await w.make("configmaps", w.body("configmaps", "a"))
    made["metadata"]["name"] = "b"
    return (await w.ask("PUT", w.path("configmaps", "a"), made)).seen()


@probe
async def put_cannot_change_what_the_server_owns(w: World) -> Any:
    made = await w.make("widgets", widget(w, "a"))
    for name, value in (
        ("creationTimestamp", "2001-01-01T00:00:00Z"),
        ("generation", 9),
        ("deletionTimestamp", "2001-01-01T00:00:00Z"),
    ):
        made["metadata"][name] = value
    return (await w.put("widgets", made)).seen()


@probe
async def generation_counts_what_is_neither_metadata_nor_status(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    patches = (
        {"metadata": {"labels": {"a": "b"}}},
        {"spec": {"size": 2}},
        {"spec": {"size": 2}},
        {"status": {"replicas": 4}},
    )
    seen = [(await w.patch("merge", "widgets", "a", p)).obj["metadata"]["generation"] for p in patches]
    seen.append(
        (await w.patch("merge", "widgets", "a", {"status": {"replicas": 3}}, "status")).obj["metadata"]["generation"]
    )
    return seen


@probe
async def generation_of_an_object_without_status(w: World) -> Any:
    await w.make("gadgets", w.body("gadgets", "a", spec={"a": 1}, status={"b": 1}))
    patches = ({"metadata": {"labels": {"a": "b"}}}, {"spec": {"a": 2}}, {"status": {"b": 2}}, {"extra": {"b": 2}})
    return [(await w.patch("merge", "gadgets", "a", p)).obj["metadata"]["generation"] for p in patches]


@probe
async def generation_of_built_in_kinds(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    await w.make("configmaps", w.body("configmaps", "a"))
    image = {"spec": {"containers": [{"name": "main", "image": "registry.example.com/app:v2"}]}}
    seen = [(await w.patch("strategic", "pods", "a", image)).obj["metadata"].get("generation")]
    label = {"metadata": {"labels": {"a": "b"}}}
    seen += [(await w.patch("merge", p, "a", label)).obj["metadata"].get("generation") for p in ("pods", "configmaps")]
    return seen


@probe
async def methods_that_a_path_does_not_have(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a"))
    return [
        (await w.ask("POST", w.path("configmaps", "a"), w.body("configmaps", "a"))).brief(),
        (await w.ask("PUT", w.path("configmaps"), w.body("configmaps", "a"))).brief(),
        (await w.ask("DELETE", "/api/v1/namespaces", {})).brief(),
        (await w.ask("POST", w.path("widgets", "a", "status"), widget(w, "a"))).code,
    ]


@probe
async def subresources_that_a_kind_does_not_have(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a"))
    await w.make("gadgets", w.body("gadgets", "a"))
    return [
        (await w.get(w.path(p, "a", sub))).code
        for p, sub in (("configmaps", "status"), ("gadgets", "status"), ("gadgets", "scale"))
    ]


@probe
async def answers_as_metadata_only(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
    patch = {"metadata": {"labels": {"a": "b"}}}
    listed = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    return [
        (await w.get(w.path("widgets", "a"), accept=accept)).seen(),
        (await w.ask("PATCH", w.path("widgets", "a"), patch, "merge", accept=accept)).seen(),
        (await w.get(w.path("widgets"), accept=listed)).seen(),
    ]


@probe
async def answers_in_forms_that_nobody_has(w: World) -> Any:
    return [
        (await w.get(w.path("configmaps"), accept=a)).code for a in ("text/plain", "application/xml", "text/plain,*/*")
    ]


@probe
async def bodies_in_forms_that_nobody_has(w: World) -> Any:
    body = w.body("configmaps", "a")
    return [
        (await w.ask("POST", w.path("configmaps"), body, content_type=t)).brief()
        for t in ("text/plain", "application/xml")
    ]


@probe
async def bodies_in_yaml(w: World) -> Any:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n"
    return (await w.ask("POST", w.path("configmaps"), text, content_type="application/yaml")).seen()
