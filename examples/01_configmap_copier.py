"""A controller of your own: copy a ConfigMap into every namespace that asks for it by a label.

    kubectl create configmap settings --from-literal=colour=green
    kubectl label namespace team-a example.org/wants-config=settings

copies ``default/settings`` to ``team-a/settings`` and keeps it equal. Without the label, or without its source, a copy
goes. A ConfigMap that is no copy is never touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

import kruise.runtime as k

HOME = "default"
"""The namespace of the originals."""
WANTS = "example.org/wants-config"
COPY = "example.org/copied-from-default"


class ConfigMap(k.Object, frozen=True):
    """Of a ConfigMap, what is read here; the rest is never decoded."""

    data: dict[str, str] = msgspec.field(default_factory=dict)
    binary_data: dict[str, str] = msgspec.field(default_factory=dict)


CONFIGMAPS = k.Resource("", "v1", "ConfigMap", "configmaps", ConfigMap)
NAMESPACES = k.Resource("", "v1", "Namespace", "namespaces", k.PartialObject, namespaced=False)  # metadata is enough


class Copier:
    """Reconciles namespaces: the key is that of a namespace."""

    def __init__(self, client: k.Client) -> None:
        self.client = client

    def namespaces_of(self, change: k.Change[Any]) -> Iterable[k.Key]:
        """Which namespaces a changed ConfigMap concerns: its own, and for an original those that ask for it."""
        if change.key.namespace != HOME:
            return [k.Key("", change.key.namespace)]
        return [n.key for n in self.client.list(NAMESPACES, index=("label", f"{WANTS}={change.key.name}"))]

    async def __call__(self, key: k.Key) -> k.Result:
        """Make the copies of one namespace what they should be."""
        namespace = self.client.get(NAMESPACES, key)
        if namespace is None or namespace.terminating or key.name == HOME:
            return k.Done()
        wanted = namespace.metadata.labels.get(WANTS, "")
        original = self.client.get(CONFIGMAPS, k.Key(HOME, wanted))
        for copy in self.client.list(CONFIGMAPS, namespace=key.name):
            if COPY in copy.metadata.labels and (original is None or copy.key.name != wanted):
                await self.client.delete(CONFIGMAPS, copy, disrupts=True)  # this one, and only as it was seen
        if original is None:
            return k.Done()
        there = self.client.get(CONFIGMAPS, k.Key(key.name, wanted))
        content = {"data": original.data, "binaryData": original.binary_data}
        if there is None:
            meta = {"name": wanted, "namespace": key.name, "labels": {COPY: "true"}}
            await self.client.create(CONFIGMAPS, {"metadata": meta, **content})
        elif COPY not in there.metadata.labels:
            raise k.TerminalError(f"configmap {there.key} is no copy of ours: rename it, or take the label away")
        else:  # only the difference, only if nobody was faster, and nothing at all when they are equal
            have = {"data": there.data, "binaryData": there.binary_data}
            await self.client.patch(CONFIGMAPS, there, k.merge_diff(have, content))
        return k.Done()


def build(transport: k.Transport, clock: k.Clock, rng: k.Random) -> k.Manager:
    """Return a manager with this one controller. Probes and metrics are off: two examples shall not want one port."""
    options = k.ManagerOptions(
        leader_election_namespace=HOME,
        leader_election_id="configmap-copier",
        user_agent="configmap-copier/1",
        field_manager="configmap-copier",
        health_address="0",
        metrics=k.MetricsOptions("0"),
    )
    manager = k.Manager(transport, options, clock=clock, rng=rng)
    copier = Copier(manager.client_for("configmap-copier"))
    builder = k.Builder(manager, "configmap-copier").for_(NAMESPACES, labels=[WANTS])
    builder.watches(CONFIGMAPS, copier.namespaces_of).accesses(k.Access(CONFIGMAPS, ("create", "patch", "delete")))
    manager.add(builder.build(copier))
    return manager


async def main() -> None:
    """Run against the cluster of the current kubeconfig, or the one that this runs in, until SIGTERM or Ctrl-C."""
    clock, rng = k.SystemClock(), k.system_random()
    config = await k.load_config(clock, kubeconfig=None, context=None)
    async with k.HttpTransport(config, clock=clock) as transport:
        manager = build(transport, clock, rng)
        manager.install_signal_handlers()
        await manager.run()


if __name__ == "__main__":
    asyncio.run(main())
