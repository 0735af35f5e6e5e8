"""The manager as a process: signals, the heap, the event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal

import pytest

from kruise.runtime.clock import SystemClock
from kruise.runtime.manager import manager as manager_module
from kruise.runtime.manager import process
from kruise.runtime.manager.process import Signals, loop_factory
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from tests.unit.manager.manager_world import MAPS, api, holder, make, stopped

# MAN4


async def test_man4_the_second_signal_ends_the_process_at_once() -> None:
    asked, codes, dumps = [], [], []
    signals = Signals(stop=asked.append, dump=lambda: dumps.append(1), abort=codes.append)
    signals.install()
    try:
        for number, want in ((signal.SIGUSR1, ([], [], [1])), (signal.SIGTERM, (["SIGTERM"], [], [1])),
                             (signal.SIGINT, (["SIGTERM"], [1], [1]))):  # fmt: skip
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)
            assert (asked, codes, dumps) == want
    finally:
        signals.remove()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_man4_sigterm_stops_in_order_and_sigusr1_dumps(capsys: pytest.CaptureFixture[str]) -> None:
    clock = SystemClock()
    server = api(clock)
    manager = make(server, clock)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(manager.run())
        manager.install_signal_handlers()
        await eventually(lambda: manager.leading, clock, 5, every=0.01)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert holder(server) == ""
    out = capsys.readouterr().err
    assert "report=leader" in out and "report=tasks" in out and "SIGTERM" in out
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_man8_the_heap_is_frozen_after_the_first_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(clock: VirtualClock) -> None:
        server = api(clock)
        server.create(MAPS, {"metadata": {"name": "a"}})
        manager = make(server, clock, freeze_heap=True)
        manager.cache.watch(MAPS)
        held: list[int] = []
        monkeypatch.setattr(manager_module, "freeze_heap", lambda: held.append(len(manager.cache.list(MAPS))))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.run())
            await eventually(lambda: manager.leading, clock)
            assert held == [1], "once, with the cache already full"
            await stopped(manager, task)

    run_virtual(main)


def test_man8_freezing_collects_first_and_makes_collections_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(gc, "set_threshold", lambda *n: done.append(f"threshold {n[0]}"))
    process.freeze_heap()
    assert done == ["collect", "freeze", "threshold 10000"]


def test_man8_uvloop_when_it_can_be_imported() -> None:
    uvloop = pytest.importorskip("uvloop")
    assert loop_factory() is uvloop.new_event_loop
    assert loop_factory(fast=False) is asyncio.new_event_loop


def test_man8_without_uvloop_asyncios_own_loop_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    assert loop_factory() is asyncio.new_event_loop
