"""Generate the table of what Go's encoder writes for a field that holds nothing.

Usage::

    python -m hack.gen_go_encoding [--version v0.32.10] [--check]

Purpose: revision data, and everything else that is hashed, are the bytes of Go's typed encoder. OpenAPI does not say
what that encoder leaves out: it depends on pointers and on ``omitempty``. This reads both from ``types.go`` of
Kubernetes' own modules in the Go module cache. The version is the one that OpenKruise is built with; it stays when the
core-fields table moves on, because stored revisions do not change.

Guarantees: the output depends on the sources alone: one type per line, sorted.

What this does not do: names and types of fields are the core-fields table's; only types in it are written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Final

from hack.gen_proto_fields import module
from kruise.apis.core_fields import fields, known_types

TARGET: Final = Path(__file__).resolve().parent.parent / "kruise" / "apis" / "go_encoding.json"
VERSION: Final = "v0.32.10"
ROOTS: Final = ("core.v1.PodTemplateSpec", "core.v1.PersistentVolumeClaim")

_STRUCT: Final = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_MEMBER: Final = re.compile(r'^\t(?:\w+\s+)?([\w.*\[\]]+)\s+`json:"([^"]*)"', re.MULTILINE)


def structures(directory: Path) -> dict[str, str]:
    """Return the body of each structure of a package."""
    text = "\n".join(p.read_text("utf-8") for p in sorted(directory.glob("*.go")) if not p.name.startswith("gen"))
    return dict(_STRUCT.findall(text))


def rows(name: str, bodies: dict[str, str]) -> dict[str, str]:
    """Return, per wire name of a structure, ``p`` for a pointer and ``a`` for a field that is always written."""
    found: dict[str, str] = {}
    for kind, tag in _MEMBER.findall(bodies[name]):
        wire, *options = tag.split(",")
        if "inline" in options:
            embedded = kind.rpartition(".")[2]
            if embedded in bodies:  # TypeMeta is of another package, and no part of a template
                found |= rows(embedded, bodies)
        elif wire != "-":
            found[wire] = ("p" if kind.startswith("*") else "") + ("" if "omitempty" in options else "a")
    return found


def collect(version: str) -> dict[str, dict[str, str]]:
    """Return the table."""
    bodies = {
        "core": structures(module("k8s.io/api", version) / "core" / "v1"),
        "meta": structures(module("k8s.io/apimachinery", version) / "pkg" / "apis" / "meta" / "v1"),
    }
    known, found, waiting = frozenset(known_types()), {}, list(ROOTS)
    while waiting:
        name = waiting.pop()
        package, _, kind = name.partition(".v1.")
        if name in found or name not in known or kind not in bodies.get(package, {}):
            continue
        found[name] = rows(kind, bodies[package])
        waiting += [row.type.strip("[]{}") for key, row in fields(name).items() if key in found[name]]
    return found


def main(argv: list[str] | None = None) -> int:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description="generate kruise/apis/go_encoding.json")
    parser.add_argument("--version", default=VERSION, help=f"of the modules (default: {VERSION})")
    parser.add_argument("--check", action="store_true", help="compare with the committed table instead of writing it")
    arguments = parser.parse_args(argv)
    found = collect(arguments.version)
    lines = [
        f"{json.dumps(n)}:{json.dumps(r, separators=(',', ':'), sort_keys=True)}" for n, r in sorted(found.items())
    ]
    text = f'{{"version":{json.dumps(arguments.version)},\n"types":{{\n' + ",\n".join(lines) + "\n}}\n"
    if arguments.check:
        stale = TARGET.read_text("utf-8") != text
        if stale:
            print(f"{TARGET.name} is stale: run python -m hack.gen_go_encoding", file=sys.stderr)
        return int(stale)
    TARGET.write_text(text, "utf-8")
    print(f"{TARGET.name}: {len(found)} types of Kubernetes {arguments.version}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
