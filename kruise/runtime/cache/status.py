"""What an informer is doing, in one line.

Purpose: "failed to wait for caches to sync" with its cause: the phase, the page that was reached, the last error.

Guarantees: CAC6, CAC7: the line names kind, phase, page, number of objects, seconds and last error.

What this does not do: it collects nothing; :meth:`Informer.describe` does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InformerStatus:
    """The state of one informer."""

    resource: str
    phase: str
    """The state of the reflector that is least far: Empty, Paging, Streaming, Listed, Watching, Relist or Missing."""
    page: int
    """Pages that the present list has brought; for a streaming list, objects."""
    objects: int
    elapsed: float
    """Seconds from the start to the first complete list, or until now."""
    synced: bool
    last_error: str = ""
    """Why it waits; ``""`` while all is well."""
    waiting: tuple[str, ...] = ()
    """The namespaces that have no complete list yet; empty for a cluster-wide informer."""
    stale: int = 0
    """States that were refused because a newer one was known."""
    pending: int = 0
    """Changes that wait for a slow handler."""

    def __str__(self) -> str:
        where = f" (waiting for {', '.join(self.waiting)})" if self.waiting else ""
        error = f"; last error: {self.last_error}" if self.last_error else ""
        state = "synced" if self.synced else "not synced"
        return (
            f"{self.resource}: {state}{where}, {self.phase}, page {self.page}, {self.objects} objects, "
            f"{self.elapsed:.1f} s{error}"
        )
