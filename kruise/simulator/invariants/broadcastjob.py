"""The invariants of BroadcastJob: B1 to B8, in the form of parity.

Purpose: ``reliability.md`` 3.3, checked at every commit and at rest, against the server's truth.

Guarantees (ids as there): B1 one live pod per job and node; B2 no pod is created where one exists; B3 only on nodes
that exist and fit; B4 parallelism; B5 nothing after the end, and no survivors; B6 restart limit; B7 deletion and
deadline; B8 counts.

What this does not do: whether a pod fits a node is the caller's function, since the rule itself is under test
elsewhere. A decision that was right a moment ago is no violation: what changed less than ``slack`` seconds before a
commit counts as unchanged, because no write can be conditional on another object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Final

from kruise.runtime.clock import parse_time
from kruise.simulator.invariants.model import Actor, Body, Checker, Observed, World, controller_ref, key_of
from kruise.simulator.invariants.sidecarset_facts import as_outside

JOBS: Final = "broadcastjobs.apps.kruise.io"
NODE_UID: Final = "apps.kruise.io/broadcastjob-node-uid"
_NAME: Final = re.compile(r".*-[bcdfghjklmnpqrstvwxz2456789]{10}\Z")
UNLIMITED: Final = 2**31 - 1
_ENDED: Final = ("Succeeded", "Failed")
Fits = Callable[[Body, Body], bool]
"""Tells whether the pods of a job may run on a node: (job, node)."""


def phase(pod: Body) -> str:
    """Return ``status.phase``."""
    return str((pod.get("status") or {}).get("phase") or "")


def terminating(obj: Body) -> bool:
    """Tell whether a deletion has begun."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def restart_failed(pod: Body, job: Body) -> bool:
    """Tell whether a pod has restarted more often than the job allows (B6)."""
    limit = ((job.get("spec") or {}).get("failurePolicy") or {}).get("restartLimit") or 0
    if pod["spec"].get("restartPolicy") != "OnFailure" or phase(pod) in _ENDED:
        return False
    status = pod.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return sum(s.get("restartCount") or 0 for s in statuses) > limit


def classify(pods: Iterable[Body], job: Body) -> tuple[int, int, int]:
    """Return how many pods are active, succeeded and failed."""
    active = succeeded = failed = 0
    for pod in pods:
        if phase(pod) == "Succeeded":
            succeeded += 1
        elif phase(pod) == "Failed":
            failed += 1
        elif not terminating(pod):
            if restart_failed(pod, job):
                failed += 1
            else:
                active += 1
    return active, succeeded, failed


def node_of(pod: Body, world: World) -> str:
    """Return the uid of the node that a pod is for: from its annotation, else from the node's name; ``""`` if none."""
    uid = (pod["metadata"].get("annotations") or {}).get(NODE_UID)
    if uid:
        return str(uid)
    name = pod["spec"].get("nodeName") or affinity_name(pod)
    if not name:
        return ""
    for node in world.all("nodes"):
        if node["metadata"]["name"] == name:
            return str(node["metadata"]["uid"])
    return f"name:{name}"


def affinity_name(pod: Body) -> str:
    """Return the node name that the pod's required node affinity names."""
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in affinity.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("operator") == "In" and len(field["values"]) == 1:
                return str(field["values"][0])
    return ""


def ended(job: Body) -> str:
    """Return ``Complete``, ``Failed`` or ``""``."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return str(condition["type"])
    return "Failed" if (job.get("status") or {}).get("phase") == "failed" else ""


def _policy(job: Body, name: str) -> Body:
    return (job.get("spec") or {}).get(name) or {}


class BroadcastJobs(Checker):
    """B1 to B8. *manager* recognises our actors; *fits* may be left out, then B3 and B2's deletions are looser."""

    def __init__(self, manager: Actor, *, fits: Fits | None = None, slack: float = 5.0) -> None:
        super().__init__()
        self._manager = manager
        self._fits = fits
        self._slack = slack
        self._names: dict[tuple[str, str], str] = {}
        self._earlier: dict[str, list[tuple[float, Body]]] = {}
        """Job or node uid -> its states that were replaced lately, with the time of that."""
        self._where: dict[str, tuple[str, str]] = {}
        self._at: dict[tuple[str, str], dict[str, Body]] = {}
        """(job uid, node uid) -> pod uid -> pod: the index that keeps a check from looking at every pod."""
        self._primed = False
        self._nodes_gone: list[float] = []
        self._failed_at: dict[str, float] = {}
        """Job uid -> when it last had a failed pod, which may be gone since."""

    # Commits

    def on_commit(self, commit: Observed, before: World) -> None:
        commit = as_outside(commit)
        if commit.resource in (JOBS, "nodes"):
            if commit.old is not None:
                self._earlier.setdefault(commit.uid, []).append((commit.time, commit.old))
            if commit.resource == JOBS:
                self._on_job(commit, before)
            elif commit.verb == "delete":
                self._nodes_gone.append(commit.time)
            return
        if commit.resource != "pods":
            return
        if not self._primed:
            self._primed = True
            for pod in before.all("pods"):
                self._place(pod, before)
        self._check_pod(commit, before)
        if commit.new is not None:
            self._place(commit.new, before)
            if phase(commit.new) == "Failed" and (ref := controller_ref(commit.new)) is not None:
                self._failed_at[str(ref["uid"])] = commit.time
        else:
            self._at.get(self._where.pop(commit.uid, ("", "")), {}).pop(commit.uid, None)

    def _place(self, pod: Body, world: World) -> None:
        uid, ref = str(pod["metadata"]["uid"]), controller_ref(pod)
        self._at.get(self._where.pop(uid, ("", "")), {}).pop(uid, None)
        if ref is not None and ref.get("kind") == "BroadcastJob":
            place = self._where[uid] = (str(ref["uid"]), node_of(pod, world))
            self._at.setdefault(place, {})[uid] = pod

    def _check_pod(self, commit: Observed, before: World) -> None:
        ref = controller_ref(commit.obj)
        if ref is None or ref.get("kind") != "BroadcastJob":
            return
        if commit.verb == "create" and self._manager(commit.actor):
            self._on_pod_created(commit, before, str(ref["uid"]))
        elif commit.request is not None and commit.request.verb == "delete" and self._manager(commit.actor):
            self._on_pod_deleted(commit, before, str(ref["uid"]))

    def _states(self, obj: Body, now: float) -> list[Body]:
        """Return the states of *obj* that a decision could have been made on: the current and the recent ones."""
        earlier = self._earlier.get(obj["metadata"]["uid"], [])
        return [obj, *(state for time, state in earlier if now - time <= self._slack)]

    def _on_pod_created(self, commit: Observed, before: World, uid: str) -> None:
        pod = commit.obj
        job = before.recent(JOBS, uid, commit.time, self._slack)
        node = node_of(pod, before)
        if not node:
            self.violated("B3", commit, "a pod is created for no node in particular")
            return
        same = list(self._at.get((uid, node), {}).values())
        if any(phase(p) not in _ENDED for p in same):
            self.violated("B1", commit, f"{same[0]['metadata']['name']} lives on the same node")
        if same:
            self.violated("B2", commit, f"{same[0]['metadata']['name']} exists for the same node")
        self._check_name(commit, before, uid, node)
        if job is None:
            return  # G1 says it
        self._check_node(commit, before, job, node)
        states = self._states(job, commit.time)
        if all(ended(state) for state in states):
            self.violated("B5", commit, f"a pod is created for a job that has ended ({ended(job)})")
        self._check_limit(commit, before, job, states)

    def _check_limit(self, commit: Observed, before: World, job: Body, states: list[Body]) -> None:
        if any(resolve_parallelism(state, 0) == UNLIMITED for state in states):
            return
        # A percentage of the nodes that were eligible lately: no creation is conditional on the number of nodes.
        nodes = sum(
            self._fits is None or any(self._fits(job, state) for state in self._states(node, commit.time))
            for node in before.all("nodes")
        )
        nodes += sum(commit.time - gone <= self._slack for gone in self._nodes_gone)
        limit = max(resolve_parallelism(state, nodes) for state in states)
        active = classify(before.owned("pods", str(job["metadata"]["uid"])), job)[0]
        if active >= limit:
            self.violated("B4", commit, f"{active} pods are active and the limit is {limit}")

    def _check_name(self, commit: Observed, before: World, uid: str, node: str) -> None:
        name = commit.key.name
        if len(name) > 63 or not _NAME.match(name):
            self.violated("B1", commit, f"the name {name!r} is not one of ours")
        first = self._names.setdefault((uid, node), name)
        if name == first:
            return
        other = before.get("pods", commit.key._replace(name=first))
        if other is None or (controller_ref(other) or {}).get("uid") == uid:
            self.violated("B1", commit, f"the same job and node had the name {first!r}, which nobody else holds")

    def _check_node(self, commit: Observed, before: World, job: Body, uid: str) -> None:
        node = before.recent("nodes", uid, commit.time, self._slack)
        if node is None:
            self.violated("B3", commit, f"the node {uid} does not exist")
        elif self._fits is not None:
            jobs, nodes = self._states(job, commit.time), self._states(node, commit.time)
            if not any(self._fits(j, n) for j in jobs for n in nodes):
                self.violated("B3", commit, f"the node {node['metadata']['name']} is not eligible")

    def _on_pod_deleted(self, commit: Observed, before: World, uid: str) -> None:
        job = before.recent(JOBS, uid, commit.time, self._slack)
        if (
            job is None
            or self._fits is None
            or terminating(job)
            or any(ended(s) for s in self._states(job, commit.time))
        ):
            return
        assert commit.old is not None, "a deleted pod was there"
        if any(_should_fail(state, before, commit.time) for state in self._states(job, commit.time)):
            return
        # A pod that is deleted ends as Failed, and may be gone before the end of the job that follows from it.
        lately = commit.time - self._failed_at.get(uid, -math.inf) <= self._slack
        if lately and _policy(job, "failurePolicy").get("type") == "FailFast":
            return
        node = before.recent("nodes", node_of(commit.old, before), commit.time, 0.0)
        if node is None:
            return
        jobs, nodes = self._states(job, commit.time), self._states(node, commit.time)
        if all(self._fits(j, n) for j in jobs for n in nodes):
            self.violated("B2", commit, "a pod of an unfinished job is deleted, and its node is eligible")

    def _on_job(self, commit: Observed, before: World) -> None:
        if commit.new is not None:
            status = commit.new.get("status") or {}
            for name in ("active", "succeeded", "failed", "desired"):
                if (status.get(name) or 0) < 0:
                    self.violated("B8", commit, f"status.{name} is {status[name]}")
            if ended(commit.new) == "Complete" and (commit.old is None or not ended(commit.old)):
                self._check_complete(commit, before)
        if commit.request is not None and commit.request.verb == "delete" and self._manager(commit.actor):
            self._check_job_deleted(commit)

    def _check_complete(self, commit: Observed, before: World) -> None:
        nodes = {n["metadata"]["uid"] for n in before.all("nodes")}
        for pod in before.owned("pods", commit.uid):
            if phase(pod) not in _ENDED and not terminating(pod) and node_of(pod, before) in nodes:
                self.violated("B5", commit, f"the job is complete while {pod['metadata']['name']} is active")

    def _check_job_deleted(self, commit: Observed) -> None:
        job = commit.old or commit.obj
        options = commit.request.body if commit.request is not None and isinstance(commit.request.body, dict) else {}
        wanted = options.get("preconditions") or {}
        if not wanted.get("uid") or not wanted.get("resourceVersion"):
            self.violated("B7", commit, "a job is deleted without uid and resource version")
        done = parse_time((job.get("status") or {}).get("completionTime"))
        ttl = _policy(job, "completionPolicy").get("ttlSecondsAfterFinished")
        if not ended(job) or done is None or ttl is None:
            self.violated("B7", commit, "a job is deleted that has not ended or has no time to live")
        elif commit.time + 1 < done + ttl:
            self.violated("B7", commit, f"a job is deleted {done + ttl - commit.time:.0f} s early")

    # Rest

    def at_quiescence(self, world: World, now: float) -> None:
        for job in world.all(JOBS):
            uid = str(job["metadata"]["uid"])
            pods = list(world.owned("pods", uid))
            if ended(job):
                if ended(job) == "Failed":
                    for pod in pods:
                        if phase(pod) not in _ENDED and not terminating(pod) and not restart_failed(pod, job):
                            self.violated("B5", key_of(job), f"the job failed, and {pod['metadata']['name']} lives on")
                continue
            self._check_counts(job, pods)
            self._check_alive(job, pods, now)
            live: dict[str, str] = {}
            for pod in pods:
                if phase(pod) not in _ENDED and not terminating(pod):
                    name = str(pod["metadata"]["name"])
                    other = live.setdefault(node_of(pod, world), name)
                    if other != name:
                        self.violated("B1", key_of(job), f"{other} and {name} live on one node")

    def _check_counts(self, job: Body, pods: list[Body]) -> None:
        status = job.get("status") or {}
        counted = dict(zip(("active", "succeeded", "failed"), classify(pods, job), strict=True))
        for name, value in counted.items():
            if (status.get(name) or 0) != value:
                self.violated("B8", key_of(job), f"status.{name} is {status.get(name) or 0}, and {value} pods are")

    def _check_alive(self, job: Body, pods: list[Body], now: float) -> None:
        paused = (job.get("spec") or {}).get("paused")
        if _policy(job, "failurePolicy").get("type") == "FailFast" and not paused:
            for pod in pods:
                if restart_failed(pod, job):
                    self.violated("B6", key_of(job), f"{pod['metadata']['name']} is over the restart limit")
        if not paused and _deadline_passed(job, now - 2):
            self.violated("B7", key_of(job), "the deadline passed more than 2 s ago, and the job goes on")


def _should_fail(job: Body, world: World, now: float) -> bool:
    """Tell whether the job has a reason to fail, so that its active pods may go before its status says so."""
    if _deadline_passed(job, now):
        return True
    failed = classify(world.owned("pods", job["metadata"]["uid"]), job)[2]
    return failed > 0 and _policy(job, "failurePolicy").get("type") == "FailFast"


def _deadline_passed(job: Body, now: float) -> bool:
    policy = _policy(job, "completionPolicy")
    seconds = policy.get("activeDeadlineSeconds")
    started = parse_time((job.get("status") or {}).get("startTime"))
    return seconds is not None and policy.get("type") != "Never" and started is not None and now >= started + seconds


def resolve_parallelism(job: Body, desired: int) -> int:
    """Return the limit of active pods for *desired* nodes; 0 for a text that is no number."""
    value = (job.get("spec") or {}).get("parallelism")
    if value is None:
        return UNLIMITED
    if isinstance(value, int):
        return value
    digits = str(value).replace("%", "")
    return math.ceil(int(digits) * desired / 100) if digits.isdigit() else 0
