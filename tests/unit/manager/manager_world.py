"""What tests of a whole manager share: its server, its parts, and work that tells of its beginning and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kruise.runtime.clock import Clock, Random
from kruise.runtime.controller.reconcile import Needs
from kruise.runtime.manager.manager import Manager, ManagerOptions
from kruise.runtime.manager.metrics_server import MetricsOptions
from kruise.runtime.objects import Object, Resource
from kruise.simulator.apiserver.server import ApiServer


class ConfigMap(Object, frozen=True, kw_only=True, rename="camel"):
    data: dict[str, str] = msgspec.field(default_factory=dict)


MAPS = Resource("", "v1", "ConfigMap", "configmaps", ConfigMap)

QUIET: dict[str, Any] = {"metrics": MetricsOptions("0"), "health_address": "0", "freeze_heap": False}


def api(clock: Clock) -> ApiServer:
    server = ApiServer(clock, Random(1))
    server.ensure_namespace("kruise-system")
    return server


def make(
    server: ApiServer, clock: Clock, who: str = "", *, seed: int = 7, abort: Any = None, **options: Any
) -> Manager:
    made = ManagerOptions(**{**QUIET, "identity": who or f"m{seed}", **options})
    return Manager(server.transport(who), made, clock=clock, rng=Random(seed), abort=abort)


class Part:
    """A runnable that tells when it began and ended."""

    def __init__(self, name: str, needs: Needs, told: list[str]) -> None:
        self.name = name
        self.needs = needs
        self._told = told

    async def run(self) -> None:
        self._told.append(f"{self.name} began")
        try:
            await asyncio.Event().wait()
        finally:
            self._told.append(f"{self.name} ended")


class Work:
    """Any coroutine function as a runnable."""

    def __init__(self, name: str, run: Callable[[], Awaitable[None]], needs: Needs = Needs.LEADER) -> None:
        self.name = name
        self.needs = needs
        self._run = run

    async def run(self) -> None:
        await self._run()


async def idle() -> None:
    await asyncio.Event().wait()


def holder(server: ApiServer) -> str:
    lease = server.get("leases.coordination.k8s.io", "kruise-manager", "kruise-system")
    return str((lease or {}).get("spec", {}).get("holderIdentity", ""))


async def stopped(manager: Manager, task: asyncio.Task[None]) -> None:
    manager.stop()
    await task
