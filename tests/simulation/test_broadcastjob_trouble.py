"""BroadcastJob in memory, when something goes wrong: crashes, take-overs, faults of the API server, bad input.

The write guard and the invariants G1 to G5, G7 and B1 to B8 look on in every test; each ends with ten virtual minutes
in which nothing happens.
"""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest

from kruise.runtime.clock import Random, parse_time
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Chunk, Interceptor, Proceed
from tests.simulation.world import CREATE, DELETE, DELETE_JOB, JOBS, STATUS, World, ended, simulate, template_of

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
        world.create_job("sweep", template=template_of("stop-1s"))
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
        world.create_job("late", template=template_of("run-900s"), completionPolicy={"activeDeadlineSeconds": 100})
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
        world.create_job("late", template=template_of("run-900s"), completionPolicy={"activeDeadlineSeconds": 30})
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
        world.create_job("sweep", template=template_of("stop-1s"))
        await world.until(lambda: bool(world.pods(phase="Failed")), timeout=400)
        await world.until(lambda: world.phase("sweep") == "failed", timeout=1)
        world.server.faults = Interceptor()

    simulate(scenario)


def test_b5_survivors_of_a_failed_deletion_are_deleted_later() -> None:
    async def scenario(world: World) -> None:
        await world.started()
        world.create_job("sweep", template=template_of("run-900s"), completionPolicy={"activeDeadlineSeconds": 10})
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
        world.create_job("sweep", template=template_of("run-5s"), failurePolicy={"type": "Continue"}, parallelism=2)
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
