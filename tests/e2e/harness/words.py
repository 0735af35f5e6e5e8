"""What a set says of itself: to the command line, in its conditions, in its Events.

Purpose: the questions that tests of every kind of trouble ask.

What this does not do: it changes nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from hack.cluster import ROOT
from tests.e2e.harness.observer import Observer
from tests.e2e.harness.sets import condition
from tests.e2e.harness.world import World

__all__ = ["explained", "kruise_status", "reasons", "stuck", "told"]


def kruise_status(world: World, *args: str) -> tuple[int, str]:
    """Run ``kruise status``; return the exit code and what it prints."""
    argv = [sys.executable, "-m", "kruise.cli.main", "status", f"--kubeconfig={world.cluster.admin}", *args]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def explained(world: World, name: str) -> list[dict[str, Any]]:
    """Return the decisions of ``kruise status -o json``."""
    _, text = kruise_status(world, f"asts/{name}", "-o", "json")
    found: list[dict[str, Any]] = json.loads(text)["decisions"]
    return found


def stuck(world: World, observer: Observer, name: str, reason: str, *, within: float = 30.0) -> dict[str, Any]:
    """Wait until the condition and the command line say *reason*; return the decision."""
    observer.until(
        lambda: reason in (condition(observer.set(name), "Progressing").get("reason"), *reasons(world, name)),
        within,
        f"the reason {reason}; there are {reasons(world, name)}",
    )
    observer.until(
        lambda: condition(observer.set(name), "Progressing").get("reason") == reason,
        10.0,
        f"the condition says {reason}; it is {condition(observer.set(name), 'Progressing')}",
    )
    found = [d for d in explained(world, name) if d["reason"] == reason]
    assert found, f"kruise status does not say {reason}"
    assert found[0]["evidence"] and found[0]["subject"]
    return found[0]


def reasons(world: World, name: str) -> set[str]:
    """Return the reasons that the command line gives."""
    return {d["reason"] for d in explained(world, name)}


def told(world: World, name: str, reason: str) -> dict[str, Any]:
    """Return the first Event on the set of this name that gives *reason*."""
    uid = world.set(name)["metadata"]["uid"]
    found = [
        one
        for one in world.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events")["items"]
        if one["reason"] == reason and (one.get("regarding") or {}).get("uid") == uid
    ]
    assert found, f"no event says {reason}"
    return min(found, key=lambda one: str(one["eventTime"]))
