"""JSON patches (RFC 6902): applied, and made from the difference of two objects.

Purpose: what an admission answer changes is said as a JSON patch. Here it is tried before it is sent, and here it is
made when a handler gives the object that it wants instead.

Guarantees:

* WEB12: :func:`apply_patch` does what the API server will do, and raises PatchError where that would fail. The
  document that it is given stays as it was.
* WEB5: :func:`difference` removes nothing but what *removable* names; what a handler has lost on its way stays.
* Lists change element by element (``add``, ``replace`` of one, ``remove`` of one), never as a whole: what others have
  put beside ours stays. A list of named objects is compared by those names.

What this does not do: it is no merge patch (``client/patch.py``), and it finds no moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["Operation", "PatchError", "apply_patch", "difference", "pointer", "same"]

Operation = dict[str, Any]
"""One operation, as it stands on the wire."""


class PatchError(ValueError):
    """A patch that does not apply. The text names operation and path, and no value."""


def pointer(*parts: str | int) -> str:
    """Return the path of a place (RFC 6901).

    >>> pointer("metadata", "annotations", "kruise.io/sidecar~set")
    '/metadata/annotations/kruise.io~1sidecar~0set'
    """
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def same(a: Any, b: Any) -> bool:
    """Compare as JSON does: ``true`` is not ``1``, and ``1`` is ``1.0``."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


# Applying.


def apply_patch(document: Any, operations: Iterable[Mapping[str, Any]]) -> Any:
    """Return *document* with *operations* applied in order. Raises PatchError for one that does not apply."""
    for operation in operations:
        document = _one(document, operation)
    return document


def _one(document: Any, operation: Mapping[str, Any]) -> Any:
    op = operation.get("op")
    path = operation.get("path")
    if not isinstance(path, str):
        raise PatchError(f"{op}: the path is missing")
    parts = _parts(path)
    if op in ("add", "replace", "test") and "value" not in operation:
        raise PatchError(f"{op} {path}: the value is missing")
    if op == "add":
        return _put(document, parts, operation["value"], path)
    if op == "replace":
        _get(document, parts, path)
        return operation["value"] if not parts else _at(document, parts, path, _replacing(operation["value"]))
    if op == "remove":
        return _drop(document, parts, path)
    if op == "test":
        if not same(_get(document, parts, path), operation["value"]):
            raise PatchError(f"test {path}: there is another value")
        return document
    if op in ("move", "copy"):
        source = operation.get("from")
        if not isinstance(source, str):
            raise PatchError(f"{op} {path}: from is missing")
        found = _get(document, _parts(source), source)
        if op == "move":
            if path != source and path.startswith(f"{source}/"):
                raise PatchError(f"move {path}: nothing can be moved into itself")
            document = _drop(document, _parts(source), source)
        return _put(document, parts, found, path)
    raise PatchError(f"{path}: there is no operation of that name")


def _parts(path: str) -> list[str]:
    if not path:
        return []
    if path[0] != "/":
        raise PatchError(f"{path}: a path begins with /")
    parts = path[1:].split("/")
    return [part.replace("~1", "/").replace("~0", "~") for part in parts] if "~" in path else parts


def _index(part: str, end: int, path: str) -> int:
    """Return *part* as a place before *end*."""
    if not (part.isascii() and part.isdigit()) or (part != "0" and part[0] == "0") or len(part) > 9 or int(part) >= end:
        raise PatchError(f"{path}: there is no such element")
    return int(part)


def _get(document: Any, parts: Sequence[str], path: str) -> Any:
    for part in parts:
        document = _child(document, part, path)
    return document


def _child(holder: Any, part: str, path: str) -> Any:
    if isinstance(holder, dict):
        if part not in holder:
            raise PatchError(f"{path}: there is no such member")
        return holder[part]
    if isinstance(holder, list):
        return holder[_index(part, len(holder), path)]
    raise PatchError(f"{path}: what is above it has no members")


Edit = Callable[[Any, str, str], None]


def _at(document: Any, parts: Sequence[str], path: str, edit: Edit) -> Any:
    """Return *document* with *edit* done to a copy of the holder of the last part; the path to it is copied as well."""
    if not isinstance(document, dict | list):
        raise PatchError(f"{path}: what is above it has no members")
    copy: Any = document.copy()
    if len(parts) == 1:
        edit(copy, parts[0], path)
        return copy
    inner = _at(_child(document, parts[0], path), parts[1:], path, edit)
    if isinstance(copy, list):
        copy[int(parts[0])] = inner
    else:
        copy[parts[0]] = inner
    return copy


def _put(document: Any, parts: Sequence[str], value: Any, path: str) -> Any:
    def edit(holder: Any, part: str, path: str) -> None:
        if isinstance(holder, dict):
            holder[part] = value
        else:
            holder.insert(len(holder) if part == "-" else _index(part, len(holder) + 1, path), value)

    return value if not parts else _at(document, parts, path, edit)


def _replacing(value: Any) -> Edit:
    def edit(holder: Any, part: str, path: str) -> None:
        holder[_index(part, len(holder), path) if isinstance(holder, list) else part] = value

    return edit


def _drop(document: Any, parts: Sequence[str], path: str) -> Any:
    def edit(holder: Any, part: str, path: str) -> None:
        del holder[_index(part, len(holder), path) if isinstance(holder, list) else part]

    if not parts:
        raise PatchError("remove: the whole document cannot go")
    _get(document, parts, path)
    return _at(document, parts, path, edit)


# The difference of two objects.

_NO_REMOVAL: Final[tuple[str, ...]] = ()


def difference(old: Any, new: Any, *, removable: Sequence[str] = _NO_REMOVAL) -> list[Operation]:
    """Return what makes *new* of *old*, in an order in which it applies.

    Members and elements of *old* that *new* lacks are removed only at or below a path of *removable*; elsewhere they
    stay (WEB5), so that the result is *new* plus what it lacks. ``removable=("",)`` is the whole document.
    """
    found: list[Operation] = []
    _compare(old, new, "", tuple(removable), found)
    return found


def _may_go(path: str, removable: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in removable)


def _compare(old: Any, new: Any, path: str, removable: tuple[str, ...], found: list[Operation]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            below = f"{path}{pointer(key)}"
            if key in new:
                _compare(value, new[key], below, removable, found)
            elif _may_go(below, removable):
                found.append({"op": "remove", "path": below})
        found += [
            {"op": "add", "path": f"{path}{pointer(key)}", "value": value}
            for key, value in new.items()
            if key not in old
        ]
    elif isinstance(old, list) and isinstance(new, list):
        _lists(old, new, path, removable, found)
    elif not same(old, new):
        found.append({"op": "replace", "path": path, "value": new})


def _lists(old: list[Any], new: list[Any], path: str, removable: tuple[str, ...], found: list[Operation]) -> None:
    before, after = _names(old), _names(new)
    if before is not None and after is not None and _within(before, after):
        at = 0
        for place, name in enumerate(after):
            if at < len(before) and before[at] == name:
                _compare(old[at], new[place], f"{path}/{place}", removable, found)
                at += 1
            else:
                found.append({"op": "add", "path": f"{path}/{place}", "value": new[place]})
        return
    for place, (was, wanted) in enumerate(zip(old, new, strict=False)):
        below = f"{path}/{place}"
        another = before is not None and after is not None and before[place] != after[place]
        if another:  # one object in the place of another: fields of the first must not stay in the second
            found.append({"op": "replace", "path": below, "value": wanted})
        else:
            _compare(was, wanted, below, removable, found)
    found += [{"op": "add", "path": f"{path}/{place}", "value": new[place]} for place in range(len(old), len(new))]
    if _may_go(path, removable):
        found += [{"op": "remove", "path": f"{path}/{place}"} for place in range(len(old) - 1, len(new) - 1, -1)]


def _names(items: list[Any]) -> list[str] | None:
    """Return the names of a list of named objects, each name once; None for any other list."""
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    found = [name for name in names if isinstance(name, str)]
    return found if len(found) == len(items) == len(set(found)) else None


def _within(short: list[str], long: list[str]) -> bool:
    """Tell whether *short* stands in *long* in its own order."""
    rest = iter(long)
    return all(name in rest for name in short)
