"""A transport that follows a script, and rest.py over it, on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import ByteStream, Request, Response
from kruise.runtime.clock import Random
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, Resource
from kruise.runtime.testing import Script as Steps
from kruise.runtime.testing import VirtualClock, run_virtual

PODS: Resource[Object] = Resource("", "v1", "Pod", "pods", Object)

OK = Response(200, {"content-type": "application/json"}, b'{"kind":"Pod"}')


def failure(code: int, reason: str = "", headers: Mapping[str, str] | None = None, **rest: Any) -> Response:
    body = {"kind": "Status", "code": code, "reason": reason, "message": "scripted", **rest}
    return Response(code, headers or {}, json.dumps(body).encode())


class Stream:
    def __init__(self, status: int, body: bytes = b"", *, hangs: bool = False) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {}
        self.body = body
        self.hangs = hangs
        self.closed = False

    async def read_line(self) -> bytes:
        await asyncio.Event().wait() if self.hangs else None
        return self.body

    def buffered(self) -> bool:
        return False

    async def read_all(self) -> bytes:
        return await self.read_line()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True


Step = Response | Exception | Stream


class Script:
    """Answers as written, to the last line, which repeats (TST3). Each answer takes *seconds*."""

    def __init__(self, *steps: Step, clock: VirtualClock | None = None, seconds: float = 0.0) -> None:
        self.steps = Steps(*steps[:-1], name="the answers")
        self.last = steps[-1] if steps else OK
        self.seen: list[Request] = []
        self.at: list[float] = []
        self.clock = clock
        self.seconds = seconds
        self.busy = self.peak = 0

    async def _next(self, request: Request) -> Step:
        self.seen.append(request)
        if self.clock is not None:
            self.at.append(self.clock.monotonic())
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            if self.clock is not None:
                await self.clock.sleep(self.seconds)
        finally:
            self.busy -= 1
        step = self.steps.take() if self.steps else self.last
        if isinstance(step, Exception):
            raise step
        return step

    async def request(self, request: Request) -> Response:
        step = await self._next(request)
        assert isinstance(step, Response)
        return step

    async def stream(self, request: Request) -> ByteStream:
        step = await self._next(request)
        assert isinstance(step, Stream)
        return step

    async def close(self) -> None: ...


def rest_on(script: Script, clock: VirtualClock, **options: Any) -> Rest:
    options.setdefault("metrics", Metrics(clients=True, process=False))
    return Rest(script, clock=clock, rng=Random(1), host="cluster:443", **options)


def virtual(test: Callable[[VirtualClock], Any]) -> None:
    run_virtual(test)


async def patch(rest: Rest, name: str = "a", **options: Any) -> Response:
    return await rest.call("patch", "PATCH", PODS, namespace="ns", name=name, body=b"{}", **options)


async def get(rest: Rest, name: str = "a") -> Response:
    return await rest.call("get", "GET", PODS, namespace="ns", name=name)
