"""Oracles of upgrades of sidecars: a history that each must reject, and a legal near miss (reliability 6.7)."""

from __future__ import annotations

import pytest

from kruise.runtime.objects import Key
from kruise.simulator.invariants import (
    SIDECARSETS,
    Observed,
    SidecarSets,
    Written,
    standard_checkers,
)
from kruise.simulator.invariants import sidecarset_reading as reading
from tests.unit.simulator.sidecar_history import (
    CONTROLLER,
    EMPTY,
    History,
    a_pod,
    a_set,
    entries,
    given,
    ours,
    report,
)

# C1


def test_c1_accepts_an_upgrade_and_the_restart_of_the_sidecar():
    history = History()
    history.upgrade(0)
    history.finish(0)
    assert history.found() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: pod["spec"]["containers"][0].update(image="app:v2"),
        lambda pod: pod["spec"]["containers"][1].update(env=[]),
        lambda pod: pod["spec"]["containers"].reverse(),
        lambda pod: pod["metadata"]["labels"].update(more="yes"),
        lambda pod: pod["metadata"]["annotations"].update(note="yes"),
        lambda pod: pod["spec"].update(tolerations=[{"operator": "Exists"}]),
        lambda pod: pod["status"]["conditions"].append({"type": "Foreign", "status": "True"}),
    ],
)
def test_c1_rejects_a_write_beyond_the_sidecar(change):
    history = History()
    pod = history.upgraded(0)
    change(pod)
    history.write(pod)
    assert history.found() == ["C1"]


def test_c1_accepts_an_annotation_of_patch_pod_metadata():
    history = History(patchPodMetadata=[{"annotations": {"note": "yes"}, "patchPolicy": "Overwrite"}])
    pod = history.upgraded(0)
    pod["metadata"]["annotations"]["note"] = "yes"
    history.write(pod)
    assert history.found() == []


@pytest.mark.parametrize(("code", "found"), [(143, ["C1"]), (1, [])])
def test_c1_rejects_that_an_upgrade_kills_the_application_and_accepts_that_it_dies(code, found):
    history = History()
    history.upgrade(0)
    pod = report(history.pod(0), ready=False)
    app = pod["status"]["containerStatuses"][0]
    app |= {"lastState": {"terminated": {"exitCode": code, "containerID": app["containerID"]}}, "containerID": "new"}
    history.put("pods", pod, actor="kubelet")
    assert history.found() == found


# C5


def test_c5_rejects_a_second_pod_on_its_way_and_accepts_one_after_the_other():
    bad, good = History(), History()
    bad.upgrade(0)
    bad.upgrade(1)
    assert "attributed: 2 pods" in bad.texts()
    assert "snapshot" in bad.texts()
    good.upgrade(0)
    good.finish(0)
    good.upgrade(1)
    assert good.found() == []


def test_c5_counts_an_upgrade_of_which_the_kubelet_has_not_spoken_and_accepts_a_larger_budget():
    history = History(strategy={"maxUnavailable": "50%"})
    history.upgrade(0)
    history.upgrade(1)
    assert history.found() == []
    history.kubelet(0, ready=False)
    history.upgrade(2)
    assert history.found() == ["C5"]


def test_c5_takes_a_pod_that_is_down_for_free():
    history = History()
    history.kubelet(1, ready=False)
    history.upgrade(0)
    history.upgrade(1)
    assert history.found() == []


def test_c5_accepts_what_was_right_a_moment_ago_and_rejects_it_later():
    for wait, found in ((2, []), (20, ["C5"])):
        history = History(strategy={"maxUnavailable": 2})
        history.upgrade(0)
        history.kubelet(0, ready=False)
        history.publish(strategy={"maxUnavailable": 1})
        history.now += wait
        history.upgrade(1)
        assert history.found() == found


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        ({"paused": True}, "paused"),
        ({"type": "NotUpdate"}, "NotUpdate"),
        ({"selector": {"matchLabels": {"canary": "yes"}}}, "selector"),
        ({"partition": 3}, "partition"),
        ({"partition": "100%"}, "partition"),
    ],
)
def test_c5_rejects_an_upgrade_that_the_strategy_holds_back_and_accepts_it_before(strategy, text):
    history = History()
    history.publish(strategy=strategy)
    history.now += 60
    history.upgrade(0)
    assert history.found() == ["C5"]
    assert text in history.texts()
    history = History()
    history.publish(strategy=strategy)
    history.upgrade(0)
    assert history.found() == []


def test_c5_keeps_as_many_as_the_partition_says():
    history = History(strategy={"partition": 2})
    history.upgrade(0)
    history.finish(0)
    assert history.found() == []
    history.upgrade(1)
    assert history.found() == ["C5"]


def test_c5_a_percentage_below_all_never_keeps_all_of_several_pods():
    owner = a_set(strategy={"partition": "99%", "maxUnavailable": "5%"})
    assert (reading.partition(owner, 5), reading.budget(owner, 5)) == (4, 1)
    assert reading.partition(a_set(strategy={"partition": "1%"}), 5) == 1


def test_c5_rejects_another_order_than_by_priority_and_accepts_it_where_the_first_cannot_be_written():
    term = {"weight": 10, "matchSelector": {"matchLabels": {"first": "yes"}}}
    strategy = {"priorityStrategy": {"weightPriority": [term]}}
    labels = [{}, {"first": "yes"}, {}]
    bad = History(strategy=strategy, labels=labels)
    bad.upgrade(0)
    assert bad.found() == ["C5"]
    good = History(strategy=strategy, labels=labels)
    good.suite.on_request(Written("kruise", "patch", "pods", Key("ns", "web-1"), code=422, time=good.now))
    good.upgrade(0)
    assert good.found() == []


def test_c5_by_order_the_larger_number_comes_first():
    strategy = {"priorityStrategy": {"orderPriority": [{"orderedKey": "no"}]}}
    for number, found in ((0, ["C5"]), (2, [])):
        history = History(strategy=strategy, labels=[{"no": "a1"}, {"no": "a2"}, {"no": "a10"}])
        history.upgrade(number)
        assert history.found() == found


@pytest.mark.parametrize(("wait", "found"), [(30, ["C5"]), (2, [])])
def test_c5_rejects_that_a_pod_which_is_down_is_passed_over_for_long_and_accepts_it_in_one_pass(wait, found):
    history = History(strategy={"maxUnavailable": 3}, pods=4)
    history.kubelet(3, ready=False)
    history.upgrade(0)
    history.now += wait
    history.upgrade(1)
    assert history.found() == found


def test_c5_accepts_that_a_pod_which_goes_down_now_and_then_was_up_when_others_were_upgraded():
    history = History(strategy={"maxUnavailable": 3}, pods=4)
    history.kubelet(3, ready=False)
    history.upgrade(0)
    history.kubelet(3, ready=True)
    history.now += 30
    history.kubelet(3, ready=False)
    history.upgrade(1)
    assert history.found() == []


def test_c5_the_end_of_a_hot_upgrade_is_exempt():
    history = History(hot=True)
    history.upgrade(0)
    history.finish(0)
    pod = history.pod(0)
    pod["spec"]["containers"][1]["image"] = EMPTY
    history.publish(strategy={"paused": True})
    history.now += 60
    history.write(pod)
    assert history.found() == []


# C6


def test_c6_rejects_a_hash_without_its_images_and_a_version_that_is_nobodys():
    history = History()
    history.write(history.upgraded(0, image="side:v1"))
    assert history.found() == ["C6"]
    history = History()
    history.write(history.upgraded(0, tag="v9"))
    assert history.found() == ["C6"]


def test_c6_rejects_that_the_serving_twin_is_touched():
    history = History(hot=True)
    pod = history.upgraded(0)
    pod["spec"]["containers"][1]["image"] = EMPTY
    history.write(pod)
    assert "the only serving twin side-1 is changed" in history.texts()
    history = History(hot=True)
    history.upgrade(0)
    history.finish(0)
    pod = history.pod(0)
    for container in pod["spec"]["containers"][1:]:
        container["image"] = EMPTY
    history.write(pod)
    assert "both twins of side are emptied" in history.texts()


def test_c6_rejects_that_a_twin_is_emptied_before_the_other_one_works_and_accepts_it_afterwards():
    for ready, found in ((False, ["C6"]), (True, [])):
        history = History(hot=True)
        history.upgrade(0)
        history.kubelet(0, ready=ready)
        pod = history.pod(0)
        pod["spec"]["containers"][1]["image"] = EMPTY
        history.write(pod)
        assert history.found() == found


def test_c6_at_creation_and_at_rest():
    history = History(updating=False)
    pod = a_pod(7)
    asked = given(pod)
    pod["spec"]["containers"][1]["image"] = "side:v9"
    history.create(pod, asked)
    assert history.found() == ["C6"]
    history = History(updating=False)
    history.status(matchedPods=3, updatedPods=3, readyPods=3, updatedReadyPods=3)
    assert history.rest() == []
    pod = history.pod(0)
    pod["spec"]["containers"][1]["image"] = "side:v9"
    history.put("pods", report(pod), actor="somebody")
    assert history.rest() == ["C6"]


# C7


def test_c7_rejects_an_upgrade_of_more_than_images_and_accepts_the_mark():
    mark = {"type": reading.UPGRADABLE, "status": "False", "message": '{"mesh":false}'}
    history = History(updating=False)
    history.publish("v2", without="w2")
    history.now += 60
    history.upgrade(0)
    assert history.found() == ["C5", "C7"]  # nor does it wait for anything
    history = History(updating=False)
    history.publish("v2", without="w2")
    history.status(matchedPods=3, readyPods=3)
    assert history.rest() == ["C7"]
    history.suite.violations.clear()
    for number in range(3):
        pod = history.pod(number)
        pod["status"]["conditions"].append(mark)
        history.write(pod)
    assert history.rest() == []


# C10


def test_c10_rejects_a_write_for_a_set_that_is_gone_and_accepts_one_that_was_on_its_way():
    for wait, found in ((1, []), (60, ["C1", "C10"])):
        history = History()
        owner = history.world(SIDECARSETS, "mesh")
        history.rv += 1
        key = Key("", "mesh")
        history.suite.on_commit(
            Observed(history.rv, "delete", SIDECARSETS, key, owner, None, "user", None, history.now)
        )
        history.now += wait
        history.upgrade(0)
        assert history.found() == found


def test_g7_rejects_counts_that_the_pods_do_not_have():
    history = History(updating=False)
    history.status(matchedPods=3, updatedPods=3, readyPods=3, updatedReadyPods=2)
    assert history.rest() == ["G7"]


def test_g1_a_pod_of_somebody_else_is_written_for_a_set_that_is_noted_in_it_only():
    history = History()
    history.upgrade(0)
    assert history.found() == []
    stranger = a_pod(8, sets=())
    history.put("pods", stranger, actor="user")
    stranger["metadata"]["annotations"] = {reading.HASH: entries("h-v2", "mesh")}
    history.put("pods", stranger, controller=CONTROLLER)
    assert "G1" in history.found()


def test_the_oracles_of_sidecarsets_look_on_in_every_test_that_runs_the_manager():
    assert any(isinstance(checker, SidecarSets) for checker in standard_checkers(ours))
