"""Which jobs a node event wakes, against the recorded answers.

Compared are the keys. Whether an update was found irrelevant before any job was looked at is a matter of the
implementation, and upstream looks at fields that no decision reads (images, addresses).
"""

from __future__ import annotations

import orjson

from kruise.apis.broadcastjob import BroadcastJob
from kruise.apis.core import Node, PodTemplate
from kruise.controllers.broadcastjob.node_events import TemplateCache, affected
from kruise.runtime.client.nulls import decode_as
from tests.golden.loader import Case, deviations_for, parametrize, prune_ignored


def _node_name(job: BroadcastJob) -> str:
    return decode_as(PodTemplate, job.spec.template).spec.node_name


@parametrize("broadcastjob-node-events")
def test_node_event(case: Case) -> None:
    jobs = [decode_as(BroadcastJob, orjson.dumps(job)) for job in case.input["jobs"]]
    before, after = (
        None if case.input.get(side) is None else decode_as(Node, orjson.dumps(case.input[side]))
        for side in ("old", "new")
    )
    if case.input["event"] == "delete":
        before, after = before or after, None
    templates = TemplateCache()
    got = {"enqueued": [str(key) for key in affected(before, after, jobs, templates)]}
    wanted = {"enqueued": case.output["enqueued"]}
    if deviations_for(case, "leave-out-pinned") and after is not None:
        pinned = {str(job.key) for job in jobs if _node_name(job) not in ("", after.metadata.name)}
        wanted["enqueued"] = [key for key in wanted["enqueued"] if key not in pinned]
    assert prune_ignored(case, got) == prune_ignored(case, wanted)
