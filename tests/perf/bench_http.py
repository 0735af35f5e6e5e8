"""What a write and a watch event cost over real sockets, with the server in another process.

Targets (CPU of the client): a write 90 us (a general library takes 310 us); an event at a trickle 209 us with asyncio's
own loop, 142 us with uvloop. Plain HTTP: TLS adds about 20 us to a write.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from kruise.apis.core import PODS
from kruise.runtime.cache.cache import Cache
from kruise.runtime.cache.store import Change
from kruise.runtime.client.auth import ClusterConfig, StaticCredentials
from kruise.runtime.client.client import Client
from kruise.runtime.client.http import HttpTransport
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.metrics import Metrics
from tests.perf import samples
from tests.perf.harness import Bench, cpu

WRITES: Final = 400
EVENTS: Final = 2000
TRICKLE: Final = 400
RATE: Final = 400.0


@contextmanager
def server(**env: str) -> Iterator[str]:
    """Run the server of ``server.py``; yield its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.perf.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | env,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()


def transport(url: str) -> HttpTransport:
    """Return the production transport to *url*."""
    config = ClusterConfig(host=url, credentials=StaticCredentials("token"))
    return HttpTransport(config, clock=SystemClock(), env={})


def run(bench: Bench) -> None:
    """Measure."""
    with server() as url:
        for at_once in (1, 32):
            bench.time_async(f"http: create pod, {at_once} at once", _creator(url, at_once), per=WRITES)
    with server(PERF_EVENTS=str(EVENTS)) as url:
        bench.time_async("http: ingest event, burst", _ingester(url, EVENTS), per=EVENTS)
    with server(PERF_EVENTS=str(TRICKLE), PERF_RATE=str(RATE)) as url:
        bench.time_async("http: ingest event, one per wake-up", _ingester(url, TRICKLE), per=TRICKLE)
        if importlib.util.find_spec("uvloop") is not None:
            _uvloop(bench, "http: ingest event, one per wake-up, uvloop", _ingester(url, TRICKLE), TRICKLE)


def _uvloop(bench: Bench, name: str, main: Callable[[], Coroutine[Any, Any, float]], per: int) -> None:
    import uvloop

    bench.time_async(name, main, per=per, loop_factory=uvloop.new_event_loop)


def _creator(url: str, at_once: int) -> Callable[[], Coroutine[Any, Any, float]]:
    template = samples.template_spec()

    async def main() -> float:
        clock, metrics = SystemClock(), Metrics(process=False)
        async with transport(url) as http:
            rest = Rest(http, clock=clock, rng=Random(1), metrics=metrics)
            client = Client(rest, metrics=metrics, clock=clock)
            numbers = iter(range(WRITES))

            async def writer() -> None:
                for number in numbers:
                    meta = {"name": f"pod-{number}", "namespace": "default"}
                    await client.create(PODS, {"metadata": meta, "spec": template})

            started = cpu()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(at_once):
                    tasks.create_task(writer())
            return cpu() - started

    return main


def _ingester(url: str, events: int) -> Callable[[], Coroutine[Any, Any, float]]:
    async def main() -> float:
        clock, metrics = SystemClock(), Metrics(process=False)
        async with transport(url) as http:
            rest = Rest(http, clock=clock, rng=Random(1), metrics=metrics)
            cache = Cache(rest, clock=clock, rng=Random(2), metrics=metrics, environ={})
            done, seen = asyncio.Event(), 0

            def handler(change: Change[Any]) -> None:
                nonlocal seen
                seen += 1
                if seen == events:
                    done.set()

            cache.watch(PODS).add_handler(handler)
            async with asyncio.TaskGroup() as tasks:
                started = cpu()
                running = tasks.create_task(cache.run())
                await done.wait()
                took = cpu() - started
                running.cancel()
            return took

    return main
