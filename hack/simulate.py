"""Run the production manager through seeded faults: ``python -m hack.simulate``, or ``make simulate``.

Purpose: ``--count N`` explores seeds on all cores, ``--seed S`` runs one and prints its history, ``--replay FILE`` runs
what an artefact of a failure describes, ``--mutants`` breaks the product on purpose and shows which workload notices.

Guarantees:

* A failed scenario writes its artefact below ``.simulation/`` and prints the command that replays it; then the
  exit code is 1.
* One seed in a hundred (``--double``) is run a second time in another process, with another hash seed: whatever depends
  on the order of a set shows.

What this does not do: it keeps no state between runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from hack.kustomize import render
from hack.kustomize_yaml import load
from kruise import app
from kruise.app import KINDS
from kruise.features import resolve
from kruise.options import Options
from kruise.runtime import log
from kruise.runtime.client.transport import Transport
from kruise.runtime.clock import Clock, Random
from kruise.runtime.controller.reconcile import Needs
from kruise.runtime.manager.manager import Manager, Phase
from kruise.runtime.metrics import Metrics
from kruise.runtime.webhook.keeper import CertificateKeeper
from kruise.simulator.campaign import Tally
from kruise.simulator.embedded import read_definitions
from kruise.simulator.faults import Plan
from kruise.simulator.history import Artefact
from kruise.simulator.scenario import Result, replay, run_seed
from kruise.simulator.scenario_catalogue import WORKLOADS
from kruise.simulator.scenario_world import Product
from kruise.webhooks.certificates import source

ROOT: Final = Path(__file__).parents[1]
FAILURES: Final = Path(".simulation")
_SHIPPED: Final = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "Secret")
_OPTIONS: Final = Options(metrics_addr="0", health_probe_addr="0", disable_webhooks=True)


def build(
    transport: Transport,
    clock: Clock,
    rng: Random,
    metrics: Metrics,
    gates: tuple[str, ...] = (),
    *,
    webhooks: bool = False,
) -> tuple[Manager, CertificateKeeper | None]:
    """Return the manager as the program builds it, without its ports, and what keeps the certificate of its webhooks.

    *gates* are on beside the defaults. Without *webhooks* it serves none.
    """
    options = dataclasses.replace(_OPTIONS, disable_webhooks=not webhooks)
    if gates:
        options = dataclasses.replace(options, gates=resolve([(name, True) for name in gates], {})[0])
    manager = app.build(transport, options, clock=clock, rng=rng, metrics=metrics, certificates=False)
    # The heap belongs to the process, and thousands of managers live and die in this one.
    manager.options = dataclasses.replace(manager.options, freeze_heap=False)
    keeper = source(manager, options, clock=clock, rng=rng, kinds=KINDS).keeper if webhooks else None
    if keeper is not None:
        manager.add(_Keeping(keeper), phase=Phase.WEBHOOKS)
    return manager, keeper


class _Keeping:
    """A keeper without the server that it keeps a certificate for."""

    name: Final = "webhook certificates"
    needs: Final = Needs.ALWAYS

    def __init__(self, keeper: CertificateKeeper) -> None:
        self._keeper = keeper
        self.ready = keeper.ready

    async def run(self) -> None:
        """Set up, repair and renew until cancelled."""
        await self._keeper.run()


def production() -> Product:
    """Return what is shipped: the manager and its definitions."""
    webhooks = [
        one
        for path in sorted((ROOT / "config" / "webhook").glob("*.yaml"))
        for one in load(path)
        if one.get("kind") in _SHIPPED
    ]
    installed = render(ROOT / "config" / "default")
    converted = [one for one in installed if one["kind"] == "CustomResourceDefinition"]
    return Product(build, read_definitions(ROOT / "config" / "crd" / "bases"), webhooks, converted)


def quiet_logs() -> None:
    """Let nothing be logged: a campaign provokes more errors than anybody wants to read."""
    log.configure(level="error", stream=io.StringIO())


def main(argv: Sequence[str] | None = None) -> int:
    """Run; return the exit code."""
    options = _parser().parse_args(argv)
    quiet_logs()
    if options.replay:
        return _show(replay(production(), Artefact.read(Path(options.replay))))
    if options.seed is not None:
        return _show(run_seed(production(), options.seed, workload=options.workload, history=True))
    if options.child:
        return _child(options)
    if options.mutants:
        return _mutants()
    return _campaign(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.simulate")
    parser.add_argument("--count", type=int, default=200, help="how many seeds are run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes run them")
    parser.add_argument("--double", type=int, default=100, help="one seed in so many is run twice; 0 for none")
    parser.add_argument("--workload", default="", choices=["", *WORKLOADS], help="run this one only")
    parser.add_argument("--seed", type=int, help="run this seed alone and print its history")
    parser.add_argument("--replay", default="", help="run this artefact and print its history")
    parser.add_argument("--mutants", action="store_true", help="show which workload kills which mutant")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser


def _show(result: Result) -> int:
    print(f"{result.workload}, seed {result.seed}: {orjson.dumps(result.plan.to_json()).decode()}\n")
    print(result.history)
    print(f"\ndigest {result.digest}\n{result.error or 'survived'}")
    return 0 if result.survived else 1


# Many.


def _child(options: argparse.Namespace) -> int:
    """Run the seeds that standard input names, and print a line of JSON for each."""
    product = production()
    for line in sys.stdin:
        result = run_seed(product, int(line), workload=options.workload)
        plain: dict[str, Any] = dataclasses.asdict(dataclasses.replace(result, history=""))
        plain["plan"] = result.plan.to_json()
        if result.survived:
            plain["tape"] = ()
        sys.stdout.buffer.write(orjson.dumps(plain) + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _campaign(options: argparse.Namespace) -> int:
    seeds = range(options.first, options.first + options.count)
    doubled = set(seeds[:: options.double]) if options.double else set()
    jobs = max(1, min(options.jobs, options.count))
    shares = [[*seeds[job::jobs]] for job in range(jobs)]
    # The second run of a seed is another process's, which has another hash seed.
    for job in range(jobs):
        shares[(job + 1) % jobs] += [seed for seed in seeds[job::jobs] if seed in doubled]
    began, tally = time.monotonic(), Tally()
    first: dict[int, str] = {}
    for result in _until_interrupted(_run(shares, options)):
        if result.seed in first:
            tally.compare(result, first[result.seed])
            if first[result.seed] != result.digest:
                print(f"seed {result.seed}: two runs differ", flush=True)
            continue
        first[result.seed] = result.digest
        tally.add(result)
        if not result.survived:
            _report(result)
        if tally.scenarios % 250 == 0:
            print(f"{tally.scenarios} run, {len(tally.failures)} failed", flush=True)
    took = time.monotonic() - began
    print(tally.summary())
    print(
        f"{took:.0f} s on {jobs} processes: {tally.scenarios / took * 3600:.0f} scenarios per hour, "
        f"{tally.virtual_seconds / took:.0f} virtual seconds per second"
    )
    return 0 if tally.survived == tally.scenarios and tally.identical == tally.doubled else 1


def _until_interrupted(results: Iterator[Result]) -> Iterator[Result]:
    """Yield *results* until control-C, so that what was run until then is still reported."""
    try:
        yield from results
    except KeyboardInterrupt:
        print("interrupted", flush=True)


def _run(shares: Sequence[Sequence[int]], options: argparse.Namespace) -> Iterator[Result]:
    """Run each share in a process of its own; yield results as they come."""
    command = [sys.executable, "-m", "hack.simulate", "--child", "yes", "--workload", options.workload]
    children = []
    for number, share in enumerate(shares):
        env = {**os.environ, "PYTHONHASHSEED": str(number + 1)}
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        )
        assert child.stdin is not None
        child.stdin.write("".join(f"{seed}\n" for seed in share).encode())
        child.stdin.close()
        children.append(child)
    streams = [child.stdout for child in children if child.stdout is not None]
    while streams:
        for stream in tuple(streams):
            line = stream.readline()
            if line:
                yield _read(line)
            else:
                streams.remove(stream)
    for child in children:
        if child.wait() != 0:
            raise SystemExit(f"a process of the campaign ended with {child.returncode}")


def _read(line: bytes) -> Result:
    plain = orjson.loads(line)
    return Result(**{**plain, "plan": Plan.from_json(plain["plan"]), "tape": tuple(plain["tape"])})


def _version() -> str:
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _report(result: Result) -> None:
    path = FAILURES / f"seed-{result.seed}-{result.workload}.json"
    result.artefact(_version()).write(path)
    print(
        f"FAILED seed {result.seed}, {result.workload}\n{result.error[-2000:]}\n  make simulate REPLAY={path}",
        flush=True,
    )


def _mutants() -> int:
    mutants = importlib.import_module("tests.simulation.mutants")
    both = [
        *mutants.MUTANTS,
        *importlib.import_module("tests.simulation.set_mutants").SET_MUTANTS,
        *importlib.import_module("tests.simulation.sidecar_mutants").SIDECAR_MUTANTS,
    ]
    product, alive = production(), 0
    print("| mutant | killed by | seed | invariant |\n|---|---|---|---|")
    for mutant in both:
        killed = mutants.hunt(product, mutant)
        alive += killed is None
        where = f"{killed.workload} | {killed.seed} | {_first_line(killed.error)}" if killed else "nothing | | |"
        print(f"| {mutant.name} | {where} |", flush=True)
    print(f"{len(both) - alive}/{len(both)} killed")
    return 1 if alive else 0


def _first_line(error: str) -> str:
    return error.strip().splitlines()[0][:110] if error.strip() else ""


if __name__ == "__main__":
    sys.exit(main())
