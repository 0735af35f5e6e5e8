"""JSON merge patch (RFC 7386) and JSON patch (RFC 6902).

Purpose: apply a patch to a stored object, giving a new one that shares what did not change.

Guarantees:

* TST1: null removes in a merge patch and arrays are replaced; all six operations of JSON patch, with pointers and
  array indexes; a failed ``test`` or a missing path is 422, a malformed patch 400.
* The object that is patched is never changed.

What this does not do: strategic merge patch, which needs to know the kind, is in ``strategic.py``.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from kruise.simulator.apiserver.failure import Failure, bad_request


def merge(target: Any, patch: Any) -> Any:
    """Return *target* with the merge patch *patch* applied."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """Return *target* with the JSON patch *operations* applied. Raises Failure."""
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    document = copy.deepcopy(target)
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise bad_request("error decoding patch: an operation has the members op and path")
        document = _apply(document, operation)
    return document


class DoesNotApply(Failure):
    """The patch is well formed and does not fit the object. ``why`` is told where a webhook has sent it."""

    def __init__(self, why: str) -> None:
        # To clients kube-apiserver keeps to itself what did not apply.
        super().__init__(422, "Invalid", "the server rejected our request due to an error in our request")
        self.why = why


class _Missing(Exception):
    """What should hold the value is not there."""


class _Wrong(Exception):
    """The value itself is not where it should be."""


_NOT_THERE: Final = {
    "add": 'add operation does not apply: doc is missing path: "{path}"',
    "remove": 'remove operation does not apply: doc is missing path: "{path}"',
    "replace": "replace operation does not apply: doc is missing path: {path}",
    "test": "test operation does not apply: is missing path: {path}",
    "move": "move operation does not apply: doc is missing from path: {source}",
    "copy": "copy operation does not apply: doc is missing from path: {source}",
}


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    op, path = operation.get("op"), _pointer(operation["path"])
    try:
        return _applied(document, str(op), path, operation)
    except _Missing:
        text = _NOT_THERE[str(op)].format(path=operation["path"], source=operation.get("from", ""))
        raise DoesNotApply(f"{text}: missing value") from None
    except _Wrong as wrong:
        raise DoesNotApply(f"error in {op} for path: '{operation['path']}': {wrong}") from None


def _applied(document: Any, op: str, path: list[str], operation: dict[str, Any]) -> Any:
    if op == "add":
        return _add(document, path, _value(operation))
    if op == "remove":
        return _remove(document, path)
    if op == "replace":
        return _value(operation) if not path else _put(document, path, _value(operation))
    if op == "test":
        if _tested(document, path) != _value(operation):
            raise DoesNotApply(f"testing value {operation['path']} failed: test failed")
        return document
    if op in ("move", "copy"):
        source = _pointer(str(operation.get("from", "")))
        value = copy.deepcopy(_get(document, source))
        if op == "move":
            document = _remove(document, source)
        return _add(document, path, value)
    raise DoesNotApply(f"Unexpected kind: {op}")


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise bad_request("error decoding patch: the operation needs a value")
    return operation["value"]


def _pointer(text: str) -> list[str]:
    if not text:
        return []
    if not text.startswith("/"):
        raise bad_request(f"error decoding patch: the pointer {text!r} does not start with a slash")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _index(items: list[Any], part: str, *, room: int = 0) -> int:
    if part == "-" and room:
        return len(items)
    if not part.lstrip("-").isdigit() or not -len(items) <= int(part) < len(items) + room:
        raise _Wrong(f"Unable to access invalid index: {part}: invalid index referenced")
    return int(part) if int(part) >= 0 else len(items) + int(part)


def _get(document: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(document, part)]
        else:
            raise _Missing
    return document


def _tested(document: Any, path: list[str]) -> Any:
    """Return the value at *path*; ``None`` for one that its holder does not have."""
    if not path:
        return document
    parent, last = _get(document, path[:-1]), path[-1]
    return parent.get(last) if isinstance(parent, dict) else _get(parent, [last])


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _get(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(_index(parent, last, room=1), value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise _Missing
    return document


def _put(document: Any, path: list[str], value: Any) -> Any:
    parent, last = _get(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent[_index(parent, last)] = value
    elif isinstance(parent, dict):
        parent[last] = value  # kube-apiserver's library replaces what is not there as well
    else:
        raise _Missing
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise _Wrong("Unable to remove nonexistent key: : missing value")
    parent, last = _get(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        del parent[_index(parent, last)]
    elif isinstance(parent, dict) and last in parent:
        del parent[last]
    else:
        raise _Wrong(f"Unable to remove nonexistent key: {last}: missing value")
    return document
