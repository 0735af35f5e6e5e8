"""What holds for every test: no task and no socket may be left behind, and virtual time has a printed seed."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import os
import sys
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import structlog

from kruise.runtime import log

# The same examples on every machine: a change fails its own run, not somebody else's. HYPOTHESIS_PROFILE=explore looks
# for new ones; what it finds becomes an explicit example.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", derandomize=False, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


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


class _Stderr(io.TextIOBase):
    """Whatever standard error is when a line is written; pytest replaces it for each test."""

    def write(self, text: str, /) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    """Log to the standard error of this test; what a test configures ends with it."""
    log.configure(level="debug", stream=_Stderr())
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


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
