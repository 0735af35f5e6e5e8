"""client.py: the write matrix, reads, retries of conflicts, dry run."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from kruise.runtime.client.client import Client, PatchKind, Write
from kruise.runtime.client.guard import WriteGuard
from kruise.runtime.client.transport import Request, Response
from kruise.runtime.errors import (
    AlreadyExists,
    Conflict,
    DecodeError,
    Fenced,
    Invalid,
    NotFound,
    Reset,
    ResourceNotCached,
    UnknownOutcome,
)
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Key, Object, ObjectMeta, PartialObject, Resource, Unreadable
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from tests.unit.client.fakes import Script, client_of, ok, partial, refused, skipped


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    observed_generation: int = 0
    active: int = 0
    failed: int = 0
    phase: str = ""
    conditions: tuple[dict[str, str], ...] = ()
    reasons: dict[str, int] = msgspec.field(default_factory=dict)


class Job(Object, frozen=True, kw_only=True, rename="camel"):
    replicas: int = 0
    status: JobStatus = JobStatus()


PODS = Resource("", "v1", "Pod", "pods", PartialObject)
NODES = Resource("", "v1", "Node", "nodes", PartialObject, namespaced=False)
JOBS = Resource("apps.kruise.io", "v1beta1", "BroadcastJob", "broadcastjobs", Job, custom=True)
REVISIONS = Resource("apps", "v1", "ControllerRevision", "controllerrevisions", PartialObject)

META = ObjectMeta(name="a", namespace="ns", uid="u1", resource_version="7", generation=4, labels={"x": "1"})
POD = PartialObject(metadata=META)
JOB = Job(metadata=META, replicas=2)


def answering(answer: Response | None = None) -> tuple[Script, WriteGuard]:
    return Script(lambda _: answer if answer is not None else partial()), WriteGuard()


def query(request: Request) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.path).query)


async def test_cli2_create_has_a_name_and_asks_for_metadata_only() -> None:
    script, guard = answering()
    writes: list[Write] = []
    body = {"metadata": {"name": "a", "namespace": "ns"}, "spec": {"template": msgspec.Raw(b'{"x":null}')}}
    meta = await client_of(script, guard, writes=writes).create(PODS, body)
    (request,) = script.requests
    assert (request.method, urlsplit(request.path).path) == ("POST", "/api/v1/namespaces/ns/pods")
    assert script.bodies[0] == {**body, "spec": {"template": {"x": None}}, "apiVersion": "v1", "kind": "Pod"}
    assert request.headers["accept"].startswith("application/json;as=PartialObjectMetadata")
    assert (meta.uid, meta.resource_version) == ("u1", "8")
    assert writes == [Write("create", PODS, Key("ns", "a"), "u1", "8")]


@pytest.mark.parametrize(
    "meta",
    [
        {"namespace": "ns"},
        {"namespace": "ns", "generateName": "a-"},
        {"namespace": "ns", "generateName": "a-", "name": "a"},
        {"name": "a"},
        None,
    ],
)
async def test_cli2_create_without_a_name_of_its_own_is_refused(meta: Any) -> None:
    script, guard = answering()
    with pytest.raises(ValueError, match="needs metadata"):
        await client_of(script, guard).create(PODS, {"metadata": meta})
    assert script.requests == []


async def test_cli2_create_of_a_taken_name_says_so() -> None:
    script, guard = answering(refused(409, "AlreadyExists"))
    with pytest.raises(AlreadyExists):
        await client_of(script, guard).create(NODES, {"metadata": {"name": "a"}})


@pytest.mark.parametrize("kind", [PatchKind.MERGE, PatchKind.STRATEGIC])
async def test_cli2_a_patch_carries_version_and_uid(kind: PatchKind) -> None:
    script, guard = answering()
    writes: list[Write] = []
    patch = {"metadata": {"labels": {"x": "2"}}}
    meta = await client_of(script, guard, writes=writes).patch(PODS, POD, patch, kind=kind)
    assert script.bodies == [{"metadata": {"labels": {"x": "2"}, "uid": "u1", "resourceVersion": "7"}}]
    assert script.requests[0].headers["content-type"] == kind.value
    assert meta is not None and meta.resource_version == "8"
    assert writes == [Write("patch", PODS, Key("ns", "a"), "u1", "8")]
    assert patch == {"metadata": {"labels": {"x": "2"}}}


async def test_cli4_a_json_patch_begins_with_its_tests() -> None:
    script, guard = answering()
    op = {"op": "add", "path": "/metadata/labels/y", "value": "1"}
    await client_of(script, guard).patch(PODS, POD, [op], kind=PatchKind.JSON)
    assert script.bodies == [
        [
            {"op": "test", "path": "/metadata/uid", "value": "u1"},
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            op,
        ]
    ]


async def test_cli2_the_second_write_of_a_sequence_uses_the_version_of_the_first() -> None:
    script, guard = answering()
    await client_of(script, guard).patch(PODS, POD, {"metadata": {"labels": {"x": "1"}}}, version="9")
    assert script.bodies[0]["metadata"]["resourceVersion"] == "9"


async def test_obj5_only_owners_of_a_builtin_kind_may_be_patched_by_uid_alone() -> None:
    script, guard = answering()
    client = client_of(script, guard)
    adopt: dict[str, Any] = {"metadata": {"ownerReferences": [{"uid": "o"}]}}
    await client.patch(PODS, POD, adopt, kind=PatchKind.STRATEGIC, uid_alone=True)
    assert script.bodies[0]["metadata"].keys() == {"ownerReferences", "uid"}
    for resource, patch, more in (
        (JOBS, adopt, {}),
        (PODS, {"metadata": {"labels": {"y": "z"}}}, {}),
        (PODS, {**adopt, "spec": {}}, {}),
        (PODS, adopt, {"subresource": "status"}),
    ):
        with pytest.raises(ValueError, match="leave out the version"):
            await client.patch(resource, POD, patch, uid_alone=True, **more)


async def test_cli2_an_object_that_was_never_read_cannot_be_written() -> None:
    script, guard = answering()
    client = client_of(script, guard)
    for meta in (ObjectMeta(name="a", namespace="ns"), ObjectMeta(name="a", namespace="ns", uid="u")):
        with pytest.raises(ValueError, match="no uid or version"):
            await client.patch(PODS, PartialObject(metadata=meta), {"spec": {}})
        with pytest.raises(ValueError, match="no uid or version"):
            await client.delete(PODS, PartialObject(metadata=meta), disrupts=True)
    assert script.requests == []


@pytest.mark.parametrize("resource", [JOBS, REVISIONS])
async def test_res6_strategic_patches_are_for_builtin_kinds_only(resource: Resource[Any]) -> None:
    script, guard = answering()
    with pytest.raises(ValueError, match="strategic patch"):
        await client_of(script, guard).patch(resource, POD, {"spec": {"a": 1}}, kind=PatchKind.STRATEGIC)
    assert script.requests == []


def test_cli4_patch_and_kind_must_fit() -> None:
    async def main() -> None:
        script, guard = answering()
        for patch, kind in (([], PatchKind.MERGE), ({}, PatchKind.JSON)):
            with pytest.raises(ValueError, match="JSON patch"):
                await client_of(script, guard).patch(PODS, POD, patch, kind=kind)  # type: ignore[arg-type]

    run_virtual(main())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(409, "Conflict"), PatchKind.MERGE),
        (refused(422, "Invalid", causes=[{"field": "metadata.uid", "message": "immutable"}]), PatchKind.MERGE),
        (refused(422, "Invalid"), PatchKind.JSON),
    ],
)
async def test_cli2_every_way_to_say_another_object_is_a_conflict(answer: Response, kind: PatchKind) -> None:
    script, guard = answering(answer)
    patch: Any = [{"op": "remove", "path": "/x"}] if kind is PatchKind.JSON else {"spec": {"a": 1}}
    writes: list[Write] = []
    with pytest.raises(Conflict):
        await client_of(script, guard, writes=writes).patch(PODS, POD, patch, kind=kind)
    assert writes == [] and len(script.requests) == 1


async def test_cli2_an_invalid_object_is_no_conflict() -> None:
    causes = [{"field": "spec.x", "message": "must be positive"}]
    for kind, patch in ((PatchKind.MERGE, {"spec": {"x": -1}}), (PatchKind.JSON, [{"op": "remove", "path": "/x"}])):
        script, guard = answering(refused(422, "Invalid", causes=causes))
        with pytest.raises(Invalid):
            await client_of(script, guard).patch(PODS, POD, patch, kind=kind)


@pytest.mark.parametrize(
    ("uid", "going", "version"),
    [("u1", True, "9"), ("u1", False, ""), ("u2", True, "")],
    ids=["lingers", "gone at once", "another object"],
)
async def test_con2_a_deletion_that_lingers_is_reported_with_its_version(uid: str, going: bool, version: str) -> None:
    meta: dict[str, Any] = {"name": "a", "namespace": "ns", "uid": uid, "resourceVersion": "9"}
    if going:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    body = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
    writes: list[Write] = []
    assert await client_of(answering(ok(body))[0], writes=writes).delete(PODS, POD)
    assert [w.version for w in writes] == [version]


@pytest.mark.parametrize("disrupts", [False, True])
async def test_cli2_delete_takes_the_object_and_its_version_when_it_disrupts(disrupts: bool) -> None:
    script, guard = answering(ok({"kind": "Status", "status": "Success"}))
    writes: list[Write] = []
    await client_of(script, guard, writes=writes).delete(PODS, POD, disrupts=disrupts, propagation="Foreground")
    expected = {"uid": "u1", "resourceVersion": "7"} if disrupts else {"uid": "u1"}
    assert script.bodies == [
        {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": expected, "propagationPolicy": "Foreground"}
    ]
    assert writes == [Write("delete", PODS, Key("ns", "a"), "u1", "")]


async def test_cli2_deleting_what_is_gone_is_done_and_another_object_is_a_conflict() -> None:
    writes: list[Write] = []
    assert not await client_of(answering(refused(404, "NotFound"))[0], writes=writes).delete(PODS, POD)
    assert [w.uid for w in writes] == ["u1"]
    with pytest.raises(Conflict):
        await client_of(answering(refused(409, "Conflict"))[0], writes=writes).delete(PODS, POD)
    assert len(writes) == 1


async def test_cli3_a_status_patch_carries_version_generation_and_zero_counts() -> None:
    script, guard = answering()
    job = Job(metadata=META, status=JobStatus(active=3, phase="Old", reasons={"a": 1, "b": 2}))
    status = {"active": 0, "failed": 0, "conditions": [{"type": "Done"}], "reasons": {"b": 2}}
    await client_of(script, guard).patch_status(JOBS, job, status)
    (request,) = script.requests
    assert urlsplit(request.path).path.endswith("/broadcastjobs/a/status")
    assert request.headers["content-type"] == "application/merge-patch+json"
    assert script.bodies[0] == {
        "metadata": {"uid": "u1", "resourceVersion": "7"},
        "status": {
            "observedGeneration": 4,
            "active": 0,
            "failed": 0,
            "phase": None,
            "conditions": [{"type": "Done"}],
            "reasons": {"a": None, "b": 2},
        },
    }


async def test_cli3_a_semantically_equal_status_is_skipped_and_counted() -> None:
    script, guard = answering()
    metrics = Metrics(process=False)
    client = client_of(script, guard, metrics=metrics)
    status = JobStatus(observed_generation=4, active=3, conditions=({"type": "Done"},))
    job = Job(metadata=META, status=status)
    same = {"active": 3, "failed": 0, "phase": "", "conditions": [{"type": "Done"}], "reasons": {}}
    assert await client.patch_status(JOBS, job, same) is None
    assert script.requests == [] and skipped(metrics) == 1
    older = Job(metadata=META, status=msgspec.structs.replace(status, observed_generation=3))
    assert await client.patch_status(JOBS, older, same) is not None  # a new generation was seen: that is news


async def test_nop1_a_patch_that_changes_nothing_is_not_sent() -> None:
    script, guard = answering()
    metrics = Metrics(process=False)
    client = client_of(script, guard, metrics=metrics)
    assert await client.patch(PODS, POD, {"metadata": {"labels": {"x": "1"}}}) is None
    assert await client.patch(JOBS, JOB, {"replicas": 2}) is None
    assert script.requests == [] and skipped(metrics) == 2
    assert await client.patch(PODS, POD, {"metadata": {"labels": {"x": None}}}) is not None
    assert await client.patch(PODS, POD, {"spec": {"unknown": None}}) is not None
    assert skipped(metrics) == 2


async def test_nop1_planning_the_same_status_a_thousand_times_writes_nothing() -> None:
    script, guard = answering()
    client = client_of(script, guard)
    job = Job(metadata=META, status=JobStatus(observed_generation=4, active=1))
    for _ in range(1000):
        await client.patch_status(JOBS, job, {"active": 1, "failed": 0})
    assert script.requests == []


async def test_cli6_defaults_go_with_every_write() -> None:
    script, guard = answering()
    client = client_of(script, guard, field_manager="me", field_validation="Strict")
    await client.create(NODES, {"metadata": {"name": "a"}})
    await client.patch(PODS, POD, {"spec": {"a": 1}})
    await client.patch_status(JOBS, JOB, {"active": 1})
    await client.delete(PODS, POD)
    expected = {"fieldManager": ["me"], "fieldValidation": ["Strict"]}
    assert [query(r) for r in script.requests] == [expected, expected, expected, {}]


async def test_cli6_a_dry_run_says_so_in_every_write_and_reports_none() -> None:
    script = Script(lambda _: partial())
    guard = WriteGuard(dry_run=True)
    writes: list[Write] = []
    client = client_of(script, guard, dry_run=True, writes=writes).named("other", on_write=writes.append)
    await client.create(NODES, {"metadata": {"name": "a"}})
    await client.patch(PODS, POD, {"spec": {"a": 1}})
    await client.patch_status(JOBS, JOB, {"active": 1})
    await client.delete(PODS, POD)
    assert [query(r)["dryRun"] for r in script.requests] == [["All"]] * 4
    assert writes == []
    guard.assert_clean()


async def test_cli9_a_named_client_passes_the_fence_and_reports_its_writes() -> None:
    class Term:
        open = True

        def check(self) -> None:
            if not self.open:
                raise Fenced("the term is over")

        def deadline(self) -> float | None:
            return 5.0

    script, guard = answering()
    term, writes = Term(), list[Write]()
    client = client_of(script, guard).named("leader-only", fence=term, on_write=writes.append)
    await client.patch(PODS, POD, {"spec": {"a": 1}})
    assert script.requests[0].controller == "leader-only"
    assert [w.verb for w in writes] == ["patch"]
    term.open = False
    for attempt in (
        client.patch(PODS, POD, {"spec": {"a": 1}}),
        client.delete(PODS, POD),
        client.create(NODES, {"metadata": {"name": "b"}}),
        client.patch_status(JOBS, JOB, {"active": 1}),
    ):
        with pytest.raises(Fenced):
            await attempt
    assert len(script.requests) == 1 and len(writes) == 1


async def test_cli9_an_object_found_after_an_unknown_outcome_is_awaited_like_a_write() -> None:
    script, writes = answering()[0], list[Write]()
    client_of(script, writes=writes).observed(PODS, POD)
    assert writes == [Write("create", PODS, Key("ns", "a"), "u1", "7")] and script.requests == []


@pytest.mark.parametrize("body", [b"{}", b'{"metadata":{}}', b'{"kind":"Table","metadata":{}}', b"", b"<html>"])
async def test_res9_a_write_whose_answer_cannot_be_read_has_an_unknown_outcome(body: bytes) -> None:
    script, writes = Script(lambda _: Response(200, {}, body)), list[Write]()
    with pytest.raises(UnknownOutcome):
        await client_of(script, writes=writes).patch(PODS, POD, {"spec": {"a": 1}})
    assert writes == [] and len(script.requests) == 1


async def test_cli9_a_write_of_unknown_outcome_is_neither_repeated_nor_reported() -> None:
    def broken(_: Request) -> Response:
        raise Reset("gone")

    script, writes = Script(broken), list[Write]()
    client = client_of(script, writes=writes)
    with pytest.raises(UnknownOutcome):
        await client.create(NODES, {"metadata": {"name": "a"}})
    with pytest.raises(UnknownOutcome):
        await client.delete(PODS, POD)
    assert len(script.requests) == 2 and writes == []


async def test_res7_the_whole_object_comes_when_it_is_asked_for() -> None:
    whole = {"apiVersion": "apps.kruise.io/v1beta1", "kind": "BroadcastJob", "replicas": 5}
    meta = {"name": "a", "namespace": "ns", "uid": "u1", "resourceVersion": "9"}
    script, guard = answering(ok({**whole, "metadata": meta}))
    writes: list[Write] = []
    client = client_of(script, guard, writes=writes)
    job = await client.patch(JOBS, JOB, {"replicas": 5}, want="object")
    assert job is not None and job.replicas == 5
    assert "as=Partial" not in script.requests[0].headers["accept"]
    assert (await client.create(JOBS, {"metadata": {"name": "a", "namespace": "ns"}}, want="object")).replicas == 5
    assert [w.version for w in writes] == ["9", "9"]


def test_fra7_there_is_no_put() -> None:
    public = {name for name in vars(Client) if not name.startswith("_")}
    assert public == {"create", "delete", "dry_run", "mutate", "named", "observed", "patch", "patch_status"}


class Cached:
    """A cache with one pod and one index."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def get(self, resource: Any, key: Key) -> Any:
        return POD if key.name == "a" else None

    def list(self, resource: Any, *, namespace: str | None = None, index: tuple[str, str] | None = None) -> Any:
        if resource != PODS or (index is not None and index[0] != "spec.nodeName"):
            raise ResourceNotCached(f"{resource} {index}: declare it with cache.watch(...)")
        self.asked.append((namespace, index))
        return (POD,)


async def test_cli1_reads_come_from_the_cache_and_live_reads_from_the_server() -> None:
    pod = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "live"}}
    script, _ = answering(ok(pod))
    client = client_of(script, cache=Cached())
    assert client.get(PODS, Key("ns", "a")) is POD and client.get(PODS, Key("ns", "b")) is None
    assert client.list(PODS, namespace="ns") == (POD,)
    assert script.requests == []
    assert (await client.live.get(PODS, Key("ns", "live"))).metadata.name == "live"
    assert "resourceVersion" not in query(script.requests[0])  # a quorum read


async def test_cli1_a_live_read_raises_not_found_and_names_what_does_not_fit() -> None:
    with pytest.raises(NotFound):
        await client_of(answering(refused(404, "NotFound"))[0]).live.get(PODS, Key("ns", "a"))
    bad = {"apiVersion": "apps.kruise.io/v1beta1", "kind": "BroadcastJob", "metadata": {"name": "a"}, "replicas": "x"}
    with pytest.raises(DecodeError) as caught:
        await client_of(answering(ok(bad))[0]).live.get(JOBS, Key("ns", "a"))
    assert caught.value.path == "$.replicas"


async def test_cli1_the_version_of_the_server_is_read_live() -> None:
    script = Script(lambda _: ok({"major": "1", "gitVersion": "v1.37.2"}))
    assert await client_of(script).live.server_version() == "v1.37.2"
    assert script.requests[0].path == "/version"
    assert await client_of(Script(lambda _: ok({"gitVersion": 1}))).live.server_version() == ""


async def test_cli1_a_live_list_walks_the_pages_and_keeps_what_does_not_fit() -> None:
    def page(request: Request) -> Response:
        first = "continue" not in query(request)
        meta = {"resourceVersion": "5", **({"continue": "more"} if first else {})}
        items = [{"metadata": {"name": "a"}, "replicas": 1}, {"metadata": {"name": "bad"}, "replicas": "x"}]
        return ok({"metadata": meta, "items": items if first else [{"metadata": {"name": "c"}}]})

    script = Script(page)
    found = await client_of(script).live.list(JOBS, namespace="ns", label_selector="x=1")
    assert [o.key.name for o in found] == ["a", "bad", "c"]
    assert [isinstance(o, Unreadable) for o in found] == [False, True, False]
    assert all(query(r)["labelSelector"] == ["x=1"] for r in script.requests) and len(script.requests) == 2


def test_cli8_undeclared_reads_raise_and_nothing_scans() -> None:
    cache = Cached()
    client = client_of(answering()[0], cache=cache)
    client.list(PODS, field_selector="spec.nodeName=n1")
    client.list(PODS, field_selector="spec.nodeName==n1", namespace="ns")
    assert cache.asked == [(None, ("spec.nodeName", "n1")), ("ns", ("spec.nodeName", "n1"))]
    for selector in ("status.phase=Running", "spec.nodeName!=n1", "spec.nodeName=n1,status.phase=x", "nonsense", "=x"):
        with pytest.raises(ResourceNotCached):
            client.list(PODS, field_selector=selector)
    with pytest.raises(ResourceNotCached, match=r"cache\.watch"):
        client.list(JOBS)
    with pytest.raises(ResourceNotCached, match=r"client\.live"):
        client_of(answering()[0]).get(PODS, Key("ns", "a"))
    with pytest.raises(ValueError, match="not both"):
        client.list(PODS, index=("a", "b"), field_selector="a=b")


def mutation(conflicts: int) -> tuple[Script, WriteGuard]:
    state = {"left": conflicts, "version": 10}

    def answer(request: Request) -> Response:
        if request.method == "PATCH":
            sent = json.loads(request.body or b"{}")["metadata"]
            assert sent["resourceVersion"] == str(state["version"])
            state["left"] -= 1
            return partial(version="99") if state["left"] < 0 else refused(409, "Conflict")
        state["version"] += 1
        return partial(version=str(state["version"]))

    return Script(answer), WriteGuard()


def test_cli7_mutate_reads_live_again_after_each_conflict() -> None:
    async def main() -> None:
        clock = VirtualClock()
        script, guard = mutation(4)
        client = client_of(script, guard, clock=clock)
        meta = await client.mutate(PODS, Key("ns", "a"), lambda _: {"metadata": {"labels": {"x": "9"}}})
        assert meta.resource_version == "99"
        assert [r.method for r in script.requests] == ["GET", "PATCH"] * 5
        assert clock.monotonic() == pytest.approx(0.04)

    run_virtual(main())


def test_cli7_mutate_gives_up_after_five_conflicts() -> None:
    async def main() -> None:
        script, guard = mutation(100)
        client = client_of(script, guard, clock=VirtualClock())
        with pytest.raises(Conflict):
            await client.mutate(PODS, Key("ns", "a"), lambda _: {"spec": {"a": 1}})
        assert [r.method for r in script.requests] == ["GET", "PATCH"] * 5

    run_virtual(main())


async def test_cli7_mutate_may_leave_it() -> None:
    script, guard = mutation(0)
    meta = await client_of(script, guard).mutate(PODS, Key("ns", "a"), lambda _: None)
    assert meta.resource_version == "11" and len(script.requests) == 1


async def test_cli7_nothing_else_retries_a_conflict() -> None:
    script, guard = answering(refused(409, "Conflict"))
    client = client_of(script, guard)
    for attempt in (
        client.patch(PODS, POD, {"spec": {"a": 1}}),
        client.patch_status(JOBS, JOB, {"active": 1}),
        client.delete(PODS, POD, disrupts=True),
    ):
        with pytest.raises(Conflict):
            await attempt
    assert len(script.requests) == 3


async def test_cli4_views_and_raw_parts_are_encoded_as_they_are() -> None:
    script, guard = answering()
    body = {"metadata": {"name": "a"}, "status": JobStatus(active=1), "t": msgspec.Raw(b'{"n": 1.0}')}
    await client_of(script, guard).create(NODES, body)
    assert b'"t":{"n": 1.0}' in (script.requests[0].body or b"")
    assert script.bodies[0]["status"]["observedGeneration"] == 0
    with pytest.raises(TypeError):
        await client_of(script, guard).create(NODES, {"metadata": {"name": "a"}, "x": object()})
