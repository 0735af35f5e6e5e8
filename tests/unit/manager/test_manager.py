"""The whole manager against the embedded API server, in virtual time; its ports and signals on a real loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from structlog.testing import capture_logs

from kruise.runtime.client.limiter import RateLimiter
from kruise.runtime.client.transport import ByteStream, Pool, Request, Response, Transport
from kruise.runtime.clock import Clock, Random, SystemClock
from kruise.runtime.controller.builder import Builder
from kruise.runtime.controller.reconcile import Done, Needs, Result
from kruise.runtime.errors import ConfigError, Fenced, LeadershipLost, NotFound
from kruise.runtime.manager import manager as manager_module
from kruise.runtime.manager import process
from kruise.runtime.manager.debug import DebugOptions
from kruise.runtime.manager.manager import Manager, ManagerOptions
from kruise.runtime.manager.metrics_server import MetricsOptions
from kruise.runtime.manager.phases import Phase
from kruise.runtime.manager.process import Signals, loop_factory
from kruise.runtime.objects import Key, Object, Resource
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from kruise.simulator.apiserver.server import ApiServer


class ConfigMap(Object, frozen=True, kw_only=True, rename="camel"):
    data: dict[str, str] = msgspec.field(default_factory=dict)


class Widget(Object, frozen=True, kw_only=True, rename="camel"):
    pass


MAPS = Resource("", "v1", "ConfigMap", "configmaps", ConfigMap)
WIDGETS = Resource("example.com", "v1", "Widget", "widgets", Widget, custom=True)

QUIET: dict[str, Any] = {"metrics": MetricsOptions("0"), "health_address": "0", "freeze_heap": False}


def api(clock: Clock) -> ApiServer:
    server = ApiServer(clock, Random(1))
    server.ensure_namespace("kruise-system")
    return server


def make(
    server: ApiServer, clock: Clock, who: str = "", *, seed: int = 7, abort: Any = None, **options: Any
) -> Manager:
    made = ManagerOptions(**{**QUIET, "identity": who or f"m{seed}", **options})
    return Manager(server.transport(who), made, clock=clock, rng=Random(seed), abort=abort)


class Part:
    """A runnable that tells when it began and ended."""

    def __init__(self, name: str, needs: Needs, told: list[str]) -> None:
        self.name = name
        self.needs = needs
        self._told = told

    async def run(self) -> None:
        self._told.append(f"{self.name} began")
        try:
            await asyncio.Event().wait()
        finally:
            self._told.append(f"{self.name} ended")


class Work:
    """Any coroutine function as a runnable."""

    def __init__(self, name: str, run: Callable[[], Awaitable[None]], needs: Needs = Needs.LEADER) -> None:
        self.name = name
        self.needs = needs
        self._run = run

    async def run(self) -> None:
        await self._run()


async def idle() -> None:
    await asyncio.Event().wait()


def holder(server: ApiServer) -> str:
    lease = server.get("leases.coordination.k8s.io", "kruise-manager", "kruise-system")
    return str((lease or {}).get("spec", {}).get("holderIdentity", ""))


async def stopped(manager: Manager, task: asyncio.Task[None]) -> None:
    manager.stop()
    await task


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


def test_man1_hea1_startup_and_readiness_follow_the_phases() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock)
        manager.cache.watch(MAPS)
        assert not manager.health.started.all().ok and not manager.health.ready.all().ok
        assert manager.health.alive.all().ok
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: manager.health.ready.all().ok, clock)
            assert manager.health.started.all().ok
            assert "configmaps: synced" in manager.health.ready.all(verbose=True).text
            await stopped(manager, task)

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


# MAN4


async def test_man4_the_second_signal_ends_the_process_at_once() -> None:
    asked, codes, dumps = [], [], []
    signals = Signals(stop=asked.append, dump=lambda: dumps.append(1), abort=codes.append)
    signals.install()
    try:
        for number, want in ((signal.SIGUSR1, ([], [], [1])), (signal.SIGTERM, (["SIGTERM"], [], [1])),
                             (signal.SIGINT, (["SIGTERM"], [1], [1]))):  # fmt: skip
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)
            assert (asked, codes, dumps) == want
    finally:
        signals.remove()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_man4_sigterm_stops_in_order_and_sigusr1_dumps(capsys: pytest.CaptureFixture[str]) -> None:
    clock = SystemClock()
    server = api(clock)
    manager = make(server, clock)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(manager.run())
        manager.install_signal_handlers()
        await eventually(lambda: manager.leading, clock, 5, every=0.01)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert holder(server) == ""
    out = capsys.readouterr().err
    assert "report=leader" in out and "report=tasks" in out and "SIGTERM" in out
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


# LEA5


def test_lea5_tra2_the_lease_of_a_manager_has_its_own_pool_which_no_limit_of_requests_slows() -> None:
    class Seen:
        """Remembers the pool of each request for a lease."""

        def __init__(self, inner: Transport) -> None:
            self.inner = inner
            self.pools: list[tuple[str, Pool]] = []

        async def request(self, request: Request) -> Response:
            if "/leases" in request.path:
                self.pools.append((request.verb, request.pool))
            return await self.inner.request(request)

        async def stream(self, request: Request) -> ByteStream:
            return await self.inner.stream(request)

    async def main(clock: VirtualClock) -> None:
        seen = Seen(api(clock).transport("m"))
        limiter = RateLimiter(0.001, 1, clock=clock)  # one request in 1,000 s
        options = ManagerOptions(**QUIET, identity="m")
        manager = Manager(seen, options, clock=clock, rng=Random(3), limiter=limiter)
        async with asyncio.TaskGroup() as group:
            group.create_task(manager.run())
            await eventually(lambda: manager.leading, clock, 5)
            await clock.sleep(60)
            assert manager.leading
            manager.stop("enough")
        assert [verb for verb, _ in seen.pools].count("patch") >= 60 / 2.4 - 1
        assert {pool for _, pool in seen.pools} == {Pool.LEASE}

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


def test_man8_the_heap_is_frozen_after_the_first_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        server.create(MAPS, {"metadata": {"name": "a"}})
        manager = make(server, clock, freeze_heap=True)
        manager.cache.watch(MAPS)
        held: list[int] = []
        monkeypatch.setattr(manager_module, "freeze_heap", lambda: held.append(len(manager.cache.list(MAPS))))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: manager.leading, clock)
            assert held == [1], "once, with the cache already full"
            await stopped(manager, task)

    run_virtual(main)


def test_man8_freezing_collects_first_and_makes_collections_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(gc, "set_threshold", lambda *n: done.append(f"threshold {n[0]}"))
    process.freeze_heap()
    assert done == ["collect", "freeze", "threshold 10000"]


def test_man8_uvloop_when_it_can_be_imported() -> None:
    uvloop = pytest.importorskip("uvloop")
    assert loop_factory() is uvloop.new_event_loop
    assert loop_factory(fast=False) is asyncio.new_event_loop


def test_man8_without_uvloop_asyncios_own_loop_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    assert loop_factory() is asyncio.new_event_loop


# Leadership and the client


def test_lea7_leader_only_writes_are_fenced_and_carry_their_term() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock, user_agent="kruise-manager/test")
        leads, always = manager.client_for("maps"), manager.client_for("node-local", leader_only=False)

        def body(name: str) -> dict[str, Any]:
            return {"metadata": {"name": name, "namespace": "default"}}

        with pytest.raises(Fenced):
            await leads.create(MAPS, body("too-early"))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: manager.leading, clock)
            await leads.create(MAPS, body("one"))
            await always.create(MAPS, body("two"))
            with pytest.raises(NotFound):
                await leads.live.get(MAPS, Key("default", "absent"))
            await stopped(manager, task)
        with pytest.raises(Fenced):
            await leads.create(MAPS, body("too-late"))
        await always.create(MAPS, body("three"))
        agents = {(call.method, call.user_agent) for call in server.log.calls if "/configmaps" in call.path}
        assert agents == {
            ("POST", "kruise-manager/test maps term/0"),
            ("POST", "kruise-manager/test node-local"),
            ("GET", "kruise-manager/test maps"),
        }
        assert {call.user_agent for call in server.log.calls if "/leases" in call.path} == {
            "kruise-manager/test leader-election"
        }

    run_virtual(main)


def test_lea15_lea8_a_standby_takes_over_and_its_queue_is_full() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        a, b = make(server, clock, "a"), make(server, clock, "b", seed=8)
        seen: dict[str, list[float]] = {"a": [], "b": []}

        def setup(manager: Manager, name: str) -> None:
            async def reconcile(key: Key) -> Result:
                seen[name].append(clock.monotonic())
                return Done()

            manager.add(Builder(manager, "maps").for_(MAPS).build(reconcile))

        setup(a, "a")
        setup(b, "b")
        for n in range(20):
            server.create(MAPS, {"metadata": {"name": f"m{n}"}})
        async with asyncio.TaskGroup() as group:
            first = group.create_task(a.run())
            await eventually(lambda: len(seen["a"]) == 20, clock)
            second = group.create_task(b.run())
            await clock.sleep(10)
            assert b.health.ready.all().ok, "a standby is ready"
            assert not seen["b"] and not b.leading
            lists = sum(1 for c in server.log.calls if c.actor == "b" and "/configmaps" in c.path)
            at = clock.monotonic()
            await stopped(a, first)
            await eventually(lambda: len(seen["b"]) == 20, clock, every=0.01)
            assert seen["b"][-1] - at < 1.0
            assert lists == sum(1 for c in server.log.calls if c.actor == "b" and "/configmaps" in c.path)
            await stopped(b, second)
        lease = server.get("leases.coordination.k8s.io", "kruise-manager", "kruise-system")
        assert lease is not None and lease["spec"]["leaseTransitions"] == 1

    run_virtual(main)


def test_lea15_a_killed_leader_is_replaced_in_time_and_writes_no_more() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        transport = server.transport("a")
        a = Manager(transport, ManagerOptions(**QUIET, identity="a"), clock=clock, rng=Random(7))
        b = make(server, clock, "b", seed=8)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(a.run())
            await eventually(lambda: a.leading, clock)
            second = group.create_task(b.run())
            await clock.sleep(10)
            at = clock.monotonic()
            transport.cut()
            first.cancel()
            await eventually(lambda: b.leading, clock, every=0.01)
            assert clock.monotonic() - at <= 16.0
            await stopped(b, second)

    run_virtual(main)


def test_lea14_without_election_it_starts_only_beside_nobody() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        told: list[str] = []
        a = make(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(a.run())
            await eventually(lambda: a.leading, clock)
            refused = make(server, clock, "by-hand", leader_election=False)
            refused.add(Part("work", Needs.LEADER, told))
            with pytest.raises(ConfigError, match="--leader-elect=false: a holds the lease"):
                await refused.run()
            assert not told
            await stopped(a, first)
            alone = make(server, clock, "by-hand", leader_election=False)
            alone.add(Part("work", Needs.LEADER, told))
            task = group.create_task(alone.run())
            await eventually(lambda: told == ["work began"], clock)
            assert alone.leading
            await alone.client_for("x").create(MAPS, {"metadata": {"name": "b", "namespace": "default"}})
            await stopped(alone, task)

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


def test_rec5_lea12_the_events_of_the_election_are_written_before_the_end() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: manager.leading, clock)
            await stopped(manager, task)
        events = server.list("events.events.k8s.io", "kruise-system")
        notes = sorted(str(e["note"]) for e in events)
        assert notes == ["a became leader", "a stopped leading"]
        assert {e["regarding"]["kind"] for e in events} == {"Lease"}

    run_virtual(main)


# Health


def test_hea3_a_stop_fails_readiness_before_it_stops_anything() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock, shutdown_delay=5.0)
        ready_at_end: list[bool] = []

        async def work() -> None:
            try:
                await idle()
            finally:
                ready_at_end.append(manager.health.ready.all().ok)

        manager.add(Work("work", work, Needs.WARMUP))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: manager.health.ready.all().ok, clock)
            manager.stop()
            await clock.sleep(4)
            assert not manager.health.ready.all().ok and not ready_at_end, "first the probe, then the stop"
            assert manager.health.alive.all().ok
            await task
        assert ready_at_end == [False]

    run_virtual(main)


@pytest.mark.parametrize("seed", range(5))
def test_hea4_man1_a_standby_is_ready_in_any_order_of_callbacks(seed: int) -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        managers = [make(server, clock, f"m{n}", seed=n) for n in range(2)]
        seen: list[Key] = []

        async def reconcile(key: Key) -> Result:
            seen.append(key)
            return Done()

        for manager in managers:
            manager.add(Builder(manager, "maps").for_(MAPS).build(reconcile))
        server.create(MAPS, {"metadata": {"name": "a"}})
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(manager.run()) for manager in managers]
            await eventually(lambda: all(m.health.ready.all().ok for m in managers), clock)
            await eventually(lambda: seen, clock)
            assert [m.leading for m in managers].count(True) == 1
            await clock.sleep(30)
            assert all(m.health.ready.all().ok and m.health.alive.all().ok for m in managers)
            assert len(seen) == 1, "one of them reconciles"
            for manager, task in zip(managers, tasks, strict=True):
                await stopped(manager, task)

    run_virtual(main, seed=seed, pick="random")


def test_hea2_the_checks_of_the_runtimes_own_parts_exist() -> None:
    async def main(clock: VirtualClock) -> None:
        manager = make(api(clock), clock)

        async def reconcile(key: Key) -> Result:
            return Done()

        manager.add(Builder(manager, "maps").for_(MAPS).build(reconcile))
        manager.add_health_check("mine", lambda: "broken")
        manager.add_ready_check("mine", lambda: None)
        assert set(manager.health.alive.names()) == {"ping", "event-loop", "leader-election", "workers-maps", "mine"}
        assert set(manager.health.ready.names()) == {
            "ping", "startup", "caches", "watches", "controller-maps", "mine",
        }  # fmt: skip
        assert not manager.health.alive.one("mine").ok

    run_virtual(main)


def test_hea5_a_watch_that_stalls_for_three_minutes_makes_it_not_ready() -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        manager = make(server, clock)
        manager.cache.watch(MAPS)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: manager.health.ready.all().ok, clock)
            await clock.sleep(200)
            assert manager.health.ready.one("watches").ok, "bookmarks come once a minute"
            manager.cache.host.saw_bookmark(MAPS)
            informer = manager.cache.informer(MAPS)
            for watcher in informer._watchers.values():
                assert watcher.heard_at is not None
                watcher.heard_at -= 181
            assert "configmaps" in manager.health.ready.one("watches").text
            await stopped(manager, task)

    run_virtual(main)


def test_clk5_the_lag_of_the_loop_is_a_gauge_and_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(clock: VirtualClock) -> None:
        manager = make(api(clock), clock)
        manager._report_lag(0.25)
        assert "\nkruise_event_loop_lag_seconds 0.25" in manager.metrics.render().decode()
        manager._report_lag(0.05)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await clock.sleep(5)
            assert "\nkruise_event_loop_lag_seconds 0.0" in manager.metrics.render().decode()
            await stopped(manager, task)

    run_virtual(main)
    assert capsys.readouterr().err.count("the event loop was blocked") == 1


# Ports


async def test_hea1_met5_dbg1_every_server_of_a_running_manager() -> None:
    clock = SystemClock()
    server = api(clock)
    manager = make(
        server,
        clock,
        metrics=MetricsOptions("127.0.0.1:0"),
        health_address="127.0.0.1:0",
        debug=DebugOptions(enabled=True, address="127.0.0.1:0"),
    )
    manager.cache.watch(MAPS)
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
        task = group.create_task(manager.run())
        await eventually(lambda: manager.leading, clock, 5, every=0.01)
        assert manager.health_server is not None and manager.debug_server is not None
        assert manager.metrics_server.server is not None

        async def get(url: str) -> tuple[int, str]:
            async with session.get(url) as answer:
                return answer.status, await answer.text()

        assert await get(f"http://{manager.health_server.bound}/readyz") == (200, "ok\n")
        assert (await get(f"http://{manager.health_server.bound}/healthz"))[0] == 200
        status, text = await get(f"http://{manager.metrics_server.server.bound}/metrics")
        assert status == 200 and 'leader_election_master_status{name="kruise-manager"} 1.0' in text
        assert 'kruise_informer_objects{group="",resource="configmaps",version="v1"} 0.0' in text
        status, text = await get(f"http://{manager.debug_server.bound}/debug/leader")
        assert status == 200 and "leading=True" in text
        await session.close()
        await stopped(manager, task)


async def test_man1_a_port_that_is_taken_ends_the_run_with_its_flag() -> None:
    clock = SystemClock()
    server = api(clock)
    listening = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    manager = make(server, clock, health_address=f"127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=rf"--health-probe-addr=127\.0\.0\.1:{port}: cannot listen"):
        await manager.run()
    listening.close()
    await listening.wait_closed()
    assert holder(server) == "", "it never took the lease"


async def test_hea3_probes_answer_while_reconciles_run_hot() -> None:
    clock = SystemClock()
    server = api(clock)
    manager = make(server, clock, health_address="127.0.0.1:0")
    runs = 0

    async def hot(key: Key) -> Result:
        nonlocal runs
        runs += 1
        manager_controller.queue.add(Key("default", f"k{runs % 50}"))
        return Done()

    manager_controller = Builder(manager, "maps").for_(MAPS).build(hot)
    manager.add(manager_controller)
    server.create(MAPS, {"metadata": {"name": "a"}})
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
        task = group.create_task(manager.run())
        await eventually(lambda: runs > 100, clock, 5, every=0.01)
        assert manager.health_server is not None
        requests = len(server.log.calls)
        for _ in range(5):
            before = runs
            async with session.get(f"http://{manager.health_server.bound}/healthz") as answer:
                assert answer.status == 200
            assert runs > before
        leases = sum(1 for c in server.log.calls[requests:] if "/leases" in c.path)
        assert len(server.log.calls) - requests == leases, "a probe asks the API server nothing"
        await session.close()
        await stopped(manager, task)


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
