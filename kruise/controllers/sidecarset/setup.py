"""Wiring of the SidecarSet controller: what wakes it, what it reads, what it may write.

Purpose: the one place that names the accesses from which the role of this controller is generated.

Guarantees: least privilege (reliability 8.2). Pods are patched and nothing else; revisions are written in the namespace
of the manager only.

What this does not do: it starts nothing; the manager does. Admission has its own wiring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kruise.apis.core import NAMESPACES, PODS, REVISIONS
from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.sidecarset_policy import SidecarPolicy
from kruise.controllers.sidecarset.gauges import add_gauges
from kruise.controllers.sidecarset.observe import ORPHAN_REVISIONS, Stores
from kruise.controllers.sidecarset.reconciler import SidecarSetReconciler
from kruise.runtime.controller import Access, Builder, Controller, RateLimiter
from kruise.runtime.manager.manager import Manager

__all__ = ["ACCESSES", "NAME", "setup"]

NAME: Final = "sidecarset-controller"
"""In metrics, events, logs and the user agent; OpenKruise's name."""

_DEFAULT_POLICY: Final = SidecarPolicy()

ACCESSES: Final = (
    Access(SIDECARSETS, ("patch",), subresource="status"),
    Access(SIDECARSETS, ("update",), subresource="finalizers"),  # blockOwnerDeletion asks for it
    Access(PODS, ("patch",)),
    Access(PODS, ("patch",), subresource="status"),
    Access(REVISIONS, ("create", "patch", "delete"), namespaced_role=True),
)


def setup(
    manager: Manager,
    *,
    workers: int = 3,
    limiter: RateLimiter | None = None,
    gauges: str = "basic",
    resync: float | None = None,
    namespace: str = "kruise-system",
    concerns: Callable[[Mapping[str, Any]], tuple[str, ...]] = _DEFAULT_POLICY.concerns,
) -> Controller:
    """Build the controller and add it to *manager*.

    *gauges* is the flag ``--object-metrics``: basic, full or none; *resync* re-checks every set each so many seconds;
    *namespace* is that of the manager, where revisions are kept and where no pod gets sidecars; *concerns* says what a
    set is to be warned of. A manager with several controllers sets this one up first: where only some namespaces are
    watched, its revisions are in one more.
    """
    cache = manager.cache
    cache.include(REVISIONS, namespace)
    sets = cache.watch(SIDECARSETS).store
    stores = Stores(
        sets=sets,
        pods=cache.watch(PODS).store,
        namespaces=cache.watch(NAMESPACES).store,
        revisions=cache.watch(REVISIONS, indexes=[ORPHAN_REVISIONS]).store,
    )
    reconciler = SidecarSetReconciler(
        client=manager.client_for(NAME),
        recorder=manager.recorder(NAME),
        stores=stores,
        clock=manager.clock,
        metrics=manager.metrics,
        controller=NAME,
        namespace=namespace,
        scopes=cache.namespaces,
        concerns=concerns,
    )
    observer = reconciler.observer
    controller = (
        Builder(manager, NAME)
        .for_(SIDECARSETS)
        .watches(SIDECARSETS, observer.bases_of_set)
        .owns(REVISIONS)
        .watches(REVISIONS, observer.sets_of_revision)
        .watches(NAMESPACES, reconciler.sets_of_namespace)
        .watches(PODS, reconciler.sets_of_pod)
        .accesses(*ACCESSES)
        .build(reconciler, workers=workers, limiter=limiter, resync=resync)
    )
    if gauges != "none":
        add_gauges(manager.metrics, sets, details=gauges == "full")
    manager.add(controller)
    return controller
