"""``python -m tests.perf``: run the benchmarks and compare them with the stored baseline.

Exit code 1 with ``--check`` when a figure is far worse than its baseline, or a relation does not hold.
"""

from __future__ import annotations

import argparse
import sys
from types import ModuleType
from typing import Final

from kruise.runtime.log import configure
from tests.perf import (
    bench_broadcastjob,
    bench_cluster,
    bench_http,
    bench_ingest,
    bench_memory,
    bench_process,
    bench_queue,
    bench_rollout,
    bench_sidecars,
    bench_statefulset,
    bench_webhook,
)
from tests.perf.harness import REPEATS, Bench, failures, load_baseline, save_baseline, table

SUITES: Final[dict[str, ModuleType]] = {
    "ingest": bench_ingest,
    "queue": bench_queue,
    "memory": bench_memory,
    "broadcastjob": bench_broadcastjob,
    "statefulset": bench_statefulset,
    "cluster": bench_cluster,
    "rollout": bench_rollout,
    "sidecars": bench_sidecars,
    "http": bench_http,
    "webhook": bench_webhook,
    "process": bench_process,
}


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"any of {', '.join(SUITES)}; all by default")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"samples per figure (default: {REPEATS})")
    parser.add_argument("--check", action="store_true", help="fail when a figure left its bounds")
    parser.add_argument("--update", action="store_true", help="store this run as the baseline")
    args = parser.parse_args()
    unknown = [name for name in args.suites if name not in SUITES]
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    configure(level="error")
    bench = Bench(repeats=args.repeats)
    for name in args.suites or SUITES:
        print(f"running {name}", file=sys.stderr, flush=True)
        SUITES[name].run(bench)
    baseline = load_baseline()
    print(table(bench.report, baseline))
    if args.update:
        save_baseline(bench.report)
        print("baseline stored")
        return 0
    worse = failures(bench.report, baseline)
    for text in worse if args.check else ():
        print(f"FAILED {text}", file=sys.stderr)
    return 1 if worse and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
