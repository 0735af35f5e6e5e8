"""Defaulting, validation and conversion of BroadcastJob, against the recorded answers.

The functions are pure; what a webhook adds (codes, the form of the answer) is derived here from what they return.
"""

from __future__ import annotations

from typing import Any

import pytest

from kruise.apis.broadcastjob import BroadcastJobSpec, BroadcastJobStatus
from kruise.apis.broadcastjob_rules import (
    convert_broadcastjob,
    decode_problem,
    default_broadcastjob,
    validate_broadcastjob,
)
from kruise.runtime.clock import format_time, parse_time
from tests.golden.loader import Case, compare_errors, deviations_for, normalise, parametrize, prune_ignored


def _problem(case: Case) -> str:
    version = case.input["version"]
    found = decode_problem(case.input["object"], version)
    if not found and case.input["operation"] == "UPDATE" and case.input.get("oldObject") is not None:
        found = decode_problem(case.input["oldObject"], version)
    return found


KNOWN = {
    "spec": set(BroadcastJobSpec.__struct_encode_fields__),
    "status": set(BroadcastJobStatus.__struct_encode_fields__),
}
TIMES = ("startTime", "completionTime")


def _known(case: Case, job: dict[str, Any]) -> dict[str, Any]:
    """Return *job* without the fields that upstream loses, and with its times in UTC, where a rule says so."""
    job = {**job}
    if deviations_for(case, "keep-unknown"):
        for part, names in KNOWN.items():
            if part in job:
                job[part] = {key: value for key, value in job[part].items() if key in names}
    if deviations_for(case, "keep-offsets") and job.get("status"):
        stamps = {key: parse_time(job["status"].get(key)) for key in TIMES}
        job["status"] = {**job["status"], **{k: format_time(v) for k, v in stamps.items() if v is not None}}
    return job


@parametrize("broadcastjob-defaulting")
def test_defaulting(case: Case) -> None:
    problem = _problem(case)
    assert bool(problem) is (not case.output["allowed"]), problem
    if problem:
        assert case.output["code"] == 400
        return
    given = case.input["object"]
    got = default_broadcastjob(
        given,
        case.input.get("oldObject") if case.input["operation"] == "UPDATE" else None,
        template_defaults=not case.gates.get("TemplateNoDefaults", False),
        host_ports=case.gates.get("DefaultHostNetworkHostPortsInPodTemplates", False),
    )
    assert prune_ignored(case, normalise(_known(case, got))) == prune_ignored(case, normalise(case.output["object"]))
    assert (normalise(got) != normalise(given)) or not case.output["patched"] or got != given


@parametrize("broadcastjob-validation")
def test_validation(case: Case) -> None:
    problem = decode_problem(case.input["object"], case.input["version"])
    assert bool(problem) is (case.output["code"] == 400), problem
    if problem:
        return
    compare_errors(validate_broadcastjob(case.input["object"]), case.output["errors"])


@parametrize("broadcastjob-conversion")
def test_conversion(case: Case) -> None:
    for rule in deviations_for(case, "skip"):
        pytest.skip(rule.reason)
    other = "v1beta1" if case.input["from"] == "v1alpha1" else "v1alpha1"
    converted = convert_broadcastjob(case.input["object"], other)
    back = convert_broadcastjob(converted, case.input["from"])
    got: dict[str, Any] = {
        "converted": normalise(_known(case, converted)),
        "back": normalise(_known(case, back)),
    }
    wanted = {side: normalise(case.output[side]) for side in got}
    assert prune_ignored(case, got) == prune_ignored(case, wanted)
