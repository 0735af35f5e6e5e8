"""One connection to a server, used by one request at a time.

Purpose: the loop's side of ``http1.py``: bytes out, bytes in, and what their end means.

Guarantees:

* TRA9: a whole answer wakes its reader once. TRA10: news that follow soon after others come together (``pace.py``).
* A connection is used again only after a whole answer that allows it. What ends while it is idle is noticed at once.
* A stream that nobody reads holds its server back after :data:`HIGH` bytes. A large body goes out in pieces, and no
  further than the server wants it.

What this does not do: it dials nothing (``pool.py``), repeats nothing, and knows neither credentials nor deadlines.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, cast

from kruise.runtime.client.http1 import AnswerReader, BadAnswer, EarlyEnd
from kruise.runtime.client.pace import Pace
from kruise.runtime.errors import BadFrame, Reset, TransportError, Truncated

__all__ = ["Connection", "say"]

GOODBYE: Final = 2.0
"""Seconds for the other side to agree to the end of a TLS connection."""
HIGH: Final = 1 << 20
"""Bytes of a stream that may wait for their reader."""
_PIECE: Final = 256 << 10
"""Bytes of a body that are written at once, so that a large one does not hold up the loop."""


class Connection(asyncio.Protocol):
    """One connection. It carries one request at a time."""

    def __init__(self, tls: ssl.SSLContext | None = None, pace: Pace | None = None) -> None:
        self._pace = pace
        self.tls = tls
        """With which context it was made."""
        self.idle_since = 0.0
        self.what = ""
        """The request, for the text of errors."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: AnswerReader | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._whole = False
        self._error: TransportError | None = None
        self._drained: asyncio.Future[None] | None = None
        self._paused = False
        self._held = 0

    # What the loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the answer."""
        if self._pace is not None:
            self._pace.news()
        answer = self._answer
        if answer is None or answer.done:
            self.abort()  # nobody asked for anything
            return
        try:
            answer.feed(data)
        except BadAnswer as error:
            self._fail(BadFrame(f"{self.what}: the answer is no HTTP: {error}"))
            return
        except EarlyEnd as error:
            self._fail(Truncated(f"{self.what}: the answer ended early: {error}"))
            return
        if not self._whole:
            self._held += len(data)
            if self._held > HIGH and not answer.done:
                self._hold()
        if self._enough(answer):
            self._wake()

    def _enough(self, answer: AnswerReader) -> bool:
        """Tell whether *answer* is what the request waits for: all of it, or its head."""
        return answer.done or (answer.status > 0 and not self._whole)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, whoever made it."""
        self._transport = None
        answer = self._answer
        if answer is not None and not answer.done and self._error is None:
            self._fail(self._ended(answer, exc))
        self._wake()
        self.resume_writing()

    def _ended(self, answer: AnswerReader, exc: Exception | None) -> TransportError | None:
        """Return what the end of the connection means for *answer*; None when it is the end of the answer too."""
        why = f": {say(exc)}" if exc is not None else ""
        if not answer.status:
            return Reset(f"{self.what}: the connection broke{why}")
        try:
            answer.end()
        except EarlyEnd as error:
            return Truncated(f"{self.what}: the answer ended early{why or f': {error}'}")
        return None

    def pause_writing(self) -> None:
        """Write no more for now."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Go on writing."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _fail(self, error: TransportError | None) -> None:
        self._error = error
        self.abort()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What a request asks of it.

    @property
    def open(self) -> bool:
        """Whether neither side has ended it."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether another request may go over it."""
        return self.open and self._answer is not None and self._answer.done and self._answer.reusable

    async def send(self, what: str, head: bytes, body: bytes, *, whole: bool) -> AnswerReader:
        """Send a request, and wait for the head of its answer, or for all of it. Raises TransportError."""
        answer = self._answer = AnswerReader()
        self.what, self._whole, self._error, self._held = what, whole, None, 0
        transport = self._transport
        if transport is None:
            raise Reset(f"{what}: the connection broke", sent=False)
        if len(head) + len(body) <= _PIECE:
            transport.write(head + body)
        else:
            await self._write(transport, head, body, answer)
        while not self._enough(answer):
            await self._news()
        return answer

    async def _write(self, transport: asyncio.Transport, head: bytes, body: bytes, answer: AnswerReader) -> None:
        transport.write(head)
        for at in range(0, len(body), _PIECE):
            if answer.status or transport.is_closing():
                return  # it was answered, or refused, before it was read
            transport.write(body[at : at + _PIECE])
            if self._drained is not None:
                await self._drained

    async def _news(self) -> None:
        """Wait until something has come; raise the error of the connection when nothing more can."""
        if self._error is not None:
            raise self._error
        if self._transport is None:
            raise Reset(f"{self.what}: the connection broke")
        self._waiter = self._loop.create_future()
        await self._waiter

    async def read(self) -> list[bytes]:
        """Wait for parts of the body and return them; none at its end. Raises TransportError."""
        answer = self._answer
        assert answer is not None, "something was sent"
        while not answer.parts and not answer.done:
            await self._news()
        return self.ready()

    def ready(self) -> list[bytes]:
        """Return the parts of the body that came and were not taken."""
        assert self._answer is not None, "something was sent"
        parts, self._held = self._answer.take(), 0
        self._release()
        return parts

    def _hold(self) -> None:
        """Leave what comes in the socket for now."""
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _release(self) -> None:
        """Take what comes again."""
        if self._transport is not None and self._paused:
            self._paused = False
            self._transport.resume_reading()

    async def secure(self, tls: ssl.SSLContext, name: str) -> None:
        """Go on under TLS, through the tunnel that a proxy has opened."""
        loop, transport = asyncio.get_running_loop(), self._transport
        if transport is None:
            raise ConnectionResetError("the proxy closed the connection")
        self._answer = None
        found = await loop.start_tls(transport, self, tls, server_hostname=name, ssl_shutdown_timeout=GOODBYE)
        self._transport = cast("asyncio.Transport", found)

    def close(self) -> None:
        """End it in an orderly way."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def shut(self) -> None:
        """End it because the whole transport ends; who waits for its answer gets a Reset."""
        if self._answer is not None and not self._answer.done and self._error is None:
            self._error = Reset(f"{self.what}: the transport is closed")
        self.abort()
        self._wake()


def say(error: BaseException) -> str:
    """Return what *error* says, not too long."""
    text = str(error) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."
