"""Wiring of the StatefulSet controller: what wakes it, what it reads, what it may write.

Purpose: the one place that names the accesses from which the role of this controller is generated, and that turns the
feature gates of the process into the settings of the planner.

Guarantees: least privilege (reliability 8.2). Storage classes are read, and ``pods/resize`` is patched, only where a
gate asks for it; no claim is ever deleted here.

What this does not do: it starts nothing; the manager does.
"""

from __future__ import annotations

from typing import Final

from kruise.apis.core import CLAIMS, PODS, REVISIONS, STORAGE_CLASSES
from kruise.apis.statefulset import STATEFULSETS
from kruise.controllers.common.inplace.gates import Gates as InPlaceGates
from kruise.controllers.statefulset.gauges import add_gauges
from kruise.controllers.statefulset.observe import CLAIMS_BY_FAMILY, ORPHAN_REVISIONS, ORPHANS, Stores
from kruise.controllers.statefulset.pods import PodGates
from kruise.controllers.statefulset.reconciler import StatefulSetReconciler
from kruise.controllers.statefulset.settings import Settings
from kruise.features import Gates
from kruise.runtime.controller import Access, Builder, Controller, RateLimiter
from kruise.runtime.manager.manager import Manager

__all__ = ["ACCESSES", "NAME", "RESIZE_ACCESS", "settings_of", "setup"]

NAME: Final = "statefulset-controller"
"""In metrics, events, logs and the user agent; OpenKruise's name."""

BATCH_PERIOD: Final = 0.01
"""Seconds after a pass in which the events of a set are gathered: kubelets answer a rollout together, and a pass costs
more than what it reads. It is little beside the half second of a status, and the seconds that a container starts in."""

ACCESSES: Final = (
    Access(STATEFULSETS, ("patch",), subresource="status"),
    Access(STATEFULSETS, ("update",), subresource="finalizers"),  # blockOwnerDeletion asks for it
    Access(PODS, ("create", "patch", "delete")),
    Access(PODS, ("patch",), subresource="status"),
    Access(CLAIMS, ("create", "patch")),
    Access(REVISIONS, ("create", "patch", "delete")),
)
RESIZE_ACCESS: Final = Access(PODS, ("patch",), subresource="resize")
"""Only with the gate InPlaceWorkloadVerticalScaling."""


def settings_of(gates: Gates) -> Settings:
    """Return what the planner has to know of the feature gates. The version of the server is asked for later."""
    on = gates.enabled
    only_with_hooks = on("LifecycleLabelOnlyWithHooks")
    return Settings(
        inplace=InPlaceGates(
            env_from_metadata=on("InPlaceUpdateEnvFromMetadata"),
            vertical_scaling=on("InPlaceWorkloadVerticalScaling"),
            merged_status_patch=on("MergedPodStatusPatch"),
            label_only_with_hooks=only_with_hooks,
        ),
        pods=PodGates(
            index_label=on("PodIndexLabel"),
            ready_gate=on("KruisePodReadinessGate"),
            lifecycle_with_hooks_only=only_with_hooks,
        ),
        auto_delete_claims=on("StatefulSetAutoDeletePVC"),
        auto_resize_claims=on("StatefulSetAutoResizePVCGate"),
        start_ordinal=on("StatefulSetStartOrdinal"),
        preparing_as_updated=on("PreparingUpdateAsUpdate"),
    )


def setup(
    manager: Manager,
    *,
    workers: int = 3,
    gates: Gates | None = None,
    limiter: RateLimiter | None = None,
    gauges: str = "basic",
    resync: float | None = None,
) -> Controller:
    """Build the controller and add it to *manager*.

    *gates* are the feature gates of the process, by default each gate's own; *gauges* is the flag
    ``--object-metrics``: basic, full or none; *resync* re-checks every set each so many seconds.
    """
    settings = settings_of(gates if gates is not None else Gates())
    cache = manager.cache
    sets = cache.watch(STATEFULSETS).store
    stores = Stores(
        sets=sets,
        pods=cache.watch(PODS, indexes=[ORPHANS]).store,
        claims=cache.watch(CLAIMS, indexes=[CLAIMS_BY_FAMILY]).store,
        revisions=cache.watch(REVISIONS, indexes=[ORPHAN_REVISIONS]).store,
        classes=cache.watch(STORAGE_CLASSES).store if settings.auto_resize_claims else None,
    )
    reconciler = StatefulSetReconciler(
        client=manager.client_for(NAME),
        recorder=manager.recorder(NAME),
        stores=stores,
        clock=manager.clock,
        metrics=manager.metrics,
        controller=NAME,
        settings=settings,
    )
    observer = reconciler.observer
    builder = (
        Builder(manager, NAME)
        .for_(STATEFULSETS)
        .owns(PODS)
        .owns(REVISIONS)
        .watches(PODS, observer.sets_of_pod)
        .watches(CLAIMS, observer.sets_of_claim)
        .accesses(*ACCESSES)
    )
    if settings.auto_resize_claims:
        builder.watches(STORAGE_CLASSES, observer.sets_of_class)
    if settings.inplace.vertical_scaling:
        builder.accesses(RESIZE_ACCESS)
    controller = builder.build(reconciler, workers=workers, limiter=limiter, resync=resync, batch_period=BATCH_PERIOD)
    if gauges != "none":
        add_gauges(manager.metrics, sets, details=gauges == "full")
    manager.add(controller)
    return controller
