"""The public surface of ``kruise.runtime``: what it is called, what it takes, and what importing it costs.

``api.txt`` beside this file is the surface in words. A change of it is a decision: run this test once with
``UPDATE_API=1`` and let the reviewer see the difference.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import kruise.runtime as runtime

SNAPSHOT = Path(__file__).with_name("api.txt")
SOURCE = Path(runtime.__file__)
BUDGET = 0.150
"""Seconds for ``import kruise.runtime``."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def _value(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    text = repr(value)
    return "..." if _ADDRESS.search(text) or "<factory>" in text or len(text) > 60 else text


def _parameters(function: Any) -> str:
    shown = []
    before = None
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.KEYWORD_ONLY and before not in (p.KEYWORD_ONLY, p.VAR_POSITIONAL):
            shown.append("*")
        if p.name != "self":
            star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
            shown.append(f"{star}{p.name}" + ("" if p.default is p.empty else f"={_value(p.default)}"))
        before = p.kind
    return f"({', '.join(shown)})"


def _constructor(kind: type) -> str:
    if issubclass(kind, enum.Enum):
        return f"({', '.join(kind.__members__)})"
    if issubclass(kind, msgspec.Struct):
        return f"({', '.join(field.name for field in msgspec.structs.fields(kind))})"
    if getattr(kind, "_is_protocol", False):
        return ""
    if dataclasses.is_dataclass(kind):
        fields = dataclasses.fields(kind)
        return f"({', '.join(f.name if f.default is f.default_factory else f'{f.name}=' for f in fields if f.init)})"
    if kind.__init__ is Exception.__init__ or kind.__init__ is object.__init__:  # type: ignore[misc]
        return "()"
    return _parameters(kind.__init__)  # type: ignore[misc]


def _members(kind: type) -> Iterator[str]:
    for name in sorted(dir(kind)):
        owner = next((k for k in kind.__mro__ if name in vars(k)), object)
        if name.startswith("_") or not owner.__module__.startswith("kruise.") or issubclass(kind, enum.Enum):
            continue
        member = inspect.getattr_static(kind, name)
        if isinstance(member, property):
            yield f"    {name}"
        elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            waits = "async " if inspect.iscoroutinefunction(function) else ""
            yield f"    {waits}{name}{_parameters(function)}"


def surface() -> str:
    """Return the public names with their parameters, one per line."""
    lines = []
    for name in sorted(runtime.__all__):
        value = getattr(runtime, name)
        if inspect.isclass(value):
            base = next((b.__name__ for b in value.__mro__[1:] if b.__name__ in runtime.__all__), "")
            lines.append(f"class {name}{_constructor(value)}" + (f": {base}" if base else ""))
            lines.extend(_members(value))
        elif inspect.isfunction(value):
            waits = "async " if inspect.iscoroutinefunction(value) else ""
            lines.append(f"{waits}def {name}{_parameters(value)}")
        else:
            lines.append(f"{name}" + (f" = {value}" if isinstance(value, int | str) else ""))
    return "\n".join(lines) + "\n"


def test_the_surface_is_the_committed_one() -> None:
    found = surface()
    if os.environ.get("UPDATE_API"):
        SNAPSHOT.write_text(found)
    assert found == SNAPSHOT.read_text(), "the public surface changed; if that is meant, run again with UPDATE_API=1"


def test_names_stand_once_in_every_place() -> None:
    """``__all__``, the imports for type checkers and the lazy homes name the same things in the same modules."""
    homes = {name: module for module, names in runtime._HOMES.items() for name in names.split()}
    tree = ast.parse(SOURCE.read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    typed = {
        alias.name: (node.module or "").removeprefix("kruise.runtime.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == homes
    assert sorted(runtime.__all__) == sorted(homes)
    assert len(set(runtime.__all__)) == len(runtime.__all__)
    assert set(runtime.__all__) <= set(dir(runtime))


def test_every_class_and_function_is_documented() -> None:
    shown = [getattr(runtime, name) for name in runtime.__all__]
    bare = [v.__name__ for v in shown if (inspect.isclass(v) or inspect.isfunction(v)) and not inspect.getdoc(v)]
    assert not bare


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Informr'"):
        runtime.Informr  # noqa: B018


def _in_new_process(code: str) -> Any:
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_importing_the_package_is_cheap_and_imports_no_room() -> None:
    code = (
        "import json, sys, time; began = time.perf_counter(); import kruise.runtime; "
        "print(json.dumps([time.perf_counter() - began, sorted(sys.modules)]))"
    )
    best = 9.0
    for _ in range(5):  # another process on the same cores may make one of them slow
        seconds, modules = _in_new_process(code)
        best = min(best, seconds)
        if best < BUDGET:
            break
    assert best < BUDGET
    assert [m for m in modules if m.startswith("kruise.")] == ["kruise.runtime"]
    assert not {"aiohttp", "kubernetes_asyncio", "kubernetes", "msgspec", "asyncio"} & set(modules)


@pytest.mark.parametrize(
    ("names", "unwanted"),
    [
        ("Client, Rest, Cache, Informer, Builder, Queue, Metrics", {"aiohttp", "kubernetes_asyncio", "kubernetes"}),
        ("Manager, HttpTransport, load_config", {"kubernetes_asyncio", "kubernetes"}),
    ],
)
def test_aut4_who_needs_no_http_library_loads_none(names: str, unwanted: set[str]) -> None:
    modules = _in_new_process(
        f"import json, sys; from kruise.runtime import {names}; print(json.dumps(list(sys.modules)))"
    )
    assert not unwanted & set(modules)
    assert not [m for m in modules if m.startswith(("kruise.runtime.testing", "kruise.simulator", "kruise.apis"))]
