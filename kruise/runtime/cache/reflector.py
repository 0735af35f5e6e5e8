"""The rules of list and watch, without I/O: ``step(state, event) -> (state, effects)``.

Purpose: to hold one resource true. All decisions are here, as a table of pure functions; ``watcher.py`` does what the
effects say and reports what happened as the next event.

::

    Empty ──────────► Streaming ─────────────┐ end bookmark
      │  ▲              │ refused, silent    ▼
      │  └─ failed ─────┤                 (replace) ──► Watching ──► Listed ──► Watching ...
      │                 ▼                    ▲             │ 410         │ 410, error that lasts
      └─────────────► Paging ── last page ───┘             ▼             ▼
                        ▲                                Relist(from the last version | consistent)
                        └──────────────────────────────────┘
    404 at any list: Missing, until discovery serves the resource.

Guarantees (each is one rule below):

* REF1: a gap is always closed by a list, and the store turns that list into changes, deletions included.
* REF2: pages of 500 while the version is unset; no limit when it is set; the next page is asked for before the present
  one is staged.
* REF3: an expired continue token restarts once, as one full list; the version is never sent along with a token.
* REF4: the floor. A list, bookmark or event below the highest version that was applied is refused.
* REF5: the first sync is consistent. ``any_version`` is the opt-in for ``resourceVersion=0``.
* REF6, REF7: after a 410 the list asks for the last seen version or newer; only when that is expired as well, or too
  large, for the newest.
* REF8, REF9, REF11: streaming lists by default; they end at the annotated bookmark, whose version is the only one that
  is taken; 30 s without progress, or an end without the bookmark, and the list is asked for as a LIST.
* REF12: a bookmark moves the position.
* REF13, REF14: what each failure of a watch means.
* REF15: the deadlines of an open watch.
* REF17: no event leads out of the machine.

What this does not do: it does not sleep, draw numbers or look at objects; it never learns what a store holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from kruise.runtime.backoff import VERY_SHORT_WATCH
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
from kruise.runtime.cache.states import Empty, Listed, Missing, Origin, Paging, Relist, State, Streaming, Watching
from kruise.runtime.client.frames import Event, EventType
from kruise.runtime.errors import (
    ApiError,
    BadFrame,
    BadRequest,
    Expired,
    InternalError,
    Invalid,
    MethodNotAllowed,
    NotFound,
    ServerTimeout,
    Status,
    TooLargeResourceVersion,
    TooManyRequests,
    TransportError,
    Unavailable,
    Unsupported,
    Verdict,
    classify,
    error_from_status,
)
from kruise.runtime.objects import compare_versions

NOT_OLDER_THAN: Final = "NotOlderThan"

Step = tuple[State, tuple[Effect, ...]]


def step(state: State, event: Input, now: float) -> Step:
    """Return the next state and what to do. *now* is monotonic time in seconds.

    Raises ValueError for an event that the phase does not wait for: a defect of the caller.
    """
    phase = state.phase
    match phase:
        case Watching():
            found = _in_watching(state, phase, event, now)
        case Streaming():
            found = _in_streaming(state, phase, event, now)
        case Listed():
            found = _in_listed(state, phase, event, now)
        case _:
            found = _in_list(state, phase, event, now)
    if found is None:
        raise ValueError(f"{type(phase).__name__} does not wait for {type(event).__name__}")
    return found


def _in_list(state: State, phase: Empty | Relist | Missing | Paging, event: Input, now: float) -> Step | None:
    match phase, event:
        case ((Empty() | Relist()), (Started() | Woke())):
            return _prepare(state, phase)
        case ((Empty() | Relist()), Ready()):
            return _begin(state, phase, streaming=event.streaming)
        case Missing(), Served():
            return _prepare(state, phase.origin)
        case Paging(), PageArrived():
            return _page(state, phase, event, now)
        case Paging(), PageFailed():
            return _page_failed(state, phase, event.error)
    return None


def _in_streaming(state: State, phase: Streaming, event: Input, now: float) -> Step | None:
    match event:
        case Arrived():
            return _streamed(state, phase, event.events, now)
        case Opened():
            opened = replace(phase, ends_at=now + event.timeout + state.rules.grace, progress_at=now)
            return _read(replace(state, phase=opened, bookmarks=state.bookmarks or event.bookmarks), ())
        case OpenFailed():
            return _stream_failed(state, phase, event.error, ())
        case Ended():
            return _fall_back(state, phase, "ended", remember=True)
        case Broke():
            return _stream_failed(state, phase, event.error, (CloseWatch(), DropStaged()))
        case Silent():
            silent = phase.progress_at + state.rules.progress_deadline <= phase.ends_at
            return _fall_back(state, phase, "no_progress" if silent else "too_slow", remember=silent)
    return None


def _in_listed(state: State, phase: Listed, event: Input, now: float) -> Step | None:
    match event:
        case Woke():
            return state, (OpenWatch(phase.version),)
        case Opened():
            watching = Watching(phase.version, phase.listed_at, now, now + event.timeout + state.rules.grace, now)
            return _read(replace(state, phase=watching, bookmarks=state.bookmarks or event.bookmarks), ())
        case OpenFailed():
            return _watch_failed(state, phase.version, phase.listed_at, event.error, now, ())
    return None


def _in_watching(state: State, phase: Watching, event: Input, now: float) -> Step | None:
    match event:
        case Arrived():
            return _watched(state, phase, event.events, now)
        case Ended():
            return _rewatch(state, phase, now, None)
        case Broke():
            return _broke(state, phase, event.error, now)
        case Silent():
            stalled = state.bookmarks and phase.heard_at + state.rules.stall < phase.ends_at
            notes = (Stalled(),) if stalled else ()
            return _listed(state, phase), (*notes, CloseWatch(), OpenWatch(phase.version))
    return None


# Lists.


def _prepare(state: State, origin: Origin) -> Step:
    return replace(state, phase=origin), (Prepare(relist=isinstance(origin, Relist)),)


def _begin(state: State, origin: Origin, *, streaming: bool) -> Step:
    version = origin.version if isinstance(origin, Relist) else ""
    first = isinstance(origin, Empty)
    if first and state.rules.any_version:
        return replace(state, phase=Paging(origin)), (ListPage(version="0"),)
    if streaming and state.stream_failures < state.rules.stream_failures:
        return replace(state, phase=Streaming(origin)), (OpenWatch(version, initial=True),)
    notes: tuple[Effect, ...] = ()
    if streaming:
        notes = (FallBack("errors", remember=False),)
    return replace(state, phase=Paging(origin), stream_failures=0), (*notes, _first_page(state, origin))


def _first_page(state: State, origin: Origin) -> ListPage:
    if isinstance(origin, Relist) and origin.version:
        return ListPage(version=origin.version, match=NOT_OLDER_THAN)
    return ListPage(limit=state.rules.page_size)


def _page(state: State, phase: Paging, page: PageArrived, now: float) -> Step:
    if page.continue_token:
        ask = ListPage(limit=state.rules.page_size, continue_token=page.continue_token)
        return replace(state, phase=replace(phase, pages=phase.pages + 1)), (ask, Stage(page.items))
    refusal = _below_floor(state, page.version)
    if refusal is not None:
        return _stale(state, refusal, page.version, (DropStaged(),))
    done, effects = _replaced(state, page.version, streamed=False)
    return replace(done, phase=Listed(page.version, now)), (Stage(page.items), *effects, OpenWatch(page.version))


def _page_failed(state: State, phase: Paging, error: Exception) -> Step:
    origin = phase.origin
    drop = (DropStaged(),)
    if isinstance(error, Expired):
        if phase.pages > 0 and not phase.full:
            # The rest of a list may be gone for good when pages are slower than compaction. One request has no rest.
            again = Paging(origin, full=True)
            return replace(state, phase=again), (*drop, Relisting("continue_expired"), ListPage())
        if isinstance(origin, Relist) and origin.version:
            consistent, effects = _prepare(state, Relist(""))
            return consistent, (*drop, Relisting("expired"), *effects)
    if isinstance(error, NotFound):
        return replace(state, phase=Missing(origin)), (*drop, AwaitServed(error))
    if isinstance(error, TooLargeResourceVersion):
        return _retry(state, _consistent(origin), "too_large", error, drop)
    return _retry(state, origin, "list_failed", error, drop)


def _streamed(state: State, phase: Streaming, events: Sequence[Event[Any]], now: float) -> Step:
    staged: list[Event[Any]] = []
    notes: tuple[Effect, ...] = ()
    for position, event in enumerate(events):
        if event.type is EventType.ERROR:
            return _stream_failed(state, phase, _error(event), (CloseWatch(), DropStaged()))
        if event.type is not EventType.BOOKMARK:
            staged.append(event)
            continue
        if not state.bookmarks:
            state = replace(state, bookmarks=True)
            notes = (SawBookmark(),)
        if not event.initial_end:
            continue
        refusal = _below_floor(state, event.version)
        if refusal is not None:
            return _stale(state, refusal, event.version, (CloseWatch(), DropStaged()))
        if staged:
            notes = (*notes, StageEvents(staged))
        done, effects = _replaced(state, event.version, streamed=True)
        watching = Watching(event.version, now, now, phase.ends_at, now, 1)
        rest = events[position + 1 :]
        if not rest:
            return _read(replace(done, phase=watching), (*notes, *effects))
        after, more = _watched(replace(done, phase=watching), watching, rest, now)
        return after, (*notes, *effects, *more)
    if staged:
        notes = (*notes, StageEvents(staged))
    moved = replace(phase, progress_at=now, count=phase.count + len(staged))
    return _read(replace(state, phase=moved), notes)


def _stream_failed(state: State, phase: Streaming, error: Exception, close: tuple[Effect, ...]) -> Step:
    origin = phase.origin
    if isinstance(error, BadRequest | Invalid | MethodNotAllowed | Unsupported):
        return _fall_back(state, phase, "unsupported", remember=True, close=close)
    if isinstance(error, NotFound):
        return replace(state, phase=Missing(origin)), (*close, AwaitServed(error))
    if isinstance(error, Expired) and isinstance(origin, Relist) and origin.version:
        consistent, effects = _prepare(state, Relist(""))
        return consistent, (*close, Relisting("expired"), *effects)
    if isinstance(error, TooLargeResourceVersion):
        return _retry(state, _consistent(origin), "too_large", error, close)
    if classify(error) is not Verdict.FATAL:
        state = replace(state, stream_failures=state.stream_failures + 1)
    return _retry(state, origin, "stream_failed", error, close)


def _fall_back(
    state: State, phase: Streaming, reason: str, *, remember: bool, close: tuple[Effect, ...] | None = None
) -> Step:
    closing = (CloseWatch(), DropStaged()) if close is None else close
    paging = replace(state, phase=Paging(phase.origin), stream_failures=0)
    return paging, (*closing, FallBack(reason, remember), _first_page(state, phase.origin))


def _replaced(state: State, version: str, *, streamed: bool) -> Step:
    done = replace(state, floor=version, stream_failures=0, internal_since=None, bad_frames=0)
    return done, (Replace(version, streamed),)


def _retry(state: State, origin: Origin, reason: str, error: Exception, before: tuple[Effect, ...]) -> Step:
    return replace(state, phase=origin), (*before, Backoff(reason, error, host=_host_fails(error)))


def _stale(state: State, refusal: Refused, version: str, before: tuple[Effect, ...]) -> Step:
    # A front end that lags behind answered. Its answer would take back what handlers have seen (k/k#59848).
    error = StaleList(f"a list at version {version or 'nothing'} is older than what was applied at {state.floor}")
    waiting = replace(state, phase=Relist(""))
    return waiting, (*before, refusal, Relisting("stale"), Backoff("stale_list", error))


class StaleList(TransportError):
    """The server answered with a state that is older than one that it has shown before (REF4)."""


def _consistent(origin: Origin) -> Origin:
    return Relist("") if isinstance(origin, Relist) else origin


def _below_floor(state: State, version: str) -> Refused | None:
    if not version:
        return Refused("list", version)
    order = compare_versions(version, state.floor)
    return Refused("list", version) if order is not None and order < 0 else None


# Watches.


def _read(state: State, before: Sequence[Effect]) -> Step:
    phase = state.phase
    if isinstance(phase, Streaming):
        deadline = min(phase.ends_at, phase.progress_at + state.rules.progress_deadline)
    else:
        assert isinstance(phase, Watching)
        deadline = min(phase.ends_at, phase.heard_at + state.rules.stall) if state.bookmarks else phase.ends_at
    return state, (*before, Read(deadline))


def _listed(state: State, phase: Watching) -> State:
    return replace(state, phase=Listed(phase.version, phase.listed_at))


def _watched(state: State, phase: Watching, events: Sequence[Event[Any]], now: float) -> Step:
    effects: list[Effect] = []
    run: list[Event[Any]] = []
    version = phase.version
    failed: Exception | None = None
    bookmarks = state.bookmarks
    for event in events:
        if event.type is EventType.ERROR:
            failed = _error(event)
            break
        order = compare_versions(event.version, version)
        if order is not None and order < 0:
            # A replay, by etcd or by a proxy: whatever it says has been overtaken (etcd#15271).
            effects.append(Refused(event.type.name.lower(), event.version))
        elif event.type is EventType.BOOKMARK:
            if run:
                effects.append(Apply(tuple(run)))
                run.clear()
            version = event.version
            effects.append(Advance(version))
            if not bookmarks:
                bookmarks = True
                effects.append(SawBookmark())
        else:
            # An unreadable object may lack even its version; it exists all the same, and moves nothing.
            version = event.version or version
            run.append(event)
    if run:
        effects.append(Apply(tuple(run)))
    heard = phase.events + len(events) - (failed is not None)
    moved = Watching(version, phase.listed_at, phase.opened_at, phase.ends_at, now, heard)
    state = State(
        moved,
        version,
        bookmarks,
        state.stream_failures,
        None if failed is None else state.internal_since,
        state.bad_frames,
        state.bad_at,
        state.rules,
    )
    if failed is not None:
        return _watch_failed(state, version, phase.listed_at, failed, now, (*effects, CloseWatch()))
    return _read(state, effects)


def _watch_failed(
    state: State, version: str, listed_at: float, error: Exception, now: float, before: tuple[Effect, ...]
) -> Step:
    if isinstance(error, Expired):
        if now - listed_at < VERY_SHORT_WATCH:
            # The list that was just completed is expired already: ask for the newest, and not in a loop.
            waiting = replace(state, phase=Relist(""))
            return waiting, (*before, Relisting("expired"), Backoff("expired", error, host=False))
        lost, effects = _prepare(state, Relist(version))
        return lost, (*before, Relisting("expired"), *effects)
    if isinstance(error, TooLargeResourceVersion):
        return _lose(state, Relist(""), "too_large", error, before)
    if isinstance(error, NotFound):
        return replace(state, phase=Missing(Relist(version))), (*before, Relisting("missing"), AwaitServed(error))
    if isinstance(error, InternalError):
        since = now if state.internal_since is None else state.internal_since
        if now - since >= state.rules.internal_errors:
            return _lose(replace(state, internal_since=None), Relist(version), "internal_error", error, before)
        state = replace(state, internal_since=since)
    if classify(error) is Verdict.REWATCH:
        waiting = replace(state, phase=Listed(version, listed_at))
        return waiting, (*before, Backoff("watch_failed", error, host=_host_fails(error)))
    return _lose(state, Relist(version), "error", error, before)


def _lose(state: State, origin: Relist, reason: str, error: Exception, before: tuple[Effect, ...]) -> Step:
    lost, effects = _retry(state, origin, reason, error, before)
    return lost, (*effects[:-1], Relisting(reason), effects[-1])


def _rewatch(state: State, phase: Watching, now: float, error: Exception | None) -> Step:
    listed = _listed(state, phase)
    if now - phase.opened_at < VERY_SHORT_WATCH and phase.events == 0:
        return listed, (CloseWatch(), Backoff("very_short_watch", error))
    return listed, (CloseWatch(), OpenWatch(phase.version))


def _broke(state: State, phase: Watching, error: Exception, now: float) -> Step:
    if isinstance(error, BadFrame):
        # The same line comes again at the same version. A list gets past it, since its items are read one by one.
        again = state.bad_frames + 1 if state.bad_at == phase.version else 1
        state = replace(state, bad_frames=again, bad_at=phase.version)
        if again >= state.rules.bad_frames:
            return _lose(state, Relist(phase.version), "bad_frame", error, (CloseWatch(),))
    if isinstance(error, TransportError):
        return _rewatch(state, phase, now, error)
    return _watch_failed(state, phase.version, phase.listed_at, error, now, (CloseWatch(),))


def _error(event: Event[Any]) -> ApiError:
    return error_from_status(event.status or Status(code=500, message="an ERROR event without a status"))


def _host_fails(error: Exception) -> bool:
    """Tell whether *error* speaks of the server as a whole, so that all who talk to it should wait (BAK2)."""
    if isinstance(error, TooLargeResourceVersion):
        return False
    return isinstance(error, TransportError | TooManyRequests | InternalError | Unavailable | ServerTimeout)
