"""clock.py: who may read a clock, what stamps look like, and the lag probe."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest

import kruise
from kruise.runtime.backoff import HostBackoff
from kruise.runtime.clock import (
    LagProbe,
    Random,
    SystemClock,
    format_micro_time,
    format_time,
    new_uuid,
    parse_time,
    system_random,
)
from kruise.runtime.testing.loop import VirtualClock, run_virtual

ROOT = Path(kruise.__file__).parent
BANNED = {
    ("time", "time"), ("time", "time_ns"), ("time", "monotonic"), ("time", "perf_counter"), ("time", "sleep"),
    ("asyncio", "sleep"), ("uuid", "uuid4"), ("uuid", "uuid1"), ("datetime", "now"), ("datetime", "utcnow"),
    ("asyncio", "create_task"), ("asyncio", "ensure_future"),
}  # fmt: skip
ROOMS = ("runtime/clock.py", "runtime/testing/")


def forbidden(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if (owner, node.attr) in BANNED or owner == "random":
                found.append(f"{owner}.{node.attr}")
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in ("random", "uuid", "secrets")]
        if isinstance(node, ast.ImportFrom) and (node.module in ("random", "uuid", "secrets")):
            found.append(str(node.module))
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{a.name}" for a in node.names if (str(node.module), a.name) in BANNED]
    return found


def test_clk1_no_module_reads_a_clock_sleeps_or_draws_by_itself() -> None:
    assert forbidden(ast.parse("import asyncio\nasync def f():\n  await asyncio.sleep(1)")) == ["asyncio.sleep"]
    assert forbidden(ast.parse("from random import random"))
    seen = 0
    bad = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(ROOMS):
            continue
        seen += 1
        found = forbidden(ast.parse(path.read_text("utf-8")))
        if found:
            bad[name] = found
    assert seen > 10
    assert bad == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1.5, "1970-01-01T00:00:01.500000Z"),
        (1772704800.000001, "2026-03-05T10:00:00.000001Z"),
        (1772704800.0, "2026-03-05T10:00:00.000000Z"),
    ],
)
def test_clk2_micro_time_has_exactly_six_fraction_digits(seconds: float, text: str) -> None:
    assert format_micro_time(seconds) == text
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)


def test_clk2_stamps_are_utc_and_cut_like_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    assert format_time(1772704800.999) == "2026-03-05T10:00:00Z"
    assert parse_time("2026-03-05T10:00:00Z") == 1772704800.0
    assert parse_time("2026-03-05T11:00:00.250000+01:00") == 1772704800.25


@pytest.mark.parametrize("bad", [None, "", "yesterday", "2026-03-05T10:00:00", "2026-13-05T10:00:00Z"])
def test_clk2_a_stamp_without_zone_or_sense_is_none(bad: str | None) -> None:
    assert parse_time(bad) is None


def test_clk2_a_wall_jump_of_an_hour_moves_no_deadline() -> None:
    async def main(clock: VirtualClock) -> None:
        backoff = HostBackoff(Random(1))
        first = backoff.failed(clock.monotonic())
        for jump in (3600.0, -7200.0):
            clock.jump(jump)
            assert backoff.failed(clock.monotonic()) == first
        begun = clock.monotonic()
        async with asyncio.TaskGroup() as tasks:
            sleeper = tasks.create_task(clock.sleep(10))
            await clock.sleep(1)
            clock.jump(3600)
            await sleeper
        assert clock.monotonic() - begun == 10

    run_virtual(main)


def test_clk2_boottime_goes_on_while_the_machine_sleeps() -> None:
    async def main(clock: VirtualClock) -> None:
        boot, mono = clock.boottime(), clock.monotonic()
        clock.suspend(600)
        assert clock.boottime() - boot == 600
        assert clock.monotonic() == mono

    run_virtual(main)


async def test_clk2_system_clock_shares_its_zero_with_the_loop() -> None:
    clock = SystemClock()
    assert abs(clock.monotonic() - asyncio.get_running_loop().time()) < 0.5
    assert clock.boottime() >= clock.monotonic() - 0.5
    assert clock.now() > 1_700_000_000
    await clock.sleep(0)


def test_clk4_a_random_source_shows_its_seed_and_repeats() -> None:
    rng = system_random()
    again = Random(rng.seeded_with)
    assert [rng.random() for _ in range(5)] == [again.random() for _ in range(5)]
    assert repr(Random(7)) == "Random(seed=7)"
    assert system_random().seeded_with != rng.seeded_with


def test_clk4_the_seed_is_printed_when_a_run_fails(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken") as caught:
        run_virtual(main, seed=4711, pick="random")
    assert "seed=4711" in capsys.readouterr().err
    assert any("seed=4711" in note for note in caught.value.__notes__)


def test_clk4_uuids_come_from_the_source() -> None:
    one = new_uuid(Random(1))
    assert one == new_uuid(Random(1)) != new_uuid(Random(2))
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one)


class LateClock:
    """A clock on which each sleep ends late by what the list says."""

    def __init__(self, delays: list[float]) -> None:
        self.time = 100.0
        self.delays = delays
        self.probe: LagProbe | None = None
        self.overdue: list[float] = []

    def now(self) -> float:
        return self.time

    monotonic = boottime = now

    async def sleep(self, seconds: float) -> None:
        if not self.delays:
            raise asyncio.CancelledError
        self.time += seconds + self.delays.pop(0)
        assert self.probe is not None
        self.overdue.append(round(self.probe.blocked_for(), 6))


async def test_clk5_lag_probe_measures_reports_and_sees_a_block_that_lasts() -> None:
    clock = LateClock([0.0, 0.25, 21.0, 0.0])
    reported: list[float] = []
    probe = clock.probe = LagProbe(clock, period=1.0, on_lag=lambda lag: reported.append(round(lag, 6)))
    assert probe.blocked_for() == 0.0
    with pytest.raises(asyncio.CancelledError):
        await probe.run()
    assert reported == [0.0, 0.25, 21.0, 0.0]
    assert clock.overdue == [0.0, 0.25, 21.0, 0.0]
    assert probe.worst == pytest.approx(21.0)
    assert probe.lag == 0.0
