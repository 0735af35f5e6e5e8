"""The numbered trace of ``docs/architecture.md``, played: one edit of a ConfigMap, from the socket to the write."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import kruise.runtime as k
from kruise.runtime.testing import eventually, run_virtual
from kruise.simulator.apiserver import ApiServer, Chunk, Interceptor
from kruise.simulator.apiserver.transport import InProcessTransport, Stream

ROOT = Path(__file__).resolve().parents[2]
STEP = re.compile(r"^(\d+)\. `([\w.]+)` (returns|is called)", re.MULTILINE)
WATCH_LAG = 1.0
SEAM = {
    "client.transport.ByteStream.read_line": (Stream, "read_line"),
    "client.transport.Transport.request": (InProcessTransport, "request"),
}
"""Of these the runtime has the protocol; here the embedded server stands behind it."""
TEAM = k.Key("", "team-a")


@dataclass(frozen=True, slots=True)
class Step:
    number: int
    function: str
    returns: bool


@dataclass(frozen=True, slots=True)
class Happened:
    function: str
    returned: bool
    args: tuple[Any, ...]
    result: Any = None


def steps() -> list[Step]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    return [Step(int(n), function, how == "returns") for n, function, how in STEP.findall(text)]


# What a step has to be about; the same function is called for other things, too.


def _team(h: Happened) -> bool:
    return TEAM in h.args


def _line_of(namespace: str) -> Callable[[Happened], bool]:
    return lambda h: b'"settings"' in h.result and f'"namespace":"{namespace}"'.encode() in h.result


def _puts(namespace: str) -> Callable[[Happened], bool]:
    return lambda h: h.args[1].key == k.Key(namespace, "settings")


MEANS: dict[int, Callable[[Happened], bool]] = {
    1: _line_of("default"),
    2: lambda h: h.result[0].object.data == {"colour": "red"},
    3: lambda h: type(h.result).__name__ == "Arrived",
    4: lambda h: type(h.args[1]).__name__ == "Arrived",
    6: _puts("default"),
    10: _team,
    12: _team,
    13: lambda h: h.result.key == TEAM,
    14: lambda h: h.args[1].key == TEAM,
    15: lambda h: TEAM in h.args,
    16: lambda h: h.args[2].key == k.Key("team-a", "settings"),
    17: lambda h: h.result is True,
    19: lambda h: h.args[1:3] == ("patch", "PATCH"),
    22: lambda h: h.args[1].method == "PATCH" and h.args[1].resource == "configmaps" and _is_conditional(h.args[1]),
    24: _team,
    25: _team,
    26: _team,
    27: lambda h: _team(h) and h.result is True,
    28: _line_of("team-a"),
    29: _puts("team-a"),
    31: _team,
    32: lambda h: h.result.key == TEAM,
    33: lambda h: h.result is False,
}


def _is_conditional(request: k.Request) -> bool:
    return b'"resourceVersion":"' in (request.body or b"") and b'"uid":"' in (request.body or b"")


class Recorder:
    """Notes each call and return of the functions of the trace, once it is armed."""

    def __init__(self) -> None:
        self.armed = False
        self.happened: list[Happened] = []

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def note(*, returned: bool, args: tuple[Any, ...], result: Any = None) -> None:
            if self.armed:
                self.happened.append(Happened(name, returned, args, result))

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wait(*args: Any, **options: Any) -> Any:
                note(returned=False, args=args)
                result = await function(*args, **options)
                note(returned=True, args=args, result=result)
                return result

            return wait

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            note(returned=False, args=args)
            result = function(*args, **options)
            note(returned=True, args=args, result=result)
            return result

        return call


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Stand at every function that the document names."""
    found = Recorder()
    for name in dict.fromkeys(step.function for step in steps()):
        holder, attribute = SEAM.get(name) or _holder(name)
        function = getattr(holder, attribute)
        wrapped = found.wrap(name, function)
        monkeypatch.setattr(holder, attribute, wrapped)
        if not inspect.isclass(holder):  # a function may have been imported by name
            for module in [m for n, m in sys.modules.items() if n.startswith("kruise.") and m is not holder]:
                if vars(module).get(attribute) is function:
                    monkeypatch.setattr(module, attribute, wrapped)
    # The heap is the process's, and this process is pytest's.
    monkeypatch.setattr("kruise.runtime.manager.manager.freeze_heap", lambda: None)
    return found


def _holder(name: str) -> tuple[Any, str]:
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            holder: Any = importlib.import_module("kruise.runtime." + ".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:-1]:
            holder = getattr(holder, part)
        return holder, parts[-1]
    raise AssertionError(f"docs/architecture.md names {name}, which does not exist")


class Late(Interceptor):
    """Watches of ConfigMaps lag behind; every other line comes at once."""

    def chunk(self, call: Any, line: bytes) -> Chunk:
        return Chunk((line,), after=WATCH_LAG if call.resource == "configmaps" else 0.0)


def copier() -> Any:
    spec = importlib.util.spec_from_file_location("configmap_copier", ROOT / "examples" / "01_configmap_copier.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def play(clock: Any, recorder: Recorder) -> ApiServer:
    """Let the copier of the example settle, make the edit of the document, and let it settle again."""
    server = ApiServer(clock, k.Random(1))
    server.create("namespaces", {"metadata": {"name": "team-a", "labels": {"example.org/wants-config": "settings"}}})
    server.create("configmaps", {"metadata": {"name": "settings", "namespace": "default"}, "data": {"colour": "green"}})
    server.faults = Late()

    def copy() -> dict[str, str]:
        found = server.get("configmaps", "settings", "team-a")
        return found["data"] if found is not None else {}

    manager = copier().build(server.transport(), clock, k.Random(2))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(manager.run(stop=stop))
        await eventually(lambda: copy() == {"colour": "green"}, clock)
        await clock.sleep(5 * WATCH_LAG)
        server.log.clear()
        recorder.armed = True
        server.patch("configmaps", "settings", {"data": {"colour": "red"}}, namespace="default")
        await eventually(lambda: copy() == {"colour": "red"}, clock)
        await clock.sleep(WATCH_LAG / 10)
        server.patch("namespaces", "team-a", {"metadata": {"labels": {"note": "labelled"}}}, namespace="")
        await clock.sleep(5 * WATCH_LAG)
        recorder.armed = False
        stop.set()
    return server


def test_every_numbered_step_happens_in_order(recorder: Recorder) -> None:
    server = run_virtual(lambda clock: play(clock, recorder), seed=3)
    trail = iter(recorder.happened)  # consumed by each search up to what it found
    for step in steps():
        means = MEANS.get(step.number, lambda _: True)
        found = any((h.function, h.returned) == (step.function, step.returns) and means(h) for h in trail)
        assert found, f"step {step.number}, {step.function}, did not happen after the one before it"
    writes = [f"{c.verb} {c.resource} {c.code}" for c in server.log.writes(actor="configmap-copier/1")]
    assert writes == ["patch configmaps 200"], "one edit is one write"


def test_the_steps_are_numbered_without_a_gap() -> None:
    numbers = [step.number for step in steps()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 30
    assert set(MEANS) <= set(numbers)


def test_from_the_store_to_the_queue_no_other_task_runs() -> None:
    """Steps 5 to 11 are synchronous, as the document says."""
    for step in steps()[4:11]:
        holder, attribute = SEAM.get(step.function) or _holder(step.function)
        assert not inspect.iscoroutinefunction(getattr(holder, attribute)), step.function
