"""The Lease as leader election sees it: its form on the wire, and the pure rule of who may lead.

Purpose: :func:`decide` turns what one candidate knows and what just happened into what it does next. No clock, no
network, no randomness: the shell in ``leader.py`` brings all three.

Guarantees:

* LEA1: :class:`Durations` are 15, 10 and 2 s, the jitter factor is 1.2, and lease > renew > 1.2 x retry is checked.
* LEA2: only times that were measured here count. ``renewTime`` and ``acquireTime`` of others are never compared with
  our clock; a lease is over when its record has not changed for its duration *since we saw it change*.
* LEA3: while the lease is valid a renewal is one PATCH with the resourceVersion; a read comes first only when the
  record is not known, and that step says so (``Read.slow``).
* LEA8: :func:`release_patch` empties the holder, sets one second and keeps the transitions.
* LEA10: an absent Lease is created; a refused write is followed by a read; transitions grow at each change of holder;
  stamps are UTC MicroTime with six fraction digits.
* LEA15: a standby waits for exactly one moment, the end of the lease that it observes.

What this does not do: it does not protect against clocks that run at different rates. When the leader's clock is
slower than a standby's by more than lease / renew (15 : 10), two candidates can believe that they lead; the conditional
writes of the client are the second line. It also promises no order between candidates: whoever writes first, leads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from kruise.runtime.clock import format_micro_time
from kruise.runtime.errors import ConfigError
from kruise.runtime.objects import Object, Resource, compare_versions

JITTER: Final = 1.2
"""A wait between two tries lies between one and this many retry periods."""
SILENCE: Final = 2.0
"""After this many jittered retry periods without news a standby asks once whether its watch is still alive."""


class LeaseSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """``coordination.k8s.io/v1 LeaseSpec``."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    """``coordination.k8s.io/v1 Lease``."""

    spec: LeaseSpec | None = None

    @property
    def record(self) -> LeaseSpec:
        """The spec; an empty one when there is none."""
        return self.spec or _NO_SPEC

    @property
    def holder(self) -> str:
        """Who holds the lease; ``""`` when nobody does."""
        return self.record.holder_identity or ""


_NO_SPEC: Final = LeaseSpec()

LEASES: Final = Resource("coordination.k8s.io", "v1", "Lease", "leases", Lease)


@dataclass(frozen=True, slots=True)
class Durations:
    """The three durations of an election, in seconds (LEA1). Raises ConfigError when they do not fit each other."""

    lease: float = 15.0
    """Defaults to 15: a standby waits this long after the last renewal that it saw."""
    renew: float = 10.0
    """Defaults to 10: a leader that could not renew for this long stops its work."""
    retry: float = 2.0
    """Defaults to 2: the pause between two tries."""

    def __post_init__(self) -> None:
        if self.retry <= 0:
            raise ConfigError(f"--leader-election-retry-period={self.retry:g}s: must be longer than 0")
        if self.renew <= JITTER * self.retry:
            raise ConfigError(
                f"--leader-election-renew-deadline={self.renew:g}s: must be longer than "
                f"{JITTER:g} x --leader-election-retry-period={self.retry:g}s"
            )
        if self.lease <= self.renew:
            raise ConfigError(
                f"--leader-election-lease-duration={self.lease:g}s: must be longer than "
                f"--leader-election-renew-deadline={self.renew:g}s"
            )
        if self.lease < 1:
            raise ConfigError(f"--leader-election-lease-duration={self.lease:g}s: must be at least 1 s")

    @property
    def gap(self) -> float:
        """Seconds between the renew deadline and the earliest moment at which another one may lead."""
        return self.lease - self.renew

    @property
    def one_try(self) -> float:
        """The time-out of one request (LEA5)."""
        return max(1.0, self.renew / 2)

    def pause(self, chance: float) -> float:
        """Return a jittered retry period; *chance* in [0, 1)."""
        return self.retry * (1 + (JITTER - 1) * chance)


@dataclass(frozen=True, slots=True)
class State:
    """What one candidate knows. All times are boot time of this machine, in seconds."""

    identity: str
    durations: Durations
    lease: Lease | None = None
    """The Lease as last seen; ``None`` when it is absent, or was never read."""
    known: bool = False
    """Whether ``lease`` may be taken as the present state; False means: read before writing."""
    observed_at: float = 0.0
    """When the record was last seen to change."""
    leading: bool = False
    renewed_at: float = 0.0
    """When the last write that succeeded was sent. Sent, not answered: standbys count from an event after that."""
    next_try: float = 0.0
    """Before this no request is sent."""
    doubted: bool = False
    """Whether the present silence was already checked by a read."""
    transitions: int = -1
    """How often the holder had changed when the Lease was last seen; -1 when it was never seen."""

    @property
    def deadline(self) -> float:
        """When leader work must have ended unless a renewal succeeds (the renew deadline)."""
        return self.renewed_at + self.durations.renew

    @property
    def expires_at(self) -> float:
        """When the lease that somebody else holds is over."""
        seconds = (self.lease.record.lease_duration_seconds if self.lease else None) or 0
        return self.observed_at + (seconds if seconds > 0 else self.durations.lease)

    def with_lease(self, lease: Lease | None) -> State:
        """Return this state after *lease* was seen. A deletion does not make the count of holders start again."""
        seen = self.transitions if lease is None else (lease.record.lease_transitions or 0)
        return replace(self, lease=lease, known=True, transitions=seen)


# What happens. Each event carries the boot time at which it did.
@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""

    now: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A read or the watch showed the Lease; ``None`` when it does not exist."""

    now: float
    lease: Lease | None
    polled: bool = True
    """From a read, and not from the watch."""


@dataclass(frozen=True, slots=True)
class Wrote:
    """A create or patch succeeded. ``sent`` is when it was sent."""

    now: float
    sent: float
    lease: Lease


@dataclass(frozen=True, slots=True)
class Refused:
    """A write was refused because the Lease is not as we thought: it changed, appeared or went away."""

    now: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A request failed. ``unknown``: it was a write, and it may have happened."""

    now: float
    sent: float
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class WatchDown:
    """The watch of a standby ended: what we know may be old."""

    now: float


Event = Tick | Seen | Wrote | Refused | Failed | WatchDown


# What to do next.
@dataclass(frozen=True, slots=True)
class Read:
    """GET the Lease. ``slow``: this is a renewal that could not take the fast path."""

    slow: bool = False


@dataclass(frozen=True, slots=True)
class Create:
    """POST the Lease with us as the holder."""

    transitions: int = 0


@dataclass(frozen=True, slots=True)
class Patch:
    """PATCH the Lease that is given. ``acquire``: write the whole record, else the renew time alone."""

    lease: Lease
    acquire: bool
    transitions: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until then, or until something happens."""

    until: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The term is over: stop the leader work, release nothing."""

    reason: str


Step = Read | Create | Patch | Wait | Lost


def decide(state: State, event: Event, *, chance: float = 0.0) -> tuple[State, Step]:
    """Return the next state and the one thing to do in it. *chance* in [0, 1) decides the jitter of the next pause."""
    state = _learn(state, event, chance)
    return _lead(state, event.now) if state.leading else _stand_by(state, event.now)


def _learn(state: State, event: Event, chance: float) -> State:
    d = state.durations
    match event:
        case Seen():
            return _see(state, event)
        case Wrote(now, sent, lease):
            # A machine that slept between the request and its answer has gained nothing: the term is over before it
            # began, and a standby may hold the lease already.
            leads = now < sent + d.renew and lease.holder == state.identity
            return replace(
                state.with_lease(lease),
                observed_at=now,
                leading=state.leading or leads,
                renewed_at=sent if leads else state.renewed_at,
                next_try=max(now, sent + d.pause(chance)),
                doubted=False,
            )
        case Refused():
            return replace(state, known=False)
        case Failed(now, sent, unknown):
            # A try that hung for its whole time-out is followed by the next one at once; one that failed fast waits.
            return replace(state, known=state.known and not unknown, next_try=max(now, sent + d.pause(chance)))
        case WatchDown(now):
            return replace(state, known=False, next_try=max(state.next_try, now + d.pause(chance)))
        case Tick():
            return state


def _see(state: State, event: Seen) -> State:
    old, new = state.lease, event.lease
    if old is not None and new is not None and not event.polled:
        order = compare_versions(new.resource_version, old.resource_version)
        if order is not None and order <= 0:
            return state  # the watch tells what a write of ours has already answered
    changed = old is None or new is None or old.uid != new.uid or old.record != new.record
    return replace(
        state.with_lease(new),
        observed_at=event.now if changed else state.observed_at,
        doubted=state.doubted and not changed,
    )


def _lead(state: State, now: float) -> tuple[State, Step]:
    if now >= state.deadline:
        return state, Lost(f"the lease could not be renewed for {state.durations.renew:g} s")
    if state.known and state.lease is not None and state.lease.holder != state.identity:
        return state, Lost(f"the lease was taken by {state.lease.holder or 'nobody: its holder was removed'}")
    if now < state.next_try:
        return state, Wait(state.next_try)
    if not state.known:
        return state, Read(slow=True)
    if state.lease is None:
        return state, Create(max(0, state.transitions))
    return state, Patch(state.lease, acquire=False, transitions=state.transitions)


def _stand_by(state: State, now: float) -> tuple[State, Step]:
    if now < state.next_try:
        return state, Wait(state.next_try)
    if not state.known:
        return state, Read()
    lease = state.lease
    if lease is None:
        return state, Create(state.transitions + 1)
    if lease.holder == state.identity:
        # Ours, yet we do not lead: a write of which the answer was lost.
        return state, Patch(lease, acquire=True, transitions=state.transitions)
    if not lease.holder or now >= state.expires_at:
        return state, Patch(lease, acquire=True, transitions=state.transitions + 1)
    silent_at = state.observed_at + SILENCE * JITTER * state.durations.retry
    if not state.doubted and silent_at < state.expires_at:
        # A half-open watch looks like a dead leader. One read tells them apart, long before the lease ends.
        if now >= silent_at:
            return replace(state, doubted=True), Read()
        return state, Wait(silent_at)
    return state, Wait(state.expires_at)


def create_body(
    namespace: str,
    name: str,
    identity: str,
    durations: Durations,
    wall: float,
    transitions: int,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Return the body of a new Lease that *identity* holds. *wall* is in seconds since the epoch."""
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": _record(identity, durations, wall, transitions),
    }


def acquire_patch(
    lease: Lease, identity: str, durations: Durations, wall: float, transitions: int, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the merge patch by which *identity* takes the *lease* that it has seen."""
    return _patch(lease, _record(identity, durations, wall, transitions), labels)


def renew_patch(lease: Lease, wall: float) -> dict[str, Any]:
    """Return the merge patch of a renewal: one stamp, under the condition that nothing has changed (LEA3)."""
    return _patch(lease, {"renewTime": format_micro_time(wall)})


def release_patch(lease: Lease, wall: float) -> dict[str, Any]:
    """Return the merge patch by which the holder of *lease* gives it back (LEA8)."""
    stamp = format_micro_time(wall)
    return _patch(
        lease,
        {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": stamp,
            "renewTime": stamp,
            "leaseTransitions": lease.record.lease_transitions or 0,
        },
    )


def _record(identity: str, durations: Durations, wall: float, transitions: int) -> dict[str, Any]:
    stamp = format_micro_time(wall)
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": max(1, math.ceil(durations.lease)),
        "acquireTime": stamp,
        "renewTime": stamp,
        "leaseTransitions": transitions,
    }


def _patch(lease: Lease, spec: dict[str, Any], labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"resourceVersion": lease.resource_version}
    if lease.uid:
        metadata["uid"] = lease.uid
    if labels:
        metadata["labels"] = dict(labels)
    return {"metadata": metadata, "spec": spec}
