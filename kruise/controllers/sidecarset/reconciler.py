"""The shell around the planner of SidecarSets: observe, plan, apply, report.

Purpose: one reconcile of one set (spec/sidecarset 7).

Guarantees:

* The view of a set is kept between passes and told only what changed in the stores since; it reads the stores when the
  plan is made, so one plan sees one snapshot (reliability, rule 15). When the wait for our own writes ran out, set,
  revisions and pods are read live for that pass (CON3).
* A pod event from which nothing follows for a set begins no pass over it; one of a pod on which a decision was stale
  always does.
* Revisions are settled before anything else, so that upgraded pods name the one that they have.
* The status is written when it changed: at once for a first, final or awaited change, and when the pass ends in an
  error; else at most twice a second, and never lost: the pass asks to be called again. A condition that turns to and
  fro makes no exception.
* A pod may come from a newer set than the cache has: another replica injected it. Before one is upgraded whose version
  the set has never had here, the set is read live, once; when it is another one, nothing is done until its news come.
* What fails for one pod is raised once, so that it is counted, logged and tried again at once; after that it waits for
  itself alone (rule 30). A write of which nobody knows what came counts against the budget as long as it may still
  happen (rule 5). A stale decision (a 409, or a pod that is gone) is no failure.
* A pass that has decided lends its worker to another set while it waits for its writes, unless a pod that it writes to
  has sidecars of more than one set: another pass would plan on what is about to change, and meet a conflict.
* One malformed set gets one event and one log line that name the field, and stops no other (G8, X29). Nothing is done
  for it.
* A set that is being deleted, or is gone, changes no pod (C10). What is kept per set goes with the set (G9).

What this does not do: it decides nothing; ``plan`` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from kruise.apis.core import PODS, Pod
from kruise.apis.sidecarset import INJECTED_LIST_ANNOTATION, PROGRESSING, SIDECARSETS, SidecarSet
from kruise.controllers.common.holds import Holds
from kruise.controllers.common.pace import STATUS_PERIOD
from kruise.controllers.common.reasons import Reason
from kruise.controllers.common.reconciling import STALE_FOR, ObjectReconciler
from kruise.controllers.sidecarset import slots as m
from kruise.controllers.sidecarset.actions import NOT_UPGRADABLE_PODS, Why
from kruise.controllers.sidecarset.apply import Applied, apply
from kruise.controllers.sidecarset.explain import Facts
from kruise.controllers.sidecarset.frame import Frame
from kruise.controllers.sidecarset.history import Choice, History
from kruise.controllers.sidecarset.observe import Observer, Stores
from kruise.controllers.sidecarset.plan import Plan, plan
from kruise.controllers.sidecarset.podannotations import injected_names
from kruise.controllers.sidecarset.podstate import entry_of
from kruise.controllers.sidecarset.reports import action_of, pod_events
from kruise.controllers.sidecarset.sight import CHECK_EVERY, Live, Memory, Sight
from kruise.controllers.sidecarset.status import Settled, settle, wire
from kruise.controllers.sidecarset.view import View
from kruise.runtime.cache.store import Change
from kruise.runtime.client.client import Client
from kruise.runtime.clock import Clock
from kruise.runtime.controller import After, Done, Result, only_waiting
from kruise.runtime.log import get_logger
from kruise.runtime.manager.recorder import EventSink
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key

__all__ = ["SidecarSetReconciler"]

log = get_logger("sidecarset")

SOON: Final = 0.001
"""Seconds after which a pass that left something over is followed by the next; no failure, so no back-off."""
_VERSIONS: Final = 32
"""How many versions are remembered of a set. One that is forgotten is asked for again."""
_PENDING: Final = m.WAITING | m.FLIP | m.REPAIR | m.MARK_NO | m.MARK_YES
"""The marks of a pod that is to be written to."""


@dataclass(slots=True)
class _Kept:
    """What is kept of one set between passes."""

    told: set[tuple[str, str]]
    """The lasting states that were reported, each with the hash under which it began."""
    memory: Memory = field(default_factory=Memory)
    choice: Choice | None = None
    holds: Holds = field(default_factory=Holds)
    """The pods on which the last attempt failed, by uid."""
    keys: dict[str, Key] = field(default_factory=dict)
    """Their keys."""
    raised: bool = False
    """The last pass ended in the error of single pods."""
    passing: bool = False
    """A pass is under way: its view may not change."""
    generation: int = 0
    concerns: tuple[str, ...] = ()
    """What the policy for sidecars warns of in this generation."""
    versions: dict[str, None] = field(default_factory=dict)
    """The hashes that are known to be the set's or older, those of pods included; the newest last."""
    written: float = -math.inf
    """Monotonic seconds: when the status was written last."""


def _no_concerns(_: Mapping[str, Any]) -> tuple[str, ...]:
    """Warn of nothing."""
    return ()


class SidecarSetReconciler(ObjectReconciler[SidecarSet, _Kept]):
    """Reconciles sets by key. Call it with a key; it returns when to look again."""

    def __init__(
        self,
        *,
        client: Client,
        recorder: EventSink,
        stores: Stores,
        clock: Clock,
        metrics: Metrics,
        controller: str,
        namespace: str = "kruise-system",
        scopes: Sequence[str] = (),
        check_every: float = CHECK_EVERY,
        concerns: Callable[[Mapping[str, Any]], tuple[str, ...]] = _no_concerns,
    ) -> None:
        """*namespace* is that of the manager, *scopes* are those that the caches have: none for all.

        *concerns* says what is to be warned of in a set, plain JSON, for as long as it is there.
        """
        super().__init__(
            SIDECARSETS,
            stores.sets,
            client=client,
            recorder=recorder,
            clock=clock,
            log=log,
            noun="set",
            action_of=action_of,
        )
        self._history = History(client, namespace)
        self._concerns = concerns
        self.observer: Final = Observer(stores, clock)
        self._sight = Sight(
            client,
            self.observer,
            clock=clock,
            differences=metrics.view_differences.labels(controller),
            own_namespace=namespace,
            scopes=scopes,
            check_every=check_every,
        )

    # Which sets a change concerns.

    def sets_of_pod(self, change: Change[Any]) -> Iterable[Key]:
        """Name the sets for which something follows from the change of a pod."""
        names = self.observer.wanting(change.old, change.new)
        return [Key("", name) for name in sorted(names) if self._has_news(name, unknown=True)] if names else ()

    def sets_of_namespace(self, _: Change[Any]) -> Iterable[Key]:
        """Name the sets for which something follows from the change of a namespace."""
        return [Key("", name) for name in self.observer.noted() if self._has_news(name, unknown=False)]

    def _has_news(self, name: str, *, unknown: bool) -> bool:
        """Tell whether a set wants a pass after what was noted on it; *unknown* for one that had none yet."""
        kept = self._kept.get(self._uids.get(Key("", name), ""))
        if kept is None:
            return unknown
        return kept.passing or self._sight.news(kept.memory)

    # One pass.

    async def _reconcile(self, one: SidecarSet, /, *, live: bool) -> Result:
        kept = self._kept.get(one.uid)
        if kept is None:
            kept = self._kept[one.uid] = _Kept(_told_before(one))
        if kept.generation != one.metadata.generation:
            kept.holds.clear()  # the user may have repaired what failed (QUE4)
            kept.generation = one.metadata.generation
            kept.concerns = self._concerns({"spec": msgspec.json.decode(msgspec.json.encode(one.spec))})
        kept.passing = True
        try:
            return await self._observe(one, kept, live=live)
        finally:
            kept.passing = False

    async def _observe(self, one: SidecarSet, kept: _Kept, *, live: bool) -> Result:
        """Settle the revisions, bring the view up to date, and go on with the pass."""
        read = await self._sight.read_live(one) if live else None
        choice = None if Frame.of(one).problem else await self._choose(one, kept, read)
        if read is None:
            await self._sight.prepare(one, kept.memory)
            if self._store.raw(one.key) is not one:
                return Done()  # it changed in the meantime: its own event begins the next pass
        view = self._sight.look(one, kept.memory, read)
        view.revision = one.status.latest_revision if choice is None else choice.name
        return await self._pass(one, kept, view, choice, live=live)

    async def _choose(self, one: SidecarSet, kept: _Kept, read: Live | None) -> Choice:
        """Return the revisions of the set, written as far as they were not."""
        if read is not None:
            return await self._history.choose(one, read.revisions, None)
        kept.choice = await self._history.choose(one, self.observer.revisions(one), kept.choice)
        return kept.choice

    async def _pass(self, one: SidecarSet, kept: _Kept, view: View, choice: Choice | None, *, live: bool) -> Result:
        now, moment = self._clock.now(), self._clock.monotonic()
        planned = plan(view, now, holds=kept.holds.waiting(moment), unsure=kept.holds.unsure(moment))
        if not await self._outdated(one, kept, planned, live=live):
            return Done()  # the set is newer than its cache: its own event begins the next pass
        kept.memory.awaited.clear()
        if planned.changes and not any(_is_shared(change.pod) for change in planned.changes):
            only_waiting()
        done = await apply(self._client, planned)
        self._hold(kept, view, done)
        self._report_all(one, kept, planned, done)
        errors = [failure.error for failure in done.failures]
        if choice is not None and not one.terminating:
            errors += await self._history.truncate(one, choice, view.revisions_in_use())
        settled = self._settled(one, kept, planned, choice)
        raising = bool(errors) and not kept.raised
        waits = [kept.holds.next_due(self._clock.monotonic()), STALE_FOR if done.stale else None]
        waits.append(await self._write_status(one, kept, settled, at_once=raising))
        due = min((max(SOON, wait) for wait in waits if wait is not None), default=None)
        kept.raised = raising
        if raising:
            raise errors[0]
        for error in errors:
            log.warning("a pod waits after an error", SidecarSet=str(one.key), error=str(error))
        if planned.error:
            self._tell_bad(one, planned.error)
            return self._invalid(one, planned.error, due)
        self._bad.pop(one.key, None)
        return Done() if due is None else After(due)

    async def _outdated(self, one: SidecarSet, kept: _Kept, planned: Plan, *, live: bool) -> bool:
        """Tell whether *one* is at least as new as every pod that is to be upgraded to it."""
        found = {entry_of(one.metadata.name, change.pod).hash for change in planned.of(Why.UPGRADE)} - {"", one.hash}
        if not live and not kept.versions.keys() >= found:
            now = await self._read_live(one)
            if now is None or now.hash != one.hash:
                return False
        for version in (*found, one.hash):
            kept.versions.pop(version, None)
            kept.versions[version] = None
        while len(kept.versions) > _VERSIONS:
            del kept.versions[next(iter(kept.versions))]
        return True

    @staticmethod
    def _settled(one: SidecarSet, kept: _Kept, planned: Plan, choice: Choice | None) -> Settled:
        failures = {uid: hold.error for uid, hold in kept.holds}
        if choice is None:
            count, facts = one.status.collision_count or 0, Facts(failures=failures)
        else:
            count, facts = choice.chosen.collision_count, Facts(failures=failures, contents=choice.contents)
        return settle(planned.view, planned, collision_count=count, facts=facts, concerns=kept.concerns)

    def _hold(self, kept: _Kept, view: View, done: Applied) -> None:
        """Let what failed in this pass wait, and forget what is no longer to be done."""
        moment = self._clock.monotonic()
        for failure in done.failures:
            pod = failure.change.pod
            kept.holds.failed(pod.uid, str(pod.key), failure.error, moment)
            kept.keys[pod.uid] = pod.key
        for change in done.stale:
            kept.memory.awaited.add(change.pod.key)
        if len(kept.holds):
            well = {change.pod.uid for change in done.done}
            kept.holds.keep(lambda uid: uid not in well and _pending(view, uid, kept.keys[uid]))
        if kept.keys:
            kept.keys = {uid: kept.keys[uid] for uid, _ in kept.holds}

    async def _write_status(self, one: SidecarSet, kept: _Kept, settled: Settled, *, at_once: bool) -> float | None:
        """Write the status when it changed and its time has come; return the seconds to wait when it has not.

        A condition that turns to and fro, as pods come and go around the budget, is told no faster than all else.
        """
        shown = wire(one.status)
        status = shown if settled.status is None else wire(settled.status)
        now = self._clock.monotonic()
        turned = settled.turned and now - kept.written >= STATUS_PERIOD
        wait = await self._put_status(one, status, shown, urgent=settled.decisive or turned or at_once)
        if wait is None and status != shown:
            kept.written = now
        return wait

    # Reports and upkeep.

    def _report_all(self, one: SidecarSet, kept: _Kept, planned: Plan, done: Applied) -> None:
        for change in done.stale:
            log.debug("a decision is stale, the next event decides again", SidecarSet=str(one.key), pod=change.pod.key)
        # The number of pods in its text may change with each pass; a state is told once, when it begins (spec 8.2).
        now = {(event.reason, one.hash): event for event in planned.events}
        self._report(one, [event for state, event in now.items() if state not in kept.told])
        kept.told.clear()
        kept.told.update(now)
        for pod, event in pod_events(done):
            self._tell_of_pod(pod, event.type, event.reason, event.note)

    def _tell_of_pod(self, pod: Pod, kind: str, reason: str, note: str) -> None:
        self._recorder.event(pod, PODS, type=kind, reason=reason, action=action_of(reason), note=note)

    def _forget(self, key: Key, uid: str) -> None:
        super()._forget(key, uid)
        self.observer.forget(key.name)

    def _tables(self) -> tuple[Sized, ...]:
        return (*super()._tables(), self.observer)


def _is_shared(pod: Pod) -> bool:
    """Tell whether more than one set wrote its sidecars into the pod."""
    return len(injected_names(pod.metadata.annotations.get(INJECTED_LIST_ANNOTATION, ""))) > 1


def _pending(view: View, uid: str, key: Key) -> bool:
    """Tell whether the pod *uid* is still there and still to be written to."""
    slot = view.get(key)
    return slot is not None and slot.pod.uid == uid and slot.has(_PENDING)


def _told_before(one: SidecarSet) -> set[tuple[str, str]]:
    """Return the states that a manager before this one reported, as far as the status shows it."""
    reasons = {c.reason for c in one.status.conditions if c.type == PROGRESSING}
    told = {Reason.POD_UNREADABLE: Reason.POD_UNREADABLE, Reason.IMMUTABLE_FIELD_CHANGED: NOT_UPGRADABLE_PODS}
    if one.status.observed_generation != one.metadata.generation:
        return set()
    return {(told[reason], one.hash) for reason in reasons if reason in told}  # type: ignore[index]
