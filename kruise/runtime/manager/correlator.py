"""Which events become objects, and which only a higher count. Pure.

Purpose: ten thousand reports of the same thing are one Event with a count, ten kinds of noise about one object are a
few Events, and no object can fill the server with them.

Guarantees:

* REC1: events are the same when action, reason, controller, instance, regarding and related are; a series has a count
  of at least 2. A note has at most 1,024 bytes, cut between characters: longer ones are refused.
* REC2: a series ends when nothing was reported for 6 minutes; while it lives, its count is written every 30 minutes.
* REC3: new Events about one object from one source pass a bucket of 25 tokens that gets one back every 300 s. A count
  costs no token: it makes no object.
* REC4: the tenth different note within 600 s makes one Event "(combined from similar events): "; whatever follows only
  raises its count, because the note of an Event cannot be changed.
* REC7: a summary is one Event for (object, reason), whatever its note says the next time.

All memories are bounded to 4,096 entries; the least recently used goes first.

What this does not do: it sends nothing and knows no clock; the caller passes the time.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

from kruise.runtime.objects import ObjectMeta

MAX_NOTE: Final = 1024
MAX_WORD: Final = 128
"""Bytes of a reason, an action and an instance."""
COMBINED: Final = "(combined from similar events): "
SIMILAR: Final = 10
SIMILAR_WINDOW: Final = 600.0
BURST: Final = 25
REFILL: Final = 300.0
"""Seconds per token."""
FINISH: Final = 360.0
REFRESH: Final = 1800.0
REMEMBERED: Final = 4096

K = TypeVar("K")
V = TypeVar("V")


class Reference(NamedTuple):
    """What an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class EventKey(NamedTuple):
    """Events with one key are similar (REC1)."""

    action: str
    reason: str
    controller: str
    instance: str
    regarding: Reference
    related: Reference | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that somebody wants to be known."""

    key: EventKey
    type: str
    note: str
    summary: bool = False
    """Stands for all reports of its key (REC7)."""


@dataclass(slots=True, eq=False)
class Series:
    """One Event object, existing or to come. The caller keeps what it knows of the object in the last fields."""

    key: EventKey
    identity: tuple[EventKey, str | None]
    """What tells this series from others of its key: the note, or None for a summary."""
    type: str
    note: str
    first: float
    """Wall time of the first report."""
    last: float
    """Wall time of the latest report."""
    seen: float
    """Monotonic time of the latest report."""
    count: int = 1
    written: int = 0
    """The count that the server has; 0 before the object was created."""
    written_at: float = 0.0
    """Monotonic time of the last write."""
    name: str = ""
    meta: ObjectMeta | None = None
    queued: bool = False
    busy: bool = False
    again: bool = False

    @property
    def pending(self) -> int:
        """How many reports the server does not know of."""
        return self.count - self.written


class Step(enum.Enum):
    """What a report asks for."""

    CREATE = "create"
    PATCH = "patch"
    WAIT = "wait"
    """Only the count has grown; it is written later."""
    DROP = "drop"
    """The spam filter refused it."""


class Correlator:
    """Decides on each report. The same reports at the same times always give the same answers."""

    def __init__(self) -> None:
        self._series: _Recent[tuple[EventKey, str | None], Series] = _Recent(REMEMBERED)
        self._similar: _Recent[EventKey, _Similar] = _Recent(REMEMBERED)
        self._buckets: _Recent[tuple[str, str, Reference], _Bucket] = _Recent(REMEMBERED)

    def observe(self, report: Report, *, now: float, wall: float) -> tuple[Step, Series | None]:
        """Take *report* at monotonic time *now*; return what to do, and the Event it belongs to (None for DROP)."""
        note, identity = self._place(report, now)
        series = self._series.get(identity)
        if series is not None and now - series.seen < FINISH:
            series.count += 1
            series.last, series.seen = wall, now
            # A series is told to the server when it begins, at count 2; later counts wait for the next refresh.
            return (Step.PATCH if series.count == 2 else Step.WAIT), series
        source = (report.key.controller, report.key.instance, report.key.regarding)
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets.put(source, _Bucket(float(BURST), now))
        if not bucket.take(now):
            return Step.DROP, None
        made = Series(report.key, identity, report.type, cut(note), wall, wall, now, written_at=now)
        return Step.CREATE, self._series.put(identity, made)

    def due(self, now: float) -> list[Series]:
        """Forget the series that have ended; return those whose count should be written now (REC2)."""
        found = []
        for series in list(self._series.values()):
            ended = now - series.seen >= FINISH
            if ended and not series.queued and not series.busy:
                self._series.drop(series.identity)
            if series.written and series.pending and (ended or now - series.written_at >= REFRESH):
                found.append(series)
        return found

    def unwritten(self) -> list[Series]:
        """Return every series of which the server does not know the latest count."""
        return [series for series in self._series.values() if series.pending]

    def forget(self, series: Series) -> None:
        """Forget *series*: it could not be written, so the next report of its kind starts anew."""
        if self._series.peek(series.identity) is series:
            self._series.drop(series.identity)

    def __len__(self) -> int:
        return len(self._series)

    def _place(self, report: Report, now: float) -> tuple[str, tuple[EventKey, str | None]]:
        """Return the note and the identity of the Event that *report* belongs to."""
        if report.summary:
            return report.note, (report.key, None)
        similar = self._similar.get(report.key)
        if similar is None or now - similar.last > SIMILAR_WINDOW:
            similar = self._similar.put(report.key, _Similar())
        similar.last = now
        similar.notes[report.note] = None
        if len(similar.notes) < SIMILAR:
            return report.note, (report.key, report.note)
        if len(similar.notes) > SIMILAR:
            del similar.notes[next(iter(similar.notes))]
        return COMBINED + report.note, (report.key, COMBINED)


@dataclass(slots=True)
class _Similar:
    notes: dict[str, None] = field(default_factory=dict)
    last: float = 0.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float

    def take(self, now: float) -> bool:
        self.tokens = min(float(BURST), self.tokens + (now - self.at) / REFILL)
        self.at = now
        # A sum of many small parts may miss a whole token by a rounding error.
        if self.tokens < 1.0 - 1e-9:
            return False
        self.tokens -= 1.0
        return True


class _Recent(Generic[K, V]):
    """A map that keeps the entries used last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        found = self._items.get(key)
        if found is not None:
            self._items.move_to_end(key)
        return found

    def peek(self, key: K) -> V | None:
        return self._items.get(key)

    def put(self, key: K, value: V) -> V:
        self._items[key] = value
        self._items.move_to_end(key)
        if len(self._items) > self._limit:
            self._items.popitem(last=False)
        return value

    def drop(self, key: K) -> None:
        self._items.pop(key, None)

    def values(self) -> Iterator[V]:
        return iter(self._items.values())

    def __len__(self) -> int:
        return len(self._items)


def cut(text: str, limit: int = MAX_NOTE) -> str:
    """Return *text* in at most *limit* bytes of UTF-8, the unit in which the server counts.

    >>> cut("abcdef", 5)
    'ab…'
    """
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode("utf-8", "ignore") + "…"


def summary_note(what: str, count: int, examples: Sequence[str] = ()) -> str:
    """Return the note of a summary: *what* happened, to how many, and as many *examples* as there is room for.

    >>> summary_note("pods failed", 5000, ["node-1: exit code 3", "node-2: exit code 1"])
    'pods failed: 5000 (for example node-1: exit code 3; node-2: exit code 1; and 4998 more)'
    """
    head = f"{what}: {count}"
    shown: list[str] = []
    best = cut(head)
    for example in examples:
        shown.append(" ".join(example.split()))
        left = count - len(shown)
        tail = f"; and {left} more" if left > 0 else ""
        note = f"{head} (for example {'; '.join(shown)}{tail})"
        if len(note.encode("utf-8", "replace")) > MAX_NOTE:
            break
        best = note
    return best
