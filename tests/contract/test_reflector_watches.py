"""What a reflector promises of its watches against a server that fails: the scenarios of client-go's reflector tests,
told anew.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from kruise.runtime.cache.informer import Informer, Scope
from kruise.runtime.errors import ConfigError, Refused, Reset, Truncated
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.contract.reflector_play import listing, play, pods, watching
from tests.unit.cache.fake_server import World, running, status, story, until


@pytest.mark.parametrize("failure", [Refused("no"), status(429, "TooManyRequests")], ids=["refused", "429"])
def test_ref14_a_refused_watch_is_opened_again_without_a_list(failure: Exception) -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(3)
        w.server.fail("watch", failure, failure, failure)
        begun = w.clock.monotonic()
        w.server.stream.end()
        await until(lambda: len(w.server.verbs("watch")) == 5, timeout=60)
        assert w.clock.monotonic() - begun >= 0.8 + 1.6 + 3.2
        assert not w.server.verbs("list") and w.metric("kruise_informer_relists_total", reason="error") == 0
        assert informer.last_error is None

    play(main, prepare=pods("a"))


def test_ref14_retry_after_is_honoured() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(3)
        w.server.fail("watch", status(429, "TooManyRequests", retry_after=25.0))
        begun = w.clock.monotonic()
        w.server.stream.end()
        await until(lambda: len(w.server.verbs("watch")) == 3, timeout=60)
        assert w.clock.monotonic() - begun >= 25

    play(main, prepare=pods("a"))


@pytest.mark.parametrize("end", [b"", Truncated("half a line"), Reset("x")], ids=["eof", "truncated", "reset"])
def test_ref14_an_ended_watch_is_no_warning(end: Any) -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(3)
        with capture_logs() as logs:
            w.server.stream.feed(end)
            await until(lambda: len(w.server.verbs("watch")) == 2)
        assert [x for x in logs if x["log_level"] != "debug"] == []
        assert not w.server.verbs("watch")[-1].get("send_initial_events")

    play(main, prepare=pods("a"))


def test_ref14_internal_errors_end_in_a_list_after_a_minute() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(3)

        def internal() -> Exception | None:
            return status(500, "InternalError") if not w.server.verbs("watch")[-1].get("send_initial_events") else None

        w.server.always("watch", internal)
        w.server.stream.end()
        await until(lambda: len([c for c in w.server.verbs("watch") if c.get("send_initial_events")]) == 2, timeout=600)
        assert w.metric("kruise_informer_relists_total", reason="internal_error") == 1
        assert w.clock.monotonic() > 60

    play(main, prepare=pods("a"))


def test_ref15_a_silent_watch_is_replaced_after_70_s_at_the_same_version() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        begun = w.clock.monotonic()
        stalled = w.server.stream
        stalled.closed = True  # what the server sends gets lost; the client hears nothing
        w.server.put("b")
        stalled.closed = False
        await until(lambda: len(w.server.verbs("watch")) == 2, timeout=100)
        assert w.clock.monotonic() - begun == pytest.approx(70, abs=0.2)
        assert w.metric("kruise_informer_watch_stalls_total") == 1 and stalled.closed

    play(main, prepare=pods("a"))


def test_ref15_a_stream_that_dies_before_its_first_bookmark_is_caught_once_bookmarks_are_known() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await informer.synced()
        w.server.streaming = False
        other = w.informer(scopes=(Scope("default"),))
        async with running(other):
            await watching(other)
            begun = w.clock.monotonic()
            await until(lambda: w.metric("kruise_informer_watch_stalls_total") >= 2, timeout=100)
            assert w.clock.monotonic() - begun == pytest.approx(70, abs=0.5)

    play(main, prepare=pods("a"))


def test_ref15_a_server_without_bookmarks_is_not_reconnected_for_nothing() -> None:
    def prepare(w: World) -> None:
        listing(w)
        pods("a")(w)

    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(290)
        assert len(w.server.verbs("watch")) == 2, "the refused streaming list, and one watch"

    play(main, prepare=prepare)


def test_ref15_a_watch_that_outlives_its_timeout_is_closed_after_five_seconds() -> None:
    def prepare(w: World) -> None:
        listing(w)
        pods("a")(w)

    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        begun = w.clock.monotonic()
        await until(lambda: len(w.server.verbs("watch")) == 3, timeout=700)
        seconds = w.server.verbs("watch")[1]["timeout_seconds"]
        assert w.clock.monotonic() - begun == pytest.approx(seconds + 5, abs=1.1)
        assert w.metric("kruise_informer_watch_stalls_total") == 0

    play(main, prepare=prepare)


def test_ref16_timeout_seconds_are_drawn_per_watch_and_a_short_range_is_warned_of() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        drawn = {w.host.watch_seconds() for _ in range(2000)}
        assert min(drawn) == 300 and max(drawn) == 600
        with capture_logs() as logs:
            short = World(w.clock, watch_timeout=(5, 10))  # type: ignore[arg-type]
        assert [x["event"] for x in logs] == ["watches are shorter than usual"]
        assert {short.host.watch_seconds() for _ in range(100)} == set(range(5, 11))
        with pytest.raises(ConfigError):
            World(w.clock, watch_timeout=(10, 5))  # type: ignore[arg-type]

    play(main, run=False)


def test_ref16_each_watch_asks_for_a_length_of_its_own() -> None:
    def prepare(w: World) -> None:
        listing(w)
        pods("a")(w)

    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await until(lambda: len(w.server.verbs("watch")) >= 8, timeout=8 * 700)
        asked = [call["timeout_seconds"] for call in w.server.verbs("watch")]
        assert all(300 <= seconds <= 600 for seconds in asked) and len(set(asked)) >= 6

    play(main, prepare=prepare)


def test_ref20_a_forbidden_namespace_stops_no_other_and_shows_the_rule() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.put("a", "good")
        forbidden = status(403, "Forbidden", "no", verb="list", resource="pods", namespace="bad", group="")

        def only_bad() -> Exception | None:
            return forbidden if w.server.calls[-1].namespace == "bad" else None

        w.server.fail("watch", *[only_bad] * 10)
        informer = w.informer(scopes=(Scope("good"), Scope("bad")))
        informer.add_handler(w.told.append)
        async with running(informer):
            await until(lambda: story(w.told) == ["+a"])
            said = informer.describe()
            assert not said.synced and said.waiting == ("bad",)
            assert '{apiGroups: [""], resources: ["pods"], verbs: ["list"]}' in said.last_error
            await until(lambda: informer.has_synced, timeout=600)

    run_virtual(go)


def test_bak2_many_informers_wait_as_one() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.streaming = False
        w.server.always("list", Refused("down"))
        informers = [w.informer(scopes=(Scope(f"ns{i}"),)) for i in range(10)]
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(i.run()) for i in informers]
            await clock.sleep(60)
            for run in runs:
                run.cancel()
        rounds = {round(c.at, 2) for c in w.server.calls if c.verb == "list"}
        assert len(rounds) <= 10, f"ten informers asked at {len(rounds)} different moments"

    run_virtual(go)


def test_bak2_a_missing_right_of_one_kind_slows_nobody_else() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        w.server.fail("watch", *[status(403, "Forbidden")] * 8)
        await w.clock.sleep(100)
        assert w.host.backoff.base == 0.0
        await informer.synced()

    play(main)


def test_bak3_a_thousand_very_short_watches_make_few_requests() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        real = w.server.watch

        async def short(resource: Any, **args: Any) -> Any:
            stream = await real(resource, **args)
            stream.end()
            return stream

        w.server.watch = short  # type: ignore[method-assign]
        before = len(w.server.calls)
        await w.clock.sleep(3)
        w.server.stream.end()
        await w.clock.sleep(600)
        assert len(w.server.calls) - before <= 600 / 15, "the delay settles between 30 and 60 s"
        assert not w.server.verbs("list")
        w.server.watch = real  # type: ignore[method-assign]
        await until(lambda: bool(w.server.open_streams), timeout=100)

    play(main, prepare=pods("a"))


def test_fra2_fra5_a_frame_that_cannot_be_read_costs_a_list_and_not_the_stream() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(3)
        real = w.server.watch

        async def garbage(resource: Any, **args: Any) -> Any:
            stream = await real(resource, **args)
            stream.feed(b"<html>502</html>")
            return stream

        w.server.watch = garbage  # type: ignore[method-assign]
        w.server.stream.feed(b"<html>502</html>")
        await until(lambda: w.metric("kruise_informer_relists_total", reason="bad_frame") >= 1, timeout=30)
        w.server.watch = real  # type: ignore[method-assign]
        w.server.put("b")
        await until(lambda: w.names(informer) == ["a", "b"], timeout=100)

    play(main, prepare=pods("a"))


@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "paging"])
def test_fra5_an_unreadable_object_stops_neither_list_nor_watch(stream: bool) -> None:
    def prepare(w: World) -> None:
        w.server.streaming = stream
        pods("a", "z")(w)
        w.server.put("bad", spec={"size": "many"})

    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        assert w.names(informer) == ["a", "z"]
        assert [o.metadata.name for o in informer.store.unreadable()] == ["bad"]
        w.server.put("worse", spec={"nodeName": 5})
        w.server.put("good")
        await until(lambda: "good" in w.names(informer))
        assert [(o.metadata.name, o.path) for o in informer.store.unreadable()] == [
            ("bad", "$.spec.size"),
            ("worse", "$.spec.nodeName"),
        ]
        assert w.metric("kruise_informer_undecodable_total") == 2
        w.server.put("bad", spec={"size": 1})
        w.server.delete("worse")
        await until(lambda: informer.store.unreadable() == ())
        assert w.names(informer) == ["a", "bad", "good", "z"]

    play(main, prepare=prepare)


def test_cancellation_closes_the_connection_and_leaves_nothing_behind() -> None:
    async def go(clock: VirtualClock) -> None:
        for fault in (None, lambda: clock.sleep(1000), Refused("x"), status(404)):
            w = World(clock)
            w.server.served = fault is None or not isinstance(fault, Exception)
            w.server.fail("watch", fault)
            informer = w.informer()
            async with running(informer):
                await clock.sleep(5)
            assert not w.server.open_streams

    run_virtual(go)
