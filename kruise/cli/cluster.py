"""A client for one command: from a kubeconfig to live reads.

What this does not do: it writes nothing and caches nothing.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from kruise import __version__
from kruise.features import Gates
from kruise.runtime.client.client import Client
from kruise.runtime.client.http import HttpTransport
from kruise.runtime.client.kubeconfig import load_config
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock, SystemClock, system_random
from kruise.runtime.metrics import Metrics

__all__ = ["Cluster", "add_connection_flags", "connect"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a command needs of a cluster."""

    client: Client
    clock: Clock
    namespace: str
    """The namespace of the kubeconfig's context; ``default`` where it names none."""
    gates: Gates = field(default_factory=Gates)
    """The feature gates of the manager, as far as the command was told."""


def add_connection_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that find the cluster."""
    parser.add_argument("--kubeconfig", default=None, help="path of a kubeconfig; default: KUBECONFIG, ~/.kube/config")
    parser.add_argument("--context", default=None, help="context of the kubeconfig")


@contextlib.asynccontextmanager
async def connect(args: argparse.Namespace) -> AsyncIterator[Cluster]:
    """Open the cluster that the flags of *args* name. Raises ConfigError."""
    clock = SystemClock()
    config = await load_config(clock, kubeconfig=args.kubeconfig, context=args.context)
    metrics = Metrics(process=False)
    async with HttpTransport(config, clock=clock) as transport:
        rest = Rest(
            transport, clock=clock, rng=system_random(), metrics=metrics, user_agent=f"kruise-cli/{__version__}"
        )
        yield Cluster(Client(rest, metrics=metrics, clock=clock), clock, config.namespace or "default")
