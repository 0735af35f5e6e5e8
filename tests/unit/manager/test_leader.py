"""The elector on the virtual loop, against a Lease behind the real client: to take it, to keep it, to tell of it."""

from __future__ import annotations

import asyncio

import pytest

from kruise.runtime.client.transport import Pool, Request, Response
from kruise.runtime.errors import ConfigError, LeadershipLost, Reset
from kruise.runtime.manager.leader import ElectionOptions, Term, check_no_other_leader
from kruise.runtime.manager.lease import LEASES, Durations
from kruise.runtime.testing.loop import VirtualClock, eventually
from tests.unit.manager.candidates import Candidate, hang, raises, virtual
from tests.unit.manager.lease_server import LeaseServer, status


def test_lea10_a_missing_lease_is_created_and_led() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            assert clock.monotonic() < 0.2
            assert server.lease is not None
            spec = server.lease["spec"]
            assert spec["holderIdentity"] == "a" and spec["leaseTransitions"] == 0
            assert spec["leaseDurationSeconds"] == 15
            a.stop.set()

    virtual(main)


def test_lea3_lea5_an_idle_leader_sends_one_patch_per_retry_period_and_nothing_else() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await clock.sleep(60)
            assert 60 / 2.4 - 1 <= server.count("patch") <= 60 / 2 + 1
            assert server.count("get") == 1 and server.count("create") == 1
            # The watch of the standby was closed.
            assert not server.watchers
            for _, request in server.requests:
                if request.verb == "patch":
                    assert request.timeout == 5.0
                    assert request.headers["user-agent"].endswith(" leader-election")
            assert 'leader_election_slowpath_total{name="kruise-manager"} 0.0' in a.scrape()
            a.stop.set()

    virtual(main)


def test_lea5_a_renewal_that_hangs_ends_by_its_own_time_out_and_the_next_try_saves_the_lease() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        hung: list[float] = []
        ended: list[float] = []
        after: list[float] = []

        async def swallow_one(request: Request) -> None:
            if hung:
                after.append(clock.monotonic())
                return
            hung.append(clock.monotonic())
            try:
                await hang(request)
            finally:
                ended.append(clock.monotonic())

        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            await clock.sleep(5)
            a.network.before = swallow_one
            await clock.sleep(20)
            assert hung and ended[0] - hung[0] == pytest.approx(5.0)
            assert after[0] - hung[0] < 9.0, "tried again while the term lasts"
            assert a.elector.leading and not a.ended and a.refused == 0
            a.stop.set()

    virtual(main)


def test_lea5_every_read_and_write_of_an_election_is_on_the_pool_of_the_lease() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await clock.sleep(10)
            server.touch()  # the next renewal takes the slow path
            await clock.sleep(10)
            a.stop.set()
        assert server.holder() == ""
        pools = {request.verb: request.pool for _, request in server.requests}
        assert pools == {"get": Pool.LEASE, "create": Pool.LEASE, "patch": Pool.LEASE}

    virtual(main)


def test_lea3_the_slow_path_is_counted() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await clock.sleep(10)
            server.touch()
            await clock.sleep(10)
            assert 'leader_election_slowpath_total{name="kruise-manager"} 1.0' in a.scrape()
            assert a.elector.leading
            a.stop.set()

    virtual(main)


def test_lea2_metrics_tell_who_leads_and_for_how_long() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b", seed=2)
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            group.create_task(b.run())
            await clock.sleep(5)
            assert 'leader_election_master_status{name="kruise-manager"} 1.0' in a.scrape()
            assert "\nkruise_manager_is_leader 1.0" in a.scrape()
            assert 'leader_election_master_status{name="kruise-manager"} 0.0' in b.scrape()
            assert "\nkruise_manager_is_leader 0.0" in b.scrape()
            left = [x for x in a.scrape().splitlines() if x.startswith("kruise_leader_lease_remaining_seconds{")]
            assert 5 < float(left[0].split()[-1]) <= 10
            assert "kruise_leader_lease_remaining_seconds{" not in b.scrape()
            a.stop.set()
            b.stop.set()
        assert 'leader_election_master_status{name="kruise-manager"} 0.0' in a.scrape()

    virtual(main)


def test_lea12_events_and_labels() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            assert a.events.notes == ["a became leader"]
            assert a.events.resources[0] == (LEASES, ("kruise-system", "kruise-manager"))
            assert server.lease is not None
            assert server.lease["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "kruise-manager"}
            a.stop.set()
        assert a.events.notes == ["a became leader", "a stopped leading"]

    virtual(main)


def test_lea2_wall_clock_jumps_change_nothing() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        other = VirtualClock(wall=0.0)  # decades behind
        a, b = Candidate(server, clock, "a"), Candidate(server, other, "b", seed=2)
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            group.create_task(b.run())
            for jump in (3600, -7200, 1e8):
                clock.jump(jump)
                await clock.sleep(20)
                assert a.elector.leading and not b.began
            a.stop.set()
            await eventually(lambda: b.began, clock)
            b.stop.set()

    virtual(main)


def test_lea9_the_watchdog_fails_when_a_held_lease_is_not_renewed() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        assert a.elector.check() is None

        async def stubborn(_term: Term) -> None:
            while clock.monotonic() < 60:
                try:
                    await clock.sleep(60 - clock.monotonic())
                except asyncio.CancelledError:
                    continue

        async with asyncio.TaskGroup() as group:
            task = group.create_task(raises(a.run(stubborn), LeadershipLost))
            await eventually(lambda: a.elector.leading, clock)
            a.network.before = hang
            await clock.sleep(34)
            assert a.elector.check() is None
            await clock.sleep(4)
            assert "not renewed for" in (a.elector.check() or "")
            await task

    virtual(main)


def test_lea10_two_candidates_race_for_a_missing_lease_and_one_wins() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        many = [Candidate(server, clock, f"c{n}", seed=n) for n in range(4)]

        async def slow(_request: Request) -> None:
            await clock.sleep(0.05)

        for one in many:
            one.network.before = slow
        async with asyncio.TaskGroup() as group:
            for one in many:
                group.create_task(one.run())
            await clock.sleep(20)
            assert sum(len(one.began) for one in many) == 1
            assert server.count("create") == 4 and len([h for h in server.history if h[1] == "create"]) == 1
            for one in many:
                one.stop.set()

    virtual(main)


def test_lea10_a_deleted_lease_is_made_again_by_its_leader() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            server.delete()
            await clock.sleep(5)
            assert server.holder() == "a" and a.elector.leading and not a.ended
            a.stop.set()

    virtual(main)


def test_lea3_a_write_of_which_the_answer_was_lost_is_found_by_a_read() -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")
        lost = 0

        async def lose(request: Request) -> None:
            nonlocal lost
            if request.verb in ("create", "patch") and lost < 3:
                lost += 1
                raise Reset("the answer was lost")

        a.network.after = lose
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            assert lost >= 2 and server.holder() == "a"
            await clock.sleep(60)
            assert a.elector.leading and not a.ended
            a.stop.set()
        assert server.holder() == ""

    virtual(main)


def test_lea10_a_missing_namespace_is_told_clearly_and_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        server.namespace_exists = False
        a = Candidate(server, clock, "a")
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await clock.sleep(20)
            out = capsys.readouterr()
            text = out.out + out.err
            assert text.count("create the namespace kruise-system") == 1, text
            assert 8 <= server.count("create") <= 11, "once per retry period"
            server.namespace_exists = True
            await eventually(lambda: a.began, clock)
            a.stop.set()

    virtual(main)


def test_lea10_a_forbidden_lease_is_told_with_the_rule_to_add(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        a = Candidate(server, clock, "a")

        def forbid(_request: Request) -> Response:
            return status(403, "Forbidden", "no")

        a.network.answer = forbid
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await clock.sleep(10)
            out = capsys.readouterr()
            text = out.out + out.err
            assert 'apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get"]' in text
            a.stop.set()

    virtual(main)


@pytest.mark.parametrize("release", [True, False])
def test_lea14_a_start_without_election_is_refused_beside_a_live_holder(release: bool) -> None:
    async def main(server: LeaseServer, clock: VirtualClock) -> None:
        rest, _ = server.client("by-hand")
        check = {"namespace": "kruise-system", "name": "kruise-manager", "durations": Durations(), "clock": clock}
        await check_no_other_leader(rest, **check)  # type: ignore[arg-type] # no lease at all

        a = Candidate(server, clock, "a", release=release)
        async with asyncio.TaskGroup() as group:
            group.create_task(a.run())
            await eventually(lambda: a.began, clock)
            with pytest.raises(
                ConfigError, match=r"--leader-elect=false: a holds the lease kruise-system/kruise-manager"
            ):
                await check_no_other_leader(rest, **check)  # type: ignore[arg-type]
            a.stop.set()
        # Released: free at once. Left behind: free when it has not moved for its duration.
        begun = clock.monotonic()
        await check_no_other_leader(rest, **check)  # type: ignore[arg-type]
        assert clock.monotonic() - begun == pytest.approx(0 if release else 15, abs=0.1)

    virtual(main)


def test_lea1_an_empty_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="--leader-election-id"):
        ElectionOptions("a", name="")
