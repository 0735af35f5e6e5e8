"""Bodies of requests: their encoding, their kinds of patch, and whether they are what the path says.

Purpose: from bytes to the object that an operation works on.

Guarantees:

* TST1: JSON, YAML and, for built-in kinds, protobuf; the three kinds of patch. A body that is no object of the path is
  refused in the server's own words.

What this does not do: fields are looked at in ``fieldvalidation.py`` and in ``schema.py``.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from kruise.simulator.apiserver import fieldvalidation, metadata, proto
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.failure import (
    Failure,
    bad_request,
    invalid,
    invalid_value,
    too_large_body,
    unsupported_media_type,
)
from kruise.simulator.apiserver.patch import json_patch, merge
from kruise.simulator.apiserver.resources import ResourceType
from kruise.simulator.apiserver.strategic import strategic_merge

Body = dict[str, Any]

MAX_BODY: Final = 3 * 1024 * 1024
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY: Final = "application/apply-patch+yaml"
YAML: Final = ("application/yaml", "application/x-yaml")
_PATCHES: Final = (JSON_PATCH, MERGE, STRATEGIC)


def document(call: Call) -> Any:
    """Return the decoded body, which nobody else holds. Raises Failure 400, 413 or 415."""
    body = call.body or b""
    if len(body) > MAX_BODY:
        raise too_large_body(MAX_BODY)
    if call.content_type == proto.MEDIA and call.method != "PATCH":
        body = orjson.dumps(proto.decode(body))
    elif call.content_type in YAML and call.method != "PATCH":
        body = _from_yaml(body)
    elif call.method != "PATCH" and call.content_type not in ("application/json", ""):
        raise unsupported_media_type(call.content_type, ("application/json", "application/yaml", proto.MEDIA))
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the object provided is unrecognized (must be of type JSON): {error}") from None
    if not isinstance(document, dict) and call.method != "PATCH":
        raise bad_request("the object provided is unrecognized: it is no JSON object")
    call.document = document if call.method == "PATCH" else orjson.loads(body) if call.method == "PUT" else document
    return document


def _from_yaml(body: bytes) -> bytes:
    import yaml

    try:
        return orjson.dumps(yaml.safe_load(body))
    except (yaml.YAMLError, TypeError) as error:
        raise bad_request(f"the object provided is unrecognized (must be of type YAML): {error}") from None


def check_media(call: Call, info: ResourceType) -> None:
    """Refuse with 415 a kind of patch that *info* does not take."""
    accepted = tuple(p for p in _PATCHES if p != STRATEGIC or not info.custom)
    if call.content_type in accepted:
        return
    if call.content_type == APPLY:
        text = "server-side apply is not served here; use client-side apply or one of the other kinds of patch"
        raise Failure(415, "UnsupportedMediaType", text)
    if info.custom:
        raise unsupported_media_type(call.content_type, (*accepted, APPLY))
    raise Failure(415, "UnsupportedMediaType", "415: Unsupported Media Type", empty_details=True)


def apply(media: str, current: Body, patch: Any, type_name: str) -> Any:
    """Return *current*, of the type *type_name*, with *patch* applied. Raises Failure."""
    if media == JSON_PATCH:
        return json_patch(current, patch)
    if media == STRATEGIC:
        return strategic_merge(current, patch, type_name)
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a merge patch of an object is an object")
    return merge(current, patch)


def check_type(given: Body, info: ResourceType, version: str) -> None:
    """Fill in a kind and version that are left out, and refuse those of something else."""
    wanted = info.api_version(version)
    if not info.custom:
        given["kind"], given["apiVersion"] = given.get("kind") or info.kind, given.get("apiVersion") or wanted
    kind, api_version = given.get("kind"), given.get("apiVersion")
    if (kind, api_version) == (info.kind, wanted):
        return
    if info.custom:
        if not kind or not api_version:
            raise bad_request(f"Object 'Kind' is missing in '{orjson.dumps(given).decode()}'")
        if api_version != wanted:
            text = f"the API version in the data ({api_version}) does not match the expected API version ({wanted})"
            raise bad_request(text)
        name = str((given.get("metadata") or {}).get("name") or "")
        raise invalid(info.kind, info.group, name, invalid_value("kind", kind, f"must be {info.kind}"))
    shown = f'{kind} in version "{api_version}" cannot be handled as a {info.kind}'
    if api_version != wanted:
        raise bad_request(
            f'{shown}: no kind "{kind}" is registered for version "{api_version}" in scheme "pkg/runtime/scheme.go:111"'
        )
    raise bad_request(f"{shown}: converting ({wanted}.{kind}) to (core.{info.kind}): unknown conversion")


def check_patched(changed: Body, info: ResourceType, call: Call) -> None:
    """Refuse a patch that makes another object of an object."""
    meta = changed["metadata"]
    if meta.get("name") != call.name:
        raise metadata.name_conflict(info, call.name, str(meta.get("name")))
    if info.namespaced and meta.get("namespace") != call.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    wanted = info.api_version(call.version)
    for part, value in (("apiVersion", wanted), ("kind", info.kind)):
        if changed.get(part) == value:
            continue
        if not info.custom:
            raise fieldvalidation.unreadable_patch(changed, f"no kind {changed.get('kind')!r} is registered")
        raise invalid(info.kind, info.group, call.name, invalid_value(part, changed.get(part), f"must be {value}"))
