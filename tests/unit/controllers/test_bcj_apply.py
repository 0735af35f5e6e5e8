"""What is written: names, unknown outcomes, batches, and that one node never stops another."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from kruise.apis.broadcastjob import BroadcastJob
from kruise.apis.core import Pod
from kruise.controllers.broadcastjob.apply import AT_ONCE, Applied, apply
from kruise.controllers.broadcastjob.plan import Ending, Plan
from kruise.controllers.broadcastjob.pods import pod_name
from kruise.controllers.broadcastjob.reports import action_events, action_of
from kruise.controllers.broadcastjob.view import View
from kruise.controllers.common.reasons import NameConflictError
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.errors import (
    AlreadyExists,
    Cause,
    Conflict,
    Fenced,
    Forbidden,
    NotFound,
    Refused,
    Status,
    UnknownOutcome,
)
from kruise.runtime.objects import Key, PartialObject, Unreadable
from tests.unit.controllers.bcj import job, node, nodes, pod, pod_body, unreadable

EXISTS = AlreadyExists(Status(409, "AlreadyExists"))
DENIED = Forbidden(Status(403, "Forbidden", "no"))
UNKNOWN = UnknownOutcome("create", Refused("reset"))


class Cluster:
    """A client over a dict of pods. ``fails`` maps node names to errors; ``applied`` ones happen nonetheless."""

    def __init__(self, *, applied: bool = False, **fails: Exception) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.fails = fails
        self.applied = applied
        self.live = self
        self.sent: list[str] = []
        self.deleted: list[str] = []
        self.seen: list[str] = []
        self.lists = 0
        self.reads_fail: Exception | None = None
        self.running = self.most = 0
        self.hidden: list[Any] = []

    async def create(self, resource: Any, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        self.sent.append(name)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        where = body["metadata"]["annotations"]["apps.kruise.io/broadcastjob-node-uid"].removeprefix("uid-")
        error = self.fails.get(where)
        if error is not None and not self.applied:
            raise error
        if name in self.pods:
            raise EXISTS
        self.pods[name] = body
        if error is not None:
            raise error

    async def delete(self, resource: Any, obj: Pod, *, disrupts: bool) -> bool:
        assert disrupts
        error = self.fails.get(obj.metadata.name)
        if isinstance(error, NotFound):
            return False
        if error is not None:
            raise error
        self.deleted.append(obj.metadata.name)
        return True

    async def get(self, resource: Any, key: Key) -> PartialObject:
        assert resource.metadata_only, "a pod that cannot be decoded must be recognised too"
        if self.reads_fail is not None:
            raise self.reads_fail
        if key.name not in self.pods:
            raise NotFound(Status(404, "NotFound"))
        return decode_as(PartialObject, orjson.dumps(self.pods[key.name]))

    async def list(self, resource: Any, *, namespace: str, label_selector: str) -> list[Any]:
        assert (namespace, label_selector) == ("ns", "broadcastjob-controller-uid=uid-sweep")
        self.lists += 1
        return self.hidden

    def observed(self, resource: Any, obj: PartialObject) -> None:
        self.seen.append(obj.metadata.name)


def slots(*names: str) -> tuple[Any, ...]:
    return tuple(View.of(job(), nodes(*names), []).first_candidates(9999))


async def create(cluster: Cluster, *names: str, room: int = 9999, one: BroadcastJob | None = None) -> Applied:
    planned = Plan(Ending.RUNNING, creates=slots(*names), room=room)
    return await apply(cluster, one or job(), planned, by_scheduler=True)  # type: ignore[arg-type]


def name_of(where: str, k: int = 0) -> str:
    return pod_name("sweep", "uid-sweep", f"uid-{where}", k)


async def test_b1_the_name_is_deterministic() -> None:
    cluster = Cluster()
    done = await create(cluster, "a", "b")
    assert done.created == [("a", name_of("a")), ("b", name_of("b"))]
    assert (done.results.created, done.errors) == (2, [])


# AlreadyExists and unknown outcomes.


async def test_b1_an_existing_pod_of_ours_is_success_and_is_waited_for() -> None:
    cluster = Cluster()
    cluster.pods[name_of("a")] = pod_body(job(), "a")
    done = await create(cluster, "a")
    assert done.created == [("a", name_of("a"))]
    assert cluster.seen == [name_of("a")], "the next plan waits until the cache has it"


async def test_b1_a_terminating_pod_of_ours_is_waited_for_without_an_error() -> None:
    cluster = Cluster()
    cluster.pods[name_of("a")] = pod_body(job(), "a", terminating=True)
    done = await create(cluster, "a", "b")
    assert done.created == [("b", name_of("b"))]
    assert (done.errors, done.refusals, cluster.sent.count(name_of("a", 1))) == ([], [], 0)


@pytest.mark.parametrize("what", ["other job", "other node", "no owner"])
async def test_b1_a_foreign_pod_raises_k_after_a_live_list(what: str) -> None:
    cluster = Cluster()
    body = pod_body(job(), "a")
    if what == "other job":
        body["metadata"]["ownerReferences"][0]["uid"] = "somebody"
    elif what == "other node":
        body["metadata"]["annotations"] = {}
    else:
        del body["metadata"]["ownerReferences"]
    cluster.pods[name_of("a")] = body
    done = await create(cluster, "a")
    assert done.created == [("a", name_of("a", 1))]
    assert cluster.lists == 1


@pytest.mark.parametrize(
    ("hidden", "holds"),
    [
        (lambda: pod(job(), "a", name="older"), True),
        (lambda: pod(job(), "a", name="older", terminating=True), True),
        (lambda: pod(job(), "a", name="theirs", uid=None), True),
        (lambda: unreadable(job(), "a"), True),
        (lambda: unreadable(job(), "x", annotated=False), True),
        (lambda: pod(job(), "b"), False),
        (lambda: pod(job(), "b", name="theirs", uid=None), False),
        (lambda: pod(job(), "a", uid="uid-node-before"), False),
        (lambda: Unreadable(metadata=PartialObject().metadata, problem="p", path="$"), False),
    ],
)
async def test_b1_k_is_not_raised_while_the_job_may_have_a_pod_there(hidden: Any, holds: bool) -> None:
    cluster = Cluster()
    foreign = pod_body(job(), "a")
    del foreign["metadata"]["ownerReferences"]
    cluster.pods[name_of("a")] = foreign
    cluster.hidden = [hidden()]
    done = await create(cluster, "a")
    assert done.created == ([] if holds else [("a", name_of("a", 1))])
    assert (done.refusals, done.errors) == ([], [])


async def test_names_run_out() -> None:
    cluster = Cluster(a=EXISTS)
    for k in range(8):
        cluster.pods[name_of("a", k)] = {"metadata": {"name": name_of("a", k)}}
    done = await create(cluster, "a")
    ((slot, error),) = done.refusals
    assert slot.name == "a"
    assert isinstance(error, NameConflictError)
    assert f"ns/{name_of('a')}" in str(error)


async def test_a_name_that_is_free_again_is_taken_at_the_next_try() -> None:
    class Fleeting(Cluster):
        async def create(self, resource: Any, body: dict[str, Any]) -> None:
            if not self.sent:
                self.sent.append("lost")
                raise EXISTS
            await super().create(resource, body)

    cluster = Fleeting()
    done = await create(cluster, "a")
    assert done.created == [("a", name_of("a"))]
    assert cluster.lists == 0


async def test_x25_a_creation_of_unknown_outcome_that_happened_is_success() -> None:
    cluster = Cluster(a=UNKNOWN, applied=True)
    done = await create(cluster, "a")
    assert (done.created, done.errors) == ([("a", name_of("a"))], [])
    assert cluster.seen == [name_of("a")]


async def test_x25_a_creation_of_unknown_outcome_that_did_not_happen_is_tried_later_under_its_name() -> None:
    cluster = Cluster(a=UNKNOWN)
    done = await create(cluster, "a")
    assert done.errors == [UNKNOWN]
    assert cluster.sent == [name_of("a")]


async def test_an_unknown_outcome_that_nobody_can_look_up_stays_unknown() -> None:
    cluster = Cluster(a=UNKNOWN, applied=True)
    cluster.reads_fail = Refused("down")
    done = await create(cluster, "a")
    assert done.errors == [cluster.reads_fail]


# Batches.


async def test_rule9_a_refused_template_costs_one_request() -> None:
    names = [f"n{i:03}" for i in range(200)]
    cluster = Cluster(**dict.fromkeys(names, DENIED))
    done = await create(cluster, *names)
    assert len(cluster.sent) == 1
    assert [slot.name for slot, _ in done.refusals] == ["n000"]


@pytest.mark.parametrize(("bad", "most"), [("n010", 17), ("n150", 150 + AT_ONCE)])
async def test_rule9_nothing_is_begun_after_an_error(bad: str, most: int) -> None:
    names = [f"n{i:03}" for i in range(400)]
    cluster = Cluster(**{bad: DENIED})
    done = await create(cluster, *names)
    assert len(cluster.sent) <= most
    assert len(done.created) == len(cluster.sent) - 1, "what was begun beside it is finished"


async def test_rule9_batches_of_one_sixteen_and_the_window() -> None:
    cluster = Cluster()
    done = await create(cluster, *(f"n{i:03}" for i in range(300)))
    assert len(done.created) == 300
    assert cluster.most == AT_ONCE
    await create(small := Cluster(), *(f"n{i:03}" for i in range(17)))
    assert small.most == 16


async def test_a_terminating_namespace_is_a_refusal_and_no_error() -> None:
    gone = Forbidden(Status(403, "Forbidden", "gone", causes=(Cause("NamespaceTerminating"),)))
    done = await create(Cluster(a=gone), "a")
    assert (len(done.refusals), done.errors) == (1, [])


async def test_lea7_after_the_term_nothing_is_reported() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await create(Cluster(a=Fenced("over")), "a")
    assert caught.group_contains(Fenced)


# Deletions.


def evictions(one: BroadcastJob, *phases: str) -> tuple[Any, ...]:
    names = "abcdef"[: len(phases)]
    seen = [node(name, unschedulable=True) for name in names]
    view = View.of(one, seen, [pod(one, n, phase=p) for n, p in zip(names, phases, strict=True)])
    return tuple(slot.pods[-1] for slot in view.evicting())


async def test_one_failing_deletion_stops_no_other() -> None:
    one = job()
    views = evictions(one, "Running", "Running", "Succeeded", "Running")
    conflict = Conflict(Status(409, "Conflict"))
    cluster = Cluster(**{views[0].key.name: conflict, views[3].key.name: NotFound(Status(404))})
    done = await apply(cluster, one, Plan(Ending.RUNNING, deletes=views), by_scheduler=True)  # type: ignore[arg-type]
    assert done.deleted == sorted([views[1].key.name, views[2].key.name])
    assert done.stopped == 2, "an active one that was gone has stopped too"
    assert [v.key for v, _ in done.undeleted] == [views[0].key]
    assert done.errors == [conflict]


async def test_lea7_a_deletion_after_the_term_is_raised() -> None:
    one = job()
    (view,) = evictions(one, "Running")
    cluster, planned = Cluster(**{view.key.name: Fenced("over")}), Plan(Ending.RUNNING, deletes=(view,))
    with pytest.raises(ExceptionGroup):
        await apply(cluster, one, planned, by_scheduler=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("fails", [True, False])
async def test_b4_the_room_of_a_deletion_is_used_only_if_it_happened(fails: bool) -> None:
    one = job(parallelism=1)
    (view,) = evictions(one, "Running")
    cluster = Cluster(**({view.key.name: Conflict(Status(409, "Conflict"))} if fails else {}))
    planned = Plan(Ending.RUNNING, deletes=(view,), creates=slots("x"), room=0)
    done = await apply(cluster, one, planned, by_scheduler=True)  # type: ignore[arg-type]
    assert len(done.created) == (0 if fails else 1)


# Events.


async def test_rec7_a_thousand_pods_are_one_event() -> None:
    done = await create(Cluster(), *(f"n{i:03}" for i in range(20)))
    (event,) = action_events(done)
    assert (event.type, event.reason) == ("Normal", "SuccessfulCreate")
    assert event.note.startswith("Created pods: 20 pods: sweep-")
    assert event.note.endswith("and 15 more")


async def test_events_of_single_pods_read_like_openkruise() -> None:
    done = await create(Cluster(), "a")
    assert [e.note for e in action_events(done)] == [f"Created pod: {name_of('a')}"]
    deleted = action_events(Applied(deleted=["x"]))
    assert [(e.reason, e.note) for e in deleted] == [("SuccessfulDelete", "Delete pod: x")]
    few = action_events(Applied(deleted=["x", "y"]))
    assert few[0].note == "Delete pods: 2 pods: x, y"


async def test_one_cause_is_one_event_on_however_many_nodes() -> None:
    a, b = slots("a", "b")
    request = {"verb": "create", "resource": "pods", "namespace": "ns"}
    errors = [
        Forbidden(Status(403, "Forbidden", f'pods "{n}" is forbidden: no', name=n, **request)) for n in ("p1", "p2")
    ]
    found = action_events(Applied(refusals=[(a, errors[0]), (b, errors[1]), (b, Refused("down"))]))
    assert [(e.type, e.reason) for e in found] == [("Warning", "FailedCreate")] * 2
    assert "p1" not in found[0].note
    assert found[1].note == "Error creating: down"


@pytest.mark.parametrize(
    ("reason", "action"),
    [("SuccessfulCreate", "Create"), ("failed pod is found", "Fail"), ("PodUnreadable", "Reconcile")],
)
def test_rec1_every_event_has_an_action(reason: str, action: str) -> None:
    assert action_of(reason) == action
