"""Small versions of what a cluster does around the controllers: scheduling, garbage collection, namespaces, nodes.

Purpose: on a real control plane Kubernetes' own run; the embedded server needs these. Each is woken by commits, or by
the moment for which it waits. A test takes the ones that it needs; :func:`everything` is the whole cluster.

Guarantees:

* TST1: see the rooms: ``builtin_scheduler``, ``builtin_gc``, ``builtin_namespaces``, ``builtin_nodes``,
  ``builtin_budgets``.

What this does not do: the kubelet is in ``kubelet.py``; workload controllers of Kubernetes itself (Deployment,
StatefulSet, Job) do not exist here, so these kinds are stored and nothing more.
"""

from __future__ import annotations

from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.builtin_actor import Actor
from kruise.simulator.builtin_budgets import ClaimProtection, DisruptionController, QuotaController
from kruise.simulator.builtin_gc import GarbageCollector
from kruise.simulator.builtin_namespaces import NamespaceController, ServiceAccounts
from kruise.simulator.builtin_nodes import NodeLifecycle, PodGarbage, TaintEviction
from kruise.simulator.builtin_scheduler import Scheduler, affinity_names, fits, tolerates

__all__ = [
    "Actor",
    "ClaimProtection",
    "DisruptionController",
    "GarbageCollector",
    "NamespaceController",
    "NodeLifecycle",
    "PodGarbage",
    "QuotaController",
    "Scheduler",
    "ServiceAccounts",
    "TaintEviction",
    "affinity_names",
    "everything",
    "fits",
    "tolerates",
]


def everything(server: ApiServer, *, node_grace: float = 50.0) -> list[Actor]:
    """Return all actors of a cluster; run each in a TaskGroup."""
    return [
        Scheduler(server, events=True, volumes=True, spread=True),
        GarbageCollector(server),
        NamespaceController(server),
        ServiceAccounts(server),
        NodeLifecycle(server, grace=node_grace),
        TaintEviction(server),
        PodGarbage(server),
        DisruptionController(server),
        QuotaController(server),
        ClaimProtection(server),
    ]
