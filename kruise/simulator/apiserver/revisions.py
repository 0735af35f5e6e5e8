"""ControllerRevisions: whether their data survives a patch.

Purpose: kube-apiserver compares the data of a revision byte by byte, as it was sent. A patch encodes it anew, so it
survives only when it was written as the encoder writes; everything else is refused as a change of what cannot change.

Guarantees:

* TST1: data with other spacing or with unescaped ``<``, ``>``, ``&`` survives no patch at all; data that is compact but
  not sorted survives merge and JSON patches, and no strategic one.

What this does not do: a PUT is compared by value.
"""

from __future__ import annotations

import json
from typing import Final

import msgspec

from kruise.apis.gojson import encode, encode_sorted

TABLE: Final = "controllerrevisions.apps"


class Revisions:
    """How the data of each revision was written, by uid."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[bool, bool]] = {}

    def note(self, uid: str, body: bytes | None) -> None:
        """Remember how the data in *body*, the request that made the revision, was written."""
        try:
            raw = bytes(msgspec.json.decode(body or b"", type=dict[str, msgspec.Raw])["data"])
            data = json.loads(raw)
        except (msgspec.DecodeError, KeyError, ValueError):
            return
        self._written[uid] = (raw == encode(data), raw == encode_sorted(data))

    def survives(self, uid: str, strategic: bool) -> bool:
        """Tell whether a patch leaves the data as it is."""
        compact, canonical = self._written.get(uid, (True, True))
        return canonical if strategic else compact
