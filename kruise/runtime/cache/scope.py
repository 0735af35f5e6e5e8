"""What one reflector watches: a namespace or the cluster, narrowed by selectors.

Purpose: the declaration that cache, informer and detector share.

What this does not do: it watches nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Scope:
    """What one reflector of an informer watches. The server filters, never this process (CAC9)."""

    namespace: str = ""
    """``""`` for the whole cluster."""
    label_selector: str = ""
    field_selector: str = ""
    transform: Callable[[Any], Any] | None = None
    """Drops what nobody reads of a readable object, before it is stored (FRA6)."""
