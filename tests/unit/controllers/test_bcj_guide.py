"""docs/broadcastjob.md: its manifests are valid and do what it says; its vocabulary is that of the code."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from kruise.apis.broadcastjob import BroadcastJob
from kruise.apis.broadcastjob_rules import decode_problem, default_broadcastjob, validate_broadcastjob
from kruise.apis.core import Node
from kruise.controllers.broadcastjob.plan import Ending, plan
from kruise.controllers.broadcastjob.view import View
from kruise.controllers.common.reasons import Reason
from kruise.runtime.client.nulls import decode_as
from tests.unit.controllers.bcj import NOW, node

TEXT = (Path(__file__).parents[3] / "docs" / "broadcastjob.md").read_text()
MANIFESTS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
LINUX = {"kubernetes.io/os": "linux"}


def cluster() -> list[Node]:
    dedicated = [{"key": "dedicated", "value": "storage", "effect": "NoSchedule"}]
    cordon = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    return [
        node("cordoned", labels={**LINUX, "disk": "ssd"}, unschedulable=True, taints=cordon),
        node("full", labels={**LINUX, "disk": "ssd"}, allocatable={"pods": "0"}),
        node("hdd", labels={**LINUX, "disk": "hdd"}),
        node("plain-1", labels=LINUX),
        node("plain-2", labels=LINUX),
        node("ssd", labels={**LINUX, "disk": "ssd"}),
        node("storage", labels={**LINUX, "disk": "nvme"}, taints=dedicated),
    ]


EVERYWHERE = ["hdd", "plain-1", "plain-2", "ssd"]
EXPECTED = {
    "pull-image": EVERYWHERE,
    "check-disks": ["cordoned", "ssd", "storage"],
    "update-agent": EVERYWHERE[:1],
    "nightly-check": EVERYWHERE,
    "prepare-new-nodes": EVERYWHERE,
    "migrate-data": EVERYWHERE,
    "staged-rollout": [],
}


def stored(manifest: dict[str, Any]) -> dict[str, Any]:
    job = default_broadcastjob(copy.deepcopy(manifest))
    job["metadata"] |= {"namespace": "default", "uid": "u", "generation": 1, "resourceVersion": "1"}
    return job


def test_the_guide_has_all_examples() -> None:
    assert [m["metadata"]["name"] for m in MANIFESTS] == list(EXPECTED)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: m["metadata"]["name"])
def test_an_example_is_valid_and_does_what_the_guide_says(manifest: dict[str, Any]) -> None:
    body = stored(manifest)
    assert decode_problem(body, "v1beta1") == ""
    assert validate_broadcastjob(body) == []
    job = decode_as(BroadcastJob, orjson.dumps(body))
    planned = plan(job, View.of(job, cluster(), ()), NOW)
    assert [slot.name for slot in planned.creates] == EXPECTED[manifest["metadata"]["name"]]
    assert planned.error == ""
    assert (planned.ending is Ending.PAUSED) is job.spec.paused
    deadline = job.spec.completion_policy.active_deadline_seconds
    assert planned.next_check == (None if deadline is None else deadline)


def test_every_field_of_the_spec_has_an_example() -> None:
    def paths(value: Any, at: str = "") -> set[str]:
        if not isinstance(value, dict) or at == "template":
            return {at}
        return {p for key, item in value.items() for p in paths(item, f"{at}.{key}".lstrip("."))}

    shown = {p for m in MANIFESTS for p in paths(m["spec"])}
    assert shown >= {
        "parallelism",
        "template",
        "paused",
        "completionPolicy.type",
        "completionPolicy.activeDeadlineSeconds",
        "completionPolicy.ttlSecondsAfterFinished",
        "failurePolicy.type",
        "failurePolicy.restartLimit",
    }


def reasons_of_the_code() -> set[str]:
    """The reasons that the planner of BroadcastJobs names, and those that a refused creation has."""
    package = Path(__file__).parents[3] / "kruise" / "controllers"
    names = {
        node.attr
        for path in (*(package / "broadcastjob").glob("*.py"), package / "common" / "reasons.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    return {str(Reason[name]) for name in names}


def test_every_reason_is_explained() -> None:
    section = TEXT.partition("## Reasons")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert told == reasons_of_the_code()


def test_the_guide_warns_that_work_may_run_twice() -> None:
    head = TEXT.partition("\n## ")[0]
    assert "Not exactly once" in head
    assert "a Succeeded one as well" in head
    assert "a second time" in re.sub(r"\s*\n>\s*", " ", head)


def test_every_link_inside_the_guide_has_its_heading() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\(#([a-z-]+)\)", TEXT)) <= headings
