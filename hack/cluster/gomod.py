"""Writes the go.mod with which the control plane is linked from Kubernetes' own modules.

Purpose: the released module ``k8s.io/kubernetes`` requires its staging modules at v0.0.0 and maps them by local
``replace`` lines, which Go ignores in a dependency. So our main module replaces each of them by its published tag
(v1.X.Y is v0.X.Y there), and copies the ``require`` lines of the release, so that exactly the versions are linked with
which that release was tested. All of it is read from the released go.mod: no list is kept by hand.

What this does not do: it writes no go.sum; ``go build -mod=mod`` completes that for what is really linked. The pair for
:data:`DEFAULT_VERSION` is kept beside this file, so that the usual build is checked against known hashes.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from typing import Any, Final

from hack.cluster.errors import ClusterError

DEFAULT_VERSION: Final = "v1.37.2"
MODULE: Final = "k8s.io/kubernetes"
_DIRECT: Final = frozenset(
    {"github.com/spf13/cobra", "go.etcd.io/etcd/server/v3", "k8s.io/component-base", "k8s.io/kubectl"}
)


def _go(*args: str) -> str:
    # In an empty directory: a go.mod that happens to stand above the working directory must not take part.
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(("go", *args), text=True, capture_output=True, cwd=empty, check=False)
    if done.returncode != 0:
        raise ClusterError(f"go {' '.join(args)}: {done.stderr.strip() or 'failed'}")
    return done.stdout


def resolve(version: str) -> str:
    """Return the exact version: ``v1.37`` becomes the newest patch of that minor. Raises ClusterError."""
    if not re.fullmatch(r"v1\.\d+(\.\d+)?", version):
        raise ClusterError(f"Kubernetes version {version!r}: write it as v1.37 or v1.37.2")
    if version.count(".") == 2:
        return version
    patches = [v for v in _go("list", "-m", "-versions", MODULE).split()[1:] if re.fullmatch(rf"{version}\.\d+", v)]
    if not patches:
        raise ClusterError(f"there is no release of Kubernetes {version}")
    return max(patches, key=lambda v: int(v.rpartition(".")[2]))


def released(version: str) -> dict[str, Any]:
    """Return the go.mod of a release, as ``go mod edit -json`` shows it. Raises ClusterError."""
    download = json.loads(_go("mod", "download", "-json", f"{MODULE}@{version}"))
    parsed: dict[str, Any] = json.loads(_go("mod", "edit", "-json", download["GoMod"]))
    return parsed


def render(version: str, release: dict[str, Any]) -> str:
    """Return our go.mod for *version*, whose own go.mod is *release*."""
    staged_tag = "v0" + version.removeprefix("v1")
    staging = sorted(r["Old"]["Path"] for r in release["Replace"] if r["New"]["Path"].startswith("./staging/"))
    lines = ["module example.invalid/kruise/cluster", "", f"go {release['Go']}", ""]
    lines += [f"// Written by hack/cluster/gomod.py from {MODULE} {version}.", "", "require (", f"\t{MODULE} {version}"]
    for need in release["Require"]:
        path = need["Path"]
        tag = staged_tag if path in staging else need["Version"]
        lines.append(f"\t{path} {tag}" + ("" if path in _DIRECT else " // indirect"))
    lines += [")", "", "replace ("]
    lines += [f"\t{path} => {path} {staged_tag}" for path in staging]
    return "\n".join([*lines, ")", ""])
