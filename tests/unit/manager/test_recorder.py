"""recorder.py: writing events behind everybody's back."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kruise.runtime.client.client import Client, Write
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import Request, Response
from kruise.runtime.client.window import WriteWindow
from kruise.runtime.clock import Random
from kruise.runtime.errors import Refused, Reset
from kruise.runtime.manager.recorder import EventBroadcaster
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, ObjectMeta, PartialObject, Resource
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from tests.unit.client.fakes import ok, refused

JOBS: Resource[PartialObject] = Resource("apps.kruise.io", "v1beta1", "BroadcastJob", "broadcastjobs", PartialObject)
NODES: Resource[PartialObject] = Resource("", "v1", "Node", "nodes", PartialObject, namespaced=False)
JOB = PartialObject(metadata=ObjectMeta(name="job", namespace="ns", uid="u1"))
NODE = PartialObject(metadata=ObjectMeta(name="n1", uid="u2"))
MICRO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class Server:
    """Keeps events as the API server does, and refuses what it refuses. ``fail`` may answer first."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.events: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[float, Request]] = []
        self.fail: Callable[[Request], Response | None] = lambda _: None
        self.latency = 0.0
        self.version = 0
        self.running = self.most = 0

    async def request(self, request: Request) -> Response:
        self.requests.append((self.clock.monotonic(), request))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.clock.sleep(self.latency)
            answer = self.fail(request)
            return answer if answer is not None else self.answer(request)
        finally:
            self.running -= 1

    def answer(self, request: Request) -> Response:
        body = json.loads(request.body) if request.body else {}
        if request.method == "POST":
            name = body["metadata"]["name"]
            if name in self.events:
                return refused(409, "AlreadyExists")
            error = invalid(body)
            if error:
                return refused(422, "Invalid", error, [{"field": error}])
            self.events[name] = body
            body["metadata"]["uid"] = f"uid-{name}"
        elif request.name not in self.events:
            return refused(404, "NotFound")
        elif request.method == "PATCH":
            stored = self.events[request.name]
            version = stored["metadata"]["resourceVersion"]
            if body.get("metadata", {}).get("resourceVersion", version) != version:
                return refused(409, "Conflict")
            stored["series"] = body["series"]
        stored = self.events[request.name or body["metadata"]["name"]]
        if request.method != "GET":
            self.version += 1
            stored["metadata"]["resourceVersion"] = str(self.version)
        meta = {k: stored["metadata"][k] for k in ("name", "namespace", "uid", "resourceVersion")}
        return ok({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})

    async def stream(self, request: Request) -> Any:
        raise AssertionError("no stream expected")

    async def close(self) -> None:
        pass


def invalid(body: dict[str, Any]) -> str:
    """What events.k8s.io/v1 refuses."""
    if not body.get("action"):
        return "action"
    if len(body.get("note", "").encode()) > 1024:
        return "note"
    if any(len(body.get(word, "")) > 128 for word in ("action", "reason", "reportingInstance")):
        return "too long"
    if any(name.startswith("deprecated") for name in body):
        return "deprecated"
    if not MICRO.fullmatch(body["eventTime"]):
        return "eventTime"
    if "series" in body and (body["series"]["count"] < 2 or not MICRO.fullmatch(body["series"]["lastObservedTime"])):
        return "series"
    if body["regarding"].get("namespace", "default") != body["metadata"]["namespace"]:
        return "namespace"
    return "" if body["type"] in ("Normal", "Warning") and len(body["metadata"]["name"]) <= 253 else "type or name"


class Stage:
    """A broadcaster, its server and its metrics, on a virtual clock."""

    def __init__(self, **options: Any) -> None:
        self.clock = VirtualClock()
        self.server = Server(self.clock)
        self.metrics = Metrics(process=False)
        self.window = WriteWindow(self.clock)
        self.rest = Rest(self.server, clock=self.clock, rng=Random(1), metrics=self.metrics, window=self.window)
        self.writes: list[Write] = []
        self.client = Client(self.rest, metrics=self.metrics, clock=self.clock, on_write=self.writes.append)
        self.broadcaster = EventBroadcaster(
            self.client, clock=self.clock, rng=Random(2), metrics=self.metrics, instance="manager-1", **options
        )
        self.recorder = self.broadcaster.recorder("broadcastjob-controller")

    def event(self, note: str = "note", *, obj: Object = JOB, resource: Resource[Any] = JOBS, **more: Any) -> None:
        values = {"type": "Warning", "reason": "Failed", "action": "Create", "note": note, **more}
        self.recorder.event(obj, resource, **values)

    def dropped(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("kruise_events_dropped_total", {"reason": reason}) or 0.0

    async def play(self, script: Callable[[], Awaitable[None]]) -> None:
        """Run the broadcaster beside *script*, and cancel it afterwards."""
        task: asyncio.Task[None]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.broadcaster.run())
            await script()
            task.cancel()
        assert task.cancelled()


def staged(body: Callable[[Stage], Awaitable[None]], **options: Any) -> Stage:
    """Play *body* on a new stage and return the stage."""
    made: list[Stage] = []

    async def main() -> None:
        stage = Stage(**options)
        made.append(stage)
        await stage.play(lambda: body(stage))

    run_virtual(main())
    return made[0]


def test_rec1_an_event_has_the_form_that_the_server_takes() -> None:
    async def body(stage: Stage) -> None:
        stage.event("x" * 5000, reason="R" * 300, action="", related=(NODE, NODES))
        stage.event("é" * 900, obj=NODE, resource=NODES)
        await stage.clock.sleep(1)

    stage = staged(body)
    first, second = stage.server.events.values()
    assert first["metadata"]["namespace"] == "ns" and first["metadata"]["name"].startswith("job.")
    assert first["regarding"] == {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "BroadcastJob",
        "namespace": "ns",
        "name": "job",
        "uid": "u1",
    }
    assert first["related"]["kind"] == "Node" and first["action"] == "R" * 125 + "…" == first["reason"]
    assert len(first["note"].encode()) == 1024
    assert first["eventTime"] == "2026-01-01T00:00:00.000000Z"
    assert (first["reportingController"], first["reportingInstance"]) == ("broadcastjob-controller", "manager-1")
    assert first["apiVersion"] == "events.k8s.io/v1" and first["kind"] == "Event"
    assert second["metadata"]["namespace"] == "default" and len(second["note"].encode()) <= 1024
    assert stage.dropped("rejected") == 0


def test_rec1_long_object_names_still_make_event_names() -> None:
    async def body(stage: Stage) -> None:
        name = "a" * 235 + "-." + "b" * 16
        stage.event(obj=PartialObject(metadata=ObjectMeta(name=name, namespace="ns", uid="u")))
        await stage.clock.sleep(1)

    (event,) = staged(body).server.events.values()
    assert len(event["metadata"]["name"]) <= 253 and ".." not in event["metadata"]["name"]


def test_rec1_ten_thousand_equal_events_are_one_object_with_a_count() -> None:
    async def body(stage: Stage) -> None:
        for _ in range(10_000):
            stage.event()
        await stage.clock.sleep(1)

    stage = staged(body)
    (event,) = stage.server.events.values()
    assert event["series"]["count"] == 10_000 and len(stage.server.requests) <= 2


def test_rec2_the_series_is_told_at_two_each_half_hour_and_when_it_ends() -> None:
    async def body(stage: Stage) -> None:
        for _ in range(46):
            stage.event()
            await stage.clock.sleep(60)
        await stage.clock.sleep(600)
        assert len(stage.server.requests) == 4
        await stage.clock.sleep(3600)
        stage.event()
        await stage.clock.sleep(1)

    stage = staged(body)
    first, second = stage.server.events.values()
    assert first["series"]["count"] == 46 and "series" not in second
    methods = [(int(at // 60), r.method) for at, r in stage.server.requests]
    assert methods[:2] == [(0, "POST"), (1, "PATCH")] and len(methods) == 5


def test_rec2_reporting_never_waits_and_overflow_is_counted() -> None:
    async def main() -> None:
        stage = Stage()
        for i in range(3000):  # nothing writes yet
            stage.event(obj=PartialObject(metadata=ObjectMeta(name=f"job-{i}", namespace="ns", uid=f"u{i}")))
        assert stage.broadcaster.waiting() == 1000 and stage.dropped("queue_full") == 2000

        async def script() -> None:
            await stage.clock.sleep(1)

        await stage.play(script)
        assert len(stage.server.events) == 1000
        stage.event(obj=PartialObject(metadata=ObjectMeta(name="job-2999", namespace="ns", uid="u2999")))
        assert stage.broadcaster.waiting() == 1  # a dropped one is not taken for written

    run_virtual(main())


def test_rec2_with_the_server_down_memory_is_bounded_and_twelve_tries_are_made() -> None:
    async def body(stage: Stage) -> None:
        def down(_: Request) -> Response:
            raise Refused("connection refused")

        stage.server.fail = down
        for i in range(20_000):
            stage.event(f"note {i}", obj=PartialObject(metadata=ObjectMeta(name=f"job-{i % 5000}", uid=f"u{i % 5000}")))
        assert stage.broadcaster.waiting() <= 1000 and len(stage.broadcaster._correlator) <= 4096
        await stage.clock.sleep(200)
        assert stage.dropped("gave_up") > 0

    stage = staged(body)
    tries: dict[str, list[float]] = {}
    for at, request in stage.server.requests:
        tries.setdefault(json.loads(request.body or b"{}")["metadata"]["name"], []).append(at)
    first = next(iter(tries.values()))
    assert len(first) == 12
    pauses = [b - a for a, b in itertools.pairwise(first)]
    assert all(7.5 <= pause <= 12.5 for pause in pauses) and len(set(pauses)) > 5


def test_rec2_at_most_eight_events_are_written_at_once() -> None:
    async def body(stage: Stage) -> None:
        stage.server.latency = 1.0
        for i in range(100):
            stage.event(obj=PartialObject(metadata=ObjectMeta(name=f"job-{i}", uid=f"u{i}")))
        await stage.clock.sleep(60)

    stage = staged(body)
    assert stage.server.most == 8 and len(stage.server.events) == 100


def test_rec2_a_lost_answer_makes_no_second_object() -> None:
    async def body(stage: Stage) -> None:
        lost: list[str] = []

        def lose(request: Request) -> Response | None:
            if request.method == "POST" and not lost:
                lost.append("once")
                stage.server.answer(request)
                raise Reset("the answer is lost")
            return None

        stage.server.fail = lose
        stage.event()
        stage.event()
        await stage.clock.sleep(60)

    stage = staged(body)
    (event,) = stage.server.events.values()
    assert event["series"]["count"] == 2


def test_rec2_a_series_changed_by_somebody_else_is_counted_on() -> None:
    async def body(stage: Stage) -> None:
        stage.event()
        await stage.clock.sleep(1)
        for event in stage.server.events.values():
            event["metadata"]["resourceVersion"] = "777"
        stage.event()
        await stage.clock.sleep(1)

    stage = staged(body)
    (event,) = stage.server.events.values()
    assert event["series"]["count"] == 2
    assert [r.method for _, r in stage.server.requests] == ["POST", "PATCH", "PATCH"]


def test_rec3_the_spam_filter_counts_what_it_drops() -> None:
    async def body(stage: Stage) -> None:
        for i in range(100):
            stage.event(reason=f"Reason{i}")
        await stage.clock.sleep(1)

    stage = staged(body)
    assert len(stage.server.events) == 25 and stage.dropped("spam") == 75


def test_rec4_similar_events_are_combined_and_their_text_is_final() -> None:
    async def body(stage: Stage) -> None:
        for i in range(500):
            stage.event(f"pod {i} failed")
            await stage.clock.sleep(0.1)
        await stage.clock.sleep(400)

    stage = staged(body)
    notes = [e["note"] for e in stage.server.events.values()]
    assert len(notes) == 10 and notes[-1] == "(combined from similar events): pod 9 failed"
    combined = list(stage.server.events.values())[-1]
    assert combined["series"]["count"] == 491
    for _, request in stage.server.requests:
        if request.method == "PATCH":
            assert json.loads(request.body or b"{}").keys() == {"metadata", "series"}


def test_rec5_events_pass_beside_the_write_window() -> None:
    async def body(stage: Stage) -> None:
        slots = [stage.window.slot("workload") for _ in range(stage.window.size)]
        for slot in slots:
            await slot.__aenter__()  # workloads use the whole window
        stage.event()
        await stage.clock.sleep(1)
        assert len(stage.server.events) == 1
        for slot in slots:
            await slot.__aexit__(None, None, None)

    staged(body)


def test_rec5_what_is_left_is_written_at_the_stop() -> None:
    async def body(stage: Stage) -> None:
        stage.server.latency = 0.1
        for i in range(100):
            stage.event(obj=PartialObject(metadata=ObjectMeta(name=f"job-{i}", uid=f"u{i}")))
        for _ in range(5):
            stage.event()
        await stage.clock.sleep(0.15)  # the stop comes in the middle of a write
        stage.event("last words")

    stage = staged(body)
    assert len(stage.server.events) == 102
    notes = {e["note"]: e for e in stage.server.events.values()}
    assert "last words" in notes
    assert [e["series"]["count"] for e in stage.server.events.values() if "series" in e] == [5]


def test_rec5_the_stop_takes_a_bounded_time() -> None:
    async def main() -> None:
        stage = Stage(drain=3.0)
        stage.server.latency = 1e6
        for i in range(20):
            stage.event(obj=PartialObject(metadata=ObjectMeta(name=f"job-{i}", uid=f"u{i}")))

        async def script() -> None:
            await stage.clock.sleep(10)

        await stage.play(script)
        assert stage.clock.monotonic() == 13
        assert stage.dropped("shutdown") == 20

    run_virtual(main())


def test_rec5_with_the_server_down_the_stop_does_not_wait_for_twelve_tries() -> None:
    async def main() -> None:
        stage = Stage()

        def down(_: Request) -> Response:
            raise Refused("connection refused")

        stage.server.fail = down
        stage.event()

        async def script() -> None:
            await stage.clock.sleep(1)

        await stage.play(script)
        assert stage.clock.monotonic() == 1 and stage.dropped("gave_up") == 1

    run_virtual(main())


@pytest.mark.parametrize(
    ("code", "reason", "counted"),
    [(404, "NotFound", "not_found"), (403, "Forbidden", "forbidden"), (422, "Invalid", "rejected")],
)
def test_rec6_a_missing_namespace_403_and_404_drop_the_event(code: int, reason: str, counted: str) -> None:
    async def body(stage: Stage) -> None:
        stage.server.fail = lambda _: refused(code, reason)
        stage.event()
        await stage.clock.sleep(100)
        assert len(stage.server.requests) == 1 and stage.dropped(counted) == 1
        stage.server.fail = lambda _: None
        stage.event()
        await stage.clock.sleep(1)

    assert len(staged(body).server.events) == 1


def test_rec6_an_event_that_expired_is_made_anew() -> None:
    async def body(stage: Stage) -> None:
        stage.event()
        await stage.clock.sleep(1)
        stage.server.events.clear()
        stage.event()
        await stage.clock.sleep(1)

    stage = staged(body)
    (event,) = stage.server.events.values()
    assert event["series"]["count"] == 2
    assert [r.method for _, r in stage.server.requests] == ["POST", "PATCH", "POST"]


def test_rec7_five_thousand_nodes_with_three_reasons_are_three_events() -> None:
    async def body(stage: Stage) -> None:
        for passes in range(30):
            for reason, count in (("Failed", 3000), ("Unschedulable", 1500), ("ImagePull", 500)):
                examples = [f"node-{i}: exit code 1" for i in range(5)]
                stage.recorder.summary(
                    JOB,
                    JOBS,
                    type="Warning",
                    reason=reason,
                    action="Run",
                    what="nodes",
                    count=count - passes,
                    examples=examples,
                )
            await stage.clock.sleep(2)
        await stage.clock.sleep(500)

    stage = staged(body)
    notes = {e["reason"]: e["note"] for e in stage.server.events.values()}
    assert len(stage.server.events) == 3
    assert notes["Failed"].startswith("nodes: 3000 (for example node-0: exit code 1; ")
    assert notes["Failed"].endswith("; and 2995 more)")
    assert {e["series"]["count"] for e in stage.server.events.values()} == {30}


def test_rec7_events_are_not_counted_as_writes() -> None:
    async def body(stage: Stage) -> None:
        stage.event()
        stage.event()
        await stage.clock.sleep(1)

    stage = staged(body)
    assert stage.writes == [] and len(stage.server.events) == 1


def test_rec2_a_fault_of_our_own_loses_one_event_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(stage: Stage) -> None:
        create = Client.create

        async def faulty(self: Client, resource: Any, body: Any, **more: Any) -> Any:
            if body["reason"] == "Odd":
                raise RuntimeError("a bug")
            return await create(self, resource, body, **more)

        monkeypatch.setattr(Client, "create", faulty)
        stage.event(reason="Odd")
        stage.event()
        await stage.clock.sleep(1)

    stage = staged(body)
    assert [e["reason"] for e in stage.server.events.values()] == ["Failed"] and stage.dropped("error") == 1
