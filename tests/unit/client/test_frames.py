"""frames.py: watch lines to events."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from kruise.runtime import log
from kruise.runtime.client import frames
from kruise.runtime.client.frames import Codec, EventReader, EventType, checked_transform
from kruise.runtime.clock import SystemClock
from kruise.runtime.errors import BadFrame, Truncated
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, ObjectMeta, OwnerReference, PartialObject, Resource, Unreadable


class Pod(Object, frozen=True, gc=False, kw_only=True, rename="camel"):
    phase: str = ""


PODS = Resource("", "v1", "Pod", "pods", Pod)


class Stream:
    """Lines from a list; an exception in it is raised. ``open`` lines are buffered, the rest comes one by one."""

    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, *lines: bytes | Exception, buffered: bool = True) -> None:
        self.lines = list(lines)
        self.all = buffered

    async def read_line(self) -> bytes:
        line = self.lines.pop(0) if self.lines else b""
        if isinstance(line, Exception):
            raise line
        return line

    def buffered(self) -> bool:
        return self.all and bool(self.lines)


class StepClock(SystemClock):
    """Moves by a fixed step at each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.step = step
        self.at = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        self.at += self.step
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def line(event: str = "ADDED", name: str = "a", **more: Any) -> bytes:
    obj = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "ns", "resourceVersion": "5"},
        **more,
    }
    return json.dumps({"type": event, "object": obj}).encode()


def reader(
    *lines: bytes | Exception, resource: Any = PODS, step: float = 0.0, buffered: bool = True
) -> EventReader[Any]:
    stream: Any = Stream(*lines, buffered=buffered)
    return EventReader(stream, Codec(resource), clock=StepClock(step), metrics=Metrics(process=False))


async def all_events(events: EventReader[Any]) -> list[Any]:
    found: list[Any] = []
    while batch := await events.batch():
        found += batch
    return found


async def test_fra1_one_line_is_one_event_and_large_objects_pass() -> None:
    for size in (3 * 2**20, 20 * 2**20):
        big = line(phase="Running", metadata={"name": "big", "managedFields": [{"x": "y" * size}]})
        (event,) = await all_events(reader(big))
        assert event.object.phase == "Running" and event.object.key.name == "big"


async def test_fra1_a_line_over_the_limit_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_LINE", 1000)
    with pytest.raises(BadFrame, match="limit of 1000 bytes"):
        await reader(line(phase="x" * 1000)).batch()


@pytest.mark.parametrize(("threshold", "told"), [(0.05, 1), (5.0, 0)])
async def test_log3_a_slow_decode_is_logged_from_its_threshold_on(threshold: float, told: int) -> None:
    log.configure(level="debug", slow=log.SlowThresholds(decode=threshold))
    with capture_logs() as lines:
        await reader(WHOLE, step=0.1).batch()
    slow = [one for one in lines if one["event"] == "slow decode"]
    assert len(slow) == told and all(one["resource"] == "pods" and one["seconds"] > 0.05 for one in slow)


async def test_fra1_the_limit_is_64_mib() -> None:
    assert frames.MAX_LINE == 64 * 1024 * 1024


WHOLE = line(phase="Running")


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
async def test_fra2_a_line_cut_anywhere_is_an_error_and_never_an_event(cut: int) -> None:
    with pytest.raises(BadFrame):
        await reader(WHOLE[:cut]).batch()


@pytest.mark.parametrize(
    "bad",
    [
        b"<html>502 Bad Gateway</html>",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":null}',
        b'{"type":"ADDED","object":5}',
        b'{"type":"ADDED","object":[]}',
        b'{"type":"OTHER","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}}',
        b'{"type":5,"object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}}',
        b'{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{}}}',
        b'{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{}}}',
        WHOLE + b"x",
        b"\xff\xfe",
    ],
)
async def test_fra2_what_is_no_event_is_an_error(bad: bytes) -> None:
    with pytest.raises(BadFrame):
        await reader(bad).batch()


async def test_fra2_an_error_shows_a_page_but_no_object() -> None:
    with pytest.raises(BadFrame, match="502 Bad Gateway"):
        await reader(b"<html>502 Bad Gateway").batch()
    with pytest.raises(BadFrame) as caught:
        await reader(b'{"type":"ADDED","object":{"s3cret').batch()
    assert "s3cret" not in str(caught.value)


async def test_fra2_events_before_a_broken_line_are_delivered_first() -> None:
    events = reader(line(name="a"), line(name="b"), Truncated("cut off"), line(name="c"))
    assert [e.object.key.name for e in await events.batch()] == ["a", "b"]
    for _ in range(2):
        with pytest.raises(Truncated):
            await events.batch()


async def test_fra2_a_clean_end_is_an_empty_batch_for_ever() -> None:
    events = reader(line())
    assert len(await events.batch()) == 1
    assert await events.batch() == [] and await events.batch() == []


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
async def test_fra3_data_events_carry_object_and_version(kind: str) -> None:
    (event,) = await reader(line(kind, phase="Running")).batch()
    assert event.type is EventType(kind) and event.version == "5" and event.status is None
    assert event.object.key == Key("ns", "a") and event.object.phase == "Running"


@pytest.mark.parametrize("kind", ["ADDED", "BOOKMARK"])
async def test_fra4_each_event_must_be_of_the_watched_type(kind: str) -> None:
    for wrong in (
        {"kind": "Table", "apiVersion": "meta.k8s.io/v1"},
        {"kind": "Node"},
        {"apiVersion": "v2"},
        {"kind": ""},
    ):
        with pytest.raises(BadFrame, match="a watch of pods holds"):
            await reader(line(kind, **wrong)).batch()


async def test_fra4_a_metadata_watch_holds_partial_objects() -> None:
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    (event,) = await reader(line(**partial), resource=PODS.partial()).batch()
    assert isinstance(event.object, PartialObject) and event.object.kind == "Pod"


async def test_fra5_bad_objects_between_good_ones_stop_nothing() -> None:
    deep = line(name="deep", other="X").replace(b'"X"', b"[" * 3000 + b"]" * 3000)
    bad = [
        line(name="type", phase=5),
        line(name="text", phase="X").replace(b'"X"', b'"\xff\xfe"'),
        line(name="escape", phase="X").replace(b'"X"', b'"\\ud800"'),
        line(name="junk", phase="X").replace(b'"X"', b"nul"),
        deep,
    ]
    lines = [line(name="first")]
    for one in bad:
        lines += [one, line(name="good")]
    events = reader(*lines)
    found = await all_events(events)
    names = [e.object.key.name for e in found]
    assert names == ["first", "type", "good", "text", "good", "escape", "good", "junk", "good", "deep", "good"]
    for event in found:
        assert isinstance(event.object, Unreadable) == (event.object.key.name not in ("first", "good"))
        assert event.version == "5" and event.type is EventType.ADDED
    count = events._codec.metrics.registry.get_sample_value(  # type: ignore[union-attr]
        "kruise_informer_undecodable_total", {"group": "", "version": "v1", "resource": "pods"}
    )
    assert count == len(bad)


async def test_fra5_bad_utf8_in_a_field_nobody_reads_is_no_matter() -> None:
    (event,) = await reader(line(other="X").replace(b'"X"', b'"\xff"')).batch()
    assert isinstance(event.object, Pod)


async def test_fra10_nulls_of_the_server_read_as_absent() -> None:
    (event,) = await reader(line(phase=None, metadata={"name": "a", "labels": None, "creationTimestamp": None})).batch()
    assert event.object == Pod(api_version="v1", kind="Pod", metadata=ObjectMeta(name="a"))


async def test_fra8_bookmarks() -> None:
    meta = {"resourceVersion": "12", "creationTimestamp": None}
    plain = line("BOOKMARK", metadata=meta, spec={"containers": None})
    end = line("BOOKMARK", metadata={**meta, "annotations": {"k8s.io/initial-events-end": "true"}})
    one, two = await reader(plain, end).batch()
    assert (one.type, one.version, one.initial_end, one.object) == (EventType.BOOKMARK, "12", False, None)
    assert two.initial_end


async def test_fra8_an_error_event_carries_the_status() -> None:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "code": 410,
        "reason": "Expired",
        "message": "too old",
    }
    (event,) = await reader(json.dumps({"type": "ERROR", "object": status}).encode()).batch()
    assert event.type is EventType.ERROR and event.object is None
    assert (event.status.code, event.status.reason, event.status.message) == (410, "Expired", "too old")
    assert event.status.resource == "pods" and event.status.verb == "watch"


async def test_fra8_an_error_event_without_a_status_is_still_an_error() -> None:
    (event,) = await reader(b'{"type":"ERROR","object":{"oh":"no"}}').batch()
    assert event.status.code == 500


async def test_fra8_a_batch_ends_after_256_events_and_gives_others_a_turn() -> None:
    events = reader(*[line(name=f"p{i}") for i in range(600)])
    clock: Any = events._clock
    sizes = []
    while batch := await events.batch():
        sizes.append(len(batch))
        assert len(clock.slept) == len(sizes) - 1
    assert sizes == [256, 256, 88]
    assert clock.slept == [0, 0]


async def test_fra8_a_batch_ends_after_two_milliseconds() -> None:
    sizes = []
    events = reader(*[line() for _ in range(10)], step=0.0005)
    while batch := await events.batch():
        sizes.append(len(batch))
    assert sizes == [4, 4, 2]


async def test_fra8_a_batch_ends_when_the_buffer_is_empty() -> None:
    events = reader(line(), line(), buffered=False)
    assert len(await events.batch()) == 1
    assert len(await events.batch()) == 1
    assert events._clock.slept == []  # type: ignore[attr-defined]  reading waits by itself: no extra turn


async def test_fra8_no_task_is_made_for_events() -> None:
    before = asyncio.all_tasks()
    await all_events(reader(*[line() for _ in range(300)]))
    assert asyncio.all_tasks() == before


async def test_fra8_the_time_of_decoding_is_measured() -> None:
    events = reader(line(), line(), step=0.001)
    await events.batch()
    labels = {"group": "", "version": "v1", "resource": "pods"}
    registry = events._codec.metrics.registry  # type: ignore[union-attr]
    assert registry.get_sample_value("kruise_informer_decode_seconds_count", labels) == 1
    assert registry.get_sample_value("kruise_informer_decode_seconds_sum", labels) == pytest.approx(0.002)


POD = Pod(
    kind="Pod",
    phase="Running",
    metadata=ObjectMeta(
        name="a",
        namespace="ns",
        uid="u",
        resource_version="5",
        deletion_timestamp="t",
        annotations={"big": "x"},
        owner_references=(OwnerReference(uid="o"),),
    ),
)


def test_fra6_a_transform_may_drop_what_nobody_reads() -> None:
    def lighter(pod: Pod) -> Pod:
        return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, annotations={}))

    assert checked_transform(lighter)(POD).metadata.annotations == {}


@pytest.mark.parametrize(
    "field", ["uid", "resource_version", "namespace", "name", "deletion_timestamp", "owner_references"]
)
def test_fra6_a_transform_that_drops_identity_is_refused(field: str) -> None:
    blank = getattr(ObjectMeta(), field)

    def dropping(pod: Pod) -> Pod:
        return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, **{field: blank}))

    with pytest.raises(ValueError, match=f"metadata.{field}"):
        checked_transform(dropping)(POD)


def test_fra6_a_transform_that_is_not_idempotent_is_refused() -> None:
    with pytest.raises(ValueError, match="not idempotent"):
        checked_transform(lambda pod: msgspec.structs.replace(pod, phase=pod.phase + "!"))(POD)
