"""What holds for every test: nothing may be left behind, and virtual time has a printed seed."""

from __future__ import annotations

import gc
import inspect
import io
import os
import sys
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest
import structlog

from kruise.runtime import log, testing

# The same examples on every machine: a change fails its own run, not somebody else's. HYPOTHESIS_PROFILE=explore looks
# for new ones; what it finds becomes an explicit example.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", derandomize=False, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


# Thousands of tests and their modules are a heap that the collector would walk again and again, a sixth of all time:
# nothing of it is rubbish, so it is set aside when it is complete. What tests make afterwards is collected as ever.


def pytest_collection() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
async def _nothing_left_running() -> AsyncIterator[None]:
    async with testing.nothing_left_running():
        yield


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
    """Fail a test that leaves a socket, a task or a timer behind, or a step of a script (TST3, TST4)."""
    with testing.every_step_taken():
        if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
            request.getfixturevalue("_nothing_left_running")
            yield
        else:
            with testing.nothing_left():
                yield
