"""The rule of who may lead, as a table: state, event, what is done next."""

from __future__ import annotations

import dataclasses
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.lease import (
    LEASES,
    Create,
    Durations,
    Failed,
    Lease,
    LeaseSpec,
    Lost,
    Patch,
    Read,
    Refused,
    Seen,
    State,
    Tick,
    Wait,
    WatchDown,
    Wrote,
    acquire_patch,
    create_body,
    decide,
    release_patch,
    renew_patch,
)
from kruise.runtime.objects import ObjectMeta

D = Durations()
MICRO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


def lease(
    holder: str = "a", version: str = "10", *, renewed: str = "t1", transitions: int = 3, seconds: int = 15
) -> Lease:
    return Lease(
        metadata=ObjectMeta(name="kruise-manager", namespace="kruise-system", uid="u1", resource_version=version),
        spec=LeaseSpec(
            holder_identity=holder,
            lease_duration_seconds=seconds,
            acquire_time="t0",
            renew_time=renewed,
            lease_transitions=transitions,
        ),
    )


def fresh(**changes: object) -> State:
    return dataclasses.replace(State("me", D), **changes)  # type: ignore[arg-type]


def standing_by(observed_at: float = 100.0, **changes: object) -> State:
    return fresh(lease=lease(), known=True, observed_at=observed_at, transitions=3, **changes)


def leading(renewed_at: float = 100.0, **changes: object) -> State:
    return fresh(
        **{
            "lease": lease("me", transitions=4),
            "known": True,
            "leading": True,
            "renewed_at": renewed_at,
            "next_try": renewed_at + 2,
            "transitions": 4,
            **changes,
        }
    )


# LEA1


def test_lea1_the_durations_are_those_of_client_go() -> None:
    assert (D.lease, D.renew, D.retry) == (15.0, 10.0, 2.0)
    assert D.pause(0.0) == 2.0
    assert D.pause(0.999) < 2.4


@pytest.mark.parametrize(
    ("lease_s", "renew", "retry", "names"),
    [
        (10, 10, 2, "--leader-election-lease-duration=10s"),
        (9, 10, 2, "--leader-election-lease-duration=9s"),
        (15, 2.4, 2, "--leader-election-renew-deadline=2.4s"),
        (15, 10, 0, "--leader-election-retry-period=0s"),
        (0.9, 0.5, 0.1, "--leader-election-lease-duration=0.9s"),
    ],
)
def test_lea1_durations_that_do_not_fit_are_refused(lease_s: float, renew: float, retry: float, names: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(names)):
        Durations(lease_s, renew, retry)


@pytest.mark.parametrize(("renew", "one_try"), [(10, 5.0), (30, 15.0), (2, 1.0), (1.5, 1.0), (1.3, 1.0)])
def test_lea5_one_try_has_half_of_the_renew_deadline_but_never_less_than_a_second(renew: float, one_try: float) -> None:
    assert Durations(60, renew, 1).one_try == one_try


def test_lea1_the_pause_between_two_tries_is_jittered() -> None:
    for chance in (0.0, 0.5):
        _, step = decide(fresh(), Failed(now=5.0, sent=5.0), chance=chance)
        assert step == Wait(5.0 + D.pause(chance))


# LEA2, standby


def test_lea2_the_first_step_is_a_read() -> None:
    assert decide(fresh(), Tick(0.0))[1] == Read()


def test_lea2_a_foreign_lease_counts_from_when_it_was_seen_and_not_from_its_stamps() -> None:
    ancient = lease(renewed="1970-01-01T00:00:00.000000Z")
    state, step = decide(fresh(), Seen(50.0, ancient))
    assert isinstance(step, Wait) and step.until <= 65.0
    assert state.expires_at == 65.0
    # Seen again, unchanged: the count goes on.
    state, _ = decide(state, Seen(60.0, ancient))
    assert state.expires_at == 65.0
    # A renewal starts it anew.
    state, _ = decide(state, Seen(61.0, lease(version="11", renewed="t2")))
    assert state.expires_at == 76.0


def test_lea2_a_change_of_labels_alone_is_no_renewal() -> None:
    state, _ = decide(standing_by(), Seen(110.0, lease(version="11")))
    assert state.observed_at == 100.0 and state.lease is not None and state.lease.resource_version == "11"


def test_lea2_the_duration_of_the_record_counts_and_ours_only_without_one() -> None:
    assert standing_by(100.0).expires_at == 115.0
    assert fresh(lease=lease(seconds=40), observed_at=1.0).expires_at == 41.0
    assert fresh(lease=lease(seconds=0), observed_at=1.0).expires_at == 16.0


def test_lea15_one_timer_is_armed_for_the_end_of_the_lease() -> None:
    state = standing_by(doubted=True)
    assert decide(state, Tick(101.0))[1] == Wait(115.0)
    assert decide(state, Tick(114.999))[1] == Wait(115.0)
    assert decide(state, Tick(115.0))[1] == Patch(lease(), acquire=True, transitions=4)


def test_lea15_silence_is_doubted_by_one_read_and_no_more() -> None:
    state, step = decide(standing_by(), Tick(101.0))
    assert step == Wait(104.8)
    state, step = decide(state, Tick(104.8))
    assert step == Read() and state.doubted
    state, step = decide(state, Seen(104.9, lease()))
    assert step == Wait(115.0) and state.doubted, "nothing new: the holder is silent, and the lease ends when it ends"
    state, step = decide(state, Seen(106.0, lease(version="12", renewed="t3"), polled=False))
    assert not state.doubted and step == Wait(110.8)


def test_lea15_a_watch_that_is_down_is_replaced_by_a_read_each_retry_period() -> None:
    state, step = decide(standing_by(), WatchDown(101.0))
    assert step == Wait(103.0)
    state, step = decide(state, Tick(103.0))
    assert step == Read()


def test_lea15_a_released_lease_is_taken_at_once() -> None:
    released = lease("", version="11", seconds=1)
    assert decide(standing_by(), Seen(101.0, released, polled=False))[1] == Patch(released, acquire=True, transitions=4)


def test_lea15_old_news_of_the_watch_is_ignored() -> None:
    state, _ = decide(standing_by(), Seen(102.0, lease(version="9", renewed="t0"), polled=False))
    assert state.lease == lease() and state.observed_at == 100.0


# LEA10


def test_lea10_an_absent_lease_is_created_with_zero_transitions() -> None:
    assert decide(fresh(), Seen(1.0, None))[1] == Create(0)


def test_lea10_a_deleted_lease_is_created_and_the_count_goes_on() -> None:
    assert decide(standing_by(), Seen(101.0, None, polled=False))[1] == Create(4)
    state = leading(known=False, next_try=0.0)
    assert decide(state, Seen(101.0, None))[1] == Create(4)


def test_lea10_a_lost_race_is_followed_by_a_read() -> None:
    assert decide(standing_by(), Refused(115.0))[1] == Read()
    assert decide(fresh(known=True), Refused(1.0))[1] == Read()


def test_lea10_transitions_grow_at_each_change_of_holder_only() -> None:
    assert decide(standing_by(), Tick(115.0))[1] == Patch(lease(), acquire=True, transitions=4)
    assert decide(leading(), Tick(102.0))[1] == Patch(lease("me", transitions=4), acquire=False, transitions=4)
    # Our own write, of which the answer was lost.
    assert decide(fresh(), Seen(1.0, lease("me", transitions=7)))[1] == Patch(
        lease("me", transitions=7), acquire=True, transitions=7
    )


@pytest.mark.parametrize("wall", [0.0, 1_767_225_600.0, 1_767_225_600.5, 1_767_225_600.123456])
def test_lea10_every_stamp_has_six_fraction_digits(wall: float) -> None:
    bodies = [
        create_body("ns", "n", "me", D, wall, 0, {}),
        acquire_patch(lease(), "me", D, wall, 4, {}),
        renew_patch(lease(), wall),
        release_patch(lease(), wall),
    ]
    for body in bodies:
        for field in ("renewTime", "acquireTime"):
            if field in body["spec"]:
                assert MICRO.match(body["spec"][field]), body


def test_lea10_the_bodies_are_complete() -> None:
    body = create_body("kruise-system", "kruise-manager", "me", D, 0.0, 0, {"a": "b"})
    assert body["apiVersion"] == "coordination.k8s.io/v1" and body["kind"] == "Lease"
    assert body["metadata"] == {"name": "kruise-manager", "namespace": "kruise-system", "labels": {"a": "b"}}
    assert body["spec"]["leaseDurationSeconds"] == 15 and body["spec"]["leaseTransitions"] == 0
    assert isinstance(body["spec"]["leaseDurationSeconds"], int), "a fraction is answered 422"
    assert LEASES.path("kruise-system", "x") == "/apis/coordination.k8s.io/v1/namespaces/kruise-system/leases/x"


def test_lea10_every_patch_is_conditional_on_version_and_uid() -> None:
    for body in (acquire_patch(lease(), "me", D, 0, 4, {}), renew_patch(lease(), 0), release_patch(lease(), 0)):
        assert body["metadata"]["resourceVersion"] == "10" and body["metadata"]["uid"] == "u1"


def test_lea12_the_holder_writes_its_labels() -> None:
    assert acquire_patch(lease(), "me", D, 0, 4, {"team": "x"})["metadata"]["labels"] == {"team": "x"}
    assert "labels" not in renew_patch(lease(), 0)["metadata"]


# LEA3, the leader


def test_lea3_a_renewal_is_one_patch_of_one_stamp() -> None:
    state = leading()
    assert decide(state, Tick(101.0))[1] == Wait(102.0)
    _, step = decide(state, Tick(102.0))
    assert isinstance(step, Patch) and not step.acquire
    assert list(renew_patch(step.lease, 0.0)["spec"]) == ["renewTime"]


def test_lea3_the_slow_path_reads_first_and_says_so() -> None:
    state, step = decide(leading(), Refused(102.1))
    assert state.next_try <= 102.1 and step == Read(slow=True)
    assert decide(state, Seen(102.2, lease("me", version="12", transitions=4)))[1] == Patch(
        lease("me", version="12", transitions=4), acquire=False, transitions=4
    )


def test_lea3_after_an_unknown_outcome_the_lease_is_read() -> None:
    state, step = decide(leading(), Failed(now=107.0, sent=102.0, unknown=True))
    assert step == Read(slow=True), "a try that hung for its whole time-out is followed by the next one at once"
    state, step = decide(leading(), Failed(now=102.1, sent=102.0, unknown=False))
    assert step == Wait(104.0) and state.known, "one that failed fast waits"


def test_lea4_the_term_counts_from_when_the_renewal_was_sent() -> None:
    state, step = decide(leading(), Wrote(now=106.0, sent=102.0, lease=lease("me", version="11")))
    assert state.deadline == 112.0, "not 116: standbys count from an event between the request and its answer"
    assert isinstance(step, Patch), "a slow answer is followed by the next renewal at once"


def test_lea4_an_answer_that_comes_after_its_own_deadline_renews_nothing() -> None:
    # The machine slept between the request and its answer.
    state, step = decide(leading(), Wrote(now=113.0, sent=102.0, lease=lease("me", version="11")))
    assert state.renewed_at == 100.0 and isinstance(step, Lost)
    state, step = decide(standing_by(), Wrote(now=200.0, sent=116.0, lease=lease("me", version="11")))
    assert not state.leading and isinstance(step, Patch)


@pytest.mark.parametrize("now", [110.0, 110.001, 500.0])
def test_lea4_the_term_is_over_at_the_renew_deadline(now: float) -> None:
    assert isinstance(decide(leading(), Tick(now))[1], Lost)


def test_lea11_a_lease_that_somebody_took_is_lost_at_once() -> None:
    _, step = decide(leading(known=False), Seen(103.0, lease("other", version="20")))
    assert isinstance(step, Lost) and "other" in step.reason
    _, step = decide(leading(known=False), Seen(103.0, lease("", version="20")))
    assert isinstance(step, Lost)


def test_lea8_the_release_empties_the_holder_and_keeps_the_count() -> None:
    body = release_patch(lease("me", transitions=9), 0.0)
    assert body["spec"] == {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "acquireTime": "1970-01-01T00:00:00.000000Z",
        "renewTime": "1970-01-01T00:00:00.000000Z",
        "leaseTransitions": 9,
    }


def test_lea2_absent_and_null_fields_are_read() -> None:
    decoder = msgspec.json.Decoder(Lease)
    for text in (b"{}", b'{"spec":null}', b'{"spec":{"holderIdentity":null,"leaseDurationSeconds":null}}'):
        read = decoder.decode(text)
        assert read.holder == "" and read.record.lease_transitions in (None, 0)


events = st.one_of(
    st.just("tick"), st.just("refused"), st.just("failed"), st.just("unknown"), st.just("down"), st.just("gone"),
    st.sampled_from(["me", "other", ""]),
)  # fmt: skip


@given(st.lists(st.tuples(events, st.floats(0, 20)), max_size=40), st.floats(0, 0.999))
def test_lea4_no_sequence_of_events_prolongs_a_term_without_a_write(
    steps: list[tuple[str, float]], chance: float
) -> None:
    """Whatever happens between two writes that succeeded, the deadline stays, and after it there is only Lost."""
    state, now, version = leading(0.0), 0.0, 10
    for what, delay in steps:
        now += delay
        version += 1
        seen = lease(what, str(version)) if what in ("me", "other", "") else None
        event = {
            "tick": Tick(now),
            "refused": Refused(now),
            "failed": Failed(now, now),
            "unknown": Failed(now, now, unknown=True),
            "down": WatchDown(now),
        }.get(what) or Seen(now, seen)
        state, step = decide(state, event, chance=chance)
        assert state.deadline == 10.0
        if now >= 10.0:
            assert isinstance(step, Lost)


@given(st.lists(st.tuples(events, st.floats(0, 20)), max_size=40), st.floats(0, 0.999))
def test_lea2_a_standby_never_takes_a_lease_that_it_saw_renewed_within_its_duration(
    steps: list[tuple[str, float]], chance: float
) -> None:
    state, now, version = fresh(), 0.0, 10
    for what, delay in steps:
        now += delay
        version += 1
        seen = lease(what, str(version), renewed=str(version)) if what in ("me", "other", "") else None
        event = {
            "tick": Tick(now),
            "refused": Refused(now),
            "failed": Failed(now, now),
            "unknown": Failed(now, now, unknown=True),
            "down": WatchDown(now),
        }.get(what) or Seen(now, seen)
        state, step = decide(state, event, chance=chance)
        if isinstance(step, Patch) and step.lease.holder == "other":
            assert now >= state.observed_at + 15
        if isinstance(step, Wait):
            assert step.until > now, "a wait that is over would spin"
