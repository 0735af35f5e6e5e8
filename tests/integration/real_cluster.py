"""One real control plane for all tests of a run that need no cluster of their own.

A conftest makes it available with ``from tests.integration.real_cluster import real_cluster``; however many do so,
there is one cluster. Tests share it: they use names of their own and take away what they made. A test that restarts
components or floods the API server starts a :class:`hack.cluster.Cluster` itself.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster import Cluster, ClusterError, binaries

__all__ = ["need_binaries", "real_cluster"]

NODES = 5


@functools.cache
def need_binaries() -> str:
    """Make sure that the control plane can be started; return why it cannot, or ``""``.

    The first call may build it, which takes minutes: it is made before the first test, outside of any time-out.
    """
    try:
        if binaries.find() is None:
            binaries.ensure(say=lambda line: print(line, flush=True))
    except ClusterError as error:
        return str(error)
    return ""


@functools.cache
def _shared() -> Cluster:
    directory = Path(tempfile.mkdtemp(prefix="kruise-cluster-"))
    return Cluster(directory, nodes=NODES).start()


@pytest.fixture(scope="session")
def real_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A real control plane with five simulated nodes; skips where its binaries cannot be had.

    Its directory, with the logs and the audit log, stays when a test has failed.
    """
    if problem := need_binaries():
        pytest.skip(f"no control plane: {problem}")
    cluster = _shared()
    yield cluster
    cluster.stop()
    if not request.session.testsfailed:
        shutil.rmtree(cluster.directory, ignore_errors=True)
