"""consistency.py: no plan on a cache older than one's own writes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from kruise.runtime.cache.consistency import ConsistencyTracker
from kruise.runtime.cache.store import Store
from kruise.runtime.errors import ResourceNotCached
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Resource
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.unit.cache.fake_server import NODES, PODS, Pod
from tests.unit.cache.test_store import fill, pod

A, B = Key("default", "a"), Key("default", "b")


@dataclass(frozen=True)
class Written:
    verb: str
    resource: Resource[Any]
    key: Key
    uid: str
    version: str


def created(name: str, version: int | str, ns: str = "default") -> Written:
    return Written("create", PODS, Key(ns, name), f"uid-{name}", str(version))


def deleted(name: str, uid: str, version: str = "") -> Written:
    return Written("delete", PODS, Key("default", name), uid, version)


class Bench:
    def __init__(self, clock: VirtualClock, scopes: tuple[str, ...] = ("",)) -> None:
        self.clock = clock
        self.pods: Store[Pod] = Store(PODS, clock=clock, scopes=scopes)
        self.metrics = Metrics(process=False)
        self.ready: list[Key] = []
        self.tracker = ConsistencyTracker("bcj", self, clock=clock, metrics=self.metrics)
        self.tracker.on_ready = self.ready.append
        for scope in scopes:
            fill(self.pods, "10", scope=scope)

    def store(self, resource: Resource[Any]) -> Store[Any]:
        if resource != PODS or resource.metadata_only:
            raise ResourceNotCached(str(resource))
        return self.pods

    def value(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"controller": "bcj"}) or 0.0


def bench(main: Callable[[Bench], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def run(clock: VirtualClock) -> None:
        b = Bench(clock, **options)
        await main(b)
        b.tracker.close()
        assert b.pods.waiters == 0

    run_virtual(run)


def test_con1_a_key_is_held_until_the_store_covers_its_writes() -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, created("x", 12))
        b.tracker.wrote(A, created("y", 14))
        assert b.tracker.blocked(A)
        b.pods.advance("13")
        assert b.tracker.blocked(A) and b.ready == []
        await b.clock.sleep(2)
        b.pods.advance("14")
        assert not b.tracker.blocked(A) and b.ready == [A] and b.tracker.pending() == 0
        assert b.value("kruise_consistency_skipped_total") == 2
        assert b.value("kruise_consistency_wait_seconds_sum") == 2.0

    bench(main)


def test_con1_a_bookmark_or_a_list_counts() -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, created("x", 12))
        fill(b.pods, "40")
        assert not b.tracker.blocked(A) and b.ready == [A]

    bench(main)


def test_con1_a_write_that_the_cache_has_already_seen_holds_nobody() -> None:
    async def main(b: Bench) -> None:
        b.pods.advance("20")
        b.tracker.wrote(A, created("x", 12))
        assert not b.tracker.blocked(A) and b.tracker.pending() == 0

    bench(main)


def test_con1_a_hundred_writes_are_one_entry() -> None:
    async def main(b: Bench) -> None:
        for version in (*range(50, 150), 30):
            b.tracker.wrote(A, created(f"p{version}", version))
        assert b.tracker.pending() == 1 and b.pods.waiters == 1
        b.pods.advance("148")
        assert b.tracker.blocked(A)
        b.pods.advance("149")
        assert b.ready == [A]

    bench(main)


def test_con1_what_nobody_caches_is_not_awaited() -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, Written("patch", NODES, Key("", "n"), "u", "99"))
        assert not b.tracker.blocked(A) and b.tracker.pending() == 0

    bench(main)


def test_con1_the_scope_of_the_namespace_counts() -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, created("x", 12, ns="one"))
        b.tracker.wrote(B, created("x", 12, ns="elsewhere"))
        assert b.tracker.blocked(A) and not b.tracker.blocked(B)
        b.pods.advance("12", "two")
        assert b.tracker.blocked(A)
        b.pods.advance("12", "one")
        assert b.ready == [A]

    bench(main, scopes=("one", "two"))


def test_con1_versions_without_an_order_are_awaited_by_equality() -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, created("x", "etag-1"))
        assert b.tracker.blocked(A)
        b.pods.put(pod("x", "etag-1"))
        b.pods.advance("etag-1")
        assert b.ready == [A]
        b.tracker.wrote(A, created("x", "etag-1"))
        assert not b.tracker.blocked(A), "the object itself shows the version"

    bench(main)


def test_con2_a_deletion_is_awaited_by_uid() -> None:
    async def main(b: Bench) -> None:
        fill(b.pods, "11", pod("x", 5, uid="u1"), pod("y", 6, uid="u2"))
        b.tracker.wrote(A, deleted("x", "u1"))
        b.tracker.wrote(A, deleted("y", "u2"))
        b.pods.advance("99")
        assert b.tracker.blocked(A), "a version says nothing of a deletion"
        b.pods.remove(pod("x", 100, uid="u1"))
        assert b.tracker.blocked(A)
        b.pods.put(pod("y", 101, uid="u3"))
        assert not b.tracker.blocked(A) and b.ready == [A]

    bench(main)


def test_con2_a_lingering_object_is_awaited_by_the_version_of_its_deletion() -> None:
    async def main(b: Bench) -> None:
        fill(b.pods, "11", pod("x", 5, uid="u1"), pod("y", 5, uid="u2"))
        b.tracker.wrote(A, deleted("x", "u1", "15"))
        b.pods.advance("14")
        assert b.tracker.blocked(A)
        b.pods.advance("15")
        assert b.ready == [A] and b.pods.waiters == 0
        b.tracker.wrote(B, deleted("y", "u2", "50"))
        b.pods.remove(pod("y", 20, uid="u2"))
        assert b.ready == [A, B] and b.pods.waiters == 0

    bench(main)


def test_con2_a_deletion_that_the_cache_shows_already_holds_nobody() -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, deleted("x", "u1"))
        b.tracker.wrote(A, deleted("x", "u1", "50"))
        assert b.tracker.pending() == 0 and b.pods.waiters == 0

    bench(main)


@pytest.mark.parametrize("version", ["12", "etag"])
def test_con2_an_object_that_was_deleted_before_the_cache_showed_it_is_not_gone_yet(version: str) -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, created("x", version))
        b.tracker.wrote(A, deleted("x", "uid-x"))
        b.pods.put(pod("x", version))
        b.pods.advance(version)
        assert b.tracker.blocked(A), "the cache has come to the creation only"
        b.pods.remove(pod("x", 13))
        assert b.ready == [A] and b.pods.waiters == 0

    bench(main)


def test_con2_an_object_that_came_and_went_between_two_lists_is_gone() -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, created("x", 12))
        b.tracker.wrote(A, deleted("x", "uid-x"))
        fill(b.pods, "20")
        assert b.ready == [A] and b.tracker.pending() == 0 and b.pods.waiters == 0

    bench(main)


def test_con3_the_breaker_lets_a_key_go_after_ten_seconds_and_asks_for_live_reads() -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, created("x", 12))
        with capture_logs() as logs:
            await b.clock.sleep(9.9)
            assert b.tracker.blocked(A) and not b.tracker.expired(A)
            await b.clock.sleep(0.2)
        assert b.ready == [A] and not b.tracker.blocked(A) and b.tracker.expired(A)
        assert b.value("kruise_consistency_timeouts_total") == 1
        (line,) = logs
        assert line["awaited"] == "create of pods default/x: version 12, the store is at 10" and line["key"] == str(A)
        b.pods.advance("12")
        assert not b.tracker.expired(A) and b.tracker.pending() == 0
        assert b.ready == [A], "a key that was let go is not woken once more"

    bench(main)


def test_con3_a_write_after_the_breaker_is_awaited_again() -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, created("x", 12))
        await b.clock.sleep(11)
        b.tracker.wrote(A, created("y", 13))
        assert b.tracker.blocked(A)
        await b.clock.sleep(11)
        assert b.ready == [A, A] and b.tracker.expired(A)

    bench(main)


def test_con3_deadlines_of_many_keys_need_one_timer() -> None:
    async def main(b: Bench) -> None:
        for i in range(10_000):
            b.tracker.wrote(Key("default", str(i)), created(f"p{i}", 1000 + i))
        loop = __import__("asyncio").get_running_loop()
        steps = loop.steps
        assert len(loop.timers_left()) == 1
        await b.clock.sleep(9)
        assert loop.steps - steps < 10, "10,000 owners that wait cost no CPU"
        b.pods.advance("5999")
        assert len(b.ready) == 5000
        await b.clock.sleep(2)
        assert len(b.ready) == 10_000 and b.value("kruise_consistency_timeouts_total") == 5000

    bench(main)


def test_con4_the_tombstone_of_an_owner_clears_its_entries() -> None:
    async def main(b: Bench) -> None:
        fill(b.pods, "11", pod("x", 5, uid="u1"))
        b.tracker.wrote(A, created("y", 12))
        b.tracker.wrote(A, deleted("x", "u1"))
        b.tracker.forget(A)
        assert b.tracker.pending() == 0 and b.pods.waiters == 0 and not b.tracker.blocked(A)
        await b.clock.sleep(20)
        assert b.ready == [] and b.value("kruise_consistency_timeouts_total") == 0

    bench(main)


def test_con4_an_entry_of_an_owner_that_is_gone_already_ends_by_itself() -> None:
    async def main(b: Bench) -> None:
        fill(b.pods, "11", pod("x", 5, uid="u1"))
        b.tracker.forget(A)
        b.tracker.wrote(A, deleted("x", "u1"))
        await b.clock.sleep(299)
        assert b.tracker.pending() == 1
        await b.clock.sleep(2)
        assert b.tracker.pending() == 0 and b.pods.waiters == 0

    bench(main)


def test_con5_another_owner_delays_nobody() -> None:
    async def main(b: Bench) -> None:
        b.tracker.wrote(A, created("x", 1000))
        b.tracker.wrote(B, created("y", 11))
        b.pods.advance("11")
        assert b.tracker.blocked(A) and not b.tracker.blocked(B) and b.ready == [B]

    bench(main)


def test_con6_changes_of_others_hold_nobody() -> None:
    async def main(b: Bench) -> None:
        b.pods.put(pod("foreign", 500))
        assert not b.tracker.blocked(A) and not b.tracker.expired(A)

    bench(main)


def test_what_is_awaited_can_be_read() -> None:
    async def main(b: Bench) -> None:
        fill(b.pods, "11", pod("x", 5, uid="u1"))
        b.tracker.wrote(A, deleted("x", "u1"))
        assert b.tracker.awaited() == {A: ("deletion of pods default/x (uid u1)",)}

    bench(main)


@pytest.mark.parametrize("deadline", [1.0, 30.0])
def test_con3_the_deadline_is_an_option(deadline: float) -> None:
    async def run(clock: VirtualClock) -> None:
        b = Bench(clock)
        tracker = ConsistencyTracker("other", b, clock=clock, metrics=b.metrics, deadline=deadline)
        tracker.wrote(A, created("x", 12))
        await clock.sleep(deadline - 0.1)
        assert tracker.blocked(A)
        await clock.sleep(0.2)
        assert tracker.expired(A)
        tracker.close()
        b.tracker.close()

    run_virtual(run)
