"""What all reflectors share that talk to one API server.

Purpose: many informers fail, relist and learn about their server together, as one client and not as many.

Guarantees:

* BAK2: one back-off for the failures of the server as a whole.
* REF10: whether the server takes streaming lists of a resource is remembered until the server's version changes.
* REF15: a server that has once shown a bookmark of a resource is known to send them.
* REF16: ``timeoutSeconds`` of a watch is drawn per watch; a range below 300 s is logged as a warning.
* REF18: at most ``relist_limit`` lists after the first ones run at a time, each after a random pause.
* CAC5: :meth:`Host.served` asks the discovery of a group, for which no right beyond that of every account is needed.

What this does not do: it keeps nothing about a single reflector.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from kruise.runtime.backoff import HostBackoff
from kruise.runtime.client.transport import ByteStream, Response
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import ConfigError, Forbidden, RuntimeFault, Unauthorized
from kruise.runtime.log import get_logger
from kruise.runtime.objects import Resource

USUAL_WATCH: Final = 300
"""Seconds. A shorter watch makes the API server open more of them than it expects."""

RELIST_JITTER: Final = 0.5
"""Seconds: the longest pause before a relist asks for its permit."""

log = get_logger("informer")


class Page(Protocol):
    """One page of a LIST."""

    @property
    def resource_version(self) -> str: ...
    @property
    def continue_token(self) -> str: ...
    @property
    def items(self) -> Sequence[msgspec.Raw]: ...


class Api(Protocol):
    """The part of the REST client that a cache needs; :class:`~kruise.runtime.client.rest.Rest` is one."""

    async def list_page(
        self,
        resource: Resource[Any],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
        resource_version_match: str = "",
    ) -> Page:
        """Return one page. Raises ApiError or TransportError."""
        ...

    async def watch(
        self,
        resource: Resource[Any],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        timeout_seconds: int,
        send_initial_events: bool = False,
        resource_version_match: str = "",
        bookmarks: bool = True,
    ) -> ByteStream:
        """Open a watch. Raises ApiError or TransportError."""
        ...

    async def get_path(self, path: str) -> Response:
        """Read a path that is no resource. Raises ApiError or TransportError."""
        ...


class _Version(msgspec.Struct, rename="camel"):
    git_version: str = ""


class _Served(msgspec.Struct):
    name: str = ""


class _Group(msgspec.Struct):
    resources: list[_Served] = []


class Host:
    """One API server, as all reflectors of a process see it."""

    def __init__(
        self,
        api: Api,
        *,
        clock: Clock,
        rng: Random,
        watch_timeout: tuple[int, int] = (300, 600),
        relist_limit: int = 2,
    ) -> None:
        low, high = watch_timeout
        if not 1 <= low <= high:
            raise ConfigError(f"watch timeout {low} to {high} s: the range must start at 1 or above and not be empty")
        if relist_limit < 1:
            raise ConfigError(f"relist limit {relist_limit}: at least 1 is needed")
        if low < USUAL_WATCH:
            log.warning("watches are shorter than usual", seconds=low, usual=USUAL_WATCH)
        self.api = api
        self.clock = clock
        self.rng = rng
        self.backoff = HostBackoff(rng)
        self._range = (low, high)
        self._permits = asyncio.Semaphore(relist_limit)
        self._refused: dict[Resource[Any], str] = {}
        self._bookmarked: set[Resource[Any]] = set()

    def watch_seconds(self) -> int:
        """Return how long the next watch shall last (REF16)."""
        return self.rng.randint(*self._range)

    async def acquire(self) -> None:
        """Wait for a permit to relist, after a random pause (REF18). Give it back with :meth:`release`."""
        await self.clock.sleep(self.rng.random() * RELIST_JITTER)
        await self._permits.acquire()

    def release(self) -> None:
        """Give a permit back."""
        self._permits.release()

    def saw_bookmark(self, resource: Resource[Any]) -> None:
        """Note that the server sends bookmarks for *resource* (REF15)."""
        self._bookmarked.add(resource)

    def sends_bookmarks(self, resource: Resource[Any]) -> bool:
        """Tell whether the server has ever sent a bookmark for *resource*."""
        return resource in self._bookmarked

    async def streams(self, resource: Resource[Any]) -> bool:
        """Tell whether a streaming list of *resource* is worth a try (REF10)."""
        refused_by = self._refused.get(resource)
        if refused_by is None:
            return True
        version = await self._server_version()
        if version in ("", refused_by):
            return False
        log.info("the server's version changed, streaming lists are tried again", resource=str(resource), now=version)
        del self._refused[resource]
        return True

    async def refuse_streams(self, resource: Resource[Any]) -> None:
        """Remember that this server, in its present version, does not stream lists of *resource*."""
        self._refused[resource] = await self._server_version()

    async def served(self, resource: Resource[Any]) -> bool:
        """Tell whether discovery shows *resource* (CAC5). True as well where discovery itself is not permitted."""
        try:
            answer = await self.api.get_path(resource.base)
            group = msgspec.json.decode(answer.body, type=_Group)
        except (Forbidden, Unauthorized):
            return True
        except (RuntimeFault, msgspec.DecodeError):
            return False
        return any(one.name == resource.plural for one in group.resources)

    async def _server_version(self) -> str:
        try:
            answer = await self.api.get_path("/version")
            return msgspec.json.decode(answer.body, type=_Version).git_version
        except (RuntimeFault, msgspec.DecodeError):
            return ""
