"""The gate against a model: no plan on a store without its own writes, and nothing that stays (CON1 to CON5)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from kruise.runtime.objects import Key
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.unit.cache.test_consistency import Bench, created, deleted
from tests.unit.cache.test_store import pod

OWNERS = st.sampled_from(["x", "y", "z"])
PODS = st.sampled_from(["a", "b", "c"])
ACTIONS = st.one_of(
    st.tuples(st.just("create"), OWNERS, PODS),
    st.tuples(st.just("delete"), OWNERS, PODS),
    st.tuples(st.just("deliver"), st.integers(1, 4), st.none()),
    st.tuples(st.just("forget"), OWNERS, st.none()),
    st.tuples(st.just("sleep"), st.sampled_from([0.5, 4.0, 9.0, 11.0]), st.none()),
)


class Truth:
    """The server: what was written, and how much of it the store has been shown."""

    def __init__(self) -> None:
        self.version = 10
        self.log: list[tuple[int, str, Any]] = []
        self.shown = 0
        self.live: dict[str, Any] = {}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(actions=st.lists(ACTIONS, max_size=40))
def test_con1_con4_con5_a_key_is_free_exactly_when_its_writes_are_shown_or_its_time_is_up(actions: Any) -> None:
    async def go(clock: VirtualClock) -> None:
        b = Bench(clock)
        truth = Truth()
        # Per owner: (index in the log that must have been shown, when it was written).
        waits: dict[Key, list[tuple[int, float]]] = {}
        made: dict[str, tuple[Key, int]] = {}

        def deliver(count: int) -> None:
            for version, kind, obj in truth.log[truth.shown : truth.shown + count]:
                if kind == "put":
                    b.pods.put(obj)
                else:
                    b.pods.remove(obj)
                b.pods.advance(str(version))
                truth.shown += 1

        def check() -> None:
            now = clock.monotonic()
            for owner in (Key("default", n) for n in "xyz"):
                open_waits = [at for index, at in waits.get(owner, ()) if index >= truth.shown]
                held = any(now - at < 10.0 for at in open_waits)
                assert b.tracker.blocked(owner) is held
                if held or not open_waits:
                    continue
                # Several creates are one entry with the deadline of the last, so an older one may be answered for.
                assert b.tracker.expired(owner)

        for what, arg, name in actions:
            owner = Key("default", str(arg))
            if what == "create" and name not in truth.live:
                truth.version += 1
                obj = pod(name, truth.version, uid=f"{name}{truth.version}")
                truth.live[name] = obj
                truth.log.append((truth.version, "put", obj))
                made[obj.uid] = (owner, len(truth.log) - 1)
                waits.setdefault(owner, []).append((len(truth.log) - 1, clock.monotonic()))
                b.tracker.wrote(owner, created(name, truth.version))
            elif what == "delete" and name in truth.live:
                last = truth.live[name]
                shown = b.pods.raw(last.key)
                creator, index = made[last.uid]
                pending = index in [i for i, _ in waits.get(owner, ())] and index >= truth.shown
                if not ((shown is not None and shown.uid == last.uid) or (creator == owner and pending)):
                    continue  # nobody deletes what another one made and no cache shows
                truth.version += 1
                del truth.live[name]
                obj = pod(name, truth.version, uid=last.uid)
                truth.log.append((truth.version, "gone", obj))
                waits.setdefault(owner, []).append((len(truth.log) - 1, clock.monotonic()))
                b.tracker.wrote(owner, deleted(name, last.uid))
            elif what == "deliver":
                deliver(int(arg))
            elif what == "forget":
                waits.pop(owner, None)
                b.tracker.forget(owner)
            elif what == "sleep":
                await clock.sleep(float(arg) + 0.001)
            check()
        for n in "xyz":
            b.tracker.forget(Key("default", n))
        assert b.tracker.pending() == 0 and b.pods.waiters == 0, "the tombstone of an owner clears everything"
        deliver(len(truth.log))
        b.tracker.close()

    with capture_logs():
        run_virtual(go)


@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
def test_con4_whatever_was_written_ends_within_five_minutes(names: list[str]) -> None:
    async def go(clock: VirtualClock) -> None:
        b = Bench(clock)
        for i, name in enumerate(names):
            obj = pod(name, 11 + i, uid=f"{name}{i}")
            b.pods.put(obj)
            b.tracker.wrote(Key("default", "gone"), deleted(name, obj.uid))
            b.tracker.wrote(Key("default", "gone"), created(name, 1000 + i))
            b.tracker.wrote(Key("default", "gone"), created(name, f"opaque{i}"))
            await clock.sleep(1)
        await clock.sleep(301)
        assert b.tracker.pending() == 0 and b.pods.waiters == 0

    with capture_logs():
        run_virtual(go)
