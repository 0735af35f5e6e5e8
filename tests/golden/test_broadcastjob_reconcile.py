"""Whole passes and sequences of passes, against the recorded answers.

Compared is what a user or the API server can tell: the pods that are created and deleted, the status that remains,
whether the job is deleted, the events by type, reason and (where it names no pod) text, and whether the key is retried.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.core import Pod
from kruise.runtime.cache.store import Change
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import Random
from kruise.runtime.controller import EnqueueOwner, Queue, default_limiter
from kruise.runtime.metrics import Metrics
from tests.golden.job_world import World
from tests.golden.loader import Case, deviations_for, normalise, parametrize, prune_ignored

PER_POD = ("SuccessfulCreate", "SuccessfulDelete", "FailedCreate")
OUR_EVENTS = ("InvalidSpec",)
"""Additive: upstream leaves a wrong parallelism to its log."""
OURS = "apps.kruise.io/broadcastjob-node-uid"


def pods(created: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the created pods by node, without names: upstream generates them."""
    out = {}
    for one in created:
        pod = normalise(one["pod"])
        for field in ("name", "generateName", "uid"):
            pod["metadata"].pop(field, None)
        pod["metadata"].get("annotations", {}).pop(OURS, None)
        pod.pop("apiVersion", None)
        pod.pop("kind", None)
        out[one["node"]] = normalise(pod)
    return out


def status(value: dict[str, Any] | None) -> Any:
    """Return a status without what is ours alone."""
    if value is None:
        return None
    kept = {k: v for k, v in value.items() if k != "observedGeneration"}
    # ecosystem 5.1: conditions are a map by type, so of two with one type the later one counts.
    by_type = {c["type"]: c for c in kept.get("conditions") or [] if c["type"] != "Progressing"}
    kept["conditions"] = [by_type[name] for name in sorted(by_type)]
    return normalise(kept)


def events(found: list[dict[str, Any]]) -> list[list[str]]:
    """Return events without repetition: one per kind of action, and no second one with the same reason."""
    out: dict[str, tuple[str, ...]] = {}
    for event in found:
        if event["reason"] in OUR_EVENTS:
            continue
        if event["reason"] in PER_POD:
            out[event["reason"]] = (event["type"], event["reason"])
        else:
            key = event["message"] if event["reason"] == "DuplicatePodCreatedOnSameNode" else event["reason"]
            out.pop(key, None)
            out[key] = (event["type"], event["reason"], event["message"])
    return [list(event) for event in sorted(out.values())]


def observed(world: World, error: str | None) -> dict[str, Any]:
    return {
        "created": pods([{"node": node, "pod": pod} for node, pod in world.created.items()]),
        "deleted": sorted(world.deleted),
        "jobDeleted": world.job_deleted,
        "status": status(world.status),
        "events": events([{"type": t, "reason": r, "message": m} for t, r, m in world.events.seen]),
        "error": error is not None,
    }


def expected(output: dict[str, Any]) -> dict[str, Any]:
    return {
        "created": pods(output.get("created") or []),
        "deleted": sorted(output.get("deleted") or []),
        "jobDeleted": bool(output.get("jobDeleted")),
        "status": status(output.get("status")),
        "events": events(output.get("events") or []),
        "error": output.get("error") is not None,
    }


@parametrize("broadcastjob-reconcile")
async def test_pass(case: Case) -> None:
    for rule in deviations_for(case, "skip"):
        pytest.skip(rule.reason)
    world = World(case.input)
    before = status((case.input.get("job") or {}).get("status"))
    error = await world.reconcile()
    got, wanted = observed(world, error), expected(case.output)
    if got["status"] is None and wanted["status"] == before:
        wanted["status"] = None  # upstream writes a status that changes nothing
    assert prune_ignored(case, got) == prune_ignored(case, wanted)


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _woken(step: dict[str, Any], world: World) -> list[str]:
    """Return the jobs that a pod event wakes, by the production handler."""
    new = step.get("pod") or (world.pods[world.pod_on(step["name"])] if "name" in step else None)
    sides = {"create": (None, new), "update": (step.get("oldPod") or new, new), "delete": (new, None)}[step["type"]]
    old, now = (None if p is None else decode_as(Pod, orjson.dumps(p)) for p in sides)
    queue = Queue("golden", clock=world.clock, metrics=Metrics(process=False), limiter=default_limiter(Random(1)))
    EnqueueOwner(BROADCASTJOBS)(Change(old, now), queue)
    return sorted(str(info.key) for info in queue.dump())


async def _step(step: dict[str, Any], world: World) -> str | None:
    match step["do"]:
        case "reconcile":
            return await world.reconcile()
        case "advance":
            world.clock.at += step["seconds"]
        case "setPod":
            world.set_pod(step["pod"])
        case "setPodStatus":
            world.pods[world.pod_on(step["name"])]["status"] = step["status"]
        case "removePod":
            del world.pods[world.pod_on(step["name"])]
        case "setNode":
            world.set_node(step["node"])
        case "removeNode":
            del world.nodes[step["name"]]
        case "mergeJob":
            assert world.job is not None
            _merge(world.job, step["job"])
        case "removeJob":
            world.job = None
        case "faults":
            world.faults = step["faults"]
        case other:
            assert other == "podEvent", other
    return None


@parametrize("broadcastjob-sequences")
async def test_sequence(case: Case) -> None:
    """Where the steps lead: upstream waits for expectations between them, so single passes need not agree."""
    for rule in deviations_for(case, "skip"):
        pytest.skip(rule.reason)
    world = World(case.input)
    got_woken, wanted_woken = [], []
    created: list[dict[str, Any]] = []
    wanted_events: list[dict[str, Any]] = []
    final: dict[str, Any] = {"deleted": [], "jobDeleted": False, "status": None}
    for step, output in zip(case.input["steps"], case.output, strict=True):
        if step["do"] == "podEvent":
            got_woken.append(_woken(step, world))
            wanted_woken.append(output["enqueued"])
        await _step(step, world)
        if output is None or "created" not in output:
            continue
        created += output["created"]
        wanted_events += output["events"]
        final["deleted"] += output["deleted"]
        final["jobDeleted"] |= bool(output["jobDeleted"])
        final["status"] = output["status"] or final["status"]
    got = observed(world, None)
    wanted = expected({**final, "created": created, "events": wanted_events})
    # What every single pass says of its events is compared pass by pass above; here only which ones were sent.
    got["events"], wanted["events"] = ({tuple(event[:2]) for event in side["events"]} for side in (got, wanted))
    assert prune_ignored(case, got) == prune_ignored(case, wanted)
    assert got_woken == wanted_woken
