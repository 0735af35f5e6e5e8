"""One API server as a manager sees it.

Purpose: keep together what belongs to one API server, so that a manager can own more than one some day (MAN7).

Guarantees:

* LEA7: writes of leader-only clients carry the number of their term in the user agent, so that the audit log tells the
  writes of two leaders apart.

What this does not do: it owns no connection; closing the transport is for whoever made it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from kruise.runtime.cache.cache import Cache
from kruise.runtime.client.client import Client
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import ByteStream, Request, Response, Transport


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server: how to call it, its cache, its client."""

    name: str
    rest: Rest
    cache: Cache
    client: Client


class TermStamp:
    """Middleware that writes the number of the term into the user agent of leader-only writes (LEA7).

    ``term`` gives the number, or None outside of a term.
    """

    def __init__(self, term: Callable[[], int | None]) -> None:
        self._term = term
        self.controllers: set[str] = set()
        """The names whose writes need leadership."""

    async def call(self, request: Request, nxt: Transport) -> Response:
        term = self._term() if request.mutating and request.controller in self.controllers else None
        if term is not None:
            agent = request.headers.get("user-agent", "")
            headers = {**request.headers, "user-agent": f"{agent} term/{term}".strip()}
            request = dataclasses.replace(request, headers=headers)
        return await nxt.request(request)

    async def stream(self, request: Request, nxt: Transport) -> ByteStream:
        return await nxt.stream(request)
