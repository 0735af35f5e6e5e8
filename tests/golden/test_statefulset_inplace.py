"""In-place updates: what is possible, what one step changes, and when it is complete, against the recorded answers."""

from __future__ import annotations

import json
from typing import Any

from kruise.apis.revisiondata import semantically_equal
from kruise.controllers.common.inplace.annotations import RUNTIME_META_KEY, STATE_KEY, StateError
from kruise.controllers.common.inplace.complete import Unfinished, completion
from kruise.controllers.common.inplace.containers import same_image
from kruise.controllers.common.inplace.gates import Gates
from kruise.controllers.common.inplace.patch import apply_spec, needs_unready
from kruise.controllers.common.inplace.spec import NotPossible, UpdateSpec, update_spec
from kruise.controllers.common.inplace.state import parse
from tests.golden.loader import Case, deviations_for, normalise, parametrize
from tests.golden.pod_flow import after_write, typed

NOW = 1_772_366_400.0
CLAIMS_GATE = "RecreatePodWhenChangeVCTInCloneSetGate"


def gates(case: Case) -> Gates:
    on = case.gates
    return Gates(
        env_from_metadata=on.get("InPlaceUpdateEnvFromMetadata", True),
        vertical_scaling=on.get("InPlaceWorkloadVerticalScaling", False),
        recreate_on_claim_change=on.get(CLAIMS_GATE, False),
        daemon=on.get("KruiseDaemon", True),
        server_version=case.input.get("serverVersion", "v1.30.0"),
    )


def readable(spec: UpdateSpec) -> dict[str, Any]:
    """Return the grace annotation of *spec* with its patch as text, as the cases show it."""
    body: dict[str, Any] = json.loads(spec.to_json())
    if spec.metadata_patch is not None:
        body["metaDataPatch"] = spec.metadata_patch
    return body


def given(case: Case) -> UpdateSpec:
    body = case.input["updateSpec"]
    patch = body.get("metaDataPatch")
    spec = UpdateSpec.from_json(json.dumps({k: v for k, v in body.items() if k != "metaDataPatch"}))
    return UpdateSpec(
        spec.revision,
        spec.images,
        spec.metadata,
        spec.resources,
        patch,
        spec.env_from_metadata,
        spec.grace_seconds,
    )


# ---- what is possible ------------------------------------------------------------------------------------------------


@parametrize("statefulset-inplace-spec")
def test_spec(case: Case) -> None:
    old, new = case.input["oldRevision"], case.input["newRevision"]
    found = update_spec(
        old["data"].encode(),
        new["data"].encode(),
        revision=new["name"],
        gates=gates(case),
        grace_seconds=case.input["gracePeriodSeconds"],
        old_annotations=old["annotations"] or {},
        new_annotations=new["annotations"] or {},
    )
    wanted = case.output["updateSpec"]
    if isinstance(found, NotPossible):
        assert found.fields
        assert wanted is None
        return
    assert UpdateSpec.from_json(found.to_json()) == found
    if wanted is None:
        assert allowed_by_meaning(case, readable(found))
        return
    if deviations_for(case, "name-what-vanishes") and "metaDataPatch" in wanted:
        wanted = {**wanted, "metaDataPatch": vanishing_named(case, wanted["metaDataPatch"])}
        assert json.loads(readable(found)["metaDataPatch"]) == json.loads(wanted["metaDataPatch"])
        wanted["metaDataPatch"] = readable(found)["metaDataPatch"]
    assert readable(found) == wanted


def template(case: Case, side: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(case.input[side]["data"])["spec"]["template"]
    return found


def allowed_by_meaning(case: Case, spec: dict[str, Any]) -> bool:
    """Tell whether the rule that revisions are compared by their meaning speaks about this case.

    It does where the old template with the images and the metadata of the new one means the new one.
    """
    if not deviations_for(case, "by-meaning"):
        return False
    old, new = template(case, "oldRevision"), template(case, "newRevision")
    old["metadata"] = new.get("metadata")
    for container in old["spec"]["containers"]:
        container["image"] = spec.get("containerImages", {}).get(container["name"], container["image"])
    return semantically_equal(*(json.dumps({"spec": {"template": one}}).encode() for one in (old, new)))


def vanishing_named(case: Case, patch: str) -> str:
    """Return *patch* with each key of a map, and each finalizer, that the new template no longer has, by name."""
    document = json.loads(patch)
    metadata = document.get("metadata") or {}
    before = template(case, "oldRevision").get("metadata") or {}
    for part in ("labels", "annotations"):
        if part in metadata and metadata[part] is None:
            metadata[part] = dict.fromkeys(before[part])
    if "finalizers" in metadata and metadata["finalizers"] is None:
        del metadata["finalizers"]
        metadata["$deleteFromPrimitiveList/finalizers"] = sorted(before["finalizers"])
    return json.dumps(document)


# ---- one step --------------------------------------------------------------------------------------------------------


@parametrize("statefulset-inplace-patch")
def test_step(case: Case) -> None:
    if "markUnready" in case.output:
        assert needs_unready(typed(case.input["pod"]), given(case), gates(case)) == case.output["markUnready"]
        return
    pod = case.input["pod"]
    state = parse(json.dumps(case.input["state"]))
    try:
        step = apply_spec(typed(pod), given(case), state, now=NOW, gates=gates(case))
    except StateError:
        assert case.output.get("error")
        return
    assert not case.output.get("error")
    assert step.state.encode() == case.output["stateAnnotation"]
    assert normalise(json.loads(step.state.encode())) == normalise(case.output["state"])
    main = step.writes("step")[-1]
    changed = after_write(pod, main)
    assert normalise(changed) == normalise(case.output["pod"])
    assert changed["metadata"]["annotations"][STATE_KEY] == case.output["stateAnnotation"]
    if "resizePatch" in case.output:
        wanted = case.output["resizePatch"]
        assert in_order(step.resize_patch()) == (None if wanted is None else in_order(json.loads(wanted)))
    else:
        assert step.resize_patch() is None


def in_order(patch: dict[str, Any] | None) -> Any:
    return patch and sorted(patch["spec"]["containers"], key=lambda container: container["name"])


# ---- completion ------------------------------------------------------------------------------------------------------


@parametrize("statefulset-inplace-complete")
def test_complete(case: Case) -> None:
    pod = case.input["pod"]
    found = completion(typed(pod), gates(case))
    wanted = case.output["done"]
    if found.done and not wanted and excused(case, "normalise-images") and shows_image(pod, case.output["reason"]):
        return
    if found.done and not wanted and excused(case, "nothing-is-empty") and nothing_reported(pod):
        return
    if not found.done and wanted and excused(case, "image-decides") and found.reason is Unfinished.IMAGE:
        assert RUNTIME_META_KEY in pod["metadata"]["annotations"], "only a node daemon's hash may be missed"
        return
    if not found.done and wanted and excused(case, "no-image-yet") and found.reason is Unfinished.IMAGE:
        assert not all(status["imageID"] for status in pod["status"]["containerStatuses"])
        return
    assert found.done == wanted
    if not wanted and found.reason not in (Unfinished.UNREADABLE, Unfinished.STATUS):
        assert found.evidence == case.output["reason"]
    assert found.done or found.evidence


def excused(case: Case, action: str) -> bool:
    return bool(deviations_for(case, action))


def shows_image(pod: dict[str, Any], reason: str) -> bool:
    """Tell whether the container that upstream waits for reports the image of the spec, written another way."""
    name = reason.split()[1]
    spec = next(one["image"] for one in pod["spec"]["containers"] if one["name"] == name)
    status = next(one["image"] for one in pod["status"]["containerStatuses"] if one["name"] == name)
    return same_image(spec, status)


def nothing_reported(pod: dict[str, Any]) -> bool:
    """Tell whether spec and statuses differ in nothing but absent against empty resources."""
    statuses = {one["name"]: one.get("resources") for one in pod["status"]["containerStatuses"]}
    return all(
        normalise(one.get("resources") or {}) == normalise(statuses[one["name"]] or {})
        for one in pod["spec"]["containers"]
    )
