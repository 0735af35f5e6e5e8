"""Reads: from the cache, and live.

Purpose: make it visible at each read where its answer comes from.

Guarantees:

* CLI1: :class:`Reader` reads the cache and never waits; :class:`Live` asks the server, with a quorum read.
* CLI8: a read of what was not declared, a type or an index, raises ResourceNotCached and names the missing line.
* RES8: a live list is read page by page.
* FRA5: one object that does not fit its type costs a live list nothing but that object.

What this does not do: it starts no informer and scans no store.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import msgspec

from kruise.runtime.client.frames import Codec
from kruise.runtime.client.rest import Rest
from kruise.runtime.errors import ResourceNotCached
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, Resource, Unreadable

T = TypeVar("T", bound=Object)


class CacheReader(Protocol):
    """What a client needs of a cache."""

    def get(self, resource: Resource[T], key: Key) -> T | None:
        """Return the cached object, or None. Raises ResourceNotCached."""
        ...

    def list(
        self, resource: Resource[T], *, namespace: str | None = None, index: tuple[str, str] | None = None
    ) -> tuple[T, ...]:
        """Return cached objects, by index ``(name, value)`` if given. Raises ResourceNotCached."""
        ...


class Reader:
    """Reads from the cache (CLI1)."""

    def __init__(self, cache: CacheReader | None) -> None:
        self._cache = cache

    def get(self, resource: Resource[T], key: Key) -> T | None:
        """Return the cached object, or None when there is none. Never waits. Raises ResourceNotCached."""
        return self._reader(resource).get(resource, key)

    def list(
        self,
        resource: Resource[T],
        *,
        namespace: str | None = None,
        index: tuple[str, str] | None = None,
        field_selector: str = "",
    ) -> tuple[T, ...]:
        """Return cached objects of *namespace* (None: of all), by *index* ``(name, value)`` if given. Never waits.

        A *field_selector* is one term ``field=value``, for which an index of the field's name was declared. Raises
        ResourceNotCached for an undeclared type or index; there is no full scan behind anybody's back (CLI8).
        """
        if field_selector:
            if index is not None:
                raise ValueError("give an index or a field selector, not both")
            index = _field_index(resource, field_selector)
        return self._reader(resource).list(resource, namespace=namespace, index=index)

    def _reader(self, resource: Resource[Any]) -> CacheReader:
        if self._cache is None:
            raise ResourceNotCached(
                f"this client has no cache, so it cannot read {resource}; give it one that declares "
                f"cache.watch({resource}), or read with client.live"
            )
        return self._cache


def _field_index(resource: Resource[Any], selector: str) -> tuple[str, str]:
    name, sign, value = selector.partition("=")
    value = value.removeprefix("=")
    if not sign or "," in selector or name.endswith("!") or not name.strip():
        raise ResourceNotCached(
            f"the field selector {selector!r} of {resource} is not one term field=value, which alone an index can "
            f"answer; declare an index for it, or read with client.live"
        )
    return name.strip(), value.strip()


class Live:
    """Reads from the server, with a quorum (CLI1). Every call waits and can be cancelled."""

    def __init__(self, rest: Rest, codecs: Codecs) -> None:
        self._rest = rest
        self._codecs = codecs

    async def get(self, resource: Resource[T], key: Key) -> T:
        """Return the object as it is now. Raises NotFound, DecodeError, other ApiErrors, TransportError."""
        answer = await self._rest.call("get", "GET", resource, namespace=key.namespace, name=key.name)
        return self._codecs.of(resource).decode(answer.body)

    async def list(
        self, resource: Resource[T], *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> list[T | Unreadable]:
        """Return all objects that the selectors match, page by page. One that does not fit comes as Unreadable."""
        codec = self._codecs.of(resource)
        found: list[T | Unreadable] = []
        async for page in self._rest.pages(
            resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        ):
            found.extend(codec.read(item) for item in page.items)
        return found

    async def server_version(self) -> str:
        """Return the ``gitVersion`` of the server, ``""`` when it names none. Raises ApiError, TransportError."""
        answer = await self._rest.get_path("/version")
        try:
            return msgspec.json.decode(answer.body, type=_Version).git_version
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""


class _Version(msgspec.Struct, rename="camel"):
    git_version: str = ""


class Codecs:
    """One codec for each projection, made when it is first needed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._made: dict[tuple[Resource[Any], type], Codec[Any]] = {}

    def of(self, resource: Resource[T]) -> Codec[T]:
        """Return the codec of *resource*."""
        key = (resource, resource.struct)
        if key not in self._made:
            self._made[key] = Codec(resource, metrics=self._metrics)
        codec: Codec[T] = self._made[key]
        return codec
