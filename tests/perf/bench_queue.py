"""What a key costs on its way through the work queue. Target: 1 us batched."""

from __future__ import annotations

from typing import Final

from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.controller.queue import Queue
from kruise.runtime.controller.ratelimit import default_limiter
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key
from tests.perf.harness import Bench

KEYS: Final = 10_000


def run(bench: Bench) -> None:
    """Measure."""
    keys = [Key("default", f"job-{n}") for n in range(KEYS)]
    queue = Queue("bench", clock=SystemClock(), metrics=Metrics(process=False), limiter=default_limiter(Random(1)))

    def through() -> None:
        for key in keys:
            queue.add(key)
        while (item := queue.get_nowait()) is not None:
            queue.done(item.key)

    def again() -> None:
        for _ in range(KEYS):
            queue.add(keys[0])

    bench.time("queue add, get, done", through, per=KEYS)
    queue.add(keys[0])
    bench.time("queue add of a key that waits", again, per=KEYS)
