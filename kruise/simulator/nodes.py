"""Plays the nodes of a cluster: ``python -m kruise.simulator.nodes --kubeconfig FILE --nodes 50``.

Purpose: the process around :class:`kruise.simulator.node_agent.NodeAgent`: options, signals, exit codes. It registers
its nodes in a real API server, or in the embedded one, keeps them alive and runs whatever is bound to them.

Guarantees: SIGTERM and SIGINT end it within a second or two; its nodes stay registered, and become NotReady as the
nodes of a machine room without power do. Started again, it takes them over, with their pods.

What this does not do: two of these processes must not play the same nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson

from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import SystemClock, system_random
from kruise.runtime.errors import ConfigError, RuntimeFault
from kruise.runtime.log import configure, get_logger
from kruise.runtime.manager.process import stop_on_signal
from kruise.runtime.metrics import Metrics
from kruise.simulator.behaviour import Rule
from kruise.simulator.control import Control, parse_address, served
from kruise.simulator.node_agent import NodeAgent
from kruise.simulator.node_objects import NodeShape
from kruise.simulator.provisioner import Provisioner

log = get_logger("nodes")

USER_AGENT = "simulated-nodes"


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(
        prog="python -m kruise.simulator.nodes", description="Play the nodes of a cluster. See docs/simulated-nodes.md."
    )
    made.add_argument("--kubeconfig", help="default: KUBECONFIG, the pod's own account, ~/.kube/config")
    made.add_argument("--context", help="context of the kubeconfig (default: its current one)")
    made.add_argument("--nodes", type=int, default=10, help="nodes to register (default: 10)")
    made.add_argument("--prefix", default="node-", help="names are this and a number (default: node-)")
    made.add_argument("--cpu", default="32", help="processors of a node (default: 32)")
    made.add_argument("--memory", default="64Gi", help="memory of a node (default: 64Gi)")
    made.add_argument("--pods", default="250", help="pods that a node takes (default: 250)")
    made.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="label of every node")
    made.add_argument("--lease-seconds", type=int, default=40, help="renewed every quarter of this (default: 40)")
    made.add_argument(
        "--reaction-seconds",
        type=float,
        default=0.02,
        help="from the news of a change of a pod to the kubelet's answer (default: 0.02)",
    )
    made.add_argument("--rules", type=Path, help="a JSON list of rules; see docs/simulated-nodes.md")
    made.add_argument("--control", metavar="ADDRESS", help="control API: 127.0.0.1:PORT or unix:PATH (default: none)")
    made.add_argument("--no-provisioner", action="store_true", help="leave PersistentVolumeClaims alone")
    made.add_argument(
        "--bind-claims", action="store_true", help="bind claims as well: for API servers without a controller manager"
    )
    made.add_argument("--logging-format", default="text", help="text or json (default: text)")
    made.add_argument("--log-level", default="info", help="debug, info, warning or error (default: info)")
    return made


def read_rules(path: Path | None) -> list[Rule]:
    """Return the rules of a file. Raises ConfigError, which names it."""
    if path is None:
        return []
    try:
        raw: Any = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--rules={path}: {error}") from None
    if not isinstance(raw, list):
        raise ConfigError(f"--rules={path}: must be a JSON list of rules")
    return [Rule.parse(one) for one in raw]


def shape_of(args: argparse.Namespace) -> NodeShape:
    """Return how the nodes look. Raises ConfigError."""
    labels = {}
    for label in args.label:
        key, equals, value = label.partition("=")
        if not key or not equals:
            raise ConfigError(f"--label={label}: write it as KEY=VALUE")
        labels[key] = value
    return NodeShape(args.prefix, args.cpu, args.memory, args.pods, labels)


async def run(args: argparse.Namespace, stop: asyncio.Event) -> None:
    """Play nodes until *stop* is set. Raises ConfigError, ApiError, TransportError."""
    from kruise.runtime.client.http import HttpTransport
    from kruise.runtime.client.kubeconfig import load_config

    if args.nodes < 0:
        raise ConfigError(f"--nodes={args.nodes}: must not be negative")
    if args.lease_seconds < 1:
        raise ConfigError(f"--lease-seconds={args.lease_seconds}: must be 1 at least")
    if not 0 <= args.reaction_seconds <= 10:
        raise ConfigError(f"--reaction-seconds={args.reaction_seconds}: must be from 0 to 10")
    address = parse_address(args.control) if args.control else None
    clock, rng, metrics = SystemClock(), system_random(), Metrics()
    config = await load_config(clock, kubeconfig=args.kubeconfig, context=args.context)
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(HttpTransport(config, clock=clock, metrics=metrics))
        rest = Rest(transport, clock=clock, rng=rng, metrics=metrics, host=transport.host, user_agent=USER_AGENT)
        agent = NodeAgent(
            rest,
            clock=clock,
            rng=rng,
            metrics=metrics,
            shape=shape_of(args),
            lease_seconds=args.lease_seconds,
            reaction=args.reaction_seconds,
        )
        agent.set_rules(read_rules(args.rules))
        if address is not None:
            where = await stack.enter_async_context(served(Control(agent), address))
            log.info("control api listens", address=where)
        async with asyncio.TaskGroup() as tasks:
            playing = [tasks.create_task(agent.run(), name="nodes")]
            if not args.no_provisioner:
                provisioner = Provisioner(rest, clock=clock, rng=rng, metrics=metrics, bind=args.bind_claims)
                playing.append(tasks.create_task(provisioner.run(), name="provisioner"))
            begun = clock.monotonic()
            await agent.keeper.register([f"{args.prefix}{number}" for number in range(args.nodes)])
            log.info("nodes are registered", nodes=args.nodes, seconds=round(clock.monotonic() - begun, 3))
            await stop.wait()
            for task in playing:
                task.cancel()


async def _main(args: argparse.Namespace) -> int:
    try:
        with stop_on_signal() as stop:
            await run(args, stop)
    except (RuntimeFault, ExceptionGroup) as raised:
        fault = _first(raised)
        if isinstance(fault, ConfigError):
            print(f"error: {fault}", file=sys.stderr)  # noqa: T201
            return 2
        if not isinstance(fault, RuntimeFault):
            raise
        log.error("nodes ended", error=str(fault))
        return 1
    return 0


def _first(raised: BaseException) -> BaseException:
    while isinstance(raised, BaseExceptionGroup):
        raised = raised.exceptions[0]
    return raised


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process; return its exit code."""
    args = parser().parse_args(argv)
    try:
        configure(form=args.logging_format, level=args.log_level)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return asyncio.run(_main(args))


if __name__ == "__main__":
    sys.exit(main())
