"""A manager with its webhooks over an API server in memory, and short words for what an API server would ask it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from kruise import app
from kruise.options import Options
from kruise.runtime.client.transport import ByteStream, Request, Response, Transport
from kruise.runtime.clock import Random
from kruise.runtime.manager.http import Call, Reply
from kruise.runtime.manager.manager import Manager
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, eventually, run_virtual
from kruise.runtime.webhook.patching import apply_patch
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.embedded import read_definitions

JSON = dict[str, Any]
Wrap = Callable[[Transport], Transport]

CRDS: Final = Path(__file__).parents[3] / "config" / "crd" / "bases"
OWN: Final = "kruise-system"
HEADERS: Final = {"content-type": "application/json"}


@cache
def definitions() -> tuple[JSON, ...]:
    """Return what is shipped; a server keeps a copy."""
    return tuple(read_definitions(CRDS))


def options(**more: Any) -> Options:
    """Options of a manager without ports."""
    settings: JSON = {"metrics_addr": "0", "health_probe_addr": "0", "shutdown_delay": 0.0, **more}
    return Options(**settings)


@dataclass
class Decision:
    """An answer to an admission review, taken apart."""

    status: int
    allowed: bool = False
    obj: JSON = field(default_factory=dict)
    """The object of the request with the patch in it."""
    patch: list[JSON] = field(default_factory=list)
    code: int = 0
    message: str = ""
    fields: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    text: str = ""
    """The body, where it is no review."""


def review(
    obj: JSON | None,
    old: JSON | None = None,
    *,
    operation: str = "",
    version: str = "",
    namespace: str = "shop",
    user: str = "ann",
    plural: str = "",
    dry_run: bool = False,
) -> bytes:
    """The bytes of a review of *obj*, as an API server sends them."""
    known = obj or old or {}
    group, _, spoken = known.get("apiVersion", "v1").rpartition("/")
    kind = known.get("kind", "Pod")
    meta = known["metadata"] if isinstance(known.get("metadata"), dict) else {}
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": version or spoken, "kind": kind},
        "resource": {"group": group, "version": version or spoken, "resource": plural or f"{kind.lower()}s"},
        "name": str(meta.get("name", "")),
        "namespace": "" if kind == "SidecarSet" else str(meta.get("namespace", namespace)),
        "operation": operation or ("CREATE" if old is None else "DELETE" if obj is None else "UPDATE"),
        "userInfo": {"username": user},
        "object": obj,
        "oldObject": old,
        "dryRun": dry_run,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def decision(reply: Reply, obj: JSON | None) -> Decision:
    """Take *reply* apart."""
    if reply.status != 200:
        return Decision(reply.status, text=reply.body.decode())
    answer = json.loads(reply.body)["response"]
    found = Decision(200, answer["allowed"], warnings=answer.get("warnings", []))
    if "patch" in answer:
        found.patch = json.loads(base64.b64decode(answer["patch"]))
    found.obj = apply_patch(obj, found.patch) if found.patch else dict(obj or {})
    status = answer.get("status", {})
    found.code, found.message = status.get("code", 0), status.get("message", "")
    found.fields = [one["field"] for one in status.get("details", {}).get("causes", [])]
    return found


class Denying:
    """A transport on which some verbs of some resources are forbidden, as the authorizer says it."""

    def __init__(self, inner: Transport, resource: str, verb: str) -> None:
        self._inner, self._resource, self._verb = inner, resource, verb

    async def request(self, request: Request) -> Response:
        if request.verb == self._verb and f"/{self._resource}/" in request.path:
            status = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "not allowed"}
            return Response(403, {"content-type": "application/json"}, json.dumps(status).encode())
        return await self._inner.request(request)

    async def stream(self, request: Request) -> ByteStream:
        return await self._inner.stream(request)

    async def close(self) -> None:
        await self._inner.close()


class WebhookWorld:
    """Make one with :func:`webhooks`."""

    def __init__(
        self, clock: VirtualClock, settings: Options, *, server: ApiServer | None = None, wrap: Wrap | None = None
    ) -> None:
        """Build a manager; with *server* it is a further replica there. *wrap* stands between it and the server."""
        self.clock = clock
        self.server = server or ApiServer(clock, Random(1))
        for namespace in (OWN, "shop") if server is None else ():
            self.server.ensure_namespace(namespace)
        for definition in definitions() if server is None else ():
            self.server.create("customresourcedefinitions.apiextensions.k8s.io", definition)
        self.metrics = Metrics(process=False)
        transport: Transport = self.server.transport("kruise-manager")
        self.manager: Manager = app.build(
            wrap(transport) if wrap is not None else transport,
            settings,
            clock=clock,
            rng=Random(2 if server is None else 3),
            metrics=self.metrics,
            certificates=False,
        )
        self.manager.options = replace(self.manager.options, freeze_heap=False)

    async def ready(self) -> None:
        """Wait until the caches are complete."""
        await eventually(lambda: self.manager.cache.has_synced, self.clock)
        await asyncio.sleep(0.1)

    async def call(self, path: str, body: bytes) -> Reply:
        assert self.manager.webhooks is not None
        return await self.manager.webhooks.answer(Call("POST", path, headers=HEADERS, body=body))

    async def ask(self, path: str, obj: JSON | None, old: JSON | None = None, **more: Any) -> Decision:
        """Ask for one admission."""
        return decision(await self.call(path, review(obj, old, **more)), obj)

    async def convert(self, version: str, *objects: JSON) -> JSON:
        """Ask for one conversion; return the response."""
        request = {"uid": "1", "desiredAPIVersion": version, "objects": list(objects)}
        body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request}
        reply = await self.call("/convert", json.dumps(body).encode())
        assert reply.status == 200, reply.body
        found: JSON = json.loads(reply.body)["response"]
        return found

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def webhooks(scenario: Callable[[WebhookWorld], Awaitable[None]], *, running: bool = True, **settings: Any) -> None:
    """Run *scenario* in virtual time with a manager that runs, or with one that has not been started."""

    wrap = settings.pop("wrap", None)

    async def main(clock: VirtualClock) -> None:
        world = WebhookWorld(clock, options(**settings), wrap=wrap)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(world.manager.run()) if running else None
            if running:
                await world.ready()
            await scenario(world)
            if task is not None:
                world.manager.stop()
                await task

    run_virtual(main, seed=1)
