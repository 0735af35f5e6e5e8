"""``kruise status KIND/NAME``: how far is it, and why is it not done yet.

Purpose: run the planners on lists of the cluster and print what they say.

Guarantees: it reads and never writes; ``-o json`` has everything that the table has; the exit code tells success (0),
failure or degradation (2), a time-out of ``-w`` while it was on its way (3), and any error (1).

What this does not do: it needs no manager and asks none; it sees what the API server sees. What is said of a kind
stands in ``status_*``.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
from types import MappingProxyType
from typing import Any, Final

from kruise.cli import status_broadcastjob, status_sidecarset, status_statefulset
from kruise.cli.answer import DEGRADED, TIMEOUT, Look
from kruise.cli.cluster import add_connection_flags, add_manager_flags, as_told, connect
from kruise.runtime.errors import ConfigError
from kruise.runtime.objects import Key

__all__ = ["add_parser", "run"]

KINDS: Final = MappingProxyType(
    {name: kind.look for kind in (status_statefulset, status_broadcastjob, status_sidecarset) for name in kind.NAMES}
)
_WANTED: Final = "asts (Advanced StatefulSet), bcj (BroadcastJob) or scs (SidecarSet)"
_EVERY: Final = 1.0
"""Seconds between two looks of ``-w``."""


def add_parser(commands: Any) -> None:
    """Add the subcommand to *commands*."""
    parser = commands.add_parser("status", help="say how far a workload is, and why it is not done")
    parser.add_argument("target", help="KIND/NAME, such as asts/web, bcj/sweep or scs/mesh")
    parser.add_argument(
        "-n", "--namespace", default=None, help="default: the namespace of the context; a SidecarSet has none"
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("-w", "--watch", action="store_true", help="print again until it ended")
    parser.add_argument(
        "--timeout",
        type=float,
        default=0.0,
        help="with -w: give up after so many seconds (exit code 3, or 2 when it is degraded then)",
    )
    add_manager_flags(parser)
    add_connection_flags(parser)
    parser.set_defaults(run=run)


def parse_target(text: str) -> tuple[Look, str]:
    """Return who looks, and at what, in ``asts/NAME``. Raises ConfigError that says what is wanted."""
    kind, slash, name = text.partition("/")
    if not slash or not name:
        raise ConfigError(f"{text!r}: want KIND/NAME, such as asts/web, bcj/sweep or scs/mesh")
    if kind.lower() in status_statefulset.AMBIGUOUS:
        raise ConfigError(
            f"{kind!r} may be the StatefulSet of Kubernetes itself, at which kruise does not look; "
            f"want asts/{name} (or statefulset.apps.kruise.io/{name}) for the Advanced StatefulSet"
        )
    if kind.lower() not in KINDS:
        near = difflib.get_close_matches(kind.lower(), KINDS, n=1)
        meant = f"; did you mean {near[0]}/{name}?" if near else ""
        raise ConfigError(f"{kind!r} is no kind that status knows; want {_WANTED}{meant}")
    if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
        raise ConfigError(f"{name!r} is no name of an object")
    return KINDS[kind.lower()], name


async def run(args: argparse.Namespace) -> int:
    """Run the subcommand; return the exit code."""
    look, name = parse_target(args.target)
    async with connect(args) as found:
        cluster = as_told(found, args, "status")
        key = Key(args.namespace or cluster.namespace, name)
        began = cluster.clock.monotonic()
        shown = ""
        while True:
            answer = await look(cluster, key)
            text = json.dumps(answer.document, indent=2) if args.output == "json" else answer.table
            if text != shown:
                print(text, flush=True)
                shown = text
            if not args.watch or answer.ended:
                return answer.code
            if args.timeout and cluster.clock.monotonic() - began >= args.timeout:
                return answer.code if answer.code == DEGRADED else TIMEOUT
            await cluster.clock.sleep(_EVERY)
