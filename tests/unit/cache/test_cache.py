"""cache.py, gauges.py, status.py, host.py: the declared set of informers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from kruise.runtime.cache.cache import Cache
from kruise.runtime.cache.index import Index
from kruise.runtime.cache.informer import Informer, Scope
from kruise.runtime.clock import Random
from kruise.runtime.errors import ConfigError, ResourceNotCached, SyncTimeout
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, PartialObject, Resource
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.unit.cache.fake_server import NODES, PODS, FakeServer, running, status, story, until


class Servers:
    """Two fake servers behind one REST client: pods and nodes."""

    def __init__(self, clock: VirtualClock) -> None:
        self.pods = FakeServer(clock, PODS)
        self.nodes = FakeServer(clock, NODES)

    def _of(self, resource: Resource[Any]) -> FakeServer:
        return self.pods if resource == PODS else self.nodes

    async def list_page(self, resource: Resource[Any], **args: Any) -> Any:
        return await self._of(resource).list_page(resource, **args)

    async def watch(self, resource: Resource[Any], **args: Any) -> Any:
        return await self._of(resource).watch(resource, **args)

    async def get_path(self, path: str) -> Any:
        return await self.pods.get_path(path)


class Bench:
    def __init__(self, clock: VirtualClock, **options: Any) -> None:
        self.clock = clock
        self.servers = Servers(clock)
        self.metrics = Metrics(process=False)
        self.cache = Cache(self.servers, clock=clock, rng=Random(1), metrics=self.metrics, environ={}, **options)


def bench(main: Callable[[Bench], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def go(clock: VirtualClock) -> None:
        await main(Bench(clock, **options))

    run_virtual(go)


def test_cac1_a_read_of_an_undeclared_type_names_the_missing_line() -> None:
    async def main(b: Bench) -> None:
        for read in (
            lambda: b.cache.get(PODS, Key("a", "b")),
            lambda: b.cache.list(PODS),
            lambda: b.cache.store(PODS),
        ):
            with pytest.raises(
                ResourceNotCached, match=r"pods \(Pod\) is read but not cached: declare it with cache\.watch"
            ):
                read()
        b.cache.watch(PODS.partial())
        with pytest.raises(ResourceNotCached, match="it is cached as PartialObject only"):
            b.cache.store(PODS)
        assert b.servers.pods.calls == [], "a read never starts a watch"

    bench(main)


def test_cac1_declared_types_are_read_by_key_namespace_and_index() -> None:
    async def main(b: Bench) -> None:
        b.servers.pods.put("a", "one", spec={"nodeName": "n1"})
        b.servers.pods.put("b", "two", spec={"nodeName": "n1"})
        b.cache.watch(PODS)
        async with running(b.cache):
            await b.cache.wait_synced()
            found = b.cache.get(PODS, Key("one", "a"))
            assert found is not None and found.metadata.name == "a"
            assert b.cache.get(PODS, Key("one", "b")) is None
            assert len(b.cache.list(PODS)) == 2
            assert [p.metadata.name for p in b.cache.list(PODS, namespace="two")] == ["b"]
            assert [p.metadata.name for p in b.cache.list(PODS, namespace="one", index=("node", "n1"))] == ["a"]
            assert b.cache.store(PODS.partial()) is b.cache.store(PODS), "whole objects have metadata too"

    bench(main)


def test_cac2_conflicting_selectors_are_refused_at_once() -> None:
    async def main(b: Bench) -> None:
        one = b.cache.watch(PODS, label_selector="app=web")
        assert b.cache.watch(PODS, label_selector="app=web") is one
        for other in ({}, {"label_selector": "app=db"}, {"label_selector": "app=web", "field_selector": "x=y"}):
            with pytest.raises(ConfigError, match=r"pods is declared twice .*labels=app=web"):
                b.cache.watch(PODS, **other)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="with a transform"):
            b.cache.watch(PODS, label_selector="app=web", transform=lambda p: p)

    bench(main)


def test_cac2_each_namespace_may_have_its_own_selector() -> None:
    async def main(b: Bench) -> None:
        for ns in ("one", "two", "three"):
            b.servers.pods.put("web", ns, metadata={"labels": {"app": "web"}})
            b.servers.pods.put("db", ns, metadata={"labels": {"app": "db"}})
        b.cache.watch(PODS, scopes=[Scope("one", label_selector="app=web"), Scope("two")])
        async with running(b.cache):
            await b.cache.wait_synced()
            assert sorted(str(p.key) for p in b.cache.list(PODS)) == ["one/web", "two/db", "two/web"]

    bench(main)


@pytest.mark.parametrize(
    ("resource", "scopes", "more"),
    [
        (PODS, [Scope("a"), Scope("a")], {}),
        (PODS, [Scope("a"), Scope("")], {}),
        (NODES, [Scope("a")], {}),
        (PODS, [Scope("a")], {"label_selector": "x=y"}),
    ],
)
def test_cac2_scopes_that_make_no_sense_are_refused(resource: Any, scopes: Any, more: Any) -> None:
    async def main(b: Bench) -> None:
        with pytest.raises(ConfigError):
            b.cache.watch(resource, scopes=scopes, **more)

    bench(main)


def test_cac3_what_a_program_keeps_in_its_own_namespace_is_watched_there_too() -> None:
    async def main(b: Bench) -> None:
        for ns in ("one", "own", "other"):
            b.servers.pods.put("web", ns)
        b.cache.include(PODS, "own")
        b.cache.include(PODS, "own")
        b.cache.include(PODS, "one")
        b.cache.watch(PODS)
        b.cache.include(PODS, "own")
        with pytest.raises(ConfigError, match="include the namespace other before"):
            b.cache.include(PODS, "other")
        async with running(b.cache):
            await b.cache.wait_synced()
            assert sorted(str(p.key) for p in b.cache.list(PODS)) == ["one/web", "own/web"]

    bench(main, namespaces=("one",))


def test_cac3_who_watches_all_namespaces_includes_none() -> None:
    async def main(b: Bench) -> None:
        b.cache.watch(PODS)
        b.cache.include(PODS, "own")
        assert [scope.namespace for scope in b.cache.informer(PODS).scopes] == [""]

    bench(main)


def test_cac3_one_reflector_per_namespace_and_one_store_while_cluster_types_stay_whole() -> None:
    async def main(b: Bench) -> None:
        for ns in ("one", "two", "three"):
            b.servers.pods.put("a", ns)
        b.servers.nodes.put("n1")
        b.cache.watch(PODS)
        b.cache.watch(NODES)
        async with running(b.cache):
            await b.cache.wait_synced()
            assert sorted(c.namespace for c in b.servers.pods.calls) == ["one", "two"]
            assert [c.namespace for c in b.servers.nodes.calls] == [""]
            assert sorted(str(p.key) for p in b.cache.list(PODS)) == ["one/a", "two/a"]
            assert [n.metadata.name for n in b.cache.list(NODES)] == ["n1"]
            b.servers.pods.put("b", "two")
            await until(lambda: len(b.cache.list(PODS)) == 3)
            await b.cache.store(PODS).at_least(str(b.servers.pods.version), 1.0, namespace="two")

    bench(main, namespaces=("one", "two", "one"))


def test_cac4_watches_that_only_map_to_owners_take_metadata_unless_the_type_is_cached() -> None:
    async def main(b: Bench) -> None:
        assert b.cache.watch_metadata(NODES).resource.metadata_only
        full = b.cache.watch(PODS)
        assert b.cache.watch_metadata(PODS) is full

    bench(main)


def test_cac5_a_missing_kind_is_found_by_discovery_while_the_rest_runs() -> None:
    async def main(b: Bench) -> None:
        b.servers.pods.served = False
        b.servers.nodes.put("n1")
        pods = b.cache.watch(PODS)
        nodes = b.cache.watch(NODES)
        async with running(b.cache):
            await b.cache.wait_synced([NODES], 1.0)
            await b.clock.sleep(100)
            assert nodes.has_synced and pods.missing and not pods.has_synced
            assert "could not find the requested resource" in pods.describe().last_error
            tried = len(b.servers.pods.verbs("watch")) + len(b.servers.pods.verbs("list"))
            assert tried == 1, "discovery is asked, not the kind itself"
            assert {c["path"] for c in b.servers.pods.verbs("get")} == {"/api/v1"}
            b.servers.pods.served = True
            b.servers.pods.put("a")
            await b.cache.wait_synced(timeout=25.0)
            assert len(b.cache.list(PODS)) == 1 and not pods.missing

    bench(main)


def test_cac5_a_kind_that_vanishes_and_comes_back_is_watched_again() -> None:
    async def main(b: Bench) -> None:
        b.servers.pods.put("a")
        told: list[Any] = []
        pods = b.cache.watch(PODS)
        pods.add_handler(told.append)
        async with running(b.cache):
            await b.cache.wait_synced()
            await b.clock.sleep(5)
            b.servers.pods.delete("a")
            b.servers.pods.served = False
            b.servers.pods.stream.end()
            await until(lambda: pods.missing)
            b.servers.pods.served = True
            b.servers.pods.put("b")
            await until(lambda: story(told) == ["+a", "-a", "+b"])

    bench(main)


def test_cac5_discovery_that_is_forbidden_does_not_hold_the_watch_back() -> None:
    async def main(b: Bench) -> None:
        b.servers.pods.served = False
        b.servers.pods.always("get", status(403, "Forbidden"))
        b.cache.watch(PODS)
        async with running(b.cache):
            await b.clock.sleep(60)
            b.servers.pods.served = True
            await b.cache.wait_synced(timeout=25.0)

    bench(main)


def test_cac6_the_timeout_names_kind_page_and_last_error_and_nothing_exits() -> None:
    async def main(b: Bench) -> None:
        b.servers.pods.streaming = False
        b.servers.pods.always("list", status(403, "Forbidden", "pods is forbidden"))
        b.cache.watch(PODS)
        b.cache.watch(NODES)
        async with running(b.cache):
            with pytest.raises(
                SyncTimeout, match=r"within 120 s: pods: not synced, Empty, page 0, 0 objects.*pods is forbidden"
            ):
                await b.cache.wait_synced()
            assert b.clock.monotonic() == pytest.approx(120, abs=0.1)
            assert b.cache.informer(NODES).has_synced and not b.cache.has_synced
            b.servers.pods.heal()
            await b.cache.wait_synced([PODS])

    bench(main)


def test_cac7_every_ten_seconds_an_incomplete_informer_says_what_it_does() -> None:
    async def main(b: Bench) -> None:
        b.servers.pods.streaming = False
        b.servers.pods.always("list", status(403, "Forbidden", "no"))
        b.cache.watch(PODS)
        b.cache.watch(NODES)
        with capture_logs() as logs:
            async with running(b.cache):
                await b.clock.sleep(35)
                lines = [x for x in logs if x["event"] == "cache is not complete yet"]
                assert [x["seconds"] for x in lines] == [10.0, 20.0, 30.0]
                assert lines[0]["resource"] == "pods" and lines[0]["phase"] == "Empty" and "no" in lines[0]["error"]
                pods, nodes = b.cache.report()
                assert (pods.resource, pods.synced, nodes.resource, nodes.synced) == ("pods", False, "nodes", True)
                assert str(pods).startswith("pods: not synced, Empty, page 0, 0 objects, 35.0 s; last error: ")
                assert str(nodes) == "nodes: synced, Watching, page 0, 0 objects, 0.0 s"

    bench(main)


def test_cac7_the_report_shows_the_page_that_a_list_has_reached() -> None:
    async def main(b: Bench) -> None:
        b.servers.pods.streaming = "silent"
        for i in range(7):
            b.servers.pods.put(f"p{i}")
        b.cache.watch(PODS)
        async with running(b.cache):
            await until(lambda: b.cache.report()[0].page == 7)
            assert b.cache.report()[0].phase == "Streaming"

    bench(main)


def test_cac8_the_cost_is_logged_once_after_the_first_list() -> None:
    async def main(b: Bench) -> None:
        for i in range(50):
            b.servers.pods.put(f"p{i}")
        informer = b.cache.watch(PODS)
        with capture_logs() as logs:
            async with running(b.cache):
                await b.cache.wait_synced()
                await b.clock.sleep(100)
        (line,) = [x for x in logs if x["event"] == "cache is complete"]
        assert line["objects"] == 50 and line["bytes"] == informer.store_bytes() > 50 * 200
        assert line["bytes_per_object"] == line["bytes"] // 50

    bench(main)


def test_cac9_selectors_and_bookmarks_are_the_servers_business() -> None:
    async def main(b: Bench) -> None:
        b.servers.pods.put("a", metadata={"labels": {"app": "web"}})
        b.servers.pods.put("b")
        b.cache.watch(PODS, label_selector="app=web", field_selector="spec.nodeName=n1")
        async with running(b.cache):
            await b.cache.wait_synced()
            (ask,) = b.servers.pods.verbs("watch")
            assert (
                ask["label_selector"] == "app=web" and ask["field_selector"] == "spec.nodeName=n1" and ask["bookmarks"]
            )
            assert [p.metadata.name for p in b.cache.list(PODS)] == ["a"]

    bench(main)


def test_inf8_one_informer_per_type_and_a_warning_for_a_second_projection() -> None:
    async def main(b: Bench) -> None:
        with capture_logs() as logs:
            one = b.cache.watch(PODS)
            assert b.cache.watch(PODS) is one and logs == []
            two = b.cache.watch(PODS.partial())
        assert two is not one and logs[0]["log_level"] == "warning"
        assert logs[0]["projections"] == ["Pod", "PartialObject"]
        b.servers.pods.put("a")
        async with running(b.cache):
            await b.cache.wait_synced()
            assert type(b.cache.store(PODS.partial()).list()[0]) is PartialObject
            text = generate_latest(b.metrics.registry).decode()
            assert text.count("kruise_informer_objects{") == 1, "one sample for both, or the scrape is refused"
            assert 'kruise_informer_objects{group="",resource="pods",version="v1"} 2.0' in text

    bench(main)


def test_a_declaration_may_come_late_and_bring_indexes() -> None:
    async def main(b: Bench) -> None:
        b.servers.pods.put("a", spec={"size": 7}, metadata={"labels": {"app": "web"}})
        size: Index[Any, int] = Index("size", lambda p: [p.spec.size])
        async with running(b.cache):
            await b.clock.sleep(5)
            b.cache.watch(PODS)
            await b.cache.wait_synced(timeout=1.0)
            for _ in range(2):
                b.cache.watch(PODS, indexes=[size], labels=["app"])
            assert (
                len(b.cache.list(PODS, index=("size", 7))) == len(b.cache.list(PODS, index=("label", "app=web"))) == 1
            )

    bench(main)


def test_inf4_a_released_declaration_stops_its_informer() -> None:
    async def main(b: Bench) -> None:
        informer: Informer[Object] = b.cache.watch(NODES)
        async with running(b.cache):
            await b.cache.wait_synced()
            await b.cache.release(NODES)
            assert not b.servers.nodes.open_streams
            with pytest.raises(ResourceNotCached):
                b.cache.store(NODES)
            again = b.cache.watch(NODES)
            assert again is not informer
            registration = again.add_handler(lambda change: None)
            await b.cache.wait_synced()
            await b.cache.release(NODES)
            assert b.cache.watch(NODES) is again, "declared once more before it stopped"
            await b.cache.release(NODES)
            assert b.servers.nodes.open_streams
            await registration.remove()
            await until(lambda: b.cache.report() == [])
            assert not b.servers.nodes.open_streams
            with pytest.raises(ResourceNotCached):
                b.cache.store(NODES)

    bench(main)


def test_the_gauges_of_appendix_a_are_asked_at_scrape_time() -> None:
    async def main(b: Bench) -> None:
        b.servers.pods.put("a")
        b.cache.watch(PODS)

        def value(name: str) -> float | None:
            labels = {"group": "", "version": "v1", "resource": "pods"}
            return b.metrics.registry.get_sample_value(f"kruise_informer_{name}", labels)

        async with running(b.cache):
            await b.cache.wait_synced()
            b.cache.store(PODS).on_version("999999", lambda: None)
            await b.clock.sleep(12)
            assert value("objects") == 1 and value("pending_keys") == 0
            assert value("last_event_age_seconds") == 12 and value("resource_version_lag_seconds") == 12
            assert (value("store_bytes") or 0) > 300
        await b.clock.sleep(0)
        assert value("objects") is None

    bench(main)


def test_a_cache_runs_once_at_a_time() -> None:
    async def main(b: Bench) -> None:
        async with running(b.cache):
            await b.clock.sleep(0)
            with pytest.raises(RuntimeError, match="runs already"):
                await b.cache.run()

    bench(main)


def test_options_out_of_range_are_refused() -> None:
    async def main(b: Bench) -> None:
        for options in ({"watch_timeout": (0, 5)}, {"relist_limit": 0}):
            with pytest.raises(ConfigError):
                Bench(b.clock, **options)
        assert isinstance(asyncio.get_running_loop(), asyncio.AbstractEventLoop)

    bench(main)
