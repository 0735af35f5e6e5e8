"""Claims: bodies, owners, sizes."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import orjson
import pytest

from kruise.apis.core import Claim
from kruise.apis.ordinals import ordinal_range, parse_reserved
from kruise.controllers.statefulset.claims import (
    ClaimTemplateError,
    build_claim,
    claim_fit,
    claim_name,
    claim_slot,
    claim_status,
    claim_templates,
    expansion_problem,
    owner_refs,
    pod_claims,
    resize_patch,
    retention_patch,
    stale_for_pod,
)
from kruise.runtime.objects import Unreadable
from kruise.simulator.apiserver.strategic import strategic_merge
from tests.unit.controllers.asts_identity import a_claim, a_class, a_pod, a_set, as_json, claim_template, owner

SET = owner("StatefulSet", "web", "set-uid")
POD = owner("Pod", "web-0", "uid-web-0")
FOREIGN = owner("Backup", "nightly", "b", controller=True, blockOwnerDeletion=True)
POLICIES = list(itertools.product(("Retain", "Delete"), repeat=2))


def patched(claim: Claim, patch: dict[str, Any] | None) -> Claim:
    if patch is None:
        return claim
    merged = strategic_merge(as_json(claim), patch, "core.v1.PersistentVolumeClaim")
    return msgspec.convert(merged, Claim)


def owners(claim: Claim) -> list[str]:
    return sorted(f"{ref.kind}/{ref.uid}" for ref in claim.metadata.owner_references)


# ---- templates and bodies --------------------------------------------------------------------------------------------


def test_a_claim_is_the_whole_template_with_a_name() -> None:
    template = claim_template(
        metadata={"annotations": {"a": "1"}, "finalizers": ["f.io/x"], "creationTimestamp": None, "uid": "forged"},
        storageClassName="fast",
        somethingNew={"kept": True},
    )
    sts = a_set(template)
    body = build_claim(sts, claim_templates(sts)[0], 12)
    assert body == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "data-web-12",
            "namespace": "ns",
            "labels": {"app": "web"},
            "annotations": {"a": "1"},
            "finalizers": ["f.io/x"],
        },
        "spec": template["spec"],
    }


def test_x14_labels_of_the_template_stay_and_the_selector_wins() -> None:
    sts = a_set(claim_template(metadata={"labels": {"app": "other", "tier": "gold"}}))
    assert build_claim(sts, claim_templates(sts)[0], 0)["metadata"]["labels"] == {"app": "web", "tier": "gold"}


def test_expressions_of_the_selector_become_no_labels() -> None:
    selector = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}
    sts = a_set(claim_template(), selector=selector)
    assert build_claim(sts, claim_templates(sts)[0], 0)["metadata"]["labels"] == {}


def test_one_parsed_template_serves_all_ordinals_and_is_not_changed() -> None:
    sts = a_set(claim_template(), policy=("Delete", "Retain"))
    (template,) = claim_templates(sts)
    before = orjson.dumps(dict(template.body))
    bodies = [build_claim(sts, template, n) for n in range(3)]
    assert [b["metadata"]["name"] for b in bodies] == ["data-web-0", "data-web-1", "data-web-2"]
    assert bodies[0]["spec"] is bodies[2]["spec"]
    assert orjson.dumps(dict(template.body)) == before


def test_without_templates_there_are_no_claims() -> None:
    assert claim_templates(a_set()) == ()
    assert claim_templates(a_set(volumeClaimTemplates=None)) == ()


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        ("data", "spec.volumeClaimTemplates: "),
        (["data"], "spec.volumeClaimTemplates[0]"),
        ([claim_template(size="10 GB")], "spec.volumeClaimTemplates[0].spec.resources.requests[storage]"),
        ([claim_template(accessModes="ReadWriteOnce")], "spec.volumeClaimTemplates[0].spec.accessModes"),
    ],
)
def test_g8_a_broken_template_is_an_error_that_names_the_field(broken: Any, where: str) -> None:
    with pytest.raises(ClaimTemplateError) as caught:
        claim_templates(a_set(volumeClaimTemplates=broken))
    assert where in str(caught.value)


def test_rule_17_every_optional_part_of_a_template_may_be_null() -> None:
    template = {"metadata": {"name": "data", "labels": None, "annotations": None}, "spec": None, "status": None}
    (parsed,) = claim_templates(a_set(template))
    assert parsed.request.is_zero()
    template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": None}, "accessModes": None}}
    assert claim_templates(a_set(template))[0].access_modes == ()


def test_a_claim_is_found_by_its_name() -> None:
    sts = a_set(claim_template("data"), claim_template("data-web"))
    data, more = claim_templates(sts)
    assert claim_slot((data, more), "web", "data-web-7") == (data, 7)
    assert claim_slot((data, more), "web", "data-web-web-7") == (more, 7)
    assert claim_slot((data, more), "web", "data-web-07") is None
    assert claim_slot((data, more), "web", "logs-web-7") is None
    assert claim_name(more, "web", 7) == "data-web-web-7"


# ---- owners ----------------------------------------------------------------------------------------------------------

WANTED = {
    # (whenDeleted, whenScaled, condemned): the table of 9.1
    ("Retain", "Retain", False): [],
    ("Retain", "Retain", True): [],
    ("Delete", "Retain", False): ["StatefulSet/set-uid"],
    ("Delete", "Retain", True): ["StatefulSet/set-uid"],
    ("Retain", "Delete", False): [],
    ("Retain", "Delete", True): ["Pod/uid-web-0"],
    ("Delete", "Delete", False): ["StatefulSet/set-uid"],
    ("Delete", "Delete", True): ["Pod/uid-web-0"],
}


@pytest.mark.parametrize("condemned", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("had", [(), (SET,), (POD,), (FOREIGN,), (FOREIGN, SET, POD)])
def test_s5_the_owners_become_those_of_the_policy_and_foreign_ones_stay(
    policy: tuple[str, str], condemned: bool, had: tuple[dict[str, Any], ...]
) -> None:
    sts, pod, claim = a_set(claim_template(), policy=policy), a_pod(), a_claim("data-web-0", "1Gi", "1Gi", *had)
    patch = retention_patch(sts, pod, claim, condemned)
    after = patched(claim, patch)
    foreign = ["Backup/b"] if FOREIGN in had else []
    assert owners(after) == sorted(foreign + WANTED[*policy, condemned])
    assert (patch is None) == (owners(after) == owners(claim))
    assert retention_patch(sts, pod, after, condemned) is None
    kept = [r for r in after.metadata.owner_references if r.kind == "Backup"]
    assert all(r.controller and r.block_owner_deletion for r in kept)
    ours = [r for r in after.metadata.owner_references if r.kind != "Backup"]
    assert not any(r.controller or r.block_owner_deletion for r in ours)


@pytest.mark.parametrize("policy", [None, ("", ""), ("Delete", ""), ("", "Delete"), ("Keep", "Delete")])
@pytest.mark.parametrize("condemned", [False, True])
def test_x12_a_missing_or_unknown_policy_keeps_the_claims(policy: tuple[str, str] | None, condemned: bool) -> None:
    sts, claim = a_set(claim_template(), policy=policy), a_claim("data-web-0", "1Gi", "1Gi", SET, POD, FOREIGN)
    assert owner_refs(sts, a_pod(), condemned=condemned) == ()
    assert owners(patched(claim, retention_patch(sts, a_pod(), claim, condemned))) == ["Backup/b"]


def test_x11_a_reserved_ordinal_is_condemned_whatever_replicas_says() -> None:
    sts = a_set(claim_template(), policy=("Retain", "Delete"), reserveOrdinals=[1])
    wanted = ordinal_range(sts.spec.replicas, 0, parse_reserved(sts.spec.reserve_ordinals))
    gone = {
        n: owners(patched(claim, retention_patch(sts, pod, claim, n not in wanted)))
        for n in range(5)
        for pod, claim in [(a_pod(f"web-{n}"), a_claim(f"data-web-{n}"))]
    }
    assert gone == {0: [], 1: ["Pod/uid-web-1"], 2: [], 3: [], 4: ["Pod/uid-web-4"]}


@pytest.mark.parametrize("policy", POLICIES)
def test_x42_a_claim_is_created_with_its_final_owners(policy: tuple[str, str]) -> None:
    sts = a_set(claim_template(), policy=policy)
    (template,) = claim_templates(sts)
    for condemned in (False, True):
        body = build_claim(sts, template, 0, condemned=condemned, pod=a_pod())
        made = msgspec.convert(body, Claim)
        assert owners(made) == WANTED[*policy, condemned]
        assert retention_patch(sts, a_pod(), made, condemned) is None
    assert "ownerReferences" not in build_claim(sts, template, 0, auto_delete=False)["metadata"]


def test_s5_a_pod_that_does_not_exist_owns_nothing() -> None:
    sts = a_set(claim_template(), policy=("Delete", "Delete"))
    assert owner_refs(sts, None, condemned=True) == ()


def test_s5_a_claim_is_taken_back_before_the_pod_is_gone() -> None:
    """Scaled away and wanted again while the pod terminates: the reference goes, so the claim outlives the pod."""
    sts = a_set(claim_template(), policy=("Delete", "Delete"))
    pod = a_pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    claim = a_claim("data-web-0", "1Gi", "1Gi", POD)
    taken = patched(claim, retention_patch(sts, pod, claim, condemned=False))
    assert owners(taken) == ["StatefulSet/set-uid"]
    assert not stale_for_pod(sts, taken, "web-0")


def test_s5_a_reference_to_a_pod_that_is_gone_goes_before_the_next_one_is_created() -> None:
    sts = a_set(claim_template(), policy=("Delete", "Retain"))
    claim = a_claim("data-web-0", "1Gi", "1Gi", POD, owner("Pod", "other", "o"), owner("Backup", "web-0", "b"))
    patch = retention_patch(sts, None, claim, condemned=False, pod_name="web-0")
    assert owners(patched(claim, patch)) == ["Backup/b", "Pod/o", "StatefulSet/set-uid"]


def test_a_claim_that_is_being_collected_is_left_to_it() -> None:
    sts = a_set(claim_template(), policy=("Retain", "Delete"))
    claim = a_claim("data-web-0", "1Gi", "1Gi", POD)
    assert stale_for_pod(sts, claim, "web-0")
    assert retention_patch(sts, None, claim, condemned=False, pod_name="web-0") is None


@pytest.mark.parametrize(
    ("policy", "ref", "stale"),
    [
        (("Retain", "Delete"), POD, True),
        (("Delete", "Delete"), POD, True),
        (("Delete", "Retain"), POD, False),
        (None, POD, False),
        (("Retain", "Delete"), owner("Pod", "web-1", "x"), False),
    ],
)
def test_a_claim_of_an_earlier_pod_is_stale_only_where_it_would_go_with_it(
    policy: tuple[str, str] | None, ref: dict[str, Any], stale: bool
) -> None:
    assert stale_for_pod(a_set(policy=policy), a_claim("data-web-0", "1Gi", "1Gi", ref), "web-0") is stale


def test_a_claim_of_the_living_pod_is_not_stale() -> None:
    sts = a_set(policy=("Retain", "Delete"))
    assert not stale_for_pod(sts, a_claim("data-web-0", "1Gi", "1Gi", POD), "web-0", "uid-web-0")


# ---- sizes -----------------------------------------------------------------------------------------------------------


def fit(template: dict[str, Any], claim: Claim) -> tuple[bool, bool, bool, bool]:
    (parsed,) = claim_templates(a_set(template))
    found = claim_fit(parsed, claim)
    assert found.needs_growth is (found.comparable and not found.compatible)
    return found.comparable, found.compatible, found.ready, found.completed


PENDING = {"conditions": [{"type": "FileSystemResizePending", "status": "True"}]}
NOT_PENDING = {"conditions": [{"type": "FileSystemResizePending", "status": "False"}]}


@pytest.mark.parametrize(
    ("template", "claim", "wanted"),
    [
        (claim_template(), a_claim(), (True, True, True, True)),
        (claim_template(size="10240Mi"), a_claim(size="10737418240"), (True, True, True, True)),
        (claim_template(size="20Gi"), a_claim(), (True, False, True, False)),
        (claim_template(size="5Gi"), a_claim(), (True, True, True, True)),
        (claim_template(), a_claim(capacity="5Gi"), (True, True, False, False)),
        (claim_template(), a_claim(capacity=None), (True, True, False, False)),
        (claim_template(), a_claim(capacity="5Gi", status=PENDING), (True, True, False, True)),
        (claim_template(), a_claim(capacity="5Gi", status=NOT_PENDING), (True, True, False, False)),
        (claim_template(size=None), a_claim(), (True, True, True, True)),
        (claim_template(storageClassName="a"), a_claim(spec={"storageClassName": "b"}), (False,) * 4),
        (claim_template(storageClassName="a"), a_claim(), (True, True, True, True)),
        (claim_template(), a_claim(spec={"storageClassName": "b"}), (True, True, True, True)),
        (claim_template(accessModes=["ReadWriteMany"]), a_claim(), (False,) * 4),
    ],
)
def test_9_2_predicates(template: dict[str, Any], claim: Claim, wanted: tuple[bool, ...]) -> None:
    assert fit(template, claim) == wanted


def test_9_2_the_order_of_access_modes_counts() -> None:
    one, two = ["ReadWriteOnce", "ReadOnlyMany"], ["ReadOnlyMany", "ReadWriteOnce"]
    assert not fit(claim_template(accessModes=one), a_claim(spec={"accessModes": two}))[0]


def test_9_3_a_claim_grows_to_the_resources_of_its_template() -> None:
    template = claim_template(size="20Gi")
    template["spec"]["resources"]["requests"]["iops"] = "5"
    sts = a_set(template)
    (parsed,) = claim_templates(sts)
    claim = a_claim(spec={"resources": {"requests": {"storage": "10Gi"}, "limits": {"storage": "99Gi"}}})
    patch = resize_patch(sts, parsed, claim)
    grown = patched(claim, patch)
    assert grown.metadata.annotations == {"apps.kruise.io/owned-by-asts": "web"}
    assert grown.spec.resources.requests == {"storage": "20Gi", "iops": "5"}
    assert grown.spec.resources.limits == {}
    assert resize_patch(sts, parsed, grown) is None


@pytest.mark.parametrize(
    ("template", "claim"),
    [
        (claim_template(size="5Gi"), a_claim()),
        (claim_template(), a_claim(capacity="1Gi")),
        (claim_template(size="20Gi", storageClassName="a"), a_claim(spec={"storageClassName": "b"})),
    ],
)
def test_9_3_a_claim_never_shrinks_and_nothing_but_its_size_changes(template: dict[str, Any], claim: Claim) -> None:
    sts = a_set(template)
    assert resize_patch(sts, claim_templates(sts)[0], claim) is None


@pytest.mark.parametrize(
    ("template", "claim", "problem"),
    [
        (claim_template(), a_claim(spec={"storageClassName": "gone"}), ""),
        (claim_template(size="20Gi"), a_claim(), ""),
        (claim_template(size="20Gi"), a_claim(spec={"storageClassName": "grows"}), ""),
        (claim_template(size="20Gi", storageClassName="grows"), a_claim(), ""),
        (
            claim_template(size="20Gi"),
            a_claim(spec={"storageClassName": "fixed"}),
            "storage class fixed for web-0 does not support volume expansion",
        ),
        (
            claim_template(size="20Gi"),
            a_claim(spec={"storageClassName": "silent"}),
            "storage class silent for web-0 does not support volume expansion",
        ),
        (
            claim_template(size="20Gi"),
            a_claim(spec={"storageClassName": "gone"}),
            "storage class gone for web-0 does not exist",
        ),
    ],
)
def test_9_3_what_keeps_a_claim_from_growing(template: dict[str, Any], claim: Claim, problem: str) -> None:
    classes = {c.metadata.name: c for c in (a_class("grows", grows=True), a_class("fixed", grows=False))}
    classes["silent"] = a_class("silent", grows=None)
    assert expansion_problem(claim_templates(a_set(template))[0], claim, classes, "web-0") == problem


def test_9_3_a_claim_of_another_class_says_what_to_do() -> None:
    template = claim_template(size="20Gi", storageClassName="a")
    claim = a_claim(spec={"storageClassName": "b"})
    text = expansion_problem(claim_templates(a_set(template))[0], claim, {}, "web-0")
    assert "data-web-0" in text
    assert "delete the claim and the pod" in text


# ---- the claims of one pod -------------------------------------------------------------------------------------------


def test_9_4_counts_and_judgement_of_the_claims_of_a_pod() -> None:
    names = ("a", "b", "c", "d", "e")
    sts = a_set(*(claim_template(name) for name in names))
    templates = claim_templates(sts)
    unreadable = Unreadable(metadata=a_claim("e-web-0").metadata, problem="x", path="$.spec")
    there: dict[str, Claim | Unreadable] = {
        "a-web-0": a_claim("a-web-0"),
        "b-web-0": a_claim("b-web-0", capacity="1Gi"),
        "c-web-0": a_claim("c-web-0", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        "e-web-0": unreadable,
    }
    found = pod_claims(templates, "web", 0, there.get)
    assert found.counts == ((1, 1), (1, 0), (0, 0), (0, 0), (0, 0))
    assert [c.metadata.name for c in found.terminating] == ["c-web-0"]
    assert not found.ready
    assert not found.matched
    del there["b-web-0"], there["e-web-0"]
    rest = pod_claims(templates, "web", 0, there.get)
    assert rest.matched
    assert rest.ready
    assert rest.completed
    status = claim_status(templates[:2], [(3, 2), (0, 0)])
    assert orjson.loads(msgspec.json.encode(status)) == [
        {"volumeClaimName": "a", "compatibleReplicas": 3, "compatibleReadyReplicas": 2},
        {"volumeClaimName": "b", "compatibleReplicas": 0, "compatibleReadyReplicas": 0},
    ]


def test_a_set_without_templates_asks_for_no_claim() -> None:
    def nobody(name: str) -> Claim | None:
        raise AssertionError(name)

    found = pod_claims((), "web", 0, nobody)
    assert found.counts == ()
    assert found.matched
