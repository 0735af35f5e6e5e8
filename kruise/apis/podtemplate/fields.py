"""Reading plain JSON the way the API server's typed decoder would.

Purpose: an absent field, a null and a zero value are one and the same for a field without a pointer; these accessors
say so in one place.

Guarantees: no accessor raises; a value of a wrong type reads as absent (the type check names it before anybody asks).

What this does not do: it copies nothing; the returned parts belong to the argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kruise.apis.quantity import ZERO, Quantity, QuantityError

__all__ = [
    "Node",
    "child",
    "each_container",
    "flag",
    "is_set",
    "items",
    "number",
    "optional_number",
    "quantities",
    "quantity",
    "text",
    "texts",
]

Node = dict[str, Any]


def text(node: Node | None, key: str) -> str:
    """Return a string field, ``""`` when it is not there."""
    value = node.get(key) if node else None
    return value if isinstance(value, str) else ""


def texts(node: Node | None, key: str) -> list[str]:
    """Return a list of strings."""
    value = node.get(key) if node else None
    return [item if isinstance(item, str) else "" for item in value] if isinstance(value, list) else []


def number(node: Node | None, key: str) -> int:
    """Return an integer field, 0 when it is not there."""
    return optional_number(node, key) or 0


def optional_number(node: Node | None, key: str) -> int | None:
    """Return an integer field that may be unset."""
    value = node.get(key) if node else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def flag(node: Node | None, key: str) -> bool:
    """Return a boolean field, false when it is not there."""
    return node is not None and node.get(key) is True


def is_set(node: Node | None, key: str) -> bool:
    """Tell whether a pointer field is set, be it to a zero value."""
    return node is not None and node.get(key) is not None


def child(node: Node | None, key: str) -> Node | None:
    """Return an object field, ``None`` when it is not there."""
    value = node.get(key) if node else None
    return value if isinstance(value, dict) else None


def items(node: Node | None, key: str) -> list[Node]:
    """Return a list of objects; a null in it reads as an empty object."""
    value = node.get(key) if node else None
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []


def quantity(value: Any) -> Quantity:
    """Read a quantity, zero when it is none."""
    try:
        return Quantity.from_json(value)
    except QuantityError:
        return ZERO


def quantities(node: Node | None, key: str) -> list[tuple[str, Quantity]]:
    """Return a resource list sorted by name (the server's own order is random)."""
    listed = child(node, key) or {}
    return [(name, quantity(listed[name])) for name in sorted(listed)]


def each_container(spec: Node, path: str) -> Iterator[tuple[Node, str]]:
    """Yield every container with its path: init containers, containers, ephemeral ones."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(items(spec, key)):
            yield container, f"{path}.{key}[{i}]"
