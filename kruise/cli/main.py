"""The command ``kruise``: find the subcommand, run it, turn errors into one line and an exit code.

Exit codes (ecosystem 6.5): 0 done, 1 error, 2 degraded or failed, 3 timeout.

What this does not do: it never starts the manager; that is ``kruise-manager`` (``python -m kruise``).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from kruise import __version__
from kruise.cli import demo, inject_check, status
from kruise.runtime import log
from kruise.runtime.errors import ApiError, ConfigError, RuntimeFault, TransportError

DONE: Final = 0
ERROR: Final = 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kruise", description="Look at the workloads of Kruise.")
    parser.add_argument("--version", action="version", version=f"kruise {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    status.add_parser(commands)
    inject_check.add_parser(commands)
    demo.add_parser(commands)
    return parser


async def _command(args: argparse.Namespace) -> int:
    code: int = await args.run(args)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    log.configure(level="warning")
    args = _parser().parse_args(argv)
    try:
        return asyncio.run(_command(args))
    except KeyboardInterrupt:
        return 130
    except (ApiError, TransportError, ConfigError, RuntimeFault) as error:
        print(f"kruise {args.command}: {error}", file=sys.stderr)
        return ERROR


def run() -> None:
    """Entry point of the console scripts."""
    sys.exit(main())


if __name__ == "__main__":
    run()
