"""Fail when a generated file is stale: ``python -m hack.verify``.

Purpose: what is committed is what the generators make of the code. Each stale file is named with the command that mends
it.

Guarantees: nothing is written. Tables whose sources are not on this machine are skipped with a sentence
(``hack.tables``).

What this does not do: ``dist/install.yaml`` is compared with the placeholder image in it; one that was built with
another ``IMG`` is for use, not for a commit.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hack import tables
from hack.crds import SchemaError
from hack.kustomize import KustomizeError
from hack.manifests import ROOT, SOURCES, leftovers
from kruise.runtime.metrics import Metrics, lint

MENDS: Final = {
    "crds": "make manifests",
    "rbac": "make manifests",
    "gates": "make manifests",
    "installer": "make build-installer",
    "docs": "make docs",
}
_SHOWN: Final = 12
"""Lines of a difference."""


def stale(root: Path = ROOT) -> Iterator[tuple[Path, str, str]]:
    """Yield each stale file, the command that mends it, and what differs."""
    for name, make in SOURCES.items():
        for path, wanted in make().items():
            target = root / path
            if not target.exists():
                yield path, MENDS[name], "missing"
            elif (have := target.read_text("utf-8")) != wanted:
                lines = difflib.unified_diff(
                    have.splitlines(), wanted.splitlines(), "committed", "generated", "", "", 1
                )
                yield path, MENDS[name], "\n".join(list(lines)[:_SHOWN])
        for path in leftovers([name], root):
            yield path, MENDS[name], "nobody generates it any more"


def main() -> int:
    """Compare; return the exit code."""
    problems = lint(Metrics(clients=True, process=False).catalog)
    for line in problems:
        print(f"kruise/runtime/metrics.py: {line}", file=sys.stderr)
    try:
        found = list(stale())
    except (SchemaError, KustomizeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, command, difference in found:
        print(f"{path} is stale: run `{command}` and commit the result\n{difference}\n", file=sys.stderr)
    return 1 if tables.main() or found or problems else 0


if __name__ == "__main__":
    sys.exit(main())
