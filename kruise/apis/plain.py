"""Walks over plain JSON that the rules of several kinds need before they hand it to a typed reader.

Guarantees: the input stays as it is; order and spelling of what is kept do not change.

What this does not do: it knows no kind and no field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["wide_numbers", "without_nulls"]

_INT32: Final = 1 << 31


def wide_numbers(value: Any, path: str) -> Iterator[str]:
    """Yield the paths of the integers in *value* that do not fit 32 bits."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from wide_numbers(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from wide_numbers(item, f"{path}[{index}]")
    elif isinstance(value, int) and not -_INT32 <= value < _INT32:
        yield path


def without_nulls(value: Any) -> Any:
    """Return *value* without the keys of maps whose value is null."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
