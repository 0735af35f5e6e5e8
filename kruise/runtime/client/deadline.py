"""A stream that cannot outlive its time.

Purpose: a watch names its length to the server; a half-open connection must not make it longer.

Guarantees:

* TRA4: after the absolute deadline a read raises Timeout, whatever the socket does.

What this does not do: it does not notice a stream that is merely silent; the reflector does (REF15).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from kruise.runtime.client.transport import ByteStream
from kruise.runtime.clock import Clock
from kruise.runtime.errors import Timeout


class DeadlineStream:
    """Passes a stream through until *seconds* from now."""

    __slots__ = ("_clock", "_deadline", "_seconds", "_stream", "headers", "status")

    def __init__(self, stream: ByteStream, *, clock: Clock, seconds: float) -> None:
        self._stream = stream
        self._clock = clock
        self._seconds = seconds
        self._deadline = clock.monotonic() + seconds
        self.status: int = stream.status
        self.headers: Mapping[str, str] = stream.headers

    async def read_line(self) -> bytes:
        """Read as the stream does; raises Timeout once the deadline has passed. Can be cancelled."""
        left = self._deadline - self._clock.monotonic()
        if left > 0:
            if self._stream.buffered():
                return await self._stream.read_line()
            try:
                async with asyncio.timeout(left):
                    return await self._stream.read_line()
            except TimeoutError:
                pass
        raise Timeout(f"the stream is older than its absolute deadline of {self._seconds:g} s")

    def buffered(self) -> bool:
        return self._stream.buffered()

    async def read_all(self) -> bytes:
        """Read what is left; raises Timeout once the deadline has passed."""
        left = self._deadline - self._clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                return await self._stream.read_all()
        except TimeoutError:
            raise Timeout(f"the stream is older than its absolute deadline of {self._seconds:g} s") from None

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, error, trace)
