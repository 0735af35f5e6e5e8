"""``python -m tests.perf.ideal``: what a rollout costs when nobody has to decide anything.

A client without any controller that makes the same writes for the same pods as Advanced StatefulSet must, as
concurrently as the budget allows: per pod a chain of conditional requests, and the next pod as soon as one is ready
again. Its time is the ideal to which the manager's is related, on the same nodes, in the same run. Pods and patches
have the containers, labels and annotations that a set's have, so that a request costs the API server and the nodes as
much; they have no owner, for there is none.

* create: POST claim (with ``--claims``), POST pod, the first gate True once the pod is bound.
* in-place: gate False and Ready False; image; gate True once the container runs the new image.
* recreate: DELETE with uid and version; POST when the pod is gone; gate True once it is bound.
* delete: DELETE of every pod.

It prints one JSON array with the seconds of each step, and those of its CPU, in the order of the command line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from kruise.apis.core import CLAIMS, PODS, Pod
from kruise.controllers.common.readiness import Edit
from kruise.runtime.cache.cache import Cache
from kruise.runtime.client.client import Client, PatchKind
from kruise.runtime.client.http import HttpTransport
from kruise.runtime.client.kubeconfig import load_config
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.window import WriteWindow
from kruise.runtime.clock import Clock, SystemClock, format_time, system_random
from kruise.runtime.errors import Conflict
from kruise.runtime.log import configure
from kruise.runtime.manager.process import loop_factory
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import ObjectMeta, PartialObject, Unreadable, version_at_least

GATE: Final = "InPlaceUpdateReady"
NAMESPACE: Final = "default"
APP: Final = "ideal"
STEPS: Final = ("create", "in-place", "recreate", "delete")
STAMP: Final = "lifecycle.apps.kruise.io/timestamp"
STATE: Final = "apps.kruise.io/inplace-update-state"

Body = dict[str, Any]
EMPTY: Final[Body] = {}
Seen = Pod | None
"""A pod, or nothing when there is none."""


def _is(pod: Pod, kind: str) -> bool:
    return any(c.type == kind and c.status == "True" for c in pod.status.conditions)


class Pods:
    """The pods as a watch shows them, and who waits for what of them."""

    def __init__(self) -> None:
        self.now: dict[str, Pod] = {}
        self._waiting: dict[str, tuple[Callable[[Seen], bool], asyncio.Future[Seen]]] = {}

    def changed(self, old: Pod | Unreadable | None, new: Pod | Unreadable | None) -> None:
        """Take one change of the store."""
        one = new if new is not None else old
        assert one is not None
        name = one.metadata.name
        if isinstance(new, Pod):
            self.now[name] = new
        else:
            self.now.pop(name, None)
        waits = self._waiting.get(name)
        if waits is not None and waits[0](self.now.get(name)):
            del self._waiting[name]
            waits[1].set_result(self.now.get(name))

    async def until(self, name: str, condition: Callable[[Seen], bool]) -> Seen:
        """Wait until *condition* holds for the pod *name*; return it."""
        if condition(self.now.get(name)):
            return self.now.get(name)
        future: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        self._waiting[name] = (condition, future)
        return await future

    async def pod(self, name: str, condition: Callable[[Pod], bool]) -> Pod:
        """Wait until the pod *name* is there and *condition* holds; return it."""
        found = await self.until(name, lambda p: p is not None and condition(p))
        assert found is not None
        return found


class Driver:
    """Makes the writes."""

    def __init__(self, client: Client, pods: Pods, args: argparse.Namespace, clock: Clock) -> None:
        self._client = client
        self.pods = pods
        self.args = args
        self.clock = clock
        self._version = 1
        self._names = [f"{APP}-{number}" for number in range(args.pods)]

    async def run(self, step: str) -> float:
        """Do one step with all pods; return its seconds."""
        began = self.clock.monotonic()
        if step == "create":
            await self._each(self._create, len(self._names))
        elif step == "delete":
            await self._each(self._delete, len(self._names))
        else:
            self._version += 1
            await self._each(self.updates()[step], self.args.budget)
        return self.clock.monotonic() - began

    def updates(self) -> Mapping[str, Callable[[str], Awaitable[None]]]:
        """Return how one pod gets the next image, by step."""
        return {"in-place": self._in_place, "recreate": self._recreate}

    async def _each(self, do: Callable[[str], Awaitable[None]], at_once: int) -> None:
        left = iter(reversed(self._names))

        async def some() -> None:
            for name in left:
                await do(name)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(at_once, len(self._names))):
                tasks.create_task(some())

    @property
    def image(self) -> str:
        """The image of this step."""
        return f"{self.args.image}:v{self._version}"

    def body(self, name: str) -> Body:
        """Return the pod *name* as it is created."""
        side = {"name": "side", "image": "registry.k8s.io/pause:3.10"}
        spec: Body = {
            "containers": [{"name": "main", "image": self.image}, side],
            "terminationGracePeriodSeconds": 1,
            "hostname": name,
            "subdomain": APP,
        }
        if self.args.gated:
            spec["readinessGates"] = [{"conditionType": GATE}]
        if self.args.claims:
            spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": f"data-{name}"}}]
        labels = {
            "app": APP,
            "apps.kubernetes.io/pod-index": name.rsplit("-", 1)[1],
            "controller-revision-hash": self.revision,
            "lifecycle.apps.kruise.io/state": "Normal",
            "statefulset.kubernetes.io/pod-name": name,
        }
        meta = {"name": name, "namespace": NAMESPACE, "labels": labels, "annotations": {STAMP: self.stamp()}}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}

    @property
    def revision(self) -> str:
        """The name of the revision of this step."""
        return f"{APP}-{self._version:010d}"

    def stamp(self) -> str:
        """Return the time as annotations have it."""
        return format_time(self.clock.now())

    def _update(self, pod: Pod) -> Body:
        """Return the patch that gives *pod* the image of this step."""
        state = {
            "revision": self.revision,
            "updateTimestamp": self.stamp(),
            "lastContainerStatuses": {s.name: {"imageID": s.image_id} for s in pod.status.container_statuses[:1]},
            "updateImages": True,
            "containerBatchesRecord": [{"timestamp": self.stamp(), "containers": ["main"]}],
        }
        annotations = {STATE: json.dumps(state, separators=(",", ":")), STAMP: self.stamp()}
        labels = {"controller-revision-hash": self.revision, "lifecycle.apps.kruise.io/state": "Updating"}
        spec = {"containers": [{"name": "main", "image": self.image}]}
        return {"metadata": {"annotations": annotations, "labels": labels}, "spec": spec}

    def _done(self) -> Body:
        """Return the metadata that goes with the last write of an update."""
        return {"labels": {"lifecycle.apps.kruise.io/state": "Normal"}, "annotations": {STAMP: self.stamp()}}

    async def _create(self, name: str) -> None:
        if self.args.claims:
            spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            if self.args.storage_class:
                spec["storageClassName"] = self.args.storage_class
            meta = {"name": f"data-{name}", "namespace": NAMESPACE, "labels": {"app": APP}}
            claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
            await self._client.create(CLAIMS, claim)
        await self._make(name)

    async def _make(self, name: str) -> None:
        made = await self._client.create(PODS, self.body(name))
        if self.args.gated:
            pod = await self.pods.pod(name, lambda p: p.uid == made.uid and bool(p.spec.node_name))
            await self._gate(pod, True)
        await self.pods.pod(name, lambda p: p.uid == made.uid and _is(p, "Ready"))

    async def _gate(self, pod: Pod, on: bool, meta: Body = EMPTY) -> ObjectMeta:
        """Set the gate, and write *meta* with it.

        When the kubelet was faster, look at what it wrote and do it again, as a controller does.
        """
        while True:
            edit = Edit(pod, self.clock.now())
            if on:
                edit.in_place_ready()
            else:
                edit.in_place_not_ready()
            try:
                patch = {"metadata": dict(meta), "status": {"conditions": edit.body()}}
                return await self.patch(pod, patch, "status")
            except Conflict:
                pod = await self.newer(pod.metadata)

    async def newer(self, seen: ObjectMeta) -> Pod:
        """Wait for a version of the pod after *seen*, which may be the answer to a write that the watch still lacks."""
        version = seen.resource_version
        return await self.pods.pod(seen.name, lambda p: not version_at_least(version, p.resource_version))

    async def patch(self, pod: Pod | PartialObject, patch: Body, subresource: str = "") -> ObjectMeta:
        """Write on the version of *pod*; return the metadata of the answer. Raises Conflict."""
        done = await self._client.patch(PODS, pod, patch, kind=PatchKind.STRATEGIC, subresource=subresource)
        assert done is not None
        return done

    async def _in_place(self, name: str) -> None:
        pod, image = self.pods.now[name], self.image
        answer = await self._gate(pod, False) if self.args.gated else pod.metadata
        patch = self._update(pod)
        try:
            await self.patch(PartialObject(metadata=answer), patch)
        except Conflict:
            # Between the two writes the kubelet wrote.
            await self.patch(await self.newer(answer), patch)

        def restarted(p: Pod) -> bool:
            return any(s.image == image for s in p.status.container_statuses)

        # Its readiness is for the kubelet: waiting for it here would cost a write of the kubelet's more.
        pod = await self.pods.pod(name, restarted)
        if self.args.gated:
            await self._gate(pod, True, self._done())
        else:
            await self.patch(pod, {"metadata": self._done()})
        await self.pods.pod(name, lambda p: restarted(p) and _is(p, "Ready"))

    async def _delete(self, name: str) -> None:
        pod = self.pods.now[name]
        while True:
            try:
                await self._client.delete(PODS, pod, disrupts=True)
                break
            except Conflict:
                pod = await self.newer(pod.metadata)
        await self.pods.until(name, lambda p: p is None)

    async def _recreate(self, name: str) -> None:
        await self._delete(name)
        await self._make(name)


async def main(args: argparse.Namespace, make: Callable[..., Driver] = Driver) -> None:
    """Run the steps with the driver that *make* makes."""
    clock, rng, metrics = SystemClock(), system_random(), Metrics(process=False)
    config = await load_config(clock, kubeconfig=args.kubeconfig, context=None)
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(HttpTransport(config, clock=clock, metrics=metrics))
        window = WriteWindow(clock)
        rest = Rest(transport, clock=clock, rng=rng, metrics=metrics, user_agent="ideal", window=window)
        cache = Cache(rest, clock=clock, rng=rng, metrics=metrics, namespaces=(NAMESPACE,))
        informer = cache.watch(PODS, label_selector=f"app={APP}")
        pods = Pods()
        informer.store.on_change(pods.changed)
        client = Client(rest, metrics=metrics, clock=clock)
        driver = make(client, pods, args, clock)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(cache.run())
            await cache.wait_synced()
            took = [await _measured(driver, step) for step in args.steps]
            running.cancel()
    print(json.dumps(took))


async def _measured(driver: Driver, step: str) -> Body:
    before = time.process_time()
    seconds = await driver.run(step)
    return {"step": step, "seconds": round(seconds, 3), "cpu": round(time.process_time() - before, 3)}


def parse(
    argv: list[str], *, prog: str = "python -m tests.perf.ideal", steps: Sequence[str] = STEPS
) -> argparse.Namespace:
    """Read the command line."""
    made = argparse.ArgumentParser(prog=prog)
    made.add_argument("steps", nargs="+", choices=steps)
    made.add_argument("--kubeconfig", required=True)
    made.add_argument("--pods", type=int, default=10)
    made.add_argument("--budget", type=int, default=10, help="how many pods may be unavailable")
    made.add_argument("--image", default="registry.example.com/app")
    made.add_argument("--claims", action="store_true", help="one claim for each pod")
    made.add_argument("--storage-class", default="")
    made.add_argument("--gated", action=argparse.BooleanOptionalAction, default=True)
    return made.parse_args(argv)


def run(args: argparse.Namespace, make: Callable[..., Driver] = Driver) -> None:
    """Run the steps on the loop that the manager takes."""
    configure(level="error")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(args, make))


if __name__ == "__main__":
    run(parse(sys.argv[1:]))
