"""rest.py over a scripted transport, on virtual time: requests, pages, watches, metrics."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from structlog.testing import capture_logs

from kruise import __version__
from kruise.runtime import errors as e
from kruise.runtime.client.limiter import RateLimiter
from kruise.runtime.client.rest import AS_METADATA, AS_METADATA_LIST
from kruise.runtime.client.transport import Pool, Response
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, PartialObject, Resource
from kruise.runtime.testing import VirtualClock
from tests.unit.client.rest_script import OK, PODS, Script, Stream, failure, get, patch, rest_on, virtual

NODES: Resource[Object] = Resource("", "v1", "Node", "nodes", Object, namespaced=False)
JOBS: Resource[Object] = Resource("apps.kruise.io", "v1beta1", "BroadcastJob", "broadcastjobs", Object, custom=True)
LEASES: Resource[PartialObject] = Resource("coordination.k8s.io", "v1", "Lease", "leases", PartialObject)


# --- paths, headers, names ---------------------------------------------------------------------------------------


def test_tra3_paths_queries_and_headers_are_prebuilt() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script()
        rest = rest_on(script, clock)
        await rest.call("get", "GET", NODES, name="n:1 ü")
        await rest.call(
            "patch", "PATCH", JOBS, namespace="ns", name="j", subresource="status", body=b"{}",
            query={"fieldManager": "a b&c"}, content_type="application/merge-patch+json",
        )  # fmt: skip
        first, second = script.seen
        assert first.path == "/api/v1/nodes/n:1%20%C3%BC"
        assert "content-type" not in first.headers
        assert second.path == "/apis/apps.kruise.io/v1beta1/namespaces/ns/broadcastjobs/j/status?fieldManager=a%20b%26c"
        assert second.headers["content-type"] == "application/merge-patch+json"
        assert second.headers["accept"] == "application/json"
        assert (second.verb, second.resource, second.subresource, second.custom) == (
            "patch", "broadcastjobs", "status", True,
        )  # fmt: skip
        await rest.call("get", "GET", NODES, name="n2")
        await rest.call("get", "GET", NODES, name="n3")
        assert script.seen[2].headers is script.seen[3].headers

    virtual(main)


@pytest.mark.parametrize(
    ("verb", "method", "resource", "place"),
    [
        ("delete", "DELETE", PODS, {"namespace": "ns"}),
        ("patch", "PATCH", NODES, {}),
        ("get", "GET", PODS, {"name": "a"}),
        ("create", "POST", PODS, {}),
        ("create", "POST", PODS, {"namespace": "ns", "subresource": "binding"}),
        ("deletecollection", "DELETE", PODS, {"namespace": "ns"}),
        ("get", "GET", PODS, {"namespace": "ns", "name": "../secrets/x"}),
        ("get", "GET", PODS, {"namespace": "..", "name": "x"}),
        ("get", "GET", PODS, {"namespace": "ns", "name": "a%2fb"}),
        ("get", "DELETE", PODS, {"namespace": "ns", "name": "a"}),
    ],
)
def test_res_a_request_that_means_something_else_is_refused(
    verb: str, method: str, resource: Resource[Any], place: dict[str, str]
) -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script()
        with pytest.raises(ValueError):
            await rest_on(script, clock).call(verb, method, resource, **place)  # type: ignore[arg-type]
        assert script.seen == []

    virtual(main)


def test_tra7_each_controller_has_its_own_user_agent() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script()
        rest = rest_on(script, clock)
        job = rest.named("broadcastjob-controller")
        elector = rest.named("leader-election", pool=Pool.LEASE)
        for one in (rest, job, elector, job.named("x", user_agent="own/1")):
            await get(one)
        assert [r.headers["user-agent"] for r in script.seen] == [
            f"kruise-manager/{__version__}",
            f"kruise-manager/{__version__} broadcastjob-controller",
            f"kruise-manager/{__version__} leader-election",
            "own/1",
        ]
        assert [r.pool for r in script.seen] == [Pool.CALL, Pool.CALL, Pool.LEASE, Pool.CALL]
        assert [r.controller for r in script.seen] == ["", "broadcastjob-controller", "leader-election", "x"]

    virtual(main)


def test_tra8_lists_ask_for_gzip_and_nothing_else_does() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(Response(200, {}, b'{"metadata":{"resourceVersion":"1"}}'), Stream(200), OK)
        rest = rest_on(script, clock)
        await rest.list_page(PODS)
        await rest.watch(PODS, timeout_seconds=300)
        await get(rest)
        assert [r.headers["accept-encoding"] for r in script.seen] == ["gzip", "identity", "identity"]
        assert all(r.headers["accept"] == "application/json" for r in script.seen)

    virtual(main)


def test_tra4_each_verb_has_its_time_out() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(Response(200, {}, b'{"metadata":{"resourceVersion":"1"}}'), OK)
        rest = rest_on(script, clock)
        await rest.list_page(PODS)
        await get(rest)
        await patch(rest, timeout=4.0)
        assert [r.timeout for r in script.seen] == [60.0, 30.0, 4.0]

    virtual(main)


# --- warnings, metadata, pages -----------------------------------------------------------------------------------


def test_res5_warnings_of_all_controllers_are_logged_once() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(Response(200, {"warning": '299 - "deprecated"'}, b"{}"))
        rest = rest_on(script, clock)
        with capture_logs() as lines:
            await patch(rest.named("one"))
            await get(rest.named("two"))
        assert [line["text"] for line in lines if line["event"] == "api server warning"] == ["deprecated"]

    virtual(main)


def test_res6_the_request_says_whether_its_resource_is_custom() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script()
        rest = rest_on(script, clock)
        await patch(rest)
        await rest.call("patch", "PATCH", JOBS, namespace="ns", name="j", body=b"{}")
        assert [r.custom for r in script.seen] == [False, True]

    virtual(main)


def test_res7_ref19_metadata_is_asked_for_where_it_is_enough() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(OK, OK, Response(200, {}, b'{"metadata":{"resourceVersion":"1"}}'), Stream(200))
        rest = rest_on(script, clock)
        await patch(rest, accept=AS_METADATA)
        await rest.call("get", "GET", LEASES, namespace="ns", name="a")
        await rest.list_page(LEASES)
        await rest.watch(LEASES, timeout_seconds=300)
        assert [r.headers["accept"] for r in script.seen] == [AS_METADATA, AS_METADATA, AS_METADATA_LIST, AS_METADATA]
        assert AS_METADATA == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

    virtual(main)


def test_res7_answers_of_writes_are_not_parsed() -> None:
    async def main(clock: VirtualClock) -> None:
        odd = Response(200, {}, b'{"kind": "Pod", and then garbage')
        assert (await patch(rest_on(Script(odd), clock))).body is odd.body

    virtual(main)


def page(version: str, names: list[str], token: str = "", remaining: int | None = None) -> Response:
    meta = {"resourceVersion": version, "continue": token, "remainingItemCount": remaining}
    items = [{"metadata": {"name": n}} for n in names]
    return Response(200, {}, json.dumps({"kind": "PodList", "metadata": meta, "items": items}).encode())


def test_res8_pages_walk_the_whole_list_one_page_at_a_time() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(page("7", ["a", "b"], "t1", 3), page("7", ["c"], "t2", 2), page("7", ["d"]))
        names, remaining = [], []
        async for one in rest_on(script, clock).pages(PODS, label_selector="a=b", limit=2):
            names += [json.loads(bytes(raw))["metadata"]["name"] for raw in one.items]
            remaining.append(one.remaining)
            assert len(script.seen) == len(remaining)
        assert names == ["a", "b", "c", "d"]
        assert remaining == [3, 2, 0]
        queries = [dict(parse_qsl(urlsplit(r.path).query)) for r in script.seen]
        assert queries[0] == {"labelSelector": "a=b", "limit": "2"}
        assert queries[1] == {"labelSelector": "a=b", "limit": "2", "continue": "t1"}

    virtual(main)


def test_res8_an_expired_walk_is_told() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(page("7", ["a"], "t1"), failure(410, "Expired", metadata={"continue": "inconsistent"}))
        with pytest.raises(e.Expired) as caught:
            async for _ in rest_on(script, clock).pages(PODS):
                pass
        assert caught.value.status.continue_token == "inconsistent"

    virtual(main)


def test_res8_continue_pages_carry_no_version() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(page("7", []))
        rest = rest_on(script, clock)
        await rest.list_page(
            PODS, namespace="ns", resource_version="5", resource_version_match="NotOlderThan", continue_token="t"
        )
        await rest.list_page(PODS, resource_version="5", resource_version_match="NotOlderThan", field_selector="a=b")
        first, second = (dict(parse_qsl(urlsplit(r.path).query)) for r in script.seen)
        assert first == {"continue": "t"}
        assert second == {"resourceVersion": "5", "resourceVersionMatch": "NotOlderThan", "fieldSelector": "a=b"}
        assert script.seen[0].path.startswith("/api/v1/namespaces/ns/pods?")

    virtual(main)


# --- watch -------------------------------------------------------------------------------------------------------


def test_tra4_a_watch_names_its_length_and_ends_five_seconds_after_it() -> None:
    async def main(clock: VirtualClock) -> None:
        inner = Stream(200, hangs=True)
        script = Script(inner)
        stream = await rest_on(script, clock).watch(
            PODS, namespace="ns", resource_version="5", timeout_seconds=300, send_initial_events=True
        )
        assert script.seen[0].pool is Pool.WATCH
        assert dict(parse_qsl(urlsplit(script.seen[0].path).query)) == {
            "watch": "true",
            "timeoutSeconds": "300",
            "allowWatchBookmarks": "true",
            "resourceVersion": "5",
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
        }
        async with stream:
            with pytest.raises(e.Timeout):
                await stream.read_line()
        assert clock.monotonic() == 305
        assert inner.closed

    virtual(main)


def test_res9_a_watch_that_is_refused_is_an_api_error_and_is_sent_once() -> None:
    async def main(clock: VirtualClock) -> None:
        inner = Stream(410, failure(410, "Expired").body)
        script = Script(inner)
        with pytest.raises(e.Expired):
            await rest_on(script, clock).watch(PODS, timeout_seconds=300)
        assert inner.closed
        script = Script(Stream(429, failure(429).body))
        with pytest.raises(e.TooManyRequests):
            await rest_on(script, clock).watch(PODS, timeout_seconds=300)
        assert len(script.seen) == 1

    virtual(main)


def test_res9_a_refused_watch_whose_body_never_comes_is_still_an_error() -> None:
    async def main(clock: VirtualClock) -> None:
        inner = Stream(503, hangs=True)
        with pytest.raises(e.Unavailable):
            await rest_on(Script(inner), clock).watch(PODS, timeout_seconds=300, bookmarks=False)
        assert clock.monotonic() <= 11
        assert inner.closed
        with pytest.raises(e.Refused):
            await rest_on(Script(e.Refused("x")), clock).watch(PODS, timeout_seconds=300)

    virtual(main)


# --- metrics, other ----------------------------------------------------------------------------------------------


def test_met1_rest_client_families_are_fed_with_a_fixed_host() -> None:
    async def main(clock: VirtualClock) -> None:
        metrics = Metrics(clients=True, process=False)
        script = Script(failure(429, headers={"retry-after": "1"}), OK, e.Refused("x"), clock=clock, seconds=0.2)
        limiter = RateLimiter(100, 100, clock=clock)
        rest = rest_on(script, clock, metrics=metrics, limiter=limiter)
        await patch(rest)
        with pytest.raises(e.Refused):
            await get(rest)

        def value(name: str, **labels: str) -> float | None:
            return metrics.registry.get_sample_value(name, {**labels, "host": "cluster:443"})

        assert value("rest_client_requests_total", code="429", method="PATCH") == 1
        assert value("rest_client_requests_total", code="200", method="PATCH") == 1
        assert value("rest_client_requests_total", code="<error>", method="GET") == 1
        assert value("rest_client_request_retries_total", code="429", verb="PATCH") == 1
        assert value("rest_client_request_duration_seconds_sum", verb="PATCH") == pytest.approx(0.4)
        assert value("rest_client_request_size_bytes_sum", verb="PATCH") == 4
        assert value("rest_client_response_size_bytes_count", verb="PATCH") == 2
        assert value("rest_client_rate_limiter_duration_seconds_count", verb="PATCH") == 2

    virtual(main)


def test_err6_a_cancelled_call_is_counted_as_no_failure_and_frees_its_slot() -> None:
    async def main(clock: VirtualClock) -> None:
        metrics = Metrics(process=False)
        script = Script(clock=clock, seconds=100.0)
        rest = rest_on(script, clock, metrics=metrics)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(patch(rest))
            await clock.sleep(1)
            task.cancel()
        assert task.cancelled()
        assert rest.window.busy == 0
        labels = {"code": "<error>", "method": "PATCH", "host": "cluster:443"}
        assert metrics.registry.get_sample_value("rest_client_requests_total", labels) is None

    virtual(main)


def test_res9_get_path_reads_what_is_no_resource() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(Response(200, {}, b'{"gitVersion":"v1.37"}'), Response(200, {}, b"ok"))
        rest = rest_on(script, clock)
        assert (await rest.get_path("/version")).body == b'{"gitVersion":"v1.37"}'
        assert (await rest.get_path("/readyz", json=False)).body == b"ok"
        with pytest.raises(e.BadFrame):
            await rest.get_path("/apis")

    virtual(main)


def test_aut4_the_client_imports_no_http_library_and_no_generated_client() -> None:
    code = (
        "import sys, kruise.runtime.client.rest, kruise.runtime.client.auth\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('kubernetes_asyncio', 'kubernetes', 'aiohttp')))\n"
        "import kruise.runtime.client.http, kruise.runtime.client.kubeconfig\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('kubernetes_asyncio', 'kubernetes')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n[]\n"
