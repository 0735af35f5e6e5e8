"""Webhooks in the same process: a :class:`~kruise.simulator.apiserver.webhooks.Caller` without a network.

Purpose: a simulation, and a test of a webhook of one's own. A Service is a list of replicas, each of them something
that answers a request, such as ``WebhookServer.answer``; faults come from a function.

Guarantees:

* TST2: a call can be delayed, refused, answered with another status or with garbage, or lost after it was answered; a
  replica can leave and come back. The next replica is taken in turn, as a Service would.
* Deterministic: time is the loop's, and nothing is drawn here.

What this does not do: no TLS and no bytes on a wire.

Example::

    local = LocalCaller()
    local.serve("kruise-system/kruise-webhook-service", manager.webhooks.answer)
    server.caller = local
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from kruise.runtime.clock import Clock
from kruise.runtime.errors import Refused, Reset, Timeout
from kruise.runtime.manager.http import Call, Reply
from kruise.simulator.apiserver.webhooks import Answer, Target

Replica = Callable[[Call], Awaitable[Reply]]
_HEADERS: Final = MappingProxyType({"content-type": "application/json", "accept": "application/json, */*"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call. Everything is off by default."""

    delay: float = 0.0
    """Seconds before the webhook sees the call; infinity for one that never gets there."""
    refuse: bool = False
    """The connection is refused."""
    status: int = 0
    """This status is answered instead."""
    body: bytes | None = None
    """This body is answered instead."""
    lose: bool = False
    """The webhook answers, and the connection breaks before the answer is there."""


NO_FAULT: Final = Fault()
Faults = Callable[[Target, bytes], Fault]


class LocalCaller:
    """Finds the webhook in the process. A Caller."""

    def __init__(self, clock: Clock | None = None, faults: Faults = lambda _target, _body: NO_FAULT) -> None:
        """*clock* is needed for faults with a delay."""
        self.faults = faults
        self.calls: list[Target] = []
        """Every call, oldest first."""
        self._clock = clock
        self._replicas: dict[str, list[Replica]] = {}
        self._turns: dict[str, int] = {}

    def serve(self, where: str, replica: Replica) -> None:
        """Let *replica* answer for *where*: ``namespace/name`` of a Service, or ``https://host:port``."""
        self._replicas.setdefault(where, []).append(replica)

    async def __call__(self, target: Target, body: bytes, seconds: float) -> Answer:
        self.calls.append(target)
        fault = self.faults(target, body)
        if fault == NO_FAULT and _running_task() is None:
            return await self._answered(target, body, seconds)  # a direct request, outside of any loop
        try:
            async with asyncio.timeout(seconds):
                return await self._faulty(fault, target, body, seconds)
        except TimeoutError:
            raise Timeout("context deadline exceeded") from None

    async def _faulty(self, fault: Fault, target: Target, body: bytes, seconds: float) -> Answer:
        if fault.delay:
            if fault.delay == float("inf"):
                await asyncio.get_running_loop().create_future()
            assert self._clock is not None, "a fault with a delay needs a clock"
            await self._clock.sleep(fault.delay)
        if fault.refuse:
            raise _refused(target)
        if fault.status or fault.body is not None:
            return Answer(fault.status or 200, fault.body or b"")
        answer = await self._answered(target, body, seconds)
        if fault.lose:
            raise Reset("EOF")
        return answer

    async def _answered(self, target: Target, body: bytes, seconds: float) -> Answer:
        parts = urlsplit(target.address)
        where = target.service or f"{parts.scheme}://{parts.netloc}"
        replicas = self._replicas.get(where)
        if not replicas:
            raise _refused(target)
        turn = self._turns.get(where, 0)
        self._turns[where] = turn + 1
        query = MappingProxyType({"timeout": (f"{seconds:g}s",)})
        reply = await replicas[turn % len(replicas)](Call("POST", parts.path or "/", query, _HEADERS, body))
        return Answer(reply.status, reply.body, reply.content_type)


def _running_task() -> asyncio.Task[object] | None:
    """Return the task that runs now; ``None`` outside of any loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _refused(target: Target) -> Refused:
    host = urlsplit(target.address).netloc
    return Refused(f"dial tcp {host}: connect: connection refused")
