"""The version of the API server, as an in-place resize asks for it.

Purpose: below 1.32 the resources of a running pod are changed in its spec, from there on through ``pods/resize``
(spec 7.3). Both ways are refused by the other kind of server.

Guarantees: it is asked for when somebody needs it, and again every five minutes, so that a server that is upgraded
under a running manager is noticed. While it cannot be asked the last answer counts; without one the error goes up.

What this does not do: it compares nothing; what a version means is said where resizes are planned.
"""

from __future__ import annotations

from typing import Final

from kruise.runtime.client.reader import Live
from kruise.runtime.clock import Clock
from kruise.runtime.errors import RuntimeFault
from kruise.runtime.log import get_logger

__all__ = ["ServerVersion"]

log = get_logger("statefulset")

GOOD_FOR: Final = 300.0
"""Seconds for which an answer is not asked for again."""


class ServerVersion:
    """Remembers the last answer of ``/version``."""

    def __init__(self, live: Live, clock: Clock) -> None:
        self._live = live
        self._clock = clock
        self._known: str | None = None
        self._until = 0.0

    async def get(self) -> str:
        """Return the version, such as ``v1.34.1``. Raises RuntimeFault when it was never answered."""
        now = self._clock.monotonic()
        if self._known is not None and now < self._until:
            return self._known
        try:
            self._known = await self._live.server_version()
        except RuntimeFault as error:
            if self._known is None:
                raise
            log.warning("the version of the API server cannot be asked, the last one counts", error=str(error))
        self._until = now + GOOD_FOR
        return self._known
