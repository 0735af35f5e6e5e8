"""What integration tests share: two API servers, each behind a kubeconfig."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from hack.cluster import Cluster
from kruise.runtime import Client, HttpTransport, Metrics, Random, Rest, SystemClock, load_kubeconfig
from kruise.simulator.apiserver import ApiServer
from kruise.simulator.apiserver.http import HttpFront
from tests.integration.real_cluster import need_binaries, real_cluster

__all__ = ["real_cluster"]


def pytest_runtestloop(session: pytest.Session) -> None:
    """Build the control plane before the first test: a build takes longer than a test may."""
    if not session.config.option.collectonly and any(item.get_closest_marker("real") for item in session.items):
        need_binaries()


@dataclass(frozen=True, slots=True)
class Target:
    """An API server that a test talks to, as administrator, and gives to the process under test."""

    kubeconfig: Path
    client: Client
    """Without a cache."""
    clock: SystemClock
    embedded: ApiServer | None
    cluster: Cluster | None

    def writes(self, user_agent: str) -> list[str]:
        """Return ``verb resource name code`` of each write of *user_agent*, leases and events left out."""
        if self.embedded is not None:
            calls = self.embedded.log.writes(actor=user_agent)
            found = [(c.verb, c.resource, c.name or (c.document or {})["metadata"]["name"], c.code) for c in calls]
        else:
            assert self.cluster is not None
            entries = [e for e in self.cluster.audit.entries(user_agent) if e.writes]
            found = [(e.verb, e.resource, e.name, e.code) for e in entries]
        return [f"{v} {r} {n} {c}" for v, r, n, c in found if r not in ("leases", "events")]


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Target]:
    """The embedded API server over HTTP, and the real one."""
    if request.param == "real":
        cluster: Cluster = request.getfixturevalue("real_cluster")
        async with _Connection(cluster.admin, None, cluster) as found:
            yield found
        return
    server = ApiServer(SystemClock(), Random(1))
    async with HttpFront(server) as front:
        path = tmp_path / "embedded.kubeconfig"
        path.write_text(_kubeconfig(front.url))
        async with _Connection(path, server, None) as found:
            yield found


class _Connection:
    def __init__(self, kubeconfig: Path, embedded: ApiServer | None, cluster: Cluster | None) -> None:
        self._kubeconfig, self._embedded, self._cluster = kubeconfig, embedded, cluster

    async def __aenter__(self) -> Target:
        clock, metrics = SystemClock(), Metrics(process=False)
        config = await load_kubeconfig(clock, path=str(self._kubeconfig))
        self._transport = HttpTransport(config, clock=clock)
        await self._transport.__aenter__()
        rest = Rest(self._transport, clock=clock, rng=Random(1), metrics=metrics, user_agent="test/1")
        client = Client(rest, metrics=metrics, clock=clock)
        return Target(self._kubeconfig, client, clock, self._embedded, self._cluster)

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()


def _kubeconfig(url: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "embedded",
            "clusters": [{"name": "embedded", "cluster": {"server": url}}],
            "users": [{"name": "tester", "user": {}}],
            "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": "tester"}}],
        }
    )
