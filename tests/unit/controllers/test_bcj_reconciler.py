"""The shell around the planner: what is kept, what is written when, and how errors are told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.core import NODES, Node
from kruise.controllers.broadcastjob.pods import pod_name
from kruise.controllers.broadcastjob.setup import ACCESSES, NAME, setup
from kruise.runtime.cache.store import Change
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.controller import After, Done, ReconcileContext, current
from kruise.runtime.errors import Conflict, DecodeError, Forbidden, NotFound, Status, TerminalError
from kruise.runtime.manager.manager import Manager
from kruise.runtime.manager.metrics_server import MetricsOptions
from kruise.runtime.manager.options import ManagerOptions
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, ObjectMeta, Unreadable
from tests.golden.job_world import World
from tests.unit.controllers.bcj import NOW, STAMP, TEMPLATE, job, job_body, node, node_body, pod_body

KEY = Key("ns", "sweep")
RUNNING = {"phase": "running", "startTime": STAMP, "observedGeneration": 1}


class Still:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> float:
        return self.at

    monotonic = boottime = now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing sleeps here")


class Bench(World):
    """A world in which passes can be made one by one, and everything that is sent can be counted."""

    def __init__(self, *names: str, pods: Any = (), faults: Any = None, **parts: Any) -> None:
        body = parts.pop("body", None) or job_body(**parts)
        given = {"job": body, "nodes": [node_body(n) for n in names or ("a", "b")], "pods": list(pods)}
        super().__init__({**given, "now": STAMP, "faults": faults or {}})
        self.clock: Any = Still()
        self.reconciler._clock = self.clock
        self.statuses = 0
        self.lists = 0
        self.status_error: Exception | None = None
        self.job_now: Any = None
        self._sync()

    async def patch_status(self, resource: Any, obj: Any, status: Any) -> None:
        if self.status_error is not None:
            error, self.status_error = self.status_error, None
            raise error
        self.statuses += 1
        await super().patch_status(resource, obj, status)

    async def list(self, resource: Any, **selectors: Any) -> Any:
        self.lists += 1
        return await super().list(resource, **selectors)

    async def get(self, resource: Any, key: Key) -> Any:
        if resource is BROADCASTJOBS:
            if isinstance(self.job_now, Exception):
                raise self.job_now
            return self.job_now or self.reconciler._jobs.get(key)
        return await super().get(resource, key)

    async def once(self, *, live: bool = False) -> Any:
        """Sync the stores and run one pass; raise what it raises."""
        self._sync()
        token = current.set(ReconcileContext("c", KEY, "id", live))
        try:
            return await self.reconciler(KEY)
        finally:
            current.reset(token)

    def finish(self, where: str, phase: str = "Succeeded") -> None:
        name = pod_name("sweep", "uid-sweep", f"uid-{where}")
        self.pods[Key("ns", name)]["status"] = {"phase": phase}

    def reasons(self) -> list[str]:
        return [str(reason) for _, reason, _ in self.events.seen]


# Status writes.


async def test_the_first_and_the_last_status_are_written_at_once_and_what_is_equal_never() -> None:
    bench = Bench()
    assert await bench.once() == Done()
    assert bench.statuses == 1
    assert await bench.once() == Done()
    assert bench.statuses == 1
    bench.finish("a")
    bench.finish("b")
    assert await bench.once() == Done()
    assert bench.statuses == 2
    assert bench.reasons() == ["SuccessfulCreate", "JobComplete"]


async def test_a_trailing_status_is_never_lost() -> None:
    bench = Bench("a", "b", "c")
    await bench.once()
    bench.finish("a")
    result = await bench.once()
    assert isinstance(result, After)
    assert result.seconds == pytest.approx(0.5)
    bench.clock.at += 0.3
    bench.finish("b")
    result = await bench.once()
    assert isinstance(result, After)
    assert result.seconds == pytest.approx(0.2), "the window is not moved"
    assert bench.statuses == 1
    bench.clock.at += result.seconds
    assert await bench.once() == Done()
    assert bench.statuses == 2
    assert bench.job is not None
    assert bench.job["status"]["succeeded"] == 2


async def test_a_change_that_is_undone_in_its_window_costs_nothing() -> None:
    bench = Bench("a", "b")
    await bench.once()
    bench.finish("a", "Succeeded")
    await bench.once()
    bench.finish("a", "Running")
    assert await bench.once() == Done()
    assert (bench.statuses, bench.reconciler.kept()) == (1, 1)


async def test_g7_after_a_conflict_the_new_status_does_not_wait() -> None:
    bench = Bench("a", "b", "c")
    await bench.once()
    bench.finish("a")
    await bench.once()
    bench.clock.at += 1
    bench.status_error = Conflict(Status(409, "Conflict"))
    with pytest.raises(Conflict):
        await bench.once()
    bench.finish("b")
    assert await bench.once() == Done()
    assert bench.statuses == 2


async def test_events_of_a_status_come_with_its_write() -> None:
    bench = Bench(failurePolicy={"type": "Pause"})
    await bench.once()
    bench.finish("a", "Failed")
    bench.status_error = Conflict(Status(409, "Conflict"))
    with pytest.raises(Conflict):
        await bench.once()
    assert "Paused" not in bench.reasons()
    await bench.once()
    await bench.once()
    assert bench.reasons().count("Paused") == 1


# Errors of single nodes.


async def test_rule30_the_error_of_one_node_is_raised_once_and_then_waits_for_itself() -> None:
    bench = Bench("a", "b", parallelism=1, faults={"create": {"a": "forbidden"}})
    with pytest.raises(Forbidden):
        await bench.once()
    assert bench.created == {}
    result = await bench.once()
    assert list(bench.created) == ["b"], "the other node goes first now"
    assert isinstance(result, After)
    assert result.seconds == pytest.approx(0.005, abs=1e-6)
    bench.finish("b")
    bench.clock.at += 0.005
    with pytest.raises(Forbidden):
        await bench.once()
    result = await bench.once()
    assert isinstance(result, After)
    assert result.seconds == pytest.approx(0.01, abs=1e-6), "longer each time, by itself"
    assert bench.job is not None
    (condition,) = [c for c in bench.job["status"]["conditions"] if c["type"] == "Progressing"]
    assert (condition["status"], condition["reason"]) == ("False", "AdmissionDenied")


async def test_two_errors_in_a_row_do_not_hold_the_job_back() -> None:
    bench = Bench("a", "b", "c", faults={"create": {"a": "forbidden", "b": "forbidden"}})
    with pytest.raises(Forbidden):
        await bench.once()
    result = await bench.once()
    assert isinstance(result, After), "told, but not raised again"
    assert bench.created == {}
    bench.faults = {}
    bench.clock.at += 1
    assert await bench.once() == Done()
    assert sorted(bench.created) == ["a", "b", "c"]


async def test_que4_a_new_generation_tries_again_at_once() -> None:
    bench = Bench("a", faults={"create": {"a": "forbidden"}})
    with pytest.raises(Forbidden):
        await bench.once()
    assert isinstance(await bench.once(), After)
    bench.faults = {}
    assert bench.job is not None
    bench.job["metadata"]["generation"] = 2
    assert await bench.once() == Done()
    assert list(bench.created) == ["a"]


async def test_g9_a_hold_goes_with_its_node() -> None:
    bench = Bench("a", "b", faults={"create": {"a": "forbidden"}})
    with pytest.raises(Forbidden):
        await bench.once()
    del bench.nodes["a"]
    await bench.once()
    bench.clock.at += 1
    assert await bench.once() == Done()
    assert len(bench.reconciler._kept["uid-sweep"].holds) == 0


async def test_an_error_writes_the_status_at_once() -> None:
    bench = Bench("a", "b", "c", faults={"create": {"c": "forbidden"}})
    bench.job = job_body(status={**RUNNING, "active": 9})
    with pytest.raises(Forbidden):
        await bench.once()
    assert bench.statuses == 1


async def test_b5_a_failed_deletion_does_not_keep_the_job_from_failing() -> None:
    one = job(status=RUNNING)
    failed, active = pod_body(one, "a", phase="Failed"), pod_body(one, "b")
    faults = {"delete": {active["metadata"]["name"]: "conflict"}}
    bench = Bench(status=RUNNING, pods=[failed, active], faults=faults)
    with pytest.raises(Conflict):
        await bench.once()
    assert bench.job is not None
    assert bench.job["status"]["phase"] == "failed"
    assert bench.job["status"]["active"] == 1
    bench.faults = {}
    await bench.once()
    assert bench.deleted == [active["metadata"]["name"]]
    assert (bench.job["status"]["active"], bench.job["status"]["failed"]) == (0, 2)


# What is kept.


async def test_g9_what_is_kept_goes_with_the_job() -> None:
    bench = Bench()
    await bench.once()
    assert bench.reconciler.kept() == 1
    bench.job = None
    assert await bench.once() == Done()
    assert bench.reconciler.kept() == 0


async def test_g9_an_ended_job_keeps_no_view() -> None:
    bench = Bench("a")
    await bench.once()
    bench.finish("a")
    await bench.once()
    await bench.once()
    assert bench.reconciler._kept == {}
    assert bench.reconciler._uids == {KEY: "uid-sweep"}


async def test_a_job_made_again_under_its_name_starts_anew() -> None:
    bench = Bench()
    await bench.once()
    body = job_body()
    body["metadata"]["uid"] = "uid-second"
    bench.job = body
    await bench.once()
    assert list(bench.reconciler._kept) == ["uid-second"]
    assert bench.created["a"]["metadata"]["name"] == pod_name("sweep", "uid-second", "uid-a")


async def test_g9_a_standby_that_reconciles_nothing_keeps_no_template_of_jobs_that_are_gone() -> None:
    bench = Bench()
    change = Change(None, node("new"))
    assert list(bench.reconciler.jobs_of_node(change)) == [KEY]
    assert bench.reconciler.kept() == 1
    bench.job = None
    bench._sync()
    assert bench.reconciler.kept() == 0


# Nodes.


async def test_x20_a_node_that_goes_wakes_whoever_wants_it() -> None:
    bench = Bench("a", "b")
    gone: Change[Node] = Change(node("a"), None)
    assert list(bench.reconciler.jobs_of_node(gone)) == [KEY], "nobody knows yet what it has there"
    await bench.once()
    assert list(bench.reconciler.jobs_of_node(gone)) == [KEY]
    assert list(bench.reconciler.jobs_of_node(Change(node("unknown"), None))) == []


async def test_a_node_wakes_by_what_decides_and_not_by_its_heartbeat() -> None:
    bench = Bench("a")
    await bench.once()
    same = Change(node("a"), node("a", conditions=[{"type": "Ready", "status": "True"}]))
    assert list(bench.reconciler.jobs_of_node(same)) == []
    labelled = Change(node("a"), node("a", labels={"x": "y"}))
    assert list(bench.reconciler.jobs_of_node(labelled)) == [KEY], "its pod may be judged otherwise"


async def test_an_ended_job_is_woken_by_no_node() -> None:
    status = {**RUNNING, "phase": "completed", "conditions": [{"type": "Complete", "status": "True"}]}
    bench = Bench(status=status)
    assert list(bench.reconciler.jobs_of_node(Change(None, node("new")))) == []


async def test_an_unreadable_node_counts_as_none() -> None:
    bench = Bench("a", "b")
    await bench.once()
    odd = Unreadable(metadata=node("a").metadata, problem="p", path="$")
    assert list(bench.reconciler.jobs_of_node(Change(node("a"), odd))) == [KEY]
    assert list(bench.reconciler.jobs_of_node(Change(odd, odd))) == []


async def test_a_node_that_goes_is_told_to_the_view() -> None:
    bench = Bench("a", "b")
    await bench.once()
    bench.finish("a")
    del bench.nodes["b"]
    await bench.once()
    assert bench.job is not None
    assert bench.job["status"]["phase"] == "completed"


# Live reads.


async def test_con3_after_the_breaker_the_pass_reads_job_and_pods_live() -> None:
    bench = Bench("a", "b")
    await bench.once()
    first = bench.reconciler._kept["uid-sweep"]
    for pod in list(bench.pods):
        del bench.pods[pod]
    bench.created.clear()
    await bench.once(live=True)
    assert bench.lists == 1
    assert sorted(bench.created) == ["a", "b"], "the server is believed"
    assert bench.reconciler._kept["uid-sweep"] is first, "the view of the cache is kept for later"


async def test_con3_a_job_that_is_gone_or_another_one_live_is_left_to_the_cache() -> None:
    bench = Bench()
    bench.job_now = NotFound(Status(404, "NotFound"))
    assert await bench.once(live=True) == Done()
    other = msgspec.structs.replace(job(), metadata=ObjectMeta(namespace="ns", name="sweep", uid="second"))
    bench.job_now = other
    assert await bench.once(live=True) == Done()
    assert bench.created == {}
    bench.job_now = DecodeError("odd")
    with pytest.raises(DecodeError):
        await bench.once(live=True)


async def test_con3_what_a_live_pass_evicts_is_remembered_by_the_view_of_the_cache() -> None:
    bench = Bench("a", "b")
    await bench.once()
    bench.set_node(node_body("a", unschedulable=True))
    await bench.once(live=True)
    assert bench.deleted == [pod_name("sweep", "uid-sweep", "uid-a")]
    bench.pods[Key("ns", bench.deleted[0])]["status"] = {"phase": "Failed"}
    bench.set_node(node_body("a"))  # fits again, so that only the memory tells why the pod died
    await bench.once()
    assert "failed pod is found" not in bench.reasons()


async def test_con3_survivors_of_a_failed_job_are_found_live() -> None:
    status = {**RUNNING, "phase": "failed", "conditions": [{"type": "Failed", "status": "True"}], "active": 1}
    one = job(status=status)
    bench = Bench(status=status, pods=[pod_body(one, "a")])
    await bench.once(live=True)
    assert (bench.lists, len(bench.deleted)) == (1, 1)


# Bad input.


def _unreadable(version: str = "9", problem: str = "expected int") -> Unreadable:
    meta = ObjectMeta(namespace="ns", name="sweep", uid="uid-sweep", resource_version=version)
    return Unreadable(metadata=meta, problem=problem, path="$.spec.completionPolicy")


async def test_g8_an_unreadable_job_gets_one_event_per_problem() -> None:
    bench = Bench()
    await bench.once()
    seen = len(bench.events.seen)

    async def look(one: Unreadable) -> None:
        bench.reconciler._jobs.put(one)
        assert await bench.reconciler(KEY) == Done()

    await look(_unreadable("9000"))
    await look(_unreadable("9001"))
    assert [(t, r) for t, r, _ in bench.events.seen[seen:]] == [("Warning", "InvalidSpec")]
    assert bench.events.seen[-1][2] == "$.spec.completionPolicy: expected int; correct the field"
    await look(_unreadable("9002", "something else"))
    assert len(bench.events.seen) == seen + 2
    gone = bench.reconciler._jobs.raw(KEY)
    assert gone is not None
    bench.reconciler._jobs.remove(gone)
    assert await bench.reconciler(KEY) == Done()
    assert bench.reconciler.kept() == 0


BAD = {"spec": {**TEMPLATE["spec"], "containers": "none"}}


async def test_g8_a_wrong_template_is_counted_once_and_has_its_condition_and_event() -> None:
    bench = Bench(template=BAD)
    with pytest.raises(TerminalError, match=r"spec\.template.*correct the field"):
        await bench.once()
    assert await bench.once() == Done()
    assert (bench.statuses, bench.reasons()) == (1, ["InvalidSpec"])
    assert bench.job is not None
    (condition,) = bench.job["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "InvalidSpec")
    bench.job["spec"]["template"] = TEMPLATE
    bench.job["metadata"]["generation"] = 2
    assert await bench.once() == Done()
    assert sorted(bench.created) == ["a", "b"]


async def test_b7_a_wrong_field_keeps_the_deadline() -> None:
    bench = Bench(template=BAD, completionPolicy={"activeDeadlineSeconds": 60})
    assert await bench.once() == After(60.0)
    bench.clock.at += 60
    await bench.once()
    assert bench.job is not None
    assert bench.job["status"]["phase"] == "failed"


async def test_a_restart_says_nothing_twice() -> None:
    one = job(status=RUNNING)
    bench = Bench("a", "b", status=RUNNING, pods=[pod_body(one, "a"), pod_body(one, "b")])
    bad = bench.pods[Key("ns", pod_name("sweep", "uid-sweep", "uid-a"))]["metadata"]
    bench._sync()
    odd = Unreadable(metadata=msgspec.convert({**bad, "resourceVersion": "99999"}, ObjectMeta), problem="p", path="$")

    async def look(world: Bench) -> None:
        world._sync()
        world.reconciler._pods.put(odd)
        await world.reconciler(KEY)

    await look(bench)
    bench.clock.at += 1
    await look(bench)
    assert bench.reasons().count("PodUnreadable") == 1
    assert bench.deleted == []
    again = Bench("a", "b", body=bench.job, pods=list(bench.pods.values()))
    await look(again)
    assert again.reasons() == []


async def test_lasting_states_are_told_when_they_begin() -> None:
    one = job(status=RUNNING)
    bench = Bench(status=RUNNING, parallelism=1, pods=[pod_body(one, "a"), pod_body(one, "b")])
    bench.nodes["c"] = node_body("c")
    await bench.once()
    await bench.once()
    assert bench.reasons() == ["TooManyActivePods"]


async def test_b7_the_job_is_deleted_when_its_time_is_over() -> None:
    status = {
        **RUNNING,
        "phase": "completed",
        "completionTime": STAMP,
        "conditions": [{"type": "Complete", "status": "True"}],
    }
    bench = Bench(status=status, completionPolicy={"ttlSecondsAfterFinished": 5})
    assert await bench.once() == After(5.0)
    bench.clock.at += 5
    assert await bench.once() == Done()
    assert bench.job_deleted

    async def gone(*_: Any, **__: Any) -> bool:
        return False

    again = Bench(status=status, completionPolicy={"ttlSecondsAfterFinished": 0})
    again.delete = gone  # type: ignore[method-assign]
    assert await again.once() == Done()


# Wiring.


async def test_bld1_setup_declares_what_it_reads_and_writes() -> None:
    options = ManagerOptions(leader_election=False, metrics=MetricsOptions("0"), health_address="0", identity="x")
    metrics = Metrics(process=False)

    class Nowhere:
        async def request(self, request: Any) -> Any: ...
        async def stream(self, request: Any) -> Any: ...
        async def close(self) -> None: ...

    manager = Manager(Nowhere(), options, clock=SystemClock(), rng=Random(1), metrics=metrics)
    controller = setup(manager, workers=2, gauges="full")
    assert (controller.name, controller.workers) == (NAME, 2)
    reads = {str(a.resource): set(a.verbs) for a in controller.accesses if not a.subresource}
    assert reads == {
        "broadcastjobs.apps.kruise.io": {"get", "list", "watch", "delete"},
        "pods": {"get", "list", "watch", "create", "delete"},
        "nodes": {"get", "list", "watch"},
    }
    assert {(a.subresource, a.verbs) for a in controller.accesses if a.subresource} == {
        ("status", ("patch",)),
        ("finalizers", ("update",)),
    }
    assert ACCESSES
    assert manager.cache.store(NODES) is not None
    assert b"kruise_broadcastjob_status_active" in metrics.render()
