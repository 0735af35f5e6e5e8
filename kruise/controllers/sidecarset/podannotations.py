"""What the annotations of a pod say of the sets that were injected into it: read, and written as OpenKruise writes it.

Purpose: the JSON of spec/sidecarset 2: hashes, the state of updates in place, the twins that serve.

Guarantees:

* What is written has Go's bytes: its order of fields, its escapes, sets sorted by name. Times are RFC 3339 in UTC.
* An older manager wrote ``{"set": "hash"}``. That is read, and written anew in the present shape. A text that nobody
  can read counts as empty (X29); null anywhere counts as absent (rule 17).
* Parsed texts are kept: pods that were injected together share their text and its reading.

What this does not do: it knows no pod and no set, and judges nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from kruise.apis import gojson
from kruise.runtime.clock import format_time, parse_time

__all__ = [
    "NO_ENTRIES",
    "NO_ENTRY",
    "Entries",
    "Entry",
    "InPlaceState",
    "encode_entries",
    "encode_map",
    "encode_states",
    "injected_names",
    "modern",
    "parse_entries",
    "parse_map",
    "parse_states",
]

_CACHED: Final = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """What one set did to the pod last (``SidecarSetUpgradeSpec``)."""

    hash: str = ""
    updated_at: str = ""
    """RFC 3339; ``""`` is written as null."""
    set_name: str = ""
    sidecars: tuple[str, ...] | None = None
    """The names of the sidecars, sorted; ``None`` where nobody noted them."""
    revision: str = ""
    """The ControllerRevision; only in the annotation with images."""


NO_ENTRY: Final = Entry()


@dataclass(frozen=True, slots=True)
class Entries:
    """A hash annotation."""

    by_set: Mapping[str, Entry] = field(default_factory=dict)
    legacy: bool = False
    """Every entry is a plain hash."""
    trusted: bool = True
    """False for a text of mixed shapes: its entries are written on, and read by nobody."""
    problem: str = ""
    """Why the text cannot be read."""

    def of(self, name: str) -> Entry:
        """Return the entry of the set *name*, an empty one where there is none."""
        return self.by_set.get(name, NO_ENTRY) if self.trusted else NO_ENTRY


NO_ENTRIES: Final = Entries()


class _Unreadable(ValueError):
    """A value that spoils the whole text."""


def _object(text: str) -> dict[str, Any]:
    """Return the JSON object *text*; null is an empty one."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"no JSON: {type(error).__name__}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _Unreadable("no JSON object")
    return found


def _member(item: Mapping[str, Any], name: str) -> Any:
    """Return a field as Go finds it: whatever the case of its name; null leaves what was there."""
    found = item.get(name)
    if found is None:
        wanted = name.lower()
        for key, value in item.items():
            if value is not None and key.lower() == wanted:
                found = value
    return found


def _time(value: Any) -> str:
    if value is None:
        return ""
    seconds = parse_time(value) if isinstance(value, str) else None
    if seconds is None:
        raise _Unreadable("no time")
    return format_time(seconds)


# ---- hashes ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=_CACHED)
def parse_entries(text: str) -> Entries:
    """Read a hash annotation of a pod."""
    try:
        raw = _object(text)
        plain = sum(1 for value in raw.values() if isinstance(value, str))
        if plain and all(value is None or isinstance(value, str) for value in raw.values()):
            return Entries({name: Entry(hash=value or "") for name, value in raw.items()}, legacy=True)
        odd = False
        entries: dict[str, Entry] = {}
        for name, value in raw.items():
            entry, fits = _entry(value)
            entries[name] = entry
            odd = odd or not fits
        return Entries(entries, trusted=not odd)
    except _Unreadable as error:
        return Entries(problem=str(error))


def _entry(value: Any) -> tuple[Entry, bool]:
    """Return the entry, and whether its value has the shape of one."""
    if value is None:
        return NO_ENTRY, True
    if not isinstance(value, dict):
        return NO_ENTRY, False
    texts = {name: _member(value, name) for name in ("hash", "sidecarSetName", "controllerRevision")}
    names = _member(value, "sidecarList")
    listed = names is None or (isinstance(names, list) and all(isinstance(one, str) for one in names))
    fits = listed and all(text is None or isinstance(text, str) for text in texts.values())
    kept = {name: text if isinstance(text, str) else "" for name, text in texts.items()}
    entry = Entry(
        hash=kept["hash"],
        updated_at=_time(_member(value, "updateTimestamp")),
        set_name=kept["sidecarSetName"],
        sidecars=tuple(names) if listed and names is not None else None,
        revision=kept["controllerRevision"],
    )
    return entry, fits


def encode_entries(entries: Mapping[str, Entry]) -> str:
    """Return the text of a hash annotation.

    >>> encode_entries({"mesh": Entry("h", "2024-05-17T08:09:10Z", "mesh", ("envoy",))})
    '{"mesh":{"updateTimestamp":"2024-05-17T08:09:10Z","hash":"h","sidecarSetName":"mesh","sidecarList":["envoy"]}}'
    """
    out: dict[str, Any] = {}
    for name in sorted(entries):
        entry = entries[name]
        written: dict[str, Any] = {
            "updateTimestamp": entry.updated_at or None,
            "hash": entry.hash,
            "sidecarSetName": entry.set_name,
            "sidecarList": None if entry.sidecars is None else list(entry.sidecars),
        }
        if entry.revision:
            written["controllerRevision"] = entry.revision
        out[name] = written
    return gojson.encode(out).decode()


def modern(entries: Mapping[str, Entry], stamp: str) -> dict[str, Entry]:
    """Return plain hashes in the present shape, each under the name of its own set."""
    return {name: replace(entry, updated_at=stamp, set_name=name) for name, entry in entries.items()}


# ---- updates in place ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InPlaceState:
    """What the updates of one set changed in the pod."""

    revision: str = ""
    updated_at: str = ""
    last_images: Mapping[str, str] = field(default_factory=dict)
    """By container, the imageID that was reported when its image was changed last."""


@lru_cache(maxsize=_CACHED)
def parse_states(text: str) -> Mapping[str, InPlaceState] | None:
    """Read the state annotation; ``None`` for one that cannot be read."""
    try:
        return {name: _state(value) for name, value in _object(text).items() if value is not None}
    except _Unreadable:
        return None


def _state(value: Any) -> InPlaceState:
    if not isinstance(value, dict):
        raise _Unreadable("no state")
    revision = _member(value, "revision") or ""
    last = _member(value, "lastContainerStatuses") or {}
    if not isinstance(revision, str) or not isinstance(last, dict):
        raise _Unreadable("no state")
    images: dict[str, str] = {}
    for name, status in last.items():
        image = _member(status or {}, "imageID") if isinstance(status, dict | None) else 0
        if image is not None and not isinstance(image, str):
            raise _Unreadable("no imageID")
        images[name] = image or ""
    return InPlaceState(revision, _time(_member(value, "updateTimestamp")), images)


def encode_states(states: Mapping[str, InPlaceState]) -> str:
    """Return the text of the state annotation."""
    out: dict[str, Any] = {}
    for name in sorted(states):
        state = states[name]
        last = {one: {"imageID": image} if image else {} for one, image in sorted(state.last_images.items())}
        out[name] = {
            "revision": state.revision,
            "updateTimestamp": state.updated_at or None,
            "lastContainerStatuses": last,
        }
    return gojson.encode(out).decode()


# ---- plain maps and lists --------------------------------------------------------------------------------------------


@lru_cache(maxsize=_CACHED)
def parse_map(text: str) -> Mapping[str, str]:
    """Read a map of texts; one that cannot be read is empty."""
    try:
        raw = _object(text)
    except _Unreadable:
        return {}
    if not all(value is None or isinstance(value, str) for value in raw.values()):
        return {}
    return {name: value or "" for name, value in raw.items()}


def encode_map(values: Mapping[str, str]) -> str:
    """Return a map of texts, sorted."""
    return gojson.encode_sorted(dict(values)).decode()


def injected_names(text: str) -> tuple[str, ...]:
    """Return the names in an injected list."""
    return tuple(text.split(",")) if text else ()
