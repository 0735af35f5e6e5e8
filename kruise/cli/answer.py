"""What a look at one object gives: a table for a person, a document for a program, and an exit code.

Purpose: the kinds that ``kruise status`` knows answer in this one shape.

What this does not do: it prints nothing.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from kruise.cli.cluster import Cluster
from kruise.controllers.common.reasons import Decision
from kruise.runtime.clock import format_time
from kruise.runtime.errors import NotFound, RuntimeFault
from kruise.runtime.objects import Key, Object, Resource

__all__ = ["DEGRADED", "DONE", "TIMEOUT", "Answer", "Look", "columns", "next_check", "read"]

DONE: Final = 0
DEGRADED: Final = 2
TIMEOUT: Final = 3

T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to say about one object at one moment."""

    table: str
    document: dict[str, Any] = field(hash=False)
    code: int
    """The exit code of a command that stops here."""
    ended: bool
    """Whether it is as desired, or will never be: there is nothing more to watch for."""


Look = Callable[[Cluster, Key], Awaitable[Answer]]
"""Look at one object. Raises NotFound and other errors that say what to do."""


_NOT_SERVED: Final = ("could not find the requested resource", "404 page not found")
"""How an API server says that it knows no such kind: of a group that it serves, and of a definition that is gone."""


async def read(cluster: Cluster, resource: Resource[T], key: Key) -> T:
    """Read one object of ours live. Raises NotFound; RuntimeFault when the cluster does not serve its kind."""
    try:
        return await cluster.client.live.get(resource, key)
    except NotFound as error:
        if any(text in error.status.message for text in _NOT_SERVED):
            raise RuntimeFault(f"the cluster does not serve {resource}; install its CRD (make install)") from error
        raise


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return *rows* of equal length as lines, in columns that are as wide as they must be."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def next_check(one: Decision, now: float) -> str:
    """Return when time alone may change the answer, RFC 3339; ``""`` when it takes an event."""
    return "" if one.next_check is None else format_time(math.ceil(now + one.next_check))
