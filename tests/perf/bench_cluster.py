"""What one event of a node costs the whole manager, on the embedded API server, in a small and in a large cluster.

The manager runs in virtual time with simulated nodes; counted is the CPU time of the callbacks that it began, and of
nobody else's: what the server does for its requests is left out. A job of type Never has had its pod on every node.
Then nodes report as they do every five minutes (nothing changes for the job), and nodes are cordoned and released (the
job loses a pod and gets another).

Targets: flat in the number of nodes; an idle hour writes nothing but the lease.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.simulator.apiserver.bodies import STRATEGIC
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.server import ApiServer
from tests.perf.harness import Bench, calibrate, settled
from tests.simulation.world import CREATE, World, opened

CLUSTERS: Final = (100, 5000)
EVENTS: Final = 1000
KINDS: Final = ("report", "cordon")

_OURS: ContextVar[bool] = ContextVar("ours", default=False)


@contextmanager
def ours() -> Iterator[None]:
    """Let the meter count whatever is begun within, and all that descends from it."""
    token = _OURS.set(True)
    try:
        yield
    finally:
        _OURS.reset(token)


def run(bench: Bench) -> None:
    """Measure."""
    costs: dict[tuple[int, str], float] = {}
    for nodes in CLUSTERS:
        for kind, cost in _costs(nodes).items():
            costs[nodes, kind] = cost
            bench.report.add(
                f"manager: node event ({kind}), {nodes} nodes", cost * 1e6, "us", cost / calibrate(), slack=4.0
            )
    for kind in KINDS:
        ratio = costs[CLUSTERS[-1], kind] / costs[CLUSTERS[0], kind]
        bench.report.gate(f"manager: node event ({kind}): 5,000 nodes / 100 nodes", ratio, 2.0, "flat in N")
    writes = float(idle_hour(CLUSTERS[-1]))
    bench.report.gate("manager: writes of an idle hour but for the lease, 5,000 nodes", writes, 0.0, "idle is idle")


class Meter:
    """Counts the CPU seconds of the callbacks that descend from where ``_OURS`` was set."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Count from now on."""
        plain = asyncio.Handle._run

        def measured(handle: Any) -> None:
            if not handle._context.get(_OURS, False):
                plain(handle)
                return
            begun = time.thread_time_ns()
            plain(handle)
            self.seconds += (time.thread_time_ns() - begun) / 1e9

        serve = ApiServer.handle

        async def served(server: ApiServer, call: Call) -> Answer:
            begun = time.thread_time_ns()
            try:
                return await serve(server, call)  # without faults it never waits
            finally:
                if _OURS.get():
                    self.seconds -= (time.thread_time_ns() - begun) / 1e9

        asyncio.Handle._run = measured  # type: ignore[method-assign]
        ApiServer.handle = served  # type: ignore[method-assign]
        try:
            yield
        finally:
            asyncio.Handle._run = plain  # type: ignore[method-assign]
            ApiServer.handle = serve  # type: ignore[method-assign]


async def _prepare(world: World, nodes: int) -> None:
    with ours():
        process = world.start_manager()
    await world.until(lambda: process.manager.leading and process.controller.took_over is not None)
    world.create_job("open", run="1s", completionPolicy={"type": "Never"})
    done = {"desired": nodes, "succeeded": nodes}
    await world.until(lambda: done.items() <= world.status("open").items(), every=0.5, timeout=1200.0)
    assert world.counts()[CREATE] == nodes
    await world.sleep(30.0)


def _costs(nodes: int) -> dict[str, float]:
    """Return the CPU seconds of the manager per event of each kind."""
    found: dict[str, float] = {}
    meter = Meter()

    async def main(clock: VirtualClock) -> None:
        async with opened(clock, nodes=nodes) as world:
            await _prepare(world, nodes)
            for kind in KINDS:
                with settled():
                    begun = meter.seconds
                    for number in range(EVENTS):
                        name = f"node-{(number // 2) % nodes}"
                        if kind == "cordon":
                            world.cordon(name, number % 2 == 0)
                        else:
                            _report(world, name, number)
                        await world.sleep(0.05)
                    await world.sleep(5.0)
                    found[kind] = (meter.seconds - begun) / EVENTS

    with meter.attached():
        run_virtual(main, timeout=400_000.0)
    return found


def _report(world: World, name: str, number: int) -> None:
    """Write what a kubelet writes every five minutes: the same status with a new time."""
    conditions = [
        {"type": "DiskPressure", "status": "False", "lastHeartbeatTime": f"2026-01-01T00:{number % 60:02}:00Z"}
    ]
    patch = {"status": {"conditions": conditions}}
    world.server.patch("nodes", name, patch, subresource="status", content_type=STRATEGIC, actor="kubelet")


def idle_hour(nodes: int) -> int:
    """Return how many writes the manager sends in an hour in which only nodes report, every five minutes each."""
    writes = -1

    async def main(clock: VirtualClock) -> None:
        nonlocal writes
        async with opened(clock, nodes=nodes) as world:
            await _prepare(world, nodes)
            await world.sleep(480.0)
            mark = world.mark()
            for minute in range(12):
                for number in range(nodes):
                    _report(world, f"node-{number}", minute)
                await world.sleep(300.0)
            writes = len(world.writes(since=mark))

    run_virtual(main, timeout=400_000.0)
    return writes
