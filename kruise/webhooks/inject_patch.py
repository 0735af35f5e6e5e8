"""RFC 6902 patches out of fragments that are bytes already.

Purpose: say what changes in a pod without making the pod.

Guarantees: only ``add``, ``test`` and ``replace`` of one element or one annotation; a list that exists is never
replaced as a whole, so nothing that another webhook wrote can be lost (C2, X35). A replaced element is tested by its
name first. An empty patch is ``b""``.

What this does not do: it does not apply patches; whoever sends one applies it first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

__all__ = ["PodPatch"]


@lru_cache(maxsize=4096)
def _text(value: str) -> bytes:
    return msgspec.json.encode(value)


@lru_cache(maxsize=4096)
def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


class PodPatch:
    """The operations on one pod, in order."""

    __slots__ = ("_operations",)

    def __init__(self) -> None:
        self._operations: list[bytes] = []

    def _add(self, path: str, value: bytes) -> None:
        self._operations.append(b'{"op":"add","path":%b,"value":%b}' % (_text(path), value))

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
            path = "/metadata/annotations/" + _pointer(key)
            operation = b"add" if known is None else b"replace"
            self._operations.append(
                b'{"op":"%b","path":%b,"value":%b}' % (operation, _text(path), msgspec.json.encode(value))
            )

    def elements(self, path: str, *, exists: bool, first: Iterable[bytes], last: Iterable[bytes]) -> None:
        """Put elements before and after those of the list at *path*, which may be missing."""
        if not exists:
            values = [*first, *last]
            if values:
                self._add(path, b"[%b]" % b",".join(values))
            return
        for index, value in enumerate(first):
            self._add(f"{path}/{index}", value)
        for value in last:
            self._add(f"{path}/-", value)

    def replace(self, path: str, index: int, name: str, value: bytes) -> None:
        """Replace the element called *name*, which stands at *index* of the list as it came."""
        self._operations.append(b'{"op":"test","path":%b,"value":%b}' % (_text(f"{path}/{index}/name"), _text(name)))
        self._operations.append(b'{"op":"replace","path":%b,"value":%b}' % (_text(f"{path}/{index}"), value))

    def encode(self) -> bytes:
        """Return the patch as JSON; ``b""`` when nothing changes."""
        return b"[%b]" % b",".join(self._operations) if self._operations else b""
