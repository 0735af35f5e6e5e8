"""The shell around the planner of StatefulSets: observe, plan, apply, report.

Purpose: one reconcile of one set (spec 3).

Guarantees:

* The view of a set is kept between passes and told only what changed in the stores since; it reads the stores when the
  plan is made, so one plan sees one snapshot (reliability, rule 15). When the wait for our own writes ran out, set,
  revisions, pods and claims are read live for that pass (CON3). From time to time the view is made anew and compared.
* Revisions are settled before anything else; adoptions and releases end a pass, and what they led to begins the next.
* The status is written when it changed: at once for a first, final or awaited change, and when the pass ends in an
  error; else at most twice a second, and never lost: the pass asks to be called again.
* What fails for one pod is raised once, so that it is counted, logged and tried again at once; after that it waits for
  itself alone, because the back-off of the whole set would hold back its other pods (rule 30). A stale decision (a 409)
  is no failure: the event that made it stale begins the next pass.
* A pod that fails again and again is replaced at a slower pace each time.
* One malformed set gets one event and one log line that name the field, and stops no other (G8).
* A set that is being deleted gets its status written and nothing else. What is kept per set goes with the set (G9).

What this does not do: it decides nothing; ``plan`` does.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field, replace
from typing import Final

from kruise.apis.ordinals import NO_MEMBER
from kruise.apis.revisiondata import RevisionDataError
from kruise.apis.selectors import Selector, SelectorError
from kruise.apis.statefulset import STATEFULSETS, StatefulSet, StatefulSetStatus
from kruise.controllers.common.holds import FIRST_DELAY, Holds
from kruise.controllers.common.owner import Owner
from kruise.controllers.common.reasons import NameConflictError
from kruise.controllers.common.reconciling import STALE_FOR, ObjectReconciler
from kruise.controllers.common.replacements import Replacement, Replacements
from kruise.controllers.statefulset.actions import Chain, CreatePod, DeletePod, Failure, Why
from kruise.controllers.statefulset.apply import Applied, apply
from kruise.controllers.statefulset.claiming import selector_of
from kruise.controllers.statefulset.conditions import refused
from kruise.controllers.statefulset.custody import take_and_release
from kruise.controllers.statefulset.history import Choice, History
from kruise.controllers.statefulset.lingering import Lingering
from kruise.controllers.statefulset.observe import Observer, Stores
from kruise.controllers.statefulset.plan import Plan, Settled, plan, settle
from kruise.controllers.statefulset.reports import action_events, action_of
from kruise.controllers.statefulset.risks import Risks
from kruise.controllers.statefulset.serverversion import ServerVersion
from kruise.controllers.statefulset.settings import DEFAULT_SETTINGS, Settings
from kruise.controllers.statefulset.sight import CHECK_EVERY, Live, Look, Memory, Sight
from kruise.controllers.statefulset.status import wire
from kruise.controllers.statefulset.view import View
from kruise.runtime.client.client import Client
from kruise.runtime.clock import Clock, format_time
from kruise.runtime.controller import After, Done, Result, only_waiting
from kruise.runtime.errors import RuntimeFault
from kruise.runtime.log import get_logger
from kruise.runtime.manager.recorder import EventSink
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key

__all__ = ["StatefulSetReconciler"]

log = get_logger("statefulset")

TAKEN_DELAY: Final = 5.0
"""Seconds for which a name that somebody else has is not tried again, unless he is seen to go."""
SOON: Final = 0.001
"""Seconds after which a pass that left something over is followed by the next; no failure, so no back-off."""


@dataclass(slots=True)
class _Kept:
    """What is kept of one set between passes."""

    memory: Memory = field(default_factory=Memory)
    choice: Choice | None = None
    told: set[tuple[str, str]] = field(default_factory=set)
    """The lasting states that were reported."""
    holds: Holds = field(default_factory=Holds)
    """The pods on which the last attempt failed, by name."""
    failures: dict[str, Failure] = field(default_factory=dict)
    """What failed for them, by name."""
    risks: Risks = field(default_factory=Risks)
    """The pods that may go down by a write of which nobody knows what came."""
    replacements: Replacements = field(default_factory=Replacements)
    """The names whose pods fail again and again."""
    lingering: Lingering = field(default_factory=Lingering)
    """What keeps the set waiting."""
    raised: bool = False
    """The last pass ended in the error of single pods."""
    generation: int = 0


class StatefulSetReconciler(ObjectReconciler[StatefulSet, _Kept]):
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
        settings: Settings = DEFAULT_SETTINGS,
        check_every: float = CHECK_EVERY,
    ) -> None:
        """*settings* have the gates; the version of the API server is asked for when one of them needs it."""
        super().__init__(
            STATEFULSETS,
            stores.sets,
            client=client,
            recorder=recorder,
            clock=clock,
            log=log,
            noun="set",
            action_of=action_of,
        )
        self._settings = settings
        self._version = ServerVersion(client.live, clock)
        self._history = History(client)
        self.observer: Final = Observer(stores)
        differences = metrics.view_differences.labels(controller)
        self._sight = Sight(client, self.observer, clock=clock, differences=differences, check_every=check_every)

    async def _reconcile(self, sts: StatefulSet, /, *, live: bool) -> Result:
        try:
            return await self._observe(sts, selector_of(sts), live=live)
        except (SelectorError, RevisionDataError) as error:
            field = "spec.selector" if isinstance(error, SelectorError) else "spec.template"
            text = f"{field}: {error}"
            self._tell_bad(sts, text)
            if not sts.terminating:
                status = wire(refused(sts, f"{text}; correct the field", format_time(self._clock.now())))
                await self._put_status(sts, status, wire(sts.status), urgent=True)
            return self._invalid(sts, text, None)

    async def _observe(self, sts: StatefulSet, selector: Selector, *, live: bool) -> Result:
        """Bring the view up to date, and go on with a pass when nothing has to be taken over before."""
        kept = self._kept.setdefault(sts.uid, _Kept())
        if kept.generation != sts.metadata.generation:
            kept.holds.clear()  # the user may have repaired what failed (QUE4)
            kept.replacements.clear()
            kept.generation = sts.metadata.generation
        settings = await self._settings_now()
        classes = settings.auto_resize_claims
        read = await self._sight.read_live(sts, selector, classes=classes) if live else None
        owner = Owner(self._client, STATEFULSETS, sts)
        choice = await self._choose(owner, selector, kept, read)
        if read is None and self._store.raw(sts.key) is not sts:
            return Done()  # it changed while revisions were written: its own event begins the next pass
        look = self._sight.look(sts, selector, kept.memory, choice.chosen, settings, read)
        if look.adopt or look.release:
            stale = await self._change_hands(sts, owner, look)
            if not self._client.dry_run:
                return After(0.0) if stale else Done()  # with back-off
            for pod in look.adopt:  # no cache will ever show them as ours
                look.view.set_pod(pod.key, pod)
        free = {name for name, hold in kept.holds if name in look.freed and isinstance(hold.error, NameConflictError)}
        if free:
            kept.holds.keep(lambda name: name not in free)  # what stood in the way is gone
        return await self._pass(sts, kept, look.view, choice)

    async def _settings_now(self) -> Settings:
        settings = self._settings
        if not settings.inplace.vertical_scaling:
            return settings
        return replace(settings, inplace=replace(settings.inplace, server_version=await self._version.get()))

    async def _choose(self, owner: Owner[StatefulSet], selector: Selector, kept: _Kept, read: Live | None) -> Choice:
        """Return the revisions of the set, written as far as they were not."""
        if read is not None:
            return await self._history.choose(owner, selector, read.revisions, None)
        notes = self.observer.notes(owner.obj)
        last = kept.choice
        revisions = self.observer.revisions(owner.obj) if notes.revisions or last is None else last.listed
        # Taken back when it is not settled: the next pass looks again.
        notes.revisions, kept.choice = False, None
        kept.choice = await self._history.choose(owner, selector, revisions, last)
        return kept.choice

    async def _change_hands(self, sts: StatefulSet, owner: Owner[StatefulSet], look: Look) -> bool:
        # Until the cache shows what came of it they are looked at again.
        self.observer.notes(sts).pods.update(pod.key for pod in (*look.adopt, *look.release))
        errors, stale = await take_and_release(self._client, owner, look.adopt, look.release)
        if errors:
            raise errors[0]
        return stale

    # One pass.

    async def _pass(self, sts: StatefulSet, kept: _Kept, view: View, choice: Choice) -> Result:
        now, moment = self._clock.now(), self._clock.monotonic()
        failing = kept.replacements.waiting(moment)
        waiting = kept.holds.waiting(moment) | dict.fromkeys(failing, True)
        unsure = kept.risks.unsure(moment, lambda name: slot.pod if (slot := view.named(name)) is not None else None)
        planned = plan(view, now, holds=waiting, unsure=unsure)
        if not planned.empty:
            only_waiting()
        done = await apply(self._client, sts, planned, seen=self.observer.stores.pods.raw)
        for chain in done.stale:
            log.debug("a decision is stale, the next event decides again", StatefulSet=str(sts.key), pod=chain.name)
        self._hold(kept, planned, done, waiting)
        self._report_lasting(sts, kept, planned)
        self._report(sts, action_events(sts.metadata.name, done))
        errors = done.errors
        if not sts.terminating:
            errors += await self._history.truncate(choice, view.live_revisions(), sts.spec.revision_history_limit)
        new = {failure.chain.name for failure in done.failures}
        earlier = [failure for name, failure in kept.failures.items() if name not in new]
        earlier += [_withheld(name, one) for name, one in failing.items() if name not in new]
        raising = bool(errors) and not kept.raised
        moment = self._clock.monotonic()
        window = 0.0 if raising or sts.uid in self._refused else self._pace.left(sts.uid, moment)
        settled = settle(view, planned, done.results(earlier), now, later=window > 0)
        waits = [settled.next_check]
        waits += [kind.next_due(moment) for kind in (kept.holds, kept.risks, kept.replacements)]
        if settled.status is None and window > 0:
            waits.append(window)
        else:
            waits.append(await self._write_status(sts, settled, at_once=raising))
        waits.append(self._linger(sts, kept, settled.status or sts.status))
        waits.append(STALE_FOR if done.stale else None)
        due = min((max(SOON, w) for w in waits if w is not None), default=None)
        kept.raised = raising
        if raising:
            raise errors[0]
        for error in errors:
            log.warning("a pod waits after an error", StatefulSet=str(sts.key), error=str(error))
        if planned.error:
            return self._invalid(sts, planned.error, due)
        self._bad.pop(sts.key, None)
        return Done() if due is None else After(due)

    def _hold(self, kept: _Kept, planned: Plan, done: Applied, waiting: dict[str, bool]) -> None:
        """Let what failed in this pass wait, and forget what is no longer to be done."""
        moment = self._clock.monotonic()
        for failure in done.failures:
            name = failure.chain.name
            # Whoever has the name of a pod is seen to go; trying often would only be refused often (rule 6).
            first = TAKEN_DELAY if isinstance(failure.error, NameConflictError) else FIRST_DELAY
            kept.holds.failed(name, name, failure.error, moment, first=first)
            kept.risks.failed(failure, moment)
            kept.failures[name] = failure
        for chain, step in done.done:
            if isinstance(step, DeletePod) and step.why is Why.FAILED:
                kept.replacements.failed(chain.name, moment)
        if len(kept.holds):
            # What may be tried again and was not planned is not wanted any more; what was tried and did not fail is
            # done. A creation that was planned behind one that failed was not tried.
            tried = {chain.name for chain, _ in done.done} | {chain.name for chain in done.stale}
            wanted = {chain.name for chain in planned.chains if chain.name not in tried}
            wanted |= {failure.chain.name for failure in done.failures} | kept.holds.unsure(moment)
            kept.holds.keep(lambda name: name in wanted or waiting.get(name, False))
        if kept.failures:
            kept.failures = {name: kept.failures[name] for name, _ in kept.holds if name in kept.failures}

    async def _write_status(self, sts: StatefulSet, settled: Settled, *, at_once: bool) -> float | None:
        """Write the status when it changed and its time has come; return the seconds to wait when it has not."""
        if settled.status is None:
            return None
        urgent = settled.decisive or at_once
        wait = await self._put_status(sts, wire(settled.status), wire(sts.status), urgent=urgent)
        if wait is None:
            self._report(sts, settled.events)
        return wait

    # Reports and upkeep.

    def _report_lasting(self, sts: StatefulSet, kept: _Kept, planned: Plan) -> None:
        self._report(sts, [e for e in planned.events if (e.reason, e.note) not in kept.told])
        kept.told.clear()
        kept.told.update((e.reason, e.note) for e in planned.events)

    def _linger(self, sts: StatefulSet, kept: _Kept, status: StatefulSetStatus) -> float | None:
        """Report what has kept the set waiting for long; return the seconds until that is to be asked again."""
        event, due = kept.lingering.look(status, self._clock.monotonic())
        self._report(sts, [event] if event is not None else [])
        return due

    def _forget(self, key: Key, uid: str) -> None:
        super()._forget(key, uid)
        self.observer.forget(key, uid)

    def _tables(self) -> tuple[Sized, ...]:
        return (*super()._tables(), self.observer)


class PodFailsError(RuntimeFault):
    """The pods of a name fail again and again: the next one is not made at once."""


def _withheld(name: str, one: Replacement) -> Failure:
    """Return the reason why a failing pod is not made yet, in the form in which a status tells it."""
    text = f"pod {name} failed {one.failures} times in a short time; the pause before the next one grows each time"
    step = CreatePod(name, "", dict)
    return Failure(Chain(NO_MEMBER, name, (step,)), step, PodFailsError(text))
