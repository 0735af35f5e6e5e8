"""The manager as a process serves its webhooks to the embedded API server, over HTTPS, as it would to a real one.

What ``config/local-webhooks`` says is what is applied; the manager puts its authority and its address into it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hack.kustomize import render
from kruise.runtime.clock import Random, SystemClock
from kruise.simulator.apiserver import Failure
from kruise.simulator.embedded import EmbeddedCluster

ROOT = Path(__file__).resolve().parents[2]
SETS = "/apis/apps.kruise.io/{}/sidecarsets"
PODS = "/api/v1/namespaces/shop/pods"
JSON = dict[str, Any]


def sidecars(**spec: Any) -> JSON:
    return {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "SidecarSet",
        "metadata": {"name": "mesh"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "containers": [{"name": "envoy", "image": "sim.kruise.io/envoy:1"}],
            **spec,
        },
    }


def pod(name: str) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "app", "image": "sim.kruise.io/app:1"}]},
    }


def names(obj: JSON) -> list[str]:
    return [one["name"] for one in obj["spec"]["containers"]]


@asynccontextmanager
async def manager(kubeconfig: Path, log: Path) -> AsyncIterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ["--metrics-bind-address=0", "--health-probe-addr=0", f"--webhook-port={port}", "--shutdown-delay=0s"]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "kruise",
            *flags,
            cwd=ROOT,
            env={**os.environ, "KUBECONFIG": str(kubeconfig), "WEBHOOK_HOST": "127.0.0.1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                await process.wait()


@pytest.mark.timeout(120)
async def test_tst1_web7_the_embedded_server_calls_the_manager(tmp_path: Path) -> None:
    clock = SystemClock()
    async with EmbeddedCluster(clock, Random(1)) as cluster:
        server = cluster.server
        server.ensure_namespace("shop")
        server.ensure_namespace("kruise-system")
        for one in render(ROOT / "config" / "local-webhooks"):
            if one["kind"] != "Namespace":
                group = one["apiVersion"].rpartition("/")[0]
                plural = f"{one['kind'].lower()}s"
                server.create(f"{plural}.{group}" if group else plural, dict(one))
        kubeconfig = cluster.write_kubeconfig(tmp_path / "kubeconfig", "kruise-system")
        async with manager(kubeconfig, tmp_path / "manager.log"):
            made = await _when_served(server, clock)
            assert made["apiVersion"] == "apps.kruise.io/v1alpha1"
            assert made["spec"]["updateStrategy"]["type"] == "RollingUpdate"
            stored = server.get("sidecarsets.apps.kruise.io", "mesh")
            assert stored is not None
            assert stored["apiVersion"] == "apps.kruise.io/v1beta1"
            (item,) = (await server.ask("GET", SETS.format("v1alpha1")))["items"]
            assert item["spec"] == made["spec"]
            async with asyncio.timeout(20):  # the cache of the manager learns of the set
                while "envoy" not in names(await server.ask("POST", f"{PODS}?dryRun=All", pod("web"))):
                    await clock.sleep(0.05)
            assert names(await server.ask("POST", PODS, pod("web"))) == ["envoy", "app"]
            with pytest.raises(Failure, match=r'admission webhook "[a-z.]+" denied the request') as refused:
                body = {**sidecars(), "metadata": {"name": "other"}}  # with the same container in the same pods
                await server.ask("POST", SETS.format("v1alpha1"), body)
            assert refused.value.code == 422
        with pytest.raises(Failure, match="connect: connection refused"):
            await server.ask("POST", SETS.format("v1beta1"), {**sidecars(), "apiVersion": "apps.kruise.io/v1beta1"})
        assert names(await server.ask("POST", PODS, pod("later"))) == ["app"]


async def _when_served(server: Any, clock: SystemClock) -> JSON:
    """Create a set as soon as the manager answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                made: JSON = await server.ask("POST", SETS.format("v1alpha1"), sidecars())
            except Failure as failure:
                if failure.code != 500:
                    raise
                await clock.sleep(0.1)
            else:
                return made
