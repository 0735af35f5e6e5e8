"""The front over HTTP: the same server behind a socket.

Purpose: for clients that need one: the runtime's own HTTP transport in its tests, kubectl, the demo.

Guarantees:

* TST1, TST2: the same answers as in process, through the same hook and log. Watches are sent line by line; a broken
  stream is a broken connection. Webhooks are called over HTTPS.

What this does not do: no authorization; :class:`~kruise.simulator.apiserver.access.Access` says who is let in, and the
actor of a request is its user agent. Not for the virtual loop, which has no sockets.

Example::

    async with HttpFront(server) as front:
        config = ClusterConfig(host=front.url, ...)
"""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from kruise.runtime.errors import TransportError
from kruise.simulator.apiserver.access import Access
from kruise.simulator.apiserver.bodies import MAX_BODY
from kruise.simulator.apiserver.failure import Failure
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.transport import Stream
from kruise.simulator.apiserver.webhooks import nobody
from kruise.simulator.apiserver.webhooks_https import HttpsCaller

_LIMIT: Final = MAX_BODY + 1


class HttpFront:
    """Serves an :class:`ApiServer` on a port. Own it with ``async with``."""

    def __init__(
        self,
        server: ApiServer,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        frontend: str = "apiserver-0",
        access: Access | None = None,
    ) -> None:
        """*port* 0 takes a free one. Without *access* everybody is let in."""
        self._server = server
        self._host = host
        self._port = port
        self._tls = tls
        self._frontend = frontend
        self._access = access
        self._runner: web.ServerRunner | None = None
        self._streams: dict[Stream, None] = {}
        self._caller: HttpsCaller | None = None

    @property
    def url(self) -> str:
        """Where the server listens, such as ``http://127.0.0.1:40123``."""
        return f"{'https' if self._tls is not None else 'http'}://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen, and let the server call webhooks over HTTPS unless it calls them otherwise."""
        if self._server.caller is nobody:
            self._server.caller = self._caller = HttpsCaller(self._service)
        runner = self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port, ssl_context=self._tls).start()
        self._port = int(runner.addresses[0][1])

    async def stop(self) -> None:
        """End all streams and close the port."""
        for stream in list(self._streams):
            stream.cut(TransportError("the server stops"))
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._caller is not None:
            self._server.caller = nobody
            await self._caller.close()
            self._caller = None

    def _service(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self._server.get("services", name, namespace)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read(_LIMIT) if request.can_read_body else b""
        while request.can_read_body and len(body) < _LIMIT:
            more = await request.content.read(_LIMIT - len(body))
            if not more:
                break
            body += more
        user = "system:admin"
        if self._access is not None:
            try:
                user = self._access.check({name.lower(): value for name, value in request.headers.items()})
            except Failure as failure:
                return web.Response(status=failure.code, body=failure.body(), headers=failure.headers())
        call = self._server.call(
            request.method,
            request.raw_path if hasattr(request, "raw_path") else request.path_qs,
            headers=dict(request.headers),
            body=body or None,
            frontend=self._server.frontend(self._frontend),
        )
        call.http = True
        call.user = user
        try:
            answer = await self._server.handle(call)
        except TransportError:
            return _broken(request)
        if answer.stream is None:
            response = web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))
            for text in answer.warnings:
                response.headers.add("Warning", warning(text))
            return response
        stream = Stream(call, answer, self._server.faults)
        self._streams[stream] = None
        try:
            return await self._send(request, stream)
        finally:
            self._streams.pop(stream, None)

    async def _send(self, request: web.BaseRequest, stream: Stream) -> web.StreamResponse:
        response = web.StreamResponse(status=stream.status, headers=dict(stream.headers))
        response.enable_chunked_encoding()
        await response.prepare(request)
        async with stream:
            try:
                while True:
                    line = await stream.read_line()
                    if not line:
                        break
                    await response.write(line + b"\n")
            except TransportError:
                if stream.half:
                    await response.write(stream.half)
                return _broken(request, response)
            except ConnectionError:
                return response
        await response.write_eof()
        return response


def warning(text: str) -> str:
    """Return *text* as a ``Warning`` header."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{quoted}"'


def _broken(request: web.BaseRequest, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Drop the connection without an end of the answer."""
    if request.transport is not None:
        request.transport.close()  # what was written leaves first; what aiohttp adds to end the answer does not
    return response if response is not None else web.Response(status=500)
