"""A world of plain JSON in which the production reconciler of BroadcastJob runs one golden case.

The stores are the real ones and are filled from the case before each pass; the client records what is sent, answers
with the faults of the case, and applies what succeeds. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kruise.apis.broadcastjob import BROADCASTJOBS, BroadcastJob
from kruise.apis.core import NODES, PODS, Node, Pod
from kruise.controllers.broadcastjob.pods import assigned_node
from kruise.controllers.broadcastjob.reconciler import BroadcastJobReconciler
from kruise.controllers.common.pace import STATUS_PERIOD
from kruise.runtime.cache.store import Store
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.client.patch import apply_merge
from kruise.runtime.clock import SystemClock, parse_time
from kruise.runtime.controller import After
from kruise.runtime.errors import NotFound, Refused, Status, UnknownOutcome, error_from_status
from kruise.runtime.objects import Key, Object, Resource

FAULTS: Mapping[str, tuple[int, str]] = {
    "forbidden": (403, "Forbidden"),
    "alreadyExists": (409, "AlreadyExists"),
    "notFound": (404, "NotFound"),
    "conflict": (409, "Conflict"),
    "internal": (500, "InternalError"),
}


def fault(kind: str) -> Exception:
    """Return what the production client raises for a write that meets this fault."""
    if kind in ("timeout", "serverTimeout"):
        return UnknownOutcome("create", error_from_status(Status(504, "Timeout", "request timed out")))
    if kind == "plain":
        return Refused("connection refused")
    code, reason = FAULTS[kind]
    return error_from_status(Status(code, reason, f"{kind} on purpose"))


class CaseClock(SystemClock):
    """Stands still at the time of the case."""

    def __init__(self, now: float) -> None:
        self.at = now
        self._ticks = 0.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        """Move on at every look, so that no status waits for the pace of status writes."""
        self._ticks += 1.0
        return self._ticks

    def boottime(self) -> float:
        return self.at


class Events:
    """Takes events."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def event(self, obj: Object, resource: Resource[Any], *, type: str, reason: str, action: str, note: str) -> None:
        assert obj.metadata.name and resource is BROADCASTJOBS and action
        self.seen.append((type, reason, note))


class World:
    """The objects of a case, and what the manager did to them."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        stamp = parse_time(given.get("now") or "2026-03-05T10:00:00Z")
        assert stamp is not None
        self.clock = CaseClock(stamp)
        self.faults: Mapping[str, Any] = given.get("faults") or {}
        self.job: dict[str, Any] | None = given.get("job")
        self.key = _key(self.job) if self.job else Key(*given["key"].split("/"))
        self.nodes = {n["metadata"]["name"]: _with_uid(n) for n in given.get("nodes") or []}
        self.pods: dict[Key, dict[str, Any]] = {}
        for pod in given.get("pods") or []:
            self.set_pod(pod)
        self.created: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []
        self.job_deleted = False
        self.status: dict[str, Any] | None = None
        self.events = Events()
        self.live = self
        self._jobs = Store(BROADCASTJOBS, clock=self.clock)
        self._pods = Store(PODS, clock=self.clock)
        self._nodes = Store(NODES, clock=self.clock)
        self._version = 1000
        self.reconciler = BroadcastJobReconciler(
            client=self,  # type: ignore[arg-type]
            recorder=self.events,
            jobs=self._jobs,
            pods=self._pods,
            nodes=self._nodes,
            clock=self.clock,
            by_scheduler=given.get("assignByScheduler", True),
        )

    # The world.

    def set_pod(self, pod: dict[str, Any]) -> None:
        pod = orjson.loads(orjson.dumps(pod))
        pod["metadata"].setdefault("uid", f"uid-{pod['metadata']['name']}")
        self.pods[_key(pod)] = pod

    def set_node(self, node: dict[str, Any]) -> None:
        self.nodes[node["metadata"]["name"]] = _with_uid(node)

    def pod_on(self, name: str) -> Key:
        """Return the key of a pod by its name in the case, where a created pod is called ``<prefix><node>``."""
        for key, pod in self.pods.items():
            if key.name == name:
                return key
            node = assigned_node(decode_as(Pod, orjson.dumps(pod)))
            if node in self.created and name.endswith(node):
                return key
        raise AssertionError(f"no pod {name}")

    def _sync(self) -> None:
        self._version += 1
        _fill(self._jobs, BroadcastJob, [self.job] if self.job else [], self._version)
        _fill(self._nodes, Node, self.nodes.values(), self._version)
        _fill(self._pods, Pod, self.pods.values(), self._version)

    async def reconcile(self) -> str | None:
        """Run one pass, and the status write that it may leave for half a second later; return the error, if any."""
        for _ in range(2):
            self._sync()
            try:
                result = await self.reconciler(self.key)
            except Exception as error:
                return str(error) or type(error).__name__
            if not isinstance(result, After) or result.seconds > STATUS_PERIOD:
                break
        return None

    # What the reconciler calls.

    async def create(self, resource: Resource[Any], body: dict[str, Any]) -> None:
        assert resource is PODS
        pod = orjson.loads(orjson.dumps(body))
        node = assigned_node(decode_as(Pod, orjson.dumps(pod)))
        kind = (self.faults.get("create") or {}).get(node)
        if kind is not None:
            raise fault(kind)
        self.created[node] = orjson.loads(orjson.dumps(body))
        pod["metadata"]["uid"] = f"uid-{pod['metadata']['name']}"
        self.pods[_key(pod)] = pod

    async def delete(
        self, resource: Resource[Any], obj: Object, *, disrupts: bool = False, propagation: str | None = None
    ) -> bool:
        assert disrupts
        if resource is BROADCASTJOBS:
            assert propagation == "Background"
            if self.faults.get("jobDelete"):
                raise fault(self.faults["jobDelete"])
            self.job, self.job_deleted = None, True
            return True
        kind = (self.faults.get("delete") or {}).get(obj.metadata.name)
        if kind == "notFound":
            return False
        if kind is not None:
            raise fault(kind)
        self.deleted.append(obj.metadata.name)
        self.pods[obj.key]["metadata"]["deletionTimestamp"] = "2026-03-05T10:00:00Z"
        return True

    async def patch_status(self, resource: Resource[Any], obj: Object, status: dict[str, Any]) -> None:
        assert resource is BROADCASTJOBS and self.job is not None
        if self.faults.get("status"):
            raise fault(self.faults["status"])
        self.status = orjson.loads(orjson.dumps(status))
        self.job = apply_merge(self.job, {"status": None})
        self.job["status"] = self.status

    async def get(self, resource: Resource[Any], key: Key) -> Object:
        if key not in self.pods:
            raise NotFound(Status(404, "NotFound", f"pods {key.name!r} not found"))
        return decode_as(Pod, orjson.dumps(self.pods[key]))

    async def list(self, resource: Resource[Any], *, namespace: str, label_selector: str) -> list[Pod]:
        assert resource is PODS and namespace and label_selector
        return [decode_as(Pod, orjson.dumps(p)) for p in self.pods.values()]

    def observed(self, resource: Resource[Any], obj: Object) -> None:
        assert resource is PODS and obj.uid


def _key(obj: Mapping[str, Any]) -> Key:
    return Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _with_uid(node: Mapping[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = orjson.loads(orjson.dumps(node))
    copied["metadata"].setdefault("uid", f"uid-{copied['metadata']['name']}")
    return copied


def _fill(store: Store[Any], struct: Any, objects: Any, version: int) -> None:
    wanted = {}
    for raw in objects:
        body = orjson.loads(orjson.dumps(raw))
        body["metadata"]["resourceVersion"] = str(version)
        obj = decode_as(struct, orjson.dumps(body))
        wanted[obj.key] = obj
    for old in store.list():
        if old.key not in wanted:
            store.remove(old)
    for obj in wanted.values():
        store.put(obj)
