"""The driver without a controller, as a process of its own: what a rollout costs when nobody decides anything.

Purpose: the ideal to which seconds and CPU of the manager are related, on the same nodes in the same run. An API server
that has served for a while is slower (500 pods: 8.2 s before the manager's run, 9.5 s after it). Who runs the driver
before and after takes the :func:`mean`; who runs it before alone sets the manager against a fresher server.

What this does not do: it checks no invariants; its pods are nobody's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from hack.cluster import ROOT, Cluster


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of the driver took."""

    seconds: float
    cpu: float
    """Seconds of CPU, user and system."""


def measure(
    cluster: Cluster,
    *steps: str,
    pods: int,
    budget: int,
    image: str,
    flags: tuple[str, ...] = (),
    driver: str = "ideal",
) -> list[Step]:
    """Run *steps* of a *driver* in ``tests.perf``; return what each took."""
    argv = [sys.executable, "-m", f"tests.perf.{driver}", *steps, f"--kubeconfig={cluster.admin}"]
    argv += [f"--pods={pods}", f"--budget={budget}", f"--image={image}", *flags]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [Step(one["seconds"], one["cpu"]) for one in json.loads(done.stdout)]


def mean(before: list[Step], after: list[Step]) -> list[Step]:
    """Return the mean of two runs of the same steps."""
    return [
        Step((one.seconds + two.seconds) / 2, (one.cpu + two.cpu) / 2) for one, two in zip(before, after, strict=True)
    ]
