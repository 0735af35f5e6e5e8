r"""The annotations that SidecarSets put on pods: ``patchPodMetadata`` (spec/sidecarset 5.6).

Guarantees:

* Retain sets what is absent, Overwrite sets, MergePatchJson merges JSON values; entries apply in order, unknown
  policies do nothing.
* A merged value has the bytes of OpenKruise's: keys sorted, no blanks, ``<``, ``>`` and ``&`` escaped, and numbers and
  other escapes spelled as they came. It differs from RFC 7386 where OpenKruise does: a patch must be an object or a
  list, an original must not be null, and nulls go out of objects inside lists.
* Pure; the annotations that come in stay as they are. Malformed JSON raises :class:`MetadataPatchError`, nothing else.

What this does not do: it asks nobody whether a key is allowed; admission does when a set is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from kruise.apis import gojson
from kruise.apis.sidecarset import PATCH_MERGE_JSON, PATCH_OVERWRITE, PATCH_RETAIN, PatchPodMetadata

__all__ = ["MetadataPatchError", "patch_pod_metadata"]


class MetadataPatchError(ValueError):
    """A value that is no JSON, or no document or patch. The message is OpenKruise's."""


_BAD_DOCUMENT: Final = "Invalid JSON Document"
_BAD_PATCH: Final = "Invalid JSON Patch"
_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_OUTSIDE: Final = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\n\r]+', re.DOTALL)
"""Strings, which stay, and blanks between them, which go."""
_ESCAPED: Final = re.compile("[<>&\u2028\u2029]")
_NULL: Final = "null"


def _refuse(_: str) -> NoReturn:
    raise ValueError("NaN and infinity are no JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)


def patch_pod_metadata(
    annotations: Mapping[str, str] | None, patches: Iterable[PatchPodMetadata]
) -> tuple[dict[str, str], bool]:
    """Return *annotations* after *patches*, and whether nothing changed.

    :raises MetadataPatchError: when a value cannot be merged
    """
    before = dict(annotations or {})
    after = dict(before)
    for patch in patches:
        for key, value in patch.annotations.items():
            known = after.get(key)
            if patch.patch_policy in ("", PATCH_RETAIN):
                after.setdefault(key, value)
            elif patch.patch_policy == PATCH_OVERWRITE or (patch.patch_policy == PATCH_MERGE_JSON and not known):
                after[key] = value
            elif patch.patch_policy == PATCH_MERGE_JSON and known:
                after[key] = _merge(known, value)
    return after, after == before


def _merge(document: str, patch: str) -> str:
    """Return the text of *document* after the merge patch *patch*."""
    original, change = _decoded(document, _BAD_DOCUMENT), _decoded(patch, _BAD_PATCH)
    if original is None:
        raise MetadataPatchError(_BAD_DOCUMENT)
    if not isinstance(change, dict | list):
        raise MetadataPatchError(_BAD_PATCH)
    if isinstance(original, dict) and isinstance(change, dict):
        return _merged(document, patch)
    return _pruned(patch)


def _decoded(text: str, problem: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise MetadataPatchError(problem) from None


# The values below are texts of valid JSON: what is not looked into keeps its spelling and its order.


def _merged(document: str, patch: str) -> str:
    members = _members(document)
    for key, value in _members(patch).items():
        known = members.get(key, _NULL)
        if value == _NULL:
            members.pop(key, None)
        elif not known.startswith("{"):
            members[key] = _pruned(value)
        else:
            members[key] = _merged(known, value) if value.startswith("{") else value
    return _object(members)


def _pruned(text: str) -> str:
    """Return *text* without members that are null, at any depth; nulls in lists stay."""
    text = text.strip(" \t\n\r")
    if text.startswith("{"):
        return _object({key: _pruned(value) for key, value in _members(text).items() if value != _NULL})
    if text.startswith("["):
        return f"[{','.join(_pruned(item) for item in _items(text))}]"
    return _compact(text)


def _object(members: Mapping[str, str]) -> str:
    parts = (f"{gojson.encode(key).decode()}:{_compact(members[key])}" for key in sorted(members))
    return f"{{{','.join(parts)}}}"


def _compact(text: str) -> str:
    tight = _OUTSIDE.sub(lambda match: match[1] or "", text)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", tight)


def _skip(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _members(text: str) -> dict[str, str]:
    """Return the members of an object as texts; of a key that stands twice, the last."""
    members: dict[str, str] = {}
    at = _skip(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        members[key] = text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return members


def _items(text: str) -> list[str]:
    """Return the items of a list as texts."""
    items: list[str] = []
    at = _skip(text, 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        items.append(text[at:end])
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return items
