"""The numbers at the end of the demo, each with what it must be.

Purpose: what the manager sent, counted by the API server that answered it.

Guarantees: a count that is not what it must be makes its figure wrong, and the demo then ends with exit code 1.

What this does not do: it does not measure the embedded cluster; its work is Kubernetes' own on a real one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kruise.cli.demo_picture import JOBS, LEASE
from kruise.simulator.apiserver.call import Call

__all__ = ["Figure", "figures", "render"]

_EVENTS: Final = ("events", "events.events.k8s.io")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the summary."""

    what: str
    seen: str
    wanted: str
    right: bool


def figures(
    calls: Iterable[Call], *, nodes: int, running: float, alive: float, reconciles: float, cpu: float
) -> list[Figure]:
    """Return the summary of the manager's requests.

    *nodes* is how many had to get a pod; *running* the seconds from the creation of the job to its end, *alive* those
    of the manager; *cpu* its CPU seconds.
    """
    writes = [c for c in calls if c.writes and not c.dry_run]
    own = [c for c in writes if c.resource not in (*_EVENTS, LEASE)]
    good = [c for c in own if c.code < 300]
    created = sum((c.verb, c.resource) == ("create", "pods") for c in good)
    patched = sum((c.verb, c.resource, c.subresource) == ("patch", JOBS, "status") for c in good)
    leases = sum(c.resource == LEASE for c in writes)
    events = sum(c.resource in _EVENTS for c in writes)
    # Two for the beginning and the end, and at most two a second while counts move; one for a second that began.
    patches = 2 + 2 * (math.ceil(running) + 1)
    renewals = 4 + math.ceil(alive / 2)
    budget = 2.0 + 0.01 * nodes
    return [
        _exact("pods created", created, nodes, "one for each node"),
        _at_most("status patches", patched, patches, "2, and 2 a second while counts move"),
        _exact("other writes to objects", len(good) - created - patched, 0),
        _exact("conflicts", sum(c.code == 409 for c in writes), 0),
        _exact("other refused writes", sum(c.code >= 300 and c.code != 409 for c in writes), 0),
        _exact("writes that changed nothing", sum(c.changed is False for c in writes), 0),
        _at_most("lease writes", leases, renewals, "one in 2 s"),
        Figure("events", str(events), "at least 1", events >= 1),
        Figure("reconciles, says /metrics", f"{reconciles:.0f}", "at least 1", reconciles >= 1),
        Figure("CPU seconds of the manager", f"{cpu:.2f}", f"at most {budget:.1f}", cpu <= budget),
    ]


def _exact(what: str, seen: int, wanted: int, why: str = "") -> Figure:
    return Figure(what, str(seen), f"{wanted}{f' ({why})' if why else ''}", seen == wanted)


def _at_most(what: str, seen: int, most: int, why: str) -> Figure:
    return Figure(what, str(seen), f"at most {most} ({why})", 1 <= seen <= most)


def render(found: Sequence[Figure]) -> list[str]:
    """Return the summary as lines of text."""
    wide = max(len(f.what) for f in found)
    rows = [f"{f.what.ljust(wide)}   {f.seen.rjust(5)}   {f.wanted}{'' if f.right else '   WRONG'}" for f in found]
    return [f"{'THE MANAGER'.ljust(wide)}   {'SEEN'.rjust(5)}   EXPECTED", *rows]
