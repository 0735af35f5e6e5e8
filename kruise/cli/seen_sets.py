"""What injection looks at, read live: every SidecarSet, the labels of namespaces, the kept revisions, whole pods.

Purpose: one reading for ``kruise status scs/NAME`` and ``kruise inject-check``, in the shape that the webhook has.

Guarantees: a set or revision that cannot be decoded is listed as one that nothing is injected from, and stops no other
one. Revisions that the reader may not see are missing, and :attr:`World.hidden` says so.

What this does not do: it caches nothing, and it decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from kruise.apis.core import NAMESPACES, REVISIONS, ControllerRevision
from kruise.apis.sidecarset import REVISION_SET_LABEL, SIDECARSETS, SidecarSet
from kruise.cli.cluster import Cluster
from kruise.runtime.errors import Forbidden, NotFound, RuntimeFault
from kruise.runtime.objects import Key, Object, PartialObject, Resource, Unreadable
from kruise.webhooks.inject_snapshot import InjectionIndex, Snapshot

__all__ = ["CONFIGURATION", "WHOLE_PODS", "WholePod", "World", "read_namespaces", "read_revisions", "read_world"]

CONFIGURATION: Final = "kruise-mutating-webhook-configuration"
"""The one that calls a manager for pods. (Its name stands in ``webhooks/certificates``, which takes long to import.)"""
_CONFIGURATIONS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    PartialObject,
    namespaced=False,
)
_NULL: Final = msgspec.Raw(b"null")


class WholePod(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A pod with everything that it says."""

    spec: msgspec.Raw = _NULL
    status: msgspec.Raw = _NULL

    def as_json(self, *, status: bool = True) -> dict[str, Any]:
        """Return the pod as plain JSON, without the fields of metadata that nobody here reads."""
        metadata = msgspec.to_builtins(self.metadata)
        found: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {key: value for key, value in metadata.items() if value not in ("", None, {}, [], 0)},
            "spec": orjson.loads(bytes(self.spec)),
        }
        if status:
            found["status"] = orjson.loads(bytes(self.status)) or {}
        return found


WHOLE_PODS: Final = Resource("", "v1", "Pod", "pods", WholePod)


@dataclass(frozen=True, slots=True)
class World:
    """What a pod on its way in meets."""

    sets: Mapping[str, SidecarSet]
    unreadable: Mapping[str, str]
    """By set, why it cannot be decoded."""
    namespaces: Mapping[str, Mapping[str, str]]
    revisions: tuple[ControllerRevision, ...]
    own_namespace: str
    hidden: str = ""
    """Why the revisions could not be read."""
    uncalled: str = ""
    """Why nothing calls a manager for pods in this cluster, where that can be told."""

    def snapshot(self) -> Snapshot:
        """Return it as the webhook has it."""
        index = InjectionIndex(self.own_namespace)
        for name, labels in self.namespaces.items():
            index.set_namespace(name, labels)
        for revision in self.revisions:
            index.set_revision(revision.metadata.name, revision)
        for name, one in self.sets.items():
            index.set_sidecarset(name, one)
        for name, problem in self.unreadable.items():
            index.set_unreadable(name, problem)
        return index.snapshot


async def read_world(cluster: Cluster) -> World:
    """Read everything. Raises RuntimeFault where the cluster serves no SidecarSets."""
    try:
        listed = await cluster.client.live.list(SIDECARSETS)
    except NotFound as error:
        raise RuntimeFault(f"the cluster does not serve {SIDECARSETS}; install its CRD (make install)") from error
    revisions, hidden = await read_revisions(cluster)
    return World(
        sets={one.metadata.name: one for one in listed if isinstance(one, SidecarSet)},
        unreadable={one.metadata.name: _problem(one) for one in listed if isinstance(one, Unreadable)},
        namespaces=await read_namespaces(cluster),
        revisions=revisions,
        own_namespace=cluster.manager_namespace,
        hidden=hidden,
        uncalled=await _uncalled(cluster),
    )


async def _uncalled(cluster: Cluster) -> str:
    try:
        await cluster.client.live.get(_CONFIGURATIONS, Key("", CONFIGURATION))
    except NotFound:
        return f"there is no MutatingWebhookConfiguration {CONFIGURATION}, so nothing is injected into any pod"
    except Forbidden:
        return ""
    return ""


def _problem(one: Unreadable) -> str:
    return f"{one.path}: {one.problem}" if one.path else one.problem


async def read_namespaces(cluster: Cluster) -> dict[str, Mapping[str, str]]:
    """Return the labels of every namespace by name."""
    found = await cluster.client.live.list(NAMESPACES)
    return {one.metadata.name: one.metadata.labels for one in found}


async def read_revisions(cluster: Cluster, name: str = "") -> tuple[tuple[ControllerRevision, ...], str]:
    """Return the revisions of the set *name*, or of all sets, and why they cannot be read, where they cannot."""
    selector = f"{REVISION_SET_LABEL}={name}" if name else REVISION_SET_LABEL
    where = cluster.manager_namespace
    try:
        found = await cluster.client.live.list(REVISIONS, namespace=where, label_selector=selector)
    except Forbidden as error:
        return (), f"the revisions in the namespace {where} cannot be read: {error}"
    return tuple(one for one in found if isinstance(one, ControllerRevision)), ""
