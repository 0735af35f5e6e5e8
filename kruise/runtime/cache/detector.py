"""Compares what a store got with what the API server says.

Purpose: a streaming list and a list from the watch cache must equal a list from the database, object by object. If one
day they do not, a test shall fail, and not a cluster.

Guarantees: REF22: with ``KUBE_WATCHLIST_INCONSISTENCY_DETECTOR=true`` each streaming list, and with
``KUBE_LIST_FROM_CACHE_INCONSISTENCY_DETECTOR=true`` each other one, is read again at exactly its version and compared
in depth; a difference raises :class:`CacheInconsistent`. :func:`differences` compares a store at rest with a new list.

What this does not do: it is for tests and CI; it doubles the cost of a list. A version that the server has compacted
away in the meantime cannot be compared, and is not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from kruise.runtime.cache.host import Api, Host
from kruise.runtime.cache.scope import Scope
from kruise.runtime.cache.store import Store
from kruise.runtime.client.frames import Codec
from kruise.runtime.errors import ApiError, RuntimeFault, TransportError
from kruise.runtime.log import get_logger
from kruise.runtime.objects import Key, Object

STREAM_ENV: Final = "KUBE_WATCHLIST_INCONSISTENCY_DETECTOR"
LIST_ENV: Final = "KUBE_LIST_FROM_CACHE_INCONSISTENCY_DETECTOR"

log = get_logger("detector")


class CacheInconsistent(RuntimeFault):
    """A store differs from what the server says of the same version."""


class ListDetector:
    """Reads lists again and compares."""

    def __init__(self, *, streams: bool, lists: bool) -> None:
        self._streams = streams
        self._lists = lists
        self.compared = 0
        """How many lists were found equal."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> ListDetector | None:
        """Return the detector that the environment asks for, or None."""
        streams, lists = (env.get(name, "").lower() == "true" for name in (STREAM_ENV, LIST_ENV))
        return cls(streams=streams, lists=lists) if streams or lists else None

    async def check(
        self,
        host: Host,
        codec: Codec[Any],
        scope: Scope,
        version: str,
        got: Mapping[Key, Object],
        streamed: bool,
    ) -> None:
        """Compare *got* with the list at exactly *version*. Raises CacheInconsistent."""
        if not (self._streams if streamed else self._lists):
            return
        try:
            want = await _list(host.api, codec, scope, version=version, match="Exact")
        except (ApiError, TransportError) as error:
            log.info("a list could not be compared", resource=str(codec.resource), version=version, error=str(error))
            return
        found = _compare(got, want[1])
        if found:
            raise CacheInconsistent(
                f"{codec.resource} at version {version} differs from the server's list:\n" + "\n".join(found)
            )
        self.compared += 1


async def differences(api: Api, store: Store[Any], codec: Codec[Any], scope: Scope) -> list[str]:
    """Return how *store*, at rest, differs from a new list of *scope*, by uid and version; ``[]`` when it does not."""
    _, want = await _list(api, codec, scope)
    objects = (*store.list(), *store.unreadable())
    got = {o.key: o for o in objects if not scope.namespace or o.metadata.namespace == scope.namespace}
    return _compare(
        {k: _identity(o) for k, o in got.items()},
        {k: _identity(o) for k, o in want.items()},
    )


def _identity(obj: Object) -> tuple[str, str]:
    return obj.uid, obj.resource_version


async def _list(
    api: Api, codec: Codec[Any], scope: Scope, *, version: str = "", match: str = ""
) -> tuple[str, dict[Key, Object]]:
    page = await api.list_page(
        codec.resource,
        namespace=scope.namespace,
        label_selector=scope.label_selector,
        field_selector=scope.field_selector,
        resource_version=version,
        resource_version_match=match,
    )
    objects = [codec.read(raw) for raw in page.items]
    return page.resource_version, {obj.key: obj for obj in objects}


def _compare(got: Mapping[Key, Any], want: Mapping[Key, Any]) -> list[str]:
    lines = [f"  {key}: the cache lacks it" for key in want if key not in got]
    lines += [f"  {key}: the server lacks it" for key in got if key not in want]
    lines += [f"  {key}: {_what(got[key], want[key])}" for key in got if key in want and got[key] != want[key]]
    return lines


def _what(got: Any, want: Any) -> str:
    """Say how two objects differ, without a value that might be secret."""
    if not isinstance(got, Object) or type(got) is not type(want):
        return f"cache {_short(got)}, server {_short(want)}"
    fields = [name for name in got.__struct_fields__ if getattr(got, name) != getattr(want, name)]
    return f"cache {_short(got)}, server {_short(want)}, differing in {', '.join(fields)}"


def _short(value: Any) -> str:
    if isinstance(value, Object):
        return f"{type(value).__name__} uid {value.uid} version {value.resource_version}"
    uid, version = value
    return f"uid {uid} version {version}"
