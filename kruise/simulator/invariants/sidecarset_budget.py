"""C5: which pods an upgrade of sidecars may take, and how many at a time.

Purpose: ``reliability.md`` 3.4. An upgrade is a write of ours that gives a pod another version of a set. The second
steps of hot upgrades are none: they are exempt (spec 10.3).

Guarantees:

* *snapshot*: how it stood at some version that is not older than a view may be, with what we upgraded ourselves since,
  allowed one pod more: by ``maxUnavailable`` for a pod that was up at the version that the write names, by
  ``partition`` for any.
* *attributed*: the pods that we took while they were up, for the present version of the set, and that are not back
  yet, are never more than the budget.
* Nothing is upgraded while the set is paused, of type NotUpdate, or for a pod that ``updateStrategy.selector`` leaves
  out; nor while as many pods as the budget has, which come first by priority, have waited since a while ago; nor a
  working pod when one that is down has been passed over since a while ago, where there is no priority: that one costs
  nothing.
* What the set said lately counts like what it says now: no write can be conditional on another object.

What this does not do: the finer order of equal priorities, which depends on what pods do, and that of scatter are the
planner's own tests' business. Pods that are down on an older version use no budget, as with OpenKruise (spec 8.5).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from kruise.runtime.objects import Key
from kruise.simulator.invariants import sidecarset_reading as reading
from kruise.simulator.invariants.model import Body, Observed, Written
from kruise.simulator.invariants.sidecarset_facts import Facts, SetFacts
from kruise.simulator.invariants.sidecarset_reading import PODS

Report = Callable[[str, object, str], None]
_TRAILING: Final = re.compile(r"[0-9]*\Z")


class Budget:
    """C5 over one history."""

    def __init__(self, facts: Facts, report: Report, *, slack: float) -> None:
        self._facts = facts
        self._report = report
        self._slack = slack
        self._troubled: dict[Key, float] = {}
        """Pod -> when a write of ours to it did not succeed last."""
        self._passed: dict[tuple[str, Key, float], float] = {}
        """(set, pod, since when that is down and waits) -> since when pods that work are upgraded instead."""

    def on_request(self, request: Written) -> None:
        """Remember which pods we could not write: they wait alone, and others take their turn."""
        if request.resource == PODS and request.writes and not 200 <= request.code < 300:
            self._troubled[request.key] = request.time

    def on_upgrade(self, commit: Observed, found: SetFacts) -> None:
        """Look at an upgrade by us to *found*, before the facts take it in."""
        assert commit.old is not None, "an upgrade has an old state"
        states = found.states(commit.time, self._slack)
        if not states:
            return  # C10 has it
        if all(reading.paused(state) for state in states):
            self._report("C5", commit, "a pod is upgraded while the set is paused")
        if not any(reading.updates(state) for state in states):
            self._report("C5", commit, "a pod is upgraded under NotUpdate")
        labels = commit.old["metadata"].get("labels") or {}
        chosen = [reading.strategy(state).get("selector") for state in states]
        if all(one is not None and not reading.matches(one, labels) for one in chosen):
            self._report("C5", commit, "updateStrategy.selector leaves the pod out")
        self._check_room(commit, found, states)
        self._check_order(commit, found, states)

    def _check_room(self, commit: Observed, found: SetFacts, states: list[Body]) -> None:
        assert commit.old is not None, "an upgrade has an old state"
        was_up = reading.up(found.owner, commit.old)
        room = allowed = False
        most = 0
        for moment in found.lately(commit.time, self._slack):
            upgraded, from_up = found.since(moment.rv)
            limit = max(reading.budget(state, moment.total) for state in states)
            kept = min(reading.partition(state, moment.total) for state in states)
            most = max(most, limit)
            allowed = allowed or moment.waiting - upgraded > kept
            room = room or moment.busy + from_up + 1 <= limit
        if not allowed:
            text = f"{found.waiting} pods wait, and the partition keeps as many: {_said(states, 'partition')}"
            self._report("C5", commit, text)
        if not was_up:
            return
        if not room:
            text = (
                f"{found.busy} pods are on their way, and the budget is {most}, as at every version since a while ago"
            )
            self._report("C5", commit, f"snapshot: {text}")
        ours = {*found.taken, commit.key}
        if len(ours) > most:
            self._report("C5", commit, f"attributed: {len(ours)} pods are down by our hand, and the budget is {most}")

    def _check_order(self, commit: Observed, found: SetFacts, states: list[Body]) -> None:
        """Priority alone, and only where it has been the same for a while."""
        strategies = [reading.strategy(state) for state in states]
        if any(one.get("scatterStrategy") for one in strategies):
            return
        if all(one.get("priorityStrategy") is None for one in strategies):
            self._check_down_first(commit, found)
        if any(one.get("priorityStrategy") is None for one in strategies):
            return
        if len({str(one.get("priorityStrategy")) for one in strategies}) > 1:
            return
        rule, now = strategies[0]["priorityStrategy"], commit.time
        mine = _rank(rule, commit.old or {})
        before = [
            key
            for key, flags in found.flags.items()
            if key != commit.key
            and flags.waiting
            and now - flags.since > self._slack
            and now - self._troubled.get(key, -now) > self._slack
            and _rank(rule, flags.pod) < mine
        ]
        limit = max(reading.budget(state, found.total) for state in states)
        if before and len(before) >= limit:
            self._report("C5", commit, f"the pods {', '.join(map(str, sorted(before)))} come before it by priority")

    def _check_down_first(self, commit: Observed, found: SetFacts) -> None:
        """A pod that is down comes before one that works (spec 8.3)."""
        assert commit.old is not None, "an upgrade has an old state"
        if not reading.up(found.owner, commit.old):
            return
        down = {
            (found.name, key, max(flags.since, flags.turned))
            for key, flags in found.flags.items()
            if flags.waiting and not flags.up and key not in self._troubled
        }
        self._passed = {one: at for one, at in self._passed.items() if one in down or one[0] != found.name}
        for one in down:
            # Those of one pass are upgraded in any order.
            if commit.time - self._passed.setdefault(one, commit.time) > self._slack:
                self._report("C5", commit, f"the pod {one[1]} is down, and comes before it")


def _said(states: list[Body], name: str) -> str:
    return ", ".join(str(reading.strategy(state).get(name)) for state in states)


def _rank(rule: Body, pod: Body) -> tuple[int, int]:
    """Return where a pod comes by its labels, lower first (spec 8.3)."""
    labels = (pod.get("metadata") or {}).get("labels") or {}
    if rule.get("weightPriority"):
        terms = rule["weightPriority"]
        return -sum(int(one["weight"]) for one in terms if reading.matches(one.get("matchSelector"), labels)), 0
    for level, term in enumerate(rule.get("orderPriority") or ()):
        value = labels.get(term["orderedKey"])
        if value is not None:
            digits = _TRAILING.search(value)
            return level, -int(digits[0] or 0) if digits is not None else 0
    return -1, 0
