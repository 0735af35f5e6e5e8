"""Which jobs a change of a node wakes."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.controllers.broadcastjob.node_events import TemplateCache, affected, same_for_pods, same_node
from tests.unit.controllers.bcj import TEMPLATE, job, node

PICKY = {"spec": {**TEMPLATE["spec"], "nodeSelector": {"use": "yes"}}}
FIT = {"use": "yes"}


def woken(old: Any, new: Any, *jobs: Any, by_scheduler: bool = True) -> list[str]:
    return [key.name for key in affected(old, new, jobs, TemplateCache(), by_scheduler=by_scheduler)]


def test_a_new_node_wakes_whom_it_fits() -> None:
    jobs = [job("all"), job("picky", template=PICKY)]
    assert woken(None, node("a"), *jobs) == ["all"]
    assert woken(None, node("a", labels=FIT), *jobs) == ["all", "picky"]


def test_a_changed_node_wakes_those_whose_answer_flipped() -> None:
    jobs = [job("all"), job("picky", template=PICKY)]
    assert woken(node("a"), node("a", labels=FIT), *jobs) == ["picky"]
    assert woken(node("a"), node("a", unschedulable=True), *jobs) == ["all"]
    assert woken(node("a", unschedulable=True), node("a"), *jobs) == ["all"]


def test_a_deleted_node_wakes_nobody_here() -> None:
    assert woken(node("a"), None, job()) == []


def test_a_job_that_cannot_be_read_wakes_nobody_and_stops_nobody() -> None:
    assert woken(None, node("a"), job("bad", template={"spec": 1}), job("good")) == ["good"]


def test_a_pinned_template_is_restricted_to_its_node_unless_the_scheduler_is_bypassed() -> None:
    pinned = job(template={"spec": {**TEMPLATE["spec"], "nodeName": "b"}})
    assert woken(None, node("a"), pinned) == []
    assert woken(None, node("b"), pinned) == ["sweep"]
    assert woken(None, node("a"), pinned, by_scheduler=False) == ["sweep"]


READY = {"type": "Ready", "status": "True"}


@pytest.mark.parametrize(
    ("old", "new", "same", "pods"),
    [
        ({}, {}, True, True),
        ({"conditions": [READY]}, {"conditions": [READY, READY]}, True, True),
        ({"conditions": [READY]}, {"conditions": [{**READY, "status": "False"}]}, False, True),
        ({"allocatable": {"cpu": "4"}}, {"allocatable": {"cpu": "4000m"}}, True, True),
        ({"allocatable": {"cpu": "4"}}, {"allocatable": {"cpu": "5"}}, False, False),
        ({"allocatable": {"cpu": "4"}}, {"allocatable": {"cpu": "4", "x/y": "1"}}, False, False),
        ({"allocatable": {"cpu": "odd"}}, {"allocatable": {"cpu": "4"}}, False, False),
        ({"allocatable": {"cpu": "odd"}}, {"allocatable": {"cpu": "odd"}}, True, True),
        ({}, {"labels": FIT}, False, False),
        ({}, {"uid": "other"}, False, False),
        ({}, {"unschedulable": True}, False, False),
        ({}, {"taints": [{"key": "k", "effect": "NoSchedule"}]}, False, False),
    ],
)
def test_what_counts_as_a_change(old: dict[str, Any], new: dict[str, Any], same: bool, pods: bool) -> None:
    assert same_node(node("a", **old), node("a", **new)) is same
    assert same_for_pods(node("a", **old), node("a", **new)) is pods


def test_g9_templates_are_read_once_per_generation_and_forgotten() -> None:
    templates = TemplateCache()
    one = job()
    assert templates.get(one) is templates.get(one)
    assert templates.get(job("bad", template={"spec": 1})) is None
    assert len(templates) == 2
    templates.forget("uid-sweep")
    templates.forget("uid-sweep")
    assert len(templates) == 1
