"""One Lease behind the transport seam, as the API server keeps it, and a network that can be bad.

What it does not do: it serves the path of one Lease and its watch, nothing else.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import ByteStream, Pool, Request, Response
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import Reset, Timeout
from kruise.runtime.metrics import Metrics

MICRO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


def status(code: int, reason: str, message: str = "") -> Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
    return Response(code, {"content-type": "application/json"}, json.dumps(body).encode())


class LeaseServer:
    """Keeps one Lease and tells watchers what happens to it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lease: dict[str, Any] | None = None
        self.version = 100
        self.history: list[tuple[float, str, str]] = []
        """(monotonic time, verb, holder) of each write that succeeded."""
        self.requests: list[tuple[str, Request]] = []
        """(identity of the client, request), in the order of arrival."""
        self.namespace_exists = True
        self.watchers: list[_Stream] = []

    def holder(self) -> str:
        return (self.lease or {}).get("spec", {}).get("holderIdentity", "") or ""

    def count(self, verb: str, who: str | None = None) -> int:
        return sum(1 for name, request in self.requests if request.verb == verb and who in (None, name))

    def client(self, who: str, rng: Random | None = None, metrics: Metrics | None = None) -> tuple[Rest, Network]:
        """Return a client that identifies as *who*, and the network between it and this server."""
        network = Network(self, who)
        rest = Rest(
            network, clock=self.clock, rng=rng or Random(1), metrics=metrics or Metrics(process=False), host="test"
        )
        return rest.named("leader-election", pool=Pool.LEASE), network

    def apply(self, who: str, request: Request) -> Response:
        assert request.path.startswith("/apis/coordination.k8s.io/v1/namespaces/kruise-system/leases"), request.path
        assert request.pool is Pool.LEASE or request.verb == "watch"
        body = json.loads(request.body) if request.body else {}
        if request.verb == "get":
            return status(404, "NotFound", "not found") if self.lease is None else self._answer(200)
        for key in ("renewTime", "acquireTime"):
            if key in body["spec"] and not MICRO.match(body["spec"][key]):
                return status(422, "Invalid", f"spec.{key}: must have six fraction digits")
        if request.verb == "create":
            if not self.namespace_exists:
                return status(404, "NotFound", 'namespaces "kruise-system" not found')
            if self.lease is not None:
                return status(409, "AlreadyExists")
            self.lease = {**body, "metadata": {**body["metadata"], "uid": f"uid-{self.version}"}}
            return self._commit("ADDED", request, 201)
        assert request.verb == "patch", request
        assert request.headers["content-type"] == "application/merge-patch+json"
        if self.lease is None:
            return status(404, "NotFound")
        metadata = body["metadata"]
        assert metadata["resourceVersion"], "every patch is conditional"
        if metadata["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            return status(409, "Conflict", "the object has been modified")
        if metadata["uid"] != self.lease["metadata"]["uid"]:
            return status(422, "Invalid", "metadata.uid")
        self.lease = copy.deepcopy(self.lease)
        self.lease["spec"].update(body["spec"])
        self.lease["metadata"].setdefault("labels", {}).update(metadata.get("labels", {}))
        return self._commit("MODIFIED", request, 200)

    def delete(self) -> None:
        gone, self.lease = self.lease, None
        self.version += 1
        self._tell("DELETED", gone)

    def touch(self) -> None:
        """Change a label, as a person with kubectl does."""
        assert self.lease is not None
        self.lease = copy.deepcopy(self.lease)
        self.lease["metadata"].setdefault("labels", {})["touched"] = str(self.version)
        self.version += 1
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self._tell("MODIFIED", self.lease)

    def _commit(self, event: str, request: Request, code: int) -> Response:
        assert self.lease is not None
        self.version += 1
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.history.append((self.clock.monotonic(), request.verb, self.holder()))
        self._tell(event, self.lease)
        return self._answer(code)

    def _answer(self, code: int) -> Response:
        return Response(code, {"content-type": "application/json"}, json.dumps(self.lease).encode())

    def _tell(self, event: str, lease: Any) -> None:
        line = json.dumps({"type": event, "object": lease}).encode()
        for watcher in self.watchers:
            watcher.put(line)

    def cut_watches(self, error: Exception | None = None) -> None:
        for watcher in list(self.watchers):
            watcher.end(error)


class _Stream:
    """One watch."""

    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - as the protocol has it

    def __init__(self, server: LeaseServer, network: Network, version: int) -> None:
        self._server = server
        self._network = network
        self._lines: list[bytes] = []
        self._ended = False
        self._error: Exception | None = None
        self._wake = asyncio.Event()
        server.watchers.append(self)
        if server.lease is not None and int(server.lease["metadata"]["resourceVersion"]) > version:
            self.put(json.dumps({"type": "MODIFIED", "object": server.lease}).encode())

    def put(self, line: bytes) -> None:
        if not self._network.half_open:
            self._lines.append(line)
            self._wake.set()

    def end(self, error: Exception | None) -> None:
        self._ended, self._error = True, error
        self._wake.set()

    async def read_line(self) -> bytes:
        while not self._lines and not self._ended:
            self._wake.clear()
            await self._wake.wait()
        if self._lines:
            return self._lines.pop(0)
        if self._error is not None:
            raise self._error
        return b""

    def buffered(self) -> bool:
        return bool(self._lines)

    async def read_all(self) -> bytes:
        return b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.watchers.remove(self)


Fault = Callable[[Request], Awaitable[None]]


@dataclass
class Network:
    """What lies between one client and the server; a Transport."""

    server: LeaseServer
    who: str
    before: Fault | None = None
    """Awaited before a request arrives."""
    after: Fault | None = None
    """Awaited after a request was applied, before its answer arrives."""
    answer: Callable[[Request], Response | None] = field(default=lambda _request: None)
    """Answers instead of the server, when it returns something."""
    watch_fails: bool = False
    half_open: bool = False
    """Watches stay open and nothing comes."""

    async def request(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(request.timeout):
                if self.before is not None:
                    await self.before(request)
                self.server.requests.append((self.who, request))
                response = self.answer(request) or self.server.apply(self.who, request)
                if self.after is not None:
                    await self.after(request)
                return response
        except TimeoutError:
            raise Timeout("no answer in time") from None

    async def stream(self, request: Request) -> ByteStream:
        self.server.requests.append((self.who, request))
        if self.watch_fails:
            raise Reset("the watch cannot be opened")
        assert "fieldSelector=metadata.name%3Dkruise-manager" in request.path
        version = int(request.path.split("resourceVersion=")[1].split("&")[0])
        return _Stream(self.server, self, version)

    async def close(self) -> None: ...
