"""What an informer promises its handlers: the scenarios of client-go's shared informer tests, told anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from kruise.runtime.cache.store import Change
from kruise.runtime.errors import ConfigError, SyncTimeout
from kruise.runtime.objects import Unreadable
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.unit.cache.fake_server import World, running, story, until


def test_inf1_every_handler_sees_the_same_story_and_the_store_already_has_it() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.put("a")
        informer = w.informer()
        other: list[Change[Any]] = []
        ahead: list[bool] = []
        informer.add_handler(w.told.append)
        informer.add_handler(other.append)
        informer.add_handler(lambda c: ahead.append(informer.store.raw(c.key) is c.new))
        async with running(informer):
            await informer.synced()
            w.server.put("b")
            w.server.put("a")
            w.server.delete("b")
            await w.settle()
        assert story(w.told) == story(other) == ["+a", "+b", "~a", "-b"] and all(ahead)
        assert [c.initial for c in w.told] == [True, False, False, False]
        assert w.told[3].final_state_known

    run_virtual(go)


def test_inf2_synced_means_that_this_handler_has_seen_the_whole_list() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        for i in range(1000):
            w.server.put(f"p{i}")
        informer = w.informer()
        registration = informer.add_handler(w.told.append)
        assert not registration.has_synced
        async with running(informer):
            await registration.synced()
            assert registration.has_synced and len(w.told) == 1000 and all(c.initial for c in w.told)

    run_virtual(go)


def test_inf2_an_empty_list_is_a_whole_list() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        informer = w.informer()
        registration = informer.add_handler(w.told.append)
        async with running(informer):
            await registration.synced()
            assert w.told == []
            late = informer.add_handler(w.told.append)
            assert late.has_synced

    run_virtual(go)


def test_inf2_whoever_waits_is_told_when_the_handler_or_the_informer_goes() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.served = False
        informer = w.informer()
        one, two = informer.add_handler(w.told.append), informer.add_handler(w.told.append)
        async with running(informer):
            await clock.sleep(1)
            await one.remove()
            with pytest.raises(SyncTimeout, match="removed"):
                await one.synced()
        with pytest.raises(SyncTimeout):
            await two.synced()
        with pytest.raises(SyncTimeout, match=r"pods: not synced, Missing.*could not find the requested resource"):
            await informer.synced()

    run_virtual(go)


def test_inf3_a_late_handler_gets_the_present_content_once_and_then_the_changes() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.put("a")
        w.server.put("bad", spec={"size": "x"})
        informer = w.informer()
        async with running(informer):
            await informer.synced()
            late = informer.add_handler(w.told.append)
            w.server.put("a")
            w.server.put("b")
            await late.synced()
            await w.settle()
            assert sorted(story(w.told)) == ["+a", "+b", "+bad", "~a"] or sorted(story(w.told)) == ["+a", "+b", "+bad"]
            assert next(c.initial for c in w.told if c.key.name == "a")
            assert isinstance(next(c.new for c in w.told if c.key.name == "bad"), Unreadable)

    run_virtual(go)


def test_inf3_a_handler_that_comes_while_a_replace_is_told_gets_nothing_twice() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        for i in range(2000):
            w.server.put(f"p{i}")
        informer = w.informer()
        late: list[Change[Any]] = []
        registrations: list[Any] = []

        def handler(change: Change[Any]) -> None:
            w.told.append(change)
            if len(w.told) == 700:
                registrations.append(informer.add_handler(late.append))

        informer.add_handler(handler)
        async with running(informer):
            await informer.synced()
            await registrations[0].synced()
            await w.settle()
            assert len(w.told) == 2000 and len(late) == 2000
            assert len({c.key for c in late}) == 2000 and all(c.initial for c in late)

    run_virtual(go)


def test_inf3_a_handler_that_is_added_by_a_handler_gets_nothing_twice() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.put("a")
        informer = w.informer()
        inner: list[Change[Any]] = []

        def outer(change: Change[Any]) -> None:
            if change.old is not None and change.new is None:
                informer.add_handler(inner.append)

        informer.add_handler(outer)
        async with running(informer):
            await informer.synced()
            await clock.sleep(2)
            stream = w.server.stream
            w.server.delete("a")
            w.server.put("a")
            assert stream.buffered()
            await w.settle()
            assert story(inner) == ["+a"]

    run_virtual(go)


def test_inf4_a_removed_handler_is_not_called_again_and_removal_is_awaited() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.put("a")
        informer = w.informer()
        gone = informer.add_handler(w.told.append)
        async with running(informer):
            await informer.synced()
            await gone.remove()
            assert informer.handlers == 0
            w.server.put("b")
            await w.settle()
            assert story(w.told) == ["+a"]
            late = informer.add_handler(w.told.append)
            await late.remove()
            await w.settle()
            assert story(w.told) == ["+a"], "a replay that was not told yet is dropped"

    run_virtual(go)


def test_inf4_stop_is_awaited_and_closes_the_watch() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        informer = w.informer()
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(informer.run())
            await informer.synced()
            await informer.stop()
            assert not w.server.open_streams
            await run
        with pytest.raises(RuntimeError, match="was run before"):
            await informer.run()
        assert informer.add_handler(w.told.append).pending == 0

    run_virtual(go)


def test_inf4_an_informer_without_users_stops_with_its_last_handler() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        informer = w.informer()
        registration = informer.add_handler(w.told.append)
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(informer.run())
            await informer.synced()
            await informer.release()
            await clock.sleep(1)
            assert not run.done()
            await registration.remove()
            await run
        assert not w.server.open_streams

    run_virtual(go)


class Busy:
    """A clock that a slow handler can move by hand."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.spent = 0.0

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.spent

    now = boottime = monotonic

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


def test_inf5_a_slow_handler_gets_the_net_change_and_stalls_nobody() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        for i in range(10):
            w.server.put(f"p{i}")
        busy = Busy(clock)
        w.host.clock = busy
        informer = w.informer()
        informer._clock = w.host.clock
        slow: list[Change[Any]] = []
        most = 0

        def handler(change: Change[Any]) -> None:
            nonlocal most
            slow.append(change)
            busy.spent += 0.2
            most = max(most, informer.pending)

        informer.add_handler(w.told.append)
        informer.add_handler(handler)
        async with running(informer):
            await informer.synced()
            await w.settle()
            w.told.clear()
            slow.clear()
            with capture_logs() as logs:
                for _ in range(40):
                    for i in range(10):
                        w.server.put(f"p{i}")
                w.server.put("brief")
                w.server.delete("brief")
                w.server.delete("p0")
                await until(lambda: len(w.told) >= 403 and informer.pending == 0)
            assert len(w.told) == 403, "the other handler saw every single event"
            assert most <= 11 and len(slow) < 200, "one entry per object, whatever the number of events"
            last = {c.key.name: c.new and c.new.resource_version for c in slow}
            assert last.pop("p0") is None
            last.pop("brief", None)
            assert last == {o.metadata.name: o.resource_version for o in informer.store.list()}
            assert {x["event"] for x in logs} == {"slow handler"} and logs[0]["seconds"] == 0.2

    run_virtual(go)


def test_inf5_a_million_events_take_no_memory_at_a_slow_handler() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        informer = w.informer()
        registration = informer.add_handler(w.told.append)
        w.server.put("a")
        async with running(informer):
            await informer.synced()
            obj = informer.store.list()[0]
            registration._spent = 1.0  # behind: every change goes to the map
            for _ in range(1_000_000):  # about a second
                registration.offer(Change(obj, obj))
            assert registration.pending == 1
            await until(lambda: registration.pending == 0)
            assert len(w.told) == 2

    run_virtual(go)


def test_inf6_an_exception_is_logged_counted_and_stops_nobody() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        informer = w.informer()

        def broken(change: Change[Any]) -> None:
            raise KeyError(change.key.name)

        bad = informer.add_handler(broken, name="mapper of jobs")
        informer.add_handler(w.told.append)
        async with running(informer):
            await informer.synced()
            with capture_logs() as logs:
                w.server.put("a")
                w.server.put("b")
                await w.settle()
            assert story(w.told) == ["+a", "+b"] and bad.errors == 2
            assert [(x["event"], x["handler"], x["count"]) for x in logs] == [
                ("handler raised", "mapper of jobs", 1),
                ("handler raised", "mapper of jobs", 2),
            ]

    run_virtual(go)


def test_inf6_a_failing_handler_is_synced_all_the_same() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.put("a")
        informer = w.informer()
        bad = informer.add_handler(lambda change: 1 / 0)  # type: ignore[arg-type, return-value]
        async with running(informer):
            await informer.synced()
            await bad.synced()
            late = informer.add_handler(lambda change: 1 / 0)  # type: ignore[arg-type, return-value]
            await late.synced()

    run_virtual(go)


def test_inf7_resync_is_off_unless_asked_for_and_makes_no_requests() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock, watch_timeout=(7000, 7200))
        w.server.put("a")
        w.server.put("b")
        informer = w.informer()
        resynced: list[tuple[float, Change[Any]]] = []
        informer.add_handler(w.told.append)
        informer.add_handler(lambda c: resynced.append((clock.monotonic(), c)), resync=100.0)
        with pytest.raises(ConfigError, match="shortest period is 1 s"):
            informer.add_handler(w.told.append, resync=0.5)
        async with running(informer):
            await informer.synced()
            w.host.saw_bookmark(w.server.resource)
            calls = len(w.server.calls)
            for _ in range(35):
                await clock.sleep(10)
                w.server.bookmark()
        again = [(at, c) for at, c in resynced if c.resync]
        assert len(w.told) == 2 and len(again) == 6 and all(c.old is c.new for _, c in again)
        gaps = {round(b[0] - a[0], 3) for a, b in zip(again[::2], again[2::2], strict=False)}
        assert all(100 <= g <= 110 for g in gaps) and len(gaps) > 1, "jittered"
        assert len(w.server.calls) == calls

    run_virtual(go)


def test_sto5_a_recreated_object_is_told_as_deleted_and_added_also_across_a_gap() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.put("a")
        informer = w.informer()
        informer.add_handler(w.told.append)
        async with running(informer):
            await informer.synced()
            await clock.sleep(2)
            w.server.stream.closed = True
            w.server.delete("a")
            w.server.put("a")
            w.server.compact()
            w.server.streams[-1].end()
            await until(lambda: len(w.told) == 3)
            assert story(w.told) == ["+a", "-a", "+a"]
            assert w.told[1].old.uid == w.told[0].new.uid != w.told[2].new.uid  # type: ignore[union-attr]

    run_virtual(go)


def test_fra6_a_transform_that_fails_costs_its_object_only() -> None:
    async def go(clock: VirtualClock) -> None:
        from kruise.runtime.cache.informer import Scope
        from kruise.runtime.objects import ObjectMeta
        from tests.unit.cache.fake_server import Pod

        def strip(pod: Pod) -> Pod:
            if pod.metadata.name == "evil":
                return Pod(metadata=ObjectMeta(name="evil"))
            return Pod(api_version=pod.api_version, kind=pod.kind, metadata=pod.metadata)

        w = World(clock)
        w.server.put("a", spec={"size": 3})
        w.server.put("evil", spec={"size": 3})
        informer = w.informer(scopes=(Scope(transform=strip),))
        async with running(informer):
            await informer.synced()
            assert [(o.metadata.name, o.spec) for o in informer.store.list()] == [("a", None)]
            (bad,) = informer.store.unreadable()
            assert bad.uid and bad.problem == "transform failed: ValueError"

    run_virtual(go)


def test_fra8_a_burst_of_events_is_applied_without_a_task_for_each() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        informer = w.informer()
        informer.add_handler(w.told.append)
        async with running(informer):
            await informer.synced()
            loop: Any = asyncio.get_running_loop()
            steps = loop.steps
            for i in range(2000):
                w.server.put(f"p{i}")
            await until(lambda: len(w.told) == 2000)
            assert loop.steps - steps < 400

    run_virtual(go)
