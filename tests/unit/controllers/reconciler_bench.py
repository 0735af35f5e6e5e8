"""What the benches of both reconcilers stand on: an embedded server, a client of the manager, and passes by hand.

The stores follow the server only when they are told to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import orjson

from kruise.runtime.cache.store import Change, Store
from kruise.runtime.client.client import Client, Write
from kruise.runtime.client.frames import Codec
from kruise.runtime.client.guard import WriteGuard
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import chain
from kruise.runtime.clock import Random
from kruise.runtime.controller import ReconcileContext, Result, current
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, Resource
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.simulator.apiserver.call import Call, counted
from kruise.simulator.apiserver.server import ApiServer

Body = dict[str, Any]


class Events:
    """Takes events of objects of some resources."""

    def __init__(self, *resources: Resource[Any]) -> None:
        self._resources = resources
        self.seen: list[tuple[str, str, str, str]] = []
        """Name of the object, type, reason, note."""

    def event(self, obj: Object, resource: Resource[Any], *, type: str, reason: str, action: str, note: str) -> None:
        assert obj.metadata.name
        assert resource in self._resources
        assert action
        self.seen.append((obj.metadata.name, type, str(reason), note))

    def reasons(self) -> list[str]:
        return [reason for _, _, reason, _ in self.seen]


class ServerBench:
    """A server with one custom kind, and the client of a manager, whose writes are counted and guarded."""

    def __init__(self, clock: VirtualClock, kind: Resource[Any]) -> None:
        self.clock = clock
        self.kind = kind
        self.server = ApiServer(clock, Random(1))
        self.server.registry.add_custom(kind)
        self.metrics = Metrics(process=False)
        self.guard = WriteGuard()
        transport = chain(self.server.transport("manager"), [self.guard])
        rest = Rest(transport, clock=clock, rng=Random(1), metrics=self.metrics)
        self.written: list[Write] = []
        self.client = Client(rest, metrics=self.metrics, clock=clock, on_write=self.written.append)

    async def passed(self, reconcile: Callable[[Key], Awaitable[Result]], key: Key, *, live: bool) -> Result:
        """Run one pass; raise what it raises."""
        token = current.set(ReconcileContext("test", key, "id", live))
        try:
            return await reconcile(key)
        finally:
            current.reset(token)

    # Looking.

    def mark(self) -> int:
        return self.server.log.calls[-1].ordinal if len(self.server.log) else 0

    def counts(self, since: int = 0) -> dict[str, int]:
        return counted(call for call in self.server.log.writes(actor="manager") if call.ordinal > since)

    def reads(self, since: int = 0) -> list[Call]:
        return [
            c
            for c in self.server.log.calls
            if c.ordinal > since and c.actor == "manager" and c.verb in ("get", "list", "watch")
        ]

    def stored_status(self, name: str) -> Body:
        found: Body = (self.server.get(self.kind, name) or {}).get("status") or {}
        return found


B = TypeVar("B", bound=ServerBench)


def on_bench(make: Callable[[VirtualClock], B], scenario: Callable[[B], Awaitable[None]]) -> None:
    """Run *scenario* on the bench that *make* makes, in virtual time."""

    async def main(clock: VirtualClock) -> None:
        one = make(clock)
        await scenario(one)
        one.guard.assert_clean()

    run_virtual(main)


def fill(store: Store[Any], bodies: Sequence[Body]) -> list[Change[Any]]:
    """Let *store* have *bodies* and nothing else; return what has changed in it."""
    codec = Codec(store.resource)
    wanted: dict[Key, Any] = {}
    for body in bodies:
        obj = codec.read(orjson.dumps(body))
        wanted[obj.key] = obj
    changes: list[Change[Any]] = []
    for old in (*store.list(), *store.unreadable()):
        if old.key not in wanted:
            changes += store.remove(old)
    for obj in wanted.values():
        changes += store.put(obj)
    return changes
