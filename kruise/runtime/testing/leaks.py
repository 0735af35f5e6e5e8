"""What a test leaves behind: tasks, timers and sockets.

Purpose: a leak that no test sees is found by a user, after days. A test suite wraps each test in these blocks (as a
fixture that every test uses), and turns warnings into errors beside it (``filterwarnings = error``), since an object
that is thrown away while it is open only warns.

Guarantees:

* TST4: :func:`nothing_left` fails on a socket that is open afterwards and was not before; :func:`nothing_left_running`
  on a task that runs and a timer that is set as well. Inside :func:`~kruise.runtime.testing.run_virtual` this is
  checked without being asked for.

What this does not do: sockets are seen where ``/proc`` is (Linux), timers on asyncio's own loop; elsewhere nothing is
found. Threads are not looked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Iterator
from typing import Final

from kruise.runtime.testing.loop import Leak, VirtualLoop

_OPEN: Final = "/proc/self/fd"
_TURNS: Final = 4
"""A transport that was closed lets go of its socket in a later turn of the loop."""


def open_sockets() -> frozenset[str]:
    """Return the open sockets of this process, as ``socket:[inode]``."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for fd in os.listdir(_OPEN):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"{_OPEN}/{fd}"))
    return frozenset(one for one in found if one.startswith("socket:"))


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Raise :class:`Leak` when the block leaves a socket open."""
    before = open_sockets()
    yield
    _no_socket_since(before)


@contextlib.asynccontextmanager
async def nothing_left_running() -> AsyncIterator[None]:
    """Raise :class:`Leak` when the block leaves a task running, a timer set or a socket open."""
    tasks, timers, sockets = asyncio.all_tasks(), _timers(), open_sockets()
    yield
    for _ in range(_TURNS):
        await _turn()
    left = [t for t in asyncio.all_tasks() - tasks if t is not asyncio.current_task() and not t.done()]
    if left:
        raise Leak(f"tasks left behind: {[t.get_coro() for t in left]}")
    late = [one for one in _timers() if not any(one is old for old in timers)]
    if late:
        raise Leak(f"timers left behind: {late}")
    _no_socket_since(sockets)


def _timers() -> list[asyncio.TimerHandle]:
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        return loop.timers_left()
    scheduled: list[asyncio.TimerHandle] = getattr(loop, "_scheduled", [])
    return [one for one in scheduled if not one.cancelled()]


async def _turn() -> None:
    """Let the loop run what is ready."""
    turn = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn


def _no_socket_since(before: frozenset[str]) -> None:
    left = open_sockets() - before
    if left:
        gc.collect()
        left = open_sockets() - before
    if left:
        raise Leak(f"sockets left open: {sorted(left)}")
