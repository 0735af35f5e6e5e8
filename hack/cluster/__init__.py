"""The real control plane on this machine: built from Go modules, run without containers, stopped exactly.

``python -m hack.cluster up`` is what ``make cluster`` calls; tests use :class:`Cluster`.
"""

from __future__ import annotations

from hack.cluster.audit import AuditLog, Entry
from hack.cluster.cluster import ROOT, Cluster
from hack.cluster.components import API_SERVER, CONTROLLER_MANAGER, ETCD, NODES, ORDER, SCHEDULER, Options
from hack.cluster.errors import ClusterError

__all__ = [
    "API_SERVER",
    "CONTROLLER_MANAGER",
    "ETCD",
    "NODES",
    "ORDER",
    "ROOT",
    "SCHEDULER",
    "AuditLog",
    "Cluster",
    "ClusterError",
    "Entry",
    "Options",
]
