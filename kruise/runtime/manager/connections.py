"""The connections of a server, until their sockets are closed.

Purpose: aiohttp forgets a connection when it has told it to close. Under TLS a goodbye is sent then, and the socket
stays open until the client has answered; a loop that ends before leaves it behind.

Guarantees:

* HTP1, WEB8: after :meth:`Connections.part` no socket is open. Clients have a second to say goodbye; then their
  connections are cut, since everything that they asked for was answered.

What this does not do: it lets no request finish; the server does that before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

__all__ = ["Connections"]

GOODBYE: Final = 1.0
"""Seconds for clients to close their side."""


class Connections(web.Server):
    """aiohttp's low-level server, which knows what is still open."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any) -> None:
        super().__init__(handler, **options)
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        self._changed = asyncio.Event()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take in a connection."""
        self._open[handler] = transport
        super().connection_made(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection: its socket is closed."""
        self._open.pop(handler, None)
        self._changed.set()
        super().connection_lost(handler, exc)

    async def part(self) -> None:
        """Wait until every socket is closed; cut what is open after :data:`GOODBYE`."""
        if not await self._parted():
            for transport in list(self._open.values()):
                transport.abort()
            await self._parted()

    async def _parted(self) -> bool:
        try:
            async with asyncio.timeout(GOODBYE):
                while self._open:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True
