"""Lets the faults of a plan strike, at the one place through which every request and every stream chunk passes.

Purpose: the interceptor of a simulated run. ``faults.py`` says what may happen and where; this does it.

Guarantees:

* TST2, TST5: every write of a workload that a manager sends has an ordinal, and so have every line of its watches,
  every watch that it opens and every page that it lists; the plan says what becomes of each.
* After :meth:`Injector.heal` nothing goes wrong any more.

What this does not do: it draws no fault; only delays come from the tape.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import orjson

from kruise.runtime.clock import Clock
from kruise.runtime.errors import Reset
from kruise.runtime.testing.tape import Tape
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.failure import (
    Failure,
    conflict,
    expired,
    internal,
    invalid,
    invalid_value,
    not_found,
    too_large_version,
    too_many_requests,
    too_old,
)
from kruise.simulator.apiserver.intercept import Chunk, Interceptor, Proceed
from kruise.simulator.apiserver.watch import INITIAL_END, error_line
from kruise.simulator.faults import CLASS_OF, EVENTS, LEASES, OnChunk, OnList, OnOpen, OnWrite, Plan

FOREVER: Final = float("inf")


class Victims(Protocol):
    """What the injector can do to the processes of a run."""

    def is_ours(self, actor: str) -> bool:
        """Tell whether a request comes from a manager."""
        ...

    def crash(self, actor: str) -> None:
        """Let the process end as SIGKILL does."""
        ...

    def crash_with_answer(self, actor: str) -> None:
        """Let the process end when it has the answer to the request that is under way."""
        ...

    def pause(self, actor: str, seconds: float) -> None:
        """Let the process stand still."""
        ...

    def touch(self, call: Call) -> None:
        """Let the user change the object of *call*."""
        ...

    def later(self, seconds: float, do: Callable[[], Awaitable[object]]) -> None:
        """Do something by and by, whatever happens to the process that asked."""
        ...

    def note(self, text: str) -> None:
        """Write what happened into the history."""
        ...


class Injector(Interceptor):
    """Lets the faults of a plan strike."""

    def __init__(self, plan: Plan, tape: Tape, clock: Clock, victims: Victims) -> None:
        self.plan = plan
        self.struck: dict[str, int] = {}
        """How often each fault struck."""
        self.on_write: Callable[[Call], None] | None = None
        """Called before each numbered write, for workloads whose user reacts to one."""
        self.lease_down = False
        self._tape = tape
        self._clock = clock
        self._victims = victims
        self._healed = False
        self._writes = self._chunks = self._opens = self._lists = 0
        self._before: dict[int, deque[bytes]] = {}

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self._healed = True

    def strike(self, fault: enum.StrEnum, where: str) -> None:
        """Note that *fault* strikes."""
        self.struck[fault.value] = self.struck.get(fault.value, 0) + 1
        self._victims.note(f"{CLASS_OF.get(fault, '')} {fault.value}: {where}")

    @property
    def healed(self) -> bool:
        """Whether the time of faults is over."""
        return self._healed

    @property
    def writes(self) -> int:
        """How many writes were numbered so far."""
        return self._writes

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        if not self._victims.is_ours(call.actor):
            return await proceed()
        if call.writes:
            self._decode(call)
        if call.writes and call.resource not in EVENTS and call.resource != LEASES:
            return await self._write(call, proceed)
        if self._healed:
            return await proceed()
        if call.resource == LEASES and self.lease_down:
            raise Reset(f"{call.method} {call.path}: the lease cannot be reached")
        if call.verb == "watch":
            return await self._open(call, proceed)
        if call.verb == "list":
            return await self._list(call, proceed)
        await self._travel()
        return await proceed()

    async def _travel(self) -> None:
        if self.plan.jitter and not self._healed:
            seconds = self._tape.pick((0.0, 0.0, 0.0, 0.003, 0.02, 0.2, 1.0))
            if seconds:
                await self._clock.sleep(seconds)

    # Writes.

    async def _write(self, call: Call, proceed: Proceed) -> Answer:
        ordinal = self._writes
        self._writes += 1
        if self.on_write is not None:
            self.on_write(call)
        if self._healed:
            return await proceed()
        await self._travel()
        fault = self.plan.writes.get(ordinal)
        if fault is None or self.healed or (fault is OnWrite.MISSING and call.verb != "create"):
            return await proceed()
        self.strike(fault, f"write {ordinal}, {call.verb} {call.resource} {call.key} by {call.actor}")
        refusal = _refusal(fault, call)
        if refusal is not None:
            return _refused(call, refusal)
        return await self._lost(fault, call, proceed)

    async def _lost(self, fault: OnWrite, call: Call, proceed: Proceed) -> Answer:
        """Do *fault*, which is more than a refusal."""
        victims = self._victims
        where = f"{call.method} {call.path}"
        match fault:
            case OnWrite.CRASH_BEFORE:
                victims.crash(call.actor)
                raise Reset(f"{where}: the process died")
            case OnWrite.CRASH_COMMITTED:
                await proceed()
                victims.crash(call.actor)
                raise Reset(f"{where}: the process died")
            case OnWrite.CRASH_ANSWERED:
                victims.crash_with_answer(call.actor)
                return await proceed()
            case OnWrite.TOUCH:
                victims.touch(call)
                return await proceed()
            case OnWrite.PAUSE:
                victims.pause(call.actor, self.plan.pause)
                await self._clock.sleep(0)
                return await proceed()
            case OnWrite.TIMEOUT_APPLIED:
                await proceed()
                return _refused(
                    call, Failure(504, "Timeout", "Timeout: request did not complete within the time limit")
                )
            case OnWrite.RESET_AFTER:
                await proceed()
                raise Reset(f"{where}: the connection broke")
            case OnWrite.LATE:
                victims.later(self.plan.late, proceed)
                raise Reset(f"{where}: the connection broke")
            case OnWrite.HANGS:
                answer = await proceed()
                await self._clock.sleep(60.0)
                return answer
            case OnWrite.TRUNCATED:
                answer = await proceed()
                return Answer(answer.status, answer.body[: len(answer.body) // 2], answer.headers)
        raise Reset(f"{where}: the connection broke")

    @staticmethod
    def _decode(call: Call) -> None:
        """Let the checkers see a request that may never be looked at by the server."""
        if call.document is None:
            call.document = orjson.loads(call.body or b"null")

    # Reads.

    async def _open(self, call: Call, proceed: Proceed) -> Answer:
        ordinal = self._opens
        self._opens += 1
        await self._travel()
        if "sendInitialEvents" in call.query and not self.plan.streams and not self._healed:
            return _refused(call, _no_streams())
        fault = self.plan.opens.get(ordinal)
        if fault is None or self._healed:
            return await proceed()
        self.strike(fault, f"watch {ordinal} of {call.resource} by {call.actor}")
        match fault:
            case OnOpen.GONE:
                return _refused(call, expired("too old resource version: 1 (2)"))
            case OnOpen.THROTTLED:
                return _refused(call, too_many_requests())
            case OnOpen.TOO_LARGE:
                return _refused(call, too_large_version(2, 1))
            case OnOpen.RESET:
                raise Reset(f"{call.method} {call.path}: the connection broke")
            case OnOpen.UNSUPPORTED if "sendInitialEvents" in call.query:
                return _refused(call, _no_streams())
        return _refused(call, internal("on purpose"))

    async def _list(self, call: Call, proceed: Proceed) -> Answer:
        ordinal = self._lists
        self._lists += 1
        if self.plan.page and "limit" in call.query:
            # A server may always return fewer objects than it is asked for.
            call.query["limit"] = str(self.plan.page)
        await self._travel()
        fault = self.plan.lists.get(ordinal)
        if fault is None or self._healed:
            return await proceed()
        self.strike(fault, f"list {ordinal} of {call.resource} by {call.actor}")
        match fault:
            case OnList.GONE if "continue" in call.query:
                return _refused(call, expired("The provided continue parameter is too old"))
            case OnList.THROTTLED:
                return _refused(call, too_many_requests())
            case OnList.RESET:
                raise Reset(f"{call.method} {call.path}: the connection broke")
            case OnList.TRUNCATED:
                answer = await proceed()
                return Answer(answer.status, answer.body[: len(answer.body) // 2], answer.headers)
        return _refused(call, internal("on purpose"))

    # Chunks.

    def chunk(self, call: Call, line: bytes) -> Chunk:
        if self._healed or not self._victims.is_ours(call.actor):
            return Chunk((line,))
        if line.startswith(b'{"type":"BOOKMARK"') and not self.plan.bookmarks and INITIAL_END.encode() not in line:
            return Chunk()
        ordinal = self._chunks
        self._chunks += 1
        before = self._before.setdefault(call.ordinal, deque(maxlen=4))
        fault = self.plan.chunks.get(ordinal)
        verdict = Chunk((line,)) if fault is None else self._bend(fault, ordinal, call, line, before)
        if b'"BOOKMARK"' not in line[:20]:
            before.append(line)
        return verdict

    def _bend(self, fault: OnChunk, ordinal: int, call: Call, line: bytes, before: deque[bytes]) -> Chunk:
        self.strike(fault, f"line {ordinal} of a watch of {call.resource} by {call.actor}")
        match fault:
            case OnChunk.TWICE:
                return Chunk((line, line))
            case OnChunk.REPLAY:
                return Chunk((line, before[0]) if before else (line, line))
            case OnChunk.DELAY:
                return Chunk((line,), after=self._tape.pick((0.05, 0.6, 3.0, 9.0)))
            case OnChunk.EOF:
                return Chunk(end=True)
            case OnChunk.HALF:
                return Chunk(half=line[: len(line) // 2])
            case OnChunk.GARBAGE:
                return Chunk((b'{"type":"MODI\xff',))
            case OnChunk.STALL:
                return Chunk(after=FOREVER)
            case OnChunk.GONE:
                return Chunk((error_line(too_old(1, 2)),), end=True)
        return Chunk((error_line(internal("on purpose")),), end=True)


def _refusal(fault: OnWrite, call: Call) -> Failure | None:
    """Return what the server says when it refuses without having done anything."""
    info = call.info
    plural, group, kind = (info.plural, info.group, info.kind) if info is not None else ("", "", "")
    match fault:
        case OnWrite.CONFLICT:
            return conflict(plural, group, call.name)
        case OnWrite.INVALID:
            return invalid(kind, group, call.name, invalid_value("metadata.uid", "x", "field is immutable"))
        case OnWrite.FORBIDDEN:
            return Failure(403, "Forbidden", f'{plural} "{call.name}" is forbidden: not today')
        case OnWrite.MISSING:
            return not_found("namespaces", "", call.namespace)
        case OnWrite.THROTTLED:
            return too_many_requests(retry_after=2)
        case OnWrite.INTERNAL:
            return internal("on purpose")
        case OnWrite.UNAVAILABLE:
            return Failure(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        case OnWrite.TIMEOUT_LOST:
            return Failure(504, "Timeout", "Timeout: request did not complete within the time limit")
    return None


def _no_streams() -> Failure:
    text = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
    return Failure(422, "Invalid", f"ListOptions.meta.k8s.io is invalid: sendInitialEvents: Forbidden: {text}")


def _refused(call: Call, failure: Failure) -> Answer:
    call.code, call.reason = failure.code, failure.reason
    return Answer(failure.code, failure.body(), failure.headers())
