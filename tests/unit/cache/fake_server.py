"""A small API server for the tests of the cache: one resource, lists, pages, watches, and every way to fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from kruise.runtime.cache.host import Host
from kruise.runtime.cache.informer import Informer
from kruise.runtime.cache.store import Change
from kruise.runtime.client.transport import NO_HEADERS, Response
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import Cause, Expired, Invalid, NotFound, Status, error_from_status
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, Resource
from kruise.runtime.testing import Script, VirtualClock, eventually


class Spec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    node_name: str | None = None
    size: int = 0


class Pod(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    spec: Spec | None = None


PODS: Resource[Pod] = Resource("", "v1", "Pod", "pods", Pod)
NODES: Resource[Object] = Resource("", "v1", "Node", "nodes", Object, namespaced=False)


def status(code: int, reason: str = "", message: str = "", **more: Any) -> Exception:
    return error_from_status(Status(code=code, reason=reason, message=message or reason, **more))


def too_large() -> Exception:
    return status(504, "Timeout", "Too large resource version", causes=(Cause(reason="ResourceVersionTooLarge"),))


@dataclass
class Call:
    """One request that reached the server."""

    verb: str
    at: float
    namespace: str
    args: dict[str, Any]


class FakeStream:
    """A watch that is fed line by line."""

    def __init__(self, namespace: str, selects: Callable[[Mapping[str, Any]], bool]) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = NO_HEADERS
        self.namespace = namespace
        self.selects = selects
        self.closed = False
        self._lines: deque[bytes | Exception] = deque()
        self._wake = asyncio.Event()

    def feed(self, *lines: bytes | Exception) -> None:
        self._lines.extend(lines)
        self._wake.set()

    def send(self, kind: str, obj: Mapping[str, Any]) -> None:
        self.feed(json.dumps({"type": kind, "object": obj}).encode())

    def end(self) -> None:
        self.feed(b"")

    async def read_line(self) -> bytes:
        while not self._lines:
            self._wake.clear()
            await self._wake.wait()
        line = self._lines[0]
        if line != b"":
            self._lines.popleft()
        if isinstance(line, Exception):
            raise line
        return line

    def buffered(self) -> bool:
        return bool(self._lines)

    async def read_all(self) -> bytes:
        return b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True


@dataclass
class FakeServer:
    """Holds objects as plain JSON.

    ``faults`` are taken one per request of that verb, all of them (TST3); then ``lasting`` strikes every request.
    """

    clock: Clock
    resource: Resource[Any] = PODS
    streaming: bool | str = True
    """True, False (refused as invalid), "silent" (no end bookmark), "ends" (a clean end instead of the bookmark)."""
    served: bool = True
    git_version: str = "v1.33.0"
    bookmark_every: float | None = None
    version: int = 100
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    history: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    compacted: int = 0
    calls: list[Call] = field(default_factory=list)
    faults: dict[str, Script[Any]] = field(default_factory=dict)
    lasting: dict[str, Any] = field(default_factory=dict)
    streams: list[FakeStream] = field(default_factory=list)
    stale_at: int | None = None
    """Lists answer with the state of this version, as a front end that lags behind does."""
    last_streamed: bool = False

    # Writing.

    def put(self, name: str, namespace: str = "default", *, uid: str = "", **more: Any) -> dict[str, Any]:
        namespace = namespace if self.resource.namespaced else ""
        self.version += 1
        old = self.objects.get((namespace, name))
        meta = {
            "name": name,
            "namespace": namespace,
            "uid": uid or (old["metadata"]["uid"] if old else f"uid-{name}-{self.version}"),
            "resourceVersion": str(self.version),
            **more.pop("metadata", {}),
        }
        obj = {"apiVersion": self.resource.api_version, "kind": self.resource.kind, "metadata": meta, **more}
        self.objects[namespace, name] = obj
        if old is not None and old["metadata"]["uid"] != meta["uid"]:
            raise AssertionError("delete first")
        self._emit("MODIFIED" if old else "ADDED", obj)
        return obj

    def delete(self, name: str, namespace: str = "default") -> None:
        self.version += 1
        obj = self.objects.pop((namespace if self.resource.namespaced else "", name))
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        self._emit("DELETED", obj)

    def _emit(self, kind: str, obj: dict[str, Any]) -> None:
        self.history.append((self.version, kind, obj))
        for stream in self.open_streams:
            if stream.namespace in ("", obj["metadata"]["namespace"]) and stream.selects(obj):
                stream.send(kind, obj)

    def bookmark(self, version: int | None = None) -> None:
        for stream in self.open_streams:
            stream.send("BOOKMARK", self._bookmark(version or self.version))

    def compact(self) -> None:
        self.compacted = self.version

    def _bookmark(self, version: int, *, end: bool = False) -> dict[str, Any]:
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        return {"apiVersion": self.resource.api_version, "kind": self.resource.kind, "metadata": meta}

    @property
    def open_streams(self) -> list[FakeStream]:
        return [s for s in self.streams if not s.closed]

    @property
    def stream(self) -> FakeStream:
        return self.open_streams[-1]

    def verbs(self, verb: str) -> list[dict[str, Any]]:
        return [c.args for c in self.calls if c.verb == verb]

    def fail(self, verb: str, *errors: Any) -> None:
        self.faults.setdefault(verb, Script(name=f"the faults of {verb}")).add(*errors)

    def heal(self) -> None:
        """Let nothing go wrong any more, whatever was still to come."""
        for script in self.faults.values():
            script.drop()
        self.lasting.clear()

    def always(self, verb: str, error: Any) -> None:
        self.lasting[verb] = error

    # The client's side (kruise.runtime.cache.host.Api).

    async def _enter(self, verb: str, namespace: str, args: dict[str, Any]) -> None:
        self.calls.append(Call(verb, self.clock.monotonic(), namespace, {k: v for k, v in args.items() if v}))
        await self.clock.sleep(0)
        script = self.faults.get(verb)
        fault = script.take() if script else self.lasting.get(verb)
        if callable(fault):
            fault = fault()
            if asyncio.iscoroutine(fault):
                fault = await fault
        if isinstance(fault, Exception):
            raise fault
        if not self.served and verb != "get":
            raise status(404, "NotFound", "the server could not find the requested resource")

    def _state_at(self, version: int) -> dict[tuple[str, str], dict[str, Any]]:
        if version >= self.version:
            return dict(self.objects)
        state: dict[tuple[str, str], dict[str, Any]] = {}
        for at, kind, obj in self.history:
            if at > version:
                break
            key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
            state.pop(key, None)
            if kind != "DELETED":
                state[key] = obj
        return state

    async def list_page(self, resource: Resource[Any], *, namespace: str = "", limit: int = 0, **args: Any) -> Any:
        await self._enter("list", namespace, {"limit": limit, **args})
        version = self.version if self.stale_at is None else self.stale_at
        wanted = args.get("resource_version", "")
        token = args.get("continue_token", "")
        start = ""
        if token:
            assert not wanted, "a token excludes a version"
            at, _, start = token.partition("/")
            version = int(at)
            if version < self.compacted:
                raise status(410, "Expired", "The provided continue parameter is too old")
        elif args.get("resource_version_match") == "Exact":
            version = int(wanted)
            if version < self.compacted:
                raise status(410, "Expired")
        objs = [
            o
            for (ns, _), o in sorted(self._state_at(version).items())
            if namespace in ("", ns) and _selects(args.get("label_selector", ""))(o)
        ]
        objs = [o for o in objs if "/".join((o["metadata"]["namespace"], o["metadata"]["name"])) > start]
        page, rest = (objs[:limit], objs[limit:]) if limit else (objs, [])
        more = ""
        if rest:
            last = page[-1]["metadata"]
            more = f"{version}/{last['namespace']}/{last['name']}"
        items = tuple(msgspec.Raw(json.dumps(o).encode()) for o in page)
        return FakePage(str(version), more, items)

    async def watch(
        self, resource: Resource[Any], *, namespace: str = "", resource_version: str = "", **args: Any
    ) -> FakeStream:
        initial = args.get("send_initial_events", False)
        await self._enter("watch", namespace, {"resource_version": resource_version, **args})
        if initial and self.streaming is False:
            raise Invalid(Status(code=422, reason="Invalid", message="sendInitialEvents is forbidden"))
        selects = _selects(args.get("label_selector", ""))
        stream = FakeStream(namespace, selects)
        if initial:
            for (ns, _), obj in sorted(self.objects.items()):
                if namespace in ("", ns) and selects(obj):
                    stream.send("ADDED", obj)
            if self.streaming == "ends":
                stream.end()
            elif self.streaming != "silent":
                stream.send("BOOKMARK", self._bookmark(self.version, end=True))
        else:
            since = int(resource_version)
            if since < self.compacted:
                raise Expired(Status(code=410, reason="Expired", message="too old resource version"))
            for at, kind, obj in self.history:
                if at > since and namespace in ("", obj["metadata"]["namespace"]) and selects(obj):
                    stream.send(kind, obj)
        self.streams.append(stream)
        return stream

    async def get_path(self, path: str) -> Response:
        await self._enter("get", "", {"path": path})
        if path == "/version":
            return Response(200, body=json.dumps({"gitVersion": self.git_version}).encode())
        if path != self.resource.base:
            raise NotFound(Status(code=404))
        names = [{"name": self.resource.plural}] if self.served else []
        return Response(200, body=json.dumps({"kind": "APIResourceList", "resources": names}).encode())


@dataclass(frozen=True)
class FakePage:
    resource_version: str
    continue_token: str
    items: tuple[msgspec.Raw, ...]


def _selects(selector: str) -> Callable[[Mapping[str, Any]], bool]:
    if not selector:
        return lambda _: True
    key, _, value = selector.partition("=")
    return lambda obj: obj["metadata"].get("labels", {}).get(key) == value


class World:
    """A fake server and what one informer of it needs, on the virtual loop."""

    def __init__(self, clock: Clock, *, resource: Resource[Any] = PODS, seed: int = 1, **host: Any) -> None:
        self.clock = clock
        self.server = FakeServer(clock, resource)
        self.metrics = Metrics(process=False)
        self.host = Host(self.server, clock=clock, rng=Random(seed), **host)
        self.told: list[Change[Any]] = []

    def informer(self, *, resource: Resource[Any] | None = None, **options: Any) -> Informer[Any]:
        return Informer(resource or self.server.resource, self.host, metrics=self.metrics, **options)

    def metric(self, name: str, **labels: str) -> float:
        r = self.server.resource
        given = {"group": r.group, "version": r.version, "resource": r.plural, **labels}
        return self.metrics.registry.get_sample_value(name, given) or 0.0

    def names(self, informer: Informer[Any]) -> list[str]:
        return sorted(o.metadata.name for o in informer.store.list())

    async def settle(self) -> None:
        """Let everything run that needs no time."""
        for _ in range(60):
            await self.clock.sleep(0)


def story(changes: list[Change[Any]]) -> list[str]:
    """Return changes as ``+a`` (added), ``~a`` (changed), ``-a`` (deleted)."""
    return [("+" if c.old is None else "-" if c.new is None else "~") + c.key.name for c in changes]


@contextlib.asynccontextmanager
async def running(what: Any) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(what.run())
        try:
            yield
        finally:
            task.cancel()


async def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Wait on virtual time until *condition* is true."""
    await eventually(condition, VirtualClock(), timeout)
