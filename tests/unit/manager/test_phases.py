"""The order of phases, with its reasons, and the stop of one group."""

from __future__ import annotations

import asyncio

import pytest

from kruise.runtime.manager import phases
from kruise.runtime.manager.phases import START_ORDER, STOP_ORDER, Job, Phase, PhaseGroup
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual

# (earlier, later, what breaks the other way round)
START_RULES = (
    (Phase.HTTP_SERVERS, Phase.CACHES, "a kubelet kills a process whose probes are silent while its first lists last"),
    (Phase.WEBHOOKS, Phase.CACHES, "a list of a kind with a conversion webhook needs that webhook"),
    (Phase.CACHES, Phase.OTHERS, "what runs everywhere would read half-filled caches"),
    (Phase.CACHES, Phase.WARMUP, "the queues of a standby would be filled from nothing"),
    (Phase.OTHERS, Phase.WARMUP, "what feeds controllers must be there before they are warm"),
    (Phase.WARMUP, Phase.LEADER_ELECTION, "who takes the lease would first have to fill its queues"),
)
STOP_RULES = (
    (Phase.WARMUP, Phase.LEADER_ELECTION, "reconciles that end would be followed by new ones"),
    (Phase.OTHERS, Phase.LEADER_ELECTION, "what feeds controllers would feed them to the end"),
    (Phase.LEADER_ELECTION, Phase.CACHES, "reconciles under way would read caches that stand still"),
    (Phase.CACHES, Phase.WEBHOOKS, "our own lists may need our own conversion webhook"),
    (Phase.LEADER_ELECTION, Phase.WEBHOOKS, "the cluster would be without a leader for the whole drain of webhooks"),
    (Phase.WEBHOOKS, Phase.HTTP_SERVERS, "nobody could see the rest of the stop"),
)


@pytest.mark.parametrize(("earlier", "later", "why"), START_RULES)
def test_man1_start_order(earlier: Phase, later: Phase, why: str) -> None:
    assert START_ORDER.index(earlier) < START_ORDER.index(later), why


@pytest.mark.parametrize(("earlier", "later", "why"), STOP_RULES)
def test_man2_stop_order(earlier: Phase, later: Phase, why: str) -> None:
    assert STOP_ORDER.index(earlier) < STOP_ORDER.index(later), why


def test_man1_man2_every_phase_starts_once_and_stops_once() -> None:
    assert sorted(START_ORDER, key=str) == sorted(STOP_ORDER, key=str) == sorted(Phase, key=str)


def test_man1_man2_each_phase_has_its_reason_written_down() -> None:
    text = phases.__doc__ or ""
    for phase in Phase:
        assert text.count(f" {phase.name} ") == 2, phase


class Failures:
    def __init__(self) -> None:
        self.seen: list[tuple[str, Exception]] = []

    def __call__(self, job: Job, error: Exception) -> None:
        self.seen.append((job.name, error))


def group(failures: Failures | None = None) -> PhaseGroup:
    return PhaseGroup(Phase.OTHERS, failed=failures or Failures())


def test_man6_jobs_wait_for_the_group_and_later_ones_start_at_once() -> None:
    async def main(clock: VirtualClock) -> None:
        began: list[str] = []

        def job(name: str) -> Job:
            async def run() -> None:
                began.append(name)
                await asyncio.Event().wait()

            return Job(name, run)

        one = group()
        one.add(job("first"))
        await clock.sleep(1)
        assert not began and not one.serving
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one.serve())
            await eventually(lambda: began == ["first"], clock)
            one.add(job("second"))
            await eventually(lambda: began == ["first", "second"], clock)
            assert one.names() == ("first", "second") and one.serving
            assert await one.stop(30) == []
        with pytest.raises(RuntimeError, match="third cannot start"):
            one.add(job("third"))

    run_virtual(main)


def test_man1_a_group_is_ready_when_its_jobs_are() -> None:
    async def main(clock: VirtualClock) -> None:
        up = asyncio.Event()

        async def ready() -> None:
            await up.wait()

        async def ends() -> None:
            await clock.sleep(1)

        one = group()
        one.add(Job("slow", lambda: asyncio.Event().wait(), ready=ready))  # type: ignore[arg-type, return-value]
        one.add(Job("ends before it is up", ends, ready=lambda: asyncio.Event().wait()))  # type: ignore[arg-type, return-value]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one.serve())
            waiting = tasks.create_task(one.ready())
            await clock.sleep(5)
            assert not waiting.done()
            up.set()
            await waiting
            await one.stop(30)

    run_virtual(main)


def test_man5_a_job_that_fails_is_reported_and_its_neighbours_go_on() -> None:
    async def main(clock: VirtualClock) -> None:
        failures = Failures()
        alive = False

        async def bad() -> None:
            raise ValueError("broken")

        async def good() -> None:
            nonlocal alive
            await clock.sleep(5)
            alive = True

        one = group(failures)
        one.add(Job("bad", bad))
        one.add(Job("good", good))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one.serve())
            await clock.sleep(10)
            assert alive and [(name, str(error)) for name, error in failures.seen] == [("bad", "broken")]
            await one.stop(30)

    run_virtual(main)


def test_man3_a_graceful_job_finishes_what_is_under_way() -> None:
    async def main(clock: VirtualClock) -> None:
        asked = asyncio.Event()
        finished: list[float] = []

        async def run() -> None:
            await asked.wait()
            await clock.sleep(12)
            finished.append(clock.monotonic())

        one = group()
        one.add(Job("worker", run, stop=asked.set))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one.serve())
            await one.ready()
            assert await one.stop(30) == []
        assert finished == [12.0] == [clock.monotonic()]

    run_virtual(main)


def test_man3_a_job_that_misses_the_deadline_is_named_with_its_stack(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(clock: VirtualClock) -> None:
        async def deep_inside() -> None:
            await clock.sleep(1000)

        async def run() -> None:
            await deep_inside()

        one = group()
        one.add(Job("the slow one", run, stop=lambda: None))
        one.add(Job("the quick one", run))  # has no stop: cancelled at once
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one.serve())
            await one.ready()
            late = await one.stop(30)
            assert clock.monotonic() == 30.0
        assert [x.name for x in late] == ["the slow one"]
        assert any("deep_inside" in line for line in late[0].stack) and "the slow one (others)" in str(late[0])

    run_virtual(main)
    out = capsys.readouterr().err
    assert "a job did not stop in time" in out and "the slow one" in out and "deep_inside" in out


def test_man3_a_job_that_ignores_its_cancellation_is_named_and_waited_for() -> None:
    async def main(clock: VirtualClock) -> None:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        one = group()
        one.add(Job("stubborn", stubborn))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(one.serve())
            await one.ready()
            assert [x.name for x in await one.stop(5)] == ["stubborn"]
            assert clock.monotonic() == 6.0, "five seconds, and one for the cancellation"
            assert [x.name for x in one.left()] == ["stubborn"] and not serving.done()
            release.set()
        assert one.left() == []

    run_virtual(main)


@pytest.mark.parametrize(("grace", "seconds"), [(0.0, 0.0), (None, 500.0)])
def test_man3_zero_cancels_at_once_and_below_zero_waits_for_ever(grace: float | None, seconds: float) -> None:
    async def main(clock: VirtualClock) -> None:
        asked = asyncio.Event()

        async def run() -> None:
            await asked.wait()
            await clock.sleep(500)

        one = group()
        one.add(Job("worker", run, stop=asked.set))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one.serve())
            await one.ready()
            assert await one.stop(grace) == []
        assert clock.monotonic() == seconds

    run_virtual(main)


def test_man2_a_group_that_never_opened_starts_nothing_after_its_stop() -> None:
    async def main(_clock: VirtualClock) -> None:
        async def run() -> None:
            raise AssertionError("must not start")

        one = group()
        one.add(Job("late", run))
        assert await one.stop(30) == []
        await one.serve()

    run_virtual(main)


def test_lea4_cancelling_a_group_cancels_its_jobs_at_once() -> None:
    async def main(clock: VirtualClock) -> None:
        ended: list[float] = []

        async def run() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(clock.monotonic())

        one = group()
        one.add(Job("worker", run, stop=lambda: None))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(one.serve())
            await one.ready()
            await clock.sleep(3)
            serving.cancel()
        assert ended == [3.0] and one.closed

    run_virtual(main)
