"""The process: parse options, find the cluster, run the manager, say how it ended.

Purpose: everything that belongs to the process and to nothing else: exit codes, signals, the event loop, logging, the
one process-wide switch of the metrics library.

Guarantees:

* Exit code 0 after an orderly stop, 1 after a failure or a lost lease, 2 for a wrong option or kubeconfig. Every error
  is one line that names the option, file or object, and what to do.
* MAN4: the first signal stops in order and gives the lease back; the second one ends at once.

What this does not do: it wires nothing; ``app`` does.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from kruise import __version__, app
from kruise.config import help_text, parse_options, print_config, print_flags
from kruise.options import Options
from kruise.runtime import log
from kruise.runtime.client.http import HttpTransport
from kruise.runtime.client.kubeconfig import load_config
from kruise.runtime.client.pace import Pace
from kruise.runtime.clock import SystemClock, system_random
from kruise.runtime.errors import ConfigError, Forbidden, LeadershipLost, RuntimeFault
from kruise.runtime.manager.manager import Manager
from kruise.runtime.manager.process import loop_factory
from kruise.runtime.metrics import switch_off_created_series

__all__ = ["main", "run", "version_text"]

STOPPED: Final = 0
FAILED: Final = 1
USAGE: Final = 2

_COMMIT: Final = "KRUISE_COMMIT"
"""Set in the image: the commit from which it was built."""


def version_text(env: Mapping[str, str]) -> str:
    """Return what ``--version`` prints."""
    return (
        f"kruise-manager {__version__} (commit {env.get(_COMMIT, 'unknown')}, Python {platform.python_version()}, "
        "apps.kruise.io v1beta1 v1alpha1)"
    )


def main(argv: Sequence[str] | None = None, env: Mapping[str, str] | None = None) -> int:
    """Run the manager; return the exit code."""
    env = os.environ if env is None else env
    try:
        options, warnings = parse_options(sys.argv[1:] if argv is None else argv, env)
        answer = _answer(options, env)
        if answer is not None:
            print(answer)  # noqa: T201 - what the user asked to read
            return STOPPED
        slow = log.SlowThresholds(options.slow_handler, options.slow_decode, options.slow_loop, options.slow_reconcile)
        log.configure(form=options.log_format, level=options.log_level, slow=slow)
    except ConfigError as error:
        print(f"kruise-manager: {error}", file=sys.stderr)  # noqa: T201 - there is no logging yet
        return USAGE
    logger = log.get_logger("main")
    for text in warnings:
        logger.warning(text)
    switch_off_created_series()
    try:
        with asyncio.Runner(loop_factory=loop_factory(fast=options.event_loop != "asyncio")) as runner:
            if options.event_loop == "uvloop" and "uvloop" not in type(runner.get_loop()).__module__:
                raise ConfigError("--event-loop=uvloop: uvloop is not installed; pip install 'kruise[speed]'")
            return runner.run(_serve(options, env, logger))
    except ConfigError as error:
        logger.error("cannot start", error=str(error))
        return USAGE
    except KeyboardInterrupt:
        return FAILED


def _answer(options: Options, env: Mapping[str, str]) -> str | None:
    """Return the text for an option that only asks; None to go on."""
    if options.help:
        return help_text()
    if options.version:
        return version_text(env)
    if options.print_flags:
        return print_flags(options)
    if options.print_config:
        return print_config(options)
    return None


async def _serve(options: Options, env: Mapping[str, str], logger: log.Logger) -> int:
    clock, rng = SystemClock(), system_random()
    config = await load_config(clock, kubeconfig=options.kubeconfig or None, context=options.context or None, env=env)
    async with HttpTransport(config, clock=clock, env=env, pace=Pace(clock)) as transport:
        manager = app.build(transport, options, clock=clock, rng=rng, host=transport.host, abort=os._exit)
        logger.info(
            "starting",
            version=__version__,
            server=config.host,
            credentials=config.source,
            namespaces=list(options.namespaces) or "all",
            dry_run=options.dry_run,
            loop=type(asyncio.get_running_loop()).__module__.partition(".")[0],
        )
        manager.install_signal_handlers()
        return await _run(manager, logger)


async def _run(manager: Manager, logger: log.Logger) -> int:
    try:
        await manager.run()
    except LeadershipLost as error:
        logger.error("leader election lost", error=str(error))
        return FAILED
    except ConfigError:
        raise
    except Forbidden as error:
        logger.error("stopped: a permission is missing", error=str(error))
        return FAILED
    except RuntimeFault as error:
        logger.error("stopped by an error", error=str(error))
        return FAILED
    except Exception:
        logger.exception("stopped by an unexpected error")
        return FAILED
    return STOPPED


def run() -> None:
    """Entry point of ``kruise-manager``."""
    sys.exit(main())
