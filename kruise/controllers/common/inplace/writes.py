"""One write to a pod, as a planner hands it on.

Guarantees: a patch names what it changes and nothing else; it holds neither uid nor version, because whoever applies a
chain adds both to each write, the version from the answer to the write before (reliability, rules 1 and 4).

What this does not do: it sends nothing and knows no order; the tuple in which writes stand is their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["MAIN", "RESIZE", "STATUS", "PodWrite"]

MAIN: Final = ""
STATUS: Final = "status"
RESIZE: Final = "resize"


@dataclass(frozen=True, slots=True)
class PodWrite:
    """A strategic merge patch of one pod."""

    subresource: str
    """``""`` for the pod itself, ``status`` or ``resize``."""
    patch: dict[str, Any]
    """The body, without ``metadata.uid`` and ``metadata.resourceVersion``."""
    why: str
    """For logs and traces: what this write is for."""
