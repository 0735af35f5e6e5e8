"""One request on its way through the server, its answer, and the log of all of them.

Purpose: what the router finds out about a request, what the operation did, and what the hook may see and change.

Guarantees:

* TST1: the log has every request: actor, verb, resource, key, code, the object's version before and after. Writes are
  counted exactly, those that changed nothing included.

What this does not do: no behaviour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kruise.runtime.objects import Key
from kruise.simulator.apiserver.frontend import Frontend
from kruise.simulator.apiserver.resources import ResourceType

Body = dict[str, Any]
WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class LineSource(Protocol):
    """A stream of lines as the server makes them."""

    def ready(self) -> bytes | None:
        """Return the next line that can be had without waiting; ``None`` when there is none now, or none any more."""
        ...

    async def wait(self) -> bool:
        """Wait until :meth:`ready` may have a line; False when the stream has ended."""
        ...

    def close(self) -> None:
        """Give up the stream."""
        ...


@dataclass(slots=True)
class Answer:
    """What the server answers: a body, or a stream."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    stream: LineSource | None = None
    warnings: tuple[str, ...] = ()
    """Sent as ``Warning`` headers over HTTP; in process there is no room for several, so they are not sent."""


JSON: Final[Mapping[str, str]] = {"content-type": "application/json"}


@dataclass(slots=True)
class Call:
    """One request. The router fills in what it means, the operation what came of it."""

    ordinal: int
    actor: str
    """The identity of the transport; for HTTP the user agent."""
    method: str
    path: str
    """Without the query."""
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes | None
    frontend: Frontend
    time: float = 0.0
    """Wall time of its arrival."""
    user_agent: str = ""
    controller: str = ""
    verb: str = ""
    info: ResourceType | None = None
    version: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    document: Any = None
    """The decoded body."""
    code: int = 0
    reason: str = ""
    before: str = ""
    """The object's resource version before the request; ``""`` when there was none, or none is concerned."""
    after: str = ""
    """The object's resource version after it; ``""`` when it is gone."""
    changed: bool | None = None
    """Whether a write changed anything; ``None`` for reads and refused requests."""
    dry_run: bool = False
    http: bool = False
    """Whether it came through a socket."""
    validation: str = "Warn"
    """What unknown fields of the body lead to: Strict, Warn or Ignore."""
    warnings: list[str] = field(default_factory=list)
    """What the client is warned of."""
    pruned: bool = False
    """Whether its object was pruned before webhooks saw it; what they add is pruned when it is stored."""
    user: str = ""
    """Who asks, where the front knows it; ``""`` is the actor."""
    audit: dict[str, str] = field(default_factory=dict)
    """The annotations that admission would leave in an audit log."""

    @property
    def known(self) -> ResourceType:
        """The resource, of a request that the router has resolved."""
        assert self.info is not None, "the router has found the resource"
        return self.info

    @property
    def resource(self) -> str:
        """``plural.group``, or ``""``."""
        return self.info.name if self.info is not None else ""

    @property
    def key(self) -> Key:
        """The key of the object; its name is ``""`` for a collection."""
        return Key(self.namespace, self.name)

    def warn(self, text: str) -> None:
        """Warn the client of *text*, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    @property
    def content_type(self) -> str:
        """The media type of the body, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def writes(self) -> bool:
        """Whether the verb may change something."""
        return self.verb in WRITES


class RequestLog:
    """Every request since the start, oldest first."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __iter__(self) -> Iterator[Call]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self.calls)

    def clear(self) -> None:
        """Forget what was logged so far."""
        self.calls.clear()

    def find(
        self, *, actor: str = "", verb: str = "", resource: str = "", subresource: str | None = None
    ) -> list[Call]:
        """Return the requests that fit; an argument that is not given fits all. *actor* is a prefix."""
        return [
            c
            for c in self.calls
            if c.actor.startswith(actor)
            and (not verb or c.verb == verb)
            and (not resource or c.resource == resource)
            and (subresource is None or c.subresource == subresource)
        ]

    def writes(self, *, actor: str = "", resource: str = "", leases: bool = False) -> list[Call]:
        """Return the writes that were answered, events and (unless *leases*) Leases left out."""
        left_out = {"events", "events.events.k8s.io"} | (set() if leases else {"leases.coordination.k8s.io"})
        return [
            c
            for c in self.find(actor=actor, resource=resource)
            if c.writes and c.resource not in left_out and not c.dry_run
        ]

    def counts(self, *, actor: str = "") -> dict[str, int]:
        """Return how often each ``verb resource[/subresource] code`` was asked."""
        counts: dict[str, int] = {}
        for c in self.find(actor=actor):
            what = f"{c.verb} {c.resource or c.path}{'/' + c.subresource if c.subresource else ''} {c.code}"
            counts[what] = counts.get(what, 0) + 1
        return dict(sorted(counts.items()))


def counted(writes: Iterable[Call]) -> dict[str, int]:
    """Return how often each write was sent: ``{"create pods": 5}``. A refused one says its code."""
    found: Counter[str] = Counter()
    for call in writes:
        what = f"{call.verb} {call.resource}" + (f"/{call.subresource}" if call.subresource else "")
        found[what if call.code < 300 else f"{what} {call.code}"] += 1
    return dict(sorted(found.items()))
