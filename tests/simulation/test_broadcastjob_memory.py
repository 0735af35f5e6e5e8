"""BroadcastJob in memory: the production manager, the embedded API server, simulated nodes, virtual time.

Counted by the server's request log, exactly: what a job costs in writes (performance 2.3). The write guard and the
invariants G1 to G5, G7 and B1 to B8 look on in every test; each ends with ten virtual minutes in which nothing happens.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import orjson
import pytest

from kruise.runtime.clock import Random, parse_time
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Chunk, Interceptor, Proceed
from tests.simulation.world import CREATE, DELETE, DELETE_JOB, JOBS, STATUS, World, simulate


def ended(world: World, name: str = "sweep") -> bool:
    return world.gone(name) or world.phase(name) in ("completed", "failed")


# What a job costs.


@pytest.mark.parametrize("nodes", [1, 5, 50])
def test_one_wave_costs_one_post_a_node_and_two_status_writes(nodes: int) -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", run="2s")
        await world.until(lambda: world.phase("sweep") == "completed")
        assert world.totals("sweep") == (nodes, 0, nodes, 0)
        assert world.counts() == {CREATE: nodes, STATUS: 2}, "the start and the end"
        assert world.status("sweep")["observedGeneration"] == 1
        assert world.condition("sweep", "Complete")["status"] == "True"
        assert world.condition("sweep", "Progressing")["reason"] == "JobComplete"

    simulate(scenario, nodes=nodes)


@pytest.mark.parametrize("limit", [1, 7, "10%"])
def test_waves_keep_the_limit_and_write_the_status_twice_a_second_at_most(limit: Any) -> None:
    nodes, waves = 30, {1: 30, 7: 5, "10%": 10}[limit]

    async def scenario(world: World) -> None:
        await world.started()
        begun = world.clock.monotonic()
        world.create_job("sweep", run="0.3s", parallelism=limit)
        most = 0

        def done() -> bool:
            nonlocal most
            most = max(most, world.active("sweep"))
            return world.phase("sweep") == "completed"

        await world.until(done, every=0.005)
        took = world.clock.monotonic() - begun
        assert most == {1: 1, 7: 7, "10%": 3}[limit]
        assert took < waves * 0.5, "a free slot is used at once"
        counts = world.counts()
        assert set(counts) == {CREATE, STATUS}, "no conflict and no other write"
        assert counts[CREATE] == nodes
        assert counts[STATUS] <= 2 + took / 0.5
        stamps = [c.time for c in world.writes() if c.subresource == "status"]
        gaps = [b - a for a, b in itertools.pairwise(stamps[:-1])]
        assert all(gap >= 0.5 for gap in gaps), "all but the last one wait for the window"

    simulate(scenario, nodes=nodes)


def test_two_hundred_nodes() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        begun = world.clock.monotonic()
        world.create_job("sweep", run="3s")
        await world.until(lambda: world.phase("sweep") == "completed", every=0.1)
        took = world.clock.monotonic() - begun
        counts = world.counts()
        assert counts.pop(CREATE) == 200
        assert counts.pop(STATUS) <= 2 + took / 0.5
        assert counts == {}

    simulate(scenario, nodes=200, rest=60.0)


def test_an_idle_hour_costs_nothing() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("done", run="1s")
        world.create_job("open", run="1s", completionPolicy={"type": "Never"})
        world.create_job("paused", run="1s", paused=True)
        world.create_job("nowhere", template=_template("run-1s", nodeSelector={"no": "node"}))
        await world.sleep(10)
        assert world.condition("open", "Progressing")["reason"] == "AllNodesDone"
        assert world.condition("paused", "Progressing")["reason"] == "Paused"
        assert world.condition("nowhere", "Progressing")["reason"] == "NoEligibleNode"

    simulate(scenario, rest=3600.0)


def test_events_of_the_job_itself_and_of_its_pods_cost_nothing() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", run="forever", template=_template("ready-1s"))
        await world.until(lambda: len(world.pods(phase="Running")) == 5)
        await world.sleep(2)
        mark = world.mark()
        world.server.patch(JOBS, "sweep", {"metadata": {"labels": {"seen": "yes"}}}, actor="user")
        for pod in world.pods():
            patch = {"metadata": {"annotations": {"seen": "yes"}}}
            world.server.patch("pods", pod["metadata"]["name"], patch, actor="user")
        for number in range(5):
            patch = {"metadata": {"annotations": {"seen": str(number)}}}
            world.server.patch("nodes", f"node-{number}", patch, actor="user")
        await world.sleep(5)
        assert world.counts(since=mark) == {}

    simulate(scenario)


def _template(image: str, **spec: Any) -> dict[str, Any]:
    return {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": f"sim.kruise.io/{image}:v1"}], **spec}
    }


# How a job ends.


def test_fail_fast_costs_a_delete_per_active_pod_and_one_status() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        await world.add_nodes("bad", annotations={"sim.kruise.io/exit-code": "3", "sim.kruise.io/run-seconds": "5"})
        world.create_job("sweep", template=_template("stop-1s"))
        await world.until(lambda: len(world.pods(phase="Running")) == 6)
        await world.sleep(2)
        mark = world.mark()
        await world.until(lambda: world.phase("sweep") == "failed")
        assert world.totals("sweep") == (6, 0, 0, 6)
        await world.until(lambda: len(world.pods()) == 1)
        assert world.counts(since=mark) == {DELETE: 5, STATUS: 1}
        assert world.condition("sweep", "Failed")["reason"] == "Failed"
        assert world.condition("sweep", "Progressing")["reason"] == "JobFailed"
        await world.sleep(1)
        assert len(world.events("failed pod is found")) == 1

    simulate(scenario)


def test_continue_lets_the_others_finish() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        await world.add_nodes("bad", annotations={"sim.kruise.io/exit-code": "3"})
        world.create_job("sweep", run="2s", failurePolicy={"type": "Continue"})
        await world.until(lambda: world.phase("sweep") == "completed")
        assert world.totals("sweep") == (6, 0, 5, 1)
        assert world.counts() == {CREATE: 6, STATUS: 2}

    simulate(scenario)


def test_the_failure_policy_pause_does_not_flap_and_goes_on_when_the_pod_is_deleted() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        await world.add_nodes("bad", annotations={"sim.kruise.io/exit-codes": "3"})
        world.create_job("sweep", run="1s", parallelism=1, failurePolicy={"type": "Pause"})
        await world.until(lambda: world.phase("sweep") == "paused")
        assert world.condition("sweep", "Progressing")["reason"] == "JobPaused"
        await world.sleep(30)
        mark = world.mark()
        await world.sleep(60)
        assert world.counts(since=mark) == {}
        world.server.patch("nodes", "bad", {"metadata": {"annotations": {"sim.kruise.io/exit-codes": "0"}}})
        (failed,) = world.pods(phase="Failed")
        world.server.delete("pods", failed["metadata"]["name"], actor="user")
        await world.until(lambda: world.phase("sweep") == "completed")
        await world.sleep(1)
        assert len(world.events("Paused")) == 1
        assert len(world.events("Continue")) == 1

    simulate(scenario)


def test_b6_a_pod_over_its_restart_limit_fails_the_job() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        await world.add_nodes("bad", annotations={"sim.kruise.io/exit-codes": "1,1,1,1"})
        world.create_job("sweep", run="2s", restart_policy="OnFailure", failurePolicy={"restartLimit": 1})
        await world.until(lambda: world.phase("sweep") == "failed")

    simulate(scenario)


def test_b7_the_deadline_takes_effect_at_once_and_costs_a_delete_per_pod() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", template=_template("run-900s"), completionPolicy={"activeDeadlineSeconds": 60})
        await world.until(lambda: len(world.pods(phase="Running")) == 5)
        mark = world.mark()
        await world.until(lambda: world.phase("sweep") == "failed")
        start = parse_time(world.status("sweep")["startTime"])
        assert start is not None
        assert 0 <= world.clock.now() - start - 60 <= 1
        assert world.counts(since=mark) == {DELETE: 5, STATUS: 1}
        assert world.condition("sweep", "Progressing")["reason"] == "DeadlineExceeded"
        assert world.totals("sweep") == (5, 0, 0, 5)

    simulate(scenario)


def test_b7_the_time_to_live_deletes_the_job_once_and_its_pods_follow() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", completionPolicy={"ttlSecondsAfterFinished": 30})
        await world.until(lambda: world.phase("sweep") == "completed")
        mark, ended_at = world.mark(), world.clock.monotonic()
        await world.until(lambda: world.gone("sweep"))
        assert 29 <= world.clock.monotonic() - ended_at <= 31
        await world.until(lambda: world.pods() == [])
        assert world.counts(since=mark) == {DELETE_JOB: 1}

    simulate(scenario)


# What a user does.


def test_pause_and_resume_cost_one_status_each() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", template=_template("run-20s"), parallelism=2)
        await world.until(lambda: len(world.pods(phase="Running")) == 2)
        await world.sleep(2)
        mark = world.mark()
        world.edit_job("sweep", paused=True)
        await world.until(lambda: world.phase("sweep") == "paused")
        await world.sleep(2)
        assert world.counts(since=mark) == {STATUS: 1}
        assert world.active("sweep") == 2, "running pods are left alone"
        mark = world.mark()
        world.edit_job("sweep", paused=False)
        await world.until(lambda: world.phase("sweep") == "running")
        await world.sleep(2)
        assert world.counts(since=mark) == {STATUS: 1}
        await world.until(lambda: ended(world), timeout=200)
        assert world.totals("sweep") == (5, 0, 5, 0)

    simulate(scenario)


def test_a_higher_parallelism_is_used_at_once_and_a_lower_one_deletes_nothing() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", template=_template("run-60s"), parallelism=1)
        await world.until(lambda: world.active("sweep") == 1)
        world.edit_job("sweep", parallelism=4)
        await world.until(lambda: world.active("sweep") == 4, timeout=1)
        mark = world.mark()
        world.edit_job("sweep", parallelism=2)
        await world.sleep(5)
        assert world.counts(since=mark) == {STATUS: 1}, "the status shows the new generation, nothing else happens"
        assert len(world.events("TooManyActivePods")) == 1
        await world.until(lambda: ended(world), timeout=200)

    simulate(scenario)


def test_a_deleted_pod_of_an_unfinished_job_is_made_again_under_its_name() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", template=_template("run-20s-stop-2s"), failurePolicy={"type": "Continue"})
        await world.until(lambda: len(world.pods(phase="Running")) == 5)
        victim = world.pods()[0]["metadata"]
        mark = world.mark()
        world.server.delete("pods", victim["name"], actor="user")
        await world.until(lambda: ended(world), timeout=200)
        assert world.totals("sweep") == (5, 0, 5, 0)
        again = world.server.get("pods", victim["name"])
        assert again is not None
        assert again["metadata"]["uid"] != victim["uid"]
        assert world.counts(since=mark)[CREATE] == 1

    simulate(scenario)


def test_a_job_is_deleted_and_made_again_under_its_name() -> None:
    async def scenario(world: World) -> None:
        process = await world.started()
        world.create_job("sweep", template=_template("run-20s-stop-1s"))
        await world.until(lambda: len(world.pods(phase="Running")) == 5)
        old = {p["metadata"]["uid"] for p in world.pods()}
        world.server.delete(JOBS, "sweep", actor="user", propagationPolicy="Background")
        world.create_job("sweep", run="3s")
        await world.until(lambda: ended(world))
        assert world.totals("sweep") == (5, 0, 5, 0)
        assert old.isdisjoint(p["metadata"]["uid"] for p in world.pods())
        world.server.delete(JOBS, "sweep", actor="user", propagationPolicy="Foreground")
        await world.until(lambda: world.gone("sweep") and not world.pods())
        await world.sleep(1)
        assert process.controller.tracker is not None
        assert process.controller.tracker.pending() == 0

    simulate(scenario)


# Nodes.


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_a_node_that_stops_being_eligible_loses_its_pod_and_gets_another_one_later(phase: str) -> None:
    async def scenario(world: World) -> None:
        await world.started()
        await world.add_nodes("slow", annotations={"sim.kruise.io/run-seconds": "60"})
        image = "run-1s" if phase == "Succeeded" else "run-50s"
        world.create_job("sweep", template=_template(image), failurePolicy={"type": "Continue"})
        await world.until(lambda: len(world.pods(phase=phase)) >= 5)
        await world.sleep(2)
        mark = world.mark()
        world.cordon("node-0")
        await world.until(lambda: len(world.pods()) == 5)
        await world.sleep(2)
        assert world.counts(since=mark) == {DELETE: 1, STATUS: 1}
        assert world.totals("sweep")[0] == 5
        mark = world.mark()
        world.cordon("node-0", on=False)
        await world.until(lambda: len(world.pods()) == 6)
        assert world.counts(since=mark)[CREATE] == 1
        await world.until(lambda: ended(world), timeout=300)
        assert world.totals("sweep") == (6, 0, 6, 0)

    simulate(scenario)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_pod_that_dies_of_its_eviction_does_not_fail_a_fail_fast_job(restarted: bool) -> None:
    """The kubelet reports exit code 143 and the phase Failed before an evicted pod is gone."""

    async def scenario(world: World) -> None:
        process = await world.started()
        world.create_job("sweep", template=_template("run-20s-stop-5s"))
        await world.until(lambda: len(world.pods(phase="Running")) == 5)
        world.cordon("node-0")
        await world.until(lambda: any("deletionTimestamp" in p["metadata"] for p in world.pods()))
        if restarted:
            process.crash()
            await world.started()
        await world.until(lambda: len(world.pods()) == 4)
        assert world.phase("sweep") == "running"
        await world.until(lambda: ended(world))
        assert world.totals("sweep") == (4, 0, 4, 0)
        assert world.phase("sweep") == "completed"

    simulate(scenario)


def test_an_evicted_pod_is_no_work_done() -> None:
    """While the pod of the only node is on its way out, the job does not complete; the work runs again later."""

    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", template=_template("run-20s-stop-5s"))
        await world.until(lambda: len(world.pods(phase="Running")) == 1)
        world.cordon("node-0")
        await world.until(lambda: not world.pods())
        assert world.phase("sweep") == "running"
        assert world.totals("sweep") == (0, 0, 0, 0)
        world.cordon("node-0", False)
        await world.until(lambda: ended(world))
        assert world.totals("sweep") == (1, 0, 1, 0)

    simulate(scenario, nodes=1)


def test_a_new_node_gets_its_pod_and_after_the_end_it_gets_none() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", template=_template("run-10s"))
        world.create_job("always-on", run="1s", completionPolicy={"type": "Never"})
        await world.until(lambda: len(world.pods("sweep", phase="Running")) == 5)
        await world.add_nodes("new-1")
        await world.until(lambda: len(world.pods("sweep")) == 6, timeout=1)
        await world.until(lambda: ended(world))
        assert world.totals("sweep") == (6, 0, 6, 0)
        await world.add_nodes("new-2")
        await world.sleep(10)
        assert len(world.pods("sweep")) == 6
        assert world.totals("always-on") == (7, 0, 7, 0)

    simulate(scenario)


def test_a_node_made_again_under_its_name_is_another_node() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", template=_template("run-30s"))
        await world.until(lambda: len(world.pods(phase="Running")) == 5)
        first = {p["metadata"]["name"] for p in world.pods()}
        world.delete_node("node-0")
        await world.sleep(1)
        assert world.totals("sweep") == (4, 5, 0, 0), "its pod is counted while it exists"
        await world.add_nodes("node-0")
        await world.until(lambda: len({p["metadata"]["name"] for p in world.pods()} - first) == 1)
        await world.until(lambda: ended(world), timeout=200)
        assert world.totals("sweep")[0] == 5

    simulate(scenario)


def test_a_job_that_waits_only_for_a_node_that_goes_completes() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        await world.add_nodes("slow", annotations={"sim.kruise.io/run-seconds": "forever"})
        world.create_job("sweep", run="1s")
        await world.until(lambda: len(world.pods(phase="Succeeded")) == 5)
        await world.sleep(2)
        assert world.phase("sweep") == "running"
        world.delete_node("slow")
        await world.until(lambda: world.phase("sweep") == "completed", timeout=2)

    simulate(scenario)


def test_it_works_without_the_scheduler() -> None:
    async def scenario(world: World) -> None:
        world.start_manager(by_scheduler=False)
        world.create_job("sweep", template=_template("run-1s", nodeName="overwritten"))
        await world.until(lambda: world.phase("sweep") == "completed")
        assert {p["spec"]["nodeName"] for p in world.pods()} == {f"node-{n}" for n in range(5)}
        assert all("affinity" not in p["spec"] for p in world.pods())

    simulate(scenario)


# Crashes, restarts, several managers.


@pytest.mark.parametrize("when", [0.0, 0.001, 0.003, 0.004, 0.006, 0.008, 0.02, 0.3, 0.9, 1.2, 1.6, 2.4])
def test_a_crash_at_any_time_changes_nothing_but_the_time(when: float) -> None:
    async def scenario(world: World) -> None:
        process = await world.started()
        world.create_job("sweep", run="0.7s", parallelism=3)
        await world.sleep(when)
        process.crash()
        await world.sleep(1)
        world.start_manager()
        await world.until(lambda: world.phase("sweep") == "completed")
        assert world.totals("sweep") == (7, 0, 7, 0)
        assert len({p["metadata"]["uid"] for p in world.pods()}) == 7
        created = [c for c in world.writes() if c.verb == "create" and c.code == 201]
        assert len(created) == 7, "no node ran twice"

    simulate(scenario, nodes=7)


@pytest.mark.parametrize("seed", range(6))
def test_crashes_in_the_middle_of_a_failure_leave_no_survivor(seed: int) -> None:
    async def scenario(world: World) -> None:
        process = await world.started()
        await world.add_nodes("bad", annotations={"sim.kruise.io/exit-code": "3", "sim.kruise.io/run-seconds": "2"})
        world.create_job("sweep", template=_template("stop-1s"))
        await world.until(lambda: bool(world.pods(phase="Failed")))
        await world.sleep(0.001 * seed)
        process.crash()
        world.start_manager()
        await world.until(lambda: world.phase("sweep") == "failed")
        await world.until(lambda: len(world.pods()) == 1)

    simulate(scenario, nodes=4, seed=seed, pick="random")


def test_b7_timers_survive_a_restart() -> None:
    async def scenario(world: World) -> None:
        process = await world.started()
        world.create_job("late", template=_template("run-900s"), completionPolicy={"activeDeadlineSeconds": 100})
        world.create_job("done", completionPolicy={"ttlSecondsAfterFinished": 100})
        await world.until(lambda: world.phase("done") == "completed")
        start, end = (
            parse_time(world.status(n)[f]) or 0 for n, f in (("late", "startTime"), ("done", "completionTime"))
        )
        await world.sleep(20)
        process.crash()
        await world.sleep(20)
        world.start_manager()
        await world.until(lambda: world.phase("late") == "failed")
        assert 0 <= world.clock.now() - start - 100 <= 2
        await world.until(lambda: world.gone("done"))
        assert 0 <= world.clock.now() - end - 100 <= 2

    simulate(scenario)


def test_a_deadline_that_passed_while_nobody_ran_takes_effect_at_the_start() -> None:
    async def scenario(world: World) -> None:
        process = await world.started()
        world.create_job("late", template=_template("run-900s"), completionPolicy={"activeDeadlineSeconds": 30})
        await world.until(lambda: world.active("late") == 5)
        await process.stop()
        await world.sleep(60)
        await world.started()
        await world.until(lambda: world.phase("late") == "failed", timeout=2)

    simulate(scenario)


def test_a_standby_takes_over_in_the_middle() -> None:
    async def scenario(world: World) -> None:
        first = await world.started()
        second = world.start_manager()
        world.create_job("sweep", run="2s", parallelism=2)
        await world.until(lambda: len(world.pods()) == 4)
        await first.stop()
        await world.until(lambda: second.manager.leading, timeout=5)
        await world.until(lambda: world.phase("sweep") == "completed")
        assert world.counts()[CREATE] == 8

    simulate(scenario, nodes=8)


# Faults.


class Failing(Interceptor):
    """Answers some requests of the manager with an error, before or after they were applied."""

    def __init__(self, answer: Any, *, verb: str, resource: str, applied: bool = False, times: int = 1) -> None:
        self.answer = answer
        self.verb = verb
        self.resource = resource
        self.applied = applied
        self.left = times
        self.node = ""

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        hit = call.actor.startswith("kruise-manager") and call.verb == self.verb and call.resource == self.resource
        if not hit or not self.left or (self.node and self.node.encode() not in (call.body or b"")):
            return await proceed()
        self.left -= 1
        call.document = orjson.loads(call.body or b"null")  # what the checkers see of a request that gets nowhere
        if self.applied:
            await proceed()
        if isinstance(self.answer, Exception):
            raise self.answer
        call.code = self.answer
        reason = {403: "Forbidden", 500: "InternalError", 504: "Timeout"}[self.answer]
        text = b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"%s","code":%d,"message":"on purpose"}'
        return Answer(self.answer, text % (reason.encode(), self.answer), {"content-type": "application/json"})


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("answer", [504, "reset", 500])
def test_b1_a_creation_of_unknown_outcome_never_makes_a_second_pod(applied: bool, answer: Any) -> None:
    from kruise.runtime.errors import Reset

    async def scenario(world: World) -> None:
        await world.started()
        error = Reset("the connection was cut") if answer == "reset" else answer
        world.server.faults = Failing(error, verb="create", resource="pods", applied=applied, times=3)
        world.create_job("sweep", run="1s")
        await world.until(lambda: world.phase("sweep") == "completed")
        assert world.totals("sweep") == (5, 0, 5, 0)
        assert len(world.pods()) == 5

    simulate(scenario)


def test_one_node_whose_pod_is_refused_does_not_stop_the_others() -> None:
    async def scenario(world: World) -> None:
        process = await world.started()
        fault = Failing(403, verb="create", resource="pods", times=1000)
        fault.node = "node-0"
        world.server.faults = fault
        world.create_job("sweep", run="1s", parallelism=1, failurePolicy={"type": "Continue"})
        await world.until(lambda: len(world.pods(phase="Succeeded")) == 4, timeout=10)
        await world.sleep(3)
        assert world.totals("sweep") == (5, 0, 4, 0)
        progressing = world.condition("sweep", "Progressing")
        assert (progressing["status"], progressing["reason"]) == ("False", "AdmissionDenied")
        assert "node-0" in progressing["message"]
        await world.sleep(1200)
        assert 10 <= 1000 - fault.left <= 30, "the node is tried less and less often"
        assert process.metric("controller_runtime_reconcile_errors_total", controller="broadcastjob-controller") > 5
        fault.left = 0
        await world.until(lambda: world.phase("sweep") == "completed", timeout=301)

    simulate(scenario)


def test_what_happens_to_other_nodes_is_seen_although_one_is_refused() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        await world.add_nodes("bad", annotations={"sim.kruise.io/exit-code": "3", "sim.kruise.io/run-seconds": "300"})
        fault = Failing(403, verb="create", resource="pods", times=1000)
        fault.node = "node-0"
        world.server.faults = fault
        world.create_job("sweep", template=_template("stop-1s"))
        await world.until(lambda: bool(world.pods(phase="Failed")), timeout=400)
        await world.until(lambda: world.phase("sweep") == "failed", timeout=1)
        world.server.faults = Interceptor()

    simulate(scenario)


def test_b5_survivors_of_a_failed_deletion_are_deleted_later() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", template=_template("run-900s"), completionPolicy={"activeDeadlineSeconds": 10})
        await world.until(lambda: world.active("sweep") == 5)
        world.server.faults = Failing(500, verb="delete", resource="pods", times=8)
        await world.until(lambda: world.phase("sweep") == "failed")
        await world.until(lambda: world.pods() == [])
        assert world.totals("sweep") == (5, 0, 0, 5)

    simulate(scenario)


def test_g7_a_status_write_that_met_a_conflict_is_made_again() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", run="1s")
        await world.until(lambda: world.phase("sweep") == "running")

        class Meddling(Interceptor):
            done = False

            async def request(self, call: Call, proceed: Proceed) -> Answer:
                if not self.done and call.subresource == "status" and call.actor.startswith("kruise-manager"):
                    self.done = True
                    world.server.patch(JOBS, "sweep", {"metadata": {"labels": {"x": "y"}}}, actor="user")
                return await proceed()

        world.server.faults = Meddling()
        await world.until(lambda: world.phase("sweep") == "completed")
        assert world.counts()[f"{STATUS} 409"] == 1
        await world.sleep(1)
        assert len(world.events("JobComplete")) == 1

    simulate(scenario)


def test_a_failed_status_write_is_made_again() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.server.faults = Failing(500, verb="patch", resource=JOBS, times=5)
        world.create_job("sweep", run="1s")
        await world.until(lambda: world.phase("sweep") == "completed")

    simulate(scenario)


def test_a_failed_deletion_after_the_time_to_live_is_made_again() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", completionPolicy={"ttlSecondsAfterFinished": 5})
        world.server.faults = Failing(500, verb="delete", resource=JOBS, times=4)
        await world.until(lambda: world.gone("sweep"), timeout=30)
        assert math.isclose(world.counts()[f"{DELETE_JOB} 500"], 4)

    simulate(scenario)


def test_a_terminating_namespace_ends_the_job_without_a_storm() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.server.ensure_namespace("team")
        body = world.create_job("sweep", run="5s", parallelism=1)
        job = {"metadata": {"name": "there", "namespace": "team"}, "spec": body["spec"]}
        world.server.create(JOBS, job, actor="user")
        await world.until(lambda: bool(world.server.list("pods", "team")))
        mark = world.mark()
        world.server.delete("namespaces", "team", actor="user")
        await world.until(lambda: world.server.get("namespaces", "team") is None)
        assert sum(n for what, n in world.counts(since=mark).items() if what.startswith("create pods 403")) <= 3
        await world.until(lambda: ended(world))

    simulate(scenario, nodes=3)


# Bad input, takeover.


def test_g8_bad_jobs_get_one_event_each_and_stop_nobody() -> None:
    async def scenario(world: World) -> None:
        process = await world.started()
        container: dict[str, Any] = {"name": "c", "image": "sim.kruise.io/run-1s:v1"}
        spec = {"restartPolicy": "Never", "containers": [{**container, "resources": {"requests": {"cpu": "lots"}}}]}
        world.create_job("bad-quantity", template={"spec": spec})
        stored = world.create_job("bad-type", paused=True)
        # Stored before the schema was there: no API server takes it today.
        stored["spec"]["failurePolicy"] = "FailFast"
        world.server.storage.put(JOBS, Key("default", "bad-type"), stored, actor="user", now=world.clock.now())
        world.create_job("good", run="2s")
        await world.until(lambda: world.phase("good") == "completed")
        await world.sleep(2)
        for number in range(3):
            world.server.patch(JOBS, "bad-quantity", {"metadata": {"labels": {"seen": str(number)}}}, actor="user")
            await world.sleep(1)
        reasons = [(e["regarding"]["name"], e["reason"]) for e in world.server.list("events.events.k8s.io")]
        assert reasons.count(("bad-quantity", "InvalidSpec")) == 1
        assert reasons.count(("bad-type", "InvalidSpec")) == 1
        condition = world.condition("bad-quantity", "Progressing")
        assert (condition["status"], condition["reason"]) == ("False", "InvalidSpec")
        assert "requests[cpu]" in condition["message"]
        (event,) = [e for e in world.events("InvalidSpec") if e["regarding"]["name"] == "bad-type"]
        assert "failurePolicy" in event["note"]
        labels = {"controller": "broadcastjob-controller"}
        assert process.metric("controller_runtime_terminal_reconcile_errors_total", **labels) == 1
        world.edit_job("bad-quantity", template={"spec": {**spec, "containers": [container]}})
        await world.until(lambda: world.phase("bad-quantity") == "completed")
        world.server.delete(JOBS, "bad-type", actor="user")
        await world.until(lambda: world.gone("bad-type"))

    simulate(scenario)


def test_a_half_done_job_of_openkruise_is_taken_over_without_a_second_pod() -> None:
    async def scenario(world: World) -> None:
        job = world.create_job("sweep", run="3s")
        owner = {
            "apiVersion": "apps.kruise.io/v1alpha1",
            "kind": "BroadcastJob",
            "name": "sweep",
            "uid": job["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        terms = lambda node: [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]  # noqa: E731
        for node in ("node-0", "node-1", "node-3"):
            affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms(node)}}
            pod = {
                "metadata": {
                    "generateName": "sweep-",
                    "labels": {
                        "broadcastjob-name": "sweep",
                        "broadcastjob-controller-uid": job["metadata"]["uid"],
                    },
                    "ownerReferences": [owner],
                },
                "spec": {**job["spec"]["template"]["spec"], "affinity": {"nodeAffinity": affinity}},
            }
            world.server.create("pods", pod, actor="openkruise")
        status = {"phase": "running", "active": 3, "desired": 5, "succeeded": 0, "failed": 0}
        world.server.patch(JOBS, "sweep", {"status": status}, subresource="status", actor="openkruise")
        await world.started()
        await world.until(lambda: world.phase("sweep") == "completed")
        assert world.totals("sweep") == (5, 0, 5, 0)
        assert world.counts()[CREATE] == 2

    simulate(scenario)


def test_a_name_that_a_foreign_pod_holds_is_left_alone() -> None:
    from kruise.controllers.broadcastjob.pods import pod_name

    async def scenario(world: World) -> None:
        job = world.create_job("sweep", run="1s", paused=True)
        node = world.server.get("nodes", "node-2")
        assert node is not None
        names = [pod_name("sweep", job["metadata"]["uid"], node["metadata"]["uid"], k) for k in range(2)]
        foreign = {"metadata": {"name": names[0]}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        world.server.create("pods", foreign, actor="somebody")
        await world.started()
        world.edit_job("sweep", paused=False)
        await world.until(lambda: world.phase("sweep") == "completed")
        assert world.server.get("pods", names[1]) is not None
        assert "broadcastjob-name" not in (world.server.get("pods", names[0]) or {})["metadata"].get("labels", {})
        assert world.counts()["create pods 409"] == 1

    simulate(scenario)


def test_cli6_a_dry_run_changes_nothing() -> None:
    async def scenario(world: World) -> None:
        world.start_manager(dry_run=True)
        world.create_job("sweep", run="1s")
        await world.sleep(30)
        assert world.pods() == []
        assert world.phase("sweep") == ""
        assert [c for c in world.server.commits(actor="kruise-manager") if c.resource in ("pods", JOBS)] == []

    simulate(scenario, rest=None)


def test_g8_a_pod_that_cannot_be_decoded_holds_its_node_and_stops_nobody() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", template=_template("run-5s"), failurePolicy={"type": "Continue"}, parallelism=2)
        await world.until(lambda: len(world.pods(phase="Running")) == 2)
        victim = world.pods(phase="Running")[0]
        broken = orjson.loads(orjson.dumps(victim))
        broken["spec"]["tolerations"] = "odd"  # nothing that the simulated node reads
        key = Key("default", victim["metadata"]["name"])
        world.server.storage.put("pods", key, broken, actor="user", now=world.clock.now())
        await world.until(lambda: len(world.pods(phase="Succeeded")) >= 4)
        await world.sleep(2)
        assert world.totals("sweep") == (5, 1, 4, 0)
        assert world.condition("sweep", "Progressing")["reason"] == "PodUnreadable"
        assert len(world.events("PodUnreadable")) == 1
        assert DELETE not in world.counts()
        world.server.storage.remove("pods", key, actor="user", now=world.clock.now())
        await world.until(lambda: world.phase("sweep") == "completed")

    simulate(scenario)


def test_con3_a_watch_that_stalls_costs_live_reads_and_no_second_pod() -> None:
    class Stalled(Interceptor):
        """The manager's pod watch falls silent, and nothing breaks the connection."""

        on = False

        def chunk(self, call: Call, line: bytes) -> Chunk:
            late = self.on and call.actor.startswith("kruise-manager") and call.resource == "pods"
            return Chunk((line,), after=40.0 if late else 0.0)

    async def scenario(world: World) -> None:
        world.server.faults = stalled = Stalled()
        process = await world.started()
        stalled.on = True
        world.create_job("sweep", run="2s", parallelism=2)
        await world.sleep(30)
        assert process.metric("kruise_consistency_timeouts_total", controller="broadcastjob-controller") >= 1
        assert world.active("sweep") <= 2
        stalled.on = False
        await world.until(lambda: world.phase("sweep") == "completed", timeout=300)
        assert world.counts()[CREATE] == 5

    simulate(scenario)


@pytest.mark.parametrize("seed", range(10))
def test_any_order_of_callbacks_with_crashes_and_cordons(seed: int) -> None:
    async def scenario(world: World) -> None:
        rng = Random(seed)
        process = await world.started()
        await world.add_nodes("bad", annotations={"sim.kruise.io/exit-codes": "1", "sim.kruise.io/run-seconds": "3"})
        limit = rng.choice([1, 3, "50%", None])
        world.create_job("all", run="1.5s", failurePolicy={"type": "Continue"}, parallelism=limit)
        world.create_job("fast", run="2.5s", parallelism=limit)
        for _ in range(6):
            await world.sleep(rng.random() * 1.5)
            match rng.choice(["crash", "cordon", "uncordon", "delete", "pause"]):
                case "crash":
                    process.crash()
                    process = world.start_manager()
                case "cordon":
                    world.cordon(f"node-{rng.randrange(6)}")
                case "uncordon":
                    world.cordon(f"node-{rng.randrange(6)}", on=False)
                case "delete" if pods := world.pods("all"):
                    world.server.delete("pods", rng.choice(pods)["metadata"]["name"], actor="user")
                case "pause":
                    world.edit_job("all", paused=rng.random() < 0.5)
        for number in range(6):
            world.cordon(f"node-{number}", on=False)
        world.edit_job("all", paused=False)
        await world.until(lambda: ended(world, "all") and ended(world, "fast"), timeout=300)
        assert world.phase("all") == "completed", "nodes may have been cordoned at that moment, so counts differ"
        assert world.totals("all")[1] == 0

    simulate(scenario, nodes=6, seed=seed, pick="random")
