"""What is observed of a job: counts, candidates, evictions; told in pieces or at once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kruise.controllers.broadcastjob.slots import blocked_reason, classify
from kruise.controllers.broadcastjob.view import PodClass, View
from kruise.controllers.common.reasons import Reason
from kruise.runtime.objects import Key
from tests.unit.controllers.bcj import TEMPLATE, job, node, nodes, pod, unreadable


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({"phase": "Succeeded"}, PodClass.SUCCEEDED),
        ({"phase": "Failed"}, PodClass.FAILED),
        ({"phase": "Succeeded", "terminating": True}, PodClass.SUCCEEDED),
        ({"phase": "Failed", "terminating": True}, PodClass.FAILED),
        ({"terminating": True}, PodClass.TERMINATING),
        ({"phase": "Pending"}, PodClass.ACTIVE),
        ({"phase": ""}, PodClass.ACTIVE),
        ({"restarts": 2}, PodClass.ACTIVE),
        ({"restarts": 3}, PodClass.RESTART_FAILED),
        ({"restarts": 2, "initContainerStatuses": [{"name": "i", "restartCount": 1}]}, PodClass.RESTART_FAILED),
        ({"restarts": 3, "terminating": True}, PodClass.TERMINATING),
    ],
)
def test_b6_how_a_pod_counts(parts: dict[str, Any], kind: PodClass) -> None:
    assert classify(pod(job(), "n1", **parts), 2) is kind
    assert kind.failed is (kind in (PodClass.FAILED, PodClass.RESTART_FAILED))


def test_b6_the_restart_limit_is_for_on_failure_alone() -> None:
    never = job(template={"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}})
    assert classify(pod(never, "n1", restarts=9), 2) is PodClass.ACTIVE


def _waiting(reason: str) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": reason}}}]}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (_waiting("ErrImagePull"), Reason.IMAGE_PULL_FAILED),
        (_waiting("ImagePullBackOff"), Reason.IMAGE_PULL_FAILED),
        (_waiting("InvalidImageName"), Reason.IMAGE_PULL_FAILED),
        (_waiting("CrashLoopBackOff"), Reason.CRASH_LOOPING),
        (_waiting("ContainerCreating"), None),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
         Reason.POD_UNSCHEDULABLE),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}, None),
        ({"conditions": [{"type": "PodScheduled", "status": "True"}]}, None),
    ],
)  # fmt: skip
def test_why_a_pod_does_not_get_on(status: dict[str, Any], reason: Reason | None) -> None:
    assert blocked_reason(pod(job(), "n1", **status)) is reason


def test_counts_and_candidates() -> None:
    one = job()
    pods = [pod(one, "a", phase="Succeeded"), pod(one, "b"), pod(one, "c", terminating=True), pod(one, "gone")]
    view = View.of(one, nodes("a", "b", "c", "e", "d"), pods)
    assert (view.desired, view.pending, view.candidates, view.failed) == (5, 3, 2, 0)
    assert [s.name for s in view.first_candidates(9)] == ["d", "e"]
    assert view.count(PodClass.ACTIVE) == 2, "a pod counts although its node is gone"
    assert [p.key.name for p in view.active_pods()] == sorted(p.key.name for p in (pods[1], pods[3]))
    assert [s.name for s in view.slots()] == ["a", "b", "c", "d", "e"]


def test_a_failing_node_comes_last_and_not_before_its_time() -> None:
    view = View.of(job(), nodes("a", "b", "c"), [])
    view.failing = {"uid-a": False, "uid-b": True, "uid-gone": True}
    assert [s.name for s in view.first_candidates(3)] == ["c", "a"]
    assert [s.name for s in view.first_candidates(1)] == ["c"]
    assert (view.candidates, view.ready_candidates) == (3, 2)
    assert not view.is_candidate("uid-gone")


def test_an_evicted_pod_and_its_node() -> None:
    one = job()
    picky = job(template={"spec": {**TEMPLATE["spec"], "nodeSelector": {"use": "yes"}}})
    fitting = node("a", labels={"use": "yes"})
    view = View.of(picky, [fitting, node("b"), node("c")], [pod(picky, "a"), pod(picky, "b", phase="Succeeded")])
    assert [s.name for s in view.evicting()] == ["b"], "in any phase"
    assert view.desired == 1
    going = View.of(picky, [node("b")], [pod(picky, "b", terminating=True)])
    assert (going.evicting(), going.desired, going.pending) == ([], 1, 0), "a pod on its way out keeps its node desired"
    # Once pinned by the replaced affinity, a pod is judged by what it still carries.
    assert View.of(one, [node("a", labels={"x": "y"})], [pod(one, "a")]).evicting() == []


def test_a_pod_whose_requests_cannot_be_read_is_left_alone() -> None:
    one = job()
    odd = pod(one, "a")
    (container,) = odd.spec.containers
    resources = msgspec.structs.replace(container.resources, requests={"cpu": "lots"})
    container = msgspec.structs.replace(container, resources=resources)
    odd = msgspec.structs.replace(odd, spec=msgspec.structs.replace(odd.spec, containers=(container,)))
    view = View.of(one, nodes("a"), [odd])
    assert (view.desired, view.evicting()) == (1, [])


def test_the_later_of_two_pods_stands_for_the_node() -> None:
    one = job()
    view = View.of(one, nodes("a"), [pod(one, "a", name="z", phase="Succeeded"), pod(one, "a", name="b")])
    (slot,) = view.crowded()
    assert [p.key.name for p in slot.pods] == ["b", "z"]
    assert view.pending == 0
    view.set_pod(Key("ns", "z"), None)
    assert (view.crowded(), view.pending) == ([], 1)


def test_b1_takeover_maps_by_name_only_without_the_annotation() -> None:
    one = job()
    theirs = pod(one, "a", name="sweep-x7k2p", uid=None)
    view = View.of(one, nodes("a", "b"), [theirs])
    assert [s.name for s in view.first_candidates(9)] == ["b"]
    of_another = pod(one, "a", uid="uid-before")
    view = View.of(one, nodes("a"), [of_another])
    assert [s.name for s in view.first_candidates(9)] == ["a"], "a node made again is another node"


def test_a_node_made_again_takes_over_pods_by_name_alone() -> None:
    one = job()
    theirs, ours = pod(one, "a", name="x", uid=None), pod(one, "a")
    view = View.of(one, nodes("a"), [theirs, ours])
    assert len(view.crowded()) == 1
    view.set_node("a", node("a", uid="second"))
    (slot,) = view.slots()
    assert slot.uid == "second"
    assert [p.key.name for p in slot.pods] == ["x"]
    assert view.count(PodClass.ACTIVE) == 2
    view.set_node("a", None)
    assert (view.desired, list(view.slots())) == (0, [])
    view.set_node("a", node("a"))
    assert len(view.crowded()) == 1, "both come home to the node of the annotation"


def test_a_node_that_changes_is_judged_anew() -> None:
    view = View.of(job(), nodes("a"), [])
    same = node("a")
    view.set_node("a", same)
    view.set_node("a", same)
    assert view.candidates == 1
    view.set_node("a", node("a", unschedulable=True))
    assert (view.candidates, view.desired) == (0, 0)
    view.set_node("b", None)
    assert view.has_stake("a") is False
    view.set_node("a", node("a"))
    assert view.has_stake("a") is True
    assert view.has_stake("unknown") is False


def test_a_new_template_and_a_new_restart_limit_are_judged_anew() -> None:
    one = job()
    view = View.of(one, nodes("a", "b"), [pod(one, "a", restarts=3)])
    assert view.count(PodClass.RESTART_FAILED) == 1
    view.set_job(job(failurePolicy={"restartLimit": 5}))
    assert (view.count(PodClass.RESTART_FAILED), view.count(PodClass.ACTIVE)) == (0, 1)
    view.set_job(job(template={"spec": {**TEMPLATE["spec"], "nodeSelector": {"no": "where"}}}))
    assert (view.candidates, view.desired) == (0, 1)
    view.set_job(job(template={"spec": "wrong"}))
    assert "spec.template" in view.problem
    view.set_job(job())
    assert (view.problem, view.candidates) == ("", 1)


def test_a_template_that_cannot_be_read_wants_no_node() -> None:
    bad = job(template={"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "x"}}}]}})
    view = View.of(bad, nodes("a"), [])
    assert "requests[cpu]" in view.problem
    (slot,) = view.slots()
    assert slot.misfit is not None
    assert slot.misfit.reason is Reason.INVALID_SPEC
    assert View.of(job(template=None), nodes("a"), []).problem.startswith("spec.template: ")


def test_an_unreadable_pod_counts_as_active_and_holds_its_node() -> None:
    one = job()
    view = View.of(one, nodes("a", "b"), [unreadable(one, "a")])
    assert (view.count(PodClass.ACTIVE), view.candidates, view.pending) == (1, 1, 2)
    assert view.active_pods() == [], "nobody deletes it"
    assert len(view.unreadable_pods()) == 1
    assert not view.unplaced_unreadable
    lost = View.of(one, nodes("a", "b"), [unreadable(one, "a", annotated=False)])
    assert lost.unplaced_unreadable
    (view_of_it,) = lost.unreadable_pods()
    lost.set_pod(view_of_it.key, None)
    assert (lost.unplaced_unreadable, lost.unreadable_pods()) == (False, [])


def test_a_pod_of_somebody_else_is_none_of_ours() -> None:
    one = job()
    view = View.of(one, nodes("a"), [pod(job("other"), "a")])
    assert (list(view.pods()), view.candidates) == ([], 1)
    mine = pod(one, "a")
    view.set_pod(mine.key, mine)
    view.set_pod(mine.key, mine)
    assert view.candidates == 0
    body = msgspec.to_builtins(mine.metadata)
    body["labels"] = {}
    freed = msgspec.structs.replace(mine, metadata=msgspec.convert(body, type(mine.metadata)))
    view.set_pod(mine.key, freed)
    assert view.candidates == 1


def test_blocked_pods_are_counted_by_reason() -> None:
    one = job()
    stuck = [pod(one, name, **_waiting("ErrImagePull")) for name in ("a", "b", "c")]
    view = View.of(one, nodes("a", "b", "c"), stuck)
    assert view.blocked[Reason.IMAGE_PULL_FAILED] == 3
    assert len(view.blocked_pods(Reason.IMAGE_PULL_FAILED, 2)) == 2
    assert view.blocked_pods(Reason.CRASH_LOOPING, 2) == []
    view.set_pod(stuck[0].key, pod(one, "a"))
    assert +view.blocked == {Reason.IMAGE_PULL_FAILED: 2}


def test_a_version_that_tells_nothing_new_only_takes_the_place_of_the_last_one() -> None:
    one = job()
    pending, running = pod(one, "n1", phase="Pending"), pod(one, "n1", phase="Running")
    view = View.of(one, nodes("n1"), [pending])
    (before,) = view.pods()
    view.set_pod(running.key, running)
    (after,) = view.pods()
    assert after is before
    assert after.pod is running, "a deletion must carry the newest version"
    view.set_pod(running.key, pod(one, "n1", phase="Succeeded"))
    assert view.count(PodClass.SUCCEEDED) == 1


def test_an_evicted_pod_neither_fails_the_job_nor_ends_it_until_it_is_gone() -> None:
    cordoned = node("n1", unschedulable=True)
    view = View.of(job(), [node("n1"), node("n2")], [pod(job(), "n1"), pod(job(), "n2")])
    view.set_node("n1", cordoned)
    (slot,) = view.evicting()
    assert slot.pod is not None
    uid, key = slot.pod.pod.uid, slot.pod.key
    view.evicted.add(uid)
    view.set_pod(key, pod(job(), "n1", terminating=True))
    assert (view.desired, view.pending, view.failed) == (1, 1, 0)
    view.set_pod(key, pod(job(), "n1", terminating=True, phase="Failed"))
    assert (view.desired, view.pending, view.failed) == (1, 1, 0)
    view.set_node("n1", node("n1"))
    assert (view.desired, view.pending, view.candidates) == (2, 2, 0), "its work is not done, and it holds its node"
    view.set_pod(key, None)
    assert view.candidates == 1 and view.evicted == set()


def test_f1_a_manager_that_forgot_takes_a_pod_that_failed_on_its_way_out_for_evicted() -> None:
    dying = pod(job(), "n1", terminating=True, phase="Failed")
    view = View.of(job(), [node("n1", unschedulable=True)], [dying])
    assert view.failed == 0
    view.set_node("n1", node("n1"))
    assert view.failed == 1, "on a node where it fits, somebody else deleted it, and its failure counts"
