"""The work queue against a model that is too slow and too simple to be wrong."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kruise.runtime.controller.queue_state import AGEING, BAND, QueueState
from kruise.runtime.controller.ratelimit import ItemBackoff
from kruise.runtime.objects import Key

KEYS = [Key("ns", name) for name in "abcdef"]
keys = st.sampled_from(KEYS)
priorities = st.sampled_from([-100, -100, 0, 0, 0, 50, 100])
delays = st.sampled_from([0.0, 0.0, -1.0, 0.5, 2.0, 60.0])


@dataclass
class Model:
    """Everything about one key that waits or runs."""

    priority: int
    wanted: float
    not_before: float = 0.0
    running: bool = False
    run_priority: int = 0
    again: bool = False
    eager: bool = False  # again, for somebody who named no time
    counted: bool = False
    gated: bool = False
    boost: int = 0
    order: float | None = None  # when it got its place; None while it is delayed
    seq: int = 0
    pushed: float = 0.0

    @property
    def due(self) -> float:
        return max(self.wanted, self.not_before)


class QueueMachine(RuleBasedStateMachine):
    batch_period = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        limiter = ItemBackoff(random.Random(0), base=1.0, cap=64.0, jitter=0.0, quiet=1e9)
        self.queue = QueueState(limiter, batch_period=self.batch_period)
        self.ended: dict[Key, float] = {}
        self.queue.gate = lambda key: key in self.closed_gates
        self.closed_gates: set[Key] = set()
        self.failures: dict[Key, int] = {}
        self.model: dict[Key, Model] = {}
        self.seq = 0

    # The model's own steps.

    def settle(self) -> None:
        """Give a place to what has become due, in the order of the due times."""
        late = [m for m in self.model.values() if not m.running and m.order is None and m.due <= self.now]
        for m in sorted(late, key=lambda m: (m.due, m.seq)):
            m.order = m.due
            self.push(m)

    def push(self, m: Model) -> None:
        self.seq += 1
        m.seq, m.pushed = self.seq, self.now

    def age(self) -> None:
        while True:
            old = [
                m
                for m in self.model.values()
                if not m.running and not m.gated and m.order is not None and m.pushed + AGEING <= self.now
            ]
            if not old:
                return
            m = min(old, key=lambda m: (m.pushed, m.seq))
            m.boost += BAND
            m.order = self.now
            self.push(m)

    def enqueue(self, key: Key, m: Model) -> None:
        self.model[key] = m
        m.order = None
        self.seq += 1
        m.seq = self.seq

    def back_off(self, key: Key) -> float:
        self.failures[key] = self.failures.get(key, 0) + 1
        return self.now + min(64.0, 2.0 ** (self.failures[key] - 1))

    def batched(self, key: Key) -> float:
        """Return from when on an event may begin a run (QUE14)."""
        return max(self.now, self.ended.get(key, -math.inf) + self.batch_period)

    def wish(self, key: Key, priority: int, after: float) -> None:
        m, wanted = self.model.get(key), self.now + after if after > 0 else self.batched(key)
        if m is None:
            self.enqueue(key, Model(priority, wanted))
        elif m.running:
            m.priority = max(m.priority, priority) if m.again else priority
            if after > 0:
                m.wanted = min(m.wanted, wanted)
            else:
                m.eager = True
            m.again = True
        else:
            raised = priority > m.priority
            m.priority = max(m.priority, priority)
            if wanted < m.wanted:
                m.wanted = wanted
                if m.order is None:
                    self.seq += 1
                    m.seq = self.seq
                    return
            if raised and m.order is not None and not m.gated:
                m.order = self.now
                self.push(m)

    # Rules.

    @rule(key=keys, priority=priorities, after=delays)
    def add(self, key: Key, priority: int, after: float) -> None:
        self.queue.advance(self.now)
        self.settle()
        self.queue.add(key, self.now, priority=priority, after=after)
        self.wish(key, priority, after)
        self.settle()

    @rule(key=keys, priority=st.none() | priorities)
    def add_failed(self, key: Key, priority: int | None) -> None:
        self.queue.advance(self.now)
        self.settle()
        self.queue.add_failed(key, self.now, priority=priority)
        m = self.model.get(key)
        if m is None:
            self.enqueue(key, Model(priority or 0, self.now, not_before=self.back_off(key), counted=True))
            return
        if m.running and not m.counted:
            m.counted = True
            m.not_before = self.back_off(key)
        own = m.run_priority if m.running else m.priority
        self.wish(key, own if priority is None else priority, 0.0)
        self.settle()

    @rule()
    def get(self) -> None:
        popped = self.queue.pop(self.now)
        self.settle()
        self.age()
        while True:
            ready = [(k, m) for k, m in self.model.items() if not m.running and not m.gated and m.order is not None]
            if not ready:
                assert popped is None
                return
            key, m = min(ready, key=lambda km: (-(km[1].priority + km[1].boost), km[1].order, km[1].seq))
            if key in self.closed_gates:
                m.gated = True
                continue
            break
        assert popped is not None
        item, _ = popped
        assert item.key == key, f"model hands out {key}, queue {item.key}"
        assert item.priority == m.priority
        assert m.due <= self.now, "a key must never run before its back-off is over"
        m.running, m.run_priority, m.again, m.counted = True, m.priority, False, False
        m.boost, m.not_before, m.order = 0, 0.0, None
        m.wanted, m.eager = math.inf, False

    @precondition(lambda self: any(m.running for m in self.model.values()))
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([k for k, m in self.model.items() if m.running]))
        self.queue.advance(self.now)
        self.settle()
        assert self.queue.done(key, self.now) is not None
        m = self.model.pop(key)
        self.ended[key] = self.now
        if m.again:
            if m.eager:
                m.wanted = min(m.wanted, self.batched(key))
            m.running = m.again = False
            m.wanted = max(m.wanted, self.now)
            self.enqueue(key, m)
            self.settle()

    @rule(key=keys)
    def done_of_an_idle_key(self, key: Key) -> None:
        m = self.model.get(key)
        if m is None or not m.running:
            assert self.queue.done(key, self.now) is None

    @rule(key=keys)
    def forget(self, key: Key) -> None:
        self.queue.forget(key)
        self.failures.pop(key, None)

    @rule(key=keys)
    def reset(self, key: Key) -> None:
        self.queue.advance(self.now)
        self.settle()
        self.queue.reset(key, self.now)
        self.failures.pop(key, None)
        m = self.model.get(key)
        if m is not None and m.not_before > self.now:
            m.not_before = min(m.not_before, self.back_off(key))
            if not m.running and m.order is None:
                self.seq += 1
                m.seq = self.seq

    @rule(key=keys, shut=st.booleans())
    def gate(self, key: Key, shut: bool) -> None:
        if shut:
            self.closed_gates.add(key)
            return
        self.closed_gates.discard(key)
        m = self.model.get(key)
        assert self.queue.ungate(key, self.now) == (m is not None and m.gated)
        if m is not None and m.gated:
            m.gated = False
            self.push(m)

    @rule(seconds=st.sampled_from([0.001, 0.5, 1.0, 5.0, 31.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def drop_waiting(self) -> None:
        self.queue.drop_waiting()
        self.model = {k: m for k, m in self.model.items() if m.running}
        for m in self.model.values():
            m.again = m.eager = False
            m.wanted = math.inf
        self.ended.clear()

    # What holds always.

    @invariant()
    def the_same_keys_are_known(self) -> None:
        assert {info.key for info in self.queue.dump(self.now)} == set(self.model)
        assert len(self.queue) <= len(KEYS)

    @invariant()
    def the_counts_agree(self) -> None:
        self.queue.advance(self.now)
        self.settle()
        waits = [m for m in self.model.values() if not m.running]
        assert self.queue.running == sum(m.running for m in self.model.values())
        assert self.queue.gated == sum(m.gated for m in waits)
        assert self.queue.delayed == sum(m.order is None for m in waits)
        assert self.queue.ready == sum(m.order is not None and not m.gated for m in waits)
        assert len(list(self.queue.waiting())) == self.queue.ready + self.queue.gated, "depth counts a gated key"

    @invariant()
    def the_next_timer_is_the_earliest_due_key(self) -> None:
        due = [m.due for m in self.model.values() if not m.running and m.order is None and m.due > self.now]
        assert self.queue.next_due() == (min(due) if due else None)

    @invariant()
    def failures_are_counted_once(self) -> None:
        for info in self.queue.dump(self.now):
            assert info.failures == self.failures.get(info.key, 0)


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


class TestQue1QueueAgainstModel(QueueMachine.TestCase):  # type: ignore[name-defined,misc]
    """QUE1, QUE2, QUE3, QUE4, QUE7, QUE8, QUE13 as one state machine (test_que1_contract_against_model)."""


class BatchingMachine(QueueMachine):
    batch_period = 2.0


BatchingMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


class TestQue14QueueWithABatchPeriod(BatchingMachine.TestCase):  # type: ignore[name-defined,misc]
    """QUE14: the same machine, with a batch period."""
