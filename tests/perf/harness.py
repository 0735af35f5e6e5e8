"""Measures code by the CPU time that it takes, as a ratio to a fixed loop in the same run.

Purpose: figures that mean the same on a laptop, on a shared CI machine and next year.

Guarantees:

* Only CPU time of this process counts, so that other processes do not blur it; the median of several repeats is
  taken.
* Each repeat is framed by the calibration loop, and a result is its cost in *units* of that loop: a slower machine
  makes both slower. Microseconds are shown beside, for reading only.
* A stored baseline is a unit or a ratio, never a time. A gate has a generous bound: repeats drift by a quarter.

What this does not do: it asserts nothing by itself, and it measures no waiting.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

BASELINE: Final = Path(__file__).with_name("baseline.json")
REPEATS: Final = 5
SLACK: Final = 2.5
"""How many times its baseline a measured cost may be before ``--check`` fails."""


@dataclass(frozen=True, slots=True)
class Result:
    """One figure. ``units`` is compared with the baseline; ``value`` is for people."""

    name: str
    value: float
    unit: str
    units: float
    slack: float = SLACK


@dataclass(frozen=True, slots=True)
class Gate:
    """A relation between figures of one run that must hold on any machine."""

    name: str
    value: float
    bound: float
    why: str

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value <= self.bound


@dataclass(slots=True)
class Report:
    """What a run found."""

    results: dict[str, Result] = field(default_factory=dict)
    gates: list[Gate] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, units: float, *, slack: float = SLACK) -> None:
        """Note a figure."""
        self.results[name] = Result(name, value, unit, units, slack)

    def gate(self, name: str, value: float, bound: float, why: str) -> None:
        """Note a relation; it must not exceed *bound*."""
        self.gates.append(Gate(name, value, bound, why))

    def units(self, name: str) -> float:
        """Return a figure of this run, to relate another one to it."""
        return self.results[name].units


def calibration_loop() -> None:
    """Do about a millisecond of what Python programs do: dicts, strings, calls, attributes."""
    found: dict[str, int] = {}
    for n in range(2000):
        key = f"key-{n % 97}"
        found[key] = found.get(key, 0) + len(key)
    text = ",".join(sorted(found))
    if text.count(",") != 96:
        raise AssertionError("the loop was optimised away")


def cpu() -> float:
    """Return the CPU seconds of this process."""
    return time.process_time_ns() / 1e9


def calibrate() -> float:
    """Return the CPU seconds of one calibration loop, as it is at this moment."""
    started = cpu()
    for _ in range(20):
        calibration_loop()
    return (cpu() - started) / 20


@contextmanager
def settled() -> Iterator[None]:
    """Keep what exists out of the garbage collector's way, as the manager does after its first sync."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass(slots=True)
class Bench:
    """Runs measurements and puts them into a report."""

    report: Report = field(default_factory=Report)
    repeats: int = REPEATS

    def time(
        self, name: str, run: Callable[[], object], *, per: int, prepare: Callable[[], object] | None = None
    ) -> None:
        """Measure ``run()``, which does *per* operations. ``prepare()`` goes before each repeat, unmeasured."""
        samples = []
        for _ in range(self.repeats + 1):
            if prepare is not None:
                prepare()
            with settled():
                before = calibrate()
                started = cpu()
                run()
                took = cpu() - started
                unit = (before + calibrate()) / 2
            samples.append((took / per, unit))
        self._note(name, samples[1:])

    def time_async(
        self,
        name: str,
        run: Callable[[], Coroutine[Any, Any, float]],
        *,
        per: int,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        """Measure a coroutine that returns the CPU seconds of *per* operations. Each repeat has a loop of its own."""
        samples = []
        for _ in range(self.repeats + 1):
            with settled(), asyncio.Runner(loop_factory=loop_factory) as runner:
                before = calibrate()
                took = runner.run(run())
                unit = (before + calibrate()) / 2
            samples.append((took / per, unit))
        self._note(name, samples[1:])

    def _note(self, name: str, samples: list[tuple[float, float]]) -> None:
        seconds = statistics.median(took for took, _ in samples)
        units = statistics.median(took / unit for took, unit in samples)
        self.report.add(name, seconds * 1e6, "us", units)


def load_baseline(path: Path = BASELINE) -> dict[str, float]:
    """Return the stored units by name; empty when nothing is stored."""
    if not path.exists():
        return {}
    stored: dict[str, Any] = json.loads(path.read_text())
    return {name: float(value) for name, value in stored.items()}


def save_baseline(report: Report, path: Path = BASELINE) -> None:
    """Store the units of this run, keeping those of benchmarks that did not run."""
    kept = load_baseline(path)
    kept.update({name: float(f"{r.units:.4g}") for name, r in report.results.items()})
    path.write_text(json.dumps(dict(sorted(kept.items())), indent=2) + "\n")


def failures(report: Report, baseline: dict[str, float]) -> list[str]:
    """Return, in words, what is worse than it may be."""
    found = []
    for name, result in report.results.items():
        stored = baseline.get(name)
        if stored is None:
            found.append(f"{name}: no baseline; run `python -m tests.perf --update`")
        elif result.units > stored * result.slack:
            found.append(
                f"{name}: {result.units / stored:.2f} times its baseline ({result.value:.4g} {result.unit}), "
                f"allowed are {result.slack:g}"
            )
    found += [f"{g.name}: {g.value:.3g}, allowed is {g.bound:g}: {g.why}" for g in report.gates if not g.holds]
    return found


def table(report: Report, baseline: dict[str, float]) -> str:
    """Return the report as text."""
    lines = [f"{'benchmark':46} {'value':>14} {'units':>10} {'baseline':>10} {'ratio':>6}"]
    for name, r in report.results.items():
        stored = baseline.get(name)
        beside = f"{stored:10.4g} {r.units / stored:6.2f}" if stored else f"{'-':>10} {'-':>6}"
        lines.append(f"{name:46} {r.value:10.4g} {r.unit:>3} {r.units:10.4g} {beside}")
    if report.gates:
        lines += ["", f"{'relation':62} {'value':>10} {'bound':>8}"]
        lines += [f"{g.name:62} {g.value:10.3g} {g.bound:8g}{'' if g.holds else '  FAILED'}" for g in report.gates]
    return "\n".join(lines)
