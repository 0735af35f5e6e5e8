"""One pod's steps, against the recorded answers: hooks, refresh, deletion, in-place update.

Compared is the pod that the writes leave behind, and what was decided: an error, a delay, a deletion, an event. The
number and form of the requests are ours; that each of them changes something is asserted on the way. Every case runs
with and without the gate MergedPodStatusPatch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from kruise.apis.core import Pod
from kruise.apis.statefulset import LifecycleHook, RollingUpdate, StatefulSet
from kruise.controllers.common.inplace.flow import Flow, Outcome, delete_step, refresh, start
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.spec import NotPossible, UpdateSpec, update_spec
from kruise.controllers.common.lifecycle import STATE_LABEL, TIMESTAMP_ANNOTATION, State, all_hooked, hooked, state_of
from kruise.controllers.common.readiness import (
    POD_READY_GATE,
    PRE_DELETE_KEY,
    PRE_UPDATE_KEY,
    condition_of,
    keys_of,
)
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import parse_time
from tests.golden.loader import Case, deviations_for, parametrize, prune_ignored
from tests.golden.pod_flow import JSON, after_ours, after_theirs, comparable, typed

NOW = parse_time("2026-03-01T12:00:00Z") or 0.0
merged = pytest.mark.parametrize("merged", [True, False], ids=["merged", "apart"])


def gates_of(case: Case, merged: bool) -> Gates:
    on = case.gates
    return Gates(
        env_from_metadata=on.get("InPlaceUpdateEnvFromMetadata", True),
        vertical_scaling=on.get("InPlaceWorkloadVerticalScaling", False),
        merged_status_patch=merged,
        daemon=on.get("KruiseDaemon", True),
        server_version=case.input.get("serverVersion") or "v1.30.0",
    )


def set_of(case: Case) -> StatefulSet:
    return decode_as(StatefulSet, orjson.dumps(case.input["set"]))


def spec_of(case: Case, old: str, new: str, grace: int, gates: Gates) -> UpdateSpec | NotPossible:
    data = {one["metadata"]["name"]: one["data"].encode() for one in case.input["revisions"]}
    return update_spec(data.get(old), data[new], revision=new, gates=gates, grace_seconds=grace)


def compare(case: Case, pod: JSON, flow: Flow, decided: JSON) -> None:
    """Assert that *flow* leaves the pod of the case behind, and that *decided* is what the case decides.

    Where a rule says that ours decides otherwise, what it decides instead is asserted.
    """
    ours, theirs = after_ours(pod, flow.writes), after_theirs(pod, case.output["writes"])
    for name, (applies, instead) in OTHERWISE.items():
        if deviations_for(case, name) and applies(case, theirs):
            instead(flow, typed(ours))
            return
    found: JSON = {**decided, "pod": comparable(ours), "error": bool(flow.error)}
    expected: JSON = {key: case.output[key] for key in decided}
    expected |= {"pod": comparable(pod if theirs is None else theirs), "error": bool(case.output["error"])}
    assert prune_ignored(case, found) == prune_ignored(case, expected)


# ---- deliberate differences that dotted paths cannot tell: when they apply, and what holds instead -------------------


def _left_service(pod: JSON | None, status: str, key: str = "") -> bool:
    """Tell whether *pod* has a KruisePodReady with this status and, if given, this key."""
    found = (pod or {}).get("status", {}).get("conditions") or []
    return any(
        one["type"] == POD_READY_GATE and one["status"] == status and key in one.get("message", "") for one in found
    )


def _is_normal(flow: Flow, pod: Pod) -> None:
    assert not flow.error
    assert state_of(pod.metadata) is State.NORMAL
    assert keys_of(pod) == ()


def _is_false(flow: Flow, pod: Pod) -> None:
    have = condition_of(pod, POD_READY_GATE)
    assert have is not None
    assert have.status == "False"
    assert PRE_DELETE_KEY in keys_of(pod)
    assert flow.state is State.PREPARING_DELETE


Applies = Callable[[Case, JSON | None], bool]
OTHERWISE: dict[str, tuple[Applies, Callable[[Flow, Pod], None]]] = {
    "no-hook-no-updated": (
        lambda case, theirs: (
            theirs is not None
            and state_of(typed(theirs).metadata) is State.UPDATED
            and state_of(typed(case.input["pods"][0]).metadata) is not State.UPDATED
            and not (case.input["set"]["spec"].get("lifecycle") or {}).get("inPlaceUpdate")
        ),
        _is_normal,
    ),
    "keys-leave": (
        lambda case, theirs: (
            theirs is not None
            and state_of(typed(theirs).metadata) is State.NORMAL
            and _left_service(theirs, "False", PRE_UPDATE_KEY.key)
        ),
        _is_normal,
    ),
    "deletion-is-dropped": (
        lambda case, theirs: state_of(typed(case.input["pods"][0]).metadata) is State.PREPARING_DELETE,
        _is_normal,
    ),
    "false-not-empty": (lambda case, theirs: _left_service(theirs, ""), _is_false),
}


# ---- the kinds of cases ----------------------------------------------------------------------------------------------


@parametrize("statefulset-lifecycle")
@merged
def test_lifecycle(case: Case, merged: bool) -> None:
    kind = "hook" if "hook" in case.input else case.id.rpartition("-")[0]
    if kind == "hook":
        check_hook(case)
    elif "modified" in case.output:
        check_delete(case, gates_of(case, merged))
    elif "inPlace" in case.output:
        check_step(case, gates_of(case, merged))
    else:
        check_refresh(case, gates_of(case, merged))


def check_hook(case: Case) -> None:
    raw = case.input["hook"]
    hook = decode_as(LifecycleHook, orjson.dumps(raw)) if raw is not None else None
    meta = typed(case.input["pod"]).metadata
    found = {
        "hooked": hooked(hook, meta),
        "allHooked": all_hooked(hook, meta),
        "state": meta.labels.get(STATE_LABEL, ""),
    }
    assert found == case.output


def check_refresh(case: Case, gates: Gates) -> None:
    pod = case.input["pods"][0]
    lifecycle = set_of(case).spec.lifecycle
    flow = refresh(typed(pod), lifecycle=lifecycle, update_revision=case.input["updateRevision"], now=NOW, gates=gates)
    compare(case, pod, flow, {"changed": flow.state is not None, "delaySeconds": flow.delay or 0})


def check_delete(case: Case, gates: Gates) -> None:
    pod = case.input["pods"][0]
    flow = delete_step(typed(pod), lifecycle=set_of(case).spec.lifecycle, now=NOW, gates=gates)
    deleting = flow.outcome is Outcome.DELETE
    compare(case, pod, flow, {"deleting": deleting, "modified": deleting or flow.outcome is Outcome.PREPARED})


def check_step(case: Case, gates: Gates) -> None:
    pod, sts, new = case.input["pods"][0], set_of(case), case.input["updateRevision"]
    rolling = sts.spec.update_strategy.rolling_update or RollingUpdate()
    grace = rolling.in_place_update_strategy.grace_period_seconds if rolling.in_place_update_strategy else 0
    old = pod["metadata"]["labels"]["controller-revision-hash"]
    spec = spec_of(case, old, new, grace, gates)
    flow = start(typed(pod), spec, lifecycle=sts.spec.lifecycle, now=NOW, gates=gates, policy=rolling.pod_update_policy)
    compare(
        case,
        pod,
        flow,
        {"inPlace": not isinstance(spec, NotPossible), "requeueSeconds": flow.delay or 0},
    )
    started = [one["message"] for one in case.output["events"]]
    assert (flow.outcome is Outcome.STARTED) is bool(started), started


@parametrize("statefulset-inplace-flow")
@merged
def test_flow(case: Case, merged: bool) -> None:
    gates = gates_of(case, merged)
    if "newRevision" in case.input:
        check_start(case, gates)
        return
    pod = case.input["pod"]
    seen = typed(pod)
    revision = seen.metadata.labels["controller-revision-hash"]
    flow = refresh(seen, lifecycle=None, update_revision=revision, now=NOW, gates=gates)
    compare(case, pod, flow, {"delaySeconds": flow.delay or 0})


def check_start(case: Case, gates: Gates) -> None:
    pod = case.input["pods"][0]
    given = case.input
    spec = spec_of(case, given["oldRevision"], given["newRevision"], given["gracePeriodSeconds"], gates)
    if not given["setLifecycleUpdating"]:
        pod = without_lifecycle(pod)
    flow = start(typed(pod), spec, lifecycle=None, now=NOW, gates=gates)
    writes = case.output["writes"]
    if not given["setLifecycleUpdating"]:
        writes = [{**one, "pod": without_lifecycle(one["pod"])} if "pod" in one else one for one in writes]
    case = Case(case.file, case.id, case.what, case.input, {**case.output, "writes": writes}, case.gates)
    compare(
        case,
        pod,
        flow,
        {"inPlace": not isinstance(spec, NotPossible), "delaySeconds": flow.delay or 0},
    )


def without_lifecycle(pod: JSON) -> JSON:
    """Return *pod* without its lifecycle label: then a start of ours writes none, as in these cases."""
    meta: dict[str, Any] = pod["metadata"]
    labels = {key: value for key, value in meta["labels"].items() if key != STATE_LABEL}
    annotations = {key: value for key, value in meta["annotations"].items() if key != TIMESTAMP_ANNOTATION}
    return {**pod, "metadata": {**meta, "labels": labels, "annotations": annotations}}
