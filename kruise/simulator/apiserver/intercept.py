"""The one place through which every request and every stream chunk passes.

Purpose: faults enter here, and nowhere else. A test or a seeded plan gives the server an :class:`Interceptor`.

Guarantees:

* TST2: a request can be delayed, refused, answered instead, answered with an error after it was applied, or lost in
  either direction; a chunk of a stream can be dropped, doubled, held back, reordered, delayed for ever, and the stream
  can be cut cleanly, in the middle of a line, or with an error.
* Both fronts pass here, with the same calls.

What this does not do: it knows no fault of its own (``faults.py`` of the simulation draws them).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kruise.simulator.apiserver.call import Answer, Call

Proceed = Callable[[], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What becomes of a line that the server sends."""

    lines: tuple[bytes, ...] = ()
    """What arrives instead, in order. Empty: the line is dropped."""
    after: float = 0.0
    """Seconds until it arrives; later lines wait behind it. Infinity stalls the stream for ever."""
    end: bool = False
    """The stream ends cleanly afterwards."""
    half: bytes = b""
    """This much of a line arrives without its end, and then the stream ends."""
    error: Exception | None = None
    """What the reader gets afterwards; a TransportError."""


class Interceptor:
    """Sees everything and changes nothing. Derive from it."""

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        """Answer *call*, usually with ``await proceed()``. Raise a TransportError to lose request or answer."""
        del call
        return await proceed()

    def chunk(self, call: Call, line: bytes) -> Chunk:
        """Say what becomes of *line* of the stream that *call* opened."""
        del call
        return Chunk((line,))


class Interceptors(Interceptor):
    """Several interceptors; the first one sees a request first and a chunk last."""

    def __init__(self, inner: Sequence[Interceptor]) -> None:
        self._inner = tuple(inner)

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        for one in reversed(self._inner):
            proceed = _bound(one, call, proceed)
        return await proceed()

    def chunk(self, call: Call, line: bytes) -> Chunk:
        lines: tuple[bytes, ...] = (line,)
        verdict = Chunk(lines)
        for one in reversed(self._inner):
            arrived: list[bytes] = []
            for part in lines:
                verdict = one.chunk(call, part)
                arrived += verdict.lines
                if verdict.after or verdict.end or verdict.half or verdict.error is not None:
                    return Chunk(tuple(arrived), verdict.after, verdict.end, verdict.half, verdict.error)
            lines = tuple(arrived)
        return Chunk(lines)


def _bound(one: Interceptor, call: Call, proceed: Proceed) -> Proceed:
    return lambda: one.request(call, proceed)


PASS: Final = Interceptor()
"""Changes nothing."""
