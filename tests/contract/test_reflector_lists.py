"""What a reflector promises of its lists against a server that fails: the scenarios of client-go's reflector tests,
told anew.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from kruise.runtime.cache.informer import Informer, Scope
from kruise.runtime.cache.states import Rules
from kruise.runtime.errors import ConfigError, Refused, Reset
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.contract.reflector_play import listing, play, pods, watching
from tests.unit.cache.fake_server import World, running, status, story, too_large, until


def test_ref1_the_store_follows_the_server_and_changes_of_an_object_come_in_order() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await informer.synced()
        w.server.put("b")
        w.server.put("a", spec={"size": 2})
        w.server.put("a", spec={"size": 3})
        w.server.delete("b")
        await w.settle()
        assert story(w.told) == ["+a", "+b", "~a", "~a", "-b"]
        assert [c.new.spec.size for c in w.told if c.old and c.new] == [2, 3]

    play(main, prepare=pods("a"))


@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "paging"])
def test_ref1_no_deletion_is_lost_in_a_gap(stream: bool) -> None:
    def prepare(w: World) -> None:
        w.server.streaming = stream
        pods("keep", "gone", "again", "changed")(w)

    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(5)
        w.told.clear()
        w.server.stream.closed = True  # nothing more arrives on this connection
        w.server.delete("gone")
        w.server.delete("again")
        w.server.put("again")
        w.server.put("changed")
        w.server.put("new")
        w.server.compact()
        w.server.streams[-1].end()
        await until(lambda: w.names(informer) == ["again", "changed", "keep", "new"])
        await w.settle()
        assert sorted(story(w.told)) == ["+again", "+new", "-again", "-gone", "~changed"]
        assert story(w.told)[:2] == ["-again", "-gone"] or story(w.told)[:2] == ["-gone", "-again"]
        assert all(not c.final_state_known for c in w.told if c.new is None)

    play(main, prepare=prepare)


def test_ref2_a_list_is_followed_to_its_end_and_the_next_page_is_fetched_meanwhile() -> None:
    def prepare(w: World) -> None:
        listing(w)
        for i in range(1300):
            w.server.put(f"p{i:05}")

    async def main(w: World, informer: Informer[Any]) -> None:
        await informer.synced()
        assert len(informer.store) == 1300
        assert [c.get("limit") for c in w.server.verbs("list")] == [500, 500, 500]
        assert [bool(c.get("continue_token")) for c in w.server.verbs("list")] == [False, True, True]
        assert all("resource_version" not in c for c in w.server.verbs("list"))

    play(main, prepare=prepare)


def test_ref2_the_look_ahead_is_one_page() -> None:
    asked: list[int] = []

    def prepare(w: World) -> None:
        listing(w)
        for i in range(5):
            w.server.put(f"p{i}")

    async def main(w: World, informer: Informer[Any]) -> None:
        real = informer.admit

        def admit(obj: Any, scope: str) -> Any:
            asked.append(len(w.server.verbs("list")))
            return real(obj, scope)

        informer.admit = admit  # type: ignore[method-assign]
        w.server.fail("list", None, lambda: w.clock.sleep(5), lambda: w.clock.sleep(5))
        async with running(informer):
            await informer.synced()
        assert asked[0] in (1, 2), "page 1 is decoded while page 2 is under way"
        assert asked[-1] == 5 and max(b - a for a, b in itertools.pairwise(asked)) <= 1

    play(main, prepare=prepare, run=False, rules=Rules(page_size=1))


@pytest.mark.parametrize("page", [2, 3])
def test_ref3_an_expired_page_restarts_once_as_a_full_list(page: int) -> None:
    def prepare(w: World) -> None:
        listing(w)
        for i in range(12):
            w.server.put(f"p{i}")
        w.server.fail("list", *[None] * (page - 1), status(410, "Expired"))

    async def main(w: World, informer: Informer[Any]) -> None:
        await informer.synced()
        assert len(informer.store) == 12
        assert len(w.server.verbs("list")) == page + 1 and w.server.verbs("list")[-1] == {}
        assert w.metric("kruise_informer_relists_total", reason="continue_expired") == 1

    play(main, prepare=prepare, rules=Rules(page_size=4))


def test_ref4_a_front_end_that_lags_behind_takes_nothing_back() -> None:
    def prepare(w: World) -> None:
        listing(w)
        pods("a", "b")(w)

    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(3)
        w.server.delete("b")
        await w.settle()
        assert w.names(informer) == ["a"]
        w.told.clear()
        w.server.stale_at = w.server.version - 1
        w.server.version += 1
        w.server.compact()
        w.server.stream.end()
        await w.clock.sleep(10)
        assert w.names(informer) == ["a"] and w.told == [], "the pod that was seen deleted must not come back"
        assert informer.describe().stale > 0
        assert w.metric("kruise_informer_relists_total", reason="stale") > 0
        w.server.stale_at = None
        w.server.put("c")
        await until(lambda: w.names(informer) == ["a", "c"])

    play(main, prepare=prepare)


def test_ref5_the_first_list_asks_for_the_newest_state() -> None:
    for prepare in (pods("a"), lambda w: (listing(w), pods("a")(w))):

        async def main(w: World, informer: Informer[Any]) -> None:
            await informer.synced()
            first = w.server.calls[0]
            assert "resource_version" not in first.args

        play(main, prepare=prepare)  # type: ignore[arg-type]


def test_ref5_a_list_of_any_version_is_for_metadata_only() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        with pytest.raises(ConfigError, match="metadata-only"):
            w.informer(rules=Rules(any_version=True))
        partial = w.informer(resource=w.server.resource.partial(), rules=Rules(any_version=True))
        async with running(partial):
            await partial.synced()
            assert w.server.verbs("list")[0] == {"resource_version": "0"}

    play(main, prepare=pods("a"), run=False)


@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "paging"])
def test_ref6_ref13_after_410_the_list_is_not_older_than_what_was_seen_and_nothing_is_logged(stream: bool) -> None:
    def prepare(w: World) -> None:
        w.server.streaming = stream
        pods("a")(w)

    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(3)
        seen = informer.store.version
        w.server.history.clear()
        w.server.version += 5
        w.server.compact()
        with capture_logs() as logs:
            w.server.stream.end()
            await until(lambda: informer.describe().phase == "Watching" and informer.store.version != seen)
        assert [x for x in logs if x["log_level"] != "debug"] == []
        last = w.server.verbs("watch" if stream else "list")[-1]
        assert last["resource_version"] == seen and last["resource_version_match"] == "NotOlderThan"
        assert "limit" not in last
        assert w.metric("kruise_informer_relists_total", reason="expired") == 1

    play(main, prepare=prepare)


def test_ref13_a_410_event_ends_the_watch_and_lists_again() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(3)
        w.server.stream.send("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
        before = len(w.server.verbs("watch"))
        await until(lambda: len(w.server.verbs("watch")) == before + 1)
        assert w.server.verbs("watch")[-1]["send_initial_events"]

    play(main, prepare=pods("a"))


def test_ref7_a_version_that_the_server_lacks_is_not_asked_for_again() -> None:
    def prepare(w: World) -> None:
        listing(w)
        pods("a")(w)

    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        await w.clock.sleep(3)
        w.server.fail("watch", status(410, "Expired"))
        w.server.fail("list", too_large())
        w.server.stream.end()
        await until(lambda: len(w.server.verbs("list")) == 3)
        assert "resource_version" in w.server.verbs("list")[1]
        assert w.server.verbs("list")[2] == {"limit": 500}
        assert w.server.calls[-1].at - w.server.calls[-2].at >= 0.8 or w.server.calls[-2].verb == "list"

    play(main, prepare=prepare)


def test_ref8_a_streaming_list_is_the_default_and_its_connection_goes_on() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await informer.synced()
        assert w.server.verbs("list") == []
        (ask,) = w.server.verbs("watch")
        assert ask["send_initial_events"] and ask["resource_version_match"] == "NotOlderThan" and ask["bookmarks"]
        w.server.put("b")
        await w.settle()
        assert w.names(informer) == ["a", "b"] and len(w.server.verbs("watch")) == 1

    play(main, prepare=pods("a"))


@pytest.mark.parametrize(
    ("mode", "reason", "seconds"), [("silent", "no_progress", 30), ("ends", "ended", 0), (False, "unsupported", 0)]
)
def test_ref9_ref10_a_server_without_streaming_lists_is_listed_and_remembered(
    mode: Any, reason: str, seconds: float
) -> None:
    def prepare(w: World) -> None:
        w.server.streaming = mode
        pods("a")(w)

    async def main(w: World, informer: Informer[Any]) -> None:
        await informer.synced()
        assert w.clock.monotonic() == pytest.approx(seconds, abs=0.1)
        assert w.metric("kruise_informer_watchlist_fallback_total", reason=reason) == 1
        await watching(informer)
        await w.clock.sleep(3)
        w.server.compact()
        w.server.version += 1
        w.server.compact()
        w.server.stream.end()
        await until(lambda: len(w.server.verbs("list")) == 2)
        await watching(informer)
        streamed = [c for c in w.server.verbs("watch") if c.get("send_initial_events")]
        assert len(streamed) == 1, "the verdict is remembered"
        await w.clock.sleep(3)
        w.server.git_version = "v1.34.0"
        w.server.streaming = True
        w.server.version += 1
        w.server.compact()
        w.server.stream.end()
        await until(lambda: len([c for c in w.server.verbs("watch") if c.get("send_initial_events")]) == 2)
        assert len(w.server.verbs("list")) == 2, "another version of the server is asked again"

    play(main, prepare=prepare)


def test_ref10_the_verdict_holds_for_all_informers_of_the_resource() -> None:
    def prepare(w: World) -> None:
        listing(w)
        w.server.put("a", "one")
        w.server.put("b", "two")

    async def main(w: World, informer: Informer[Any]) -> None:
        async with running(informer):
            await informer.synced()
            other = w.informer(scopes=(Scope("one"),))
            async with running(other):
                await other.synced()
        assert len([c for c in w.server.verbs("watch") if c.get("send_initial_events")]) == 1

    play(main, prepare=prepare, run=False)


def test_ref11_a_streaming_list_that_breaks_half_way_starts_again_where_it_started() -> None:
    def prepare(w: World) -> None:
        w.server.streaming = "silent"
        pods("a", "b")(w)

    async def main(w: World, informer: Informer[Any]) -> None:
        await until(lambda: informer.describe().page == 2)
        assert informer.store.version == "" and len(informer.store) == 0 and w.told == []
        w.server.streaming = True
        w.server.stream.feed(Reset("cut"))
        await informer.synced()
        assert [c.get("resource_version") for c in w.server.verbs("watch")] == [None, None]
        assert w.names(informer) == ["a", "b"]

    play(main, prepare=prepare)


def test_ref11_an_object_that_is_deleted_while_the_list_streams_in_is_not_in_it() -> None:
    def prepare(w: World) -> None:
        w.server.streaming = "silent"
        pods("a", "b")(w)

    async def main(w: World, informer: Informer[Any]) -> None:
        await until(lambda: informer.describe().page == 2)
        w.server.put("b", spec={"size": 5})
        w.server.delete("a")
        await w.settle()
        w.server.stream.send("BOOKMARK", w.server._bookmark(w.server.version, end=True))
        await informer.synced()
        assert [(o.metadata.name, o.spec.size) for o in informer.store.list()] == [("b", 5)]
        assert story(w.told) == ["+b"]

    play(main, prepare=prepare)


def test_ref12_a_bookmark_moves_the_store_and_the_next_watch() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        await watching(informer)
        w.server.version = 900
        w.server.bookmark()
        await informer.store.at_least("900", 1.0)
        await w.clock.sleep(2)
        w.server.stream.end()
        await until(lambda: len(w.server.verbs("watch")) == 2)
        assert w.server.verbs("watch")[-1]["resource_version"] == "900"

    play(main, prepare=pods("a"))


def test_sto3_after_a_relist_deletions_come_first_and_others_run_between_the_chunks() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        begun = asyncio.Event()
        await informer.add_handler(lambda _: begun.set()).synced()
        await informer.synced()
        w.told.clear()
        begun.clear()
        w.server.fail("watch", status(410, "Expired"))
        w.server.stream.end()
        for i in range(400):
            w.server.delete(f"old{i}")
            w.server.put(f"new{i}")
        await begun.wait()
        steps = [0, len(w.told)]
        while len(w.told) < 800:
            await w.clock.sleep(0)
            steps.append(len(w.told))
        grown = [later - before for before, later in itertools.pairwise(steps)]
        assert max(grown) <= 256 and sum(1 for n in grown if n) >= 4, "no step tells more than one chunk"
        assert [line[0] for line in story(w.told)] == ["-"] * 400 + ["+"] * 400

    play(main, prepare=pods(*(f"old{i}" for i in range(400))))


@pytest.mark.parametrize(
    "failure", [Refused("no"), status(500), status(403, "Forbidden"), RuntimeError("odd")], ids=str
)
def test_ref17_a_failing_first_list_is_tried_for_ever_with_back_off(failure: Exception) -> None:
    def prepare(w: World) -> None:
        listing(w)
        pods("a")(w)
        w.server.fail("list", *[lambda: type(failure)(getattr(failure, "status", str(failure)))] * 40)

    async def main(w: World, informer: Informer[Any]) -> None:
        with capture_logs():
            await w.clock.sleep(300)
        calls = len(w.server.verbs("list"))
        assert 10 < calls < 20, "800 ms, doubled up to 30 s"
        assert not informer.has_synced and str(failure) in informer.describe().last_error
        with capture_logs():
            await informer.synced()
        await watching(informer)
        assert informer.describe().last_error == ""

    play(main, prepare=prepare)


def test_ref18_two_relists_at_a_time_with_jitter() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.streaming = False
        w.server.put("a")
        informers = [w.informer(scopes=(Scope("default", label_selector=f"x={i}"),)) for i in range(8)]
        at_once = most = 0
        begun: list[float] = []

        async def slow() -> None:
            nonlocal at_once, most
            begun.append(clock.monotonic())
            at_once += 1
            most = max(most, at_once)
            await clock.sleep(1)
            at_once -= 1

        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(i.run()) for i in informers]
            for informer in informers:
                await watching(informer)
            await clock.sleep(5)
            w.server.version += 1
            w.server.compact()
            w.server.fail("list", *[slow] * 8)
            for stream in w.server.open_streams:
                stream.end()
            await until(lambda: len(begun) == 8, timeout=30)
            await clock.sleep(2)
            for run in runs:
                run.cancel()
        assert most == 2 and begun[0] != begun[1]

    run_virtual(go)


def test_ref18_a_relist_that_waits_holds_no_permit() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock, relist_limit=1)
        w.server.streaming = False
        w.server.put("a")
        stuck, other = w.informer(scopes=(Scope("one"),)), w.informer(scopes=(Scope("default"),))
        async with running(stuck), running(other):
            await watching(stuck)
            await watching(other)
            await clock.sleep(5)
            w.server.version += 1
            w.server.compact()

            def only_one() -> Exception | None:
                return status(403, "Forbidden") if w.server.calls[-1].namespace == "one" else None

            w.server.always("list", only_one)
            w.server.open_streams[0].end()
            await until(lambda: stuck.last_error is not None)
            w.server.open_streams[-1].end()
            await until(
                lambda: other.describe().phase == "Watching" and other.store.version == str(w.server.version), timeout=5
            )
            assert stuck.last_error is not None

    run_virtual(go)


def test_ref19_metadata_only_asks_for_partial_objects() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        asked: list[Any] = []
        real = w.server.watch

        async def watch(resource: Any, **args: Any) -> Any:
            asked.append(resource)
            return await real(resource, **args)

        w.server.watch = watch  # type: ignore[method-assign]
        partial = w.informer(resource=w.server.resource.partial())
        async with running(partial):
            await partial.synced()
            assert asked[0].metadata_only, "the REST client chooses the Accept header by this"
            assert w.names(partial) == ["a"]

    play(main, prepare=pods("a"), run=False)


def test_ref19_partial_objects_as_the_server_sends_them_are_read() -> None:
    async def main(w: World, informer: Informer[Any]) -> None:
        partial = w.informer(resource=w.server.resource.partial())
        async with running(partial):
            await partial.synced()
            meta = {"name": "b", "namespace": "default", "uid": "u", "resourceVersion": "999"}
            w.server.stream.feed(
                json.dumps(
                    {
                        "type": "ADDED",
                        "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta},
                    }
                ).encode()
            )
            await until(lambda: w.names(partial) == ["a", "b"])

    play(main, prepare=pods("a"), run=False)
