"""What can go wrong between a manager and its API server, as a plan that can be drawn, stored and replayed.

Purpose: one value says which fault strikes where; ``faults_injector.py`` lets it strike.

Guarantees:

* TST2, TST5: a plan maps ordinals of writes, lines, watches and pages to faults: a run is its plan and its tape.
* The classes are those of ``reliability.md`` 4: F1 crashes around a write, F2 and F5 old, late, doubled and replayed
  views, F4 a change between read and write, F6 broken watches and lists, F7 a process that stands still, F9 an API that
  refuses, loses or delays, F10 webhooks that do not answer; and beside them what pods do by themselves.

What this does not do: events of one stream never overtake each other. The order of a watch is the API server's promise;
a client that would survive its breach could trust nothing at all.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import orjson

from kruise.runtime.testing.tape import Tape

LEASES: Final = "leases.coordination.k8s.io"
EVENTS: Final = ("events", "events.events.k8s.io")


class OnWrite(enum.StrEnum):
    """What happens to a write."""

    CRASH_BEFORE = "crash-before-send"
    CRASH_COMMITTED = "crash-after-commit"
    CRASH_ANSWERED = "crash-after-response"
    TOUCH = "touched-in-between"
    """The user changes the object between the read and the write."""
    PAUSE = "paused-on-the-way"
    """The process stands still, with the write on its way."""
    CONFLICT = "409"
    INVALID = "422"
    FORBIDDEN = "403"
    MISSING = "404"
    """The namespace is said to be gone. Said of creations only: of a deletion it would be a lie."""
    THROTTLED = "429"
    INTERNAL = "500"
    UNAVAILABLE = "503"
    TIMEOUT_APPLIED = "504-applied"
    TIMEOUT_LOST = "504-lost"
    RESET_BEFORE = "reset-before-apply"
    RESET_AFTER = "reset-after-apply"
    LATE = "reset-and-applied-late"
    """The connection breaks, and seconds later the write lands all the same."""
    HANGS = "200-after-60s"
    TRUNCATED = "truncated-body"


class OnChunk(enum.StrEnum):
    """What happens to a line of a watch."""

    TWICE = "doubled"
    REPLAY = "replayed"
    """The line comes, and an older one of the same watch after it."""
    DELAY = "delayed"
    EOF = "eof"
    HALF = "half-line"
    GARBAGE = "garbage"
    STALL = "silent-stall"
    GONE = "410-event"
    ERROR = "500-event"


class OnOpen(enum.StrEnum):
    """What a watch meets when it is opened."""

    GONE = "410-on-open"
    THROTTLED = "429-on-open"
    INTERNAL = "500-on-open"
    TOO_LARGE = "too-large-version"
    RESET = "reset-on-open"
    UNSUPPORTED = "no-streaming-list"
    """Answered to a streaming list; any other watch meets 500."""


class OnList(enum.StrEnum):
    """What happens to a page of a list."""

    GONE = "410-on-page"
    """From the second page on; the first one meets 500."""
    THROTTLED = "429-on-list"
    INTERNAL = "500-on-list"
    RESET = "reset-on-list"
    TRUNCATED = "truncated-list"


class View(enum.StrEnum):
    """Which API server a new process talks to."""

    FRESH = "fresh"
    LAGGING = "lagging"
    FROZEN = "frozen"
    """Its watch cache stands still at an old version, for a while."""


class OnTime(enum.StrEnum):
    """What happens to the leader at a moment, whatever it does."""

    CRASH = "leader-crash"
    PAUSE = "leader-paused"
    NO_LEASE = "lease-outage"


class OnAdmission(enum.StrEnum):
    """What happens to a call of our webhooks."""

    REFUSED = "webhook-refused"
    RESET = "webhook-reset"
    """It was answered, and the answer is lost."""
    SLOW = "webhook-slow"
    """No answer within the deadline."""
    INTERNAL = "webhook-500"
    UNAVAILABLE = "webhook-503"
    TRUNCATED = "webhook-truncated"


class OnPod(enum.StrEnum):
    """What pods do, whatever their images say. It is an input like any other (F's pod behaviour, Oat)."""

    CRASH_LOOP = "crash-loop"
    NEVER_READY = "never-ready"
    PULL_ERROR = "pull-error"
    SLOW_START = "slow-start"
    SAME_IMAGE = "same-image-id"
    """All images are one content: a new tag has the digest of the old one (X7)."""
    FLAP = "readiness-flap"
    EVICTED = "evicted"
    SLOW_STOP = "slow-stop"
    """A pod needs its whole grace period to end."""


SETTINGS: Final[Mapping[OnPod, Mapping[str, str]]] = {
    OnPod.CRASH_LOOP: {"run-seconds": "1.5", "exit-code": "1"},
    OnPod.NEVER_READY: {"ready-seconds": "never"},
    OnPod.PULL_ERROR: {"pull-fail-seconds": "forever"},
    OnPod.SLOW_START: {"start-seconds": "4", "ready-seconds": "7"},
    OnPod.SAME_IMAGE: {"image-id": "sim.kruise.io/app@sha256:0"},
    OnPod.FLAP: {"flap-seconds": "3"},
    OnPod.EVICTED: {"evict-seconds": "6"},
    OnPod.SLOW_STOP: {"stop-seconds": "forever"},
}
"""Each behaviour in the words of the simulated nodes."""
POD_PATTERNS: Final = ("*", "*-0", "*-1", "*-[12]", "*-2")
IMAGE_PATTERNS: Final = ("*", "*:v1", "*:v2", "*:v2")


@dataclass(frozen=True, slots=True)
class PodFault:
    """What some pods do while faults strike. Both patterns are shell globs."""

    kind: OnPod
    pod: str = "*"
    image: str = "*"


_AROUND: Final = {
    OnWrite.CRASH_BEFORE: "F1",
    OnWrite.CRASH_COMMITTED: "F1",
    OnWrite.CRASH_ANSWERED: "F1",
    OnWrite.TOUCH: "F4",
    OnWrite.PAUSE: "F7",
}
CLASS_OF: Final[Mapping[enum.StrEnum, str]] = {
    **{one: _AROUND.get(one, "F9") for one in OnWrite},
    OnTime.CRASH: "F1",
    OnTime.PAUSE: "F7",
    OnTime.NO_LEASE: "F7",
    **dict.fromkeys((OnChunk.TWICE, OnChunk.REPLAY, OnChunk.DELAY), "F5"),
    **dict.fromkeys(OnPod, "pods"),
    **dict.fromkeys(OnAdmission, "F10"),
    **dict.fromkeys((View.LAGGING, View.FROZEN), "F2"),
    **dict.fromkeys(
        (OnChunk.EOF, OnChunk.HALF, OnChunk.GARBAGE, OnChunk.STALL, OnChunk.GONE, OnChunk.ERROR, *OnOpen, *OnList), "F6"
    ),
}
"""The class of each fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All faults of one run. Times are virtual seconds from the start of the workload."""

    replicas: int = 1
    shuffled: bool = False
    """Callbacks run in an order drawn from the tape, instead of first come, first served."""
    jitter: bool = False
    """Requests take a drawn time."""
    writes: Mapping[int, OnWrite] = field(default_factory=dict)
    chunks: Mapping[int, OnChunk] = field(default_factory=dict)
    opens: Mapping[int, OnOpen] = field(default_factory=dict)
    lists: Mapping[int, OnList] = field(default_factory=dict)
    views: tuple[View, ...] = ()
    """The view of each new process in turn; when they are used up, the fresh one."""
    lag: float = 0.2
    """By how much the lagging API server is late, in seconds."""
    frozen_at: int = 0
    """How many versions before the newest the frozen one stands still."""
    frozen_for: float = 20.0
    crashes: tuple[float, ...] = ()
    """When the leader crashes, whatever it does."""
    pauses: tuple[tuple[float, float], ...] = ()
    """When the leader stands still, and for how long."""
    lease_outages: tuple[tuple[float, float], ...] = ()
    """When no request for the lease gets through, and for how long."""
    pause: float = 2.0
    """Seconds of a pause that strikes a write."""
    late: float = 1.0
    """Seconds after which a write lands that was given up."""
    page: int = 0
    """How many objects a page has at most; 0 leaves it to the client."""
    bookmarks: bool = True
    streams: bool = True
    """Streaming lists are served."""
    pods: tuple[PodFault, ...] = ()
    """What pods do, until nothing goes wrong any more."""
    admissions: Mapping[int, OnAdmission] = field(default_factory=dict)
    """Calls of our webhooks."""

    def staleness(self) -> float:
        """Return by how many seconds a view may be older than usual, or a decision older than its write.

        No write can be conditional on another object, so that long a decision may rest on what is over.
        """
        chunks, views = list(self.chunks.values()), self.views
        pauses = [self.pause * sum(w is OnWrite.PAUSE for w in self.writes.values()), *(s for _, s in self.pauses)]
        parts = (
            sum(pauses),
            self.lag if View.LAGGING in views else 0.0,
            self.frozen_for + 10.0 if View.FROZEN in views else 0.0,
            9.0 * chunks.count(OnChunk.DELAY),
            self.silence(),
            30.0 if self.opens or self.lists or set(chunks) - {OnChunk.TWICE, OnChunk.REPLAY, OnChunk.DELAY} else 0.0,
            1.0 if self.jitter else 0.0,
            self.late if OnWrite.LATE in self.writes.values() else 0.0,
            10.0 * sum(w is OnWrite.THROTTLED for w in self.writes.values()),
            # The pass goes on when the client has given up, on the view with which it began.
            30.0 * sum(w is OnWrite.HANGS for w in self.writes.values()),
        )
        return sum(parts)

    def silence(self) -> float:
        """Return for how many seconds watches may be silent without anybody noticing.

        70 s, once a bookmark was seen; before that, which is a minute without streaming lists, only its own end tells.
        """
        seen = self.bookmarks and self.streams
        return (80.0 if seen else 620.0) * list(self.chunks.values()).count(OnChunk.STALL)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON."""
        plain: dict[str, Any] = orjson.loads(msgspec.json.encode(self))
        return plain

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Plan:
        """Return the plan of :meth:`to_json`. Raises msgspec.ValidationError."""
        return msgspec.convert(raw, cls, strict=False)


NO_FAULT: Final = Plan()


def draw_plan(tape: Tape, *, writes: int, pods: bool = False, webhooks: bool = False) -> Plan:
    """Draw a plan: a random subset of the classes, and a few faults of each. *writes* is what a run writes, roughly.

    *pods* tells whether the behaviour of pods is drawn as well, *webhooks* whether that of calls of our webhooks is.
    """
    picked = [tape.chance(500) for _ in range(7)]
    if not any(picked):
        picked[tape.draw(len(picked))] = True
    crash, stale, order, broken, still, api, lease = picked
    on_write: dict[int, OnWrite] = {}
    if api:
        refused = [one for one in OnWrite if CLASS_OF[one] in ("F9", "F4")]
        for _ in range(1 + tape.draw(4)):
            kind, at = tape.pick(refused), tape.draw(writes)
            # Some faults last: a server that is away is away for several requests.
            for ordinal in range(at, at + tape.pick((1, 1, 1, 2, 5))):
                on_write[ordinal] = kind
    if still and tape.chance(500):
        on_write[tape.draw(writes)] = OnWrite.PAUSE
    if crash:
        crashes = (OnWrite.CRASH_BEFORE, OnWrite.CRASH_COMMITTED, OnWrite.CRASH_ANSWERED)
        for _ in range(1 + tape.draw(3)):
            on_write[tape.draw(writes)] = tape.pick(crashes)
    on_chunk: dict[int, OnChunk] = {}
    if order:
        mild = (OnChunk.TWICE, OnChunk.REPLAY, OnChunk.DELAY, OnChunk.DELAY)
        on_chunk |= {tape.draw(12 * writes): tape.pick(mild) for _ in range(2 + tape.draw(8))}
    if broken:
        hard = (OnChunk.EOF, OnChunk.HALF, OnChunk.GARBAGE, OnChunk.STALL, OnChunk.GONE, OnChunk.ERROR)
        on_chunk |= {tape.draw(12 * writes): tape.pick(hard) for _ in range(1 + tape.draw(4))}
    if crash or still or lease:
        # A process that ends forgets that a write of it may still land, and no server can make the limit of a job a
        # condition of a creation: B4 then holds for what a process knows, and this would break it by design.
        on_write = {at: OnWrite.RESET_AFTER if kind is OnWrite.LATE else kind for at, kind in on_write.items()}
    views: tuple[View, ...] = ()
    if stale:
        views = tuple(tape.pick(list(View)) for _ in range(4))
    timed = crash and tape.chance(400)
    return Plan(
        replicas=tape.pick((1, 1, 2, 2, 3)),
        shuffled=tape.chance(700),
        jitter=tape.chance(500),
        writes=dict(sorted(on_write.items())),
        chunks=dict(sorted(on_chunk.items())),
        opens={tape.draw(16): tape.pick(list(OnOpen)) for _ in range(1 + tape.draw(3))} if broken else {},
        lists={tape.draw(12): tape.pick(list(OnList)) for _ in range(1 + tape.draw(3))} if broken else {},
        views=views,
        lag=tape.pick((0.05, 0.5, 3.0)),
        frozen_at=tape.pick((0, 1, 3, 8, 20, 60)),
        frozen_for=tape.pick((1.0, 6.0, 25.0)),
        crashes=tuple(sorted(_moment(tape) for _ in range(1 + tape.draw(2)))) if timed else (),
        pauses=((_moment(tape), tape.pick((0.25, 1.0, 5.0, 30.0))),) if still and tape.chance(700) else (),
        lease_outages=((_moment(tape), tape.pick((1.0, 6.0, 20.0))),) if lease else (),
        pause=tape.pick((0.25, 2.0, 5.0, 30.0)),
        late=tape.pick((0.1, 1.0, 4.0)),
        page=tape.pick((0, 1, 2)) if broken else 0,
        bookmarks=not (broken and tape.chance(200)),
        streams=not ((broken or stale) and tape.chance(400)),
        pods=_draw_pods(tape) if pods else (),
        admissions=_draw_admissions(tape) if webhooks else {},
    )


def _draw_admissions(tape: Tape) -> dict[int, OnAdmission]:
    if not tape.chance(400):
        return {}
    found: dict[int, OnAdmission] = {}
    for _ in range(1 + tape.draw(3)):
        kind, at = tape.pick(list(OnAdmission)), tape.draw(24)
        for ordinal in range(at, at + tape.pick((1, 1, 2, 6))):
            found[ordinal] = kind
    return dict(sorted(found.items()))


def _draw_pods(tape: Tape) -> tuple[PodFault, ...]:
    if not tape.chance(500):
        return ()
    kinds = list(OnPod)
    count = 1 + tape.draw(2)
    return tuple(PodFault(tape.pick(kinds), tape.pick(POD_PATTERNS), tape.pick(IMAGE_PATTERNS)) for _ in range(count))


def _moment(tape: Tape) -> float:
    return tape.draw(400) / 10
