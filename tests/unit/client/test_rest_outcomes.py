"""rest.py over a scripted transport, on virtual time: what is sent again, what is unknown, and who may send when."""

from __future__ import annotations

import asyncio

import pytest

from kruise.runtime import errors as e
from kruise.runtime.client.limiter import RateLimiter
from kruise.runtime.client.transport import Pool, Response
from kruise.runtime.client.window import WriteWindow, write_owner
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing import VirtualClock
from tests.unit.client.rest_script import OK, PODS, Script, Step, failure, get, patch, rest_on, virtual


class Term:
    def __init__(self, clock: VirtualClock, until: float) -> None:
        self.clock = clock
        self.until = until

    def check(self) -> None:
        if self.clock.boottime() >= self.until:
            raise e.Fenced("the term is over")

    def deadline(self) -> float | None:
        return self.until + 5.0 - self.clock.boottime()


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
