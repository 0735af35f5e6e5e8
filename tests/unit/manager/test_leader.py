"""The elector on the virtual loop, against a Lease behind the real client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kruise.runtime.client.transport import Pool, Request, Response
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ConfigError, Fenced, LeadershipLost, Reset
from kruise.runtime.manager.leader import ElectionOptions, Elector, Term, check_no_other_leader
from kruise.runtime.manager.lease import LEASES, Durations
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from tests.unit.manager.lease_server import LeaseServer, Network, status


class Events:
    """Takes events as a recorder does."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.resources: list[Any] = []

    def event(self, obj: Any, resource: Any, *, type: str, reason: str, action: str, note: str) -> None:
        assert type == "Normal" and reason and action
        self.notes.append(note)
        self.resources.append((resource, obj.key))


class Candidate:
    """One replica: an elector, its network and what its work saw."""

    def __init__(self, server: LeaseServer, clock: Clock, who: str, *, seed: int = 1, release: bool = True) -> None:
        self.who = who
        self.clock = clock
        self.metrics = Metrics(process=False)
        rest, self.network = server.client(who, Random(seed), self.metrics)
        self.events = Events()
        self.elector = Elector(
            rest,
            ElectionOptions(who, release=release),
            clock=clock,
            rng=Random(seed),
            metrics=self.metrics,
            recorder=self.events,
        )
        self.stop = asyncio.Event()
        self.began: list[float] = []
        self.ended: list[float] = []
        self.writes: list[float] = []
        self.refused = 0

    async def work(self, term: Term) -> None:
        """Leader work: writes twice a second, until it is told to stop."""
        self.began.append(self.clock.monotonic())
        try:
            while not self.stop.is_set():
                try:
                    term.check()
                    self.writes.append(self.clock.monotonic())
                except Fenced:
                    self.refused += 1
                await self.clock.sleep(0.5)
        finally:
            self.ended.append(self.clock.monotonic())

    async def run(self, work: Callable[[Term], Awaitable[None]] | None = None) -> None:
        await self.elector.run(work or self.work, stop=self.stop)

    def scrape(self) -> str:
        return self.metrics.render().decode()


Main = Callable[[LeaseServer, VirtualClock], Awaitable[None]]


def virtual(main: Main) -> None:
    async def start(clock: VirtualClock) -> None:
        await main(LeaseServer(clock), clock)

    run_virtual(start)


async def hang(_request: Request) -> None:
    await asyncio.Event().wait()


async def killed(group: asyncio.TaskGroup, task: asyncio.Task[None], network: Network) -> None:
    """End a replica as SIGKILL does: its network first, so that its last words reach nobody."""
    network.before = hang
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


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


async def raises(work: Awaitable[None], kind: type[BaseException], text: str | None = None) -> None:
    with pytest.raises(kind, match=text):
        await work


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
