"""Claims, new pods and the repair of pods, against the recorded answers."""

from __future__ import annotations

from typing import Any

import orjson

from kruise.apis.core import Claim, Pod
from kruise.apis.ordinals import NO_MEMBER, ordinal_range, parse_reserved
from kruise.apis.revisiondata import revision_data
from kruise.apis.statefulset import StatefulSet
from kruise.controllers.common.revisions import Revision
from kruise.controllers.statefulset.claiming import member_ordinal
from kruise.controllers.statefulset.claims import (
    build_claim,
    claim_fit,
    claim_templates,
    retention_patch,
    stale_for_pod,
)
from kruise.controllers.statefulset.pods import (
    PodGates,
    build_pod,
    identity_matches,
    repair_patch,
    storage_matches,
    storage_patch,
)
from kruise.runtime.client.nulls import decode_as
from kruise.simulator.apiserver.strategic import strategic_merge
from tests.golden.loader import Case, deviations_for, normalise, parametrize, prune_ignored

CLOCK = 1_772_366_400.0
CLAIM = "core.v1.PersistentVolumeClaim"


def read_set(body: dict[str, Any]) -> StatefulSet:
    return decode_as(StatefulSet, orjson.dumps(body))


@parametrize("statefulset-claims")
def test_claims(case: Case) -> None:
    if "ordinals" in case.input:
        actual = new_pods(case)
    elif "pods" in case.input:
        actual = repaired(case)
    elif "template" in case.input:
        actual = size(case)
    else:
        actual = owners(case)
    wanted = case.output
    if "pods" in case.input and not is_member(case):
        for rule in deviations_for(case, "not-a-member"):
            actual, wanted = ({k: v for k, v in side.items() if k != rule.field} for side in (actual, wanted))
    assert comparable(prune_ignored(case, actual)) == comparable(prune_ignored(case, wanted))


def comparable(output: Any) -> Any:
    """Put the lists of which the order means nothing into one order, and drop what only an encoder writes."""
    if isinstance(output, list):
        return [comparable(item) for item in output]
    if not isinstance(output, dict):
        return output
    found = {key: comparable(item) for key, item in output.items()}
    for key, by in (("ownerReferencesAfter", "uid"), ("ownerReferences", "uid"), ("volumes", "name")):
        if isinstance(found.get(key), list):
            found[key] = sorted(found[key], key=lambda item: item[by])
    return normalise(found)


def owners(case: Case) -> dict[str, Any]:
    sts = read_set(case.input["set"])
    claim = decode_as(Claim, orjson.dumps(case.input["claim"]))
    pod = decode_as(Pod, orjson.dumps(case.input["pod"]))
    start = sts.spec.ordinals.start if sts.spec.ordinals and case.gates.get("StatefulSetStartOrdinal") else 0
    wanted = ordinal_range(sts.spec.replicas, start, parse_reserved(sts.spec.reserve_ordinals))
    patch = retention_patch(sts, pod, claim, member_ordinal(sts, pod) not in wanted)
    after = strategic_merge(case.input["claim"], patch, CLAIM) if patch else case.input["claim"]
    return {
        "matches": patch is None,
        "needsUpdate": patch is not None,
        "ownerReferencesAfter": after["metadata"].get("ownerReferences"),
        "staleForPod": stale_for_pod(sts, claim, pod.metadata.name, pod.uid),
    }


def size(case: Case) -> dict[str, Any]:
    (template,) = claim_templates(read_set({"spec": {"volumeClaimTemplates": [case.input["template"]]}}))
    fit = claim_fit(template, decode_as(Claim, orjson.dumps(case.input["claim"])))
    return {
        "comparable": fit.comparable,
        "compatible": fit.compatible,
        "completed": fit.completed,
        "matched": fit.compatible,
        "needsExpand": fit.needs_growth,
        "ready": fit.ready,
    }


def pod_gates(case: Case) -> PodGates:
    return PodGates(
        index_label=case.gates.get("PodIndexLabel", True),
        ready_gate=case.gates.get("KruisePodReadinessGate", False),
    )


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """Return *body* as the cases write objects: without type."""
    return {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}


def new_pods(case: Case) -> dict[str, Any]:
    sts = read_set(case.input["set"])
    templates = claim_templates(sts)
    revision = Revision("revision", 1, revision_data(case.input["set"]["spec"]["template"]), None)
    return {
        "built": [
            {
                "ordinal": ordinal,
                "claims": {t.name: plain(build_claim(sts, t, ordinal)) for t in templates},
                "pod": plain(build_pod(sts, revision, ordinal, claims=templates, now=CLOCK, gates=pod_gates(case))),
            }
            for ordinal in case.input["ordinals"]
        ]
    }


def is_member(case: Case) -> bool:
    pod = decode_as(Pod, orjson.dumps(case.input["pods"][0]))
    return member_ordinal(read_set(case.input["set"]), pod) != NO_MEMBER


def repaired(case: Case) -> dict[str, Any]:
    sts = read_set(case.input["set"])
    templates = claim_templates(sts)
    (body,) = case.input["pods"]
    pod = decode_as(Pod, orjson.dumps(body))
    after = body
    for write in (repair_patch(sts, pod, gates=pod_gates(case)), storage_patch(sts, pod, templates)):
        if write is not None:
            after = strategic_merge(after, write.patch)
    return {
        "identityMatches": identity_matches(sts, pod),
        "storageMatches": storage_matches(sts, pod, templates),
        "podAfter": after,
    }
