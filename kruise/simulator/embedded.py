"""The embedded cluster as one thing: the API server, its HTTP front, the actors, and simulated nodes.

Purpose: what ``python -m kruise.simulator``, the demo, the probes and the tests with kubectl start.

Guarantees:

* TST1: inside ``async with`` the server listens, the actors run, the CRDs are served, and every simulated node is
  registered. Leaving it stops them all: tasks, streams, port.

What this does not do: nothing is kept; the cluster ends with the process.

Example::

    async with EmbeddedCluster(SystemClock(), system_random(), nodes=3) as cluster:
        cluster.write_kubeconfig(Path("embedded.kubeconfig"))
        ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ConfigError
from kruise.runtime.metrics import Metrics
from kruise.simulator.apiserver.access import Access, Certificates, kubeconfig, make_certificates, write_kubeconfig
from kruise.simulator.apiserver.crd import DEFINITIONS
from kruise.simulator.apiserver.http import HttpFront
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.builtin import everything
from kruise.simulator.builtin_actor import Actor
from kruise.simulator.node_agent import NodeAgent
from kruise.simulator.node_objects import NodeShape
from kruise.simulator.provisioner import Provisioner

Body = dict[str, Any]
NODES_AGENT = "simulated-nodes"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML was built with it: the definitions are thousands of lines, seconds in pure Python."""


def read_definitions(folder: Path) -> list[Body]:
    """Return the CustomResourceDefinitions in the YAML files under *folder*. Raises ConfigError."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder of CustomResourceDefinitions")
    found: list[Body] = []
    for path in sorted(folder.rglob("*.y*ml")):
        documents = yaml.load_all(path.read_text("utf-8"), Loader=_LOADER)
        found += [d for d in documents if isinstance(d, dict) and d.get("kind") == "CustomResourceDefinition"]
    return found


class EmbeddedCluster:
    """A cluster in this process. Own it with ``async with``."""

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        *,
        server: ApiServer | None = None,
        nodes: int = 0,
        shape: NodeShape | None = None,
        definitions: Iterable[Body] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        tls: bool = True,
        token: str = "",
        node_grace: float = 50.0,
        provisioner: bool = False,
    ) -> None:
        """*nodes* simulated nodes; *definitions* are CRDs; *port* 0 takes a free one, a negative one none at all.

        With *token*, clients must present it; without, everybody is let in. Volumes are made where nodes are, or where
        *provisioner* asks for it.
        """
        self.clock = clock
        self.rng = rng
        self.server = server if server is not None else ApiServer(clock, rng)
        self.certificates: Certificates | None = None
        self.front: HttpFront | None = None
        self.agent: NodeAgent | None = None
        self._nodes = nodes
        self._shape = shape if shape is not None else NodeShape()
        self._definitions = list(definitions)
        self._token = token
        self._grace = node_grace
        self._provisioner = provisioner or nodes > 0
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        if port >= 0:
            if tls:
                self.certificates = make_certificates(now=clock.now())
            self.front = HttpFront(
                self.server,
                host=host,
                port=port,
                tls=None if self.certificates is None else self.certificates.context(),
                access=Access({token: "admin"} if token else {}, anonymous=not token),
            )

    @property
    def url(self) -> str:
        """Where the server listens; ``""`` without an HTTP front."""
        return "" if self.front is None else self.front.url

    def kubeconfig(self, namespace: str = "") -> Body:
        """Return the kubeconfig of this cluster."""
        authority = b"" if self.certificates is None else self.certificates.authority
        return kubeconfig(self.url, authority=authority, token=self._token, namespace=namespace)

    def write_kubeconfig(self, path: Path, namespace: str = "") -> Path:
        """Write the kubeconfig of this cluster to *path*; return *path*."""
        return write_kubeconfig(path, self.kubeconfig(namespace))

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop(None, None, None)
            raise
        return self

    async def _start(self) -> None:
        for definition in self._definitions:
            if self.server.get(DEFINITIONS, definition["metadata"]["name"]) is None:
                self.server.create(DEFINITIONS, definition, actor="installer")
        if self.front is not None:
            await self._stack.enter_async_context(self.front)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        actors: list[Actor] = everything(self.server, node_grace=self._grace)
        self._tasks = [group.create_task(actor.run(), name=actor.name) for actor in actors]
        metrics = Metrics(process=False)
        transport = self.server.transport(NODES_AGENT)
        rest = Rest(transport, clock=self.clock, rng=self.rng, metrics=metrics, user_agent=NODES_AGENT)
        if self._provisioner:
            provisioner = Provisioner(rest, clock=self.clock, rng=self.rng, metrics=metrics, bind=True)
            self._tasks.append(group.create_task(provisioner.run(), name="provisioner"))
        if self._nodes:
            await self._start_nodes(group, rest, metrics)

    async def _start_nodes(self, group: asyncio.TaskGroup, rest: Rest, metrics: Metrics) -> None:
        agent = self.agent = NodeAgent(rest, clock=self.clock, rng=self.rng, metrics=metrics, shape=self._shape)
        self._tasks.append(group.create_task(agent.run(), name="nodes"))
        await agent.keeper.register([f"{self._shape.prefix}{n}" for n in range(self._nodes)])

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop(kind, error, trace)

    async def _stop(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        await self._stack.__aexit__(kind, error, trace)
