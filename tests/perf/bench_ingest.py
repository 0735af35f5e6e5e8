"""What one watch event costs: its decoding alone, and its whole way into the handlers.

Targets (CPU on the reference machine): decode 16 us, whole ingest 60 us in a burst.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import orjson

from kruise.apis.core import PODS, Pod
from kruise.runtime.cache.cache import Cache
from kruise.runtime.cache.store import Change, Store
from kruise.runtime.client.frames import Codec, EventReader
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import NO_HEADERS, Pool, Request, Response
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.metrics import Metrics
from tests.perf.harness import Bench, cpu
from tests.perf.samples import as_bytes, event, pod

EVENTS: Final = 2000


class Lines:
    """A stream that has all its lines in the buffer; at the end it stays silent for ever."""

    status = 200
    headers: Mapping[str, str] = NO_HEADERS

    def __init__(self, lines: list[bytes], *, ends: bool = False) -> None:
        self._left = iter(lines)
        self._count = len(lines)
        self._ends = ends

    async def read_line(self) -> bytes:
        self._count -= 1
        if self._count < 0 and not self._ends:
            await asyncio.get_running_loop().create_future()
        return next(self._left, b"")

    def buffered(self) -> bool:
        return self._count > 0

    async def read_all(self) -> bytes:
        return b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        return


class Feed:
    """A transport with an empty list and one watch full of events."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    async def request(self, request: Request) -> Response:
        body = {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": []}
        return Response(200, {"content-type": "application/json"}, as_bytes(body))

    async def stream(self, request: Request) -> Any:
        if request.pool is not Pool.WATCH or "sendInitialEvents" in request.path:
            return Refusal()
        return Lines(self._lines)

    async def close(self) -> None:
        return


class Refusal(Lines):
    """An answer to a streaming list: not offered here."""

    status = 422

    def __init__(self) -> None:
        super().__init__([], ends=True)

    async def read_all(self) -> bytes:
        return as_bytes({"kind": "Status", "apiVersion": "v1", "code": 422, "reason": "Invalid", "message": "no"})


def run(bench: Bench) -> None:
    """Measure."""
    lines = [event(pod(n % 1000, version=200_000 + n)) for n in range(EVENTS)]
    objects = [as_bytes(pod(n % 1000, version=200_000 + n)) for n in range(EVENTS)]
    _decoding(bench, objects)
    _reading(bench, lines)
    _ingest(bench, lines)
    _store(bench, objects)


def _decoding(bench: Bench, objects: list[bytes]) -> None:
    codec = Codec(PODS)
    decoders: tuple[tuple[str, Callable[[bytes], object]], ...] = (
        ("decode pod", codec.decode),
        ("decode pod: orjson, for comparison", orjson.loads),
        ("decode pod: json, for comparison", json.loads),
    )
    for name, decode in decoders:
        bench.time(name, lambda decode=decode: _each(decode, objects), per=len(objects))
    bench.report.gate(
        "decode pod / orjson",
        bench.report.units("decode pod") / bench.report.units("decode pod: orjson, for comparison"),
        1.5,
        "a projection with shared strings costs no more than plain dicts, which are sixteen times as large",
    )


def _each(decode: Callable[[bytes], object], objects: list[bytes]) -> None:
    # Nothing is kept: to hold two thousand dicts would measure the garbage collector.
    for raw in objects:
        decode(raw)


def _reading(bench: Bench, lines: list[bytes]) -> None:
    clock, metrics = SystemClock(), Metrics(process=False)

    async def read() -> float:
        reader = EventReader(Lines(lines, ends=True), Codec(PODS), clock=clock, metrics=metrics)
        started = cpu()
        while await reader.batch():
            pass
        return cpu() - started

    bench.time_async("read event (frame, decode, share)", read, per=len(lines))


def _ingest(bench: Bench, lines: list[bytes]) -> None:
    async def ingest() -> float:
        clock, metrics = SystemClock(), Metrics(process=False)
        rest = Rest(Feed(lines), clock=clock, rng=Random(1), metrics=metrics)
        cache = Cache(rest, clock=clock, rng=Random(2), metrics=metrics, environ={})
        done, seen = asyncio.Event(), 0

        def handler(change: Change[Any]) -> None:
            nonlocal seen
            seen += 1
            if seen == len(lines):
                done.set()

        cache.watch(PODS).add_handler(handler)
        async with asyncio.TaskGroup() as tasks:
            started = cpu()
            running = tasks.create_task(cache.run())
            await done.wait()
            took = cpu() - started
            running.cancel()
        return took

    bench.time_async("ingest event, burst", ingest, per=len(lines))
    bench.report.gate(
        "ingest event, burst / json.loads of it",
        bench.report.units("ingest event, burst") / bench.report.units("decode pod: json, for comparison"),
        1.5,
        "the whole way of an event costs about as much as reading it into dicts",
    )


def _store(bench: Bench, objects: list[bytes]) -> None:
    codec = Codec(PODS)
    decoded: list[Pod] = [codec.decode(raw) for raw in objects]
    holder: list[Store[Pod]] = []

    def prepare() -> None:
        holder[:] = [Store(PODS, clock=SystemClock())]

    def put() -> None:
        store = holder[0]
        for one in decoded:
            store.put(one)
            store.advance(one.metadata.resource_version)

    bench.time("store put", put, per=len(decoded), prepare=prepare)
