"""Keeps the configuration that makes pods wait: the loop around ``fail_entries.py``.

Purpose: ``components/webhook-fail`` gives the configuration :data:`CONFIGURATION` the label :data:`LABEL`. What stands
in it is written here, by the leader: an entry for each set with the label, and none without it.

Guarantees:

* One write for what changes within :data:`SETTLE` seconds, none while nothing does. Without the label it is looked at
  once a minute, and nothing is written but the end of the entries.
* It is written only on the version that was read, and never in the same moment as the certificate keeper, which writes
  ``caBundle`` there: a lock is shared. Whom to trust and where to call stand in an entry as in the general one.
* Once a minute it is put right: an entry that somebody changed, took away or added. Unknown fields stay.
* Nothing is written before the caches are complete: a set that is not known yet loses no entry.
* A set for which there is no room is told of: an event on it, a line in the log, a gauge.

What this does not do: it makes no configuration and takes none away. Without a leader the entries stay as they are.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from kruise.apis.sidecarset import SIDECARSETS
from kruise.runtime.client.client import Client, PatchKind
from kruise.runtime.clock import Clock
from kruise.runtime.controller import Access
from kruise.runtime.controller.reconcile import Needs
from kruise.runtime.errors import ApiError, Conflict, DecodeError, NotFound, TransportError, UnknownOutcome
from kruise.runtime.log import get_logger
from kruise.runtime.manager.recorder import EventSink
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Resource
from kruise.runtime.webhook.admission import NotReady
from kruise.runtime.webhook.targets import TargetKind
from kruise.webhooks.certificates import FAIL, MUTATING
from kruise.webhooks.counters import fail_entries
from kruise.webhooks.fail_entries import GENERAL, Entries, Waiting, entries, merged, waiting
from kruise.webhooks.feed import Feed

__all__ = ["ACCESSES", "CONFIGURATION", "LABEL", "NAME", "FailKeeper"]

log = get_logger("fail-entries")

NAME: Final = "sidecarset-fail-entries"
"""In the user agent, events and metrics."""
CONFIGURATION: Final = FAIL
LABEL: Final = "apps.kruise.io/failure-policy"
"""With the value ``Fail`` pods wait."""
EVERY: Final = 60.0
"""Seconds between two looks while no set changes."""
SETTLE: Final = 0.5
"""Seconds in which further changes of sets join a write."""
RETRY: Final = 2.0
"""Seconds until the next try after one that failed."""
REASON: Final = "PodsDoNotWait"
_ACTION: Final = "Configure"
_RESOURCE: Final[Resource[Any]] = TargetKind.MUTATING.value
_FAILURES: Final = (ApiError, TransportError, UnknownOutcome, DecodeError, OSError)

ACCESSES: Final = (
    Access(_RESOURCE, ("get",), resource_names=(MUTATING,)),
    Access(_RESOURCE, ("get", "patch"), resource_names=(CONFIGURATION,)),
)


class FailKeeper:
    """The entries of the leader. The manager runs it."""

    name: Final = NAME
    needs: Final = Needs.LEADER

    def __init__(
        self,
        client: Client,
        feed: Feed | None,
        *,
        clock: Clock,
        metrics: Metrics,
        events: EventSink,
        namespace: str,
        lock: asyncio.Lock,
    ) -> None:
        """Make a keeper. Without *feed* nothing is injected, and nobody waits; *namespace* is our own."""
        self._client = client
        self._feed = feed
        self._clock = clock
        self._events = events
        self._namespace = namespace
        self._lock = lock
        self._changed = asyncio.Event()
        self._known: tuple[Waiting, ...] | None = None
        self._wanted = False
        """Whether pods were to wait at the last look."""
        self._told: str | None = None
        self._left_out: tuple[str, ...] = ()
        gauge = fail_entries(metrics)
        self._kept, self._over = gauge.labels("kept"), gauge.labels("left_out")
        if feed is not None:
            feed.on_sets_changed = self._changed.set

    async def run(self) -> None:
        """Look, and look again when a set has changed, or a minute has gone by, until cancelled."""
        self._known = None
        while True:
            problem = await self._try()
            if problem != self._told:
                self._told = problem
                if problem is not None:
                    log.warning("pods may wait that need not, or not wait that should", problem=problem)
            await self._wait(EVERY if problem is None else RETRY)

    async def _wait(self, seconds: float) -> None:
        """Return when a set was changed so that its entry changes, or after *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self._changed.wait()
                    await self._clock.sleep(SETTLE)
                    self._changed.clear()
                    if self._wanted and self._news():
                        return
        except TimeoutError:
            return

    async def _try(self) -> str | None:
        try:
            return await self.look()
        except NotReady as error:
            return str(error)
        except Conflict:
            return "somebody wrote at the same time"
        except _FAILURES as error:
            return str(error)

    def _news(self) -> bool:
        try:
            return self._sets() != self._known
        except NotReady:
            return False

    def _sets(self) -> tuple[Waiting, ...]:
        if self._feed is None:
            return ()
        self._feed.pods_ready()
        return waiting(self._feed.index.snapshot)

    async def look(self) -> str | None:
        """Read the configuration, and write it where it is not right. Returns what is wrong and cannot be helped.

        Raises NotReady, and what a request raises.
        """
        sets = self._sets()
        async with self._lock:
            try:
                live = await self._client.live.get(_RESOURCE, Key("", CONFIGURATION))
            except NotFound:
                self._wanted = False
                self._note(Entries())
                return None
            self._wanted = live.metadata.labels.get(LABEL) == "Fail"
            found = Entries()
            if self._wanted:
                general = await self._client.live.get(_RESOURCE, Key("", MUTATING))
                pattern = next((one for one in general.webhooks if one.get("name") == GENERAL), None)
                if pattern is None:
                    return f"{MUTATING} has no webhook {GENERAL}: the entries of {CONFIGURATION} stay as they are"
                names = frozenset(str(one.get("name")) for one in live.webhooks)
                found = entries(pattern, sets, self._namespace, present=names)
            wanted = merged(live.webhooks, found.webhooks)
            if wanted != list(live.webhooks):
                operations = [{"op": "add", "path": "/webhooks", "value": wanted}]
                await self._client.patch(_RESOURCE, live, operations, kind=PatchKind.JSON)
                log.info("the pods of these sets wait for an answer", sets=len(wanted), left_out=len(found.left_out))
        self._known = sets
        self._note(found)
        return None

    def _note(self, found: Entries) -> None:
        self._kept.set(len(found.webhooks))
        self._over.set(len(found.left_out))
        news = sorted(set(found.left_out) - set(self._left_out))
        self._left_out = found.left_out
        if not news or self._feed is None:
            return
        log.warning("there is no room for more entries: the pods of these sets do not wait", sets=news[:10])
        for name in news:
            item = self._feed.set_named(name)
            if item is not None:
                text = f"{CONFIGURATION} is full: while no manager answers, pods start without these sidecars"
                self._events.event(item, SIDECARSETS, type="Warning", reason=REASON, action=_ACTION, note=text)
