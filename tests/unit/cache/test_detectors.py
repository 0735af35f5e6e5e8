"""detector.py, and how a cache runs both detectors: what makes a test fail when a cache is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.runtime.cache.cache import Cache
from kruise.runtime.cache.detector import CacheInconsistent, ListDetector, differences
from kruise.runtime.cache.informer import Scope
from kruise.runtime.cache.mutation import CacheMutated, MutationDetector
from kruise.runtime.client.frames import Codec
from kruise.runtime.clock import Random
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.unit.cache.fake_server import PODS, FakeServer, World, running, until

BOTH = {"KUBE_WATCHLIST_INCONSISTENCY_DETECTOR": "true", "KUBE_LIST_FROM_CACHE_INCONSISTENCY_DETECTOR": "true"}


@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "paging"])
def test_ref22_a_list_that_equals_the_servers_passes(stream: bool) -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.streaming = stream
        w.server.put("a")
        lists = ListDetector.from_environment(BOTH)
        assert lists is not None
        informer = w.informer(lists=lists)
        async with running(informer):
            await informer.synced()
            await until(lambda: lists.compared == 1)
            exact = w.server.verbs("list")[-1]
            assert exact["resource_version"] == informer.store.version and exact["resource_version_match"] == "Exact"

    run_virtual(go)


def test_ref22_a_list_that_differs_fails_the_run() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.put("a")
        w.server.put("b", spec={"size": 1})
        informer = w.informer(lists=ListDetector(streams=True, lists=False))

        async def other(*_: Any, **args: Any) -> Any:
            w.server.objects["default", "b"]["spec"] = {"size": 2, "nodeName": "hidden-value"}
            del w.server.objects["default", "a"]
            return await FakeServer.list_page(w.server, PODS, **{k: v for k, v in args.items() if "version" not in k})

        w.server.list_page = other  # type: ignore[method-assign]
        await informer.run()

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(go)
    (error,) = caught.value.exceptions
    assert isinstance(error, CacheInconsistent)
    assert "default/a: the server lacks it" in str(error) and "differing in spec" in str(error)
    assert "hidden-value" not in str(error)


def test_ref22_a_version_that_is_compacted_cannot_be_compared() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        w.server.put("a")
        lists = ListDetector(streams=True, lists=True)
        informer = w.informer(lists=lists)
        w.server.compacted = 10_000
        async with running(informer):
            await informer.synced()
            await clock.sleep(1)
            assert lists.compared == 0 and w.server.verbs("list")

    run_virtual(go)


def test_ref22_the_environment_decides_and_a_cache_asks_it() -> None:
    assert ListDetector.from_environment({}) is None
    assert MutationDetector.wanted({"KUBE_CACHE_MUTATION_DETECTOR": "true"}) and not MutationDetector.wanted({})

    async def go(clock: VirtualClock) -> None:
        server = FakeServer(clock)
        server.put("a", metadata={"labels": {"app": "x"}})
        cache = Cache(
            server,
            clock=clock,
            rng=Random(1),
            metrics=Metrics(process=False),
            environ={**BOTH, "KUBE_CACHE_MUTATION_DETECTOR": "true"},
        )
        cache.watch(PODS)
        async with running(cache):
            await cache.wait_synced()
            await until(lambda: len(server.verbs("list")) == 1)
            cache.list(PODS)[0].metadata.labels["sneaked"] = "in"
            await clock.sleep(5)

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(go)
    assert caught.group_contains(CacheMutated)


def test_ref22_a_store_at_rest_is_compared_by_uid_and_version() -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock)
        for name in ("a", "b"):
            w.server.put(name)
        informer = w.informer()
        async with running(informer):
            await informer.synced()
            assert await differences(w.server, informer.store, Codec(PODS), Scope()) == []
            w.server.objects["default", "a"]["metadata"]["resourceVersion"] = "7777"
            del w.server.objects["default", "b"]
            found = await differences(w.server, informer.store, Codec(PODS), Scope("default"))
            assert [line.strip().split(":")[0] for line in found] == ["default/b", "default/a"] and "7777" in found[1]

    run_virtual(go)
