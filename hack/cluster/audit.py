"""Reads the API server's audit log: who asked what, and what came back.

Purpose: a test counts requests by user agent, verb and resource, and sees writes that changed nothing.

Guarantees: a half-written last line is left for the next read; a mark taken before an action separates what came after
it from what came before.

What this does not do: it follows no rotation; the log of a local control plane is one file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One request that the API server has answered (or, for a watch, begun to answer)."""

    user_agent: str
    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    """The HTTP status."""
    received: str
    """RFC 3339 with microseconds."""
    stage: str
    uri: str
    request: dict[str, Any] | None
    """The body, where the policy keeps it."""
    response: dict[str, Any] | None

    @property
    def writes(self) -> bool:
        """Whether the request may have changed something."""
        return self.verb in ("create", "update", "patch", "delete", "deletecollection")

    @property
    def what(self) -> str:
        """Return ``verb resource[/subresource]``: the key under which requests are counted."""
        return f"{self.verb} {self.resource}" + (f"/{self.subresource}" if self.subresource else "")


def parse(line: str) -> Entry | None:
    """Return the entry of one line; ``None`` for an entry without a resource, such as ``/readyz``."""
    event = json.loads(line)
    ref = event.get("objectRef")
    if not ref:
        return None
    name = ref.get("name", "")
    answer = event.get("responseObject")
    if not name and event["verb"] == "create" and answer:
        name = (answer.get("metadata") or {}).get("name", "")
    return Entry(
        user_agent=event.get("userAgent", ""),
        user=event.get("user", {}).get("username", ""),
        verb=event["verb"],
        group=ref.get("apiGroup", ""),
        resource=ref.get("resource", ""),
        subresource=ref.get("subresource", ""),
        namespace=ref.get("namespace", ""),
        name=name,
        code=event.get("responseStatus", {}).get("code", 0),
        received=event.get("requestReceivedTimestamp", ""),
        stage=event.get("stage", ""),
        uri=event.get("requestURI", ""),
        request=event.get("requestObject"),
        response=answer,
    )


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The log in one file."""

    path: Path

    def mark(self) -> int:
        """Return the present end, to be given to :meth:`entries`."""
        return self.path.stat().st_size if self.path.exists() else 0

    def _lines(self, since: int) -> Iterator[bytes]:
        if not self.path.exists():
            return
        with self.path.open("rb") as log:
            log.seek(since)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                yield line

    def raw(self, *, since: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the events of the log after the mark *since*, as the API server wrote them."""
        for line in self._lines(since):
            yield json.loads(line)

    def entries(self, user_agent: str = "", *, since: int = 0) -> Iterator[Entry]:
        """Yield the entries after the mark *since* whose user agent begins with *user_agent*.

        A watch appears twice, when it begins (stage ``ResponseStarted``) and when it ends.
        """
        for line in self._lines(since):
            entry = parse(line.decode())
            if entry is not None and entry.user_agent.startswith(user_agent):
                yield entry

    def counts(self, user_agent: str = "", *, since: int = 0) -> Counter[str]:
        """Return how many requests of each kind (:attr:`Entry.what`) were answered."""
        return Counter(e.what for e in self.entries(user_agent, since=since) if e.stage != "ResponseStarted")
