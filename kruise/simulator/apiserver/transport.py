"""The front in process: the server behind the runtime's own transport seam.

Purpose: production code speaks to the embedded server with nothing in between, on any event loop, the virtual one
included.

Guarantees:

* TST1, TST2: the same answers as over HTTP, through the same hook; each request gives other tasks a turn before the
  server sees it and again before its answer is there, so that a cancellation can fall between.
* TST5: :meth:`InProcessTransport.cut` is the first half of a crash: nothing that is sent afterwards arrives, and
  nothing that was on its way comes back.

What this does not do: no bytes cross a socket, so framing and TLS are not exercised.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from kruise.runtime.client.transport import ByteStream, Request, Response
from kruise.runtime.clock import Clock
from kruise.runtime.errors import Refused, Reset, Timeout, Truncated
from kruise.simulator.apiserver.call import Answer, Call, LineSource
from kruise.simulator.apiserver.frontend import Frontend
from kruise.simulator.apiserver.intercept import PASS, Interceptor
from kruise.simulator.apiserver.webhooks import Caller, nobody


class Server(Protocol):
    """What the front needs of the server behind it."""

    clock: Clock
    faults: Interceptor

    @property
    def caller(self) -> Caller:
        """What calls webhooks."""
        ...

    def call(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        actor: str,
        controller: str,
        frontend: Frontend,
    ) -> Call:
        """Return a request as the server sees it."""
        ...

    async def handle(self, call: Call) -> Answer:
        """Answer *call*. Raises TransportError."""
        ...


class Stream:
    """An open stream: lines of the server, after the hook. A ByteStream."""

    def __init__(self, call: Call, answer: Answer, hook: Interceptor) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self._call = call
        self._hook = hook
        self._source: LineSource | None = answer.stream
        self._body = answer.body
        self._pending: deque[tuple[float, bytes]] = deque()
        self._behind = 0.0
        self._error: Exception | None = None
        self._stopped = answer.stream is None
        self._waiter: asyncio.Future[None] | None = None
        self.half = b""
        """What arrived of a last line that has no end."""
        if self._stopped and self._body:
            self._pending.append((0.0, self._body))

    async def read_line(self) -> bytes:
        while True:
            now = asyncio.get_running_loop().time()
            if self._pending and self._pending[0][0] <= now:
                return self._pending.popleft()[1]
            if not self._pending and self._stopped:
                if self._error is not None:
                    raise self._error
                return b""
            if not self._pull():
                await self._wait()

    def buffered(self) -> bool:
        if not self._pending:
            self._pull()
        return bool(self._pending) and self._pending[0][0] <= asyncio.get_running_loop().time()

    async def read_all(self) -> bytes:
        body, self._body = self._body, b""
        self._pending.clear()
        return body

    def _pull(self) -> bool:
        """Take one more line from the server through the hook; False when there is none now."""
        if self._stopped or self._source is None:
            return False
        line = self._source.ready()
        if line is None:
            return False
        chunk = self._hook.chunk(self._call, line)
        if chunk.after:
            self._behind = max(self._behind, asyncio.get_running_loop().time() + chunk.after)
        self._pending.extend((self._behind, part) for part in chunk.lines)
        if chunk.half:
            self.half = chunk.half
            self._stop(Truncated("the stream ended in the middle of a line"))
        elif chunk.end or chunk.error is not None:
            self._stop(chunk.error)
        return True

    async def _wait(self) -> None:
        if self._pending:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            when = self._pending[0][0]
            timer = loop.call_at(when, self._wake) if when != float("inf") else None
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        elif self._source is not None and not await self._source.wait():
            self._stop(self._error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop(self, error: Exception | None) -> None:
        self._stopped = True
        self._error = error
        if self._source is not None:
            self._source.close()

    def cut(self, error: Exception) -> None:
        """Break the stream: what has not arrived yet never does."""
        self._pending.clear()
        self._stop(error)
        self._wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(None)
        self._pending.clear()


class InProcessTransport:
    """Carries requests to a server in the same process. A Transport."""

    def __init__(self, server: Server, actor: str, frontend: Frontend, *, latency: float = 0.0) -> None:
        self.server = server
        self.actor = actor
        self.frontend = frontend
        self.latency = latency
        """Seconds for a request and its answer together."""
        self._gone: Exception | None = None
        self._streams: dict[Stream, None] = {}

    async def request(self, request: Request) -> Response:
        answer = await self._exchange(request)
        if answer.stream is not None:
            answer.stream.close()
            raise Timeout(f"{request.method} {request.path}: the answer is a stream that does not end")
        return Response(answer.status, answer.headers, answer.body)

    async def stream(self, request: Request) -> ByteStream:
        call = self._call(request)
        stream = Stream(call, await self._exchange(request, call), self.server.faults)
        self._streams = {s: None for s in self._streams if not s._stopped}  # noqa: SLF001 - the same module
        self._streams[stream] = None
        return stream

    def _call(self, request: Request) -> Call:
        return self.server.call(
            request.method,
            request.path,
            headers=request.headers,
            body=request.body,
            actor=self.actor,
            controller=request.controller,
            frontend=self.frontend,
        )

    async def _exchange(self, request: Request, call: Call | None = None) -> Answer:
        if self._gone is not None:
            raise Refused(f"{request.method} {request.path}: the transport is closed")
        if self.latency == 0 and self.server.faults is PASS and self.server.caller is nobody:
            return await self._send(request, call)
        try:
            async with asyncio.timeout(request.timeout):
                return await self._send(request, call)
        except TimeoutError:
            raise Timeout(f"{request.method} {request.path}: no answer within {request.timeout:g} s") from None

    async def _send(self, request: Request, call: Call | None) -> Answer:
        clock = self.server.clock
        await clock.sleep(self.latency / 2)
        self._check(request)
        answer = await self.server.handle(call if call is not None else self._call(request))
        await clock.sleep(self.latency / 2)
        if self._gone is not None and answer.stream is not None:
            answer.stream.close()
        self._check(request)
        return answer

    def _check(self, request: Request) -> None:
        if self._gone is not None:
            raise Reset(f"{request.method} {request.path}: {self._gone}")

    def cut(self, reason: str = "the connection was cut") -> None:
        """Let nothing through any more, in either direction (TST5)."""
        self._gone = Reset(reason)
        for stream in self._streams:
            stream.cut(self._gone)
        self._streams = {}

    async def close(self) -> None:
        if self._gone is None:
            self.cut("the transport was closed")
