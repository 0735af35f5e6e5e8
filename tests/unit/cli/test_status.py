"""``kruise status``: what it shows, and with which exit code it ends."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.core import NODES, PODS
from kruise.cli import status, status_broadcastjob
from kruise.cli.cluster import Cluster
from kruise.runtime.client.client import Client
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.errors import ApiError, ConfigError, DecodeError, NotFound, RuntimeFault, Status, error_from_status
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Unreadable
from kruise.simulator.apiserver.server import ApiServer
from tests.unit.controllers.bcj import STAMP, job, node, nodes, pod

RUNNING = {"phase": "running", "startTime": STAMP, "desired": 3, "active": 1, "succeeded": 1, "failed": 1}
KEY = Key("ns", "sweep")


class Live:
    def __init__(self, found: Any, pods: Any = (), seen: Any = ()) -> None:
        self.found = found
        self.lists = {PODS: list(pods), NODES: list(seen)}
        self.turns = 0

    async def get(self, resource: Any, key: Key) -> Any:
        assert (resource, key) == (BROADCASTJOBS, KEY)
        self.turns += 1
        if isinstance(self.found, Exception):
            raise self.found
        if isinstance(self.found, list):
            return self.found.pop(0) if len(self.found) > 1 else self.found[0]
        return self.found

    async def list(self, resource: Any, **selectors: Any) -> Any:
        return self.lists[resource]


class Clock(SystemClock):
    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


def cluster(live: Live) -> Cluster:
    class Holder:
        pass

    client: Any = Holder()
    client.live = live
    return Cluster(client, Clock(), "ns")


def run(monkeypatch: pytest.MonkeyPatch, live: Live, *argv: str) -> Any:
    @contextlib.asynccontextmanager
    async def connect(args: argparse.Namespace) -> AsyncIterator[Cluster]:
        yield cluster(live)

    monkeypatch.setattr(status, "connect", connect)
    parser = argparse.ArgumentParser()
    status.add_parser(parser.add_subparsers())
    return status.run(parser.parse_args(["status", *argv]))


# Targets.


@pytest.mark.parametrize(
    "text",
    ["bcj/sweep", "BCJ/sweep", "broadcastjob/sweep", "broadcastjobs/sweep", "broadcastjobs.apps.kruise.io/sweep"],
)
def test_a_target(text: str) -> None:
    assert status.parse_target(text) == (status_broadcastjob.look, "sweep")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sweep", "want KIND/NAME"),
        ("bcj/", "want KIND/NAME"),
        ("pod/sweep", "no kind that status knows"),
        ("bcj/a/b", "no name of an object"),
        ("bcj/a b", "no name of an object"),
    ],
)
def test_a_mistyped_target_says_what_is_wanted(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        status.parse_target(text)


# What is shown.


def _world() -> Live:
    one = job(status={**RUNNING, "conditions": [
        {"type": "Progressing", "status": "True", "reason": "PodRunning", "message": "pods run"},
        {"type": "Other", "status": "True"},
    ]})  # fmt: skip
    ended = [{"name": "main", "restartCount": 1, "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]
    pods = [
        pod(one, "a"),
        pod(one, "b", phase="Succeeded"),
        *(pod(one, f"f{i}", phase="Failed", containerStatuses=ended) for i in range(7)),
    ]
    seen = [
        *nodes("b", "a", *(f"f{i}" for i in range(7))),
        node("g", taints=[{"key": "gpu", "value": "x", "effect": "NoSchedule"}]),
        Unreadable(metadata=node("z").metadata, problem="p", path="$"),
    ]
    return Live(one, pods, seen)


async def test_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(monkeypatch, _world(), "bcj/sweep") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "BroadcastJob ns/sweep: running",
        "desired 3, active 1, succeeded 1, failed 1",
        "Progressing=True PodRunning: pods run",
    ]
    assert lines[4:9] == [
        "NODES   REASON                   SUCH AS",
        "7       PodFailed                f0, f1, f2",
        "1       PodRunning               a",
        "1       PodSucceeded             b",
        "1       TaintNotTolerated(gpu)   g",
    ]
    assert lines[10].split() == ["NODE", "REASON", "EXIT", "CODE", "EVIDENCE", "UNBLOCKED", "BY"]
    assert lines[11].startswith("f0     PodFailed   3           pod sweep-")
    assert "container main exited with code 3 (Error), 1 restarts" in lines[11]
    assert lines[-1] == "... and 2 more nodes; -o json has them all"


async def test_a_job_that_nobody_saw_yet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(monkeypatch, Live(job()), "bcj/sweep", "-n", "ns") == 0
    assert capsys.readouterr().out.splitlines() == [
        "BroadcastJob ns/sweep: not seen by a manager yet",
        "desired 0, active 0, succeeded 0, failed 0",
    ]


async def test_json_has_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(monkeypatch, _world(), "bcj/sweep", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["namespace"], found["name"]) == ("BroadcastJob", "ns", "sweep")
    assert found["status"]["succeeded"] == 1
    by_node = {n["node"]: n for n in found["nodes"]}
    assert len(by_node) == 10
    assert (by_node["f0"]["reason"], by_node["f0"]["exitCode"]) == ("PodFailed", 3)
    assert (by_node["g"]["reason"], by_node["g"]["taint"], by_node["g"]["pod"]) == ("TaintNotTolerated", "gpu", "")
    assert "exitCode" not in by_node["a"]


# Exit codes.


def ended(phase: str, **status_: Any) -> dict[str, Any]:
    return {**RUNNING, "phase": phase, **status_}


def progress(status_: str, reason: str) -> list[dict[str, Any]]:
    return [{"type": "Progressing", "status": status_, "reason": reason}]


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (ended("completed", failed=0), 0),
        (ended("completed", failed=2), 2),
        (ended("failed"), 2),
        (ended("running", conditions=progress("True", "PodRunning")), 0),
        (ended("running", conditions=progress("False", "ImagePullFailed")), 2),
        (ended("paused", conditions=progress("False", "JobPaused")), 2),
        (ended("paused", conditions=progress("False", "Paused")), 0),
        (ended("running", conditions=progress("False", "AllNodesDone")), 0),
        (ended("running"), 0),
    ],
)
def test_the_exit_code(state: dict[str, Any], code: int) -> None:
    assert status_broadcastjob.exit_code(job(status=state)) == code


async def test_watch_prints_changes_until_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = [job(status=s) for s in (RUNNING, RUNNING, ended("completed", failed=0))]
    live = Live(states)
    assert await run(monkeypatch, live, "bcj/sweep", "-w") == 0
    assert live.turns == 3
    assert capsys.readouterr().out.count("BroadcastJob ns/sweep") == 2, "what is the same is not printed again"


async def test_watch_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    live = Live(job(status=RUNNING))
    assert await run(monkeypatch, live, "bcj/sweep", "-w", "--timeout", "5") == 3
    assert live.turns == 6


async def test_watch_that_gives_up_on_what_is_degraded_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = {"type": "Progressing", "status": "False", "reason": "NoProgress", "message": "node-1: refused"}
    live = Live(job(status={**RUNNING, "conditions": [stuck]}))
    assert await run(monkeypatch, live, "bcj/sweep", "-w", "--timeout", "5") == 2
    assert live.turns == 6


# Errors.


@pytest.mark.parametrize(
    "text",
    [
        "the server could not find the requested resource",
        "the answer is no API object (text/plain): 404 page not found",  # as a real one does, in plain text
    ],
)
async def test_a_missing_crd_says_what_to_do(text: str) -> None:
    missing = NotFound(Status(404, "NotFound", text))
    with pytest.raises(RuntimeFault, match="install its CRD"):
        await status_broadcastjob.observe(cluster(Live(missing)), KEY)


async def test_a_missing_job_and_an_unreadable_one_are_told_as_they_are() -> None:
    for error in (error_from_status(Status(404, "NotFound", 'broadcastjobs "sweep" not found')), DecodeError("$.spec")):
        with pytest.raises((ApiError, DecodeError)) as caught:
            await status_broadcastjob.observe(cluster(Live(error)), KEY)
        assert caught.value is error


async def test_a_wrong_template_is_shown_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await run(monkeypatch, Live(job(template={"spec": 1}), [], nodes("a")), "bcj/sweep")
    assert "InvalidSpec" in capsys.readouterr().out


async def test_it_reads_a_real_api() -> None:
    clock = SystemClock()
    server = ApiServer(clock, Random(1))
    server.registry.add_custom(BROADCASTJOBS)
    rest = Rest(server.transport("cli"), clock=clock, rng=Random(1), metrics=Metrics(process=False))
    there = Cluster(Client(rest, metrics=Metrics(process=False), clock=clock), clock, "default")
    with pytest.raises(NotFound):
        await status_broadcastjob.observe(there, Key("default", "sweep"))
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    server.create(BROADCASTJOBS, {"metadata": {"name": "sweep"}, "spec": {"template": template}})
    allocatable = {"status": {"allocatable": {"pods": "1"}}}
    for name in ("b", "a"):
        server.create("nodes", {"metadata": {"name": name}, **allocatable})
    found, view = await status_broadcastjob.observe(there, Key("default", "sweep"))
    assert found.metadata.name == "sweep"
    assert [slot.name for slot in view.slots()] == ["a", "b"]
    assert server.log.writes(actor="cli") == []
    other = ApiServer(clock, Random(1))
    rest = Rest(other.transport("cli"), clock=clock, rng=Random(1), metrics=Metrics(process=False))
    bare = Cluster(Client(rest, metrics=Metrics(process=False), clock=clock), clock, "default")
    with pytest.raises(RuntimeFault, match="make install"):
        await status_broadcastjob.observe(bare, Key("default", "sweep"))
