"""Which changes of a pod wake its job: never one less than a plan can tell."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kruise.apis.broadcastjob import NODE_UID_ANNOTATION
from kruise.apis.core import Pod
from kruise.controllers.broadcastjob.plan import Results, plan, settle
from kruise.controllers.broadcastjob.pod_events import PodMatters, same_for_job
from kruise.controllers.broadcastjob.view import View
from kruise.runtime.cache.store import Change
from kruise.runtime.client.nulls import decode_as
from tests.unit.controllers.bcj import NOW, job, nodes, pod, pod_body, unreadable

OWNER = job(parallelism=1, failurePolicy={"type": "Continue", "restartLimit": 2})


def changed(**parts: Any) -> Pod:
    """Return the pod of n1 with *parts* of its JSON replaced, by dotted path."""
    body = pod_body(OWNER, "n1", phase="Pending")
    for path, value in parts.items():
        at: Any = body
        *way, last = path.split("__")
        for step in way:
            at = at[step]
        at[last] = value
    return decode_as(Pod, orjson.dumps(body))


def waiting(reason: str) -> list[dict[str, Any]]:
    return [{"name": "main", "state": {"waiting": {"reason": reason}}}]


@pytest.mark.parametrize(
    "parts",
    [
        {"metadata__resourceVersion": "8"},
        {"spec__nodeName": "n1"},
        {"status__phase": "Running"},
        {"status__containerStatuses": waiting("ContainerCreating")},
        {"status__conditions": [{"type": "Ready", "status": "True"}]},
        {"metadata__annotations": {NODE_UID_ANNOTATION: "uid-n1", "note": "new"}},
    ],
)
def test_what_a_healthy_pod_reports_on_its_way_wakes_nobody(parts: dict[str, Any]) -> None:
    before, after = changed(), changed(**parts)
    if "metadata__annotations" in parts:
        before = changed(metadata__annotations={**after.metadata.annotations, "note": "old"})
    assert same_for_job(before, after)
    assert not PodMatters().test(Change(before, after))


@pytest.mark.parametrize(
    "parts",
    [
        {"status__phase": "Succeeded"},
        {"status__phase": "Failed"},
        {"metadata__deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"metadata__uid": "another"},
        {"metadata__labels": {}},
        {"metadata__annotations": {}},
        {"metadata__ownerReferences": []},
        {"spec__nodeName": "n2"},
        {"spec__affinity": {}},
        {"spec__containers": [{"name": "main", "resources": {"requests": {"cpu": "64"}}}]},
        {"status__containerStatuses": waiting("ErrImagePull")},
        {"status__containerStatuses": [{"name": "main", "restartCount": 1}]},
    ],
)
def test_what_changes_counts_place_or_fit_wakes_the_job(parts: dict[str, Any]) -> None:
    assert not same_for_job(changed(), changed(**parts))


def test_additions_deletions_and_unreadable_pods_always_matter() -> None:
    known, broken = pod(OWNER, "n1"), unreadable(OWNER, "n1")
    for change in (Change(None, known), Change(known, None), Change(known, broken), Change(broken, known)):
        assert PodMatters().test(change)


def test_pods_of_others_are_left_to_the_handler() -> None:
    known = changed(metadata__ownerReferences=[])
    assert PodMatters().test(Change(known, known))


PARTS = {
    "status__phase": st.sampled_from(["", "Pending", "Running", "Succeeded", "Failed"]),
    "status__containerStatuses": st.sampled_from(
        [waiting("ErrImagePull"), waiting("ContainerCreating"), [{"name": "main", "restartCount": 3}], []]
    ),
    "status__conditions": st.sampled_from(
        [[], [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}], [{"type": "Ready"}]]
    ),
    "metadata__deletionTimestamp": st.sampled_from([None, "2026-01-01T00:00:00Z"]),
    "metadata__annotations": st.sampled_from([{}, {NODE_UID_ANNOTATION: "uid-n2"}, {"other": "x"}]),
    "spec__nodeName": st.sampled_from(["", "n1", "n2", "gone"]),
    "spec__affinity": st.sampled_from([None, {}]),
    "spec__nodeSelector": st.sampled_from([{}, {"disk": "ssd"}]),
    "spec__tolerations": st.sampled_from([[], [{"operator": "Exists"}]]),
}
PICKS = st.fixed_dictionaries({}, optional=PARTS)


@example(common={}, before={}, after={"status__containerStatuses": [{"name": "main", "restartCount": 3}]})
@given(common=PICKS, before=PICKS, after=PICKS)
def test_versions_that_are_the_same_for_the_job_lead_to_the_same_plan_and_status(
    common: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = changed(**{**before, **common}), changed(**{**after, **common})
    if same_for_job(old, new):
        assert _outcome(old) == _outcome(new)


def _outcome(one: Pod) -> Any:
    view = View.of(OWNER, nodes("n1", "n2", "n3"), [one])
    planned = plan(OWNER, view, NOW)
    settled = settle(OWNER, view, planned, Results(), NOW)
    creates = [slot.name for slot in planned.creates]
    deletes = [p.key for p in planned.deletes]
    return creates, deletes, planned.events, planned.room, planned.next_check, settled.status, settled.events
