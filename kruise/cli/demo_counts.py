"""The numbers at the end of the demo, each with what it must be.

Purpose: what the manager sent, counted by the API server that answered it.

Guarantees: a count that is not what it must be makes its figure wrong, and the demo then ends with exit code 1. An
update in place is three writes for each pod, no more and no fewer.

What this does not do: it does not measure the embedded cluster; its work is Kubernetes' own on a real one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kruise.cli.demo_picture import JOBS, LEASE
from kruise.cli.demo_pods import SETS
from kruise.cli.demo_sidecar_pods import SIDECARS
from kruise.runtime.client.rest import USER_AGENT
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.crd import DEFINITIONS
from kruise.simulator.apiserver.webhooks_config import MUTATING, VALIDATING

__all__ = [
    "Figure",
    "Job",
    "Phase",
    "Sidecars",
    "job_figures",
    "manager_figures",
    "render",
    "set_figures",
    "sidecar_figures",
]

_EVENTS: Final = ("events", "events.events.k8s.io")
_REVISIONS: Final = "controllerrevisions.apps"
_TRUST: Final = ("secrets", MUTATING, VALIDATING, DEFINITIONS)
"""What the manager writes its certificate and its authority to: once, not for any workload."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the summary."""

    what: str
    seen: str
    wanted: str
    right: bool
    group: str = ""
    """What it belongs to; a line of its own above the first of a group."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the job was."""

    nodes: int
    """How many nodes had to get a pod."""
    running: float
    """Seconds from its creation to its end."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What the request log has of one part of the set's act."""

    what: str
    """``create``, ``update``, ``bad`` or ``repair``."""
    first: int
    """The first request of it in the log."""
    last: int
    """The first one after it."""
    pods: int
    """How many pods were concerned."""
    stuck: int = 0
    """With ``repair``: how many of them were out of service before."""


@dataclass(frozen=True, slots=True)
class Sidecars:
    """What the request log has of the act of the SidecarSet."""

    first: int
    """The first request of it in the log."""
    upgrade: int
    """The first one when every pod had its sidecar."""
    last: int
    """The first one after it."""
    pods: int
    lasted: float
    """Seconds."""


def job_figures(calls: Iterable[Call], job: Job) -> list[Figure]:
    """Return what the job took, of the requests until it ended."""
    good = _own(calls)
    created = _count(good, "create", "pods")
    patched = _count(good, "patch", JOBS, "status")
    # Two for the beginning and the end, and at most two a second while counts move; one for a second that began.
    most = 2 + 2 * (math.ceil(job.running) + 1)
    group = "BroadcastJob"
    return [
        _exact(group, "pods created", created, job.nodes, "one for each node"),
        _at_most(group, "status patches", patched, most, "2, and 2 a second while counts move"),
        _exact(group, "other writes to objects", len(good) - created - patched, 0),
    ]


def set_figures(calls: Sequence[Call], phases: Sequence[Phase], *, lasted: float) -> list[Figure]:
    """Return what the set took, part by part; *lasted* is the seconds of all of them."""
    group, found, counted = "Advanced StatefulSet", list[Figure](), 0
    for phase in phases:
        part = _own(calls[phase.first : phase.last])
        pods = [c for c in part if c.resource == "pods"]
        counted += len(pods)
        found.append(_exact(group, *_pod_writes(phase, len(pods))))
    own = _own(calls[phases[0].first :])
    status = _count(own, "patch", SETS, "status")
    revisions = _count(own, "create", _REVISIONS)
    # For each part two for the beginning and the end; and two a second while counts move.
    most = 2 * len(phases) + 2 * (math.ceil(lasted) + 1)
    rest = len(own) - counted - status - revisions
    return [
        *found,
        _exact(group, "revisions created", revisions, len(phases), "one for each template"),
        _at_most(group, "status patches", status, most, "2 for each part, and 2 a second while counts move"),
        _exact(group, "other writes to objects", rest, 0),
    ]


def sidecar_figures(calls: Sequence[Call], act: Sidecars) -> list[Figure]:
    """Return what the SidecarSet took."""
    group = "SidecarSet"
    part = calls[act.first : act.last]
    created = sum((c.verb, c.resource, c.subresource, c.code) == ("create", "pods", "", 201) for c in part)
    before, after = _own(calls[act.first : act.upgrade]), _own(calls[act.upgrade : act.last])
    own = [*before, *after]
    injecting = sum(c.resource == "pods" for c in before)
    upgrading = sum(c.resource == "pods" for c in after)
    status = _count(own, "patch", SIDECARS, "status")
    revisions = _count(own, "create", _REVISIONS)
    most = 4 + 2 * (math.ceil(act.lasted) + 1)
    return [
        _exact(group, "pods created, by others", created, act.pods),
        _exact(group, "writes to inject them", injecting, 0, "the webhook's answer is enough"),
        _exact(group, "writes to upgraded pods", upgrading, 2 * act.pods, "2 a pod: image, condition the first time"),
        _exact(group, "revisions created", revisions, 2, "one for each sidecar"),
        _at_most(group, "status patches", status, most, "2 for each part, and 2 a second while counts move"),
        _exact(group, "other writes to objects", len(own) - injecting - upgrading - status - revisions, 0),
    ]


def _pod_writes(phase: Phase, seen: int) -> tuple[str, int, int, str]:
    if phase.what == "create":
        return "writes to new pods", seen, 2 * phase.pods, "2 a pod: create, gate True"
    if phase.what == "update":
        return "writes to updated pods", seen, 3 * phase.pods, "3 a pod: gate False, image, gate True"
    if phase.what == "bad":
        return "writes for the bad image", seen, 2 * phase.pods, f"2 for each of {phase.pods} pods: gate False, image"
    # What is out of service already has its gate False.
    whole = phase.pods - phase.stuck
    why = f"2 for each of {phase.stuck} pods: image, gate True; 3 for the others"
    return "writes for the repair", seen, 3 * whole + 2 * phase.stuck, why


def manager_figures(calls: Iterable[Call], *, pods: int, alive: float, reconciles: float, cpu: float) -> list[Figure]:
    """Return what the manager took for all of it.

    *pods* is how many were created or updated; *alive* its seconds so far, *cpu* its CPU seconds.
    """
    writes = [c for c in calls if c.actor.startswith(USER_AGENT) and c.writes and not c.dry_run]
    ours = sum(map(_Versions(writes).missed_own, writes))
    others = sum(c.code == 409 for c in writes) - ours
    good = sum(c.resource == "pods" and c.code < 300 for c in writes)
    leases = sum(c.resource == LEASE for c in writes)
    events = sum(c.resource in _EVENTS for c in writes)
    trust = sum(c.resource in _TRUST for c in writes)
    most_trust = 1 + 2 * 5  # the Secret; two configurations and three definitions, each at most twice
    budget = 2.0 + 0.01 * pods
    group = "the manager"
    return [
        _exact(group, "conflicts of its own making", ours, 0),
        _most(group, "refused: a node wrote first", others, good, "decided again on what it wrote"),
        _exact(group, "other refused writes", sum(c.code >= 300 and c.code != 409 for c in writes), 0),
        _exact(group, "writes that changed nothing", sum(c.changed is False for c in writes), 0),
        _at_most(group, "writes of certificates", trust, most_trust, "a Secret, and whom it concerns"),
        _at_most(group, "lease writes", leases, 4 + math.ceil(alive / 2), "one in 2 s"),
        Figure("events", str(events), "at least 1", events >= 1, group),
        Figure("reconciles, says /metrics", f"{reconciles:.0f}", "at least 1", reconciles >= 1, group),
        Figure("CPU seconds", f"{cpu:.2f}", f"at most {budget:.1f}", cpu <= budget, group),
    ]


def _own(calls: Iterable[Call]) -> list[Call]:
    """Return the manager's writes that succeeded, without events, leases and certificates."""
    return [
        c
        for c in calls
        if c.actor.startswith(USER_AGENT)
        and c.writes
        and not c.dry_run
        and c.code < 300
        and c.resource not in (*_EVENTS, *_TRUST, LEASE)
    ]


def _count(calls: Iterable[Call], verb: str, resource: str, subresource: str = "") -> int:
    return sum((c.verb, c.resource, c.subresource) == (verb, resource, subresource) for c in calls)


def _exact(group: str, what: str, seen: int, wanted: int, why: str = "") -> Figure:
    return Figure(what, str(seen), f"{wanted}{f' ({why})' if why else ''}", seen == wanted, group)


def _at_most(group: str, what: str, seen: int, most: int, why: str) -> Figure:
    return Figure(what, str(seen), f"at most {most} ({why})", 1 <= seen <= most, group)


def _most(group: str, what: str, seen: int, most: int, why: str) -> Figure:
    return Figure(what, str(seen), f"at most {most} ({why})", seen <= most, group)


class _Versions:
    """Which versions of objects the manager itself made."""

    def __init__(self, writes: Iterable[Call]) -> None:
        self._made: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
        for c in writes:
            if c.code < 300 and c.after:
                self._made.setdefault((c.resource, *c.key), []).append((c.ordinal, int(c.after)))

    def missed_own(self, c: Call) -> bool:
        """Tell whether *c* was refused because the manager had made a newer version than the one it named."""
        if c.code != 409:
            return False
        body = c.document if isinstance(c.document, dict) else {}
        named = (body.get("metadata") or body.get("preconditions") or {}).get("resourceVersion")
        if not named:
            return True  # it named none, so nobody else can be the cause
        made = self._made.get((c.resource, *c.key), ())
        return any(ordinal < c.ordinal and version > int(named) for ordinal, version in made)


def render(found: Sequence[Figure]) -> list[str]:
    """Return the summary as lines of text."""
    wide = max(len(f.what) for f in found) + 2
    lines = [f"{'WRITES OF THE MANAGER'.ljust(wide)}   {'SEEN'.rjust(5)}   EXPECTED"]
    group = ""
    for f in found:
        if f.group != group:
            group = f.group
            lines.append(group)
        lines.append(f"{'  ' + f.what:<{wide}}   {f.seen.rjust(5)}   {f.wanted}{'' if f.right else '   WRONG'}")
    return lines
