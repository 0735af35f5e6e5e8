"""An informer without a manager: print what happens to the pods of a namespace, or of all of them.

    python examples/02_watch_pods.py kube-system

The store stays true through expired watches and restarts of the API server; the handler is told of every change.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import msgspec

import kruise.runtime as k


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Of a pod's status, what is read here."""

    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")


class Pod(k.Object, frozen=True):
    """Of a pod, what is read here."""

    status: PodStatus = PodStatus()


PODS = k.Resource("", "v1", "Pod", "pods", Pod)


def tell(change: k.Change[Any]) -> None:
    """Print one change. A handler is synchronous, and quick."""
    verb = "gone" if change.new is None else "seen" if change.initial else "new" if change.old is None else "changed"
    pod = change.new or change.old
    status = pod.status if isinstance(pod, Pod) else PodStatus(phase="unreadable")
    print(f"{verb:8} {change.key!s:50} {status.phase:10} {status.pod_ip}", flush=True)


async def main(namespace: str = "") -> None:
    """Watch until Ctrl-C."""
    clock, rng, metrics = k.SystemClock(), k.system_random(), k.Metrics()
    config = await k.load_config(clock, kubeconfig=None, context=None)
    async with k.HttpTransport(config, clock=clock) as transport, asyncio.TaskGroup() as tasks:
        rest = k.Rest(transport, clock=clock, rng=rng, metrics=metrics, user_agent="watch-pods/1")
        informer = k.Informer(PODS, k.Host(rest, clock=clock, rng=rng), metrics=metrics, scopes=[k.Scope(namespace)])
        told = informer.add_handler(tell)
        tasks.create_task(informer.run())
        await told.synced()
        print(f"{len(informer.store)} pods; waiting for changes", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:2]))
