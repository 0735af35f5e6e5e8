"""The pure half of the work queue: which keys wait, which run, and which comes next.

Purpose: every rule of the queue as plain state, so that a model can be held against it. Each call passes the monotonic
time; nothing here sleeps, wakes anybody or knows an event loop. ``queue.py`` is the shell around it.

A key is in one state at a time::

                 add                    hand out                 done, nothing new
    (unknown) ---------> READY <---+ ---------------> RUNNING ----------------------> (unknown)
        |                  |       |                     |
        | add, after > 0   | gate  | ungate              | done, and an add came meanwhile
        v                  v       |                     v
      DELAYED ----------> GATED ---+              READY or DELAYED
         (due: READY)

Guarantees: QUE1 (these sets), QUE2 (the earliest wish wins), QUE3 (one failure per run; events do not shorten a
back-off), QUE4 (:meth:`QueueState.reset`), QUE7 (priorities), QUE8 (ageing), QUE13 (the gate), QUE14 (the batch
period).

What this does not do: it keeps no history of a key that neither waits nor runs; the limiter alone remembers failures.
"""

from __future__ import annotations

import enum
import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from kruise.runtime.controller.ratelimit import RateLimiter
from kruise.runtime.objects import Key

BAND: Final = 100
"""How far apart two bands of priority are: user changes are 0, backlog is -100."""
AGEING: Final = 30.0
"""Seconds of waiting after which a key moves up one band (QUE8)."""
_SWEEP: Final = 64


class KeyState(enum.Enum):
    """Where a key is."""

    READY = "ready"
    DELAYED = "delayed"
    GATED = "gated"
    RUNNING = "running"


class Item(NamedTuple):
    """A key as it is handed to a worker."""

    key: Key
    priority: int
    """The priority that it was added with; ageing does not show here, or a backlog would stay promoted for ever."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key of a dump (QUE12). Times are in seconds."""

    key: Key
    state: KeyState
    priority: int
    age: float
    """Since it became ready, began to run, or was delayed."""
    failures: int
    next_run: float | None
    """Until its next run; ``None`` when nothing but a worker, the gate or an event is awaited."""


class _Entry:
    __slots__ = (
        "again",
        "boost",
        "counted",
        "eager",
        "key",
        "not_before",
        "priority",
        "running",
        "seq",
        "since",
        "state",
        "wanted",
    )

    def __init__(self, key: Key, priority: int, wanted: float) -> None:
        self.key = key
        self.state: KeyState | None = None
        self.priority = priority
        self.boost = 0
        self.wanted = wanted  # the earliest time that anybody asked for; while it runs, of those who named one
        self.not_before = 0.0  # the end of the back-off; wishes do not go below it (QUE3)
        self.since = wanted
        self.seq = 0  # the only heap slot of this key that still counts
        self.running: int = 0  # the priority of the run under way
        self.again = False  # added while it runs
        self.eager = False  # added while it runs, by somebody who named no time
        self.counted = False  # this run's failure is in the limiter


class QueueState:
    """The sets of one work queue. All times are monotonic seconds, and never go backwards."""

    def __init__(self, limiter: RateLimiter, *, ageing: float = AGEING, batch_period: float = 0.0) -> None:
        self._limiter = limiter
        self._ageing = ageing
        self._batch_period = batch_period
        self._ended: dict[Key, float] = {}
        """When the last run of a key ended, the oldest first; forgotten after the batch period."""
        self._entries: dict[Key, _Entry] = {}
        self._seq = 0
        self._heap: list[tuple[int, float, int, _Entry]] = []
        self._delays: list[tuple[float, int, _Entry]] = []
        self._aging: deque[tuple[float, int, _Entry]] = deque()
        self.ready = 0
        """How many keys could be handed out, as far as the gate lets them."""
        self.delayed = 0
        self.gated = 0
        self.running = 0
        self.gate: Callable[[Key], bool] | None = None
        """Tells whether a key has to be held back now; asked when it would be handed out (QUE13)."""

    def __len__(self) -> int:
        """How many keys are known: waiting or running."""
        return len(self._entries)

    def add(self, key: Key, now: float, *, priority: int = 0, after: float = 0.0) -> bool:
        """Ask for a run of *key* in *after* seconds. Return whether this was news: no run of it was asked for yet."""
        eager = after <= 0
        wanted = now if eager else now + after
        entry = self._entries.get(key)
        if entry is not None and entry.state is KeyState.RUNNING:
            news = not entry.again
            entry.again = True
            entry.priority = priority if news else max(entry.priority, priority)
            entry.eager = entry.eager or eager
            if not eager:
                entry.wanted = min(entry.wanted, wanted)
            return news
        if eager:
            wanted = self._batched(key, now)
        if entry is None:
            entry = _Entry(key, priority, wanted)
            self._entries[key] = entry
            self._place(entry, now)
            return True
        raised = priority > entry.priority
        if raised:
            entry.priority = priority
        if wanted < entry.wanted:
            entry.wanted = wanted
            if entry.state is KeyState.DELAYED:
                self._place(entry, now)
                return False
        if raised and entry.state is KeyState.READY:
            # QUE7: to the tail of its new priority. At its old place it would overtake what waited there first.
            entry.since = now
            self._push(entry, now)
        return False

    def add_failed(self, key: Key, now: float, *, priority: int | None = None) -> bool:
        """Ask for another run after a failed one, when its back-off is over. Return as :meth:`add` does.

        Without *priority*, that of the failed run holds (QUE7).
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = _Entry(key, priority or 0, now)
            entry.not_before = now + self._limiter.when(key, now)
            entry.counted = True
            self._entries[key] = entry
            self._place(entry, now)
            return True
        if entry.state is KeyState.RUNNING:
            if not entry.counted:
                entry.counted = True
                entry.not_before = now + self._limiter.when(key, now)
            priority = entry.running if priority is None else priority
        # A key that waits already has had its failure counted, or had no run that could fail (k/k#132805: counting
        # each event made the delay explode).
        return self.add(key, now, priority=entry.priority if priority is None else priority)

    def pop(self, now: float) -> tuple[Item, float] | None:
        """Hand out the next key with the seconds that it was ready; ``None`` when none can run now."""
        self.advance(now)
        self._age(now)
        heap, gate = self._heap, self.gate
        while heap:
            _, _, seq, entry = heapq.heappop(heap)
            if seq != entry.seq or entry.state is not KeyState.READY:
                continue
            self.ready -= 1
            if gate is not None and gate(entry.key):
                entry.state = KeyState.GATED
                self.gated += 1
                continue
            waited = max(0.0, now - entry.since)
            entry.state = KeyState.RUNNING
            entry.running, entry.since = entry.priority, now
            entry.again = entry.counted = entry.eager = False
            entry.boost, entry.not_before, entry.wanted = 0, 0.0, math.inf
            self.running += 1
            return Item(entry.key, entry.running), waited
        return None

    def done(self, key: Key, now: float) -> float | None:
        """End the run of *key*; return its length in seconds, or ``None`` when it does not run."""
        entry = self._entries.get(key)
        if entry is None or entry.state is not KeyState.RUNNING:
            return None
        self.running -= 1
        length = max(0.0, now - entry.since)
        if self._batch_period > 0:
            self._note_end(key, now)
        if entry.again:
            if entry.eager:
                entry.wanted = min(entry.wanted, self._batched(key, now))
            entry.again = entry.eager = False
            entry.state = None
            # Ready from now on: a wish from the middle of a long run does not overtake those who waited meanwhile.
            entry.wanted = max(entry.wanted, now)
            self._place(entry, now)
        else:
            del self._entries[key]
        return length

    def forget(self, key: Key) -> None:
        """Drop the failures of *key*. A back-off under way is kept."""
        self._limiter.forget(key)

    def reset(self, key: Key, now: float) -> None:
        """Put *key* back to the first step of its back-off, because it is not the object that failed (QUE4)."""
        self._limiter.forget(key)
        entry = self._entries.get(key)
        if entry is not None and entry.not_before > now:
            entry.not_before = min(entry.not_before, now + self._limiter.when(key, now))
            if entry.state is KeyState.DELAYED:
                self._place(entry, now)

    def ungate(self, key: Key, now: float) -> bool:
        """Let *key* be asked for again, at the place that it had. Return whether it was held back."""
        entry = self._entries.get(key)
        if entry is None or entry.state is not KeyState.GATED:
            return False
        self.gated -= 1
        self.ready += 1
        entry.state = KeyState.READY
        self._push(entry, now)
        return True

    def gated_keys(self) -> tuple[Key, ...]:
        """Return the keys that the gate holds back."""
        return tuple(e.key for e in self._entries.values() if e.state is KeyState.GATED)

    def running_keys(self) -> tuple[Key, ...]:
        """Return the keys that workers have."""
        return tuple(e.key for e in self._entries.values() if e.state is KeyState.RUNNING)

    def drop_waiting(self) -> int:
        """Forget every key that does not run, and every wish to run again; return how many."""
        before = len(self._entries)
        self._entries = {k: e for k, e in self._entries.items() if e.state is KeyState.RUNNING}
        for entry in self._entries.values():
            entry.again = entry.eager = False
            entry.wanted = math.inf
        self._ended.clear()
        self._heap.clear()
        self._delays.clear()
        self._aging.clear()
        self.ready = self.delayed = self.gated = 0
        return before - len(self._entries)

    def next_due(self) -> float | None:
        """Return when the next delayed key is due."""
        delays = self._delays
        while delays and not self._is_delay(delays[0][1], delays[0][2]):
            heapq.heappop(delays)
        return delays[0][0] if delays else None

    def advance(self, now: float) -> None:
        """Make ready what is due by *now*, in the order of the due times."""
        delays = self._delays
        while delays and delays[0][0] <= now:
            due, seq, entry = heapq.heappop(delays)
            if self._is_delay(seq, entry):
                self.delayed -= 1
                self._make_ready(entry, due, now)

    def waiting(self) -> Iterator[tuple[int, float]]:
        """Yield (priority, ready since) of every key that is ready or gated: what the depth counts."""
        for entry in self._entries.values():
            if entry.state is KeyState.READY or entry.state is KeyState.GATED:
                yield entry.priority, entry.since

    def runs(self) -> Iterator[float]:
        """Yield when each run under way began."""
        for entry in self._entries.values():
            if entry.state is KeyState.RUNNING:
                yield entry.since

    def dump(self, now: float) -> tuple[KeyInfo, ...]:
        """Return every key, those that run first, then by priority and age."""
        order = {KeyState.RUNNING: 0, KeyState.READY: 1, KeyState.GATED: 2, KeyState.DELAYED: 3}
        infos = [self._info(entry, now) for entry in self._entries.values()]
        return tuple(sorted(infos, key=lambda i: (order[i.state], -i.priority, -i.age, i.key)))

    def _info(self, e: _Entry, now: float) -> KeyInfo:
        assert e.state is not None, "a key is placed in the same step in which it is made"
        running = e.state is KeyState.RUNNING
        due = max(now if e.eager else e.wanted, e.not_before)
        until: float | None = None
        if e.state is KeyState.DELAYED or (running and e.again):
            until = max(0.0, due - now)
        priority = e.running if running else e.priority
        return KeyInfo(e.key, e.state, priority, max(0.0, now - e.since), self._limiter.failures(e.key), until)

    def _note_end(self, key: Key, now: float) -> None:
        ended = self._ended
        ended.pop(key, None)
        ended[key] = now
        while True:
            first = next(iter(ended))
            if ended[first] + self._batch_period > now:
                return
            del ended[first]

    def _batched(self, key: Key, now: float) -> float:
        """Return from when on an event may begin a run of *key*: the first one after a pause at once (QUE14)."""
        ended = self._ended.get(key)
        return now if ended is None else max(now, ended + self._batch_period)

    def _is_delay(self, seq: int, entry: _Entry) -> bool:
        return seq == entry.seq and entry.state is KeyState.DELAYED

    def _place(self, entry: _Entry, now: float) -> None:
        due = max(entry.wanted, entry.not_before)
        if entry.state is KeyState.DELAYED:
            self.delayed -= 1
        if due <= now:
            self._make_ready(entry, due, now)
            return
        if entry.state is not KeyState.DELAYED:
            entry.since = now
        entry.state = KeyState.DELAYED
        self.delayed += 1
        self._seq += 1
        entry.seq = self._seq
        heapq.heappush(self._delays, (due, entry.seq, entry))
        if len(self._delays) > 2 * self.delayed + _SWEEP:
            # A key that asks for "in an hour" after each of its events would leave an hour's worth of dead slots.
            self._delays = [slot for slot in self._delays if self._is_delay(slot[1], slot[2])]
            heapq.heapify(self._delays)

    def _make_ready(self, entry: _Entry, due: float, now: float) -> None:
        entry.state = KeyState.READY
        entry.since = due
        self.ready += 1
        self._push(entry, now)

    def _push(self, entry: _Entry, now: float) -> None:
        self._seq += 1
        entry.seq = self._seq
        heapq.heappush(self._heap, (-(entry.priority + entry.boost), entry.since, entry.seq, entry))
        self._aging.append((now + self._ageing, entry.seq, entry))
        if len(self._heap) > 2 * self.ready + _SWEEP:
            self._heap = [slot for slot in self._heap if self._is_ready(slot[2], slot[3])]
            heapq.heapify(self._heap)
        if len(self._aging) > 4 * self.ready + 16 * _SWEEP:
            self._aging = deque(slot for slot in self._aging if self._is_ready(slot[1], slot[2]))

    def _is_ready(self, seq: int, entry: _Entry) -> bool:
        return seq == entry.seq and entry.state is KeyState.READY

    def _age(self, now: float) -> None:
        aging = self._aging
        while aging and aging[0][0] <= now:
            _, seq, entry = aging.popleft()
            if self._is_ready(seq, entry):
                # To the tail of the next band, as after every bump: it overtakes nobody who waits there already.
                entry.boost += BAND
                self._seq += 1
                entry.seq = self._seq
                heapq.heappush(self._heap, (-(entry.priority + entry.boost), now, entry.seq, entry))
                aging.append((now + self._ageing, entry.seq, entry))
