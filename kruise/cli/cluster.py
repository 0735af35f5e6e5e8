"""A client for one command: from a kubeconfig to live reads.

What this does not do: it writes nothing and caches nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Final

from kruise import __version__
from kruise.features import Gates, resolve
from kruise.flags import PAIRS
from kruise.runtime.client.client import Client
from kruise.runtime.client.http import HttpTransport
from kruise.runtime.client.kubeconfig import load_config
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock, SystemClock, system_random
from kruise.runtime.metrics import Metrics

__all__ = ["Cluster", "add_connection_flags", "add_manager_flags", "as_told", "connect"]

MANAGER_NAMESPACE: Final = "kruise-system"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a command needs of a cluster."""

    client: Client
    clock: Clock
    namespace: str
    """The namespace of the kubeconfig's context; ``default`` where it names none."""
    gates: Gates = field(default_factory=Gates)
    """The feature gates of the manager, as far as the command was told."""
    manager_namespace: str = MANAGER_NAMESPACE
    """Where the manager keeps the revisions of SidecarSets, and injects nothing."""


def add_connection_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that find the cluster."""
    parser.add_argument("--kubeconfig", default=None, help="path of a kubeconfig; default: KUBECONFIG, ~/.kube/config")
    parser.add_argument("--context", default=None, help="context of the kubeconfig")


def add_manager_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how the manager runs, where it does not run with the defaults."""
    parser.add_argument(
        "--feature-gates",
        type=_gates,
        default=(),
        metavar="A=true,B=false",
        help="those of the manager, where they are not the defaults",
    )
    parser.add_argument(
        "--manager-namespace",
        default=MANAGER_NAMESPACE,
        help=f"the namespace of the manager (default: {MANAGER_NAMESPACE})",
    )


def _gates(text: str) -> tuple[tuple[str, bool], ...]:
    try:
        found: tuple[tuple[str, bool], ...] = PAIRS.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return found


def as_told(cluster: Cluster, args: argparse.Namespace, command: str) -> Cluster:
    """Return *cluster* with what the flags of *args* say of its manager; odd gates are named on stderr."""
    gates, warnings = resolve(args.feature_gates, os.environ)
    for warning in warnings:
        print(f"kruise {command}: {warning}", file=sys.stderr)
    return replace(cluster, gates=gates, manager_namespace=args.manager_namespace)


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
