"""LIST: versions, pages, selectors.

Purpose: decide at which version a list is read, cut it into pages, and say how to go on.

Guarantees:

* TST1: ``resourceVersion`` absent (quorum), ``0`` (whatever the front end has), ``NotOlderThan`` (waits up to 3 s, then
  504) and ``Exact`` (the past; 410 when it is compacted). All pages of a list show one snapshot; a page whose snapshot
  is compacted answers 410 with a token that goes on inconsistently.

What this does not do: a front end that lags answers rv=0 from its past; that is meant.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kruise.runtime.objects import Key
from kruise.simulator.apiserver.failure import (
    Cause,
    bad_request,
    bare,
    expired,
    forbidden_field,
    invalid,
    too_large_version,
    unsupported_value,
)
from kruise.simulator.apiserver.frontend import Frontend
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.selectors import LabelMatch, Match, field_selector, label_selector
from kruise.simulator.apiserver.storage import Compacted, Record, Snapshot

Body = dict[str, Any]
FRESH_WAIT: Final = 3.0
"""Seconds for which a request waits for a version that the front end has not seen."""
_MATCHES: Final = ("Exact", "NotOlderThan")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which objects a list or watch is about."""

    namespace: str
    labels: LabelMatch | None
    fields: Match | None

    @classmethod
    def read(cls, info: ResourceType, namespace: str, query: dict[str, str]) -> Filter:
        """Return the filter of a request. Raises Failure 400."""
        labels = label_selector(query.get("labelSelector", ""))
        fields = field_selector(
            query.get("fieldSelector", ""), info.fields, info.aliases, own=bool(info.fields) or info.custom
        )
        return cls(namespace, labels, fields)

    @property
    def selects(self) -> bool:
        """Whether there is a selector at all."""
        return self.labels is not None or self.fields is not None

    def matches(self, obj: Body) -> bool:
        """Tell whether the selectors match *obj*; its namespace is not looked at."""
        if self.labels is not None and not self.labels(obj["metadata"].get("labels") or {}):
            return False
        return self.fields is None or self.fields(obj)


def parse_version(text: str, *, code: int = 400) -> int:
    """Return the number that a resource version of a request names. Raises Failure with *code*."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        problem = f'strconv.ParseUint: parsing "{text}": invalid syntax'
        if code != 400:
            raise bare(code, problem)
        raise bad_request(f'invalid resource version: Invalid value: "{text}": {problem}')
    return int(text)


def check_options(query: dict[str, str], *, watch: bool) -> None:
    """Refuse with 422 what a combination of list options may not say."""
    match, version = query.get("resourceVersionMatch", ""), query.get("resourceVersion", "")
    initial = query.get("sendInitialEvents")
    causes: list[Cause] = []
    if watch and initial is not None:
        if match != "NotOlderThan":
            causes.append(
                forbidden_field(
                    "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
                )
            )
            if match and match not in _MATCHES[1:]:
                causes.append(unsupported_value("resourceVersionMatch", match, _MATCHES[1:]))
    elif match:
        if watch:
            causes.append(
                forbidden_field(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                )
            )
        if not version:
            causes.append(
                forbidden_field(
                    "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
                )
            )
        if match not in _MATCHES:
            causes.append(unsupported_value("resourceVersionMatch", match, _MATCHES))
        if match == "Exact" and version == "0":
            causes.append(
                forbidden_field(
                    "resourceVersionMatch", 'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
                )
            )
    if initial is not None and not watch:
        causes.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if query.get("continue") and match:
        causes.append(
            forbidden_field("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
        )
    if causes:
        raise invalid("ListOptions", "meta.k8s.io", "", *causes)


async def list_page(
    info: ResourceType, frontend: Frontend, chosen: Filter, query: dict[str, str]
) -> tuple[list[Record], Body]:
    """Return the objects of one page and the metadata of the list. Raises Failure."""
    check_options(query, watch=False)
    limit = _number(query, "limit")
    token = query.get("continue", "")
    version = query.get("resourceVersion", "")
    if token:
        if version not in ("", "0"):
            raise bad_request("specifying resource version is not allowed when using continue")
        rv, start = _read_token(token)
        snapshot = _continued(info, frontend, rv, start)
    else:
        start = None
        snapshot = await _first(info, frontend, version, query.get("resourceVersionMatch", ""), limit)
    records, metadata = _cut(snapshot, chosen, limit, start)
    if info.custom:
        metadata.setdefault("continue", "")  # lists of custom objects are encoded as they are, empty fields too
    return records, metadata


def _number(query: dict[str, str], name: str) -> int:
    text = query.get(name) or "0"
    if not text.lstrip("-").isdigit():
        raise bad_request(f'invalid {name}: strconv.ParseInt: parsing "{text}": invalid syntax')
    return max(0, int(text))


async def _first(info: ResourceType, frontend: Frontend, version: str, match: str, limit: int) -> Snapshot:
    storage = frontend.storage
    if version == "":
        return storage.snapshot(info.table)
    wanted = parse_version(version)
    # A limit turns a given version into an exact one, unless the request says how it is meant.
    if wanted and (match == "Exact" or (not match and limit)):
        if wanted > storage.rv:
            raise too_large_version(wanted, storage.rv)
        try:
            return storage.snapshot(info.table, wanted)
        except Compacted:
            raise expired(f"The resourceVersion for the provided list is too old: {wanted} ({storage.floor})") from None
    if wanted and not await frontend.wait_for(wanted, FRESH_WAIT):
        raise too_large_version(wanted, frontend.visible)
    return _visible(info, frontend)


def _visible(info: ResourceType, frontend: Frontend) -> Snapshot:
    storage = frontend.storage
    # A front end that was frozen may stand below the floor: its own cache outlives the store's compaction.
    return storage.snapshot(info.table, max(frontend.visible, storage.floor))


def _continued(info: ResourceType, frontend: Frontend, rv: int, start: Key) -> Snapshot:
    storage = frontend.storage
    if rv < 0:
        return storage.snapshot(info.table)
    try:
        return storage.snapshot(info.table, rv)
    except Compacted:
        text = (
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
            "the results. Continuing with the provided token results in an inconsistent list - objects that were "
            "created, modified, or deleted between the time the first chunk was returned and now may show up in the "
            "list."
        )
        raise expired(text, continue_token=_make_token(-1, start)) from None


def _cut(snapshot: Snapshot, chosen: Filter, limit: int, start: Key | None) -> tuple[list[Record], Body]:
    low, high = snapshot.span(chosen.namespace)
    keys = snapshot.keys[low:high]
    records: list[Record] = []
    metadata: Body = {"resourceVersion": str(snapshot.rv)}
    everything = not chosen.selects
    for index, key in enumerate(keys):
        if start is not None and key <= start:
            continue
        record = snapshot.records[key]
        if not (everything or chosen.matches(record.obj)):
            continue
        if limit and len(records) == limit:
            last = records[-1].obj["metadata"]
            metadata["continue"] = _make_token(snapshot.rv, Key(last.get("namespace", ""), last["name"]))
            if everything:
                metadata["remainingItemCount"] = len(keys) - index
            break
        records.append(record)
    return records, metadata


def _make_token(rv: int, last: Key) -> str:
    token = orjson.dumps({"v": "meta.k8s.io/v1", "rv": rv, "start": f"{last.namespace}/{last.name}"})
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, Key]:
    try:
        read = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = read["start"].partition("/")
        return int(read["rv"]), Key(namespace, name)
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError):
        raise bad_request(f"continue key is not valid: {token!r}") from None
