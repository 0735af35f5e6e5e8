"""BroadcastJob in memory: the production manager, the embedded API server, simulated nodes, virtual time.

Counted by the server's request log, exactly: what a job costs in writes (performance 2.3). The write guard and the
invariants G1 to G5, G7 and B1 to B8 look on in every test; each ends with ten virtual minutes in which nothing happens.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from kruise.runtime.clock import parse_time
from tests.simulation.world import CREATE, DELETE, DELETE_JOB, JOBS, STATUS, World, ended, simulate, template_of

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
        world.create_job("nowhere", template=template_of("run-1s", nodeSelector={"no": "node"}))
        await world.sleep(10)
        assert world.condition("open", "Progressing")["reason"] == "AllNodesDone"
        assert world.condition("paused", "Progressing")["reason"] == "Paused"
        assert world.condition("nowhere", "Progressing")["reason"] == "NoEligibleNode"

    simulate(scenario, rest=3600.0)


def test_events_of_the_job_itself_and_of_its_pods_cost_nothing() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", run="forever", template=template_of("ready-1s"))
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


# How a job ends.


def test_fail_fast_costs_a_delete_per_active_pod_and_one_status() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        await world.add_nodes("bad", annotations={"sim.kruise.io/exit-code": "3", "sim.kruise.io/run-seconds": "5"})
        world.create_job("sweep", template=template_of("stop-1s"))
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
        world.create_job("sweep", template=template_of("run-900s"), completionPolicy={"activeDeadlineSeconds": 60})
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
        world.create_job("sweep", template=template_of("run-20s"), parallelism=2)
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
        world.create_job("sweep", template=template_of("run-60s"), parallelism=1)
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
        world.create_job("sweep", template=template_of("run-20s-stop-2s"), failurePolicy={"type": "Continue"})
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
        world.create_job("sweep", template=template_of("run-20s-stop-1s"))
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
        world.create_job("sweep", template=template_of(image), failurePolicy={"type": "Continue"})
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
        world.create_job("sweep", template=template_of("run-20s-stop-5s"))
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
        world.create_job("sweep", template=template_of("run-20s-stop-5s"))
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
        world.create_job("sweep", template=template_of("run-10s"))
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
        world.create_job("sweep", template=template_of("run-30s"))
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
        world.create_job("sweep", template=template_of("run-1s", nodeName="overwritten"))
        await world.until(lambda: world.phase("sweep") == "completed")
        assert {p["spec"]["nodeName"] for p in world.pods()} == {f"node-{n}" for n in range(5)}
        assert all("affinity" not in p["spec"] for p in world.pods())

    simulate(scenario)
