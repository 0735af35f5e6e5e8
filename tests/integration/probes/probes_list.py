"""Probes of lists, selectors and watches."""

from __future__ import annotations

from typing import Any

from tests.integration.probes.asking import PARTIAL, TABLE, World, brief_events
from tests.integration.probes.probes_metadata import widget
from tests.integration.probes.registry import probe


async def three(w: World) -> list[dict[str, Any]]:
    return [await w.make("widgets", widget(w, n, meta={"labels": {"n": n, "all": "yes"}})) for n in ("a", "b", "c")]


@probe
async def list_of_a_built_in_kind_has_bare_items(w: World) -> Any:
    await w.make("pods", w.pod("a"))
    answer = await w.get(w.path("pods"))
    return [
        answer.obj["kind"],
        answer.obj["apiVersion"],
        sorted(answer.obj["items"][0]),
        sorted(answer.obj["metadata"]),
    ]


@probe
async def list_of_a_custom_kind_has_whole_items(w: World) -> Any:
    await three(w)
    return (await w.get(w.path("widgets"))).seen()


@probe
async def list_that_is_empty(w: World) -> Any:
    return [(await w.get(w.path(p))).obj["items"] for p in ("widgets", "pods")]


@probe
async def list_is_sorted_by_name(w: World) -> Any:
    for name in ("b", "a-b", "a", "a.b"):
        await w.make("widgets", widget(w, name))
    return (await w.get(w.path("widgets"))).names


@probe
async def list_over_all_namespaces(w: World) -> Any:
    await three(w)
    answer = await w.get(w.path("widgets", ns="", labelSelector="n=b"))
    return [i["metadata"]["name"] for i in answer.obj["items"] if i["metadata"]["namespace"] == w.ns]


@probe
async def list_in_pages(w: World) -> Any:
    await three(w)
    first = await w.get(w.path("widgets", limit=2))
    await w.delete("widgets", "c")
    await w.make("widgets", widget(w, "d"))
    token = first.obj["metadata"]["continue"]
    second = await w.get(w.path("widgets", limit=2, **{"continue": token}))
    same = first.obj["metadata"]["resourceVersion"] == second.obj["metadata"]["resourceVersion"]
    return [
        first.names,
        first.obj["metadata"].get("remainingItemCount"),
        second.names,
        sorted(second.obj["metadata"]),
        same,
    ]


@probe
async def list_in_pages_of_one(w: World) -> Any:
    await three(w)
    token, pages = "", []
    while True:
        answer = await w.get(w.path("widgets", limit=1, **({"continue": token} if token else {})))
        pages.append((answer.names, answer.obj["metadata"].get("remainingItemCount")))
        token = answer.obj["metadata"].get("continue", "")
        if not token:
            return pages


@probe
async def list_in_pages_with_a_selector(w: World) -> Any:
    await three(w)
    answer = await w.get(w.path("widgets", limit=1, labelSelector="all=yes"))
    return [answer.names, "continue" in answer.obj["metadata"], answer.obj["metadata"].get("remainingItemCount")]


@probe
async def list_with_a_bad_continue_token(w: World) -> Any:
    await three(w)
    first = await w.get(w.path("widgets", limit=1))
    token = first.obj["metadata"]["continue"]
    with_version = await w.get(w.path("widgets", limit=1, resourceVersion="5", **{"continue": token}))
    return [(await w.get(w.path("widgets", **{"continue": "nonsense"}))).brief(), with_version.seen()]


@probe
async def list_at_versions(w: World) -> Any:
    made = await three(w)
    rv = made[1]["metadata"]["resourceVersion"]
    newest = made[2]["metadata"]["resourceVersion"]
    seen: list[Any] = []
    for query in (
        {"resourceVersion": newest},
        {"resourceVersion": newest, "resourceVersionMatch": "NotOlderThan"},
        {"resourceVersion": rv, "resourceVersionMatch": "Exact"},
        {"resourceVersion": rv, "limit": 5},
    ):
        answer = await w.get(w.path("widgets", **query))
        same = answer.obj["metadata"]["resourceVersion"] == query["resourceVersion"]
        seen.append((answer.names, same if "Exact" in query.values() or "limit" in query else None))
    return seen


@probe
async def list_with_options_that_do_not_go_together(w: World) -> Any:
    queries: tuple[dict[str, Any], ...] = (
        {"resourceVersionMatch": "Exact"},
        {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
        {"resourceVersionMatch": "Odd", "resourceVersion": "1"},
        {"sendInitialEvents": "true"},
        {"resourceVersion": "x"},
        {"limit": "x"},
    )
    return [(await w.get(w.path("widgets", **q))).brief() for q in queries]


@probe
async def list_from_the_future(w: World) -> Any:
    answer = await w.get(w.path("widgets", resourceVersion=str(10**9), resourceVersionMatch="NotOlderThan"))
    return [answer.brief(), answer.body["details"].get("retryAfterSeconds")]


@probe
async def label_selectors(w: World) -> Any:
    for name, labels in (("a", {"x": "1", "y": "a"}), ("b", {"x": "2"}), ("c", {"y": "b"}), ("d", {})):
        await w.make("configmaps", w.body("configmaps", name, meta={"labels": labels}))
    selectors = (
        "x",
        "!x",
        "x=1",
        "x==1",
        "x!=1",
        "x in (1,2)",
        "x notin (1)",
        "x>1",
        "x<2",
        "x=1,y=a",
        "x in (1),!z",
        " x = 1 ",
        "x=",
        "y in (a, b)",
        "x notin (1,2)",
        ",",
        "x,,y",
    )
    seen = []
    for selector in selectors:
        answer = await w.get(w.path("configmaps", labelSelector=selector))
        seen.append(
            (selector, [n for n in answer.names if n != "kube-root-ca.crt"] if answer.code == 200 else answer.brief())
        )
    return seen


@probe
async def label_selectors_that_are_malformed(w: World) -> Any:
    selectors = ("x=(", "x in 1", "=x", "x y", "x in (1", "x>a", "a b=c", "x=a b", "!", "-x", "x=" + "y" * 64)
    return [(s, (await w.get(w.path("configmaps", labelSelector=s))).brief()) for s in selectors]


@probe
async def field_selectors_of_pods(w: World) -> Any:
    await w.make("pods", w.pod("a", nodeName="nowhere"))
    await w.make("pods", w.pod("b", restartPolicy="Never"))
    selectors = (
        "metadata.name=a",
        "metadata.name!=a",
        f"metadata.namespace={w.ns}",
        "spec.nodeName=nowhere",
        "spec.nodeName=",
        "spec.nodeName!=nowhere",
        "status.phase=Pending",
        "status.phase!=Pending",
        "spec.restartPolicy=Never",
        "spec.schedulerName=nobody",
        "status.podIP=",
        "spec.serviceAccountName=default",
        "metadata.name=a,spec.nodeName=nowhere",
        "metadata.name==b",
        "spec.hostNetwork=false",
    )
    seen = []
    for selector in selectors:
        answer = await w.get(w.path("pods", fieldSelector=selector))
        seen.append((selector, answer.names if answer.code == 200 else answer.brief()))
    return seen


@probe
async def field_selectors_that_are_unknown(w: World) -> Any:
    paths = (
        ("pods", "spec.color=x"),
        ("configmaps", "data.x=y"),
        ("widgets", "spec.size=1"),
        ("pods", "metadata.name"),
        ("nodes", "spec.x=1"),
        ("pods", "metadata.labels.a=b"),
    )
    return [(await w.get(w.path(p, fieldSelector=s))).seen() for p, s in paths]


@probe
async def field_selectors_of_custom_objects(w: World) -> Any:
    await w.make("widgets", widget(w, "a", color="green"))
    await w.make("widgets", widget(w, "b"))
    selectors = ("metadata.name=a", "spec.color=green", "spec.color!=green")
    return [(await w.get(w.path("widgets", fieldSelector=s))).names for s in selectors]


@probe
async def field_selectors_of_other_kinds(w: World) -> Any:
    name = f"node-{w.ns}"
    await w.make("nodes", w.body("nodes", name, spec={"unschedulable": True}))
    await w.make("secrets", w.body("secrets", "s", type="example.com/x"))
    answers = (
        await w.get(w.path("nodes", fieldSelector=f"metadata.name={name},spec.unschedulable=true")),
        await w.get(w.path("namespaces", fieldSelector=f"metadata.name={w.ns},status.phase=Active")),
        await w.get(w.path("secrets", fieldSelector="type=example.com/x")),
    )
    return [a.names for a in answers]


@probe
async def watch_from_the_version_of_a_list(w: World) -> Any:
    await w.make("widgets", widget(w, "old"))
    rv = (await w.get(w.path("widgets"))).obj["metadata"]["resourceVersion"]
    watch = await w.watch(w.path("widgets", resourceVersion=rv))
    await w.make("widgets", widget(w, "a"))
    await w.patch("merge", "widgets", "a", {"spec": {"size": 2}})
    await w.patch("merge", "widgets", "a", {"spec": {"size": 2}})
    await w.patch("merge", "widgets", "a", {"status": {"replicas": 2}}, "status")
    await w.delete("widgets", "a")
    return await watch.take(4)


@probe
async def watch_without_a_version_begins_with_the_state(w: World) -> Any:
    await three(w)
    watch = await w.watch(w.path("widgets"))
    first = await watch.take(3)
    await w.delete("widgets", "b")
    return [sorted(brief_events(first)), brief_events(await watch.take(1))]


@probe
async def watch_from_zero_begins_with_the_state(w: World) -> Any:
    await three(w)
    watch = await w.watch(w.path("widgets", resourceVersion="0"))
    return sorted(brief_events(await watch.take(3)))


@probe
async def watch_of_a_selector_shows_who_enters_and_leaves(w: World) -> Any:
    rv = (await w.get(w.path("widgets"))).obj["metadata"]["resourceVersion"]
    watch = await w.watch(w.path("widgets", resourceVersion=rv, labelSelector="x=1"))
    await w.make("widgets", widget(w, "a", meta={"labels": {"x": "2"}}))
    for value in ("1", "2", "1"):
        await w.patch("merge", "widgets", "a", {"metadata": {"labels": {"x": value}}})
    await w.patch("merge", "widgets", "a", {"spec": {"size": 9}})
    await w.delete("widgets", "a")
    return await watch.take(5)


@probe
async def watch_of_a_field_selector(w: World) -> Any:
    rv = (await w.get(w.path("pods"))).obj["metadata"]["resourceVersion"]
    watch = await w.watch(w.path("pods", resourceVersion=rv, fieldSelector="status.phase=Running"))
    await w.make("pods", w.pod("a", nodeName="nowhere"))
    for phase in ("Running", "Succeeded"):
        await w.patch("merge", "pods", "a", {"status": {"phase": phase}}, "status")
    return [(e["type"], e["object"]["status"]["phase"]) for e in await watch.take(2)]


@probe
async def watch_of_one_namespace_sees_no_other(w: World) -> Any:
    rv = (await w.get(w.path("configmaps"))).obj["metadata"]["resourceVersion"]
    watch = await w.watch(w.path("configmaps", resourceVersion=rv, fieldSelector="metadata.name=a"))
    await w.post("configmaps", w.body("configmaps", "a"), ns="default")
    await w.ask("DELETE", w.path("configmaps", "a", ns="default"))
    await w.make("configmaps", w.body("configmaps", "a"))
    return (await watch.take(1))[0]["object"]["metadata"]["namespace"]


@probe
async def watch_list_ends_the_state_with_a_bookmark(w: World) -> Any:
    await three(w)
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
        "resourceVersion": "",
    }
    watch = await w.watch(w.path("widgets", **query))
    events = [await watch.next() for _ in range(4)]
    mark = events[3]
    assert mark is not None
    mark["object"]["metadata"].pop("resourceVersion")
    await w.make("widgets", widget(w, "d"))
    after = (await watch.take(1))[0]
    return [
        sorted((e["type"], e["object"]["metadata"]["name"]) for e in events[:3] if e),
        mark,
        after["object"]["metadata"]["name"],
    ]


@probe
async def watch_list_of_an_empty_collection(w: World) -> Any:
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    seen = []
    for plural in ("pods", "widgets", "leases"):
        watch = await w.watch(w.path(plural, **query))
        mark = await watch.next()
        assert mark is not None
        mark["object"]["metadata"].pop("resourceVersion")
        seen.append(mark)
    return seen


@probe
async def watch_with_options_that_do_not_go_together(w: World) -> Any:
    queries: tuple[dict[str, Any], ...] = (
        {"sendInitialEvents": "true"},
        {"sendInitialEvents": "true", "resourceVersionMatch": "Exact"},
        {"resourceVersionMatch": "NotOlderThan", "resourceVersion": "1"},
        {"resourceVersion": "x"},
        {"labelSelector": "x=("},
        {"fieldSelector": "spec.odd=1"},
    )
    return [(await w.get(w.path("widgets", watch="1", timeoutSeconds="1", **q))).brief() for q in queries]


@probe
async def watch_ends_after_its_time(w: World) -> Any:
    await three(w)
    watch = await w.watch(w.path("widgets", timeoutSeconds=1))
    return [(e["type"], e["object"]["metadata"]["name"]) for e in await watch.rest()]


@probe
async def watch_from_before_the_history(w: World) -> Any:
    await three(w)
    watch = await w.watch(w.path("widgets", resourceVersion="1"))
    event = await watch.next()
    assert event is not None
    status = event["object"]
    return [
        watch.code,
        event["type"],
        status["code"],
        status["reason"],
        status["message"].partition(":")[0],
        await watch.next(),
    ]


@probe
async def watch_of_metadata_only(w: World) -> Any:
    await w.make("widgets", widget(w, "a"))
    watch = await w.watch(w.path("widgets"), accept=PARTIAL)
    return await watch.take(1)


@probe
async def watch_of_a_table(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a", data={"a": "b"}))
    watch = await w.watch(w.path("configmaps", fieldSelector="metadata.name=a"), accept=TABLE)
    first = (await watch.take(1))[0]
    await w.patch("merge", "configmaps", "a", {"data": {"c": "d"}})
    second = (await watch.take(1))[0]
    cells = [row["cells"][:2] for e in (first, second) for row in e["object"]["rows"]]
    return [
        first["type"],
        second["type"],
        cells,
        first["object"]["kind"],
        len(first["object"]["columnDefinitions"] or ()),
        second["object"]["columnDefinitions"],
    ]


@probe
async def watch_of_one_object_by_its_path(w: World) -> Any:
    await w.make("configmaps", w.body("configmaps", "a"))
    answer = await w.get(w.path("configmaps", "a", watch="1"))
    return [answer.code, answer.obj["kind"]]


@probe
async def watch_shows_versions_in_order(w: World) -> Any:
    watch = await w.watch(w.path("widgets"))
    made = await three(w)
    for obj in made:
        await w.patch("merge", "widgets", obj["metadata"]["name"], {"spec": {"size": 5}})
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in await watch.take(6)]
    return versions == sorted(versions)
