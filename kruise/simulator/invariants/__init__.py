"""What must always hold, as checkers over a history.

Purpose: the invariants of ``reliability.md`` section 3, so that every test that runs the manager can look for them.

Guarantees: each checker has a history that it must reject and a legal near miss that it must accept (6.7).

What this does not do: it finds no cause; it names the commit.

Example::

    attached = standard(server, manager=lambda actor: actor.startswith("kruise-manager"))
    ...
    attached.finish()
"""

from __future__ import annotations

from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.invariants.broadcastjob import JOBS, BroadcastJobs, Fits
from kruise.simulator.invariants.feed import Attached, audited, observed, written
from kruise.simulator.invariants.general import (
    Conditional,
    Footprint,
    Isolation,
    NoNoOps,
    ObservedGeneration,
    Ownership,
    Quiet,
)
from kruise.simulator.invariants.model import Actor, Checker, Observed, Suite, Violation, World, Written

__all__ = [
    "ALLOWED",
    "Attached",
    "BroadcastJobs",
    "Checker",
    "Conditional",
    "Footprint",
    "Isolation",
    "NoNoOps",
    "Observed",
    "ObservedGeneration",
    "Ownership",
    "Quiet",
    "Suite",
    "Violation",
    "World",
    "Written",
    "audited",
    "observed",
    "standard",
    "standard_checkers",
    "written",
]

ALLOWED = {JOBS: ("status",), "pods": ("metadata.ownerReferences",), "nodes": ()}
"""G3 of the BroadcastJob controller: what its updates may change."""


def standard_checkers(manager: Actor, *, fits: Fits | None = None, slack: float = 5.0) -> list[Checker]:
    """Return G1 to G4, G7 and B1 to B8 for the BroadcastJob controller. *manager* recognises our actors."""
    return [
        Ownership(manager, (JOBS,), ("pods",), slack=slack),
        Conditional(manager, (JOBS,)),
        Footprint(manager, ALLOWED),
        NoNoOps(manager),
        ObservedGeneration((JOBS,)),
        BroadcastJobs(manager, fits=fits, slack=slack),
    ]


def standard(server: ApiServer, *, manager: Actor, fits: Fits | None = None, slack: float = 5.0) -> Attached:
    """Let the standard checkers look on at *server*."""
    return Attached(server, standard_checkers(manager, fits=fits, slack=slack))
