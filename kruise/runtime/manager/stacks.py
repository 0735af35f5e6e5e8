"""Where a task waits, and what threads do, as text.

Purpose: name the line at which something hangs. asyncio itself shows the outermost coroutine of a task only; here is
the whole chain down to what it waits for.

What this does not do: it shows no values of variables, because they may be secret.
"""

from __future__ import annotations

import asyncio
import linecache
import sys
import threading
import traceback
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, Final

_DEEPEST: Final = 100
_STEPS: Final = (("cr_await", "cr_frame"), ("gi_yieldfrom", "gi_frame"), ("ag_await", "ag_frame"))


def chain(task: asyncio.Task[Any]) -> list[str]:
    """Return the lines at which *task* waits, the outermost first: ``manager.py:12 in run: await x()``."""
    found: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None and len(found) < _DEEPEST:
        following = None
        for awaited, frame in _STEPS:
            if hasattr(inner, awaited):
                at = getattr(inner, frame, None)
                if isinstance(at, FrameType):
                    found.append(_line(at.f_code, at.f_lineno))
                following = getattr(inner, awaited)
                break
        inner = following
    return found


def _line(code: CodeType, number: int) -> str:
    text = linecache.getline(code.co_filename, number).strip()
    return f"{_short(code.co_filename)}:{number} in {code.co_qualname}: {text}"


def _short(path: str) -> str:
    return "/".join(path.replace("\\", "/").rsplit("/", 3)[1:]) or path


def describe(task: asyncio.Task[Any]) -> str:
    """Return one line: the name of *task*, what it runs, and where it waits."""
    name = getattr(task.get_coro(), "__qualname__", "?")
    where = chain(task)
    return f"{task.get_name()}: {name} at {where[-1] if where else 'its start'}"


def threads() -> Iterator[str]:
    """Yield the stack of each thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way to see other threads
        yield f"thread {names.get(ident, ident)}:"
        for entry in traceback.extract_stack(frame):
            yield f"  {_short(entry.filename)}:{entry.lineno} in {entry.name}: {entry.line}"
