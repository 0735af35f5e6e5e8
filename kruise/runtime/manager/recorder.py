"""Events that inform and never hurt.

Purpose: a controller says what happened and goes on; everything that can be slow or fail happens behind its back.

Guarantees:

* REC1: events.k8s.io/v1 alone, in the form that the server accepts: an action, words and notes of bounded length,
  stamps with six fraction digits, the namespace ``default`` for cluster-scoped objects.
* REC2: :meth:`Recorder.event` never waits and never fails. 1,000 Events wait at most; 8 workers write them, each with
  12 tries that are 10 s ±25 % apart. What does not fit is counted in ``kruise_events_dropped_total``.
* REC3, REC4, REC7: what becomes an object is decided in ``correlator.py``.
* REC5: events have their own workers outside the write window, so no write of a workload waits for one. When the
  broadcaster is cancelled, it writes what is left for a bounded time.
* REC6: a missing namespace, 403 and 404 drop the event. An Event that expired on the server is made anew.
* REC7: events are not counted as writes, and no reconcile waits to see them.

What this does not do: it never reads events, and it promises no delivery.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Protocol

from kruise.runtime.client.client import Client
from kruise.runtime.clock import Clock, Random, format_micro_time
from kruise.runtime.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Fenced,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    NotFound,
    RuntimeFault,
    TooLarge,
    Unsupported,
)
from kruise.runtime.log import get_logger
from kruise.runtime.manager.correlator import (
    MAX_WORD,
    Correlator,
    EventKey,
    Reference,
    Report,
    Series,
    Step,
    cut,
    summary_note,
)
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, ObjectMeta, PartialObject, Resource

__all__ = ["EVENTS", "EventBroadcaster", "EventSink", "Recorder"]

log = get_logger("events")

EVENTS: Final = Resource("events.k8s.io", "v1", "Event", "events", PartialObject)

QUEUE: Final = 1000
WORKERS: Final = 8
TRIES: Final = 12
PAUSE: Final = 10.0
UPKEEP: Final = 60.0
"""Seconds between two looks for series that end or need a refresh."""
DRAIN: Final = 5.0
"""Seconds that writing what is left may take when the process stops."""
_MAX_NAME: Final = 253
_NEVER_HELPS: Final = (BadRequest, Invalid, MethodNotAllowed, TooLarge, Unsupported)


class EventSink(Protocol):
    """Where events go. A :class:`Recorder` is one; whoever reports asks for no more than this."""

    def event(self, obj: Object, resource: Resource[Any], *, type: str, reason: str, action: str, note: str) -> None:
        """Take one event; never blocks."""
        ...


class Recorder:
    """Reports events in the name of one component."""

    def __init__(self, broadcaster: EventBroadcaster, component: str) -> None:
        self._broadcaster = broadcaster
        self.component = component

    def event(
        self,
        obj: Object,
        resource: Resource[Any],
        *,
        type: str,
        reason: str,
        action: str,
        note: str,
        related: tuple[Object, Resource[Any]] | None = None,
    ) -> None:
        """Report that something happened to *obj*. *type* is ``Normal`` or ``Warning``. Never blocks, never raises."""
        self._report(obj, resource, type, reason, action, note, related, summary=False)

    def summary(
        self,
        obj: Object,
        resource: Resource[Any],
        *,
        type: str,
        reason: str,
        action: str,
        what: str,
        count: int,
        examples: Sequence[str] = (),
        related: tuple[Object, Resource[Any]] | None = None,
    ) -> None:
        """Report that *what* happened *count* times, with a few *examples*: one Event for (obj, reason) (REC7).

        For what happens per node or per pod: five thousand of them are one Event, whose note has the counts at the time
        of the first report. Reporting again within six minutes raises its series count only. Never blocks.
        """
        note = summary_note(what, count, examples)
        self._report(obj, resource, type, reason, action, note, related, summary=True)

    def _report(
        self,
        obj: Object,
        resource: Resource[Any],
        kind: str,
        reason: str,
        action: str,
        note: str,
        related: tuple[Object, Resource[Any]] | None,
        *,
        summary: bool,
    ) -> None:
        key = EventKey(
            cut(action or reason, MAX_WORD),
            cut(reason, MAX_WORD),
            self.component,
            self._broadcaster.instance,
            _reference(obj, resource),
            None if related is None else _reference(*related),
        )
        self._broadcaster.take(Report(key, kind, note, summary))


def _reference(obj: Object, resource: Resource[Any]) -> Reference:
    meta = obj.metadata
    return Reference(resource.api_version, resource.kind, meta.namespace, meta.name, meta.uid)


class EventBroadcaster:
    """Writes what recorders report. A runnable: own it with ``await broadcaster.run()`` inside a TaskGroup."""

    name: Final = "events"

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        instance: str,
        drain: float = DRAIN,
    ) -> None:
        self.instance = cut(instance, MAX_WORD)
        """Which process reports: ``reportingInstance``."""
        self._client = client.named("events", windowed=False)
        self._clock = clock
        self._rng = rng
        self._dropped = metrics.events_dropped
        self._drain_seconds = drain
        self._correlator = Correlator()
        self._queue: asyncio.Queue[Series] = asyncio.Queue(QUEUE)
        self._busy: list[Series] = []

    def recorder(self, component: str) -> Recorder:
        """Return a recorder that reports as *component*: ``reportingController``."""
        return Recorder(self, component)

    def take(self, report: Report) -> None:
        """Take one report. Never blocks, never raises; reports made before :meth:`run` wait for it."""
        step, series = self._correlator.observe(report, now=self._clock.monotonic(), wall=self._clock.now())
        if series is None:
            self._dropped.labels("spam").inc()
        elif step in (Step.CREATE, Step.PATCH):
            self._want(series)

    def waiting(self) -> int:
        """Return how many Events wait to be written."""
        return self._queue.qsize() + len(self._busy)

    async def run(self) -> None:
        """Write until cancelled, then write what is left for a bounded time (REC5)."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(self._work())
                group.create_task(self._upkeep())
        except asyncio.CancelledError:
            await self._drain()
            raise

    def _want(self, series: Series) -> None:
        """See to it that *series* is written, by one worker at a time."""
        if series.busy:
            series.again = True
        elif not series.queued:
            try:
                self._queue.put_nowait(series)
            except asyncio.QueueFull:
                self._drop(series, "queue_full")
            else:
                series.queued = True

    def _drop(self, series: Series, why: str) -> None:
        """Give up on what *series* has not told the server yet."""
        self._dropped.labels(why).inc(series.pending)
        if not series.written:
            self._correlator.forget(series)
        series.written = series.count

    async def _work(self) -> None:
        while True:
            series = await self._queue.get()
            series.queued, series.busy = False, True
            # Stays in the list when this task is cancelled in the middle: draining begins with it.
            self._busy.append(series)
            await self._record(series, TRIES)
            self._busy.remove(series)
            series.busy = False
            if series.again:
                series.again = False
                if series.written and series.pending:
                    self._want(series)

    async def _upkeep(self) -> None:
        while True:
            await self._clock.sleep(UPKEEP)
            for series in self._correlator.due(self._clock.monotonic()):
                self._want(series)

    async def _record(self, series: Series, tries: int, *, patient: bool = True) -> None:
        """Write *series*, or drop it and say why. Raises nothing but a cancellation."""
        while True:
            tries -= 1
            why = await self._try(series)
            if why == "":
                return
            if why == "again" and tries > 0:
                continue
            if why == "later" and tries > 0 and patient:
                await self._clock.sleep(PAUSE * self._rng.uniform(0.75, 1.25))
                continue
            self._drop(series, "gave_up" if why in ("again", "later") else why)
            return

    async def _try(self, series: Series) -> str:
        """Write *series* once. Return "" when done, "again" or "later" for another try, else why it is dropped."""
        try:
            await self._write(series)
        except AlreadyExists:
            # An earlier try did arrive, although its answer did not.
            series.written = 1
            return "again" if series.pending else ""
        except Conflict:
            series.meta = None
            return "again"
        except NotFound:
            if not series.written:
                return "not_found"
            # Events expire on the server after an hour; what goes on becomes a new one.
            series.written, series.meta, series.name = 0, None, ""
            return "again"
        except Forbidden as error:
            log.debug("event refused", error=str(error))
            return "forbidden"
        except _NEVER_HELPS as error:
            log.warning("event refused", error=str(error))
            return "rejected"
        except Fenced:
            return "fenced"
        except RuntimeFault as error:
            log.debug("event not written yet", error=str(error))
            return "later"
        except Exception:  # an event must never take the process down, whatever is wrong with it
            log.exception("event lost")
            return "error"
        return ""

    async def _write(self, series: Series) -> None:
        count, namespace = series.count, series.key.regarding.namespace or "default"
        if not series.written:
            series.name = series.name or self._name(series)
            series.meta = await self._client.create(EVENTS, _body(series, namespace))
        else:
            # Without its metadata (somebody else changed it, or the answer was lost) the event is patched by its name
            # alone: Events are exempt from preconditions, and reading one would take a right that nothing else needs.
            meta = series.meta or ObjectMeta(name=series.name, namespace=namespace)
            written = await self._client.patch(EVENTS, PartialObject(metadata=meta), {"series": _series(series)})
            series.meta = written if written is not None else series.meta
        series.written, series.written_at = count, self._clock.monotonic()

    def _name(self, series: Series) -> str:
        suffix = f".{self._rng.getrandbits(64):016x}"
        return series.key.regarding.name[: _MAX_NAME - len(suffix)].rstrip("-.") + suffix

    async def _drain(self) -> None:
        """Write once more whatever is not written, for a bounded time; count the rest."""
        left = {id(series): series for series in self._busy}
        while not self._queue.empty():
            series = self._queue.get_nowait()
            left[id(series)] = series
        left.update((id(series), series) for series in self._correlator.unwritten())
        self._busy.clear()
        todo = deque(left.values())

        async def work() -> None:
            while todo:
                await self._record(todo.popleft(), TRIES, patient=False)

        try:
            async with asyncio.timeout(self._drain_seconds), asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(work())
        except TimeoutError:
            lost = sum(series.pending for series in left.values())
            self._dropped.labels("shutdown").inc(lost)
            log.warning("events not written before the stop", events=lost)


def _series(series: Series) -> dict[str, Any]:
    return {"count": series.count, "lastObservedTime": format_micro_time(series.last)}


def _body(series: Series, namespace: str) -> dict[str, Any]:
    key = series.key
    body: dict[str, Any] = {
        "metadata": {"name": series.name, "namespace": namespace},
        "eventTime": format_micro_time(series.first),
        "reportingController": key.controller,
        "reportingInstance": key.instance,
        "action": key.action,
        "reason": key.reason,
        "regarding": _wire(key.regarding),
        "note": series.note,
        "type": series.type,
    }
    if key.related is not None:
        body["related"] = _wire(key.related)
    if series.count > 1:
        body["series"] = _series(series)
    return body


def _wire(ref: Reference) -> dict[str, str]:
    found = {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "namespace": ref.namespace,
        "name": ref.name,
        "uid": ref.uid,
    }
    return {name: value for name, value in found.items() if value}
