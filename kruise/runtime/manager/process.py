"""What belongs to the process as a whole: its event loop, its heap, its signals.

Purpose: the few things that cannot be per manager, so that a manager has none of them unless it is told to.

Guarantees:

* MAN4: the first SIGTERM or SIGINT asks for an orderly stop, the second one ends the process at once with code 1.
  Handlers are set with ``loop.add_signal_handler``, and taken away again.
* MAN8: :func:`freeze_heap` after the first sync; :func:`loop_factory` prefers uvloop where it can be imported.
* DBG1: SIGUSR1 asks for a dump.

What this does not do: nothing here runs by being imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterator
from typing import Final

from kruise.runtime.log import get_logger

log = get_logger("process")

GC_THRESHOLDS: Final = (10_000, 20, 50)
"""Collections become rarer: what a manager allocates is mostly free of cycles (frozen structs, tuples, strings)."""

EXIT_AT_ONCE: Final = 1
STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


def freeze_heap() -> None:
    """Take everything that lives now out of the garbage collector's sight.

    After the first sync that is the caches: a full pass over them would cost tens of milliseconds each time and would
    find nothing. What dies of it later is freed by its reference counts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def loop_factory(*, fast: bool = True) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes an event loop, for ``asyncio.Runner``: uvloop where it is installed, unless *fast* is False."""
    if fast:
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


@contextlib.contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set, for a small program on this loop; give them back at the end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in STOPPING:
            loop.remove_signal_handler(number)


class Signals:
    """The signals of a process, as long as they are installed."""

    def __init__(
        self, *, stop: Callable[[str], None], dump: Callable[[], None], abort: Callable[[int], object] | None = None
    ) -> None:
        self._stop = stop
        self._dump = dump
        self._abort = abort if abort is not None else os._exit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = False

    def install(self) -> None:
        """Take over SIGTERM, SIGINT and SIGUSR1 on the running loop."""
        self._loop = asyncio.get_running_loop()
        for number in STOPPING:
            self._loop.add_signal_handler(number, self._on_stop, number)
        self._loop.add_signal_handler(signal.SIGUSR1, self._dump)

    def remove(self) -> None:
        """Give the signals back."""
        if self._loop is not None:
            for number in (*STOPPING, signal.SIGUSR1):
                self._loop.remove_signal_handler(number)
            self._loop = None

    def _on_stop(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._asked:
            log.error("a second signal, ending at once", signal=name)
            self._abort(EXIT_AT_ONCE)
            return
        self._asked = True
        log.info("stopping in order, a second signal ends the process at once", signal=name)
        self._stop(name)
