"""Three managers and one lease: the leader is killed, the next one is frozen, and the job completes all the same."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.conftest import Watched
from tests.e2e.harness import checks
from tests.e2e.harness.jobs import counts, job, phase
from tests.e2e.harness.manager import ManagerProcess, Supervisor
from tests.e2e.harness.observer import LEASES, Observer
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.world import World

pytestmark = pytest.mark.real

LEASE_DURATION = 15.0
NODES = 200


@contextlib.contextmanager
def supervised(managers: list[ManagerProcess]) -> Iterator[Supervisor]:
    """Three replicas under a supervisor, until the end of the block."""
    supervisor = Supervisor(managers)
    try:
        yield supervisor.start()
    finally:
        supervisor.stop()


def spec(lease: dict[str, Any] | None) -> dict[str, Any]:
    """Return the spec of the Lease."""
    return (lease or {}).get("spec") or {}


def holder(observer: Observer) -> str:
    """Return who holds the Lease now."""
    return spec(observer.get(LEASES, "kruise-system", "kruise-manager")).get("holderIdentity") or ""


def moment(text: str) -> float:
    """Return a MicroTime in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def takeovers(observer: Observer) -> list[tuple[str, str, float]]:
    """Return (old holder, new holder, seconds from the last renewal of the old one), from the Lease alone."""
    found = []
    last: dict[str, Any] = {}
    for event in observer.events:
        if event.resource != LEASES or event.type == "DELETED":
            continue
        now = spec(event.obj)
        old, new = last.get("holderIdentity"), now.get("holderIdentity")
        if old and new and old != new:
            found.append((old, new, moment(now["acquireTime"]) - moment(last["renewTime"])))
        last = now
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_killed_and_frozen_leaders_cost_no_second_pod(world: World, watched: Watched, loop: str) -> None:
    """B1, G10 over SIGKILL and SIGSTOP; a standby leads within lease duration + 1 s of the last renewal (LEA15)."""
    world.nodes(NODES)
    watched.slack = checks.LONG_SLACK
    observer = watched.observer
    mark = world.cluster.audit.mark()
    managers = [world.manager(loop=loop, name=f"replica-{loop}-{number}") for number in range(3)]
    with supervised(managers) as supervisor:
        for one in managers:
            one.wait_ready()
        first = observer.until(lambda: supervisor.by_identity(holder(observer)), 30.0, "one of them leads")
        earlier = len(takeovers(observer))  # whoever ended before this test may have left its lease behind
        # Slow enough that both losses fall into it: 200 pods of 3 s, 16 at a time, are 40 s without any loss.
        world.create(job("sweep", run=3, parallelism=16))
        observer.until(lambda: counts(observer.job("sweep"))[2] >= 30, 60.0, "the job is under way")

        began = time.monotonic()
        first.signal(signal.SIGKILL)
        killed = first.wait()
        assert killed == -signal.SIGKILL
        second = observer.until(
            lambda: (h := supervisor.by_identity(holder(observer))) is not None and h is not first and h,
            LEASE_DURATION + 10,
            "a standby leads",
        )
        done = counts(observer.job("sweep"))[2]
        observer.until(lambda: counts(observer.job("sweep"))[2] >= done + 20, 60.0, "it goes on with the job")
        assert phase(observer.job("sweep")) == "running", "the job ended before the second loss"

        frozen = second.identity
        second.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        observer.until(lambda: holder(observer) not in ("", frozen), LEASE_DURATION + 10, "another one leads")
        time.sleep(max(0.0, stopped + 30.0 - time.monotonic()))
        second.signal(signal.SIGCONT)
        observer.until(lambda: phase(observer.job("sweep")) == "completed", 120.0, "the job completes")
        seconds = time.monotonic() - began
        observer.until(
            lambda: any(name == second.name for _, name, _ in supervisor.restarts), 30.0, "the old leader ends itself"
        )
        codes = [code for _, name, code in supervisor.restarts if name == second.name]
        assert codes == [1], "a lost lease ends the process with 1"
        assert counts(observer.job("sweep")) == (NODES, 0, NODES, 0)

    changes = takeovers(observer)[earlier:]
    assert len(changes) == 2, changes
    for old, new, after in changes:
        assert LEASE_DURATION - 0.1 <= after <= LEASE_DURATION + 1.0, f"{new} took over from {old} after {after:.2f} s"
    made = checks.tally(checks.writes(world.cluster.audit, mark))
    assert made["create pods 201"] == NODES
    REPORT.add(
        "Leader killed, then frozen for 30 s: 200 nodes, pods of 3 s, parallelism 16",
        loop=loop,
        takeover_after_kill=changes[0][2],
        takeover_after_freeze=changes[1][2],
        seconds_from_kill=seconds,
        pod_creates=made["create pods 201"],
        creates_refused=made["create pods 409"],
        status_patches=made["patch broadcastjobs/status 200"],
        status_conflicts=made["patch broadcastjobs/status 409"],
    )


def test_a_leader_that_stops_hands_over_at_once(world: World, watched: Watched) -> None:
    """MAN2, LEA8: the lease is given back, so nobody waits for its end."""
    world.nodes(5)
    observer = watched.observer
    managers = [world.manager() for _ in range(2)]
    try:
        managers[0].start().wait_leading()
        managers[1].start().wait_ready()
        assert holder(observer) == managers[0].identity
        began = time.monotonic()
        assert managers[0].stop() == 0
        observer.until(lambda: holder(observer) == managers[1].identity, 10.0, "the standby leads")
        assert time.monotonic() - began < LEASE_DURATION / 3
        managers[1].wait_leading()
        world.create(job("sweep", run=0.2))
        observer.until(lambda: phase(observer.job("sweep")) == "completed", 30.0, "and does the work")
    finally:
        for one in managers:
            one.stop()
