"""The shell around the planner: what is kept, what is written when, how errors are told, and who belongs to whom."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kruise.apis.core import PODS, REVISIONS
from kruise.apis.statefulset import STATEFULSETS
from kruise.controllers.statefulset.settings import Settings
from kruise.runtime.client.frames import Codec
from kruise.runtime.controller import After, Done
from kruise.runtime.errors import Conflict, Forbidden, TerminalError
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from tests.unit.controllers.asts_bench import CREATE, KEY, REVISION, SETS, STATUS, Bench, bench

V2 = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "web:2"}]}}


class Refusing(Interceptor):
    """Answers 403 to the writes of some pods."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.tried: list[str] = []

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        if call.verb in ("create", "patch", "delete") and call.resource == "pods" and call.actor == "manager":
            name = call.name or orjson.loads(call.body or b"{}")["metadata"]["name"]
            if name in self.names:
                self.tried.append(name)
                return _refused(403, "Forbidden")
        return await proceed()


class BadStatus(Interceptor):
    """Answers 409 to the next status write."""

    left = 1

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        if call.actor == "manager" and call.resource == SETS and call.subresource == "status" and self.left:
            self.left -= 1
            return _refused(409, "Conflict")
        return await proceed()


def _refused(code: int, reason: str) -> Answer:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "no"}
    return Answer(code, orjson.dumps(body))


# ---- status writes ---------------------------------------------------------------------------------------------------


def test_the_first_and_the_last_status_are_written_at_once_and_what_is_equal_never() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.once()
        assert b.counts() == {REVISION: 1, CREATE: 3, STATUS: 1}
        b.run_pods(0, 1, 2)
        mark = b.mark()
        assert await b.once() == Done()
        assert b.counts(mark) == {STATUS: 1}
        assert b.status()["availableReplicas"] == 3
        mark = b.mark()
        assert await b.once() == Done()
        assert b.counts(mark) == {}

    bench(scenario)


def test_perf46_a_trailing_status_is_never_lost_and_its_window_is_not_moved() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.once()
        mark = b.mark()
        b.run_pods(0)
        result = await b.once()
        assert isinstance(result, After)
        assert result.seconds == pytest.approx(0.5)
        await b.clock.sleep(0.3)
        b.run_pods(1)
        result = await b.once()
        assert isinstance(result, After)
        assert result.seconds == pytest.approx(0.2)
        assert b.counts(mark) == {}
        await b.clock.sleep(result.seconds)
        await b.once()
        assert b.counts(mark) == {STATUS: 1}
        assert b.status()["readyReplicas"] == 2

    bench(scenario)


def test_g7_after_a_conflict_the_new_status_does_not_wait() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.once()
        b.run_pods(0)
        await b.once()
        await b.clock.sleep(1)
        b.server.faults = BadStatus()
        with pytest.raises(Conflict):
            await b.once()
        b.run_pods(1)
        await b.once()
        assert b.status()["readyReplicas"] == 2, "computed again, and written at once"

    bench(scenario)


# ---- errors of single pods -------------------------------------------------------------------------------------------


def test_rule30_the_error_of_one_pod_is_raised_once_and_then_waits_for_itself() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        b.server.faults = refusing = Refusing("web-0")
        with pytest.raises(Forbidden):
            await b.once()
        assert b.counts() == {REVISION: 1, f"{CREATE} 403": 1, STATUS: 1}
        assert [c["type"] for c in b.status()["conditions"]].count("FailedCreatePod") == 1
        result = await b.once()
        assert isinstance(result, After)
        assert b.counts()[CREATE] == 2, "the others go on"
        waits = [result.seconds]
        for _ in range(3):
            await b.clock.sleep(result.seconds)
            try:
                again = await b.once()
            except Forbidden:
                again = await b.once()
            assert isinstance(again, After)
            result = again
            waits.append(result.seconds)
        assert len(refusing.tried) >= 3
        assert waits == sorted(waits), "longer each time"
        refusing.names.clear()
        b.edit(revisionHistoryLimit=5)
        await b.once()
        assert b.server.get(PODS, "web-0") is not None, "the user may have repaired it: nothing waits (QUE4)"
        b.run_pods(0, 1, 2)
        await b.clock.sleep(1)
        await b.once()
        assert not [c for c in b.status()["conditions"] if c["type"] == "FailedCreatePod"]

    bench(scenario)


def test_a_foreign_409_is_no_error_and_no_back_off() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.begun()
        b.edit(template=V2)
        b.sync()
        b.server.patch(PODS, "web-2", {"metadata": {"annotations": {"seen": "yes"}}}, actor="kubelet")
        mark = b.mark()
        await b.once(sync=False)
        counts = b.counts(mark)
        assert counts.pop("delete pods 409") == 1
        assert "FailedDelete" not in b.events.reasons()
        mark = b.mark()
        await b.once()
        assert b.counts(mark).get("delete pods") == 1, "decided again on what the event showed"

    bench(scenario)


@pytest.mark.parametrize("resource", ["pods", "persistentvolumeclaims"])
def test_a_creation_that_a_busy_quota_refuses_is_tried_again_without_an_event(resource: str) -> None:
    class Busy(Interceptor):
        async def request(self, call: Call, proceed: Proceed) -> Answer:
            if call.verb != "create" or call.resource != resource:
                return await proceed()
            call.code, call.reason = 409, "Conflict"
            return _refused(409, "Conflict")

    async def scenario(b: Bench) -> None:
        template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}
        b.create(volumeClaimTemplates=[template])
        b.server.faults = Busy()
        for _ in range(4):
            mark = b.mark()
            try:
                again = await b.once() != Done()
            except Conflict:
                again = True  # the queue tries it again, with back-off
            assert again, "no event will come"
            assert b.counts(mark)[f"create {resource} 409"] == 1, "nothing is begun after a creation that failed"
            await b.clock.sleep(120.0)  # the status has been told by then, and that it takes long as well
        b.server.faults = Interceptor()
        await b.once()
        assert b.pod(2)

    bench(scenario)


# ---- who belongs to whom ---------------------------------------------------------------------------------------------


def test_2_5_orphans_are_adopted_after_one_live_read_and_not_created_again() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.begun()
        before = [b.pod(n)["metadata"]["uid"] for n in range(3)]
        for number in range(3):
            b.server.patch(PODS, f"web-{number}", {"metadata": {"ownerReferences": None}}, actor="user")
        for revision in b.server.list(REVISIONS):
            name = revision["metadata"]["name"]
            b.server.patch(REVISIONS, name, {"metadata": {"ownerReferences": None}}, actor="user")
        b.server.delete(STATEFULSETS, "web", actor="user")
        b.sync()
        b.create()
        mark = b.mark()
        assert await b.once() == Done()
        assert b.counts(mark) == {"patch controllerrevisions.apps": 1, "patch pods": 3}
        assert [(c.verb, c.resource) for c in b.reads(mark)] == [("get", SETS)]
        await b.clock.sleep(1)
        mark = b.mark()
        await b.once()
        assert b.counts(mark) == {STATUS: 1}
        assert [b.pod(n)["metadata"]["uid"] for n in range(3)] == before
        assert b.status()["updatedReplicas"] == 3

    bench(scenario)


def test_rule10_a_set_that_is_gone_adopts_nothing() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.begun()
        b.server.patch(PODS, "web-1", {"metadata": {"ownerReferences": None}}, actor="user")
        b.sync()
        b.server.delete(STATEFULSETS, "web", actor="user")
        mark = b.mark()
        assert await b.once(sync=False) == Done()
        assert b.counts(mark) == {}

    bench(scenario)


def test_2_5_a_pod_that_does_not_match_is_released_and_its_name_awaited() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.begun()
        b.server.patch(PODS, "web-1", {"metadata": {"labels": {"app": "mine"}}}, actor="user")
        mark = b.mark()
        assert await b.once() == Done()
        assert b.counts(mark) == {"patch pods": 1}
        assert not b.pod(1)["metadata"].get("ownerReferences")
        with pytest.raises(Exception, match="belongs to somebody else"):
            await b.once()
        assert "FailedCreate" in b.events.reasons()
        b.server.delete(PODS, "web-1", actor="user", gracePeriodSeconds=0)
        await b.clock.sleep(1)
        await b.once()
        assert b.pod(1)["metadata"]["labels"]["app"] == "web"

    bench(scenario)


def test_perf44_foreign_pods_are_not_looked_at() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.begun()
        notes = b.reconciler.observer.notes(b.stores.sets.list()[0])
        for name in ("other-0", "web-x", "web"):
            b.server.create(PODS, {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
        b.sync()
        assert notes.pods == set()
        b.server.create(PODS, {"metadata": {"name": "web-9"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
        b.sync()
        assert [key.name for key in notes.pods] == ["web-9"]

    bench(scenario)


# ---- deletion, bad input, upkeep -------------------------------------------------------------------------------------


def test_spec3_a_set_that_is_deleted_gets_its_status_and_nothing_else() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.begun()
        b.server.patch(STATEFULSETS, "web", {"metadata": {"finalizers": ["f.io/x"]}}, actor="user")
        b.edit(replicas=1, template=V2)
        b.server.delete(STATEFULSETS, "web", actor="user")
        b.server.patch(PODS, "web-1", {"metadata": {"labels": {"app": "mine"}}}, actor="user")
        await b.clock.sleep(1)
        mark = b.mark()
        await b.once()
        assert set(b.counts(mark)) == {STATUS}

    bench(scenario)


def test_g8_a_set_that_cannot_be_read_is_reported_once_and_left_alone() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        b.sync()
        raw = b.server.get(STATEFULSETS, "web")
        bad = orjson.loads(orjson.dumps(raw))
        bad["spec"]["replicas"] = "three"
        bad["metadata"]["resourceVersion"] = "999"
        b.stores.sets.put(Codec(STATEFULSETS).read(orjson.dumps(bad)))
        for _ in range(3):
            assert await b.once(sync=False) == Done()
        (event,) = b.events.seen
        assert event[1:3] == ("Warning", "InvalidSpec")
        assert "replicas" in event[3]
        assert b.counts() == {}

    bench(scenario)


def test_g8_a_selector_without_a_meaning_is_terminal() -> None:
    async def scenario(b: Bench) -> None:
        b.create(selector={"matchExpressions": [{"key": "app", "operator": "Near", "values": ["x"]}]})
        with pytest.raises(TerminalError, match=r"spec\.selector"):
            await b.once()
        await b.clock.sleep(5)
        assert await b.once() == Done()
        (event,) = b.events.seen
        assert "spec.selector" in event[3]
        assert b.counts() == {STATUS: 1}, "said once"
        assert b.status()["observedGeneration"] == 1
        said = {c["type"]: (c["status"], c["reason"]) for c in b.status()["conditions"]}
        assert said == {
            "Available": ("False", "InvalidSpec"),
            "Progressing": ("False", "InvalidSpec"),
            "Ready": ("False", "InvalidSpec"),
            "Paused": ("False", "NotPaused"),
            "Stalled": ("True", "InvalidSpec"),
            "Degraded": ("True", "InvalidSpec"),
        }
        assert all("spec.selector" in c["message"] for c in b.status()["conditions"] if c["reason"] == "InvalidSpec")

    bench(scenario)


def test_g8_a_selector_that_loses_its_meaning_leaves_counts_and_pods_alone() -> None:
    """A server without the rules of our definition let the change through."""

    async def scenario(b: Bench) -> None:
        b.create()
        await b.begun()
        b.run_pods(0, 1, 2)
        await b.once()
        before = b.status()
        bad = {"matchLabels": None, "matchExpressions": [{"key": "app", "operator": "Near", "values": ["x"]}]}
        b.edit(selector=bad)
        mark = b.mark()
        with pytest.raises(TerminalError, match=r"spec\.selector"):
            await b.once()
        assert b.counts(mark) == {STATUS: 1}
        after = b.status()
        assert after["observedGeneration"] == before["observedGeneration"] + 1
        assert {k: v for k, v in after.items() if k not in ("conditions", "observedGeneration")} == {
            k: v for k, v in before.items() if k not in ("conditions", "observedGeneration")
        }
        said = {c["type"]: c["status"] for c in after["conditions"]}
        assert said["Available"] == "True", "its pods serve as they did"
        assert said["Stalled"] == "True"
        b.edit(selector={"matchLabels": {"app": "web"}, "matchExpressions": None})
        await b.once()
        assert "Stalled" not in {c["type"] for c in b.status()["conditions"]}

    bench(scenario)


def test_g9_what_is_kept_goes_with_the_set() -> None:
    async def scenario(b: Bench) -> None:
        b.create(volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}])
        await b.begun()
        assert b.reconciler.kept() == 1
        b.server.delete(STATEFULSETS, "web", actor="user")
        assert await b.once() == Done()
        assert b.reconciler.kept() == 0
        assert b.reconciler.observer._families == {}

    bench(scenario)


def test_a_set_that_was_deleted_and_made_again_is_another_one() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.begun()
        b.server.delete(STATEFULSETS, "web", actor="user")
        b.create(replicas=2)
        b.sync()
        with pytest.raises(Exception, match="belongs to somebody else"):
            await b.once()
        assert b.reconciler.kept() == 1

    bench(scenario)


# ---- claims ----------------------------------------------------------------------------------------------------------


def claim_template(name: str = "data") -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": spec}


def test_claims_come_by_name_whoever_made_them() -> None:
    async def scenario(b: Bench) -> None:
        b.server.create("persistentvolumeclaims", {**claim_template("data-web-1"), "metadata": {"name": "data-web-1"}})
        b.create(volumeClaimTemplates=[claim_template()])
        await b.once()
        assert b.counts()["create persistentvolumeclaims"] == 2

    bench(scenario)


def test_s5b_a_terminating_claim_holds_its_pod_back_until_it_is_gone() -> None:
    async def scenario(b: Bench) -> None:
        body = {**claim_template(), "metadata": {"name": "data-web-1", "finalizers": ["f.io/x"]}}
        b.server.create("persistentvolumeclaims", body)
        b.server.delete("persistentvolumeclaims", "data-web-1", actor="user")
        b.create(volumeClaimTemplates=[claim_template()])
        await b.once()
        await b.once()
        assert [b.server.get(PODS, f"web-{n}") is not None for n in range(3)] == [True, False, True]
        notes = [note for _, type_, reason, note in b.events.seen if type_ == "Warning"]
        assert any("data-web-1" in note for note in notes)
        assert len(notes) == 1, "said once"
        b.server.patch("persistentvolumeclaims", "data-web-1", {"metadata": {"finalizers": None}}, actor="user")
        await b.clock.sleep(1)
        await b.once()
        assert b.server.get(PODS, "web-1") is not None

    bench(scenario)


# ---- the view --------------------------------------------------------------------------------------------------------


def test_con3_when_the_cache_lags_everything_is_read_live() -> None:
    async def scenario(b: Bench) -> None:
        b.create(volumeClaimTemplates=[claim_template()])
        await b.begun()
        b.edit(replicas=4)
        mark = b.mark()
        await b.once(live=True, sync=False)
        assert b.server.get(PODS, "web-3") is not None, "decided on the live set"
        read = {(call.verb, call.resource) for call in b.reads(mark)}
        assert read == {
            ("get", SETS),
            ("list", "pods"),
            ("list", "controllerrevisions.apps"),
            ("list", "persistentvolumeclaims"),
        }
        mark = b.mark()
        await b.once(live=True, sync=False)
        assert CREATE not in b.counts(mark), "although the stores never showed the pod"

    bench(scenario)


def test_perf44_the_self_check_finds_and_mends_a_view_that_is_wrong() -> None:
    async def scenario(b: Bench) -> None:
        b.create()
        await b.begun()
        sts = b.stores.sets.list()[0]
        view = b.reconciler._kept[sts.uid].memory.view
        assert view is not None
        view.set_pod(b.stores.pods.list()[0].key, None)  # a bug, as it were
        await b.clock.sleep(30)
        await b.once()
        found = b.metrics.registry.get_sample_value("kruise_consistency_view_differences_total", {"controller": "test"})
        assert found == 1
        assert b.reconciler._kept[sts.uid].memory.view is not view
        await b.clock.sleep(30)
        await b.once()
        assert (
            b.metrics.registry.get_sample_value("kruise_consistency_view_differences_total", {"controller": "test"})
            == 1
        )

    bench(scenario, check_every=20.0)


def test_a_pass_without_news_reads_and_writes_nothing() -> None:
    async def scenario(b: Bench) -> None:
        b.create(replicas=5)
        await b.begun()
        mark = b.mark()
        for _ in range(5):
            assert await b.once() == Done()
        assert b.mark() == mark

    bench(scenario)


def test_7_3_the_version_of_the_server_is_asked_for_only_where_a_resize_may_need_it() -> None:
    settings = Settings()
    vertical = Settings(inplace=type(settings.inplace)(vertical_scaling=True))

    async def scenario(b: Bench) -> None:
        b.create()
        await b.begun()
        asked = [c for c in b.server.log.calls if c.path == "/version"]
        assert len(asked) == (1 if b.reconciler._settings.inplace.vertical_scaling else 0)

    bench(scenario, settings=settings)
    bench(scenario, settings=vertical)


def test_keys_of_other_sets_are_nobodys() -> None:
    async def scenario(b: Bench) -> None:
        assert await b.reconciler(KEY) == Done()

    bench(scenario)
