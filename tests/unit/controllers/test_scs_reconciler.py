"""The shell around the planner of SidecarSets: what is written when, how errors are told, and which events matter."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.apis.core import PODS, REVISIONS
from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.sidecarset_policy import SidecarPolicy
from kruise.runtime.controller import After, Done
from kruise.runtime.errors import Conflict, Fenced, Forbidden, UnknownOutcome
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from tests.simulation.sidecar_objects import OWN, SETS, V2
from tests.unit.controllers.reconciler_bench import fill
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


def test_a_set_that_raises_privileges_says_so_until_it_does_not() -> None:
    """Reliability 8.4: a warning at admission is seen by its author alone."""

    def mount(body: dict[str, Any]) -> None:
        body["spec"]["volumes"] = [{"name": "host", "hostPath": {"path": "/"}}]

    async def scenario(b: Bench) -> None:
        b.create()
        await b.once()
        assert b.condition("RaisesPrivileges") == {}
        b.edit(mount)
        await b.once()
        said = b.condition("RaisesPrivileges")
        assert said["status"] == "True"
        assert said["message"] == "spec.volumes[0].hostPath: it reaches the files of the node"
        mark = b.mark()
        await b.once()
        assert b.mark() == mark
        b.edit(lambda body: body["spec"].update(volumes=[]))
        await b.once()
        assert b.condition("RaisesPrivileges") == {}

    bench(scenario, concerns=SidecarPolicy().concerns)


def test_perf46_a_condition_that_turns_to_and_fro_is_told_twice_a_second_at_most() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        mark = b.mark()
        for number in range(200):
            b.run_pods(0, ready=bool(number % 2))
            await b.clock.sleep(0.05)
            await b.once()
        assert 10 <= b.counts(mark)[STATUS] <= 2 + 10 / 0.5
        await b.clock.sleep(1)
        await b.once()
        assert b.numbers() == (1, 1, 1, 1)
        assert b.condition("Available")["status"] == "True"

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


def test_a_write_beyond_the_term_ends_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(3, strategy={"maxUnavailable": 3})
        b.set_image(V2)
        mark = b.mark()

        async def fenced(*_: Any, **__: Any) -> None:
            raise Fenced("the term is over")

        monkeypatch.setattr(b.client, "patch", fenced)
        with pytest.raises(ExceptionGroup) as raised:
            await b.once()
        assert raised.group_contains(Fenced)
        assert STATUS not in b.counts(mark), "no status is written after that"

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


def looks(b: Bench, mark: int) -> int:
    """Return how often the set was read live since *mark*."""
    return sum((call.verb, call.resource) == ("get", SETS) for call in b.reads(mark))


def test_c6_a_pod_of_a_newer_set_is_not_taken_back_by_a_cache_that_lags() -> None:
    """Another replica injects a version that our cache of sets does not have yet."""

    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.set_image(V2)
        b.create_pods(5)
        assert V2 in b.images(5)
        mark = b.mark()
        fill(b.stores.pods, b.server.list(PODS))
        await b.once(sync=False)
        assert (b.counts(mark), looks(b, mark)) == ({}, 1)
        assert V2 in b.images(5)
        await b.once()
        assert b.counts(mark)[PATCH] == 1
        assert V2 in b.images(0), "with the news of the set the old pod is upgraded, and without another look"
        assert looks(b, mark) == 1

    bench(scenario)


def test_versions_that_are_known_to_be_older_are_not_asked_about() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(3)
        mark = b.mark()
        b.set_image(V2)
        await b.once()
        assert (b.counts(mark)[PATCH], looks(b, mark)) == (1, 0)
        b.begin()
        await b.once()
        b.run_pods(0)
        await b.once()
        assert b.counts(mark)[PATCH] == 2
        assert looks(b, mark) == 1, "a new process asks once for all pods of a version"

    bench(scenario)


def test_c6_an_upgraded_pod_names_the_revision_that_it_has() -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        b.set_image(V2)
        await b.once()
        latest = b.status()["latestRevision"]
        assert f'"controllerRevision":"{latest}"' in b.pod(0)["metadata"]["annotations"]["kruise.io/sidecarset-hash"]

    bench(scenario)


@pytest.mark.parametrize("spoiled", [False, True])
def test_c7_the_status_names_the_fields_that_only_new_pods_get(spoiled: bool) -> None:
    async def scenario(b: Bench) -> None:
        await b.begun(1)
        if spoiled:
            (made,) = b.server.list(REVISIONS, OWN)
            name = made["metadata"]["name"]
            b.server.delete(REVISIONS, name, OWN, actor="user")
            meta = {key: made["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
            b.server.create(REVISIONS, {"metadata": meta, "data": {"of": "nothing"}, "revision": 1}, actor="user")
        b.edit(lambda body: body["spec"]["containers"][0].update(args=["-v"]))
        for _ in range(3):
            await b.clock.sleep(1)
            await b.once()
        message = b.condition("Progressing")["message"]
        fields = "unknown, the revision" if spoiled else "containers[mesh-proxy].args"
        assert f"pod default/shop-0: changed beside images: {fields}" in message

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
