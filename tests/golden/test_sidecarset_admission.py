"""Hashes, defaulting, conversion, validation and metadata patches of SidecarSet, against the recorded answers.

The functions are pure; what a webhook adds (codes, the form of the answer) is derived here from what they return.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kruise.apis import selectors
from kruise.apis.core import ControllerRevision
from kruise.apis.fielderrors import FieldError, Plain
from kruise.apis.go_encoding import canonical
from kruise.apis.sidecarset import CANARY_ANNOTATION, CANARY_BASE_ANNOTATION, PatchPodMetadata
from kruise.apis.sidecarset_hash import canonical_sidecar, hashed_text, sidecarset_hashes
from kruise.apis.sidecarset_metadata import MetadataPatchError, patch_pod_metadata
from kruise.apis.sidecarset_rules import convert_sidecarset, decode_problem, default_sidecarset
from kruise.apis.sidecarset_validation import Surroundings, validate_sidecarset
from tests.golden.loader import Case, deviations_for, normalise, parametrize, prune_ignored


def typed(given: dict[str, Any], version: str) -> dict[str, Any]:
    """Return a case's object with its type, as a request has it."""
    return {**given, "apiVersion": f"apps.kruise.io/{version}", "kind": "SidecarSet"}


def as_go_writes(case: Case, scs: dict[str, Any]) -> dict[str, Any]:
    """Return *scs* with containers and volumes in Go's form, without what upstream loses, where a rule says so."""
    if not deviations_for(case, "keep-as-given"):
        return scs
    spec = dict(scs["spec"])
    for key in ("initContainers", "containers"):
        spec[key] = [canonical_sidecar(one, upstream_only=True, exact=True) for one in spec.get(key) or []]
    spec["volumes"] = canonical(spec.get("volumes") or [], "[core.v1.Volume]", upstream_only=True)
    return {**scs, "spec": spec}


def comparable(case: Case, scs: dict[str, Any]) -> Any:
    return prune_ignored(case, normalise(as_go_writes(case, scs)))


@parametrize("sidecarset-hash")
def test_hash(case: Case) -> None:
    spec = case.input["object"]["spec"]
    assert hashed_text(spec).decode() == case.output["bytes"]
    assert sidecarset_hashes(spec) == (case.output["hash"], case.output["hashWithoutImage"])


@parametrize("sidecarset-defaulting")
def test_defaulting(case: Case) -> None:
    version = case.input["version"]
    given = typed(case.input["object"], version)
    assert decode_problem(given, version) == ""
    got = default_sidecarset(given)
    if "crash" in case.output:
        # A transfer without a reference, on which Go panics, is left as it is.
        before, after = (scs["spec"]["containers"][0]["transferEnv"] for scs in (given, got))
        assert after == before
        return
    assert comparable(case, got) == comparable(case, typed(case.output["object"], version))
    assert default_sidecarset(got) == got


@parametrize("sidecarset-conversion")
def test_conversion(case: Case) -> None:
    version, other = case.input["direction"].split("->")
    given = typed(case.input["object"], version)
    converted = convert_sidecarset(given, other)
    assert comparable(case, converted) == comparable(case, typed(case.output["object"], other))
    back = convert_sidecarset(converted, version)
    assert comparable(case, back) == comparable(case, typed(case.output["backAgain"], version))


@parametrize("sidecarset-selector-overlap")
def test_selector_overlap(case: Case) -> None:
    one, two = case.input["a"], case.input["b"]
    assert selectors.overlapping(one, two) is case.output["overlap"]
    assert selectors.overlapping(two, one) is case.output["reverse"]


@parametrize("sidecarset-patch-metadata")
def test_patch_metadata(case: Case) -> None:
    entries = [{key: value for key, value in one.items() if value} for one in case.input["patches"] or []]
    patches = msgspec.convert([{"patchPolicy": "", **one} for one in entries], list[PatchPodMetadata])
    if "error" in case.output:
        with pytest.raises(MetadataPatchError, match=case.output["error"]):
            patch_pod_metadata(case.input["annotations"], patches)
        return
    found = patch_pod_metadata(case.input["annotations"], patches)
    assert found == (case.output["annotations"], case.output["unchanged"])


def surroundings(case: Case) -> Surroundings:
    return Surroundings(
        others=case.input.get("others") or (),
        revisions=msgspec.convert(
            [
                {**one, "data": msgspec.Raw(msgspec.json.encode(one.get("data")))}
                for one in case.input.get("revisions") or []
            ],
            list[ControllerRevision],
        ),
        white_list=case.input.get("configMap"),
        metadata_allowed=case.gates.get("SidecarSetPatchPodMetadataDefaultsAllowed", False),
    )


def added(case: Case, error: FieldError) -> bool:
    """Tell whether *error* is one that upstream does not report, by the rules."""
    twin = error.field.endswith(".hotUpgradeEmptyImage")
    if twin or "(write it in lower case)" in error.detail:
        return bool(deviations_for(case, "need-empty-image" if twin else "refuse-upper-case"))
    overflows = ".resourcesExpr." in error.field and "overflow" in error.detail
    return overflows and bool(deviations_for(case, "refuse-overflow"))


def wanted_errors(case: Case) -> list[dict[str, Any]]:
    """Return the recorded errors without the conflicts with canaries of the set, where a rule says so."""
    wanted: list[dict[str, Any]] = case.output["errors"]
    if not deviations_for(case, "base-beside-canaries"):
        return wanted
    mine = case.input["object"]["metadata"]["name"]
    canaries = [
        other["metadata"]["name"]
        for other in case.input.get("others") or []
        if (marks := other["metadata"].get("annotations") or {}).get(CANARY_ANNOTATION) == "true"
        and marks.get(CANARY_BASE_ANNOTATION) == mine
    ]
    endings = tuple(f" {verb} {name}" for name in canaries for verb in ("already exist in", "conflict with sidecarset"))
    return [error for error in wanted if not (endings and error["detail"].endswith(endings))]


@parametrize("sidecarset-validation")
def test_validation(case: Case) -> None:
    version = case.input["version"]
    given = typed(case.input["object"], version)
    assert decode_problem(given, version) == ""
    old = case.input.get("old") and typed(case.input["old"], version)
    found = validate_sidecarset(given, old, surroundings(case))
    errors, wanted = [error for error in found if not added(case, error)], wanted_errors(case)
    assert [(str(e.type), e.field, e.detail) for e in errors] == [(w["type"], w["field"], w["detail"]) for w in wanted]
    for have, want in zip(errors, wanted, strict=True):
        if isinstance(want.get("badValue"), str | int) and not isinstance(have.value, Plain):
            assert have.value == want["badValue"]
    assert case.output["allowed"] is (not errors) or wanted != case.output["errors"]
