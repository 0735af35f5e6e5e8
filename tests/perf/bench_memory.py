"""How much memory a cached object takes, against the same objects as plain dicts in the same run.

Targets: a pod takes at most a fifth of its dicts (FIRST), 2.4 KB (LATER). Allocations are counted, not the resident
set, so that the figures repeat exactly.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

from kruise.apis.core import NODES, PODS
from kruise.runtime.cache.store import Store
from kruise.runtime.client.frames import Codec
from kruise.runtime.clock import SystemClock
from kruise.runtime.objects import Resource
from tests.perf.harness import Bench
from tests.perf.samples import as_bytes, node, pod, stateful_pod

OBJECTS: Final = 1000


def allocated(make: Callable[[], object]) -> int:
    """Return the bytes that the result of *make* holds."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = make()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        del kept
        return after - before
    finally:
        tracemalloc.stop()


def per_object(resource: Resource[Any], bodies: list[bytes]) -> tuple[float, float]:
    """Return the bytes of one object in a store, keys and indexes included, and as dicts of ``json.loads``."""

    def cached() -> object:
        codec = Codec(resource)
        store: Store[Any] = Store(resource, clock=SystemClock())
        for body in bodies:
            store.put(codec.decode(body))
        return store

    return allocated(cached) / len(bodies), allocated(lambda: [json.loads(body) for body in bodies]) / len(bodies)


def run(bench: Bench) -> None:
    """Measure."""
    for name, resource, bodies in (
        ("pod", PODS, [as_bytes(pod(n)) for n in range(OBJECTS)]),
        ("pod of a StatefulSet", PODS, [as_bytes(stateful_pod(n)) for n in range(OBJECTS)]),
        ("node", NODES, [as_bytes(node(n)) for n in range(OBJECTS)]),
    ):
        mine, dicts = per_object(resource, bodies)
        bench.report.add(f"memory per cached {name}", mine / 1024, "KB", mine, slack=1.25)
        bench.report.add(f"memory per {name} as dicts, for comparison", dicts / 1024, "KB", dicts, slack=1.25)
        bench.report.gate(f"memory of a {name} / as dicts", mine / dicts, 0.2, "performance target, FIRST")
