"""The API server in memory.

Purpose: the rooms of this package as one server, with two fronts (``transport.py`` in process, ``http.py``), a log of
every request, one hook for faults, and short ways for tests to look and to act.

Guarantees:

* TST1: see the rooms. TST2: everything that the fronts carry passes ``faults``.
* Deterministic: uids, generated names and watch timeouts come from the random source that is passed in; time from the
  clock.

* Webhooks that are registered are called through ``caller`` (``webhooks.py``); functions of the process can join
  ``operations.admission``.

What this does not do: no authorization and no server-side apply.

Example::

    server = ApiServer(clock, Random(1))
    server.registry.add_custom(BROADCASTJOBS)
    transport = server.transport("manager-a")
    server.create("pods", {"metadata": {"name": "a", "namespace": "default"}, "spec": {...}})
    assert server.log.counts(actor="manager-a") == {...}
"""

from __future__ import annotations

import contextlib
import itertools
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from kruise.runtime.client.transport import NO_HEADERS
from kruise.runtime.clock import Clock, Random
from kruise.runtime.objects import Key, Resource
from kruise.simulator.apiserver.bodies import MERGE
from kruise.simulator.apiserver.call import Answer, Call, RequestLog
from kruise.simulator.apiserver.crd import DEFINITIONS, definition_type, established
from kruise.simulator.apiserver.events import event_types
from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.apiserver.frontend import Frontend
from kruise.simulator.apiserver.intercept import PASS, Interceptor
from kruise.simulator.apiserver.operations import Operations
from kruise.simulator.apiserver.resources import Registry, ResourceType, builtin_types
from kruise.simulator.apiserver.router import resolve, route
from kruise.simulator.apiserver.scale import Reviews
from kruise.simulator.apiserver.storage import Commit, Record, Storage
from kruise.simulator.apiserver.transport import InProcessTransport
from kruise.simulator.apiserver.webhooks import Caller
from kruise.simulator.apiserver.webhooks_admission import Admission
from kruise.simulator.apiserver.webhooks_config import TABLES
from kruise.simulator.apiserver.webhooks_convert import Converter
from kruise.simulator.apiserver.webhooks_gate import Gate

Body = dict[str, Any]
Named = Resource[Any] | str
"""A resource, or its name as ``plural.group``."""

NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")


class MustWait(RuntimeError):
    """A direct request would have to wait for a webhook. Nothing has happened; ``again`` sends it anew and waits."""

    def __init__(self, again: Callable[[], Awaitable[Any]]) -> None:
        super().__init__("a direct request would have to wait: send it through a transport, or with ask")
        self.again = again


class ApiServer:
    """An API server and its store."""

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        *,
        history: int | None = None,
        retain: bool = True,
        start_version: int = 1,
        namespaces: Iterable[str] = NAMESPACES,
    ) -> None:
        """*history* and *retain* are those of :class:`Storage`."""
        self.clock = clock
        self.rng = rng
        self.storage = Storage(start=start_version, history=history, retain=retain)
        self.registry = Registry([*builtin_types(), *event_types()])
        self.webhooks = Admission(self.storage, rng)
        self.gate = Gate(self.webhooks, self.registry, self.storage, clock)
        self.operations = Operations(self.storage, self.registry, clock, rng, self.gate)
        self.operations.committed = self._committed
        self.reviews = Reviews()
        self.log = RequestLog()
        self.faults: Interceptor = PASS
        self.frontends: dict[str, Frontend] = {}
        self._ordinals = itertools.count(1)
        for name in namespaces:
            self.ensure_namespace(name)
        self.log.clear()

    @property
    def caller(self) -> Caller:
        """What calls webhooks of admission and conversion; an HTTP front brings one for real HTTPS."""
        return self.webhooks.caller

    @caller.setter
    def caller(self, caller: Caller) -> None:
        self.webhooks.caller = caller

    # Fronts

    def frontend(self, name: str = "apiserver-0") -> Frontend:
        """Return the API server process called *name*, started on first use."""
        found = self.frontends.get(name)
        if found is None:
            found = self.frontends[name] = Frontend(self.storage, name)
        return found

    def transport(
        self, actor: str = "", *, frontend: str | Frontend = "apiserver-0", latency: float = 0.0
    ) -> InProcessTransport:
        """Return a transport for *actor*; ``""`` takes the user agent of each request instead."""
        front = self.frontend(frontend) if isinstance(frontend, str) else frontend
        return InProcessTransport(self, actor, front, latency=latency)

    def call(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        actor: str = "",
        controller: str = "",
        frontend: Frontend | None = None,
    ) -> Call:
        """Return a request as the server sees it. *target* is the path with its query."""
        path, _, query = target.partition("?")
        lower = {name.lower(): value for name, value in headers.items()}
        agent = lower.get("user-agent", "")
        return Call(
            ordinal=next(self._ordinals),
            actor=actor or agent or "anonymous",
            method=method,
            path=urllib.parse.unquote(path),
            query=dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
            headers=lower,
            body=body,
            frontend=frontend if frontend is not None else self.frontend(),
            time=self.clock.now(),
            user_agent=agent,
            controller=controller,
        )

    async def handle(self, call: Call) -> Answer:
        """Answer *call*, through the hook, and log it. Raises TransportError when the hook does."""
        self.log.calls.append(call)
        if self.faults is PASS:
            return await self._serve(call)
        with contextlib.suppress(Failure):
            # The hook sees what the request means; that it means nothing is said later, by the answer.
            resolve(call, self.registry)
        answer = await self.faults.request(call, lambda: self._serve(call))
        call.code = answer.status
        return answer

    async def _serve(self, call: Call) -> Answer:
        try:
            answer = await route(call, self.registry, self.operations, self.reviews)
        except Failure as failure:
            call.code, call.reason = failure.code, failure.reason
            return Answer(failure.code, failure.body(), failure.headers(), warnings=tuple(dict.fromkeys(call.warnings)))
        call.code = answer.status
        answer.warnings = tuple(dict.fromkeys(call.warnings))
        return answer

    # What the server does by itself

    def _committed(self, info: ResourceType, old: Record | None, new: Record | None) -> None:
        if info.table in TABLES:
            self.webhooks.forget()
        if info.name != DEFINITIONS:
            return
        if old is not None:
            self._forget(definition_type(old.obj), gone=new is None)
        if new is not None and not new.obj["metadata"].get("deletionTimestamp"):
            info = self._converting(definition_type(new.obj))
            self.registry.add(info)
            if old is not None and old.obj["spec"].get("conversion") != new.obj["spec"].get("conversion"):
                for front in self.frontends.values():
                    front.close_watches(info.table)  # whoever watches asks again, and the other webhook converts
            status = established(new.obj, self.clock.now())
            if status != new.obj.get("status"):
                key = Key("", new.obj["metadata"]["name"])
                changed = {**new.obj, "metadata": dict(new.obj["metadata"]), "status": status}
                self.storage.put(DEFINITIONS, key, changed, actor="apiserver", now=self.clock.now())

    def _converting(self, info: ResourceType) -> ResourceType:
        conversion = (info.definition or {}).get("conversion") or {}
        if conversion.get("strategy") != "Webhook":
            return info
        return replace(info, converter=Converter(conversion, lambda: self.caller, self.rng))

    def _forget(self, info: ResourceType, *, gone: bool) -> None:
        self.registry.remove(info.name)
        if gone:
            for key in list(self.storage.table(info.table).keys):
                self.storage.remove(info.table, key, actor="apiserver", now=self.clock.now())

    # For tests and actors: without a transport, without the hook, and without a turn of the loop

    def do(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        actor: str = "test",
        content_type: str = "application/json",
        accept: str = "",
    ) -> Any:
        """Send one request and return the decoded answer. Raises Failure, and MustWait when a webhook is slow."""
        call = self._direct(method, target, body, actor, content_type, accept)
        coroutine = self._decoded(call)
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        coroutine.close()
        raise MustWait(lambda: self._decoded(self._direct(method, target, body, actor, content_type, accept)))

    async def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        actor: str = "test",
        content_type: str = "application/json",
        accept: str = "",
    ) -> Any:
        """Do the same as :meth:`do`, and wait for webhooks. Raises Failure."""
        return await self._decoded(self._direct(method, target, body, actor, content_type, accept))

    def _direct(self, method: str, target: str, body: Any, actor: str, content_type: str, accept: str) -> Call:
        headers = {"content-type": content_type, "accept": accept}
        call = self.call(
            method, target, headers=headers, body=None if body is None else orjson.dumps(body), actor=actor
        )
        self.log.calls.append(call)
        return call

    async def _decoded(self, call: Call) -> Any:
        try:
            answer = await route(call, self.registry, self.operations, self.reviews)
        except Failure as failure:
            call.code, call.reason = failure.code, failure.reason
            raise
        call.code = answer.status
        return orjson.loads(answer.body) if answer.body else None

    def create(self, resource: Named, body: Body, *, actor: str = "test") -> Body:
        """Create *body*; kind, apiVersion and the namespace ``default`` are filled in. Raises Failure."""
        info = self._info(resource)
        meta = body.get("metadata") or {}
        namespace = (meta.get("namespace") or "default") if info.namespaced else ""
        version = self._version(resource, info)
        full = {"apiVersion": info.api_version(version), "kind": info.kind, **body}
        created: Body = self.do("POST", _path(info, version, namespace), full, actor=actor)
        return created

    def get(self, resource: Named, name: str, namespace: str = "default") -> Body | None:
        """Return the object as it is stored, or ``None``. It must not be changed."""
        info = self._info(resource)
        record = self.storage.get(info.table, Key(namespace if info.namespaced else "", name))
        return None if record is None else info.in_version(record.obj, self._version(resource, info))

    def list(self, resource: Named, namespace: str = "", *, labels: Mapping[str, str] | None = None) -> list[Body]:
        """Return all objects, or those of *namespace*, whose labels contain *labels*. They must not be changed."""
        info = self._info(resource)
        snapshot = self.storage.snapshot(info.table)
        low, high = snapshot.span(namespace)
        wanted = (labels or {}).items()
        found = (snapshot.records[key].obj for key in snapshot.keys[low:high])
        return [
            info.in_version(obj, self._version(resource, info))
            for obj in found
            if wanted <= (obj["metadata"].get("labels") or {}).items()
        ]

    def patch(
        self,
        resource: Named,
        name: str,
        patch: Any,
        namespace: str = "default",
        *,
        subresource: str = "",
        content_type: str = MERGE,
        actor: str = "test",
    ) -> Body:
        """Patch an object. Raises Failure."""
        info = self._info(resource)
        path = _path(info, self._version(resource, info), namespace, name, subresource)
        patched: Body = self.do("PATCH", path, patch, actor=actor, content_type=content_type)
        return patched

    def edit(
        self,
        resource: Named,
        name: str,
        change: Callable[[Body], None],
        namespace: str = "default",
        *,
        subresource: str = "",
        actor: str = "test",
    ) -> Body:
        """Let *change* edit a copy of the object, and put it back. Raises Failure."""
        info = self._info(resource)
        path = _path(info, self._version(resource, info), namespace, name)
        body = self.do("GET", path, actor=actor)
        change(body)
        put: Body = self.do("PUT", f"{path}/{subresource}" if subresource else path, body, actor=actor)
        return put

    def delete(
        self, resource: Named, name: str, namespace: str = "default", *, actor: str = "test", **options: Any
    ) -> Body:
        """Delete an object; *options* are the fields of DeleteOptions. Raises Failure."""
        info = self._info(resource)
        path = _path(info, self._version(resource, info), namespace, name)
        deleted: Body = self.do("DELETE", path, options or None, actor=actor)
        return deleted

    def ensure_namespace(self, name: str) -> None:
        """Create the namespace *name* unless it is there."""
        if self.get("namespaces", name) is None:
            self.create("namespaces", {"metadata": {"name": name}}, actor="apiserver")

    def commits(self, *, resource: Named | None = None, actor: str = "", after: int = 0) -> Sequence[Commit]:
        """Return what was committed, oldest first; *actor* is a prefix."""
        table = None if resource is None else self._info(resource).table
        return [
            c
            for c in self.storage.commits
            if c.rv > after and c.actor.startswith(actor) and (table is None or c.resource == table)
        ]

    def _info(self, resource: Named) -> ResourceType:
        info = self.registry.named(str(resource))
        if info is None:
            raise KeyError(
                f"{resource} is not served: register it with server.registry.add_custom(...) or create its CRD"
            )
        return info

    @staticmethod
    def _version(resource: Named, info: ResourceType) -> str:
        return info.versions[0] if isinstance(resource, str) else resource.version


def _path(info: ResourceType, version: str, namespace: str, name: str = "", subresource: str = "") -> str:
    base = f"/apis/{info.group}/{version}" if info.group else f"/api/{version}"
    parts = [base]
    if info.namespaced:
        parts += ["namespaces", namespace]
    parts += [part for part in (info.plural, name, subresource) if part]
    return "/".join(parts)
