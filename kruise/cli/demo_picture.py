"""What the demo has seen of the cluster and of the job, from the commits of the API server.

Purpose: one picture that the table, the plain lines and the checks share, so that what is shown and what is checked
cannot differ. Pure: commits go in, happenings come out.

Guarantees: every commit is seen, so the largest number of pods that were active at once is exact, not sampled.

What this does not do: it asks nobody; what is not committed did not happen.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Final

from kruise.apis.broadcastjob import BROADCASTJOBS, LABEL_JOB_NAME
from kruise.cli.demo_view import Cell, Sheet
from kruise.runtime.manager.lease import LEASES
from kruise.simulator.apiserver.storage import Commit

__all__ = ["Happening", "Kind", "Picture", "PodSeen", "sheet"]

Body = dict[str, Any]

JOBS: Final = str(BROADCASTJOBS)
LEASE: Final = str(LEASES)
_ROWS: Final = 16
"""Nodes in the table; of more the interesting ones are shown."""


class Kind(enum.Enum):
    """What can happen."""

    READY = "a node is Ready"
    RUNS = "a pod runs"
    SUCCEEDED = "a pod succeeded"
    FAILED = "a pod failed"
    WANTS = "the job wants another number of pods"
    ENDED = "the job completed, failed, or was paused"
    LEADS = "a manager holds the Lease"


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that a person may want to read."""

    kind: Kind
    subject: str
    """The node, or the holder of the lease, or the phase of the job."""
    number: int = 0
    """An exit code, or how many pods the job wants."""


@dataclass(slots=True)
class PodSeen:
    """One pod of the job."""

    name: str
    node: str = ""
    phase: str = "Pending"
    exit_code: int | None = None
    gone: bool = False

    @property
    def active(self) -> bool:
        """Whether it counts against the parallelism."""
        return not self.gone and self.phase not in ("Succeeded", "Failed")


@dataclass(slots=True)
class Picture:
    """The cluster, as far as the demo shows it."""

    job: str
    """The name of the job to look at."""
    namespace: str = "default"
    nodes: dict[str, bool] = field(default_factory=dict)
    """Node -> whether it is Ready, in the order of their arrival."""
    pods: dict[str, PodSeen] = field(default_factory=dict)
    """By uid: two pods of one name are two."""
    status: Body = field(default_factory=dict)
    holder: str = ""
    most_active: int = 0

    def take(self, commit: Commit) -> list[Happening]:
        """Take in a commit; return what is new in it."""
        if commit.resource == "nodes":
            return self._node(commit)
        if commit.resource == "pods":
            return self._pod(commit)
        if commit.resource == JOBS and (commit.key.namespace, commit.key.name) == (self.namespace, self.job):
            return self._job(commit)
        if commit.resource == LEASE and commit.key.namespace == "kruise-system":
            holder = str((commit.new.obj.get("spec") or {}).get("holderIdentity") or "")
            before, self.holder = self.holder, holder
            return [Happening(Kind.LEADS, holder)] if holder and holder != before else []
        return []

    def _node(self, commit: Commit) -> list[Happening]:
        name = commit.key.name
        if commit.type == "DELETED":
            self.nodes.pop(name, None)
            return []
        conditions = (commit.new.obj.get("status") or {}).get("conditions") or ()
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        before = self.nodes.get(name, False)
        self.nodes[name] = ready
        return [Happening(Kind.READY, name)] if ready and not before else []

    def _pod(self, commit: Commit) -> list[Happening]:
        obj = commit.new.obj
        if (obj["metadata"].get("labels") or {}).get(LABEL_JOB_NAME) != self.job:
            return []
        pod = self.pods.setdefault(obj["metadata"]["uid"], PodSeen(commit.key.name))
        status = obj.get("status") or {}
        before, pod.phase = pod.phase, str(status.get("phase") or "Pending")
        pod.node = str((obj.get("spec") or {}).get("nodeName") or pod.node)
        pod.gone = commit.type == "DELETED"
        pod.exit_code = _exit_code(status)
        self.most_active = max(self.most_active, sum(p.active for p in self.pods.values()))
        if pod.phase == before:
            return []
        kind = {"Running": Kind.RUNS, "Succeeded": Kind.SUCCEEDED, "Failed": Kind.FAILED}.get(pod.phase)
        return [Happening(kind, pod.node, pod.exit_code or 0)] if kind is not None else []

    def _job(self, commit: Commit) -> list[Happening]:
        before, self.status = self.status, commit.new.obj.get("status") or {}
        found = []
        wanted = int(self.status.get("desired") or 0)
        if wanted != int(before.get("desired") or 0):
            found.append(Happening(Kind.WANTS, self.job, wanted))
        phase = str(self.status.get("phase") or "")
        if phase != before.get("phase") and phase in ("completed", "failed", "paused"):
            found.append(Happening(Kind.ENDED, phase))
        return found

    def on(self, node: str) -> list[PodSeen]:
        """Return the pods of the job that were ever bound to *node*."""
        return [pod for pod in self.pods.values() if pod.node == node]

    def ended(self) -> int:
        """Return how many pods have ended."""
        return sum(pod.phase in ("Succeeded", "Failed") for pod in self.pods.values())

    def totals(self) -> tuple[int, int, int, int]:
        """Return desired, active, succeeded, failed, as the status of the job says."""
        desired, active, succeeded, failed = (
            int(self.status.get(name) or 0) for name in ("desired", "active", "succeeded", "failed")
        )
        return desired, active, succeeded, failed


def _exit_code(status: Body) -> int | None:
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated")
        if ended is not None:
            return int(ended.get("exitCode") or 0)
    return None


def sheet(picture: Picture) -> Sheet:
    """Return the table of the nodes."""
    desired, active, succeeded, failed = picture.totals()
    latest: dict[str, PodSeen] = {pod.node: pod for pod in picture.pods.values()}
    shown = set(sorted(picture.nodes, key=lambda n: (_rank(latest.get(n)), n))[:_ROWS])
    rows: list[tuple[str | Cell, ...]] = []
    for node in picture.nodes:
        if node in shown:
            pod = latest.get(node)
            rows.append((node, "yes" if picture.nodes[node] else "no", pod.name if pod else "", _state(pod)))
    if len(picture.nodes) > _ROWS:
        rows.append(("...", "", "", f"{len(picture.nodes)} nodes"))
    return Sheet(
        f"BroadcastJob {picture.job}: {picture.status.get('phase') or 'not created yet'}",
        ("NODE", "READY", "POD", "STATE"),
        tuple(rows),
        f"desired {desired}   active {active}   succeeded {succeeded}   failed {failed}",
    )


def _rank(pod: PodSeen | None) -> int:
    """Order nodes by what there is to see on them."""
    if pod is None:
        return 2
    return {"Failed": 0, "Running": 1, "Pending": 1}.get(pod.phase, 3)


def _state(pod: PodSeen | None) -> Cell:
    if pod is None:
        return Cell("waits", "dim")
    if pod.phase == "Failed":
        return Cell(f"failed, exit code {pod.exit_code}", "bad")
    found = {"Running": Cell("runs", "busy"), "Succeeded": Cell("succeeded", "good")}
    return found.get(pod.phase, Cell("starts", "busy"))
