"""Wiring of the BroadcastJob controller: what wakes it, what it reads, what it may write.

Purpose: the one place that names the accesses from which the role of this controller is generated.

What this does not do: it starts nothing; the manager does.
"""

from __future__ import annotations

from typing import Final

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.core import NODES, PODS
from kruise.controllers.broadcastjob.gauges import add_gauges
from kruise.controllers.broadcastjob.pod_events import PodMatters
from kruise.controllers.broadcastjob.reconciler import BroadcastJobReconciler
from kruise.runtime.controller import Access, Builder, Controller, RateLimiter
from kruise.runtime.manager.manager import Manager

__all__ = ["ACCESSES", "NAME", "setup"]

NAME: Final = "broadcastjob-controller"
"""In metrics, events, logs and the user agent; OpenKruise's name."""

ACCESSES: Final = (
    Access(BROADCASTJOBS, ("delete",)),  # when the time to live is over
    Access(BROADCASTJOBS, ("patch",), subresource="status"),
    Access(BROADCASTJOBS, ("update",), subresource="finalizers"),  # blockOwnerDeletion asks for it
    Access(PODS, ("create", "delete")),
)


def setup(
    manager: Manager,
    *,
    workers: int = 3,
    by_scheduler: bool = True,
    limiter: RateLimiter | None = None,
    gauges: str = "basic",
    resync: float | None = None,
) -> Controller:
    """Build the controller and add it to *manager*.

    *by_scheduler* is the flag ``--assign-bcj-pods-by-scheduler``; *gauges* is the
    flag ``--object-metrics``: basic, full or none; *resync* re-checks every job each so many seconds.
    """
    cache = manager.cache
    jobs = cache.watch(BROADCASTJOBS).store
    pods = cache.watch(PODS).store
    nodes = cache.watch(NODES).store
    reconciler = BroadcastJobReconciler(
        client=manager.client_for(NAME),
        recorder=manager.recorder(NAME),
        jobs=jobs,
        pods=pods,
        nodes=nodes,
        clock=manager.clock,
        by_scheduler=by_scheduler,
    )
    controller = (
        Builder(manager, NAME)
        .for_(BROADCASTJOBS)
        .owns(PODS, predicates=[PodMatters()])
        .watches(NODES, reconciler.jobs_of_node)
        .accesses(*ACCESSES)
        .build(reconciler, workers=workers, limiter=limiter, resync=resync)
    )
    if gauges != "none":
        add_gauges(manager.metrics, jobs, details=gauges == "full")
    manager.add(controller)
    return controller
