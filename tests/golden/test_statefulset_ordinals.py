"""Ordinals of an Advanced StatefulSet, against the recorded answers."""

from __future__ import annotations

import re
from typing import Any

from kruise.apis.ordinals import NO_MEMBER, ordinal_range, parse_member, parse_reserved, split_pod_name
from tests.golden.loader import Case, deviations_for, parametrize

NOT_CANONICAL = re.compile(r".*-0[0-9]+")


def _without_leading_zeros(case: Case, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return *wanted* with the pods that have leading zeros as strangers, where a rule says so."""
    if not deviations_for(case, "canonical-members"):
        return wanted
    moved = [name for key in ("inRange", "condemned") for name in wanted[key] if NOT_CANONICAL.fullmatch(name)]
    out = {
        key: [name for name in names if name not in moved] if isinstance(names, list) else names
        for key, names in wanted.items()
    }
    strangers = {*out["notMembers"], *moved}
    return out | {"notMembers": [name for name in case.input["podNames"] if name in strangers]}


@parametrize("statefulset-ordinals")
def test_ordinals(case: Case) -> None:
    if case.id.startswith("name-"):
        pod, name = case.input["podName"], case.input["setName"]
        parent, ordinal = split_pod_name(pod)
        assert (parent, ordinal) == (case.output["parent"], case.output["ordinal"])
        member = case.output["member"] and ordinal != NO_MEMBER
        if deviations_for(case, "canonical-members") and NOT_CANONICAL.fullmatch(pod):
            member = False
        assert parse_member(pod, name) == (ordinal if member else NO_MEMBER)
        return
    spec, name = case.input["set"]["spec"], case.input["set"]["metadata"]["name"]
    start = 0
    if case.gates.get("StatefulSetStartOrdinal", False):
        start = (spec.get("ordinals") or {}).get("start", 0)
    reserved = parse_reserved(spec.get("reserveOrdinals") or ())
    found = ordinal_range(spec.get("replicas", 1), start, reserved)
    members = {pod: parse_member(pod, name) for pod in case.input["podNames"]}
    got = {
        "start": found.start,
        "end": found.end,
        "valid": list(found.ordinals()),
        "inRange": [pod for pod, at in members.items() if at in found],
        "condemned": sorted(
            (pod for pod, at in members.items() if at != NO_MEMBER and at not in found), key=lambda pod: -members[pod]
        ),
        "ignored": [pod for pod, at in members.items() if at == NO_MEMBER and split_pod_name(pod) == (name, NO_MEMBER)],
        "notMembers": [
            pod for pod, at in members.items() if at == NO_MEMBER and split_pod_name(pod) != (name, NO_MEMBER)
        ],
    }
    assert got == _without_leading_zeros(case, case.output)
    assert found.count == len(case.output["valid"])
