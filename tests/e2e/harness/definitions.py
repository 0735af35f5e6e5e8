"""A real API server that knows our definitions, or none of them; nothing runs on it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from hack.cluster import Cluster, ClusterError, Options, binaries
from tests.unit.hack.definitions import Definition

BASES: Final = Path(__file__).resolve().parents[3] / "config/crd/bases"


@contextmanager
def without_definitions(folder: Path) -> Iterator[Cluster]:
    """An API server without any definition of ours; skips where its binaries are not to be had."""
    try:
        found = binaries.find()
    except ClusterError as error:
        pytest.skip(f"no control plane: {error}")
    if found is None:
        pytest.skip("no control plane: build it with `python -m hack.cluster build`, or set KUBEBUILDER_ASSETS")
    options = Options(without=("kube-controller-manager", "kube-scheduler"), audit=False)
    with Cluster(folder, options=options, crds=None) as cluster:
        yield cluster


def define(cluster: Cluster, short: str) -> Cluster:
    """Give our definitions to *cluster*, which must not warn, and wait until *short* is known."""
    done = cluster.kubectl("apply", "-f", str(BASES))
    assert done.stderr == ""
    # Discovery follows the definition after a moment.
    cluster._until("discovery", lambda: cluster.kubectl("explain", short, check=False).returncode == 0, 30.0)
    return cluster


def definition(kind: Definition) -> str:
    """Return the path of the definition of *kind*."""
    return f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.name}"


def post(
    cluster: Cluster, kind: Definition, made: Mapping[str, Any], version: str = "v1beta1", *, dry: bool = True
) -> dict[str, Any]:
    """Create *made*, or only ask whether it could be, and return the answer with its code."""
    path = kind.path(version=version) + ("?dryRun=All" if dry else "")
    code, raw = cluster.api.ask("POST", path, kind.body(made, version))
    answer: dict[str, Any] = json.loads(raw)
    answer["code"] = answer.get("code", code)
    return answer


def put(cluster: Cluster, kind: Definition, made: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Ask whether an object could become *made*, and return the code and the answer."""
    code, raw = cluster.api.ask("PUT", kind.path(made["metadata"]["name"]) + "?dryRun=All", dict(made))
    return code, json.loads(raw)
