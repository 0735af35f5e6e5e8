"""List the guarantees of the runtime that no test names: ``python -m hack.guarantees``.

A test names a guarantee in its function name, as ``test_que3_min_ready_at_wins`` names QUE3; a name may cite several
(``test_ref4_ref6_...``). The list of ids is ``hack/guarantees.txt``; every id that the docstring of a module in
``kruise/runtime`` states as a guarantee counts as well. Exit code 1 when the list is not empty.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_ID: Final = re.compile(r"\b([A-Z]{3}\d+)\b")
_STATED: Final = re.compile(r"^\* ((?:[A-Z]{3}\d+(?:, | and )?)+):", re.MULTILINE)


def required() -> dict[str, str]:
    """Return each id with the module that it belongs to."""
    found: dict[str, str] = {}
    for line in (ROOT / "hack" / "guarantees.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            module, _, ids = line.partition(":")
            found.update(dict.fromkeys(ids.split(), module))
    for path in sorted((ROOT / "kruise" / "runtime").rglob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        for group in _STATED.findall(doc):
            for one in _ID.findall(group):
                found.setdefault(one, str(path.relative_to(ROOT)))
    return found


def tests() -> Iterator[tuple[str, str]]:
    """Yield (path, name) of every test function, methods of test classes included."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                yield str(path.relative_to(ROOT)), node.name


def cited() -> dict[str, list[str]]:
    """Return for each id the tests that name it."""
    found: dict[str, list[str]] = {}
    for path, name in tests():
        for group in re.findall(r"(?<![a-z0-9])([a-z]{3}\d+)(?![a-z0-9])", name.replace("_", " ")):
            found.setdefault(group.upper(), []).append(f"{path}::{name}")
    return found


def main() -> int:
    """Print what is missing; with ``-v`` also which tests hold what is there."""
    wanted, named = required(), cited()
    missing = [one for one in wanted if one not in named]
    if "-v" in sys.argv[1:]:
        for one in sorted(wanted):
            print(f"{one}  {wanted[one]}")
            for test in named.get(one, []):
                print(f"    {test}")
    for one in missing:
        print(f"guarantee {one} ({wanted[one]}) is named by no test")
    print(f"{len(wanted) - len(missing)} of {len(wanted)} guarantees are named by a test")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
