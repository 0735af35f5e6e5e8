"""``python -m kruise.simulator``: an embedded cluster for clients outside of this process, until it is interrupted.

Purpose: the API server in memory behind HTTPS, its actors, simulated nodes, and a kubeconfig for kubectl.

Guarantees: the kubeconfig is there when its path is printed; SIGINT and SIGTERM end everything and take it away again.

What this does not do: it starts no manager; ``kruise demo`` does, and ``make run`` with the kubeconfig.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kruise.runtime.clock import SystemClock, new_token, system_random
from kruise.runtime.errors import ConfigError
from kruise.runtime.log import configure
from kruise.runtime.manager.process import stop_on_signal
from kruise.simulator.embedded import EmbeddedCluster, read_definitions


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(
        prog="python -m kruise.simulator", description="An embedded cluster. See docs/simulator.md."
    )
    made.add_argument("--nodes", type=int, default=5, help="simulated nodes (default: 5)")
    made.add_argument("--port", type=int, default=0, help="of the API server on 127.0.0.1 (default: a free one)")
    made.add_argument(
        "--crds", type=Path, action="append", default=[], help="folder of CRDs to install; may be repeated"
    )
    made.add_argument(
        "--kubeconfig", type=Path, help="where to write it (default: a file of its own in the temp folder)"
    )
    made.add_argument("--anonymous", action="store_true", help="let everybody in, without the token of the kubeconfig")
    made.add_argument("--plain", action="store_true", help="HTTP instead of HTTPS")
    made.add_argument("--log-level", default="warning", help="debug, info, warning or error (default: warning)")
    return made


async def serve(args: argparse.Namespace, stop: asyncio.Event) -> None:
    """Run the cluster until *stop* is set. Raises ConfigError."""
    definitions = [crd for folder in args.crds for crd in read_definitions(folder)]
    cluster = EmbeddedCluster(
        SystemClock(),
        system_random(),
        nodes=args.nodes,
        definitions=definitions,
        port=args.port,
        tls=not args.plain,
        token="" if args.anonymous else new_token(),
    )
    async with cluster:
        with tempfile.TemporaryDirectory(prefix="kruise-embedded-") as folder:
            path = cluster.write_kubeconfig(args.kubeconfig or Path(folder, "kubeconfig"))
            print(f"API server {cluster.url}, {args.nodes} nodes; Ctrl-C ends it", file=sys.stderr)  # noqa: T201
            print(f"export KUBECONFIG={path.resolve()}", flush=True)  # noqa: T201
            await stop.wait()
        if args.kubeconfig is not None:
            args.kubeconfig.unlink(missing_ok=True)


async def _main(args: argparse.Namespace) -> int:
    try:
        with stop_on_signal() as stop:
            await serve(args, stop)
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process; return its exit code."""
    args = parser().parse_args(argv)
    try:
        configure(form="text", level=args.log_level)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return asyncio.run(_main(args))


if __name__ == "__main__":
    sys.exit(main())
