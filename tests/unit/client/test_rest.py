"""rest.py over a scripted transport, on virtual time."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import pytest
from structlog.testing import capture_logs

from kruise import __version__
from kruise.runtime import errors as e
from kruise.runtime.client.limiter import RateLimiter
from kruise.runtime.client.rest import AS_METADATA, AS_METADATA_LIST, Rest
from kruise.runtime.client.transport import ByteStream, Pool, Request, Response
from kruise.runtime.client.window import WriteWindow, write_owner
from kruise.runtime.clock import Random
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, PartialObject, Resource
from kruise.runtime.testing import Script as Steps
from kruise.runtime.testing import VirtualClock, run_virtual

PODS: Resource[Object] = Resource("", "v1", "Pod", "pods", Object)
NODES: Resource[Object] = Resource("", "v1", "Node", "nodes", Object, namespaced=False)
JOBS: Resource[Object] = Resource("apps.kruise.io", "v1beta1", "BroadcastJob", "broadcastjobs", Object, custom=True)
LEASES: Resource[PartialObject] = Resource("coordination.k8s.io", "v1", "Lease", "leases", PartialObject)

OK = Response(200, {"content-type": "application/json"}, b'{"kind":"Pod"}')


def failure(code: int, reason: str = "", headers: Mapping[str, str] | None = None, **rest: Any) -> Response:
    body = {"kind": "Status", "code": code, "reason": reason, "message": "scripted", **rest}
    return Response(code, headers or {}, json.dumps(body).encode())


class Stream:
    def __init__(self, status: int, body: bytes = b"", *, hangs: bool = False) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {}
        self.body = body
        self.hangs = hangs
        self.closed = False

    async def read_line(self) -> bytes:
        await asyncio.Event().wait() if self.hangs else None
        return self.body

    def buffered(self) -> bool:
        return False

    async def read_all(self) -> bytes:
        return await self.read_line()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True


Step = Response | Exception | Stream


class Script:
    """Answers as written, to the last line, which repeats (TST3). Each answer takes *seconds*."""

    def __init__(self, *steps: Step, clock: VirtualClock | None = None, seconds: float = 0.0) -> None:
        self.steps = Steps(*steps[:-1], name="the answers")
        self.last = steps[-1] if steps else OK
        self.seen: list[Request] = []
        self.at: list[float] = []
        self.clock = clock
        self.seconds = seconds
        self.busy = self.peak = 0

    async def _next(self, request: Request) -> Step:
        self.seen.append(request)
        if self.clock is not None:
            self.at.append(self.clock.monotonic())
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            if self.clock is not None:
                await self.clock.sleep(self.seconds)
        finally:
            self.busy -= 1
        step = self.steps.take() if self.steps else self.last
        if isinstance(step, Exception):
            raise step
        return step

    async def request(self, request: Request) -> Response:
        step = await self._next(request)
        assert isinstance(step, Response)
        return step

    async def stream(self, request: Request) -> ByteStream:
        step = await self._next(request)
        assert isinstance(step, Stream)
        return step

    async def close(self) -> None: ...


class Term:
    def __init__(self, clock: VirtualClock, until: float) -> None:
        self.clock = clock
        self.until = until

    def check(self) -> None:
        if self.clock.boottime() >= self.until:
            raise e.Fenced("the term is over")

    def deadline(self) -> float | None:
        return self.until + 5.0 - self.clock.boottime()


def rest_on(script: Script, clock: VirtualClock, **options: Any) -> Rest:
    options.setdefault("metrics", Metrics(clients=True, process=False))
    return Rest(script, clock=clock, rng=Random(1), host="cluster:443", **options)


def virtual(test: Callable[[VirtualClock], Any]) -> None:
    run_virtual(test)


async def patch(rest: Rest, name: str = "a", **options: Any) -> Response:
    return await rest.call("patch", "PATCH", PODS, namespace="ns", name=name, body=b"{}", **options)


async def get(rest: Rest, name: str = "a") -> Response:
    return await rest.call("get", "GET", PODS, namespace="ns", name=name)


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


# --- retries -----------------------------------------------------------------------------------------------------


def test_res2_429_replays_the_body_after_retry_after() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(
            failure(429, "TooManyRequests", {"retry-after": "3"}),
            failure(429, "TooManyRequests", {"retry-after": "Thu, 01 Jan 2026 00:00:20 GMT"}),
            OK,
            clock=clock,
        )
        rest = rest_on(script, clock)
        response = await rest.call("create", "POST", PODS, namespace="ns", body=b'{"a":1}')
        assert response.status == 200
        assert [r.body for r in script.seen] == [b'{"a":1}'] * 3
        assert 3.0 <= script.at[1] - script.at[0] <= 4.5
        assert script.at[2] >= 20.0

    virtual(main)


@pytest.mark.parametrize("code", [503, 504])
def test_res2_503_and_504_are_retried_for_reads_only(code: int) -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(failure(code), failure(code), OK)
        assert (await get(rest_on(script, clock))).status == 200
        assert len(script.seen) == 3
        script = Script(failure(code), OK)
        with pytest.raises(e.UnknownOutcome):
            await patch(rest_on(script, clock))
        assert len(script.seen) == 1

    virtual(main)


def test_res2_ten_tries_at_most() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(failure(429, headers={"retry-after": "1"}))
        with pytest.raises(e.TooManyRequests):
            await patch(rest_on(script, clock))
        assert len(script.seen) == 10
        assert clock.monotonic() <= 60

    virtual(main)


def test_res2_a_long_retry_after_goes_to_the_caller_at_once() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(failure(429, headers={"retry-after": "600"}))
        with pytest.raises(e.TooManyRequests) as caught:
            await patch(rest_on(script, clock))
        assert caught.value.status.retry_after == 600
        assert len(script.seen) == 1

    virtual(main)


def test_res2_too_large_resource_version_goes_straight_to_the_reflector() -> None:
    async def main(clock: VirtualClock) -> None:
        details = {"causes": [{"reason": "ResourceVersionTooLarge"}], "retryAfterSeconds": 1}
        script = Script(failure(504, "Timeout", details=details))
        with pytest.raises(e.TooLargeResourceVersion):
            await rest_on(script, clock).list_page(PODS, resource_version="99")
        assert len(script.seen) == 1

    virtual(main)


def test_res2_flow_uids_are_in_the_error_and_a_label() -> None:
    async def main(clock: VirtualClock) -> None:
        metrics = Metrics(clients=True, process=False)
        headers = {"x-kubernetes-pf-flowschema-uid": "fs-1", "x-kubernetes-pf-prioritylevel-uid": "pl-1"}
        script = Script(failure(429, headers={**headers, "retry-after": "600"}))
        with pytest.raises(e.TooManyRequests, match=r"fs-1.*pl-1"):
            await patch(rest_on(script, clock, metrics=metrics))
        labels = {"flow_schema": "fs-1", "priority_level": "pl-1"}
        assert metrics.registry.get_sample_value("kruise_rest_throttled_total", labels) == 1

    virtual(main)


# --- unknown outcome ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        e.Timeout("no answer"),
        e.Reset("broke"),
        e.Truncated("half"),
        failure(503, "ServiceUnavailable", {"retry-after": "1"}),
        failure(504, "Timeout"),
        Response(502, {"content-type": "text/html"}, b"<html>Bad Gateway</html>"),
        Response(200, {"content-type": "text/html"}, b"<html>log in</html>"),
    ],
)
@pytest.mark.parametrize(
    ("verb", "method"), [("create", "POST"), ("patch", "PATCH"), ("delete", "DELETE"), ("update", "PUT")]
)
def test_res3_a_write_without_a_trustworthy_answer_is_sent_once(step: Step, verb: str, method: str) -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(step, OK)
        name = "" if verb == "create" else "a"
        with pytest.raises(e.UnknownOutcome, match="read it live") as caught:
            await rest_on(script, clock).call(verb, method, PODS, namespace="ns", name=name, body=b"{}")
        assert len(script.seen) == 1
        assert isinstance(caught.value.cause, e.TransportError | e.ApiError)

    virtual(main)


def test_res3_what_was_not_sent_has_a_known_outcome() -> None:
    async def main(clock: VirtualClock) -> None:
        for error in (e.Refused("no listener"), e.Timeout("no connection", sent=False)):
            with pytest.raises(type(error)):
                await patch(rest_on(Script(error), clock))

    virtual(main)


def test_res3_a_read_raises_what_happened() -> None:
    async def main(clock: VirtualClock) -> None:
        for error in (e.Timeout("x"), e.Reset("x"), e.Refused("x")):
            with pytest.raises(type(error)):
                await get(rest_on(Script(error), clock))
        with pytest.raises(e.BadFrame):
            await get(rest_on(Script(Response(200, {}, b"<html>")), clock))

    virtual(main)


def test_res3_a_webhook_failure_is_a_plain_refusal() -> None:
    async def main(clock: VirtualClock) -> None:
        with pytest.raises(e.InternalError):
            await patch(rest_on(Script(failure(500, "InternalError")), clock))

    virtual(main)


# --- window, limiter ---------------------------------------------------------------------------------------------


def test_res1_no_limiter_by_default_and_never_for_the_lease() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script()
        rest = rest_on(script, clock)
        begun = clock.monotonic()
        for _ in range(500):
            await get(rest)
        assert clock.monotonic() == begun
        limited = rest_on(script, clock, limiter=RateLimiter(10, 1, clock=clock))
        lease = limited.named("leader-election", pool=Pool.LEASE)
        for _ in range(100):
            await get(lease)
        assert clock.monotonic() == begun
        for _ in range(11):
            await get(limited.named("c"))
        assert clock.monotonic() - begun == pytest.approx(1.0)

    virtual(main)


def test_res4_one_window_for_the_process_and_the_lease_is_exempt() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(clock=clock, seconds=10.0)
        rest = rest_on(script, clock)
        one, two = rest.named("one"), rest.named("two")
        assert one.window is two.window is rest.window
        async with asyncio.TaskGroup() as tasks:
            for i in range(40):
                tasks.create_task(patch((one, two)[i % 2], f"p{i}"))
            await clock.sleep(1)
            assert script.busy == 16
            await asyncio.wait_for(get(one), 11)
            script.seconds = 0.05
            begun = clock.monotonic()
            await patch(rest.named("leader-election", pool=Pool.LEASE))
            await patch(rest.named("events", windowed=False))
            assert clock.monotonic() - begun == pytest.approx(0.1)

    virtual(main)


def test_res4_owners_share_round_robin_by_context() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(clock=clock, seconds=1.0)
        rest = rest_on(script, clock, window=WriteWindow(clock, smallest=1, largest=1)).named("c")

        async def work(owner: str, count: int) -> None:
            write_owner.set(owner)
            async with asyncio.TaskGroup() as tasks:
                for i in range(count):
                    tasks.create_task(patch(rest, f"{owner}-{i}"))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work("big", 5))
            await clock.sleep(0.5)
            tasks.create_task(work("small", 2))
        assert [r.name for r in script.seen] == ["big-0", "big-1", "small-0", "big-2", "small-1", "big-3", "big-4"]

    virtual(main)


def test_res4_429_halves_the_window() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(OK)
        rest = rest_on(script, clock)
        while rest.window.size < 40:
            await patch(rest)
        script.steps.add(failure(429, headers={"retry-after": "1"}))
        await patch(rest)
        assert rest.window.size == 20
        assert rest.window.busy == 0

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


# --- fence -------------------------------------------------------------------------------------------------------


def test_cli9_a_mutating_call_needs_the_fence_and_a_read_does_not() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script()
        rest = rest_on(script, clock).named("c", fence=Term(clock, clock.boottime() + 10))
        await patch(rest)
        clock.suspend(10.5)
        with pytest.raises(e.Fenced):
            await patch(rest)
        await get(rest)
        assert [r.method for r in script.seen] == ["PATCH", "GET"]

    virtual(main)


def test_cli9_no_write_is_retried_after_the_term() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(failure(429, headers={"retry-after": "20"}), OK)
        rest = rest_on(script, clock).named("c", fence=Term(clock, clock.boottime() + 10))
        with pytest.raises(e.Fenced):
            await patch(rest)
        assert len(script.seen) == 1

    virtual(main)


def test_cli9_the_fence_is_asked_at_dispatch_not_while_waiting_for_a_slot() -> None:
    async def main(clock: VirtualClock) -> None:
        script = Script(clock=clock, seconds=20.0)
        rest = rest_on(script, clock, window=WriteWindow(clock, smallest=1, largest=1))
        fenced = rest.named("c", fence=Term(clock, clock.boottime() + 10))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(patch(rest))
            await clock.sleep(1)
            with pytest.raises(e.Fenced):
                await patch(fenced)
        assert len(script.seen) == 1

    virtual(main)


@pytest.mark.parametrize(
    ("renewed_at", "answered_at", "known"), [(None, 20.0, False), (8.0, 20.0, True), (8.0, 40.0, False)]
)
def test_lea7_a_write_on_the_wire_ends_with_the_term_and_each_renewal_moves_the_end(
    renewed_at: float | None, answered_at: float, known: bool
) -> None:
    """Rule 21: renew deadline (10 s) plus lease gap (5 s), moved by each renewal, at most 30 s in all."""

    async def main(clock: VirtualClock) -> None:
        term = Term(clock, clock.boottime() + 10)
        begun = clock.monotonic()

        async def renew() -> None:
            while renewed_at is not None:
                await clock.sleep(renewed_at)
                term.until = clock.boottime() + 10

        rest = rest_on(Script(clock=clock, seconds=answered_at), clock).named("c", fence=term)
        async with asyncio.TaskGroup() as tasks:
            renewals = tasks.create_task(renew())
            try:
                await patch(rest)
            except e.UnknownOutcome:
                assert not known
                assert clock.monotonic() - begun == pytest.approx(15.0 if renewed_at is None else 30.0, abs=0.1)
            else:
                assert known
            renewals.cancel()

    virtual(main)


def test_cli9_a_fence_without_time_left_sends_nothing() -> None:
    class Late:
        def check(self) -> None: ...

        def deadline(self) -> float | None:
            return 0.0

    async def main(clock: VirtualClock) -> None:
        script = Script()
        with pytest.raises(e.Fenced, match="patch pods ns/a"):
            await patch(rest_on(script, clock).named("c", fence=Late()))
        assert script.seen == []

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
