"""Order, status and whole passes of StatefulSets, against the recorded answers."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.apis.core import Pod
from kruise.apis.intorstring import statefulset_max_unavailable, statefulset_scale_max_unavailable
from kruise.controllers.common.revisions import Chosen, Revision
from kruise.controllers.statefulset import slots as m
from kruise.controllers.statefulset.actions import Results
from kruise.controllers.statefulset.plan import Plan, plan, settle
from kruise.controllers.statefulset.predicates import (
    is_available,
    is_created,
    is_finished,
    is_healthy,
    is_ready,
)
from kruise.controllers.statefulset.scale import revision_for
from kruise.controllers.statefulset.status import completed, counted, wire
from kruise.controllers.statefulset.update import candidates
from kruise.controllers.statefulset.view import View
from tests.golden.asts_world import (
    NOW,
    Pass,
    comparable_pods,
    run,
    set_of,
    settings_of,
    their_claims,
    their_pods,
    without_types,
)
from tests.golden.loader import Case, cases, deviations_for, normalise, parametrize, prune_ignored
from tests.golden.pod_flow import JSON, typed

ORDER, STATUS, RECONCILE = "statefulset-update-order", "statefulset-status", "statefulset-reconcile"


def kind(case: Case) -> str:
    return case.id.rpartition("-")[0]


def revisions(current: str, update: str) -> Chosen:
    return Chosen(Revision(current, 1, b"{}"), Revision(update, 2, b"{}"), 0)


# ---- order -----------------------------------------------------------------------------------------------------------


@parametrize(ORDER)
def test_s3_order(case: Case) -> None:
    {"order": check_order, "new-pod-revision": check_new_pod, "max-unavailable": check_budget}[kind(case)](case)


def slots_view(case: Case, body: JSON, update: str) -> View:
    """A view of the given slots, but for the one that the case asks for: it is yet to be created."""
    view = View(set_of(body), revisions("web-current", update), settings_of(case))
    for pod in case.input["slots"]:
        if pod is not None:
            found = typed({**pod, "metadata": {"namespace": "prod", **pod["metadata"]}})
            if found.metadata.name == f"{view.sts.metadata.name}-{case.input.get('ordinal')}":
                continue
            view.set_pod(found.key, found)
    view.advance(NOW)
    return view


def check_order(case: Case) -> None:
    slots = case.input["slots"]
    start = min((int(p["metadata"]["name"].rpartition("-")[2]) - i for i, p in enumerate(slots) if p), default=0)
    name = next((p["metadata"]["name"].rpartition("-")[0] for p in slots if p), "web")
    body = {
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {
            "replicas": sum(1 for p in slots if p),
            "reserveOrdinals": [start + i for i, p in enumerate(slots) if p is None],
            "ordinals": {"start": start},
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": case.input["rollingUpdate"]},
        },
    }
    case.gates.setdefault("StatefulSetStartOrdinal", True)
    view = slots_view(case, body, case.input["updateRevision"])
    # What is updated is not asked again; all others come in the recorded order.
    wanted = [
        i + start for i in case.output["indexes"] if view.slot(i + start).has(m.OUTDATED_DOWN | m.OUTDATED_SERVING)
    ]
    assert list(candidates(view)) == wanted


def check_new_pod(case: Case) -> None:
    body = case.input["set"]
    view = slots_view(case, body, case.input["updateRevision"])
    wanted = "web-current" if case.output["useCurrentRevision"] else case.input["updateRevision"]
    assert revision_for(view, case.input["ordinal"]).name == wanted


def check_budget(case: Case) -> None:
    value, replicas = case.input["maxUnavailable"], case.input["replicas"]
    update = statefulset_max_unavailable(value, replicas)
    scale = statefulset_scale_max_unavailable(value, replicas)
    out = case.output
    assert bool(update.error) == bool(out.get("updateError"))
    assert bool(scale is not None and scale.error) == bool(out.get("scaleError"))
    if not update.error:
        assert update.value == out["update"]
        assert (None if scale is None else scale.value) == out["scale"]


# ---- status ----------------------------------------------------------------------------------------------------------


@parametrize(STATUS)
def test_s8_status(case: Case) -> None:
    if kind(case) == "pod-predicates":
        check_predicates(case)
        return
    body = case.input["set"]
    rolling = body["spec"].get("updateStrategy") or {}
    if case.input.get("minReadySeconds"):
        rolling = {**rolling, "rollingUpdate": {"minReadySeconds": case.input["minReadySeconds"]}}
    sts = set_of(
        {**body, "spec": {"replicas": len(case.input["pods"] or []), **body["spec"], "updateStrategy": rolling}}
    )
    view = View.of(
        sts,
        revisions(case.input["currentRevision"], case.input["updateRevision"]),
        [typed({**pod, "metadata": {"namespace": "prod", **pod["metadata"]}}) for pod in case.input["pods"] or []],
    )
    view.advance(NOW)
    found = counted(view)
    after = completed(found, rolls=view.frame.rolls)
    new, stored = normalise(counts(wire(after))), normalise(counts(body.get("status") or {}))
    differing = {key for key in {*new, *stored} if new.get(key) != stored.get(key)}
    answer = {
        "counted": normalise(counts(wire(found))),
        "afterCompletion": normalise(counts(wire(after))),
        "differsFromStored": bool(differing),
    }
    wanted = {k: normalise(counts(v)) if isinstance(v, dict) else v for k, v in case.output.items()}
    assert prune_ignored(case, answer) == prune_ignored(case, wanted)
    if answer["differsFromStored"] != wanted["differsFromStored"]:
        assert differing <= NOT_COMPARED_UPSTREAM


NOT_COMPARED_UPSTREAM = {"updatedReadyReplicas", "updatedAvailableReplicas", "collisionCount", "volumeClaims"}


def counts(status: JSON) -> JSON:
    return {k: v for k, v in status.items() if k not in ("conditions", "labelSelector")}


def check_predicates(case: Case) -> None:
    pod: Pod = typed(case.input["pod"])
    available, wait = is_available(pod, case.input["minReadySeconds"], NOW)
    phase = pod.status.phase
    found = {
        "created": is_created(pod),
        "pending": phase == "Pending",
        "failed": is_finished(pod) and phase == "Failed",
        "succeeded": is_finished(pod) and phase == "Succeeded",
        "terminating": pod.terminating,
        "runningAndReady": is_ready(pod),
        "healthy": is_healthy(pod),
        "available": available,
        "waitSeconds": wait,
    }
    assert prune_ignored(case, found) == prune_ignored(case, case.output)


# ---- whole passes ----------------------------------------------------------------------------------------------------


@parametrize(RECONCILE)
def test_reconcile(case: Case) -> None:
    if deviations_for(case, "skip"):
        pytest.skip(deviations_for(case, "skip")[0].reason)
    ours = run(case)
    answer, wanted = answer_of(ours), recorded(case)
    if deviations_for(case, "released-goes-on") and released_only_here(ours, wanted):
        return
    if deviations_for(case, "failed-goes-first"):
        failed_goes_first(ours, wanted)
    stopped = case.input.get("failures") or (ours.planned.obstacles and not ours.view.frame.ordered)
    if stopped and deviations_for(case, "stops-alone"):
        goes_on(ours, answer, wanted)
    if deviations_for(case, "counts-in-time") and ours.view.frame.min_ready > 0 and not wanted["requeueSeconds"]:
        del answer["requeueSeconds"], wanted["requeueSeconds"]
    if deviations_for(case, "drop-no-op-update"):
        wanted["events"] = [one for one in wanted["events"] if not is_no_op_update(case, one)]
    if deviations_for(case, "says-why"):
        answer["events"] = [one for one in answer["events"] if one["reason"] not in WHY]
        wanted["events"] = [one for one in wanted["events"] if one["reason"] not in WHY]
    assert prune_ignored(case, answer) == prune_ignored(case, wanted)


def released_only_here(ours: Pass, wanted: JSON) -> bool:
    """Tell whether a prepared pod that its hook let go is gone on with, where the recorded pass waits for ever."""
    acted = {chain.name for chain in ours.planned.chains}
    before = comparable_pods({pod["metadata"]["name"]: pod for pod in ours.case.input["pods"] or []})
    waiting = {ours.view.slot(o).name for o in ours.view.ordinals(m.RELEASED)}
    stuck = {name for name in waiting if wanted["pods"].get(name) == before[name]}
    return ours.view.frame.ordered and bool(stuck & acted)


def failed_goes_first(ours: Pass, wanted: JSON) -> None:
    """Let the recorded pass delete, too, the failed pods that its throttle kept."""
    finished = {ours.view.slot(o).name for o in ours.view.ordinals(m.FINISHED)}
    for name in ours.deleted():
        if name in finished and name not in wanted["deleted"] and ours.view.frame.throttle is not None:
            wanted["deleted"] = ours.deleted()
            del wanted["pods"][name]
            text = f"delete Pod {name} in StatefulSet {ours.sts.metadata.name} successful"
            event = {"message": text, "reason": "SuccessfulDelete", "type": "Normal"}
            wanted["events"] = sorted([*wanted["events"], event], key=event_order)


def goes_on(ours: Pass, answer: JSON, wanted: JSON) -> None:
    """Let the recorded pass do, too, what it left out because something failed for another pod."""
    more = {name for name in answer["created"] if name not in wanted["created"]}
    gone = [name for name in answer["deleted"] if name not in wanted["deleted"]]
    wanted["created"] |= {name: answer["created"][name] for name in more}
    wanted["pods"] |= {name: answer["pods"][name] for name in more if name in answer["pods"]}
    wanted["pods"] = {name: pod for name, pod in wanted["pods"].items() if name not in gone}
    suffixes = tuple(f"-{name}" for name in more)
    wanted["claims"] |= {name: one for name, one in answer["claims"].items() if name.endswith(suffixes) and suffixes}
    words = [f" {name} " for name in (*more, *gone)]
    extra = [one for one in answer["events"] if any(word in f"{one['message']} " for word in words)]
    wanted["events"] = sorted([*wanted["events"], *extra], key=event_order)
    if gone:
        wanted["deleted"] = answer["deleted"]
        for key in ("currentReplicas", "updatedReplicas"):
            answer["status"].pop(key, None)
            wanted["status"].pop(key, None)


WHY = ("FailedUpdatePodInPlace", "FailedUpdatePVC")


def is_no_op_update(case: Case, event: JSON) -> bool:
    """Tell whether *event* is of a repair that left its pod as it was."""
    if event["reason"] != "SuccessfulUpdate":
        return False
    before = {pod["metadata"]["name"]: pod for pod in case.input["pods"] or []}
    writes = [w for w in case.output["writes"] if w["do"] == "updatePod" and f" {w['name']} " in event["message"]]
    return bool(writes) and all(
        comparable_pods({"x": w["pod"]}) == comparable_pods({"x": before[w["name"]]}) for w in writes
    )


def answer_of(ours: Pass) -> JSON:
    assert ours.settled.status is not None
    status = wire(ours.settled.status)
    return {
        "created": ours.created,
        "deleted": ours.deleted(),
        "pods": comparable_pods(ours.pods),
        "claims": normalise(without_types(ours.claims)),
        "revisions": ours.revision_writes(),
        "cutOff": ours.cut_off(),
        "status": status_of(status),
        "events": sorted(ours.events(), key=event_order),
        "requeueSeconds": ours.planned.next_check or 0,
        "error": ours.trouble,
    }


def event_order(event: JSON) -> tuple[str, ...]:
    return tuple(event[key] for key in ("type", "reason", "message"))


def recorded(case: Case) -> JSON:
    out, writes = case.output, case.output["writes"]
    status = out["status"] if out["status"] is not None else case.input["set"].get("status") or {}
    named = {"createRevision": "create", "updateRevision": "bump"}
    changed = []
    for write in writes:
        if write["do"] in named:
            number = write["revision"] if write["do"] == "updateRevision" else write["revisionObject"]["revision"]
            changed.append(f"{named[write['do']]} {write['name']} {number}")
    return {
        "created": {w["name"]: w["revision"] for w in writes if w["do"] == "createPod"},
        "deleted": [w["name"] for w in writes if w["do"] == "deletePod"],
        "pods": comparable_pods(their_pods(case)),
        "claims": normalise(without_types(their_claims(case))),
        "revisions": changed,
        "cutOff": [w["name"] for w in writes if w["do"] == "deleteRevision"],
        "status": status_of(status),
        "events": sorted(out["events"], key=event_order),
        "requeueSeconds": out["requeueSeconds"],
        "error": bool(out["error"]),
    }


def status_of(status: JSON) -> JSON:
    """The status as it is compared: of the conditions, which of OpenKruise's two there are."""
    failed = [c["type"] for c in status.get("conditions") or [] if c["type"].startswith("Failed")]
    return {**{k: v for k, v in normalise(status).items() if k != "conditions"}, "failed": sorted(failed)}


@pytest.mark.skipif(not cases(RECONCILE), reason="no such cases")
def test_g4_the_pass_after_an_idle_one_is_idle() -> None:
    """Planning does not change what it looks at: asked again at once, it says the same."""
    for case in cases(RECONCILE):
        ours = run(case)
        again: Plan = plan(ours.view, NOW)
        assert shape(again) == shape(ours.planned), case.id
        assert settle(ours.view, again, Results(), NOW).status is not None


def shape(planned: Plan) -> list[tuple[Any, ...]]:
    return [(chain.ordinal, [type(step).__name__ for step in chain.steps]) for chain in planned.chains]
