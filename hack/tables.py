"""Compare the tables that were made of Kubernetes' own sources with these: ``python -m hack.tables``.

Purpose: ``core_fields.json``, ``go_encoding.json`` and ``proto_fields.json`` are what their generators make.

Guarantees: nothing is written. Sources that are not on this machine (no Go, no modules in its cache, no cluster of
``make cluster``) are no failure: one sentence says which table was not compared, and why.

What this does not do: it fetches nothing and starts nothing, and it asks no cluster but that of ``make cluster``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from hack import gen_core_fields, gen_go_encoding, gen_proto_fields
from hack.cluster.binaries import find
from hack.cluster.errors import ClusterError
from hack.manifests import ROOT

KUBECONFIG: Final = Path(".cluster/admin.kubeconfig")

Check = Callable[[Path], int]
"""Compares a table with its source, for the tree at a path: 1 when it is stale. Raises when there is no source."""


class Unavailable(Exception):
    """The source of a table is not on this machine."""


def _from_modules(main: Callable[[list[str]], int]) -> Check:
    def check(_root: Path) -> int:
        if shutil.which("go") is None:
            raise Unavailable("there is no Go on this machine")
        return main(["--check"])

    return check


def _from_server(root: Path) -> int:
    config = root / KUBECONFIG
    if not config.exists():
        raise Unavailable("no cluster of `make cluster` runs")
    binaries = find()
    kubectl = shutil.which("kubectl") or (str(binaries / "kubectl") if binaries is not None else "")
    if not kubectl:
        raise Unavailable("there is no kubectl on this machine")
    return gen_core_fields.main(["--check", f"--kubeconfig={config}", f"--kubectl={kubectl}"])


TABLES: Final[Mapping[str, Check]] = {
    "core_fields.json": _from_server,
    "go_encoding.json": _from_modules(gen_go_encoding.main),
    "proto_fields.json": _from_modules(gen_proto_fields.main),
}


def compare(tables: Mapping[str, Check] = TABLES, root: Path = ROOT) -> Iterator[tuple[str, bool | None, str]]:
    """Yield each table, whether it is as generated (None: not compared), and why it was not compared."""
    for name, check in tables.items():
        try:
            yield name, check(root) == 0, ""
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or "").strip().splitlines() or [str(error)]
            yield name, None, lines[-1]
        except (Unavailable, ClusterError, OSError) as error:
            yield name, None, str(error)
        except SystemExit as error:  # the generators end so when a source is missing
            yield name, None, str(error.code)


def main() -> int:
    """Compare all tables; return the exit code. The generators themselves say what is stale."""
    stale = False
    for name, fresh, why in compare():
        stale = stale or fresh is False
        if fresh is None:
            print(f"{name} is not compared with its source: {why}", file=sys.stderr)
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
