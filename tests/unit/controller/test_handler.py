from __future__ import annotations

import random
from typing import Any

import pytest

from kruise.runtime.cache.store import Change
from kruise.runtime.controller import LOW, EnqueueMapped, EnqueueOwner, EnqueueSelf, Queue, default_limiter
from kruise.runtime.controller.handler import priority_of
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, ObjectMeta, OwnerReference, PartialObject, Resource, Unreadable

JOBS = Resource("apps.kruise.io", "v1beta1", "BroadcastJob", "broadcastjobs", Object)
NODES = Resource("", "v1", "Node", "nodes", Object, namespaced=False)


class Frozen:
    def monotonic(self) -> float:
        return 0.0


def queue() -> Queue:
    clock: Any = Frozen()
    return Queue("demo", clock=clock, metrics=Metrics(process=False), limiter=default_limiter(random.Random(1)))


def content(q: Queue) -> dict[Key, int]:
    return {info.key: info.priority for info in q.dump()}


def ref(
    name: str, uid: str = "u", *, kind: str = "BroadcastJob", version: str = "apps.kruise.io/v1alpha1", ctl: bool = True
) -> OwnerReference:
    return OwnerReference(api_version=version, kind=kind, name=name, uid=uid, controller=ctl)


def pod(*owners: OwnerReference, version: str = "1", **meta: Any) -> Object:
    return Object(
        metadata=ObjectMeta(name="p", namespace="n", resource_version=version, owner_references=owners, **meta)
    )


@pytest.mark.parametrize(
    ("change", "want"),
    [
        (Change(None, pod()), 0),
        (Change(pod(), None), 0),
        (Change(pod(), pod(version="2")), 0),
        (Change(None, pod(), initial=True), LOW),
        (Change(pod(), pod()), LOW),
        (Change(pod(), pod(), resync=True), LOW),
    ],
)
def test_han3_first_lists_resyncs_and_same_versions_are_low_priority(change: Change[Object], want: int) -> None:
    assert priority_of(change) == want
    q = queue()
    EnqueueSelf()(change, q)
    assert content(q) == {Key("n", "p"): want}


def test_han1_wakes_the_owner_across_versions_of_its_group() -> None:
    q = queue()
    EnqueueOwner(JOBS)(Change(None, pod(ref("a"))), q)
    assert content(q) == {Key("n", "a"): 0}


def test_han1_an_owner_change_wakes_old_and_new() -> None:
    q = queue()
    EnqueueOwner(JOBS)(Change(pod(ref("a")), pod(ref("b"), version="2")), q)
    assert content(q) == {Key("n", "a"): 0, Key("n", "b"): 0}


def test_han1_release_and_deletion_wake_the_old_owner() -> None:
    q = queue()
    EnqueueOwner(JOBS)(Change(pod(ref("a")), pod(version="2")), q)
    EnqueueOwner(JOBS)(Change(pod(ref("b")), None), q)
    assert content(q) == {Key("n", "a"): 0, Key("n", "b"): 0}


def test_han1_other_kinds_groups_and_plain_owners_do_not_count() -> None:
    q = queue()
    handler = EnqueueOwner(JOBS)
    handler(Change(None, pod(ref("a", kind="Job"))), q)
    handler(Change(None, pod(ref("a", version="batch/v1"))), q)
    handler(Change(None, pod(ref("a", ctl=False))), q)
    assert content(q) == {}
    EnqueueOwner(JOBS, controller_only=False)(Change(None, pod(ref("a", ctl=False), ref("b"))), q)
    assert set(content(q)) == {Key("n", "a"), Key("n", "b")}


def test_han1_a_cluster_scoped_owner_has_no_namespace() -> None:
    q = queue()
    EnqueueOwner(NODES)(Change(None, pod(ref("node-1", kind="Node", version="v1"))), q)
    assert set(content(q)) == {Key("", "node-1")}


def test_han1_unreadable_children_still_wake_their_owner() -> None:
    broken = Unreadable(metadata=pod(ref("a")).metadata, problem="Expected `int`")
    q = queue()
    EnqueueOwner(JOBS)(Change(pod(ref("b")), broken), q)
    assert set(content(q)) == {Key("n", "a"), Key("n", "b")}


def test_han1_a_child_of_an_earlier_incarnation_wakes_the_present_one_with_low_priority() -> None:
    present = PartialObject(metadata=ObjectMeta(name="a", namespace="n", uid="new"))
    handler = EnqueueOwner(JOBS, holder=lambda key: present if key == Key("n", "a") else None)
    q = queue()
    handler(Change(pod(ref("a", "old")), None), q)
    handler(Change(pod(ref("b", "old")), None), q)
    assert content(q) == {Key("n", "a"): LOW, Key("n", "b"): 0}
    handler(Change(pod(ref("a", "old")), pod(ref("a", "new"), version="2")), q)
    assert content(q)[Key("n", "a")] == 0


def test_han2_keys_of_one_change_are_deduplicated_and_old_and_new_are_seen() -> None:
    seen: list[Change[Any]] = []

    def mapper(change: Change[Any]) -> list[Key]:
        seen.append(change)
        return [Key("n", "a"), Key("n", "a"), Key("n", "b")]

    q = queue()
    change = Change(pod(), pod(version="2"))
    EnqueueMapped(mapper)(change, q)
    EnqueueMapped(mapper)(Change(None, pod(), initial=True), q)
    assert seen[0] is change and len(seen) == 2, "called once per change"
    assert content(q) == {Key("n", "a"): 0, Key("n", "b"): 0}
    assert q.stats().adds == 2


@pytest.mark.parametrize(
    ("change", "reset"),
    [
        (Change(None, pod()), False),
        (Change(pod(uid="u", generation=1), pod(uid="u", generation=1, version="2")), False),
        (Change(pod(uid="u", generation=1), pod(uid="u", generation=2)), True),
        (Change(pod(uid="u"), pod(uid="u", deletion_timestamp="2026-01-01T00:00:00Z")), True),
        (Change(pod(uid="u"), pod(uid="v")), True),
        (Change(pod(uid="u"), None), True),
    ],
)
def test_que4_spec_change_deletion_and_recreation_reset_the_backoff(change: Change[Object], reset: bool) -> None:
    q = queue()
    seen: list[Key] = []
    q.on_reset = seen.append
    EnqueueSelf()(change, q)
    assert bool(seen) is reset
    assert len(q) == 1


def test_que4_a_deleted_or_replaced_object_is_reported_gone() -> None:
    gone: list[Key] = []
    handler = EnqueueSelf(gone=gone.append)
    handler(Change(pod(uid="u"), pod(uid="u", version="2")), queue())
    assert gone == []
    handler(Change(pod(uid="u"), None), queue())
    handler(Change(pod(uid="u"), pod(uid="v")), queue())
    assert gone == [Key("n", "p")] * 2
