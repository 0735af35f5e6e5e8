"""Defaulting, validation and conversion of Advanced StatefulSet, against the recorded answers.

The functions are pure; what a webhook adds (codes, the form of the answer) is derived here from what they return.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from kruise.apis.core import StorageClass
from kruise.apis.fielderrors import FieldError
from kruise.apis.go_encoding import POD_TEMPLATE, canonical
from kruise.apis.statefulset import StatefulSetSpec, StatefulSetStatus
from kruise.apis.statefulset_rules import convert_statefulset, decode_problem, default_statefulset
from kruise.apis.statefulset_validation import validate_delete, validate_statefulset, validate_update
from tests.golden.loader import (
    Case,
    compare_errors,
    deviations_for,
    normalise,
    parametrize,
    printed_errors,
    prune_ignored,
)

KNOWN = {
    "spec": set(StatefulSetSpec.__struct_encode_fields__),
    "status": set(StatefulSetStatus.__struct_encode_fields__),
}
SLIPPED = re.compile(r"replace /containers/[0-9]+/image\w+,")
CLAIMS = "[core.v1.PersistentVolumeClaim]"


def typed(given: dict[str, Any], version: str) -> dict[str, Any]:
    """Return a case's object with its type, as a request has it."""
    return {**given, "apiVersion": f"apps.kruise.io/{version}", "kind": "StatefulSet"}


def as_go_writes(case: Case, sts: dict[str, Any]) -> dict[str, Any]:
    """Return *sts* without the fields that upstream loses, templates in Go's form, where a rule says so."""
    if not deviations_for(case, "keep-as-given"):
        return sts
    sts = {**sts}
    for part, names in KNOWN.items():
        if part in sts:
            sts[part] = {key: value for key, value in sts[part].items() if key in names}
    for key, kind in (("template", POD_TEMPLATE), ("volumeClaimTemplates", CLAIMS)):
        if key in sts["spec"]:
            sts["spec"][key] = canonical(sts["spec"][key], kind, upstream_only=True)
    return sts


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


def comparable(case: Case, sts: dict[str, Any]) -> Any:
    return prune_ignored(case, normalise(as_go_writes(case, sts)))


@parametrize("statefulset-defaulting")
def test_defaulting(case: Case) -> None:
    version = case.input["version"]
    given = typed(case.input["object"], version)
    old = case.input.get("oldObject") if case.input["operation"] == "UPDATE" else None
    problem = decode_problem(given, version) or (old and decode_problem(typed(old, version), version))
    assert bool(problem) is (not case.output["allowed"]), problem
    if problem:
        assert case.output["code"] == 400
        return
    got = default_statefulset(
        given,
        old and typed(old, version),
        template_defaults=not case.gates.get("TemplateNoDefaults", False),
        host_ports=case.gates.get("DefaultHostNetworkHostPortsInPodTemplates", False),
        auto_delete_pvc=case.gates.get("StatefulSetAutoDeletePVC", True),
        auto_resize_pvc=case.gates.get("StatefulSetAutoResizePVCGate", False),
    )
    wanted = typed(case.output["object"], version)
    assert comparable(case, got) == comparable(case, wanted)
    # Without a patch the object is what it was: nothing of it has a default, and no status was sent.
    assert case.output["patched"] or comparable(case, got) == comparable(case, given)


@parametrize("statefulset-conversion")
def test_conversion(case: Case) -> None:
    version = case.input["from"]
    other = "v1beta1" if version == "v1alpha1" else "v1alpha1"
    given = typed(case.input["object"], version)
    converted = convert_statefulset(given, other)
    back = convert_statefulset(converted, version)
    assert comparable(case, converted) == comparable(case, typed(case.output["converted"], other))
    assert comparable(case, back) == comparable(case, typed(case.output["back"], version))
    assert (without_nulls(back) == without_nulls(given)) is case.output["roundTripEqual"]


def wanted_errors(case: Case) -> list[dict[str, str]]:
    """Return the errors to expect: the recorded ones, after the rules that change them."""
    wanted: list[dict[str, str]] = []
    for error in case.output["errors"]:
        error = {key: value for key, value in error.items() if key in ("type", "field", "detail", "message")}
        if "message" in error:
            error["message"] = f"{error['field']}: {error['message']}"
        if not (deviations_for(case, "report-once") and error in wanted):
            wanted.append(error)
    start = (case.input["object"]["spec"].get("ordinals") or {}).get("start") or 0
    if start < 0 and deviations_for(case, "refuse-negative-start"):
        detail = "must be greater than or equal to 0"
        wanted.insert(
            sum(error["field"] in ("spec", "spec.podManagementPolicy") for error in wanted),
            {"type": "FieldValueInvalid", "field": "spec.ordinals.start", "detail": detail},
        )
    return wanted


def beyond_images(case: Case) -> bool:
    """Tell whether the templates of a case differ in more than the images of containers, as they are written."""

    def stripped(sts: dict[str, Any]) -> Any:
        pod = sts["spec"]["template"]["spec"]
        return {**pod, "containers": [{**one, "image": ""} for one in pod["containers"]]}

    return bool(stripped(case.input["object"]) != stripped(case.input["oldObject"]))


def compare(case: Case, errors: list[FieldError]) -> None:
    if deviations_for(case, "anchor-image"):
        errors = [error for error in errors if not SLIPPED.search(error.detail)]
    if case.output.get("stage") == "InPlaceOnly":
        if deviations_for(case, "default-both-sides"):
            assert bool(errors) is beyond_images(case)
            return
        found = printed_errors(errors)
        assert [error["field"] for error in found] == ["spec.template.spec"]
        assert case.output.get("messageVaries") or found[0]["detail"] == case.output["message"]
        return
    compare_errors(errors, wanted_errors(case))
    if "stage" not in case.output and not wanted_errors(case):
        assert case.output["allowed"]


@parametrize("statefulset-validation")
def test_validation(case: Case) -> None:
    for rule in deviations_for(case, "skip"):
        pytest.skip(rule.reason)
    version = case.input["version"]
    given = {key: typed(case.input[key], version) for key in ("object", "oldObject") if case.input.get(key)}
    if "object" not in given:
        errors = validate_delete(given["oldObject"], enabled=case.gates.get("ResourcesDeletionProtection", False))
        assert [error.detail for error in errors] == [case.output["message"] for _ in "x" if "message" in case.output]
        assert bool(errors) is (case.output.get("code") == 403)
        return
    problem = decode_problem(given["object"], version)
    assert bool(problem) is (case.output.get("code") == 400), problem
    if problem:
        return
    if "oldObject" not in given:
        compare(case, validate_statefulset(given["object"]))
        return
    classes = msgspec.convert(case.input.get("storageClasses") or [], list[StorageClass])
    resize = case.gates.get("StatefulSetAutoResizePVCGate", False)
    compare(case, validate_update(given["object"], given["oldObject"], classes, resize_claims=resize))
