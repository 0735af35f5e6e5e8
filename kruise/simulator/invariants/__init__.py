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
from kruise.simulator.invariants.sidecarset import SIDECARSETS, SidecarSets, writes_for_a_set
from kruise.simulator.invariants.statefulset import CLAIMS, REVISIONS, SETS, StatefulSets

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
    "SidecarSets",
    "StatefulSets",
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

ALLOWED = {
    JOBS: ("status",),
    SETS: ("status",),
    SIDECARSETS: ("status",),
    "pods": ("metadata.ownerReferences",),
    "pods/StatefulSet": (
        "metadata.labels",
        "metadata.annotations",
        "metadata.finalizers",
        "metadata.ownerReferences",
        "spec.containers",
        "status.conditions",
    ),
    "pods#sidecarset-controller": ("metadata.annotations", "spec.containers", "status.conditions"),
    CLAIMS: ("metadata.annotations", "metadata.ownerReferences", "spec.resources"),
    REVISIONS: ("metadata.ownerReferences", "revision"),
    f"{REVISIONS}#sidecarset-controller": ("metadata.labels", "metadata.ownerReferences", "revision"),
    "nodes": (),
    "namespaces": (),
    "storageclasses.storage.k8s.io": (),
    "secrets": ("data", "type"),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": ("webhooks",),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": ("webhooks",),
    "customresourcedefinitions.apiextensions.k8s.io": ("spec.conversion",),
}
"""G3: what our updates may change. Which containers, conditions and finalizers is S1's, S4's and C1's to say."""


def standard_checkers(
    manager: Actor, *, fits: Fits | None = None, slack: float = 5.0, start_ordinal: bool = False
) -> list[Checker]:
    """Return G1 to G4, G7, B1 to B8, S1 to S8 and C1 to C11. *manager* recognises our actors.

    *start_ordinal* tells whether the feature gate StatefulSetStartOrdinal is on.
    """
    return [
        Ownership(
            manager,
            (JOBS, SETS, SIDECARSETS),
            ("pods", REVISIONS),
            slack=slack,
            exempt=writes_for_a_set(manager),
        ),
        Conditional(manager, (JOBS, SETS, SIDECARSETS)),
        Footprint(manager, ALLOWED),
        NoNoOps(manager),
        ObservedGeneration((JOBS, SETS, SIDECARSETS)),
        BroadcastJobs(manager, fits=fits, slack=slack),
        StatefulSets(manager, slack=slack, start_ordinal=start_ordinal),
        SidecarSets(manager, slack=slack),
    ]


def standard(
    server: ApiServer, *, manager: Actor, fits: Fits | None = None, slack: float = 5.0, start_ordinal: bool = False
) -> Attached:
    """Let the standard checkers look on at *server*."""
    return Attached(server, standard_checkers(manager, fits=fits, slack=slack, start_ordinal=start_ordinal))
