"""The controllers of namespaces: one empties what is being deleted, one gives each a ServiceAccount.

Purpose: on a real control plane Kubernetes' own run; the embedded server needs these.

Guarantees:

* TST1: a namespace that is being deleted is emptied and goes; while finalizers hold something in it, its conditions say
  which and how many. A namespace has a ServiceAccount ``default`` as soon as its actor has seen it.

What this does not do: no tokens and no certificates are put into a namespace.
"""

from __future__ import annotations

from typing import Any, Final

from kruise.runtime.clock import format_time
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.builtin_actor import Actor

Body = dict[str, Any]

_AUTHORITY: Final = "kube-root-ca.crt"
_CALM: Final = (
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
)


class NamespaceController(Actor):
    """Empties namespaces that are being deleted, and lets them go."""

    name = "namespace-controller"

    def interested(self, commit: Commit) -> bool:
        if commit.resource == "namespaces":
            return bool(commit.new.obj["metadata"].get("deletionTimestamp"))
        if commit.type != "DELETED":
            return False
        namespace = self.server.get("namespaces", commit.key.namespace)
        return namespace is not None and bool(namespace["metadata"].get("deletionTimestamp"))

    def step(self) -> None:
        for namespace in self.server.list("namespaces"):
            if namespace["metadata"].get("deletionTimestamp"):
                self._empty(namespace["metadata"]["name"])

    def _empty(self, namespace: str) -> None:
        left: dict[str, int] = {}
        holders: dict[str, int] = {}
        for resource in self.server.storage.resources():
            info = self.server.registry.named(resource)
            if info is None or not info.namespaced:
                continue
            for obj in self.server.list(resource, namespace):
                name = obj["metadata"]["name"]
                if not obj["metadata"].get("deletionTimestamp"):
                    self.attempt(lambda r=resource, n=name: self.server.delete(r, n, namespace, actor=self.name))  # type: ignore[misc]
                kept = self.server.get(resource, name, namespace)
                if kept is not None:
                    left[resource] = left.get(resource, 0) + 1
                    for finalizer in kept["metadata"].get("finalizers") or ():
                        holders[finalizer] = holders.get(finalizer, 0) + 1
        if left:
            self._tell(namespace, left, holders)
            return

        def finalize(body: Body) -> None:
            body["spec"] = {"finalizers": [f for f in body["spec"]["finalizers"] if f != "kubernetes"]}

        self.attempt(
            lambda: self.server.edit("namespaces", namespace, finalize, subresource="finalize", actor=self.name)
        )

    def _tell(self, namespace: str, left: dict[str, int], holders: dict[str, int]) -> None:
        wanted = [(kind, "False", reason, text) for kind, reason, text in _CALM]
        remaining = ", ".join(f"{_shown(r)} has {n} resource instances" for r, n in sorted(left.items()))
        wanted.append(
            ("NamespaceContentRemaining", "True", "SomeResourcesRemain", f"Some resources are remaining: {remaining}")
        )
        if holders:
            held = ", ".join(f"{f} in {n} resource instances" for f, n in sorted(holders.items()))
            text = f"Some content in the namespace has finalizers remaining: {held}"
            wanted.append(("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", text))
        else:
            text = "All content-preserving finalizers finished"
            wanted.append(("NamespaceFinalizersRemaining", "False", "ContentHasNoFinalizers", text))
        found = self.server.get("namespaces", namespace)
        had = {c["type"]: c for c in ((found or {}).get("status") or {}).get("conditions") or ()}
        now = format_time(self.server.clock.now())
        conditions = []
        for kind, status, reason, message in wanted:
            old = had.get(kind)
            since = old["lastTransitionTime"] if old is not None and old["status"] == status else now
            conditions.append(
                {
                    "type": kind,
                    "status": status,
                    "lastTransitionTime": since,
                    "reason": reason,
                    "message": message,
                }
            )
        patch = {"status": {"conditions": conditions}}
        self.attempt(lambda: self.server.patch("namespaces", namespace, patch, subresource="status", actor=self.name))


def _shown(resource: str) -> str:
    """Return the name of a resource as the conditions have it: the core group leaves its dot."""
    return resource if "." in resource else f"{resource}."


class ServiceAccounts(Actor):
    """Gives each namespace its ServiceAccount ``default`` and the authority's certificate."""

    name = "service-account-controller"

    def __init__(self, server: ApiServer, *, delay: float = 0.0, authority: str = "") -> None:
        """*authority* is the certificate, in PEM, by which clients inside the cluster would know the server."""
        super().__init__(server, delay=delay)
        self._authority = authority

    def interested(self, commit: Commit) -> bool:
        if commit.resource == "namespaces":
            return commit.type == "ADDED"
        return commit.resource in ("serviceaccounts", "configmaps") and commit.type == "DELETED"

    def step(self) -> None:
        for namespace in self.server.list("namespaces"):
            meta = namespace["metadata"]
            if meta.get("deletionTimestamp"):
                continue
            for resource, name, content in (
                ("configmaps", _AUTHORITY, {"data": {"ca.crt": self._authority}}),
                ("serviceaccounts", "default", {}),
            ):
                if self.server.get(resource, name, meta["name"]) is None:
                    body = {"metadata": {"name": name, "namespace": meta["name"]}, **content}
                    self.attempt(lambda r=resource, b=body: self.server.create(r, b, actor=self.name))  # type: ignore[misc]
