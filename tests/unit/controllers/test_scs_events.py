"""The shell of SidecarSets: what it keeps between passes, and which events begin one."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from kruise.apis.core import NAMESPACES, PODS, Pod
from kruise.apis.sidecarset import SIDECARSETS
from kruise.runtime.cache.store import Change
from kruise.runtime.client.client import Client
from kruise.runtime.controller import Done
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from tests.simulation.sidecar_objects import SETS, V1, V2, V3, WEB
from tests.unit.controllers.scs_bench import PATCH, Bench, bench

# ---- the view --------------------------------------------------------------------------------------------------------


def test_con3_when_the_cache_lags_everything_is_read_live() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(2)
        b.set_image(V2)
        mark = b.mark()
        await b.once(live=True, sync=False)
        assert sum(V2 in b.images(n) for n in (0, 1)) == 1, "decided on the live set"
        read = {(call.verb, call.resource) for call in b.reads(mark)}
        assert read == {("get", SETS), ("list", "pods"), ("list", "controllerrevisions.apps")}
        mark = b.mark()
        await b.once(live=True, sync=False)
        assert PATCH not in b.counts(mark), "although the stores never showed the upgrade"

    bench(scenario)


def test_con3_a_set_that_is_another_one_by_now_is_left_to_its_own_event() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.server.delete(SIDECARSETS, "mesh", actor="user")
        mark = b.mark()
        assert await b.once(live=True, sync=False) == Done()
        b.create(image=V2)
        assert await b.once(live=True, sync=False) == Done()
        assert b.counts(mark) == {}

    bench(scenario)


def test_perf44_the_self_check_finds_and_mends_a_view_that_is_wrong() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(3)
        view = b.reconciler._kept[b.stores.sets.list()[0].uid].memory.view
        assert view is not None
        view.set_pod(b.stores.pods.list()[0].key, None)  # a bug, as it were
        await b.clock.sleep(30)
        await b.once()
        assert b.differences() == 1
        assert b.numbers()[0] == 3
        await b.clock.sleep(30)
        await b.once()
        assert b.differences() == 1

    bench(scenario, check_every=20.0)


def test_perf44_a_pass_without_news_judges_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(5)
        monkeypatch.setattr("kruise.controllers.sidecarset.view.judge", None)
        mark = b.mark()
        for _ in range(3):
            assert await b.once() == Done()
        b.server.patch(PODS, "shop-0", {"metadata": {"labels": {"app": "shop"}}}, actor="user")
        assert b.mark() == mark + 1

    bench(scenario)


def test_g8_a_view_that_broke_off_halfway_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(3)

        def broken(*_: Any) -> Any:
            raise ArithmeticError("a bug, as it were")

        with monkeypatch.context() as patched:
            patched.setattr("kruise.controllers.sidecarset.view.judge", broken)
            b.create_pods(3)
            with pytest.raises(ArithmeticError):
                b.news()
            with pytest.raises(ArithmeticError):
                await b.once()
        await b.once()
        await b.clock.sleep(1)
        await b.once()
        assert b.numbers() == (4, 4, 4, 4)

    bench(scenario)


# ---- which events matter ---------------------------------------------------------------------------------------------


def test_an_event_calls_the_sets_for_which_something_follows_and_no_other() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(2)
        b.create("other", selector={"matchLabels": {"app": "other"}})
        await b.once("other")
        assert b.news() == []
        b.server.patch(PODS, "shop-0", {"metadata": {"annotations": {"mine": "1"}}}, actor="user")
        assert b.news() == [], "nothing that a set looks at"
        b.run_pods(0, ready=False)
        assert b.news() == ["mesh"]
        b.server.patch(PODS, "shop-0", {"metadata": {"labels": {"app": "other"}}}, actor="user")
        assert sorted(b.news()) == ["mesh", "other"], (
            "the one that it leaves, and the one that it joins without sidecars"
        )
        b.server.delete(PODS, "shop-1", actor="user", gracePeriodSeconds=0)
        assert b.news() == ["mesh"]

    bench(scenario)


def test_during_a_pass_every_event_calls_for_another_one() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.set_image(V2)
        called: list[list[str]] = []

        class Meanwhile(Interceptor):
            async def request(self, call: Call, proceed: Proceed) -> Answer:
                if call.actor == "manager" and call.resource == "pods" and not called:
                    called.append([])
                    b.server.patch(PODS, "shop-0", {"metadata": {"annotations": {"mine": "1"}}}, actor="user")
                    called.append(b.news())
                return await proceed()

        b.server.faults = Meanwhile()
        await b.once()
        assert called == [[], ["mesh"]]
        await b.once()
        assert V2 in b.images(0)

    bench(scenario)


def test_a_namespace_calls_the_sets_whose_pods_it_moves() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1, namespaceSelector={"matchLabels": {"mesh": "on"}})
        b.create("all")
        await b.once("all")
        assert b.numbers()[0] == 0
        b.server.patch(NAMESPACES, "default", {"metadata": {"labels": {"mesh": "on"}}}, actor="user")
        (change,) = [c for c in b.sync() if c.key.name == "default"]
        assert list(b.reconciler.sets_of_namespace(change)) == [Key("", "mesh")]
        await b.once()
        await b.clock.sleep(1)
        await b.once()
        assert b.condition("Injected")["status"] == "False", "it has been there without the sidecars"
        b.server.patch(NAMESPACES, "default", {"metadata": {"annotations": {"a": "b"}}}, actor="user")
        (change,) = [c for c in b.sync() if c.key.name == "default"]
        assert list(b.reconciler.sets_of_namespace(change)) == []

    bench(scenario)


def test_a_standby_keeps_nothing_of_what_it_does_not_reconcile() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        b.create_pods(0, 1)
        assert sorted(b.news()) == ["mesh", "mesh"], "in its queue the key is one"
        assert b.reconciler.kept() == 0
        (space, *_) = b.stores.namespaces.list()
        assert list(b.reconciler.sets_of_namespace(Change(space, space))) == []

    bench(scenario)


def test_one_walk_finds_the_pods_of_all_sets_and_lets_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(b: Bench) -> None:
        monkeypatch.setattr("kruise.controllers.sidecarset.observe.WALK_STEP", 2)
        for name in ("one", "two"):
            b.create(name)
        b.create_pods(*range(7))
        b.sync()
        observer = b.reconciler.observer
        walks: list[int] = []
        walk = observer._walk

        async def counted(names: Any) -> Any:
            walks.append(len(names))
            return await walk(names)

        monkeypatch.setattr(observer, "_walk", counted)
        turns: list[float] = []

        class Slow:
            async def sleep(self, seconds: float) -> None:
                turns.append(seconds)
                if len(turns) == 1:  # while others work, a pod comes and one goes
                    b.create_pods(7)
                    b.server.delete(PODS, "shop-0", actor="user", gracePeriodSeconds=0)
                    b.sync()

        monkeypatch.setattr(observer, "_clock", Slow())
        await b.once("one", sync=False)
        await b.once("two", sync=False)
        assert walks == [2]
        assert turns == [0, 0, 0]
        assert b.numbers("one")[0] == b.numbers("two")[0] == 7

    bench(scenario)


def test_a_set_whose_selector_changes_while_it_is_looked_at_is_looked_at_again() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(2)
        b.edit(lambda body: body["spec"].update(selector={"matchLabels": {"app": "none"}}))
        await b.once()
        await b.clock.sleep(1)
        await b.once()
        assert b.numbers()[0] == 0
        b.edit(lambda body: body["spec"].update(selector={"matchLabels": {"app": "shop"}}))
        await b.once()
        await b.clock.sleep(1)
        await b.once()
        assert b.numbers()[0] == 2
        assert b.images(0)[-1] in (WEB, V1)

    bench(scenario)


def test_x28_the_same_state_is_never_written_twice() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(3)
        mark = b.mark()
        for _ in range(5):
            b.run_pods(0, 1, 2)
            await b.clock.sleep(1)
            await b.once()
        assert b.counts(mark) == {}
        b.begin()
        await b.once()
        assert b.counts(mark) == {}, "nor by the next process"

    bench(scenario)


def test_every_write_of_a_pod_names_uid_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The write guard of the bench looks at each; here the patches are read."""

    async def scenario(b: Bench) -> None:
        await b.begun(1)
        seen: list[dict[str, Any]] = []
        patch = Client.patch

        async def spy(self: Client, resource: Any, obj: Any, body: Any, **options: Any) -> Any:
            seen.append({"body": body, **options})
            return await patch(self, resource, obj, body, **options)

        monkeypatch.setattr(Client, "patch", spy)
        b.set_image(V3)
        await b.once()
        upgrade, condition = (one for one in seen if "version" in one)
        assert set(upgrade["body"]) == {"metadata", "spec"}
        assert upgrade["body"]["spec"] == {"containers": [{"name": "mesh-proxy", "image": V3}]}, "C1"
        assert upgrade["version"] == ""
        assert condition["version"].isdigit()
        assert list(condition["body"]) == ["status"]

    bench(scenario)


def test_perf44_an_event_of_a_foreign_pod_costs_the_same_with_one_set_and_with_a_hundred() -> None:
    def steps(sets: int) -> int:
        found: list[int] = []

        async def scenario(b: Bench) -> None:
            for number in range(sets):
                b.create(f"set-{number}", selector={"matchLabels": {"app": f"app-{number}"}})
                await b.once(f"set-{number}")
            b.create_pods(0, labels={"app": "foreign"})
            (pod,) = [change.new for change in b.sync() if change.key.namespace]
            assert isinstance(pod, Pod)
            observer = b.reconciler.observer
            count = 0

            def tick(_: Any, event: str, __: Any) -> None:
                nonlocal count
                count += event in ("call", "c_call")

            sys.setprofile(tick)
            try:
                observer._pod_changed(pod, pod)
                b.reconciler.sets_of_pod(Change(pod, pod))
            finally:
                sys.setprofile(None)
            found.append(count)

        bench(scenario)
        return found[0]

    assert steps(1) == steps(100) < 20
