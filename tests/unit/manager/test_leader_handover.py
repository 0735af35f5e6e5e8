"""How the lead ends: releases, dead leaders, fences, work that fails."""

from __future__ import annotations

import asyncio

import pytest

from kruise.runtime.client.transport import Request
from kruise.runtime.errors import Fenced, LeadershipLost, Reset
from kruise.runtime.manager.leader import Term
from kruise.runtime.manager.lease import Durations
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, eventually
from tests.unit.manager.candidates import Candidate, hang, raises, virtual
from tests.unit.manager.lease_server import LeaseServer, Network


async def killed(group: asyncio.TaskGroup, task: asyncio.Task[None], network: Network) -> None:
    """End a replica as SIGKILL does: its network first, so that its last words reach nobody."""
    network.before = hang
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_lea8_a_clean_stop_hands_over_within_a_second_and_only_after_the_work_returned() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b", seed=2)

        async def slow_to_stop(term: Term) -> None:
            await a.stop.wait()
            for _ in range(12):  # a drain that outlives the renew deadline: the lease is renewed meanwhile
                assert server.holder() == "a"
                term.check()
                await clock.sleep(1)
            a.ended.append(clock.monotonic())

        async with asyncio.TaskGroup() as group:
            group.create_task(a.run(slow_to_stop))
            await eventually(lambda: a.elector.leading, clock)
            group.create_task(b.run())
            await clock.sleep(7)
            a.stop.set()
            await eventually(lambda: b.began, clock)
            assert a.ended and 0 <= b.began[0] - a.ended[0] < 1.0
            released = [t for t, _, holder in server.history if holder == ""]
            assert released[0] >= a.ended[0]
            assert server.lease is not None and server.lease["spec"]["leaseTransitions"] == 1
            b.stop.set()

    virtual(main)


def test_lea8_the_release_survives_a_conflict_and_a_cancellation() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        touched = False

        async def touch_between_read_and_patch(request: Request) -> None:
            nonlocal touched
            if request.verb == "patch" and b'"holderIdentity":""' in (request.body or b""):
                if not touched:
                    touched = True
                    server.touch()
                task.cancel()
                await clock.sleep(0.1)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            a.network.before = touch_between_read_and_patch
            task.cancel()
        assert touched and task.cancelled()
        assert server.holder() == "" and server.lease is not None
        assert server.lease["spec"]["leaseDurationSeconds"] == 1

    virtual(main)


def test_lea8_a_release_that_hangs_ends_at_the_renew_deadline() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            a.network.before = hang
            a.stop.set()
            begun = clock.monotonic()
        assert clock.monotonic() - begun <= 11
        assert server.holder() == "a"

    virtual(main)


def test_lea8_release_can_be_switched_off_and_never_touches_a_foreign_lease() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a", release=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            a.stop.set()
        assert server.holder() == "a"

        b = Candidate(server, clock, "b", seed=2)
        async with asyncio.TaskGroup() as group:
            group.create_task(b.run())
            await clock.sleep(1)
            b.stop.set()
        assert server.holder() == "a" and not b.began

    virtual(main)


def test_lea15_a_dead_leader_is_replaced_within_the_lease_duration_and_a_second_without_polling() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b", seed=2)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            group.create_task(b.run())
            await clock.sleep(60)
            assert server.count("get", "b") == 1, "a standby reads once, then it watches"
            died = clock.monotonic()
            await killed(group, first, a.network)
            died_now = clock.monotonic()
            await eventually(lambda: b.began, clock, every=0.01)
            assert b.began[0] - died <= 16.0
            assert server.count("get", "b") <= 2, "one read to doubt the silence, no polling"
            assert died_now - died <= 11
            b.stop.set()

    virtual(main)


def test_lea15_while_the_watch_is_down_the_lease_is_read_each_retry_period() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b", seed=2)
        b.network.watch_fails = True
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            group.create_task(b.run())
            await clock.sleep(48)
            assert 48 / 2.4 - 1 <= server.count("get", "b") <= 48 / 2 + 1
            assert not b.began and server.count("patch", "b") == 0
            b.network.watch_fails = False
            await clock.sleep(5)
            before = server.count("get", "b")
            await clock.sleep(30)
            assert server.count("get", "b") == before, "the watch is up again"
            a.stop.set()
            await eventually(lambda: b.began, clock)
            b.stop.set()

    virtual(main)


def test_lea15_a_half_open_watch_is_noticed_before_the_lease_could_end() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b", seed=2)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            group.create_task(b.run())
            await clock.sleep(10)
            b.network.half_open = True
            await clock.sleep(8)
            b.network.half_open = False
            await clock.sleep(4)
            assert not b.began
            died = clock.monotonic()
            await killed(group, first, a.network)
            await eventually(lambda: b.began, clock, every=0.01)
            assert b.began[0] - died <= 16.0, "the silence was found while the leader lived"
            b.stop.set()

    virtual(main)


def test_lea15_the_watch_goes_on_after_its_usual_end_without_a_read() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b", seed=2)
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            group.create_task(b.run())
            for _ in range(3):
                await clock.sleep(20)
                server.cut_watches()
            await clock.sleep(5)
            assert server.count("watch", "b") == 4 and server.count("get", "b") == 1
            a.stop.set()
            b.stop.set()

    virtual(main)


def test_lea4_work_is_cancelled_at_the_renew_deadline_while_the_renewal_hangs() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(raises(a.run(), LeadershipLost, "leader election lost"))
            await eventually(lambda: a.began, clock)
            await clock.sleep(5)
            renewed = a.elector.state.renewed_at
            a.network.before = hang
            await task
        assert renewed + 9.5 <= a.ended[0] <= renewed + 12.5
        assert a.ended[0] <= a.elector.state.renewed_at + 10.01
        assert max(a.writes) <= a.elector.state.renewed_at + 9.0, "fenced one second before the deadline"
        assert a.refused >= 1
        assert f'kruise_leader_fenced_writes_total{{name="kruise-manager"}} {float(a.refused)}' in a.scrape()

    virtual(main)


def test_lea11_a_lost_lease_is_not_released() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(raises(a.run(), LeadershipLost, "leader election lost: .*taken by intruder"))
            await eventually(lambda: a.began, clock)
            assert server.lease is not None
            server.lease["spec"]["holderIdentity"] = "intruder"
            server.touch()
            await task
        assert clock.monotonic() < 4, "seen at the next renewal"
        assert server.holder() == "intruder" and a.ended
        with pytest.raises(Fenced):
            a.elector.term.check()

    virtual(main)


def test_lea6_failing_work_ends_the_renewal_releases_and_raises() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")

        async def fails(term: Term) -> None:
            try:
                await clock.sleep(5)
                raise ValueError("the work is broken")
            finally:
                a.ended.append(clock.monotonic())

        await raises(a.run(fails), ValueError, "the work is broken")
        assert server.holder() == "", "released"
        assert clock.monotonic() - a.ended[0] < 1
        assert not [t for t, _, holder in server.history if t > a.ended[0] and holder == "a"]

    virtual(main)


def test_lea7_the_term_fences_before_during_and_after() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        term = a.elector.term
        with pytest.raises(Fenced, match="does not hold the lease"):
            term.check()
        assert term.deadline() == 0
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            term.check()
            assert 14.5 < term.deadline() <= 15.0, "renew deadline and the lease gap"
            a.stop.set()
        with pytest.raises(Fenced):
            term.check()

    virtual(main)


def test_lea7_each_renewal_moves_the_deadline_of_writes() -> None:
    async def main(_server: LeaseServer, clock: VirtualClock) -> None:
        term = Term("x", Durations(40, 30, 2), clock=clock, metrics=Metrics(process=False))
        term.extend(clock.boottime() + 30, 7)
        assert term.deadline() == 30.0, "30 s at most, not 40"
        await clock.sleep(25)
        assert term.deadline() == 15.0
        term.extend(clock.boottime() + 30, 7)
        assert term.deadline() == 30.0 and term.transitions == 7
        await clock.sleep(29)
        with pytest.raises(Fenced, match=r"1\.0 s away"):
            term.check()
        term.close()
        with pytest.raises(RuntimeError, match="cannot begin again"):
            term.extend(100, 8)

    virtual(main)


def test_lea4_clk2_a_machine_that_slept_wakes_up_fenced_and_its_work_ends() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(raises(a.run(), LeadershipLost, "leader election lost"))
            await eventually(lambda: a.began, clock)
            await clock.sleep(3)
            clock.suspend(3600)
            woke = clock.monotonic()
            with pytest.raises(Fenced):
                a.elector.term.check()
            await task
        assert a.ended[0] - woke <= 1.01, "seen within one look at boot time"

    virtual(main)


def test_lea8_an_acquisition_of_unknown_outcome_is_released_on_stop() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")

        async def lose(request: Request) -> None:
            if request.verb == "create":
                raise Reset("the answer was lost")

        a.network.after = lose
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: server.holder() == "a", clock)
            a.stop.set()
        assert server.holder() == "" and not a.began

    virtual(main)
