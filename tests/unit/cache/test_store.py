"""store.py, index.py, progress.py, estimate.py."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from kruise.runtime.cache.index import Index
from kruise.runtime.cache.progress import Progress
from kruise.runtime.cache.store import Change, Store
from kruise.runtime.errors import ConfigError, ResourceNotCached
from kruise.runtime.objects import Key, ObjectMeta, OwnerReference, Unreadable
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.unit.cache.fake_server import NODES, PODS, Pod, Spec


class StillClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    monotonic = boottime = now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def pod(name: str, version: int | str = 1, *, uid: str = "", ns: str = "default", owner: str = "", **more: Any) -> Pod:
    refs = (OwnerReference(uid=owner, controller=True),) if owner else ()
    labels = more.pop("labels", {})
    meta = ObjectMeta(
        name=name,
        namespace=ns,
        uid=uid or f"uid-{name}",
        resource_version=str(version),
        owner_references=refs,
        labels=labels,
    )
    return Pod(api_version="v1", kind="Pod", metadata=meta, spec=Spec(**more))


def bad(name: str, version: int = 1, *, owner: str = "", uid: str = "") -> Unreadable:
    return Unreadable(metadata=pod(name, version, owner=owner, uid=uid).metadata, problem="Expected `int`")


def new_store(**options: Any) -> Store[Pod]:
    return Store(PODS, clock=StillClock(), **options)


def fill(store: Store[Pod], version: str, *objects: Pod | Unreadable, scope: str = "") -> list[Change[Pod]]:
    staging = store.staging(scope)
    for obj in objects:
        staging.add(obj)
    return list(store.replace(staging, version))


def names(objects: Any) -> list[str]:
    return [o.metadata.name for o in objects]


# Indexes.


def test_sto1_the_built_in_indexes() -> None:
    store = new_store(labels=("app",))
    store.put(pod("a", owner="u1", node_name="n1", labels={"app": "web", "x": "y"}))
    store.put(pod("b", owner="u1", node_name="n2", ns="other"))
    store.put(pod("c", node_name="n1"))
    assert names(store.by_index("owner", "u1")) == ["a", "b"]
    assert names(store.by_index("node", "n1")) == ["a", "c"]
    assert names(store.by_index("namespace", "default")) == ["a", "c"]
    assert names(store.by_index("label", "app=web")) == ["a"]
    assert store.by_index("owner", "nobody") == ()


def test_sto1_several_terms_are_intersected() -> None:
    store = new_store()
    for i in range(10):
        store.put(pod(f"p{i}", owner=f"u{i % 2}", node_name=f"n{i % 3}"))
    assert names(store.select(("owner", "u1"), ("node", "n0"), ("namespace", "default"))) == ["p3", "p9"]
    assert store.select(("owner", "u1"), ("node", "n7")) == ()
    assert store.select() == store.list()


def test_sto1_an_index_follows_changes_and_frees_empty_values() -> None:
    store = new_store()
    store.put(pod("a", 1, node_name="n1"))
    store.put(pod("a", 2, node_name="n2"))
    assert store.by_index("node", "n1") == () and names(store.by_index("node", "n2")) == ["a"]
    store.remove(pod("a", 3))
    assert all(not table for table in store._indexes.tables()), "k/k#84959: values of gone objects take no memory"


def test_sto1_a_user_index_may_come_late_and_is_typed_by_its_values() -> None:
    store = new_store()
    store.put(pod("a", size=3))
    store.add_index(Index("size", lambda p: [p.spec.size] if p.spec else []))
    store.put(pod("b", size=3))
    assert names(store.by_index("size", 3)) == ["a", "b"]
    with pytest.raises(ConfigError, match="another index 'size'"):
        store.add_index(Index("size", lambda p: []))


def test_sto1_label_keys_may_come_late() -> None:
    store = new_store()
    store.put(pod("a", labels={"app": "web"}))
    with pytest.raises(ResourceNotCached, match=r"labels=\['app'\]"):
        store.by_index("label", "app=web")
    store.add_labels(["app", "tier"])
    assert names(store.by_index("label", "app=web")) == ["a"] and store.by_index("label", "tier=x") == ()


def test_sto1_an_unknown_index_names_the_line_to_write() -> None:
    with pytest.raises(ResourceNotCached, match=r"cache\.watch\(<pods>, indexes=\[Index\('color'"):
        new_store().by_index("color", "red")
    with pytest.raises(ResourceNotCached, match="no index 'node'"):
        Store(NODES, clock=StillClock()).by_index("node", "n1")


def test_sto9_an_index_function_that_raises_quarantines_its_object_and_names_the_index() -> None:
    store = new_store()

    def size(p: Pod) -> list[int]:
        assert p.spec is not None
        if p.spec.size == 13:
            raise KeyError("secret")
        return [p.spec.size]

    store.add_index(Index("size", size))
    store.put(pod("good", size=1))
    (change,) = store.put(pod("evil", 5, owner="u", size=13))
    assert isinstance(change.new, Unreadable) and change.new.problem == "index 'size' failed: KeyError"
    assert names(store.list()) == ["good"] and names(store.unreadable()) == ["evil"]
    assert names(store.unreadable_by_index("owner", "u")) == ["evil"] and store.by_index("owner", "u") == ()
    store.put(pod("evil", 6, owner="u", size=2))
    assert names(store.by_index("owner", "u")) == ["evil"] and store.unreadable() == ()
    store.put(pod("evil", 7, size=13))
    assert store.by_index("size", 2) == () and names(store.unreadable()) == ["evil"]


def test_sto9_a_late_index_quarantines_what_is_stored() -> None:
    store = new_store()
    store.put(pod("a", size=1))
    (change,) = store.add_index(Index("broken", lambda p: 1 / 0))  # type: ignore[arg-type, return-value]
    assert isinstance(change.old, Pod) and isinstance(change.new, Unreadable)
    assert store.get(Key("default", "a")) is None and store.raw(Key("default", "a")) is change.new


# Content.


def test_sto2_a_list_is_a_tuple_of_the_stored_objects() -> None:
    store = new_store()
    one = pod("a")
    store.put(one)
    before = store.list()
    assert isinstance(before, tuple) and before[0] is one and store.list() is before
    store.put(pod("b"))
    assert names(before) == ["a"] and names(store.list()) == ["a", "b"]


def test_sto3_replace_is_one_switch_with_its_version_and_deletions_first() -> None:
    store = new_store()
    fill(store, "5", pod("a", 1), pod("b", 2), pod("c", 3))
    seen: list[Any] = []
    store.on_version("9", lambda: seen.append((store.version, sorted(names(store.list())))))
    changes = fill(store, "9", pod("b", 7), pod("d", 8), pod("c", 3))
    assert seen == [("9", ["b", "c", "d"])], "whoever sees the version sees the objects"
    assert [(c.old and c.old.metadata.name, c.new and c.new.metadata.name) for c in changes] == [
        ("a", None),
        ("b", "b"),
        (None, "d"),
    ]


def test_sto4_an_object_that_a_list_lacks_is_a_tombstone() -> None:
    store = new_store()
    fill(store, "5", pod("a"), bad("b"))
    changes = fill(store, "9")
    assert [(c.key.name, c.new, c.final_state_known) for c in changes] == [("a", None, False), ("b", None, False)]
    fill(store, "10", pod("a", 10))
    (change,) = store.remove(pod("a", 11, size=9))
    assert change.final_state_known and change.old is not None and change.old.spec.size == 9  # type: ignore[union-attr]


def test_sto5_another_uid_is_a_deletion_and_an_addition() -> None:
    store = new_store()
    store.put(pod("a", 1, uid="x"))
    gone, came = store.put(pod("a", 5, uid="y"))
    assert (gone.old.uid, gone.new, came.old, came.new.uid) == ("x", None, None, "y")  # type: ignore[union-attr]
    changes = fill(store, "9", pod("a", 8, uid="z"))
    assert [(c.old and c.old.uid, c.new and c.new.uid) for c in changes] == [("y", None), (None, "z")]


def test_sto5_a_late_deletion_of_an_earlier_incarnation_changes_nothing() -> None:
    store = new_store()
    store.put(pod("a", 5, uid="new"))
    assert store.remove(pod("a", 4, uid="old")) == ()
    assert store.get(Key("default", "a")) is not None
    (change,) = store.remove(pod("a", 9, uid="unseen"))
    assert change.old is not None and change.old.uid == "new" and not change.final_state_known


def test_sto6_an_older_state_is_refused_and_counted() -> None:
    store = new_store()
    store.put(pod("a", 10))
    assert store.put(pod("a", 9)) == () and store.remove(pod("a", 9)) == ()
    assert store.stale == 2
    assert store.put(pod("a", 10)) == () and store.stale == 2, "the same state again is no news"
    assert len(store.put(pod("a", "opaque"))) == 1, "without an order there is no older one"


def test_sto8_nothing_is_evicted_and_the_size_is_visible() -> None:
    store = new_store()
    for i in range(20_000):
        store.put(pod(f"p{i}"))
    assert len(store) == 20_000 and store.estimated_bytes() > 20_000 * 300


@pytest.mark.parametrize("count", [1500, 5000])
def test_cac8_sto8_the_estimate_is_within_ten_percent(count: int) -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        shared = [f"registry.example.com/team/image-{i}:v1.2.3" for i in range(5)]
        labels_of = [{"app.kubernetes.io/name": shared[i], "pod-template-hash": f"hash{i}"} for i in range(5)]
        store = new_store()
        for i in range(count):
            store.put(
                pod(f"web-{i:06}", 10_000 + i, owner=f"{i // 10:036}", labels=labels_of[i % 5], node_name=f"n{i:04}")
            )
        store._snapshot = None
        truth = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert store.estimated_bytes() == pytest.approx(truth, rel=0.10)


def test_sto10_an_unchanged_object_keeps_its_instance_and_makes_no_change() -> None:
    store = new_store()
    one, two = pod("a", 1), pod("b", 2)
    fill(store, "5", one, two)
    staging = store.staging()
    for obj in (pod("a", 1), pod("b", 4)):
        staging.add(obj)
    assert staging.reused == 1 and staging.objects[Key("default", "a")] is one
    changes = store.replace(staging, "9")
    assert [c.key.name for c in changes] == ["b"]
    assert store.get(Key("default", "a")) is one


def test_sto10_replace_of_the_same_list_peaks_far_below_a_second_store() -> None:
    store = new_store()
    count = 4000
    fill(store, "5", *(pod(f"p{i}", 1, node_name=f"node-{i}", owner=f"owner-{i}") for i in range(count)))
    size = store.estimated_bytes()
    tracemalloc.start()
    try:
        staging = store.staging()
        for i in range(count):
            staging.add(pod(f"p{i}", 1, node_name=f"node-{i}", owner=f"owner-{i}"))
        store.replace(staging, "9")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.35 * size, f"{peak} beyond a store of {size}"


def test_cac3_a_list_of_one_scope_leaves_the_others_alone() -> None:
    store = new_store(scopes=("one", "two"))
    fill(store, "5", pod("a", ns="one"), scope="one")
    fill(store, "7", pod("b", ns="two"), scope="two")
    assert names(store.list()) == ["a", "b"] and store.version == "5"
    fill(store, "9", scope="one")
    assert names(store.list()) == ["b"] and store.version == "7"
    with pytest.raises(ResourceNotCached, match="'three' of pods is not watched"):
        store.progress("three")


def test_cac3_a_version_is_awaited_in_its_own_namespace() -> None:
    store = new_store(scopes=("one", "two"))
    seen: list[str] = []
    store.on_version("8", lambda: seen.append("one"), namespace="one")
    store.on_version("8", lambda: seen.append("two"), namespace="two")
    store.advance("9", "one")
    assert seen == ["one"]


# Versions.


def test_sto7_waiters_are_called_once_and_exactly_when_due() -> None:
    progress = Progress(StillClock())
    seen: list[int] = []
    for want in (30, 5, 9, 100, 10):
        progress.on_version(str(want), lambda want=want: seen.append(want))  # type: ignore[misc]
    progress.advance("4")
    assert seen == []
    progress.advance("9")
    assert seen == [5, 9], "decimal order, not that of texts: 10 is still to come"
    progress.advance("8")
    assert progress.version == "9"
    progress.advance("99")
    progress.advance("99")
    assert seen == [5, 9, 10, 30] and progress.waiters == 1


def test_sto7_a_version_that_is_covered_calls_back_at_once() -> None:
    progress = Progress(StillClock())
    progress.advance("9")
    seen: list[int] = []
    progress.on_version("9", lambda: seen.append(1))()
    assert seen == [1] and progress.waiters == 0


def test_sto7_waiters_that_were_called_off_leave_nothing_behind() -> None:
    progress = Progress(StillClock())
    cancels = [progress.on_version(str(i + 1), lambda: None) for i in range(1000)]
    cancels += [progress.on_version(f"opaque{i}", lambda: None) for i in range(10)]
    for cancel in cancels:
        cancel()
        cancel()
    assert progress.waiters == 0 and len(progress._heap) < 40 and not progress._exact


def test_sto7_at_least_waits_and_has_a_deadline() -> None:
    async def main(clock: VirtualClock) -> None:
        store: Store[Pod] = Store(PODS, clock=clock)
        fill(store, "5")
        await store.at_least("5", 1.0)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(store.at_least("8", 10.0))
            await clock.sleep(3)
            assert store.lag() == 3.0
            store.advance("8")
            await waiting
            assert clock.monotonic() == 3.0 and store.lag() == 0.0
        with pytest.raises(TimeoutError, match="pods did not reach version 9 within 10 s; it is at 8"):
            await store.at_least("9", 10.0)
        assert clock.monotonic() == 13.0 and store.waiters == 0

    run_virtual(main)


def test_obj4_a_version_without_an_order_is_awaited_by_equality() -> None:
    progress = Progress(StillClock())
    seen: list[str] = []
    progress.on_version("etag-b", lambda: seen.append("b"))
    progress.on_version("7", lambda: seen.append("7"))
    for version in ("etag-a", "etag-c", "etag-b"):
        progress.advance(version)
    assert seen == ["b"] and progress.version == "etag-b"


def test_con2_gone_means_gone_or_replaced() -> None:
    store = new_store()
    store.put(pod("a", 1, uid="x"))
    store.put(pod("b", 1, uid="y"))
    seen: list[str] = []
    store.on_gone(Key("default", "a"), "x", lambda: seen.append("a"))
    store.on_gone(Key("default", "b"), "y", lambda: seen.append("b"))
    store.on_gone(Key("default", "b"), "other", lambda: seen.append("at once"))
    cancel = store.on_gone(Key("default", "b"), "y", lambda: seen.append("never"))
    store.put(pod("a", 2, uid="x"))
    assert seen == ["at once"] and store.waiters == 3
    cancel()
    store.put(pod("a", 5, uid="z"))
    store.remove(pod("b", 6, uid="y"))
    assert seen == ["at once", "a", "b"] and store.waiters == 0
