"""The shell around the planner of SidecarSets: what is written when, how errors are told, and which events matter."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.apis.core import NAMESPACES, PODS, REVISIONS
from kruise.apis.sidecarset import SIDECARSETS
from kruise.runtime.cache.store import Change
from kruise.runtime.client.client import Client
from kruise.runtime.controller import After, Done
from kruise.runtime.errors import Conflict, Forbidden, TerminalError, UnknownOutcome
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from tests.simulation.sidecar_objects import OWN, SETS, V1, V2, V3, WEB
from tests.unit.controllers.scs_bench import MARK, PATCH, REVISION, STATUS, Bench, bench


def of_pod(*numbers: int, subresource: str | None = None) -> Any:
    """Tell whether a call writes to one of the pods."""
    names = {f"shop-{number}" for number in numbers}

    def when(call: Call) -> bool:
        mine = call.verb == "patch" and call.resource == "pods" and call.name in names
        return mine and subresource in (None, call.subresource)

    return when


# ---- status writes ---------------------------------------------------------------------------------------------------


def test_the_first_and_the_last_status_are_written_at_once_and_what_is_equal_never() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        assert await b.once() == Done()
        assert b.counts() == {REVISION: 1, STATUS: 1}
        mark = b.mark()
        assert await b.once() == Done()
        assert b.mark() == mark, "nothing is read and nothing is written"

    bench(scenario)


def test_perf46_a_trailing_status_is_never_lost_and_its_window_is_not_moved() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(4)
        mark = b.mark()
        b.create_pods(4)
        result = await b.once()
        assert isinstance(result, After)
        assert result.seconds == pytest.approx(0.5)
        await b.clock.sleep(0.3)
        b.create_pods(5)
        result = await b.once()
        assert isinstance(result, After)
        assert result.seconds == pytest.approx(0.2)
        assert b.counts(mark) == {}
        await b.clock.sleep(result.seconds)
        await b.once()
        assert b.counts(mark) == {STATUS: 1}
        assert b.numbers() == (6, 6, 6, 6)

    bench(scenario)


def test_g7_after_a_conflict_the_new_status_does_not_wait() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(3)
        b.create_pods(3)
        await b.once()
        await b.clock.sleep(1)
        b.faults.refuse(409, lambda call: call.subresource == "status" and call.resource == SETS)
        with pytest.raises(Conflict):
            await b.once()
        b.faults.rules.clear()
        b.create_pods(4)
        await b.once()
        assert b.numbers()[0] == 5, "computed again, and written at once"

    bench(scenario)


def test_a_pod_on_its_way_is_told_with_what_stands_in_its_way() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(2)
        b.set_image(V2)
        await b.once()
        b.run_pods(0, 1, ready=False)
        await b.clock.sleep(1)
        await b.once()
        await b.clock.sleep(1)
        waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}

        def stuck(body: dict[str, Any]) -> None:
            for status in body["status"]["containerStatuses"]:
                if status["name"] == "mesh-proxy":
                    status.update(waiting)

        busy = next(n for n in (0, 1) if V2 in b.images(n))
        b.server.edit(PODS, f"shop-{busy}", stuck, subresource="status", actor="kubelet")
        assert b.news() == ["mesh"], "no count changes, but what is told of it does"
        await b.once()
        assert b.condition("Progressing")["reason"] == "ImagePullFailed"

    bench(scenario)


# ---- errors of single pods -------------------------------------------------------------------------------------------


def test_rule30_what_fails_for_one_pod_is_raised_once_and_the_next_one_takes_its_turn() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(3, strategy={"maxUnavailable": 1})
        b.set_image(V2)
        b.faults.refuse(403, of_pod(0, 1, 2))
        with pytest.raises(Forbidden):
            await b.once()
        (first,) = {call.name for call in b.faults.hits}
        refused = int(first[-1])
        b.faults.rules[:] = [(of_pod(refused), 403, False)]
        await b.once()
        assert sum(V2 in b.images(n) for n in range(3)) == 1, "another one, within the budget (C5)"
        for _ in range(10):
            b.run_pods(*(n for n in range(3) if V2 in b.images(n)))
            await b.tried()
        assert b.numbers() == (3, 2, 3, 2), "one pod stops no other"
        tries = len(b.faults.hits)
        await b.clock.sleep(0.5)
        assert 5 < tries < 12, "each pause is twice the one before"
        b.faults.rules.clear()
        for _ in range(8):
            await b.tried()
            b.run_pods(refused)
        assert b.numbers() == (3, 3, 3, 3)
        assert len(b.reconciler._kept[b.stores.sets.list()[0].uid].holds) == 0

    bench(scenario)


def test_the_refusal_of_the_last_pod_is_the_reason_of_the_condition() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.set_image(V2)
        b.faults.refuse(403, of_pod(0))
        for _ in range(6):
            await b.tried()
        condition = b.condition("Progressing")
        assert (condition["status"], condition["reason"]) == ("False", "AdmissionDenied"), condition
        assert "pod default/shop-0" in condition["message"]

    bench(scenario)


@pytest.mark.parametrize("applied", [False, True])
def test_x3_an_upgrade_of_unknown_outcome_uses_the_budget_until_it_is_known(applied: bool) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(3)
        b.set_image(V2)
        b.faults.lose(of_pod(0, 1, 2), applied=applied)
        with pytest.raises(UnknownOutcome):
            await b.once()
        (lost,) = {int(call.name[-1]) for call in b.faults.hits}
        b.faults.rules.clear()
        result = await b.once(pods=False)  # the cache shows nothing of it yet
        assert isinstance(result, After)
        assert sum(V2 in b.images(n) for n in range(3)) == applied
        await b.clock.sleep(result.seconds)
        await b.once()
        assert [n for n in range(3) if V2 in b.images(n)] == [lost], "the very same pod, and no second one"
        b.run_pods(lost)
        await b.clock.sleep(70)
        await b.once()
        assert sum(V2 in b.images(n) for n in range(3)) == 2, "the budget is free again"

    bench(scenario)


def test_a_stale_decision_is_no_failure_and_the_next_news_of_its_pod_begins_a_pass() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.set_image(V2)
        b.sync()
        b.server.patch(PODS, "shop-0", {"metadata": {"annotations": {"mine": "1"}}}, actor="user")
        await b.once(sync=False)
        assert b.counts()[f"{PATCH} 409"] == 1
        assert V2 not in b.images(0)
        assert b.events.seen == []
        assert b.news() == ["mesh"], "although nothing that a set looks at has changed"
        await b.once()
        assert V2 in b.images(0)
        b.run_pods(0)
        await b.once()
        b.server.patch(PODS, "shop-0", {"metadata": {"annotations": {"mine": "2"}}}, actor="user")
        assert b.news() == [], "nobody waits for it any more"

    bench(scenario)


def test_x32_a_pod_that_is_gone_when_it_is_upgraded_is_no_failure() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(2)
        b.set_image(V2)
        b.sync()
        b.server.delete(PODS, "shop-0", actor="user", gracePeriodSeconds=0)
        b.server.delete(PODS, "shop-1", actor="user", gracePeriodSeconds=0)
        await b.once(sync=False)
        assert b.counts()[f"{PATCH} 404"] == 1
        assert b.news() == ["mesh"]
        await b.clock.sleep(1)
        await b.once()
        assert b.numbers() == (0, 0, 0, 0)

    bench(scenario)


def test_rule4_the_condition_goes_to_the_version_that_the_upgrade_made() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.set_image(V2)

        class Between(Interceptor):
            """The kubelet writes between our two writes."""

            async def request(self, call: Call, proceed: Proceed) -> Answer:
                answer = await proceed()
                if call.actor == "manager" and call.resource == "pods" and not call.subresource:
                    b.run_pods(0)
                return answer

        b.server.faults = Between()
        await b.once()
        counts = b.counts()
        assert (counts[PATCH], counts[f"{MARK} 409"]) == (1, 1), "never read again in between, never forced"
        assert b.news() == ["mesh"]
        b.server.faults = Interceptor()
        await b.once()
        assert b.counts()[MARK] == 1, "the next pass makes up for it"
        mark = b.mark()
        await b.once()
        assert MARK not in b.counts(mark)

    bench(scenario)


def test_what_fails_at_the_end_of_a_hot_upgrade_is_told_on_the_pod() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1, hot=True)
        b.set_image(V2)
        await b.once()
        b.run_pods(0)
        b.faults.refuse(403, of_pod(0))
        with pytest.raises(Forbidden):
            await b.once()
        assert [(name, kind, reason) for name, kind, reason, _ in b.events.seen] == [
            ("shop-0", "Warning", "ResetContainerFailed")
        ]
        b.faults.rules.clear()
        await b.clock.sleep(1)
        await b.once()
        assert b.events.seen[-1][:3] == ("shop-0", "Normal", "ResetContainerSucceed")

    bench(scenario)


# ---- rights ----------------------------------------------------------------------------------------------------------


def test_without_the_right_to_revisions_nothing_is_done_and_the_error_says_why() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        b.faults.refuse(403, lambda call: call.resource == str(REVISIONS))
        for _ in range(2):
            with pytest.raises(Forbidden):
                await b.once()
        assert b.counts() == {f"{REVISION} 403": 2}
        b.faults.rules.clear()
        await b.once()
        assert b.counts()[STATUS] == 1

    bench(scenario)


def test_without_the_right_to_the_status_pods_are_upgraded_all_the_same() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.faults.refuse(403, lambda call: call.resource == SETS)
        b.set_image(V2)
        with pytest.raises(Forbidden):
            await b.once()
        assert V2 in b.images(0)

    bench(scenario)


def test_history_that_cannot_be_deleted_stops_nothing() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(0, revisionHistoryLimit=1)
        b.faults.refuse(403, lambda call: call.verb == "delete")
        b.set_image(V2)
        with pytest.raises(Forbidden):
            await b.once()
        assert b.status()["observedGeneration"] == 2, "the pass came to its end first"
        b.faults.rules.clear()
        await b.once()
        assert len(b.server.list(REVISIONS, OWN)) == 1

    bench(scenario)


# ---- input that nobody expects ---------------------------------------------------------------------------------------


def test_g8_a_set_that_cannot_be_read_is_told_once_and_stops_no_other() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        b.create("bad")
        b.server.edit(SIDECARSETS, "bad", lambda body: body["spec"].update(updateStrategy="soon"), actor="user")
        b.create_pods(0)
        for _ in range(3):
            assert await b.once("bad") == Done()
            await b.once()
        assert [(name, reason) for name, _, reason, _ in b.events.seen] == [("bad", "InvalidSpec")]
        assert "updateStrategy" in b.events.seen[0][3]
        assert b.status("bad") == {}
        await b.clock.sleep(1)
        await b.once()
        assert b.numbers()[0] == 1
        b.server.delete(SIDECARSETS, "bad", actor="user")
        await b.once("bad")
        assert b.reconciler.kept() == 1

    bench(scenario)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}}, "spec.selector"),
        ({"containers": {"name": "no list"}}, "spec.containers"),
        ({"containers": [{"name": 7}]}, "spec.containers"),
        ({"initContainers": "none"}, "spec.initContainers"),
    ],
)
def test_x29_a_spec_that_cannot_be_used_is_named_once_and_changes_no_pod(spec: dict[str, Any], field: str) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        mark = b.mark()
        b.server.edit(SIDECARSETS, "mesh", lambda body: body["spec"].update(spec), actor="user")
        with pytest.raises(TerminalError, match=field):
            await b.once()
        assert await b.once() == Done(), "counted once"
        assert b.counts(mark) == {STATUS: 1}
        condition = b.condition("Progressing")
        assert (condition["status"], condition["reason"]) == ("False", "InvalidSpec")
        assert condition["message"].startswith(field)
        assert [reason for _, _, reason, _ in b.events.seen] == ["InvalidSpec"]
        b.edit(lambda body: body.update(spec={**body["spec"], **_good()}))
        await b.once()
        await b.clock.sleep(1)
        await b.once()
        assert b.numbers()[0] == 1
        assert b.condition("Progressing")["reason"] != "InvalidSpec"

    bench(scenario)


def _good() -> dict[str, Any]:
    containers = [{"name": "mesh-proxy", "image": V1}]
    return {"selector": {"matchLabels": {"app": "shop"}}, "containers": containers, "initContainers": None}


@pytest.mark.parametrize("volumes", [[7], {"a": 1}, "x", [None], [[]]])
def test_x13_volumes_of_any_shape_end_no_pass_in_an_exception_of_ours(volumes: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.server.edit(SIDECARSETS, "mesh", lambda body: body["spec"].update(volumes=volumes), actor="user")
        await b.once()
        assert b.status()["observedGeneration"] == 2

    bench(scenario)


def test_a_pod_that_cannot_be_read_is_counted_told_once_and_never_upgraded() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(2)
        b.spoiled.add("shop-0")
        b.server.patch(PODS, "shop-0", {"metadata": {"annotations": {"odd": "1"}}}, actor="user")
        b.set_image(V2)
        for _ in range(4):
            await b.clock.sleep(1)
            await b.once()
            b.run_pods(1)
        assert b.numbers() == (2, 1, 1, 1)
        assert V2 in b.images(1)
        assert b.events.reasons() == ["PodUnreadable"]
        assert "default/shop-0" in b.events.seen[0][3]
        assert b.condition("Progressing")["reason"] == "PodUnreadable"
        # A manager that begins now does not tell it again.
        b.begin()
        await b.once()
        assert b.events.seen == []

    bench(scenario)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mesh": 7}', "\x00", "9" * 400])
def test_g8_annotations_of_any_shape_end_no_pass(text: str) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(2, hot=True)
        keys = [key for key in b.pod(0)["metadata"]["annotations"] if "kruise.io" in key and "injected-list" not in key]

        def spoil(body: dict[str, Any]) -> None:
            body["metadata"]["annotations"].update(dict.fromkeys(keys, text))

        b.server.edit(PODS, "shop-0", spoil, actor="user")
        b.set_image(V2)
        for _ in range(4):
            await b.clock.sleep(1)
            await b.once()
            b.run_pods(0, 1)
        assert V2 in b.images(1)

    bench(scenario)


# ---- revisions -------------------------------------------------------------------------------------------------------


def test_a_revision_whose_answer_was_lost_is_found_again() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        b.faults.lose(lambda call: call.verb == "create", applied=True)
        await b.once()
        assert len(b.server.list(REVISIONS, OWN)) == 1
        assert b.counts()[STATUS] == 1

    bench(scenario)


def test_a_foreign_revision_under_our_name_leads_to_the_next_count() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.once()
        (made,) = b.server.list(REVISIONS, OWN)
        name = made["metadata"]["name"]
        b.server.delete(SIDECARSETS, "mesh", actor="user")
        b.server.delete(REVISIONS, name, OWN, actor="user")
        foreign = {"metadata": {"name": name, "namespace": OWN}, "data": {"of": "somebody"}, "revision": 1}
        b.server.create(REVISIONS, foreign, actor="user")
        await b.once()
        b.create()
        await b.once()
        assert b.status()["collisionCount"] == 1
        assert b.status()["latestRevision"] != name
        mark = b.mark()
        await b.once()
        assert b.counts(mark) == {}

    bench(scenario)


def test_rule10_an_orphaned_revision_is_taken_over_after_a_live_look_at_the_set() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.once()
        (made,) = b.server.list(REVISIONS, OWN)
        b.server.edit(
            REVISIONS, made["metadata"]["name"], lambda r: r["metadata"].pop("ownerReferences"), OWN, actor="user"
        )
        mark = b.mark()
        await b.once()
        assert b.counts(mark) == {"patch controllerrevisions.apps": 1}
        assert [call.resource for call in b.reads(mark)] == [SETS]
        (made,) = b.server.list(REVISIONS, OWN)
        assert made["metadata"]["ownerReferences"][0]["name"] == "mesh"

    bench(scenario)


def test_c6_an_upgraded_pod_names_the_revision_that_it_has() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.set_image(V2)
        await b.once()
        latest = b.status()["latestRevision"]
        assert f'"controllerRevision":"{latest}"' in b.pod(0)["metadata"]["annotations"]["kruise.io/sidecarset-hash"]

    bench(scenario)


def test_a_set_that_is_being_deleted_writes_its_status_and_nothing_else() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(2)
        b.server.edit(SIDECARSETS, "mesh", lambda body: body["metadata"].update(finalizers=["a/b"]), actor="user")
        b.set_image(V2)
        b.server.delete(SIDECARSETS, "mesh", actor="user")
        mark = b.mark()
        await b.once()
        await b.clock.sleep(1)
        await b.once()
        assert set(b.counts(mark)) == {STATUS}
        b.server.edit(SIDECARSETS, "mesh", lambda body: body["metadata"].update(finalizers=[]), actor="user")
        await b.once()
        assert b.reconciler.kept() == 0, "G9: nothing is left of it"

    bench(scenario)


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
