"""The whole manager against the embedded API server, in virtual time: phases, stops, parts that fail or come later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from kruise.runtime.clock import Random
from kruise.runtime.controller.builder import Builder
from kruise.runtime.controller.reconcile import Done, Needs, Result
from kruise.runtime.errors import ConfigError, Fenced, LeadershipLost
from kruise.runtime.manager.debug import DebugOptions
from kruise.runtime.manager.manager import Manager, ManagerOptions
from kruise.runtime.manager.phases import Phase
from kruise.runtime.objects import Key, Object, Resource
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from tests.unit.manager.manager_world import MAPS, QUIET, Part, Work, api, holder, idle, make, stopped


class Widget(Object, frozen=True, kw_only=True, rename="camel"):
    pass


WIDGETS = Resource("example.com", "v1", "Widget", "widgets", Widget, custom=True)


# MAN1, MAN2


def test_man1_man2_parts_start_and_stop_in_the_order_of_their_phases() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        told: list[str] = []

        class Watcher(Interceptor):
            async def request(self, call: Call, proceed: Proceed) -> Answer:
                if "/configmaps" in call.path and "first list" not in told:
                    told.append("first list")
                if "/leases" in call.path and call.method == "POST":
                    told.append("took the lease")
                if "/leases" in call.path and b'"holderIdentity":""' in (call.body or b""):
                    told.append("released the lease")
                if "/events" in call.path and b"stopped leading" in (call.body or b""):
                    told.append("last event")
                return await proceed()

        server.faults = Watcher()
        manager = make(server, clock)
        manager.cache.watch(MAPS)
        manager.add(Part("leader", Needs.LEADER, told))
        manager.add(Part("warmup", Needs.WARMUP, told))
        manager.add(Part("others", Needs.ALWAYS, told))
        manager.add(Part("caches", Needs.ALWAYS, told), phase=Phase.CACHES)
        manager.add(Part("webhooks", Needs.ALWAYS, told), phase=Phase.WEBHOOKS)
        manager.add(Part("http", Needs.ALWAYS, told), phase=Phase.HTTP_SERVERS)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: "leader began" in told, clock)
            await clock.sleep(1)
            assert [x for x in told if x != "first list"] == [
                "http began",
                "webhooks began",
                "caches began",
                "others began",
                "warmup began",
                "took the lease",
                "leader began",
            ]
            assert told.index("webhooks began") < told.index("first list") < told.index("others began")
            told.clear()
            await stopped(manager, task)
        order = ["warmup", "others", "leader", "caches", "webhooks", "http"]
        assert [x for x in told if x.endswith("ended")] == [f"{name} ended" for name in order]
        assert told.index("leader ended") < told.index("released the lease")
        assert told.index("released the lease") < told.index("http ended"), "beside the rest, not after it (MAN2)"
        assert "last event" in told and holder(server) == ""

    run_virtual(main)


# MAN3


def test_man3_reconciles_under_way_finish_before_the_lease_is_released() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock)
        began, finished = asyncio.Event(), []

        async def reconcile(key: Key) -> Result:
            began.set()
            await clock.sleep(12)
            assert holder(server) == "m7", "the lease is renewed as long as its work lasts"
            finished.append(clock.monotonic())
            return Done()

        manager.add(Builder(manager, "maps").for_(MAPS).build(reconcile))
        server.create(MAPS, {"metadata": {"name": "a"}})
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await began.wait()
            await stopped(manager, task)
        assert len(finished) == 1 and clock.monotonic() - finished[0] < 1
        assert holder(server) == ""

    run_virtual(main)


def test_man3_the_stop_is_bounded_and_names_who_missed_it(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock, graceful_shutdown=5.0)
        began = asyncio.Event()

        async def never_ending_reconcile(key: Key) -> Result:
            began.set()
            await clock.sleep(10_000)
            return Done()

        manager.add(Builder(manager, "maps").for_(MAPS).build(never_ending_reconcile, timeout=20_000))
        server.create(MAPS, {"metadata": {"name": "a"}})
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await began.wait()
            at = clock.monotonic()
            await stopped(manager, task)
        assert 5.0 <= clock.monotonic() - at < 7.0
        assert holder(server) == "", "its work has returned, so the lease is free"

    run_virtual(main)
    out = capsys.readouterr().err
    assert "a job did not stop in time" in out and "job=maps" in out


@pytest.mark.parametrize("with_abort", [True, False])
def test_man3_a_job_that_ignores_its_cancellation_ends_the_process(
    with_abort: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        release, codes = asyncio.Event(), []

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        def abort(code: int) -> None:
            codes.append(code)
            release.set()

        manager = make(server, clock, graceful_shutdown=2.0, abort=abort if with_abort else None)
        manager.add(Work("stubborn", stubborn))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: manager.leading, clock)
            manager.stop()
            await clock.sleep(9)
            assert codes == ([1] if with_abort else [])
            assert with_abort or (not task.done() and holder(server) == "m7"), "its work still runs: no release"
            release.set()
            await task

    run_virtual(main)
    out = capsys.readouterr().err
    assert "jobs ignore their cancellation" in out and "stubborn (leader election) at" in out


def test_man3_lea11_a_lost_lease_leaves_no_grace_and_ends_the_run() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock, "a")
        asked_to_end: list[float] = []

        class Slow:
            name, needs = "slow", Needs.LEADER

            async def run(self) -> None:
                try:
                    await idle()
                finally:
                    asked_to_end.append(clock.monotonic())

            def stop(self) -> None:
                raise AssertionError("there is no graceful stop after a lost lease")

        manager.add(Slow())
        async with asyncio.TaskGroup() as group:
            task = group.create_task(lost(manager))
            await eventually(lambda: manager.leading, clock)
            renewed = clock.monotonic()
            server.faults = Partition()
            await task
        assert 9.9 <= asked_to_end[0] - renewed <= 13
        assert clock.monotonic() - asked_to_end[0] < 6, "only the bounded drain of events follows"
        assert holder(server) == "a", "not released"
        with pytest.raises(Fenced):
            await manager.client_for("x").create(MAPS, {"metadata": {"name": "b", "namespace": "default"}})

    run_virtual(main)


class Partition(Interceptor):
    async def request(self, call: Call, proceed: Proceed) -> Answer:
        await idle()
        raise AssertionError


async def lost(manager: Manager) -> None:
    with pytest.raises(LeadershipLost, match="leader election lost"):
        await manager.run()


def test_man3_lea11_work_that_ignores_the_lost_lease_is_known_at_once() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        codes: list[float] = []
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        def abort(code: int) -> None:
            codes.append(clock.monotonic())
            release.set()

        manager = make(server, clock, "a", abort=abort)
        manager.add(Work("stubborn", stubborn))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(lost(manager))
            await eventually(lambda: manager.leading, clock)
            at = clock.monotonic()
            server.faults = Partition()
            await task
        assert codes and codes[0] - at < 16, "the process ends before the next one leads"

    run_virtual(main)


def test_man3_a_stop_during_the_start_ends_it() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        server.faults = Partition()
        manager = make(server, clock)
        manager.cache.watch(MAPS)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await clock.sleep(10)
            await stopped(manager, task)
        assert clock.monotonic() < 20

    run_virtual(main)


def test_man3_cancelling_the_run_stops_it_in_order() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        told: list[str] = []
        manager = make(server, clock)
        manager.add(Part("leader", Needs.LEADER, told))
        manager.add(Part("http", Needs.ALWAYS, told), phase=Phase.HTTP_SERVERS)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: "leader began" in told, clock)
            task.cancel()
        assert task.cancelled() and told[-2:] == ["leader ended", "http ended"] and holder(server) == ""

    run_virtual(main)


def test_man3_an_event_of_the_caller_stops_it_and_a_manager_runs_once() -> None:
    async def main(clock: VirtualClock) -> None:
        stop = asyncio.Event()
        manager = make(api(clock), clock)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run(stop=stop))
            await eventually(lambda: manager.leading, clock)
            stop.set()
            await task
        with pytest.raises(RuntimeError, match="runs once"):
            await manager.run()

    run_virtual(main)


# MAN5


@pytest.mark.parametrize("needs", list(Needs))
def test_man5_lea6_a_job_that_fails_stops_the_manager_and_releases_the_lease(needs: Needs) -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock)

        async def fails() -> None:
            await clock.sleep(5)
            raise ValueError("broken")

        manager.add(Work("bad", fails, needs))
        with pytest.raises(ValueError, match="broken"):
            await manager.run()
        assert holder(server) == "" and 5 <= clock.monotonic() < 8

    run_virtual(main)


@pytest.mark.parametrize(
    ("error", "stack"), [(ConfigError("--metrics-addr=:1: choose another"), False), (ValueError("broken"), True)]
)
def test_man5_what_a_person_must_set_right_is_one_line_in_the_log(error: Exception, stack: bool) -> None:
    async def main(clock: VirtualClock) -> None:
        manager = make(api(clock), clock)

        async def fails() -> None:
            raise error

        manager.add(Work("bad", fails, Needs.ALWAYS))
        with capture_logs() as lines, pytest.raises(type(error)):
            await manager.run()
        (line,) = (one for one in lines if one["event"] == "a job failed, the manager stops")
        assert ("exc_info" in line) is stack
        assert stack or line["error"] == str(error)

    run_virtual(main)


def test_man5_ctl10_a_controller_that_waits_for_its_kind_stops_nobody() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock)
        seen: list[Key] = []

        async def reconcile(key: Key) -> Result:
            seen.append(key)
            return Done()

        manager.add(Builder(manager, "widgets").for_(WIDGETS).build(reconcile))
        manager.add(Builder(manager, "maps").for_(MAPS).build(reconcile))
        server.create(MAPS, {"metadata": {"name": "a"}})
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: seen, clock)
            ready = manager.health.ready
            assert not ready.one("controller-widgets").ok and ready.one("controller-maps").ok
            assert "widgets.example.com" in ready.all(verbose=True).text
            assert manager.health.alive.all().ok, "waiting is no reason to be restarted"
            await clock.sleep(600)
            assert not task.done()
            await stopped(manager, task)

    run_virtual(main)


# MAN6


def test_man6_what_is_added_later_joins_its_phase() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        told: list[str] = []
        a, b = make(server, clock, "a"), make(server, clock, "b", seed=8)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(a.run())
            await eventually(lambda: a.leading, clock)
            second = group.create_task(b.run())
            await clock.sleep(5)
            for manager, name in ((a, "a"), (b, "b")):
                manager.add(Part(f"{name} leader", Needs.LEADER, told))
                manager.add(Part(f"{name} always", Needs.ALWAYS, told))
            await clock.sleep(1)
            assert sorted(told) == ["a always began", "a leader began", "b always began"]
            await stopped(a, first)
            await eventually(lambda: "b leader began" in told, clock)
            await stopped(b, second)
        with pytest.raises(RuntimeError, match="late cannot start"):
            a.add(Part("late", Needs.ALWAYS, told))

    run_virtual(main)


def test_man6_a_controller_can_be_added_while_the_manager_leads() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock)
        seen: list[Key] = []

        async def reconcile(key: Key) -> Result:
            seen.append(key)
            return Done()

        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: manager.leading, clock)
            manager.add(Builder(manager, "maps").for_(MAPS).build(reconcile))
            server.create(MAPS, {"metadata": {"name": "a"}})
            await eventually(lambda: seen == [Key("default", "a")], clock)
            await stopped(manager, task)

    run_virtual(main)


# MAN7, MAN8


def test_man7_two_managers_share_nothing() -> None:
    async def main(clock: VirtualClock) -> None:
        one_api, two_api = api(clock), api(clock)
        one, two = make(one_api, clock), make(two_api, clock, seed=8)
        assert one.metrics is not two.metrics and one.metrics.registry is not two.metrics.registry
        assert one.cache is not two.cache and one.client is not two.client and one.health is not two.health

        async def reconcile(key: Key) -> Result:
            return Done()

        for manager in (one, two):
            manager.add(Builder(manager, "maps").for_(MAPS).build(reconcile))
        one_api.create(MAPS, {"metadata": {"name": "only-in-one"}})
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(m.run()) for m in (one, two)]
            await eventually(lambda: one.leading and two.leading, clock)
            await clock.sleep(5)
            assert len(one.cache.list(MAPS)) == 1 and len(two.cache.list(MAPS)) == 0
            text = [m.metrics.render().decode() for m in (one, two)]
            sample = 'controller_runtime_reconcile_total{controller="maps",result="success"} '
            assert f"{sample}1.0" in text[0] and f"{sample}0.0" in text[1]
            await stopped(one, tasks[0])
            assert two.leading
            await stopped(two, tasks[1])

    run_virtual(main)


def test_con1_writes_of_a_reconcile_hold_its_key_back() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock)
        client = manager.client_for("maps")
        seen_own: list[bool] = []

        async def reconcile(key: Key) -> Result:
            child = Key(key.namespace, f"{key.name}-child")
            if key.name != "a":
                return Done()
            if not seen_own:
                seen_own.append(False)
                await client.create(MAPS, {"metadata": {"name": child.name, "namespace": child.namespace}})
                obj = manager.cache.get(MAPS, key)
                assert obj is not None
                await client.patch(MAPS, obj, {"data": {"x": "y"}})
            else:
                seen_own.append(manager.cache.get(MAPS, child) is not None)
            return Done()

        manager.add(Builder(manager, "maps").for_(MAPS).build(reconcile))
        server.create(MAPS, {"metadata": {"name": "a"}})
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: len(seen_own) >= 2, clock)
            await clock.sleep(5)
            assert seen_own[1:] and all(seen_own[1:])
            assert 'kruise_consistency_timeouts_total{controller="maps"} 0.0' in manager.metrics.render().decode()
            await stopped(manager, task)

    run_virtual(main)


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"health_address": "x"}, "--health-probe-addr=x"),
        ({"sync_timeout": 0.0}, "--controller-cache-sync-timeout=0s"),
        ({"shutdown_delay": -1.0}, "--shutdown-delay=-1s"),
        ({"watch_timeout": (600, 300)}, "watch_timeout=600,300"),
        ({"field_validation": "strict"}, "field_validation=strict"),
        ({"leader_election_id": ""}, "--leader-election-id"),
        ({"debug": DebugOptions(enabled=True, address="x")}, "--pprof-addr=x"),
    ],
)
def test_man1_options_that_cannot_work_are_refused_by_name(options: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ManagerOptions(**options)
    assert flag in str(raised.value)


def test_lea10_an_unnamed_manager_has_an_identity_of_its_own() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        one = Manager(server.transport(), ManagerOptions(**QUIET), clock=clock, rng=Random(1))
        two = Manager(server.transport(), ManagerOptions(**QUIET), clock=clock, rng=Random(2))
        assert one.identity != two.identity and "_" in one.identity

    run_virtual(main)
