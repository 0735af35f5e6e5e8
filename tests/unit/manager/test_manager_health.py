"""What a manager says of its health, and the ports on which it says it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import aiohttp
import pytest

from kruise.runtime import log
from kruise.runtime.clock import SystemClock
from kruise.runtime.controller.builder import Builder
from kruise.runtime.controller.reconcile import Done, Needs, Result
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.debug import DebugOptions
from kruise.runtime.manager.metrics_server import MetricsOptions
from kruise.runtime.objects import Key
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from tests.unit.manager.manager_world import MAPS, Work, api, holder, idle, make, stopped


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


def test_lea9_hea2_a_held_lease_that_is_not_renewed_fails_healthz() -> None:
    async def main(clock: VirtualClock) -> None:
        manager = make(api(clock), clock)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: manager.leading, clock)
            elector = manager.elector
            assert elector is not None and manager.health.alive.all().ok
            state = elector._state
            # What a blocked loop leaves behind: nothing ran that could have renewed, and nothing that could have ended.
            elector._state = replace(state, renewed_at=state.renewed_at - 36)
            assert not manager.health.alive.one("leader-election").ok and not manager.health.alive.all().ok
            elector._state = replace(state, renewed_at=state.renewed_at - 34)
            assert manager.health.alive.one("leader-election").ok
            elector._state = state
            await stopped(manager, task)

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


def test_clk5_log3_the_lag_of_the_loop_is_a_gauge_and_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(clock: VirtualClock) -> None:
        manager = make(api(clock), clock)
        manager._report_lag(0.25)
        assert "\nkruise_event_loop_lag_seconds 0.25" in manager.metrics.render().decode()
        manager._report_lag(0.05)
        log.configure(level="debug", slow=log.SlowThresholds(loop_lag=0.5))
        manager._report_lag(0.25)
        log.configure(level="debug")
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
