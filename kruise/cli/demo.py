"""``kruise demo``: a whole cluster in this process, on which a job runs, a set updates, a sidecar is upgraded.

Purpose: the flags, the signals and the exit code. What happens is in ``demo_script``, on what in ``demo_stage``.

Guarantees:

* Exit code 0 only when everything that was shown really happened: each sentence that claims something is checked
  against the store of the API server, each count against its request log. 1 when something was not seen in time or a
  number is wrong, 130 after Ctrl-C before the end.
* Everything is stopped and removed at the end, after Ctrl-C too: ports, threads, tasks, the folder of the kubeconfig.
* The plain form needs a stream and nothing else; the form with a table needs a terminal and the package rich.

What this does not do: it touches no other cluster; KUBECONFIG is neither read nor changed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any, Final

__all__ = ["add_parser", "run"]

DONE: Final = 0
NOT_SHOWN: Final = 1
INTERRUPTED: Final = 130
FEWEST, MOST = 3, 500
SLOWEST, FASTEST = 0.25, 8.0


def add_parser(commands: Any) -> None:
    """Add the subcommand to *commands*."""
    parser = commands.add_parser(
        "demo", help="watch a job, a set and a sidecar at work, on a cluster inside this process; needs nothing else"
    )
    parser.add_argument("--nodes", type=_nodes, default=5, help="nodes at the start; one more joins (default: 5)")
    parser.add_argument("--speed", type=_speed, default=1.0, help="2 is twice as fast (default: 1)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running for kubectl, until Ctrl-C")
    parser.add_argument("--plain", action="store_true", help="lines of text only, also on a terminal")
    parser.set_defaults(run=run)


def _nodes(text: str) -> int:
    number = int(text)
    if not FEWEST <= number <= MOST:
        raise argparse.ArgumentTypeError(f"want a number from {FEWEST} to {MOST}, not {text}")
    return number


def _speed(text: str) -> float:
    number = float(text)
    if not SLOWEST <= number <= FASTEST:
        raise argparse.ArgumentTypeError(f"want a number from {SLOWEST:g} to {FASTEST:g}, not {text}")
    return number


async def run(args: argparse.Namespace) -> int:
    """Run the subcommand; return the exit code."""
    # Only here, as below: `kruise status` must not wait for the API server and the manager to be imported.
    from kruise.runtime.manager.process import stop_on_signal

    with stop_on_signal() as stop:
        return await _show(args, stop)


async def _show(args: argparse.Namespace, stop: asyncio.Event) -> int:
    from kruise.cli.demo_script import Show
    from kruise.cli.demo_show import Interrupted, NotSeen
    from kruise.cli.demo_stage import opened
    from kruise.cli.demo_view import make_view

    view = make_view(sys.stdout, plain=args.plain)
    try:
        async with opened() as stage:
            show = Show(stage, view, nodes=args.nodes, speed=args.speed, stop=stop, keep=args.keep)
            try:
                right = await show.run()
                if args.keep and right:
                    await show.hold()
            except NotSeen as error:
                view.say(f"NOT SEEN: {error}")
                return NOT_SHOWN
            except Interrupted:
                return INTERRUPTED
            except BrokenPipeError:
                _drop_output()
                return NOT_SHOWN
    except BaseExceptionGroup as group:
        raise _first(group) from None
    finally:
        view.close()
    return DONE if right else NOT_SHOWN


def _drop_output() -> None:
    """Write to nowhere from now on: whoever read the lines is gone, and Python flushes once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _first(raised: BaseException) -> BaseException:
    """Return the error that a person should read: the cluster runs in a TaskGroup, which wraps all of them."""
    while isinstance(raised, BaseExceptionGroup):
        raised = raised.exceptions[0]
    return raised
