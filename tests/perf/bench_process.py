"""What the program costs before it does anything: seconds of imports, and memory after them.

Each figure is that of a fresh interpreter; that of an empty one is told beside. The seconds are compared with the time
that ``import aiohttp`` takes in the same run, the memory directly: it is the same everywhere.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from typing import Final

from tests.perf.harness import Bench

MODULES: Final = ("kruise.runtime", "kruise.main", "kubernetes_asyncio.config")
_CHILD: Final = """
import resource, sys
{}
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, peak)
"""
# Not ru_maxrss: a child inherits the peak of its parent there.


def imported(statement: str, cache: str) -> tuple[float, float]:
    """Return the CPU seconds and the peak resident KB of an interpreter that runs *statement*.

    *cache* is a directory for compiled modules.
    """
    # Compiled modules are cached, as in a container image, whatever the environment says; and not beside the sources.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPYCACHEPREFIX": cache}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD.format(statement)], env=env, capture_output=True, text=True, check=True
    )
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def run(bench: Bench) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="kruise-perf-") as cache:
        imported("; ".join(f"import {module}" for module in MODULES), cache)
        _measure(bench, "process: an empty interpreter", "", 1.0, cache)
        yardstick = _measure(bench, "process: import aiohttp, for comparison", "import aiohttp", 1.0, cache)
        for module in MODULES:
            _measure(bench, f"process: import {module}", f"import {module}", yardstick, cache)


def _measure(bench: Bench, name: str, statement: str, yardstick: float, cache: str) -> float:
    found = [imported(statement, cache) for _ in range(bench.repeats)]
    seconds = statistics.median(cpu for cpu, _ in found)
    peak = statistics.median(rss for _, rss in found)
    bench.report.add(f"{name}: CPU", seconds * 1e3, "ms", seconds / yardstick, slack=2.0 if yardstick != 1.0 else 1e3)
    bench.report.add(f"{name}: memory", peak / 1024, "MB", peak / 1024, slack=1.3)
    return seconds
