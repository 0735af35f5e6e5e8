"""Keeps simulated nodes alive in the API: registers them, renews their Leases, reports them Ready.

Purpose: what a kubelet does for its node, for all nodes of a process, with as few requests as there can be: one patch
per node and renewal, spread evenly over time, and a status only when the API shows something else.

Guarantees:

* A node that is down neither renews nor reports, and comes back Ready once it is up again.
* A renewal that failed is tried again well before the Lease ends: a renewal is due every quarter of its duration.
* Renewals never wait behind the status writes of pods.

What this does not do: no taints (Kubernetes' own controllers set and take them), no heartbeats in the status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock
from kruise.runtime.errors import AlreadyExists, ApiError, Conflict, NotFound, TransportError, UnknownOutcome
from kruise.runtime.log import get_logger
from kruise.simulator import node_objects as objects
from kruise.simulator.kubelet_types import SIM_NODES, SimNode
from kruise.simulator.node_objects import SIM_LEASES, NodeShape

log = get_logger("nodes")

CONCURRENCY: Final = 16
"""Renewals, and registrations, that are under way at once."""
TICK: Final = 0.25
"""Seconds between two looks at what is due."""
RETRY: Final = 1.0
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"


@dataclass(slots=True)
class NodeRecord:
    """One node that is played here."""

    name: str
    index: int
    node: SimNode | None = None
    """As the API shows it; None until it does."""
    forced_down: str = ""
    """``true`` or ``power`` by the control API, which wins over the annotation."""
    was_down: str = ""
    renew_at: float = 0.0
    """Monotonic."""
    busy: bool = False
    reporting: bool = False
    ready: SimNode | None = None
    """The node as it was when it was last found ready: while it is the same object, so is its status."""
    pods: dict[Any, None] = field(default_factory=dict)
    """The keys of the pods bound to it, in the order in which they were seen."""

    @property
    def down(self) -> str:
        """Why it does nothing: ``true``, ``power``, or ``""``."""
        return self.forced_down or (objects.down_of(self.node) if self.node is not None else "")


class NodeKeeper:
    """All nodes of one process."""

    def __init__(self, rest: Rest, *, clock: Clock, shape: NodeShape, lease_seconds: int = 40) -> None:
        self._rest = rest.named("nodes", windowed=False)
        self._clock = clock
        self.shape = shape
        self.lease_seconds = lease_seconds
        self.nodes: dict[str, NodeRecord] = {}
        self.renewals = 0
        self.reports = 0
        self._free = asyncio.Semaphore(CONCURRENCY)
        self._next = 0

    @property
    def interval(self) -> float:
        """Seconds between two renewals of a node."""
        return self.lease_seconds / 4

    # Which nodes there are.

    def names(self, count: int) -> list[str]:
        """Return *count* names that no node here has."""
        found: list[str] = []
        number = 0
        while len(found) < count:
            name = f"{self.shape.prefix}{number}"
            if name not in self.nodes:
                found.append(name)
            number += 1
        return found

    def record(self, name: str) -> NodeRecord:
        """Return the record of a node, made when it is new."""
        known = self.nodes.get(name)
        if known is None:
            known = self.nodes[name] = NodeRecord(name, self._next)
            self._next += 1
            # Spread over one interval, so that a thousand nodes renew a few at a time.
            known.renew_at = self._clock.monotonic() + (known.index * 0.618034 % 1.0) * self.interval
        return known

    def saw(self, name: str, node: SimNode | None) -> NodeRecord | None:
        """Take in what the watch says; return the record, ``None`` when the node is gone."""
        if node is None:
            self.nodes.pop(name, None)
            return None
        record = self.record(name)
        record.node = node
        return record

    async def register(
        self, names: list[str], *, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None
    ) -> None:
        """Create nodes, each with its Lease; one that exists is taken over. Raises ApiError, TransportError."""
        shape = NodeShape(
            self.shape.prefix,
            self.shape.cpu,
            self.shape.memory,
            self.shape.pods,
            {**self.shape.labels, **(labels or {})},
            self.shape.version,
        )
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(self._register(self.record(name), shape, annotations or {}))

    async def _register(self, record: NodeRecord, shape: NodeShape, annotations: dict[str, str]) -> None:
        async with self._free:
            body = objects.node_body(record.name, record.index, shape, self._clock.now(), annotations)
            uid = ""
            try:
                answer = await self._rest.call("create", "POST", SIM_NODES, body=orjson.dumps(body))
                uid = orjson.loads(answer.body)["metadata"]["uid"]
            except (AlreadyExists, UnknownOutcome):
                # Ours from an earlier process, or from a request whose answer was lost: its label makes it ours.
                patch = {"metadata": {"labels": body["metadata"]["labels"], "annotations": dict(annotations)}}
                answer = await self._rest.call(
                    "patch", "PATCH", SIM_NODES, name=record.name, body=orjson.dumps(patch), content_type=MERGE
                )
                uid = orjson.loads(answer.body)["metadata"]["uid"]
                await self._report(record, shape)
            await self._create_lease(record, uid)

    async def remove(self, name: str) -> None:
        """Delete a node from the API. Raises ApiError, TransportError."""
        await self._rest.call("delete", "DELETE", SIM_NODES, name=name)

    # Leases.

    async def _create_lease(self, record: NodeRecord, uid: str) -> None:
        body = objects.lease_body(record.name, uid, self.lease_seconds, self._clock.now())
        try:
            await self._rest.call(
                "create", "POST", SIM_LEASES, namespace=objects.LEASE_NAMESPACE, body=orjson.dumps(body)
            )
        except AlreadyExists:
            await self._renew_now(record)
        record.renew_at = self._clock.monotonic() + self.interval

    async def _renew_now(self, record: NodeRecord) -> None:
        body = objects.renewal(record.name, self.lease_seconds, self._clock.now())
        await self._rest.call(
            "patch",
            "PATCH",
            SIM_LEASES,
            namespace=objects.LEASE_NAMESPACE,
            name=record.name,
            body=orjson.dumps(body),
            content_type=MERGE,
            timeout=self.interval,
        )
        self.renewals += 1

    async def _renew(self, record: NodeRecord) -> None:
        try:
            async with self._free:
                try:
                    await self._renew_now(record)
                except NotFound:
                    if record.node is not None:
                        await self._create_lease(record, record.node.uid)
            record.renew_at = max(record.renew_at + self.interval, self._clock.monotonic())
        except (ApiError, TransportError, UnknownOutcome) as error:
            record.renew_at = self._clock.monotonic() + min(RETRY, self.interval)
            log.warning("lease not renewed", node=record.name, error=str(error))
        finally:
            record.busy = False

    # The status of nodes.

    async def _report(self, record: NodeRecord, shape: NodeShape | None = None) -> None:
        status = objects.node_status(record.name, record.index, shape or self.shape, self._clock.now())
        if record.node is not None and record.node.status.get("allocatable"):
            # A test may have changed what a node holds; only what its loss changed is put right.
            status = {"conditions": status["conditions"]}
        await self._rest.call(
            "patch",
            "PATCH",
            SIM_NODES,
            name=record.name,
            subresource="status",
            body=orjson.dumps({"status": status}),
            content_type=STRATEGIC,
        )
        self.reports += 1

    async def _report_and_say(self, record: NodeRecord) -> None:
        try:
            async with self._free:
                await self._report(record)
        except (NotFound, Conflict):
            pass
        except (ApiError, TransportError, UnknownOutcome) as error:
            log.warning("node status not written", node=record.name, error=str(error))
            await self._clock.sleep(RETRY)
        finally:
            record.reporting = False

    async def run(self, came_back: Callable[[NodeRecord, str], None]) -> None:
        """Renew and report until cancelled. *came_back* is called for a node that is up again, and why it was down."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                now = self._clock.monotonic()
                for record in tuple(self.nodes.values()):
                    self._look_at(record, now, tasks, came_back)
                await self._clock.sleep(min(TICK, self.interval / 4))

    def _look_at(
        self,
        record: NodeRecord,
        now: float,
        tasks: asyncio.TaskGroup,
        came_back: Callable[[NodeRecord, str], None],
    ) -> None:
        down = record.down
        if down:
            record.was_down = down
            return
        if record.was_down:
            reason, record.was_down = record.was_down, ""
            record.renew_at = now
            came_back(record, reason)
        if record.node is None:
            return
        if not record.busy and now >= record.renew_at:
            record.busy = True
            tasks.create_task(self._renew(record))
        if not record.reporting and record.ready is not record.node:
            if objects.is_ready(record.node):
                record.ready = record.node
            else:
                record.reporting = True
                tasks.create_task(self._report_and_say(record))
