"""What a test leaves behind fails it: each kind of leak, and the fixture that every test of the project uses."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kruise.runtime.testing import Leak, nothing_left, nothing_left_running, run_virtual

ROOT = Path(__file__).parents[3]


async def forgotten() -> None:
    await asyncio.Event().wait()


def test_tst4_an_open_socket_is_a_leak_and_a_closed_one_is_none() -> None:
    with nothing_left(), socket.socket():
        pass
    with socket.socket() as before, nothing_left():
        assert before.fileno() >= 0, "what was open before is nobody's leak"
    with contextlib.ExitStack() as stack, pytest.raises(Leak, match="sockets left open"), nothing_left():
        stack.enter_context(socket.socket())


async def test_tst4_a_running_task_is_a_leak() -> None:
    with pytest.raises(Leak, match=r"tasks left behind.*forgotten"):
        async with nothing_left_running():
            task = asyncio.get_running_loop().create_task(forgotten())
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_tst4_a_timer_is_a_leak_unless_it_was_cancelled() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(Leak, match="timers left behind"):
        async with nothing_left_running():
            timer = loop.call_later(3600, print)
    async with nothing_left_running():
        loop.call_later(3600, print).cancel()
    timer.cancel()


def test_tst4_the_timers_of_a_virtual_loop_are_seen_as_well() -> None:
    async def main() -> None:
        with pytest.raises(Leak, match="timers left behind"):
            async with nothing_left_running():
                timer = asyncio.get_running_loop().call_later(3600, print)
        timer.cancel()

    run_virtual(main)


async def test_tst4_a_connection_that_closes_in_a_moment_is_no_leak_and_an_open_one_is() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with nothing_left_running():
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
    with pytest.raises(Leak, match="sockets left open"):
        async with nothing_left_running():
            _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


def test_tst4_every_test_of_the_project_is_watched(tmp_path: Path) -> None:
    """A run of its own, with the project's fixtures and settings, over tests that each leave something behind."""
    leaking = tmp_path / "test_leaking.py"
    leaking.write_text(
        textwrap.dedent("""
            import asyncio, socket, warnings
            from kruise.runtime.testing import Script
            kept = []

            def test_socket(): kept.append(socket.socket())
            async def test_socket_of_a_loop(): kept.append(socket.socket())
            async def test_task(): kept.append(asyncio.create_task(asyncio.sleep(60)))
            async def test_timer(): asyncio.get_running_loop().call_later(60, print)
            def test_warning(): warnings.warn("something is old")
            def test_thrown_away(): socket.socket()
            def test_script(): Script("never")
            async def test_nothing(): await asyncio.sleep(0)
        """)
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:xdist", "-c", "pyproject.toml"]
    run = subprocess.run([*command, str(leaking)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S*::(\w+)", run.stdout, re.MULTILINE))
    wanted = {"socket", "socket_of_a_loop", "task", "timer", "warning", "thrown_away", "script"}
    assert failed == {f"test_{one}" for one in wanted}, run.stdout
