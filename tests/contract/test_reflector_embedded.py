"""The cache over the real REST client and the embedded API server: what holds for the parts holds for the whole."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from kruise.runtime.cache.cache import Cache
from kruise.runtime.cache.detector import differences
from kruise.runtime.cache.informer import Scope
from kruise.runtime.client.frames import Codec
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random
from kruise.runtime.errors import Reset
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, Resource
from kruise.runtime.testing import VirtualClock, run_virtual
from kruise.simulator.apiserver import ApiServer
from kruise.simulator.apiserver.intercept import Chunk, Interceptor
from tests.unit.cache.fake_server import running, story, until


class Spec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    node_name: str | None = None


class Pod(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    spec: Spec = Spec()


PODS: Resource[Pod] = Resource("", "v1", "Pod", "pods", Pod)
WIDGETS: Resource[Object] = Resource("example.com", "v1", "Widget", "widgets", Object, custom=True)
CRD = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def body(name: str, namespace: str = "default", **labels: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "labels": labels}
    return {"metadata": meta, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}


class Bench:
    def __init__(self, clock: VirtualClock, *, environ: dict[str, str] | None = None, **options: Any) -> None:
        self.clock = clock
        self.server = ApiServer(clock, Random(1))
        self.metrics = Metrics(process=False)
        self.rest = Rest(self.server.transport("manager"), clock=clock, rng=Random(2), metrics=self.metrics)
        self.cache = Cache(
            self.rest, clock=clock, rng=Random(3), metrics=self.metrics, environ=environ or {}, **options
        )
        self.told: list[Any] = []

    async def truth(self, resource: Resource[Any] = PODS, scope: Scope | None = None) -> list[str]:
        store = self.cache.store(resource)
        await store.at_least(str(self.server.storage.rv), 90.0)
        return await differences(self.rest, store, Codec(resource), scope or Scope())

    def calls(self, verb: str) -> int:
        return sum(1 for call in self.server.log.calls if call.verb == verb and call.actor == "manager")


def bench(main: Callable[[Bench], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def go(clock: VirtualClock) -> None:
        await main(Bench(clock, **options))

    with capture_logs():
        run_virtual(go)


def test_ref1_the_cache_follows_the_server_by_one_streaming_list() -> None:
    async def main(b: Bench) -> None:
        b.server.create("pods", body("a"))
        b.cache.watch(PODS).add_handler(b.told.append)
        async with running(b.cache):
            await b.cache.wait_synced()
            b.server.create("pods", body("b"))
            b.server.patch("pods", "a", {"metadata": {"labels": {"x": "y"}}})
            b.server.delete("pods", "b", gracePeriodSeconds=0)
            assert await b.truth() == []
            assert story(b.told)[:3] == ["+a", "+b", "~a"] and story(b.told)[-1] == "-b"
            assert b.calls("list") == 1, "that of the comparison"

    bench(main)


def test_ref6_ref13_a_compacted_history_is_closed_by_a_list_and_no_deletion_is_lost() -> None:
    async def main(b: Bench) -> None:
        for name in ("a", "b", "c"):
            b.server.create("pods", body(name))
        b.cache.watch(PODS).add_handler(b.told.append)
        cutter = Cutter()
        b.server.faults = cutter
        async with running(b.cache):
            await b.cache.wait_synced()
            await b.clock.sleep(5)
            cutter.silent = True
            b.server.delete("pods", "b", gracePeriodSeconds=0)
            b.server.create("pods", body("d"))
            b.server.storage.compact(b.server.storage.rv)
            await b.clock.sleep(200)
            cutter.silent = False
            await until(lambda: sorted(p.metadata.name for p in b.cache.list(PODS)) == ["a", "c", "d"], timeout=400)
            assert await b.truth() == []
            assert "-b" in story(b.told)

    bench(main)


class Cutter(Interceptor):
    """Loses what watches say, or cuts them after so many lines."""

    def __init__(self, every: int = 0) -> None:
        self.silent = False
        self.every = every
        self.lines = 0

    def chunk(self, call: Any, line: bytes) -> Chunk:
        self.lines += 1
        if self.silent:
            return Chunk()
        if self.every and self.lines % self.every == 0:
            return Chunk(error=Reset("cut"))
        return super().chunk(call, line)


@pytest.mark.parametrize("namespaces", [(), ("default", "kube-system")], ids=["cluster", "namespaces"])
def test_ref1_sto7_churn_with_cut_watches_and_compaction_ends_in_the_truth(namespaces: tuple[str, ...]) -> None:
    async def main(b: Bench) -> None:
        rng = Random(7)
        b.cache.watch(PODS)
        b.server.faults = Cutter(every=9)
        async with running(b.cache):
            await b.cache.wait_synced()
            for round_ in range(300):
                ns = rng.choice(["default", "kube-system", "kube-public"])
                name = f"p{rng.randrange(12)}"
                if b.server.get("pods", name, ns) is None:
                    b.server.create("pods", body(name, ns))
                elif rng.random() < 0.5:
                    b.server.patch("pods", name, {"metadata": {"labels": {"round": str(round_)}}}, ns)
                else:
                    b.server.delete("pods", name, ns, gracePeriodSeconds=0)
                if round_ % 25 == 0:
                    b.server.storage.compact(b.server.storage.rv)
                await b.clock.sleep(rng.random() * 4)
            b.server.faults = Interceptor()
            await b.clock.sleep(70)
            for ns in namespaces or ("",):
                store = b.cache.store(PODS)
                assert await differences(b.rest, store, Codec(PODS), Scope(ns)) == []
            seen = {p.metadata.namespace for p in b.cache.list(PODS)}
            assert seen == (set(namespaces) or {"default", "kube-system", "kube-public"})

    bench(main, namespaces=namespaces)


def test_ref22_the_detectors_find_nothing_in_a_whole_run() -> None:
    async def main(b: Bench) -> None:
        for i in range(30):
            b.server.create("pods", body(f"p{i}"))
        b.cache.watch(PODS)
        async with running(b.cache):
            await b.cache.wait_synced()
            await b.clock.sleep(10)
            assert b.cache._lists is not None and b.cache._lists.compared == 1

    names = (
        "KUBE_WATCHLIST_INCONSISTENCY_DETECTOR",
        "KUBE_LIST_FROM_CACHE_INCONSISTENCY_DETECTOR",
        "KUBE_CACHE_MUTATION_DETECTOR",
    )
    bench(main, environ=dict.fromkeys(names, "true"))


def test_cac5_a_crd_that_is_created_after_the_start_is_found() -> None:
    async def main(b: Bench) -> None:
        b.cache.watch(WIDGETS)
        b.cache.watch(PODS)
        async with running(b.cache):
            await b.cache.wait_synced([PODS], 5.0)
            await b.clock.sleep(60)
            assert b.cache.informer(WIDGETS).missing
            b.server.create("customresourcedefinitions.apiextensions.k8s.io", CRD)
            b.server.create("widgets.example.com", {"metadata": {"name": "w"}})
            await b.cache.wait_synced(timeout=25.0)
            assert [w.metadata.name for w in b.cache.list(WIDGETS)] == ["w"]

    bench(main)


def test_ref19_metadata_alone_comes_over_the_wire() -> None:
    async def main(b: Bench) -> None:
        b.server.create("pods", body("a", app="web"))
        b.cache.watch(PODS.partial(), labels=["app"])
        async with running(b.cache):
            await b.cache.wait_synced()
            b.server.create("pods", body("b", app="web"))
            assert await b.truth(PODS.partial()) == []
            assert len(b.cache.list(PODS.partial(), index=("label", "app=web"))) == 2
            (watch,) = [c for c in b.server.log.calls if c.verb == "watch" and c.actor == "manager"]
            assert "as=PartialObjectMetadata" in watch.headers["accept"]

    bench(main)


def test_ref12_an_idle_cache_learns_by_bookmarks_that_it_is_whole() -> None:
    async def main(b: Bench) -> None:
        b.cache.watch(PODS)
        async with running(b.cache):
            await b.cache.wait_synced()
            b.server.create("configmaps", {"metadata": {"name": "other"}})
            await b.cache.store(PODS).at_least(str(b.server.storage.rv), 90.0)

    bench(main)


def test_g5_an_idle_cache_makes_no_list_and_few_watches_in_an_hour() -> None:
    async def main(b: Bench) -> None:
        b.server.create("pods", body("a"))
        b.cache.watch(PODS)
        async with running(b.cache):
            await b.cache.wait_synced()
            await b.clock.sleep(3600)
            assert b.calls("list") == 0 and 3600 / 600 <= b.calls("watch") <= 3600 / 300 + 1

    bench(main)
