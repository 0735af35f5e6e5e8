"""The embedded server as a target of the probes: with its actors, behind HTTPS, like any other."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kruise.runtime.clock import Random, SystemClock
from kruise.simulator.embedded import EmbeddedCluster, read_definitions
from tests.integration.probes.asking import Target

CRDS = Path(__file__).resolve().parents[3] / "config" / "crd"


@asynccontextmanager
async def embedded() -> AsyncIterator[Target]:
    """Start an embedded cluster; end it afterwards."""
    definitions = read_definitions(CRDS)
    cluster = EmbeddedCluster(SystemClock(), Random(1), definitions=definitions, token="probe", provisioner=True)
    async with cluster:
        # A server that has run for a while does not keep all of its history.
        cluster.server.storage.compact(cluster.server.storage.rv)
        assert cluster.certificates is not None
        tls = ssl.create_default_context(cadata=cluster.certificates.authority.decode())
        yield Target("embedded", cluster.url, tls, {"Authorization": "Bearer probe"}, ends=True)
