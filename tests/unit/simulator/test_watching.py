from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from kruise.runtime.client.transport import Request
from kruise.runtime.clock import Random
from kruise.runtime.testing import run_virtual
from kruise.simulator.apiserver import ApiServer, Failure


def pod(name, labels=None, **spec):
    meta = {"name": name} | ({"labels": labels} if labels else {})
    return {"metadata": meta, "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec}}


def make(clock, **options):
    return ApiServer(clock, Random(1), **options)


async def watch(server, query="", *, path="/api/v1/pods", frontend="apiserver-0", accept=""):
    headers = {"accept": accept} if accept else {}
    request = Request("GET", f"{path}?watch=1&{query}", headers=headers)
    return await server.transport("w", frontend=frontend).stream(request)


async def take(stream, n):
    return [orjson.loads(await stream.read_line()) for _ in range(n)]


def brief(events):
    return [(e["type"], e["object"]["metadata"].get("name", "")) for e in events]


def virtual(fn):
    def test():
        run_virtual(fn)

    test.__name__ = fn.__name__
    return test


@virtual
async def test_tst1_a_watch_from_a_version_sees_every_later_change_once_and_in_order(clock):
    server = make(clock)
    server.create("pods", pod("old"))
    rv = server.storage.rv
    for name in "abc":
        server.create("pods", pod(name))
    server.patch("pods", "b", {"metadata": {"labels": {"x": "y"}}})
    server.delete("pods", "a")
    async with await watch(server, f"resourceVersion={rv}") as stream:
        events = await take(stream, 6)
    expected = [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c"), ("MODIFIED", "b"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert brief(events) == expected
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert versions == sorted(set(versions))


@virtual
async def test_tst1_a_watch_without_a_version_sends_the_state_first(clock):
    server = make(clock)
    for name in "ba":
        server.create("pods", pod(name))
    for query in ("", "resourceVersion=0"):
        async with await watch(server, query) as stream:
            assert brief(await take(stream, 2)) == [("ADDED", "a"), ("ADDED", "b")]


@virtual
async def test_tst1_send_initial_events_ends_with_the_annotated_bookmark(clock):
    server = make(clock)
    server.create("pods", pod("a"))
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with await watch(server, query) as stream:
        events = await take(stream, 2)
        assert brief(events) == [("ADDED", "a"), ("BOOKMARK", "")]
        meta = events[1]["object"]["metadata"]
        assert meta["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert meta["resourceVersion"] == str(server.storage.rv)
        assert events[1]["object"]["spec"] == {"containers": None}
        server.create("pods", pod("b"))
        assert brief(await take(stream, 1)) == [("ADDED", "b")]


@virtual
async def test_tst1_send_initial_events_needs_its_options(clock):
    server = make(clock)
    async with await watch(server, "sendInitialEvents=true") as stream:
        assert stream.status == 422


@virtual
async def test_tst1_an_object_that_starts_or_stops_to_match_is_added_or_deleted(clock):
    server = make(clock)
    server.create("pods", pod("a"))
    async with await watch(server, f"labelSelector=app%3Dx&resourceVersion={server.storage.rv}") as stream:
        server.patch("pods", "a", {"metadata": {"labels": {"app": "x"}}})
        server.patch("pods", "a", {"metadata": {"labels": {"more": "y"}}})
        server.patch("pods", "a", {"metadata": {"labels": {"app": "z"}}})
        server.create("pods", pod("b", {"app": "x"}))
        server.delete("pods", "b")
        events = await take(stream, 6)
    assert brief(events) == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
        ("ADDED", "b"),
        ("MODIFIED", "b"),
        ("DELETED", "b"),
    ]
    left = events[2]["object"]["metadata"]
    assert left["labels"] == {"app": "x", "more": "y"}
    assert int(left["resourceVersion"]) == int(events[1]["object"]["metadata"]["resourceVersion"]) + 1


@virtual
async def test_tst1_field_selectors_and_namespaces_limit_a_watch(clock):
    server = make(clock)
    server.create("pods", pod("a"))
    rv = server.storage.rv
    path = "/api/v1/namespaces/default/pods"
    async with await watch(server, f"fieldSelector=spec.nodeName%3Dn1&resourceVersion={rv}", path=path) as stream:
        server.create("pods", {**pod("k"), "metadata": {"name": "k", "namespace": "kube-system"}})
        binding = {"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "n1"}}
        server.do("POST", f"{path}/a/binding", binding)
        server.do("POST", "/api/v1/namespaces/kube-system/pods/k/binding", binding)
        assert brief(await take(stream, 1)) == [("ADDED", "a")]
        assert not stream.buffered()
    with pytest.raises(Failure) as caught:
        server.do("POST", f"{path}/a/binding", binding)
    assert caught.value.code == 409


@virtual
async def test_tst1_a_compacted_version_is_gone_as_event_or_as_status(clock):
    server = make(clock)
    for name in "abc":
        server.create("pods", pod(name))
    server.storage.compact(server.storage.rv)
    async with await watch(server, "resourceVersion=2") as stream:
        assert stream.status == 200
        (event,) = await take(stream, 1)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert await stream.read_line() == b""
    server.operations.gone_as_status = True
    async with await watch(server, "resourceVersion=2") as stream:
        assert stream.status == 410
    async with await watch(server, f"resourceVersion={server.storage.rv}") as stream:
        assert stream.status == 200


@virtual
async def test_tst1_a_watch_that_falls_behind_the_window_is_told_so(clock):
    for retain in (True, False):
        server = make(clock, history=5, retain=retain)
        async with await watch(server, f"resourceVersion={server.storage.rv}") as stream:
            for i in range(20):
                server.create("pods", pod(f"p{i}"))
            (event,) = await take(stream, 1)
            assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


@virtual
async def test_tst1_commits_of_other_resources_do_not_end_a_quiet_watch(clock):
    server = make(clock, history=5)
    async with await watch(server, f"resourceVersion={server.storage.rv}") as stream:
        for i in range(20):
            server.create("configmaps", {"metadata": {"name": f"c{i}"}})
        server.create("pods", pod("a"))
        assert brief(await take(stream, 1)) == [("ADDED", "a")]


@virtual
async def test_tst1_timeout_seconds_closes_cleanly_after_a_last_bookmark(clock):
    server = make(clock)
    async with await watch(
        server, f"timeoutSeconds=100&allowWatchBookmarks=true&resourceVersion={server.storage.rv}"
    ) as stream:
        for i in range(3):
            server.create("configmaps", {"metadata": {"name": f"c{i}"}})
        first, last = await take(stream, 2)
        assert first["type"] == last["type"] == "BOOKMARK"
        assert last["object"]["metadata"]["resourceVersion"] == str(server.storage.rv)
        assert clock.monotonic() == 98.0
        assert await stream.read_line() == b""
        assert clock.monotonic() == 100.0
    assert server.frontend().watching() == 0


@virtual
async def test_tst1_metadata_only_watches(clock):
    server = make(clock)
    server.create("pods", pod("a"))
    accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    async with await watch(server, accept=accept) as stream:
        (event,) = await take(stream, 1)
        assert event["object"]["kind"] == "PartialObjectMetadata" and "spec" not in event["object"]


@virtual
async def test_tst1_a_closed_watch_is_forgotten_and_a_cancelled_read_leaves_no_timer(clock):
    server = make(clock)
    async with await watch(server) as stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await stream.read_line()
        server.create("pods", pod("a"))
        assert brief(await take(stream, 1)) == [("ADDED", "a")]
    assert server.frontend().watching() == 0


@virtual
async def test_tst2_a_lagging_front_end_shows_the_past_and_quorum_reads_do_not(clock):
    server = make(clock)
    server.frontend("slow").lag = 10.0
    server.create("pods", pod("a"))
    transport = server.transport(frontend="slow")

    async def names(query):
        answer = await transport.request(Request("GET", f"/api/v1/pods?{query}"))
        return [p["metadata"]["name"] for p in orjson.loads(answer.body)["items"]]

    async with await watch(server, "resourceVersion=0", frontend="slow") as stream:
        assert await names("resourceVersion=0") == []
        assert await names("") == ["a"]
        assert brief(await take(stream, 1)) == [("ADDED", "a")]
        assert clock.monotonic() == 10.0
        assert await names("resourceVersion=0") == ["a"]


@virtual
async def test_tst2_a_frozen_front_end_travels_back_in_time(clock):
    server = make(clock)
    server.create("pods", pod("a"))
    then = server.storage.rv
    server.delete("pods", "a")
    server.frontend("old").freeze(at=then)
    answer = await server.transport(frontend="old").request(Request("GET", "/api/v1/pods?resourceVersion=0"))
    body = orjson.loads(answer.body)
    assert [p["metadata"]["name"] for p in body["items"]] == ["a"] and body["metadata"]["resourceVersion"] == str(then)
    answer = await server.transport(frontend="old").request(
        Request("GET", "/api/v1/namespaces/default/pods/a?resourceVersion=0")
    )
    assert answer.status == 200
    server.frontend("old").thaw()
    answer = await server.transport(frontend="old").request(Request("GET", "/api/v1/pods?resourceVersion=0"))
    assert orjson.loads(answer.body)["items"] == []


@virtual
async def test_tst1_a_version_from_the_future_is_waited_for_and_then_504(clock):
    server = make(clock)
    path = f"/api/v1/pods?resourceVersion={server.storage.rv + 1}"
    answer = await server.transport().request(Request("GET", path))
    status = orjson.loads(answer.body)
    assert (answer.status, status["reason"]) == (504, "Timeout")
    assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert clock.monotonic() == 3.0

    async def later():
        await clock.sleep(1)
        server.create("pods", pod("a"))

    async with asyncio.TaskGroup() as group:
        group.create_task(later())
        answer = await server.transport().request(Request("GET", path))
    assert answer.status == 200 and clock.monotonic() == 4.0


def test_watchers_are_woken_by_commits_and_nothing_polls():
    async def main(clock):
        server = make(clock)
        async with await watch(server, f"timeoutSeconds=3000&resourceVersion={server.storage.rv}") as stream:
            before = asyncio.get_running_loop().steps
            assert await stream.read_line() == b""
            assert asyncio.get_running_loop().steps - before < 10

    run_virtual(main)


def test_thousands_of_commits_a_second_with_watchers():
    async def main(clock):
        server = make(clock, history=2000, retain=False)
        seen = 0

        async def reader(stream):
            nonlocal seen
            async with stream:
                while seen < 4000:
                    await stream.read_line()
                    seen += 1

        transport = server.transport("writer")
        streams = [await watch(server, f"resourceVersion={server.storage.rv}") for _ in range(2)]
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(reader(s)) for s in streams]
            for i in range(2000):
                body = orjson.dumps({"apiVersion": "v1", "kind": "Pod", **pod(f"p{i}")})
                answer = await transport.request(Request("POST", "/api/v1/namespaces/default/pods", body=body))
                assert answer.status == 201
            await clock.sleep(1)
            for task in readers:
                task.cancel()
        assert seen >= 3999
        assert 2000 / (time.perf_counter() - begin) > 500

    run_virtual(main)
