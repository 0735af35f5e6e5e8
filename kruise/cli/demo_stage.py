"""On what the demo plays: an embedded cluster, its kubeconfig, and the manager in a thread.

Purpose: start all of it in the right order, and stop it in the opposite one.

Guarantees:

* The manager is the one of ``python -m kruise``: built by ``kruise.app``, with leader election, metrics and probes. It
  has an event loop and a thread of its own and reaches the API server over HTTPS, through the kubeconfig that kubectl
  gets too. So it shares nothing with the rest, and the CPU time of its thread is its own.
* It serves its webhooks, with certificates of its own, at a free port of this machine, and points the API server there:
  the one thing that differs from a cluster, where a Service stands in front of them.
* Leaving the block stops manager, nodes, API server, and removes the kubeconfig. The manager gives its lease back.

What this does not do: it shows nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import yaml

from kruise import app
from kruise.options import Options
from kruise.runtime.client.http import HttpTransport
from kruise.runtime.client.kubeconfig import load_config
from kruise.runtime.clock import Clock, SystemClock, new_uuid, system_random
from kruise.runtime.errors import RuntimeFault
from kruise.runtime.manager.manager import Manager
from kruise.runtime.manager.process import loop_factory
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.webhooks_config import MUTATING, VALIDATING
from kruise.simulator.embedded import EmbeddedCluster, read_definitions

__all__ = ["ManagerThread", "Stage", "opened"]

T = TypeVar("T")

_PACKAGE: Final = Path(__file__).resolve().parents[1]
DEFINITIONS: Final = _PACKAGE / "crds"
"""The CustomResourceDefinitions, as the wheel carries them."""
CONFIGURATIONS: Final = _PACKAGE / "webhookconfigurations"
"""The webhook configurations and the empty Secret for certificates, likewise."""
INSTALLED: Final = {
    "Secret": "secrets",
    "MutatingWebhookConfiguration": MUTATING,
    "ValidatingWebhookConfiguration": VALIDATING,
}
"""What the demo takes of them, by kind. The Service would have no endpoints here."""
LOOPBACK: Final = "127.0.0.1"
NAMESPACE: Final = "kruise-system"
HISTORY: Final = 20_000
"""Commits that can be watched from; more than the longest demo makes."""
OPTIONS: Final = Options(
    metrics_addr="127.0.0.1:0",
    health_probe_addr="127.0.0.1:0",
    shutdown_delay=0.0,
    graceful_shutdown_timeout=5.0,
    webhook_host=LOOPBACK,
)
"""What differs from the defaults: free ports on loopback, and nobody behind a load balancer to wait for."""


class ManagerThread:
    """The manager in a thread. Own it with ``async with``: inside, it is built and runs."""

    def __init__(self, kubeconfig: Path, options: Options) -> None:
        self._kubeconfig = kubeconfig
        self._options = options
        self._home = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = self._home.create_future()
        self._down: asyncio.Future[None] = self._home.create_future()
        self._thread = threading.Thread(target=self._main, name="manager", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._manager: Manager | None = None
        self._began = 0.0
        self.error: Exception | None = None
        """What ended it, if it was not asked to end."""

    async def __aenter__(self) -> Self:
        self._thread.start()
        await self._up
        if self.error is not None:
            self._thread.join()
            raise self.error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._down.done() and self._loop is not None and self._manager is not None:
            with contextlib.suppress(RuntimeError):  # its loop was closed at this moment
                self._loop.call_soon_threadsafe(self._manager.stop, "the demo ends")
        await asyncio.shield(self._down)
        self._thread.join()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._down.done()

    async def ask(self, question: Callable[[Manager], T]) -> T:
        """Return what *question* says of the manager, asked in its own thread. Raises RuntimeFault when it ended."""
        manager, loop = self._manager, self._loop
        if manager is None or loop is None or not self.running:
            raise RuntimeFault(f"the manager has ended: {self.error or 'it was stopped'}")

        async def answer() -> T:
            return question(manager)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer(), loop))

    async def cpu_seconds(self) -> float:
        """Return the CPU time of the manager since it was built."""
        return await self.ask(lambda _: time.thread_time() - self._began)

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve())
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits for this thread
            self.error = error
        self._home.call_soon_threadsafe(self._ended)

    async def _serve(self) -> None:
        clock = SystemClock()
        config = await load_config(clock, kubeconfig=str(self._kubeconfig), context=None)
        async with HttpTransport(config, clock=clock, env={}) as transport:
            manager = app.build(transport, self._options, clock=clock, rng=system_random(), host=transport.host)
            self._loop, self._manager = asyncio.get_running_loop(), manager
            self._began = time.thread_time()
            self._home.call_soon_threadsafe(self._started)
            await manager.run()

    def _started(self) -> None:
        if not self._up.done():
            self._up.set_result(None)

    def _ended(self) -> None:
        self._down.set_result(None)
        self._started()


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs during the demo."""

    cluster: EmbeddedCluster
    manager: ManagerThread
    kubeconfig: Path
    clock: Clock

    @property
    def folder(self) -> Path:
        """Where files for the person at the keyboard may lie; removed at the end."""
        return self.kubeconfig.parent

    async def metrics_address(self) -> str:
        """Return where the manager serves its metrics. Raises RuntimeFault when it does not."""
        server = await self.manager.ask(lambda m: m.metrics_server.server)
        if server is None or server.bound is None:
            raise RuntimeFault("the manager serves no metrics")
        return f"http://{server.bound}/metrics"


def configurations() -> list[tuple[str, dict[str, Any]]]:
    """Return the objects that the webhooks need, each with its resource."""
    return [
        (INSTALLED[body["kind"]], body)
        for path in sorted(CONFIGURATIONS.glob("*.yaml"))
        for body in yaml.safe_load_all(path.read_text("utf-8"))
        if body["kind"] in INSTALLED
    ]


def free_port() -> int:
    """Return a port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Stage]:
    """Open the stage, with one node on it."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="kruise-demo-") as folder:
        rng = system_random()
        # kubectl asks for a name and a password when a kubeconfig has no credential.
        token = new_uuid(rng)
        # With --keep it runs for hours: old commits must not fill the memory.
        server = ApiServer(clock, rng, history=HISTORY, retain=False)
        definitions = read_definitions(DEFINITIONS)
        cluster = EmbeddedCluster(clock, rng, server=server, nodes=1, definitions=definitions, token=token)
        cluster.server.ensure_namespace(NAMESPACE)
        for resource, body in configurations():
            cluster.server.create(resource, body)
        async with cluster:
            kubeconfig = cluster.write_kubeconfig(Path(folder) / "kubeconfig", "default")
            # The API server must be told a port before anybody listens there, so it is chosen first.
            options = dataclasses.replace(OPTIONS, webhook_port=free_port())
            async with ManagerThread(kubeconfig, options) as manager:
                yield Stage(cluster, manager, kubeconfig, clock)
