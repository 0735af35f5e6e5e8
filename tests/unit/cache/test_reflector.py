"""reflector.py: every transition, from a table. Nothing here waits or runs a loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

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
    Ended,
    FallBack,
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
from kruise.runtime.cache.states import (
    Empty,
    Listed,
    Missing,
    Paging,
    Relist,
    Rules,
    State,
    Streaming,
    Watching,
)
from kruise.runtime.client.frames import Event, EventType
from kruise.runtime.errors import BadFrame, DecodeError, Reset, Status, Truncated
from kruise.runtime.errors import Refused as ConnectionRefused
from kruise.runtime.objects import ObjectMeta, PartialObject
from tests.unit.cache.fake_server import status, too_large

EXPIRED = status(410, "Expired")
FORBIDDEN = status(403, "Forbidden")
MISSING = status(404, "NotFound")
INTERNAL = status(500, "InternalError")
BUSY = status(429, "TooManyRequests")
INVALID = status(422, "Invalid")


def event(kind: str, version: int | str, name: str = "a") -> Event[Any]:
    obj = PartialObject(metadata=ObjectMeta(name=name, uid=name, resource_version=str(version)))
    return Event(type=EventType[kind], object=obj, version=str(version))


def mark(version: int | str, *, end: bool = False) -> Event[Any]:
    return Event(type=EventType.BOOKMARK, version=str(version), initial_end=end)


def error(code: int, reason: str = "") -> Event[Any]:
    return Event(type=EventType.ERROR, status=Status(code=code, reason=reason, message=reason))


def watching(version: str = "10", *, opened: float = 0.0, listed: float = -100.0, events: int = 1) -> State:
    return State(Watching(version, listed, opened, opened + 305.0, opened, events), floor=version)


def kinds(effects: Any) -> list[str]:
    return [type(e).__name__ for e in effects]


# The first list.


def test_ref5_the_first_list_is_consistent() -> None:
    state, effects = step(State(), Started(), 0.0)
    assert effects == (Prepare(relist=False),)
    assert step(state, Ready(streaming=True), 0.0)[1] == (OpenWatch("", initial=True),)
    assert step(state, Ready(streaming=False), 0.0)[1] == (ListPage(version="", match="", limit=500),)


def test_ref5_any_version_is_an_opt_in_and_holds_for_the_first_list_only() -> None:
    rules = Rules(any_version=True)
    assert step(State(rules=rules), Ready(streaming=True), 0.0)[1] == (ListPage(version="0"),)
    again = State(Relist("7"), floor="7", rules=rules)
    assert step(again, Ready(streaming=False), 0.0)[1] == (ListPage(version="7", match="NotOlderThan"),)


def test_ref2_the_next_page_is_asked_for_before_the_present_one_is_staged() -> None:
    state = State(Paging(Empty()))
    state, effects = step(state, PageArrived("9", "token", ["a"]), 0.0)
    assert effects == (ListPage(limit=500, continue_token="token"), Stage(["a"]))
    assert state.phase == Paging(Empty(), pages=1)
    state, effects = step(state, PageArrived("9", "", ["b"]), 5.0)
    assert effects == (Stage(["b"]), Replace("9", streamed=False), OpenWatch("9"))
    assert state.phase == Listed("9", 5.0) and state.floor == "9"


def test_ref2_a_list_of_a_version_has_no_limit() -> None:
    _, effects = step(State(Relist("7"), floor="7"), Ready(streaming=False), 0.0)
    assert effects == (ListPage(version="7", match="NotOlderThan", limit=0),)


@pytest.mark.parametrize("pages", [1, 2, 7])
def test_ref3_an_expired_token_restarts_once_as_one_full_list(pages: int) -> None:
    state = State(Paging(Relist("5"), pages=pages), floor="5")
    state, effects = step(state, PageFailed(EXPIRED), 0.0)
    assert effects == (DropStaged(), Relisting("continue_expired"), ListPage(version="", match="", limit=0))
    assert state.phase == Paging(Relist("5"), full=True)
    # The full list has no rest that could expire; when it fails all the same, that is an ordinary failure.
    state, effects = step(replace(state, phase=Paging(Empty(), full=True, pages=1)), PageFailed(EXPIRED), 0.0)
    assert kinds(effects) == ["DropStaged", "Backoff"]


# The floor.


@pytest.mark.parametrize("version", ["99", "9", "1"])
def test_ref4_a_list_below_the_floor_is_refused(version: str) -> None:
    state = State(Paging(Relist("100")), floor="100")
    state, effects = step(state, PageArrived(version, "", ["x"]), 0.0)
    assert kinds(effects) == ["DropStaged", "Refused", "Relisting", "Backoff"]
    assert state.phase == Relist("") and state.floor == "100"


def test_ref4_a_streaming_list_below_the_floor_is_refused() -> None:
    state = State(Streaming(Relist("100"), 300.0), floor="100")
    state, effects = step(state, Arrived([event("ADDED", 5), mark(99, end=True)]), 0.0)
    assert "Replace" not in kinds(effects) and "Refused" in kinds(effects)
    assert state.phase == Relist("")


def test_ref4_a_list_at_the_floor_is_taken_and_so_is_one_without_an_order() -> None:
    for version in ("100", "101", "opaque"):
        _, effects = step(State(Paging(Relist("100")), floor="100"), PageArrived(version, "", []), 0.0)
        assert Replace(version, streamed=False) in effects


def test_ref4_a_list_without_a_version_is_refused() -> None:
    _, effects = step(State(Paging(Empty())), PageArrived("", "", []), 0.0)
    assert "Replace" not in kinds(effects) and "Backoff" in kinds(effects)


def test_ref4_bookmarks_and_events_below_the_floor_are_refused_and_the_rest_is_applied() -> None:
    good = event("MODIFIED", 12)
    state, effects = step(watching("10"), Arrived([event("ADDED", 9), mark(8), good]), 1.0)
    assert effects[:3] == (Refused("added", "9"), Refused("bookmark", "8"), Apply((good,)))
    assert state.phase.version == "12" and state.floor == "12"  # type: ignore[union-attr]


# After an expired watch.


@pytest.mark.parametrize("how", ["event", "status"])
def test_ref6_ref13_an_expired_watch_lists_from_the_last_version_seen(how: str) -> None:
    if how == "event":
        good = event("MODIFIED", 11)
        state, effects = step(watching("10"), Arrived([good, error(410, "Expired")]), 50.0)
        assert effects == (Apply((good,)), CloseWatch(), Relisting("expired"), Prepare(relist=True))
        assert state.phase == Relist("11")
    else:
        state, effects = step(State(Listed("11", 0.0), floor="11"), OpenFailed(EXPIRED), 50.0)
        assert effects == (Relisting("expired"), Prepare(relist=True))
    assert state.phase == Relist("11")
    assert step(state, Ready(streaming=False), 0.0)[1] == (ListPage("11", "NotOlderThan"),)
    assert step(state, Ready(streaming=True), 0.0)[1] == (OpenWatch("11", initial=True),)


def test_ref13_reason_gone_counts_as_expired() -> None:
    state, _ = step(watching("10"), Arrived([error(410, "Gone")]), 50.0)
    assert state.phase == Relist("10")


def test_ref6_only_an_expired_list_gives_up_the_version() -> None:
    for phase, failed in (
        (Paging(Relist("11")), PageFailed(EXPIRED)),
        (Streaming(Relist("11")), OpenFailed(EXPIRED)),
    ):
        state, effects = step(State(phase, floor="11"), failed, 0.0)
        assert state.phase == Relist("")
        assert effects[-1] == Prepare(relist=True) and "Backoff" not in kinds(effects)
    assert step(state, Ready(streaming=False), 0.0)[1] == (ListPage(limit=500),)


def test_ref6_a_list_that_is_expired_as_soon_as_it_is_complete_is_no_loop() -> None:
    state, effects = step(State(Listed("11", 100.0), floor="11"), OpenFailed(EXPIRED), 100.5)
    assert kinds(effects) == ["Relisting", "Backoff"] and state.phase == Relist("")


@pytest.mark.parametrize(
    "large", [too_large(), status(504, "Timeout", "Too large resource version: 99, current: 5")], ids=["cause", "text"]
)
def test_ref7_a_version_that_is_too_large_waits_and_asks_for_the_newest(large: Exception) -> None:
    for phase, failed in (
        (Paging(Relist("99")), PageFailed(large)),
        (Streaming(Relist("99")), OpenFailed(large)),
        (Listed("99", 0.0), OpenFailed(large)),
    ):
        state, effects = step(State(phase, floor="99"), failed, 10.0)
        assert isinstance(effects[-1], Backoff) and not effects[-1].host
        assert state.phase == Relist("")


# Streaming lists.


def test_ref8_the_end_bookmark_replaces_and_the_connection_goes_on() -> None:
    state = State(Streaming(Empty(), 305.0))
    one, two = event("ADDED", 7, "a"), event("ADDED", 3, "b")
    state, effects = step(state, Arrived([one]), 1.0)
    assert effects == (StageEvents([one]), Read(31.0))
    state, effects = step(state, Arrived([two, mark(8, end=True)]), 2.0)
    assert effects == (SawBookmark(), StageEvents([two]), Replace("8", streamed=True), Read(72.0))
    assert state.phase == Watching("8", 2.0, 2.0, 305.0, 2.0, 1)


def test_ref8_events_behind_the_end_bookmark_are_applied_after_the_replace() -> None:
    late = event("MODIFIED", 9)
    state, effects = step(State(Streaming(Empty(), 305.0)), Arrived([mark(8, end=True), late]), 2.0)
    assert kinds(effects) == ["SawBookmark", "Replace", "Apply", "Read"]
    assert state.floor == "9"


def test_ref9_thirty_silent_seconds_fall_back_to_list() -> None:
    state, effects = step(State(Streaming(Relist("4"))), Opened(300.0), 0.0)
    assert effects == (Read(30.0),)
    state, effects = step(state, Arrived([event("ADDED", 1)]), 20.0)
    assert effects[-1] == Read(50.0), "an object is progress"
    state, effects = step(state, Silent(), 50.0)
    assert effects == (
        CloseWatch(),
        DropStaged(),
        FallBack("no_progress", remember=True),
        ListPage("4", "NotOlderThan"),
    )


def test_ref9_a_clean_end_without_the_bookmark_falls_back_to_list() -> None:
    state, effects = step(State(Streaming(Empty(), 305.0, count=3)), Ended(), 1.0)
    assert effects == (CloseWatch(), DropStaged(), FallBack("ended", remember=True), ListPage(limit=500))
    assert state.phase == Paging(Empty())


def test_ref9_a_stream_that_never_ends_is_not_waited_for_beyond_its_timeout() -> None:
    state = State(Streaming(Empty(), ends_at=305.0, progress_at=304.0))
    state, effects = step(state, Arrived([event("ADDED", 1)]), 304.0)
    assert effects[-1] == Read(305.0)
    assert FallBack("too_slow", remember=False) in step(state, Silent(), 305.0)[1]


@pytest.mark.parametrize("code", [400, 405, 406, 415, 422])
def test_ref10_a_server_that_refuses_streaming_lists_is_remembered(code: int) -> None:
    _, effects = step(State(Streaming(Empty())), OpenFailed(status(code)), 0.0)
    assert effects == (FallBack("unsupported", remember=True), ListPage(limit=500))
    _, effects = step(State(Streaming(Empty(), 300.0)), Arrived([error(code)]), 0.0)
    assert FallBack("unsupported", remember=True) in effects


def test_ref10_broken_streams_use_list_for_this_round_only() -> None:
    state = State(Streaming(Empty(), 300.0))
    state, effects = step(state, Broke(Reset("gone")), 0.0)
    assert kinds(effects) == ["CloseWatch", "DropStaged", "Backoff"] and state.phase == Empty()
    state, _ = step(state, Ready(streaming=True), 0.0)
    state, _ = step(state, OpenFailed(Reset("gone")), 0.0)
    state, effects = step(state, Ready(streaming=True), 0.0)
    assert effects == (FallBack("errors", remember=False), ListPage(limit=500))
    state = State(Relist(""), stream_failures=state.stream_failures)
    assert step(state, Ready(streaming=True), 0.0)[1] == (OpenWatch("", initial=True),)


def test_ref11_synthetic_events_move_no_version() -> None:
    state = State(Streaming(Relist("50"), 300.0), floor="50")
    state, effects = step(state, Arrived([event("ADDED", 90), event("ADDED", 3)]), 0.0)
    assert state.floor == "50" and "Advance" not in kinds(effects) and "Refused" not in kinds(effects)
    state, _ = step(state, Broke(Reset("x")), 0.0)
    assert state.phase == Relist("50")


def test_ref11_a_plain_bookmark_before_the_end_completes_nothing() -> None:
    _, effects = step(State(Streaming(Empty(), 300.0)), Arrived([mark(80)]), 0.0)
    assert kinds(effects) == ["SawBookmark", "Read"]


# Watches.


def test_ref12_bookmarks_move_the_reflector_and_the_store() -> None:
    state, effects = step(watching("10"), Arrived([event("MODIFIED", 11), mark(30)]), 1.0)
    assert kinds(effects) == ["Apply", "Advance", "SawBookmark", "Read"]
    assert Advance("30") in effects and state.phase.version == "30"  # type: ignore[union-attr]
    _, effects = step(state, Ended(), 90.0)
    assert effects[-1] == OpenWatch("30")


@pytest.mark.parametrize("failure", [ConnectionRefused("no"), BUSY, status(503), status(504)])
def test_ref14_a_busy_or_absent_server_is_waited_for_and_watched_again_without_a_list(failure: Exception) -> None:
    state, effects = step(State(Listed("10", 0.0), floor="10"), OpenFailed(failure), 9.0)
    assert kinds(effects) == ["Backoff"] and effects[0].host  # type: ignore[union-attr]
    assert step(state, Woke(), 10.0)[1] == (OpenWatch("10"),)


def test_ref14_internal_errors_are_waited_out_for_a_minute_and_then_listed() -> None:
    state = State(Listed("10", 0.0), floor="10")
    for now in (100.0, 130.0, 159.0):
        state, effects = step(state, OpenFailed(INTERNAL), now)
        assert kinds(effects) == ["Backoff"] and isinstance(state.phase, Listed)
    state, effects = step(state, OpenFailed(INTERNAL), 160.0)
    assert state.phase == Relist("10") and Relisting("internal_error") in effects
    assert state.internal_since is None


def test_ref14_one_good_event_ends_a_row_of_internal_errors() -> None:
    state, _ = step(State(Listed("10", 0.0), floor="10"), OpenFailed(INTERNAL), 100.0)
    state, _ = step(state, Opened(300.0), 101.0)
    state, _ = step(state, Arrived([event("ADDED", 11)]), 102.0)
    assert state.internal_since is None


def test_ref14_an_opened_watch_that_brings_internal_errors_only_does_not_start_the_minute_again() -> None:
    state = replace(watching("10"), internal_since=100.0)
    state, effects = step(state, Arrived([error(500, "InternalError")]), 161.0)
    assert state.phase == Relist("10") and Relisting("internal_error") in effects


@pytest.mark.parametrize("end", [Ended(), Broke(Truncated("half a line")), Broke(Reset("x"))])
def test_ref14_an_ended_watch_is_opened_again_at_once(end: Any) -> None:
    state, effects = step(watching("10", opened=0.0), end, 200.0)
    assert effects == (CloseWatch(), OpenWatch("10")) and isinstance(state.phase, Listed)


@pytest.mark.parametrize("end", [Ended(), Broke(Reset("x"))])
def test_bak3_a_very_short_watch_without_events_is_a_failure(end: Any) -> None:
    state, effects = step(watching("10", opened=5.0, events=0), end, 5.9)
    assert kinds(effects) == ["CloseWatch", "Backoff"] and isinstance(state.phase, Listed)
    assert kinds(step(watching("10", opened=5.0, events=0), end, 6.1)[1]) == ["CloseWatch", "OpenWatch"]
    assert kinds(step(watching("10", opened=5.0, events=1), end, 5.1)[1]) == ["CloseWatch", "OpenWatch"]


def test_ref15_the_stall_clock_is_armed_by_a_bookmark() -> None:
    state, effects = step(State(Listed("10", 0.0), floor="10"), Opened(400.0), 0.0)
    assert effects == (Read(405.0),), "not armed: only the absolute deadline"
    state, effects = step(state, Arrived([mark(11)]), 60.0)
    assert effects[-1] == Read(130.0)
    state, effects = step(state, Silent(), 130.0)
    assert effects == (Stalled(), CloseWatch(), OpenWatch("11"))


def test_ref15_a_new_stream_inherits_the_armed_clock() -> None:
    _, effects = step(State(Listed("10", 0.0), floor="10"), Opened(400.0, bookmarks=True), 0.0)
    assert effects == (Read(70.0),)


def test_ref15_the_absolute_deadline_is_timeout_seconds_and_five() -> None:
    state, effects = step(State(Listed("10", 0.0), floor="10"), Opened(300.0, bookmarks=True), 0.0)
    state, effects = step(state, Arrived([event("ADDED", 12)]), 290.0)
    assert effects[-1] == Read(305.0)
    assert step(state, Silent(), 305.0)[1] == (CloseWatch(), OpenWatch("12"))


def test_ref15_an_event_moves_the_stall_clock() -> None:
    state = replace(watching("10"), bookmarks=True)
    assert step(state, Arrived([event("ADDED", 11)]), 69.0)[1][-1] == Read(139.0)


def test_ref20_a_forbidden_list_is_retried_for_ever_and_concerns_this_reflector_alone() -> None:
    state, effects = step(State(Paging(Empty())), PageFailed(FORBIDDEN), 0.0)
    assert effects == (DropStaged(), Backoff("list_failed", FORBIDDEN, host=False)) and state.phase == Empty()
    state, effects = step(watching("10"), Arrived([error(403, "Forbidden")]), 60.0)
    assert state.phase == Relist("10") and isinstance(effects[-1], Backoff) and not effects[-1].host


def test_cac5_a_resource_that_is_not_served_is_waited_for() -> None:
    for phase, failed in ((Paging(Empty()), PageFailed(MISSING)), (Streaming(Empty()), OpenFailed(MISSING))):
        state, effects = step(State(phase), failed, 0.0)
        assert state.phase == Missing(Empty()) and effects[-1] == AwaitServed(MISSING)
    state, effects = step(State(Listed("10", 0.0), floor="10"), OpenFailed(MISSING), 9.0)
    assert state.phase == Missing(Relist("10"))
    state, effects = step(state, Served(), 20.0)
    assert effects == (Prepare(relist=True),)


def test_fra2_a_frame_that_stays_broken_is_jumped_over_by_a_list() -> None:
    bad = Broke(BadFrame("no event"))
    state, effects = step(watching("10", opened=0.0), bad, 50.0)
    assert kinds(effects) == ["CloseWatch", "OpenWatch"]
    state, _ = step(state, Opened(300.0), 50.0)
    state, effects = step(state, bad, 50.1)
    assert state.phase == Relist("10") and Relisting("bad_frame") in effects


def test_fra2_broken_frames_at_different_versions_are_no_row() -> None:
    state, _ = step(watching("10", opened=0.0), Broke(BadFrame("no event")), 50.0)
    state, _ = step(state, Opened(300.0), 50.0)
    state, _ = step(state, Arrived([event("ADDED", 11)]), 51.0)
    state, _ = step(state, Broke(BadFrame("no event")), 52.0)
    assert isinstance(state.phase, Listed)


def test_fra5_an_unreadable_object_without_a_version_is_applied_and_moves_nothing() -> None:
    odd = event("ADDED", "")
    state, effects = step(watching("10"), Arrived([odd]), 1.0)
    assert effects[0] == Apply((odd,)) and state.floor == "10"


@pytest.mark.parametrize("failure", [DecodeError("bad"), RuntimeError("a defect")])
def test_ref17_an_unforeseen_failure_of_a_watch_lists_again(failure: Exception) -> None:
    state, effects = step(watching("10"), Broke(failure), 60.0)
    assert state.phase == Relist("10") and isinstance(effects[-1], Backoff)


FAILURES = [EXPIRED, FORBIDDEN, MISSING, INTERNAL, BUSY, INVALID, too_large(), Reset("x"), RuntimeError("?")]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("origin", [Empty(), Relist("5"), Relist("")], ids=str)
def test_ref17_every_failure_has_a_successor_that_waits_for_something(origin: Any, failure: Exception) -> None:
    waits = (Prepare, ListPage, OpenWatch, Read, Backoff, AwaitServed)
    for phase, what in (
        (Paging(origin), PageFailed(failure)),
        (Paging(origin, pages=2), PageFailed(failure)),
        (Streaming(origin), OpenFailed(failure)),
        (Streaming(origin, 300.0), Broke(failure)),
        (Listed("5", 0.0), OpenFailed(failure)),
        (Watching("5", 0.0, 0.0, 305.0, 0.0, 1), Broke(failure)),
    ):
        state, effects = step(State(phase, floor="5"), what, 60.0)
        assert isinstance(effects[-1], waits)
        assert not any(isinstance(e, (Prepare, OpenWatch, Read, Backoff, AwaitServed)) for e in effects[:-1])
        assert state.floor == "5"


def test_a_relist_is_counted_with_its_reason_wherever_it_begins() -> None:
    cases = [
        (watching("10"), Arrived([error(410, "Expired")]), "expired"),
        (watching("10"), Arrived([error(403)]), "error"),
        (State(Listed("10", 0.0)), OpenFailed(too_large()), "too_large"),
        (State(Listed("10", 0.0)), OpenFailed(MISSING), "missing"),
        (State(Paging(Relist("10")), floor="10"), PageArrived("9", "", []), "stale"),
    ]
    for state, what, reason in cases:
        assert [e.reason for e in step(state, what, 60.0)[1] if isinstance(e, Relisting)] == [reason]


def test_an_input_that_is_not_waited_for_is_a_defect() -> None:
    for state, what in (
        (State(), Ended()),
        (watching(), Woke()),
        (State(Listed("1", 0.0)), Ended()),
        (State(Streaming(Empty())), Woke()),
        (State(Missing(Empty())), Woke()),
    ):
        with pytest.raises(ValueError, match="does not wait for"):
            step(state, what, 0.0)
