"""The command line of the local control plane: ``python -m hack.cluster up|down|status|build|kubeconfig``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hack.cluster import binaries, gomod, registry
from hack.cluster.cluster import ROOT, Cluster
from hack.cluster.components import NODES, Options
from hack.cluster.errors import ClusterError

DEFAULT_DIRECTORY: Final = ROOT / ".cluster"


def _say(line: str) -> None:
    # Progress goes to stderr: `eval "$(python -m hack.cluster up)"` gets the export line alone.
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.cluster", description=__doc__)
    parser.add_argument("--dir", type=Path, default=DEFAULT_DIRECTORY, help="state of the cluster (default: .cluster)")
    commands = parser.add_subparsers(dest="command", required=True)

    up = commands.add_parser("up", help="start in the background, return when it is ready")
    up.add_argument("--nodes", type=int, default=10, help="simulated nodes (default: 10; 0: none)")
    up.add_argument("--version", default=gomod.DEFAULT_VERSION, help=f"Kubernetes (default: {gomod.DEFAULT_VERSION})")
    up.add_argument("--node-monitor-grace", default="50s", help="until a silent node is NotReady (default: 50s)")
    up.add_argument("--no-audit", action="store_true", help="keep no audit log")
    up.add_argument("--crds", type=Path, default=ROOT / "config" / "crd", help="CRDs to install (default: config/crd)")
    up.add_argument(
        "--apiserver-flag",
        action="append",
        default=[],
        metavar="FLAG=VALUE",
        help="one more flag of the API server, without dashes: watch-cache=false, etcd-compaction-interval=10s, "
        "goaway-chance=0.01; may be repeated",
    )
    up.add_argument("--node-flag", action="append", default=[], metavar="FLAG=VALUE", help="the same for the nodes")

    down = commands.add_parser("down", help="stop exactly what `up` started")
    down.add_argument("--keep", action="store_true", help="keep the data for the next `up`")
    down.add_argument("--orphans", action="store_true", help="stop the clusters of test runs that were killed, too")

    commands.add_parser("status", help="what runs; exit code 1 when a component is missing")
    build = commands.add_parser("build", help="make the binaries, print their directory")
    build.add_argument("--version", default=gomod.DEFAULT_VERSION)
    config = commands.add_parser("kubeconfig", help="print the path of the kubeconfig")
    config.add_argument(
        "--service-account", metavar="NAMESPACE/NAME", help="of this ServiceAccount, with a fresh token"
    )
    return parser


def _up(args: argparse.Namespace) -> int:
    directory: Path = args.dir.resolve()
    if (directory / "cluster.json").exists() and (running := Cluster.open(directory).running()):
        _say(f"runs already: {', '.join(running)} (`python -m hack.cluster down` stops it)")
    else:
        options = Options(
            api_server=tuple(f"--{flag.removeprefix('--')}" for flag in args.apiserver_flag),
            node_monitor_grace=args.node_monitor_grace,
            audit=not args.no_audit,
        )
        Cluster(
            directory,
            options=options,
            nodes=args.nodes,
            node_flags=[f"--{flag.removeprefix('--')}" for flag in args.node_flag],
            crds=args.crds,
            version=args.version,
            detached=True,
            say=_say,
        ).start()
    cluster = Cluster.open(directory)
    _say(f"API server {cluster.url}; kubectl is {cluster.binaries / 'kubectl'}")
    if NODES in cluster.running():
        _say(f"simulated nodes: {cluster.control_url}/status; logs and the audit log are in {directory}")
    print(f"export KUBECONFIG={cluster.admin}")
    return 0


def _down(args: argparse.Namespace) -> int:
    if args.orphans:
        for orphan in registry.orphans():
            _say(f"stopping the cluster in {orphan}, whose owner is gone")
            Cluster(orphan).stop()
    directory: Path = args.dir.resolve()
    if not (directory / "cluster.json").exists():
        _say(f"there is no cluster in {directory}")
        return 0
    cluster = Cluster.open(directory)
    running = cluster.running()
    cluster.stop(keep=args.keep)
    if not args.keep:
        shutil.rmtree(directory)
    _say(f"stopped {', '.join(running) or 'nothing: it did not run'}")
    return 0


def _status(args: argparse.Namespace) -> int:
    cluster = Cluster.open(args.dir)
    running = cluster.running()
    expected = cluster.expected()
    for name in expected:
        print(f"{name:24} {running.get(name, 'stopped')}")
    return 0 if all(name in running for name in expected) else 1


def _kubeconfig(args: argparse.Namespace) -> int:
    cluster = Cluster.open(args.dir)
    path = cluster.admin
    if args.service_account:
        namespace, slash, name = args.service_account.partition("/")
        if not (namespace and slash and name):
            raise ClusterError(f"--service-account={args.service_account}: write it as NAMESPACE/NAME")
        path = cluster.service_account_kubeconfig(namespace, name)
    print(path)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    args = _parser().parse_args(argv)
    try:
        if args.command == "up":
            return _up(args)
        if args.command == "down":
            return _down(args)
        if args.command == "status":
            return _status(args)
        if args.command == "build":
            print(binaries.ensure(args.version, say=_say))
            return 0
        return _kubeconfig(args)
    except ClusterError as error:
        _say(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
