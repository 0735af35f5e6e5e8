"""What is added to a write so that it happens only if the decision behind it still holds.

Purpose: the forms that a conditional write may have, and what the server's refusals mean.

Guarantees:

* CLI2: a patch carries uid and resourceVersion; a JSON patch tests both. :func:`raise_conflict` recognises each way in
  which the server says "this is not that object any more".
* RES6: a strategic patch is for built-in kinds, and not for ControllerRevisions.
* Events are exempt: a series is counted on although somebody else changed the event.
* OBJ5: the version may be left out by nothing but a patch of the owners of a built-in kind.

What this does not do: it sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec
import orjson

from kruise.runtime.client.noop import PatchKind
from kruise.runtime.errors import Conflict, Invalid
from kruise.runtime.objects import Object, Resource


def encode(body: Any) -> bytes:
    """Return *body* as JSON. ``msgspec.Raw`` and Structs may stand anywhere in it."""
    return orjson.dumps(body, default=_encode_other)


def _encode_other(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return orjson.Fragment(bytes(value))
    if isinstance(value, msgspec.Struct):
        return orjson.Fragment(msgspec.json.encode(value))
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def check_patch(
    resource: Resource[Any],
    obj: Object,
    patch: Any,
    kind: PatchKind,
    subresource: str,
    version: str,
    uid_alone: bool,
) -> None:
    """Raise ValueError for a patch that could do harm or cannot succeed."""
    if isinstance(patch, Mapping) == (kind is PatchKind.JSON):
        raise ValueError("a JSON patch is a list of operations, every other patch an object")
    known = obj.uid and (version or obj.resource_version)
    if not known and not is_exempt(resource):
        raise ValueError(f"{resource.kind} {obj.key} has no uid or version; patch what was read from the server")
    if kind is PatchKind.STRATEGIC and resource.custom:
        raise ValueError(f"{resource.kind} is a custom resource: the server takes no strategic patch of it (415)")
    if kind is PatchKind.STRATEGIC and resource.kind == "ControllerRevision":
        raise ValueError("a strategic patch of a ControllerRevision is refused (422) unless data is Go's own JSON")
    if uid_alone and (resource.custom or subresource or version or kind is PatchKind.JSON or not _only_owners(patch)):
        raise ValueError("only a patch of metadata.ownerReferences of a built-in kind may leave out the version")


def is_exempt(resource: Resource[Any]) -> bool:
    """Tell whether writes of *resource* may do without preconditions: Events alone (reliability, rule 1)."""
    return resource.group == "events.k8s.io"


def _only_owners(patch: Mapping[str, Any]) -> bool:
    return patch.keys() == {"metadata"} and (patch["metadata"] or {}).keys() == {"ownerReferences"}


def guarded(uid: str, version: str, patch: Any) -> Any:
    """Add the preconditions to *patch*."""
    if not isinstance(patch, Mapping):
        tests = [{"op": "test", "path": "/metadata/uid", "value": uid}]
        tests.append({"op": "test", "path": "/metadata/resourceVersion", "value": version})
        return [*tests, *patch]
    meta = dict(patch.get("metadata") or {})
    if uid:
        meta["uid"] = uid
    if version:
        meta["resourceVersion"] = version
    return {**patch, "metadata": meta}


def raise_conflict(error: Invalid, kind: PatchKind) -> NoReturn:
    """Raise Conflict where 422 means that the object is not the one the patch was made for; else *error* itself.

    A wrong uid is answered "metadata.uid: field is immutable". A JSON patch whose test fails is answered 422 without a
    cause, while a patch that makes an invalid object has one for each field.
    """
    causes = error.status.causes
    other = any(cause.field == "metadata.uid" for cause in causes)
    if other or (kind is PatchKind.JSON and not causes):
        raise Conflict(error.status) from error
    raise error
