"""RFC 6902 patches out of fragments that are bytes already.

Purpose: say what changes in a pod without making the pod.

Guarantees: only ``add``, ``test`` and ``replace`` of one element or one annotation; a list that exists is never
replaced as a whole, so nothing that another webhook wrote can be lost (C2, X35). A replaced element is tested by its
name first. An empty patch is ``b""``.

What this does not do: it does not apply patches; whoever sends one applies it first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Final

import msgspec

__all__ = ["PodPatch"]


_encode: Final = msgspec.json.Encoder().encode


@lru_cache(maxsize=4096)
def _text(value: str) -> bytes:
    return msgspec.json.encode(value)


@lru_cache(maxsize=4096)
def _head(op: str, path: str) -> bytes:
    """Return an operation up to its value."""
    return b'{"op":%b,"path":%b,"value":' % (_text(op), _text(path))


@lru_cache(maxsize=4096)
def _annotation(op: str, key: str) -> bytes:
    """Return an operation on an annotation up to its value."""
    return _head(op, "/metadata/annotations/" + key.replace("~", "~0").replace("/", "~1"))


class PodPatch:
    """The operations on one pod, in order."""

    __slots__ = ("_operations",)

    def __init__(self) -> None:
        self._operations: list[bytes] = []

    def _add(self, path: str, value: bytes) -> None:
        self._operations.append(b"%b%b}" % (_head("add", path), value))

    def annotations(self, before: Mapping[str, str] | None, after: Mapping[str, str], *, metadata: bool) -> None:
        """Make the annotations *after* out of *before*; ``None``: there is no map. *metadata*: whether the pod has any.

        No annotation is ever removed.
        """
        if before is None:
            if after:
                values = msgspec.json.encode(after)
                self._add(
                    "/metadata/annotations" if metadata else "/metadata",
                    values if metadata else b'{"annotations":%b}' % values,
                )
            return
        for key, value in after.items():
            known = before.get(key)
            if known == value:
                continue
            head = _annotation("add" if known is None else "replace", key)
            self._operations.append(b"%b%b}" % (head, _encode(value)))

    def elements(self, path: str, *, exists: bool, first: Collection[bytes], last: Collection[bytes]) -> None:
        """Put elements before and after those of the list at *path*, which may be missing."""
        if not exists:
            values = [*first, *last]
            if values:
                self._add(path, b"[%b]" % b",".join(values))
            return
        for index, value in enumerate(first):
            self._add(f"{path}/{index}", value)
        if last:
            end = _head("add", f"{path}/-")
            self._operations += [b"%b%b}" % (end, value) for value in last]

    def replace(self, path: str, index: int, name: str, value: bytes) -> None:
        """Replace the element called *name*, which stands at *index* of the list as it came."""
        self._operations.append(b"%b%b}" % (_head("test", f"{path}/{index}/name"), _text(name)))
        self._operations.append(b"%b%b}" % (_head("replace", f"{path}/{index}"), value))

    def encode(self) -> bytes:
        """Return the patch as JSON; ``b""`` when nothing changes."""
        return b"[%b]" % b",".join(self._operations) if self._operations else b""
