"""An object that may take others over, for the length of one pass.

Purpose: nothing is adopted before a live read has shown that the owner is the same and not being deleted; one read
serves a whole pass (reliability, rule 10).

What this does not do: it adopts nothing.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

from kruise.runtime.client.client import Client
from kruise.runtime.errors import NotFound
from kruise.runtime.objects import Object, Resource

__all__ = ["Owner", "may_adopt"]

T = TypeVar("T", bound=Object)


def may_adopt(owner: Object, live: Object | None) -> bool:
    """Tell whether *live*, what a live read of *owner* found, is still the object that wants to adopt."""
    return live is not None and live.uid == owner.uid and not live.terminating


class Owner(Generic[T]):
    """The owner of a pass."""

    def __init__(self, client: Client, resource: Resource[Any], obj: T) -> None:
        self.resource: Final = resource
        self.obj: Final = obj
        self._client = client
        self._may: bool | None = None

    async def may_adopt(self) -> bool:
        """Tell whether the owner, read live once, may adopt anything. Raises what the read raises."""
        if self._may is None:
            try:
                live = await self._client.live.get(self.resource, self.obj.key)
            except NotFound:
                live = None
            self._may = may_adopt(self.obj, live)
        return self._may
