"""Does what the reflector says: the only part of the cache that talks to the API server.

Purpose: a loop that performs the effects of one step and feeds back what happened.

Guarantees:

* REF1, REF17: the loop ends by cancellation only; whatever a request raises is an input of the machine.
* REF2: a page is fetched in a task of its own while the one before is decoded.
* REF13, REF14: an expired or broken watch is no news: it is logged at debug. A wait is logged as a warning.
* REF18: the permit of a relist is held from its preparation to the end of its replace, and never while waiting.
* REF20: a missing right is logged with the rule that is missing, and concerns this reflector alone.

What this does not do: it decides nothing; see ``reflector.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from kruise.runtime.backoff import BackoffPolicy, HostBackoff
from kruise.runtime.cache.host import Host
from kruise.runtime.cache.reflector import step
from kruise.runtime.cache.signals import (
    Advance,
    Apply,
    Arrived,
    AwaitServed,
    Backoff,
    Broke,
    CloseWatch,
    DropStaged,
    Effect,
    Ended,
    FallBack,
    Input,
    ListPage,
    Opened,
    OpenFailed,
    OpenWatch,
    PageArrived,
    PageFailed,
    Prepare,
    Read,
    Ready,
    Refused,
    Relisting,
    Replace,
    SawBookmark,
    Served,
    Silent,
    Stage,
    StageEvents,
    Stalled,
    Started,
    Woke,
)
from kruise.runtime.cache.states import Missing, Paging, Rules, State, Streaming
from kruise.runtime.cache.store import Staging
from kruise.runtime.client.frames import Codec, Event, EventReader, EventType
from kruise.runtime.errors import ApiError, RuntimeFault, Timeout
from kruise.runtime.log import Logger, get_logger
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, Resource, Unreadable

T = TypeVar("T", bound=Object)

OPEN_DEADLINE: Final = 45.0
"""Seconds until the headers of a watch must be there; above the 30 s that the transport gives them."""
LONGEST_RETRY_AFTER: Final = 120.0
"""Seconds: more than this is not waited for, whatever the server asks."""
SLICE: Final = 0.002
"""Seconds of decoding after which others get a turn."""
ABSENT: Final = BackoffPolicy(cap=10.0)
"""How discovery is asked for a kind that is not served (CAC5): ten seconds after its CRD came, it is found."""


class Sink(Protocol[T]):
    """Who takes the objects: an :class:`~kruise.runtime.cache.informer.Informer`."""

    def staging(self, scope: str) -> Staging[T]:
        """Return an empty staging for a list of *scope*."""
        ...

    def admit(self, obj: T | Unreadable, scope: str) -> T | Unreadable:
        """Return *obj* as it shall be stored."""
        ...

    def apply(self, events: Sequence[Event[T]], scope: str) -> None:
        """Apply data events, in order."""
        ...

    def advance(self, version: str, scope: str) -> None:
        """Note that *scope* is whole up to *version*."""
        ...

    async def replace(self, staging: Staging[T], version: str, *, streamed: bool) -> None:
        """Make *staging* the content of its scope, and tell the handlers."""
        ...


class Watcher(Generic[T]):
    """Keeps one scope of one resource true. Own it with ``await watcher.run()`` inside a TaskGroup."""

    def __init__(
        self,
        resource: Resource[T],
        sink: Sink[T],
        host: Host,
        codec: Codec[T],
        *,
        metrics: Metrics,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        rules: Rules | None = None,
    ) -> None:
        self.namespace = namespace
        self.state = State(rules=rules or Rules())
        self.last_error: Exception | None = None
        """Why it waits; None while all is well."""
        self.heard_at: float | None = None
        """When the last page, event or bookmark came, in monotonic seconds."""
        self.refused = 0
        """How many lists, bookmarks and events lay below the floor (REF4)."""
        self._resource = resource
        self._sink = sink
        self._host = host
        self._clock = host.clock
        self._codec = codec
        self._metrics = metrics
        self._labels = (resource.group, resource.version, resource.plural)
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._backoff = HostBackoff(host.rng)
        self._absent = HostBackoff(host.rng, ABSENT)
        self._permit = False
        self._staging: Staging[T] | None = None
        self._page: asyncio.Task[Input] | None = None
        self._exit = contextlib.AsyncExitStack()
        self._reader: EventReader[T] | None = None
        self._log: Logger = get_logger("reflector", resource=str(resource), namespace=namespace or None)

    @property
    def page(self) -> int:
        """How many pages, or objects of a streaming list, the present list has brought."""
        phase = self.state.phase
        if isinstance(phase, Paging):
            return phase.pages
        return phase.count if isinstance(phase, Streaming) else 0

    @property
    def phase(self) -> str:
        """The name of the present state."""
        return type(self.state.phase).__name__

    @property
    def missing(self) -> bool:
        """Whether the server does not serve the resource (CAC5)."""
        return isinstance(self.state.phase, Missing)

    async def run(self) -> None:
        """List and watch until cancelled (REF17)."""
        async with asyncio.TaskGroup() as tasks:
            try:
                happened: Input = Started()
                while True:
                    self.state, effects = step(self.state, happened, self._clock.monotonic())
                    happened = await self._perform(effects, tasks)
            finally:
                self._release()
                await self._exit.aclose()

    async def _perform(self, effects: Sequence[Effect], tasks: asyncio.TaskGroup) -> Input:
        answer: Input | None = None
        for effect in effects:
            match effect:
                case Apply():
                    self._sink.apply(effect.events, self.namespace)
                case Read():
                    answer = await self._read(effect.deadline)
                case Advance():
                    self._sink.advance(effect.version, self.namespace)
                case ListPage():
                    self._page = tasks.create_task(self._list(effect))
                case _:
                    answer = await self._perform_other(effect) or answer
        if answer is None:
            assert self._page is not None, f"nothing of {effects} waits for anything"
            answer = await self._page
            self._page = None
        return answer

    async def _perform_other(self, effect: Effect) -> Input | None:
        match effect:
            case Prepare():
                return await self._prepare(relist=effect.relist)
            case OpenWatch():
                return await self._open(effect)
            case Backoff():
                return await self._wait(effect)
            case AwaitServed():
                return await self._await_served(effect.error)
            case CloseWatch():
                self._reader = None
                await self._exit.aclose()
            case Stage():
                await self._stage(effect.items)
            case StageEvents():
                self._stage_events(effect.events)
            case DropStaged():
                self._staging = None
            case Replace():
                await self._replace(effect)
            case _:
                await self._note(effect)
        return None

    async def _note(self, effect: Effect) -> None:
        match effect:
            case Relisting():
                self._metrics.informer_relists.labels(*self._labels, effect.reason).inc()
                self._log.debug("list again", reason=effect.reason)
            case FallBack():
                self._metrics.watchlist_fallback.labels(*self._labels, effect.reason).inc()
                self._log.info("streaming list did not work, using LIST", reason=effect.reason, kept=effect.remember)
                if effect.remember:
                    await self._host.refuse_streams(self._resource)
            case Stalled():
                self._metrics.watch_stalls.labels(*self._labels).inc()
                self._log.warning("watch is silent, opening another", seconds=self.state.rules.stall)
            case Refused():
                self.refused += 1
                self._log.warning(
                    "refused a state older than what was applied",
                    what=effect.what,
                    version=effect.version,
                    floor=self.state.floor,
                )
            case SawBookmark():
                self._host.saw_bookmark(self._resource)

    # What waits.

    async def _prepare(self, *, relist: bool) -> Input:
        if relist:
            self._codec.reset()
            if not self._permit:
                await self._host.acquire()
                self._permit = True
        return Ready(await self._host.streams(self._resource))

    async def _list(self, ask: ListPage) -> Input:
        try:
            page = await self._host.api.list_page(
                self._resource,
                namespace=self.namespace,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                limit=ask.limit,
                continue_token=ask.continue_token,
                resource_version=ask.version,
                resource_version_match=ask.match,
            )
        except Exception as error:  # noqa: BLE001 - REF17: no failure of a request may end the reflector
            return PageFailed(self._known(error))
        self.heard_at = self._clock.monotonic()
        return PageArrived(page.resource_version, page.continue_token, page.items)

    async def _open(self, ask: OpenWatch) -> Input:
        seconds = self._host.watch_seconds()
        try:
            async with asyncio.timeout(OPEN_DEADLINE):
                stream = await self._host.api.watch(
                    self._resource,
                    namespace=self.namespace,
                    label_selector=self._label_selector,
                    field_selector=self._field_selector,
                    resource_version=ask.version,
                    timeout_seconds=seconds,
                    send_initial_events=ask.initial,
                    resource_version_match="NotOlderThan" if ask.initial else "",
                    bookmarks=True,
                )
                await self._exit.enter_async_context(stream)
        except TimeoutError:
            return OpenFailed(Timeout(f"watch of {self._resource} was not answered within {OPEN_DEADLINE:g} s"))
        except Exception as error:  # noqa: BLE001 - REF17, as above
            return OpenFailed(self._known(error))
        self._reader = EventReader(stream, self._codec, clock=self._clock, metrics=self._metrics)
        if not ask.initial:
            self.last_error = None
        return Opened(seconds, self._host.sends_bookmarks(self._resource))

    async def _read(self, deadline: float) -> Input:
        assert self._reader is not None
        try:
            async with asyncio.timeout_at(deadline):
                events = await self._reader.batch()
        except TimeoutError:
            return Silent()
        except Exception as error:  # noqa: BLE001 - REF17, as above
            known = self._known(error)
            self._log.debug("watch broke", error=str(known))
            return Broke(known)
        if not events:
            return Ended()
        self.heard_at = self._clock.monotonic()
        return Arrived(events)

    async def _wait(self, effect: Backoff) -> Input:
        self._release()
        self.last_error = effect.error or RuntimeFault(effect.reason)
        shared = self._host.backoff if effect.host else self._backoff
        delay = shared.failed(self._clock.monotonic())
        if isinstance(effect.error, ApiError) and effect.error.status.retry_after:
            delay = max(delay, min(effect.error.status.retry_after, LONGEST_RETRY_AFTER))
        self._log.warning(
            "list or watch failed, waiting", reason=effect.reason, error=str(self.last_error), seconds=round(delay, 3)
        )
        await self._clock.sleep(delay)
        return Woke()

    async def _await_served(self, error: Exception) -> Input:
        self._release()
        self.last_error = error
        self._log.warning("the server does not serve this resource, waiting until it does", error=str(error))
        while True:
            await self._clock.sleep(self._absent.failed(self._clock.monotonic()))
            if await self._host.served(self._resource):
                return Served()

    # What is staged.

    async def _stage(self, items: Sequence[Any]) -> None:
        staging = self._staged()
        started = self._clock.monotonic()
        for raw in items:
            obj = self._codec.read(raw)
            if obj.metadata.name:
                staging.add(self._sink.admit(obj, self.namespace))
            else:
                self._log.warning("an item of a list names no object")
            if self._clock.monotonic() - started >= SLICE:
                await self._clock.sleep(0)
                started = self._clock.monotonic()

    def _stage_events(self, events: Sequence[Event[Any]]) -> None:
        staging = self._staged()
        for event in events:
            obj = event.object
            if obj is None:
                continue
            if event.type is EventType.DELETED:
                staging.discard(obj.key)
            else:
                staging.add(self._sink.admit(obj, self.namespace))

    def _staged(self) -> Staging[T]:
        if self._staging is None:
            self._staging = self._sink.staging(self.namespace)
        return self._staging

    async def _replace(self, effect: Replace) -> None:
        staging = self._staged()
        self._staging = None
        self.last_error = None
        await self._sink.replace(staging, effect.version, streamed=effect.streamed)
        self._release()

    def _release(self) -> None:
        if self._permit:
            self._permit = False
            self._host.release()

    def _known(self, error: Exception) -> Exception:
        if not isinstance(error, RuntimeFault):
            self._log.exception("a request failed in an unforeseen way", exc_info=error)
        return error
