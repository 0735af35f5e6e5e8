"""How the metadata of a template changes, as a strategic merge patch of a pod.

Purpose: labels, annotations and finalizers of a template reach a running pod without a restart, except those that
variables of containers show (spec/advanced-statefulset 7.1).

Guarantees:

* X14, reliability rules 2 and 28: a patch names each key and finalizer that it takes away. Where the last annotation of
  a template goes, OpenKruise removes all annotations of the pod, and all finalizers likewise; this never does.
* What is applied is labels, annotations and finalizers; whatever else an annotation holds as a patch is left alone.

What this does not do: it knows no batches; ``patch`` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from kruise.apis import gojson
from kruise.controllers.common.inplace.annotations import GRACE_KEY, RefMetadata, StateError

__all__ = ["applicable", "compose", "metadata_patch", "moved_to_containers"]

_FINALIZERS: Final = "finalizers"
_DELETED: Final = "$deleteFromPrimitiveList/finalizers"
_ORDER: Final = "$setElementOrder/finalizers"
_MAPS: Final = ("labels", "annotations")
_REFERENCE: Final = re.compile(r"metadata\.(?P<map>labels|annotations)\['(?P<key>.*)'\]", re.DOTALL)
_VERSION_VARIABLES: Final = frozenset({"SIDECARSET_VERSION", "SIDECARSET_VERSION_ALT"})


def moved_to_containers(
    old: Mapping[str, Any], new: Mapping[str, Any], containers: Iterable[Mapping[str, Any]]
) -> dict[str, RefMetadata]:
    """Return, by container, the changed labels and annotations that its variables show.

    *old* and *new* are the metadata of two templates. A key that is taken away, and a map of which there was none, is
    not among them, as in OpenKruise.
    """
    moved: dict[str, dict[str, dict[str, str]]] = {}
    for container in containers:
        for part, key in _references(container):
            before, after = old.get(part), new.get(part)
            if not isinstance(before, dict) or not isinstance(after, dict) or key not in after:
                continue
            if before.get(key) != after[key]:
                moved.setdefault(container.get("name", ""), {}).setdefault(part, {})[key] = after[key]
    return {name: dict(parts) for name, parts in moved.items()}


def _references(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for variable in container.get("env") or ():
        if variable.get("value") or variable.get("name") in _VERSION_VARIABLES:
            continue
        field = ((variable.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath") or ""
        match = _REFERENCE.fullmatch(field)
        if match:
            yield match["map"], match["key"]


def metadata_patch(old: Mapping[str, Any], new: Mapping[str, Any], moved: Mapping[str, RefMetadata]) -> str:
    """Return the patch that turns the metadata *old* into *new* but for what *moved* holds; maybe ``{}``."""
    changes: dict[str, Any] = {}
    for part in _MAPS:
        elsewhere = {key for ref in moved.values() for key in ref.get(part, ())}
        before = {k: v for k, v in (old.get(part) or {}).items() if k not in elsewhere}
        after = {k: v for k, v in (new.get(part) or {}).items() if k not in elsewhere}
        found: dict[str, str | None] = {key: None for key in before if key not in after}
        found.update({key: value for key, value in after.items() if before.get(key) != value})
        if found:
            changes[part] = found
    changes.update(_finalizers(old.get(_FINALIZERS) or [], new.get(_FINALIZERS) or []))
    return gojson.encode_sorted({"metadata": changes} if changes else {}).decode()


def _finalizers(old: list[str], new: list[str]) -> dict[str, list[str]]:
    if old == new:
        return {}
    if not old:
        return {_FINALIZERS: new}
    added = [name for name in new if name not in old]
    gone = sorted(set(old) - set(new))
    parts = {_FINALIZERS: added, _DELETED: gone, _ORDER: new}
    return {name: listed for name, listed in parts.items() if listed}


def applicable(text: str, have: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return what the patch *text* changes in the metadata of a pod, as members of a patch of ours.

    *have* holds labels and annotations of the pod: a patch that OpenKruise left there may take a whole map away, which
    reads as each of its keys. Raises StateError when *text* is no patch.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise StateError(GRACE_KEY, "metaDataPatch is no JSON") from None
    found = document.get("metadata") if isinstance(document, dict) else _ORDER
    if found is not None and not isinstance(found, dict):
        raise StateError(GRACE_KEY, "metaDataPatch is no patch of metadata")
    changes: dict[str, Any] = {}
    for name, value in (found or {}).items():
        if name in _MAPS:
            changes[name] = _members(name, value, have)
        elif name in (_FINALIZERS, _DELETED, _ORDER) and value is not None:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise StateError(GRACE_KEY, f"metaDataPatch has {name} that are no list of names")
            changes[name] = value
    return changes


def _members(name: str, value: Any, have: Mapping[str, Mapping[str, str]]) -> dict[str, str | None]:
    if value is None:
        return dict.fromkeys(have.get(name, ()))
    if not isinstance(value, dict) or not all(item is None or isinstance(item, str) for item in value.values()):
        raise StateError(GRACE_KEY, f"metaDataPatch has {name} that are no texts by name")
    return value


def compose(first: str, then: str, have: Mapping[str, Mapping[str, str]]) -> str:
    """Return the one patch that does to a pod what *first* does, and *then* after it. Raises StateError."""
    left, right = applicable(first, have), applicable(then, have)
    if not left or not right:
        return then if not left else first
    changes: dict[str, Any] = {}
    for part in _MAPS:
        joined = {**left.get(part, {}), **right.get(part, {})}
        if joined:
            changes[part] = joined
    added, gone = list(left.get(_FINALIZERS, ())), list(left.get(_DELETED, ()))
    for name in right.get(_FINALIZERS, ()):
        added = [*(n for n in added if n != name), name]
        gone = [n for n in gone if n != name]
    for name in right.get(_DELETED, ()):
        added = [n for n in added if n != name]
        gone = [*(n for n in gone if n != name), name]
    changes.update({name: listed for name, listed in ((_FINALIZERS, added), (_DELETED, gone)) if listed})
    return gojson.encode_sorted({"metadata": changes} if changes else {}).decode()
