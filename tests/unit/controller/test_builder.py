from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from kruise.runtime.cache.store import Change
from kruise.runtime.controller import Access, Builder, Channel, Done, GenerationChanged, Result
from kruise.runtime.controller.access import merge
from kruise.runtime.errors import ResourceNotCached
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, ObjectMeta, OwnerReference, Resource
from kruise.runtime.testing import VirtualClock, run_virtual

JOBS = Resource("apps.kruise.io", "v1beta1", "BroadcastJob", "broadcastjobs", Object)
PODS = Resource("", "v1", "Pod", "pods", Object)
NODES = Resource("", "v1", "Node", "nodes", Object, namespaced=False)


class FakeRegistration:
    async def synced(self) -> None: ...

    async def remove(self) -> None: ...


class FakeInformer:
    def __init__(self) -> None:
        self.handlers: list[tuple[Any, float | None]] = []

    def add_handler(self, handler: Any, *, resync: float | None = None, name: str = "") -> FakeRegistration:
        self.handlers.append((handler, resync))
        return FakeRegistration()

    def describe(self) -> str:
        return "a fake"

    def tell(self, change: Change[Any]) -> None:
        for handler, _ in self.handlers:
            handler(change)


class FakeStore:
    def raw(self, key: Key) -> Object | None:
        return None


class FakeCache:
    def __init__(self) -> None:
        self.informers: dict[Resource[Any], FakeInformer] = {}
        self.options: dict[Resource[Any], dict[str, Any]] = {}

    def watch(self, resource: Resource[Any], **options: Any) -> FakeInformer:
        self.options[resource] = options
        return self.informers.setdefault(resource, FakeInformer())

    def store(self, resource: Resource[Any]) -> Any:
        if resource not in self.informers:
            raise ResourceNotCached(f"cache.watch({resource.kind}, ...)")
        return FakeStore()


class FakeManager:
    def __init__(self, clock: VirtualClock) -> None:
        self.cache: Any = FakeCache()
        self.clock = clock
        self.rng = random.Random(1)
        self.metrics = Metrics(process=False)


async def done(key: Key) -> Result:
    return Done()


def obj(name: str, namespace: str = "n", version: str = "1", generation: int = 1, owner: str = "") -> Object:
    refs: tuple[OwnerReference, ...] = ()
    if owner:
        refs = (OwnerReference(api_version=JOBS.api_version, kind=JOBS.kind, name=owner, uid="u", controller=True),)
    return Object(
        metadata=ObjectMeta(
            name=name, namespace=namespace, resource_version=version, generation=generation, owner_references=refs
        )
    )


def test_bld1_declares_the_cache_and_the_access_that_it_needs() -> None:
    async def main(clock: VirtualClock) -> None:
        manager = FakeManager(clock)
        controller = (
            Builder(manager, "demo")
            .for_(JOBS)
            .owns(PODS, labels=("job",))
            .watches(NODES, lambda change: [])
            .accesses(
                Access(JOBS, ("patch",), subresource="status"),
                Access(PODS, ("delete", "create")),
                Access(PODS, ("create",)),
            )
            .build(done)
        )
        assert set(manager.cache.informers) == {JOBS, PODS, NODES}
        assert manager.cache.options[PODS] == {"labels": ("job",)}
        assert controller.accesses == (
            Access(NODES, ("get", "list", "watch")),
            Access(PODS, ("get", "list", "watch", "create", "delete")),
            Access(JOBS, ("get", "list", "watch")),
            Access(JOBS, ("patch",), subresource="status"),
        )
        controller.queue.close()

    run_virtual(main)


def test_bld1_every_declaration_wakes_the_right_key() -> None:
    async def main(clock: VirtualClock) -> None:
        manager = FakeManager(clock)
        runs: list[Key] = []
        channel = Channel()

        async def reconcile(key: Key) -> Result:
            runs.append(key)
            return Done()

        controller = (
            Builder(manager, "demo")
            .for_(JOBS, predicates=[GenerationChanged()])
            .owns(PODS)
            .watches(NODES, lambda change: [Key("n", f"job-of-{change.key.name}")])
            .source(channel)
            .build(reconcile, workers=1, resync=3600.0)
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(controller.run())
            await clock.sleep(1)
            informers = manager.cache.informers
            informers[JOBS].tell(Change(None, obj("self")))
            informers[JOBS].tell(Change(obj("other"), obj("other", version="2")))  # its generation is the same
            informers[PODS].tell(Change(None, obj("pod", owner="owner")))
            informers[NODES].tell(Change(None, obj("node-1", namespace="")))
            channel.send(Key("n", "sent"))
            await clock.sleep(1)
            assert [key.name for key in runs] == ["self", "owner", "job-of-node-1", "sent"]
            assert [r for i in (JOBS, PODS, NODES) for _, r in informers[i].handlers] == [3600.0, None, None]
            running.cancel()
        controller.queue.close()

    run_virtual(main)


def test_bld1_every_controller_has_its_gate_and_forgets_deleted_owners() -> None:
    async def main(clock: VirtualClock) -> None:
        manager = FakeManager(clock)
        controller = Builder(manager, "demo").for_(JOBS).build(done)
        tracker = controller.tracker
        assert tracker is not None and controller.queue.gate == tracker.blocked
        assert tracker.on_ready == controller.queue.ungate
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(controller.run())
            await clock.sleep(1)
            forgotten: list[Key] = []
            tracker.forget = forgotten.append  # type: ignore[method-assign]
            manager.cache.informers[JOBS].tell(Change(obj("a"), None))
            assert forgotten == [Key("n", "a")]
            running.cancel()
        controller.queue.close()

    run_virtual(main)


def test_bld1_mistakes_are_refused_when_they_are_made() -> None:
    async def main(clock: VirtualClock) -> None:
        manager = FakeManager(clock)
        with pytest.raises(ValueError, match="nothing wakes it"):
            Builder(manager, "demo").build(done)
        with pytest.raises(ValueError, match="before for_"):
            Builder(manager, "demo").owns(PODS)
        with pytest.raises(ValueError, match=r"already for broadcastjobs\.apps\.kruise\.io"):
            Builder(manager, "demo").for_(JOBS).for_(PODS)

    run_virtual(main)


def test_que14_a_controller_has_the_batch_period_that_it_was_built_with() -> None:
    async def main(clock: VirtualClock) -> None:
        manager = FakeManager(clock)
        for name, period in (("at-once", 0.0), ("batched", 2.0)):
            queue = Builder(manager, name).for_(JOBS).build(done, batch_period=period).queue
            queue.add(Key("n", "a"))
            queue.done((await queue.get()).key)
            began = clock.monotonic()
            queue.add(Key("n", "a"))
            await queue.get()
            assert clock.monotonic() - began == pytest.approx(period)
            queue.close()
        with pytest.raises(ValueError, match="batch_period"):
            Builder(manager, "wrong").for_(JOBS).build(done, batch_period=-1.0)

    run_virtual(main)


def test_ctl6_the_builder_refuses_a_name_that_is_taken() -> None:
    async def main(clock: VirtualClock) -> None:
        manager = FakeManager(clock)
        Builder(manager, "demo").for_(JOBS).build(done)
        with pytest.raises(ValueError, match="demo"):
            Builder(manager, "demo").for_(PODS).build(done)

    run_virtual(main)


def test_bld1_access_has_no_wildcards_and_merges_in_a_fixed_order() -> None:
    with pytest.raises(ValueError, match="verbs"):
        Access(PODS, ("*",))
    with pytest.raises(ValueError, match="verbs"):
        Access(PODS, ())
    with pytest.raises(ValueError, match="resource names"):
        Access(PODS, ("create",), resource_names=("a",))
    named = Access(PODS, ("get",), resource_names=("a",), namespaced_role=True)
    one = merge([named, Access(PODS, ("watch",)), Access(PODS, ("get",)), named])
    assert one == merge(reversed(one))
    assert one == (Access(PODS, ("get", "watch")), named)
