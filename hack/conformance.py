"""Ask every probe of the embedded API server and of a real one, and compare: ``make conformance``.

Usage::

    python -m hack.conformance                    # starts a real control plane for the time of the probes
    KUBECONFIG=... python -m hack.conformance     # asks that cluster instead
    python -m hack.conformance --target memory    # the embedded server alone, against the recorded answers
    python -m hack.conformance --record           # writes the real server's answers down

Probes that wait for a cluster's controllers need them to run there. In a cluster of others the probes make namespaces
``probe-*``, nodes ``node-probe-*`` and four CRDs of the group ``probes.example.com``, and take them away again.

Exit code 1 when an answer differs that may not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hack.cluster import Cluster, ClusterError
from kruise.runtime.errors import ConfigError
from tests.integration.probes import runner
from tests.integration.probes.comparing import broken, differences, record, recorded, wanted_of_embedded
from tests.integration.probes.differences import ACCEPTED
from tests.integration.probes.embedded import embedded
from tests.integration.probes.registry import PROBES


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _cluster() -> Iterator[str]:
    """Start a real control plane; give its kubeconfig."""
    folder = tempfile.mkdtemp(prefix="kruise-conformance-")
    try:
        # Without a ready node the whole cluster counts as disrupted, and its controllers hold back.
        with Cluster(Path(folder), nodes=3, say=_say) as cluster:
            yield str(cluster.admin)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _real(kubeconfig: str, names: Iterable[str]) -> tuple[str, dict[str, Any]]:
    target = await runner.of_kubeconfig(kubeconfig)
    _say(f"asking Kubernetes {target.name} at {target.url}")
    return target.name, await runner.ask_all(target, names)


async def _embedded(names: Iterable[str]) -> dict[str, Any]:
    async with embedded() as target:
        _say("asking the embedded API server")
        return await runner.ask_all(target, names)


def compare(version: str, real: dict[str, Any], found: dict[str, Any]) -> int:
    """Print what differs and the summary; return how many probes differ that may not."""
    bad = 0
    for name in sorted(found):
        told = list(differences(wanted_of_embedded(name, real.get(name)), found[name]))
        if told or broken(real.get(name)):
            bad += 1
            print(f"DIFFERS {name}")
            print("\n".join(f"    {line}" for line in told[:20]))
    equal = sum(1 for name in found if found[name] == real.get(name) and not broken(found[name]))
    accepted = [name for name in found if name in ACCEPTED and found[name] != real.get(name)]
    for name in accepted:
        print(f"accepted: {name}: {ACCEPTED[name].reason}")
    print(
        f"{equal}/{len(found)} probes equal on Kubernetes {version}"
        + (f", {len(accepted)} accepted" if accepted else "")
    )
    return bad


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hack.conformance", description="compare with a real API server")
    parser.add_argument("names", nargs="*", metavar="PROBE", help="these probes only")
    parser.add_argument(
        "--target", choices=("both", "memory"), default="both", help="memory: the embedded server alone"
    )
    parser.add_argument("--record", action="store_true", help="write the answers of the real server down")
    args = parser.parse_args(argv)
    unknown = [n for n in args.names if n not in PROBES]
    if unknown:
        parser.error(f"there is no probe {', '.join(unknown)}")
    try:
        if args.target == "memory":
            version, real = recorded()
            print(f"the real server is not asked: its answers were recorded from Kubernetes {version}")
        elif kubeconfig := os.environ.get("KUBECONFIG"):
            version, real = asyncio.run(_real(kubeconfig, args.names))
        else:
            with _cluster() as made:
                version, real = asyncio.run(_real(made, args.names))
    except (ClusterError, ConfigError, OSError) as error:
        _say(f"error: {error}")
        return 1
    if args.record:
        record(version, {**(recorded()[1] if args.names else {}), **real})
        return 1 if any(broken(a) for a in real.values()) else 0
    return 1 if compare(version, real, asyncio.run(_embedded(args.names))) else 0


if __name__ == "__main__":
    raise SystemExit(main())
