"""What is run under faults: BroadcastJobs, and users and nodes that do things to them.

Purpose: each workload is a script of users' actions, a condition that must come true once nothing goes wrong any more,
and what must then be the same as without any fault.

Guarantees: a script never fails because of a fault: it waits for what it needs, and goes on when that does not come in
time. Where faults may change an outcome by the rules (a FailFast job counts what it found), only the rest is compared.

What this does not do: it checks no invariant; those look on at every commit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from kruise.simulator.apiserver.call import Call
from kruise.simulator.invariants.broadcastjob import NODE_UID
from kruise.simulator.scenario_world import JOBS, Body, Cluster

Script = Callable[[Cluster], Awaitable[None]]
Outcome = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing to run under faults."""

    name: str
    script: Script
    done: Callable[[Cluster], bool]
    """What must come true after the faults, within a bounded time (L1, L2)."""
    end: Callable[[Cluster], Outcome]
    """What must be the same as without faults."""
    nodes: int = 4
    writes: int = 8
    """How many writes a run without faults makes, roughly: faults are drawn among them."""
    once: bool = True
    """A pod is created once per (job, node), whatever happens."""
    volumes: bool = False
    """Claims are bound."""
    pods: bool = False
    """What its pods do is drawn as well."""
    gates: tuple[str, ...] = ()
    """Feature gates that are on beside the defaults."""
    webhooks: bool = False
    """The managers serve admission, and what its calls meet is drawn as well."""
    converts: bool = False
    """Beside that they convert between the versions of their kinds, which users ask for."""
    refuses: bool = False
    """Pods may be refused, for a fault of their users."""


def counts(cluster: Cluster) -> Outcome:
    """Return phase and counts of every job, and how many pods of each phase there are."""
    jobs: Outcome = {}
    for job in cluster.server.list(JOBS):
        status = job.get("status") or {}
        jobs[job["metadata"]["name"]] = [
            status.get(name) for name in ("phase", "desired", "active", "succeeded", "failed")
        ]
    return {"jobs": jobs, "pods": pods_by_node(cluster)}


def pods_by_node(cluster: Cluster) -> Outcome:
    """Return the phases of the pods of each job on each node."""
    found: Outcome = {}
    for pod in cluster.pods():
        name = pod["metadata"].get("labels", {}).get("broadcastjob-name", "")
        where = f"{name} on {pod['spec'].get('nodeName', '?')}"
        found.setdefault(where, []).append((pod.get("status") or {}).get("phase"))
    return dict(sorted(found.items()))


def phases(cluster: Cluster) -> Outcome:
    """Return the phase of every job, and which pods still run."""
    return {
        "jobs": {job["metadata"]["name"]: cluster.phase(job["metadata"]["name"]) for job in cluster.server.list(JOBS)},
        "running": sorted(str(p["spec"].get("nodeName")) for p in cluster.pods() if alive(p)),
    }


def alive(pod: Body) -> bool:
    """Tell whether a pod has not ended, and will not be deleted."""
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not ended and not pod["metadata"].get("deletionTimestamp")


def _completed(*names: str) -> Callable[[Cluster], bool]:
    return lambda c: all(c.phase(name) == "completed" for name in names)


def _failed(c: Cluster) -> bool:
    return c.phase("sweep") == "failed" and not any(alive(p) for p in c.pods("sweep"))


def _limit_passed(c: Cluster) -> bool:
    """The pod over its limit is no active one, and is left alone, as OpenKruise leaves it."""
    alive_on = [p["spec"].get("nodeName") for p in c.pods("sweep") if alive(p)]
    return c.phase("sweep") == "failed" and alive_on == ["bad"]


def _nothing_left(c: Cluster) -> bool:
    return not c.server.list(JOBS) and not c.pods()


def by_node(c: Cluster) -> Outcome:
    """Return the phases of the pods that are for each node that is there; a node made again is another node."""
    found: Outcome = {}
    for node in c.server.list("nodes"):
        uid = node["metadata"]["uid"]
        mine = [p for p in c.pods("sweep") if (p["metadata"].get("annotations") or {}).get(NODE_UID) == uid]
        found[node["metadata"]["name"]] = [(p.get("status") or {}).get("phase") for p in mine]
    return {"phase": c.phase("sweep"), "pods": found}


def _all_succeeded(c: Cluster) -> bool:
    status = c.status("sweep")
    every = all(phases == ["Succeeded"] for phases in by_node(c)["pods"].values())
    return every and status.get("active") == 0 and status["desired"] == len(c.server.list("nodes"))


# The scripts.


async def _plain(c: Cluster) -> None:
    c.create_job("sweep", "run-1s")


async def _parallel(c: Cluster) -> None:
    c.create_job("sweep", "run-0.5s", parallelism=2)


async def _growing(c: Cluster) -> None:
    """Nodes join that sort before all others, while pods are being created: B4 on a late cache.

    How many of them get a pod depends on when the manager sees them: a watch that fell silent is noticed after 70 s,
    and the job may be complete by then on the nodes that were known; so the phase alone is compared.
    """
    c.create_job("sweep", "run-4s", parallelism=2)
    for name in ("m-node", "f-node", "b-node", "a-node"):
        await c.patient(lambda: len(c.pods("sweep")) >= 2, 20)
        await c.add_nodes(name)
        await c.clock.sleep(0.05)


async def _fail_fast(c: Cluster) -> None:
    await c.add_nodes("bad", annotations={"sim.kruise.io/exit-code": "3", "sim.kruise.io/run-seconds": "2"})
    c.create_job("sweep", "stop-1s")


async def _continue(c: Cluster) -> None:
    await c.add_nodes("bad", annotations={"sim.kruise.io/exit-code": "3"})
    c.create_job("sweep", "run-1s", failurePolicy={"type": "Continue"})


async def _pause_policy(c: Cluster) -> None:
    await c.add_nodes("bad", annotations={"sim.kruise.io/exit-codes": "3"})
    c.create_job("sweep", "run-1s", parallelism=1, failurePolicy={"type": "Pause"})
    await c.patient(lambda: c.phase("sweep") == "paused", 200)
    await c.patient(lambda: bool(c.pods("sweep", phase="Failed")), 400)
    c.annotate_node("bad", {"sim.kruise.io/exit-codes": "0"})
    for pod in c.pods("sweep", phase="Failed"):
        c.delete_pod(pod)


async def _deadline(c: Cluster) -> None:
    c.create_job("sweep", "stop-1s", completionPolicy={"activeDeadlineSeconds": 12})
    await c.patient(lambda: c.phase("sweep") == "failed", 60)


async def _more_time(c: Cluster) -> None:
    """The user gives more time at the very moment at which the job is to fail: the old decision must not stand.

    Its pods were deleted by then. Whether one that dies of that counts as failed depends on who looks when, as with
    OpenKruise; so the phase alone is compared.
    """
    given = False

    def look(call: Call) -> None:
        nonlocal given
        status = (call.document or {}).get("status") or {} if call.subresource == "status" else {}
        if status.get("phase") == "failed" and not given:
            given = True
            c.edit_job("sweep", completionPolicy={"activeDeadlineSeconds": 100_000})

    c.injector.on_write = look
    c.create_job("sweep", "run-3s", completionPolicy={"activeDeadlineSeconds": 2}, failurePolicy={"type": "Continue"})
    await c.patient(lambda: given, 300)


async def _time_to_live(c: Cluster) -> None:
    c.create_job("sweep", "run-1s", completionPolicy={"ttlSecondsAfterFinished": 8})
    await c.patient(lambda: c.job("sweep") is None, 60)


async def _churn(c: Cluster) -> None:
    """Nodes come and go, and one comes back under its old name."""
    c.create_job("sweep", "run-2s", completionPolicy={"type": "Never"}, failurePolicy={"type": "Continue"})
    await c.patient(lambda: len(c.pods("sweep")) >= 3, 20)
    c.delete_node("node-0")
    await c.add_nodes("late-1")
    await c.clock.sleep(1.5)
    await c.add_nodes("node-0")
    await c.clock.sleep(4)
    c.delete_node("node-1")
    await c.clock.sleep(0.01)
    await c.add_nodes("node-1")
    await c.clock.sleep(1)


async def _cordon(c: Cluster) -> None:
    c.create_job("sweep", "run-3s", completionPolicy={"type": "Never"}, failurePolicy={"type": "Continue"})
    await c.patient(lambda: len(c.pods("sweep", phase="Running")) >= 4, 20)
    for name in ("node-0", "node-2"):
        c.cordon(name)
        await c.clock.sleep(0.02)
    await c.clock.sleep(4)
    for name in ("node-0", "node-2"):
        c.cordon(name, on=False)
    await c.clock.sleep(0.004)
    c.cordon("node-3")
    c.cordon("node-3", on=False)


async def _crash_loop(c: Cluster) -> None:
    await c.add_nodes("bad", annotations={"sim.kruise.io/exit-codes": "1", "sim.kruise.io/run-seconds": "1"})
    c.create_job("sweep", "stop-1s", restart_policy="OnFailure", failurePolicy={"restartLimit": 1})
    await c.patient(lambda: c.phase("sweep") == "failed", 120)


async def _deleted_pods(c: Cluster) -> None:
    """The user deletes pods that run, and pods that succeeded, of a job that goes on."""
    c.create_job("sweep", "run-2s", completionPolicy={"type": "Never"}, failurePolicy={"type": "Continue"})
    for phase, seconds in (("Running", 20), ("Succeeded", 20)):
        await c.patient(lambda phase=phase: len(c.pods("sweep", phase=phase)) >= 2, seconds)  # type: ignore[misc]
        for pod in c.pods("sweep")[:2]:
            c.delete_pod(pod)
        await c.clock.sleep(0.5)


async def _made_again(c: Cluster) -> None:
    """The job is deleted and made again under its name, twice."""
    c.create_job("sweep", "run-20s-stop-1s")
    await c.patient(lambda: len(c.pods("sweep", phase="Running")) >= 2, 20)
    c.delete_job("sweep")
    c.create_job("sweep", "run-30s-stop-1s", parallelism=2)
    await c.clock.sleep(0.3)
    c.delete_job("sweep")
    c.create_job("sweep", "run-1s")


async def _foreground(c: Cluster) -> None:
    c.create_job("sweep", "run-20s-stop-1s", parallelism=3)
    await c.patient(lambda: len(c.pods("sweep", phase="Running")) >= 2, 20)
    c.delete_job("sweep", "Foreground")


async def _two_jobs(c: Cluster) -> None:
    c.create_job("sweep", "run-1s", parallelism=1)
    c.create_job("other", "run-1s", parallelism="50%")


async def _half_done(c: Cluster) -> None:
    """A job that OpenKruise began: generated names, no node uid."""
    job = c.create_job("sweep", "run-3s", paused=True)
    meta = job["metadata"]
    owner = {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "BroadcastJob",
        "name": "sweep",
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    for node in ("node-0", "node-2"):
        match = {"key": "metadata.name", "operator": "In", "values": [node]}
        required = {"nodeSelectorTerms": [{"matchFields": [match]}]}
        affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
        pod = {
            "metadata": {
                "generateName": "sweep-",
                "labels": {"broadcastjob-name": "sweep", "broadcastjob-controller-uid": meta["uid"]},
                "ownerReferences": [owner],
            },
            "spec": {**job["spec"]["template"]["spec"], "affinity": affinity},
        }
        c.server.create("pods", pod, actor="openkruise")
    c.edit_job("sweep", paused=False)


async def _paused_by_hand(c: Cluster) -> None:
    c.create_job("sweep", "run-2s", parallelism=1)
    await c.patient(lambda: bool(c.pods("sweep")), 10)
    c.edit_job("sweep", paused=True)
    await c.clock.sleep(4)
    c.edit_job("sweep", paused=False, parallelism=3)


async def _swept_up(c: Cluster) -> None:
    """The user deletes the pods of a job that has ended: a process with an old view must not run it again."""
    c.create_job("sweep", "run-0.5s")
    if not await c.patient(lambda: c.phase("sweep") == "completed", 200):
        return
    await c.clock.sleep(20)
    for pod in c.pods("sweep"):
        c.delete_pod(pod)
    await c.clock.sleep(40)


def _only_phase(c: Cluster) -> Outcome:
    return {"phase": c.phase("sweep")}


JOB_WORKLOADS: Final[dict[str, Workload]] = {
    one.name: one
    for one in (
        Workload("plain", _plain, _completed("sweep"), counts),
        Workload("parallelism", _parallel, _completed("sweep"), counts, nodes=5, writes=14),
        Workload("growing", _growing, _completed("sweep"), _only_phase, nodes=3, writes=14),
        Workload("fail-fast", _fail_fast, _failed, phases, nodes=3, writes=12, once=False),
        Workload("continue", _continue, _completed("sweep"), counts, nodes=3),
        Workload("pause-policy", _pause_policy, _completed("sweep"), counts, nodes=2, writes=12, once=False),
        Workload("deadline", _deadline, _failed, phases, nodes=3, writes=12, once=False),
        Workload("more-time", _more_time, _completed("sweep"), _only_phase, nodes=3, writes=14, once=False),
        Workload("time-to-live", _time_to_live, _nothing_left, counts, nodes=3),
        Workload("churn", _churn, _all_succeeded, by_node, writes=16, once=False),
        Workload("cordon", _cordon, _all_succeeded, by_node, writes=16, once=False),
        Workload("crash-loop", _crash_loop, _limit_passed, phases, nodes=3, writes=12, once=False),
        Workload("deleted-pods", _deleted_pods, _all_succeeded, by_node, nodes=3, writes=14, once=False),
        Workload("made-again", _made_again, _completed("sweep"), counts, nodes=3, writes=16, once=False),
        Workload("foreground", _foreground, _nothing_left, counts, writes=6, once=False),
        Workload("two-jobs", _two_jobs, _completed("sweep", "other"), counts, nodes=3, writes=18),
        Workload("half-done", _half_done, _completed("sweep"), counts, writes=6),
        Workload("paused-by-hand", _paused_by_hand, _completed("sweep"), counts, writes=12),
        Workload("swept-up", _swept_up, _completed("sweep"), _only_phase, nodes=3),
    )
}
