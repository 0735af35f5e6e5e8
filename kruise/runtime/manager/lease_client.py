"""The requests of an election: read, create, patch, release and watch one Lease.

Purpose: turn a step of ``lease.decide`` into a request, and its answer into the next event.

Guarantees:

* LEA5: each request has its own time-out, max(1 s, renew deadline / 2), on the pool of the lease.
* LEA3, LEA10: every patch carries the resourceVersion and the uid of the Lease that was seen; what the answer means
  (taken, lost race, unknown outcome) is told by the event.
* LEA12: the holder writes its labels onto the Lease.
* LEA14: :func:`check_no_other_leader` guards a start without an election.
* The cause of a failure is logged once, with what to do about it, and not every two seconds.

What this does not do: it decides nothing and it retries nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import orjson

from kruise.runtime.client.frames import Codec, EventReader, EventType
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Clock
from kruise.runtime.errors import (
    AlreadyExists,
    ApiError,
    ConfigError,
    Conflict,
    DecodeError,
    Forbidden,
    Invalid,
    NotFound,
    TransportError,
    UnknownOutcome,
)
from kruise.runtime.log import get_logger
from kruise.runtime.manager.lease import (
    LEASES,
    Create,
    Durations,
    Event,
    Failed,
    Lease,
    Patch,
    Read,
    Refused,
    Seen,
    Wrote,
    acquire_patch,
    create_body,
    release_patch,
    renew_patch,
)
from kruise.runtime.metrics import Metrics

log = get_logger("leader")

WATCH_SECONDS: Final = 300
DEFAULT_LABELS: Final[Mapping[str, str]] = MappingProxyType({"app.kubernetes.io/managed-by": "kruise-manager"})


@dataclass(frozen=True, slots=True)
class ElectionOptions:
    """One election."""

    identity: str
    """Unique per process: the host name and a UUID."""
    namespace: str = "kruise-system"
    name: str = "kruise-manager"
    """Defaults to OpenKruise's own Lease, so that a Go manager and this one never act together."""
    durations: Durations = field(default_factory=Durations)
    release: bool = True
    """Defaults to true: give the lease back on a clean stop, so that a standby need not wait for its end."""
    labels: Mapping[str, str] = field(default_factory=lambda: DEFAULT_LABELS)
    """Labels that the holder puts on the Lease."""

    def __post_init__(self) -> None:
        for flag, value in (("id", self.name), ("namespace", self.namespace), ("identity", self.identity)):
            if not value:
                raise ConfigError(f"--leader-election-{flag}=: must not be empty")


class LeaseClient:
    """The requests of one candidate."""

    def __init__(self, rest: Rest, options: ElectionOptions, *, clock: Clock, metrics: Metrics) -> None:
        self._rest = rest
        self._options = options
        self._clock = clock
        self._metrics = metrics
        self._codec = Codec(LEASES)
        self._said = ""

    async def read(self) -> Lease | None:
        """Return the Lease, ``None`` when there is none. Raises what the request raises."""
        o = self._options
        return await _read(self._rest, self._codec, o.namespace, o.name, o.durations.one_try)

    async def perform(self, step: Read | Create | Patch) -> Event:
        """Send the request of *step* and return what happened; raises nothing but a cancellation."""
        d, sent = self._options.durations, self._clock.boottime()
        try:
            async with asyncio.timeout(d.one_try):
                if isinstance(step, Read):
                    return Seen(self._clock.boottime(), await self.read())
                lease = await self._write(step)
        except (Conflict, AlreadyExists) as error:
            log.debug("the lease has changed", error=str(error))
            return Refused(self._clock.boottime())
        except (NotFound, Invalid) as error:
            if isinstance(step, Patch):  # it was deleted, or made anew under another uid
                return Refused(self._clock.boottime())
            return self._failed(sent, error, unknown=False)
        except ApiError as error:
            return self._failed(sent, error, unknown=False)
        except (TransportError, DecodeError, UnknownOutcome, TimeoutError) as error:
            never_sent = isinstance(error, TransportError) and not error.sent
            return self._failed(sent, error, unknown=not (isinstance(step, Read) or never_sent))
        self._said = ""
        return Wrote(self._clock.boottime(), sent, lease)

    async def _write(self, step: Create | Patch) -> Lease:
        o, wall = self._options, self._clock.now()
        if isinstance(step, Create):
            body = create_body(o.namespace, o.name, o.identity, o.durations, wall, step.transitions, o.labels)
            return await self._send("create", "POST", "", body)
        if step.acquire:
            body = acquire_patch(step.lease, o.identity, o.durations, wall, step.transitions, o.labels)
        else:
            body = renew_patch(step.lease, wall)
        return await self._send("patch", "PATCH", o.name, body)

    async def _send(self, verb: str, method: str, name: str, body: dict[str, Any]) -> Lease:
        answer = await self._rest.call(
            verb,
            method,
            LEASES,
            namespace=self._options.namespace,
            name=name,
            body=orjson.dumps(body),
            content_type="application/json" if method == "POST" else "application/merge-patch+json",
            timeout=self._options.durations.one_try,
        )
        return self._codec.decode(answer.body)

    async def release(self) -> bool:
        """Read the Lease and empty its holder, when that is us (LEA8).

        False: it is worth another try. A refusal that will not change is logged, and counts as done.
        """
        o = self._options
        try:
            async with asyncio.timeout(o.durations.one_try):
                lease = await self.read()
                if lease is not None and lease.holder == o.identity:
                    await self._send("patch", "PATCH", o.name, release_patch(lease, self._clock.now()))
                    log.info("released the lease", lease=o.name, identity=o.identity)
        except ApiError as error:
            if isinstance(error, Conflict) or error.status.code == 429 or error.status.code >= 500:
                log.debug("releasing the lease is tried again", error=str(error))
                return False
            log.warning("the lease was not released and ends by itself", error=str(error), seconds=o.durations.lease)
        except (TransportError, DecodeError, UnknownOutcome, TimeoutError) as error:
            log.debug("releasing the lease is tried again", error=str(error) or "no answer")
            return False
        return True

    async def watch(self, version: str) -> AsyncGenerator[Lease | None, None]:
        """Yield the Lease each time it changes after *version*, ``None`` when it was deleted (LEA15).

        Ends when the server ends the watch; raises what the request raises, and DecodeError for an answer that is no
        event of a Lease.
        """
        stream = await self._rest.watch(
            LEASES,
            namespace=self._options.namespace,
            field_selector=f"metadata.name={self._options.name}",
            resource_version=version,
            timeout_seconds=WATCH_SECONDS,
        )
        async with stream:
            reader = EventReader(stream, self._codec, clock=self._clock, metrics=self._metrics)
            while batch := await reader.batch():
                for event in batch:
                    if event.type is EventType.BOOKMARK:
                        continue
                    if event.type is EventType.DELETED:
                        yield None
                    elif isinstance(event.object, Lease):
                        yield event.object
                    else:
                        raise DecodeError(f"the watch of the lease answered {event.type.name}: {event.status}")

    def _failed(self, sent: float, error: Exception, *, unknown: bool) -> Failed:
        o = self._options
        text = str(error) or f"no answer within {o.durations.one_try:g} s"
        if text != self._said:
            self._said = text
            hint = "it is tried again"
            if isinstance(error, NotFound):
                hint = f"create the namespace {o.namespace}, or name another with --leader-election-namespace"
            elif isinstance(error, Forbidden):
                hint = f"allow get, patch and watch of the lease {o.name}, and create of leases, in {o.namespace}"
            log.warning("cannot take or renew the lease", lease=o.name, namespace=o.namespace, error=text, hint=hint)
        return Failed(self._clock.boottime(), sent, unknown)


async def _read(rest: Rest, codec: Codec[Lease], namespace: str, name: str, timeout: float) -> Lease | None:
    try:
        answer = await rest.call("get", "GET", LEASES, namespace=namespace, name=name, timeout=timeout)
    except NotFound:
        return None
    return codec.decode(answer.body)


async def check_no_other_leader(rest: Rest, *, namespace: str, name: str, durations: Durations, clock: Clock) -> None:
    """Raise ConfigError when somebody else holds the Lease and renews it (LEA14).

    Watches for at most the duration of the lease, because only what is seen to change here tells a live holder from a
    dead one (LEA2). Raises ApiError or TransportError when the Lease cannot be read: then nobody knows.
    """
    codec = Codec(LEASES)
    first = await _read(rest, codec, namespace, name, durations.one_try)
    if first is None or not first.holder:
        return
    end = clock.boottime() + float(first.record.lease_duration_seconds or durations.lease)
    while (left := end - clock.boottime()) > 0:
        await clock.sleep(min(durations.retry, left))
        lease = await _read(rest, codec, namespace, name, durations.one_try)
        if lease is None or not lease.holder:
            return
        if lease.record != first.record:
            raise ConfigError(
                f"--leader-elect=false: {lease.holder} holds the lease {namespace}/{name} and renews it; "
                "two managers must never act together: stop that one, or leave the election on"
            )
