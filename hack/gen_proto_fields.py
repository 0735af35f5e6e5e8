"""Generate the table by which the embedded API server reads protobuf bodies.

Usage::

    python -m hack.gen_proto_fields [--version v0.37.2] [--check]

Purpose: kubectl and client-go send some built-in kinds as protobuf. The table says which number is which field, of
which type, and whether Go keeps a pointer for it, so that a zero that was written can be told from one that was not.
It is read from the sources of Kubernetes' own modules (``generated.proto`` and ``types.go``) in the Go module cache.

Guarantees: the output depends on the sources alone: one type per line, sorted.

What this does not do: only kinds that the embedded server serves, and what they contain.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

TARGET: Final = Path(__file__).resolve().parent.parent / "kruise" / "simulator" / "apiserver" / "proto_fields.json"
VERSION: Final = "v0.37.2"
GROUPS: Final = (
    "core",
    "apps",
    "batch",
    "policy",
    "autoscaling",
    "authorization",
    "authentication",
    "rbac",
    "scheduling",
    "storage",
    "coordination",
    "events",
)
ROOTS: Final = (
    "core.v1.Pod",
    "core.v1.Node",
    "core.v1.Namespace",
    "core.v1.ConfigMap",
    "core.v1.Secret",
    "core.v1.Service",
    "core.v1.ServiceAccount",
    "core.v1.Event",
    "core.v1.Binding",
    "core.v1.PersistentVolumeClaim",
    "core.v1.PersistentVolume",
    "core.v1.ResourceQuota",
    "core.v1.LimitRange",
    "apps.v1.Deployment",
    "apps.v1.StatefulSet",
    "apps.v1.ReplicaSet",
    "apps.v1.DaemonSet",
    "apps.v1.ControllerRevision",
    "batch.v1.Job",
    "policy.v1.PodDisruptionBudget",
    "policy.v1.Eviction",
    "autoscaling.v1.Scale",
    "authorization.v1.SelfSubjectAccessReview",
    "authorization.v1.SubjectAccessReview",
    "authentication.v1.TokenReview",
    "authentication.v1.SelfSubjectReview",
    "rbac.v1.Role",
    "rbac.v1.RoleBinding",
    "rbac.v1.ClusterRole",
    "rbac.v1.ClusterRoleBinding",
    "scheduling.v1.PriorityClass",
    "storage.v1.StorageClass",
    "coordination.v1.Lease",
    "events.v1.Event",
    "meta.v1.DeleteOptions",
)
SPECIAL: Final = {
    "resource.Quantity": "quantity",
    "intstr.IntOrString": "intOrString",
    "meta.v1.Time": "time",
    "meta.v1.MicroTime": "micro",
    "meta.v1.FieldsV1": "json",
    "runtime.RawExtension": "json",
}
_MESSAGE: Final = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD: Final = re.compile(r"^  (optional|repeated|map<string, ([\w.]+)>) ?([\w.]+)? ?(\w+) = (\d+);", re.MULTILINE)
_STRUCT: Final = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_MEMBER: Final = re.compile(r'^\t(\w+)?\s*([\w.*\[\]]+)\s+`json:"([^"]*)"[^`]*?protobuf:"[^,"]*,(\d+)', re.MULTILINE)


def short(name: str, home: str) -> str:
    """Return the name of a type in the table; *home* is the package in which it is named."""
    if not name.startswith("."):
        return name if name in ("string", "bool", "int32", "int64", "bytes", "double") else f"{home}.{name}"
    parts = name.strip(".").split(".")
    return ".".join(parts[-2:]) if parts[-2] in ("resource", "intstr", "runtime") else ".".join(parts[-3:])


def module(name: str, version: str) -> Path:
    """Return the directory of a Go module."""
    cache = subprocess.run(["go", "env", "GOMODCACHE"], check=True, capture_output=True, text=True).stdout.strip()
    found = Path(cache) / f"{name}@{version}"
    if not found.is_dir():
        raise SystemExit(f"gen_proto_fields: {found} is missing; `python -m hack.cluster build` fetches it")
    return found


def sources(version: str) -> Iterator[tuple[str, Path]]:
    """Yield each package with its directory."""
    api = module("k8s.io/api", version)
    for group in GROUPS:
        yield f"{group}.v1", api / group / "v1"
    yield "meta.v1", module("k8s.io/apimachinery", version) / "pkg" / "apis" / "meta" / "v1"


def members(directory: Path) -> dict[str, dict[str, tuple[str, bool]]]:
    """Return, per Go structure and field number, the name in JSON (``""``: inlined) and whether it is a pointer."""
    text = "\n".join(p.read_text("utf-8") for p in sorted(directory.glob("*.go")) if not p.name.startswith("gen"))
    return {
        name: {m[4]: (m[3].partition(",")[0], m[2].startswith("*")) for m in _MEMBER.finditer(body)}
        for name, body in _STRUCT.findall(text)
    }


def collect(version: str) -> dict[str, dict[str, list[Any]]]:
    """Return all types that the roots reach: number -> name, type, and 1 for a pointer."""
    every: dict[str, dict[str, list[Any]]] = {}
    for package, directory in sources(version):
        structures = members(directory)
        for name, body in _MESSAGE.findall((directory / "generated.proto").read_text("utf-8")):
            known = structures.get(name, {})
            rows: dict[str, list[Any]] = {}
            for found in _FIELD.finditer(body):
                label, value, kind, field, number = found.groups()
                inner = short(value or kind, package)
                inner = SPECIAL.get(inner, inner)
                shown = f"{{{inner}}}" if value else f"[{inner}]" if label == "repeated" else inner
                wire, pointer = known.get(number, (field, False))
                rows[number] = [wire, shown, 1] if pointer else [wire, shown]
            every[f"{package}.{name}"] = rows
    wanted: dict[str, dict[str, list[Any]]] = {}
    waiting = [root for root in ROOTS if root in every]
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        wanted[name] = every[name]
        waiting += [inner for row in every[name].values() if (inner := row[1].strip("[]{}")) in every]
    return wanted


def main(argv: list[str] | None = None) -> int:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description="generate kruise/simulator/apiserver/proto_fields.json")
    parser.add_argument("--version", default=VERSION, help=f"of the modules (default: {VERSION})")
    parser.add_argument("--check", action="store_true", help="compare with the committed table instead of writing it")
    arguments = parser.parse_args(argv)
    found = collect(arguments.version)
    rows = [f"{json.dumps(n)}:{json.dumps(r, separators=(',', ':'))}" for n, r in sorted(found.items())]
    text = "{" + ",\n".join(rows) + "}\n"
    if arguments.check:
        stale = TARGET.read_text("utf-8") != text
        if stale:
            print(f"{TARGET.name} is stale: run python -m hack.gen_proto_fields", file=sys.stderr)
        return int(stale)
    TARGET.write_text(text, "utf-8")
    print(f"{TARGET.name}: {len(found)} types")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
