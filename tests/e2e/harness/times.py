"""When the server wrote what, by its own clock.

Purpose: how long the manager took to answer somebody's write, without the delays of whoever looks on.

What this does not do: it knows nothing of writes that the audit log has no body of.
"""

from __future__ import annotations

from datetime import datetime

from hack.cluster import AuditLog

__all__ = ["written_at"]


def written_at(audit: AuditLog, mark: int) -> dict[str, float]:
    """Return, by resourceVersion, the wall seconds at which each write after *mark* was answered."""
    found: dict[str, float] = {}
    for event in audit.raw(since=mark):
        if event.get("stage") != "ResponseComplete" or event.get("verb") in ("get", "list", "watch"):
            continue
        version = ((event.get("responseObject") or {}).get("metadata") or {}).get("resourceVersion")
        if version:
            at = datetime.fromisoformat(event["stageTimestamp"])
            found.setdefault(version, at.timestamp())
    return found
