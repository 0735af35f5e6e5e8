"""Webhooks for probes: one HTTPS server on loopback, which both kinds of API server can reach.

Purpose: a probe says what its webhooks answer, registers them, and looks at what they were asked.

Guarantees:

* TST7: webhooks of one probe concern its namespace only. A configuration is used as soon as the server under test has
  seen it, and not before: a real one learns of it a moment after it was written.

What this does not do: it judges nothing.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from kruise.runtime.clock import SystemClock
from kruise.simulator.apiserver.access import make_certificates

Body = dict[str, Any]
Says = Callable[[Body], Any]
"""From a review to what is answered: a response without its uid, or a web.Response; perhaps after a while."""

READY: Final = "webhooks-ready"
"""A label that only the set-up of a probe gives to an object."""


def patching(*operations: Body) -> Body:
    """Return a response with a JSON patch."""
    text = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": text}


def setting(path: str, value: Any) -> Says:
    """Return a webhook that adds one value."""
    return lambda _review: patching({"op": "add", "path": path, "value": value})


def allowing(_review: Body) -> Body:
    """Let everything pass."""
    return {"allowed": True}


class HookServer:
    """Answers reviews over HTTPS. Own it with ``async with``."""

    def __init__(self) -> None:
        certificates = make_certificates(now=SystemClock().now())
        self._tls = certificates.context()
        self.bundle = base64.b64encode(certificates.authority).decode()
        self.url = ""
        self.asked: list[tuple[str, Body]] = []
        """Path and request of each review, oldest first."""
        self._says: dict[str, Says] = {}
        self._runner = web.ServerRunner(web.Server(self._answer, handler_cancellation=True), shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def say(self, path: str, says: Says) -> Body:
        """Let *says* answer at *path*; return the ``clientConfig`` for it."""
        self._says[path] = says
        return {"url": self.url + path, "caBundle": self.bundle}

    def take(self, prefix: str) -> list[tuple[str, Body]]:
        """Return the paths, without *prefix*, and requests of what was asked there, and forget it."""
        found = [(path.removeprefix(prefix), request) for path, request in self.asked if path.startswith(prefix)]
        self.asked = [one for one in self.asked if not one[0].startswith(prefix)]
        return found

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        review = json.loads(await request.read())
        self.asked.append((request.path, review["request"]))
        says = self._says.get(request.path)
        if says is None:
            return web.Response(status=404, text="there is no such webhook")
        said = says(review)
        if inspect.isawaitable(said):
            said = await said
        if isinstance(said, web.StreamResponse):
            return said
        response = {"uid": review["request"]["uid"], **said}
        return web.json_response({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response})


async def slowly(seconds: float, said: Body) -> Body:
    """Answer after a while."""
    await asyncio.sleep(seconds)
    return said
