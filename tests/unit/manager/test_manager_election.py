"""Managers that elect a leader: fences, standbys, a killed leader, the events of the election."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kruise.runtime.client.limiter import RateLimiter
from kruise.runtime.client.transport import ByteStream, Pool, Request, Response, Transport
from kruise.runtime.clock import Random
from kruise.runtime.controller.builder import Builder
from kruise.runtime.controller.reconcile import Done, Needs, Result
from kruise.runtime.errors import ConfigError, Fenced, NotFound
from kruise.runtime.manager.manager import Manager, ManagerOptions
from kruise.runtime.objects import Key
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from tests.unit.manager.manager_world import MAPS, QUIET, Part, api, make, stopped

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
