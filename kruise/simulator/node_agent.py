"""Runs the pods of all simulated nodes: one watch, the pure kubelet, and the writes that follow from it.

Purpose: the thin shell around ``kubelet``: it brings pods in, asks the machine when something is due, and sends what
the machine says. It speaks to any API server through the runtime's client.

Guarantees:

* One watch of pods and one of nodes, whatever the number of nodes.
* A pod's writes are in order, and a later instant is never worked on before an earlier one stands in the API. Pods do
  not wait for each other, up to :data:`WORKERS` at once.
* Every status write carries uid and resourceVersion of the pod that it was computed from. A conflict reads the pod anew
  and computes again; a pod of the same name and another uid is never written to and never deleted.
* A write with an unknown outcome is followed by a read.
* Own writes are taken from their answers: the echo of the watch costs nothing.

What this does not do: no containers, no volumes, no network.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from kruise.runtime.cache.cache import Cache
from kruise.runtime.cache.store import Change
from kruise.runtime.client.codec import Codec
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ApiError, Conflict, Invalid, NotFound, TransportError, UnknownOutcome
from kruise.runtime.log import get_logger
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, version_at_least
from kruise.simulator import kubelet, kubelet_admission, node_objects
from kruise.simulator.behaviour import Behaviour, Rule, resolve
from kruise.simulator.kubelet_patch import status_patch
from kruise.simulator.kubelet_resize import wanted
from kruise.simulator.kubelet_types import SIM_NODES, SIM_PODS, Place, PodState, Room, SimNode, SimPod, Step
from kruise.simulator.node_keeper import STRATEGIC, NodeKeeper, NodeRecord
from kruise.simulator.node_objects import NodeShape

log = get_logger("kubelet")

WORKERS: Final = 64
"""Pods that are worked on at once."""
RETRY: Final = 1.0
"""Seconds until the next try after a write that failed."""

Command = Callable[[PodState, float], PodState]


@dataclass(slots=True)
class PodRecord:
    """One pod that is bound to a node of ours."""

    pod: SimPod
    state: PodState | None = None
    behaviour: Behaviour | None = None
    """None: to be resolved anew."""
    commands: list[Command] = field(default_factory=list)
    asked: dict[str, int] | None = None
    """What it asks of its node; None: to be counted anew."""
    deleted: bool = False
    """The last delete was sent; a finalizer may keep the object."""
    due: float = math.inf
    """Monotonic."""


def _asked(record: PodRecord) -> dict[str, int]:
    if record.asked is None:
        record.asked = kubelet_admission.requests(record.pod.spec)
    return record.asked


@dataclass(slots=True)
class Counts:
    """What was done since the start."""

    steps: int = 0
    status_writes: int = 0
    deletes: int = 0
    conflicts: int = 0
    errors: int = 0


class NodeAgent:
    """All nodes of one process, and their pods."""

    def __init__(
        self,
        rest: Rest,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        shape: NodeShape | None = None,
        lease_seconds: int = 40,
        reaction: float = 0.0,
    ) -> None:
        self._rest = rest.named("kubelets", windowed=False)
        self._clock = clock
        self._reaction = reaction
        """Seconds from the news of a change to the kubelet's answer; a real one is never at once."""
        self.cache = Cache(rest.named("nodes"), clock=clock, rng=rng, metrics=metrics)
        self.keeper = NodeKeeper(rest, clock=clock, shape=shape or NodeShape(), lease_seconds=lease_seconds)
        self.counts = Counts()
        self.rules: tuple[Rule, ...] = ()
        self.pods: dict[Key, PodRecord] = {}
        self._codec = Codec(SIM_PODS, metrics=metrics)
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: list[tuple[float, int, Key]] = []
        self._sequence = 0
        self._poke = asyncio.Event()
        self._next_pod = 0
        self.cache.watch(SIM_NODES, label_selector=f"{node_objects.SIMULATED}=true").add_handler(self._node_changed)
        self.cache.watch(SIM_PODS, field_selector="spec.nodeName!=").add_handler(self._pod_changed)

    async def run(self) -> None:
        """Play the nodes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.cache.run(), name="cache")
            tasks.create_task(self.keeper.run(self._came_back), name="leases")
            tasks.create_task(self._alarm(), name="alarm")
            for number in range(WORKERS):
                tasks.create_task(self._worker(), name=f"worker {number}")

    # What the watches say.

    def _node_changed(self, change: Change[SimNode]) -> None:
        name, new = change.key.name, change.new
        if new is not None and not isinstance(new, SimNode):
            log.warning("node cannot be read", node=name)
            return
        before = self.keeper.nodes[name].node if name in self.keeper.nodes else None
        record = self.keeper.saw(name, new)
        if record is None:
            log.info("node is gone", node=name)
            return
        if before is None or new is None or before.metadata.annotations != new.metadata.annotations:
            if before is None:
                # Pods may be bound before the node is seen: the two watches have no order.
                record.pods.update((key, None) for key, pod in self.pods.items() if pod.pod.node == name)
            self._reconsider(record)
        elif before.status.get("allocatable") != new.status.get("allocatable"):
            self._reconsider(record)

    def _pod_changed(self, change: Change[SimPod]) -> None:
        key, new = change.key, change.new
        if new is None:
            gone = self.pods.get(key)
            if gone is None or (change.old is not None and change.old.uid != gone.pod.uid):
                return  # its successor is known already, from a read
            del self.pods[key]
            if (node := self.keeper.nodes.get(gone.pod.node)) is not None:
                node.pods.pop(key, None)
            return
        if not isinstance(new, SimPod):
            log.warning("pod cannot be read", pod=str(key), problem=new.problem)
            return
        self._take(key, new)

    def _take(self, key: Key, pod: SimPod) -> None:
        """Take in a pod, from the watch or from an answer, unless it is older than what is known."""
        record = self.pods.get(key)
        if record is None or record.pod.uid != pod.uid:
            record = self.pods[key] = PodRecord(pod)
        elif version_at_least(record.pod.resource_version, pod.resource_version):
            return
        else:
            if record.pod.metadata.annotations != pod.metadata.annotations or record.pod.spec != pod.spec:
                record.behaviour = record.asked = None
            record.pod = pod
        node = self.keeper.nodes.get(pod.node)
        if node is not None:
            node.pods[key] = None
            now = self._clock.monotonic()
            if not self._reaction or key in self._busy:  # a write that is under way will say another time
                self._enqueue(key)
            elif not now < record.due < now + self._reaction:
                self._wake(key, now + self._reaction)

    def _reconsider(self, node: NodeRecord) -> None:
        for key in node.pods:
            if (record := self.pods.get(key)) is not None:
                record.behaviour = None
                self._enqueue(key)

    def _came_back(self, node: NodeRecord, reason: str) -> None:
        log.info("node is up again", node=node.name)
        for key in node.pods:
            if (record := self.pods.get(key)) is not None:
                if reason == "power" and record.state is not None:
                    record.commands.append(kubelet.reboot)
                self._enqueue(key)

    # Control.

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Replace the rules; every pod is looked at again."""
        self.rules = tuple(rules)
        for node in self.keeper.nodes.values():
            self._reconsider(node)

    def command(self, key: Key, command: Command) -> bool:
        """Apply *command* to the state of a pod at its next step; tell whether there is such a pod."""
        record = self.pods.get(key)
        if record is None or record.pod.node not in self.keeper.nodes:
            return False
        record.commands.append(command)
        self._enqueue(key)
        return True

    def take_down(self, name: str, how: str) -> bool:
        """Take a node down (``true`` or ``power``) or up (``""``); tell whether there is such a node."""
        node = self.keeper.nodes.get(name)
        if node is None:
            return False
        node.forced_down = how
        return True

    # Work.

    def _enqueue(self, key: Key) -> None:
        if key in self._busy:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    async def _worker(self) -> None:
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._busy.add(key)
            try:
                await self._work(key)
            except (ApiError, TransportError, UnknownOutcome) as error:
                self.counts.errors += 1
                log.warning("pod status not written", pod=str(key), error=str(error))
                self._wake(key, self._clock.monotonic() + RETRY)
            finally:
                self._busy.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self._enqueue(key)

    async def _work(self, key: Key) -> None:
        record = self.pods.get(key)
        node = None if record is None else self.keeper.nodes.get(record.pod.node)
        if record is None or node is None or node.node is None or node.down or record.deleted:
            return
        if not node.node.status.get("allocatable"):
            return  # somebody else's Node: it says what it holds in a moment, and its pods are looked at again
        now = self._clock.now()
        place = self._place(record, node)
        state = record.state
        if state is None:
            state = self._accept(key, record, node, place, now)
        commands, record.commands = record.commands, []
        for command in commands:
            state = command(state, now)
        if record.behaviour is None:
            record.behaviour = self._resolve(record.pod, node)
        step = kubelet.step(record.pod, state, now, record.behaviour, place)
        self.counts.steps += 1
        published = False
        try:
            published = await self._publish(key, record, step)
        finally:
            if not published:
                # Nothing has happened then: the same instant is computed again, for the pod as it is by now.
                record.commands[:0] = commands

    async def _publish(self, key: Key, record: PodRecord, step: Step) -> bool:
        """Write what *step* says and make it the state of the pod; tell whether that came about."""
        patch = status_patch(record.pod.status, step.status)
        if patch is not None and not await self._patch(key, record, patch):
            return False
        record.state = step.state
        if step.delete:
            await self._delete(key, record)
        elif step.wake is not None:
            self._wake(key, self._clock.monotonic() + step.wake - self._clock.now())
        return True

    def _accept(self, key: Key, record: PodRecord, node: NodeRecord, place: Place, now: float) -> PodState:
        pod = record.pod
        refused = None
        if not pod.status.get("startTime") and node.node is not None:
            others = self._others(key, node)
            space = kubelet_admission.room(node.node.status.get("allocatable"), map(_asked, others))
            specs = (other.pod.spec for other in others)
            refused = kubelet_admission.refusal(pod.spec, node.node.metadata.labels, space, specs)
        state = kubelet.accept(pod, now, place, refused=refused)
        # Remembered at once: pods that are looked at meanwhile must see that this one has its place.
        record.state = state
        return state

    def _others(self, key: Key, node: NodeRecord) -> list[PodRecord]:
        """Return the pods that hold a place on *node* and have not ended."""
        return [
            other
            for one in node.pods
            if one != key
            and (other := self.pods.get(one)) is not None
            and not other.pod.finished
            and (other.state.final == "" if other.state is not None else bool(other.pod.status.get("startTime")))
        ]

    def _place(self, record: PodRecord, node: NodeRecord) -> Place:
        ip = record.state.pod_ip if record.state is not None else record.pod.status.get("podIP") or ""
        if not ip:
            ip = node_objects.pod_address(self._next_pod)
            self._next_pod += 1
        elif (index := node_objects.pod_index(ip)) is not None:
            self._next_pod = max(self._next_pod, index + 1)
        room: Room | None = None
        state = record.state
        resize = state.resize if state is not None else None
        if resize is not None and node.node is not None and wanted(record.pod.spec) != resize.allocated:
            others = self._others(record.pod.key, node)
            room = kubelet_admission.room(node.node.status.get("allocatable"), map(_asked, others))
        return Place(node.name, node_objects.address(node.index), ip, room)

    def _resolve(self, pod: SimPod, node: NodeRecord) -> Behaviour:
        assert node.node is not None
        found = resolve(
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            spec=pod.spec,
            annotations=pod.metadata.annotations,
            node=node.name,
            node_annotations=node.node.metadata.annotations,
            rules=self.rules,
        )
        for problem in found.problems:
            log.warning("setting ignored", pod=str(pod.key), problem=problem)
        return found

    # Requests.

    async def _patch(self, key: Key, record: PodRecord, status: dict[str, Any]) -> bool:
        """Write a status; False: the pod changed meanwhile. Raises ApiError, TransportError, UnknownOutcome."""
        meta = record.pod.metadata
        body = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, "status": status}
        try:
            answer = await self._rest.call(
                "patch",
                "PATCH",
                SIM_PODS,
                namespace=key.namespace,
                name=key.name,
                subresource="status",
                body=orjson.dumps(body),
                content_type=STRATEGIC,
            )
        except NotFound:
            return False  # the watch will say that it is gone
        except (Conflict, Invalid) as error:
            # 422 is how the API server says that the name has another uid now.
            self.counts.conflicts += 1
            if isinstance(error, Invalid) and not any("uid" in cause.field for cause in error.status.causes):
                raise
            await self._read(key)
            if self.pods.get(key) is record and record.pod.resource_version == meta.resource_version:
                self._wake(key, self._clock.monotonic() + RETRY)  # the watch will say what the read did not
            return False
        except UnknownOutcome:
            await self._read(key)
            raise
        self.counts.status_writes += 1
        self._adopt(key, record, self._codec.decode(answer.body))
        return True

    def _adopt(self, key: Key, record: PodRecord, pod: SimPod) -> None:
        if self.pods.get(key) is record and not version_at_least(record.pod.resource_version, pod.resource_version):
            if record.pod.metadata.annotations != pod.metadata.annotations or record.pod.spec != pod.spec:
                record.behaviour = record.asked = None
                self._again.add(key)
            elif record.pod.terminating != pod.terminating:
                self._again.add(key)
            record.pod = pod

    async def _read(self, key: Key) -> None:
        try:
            answer = await self._rest.call("get", "GET", SIM_PODS, namespace=key.namespace, name=key.name)
        except NotFound:
            return
        self._take(key, self._codec.decode(answer.body))

    async def _delete(self, key: Key, record: PodRecord) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": record.pod.uid}}
        try:
            await self._rest.call(
                "delete", "DELETE", SIM_PODS, namespace=key.namespace, name=key.name, body=orjson.dumps(body)
            )
            self.counts.deletes += 1
        except (NotFound, Conflict):
            pass  # gone already, or its name belongs to another pod: either way it is not there any more
        record.deleted = True

    # Time.

    def _wake(self, key: Key, at: float) -> None:
        record = self.pods.get(key)
        if record is None:
            return
        record.due = at
        if at <= self._clock.monotonic():
            self._again.add(key)  # called from within the work on this key: it is taken up right after
            return
        self._sequence += 1
        heapq.heappush(self._timers, (at, self._sequence, key))
        if self._timers[0][2] == key:
            self._poke.set()

    async def _alarm(self) -> None:
        while True:
            now = self._clock.monotonic()
            while self._timers and self._timers[0][0] <= now:
                at, _, key = heapq.heappop(self._timers)
                record = self.pods.get(key)
                if record is not None and record.due == at:
                    record.due = math.inf
                    self._enqueue(key)
            self._poke.clear()
            try:
                async with asyncio.timeout(self._timers[0][0] - now if self._timers else None):
                    await self._poke.wait()
            except TimeoutError:
                continue
